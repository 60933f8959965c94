//! One part of a program at a time, so that the search does not grow with the length of the program: windows are
//! saturated on their own, then others that overlap them.

use std::collections::{BTreeMap, BTreeSet};

use egg::Id;

use crate::rewrite::classes::Classes;
use crate::rewrite::explain::{self, Start};
use crate::rewrite::extract::{Problem, Selection, extract};
use crate::rewrite::rules::LAWS;
use crate::rewrite::saturate::{Stop, saturate};
use crate::rewrite::{Explain, Options, Report};
use crate::tensor::graph::{Graph, Input, InputKind, Type, Val};
use crate::tensor::op::{Node, Op, Slot, ValueId};
use crate::tensor::translate::Translation;

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

/// Rewrites the windows of a graph one after the other; the first has `offset` operations fewer.
pub fn sweep(graph: &Graph, options: &Options, offset: usize, report: &mut Report) -> Graph {
    let mut res = Translation::new(graph);
    for window in cut(graph, options.window, offset) {
        rewrite(graph, &window, options, &mut res, report);
    }
    for output in &graph.outputs {
        if !res.has(output.id) {
            res.add(output.id, graph.node(output.id)); // a leaf that is an output
        }
    }
    res.outputs(&graph.outputs);
    res.graph
}

/// The operations of a window, in order.
type Window = Vec<ValueId>;

/// Cuts the operations where few values cross, about every `length` of them.
fn cut(graph: &Graph, length: usize, offset: usize) -> Vec<Window> {
    let operations: Vec<ValueId> = graph.nodes().filter(|(_, n)| !n.op.is_leaf()).map(|(id, _)| id).collect();
    let crossing = crossing(graph, &operations);
    let mut res = Vec::new();
    let mut start = 0;
    let mut want = if offset == 0 { length } else { offset };
    while start < operations.len() {
        let latest = (start + want + want / 2).min(operations.len());
        let earliest = (start + want / 2 + 1).min(latest);
        let end = if latest == operations.len() {
            latest
        } else {
            (earliest..=latest).min_by_key(|&k| (crossing[k], (start + want).abs_diff(k))).expect("a place to cut")
        };
        res.push(operations[start..end].to_vec());
        (start, want) = (end, length);
    }
    res
}

/// How many operations before place `k` are read at or after it.
fn crossing(graph: &Graph, operations: &[ValueId]) -> Vec<usize> {
    let mut last: BTreeMap<ValueId, usize> = BTreeMap::new();
    for (k, id) in operations.iter().enumerate() {
        last.insert(*id, k);
        for arg in graph.node(*id).args.iter().filter(|a| !graph.node(**a).op.is_leaf()) {
            last.insert(*arg, k);
        }
    }
    let mut change = vec![0i64; operations.len() + 2];
    for (k, id) in operations.iter().enumerate() {
        change[k + 1] += 1;
        change[last[id] + 1] -= 1;
    }
    let mut now = 0;
    change
        .iter()
        .map(|c| {
            now += c;
            now.max(0) as usize
        })
        .collect()
}

/// Searches one window and makes the best of it in `res`, where all earlier values are.
fn rewrite(graph: &Graph, window: &Window, options: &Options, res: &mut Translation, report: &mut Report) {
    let inside: BTreeSet<ValueId> = window.iter().copied().collect();
    let mut search = Search::new(&res.graph, options, window.len());
    for id in window {
        for arg in &graph.node(*id).args {
            if !inside.contains(arg) && !search.ids.contains_key(arg) {
                if graph.node(*arg).op.is_leaf() {
                    search.leaf(*arg, graph.node(*arg));
                } else {
                    search.boundary(*arg, graph.ty(*arg));
                }
            }
        }
        search.operation(*id, graph.node(*id));
    }
    let roots: Vec<ValueId> = exits(graph, window);
    let ids: Vec<Id> = roots.iter().map(|id| search.ids[id]).collect();
    let before = search.cost_now(&ids);
    let start = match options.explain {
        Explain::Nothing => None,
        Explain::Derivation => Some(search.start(&ids, options)),
    };
    search.classes.log = start.as_ref().map(|_| Vec::new());
    let stop = saturate(&mut search.classes, LAWS, options.rounds);
    let problem = Problem::new(&search.classes, &ids);
    let selection = extract(&problem);
    let after = problem.cost(&selection).expect("extraction gives a program");
    if let (Some(mut start), Some(log)) = (start, search.classes.log.take())
        && after < before * (1.0 - 1e-6)
    {
        start.tables = search.classes.graph().clone();
        report.proofs.push(explain::derivation(start, log, before, after));
    }
    for (law, count) in &search.classes.fired {
        *report.laws.entry(law).or_default() += count;
    }
    report.windows.push(Summary {
        operations: window.len(),
        nodes: search.classes.egraph.total_number_of_nodes(),
        classes: search.classes.egraph.number_of_classes(),
        stop,
        before,
        after,
    });
    search.rebuild_into(graph, &problem, &selection, &roots, res);
}

