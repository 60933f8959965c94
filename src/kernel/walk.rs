//! Walking over statements: which buffers a kernel reads and writes, and where its expressions are used.

use crate::base::arena::Id;
use crate::kernel::ir::{Access, Buffer, Contraction, Expr, Kernel, Memory, Multiply, Program, Softmax, Stmt};

/// Every statement of a body, outer ones before those inside.
pub fn each_stmt<'k>(body: &'k [Stmt], f: &mut impl FnMut(&'k Stmt)) {
    for stmt in body {
        f(stmt);
        match stmt {
            Stmt::For { body, .. } => each_stmt(body, f),
            Stmt::If { then, .. } => each_stmt(then, f),
            Stmt::Contract(c) => each_stmt(&c.epilogue, f),
            Stmt::Store { .. }
            | Stmt::Accumulate { .. }
            | Stmt::Let { .. }
            | Stmt::Alloc { .. }
            | Stmt::Softmax(_)
            | Stmt::Multiply(_) => (),
        }
    }
}

/// The buffers a kernel writes that outlive it, each once, in order of appearance.
pub fn writes(program: &Program, kernel: &Kernel) -> Vec<Id<Buffer>> {
    let mut res = Vec::new();
    each_stmt(&kernel.body, &mut |stmt| {
        if let Stmt::Store { to, .. } | Stmt::Accumulate { to, .. } = stmt
            && program.buffers[to.buffer].memory != Memory::Local
            && !res.contains(&to.buffer)
        {
            res.push(to.buffer);
        }
    });
    res
}

/// The buffers a kernel reads that outlive it, each once: those of its loads (all expressions of a kernel count,
/// used or not), of what it accumulates into, and packed matrices.
pub fn reads(program: &Program, kernel: &Kernel) -> Vec<Id<Buffer>> {
    let mut res: Vec<Id<Buffer>> = Vec::new();
    let mut add = |id: Id<Buffer>| {
        if program.buffers[id].memory != Memory::Local && !res.contains(&id) {
            res.push(id);
        }
    };
    for (_, expr) in kernel.exprs.iter() {
        if let Expr::Load(access) = expr {
            add(access.buffer);
        }
    }
    each_stmt(&kernel.body, &mut |stmt| match stmt {
        Stmt::Accumulate { to, .. } => add(to.buffer),
        Stmt::Contract(c) => [c.a.buffer, c.packed].into_iter().for_each(&mut add),
        Stmt::For { .. } | Stmt::Store { .. } | Stmt::Let { .. } | Stmt::Alloc { .. } | Stmt::If { .. } => (),
        // theirs are local
        Stmt::Multiply(_) | Stmt::Softmax(_) => (),
    });
    res
}

/// Every expression that a statement of the body names itself (not their operands).
pub fn uses(body: &[Stmt], f: &mut impl FnMut(Id<Expr>)) {
    each_stmt(body, &mut |stmt| match stmt {
        Stmt::For { begin, end, .. } => [*begin, *end].into_iter().for_each(&mut *f),
        Stmt::Store { to, value } | Stmt::Accumulate { to, value, .. } => {
            to.index.iter().chain([value]).for_each(|x| f(*x));
        }
        Stmt::Let { value, .. } => f(*value),
        Stmt::Alloc { .. } => (),
        Stmt::Multiply(m) => [m.thread, m.place].into_iter().for_each(&mut *f),
        Stmt::Softmax(s) => [s.rows, s.count].into_iter().for_each(&mut *f),
        Stmt::If { cond, .. } => f(*cond),
        Stmt::Contract(c) => {
            let row = c.row.iter().map(|(_, value)| *value);
            row.chain([c.m_extent]).chain(c.a.index.iter().copied()).chain(c.guard).chain(c.part).for_each(&mut *f);
        }
    });
}

