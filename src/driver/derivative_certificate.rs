//! What is checked of the derivatives in a library, in f64 on random instances: each against its meaning, against central differences of the
//! library's own values; reverse and forward mode are adjoint; second derivatives are symmetric; the derivative in two passes is that in one.

use crate::base::dtype::Dtype;
use crate::codegen::abi::Interface;
use crate::derive::instance::{self, Filling};
use crate::driver::certificate::{Bound, Certificate, LEAST, SEED, distance_from, norm, worst_of};
use crate::driver::compiled::{Compiled, Derivative, Mode, Pass, Passes};
use crate::driver::failure::Failure;
use crate::driver::reference;
use crate::driver::session::Session;
use crate::driver::tensors::Tensors;
use crate::math::{Rng, slope_near};
use crate::sema::hir;
use crate::tensor::eval::{Arguments, Array};
use crate::tensor::graph::{Graph, InputKind};
use crate::tensor::pass::derivatives::tangent_prefix;
use crate::tensor::pass::two_passes::is_kept;

/// The library computes what a derivative means, and forward and reverse agree, up to this, relative.
const EXACT: f64 = 1e-10;
/// Derivatives agree with central differences up to this, relative.
const DIFFERENCE: f64 = 1e-6;
/// A derivative is compared relative to its greatest number, or to this part of the greatest of all: below, it is rounding of what cancels.
const FAINT: f64 = 1e-4;

impl Certificate {
    /// Checks the derivatives up to `order` that the library of a model has.
    pub fn derivatives(
        session: &Session,
        program: &hir::Program,
        model: &hir::Model,
        order: usize,
    ) -> Result<Certificate, Failure> {
        let compiled = Compiled::with_derivatives(session, program, model, Dtype::F64, order)?;
        let mut rng = Rng::new(SEED);
        let mut res = Certificate::default();
        for of in std::iter::once(None).chain((0..compiled.derivatives.len()).map(Some)) {
            let by = |mode| compiled.derivatives.iter().find(|d| d.of == of && d.mode == mode);
            let (Some(reverse), Some(forward)) = (by(Mode::Reverse), by(Mode::Forward)) else { continue };
            let sizes = instance::small_sizes(&reverse.graph, LEAST);
            let arguments = instance::arguments(&reverse.graph, sizes, Filling::Generic, &mut rng);
            let point = Point { compiled: &compiled, of, reverse, forward, arguments };
            point.check(&mut res, &mut rng)?;
            if let (None, Some(passes)) = (of, &compiled.passes) {
                point.in_two_passes(passes, &mut res)?;
            }
        }
        Ok(res)
    }
}

/// The derivatives of a program at a point.
struct Point<'a> {
    compiled: &'a Compiled,
    /// The program: a derivative of the library, or the model.
    of: Option<usize>,
    reverse: &'a Derivative,
    forward: &'a Derivative,
    /// Cotangents included.
    arguments: Arguments,
}

/// A number for each component of each variable, by its name.
type Direction = Vec<(String, Vec<f64>)>;

