//! Sums over the entries that a row shares a set with (or over all of an axis) whose weights are functions of a row and an entry together:
//! products of what each has, summed over short axes, and what is computed of these number by number. The derivatives of attention are such
//! sums. The weights are computed inside the sum (`pair_tiles`), so that no array of rows by entries is stored.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::lower::homes::{Facts, When};
use crate::kernel::lower::plan::{self, Edge, Step};
use crate::kernel::lower::softmax::Attention;
use crate::kernel::lower::{pair_tiles, softmax};
use crate::tensor::graph::{Function, Graph, InputKind};
use crate::tensor::op::{Node, Op, Slot, ValueId};

/// Products of a pair below which its numbers are as well stored.
const LEAST_PRODUCTS: usize = 4;
/// Bytes of a number at most.
const MOST_NUMBER: usize = 8;

/// A sum over the entries of each row.
#[derive(Clone, Debug)]
pub(super) struct PairSum {
    pub(super) id: ValueId,
    pub(super) row: Slot,
    pub(super) entry: Slot,
    /// The sorted table that says which set a row is of, and an entry; `None` where all are of one.
    pub(super) set: Option<[Edge; 2]>,
    /// The axes of the result that the weights have, and those that they have not.
    pub(super) heads: Vec<Slot>,
    pub(super) kept: Vec<Slot>,
    /// The operands that make the weight, and those that it is multiplied by.
    pub(super) weights: Vec<usize>,
    pub(super) values: Vec<usize>,
    pub(super) products: Vec<PairProduct>,
    /// What is computed inside the sum alone.
    pub(super) inside: BTreeSet<ValueId>,
}

/// A sum over short axes of products of what a row has with what an entry has.
#[derive(Clone, Debug)]
pub(super) struct PairProduct {
    pub(super) id: ValueId,
    /// For each axis of its result, which axis of the sum over entries it is.
    pub(super) axes: Vec<Slot>,
    pub(super) summed: Vec<Slot>,
    pub(super) of_row: Vec<usize>,
    pub(super) of_entry: Vec<usize>,
}

/// Whether a value is such a sum, and how.
pub(super) fn classify(graph: &Graph, id: ValueId, when: &BTreeMap<ValueId, When>) -> Option<PairSum> {
    let node = graph.node(id);
    if node.op != Op::Contract || when[&id] != When::Call {
        return None;
    }
    let plan = plan::plan(graph, node);
    let sizes = plan::slot_sizes(graph, node);
    let fixed = |slot: &Slot| sizes[*slot as usize].as_fixed().is_some();
    let (row, entry, set) = match &plan.steps[..] {
        [Step::Loop { slot }] if !fixed(slot) => {
            let mut long = node.out.iter().filter(|slot| !fixed(slot));
            let (row, None) = (*long.next()?, long.next()) else { return None };
            (row, *slot, None)
        }
        [Step::Define(a), Step::Rows(b)] if a.relation == b.relation && a.to == b.to => {
            let ([row], [entry]) = (&a.from[..], &b.from[..]) else { return None };
            (node.out.contains(row) && is_sorted(graph, a)).then_some((*row, *entry, Some([a.clone(), b.clone()])))?
        }
        _ => return None,
    };
    let (weights, values): (Vec<usize>, Vec<usize>) = plan.factors.iter().partition(|k| node.reads[**k].contains(&row));
    let weighs = |slot: &Slot| weights.iter().any(|k| node.reads[*k].contains(slot));
    let others = node.out.iter().copied().filter(|slot| *slot != row);
    let (heads, mut kept): (Vec<Slot>, Vec<Slot>) = others.partition(|slot| weighs(slot));
    kept.sort_by_key(|slot| sizes[*slot as usize].as_fixed());
    let of_weights = weights.iter().flat_map(|k| &node.reads[*k]);
    let apart = of_weights.copied().all(|slot| slot == row || slot == entry || heads.contains(&slot));
    let short = heads.iter().chain(&kept).all(fixed);
    let (products, inside) = (vec![], BTreeSet::new());
    let mut sum = PairSum { id, row, entry, set, heads, kept, weights, values, products, inside };
    let found = sum.weights.clone().iter().all(|k| sum.find(graph, node.args[*k], &node.reads[*k]).is_some());
    (apart && short && found && !sum.products.is_empty()).then_some(sum)
}