/// An expression with its operands and buffers replaced.
pub fn map_expr(
    expr: &Expr,
    f: &mut impl FnMut(Id<Expr>) -> Id<Expr>,
    buffer: &mut impl FnMut(Id<Buffer>) -> Id<Buffer>,
) -> Expr {
    match expr {
        Expr::Float(_) | Expr::Int(_) | Expr::Size(_) | Expr::Var(_) => expr.clone(),
        Expr::Load(access) => Expr::Load(map_access(access.clone(), f, buffer)),
        Expr::Unary { f: op, x } => Expr::Unary { f: *op, x: f(*x) },
        Expr::Binary { f: op, x, y } => Expr::Binary { f: *op, x: f(*x), y: f(*y) },
        Expr::Fma { a, b, c } => Expr::Fma { a: f(*a), b: f(*b), c: f(*c) },
        Expr::Select { cond, x, y } => Expr::Select { cond: f(*cond), x: f(*x), y: f(*y) },
        Expr::Compare { f: op, x, y } => Expr::Compare { f: *op, x: f(*x), y: f(*y) },
        Expr::And { x, y } => Expr::And { x: f(*x), y: f(*y) },
        Expr::ToFloat { x } => Expr::ToFloat { x: f(*x) },
    }
}

/// A statement, and all inside it, with expressions and buffers replaced.
pub fn map_stmt(
    stmt: Stmt,
    f: &mut impl FnMut(Id<Expr>) -> Id<Expr>,
    buffer: &mut impl FnMut(Id<Buffer>) -> Id<Buffer>,
) -> Stmt {
    match stmt {
        Stmt::For { var, begin, end, kind, body } => {
            let (begin, end) = (f(begin), f(end));
            let body = body.into_iter().map(|stmt| map_stmt(stmt, f, buffer)).collect();
            Stmt::For { var, begin, end, kind, body }
        }
        Stmt::Store { to, value } => Stmt::Store { to: map_access(to, f, buffer), value: f(value) },
        Stmt::Accumulate { to, f: how, value } => {
            Stmt::Accumulate { to: map_access(to, f, buffer), f: how, value: f(value) }
        }
        Stmt::Let { var, value } => Stmt::Let { var, value: f(value) },
        Stmt::Alloc { buffer: local } => Stmt::Alloc { buffer: buffer(local) },
        Stmt::If { cond, then } => {
            let cond = f(cond);
            Stmt::If { cond, then: then.into_iter().map(|stmt| map_stmt(stmt, f, buffer)).collect() }
        }
        Stmt::Contract(c) => {
            let c = *c;
            let row = c.row.into_iter().map(|(var, value)| (var, f(value))).collect();
            let (m_extent, guard, part) = (f(c.m_extent), c.guard.map(&mut *f), c.part.map(&mut *f));
            let (a, packed) = (map_access(c.a, f, buffer), buffer(c.packed));
            let epilogue = c.epilogue.into_iter().map(|stmt| map_stmt(stmt, f, buffer)).collect();
            Stmt::Contract(Box::new(Contraction { row, m_extent, guard, a, packed, part, epilogue, ..c }))
        }
        Stmt::Softmax(s) => {
            let (rows, count) = (f(s.rows), f(s.count));
            let [scores, tops, totals, keeps] = s.buffers().map(buffer);
            Stmt::Softmax(Softmax { rows, count, scores, tops, totals, keeps })
        }
        Stmt::Multiply(m) => {
            let (thread, place) = (f(m.thread), f(m.place));
            Stmt::Multiply(Multiply { thread, place, a: buffer(m.a), b: buffer(m.b), sums: buffer(m.sums), ..m })
        }
    }
}

/// An access with its parts replaced.
fn map_access(
    access: Access,
    expr: &mut impl FnMut(Id<Expr>) -> Id<Expr>,
    buffer: &mut impl FnMut(Id<Buffer>) -> Id<Buffer>,
) -> Access {
    Access { buffer: buffer(access.buffer), index: access.index.into_iter().map(expr).collect() }
}
