//! After this pass no transcendental function is left: each is written out as `scalar_functions` says.

use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::kernel::build::Builder;
use crate::kernel::ir::{Expr, Kernel, Program};
use crate::kernel::scalar_functions::{expand, is_transcendental};
use crate::kernel::walk::{map_expr, map_stmt};

/// Writes out the scalar functions of all kernels.
pub fn legalize(program: &mut Program) {
    let dtype = program.dtype;
    for kernel in &mut program.kernels {
        let any = kernel.exprs.iter().any(|(_, e)| matches!(e, Expr::Unary { f, .. } if is_transcendental(*f)));
        if any {
            legalize_kernel(kernel, dtype);
        }
    }
}

fn legalize_kernel(kernel: &mut Kernel, dtype: Dtype) {
    let mut b = Builder::counting(kernel.n_vars);
    let mut new: Vec<Id<Expr>> = Vec::new();
    for (_, expr) in kernel.exprs.iter() {
        let id = match expr {
            Expr::Unary { f, x } if is_transcendental(*f) => expand(&mut b, dtype, *f, new[x.index()]),
            other => {
                let moved = map_expr(other, &mut |x| new[x.index()], &mut |buffer| buffer);
                b.expr(moved)
            }
        };
        new.push(id);
    }
    let body = std::mem::take(&mut kernel.body);
    let body = body.into_iter().map(|s| map_stmt(s, &mut |x| new[x.index()], &mut |buffer| buffer)).collect();
    let name = std::mem::take(&mut kernel.name);
    *kernel = b.finish(name, kernel.stage, body);
}
