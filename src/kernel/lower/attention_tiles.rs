//! Attention by tiles: where a score is a product of what a row has with what an entry has, and rows share their entries (those of one
//! set, or all), a block of rows meets a block of entries in two dense products, with the running softmax of each row between them:
//! scores are `rows x entries`, and the weights they become multiply the entries' values (Dao et al. 2022). Keys and values are packed
//! once a block of rows; beyond the last entry of a set they are zero and their scores are minus infinity, so that no number of another
//! set takes part. Rows of a set of few entries are taken one by one.

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{
    Access, Binary, Buffer, Comparison, Contraction, Expr, LoopKind, PANEL_BYTES, Softmax, Stmt, Var,
};
use crate::kernel::lower::attention::{Made, Target};
use crate::kernel::lower::cx::Cx;
use crate::kernel::lower::element::Slots;
use crate::kernel::lower::plan::{self, Edge, Step};
use crate::kernel::lower::{Hardware, Lowering};
use crate::tensor::op::{Node, Op, Slot};

/// Entries of a block.
pub(super) const ENTRIES: usize = 64;
/// Rows of a block; fewer where they are long.
pub(super) const ROWS: [usize; 4] = [256, 128, 64, 32];
/// Bytes of the local arrays of a block, which are on the stack.
pub(super) const MOST_BYTES: usize = 256 << 10;
/// Products of a score, and entries of a set, below which rows are taken one by one.
const LEAST_PRODUCTS: usize = 4;
const LEAST_ENTRIES: i64 = 32;

/// How an attention is cut into tiles.
pub(super) struct Tiles<'g> {
    /// The sorted table that says which set a row and an entry are of; `None` where all are of one.
    set: Option<[Edge; 2]>,
    /// The axis of the weighted sum that is the entry's.
    entry: Slot,
    /// The sum of products that a score is.
    score: Side<'g>,
    /// Which of its factors the row has, and the entry.
    of_row: Vec<usize>,
    of_entry: Vec<usize>,
    /// What weights are multiplied by.
    value: Side<'g>,
    of_value: Vec<usize>,
    /// Rows of a block, columns of a panel.
    rows: usize,
    panel: usize,
}

/// A node, and axes of it that are one axis of a dense product.
pub(super) struct Side<'g> {
    pub(super) node: &'g Node,
    axes: Vec<Slot>,
    pub(super) dims: Vec<Size>,
    pub(super) len: usize,
}

/// The local arrays of a block of rows.
struct Tile {
    queries: Id<Buffer>,
    keys: Id<Buffer>,
    values: Id<Buffer>,
    scores: Id<Buffer>,
    sums: Id<Buffer>,
    /// Of each row: the greatest score so far, the sum of the weights, and what the newest block left of what was summed.
    tops: Id<Buffer>,
    totals: Id<Buffer>,
    keeps: Id<Buffer>,
}

/// How rows that share entries are cut into blocks.
pub(super) struct Blocks<'e> {
    pub(super) row: Slot,
    pub(super) entry: Slot,
    /// By which tables a row is of a set, and an entry; `None` where all are of one.
    pub(super) set: Option<(&'e Edge, &'e Edge)>,
    pub(super) heads: &'e [Slot],
    /// Rows of a block at most.
    pub(super) most: usize,
}

/// Rows or entries that follow each other.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) first: Id<Expr>,
    pub(super) count: Id<Expr>,
}

/// A dense product in a block: rows of a local array times local panels.
pub(super) struct Product {
    pub(super) rows: Id<Expr>,
    pub(super) columns: usize,
    pub(super) depth: usize,
    pub(super) a: Id<Buffer>,
    pub(super) packed: Id<Buffer>,
}

