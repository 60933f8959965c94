//! Places on the lanes: which values along one long axis (points, edges) are made by one kernel that runs through the axis in vectors.
//! Their other axes are short, and each number of a value is a straight line of code from numbers at the same place, from constants
//! and from what a table points to: norms, harmonics, radial functions, products with sparse constants, concatenations.
//! What only the kernel itself reads is never stored.
//!
//! In: the facts of a graph, all other schedules found. Out: the groups; `places_kernel` makes their kernels.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::size::Size;
use crate::kernel::lower::homes::{Facts, When};
use crate::kernel::lower::plan::{self, Step};
use crate::kernel::lower::{edges, homes};
use crate::tensor::graph::Graph;
use crate::tensor::op::{Op, ValueId};

/// Numbers of a value at a place: more do not stay in registers and the caches next to them.
const MOST_NUMBERS: usize = 64;
/// Numbers at a place of all values of a kernel, and products that they are sums of: what a compiler takes as one piece of code.
const MOST_NUMBERS_OF_ALL: usize = 256;
const MOST_PRODUCTS: usize = 1024;
/// Fewer numbers than this do not fill the lanes by themselves; fewer sums than `MANY_NUMBERS` do not.
const FEW_NUMBERS: usize = 4;
/// As many numbers that are computed alike do.
const MANY_NUMBERS: usize = 16;
/// Places of short axes that are looked at to count products.
const MOST_PLACES_SEEN: usize = 1 << 16;

/// Values that one kernel makes, operands first.
#[derive(Clone, Debug)]
pub(super) struct PlaceGroup {
    /// The long axis.
    pub(super) axis: Size,
    pub(super) members: Vec<ValueId>,
    /// The members that are outputs or read by others.
    pub(super) stored: BTreeSet<ValueId>,
    numbers: usize,
    products: usize,
}

/// What a value costs at each place.
struct Cost {
    numbers: usize,
    products: usize,
}

/// Stored values by the kernels that make them, and which kernels those read.
struct Kernels {
    of: BTreeMap<ValueId, usize>,
    reads: Vec<BTreeSet<usize>>,
}

impl Kernels {
    fn new(graph: &Graph, facts: &Facts) -> Kernels {
        let mut res = Kernels { of: BTreeMap::new(), reads: vec![] };
        for id in facts.live.iter().filter(|id| !facts.inlined[id]) {
            let together = facts
                .rows
                .iter()
                .find(|g| g.makes(*id))
                .and_then(|g| g.kept.iter().chain(&g.roots).find_map(|r| res.of.get(&r.root).copied()));
            let kernel = together.unwrap_or(res.reads.len());
            if kernel == res.reads.len() {
                res.reads.push(BTreeSet::new());
            }
            res.of.insert(*id, kernel);
        }
        for (id, kernel) in &res.of {
            facts.reads(graph, *id, true, &mut |read, _| {
                if let Some(other) = res.of.get(&read).filter(|other| *other != kernel) {
                    res.reads[*kernel].insert(*other);
                }
            });
        }
        res
    }

    /// Whether two kernels can be one: none lies between them.
    fn may_join(&self, a: usize, b: usize) -> bool {
        !self.reads_through(a, b) && !self.reads_through(b, a)
    }

    /// Whether a kernel reads another through a third.
    fn reads_through(&self, from: usize, to: usize) -> bool {
        let mut open: Vec<usize> = self.reads[from].iter().copied().filter(|k| *k != to).collect();
        let mut seen = BTreeSet::new();
        while let Some(kernel) = open.pop() {
            if kernel == to {
                return true;
            }
            if seen.insert(kernel) {
                open.extend(&self.reads[kernel]);
            }
        }
        false
    }

    /// Makes kernel `b` part of kernel `a`.
    fn join(&mut self, a: usize, b: usize) {
        let read = std::mem::take(&mut self.reads[b]);
        self.reads[a].extend(read);
        self.reads[a].remove(&a);
        self.reads[a].remove(&b);
        for (kernel, reads) in self.reads.iter_mut().enumerate() {
            if reads.remove(&b) && kernel != a {
                reads.insert(a);
            }
        }
        self.of.values_mut().filter(|kernel| **kernel == b).for_each(|kernel| *kernel = a);
    }
}