/// Whether the entries of a row follow each other.
fn is_sorted(graph: &Graph, edge: &Edge) -> bool {
    let Function::Table(input) = graph.relations[edge.relation].map else { return false };
    matches!(graph.inputs[input].kind, InputKind::Table { sorted: true, .. })
}

impl PairSum {
    /// Looks for the products that a weight is computed of; `None` where it is computed in another way. `axes` are those of the sum that the
    /// axes of the value are.
    fn find(&mut self, graph: &Graph, id: ValueId, axes: &[Slot]) -> Option<()> {
        let node = graph.node(id);
        let of_pair = axes.contains(&self.row) && axes.contains(&self.entry);
        if !of_pair {
            return Some(());
        }
        if let Some(known) = self.products.iter().find(|product| product.id == id) {
            return (known.axes == axes).then_some(());
        }
        match node.op {
            Op::Map(_) | Op::Sum => (),
            Op::Contract => {
                let steps = plan::plan(graph, node).steps;
                if steps.iter().any(Step::repeats) {
                    self.products.push(self.product(graph, id, node, axes, &steps)?);
                    self.inside.insert(id);
                    return Some(());
                }
            }
            Op::Reduce(_) | Op::View => return None,
            Op::Input(_) | Op::Weight(_) | Op::Constant(_) | Op::Relation(_) => return Some(()),
        }
        self.inside.insert(id);
        for (arg, reads) in node.args.iter().zip(&node.reads) {
            let axis = |slot: &Slot| node.out.iter().position(|s| s == slot).map(|k| axes[k]);
            match reads.iter().map(axis).collect::<Option<Vec<Slot>>>() {
                Some(axes) => self.find(graph, *arg, &axes)?,
                // what functions of a row or an entry give
                None if graph.ty(*arg).relation => (),
                None => return None,
            }
        }
        Some(())
    }

    fn product(&self, graph: &Graph, id: ValueId, node: &Node, axes: &[Slot], steps: &[Step]) -> Option<PairProduct> {
        let sizes = plan::slot_sizes(graph, node);
        let summed = steps.iter().map(|step| match step {
            Step::Loop { slot } | Step::Only { slot } => Some(*slot),
            Step::Define(_) | Step::Check(_) | Step::Solve { .. } | Step::Digits(_) => None,
            Step::Fibre(_) | Step::Rows(_) => None,
        });
        let summed = summed.collect::<Option<Vec<Slot>>>()?;
        let place = |slot: Slot| axes.iter().position(|axis| *axis == slot).map(|k| node.out[k]);
        let (row, entry) = (place(self.row)?, place(self.entry)?);
        let (of_entry, of_row): (Vec<usize>, Vec<usize>) =
            (0..node.args.len()).partition(|k| node.reads[*k].contains(&entry));
        let apart = !of_entry.iter().any(|k| node.reads[*k].contains(&row));
        let relations = node.args.iter().any(|arg| graph.ty(*arg).relation);
        let places = summed.iter().map(|s| sizes[*s as usize].as_fixed()).product::<Option<usize>>()?;
        let worth = apart && !relations && places >= LEAST_PRODUCTS;
        worth.then_some(PairProduct { id, axes: axes.to_vec(), summed, of_row, of_entry })
    }
}

impl PairSum {
    /// The axes of a value that are on lanes where it is summed, or multiplied for a weight.
    pub(super) fn lane_axes(&self, graph: &Graph, id: ValueId) -> Vec<usize> {
        let node = graph.node(self.id);
        let last = |slot: &Slot| self.kept.last() == Some(slot);
        let mut res: Vec<usize> = (0..node.out.len()).filter(|k| self.id == id && last(&node.out[*k])).collect();
        let mut read = |node: &Node, operands: &[usize], on_lanes: &dyn Fn(&Slot) -> bool| {
            for k in operands.iter().filter(|k| node.args[**k] == id) {
                res.extend((0..node.reads[*k].len()).filter(|axis| on_lanes(&node.reads[*k][*axis])));
            }
        };
        read(node, &self.values, &last);
        for product in &self.products {
            let operands = [&product.of_row[..], &product.of_entry].concat();
            read(graph.node(product.id), &operands, &|slot| product.summed.last() == Some(slot));
        }
        res
    }
}