impl<'g> Side<'g> {
    pub(super) fn new(node: &'g Node, axes: Vec<Slot>, sizes: &[Size]) -> Option<Side<'g>> {
        let dims: Vec<Size> = axes.iter().map(|slot| sizes[*slot as usize]).collect();
        let len = dims.iter().map(|dim| dim.as_fixed()).product::<Option<usize>>()?;
        Some(Side { node, axes, dims, len })
    }
}

impl<'g> Lowering<'g> {
    /// How the rows of a sum can be taken by tiles, if they can.
    pub(super) fn tiles(&mut self, made: &Made<'_>) -> Option<Tiles<'g>> {
        let (graph, attention) = (self.graph, made.attention);
        let node = graph.node(attention.id);
        let (set, entry) = match &made.plan.steps[..] {
            [Step::Loop { slot }] => (None, *slot),
            [Step::Define(of_row), Step::Rows(edge)] if of_row.relation == edge.relation => {
                let alone = of_row.from == [attention.row] && of_row.to == edge.to && edge.from.len() == 1;
                (Some([of_row.clone(), edge.clone()]), *edge.from.first().filter(|_| alone)?)
            }
            _ => return None,
        };
        if self.hardware != Hardware::Cpu
            || !made.of_kept.is_empty()
            || self.homes.contains_key(&attention.softmax.score)
        {
            return None;
        }
        let of_value: Vec<usize> = made.factors_of_value().collect();
        let score = graph.node(attention.softmax.score);
        let place = |slot: Slot| node.reads[attention.weights].iter().position(|s| *s == slot).map(|p| score.out[p]);
        let (row, column) = (place(attention.row)?, place(entry)?);
        let steps = plan::plan(graph, score).steps;
        let summed = steps.iter().map(|step| match step {
            Step::Loop { slot } | Step::Only { slot } => Some(*slot),
            Step::Define(_) | Step::Check(_) | Step::Solve { .. } | Step::Digits(_) => None,
            Step::Fibre(_) | Step::Rows(_) => None,
        });
        let summed = summed.collect::<Option<Vec<Slot>>>()?;
        let (of_entry, of_row): (Vec<usize>, Vec<usize>) =
            (0..score.args.len()).partition(|k| score.reads[*k].contains(&column));
        let apart = !of_entry.iter().any(|k| score.reads[*k].contains(&row));
        let shared = !of_value.iter().any(|k| node.reads[*k].contains(&attention.row));
        let score = Side::new(score, summed, &plan::slot_sizes(graph, score))?;
        let value = Side::new(node, attention.kept.clone(), &made.sizes)?;
        let product = score.node.op == Op::Contract && score.len >= LEAST_PRODUCTS;
        let sorted = set.as_ref().is_none_or(|[edge, _]| self.rows(edge.relation).entry.is_none());
        let bytes = self.program.dtype.bytes();
        let panel = PANEL_BYTES / bytes;
        let wide = value.len.next_multiple_of(panel);
        let packed = ENTRIES * (score.len + wide);
        let fits = |rows: &usize| (packed + rows * (score.len + ENTRIES + wide + 3)) * bytes <= MOST_BYTES;
        let rows = ROWS.into_iter().find(fits)?;
        let tiled = product && apart && shared && sorted;
        tiled.then_some(Tiles { set, entry, score, of_row, of_entry, value, of_value, rows, panel })
    }
}

impl Cx<'_, '_> {
    /// Takes all rows, in blocks that are cut where sets end.
    pub(super) fn by_tiles(&mut self, made: &Made<'_>, tiles: &Tiles<'_>, target: &Target<'_>) {
        let row = made.attention.row;
        let set = tiles.set.as_ref().map(|[of_row, of_entry]| (of_row, of_entry));
        let cut = Blocks { row, entry: tiles.entry, set, heads: &made.attention.heads, most: tiles.rows };
        self.each_block_of_rows(&cut, &made.sizes, &mut |cx, slots, of_block, set| {
            let least = cx.b.int(LEAST_ENTRIES);
            let few = cx.b.compare(Comparison::Lt, set.count, least);
            cx.when(Some(few), |cx| {
                cx.each(of_block.count, LoopKind::Serial, |cx, m| {
                    slots[row as usize] = Some(cx.b.add(of_block.first, m));
                    cx.row_by_itself(made, target, slots);
                });
            });
            let many = cx.b.compare(Comparison::Le, least, set.count);
            cx.when(Some(many), |cx| cx.block_of_set(made, tiles, target, slots, (of_block, set)));
        });
    }

