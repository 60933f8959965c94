//! Sums weighted by a softmax, recognised: sums along a row (of entries, or of all of an axis) whose weights are
//! `exp(s - max s) / Σ exp(s - max s)`.
//!
//! In the tensor program these are a maximum, an exponential, a sum, its inverse and the weighted sum; recognised, only the
//! last has a kernel (`attention`), and no weight is stored. Scores may have short axes beside those of the row and the entry, which
//! the result has too: the heads.

use std::collections::BTreeMap;

use crate::base::arena::Id;
use crate::kernel::lower::edges;
use crate::kernel::lower::homes::When;
use crate::kernel::lower::plan::{self, Edge, Plan, Step};
use crate::tensor::graph::{Function, Graph, Relation};
use crate::tensor::op::{Func, Node, Op, Reduction, Slot, ValueId};

/// Who reads each value.
type Users = BTreeMap<ValueId, Vec<ValueId>>;

/// A weighted sum whose weights are a softmax of scores.
#[derive(Clone, Debug)]
pub(super) struct Attention {
    pub(super) id: ValueId,
    /// Which operand of the sum the weights are, relative to the greatest score.
    pub(super) weights: usize,
    /// Which operand is the inverse of their sum; where it is none, the kernel's root multiplies by it.
    pub(super) inverse: Option<usize>,
    pub(super) softmax: Softmax,
    /// The axis of the result that is the row, those of the heads, those that are kept for a row and a head, the longest last.
    pub(super) row: Slot,
    pub(super) heads: Vec<Slot>,
    pub(super) kept: Vec<Slot>,
    /// The axes of which an axis of the result is made: heads and what is kept, side by side.
    pub(super) joined: Option<Edge>,
    /// Whether the greatest score and the inverse of the sum of the weights are stored too: derivatives compute the weights of them again, in
    /// this program or in another, to which these are outputs.
    pub(super) keeps: bool,
}

/// `exp(score - max score)`, with the values around it.
#[derive(Clone, Debug)]
pub(super) struct Softmax {
    pub(super) score: ValueId,
    pub(super) top: ValueId,
    shifted: ValueId,
    /// The same, or its minimum with 0, which changes it only at scores of other rows.
    exponent: ValueId,
    pub(super) raised: ValueId,
    pub(super) total: ValueId,
    pub(super) inverse: ValueId,
    rows: Rows,
    /// What each axis of the greatest score is, and of the inverse.
    of_top: Vec<Place>,
    of_inverse: Vec<Place>,
}

/// Which scores belong together: those of one row, and of one index along every axis that is neither the row's nor the entry's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    /// The row is what a table maps the index along the axis of the entry to.
    Table { relation: Id<Relation>, entry: usize },
    /// The row has an axis of its own.
    Axis { row: usize, entry: usize },
    /// Of these, the entries whose index the table maps to the same: the points of one sample.
    Sharing { relation: Id<Relation>, row: usize, entry: usize },
}

/// What an axis of a value of the rows is: the row, or an axis of the score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Row,
    Axis(usize),
}

impl Rows {
    /// The axis of the score that is the entry's.
    fn entry(self) -> usize {
        match self {
            Rows::Table { entry, .. } | Rows::Axis { entry, .. } | Rows::Sharing { entry, .. } => entry,
        }
    }

    /// The axis of the score that is the row's.
    fn row(self) -> Option<usize> {
        match self {
            Rows::Table { .. } => None,
            Rows::Axis { row, .. } | Rows::Sharing { row, .. } => Some(row),
        }
    }

