//! Questions asked of a kernel before it is emitted: which expressions load, what a piece uses, what may run in lanes,
//! what a loop costs. Answers only steer; none changes what the code computes.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::kernel::ir::{
    Access, Binary, Buffer, Comparison, Contraction, Expr, Kernel, LoopKind, Memory, Program, Stmt, Var,
};

/// What is known about a kernel's expressions.
#[derive(Debug)]
pub(super) struct Facts {
    loads: Vec<bool>,
}

/// What a piece of a kernel reads from around it.
#[derive(Default)]
pub(super) struct Used {
    pub vars: BTreeSet<Var>,
    pub locals: BTreeSet<Id<Buffer>>,
}

/// A row of an array `[row, column]` that a turn of a loop reads: the one of its index, or the one to which tables lead from there.
#[derive(Debug)]
pub(super) struct Row {
    pub buffer: Id<Buffer>,
    /// The first is read at the index, each other one at what the one before says.
    pub tables: Vec<Id<Buffer>>,
    /// Numbers of a row, and the spans of columns that are read.
    pub width: usize,
    pub columns: Vec<(i64, i64)>,
}

/// The operands of an expression.
fn operands(expr: &Expr) -> Vec<Id<Expr>> {
    match expr {
        Expr::Float(_) | Expr::Int(_) | Expr::Size(_) | Expr::Var(_) => vec![],
        Expr::Load(access) => access.index.clone(),
        Expr::Unary { x, .. } | Expr::ToFloat { x } => vec![*x],
        Expr::Binary { x, y, .. } | Expr::Compare { x, y, .. } | Expr::And { x, y } => vec![*x, *y],
        Expr::Fma { a, b, c } => vec![*a, *b, *c],
        Expr::Select { cond, x, y } => vec![*cond, *x, *y],
    }
}

/// The expressions a statement names itself, those of statements inside left out, and the access it writes.
fn named(stmt: &Stmt) -> (Vec<Id<Expr>>, Option<&Access>) {
    match stmt {
        Stmt::For { begin, end, .. } => (vec![*begin, *end], None),
        Stmt::Store { to, value } | Stmt::Accumulate { to, value, .. } => {
            let mut all = to.index.clone();
            all.push(*value);
            (all, Some(to))
        }
        Stmt::Let { value, .. } => (vec![*value], None),
        Stmt::Alloc { .. } => (vec![], None),
        Stmt::Multiply(m) => (vec![m.thread, m.place], None),
        Stmt::Softmax(s) => (vec![s.rows, s.count], None),
        Stmt::If { cond, .. } => (vec![*cond], None),
        Stmt::Contract(c) => {
            let mut all = vec![c.m_extent];
            all.extend(c.row.iter().map(|(_, e)| *e));
            all.extend(&c.a.index);
            all.extend(c.guard);
            all.extend(c.part);
            (all, None)
        }
    }
}

/// The statements inside a statement.
fn inside(stmt: &Stmt) -> &[Stmt] {
    match stmt {
        Stmt::For { body, .. } => body,
        Stmt::If { then, .. } => then,
        Stmt::Contract(c) => &c.epilogue,
        Stmt::Store { .. } | Stmt::Accumulate { .. } | Stmt::Let { .. } | Stmt::Alloc { .. } => &[],
        Stmt::Softmax(_) | Stmt::Multiply(_) => &[],
    }
}

/// Every statement of a body, outer ones first.
fn walk<'s>(body: &'s [Stmt], visit: &mut dyn FnMut(&'s Stmt)) {
    for stmt in body {
        visit(stmt);
        walk(inside(stmt), visit);
    }
}

/// Every expression that the given ones are made of, themselves included, each once.
pub(super) fn closure(kernel: &Kernel, roots: impl IntoIterator<Item = Id<Expr>>) -> BTreeSet<Id<Expr>> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<Id<Expr>> = roots.into_iter().collect();
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            open.extend(operands(&kernel.exprs[id]));
        }
    }
    seen
}

