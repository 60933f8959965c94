//! In which order a contraction or reduction visits its axes: relations become index arithmetic, table lookups, rows of
//! a sparse matrix or conditions, and only what is left over becomes a loop. Emits nothing.

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::lower::relation;
use crate::tensor::graph::{Function, Graph, Relation};
use crate::tensor::op::{Node, Op, Slot, ValueId};

/// A relation among the operands of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) relation: Id<Relation>,
    pub(super) from: Vec<Slot>,
    pub(super) to: Slot,
}

/// One step of the nest, from the outside to the inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A loop over all of an axis.
    Loop { slot: Slot },
    /// The only index of an axis of size one.
    Only { slot: Slot },
    /// `to = f(from)`, where that is defined.
    Define(Edge),
    /// Only where `to = f(from)`.
    Check(Edge),
    /// `from[which]` is what the other axes and `to` leave, if that is an index.
    Solve { edge: Edge, which: usize },
    /// All of `from` are the digits of what `to` leaves, if it is in range.
    Digits(Edge),
    /// A loop over the `divisor` values of the one `from` axis that are mapped to `to`.
    Fibre(Edge),
    /// A loop over the entries of row `to` of the relation's transpose; sets all of `from`.
    Rows(Edge),
}

impl Step {
    /// Whether the step repeats what is inside.
    pub(super) fn repeats(&self) -> bool {
        match self {
            Step::Loop { .. } | Step::Fibre(_) | Step::Rows(_) => true,
            Step::Only { .. } | Step::Define(_) | Step::Check(_) | Step::Solve { .. } | Step::Digits(_) => false,
        }
    }
}

impl Step {
    /// Whether a relation of the step has this axis.
    pub(super) fn reads(&self, slot: Slot) -> bool {
        match self {
            Step::Loop { .. } | Step::Only { .. } => false,
            Step::Define(edge) | Step::Check(edge) | Step::Digits(edge) | Step::Fibre(edge) | Step::Rows(edge) => {
                edge.has(slot)
            }
            Step::Solve { edge, .. } => edge.has(slot),
        }
    }
}

impl Step {
    /// The axes that must be known before the step, and those that are known after it.
    pub(super) fn flow(&self) -> (Vec<Slot>, Vec<Slot>) {
        match self {
            Step::Loop { slot } | Step::Only { slot } => (vec![], vec![*slot]),
            Step::Define(edge) => (edge.from.clone(), vec![edge.to]),
            Step::Check(edge) => (edge.from.iter().copied().chain([edge.to]).collect(), vec![]),
            Step::Solve { edge, which } => {
                let solved = edge.from[*which];
                let others = edge.from.iter().copied().filter(|s| *s != solved);
                (others.chain([edge.to]).collect(), vec![solved])
            }
            Step::Digits(edge) | Step::Fibre(edge) | Step::Rows(edge) => (vec![edge.to], edge.from.clone()),
        }
    }
}

impl Edge {
    fn has(&self, slot: Slot) -> bool {
        self.to == slot || self.from.contains(&slot)
    }
}

/// The nest of a contraction or reduction inside the loops over its result.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// The operands that are multiplied (or reduced): those that are not relations.
    pub(super) factors: Vec<usize>,
}

/// The sizes of the slots of a node.
pub(super) fn slot_sizes(graph: &Graph, node: &Node) -> Vec<Size> {
    let n = node.reads.iter().flatten().chain(&node.out).max().map_or(0, |s| *s as usize + 1);
    let mut res = vec![Size::fixed(0); n];
    for (arg, reads) in node.args.iter().zip(&node.reads) {
        for (slot, size) in reads.iter().zip(&graph.ty(*arg).dims) {
            res[*slot as usize] = *size;
        }
    }
    res
}

/// The relation that a value is, with the slots under which it is read.
pub(super) fn edge(graph: &Graph, value: ValueId, reads: &[Slot]) -> Option<Edge> {
    match &graph.node(value).op {
        Op::Relation(relation) => {
            let (to, from) = reads.split_last().expect("a relation has an axis");
            Some(Edge { relation: *relation, from: from.to_vec(), to: *to })
        }
        _ => None,
    }
}

struct Planner<'g> {
    graph: &'g Graph,
    sizes: Vec<Size>,
    known: Vec<Slot>,
    edges: Vec<Edge>,
    steps: Vec<Step>,
}

/// Plans a node whose result's axes are known.
pub(super) fn plan(graph: &Graph, node: &Node) -> Plan {
    plan_from(graph, node, node.out.clone())
}