    /// What an axis of the score is, of one that is not the entry's.
    fn place(self, axis: usize) -> Place {
        if self.row() == Some(axis) { Place::Row } else { Place::Axis(axis) }
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
        let (rows, of_top) = rows_of(graph.node(top), 0, graph)?;
        // the greatest score is subtracted from the scores of its own row
        let returned = returns(graph, graph.node(negated), top, rows, &of_top)?;
        let (at_score, at_top) = (&sum.reads[score_operand], &sum.reads[1 - score_operand]);
        let aligned = at_top.iter().zip(&returned).all(|(slot, axis)| *slot == at_score[*axis]);
        let straight = exp.reads[0] == exp.out && *at_score == sum.out;
        let sums = |id: &ValueId| {
            let node = graph.node(*id);
            let at = node.args.iter().position(|arg| *arg == raised)?;
            let (found, places) = rows_of(node, at, graph)?;
            (node.op == Op::Contract && found == rows).then_some((*id, places))
        };
        let (total, of_inverse) = users.get(&raised)?.iter().find_map(sums)?;
        let [inverse] = users.get(&total)?[..] else { return None };
        let inverted = graph.node(inverse);
        let inverts = inverted.op == Op::Map(Func::SafeRecip) && inverted.reads[0] == inverted.out;
        let only = |id: ValueId, user: ValueId| users.get(&id).is_some_and(|u| u[..] == [user]);
        let shown = |id: &ValueId| graph.outputs.iter().any(|o| o.id == *id);
        let alone = only(top, negated) && only(negated, shifted) && only(*exponent, raised);
        let alone = alone && !shown(exponent);
        let res =
            Softmax { score, top, shifted, exponent: *exponent, raised, total, inverse, rows, of_top, of_inverse };
        let hidden = !res.inside().iter().any(|id| shown(id) && *id != top && *id != inverse);
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

/// How a sum or a maximum of operand `k` goes along rows, by a table of entries or along one of two axes, and what each axis of the
/// result is.
fn rows_of(node: &Node, k: usize, graph: &Graph) -> Option<(Rows, Vec<Place>)> {
    let reads = &node.reads[k];
    let others: Vec<usize> = (0..node.args.len()).filter(|other| *other != k).collect();
    let edges = others.iter().map(|other| plan::edge(graph, node.args[*other], &node.reads[*other]));
    let edges = edges.collect::<Option<Vec<_>>>()?;
    let tables = edges.iter().all(|e| graph.relations[e.relation].map.is_table());
    let axis = |slot: Slot| reads.iter().position(|s| *s == slot);
    let mut left = (0..reads.len()).filter(|p| !node.out.contains(&reads[*p]));
    let (entry, None) = (left.next()?, left.next()) else { return None };
    let sizes = plan::slot_sizes(graph, node);
    let rows = match &edges[..] {
        [] => {
            let kept: Vec<usize> = (0..reads.len()).filter(|p| *p != entry).collect();
            let long = |p: &usize| sizes[reads[*p] as usize].as_fixed().is_none();
            let row = if let [row] = kept[..] { row } else { kept.iter().copied().find(long)? };
            Rows::Axis { row, entry }
        }
        [edge] => {
            let row = edge.from == [reads[entry]] && axis(edge.to).is_none() && node.out.contains(&edge.to);
            (tables && row).then_some(Rows::Table { relation: edge.relation, entry })?
        }
        [a, b] => {
            let row = [a, b].into_iter().find(|edge| edge.from != [reads[entry]])?;
            let row = (0..reads.len()).find(|p| *p != entry && row.from == [reads[*p]])?;
            let both = [a, b].into_iter().any(|edge| edge.from == [reads[entry]]) && a.to == b.to;
            let apart = axis(a.to).is_none() && !node.out.contains(&a.to);
            (tables && a.relation == b.relation && both && apart).then_some(Rows::Sharing {
                relation: a.relation,
                row,
                entry,
            })?
        }
        _ => return None,
    };
    let place = |slot: &Slot| match (axis(*slot), &edges[..]) {
        (Some(axis), _) => Some(rows.place(axis)),
        (None, [edge]) => (edge.to == *slot).then_some(Place::Row),
        (None, _) => None,
    };
    let places = node.out.iter().map(place).collect::<Option<Vec<Place>>>()?;
    let distinct = (0..reads.len()).all(|p| !reads[..p].contains(&reads[p]));
    let whole = node.out.len() == reads.len() - usize::from(rows.row().is_some());
    let heads = (0..reads.len()).filter(|p| *p != entry && rows.row() != Some(*p));
    let short = heads.into_iter().all(|p| sizes[reads[p] as usize].as_fixed().is_some());
    (distinct && whole && short).then_some((rows, places))
}

/// Whether a node reads the maximum of each row back at its entries; which axis of the score each axis of the node is.
fn returns(graph: &Graph, node: &Node, top: ValueId, rows: Rows, of_top: &[Place]) -> Option<Vec<usize>> {
    let at = node.args.iter().position(|arg| *arg == top)?;
    let edges: Vec<_> = (0..node.args.len()).filter_map(|k| plan::edge(graph, node.args[k], &node.reads[k])).collect();
    let gathered = match (rows, &edges[..]) {
        (Rows::Table { relation, .. }, [edge]) => {
            let row = of_top.iter().position(|place| *place == Place::Row)?;
            let fits = edge.relation == relation && node.reads[at][row] == edge.to && !node.out.contains(&edge.to);
            Some(fits.then(|| edge.from.clone())?)
        }
        (Rows::Axis { .. } | Rows::Sharing { .. }, []) => None,
        (Rows::Table { .. } | Rows::Axis { .. } | Rows::Sharing { .. }, _) => return None,
    };
    let axis = |slot: &Slot| match (node.reads[at].iter().position(|s| s == slot), rows.row()) {
        (Some(k), row) => match of_top[k] {
            Place::Row => row,
            Place::Axis(axis) => Some(axis),
        },
        (None, _) => (gathered.as_deref() == Some(&[*slot])).then_some(rows.entry()),
    };
    let whole = node.out.len() == of_top.len();
    node.out.iter().map(axis).collect::<Option<Vec<usize>>>().filter(|_| whole)
}

/// Whether a value is a sum of values weighted by a softmax, and how.
pub(super) fn classify(graph: &Graph, id: ValueId, when: &BTreeMap<ValueId, When>, users: &Users) -> Option<Attention> {
    let node = graph.node(id);
    if node.op != Op::Contract || when[&id] != When::Call {
        return None;
    }
    let plan = plan::plan(graph, node);
    let (weights, softmax) = plan.factors.iter().find_map(|k| Some((*k, Softmax::of(graph, node.args[*k], users)?)))?;
    let (reads, rows) = (&node.reads[weights], softmax.rows);
    let entry = reads[rows.entry()];
    let row = match rows {
        Rows::Axis { row, .. } | Rows::Sharing { row, .. } => Some(reads[row]).filter(|row| node.out.contains(row)),
        Rows::Table { relation, .. } => plan.steps.iter().find_map(|step| match step {
            Step::Rows(edge) if edge.relation == relation && edge.from == [entry] => Some(edge.to),
            _ => None,
        }),
    }?;
    let heads: Vec<Slot> = reads.iter().copied().filter(|s| *s != entry && *s != row).collect();
    let sizes = plan::slot_sizes(graph, node);
    let joined = plan.steps.iter().find_map(|step| joined(graph, step)).cloned();
    let parts = |slot: &Slot| match &joined {
        Some(edge) if edge.to == *slot => edge.from.clone(),
        Some(_) | None => vec![*slot],
    };
    let out: Vec<Slot> = node.out.iter().flat_map(parts).collect();
    let mut kept: Vec<Slot> = out.iter().copied().filter(|s| *s != row && !heads.contains(s)).collect();
    kept.sort_by_key(|s| sizes[*s as usize].as_fixed());
    let fixed = kept.iter().all(|s| sizes[*s as usize].as_fixed().is_some());
    let apart = !out.contains(&entry) && heads.iter().all(|s| out.contains(s));
    let one_pass = one_pass(graph, &plan, rows, entry, &kept);
    let inverse = plan.factors.iter().copied().find(|k| node.args[*k] == softmax.inverse);
    let of_row = |(slot, place): (&Slot, &Place)| match place {
        Place::Row => *slot == row,
        Place::Axis(axis) => *slot == reads[*axis],
    };
    let divided = inverse.is_none_or(|k| node.reads[k].iter().zip(&softmax.of_inverse).all(of_row));
    let once = |value: ValueId| plan.factors.iter().filter(|k| node.args[**k] == value).count() <= 1;
    let joints = plan.steps.iter().filter(|step| matches!(step, Step::Digits(_))).count();
    let fits = fixed && apart && one_pass && divided && joints <= 1;
    let fits = fits && once(softmax.raised) && once(softmax.inverse) && id != softmax.total;
    let keeps = graph.outputs.iter().any(|o| [softmax.top, softmax.inverse].contains(&o.id));
    fits.then_some(Attention { id, weights, inverse, softmax, row, heads, kept, joined, keeps })
}

/// The relation of a step that finds axes side by side in an axis that they fill.
fn joined<'s>(graph: &Graph, step: &'s Step) -> Option<&'s Edge> {
    let Step::Digits(edge) = step else { return None };
    let relation = &graph.relations[edge.relation];
    let Function::Affine { offset, .. } = &relation.map else { return None };
    let places = relation.from.iter().map(|dim| dim.as_fixed()).product::<Option<usize>>();
    let first = offset.constant == 0 && offset.size.is_none();
    (first && places.is_some() && places == relation.to.as_fixed()).then_some(edge)
}

