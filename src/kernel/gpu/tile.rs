//! How a contraction is cut: the tile of the result that a block of threads owns, and the part of it that a thread keeps in registers.

use super::{Cx, MULTIPROCESSORS};
use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::kernel::ir::{Binary, Expr, WARP};

/// Threads of a block.
pub(super) const THREADS: usize = 256;
/// Rows, columns or terms of a thread that lie side by side, so that they are read as one.
pub(super) const RUN: usize = 4;

/// How the sums of a tile are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    /// Runs of neighbours, the runs of all threads side by side.
    Runs,
    /// As tensor cores do it, by so many warps side by side along the columns (see `ir::Multiply`).
    Warps(usize),
}

/// A tile: `THREADS` threads, each with `thread_rows × thread_columns` sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub rows: usize,
    pub columns: usize,
    pub thread_rows: usize,
    pub thread_columns: usize,
    sharing: Sharing,
}

impl Tile {
    const fn new(rows: usize, columns: usize, thread_rows: usize, thread_columns: usize) -> Tile {
        assert!(rows * columns == THREADS * thread_rows * thread_columns);
        Tile { rows, columns, thread_rows, thread_columns, sharing: Sharing::Runs }
    }

    /// A tile of products by warps.
    const fn of_warps(rows: usize, columns: usize, across: usize) -> Tile {
        let warps = THREADS / WARP;
        let (thread_rows, thread_columns) = (rows * across / (8 * warps), columns / (4 * across));
        assert!(thread_rows % 2 == 0 && thread_columns % 2 == 0);
        assert!(rows * columns == THREADS * thread_rows * thread_columns);
        Tile { rows, columns, thread_rows, thread_columns, sharing: Sharing::Warps(across) }
    }

    /// Warps side by side along the columns, where warps multiply.
    pub(super) fn warps_across(self) -> Option<usize> {
        match self.sharing {
            Sharing::Runs => None,
            Sharing::Warps(across) => Some(across),
        }
    }

    /// Numbers between the columns of `a`, between the rows of `packed`, and between the rows of the finished tile, which keep what is read
    /// or written together in different banks of shared memory.
    pub(super) fn padding(self) -> [usize; 3] {
        match self.sharing {
            Sharing::Runs => [4, 16, 0],
            Sharing::Warps(_) => [2, 18, 8],
        }
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
}

impl Cx<'_> {
    /// A thread's number along the rows and along the columns.
    pub(super) fn thread_place(&mut self, tile: Tile, t: Id<Expr>) -> (Id<Expr>, Id<Expr>) {
        let Sharing::Warps(warps) = tile.sharing else {
            return (self.by(Binary::Div, t, tile.across()), self.by(Binary::Mod, t, tile.across()));
        };
        let (warp, lane) = (self.by(Binary::Div, t, WARP), self.by(Binary::Mod, t, WARP));
        let (down, aside) = (self.by(Binary::Div, warp, warps), self.by(Binary::Mod, warp, warps));
        let (down, aside) = (self.by(Binary::Mul, down, 8), self.by(Binary::Mul, aside, 4));
        let (far, near) = (self.by(Binary::Div, lane, 4), self.by(Binary::Mod, lane, 4));
        (self.b.add(down, far), self.b.add(aside, near))
    }

    /// The `i`-th row of the threads whose number along the rows is `down`.
    pub(super) fn row_of_tile(&mut self, tile: Tile, down: Id<Expr>, i: usize) -> Id<Expr> {
        match tile.sharing {
            Sharing::Runs => self.of_run(down, i, tile.thread_rows, tile.down()),
            Sharing::Warps(_) => self.of_warp(down, 8, 8 * tile.thread_rows, 1, 8 * i),
        }
    }

    /// The `j`-th column of the threads whose number along the columns is `across`.
    pub(super) fn column_of_tile(&mut self, tile: Tile, across: Id<Expr>, j: usize) -> Id<Expr> {
        match tile.sharing {
            Sharing::Runs => self.of_run(across, j, tile.thread_columns, tile.across()),
            Sharing::Warps(_) => self.of_warp(across, 4, 4 * tile.thread_columns, 2, j / 2 * 8 + j % 2),
        }
    }

    /// The `i`-th of a thread's places in runs: threads next to each other read next to each other.
    fn of_run(&mut self, number: Id<Expr>, i: usize, per_thread: usize, threads: usize) -> Id<Expr> {
        let run = per_thread.min(RUN);
        let scaled = self.by(Binary::Mul, number, run);
        self.by(Binary::Add, scaled, i / run * run * threads + i % run)
    }

    /// `number / lanes · part + number mod lanes · step + known`
    fn of_warp(&mut self, number: Id<Expr>, lanes: usize, part: usize, step: usize, known: usize) -> Id<Expr> {
        let (far, near) = (self.by(Binary::Div, number, lanes), self.by(Binary::Mod, number, lanes));
        let (far, near) = (self.by(Binary::Mul, far, part), self.by(Binary::Mul, near, step));
        let sum = self.b.add(far, near);
        self.by(Binary::Add, sum, known)
    }
}

/// Tiles for at most so many columns, the largest first. Larger ones leave a multiprocessor one block at a time, and that was slower.
const TILES: &[(usize, &[Tile])] = &[
    (16, &[Tile::new(128, 16, 4, 2), Tile::new(64, 16, 2, 2), Tile::new(32, 16, 1, 2)]),
    (32, &[Tile::new(128, 32, 4, 4), Tile::new(64, 32, 2, 4), Tile::new(32, 32, 1, 4)]),
    (64, &[Tile::new(128, 64, 8, 4), Tile::new(64, 64, 4, 4), Tile::new(32, 64, 2, 4)]),
    (128, &[Tile::new(64, 128, 4, 8), Tile::new(32, 128, 2, 8)]),
];

/// The same where warps multiply.
const TILES_OF_WARPS: &[(usize, &[Tile])] = &[
    (16, &[Tile::of_warps(128, 16, 1), Tile::of_warps(64, 16, 2)]),
    (32, &[Tile::of_warps(128, 32, 2), Tile::of_warps(64, 32, 2), Tile::of_warps(32, 32, 4)]),
    (64, &[Tile::of_warps(128, 64, 2), Tile::of_warps(64, 64, 2), Tile::of_warps(32, 64, 4)]),
    (128, &[Tile::of_warps(128, 128, 4), Tile::of_warps(64, 128, 4), Tile::of_warps(32, 128, 4)]),
];

/// The tile for a result of about `rows` times `columns` numbers: few columns wasted, then large, but so that every multiprocessor has one.
/// `searching`: addresses of rows are worked out as the sum goes on (windows, gathers).
/// `by_warps`: on tensor cores.
pub(super) fn tile(rows: usize, columns: usize, searching: bool, by_warps: bool) -> Tile {
    let all = if by_warps { TILES_OF_WARPS } else { TILES };
    let wasted = |width: usize| columns.div_ceil(width) * width;
    let (_, tiles) = all.iter().rev().min_by_key(|(width, _)| wasted(*width)).expect("there are tiles");
    // Addresses take registers too.
    let tiles: Vec<&Tile> = tiles.iter().filter(|t| by_warps || !searching || t.thread_rows <= RUN).collect();
    let blocks = |t: &Tile| rows.div_ceil(t.rows) * columns.div_ceil(t.columns);
    let full = tiles.iter().find(|t| blocks(t) >= MULTIPROCESSORS);
    **full.or(tiles.last()).expect("there are tiles")
}
