//! Concatenations: a sum whose terms share out the places of one axis is stored term by term, each by its own loops,
//! instead of asking at every place whose it is. The places of a term may lie together or be interleaved with others'; places
//! that no term has are zero. A term of which only the concatenation is read is stored in its places by the kernel that computes it.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{Expr, LoopKind, Stage};
use crate::kernel::lower::cx::Cx;
use crate::kernel::lower::homes::{Facts, When};
use crate::kernel::lower::{Home, Lowering, plan};
use crate::tensor::graph::{Function, Graph, Outside};
use crate::tensor::op::{Node, Op, Slot, ValueId};

/// Places of an axis that are looked at one by one.
const MOST_PLACES: usize = 1 << 16;
/// Runs of places that no term has.
const MOST_GAPS: usize = 32;
/// Numbers of a turn of interleaved blocks that are stored together.
const MOST_IN_A_TURN: usize = 32;

/// One term: a value whose digits `d` are put at the places `begin + Σ scale · d` of an axis.
#[derive(Clone)]
struct Block {
    value: ValueId,
    /// The axes of the value: those of the result by its axis, those of the block by the digit.
    reads: Vec<Place>,
    dims: Vec<usize>,
    scale: Vec<i64>,
    begin: i64,
}

impl Block {
    /// The places of all digits, row-major.
    fn places(&self) -> Vec<i64> {
        let spread = |places: Vec<i64>, (dim, scale): (&usize, &i64)| {
            places.iter().flat_map(|p| (0..*dim as i64).map(move |d| p + scale * d)).collect()
        };
        self.dims.iter().zip(&self.scale).fold(vec![self.begin], spread)
    }

    /// How many places it has.
    fn volume(&self) -> usize {
        self.dims.iter().product()
    }

    /// The part of it whose digit `along` is 0.
    fn turn(&self, along: usize) -> Block {
        let mut turn = self.clone();
        turn.dims[along] = 1;
        turn
    }

    /// Whether its places are as they come.
    fn is_contiguous(&self) -> bool {
        self.places().iter().zip(self.begin..).all(|(place, next)| *place == next)
    }

    /// The order of the value's axes in memory in which it is a part of the whole: the outer axes as there, then the digits.
    fn order(&self, outer: &[usize]) -> Option<Vec<usize>> {
        let wanted = outer.iter().map(|a| Place::Axis(*a)).chain((0..self.dims.len()).map(Place::Digit));
        let order = wanted.map(|p| self.reads.iter().position(|r| *r == p)).collect::<Option<Vec<_>>>()?;
        (order.len() == self.reads.len()).then_some(order)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Axis(usize),
    Digit(usize),
}

/// A sum whose terms share out the places of an axis.
struct Concatenation {
    axis: usize,
    blocks: Vec<Block>,
    /// The runs of places that no term has.
    gaps: Vec<Range<usize>>,
}

/// A value that is stored as a part of a concatenation.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) whole: ValueId,
    order: Vec<usize>,
    begin: usize,
}

impl Part {
    /// Where the value is, in that of the whole.
    pub(super) fn home(&self, graph: &Graph, id: ValueId, whole: &Home) -> Home {
        let dims = self.order.iter().map(|axis| graph.ty(id).dims[*axis]);
        let flat = dims.filter(|d| d.as_fixed().is_some()).collect();
        Home { buffer: whole.buffer, order: self.order.clone(), flat, begin: whole.begin + self.begin }
    }
}

/// The values that are stored as parts of a concatenation, by the kernels that compute them: nobody else reads them.
pub(super) fn parts(graph: &Graph, facts: &Facts) -> BTreeMap<ValueId, Part> {
    let mut readers: BTreeMap<ValueId, usize> = BTreeMap::new();
    facts.live.iter().flat_map(|id| &graph.node(*id).args).for_each(|arg| *readers.entry(*arg).or_default() += 1);
    let hidden = |id: &ValueId| graph.outputs.iter().all(|o| o.id != *id);
    let stored = |id: &ValueId| facts.when[id] == When::Call && !facts.inlined[id] && !facts.has_sum(*id) && hidden(id);
    let mut res = BTreeMap::new();
    let with_rows = |id: &ValueId| facts.rows.iter().any(|group| group.makes(*id));
    for whole in facts.live.iter().copied().filter(|id| stored(id) && !with_rows(id)) {
        let Some(Concatenation { axis, blocks, .. }) = concatenation(graph, whole) else { continue };
        let Some((last, outer)) = facts.order(graph, whole).split_last().map(|(l, o)| (*l, o.to_vec())) else {
            continue;
        };
        if last != axis || outer.iter().any(|a| graph.ty(whole).dims[*a].as_fixed().is_some()) {
            continue;
        }
        for block in blocks.iter().filter(|b| stored(&b.value) && readers[&b.value] == 1 && b.is_contiguous()) {
            // a product may be read by several terms of several sums
            let puts = |id: &&ValueId| graph.node(**id).args.contains(&block.value);
            let once = facts.live.iter().find(puts).is_some_and(|put| readers[put] == 1);
            if let (true, Some(order)) = (once, block.order(&outer)) {
                res.insert(block.value, Part { whole, order, begin: block.begin as usize });
            }
        }
    }
    res
}

