//! Walking over statements: which buffers a kernel reads and writes, and where its expressions are used.

use crate::base::arena::Id;
use crate::kernel::ir::{Buffer, Expr, Kernel, Memory, Program, Stmt};

/// Every statement of a body, outer ones before those inside.
pub fn each_stmt<'k>(body: &'k [Stmt], f: &mut impl FnMut(&'k Stmt)) {
    for stmt in body {
        f(stmt);
        match stmt {
            Stmt::For { body, .. } => each_stmt(body, f),
            Stmt::If { then, .. } => each_stmt(then, f),
            Stmt::Contract(c) => each_stmt(&c.epilogue, f),
            Stmt::Store { .. } | Stmt::Accumulate { .. } | Stmt::Let { .. } | Stmt::Alloc { .. } => (),
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
    });
    res
}
