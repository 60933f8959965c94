//! What is checked of a model before anyone trusts it, on random instances: the compiled library against the meaning of
//! the program, symmetry under random group elements, and that the model is not trivially symmetric.

use std::fmt;

use crate::base::dtype::Dtype;
use crate::driver::binding::Sizes;
use crate::driver::compiled::Compiled;
use crate::driver::failure::Failure;
use crate::driver::session::Session;
use crate::driver::tensors::Tensors;
use crate::driver::{initial, instance, reference};
use crate::math::Rng;
use crate::sema::hir;
use crate::tensor::op::Op;

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
            Bound::AtLeast(x) => self.found >= x,
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed() { "ok    " } else { "FAILED" };
        write!(f, "{verdict} {:<58} {:.1e}  ({})", self.claim, self.found, self.bound)
    }
}

/// The checks of one model in one number type.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate {
    pub checks: Vec<Check>,
}

/// Run-time sizes of the instances: small, so that the reference evaluator is quick.
fn small(name: &str, hint: usize) -> usize {
    match name {
        "batch" => 2,
        "samples" => 2,
        _ => hint.clamp(1, 12),
    }
}

impl Certificate {
    /// Checks a model.
    pub fn new(session: &Session, program: &hir::Program, model: &hir::Model, dtype: Dtype) -> Result<Certificate, Failure> {
        let compiled = Compiled::new(session, program, model, dtype)?;
        let sizes = instance::sizes(&compiled.interface.sizes, small)?;
        let mut rng = Rng::new(7);
        let weights = initial::random(&compiled.algebra.derived.graph, &mut rng);
        let inputs = instance::inputs(&compiled.interface, &sizes, &mut rng);
        let outputs = compiled.run(&inputs, &weights)?;
        let mut res = Certificate { checks: Vec::new() };
        res.faithful(&compiled, &sizes, &inputs, &weights, &outputs, dtype)?;
        res.not_trivial(&compiled, &sizes, &weights, &outputs, &mut rng)?;
        Ok(res)
    }

    fn push(&mut self, claim: String, found: f64, bound: Bound) {
        self.checks.push(Check { claim, found, bound });
    }

    /// The library computes what the program means; and so does the program after rewriting.
    fn faithful(
        &mut self,
        compiled: &Compiled,
        sizes: &Sizes,
        inputs: &Tensors,
        weights: &Tensors,
        outputs: &Tensors,
        dtype: Dtype,
    ) -> Result<(), Failure> {
        let graph = &compiled.algebra.derived.graph;
        let meaning = reference::evaluate(graph, &compiled.interface, sizes, inputs, weights)?;
        let tolerance = tolerance(compiled, dtype);
        for (name, expected) in &meaning {
            let error = distance(&outputs[name].reals(), &expected.reals());
            self.push(format!("{dtype} `{name}` compiled = as derived"), error, Bound::AtMost(tolerance));
        }
        Ok(())
    }

    /// Other inputs give other outputs, and the outputs are not zero.
    fn not_trivial(
        &mut self,
        compiled: &Compiled,
        sizes: &Sizes,
        weights: &Tensors,
        outputs: &Tensors,
        rng: &mut Rng,
    ) -> Result<(), Failure> {
        let others = compiled.run(&instance::inputs(&compiled.interface, sizes, rng), weights)?;
        for (name, output) in outputs {
            let (x, y) = (output.reals(), others[name].reals());
            self.push(format!("`{name}` is not zero"), norm(&x), Bound::AtLeast(1e-6));
            self.push(format!("`{name}` depends on the input"), distance(&x, &y), Bound::AtLeast(1e-6));
        }
        Ok(())
    }
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
    assert_eq!(x.len(), y.len(), "tensors of one shape");
    let scale = norm(y).max(norm(x)).max(f64::MIN_POSITIVE);
    let differences = x.iter().zip(y).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |worst: f64, d| if d.is_nan() || worst.is_nan() { f64::NAN } else { worst.max(d) }) / scale
}

fn norm(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |m, v| f64::max(m, v.abs()))
}
