//! The kernels of `outer`: some places of the summed axes at a time, columns are packed side by side, rows too where they do not lie so
//! already (`outer_rows`), and the dense kernel adds their products to the sums. Blocks of places are dealt into parts, each with sums of
//! its own, added up in order at the end: how many parts there are depends on sizes alone, so that the numbers never depend on the threads.

use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::base::size::Size;
use crate::kernel::ir::{
    Access, Binary, Buffer, Combine, Contraction, Expr, LoopKind, Memory, PANEL_BYTES, Stage, Stmt,
};
use crate::kernel::lower::cx::Cx;
use crate::kernel::lower::element::Slots;
use crate::kernel::lower::outer::{Outer, Side, volume};
use crate::kernel::lower::plan::{self, Step};
use crate::kernel::lower::{Home, Lowering};
use crate::tensor::op::{Node, Slot, ValueId};

/// Places that are packed together: rows and a panel of columns stay in the first-level cache.
const DEPTH: usize = 128;
/// The same where rows are not packed: each block reads its sums once.
const DEPTH_IN_PLACE: usize = 256;
/// Depths are multiples of this, where fewer places are expected.
const LEAST_DEPTH: usize = 16;
/// Parts of the work, as far as their sums stay in the caches.
const PIECES: usize = 16;
/// Numbers that the sums of all parts have together, about.
const MOST_SUMS: usize = 1 << 18;
/// Rows that are packed side by side where a cache line of them cannot be.
const GROUP: usize = 4;
/// Rows of a unit where no axis gives one.
const UNIT: usize = 16;

/// How a sum is cut.
pub(super) struct Cut<'t> {
    pub(super) node: &'t Node,
    pub(super) outer: &'t Outer,
    pub(super) sizes: Vec<Size>,
    /// Outer to inner.
    pub(super) summed: Vec<Slot>,
    pub(super) rows: Lines<'t>,
    columns: Lines<'t>,
    batch: usize,
    /// Places of a block.
    depth: usize,
    /// Parts of the places at most, and of the rows.
    parts: usize,
    bands: usize,
    /// `[part, batch, row, column]`
    sums: Id<Buffer>,
}

/// The rows or columns in their order.
pub(super) struct Lines<'t> {
    pub(super) side: &'t Side,
    pub(super) beside: Vec<Slot>,
    /// The axes of the result among them, outer to inner, and how many places they have.
    pub(super) axes: Vec<Slot>,
    len: usize,
    /// Units that stay together, and their number: runs of what lies beside each other.
    pub(super) unit: usize,
    units: usize,
    /// How many are packed side by side, and where.
    group: usize,
    pub(super) packed: Packed,
}

/// What holds the places of a block.
#[derive(Clone, Copy)]
pub(super) enum Packed {
    /// Nothing but their own memory: where they are along each summed axis, `[piece, axis, place]`.
    Places(Id<Buffer>),
    /// `[piece, row / group, place, row mod group]`
    Rows(Id<Buffer>),
    /// `[piece, column / panel, 1, place, column mod panel]`, or `[.., place, 1, ..]` for rows that are not packed.
    Panels(Id<Buffer>),
}

/// Numbers of one place that are packed: `count` of them, from the start of a group on.
struct Run<'r> {
    lines: &'r Lines<'r>,
    /// The piece.
    number: Id<Expr>,
    group: Id<Expr>,
    k: Id<Expr>,
    count: Id<Expr>,
}

/// One part of the places of one band of rows.
pub(super) struct Piece {
    /// Of all pieces, and of the parts.
    pub(super) number: Id<Expr>,
    part: Id<Expr>,
    /// Units of rows.
    pub(super) first: Id<Expr>,
    end: Id<Expr>,
}

/// The units of rows: how many rows each has.
fn unit(apart: usize, run: usize) -> usize {
    if apart == 1 && run.is_multiple_of(UNIT) { UNIT } else { run }
}

