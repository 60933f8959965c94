//! The cheapest program in an e-graph, where a value that is read twice is paid once.
//!
//! Exactly that is as hard as set cover. Here: the cheapest tree for every class, then hill climbing: one class at a
//! time is made free for its readers (it is paid elsewhere), and what is cheaper as a whole is kept.

use std::collections::{BTreeMap, BTreeSet};

use egg::Id;

use crate::rewrite::classes::Classes;
use crate::rewrite::cost::seconds;
use crate::tensor::op::Node;

/// The nodes of an e-graph with what they cost: the input of extraction.
#[derive(Clone, Debug)]
pub struct Problem {
    pub classes: BTreeMap<Id, Vec<Choice>>,
    pub roots: Vec<Id>,
}

/// One way to have a class.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    pub node: Node,
    /// The distinct classes it reads.
    pub reads: Vec<Id>,
    /// Seconds a call.
    pub cost: f64,
}

/// For every class that is needed, the number of its choice.
pub type Selection = BTreeMap<Id, usize>;

impl Problem {
    /// The classes of an e-graph that can be reached from the roots.
    pub fn new(classes: &Classes, roots: &[Id]) -> Problem {
        let mut res = Problem { classes: BTreeMap::new(), roots: vec![] };
        res.roots = roots.iter().map(|r| classes.egraph.find(*r)).collect();
        let mut todo = res.roots.clone();
        while let Some(id) = todo.pop() {
            if res.classes.contains_key(&id) {
                continue;
            }
            let choices = choices(classes, id);
            todo.extend(choices.iter().flat_map(|c| &c.reads));
            res.classes.insert(id, choices);
        }
        res
    }

    /// The cost of a selection: every class that the roots need is paid once. None where it is cyclic or incomplete.
    pub fn cost(&self, selection: &Selection) -> Option<f64> {
        Some(self.order(selection)?.iter().map(|id| self.classes[id][selection[id]].cost).sum())
    }

    /// The needed classes, operands first. None where the selection is cyclic or incomplete.
    pub fn order(&self, selection: &Selection) -> Option<Vec<Id>> {
        let mut done: BTreeMap<Id, bool> = BTreeMap::new();
        let mut res = Vec::new();
        let mut stack: Vec<(Id, usize)> = Vec::new();
        for root in &self.roots {
            if !done.contains_key(root) {
                done.insert(*root, false);
                stack.push((*root, 0));
            }
            while let Some((id, next)) = stack.pop() {
                let choice = &self.classes[&id][*selection.get(&id)?];
                let Some(read) = choice.reads.get(next) else {
                    done.insert(id, true);
                    res.push(id);
                    continue;
                };
                stack.push((id, next + 1));
                match done.get(read) {
                    Some(true) => (),
                    Some(false) => return None,
                    None => {
                        done.insert(*read, false);
                        stack.push((*read, 0));
                    }
                }
            }
        }
        Some(res)
    }
}

fn choices(classes: &Classes, id: Id) -> Vec<Choice> {
    let needs = classes.facts(id).ty.needs;
    let choice = |node: &Node| {
        let operands: Vec<_> = node.args.iter().map(|a| classes.facts(*a).operand.clone()).collect();
        let mut reads: Vec<Id> = node.args.iter().map(|a| classes.egraph.find(*a)).collect();
        reads.sort_unstable();
        reads.dedup();
        Choice { node: node.clone(), reads, cost: seconds(&classes.target, node, &operands, needs) }
    };
    let all: Vec<Choice> = classes.egraph[id].nodes.iter().map(choice).collect();
    if let Some(leaf) = all.iter().find(|c| c.node.op.is_leaf()) {
        return vec![leaf.clone()];
    }
    all.into_iter().filter(|c| !c.reads.contains(&id)).collect()
}

/// The cheapest selection that is found.
pub fn extract(problem: &Problem) -> Selection {
    let order: Vec<Id> = problem.classes.keys().copied().collect();
    let mut free: BTreeSet<Id> = BTreeSet::new();
    let (mut best, first_order) = greedy(problem, &free, &order);
    let mut least = problem.cost(&best).expect("cheapest trees are acyclic");
    let candidates = shared(problem, &first_order);
    let mut tries = 0;
    loop {
        let mut better = false;
        for class in &candidates {
            tries += 1;
            if tries > MOST_TRIES {
                return best;
            }
            if !free.remove(class) {
                free.insert(*class);
            }
            let (selection, _) = greedy(problem, &free, &first_order);
            match problem.cost(&selection) {
                Some(cost) if cost < least * (1.0 - 1e-9) => {
                    (least, best, better) = (cost, selection, true);
                }
                _ => {
                    if !free.remove(class) {
                        free.insert(*class);
                    }
                }
            }
        }
        if !better {
            return best;
        }
    }
}

const MOST_TRIES: usize = 400;

/// The cheapest tree of every class, where the free classes cost their readers nothing; and an order of the classes in
/// which operands tend to stand first, so that the next search needs few rounds.
fn greedy(problem: &Problem, free: &BTreeSet<Id>, order: &[Id]) -> (Selection, Vec<Id>) {
    let mut best: BTreeMap<Id, (f64, usize)> = BTreeMap::new();
    let mut found = Vec::new();
    loop {
        let mut changed = false;
        for id in order {
            for (k, choice) in problem.classes[id].iter().enumerate() {
                let price = |read: &Id| {
                    let (cost, _) = best.get(read)?;
                    Some(if free.contains(read) { 0.0 } else { *cost })
                };
                let Some(below) = choice.reads.iter().map(price).sum::<Option<f64>>() else { continue };
                let cost = below + choice.cost;
                let old = best.get(id).map_or(f64::INFINITY, |b| b.0);
                if cost < old * (1.0 - 1e-12) {
                    if old.is_infinite() {
                        found.push(*id);
                    }
                    best.insert(*id, (cost, k));
                    changed = true;
                }
            }
        }
        if !changed {
            return (best.into_iter().map(|(id, (_, k))| (id, k)).collect(), found);
        }
    }
}

/// The classes that two others may read and that are no leaves.
fn shared(problem: &Problem, order: &[Id]) -> Vec<Id> {
    let mut readers: BTreeMap<Id, BTreeSet<Id>> = BTreeMap::new();
    for (id, choices) in &problem.classes {
        for read in choices.iter().flat_map(|c| &c.reads) {
            readers.entry(*read).or_default().insert(*id);
        }
    }
    let leaf = |id: &Id| problem.classes[id].iter().any(|c| c.node.op.is_leaf());
    order.iter().copied().filter(|id| readers.get(id).is_some_and(|r| r.len() >= 2) && !leaf(id)).collect()
}
