//! Which values are stored, which are computed where they are read, and in which stage each is known.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::size::Size;
use crate::kernel::ir::Stage;
use crate::kernel::lower::dense::{self, Dense};
use crate::kernel::lower::edges::{self, RowRoot};
use crate::kernel::lower::entry::RowGroup;
use crate::kernel::lower::outer::{self, Outer};
use crate::kernel::lower::pairs::PairSum;
use crate::kernel::lower::places::PlaceGroup;
use crate::kernel::lower::plan::{self, Step};
use crate::kernel::lower::softmax::{self, Attention};
use crate::kernel::lower::totals::{self, Total};
use crate::kernel::lower::{Hardware, merge, normal};
use crate::tensor::graph::Graph;
use crate::tensor::op::{Node, Op, ValueId};

/// Copies of an element that may be written out.
const MOST_WRITTEN_OUT: usize = 32;
/// Products of all copies together, where constants leave few of them, and the places where they are looked for.
const MOST_PRODUCTS: usize = 1024;
const MOST_PLACES_SEEN: usize = 1 << 20;

/// What is known of the values of a graph before any kernel is made.
#[derive(Debug)]
pub(super) struct Facts {
    /// The values that outputs need, operands first.
    pub(super) live: Vec<ValueId>,
    pub(super) when: BTreeMap<ValueId, When>,
    pub(super) inlined: BTreeMap<ValueId, bool>,
    /// By the value whose kernel it is part of, the dense sum, and which axis of that value each of its axes is.
    pub(super) dense: BTreeMap<ValueId, (ValueId, Dense, Vec<usize>)>,
    /// The same of sums weighted by a softmax.
    pub(super) attentions: BTreeMap<ValueId, (Attention, Vec<usize>)>,
    /// Sums weighted by functions of a row and an entry.
    pub(super) pairs: BTreeMap<ValueId, PairSum>,
    /// Sums that leave short axes of two values of the call.
    pub(super) outer: BTreeMap<ValueId, Outer>,
    /// Sums that leave short axes of every factor.
    pub(super) totals: BTreeMap<ValueId, Total>,
    /// Kernels of row sums.
    pub(super) rows: Vec<RowGroup>,
    /// Kernels with places on the lanes.
    pub(super) places: Vec<PlaceGroup>,
}

/// The earliest time at which a value can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum When {
    /// Now: constants.
    Compile,
    Bind,
    Prepare,
    Call,
}

impl When {
    /// The stage of the kernels that make it; what is known now is made by kernels of `Prepare` and folded afterwards.
    pub(super) fn stage(self) -> Stage {
        match self {
            When::Compile | When::Prepare => Stage::Prepare,
            When::Bind => Stage::Bind,
            When::Call => Stage::Call,
        }
    }
}

/// Looks at a graph.
pub(super) fn facts(graph: &Graph, hardware: Hardware) -> Facts {
    let live = live(graph);
    let mut when = BTreeMap::new();
    let mut users: BTreeMap<ValueId, Vec<ValueId>> = BTreeMap::new();
    for id in &live {
        when.insert(*id, time(graph, *id, &when));
        for arg in &graph.node(*id).args {
            users.entry(*arg).or_default().push(*id);
        }
    }
    let inlined = merge::inlined(graph, &live, &users, &when);
    let (dense, attentions, outer, totals) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let pairs = BTreeMap::new();
    let mut facts =
        Facts { live, when, inlined, dense, attentions, pairs, outer, totals, rows: vec![], places: vec![] };
    facts.find_dense(graph, &users);
    facts.find_attentions(graph, &users);
    if hardware == Hardware::Cpu {
        facts.find_pairs(graph, &users);
        facts.find_outer(graph);
        facts.find_totals(graph);
    }
    facts.find_rows(graph, &users);
    facts.find_kept(graph, &users, hardware == Hardware::Cpu);
    if hardware == Hardware::Cpu {
        facts.find_places(graph, &users);
    }
    facts
}

