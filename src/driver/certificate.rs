//! What is checked of a model before anyone trusts it, on random instances: the compiled library against the meaning of
//! the program, symmetry under random group elements, and that the model is not trivially symmetric.

use std::collections::BTreeMap;
use std::fmt;

use crate::base::dtype::Dtype;
use crate::derive::instance::{self, Filling};
use crate::derive::transform::{self, Edge, Transform};
use crate::derive::{certificate, gradient_certificate};
use crate::driver::compiled::Compiled;
use crate::driver::failure::Failure;
use crate::driver::reference;
use crate::driver::session::Session;
use crate::math::Rng;
use crate::sema::hir;
use crate::tensor::eval::{Arguments, Array};
use crate::tensor::graph::{Graph, InputKind};
use crate::tensor::op::Op;

/// The same instances on every machine.
pub(super) const SEED: u64 = 7;

/// One claim with the number that was found for it and the number it must respect.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    pub claim: String,
    pub found: f64,
    pub bound: Bound,
}

/// What a number must respect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::AtMost(x) => write!(f, "at most {x:.1e}"),
            Bound::AtLeast(x) => write!(f, "at least {x:.1e}"),
        }
    }
}

impl Check {
    /// Whether the claim holds. A number that is not a number holds nothing.
    pub fn passed(&self) -> bool {
        match self.bound {
            Bound::AtMost(x) => self.found <= x,
            Bound::AtLeast(x) => self.found >= x && self.found.is_finite(),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed() { "ok    " } else { "FAILED" };
        write!(f, "{verdict} {:<58} {:.1e}  ({})", self.claim, self.found, self.bound)
    }
}

/// The checks of one model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Certificate {
    pub checks: Vec<Check>,
}

/// How many group elements are tried on the whole model.
const ELEMENTS: usize = 4;

/// Run-time sizes are at least this: room for windows and neighbours, and small enough for the evaluator.
pub(super) const LEAST: usize = 8;

impl Certificate {
    /// Checks every linear layer of all models: equivariant, not zero, as many independent weights as there are maps.
    pub fn layers(program: &hir::Program) -> Result<Certificate, Failure> {
        let layers = certificate::certify(program, SEED).map_err(|errors| {
            Failure::bug(format!("a layer that was derived is not derived alone: {}", errors[0].message))
        })?;
        let mut res = Certificate::default();
        for layer in layers {
            let name = &layer.name;
            res.push(format!("{name} commutes with the group"), layer.residual, Bound::AtMost(certificate::TOLERANCE));
            let defect = layer.dim.abs_diff(layer.weights).max(layer.weights.abs_diff(layer.rank)) as f64;
            res.push(
                format!("{name}: dim Hom {} = weights {} = rank {}", layer.dim, layer.weights, layer.rank),
                defect,
                Bound::AtMost(0.0),
            );
            if layer.dim > 0 {
                res.push(format!("{name} is not zero"), layer.size, Bound::AtLeast(1e-9));
            }
        }
        Ok(res)
    }

    /// Checks every gradient of a model, in f64: what central differences say, and no net force and torque of an energy of positions.
    pub fn gradients(program: &hir::Program, model: &hir::Model) -> Result<Certificate, Failure> {
        let all = gradient_certificate::certify_gradients(program, model, SEED).map_err(|errors| {
            Failure::bug(format!("a gradient that was derived is not derived alone: {}", errors[0].message))
        })?;
        let mut res = Certificate::default();
        for g in all {
            let claim = format!("{} = central differences", g.name);
            res.push(claim, g.difference, Bound::AtMost(gradient_certificate::DIFFERENCE));
            for (net, found) in [("force", g.force), ("torque", g.torque)] {
                if let Some(found) = found {
                    res.push(format!("{}: no net {net}", g.name), found, Bound::AtMost(gradient_certificate::NET));
                }
            }
        }
        Ok(res)
    }

    /// Checks a whole compiled model on random instances.
    pub fn model(
        session: &Session,
        program: &hir::Program,
        model: &hir::Model,
        dtype: Dtype,
    ) -> Result<Certificate, Failure> {
        let compiled = Compiled::new(session, program, model, dtype)?;
        let mut rng = Rng::new(SEED);
        let graph = &compiled.algebra.derived.graph;
        let arguments = instance::arguments(graph, instance::small_sizes(graph, LEAST), Filling::Generic, &mut rng);
        let outputs = library(&compiled, &arguments)?;
        let mut res = Certificate::default();
        res.faithful(&compiled, &arguments, &outputs, dtype)?;
        res.equivariant(&compiled, program, model, &arguments, &outputs, dtype, &mut rng)?;
        if dtype == Dtype::F64 {
            res.interior(graph, program, model, &arguments, &mut rng)?;
        }
        res.not_trivial(&compiled, &arguments, &outputs, &mut rng)?;
        Ok(res)
    }

    pub(super) fn push(&mut self, claim: String, found: f64, bound: Bound) {
        self.checks.push(Check { claim, found, bound });
    }

    /// The library computes what the program means.
    fn faithful(
        &mut self,
        compiled: &Compiled,
        arguments: &Arguments,
        outputs: &Outputs,
        dtype: Dtype,
    ) -> Result<(), Failure> {
        let meaning = reference::evaluate(&compiled.algebra.derived.graph, arguments)?;
        for (name, expected) in &meaning {
            let error = distance(&outputs[name].data, &expected.data);
            self.push(
                format!("{dtype} `{name}` compiled = as derived"),
                error,
                Bound::AtMost(tolerance(compiled, dtype)),
            );
        }
        Ok(())
    }

