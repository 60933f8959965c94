//! Attention with a running softmax (`softmax` finds it): a pass over the entries of a row keeps the greatest score so far, the sum of the
//! weights relative to it and the weighted values; when a greater score comes, what was summed is scaled down (Milakov and
//! Gimelshein 2018). On a CPU a block of entries is taken at a time, so that scores, exponentials and values are on lanes; on a GPU the
//! lanes are the channels, and entries come one by one.

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{Access, Binary, Buffer, Combine, Comparison, Expr, LoopKind, Stmt, Unary};
use crate::kernel::lower::cx::{Cx, Given};
use crate::kernel::lower::element::{Slots, at};
use crate::kernel::lower::homes::When;
use crate::kernel::lower::plan::{self, Edge, Plan, Step};
use crate::kernel::lower::softmax::Attention;
use crate::kernel::lower::{Hardware, Home, Lowering};
use crate::tensor::op::{Slot, ValueId};

/// Entries of a block.
pub(super) const BLOCK: usize = 64;
/// Products of a score that are worth lanes of their own.
const LEAST_ON_LANES: i64 = 8;

/// The numbers that one head of a row keeps.
struct Running {
    sums: Id<Buffer>,
    top: Id<Buffer>,
    total: Id<Buffer>,
}

/// The entries of a row that a block is taken of, and what each determines.
#[derive(Clone, Copy)]
pub(super) struct Entries<'m> {
    pub(super) walk: Walk<'m>,
    after: &'m [Step],
}

/// How entries are numbered.
#[derive(Clone, Copy)]
pub(super) enum Walk<'m> {
    /// By the index along an axis.
    Axis(Slot),
    /// By their place in the rows of a table.
    Rows(&'m Edge),
}

/// A sum that is made: how its axes are visited, and how long they are.
pub(super) struct Made<'m> {
    pub(super) attention: &'m Attention,
    pub(super) plan: Plan,
    /// What axes that are kept determine.
    pub(super) of_kept: Vec<Step>,
    pub(super) sizes: Vec<Size>,
}

/// The value that a kernel of attention stores: `axes[k]` is the axis of the root that axis `k` of the sum is.
pub(super) struct Target<'t> {
    axes: &'t [usize],
    root: ValueId,
    home: &'t Home,
    /// Where the greatest score of each row and the inverse of the sum of its weights are stored, if they are.
    statistics: Option<&'t [Home; 2]>,
}

impl Made<'_> {
    /// The entries of a row, and the steps before them.
    pub(super) fn entries(&self) -> Option<(&[Step], Entries<'_>)> {
        let steps = &self.plan.steps;
        let walk = |step| match step {
            &Step::Loop { slot } => Some(Walk::Axis(slot)),
            Step::Rows(edge) => Some(Walk::Rows(edge)),
            Step::Only { .. } | Step::Define(_) | Step::Check(_) => None,
            Step::Solve { .. } | Step::Digits(_) | Step::Fibre(_) => None,
        };
        let (at, walk) = steps.iter().enumerate().find_map(|(at, step)| Some((at, walk(step)?)))?;
        Some((&steps[..at], Entries { walk, after: &steps[at + 1..] }))
    }

    /// The operands that an entry's weight is multiplied by.
    pub(super) fn factors_of_value(&self) -> impl Iterator<Item = usize> {
        let attention = self.attention;
        let read = |k: &usize| *k != attention.weights && Some(*k) != attention.inverse;
        self.plan.factors.iter().copied().filter(read)
    }
}

