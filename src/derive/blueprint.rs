//! The blueprint: a row a layer, what was derived and what it costs.
//!
//! In: what the derivation of a linear found. Out: rows, shown as an aligned table or handed to a program as they are.

use std::fmt;

use crate::derive::derivation::Derivation;
use crate::derive::linear::over_name;
use crate::derive::signal::{Kind, Signal};
use crate::domain::Orbits;
use crate::sema::hir::{Base, Linear, Type, Value};
use crate::tensor::graph::Graph;
use crate::tensor::op::{Node, Op, ValueId};

/// What was derived for one model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Blueprint {
    pub model: String,
    pub rows: Vec<Row>,
}

/// One derived layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The prefix of its weights: `linear1`, `f.2.linear`.
    pub name: String,
    pub input: String,
    pub output: String,
    pub over: String,
    /// How many orbits of pairs of points, in words: `25`, `15 partitions`, `each distance`.
    pub orbits: String,
    /// The group that fixes a point.
    pub stabiliser: String,
    /// dim Hom for each pair of kinds with maps between them: free weights a pair of copies.
    pub hom: Vec<Hom>,
    /// Numbers of learnt parameters: weights and biases.
    pub weights: usize,
    /// expand, factor or gather.
    pub lowering: &'static str,
    /// Floating-point operations with the expected sizes.
    pub flops: f64,
    /// Bytes read and written with the expected sizes in f32, each tensor once.
    pub bytes: f64,
}

/// dim Hom between two kinds.
#[derive(Clone, Debug, PartialEq)]
pub struct Hom {
    pub input: String,
    pub output: String,
    pub dim: usize,
    /// How many functions of the distance each map has a weight for; 1 where there is no distance.
    pub functions: usize,
}

impl Row {
    /// Free weights with one copy a kind: dim Hom summed over the pairs of kinds, times the radial functions.
    pub fn dim(&self) -> usize {
        self.hom.iter().map(|h| h.dim * h.functions).sum()
    }

    /// The row of the layer whose nodes are those from `first_node` on and whose weights are those from `first_weight` on.
    #[expect(clippy::too_many_arguments, reason = "a row reports on every part of a layer")]
    pub(super) fn new(
        derivation: &Derivation,
        value: &Value,
        (inputs, signal): (&[Signal], &Signal),
        linear: &Linear,
        orbits: &Orbits,
        hom: Vec<Hom>,
        first_node: usize,
        first_weight: usize,
    ) -> Row {
        let graph = &derivation.graph;
        let parts: Vec<(&Kind, usize)> = inputs.iter().flat_map(|s| &s.parts).map(|p| (&p.kind, p.copies)).collect();
        let base = inputs.first().map_or(value.ty.base, |s| s.base);
        let shapes = derivation.shapes(&value.ty);
        let weights = weights_from(graph, first_weight);
        let (flops, bytes) = cost(graph, first_node, &signal.parts.iter().map(|p| p.val.id).collect::<Vec<_>>());
        Row {
            name: linear.name.clone(),
            input: show(derivation, base, &parts),
            output: show(derivation, value.ty.base, &shapes.iter().map(|s| (&s.kind, s.copies)).collect::<Vec<_>>()),
            over: over_name(&linear.over),
            orbits: orbit_words(orbits),
            stabiliser: stabiliser(derivation, &value.ty),
            hom,
            weights,
            lowering: lowering(orbits),
            flops,
            bytes,
        }
    }
}

