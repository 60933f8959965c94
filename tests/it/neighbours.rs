//! Edges that the driver builds where a file has none, against those that another program wrote.

use std::path::Path;

use gdlc::base::span::SourceMap;
use gdlc::driver::neighbours::{Built, complete};
use gdlc::driver::tensors::{Tensor, Tensors, read};
use gdlc::sema::hir::Program;
use gdlc::sema::{LibraryOnly, check};
use gdlc::syntax;

fn checked(text: &str) -> Program {
    let mut sources = SourceMap::default();
    let id = sources.add("test.gdl", text);
    let (tree, mistakes) = syntax::parse(&sources, id);
    assert!(mistakes.is_empty(), "{mistakes:?}");
    check(&tree, &mut sources, &LibraryOnly, &[]).0.expect("the program is right")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `(receiver, sender)` in order.
fn pairs(inputs: &Tensors) -> Vec<(i64, i64)> {
    let list = |name: &str| inputs[name].indices().expect("indices").to_vec();
    let mut all: Vec<(i64, i64)> = list("Atoms.receivers").into_iter().zip(list("Atoms.senders")).collect();
    assert!(all.is_sorted_by_key(|(receiver, _)| *receiver));
    all.sort_unstable();
    all
}

#[test]
fn the_edges_of_molecules_are_those_that_ase_found() {
    let program = checked(&std::fs::read_to_string(root().join("examples/nequip.gdl")).unwrap());
    let given = read(&root().join("examples/data/molecules.safetensors")).unwrap();
    let mut inputs = given.clone();
    assert_eq!(complete(&program, &program.models[0], &mut inputs).unwrap(), vec![], "nothing is missing");
    assert_eq!(inputs, given);
    inputs.remove("Atoms.senders");
    inputs.remove("Atoms.receivers");
    let built = complete(&program, &program.models[0], &mut inputs).unwrap();
    assert_eq!(built, vec![Built { domain: "Atoms".into(), cutoff: 5.0, edges: 2410 }]);
    assert_eq!(pairs(&inputs), pairs(&given));
}

const CRYSTAL: &str = "
domain Atoms = points(n, m) in R3 periodic under E(3)
model Energy(z: Atoms -> 1, r: Atoms -> position) = z |> linear 1 over 1.5 at r |> pool sum
";

/// A simple cubic lattice: six neighbours at 1, twelve at the root of 2, all of them images of the one atom.
#[test]
fn a_cubic_crystal_has_six_and_twelve_neighbours() {
    let program = checked(CRYSTAL);
    let unit = vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
    let mut inputs = Tensors::from([
        ("z".to_string(), Tensor::real(vec![1, 1], vec![1.0])),
        ("r".to_string(), Tensor::real(vec![1, 3], vec![0.3, 7.2, -0.4])),
        ("Atoms.cell".to_string(), Tensor::real(vec![1, 3, 3], unit)),
    ]);
    assert_eq!(complete(&program, &program.models[0], &mut inputs).unwrap()[0].edges, 18);
    let mut squares: Vec<f64> =
        inputs["Atoms.shifts"].reals().chunks_exact(3).map(|s| s.iter().map(|x| x * x).sum()).collect();
    squares.sort_by(f64::total_cmp);
    assert_eq!(squares, [[1.0; 6].as_slice(), &[2.0; 12]].concat());
    assert_eq!(inputs["Atoms.index"].indices(), Some(&[0][..]));
}

#[test]
fn what_edges_cannot_be_built_from_is_named() {
    let program = checked(CRYSTAL);
    let mut inputs = Tensors::from([("r".to_string(), Tensor::real(vec![1, 3], vec![0.0; 3]))]);
    let why = |inputs: &mut Tensors| complete(&program, &program.models[0], inputs).unwrap_err().message;
    assert!(why(&mut inputs).contains("`Atoms.cell` is missing"));
    inputs.insert("Atoms.cell".into(), Tensor::real(vec![1, 3, 3], vec![1.0; 9]));
    assert!(why(&mut inputs).contains("no volume"));
    inputs.insert("r".into(), Tensor::real(vec![1, 2], vec![0.0; 2]));
    assert!(why(&mut inputs).contains("expected [points, 3]"));
}
