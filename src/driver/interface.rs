//! The interface of a model, read off its tensor program.

use crate::base::dtype::Dtype;
use crate::base::size::{Size, SizeTable};
use crate::codegen::abi::{Element, Interface, Tensor};
use crate::derive::place::{CELL, SHIFTS};
use crate::tensor::graph::{Graph, Init, InputKind};

/// What an input that a domain brings is, in a few words.
fn about_input(name: &str) -> Option<&'static str> {
    match name.rsplit_once('.').map(|(_, word)| word) {
        Some("senders" | "receivers") => Some("an end of each edge"),
        Some("index") => Some("the sample of each point"),
        Some(SHIFTS) => Some("whole numbers s: an edge leads from the image of its sender at r + s * cell"),
        Some(CELL) => Some("the vectors by which space repeats, one a row"),
        Some(_) | None => None,
    }
}

/// What a tensor is that has an axis as long as a size that nobody gives.
fn counted(sizes: &SizeTable, dims: &[Size]) -> Option<&'static str> {
    dims.iter().any(|n| sizes.most(*n) != *n).then_some("counted: of so many rows the first ones are used")
}

/// The interface of `graph` as a library called `name`, its reals of `dtype`. An axis as long as a counted size is as long as that can be: callers
/// see nothing of what is counted.
pub fn interface(graph: &Graph, name: &str, dtype: Dtype, facts: Vec<(String, String)>) -> Interface {
    let input = |input: &crate::tensor::graph::Input| Tensor {
        name: input.name.clone(),
        dims: input.dims.iter().map(|n| graph.sizes.most(*n)).collect(),
        element: match input.kind {
            InputKind::Real => Element::Real,
            InputKind::Table { range, sorted } => Element::Index { range, sorted, table: true },
            InputKind::Index { range } => Element::Index { range, sorted: false, table: false },
        },
        about: about_input(&input.name).or(counted(&graph.sizes, &input.dims)).unwrap_or_default().to_string(),
    };
    let weight = |weight: &crate::tensor::graph::Weight| Tensor {
        name: weight.name.clone(),
        dims: weight.dims.iter().map(|n| Size::fixed(*n)).collect(),
        element: Element::Real,
        about: match weight.init {
            Init::Zeros => "starts as constant 0".into(),
            Init::Ones => "starts as constant 1".into(),
            Init::Normal(std) => format!("starts as normal {std}"),
        },
    };
    let output = |output: &crate::tensor::graph::Output| {
        let dims = &graph.ty(output.id).dims;
        Tensor {
            name: output.name.clone(),
            dims: output.order.iter().map(|k| graph.sizes.most(dims[*k])).collect(),
            element: Element::Real,
            about: counted(&graph.sizes, dims).unwrap_or_default().to_string(),
        }
    };
    Interface {
        name: name.to_string(),
        dtype,
        sizes: graph.sizes.clone(),
        inputs: graph.inputs.iter().map(|(_, i)| input(i)).collect(),
        weights: graph.weights.iter().map(|(_, w)| weight(w)).collect(),
        outputs: graph.outputs.iter().map(output).collect(),
        facts,
    }
}
