//! The e-graph as laws see it: values under axis names. Equal up to the order of factors or of axes is equal here,
//! by a table of canonical nodes; so laws need not know of orders.

use std::collections::BTreeMap;
use std::sync::Arc;

use egg::{EGraph, Id};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::base::size::Size;
use crate::rewrite::cost::{Target, seconds_of};
use crate::rewrite::language::{Facts, Tables};
use crate::rewrite::rules::nesting::{Memory, Plans};
use crate::tensor::cost::Read;
use crate::tensor::graph::{Axis, Constant, Graph, Needs, Relation, Val, union};
use crate::tensor::node;
use crate::tensor::op::{Node, Op, Slot};

/// Names made by laws start here; those below are slots of the node at hand.
const FIRST_FRESH: u32 = 1 << 20;

/// A class with as many nodes gets no more.
const MOST_NODES_A_CLASS: usize = 20;

/// How many kernels may be costed for each node that may be made.
const LOOKS_A_NODE: usize = 60;

/// A node that a law would make.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    pub op: Op,
    pub operands: Vec<Val>,
    pub out: Vec<Axis>,
}

impl Term {
    /// `Σ Π operands`, over the axes not in `out`.
    pub fn contract(operands: Vec<Val>, out: Vec<Axis>) -> Term {
        Term { op: Op::Contract, operands, out }
    }

    /// `Σ operands`
    pub fn sum(operands: Vec<Val>, out: Vec<Axis>) -> Term {
        Term { op: Op::Sum, operands, out }
    }
}

/// What was found, in order: enough to find it again.
#[derive(Clone, Debug)]
pub enum Event {
    /// A value that a law needed, alone in its class.
    Make { term: Term, id: Id },
    /// By `law` the class equals the term, whose `out` are the axes of the class in order.
    Equate { law: &'static str, class: Id, term: Term },
    /// A node was added to a class: its number is another name of the class.
    Alias { id: Id, class: Id },
    /// Merges were followed up: what was equal before is found as one from here on.
    Rebuild,
}

/// Where a term is: in a class, whose axes are these of the names asked for, or nowhere yet.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    Known {
        id: Id,
        axes: Vec<Axis>,
    },
    /// The canonical node, and the names of its axes.
    New {
        node: Node,
        axes: Vec<Axis>,
    },
}

/// Classes of equal values.
pub struct Classes {
    pub egraph: EGraph<Node, Tables>,
    /// Canonical node to its class; axis `k` of the class is axis `order[k]` of the canonical node.
    known: FxHashMap<Node, (Id, Vec<usize>)>,
    /// Of every known product the sum of the marks of its factors.
    products: FxHashSet<u64>,
    n_fresh: u32,
    /// No more nodes are made than this.
    limit: usize,
    /// No more kernels are costed than this while nestings are searched.
    fuel: usize,
    /// Nestings found here, by what the cost model sees of a product.
    pub plans: FxHashMap<Vec<u64>, Arc<Plans>>,
    /// Costs of best nestings, by the same.
    pub costs: FxHashMap<Vec<u64>, f64>,
    /// Nestings found in any window.
    pub memory: Arc<Memory>,
    pub target: Target,
    /// What was found, where that is wanted.
    pub log: Option<Vec<Event>>,
    /// How often each law has found something new.
    pub fired: BTreeMap<&'static str, usize>,
}

impl Classes {
    /// An e-graph over the tables of `graph`, with at most `limit` nodes.
    pub fn new(graph: &Graph, limit: usize, target: Target) -> Classes {
        let tables = Tables { graph: graph.tables(), law: "none" };
        Classes {
            egraph: EGraph::new(tables),
            known: FxHashMap::default(),
            products: FxHashSet::default(),
            n_fresh: 0,
            limit,
            fuel: limit.saturating_mul(LOOKS_A_NODE),
            plans: FxHashMap::default(),
            costs: FxHashMap::default(),
            memory: Arc::default(),
            target,
            log: None,
            fired: BTreeMap::new(),
        }
    }

    pub fn graph(&self) -> &Graph {
        &self.egraph.analysis.graph
    }

    pub fn facts(&self, id: Id) -> &Facts {
        &self.egraph[id].data
    }

    /// The size of an axis of one of these values.
    pub fn size(&self, operands: &[Val], axis: Axis) -> Size {
        let at = |v: &Val| v.axes.iter().position(|a| *a == axis).map(|k| self.facts(v.id).ty.dims[k]);
        operands.iter().find_map(at).expect("an axis of an operand")
    }

