//! Values of one entry of a row that only the kernel of that row reads, or two kernels that compute them for less than it takes to fetch
//! them: they are computed there, entry by entry, and kept in local memory; nothing of size entries x channels is stored.
//!
//! In: the row sums that one kernel makes, and all other values. Out: for each kernel the values that it keeps, operands first, each
//! a sum of products like its row sums, with the entry where those have the row; and the order in which kernels are made.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::lower::edges::{Row, RowRoot, at_an_entry};
use crate::kernel::lower::homes::{Facts, When};
use crate::tensor::graph::Graph;
use crate::tensor::op::{Op, Slot, ValueId};

/// The values that one kernel of row sums stores, operands first, and those that it keeps while it is at an entry.
#[derive(Clone, Debug, Default)]
pub(super) struct RowGroup {
    pub(super) roots: Vec<RowRoot>,
    pub(super) kept: Vec<RowRoot>,
}

impl RowGroup {
    /// Whether the kernel makes a value, to be stored or kept.
    pub(super) fn makes(&self, id: ValueId) -> bool {
        self.roots.iter().chain(&self.kept).any(|r| r.root == id)
    }

    /// The numbers of local memory.
    pub(super) fn numbers(&self, graph: &Graph) -> usize {
        self.roots.iter().chain(&self.kept).map(|r| r.row_len(graph)).sum()
    }

    /// The slot under which a node that is a sum of this kernel has the entry.
    fn entry_of(&self, sum: ValueId) -> Option<Slot> {
        let found = self.roots.iter().chain(&self.kept).flat_map(|r| &r.sums).find(|s| s.id == sum)?;
        match &found.rows {
            Row::Entries(edge) => (edge.from.len() == 1).then(|| edge.from[0]),
            Row::Place(slot, _) => Some(*slot),
        }
    }

    /// Whether a node is a sum of this kernel, and if so whether it reads a value, along whose axis `along` entries lie, at its entry.
    fn reads_at_entry(&self, graph: &Graph, user: ValueId, value: ValueId, along: usize) -> Option<bool> {
        let at = self.entry_of(user)?;
        let node = graph.node(user);
        let mut reads = node.args.iter().zip(&node.reads).filter(|(arg, _)| **arg == value);
        Some(reads.all(|(_, reads)| reads[along] == at))
    }
}

impl Facts {
    /// Gives each kernel the values that it alone reads, or with one other where `repeated`, from the last to the first: whoever reads a
    /// kept value is settled before.
    pub(super) fn find_kept(&mut self, graph: &Graph, users: &BTreeMap<ValueId, Vec<ValueId>>, repeated: bool) {
        if self.rows.is_empty() {
            return;
        }
        for root in self.candidates(graph, users).into_iter().rev() {
            let Some(groups) = self.readers_at_entries(graph, &root, &users[&root.root]) else { continue };
            let room = groups.iter().all(|g| root.fits(graph, self.rows[*g].numbers(graph)));
            if !room || groups.len() > 1 && !(repeated && groups.len() == 2 && root.is_cheap_to_repeat(graph)) {
                continue;
            }
            // what two kernels compute is no kernel's alone
            self.inlined.insert(root.root, groups.len() > 1);
            for group in groups {
                self.rows[group].kept.insert(0, root.clone());
            }
        }
    }

    /// The kernels of row sums that read a value, if all its readers are sums of theirs that read it at their entry.
    fn readers_at_entries(&self, graph: &Graph, root: &RowRoot, users: &[ValueId]) -> Option<BTreeSet<usize>> {
        let mut res = BTreeSet::new();
        for user in users {
            let reads = |group: &RowGroup| group.reads_at_entry(graph, *user, root.root, root.row);
            let found = self.rows.iter().enumerate().filter_map(|(g, group)| Some((g, reads(group)?)));
            let found: Vec<(usize, bool)> = found.collect();
            if found.is_empty() || found.iter().any(|(_, at_entry)| !at_entry) {
                return None;
            }
            res.extend(found.into_iter().map(|(g, _)| g));
        }
        Some(res)
    }

    /// Stored values that are sums of products at one place of a long axis, operands first.
    fn candidates(&self, graph: &Graph, users: &BTreeMap<ValueId, Vec<ValueId>>) -> Vec<RowRoot> {
        let mut res: BTreeMap<ValueId, Option<RowRoot>> = BTreeMap::new();
        for id in &self.live {
            let Some(sum) = at_an_entry(graph, *id, &self.when) else { continue };
            let (root, axes) = self.root(graph, users, *id);
            let direct = root == *id || users[id] == [root];
            if !direct || !self.may_be_kept(graph, root, users) {
                continue;
            }
            match res.get_mut(&root) {
                None => {
                    res.insert(root, Some(RowRoot::new(graph, root, sum, axes)));
                }
                Some(known) => {
                    let joined = known.as_mut().is_some_and(|known| known.join(graph, sum, axes));
                    *known = known.take().filter(|_| joined);
                }
            }
        }
        let complete = |root: &RowRoot| {
            let node = graph.node(root.root);
            let summed = |arg: &ValueId| root.sums.iter().any(|s| s.id == *arg);
            root.sums[0].id == root.root || node.op == Op::Sum && node.args.iter().all(summed)
        };
        self.live.iter().filter_map(|id| res.remove(id).flatten()).filter(complete).collect()
    }

    /// Whether a value is stored by a kernel of no kind of its own.
    fn may_be_kept(&self, graph: &Graph, root: ValueId, users: &BTreeMap<ValueId, Vec<ValueId>>) -> bool {
        let is_output = graph.outputs.iter().any(|o| o.id == root);
        let stored = !self.inlined[&root] && self.when[&root] == When::Call;
        let scheduled = self.has_sum(root) || self.rows.iter().any(|g| g.makes(root));
        stored && !is_output && !scheduled && users.contains_key(&root)
    }

    /// The live values in an order in which each kernel of row sums comes after all that it reads, and before who reads it.
    pub(super) fn in_order_of_kernels(&self, graph: &Graph) -> Vec<ValueId> {
        let mut seen: BTreeSet<ValueId> = BTreeSet::new();
        let mut res = Vec::new();
        for id in &self.live {
            let mut stack = vec![(*id, false)];
            while let Some((id, operands_are_done)) = stack.pop() {
                let unit = self.unit(id);
                if operands_are_done {
                    res.extend(unit);
                } else if seen.insert(*unit.last().expect("a unit has a member")) {
                    stack.push((id, true));
                    // what is computed inside of the kernel reads its members, which are seen by now
                    let args = unit.iter().rev().flat_map(|member| graph.node(*member).args.iter().rev());
                    stack.extend(args.filter(|arg| !unit.contains(arg)).map(|arg| (*arg, false)));
                }
            }
        }
        res
    }

    /// The values that are made together with one: those of its kernel of row sums or of places, operands first; what several kernels keep
    /// is in each of theirs too.
    fn unit(&self, id: ValueId) -> Vec<ValueId> {
        if let Some(group) = self.places.iter().find(|g| g.members.contains(&id)) {
            return group.members.clone();
        }
        if let Some(unit) = self.attention_with_statistics(id) {
            return unit;
        }
        let Some(group) = self.rows.iter().find(|g| g.makes(id)) else { return vec![id] };
        if self.inlined[&id] {
            // nothing is made, but what they read: together, as it would be for a kernel of them
            return group.kept.iter().map(|r| r.root).filter(|kept| self.inlined[kept]).collect();
        }
        group.kept.iter().chain(&group.roots).map(|r| r.root).collect()
    }
}
