//! Sums along run-time axes that leave short axes of every factor: the derivatives of biases, sums of all places a channel.
//! What is left lies on lanes, and the places are dealt into parts, whose sums are added up in order at the end: how many parts there
//! are depends on sizes alone, so that the numbers never depend on the threads.

use std::collections::BTreeMap;

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{Access, Binary, Buffer, Combine, Expr, LoopKind, Memory, Stage, Stmt};
use crate::kernel::lower::cx::Cx;
use crate::kernel::lower::edges;
use crate::kernel::lower::element::{Slots, at};
use crate::kernel::lower::homes::When;
use crate::kernel::lower::plan::{self, Plan, Step};
use crate::kernel::lower::{Home, Lowering};
use crate::tensor::graph::Graph;
use crate::tensor::op::{Node, Op, Slot, ValueId};

/// Numbers that are left: fewer waste the lanes, more leave the first-level cache.
const LEAST: usize = 4;
const MOST: usize = 4096;
/// Parts of the places.
const PARTS: i64 = 16;

/// `out[lane] = Σ_place Π factors[place, lane]`
#[derive(Clone, Debug)]
pub(super) struct Total {
    /// The axes that are summed.
    summed: Vec<Slot>,
    /// The one of them that is dealt into parts: the longest.
    dealt: Slot,
    /// The steps that do not repeat.
    steps: Vec<Step>,
    factors: Vec<usize>,
}

/// Whether a value is such a sum, and how.
pub(super) fn classify(graph: &Graph, id: ValueId, when: &BTreeMap<ValueId, When>) -> Option<Total> {
    let node = graph.node(id);
    if node.op != Op::Contract || when[&id] != When::Call {
        return None;
    }
    let plan = plan::plan(graph, node);
    let sizes = plan::slot_sizes(graph, node);
    let (mut summed, mut steps) = (vec![], vec![]);
    for step in plan.steps {
        match step {
            Step::Loop { slot } => summed.push(slot),
            Step::Only { .. } => steps.push(step),
            Step::Define(edge) if edges::total(graph, &edge) => steps.push(Step::Define(edge)),
            Step::Define(_) | Step::Check(_) | Step::Solve { .. } | Step::Digits(_) => return None,
            Step::Fibre(_) | Step::Rows(_) => return None,
        }
    }
    let volume = node.out.iter().try_fold(1, |n, s| sizes[*s as usize].as_fixed().map(|d| n * d))?;
    let long = summed.iter().copied().filter(|s| sizes[*s as usize].as_fixed().is_none());
    let dealt = long.max_by_key(|s| graph.sizes.hint(sizes[*s as usize]))?;
    // a factor that lacks lanes or places belongs to a product of rows with columns, or with a matrix
    let whole = |k: &&usize| node.out.iter().chain(&summed).all(|s| node.reads[**k].contains(s));
    let is_whole = plan.factors.iter().any(|k| whole(&k));
    ((LEAST..=MOST).contains(&volume) && is_whole).then_some(Total { summed, dealt, steps, factors: plan.factors })
}

impl Total {
    /// The axes of an operand that lie on lanes: best contiguous.
    pub(super) fn lane_axes<'n>(&self, node: &'n Node, operand: ValueId) -> impl Iterator<Item = usize> + use<'n> {
        let reads = node.args.iter().zip(&node.reads).filter(move |(arg, _)| **arg == operand);
        reads.flat_map(|(_, reads)| (0..reads.len()).filter(|k| node.out.contains(&reads[*k])))
    }

    /// Axes, those outside in the memory of the widest factor first.
    fn in_memory_order(&self, node: &Node, homes: &BTreeMap<ValueId, Home>, slots: &[Slot]) -> Vec<Slot> {
        let widest = self.factors.iter().copied().max_by_key(|k| node.reads[*k].len()).expect("lower: a factor");
        let place = |slot: &Slot| {
            let axis = node.reads[widest].iter().position(|s| s == slot)?;
            homes.get(&node.args[widest]).map_or(Some(axis), |home| home.order.iter().position(|a| *a == axis))
        };
        let mut res = slots.to_vec();
        res.sort_by_key(place);
        res
    }
}

