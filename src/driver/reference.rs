//! The meaning of a tensor program, in f64, on tensors by name: what the compiled library is compared with.

use std::collections::BTreeMap;

use crate::codegen::abi::Interface;
use crate::driver::binding::Sizes;
use crate::driver::failure::Failure;
use crate::driver::tensors::{Tensor, Tensors};
use crate::tensor::eval::{self, Array};
use crate::tensor::graph::Graph;

/// Evaluates `graph` on the tensors that `interface` names.
pub fn evaluate(
    graph: &Graph,
    interface: &Interface,
    sizes: &Sizes,
    inputs: &Tensors,
    weights: &Tensors,
) -> Result<Tensors, Failure> {
    let pick = |names: Vec<&String>, from: &Tensors| -> BTreeMap<String, Array> {
        names.into_iter().map(|name| (name.clone(), array(&from[name]))).collect()
    };
    let arguments = eval::Arguments {
        sizes: sizes.in_order(&interface.sizes),
        inputs: pick(interface.inputs.iter().map(|t| &t.name).collect(), inputs),
        weights: pick(interface.weights.iter().map(|t| &t.name).collect(), weights),
    };
    let outputs = eval::eval(graph, &arguments).map_err(|why| Failure::bug(format!("tensor::eval: {why}")))?;
    Ok(outputs.into_iter().map(|(name, array)| (name, Tensor::real(array.dims, array.data))).collect())
}

fn array(tensor: &Tensor) -> Array {
    Array { dims: tensor.shape.clone(), data: tensor.reals() }
}