/// Every expression of a body.
fn expressions(kernel: &Kernel, body: &[Stmt]) -> BTreeSet<Id<Expr>> {
    let mut roots = Vec::new();
    walk(body, &mut |stmt| roots.extend(named(stmt).0));
    closure(kernel, roots)
}

/// The first statements of a body, as long as they store numbers that are known already to adjacent places of one row: where, and what.
pub(super) fn adjacent_stores<'s>(kernel: &Kernel, body: &'s [Stmt]) -> Vec<(&'s Access, Id<Expr>)> {
    let mut res: Vec<(&Access, Id<Expr>)> = Vec::new();
    for stmt in body {
        let Stmt::Store { to, value } = stmt else { break };
        let known = matches!(kernel.exprs[*value], Expr::Var(_) | Expr::Float(_));
        let next = res.last().is_none_or(|(last, _)| is_next(kernel, last, to));
        if !known || !next {
            break;
        }
        res.push((to, *value));
    }
    res
}

/// Whether an access is to the number after another's, both at places of the last axis that are known, or known but for the same index.
fn is_next(kernel: &Kernel, last: &Access, to: &Access) -> bool {
    let (Some((x, rows)), Some((y, same))) = (last.index.split_last(), to.index.split_last()) else { return false };
    let (x, y) = (known_part(kernel, *x), known_part(kernel, *y));
    last.buffer == to.buffer && rows == same && x.0 == y.0 && x.1 + 1 == y.1
}

/// An index as one that is not known and a number.
fn known_part(kernel: &Kernel, index: Id<Expr>) -> (Option<Id<Expr>>, i64) {
    match kernel.exprs[index] {
        Expr::Int(k) => (None, k),
        Expr::Binary { f: Binary::Add, x, y } => match (&kernel.exprs[x], &kernel.exprs[y]) {
            (_, Expr::Int(k)) => (Some(x), *k),
            (Expr::Int(k), _) => (Some(y), *k),
            _ => (Some(index), 0),
        },
        _ => (Some(index), 0),
    }
}

impl Facts {
    pub(super) fn of(kernel: &Kernel) -> Facts {
        let mut loads: Vec<bool> = Vec::with_capacity(kernel.exprs.len());
        for (_, expr) in kernel.exprs.iter() {
            let below = operands(expr).into_iter().any(|x| loads[x.index()]);
            loads.push(below || matches!(expr, Expr::Load(_)));
        }
        Facts { loads }
    }

    /// Whether an expression reads memory.
    pub(super) fn loads(&self, id: Id<Expr>) -> bool {
        self.loads[id.index()]
    }

    /// What a body reads.
    pub(super) fn used(&self, kernel: &Kernel, body: &[Stmt]) -> Used {
        let mut used = Used::default();
        for id in expressions(kernel, body) {
            match &kernel.exprs[id] {
                Expr::Var(var) => drop(used.vars.insert(*var)),
                Expr::Load(access) => drop(used.locals.insert(access.buffer)),
                _ => {}
            }
        }
        walk(body, &mut |stmt| {
            used.locals.extend(named(stmt).1.map(|to| to.buffer));
            if let Stmt::Contract(c) = stmt {
                used.locals.extend([c.a.buffer, c.packed]);
            }
            if let Stmt::Softmax(s) = stmt {
                used.locals.extend(s.buffers());
            }
            if let Stmt::Multiply(m) = stmt {
                used.locals.extend([m.sums, m.a, m.b]);
            }
        });
        used
    }

    /// What the pieces of a contraction read.
    pub(super) fn used_by_contraction(&self, kernel: &Kernel, c: &Contraction) -> Used {
        let mut used = self.used(kernel, &c.epilogue);
        let mut roots = c.a.index.clone();
        roots.extend(c.row.iter().map(|(_, e)| *e));
        roots.extend(c.guard);
        for id in closure(kernel, roots) {
            match &kernel.exprs[id] {
                Expr::Var(var) => drop(used.vars.insert(*var)),
                Expr::Load(access) => drop(used.locals.insert(access.buffer)),
                _ => {}
            }
        }
        used.locals.insert(c.a.buffer);
        used
    }