/// The values of a window that later operations or outputs read.
fn exits(graph: &Graph, window: &Window) -> Vec<ValueId> {
    let last = *window.last().expect("a window is not empty");
    let mut res: BTreeSet<ValueId> = graph.outputs.iter().map(|o| o.id).filter(|id| window.contains(id)).collect();
    for (_, node) in graph.nodes().filter(|(id, _)| *id > last) {
        res.extend(node.args.iter().filter(|a| window.binary_search(a).is_ok()));
    }
    res.into_iter().collect()
}

/// The e-graph of a window.
struct Search {
    classes: Classes,
    /// The classes of old values.
    ids: BTreeMap<ValueId, Id>,
    /// The old value that a stand-in for a value before the window is.
    stand_ins: BTreeMap<Op, ValueId>,
    types: BTreeMap<Op, Type>,
}

impl Search {
    fn new(graph: &Graph, options: &Options, operations: usize) -> Search {
        let limit = 200 + options.growth * operations;
        Search {
            classes: Classes::new(graph, limit, options.target),
            ids: BTreeMap::new(),
            stand_ins: BTreeMap::new(),
            types: BTreeMap::new(),
        }
    }

    fn leaf(&mut self, old: ValueId, node: &Node) {
        let id = self.classes.add(node.clone());
        self.ids.insert(old, id);
    }

    /// A value from before the window: an input of the same type.
    fn boundary(&mut self, old: ValueId, ty: &Type) {
        let input = Input { name: format!("%{old}"), dims: ty.dims.clone(), kind: InputKind::Real };
        let op = Op::Input(self.classes.egraph.analysis.graph.inputs.push(input));
        let out = (0..ty.dims.len() as Slot).collect();
        let id = self.classes.add(Node { op: op.clone(), args: vec![], reads: vec![], out });
        self.classes.stand_in(id, ty);
        self.types.insert(op.clone(), ty.clone());
        self.stand_ins.insert(op, old);
        self.ids.insert(old, id);
    }

    fn operation(&mut self, old: ValueId, node: &Node) {
        let args = node.args.iter().map(|a| self.ids[a]).collect();
        let id = self.classes.add(Node { args, ..node.clone() });
        self.ids.insert(old, id);
    }

    /// The window as it is, to explain what becomes of it.
    fn start(&self, roots: &[Id], options: &Options) -> Start {
        let n = self.classes.egraph.number_of_classes();
        let nodes = (0..n).map(|id| self.classes.egraph.id_to_node(Id::from(id)).clone()).collect();
        let stand_ins = self.types.clone();
        Start { tables: self.classes.graph().clone(), nodes, stand_ins, roots: roots.to_vec(), target: options.target }
    }

    /// The cost before any law is applied.
    fn cost_now(&self, roots: &[Id]) -> f64 {
        let problem = Problem::new(&self.classes, roots);
        problem.cost(&extract(&problem)).expect("the program at hand")
    }

    /// Makes the selected nodes in `res`.
    fn rebuild_into(
        &self,
        graph: &Graph,
        problem: &Problem,
        selection: &Selection,
        roots: &[ValueId],
        res: &mut Translation,
    ) {
        // laws may have made constants and relations
        res.graph.constants = self.classes.graph().constants.clone();
        res.graph.relations = self.classes.graph().relations.clone();
        let mut made: BTreeMap<Id, Val> = BTreeMap::new();
        for id in problem.order(selection).expect("extraction gives a program") {
            let node = &problem.classes[&id][selection[&id]].node;
            let val = match self.stand_ins.get(&node.op) {
                Some(old) => res.read(*old, &Classes::out(node)),
                None => self.make(node, &made, res),
            };
            made.insert(id, val);
        }
        for root in roots {
            let val = &made[&self.classes.egraph.find(self.ids[root])];
            let node = graph.node(*root);
            let names: Vec<_> = node.out.iter().map(|s| crate::tensor::graph::Axis(*s)).collect();
            let axes = val.axes.iter().map(|a| names[a.0 as usize]).collect();
            res.set(*root, node, Val { id: val.id, axes });
        }
    }

    /// The value of a selected node; its axis `k` is called after the axis of the class that it is.
    fn make(&self, node: &Node, made: &BTreeMap<Id, Val>, res: &mut Translation) -> Val {
        use crate::tensor::graph::Axis;
        let operands: Vec<Val> = Classes::operands(node)
            .iter()
            .map(|v| {
                let new = &made[&self.classes.egraph.find(v.id)];
                Val { id: new.id, axes: new.axes.iter().map(|k| v.axes[k.0 as usize]).collect() }
            })
            .collect();
        let val = match node.op {
            Op::View => operands[0].clone(),
            Op::Input(_) | Op::Weight(_) | Op::Constant(_) | Op::Relation(_) => {
                Val { id: res.graph.add(node.clone()), axes: Classes::out(node) }
            }
            Op::Contract | Op::Sum | Op::Map(_) | Op::Reduce(_) => {
                let refs: Vec<&Val> = operands.iter().collect();
                let (new, axes) = crate::tensor::node::make(node.op.clone(), &refs, &Classes::out(node));
                Val { id: res.graph.add(new), axes }
            }
        };
        let place = |a: &Axis| Axis(node.out.iter().position(|s| *s == a.0).expect("an axis of the result") as u32);
        Val { id: val.id, axes: val.axes.iter().map(place).collect() }
    }
}
