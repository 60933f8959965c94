//! The dense kernel on a GPU: a block of threads owns a tile of the result. It brings a few columns of `a` and rows of `packed` at a time
//! into shared memory, in turn into one of two places, so that threads meet once a part; the next part is on its way while this one is
//! multiplied; every thread keeps its sums in registers, and what its rows of `a` are.
//! Sums run in the order of `tap`, then `k`, as everywhere. The finished tile goes through shared memory row by row, so that
//! neighbouring threads finish neighbouring columns, and the epilogue is written once a row of a thread.

use super::tile::{RUN, THREADS, Tile, tile};
use super::{Cx, Launch, SOME_BLOCKS, serial};
use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::kernel::ir::{Access, Binary, Buffer, Comparison, Contraction, Expr, LoopKind, Multiply, Stmt, Unary};
use crate::kernel::narrow::Narrow;

/// The arrays of a block, and its place.
struct Block<'c> {
    c: &'c Contraction,
    tile: Tile,
    /// The first row and column of the tile.
    first: (Id<Expr>, Id<Expr>),
    /// Terms of a sum, and of a part of it.
    terms: usize,
    depth: usize,
    /// `[thread, row, column]`
    sums: Id<Buffer>,
    /// `[thread, e]`: what a thread fetched of the next part.
    next_a: Id<Buffer>,
    next_b: Id<Buffer>,
    /// `[thread, e, k]`: value `k` of the row that the thread's element `e` of a part is in.
    rows: Id<Buffer>,
    /// `[place, depth, row]` and `[place, depth, column]`, shared.
    part_a: Id<Buffer>,
    part_b: Id<Buffer>,
    /// `[thread along the rows, column]`, shared.
    finished: Id<Buffer>,
}

impl Block<'_> {
    /// Elements of a part of `a` that a thread brings.
    fn of_a(&self) -> usize {
        self.tile.rows * self.depth / THREADS
    }

    /// Whether the terms of a row lie side by side.
    fn rows_lie_together(&self) -> bool {
        self.c.a_stride.abs() == 1
    }

    /// How many of them are of one row.
    fn run(&self) -> usize {
        let searched = self.c.taps > 1 || self.c.guard.is_some();
        if self.rows_lie_together() && searched { self.of_a().min(RUN) } else { 1 }
    }
}