    /// Whether every access of a local in a body has indices that are numbers once unrolled, all of them in one function.
    pub(super) fn only_known_indices(
        &self,
        kernel: &Kernel,
        body: &[Stmt],
        local: Id<Buffer>,
        known: impl Fn(Var) -> bool,
    ) -> bool {
        use crate::kernel::ir::LoopKind;
        let mut unrolled = BTreeSet::new();
        let mut fits = true;
        walk(body, &mut |stmt| match stmt {
            Stmt::For { var, kind: LoopKind::Unrolled, .. } => drop(unrolled.insert(*var)),
            Stmt::For { kind: LoopKind::Parallel | LoopKind::Blocks, body, .. } => {
                fits &= !self.used(kernel, body).locals.contains(&local);
            }
            Stmt::Contract(c) => fits &= !self.used_by_contraction(kernel, c).locals.contains(&local),
            Stmt::Softmax(s) => fits &= !s.buffers().contains(&local),
            _ => {}
        });
        let number = |id: Id<Expr>| {
            closure(kernel, [id]).into_iter().all(|e| match &kernel.exprs[e] {
                Expr::Int(_) => true,
                Expr::Var(var) => unrolled.contains(var) || known(*var),
                Expr::Size(size) => size.as_fixed().is_some(),
                Expr::Binary { .. } => true,
                _ => false,
            })
        };
        let mut accesses: Vec<&Access> = Vec::new();
        walk(body, &mut |stmt| accesses.extend(named(stmt).1));
        for id in expressions(kernel, body) {
            if let Expr::Load(access) = &kernel.exprs[id] {
                accesses.push(access);
            }
        }
        fits && accesses.iter().filter(|a| a.buffer == local).all(|a| a.index.iter().all(|i| number(*i)))
    }

    /// Whether a vector loop's body can run in lanes: nothing inside branches or loops by what differs between them.
    pub(super) fn runs_in_lanes(&self, kernel: &Kernel, var: Var, body: &[Stmt]) -> bool {
        let mut differs = vec![false; kernel.n_vars as usize];
        differs[var.0 as usize] = true;
        let mut own = BTreeSet::new();
        let mut fits = true;
        // Twice: a local may be written by lanes after it has been read.
        for _ in 0..2 {
            walk(body, &mut |stmt| match stmt {
                Stmt::Alloc { buffer } => drop(own.insert(*buffer)),
                Stmt::Let { var, value } => {
                    differs[var.0 as usize] = self.differs(kernel, *value, &differs, &own);
                }
                Stmt::If { cond, .. } => fits &= !self.differs(kernel, *cond, &differs, &own),
                Stmt::For { begin, end, .. } => {
                    fits &= !self.differs(kernel, *begin, &differs, &own);
                    fits &= !self.differs(kernel, *end, &differs, &own);
                }
                Stmt::Contract(_) | Stmt::Softmax(_) | Stmt::Multiply(_) => fits = false,
                Stmt::Store { .. } | Stmt::Accumulate { .. } => {}
            });
        }
        fits
    }

    fn differs(&self, kernel: &Kernel, id: Id<Expr>, differs: &[bool], own: &BTreeSet<Id<Buffer>>) -> bool {
        closure(kernel, [id]).into_iter().any(|e| match &kernel.exprs[e] {
            Expr::Var(var) => differs[var.0 as usize],
            Expr::Load(access) => own.contains(&access.buffer),
            _ => false,
        })
    }

