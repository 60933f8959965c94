//! Sums weighted by functions of pairs (`pairs`), by tiles: a block of rows meets a block of entries of the same set in a dense product for each
//! product that the weights are computed of; the weights, number by number, are rows by entries, and a last dense product multiplies them with
//! the values of the entries. Beyond the last entry of a set the weights are zero.

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{Binary, Buffer, Expr, LoopKind, PANEL_BYTES, Stage};
use crate::kernel::lower::attention_tiles::{Blocks, ENTRIES, MOST_BYTES, Product, ROWS, Range, Side};
use crate::kernel::lower::cx::{Cx, Given};
use crate::kernel::lower::element::{Slots, at};
use crate::kernel::lower::pairs::{PairProduct, PairSum};
use crate::kernel::lower::plan;
use crate::kernel::lower::{Home, Lowering};
use crate::tensor::graph::Graph;

/// A product of rows and entries, in a block.
struct Factor<'g> {
    product: &'g PairProduct,
    side: Side<'g>,
    rows: Id<Buffer>,
    entries: Id<Buffer>,
    numbers: Id<Buffer>,
}

/// The sum that is made, and the local arrays of a block.
struct Block<'g> {
    sum: &'g PairSum,
    sizes: &'g [Size],
    factors: Vec<Factor<'g>>,
    value: Side<'g>,
    values: Id<Buffer>,
    sums: Id<Buffer>,
    weights: Id<Buffer>,
    panel: usize,
}

/// Rows of a block, if its arrays fit.
pub(super) fn rows_of_block(graph: &Graph, sum: &PairSum, bytes: usize) -> Option<usize> {
    let node = graph.node(sum.id);
    let value = Side::new(node, sum.kept.clone(), &plan::slot_sizes(graph, node))?;
    let wide = value.len.next_multiple_of(PANEL_BYTES / bytes);
    let (mut of_row, mut of_entry) = (wide + ENTRIES, wide);
    for product in &sum.products {
        let node = graph.node(product.id);
        let side = Side::new(node, product.summed.clone(), &plan::slot_sizes(graph, node))?;
        of_row += side.len + ENTRIES;
        of_entry += side.len;
    }
    ROWS.into_iter().find(|rows| (rows * of_row + ENTRIES * of_entry) * bytes <= MOST_BYTES)
}

impl Lowering<'_> {
    /// The kernel of a sum over pairs.
    pub(super) fn pair_sum(&mut self, sum: &PairSum, home: &Home, stage: Stage) {
        let graph = self.graph;
        let sizes = plan::slot_sizes(graph, graph.node(sum.id));
        let name = format!("pairs {}", self.program.buffers[home.buffer].name);
        let most = rows_of_block(graph, sum, self.program.dtype.bytes()).expect("lower: a block fits");
        let mut cx = Cx::new(self);
        let set = sum.set.as_ref().map(|[of_row, of_entry]| (of_row, of_entry));
        let cut = Blocks { row: sum.row, entry: sum.entry, set, heads: &sum.heads, most };
        cx.each_block_of_rows(&cut, &sizes, &mut |cx, slots, rows, entries| {
            let block = cx.block_of_pairs(sum, &sizes, most);
            cx.pairs_of_block(&block, slots, (rows, entries), home);
        });
        cx.finish(name, stage);
    }
}

