//! Derivatives in two passes: the forward one keeps what the backward one reads. Together they give what the program and its derivative by
//! reverse mode mean, in the evaluator, in the interpreter and in libraries of all backends; what is kept is chosen by cost.

use std::collections::BTreeMap;

use gdlc::base::dtype::Dtype;
use gdlc::base::size::Size;
use gdlc::derive::instance::{self, Filling};
use gdlc::driver::compiled::Passes;
use gdlc::kernel::lower::lower;
use gdlc::math::Rng;
use gdlc::rewrite::min_cut::{NEVER, Network};
use gdlc::rewrite::residuals::residuals;
use gdlc::rewrite::{self, Options};
use gdlc::tensor::eval::{Arguments, Array, eval};
use gdlc::tensor::graph::Graph;
use gdlc::tensor::op::Func;
use gdlc::tensor::pass::derivatives::vjp;
use gdlc::tensor::pass::two_passes::Joint;

use crate::conformance::backends;
use crate::kernel::{Case, agrees, compare, through_library};
use crate::rewrite_programs::derived_from;

type Outputs = BTreeMap<String, Array>;

/// Sums over all pairs of a set; softmax over edges; the greatest of messages; windows under a group; geometry and forces.
const PROGRAMS: [(&str, &str); 5] = [
    (
        "attention",
        "domain T = set(n ~ 2048)\nmodel M(x: T -> 64): T -> 64 = {\n  q = linear 2 scalar(32) (x)\n  k = linear 2 scalar(32) (x)\n  v = linear 2 scalar(32) (x)\n  y[i] = attend j by dot(q[i], k[j]) / sqrt(32): v[j]\n  y |> linear 64\n}\n",
    ),
    (
        "heads",
        "domain G = graph(n ~ 10000, m ~ 160000)\nmodel M(x: G -> 128): G -> 2 scalar(4) = {\n  z = linear 2 scalar(4) nobias (x)\n  y[i] = attend j~i by leaky_relu(dot(learn s: 2 scalar(4), z[i]) + dot(learn t: 2 scalar(4), z[j])): z[j]\n  y\n}\n",
    ),
    (
        "messages",
        "domain G = graph(n ~ 10000, m ~ 160000)\nmodel M(x: G -> 64): G -> 64 = {\n  y[i] = max j~i: mlp[64, 64](x[i], x[j])\n  y\n}\n",
    ),
    (
        "windows",
        "domain P = grid(n, n) under p4m\nmodel M(x: P -> 1): class(3) = x |> linear 2 regular over 3x3 |> relu |> linear 2 regular over 3x3 |> relu |> coarsen 2 |> pool max |> linear class(3)\n",
    ),
    (
        "forces",
        "domain A = points(n ~ 100, m ~ 5000) in R3 under E(3)\nmodel M(z: A -> class(3), r: A -> position) = {\n  f = linear 4 irreps(0..1) (z)\n  f = f + (f |> depthwise irreps(0..1) over 5.0 at r by mlp[32, 32] |> linear 4 irreps(0..1) |> gate)\n  e = f |> linear 1 |> pool sum\n  (e, f = -grad(e, r))\n}\n",
    ),
];

fn program(name: &str) -> Graph {
    let (_, text) = PROGRAMS.iter().find(|(n, _)| *n == name).expect("it is listed");
    derived_from(name, text).remove(0).1
}

fn greatest(values: &Outputs) -> f64 {
    values.values().flat_map(|y| &y.data).fold(0.0, |m, x| m.max(x.abs()))
}

