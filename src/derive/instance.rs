//! Random instances: sizes, signals, graphs and weights that a derived model can be called with.
//!
//! In: a derived graph and the sizes wanted. Out: arguments of the evaluator, the same for the same seed.

use std::collections::BTreeMap;

use crate::base::size::{Size, SizeVar};
use crate::derive::place::{CELL, SHIFTS};
use crate::math::Rng;
use crate::tensor::eval::{Arguments, Array};
use crate::tensor::graph::{Function, Graph, Init, Input, InputKind};
use crate::tensor::pass::derivatives::is_cotangent;
use crate::tensor::pass::two_passes::is_kept;

/// Of so many edges one lacks its reverse.
const ALONE: usize = 8;

/// How weights are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
    /// As initialised.
    Initial,
    /// Standard normal times the initial scale, biases too: nothing vanishes by chance.
    Generic,
}

/// Arguments with these sizes (by [`SizeVar`]), random numbers, random edges within samples sorted by receiver.
pub fn arguments(graph: &Graph, sizes: Vec<usize>, filling: Filling, rng: &mut Rng) -> Arguments {
    let mut args = Arguments { sizes, inputs: BTreeMap::new(), weights: BTreeMap::new() };
    for (_, input) in graph.inputs.iter() {
        if args.inputs.contains_key(&input.name) {
            continue;
        }
        match &input.kind {
            InputKind::Real => {
                let array = real(graph, &args, input, rng);
                args.inputs.insert(input.name.clone(), array);
            }
            InputKind::Index { range } => {
                let range = args.size(*range);
                let array = filled(&dims(graph, &args, input), || rng.below(range) as f64);
                args.inputs.insert(input.name.clone(), array);
            }
            InputKind::Table { range, .. } => tables(graph, input, *range, &mut args, rng),
        }
    }
    weights(graph, filling, &mut args, rng);
    args
}

/// Fills the weights.
pub fn weights(graph: &Graph, filling: Filling, args: &mut Arguments, rng: &mut Rng) {
    for (_, weight) in graph.weights.iter() {
        let array = match (weight.init, filling) {
            (Init::Normal(std), _) => normal(&weight.dims, std, rng),
            (Init::Zeros, Filling::Initial) => Array::zeros(weight.dims.clone()),
            (Init::Ones, Filling::Initial) => filled(&weight.dims, || 1.0),
            (Init::Zeros, Filling::Generic) => normal(&weight.dims, 0.3, rng),
            (Init::Ones, Filling::Generic) => filled(&weight.dims, || 1.0 + 0.3 * rng.normal()),
        };
        args.weights.insert(weight.name.clone(), array);
    }
}

/// Sizes for a small instance, such that all preconditions hold: two samples, axes of at least `least`, twice as many points in a disjoint
/// union, and three edges a point.
pub fn small_sizes(graph: &Graph, least: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> = vec![least; graph.sizes.len()];
    let mut set = |size: Size, n: usize| {
        if let Some(SizeVar(v)) = size.depends_on() {
            sizes[v as usize] = n;
        }
    };
    for (var, info) in graph.sizes.iter() {
        if ["batch", "samples"].iter().any(|word| info.name.starts_with(word)) {
            set(Size::var(var), 2);
        }
    }
    for (_, input) in graph.inputs.iter() {
        match &input.kind {
            InputKind::Table { range, .. } if input.name.ends_with(".receivers") => {
                set(*range, 2 * least);
                set(input.dims[0], 6 * least);
            }
            InputKind::Table { .. } if input.name.ends_with(".index") => set(input.dims[0], 2 * least),
            InputKind::Table { .. } | InputKind::Real | InputKind::Index { .. } => (),
        }
    }
    divisible(graph, &mut sizes);
    sizes
}

/// Raises sizes until what must divide them does.
fn divisible(graph: &Graph, sizes: &mut [usize]) {
    for _ in 0..=graph.sizes.preconditions.len() {
        for precondition in &graph.sizes.preconditions {
            let Some(SizeVar(v)) = precondition.size.depends_on() else { continue };
            for _ in 0..precondition.modulus {
                if precondition.size.eval(|SizeVar(k)| sizes[k as usize]) % precondition.modulus == 0 {
                    break;
                }
                sizes[v as usize] += 1;
            }
        }
    }
}

/// As long as a counted size can be, where an axis is as long as one.
fn dims(graph: &Graph, args: &Arguments, input: &Input) -> Vec<usize> {
    input.dims.iter().map(|n| args.size(graph.sizes.most(*n))).collect()
}