impl<'g> Cx<'_, 'g> {
    fn block_of_pairs<'b>(&mut self, sum: &'b PairSum, sizes: &'b [Size], rows: usize) -> Block<'b>
    where
        'g: 'b,
    {
        let graph = self.graph();
        let panel = PANEL_BYTES / self.low.program.dtype.bytes();
        let side = |id, axes: &[u32]| {
            let node = graph.node(id);
            let sizes = plan::slot_sizes(graph, node);
            Side::new(node, axes.to_vec(), &sizes).expect("lower: short axes")
        };
        let mut factors = Vec::new();
        for product in &sum.products {
            let side = side(product.id, &product.summed);
            let of_entry = [ENTRIES.div_ceil(panel), 1, side.len, panel];
            factors.push(Factor {
                product,
                rows: self.local("rows", &[rows, side.len]),
                entries: self.local("entries", &of_entry),
                numbers: self.local("products", &[rows, ENTRIES]),
                side,
            });
        }
        let value = side(sum.id, &sum.kept);
        Block {
            sum,
            sizes,
            factors,
            values: self.local("values", &[value.len.div_ceil(panel), 1, ENTRIES, panel]),
            sums: self.local("sums", &[rows, value.len]),
            weights: self.local("weights", &[rows, ENTRIES]),
            value,
            panel,
        }
    }

    /// Some rows of one set and head.
    fn pairs_of_block(&mut self, block: &Block<'_>, slots: &Slots, (rows, set): (Range, Range), home: &Home) {
        let sum = block.sum;
        let kept = self.b.int(block.value.len as i64);
        self.each(rows.count, LoopKind::Serial, |cx, m| {
            let slots = with(cx, slots, sum.row, rows.first, m);
            for factor in &block.factors {
                let inner = slots_of(factor, &slots);
                let extent = cx.b.int(factor.side.len as i64);
                cx.each(extent, LoopKind::Vector, |cx, k| {
                    let number = cx.factor(&factor.side, &factor.product.of_row, &inner, k);
                    cx.store(factor.rows, vec![m, k], number);
                });
            }
            let zero = cx.b.float(0.0);
            cx.each(kept, LoopKind::Vector, |cx, c| cx.store(block.sums, vec![m, c], zero));
        });
        let blocks = self.blocks(set.count, ENTRIES);
        self.each(blocks, LoopKind::Serial, |cx, number| {
            let most = cx.b.int(ENTRIES as i64);
            let done = cx.b.mul(number, most);
            let (first, left) = (cx.b.add(set.first, done), cx.b.sub(set.count, done));
            let count = cx.b.binary(Binary::Min, left, most);
            let entries = Range { first: cx.bind(first), count: cx.bind(count) };
            cx.pack_pairs(block, slots, entries);
            for factor in &block.factors {
                let depth = factor.side.len;
                let product =
                    Product { rows: rows.count, columns: ENTRIES, depth, a: factor.rows, packed: factor.entries };
                cx.product(block.panel, &product, |cx, (m, n, acc)| cx.store(factor.numbers, vec![m, n], acc));
            }
            cx.weights_of_pairs(block, slots, rows, entries);
            let columns = block.value.len;
            let product = Product { rows: rows.count, columns, depth: ENTRIES, a: block.weights, packed: block.values };
            cx.product(block.panel, &product, |cx, (m, n, acc)| {
                let old = cx.b.load(block.sums, vec![m, n]);
                let new = cx.b.add(old, acc);
                cx.store(block.sums, vec![m, n], new);
            });
        });
        self.each(rows.count, LoopKind::Serial, |cx, m| {
            let mut slots = with(cx, slots, sum.row, rows.first, m);
            let kinds = [LoopKind::Serial, LoopKind::Vector];
            cx.each_slot(&sum.kept, block.sizes, kinds, &mut slots, &mut |cx, slots| {
                let place = at(&sum.kept, slots);
                let column = cx.b.flatten(&place, &block.value.dims);
                let total = cx.b.load(block.sums, vec![m, column]);
                let index = at(&block.value.node.out, slots);
                cx.put(home, &index, total);
            });
        });
    }

    /// Packs what a block of entries has; zeros beyond the last.
    fn pack_pairs(&mut self, block: &Block<'_>, slots: &Slots, entries: Range) {
        let (all, zero) = (self.b.int(ENTRIES as i64), self.b.int(0));
        self.each(entries.count, LoopKind::Serial, |cx, t| {
            let slots = with(cx, slots, block.sum.entry, entries.first, t);
            for factor in &block.factors {
                let inner = slots_of(factor, &slots);
                let depth = cx.b.int(factor.side.len as i64);
                cx.each(depth, LoopKind::Vector, |cx, k| {
                    let number = cx.factor(&factor.side, &factor.product.of_entry, &inner, k);
                    let place = cx.place_in_panel(block.panel, t, k);
                    cx.store(factor.entries, place, number);
                });
            }
            cx.each_column(block.value.len, block.panel, &mut |cx, p, j, inside| {
                let value = match inside {
                    Some(column) => cx.factor(&block.value, &block.sum.values, &slots, column),
                    None => cx.b.float(0.0),
                };
                cx.store(block.values, vec![p, zero, t, j], value);
            });
        });
        self.range(entries.count, all, LoopKind::Serial, |cx, t| {
            let nothing = cx.b.float(0.0);
            for factor in &block.factors {
                let depth = cx.b.int(factor.side.len as i64);
                cx.each(depth, LoopKind::Vector, |cx, k| {
                    let place = cx.place_in_panel(block.panel, t, k);
                    cx.store(factor.entries, place, nothing);
                });
            }
            cx.each_column(block.value.len, block.panel, &mut |cx, p, j, _| {
                cx.store(block.values, vec![p, zero, t, j], nothing);
            });
        });
    }

    /// The weight of each row and entry, of the products that it is computed of.
    fn weights_of_pairs(&mut self, block: &Block<'_>, slots: &Slots, rows: Range, entries: Range) {
        let (sum, node) = (block.sum, block.value.node);
        let all = self.b.int(ENTRIES as i64);
        self.each(rows.count, LoopKind::Serial, |cx, m| {
            let slots = with(cx, slots, sum.row, rows.first, m);
            cx.each(entries.count, LoopKind::Vector, |cx, t| {
                let slots = with(cx, &slots, sum.entry, entries.first, t);
                let number = |f: &Factor| Given { value: f.product.id, expr: cx.b.load(f.numbers, vec![m, t]) };
                cx.given = block.factors.iter().map(number).collect();
                let weight = sum.weights.iter().map(|k| cx.operand(node, *k, &slots)).collect::<Vec<_>>();
                let weight = weight.into_iter().reduce(|x, y| cx.b.mul(x, y)).expect("lower: a pair has a weight");
                cx.given.clear();
                cx.store(block.weights, vec![m, t], weight);
            });
            let nothing = cx.b.float(0.0);
            cx.range(entries.count, all, LoopKind::Serial, |cx, t| cx.store(block.weights, vec![m, t], nothing));
        });
    }
}

/// The axes with one of them at `first + i`.
fn with(cx: &mut Cx, slots: &Slots, slot: u32, first: Id<Expr>, i: Id<Expr>) -> Slots {
    let mut res = slots.clone();
    res[slot as usize] = Some(cx.b.add(first, i));
    res
}

/// The axes of a product, as far as those of the sum are known.
fn slots_of(factor: &Factor<'_>, slots: &Slots) -> Slots {
    let node = factor.side.node;
    let n = node.reads.iter().flatten().chain(&node.out).max().map_or(0, |slot| *slot as usize + 1);
    let mut res: Slots = vec![None; n];
    for (axis, slot) in node.out.iter().zip(&factor.product.axes) {
        res[*axis as usize] = slots[*slot as usize];
    }
    res
}
