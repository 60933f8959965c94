//! The certificate of the gradients of a model: each against central differences of its number; of an energy of positions,
//! no net force and no net torque.
//!
//! In: a checked program. Out: what was found for each `grad(e, x)`, cut from its model: `x` is an argument, and so is every gradient that does
//! not depend on it, so that a step of an integrator is checked alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::arena::{Arena, Id};
use crate::base::diagnostic::Diagnostic;
use crate::derive::derivation::derive;
use crate::derive::instance::{Filling, arguments, small_sizes};
use crate::derive::place::CELL;
use crate::math::{Rng, slope_near};
use crate::sema::hir::{Argument, Base, BlockKind, Model, Op, Program, Type, Value};
use crate::tensor::eval::{Arguments, Array, eval};
use crate::tensor::graph::Graph;
use crate::tensor::pass::dce::dce;

/// What was found about one gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientCertificate {
    /// `grad 2, by position`
    pub name: String,
    /// The largest relative difference from central differences along random directions.
    pub difference: f64,
    /// `|Σ g| / Σ |g|` over the points of a sample, where translations of the positions change nothing.
    pub force: Option<f64>,
    /// `|Σ r ∧ g| / Σ |r ∧ g|`, where rotations of the positions change nothing.
    pub torque: Option<f64>,
}

/// Gradients agree with central differences up to this, relative.
pub const DIFFERENCE: f64 = 1e-6;
/// Net forces and torques are zero up to this, relative.
pub const NET: f64 = 1e-10;

/// How many directions are tried.
const DIRECTIONS: usize = 3;
/// Points of an instance, a sample: half as many.
const LEAST: usize = 5;

/// One gradient as a model of its own, with results `e` and `g`.
struct Specimen {
    model: Model,
    /// The argument by which it is taken.
    by: usize,
}

/// Certificates of all gradients of a model. Fails with what could not be derived.
pub fn certify_gradients(
    program: &Program,
    model: &Model,
    seed: u64,
) -> Result<Vec<GradientCertificate>, Vec<Diagnostic>> {
    let gradients = model.values.iter().filter(|(_, v)| v.op == Op::Grad);
    let one = |(k, (id, value)): (usize, (Id<Value>, &Value))| {
        let specimen = specimen(model, id);
        let derived = derive(program, &specimen.model)?;
        let by = &model.values[value.args[1]].ty.fibre;
        let name = format!("grad {}, by {}", k + 1, by.describe());
        Ok(examine(program, &specimen, &derived.graph, name, seed))
    };
    gradients.enumerate().map(one).collect()
}

fn specimen(model: &Model, gradient: Id<Value>) -> Specimen {
    let (e, x) = (model.values[gradient].args[0], model.values[gradient].args[1]);
    let depends = dependents(model, x);
    let held = &model.values[gradient].args[2..];
    let is_cut =
        |id: Id<Value>| id == x || held.contains(&id) || (model.values[id].op == Op::Grad && !depends.contains(&id));
    let mut needed: BTreeSet<Id<Value>> = BTreeSet::new();
    let mut todo = vec![e];
    while let Some(id) = todo.pop() {
        if needed.insert(id) && !is_cut(id) {
            todo.extend(&model.values[id].args);
        }
    }
    let (mut args, mut values) = (Vec::new(), Arena::new());
    let mut places: BTreeMap<Id<Value>, Id<Value>> = BTreeMap::new();
    let mut by = 0;
    for id in needed {
        let old = &model.values[id];
        let new = match old.op {
            Op::Argument(_) => argument(&mut args, old),
            _ if is_cut(id) => argument(&mut args, old),
            _ => Value { args: old.args.iter().map(|a| places[a]).collect(), ..old.clone() },
        };
        if id == x {
            by = args.len() - 1;
        }
        places.insert(id, values.push(new));
    }
    let own = |id: &Id<Value>| places.get(id).copied();
    let g =
        Value { args: model.values[gradient].args.iter().filter_map(own).collect(), ..model.values[gradient].clone() };
    let g = values.push(g);
    let results = vec![("e".to_string(), places[&e]), ("g".to_string(), g)];
    Specimen { model: Model { name: model.name.clone(), args, values, results }, by }
}

fn argument(args: &mut Vec<Argument>, old: &Value) -> Value {
    args.push(Argument { name: format!("x{}", args.len()), ty: old.ty.clone(), span: old.span });
    Value { op: Op::Argument(args.len() - 1), args: vec![], ..old.clone() }
}

/// The values that were computed from `x`, and `x`.
fn dependents(model: &Model, x: Id<Value>) -> BTreeSet<Id<Value>> {
    let mut res = BTreeSet::from([x]);
    for (id, value) in model.values.iter() {
        if value.args.iter().any(|a| res.contains(a)) {
            res.insert(id);
        }
    }
    res
}

