//! The tensor IR: what programs mean, how they are verified and printed, the first passes.
//! Expected values are written by hand or computed by plain loops here.

use std::collections::BTreeMap;
use std::sync::Arc;

use gdlc::base::size::Size;
use gdlc::tensor::cost::{self, Shape};
use gdlc::tensor::eval::{Arguments, Array, erf, eval};
use gdlc::tensor::graph::{Affine, Constant, Function, Graph, Init, Input, InputKind, Outside, Relation, Val, Weight};
use gdlc::tensor::op::{Func, Node, Op, Real, Reduction};
use gdlc::tensor::pass::{dce::dce, fold::fold, identities::identities, zeros::zeros};
use gdlc::tensor::print::print;
use gdlc::tensor::verify::verify;

fn real(g: &mut Graph, name: &str, dims: &[Size]) -> Val {
    g.input(Input { name: name.into(), dims: dims.to_vec(), kind: InputKind::Real })
}

fn weight(g: &mut Graph, name: &str, dims: &[usize]) -> Val {
    g.weight(Weight { name: name.into(), dims: dims.to_vec(), init: Init::Normal(1.0) })
}

fn table(g: &mut Graph, name: &str, from: Size, to: Size) -> Val {
    let kind = InputKind::Table { range: to, sorted: false };
    g.input(Input { name: name.into(), dims: vec![from], kind });
    let id = g.inputs.ids().last().expect("just pushed");
    g.relation(Relation { from: vec![from], to, map: Function::Table(id) })
}

fn array(dims: &[usize], data: &[f64]) -> Array {
    Array { dims: dims.to_vec(), data: data.to_vec() }
}

/// `sin((k + 1)(s + 0.731))`
fn fill(dims: &[usize], s: f64) -> Array {
    let n: usize = dims.iter().product();
    array(dims, &(0..n).map(|k| ((k + 1) as f64 * (s + 0.731)).sin()).collect::<Vec<_>>())
}

fn args(sizes: &[usize], inputs: &[(&str, Array)], weights: &[(&str, Array)]) -> Arguments {
    let named =
        |list: &[(&str, Array)]| list.iter().map(|(n, a)| (n.to_string(), a.clone())).collect::<BTreeMap<_, _>>();
    Arguments { sizes: sizes.to_vec(), inputs: named(inputs), weights: named(weights) }
}

fn close(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() <= 1e-12 * (1.0 + y.abs()), "{x} is not {y}");
    }
}

fn fixed(n: usize) -> Size {
    Size::fixed(n)
}

#[test]
fn a_matrix_product_and_the_order_of_the_output() {
    let mut g = Graph::default();
    let n = Size::var(g.sizes.intern("n", 100));
    let x = real(&mut g, "x", &[n, fixed(3)]);
    let w = weight(&mut g, "w", &[3, 2]);
    let w = w.rename(&[(w.axes[0], x.axes[1])]);
    let y = g.contract(&[&x, &w], &[x.axes[0], w.axes[1]]);
    g.output("y", &y, &[w.axes[1], x.axes[0]]);
    verify(&g).unwrap();
    let args = args(
        &[2],
        &[("x", array(&[2, 3], &[1., 2., 3., 4., 5., 6.]))],
        &[("w", array(&[3, 2], &[1., 0., 0., 1., 2., -1.]))],
    );
    let y = &eval(&g, &args).unwrap()["y"];
    assert_eq!(y, &array(&[2, 2], &[7., 16., -1., -1.]));
}

#[test]
fn windows_follow_their_boundary() {
    let read = |outside: Outside| {
        let mut g = Graph::default();
        let x = real(&mut g, "x", &[fixed(4)]);
        let map =
            Function::Affine { scale: vec![1, 1], offset: Affine { constant: -2, size: None }, divisor: 1, outside };
        let win = g.relation(Relation { from: vec![fixed(4), fixed(5)], to: fixed(4), map });
        let x = x.rename(&[(x.axes[0], win.axes[2])]);
        let y = g.contract(&[&x, &win], &win.axes[..2]);
        g.output("y", &y, &win.axes[..2]);
        verify(&g).unwrap();
        eval(&g, &args(&[], &[("x", array(&[4], &[10., 11., 12., 13.]))], &[])).map(|y| y["y"].data[..5].to_vec())
    };
    assert_eq!(read(Outside::Zero).unwrap(), [0., 0., 10., 11., 12.]);
    assert_eq!(read(Outside::Wrap).unwrap(), [12., 13., 10., 11., 12.]);
    assert_eq!(read(Outside::Reflect).unwrap(), [12., 11., 10., 11., 12.]);
    assert!(read(Outside::Never).unwrap_err().contains("not below 4"));
}

