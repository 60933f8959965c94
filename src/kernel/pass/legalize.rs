//! After this pass no transcendental function is left, and no rounding to a number type of tensor cores: each is written out as
//! `scalar_functions` says. Nor is a product of warps: every thread does its share by itself.

use crate::base::arena::{Arena, Id};
use crate::base::dtype::Dtype;
use crate::kernel::build::Builder;
use crate::kernel::ir::{Access, Binary, Buffer, Expr, Kernel, LoopKind, Multiply, Program, Stmt, WARP};
use crate::kernel::scalar_functions::{expand, is_written_out};
use crate::kernel::walk::{each_stmt, map_expr, map_stmt};

/// Writes out the scalar functions and the products of warps of all kernels.
pub fn legalize(program: &mut Program) {
    let dtype = program.dtype;
    for kernel in &mut program.kernels {
        let mut any = kernel.exprs.iter().any(|(_, e)| matches!(e, Expr::Unary { f, .. } if is_written_out(*f)));
        each_stmt(&kernel.body, &mut |stmt| any |= matches!(stmt, Stmt::Multiply(_)));
        if any {
            legalize_kernel(kernel, dtype, &program.buffers);
        }
    }
}

fn legalize_kernel(kernel: &mut Kernel, dtype: Dtype, buffers: &Arena<Buffer>) {
    let mut b = Builder::counting(kernel.n_vars);
    let mut new: Vec<Id<Expr>> = Vec::new();
    for (_, expr) in kernel.exprs.iter() {
        let id = match expr {
            Expr::Unary { f, x } if is_written_out(*f) => expand(&mut b, dtype, *f, new[x.index()]),
            other => {
                let moved = map_expr(other, &mut |x| new[x.index()], &mut |buffer| buffer);
                b.expr(moved)
            }
        };
        new.push(id);
    }
    let body = std::mem::take(&mut kernel.body);
    let body = body.into_iter().map(|s| map_stmt(s, &mut |x| new[x.index()], &mut |buffer| buffer)).collect();
    let body = without_products(&mut b, buffers, body);
    let name = std::mem::take(&mut kernel.name);
    *kernel = b.finish(name, kernel.stage, body);
}

/// The statements with every product of warps as loops of each thread.
fn without_products(b: &mut Builder, buffers: &Arena<Buffer>, body: Vec<Stmt>) -> Vec<Stmt> {
    let one = |stmt| match stmt {
        Stmt::For { var, begin, end, kind, body } => {
            Stmt::For { var, begin, end, kind, body: without_products(b, buffers, body) }
        }
        Stmt::Multiply(m) => share(b, buffers, &m),
        Stmt::Store { .. }
        | Stmt::Accumulate { .. }
        | Stmt::Let { .. }
        | Stmt::Alloc { .. }
        | Stmt::If { .. }
        | Stmt::Softmax(_)
        | Stmt::Contract(_) => stmt,
    };
    body.into_iter().map(one).collect()
}

/// `for i, j, k { sums[t, i, j] = a[place, k, row] · b[place, k, column] + sums[t, i, j] }`, as [`Multiply`] says.
fn share(b: &mut Builder, buffers: &Arena<Buffer>, m: &Multiply) -> Stmt {
    let fixed = |id: Id<Buffer>, axis: usize| buffers[id].shape[axis].as_fixed().expect("legalize: a local") as i64;
    let extents = [fixed(m.sums, 1), fixed(m.sums, 2), fixed(m.a, 1)];
    let vars = extents.map(|_| b.var());
    let [i, j, k] = vars.map(|var| b.read(var));
    let by = |b: &mut Builder, f: Binary, x: Id<Expr>, k: i64| {
        let k = b.int(k);
        b.binary(f, x, k)
    };
    let (warp, lane) = (by(b, Binary::Div, m.thread, WARP as i64), by(b, Binary::Mod, m.thread, WARP as i64));
    // (w / across · I + i) · 8 + l / 4
    let down = by(b, Binary::Div, warp, m.across as i64);
    let down = by(b, Binary::Mul, down, extents[0]);
    let down = b.add(down, i);
    let (rows, near) = (by(b, Binary::Mul, down, 8), by(b, Binary::Div, lane, 4));
    let row = b.add(rows, near);
    // ((w mod across) · J / 2 + j / 2) · 8 + l mod 4 · 2 + j mod 2
    let aside = by(b, Binary::Mod, warp, m.across as i64);
    let (aside, pair) = (by(b, Binary::Mul, aside, extents[1] / 2), by(b, Binary::Div, j, 2));
    let aside = b.add(aside, pair);
    let (columns, near, odd) = (by(b, Binary::Mul, aside, 8), by(b, Binary::Mod, lane, 4), by(b, Binary::Mod, j, 2));
    let near = by(b, Binary::Mul, near, 2);
    let column = b.add(columns, near);
    let column = b.add(column, odd);
    let to = Access { buffer: m.sums, index: vec![m.thread, i, j] };
    let (x, y) = (b.load(m.a, vec![m.place, k, row]), b.load(m.b, vec![m.place, k, column]));
    let sum = b.expr(Expr::Load(to.clone()));
    let mut inside = Stmt::Store { to, value: b.expr(Expr::Fma { a: x, b: y, c: sum }) };
    for (var, extent) in vars.into_iter().zip(extents).rev() {
        let (begin, end) = (b.int(0), b.int(extent));
        inside = Stmt::For { var, begin, end, kind: LoopKind::Serial, body: vec![inside] };
    }
    inside
}