impl Lowering<'_> {
    /// The kernel of a root that has an attention inside; `axes[k]` is the axis of the root that axis `k` of the sum is.
    pub(super) fn attention(
        &mut self,
        attention: &Attention,
        axes: &[usize],
        (root, home): (ValueId, &Home),
        statistics: Option<&[Home; 2]>,
        when: When,
    ) {
        let node = self.graph.node(attention.id);
        let (mut plan, sizes) = (plan::plan(self.graph, node), plan::slot_sizes(self.graph, node));
        // loops are over the parts of an axis, which need not be found in it
        plan.steps.retain(|step| !matches!(step, Step::Digits(_)));
        let of_kept = |step: &Step| step.flow().0.iter().any(|slot| attention.kept.contains(slot));
        let (of_kept, steps) = plan.steps.into_iter().partition(of_kept);
        plan.steps = steps;
        let name = format!("attention {}", self.program.buffers[home.buffer].name);
        let rows: Vec<Slot> = [attention.row].into_iter().chain(attention.heads.iter().copied()).collect();
        let (made, target) = (Made { attention, plan, of_kept, sizes }, Target { axes, root, home, statistics });
        let (tiles, together) = (self.tiles(&made), self.takes_heads_together(&made));
        let mut cx = Cx::new(self);
        let mut slots: Slots = vec![None; made.sizes.len()];
        match tiles {
            Some(tiles) => cx.by_tiles(&made, &tiles, &target),
            None if together => cx.by_rows_of_heads(&made, &target),
            None => cx.each_slot(&rows, &made.sizes, [LoopKind::Parallel; 2], &mut slots, &mut |cx, slots| {
                cx.row_by_itself(&made, &target, slots);
            }),
        }
        cx.finish(name, when.stage());
    }
}

impl Cx<'_, '_> {
    /// One head of a row.
    pub(super) fn row_by_itself(&mut self, made: &Made<'_>, target: &Target<'_>, slots: &mut Slots) {
        let running = self.attend(made, slots);
        let (top, total) = (self.b.load(running.top, vec![]), self.b.load(running.total, vec![]));
        let inverse = self.inverse(top, total);
        self.statistics(made, target, slots, [top, inverse]);
        self.finished(made, target, slots, inverse, &mut |cx, place| cx.b.load(running.sums, place));
    }

    /// Stores what derivatives need of a row and a head.
    pub(super) fn statistics(&mut self, made: &Made<'_>, target: &Target<'_>, slots: &Slots, numbers: [Id<Expr>; 2]) {
        let Some(homes) = target.statistics else { return };
        let graph = self.graph();
        for (((_, axes), home), number) in made.attention.statistics(graph).iter().zip(homes).zip(numbers) {
            self.put(home, &at(axes, slots), number);
        }
    }

    /// Stores what follows from the weighted sums of one head of a row.
    pub(super) fn finished(
        &mut self,
        made: &Made<'_>,
        target: &Target<'_>,
        slots: &mut Slots,
        inverse: Id<Expr>,
        sum_at: &mut dyn FnMut(&mut Self, Vec<Id<Expr>>) -> Id<Expr>,
    ) {
        let attention = made.attention;
        let node = self.graph().node(attention.id);
        self.each_kept(made, slots, &mut |cx, slots, place| {
            if let Some(edge) = &attention.joined {
                let dims: Vec<Size> = edge.from.iter().map(|slot| made.sizes[*slot as usize]).collect();
                slots[edge.to as usize] = Some(cx.b.flatten(&at(&edge.from, slots), &dims));
            }
            let sum = sum_at(cx, place);
            let sum = if attention.inverse.is_some() { cx.b.mul(sum, inverse) } else { sum };
            let row = slots[attention.row as usize].expect("lower: the row is known");
            let mut index = vec![row; target.axes.len()];
            for (slot, axis) in node.out.iter().zip(target.axes) {
                index[*axis] = slots[*slot as usize].expect("lower: an axis of the result");
            }
            let inverse = Given { value: attention.softmax.inverse, expr: inverse };
            cx.given = vec![Given { value: attention.id, expr: sum }, inverse];
            let value = cx.element(target.root, &index);
            cx.given.clear();
            cx.put(target.home, &index, value);
        });
    }

