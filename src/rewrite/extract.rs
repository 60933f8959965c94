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

/// The cheapest selection that is found from where nothing is shared.
pub fn extract(problem: &Problem) -> Selection {
    let dense = Dense::new(problem);
    let n = dense.choices.len();
    let (trees, order) = dense.trees(&vec![false; n], &(0..n).collect::<Vec<_>>());
    dense.selection(&dense.climbed(vec![false; n], trees, &order))
}

/// The cheapest selection that is found from there or from where all that may be shared is: programs that differ by much
/// are only reached from afar.
pub fn extract_shared(problem: &Problem) -> Selection {
    let dense = Dense::new(problem);
    let n = dense.choices.len();
    let (trees, order) = dense.trees(&vec![false; n], &(0..n).collect::<Vec<_>>());
    let mut all = vec![false; n];
    dense.shared(&order).into_iter().for_each(|class| all[class] = true);
    let shared = dense.trees(&all, &order).0;
    let apart = dense.climbed(vec![false; n], trees, &order);
    if dense.cost(&shared).is_none() {
        return dense.selection(&apart);
    }
    let together = dense.climbed(all, shared, &order);
    let best = if dense.cost(&together) < dense.cost(&apart) { together } else { apart };
    dense.selection(&best)
}

/// The cheapest tree of every class, as if nothing were shared: where the search starts.
pub fn trees(problem: &Problem) -> Selection {
    let dense = Dense::new(problem);
    let n = dense.choices.len();
    dense.selection(&dense.trees(&vec![false; n], &(0..n).collect::<Vec<_>>()).0)
}

const MOST_TRIES: usize = 200;

/// The problem with classes numbered from 0.
struct Dense {
    ids: Vec<Id>,
    /// For each class its choices: the classes read, and the cost.
    choices: Vec<Vec<(Vec<usize>, f64)>>,
    leaf: Vec<bool>,
    roots: Vec<usize>,
}

/// For every class the cost of its cheapest tree, and the choice at its root.
type Trees = Vec<(f64, usize)>;

impl Dense {
    fn new(problem: &Problem) -> Dense {
        let ids: Vec<Id> = problem.classes.keys().copied().collect();
        let number = |id: &Id| ids.binary_search(id).expect("every class that is read is there");
        let choice = |c: &Choice| (c.reads.iter().map(number).collect(), c.cost);
        let choices = problem.classes.values().map(|all| all.iter().map(choice).collect()).collect();
        let leaf = problem.classes.values().map(|all| all.iter().any(|c| c.node.op.is_leaf())).collect();
        let roots = problem.roots.iter().map(number).collect();
        Dense { choices, leaf, roots, ids }
    }

    /// What the chosen nodes cost together, each once. None where the choice is cyclic or incomplete.
    fn cost(&self, trees: &[(f64, usize)]) -> Option<f64> {
        let mut done: Vec<Option<bool>> = vec![None; trees.len()];
        let mut stack: Vec<(usize, usize)> = Vec::new();
        let mut cost = 0.0;
        for root in &self.roots {
            if done[*root].is_none() {
                done[*root] = Some(false);
                stack.push((*root, 0));
            }
            while let Some((class, next)) = stack.pop() {
                if trees[class].0.is_infinite() {
                    return None;
                }
                let (reads, own) = &self.choices[class][trees[class].1];
                let Some(read) = reads.get(next) else {
                    done[class] = Some(true);
                    cost += own;
                    continue;
                };
                stack.push((class, next + 1));
                match done[*read] {
                    Some(true) => (),
                    Some(false) => return None,
                    None => {
                        done[*read] = Some(false);
                        stack.push((*read, 0));
                    }
                }
            }
        }
        Some(cost)
    }

    /// The best trees that are reached by making one shared class at a time free, or not free. `best` are those where `free` are.
    fn climbed(&self, mut free: Vec<bool>, mut best: Trees, order: &[usize]) -> Trees {
        let mut least = self.cost(&best).expect("cheapest trees are acyclic");
        let candidates = self.shared(order);
        let mut tries = 0;
        loop {
            let mut better = false;
            for &class in &candidates {
                tries += 1;
                if tries > MOST_TRIES {
                    return best;
                }
                free[class] = !free[class];
                let trees = self.trees(&free, order).0;
                match self.cost(&trees) {
                    Some(cost) if cost < least * (1.0 - 1e-9) => (least, best, better) = (cost, trees, true),
                    Some(_) | None => free[class] = !free[class],
                }
            }
            if !better {
                return best;
            }
        }
    }

    fn selection(&self, best: &[(f64, usize)]) -> Selection {
        let known = |(k, (cost, choice)): (usize, &(f64, usize))| cost.is_finite().then_some((self.ids[k], *choice));
        best.iter().enumerate().filter_map(known).collect()
    }

    /// The cheapest tree of every class, where the free classes cost their readers nothing; and an order of the classes
    /// in which operands tend to stand first, so that the next search needs few rounds.
    fn trees(&self, free: &[bool], order: &[usize]) -> (Trees, Vec<usize>) {
        let mut best = vec![(f64::INFINITY, 0); self.choices.len()];
        let mut found = Vec::new();
        loop {
            let mut changed = false;
            for &class in order {
                for (k, (reads, own)) in self.choices[class].iter().enumerate() {
                    let price = |read: &usize| {
                        let cost = best[*read].0;
                        if free[*read] && cost.is_finite() { 0.0 } else { cost }
                    };
                    let cost = own + reads.iter().map(price).sum::<f64>();
                    let old = best[class].0;
                    if cost < old * (1.0 - 1e-12) {
                        if old.is_infinite() {
                            found.push(class);
                        }
                        best[class] = (cost, k);
                        changed = true;
                    }
                }
            }
            if !changed {
                return (best, found);
            }
        }
    }

    /// The classes that two others may read and that are no leaves.
    fn shared(&self, order: &[usize]) -> Vec<usize> {
        let mut readers = vec![BTreeSet::new(); self.choices.len()];
        for (class, choices) in self.choices.iter().enumerate() {
            for read in choices.iter().flat_map(|c| &c.0) {
                readers[*read].insert(class);
            }
        }
        order.iter().copied().filter(|c| readers[*c].len() >= 2 && !self.leaf[*c]).collect()
    }
}
