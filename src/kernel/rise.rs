//! What a table of indices says on average, before anything is known of it but its sizes: a sorted one rises evenly along its axis, and so do the
//! places where its rows begin.

use std::collections::BTreeMap;

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{ArgumentKind, Buffer, Expr, Kernel, Program, Stmt};
use crate::kernel::work::size_at;

/// The tables of a program that rise.
#[derive(Clone, Debug, Default)]
pub(super) struct Rises {
    tables: BTreeMap<Id<Buffer>, Rise>,
}

/// From zero to `top` along an axis of this length.
#[derive(Clone, Copy, Debug)]
struct Rise {
    top: f64,
    length: f64,
}

impl Rises {
    /// The sorted tables among the arguments, and those that count entries by rows.
    pub(super) fn new(program: &Program, sizes: &[usize]) -> Rises {
        let value = |size: &Size| size_at(program, *size, sizes);
        let length = |buffer: Id<Buffer>| program.buffers[buffer].shape.iter().map(value).product::<f64>();
        let mut tables = BTreeMap::new();
        for input in &program.inputs {
            if let ArgumentKind::Table { range, sorted: true } = input.kind {
                tables.insert(input.buffer, Rise { top: value(&range), length: length(input.buffer) });
            }
        }
        for kernel in &program.kernels {
            counted(kernel, &kernel.body, 1.0, &value, &mut |buffer, entries| {
                // of a counting sort: the beginning of the first row, the end of each, and one place to count in
                tables.insert(buffer, Rise { top: entries, length: length(buffer) - 2.0 });
            });
        }
        Rises { tables }
    }

    /// What a table says at a place, if it rises.
    pub(super) fn at(&self, table: Id<Buffer>, place: f64) -> Option<f64> {
        self.tables.get(&table).map(|rise| (place.floor() * rise.top / rise.length.max(1.0)).floor())
    }
}

/// The arrays that loops add ones to, and how many.
fn counted(
    kernel: &Kernel,
    body: &[Stmt],
    turns: f64,
    value: &impl Fn(&Size) -> f64,
    found: &mut impl FnMut(Id<Buffer>, f64),
) {
    for stmt in body {
        match stmt {
            Stmt::For { end, body, .. } => {
                let turns = match &kernel.exprs[*end] {
                    Expr::Size(size) => turns * value(size),
                    Expr::Int(n) => turns * *n as f64,
                    _ => continue,
                };
                counted(kernel, body, turns, value, found);
            }
            Stmt::Accumulate { to, value, .. } if kernel.exprs[*value] == Expr::Int(1) => found(to.buffer, turns),
            _ => (),
        }
    }
}
