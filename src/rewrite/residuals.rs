//! Which values of a forward pass its backward pass is handed, and which it computes again: what costs least.
//!
//! In: a program and its derivatives by reverse mode as one program, rewritten. What does not depend on a cotangent can be computed by either
//! pass. Reading `u` in the backward pass means that `u` was kept (written by the one and read by the other, and a tensor more for the caller)
//! or is computed again from values that are there in their turn. Under prices that add up, the cheapest choice is a minimum cut (Picard 1976:
//! the maximal closure of a graph; Jain et al. 2020 for rematerialisation as such; PyTorch's AOTAutograd has a cut of the same network where
//! recomputing is free or forbidden): each value `v` is two vertices,
//!
//! ```text
//! source ──again(v)──▶ v computed again ──keep(v)──▶ v there        u there ──never──▶ v computed again, for operands u of v
//! ```
//!
//! and what derivatives read is joined to the sink. What is on the side of the sink is so; an edge that is cut is paid.
//!
//! The price of computing again is that of `cost`, but for what is pointwise or sums short axes alone: it is computed inside the kernel that
//! reads it, in vectors, and moves nothing. Inputs are there, and so is what needs no data (filters, packed weights), which each program prepares for itself.
//! What only derivatives need has to be computed by one of the two anyway: by the backward pass, at no price, unless keeping it saves more.
//! Numbers of pairs of points are never kept: kernels compute them where they are summed.

use crate::base::size::Size;
use crate::rewrite::cost::{Target, seconds_of_work};
use crate::rewrite::min_cut::{NEVER, Network};
use crate::tensor::cost::{Shape, operand, volume, work};
use crate::tensor::graph::{Graph, Needs};
use crate::tensor::op::{Node, Op, Slot, ValueId};
use crate::tensor::pass::two_passes::Joint;

/// Operations a second of pointwise functions in vectors, relative to other loops.
const IN_VECTORS: f64 = 4.0;
/// What keeping a value costs that the forward pass stores for this alone, relative to one that it stores anyway.
const FOR_THIS_ALONE: f64 = 1.5;
/// Seconds that a tensor costs a caller who makes it, holds it and hands it on.
const TENSOR: f64 = 2e-6;

/// The values to keep, in order.
pub fn residuals(joint: &Joint, target: &Target) -> Vec<ValueId> {
    let graph = &joint.graph;
    let (backward, needed, pairs) = (joint.depends(), graph.needed(false), of_pairs(graph));
    let forward = graph.needed_by(graph.outputs[..joint.outputs].iter().map(|o| o.id), false);
    let stored = stored(graph, &forward, joint.outputs);
    let (again, there) = (|id: ValueId| 2 * usize::from(id), |id: ValueId| 2 * usize::from(id) + 1);
    let (source, sink) = (2 * graph.len(), 2 * graph.len() + 1);
    let mut network = Network::new(2 * graph.len() + 2);
    for (id, node) in graph.nodes().filter(|(id, _)| needed[usize::from(*id)]) {
        if backward[usize::from(id)] {
            let read = node.args.iter().filter(|arg| !backward[usize::from(**arg)]);
            read.for_each(|arg| network.edge(there(*arg), sink, NEVER));
            continue;
        }
        if !is_free(graph, id) {
            let price = if forward[usize::from(id)] { seconds_again(graph, node, target) } else { 0.0 };
            network.edge(source, again(id), units(price));
        }
        let price = seconds_kept(graph, id, target) * if stored[usize::from(id)] { 1.0 } else { FOR_THIS_ALONE };
        let kept = !pairs[usize::from(id)] && !graph.ty(id).relation;
        network.edge(again(id), there(id), if kept { units(price) } else { NEVER });
        node.args.iter().for_each(|arg| network.edge(there(*arg), again(id), NEVER));
    }
    for output in graph.outputs[joint.outputs..].iter().filter(|o| !backward[usize::from(o.id)]) {
        network.edge(there(output.id), sink, NEVER);
    }
    let before = network.cut(source, sink);
    let kept = |id: &ValueId| before[again(*id)] && !before[there(*id)];
    graph.nodes().map(|(id, _)| id).filter(kept).collect()
}

/// Whether a value is there without being computed in a call.
fn is_free(graph: &Graph, id: ValueId) -> bool {
    let needs = graph.ty(id).needs;
    graph.node(id).op.is_leaf() || !needs.data && !(needs.weights && needs.tables)
}

/// The seconds that a value costs which is computed again.
fn seconds_again(graph: &Graph, node: &Node, target: &Target) -> f64 {
    let operands: Vec<_> = node.args.iter().map(|arg| operand(graph, *arg)).collect();
    let work = work(node, &operands);
    let is_long = |size: Size| size.as_fixed().is_none();
    match work.shape {
        Shape::Nothing | Shape::Addressing => 0.0,
        Shape::Pointwise | Shape::Loops if !summed(graph, node).any(is_long) => {
            work.flops / (IN_VECTORS * target.loops)
        }
        Shape::Pointwise | Shape::Loops | Shape::Dense => seconds_of_work(target, &work, AT_A_CALL),
    }
}

