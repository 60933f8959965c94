//! Long sums of data of which there are so few that a GPU would be idle: in two steps, of which the first keeps an axis. In another order than
//! in one: other bits, the same in every run. Tensor IR in and out.

use crate::kernel::lower::plan;
use crate::tensor::cost::volume;
use crate::tensor::graph::{Axis, Graph, Val};
use crate::tensor::op::{Node, Op, Slot};
use crate::tensor::translate::Translation;

/// Sums below which a block each, or one for eight of them, leaves most of a GPU idle.
const FEW: f64 = 512.0;
/// Places of a sum that are worth a second kernel.
const MANY: f64 = 16384.0;

/// The same program with such sums in two steps.
pub(super) fn in_two_steps(graph: &Graph) -> Graph {
    let mut res = Translation::new(graph);
    for (id, node) in graph.nodes() {
        let Some(kept) = kept(graph, node) else {
            res.add(id, node);
            continue;
        };
        let names = |slots: &[Slot]| slots.iter().map(|s| Axis(*s)).collect::<Vec<_>>();
        let operands: Vec<Val> =
            node.args.iter().zip(&node.reads).map(|(arg, reads)| res.read(*arg, &names(reads))).collect();
        let out = names(&node.out);
        // the axis that is kept is the outer one: neighbours stay neighbours
        let first = [&[Axis(kept)], &out[..]].concat();
        let parts = res.graph.contract(&operands.iter().collect::<Vec<_>>(), &first);
        let value = res.graph.contract(&[&parts], &out);
        res.set(id, node, value);
    }
    res.outputs(&graph.outputs);
    crate::tensor::pass::dce::dce(&res.graph)
}

/// The longest axis that a long sum of few elements runs along, if another one is left to sum.
fn kept(graph: &Graph, node: &Node) -> Option<Slot> {
    let of_data = |k: usize| graph.ty(node.args[k]).needs.data || graph.ty(node.args[k]).dims.is_empty();
    let straight = |k: usize| match graph.node(node.args[k]).op {
        Op::Relation(id) => !graph.relations[id].map.is_table(),
        _ => of_data(k),
    };
    if node.op != Op::Contract || !(0..node.args.len()).all(straight) {
        return None;
    }
    let sizes = plan::slot_sizes(graph, node);
    let hint = |slot: Slot| graph.sizes.hint(sizes[slot as usize]) as f64;
    let elements: f64 = node.out.iter().map(|s| hint(*s)).product();
    let mut summed: Vec<Slot> = vec![];
    for k in 0..node.args.len() {
        let arg = graph.ty(node.args[k]);
        // what is summed through a relation is determined by its other axes
        let own = arg.needs.data && volume(&graph.sizes, arg) >= MANY;
        summed.extend(node.reads[k].iter().filter(|s| own && !node.out.contains(s)));
    }
    summed.sort_unstable();
    summed.dedup();
    let places: f64 = summed.iter().map(|s| hint(*s)).product();
    if elements >= FEW || places < MANY || summed.len() < 2 {
        return None;
    }
    summed.into_iter().max_by(|x, y| hint(*x).total_cmp(&hint(*y)))
}
