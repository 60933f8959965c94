//! Radial functions are computed once for both directions of an edge. Whatever list of edges is given, layers over distances are the sum
//! of what each edge adds alone, and forces are minus the slope of the energy.

use std::collections::BTreeMap;

use gdlc::derive::Derived;
use gdlc::derive::instance::{Filling, weights};
use gdlc::math::Rng;
use gdlc::tensor::eval::{Arguments, Array, eval};
use gdlc::tensor::graph::Function;

use super::draft::{distance, run};
use super::programs::{checked, derived};

const POINTS: usize = 5;

const LAYERS: &str = "
domain Atoms = points(n ~ 5, m ~ 12) in R3 under E(3)

model Kept(x: Atoms -> 2 irreps(0..1), r: Atoms -> position) =
  x |> depthwise irreps(0..2) over 3.0 at r

model KeptByNetwork(x: Atoms -> 2 irreps(0..1), r: Atoms -> position) =
  x |> depthwise irreps(0..2) over 3.0 at r by mlp[4]

model Mixed(x: Atoms -> 2 irreps(0..1), r: Atoms -> position) =
  x |> linear 3 irreps(0..1) over 3.0 at r

model MixedByNetwork(x: Atoms -> 2 irreps(0..1), r: Atoms -> position) =
  x |> linear 3 irreps(0..1) over 3.0 at r by mlp[4]

model Turned(x: Atoms -> irreps(0..3), r: Atoms -> position) =
  x |> depthwise irreps(0..3) over 3.0 at r by mlp[3]
";

const FORCES: &str = "
domain Atoms = points(n ~ 5, m ~ 12) in R3 under E(3)

model Energy(z: Atoms -> 2, r: Atoms -> position) = {
  f = linear 4 irreps(0..1) (z)
  f = f + (f |> depthwise irreps(0..1) over 3.0 at r by mlp[8] |> linear 4 irreps(0..1) |> gate)
  f = f + (f |> depthwise irreps(0..1) over 3.0 at r by mlp[8] |> linear 4 irreps(0..1) |> gate)
  energy = f |> linear 1 |> pool sum
  (energy, force = -grad(energy, r))
}
";

type Edges = Vec<[usize; 2]>;
type Outputs = BTreeMap<String, Array>;

/// Lists of `[receiver, sender]`.
fn lists() -> Vec<(&'static str, Edges)> {
    let all = || (0..POINTS).flat_map(|i| (0..POINTS).map(move |j| [i, j])).filter(|[i, j]| i != j);
    let backwards = |mut list: Edges| {
        list.reverse();
        list.sort_by_key(|edge| edge[0]);
        list
    };
    let doubled = vec![[0, 1], [0, 1], [0, 2], [1, 0], [2, 3], [2, 3], [3, 2], [3, 2], [4, 0]];
    vec![
        ("both directions", all().collect()),
        ("both directions, otherwise ordered", backwards(all().collect())),
        ("one direction", all().filter(|[i, j]| i < j).collect()),
        ("some both, some one", all().filter(|[i, j]| (2 * i + j) % 3 != 1).collect()),
        ("doubled", doubled),
        ("to themselves", vec![[0, 0], [0, 1], [1, 0], [1, 1], [1, 1], [3, 3]]),
        ("one", vec![[2, 4]]),
        ("none", vec![]),
    ]
}

fn array(dims: &[usize], data: Vec<f64>) -> Array {
    Array { dims: dims.to_vec(), data }
}

/// Numbers for all inputs but the edges, and weights.
fn setting(derived: &Derived, signal: &str, width: usize) -> (BTreeMap<String, Array>, BTreeMap<String, Array>) {
    let mut rng = Rng::new(5);
    let mut args = Arguments::default();
    weights(&derived.graph, Filling::Generic, &mut args, &mut rng);
    let mut normal = |n: usize| (0..n).map(|_| rng.normal()).collect::<Vec<f64>>();
    let inputs = [
        (signal, array(&[POINTS, width], normal(POINTS * width))),
        ("r", array(&[POINTS, 3], normal(POINTS * 3).iter().map(|x| 0.6 * x).collect())),
        ("Atoms.index", array(&[POINTS], vec![0.0; POINTS])),
    ];
    (inputs.into_iter().map(|(name, x)| (name.to_string(), x)).collect(), args.weights)
}

/// All inputs.
fn with(edges: &[[usize; 2]], inputs: &BTreeMap<String, Array>) -> BTreeMap<String, Array> {
    let ends = |k: usize| array(&[edges.len()], edges.iter().map(|edge| edge[k] as f64).collect());
    let tables = [("Atoms.receivers", ends(0)), ("Atoms.senders", ends(1))];
    inputs.clone().into_iter().chain(tables.map(|(name, table)| (name.to_string(), table))).collect()
}

