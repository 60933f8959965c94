//! One part of a program at a time, so that the search does not grow with the length of the program: windows are
//! searched on their own, then others that overlap them. Equal windows, such as the layers of a deep model, are searched once,
//! different ones at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::rewrite::rules::nesting;
use crate::rewrite::search::{Found, Fragment, search};
use crate::rewrite::{Options, Report};
use crate::tensor::equality::Equality;
use crate::tensor::graph::{Axis, Constant, Graph, Input, InputKind, Needs, Output, Relation, Val, Weight};
use crate::tensor::op::{Node, Op, Slot, ValueId};
use crate::tensor::translate::{Translation, remade};

/// What was found before, of windows and of products.
#[derive(Default)]
pub struct Memory {
    windows: BTreeMap<Key, Arc<Found>>,
    nestings: Arc<nesting::Memory>,
}

/// Rewrites the windows of a graph; the first has `offset` operations fewer.
pub fn sweep(graph: &Graph, options: &Options, offset: usize, memory: &mut Memory, report: &mut Report) -> Graph {
    let mut res = Translation::new(graph);
    let last_readers = last_readers(graph, &graph.equalities);
    let windows: Vec<Window> = cut(graph, options.window, offset)
        .iter()
        .map(|operations| Window::new(graph, operations, &last_readers, &[]))
        .collect();
    let keys: Vec<Key> = windows.iter().map(Window::key).collect();
    let mut new: BTreeMap<&Key, &Window> = keys.iter().zip(&windows).collect();
    new.retain(|key, _| !memory.windows.contains_key(*key));
    let fragments: Vec<&Fragment> = new.values().map(|w| &w.fragment).collect();
    let found = search_all(&fragments, options, &memory.nestings);
    let mut first: BTreeSet<Key> = new.into_keys().cloned().collect();
    memory.windows.extend(first.iter().cloned().zip(found));
    for (key, window) in keys.iter().zip(&windows) {
        let found = &memory.windows[key];
        window.replace(graph, found, &mut res);
        report.add(found, !first.remove(key));
    }
    leaves_that_are_outputs(graph, &mut res);
    for id in stated_alone(graph) {
        for arg in &graph.node(id).args {
            if !res.has(*arg) {
                res.add(*arg, graph.node(*arg));
            }
        }
        res.add(id, graph.node(id));
    }
    res.outputs(&graph.outputs);
    res.equalities(&graph.equalities);
    res.graph
}

/// The values that are needed for nothing but the other sides of equalities. Who states a program for a value knows how it is computed
/// best: it is chosen as it is, or not.
fn stated_alone(graph: &Graph) -> Vec<ValueId> {
    let (written, all) = (graph.needed(false), graph.needed(true));
    let alone = |id: &ValueId| all[usize::from(*id)] && !written[usize::from(*id)];
    graph.nodes().filter(|(_, n)| !n.op.is_leaf()).map(|(id, _)| id).filter(alone).collect()
}

/// Chooses between the programs that the graph states to be equal, all at once and by no other law: the cheapest that the union
/// of all of them gives. The result states nothing.
pub fn choose(graph: &Graph, options: &Options, report: &mut Report) -> Graph {
    let operations: Vec<ValueId> = graph.nodes().filter(|(_, n)| !n.op.is_leaf()).map(|(id, _)| id).collect();
    let window = Window::new(graph, &operations, &last_readers(graph, &[]), &graph.equalities);
    let found = search(&window.fragment, &Options { laws: &[], ..options.clone() }, &Arc::default());
    let mut res = Translation::new(graph);
    window.replace(graph, &found, &mut res);
    leaves_that_are_outputs(graph, &mut res);
    res.outputs(&graph.outputs);
    report.choices.extend(found.choices.clone());
    report.add(&found, false);
    res.graph
}

/// Makes those.
fn leaves_that_are_outputs(graph: &Graph, res: &mut Translation) {
    for output in &graph.outputs {
        if !res.has(output.id) {
            res.add(output.id, graph.node(output.id));
        }
    }
}

