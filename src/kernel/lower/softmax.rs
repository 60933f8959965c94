//! Attention with a running softmax: sums along a row (of entries, or of all of an axis) whose weights are
//! `exp(s - max s) / Σ exp(s - max s)`. One pass a row keeps the greatest score so far, the sum of the weights relative to it
//! and the weighted values; when a greater score comes, what was summed is scaled down (Milakov and Gimelshein 2018).
//!
//! In the tensor program these are a maximum, an exponential, a sum, its inverse and the weighted sum; recognised, only the
//! last has a kernel, and no weight is stored.

use std::collections::BTreeMap;

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{Binary, Buffer, Comparison, Expr, LoopKind, Unary};
use crate::kernel::lower::cx::{Cx, Given};
use crate::kernel::lower::edges;
use crate::kernel::lower::element::{Slots, at};
use crate::kernel::lower::homes::When;
use crate::kernel::lower::plan::{self, Plan, Step};
use crate::kernel::lower::{Home, Lowering};
use crate::tensor::graph::{Function, Graph, Relation};
use crate::tensor::op::{Func, Node, Op, Reduction, Slot, ValueId};

/// Who reads each value.
type Users = BTreeMap<ValueId, Vec<ValueId>>;

/// A weighted sum whose weights are a softmax of scores.
#[derive(Clone, Debug)]
pub(super) struct Attention {
    pub(super) id: ValueId,
    /// Which operand of the sum the weights are, relative to the greatest score.
    weights: usize,
    /// Which operand is the inverse of their sum; where it is none, the kernel's root multiplies by it.
    inverse: Option<usize>,
    pub(super) softmax: Softmax,
    /// The axis of the result that is the row, those that are kept for a row, the longest last.
    row: Slot,
    kept: Vec<Slot>,
}

/// `exp(score - max score)`, with the values around it.
#[derive(Clone, Debug)]
pub(super) struct Softmax {
    pub(super) score: ValueId,
    top: ValueId,
    shifted: ValueId,
    /// The same, or its minimum with 0, which changes it only at scores of other rows.
    exponent: ValueId,
    raised: ValueId,
    total: ValueId,
    inverse: ValueId,
    rows: Rows,
}

/// Which scores belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    /// Those of the entries that a table maps to one index.
    Table(Id<Relation>),
    /// Those with one index along this axis of the score.
    Axis(usize),
    /// Of these, those whose other index the table maps to the same: the points of one sample.
    Sharing(Id<Relation>, usize),
}

impl Rows {
    /// The axis of the score that is the row's.
    fn axis(self) -> Option<usize> {
        match self {
            Rows::Table(_) => None,
            Rows::Axis(axis) | Rows::Sharing(_, axis) => Some(axis),
        }
    }
}

impl Softmax {
    /// The values that the pass over a row makes, and nothing else needs.
    pub(super) fn inside(&self) -> [ValueId; 6] {
        [self.top, self.shifted, self.exponent, self.raised, self.total, self.inverse]
    }

    /// The softmax whose weights, not yet divided by their sum, are this value.
    fn of(graph: &Graph, raised: ValueId, users: &Users) -> Option<Softmax> {
        let exp = graph.node(raised);
        let (Op::Map(Func::Exp), [exponent]) = (&exp.op, &exp.args[..]) else { return None };
        let clamped = clamped(graph, *exponent);
        let shifted = clamped.unwrap_or(*exponent);
        let sum = graph.node(shifted);
        let (Op::Sum, [_, _]) = (&sum.op, &sum.args[..]) else { return None };
        let (score_operand, top) = (0..2).find_map(|k| Some((k, negated_top(graph, sum.args[1 - k], sum.args[k])?)))?;
        let (score, negated) = (sum.args[score_operand], sum.args[1 - score_operand]);
        let rows = rows_of(graph.node(top), 0, graph)?;
        let returned = returns(graph, graph.node(negated), top, rows)?;
        // the greatest score is subtracted from the scores of its own row
        let (at_score, at_top) = (&sum.reads[score_operand], &sum.reads[1 - score_operand]);
        let aligned = match rows.axis() {
            None => at_top == at_score,
            Some(axis) => at_top[returned] == at_score[axis],
        };
        let straight = exp.reads[0] == exp.out && *at_score == sum.out;
        let sums = |id: &&ValueId| {
            let node = graph.node(**id);
            let at = node.args.iter().position(|arg| *arg == raised);
            node.op == Op::Contract && at.is_some_and(|k| rows_of(node, k, graph) == Some(rows))
        };
        let total = *users.get(&raised)?.iter().find(sums)?;
        let [inverse] = users.get(&total)?[..] else { return None };
        let inverts = graph.node(inverse).op == Op::Map(Func::SafeRecip);
        let only = |id: ValueId, user: ValueId| users.get(&id).is_some_and(|u| u[..] == [user]);
        let shown = |id: &ValueId| graph.outputs.iter().any(|o| o.id == *id);
        let alone = only(top, negated) && only(negated, shifted) && only(*exponent, raised);
        let alone = alone && clamped.is_none_or(|_| only(shifted, *exponent)) && !shown(exponent);
        let res = Softmax { score, top, shifted, exponent: *exponent, raised, total, inverse, rows };
        let hidden = !res.inside().iter().any(shown);
        (aligned && straight && inverts && alone && hidden).then_some(res)
    }
}

