//! Programs as users write them: from text to tensors, certified layer by layer and as a whole.

use gdlc::base::diagnostic::Diagnostic;
use gdlc::base::span::SourceMap;
use gdlc::derive::certificate::certify;
use gdlc::derive::instance::{Filling, arguments, small_sizes};
use gdlc::derive::transform::{Edge, Transform, on_torus, residual};
use gdlc::derive::{Derived, derive};
use gdlc::math::Rng;
use gdlc::sema::hir::Program;
use gdlc::sema::{LibraryOnly, Rational, check};
use gdlc::syntax;
use gdlc::tensor::eval::Array;

use super::draft::{distance, read, run};

/// A checked program; compile-time parameters as set from outside.
pub(crate) fn checked(text: &str, set: &[(&str, i64)]) -> Result<Program, Vec<Diagnostic>> {
    let mut sources = SourceMap::default();
    let id = sources.add("test.gdl", text);
    let (tree, mistakes) = syntax::parse(&sources, id);
    assert!(mistakes.is_empty(), "{mistakes:?}");
    let set: Vec<(String, Rational)> =
        set.iter().map(|(name, k)| (name.to_string(), Rational::integer(i128::from(*k)))).collect();
    let (program, findings) = check(&tree, &mut sources, &LibraryOnly, &set);
    program.ok_or(findings)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("the program is there")
}

pub(crate) fn derived(program: &Program) -> Vec<Derived> {
    program.models.iter().map(|m| derive(program, m).unwrap_or_else(|e| panic!("{e:?}"))).collect()
}

/// Every layer has its certificate, and every model commutes with its symmetry.
pub(crate) fn certified(text: &str, set: &[(&str, i64)]) {
    let program = checked(text, set).unwrap_or_else(|e| panic!("{e:?}"));
    for certificate in certify(&program, 11).unwrap_or_else(|e| panic!("{e:?}")) {
        assert_eq!(certificate.fault(), None);
    }
    let mut rng = Rng::new(12);
    for (model, derived) in program.models.iter().zip(derived(&program)) {
        let args = arguments(&derived.graph, small_sizes(&derived.graph, 6), Filling::Generic, &mut rng);
        let closed = on_torus(&derived.graph);
        for _ in 0..3 {
            for (graph, edge) in [Some((&derived.graph, Edge::AsDeclared)), closed.as_ref().map(|g| (g, Edge::Torus))]
                .into_iter()
                .flatten()
            {
                let transform = Transform::sample_at(&program, model, &args, edge, &mut rng);
                let found = residual(graph, &transform, &args).unwrap_or_else(|e| panic!("{e}"));
                assert!(found < 1e-10, "{}: {found:e} under {}", model.name, transform.describe());
            }
        }
    }
}

/// A kind may come alone and as a part of a block of several: the layer has its maps once.
#[test]
fn a_kind_in_several_blocks_is_counted_once() {
    for (z, dim) in [("y ++ x", 2), ("x ++ y", 2), ("x ++ w ++ y", 2), ("w ++ y", 2), ("w ++ x", 2)] {
        let text = format!(
            "domain Atoms = points(n ~ 8, m ~ 8) in R3 under E(3)\n\
             model M(x: Atoms -> 1x3e + 3x0e, y: Atoms -> 3 irreps(0..1), w: Atoms -> 5x1o + 2x2e) = {{\n  \
             z = {z}\n  z |> linear 3x0e + 2x1o\n}}\n"
        );
        let program = checked(&text, &[]).unwrap_or_else(|e| panic!("{e:?}"));
        let certificates = certify(&program, 3).unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(certificates[0].fault(), None, "{z}");
        assert_eq!(certificates[0].dim, dim, "{z}");
    }
}

#[test]
fn digits_is_certified() {
    certified(&text("examples/digits.gdl"), &[("c", 2)]);
}

#[test]
fn lenet_is_certified() {
    certified(&text("examples/lenet.gdl"), &[("c", 2)]);
}

#[test]
fn karate_is_certified() {
    certified(&text("examples/mpnn.gdl"), &[("c", 3)]);
}

#[test]
fn nequip_is_certified() {
    certified(&text("examples/nequip.gdl"), &[("c", 2), ("L", 1)]);
}

#[test]
fn sets_and_pairs_are_certified() {
    let text = text("tests/programs/founding/sets.gdl").replace("256", "5").replace("32", "3");
    certified(&text, &[]);
}

#[test]
fn unet_is_certified() {
    certified(&text("tests/programs/founding/unet.gdl"), &[("c", 2), ("depth", 2)]);
}

