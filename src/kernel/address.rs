//! The row-major place of an access, without the divisions that it undoes: an axis that was cut into `i / d` and `i mod d` is walked as one.

use crate::base::arena::{Arena, Id};
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
        let whole = res.last().and_then(|outer| {
            let (whole, by) = cut(&kernel.exprs, outer.index, *index)?;
            is_long(&kernel.exprs[by], *dim).then_some(whole)
        });
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

/// `i` and `d` where two indices are `i / d` and `i mod d`.
pub(super) fn cut(exprs: &Arena<Expr>, outer: Id<Expr>, inner: Id<Expr>) -> Option<(Id<Expr>, Id<Expr>)> {
    let Expr::Binary { f: Binary::Div, x: i, y: d } = exprs[outer] else { return None };
    let Expr::Binary { f: Binary::Mod, x: same, y: modulus } = exprs[inner] else { return None };
    (d == modulus && i == same).then_some((i, d))
}

/// Whether an expression is the length of an axis.
fn is_long(expr: &Expr, dim: Size) -> bool {
    match expr {
        Expr::Int(n) => dim.as_fixed() == usize::try_from(*n).ok(),
        Expr::Size(size) => *size == dim,
        _ => false,
    }
}