/// What a program means, and that its kernels compute it.
fn computed(derived: &Derived, inputs: &BTreeMap<String, Array>, weights: &BTreeMap<String, Array>) -> Outputs {
    let all: Vec<(&str, &Array)> = inputs.iter().map(|(name, x)| (name.as_str(), x)).collect();
    let m = inputs["Atoms.senders"].dims[0];
    run(derived, &[("n", POINTS), ("m", m), ("samples", 1)], &all, weights)
}

/// What a program means.
fn meant(derived: &Derived, inputs: BTreeMap<String, Array>, weights: &BTreeMap<String, Array>) -> Outputs {
    let size = |name: &str| {
        [("n", POINTS), ("m", inputs["Atoms.senders"].dims[0]), ("samples", 1)]
            .iter()
            .find(|(n, _)| *n == name)
            .map_or_else(|| panic!("size {name}"), |(_, k)| *k)
    };
    let sizes = derived.graph.sizes.iter().map(|(_, info)| size(&info.name)).collect();
    eval(&derived.graph, &Arguments { sizes, inputs, weights: weights.clone() }).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_list_of_edges_adds_what_each_edge_adds_alone() {
    let program = checked(LAYERS, &[]).unwrap_or_else(|e| panic!("{e:?}"));
    for (model, derived) in program.models.iter().zip(derived(&program)) {
        let paired = |map: &Function| matches!(map, Function::Paired(_));
        assert!(derived.graph.relations.iter().any(|(_, r)| paired(&r.map)), "{} has pairs", model.name);
        let width = if model.name == "Turned" { 16 } else { 2 * 4 };
        let (inputs, weights) = setting(&derived, "x", width);
        let value = |found: Outputs| found.into_values().next().expect("an output");
        let of = |edges: &[[usize; 2]]| value(meant(&derived, with(edges, &inputs), &weights));
        let without = of(&[]);
        let mut alone: BTreeMap<[usize; 2], Array> = BTreeMap::new();
        for (what, edges) in lists() {
            let mut sum = without.clone();
            for edge in &edges {
                let alone = alone.entry(*edge).or_insert_with(|| of(&[*edge]));
                let added = alone.data.iter().zip(&without.data).map(|(a, b)| a - b);
                sum.data.iter_mut().zip(added).for_each(|(x, dx)| *x += dx);
            }
            let found = value(computed(&derived, &with(&edges, &inputs), &weights));
            assert!(distance(&found, &sum) < 1e-12, "{}, {what}: {:e}", model.name, distance(&found, &sum));
            let differs = edges.iter().any(|[i, j]| i != j);
            assert_eq!(distance(&found, &without) > 1e-3, differs, "{}, {what}: edges matter", model.name);
        }
    }
}

#[test]
fn forces_are_slopes_for_any_list_of_edges() {
    const STEP: f64 = 1e-5;
    let program = checked(FORCES, &[]).unwrap_or_else(|e| panic!("{e:?}"));
    let derived = &derived(&program)[0];
    let (inputs, weights) = setting(derived, "z", 2);
    for (what, edges) in lists() {
        let inputs = with(&edges, &inputs);
        let force = computed(derived, &inputs, &weights)["force"].clone();
        let energy = |k: usize, by: f64| {
            let mut moved = inputs.clone();
            moved.get_mut("r").expect("positions").data[k] += by;
            meant(derived, moved, &weights)["energy"].data[0]
        };
        let slopes = (0..3 * POINTS).map(|k| (energy(k, -STEP) - energy(k, STEP)) / (2.0 * STEP)).collect();
        let slopes = array(&[POINTS, 3], slopes);
        let scale = slopes.data.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
        let worst = force.data.iter().zip(&slopes.data).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-6 * scale, "{what}: {worst:e} of {scale:e}");
        assert_eq!(slopes.data.iter().any(|x| x.abs() > 1e-3), edges.iter().any(|[i, j]| i != j), "{what}");
    }
}

/// The image that an edge leads to is known at the call, so the edge and its reverse are told apart by numbers alone.
#[test]
fn edges_of_a_space_that_repeats_are_no_pairs() {
    let program =
        checked(&LAYERS.replace("in R3 under", "in R3 periodic under"), &[]).unwrap_or_else(|e| panic!("{e:?}"));
    for derived in derived(&program) {
        assert!(derived.graph.relations.iter().all(|(_, r)| !matches!(r.map, Function::Paired(_))));
    }
}