/// What is computed at a call.
const AT_A_CALL: Needs = Needs { weights: true, tables: true, data: true };

/// The sizes of the axes that are summed, or reduced, each as often as it is read.
fn summed<'g>(graph: &'g Graph, node: &'g Node) -> impl Iterator<Item = Size> + 'g {
    let functions = node.args.iter().zip(&node.reads).filter(|(arg, _)| graph.ty(**arg).relation);
    let determined: Vec<Slot> = functions.filter_map(|(_, slots)| slots.last()).copied().collect();
    let is_summed = move |slot: Slot| !node.out.contains(&slot) && !determined.contains(&slot);
    let axes = node.args.iter().zip(&node.reads).flat_map(|(arg, reads)| reads.iter().zip(&graph.ty(*arg).dims));
    axes.filter(move |(slot, _)| is_summed(**slot)).map(|(_, size)| *size)
}

/// Which values the forward pass, these values, stores anyway, as far as can be told before it is lowered: its outputs; what is summed; sums, but
/// for those that one pointwise value of the same places reads, which is computed in their kernel.
fn stored(graph: &Graph, forward: &[bool], outputs: usize) -> Vec<bool> {
    let mut readers: Vec<Vec<ValueId>> = vec![Vec::new(); graph.len()];
    for (id, node) in graph.nodes().filter(|(id, _)| forward[usize::from(*id)]) {
        node.args.iter().for_each(|arg| readers[usize::from(*arg)].push(id));
    }
    let places = |id: ValueId| volume(&graph.sizes, graph.ty(id));
    let sums = |id: ValueId| summed(graph, graph.node(id)).next().is_some();
    let one = |(id, node): (ValueId, &Node)| {
        let readers = &readers[usize::from(id)];
        let inside = node.op == Op::Contract && matches!(readers[..], [reader] if places(reader) <= places(id));
        let shown = graph.outputs[..outputs].iter().any(|o| o.id == id);
        shown || readers.iter().any(|reader| sums(*reader)) || sums(id) && !inside
    };
    graph.nodes().map(|(id, node)| forward[usize::from(id)] && one((id, node))).collect()
}

/// The seconds that a value costs which is written by the forward pass and read by the backward pass.
fn seconds_kept(graph: &Graph, id: ValueId, target: &Target) -> f64 {
    let bytes = 4.0 * volume(&graph.sizes, graph.ty(id));
    TENSOR + 2.0 * bytes / target.bandwidth
}

/// Whole femtoseconds, at least one: sums of capacities are exact, and of two ways that cost the same the one with fewer values is taken.
fn units(seconds: f64) -> u64 {
    (seconds * 1e15).clamp(1.0, 1e17) as u64
}

/// Which values are numbers of pairs: of two run-time axes that no value they are computed of, itself none of pairs, has together. Axes that a
/// function leads from or to are had.
fn of_pairs(graph: &Graph) -> Vec<bool> {
    let mut pairs = vec![false; graph.len()];
    for (id, node) in graph.nodes().filter(|(_, node)| !node.op.is_leaf()) {
        let long = |slot: &&Slot| {
            let place = node.out.iter().position(|s| s == *slot).expect("a slot of the result");
            graph.ty(id).dims[place].as_fixed().is_none()
        };
        let long: Vec<Slot> = node.out.iter().filter(long).copied().collect();
        let operands = || node.args.iter().zip(&node.reads);
        let had = |(arg, reads): (&ValueId, &Vec<Slot>)| {
            let usable = !graph.ty(*arg).relation && !pairs[usize::from(*arg)];
            usable && long.iter().all(|slot| led_to(graph, node, reads).contains(slot))
        };
        pairs[usize::from(id)] = long.len() > 1 && !operands().any(had);
    }
    pairs
}

/// The slots on which what is read under these depends, through the functions of the node, or which it leads to.
fn led_to(graph: &Graph, node: &Node, reads: &[Slot]) -> Vec<Slot> {
    let mut res = reads.to_vec();
    loop {
        let functions = node.args.iter().zip(&node.reads).filter(|(arg, _)| graph.ty(**arg).relation);
        let joined = functions.filter_map(|(_, slots)| slots.split_last());
        let touching = joined.filter(|(to, from)| res.contains(to) || from.iter().all(|slot| res.contains(slot)));
        let new: Vec<Slot> = touching
            .flat_map(|(to, from)| from.iter().chain([to]))
            .filter(|slot| !res.contains(slot))
            .copied()
            .collect();
        if new.is_empty() {
            return res;
        }
        res.extend(new);
    }
}
