//! Derivatives of tensor programs: against central differences, forward against reverse, second derivatives symmetric,
//! before and after rewriting. Subgradients where functions have corners, as they are documented.

use gdlc::base::size::Size;
use gdlc::rewrite;
use gdlc::rewrite::rules::witness::Sample;
use gdlc::tensor::differential::{forward::jvp, reverse::vjp};
use gdlc::tensor::eval::{Arguments, Array, eval};
use gdlc::tensor::graph::{Affine, Axis, Function, Graph, Input, InputKind, Outside, Relation, Val};
use gdlc::tensor::op::{Func, Op, Real, Reduction};
use gdlc::tensor::verify::verify;

use crate::soundness::random_program;

/// Step of the central differences, whose error is about its square.
const STEP: f64 = 1e-5;
/// What derivatives are compared to central differences with, relative.
const TOLERANCE: f64 = 1e-6;

/// The leaves of a program by which it can be derived, with their names in the arguments.
fn variables(graph: &mut Graph) -> Vec<(Val, String)> {
    let leaves: Vec<_> = graph.nodes().map(|(id, n)| (id, n.op.clone())).collect();
    let mut res = Vec::new();
    for (id, op) in leaves {
        let name = match op {
            Op::Input(i) if graph.inputs[i].kind == InputKind::Real => graph.inputs[i].name.clone(),
            Op::Weight(w) => graph.weights[w].name.clone(),
            _ => continue,
        };
        res.push((graph.fresh(id), name));
    }
    res
}

fn array<'a>(args: &'a mut Arguments, name: &str) -> &'a mut Array {
    match args.inputs.contains_key(name) {
        true => args.inputs.get_mut(name).unwrap(),
        false => args.weights.get_mut(name).unwrap(),
    }
}

