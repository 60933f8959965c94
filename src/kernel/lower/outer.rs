//! Sums along run-time axes of products of two values of the call, of which only short axes are left: the derivatives of
//! weights. A few rows of the result are added up together, columns on lanes, so that every number is loaded once for all;
//! the sum is cut into blocks that stay in the caches while all columns pass by them, its parts added up in the result.

use std::collections::BTreeMap;

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{Binary, Buffer, Expr, LoopKind, Stage};
use crate::kernel::lower::cx::Cx;
use crate::kernel::lower::element::Slots;
use crate::kernel::lower::homes::When;
use crate::kernel::lower::plan::{self, Plan, Step};
use crate::kernel::lower::{Home, Lowering, normal};
use crate::tensor::graph::Graph;
use crate::tensor::op::{Node, Op, Slot, ValueId};

/// Rows of the result whose sums are in registers together.
const MOST_ROWS: usize = 8;
/// Columns below which lanes are wasted.
const LEAST_COLUMNS: usize = 4;
/// Places of the summed axes that a block has, about: a cache line of both values for each stays in the first-level cache, also where
/// their rows lie so far apart that they share few of its sets.
const BLOCK: usize = 32;

/// How such a sum is visited.
#[derive(Clone, Debug)]
pub(super) struct Outer {
    plan: Plan,
    /// The axis of the result on the lanes.
    column: Slot,
    /// The axis of the result of which this many places are added up together.
    rows: Option<(Slot, usize)>,
    /// The axes of the result whose operand the column's is too.
    beside: Vec<Slot>,
    /// The step whose loop is cut, and how many places a block has.
    cut: (usize, usize),
}

/// Whether a value is such a sum, and how.
pub(super) fn classify(graph: &Graph, id: ValueId, when: &BTreeMap<ValueId, When>) -> Option<Outer> {
    let node = graph.node(id);
    if node.op != Op::Contract || when[&id] != When::Call {
        return None;
    }
    let plan = plan::plan(graph, node);
    let sizes = plan::slot_sizes(graph, node);
    let extent = |s: &Slot| sizes[*s as usize].as_fixed();
    let long = |step: &Step| matches!(step, Step::Loop { slot } if extent(slot).is_none());
    let tensors = normal::tensors(graph, node, &plan.factors);
    let late = |k: &usize| when[&node.args[*k]] == When::Call;
    if !plan.steps.iter().any(long) || tensors.len() != 2 || !tensors.iter().all(late) {
        return None;
    }
    if node.out.iter().any(|s| extent(s).is_none()) {
        return None;
    }
    let free = |s: &&Slot| !plan.steps.iter().any(|step| step.reads(**s));
    let readers = |s: Slot| tensors.iter().copied().filter(|k| node.reads[*k].contains(&s)).collect::<Vec<_>>();
    let own = node.out.iter().filter(free).filter(|s| readers(**s).len() == 1);
    let column = own.copied().filter(|s| extent(s) >= Some(LEAST_COLUMNS)).max_by_key(extent)?;
    let others = node.out.iter().filter(free).copied().filter(|s| *s != column && !readers(*s).is_empty());
    let rows = others.map(|s| (readers(s) != readers(column), together(extent(&s).unwrap_or(1)), s)).max();
    let rows = rows.map(|(_, n, s)| (s, n));
    let is_beside =
        |s: &&Slot| **s != column && rows.is_none_or(|(row, _)| **s != row) && readers(**s) == readers(column);
    let beside = node.out.iter().filter(free).filter(is_beside).copied().collect();
    let hint = |step: &Step| match step {
        Step::Loop { slot } => graph.sizes.hint(sizes[*slot as usize]).max(1),
        Step::Only { .. } | Step::Define(_) | Step::Check(_) | Step::Solve { .. } | Step::Digits(_) => 1,
        Step::Fibre(_) | Step::Rows(_) => 1,
    };
    let at = plan.steps.iter().position(long)?;
    let inside: usize = plan.steps[at + 1..].iter().map(hint).product();
    Some(Outer { column, rows, beside, cut: (at, (BLOCK / inside).max(1)), plan })
}