/// What a value is the minimum of with 0.
fn clamped(graph: &Graph, id: ValueId) -> Option<ValueId> {
    let node = graph.node(id);
    let is_zero = |arg: &ValueId| match graph.node(*arg).op {
        Op::Constant(c) => graph.constants[c].data[..] == [0.0],
        _ => false,
    };
    let whole = |k: &usize| is_zero(&node.args[1 - *k]) && node.reads[*k] == node.out;
    (node.op == Op::Map(Func::Min)).then(|| (0..2).find(whole)).flatten().map(|k| node.args[k])
}

/// The maximum that a value is the negative of, gathered, if it is that of the score.
fn negated_top(graph: &Graph, id: ValueId, score: ValueId) -> Option<ValueId> {
    let node = graph.node(id);
    let is_minus = |arg: &ValueId| match graph.node(*arg).op {
        Op::Constant(c) => graph.constants[c].data[..] == [-1.0] && graph.ty(*arg).dims.is_empty(),
        _ => false,
    };
    let tops = node.args.iter().filter(|arg| {
        let top = graph.node(**arg);
        top.op == Op::Reduce(Reduction::Max) && top.args[0] == score
    });
    let numbers = node.args.iter().filter(|arg| graph.node(**arg).op == Op::Reduce(Reduction::Max) || is_minus(arg));
    let relations = node.args.iter().filter(|arg| graph.ty(**arg).relation).count();
    let whole = numbers.count() == 2 && relations + 2 == node.args.len();
    (node.op == Op::Contract && whole && node.args.iter().any(is_minus)).then(|| tops.copied().next()).flatten()
}

/// How a sum or a maximum of operand `k` goes along rows: by a table of entries, or along one of two axes.
fn rows_of(node: &Node, k: usize, graph: &Graph) -> Option<Rows> {
    let reads = &node.reads[k];
    let others: Vec<usize> = (0..node.args.len()).filter(|other| *other != k).collect();
    let [row] = node.out[..] else { return None };
    let edges = others.iter().map(|other| plan::edge(graph, node.args[*other], &node.reads[*other]));
    let edges = edges.collect::<Option<Vec<_>>>()?;
    let tables = edges.iter().all(|e| matches!(graph.relations[e.relation].map, Function::Table(_)));
    let axis = reads.iter().position(|s| *s == row);
    match (&edges[..], &reads[..], axis) {
        ([], [i, j], Some(axis)) if i != j => Some(Rows::Axis(axis)),
        ([edge], [e], None) if tables && edge.from == [*e] && edge.to == row => Some(Rows::Table(edge.relation)),
        ([a, b], [i, j], Some(axis)) if tables && i != j && a.relation == b.relation && a.to == b.to => {
            let both = (a.from == [*i] && b.from == [*j]) || (a.from == [*j] && b.from == [*i]);
            (both && a.to != *i && a.to != *j).then_some(Rows::Sharing(a.relation, axis))
        }
        _ => None,
    }
}

/// Whether a node reads the maximum of each row back at its entries; the axis of the node that is the row's.
fn returns(graph: &Graph, node: &Node, top: ValueId, rows: Rows) -> Option<usize> {
    let at = node.args.iter().position(|arg| *arg == top)?;
    let edges: Vec<_> = (0..node.args.len()).filter_map(|k| plan::edge(graph, node.args[k], &node.reads[k])).collect();
    match (rows, &edges[..]) {
        (Rows::Table(relation), [edge]) => {
            let fits = edge.relation == relation && node.reads[at] == [edge.to] && edge.from == node.out;
            fits.then_some(0)
        }
        (Rows::Axis(_) | Rows::Sharing(..), []) => (node.reads[at] == node.out).then_some(0),
        (Rows::Table(_) | Rows::Axis(_) | Rows::Sharing(..), _) => None,
    }
}