impl Cx<'_> {
    pub(super) fn contraction(&mut self, c: &Contraction) -> (Vec<Stmt>, Launch) {
        let rows = self.factors(c.m_extent);
        let expected = rows.as_ref().map_or(usize::MAX, |rows| self.expected(rows));
        let dtype = self.program.dtype;
        let tile = tile(expected, c.n_extent, c.taps > 1 || c.guard.is_some(), self.products.is_some());
        let padding = tile.padding();
        let depth = tile.depth(dtype);
        let across = c.n_extent.div_ceil(tile.columns);
        let (block, down) = (self.b.var(), self.over(c.m_extent, tile.rows));
        let n_blocks = self.by(Binary::Mul, down, across);
        let at = self.b.read(block);
        let mut body = vec![];
        let (row, column) = (self.by(Binary::Div, at, across), self.by(Binary::Mod, at, across));
        let (row, column) = (self.by(Binary::Mul, row, tile.rows), self.by(Binary::Mul, column, tile.columns));
        let first = (self.bind(&mut body, row), self.bind(&mut body, column));
        let mut local_of = |name: &str, dtype: Dtype, shape: &[usize]| {
            let buffer = self.local(name, dtype, shape);
            body.push(Stmt::Alloc { buffer });
            buffer
        };
        let (of_a, of_b) = (tile.rows * depth / THREADS, (tile.columns * depth).div_ceil(THREADS));
        let rows_of_a = local_of("rows", Dtype::I32, &[THREADS, of_a, c.row.len()]);
        let mut local = |name: &str, shape: &[usize]| local_of(name, dtype, shape);
        let a = Block {
            c,
            tile,
            first,
            terms: c.taps * c.k_extent,
            depth,
            sums: local("sums", &[THREADS, tile.thread_rows, tile.thread_columns]),
            next_a: local("next a", &[THREADS, of_a]),
            rows: rows_of_a,
            next_b: local("next b", &[THREADS, of_b]),
            part_a: local("part of a", &[2, depth, tile.rows + padding[0]]),
            part_b: local("part of b", &[2, depth, tile.columns + padding[1]]),
            finished: local("finished", &[tile.down(), tile.columns + padding[2]]),
        };
        let zero = self.b.int(0);
        body.push(self.threads(|cx, t| {
            let mut begin = cx.sums_are_zero(&a, t);
            begin.push(cx.rows_of_a(&a, t));
            begin.extend(cx.fetch(&a, t, zero));
            begin.extend(cx.show(&a, t, zero));
            begin
        }));
        body.extend(self.steps(&a));
        body.extend(self.finish(&a));
        let launch = Launch {
            threads: THREADS,
            tile: tile.rows,
            times: if rows.is_some() { across } else { SOME_BLOCKS },
            elements: rows.unwrap_or_default(),
            registers: Some(tile.registers(dtype)),
            owns: self.tile_in_words(),
        };
        (self.blocks(block, n_blocks, body), launch)
    }

    fn tile_in_words(&self) -> &'static str {
        match self.products {
            None => "a tile",
            Some(Narrow::Tf32) => "a tile, on tensor cores in tf32",
            Some(Narrow::Bf16) => "a tile, on tensor cores in bf16",
            Some(Narrow::F16) => "a tile, on tensor cores in f16",
        }
    }

    fn threads(&mut self, body: impl FnOnce(&mut Self, Id<Expr>) -> Vec<Stmt>) -> Stmt {
        self.each(THREADS, LoopKind::Threads, body)
    }

    fn unrolled(&mut self, n: usize, body: impl FnOnce(&mut Self, Id<Expr>) -> Vec<Stmt>) -> Stmt {
        self.each(n, LoopKind::Unrolled, body)
    }

    fn store(&self, buffer: Id<Buffer>, index: Vec<Id<Expr>>, value: Id<Expr>) -> Stmt {
        Stmt::Store { to: Access { buffer, index }, value }
    }

    fn sums_are_zero(&mut self, a: &Block<'_>, t: Id<Expr>) -> Vec<Stmt> {
        let zero = self.b.float(0.0);
        let mut res = vec![];
        for i in 0..a.tile.thread_rows {
            for j in 0..a.tile.thread_columns {
                let index = vec![t, self.b.int(i as i64), self.b.int(j as i64)];
                res.push(self.store(a.sums, index, zero));
            }
        }
        res
    }

    /// The values of the rows that a thread brings elements of: computed once, small enough to stay in registers.
    fn rows_of_a(&mut self, a: &Block<'_>, t: Id<Expr>) -> Stmt {
        self.unrolled(a.of_a() / a.run(), |cx, r| {
            let e = cx.by(Binary::Mul, r, a.run());
            let (_, m) = cx.place_in_a(a, t, e);
            let mut res = cx.row(a.c, m);
            for (k, (var, _)) in a.c.row.iter().enumerate() {
                let (index, value) = (vec![t, r, cx.b.int(k as i64)], cx.b.read(*var));
                res.push(cx.store(a.rows, index, value));
            }
            res
        })
    }

    /// All parts of the sums: the next part is fetched, this one is added, then the next is shown in the other place.
    fn steps(&mut self, a: &Block<'_>) -> Vec<Stmt> {
        let n = a.terms.div_ceil(a.depth);
        let all = self.each(n, LoopKind::Serial, |cx, step| {
            let all = cx.threads(|cx, t| {
                let add = cx.add_part(a, t, step);
                if n == 1 {
                    return add;
                }
                let (after, last) = (cx.by(Binary::Add, step, 1), cx.b.int(n as i64));
                let more = cx.b.compare(Comparison::Lt, after, last);
                let (fetch, show) = (cx.fetch(a, t, after), cx.show(a, t, after));
                let mut res = vec![Stmt::If { cond: more, then: fetch }];
                res.extend(add);
                res.push(Stmt::If { cond: more, then: show });
                res
            });
            vec![all]
        });
        vec![all]
    }

    /// The `e`-th element of `a` that a thread brings: the place of its term in the part, and its row of the result; rows beyond the last
    /// are the last, computed and not kept.
    fn place_in_a(&mut self, a: &Block<'_>, t: Id<Expr>, e: Id<Expr>) -> (Id<Expr>, Id<Expr>) {
        let (at, row) = self.place_in_part_of_a(a, t, e);
        let (m, last) = (self.b.add(a.first.0, row), self.by(Binary::Sub, a.c.m_extent, 1));
        (at, self.b.binary(Binary::Min, m, last))
    }

    /// A thread's share of the part `step` of `a` and of `packed`, into its registers; zero beyond the end of the sums.
    fn fetch(&mut self, a: &Block<'_>, t: Id<Expr>, step: Id<Expr>) -> Vec<Stmt> {
        let of_a = self.unrolled(a.of_a(), |cx, e| cx.fetch_a(a, t, step, e));
        let of_b = self.unrolled((a.tile.columns * a.depth).div_ceil(THREADS), |cx, e| cx.fetch_b(a, t, step, e));
        vec![of_a, of_b]
    }

    /// The `e`-th element of a part of `a` that a thread brings, the place of its term and its row in the tile: neighbours in memory by
    /// neighbouring threads, and of a row that lies together a run by one thread, which then finds the row once.
    fn place_in_part_of_a(&mut self, a: &Block<'_>, t: Id<Expr>, e: Id<Expr>) -> (Id<Expr>, Id<Expr>) {
        if !a.rows_lie_together() {
            return self.place_in_rows(t, e, a.tile.rows);
        }
        let (run, across) = (a.run(), a.depth / a.run());
        let (begin, within) = (self.by(Binary::Mod, t, across), self.by(Binary::Mod, e, run));
        let begin = self.by(Binary::Mul, begin, run);
        let (near, far) = (self.by(Binary::Div, t, across), self.by(Binary::Div, e, run));
        let far = self.by(Binary::Mul, far, THREADS / across);
        (self.b.add(begin, within), self.b.add(near, far))
    }

    /// The `e`-th element that a thread has of rows of a length, in order: row and place.
    fn place_in_rows(&mut self, t: Id<Expr>, e: Id<Expr>, length: usize) -> (Id<Expr>, Id<Expr>) {
        let before = self.by(Binary::Mul, e, THREADS);
        let flat = self.b.add(before, t);
        (self.by(Binary::Div, flat, length), self.by(Binary::Mod, flat, length))
    }

    /// The same of `packed`, whose panels lie one after the other: term and column.
    fn place_in_panels(&mut self, a: &Block<'_>, t: Id<Expr>, e: Id<Expr>) -> (Id<Expr>, Id<Expr>) {
        let panel = a.c.panel.min(a.tile.columns);
        let before = self.by(Binary::Mul, e, THREADS);
        let flat = self.b.add(before, t);
        let (far, near) = (self.by(Binary::Div, flat, panel), self.by(Binary::Mod, flat, panel));
        let first = self.by(Binary::Div, far, a.depth);
        let first = self.by(Binary::Mul, first, panel);
        (self.by(Binary::Mod, far, a.depth), self.b.add(first, near))
    }

    /// Tap and `k` of a term, and whether there is such a term, where that is not certain.
    fn term(&mut self, a: &Block<'_>, step: Id<Expr>, at: Id<Expr>) -> (Id<Expr>, Id<Expr>, Option<Id<Expr>>) {
        let begin = self.by(Binary::Mul, step, a.depth);
        let term = self.b.add(begin, at);
        let whole = a.terms % a.depth == 0;
        let end = self.b.int(a.terms as i64);
        let there = if whole { None } else { Some(self.b.compare(Comparison::Lt, term, end)) };
        if a.c.taps == 1 {
            return (self.b.int(0), term, there);
        }
        let k_extent = a.c.k_extent;
        // Where whole parts have one tap, its number is the same for all threads.
        let (of_tap, at) = if k_extent % a.depth == 0 { (begin, at) } else { (term, self.b.int(0)) };
        let k = self.by(Binary::Mod, of_tap, k_extent);
        (self.by(Binary::Div, of_tap, k_extent), self.b.add(k, at), there)
    }

    fn fetch_a(&mut self, a: &Block<'_>, t: Id<Expr>, step: Id<Expr>, e: Id<Expr>) -> Vec<Stmt> {
        let c = a.c;
        let (at, m) = self.place_in_a(a, t, e);
        let (tap, k, there) = self.term(a, step, at);
        let mut res = vec![Stmt::Let { var: c.m, value: m }];
        let r = self.by(Binary::Div, e, a.run());
        for (number, (var, _)) in c.row.iter().enumerate() {
            let index = vec![t, r, self.b.int(number as i64)];
            res.push(Stmt::Let { var: *var, value: self.b.load(a.rows, index) });
        }
        res.push(Stmt::Let { var: c.tap, value: tap });
        let inside = self.b.and(there, c.guard);
        // The address of `k` is that of 0, moved.
        let k = self.bind(&mut res, k);
        res.push(Stmt::Let { var: c.k, value: self.b.int(0) });
        let value = self.moved_along_k(c, k);
        let zero = self.b.float(0.0);
        let value = self.b.select(inside, value, zero);
        res.push(self.store(a.next_a, vec![t, e], value));
        res
    }

    /// The element of `a` at `k`: `c.a` is the one at 0, and the address moves by `a_stride` elements a step. Along which axes that is
    /// follows from the sizes of the inner ones, which are known wherever a step crosses them.
    pub(super) fn moved_along_k(&mut self, c: &Contraction, mut k: Id<Expr>) -> Id<Expr> {
        let mut index = c.a.index.clone();
        let dims: Vec<Option<usize>> =
            self.program.buffers[c.a.buffer].shape.iter().map(|size| size.as_fixed()).collect();
        let (mut stride, mut n) = (c.a_stride, c.k_extent);
        for axis in (0..index.len()).rev() {
            let fits = |size: usize| stride.unsigned_abs() as usize * (n - 1) < size;
            let (along, over) = match dims[axis] {
                Some(size) if axis > 0 && !fits(size) => {
                    // This axis takes as many steps as fit; the next one goes on from there.
                    let steps = (size / stride.unsigned_abs().max(1) as usize).max(1);
                    let wrap = if steps > 1 { stride * steps as i64 } else { stride };
                    let along = (steps > 1).then(|| self.by(Binary::Mod, k, steps));
                    let over = if steps > 1 { self.by(Binary::Div, k, steps) } else { k };
                    n = n.div_ceil(steps);
                    (along.map(|at| (at, stride)), Some((over, wrap / size as i64)))
                }
                Some(_) | None => (Some((k, stride)), None),
            };
            if let Some((at, by)) = along {
                let by = self.b.int(by);
                let moved = self.b.mul(at, by);
                index[axis] = self.b.add(index[axis], moved);
            }
            let Some(over) = over else { break };
            (k, stride) = over;
        }
        self.b.load(c.a.buffer, index)
    }

    /// `m` and the values of its row.
    fn row(&mut self, c: &Contraction, m: Id<Expr>) -> Vec<Stmt> {
        let values = c.row.iter().map(|(var, value)| Stmt::Let { var: *var, value: *value });
        std::iter::once(Stmt::Let { var: c.m, value: m }).chain(values).collect()
    }

    fn fetch_b(&mut self, a: &Block<'_>, t: Id<Expr>, step: Id<Expr>, e: Id<Expr>) -> Vec<Stmt> {
        let c = a.c;
        let (at, column) = self.place_in_panels(a, t, e);
        let (tap, k, mut there) = self.term(a, step, at);
        let n = self.b.add(a.first.1, column);
        let padded = c.n_extent.div_ceil(c.panel) * c.panel;
        if padded % a.tile.columns != 0 {
            let end = self.b.int(padded as i64);
            let inside = self.b.compare(Comparison::Lt, n, end);
            there = self.b.and(there, Some(inside));
        }
        let (panel, column) = (self.by(Binary::Div, n, c.panel), self.by(Binary::Mod, n, c.panel));
        let value = self.b.load(c.packed, vec![panel, tap, k, column]);
        let zero = self.b.float(0.0);
        let value = self.b.select(there, value, zero);
        let store = self.store(a.next_b, vec![t, e], value);
        self.where_there_is_a_part(a, t, vec![store])
    }

    /// A part may have fewer elements than a block has threads.
    fn where_there_is_a_part(&mut self, a: &Block<'_>, t: Id<Expr>, then: Vec<Stmt>) -> Vec<Stmt> {
        if a.tile.columns * a.depth >= THREADS {
            return then;
        }
        let end = self.b.int((a.tile.columns * a.depth) as i64);
        vec![Stmt::If { cond: self.b.compare(Comparison::Lt, t, end), then }]
    }

    /// What a thread fetched of part `step` goes to shared memory, rounded where tensor cores multiply it.
    fn show(&mut self, a: &Block<'_>, t: Id<Expr>, step: Id<Expr>) -> Vec<Stmt> {
        let place = self.by(Binary::Mod, step, 2);
        let of_a = self.unrolled(a.of_a(), |cx, e| {
            let (at, row) = cx.place_in_part_of_a(a, t, e);
            let value = cx.b.load(a.next_a, vec![t, e]);
            let value = cx.factor(value);
            vec![cx.store(a.part_a, vec![place, at, row], value)]
        });
        let of_b = self.unrolled((a.tile.columns * a.depth).div_ceil(THREADS), |cx, e| {
            let (at, column) = cx.place_in_panels(a, t, e);
            let value = cx.b.load(a.next_b, vec![t, e]);
            let value = cx.factor(value);
            let store = cx.store(a.part_b, vec![place, at, column], value);
            cx.where_there_is_a_part(a, t, vec![store])
        });
        vec![of_a, of_b]
    }

    /// A number as it is multiplied.
    fn factor(&mut self, x: Id<Expr>) -> Id<Expr> {
        match self.products {
            Some(to) => self.b.unary(Unary::Rounded(to), x),
            None => x,
        }
    }

    /// Adds part `step`, in shared memory, to a thread's sums.
    fn add_part(&mut self, a: &Block<'_>, t: Id<Expr>, step: Id<Expr>) -> Vec<Stmt> {
        let (tile, place) = (a.tile, self.by(Binary::Mod, step, 2));
        if let (Some(factors), Some(across)) = (self.products, tile.warps_across()) {
            let (sums, parts) = (a.sums, (a.part_a, a.part_b));
            return vec![Stmt::Multiply(Multiply { factors, thread: t, a: parts.0, b: parts.1, place, sums, across })];
        }
        let (down, across) = self.thread_place(tile, t);
        let all = self.unrolled(a.depth, |cx, at| {
            let mut res = vec![];
            let rows: Vec<Id<Expr>> = (0..tile.thread_rows)
                .map(|i| {
                    let row = cx.row_of_tile(tile, down, i);
                    let value = cx.b.load(a.part_a, vec![place, at, row]);
                    cx.bind(&mut res, value)
                })
                .collect();
            let columns: Vec<Id<Expr>> = (0..tile.thread_columns)
                .map(|j| {
                    let column = cx.column_of_tile(tile, across, j);
                    let value = cx.b.load(a.part_b, vec![place, at, column]);
                    cx.bind(&mut res, value)
                })
                .collect();
            for (i, x) in rows.iter().enumerate() {
                for (j, y) in columns.iter().enumerate() {
                    let index = vec![t, cx.b.int(i as i64), cx.b.int(j as i64)];
                    let sum = cx.b.load(a.sums, index.clone());
                    let value = cx.b.expr(Expr::Fma { a: *x, b: *y, c: sum });
                    res.push(cx.store(a.sums, index, value));
                }
            }
            res
        });
        vec![all]
    }

    /// A row of every thread at a time: shown to all, then finished, neighbouring columns by neighbouring threads.
    fn finish(&mut self, a: &Block<'_>) -> Vec<Stmt> {
        let tile = a.tile;
        let mut res = vec![];
        for i in 0..tile.thread_rows {
            let index_of_row = self.b.int(i as i64);
            res.push(self.threads(|cx, t| {
                let (down, across) = cx.thread_place(tile, t);
                let show = |j: usize, cx: &mut Self| {
                    let index = vec![t, index_of_row, cx.b.int(j as i64)];
                    let value = cx.b.load(a.sums, index);
                    let column = cx.column_of_tile(tile, across, j);
                    cx.store(a.finished, vec![down, column], value)
                };
                (0..tile.thread_columns).map(|j| show(j, cx)).collect()
            }));
            res.push(self.threads(|cx, t| {
                let each = cx.each(tile.thread_columns, LoopKind::Serial, |cx, e| {
                    let (down, column) = cx.place_in_rows(t, e, tile.columns);
                    let row = cx.row_of_tile(tile, down, i);
                    cx.finish_element(a, (down, row), column)
                });
                vec![each]
            }));
        }
        res
    }

    fn finish_element(&mut self, a: &Block<'_>, (down, row): (Id<Expr>, Id<Expr>), column: Id<Expr>) -> Vec<Stmt> {
        let c = a.c;
        let (m, n) = (self.b.add(a.first.0, row), self.b.add(a.first.1, column));
        let n_extent = self.b.int(c.n_extent as i64);
        let is_row = self.b.compare(Comparison::Lt, m, c.m_extent);
        let is_column = self.b.compare(Comparison::Lt, n, n_extent);
        let whole = c.n_extent % a.tile.columns == 0;
        let cond = self.b.and(Some(is_row), (!whole).then_some(is_column)).expect("there is a condition");
        let mut then = self.row(c, m);
        then.push(Stmt::Let { var: c.n, value: n });
        then.push(Stmt::Let { var: c.acc, value: self.b.load(a.finished, vec![down, column]) });
        then.extend(serial(c.epilogue.clone()));
        vec![Stmt::If { cond, then }]
    }
}
