//! Tensor programs to cheaper equal ones, by equality saturation.
//!
//! In: a graph. Out: a graph with the same outputs, and a report. Knows nothing of groups and of kernels; laws are
//! equations of tensor algebra over the reals, each tested on random programs.
//!
//! Reading order: `language` (nodes and facts of classes), `classes` (the e-graph under axis names), `rules` (the laws),
//! `cost` (time on the target), `saturate`, `extract`, `search` (all of these on one part of a program),
//! `window` (the parts of a program, one at a time; then the choice between programs that are stated to be equal), `explain` (why the new program equals the old one);
//! `residuals`, by `min_cut` (of a program and its derivatives: what the forward pass hands on to the backward pass).

pub mod classes;
pub mod cost;
pub mod explain;
pub mod extract;
pub mod language;
pub mod min_cut;
pub mod residuals;
pub mod rules;
pub mod saturate;
pub mod search;
pub mod window;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::rewrite::cost::{Target, seconds};
use crate::rewrite::rules::{LAWS, Law};
use crate::tensor::cost::operand;
use crate::tensor::graph::Graph;
use crate::tensor::pass::dce::dce;
use crate::tensor::pass::fold::fold;
use crate::tensor::pass::held::released;
use crate::tensor::pass::zeros::zeros;
use crate::tensor::verify::verify;

/// How hard to search, and for which machine.
#[derive(Clone, Debug)]
pub struct Options {
    pub target: Target,
    /// Operations in a window.
    pub window: usize,
    /// Nodes in the e-graph of a window, for each operation of the window.
    pub growth: usize,
    pub rounds: usize,
    /// Fewer of them show what a law is worth.
    pub laws: &'static [Law],
    pub explain: Explain,
}

/// Whether to say why the new program equals the old one, which takes some seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Explain {
    Nothing,
    Derivation,
}

impl Default for Options {
    fn default() -> Self {
        Options { target: Target::default(), window: 32, growth: 40, rounds: 10, laws: LAWS, explain: Explain::Nothing }
    }
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Expected seconds a call, before and after.
    pub before: f64,
    pub after: f64,
    /// Operations, before and after.
    pub operations: (usize, usize),
    /// How often each law found something new.
    pub laws: BTreeMap<&'static str, usize>,
    pub windows: Vec<search::Summary>,
    /// How many of the windows were equal to an earlier one, and not searched again.
    pub again: usize,
    /// For every equality stated of a value that is needed, whether the other program is taken.
    pub choices: Vec<search::Choice>,
    /// A derivation for each window that became cheaper, where they were asked for; equal windows have one.
    pub proofs: Vec<explain::Proof>,
    pub time: Duration,
}

impl Report {
    /// Adds what was found of a window, which may be equal to an earlier one.
    fn add(&mut self, found: &search::Found, again: bool) {
        self.windows.push(found.summary.clone());
        self.again += usize::from(again);
        if !again {
            self.proofs.extend(found.proof.clone());
        }
        for (law, count) in &found.laws {
            *self.laws.entry(law).or_default() += count;
        }
    }
}

/// An equal graph that is expected to run faster; never a slower one. Equalities that the graph states are used up: where the
/// other program for a value is expected to be faster, it is taken.
pub fn optimise(graph: &Graph, options: &Options) -> (Graph, Report) {
    let start = Instant::now();
    let graph = &released(graph);
    let mut report = Report { before: total_seconds(graph, &options.target), ..Report::default() };
    report.operations.0 = operations(graph);
    let mut current = dce(&fold(&zeros(graph)));
    let mut memory = window::Memory::default();
    let mut sweeps = |current: &mut Graph, report: &mut Report| {
        for offset in [0, options.window / 2] {
            *current = window::sweep(current, options, offset, &mut memory, report);
        }
    };
    let stated = (current.clone(), report.clone());
    sweeps(&mut current, &mut report);
    if !current.equalities.is_empty() {
        let written = total_seconds(&current, &options.target);
        current = window::choose(&current, options, &mut report);
        if report.choices.iter().all(|c| !c.taken) || total_seconds(&current, &options.target) >= written {
            // nobody who reads a value need be kept from seeing how it is computed
            let choices = report.choices.into_iter().map(|c| search::Choice { taken: false, ..c }).collect();
            (current, report) = (dce(&stated.0.without_equalities()), Report { choices, ..stated.1 });
            sweeps(&mut current, &mut report);
        }
    }
    let current = dce(&current);
    if let Err(why) = verify(&current) {
        panic!("rewriting made an ill-formed tensor graph: {why}");
    }
    report.after = total_seconds(&current, &options.target);
    report.operations.1 = operations(&current);
    report.time = start.elapsed();
    (current, report)
}

fn operations(graph: &Graph) -> usize {
    let needed = graph.needed(false);
    graph.nodes().filter(|(id, n)| !n.op.is_leaf() && needed[usize::from(*id)]).count()
}

/// The expected seconds of a call, of what the outputs need as it is written.
pub fn total_seconds(graph: &Graph, target: &Target) -> f64 {
    let needed = graph.needed(false);
    let one = |(id, node): (_, &crate::tensor::op::Node)| {
        let operands: Vec<_> = node.args.iter().map(|a| operand(graph, *a)).collect();
        seconds(target, node, &operands, graph.ty(id).needs)
    };
    graph.nodes().filter(|(id, _)| needed[usize::from(*id)]).map(one).sum()
}