/// Whether a value is a sum of values weighted by a softmax, and how.
pub(super) fn classify(graph: &Graph, id: ValueId, when: &BTreeMap<ValueId, When>, users: &Users) -> Option<Attention> {
    let node = graph.node(id);
    if node.op != Op::Contract || when[&id] != When::Call {
        return None;
    }
    let plan = plan::plan(graph, node);
    let (weights, softmax) = plan.factors.iter().find_map(|k| Some((*k, Softmax::of(graph, node.args[*k], users)?)))?;
    let reads = &node.reads[weights];
    let row = match softmax.rows {
        Rows::Axis(axis) | Rows::Sharing(_, axis) => {
            Some(reads[axis]).filter(|row| node.out.contains(row) && !node.out.contains(&reads[1 - axis]))
        }
        Rows::Table(relation) => plan.steps.iter().find_map(|step| match step {
            Step::Rows(edge) if edge.relation == relation && edge.from == *reads => Some(edge.to),
            _ => None,
        }),
    }?;
    let sizes = plan::slot_sizes(graph, node);
    let mut kept: Vec<Slot> = node.out.iter().copied().filter(|s| *s != row).collect();
    kept.sort_by_key(|s| sizes[*s as usize].as_fixed());
    let fixed = kept.iter().all(|s| sizes[*s as usize].as_fixed().is_some());
    let one_pass = one_pass(graph, &plan, softmax.rows, reads, &kept);
    let inverse = plan.factors.iter().copied().find(|k| node.args[*k] == softmax.inverse);
    let divided = inverse.is_none_or(|k| node.reads[k] == [row]);
    let once = |value: ValueId| plan.factors.iter().filter(|k| node.args[**k] == value).count() <= 1;
    let fits = fixed && one_pass && divided && once(softmax.raised) && once(softmax.inverse) && id != softmax.total;
    fits.then_some(Attention { id, weights, inverse, softmax, row, kept })
}

/// Whether the only loop is the one over the entries of a row, and all else follows from an entry.
fn one_pass(graph: &Graph, plan: &Plan, rows: Rows, entry: &[Slot], kept: &[Slot]) -> bool {
    plan.steps.iter().all(|step| match (step, rows) {
        (Step::Rows(edge), Rows::Table(relation)) => edge.relation == relation && edge.from == entry,
        (Step::Only { .. }, _) => true,
        (Step::Loop { slot }, Rows::Axis(axis)) => *slot == entry[1 - axis],
        (Step::Rows(edge), Rows::Sharing(relation, axis)) => {
            edge.relation == relation && edge.from == [entry[1 - axis]]
        }
        (Step::Define(edge), _) => edges::total(graph, edge) && !edge.from.iter().any(|s| kept.contains(s)),
        (Step::Rows(_) | Step::Loop { .. } | Step::Check(_), _) => false,
        (Step::Solve { .. } | Step::Digits(_) | Step::Fibre(_), _) => false,
    })
}

impl Attention {
    /// Whether all that read the weights, or the inverse of their sum, are such sums, or divide one as `divides` says.
    pub(super) fn closed(&self, all: &[Attention], users: &Users, divides: &dyn Fn(ValueId, ValueId) -> bool) -> bool {
        let Softmax { raised, total, inverse, .. } = self.softmax;
        let attends = |id: &ValueId| all.iter().any(|other| other.id == *id && other.softmax.raised == raised);
        let divides = |id: &ValueId| all.iter().any(|a| a.softmax.raised == raised && divides(*id, a.id));
        let weighted = users[&raised].iter().all(|user| *user == total || attends(user));
        weighted && users[&inverse].iter().all(|user| attends(user) || divides(user))
    }
}

/// The numbers that one row keeps.
struct Running {
    sums: Id<Buffer>,
    top: Id<Buffer>,
    total: Id<Buffer>,
}

