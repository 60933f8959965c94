//! Sums over pairs of one set: values that are zero but where a table maps two of their axes to the same index, as derivatives of sums within
//! sets are. What sums them says so itself, and walks the entries of one set instead of all; then the value need not say it, and where
//! everyone reads it so is not computed elsewhere. Tensor IR in and out.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::arena::Id;
use crate::kernel::lower::plan;
use crate::tensor::graph::{Axis, Function, Graph, Relation, Val};
use crate::tensor::op::{Node, Op, Slot, ValueId};
use crate::tensor::pass::dce::dce;
use crate::tensor::translate::Translation;

/// Two axes of a value, the first before the second, or two slots of a node; a table maps both to the same index.
type Shared = (Id<Relation>, u32, u32);

/// What is known of a graph.
struct Within<'g> {
    graph: &'g Graph,
    /// Where a value may be other than zero: axes by their places.
    support: BTreeMap<ValueId, BTreeSet<Shared>>,
    /// Where all who read it need a value; `None` where nobody does.
    demand: BTreeMap<ValueId, Option<BTreeSet<Shared>>>,
}

/// The same program with such sums over the entries of one set.
pub(super) fn within_sets(graph: &Graph) -> Graph {
    let mut known = Within { graph, support: BTreeMap::new(), demand: BTreeMap::new() };
    for (id, node) in graph.nodes() {
        let support = known.support_of(node);
        known.support.insert(id, support);
    }
    if known.support.values().all(BTreeSet::is_empty) {
        return graph.clone();
    }
    known.find_demands();
    let mut res = Translation::new(graph);
    for (id, node) in graph.nodes() {
        let (said, unsaid) = known.changes(id, node);
        if said.is_empty() && unsaid.is_empty() {
            res.add(id, node);
            continue;
        }
        let names = |slots: &[Slot]| slots.iter().map(|s| Axis(*s)).collect::<Vec<_>>();
        let kept = (0..node.args.len()).filter(|k| !unsaid.contains(k));
        let mut operands: Vec<Val> = kept.map(|k| res.read(node.args[k], &names(&node.reads[k]))).collect();
        let mut fresh = plan::slot_sizes(graph, node).len() as u32;
        for (relation, a, b) in said {
            let table = res.graph.leaf(Op::Relation(relation));
            operands.extend([a, b].map(|slot| Val { id: table.id, axes: vec![Axis(slot), Axis(fresh)] }));
            fresh += 1;
        }
        // axes that nothing else has
        for (k, slot) in unsaid.iter().map(|k| (*k, node.reads[*k][0])) {
            if !operands.iter().any(|v| v.has(Axis(slot))) {
                let size = graph.ty(node.args[k]).dims[0];
                let identity = res.graph.identity(size);
                operands.push(Val { id: identity.id, axes: vec![Axis(slot), Axis(fresh)] });
                fresh += 1;
            }
        }
        let value = res.graph.contract(&operands.iter().collect::<Vec<_>>(), &names(&node.out));
        res.set(id, node, value);
    }
    res.outputs(&graph.outputs);
    dce(&res.graph)
}

/// The pairs of slots that two operands of a node map to the same index, which nothing else reads; and which operands these are.
fn said(graph: &Graph, node: &Node) -> Vec<(Shared, [usize; 2])> {
    let edges: Vec<(usize, plan::Edge)> = (0..node.args.len())
        .filter_map(|k| Some((k, plan::edge(graph, node.args[k], &node.reads[k])?)))
        .filter(|(_, edge)| edge.from.len() == 1 && matches!(graph.relations[edge.relation].map, Function::Table(_)))
        .collect();
    let mut res = Vec::new();
    for (at, (j, a)) in edges.iter().enumerate() {
        for (k, b) in &edges[..at] {
            let readers = node.reads.iter().flatten().filter(|slot| **slot == a.to).count();
            let alone = readers == 2 && !node.out.contains(&a.to);
            if alone && a.relation == b.relation && a.to == b.to && a.from != b.from {
                let pair = (a.from[0].min(b.from[0]), a.from[0].max(b.from[0]));
                res.push(((a.relation, pair.0, pair.1), [*j, *k]));
            }
        }
    }
    res
}