fn concatenation(graph: &Graph, id: ValueId) -> Option<Concatenation> {
    let node = graph.node(id);
    if node.op != Op::Sum || node.args.is_empty() {
        return None;
    }
    let mut axis = None;
    let mut blocks = Vec::new();
    for (arg, reads) in node.args.iter().zip(&node.reads) {
        let (along, block) = block(graph, *arg, reads, node)?;
        if *axis.get_or_insert(along) != along {
            return None;
        }
        blocks.push(block);
    }
    let axis = axis?;
    let size = graph.ty(id).dims[axis].as_fixed().filter(|n| *n <= MOST_PLACES)?;
    if blocks.iter().map(Block::volume).sum::<usize>() > size {
        return None;
    }
    let mut taken = vec![false; size];
    for place in blocks.iter().flat_map(Block::places) {
        let free = usize::try_from(place).ok().and_then(|p| taken.get_mut(p)).filter(|taken| !**taken)?;
        *free = true;
    }
    blocks.sort_by_key(|block| block.begin);
    let mut gaps = Vec::new();
    let mut end = 0;
    for run in taken.chunk_by(|a, b| a == b) {
        end += run.len();
        if !run[0] {
            gaps.push(end - run.len()..end);
        }
    }
    (gaps.len() <= MOST_GAPS).then_some(Concatenation { axis, blocks, gaps })
}

/// A term `Σ r[digits.. -> to] · value`, as a block along the axis of the sum that `to` is.
fn block(graph: &Graph, id: ValueId, outer: &[Slot], sum: &Node) -> Option<(usize, Block)> {
    let node = graph.node(id);
    let (Op::Contract, [_, _]) = (&node.op, &node.args[..]) else { return None };
    let at = (0..2).find(|k| matches!(graph.node(node.args[*k]).op, Op::Relation(_)))?;
    let edge = plan::edge(graph, node.args[at], &node.reads[at])?;
    let (value, reads) = (node.args[1 - at], &node.reads[1 - at]);
    let relation = &graph.relations[edge.relation];
    let Function::Affine { scale, offset, divisor: 1, outside: Outside::Zero | Outside::Never } = &relation.map else {
        return None;
    };
    let bound = edge.from.iter().all(|s| !node.out.contains(s) && reads.contains(s));
    let distinct = (1..edge.from.len()).all(|k| !edge.from[..k].contains(&edge.from[k]));
    if offset.size.is_some() || !bound || !distinct || reads.contains(&edge.to) {
        return None;
    }
    let dims = relation.from.iter().map(|d| d.as_fixed()).collect::<Option<Vec<_>>>()?;
    let axis_of = |slot: &Slot| {
        let at = node.out.iter().position(|s| s == slot)?;
        sum.out.iter().position(|s| *s == outer[at])
    };
    let place = |slot: &Slot| match edge.from.iter().position(|s| s == slot) {
        Some(digit) => Some(Place::Digit(digit)),
        None => axis_of(slot).map(Place::Axis),
    };
    let places = reads.iter().map(place).collect::<Option<Vec<_>>>()?;
    let full = node.out.len() == sum.out.len();
    let block = Block { value, reads: places, dims, scale: scale.clone(), begin: offset.constant };
    full.then_some((axis_of(&edge.to)?, block))
}

/// Blocks whose numbers are interleaved: in each of some turns, `stride` places apart, each has the same few places.
struct Interleaved {
    turns: usize,
    stride: i64,
    /// The first turn of each block, and which of its digits counts the turns.
    blocks: Vec<(Block, usize)>,
}

/// The blocks that are interleaved, those with the same turns together, and the others.
fn interleaved(blocks: Vec<Block>) -> (Vec<Interleaved>, Vec<Block>) {
    let (mut rows, mut alone): (Vec<Interleaved>, Vec<Block>) = (vec![], vec![]);
    for block in blocks {
        let longest = (0..block.dims.len()).max_by_key(|k| block.dims[*k]);
        let Some(along) = longest.filter(|k| block.scale[*k] > 1 && block.turn(*k).volume() <= MOST_IN_A_TURN) else {
            alone.push(block);
            continue;
        };
        let (turns, stride, first) = (block.dims[along], block.scale[along], block.turn(along));
        let together = rows.iter_mut().find(|row| {
            let numbers = row.blocks.iter().map(|(turn, _)| turn.volume()).sum::<usize>() + first.volume();
            (row.turns, row.stride) == (turns, stride) && numbers <= MOST_IN_A_TURN
        });
        match together {
            Some(row) => row.blocks.push((first, along)),
            None => rows.push(Interleaved { turns, stride, blocks: vec![(first, along)] }),
        }
    }
    (rows, alone)
}