/// Searches these, on all cores. What is found of one does not depend on the others, nor on which is searched first.
fn search_all(fragments: &[&Fragment], options: &Options, nestings: &Arc<nesting::Memory>) -> Vec<Arc<Found>> {
    let next = AtomicUsize::new(0);
    let found: Vec<Mutex<Option<Found>>> = fragments.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        loop {
            let k = next.fetch_add(1, Ordering::Relaxed);
            let Some(fragment) = fragments.get(k) else { return };
            let one = search(fragment, options, nestings);
            *found[k].lock().expect("each place is written once") = Some(one);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        (1..cores.min(fragments.len())).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    let take = |f: Mutex<Option<Found>>| Arc::new(f.into_inner().expect("no search panicked").expect("searched"));
    found.into_iter().map(take).collect()
}

/// Cuts the operations where few values cross, about every `length` of them.
fn cut(graph: &Graph, length: usize, offset: usize) -> Vec<Vec<ValueId>> {
    runs(graph).iter().flat_map(|operations| cut_run(graph, operations, length, offset)).collect()
}

/// The operations up to the first that reads a value for which there is another program, and so on: whoever reads it does not see
/// how it is computed until that is settled.
fn runs(graph: &Graph) -> Vec<Vec<ValueId>> {
    let mut open: BTreeSet<ValueId> = BTreeSet::new();
    let mut res = vec![vec![]];
    let written = graph.needed(false);
    for (id, node) in graph.nodes().filter(|(id, n)| !n.op.is_leaf() && written[usize::from(*id)]) {
        if node.args.iter().any(|arg| open.contains(arg)) {
            res.push(vec![]);
            open.clear();
        }
        if graph.equalities.iter().any(|e| e.written == id) {
            open.insert(id);
        }
        res.last_mut().expect("there is a run").push(id);
    }
    res
}

fn cut_run(graph: &Graph, operations: &[ValueId], length: usize, offset: usize) -> Vec<Vec<ValueId>> {
    let crossing = crossing(graph, operations);
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

/// For every value the last that reads it; the end of the program for outputs, for sides of these equalities, and for what they alone read.
fn last_readers(graph: &Graph, equalities: &[Equality]) -> Vec<ValueId> {
    let mut res: Vec<ValueId> = graph.nodes().map(|(id, _)| id).collect();
    for (id, node) in graph.nodes() {
        node.args.iter().for_each(|arg| res[usize::from(*arg)] = id);
    }
    let end = ValueId::from(res.len());
    let sides = equalities.iter().flat_map(|e| [e.written, e.other]);
    let stated = if equalities.is_empty() { vec![] } else { stated_alone(graph) };
    let read_there = stated.iter().flat_map(|id| graph.node(*id).args.iter().copied());
    graph.outputs.iter().map(|o| o.id).chain(sides).chain(read_there).for_each(|id| res[usize::from(id)] = end);
    res
}

/// Some operations in a row as a program of its own, and what its leaves are in the whole program.
struct Window {
    fragment: Fragment,
    given: Vec<Given>,
    weights: Vec<Id<Weight>>,
    constants: Vec<Id<Constant>>,
    relations: Vec<Id<Relation>>,
    /// The values that later operations or outputs read: the outputs of the fragment.
    roots: Vec<ValueId>,
}

/// What an input of a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Given {
    Input(Id<Input>),
    /// A value from before the window.
    Earlier(ValueId),
}

/// All that the search sees of a window: equal keys, equal results. Inputs, constants and relations of the program are
/// seen by what they are, weights and earlier values by their types alone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    inputs: Vec<Result<Id<Input>, (Vec<Size>, Needs)>>,
    weights: Vec<Vec<usize>>,
    constants: Vec<Id<Constant>>,
    relations: Vec<Id<Relation>>,
    nodes: Vec<Node>,
    outputs: Vec<ValueId>,
}

impl Window {
    fn new(graph: &Graph, operations: &[ValueId], last_readers: &[ValueId], stated: &[Equality]) -> Window {
        let mut empty = Graph::default();
        empty.sizes = graph.sizes.clone();
        let mut inside = Translation::new(&empty);
        let mut res = Window {
            fragment: Fragment::default(),
            given: vec![],
            weights: vec![],
            constants: vec![],
            relations: vec![],
            roots: vec![],
        };
        for id in operations {
            let node = graph.node(*id);
            for arg in &node.args {
                if !inside.has(*arg) {
                    res.leaf(graph, *arg, &mut inside);
                }
            }
            inside.add(*id, node);
        }
        let last = *operations.last().expect("a window is not empty");
        res.roots = operations.iter().copied().filter(|id| last_readers[usize::from(*id)] > last).collect();
        let order = |id: &ValueId| (0..graph.ty(*id).dims.len()).collect();
        let output = |id: &ValueId| Output { name: format!("%{id}"), id: *id, order: order(id) };
        inside.outputs(&res.roots.iter().map(output).collect::<Vec<_>>());
        inside.equalities(stated);
        res.fragment.graph = inside.graph;
        res
    }

