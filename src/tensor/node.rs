//! From names to slots: the canonical form of a node.

use crate::tensor::graph::{Axis, Val};
use crate::tensor::op::{Node, Op, Slot};

/// The canonical node of `op` on `operands` with the axes `out`, and the names of the result's axes in the order of its type.
/// Operands of sums and products are sorted by id, slots numbered by first appearance; of operands with equal ids
/// the order that gives the least slots is taken, so that equal programs are equal nodes.
pub fn make(op: Op, operands: &[&Val], out: &[Axis]) -> (Node, Vec<Axis>) {
    let mut order: Vec<usize> = (0..operands.len()).collect();
    if op.commutes() {
        order.sort_by_key(|&i| operands[i].id);
    }
    let candidates = if op.commutes() { orders_of_ties(&order, operands) } else { vec![order] };
    let best = candidates
        .into_iter()
        .map(|order| {
            let numbering = number(&order, operands);
            let reads = reads(&order, operands, &numbering);
            (reads, order, numbering)
        })
        .min_by(|a, b| a.0.cmp(&b.0))
        .expect("there is at least one order");
    let (reads, order, numbering) = best;
    let slot = |a: &Axis| numbering.iter().position(|n| n == a).map(|s| s as Slot);
    let mut axes: Vec<Axis> = Vec::new();
    for axis in out {
        assert!(slot(axis).is_some(), "axis {axis:?} of the result is in no operand");
        if !axes.contains(axis) {
            axes.push(*axis);
        }
    }
    axes.sort_by_key(|a| slot(a));
    let out = axes.iter().filter_map(&slot).collect();
    let args = order.iter().map(|&i| operands[i].id).collect();
    (Node { op, args, reads, out }, axes)
}

fn number(order: &[usize], operands: &[&Val]) -> Vec<Axis> {
    let mut numbering = Vec::new();
    for axis in order.iter().flat_map(|&i| &operands[i].axes) {
        if !numbering.contains(axis) {
            numbering.push(*axis);
        }
    }
    numbering
}

fn reads(order: &[usize], operands: &[&Val], numbering: &[Axis]) -> Vec<Vec<Slot>> {
    let slot = |a: &Axis| numbering.iter().position(|n| n == a).expect("numbered") as Slot;
    order.iter().map(|&i| operands[i].axes.iter().map(slot).collect()).collect()
}

/// All orders that differ only among operands of equal id; at most 24, so that the search stays small.
fn orders_of_ties(order: &[usize], operands: &[&Val]) -> Vec<Vec<usize>> {
    let mut res: Vec<Vec<usize>> = vec![vec![]];
    let mut start = 0;
    while start < order.len() {
        let id = operands[order[start]].id;
        let len = order[start..].iter().take_while(|&&i| operands[i].id == id).count();
        let group = &order[start..start + len];
        let ways = if len > 4 || res.len() > 24 { vec![group.to_vec()] } else { permutations(group) };
        res = res.iter().flat_map(|head| ways.iter().map(move |way| [&head[..], way].concat())).collect();
        start += len;
    }
    res
}

fn permutations(items: &[usize]) -> Vec<Vec<usize>> {
    if items.len() <= 1 {
        return vec![items.to_vec()];
    }
    let mut res = Vec::new();
    for first in 0..items.len() {
        let mut rest = items.to_vec();
        let head = rest.remove(first);
        res.extend(permutations(&rest).into_iter().map(|tail| [vec![head], tail].concat()));
    }
    res
}