/// Whether the only loop is the one over the entries of a row, and all else follows from an entry.
fn one_pass(graph: &Graph, plan: &Plan, rows: Rows, entry: Slot, kept: &[Slot]) -> bool {
    plan.steps.iter().all(|step| match (step, rows) {
        (Step::Rows(edge), Rows::Table { relation, .. } | Rows::Sharing { relation, .. }) => {
            edge.relation == relation && edge.from == [entry]
        }
        (Step::Only { .. }, _) => true,
        (Step::Loop { slot }, Rows::Axis { .. }) => *slot == entry,
        (Step::Define(edge), _) if edge.from.iter().any(|s| kept.contains(s)) => {
            edges::total(graph, edge) && !plan.steps.iter().any(|step| step.flow().0.contains(&edge.to))
        }
        (Step::Define(edge), _) => edges::total(graph, edge),
        (Step::Digits(_), _) => joined(graph, step).is_some(),
        (Step::Rows(_) | Step::Loop { .. } | Step::Check(_), _) => false,
        (Step::Solve { .. } | Step::Fibre(_), _) => false,
    })
}

impl Attention {
    /// Whether all that read the weights are such sums, and so are those that read the inverse of their sum, or divide one as `divides` says;
    /// where it is stored, anybody may read it.
    pub(super) fn closed(
        &self,
        graph: &Graph,
        all: &[Attention],
        users: &Users,
        divides: &dyn Fn(ValueId, ValueId) -> bool,
    ) -> bool {
        let Softmax { shifted, exponent, raised, total, inverse, .. } = self.softmax;
        let same = || all.iter().filter(|other| other.softmax.raised == raised);
        let attends = |id: &ValueId| same().any(|other| other.id == *id);
        let divides = |id: &ValueId| same().any(|a| divides(*id, a.id) && a.is_read_with_its_inverse(graph, *id));
        let weighted = users[&raised].iter().all(|user| *user == total || attends(user));
        let clamped = shifted == exponent || users[&shifted][..] == [exponent];
        clamped && weighted && (self.keeps || users[&inverse].iter().all(|user| attends(user) || divides(user)))
    }