/// How many of `n` rows are added up together: all in equal parts.
fn together(n: usize) -> usize {
    (1..=MOST_ROWS.min(n)).rev().find(|rows| n % rows == 0).unwrap_or(1)
}

impl Outer {
    /// The axes of an operand that are read on the lanes.
    pub(super) fn lane_axes(&self, node: &Node, operand: ValueId) -> Vec<usize> {
        let reads = node.args.iter().zip(&node.reads).filter(|(arg, _)| **arg == operand);
        reads.flat_map(|(_, reads)| (0..reads.len()).filter(|k| reads[*k] == self.column)).collect()
    }
}

impl Lowering<'_> {
    /// The kernel of such a sum.
    pub(super) fn outer(&mut self, id: ValueId, outer: &Outer, home: &Home, stage: Stage) {
        let node = self.graph.node(id);
        let dims = self.graph.ty(id).dims.clone();
        let axis = |slot: &Slot| node.out.iter().position(|s| s == slot).expect("lower: an axis of the result");
        let column = axis(&outer.column);
        let beside: Vec<usize> = outer.beside.iter().map(axis).collect();
        let alone = |a: &usize| !beside.contains(a) && *a != column && outer.rows.is_none_or(|(s, _)| axis(&s) != *a);
        let alone: Vec<usize> = home.order.iter().copied().filter(alone).collect();
        let name = format!("outer {}", self.program.buffers[home.buffer].name);
        let mut cx = Cx::new(self);
        let tile = Tile { node, outer, home, rows: outer.rows.map(|(slot, n)| (axis(&slot), n)), column };
        let mut index = vec![cx.b.int(0); dims.len()];
        cx.element_loops(&alone, &dims, LoopKind::Parallel, &mut index, &mut |cx, index| {
            let (rows, n) = tile.rows.unwrap_or((0, 1));
            let count = tile.rows.map_or(1, |_| dims[rows].as_fixed().expect("lower: rows are fixed") / n);
            let extent = cx.b.int(count as i64);
            cx.each(extent, LoopKind::Parallel, |cx, number| {
                let mut index = index.to_vec();
                let n = cx.b.int(n as i64);
                if tile.rows.is_some() {
                    index[rows] = cx.b.mul(number, n);
                }
                cx.blocks(&tile, &beside, &dims, &mut index);
            });
        });
        cx.finish(name, stage);
    }
}

/// Rows of the result that are added up together, at a column.
struct Tile<'t> {
    node: &'t Node,
    outer: &'t Outer,
    home: &'t Home,
    /// The axis of the rows and how many they are; and the axis of the column.
    rows: Option<(usize, usize)>,
    column: usize,
}

impl Cx<'_, '_> {
    /// Zeros, and then the sums of all blocks.
    fn blocks(&mut self, tile: &Tile, beside: &[usize], dims: &[Size], index: &mut Vec<Id<Expr>>) {
        self.columns(tile, beside, dims, index, &mut |cx, index| {
            let zero = cx.b.float(0.0);
            for index in cx.places(tile, index) {
                cx.put(tile.home, &index, zero);
            }
        });
        let (at, places) = tile.outer.cut;
        let Step::Loop { slot } = tile.outer.plan.steps[at] else { panic!("lower: a loop is cut") };
        let size = plan::slot_sizes(self.graph(), tile.node)[slot as usize];
        let (size, one, places) = (self.b.size(size), self.b.int(1), self.b.int(places as i64));
        let last = self.b.sub(places, one);
        let padded = self.b.add(size, last);
        let n_blocks = self.b.binary(Binary::Div, padded, places);
        self.each(n_blocks, LoopKind::Serial, |cx, block| {
            let begin = cx.b.mul(block, places);
            let end = cx.b.add(begin, places);
            let end = cx.b.binary(Binary::Min, end, size);
            let (begin, end) = (cx.bind(begin), cx.bind(end));
            cx.columns(tile, beside, dims, index, &mut |cx, index| cx.block(tile, (begin, end), index));
        });
    }