impl Lowering<'_> {
    /// The kernels of such a sum: the sums of the parts, and their sum.
    pub(super) fn outer(&mut self, id: ValueId, outer: &Outer, home: &Home, stage: Stage) {
        let cut = self.cut(id, outer, home);
        let name = self.program.buffers[home.buffer].name.clone();
        let mut cx = Cx::new(self);
        let count = cx.parts(&cut);
        let bands = cx.b.int(cut.bands as i64);
        let pieces = cx.b.mul(count, bands);
        cx.each(pieces, LoopKind::Parallel, |cx, number| cx.piece(&cut, number, count));
        cx.finish(format!("outer {name}"), stage);
        let mut cx = Cx::new(self);
        cx.sum_of_parts(&cut, home);
        cx.finish(format!("sum {name}"), stage);
    }

    fn cut<'t>(&mut self, id: ValueId, outer: &'t Outer, home: &Home) -> Cut<'t>
    where
        Self: 't,
    {
        let graph = self.graph;
        let node = graph.node(id);
        let sizes = plan::slot_sizes(graph, node);
        let summed = outer.in_memory_order(node, &self.homes);
        let places: usize = summed.iter().map(|s| graph.sizes.hint(sizes[*s as usize])).product();
        let [batch, apart, run] = [&outer.batch, &outer.rows.apart, &outer.rows.beside].map(|s| volume(s, &sizes));
        let columns = volume(&outer.columns.beside, &sizes);
        let parts = (MOST_SUMS / (batch * apart * run * columns).max(1)).clamp(1, PIECES);
        let in_place = self.rows_in_place(node, outer, &sizes);
        let most = if in_place { DEPTH_IN_PLACE } else { DEPTH };
        let depth = places.next_multiple_of(LEAST_DEPTH).clamp(LEAST_DEPTH, most);
        let unit = unit(apart, run);
        let units = apart * run / unit;
        let bands = (PIECES / parts).clamp(1, units);
        let panel = PANEL_BYTES / self.program.dtype.bytes();
        let group = [panel, GROUP].into_iter().find(|group| unit.is_multiple_of(*group)).unwrap_or(1);
        let name = self.program.buffers[home.buffer].name.clone();
        let real = self.program.dtype;
        let mut workspace = |what: &str, dtype, shape: &[usize]| {
            let shape = shape.iter().map(|n| Size::fixed(*n)).collect();
            self.buffer(&format!("{name}.{what}"), dtype, shape, Memory::Workspace)
        };
        let sums = workspace("parts", real, &[parts, batch, apart * run, columns]);
        let groups = units.div_ceil(bands) * unit / group;
        let rows = match in_place {
            true => Packed::Places(workspace("places", Dtype::I32, &[parts * bands, summed.len(), depth])),
            false => Packed::Rows(workspace("rows", real, &[parts * bands, groups, depth, group])),
        };
        let [taps, inner] = if in_place { [depth, 1] } else { [1, depth] };
        let panels = workspace("columns", real, &[parts * bands, columns.div_ceil(panel), taps, inner, panel]);
        let rows = self.lines(node, &outer.rows, &sizes, (unit, group), rows);
        let columns = self.lines(node, &outer.columns, &sizes, (columns, panel), Packed::Panels(panels));
        Cut { node, outer, sizes, summed, rows, columns, batch, depth, parts, bands, sums }
    }

    fn lines<'t>(
        &self,
        node: &Node,
        side: &'t Side,
        sizes: &[Size],
        (unit, group): (usize, usize),
        packed: Packed,
    ) -> Lines<'t> {
        let mut beside = side.beside.clone();
        side.sort_as_in_memory(node, &self.homes, &mut beside);
        let len = volume(&side.apart, sizes) * volume(&beside, sizes);
        let axes = side.apart.iter().chain(&beside).copied().collect();
        Lines { side, beside, axes, len, unit, units: len / unit, group, packed }
    }
}

impl Cx<'_, '_> {
    /// All places, and all blocks of them.
    fn places_and_blocks(&mut self, cut: &Cut) -> (Id<Expr>, Id<Expr>) {
        let mut places = self.b.int(1);
        for slot in &cut.summed {
            let extent = self.b.size(cut.sizes[*slot as usize]);
            places = self.b.mul(places, extent);
        }
        let (depth, last) = (self.b.int(cut.depth as i64), self.b.int(cut.depth as i64 - 1));
        let padded = self.b.add(places, last);
        (places, self.b.binary(Binary::Div, padded, depth))
    }

    /// How many parts have blocks, at least one.
    fn parts(&mut self, cut: &Cut) -> Id<Expr> {
        let (_, blocks) = self.places_and_blocks(cut);
        let (most, one) = (self.b.int(cut.parts as i64), self.b.int(1));
        let parts = self.b.binary(Binary::Min, blocks, most);
        self.b.binary(Binary::Max, parts, one)
    }