#[test]
fn a_flip_needs_the_run_time_size_and_blocks_divide() {
    let mut g = Graph::default();
    let n = Size::var(g.sizes.intern("n", 10));
    let x = real(&mut g, "x", &[n]);
    let flip = Function::Affine {
        scale: vec![-1],
        offset: Affine { constant: -1, size: Some(n) },
        divisor: 1,
        outside: Outside::Never,
    };
    let flip = g.relation(Relation { from: vec![n], to: n, map: flip });
    let y = g.contract(&[&x.rename(&[(x.axes[0], flip.axes[1])]), &flip], &flip.axes[..1]);
    let double = Function::Affine {
        scale: vec![1],
        offset: Affine { constant: 0, size: None },
        divisor: 2,
        outside: Outside::Never,
    };
    let double = g.relation(Relation { from: vec![n.times(2)], to: n, map: double });
    let z = g.contract(&[&x.rename(&[(x.axes[0], double.axes[1])]), &double], &double.axes[..1]);
    g.output("y", &y, &y.axes);
    g.output("z", &z, &z.axes);
    let res = eval(&g, &args(&[3], &[("x", array(&[3], &[1., 2., 3.]))], &[])).unwrap();
    assert_eq!(res["y"].data, [3., 2., 1.]);
    assert_eq!(res["z"].data, [1., 1., 2., 2., 3., 3.]);
}

/// Four nodes, edges 0→1, 2→1, 3→0; node 2 and 3 receive nothing.
fn edges() -> (Graph, Val, Val, Val, Arguments) {
    let mut g = Graph::default();
    let (n, e) = (Size::var(g.sizes.intern("n", 100)), Size::var(g.sizes.intern("e", 1000)));
    let x = real(&mut g, "x", &[n, fixed(2)]);
    let (src, dst) = (table(&mut g, "src", e, n), table(&mut g, "dst", e, n));
    let args = args(
        &[4, 3],
        &[
            ("x", array(&[4, 2], &[1., -1., 2., -2., 3., -3., 4., -4.])),
            ("src", array(&[3], &[0., 2., 3.])),
            ("dst", array(&[3], &[1., 1., 0.])),
        ],
        &[],
    );
    (g, x, src, dst, args)
}

#[test]
fn messages_are_gathered_and_pushed_and_nothing_reduces_to_zero() {
    let (mut g, x, src, dst, args) = edges();
    let dst = dst.rename(&[(dst.axes[0], src.axes[0])]);
    let xs = x.rename(&[(x.axes[0], src.axes[1])]);
    let (i, c) = (dst.axes[1], x.axes[1]);
    let sum = g.contract(&[&xs, &src, &dst], &[i, c]);
    g.output("sum", &sum, &[i, c]);
    for (name, how) in [("max", Reduction::Max), ("min", Reduction::Min), ("lse", Reduction::LogSumExp)] {
        let y = g.reduce(how, &xs, &[&src, &dst], &[i, c]);
        g.output(name, &y, &[i, c]);
    }
    verify(&g).unwrap();
    let res = eval(&g, &args).unwrap();
    assert_eq!(res["sum"].data, [4., -4., 4., -4., 0., 0., 0., 0.]);
    assert_eq!(res["max"].data, [4., -4., 3., -1., 0., 0., 0., 0.]);
    assert_eq!(res["min"].data, [4., -4., 1., -3., 0., 0., 0., 0.]);
    let lse = |a: f64, b: f64| (a.exp() + b.exp()).ln();
    close(&res["lse"].data, &[4., -4., lse(1., 3.), lse(-1., -3.), 0., 0., 0., 0.]);
}