impl Facts {
    /// Finds the values that are computed with places on the lanes.
    pub(super) fn find_places(&mut self, graph: &Graph, users: &BTreeMap<ValueId, Vec<ValueId>>) {
        let mut kernels = Kernels::new(graph, self);
        let mut groups: Vec<PlaceGroup> = Vec::new();
        for id in &self.live {
            let Some((axis, cost)) = self.at_places(graph, *id) else { continue };
            let found = groups.iter().rposition(|group| {
                let fits =
                    group.axis == axis && group.has_room(&cost) && self.is_related(graph, group, *id, cost.numbers);
                fits && kernels.may_join(kernels.of[&group.members[0]], kernels.of[id])
            });
            match found {
                // of many numbers that nothing at this place is used for, each is read and written once
                None if cost.numbers >= MANY_NUMBERS => (),
                Some(at) => {
                    kernels.join(kernels.of[&groups[at].members[0]], kernels.of[id]);
                    groups[at].add(*id, &cost);
                }
                None => {
                    let (members, stored) = (vec![], BTreeSet::new());
                    let mut group = PlaceGroup { axis, members, stored, numbers: 0, products: 0 };
                    group.add(*id, &cost);
                    groups.push(group);
                }
            }
        }
        for group in &mut groups {
            let outside =
                |id: &ValueId| graph.outputs.iter().any(|o| o.id == *id) || self.is_read_outside(group, *id, users);
            group.stored = group.members.iter().copied().filter(|id| outside(id)).collect();
        }
        groups.retain(|group| self.pays(graph, group));
        self.places = groups;
    }

    /// The long axis of a stored value of which each place is computed by straight-line code, and what that costs.
    fn at_places(&self, graph: &Graph, id: ValueId) -> Option<(Size, Cost)> {
        let scheduled = self.has_sum(id) || self.rows.iter().any(|g| g.makes(id));
        if self.inlined[&id] || self.when[&id] != When::Call || scheduled || graph.node(id).op.is_leaf() {
            return None;
        }
        let dims = &graph.ty(id).dims;
        let mut long = dims.iter().filter(|d| d.as_fixed().is_none());
        let (axis, None) = (*long.next()?, long.next()) else { return None };
        let numbers: usize = dims.iter().filter_map(|d| d.as_fixed()).product();
        let products = self.products(graph, id)?;
        let fits = (1..=MOST_NUMBERS).contains(&numbers) && products <= MOST_PRODUCTS && !self.has_channels(graph, id);
        fits.then_some((axis, Cost { numbers, products }))
    }

    /// The products of all numbers of a value at a place, where these are straight lines of code.
    fn products(&self, graph: &Graph, id: ValueId) -> Option<usize> {
        let node = graph.node(id);
        let mut res = match node.op {
            Op::Input(_) | Op::Weight(_) | Op::Constant(_) | Op::Relation(_) => return Some(0),
            Op::Reduce(_) => return None,
            Op::Sum | Op::Map(_) | Op::View => 0,
            Op::Contract => {
                let sizes = plan::slot_sizes(graph, node);
                let plan = plan::plan(graph, node);
                let mut slots: Vec<u32> = node.out.clone();
                for step in &plan.steps {
                    match step {
                        Step::Loop { slot } => slots.push(*slot),
                        Step::Only { .. } | Step::Define(_) | Step::Check(_) | Step::Solve { .. } | Step::Digits(_) => {
                        }
                        Step::Fibre(_) | Step::Rows(_) => return None,
                    }
                }
                // of the long axis, one place
                slots.retain(|s| !(node.out.contains(s) && sizes[*s as usize].as_fixed().is_none()));
                // products with weights are matrices: they have kernels of their own
                let weighs = |k: &usize| graph.ty(node.args[*k]).needs.weights && !graph.ty(node.args[*k]).needs.data;
                if plan.steps.iter().any(Step::repeats) && plan.factors.iter().any(weighs) {
                    return None;
                }
                let volume = slots.iter().try_fold(1, |n: usize, s| sizes[*s as usize].as_fixed().map(|d| n * d))?;
                if volume > MOST_PLACES_SEEN {
                    return None;
                }
                edges::terms(graph, node, &plan.factors, &slots, &BTreeMap::new()).len()
            }
        };
        for arg in node.args.iter().filter(|arg| self.inlined[arg]) {
            res += self.products(graph, *arg)?;
        }
        Some(res)
    }