/// Pairs under other names; those that have none are left out.
fn renamed(pairs: &BTreeSet<Shared>, name: impl Fn(u32) -> Option<u32>) -> BTreeSet<Shared> {
    let one = |(relation, a, b): &Shared| {
        let (a, b) = (name(*a)?, name(*b)?);
        (a != b).then_some((*relation, a.min(b), a.max(b)))
    };
    pairs.iter().filter_map(one).collect()
}

impl Within<'_> {
    /// The pairs of slots of a node outside of which an operand is zero.
    fn of_operand(&self, node: &Node, k: usize) -> BTreeSet<Shared> {
        renamed(&self.support[&node.args[k]], |axis| Some(node.reads[k][axis as usize]))
    }

    fn support_of(&self, node: &Node) -> BTreeSet<Shared> {
        let operands = || (0..node.args.len()).map(|k| self.of_operand(node, k));
        let slots: BTreeSet<Shared> = match node.op {
            Op::Contract => {
                said(self.graph, node).into_iter().map(|(pair, _)| pair).chain(operands().flatten()).collect()
            }
            Op::Sum => operands().reduce(|a, b| a.intersection(&b).copied().collect()).unwrap_or_default(),
            Op::View => self.of_operand(node, 0),
            Op::Map(_) | Op::Reduce(_) => return BTreeSet::new(),
            Op::Input(_) | Op::Weight(_) | Op::Constant(_) | Op::Relation(_) => return BTreeSet::new(),
        };
        renamed(&slots, |slot| place(node, slot))
    }

    /// The pairs that a sum over an axis of them should say: its operands are zero elsewhere, and it does not say so.
    fn unspoken(&self, node: &Node) -> BTreeSet<Shared> {
        if node.op != Op::Contract {
            return BTreeSet::new();
        }
        let known: BTreeSet<Shared> = said(self.graph, node).into_iter().map(|(pair, _)| pair).collect();
        let found = (0..node.args.len()).flat_map(|k| self.of_operand(node, k));
        let summed = |pair: &Shared| place(node, pair.1).is_none() || place(node, pair.2).is_none();
        found.filter(|pair| summed(pair) && !known.contains(pair)).collect()
    }

    /// From the readers to what they read.
    fn find_demands(&mut self) {
        for output in &self.graph.outputs {
            self.demand.insert(output.id, Some(BTreeSet::new()));
        }
        for (id, node) in self.graph.nodes().rev() {
            let Some(own) = self.demand.get(&id).cloned().flatten() else { continue };
            let mut pairs: BTreeSet<Shared> = renamed(&own, |axis| Some(node.out[axis as usize]));
            pairs.extend(said(self.graph, node).into_iter().map(|(pair, _)| pair));
            pairs.extend(self.unspoken(node));
            for (arg, reads) in node.args.iter().zip(&node.reads) {
                let places = |slot: u32| reads.iter().position(|s| *s == slot).map(|axis| axis as u32);
                let needed = renamed(&pairs, places);
                let both = match self.demand.get(arg).cloned().flatten() {
                    Some(others) => others.intersection(&needed).copied().collect(),
                    None => needed,
                };
                self.demand.insert(*arg, Some(both));
            }
        }
    }

    /// The pairs that a node says from now on, and the operands by which it says what need not be said.
    fn changes(&self, id: ValueId, node: &Node) -> (BTreeSet<Shared>, Vec<usize>) {
        let unspoken = self.unspoken(node);
        let demand = self.demand.get(&id).cloned().flatten().unwrap_or_default();
        let known = said(self.graph, node).into_iter().filter(|((relation, a, b), _)| {
            let places = place(node, *a).zip(place(node, *b));
            let asked = places.is_some_and(|(a, b)| demand.contains(&(*relation, a.min(b), a.max(b))));
            node.op == Op::Contract && asked
        });
        (unspoken, known.flat_map(|(_, operands)| operands).collect())
    }
}

/// Which axis of the result a slot is.
fn place(node: &Node, slot: Slot) -> Option<u32> {
    node.out.iter().position(|s| *s == slot).map(|axis| axis as u32)
}