/// Plans a node some of whose axes are known.
pub(super) fn plan_from(graph: &Graph, node: &Node, known: Vec<Slot>) -> Plan {
    let mut edges = Vec::new();
    let mut factors = Vec::new();
    for (k, (arg, reads)) in node.args.iter().zip(&node.reads).enumerate() {
        let is_first_of_reduce = matches!(node.op, Op::Reduce(_)) && k == 0;
        match edge(graph, *arg, reads) {
            Some(edge) if !is_first_of_reduce => edges.push(edge),
            _ => factors.push(k),
        }
    }
    let mut bound: Vec<Slot> = Vec::new();
    for slot in node.reads.iter().flatten() {
        if !node.out.contains(slot) && !bound.contains(slot) {
            bound.push(*slot);
        }
    }
    let mut planner = Planner { graph, sizes: slot_sizes(graph, node), known, edges, steps: vec![] };
    loop {
        planner.settle();
        let Some(slot) = planner.next_loop(&bound) else { break };
        let alone = planner.sizes[slot as usize].as_fixed() == Some(1);
        planner.steps.push(if alone { Step::Only { slot } } else { Step::Loop { slot } });
        planner.known.push(slot);
    }
    Plan { steps: planner.steps, factors }
}

impl Planner<'_> {
    /// Takes all steps that need no full loop.
    fn settle(&mut self) {
        while let Some((at, step)) = self.free_step().or_else(|| self.row_step()) {
            self.edges.remove(at);
            match &step {
                Step::Define(edge) => self.known.push(edge.to),
                Step::Solve { edge, which } => self.known.push(edge.from[*which]),
                Step::Digits(edge) | Step::Fibre(edge) | Step::Rows(edge) => self.known.extend(&edge.from),
                Step::Check(_) | Step::Loop { .. } | Step::Only { .. } => (),
            }
            self.steps.push(step);
        }
    }

    fn missing(&self, edge: &Edge) -> Vec<usize> {
        (0..edge.from.len()).filter(|k| !self.known.contains(&edge.from[*k])).collect()
    }

    fn free_step(&self) -> Option<(usize, Step)> {
        let mut solved = None;
        for (at, edge) in self.edges.iter().enumerate() {
            let to_known = self.known.contains(&edge.to);
            match &self.missing(edge)[..] {
                [] if to_known => return Some((at, Step::Check(edge.clone()))),
                [] => return Some((at, Step::Define(edge.clone()))),
                [which] if to_known && relation::solvable(&self.graph.relations[edge.relation], *which) => {
                    solved = solved.or(Some((at, Step::Solve { edge: edge.clone(), which: *which })));
                }
                missing if to_known && missing.len() == edge.from.len() && missing.len() > 1 && self.distinct(edge) => {
                    if relation::is_digits(&self.graph.relations[edge.relation]) {
                        solved = solved.or(Some((at, Step::Digits(edge.clone()))));
                    }
                }
                _ => (),
            }
        }
        solved
    }

    fn distinct(&self, edge: &Edge) -> bool {
        (1..edge.from.len()).all(|k| !edge.from[..k].contains(&edge.from[k]))
    }

    fn row_step(&self) -> Option<(usize, Step)> {
        self.edges.iter().enumerate().find_map(|(at, edge)| {
            let all_missing = self.missing(edge).len() == edge.from.len();
            let open = self.known.contains(&edge.to) && all_missing && self.distinct(edge);
            let long = edge.from.iter().filter(|s| self.sizes[**s as usize].as_fixed().is_none()).count();
            match &self.graph.relations[edge.relation].map {
                Function::Table(_) | Function::Paired(_) | Function::Constant(_)
                    if open && !edge.from.is_empty() && long <= 1 =>
                {
                    Some((at, Step::Rows(edge.clone())))
                }
                Function::Affine { .. } if open && relation::has_fibres(&self.graph.relations[edge.relation]) => {
                    Some((at, Step::Fibre(edge.clone())))
                }
                Function::Table(_) | Function::Paired(_) | Function::Constant(_) | Function::Affine { .. } => None,
            }
        })
    }

    /// The axis to loop over next: one that no relation will define, and of the axes of one relation not the one that the
    /// relation can best be solved for.
    fn next_loop(&self, bound: &[Slot]) -> Option<Slot> {
        let open = bound.iter().filter(|s| !self.known.contains(s));
        let rank = |slot: Slot| {
            let defined = self.edges.iter().any(|e| e.to == slot);
            let solved = self.edges.iter().any(|e| self.best_solved(e) == Some(slot));
            (u8::from(defined), u8::from(solved))
        };
        open.copied().min_by_key(|s| rank(*s))
    }

    /// The axis for which a relation should be solved once the others are known: the longest.
    fn best_solved(&self, edge: &Edge) -> Option<Slot> {
        let relation = &self.graph.relations[edge.relation];
        let open = self.missing(edge).into_iter().filter(|k| relation::solvable(relation, *k));
        let length = |k: &usize| self.graph.sizes.hint(self.sizes[edge.from[*k] as usize]);
        self.known.contains(&edge.to).then(|| open.max_by_key(length)).flatten().map(|k| edge.from[k])
    }
}