    /// Loops over the columns, the innermost axis on lanes.
    fn columns(
        &mut self,
        tile: &Tile,
        beside: &[usize],
        dims: &[Size],
        index: &mut Vec<Id<Expr>>,
        body: &mut dyn FnMut(&mut Self, &[Id<Expr>]),
    ) {
        let axes: Vec<usize> = beside.iter().copied().chain([tile.column]).collect();
        self.inner_loops(&axes, dims, LoopKind::Vector, index, body);
    }

    /// The indices of the rows from `index` on.
    fn places(&mut self, tile: &Tile, index: &[Id<Expr>]) -> Vec<Vec<Id<Expr>>> {
        let Some((axis, n)) = tile.rows else { return vec![index.to_vec()] };
        let mut res = vec![index.to_vec(); n];
        for (r, index) in res.iter_mut().enumerate() {
            let r = self.b.int(r as i64);
            index[axis] = self.b.add(index[axis], r);
        }
        res
    }

    /// Adds the products of one block to the sums of the rows.
    fn block(&mut self, tile: &Tile, (begin, end): (Id<Expr>, Id<Expr>), index: &[Id<Expr>]) {
        let Tile { node, outer, .. } = *tile;
        let sizes = plan::slot_sizes(self.graph(), node);
        let mut slots: Slots = vec![None; sizes.len()];
        for (slot, i) in node.out.iter().zip(index) {
            slots[*slot as usize] = Some(*i);
        }
        let places = self.places(tile, index);
        let sums: Vec<Id<Buffer>> = places.iter().map(|place| self.local_copy(tile.home, place)).collect();
        let (before, rest) = outer.plan.steps.split_at(outer.cut.0);
        let Some((Step::Loop { slot }, inside)) = rest.split_first() else { panic!("lower: a loop is cut") };
        self.nest(before, &sizes, &mut slots, &mut |cx, slots| {
            cx.range(begin, end, LoopKind::Serial, |cx, i| {
                slots[*slot as usize] = Some(i);
                cx.nest(inside, &sizes, slots, &mut |cx, slots| cx.add_rows(tile, slots, &places, &sums));
            });
        });
        for (place, sum) in places.iter().zip(&sums) {
            let value = self.b.load(*sum, vec![]);
            self.put(tile.home, place, value);
        }
    }

    /// One product for each row.
    fn add_rows(&mut self, tile: &Tile, slots: &mut Slots, places: &[Vec<Id<Expr>>], sums: &[Id<Buffer>]) {
        let row = tile.rows.map(|(axis, _)| (axis, tile.node.out[axis]));
        let reads = |k: &usize| row.is_some_and(|(_, row)| tile.node.reads[*k].contains(&row));
        let (by_row, common): (Vec<usize>, Vec<usize>) = tile.outer.plan.factors.iter().copied().partition(reads);
        let values: Vec<Id<Expr>> = common.iter().map(|k| self.operand(tile.node, *k, slots)).collect();
        let shared = values.into_iter().reduce(|x, y| self.b.mul(x, y));
        let shared = shared.map(|value| self.bind(value));
        for (place, sum) in places.iter().zip(sums) {
            if let Some((axis, row)) = row {
                slots[row as usize] = Some(place[axis]);
            }
            let own = by_row.iter().map(|k| self.operand(tile.node, *k, slots));
            let factors: Vec<Id<Expr>> = own.chain(shared).collect();
            self.accumulate_product(*sum, vec![], &factors);
        }
    }

    /// A local number that starts as an element of a stored value is.
    fn local_copy(&mut self, home: &Home, index: &[Id<Expr>]) -> Id<Buffer> {
        let sum = self.local("acc", &[]);
        let place = self.place(home, index);
        let start = self.b.load(home.buffer, place);
        self.store(sum, vec![], start);
        sum
    }
}