fn examine(program: &Program, specimen: &Specimen, graph: &Graph, name: String, seed: u64) -> GradientCertificate {
    let mut rng = Rng::new(seed);
    let args = arguments(graph, small_sizes(graph, LEAST), Filling::Generic, &mut rng);
    let by = &specimen.model.args[specimen.by];
    let failed = GradientCertificate { name, difference: f64::NAN, force: None, torque: None };
    let Ok(found) = eval(graph, &args) else { return failed };
    let gradient = &found["g"];
    let mut energy = graph.clone();
    energy.outputs.retain(|o| o.name == "e");
    let energy = dce(&energy);
    let mut worst = 0.0;
    for _ in 0..DIRECTIONS {
        let direction: Vec<f64> = gradient.data.iter().map(|_| rng.normal()).collect();
        let slope: f64 = gradient.data.iter().zip(&direction).map(|(g, d)| g * d).sum();
        let expected = difference(&energy, &args, &by.name, &direction, slope);
        let error = (slope - expected).abs() / slope.abs().max(expected.abs()).max(f64::MIN_POSITIVE);
        worst = if error.is_nan() { error } else { f64::max(worst, error) };
    }
    let (force, torque) = net(program, specimen, &args, gradient);
    GradientCertificate { difference: worst, force, torque, ..failed }
}

/// The central difference of the sum of all numbers along a direction that is nearest to a claimed slope; NaN where there are no values.
fn difference(energy: &Graph, args: &Arguments, by: &str, direction: &[f64], claimed: f64) -> f64 {
    let found = slope_near(claimed, |t| {
        let mut moved = args.clone();
        if let Some(x) = moved.inputs.get_mut(by) {
            x.data.iter_mut().zip(direction).for_each(|(x, d)| *x += t * d);
        }
        eval(energy, &moved).map(|y| y["e"].data.iter().sum())
    });
    found.unwrap_or(f64::NAN)
}

/// Net force and torque, the largest of all samples, where they must vanish: nothing else than the positions moves with the group.
fn net(program: &Program, specimen: &Specimen, args: &Arguments, gradient: &Array) -> (Option<f64>, Option<f64>) {
    let by = &specimen.model.args[specimen.by];
    let others = || specimen.model.args.iter().enumerate().filter(|(k, _)| *k != specimen.by).map(|(_, a)| &a.ty);
    let (Some(dim), Base::Points(id)) = (position(program, &by.ty), by.ty.base) else { return (None, None) };
    let decl = &program.domains[id];
    let symmetry = decl.domain.symmetry();
    let moves = symmetry.starts_with("E(") || symmetry.starts_with("SE(");
    if !moves || others().any(|ty| ty.fibre.has_position()) {
        return (None, None);
    }
    let Some(index) = args.inputs.get(&format!("{}.index", decl.name)) else { return (None, None) };
    let positions = &args.inputs[&by.name].data;
    let rows = || index.data.iter().zip(gradient.data.chunks_exact(dim)).zip(positions.chunks_exact(dim));
    let force = share(rows().map(|((s, g), _)| (*s as usize, g.to_vec())));
    // a cell turns with the positions
    let cell = args.inputs.contains_key(&format!("{}.{CELL}", decl.name));
    let turns = !cell && others().all(|ty| ty.fibre.is_invariant());
    let torque = turns.then(|| share(rows().map(|((s, g), r)| (*s as usize, wedge(r, g)))));
    (Some(force), torque)
}

/// d, where the type is one position of R^d.
fn position(program: &Program, ty: &Type) -> Option<usize> {
    let (Base::Points(id), [block]) = (ty.base, &ty.fibre.blocks[..]) else { return None };
    let one = block.kind == BlockKind::Position && block.count == 1;
    if one { program.domains[id].domain.ambient() } else { None }
}

/// `r ∧ g`: a component for each pair of axes.
fn wedge(r: &[f64], g: &[f64]) -> Vec<f64> {
    let pairs = (0..r.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
    pairs.map(|(a, b)| r[a] * g[b] - r[b] * g[a]).collect()
}

/// `|Σ v| / Σ |v|` of the vectors of each sample, the largest of all samples.
fn share(vectors: impl Iterator<Item = (usize, Vec<f64>)>) -> f64 {
    let mut samples: BTreeMap<usize, (Vec<f64>, f64)> = BTreeMap::new();
    for (sample, v) in vectors {
        let (sum, size) = samples.entry(sample).or_insert_with(|| (vec![0.0; v.len()], 0.0));
        sum.iter_mut().zip(&v).for_each(|(s, x)| *s += x);
        *size += length(&v);
    }
    let one = |(sum, size): &(Vec<f64>, f64)| length(sum) / size.max(f64::MIN_POSITIVE);
    samples.values().map(one).fold(0.0, |m, x| if x.is_nan() { x } else { f64::max(m, x) })
}

fn length(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}
