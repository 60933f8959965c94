//! Why the new program equals the old one: a numbered derivation, a law a step, with the cost after each.
//!
//! In: what saturation found, in order. Out: the few steps without which the cheaper program is not reached, found by
//! leaving steps out and looking again. Every look applies the law of every step anew, so a derivation is checked by
//! the same means by which it was made.

use std::collections::{BTreeMap, BTreeSet};

use egg::Id;

use crate::rewrite::Options;
use crate::rewrite::classes::{Classes, Event, Place, Term};
use crate::rewrite::extract::Problem;
use crate::rewrite::rules::LAWS;
use crate::rewrite::search::{Fragment, cheapest, equate};
use crate::tensor::equality::Equality;
use crate::tensor::graph::{Axis, Graph, Val};
use crate::tensor::infer::infer;
use crate::tensor::op::Node;
use crate::tensor::print::{leaf_name, print_node};

/// Looks at most this often while leaving steps out.
const MOST_LOOKS: usize = 300;

/// A window before any law.
#[derive(Clone, Debug)]
pub struct Start {
    pub fragment: Fragment,
    /// The tables, with what laws have added to them.
    pub tables: Graph,
    pub options: Options,
}

/// One step of a derivation.
#[derive(Clone, Debug)]
pub struct Step {
    pub law: &'static str,
    pub equation: &'static str,
    pub before: String,
    pub after: String,
    /// Expected seconds a call of the best program known after this step.
    pub seconds: f64,
}

/// The derivation of one window.
#[derive(Clone, Debug)]
pub struct Proof {
    start: Start,
    events: Vec<Event>,
    pub steps: Vec<Step>,
    /// Expected seconds a call, before and after.
    pub before: f64,
    pub after: f64,
}

/// A derivation that reaches the cost `after`, with few steps. Most steps that it needs are of the classes of the result.
pub fn derivation(start: Start, log: &[Event], of_result: &dyn Fn(Id) -> bool, before: f64, after: f64) -> Proof {
    let reaches = |events: &[Event]| {
        replay(&start, events, Strictness::Skip, &mut |_| ()).is_ok_and(|cost| cost <= after * (1.0 + 1e-9))
    };
    let is_near = |k: &usize| matches!(&log[*k], Event::Equate { class, .. } if of_result(*class));
    let near = used(log, &equations(log).into_iter().filter(is_near).collect::<Vec<_>>());
    let events = shortened(if reaches(&near) { &near } else { log }, &reaches);
    let mut steps = Vec::new();
    let told = replay(&start, &events, Strictness::Skip, &mut |applied| steps.push(applied.step(&start)));
    told.expect("steps that do not follow are skipped");
    Proof { start, events, steps, before, after }
}

/// Applies the law of every step again, to nothing but the start and the steps before. Fails with the step that does not
/// follow, or with the cost that is not reached.
pub fn check_proof(proof: &Proof) -> Result<(), String> {
    let end = replay(&proof.start, &proof.events, Strictness::Fail, &mut |_| ())?;
    if end > proof.after * (1.0 + 1e-9) {
        return Err(format!("the steps reach {end:.3e} s, not {:.3e} s", proof.after));
    }
    Ok(())
}

impl Proof {
    /// The derivation as text.
    pub fn print(&self) -> String {
        let mut res = format!("   {:>9.3} us  as written\n", self.before * 1e6);
        for (k, step) in self.steps.iter().enumerate() {
            res += &format!("{:>2} {:>9.3} us  {}: {}\n", k + 1, step.seconds * 1e6, step.law, step.equation);
            res += &format!("                 {}\n               = {}\n", step.before, step.after);
        }
        res
    }

    /// The same derivation with a step that claims another law: for the test that it is refused.
    pub fn forged(&self, law: &'static str) -> Proof {
        let mut res = self.clone();
        for event in &mut res.events {
            if let Event::Equate { law: name, .. } = event {
                *name = law;
            }
        }
        res
    }
}

/// Few events that still reach the cost. What is last needed of all steps is kept for good, then what is last needed
/// before it, and so on, each found by halving: some looks for every step that stays, at ever fewer steps.
fn shortened(log: &[Event], reaches: &dyn Fn(&[Event]) -> bool) -> Vec<Event> {
    let (mut kept, mut tried, mut looks) = (log.to_vec(), equations(log), 0);
    let mut needed: Vec<usize> = Vec::new();
    while !tried.is_empty() && looks < MOST_LOOKS {
        // the first `most` of the tried steps suffice, fewer than `least` do not
        let (mut least, mut most) = (0, tried.len());
        while least < most && looks < MOST_LOOKS {
            let middle = least.midpoint(most);
            let fewer = used(log, &[&tried[..middle], &needed].concat());
            looks += 1;
            if reaches(&fewer) {
                (kept, most) = (fewer, middle);
            } else {
                least = middle + 1;
            }
        }
        tried.truncate(most);
        needed.extend(tried.pop());
    }
    kept
}