#[test]
fn bad_arguments_are_named() {
    let (mut g, x, src, _, good) = edges();
    let xs = x.rename(&[(x.axes[0], src.axes[1])]);
    let y = g.contract(&[&xs, &src], &[src.axes[0], x.axes[1]]);
    g.output("y", &y, &y.axes);
    let with = |name: &str, value: Option<Array>| {
        let mut bad = good.clone();
        match value {
            Some(value) => bad.inputs.insert(name.into(), value),
            None => bad.inputs.remove(name),
        };
        eval(&g, &bad).unwrap_err()
    };
    assert!(eval(&g, &good).is_ok());
    assert!(with("src", Some(array(&[3], &[0., 2., 4.]))).contains("`src` holds 4"));
    assert!(with("src", Some(array(&[3], &[0., f64::NAN, 1.]))).contains("`src` holds NaN"));
    assert!(with("src", Some(array(&[2], &[0., 2.]))).contains("`src` has shape"));
    assert!(with("x", None).contains("no input `x`"));
}

/// Plain loops for a torus convolution: `y[b,u,v,o] = Σ x[b,u+i-1,v+j-1,c] k[o,c,i,j]`.
fn convolution(x: &Array, k: &Array) -> Vec<f64> {
    let [b, h, w, c] = x.dims[..] else { panic!("rank") };
    let [o, _, s, _] = k.dims[..] else { panic!("rank") };
    let mut y = vec![0.0; b * h * w * o];
    for (at, y) in y.iter_mut().enumerate() {
        let (bb, u, v, oo) = (at / (h * w * o), at / (w * o) % h, at / o % w, at % o);
        for (i, j, cc) in (0..s * s * c).map(|t| (t / (s * c), t / c % s, t % c)) {
            let (p, q) = ((u + i + h - s / 2) % h, (v + j + w - s / 2) % w);
            *y += x.data[((bb * h + p) * w + q) * c + cc] * k.data[((oo * c + cc) * s + i) * s + j];
        }
    }
    y
}

fn window(g: &mut Graph, n: usize, k: usize) -> Val {
    let map = Function::Affine {
        scale: vec![1, 1],
        offset: Affine { constant: -(k as i64 / 2), size: None },
        divisor: 1,
        outside: Outside::Wrap,
    };
    g.relation(Relation { from: vec![fixed(n), fixed(k)], to: fixed(n), map })
}

fn grid_convolution(c: usize, o: usize, n: usize, k: usize) -> Graph {
    let mut g = Graph::default();
    let b = Size::var(g.sizes.intern("b", 8));
    let x = real(&mut g, "x", &[b, fixed(n), fixed(n), fixed(c)]);
    let w = weight(&mut g, "k", &[o, c, k, k]);
    let (rows, win) = (window(&mut g, n, k), window(&mut g, n, k));
    let cols = {
        let fresh = [g.axis(), g.axis(), g.axis()];
        win.rename(&[0, 1, 2].map(|k| (win.axes[k], fresh[k])))
    };
    let x = x.rename(&[(x.axes[1], rows.axes[2]), (x.axes[2], cols.axes[2])]);
    let w = w.rename(&[(w.axes[1], x.axes[3]), (w.axes[2], rows.axes[1]), (w.axes[3], cols.axes[1])]);
    let out = [x.axes[0], rows.axes[0], cols.axes[0], w.axes[0]];
    let y = g.contract(&[&x, &w, &rows, &cols], &out);
    g.output("y", &y, &out);
    g
}

#[test]
fn a_convolution_is_a_product_with_windows() {
    let g = grid_convolution(3, 4, 5, 3);
    let (x, k) = (fill(&[2, 5, 5, 3], 1.0), fill(&[4, 3, 3, 3], 2.0));
    let y = eval(&g, &args(&[2], &[("x", x.clone())], &[("k", k.clone())])).unwrap();
    close(&y["y"].data, &convolution(&x, &k));
}

#[test]
fn a_wide_convolution_evaluates_in_about_a_second() {
    let g = grid_convolution(128, 128, 8, 5);
    let args = args(&[4], &[("x", fill(&[4, 8, 8, 128], 1.0))], &[("k", fill(&[128, 128, 5, 5], 2.0))]);
    let start = std::time::Instant::now();
    let y = eval(&g, &args).unwrap();
    println!("128 → 128 channels, 5x5, 4 x 8x8: {:.2} s", start.elapsed().as_secs_f64());
    assert!(y["y"].data.iter().all(|x| x.is_finite()));
}

