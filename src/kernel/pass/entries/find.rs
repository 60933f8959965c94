//! Which kernels sum along rows of entries, and which tables they read that a contraction makes.

use std::collections::BTreeMap;

use super::written;
use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{
    Access, Binary, Buffer, Contraction, Expr, Kernel, LoopKind, Memory, Program, Stage, Stmt, Var,
};
use crate::kernel::walk::{each_stmt, reads, writes};

/// A kernel that goes through rows, and through the entries of each: `for row { .. for entry in begin[row]..begin[row + 1] { .. } .. }`.
#[derive(Debug)]
pub(super) struct Entries {
    pub rows: Size,
    /// Where each row begins, and at last where all end.
    pub begin: Id<Buffer>,
    pub entry: Var,
    /// The place of the loop over entries in the body of the loop over rows.
    pub at: usize,
    /// What the loop binds, in terms of its index.
    bound: BTreeMap<Var, Id<Expr>>,
}

pub(super) fn entries_of(kernel: &Kernel) -> Option<Entries> {
    let [Stmt::For { var: row, begin, end, kind: LoopKind::Parallel, body }] = &kernel.body[..] else { return None };
    let (Expr::Int(0), Expr::Size(rows)) = (&kernel.exprs[*begin], &kernel.exprs[*end]) else { return None };
    let mut dense = false;
    each_stmt(body, &mut |stmt| dense |= matches!(stmt, Stmt::Contract(_) | Stmt::Softmax(_)));
    if kernel.stage != Stage::Call || dense {
        return None;
    }
    let outside = bound(body);
    let mut found = body.iter().enumerate().filter_map(|(at, stmt)| match stmt {
        Stmt::For { var: entry, begin, end, kind: LoopKind::Serial, body } => {
            let (first, begin) = begin_of(kernel, &outside, *begin)?;
            let (after, same) = begin_of(kernel, &outside, *end)?;
            let next = matches!(&kernel.exprs[after], Expr::Binary { f: Binary::Add, x, y }
                if kernel.exprs[*x] == Expr::Var(*row) && kernel.exprs[*y] == Expr::Int(1));
            let of_row = begin == same && kernel.exprs[first] == Expr::Var(*row) && next;
            let loops = Entries { rows: *rows, begin, entry: *entry, at, bound: bound(body) };
            of_row.then_some(loops)
        }
        _ => None,
    });
    let one = found.next()?;
    found.next().is_none().then_some(one)
}

/// The values that the statements of a body bind, not those further inside.
fn bound(body: &[Stmt]) -> BTreeMap<Var, Id<Expr>> {
    let one = |stmt: &Stmt| match stmt {
        Stmt::Let { var, value } => Some((*var, *value)),
        _ => None,
    };
    body.iter().filter_map(one).collect()
}

/// The index and the buffer that an end of a loop is loaded from.
fn begin_of(kernel: &Kernel, bound: &BTreeMap<Var, Id<Expr>>, end: Id<Expr>) -> Option<(Id<Expr>, Id<Buffer>)> {
    let value = match &kernel.exprs[end] {
        Expr::Var(var) => *bound.get(var)?,
        _ => end,
    };
    match &kernel.exprs[value] {
        Expr::Load(Access { buffer, index }) => match index[..] {
            [at] => Some((at, *buffer)),
            _ => None,
        },
        _ => None,
    }
}

/// An array of a row a place and the contraction that makes it.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub buffer: Id<Buffer>,
    /// The kernel that makes it.
    pub kernel: usize,
    pub contraction: Contraction,
    /// The tables that lead from an entry to its place, one after the other.
    pub path: Vec<Id<Buffer>>,
}

/// The table that is in a buffer, where the sum reads it entry by entry and nobody else does.
pub(super) fn table_of(program: &Program, k: usize, entries: &Entries, buffer: Id<Buffer>) -> Option<Table> {
    let touches =
        |kernel: &Kernel| reads(program, kernel).contains(&buffer) || writes(program, kernel).contains(&buffer);
    let users: Vec<usize> = (0..program.kernels.len()).filter(|u| touches(&program.kernels[*u])).collect();
    let [maker, user] = users[..] else { return None };
    if user != k || writes(program, &program.kernels[k]).contains(&buffer) {
        return None;
    }
    let contraction = contraction_of(program, maker, buffer)?;
    let kernel = &program.kernels[k];
    let mut path = None;
    for (_, expr) in kernel.exprs.iter() {
        let Expr::Load(access) = expr else { continue };
        if access.buffer == buffer {
            let this = entries.path(program, kernel, access.index[0])?;
            if *path.get_or_insert_with(|| this.clone()) != this {
                return None;
            }
        }
    }
    let changed = written(program, maker + 1..k + 1);
    let still = reads(program, &program.kernels[maker]).iter().all(|b| !changed.contains(b));
    still.then_some(Table { buffer, kernel: maker, contraction, path: path? })
}

