//! Reverse mode: how some values depend on others, weighted by a cotangent of each.

use std::collections::BTreeMap;

use crate::tensor::differential::forward::{complete, named, placed, total};
use crate::tensor::differential::partial::{Opened, open};
use crate::tensor::graph::{Axis, Graph, Val};
use crate::tensor::op::ValueId;

/// The derivatives of `Σ of · cotangent` by each value of `by`, under its axes. A cotangent has axes of the value beside it by the same
/// names, and may lack some. The values of `by` are independent: what they are made of is not looked at.
/// None where nothing of `of` depends on the value.
pub fn vjp(graph: &mut Graph, of: &[(Val, Val)], by: &[Val]) -> Vec<Option<Val>> {
    let last = of.iter().map(|(v, _)| usize::from(v.id)).max().unwrap_or(0);
    let depends = dependent(graph, last, by);
    // of each value the cotangents that have come together, under the places of its axes
    let mut terms: BTreeMap<ValueId, Vec<Val>> = BTreeMap::new();
    for (value, cotangent) in of.iter().filter(|(v, _)| depends[usize::from(v.id)]) {
        terms.entry(value.id).or_default().push(placed(cotangent, &value.axes));
    }
    for id in (0..=last).rev().map(ValueId::from) {
        if !depends[usize::from(id)] || by.iter().any(|v| v.id == id) {
            continue;
        }
        let Some(cotangent) = terms.remove(&id).and_then(|list| total(graph, list)) else { continue };
        let node = open(graph, id);
        let cotangent = named(&cotangent, &node.value.axes);
        for (k, operand) in node.operands.iter().enumerate().filter(|(_, v)| depends[usize::from(v.id)]) {
            if let Some(factors) = node.partial(graph, k) {
                let term = transposed(graph, &node, &factors, &cotangent, operand);
                terms.entry(operand.id).or_default().push(term);
            }
        }
    }
    let whole = |v: &Val| {
        let sum = total(graph, terms.get(&v.id)?.clone())?;
        Some(complete(graph, &named(&sum, &v.axes), v))
    };
    by.iter().map(whole).collect()
}

/// Which values up to `last` depend on some of `by`.
fn dependent(graph: &Graph, last: usize, by: &[Val]) -> Vec<bool> {
    let mut depends = vec![false; last + 1];
    for (id, node) in graph.nodes().take(last + 1) {
        depends[usize::from(id)] = by.iter().any(|v| v.id == id) || node.args.iter().any(|a| depends[usize::from(*a)]);
    }
    depends
}

/// The cotangent of an operand from that of the result. Of an operand read along its diagonal it is zero elsewhere.
fn transposed(graph: &mut Graph, node: &Opened, factors: &[Val], cotangent: &Val, operand: &Val) -> Val {
    let mut distinct: Vec<Axis> = Vec::new();
    let mut diagonals: Vec<Val> = Vec::new();
    for (place, axis) in operand.axes.iter().enumerate() {
        if distinct.contains(axis) {
            let size = graph.ty(operand.id).dims[place];
            let again = graph.identity(size);
            diagonals.push(again.rename(&[(again.axes[0], *axis)]));
            distinct.push(again.axes[1]);
        } else {
            distinct.push(*axis);
        }
    }
    let factors: Vec<Val> = factors.iter().chain(&diagonals).cloned().collect();
    let term = node.product(graph, &factors, cotangent, &distinct);
    placed(&term, &distinct)
}