impl Facts {
    /// Finds the sums over pairs whose weights nobody else reads, and attentions that share them: these store what the weights are
    /// computed of again.
    pub(super) fn find_pairs(&mut self, graph: &Graph, users: &BTreeMap<ValueId, Vec<ValueId>>) {
        let mut attentions: Vec<Attention> = Vec::new();
        for attention in self.live.iter().filter_map(|id| softmax::classify(graph, *id, &self.when, users)) {
            let known = self.attentions.values().map(|(a, _)| a).chain(&attentions);
            if known.into_iter().all(|other| other.softmax.raised != attention.softmax.raised) {
                attentions.push(attention);
            }
        }
        let sums = loop {
            let sums = self.sums_over_pairs(graph, users, &attentions);
            let waits = |a: &Attention| {
                let before = graph.needed_by(std::iter::once(a.id), false);
                sums.iter().any(|sum| sum.inside.contains(&a.softmax.raised) && before[usize::from(sum.id)])
            };
            match attentions.iter().position(waits) {
                // it would store the statistics of its softmax when they have been needed for what it weighs
                Some(late) => attentions.remove(late),
                None => break sums,
            };
        };
        let inside: BTreeSet<ValueId> = sums.iter().flat_map(|sum| sum.inside.iter().copied()).collect();
        for attention in attentions.into_iter().filter(|a| inside.contains(&a.softmax.raised)) {
            self.keep_statistics(graph, attention);
        }
        self.inlined.extend(inside.into_iter().map(|id| (id, true)));
        for sum in sums {
            self.inlined.insert(sum.id, false);
            self.pairs.insert(sum.id, sum);
        }
    }

    /// The sums over pairs, where these attentions store what their weights are computed of.
    fn sums_over_pairs(
        &self,
        graph: &Graph,
        users: &BTreeMap<ValueId, Vec<ValueId>>,
        attentions: &[Attention],
    ) -> Vec<PairSum> {
        let own = |id: ValueId| attentions.iter().any(|a| [a.id, a.softmax.total].contains(&id));
        let candidates = self.live.iter().filter(|id| !own(**id) && !self.has_sum(**id));
        let sums = candidates.filter_map(|id| classify(graph, *id, &self.when)).filter(|sum| {
            let plain = |id: &ValueId| !self.has_sum(*id);
            sum.inside.iter().all(plain) && pair_tiles::rows_of_block(graph, sum, MOST_NUMBER).is_some()
        });
        closed(graph, sums.collect(), users, attentions)
    }

    /// An attention with what it stores beside its sum, if a value is one of these; the sum last.
    pub(super) fn attention_with_statistics(&self, id: ValueId) -> Option<Vec<ValueId>> {
        let units = self.attentions.values().filter(|(a, _)| a.keeps);
        let mut units = units.map(|(a, _)| vec![a.softmax.top, a.softmax.inverse, a.id]);
        units.find(|unit| unit.contains(&id))
    }
}

/// Those of the sums all of whose weights are read by such sums alone, or by an attention.
fn closed(
    graph: &Graph,
    mut all: Vec<PairSum>,
    users: &BTreeMap<ValueId, Vec<ValueId>>,
    attentions: &[Attention],
) -> Vec<PairSum> {
    loop {
        let inside: BTreeSet<ValueId> = all.iter().flat_map(|sum| sum.inside.iter().copied()).collect();
        let sums: BTreeSet<ValueId> = all.iter().map(|sum| sum.id).collect();
        let attends = |user: &ValueId| {
            let of = |a: &&Attention| [a.softmax.top, a.softmax.total, a.id].contains(user);
            attentions.iter().find(of).is_some_and(|a| inside.contains(&a.softmax.raised))
        };
        let fits = |user: &ValueId| inside.contains(user) || sums.contains(user) || attends(user);
        let shown = |id: &ValueId| graph.outputs.iter().any(|o| o.id == *id);
        let open: BTreeSet<ValueId> =
            inside.iter().copied().filter(|id| shown(id) || !users[id].iter().all(fits)).collect();
        let before = all.len();
        all.retain(|sum| sum.inside.is_disjoint(&open) && !inside.contains(&sum.id));
        if all.len() == before {
            return all;
        }
    }
}
