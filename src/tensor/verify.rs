//! Whether a graph is well-formed: run after every stage that makes or changes one.
//! A failure is a bug of the compiler; the message says where.

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::tensor::equality::{Theorem, verify_equality};
use crate::tensor::graph::{Function, Graph, InputKind, Output, Paired, PairedWay, Relation};
use crate::tensor::infer::infer;
use crate::tensor::op::{Node, Op};

/// Checks tables, nodes, equalities and outputs. Fails with the first thing that is wrong.
pub fn verify(graph: &Graph) -> Result<(), String> {
    for (id, constant) in graph.constants.iter() {
        if constant.data.len() != constant.dims.iter().product::<usize>() {
            return Err(format!("constant {id:?} `{}` has {} numbers", constant.name, constant.data.len()));
        }
    }
    for (_, input) in graph.inputs.iter() {
        is_given(graph, &input.dims).map_err(|why| format!("`{}`: {why}", input.name))?;
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
        Function::Paired(paired) => verify_paired(graph, relation, paired)?,
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

/// Callers know the sizes that are given, and lay out their arrays before others are counted.
fn is_given(graph: &Graph, dims: &[Size]) -> Result<(), String> {
    match dims.iter().find(|d| graph.sizes.most(**d) != **d) {
        Some(size) => Err(format!("the caller does not know {}", graph.sizes.show(*size))),
        None => Ok(()),
    }
}

fn verify_paired(graph: &Graph, relation: &Relation, paired: &Paired) -> Result<(), String> {
    let [a, b] = paired.ends;
    if a.index().max(b.index()) >= graph.inputs.len() {
        return Err("a table that it is made of does not exist".into());
    }
    let (a, b) = (&graph.inputs[a], &graph.inputs[b]);
    let (InputKind::Table { range, .. }, InputKind::Table { range: other, .. }) = (&a.kind, &b.kind) else {
        return Err(format!("`{}` and `{}` are not both tables", a.name, b.name));
    };
    let places = match paired.way {
        PairedWay::Class => (&relation.from[..], relation.to),
        PairedWay::First => (&[relation.to][..], relation.from[0]),
    };
    if a.dims.len() != 1 || a.dims != b.dims || range != other || places.0 != a.dims {
        return Err(format!("`{}` and `{}` are not the ends of its places", a.name, b.name));
    }
    match graph.sizes.iter_counted().find(|(var, _)| Size::var(*var) == places.1) {
        Some((_, most)) if most == a.dims[0] => Ok(()),
        Some(_) | None => Err("its classes are not counted from its tables".into()),
    }
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
    is_given(graph, &graph.ty(output.id).dims).map_err(|why| format!("output `{}`: {why}", output.name))?;
    Ok(())
}