impl Lowering<'_> {
    /// The kernels of such a sum: the sums of the parts, and their sum.
    pub(super) fn total(&mut self, id: ValueId, total: &Total, home: &Home, stage: Stage) {
        let node = self.graph.node(id);
        let sizes = plan::slot_sizes(self.graph, node);
        let lanes = total.in_memory_order(node, &self.homes, &node.out);
        let name = self.program.buffers[home.buffer].name.clone();
        let shape = [Size::fixed(PARTS as usize)].into_iter().chain(lanes.iter().map(|s| sizes[*s as usize]));
        let memory = Memory::Workspace;
        let parts = self.buffer(&format!("{name}.parts"), self.program.dtype, shape.collect(), memory);
        let mut cx = Cx::new(self);
        let count = cx.number_of_parts(sizes[total.dealt as usize]);
        cx.each(count, LoopKind::Parallel, |cx, part| cx.part(id, total, &sizes, &lanes, (part, count), parts));
        cx.finish(format!("totals {name}"), stage);
        let mut cx = Cx::new(self);
        let count = cx.number_of_parts(sizes[total.dealt as usize]);
        let mut slots: Slots = vec![None; sizes.len()];
        cx.each_lane(&lanes, &sizes, &mut slots, &mut |cx, slots| {
            let sum = cx.local_number("acc", 0.0);
            cx.each(count, LoopKind::Serial, |cx, part| {
                let index = cx.lane_index(part, &lanes, slots);
                let value = cx.b.load(parts, index);
                cx.emit_add(sum, vec![], value);
            });
            let index: Vec<Id<Expr>> = at(&node.out, slots);
            let value = cx.b.load(sum, vec![]);
            cx.put(home, &index, value);
        });
        cx.finish(format!("sum {name}"), stage);
    }
}

impl Cx<'_, '_> {
    fn number_of_parts(&mut self, size: Size) -> Id<Expr> {
        let (extent, most, one) = (self.b.size(size), self.b.int(PARTS), self.b.int(1));
        let parts = self.b.binary(Binary::Min, extent, most);
        self.b.binary(Binary::Max, parts, one)
    }

    /// The sums of one part, kept in local memory while they grow.
    fn part(
        &mut self,
        id: ValueId,
        total: &Total,
        sizes: &[Size],
        lanes: &[Slot],
        (part, count): (Id<Expr>, Id<Expr>),
        parts: Id<Buffer>,
    ) {
        let node = self.graph().node(id);
        let shape: Vec<usize> =
            lanes.iter().map(|s| sizes[*s as usize].as_fixed().expect("lower: lanes are fixed")).collect();
        let sums = self.local("sums", &shape);
        let mut slots: Slots = vec![None; sizes.len()];
        self.each_lane(lanes, sizes, &mut slots, &mut |cx, slots| {
            let (index, zero) = (at(lanes, slots), cx.b.float(0.0));
            cx.store(sums, index, zero);
        });
        let extent = self.b.size(sizes[total.dealt as usize]);
        let share = self.share(extent, part, count);
        let places = total.in_memory_order(node, &self.low.homes, &total.summed);
        self.each_place_of_part(total, &places, share, sizes, &mut slots, &mut |cx, slots| {
            cx.each_lane(lanes, sizes, slots, &mut |cx, slots| {
                let plan = Plan { steps: total.steps.clone(), factors: total.factors.clone() };
                let product = cx.gathered(node, &plan, &mut slots.clone()).expect("lower: nothing guards a total");
                let index = at(lanes, slots);
                cx.emit_add(sums, index, product);
            });
        });
        self.each_lane(lanes, sizes, &mut slots, &mut |cx, slots| {
            let (from, to) = (at(lanes, slots), cx.lane_index(part, lanes, slots));
            let value = cx.b.load(sums, from);
            cx.store(parts, to, value);
        });
    }

    /// Loops over the places of a part, in the order of memory.
    fn each_place_of_part(
        &mut self,
        total: &Total,
        places: &[Slot],
        share: (Id<Expr>, Id<Expr>),
        sizes: &[Size],
        slots: &mut Slots,
        body: &mut dyn FnMut(&mut Self, &mut Slots),
    ) {
        let Some((place, rest)) = places.split_first() else { return body(self, slots) };
        let (zero, extent) = (self.b.int(0), self.b.size(sizes[*place as usize]));
        let (begin, end) = if *place == total.dealt { share } else { (zero, extent) };
        self.range(begin, end, LoopKind::Serial, |cx, i| {
            slots[*place as usize] = Some(i);
            cx.each_place_of_part(total, rest, share, sizes, slots, body);
        });
    }

    /// Loops over what is left, the last axis on lanes.
    fn each_lane(
        &mut self,
        lanes: &[Slot],
        sizes: &[Size],
        slots: &mut Slots,
        body: &mut dyn FnMut(&mut Self, &mut Slots),
    ) {
        self.each_slot(lanes, sizes, [LoopKind::Parallel, LoopKind::Vector], slots, body);
    }

    fn lane_index(&mut self, part: Id<Expr>, lanes: &[Slot], slots: &Slots) -> Vec<Id<Expr>> {
        [part].into_iter().chain(at(lanes, slots)).collect()
    }

    fn emit_add(&mut self, buffer: Id<Buffer>, index: Vec<Id<Expr>>, value: Id<Expr>) {
        self.emit(Stmt::Accumulate { to: Access { buffer, index }, f: Combine::Add, value });
    }
}