    /// The rows that a turn of a loop reads: those of arrays outside the kernel whose columns are known but for indices of vector loops.
    pub(super) fn rows(&self, kernel: &Kernel, var: Var, body: &[Stmt], program: &Program) -> Vec<Row> {
        let mut tables: BTreeMap<Var, Vec<Id<Buffer>>> = BTreeMap::from([(var, vec![])]);
        let mut extents: BTreeMap<Var, i64> = BTreeMap::new();
        walk(body, &mut |stmt| match stmt {
            Stmt::Let { var: bound, value } => {
                if let Expr::Load(Access { buffer, index }) = &kernel.exprs[*value]
                    && let [at] = index[..]
                    && let Expr::Var(at) = kernel.exprs[at]
                    && let Some(before) = tables.get(&at)
                    && program.buffers[*buffer].dtype == Dtype::I32
                {
                    tables.insert(*bound, before.iter().copied().chain([*buffer]).collect());
                }
            }
            Stmt::For { var, begin, end, kind: LoopKind::Vector, .. } => {
                if let (Expr::Int(0), Expr::Int(end)) = (&kernel.exprs[*begin], &kernel.exprs[*end]) {
                    extents.insert(*var, *end);
                }
            }
            _ => {}
        });
        let mut res: Vec<Row> = Vec::new();
        for id in expressions(kernel, body) {
            let Expr::Load(Access { buffer, index }) = &kernel.exprs[id] else { continue };
            let Buffer { shape, memory, .. } = &program.buffers[*buffer];
            let ([_, width], [at, column]) = (&shape[..], &index[..]) else { continue };
            let outside = !matches!(memory, Memory::Constant(_) | Memory::Local);
            let (Some(width), Expr::Var(at)) = (width.as_fixed().filter(|_| outside), &kernel.exprs[*at]) else {
                continue;
            };
            let (Some(tables), Some(span)) = (tables.get(at), span(kernel, *column, &extents)) else { continue };
            match res.iter_mut().find(|row| (row.buffer, &row.tables) == (*buffer, tables)) {
                Some(row) => row.columns.push(span),
                None => res.push(Row { buffer: *buffer, tables: tables.clone(), width, columns: vec![span] }),
            }
        }
        res
    }

    /// About how many vectors a lane's body keeps at once: its locals, and something for its widest expression.
    pub(super) fn pressure(&self, kernel: &Kernel, body: &[Stmt], program: &Program) -> usize {
        let mut held = 0usize;
        walk(body, &mut |stmt| {
            if let Stmt::Alloc { buffer } = stmt {
                let count: usize = program.buffers[*buffer].shape.iter().filter_map(|s| s.as_fixed()).product();
                held = held.saturating_add(count);
            }
            if let Stmt::Let { .. } = stmt {
                held += 1;
            }
        });
        let n_exprs = expressions(kernel, body).len();
        held + n_exprs / 24 + 1
    }