impl Row {
    /// The row of another operation that owns weights: a gate, a normalisation, a bilinear map, a learnt vector.
    pub(super) fn of_operation(derivation: &Derivation, value: &Value, first_node: usize, first_weight: usize) -> Row {
        let graph = &derivation.graph;
        let name = graph.weights.iter().nth(first_weight).map_or(String::new(), |(_, w)| w.name.clone());
        let inputs: Vec<Signal> = value.args.iter().map(|id| derivation.signals[id.index()].clone()).collect();
        let parts: Vec<(&Kind, usize)> = inputs.iter().flat_map(|s| &s.parts).map(|p| (&p.kind, p.copies)).collect();
        let shapes = derivation.shapes(&value.ty);
        let base = inputs.first().map_or(value.ty.base, |s| s.base);
        let all: Vec<ValueId> = graph.nodes_from(first_node).map(|(id, _)| id).collect();
        let (flops, bytes) = cost(graph, first_node, &all);
        Row {
            name: name.trim_end_matches(".weight").trim_end_matches(".bias").trim_end_matches(".scale").to_string(),
            input: if parts.is_empty() { "-".into() } else { show(derivation, base, &parts) },
            output: show(derivation, value.ty.base, &shapes.iter().map(|s| (&s.kind, s.copies)).collect::<Vec<_>>()),
            over: "point".into(),
            orbits: "1".into(),
            stabiliser: stabiliser(derivation, &value.ty),
            hom: vec![],
            weights: weights_from(graph, first_weight),
            lowering: "map",
            flops,
            bytes,
        }
    }
}

/// The parameters of the weights from `first` on.
fn weights_from(graph: &Graph, first: usize) -> usize {
    graph.weights.iter().skip(first).map(|(_, w)| w.dims.iter().product::<usize>()).sum()
}

fn stabiliser(derivation: &Derivation, ty: &Type) -> String {
    match ty.base {
        Base::Points(id) | Base::Edges(id) => derivation.places.domain(id).stabiliser().name(),
        Base::Constant | Base::Sample => "-".into(),
    }
}

fn show(derivation: &Derivation, base: Base, parts: &[(&Kind, usize)]) -> String {
    let name = |id: crate::base::arena::Id<crate::sema::hir::DomainDecl>| derivation.program.domains[id].name.clone();
    let place = match base {
        Base::Constant => "constant".into(),
        Base::Sample => String::new(),
        Base::Points(id) => name(id),
        Base::Edges(id) => format!("{}.edges", name(id)),
    };
    let part = |(kind, copies): &(&Kind, usize)| match kind {
        Kind::Scalar => copies.to_string(),
        Kind::Rep(_) | Kind::Position(_) => format!("{copies} {kind}"),
    };
    let fibre = parts.iter().map(part).collect::<Vec<_>>().join(" + ");
    if place.is_empty() { fibre } else { format!("{place} -> {fibre}") }
}

fn orbit_words(orbits: &Orbits) -> String {
    match orbits {
        Orbits::Point => "1".into(),
        Orbits::Lattice { displacements, .. } => displacements.len().to_string(),
        Orbits::Permutations { inputs, outputs } => {
            crate::symmetry::partition::bell(inputs + outputs).map_or_else(|| "-".into(), |b| b.to_string())
        }
        Orbits::Star => "2".into(),
        Orbits::Distances { .. } => "1 + each distance".into(),
    }
}

fn lowering(orbits: &Orbits) -> &'static str {
    match orbits {
        Orbits::Point => "contract",
        Orbits::Lattice { .. } => "expand",
        Orbits::Permutations { .. } => "factor",
        Orbits::Star | Orbits::Distances { .. } => "gather",
    }
}

/// FLOPs and bytes of the nodes from `first` on that these values need, as they are written, and that need more than weights.
fn cost(graph: &Graph, first: usize, of: &[ValueId]) -> (f64, f64) {
    let (mut flops, mut bytes) = (0.0, 0.0);
    let needed = graph.needed_by(of.iter().copied(), false);
    for (id, node) in graph.nodes_from(first) {
        let needs = graph.ty(id).needs;
        if !needed[usize::from(id)] || node.op.is_leaf() || !(needs.data || needs.tables) {
            continue;
        }
        flops += work(graph, node);
        bytes += 4.0 * extent(graph, id);
        bytes += node.args.iter().map(|a| 4.0 * extent(graph, *a)).sum::<f64>();
    }
    (flops, bytes)
}

