//! The kernel that makes its tables as it goes: pieces of rows, through whose entries blocks of the tables move.

use std::collections::{BTreeMap, BTreeSet};

use super::find::Entries;
use super::{Group, Shape};
use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::build::Builder;
use crate::kernel::ir::{
    Access, Binary, Buffer, Comparison, Contraction, Expr, Kernel, LoopKind, Memory, Program, Stmt, Var,
};
use crate::kernel::walk::{map_expr, map_stmt};

/// Where a table is while it is used: these columns of a local array.
struct Local {
    buffer: Id<Buffer>,
    begin: usize,
}

/// The kernel number `k` with the tables of the groups made inside of it.
pub(super) fn fuse(program: &mut Program, k: usize, entries: &Entries, groups: &[Group], shape: &Shape) -> Kernel {
    let mut locals = BTreeMap::new();
    for group in groups {
        let width: usize = group.tables.iter().map(|t| t.contraction.n_extent).sum();
        let Buffer { name, dtype, .. } = program.buffers[group.tables[0].buffer].clone();
        let dims = [shape.block, width].map(Size::fixed).to_vec();
        let buffer = program.buffers.push(Buffer { name, dtype, shape: dims, memory: Memory::Local });
        let mut begin = 0;
        for table in &group.tables {
            locals.insert(table.buffer, Local { buffer, begin });
            begin += table.contraction.n_extent;
        }
    }
    let kernel = &program.kernels[k];
    let mut b = Builder::with_counts(program.counts.clone());
    b.variables(kernel.n_vars);
    let mut fusion = Fusion { program, kernel, entries, shape, locals, b, known: vec![None; kernel.exprs.len()] };
    let body = fusion.pieces(groups);
    fusion.b.finish(kernel.name.clone(), kernel.stage, body)
}

struct Fusion<'p> {
    program: &'p Program,
    kernel: &'p Kernel,
    entries: &'p Entries,
    shape: &'p Shape,
    locals: BTreeMap<Id<Buffer>, Local>,
    b: Builder,
    /// What the expressions of the kernel have become.
    known: Vec<Option<Id<Expr>>>,
}

/// The entries of a piece: the first, and the one after the last.
type Span = (Id<Expr>, Id<Expr>);

impl Fusion<'_> {
    /// All rows, some at a time.
    fn pieces(&mut self, groups: &[Group]) -> Vec<Stmt> {
        let [Stmt::For { var: row, body, .. }] = &self.kernel.body[..] else { panic!("entries: a loop over rows") };
        let piece = self.b.var();
        let rows = self.b.size(self.entries.rows);
        let [zero, less, all] = [0, self.shape.rows as i64 - 1, self.shape.rows as i64].map(|k| self.b.int(k));
        let rounded = self.b.add(rows, less);
        let count = self.b.binary(Binary::Div, rounded, all);
        let number = self.b.read(piece);
        let first = self.b.mul(number, all);
        let mut stmts = Vec::new();
        let first = self.bind(first, &mut stmts);
        let after = self.b.add(first, all);
        let after = self.b.binary(Binary::Min, after, rows);
        let after = self.bind(after, &mut stmts);
        let span = [first, after].map(|row| {
            let at = self.b.load(self.entries.begin, vec![row]);
            self.bind(at, &mut stmts)
        });
        // tables of a group share an array, and need not follow each other
        let arrays: BTreeSet<Id<Buffer>> = self.locals.values().map(|local| local.buffer).collect();
        stmts.extend(arrays.into_iter().map(|buffer| Stmt::Alloc { buffer }));
        let body = self.row(body, groups, (span[0], span[1]));
        stmts.push(Stmt::For { var: *row, begin: first, end: after, kind: LoopKind::Serial, body });
        vec![Stmt::For { var: piece, begin: zero, end: count, kind: LoopKind::Parallel, body: stmts }]
    }

    fn bind(&mut self, value: Id<Expr>, stmts: &mut Vec<Stmt>) -> Id<Expr> {
        let var = self.b.var();
        stmts.push(Stmt::Let { var, value });
        self.b.read(var)
    }

    /// What is done for a row: at the first entry of a block, the block is made.
    fn row(&mut self, body: &[Stmt], groups: &[Group], span: Span) -> Vec<Stmt> {
        let mut res = Vec::new();
        for (at, stmt) in body.iter().enumerate() {
            let Stmt::For { var, begin, end, body, .. } = stmt else {
                res.push(self.stmt(stmt, None));
                continue;
            };
            if at != self.entries.at {
                res.push(self.stmt(stmt, None));
                continue;
            }
            let entry = self.b.read(*var);
            let (begin, end) = (self.expr(*begin, None), self.expr(*end, None));
            let block = self.b.int(self.shape.block as i64);
            let passed = self.b.sub(entry, span.0);
            let slot = self.b.binary(Binary::Mod, passed, block);
            let zero = self.b.int(0);
            let cond = self.b.compare(Comparison::Eq, slot, zero);
            let mut stmts = Vec::new();
            let slot = self.bind(slot, &mut stmts);
            let left = self.b.sub(span.1, entry);
            let count = self.b.binary(Binary::Min, block, left);
            let then = groups.iter().map(|group| self.contraction(group, entry, count)).collect();
            stmts.push(Stmt::If { cond, then });
            stmts.extend(body.iter().map(|stmt| self.stmt(stmt, Some(slot))));
            res.push(Stmt::For { var: *var, begin, end, kind: LoopKind::Serial, body: stmts });
        }
        res
    }

    /// Makes the rows of a group's tables for `count` entries from one on.
    fn contraction(&mut self, group: &Group, from: Id<Expr>, count: Id<Expr>) -> Stmt {
        let c = &group.tables[0].contraction;
        let of = &self.program.kernels[group.tables[0].kernel];
        let [m, n, tap, k, acc] = [(); 5].map(|()| self.b.var());
        let slot = self.b.read(m);
        let mut place = self.b.add(from, slot);
        for table in &group.tables[0].path {
            place = self.b.load(*table, vec![place]);
        }
        let row = self.b.var();
        let names = [(c.m, row), (c.n, n), (c.tap, tap), (c.k, k), (c.acc, acc)];
        let mut copy = Copy { kernel: of, names, known: vec![None; of.exprs.len()] };
        let a = copy.access(&mut self.b, &c.a);
        let column = self.b.read(n);
        let [Stmt::Store { value, .. }] = c.epilogue[..] else { panic!("entries: a sum that is stored") };
        let value = copy.expr(&mut self.b, value);
        let buffer = self.locals[&group.tables[0].buffer].buffer;
        let epilogue = vec![Stmt::Store { to: Access { buffer, index: vec![slot, column] }, value }];
        let n_extent = group.tables.iter().map(|t| t.contraction.n_extent).sum();
        let packed = group.packed;
        let row = vec![(row, place)];
        Stmt::Contract(Box::new(Contraction {
            m,
            m_extent: count,
            row,
            n,
            n_extent,
            tap,
            k,
            a,
            packed,
            acc,
            epilogue,
            ..*c
        }))
    }

    fn stmt(&mut self, stmt: &Stmt, slot: Option<Id<Expr>>) -> Stmt {
        map_stmt(stmt.clone(), &mut |id| self.expr(id, slot), &mut |buffer| buffer)
    }

    /// An expression of the kernel; of tables, the slot is read.
    fn expr(&mut self, id: Id<Expr>, slot: Option<Id<Expr>>) -> Id<Expr> {
        if let Some(known) = self.known[id.index()] {
            return known;
        }
        let moved = match &self.kernel.exprs[id] {
            Expr::Load(access) if self.locals.contains_key(&access.buffer) => {
                let column = self.expr(access.index[1], slot);
                let Local { buffer, begin } = self.locals[&access.buffer];
                let begin = self.b.int(begin as i64);
                let column = self.b.add(begin, column);
                self.b.load(buffer, vec![slot.expect("entries: a table is read in the loop"), column])
            }
            other => {
                let moved = map_expr(&other.clone(), &mut |x| self.expr(x, slot), &mut |buffer| buffer);
                self.b.expr(moved)
            }
        };
        self.known[id.index()] = Some(moved);
        moved
    }
}