impl Facts {
    /// Finds the dense sums, at most one for each kernel: a second one is stored.
    fn find_dense(&mut self, graph: &Graph, users: &BTreeMap<ValueId, Vec<ValueId>>) {
        for id in self.live.clone() {
            let Some(dense) = dense::classify(graph, id, &self.when) else { continue };
            let (mut root, mut axes) = self.root(graph, users, id);
            if self.has_sum(root) {
                self.inlined.insert(id, false);
                (root, axes) = (id, (0..graph.ty(id).dims.len()).collect());
            }
            self.dense.insert(root, (id, dense, axes));
        }
    }

    /// Finds the sums weighted by a softmax, at most one for each kernel, and hides what only they need.
    fn find_attentions(&mut self, graph: &Graph, users: &BTreeMap<ValueId, Vec<ValueId>>) {
        let classify = |id: &ValueId| softmax::classify(graph, *id, &self.when, users);
        let all: Vec<Attention> = self.live.iter().filter_map(classify).collect();
        for attention in &all {
            // the one reader of a sum multiplies it by the inverse, in a kernel that is the sum's alone
            let divides = |user: ValueId, sum: ValueId| {
                let root = self.root(graph, users, sum).0;
                self.inlined[&sum] && users[&sum][..] == [user] && !self.has_sum(root)
            };
            if !attention.closed(graph, &all, users, &divides) {
                continue;
            }
            if attention.keeps {
                self.hide_scores(graph, users, attention.softmax.score);
                self.keep_statistics(graph, attention.clone());
                continue;
            }
            let (mut root, mut axes) = self.root(graph, users, attention.id);
            if self.has_sum(root) {
                self.inlined.insert(attention.id, false);
                (root, axes) = (attention.id, (0..graph.ty(attention.id).dims.len()).collect());
            }
            self.inlined.extend(attention.softmax.inside().into_iter().map(|id| (id, true)));
            self.hide_scores(graph, users, attention.softmax.score);
            self.attentions.insert(root, (attention.clone(), axes));
        }
    }

    /// Stores the greatest score and the inverse of the sum of the weights beside a sum weighted by a softmax, which then has a kernel of its own.
    pub(super) fn keep_statistics(&mut self, graph: &Graph, attention: Attention) {
        self.inlined.extend(attention.softmax.inside().map(|id| (id, true)));
        let stored = [attention.id, attention.softmax.top, attention.softmax.inverse];
        self.inlined.extend(stored.map(|id| (id, false)));
        let axes = (0..graph.ty(attention.id).dims.len()).collect();
        self.attentions.insert(attention.id, (Attention { keeps: true, ..attention }, axes));
    }

    /// Finds the sums that leave short axes of two values of the call; each is stored.
    fn find_outer(&mut self, graph: &Graph) {
        for id in self.live.clone() {
            let attended = self.attentions.values().any(|(a, _)| a.id == id);
            let Some(outer) = outer::classify(graph, id, &self.when).filter(|_| !attended) else { continue };
            self.inlined.insert(id, false);
            self.outer.insert(id, outer);
        }
    }

    /// Finds the sums that leave short axes of every factor; each is stored.
    fn find_totals(&mut self, graph: &Graph) {
        for id in self.live.clone() {
            let scheduled = self.has_sum(id) || self.attentions.values().any(|(a, _)| a.id == id);
            let Some(total) = totals::classify(graph, id, &self.when).filter(|_| !scheduled) else { continue };
            self.inlined.insert(id, false);
            self.totals.insert(id, total);
        }
    }

    /// Whether a stored value's kernel is made for a sum.
    pub(super) fn has_sum(&self, root: ValueId) -> bool {
        let outer = self.outer.contains_key(&root) || self.totals.contains_key(&root);
        outer || self.pairs.contains_key(&root) || self.dense.contains_key(&root) || self.attentions.contains_key(&root)
    }

