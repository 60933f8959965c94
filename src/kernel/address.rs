//! The row-major place of an access, without the divisions that it undoes: an axis that was cut into `i / d` and `i mod d` is walked as one.

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{Access, Binary, Expr, Kernel, Program};

/// Axes of an array that are walked as one, and the index along them.
#[derive(Clone, Debug, PartialEq)]
pub struct Walk {
    pub dims: Vec<Size>,
    pub index: Id<Expr>,
}

/// The axes of an access from the `first`-th on, outer ones first: the place is `p` after `p = p · Π dims + index` for each, from 0.
pub fn walks(program: &Program, kernel: &Kernel, access: &Access, first: usize) -> Vec<Walk> {
    let mut res: Vec<Walk> = Vec::new();
    for (index, dim) in access.index.iter().zip(&program.buffers[access.buffer].shape).skip(first) {
        let whole = res.last().and_then(|outer| rejoined(kernel, outer.index, *index, *dim));
        match (whole, res.last_mut()) {
            (Some(whole), Some(outer)) => {
                outer.dims.push(*dim);
                outer.index = whole;
            }
            _ => res.push(Walk { dims: vec![*dim], index: *index }),
        }
    }
    res
}

/// `i` where the indices of two axes are `i / d` and `i mod d`, and the inner axis is `d` long.
fn rejoined(kernel: &Kernel, outer: Id<Expr>, inner: Id<Expr>, dim: Size) -> Option<Id<Expr>> {
    let Expr::Binary { f: Binary::Div, x: i, y: by } = kernel.exprs[outer] else { return None };
    let Expr::Binary { f: Binary::Mod, x: same, y: modulus } = kernel.exprs[inner] else { return None };
    let long = match kernel.exprs[by] {
        Expr::Int(n) => dim.as_fixed() == usize::try_from(n).ok(),
        Expr::Size(size) => size == dim,
        _ => false,
    };
    (long && by == modulus && i == same).then_some(i)
}
