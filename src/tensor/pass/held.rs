//! Functions that say what is known of derivatives (`Func::Held`, `Func::Capped`) become what they are to everyone else: a program whose
//! derivatives are there has no use for them.

use crate::tensor::graph::{Axis, Graph};
use crate::tensor::op::{Func, Op};
use crate::tensor::translate::Translation;

/// The graph without these functions.
pub fn released(graph: &Graph) -> Graph {
    let mut res = Translation::new(graph);
    for (id, node) in graph.nodes() {
        let operand = || res.read(node.args[0], &node.reads[0].iter().map(|s| Axis(*s)).collect::<Vec<_>>());
        if node.op == Op::Map(Func::Held) {
            let value = operand();
            res.set(id, node, value);
        } else if node.op == Op::Map(Func::Capped) {
            let (x, zero) = (operand(), res.graph.scalar(0.0));
            let value = res.graph.map(Func::Min, &[&x, &zero]);
            res.set(id, node, value);
        } else {
            res.add(id, node);
        }
    }
    res.outputs(&graph.outputs);
    res.equalities(&graph.equalities);
    res.graph
}