impl Entries {
    /// The tables that lead from the index of the loop to this one.
    fn path(&self, program: &Program, kernel: &Kernel, index: Id<Expr>) -> Option<Vec<Id<Buffer>>> {
        let Expr::Var(var) = &kernel.exprs[index] else { return None };
        if *var == self.entry {
            return Some(vec![]);
        }
        let Expr::Load(Access { buffer, index }) = &kernel.exprs[*self.bound.get(var)?] else { return None };
        let [at] = index[..] else { return None };
        let fixed = matches!(program.buffers[*buffer].memory, Memory::Input(_) | Memory::Bound);
        let mut path = self.path(program, kernel, at).filter(|_| fixed)?;
        path.push(*buffer);
        Some(path)
    }
}

/// The contraction that a kernel is, if it makes a row of this buffer of each of its rows and of nothing else that is made at the call:
/// that would be another array of entries to read, which a strip of rows may hand on.
fn contraction_of(program: &Program, maker: usize, buffer: Id<Buffer>) -> Option<Contraction> {
    let kernel = &program.kernels[maker];
    let [Stmt::Contract(c)] = &kernel.body[..] else { return None };
    let [Stmt::Store { to, value: _ }] = &c.epilogue[..] else { return None };
    let [row, column] = to.index[..] else { return None };
    let own = kernel.exprs[row] == Expr::Var(c.m) && kernel.exprs[column] == Expr::Var(c.n);
    let [_, width] = program.buffers[buffer].shape[..] else { return None };
    let whole = to.buffer == buffer && own && width.as_fixed() == Some(c.n_extent);
    let of_call = |b: &Id<Buffer>| program.buffers[*b].memory == Memory::Workspace;
    let alone = reads(program, kernel).iter().filter(|b| of_call(b)).all(|b| *b == c.a.buffer);
    let plain = alone && c.row.is_empty() && c.guard.is_none() && c.part.is_none() && kernel.stage == Stage::Call;
    (whole && plain).then(|| (**c).clone())
}

impl Table {
    /// Whether the sum reads it at the entry itself.
    pub(super) fn is_direct(&self) -> bool {
        self.path.is_empty()
    }

    /// About how many entries there are.
    pub(super) fn entries(&self, program: &Program) -> usize {
        let by = self.path.first().unwrap_or(&self.buffer);
        program.sizes.hint(program.buffers[*by].shape[0])
    }

    /// Whether what is stored is the sum itself.
    fn is_plain(&self, program: &Program) -> bool {
        let [Stmt::Store { value, .. }] = self.contraction.epilogue[..] else { return false };
        program.kernels[self.kernel].exprs[value] == Expr::Var(self.contraction.acc)
    }

    /// Whether a contraction of the same rows can make this table beside another one.
    pub(super) fn joins(&self, program: &Program, other: &Table) -> bool {
        let (a, b) = (&self.contraction, &other.contraction);
        let read = |table: &Table| {
            let kernel = &program.kernels[table.kernel];
            let c = &table.contraction;
            let of_row = |i: &Id<Expr>| closed(kernel, *i, c);
            let index: Option<Vec<Expr>> = c.a.index.iter().map(of_row).collect();
            index.map(|index| (c.a.buffer, index))
        };
        let same = (a.a_stride, a.taps, a.k_extent, a.panel) == (b.a_stride, b.taps, b.k_extent, b.panel);
        let rows = read(self).zip(read(other)).is_some_and(|(x, y)| x == y);
        let whole = |t: &Table| {
            let prepared = program.buffers[t.contraction.packed].memory == Memory::Prepared;
            prepared && t.contraction.n_extent % t.contraction.panel == 0 && t.is_plain(program)
        };
        self.path == other.path && same && rows && whole(self) && whole(other)
    }
}

/// An index of the rows of a contraction of one tap, in terms of its row: the row itself, or a number.
fn closed(kernel: &Kernel, id: Id<Expr>, c: &Contraction) -> Option<Expr> {
    match &kernel.exprs[id] {
        Expr::Var(var) if *var == c.m => Some(Expr::Var(Var(0))),
        Expr::Int(k) => Some(Expr::Int(*k)),
        _ => None,
    }
}
