//! Concatenations: a sum whose terms are blocks of one axis is stored block by block, each by its own loops,
//! instead of asking at every place which block it is in.

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{Expr, LoopKind, Stage};
use crate::kernel::lower::cx::Cx;
use crate::kernel::lower::relation;
use crate::kernel::lower::{Home, Lowering, plan};
use crate::tensor::graph::{Function, Graph};
use crate::tensor::op::{Node, Op, Slot, ValueId};

/// One term: a value put along an axis by a function that counts its axes.
struct Block {
    value: ValueId,
    /// The axes of the value: those of the result by its axis, those of the block by the digit.
    reads: Vec<Place>,
    /// The sizes of the digits, and where the block begins.
    dims: Vec<Size>,
    begin: i64,
}

#[derive(Clone, Copy)]
enum Place {
    Axis(usize),
    Digit(usize),
}

/// The axis along which the terms of a sum are blocks that fill it, and the blocks.
fn blocks(graph: &Graph, id: ValueId) -> Option<(usize, Vec<Block>)> {
    let node = graph.node(id);
    if node.op != Op::Sum || node.args.len() < 2 {
        return None;
    }
    let mut axis = None;
    let mut res = Vec::new();
    for (arg, reads) in node.args.iter().zip(&node.reads) {
        let (along, block) = block(graph, *arg, reads, node)?;
        if *axis.get_or_insert(along) != along {
            return None;
        }
        res.push(block);
    }
    let axis = axis?;
    res.sort_by_key(|block| block.begin);
    let mut end = 0;
    for block in &res {
        if block.begin != end {
            return None;
        }
        end += block.dims.iter().try_fold(1, |n, d| d.as_fixed().map(|d| n * d as i64))?;
    }
    (graph.ty(id).dims[axis].as_fixed() == Some(end as usize)).then_some((axis, res))
}

/// A term `Σ r[digits.. -> to] · value`, as a block along the axis of the sum that `to` is.
fn block(graph: &Graph, id: ValueId, outer: &[Slot], sum: &Node) -> Option<(usize, Block)> {
    let node = graph.node(id);
    let (Op::Contract, [_, _]) = (&node.op, &node.args[..]) else { return None };
    let at = (0..2).find(|k| matches!(graph.node(node.args[*k]).op, Op::Relation(_)))?;
    let edge = plan::edge(graph, node.args[at], &node.reads[at])?;
    let (value, reads) = (node.args[1 - at], &node.reads[1 - at]);
    let relation = &graph.relations[edge.relation];
    let Function::Affine { offset, .. } = &relation.map else { return None };
    let bound = edge.from.iter().all(|s| !node.out.contains(s) && reads.contains(s));
    if !relation::is_digits(relation) || offset.size.is_some() || !bound || reads.contains(&edge.to) {
        return None;
    }
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
    let block = Block { value, reads: places, dims: relation.from.clone(), begin: offset.constant };
    full.then_some((axis_of(&edge.to)?, block))
}

impl Lowering<'_> {
    /// Stores a concatenation; false where the value is none.
    pub(super) fn concat(&mut self, id: ValueId, home: &Home, stage: Stage) -> bool {
        let Some((axis, blocks)) = blocks(self.graph, id) else { return false };
        let name = format!("concat {}", self.program.buffers[home.buffer].name);
        let dims = self.graph.ty(id).dims.clone();
        let outer: Vec<usize> = home.order.iter().copied().filter(|a| *a != axis).collect();
        let mut cx = Cx::new(self);
        let mut index = vec![cx.b.int(0); dims.len()];
        cx.element_loops(&outer, &dims, LoopKind::Serial, &mut index, &mut |cx, index| {
            for block in &blocks {
                cx.each_digit(&block.dims, &mut vec![], &mut |cx, digits| {
                    cx.put_block(block, home, axis, index, digits);
                });
            }
        });
        cx.finish(name, stage);
        true
    }
}

impl Cx<'_, '_> {
    fn put_block(&mut self, block: &Block, home: &Home, axis: usize, index: &[Id<Expr>], digits: &[Id<Expr>]) {
        let at = |place: &Place| match place {
            Place::Axis(axis) => index[*axis],
            Place::Digit(digit) => digits[*digit],
        };
        let from: Vec<Id<Expr>> = block.reads.iter().map(at).collect();
        let value = self.element(block.value, &from);
        let begin = self.b.int(block.begin);
        let flat = self.b.flatten(digits, &block.dims);
        let mut index = index.to_vec();
        index[axis] = self.b.add(flat, begin);
        self.put(home, &index, value);
    }

    fn each_digit(&mut self, dims: &[Size], digits: &mut Vec<Id<Expr>>, body: &mut dyn FnMut(&mut Self, &[Id<Expr>])) {
        let Some((dim, rest)) = dims.split_first() else { return body(self, digits) };
        let extent = self.b.size(*dim);
        let kind = if rest.is_empty() { LoopKind::Vector } else { LoopKind::Serial };
        self.each(extent, kind, |cx, i| {
            digits.push(i);
            cx.each_digit(rest, digits, body);
            digits.pop();
        });
    }
}