    /// How many numbers of around it a lane's body reads: they are the same on all lanes.
    pub(super) fn numbers(&self, kernel: &Kernel, body: &[Stmt]) -> usize {
        let (mut own, mut open) = (BTreeSet::new(), Vec::new());
        walk(body, &mut |stmt| {
            if let Stmt::Let { var, .. } = stmt {
                own.insert(*var);
            }
            if let Stmt::Let { value, .. } | Stmt::Store { value, .. } | Stmt::Accumulate { value, .. } = stmt {
                open.push(*value);
            }
        });
        let (mut seen, mut read) = (BTreeSet::new(), BTreeSet::new());
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            match &kernel.exprs[id] {
                // what an index is made of is no number
                Expr::Load(_) | Expr::ToFloat { .. } => {}
                Expr::Var(var) => drop(read.insert(*var)),
                other => open.extend(operands(other)),
            }
        }
        read.difference(&own).count()
    }

    /// About how many nanoseconds one run of a body takes; loops of unknown length count as their hint, or as 16.
    pub(super) fn cost(&self, kernel: &Kernel, body: &[Stmt], program: &Program) -> i64 {
        let picoseconds = body.iter().map(|stmt| self.cost_of(kernel, stmt, program)).fold(0i64, i64::saturating_add);
        (picoseconds / 1000).max(1)
    }

    fn cost_of(&self, kernel: &Kernel, stmt: &Stmt, program: &Program) -> i64 {
        let work = |body: &[Stmt]| -> i64 {
            body.iter().map(|stmt| self.cost_of(kernel, stmt, program)).fold(0i64, i64::saturating_add)
        };
        match stmt {
            Stmt::For { begin, end, kind, body, .. } => {
                let n = match (value(kernel, *begin, program), value(kernel, *end, program), &kernel.exprs[*end]) {
                    (Some(b), Some(e), _) => (e - b).max(0),
                    (_, _, Expr::Binary { f: Binary::Add, x, y }) if x == begin => {
                        value(kernel, *y, program).unwrap_or(16)
                    }
                    _ => 16,
                };
                let each = if *kind == crate::kernel::ir::LoopKind::Vector { 4 } else { 1 };
                work(body).saturating_mul(n) / each
            }
            Stmt::If { cond, then } => work(then).saturating_div(once_in(kernel, *cond)).saturating_add(1000),
            Stmt::Contract(c) => {
                let m = value(kernel, c.m_extent, program).unwrap_or(16);
                let products = (c.taps * c.k_extent * c.n_extent) as i64;
                m.saturating_mul(products.saturating_mul(20).saturating_add(work(&c.epilogue)))
            }
            Stmt::Store { .. } | Stmt::Accumulate { .. } | Stmt::Let { .. } => {
                400 * closure(kernel, named(stmt).0).len() as i64
            }
            Stmt::Softmax(s) => {
                let columns = program.buffers[s.scores].shape[1].as_fixed().unwrap_or(1) as i64;
                value(kernel, s.rows, program).unwrap_or(16).saturating_mul(columns).saturating_mul(600)
            }
            // written out where it is counted
            Stmt::Alloc { .. } | Stmt::Multiply(_) => 0,
        }
    }
}

/// Of how many turns a condition holds in one: where an index is divisible by a number.
fn once_in(kernel: &Kernel, cond: Id<Expr>) -> i64 {
    let Expr::Compare { f: Comparison::Eq, x, .. } = kernel.exprs[cond] else { return 1 };
    match kernel.exprs[x] {
        Expr::Binary { f: Binary::Mod, y, .. } => match kernel.exprs[y] {
            Expr::Int(n) => n.max(1),
            _ => 1,
        },
        _ => 1,
    }
}

/// The numbers that an index may be, from the first up to the one after the last.
fn span(kernel: &Kernel, id: Id<Expr>, extents: &BTreeMap<Var, i64>) -> Option<(i64, i64)> {
    match &kernel.exprs[id] {
        Expr::Int(k) => Some((*k, k + 1)),
        Expr::Var(var) => extents.get(var).map(|n| (0, *n)),
        Expr::Binary { f: Binary::Add, x, y } => {
            let (x, y) = (span(kernel, *x, extents)?, span(kernel, *y, extents)?);
            Some((x.0 + y.0, x.1 + y.1 - 1))
        }
        _ => None,
    }
}

/// An extent, with the hint of a run-time size; of what is cut off at the last strip, that of the others.
fn value(kernel: &Kernel, id: Id<Expr>, program: &Program) -> Option<i64> {
    match &kernel.exprs[id] {
        Expr::Int(k) => Some(*k),
        Expr::Size(size) => Some(program.sizes.hint(*size) as i64),
        Expr::Binary { f: Binary::Min, x, y } => {
            value(kernel, *x, program).into_iter().chain(value(kernel, *y, program)).min()
        }
        Expr::Binary { f: Binary::Mul, x, y } => Some(value(kernel, *x, program)? * value(kernel, *y, program)?),
        Expr::Load(access) => program.counted(access).map(|size| program.sizes.hint(size) as i64),
        _ => None,
    }
}