    /// The blocks of rows of each head, cut where sets end, with the entries of the set. Blocks of one head follow each other, so that
    /// what it has of the entries stays in the caches.
    pub(super) fn each_block_of_rows(
        &mut self,
        cut: &Blocks<'_>,
        sizes: &[Size],
        body: &mut dyn FnMut(&mut Self, &mut Slots, Range, Range),
    ) {
        let (all, most) = (self.b.size(sizes[cut.row as usize]), self.b.int(cut.most as i64));
        let blocks = self.blocks(all, cut.most);
        let dims: Vec<Size> = cut.heads.iter().map(|slot| sizes[*slot as usize]).collect();
        let mut pieces = blocks;
        for dim in &dims {
            let dim = self.b.size(*dim);
            pieces = self.b.mul(pieces, dim);
        }
        self.each(pieces, LoopKind::Parallel, |cx, piece| {
            let (head, block) = (cx.b.binary(Binary::Div, piece, blocks), cx.b.binary(Binary::Mod, piece, blocks));
            let first = if dims.is_empty() { cx.b.mul(piece, most) } else { cx.b.mul(block, most) };
            let last = cx.b.add(first, most);
            let last = cx.b.binary(Binary::Min, last, all);
            let (first, last) = (cx.bind(first), cx.bind(last));
            let mut slots: Slots = vec![None; sizes.len()];
            for (slot, i) in cut.heads.iter().zip(cx.b.unflatten(head, &dims)) {
                slots[*slot as usize] = Some(cx.bind(i));
            }
            let whole = cx.b.size(sizes[cut.entry as usize]);
            cx.each_set(cut.set, (cut.row, whole), &mut slots, (first, last), &mut |cx, slots, set| {
                let rows = cx.rows_of_set(cut.set.is_some(), set, (first, last));
                body(cx, slots, rows, set);
            });
        });
    }

    /// How many blocks there are of so many numbers.
    pub(super) fn blocks(&mut self, count: Id<Expr>, size: usize) -> Id<Expr> {
        let (size, round) = (self.b.int(size as i64), self.b.int(size as i64 - 1));
        let count = self.b.add(count, round);
        self.b.binary(Binary::Div, count, size)
    }

    /// The sets that have rows from the first to before the last: by which tables a row is of one, and an entry; or the `whole` of an axis.
    fn each_set(
        &mut self,
        set: Option<(&Edge, &Edge)>,
        (row, whole): (Slot, Id<Expr>),
        slots: &mut Slots,
        (first, last): (Id<Expr>, Id<Expr>),
        body: &mut dyn FnMut(&mut Self, &mut Slots, Range),
    ) {
        let Some((of_row, edge)) = set else {
            let all = Range { first: self.b.int(0), count: whole };
            return body(self, slots, all);
        };
        let one = self.b.int(1);
        let final_row = self.b.sub(last, one);
        let [low, high] = [first, final_row].map(|index| {
            slots[row as usize] = Some(index);
            self.settle_all(&[Step::Define(of_row.clone())], slots);
            slots[edge.to as usize].expect("lower: just defined")
        });
        let end = self.b.add(high, one);
        self.range(low, end, LoopKind::Serial, |cx, set| {
            slots[edge.to as usize] = Some(set);
            let (begin, end) = cx.row_range(edge, slots);
            let count = cx.b.sub(end, begin);
            let count = cx.bind(count);
            body(cx, slots, Range { first: begin, count });
        });
    }

    /// The rows of a block that are of a set: all of them, where there is one set.
    fn rows_of_set(&mut self, cut: bool, set: Range, (first, last): (Id<Expr>, Id<Expr>)) -> Range {
        if !cut {
            let count = self.b.sub(last, first);
            return Range { first, count: self.bind(count) };
        }
        let end = self.b.add(set.first, set.count);
        let end = self.b.binary(Binary::Min, end, last);
        let first = self.b.binary(Binary::Max, set.first, first);
        let first = self.bind(first);
        let count = self.b.sub(end, first);
        Range { first, count: self.bind(count) }
    }

    /// Some rows of one set and head.
    fn block_of_set(
        &mut self,
        made: &Made<'_>,
        tiles: &Tiles<'_>,
        target: &Target<'_>,
        slots: &Slots,
        (rows, set): (Range, Range),
    ) {
        let tile = self.tile(tiles);
        self.start(made, tiles, slots, rows, &tile);
        let blocks = self.blocks(set.count, ENTRIES);
        self.each(blocks, LoopKind::Serial, |cx, block| {
            let most = cx.b.int(ENTRIES as i64);
            let done = cx.b.mul(block, most);
            let (first, left) = (cx.b.add(set.first, done), cx.b.sub(set.count, done));
            let count = cx.b.binary(Binary::Min, left, most);
            let entries = Range { first: cx.bind(first), count: cx.bind(count) };
            cx.pack_entries(made, tiles, slots, entries, &tile);
            cx.scores_of_tile(tiles, rows, &tile);
            let Tile { scores, tops, totals, keeps, .. } = tile;
            cx.emit(Stmt::Softmax(Softmax { rows: rows.count, count: entries.count, scores, tops, totals, keeps }));
            cx.sums_of_tile(tiles, rows, &tile);
        });
        self.each(rows.count, LoopKind::Serial, |cx, m| {
            let mut slots = slots.clone();
            slots[made.attention.row as usize] = Some(cx.b.add(rows.first, m));
            let (top, total) = (cx.b.load(tile.tops, vec![m]), cx.b.load(tile.totals, vec![m]));
            let inverse = cx.inverse(top, total);
            cx.statistics(made, target, &slots, [top, inverse]);
            cx.finished(made, target, &mut slots, inverse, &mut |cx, place| {
                let column = cx.b.flatten(&place, &tiles.value.dims);
                cx.b.load(tile.sums, vec![m, column])
            });
        });
    }

