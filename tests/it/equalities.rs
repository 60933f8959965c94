//! Programs that a theorem says are equal: they are, on numbers; none is stated where it cannot pay.

use gdlc::base::span::SourceMap;
use gdlc::derive::instance::{Filling, arguments, small_sizes};
use gdlc::math::Rng;
use gdlc::tensor::equality::deviations;
use gdlc::tensor::eval::Arguments;
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
    convolution(group, 1, degree, &format!("depthwise irreps(0..{degree}) over 5.0 at r"))
}

fn small(graph: &Graph, seed: u64) -> Arguments {
    arguments(graph, small_sizes(graph, 4), Filling::Generic, &mut Rng::new(seed))
}

#[test]
fn both_programs_of_a_convolution_are_equal() {
    for graph in [depthwise("E(3)", 5), depthwise("SE(3)", 4)] {
        assert!(!graph.equalities.is_empty());
        for (equality, found) in graph.equalities.iter().zip(deviations(&graph, &small(&graph, 1)).unwrap()) {
            assert!(found < 1e-12, "{} of {}: {found:e}", equality.theorem.name, equality.of);
        }
    }
}

#[test]
fn none_is_stated_at_low_degree() {
    assert!(depthwise("E(3)", 2).equalities.is_empty());
}