    /// The pass over the entries of one head of a row.
    fn attend(&mut self, made: &Made<'_>, slots: &mut Slots) -> Running {
        let dims: Vec<usize> = made.attention.kept.iter().filter_map(|s| made.sizes[*s as usize].as_fixed()).collect();
        let running = Running {
            sums: self.local("sums", &dims),
            top: self.local_number("top", f64::NEG_INFINITY),
            total: self.local_number("total", 0.0),
        };
        self.each_kept(made, &mut slots.clone(), &mut |cx, _, place| {
            let zero = cx.b.float(0.0);
            cx.store(running.sums, place, zero);
        });
        match made.entries().filter(|_| self.low.hardware == Hardware::Cpu) {
            Some((before, entries)) => {
                let mut slots = slots.clone();
                self.settle_all(before, &mut slots);
                self.in_blocks(made, entries, &slots, &running);
            }
            None => self.nest(&made.plan.steps, &made.sizes, &mut slots.clone(), &mut |cx, slots| {
                cx.attended(made, slots, &running);
            }),
        }
        running
    }

    /// Takes steps that always hold.
    pub(super) fn settle_all(&mut self, steps: &[Step], slots: &mut Slots) {
        for step in steps {
            let guard = self.settle(step, slots);
            assert!(guard.is_none(), "lower: functions of an entry are defined everywhere");
            if let Step::Define(edge) = step {
                let value = slots[edge.to as usize].expect("lower: just defined");
                slots[edge.to as usize] = Some(self.bind(value));
            }
        }
    }

    /// Takes the entries of a row in, a block at a time: what was summed is scaled down once a block.
    fn in_blocks(&mut self, made: &Made<'_>, entries: Entries<'_>, slots: &Slots, running: &Running) {
        let (begin, end) = match entries.walk {
            Walk::Axis(slot) => (self.b.int(0), self.b.size(made.sizes[slot as usize])),
            Walk::Rows(edge) => self.row_range(edge, slots),
        };
        let scores = self.local("scores", &[BLOCK]);
        self.each_block(begin, end, |cx, first, count| {
            cx.scores_of_block(made, entries, slots, (first, count), scores);
            let keep = cx.weights_of_block(count, scores, running);
            cx.each_kept(made, &mut slots.clone(), &mut |cx, slots, place| {
                let old = cx.b.load(running.sums, place.clone());
                let old = cx.b.mul(old, keep);
                let weight = |cx: &mut Self, t| cx.b.load(scores, vec![t]);
                let new = cx.sum_of_block(made, entries, slots, (first, count), old, &weight);
                cx.store(running.sums, place, new);
            });
        });
    }

    /// The blocks of the entries from `begin` to before `end`: the first of each, and how many it has.
    pub(super) fn each_block(
        &mut self,
        begin: Id<Expr>,
        end: Id<Expr>,
        body: impl FnOnce(&mut Self, Id<Expr>, Id<Expr>),
    ) {
        let most = self.b.int(BLOCK as i64);
        let count = self.b.sub(end, begin);
        let blocks = self.blocks(count, BLOCK);
        self.each(blocks, LoopKind::Serial, |cx, block| {
            let done = cx.b.mul(block, most);
            let first = cx.b.add(begin, done);
            let first = cx.bind(first);
            let left = cx.b.sub(end, first);
            let count = cx.b.binary(Binary::Min, left, most);
            let count = cx.bind(count);
            body(cx, first, count);
        });
    }

    /// `old + Σ weight · value` over the entries of a block.
    pub(super) fn sum_of_block(
        &mut self,
        made: &Made<'_>,
        entries: Entries<'_>,
        slots: &Slots,
        (first, count): (Id<Expr>, Id<Expr>),
        old: Id<Expr>,
        weight: &dyn Fn(&mut Self, Id<Expr>) -> Id<Expr>,
    ) -> Id<Expr> {
        let sum = self.local("sum", &[]);
        self.store(sum, vec![], old);
        self.each(count, LoopKind::Serial, |cx, t| {
            let mut slots = slots.clone();
            cx.entry_of_block(entries, first, t, &mut slots);
            let value = cx.value_of_entry(made, &slots);
            let weight = weight(cx, t);
            cx.accumulate_product(sum, vec![], &[value, weight]);
        });
        self.b.load(sum, vec![])
    }