fn filled(dims: &[usize], mut value: impl FnMut() -> f64) -> Array {
    Array { dims: dims.to_vec(), data: (0..dims.iter().product::<usize>()).map(|_| value()).collect() }
}

fn normal(dims: &[usize], std: f64, rng: &mut Rng) -> Array {
    filled(dims, || std * rng.normal())
}

/// Random numbers; of a lattice a cell that is far from flat, and shifts to the cells around.
fn real(graph: &Graph, args: &Arguments, input: &Input, rng: &mut Rng) -> Array {
    let dims = dims(graph, args, input);
    match input.name.rsplit_once('.').map(|(_, word)| word) {
        Some(SHIFTS) => filled(&dims, || rng.below(3) as f64 - 1.0),
        Some(CELL) => {
            let mut cell = normal(&dims, 0.2, rng);
            let d = dims[dims.len() - 1];
            cell.data.chunks_exact_mut(d).enumerate().for_each(|(row, x)| x[row % d] += 2.0);
            cell
        }
        Some(_) | None => normal(&dims, 1.0, rng),
    }
}

/// The tables of one domain together: they must agree.
fn tables(graph: &Graph, input: &Input, range: Size, args: &mut Arguments, rng: &mut Rng) {
    let (domain, word) = input.name.rsplit_once('.').unwrap_or((&input.name, ""));
    let name = |word: &str| format!("{domain}.{word}");
    let count = args.size(input.dims[0]);
    let (points, samples) =
        if word == "index" { (count, args.size(range)) } else { (args.size(range), samples_of(graph, domain, args)) };
    let index: Vec<usize> = (0..points).map(|k| k * samples.max(1) / points.max(1)).collect();
    let table = |list: &[usize]| Array { dims: vec![list.len()], data: list.iter().map(|k| *k as f64).collect() };
    if word == "index" {
        args.inputs.insert(name("index"), table(&index));
        return;
    }
    let mut pairs: Vec<(usize, usize)> = (0..points)
        .flat_map(|i| (0..points).map(move |j| (i, j)))
        .filter(|(i, j)| i != j && index[*i] == index[*j])
        .collect();
    // a random choice of edges, and repetitions only where there are too few
    for k in (1..pairs.len()).rev() {
        pairs.swap(k, rng.below(k + 1));
    }
    if graph.relations.iter().any(|(_, relation)| matches!(relation.map, Function::Paired(_))) {
        pairs = in_both_directions(&pairs);
    }
    let mut edges: Vec<(usize, usize)> =
        (0..count).filter_map(|k| pairs.get(k % pairs.len().max(1)).copied()).collect();
    edges.resize(count, (0, 0));
    if !is_told(graph, range) {
        // then the tables say how many points there are: each sends to the one before it in its sample
        let first = |i: usize| index.partition_point(|sample| *sample < index[i]);
        let next = |i: usize| if index.get(i + 1) == Some(&index[i]) { i + 1 } else { first(i) };
        let ring = (0..points).map(|i| (i, next(i))).filter(|(i, j)| i != j);
        edges.iter_mut().zip(ring).for_each(|(edge, pair)| *edge = pair);
    }
    edges.sort_unstable();
    let (receivers, senders): (Vec<usize>, Vec<usize>) = edges.into_iter().unzip();
    args.inputs.insert(name("receivers"), table(&receivers));
    args.inputs.insert(name("senders"), table(&senders));
}

/// Edges as those within a radius are: each beside its reverse, but for one in [`ALONE`] so that what is said of them holds without.
fn in_both_directions(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let once = pairs.iter().filter(|(i, j)| i < j).enumerate();
    let edges = once.flat_map(|(k, (i, j))| [(*i, *j), (*j, *i)].into_iter().take(if k % ALONE == 0 { 1 } else { 2 }));
    edges.collect()
}

/// Whether an input has an axis of this size, in the program or in that which it is the derivative of, or the backward pass.
fn is_told(graph: &Graph, size: Size) -> bool {
    graph.inputs.iter().any(|(_, input)| input.dims.contains(&size) && !is_cotangent(input) && !is_kept(input))
}

/// The number of samples, where the model asks for it.
fn samples_of(graph: &Graph, domain: &str, args: &Arguments) -> usize {
    let index = graph.inputs.iter().find(|(_, i)| i.name == format!("{domain}.index"));
    match index.map(|(_, i)| &i.kind) {
        Some(InputKind::Table { range, .. }) => args.size(*range),
        Some(InputKind::Real | InputKind::Index { .. }) | None => 1,
    }
}