#[test]
fn weights_meet_a_sparse_basis_before_the_data() {
    // y[i,o] = Σ x[i,c] w[k] basis[k,c,o] with a basis of k = c·o units: the plan runs over k nonzeros, not k·c·o
    let (n, c, o) = (50, 40, 30);
    let mut g = Graph::default();
    let x = real(&mut g, "x", &[fixed(n), fixed(c)]);
    let w = weight(&mut g, "w", &[c * o]);
    let mut data = vec![0.0; c * o * c * o];
    (0..c * o).for_each(|k| data[k * c * o + k] = 2.0);
    let basis = g.constant(Constant { name: "units".into(), dims: vec![c * o, c, o], data: Arc::from(data) });
    let x = x.rename(&[(x.axes[1], basis.axes[1])]);
    let w = w.rename(&[(w.axes[0], basis.axes[0])]);
    let out = [x.axes[0], basis.axes[2]];
    let y = g.contract(&[&x, &w, &basis], &out);
    g.output("y", &y, &out);
    let (x, w) = (fill(&[n, c], 1.0), fill(&[c * o], 2.0));
    let y = eval(&g, &args(&[], &[("x", x.clone())], &[("w", w.clone())])).unwrap();
    let mut expected = vec![0.0; n * o];
    for (i, cc, oo) in (0..n * c * o).map(|t| (t / (c * o), t / o % c, t % o)) {
        expected[i * o + oo] += 2.0 * x.data[i * c + cc] * w.data[cc * o + oo];
    }
    close(&y["y"].data, &expected);
}

#[test]
fn a_diagonal_is_a_repeated_axis_and_a_sum_repeats() {
    let mut g = Graph::default();
    let x = real(&mut g, "x", &[fixed(2), fixed(2)]);
    let (i, j) = (x.axes[0], x.axes[1]);
    let trace = g.contract(&[&x.rename(&[(j, i)])], &[]);
    let rows = g.contract(&[&x], &[i]);
    let y = g.sum(&[&rows.rename(&[(i, j)]), &trace, &x]);
    g.output("y", &y, &[i, j]);
    let res = eval(&g, &args(&[], &[("x", array(&[2, 2], &[1., 2., 3., 4.]))], &[])).unwrap();
    assert_eq!(res["y"].data, [1. + 3. + 5., 2. + 7. + 5., 3. + 3. + 5., 4. + 7. + 5.]);
}

#[test]
fn scalar_functions() {
    // the C library's erf
    let table = [
        (0.1, 0.112_462_916_018_284_89),
        (1.0, 0.842_700_792_949_714_87),
        (2.5, 0.999_593_047_982_555_04),
        (3.5, 0.999_999_256_901_627_66),
        (-0.7, -0.677_801_193_837_418_47),
    ];
    for (x, y) in table {
        assert!((erf(x) - y).abs() < 2e-15, "erf {x} = {}", erf(x));
    }
    assert!(erf(f64::NAN).is_nan());
    let apply = |f: Func, x: f64| {
        let mut g = Graph::default();
        let v = real(&mut g, "x", &[]);
        let y = g.map(f, &[&v]);
        g.output("y", &y, &[]);
        eval(&g, &args(&[], &[("x", array(&[], &[x]))], &[])).unwrap()["y"].data[0]
    };
    assert_eq!(apply(Func::Relu, -2.0), 0.0);
    assert!(apply(Func::Relu, f64::NAN).is_nan());
    assert_eq!(apply(Func::LeakyRelu(Real(0.1)), -2.0), -0.2);
    assert_eq!(apply(Func::SafeRecip, 0.0), 0.0);
    assert_eq!(apply(Func::Sqrt, -1.0), 0.0);
    assert_eq!(apply(Func::Sigmoid, -800.0), 0.0);
    assert!((apply(Func::Gelu, 1.0) - 0.841_344_746_068_542_9).abs() < 1e-15);
    assert_eq!(apply(Func::Powi(3), -2.0), -8.0);
}

#[test]
fn printing_names_the_axes() {
    let mut g = grid_convolution(3, 4, 5, 3);
    let y = g.fresh(g.outputs[0].id);
    let z = g.map(Func::Relu, &[&y]);
    g.output("z", &z, &z.axes);
    assert_eq!(
        print(&g),
        concat!(
            "%3[b, l, p, q] = Σ[i, j, k, m, o] x[b, i, j, k] · k[l, k, m, o] · win0[p, m→i] · win0[q, o→j] : b × 4 × 5 × 5\n",
            "%4[b, l, p, q] = relu(%3[b, l, p, q]) : b × 4 × 5 × 5\n",
            "y = %3[b, p, q, l]\n",
            "z = %4[b, l, p, q]\n",
        )
    );
}

