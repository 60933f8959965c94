//! Which values are computed where they are read, and which are stored: what moves fewer bytes, where that is cheap.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::lower::homes::{When, is_identity, is_read, repeats, walks_rows};
use crate::kernel::lower::{dense, normal, plan};
use crate::tensor::graph::Graph;
use crate::tensor::op::{Func, Node, Op, Slot, ValueId};

/// What is settled of the values that come after the one under consideration.
struct Merge<'g> {
    graph: &'g Graph,
    when: &'g BTreeMap<ValueId, When>,
    users: &'g BTreeMap<ValueId, Vec<ValueId>>,
    inlined: BTreeMap<ValueId, bool>,
    /// Values of which every element is computed at most once.
    once: BTreeMap<ValueId, bool>,
    /// Of those: the stored value whose kernel computes it, and which of its axes each axis is.
    places: BTreeMap<ValueId, (ValueId, Vec<usize>)>,
}

/// Which values are computed where they are read; readers are settled before what they read.
pub(super) fn inlined(
    graph: &Graph,
    live: &[ValueId],
    users: &BTreeMap<ValueId, Vec<ValueId>>,
    when: &BTreeMap<ValueId, When>,
) -> BTreeMap<ValueId, bool> {
    let (inlined, once, places) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut merge = Merge { graph, when, users, inlined, once, places };
    live.iter().rev().for_each(|id| merge.settle(*id));
    merge.inlined
}

impl Merge<'_> {
    fn settle(&mut self, id: ValueId) {
        let node = self.graph.node(id);
        let is_output = self.graph.outputs.iter().any(|o| o.id == id);
        let users = self.users.get(&id).map_or(&[][..], |u| u);
        let walks = |user: &ValueId| walks_rows(self.graph, self.graph.node(*user));
        let copied = normal::is_block(self.graph, node) && users.iter().any(walks);
        let read = is_read(self.graph, node) && !copied;
        let place = if is_output { None } else { self.common_place(id, users) };
        let merged = place.is_some();
        let again = !is_output && !merged && self.is_cheaper_again(id, users);
        let own = (id, (0..node.out.len()).collect());
        self.places.insert(id, place.unwrap_or(own));
        self.inlined.insert(id, node.op.is_leaf() || merged || again || read && !is_output);
        self.once.insert(id, merged || !(again || read && !is_output));
    }

    /// The place in one kernel where all readers of a value, known in the same stage, read each of its elements once and without a
    /// loop. A sum has one reader: it may be that of a schedule, which finishes it there.
    fn common_place(&self, id: ValueId, users: &[ValueId]) -> Option<(ValueId, Vec<usize>)> {
        if users.len() != 1 && repeats(self.graph, self.graph.node(id)) {
            return None;
        }
        let mut res = None;
        for user in users {
            let reader = self.graph.node(*user);
            if repeats(self.graph, reader) || self.when[user] != self.when[&id] || !self.once[user] {
                return None;
            }
            let (root, axes) = &self.places[user];
            for (_, reads) in reader.args.iter().zip(&reader.reads).filter(|(arg, _)| **arg == id) {
                if !is_identity(reads, &reader.out) {
                    return None;
                }
                let axis = |slot: &Slot| reader.out.iter().position(|s| s == slot).map(|k| axes[k]);
                let place = (*root, reads.iter().map(axis).collect::<Option<Vec<usize>>>()?);
                if *res.get_or_insert_with(|| place.clone()) != place {
                    return None;
                }
            }
        }
        res
    }

    /// Whether reading again what a value is computed from moves fewer bytes than storing the value, and the arithmetic is next to
    /// nothing. What it is computed from is there anyway: others read it too.
    fn is_cheaper_again(&self, id: ValueId, users: &[ValueId]) -> bool {
        let node = self.graph.node(id);
        let at_call = |v: &ValueId| self.when[v] == When::Call;
        let fits = |user: &ValueId| at_call(user) && self.once[user] && !self.needs_address(*user, id);
        if !is_cheap(node) || !at_call(&id) || users.is_empty() || !users.iter().all(fits) {
            return false;
        }
        if !node.args.iter().all(|arg| self.is_there(*arg)) {
            return false;
        }
        let sizes = plan::slot_sizes(self.graph, node);
        let long = |s: &&Slot| sizes[**s as usize].as_fixed().is_none();
        let large = |reads: &&Vec<Slot>| node.out.iter().filter(long).all(|s| reads.contains(s));
        let read = node.reads.iter().filter(large).count();
        let readers = users.iter().collect::<BTreeSet<_>>().len();
        // stored: operands once, one written, one for each reader; not stored: operands for each reader
        let each_once = users.iter().all(|user| reads_each_once(self.graph, self.graph.node(*user), id));
        each_once && readers * read <= read + 1 + readers
    }

    /// Whether a value is in memory whatever is decided here: a leaf, or read by others too, perhaps through a table.
    fn is_there(&self, id: ValueId) -> bool {
        let node = self.graph.node(id);
        if node.op.is_leaf() {
            return true;
        }
        let distinct: BTreeSet<&ValueId> = self.users[&id].iter().collect();
        if is_read(self.graph, node) {
            return walks_or_gathers(self.graph, node) || node.args.iter().all(|arg| self.is_there(*arg));
        }
        distinct.len() > 1
    }

    /// Whether a reader is a dense sum that reads the rows of a value by their addresses.
    fn needs_address(&self, user: ValueId, id: ValueId) -> bool {
        dense::classify(self.graph, user, self.when).is_some_and(|dense| dense.inner_axes(self.graph, user).0 == id)
    }
}

/// Whether a node reads one operand through a table.
fn walks_or_gathers(graph: &Graph, node: &Node) -> bool {
    node.args.iter().any(|arg| match graph.node(*arg).op {
        Op::Relation(id) => graph.relations[id].map.is_table(),
        _ => false,
    })
}

/// Whether an element is computed in an instruction or two.
fn is_cheap(node: &Node) -> bool {
    match node.op {
        Op::Sum => true,
        Op::Map(f) => match f {
            Func::Relu | Func::LeakyRelu(_) | Func::Abs | Func::Max | Func::Min | Func::Greater => true,
            Func::Silu | Func::Gelu | Func::Tanh | Func::Sigmoid | Func::Exp | Func::Log | Func::Sin | Func::Cos => {
                false
            }
            Func::Sqrt | Func::Recip | Func::SafeRecip | Func::Powi(_) | Func::Erf => false,
            // it is promised to be computed once
            Func::Same | Func::Held | Func::Capped => false,
        },
        Op::Input(_) | Op::Weight(_) | Op::Constant(_) | Op::Relation(_) => false,
        Op::Contract | Op::Reduce(_) | Op::View => false,
    }
}

/// Whether each element of an operand is read at most once by a node: its axes determine all others.
fn reads_each_once(graph: &Graph, node: &Node, operand: ValueId) -> bool {
    let mut reads = node.args.iter().zip(&node.reads).filter(|(arg, _)| **arg == operand);
    reads.all(|(_, reads)| {
        let mut known = reads.clone();
        let edges: Vec<_> =
            node.args.iter().zip(&node.reads).filter_map(|(arg, reads)| plan::edge(graph, *arg, reads)).collect();
        for _ in 0..edges.len() {
            let next: Vec<Slot> =
                edges.iter().filter(|e| e.from.iter().all(|s| known.contains(s))).map(|e| e.to).collect();
            known.extend(next);
        }
        node.reads.iter().flatten().chain(&node.out).all(|slot| known.contains(slot))
    })
}