/// Relative to the greatest of all numbers, of those outputs that are expected.
fn distance(found: &Outputs, expected: &Outputs) -> f64 {
    let one = |(name, y): (&String, &Array)| {
        assert_eq!(found[name].dims, y.dims, "{name}");
        found[name].data.iter().zip(&y.data).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    expected.iter().map(one).fold(0.0, f64::max) / greatest(expected)
}

/// Arguments of the derivatives, so with cotangents.
fn arguments(graph: &Graph, least: usize) -> Arguments {
    let derivative = vjp(graph);
    instance::arguments(&derivative, instance::small_sizes(&derivative, least), Filling::Generic, &mut Rng::new(5))
}

/// The arguments of the backward pass: those of the derivative, and what the forward pass kept.
fn with_kept(args: &Arguments, found: &Outputs) -> Arguments {
    let mut args = args.clone();
    args.inputs.extend(found.iter().filter(|(name, _)| name.starts_with("kept.")).map(|(n, y)| (n.clone(), y.clone())));
    args
}

#[test]
fn two_passes_mean_what_one_does() {
    for (name, _) in PROGRAMS {
        let graph = program(name);
        let [forward, backward] = Passes::graphs(&graph).expect("something is worth keeping");
        let args = arguments(&graph, 3);
        let found = eval(&forward, &args).expect("the forward pass evaluates");
        let error = distance(&found, &eval(&graph, &args).expect("the program evaluates"));
        assert!(error < 1e-12, "{name}, forward: {error}");
        let found = eval(&backward, &with_kept(&args, &found)).expect("the backward pass evaluates");
        let expected = eval(&vjp(&graph), &args).expect("the derivative evaluates");
        assert_eq!(found.len(), expected.len(), "{name}");
        let error = distance(&found, &expected);
        assert!(error < 1e-11, "{name}, backward: {error}");
    }
}

/// What was kept for one point says how the outputs change there: central differences of the program, with no derivative program between.
#[test]
fn two_passes_give_central_differences() {
    for name in ["attention", "heads", "forces"] {
        let graph = program(name);
        let [forward, backward] = Passes::graphs(&graph).expect("something is worth keeping");
        let args = arguments(&graph, 3);
        let kept = with_kept(&args, &eval(&forward, &args).expect("it evaluates"));
        let gradients = eval(&backward, &kept).expect("it evaluates");
        let mut rng = Rng::new(11);
        let step: Outputs = args
            .weights
            .iter()
            .map(|(name, w)| {
                (name.clone(), Array { dims: w.dims.clone(), data: w.data.iter().map(|_| rng.normal()).collect() })
            })
            .collect();
        let at = |t: f64| -> f64 {
            let mut moved = args.clone();
            for (name, w) in &mut moved.weights {
                w.data.iter_mut().zip(&step[name].data).for_each(|(x, d)| *x += t * d);
            }
            let outputs = eval(&graph, &moved).expect("it evaluates");
            let weighted = |(name, y): (&String, &Array)| dot(y, &args.inputs[&format!("grad.{name}")]);
            outputs.iter().map(weighted).sum()
        };
        let central = |t: f64| (at(t) - at(-t)) / (2.0 * t);
        let expected = (4.0 * central(1e-5) - central(2e-5)) / 3.0;
        let found: f64 = step.iter().map(|(name, d)| dot(&gradients[&format!("grad.{name}")], d)).sum();
        assert!((found - expected).abs() < 1e-6 * expected.abs(), "{name}: {found}, differences {expected}");
    }
}

fn dot(a: &Array, b: &Array) -> f64 {
    a.data.iter().zip(&b.data).map(|(x, y)| x * y).sum()
}

/// The kernels of both passes, by the interpreter and through libraries: in f64 and in f32, each pass from what the other's library kept.
#[test]
fn both_passes_conform() {
    for name in ["attention", "heads", "messages", "windows"] {
        let graph = program(name);
        let [forward, backward] = Passes::graphs(&graph).expect("something is worth keeping");
        let args = arguments(&graph, 3);
        let kept = eval(&forward, &args).expect("it evaluates");
        let expected = [kept.clone(), eval(&vjp(&graph), &args).expect("it evaluates")];
        let args = [args.clone(), with_kept(&args, &kept)];
        for ((pass, args), expected) in [forward, backward].iter().zip(&args).zip(&expected) {
            agrees(pass, args, expected);
            for (dtype, tolerance) in [(Dtype::F64, 1e-10), (Dtype::F32, 1e-4)] {
                let program = lower(pass, "pass", dtype);
                for code in backends() {
                    println!("{name} in {dtype}, {code:?}");
                    compare(&through_library(&program, code, args), expected, tolerance, &program);
                }
            }
        }
    }
}

/// Of attention are kept what its products read, the greatest score and the inverse of the sum of weights of each row, and no number of two
/// points; its kernel is the one of the forward pass.
#[test]
fn no_pairs_of_points_are_kept() {
    for name in ["attention", "heads"] {
        let [forward, backward] = Passes::graphs(&program(name)).expect("something is worth keeping");
        for pass in [&forward, &backward] {
            let program = lower(pass, "pass", Dtype::F32);
            let long = |dims: &[Size]| dims.iter().filter(|n| n.as_fixed().is_none()).count();
            assert!(program.buffers.iter().all(|(_, b)| long(&b.shape) < 2), "{program}");
        }
        let program = lower(&forward, "pass", Dtype::F32);
        let attends = |k: &&gdlc::kernel::ir::Kernel| k.name.starts_with("attention");
        assert_eq!(program.kernels.iter().filter(attends).count(), 1, "{program}");
        let rows = forward.outputs.iter().filter(|o| o.name.starts_with("kept.") && forward.ty(o.id).dims.len() == 2);
        let reductions = rows.filter(|o| !forward.node(o.id).op.is_leaf()).count();
        assert!(reductions >= 2, "{name}: {reductions}");
    }
}

/// `y = f(f(.. W x))`: the one product is kept, the pointwise functions after it are computed again; a product alone, whose derivative reads
/// its operands only, keeps nothing.
#[test]
fn dear_values_are_kept_and_cheap_ones_computed_again() {
    let product = |functions: &[Func]| {
        let mut case = Case::new();
        let n = case.size("n", 5);
        let x = case.input("x", &[n, Size::fixed(512)]);
        let w = case.weight("w", &[512, 64]);
        let w = w.rename(&[(w.axes[0], x.axes[1])]);
        let z = case.g.contract(&[&x, &w], &[x.axes[0], w.axes[1]]);
        let y = functions.iter().fold(z, |y, f| case.g.map(*f, &[&y]));
        case.out(&y);
        case.g
    };
    let kept = |graph: &Graph| {
        let joint = Joint::of(graph);
        let joint = Joint { graph: rewrite::optimise(&joint.graph, &Options::default()).0, ..joint };
        let ids = residuals(&joint, &Options::default().target);
        ids.into_iter().map(|id| joint.graph.node(id).op.clone()).collect::<Vec<_>>()
    };
    assert_eq!(kept(&product(&[])), []);
    assert_eq!(kept(&product(&[Func::Tanh])).len(), 1);
    let two = product(&[Func::Silu, Func::Sin]);
    assert_eq!(kept(&two), [gdlc::tensor::op::Op::Contract]);
    assert_eq!(kept(&two), kept(&two), "the choice is determined");
}

/// Cuts of small networks are those that trying all sets finds.
#[test]
fn cuts_are_the_cheapest() {
    let mut rng = Rng::new(3);
    for _ in 0..200 {
        let vertices = 2 + rng.below(6);
        let edges: Vec<(usize, usize, u64)> = (0..rng.below(3 * vertices))
            .map(|_| (rng.below(vertices), rng.below(vertices), rng.below(9) as u64))
            .collect();
        let mut network = Network::new(vertices);
        edges.iter().for_each(|(a, b, c)| network.edge(*a, *b, *c));
        let price = |inside: &dyn Fn(usize) -> bool| -> u64 {
            edges.iter().filter(|(a, b, _)| inside(*a) && !inside(*b)).map(|(_, _, c)| c).sum()
        };
        let all = (0..1 << vertices).filter(|set: &usize| set & 1 == 1 && set & 2 == 0);
        let prices: Vec<(u64, usize)> = all.map(|set| (price(&|v| set >> v & 1 == 1), set)).collect();
        let least = prices.iter().map(|(price, _)| *price).min().expect("there is one");
        let found = network.cut(0, 1);
        assert!(found[0] && !found[1] && least < NEVER);
        assert_eq!(price(&|v| found[v]), least, "{edges:?}");
        // of the cheapest the least set, which is inside of all others
        let inside = |set: usize| (0..vertices).all(|v| !found[v] || set >> v & 1 == 1);
        assert!(prices.iter().filter(|(price, _)| *price == least).all(|(_, set)| inside(*set)), "{edges:?}");
    }
}