    /// The expected number of elements under these axes of the operands.
    pub fn volume(&self, operands: &[Val], axes: &[Axis]) -> f64 {
        axes.iter().map(|a| self.graph().sizes.hint(self.size(operands, *a)) as f64).product()
    }

    /// The seconds that a term would cost as one kernel.
    pub fn seconds(&self, term: &Term) -> f64 {
        let slots = Numbering::of(&term.operands);
        let facts = |v: &Val| self.facts(v.id);
        let read: Vec<Vec<Slot>> = term.operands.iter().map(|v| slots.slots(&v.axes)).collect();
        let reads: Vec<Read> =
            term.operands.iter().map(|v| &facts(v).operand).zip(read.iter().map(Vec::as_slice)).collect();
        let needs = term.operands.iter().fold(Needs::default(), |n, v| n.and(facts(v).ty.needs));
        seconds_of(&self.target, &term.op, &reads, &slots.slots(&term.out), needs)
    }

    pub fn fresh(&mut self) -> Axis {
        self.n_fresh += 1;
        Axis(FIRST_FRESH + self.n_fresh)
    }

    /// Whether an axis was named by a law, so that it is bound in the node at hand.
    pub fn is_fresh(axis: Axis) -> bool {
        axis.0 >= FIRST_FRESH
    }

    /// The nodes of a class.
    pub fn nodes(&self, id: Id) -> Vec<Node> {
        self.egraph[id].nodes.clone()
    }

    /// The nodes of a class that do this.
    pub fn nodes_where(&self, id: Id, wanted: impl Fn(&Op) -> bool) -> Vec<Node> {
        self.egraph[id].nodes.iter().filter(|n| wanted(&n.op)).cloned().collect()
    }

    /// Whether the budget is spent.
    pub fn full(&self) -> bool {
        self.egraph.total_number_of_nodes() >= self.limit || self.fuel == 0
    }

    /// Spends one look at the cost of a kernel.
    pub fn spend(&mut self, looks: usize) {
        self.fuel = self.fuel.saturating_sub(looks);
    }

    /// Adds a node as it is, such as those of the program at the start.
    pub fn add(&mut self, node: Node) -> Id {
        self.egraph.add(node)
    }

    /// Says of an input that it stands for a value that needs this.
    pub fn stand_in(&mut self, id: Id, needs: Needs) {
        let facts = &mut self.egraph[id].data;
        facts.ty.needs = needs;
        facts.operand.early = !needs.data && !needs.tables;
    }

    /// A leaf, its axes called by fresh names.
    fn leaf(&mut self, op: Op, rank: usize) -> Val {
        let node = Node { op: op.clone(), args: vec![], reads: vec![], out: (0..rank as Slot).collect() };
        let id = self.egraph.add(node);
        let out = (0..rank as u32).map(Axis).collect();
        self.record(|| Event::Make { term: Term { op, operands: vec![], out }, id });
        Val { id, axes: (0..rank).map(|_| self.fresh()).collect() }
    }

    /// A constant, its axes called by fresh names.
    pub fn constant(&mut self, constant: Constant) -> Val {
        let rank = constant.dims.len();
        let graph = &mut self.egraph.analysis.graph;
        let same = |c: &Constant| c.dims == constant.dims && same_bits(&c.data, &constant.data);
        let found = graph.constants.iter().find(|(_, c)| same(c)).map(|(id, _)| id);
        let id = found.unwrap_or_else(|| graph.constants.push(constant));
        self.leaf(Op::Constant(id), rank)
    }

    /// A number.
    pub fn scalar(&mut self, x: f64) -> Val {
        self.constant(Constant { name: format!("{x}"), dims: vec![], data: [x].into() })
    }

    /// A relation, its axes called by fresh names.
    pub fn relation(&mut self, relation: Relation) -> Val {
        let rank = relation.from.len() + 1;
        let graph = &mut self.egraph.analysis.graph;
        let found = graph.relations.iter().find(|(_, r)| **r == relation).map(|(id, _)| id);
        let id = found.unwrap_or_else(|| graph.relations.push(relation));
        self.leaf(Op::Relation(id), rank)
    }

    /// The operands of a node; its slots are the names.
    pub fn operands(node: &Node) -> Vec<Val> {
        let val = |(id, reads): (&Id, &Vec<Slot>)| Val { id: *id, axes: reads.iter().map(|s| Axis(*s)).collect() };
        node.args.iter().zip(&node.reads).map(val).collect()
    }

