//! What is checked of the derivatives in a library, in f64 on random instances: each against its meaning, against central differences of the
//! library's own values, against the other mode; second derivatives are symmetric.

use crate::base::dtype::Dtype;
use crate::codegen::abi::Interface;
use crate::derive::instance::{self, Filling};
use crate::driver::certificate::{Bound, Certificate, LEAST, SEED, distance};
use crate::driver::compiled::{Compiled, Derivative};
use crate::driver::failure::Failure;
use crate::driver::reference;
use crate::driver::session::Session;
use crate::driver::tensors::Tensors;
use crate::math::Rng;
use crate::sema::hir;
use crate::tensor::differential::forward::jvp;
use crate::tensor::eval::Arguments;
use crate::tensor::graph::{Graph, Input, InputKind, Val};
use crate::tensor::op::Op;

/// The library computes what a derivative means, and forward and reverse agree, up to this, relative.
const EXACT: f64 = 1e-10;
/// Derivatives agree with central differences up to this, relative.
const DIFFERENCE: f64 = 1e-6;
/// Step of the differences, whose error is about its square.
const STEP: f64 = 1e-5;

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
        let mut of = (&compiled.algebra.derived.graph, &compiled.interface);
        for (k, derivative) in compiled.derivatives.iter().enumerate() {
            let graph = &derivative.graph;
            let sizes = instance::small_sizes(graph, LEAST);
            let arguments = instance::arguments(graph, sizes, Filling::Generic, &mut rng);
            let point = Point { compiled: &compiled, of, derivative, arguments };
            point.check(k + 1, &mut res, &mut rng)?;
            of = (graph, &derivative.interface);
        }
        Ok(res)
    }
}

/// A derivative at a point.
struct Point<'a> {
    compiled: &'a Compiled,
    /// What it is the derivative of.
    of: (&'a Graph, &'a Interface),
    derivative: &'a Derivative,
    /// Cotangents included.
    arguments: Arguments,
}

/// A number for each component of each variable, by its name.
type Direction = Vec<(String, Vec<f64>)>;

impl Point<'_> {
    fn check(&self, order: usize, res: &mut Certificate, rng: &mut Rng) -> Result<(), Failure> {
        let found = self.library(&self.derivative.interface, &self.derivative.graph, &self.arguments)?;
        let meaning = reference::evaluate(&self.derivative.graph, &self.arguments)?;
        let error = meaning.iter().map(|(name, y)| distance(&found[name].reals(), &y.data));
        res.push(format!("derivative {order}: compiled = as derived"), error.fold(0.0, worse), Bound::AtMost(EXACT));
        let u = self.direction(rng);
        let slope = along(&found, &u);
        let expected = self.difference(&u)?;
        res.push(
            format!("derivative {order} = central differences"),
            relative(slope, expected),
            Bound::AtMost(DIFFERENCE),
        );
        let adjoint = self.forward(&u)?;
        res.push(format!("derivative {order}: reverse = forward"), relative(slope, adjoint), Bound::AtMost(EXACT));
        if order == 2 {
            let v = self.direction(rng);
            let (uv, vu) = (self.second(&u, &v)?, self.second(&v, &u)?);
            res.push("second derivatives are symmetric".into(), relative(uv, vu), Bound::AtMost(EXACT));
        }
        Ok(())
    }

    fn library(&self, interface: &Interface, graph: &Graph, arguments: &Arguments) -> Result<Tensors, Failure> {
        let (inputs, weights) = (reference::inputs(graph, arguments), reference::weights(arguments));
        self.compiled.run_model(interface, &inputs, &weights)
    }

    /// The variables of what is derived.
    fn variables(&self) -> Vec<String> {
        let graph = self.of.0;
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

    /// The central difference of `Σ y · grad.y` along a direction, by calls of the library.
    fn difference(&self, u: &Direction) -> Result<f64, Failure> {
        let at = |t: f64| -> Result<f64, Failure> {
            let mut moved = self.arguments.clone();
            for (name, direction) in u {
                let array = moved.inputs.get_mut(name).or_else(|| moved.weights.get_mut(name));
                let data = array.map(|a| a.data.iter_mut()).into_iter().flatten();
                data.zip(direction).for_each(|(x, d)| *x += t * d);
            }
            let outputs = self.library(self.of.1, self.of.0, &moved)?;
            let weighted = |(name, y): (&String, &crate::driver::tensors::Tensor)| {
                dot(&y.reals(), &self.arguments.inputs[&format!("grad.{name}")].data)
            };
            Ok(outputs.iter().map(weighted).sum())
        };
        Ok((at(STEP)? - at(-STEP)?) / (2.0 * STEP))
    }

    /// `Σ ẏ · grad.y` with the tangents of forward mode.
    fn forward(&self, u: &Direction) -> Result<f64, Failure> {
        let mut graph = self.of.0.clone();
        let mut arguments = self.arguments.clone();
        let mut pairs = Vec::new();
        for (name, direction) in u {
            let (value, array) = variable(&mut graph, &self.arguments, name);
            let dims = graph.ty(value.id).dims.clone();
            let input = Input { name: format!("tangent.{name}"), dims, kind: InputKind::Real };
            arguments
                .inputs
                .insert(input.name.clone(), crate::tensor::eval::Array { dims: array, data: direction.clone() });
            let tangent = graph.input(input);
            let tangent = Val { id: tangent.id, axes: value.axes.clone() };
            pairs.push((value, tangent));
        }
        let outputs = std::mem::take(&mut graph.outputs);
        let mut total = Vec::new();
        for output in &outputs {
            let value = graph.fresh(output.id);
            let Some(tangent) = jvp(&mut graph, std::slice::from_ref(&value), &pairs).remove(0) else { continue };
            let dims = output.order.iter().map(|k| graph.ty(output.id).dims[*k]).collect();
            let cotangent = Input { name: format!("grad.{}", output.name), dims, kind: InputKind::Real };
            let cotangent = graph.input(cotangent);
            let axes = output.order.iter().map(|k| value.axes[*k]).collect();
            let cotangent = Val { id: cotangent.id, axes };
            total.push(graph.contract(&[&tangent, &cotangent], &[]));
        }
        let zero = graph.scalar(0.0);
        let sum = graph.sum(&[&zero].into_iter().chain(&total).collect::<Vec<_>>());
        graph.output("sum", &sum, &[]);
        Ok(reference::evaluate(&graph, &arguments)?["sum"].data[0])
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
        let found = self.library(&self.derivative.interface, &self.derivative.graph, &arguments)?;
        let own: Direction = v.iter().filter(|(n, _)| !n.starts_with("grad.")).cloned().collect();
        Ok(along(&found, &own))
    }
}

/// A variable of a graph, and the shape of its array.
fn variable(graph: &mut Graph, arguments: &Arguments, name: &str) -> (Val, Vec<usize>) {
    let input = graph.inputs.iter().find(|(_, i)| i.name == name).map(|(id, _)| Op::Input(id));
    let weight = || graph.weights.iter().find(|(_, w)| w.name == name).map(|(id, _)| Op::Weight(id));
    let op = input.or_else(weight).expect("a variable of the graph");
    let array = arguments.inputs.get(name).unwrap_or_else(|| &arguments.weights[name]);
    (graph.leaf(op), array.dims.clone())
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

/// The greater of two errors; one that is not a number stays.
fn worse(x: f64, y: f64) -> f64 {
    if x.is_nan() || y.is_nan() { f64::NAN } else { x.max(y) }
}