    /// Scores that a softmax reads twice, and its one pass once, need no memory, nor what they alone are computed from:
    /// unless somebody else reads them, or a kernel of a kind of its own makes them.
    fn hide_scores(&mut self, graph: &Graph, users: &BTreeMap<ValueId, Vec<ValueId>>, score: ValueId) {
        let mut open = vec![(score, 2)];
        while let Some((id, readers)) = open.pop() {
            let node = graph.node(id);
            let is_output = graph.outputs.iter().any(|o| o.id == id);
            if is_output || node.op.is_leaf() || users[&id].len() != readers || !self.is_plain(graph, id) {
                continue;
            }
            self.inlined.insert(id, true);
            let whole = node.args.iter().zip(&node.reads).filter(|(_, reads)| is_identity(reads, &node.out));
            open.extend(whole.filter(|(arg, _)| self.when[arg] == When::Call).map(|(arg, _)| (*arg, 1)));
        }
    }

    /// Whether neither a value nor what is computed with it has a schedule.
    fn is_plain(&self, graph: &Graph, id: ValueId) -> bool {
        let scheduled = self.has_sum(id) || edges::classify(graph, id, &self.when).is_some();
        let merged = |arg: &&ValueId| self.inlined[*arg] && !graph.node(**arg).op.is_leaf();
        !scheduled && graph.node(id).args.iter().filter(merged).all(|arg| self.is_plain(graph, *arg))
    }

    /// The stored value whose kernel computes a value, and which of its axes each axis of the value is.
    pub(super) fn root(
        &self,
        graph: &Graph,
        users: &BTreeMap<ValueId, Vec<ValueId>>,
        id: ValueId,
    ) -> (ValueId, Vec<usize>) {
        let (mut root, mut axes) = (id, (0..graph.ty(id).dims.len()).collect::<Vec<_>>());
        while self.inlined[&root] {
            let user = users[&root][0];
            let node = graph.node(user);
            let at = node.args.iter().position(|a| *a == root).expect("the user reads it");
            let place = |axis: &usize| {
                let slot = node.reads[at][*axis];
                node.out.iter().position(|s| *s == slot).expect("it is read as a whole")
            };
            axes = axes.iter().map(place).collect();
            root = user;
        }
        (root, axes)
    }

    /// Finds the sums over sparse rows, those that one kernel can make together.
    fn find_rows(&mut self, graph: &Graph, users: &BTreeMap<ValueId, Vec<ValueId>>) {
        let mut roots: Vec<(RowRoot, ValueId)> = Vec::new();
        for id in self.live.clone() {
            let attended = self.attentions.values().any(|(a, _)| a.id == id);
            let dense = self.dense.values().any(|(sum, ..)| *sum == id);
            let Some(sum) = edges::classify(graph, id, &self.when).filter(|_| !attended && !dense) else { continue };
            let (root, axes) = self.root(graph, users, id);
            let user = if root == id { id } else { users[&id][0] };
            let added = |user: ValueId| graph.node(user).op == Op::Sum;
            let known = roots.iter_mut().find(|(known, _)| known.root == root);
            let alone = match known {
                None => self.has_sum(root),
                Some((known, by)) => !(*by == user && added(user) && known.join(graph, sum.clone(), axes.clone())),
            };
            if alone {
                self.inlined.insert(id, false);
                let axes = (0..graph.ty(id).dims.len()).collect();
                roots.push((RowRoot::new(graph, id, sum, axes), id));
            } else if !roots.iter().any(|(known, _)| known.root == root) {
                roots.push((RowRoot::new(graph, root, sum, axes), user));
            }
        }
        let place = |id: ValueId| self.live.iter().position(|v| *v == id).expect("it is live");
        roots.sort_by_key(|(root, _)| place(root.root));
        let mut groups: Vec<RowGroup> = Vec::new();
        for (root, _) in roots {
            let fits = groups.last().is_some_and(|group| {
                let same = root.same_rows(&group.roots[0]) && root.fits(graph, group.numbers(graph));
                same && self.independent(graph, &group.roots, root.root)
            });
            match groups.last_mut() {
                Some(group) if fits => group.roots.push(root),
                _ => groups.push(RowGroup { roots: vec![root], kept: vec![] }),
            }
        }
        groups.retain(|group| group.roots[0].fits(graph, 0));
        self.rows = groups;
    }

