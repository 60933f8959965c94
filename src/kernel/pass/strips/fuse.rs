//! One kernel of several: a loop over strips, in it each kernel's own statements for the rows of the strip.

use std::collections::{BTreeMap, BTreeSet};

use super::row_wise::{RowWise, extent};
use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::build::Builder;
use crate::kernel::ir::{
    Access, Binary, Buffer, Contraction, Expr, Kernel, LoopKind, Memory, Multiply, Program, Softmax, Stage, Stmt, Var,
};
use crate::kernel::walk::map_expr;

/// The kernel that does the members' work for `length` rows at a time; `inner` arrays become local to a strip.
pub(super) fn fuse(
    program: &mut Program,
    members: &[(&Kernel, &RowWise)],
    inner: &BTreeSet<Id<Buffer>>,
    length: usize,
) -> Kernel {
    let mut locals = BTreeMap::new();
    for id in inner {
        let Buffer { name, dtype, mut shape, .. } = program.buffers[*id].clone();
        shape[0] = Size::fixed(length);
        locals.insert(*id, program.buffers.push(Buffer { name, dtype, shape, memory: Memory::Local }));
    }
    let mut b = Builder::with_counts(program.counts.clone());
    let [strip, begin] = [(); 2].map(|()| b.var());
    let rows = b.size(members[0].1.rows);
    let [one, all] = [1, length as i64].map(|k| b.int(k));
    let last = b.binary(Binary::Sub, all, one);
    let rounded = b.add(rows, last);
    let (zero, strips) = (b.int(0), b.binary(Binary::Div, rounded, all));
    let number = b.read(strip);
    let first = b.mul(number, all);
    let mut body = vec![Stmt::Let { var: begin, value: first }];
    let begin = b.read(begin);
    let left = b.sub(rows, begin);
    let count = b.binary(Binary::Min, left, all);
    body.extend(locals.values().map(|buffer| Stmt::Alloc { buffer: *buffer }));
    for (kernel, rows) in members {
        let known = vec![None; kernel.exprs.len()];
        let (after, places) = (b.variables(kernel.n_vars), BTreeMap::new());
        let mut member =
            Member { program, b: &mut b, kernel, rows, after, begin, count, locals: &locals, places, known };
        for stmt in &kernel.body {
            body.push(member.pass(stmt));
        }
    }
    let body = vec![Stmt::For { var: strip, begin: zero, end: strips, kind: LoopKind::Parallel, body }];
    let words = |k: &Kernel| k.name.rsplit(' ').next().unwrap_or_default().to_string();
    let name = format!("strips {} to {}", words(members[0].0), words(members[members.len() - 1].0));
    b.finish(name, Stage::Call, body)
}

/// A kernel on its way into another.
struct Member<'m> {
    program: &'m Program,
    b: &'m mut Builder,
    kernel: &'m Kernel,
    rows: &'m RowWise,
    /// Its variables come after so many.
    after: u32,
    begin: Id<Expr>,
    count: Id<Expr>,
    locals: &'m BTreeMap<Id<Buffer>, Id<Buffer>>,
    /// The row within the strip, for the index of a row.
    places: BTreeMap<Var, Id<Expr>>,
    known: Vec<Option<Id<Expr>>>,
}