    /// The axes of the result of a node; its slots are the names.
    pub fn out(node: &Node) -> Vec<Axis> {
        node.out.iter().map(|s| Axis(*s)).collect()
    }

    /// The operands of a node of a class that is read under `axes`; bound axes get fresh names.
    pub fn open(&mut self, node: &Node, axes: &[Axis]) -> Vec<Val> {
        let mut names: BTreeMap<Slot, Axis> = node.out.iter().copied().zip(axes.iter().copied()).collect();
        let mut res = Vec::new();
        for (id, reads) in node.args.iter().zip(&node.reads) {
            let mut axes = Vec::new();
            for slot in reads {
                let known = names.get(slot).copied();
                let name = known.unwrap_or_else(|| self.fresh());
                names.insert(*slot, name);
                axes.push(name);
            }
            res.push(Val { id: *id, axes });
        }
        res
    }

    /// The canonical node of a term and the names of its axes; or the operand itself where the term is nothing else.
    fn canonical(&self, term: &Term) -> Result<Val, (Node, Vec<Axis>)> {
        let canonical = |v: &Val| Val { id: self.egraph.find(v.id), axes: v.axes.clone() };
        let operands: Vec<Val> = term.operands.iter().map(canonical).collect();
        let refs: Vec<&Val> = operands.iter().collect();
        if let [only] = &operands[..]
            && (term.op.commutes() || term.op == Op::View)
            && union(&[only]).len() == only.axes.len()
            && only.axes.len() == term.out.len()
            && only.axes.iter().all(|a| term.out.contains(a))
        {
            return Ok(only.clone());
        }
        Err(node::make(term.op.clone(), &refs, &term.out))
    }

    /// The value of a term where it exists already.
    pub fn find(&self, term: &Term) -> Option<Val> {
        match self.canonical(term) {
            Ok(val) => Some(val),
            Err((node, axes)) => self.look_up(&node, &axes),
        }
    }

