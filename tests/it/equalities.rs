//! Programs that a theorem says are equal: they are, on numbers; a mistake in one is seen; the cheaper one is taken, and where neither
//! can be cheaper none is stated.

use gdlc::base::arena::Id;
use gdlc::base::span::SourceMap;
use gdlc::derive::instance::{Filling, arguments, small_sizes};
use gdlc::math::Rng;
use gdlc::rewrite::{Options, optimise};
use gdlc::tensor::equality::deviations;
use gdlc::tensor::eval::{Arguments, eval};
use gdlc::tensor::graph::{Constant, Graph};
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

/// A tensor-field convolution of all kinds up to a degree, of as many copies each.
fn convolution(group: &str, copies: usize, degree: usize, how: &str) -> Graph {
    derived(&format!(
        "domain Atoms = points(n ~ 1000, m ~ 20000) in R3 under {group}\n\
         model M(x: Atoms -> {copies} irreps(0..{degree}), r: Atoms -> position): Atoms -> {copies} irreps(0..{degree}) =\n  x |> {how}\n"
    ))
}

fn depthwise(group: &str, copies: usize, degree: usize) -> Graph {
    convolution(group, copies, degree, &format!("depthwise irreps(0..{degree}) over 5.0 at r"))
}

fn small(graph: &Graph, seed: u64) -> Arguments {
    arguments(graph, small_sizes(graph, 4), Filling::Generic, &mut Rng::new(seed))
}

/// How far the two programs of the graph's equalities are apart at most.
fn apart(graph: &Graph) -> f64 {
    let args = small(graph, 1);
    assert!(eval(graph, &args).unwrap().values().all(|y| y.data.iter().any(|x| x.abs() > 1e-3)), "an output is zero");
    let all = deviations(graph, &args).unwrap();
    assert!(!all.is_empty());
    all.into_iter().fold(0.0, f64::max)
}

/// The first number of a constant that is not zero gets the other sign.
fn with_a_wrong_sign(right: &Graph, id: Id<Constant>) -> Graph {
    let mut wrong = right.clone();
    let mut data = right.constants[id].data.to_vec();
    let first = data.iter().position(|x| *x != 0.0).unwrap();
    data[first] *= -1.0;
    wrong.constants[id].data = data.into();
    wrong
}

#[test]
fn both_programs_of_a_convolution_are_equal() {
    for graph in [depthwise("E(3)", 1, 5), depthwise("SE(3)", 1, 4), depthwise("E(3)", 4, 3)] {
        let found = apart(&graph);
        assert!(found < 1e-12, "{found:e}");
    }
}

#[test]
fn both_programs_are_equal_where_a_network_gives_the_radial_functions() {
    let how = ["depthwise irreps(0..3) over 5.0 by mlp[4] at r", "linear 2 irreps(0..3) over 5.0 by mlp[4, 3] at r"];
    for (group, how) in [("E(3)", how[0]), ("SE(3)", how[0]), ("E(3)", how[1])] {
        let found = apart(&convolution(group, 2, 3, how));
        assert!(found < 1e-12, "{group} {how}: {found:e}");
    }
}

/// A wrong sign, a wrong change of coordinates or a wrong pole, in turn.
#[test]
fn a_mistake_in_the_other_program_is_seen() {
    let right = depthwise("SE(3)", 1, 3);
    for (name, of) in [("±1", 20), ("C at ŷ", 20), ("y", 1), ("D2 from D1", 2)] {
        let own: Vec<_> = right.constants.iter().filter(|(_, c)| c.name == name).map(|(id, _)| id).collect();
        assert!(own.len() >= of, "{} constants are called {name}", own.len());
        for id in own {
            let found = apart(&with_a_wrong_sign(&right, id));
            assert!(found > 1e-3, "{name}, constant {id:?}: {found:e}");
        }
    }
}

/// A linear map between as many channels on a grid.
fn on_grid(axes: usize, group: &str, from: &str, to: &str, over: &str) -> Graph {
    on_grid_beyond("torus", axes, group, from, to, over)
}

/// The same, with what the windows see beyond the border.
fn on_grid_beyond(beyond: &str, axes: usize, group: &str, from: &str, to: &str, over: &str) -> Graph {
    let sizes = ["3"; 3][..axes].join(", ");
    derived(&format!(
        "domain Cells = grid({sizes}) {beyond} under shift . {group}\n\
         model M(x: Cells -> {from}): Cells -> {to} =\n  x |> linear {to} {over}\n"
    ))
}