    /// The library commutes with sampled symmetries: `f(g x) = g f(x)`.
    #[expect(
        clippy::too_many_arguments,
        reason = "a symmetry is sampled from the program, the model and the arguments"
    )]
    fn equivariant(
        &mut self,
        compiled: &Compiled,
        program: &hir::Program,
        model: &hir::Model,
        arguments: &Arguments,
        outputs: &Outputs,
        dtype: Dtype,
        rng: &mut Rng,
    ) -> Result<(), Failure> {
        let mut worst: BTreeMap<String, f64> = BTreeMap::new();
        let mut described = String::new();
        for _ in 0..ELEMENTS {
            let symmetry = Transform::sample(program, model, arguments, rng);
            described = symmetry.describe();
            let moved = library(compiled, &symmetry.arguments(arguments))?;
            for (name, output) in outputs {
                let error = distance(&moved[name].data, &symmetry.output(name, output).data);
                let entry = worst.entry(name.clone()).or_default();
                *entry = worst_of(*entry, error);
            }
        }
        for (name, error) in worst {
            let claim = format!("{dtype} `{name}` commutes with {ELEMENTS} symmetries ({described})");
            self.push(claim, error, Bound::AtMost(2.0 * tolerance(compiled, dtype)));
        }
        Ok(())
    }

    /// What the layers do where no window reaches beyond the border: with every boundary closed to a torus, shifts are exact too.
    fn interior(
        &mut self,
        graph: &Graph,
        program: &hir::Program,
        model: &hir::Model,
        arguments: &Arguments,
        rng: &mut Rng,
    ) -> Result<(), Failure> {
        let Some(closed) = transform::on_torus(graph) else { return Ok(()) };
        let mut worst = 0.0;
        for _ in 0..ELEMENTS {
            let symmetry = Transform::sample_at(program, model, arguments, Edge::Torus, rng);
            let outputs = reference::evaluate(&closed, arguments)?;
            let moved = reference::evaluate(&closed, &symmetry.arguments(arguments))?;
            for (name, output) in &outputs {
                worst = worst_of(worst, distance(&moved[name].data, &symmetry.output(name, output).data));
            }
        }
        self.push("the interior commutes with shifts (borders closed to a torus)".into(), worst, Bound::AtMost(2e-10));
        Ok(())
    }

    /// The outputs are not zero, and other signals on the same domain give other outputs.
    fn not_trivial(
        &mut self,
        compiled: &Compiled,
        arguments: &Arguments,
        outputs: &Outputs,
        rng: &mut Rng,
    ) -> Result<(), Failure> {
        let graph = &compiled.algebra.derived.graph;
        let mut other = instance::arguments(graph, arguments.sizes.clone(), Filling::Generic, rng);
        other.weights.clone_from(&arguments.weights);
        for (_, input) in graph.inputs.iter().filter(|(_, input)| matches!(input.kind, InputKind::Table { .. })) {
            other.inputs.insert(input.name.clone(), arguments.inputs[&input.name].clone());
        }
        let others = library(compiled, &other)?;
        for (name, output) in outputs {
            self.push(format!("`{name}` is not zero"), norm(&output.data), Bound::AtLeast(1e-6));
            self.push(
                format!("`{name}` depends on the input"),
                distance(&output.data, &others[name].data),
                Bound::AtLeast(1e-6),
            );
        }
        Ok(())
    }
}

type Outputs = BTreeMap<String, Array>;

/// What the compiled library computes on the evaluator's arguments.
fn library(compiled: &Compiled, arguments: &Arguments) -> Result<Outputs, Failure> {
    let inputs = reference::inputs(&compiled.algebra.derived.graph, arguments);
    let outputs = compiled.run(&inputs, &reference::weights(arguments))?;
    Ok(outputs.into_iter().map(|(name, t)| (name, Array { data: t.reals(), dims: t.shape })).collect())
}

/// Rounding allowed: in f64 1e-10; in f32 5e-6 sqrt(K) for each contraction of length K along the program.
fn tolerance(compiled: &Compiled, dtype: Dtype) -> f64 {
    if dtype == Dtype::F64 {
        return 1e-10;
    }
    let graph = &compiled.algebra.derived.graph;
    let length = |id| {
        let node = graph.node(id);
        let mut bound = 1.0;
        for (arg, reads) in node.args.iter().zip(&node.reads) {
            for (slot, size) in reads.iter().zip(&graph.ty(*arg).dims) {
                if !node.out.contains(slot) {
                    bound = f64::max(bound, size.as_fixed().unwrap_or(1) as f64);
                }
            }
        }
        bound
    };
    let longest = graph.nodes().filter(|(_, n)| n.op == Op::Contract).map(|(id, _)| length(id)).fold(1.0, f64::max);
    let depth = graph.weights.len().max(1) as f64;
    5e-6 * longest.sqrt() * depth.sqrt()
}

/// The greatest difference, relative to the greatest number. NaN where there is one.
pub fn distance(x: &[f64], y: &[f64]) -> f64 {
    distance_from(x, y, f64::MIN_POSITIVE)
}

/// The greatest difference, relative to the greatest number or to `least`. NaN where there is one.
pub(super) fn distance_from(x: &[f64], y: &[f64], least: f64) -> f64 {
    assert_eq!(x.len(), y.len(), "tensors of one shape");
    let scale = norm(y).max(norm(x)).max(least).max(f64::MIN_POSITIVE);
    let differences = x.iter().zip(y).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, worst_of) / scale
}

/// The greater of two errors; one that is not a number stays.
pub(super) fn worst_of(x: f64, y: f64) -> f64 {
    if x.is_nan() || y.is_nan() { f64::NAN } else { x.max(y) }
}

pub(super) fn norm(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |m, v| worst_of(m, v.abs()))
}
