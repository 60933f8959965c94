//! Whether a graph is well-formed: run after every stage that makes or changes one.
//! A failure is a bug of the compiler; the message says where.

use crate::base::arena::Id;
use crate::tensor::equality::{Theorem, verify_equality};
use crate::tensor::graph::{Function, Graph, InputKind, Output, Relation};
use crate::tensor::infer::infer;
use crate::tensor::op::{Node, Op};

/// Checks tables, nodes, equalities and outputs. Fails with the first thing that is wrong.
pub fn verify(graph: &Graph) -> Result<(), String> {
    for (id, constant) in graph.constants.iter() {
        if constant.data.len() != constant.dims.iter().product::<usize>() {
            return Err(format!("constant {id:?} `{}` has {} numbers", constant.name, constant.data.len()));
        }
    }
    for (id, relation) in graph.relations.iter() {
        verify_relation(graph, relation).map_err(|why| format!("relation {id:?}: {why}"))?;
    }
    for (id, node) in graph.nodes() {
        let fail = |why: String| format!("value {id}, {node:?}: {why}");
        if let Some(arg) = node.args.iter().find(|arg| **arg >= id) {
            return Err(fail(format!("its operand {arg} comes later")));
        }
        leaf_exists(graph, node).map_err(fail)?;
        let ty = infer(graph, node, |arg| graph.ty(arg).clone()).map_err(fail)?;
        if ty != *graph.ty(id) {
            return Err(fail(format!("its type is {ty:?}, stored is {:?}", graph.ty(id))));
        }
        if let Op::Reduce(_) = node.op {
            let relations = &node.args[1..];
            if node.args.is_empty() || relations.iter().any(|r| !graph.ty(*r).relation) {
                return Err(fail("it reduces one value along relations".into()));
            }
        }
    }
    for equality in &graph.equalities {
        let Theorem { name, .. } = equality.theorem;
        verify_equality(graph, equality).map_err(|why| format!("`{name}` of `{}`: {why}", equality.of))?;
    }
    graph.outputs.iter().try_for_each(|output| verify_output(graph, output))
}

fn leaf_exists(graph: &Graph, node: &Node) -> Result<(), String> {
    fn known<T>(id: Id<T>, n: usize) -> bool {
        id.index() < n
    }
    let ok = match &node.op {
        Op::Input(id) => known(*id, graph.inputs.len()),
        Op::Weight(id) => known(*id, graph.weights.len()),
        Op::Constant(id) => known(*id, graph.constants.len()),
        Op::Relation(id) => known(*id, graph.relations.len()),
        Op::Contract | Op::Sum | Op::Map(_) | Op::Reduce(_) | Op::View => return Ok(()),
    };
    let plain = node.args.is_empty() && node.reads.is_empty();
    if ok && plain { Ok(()) } else { Err("it is no leaf of the tables".into()) }
}

fn verify_relation(graph: &Graph, relation: &Relation) -> Result<(), String> {
    match &relation.map {
        Function::Table(id) => {
            if id.index() >= graph.inputs.len() {
                return Err("its table does not exist".into());
            }
            let input = &graph.inputs[*id];
            match input.kind {
                InputKind::Table { range, .. } | InputKind::Index { range } if range == relation.to => (),
                InputKind::Table { .. } | InputKind::Index { .. } => {
                    return Err(format!("the range of `{}` is not its size", input.name));
                }
                InputKind::Real => return Err(format!("`{}` is no table", input.name)),
            }
            if input.dims != relation.from {
                return Err(format!("the shape of `{}` is not its domain", input.name));
            }
        }
        Function::Constant(table) => {
            let fixed: Option<Vec<usize>> = relation.from.iter().map(|s| s.as_fixed()).collect();
            let (Some(from), Some(to)) = (fixed, relation.to.as_fixed()) else {
                return Err("a compile-time table needs fixed sizes".into());
            };
            if table.len() != from.iter().product::<usize>() {
                return Err(format!("its table has {} entries", table.len()));
            }
            if table.iter().flatten().any(|k| *k as usize >= to) {
                return Err("its table leaves its range".into());
            }
        }
        Function::Affine { scale, divisor, .. } => {
            if scale.len() != relation.from.len() {
                return Err(format!("{} scales for {} axes", scale.len(), relation.from.len()));
            }
            if *divisor < 1 {
                return Err(format!("it divides by {divisor}"));
            }
        }
    }
    Ok(())
}

fn verify_output(graph: &Graph, output: &Output) -> Result<(), String> {
    if usize::from(output.id) >= graph.len() {
        return Err(format!("output `{}` does not exist", output.name));
    }
    let mut order = output.order.clone();
    order.sort_unstable();
    if order != (0..graph.ty(output.id).dims.len()).collect::<Vec<_>>() {
        return Err(format!("output `{}` has the order {:?}", output.name, output.order));
    }
    Ok(())
}
