//! What is known at compile time is computed: values of constants alone become constants, where the result is
//! no larger than [`LARGEST`] numbers and, unless it is small, no larger than its operands together.

use std::sync::Arc;

use crate::base::arena::Id;
use crate::tensor::eval::{Arguments, Value, eval_node};
use crate::tensor::graph::{Constant, Graph, Needs, Val};
use crate::tensor::op::{Node, Op, ValueId};
use crate::tensor::translate::Translation;

/// Larger results are left to `prepare`, which need not carry them in the library.
const LARGEST: usize = 1 << 16;
/// Results up to this size are folded even where their operands are smaller.
const SMALL: usize = 1 << 10;

/// The graph with its constant values computed.
pub fn fold(graph: &Graph) -> Graph {
    let mut res = Translation::new(graph);
    for (id, node) in graph.nodes() {
        let (new, axes) = res.renewed(node);
        match constant_value(&res.graph, &new) {
            Some(constant) => {
                let value = Val { id: res.graph.constant(constant).id, axes };
                res.set(id, node, value);
            }
            None => res.add(id, node),
        }
    }
    res.outputs(&graph.outputs);
    res.equalities(&graph.equalities);
    res.graph
}

/// The value of a node all of whose operands are constants or compile-time relations of fixed sizes, if it is worth having.
pub fn constant_value(graph: &Graph, node: &Node) -> Option<Constant> {
    if node.op.is_leaf() || node.args.is_empty() {
        return None;
    }
    let known = |id: &ValueId| {
        let fixed = graph.ty(*id).dims.iter().all(|d| d.as_fixed().is_some());
        fixed && graph.ty(*id).needs == Needs::default() && graph.node(*id).op.is_leaf()
    };
    if !node.args.iter().all(known) {
        return None;
    }
    let volume = |id: &ValueId| graph.ty(*id).dims.iter().filter_map(|d| d.as_fixed()).product::<usize>();
    let ty = crate::tensor::infer::infer(graph, node, |id| graph.ty(id).clone()).ok()?;
    let size: usize = ty.dims.iter().filter_map(|d| d.as_fixed()).product();
    let operands: usize = node.args.iter().map(volume).sum();
    if size > LARGEST || size > operands.max(SMALL) {
        return None;
    }
    let leaf = |id: ValueId| eval_node(graph, &Arguments::default(), graph.node(id), |_| unreachable!("a leaf")).ok();
    let values: Vec<Value> = node.args.iter().map(|id| leaf(*id)).collect::<Option<_>>()?;
    let operand = |id: ValueId| {
        let at = node.args.iter().position(|a| *a == id).expect("an operand of the node");
        values[at].clone()
    };
    let array = eval_node(graph, &Arguments::default(), node, operand).ok()?.numbers();
    let names: Vec<String> = node.args.iter().filter_map(|id| constant_name(graph, *id)).collect();
    Some(Constant { name: names.join("*"), dims: array.dims.clone(), data: Arc::from(&array.data[..]) })
}

fn constant_name(graph: &Graph, id: ValueId) -> Option<String> {
    let name = |c: Id<Constant>| graph.constants[c].name.clone();
    match graph.node(id).op {
        Op::Constant(c) => Some(name(c)),
        Op::Input(_)
        | Op::Weight(_)
        | Op::Relation(_)
        | Op::Contract
        | Op::Sum
        | Op::Map(_)
        | Op::Reduce(_)
        | Op::View => None,
    }
}