fn extent(graph: &Graph, id: ValueId) -> f64 {
    let ty = graph.ty(id);
    // a relation is at most its table
    let dims = if ty.relation { &ty.dims[..ty.dims.len() - 1] } else { &ty.dims[..] };
    if matches!(graph.node(id).op, Op::Relation(r) if !graph.relations[r].map.is_table()) {
        return 0.0;
    }
    dims.iter().map(|n| graph.sizes.hint(*n) as f64).product()
}

/// Multiplications and additions: the product of the sizes of all axes that no relation determines, times the numbers that meet there.
fn work(graph: &Graph, node: &Node) -> f64 {
    let mut sizes: Vec<(u32, f64)> = Vec::new();
    let mut determined: Vec<u32> = Vec::new();
    let mut numbers = 0usize;
    for (arg, reads) in node.args.iter().zip(&node.reads) {
        let ty = graph.ty(*arg);
        for (slot, n) in reads.iter().zip(&ty.dims) {
            if !sizes.iter().any(|(s, _)| s == slot) {
                sizes.push((*slot, graph.sizes.hint(*n) as f64));
            }
        }
        match (ty.relation, reads.last()) {
            (true, Some(to)) => {
                // of two relations into one axis only one determines it
                if determined.contains(to) { numbers += 1 } else { determined.push(*to) }
            }
            _ => numbers += 1,
        }
    }
    let points: f64 = sizes.iter().filter(|(s, _)| !determined.contains(s)).map(|(_, n)| n).product();
    let per_point = match node.op {
        Op::Contract => numbers.max(1) as f64,
        Op::Sum => node.args.len().saturating_sub(1) as f64,
        Op::Map(_) | Op::Reduce(_) => 1.0,
        Op::Input(_) | Op::Weight(_) | Op::Constant(_) | Op::Relation(_) | Op::View => 0.0,
    };
    points * per_point
}

impl Blueprint {
    /// The same for programs.
    pub fn json(&self) -> serde_json::Value {
        let hom = |h: &Hom| serde_json::json!({ "input": h.input, "output": h.output, "dim": h.dim, "functions": h.functions });
        let row = |r: &Row| {
            serde_json::json!({
                "name": r.name, "input": r.input, "output": r.output, "over": r.over, "orbits": r.orbits, "stabiliser": r.stabiliser,
                "hom": r.hom.iter().map(hom).collect::<Vec<_>>(), "weights": r.weights, "lowering": r.lowering,
                "flops": r.flops, "bytes": r.bytes,
            })
        };
        serde_json::json!({ "model": self.model, "layers": self.rows.iter().map(row).collect::<Vec<_>>() })
    }
}

impl fmt::Display for Blueprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = [
            "layer",
            "from",
            "to",
            "over",
            "orbits",
            "stabiliser",
            "dim Hom a pair",
            "weights",
            "lowering",
            "MFLOP",
            "MB",
        ];
        let mut table: Vec<Vec<String>> = vec![heads.iter().map(ToString::to_string).collect()];
        table.extend(self.rows.iter().map(cells));
        let width = |k: usize| table.iter().map(|row| row[k].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        writeln!(f, "model {}", self.model)?;
        for row in &table {
            let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
            writeln!(f, "  {}", padded.join("  ").trim_end())?;
        }
        let total: usize = self.rows.iter().map(|r| r.weights).sum();
        write!(f, "  {total} weights in {} layers", self.rows.len())
    }
}

fn cells(row: &Row) -> Vec<String> {
    let hom = |h: &Hom| {
        let count = if h.functions == 1 { h.dim.to_string() } else { format!("{}x{}", h.dim, h.functions) };
        if row.hom.len() == 1 { count } else { format!("{}->{} {count}", h.input, h.output) }
    };
    vec![
        row.name.clone(),
        row.input.clone(),
        row.output.clone(),
        row.over.clone(),
        row.orbits.clone(),
        row.stabiliser.clone(),
        row.hom.iter().map(hom).collect::<Vec<_>>().join(", "),
        row.weights.to_string(),
        row.lowering.to_string(),
        format!("{:.3}", row.flops / 1e6),
        format!("{:.3}", row.bytes / 1e6),
    ]
}