impl Lowering<'_> {
    /// Stores a concatenation; false where the value is none.
    pub(super) fn concat(&mut self, id: ValueId, home: &Home, stage: Stage) -> bool {
        let Some(Concatenation { axis, mut blocks, gaps }) = concatenation(self.graph, id) else { return false };
        blocks.retain(|block| !self.parts.contains_key(&block.value));
        if blocks.is_empty() && gaps.is_empty() {
            return true;
        }
        let name = format!("concat {}", self.program.buffers[home.buffer].name);
        let dims = self.graph.ty(id).dims.clone();
        let outer: Vec<usize> = home.order.iter().copied().filter(|a| *a != axis).collect();
        let (rows, alone) = interleaved(blocks);
        let mut cx = Cx::new(self);
        let mut index = vec![cx.b.int(0); dims.len()];
        cx.element_loops(&outer, &dims, LoopKind::Parallel, &mut index, &mut |cx, index| {
            for row in &rows {
                cx.put_row(row, home, axis, index);
            }
            for block in &alone {
                // the longest on lanes
                let mut order: Vec<usize> = (0..block.dims.len()).collect();
                order.sort_by_key(|k| block.dims[*k]);
                let mut digits = vec![cx.b.int(0); order.len()];
                cx.each_digit(&block.dims, &order, &mut digits, &mut |cx, digits| {
                    cx.put_block(block, home, axis, index, digits);
                });
            }
            for gap in &gaps {
                let (begin, end) = (cx.b.int(gap.start as i64), cx.b.int(gap.end as i64));
                cx.range(begin, end, LoopKind::Vector, |cx, place| {
                    let mut index = index.to_vec();
                    index[axis] = place;
                    let zero = cx.b.float(0.0);
                    cx.put(home, &index, zero);
                });
            }
        });
        cx.finish(name, stage);
        true
    }
}

impl Cx<'_, '_> {
    /// Stores the numbers that are interleaved: all that belong to one turn side by side, a turn a lane.
    fn put_row(&mut self, row: &Interleaved, home: &Home, axis: usize, index: &[Id<Expr>]) {
        let turns = self.b.int(row.turns as i64);
        self.each(turns, LoopKind::Vector, |cx, turn| {
            let mut numbers = Vec::new();
            for (block, along) in &row.blocks {
                let dims: Vec<Size> = block.dims.iter().map(|n| Size::fixed(*n)).collect();
                for (flat, place) in block.places().into_iter().enumerate() {
                    let flat = cx.b.int(flat as i64);
                    let mut digits = cx.b.unflatten(flat, &dims);
                    digits[*along] = turn;
                    let value = cx.value_of_block(block, index, &digits);
                    numbers.push((place, cx.bind(value)));
                }
            }
            numbers.sort_by_key(|(place, _)| *place);
            let stride = cx.b.int(row.stride);
            let first = cx.b.mul(stride, turn);
            for (place, value) in numbers {
                let place = cx.b.int(place);
                let place = cx.b.add(first, place);
                cx.put_at(home, axis, index, place, value);
            }
        });
    }

    fn put_block(&mut self, block: &Block, home: &Home, axis: usize, index: &[Id<Expr>], digits: &[Id<Expr>]) {
        let value = self.value_of_block(block, index, digits);
        let mut place = self.b.int(block.begin);
        for (scale, digit) in block.scale.iter().zip(digits) {
            let scale = self.b.int(*scale);
            let step = self.b.mul(scale, *digit);
            place = self.b.add(place, step);
        }
        self.put_at(home, axis, index, place, value);
    }

    fn value_of_block(&mut self, block: &Block, index: &[Id<Expr>], digits: &[Id<Expr>]) -> Id<Expr> {
        let at = |place: &Place| match place {
            Place::Axis(axis) => index[*axis],
            Place::Digit(digit) => digits[*digit],
        };
        let from: Vec<Id<Expr>> = block.reads.iter().map(at).collect();
        self.element(block.value, &from)
    }

    fn put_at(&mut self, home: &Home, axis: usize, index: &[Id<Expr>], place: Id<Expr>, value: Id<Expr>) {
        let mut index = index.to_vec();
        index[axis] = place;
        self.put(home, &index, value);
    }

    /// Loops over the digits in this order, the last on lanes.
    fn each_digit(
        &mut self,
        dims: &[usize],
        order: &[usize],
        digits: &mut Vec<Id<Expr>>,
        body: &mut dyn FnMut(&mut Self, &[Id<Expr>]),
    ) {
        let Some((digit, rest)) = order.split_first() else { return body(self, digits) };
        let extent = self.b.int(dims[*digit] as i64);
        let kind = if rest.is_empty() { LoopKind::Vector } else { LoopKind::Serial };
        self.each(extent, kind, |cx, i| {
            digits[*digit] = i;
            cx.each_digit(dims, rest, digits, body);
        });
    }
}
