//! Free weights a pair of channels, as the literature counts them, each also as the rank of the map from weights to dense kernels;
//! and what must be refused: a layer with a planted fault gets no certificate.

use std::sync::Arc;

use gdlc::derive::certificate::{Specimen, certify, examine, specimens};
use gdlc::derive::derive;
use gdlc::domain::{GroupSpec, product};
use gdlc::sema::hir::{Base, Block, BlockKind, Fibre, Linear, Op, Origin, Over, Program, Radial, Type};
use gdlc::symmetry::{Irrep, Rep};
use gdlc::tensor::graph::Function;

use super::draft::{Draft, copies, spec};

/// A program of one linear map.
fn one(mut d: Draft, linear: Linear, input: Type, output: Type) -> Program {
    let x = d.argument("x", input.clone());
    let mut args = vec![x];
    if matches!(linear.over, Over::Radius { .. }) {
        let position = Fibre { blocks: vec![Block { count: 1, kind: BlockKind::Position }] };
        args.push(d.argument("r", Type { base: input.base, fibre: position }));
    }
    let y = d.value(Op::Linear(linear), &args, output);
    d.result("y", y);
    d.program.models.push(d.model);
    d.program
}

fn over(over: Over) -> Linear {
    Linear { name: "f".into(), over, bias: true, depthwise: false }
}

/// The certificate's count after all its checks.
fn certified(program: &Program) -> usize {
    let certificates = certify(program, 7).unwrap_or_else(|e| panic!("{e:?}"));
    for certificate in &certificates {
        assert_eq!(certificate.fault(), None, "{certificate:?}");
    }
    certificates[0].dim
}

#[derive(Clone, Copy)]
enum Field {
    Scalar,
    Regular,
    Vector,
}

fn on_grid(group: &str, axes: usize, window: usize, from: Field, to: Field) -> usize {
    let mut d = Draft::new();
    let pixels = d.grid(&["torus"], group, axes);
    let g = d.fixing(pixels);
    let rep = |field| match field {
        Field::Scalar => Rep::scalar(&g),
        Field::Regular => Rep::regular(&g).expect("a finite group"),
        Field::Vector => Rep::vector(&g),
    };
    let base = Base::Points(pixels);
    certified(&one(d, over(Over::Window(vec![window; axes])), copies(base, 2, rep(from)), copies(base, 3, rep(to))))
}

#[test]
fn windows_have_the_counts_of_group_convolution() {
    use Field::{Regular, Scalar, Vector};
    let cases = [
        ("shift", 1, 5, Scalar, Scalar, 5),
        ("shift", 2, 3, Scalar, Scalar, 9),
        ("shift", 2, 4, Scalar, Scalar, 16),
        ("C4", 2, 3, Scalar, Regular, 9),
        ("C4", 2, 3, Regular, Regular, 36),
        ("D4", 2, 3, Scalar, Regular, 9),
        ("D4", 2, 3, Regular, Regular, 72),
        ("D4", 2, 5, Scalar, Regular, 25),
        ("D4", 2, 3, Scalar, Scalar, 3),
        ("C4", 2, 5, Scalar, Scalar, 7),
        ("D4", 2, 5, Scalar, Scalar, 6),
        ("C4", 2, 3, Vector, Vector, 10),
        ("D4", 2, 3, Vector, Vector, 5),
        ("O", 3, 3, Scalar, Scalar, 4),
        ("O", 3, 3, Vector, Vector, 12),
        ("Oh", 3, 3, Vector, Vector, 8),
    ];
    for (group, axes, window, from, to, count) in cases {
        assert_eq!(on_grid(group, axes, window, from, to), count, "{group} {window}^{axes}");
    }
}

/// Too many weights for the rank in a test: the count alone.
#[test]
fn large_groups_have_the_counts_of_group_convolution() {
    for (group, window, count) in [("D4", 5, 200), ("O", 3, 648), ("Oh", 3, 1296)] {
        let axes = if group == "D4" { 2 } else { 3 };
        let mut d = Draft::new();
        let pixels = d.grid(&["zero"], group, axes);
        let regular = Rep::regular(&d.fixing(pixels)).expect("a finite group");
        let base = Base::Points(pixels);
        let program =
            one(d, over(Over::Window(vec![window; axes])), copies(base, 1, regular.clone()), copies(base, 1, regular));
        let derived = derive(&program, &program.models[0]).unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(derived.blueprint.rows[0].dim(), count, "{group}");
        assert_eq!(derived.graph.weights.iter().next().expect("a weight").1.dims, [1, 1, count]);
    }
}

fn set(d: &mut Draft) -> gdlc::base::arena::Id<gdlc::sema::hir::DomainDecl> {
    let n = d.size("n", 10);
    d.domain("Set", spec("set", vec![n], &[], None, None))
}