    fn tile(&mut self, tiles: &Tiles<'_>) -> Tile {
        let (rows, panel) = (tiles.rows, tiles.panel);
        Tile {
            queries: self.local("queries", &[rows, tiles.score.len]),
            keys: self.local("keys", &[ENTRIES.div_ceil(panel), 1, tiles.score.len, panel]),
            values: self.local("values", &[tiles.value.len.div_ceil(panel), 1, ENTRIES, panel]),
            scores: self.local("scores", &[rows, ENTRIES]),
            sums: self.local("sums", &[rows, tiles.value.len]),
            tops: self.local("tops", &[rows]),
            totals: self.local("totals", &[rows]),
            keeps: self.local("keeps", &[rows]),
        }
    }

    /// Copies the rows' factors side by side, and sets what is kept for each row.
    fn start(&mut self, made: &Made<'_>, tiles: &Tiles<'_>, slots: &Slots, rows: Range, tile: &Tile) {
        self.each(rows.count, LoopKind::Serial, |cx, m| {
            let mut slots = slots.clone();
            slots[made.attention.row as usize] = Some(cx.b.add(rows.first, m));
            let of_score = cx.slots_of_score(made, tiles, &slots);
            let (extent, kept) = (cx.b.int(tiles.score.len as i64), cx.b.int(tiles.value.len as i64));
            cx.each(extent, LoopKind::Vector, |cx, k| {
                let factor = cx.factor(&tiles.score, &tiles.of_row, &of_score, k);
                cx.store(tile.queries, vec![m, k], factor);
            });
            let (zero, least) = (cx.b.float(0.0), cx.b.float(f64::NEG_INFINITY));
            cx.store(tile.tops, vec![m], least);
            cx.store(tile.totals, vec![m], zero);
            cx.each(kept, LoopKind::Vector, |cx, n| cx.store(tile.sums, vec![m, n], zero));
        });
    }

    /// The axes of the score, as far as those of the sum are known.
    fn slots_of_score(&mut self, made: &Made<'_>, tiles: &Tiles<'_>, slots: &Slots) -> Slots {
        let n = tiles.score.node.reads.iter().flatten().chain(&tiles.score.node.out).max();
        let mut res: Slots = vec![None; n.map_or(0, |slot| *slot as usize + 1)];
        let reads = &tiles.value.node.reads[made.attention.weights];
        for (axis, slot) in tiles.score.node.out.iter().zip(reads) {
            res[*axis as usize] = slots[*slot as usize];
        }
        res
    }

    /// The product of some operands of a side, at one place along its axes.
    pub(super) fn factor(&mut self, side: &Side<'_>, operands: &[usize], slots: &Slots, flat: Id<Expr>) -> Id<Expr> {
        let mut slots = slots.clone();
        let index = self.b.unflatten(flat, &side.dims);
        for (slot, i) in side.axes.iter().zip(index) {
            slots[*slot as usize] = Some(i);
        }
        let factors: Vec<Id<Expr>> = operands.iter().map(|k| self.operand(side.node, *k, &slots)).collect();
        factors.into_iter().reduce(|x, y| self.b.mul(x, y)).unwrap_or_else(|| self.b.float(1.0))
    }

    /// Packs the keys of a block of entries in panels of entries, their values in panels of what is kept.
    fn pack_entries(&mut self, made: &Made<'_>, tiles: &Tiles<'_>, slots: &Slots, entries: Range, tile: &Tile) {
        let (depth, all) = (self.b.int(tiles.score.len as i64), self.b.int(ENTRIES as i64));
        let zero = self.b.int(0);
        self.each(entries.count, LoopKind::Serial, |cx, t| {
            let mut slots = slots.clone();
            let entry = cx.b.add(entries.first, t);
            slots[tiles.entry as usize] = Some(entry);
            let of_score = cx.slots_of_score(made, tiles, &slots);
            cx.each(depth, LoopKind::Vector, |cx, k| {
                let factor = cx.factor(&tiles.score, &tiles.of_entry, &of_score, k);
                let place = cx.place_in_panel(tiles.panel, t, k);
                cx.store(tile.keys, place, factor);
            });
            cx.each_column(tiles.value.len, tiles.panel, &mut |cx, p, j, inside| {
                let value = match inside {
                    Some(column) => cx.factor(&tiles.value, &tiles.of_value, &slots, column),
                    None => cx.b.float(0.0),
                };
                cx.store(tile.values, vec![p, zero, t, j], value);
            });
        });
        self.range(entries.count, all, LoopKind::Serial, |cx, t| {
            let nothing = cx.b.float(0.0);
            cx.each(depth, LoopKind::Vector, |cx, k| {
                let place = cx.place_in_panel(tiles.panel, t, k);
                cx.store(tile.keys, place, nothing);
            });
            cx.each_column(tiles.value.len, tiles.panel, &mut |cx, p, j, _| {
                cx.store(tile.values, vec![p, zero, t, j], nothing)
            });
        });
    }