/// A group whose irreps have one and two dimensions, one with an irrep of complex type, and one with irreps of three dimensions.
#[test]
fn both_programs_of_a_map_between_regular_representations_are_equal() {
    let all = [
        on_grid(2, "D4", "96 regular", "96 regular", ""),
        on_grid(2, "C4", "200 regular", "200 regular", ""),
        on_grid(3, "O", "64 regular", "64 regular", ""),
        on_grid(2, "D4", "48 regular", "48 regular", "over 3x3"),
    ];
    for graph in all {
        let found = apart(&graph);
        assert!(found < 1e-12, "{found:e}");
    }
}

#[test]
fn a_mistake_in_the_fourier_program_is_seen() {
    let right = on_grid(2, "D4", "96 regular", "96 regular", "");
    for name in ["Q", "W to Ŵ"] {
        let own: Vec<_> = right.constants.iter().filter(|(_, c)| c.name == name).map(|(id, _)| id).collect();
        assert_eq!(own.len(), 2, "{name}: one for the four irreps of dimension 1, one for that of dimension 2");
        for id in own {
            let found = apart(&with_a_wrong_sign(&right, id));
            assert!(found > 1e-3, "{name}: {found:e}");
        }
    }
}

/// Leaving out steps of a long derivation must not make terms of what they would have united.
#[test]
fn a_choice_is_explained() {
    let graph = depthwise("E(3)", 8, 3);
    let options = Options { explain: gdlc::rewrite::Explain::Derivation, laws: &[], ..Options::default() };
    let (_, report) = optimise(&graph, &options);
    assert!(report.choices.iter().any(|c| c.taken), "{:?}", report.choices);
    let proof = report.proofs.iter().find(|p| p.steps.iter().any(|s| s.law == "canonicalise")).expect("a derivation");
    gdlc::rewrite::explain::check_proof(proof).unwrap();
    let forged = proof.forged("fourier");
    assert!(gdlc::rewrite::explain::check_proof(&forged).unwrap_err().contains("does not follow"));
}

#[test]
fn few_channels_do_not_pay_for_changes_of_coordinates() {
    assert!(on_grid(2, "D4", "16 regular", "16 regular", "").equalities.is_empty());
    assert!(on_grid(2, "D4", "16 regular", "16 regular", "over 3x3").equalities.is_empty());
}

#[test]
fn the_chosen_program_means_the_same() {
    means_the_same(&depthwise("E(3)", 8, 3));
    means_the_same(&on_grid(2, "D4", "96 regular", "96 regular", ""));
}

#[test]
fn windows_of_the_chosen_program_mean_the_same_at_every_kind_of_border() {
    for beyond in ["torus", "", "reflect"] {
        means_the_same(&on_grid_beyond(beyond, 2, "D4", "48 regular", "48 regular", "over 3x3"));
    }
}

fn means_the_same(graph: &Graph) {
    let (best, report) = optimise(graph, &Options::default());
    assert!(report.choices.iter().any(|c| c.taken), "{:?}", report.choices);
    assert!(best.equalities.is_empty() && report.after < report.before);
    let args = small(graph, 2);
    let (expected, found) = (eval(graph, &args).unwrap(), eval(&best, &args).unwrap());
    for (name, expected) in &expected {
        let largest = expected.data.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
        let pairs = expected.data.iter().zip(&found[name].data);
        assert!(largest > 0.0);
        pairs.for_each(|(x, y)| assert!((x - y).abs() < 1e-12 * largest, "{name}: {x} {y}"));
    }
}

/// One channel does not pay for the matrices of its edges.
#[test]
fn the_program_as_written_is_kept_where_it_is_cheaper() {
    let graph = depthwise("E(3)", 1, 3);
    assert!(!graph.equalities.is_empty());
    let (_, report) = optimise(&graph, &Options::default());
    assert!(!report.choices.is_empty() && report.choices.iter().all(|c| !c.taken), "{:?}", report.choices);
    let (_, alone) = optimise(&graph.without_equalities(), &Options::default());
    assert_eq!((report.after, report.operations), (alone.after, alone.operations));
}

#[test]
fn none_is_stated_where_the_counts_show_that_it_cannot_pay() {
    assert!(depthwise("E(3)", 8, 2).equalities.is_empty());
}