fn equations(events: &[Event]) -> Vec<usize> {
    let is_equation = |e: &Event| matches!(e, Event::Equate { .. });
    (0..events.len()).filter(|&k| is_equation(&events[k])).collect()
}

/// The events of the log without all equations but these, and without the values that none of them reads.
fn used(log: &[Event], equations: &[usize]) -> Vec<Event> {
    let wanted: BTreeSet<usize> = equations.iter().copied().collect();
    let mut read: BTreeSet<Id> = BTreeSet::new();
    let mut res: Vec<&Event> = Vec::new();
    for (k, event) in log.iter().enumerate().rev() {
        match event {
            Event::Equate { class, term, .. } if wanted.contains(&k) => {
                read.insert(*class);
                read.extend(term.operands.iter().map(|v| v.id));
            }
            Event::Make { id, term } if read.contains(id) => read.extend(term.operands.iter().map(|v| v.id)),
            Event::Alias { id, class } if read.contains(id) => read.extend([*class]),
            Event::Rebuild if res.last().is_some_and(|next| !matches!(next, Event::Rebuild)) => (),
            Event::Equate { .. } | Event::Make { .. } | Event::Alias { .. } | Event::Rebuild => continue,
        }
        res.push(event);
    }
    res.into_iter().rev().cloned().collect()
}

/// What to do with a step that does not follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    Skip,
    Fail,
}

/// A law that was applied again, both sides as text, and what is known after it.
struct Applied<'r> {
    law: &'static str,
    equation: &'static str,
    sides: (String, String),
    known: &'r mut Replay,
}

impl Applied<'_> {
    fn step(self, start: &Start) -> Step {
        let (before, after) = self.sides;
        self.known.classes.rebuild();
        Step { law: self.law, equation: self.equation, before, after, seconds: self.known.cost(start) }
    }
}

/// Finds again what the events say, in a new e-graph, and tells of each law. The cost of the best program at the end.
fn replay(
    start: &Start,
    events: &[Event],
    strictness: Strictness,
    tell: &mut dyn FnMut(Applied),
) -> Result<f64, String> {
    let mut replay = Replay { classes: start.classes(), ids: BTreeMap::new(), aliases: BTreeMap::new() };
    for id in 0..start.fragment.graph.nodes().count() {
        replay.ids.insert(Id::from(id), Id::from(id));
    }
    let mut applied = 0;
    for event in events {
        match event {
            Event::Alias { id, class } => {
                replay.aliases.insert(*id, *class);
            }
            Event::Make { term, id } => {
                if let Some(term) = replay.mapped(term) {
                    let new = replay.make(&term);
                    replay.ids.insert(*id, new);
                }
            }
            Event::Equate { law, class, term } => match replay.equate(&start.fragment, law, *class, term) {
                Some((before, after, equation)) => {
                    applied += 1;
                    tell(Applied { law, equation, sides: (before, after), known: &mut replay });
                }
                None if strictness == Strictness::Fail => {
                    return Err(format!("step {} does not follow by `{law}`", applied + 1));
                }
                None => (),
            },
            // following up is most of the work: where the search did it, not after every step
            Event::Rebuild => replay.classes.rebuild(),
        }
    }
    replay.classes.rebuild();
    Ok(replay.cost(start))
}

impl Start {
    fn classes(&self) -> Classes {
        let mut classes = self.fragment.classes(usize::MAX, &self.options);
        classes.egraph.analysis.graph = self.tables.clone();
        classes.rebuild();
        classes
    }
}

struct Replay {
    classes: Classes,
    /// Classes of the search to classes here.
    ids: BTreeMap<Id, Id>,
    /// Other numbers of classes of the search.
    aliases: BTreeMap<Id, Id>,
}

impl Replay {
    fn id(&self, old: Id) -> Option<Id> {
        let mut id = old;
        for _ in 0..=self.aliases.len() {
            if let Some(new) = self.ids.get(&id) {
                return Some(*new);
            }
            id = *self.aliases.get(&id)?;
        }
        None
    }

    fn mapped(&self, term: &Term) -> Option<Term> {
        let val = |v: &Val| Some(Val { id: self.id(v.id)?, axes: v.axes.clone() });
        let operands = term.operands.iter().map(val).collect::<Option<_>>()?;
        let term = Term { op: term.op.clone(), operands, out: term.out.clone() };
        self.is_typed(&term).then_some(term)
    }

