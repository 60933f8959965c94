//! The programs of the derivatives of a program `y = f(x, w)`, by all its real inputs and weights at once. Each is a program like any other:
//! its own derivatives are the second ones.
//!
//! [`vjp`], reverse mode: the inputs of the first, then a cotangent `grad.y` for each output `y`; its weights; the outputs
//! `grad.x = Σ_y ∂y/∂x · grad.y` for each real input and each weight `x`, in that order, of the shapes of `x`.
//! [`jvp`], forward mode: the inputs of the first, then a tangent `dot.x` for each real input and each weight `x`; its weights; the outputs
//! `dot.y = Σ_x ∂y/∂x · dot.x` for each output `y`, of the shapes of `y`.

use crate::tensor::differential::forward::{complete, jvp as tangents};
use crate::tensor::differential::reverse::vjp as cotangents;
use crate::tensor::graph::{Axis, Graph, Input, InputKind, Val};
use crate::tensor::op::Op;
use crate::tensor::pass::dce::dce;

/// The program of the derivatives by reverse mode.
pub fn vjp(graph: &Graph) -> Graph {
    let mut res = joint(graph);
    res.outputs.drain(..graph.outputs.len());
    dce(&res)
}

/// The program and its derivatives by reverse mode as one program: the outputs of both, those of the program first.
pub fn joint(graph: &Graph) -> Graph {
    let mut res = graph.clone();
    let mut of = Vec::new();
    for output in &graph.outputs {
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
    res
}

/// Whether an input of a program is a cotangent, which the program that it was derived from does not have.
pub fn is_cotangent(input: &Input) -> bool {
    input.name.starts_with("grad.")
}

/// What comes before the names of tangents in [`jvp`]: `dot.`, and `dot2.` where the program has tangents of that name among its inputs, and so on.
pub fn tangent_prefix(graph: &Graph) -> String {
    let free = |prefix: &String| graph.inputs.iter().all(|(_, input)| !input.name.starts_with(prefix));
    let numbered = (2..).map(|k| format!("dot{k}."));
    std::iter::once("dot.".to_string()).chain(numbered).find(free).expect("inputs are finite")
}

/// The program of the derivatives by forward mode.
pub fn jvp(graph: &Graph) -> Graph {
    let prefix = tangent_prefix(graph);
    let mut res = graph.clone();
    let outputs = std::mem::take(&mut res.outputs);
    let mut along = Vec::new();
    for (name, value) in variables(graph, &mut res) {
        let dims = res.ty(value.id).dims.clone();
        let tangent = res.input(Input { name: format!("{prefix}{name}"), dims, kind: InputKind::Real });
        along.push((value.clone(), Val { id: tangent.id, axes: value.axes }));
    }
    let of: Vec<Val> = outputs.iter().map(|output| res.fresh(output.id)).collect();
    let found = tangents(&mut res, &of, &along);
    for ((output, value), tangent) in outputs.iter().zip(&of).zip(found) {
        let tangent = match tangent {
            Some(tangent) => complete(&mut res, &tangent, value),
            None => zeros(&mut res, value),
        };
        let order: Vec<Axis> = output.order.iter().map(|k| value.axes[*k]).collect();
        res.output(format!("{prefix}{}", output.name), &tangent, &order);
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
    let zero = graph.scalar(0.0);
    complete(graph, &zero, value)
}