impl Member<'_> {
    fn var(&self, var: Var) -> Var {
        Var(var.0 + self.after)
    }

    /// An outermost statement, for the rows of a strip.
    fn pass(&mut self, stmt: &Stmt) -> Stmt {
        match stmt {
            Stmt::For { var, body, .. } => {
                let row = self.b.read(self.var(*var));
                let place = self.b.sub(row, self.begin);
                self.places.insert(*var, place);
                let end = self.b.add(self.begin, self.count);
                let body = body.iter().map(|stmt| self.stmt(stmt)).collect();
                Stmt::For { var: self.var(*var), begin: self.begin, end, kind: LoopKind::Serial, body }
            }
            Stmt::Contract(c) => Stmt::Contract(Box::new(self.contraction(c))),
            Stmt::Store { .. }
            | Stmt::Accumulate { .. }
            | Stmt::Let { .. }
            | Stmt::Alloc { .. }
            | Stmt::If { .. }
            | Stmt::Softmax(_)
            | Stmt::Multiply(_) => panic!("strips: a kernel of rows"),
        }
    }

    /// A contraction over the rows of a strip: what was its row counts from the first of the strip on.
    fn contraction(&mut self, c: &Contraction) -> Contraction {
        let (_, each) = extent(self.program, self.kernel, c.m_extent).expect("strips: a contraction of rows");
        let each = self.b.int(each as i64);
        let m = self.b.var();
        let within = self.b.read(m);
        let before = self.b.mul(self.begin, each);
        let whole = self.b.add(before, within);
        let mut row = vec![(self.var(c.m), whole)];
        let place = self.b.binary(Binary::Div, within, each);
        let place = if matches!(self.b.get(place), Expr::Var(_)) {
            place
        } else {
            let var = self.b.var();
            row.push((var, place));
            self.b.read(var)
        };
        for index in &self.rows.indices {
            if *index == c.m || c.row.iter().any(|(var, _)| var == index) {
                self.places.insert(*index, place);
            }
        }
        let m_extent = self.b.mul(self.count, each);
        self.moved(c, m, m_extent, row)
    }

    /// A contraction whose own row has become one of `row`.
    fn moved(&mut self, c: &Contraction, m: Var, m_extent: Id<Expr>, mut row: Vec<(Var, Id<Expr>)>) -> Contraction {
        for (var, value) in &c.row {
            let value = self.expr(*value);
            row.push((self.var(*var), value));
        }
        Contraction {
            m,
            m_extent,
            row,
            n: self.var(c.n),
            tap: self.var(c.tap),
            k: self.var(c.k),
            a: self.access(&c.a),
            guard: c.guard.map(|id| self.expr(id)),
            part: c.part.map(|id| self.expr(id)),
            // runs may begin elsewhere in a strip
            beside: 1,
            acc: self.var(c.acc),
            epilogue: c.epilogue.iter().map(|stmt| self.stmt(stmt)).collect(),
            ..*c
        }
    }

    fn stmt(&mut self, stmt: &Stmt) -> Stmt {
        match stmt {
            Stmt::For { var, begin, end, kind, body } => {
                let (begin, end) = (self.expr(*begin), self.expr(*end));
                let body = body.iter().map(|stmt| self.stmt(stmt)).collect();
                Stmt::For { var: self.var(*var), begin, end, kind: *kind, body }
            }
            Stmt::Store { to, value } => Stmt::Store { to: self.access(to), value: self.expr(*value) },
            Stmt::Accumulate { to, f, value } => {
                Stmt::Accumulate { to: self.access(to), f: *f, value: self.expr(*value) }
            }
            Stmt::Let { var, value } => Stmt::Let { var: self.var(*var), value: self.expr(*value) },
            Stmt::Alloc { buffer } => Stmt::Alloc { buffer: *buffer },
            Stmt::If { cond, then } => {
                Stmt::If { cond: self.expr(*cond), then: then.iter().map(|stmt| self.stmt(stmt)).collect() }
            }
            Stmt::Contract(c) => {
                let m_extent = self.expr(c.m_extent);
                Stmt::Contract(Box::new(self.moved(c, self.var(c.m), m_extent, vec![])))
            }
            Stmt::Softmax(s) => Stmt::Softmax(Softmax { rows: self.expr(s.rows), count: self.expr(s.count), ..*s }),
            Stmt::Multiply(m) => {
                Stmt::Multiply(Multiply { thread: self.expr(m.thread), place: self.expr(m.place), ..*m })
            }
        }
    }

    fn access(&mut self, access: &Access) -> Access {
        let mut index: Vec<Id<Expr>> = access.index.iter().map(|i| self.expr(*i)).collect();
        let Some(local) = self.locals.get(&access.buffer) else { return Access { buffer: access.buffer, index } };
        let Expr::Var(row) = self.kernel.exprs[access.index[0]] else { panic!("strips: an array by rows") };
        index[0] = self.places[&row];
        Access { buffer: *local, index }
    }

    fn expr(&mut self, id: Id<Expr>) -> Id<Expr> {
        if let Some(known) = self.known[id.index()] {
            return known;
        }
        let moved = match &self.kernel.exprs[id] {
            Expr::Var(var) => Expr::Var(self.var(*var)),
            Expr::Load(access) => Expr::Load(self.access(&access.clone())),
            other => map_expr(&other.clone(), &mut |x| self.expr(x), &mut |buffer| buffer),
        };
        let moved = self.b.expr(moved);
        self.known[id.index()] = Some(moved);
        moved
    }
}
