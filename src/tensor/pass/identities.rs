//! A multiple of the identity is a number: `Σ_i x_i · c δ_ij = c · x_j`. Where one factor of a bilinear map is a scalar, its coupling is such a
//! matrix. Afterwards no product goes through a matrix to scale an operand.

use crate::base::arena::Id;
use crate::tensor::graph::{Axis, Constant, Graph, Val};
use crate::tensor::op::{Node, Op};
use crate::tensor::translate::Translation;

/// The graph with numbers in the place of multiples of the identity that products sum over.
pub fn identities(graph: &Graph) -> Graph {
    let mut res = Translation::new(graph);
    for (id, node) in graph.nodes() {
        match scaled(graph, node) {
            Some((at, factor, gone, kept)) => {
                let name = |slot: &u32| Axis(if *slot == gone { kept } else { *slot });
                let read = |k: usize| res.read(node.args[k], &node.reads[k].iter().map(name).collect::<Vec<_>>());
                let mut operands: Vec<Val> = (0..node.args.len()).filter(|k| *k != at).map(read).collect();
                operands.push(res.graph.scalar(factor));
                let out: Vec<Axis> = node.out.iter().map(|slot| Axis(*slot)).collect();
                let value = res.graph.contract(&operands.iter().collect::<Vec<_>>(), &out);
                res.set(id, node, value);
            }
            None => res.add(id, node),
        }
    }
    res.outputs(&graph.outputs);
    res.equalities(&graph.equalities);
    res.graph
}

/// Of a product, an operand that is a multiple of the identity: which, by what number, the slot that is summed over and the slot that takes its place.
fn scaled(graph: &Graph, node: &Node) -> Option<(usize, f64, u32, u32)> {
    if node.op != Op::Contract {
        return None;
    }
    (0..node.args.len()).find_map(|at| {
        let Op::Constant(constant) = graph.node(node.args[at]).op else { return None };
        let factor = multiple(graph, constant)?;
        let [i, j] = node.reads[at][..] else { return None };
        let (gone, kept) = if node.out.contains(&i) { (j, i) } else { (i, j) };
        let elsewhere = (0..node.args.len()).any(|k| k != at && node.reads[k].contains(&gone));
        (i != j && !node.out.contains(&gone) && elsewhere).then_some((at, factor, gone, kept))
    })
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