    /// The score of an entry.
    pub(super) fn score_of_entry(&mut self, made: &Made<'_>, slots: &Slots) -> Id<Expr> {
        let node = self.graph().node(made.attention.id);
        let index = at(&node.reads[made.attention.weights], slots);
        self.element(made.attention.softmax.score, &index)
    }

    /// Sets what entry `first + t` determines.
    pub(super) fn entry_of_block(&mut self, entries: Entries<'_>, first: Id<Expr>, t: Id<Expr>, slots: &mut Slots) {
        let entry = self.b.add(first, t);
        match entries.walk {
            Walk::Axis(slot) => slots[slot as usize] = Some(entry),
            Walk::Rows(edge) => self.entry_of_row(edge, entry, slots),
        }
        self.settle_all(entries.after, slots);
    }

    /// The scores of a block: on lanes, or each with its products on lanes.
    fn scores_of_block(
        &mut self,
        made: &Made<'_>,
        entries: Entries<'_>,
        slots: &Slots,
        (first, count): (Id<Expr>, Id<Expr>),
        scores: Id<Buffer>,
    ) {
        let (var, begin) = (self.b.var(), self.b.int(0));
        let t = self.b.read(var);
        self.open();
        let mut slots = slots.clone();
        self.entry_of_block(entries, first, t, &mut slots);
        let score = self.score_of_entry(made, &slots);
        self.store(scores, vec![t], score);
        let mut body = self.close();
        let straight = body.iter().all(|stmt| matches!(stmt, Stmt::Let { .. } | Stmt::Store { .. }));
        let kind = if straight { LoopKind::Vector } else { LoopKind::Serial };
        body.iter_mut().for_each(|stmt| self.on_lanes(stmt));
        self.emit(Stmt::For { var, begin, end: count, kind, body });
    }

    /// Puts the products of a long sum on lanes, where they are all that a loop computes.
    fn on_lanes(&mut self, stmt: &mut Stmt) {
        let Stmt::For { begin, end, kind: kind @ LoopKind::Serial, body, .. } = stmt else { return };
        let [Stmt::Store { to, value }] = &body[..] else { return };
        let Expr::Fma { a, b, c } = *self.b.get(*value) else { return };
        let long = match (self.b.get(*begin), self.b.get(*end)) {
            (Expr::Int(begin), Expr::Int(end)) => end - begin >= LEAST_ON_LANES,
            _ => false,
        };
        if long && to.index.is_empty() && *self.b.get(c) == Expr::Load(to.clone()) {
            let to = Access { buffer: to.buffer, index: vec![] };
            let value = self.b.mul(a, b);
            *kind = LoopKind::Vector;
            *body = vec![Stmt::Accumulate { to, f: Combine::Add, value }];
        }
    }

    /// Turns the scores of a block into weights relative to the greatest score so far, adds them to their sum, and says what is left of
    /// what was summed before.
    fn weights_of_block(&mut self, count: Id<Expr>, scores: Id<Buffer>, running: &Running) -> Id<Expr> {
        let old = self.b.load(running.top, vec![]);
        let old = self.bind(old);
        let to = |buffer: Id<Buffer>| Access { buffer, index: vec![] };
        self.each(count, LoopKind::Vector, |cx, t| {
            let value = cx.b.load(scores, vec![t]);
            cx.emit(Stmt::Accumulate { to: to(running.top), f: Combine::Max, value });
        });
        let top = self.b.load(running.top, vec![]);
        let top = self.bind(top);
        let keep = self.relative(old, top);
        let keep = self.bind(keep);
        let total = self.b.load(running.total, vec![]);
        let total = self.b.mul(total, keep);
        self.store(running.total, vec![], total);
        self.each(count, LoopKind::Vector, |cx, t| {
            let score = cx.b.load(scores, vec![t]);
            let weight = cx.relative(score, top);
            let weight = cx.bind(weight);
            cx.store(scores, vec![t], weight);
            cx.emit(Stmt::Accumulate { to: to(running.total), f: Combine::Add, value: weight });
        });
        keep
    }