    /// The greatest score and the inverse of the sum of the weights, with the axes of this sum that theirs are.
    pub(super) fn statistics(&self, graph: &Graph) -> [(ValueId, Vec<Slot>); 2] {
        let reads = &graph.node(self.id).reads[self.weights];
        let slot = |place: &Place| match place {
            Place::Row => self.row,
            Place::Axis(axis) => reads[*axis],
        };
        let Softmax { top, inverse, of_top, of_inverse, .. } = &self.softmax;
        [(*top, of_top), (*inverse, of_inverse)].map(|(id, places)| (id, places.iter().map(slot).collect()))
    }

    /// The axes of a value that are on lanes where it is summed, or multiplied for a score.
    pub(super) fn lane_axes(&self, graph: &Graph, id: ValueId) -> Vec<usize> {
        let (node, score) = (graph.node(self.id), graph.node(self.softmax.score));
        let kept = |slot: &Slot| self.kept.last() == Some(slot);
        let multiplied = |slot: &Slot| score.op == Op::Contract && !score.out.contains(slot);
        let reads = |node: &Node, on_lanes: &dyn Fn(&Slot) -> bool| -> Vec<usize> {
            let operands = node.args.iter().zip(&node.reads).filter(|(arg, _)| **arg == id);
            operands.flat_map(|(_, reads)| (0..reads.len()).filter(|axis| on_lanes(&reads[*axis]))).collect()
        };
        [reads(node, &kept), reads(score, &multiplied)].concat()
    }

    /// Whether a node reads the sum and the inverse at the same row and heads.
    fn is_read_with_its_inverse(&self, graph: &Graph, user: ValueId) -> bool {
        let (node, user) = (graph.node(self.id), graph.node(user));
        let reads = |id: ValueId| user.args.iter().position(|arg| *arg == id).map(|k| &user.reads[k]);
        let (Some(sum), Some(inverse)) = (reads(self.id), reads(self.softmax.inverse)) else { return false };
        let slot = |place: &Place| match place {
            Place::Row => self.row,
            Place::Axis(axis) => node.reads[self.weights][*axis],
        };
        let axis = |slot: Slot| node.out.iter().position(|s| *s == slot);
        let same = |(place, at): (&Place, &Slot)| axis(slot(place)).is_some_and(|axis| sum[axis] == *at);
        self.softmax.of_inverse.iter().zip(inverse).all(same)
    }
}