#[test]
fn the_verifier_rejects() {
    let mut g = Graph::default();
    let x = real(&mut g, "x", &[fixed(2)]);
    let y = g.map(Func::Relu, &[&x]);
    g.output("y", &y, &y.axes);
    assert_eq!(verify(&g), Ok(()));
    let mut bad = g.clone();
    bad.outputs[0].order = vec![1];
    assert!(verify(&bad).unwrap_err().contains("output `y`"));
    let mut bad = g.clone();
    let map = Function::Constant(Arc::from([Some(0), Some(5)]));
    bad.relation(Relation { from: vec![fixed(2)], to: fixed(3), map });
    assert!(verify(&bad).unwrap_err().contains("leaves its range"));
    let mut bad = g.clone();
    bad.constant(Constant { name: "c".into(), dims: vec![3], data: Arc::from([1.0]) });
    assert!(verify(&bad).unwrap_err().contains("has 1 numbers"));
    let mut bad = g.clone();
    bad.relation(Relation { from: vec![fixed(2)], to: fixed(3), map: Function::Table(g.inputs.ids().next().unwrap()) });
    assert!(verify(&bad).unwrap_err().contains("no table"));
}

#[test]
#[should_panic(expected = "ill-typed tensor node")]
fn the_builder_rejects_sizes_that_differ() {
    let mut g = Graph::default();
    let (x, w) = (real(&mut g, "x", &[fixed(3)]), real(&mut g, "w", &[fixed(2)]));
    g.mul(&x, &w.rename(&[(w.axes[0], x.axes[0])]));
}

#[test]
fn equal_programs_are_equal_nodes() {
    let mut g = Graph::default();
    let (x, w) = (real(&mut g, "x", &[fixed(3), fixed(3)]), real(&mut g, "w", &[fixed(3), fixed(3)]));
    let (i, j, k) = (x.axes[0], x.axes[1], g.axis());
    let w = w.rename(&[(w.axes[0], j), (w.axes[1], k)]);
    let a = g.contract(&[&x, &w], &[i, k]);
    let l = g.axis();
    let b = g.contract(&[&w.rename(&[(j, l)]), &x.rename(&[(j, l)])], &[k, i]);
    assert_eq!((a.id, a.axes.clone()), (b.id, b.axes.clone()));
    // x xᵀ does not depend on which factor is named first
    let y = x.rename(&[(i, k)]);
    assert_eq!(g.contract(&[&x, &y], &[i, k]).id, g.contract(&[&y, &x], &[i, k]).id);
}

#[test]
fn dead_values_go_and_constants_fold() {
    let mut g = Graph::default();
    let x = real(&mut g, "x", &[fixed(2)]);
    let i = x.axes[0];
    let dead = g.map(Func::Exp, &[&x]);
    let (two, three) = (g.scalar(2.0), g.scalar(3.0));
    let six = g.mul(&two, &three);
    let y = g.mul(&six, &x);
    g.output("y", &y, &[i]);
    assert!(g.nodes().any(|(id, _)| id == dead.id));
    let g = dce(&fold(&g));
    verify(&g).unwrap();
    let ops: Vec<&Op> = g.nodes().map(|(_, n): (_, &Node)| &n.op).filter(|op| !op.is_leaf()).collect();
    assert_eq!(ops, [&Op::Contract]);
    let res = eval(&g, &args(&[], &[("x", array(&[2], &[1., -1.]))], &[])).unwrap();
    assert_eq!(res["y"].data, [6., -6.]);
}

