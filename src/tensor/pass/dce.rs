//! Dead values go: afterwards every value is an operand, an output or a side of an equality of one, and there are no views.
//! The tables (inputs, weights, constants, relations) stay: they are the interface of the program.

use crate::tensor::graph::Graph;
use crate::tensor::translate::Translation;

/// The graph without the values that no output needs, and without the equalities of such values.
pub fn dce(graph: &Graph) -> Graph {
    let live = graph.needed(true);
    let mut res = Translation::new(graph);
    for (id, node) in graph.nodes().filter(|(id, _)| live[usize::from(*id)]) {
        res.add(id, node);
    }
    res.outputs(&graph.outputs);
    res.equalities(&graph.equalities);
    res.graph
}