impl Lowering<'_> {
    /// The kernel of a root that has an attention inside; `axes[k]` is the axis of the root that axis `k` of the sum is.
    pub(super) fn attention(&mut self, attention: &Attention, axes: &[usize], root: ValueId, home: &Home, when: When) {
        let node = self.graph.node(attention.id);
        let sizes = plan::slot_sizes(self.graph, node);
        let name = format!("attention {}", self.program.buffers[home.buffer].name);
        let plan = plan::plan(self.graph, node);
        let mut cx = Cx::new(self);
        let extent = cx.b.size(sizes[attention.row as usize]);
        cx.each(extent, LoopKind::Parallel, |cx, row| {
            let mut slots: Slots = vec![None; sizes.len()];
            slots[attention.row as usize] = Some(row);
            let dims: Vec<usize> = attention.kept.iter().filter_map(|s| sizes[*s as usize].as_fixed()).collect();
            let running = Running {
                sums: cx.local("sums", &dims),
                top: cx.local_number("top", f64::NEG_INFINITY),
                total: cx.local_number("total", 0.0),
            };
            cx.each_kept(attention, &sizes, &mut slots.clone(), &mut |cx, _, place| {
                let zero = cx.b.float(0.0);
                cx.store(running.sums, place, zero);
            });
            cx.nest(&plan.steps, &sizes, &mut slots.clone(), &mut |cx, slots| {
                cx.attended(attention, &plan, &sizes, slots, &running);
            });
            let inverse = cx.inverse_of_weights(&running);
            cx.each_kept(attention, &sizes, &mut slots, &mut |cx, slots, place| {
                let sum = cx.b.load(running.sums, place);
                let sum = if attention.inverse.is_some() { cx.b.mul(sum, inverse) } else { sum };
                let mut index = vec![row; axes.len()];
                for (slot, axis) in node.out.iter().zip(axes) {
                    index[*axis] = slots[*slot as usize].expect("lower: an axis of the result");
                }
                let inverse = Given { value: attention.softmax.inverse, expr: inverse };
                cx.given = vec![Given { value: attention.id, expr: sum }, inverse];
                let value = cx.element(root, &index);
                cx.given.clear();
                cx.put(home, &index, value);
            });
        });
        cx.finish(name, when.stage());
    }
}

impl Cx<'_, '_> {
    /// Loops over what is kept for a row, the longest axis on lanes, with the place in the local sums.
    fn each_kept(
        &mut self,
        attention: &Attention,
        sizes: &[Size],
        slots: &mut Slots,
        body: &mut dyn FnMut(&mut Self, &mut Slots, Vec<Id<Expr>>),
    ) {
        self.each_of(&attention.kept, sizes, slots, vec![], body);
    }

    fn each_of(
        &mut self,
        kept: &[Slot],
        sizes: &[Size],
        slots: &mut Slots,
        place: Vec<Id<Expr>>,
        body: &mut dyn FnMut(&mut Self, &mut Slots, Vec<Id<Expr>>),
    ) {
        let Some((slot, rest)) = kept.split_first() else { return body(self, slots, place) };
        let kind = if rest.is_empty() { LoopKind::Vector } else { LoopKind::Serial };
        let extent = self.b.size(sizes[*slot as usize]);
        self.each(extent, kind, |cx, i| {
            slots[*slot as usize] = Some(i);
            let place = place.iter().copied().chain([i]).collect();
            cx.each_of(rest, sizes, slots, place, body);
        });
    }

    /// Takes one entry in: with `t = exp(-|s - top|)`, the smaller of the new and the old is worth `t` of the greater.
    fn attended(&mut self, attention: &Attention, plan: &Plan, sizes: &[Size], slots: &Slots, running: &Running) {
        let node = self.graph().node(attention.id);
        let softmax = &attention.softmax;
        let index = at(&node.reads[attention.weights], slots);
        let score = self.element(softmax.score, &index);
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
        self.each_kept(attention, sizes, &mut slots.clone(), &mut |cx, slots, place| {
            let read = |k: &usize| *k != attention.weights && Some(*k) != attention.inverse;
            let factors: Vec<usize> = plan.factors.iter().copied().filter(read).collect();
            let factors: Vec<Id<Expr>> = factors.into_iter().map(|k| cx.operand(node, k, slots)).collect();
            let value = factors.into_iter().reduce(|x, y| cx.b.mul(x, y)).unwrap_or(one);
            let old = cx.b.load(running.sums, place.clone());
            let old = cx.b.mul(old, keep);
            let new = cx.b.fma(value, weight, old);
            cx.store(running.sums, place, new);
        });
    }

    /// The inverse of the sum of the weights: 0 for a row without entries, and NaN where the greatest score is not finite,
    /// as `exp(s - max s)` is.
    fn inverse_of_weights(&mut self, running: &Running) -> Id<Expr> {
        let (zero, one) = (self.b.float(0.0), self.b.float(1.0));
        let (top, total) = (self.b.load(running.top, vec![]), self.b.load(running.total, vec![]));
        let empty = self.b.compare(Comparison::Eq, total, zero);
        let finite = self.b.sub(top, top);
        let total = self.b.add(total, finite);
        let inverse = self.b.binary(Binary::Div, one, total);
        let inverse = self.b.select(Some(empty), zero, inverse);
        self.bind(inverse)
    }
}
