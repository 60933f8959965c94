//! Drops what nothing uses: expressions that no statement reads, kernels whose results nobody reads, buffers without a kernel.
//! Arguments keep their buffers.

use std::collections::BTreeSet;

use crate::base::arena::{Arena, Id};
use crate::kernel::ir::{Buffer, Expr, Kernel, Memory, Program, Stmt};
use crate::kernel::walk::{map_expr, map_stmt, reads, uses, writes};

/// The program without what nothing uses.
pub fn compact(program: &mut Program) {
    program.kernels.iter_mut().for_each(drop_exprs);
    drop_kernels(program);
    drop_buffers(program);
}

/// Drops the expressions that no statement uses.
pub fn drop_exprs(kernel: &mut Kernel) {
    let mut used = vec![false; kernel.exprs.len()];
    uses(&kernel.body, &mut |id: Id<Expr>| used[id.index()] = true);
    for (id, expr) in kernel.exprs.iter().rev() {
        if used[id.index()] {
            crate::kernel::verify::operands(expr).iter().for_each(|x| used[x.index()] = true);
        }
    }
    let mut exprs: Arena<Expr> = Arena::new();
    let mut new: Vec<Option<Id<Expr>>> = vec![None; used.len()];
    for (id, expr) in kernel.exprs.iter().filter(|(id, _)| used[id.index()]) {
        let moved = map_expr(expr, &mut |x| new[x.index()].expect("compact: operands come first"), &mut |b| b);
        new[id.index()] = Some(exprs.push(moved));
    }
    kernel.exprs = exprs;
    let body = std::mem::take(&mut kernel.body);
    let moved = |x: Id<Expr>| new[x.index()].expect("compact: it is used");
    kernel.body = body.into_iter().map(|stmt| map_stmt(stmt, &mut { moved }, &mut |b| b)).collect();
}

/// From the last kernel to the first: one whose results are all unread goes.
fn drop_kernels(program: &mut Program) {
    let mut needed: BTreeSet<Id<Buffer>> = program.outputs.iter().map(|o| o.buffer).collect();
    let mut keep = vec![false; program.kernels.len()];
    for (k, kernel) in program.kernels.iter().enumerate().rev() {
        if writes(program, kernel).iter().any(|b| needed.contains(b)) {
            keep[k] = true;
            needed.extend(reads(program, kernel));
        }
    }
    let mut keep = keep.into_iter();
    program.kernels.retain(|_| keep.next().expect("a flag for each kernel"));
}

fn drop_buffers(program: &mut Program) {
    let mut used: BTreeSet<Id<Buffer>> = BTreeSet::new();
    for kernel in &program.kernels {
        used.extend(writes(program, kernel));
        used.extend(reads(program, kernel));
        crate::kernel::walk::each_stmt(&kernel.body, &mut |stmt| {
            if let Stmt::Alloc { buffer } = stmt {
                used.insert(*buffer);
            }
        });
    }
    let mut buffers = Arena::new();
    let mut new: Vec<Option<Id<Buffer>>> = vec![None; program.buffers.len()];
    for (id, buffer) in program.buffers.iter() {
        let is_argument = matches!(buffer.memory, Memory::Input(_) | Memory::Weight(_) | Memory::Output(_));
        if is_argument || used.contains(&id) {
            new[id.index()] = Some(buffers.push(buffer.clone()));
        }
    }
    program.buffers = buffers;
    let moved = |b: Id<Buffer>| new[b.index()].expect("compact: it is used");
    let arguments = [&mut program.inputs, &mut program.weights, &mut program.outputs];
    arguments.into_iter().flatten().for_each(|a| a.buffer = moved(a.buffer));
    program.counts.retain(|count| new[count.buffer.index()].is_some());
    program.counts.iter_mut().for_each(|count| count.buffer = moved(count.buffer));
    for kernel in &mut program.kernels {
        let mut exprs = Arena::new();
        for (_, expr) in kernel.exprs.iter() {
            exprs.push(map_expr(expr, &mut |x| x, &mut { moved }));
        }
        kernel.exprs = exprs;
        let body = std::mem::take(&mut kernel.body);
        kernel.body = body.into_iter().map(|stmt| map_stmt(stmt, &mut |x| x, &mut { moved })).collect();
    }
}
