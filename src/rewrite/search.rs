//! The search of one window: its e-graph is saturated, and the best program in it comes back.

use std::collections::BTreeMap;
use std::sync::Arc;

use egg::Id;

use crate::base::arena;
use crate::rewrite::classes::{Classes, Term};
use crate::rewrite::explain::{self, Proof, Start};
use crate::rewrite::extract::{Problem, Selection, extract, extract_shared};
use crate::rewrite::rules::nesting::Memory;
use crate::rewrite::saturate::{Stop, saturate};
use crate::rewrite::{Explain, Options};
use crate::tensor::equality::Equality;
use crate::tensor::graph::{Axis, Graph, Input, Needs, Val};
use crate::tensor::op::{Node, Op};
use crate::tensor::translate::remade;

/// A window as a program of its own, whose leaves are numbered by first appearance.
#[derive(Clone, Debug, Default)]
pub struct Fragment {
    pub graph: Graph,
    /// The inputs that stand for values from before the window, and what those need.
    pub earlier: BTreeMap<arena::Id<Input>, Needs>,
}

/// What the search of a window gave.
pub struct Found {
    /// The best program, over the tables of the fragment and what laws added to them.
    pub graph: Graph,
    /// The outputs of the fragment, each axis called after its place in the type of the output there.
    pub roots: Vec<Val>,
    pub summary: Summary,
    /// How often each law has found something new.
    pub laws: BTreeMap<&'static str, usize>,
    /// What was made of the equalities that the fragment states.
    pub choices: Vec<Choice>,
    /// Why the new program equals the old one, where that was asked for and it is cheaper.
    pub proof: Option<Proof>,
}

/// Whether the other program for a value was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What the value is.
    pub of: String,
    pub theorem: &'static str,
    pub taken: bool,
}

/// What the search of one window was.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Operations of the window.
    pub operations: usize,
    /// Nodes and classes of its e-graph.
    pub nodes: usize,
    pub classes: usize,
    pub stop: Stop,
    /// Expected seconds, before and after.
    pub before: f64,
    pub after: f64,
}

impl Fragment {
    /// The e-graph of the fragment before any law and any stated equality: class `k` is value `k`.
    pub fn classes(&self, limit: usize, options: &Options) -> Classes {
        let mut classes = Classes::new(&self.graph, limit, options.target);
        for (_, node) in self.graph.nodes() {
            let id = classes.add(node.clone());
            if let Op::Input(input) = node.op
                && let Some(needs) = self.earlier.get(&input)
            {
                classes.stand_in(id, *needs);
            }
        }
        classes
    }

    /// Makes the two sides of every stated equality one class.
    fn unite(&self, classes: &mut Classes) {
        for equality in &self.graph.equalities {
            equate(classes, equality, equality.written, equality.other);
        }
        classes.rebuild();
    }

    /// The classes of the outputs.
    pub fn roots(&self) -> Vec<Id> {
        self.graph.outputs.iter().map(|o| o.id).collect()
    }
}

/// Searches a fragment. Nestings are remembered from search to search.
pub fn search(fragment: &Fragment, options: &Options, memory: &Arc<Memory>) -> Found {
    let operations = fragment.graph.nodes().filter(|(_, n)| !n.op.is_leaf()).count();
    let mut classes = fragment.classes(200 + options.growth * operations, options);
    classes.memory = memory.clone();
    let roots = fragment.roots();
    let problem = Problem::new(&classes, &roots);
    let before = problem.cost(&extract(&problem)).expect("the program at hand");
    classes.log = (options.explain == Explain::Derivation).then(Vec::new);
    fragment.unite(&mut classes);
    let stop = saturate(&mut classes, options.laws, options.rounds);
    let problem = Problem::new(&classes, &roots);
    let selection = cheapest(fragment, &problem);
    let choices = choices(fragment, &classes, &problem, &selection);
    let after = problem.cost(&selection).expect("extraction gives a program");
    let log = classes.log.take().filter(|_| after < before * (1.0 - 1e-6));
    let proof = log.map(|log| {
        let start = Start { fragment: fragment.clone(), tables: classes.graph().clone(), options: options.clone() };
        let needed = problem.order(&selection).expect("extraction gives a program");
        let of_result = |id: Id| needed.contains(&classes.egraph.find(id));
        explain::derivation(start, &log, &of_result, before, after)
    });
    let (graph, roots) = selected(&classes, &problem, &selection, &fragment.graph);
    let summary = Summary {
        operations,
        nodes: classes.egraph.total_number_of_nodes(),
        classes: classes.egraph.number_of_classes(),
        stop,
        before,
        after,
    };
    Found { graph, roots, summary, laws: classes.fired, choices, proof }
}

/// The cheapest selection that is found. What a program for a value reads is often shared with those for other values.
pub(super) fn cheapest(fragment: &Fragment, problem: &Problem) -> Selection {
    if fragment.graph.equalities.is_empty() { extract(problem) } else { extract_shared(problem) }
}

/// States an equality of classes.
pub(super) fn equate(classes: &mut Classes, equality: &Equality, written: Id, other: Id) -> bool {
    let names: Vec<Axis> = (0..equality.order.len() as u32).map(Axis).collect();
    let other = Val { id: other, ..equality.other_under(&names) };
    classes.equate(written, &names, &Term::contract(vec![other], names.clone()), equality.theorem.name)
}

/// For each equality whether the class of the written value is computed otherwise.
fn choices(fragment: &Fragment, classes: &Classes, problem: &Problem, selection: &Selection) -> Vec<Choice> {
    let find = |id: Id| classes.egraph.find(id);
    let taken = |e: &Equality| {
        let class = find(e.written);
        let chosen = selection.get(&class).map(|k| &problem.classes[&class][*k].node);
        let written = fragment.graph.node(e.written);
        let same = |node: &Node| {
            node.op == written.op && node.args.iter().map(|a| find(*a)).eq(written.args.iter().map(|a| find(*a)))
        };
        chosen.is_some_and(|node| !same(node))
    };
    let choice = |e: &Equality| Choice { of: e.of.clone(), theorem: e.theorem.name, taken: taken(e) };
    fragment.graph.equalities.iter().map(choice).collect()
}

/// The program of the selected nodes, and its outputs.
fn selected(classes: &Classes, problem: &Problem, selection: &Selection, old: &Graph) -> (Graph, Vec<Val>) {
    let mut graph = classes.graph().tables();
    let mut made: BTreeMap<Id, Val> = BTreeMap::new();
    for id in problem.order(selection).expect("extraction gives a program") {
        let node = &problem.classes[&id][selection[&id]].node;
        let val = remade(&mut graph, node, |arg| &made[&classes.egraph.find(arg)]);
        made.insert(id, val);
    }
    let root = |id: Id| made[&classes.egraph.find(id)].clone();
    let roots = old.outputs.iter().map(|o| root(o.id)).collect();
    (graph, roots)
}
