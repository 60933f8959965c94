//! Sums along run-time axes of products of values of the call, of which only short axes are left: the derivatives of weights, Gram
//! matrices. Which axes of such a sum are rows, which are columns, and which products make a row's and a column's numbers.

use std::collections::BTreeMap;

use crate::base::size::Size;
use crate::kernel::lower::homes::When;
use crate::kernel::lower::plan::{self, Step};
use crate::kernel::lower::{Home, normal};
use crate::tensor::graph::Graph;
use crate::tensor::op::{Node, Op, Slot, ValueId};

/// Columns below which lanes are wasted.
const LEAST_COLUMNS: usize = 4;

/// `out[batch, row, column] = Σ_place rows[batch, place, row] · columns[batch, place, column]`
#[derive(Clone, Debug)]
pub(super) struct Outer {
    /// The axes summed by loops.
    pub(super) summed: Vec<Slot>,
    /// Axes of the result that both sides have, or neither.
    pub(super) batch: Vec<Slot>,
    pub(super) rows: Side,
    pub(super) columns: Side,
    /// Plain numbers among the operands.
    pub(super) numbers: Vec<usize>,
}

/// The rows or the columns of such a sum.
#[derive(Clone, Debug)]
pub(super) struct Side {
    /// The operands whose product it is.
    pub(super) factors: Vec<usize>,
    /// How the axes of the operands follow from those of the sum and of the side.
    pub(super) steps: Vec<Step>,
    /// Axes of the result that the steps read: each has an address of its own.
    pub(super) apart: Vec<Slot>,
    /// The others: places that lie beside each other.
    pub(super) beside: Vec<Slot>,
}

/// Whether a value is such a sum, and how.
pub(super) fn classify(graph: &Graph, id: ValueId, when: &BTreeMap<ValueId, When>) -> Option<Outer> {
    let node = graph.node(id);
    if node.op != Op::Contract || when[&id] != When::Call {
        return None;
    }
    let plan = plan::plan(graph, node);
    let sizes = plan::slot_sizes(graph, node);
    let extent = |s: &Slot| sizes[*s as usize].as_fixed();
    let mut summed = Vec::new();
    for step in &plan.steps {
        match step {
            Step::Loop { slot } => summed.push(*slot),
            Step::Fibre(_) | Step::Rows(_) => return None,
            Step::Only { .. } | Step::Define(_) | Step::Check(_) | Step::Solve { .. } | Step::Digits(_) => (),
        }
    }
    let tensors = normal::tensors(graph, node, &plan.factors);
    let late = |k: &usize| when[&node.args[*k]] == When::Call;
    let is_long = summed.iter().any(|s| extent(s).is_none());
    if !is_long || tensors.len() < 2 || tensors.iter().filter(|k| late(k)).count() < 2 {
        return None;
    }
    if node.out.iter().any(|s| extent(s).is_none()) {
        return None;
    }
    let numbers = plan.factors.iter().copied().filter(|k| !tensors.contains(k)).collect();
    let sum = Sum { node, steps: &plan.steps, summed, tensors, numbers };
    let outers = sum.tensors.iter().filter_map(|k| sum.with_columns_of(*k));
    let width = |outer: &Outer| outer.columns.beside.iter().filter_map(extent).product::<usize>();
    let whole = |outer: &Outer| width(outer).is_multiple_of(LEAST_COLUMNS);
    let outer = outers.max_by_key(|outer| (!outer.rows.apart.is_empty(), whole(outer), width(outer)))?;
    (width(&outer) >= LEAST_COLUMNS).then_some(outer)
}

/// A sum under consideration.
struct Sum<'g> {
    node: &'g Node,
    steps: &'g [Step],
    summed: Vec<Slot>,
    tensors: Vec<usize>,
    numbers: Vec<usize>,
}