#[test]
fn products_with_zero_go_from_sums_and_only_from_them() {
    let mut g = Graph::default();
    let (x, w) = (real(&mut g, "x", &[fixed(2)]), real(&mut g, "w", &[fixed(2), fixed(3)]));
    let (i, j) = (x.axes[0], w.axes[1]);
    let w = w.rename(&[(w.axes[0], i)]);
    let none = g.constant(Constant { name: "none".into(), dims: vec![2], data: vec![0.0; 2].into() });
    let none = none.rename(&[(none.axes[0], i)]);
    let lost = g.contract(&[&none, &w], &[j]);
    let silent = g.map(Func::Silu, &[&lost]);
    let loud = g.map(Func::Exp, &[&lost]);
    let (one, two) = (g.sum(&[&w, &silent]), g.sum(&[&w, &silent, &loud]));
    // the zero term alone has the axis `j`: it stays
    let wide = g.sum(&[&x, &silent]);
    for (name, value) in [("one", &one), ("two", &two), ("wide", &wide)] {
        g.output(name, value, &[i, j]);
    }
    let short = dce(&zeros(&g));
    verify(&short).unwrap();
    let terms = |name: &str| {
        let output = short.outputs.iter().find(|o| o.name == name).unwrap();
        short.node(output.id).args.len()
    };
    assert_eq!([terms("one"), terms("two"), terms("wide")], [0, 2, 2]);
    let (xs, ws) = (array(&[2], &[1., -2.]), array(&[2, 3], &[1., 2., 3., 4., 5., 6.]));
    let given = args(&[], &[("x", xs), ("w", ws)], &[]);
    assert_eq!(eval(&g, &given).unwrap(), eval(&short, &given).unwrap());
}

/// `y_kj = Σ_i x_ki · D_ij` and both axes kept, for multiples of the identity and matrices that are none.
#[test]
fn multiples_of_the_identity_are_numbers() {
    let last = 1.0 + 2.0 * f64::EPSILON;
    let matrices = [([2.5, 0.0, 0.0, 2.5], true), ([1.0, 0.0, 0.0, last], true), ([0.0, 0.0, 0.0, 0.0], true)];
    let others = [([2.5, 0.0, 0.0, 2.4], false), ([2.5, 1e-9, 0.0, 2.5], false), ([0.0, 1.0, 1.0, 0.0], false)];
    for (data, goes) in matrices.into_iter().chain(others) {
        let mut g = Graph::default();
        let x = real(&mut g, "x", &[fixed(3), fixed(2)]);
        let d = g.constant(Constant { name: "D".into(), dims: vec![2, 2], data: data.to_vec().into() });
        let d = d.rename(&[(d.axes[0], x.axes[1])]);
        let y = g.contract(&[&x, &d], &[x.axes[0], d.axes[1]]);
        let kept = g.contract(&[&x, &d], &[x.axes[0], x.axes[1], d.axes[1]]);
        g.output("y", &y, &y.axes);
        g.output("kept", &kept, &kept.axes);
        let new = dce(&identities(&g));
        let readers = new.nodes().filter(|(_, n)| n.args.iter().any(|a| new.ty(*a).dims == [fixed(2), fixed(2)]));
        assert_eq!(readers.count(), if goes { 1 } else { 2 }, "where an axis is summed away, and only there");
        let args = args(&[], &[("x", fill(&[3, 2], 0.3))], &[]);
        let (old, new) = (eval(&g, &args).unwrap(), eval(&new, &args).unwrap());
        for name in ["y", "kept"] {
            close(&old[name].data, &new[name].data);
        }
    }
}

/// `Σ_jk I[i→j] · I[j→k] · b_lk` is `b_li`, also where only one end is summed away; a shift and a longer axis are no identities.
#[test]
fn relations_of_entries_to_themselves_are_names() {
    let function = |constant| Function::Affine {
        scale: vec![1],
        offset: Affine { constant, size: None },
        divisor: 1,
        outside: Outside::Zero,
    };
    for (constant, to, stays) in [(0, 3, false), (1, 3, true), (0, 4, true)] {
        let mut g = Graph::default();
        let b = real(&mut g, "b", &[fixed(2), fixed(to)]);
        let one = g.relation(Relation { from: vec![fixed(3)], to: fixed(to), map: function(constant) });
        let back = g.relation(Relation { from: vec![fixed(to)], to: fixed(to), map: function(0) });
        let (i, j, k) = (one.axes[0], one.axes[1], g.axis());
        let back = back.rename(&[(back.axes[0], j), (back.axes[1], k)]);
        let b = b.rename(&[(b.axes[1], k)]);
        let y = g.contract(&[&one, &back, &b], &[i, b.axes[0]]);
        let square = g.contract(&[&b, &b, &back], &[b.axes[0], j]);
        g.output("y", &y, &[i, b.axes[0]]);
        g.output("square", &square, &[j, b.axes[0]]);
        let new = dce(&identities(&g));
        verify(&new).unwrap();
        let relations = new.nodes().filter(|(_, n)| n.args.iter().any(|a| new.ty(*a).relation)).count();
        assert_eq!(relations, usize::from(stays), "shifted by {constant} into {to}");
        let args = args(&[], &[("b", fill(&[2, to], 0.3))], &[]);
        let (old, new) = (eval(&g, &args).unwrap(), eval(&new, &args).unwrap());
        for name in ["y", "square"] {
            close(&old[name].data, &new[name].data);
        }
    }
}