    /// `total · i / n` and `total · (i + 1) / n`
    pub(super) fn share(&mut self, total: Id<Expr>, i: Id<Expr>, n: Id<Expr>) -> (Id<Expr>, Id<Expr>) {
        let one = self.b.int(1);
        let next = self.b.add(i, one);
        let [begin, end] = [i, next].map(|i| {
            let scaled = self.b.mul(total, i);
            let at = self.b.binary(Binary::Div, scaled, n);
            self.bind(at)
        });
        (begin, end)
    }

    /// Zeros, and then the sums of all blocks of one part.
    fn piece(&mut self, cut: &Cut, number: Id<Expr>, parts: Id<Expr>) {
        let band = self.b.binary(Binary::Div, number, parts);
        let part = self.b.binary(Binary::Mod, number, parts);
        let (units, bands) = (self.b.int(cut.rows.units as i64), self.b.int(cut.bands as i64));
        let (first, end) = self.share(units, band, bands);
        let part = self.bind(part);
        let piece = Piece { number, part, first, end };
        self.zero_sums(cut, &piece);
        let (places, blocks) = self.places_and_blocks(cut);
        let (begin, end) = self.share(blocks, part, parts);
        self.range(begin, end, LoopKind::Serial, |cx, block| {
            let depth = cx.b.int(cut.depth as i64);
            let from = cx.b.mul(block, depth);
            let left = cx.b.sub(places, from);
            let count = cx.b.binary(Binary::Min, left, depth);
            let (from, count) = (cx.bind(from), cx.bind(count));
            let batch = cx.b.int(cut.batch as i64);
            cx.each(batch, LoopKind::Serial, |cx, batch| {
                cx.pack(cut, &piece, batch, (from, count));
                cx.multiply(cut, &piece, batch, count);
            });
        });
    }

    /// The first row of a piece, and how many it has.
    fn rows_of(&mut self, cut: &Cut, piece: &Piece) -> (Id<Expr>, Id<Expr>) {
        let unit = self.b.int(cut.rows.unit as i64);
        let units = self.b.sub(piece.end, piece.first);
        (self.b.mul(piece.first, unit), self.b.mul(units, unit))
    }

    fn zero_sums(&mut self, cut: &Cut, piece: &Piece) {
        let (first, count) = self.rows_of(cut, piece);
        let [batch, columns] = [cut.batch, cut.columns.len].map(|n| self.b.int(n as i64));
        self.each(batch, LoopKind::Serial, |cx, batch| {
            cx.each(count, LoopKind::Parallel, |cx, row| {
                cx.each(columns, LoopKind::Vector, |cx, column| {
                    let row = cx.b.add(first, row);
                    let zero = cx.b.float(0.0);
                    cx.store(cut.sums, vec![piece.part, batch, row, column], zero);
                });
            });
        });
    }

    /// Packs `count` places from `from` on, and zeros up to the depth of a block.
    fn pack(&mut self, cut: &Cut, piece: &Piece, batch: Id<Expr>, (from, count): (Id<Expr>, Id<Expr>)) {
        self.each(count, LoopKind::Parallel, |cx, k| {
            let mut slots: Slots = vec![None; cut.sizes.len()];
            let place = cx.b.add(from, k);
            cx.at(cut, &cut.summed, place, &mut slots);
            cx.at(cut, &cut.outer.batch, batch, &mut slots);
            match cut.rows.packed {
                Packed::Places(buffer) => cx.note_place(cut, piece, buffer, k, &slots),
                Packed::Rows(_) | Packed::Panels(_) => cx.pack_rows(cut, piece, k, &slots),
            }
            cx.pack_columns(cut, piece, k, &slots);
        });
        let depth = self.b.int(cut.depth as i64);
        self.range(count, depth, LoopKind::Parallel, |cx, k| {
            let zero = cx.b.int(0);
            if let Packed::Places(buffer) = cut.rows.packed {
                let slots: Slots = vec![Some(zero); cut.sizes.len()];
                return cx.note_place(cut, piece, buffer, k, &slots);
            }
            let (_, rows) = cx.rows_of(cut, piece);
            let columns = cx.b.int(cut.columns.len as i64);
            for (lines, count) in [(&cut.rows, rows), (&cut.columns, columns)] {
                cx.zeros(&Run { lines, number: piece.number, group: zero, k, count });
            }
        });
    }

    /// Sets axes to the digits of a place.
    fn at(&mut self, cut: &Cut, axes: &[Slot], place: Id<Expr>, slots: &mut Slots) {
        let dims: Vec<Size> = axes.iter().map(|s| cut.sizes[*s as usize]).collect();
        let index = self.b.unflatten(place, &dims);
        for (slot, i) in axes.iter().zip(index) {
            slots[*slot as usize] = Some(self.bind(i));
        }
    }