    /// Whether many numbers of a value, or many terms of its sums, are computed alike: they fill the lanes by themselves.
    fn has_channels(&self, graph: &Graph, id: ValueId) -> bool {
        let node = graph.node(id);
        let sizes = plan::slot_sizes(graph, node);
        let many = |slot: &u32| sizes[*slot as usize].as_fixed().is_some_and(|n| n >= MANY_NUMBERS);
        let inside = node.args.iter().filter(|arg| self.inlined[arg] && !graph.node(**arg).op.is_leaf());
        let mut slots = node.out.iter().chain(node.reads.iter().flatten());
        slots.any(|slot| many(slot) && self.is_channel(graph, id, *slot))
            || inside.into_iter().any(|arg| self.has_channels(graph, *arg))
    }

    /// Whether neither a constant nor a relation tells the places of a node's axis apart.
    fn is_channel(&self, graph: &Graph, id: ValueId, slot: u32) -> bool {
        let node = graph.node(id);
        node.args.iter().zip(&node.reads).filter(|(_, reads)| reads.contains(&slot)).all(|(arg, reads)| {
            let inner = graph.node(*arg);
            match inner.op {
                Op::Constant(_) | Op::Relation(_) => false,
                Op::Input(_) | Op::Weight(_) => true,
                Op::Contract | Op::Sum | Op::Map(_) | Op::Reduce(_) | Op::View => {
                    let mut axes = inner.out.iter().zip(reads).filter(|(_, read)| **read == slot);
                    !self.inlined[arg] || axes.all(|(axis, _)| self.is_channel(graph, *arg, *axis))
                }
            }
        })
    }

    /// What the kernel of a value reads, each with whether it is read only at the place that is computed.
    fn reads(&self, graph: &Graph, id: ValueId, at_place: bool, visit: &mut dyn FnMut(ValueId, bool)) {
        let node = graph.node(id);
        let long = |v: ValueId, slots: &[u32]| -> Vec<u32> {
            let dims = graph.ty(v).dims.iter();
            dims.zip(slots).filter(|(d, _)| d.as_fixed().is_none()).map(|(_, s)| *s).collect()
        };
        let place = long(id, &node.out);
        for (arg, reads) in node.args.iter().zip(&node.reads) {
            let at_place = at_place && long(*arg, reads) == place;
            if self.inlined[arg] && !graph.node(*arg).op.is_leaf() {
                self.reads(graph, *arg, at_place, visit);
            } else {
                visit(*arg, at_place);
            }
        }
    }

    /// Whether a value reads members of a group or, if it is of few numbers, what they read; and members only at the same place.
    fn is_related(&self, graph: &Graph, group: &PlaceGroup, id: ValueId, numbers: usize) -> bool {
        let (mut apart, mut own) = (false, BTreeSet::new());
        self.reads(graph, id, true, &mut |read, at_place| {
            apart |= !at_place && group.members.contains(&read);
            own.insert(read);
        });
        let shares = |read: &ValueId| graph.ty(*read).needs.data;
        let mut related = group.members.iter().any(|member| own.contains(member));
        if numbers >= MANY_NUMBERS {
            return related && !apart;
        }
        for member in &group.members {
            self.reads(graph, *member, true, &mut |read, _| related |= shares(&read) && own.contains(&read));
        }
        related && !apart
    }

    fn is_read_outside(&self, group: &PlaceGroup, id: ValueId, users: &BTreeMap<ValueId, Vec<ValueId>>) -> bool {
        let mut readers = users.get(&id).into_iter().flatten();
        readers.any(|user| match self.inlined[user] {
            true => self.is_read_outside(group, *user, users),
            false => !group.members.contains(user),
        })
    }

    /// Whether a kernel stores less than its values would be, or fills lanes that they would not.
    fn pays(&self, graph: &Graph, group: &PlaceGroup) -> bool {
        let numbers = |id: &ValueId| graph.ty(*id).dims.iter().filter_map(|d| d.as_fixed()).product::<usize>();
        let summed = |id: &ValueId| homes::repeats(graph, graph.node(*id));
        let fills = |id: &ValueId| numbers(id) >= if summed(id) { MANY_NUMBERS } else { FEW_NUMBERS };
        group.stored.len() < group.members.len() || !group.members.iter().all(fills)
    }
}

impl PlaceGroup {
    fn has_room(&self, cost: &Cost) -> bool {
        self.numbers + cost.numbers <= MOST_NUMBERS_OF_ALL && self.products + cost.products <= MOST_PRODUCTS
    }

    fn add(&mut self, id: ValueId, cost: &Cost) {
        self.members.push(id);
        self.numbers += cost.numbers;
        self.products += cost.products;
    }
}