#[test]
fn graph_layers_are_certified() {
    let layers = text("tests/programs/founding/gnn.gdl");
    let model = "\nmodel All(x: Graph -> 4, e: Graph.edges -> 2): Graph -> 3 = {\n  y = gcn[4](x)\n  z = gat[4](y)\n  w = mpnn[4](z, e)\n  linear 3 (w)\n}\n";
    certified(&(layers + model), &[]);
}

#[test]
fn egnn_is_certified() {
    let layers = text("tests/programs/founding/egnn.gdl").replace("points(n)", "points(n, m)");
    let model = "\nmodel Moves(h: Cloud -> 3, x: Cloud -> position) = {\n  (g, u) = egnn[3](h, x)\n  (a, b) = egnn[3](g, u)\n  (a, b)\n}\n";
    certified(&(layers + model), &[]);
}

/// A node without a sender is read by others, and divides by its degree.
#[test]
fn a_degree_of_0_does_no_harm() {
    let layers = text("tests/programs/founding/gnn.gdl");
    let model = "\nmodel One(x: Graph -> 2): Graph -> 2 = gcn[2](x)\n";
    let program = checked(&(layers + model), &[]).unwrap_or_else(|e| panic!("{e:?}"));
    let array = |dims: &[usize], data: &[f64]| Array { dims: dims.to_vec(), data: data.to_vec() };
    let x = array(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    // 0 -> 1, 0 -> 2, 1 -> 2: nothing leads to 0, so its degree is 0
    let (senders, receivers) = (array(&[3], &[0.0, 0.0, 1.0]), array(&[3], &[1.0, 2.0, 2.0]));
    let inputs = [("x", &x), ("Graph.senders", &senders), ("Graph.receivers", &receivers)];
    let derived = &derived(&program)[0];
    let weight = derived.graph.weights.iter().next().expect("one weight").1.name.clone();
    let weights = [(weight, array(&[2, 2], &[1.0, 0.0, 0.0, 1.0]))].into();
    let y = run(derived, &[("n", 3), ("m", 3), ("samples", 1)], &inputs, &weights);
    // only the edge from 1 to 2 has two degrees: 1 and 2
    let expected = array(&[3, 2], &[0.0, 0.0, 0.0, 0.0, 3.0 / 2f64.sqrt(), 4.0 / 2f64.sqrt()]);
    assert!(distance(&y["y"], &expected) < 1e-12, "{:?}", y["y"]);
}

/// The trained networks, from their text, give the logits of independent programs.
#[test]
fn trained_examples_give_the_logits_of_their_references() {
    let golden = read("tests/golden/digits_logits.safetensors");
    for name in ["digits", "lenet"] {
        let program = checked(&text(&format!("examples/{name}.gdl")), &[]).unwrap_or_else(|e| panic!("{e:?}"));
        let weights = read(&format!("examples/data/{name}.weights.safetensors"));
        let y = run(&derived(&program)[0], &[("n", 8), ("batch", 16)], &[("x", &golden["x"])], &weights);
        assert!(distance(&y["y"], &golden[&format!("{name}.logits")]) < 1e-12, "{name}");
    }
    let program = checked(&text("examples/mpnn.gdl"), &[]).unwrap_or_else(|e| panic!("{e:?}"));
    let (data, golden) = (read("examples/data/karate.safetensors"), read("tests/golden/karate_logits.safetensors"));
    let weights = read("examples/data/karate.weights.safetensors");
    let inputs = ["x", "e", "Graph.senders", "Graph.receivers"].map(|k| (k, &data[k]));
    let y = run(&derived(&program)[0], &[("n", 34), ("m", 156), ("samples", 1)], &inputs, &weights);
    assert!(distance(&y["y"], &golden["logits"]) < 1e-12);
}

/// What is not derived yet is one error that names it.
#[test]
fn what_has_no_derivation_is_refused_by_name() {
    for name in ["earth", "flow", "reason", "sequence", "shapes", "surface"] {
        let program = checked(&text(&format!("tests/programs/founding/{name}.gdl")), &[]);
        let errors = match program {
            Err(errors) => errors,
            Ok(program) => program.models.iter().filter_map(|m| derive(&program, m).err()).flatten().collect(),
        };
        let named = errors
            .iter()
            .any(|e| e.code == "E0900" && e.message.starts_with("not derived yet: ") && !e.labels.is_empty());
        assert!(named || (errors.is_empty() && name != "earth"), "{name}: {errors:?}");
    }
}