    /// `exp(score - top)`, and 1 where they are equal: both may be infinite, and the difference is not looked at.
    pub(super) fn relative(&mut self, score: Id<Expr>, top: Id<Expr>) -> Id<Expr> {
        // read once, not again under the condition
        let (score, top) = (self.bind(score), self.bind(top));
        let (one, same) = (self.b.float(1.0), self.b.compare(Comparison::Eq, score, top));
        let difference = self.b.sub(score, top);
        let raised = self.b.unary(Unary::Exp, difference);
        self.b.select(Some(same), one, raised)
    }

    /// What an entry's weight is multiplied by.
    pub(super) fn value_of_entry(&mut self, made: &Made<'_>, slots: &Slots) -> Id<Expr> {
        let node = self.graph().node(made.attention.id);
        let mut slots = slots.clone();
        self.settle_all(&made.of_kept, &mut slots);
        let factors: Vec<Id<Expr>> = made.factors_of_value().map(|k| self.operand(node, k, &slots)).collect();
        let product = factors.into_iter().reduce(|x, y| self.b.mul(x, y));
        product.unwrap_or_else(|| self.b.float(1.0))
    }

    /// Loops over what is kept for a row, the longest axis on lanes, with the place in the local sums.
    pub(super) fn each_kept(
        &mut self,
        made: &Made<'_>,
        slots: &mut Slots,
        body: &mut dyn FnMut(&mut Self, &mut Slots, Vec<Id<Expr>>),
    ) {
        let (kept, kinds) = (&made.attention.kept, [LoopKind::Serial, LoopKind::Vector]);
        self.each_slot(kept, &made.sizes, kinds, slots, &mut |cx, slots| {
            let place = at(kept, slots);
            body(cx, slots, place);
        });
    }

    /// Takes one entry in: with `t = exp(-|s - top|)`, the smaller of the new and the old is worth `t` of the greater.
    fn attended(&mut self, made: &Made<'_>, slots: &Slots, running: &Running) {
        let score = self.score_of_entry(made, slots);
        let score = self.bind(score);
        let top = self.b.load(running.top, vec![]);
        let top = self.bind(top);
        let (one, higher) = (self.b.float(1.0), self.b.compare(Comparison::Lt, top, score));
        // equal scores may both be infinite: the difference is not looked at
        let same = self.b.compare(Comparison::Eq, score, top);
        let difference = self.b.sub(score, top);
        let distance = self.b.unary(Unary::Abs, difference);
        let less = self.b.unary(Unary::Neg, distance);
        let raised = self.b.unary(Unary::Exp, less);
        let t = self.b.select(Some(same), one, raised);
        let t = self.bind(t);
        let (weight, keep) = (self.b.select(Some(higher), one, t), self.b.select(Some(higher), t, one));
        let (weight, keep) = (self.bind(weight), self.bind(keep));
        let greater = self.b.binary(Binary::Max, top, score);
        self.store(running.top, vec![], greater);
        let total = self.b.load(running.total, vec![]);
        let total = self.b.fma(total, keep, weight);
        self.store(running.total, vec![], total);
        self.each_kept(made, &mut slots.clone(), &mut |cx, slots, place| {
            let value = cx.value_of_entry(made, slots);
            let old = cx.b.load(running.sums, place.clone());
            let old = cx.b.mul(old, keep);
            let new = cx.b.fma(value, weight, old);
            cx.store(running.sums, place, new);
        });
    }

    /// The inverse of the sum of the weights: 0 for a row without entries, and NaN where the greatest score is not finite,
    /// as `exp(s - max s)` is.
    pub(super) fn inverse(&mut self, top: Id<Expr>, total: Id<Expr>) -> Id<Expr> {
        let (zero, one) = (self.b.float(0.0), self.b.float(1.0));
        let empty = self.b.compare(Comparison::Eq, total, zero);
        let finite = self.b.sub(top, top);
        let total = self.b.add(total, finite);
        let inverse = self.b.binary(Binary::Div, one, total);
        let inverse = self.b.select(Some(empty), zero, inverse);
        self.bind(inverse)
    }
}
