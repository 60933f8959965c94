//! What is known at compile time: folding, and the neutral elements.

use std::sync::Arc;

use egg::Id;

use crate::rewrite::classes::{Classes, Term, axes_of, without};
use crate::rewrite::rules::Law;
use crate::tensor::graph::{Constant, Graph, Val};
use crate::tensor::op::{Func, Node, Op};
use crate::tensor::pass::fold::constant_value;

/// A value of constants alone is a constant.
pub const FOLD: Law = Law {
    name: "fold",
    equation: "f(constants) = constant",
    apply: fold,
    witness: |s| {
        let (i, j) = (s.axis(), s.axis());
        let (a, b) = (s.constant(&[i, j]), s.constant(&[j]));
        s.graph.contract(&[&a, &b], &[i])
    },
};

fn fold(classes: &mut Classes, _: Id, node: &Node) -> Vec<Term> {
    if node.op.is_leaf() || node.args.is_empty() {
        return vec![];
    }
    let leaf = |id: &Id| classes.facts(*id).leaf.clone().filter(|op| matches!(op, Op::Constant(_) | Op::Relation(_)));
    let Some(leaves) = node.args.iter().map(leaf).collect::<Option<Vec<Op>>>() else { return vec![] };
    let mut graph: Graph = classes.graph().tables();
    let mut args = Vec::new();
    for (op, arg) in leaves.into_iter().zip(&node.args) {
        let out = (0..classes.facts(*arg).ty.dims.len() as u32).collect();
        args.push(graph.add(Node { op, args: vec![], reads: vec![], out }));
    }
    let Some(constant) = constant_value(&graph, &Node { args, ..node.clone() }) else { return vec![] };
    let out = Classes::out(node);
    let value = Val { id: classes.constant(constant).id, axes: out.clone() };
    vec![Term { op: Op::View, operands: vec![value], out }]
}

fn constant_of<'a>(classes: &'a Classes, val: &Val) -> Option<&'a Constant> {
    match classes.facts(val.id).leaf {
        Some(Op::Constant(id)) => Some(&classes.graph().constants[id]),
        _ => None,
    }
}

fn number(classes: &Classes, val: &Val) -> Option<f64> {
    constant_of(classes, val).filter(|c| c.dims.is_empty()).map(|c| c.data[0])
}

/// `a · b · x = (ab) · x` of numbers; a number times a small constant tensor is a constant tensor.
pub const SCALARS: Law = Law {
    name: "scalars",
    equation: "a · B · x = (aB) · x, a and B known",
    apply: scalars,
    witness: |s| {
        let (i, j) = (s.axis(), s.axis());
        let (a, b, x) = (s.constant(&[]), s.constant(&[i, j]), s.tensor(&[j]));
        s.graph.contract(&[&a, &b, &x], &[i])
    },
};

fn scalars(classes: &mut Classes, _: Id, node: &Node) -> Vec<Term> {
    let operands = Classes::operands(node);
    let scalar = operands.iter().position(|v| number(classes, v).is_some());
    let (Op::Contract, Some(at)) = (&node.op, scalar) else { return vec![] };
    let factor = number(classes, &operands[at]).expect("found above");
    let rest = without(&operands, at);
    let small = |v: &Val| constant_of(classes, v).is_some_and(|c| c.data.len() <= 1 << 16);
    let Some(other) = rest.iter().position(small) else { return vec![] };
    let constant = constant_of(classes, &rest[other]).expect("found above");
    let data: Vec<f64> = constant.data.iter().map(|x| x * factor).collect();
    let name = if constant.dims.is_empty() { format!("{}", data[0]) } else { format!("{factor}*{}", constant.name) };
    let scaled = Constant { name, dims: constant.dims.clone(), data: Arc::from(data) };
    let value = classes.constant(scaled);
    let mut factors = rest.clone();
    factors[other] = Val { id: value.id, axes: rest[other].axes.clone() };
    vec![Term::contract(factors, Classes::out(node))]
}

/// `1 · x = x`
pub const UNIT_FACTOR: Law = Law {
    name: "unit-factor",
    equation: "1 · x = x",
    apply: unit_factor,
    witness: |s| {
        let i = s.axis();
        let x = s.tensor(&[i]);
        let one = s.graph.scalar(1.0);
        let y = s.graph.map(Func::Tanh, &[&x]);
        s.graph.contract(&[&one, &x, &y], &[i])
    },
};

fn unit_factor(classes: &mut Classes, _: Id, node: &Node) -> Vec<Term> {
    let operands = Classes::operands(node);
    if node.op != Op::Contract || operands.len() < 2 {
        return vec![];
    }
    let one = operands.iter().position(|v| number(classes, v) == Some(1.0));
    one.map(|k| Term::contract(without(&operands, k), Classes::out(node))).into_iter().collect()
}

/// `0 + x = x`
pub const ZERO_TERM: Law = Law {
    name: "zero-term",
    equation: "0 + x = x",
    apply: zero_term,
    witness: |s| {
        let i = s.axis();
        let (x, y) = (s.tensor(&[i]), s.tensor(&[]));
        let zero = s.graph.scalar(0.0);
        s.graph.sum(&[&x, &y, &zero])
    },
};

fn zero_term(classes: &mut Classes, _: Id, node: &Node) -> Vec<Term> {
    let (operands, out) = (Classes::operands(node), Classes::out(node));
    if node.op != Op::Sum {
        return vec![];
    }
    let zero = |v: &Val| constant_of(classes, v).is_some_and(|c| c.data.iter().all(|x| *x == 0.0));
    let Some(k) = operands.iter().position(zero) else { return vec![] };
    let rest = without(&operands, k);
    let covered = out.iter().all(|a| axes_of(&rest).contains(a));
    if covered { vec![Term::sum(rest, out)] } else { vec![] }
}