impl Point<'_> {
    fn check(&self, res: &mut Certificate, rng: &mut Rng) -> Result<(), Failure> {
        let title = self.title();
        let u = self.direction(rng);
        let gradients = self.compiled_as_derived(&format!("{title}, reverse"), self.reverse, &self.arguments, res)?;
        let moved = self.with_tangents(&u);
        let tangents = self.compiled_as_derived(&format!("{title}, forward"), self.forward, &moved, res)?;
        let slope = along(&gradients, &u);
        let expected = self.difference(&u, slope)?;
        res.push(format!("{title} = central differences"), relative(slope, expected), Bound::AtMost(DIFFERENCE));
        let prefix = tangent_prefix(self.derived().0);
        let cotangent = |name: &str| &self.arguments.inputs[&name.replacen(&prefix, "grad.", 1)].data;
        let adjoint = tangents.iter().map(|(name, tangent)| dot(&tangent.reals(), cotangent(name))).sum();
        res.push(format!("{title}: reverse = forward"), relative(slope, adjoint), Bound::AtMost(EXACT));
        let of = self.of.map(|k| &self.compiled.derivatives[k]);
        if of.is_some_and(|d| d.of.is_none() && d.mode == Mode::Reverse) {
            let v = self.direction(rng);
            let (uv, vu) = (self.second(&u, &v)?, self.second(&v, &u)?);
            res.push("second derivatives are symmetric".into(), relative(uv, vu), Bound::AtMost(EXACT));
        }
        Ok(())
    }

    /// A forward pass gives what the model means, and the backward pass, from what it kept, what the derivative by reverse mode does.
    fn in_two_passes(&self, passes: &Passes, res: &mut Certificate) -> Result<(), Failure> {
        let weights = reference::weights(&self.arguments);
        let run = |pass: &Pass, inputs: &Tensors| self.compiled.run_model(&pass.interface, inputs, &weights);
        let mut found = run(&passes.keep, &reference::inputs(self.derived().0, &self.arguments))?;
        let title = format!("{}, in two passes", self.title());
        as_derived(&format!("{title}, forward"), self.derived().0, &self.arguments, &found, res)?;
        let mut inputs = reference::inputs(&self.reverse.graph, &self.arguments);
        let kept = passes.pullback.graph.inputs.iter().map(|(_, input)| input).filter(|input| is_kept(input));
        inputs.extend(kept.filter_map(|input| found.remove_entry(&input.name)));
        as_derived(
            &format!("{title}, reverse"),
            &self.reverse.graph,
            &self.arguments,
            &run(&passes.pullback, &inputs)?,
            res,
        )
    }

    /// `derivative 2 of vjp`
    fn title(&self) -> String {
        let mut chain = Vec::new();
        let mut of = self.of;
        while let Some(k) = of {
            let derivative = &self.compiled.derivatives[k];
            chain.push(if derivative.mode == Mode::Reverse { "vjp" } else { "jvp" });
            of = derivative.of;
        }
        let order = chain.len() + 1;
        if chain.is_empty() {
            format!("derivative {order}")
        } else {
            format!("derivative {order} of {}", chain.join(" of "))
        }
    }

    /// What is derived, and its interface.
    fn derived(&self) -> (&Graph, &Interface) {
        let model = (&self.compiled.algebra.derived.graph, &self.compiled.interface);
        self.of.map_or(model, |k| self.compiled.derivatives[k].derived())
    }

    /// The library computes what a derivative means; the numbers.
    fn compiled_as_derived(
        &self,
        title: &str,
        derivative: &Derivative,
        arguments: &Arguments,
        res: &mut Certificate,
    ) -> Result<Tensors, Failure> {
        let (graph, interface) = derivative.derived();
        let found = self.library(interface, graph, arguments)?;
        as_derived(title, graph, arguments, &found, res)?;
        Ok(found)
    }

    fn library(&self, interface: &Interface, graph: &Graph, arguments: &Arguments) -> Result<Tensors, Failure> {
        let (inputs, weights) = (reference::inputs(graph, arguments), reference::weights(arguments));
        self.compiled.run_model(interface, &inputs, &weights)
    }

    /// The variables of what is derived.
    fn variables(&self) -> Vec<String> {
        let (graph, _) = self.derived();
        let inputs = graph.inputs.iter().filter(|(_, i)| i.kind == InputKind::Real).map(|(_, i)| i.name.clone());
        inputs.chain(graph.weights.iter().map(|(_, w)| w.name.clone())).collect()
    }

    fn direction(&self, rng: &mut Rng) -> Direction {
        let of = |name: String| {
            let array = self.arguments.inputs.get(&name).unwrap_or_else(|| &self.arguments.weights[&name]);
            let numbers = array.data.iter().map(|_| rng.normal()).collect();
            (name, numbers)
        };
        self.variables().into_iter().map(of).collect()
    }

    /// The central difference of `Σ y · grad.y` along a direction that is nearest to a claimed slope, by calls of the library.
    fn difference(&self, u: &Direction, claimed: f64) -> Result<f64, Failure> {
        slope_near(claimed, |t| {
            let mut moved = self.arguments.clone();
            for (name, direction) in u {
                let array = moved.inputs.get_mut(name).or_else(|| moved.weights.get_mut(name));
                let data = array.map(|a| a.data.iter_mut()).into_iter().flatten();
                data.zip(direction).for_each(|(x, d)| *x += t * d);
            }
            let (graph, interface) = self.derived();
            let outputs = self.library(interface, graph, &moved)?;
            let weighted = |(name, y): (&String, &crate::driver::tensors::Tensor)| {
                dot(&y.reals(), &self.arguments.inputs[&format!("grad.{name}")].data)
            };
            Ok(outputs.iter().map(weighted).sum())
        })
    }

    /// The arguments of forward mode along a direction.
    fn with_tangents(&self, u: &Direction) -> Arguments {
        let prefix = tangent_prefix(self.derived().0);
        let mut arguments = self.arguments.clone();
        for (name, direction) in u {
            let of = self.arguments.inputs.get(name).unwrap_or_else(|| &self.arguments.weights[name]);
            let tangent = Array { dims: of.dims.clone(), data: direction.clone() };
            arguments.inputs.insert(format!("{prefix}{name}"), tangent);
        }
        arguments
    }

    /// `v · H u` of the second derivative: `u` as the cotangents of the gradients, of which the model's own cotangents stay as they are.
    fn second(&self, u: &Direction, v: &Direction) -> Result<f64, Failure> {
        let mut arguments = self.arguments.clone();
        for (name, array) in &mut arguments.inputs {
            if let Some(of) = name.strip_prefix("grad.grad.") {
                let given = u.iter().find(|(n, _)| n == of);
                match given {
                    Some((_, numbers)) => array.data.clone_from(numbers),
                    None => array.data.fill(0.0),
                }
            }
        }
        let found = self.library(&self.reverse.interface, &self.reverse.graph, &arguments)?;
        let own: Direction = v.iter().filter(|(n, _)| !n.starts_with("grad.")).cloned().collect();
        Ok(along(&found, &own))
    }
}

/// What was found is what a program means.
fn as_derived(
    title: &str,
    graph: &Graph,
    arguments: &Arguments,
    found: &Tensors,
    res: &mut Certificate,
) -> Result<(), Failure> {
    let meaning = reference::evaluate(graph, arguments)?;
    let greatest = meaning.values().map(|y| norm(&y.data)).fold(0.0, worst_of);
    let error = meaning.iter().map(|(name, y)| distance_from(&found[name].reals(), &y.data, FAINT * greatest));
    res.push(format!("{title}: compiled = as derived"), error.fold(0.0, worst_of), Bound::AtMost(EXACT));
    Ok(())
}

/// `Σ grad.x · u_x`
fn along(gradients: &Tensors, u: &Direction) -> f64 {
    u.iter().map(|(name, direction)| dot(&gradients[&format!("grad.{name}")].reals(), direction)).sum()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn relative(a: f64, b: f64) -> f64 {
    (a - b).abs() / a.abs().max(b.abs()).max(f64::MIN_POSITIVE)
}
