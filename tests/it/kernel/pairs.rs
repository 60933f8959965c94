//! Derivatives of attention within sets: sums whose weights are computed of a row and an entry, in the sum. The evaluator's numbers, which are
//! those of the derivatives that go through the greatest score too; and nothing is stored by pairs.

use gdlc::derive::instance::{self, Filling};
use gdlc::math::Rng;
use gdlc::rewrite::{Options, optimise};
use gdlc::tensor::pass::derivatives::{jvp, vjp};

use super::attention_tiles::{PLAIN, Shape, within};
use super::*;

/// The derivatives of an attention, and what they are of.
fn derivatives(sets: &[usize], shape: &Shape, of: fn(&Graph) -> Graph) -> (Case, Arguments) {
    let plain = within(sets, &Shape { held: false, ..*shape }).0;
    let (case, args) = within(sets, &Shape { held: true, ..*shape });
    let sizes = case.sizes.clone();
    let through = Case { g: of(&plain.g), sizes: sizes.clone() };
    let case = Case { g: optimise(&of(&case.g), &Options::default()).0, sizes };
    let mut all = case.arguments();
    all.inputs.extend(args.inputs);
    let expected = eval(&through.g, &all).expect("the derivatives evaluate");
    let found = eval(&case.g, &all).expect("the derivatives evaluate");
    assert!(found.values().any(|array| array.data.iter().any(|x| x.abs() > 1e-3)) || sets.iter().all(|n| *n < 2));
    for (name, array) in &expected {
        for (x, y) in array.data.iter().zip(&found[name].data) {
            assert!((x - y).abs() <= 1e-11 * x.abs().max(1.0), "{name}: {x} and {y}");
        }
    }
    (case, all)
}

/// Compares the lowered program with the evaluator as libraries of all backends: the interpreter takes long for whole tiles.
fn check(case: &Case, args: &Arguments, hardware: Hardware) -> Program {
    let expected = eval(&case.g, args).expect("the derivatives evaluate");
    let program = lower_for(&case.g, "case", Dtype::F64, hardware);
    verify(&program).unwrap_or_else(|why| panic!("{why}\n{program}"));
    for code in [Code::default()].into_iter().chain(backends()) {
        compare(&through_library(&program, code, args), &expected, 1e-11, &program);
    }
    program
}

/// Whether a value is stored for all pairs of points.
fn stores_pairs(program: &Program) -> bool {
    program.buffers.iter().any(|(_, b)| b.shape.iter().filter(|n| n.as_fixed().is_none()).count() > 1)
}

fn sums_over_pairs(program: &Program) -> usize {
    program.kernels.iter().filter(|k| k.name.starts_with("pairs")).count()
}

#[test]
fn derivatives_are_sums_over_pairs_that_are_not_stored() {
    let sets: [&[usize]; 4] = [&[0, 0], &[0, 1, 40, 0, 15], &[64, 1], &[30, 0, 120]];
    for sets in sets {
        let (case, args) = derivatives(sets, &PLAIN, vjp);
        let program = check(&case, &args, Hardware::Cpu);
        assert!(!stores_pairs(&program), "{program}");
        assert_eq!(sums_over_pairs(&program), 3, "{program}");
    }
}

#[test]
fn derivatives_of_all_widths_and_forwards() {
    let shapes = [
        Shape { heads: 1, products: 8, widths: &[6], ..PLAIN },
        Shape { heads: 3, products: 5, widths: &[1], shared: true, ..PLAIN },
        Shape { heads: 2, products: 4, widths: &[3, 7], ..PLAIN },
    ];
    for shape in shapes {
        for of in [vjp, jvp] {
            let (case, args) = derivatives(&[5, 0, 70], &shape, of);
            check(&case, &args, Hardware::Cpu);
        }
    }
}

/// Sets whose points lie anywhere, and GPUs, keep the sums of loops.
#[test]
fn sets_in_any_order() {
    for sorted in [false, true] {
        let (case, args) = derivatives(&[2, 1, 0, 4], &Shape { sorted, products: 4, widths: &[4], ..PLAIN }, vjp);
        let program = case.check_with(&args, Hardware::Cpu);
        assert_eq!(sums_over_pairs(&program) > 0, sorted, "{program}");
        case.check_with(&args, Hardware::Gpu);
    }
}

/// Numbers that are not finite stay in their set.
#[test]
fn what_is_not_finite_stays_in_its_set() {
    for name in ["key", "query", "value", "grad.y0"] {
        let (case, mut args) = derivatives(&[30, 50, 20], &PLAIN, vjp);
        let array = args.inputs.get_mut(name).expect("an input");
        // the cotangent has the points last
        let point = array.dims.iter().position(|n| *n == 100).expect("the points");
        let inner: usize = array.dims[point + 1..].iter().product();
        for k in (0..array.data.len()).filter(|k| k / inner % 100 == 35) {
            array.data[k] = f64::NAN;
        }
        let program = lower(&case.g, "case", Dtype::F64);
        let found = through_library(&program, Code::default(), &args);
        let grad = &eval(&case.g, &args).expect("it evaluates")["grad.value"];
        let (rows, inner) = (grad.dims[0], grad.data.len() / grad.dims[0]);
        assert_eq!(rows, 100);
        let finite = |points: std::ops::Range<usize>| {
            points.into_iter().all(|i| found["grad.value"][i * inner..(i + 1) * inner].iter().all(|x| x.is_finite()))
        };
        assert!(finite(0..30) && finite(80..100), "{name}");
        assert!(name == "value" || !finite(30..80), "{name}");
    }
}

/// Attention over attention, of several outputs: a sum whose weights another one shares comes before what that one weighs is known, so that
/// it cannot wait for the statistics of its softmax.
#[test]
fn statistics_come_before_who_needs_them() {
    let text = "use set\ndomain S = set(n ~ 20000)\nmodel M[d = 8](x: S -> d) = {\n  h = attention[d](x)\n  g = h + attention[d](h) |> deep_set[d]\n  (y = g, z = g |> pool max, w = h)\n}\n";
    let graph = crate::rewrite_programs::derived_from("twice", text).remove(0).1;
    let graph = optimise(&jvp(&vjp(&graph)), &Options::default()).0;
    let sizes = instance::small_sizes(&graph, 3);
    let args = instance::arguments(&graph, sizes.clone(), Filling::Generic, &mut Rng::new(5));
    check(&Case { g: graph, sizes }, &args, Hardware::Cpu);
}
