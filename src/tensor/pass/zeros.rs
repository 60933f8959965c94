//! Products with a factor that is zero everywhere are zero, and zero terms of sums go. Over the reals: `0 · x = 0`.
//! Afterwards a sum has no term that is zero whatever the arguments are, unless the term brings an axis of its own.

use std::collections::BTreeSet;

use crate::tensor::eval::scalar;
use crate::tensor::graph::{Axis, Graph, Val};
use crate::tensor::op::{Node, Op, Reduction, ValueId};
use crate::tensor::translate::Translation;

/// The graph without terms that are zero.
pub fn zeros(graph: &Graph) -> Graph {
    let mut zero: BTreeSet<ValueId> = BTreeSet::new();
    let mut res = Translation::new(graph);
    for (id, node) in graph.nodes() {
        if is_zero(graph, node, &zero) {
            zero.insert(id);
        }
        match kept(node, &zero) {
            Some(kept) => {
                let axes = |k: &usize| node.reads[*k].iter().map(|s| Axis(*s)).collect::<Vec<_>>();
                let terms: Vec<Val> = kept.iter().map(|k| res.read(node.args[*k], &axes(k))).collect();
                let terms: Vec<&Val> = terms.iter().collect();
                let value = if let [term] = terms[..] { term.clone() } else { res.graph.sum(&terms) };
                res.set(id, node, value);
            }
            None => res.add(id, node),
        }
    }
    res.outputs(&graph.outputs);
    res.equalities(&graph.equalities);
    res.graph
}

/// The terms of a sum that are not zero, if some are and have all axes of the result.
fn kept(node: &Node, zero: &BTreeSet<ValueId>) -> Option<Vec<usize>> {
    let kept: Vec<usize> = (0..node.args.len()).filter(|k| !zero.contains(&node.args[*k])).collect();
    let covered = node.out.iter().all(|slot| kept.iter().any(|k| node.reads[*k].contains(slot)));
    let fewer = !kept.is_empty() && kept.len() < node.args.len();
    (node.op == Op::Sum && fewer && covered).then_some(kept)
}

/// Whether a value is zero whatever the arguments are.
fn is_zero(graph: &Graph, node: &Node, zero: &BTreeSet<ValueId>) -> bool {
    let known = |id: &ValueId| zero.contains(id);
    match node.op {
        Op::Constant(id) => graph.constants[id].data.iter().all(|x| *x == 0.0),
        Op::Contract => node.args.iter().any(known),
        Op::Sum => node.args.iter().all(known),
        // further operands of a reduction are relations
        Op::View | Op::Reduce(Reduction::Max | Reduction::Min) => known(&node.args[0]),
        Op::Map(f) => node.args.iter().all(known) && scalar::apply(f, &vec![0.0; node.args.len()]) == 0.0,
        Op::Input(_) | Op::Weight(_) | Op::Relation(_) | Op::Reduce(Reduction::LogSumExp) => false,
    }
}
