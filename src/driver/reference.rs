//! Between the tensors of files and the arrays of the evaluator that says what a program means.

use std::collections::BTreeMap;

use crate::driver::failure::Failure;
use crate::driver::tensors::{Numbers, Tensor, Tensors};
use crate::tensor::eval::{self, Arguments, Array};
use crate::tensor::graph::{Graph, InputKind};

/// What `graph` means on these arguments.
pub fn evaluate(graph: &Graph, arguments: &Arguments) -> Result<BTreeMap<String, Array>, Failure> {
    eval::eval(graph, arguments).map_err(|why| Failure::bug(format!("tensor::eval: {why}")))
}

/// The inputs of `arguments` as the tensors of a file: index tables hold whole numbers.
pub fn inputs(graph: &Graph, arguments: &Arguments) -> Tensors {
    let one = |input: &crate::tensor::graph::Input| {
        let array = &arguments.inputs[&input.name];
        let numbers = match input.kind {
            InputKind::Real => Numbers::Real(array.data.clone()),
            InputKind::Table { .. } | InputKind::Index { .. } => {
                Numbers::Index(array.data.iter().map(|x| *x as i64).collect())
            }
        };
        (input.name.clone(), Tensor { shape: array.dims.clone(), numbers })
    };
    graph.inputs.iter().map(|(_, input)| one(input)).collect()
}

/// The weights of `arguments` as the tensors of a file.
pub fn weights(arguments: &Arguments) -> Tensors {
    arguments.weights.iter().map(|(name, w)| (name.clone(), Tensor::real(w.dims.clone(), w.data.clone()))).collect()
}
