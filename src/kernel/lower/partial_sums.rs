//! Sums of products of which another value of the program is a part: `Σ_{m,j} a·b` where `p[j] = Σ_m a·b` is there, and
//! `Σ_m a·b` where `p[n] = Σ_m r[m→n]·a·b` is there for a function `r` that is defined everywhere. They become sums of that value.
//! So the derivative of a bias reads what the derivatives of rows have summed already. Tensor IR in and out.

use std::collections::BTreeMap;

use crate::kernel::lower::edges;
use crate::kernel::lower::plan;
use crate::tensor::cost::volume;
use crate::tensor::graph::{Axis, Graph, Val};
use crate::tensor::op::{Node, Op, Slot, ValueId};
use crate::tensor::translate::Translation;

/// The same program with such sums taken of the values that are there.
pub(super) fn of_partial_sums(graph: &Graph) -> Graph {
    let mut res = Translation::new(graph);
    for (id, node) in graph.nodes() {
        if res.has(id) {
            continue;
        }
        let Some((part, axes)) = part_of(graph, id, node) else {
            res.add(id, node);
            continue;
        };
        if !res.has(part) {
            res.add(part, graph.node(part));
        }
        let part: Val = res.read(part, &axes);
        let out: Vec<Axis> = node.out.iter().map(|s| Axis(*s)).collect();
        let value = res.graph.contract(&[&part], &out);
        res.set(id, node, value);
    }
    res.outputs(&graph.outputs);
    crate::tensor::pass::dce::dce(&res.graph)
}

/// The value that a sum is a sum of, and under which names it reads its axes: slots of the sum, and others.
fn part_of(graph: &Graph, id: ValueId, node: &Node) -> Option<(ValueId, Vec<Axis>)> {
    if node.op != Op::Contract || !graph.ty(id).needs.data {
        return None;
    }
    let largest =
        node.args.iter().filter(|arg| !graph.ty(**arg).relation).map(|arg| volume(&graph.sizes, graph.ty(*arg)));
    let largest = largest.fold(0.0, f64::max);
    let found = graph.nodes().filter(|(other, part)| {
        let computable = part.op == Op::Contract && part.args.iter().all(|arg| *arg < id);
        *other != id && computable && volume(&graph.sizes, graph.ty(*other)) < largest
    });
    found.filter_map(|(other, part)| Some((other, names(graph, node, part)?))).next()
}

/// The names of the axes of `part`, if `node` is a sum of it.
fn names(graph: &Graph, node: &Node, part: &Node) -> Option<Vec<Axis>> {
    // by slot of the part, the slot of the node
    let mut slots: BTreeMap<Slot, Slot> = BTreeMap::new();
    let mut matched = vec![false; part.args.len()];
    for (k, (arg, reads)) in node.args.iter().zip(&node.reads).enumerate() {
        if node.args[..k].contains(arg) {
            return None;
        }
        let at = part.args.iter().position(|other| other == arg)?;
        matched[at] = true;
        for (of_part, of_node) in part.reads[at].iter().zip(reads) {
            if *slots.entry(*of_part).or_insert(*of_node) != *of_node {
                return None;
            }
        }
    }
    let mut targets: Vec<Slot> = slots.values().copied().collect();
    targets.sort_unstable();
    let one_to_one = targets.windows(2).all(|pair| pair[0] != pair[1]);
    // what the part has besides are functions, defined everywhere, to axes of their own
    let functions = (0..part.args.len()).filter(|k| !matched[*k]);
    let apart = functions.map(|k| plan::edge(graph, part.args[k], &part.reads[k])).collect::<Option<Vec<_>>>()?;
    let is_apart = |edge: &plan::Edge| {
        let own = !slots.contains_key(&edge.to) && apart.iter().filter(|e| e.to == edge.to).count() == 1;
        own && edges::total(graph, edge)
            && edge.from.iter().all(|s| slots.contains_key(s))
            && part.out.contains(&edge.to)
    };
    let has_all = node.out.iter().all(|s| part.out.iter().any(|p| slots.get(p) == Some(s)));
    if !one_to_one || !has_all || !apart.iter().all(is_apart) || part.out.len() <= node.out.len() {
        return None;
    }
    let fresh = plan::slot_sizes(graph, node).len() as u32;
    Some(part.out.iter().map(|s| Axis(slots.get(s).copied().unwrap_or(fresh + s))).collect())
}