    /// Where number `k` of entry `t` of a block is, in panels of entries.
    pub(super) fn place_in_panel(&mut self, panel: usize, t: Id<Expr>, k: Id<Expr>) -> Vec<Id<Expr>> {
        let (panel, zero) = (self.b.int(panel as i64), self.b.int(0));
        vec![self.b.binary(Binary::Div, t, panel), zero, k, self.b.binary(Binary::Mod, t, panel)]
    }

    /// The panels and lanes of what is kept, with the column, where there is one: panels that are full, then the rest of the last.
    pub(super) fn each_column(
        &mut self,
        len: usize,
        panel: usize,
        body: &mut dyn FnMut(&mut Self, Id<Expr>, Id<Expr>, Option<Id<Expr>>),
    ) {
        let (zero, width) = (self.b.int(0), self.b.int(panel as i64));
        let (full, left) = (len / panel, len % panel);
        let panels = self.b.int(full as i64);
        let mut column = |cx: &mut Self, p: Id<Expr>, j: Id<Expr>| {
            let before = cx.b.mul(p, width);
            let column = cx.b.add(before, j);
            body(cx, p, j, Some(column));
        };
        if full > 0 {
            self.each(panels, LoopKind::Serial, |cx, p| {
                cx.each(width, LoopKind::Vector, |cx, j| column(cx, p, j));
            });
        }
        if left > 0 {
            let left = self.b.int(left as i64);
            self.range(zero, left, LoopKind::Vector, |cx, j| column(cx, panels, j));
            self.range(left, width, LoopKind::Vector, |cx, j| body(cx, panels, j, None));
        }
    }

    /// `scores = queries · keys`
    fn scores_of_tile(&mut self, tiles: &Tiles<'_>, rows: Range, tile: &Tile) {
        let product =
            Product { rows: rows.count, columns: ENTRIES, depth: tiles.score.len, a: tile.queries, packed: tile.keys };
        self.product(tiles.panel, &product, |cx, (m, n, acc)| cx.store(tile.scores, vec![m, n], acc));
    }

    /// `sums = keep · sums + weights · values`
    fn sums_of_tile(&mut self, tiles: &Tiles<'_>, rows: Range, tile: &Tile) {
        let product =
            Product { rows: rows.count, columns: tiles.value.len, depth: ENTRIES, a: tile.scores, packed: tile.values };
        self.product(tiles.panel, &product, |cx, (m, n, acc)| {
            let (old, keep) = (cx.b.load(tile.sums, vec![m, n]), cx.b.load(tile.keeps, vec![m]));
            let new = cx.b.fma(old, keep, acc);
            cx.store(tile.sums, vec![m, n], new);
        });
    }

    pub(super) fn product(
        &mut self,
        panel: usize,
        product: &Product,
        epilogue: impl FnOnce(&mut Self, (Id<Expr>, Id<Expr>, Id<Expr>)),
    ) {
        let vars: [Var; 5] = [(); 5].map(|()| self.b.var());
        let [m, n, tap, k, acc] = vars;
        let read = [m, n, acc].map(|var| self.b.read(var));
        let a = Access { buffer: product.a, index: vec![read[0], self.b.int(0)] };
        self.open();
        epilogue(self, (read[0], read[1], read[2]));
        let epilogue = self.close();
        self.emit(Stmt::Contract(Box::new(Contraction {
            m,
            m_extent: product.rows,
            row: vec![],
            n,
            n_extent: product.columns,
            tap,
            taps: 1,
            k,
            k_extent: product.depth,
            a,
            a_stride: 1,
            guard: None,
            beside: 1,
            packed: product.packed,
            part: None,
            panel,
            acc,
            epilogue,
        })));
    }
}
