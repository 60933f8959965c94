//! Which kernels go through the rows of one axis, and what they touch row by row.

use std::collections::BTreeMap;

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{
    Access, Binary, Buffer, Contraction, Expr, Kernel, LoopKind, Memory, Program, Stage, Stmt, Var,
};
use crate::kernel::walk::each_stmt;

/// A kernel of the call each of whose outermost statements runs through all rows of an axis.
#[derive(Debug)]
pub(super) struct RowWise {
    pub rows: Size,
    /// The index of the row in each of the statements.
    pub indices: Vec<Var>,
    /// Rows of its contractions for each row of the axis, at least.
    pub dense_rows: Option<usize>,
    /// Numbers of the matrices that pass by.
    pub packed: usize,
    pub touched: BTreeMap<Id<Buffer>, Touch>,
}

/// How a kernel uses an array that outlives it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Touch {
    pub written: bool,
    /// At another row than its own, or not by rows.
    pub elsewhere: bool,
}

/// What is needed to take a kernel row by row. Of expressions all count, used or not.
pub(super) fn row_wise(program: &Program, kernel: &Kernel) -> Option<RowWise> {
    if kernel.stage != Stage::Call {
        return None;
    }
    let axes: Option<Vec<(Size, Var)>> = kernel.body.iter().map(|stmt| rows_of(program, kernel, stmt)).collect();
    let axes = axes?;
    let (rows, _) = *axes.first()?;
    if axes.iter().any(|(size, _)| *size != rows) {
        return None;
    }
    let indices = axes.into_iter().map(|(_, var)| var).collect();
    let mut res = RowWise { rows, indices, dense_rows: None, packed: 0, touched: BTreeMap::new() };
    for (_, expr) in kernel.exprs.iter() {
        if let Expr::Load(access) = expr {
            res.touch(program, kernel, access, false);
        }
    }
    each_stmt(&kernel.body, &mut |stmt| match stmt {
        Stmt::Store { to, .. } | Stmt::Accumulate { to, .. } => res.touch(program, kernel, to, true),
        Stmt::Contract(c) => res.contraction(program, kernel, c),
        Stmt::For { .. } | Stmt::Let { .. } | Stmt::Alloc { .. } | Stmt::If { .. } => (),
        // theirs are local
        Stmt::Multiply(_) | Stmt::Softmax(_) => (),
    });
    let dense = kernel.body.iter().filter_map(|stmt| match stmt {
        Stmt::Contract(c) => extent(program, kernel, c.m_extent).map(|(_, each)| each),
        _ => None,
    });
    res.dense_rows = dense.min();
    Some(res)
}

impl RowWise {
    fn touch(&mut self, program: &Program, kernel: &Kernel, access: &Access, written: bool) {
        if program.buffers[access.buffer].memory == Memory::Local {
            return;
        }
        let index = access.index.first().map(|i| &kernel.exprs[*i]);
        let own = matches!(index, Some(Expr::Var(var)) if self.indices.contains(var));
        let touch = self.touched.entry(access.buffer).or_default();
        touch.written |= written;
        touch.elsewhere |= !own;
    }

    fn contraction(&mut self, program: &Program, kernel: &Kernel, c: &Contraction) {
        self.touch(program, kernel, &c.a, false);
        self.touched.entry(c.packed).or_default().elsewhere = true;
        self.packed += c.packed_len();
    }
}

/// The axis a statement runs through, and the index of the row.
fn rows_of(program: &Program, kernel: &Kernel, stmt: &Stmt) -> Option<(Size, Var)> {
    match stmt {
        Stmt::For { var, begin, end, kind: LoopKind::Parallel, .. } if kernel.exprs[*begin] == Expr::Int(0) => {
            match extent(program, kernel, *end)? {
                (size, 1) => Some((size, *var)),
                _ => None,
            }
        }
        Stmt::Contract(c) => {
            let (size, each) = extent(program, kernel, c.m_extent)?;
            if each == 1 {
                return Some((size, c.m));
            }
            let row = c.row.iter().find(|(_, value)| quotient(kernel, *value, c.m) == Some(each));
            row.map(|(var, _)| (size, *var))
        }
        Stmt::For { .. }
        | Stmt::Store { .. }
        | Stmt::Accumulate { .. }
        | Stmt::Let { .. }
        | Stmt::Alloc { .. }
        | Stmt::If { .. }
        | Stmt::Softmax(_)
        | Stmt::Multiply(_) => None,
    }
}

/// A run-time size and what it is multiplied by.
pub(super) fn extent(program: &Program, kernel: &Kernel, id: Id<Expr>) -> Option<(Size, usize)> {
    match &kernel.exprs[id] {
        Expr::Size(size) => Some((*size, 1)),
        Expr::Load(access) => program.counted(access).map(|size| (size, 1)),
        Expr::Binary { f: Binary::Mul, x, y } => match (extent(program, kernel, *x), &kernel.exprs[*y]) {
            (Some((size, each)), Expr::Int(k)) => Some((size, each * usize::try_from(*k).ok()?)),
            _ => None,
        },
        _ => None,
    }
}

/// By what a variable is divided.
fn quotient(kernel: &Kernel, id: Id<Expr>, var: Var) -> Option<usize> {
    match &kernel.exprs[id] {
        Expr::Var(v) if *v == var => Some(1),
        Expr::Binary { f: Binary::Div, x, y } => match (quotient(kernel, *x, var), &kernel.exprs[*y]) {
            (Some(by), Expr::Int(k)) => Some(by * usize::try_from(*k).ok()?),
            _ => None,
        },
        _ => None,
    }
}
