//! Forward mode: what a change of some values changes in others.

use std::collections::BTreeMap;

use crate::tensor::differential::partial::open;
use crate::tensor::graph::{Axis, Graph, Val};
use crate::tensor::op::ValueId;

/// The directional derivatives of `of` where each value of `along` changes by the tangent beside it, which has axes of the value
/// by the same names and may lack some. The values of `along` are independent: what they are made of is not looked at.
/// Each result has the axes of its value, and may lack those along which it is constant; none where it does not change.
pub fn jvp(graph: &mut Graph, of: &[Val], along: &[(Val, Val)]) -> Vec<Option<Val>> {
    let last = of.iter().map(|v| usize::from(v.id)).max().unwrap_or(0);
    let mut tangents: BTreeMap<ValueId, Val> = BTreeMap::new();
    for (value, tangent) in along {
        tangents.insert(value.id, placed(tangent, &value.axes));
    }
    for id in (0..=last).map(ValueId::from) {
        let moving = |arg: &ValueId| tangents.contains_key(arg);
        if tangents.contains_key(&id) || !graph.node(id).args.iter().any(moving) {
            continue;
        }
        let node = open(graph, id);
        let mut terms = Vec::new();
        for (k, operand) in node.operands.iter().enumerate() {
            let Some(tangent) = tangents.get(&operand.id).map(|t| named(t, &operand.axes)) else { continue };
            if let Some(factors) = node.partial(graph, k) {
                terms.push(node.product(graph, &factors, &tangent, &node.value.axes));
            }
        }
        if let Some(total) = total(graph, terms) {
            tangents.insert(id, placed(&total, &node.value.axes));
        }
    }
    of.iter().map(|v| tangents.get(&v.id).map(|t| named(t, &v.axes))).collect()
}

/// The tangent of a value under the places of its axes in the type of that value.
pub(super) fn placed(tangent: &Val, axes: &[Axis]) -> Val {
    let place = |a: &Axis| Axis(axes.iter().position(|b| a == b).expect("an axis of the value") as u32);
    Val { id: tangent.id, axes: tangent.axes.iter().map(place).collect() }
}

/// The tangent of a value that is read under these names.
pub(super) fn named(placed: &Val, axes: &[Axis]) -> Val {
    Val { id: placed.id, axes: placed.axes.iter().map(|p| axes[p.0 as usize]).collect() }
}

/// The sum of terms, equal ones counted; none of no terms.
pub(super) fn total(graph: &mut Graph, terms: Vec<Val>) -> Option<Val> {
    let mut distinct: Vec<(Val, usize)> = Vec::new();
    for term in terms {
        match distinct.iter_mut().find(|(known, _)| *known == term) {
            Some((_, count)) => *count += 1,
            None => distinct.push((term, 1)),
        }
    }
    let terms: Vec<Val> =
        distinct.into_iter().map(|(term, n)| if n == 1 { term } else { graph.scale(&term, n as f64) }).collect();
    match &terms[..] {
        [] => None,
        [only] => Some(only.clone()),
        _ => Some(graph.sum(&terms.iter().collect::<Vec<_>>())),
    }
}

/// A change of a value that may lack axes along which it is constant, with all axes of the value.
pub fn complete(graph: &mut Graph, change: &Val, value: &Val) -> Val {
    let dims = graph.ty(value.id).dims.clone();
    let axes = value.axes.iter().zip(dims);
    let missing: Vec<Val> = axes.filter(|(a, _)| !change.has(**a)).map(|(a, n)| graph.ones(*a, n)).collect();
    if missing.is_empty() {
        return change.clone();
    }
    let operands: Vec<&Val> = [change].into_iter().chain(&missing).collect();
    graph.contract(&operands, &value.axes)
}
