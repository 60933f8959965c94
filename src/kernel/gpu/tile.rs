//! How a contraction is cut: the tile of the result that a block of threads owns, and the part of it that a thread keeps in registers.

use super::MULTIPROCESSORS;
use crate::base::dtype::Dtype;

/// Threads of a block.
pub(super) const THREADS: usize = 256;
/// Rows, columns or terms of a thread that lie side by side, so that they are read as one.
pub(super) const RUN: usize = 4;
/// Numbers between the columns of `a` and between the rows of `packed` that keep them in different banks of shared memory.
pub(super) const PADDING: [usize; 2] = [4, 16];

/// A tile: `THREADS` threads, each with `thread_rows × thread_columns` sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub rows: usize,
    pub columns: usize,
    pub thread_rows: usize,
    pub thread_columns: usize,
}

impl Tile {
    const fn new(rows: usize, columns: usize, thread_rows: usize, thread_columns: usize) -> Tile {
        assert!(rows * columns == THREADS * thread_rows * thread_columns);
        Tile { rows, columns, thread_rows, thread_columns }
    }

    /// Terms of the sums that are in shared memory at a time, in each of two parts: within the 48 KiB that every GPU has.
    pub(super) fn depth(self, dtype: Dtype) -> usize {
        if dtype == Dtype::F64 { 8 } else { 16 }
    }

    /// Registers of a thread: the 65536 of a multiprocessor are for two blocks, or for one where the sums take two each.
    pub(super) fn registers(self, dtype: Dtype) -> usize {
        if dtype == Dtype::F64 { 255 } else { 128 }
    }

    /// Threads along the columns.
    pub(super) fn across(self) -> usize {
        self.columns / self.thread_columns
    }

    /// Threads along the rows.
    pub(super) fn down(self) -> usize {
        self.rows / self.thread_rows
    }

    /// Where the `i`-th of a thread's rows is in the tile: `(factor of the thread's number along the rows, known part)`.
    pub(super) fn row(self, i: usize) -> (usize, usize) {
        place(i, self.thread_rows, self.down())
    }

    /// The same of columns.
    pub(super) fn column(self, j: usize) -> (usize, usize) {
        place(j, self.thread_columns, self.across())
    }
}

/// Runs of neighbours, the runs of all threads side by side: threads next to each other read next to each other.
fn place(i: usize, per_thread: usize, threads: usize) -> (usize, usize) {
    let run = per_thread.min(RUN);
    (run, i / run * run * threads + i % run)
}

/// Tiles for at most so many columns, the largest first. Larger ones leave a multiprocessor one block at a time, and that was slower.
const TILES: &[(usize, &[Tile])] = &[
    (16, &[Tile::new(128, 16, 4, 2), Tile::new(64, 16, 2, 2), Tile::new(32, 16, 1, 2)]),
    (32, &[Tile::new(128, 32, 4, 4), Tile::new(64, 32, 2, 4), Tile::new(32, 32, 1, 4)]),
    (64, &[Tile::new(128, 64, 8, 4), Tile::new(64, 64, 4, 4), Tile::new(32, 64, 2, 4)]),
    (128, &[Tile::new(64, 128, 4, 8), Tile::new(32, 128, 2, 8)]),
];

/// The tile for a result of about `rows` times `columns` numbers: few columns wasted, then large, but so that every multiprocessor has one.
/// `searching`: addresses of rows are worked out as the sum goes on (windows, gathers).
pub(super) fn tile(rows: usize, columns: usize, searching: bool) -> Tile {
    let wasted = |width: usize| columns.div_ceil(width) * width;
    let (_, tiles) = TILES.iter().rev().min_by_key(|(width, _)| wasted(*width)).expect("there are tiles");
    // Addresses take registers too.
    let tiles: Vec<&Tile> = tiles.iter().filter(|t| !searching || t.thread_rows <= RUN).collect();
    let blocks = |t: &Tile| rows.div_ceil(t.rows) * columns.div_ceil(t.columns);
    let full = tiles.iter().find(|t| blocks(t) >= MULTIPROCESSORS);
    **full.or(tiles.last()).expect("there are tiles")
}