    /// One place of every row of a piece.
    fn pack_rows(&mut self, cut: &Cut, piece: &Piece, k: Id<Expr>, slots: &Slots) {
        let (lines, number) = (&cut.rows, piece.number);
        let zero = self.b.int(0);
        if lines.side.apart.is_empty() {
            let (first, count) = self.rows_of(cut, piece);
            return self.run(cut, &Run { lines, number, group: zero, k, count }, first, slots);
        }
        self.range(piece.first, piece.end, LoopKind::Serial, |cx, unit| {
            let mut slots = slots.clone();
            cx.at(cut, &lines.side.apart, unit, &mut slots);
            let (count, groups) = (cx.b.int(lines.unit as i64), cx.b.int((lines.unit / lines.group) as i64));
            let unit = cx.b.sub(unit, piece.first);
            let group = cx.b.mul(unit, groups);
            let group = cx.bind(group);
            cx.run(cut, &Run { lines, number, group, k, count }, zero, &slots);
        });
    }

    /// One place of every column.
    fn pack_columns(&mut self, cut: &Cut, piece: &Piece, k: Id<Expr>, slots: &Slots) {
        let lines = &cut.columns;
        let (zero, count) = (self.b.int(0), self.b.int(lines.len as i64));
        self.run(cut, &Run { lines, number: piece.number, group: zero, k, count }, zero, slots);
    }

    /// Packs a run of numbers that lie beside each other from `first` on: zeros where a relation is not defined.
    fn run(&mut self, cut: &Cut, run: &Run, first: Id<Expr>, slots: &Slots) {
        let side = run.lines.side;
        if self.may_miss(&side.steps, slots) {
            self.zeros(run);
        }
        self.nest(&side.steps, &cut.sizes, &mut slots.clone(), &mut |cx, slots| {
            cx.each_of_run(run, &mut |cx, group, lane| {
                let size = cx.b.int(run.lines.group as i64);
                let flat = cx.b.mul(group, size);
                let flat = cx.b.add(flat, lane);
                let flat = cx.b.add(first, flat);
                let dims: Vec<Size> = run.lines.beside.iter().map(|s| cut.sizes[*s as usize]).collect();
                let index = cx.b.unflatten(flat, &dims);
                let mut slots = slots.clone();
                for (slot, i) in run.lines.beside.iter().zip(index) {
                    slots[*slot as usize] = Some(i);
                }
                let factors = side.factors.iter().map(|k| cx.operand(cut.node, *k, &slots));
                let factors: Vec<Id<Expr>> = factors.collect();
                let product = factors.into_iter().reduce(|x, y| cx.b.mul(x, y)).expect("lower: a side has operands");
                cx.put_packed(run, group, lane, product);
            });
        });
    }

    /// Whether some step has a condition.
    fn may_miss(&mut self, steps: &[Step], slots: &Slots) -> bool {
        self.open();
        let mut slots = slots.clone();
        let guards: Vec<_> = steps.iter().filter_map(|step| self.settle(step, &mut slots)).collect();
        self.close();
        !guards.is_empty()
    }

    fn zeros(&mut self, run: &Run) {
        self.each_of_run(run, &mut |cx, group, lane| {
            let zero = cx.b.float(0.0);
            cx.put_packed(run, group, lane, zero);
        });
    }

    /// The groups and lanes of a run; lanes of the last group that nothing is left for are zero.
    fn each_of_run(&mut self, run: &Run, body: &mut dyn FnMut(&mut Self, Id<Expr>, Id<Expr>)) {
        let (zero, size) = (self.b.int(0), self.b.int(run.lines.group as i64));
        let groups = self.b.binary(Binary::Div, run.count, size);
        self.each(groups, LoopKind::Serial, |cx, group| {
            cx.each(size, LoopKind::Vector, |cx, lane| body(cx, group, lane));
        });
        let left = run.lines.len % run.lines.group;
        if left > 0 {
            let left = self.b.int(left as i64);
            self.range(zero, left, LoopKind::Vector, |cx, lane| body(cx, groups, lane));
            self.range(left, size, LoopKind::Vector, |cx, lane| {
                let zero = cx.b.float(0.0);
                cx.put_packed(run, groups, lane, zero);
            });
        }
    }