#[test]
fn sets_have_two_maps_and_pairs_fifteen() {
    let mut d = Draft::new();
    let s = set(&mut d);
    let scalar = Rep::scalar(&d.fixing(s));
    let base = Base::Points(s);
    assert_eq!(
        certified(&one(d, over(Over::All), copies(base, 3, scalar.clone()), copies(base, 2, scalar.clone()))),
        2
    );

    let mut d = Draft::new();
    let s = set(&mut d);
    let first = d.program.domains[s].domain.clone();
    let pairs = d.declare("Pairs", product(&first, &first), Origin::Product(s, s));
    let base = Base::Points(pairs);
    assert_eq!(certified(&one(d, over(Over::All), copies(base, 2, scalar.clone()), copies(base, 2, scalar))), 15);
}

#[test]
fn a_star_has_two_maps() {
    let mut d = Draft::new();
    let (n, m) = (d.size("n", 10), d.size("m", 30));
    let g = d.domain("Graph", spec("graph", vec![n, m], &[], None, None));
    let scalar = Rep::scalar(&d.fixing(g));
    let base = Base::Points(g);
    assert_eq!(certified(&one(d, over(Over::Edges), copies(base, 3, scalar.clone()), copies(base, 2, scalar))), 2);
}

fn field(group: &str, top: u32, depthwise: bool) -> Program {
    let mut d = Draft::new();
    let (n, m) = (d.size("n", 10), d.size("m", 30));
    let atoms = d.domain("Atoms", spec("points", vec![n, m], &[], Some(GroupSpec::named(group)), Some(3)));
    let fixing = d.fixing(atoms);
    let block = |l| Block {
        count: 2,
        kind: BlockKind::Rep(Arc::new(Rep::irrep(&fixing, Irrep::natural(l)).expect("an irrep"))),
    };
    let ty = Type { base: Base::Points(atoms), fibre: Fibre { blocks: (0..=top).map(block).collect() } };
    let linear = Linear { depthwise, bias: false, ..over(Over::Radius { cutoff: 5.0, radial: Radial::Bessel }) };
    one(d, linear, ty.clone(), ty)
}

/// Paths: 2 min(l, l') + 1 of SO(3), min + 1 of natural parities of O(3); each with 8 radial functions, and one map of a point to itself a degree.
#[test]
fn distances_have_the_counts_of_tensor_fields() {
    for (group, top, paths) in [("E(3)", 1, 5), ("E(3)", 2, 14), ("SE(3)", 1, 6)] {
        assert_eq!(certified(&field(group, top, false)), paths * 8 + top as usize + 1, "{group} {top}");
    }
    assert_eq!(certified(&field("E(3)", 1, true)), 5 * 8 + 2);
}

fn examined(program: &Program, fault: impl Fn(&mut gdlc::tensor::graph::Graph)) -> Option<String> {
    let specimen: Specimen = specimens(program).remove(0);
    let mut derived = derive(program, &specimen.model).unwrap_or_else(|e| panic!("{e:?}"));
    fault(&mut derived.graph);
    let dim = derived.blueprint.rows.iter().map(|r| r.dim()).sum();
    examine(program, &specimen, &derived.graph, dim, 3).fault()
}

#[test]
fn a_wrong_sign_of_a_coupling_is_caught() {
    let program = field("E(3)", 2, false);
    assert_eq!(examined(&program, |_| ()), None);
    let fault = examined(&program, |graph| {
        let id = graph.constants.iter().find(|(_, c)| c.name == "C(1o, 2, 1o)").expect("this coupling is used").0;
        let mut data = graph.constants[id].data.to_vec();
        let entry = data.iter().position(|x| *x != 0.0).expect("not zero");
        data[entry] = -data[entry];
        graph.constants[id].data = data.into();
    });
    assert!(fault.is_some_and(|f| f.contains("not equivariant")));
}

#[test]
fn a_rotated_filter_is_caught() {
    let mut d = Draft::new();
    let pixels = d.grid(&["zero"], "D4", 2);
    let regular = Rep::regular(&d.fixing(pixels)).expect("a finite group");
    let base = Base::Points(pixels);
    let program = one(d, over(Over::Window(vec![3, 3])), copies(base, 1, regular.clone()), copies(base, 1, regular));
    assert_eq!(examined(&program, |_| ()), None);
    let fault = examined(&program, |graph| {
        let (id, _) =
            graph.relations.iter().find(|(_, r)| matches!(r.map, Function::Constant(_))).expect("the expansion");
        let Function::Constant(table) = &graph.relations[id].map else { return };
        let mut table = table.to_vec();
        // two cells of one filter exchanged
        table.swap(72 * 3, 72 * 3 + 1);
        graph.relations[id].map = Function::Constant(table.into());
    });
    assert!(fault.is_some_and(|f| f.contains("not equivariant")));
}

#[test]
fn a_lost_map_is_caught() {
    let mut d = Draft::new();
    let s = set(&mut d);
    let scalar = Rep::scalar(&d.fixing(s));
    let base = Base::Points(s);
    let program = one(d, over(Over::All), copies(base, 1, scalar.clone()), copies(base, 1, scalar));
    let fault = examined(&program, |graph| {
        // both basis elements read the first weight
        for id in graph.relations.ids().collect::<Vec<_>>() {
            if let Function::Affine { offset, .. } = &mut graph.relations[id].map {
                offset.constant = 0;
            }
        }
    });
    assert!(fault.is_some_and(|f| f.contains("span")));
}