/// An input like `of`, with random numbers.
fn like(s: &mut Sample, of: &Val, name: &str) -> Val {
    let dims: Vec<Size> = s.graph.ty(of.id).dims.clone();
    let shape: Vec<usize> = dims.iter().map(|d| s.args.size(*d)).collect();
    let data = (0..shape.iter().product()).map(|_| s.number()).collect();
    s.args.inputs.insert(name.into(), Array { dims: shape, data });
    let val = s.graph.input(Input { name: name.into(), dims, kind: InputKind::Real });
    Val { id: val.id, axes: of.axes.clone() }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn near(found: f64, expected: f64, tolerance: f64, what: &str) {
    let bound = tolerance * (1.0 + expected.abs());
    assert!((found - expected).abs() <= bound, "{what}: {found} is not {expected}");
}

/// `d/dt of the sum over all elements of (output · weight)` where every variable moves along its direction.
fn difference(graph: &Graph, args: &Arguments, output: &str, weight: &str, along: &[(String, String)]) -> f64 {
    let at = |t: f64| {
        let mut moved = args.clone();
        for (variable, direction) in along {
            let step = args.inputs[direction].data.clone();
            array(&mut moved, variable).data.iter_mut().zip(step).for_each(|(x, d)| *x += t * d);
        }
        dot(&eval(graph, &moved).unwrap()[output].data, &args.inputs[weight].data)
    };
    (at(STEP) - at(-STEP)) / (2.0 * STEP)
}

/// First and second derivatives of a program with the one output `y`, by all its variables at once.
fn check(s: Sample, y: &Val, what: &str) {
    check_with(s, y, what, &[]);
}

/// The same, also of the rewritten program.
fn check_rewritten(s: Sample, y: &Val, what: &str) {
    check_with(s, y, what, &[rewrite::Options { rounds: 3, growth: 12, ..rewrite::Options::default() }]);
}

fn check_with(mut s: Sample, y: &Val, what: &str, rewriting: &[rewrite::Options]) {
    let variables = variables(&mut s.graph);
    let names: Vec<String> = variables.iter().map(|(_, n)| n.clone()).collect();
    let (mut u, mut v) = (Vec::new(), Vec::new());
    for (val, name) in &variables {
        u.push(like(&mut s, val, &format!("u.{name}")));
        v.push(like(&mut s, val, &format!("v.{name}")));
    }
    let along = |letter: &str| names.iter().map(|n| (n.clone(), format!("{letter}.{n}"))).collect::<Vec<_>>();
    let c = like(&mut s, y, "c");
    s.graph.output("y", y, &y.axes);
    let values: Vec<Val> = variables.iter().map(|(v, _)| v.clone()).collect();
    let pairs = |t: &[Val]| values.iter().cloned().zip(t.iter().cloned()).collect::<Vec<_>>();
    // y' along u, the gradients g of c·y, and the derivatives of u·g along v and of v·g along u
    let tangent = jvp(&mut s.graph, std::slice::from_ref(y), &pairs(&u)).remove(0);
    let tangent = tangent.map(|t| s.graph.contract(&[&t, &c], &[]));
    let gradients = vjp(&mut s.graph, &[(y.clone(), c)], &values);
    let mut first = Vec::new();
    let mut second = [Vec::new(), Vec::new(), Vec::new()];
    for (k, gradient) in gradients.iter().enumerate() {
        let Some(g) = gradient else { continue };
        assert_eq!(s.graph.ty(g.id).dims.len(), values[k].axes.len(), "{what}: a gradient has all axes");
        first.push(s.graph.contract(&[g, &u[k]], &[]));
        for (n, (way, by)) in [(&u, &v), (&v, &u)].into_iter().enumerate() {
            if let Some(t) = jvp(&mut s.graph, std::slice::from_ref(g), &pairs(by)).remove(0) {
                second[n].push(s.graph.contract(&[&t, &way[k]], &[]));
            }
        }
        for (back, to) in vjp(&mut s.graph, &[(g.clone(), u[k].clone())], &values).iter().zip(&v) {
            second[2].extend(back.as_ref().map(|b| s.graph.contract(&[b, to], &[])));
        }
    }
    let sum = |g: &mut Graph, name: &str, terms: &[Val]| {
        let zero = g.scalar(0.0);
        let all: Vec<&Val> = [&zero].into_iter().chain(terms).collect();
        let total = g.sum(&all);
        g.output(name, &total, &[]);
    };
    sum(&mut s.graph, "forward", &tangent.into_iter().collect::<Vec<_>>());
    sum(&mut s.graph, "reverse", &first);
    for (name, terms) in ["uv", "vu", "back"].iter().zip(&second) {
        sum(&mut s.graph, name, terms);
    }
    verify(&s.graph).unwrap();
    let mut graphs = vec![s.graph.clone()];
    graphs.extend(rewriting.iter().map(|options| rewrite::optimise(&s.graph, options).0));
    for graph in &graphs {
        let found = eval(graph, &s.args).unwrap();
        let get = |name: &str| found[name].data[0];
        let expected = difference(graph, &s.args, "y", "c", &along("u"));
        near(get("forward"), expected, TOLERANCE, &format!("{what}: along u"));
        near(get("reverse"), get("forward"), 1e-12, &format!("{what}: reverse is the adjoint of forward"));
        near(get("uv"), get("vu"), 1e-10, &format!("{what}: second derivatives are symmetric"));
        near(get("back"), get("uv"), 1e-10, &format!("{what}: backward twice"));
    }
    // the second derivative against differences of the first
    s.args.inputs.insert("one".into(), Array { dims: vec![], data: vec![1.0] });
    let expected = difference(&s.graph, &s.args, "reverse", "one", &along("v"));
    near(eval(&s.graph, &s.args).unwrap()["uv"].data[0], expected, 10.0 * TOLERANCE, &format!("{what}: second"));
}

const FUNCTIONS: [Func; 20] = [
    Func::Relu,
    Func::LeakyRelu(Real(0.1)),
    Func::Silu,
    Func::Gelu,
    Func::Tanh,
    Func::Sigmoid,
    Func::Exp,
    Func::Log,
    Func::Sin,
    Func::Cos,
    Func::Sqrt,
    Func::Recip,
    Func::SafeRecip,
    Func::Abs,
    Func::Powi(3),
    Func::Powi(2),
    Func::Powi(1),
    Func::Powi(0),
    Func::Powi(-2),
    Func::Erf,
];

#[test]
fn every_scalar_function_has_its_derivatives() {
    for f in FUNCTIONS.into_iter().chain([Func::Same]) {
        let mut s = Sample::new(3);
        let (i, j) = (s.axis(), s.axis());
        let x = s.tensor(&[i, j]);
        // away from 0, where some have no second derivative or none at all
        let square = s.graph.mul(&x, &x);
        let shift = s.graph.scalar(0.3);
        let positive = s.graph.sum(&[&square, &shift]);
        let argument = match f {
            Func::Log | Func::Sqrt | Func::Recip | Func::SafeRecip | Func::Powi(_) => positive,
            _ => x,
        };
        let y = s.graph.map(f, &[&argument]);
        check(s, &y, &format!("{f:?}"));
    }
    for f in [Func::Max, Func::Min, Func::Greater] {
        let mut s = Sample::new(4);
        let (i, j) = (s.axis(), s.axis());
        let (x, z) = (s.tensor(&[i, j]), s.tensor(&[j]));
        let y = s.graph.map(f, &[&x, &z]);
        let y = s.graph.mul(&y, &x);
        check(s, &y, &format!("{f:?}"));
    }
}

#[test]
fn products_and_sums() {
    for seed in 0..8 {
        let mut s = Sample::new(seed);
        let (i, j, k) = (s.axis(), s.axis(), s.big_axis());
        let (a, b, c) = (s.tensor(&[i, j]), s.tensor(&[j, k]), s.constant(&[i]));
        let product = s.graph.contract(&[&a, &b, &c, &a], &[k]);
        // an axis that only one factor has, a repetition, and a sum that repeats
        let total = s.graph.contract(&[&product], &[]);
        let spread = s.graph.sum(&[&product, &a]);
        let rows = s.graph.contract(&[&spread, &a], &[i]);
        let y = s.graph.contract(&[&rows, &total, &rows], &[i]);
        if seed == 0 { check_rewritten(s, &y, "products and sums") } else { check(s, &y, "products and sums") }
    }
}

#[test]
fn a_diagonal_spreads_back_onto_the_diagonal() {
    for seed in 0..4 {
        let mut s = Sample::new(seed);
        let (i, j) = (s.big_axis(), s.axis());
        s.same_size(i, j);
        let (x, z) = (s.tensor(&[i, j]), s.tensor(&[i]));
        let diagonal = x.rename(&[(j, i)]);
        let trace = s.graph.contract(&[&diagonal], &[]);
        let sum = s.graph.sum(&[&diagonal, &z]);
        let y = s.graph.contract(&[&sum, &trace, &sum], &[i]);
        check(s, &y, "a diagonal");
    }
}

#[test]
fn relations_carry_derivatives_the_other_way() {
    for seed in 0..8 {
        let mut s = Sample::new(seed);
        let (n, e, c) = (s.big_axis(), s.big_axis(), s.axis());
        if s.args.sizes[0] == 0 {
            s.args.sizes[0] = 3;
        }
        let (src, dst) = (s.table(e, n), s.table(e, n));
        let (x, w) = (s.tensor(&[n, c]), s.tensor(&[e]));
        let pulled = s.graph.contract(&[&x, &src], &[e, c]);
        let y = s.graph.contract(&[&pulled, &pulled, &w, &dst], &[n, c]);
        let what = "a gather and a segment sum";
        if seed == 0 { check_rewritten(s, &y, what) } else { check(s, &y, what) }
    }
    let outsides = [Outside::Zero, Outside::Wrap, Outside::Reflect];
    for (seed, outside) in outsides.into_iter().enumerate() {
        let mut s = Sample::new(seed as u64);
        let (n, k) = (s.axis_of(Size::fixed(5)), s.axis_of(Size::fixed(3)));
        let (x, w) = (s.tensor(&[n]), s.tensor(&[k]));
        let map =
            Function::Affine { scale: vec![1, 1], offset: Affine { constant: -1, size: None }, divisor: 1, outside };
        let win = s.graph.relation(Relation { from: vec![Size::fixed(5), Size::fixed(3)], to: Size::fixed(5), map });
        let win = win.rename(&[(win.axes[1], k), (win.axes[2], n)]);
        let y = s.graph.contract(&[&x, &w, &win], &[win.axes[0]]);
        let y = s.graph.map(Func::Tanh, &[&y]);
        check(s, &y, &format!("a convolution, {outside:?}"));
    }
}

fn reduced(seed: u64, how: Reduction, along: fn(&mut Sample, Axis, Axis) -> Vec<Val>) -> (Sample, Val) {
    let mut s = Sample::new(seed);
    let (n, e, c) = (s.big_axis(), s.big_axis(), s.axis());
    s.args.sizes[0] = s.args.sizes[0].max(2);
    let (x, z) = (s.tensor(&[e, c]), s.tensor(&[n]));
    let relations = along(&mut s, e, n);
    let kept = if relations.is_empty() { vec![c] } else { vec![n, c] };
    let y = s.graph.reduce(how, &x, &relations.iter().collect::<Vec<_>>(), &kept);
    let square = s.graph.mul(&y, &y);
    let y = s.graph.mul(&square, &z);
    (s, y)
}

#[test]
fn reductions_give_their_share() {
    for how in [Reduction::Max, Reduction::Min, Reduction::LogSumExp] {
        for seed in 0..6 {
            let (s, y) = reduced(seed, how, |_, _, _| vec![]);
            check(s, &y, &format!("{how:?}"));
            let (s, y) = reduced(seed, how, |s, e, n| vec![s.table(e, n)]);
            let what = format!("{how:?} of segments");
            if seed == 0 { check_rewritten(s, &y, &what) } else { check(s, &y, &what) }
        }
        // blocks and overlapping windows, partly outside
        for (scale, offset) in [(2, 0), (1, -1)] {
            let mut s = Sample::new(9);
            let (p, u, k) = (s.axis_of(Size::fixed(6)), Size::fixed(3), Size::fixed(2));
            let x = s.tensor(&[p]);
            let offset = Affine { constant: offset, size: None };
            let map = Function::Affine { scale: vec![scale, 1], offset, divisor: 1, outside: Outside::Zero };
            let win = s.graph.relation(Relation { from: vec![u, k], to: Size::fixed(6), map });
            let win = win.rename(&[(win.axes[2], p)]);
            let y = s.graph.reduce(how, &x, &[&win], &[win.axes[0]]);
            let y = s.graph.mul(&y, &y);
            check(s, &y, &format!("{how:?} of windows"));
        }
    }
}

/// The gradient of the sum of `y` by the input `x` at these numbers.
fn gradient_at(x: &[f64], f: impl Fn(&mut Graph, &Val) -> Val) -> Vec<f64> {
    let mut g = Graph::default();
    let dims = vec![Size::fixed(x.len())];
    let val = g.input(Input { name: "x".into(), dims, kind: InputKind::Real });
    let y = f(&mut g, &val);
    let one = g.scalar(1.0);
    let gradient = vjp(&mut g, &[(y, one)], std::slice::from_ref(&val)).remove(0).unwrap();
    g.output("g", &gradient, &val.axes);
    let (optimised, _) = rewrite::optimise(&g, &rewrite::Options::default());
    let mut args = Arguments::default();
    args.inputs.insert("x".into(), Array { dims: vec![x.len()], data: x.to_vec() });
    let plain = eval(&g, &args).unwrap()["g"].data.clone();
    let rewritten = eval(&optimised, &args).unwrap()["g"].data.clone();
    plain.iter().zip(&rewritten).for_each(|(a, b)| near(*b, *a, 1e-15, "rewritten"));
    plain
}

#[test]
fn corners_have_the_documented_subgradient() {
    let at_corner = |f: Func| gradient_at(&[0.0, -1.0], move |g, x| g.map(f, &[x]));
    assert_eq!(at_corner(Func::Relu), [0.0, 0.0]);
    assert_eq!(at_corner(Func::Abs), [0.0, -1.0]);
    assert_eq!(at_corner(Func::LeakyRelu(Real(0.25))), [0.25, 0.25]);
    assert_eq!(at_corner(Func::Sqrt), [0.0, 0.0]);
    assert_eq!(at_corner(Func::SafeRecip), [0.0, -1.0]);
    // the length of the vector 0 and its direction
    let length = |g: &mut Graph, x: &Val| {
        let square = g.contract(&[x, x], &[]);
        g.map(Func::Sqrt, &[&square])
    };
    assert_eq!(gradient_at(&[0.0, 0.0], length), [0.0, 0.0]);
    gradient_at(&[3.0, 4.0], length).iter().zip([0.6, 0.8]).for_each(|(g, e)| near(*g, e, 1e-15, "the direction"));
    // ties: shared among the greatest; of two operands the first
    let top = |g: &mut Graph, x: &Val| g.reduce(Reduction::Max, x, &[], &[]);
    assert_eq!(gradient_at(&[2.0, 1.0, 2.0, 2.0, 0.0, 2.0], top), [0.25, 0.0, 0.25, 0.25, 0.0, 0.25]);
    let capped = |g: &mut Graph, x: &Val| {
        let one = g.scalar(1.0);
        g.map(Func::Min, &[x, &one])
    };
    assert_eq!(gradient_at(&[1.0, 2.0, 0.5], capped), [1.0, 0.0, 1.0]);
}

#[test]
fn random_programs_have_their_derivatives() {
    for seed in 0..40 {
        let s = random_program(seed);
        let output = s.graph.outputs[0].clone();
        let mut s = s;
        s.graph.outputs.clear();
        let y = s.graph.fresh(output.id);
        let what = format!("random program {seed}");
        if seed < 4 { check_rewritten(s, &y, &what) } else { check(s, &y, &what) }
    }
}

#[test]
fn a_variable_is_not_what_else_has_its_numbers() {
    // y = a b with a = b = 2 x, by a only: b
    let mut g = Graph::default();
    let x = g.input(Input { name: "x".into(), dims: vec![], kind: InputKind::Real });
    let double = g.scale(&x, 2.0);
    let (a, b) = (g.variable(&double), g.variable(&double));
    let y = g.mul(&a, &b);
    let one = g.scalar(1.0);
    let found = vjp(&mut g, &[(y.clone(), one.clone())], &[a.clone(), b, x]);
    let by_a = found[0].clone().unwrap();
    g.output("by_a", &by_a, &[]);
    assert_eq!(found[2], None, "what a variable is made of is not looked at");
    verify(&g).unwrap();
    let (optimised, _) = rewrite::optimise(&g, &rewrite::Options::default());
    let mut args = Arguments::default();
    args.inputs.insert("x".into(), Array { dims: vec![], data: vec![1.5] });
    for graph in [&g, &optimised] {
        assert_eq!(eval(graph, &args).unwrap()["by_a"].data, [3.0]);
    }
}
