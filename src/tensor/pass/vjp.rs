//! The program of the derivatives of a program: reverse mode from all outputs to all real inputs and weights.
//!
//! In: a program `y = f(x, w)`. Out: a program with the inputs of the first, a cotangent `grad.y` for each of its outputs `y`, its weights, and the outputs
//! `grad.x = Σ_y ∂y/∂x · grad.y` for each real input and each weight `x`, in that order, of the shapes of `x`. It is a program
//! like any other: its own derivatives are the second ones.

use crate::tensor::differential::reverse::vjp as cotangents;
use crate::tensor::graph::{Graph, Input, InputKind, Val};
use crate::tensor::op::Op;
use crate::tensor::pass::dce::dce;

/// The program of the derivatives.
pub fn vjp(graph: &Graph) -> Graph {
    let mut res = graph.clone();
    let outputs = std::mem::take(&mut res.outputs);
    let mut of = Vec::new();
    for output in &outputs {
        let value = res.fresh(output.id);
        let dims = output.order.iter().map(|k| res.ty(output.id).dims[*k]).collect();
        let name = format!("grad.{}", output.name);
        let cotangent = res.input(Input { name, dims, kind: InputKind::Real });
        let axes = output.order.iter().map(|k| value.axes[*k]).collect();
        of.push((value, Val { id: cotangent.id, axes }));
    }
    let variables = variables(graph, &mut res);
    let by: Vec<Val> = variables.iter().map(|(_, value)| value.clone()).collect();
    let found = cotangents(&mut res, &of, &by);
    for ((name, value), gradient) in variables.iter().zip(found) {
        let gradient = gradient.unwrap_or_else(|| zeros(&mut res, value));
        res.output(format!("grad.{name}"), &gradient, &value.axes);
    }
    dce(&res)
}

/// The real inputs and the weights with their names, whether anything reads them or not.
fn variables(graph: &Graph, res: &mut Graph) -> Vec<(String, Val)> {
    let inputs = graph.inputs.iter().filter(|(_, input)| input.kind == InputKind::Real);
    let inputs = inputs.map(|(id, input)| (input.name.clone(), Op::Input(id)));
    let weights = graph.weights.iter().map(|(id, weight)| (weight.name.clone(), Op::Weight(id)));
    inputs.chain(weights).map(|(name, op)| (name, res.leaf(op))).collect()
}

/// Zeros with the axes of a value.
fn zeros(graph: &mut Graph, value: &Val) -> Val {
    let mut factors = vec![graph.scalar(0.0)];
    let dims = graph.ty(value.id).dims.clone();
    for (axis, size) in value.axes.iter().zip(dims) {
        factors.push(graph.ones(*axis, size));
    }
    graph.contract(&factors.iter().collect::<Vec<_>>(), &value.axes)
}