    /// Makes what stands for a value from outside.
    fn leaf(&mut self, graph: &Graph, id: ValueId, inside: &mut Translation) {
        let node = graph.node(id);
        let own = &mut inside.graph;
        let val = match node.op {
            Op::Input(input) => {
                self.given.push(Given::Input(input));
                own.input(graph.inputs[input].clone())
            }
            Op::Weight(weight) => {
                self.weights.push(weight);
                own.weight(graph.weights[weight].clone())
            }
            Op::Constant(constant) => {
                let val = own.constant(graph.constants[constant].clone());
                self.constants.resize(own.constants.len(), constant);
                val
            }
            Op::Relation(relation) => {
                let mut copy = graph.relations[relation].clone();
                for table in copy.map.tables_mut() {
                    self.given.push(Given::Input(*table));
                    *table = own.inputs.push(graph.inputs[*table].clone());
                }
                let val = own.relation(copy);
                self.relations.resize(own.relations.len(), relation);
                val
            }
            Op::Contract | Op::Sum | Op::Map(_) | Op::Reduce(_) | Op::View => {
                let ty = graph.ty(id);
                self.given.push(Given::Earlier(id));
                self.fragment.earlier.insert(Id::new(own.inputs.len()), ty.needs);
                own.input(Input { name: format!("%{id}"), dims: ty.dims.clone(), kind: InputKind::Real })
            }
        };
        inside.set(id, node, Val { id: val.id, axes: node.out.iter().map(|s| Axis(*s)).collect() });
    }

    fn key(&self) -> Key {
        let graph = &self.fragment.graph;
        let input = |(given, (id, input)): (&Given, (Id<Input>, &Input))| match given {
            Given::Input(global) => Ok(*global),
            Given::Earlier(_) => Err((input.dims.clone(), self.fragment.earlier[&id])),
        };
        Key {
            inputs: self.given.iter().zip(graph.inputs.iter()).map(input).collect(),
            weights: graph.weights.iter().map(|(_, w)| w.dims.clone()).collect(),
            constants: self.constants.clone(),
            relations: self.relations.clone(),
            nodes: graph.nodes().map(|(_, n)| n.clone()).collect(),
            outputs: graph.outputs.iter().map(|o| o.id).collect(),
        }
    }

    /// Makes what was found in the whole program, whose earlier values are in `res`.
    fn replace(&self, graph: &Graph, found: &Found, res: &mut Translation) {
        let mut values: Vec<Val> = Vec::new();
        for (_, node) in found.graph.nodes() {
            let val = match node.op {
                Op::Input(id) => self.given(self.given[id.index()], node.out.len(), res),
                Op::Weight(id) => leaf(Op::Weight(self.weights[id.index()]), node, &mut res.graph),
                Op::Constant(id) => match self.constants.get(id.index()) {
                    Some(constant) => leaf(Op::Constant(*constant), node, &mut res.graph),
                    None => by_place(res.graph.constant(found.graph.constants[id].clone())),
                },
                Op::Relation(id) => match self.relations.get(id.index()) {
                    Some(relation) => leaf(Op::Relation(*relation), node, &mut res.graph),
                    None => by_place(res.graph.relation(found.graph.relations[id].clone())),
                },
                Op::Contract | Op::Sum | Op::Map(_) | Op::Reduce(_) | Op::View => {
                    remade(&mut res.graph, node, |arg| &values[usize::from(arg)])
                }
            };
            values.push(val);
        }
        for ((root, output), val) in self.roots.iter().zip(&self.fragment.graph.outputs).zip(&found.roots) {
            let node = graph.node(*root);
            let place = |k: &Axis| output.order.iter().position(|p| *p == k.0 as usize).expect("each axis once");
            let new = &values[usize::from(val.id)];
            let axes = new.axes.iter().map(|k| Axis(node.out[place(&val.axes[k.0 as usize])])).collect();
            res.set(*root, node, Val { id: new.id, axes });
        }
    }

    fn given(&self, given: Given, rank: usize, res: &mut Translation) -> Val {
        let axes: Vec<Axis> = (0..rank as u32).map(Axis).collect();
        match given {
            Given::Earlier(id) => res.read(id, &axes),
            Given::Input(id) => {
                let out = (0..rank as Slot).collect();
                Val { id: res.graph.add(Node { op: Op::Input(id), args: vec![], reads: vec![], out }), axes }
            }
        }
    }
}

/// A leaf of the whole program; its axes are called after their places.
fn leaf(op: Op, node: &Node, graph: &mut Graph) -> Val {
    let axes = (0..node.out.len() as u32).map(Axis).collect();
    Val { id: graph.add(Node { op, ..node.clone() }), axes }
}

fn by_place(val: Val) -> Val {
    Val { axes: (0..val.axes.len() as u32).map(Axis).collect(), ..val }
}