    /// Whether a term has a type. One that was made after a step that is left out need not: its operands may have been other classes.
    fn is_typed(&self, term: &Term) -> bool {
        if term.op.is_leaf() {
            return true;
        }
        let operands: Vec<&Val> = term.operands.iter().collect();
        let (node, _) = crate::tensor::node::make(term.op.clone(), &operands, &term.out);
        infer(self.classes.graph(), &node, |id| self.classes.facts(id).ty.clone()).is_ok()
    }

    fn make(&mut self, term: &Term) -> Id {
        if term.op.is_leaf() {
            let out = (0..term.out.len() as u32).collect();
            return self.classes.add(Node { op: term.op.clone(), args: vec![], reads: vec![], out });
        }
        self.classes.make(term).id
    }

    /// Applies the law to the nodes of the class until it gives the term. Both sides and the equation as text.
    fn equate(
        &mut self,
        fragment: &Fragment,
        law: &str,
        class: Id,
        term: &Term,
    ) -> Option<(String, String, &'static str)> {
        let class = self.classes.egraph.find(self.id(class)?);
        let term = self.mapped(term)?;
        let Some(law) = LAWS.iter().find(|l| l.name == law) else { return self.stated(fragment, law, class, &term) };
        self.classes.egraph.analysis.law = law.name;
        for node in self.classes.nodes(class) {
            let names = Classes::out(&node);
            for candidate in (law.apply)(&mut self.classes, class, &node) {
                if same(&self.classes, &candidate, &names, &term) {
                    let (before, after) = (self.text(&node), self.text_of_term(&term));
                    self.classes.equate(class, &names, &candidate, law.name);
                    return Some((before, after, law.equation));
                }
            }
        }
        // the law may have said it on the way, of a value inside
        let class = self.classes.egraph.find(class);
        match self.classes.place(&term) {
            Place::Known { id, .. } if id == class => {
                Some((format!("t{class}"), self.text_of_term(&term), law.equation))
            }
            Place::Known { .. } | Place::New { .. } => None,
        }
    }

    /// Unites the class with the term where the program states that they are equal, by a theorem of this name.
    fn stated(
        &mut self,
        fragment: &Fragment,
        theorem: &str,
        class: Id,
        term: &Term,
    ) -> Option<(String, String, &'static str)> {
        let [other] = &term.operands[..] else { return None };
        let find = |classes: &Classes, id: Id| classes.egraph.find(id);
        let same = |e: &&Equality| {
            let sides = [(e.written, class), (e.other, other.id)];
            e.theorem.name == theorem && sides.iter().all(|(a, b)| find(&self.classes, *a) == find(&self.classes, *b))
        };
        let equality = fragment.graph.equalities.iter().find(same)?;
        let (before, after) = (format!("t{class}"), self.text_of_term(term));
        equate(&mut self.classes, equality, class, other.id);
        Some((before, after, equality.theorem.equation))
    }

    fn cost(&self, start: &Start) -> f64 {
        let problem = Problem::new(&self.classes, &start.fragment.roots());
        problem.cost(&cheapest(&start.fragment, &problem)).expect("the program at hand")
    }

    fn text(&self, node: &Node) -> String {
        let name = |id: Id| {
            let facts = self.classes.facts(id);
            let leaf = facts.leaf.as_ref().and_then(|op| leaf_name(self.classes.graph(), op));
            (leaf.unwrap_or_else(|| format!("t{}", self.classes.egraph.find(id))), facts.ty.relation)
        };
        print_node(node, name)
    }

    fn text_of_term(&self, term: &Term) -> String {
        let refs: Vec<&Val> = term.operands.iter().collect();
        self.text(&crate::tensor::node::make(term.op.clone(), &refs, &term.out).0)
    }
}

/// Whether a candidate under `names` is the term, whose `out` are the same axes in the same order.
fn same(classes: &Classes, candidate: &Term, names: &[Axis], term: &Term) -> bool {
    let place = |axes: Vec<Axis>, names: &[Axis]| -> Option<Vec<usize>> {
        axes.iter().map(|a| names.iter().position(|n| n == a)).collect()
    };
    match (classes.place(candidate), classes.place(term)) {
        (Place::Known { id: a, axes: x }, Place::Known { id: b, axes: y }) => {
            a == b && place(x, names) == place(y, &term.out)
        }
        (Place::New { node: a, axes: x }, Place::New { node: b, axes: y }) => {
            a == b && place(x, names) == place(y, &term.out)
        }
        (Place::Known { .. }, Place::New { .. }) | (Place::New { .. }, Place::Known { .. }) => false,
    }
}
