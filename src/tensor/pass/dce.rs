//! Dead values go: afterwards every value is an operand or an output, and there are no views.
//! The tables (inputs, weights, constants, relations) stay: they are the interface of the program.

use crate::tensor::graph::Graph;
use crate::tensor::translate::Translation;

/// The graph without the values that no output needs.
pub fn dce(graph: &Graph) -> Graph {
    let mut live = vec![false; graph.nodes().count()];
    for output in &graph.outputs {
        live[usize::from(output.id)] = true;
    }
    for (id, node) in graph.nodes().rev() {
        if live[usize::from(id)] {
            node.args.iter().for_each(|arg| live[usize::from(*arg)] = true);
        }
    }
    let mut res = Translation::new(graph);
    for (id, node) in graph.nodes().filter(|(id, _)| live[usize::from(*id)]) {
        res.add(id, node);
    }
    res.outputs(&graph.outputs);
    res.graph
}