impl Sum<'_> {
    /// The sum with one operand, times those that have no other axes, as its columns, all others as its rows.
    fn with_columns_of(&self, k: usize) -> Option<Outer> {
        let of_k = |other: &usize| self.node.reads[*other].iter().all(|s| self.node.reads[k].contains(s));
        let (mut of_columns, others): (Vec<usize>, Vec<usize>) = self.tensors.iter().partition(|other| of_k(other));
        if others.is_empty() {
            return None;
        }
        of_columns.sort_by_key(|other| *other != k);
        let of_others = |s: &Slot| others.iter().any(|other| self.node.reads[*other].contains(s));
        let of_steps = |s: &Slot| self.steps.iter().any(|step| step.reads(*s));
        let own = |s: &Slot| self.node.reads[k].contains(s) && !of_others(s) && !of_steps(s);
        let (columns, rest): (Vec<Slot>, Vec<Slot>) = self.node.out.iter().copied().partition(own);
        let (batch, rows): (Vec<Slot>, Vec<Slot>) = rest.into_iter().partition(|s| self.node.reads[k].contains(s));
        let columns = self.side(of_columns, &batch, columns)?;
        let rows = self.side(others, &batch, rows)?;
        let taken =
            |step: &Step| matches!(step, Step::Loop { .. }) || [&columns, &rows].iter().any(|s| s.steps.contains(step));
        let (summed, numbers) = (self.summed.clone(), self.numbers.clone());
        self.steps.iter().all(taken).then_some(Outer { summed, batch, rows, columns, numbers })
    }

    /// A side with axes of its own; `None` where its operands have other axes.
    fn side(&self, factors: Vec<usize>, batch: &[Slot], own: Vec<Slot>) -> Option<Side> {
        let mut known: Vec<Slot> = self.summed.iter().chain(batch).chain(&own).copied().collect();
        let mut steps = Vec::new();
        for step in self.steps {
            let (needs, gives) = step.flow();
            if !matches!(step, Step::Loop { .. }) && needs.iter().all(|s| known.contains(s)) {
                known.extend(gives);
                steps.push(step.clone());
            }
        }
        let complete = factors.iter().all(|k| self.node.reads[*k].iter().all(|s| known.contains(s)));
        let (apart, beside) = own.into_iter().partition(|s| steps.iter().any(|step| step.reads(*s)));
        complete.then_some(Side { factors, steps, apart, beside })
    }
}

impl Outer {
    /// The axes of an operand that lie beside each other in a row or in the columns: best contiguous.
    pub(super) fn lane_axes(&self, node: &Node, operand: ValueId) -> Vec<usize> {
        let mut res = Vec::new();
        for side in [&self.rows, &self.columns] {
            for k in side.factors.iter().filter(|k| node.args[**k] == operand) {
                let reads = &node.reads[*k];
                res.extend((0..reads.len()).filter(|axis| side.beside.contains(&reads[*axis])));
            }
        }
        res
    }

    /// The summed axes, those outside in the memory of an operand first.
    pub(super) fn in_memory_order(&self, node: &Node, homes: &BTreeMap<ValueId, Home>) -> Vec<Slot> {
        let mut res = self.summed.clone();
        self.columns.sort_as_in_memory(node, homes, &mut res);
        res
    }
}

impl Side {
    /// Sorts axes, those outside in the memory of the first operand first, those it does not have before all.
    pub(super) fn sort_as_in_memory(&self, node: &Node, homes: &BTreeMap<ValueId, Home>, slots: &mut [Slot]) {
        let k = self.factors[0];
        let place = |slot: &Slot| {
            let axis = node.reads[k].iter().position(|s| s == slot)?;
            match homes.get(&node.args[k]) {
                Some(home) => home.order.iter().position(|a| *a == axis),
                None => Some(axis),
            }
        };
        slots.sort_by_key(place);
    }
}

/// The number of places of axes of fixed sizes.
pub(super) fn volume(slots: &[Slot], sizes: &[Size]) -> usize {
    slots.iter().map(|s| sizes[*s as usize].as_fixed().expect("lower: an axis of weights")).product()
}
