//! Applies all laws to all nodes until nothing new is found or the budget is spent. No clock: the same program
//! always meets the same limits.

use egg::Id;
use rustc_hash::FxHashMap;

use crate::rewrite::classes::Classes;
use crate::rewrite::rules::Law;
use crate::tensor::op::Node;

/// Why saturation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Nothing new is to be found.
    Saturated,
    /// The number of nodes.
    Nodes,
    /// The number of rounds.
    Rounds,
}

/// Applies the laws for at most this many rounds.
pub fn saturate(classes: &mut Classes, laws: &[Law], rounds: usize) -> Stop {
    let mut seen: FxHashMap<Node, usize> = FxHashMap::default();
    classes.rebuild();
    for _ in 0..rounds {
        let mut changed = false;
        for (class, node) in all_nodes(classes) {
            // laws need not see a node again unless something was added to the classes below
            let below = node.args.iter().map(|a| classes.egraph[*a].nodes.len()).sum();
            if seen.insert(node.clone(), below) == Some(below) {
                continue;
            }
            for law in laws {
                if classes.full() {
                    classes.rebuild();
                    return Stop::Nodes;
                }
                changed |= apply(classes, law, class, &node);
            }
        }
        classes.rebuild();
        if !changed {
            return Stop::Saturated;
        }
    }
    Stop::Rounds
}

/// Applies one law to one node; whether anything new was found.
pub fn apply(classes: &mut Classes, law: &Law, class: Id, node: &Node) -> bool {
    classes.egraph.analysis.law = law.name;
    let names = Classes::out(node);
    let terms = (law.apply)(classes, class, node);
    let mut changed = false;
    for term in terms {
        changed |= classes.equate(class, &names, &term, law.name);
    }
    changed
}

/// All nodes that are no leaves, with their classes, in the order in which the classes were made.
fn all_nodes(classes: &Classes) -> Vec<(Id, Node)> {
    let mut ids: Vec<Id> = classes.egraph.classes().map(|c| c.id).collect();
    ids.sort_unstable();
    let nodes = |id: Id| classes.nodes(id).into_iter().filter(|n| !n.op.is_leaf()).map(move |n| (id, n));
    ids.into_iter().flat_map(nodes).collect()
}
