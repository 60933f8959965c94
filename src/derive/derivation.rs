//! The walk over a model: each value becomes a signal, each mistake a diagnostic.
//!
//! In: a checked model. Out: its tensor program and blueprint. Every operation of the checked program is either derived or refused by name.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::arena::Id;
use crate::base::diagnostic::Diagnostic;
use crate::base::size::Size;
use crate::derive::blueprint::{Blueprint, Row};
use crate::derive::gradient;
use crate::derive::place::{Place, Places};
use crate::derive::signal::{self, Kind, Part, Shape, Signal};
use crate::domain::Batching;
use crate::sema::hir::{Base, Model, Op, Program, Type, Value};
use crate::tensor::graph::{Axis, Function, Graph, Init, Input, InputKind, Relation, Val, Weight};

/// A derived model.
#[derive(Debug)]
pub struct Derived {
    pub graph: Graph,
    pub blueprint: Blueprint,
}

/// Derives the layers of a model. Fails with all that could not be derived, each named.
pub fn derive(program: &Program, model: &Model) -> Result<Derived, Vec<Diagnostic>> {
    let mut graph = Graph::default();
    graph.sizes = program.sizes.clone();
    let places = Places::new(program, model, &mut graph).map_err(|d| vec![d])?;
    let mut derivation = Derivation {
        program,
        model,
        graph,
        places,
        arguments: Vec::new(),
        weights: BTreeMap::new(),
        signals: Vec::new(),
        rows: Vec::new(),
        variables: gradient::variables(model),
    };
    derivation.declare_arguments();
    let (mut errors, mut numbers) = (Vec::new(), 0.0);
    for (id, value) in model.values.iter() {
        let (nodes, weights) = (derivation.graph.len(), derivation.graph.weights.len());
        let signal = derivation.value(value).unwrap_or_else(|error| {
            let placed = if error.labels.is_empty() { error.at(value.span, "here") } else { error };
            errors.push(placed);
            derivation.placeholder(&value.ty)
        });
        let signal = if derivation.variables.contains(&id) { derivation.variable(&signal) } else { signal };
        derivation.signals.push(signal);
        let added = derivation.numbers_of_weights(weights);
        if numbers <= MAX_NUMBERS && numbers + added > MAX_NUMBERS {
            errors.push(too_many_weights(value, added));
        }
        numbers += added;
        if derivation.graph.weights.len() > weights && !matches!(value.op, Op::Linear(_)) {
            let row = Row::of_operation(&derivation, value, nodes, weights);
            derivation.rows.push(row);
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    derivation.outputs();
    let blueprint = Blueprint { model: model.name.clone(), rows: derivation.rows };
    Ok(Derived { graph: derivation.graph, blueprint })
}

/// How the samples of a model that derives share tensors.
pub(super) fn batching_of(program: &Program, model: &Model) -> Batching {
    crate::derive::place::batching(program, model).unwrap_or(Batching::Leading)
}

/// The state of the walk.
#[derive(Debug)]
pub(super) struct Derivation<'a> {
    pub(super) program: &'a Program,
    pub(super) model: &'a Model,
    pub(super) graph: Graph,
    pub(super) places: Places<'a>,
    arguments: Vec<Signal>,
    /// The weights by name.
    weights: BTreeMap<String, Val>,
    /// The values so far, in the order of the model's arena.
    pub(super) signals: Vec<Signal>,
    pub(super) rows: Vec<Row>,
    /// The values by which some gradient is taken.
    pub(super) variables: BTreeSet<Id<Value>>,
}

/// A model with more numbers in its weights is refused: as f32 they are 8 GiB.
const MAX_NUMBERS: f64 = (1u64 << 31) as f64;

fn too_many_weights(value: &Value, added: f64) -> Diagnostic {
    Diagnostic::error("E0403", "the model has more than 2^31 weights")
        .at(value.span, format!("{added:.1e} of them here"))
        .why("they would not fit 8 GiB of memory as 32-bit numbers")
        .hint("fewer copies, a smaller window, or `depthwise`, which keeps every channel to itself")
}

/// The error that names what is not built.
pub(super) fn not_derived(what: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::error("E0900", format!("not derived yet: {what}"))
}

impl Derivation<'_> {
    /// The axes of a base.
    pub(super) fn place(&mut self, base: Base) -> Place {
        self.places.of(&mut self.graph, base)
    }

    /// The parts of the fibre of a type.
    pub(super) fn shapes(&self, ty: &Type) -> Vec<Shape> {
        let dim = match ty.base {
            Base::Points(id) | Base::Edges(id) => self.places.domain(id).ambient().unwrap_or(0),
            Base::Constant | Base::Sample => 0,
        };
        signal::shapes(&ty.fibre, dim)
    }

    /// Declares the inputs, in the order of the arguments.
    fn declare_arguments(&mut self) {
        for argument in &self.model.args {
            let ty = &argument.ty;
            let place = self.place(ty.base);
            let (name, fibre) = (argument.name.clone(), self.graph.axis());
            let whole = match signal::is_index(ty) {
                Some(classes) => {
                    let kind = InputKind::Index { range: Size::fixed(classes) };
                    let id = self.graph.inputs.push(Input { name, dims: place.sizes.clone(), kind });
                    self.graph.relation(Relation {
                        from: place.sizes,
                        to: Size::fixed(classes),
                        map: Function::Table(id),
                    })
                }
                None => {
                    let total = Size::fixed(signal::fibre_dim(&self.shapes(ty)));
                    let dims = place.sizes.into_iter().chain([total]).collect();
                    self.graph.input(Input { name, dims, kind: InputKind::Real })
                }
            };
            let axes = place.axes.into_iter().chain([fibre]);
            let whole = whole.rename(&whole.axes.iter().copied().zip(axes).collect::<Vec<_>>());
            let shapes = self.shapes(ty);
            let parts = signal::split(&mut self.graph, &whole, fibre, &shapes);
            self.arguments.push(Signal { base: ty.base, parts });
        }
    }

    fn outputs(&mut self) {
        for (name, id) in &self.model.results {
            let signal = self.signals[id.index()].clone();
            let place = self.place(signal.base);
            let fibre = self.graph.axis();
            let parts: Vec<Part> = signal.parts.iter().map(|p| self.complete(p, &place)).collect();
            let shapes = self.shapes(&self.model.values[*id].ty);
            let whole = signal::join(&mut self.graph, &parts, &shapes, &place.axes, fibre);
            let order: Vec<Axis> = place.axes.iter().copied().chain([fibre]).collect();
            self.graph.output(name.clone(), &whole, &order);
        }
    }

    /// The part with all axes of its place, its copy axis and its component axis, as numbers.
    pub(super) fn complete(&mut self, part: &Part, place: &Place) -> Part {
        let own = [(part.copy, part.copies)].into_iter().chain(part.component.map(|a| (a, part.kind.dim())));
        let own = own.map(|(a, n)| (a, Size::fixed(n)));
        let wanted: Vec<(Axis, Size)> =
            place.axes.iter().copied().zip(place.sizes.iter().copied()).chain(own).collect();
        let missing: Vec<Val> =
            wanted.iter().filter(|(a, _)| !part.val.has(*a)).map(|(a, n)| self.graph.ones(*a, *n)).collect();
        if missing.is_empty() && !self.graph.ty(part.val.id).relation {
            return part.clone();
        }
        let axes: Vec<Axis> = wanted.iter().map(|(a, _)| *a).collect();
        let operands: Vec<&Val> = [&part.val].into_iter().chain(&missing).collect();
        part.with(self.graph.contract(&operands, &axes))
    }

    /// The part as numbers: a one-hot relation is written out.
    pub(super) fn numbers(&mut self, part: &Part) -> Part {
        if !self.graph.ty(part.val.id).relation {
            return part.clone();
        }
        part.with(self.graph.contract(&[&part.val], &part.val.axes))
    }

    /// The operand `k` of a value, as numbers.
    pub(super) fn operand(&mut self, value: &Value, k: usize) -> Signal {
        let signal = self.raw_operand(value, k);
        let parts = signal.parts.iter().map(|p| self.numbers(p)).collect();
        Signal { base: signal.base, parts }
    }

    /// The operand `k` of a value; class indices stay relations.
    pub(super) fn raw_operand(&self, value: &Value, k: usize) -> Signal {
        self.signals[value.args[k].index()].clone()
    }

    /// The same tensors seen as the blocks of `ty`. Fails when their shapes differ.
    pub(super) fn retyped(&self, parts: Vec<Part>, ty: &Type) -> Result<Signal, Diagnostic> {
        let shapes = self.shapes(ty);
        let fits = shapes.len() == parts.len()
            && shapes.iter().zip(&parts).all(|(s, p)| s.kind.dim() == p.kind.dim() && s.copies == p.copies);
        if !fits {
            let shape = |(kind, copies): (&Kind, usize)| format!("{copies} {kind}");
            let have: Vec<String> = parts.iter().map(|p| shape((&p.kind, p.copies))).collect();
            let want: Vec<String> = shapes.iter().map(|s| shape((&s.kind, s.copies))).collect();
            return Err(not_derived(format!("the blocks {} read as {}", have.join(" + "), want.join(" + "))));
        }
        let parts = shapes.into_iter().zip(parts).map(|(s, p)| Part { kind: s.kind, block: s.block, ..p }).collect();
        Ok(Signal { base: ty.base, parts })
    }

    /// Declares a weight, or reads it again where an instance is called twice.
    pub(super) fn weight(&mut self, name: String, dims: &[usize], init: Init) -> Val {
        if let Some(known) = self.weights.get(&name) {
            return self.graph.fresh(known.id);
        }
        let val = self.graph.weight(Weight { name: name.clone(), dims: dims.to_vec(), init });
        self.weights.insert(name, val.clone());
        val
    }

    /// How many numbers the weights from `first` on have.
    fn numbers_of_weights(&self, first: usize) -> f64 {
        let recent = self.graph.weights.iter().rev().take(self.graph.weights.len() - first);
        recent.map(|(_, w)| w.dims.iter().map(|n| *n as f64).product::<f64>()).sum()
    }

    /// A part of this shape that is the same everywhere.
    pub(super) fn bare_part(&mut self, shape: &Shape, val: Val) -> Part {
        let (copy, component) = (self.graph.axis(), (shape.kind.dim() > 1).then(|| self.graph.axis()));
        let part = Part { kind: shape.kind.clone(), copies: shape.copies, block: shape.block, val, copy, component };
        if part.copies == 1 && component.is_none() { part } else { self.complete(&part, &Place::default()) }
    }

    /// Zeros of a type, to go on after an error.
    fn placeholder(&mut self, ty: &Type) -> Signal {
        let zero = self.graph.scalar(0.0);
        let parts = self.shapes(ty).iter().map(|shape| self.bare_part(shape, zero.clone())).collect();
        Signal { base: ty.base, parts }
    }

    fn value(&mut self, value: &Value) -> Result<Signal, Diagnostic> {
        match &value.op {
            Op::Argument(k) => Ok(self.arguments[*k].clone()),
            Op::Number(x) => self.number(value, *x),
            Op::Learn { name, init } => self.learn(value, name, *init),
            Op::Linear(linear) => self.linear(value, linear),
            Op::Bilinear { name, depthwise } => self.bilinear(value, name, *depthwise),
            Op::Harmonics { from, to } => self.harmonics(value, *from, *to),
            Op::Bessel { count, cutoff } => self.bessel(value, *count, *cutoff),
            Op::Map(f) => self.pointwise(value, *f),
            Op::Gate { name } => self.gate(value, name),
            Op::NormAct { name, f } => self.norm_act(value, name, *f),
            Op::Norm { name } => self.norm(value, name),
            Op::Add => self.add(value, 1.0),
            Op::Sub => self.add(value, -1.0),
            Op::Mul => self.multiply(value),
            Op::Div => self.divide(value),
            Op::Neg => self.negate(value),
            Op::Power(k) => self.power(value, *k),
            Op::Dot => self.dot(value),
            Op::Length => self.length(value),
            Op::Concat => self.concat(value),
            Op::Pull(end) => self.pull(value, *end),
            Op::Spread(which) => self.spread(value, *which),
            Op::Broadcast => self.broadcast(value),
            Op::Push(how) => self.push(value, *how),
            Op::Softmax => self.softmax(value),
            Op::Attend => self.attend(value),
            Op::Degree => self.degree(value),
            Op::Grad => self.gradient(value),
            Op::Coarsen { how, factor } => self.coarsen(value, *how, *factor),
            Op::Refine { factor } => self.refine(value, *factor),
            Op::Lift => self.lift(value),
            Op::Restrict => self.restrict(value),
            Op::Pool { how, invariant } => self.pool(value, *how, *invariant),
        }
    }
}