    fn put_packed(&mut self, run: &Run, group: Id<Expr>, lane: Id<Expr>, value: Id<Expr>) {
        let group = self.b.add(run.group, group);
        let zero = self.b.int(0);
        let (buffer, index) = match run.lines.packed {
            Packed::Rows(buffer) => (buffer, vec![run.number, group, run.k, lane]),
            Packed::Panels(buffer) if self.low.program.buffers[buffer].shape[2] == Size::fixed(1) => {
                (buffer, vec![run.number, group, zero, run.k, lane])
            }
            Packed::Panels(buffer) => (buffer, vec![run.number, group, run.k, zero, lane]),
            Packed::Places(_) => panic!("lower: rows that are not packed"),
        };
        self.store(buffer, index, value);
    }

    /// Adds the products of a block of so many places.
    fn multiply(&mut self, cut: &Cut, piece: &Piece, batch: Id<Expr>, count: Id<Expr>) {
        let (first, m_extent) = self.rows_of(cut, piece);
        let [m, n, tap, k, acc] = [(); 5].map(|()| self.b.var());
        let (row, zero) = (self.b.read(m), self.b.int(0));
        let Packed::Panels(packed) = cut.columns.packed else { panic!("lower: columns are packed in panels") };
        let (to, value) = (self.b.add(first, row), self.b.read(acc));
        let mut digits = vec![];
        let (a, a_stride, guard, beside) = match cut.rows.packed {
            Packed::Places(places) => {
                let at_row = self.row_in_place(cut, piece, places, (batch, count), (to, tap));
                digits = at_row.digits;
                (at_row.address, 1, Some(at_row.inside), cut.rows.unit)
            }
            Packed::Rows(buffer) | Packed::Panels(buffer) => {
                let group = self.b.int(cut.rows.group as i64);
                let (above, lane) = (self.b.binary(Binary::Div, row, group), self.b.binary(Binary::Mod, row, group));
                let a = Access { buffer, index: vec![piece.number, above, zero, lane] };
                (a, cut.rows.group as i64, None, 1)
            }
        };
        let to = Access { buffer: cut.sums, index: vec![piece.part, batch, to, self.b.read(n)] };
        let [taps, k_extent] = if guard.is_some() { [cut.depth, 1] } else { [1, cut.depth] };
        self.emit(Stmt::Contract(Box::new(Contraction {
            m,
            m_extent,
            row: digits,
            n,
            n_extent: cut.columns.len,
            tap,
            taps,
            k,
            k_extent,
            a,
            a_stride,
            guard,
            beside,
            packed,
            part: Some(piece.number),
            panel: cut.columns.group,
            acc,
            epilogue: vec![Stmt::Accumulate { to, f: Combine::Add, value }],
        })));
    }

    /// The sums of all parts, in their order, times the numbers.
    fn sum_of_parts(&mut self, cut: &Cut, home: &Home) {
        let node = cut.node;
        let parts = self.parts(cut);
        let parts = self.bind(parts);
        let dims: Vec<Size> = node.out.iter().map(|s| cut.sizes[*s as usize]).collect();
        let place = |slot: &Slot| node.out.iter().position(|s| s == slot).expect("lower: an axis of the result");
        let order: Vec<usize> =
            [&cut.outer.batch, &cut.rows.axes, &cut.columns.axes].into_iter().flatten().map(place).collect();
        let mut index = vec![self.b.int(0); dims.len()];
        self.element_loops(&order, &dims, LoopKind::Vector, &mut index, &mut |cx, index| {
            let sum = cx.local_number("acc", 0.0);
            let [batch, row, column] = [&cut.outer.batch, &cut.rows.axes, &cut.columns.axes].map(|axes| {
                let at: Vec<Id<Expr>> = axes.iter().map(|slot| index[place(slot)]).collect();
                let dims: Vec<Size> = axes.iter().map(|slot| cut.sizes[*slot as usize]).collect();
                cx.b.flatten(&at, &dims)
            });
            cx.each(parts, LoopKind::Serial, |cx, part| {
                let value = cx.b.load(cut.sums, vec![part, batch, row, column]);
                cx.emit(Stmt::Accumulate { to: Access { buffer: sum, index: vec![] }, f: Combine::Add, value });
            });
            let mut value = cx.b.load(sum, vec![]);
            let mut slots: Slots = vec![None; cut.sizes.len()];
            for (slot, i) in node.out.iter().zip(index) {
                slots[*slot as usize] = Some(*i);
            }
            for k in &cut.outer.numbers {
                let number = cx.operand(node, *k, &slots);
                value = cx.b.mul(value, number);
            }
            cx.put(home, index, value);
        });
    }
}