/// Expressions of a kernel under new names.
struct Copy<'k> {
    kernel: &'k Kernel,
    names: [(Var, Var); 5],
    known: Vec<Option<Id<Expr>>>,
}

impl Copy<'_> {
    fn expr(&mut self, b: &mut Builder, id: Id<Expr>) -> Id<Expr> {
        if let Some(known) = self.known[id.index()] {
            return known;
        }
        let moved = match &self.kernel.exprs[id] {
            Expr::Var(var) => {
                let name =
                    self.names.iter().find(|(old, _)| old == var).expect("entries: a variable of the contraction");
                Expr::Var(name.1)
            }
            other => map_expr(&other.clone(), &mut |x| self.expr(b, x), &mut |buffer| buffer),
        };
        let moved = b.expr(moved);
        self.known[id.index()] = Some(moved);
        moved
    }

    fn access(&mut self, b: &mut Builder, access: &Access) -> Access {
        Access { buffer: access.buffer, index: access.index.iter().map(|i| self.expr(b, *i)).collect() }
    }
}

/// Makes a kernel use a part of a matrix of panels, from the panel `begin` on, instead of one of its own.
pub(super) fn redirect(kernel: &mut Kernel, own: Id<Buffer>, whole: Id<Buffer>, begin: usize) {
    let mut b = Builder::default();
    b.variables(kernel.n_vars);
    let mut ids: Vec<Id<Expr>> = Vec::new();
    for (_, expr) in kernel.exprs.iter() {
        let moved = map_expr(expr, &mut |x| ids[x.index()], &mut |buffer| buffer);
        ids.push(b.expr(moved));
    }
    let body = std::mem::take(&mut kernel.body);
    let body = body.into_iter().map(|stmt| map_stmt(stmt, &mut |x| ids[x.index()], &mut |buffer| buffer));
    let body = body.map(|stmt| moved(&mut b, stmt, own, whole, begin)).collect();
    *kernel = b.finish(kernel.name.clone(), kernel.stage, body);
}

fn moved(b: &mut Builder, stmt: Stmt, own: Id<Buffer>, whole: Id<Buffer>, begin: usize) -> Stmt {
    let inside = |b: &mut Builder, body: Vec<Stmt>| -> Vec<Stmt> {
        body.into_iter().map(|stmt| moved(b, stmt, own, whole, begin)).collect()
    };
    match stmt {
        Stmt::For { var, begin, end, kind, body } => Stmt::For { var, begin, end, kind, body: inside(b, body) },
        Stmt::If { cond, then } => Stmt::If { cond, then: inside(b, then) },
        Stmt::Store { to, value } if to.buffer == own => {
            let mut index = to.index;
            let begin = b.int(begin as i64);
            index[0] = b.add(begin, index[0]);
            Stmt::Store { to: Access { buffer: whole, index }, value }
        }
        other @ (Stmt::Store { .. }
        | Stmt::Accumulate { .. }
        | Stmt::Let { .. }
        | Stmt::Alloc { .. }
        | Stmt::Contract(_)
        | Stmt::Softmax(_)
        | Stmt::Multiply(_)) => other,
    }
}
