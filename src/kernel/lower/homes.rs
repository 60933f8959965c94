//! Which values are stored, which are computed where they are read, and in which stage each is known.

use std::collections::BTreeMap;

use crate::kernel::ir::Stage;
use crate::kernel::lower::plan::{self, Step};
use crate::tensor::graph::Graph;
use crate::tensor::op::{Node, Op, ValueId};

/// What is known of the values of a graph before any kernel is made.
#[derive(Debug)]
pub(super) struct Facts {
    /// The values that outputs need, operands first.
    pub(super) live: Vec<ValueId>,
    pub(super) when: BTreeMap<ValueId, When>,
    pub(super) inlined: BTreeMap<ValueId, bool>,
}

/// The earliest time at which a value can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum When {
    /// Now: constants.
    Compile,
    Bind,
    Prepare,
    Call,
}

impl When {
    /// The stage of the kernels that make it; what is known now is made by kernels of `Prepare` and folded afterwards.
    pub(super) fn stage(self) -> Stage {
        match self {
            When::Compile | When::Prepare => Stage::Prepare,
            When::Bind => Stage::Bind,
            When::Call => Stage::Call,
        }
    }
}

/// Looks at a graph.
pub(super) fn facts(graph: &Graph) -> Facts {
    let live = live(graph);
    let mut when = BTreeMap::new();
    let mut users: BTreeMap<ValueId, Vec<ValueId>> = BTreeMap::new();
    for id in &live {
        when.insert(*id, time(graph, *id, &when));
        for arg in &graph.node(*id).args {
            users.entry(*arg).or_default().push(*id);
        }
    }
    let mut inlined = BTreeMap::new();
    for id in &live {
        let users = users.get(id).map_or(&[][..], |u| u);
        let is_output = graph.outputs.iter().any(|o| o.id == *id);
        inlined.insert(*id, inline(graph, *id, users, is_output, &when));
    }
    Facts { live, when, inlined }
}

fn live(graph: &Graph) -> Vec<ValueId> {
    let mut needed: Vec<bool> = vec![false; graph.nodes().count()];
    for output in &graph.outputs {
        needed[usize::from(output.id)] = true;
    }
    for (id, node) in graph.nodes().rev() {
        if needed[usize::from(id)] {
            node.args.iter().for_each(|arg| needed[usize::from(*arg)] = true);
        }
    }
    graph.nodes().map(|(id, _)| id).filter(|id| needed[usize::from(*id)]).collect()
}

fn time(graph: &Graph, id: ValueId, when: &BTreeMap<ValueId, When>) -> When {
    let node = graph.node(id);
    let needs = graph.ty(id).needs;
    let operands: Vec<When> = node.args.iter().map(|arg| when[arg]).collect();
    let fixed = match node.op.is_leaf() {
        true => graph.ty(id).dims.iter().all(|d| d.as_fixed().is_some()),
        false => plan::slot_sizes(graph, node).iter().all(|d| d.as_fixed().is_some()),
    };
    let all = |times: &[When]| operands.iter().all(|t| times.contains(t));
    if !needs.data && !needs.weights && !needs.tables && fixed && all(&[When::Compile]) {
        When::Compile
    } else if !needs.data && !needs.tables && fixed && all(&[When::Compile, When::Prepare]) {
        When::Prepare
    } else if !needs.data && !needs.weights && all(&[When::Compile, When::Bind]) {
        When::Bind
    } else {
        When::Call
    }
}

/// Whether a value is computed where it is read. It is when that repeats no work of consequence: its only reader reads each
/// element once, or it is itself nothing but a read.
fn inline(
    graph: &Graph,
    id: ValueId,
    users: &[ValueId],
    is_output: bool,
    when: &BTreeMap<ValueId, When>,
) -> bool {
    let node = graph.node(id);
    if node.op.is_leaf() || is_output {
        return node.op.is_leaf();
    }
    if is_read(graph, node) {
        return true;
    }
    let [user] = users else { return false };
    let reader = graph.node(*user);
    let elementwise = !repeats(graph, reader) && reader.args.iter().filter(|a| **a == id).count() == 1;
    let at = reader.args.iter().position(|a| *a == id).expect("the user reads it");
    elementwise && when[user] == when[&id] && is_identity(&reader.reads[at], &reader.out)
}

/// Whether a node is one element of one operand: a gather, a window, a slice, a diagonal.
fn is_read(graph: &Graph, node: &Node) -> bool {
    match node.op {
        Op::View => true,
        Op::Contract => {
            let factors = |k: &usize| !matches!(graph.node(node.args[*k]).op, Op::Relation(_));
            (0..node.args.len()).filter(factors).count() == 1 && !repeats(graph, node)
        }
        Op::Input(_) | Op::Weight(_) | Op::Constant(_) | Op::Relation(_) | Op::Sum | Op::Map(_) | Op::Reduce(_) => {
            false
        }
    }
}

/// Whether an element of the node needs a loop.
pub(super) fn repeats(graph: &Graph, node: &Node) -> bool {
    match node.op {
        Op::Contract => plan::plan(graph, node).steps.iter().any(Step::repeats),
        Op::Reduce(_) => true,
        Op::Input(_) | Op::Weight(_) | Op::Constant(_) | Op::Relation(_) | Op::Sum | Op::Map(_) | Op::View => false,
    }
}

/// Whether the axes read are those of the result, each once.
fn is_identity(reads: &[u32], out: &[u32]) -> bool {
    reads.len() == out.len() && out.iter().all(|slot| reads.contains(slot))
}