    /// A number for a class, to tell sets of factors apart quickly.
    pub fn mark(&self, id: Id) -> u64 {
        let mut x = (usize::from(self.egraph.find(id)) as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ x >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        x ^ x >> 32
    }

    /// Whether a product of factors with these marks may be known; if not, none is.
    pub fn may_have_product(&self, marks: impl Iterator<Item = u64>) -> bool {
        self.products.contains(&marks.fold(0, u64::wrapping_add))
    }

    /// Enters a canonical node; axis `k` of the class is axis `order[k]` of the node.
    fn know(&mut self, node: Node, id: Id, order: Vec<usize>) {
        if node.op == Op::Contract {
            let marks = node.args.iter().map(|a| self.mark(*a)).fold(0, u64::wrapping_add);
            self.products.insert(marks);
        }
        self.known.insert(node, (id, order));
    }

    fn look_up(&self, node: &Node, axes: &[Axis]) -> Option<Val> {
        let (id, order) = self.known.get(node)?;
        Some(Val { id: self.egraph.find(*id), axes: order.iter().map(|&k| axes[k]).collect() })
    }

    /// The value of a term, made if it is new.
    pub fn make(&mut self, term: &Term) -> Val {
        let (node, axes) = match self.canonical(term) {
            Ok(val) => return val,
            Err(new) => new,
        };
        if let Some(val) = self.look_up(&node, &axes) {
            return val;
        }
        let id = self.egraph.add(node.clone());
        self.record(|| Event::Make {
            term: Term { op: node.op.clone(), operands: Self::operands(&node), out: Self::out(&node) },
            id,
        });
        self.know(node, id, (0..axes.len()).collect());
        Val { id, axes }
    }

    fn record(&mut self, event: impl FnOnce() -> Event) {
        if let Some(log) = &mut self.log {
            log.push(event());
        }
    }

    /// Where a term is.
    pub fn place(&self, term: &Term) -> Place {
        let known = |val: Val| Place::Known { id: self.egraph.find(val.id), axes: val.axes };
        match self.canonical(term) {
            Ok(val) => known(val),
            Err((node, axes)) => match self.look_up(&node, &axes) {
                Some(val) => known(val),
                None => Place::New { node, axes },
            },
        }
    }

    /// Records that the class `class`, read under `names`, equals `term`, by `law`. Whether that is new.
    pub fn equate(&mut self, class: Id, names: &[Axis], term: &Term, law: &'static str) -> bool {
        self.egraph.analysis.law = law;
        let changed = match self.place(term) {
            Place::Known { id, axes } => self.link(class, names, &Val { id, axes }, law),
            Place::New { .. } if self.full() || self.egraph[class].nodes.len() >= MOST_NODES_A_CLASS => false,
            Place::New { node, axes } => {
                let place = |n: &Axis| axes.iter().position(|a| a == n);
                let order: Option<Vec<usize>> = names.iter().map(place).collect();
                let Some(order) = order.filter(|o| o.len() == axes.len()) else {
                    panic!("law `{law}` makes {node:?} with axes {axes:?} instead of {names:?}");
                };
                let out = order.iter().map(|&k| node.out[k]).collect();
                let id = self.egraph.add(Node { out, ..node.clone() });
                self.record(|| Event::Alias { id, class });
                self.know(node, id, order);
                self.egraph.union_trusted(class, id, law)
            }
        };
        if changed {
            let term = Term { out: names.to_vec(), ..term.clone() };
            self.record(|| Event::Equate { law, class, term });
            *self.fired.entry(law).or_default() += 1;
        }
        changed
    }

    /// Records that a class read under `names` is `val`.
    fn link(&mut self, class: Id, names: &[Axis], val: &Val, law: &'static str) -> bool {
        if self.egraph.find(class) == self.egraph.find(val.id) {
            return false; // the same, or the value equals itself with axes exchanged, which is not recorded
        }
        if val.axes == names {
            return self.egraph.union_trusted(class, val.id, law);
        }
        let view = |id: Id, from: &[Axis], to: &[Axis]| Node {
            op: Op::View,
            args: vec![id],
            reads: vec![(0..from.len() as Slot).collect()],
            out: to.iter().map(|a| from.iter().position(|b| a == b).expect("the same axes") as Slot).collect(),
        };
        let there = self.egraph.add(view(val.id, &val.axes, names));
        self.record(|| Event::Alias { id: there, class });
        let changed = self.egraph.union_trusted(class, there, law);
        let back = self.egraph.add(view(class, names, &val.axes));
        self.record(|| Event::Alias { id: back, class: val.id });
        self.egraph.union_trusted(val.id, back, "view") || changed
    }

    /// Restores the invariants after merges: congruence up to the order of factors and of axes.
    pub fn rebuild(&mut self) {
        self.record(|| Event::Rebuild);
        loop {
            self.egraph.analysis.law = "congruence";
            self.egraph.rebuild();
            self.known.clear();
            self.products.clear();
            let mut ids: Vec<Id> = self.egraph.classes().map(|c| c.id).collect();
            ids.sort_unstable();
            let mut links = Vec::new();
            for id in ids {
                for node in self.nodes(id).iter().filter(|n| !n.op.is_leaf()) {
                    links.extend(self.register(id, node));
                }
            }
            let mut changed = false;
            for (id, names, val) in links {
                changed |= self.link(id, &names, &val, "order");
            }
            if !changed {
                return;
            }
        }
    }

    /// Enters a node of a class; another class that has the same node in another order comes back.
    fn register(&mut self, id: Id, node: &Node) -> Option<(Id, Vec<Axis>, Val)> {
        let names = Self::out(node);
        let term = Term { op: node.op.clone(), operands: Self::operands(node), out: names.clone() };
        match self.canonical(&term) {
            Ok(val) => (self.egraph.find(val.id) != id && node.op != Op::View).then_some((id, names, val)),
            Err((canonical, axes)) => {
                if let Some(val) = self.look_up(&canonical, &axes) {
                    return (val.id != id).then_some((id, names, val));
                }
                let place = |n: &Axis| axes.iter().position(|a| a == n).expect("the same axes");
                self.know(canonical, id, names.iter().map(place).collect());
                None
            }
        }
    }
}

/// Numbers for the axes of some values: those of a node that would read them.
pub struct Numbering(pub Vec<Axis>);

impl Numbering {
    /// In order of first appearance.
    pub fn of(values: &[Val]) -> Numbering {
        Numbering(axes_of(values))
    }

    pub fn slots(&self, axes: &[Axis]) -> Vec<Slot> {
        axes.iter().map(|a| self.0.iter().position(|b| a == b).expect("an axis of an operand") as Slot).collect()
    }
}

fn same_bits(a: &[f64], b: &[f64]) -> bool {
    a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits()))
}

/// All but one.
pub fn without(values: &[Val], at: usize) -> Vec<Val> {
    values.iter().enumerate().filter(|(k, _)| *k != at).map(|(_, v)| v.clone()).collect()
}

/// The axes of these values, each once, in order of first appearance.
pub fn axes_of(values: &[Val]) -> Vec<Axis> {
    union(&values.iter().collect::<Vec<_>>())
}
