//! Programs that a theorem says are equal: they are, on numbers; whichever is cheaper is taken; a false one is caught.

use gdlc::base::span::SourceMap;
use gdlc::derive::instance::{Filling, arguments, small_sizes};
use gdlc::math::Rng;
use gdlc::rewrite::explain::check_proof;
use gdlc::rewrite::{Explain, Options, optimise};
use gdlc::tensor::equality::{Theorem, deviations};
use gdlc::tensor::eval::{Arguments, eval};
use gdlc::tensor::graph::Graph;
use gdlc::tensor::verify::verify;

/// The one model of a program.
fn derived(text: &str) -> Graph {
    let mut sources = SourceMap::default();
    let id = sources.add("program.gdl", text);
    let (ast, mistakes) = gdlc::syntax::parse(&sources, id);
    assert!(mistakes.is_empty(), "{mistakes:?}");
    let (program, _) = gdlc::sema::check(&ast, &mut sources, &gdlc::sema::LibraryOnly, &[]);
    let program = program.unwrap();
    let graph = gdlc::derive::derive(&program, &program.models[0]).unwrap().graph;
    verify(&graph).unwrap();
    graph
}

/// A tensor-field convolution of all kinds up to a degree.
fn convolution(group: &str, copies: usize, degree: usize, how: &str) -> Graph {
    derived(&format!(
        "domain Atoms = points(n ~ 1000, m ~ 20000) in R3 under {group}\n\
         model M(x: Atoms -> {copies} irreps(0..{degree}), r: Atoms -> position): Atoms -> {copies} irreps(0..{degree}) =\n  x |> {how}\n"
    ))
}

fn depthwise(group: &str, degree: usize) -> Graph {
    convolution(group, 4, degree, &format!("depthwise irreps(0..{degree}) over 5.0 at r"))
}

fn small(graph: &Graph, seed: u64) -> Arguments {
    arguments(graph, small_sizes(graph, 4), Filling::Generic, &mut Rng::new(seed))
}

/// The same result to this, relative to its largest number.
fn assert_same(a: &Graph, b: &Graph, args: &Arguments, tolerance: f64) {
    let (a, b) = (eval(a, args).unwrap(), eval(b, args).unwrap());
    for (name, a) in a {
        let largest = a.data.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        assert!(largest > 1e-6, "{name} is zero");
        for (x, y) in a.data.iter().zip(&b[&name].data) {
            assert!((x - y).abs() <= tolerance * largest, "{name}: {x} became {y}");
        }
    }
}

#[test]
fn both_programs_of_a_convolution_are_equal() {
    let mixed = |group, degree| convolution(group, 3, degree, &format!("linear 3 irreps(0..{degree}) over 5.0 at r by mlp[5]"));
    let by_network = convolution("E(3)", 3, 3, "depthwise irreps(0..3) over 5.0 at r by mlp[5]");
    for graph in [depthwise("E(3)", 3), depthwise("SE(3)", 2), depthwise("SE(3)", 3), mixed("E(3)", 3), mixed("SE(3)", 2), by_network] {
        assert!(!graph.equalities.is_empty());
        for seed in 1..4 {
            for (equality, found) in graph.equalities.iter().zip(deviations(&graph, &small(&graph, seed)).unwrap()) {
                assert!(found < 1e-12, "{} of {}: {found:e}", equality.theorem.name, equality.of);
            }
        }
    }
}
