//! A multiple of the identity is a number: `Σ_i x_i · c δ_ij = c · x_j`. Where one factor of a bilinear map is a scalar, its coupling is such a
//! matrix, and where the group is trivial the maps of a fibre are a relation of each entry to itself. Afterwards no product goes through either.

use crate::base::arena::Id;
use crate::tensor::graph::{Affine, Axis, Constant, Function, Graph, Relation, Val};
use crate::tensor::op::{Node, Op, ValueId};
use crate::tensor::translate::Translation;

/// The graph with numbers in the place of multiples of the identity that products sum over.
pub fn identities(graph: &Graph) -> Graph {
    let mut res = Translation::new(graph);
    for (id, node) in graph.nodes() {
        match reduced(graph, node) {
            Some((left, factor)) => {
                let mut operands: Vec<Val> = left.iter().map(|operand| res.read(operand.id, &operand.axes)).collect();
                if factor != 1.0 {
                    operands.push(res.graph.scalar(factor));
                }
                let out: Vec<Axis> = node.out.iter().map(|slot| Axis(*slot)).collect();
                let value = match &operands[..] {
                    [only] if only.axes.iter().all(|axis| out.contains(axis)) => only.clone(),
                    _ => res.graph.contract(&operands.iter().collect::<Vec<_>>(), &out),
                };
                res.set(id, node, value);
            }
            None => res.add(id, node),
        }
    }
    res.outputs(&graph.outputs);
    res.equalities(&graph.equalities);
    res.graph
}

/// What is left of a product's operands, under names that are its slots, and the number that stands for the identities among them.
fn reduced(graph: &Graph, node: &Node) -> Option<(Vec<Val>, f64)> {
    if node.op != Op::Contract {
        return None;
    }
    let named =
        |(id, reads): (&ValueId, &Vec<u32>)| Val { id: *id, axes: reads.iter().map(|slot| Axis(*slot)).collect() };
    let mut left: Vec<Val> = node.args.iter().zip(&node.reads).map(named).collect();
    let mut product = 1.0;
    while let Some((at, factor, gone, kept)) = (0..left.len()).find_map(|at| identity_at(graph, node, &left, at)) {
        left.remove(at);
        left.iter_mut().for_each(|operand| *operand = operand.rename(&[(gone, kept)]));
        product *= factor;
    }
    (left.len() < node.args.len()).then_some((left, product))
}

/// If operand `at` is a multiple of the identity: by what number, the axis that is summed over and the axis that takes its place.
fn identity_at(graph: &Graph, node: &Node, operands: &[Val], at: usize) -> Option<(usize, f64, Axis, Axis)> {
    let [i, j] = operands[at].axes[..] else { return None };
    let factor = match graph.node(operands[at].id).op {
        Op::Constant(constant) => multiple(graph, constant)?,
        Op::Relation(relation) if is_identity(&graph.relations[relation]) => 1.0,
        _ => return None,
    };
    let elsewhere = |axis| operands.iter().enumerate().any(|(k, operand)| k != at && operand.has(axis));
    let goes = |axis: Axis| !node.out.contains(&axis.0) && elsewhere(axis);
    let (gone, kept) = [(i, j), (j, i)].into_iter().find(|(gone, _)| goes(*gone))?;
    (i != j).then_some((at, factor, gone, kept))
}

/// Whether a relation takes every entry of an axis to itself.
fn is_identity(relation: &Relation) -> bool {
    let Function::Affine { scale, offset, divisor: 1, .. } = &relation.map else { return false };
    scale[..] == [1] && *offset == Affine { constant: 0, size: None } && relation.from[..] == [relation.to]
}

/// By what a square matrix is a multiple of the identity, up to rounding.
fn multiple(graph: &Graph, constant: Id<Constant>) -> Option<f64> {
    let Constant { dims, data, .. } = &graph.constants[constant];
    let [n, m] = dims[..] else { return None };
    let first = *data.first()?;
    let is_multiple = |(at, x): (usize, &f64)| {
        let exact = if at / m == at % m { first } else { 0.0 };
        (x - exact).abs() <= 4.0 * f64::EPSILON * first.abs()
    };
    (n == m && n > 1 && data.iter().enumerate().all(is_multiple)).then_some(first)
}