#[test]
fn the_cost_of_a_node_uses_functions_and_zeros() {
    let work = |g: &Graph| {
        let (id, node) = g.nodes().last().unwrap();
        let operands: Vec<_> = node.args.iter().map(|a| cost::operand(g, *a)).collect();
        assert_eq!(id, g.outputs[0].id);
        cost::work(node, &operands)
    };
    // a convolution: b·h·w·k²·c·o multiplications and additions, nothing for the windows
    let w = work(&grid_convolution(16, 32, 8, 3));
    assert_eq!(w.shape, Shape::Dense);
    assert!((w.flops / (2.0 * 8.0 * 64.0 * 9.0 * 16.0 * 32.0) - 1.0).abs() < 0.05, "{w:?}");
    // a gather adds nothing
    let (mut g, x, src, _, _) = edges();
    let y = g.contract(&[&x.rename(&[(x.axes[0], src.axes[1])]), &src], &[src.axes[0], x.axes[1]]);
    g.output("y", &y, &y.axes);
    assert_eq!(work(&g).shape, Shape::Addressing);
    // a constant with 4 of 64 numbers costs a sixteenth
    let mut g = Graph::default();
    let x = real(&mut g, "x", &[fixed(1000), fixed(8)]);
    let data = (0..64).map(|k| f64::from(u8::from(k % 16 == 0))).collect::<Vec<_>>();
    let c = g.constant(Constant { name: "c".into(), dims: vec![8, 8], data: Arc::from(data) });
    let x = x.rename(&[(x.axes[1], c.axes[0])]);
    let y = g.contract(&[&x, &c], &[x.axes[0], c.axes[1]]);
    g.output("y", &y, &y.axes);
    let w = work(&g);
    assert_eq!(w.shape, Shape::Loops);
    assert!(w.flops < 2.2 * 1000.0 * 4.0, "{w:?}");
}

/// The transpose of a convolution is one too where a window's place follows from what it sees and the tap; with steps of two it is not.
#[test]
fn the_cost_of_a_transposed_convolution() {
    let cost = |scale: i64, to: usize, outside: Outside| {
        let mut g = Graph::default();
        let y = real(&mut g, "y", &[fixed(100), fixed(32)]);
        let w = g.weight(Weight { name: "w".into(), dims: vec![3, 32, 16], init: Init::Normal(1.0) });
        let map = Function::Affine {
            scale: vec![scale, 1],
            offset: Affine { constant: -1, size: None },
            divisor: 1,
            outside,
        };
        let window = g.relation(Relation { from: vec![fixed(100), fixed(3)], to: fixed(to), map });
        let [p, o] = y.axes[..] else { panic!() };
        let w = w.rename(&[(w.axes[1], o)]);
        let window = window.rename(&[(window.axes[0], p), (window.axes[1], w.axes[0])]);
        let x = g.contract(&[&y, &w, &window], &[window.axes[2], w.axes[2]]);
        g.output("x", &x, &x.axes);
        let node = g.node(x.id);
        cost::work(node, &node.args.iter().map(|a| cost::operand(&g, *a)).collect::<Vec<_>>())
    };
    for outside in [Outside::Zero, Outside::Wrap] {
        let once = cost(1, 100, outside);
        assert_eq!(once.shape, Shape::Dense);
        assert!((once.flops / (2.0 * 100.0 * 3.0 * 32.0 * 16.0) - 1.0).abs() < 0.05, "{once:?}");
    }
    assert_eq!(cost(2, 200, Outside::Zero).shape, Shape::Loops);
    assert_eq!(cost(1, 100, Outside::Reflect).shape, Shape::Loops);
}