    /// The short axes of a stored value along which constants are read, to be written out so that zeros are seen.
    pub(super) fn written_out(&self, graph: &Graph, id: ValueId) -> Vec<usize> {
        let node = graph.node(id);
        let sizes = plan::slot_sizes(graph, node);
        let short = |s: &u32| sizes[*s as usize].as_fixed().is_some_and(|n| n <= MOST_WRITTEN_OUT);
        let constants =
            node.args.iter().zip(&node.reads).filter(|(arg, _)| matches!(graph.node(**arg).op, Op::Constant(_)));
        let read: Vec<u32> = constants.flat_map(|(_, reads)| reads.iter().copied()).collect();
        let sums = node.op == Op::Contract && repeats(graph, node) && self.when[&id] == When::Call;
        let axes =
            (0..node.out.len()).filter(|axis| sums && read.contains(&node.out[*axis]) && short(&node.out[*axis]));
        let axes: Vec<usize> = axes.collect();
        let volume: usize = axes.iter().filter_map(|axis| sizes[node.out[*axis] as usize].as_fixed()).product();
        if volume <= MOST_WRITTEN_OUT || self.is_short(graph, node, &sizes, &axes) { axes } else { vec![] }
    }

    /// Whether the constants leave few products of a sum over short axes, at all places of these axes of the result together.
    fn is_short(&self, graph: &Graph, node: &Node, sizes: &[Size], axes: &[usize]) -> bool {
        let plan = plan::plan(graph, node);
        let mut slots: Vec<u32> = axes.iter().map(|axis| node.out[*axis]).collect();
        for step in &plan.steps {
            let Step::Loop { slot } = step else { return false };
            slots.push(*slot);
        }
        let volume = slots.iter().try_fold(1, |n, s| sizes[*s as usize].as_fixed().map(|d| n * d));
        let is_looked_at = volume.is_some_and(|n| n <= MOST_PLACES_SEEN);
        is_looked_at && edges::terms(graph, node, &plan.factors, &slots, &BTreeMap::new()).len() <= MOST_PRODUCTS
    }

    /// Whether a value can be made together with those of a group: it does not need theirs.
    fn independent(&self, graph: &Graph, group: &[RowRoot], root: ValueId) -> bool {
        let mut after: BTreeSet<ValueId> = group.iter().map(|r| r.root).collect();
        for id in self.live.iter().filter(|id| **id <= root) {
            if graph.node(*id).args.iter().any(|arg| after.contains(arg)) {
                after.insert(*id);
            }
        }
        !after.contains(&root)
    }

    /// The order of a stored value's axes in memory: run-time ones outside; of the others those inside that a dense sum
    /// writes as its columns or sums over.
    pub(super) fn order(&self, graph: &Graph, id: ValueId) -> Vec<usize> {
        let dims = &graph.ty(id).dims;
        let mut votes = vec![0; dims.len()];
        for (root, (sum, dense, axes)) in &self.dense {
            let (read, inner) = dense.inner_axes(graph, *sum);
            if read == id {
                inner.into_iter().for_each(|axis| votes[axis] += 1);
            }
            if *root == id {
                let out = &graph.node(*sum).out;
                let columns = (0..out.len()).filter(|k| dense.columns.contains(&out[*k]));
                columns.for_each(|k| votes[axes[k]] += 1);
            }
        }
        for (sum, outer) in &self.outer {
            outer.lane_axes(graph.node(*sum), id).into_iter().for_each(|axis| votes[axis] += 1);
        }
        for (attention, _) in self.attentions.values() {
            attention.lane_axes(graph, id).into_iter().for_each(|axis| votes[axis] += 1);
        }
        for sum in self.pairs.values() {
            sum.lane_axes(graph, id).into_iter().for_each(|axis| votes[axis] += 1);
        }
        for (sum, total) in &self.totals {
            total.lane_axes(graph.node(*sum), id).for_each(|axis| votes[axis] += 1);
        }
        for root in self.rows.iter().flat_map(|g| g.roots.iter().chain(&g.kept)) {
            if root.root == id
                && let Some(channel) = root.channel
            {
                votes[channel] += 1;
            }
            for sum in &root.sums {
                sum.lane_axes(graph, id).for_each(|axis| votes[axis] += 1);
            }
        }
        let mut order: Vec<usize> = (0..dims.len()).collect();
        order.sort_by_key(|axis| (dims[*axis].as_fixed().is_some(), votes[*axis]));
        order
    }
}

