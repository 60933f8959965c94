//! Where a contraction's sums go: that memory is asked for while they are computed; and those that are stored as they are go there
//! without a tile between.

use std::collections::BTreeSet;

use crate::base::arena::Id;
use crate::codegen::scan::closure;
use crate::kernel::address::walks;
use crate::kernel::ir::{Access, Binary, Contraction, Expr, Kernel, Program, Stmt, Var};

/// Where such sums go: those of a row side by side.
pub(super) struct Destination {
    /// The place of sum `(m, n)`.
    pub(super) to: Access,
    /// Those values of the row that it reads; none of them loads what only a row has.
    pub(super) values: Vec<(Var, Id<Expr>)>,
    /// Numbers from one row's place to the next's.
    pub(super) row: i64,
    /// Whether the sums are stored as they are.
    pub(super) unchanged: bool,
}

impl Destination {
    /// Whether there is nothing else to do with the sums: they are stored as they are, and no panel is cut off.
    pub(super) fn takes_all(&self, c: &Contraction) -> bool {
        self.unchanged && c.n_extent % c.panel == 0
    }
}

/// Where all sums go, if the epilogue stores one number for each, each row beside the last one's at a known distance.
pub(super) fn destination(program: &Program, kernel: &Kernel, c: &Contraction) -> Option<Destination> {
    let [Stmt::Store { to, value }] = &c.epilogue[..] else { return None };
    // an axis that was cut into values of the row is one again
    let whole = |index: &Id<Expr>| match kernel.exprs[*index] {
        Expr::Var(var) => value_of_row(c, var).unwrap_or(*index),
        _ => *index,
    };
    let index = to.index.iter().map(whole).collect();
    let to = Access { buffer: to.buffer, index };
    let is_real = program.buffers[to.buffer].dtype == program.dtype;
    let step = |var| step(program, kernel, c, &to, var);
    let (along_row, row) = (step(c.n)?, step(c.m)?);
    let unchanged = kernel.exprs[*value] == Expr::Var(c.acc);
    let values = values_of_row(kernel, c, &to);
    (is_real && along_row == 1).then_some(Destination { to, values, row, unchanged })
}

/// What a variable of the row stands for.
fn value_of_row(c: &Contraction, var: Var) -> Option<Id<Expr>> {
    c.row.iter().find(|(of_row, _)| *of_row == var).map(|(_, value)| *value)
}

/// The values of the row that an access reads.
fn values_of_row(kernel: &Kernel, c: &Contraction, to: &Access) -> Vec<(Var, Id<Expr>)> {
    let mut read: BTreeSet<Id<Expr>> = closure(kernel, to.index.iter().copied());
    let mut res = Vec::new();
    for (var, value) in c.row.iter().rev() {
        if read.iter().any(|id| kernel.exprs[*id] == Expr::Var(*var)) {
            read.extend(closure(kernel, [*value]));
            res.insert(0, (*var, *value));
        }
    }
    res
}

/// How far an access moves when an index of the contraction is one more, if that is the same everywhere.
fn step(program: &Program, kernel: &Kernel, c: &Contraction, to: &Access, var: Var) -> Option<i64> {
    let mut res = 0;
    for walk in walks(program, kernel, to, 0) {
        let along = slope(kernel, c, walk.index, var)?;
        res = match walk.dims.iter().try_fold(1, |n, dim| Some(n * dim.as_fixed()? as i64)) {
            Some(numbers) => res * numbers + along,
            None if res == 0 => along,
            None => return None,
        };
    }
    Some(res)
}

/// The slope of an index in a variable. Of what is loaded only sizes are known to be there where there is no row.
fn slope(kernel: &Kernel, c: &Contraction, index: Id<Expr>, var: Var) -> Option<i64> {
    let of = |x: &Id<Expr>| slope(kernel, c, *x, var);
    match &kernel.exprs[index] {
        Expr::Int(_) | Expr::Size(_) => Some(0),
        Expr::Load(access) if access.index.is_empty() => Some(0),
        Expr::Var(v) if *v == var => Some(1),
        Expr::Var(v) => value_of_row(c, *v).map_or(Some(0), |value| of(&value)),
        Expr::Binary { f: Binary::Add, x, y } => Some(of(x)? + of(y)?),
        Expr::Binary { f: Binary::Sub, x, y } => Some(of(x)? - of(y)?),
        Expr::Binary { f, x, y } => match (f, of(x)?, of(y)?, &kernel.exprs[*x], &kernel.exprs[*y]) {
            (_, 0, 0, _, _) => Some(0),
            (Binary::Mul, slope, _, _, Expr::Int(by)) | (Binary::Mul, _, slope, Expr::Int(by), _) => Some(slope * by),
            _ => None,
        },
        Expr::Float(_) | Expr::Load(_) | Expr::Unary { .. } | Expr::Fma { .. } | Expr::ToFloat { .. } => None,
        Expr::Select { .. } | Expr::Compare { .. } | Expr::And { .. } => None,
    }
}