fn live(graph: &Graph) -> Vec<ValueId> {
    let mut needed: Vec<bool> = vec![false; graph.nodes().count()];
    for output in &graph.outputs {
        needed[usize::from(output.id)] = true;
    }
    for (id, node) in graph.nodes().rev() {
        if needed[usize::from(id)] {
            node.args.iter().for_each(|arg| needed[usize::from(*arg)] = true);
        }
    }
    graph.nodes().map(|(id, _)| id).filter(|id| needed[usize::from(*id)]).collect()
}

fn time(graph: &Graph, id: ValueId, when: &BTreeMap<ValueId, When>) -> When {
    let node = graph.node(id);
    let needs = graph.ty(id).needs;
    let operands: Vec<When> = node.args.iter().map(|arg| when[arg]).collect();
    let fixed = match node.op.is_leaf() {
        true => graph.ty(id).dims.iter().all(|d| d.as_fixed().is_some()),
        false => plan::slot_sizes(graph, node).iter().all(|d| d.as_fixed().is_some()),
    };
    let all = |times: &[When]| operands.iter().all(|t| times.contains(t));
    if !needs.data && !needs.weights && !needs.tables && fixed && all(&[When::Compile]) {
        When::Compile
    } else if !needs.data && !needs.tables && fixed && all(&[When::Compile, When::Prepare]) {
        When::Prepare
    } else if !needs.data && !needs.weights && all(&[When::Compile, When::Bind]) {
        When::Bind
    } else {
        When::Call
    }
}

/// Whether a node is one element of one operand: a gather, a window, a slice, a diagonal.
pub(super) fn is_read(graph: &Graph, node: &Node) -> bool {
    match node.op {
        Op::View => true,
        Op::Contract => {
            let factors = plan::plan(graph, node).factors;
            normal::tensors(graph, node, &factors).len() == 1 && !repeats(graph, node)
        }
        Op::Input(_) | Op::Weight(_) | Op::Constant(_) | Op::Relation(_) | Op::Sum | Op::Map(_) | Op::Reduce(_) => {
            false
        }
    }
}

/// Whether an element of the node needs a loop.
pub(super) fn repeats(graph: &Graph, node: &Node) -> bool {
    match node.op {
        Op::Contract => plan::plan(graph, node).steps.iter().any(Step::repeats),
        Op::Reduce(_) => true,
        Op::Input(_) | Op::Weight(_) | Op::Constant(_) | Op::Relation(_) | Op::Sum | Op::Map(_) | Op::View => false,
    }
}

/// Whether a node sums products over rows of a table, or of rows that a table points to: numbers that are read many times.
pub(super) fn walks_rows(graph: &Graph, node: &Node) -> bool {
    if node.op != Op::Contract {
        return false;
    }
    let steps = plan::plan(graph, node).steps;
    let table = |step: &Step| match step {
        Step::Define(edge) => graph.relations[edge.relation].map.is_table(),
        _ => false,
    };
    let rows = |step: &Step| matches!(step, Step::Rows(_));
    steps.iter().any(rows) || steps.iter().any(table) && steps.iter().any(Step::repeats)
}

/// Whether the axes read are those of the result, each once.
pub(super) fn is_identity(reads: &[u32], out: &[u32]) -> bool {
    reads.len() == out.len() && out.iter().all(|slot| reads.contains(slot))
}
