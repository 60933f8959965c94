//! Derived layers give the numbers of torch, torch_geometric, e3nn and plain numpy.

use std::collections::BTreeMap;

use gdlc::base::arena::Id;
use gdlc::domain::{Block as Cells, GroupSpec};
use gdlc::sema::hir::{
    Aggregate, Base, Block, BlockKind, Coarsening, DomainDecl, End, Fibre, LearnInit, Linear, Op, Origin, Over,
    Pointwise, Radial, Type,
};
use gdlc::symmetry::{Irrep, Rep};
use gdlc::tensor::eval::Array;

use super::draft::{Draft, class, copies, distance, read, run, spec};

pub(crate) fn digits(group: &str) -> Draft {
    let mut d = Draft::new();
    let pixels = d.grid(&["zero"], group, 2);
    let domain = d.program.domains[pixels].domain.clone();
    let half = domain.coarsen(2, Cells::Cells).expect("a grid coarsens").domain;
    let half = d.declare("Pixels/2", half, Origin::Coarsened { of: pixels, factor: 2 });
    let g = d.fixing(pixels);
    let regular = Rep::regular(&g).expect("a finite group");
    let scalar = Rep::scalar(&g);
    let on = Base::Points(pixels);
    let relu = || Op::Map(Pointwise::Relu);
    let window = Over::Window(vec![5, 5]);
    let x = d.argument("x", copies(on, 1, scalar.clone()));
    let wide = copies(on, 8, regular.clone());
    let a = d.linear("linear1", window.clone(), &[x], wide.clone());
    let a = d.value(relu(), &[a], wide.clone());
    let b = d.linear("linear2", window, &[a], wide.clone());
    let b = d.value(relu(), &[b], wide);
    let mean = Op::Coarsen { how: Coarsening::Mean, factor: 2 };
    let c = d.value(mean, &[b], copies(Base::Points(half), 8, regular));
    let max = Op::Pool { how: Aggregate::Max, invariant: true };
    let p = d.value(max, &[c], copies(Base::Sample, 8, scalar));
    let y = d.linear("linear3", Over::Point, &[p], class(Base::Sample, 10));
    d.result("y", y);
    d
}

/// The trained networks give the logits that torch gave.
#[test]
fn digits_and_lenet_give_the_logits_of_torch() {
    let golden = read("tests/golden/digits_logits.safetensors");
    for (group, name) in [("D4", "digits"), ("shift", "lenet")] {
        let derived = digits(group).derive();
        let dims: Vec<usize> = derived.blueprint.rows.iter().map(gdlc::derive::Row::dim).collect();
        assert_eq!(dims, if name == "digits" { [25, 200, 1] } else { [25, 25, 1] });
        let weights = read(&format!("examples/data/{name}.weights.safetensors"));
        let x = &golden["x"];
        let y = run(&derived, &[("n", 8), ("batch", 16)], &[("x", x)], &weights);
        let error = distance(&y["y"], &golden[&format!("{name}.logits")]);
        assert!(error < 1e-12, "{name}: {error:e}");
    }
}

/// An array with other dimensions.
fn shaped(a: &Array, dims: &[usize]) -> Array {
    assert_eq!(a.data.len(), dims.iter().product::<usize>());
    Array { dims: dims.to_vec(), data: a.data.clone() }
}

/// Arrays stacked along a new last axis.
fn stacked(parts: &[&Array]) -> Array {
    let dims = parts[0].dims.iter().copied().chain([parts.len()]).collect();
    let data = (0..parts[0].data.len()).flat_map(|k| parts.iter().map(move |p| p.data[k])).collect();
    Array { dims, data }
}

fn weights(list: Vec<(&str, Array)>) -> BTreeMap<String, Array> {
    list.into_iter().map(|(name, a)| (name.to_string(), a)).collect()
}

fn table(data: impl Iterator<Item = usize>) -> Array {
    let data: Vec<f64> = data.map(|k| k as f64).collect();
    Array { dims: vec![data.len()], data }
}

#[test]
fn a_window_under_shifts_is_the_convolution_of_torch() {
    let golden = read("tests/golden/layers/conv2d.safetensors");
    let mut d = Draft::new();
    let (h, w) = (d.size("h", 14), d.size("w", 13));
    let pixels = d.domain("Pixels", spec("grid", vec![h, w], &["zero"], Some(GroupSpec::named("shift")), None));
    let scalar = Rep::scalar(&d.fixing(pixels));
    let on = Base::Points(pixels);
    let x = d.argument("x", copies(on, 8, scalar.clone()));
    let y = d.linear("conv", Over::Window(vec![3, 3]), &[x], copies(on, 12, scalar.clone()));
    let y = d.value(Op::Map(Pointwise::Relu), &[y], copies(on, 12, scalar));
    d.result("y", y);
    let weights =
        weights(vec![("conv.weight", shaped(&golden["w"], &[12, 8, 9])), ("conv.bias", golden["bias"].clone())]);
    let x = golden["x"].permuted(&[0, 2, 3, 1]);
    let y = run(&d.derive(), &[("h", 14), ("w", 13), ("batch", 2)], &[("x", &x)], &weights);
    assert!(distance(&y["y"], &golden["y_s1"].permuted(&[0, 2, 3, 1])) < 1e-13);
}

#[test]
fn a_window_under_p4m_is_the_group_convolution() {
    let golden = read("tests/golden/layers/p4m_hand.safetensors");
    let mut d = Draft::new();
    let pixels = d.grid(&["zero"], "D4", 2);
    let regular = Rep::regular(&d.fixing(pixels)).expect("a finite group");
    let on = Base::Points(pixels);
    let x = d.argument("x", copies(on, 2, regular.clone()));
    let y = d.linear("conv", Over::Window(vec![3, 3]), &[x], copies(on, 3, regular));
    d.result("y", y);
    let weights =
        weights(vec![("conv.weight", shaped(&golden["psi"], &[3, 2, 72])), ("conv.bias", golden["bias"].clone())]);
    let x = golden["x"].permuted(&[0, 2, 3, 1]);
    let y = run(&d.derive(), &[("n", 9), ("batch", 2)], &[("x", &x)], &weights);
    assert!(distance(&y["y"], &golden["y"].permuted(&[0, 2, 3, 1])) < 1e-13);
}

#[test]
fn over_all_of_a_set_is_deep_sets() {
    let golden = read("tests/golden/layers/deepsets.safetensors");
    let mut d = Draft::new();
    let n = d.size("n", 17);
    let set = d.domain("Set", spec("set", vec![n], &[], None, None));
    let scalar = Rep::scalar(&d.fixing(set));
    let on = Base::Points(set);
    let x = d.argument("x", copies(on, 12, scalar.clone()));
    let y = d.linear("f", Over::All, &[x], copies(on, 10, scalar.clone()));
    let y = d.value(Op::Map(Pointwise::Relu), &[y], copies(on, 10, scalar));
    d.result("y", y);
    let weights =
        weights(vec![("f.weight", stacked(&[&golden["lam"], &golden["gam"]])), ("f.bias", golden["bias"].clone())]);
    // three sets of different sizes share one tensor
    let x = shaped(&golden["x"], &[51, 12]);
    let index = table((0..51).map(|k| k / 17));
    let y = run(&d.derive(), &[("n", 51), ("samples", 3)], &[("x", &x), ("Set.index", &index)], &weights);
    assert!(distance(&y["y"], &shaped(&golden["y"], &[51, 10])) < 1e-13);
}

fn graph(d: &mut Draft) -> Id<DomainDecl> {
    let (n, m) = (d.size("n", 40), d.size("m", 233));
    d.domain("Graph", spec("graph", vec![n, m], &[], None, None))
}

/// `y[i] = sum j~i: z[j] / sqrt(degree(i) * degree(j))` with the loops among the edges, as the language has it.
#[test]
fn a_comprehension_is_the_gcn_of_torch_geometric() {
    let golden = read("tests/golden/layers/gcn.safetensors");
    let mut d = Draft::new();
    let g = graph(&mut d);
    let scalar = Rep::scalar(&d.fixing(g));
    let (on, edges) = (Base::Points(g), Base::Edges(g));
    let of = |base, n| copies(base, n, scalar.clone());
    let x = d.argument("x", of(on, 12));
    let z = d.value(
        Op::Linear(Linear { name: "z.linear".into(), over: Over::Point, bias: false, depthwise: false }),
        &[x],
        of(on, 10),
    );
    let degree = d.value(Op::Degree, &[], of(on, 1));
    let i = d.value(Op::Pull(End::Receiver), &[degree], of(edges, 1));
    let j = d.value(Op::Pull(End::Sender), &[degree], of(edges, 1));
    let product = d.value(Op::Mul, &[i, j], of(edges, 1));
    let root = d.value(Op::Map(Pointwise::Sqrt), &[product], of(edges, 1));
    let z = d.value(Op::Pull(End::Sender), &[z], of(edges, 10));
    let message = d.value(Op::Div, &[z, root], of(edges, 10));
    let y = d.value(Op::Push(Aggregate::Sum), &[message], of(on, 10));
    let b = d.value(Op::Learn { name: "b".into(), init: LearnInit::Zeros }, &[], of(Base::Constant, 10));
    let y = d.value(Op::Add, &[y, b], of(on, 10));
    d.result("y", y);
    let mut pairs: Vec<(usize, usize)> =
        golden["dst"].data.iter().zip(&golden["src"].data).map(|(i, j)| (*i as usize, *j as usize)).collect();
    pairs.extend((0..40).map(|i| (i, i)));
    pairs.sort_unstable();
    let senders = table(pairs.iter().map(|(_, j)| *j));
    let receivers = table(pairs.iter().map(|(i, _)| *i));
    let weights = weights(vec![("z.linear.weight", golden["w"].clone()), ("b", golden["bias"].clone())]);
    let inputs = [("x", &golden["x"]), ("Graph.senders", &senders), ("Graph.receivers", &receivers)];
    let y = run(&d.derive(), &[("n", 40), ("m", pairs.len()), ("samples", 1)], &inputs, &weights);
    assert!(distance(&y["y"], &golden["y"]) < 1e-13);
}

/// The concatenation of receiver, sender and edge is one weight matrix, each operand with its columns.
#[test]
fn a_comprehension_is_the_message_passing_layer_of_numpy() {
    let golden = read("tests/golden/mpnn_layer.safetensors");
    let mut d = Draft::new();
    let g = graph(&mut d);
    let scalar = Rep::scalar(&d.fixing(g));
    let (on, edges) = (Base::Points(g), Base::Edges(g));
    let of = |base, n| copies(base, n, scalar.clone());
    let x = d.argument("x", of(on, 4));
    let e = d.argument("e", of(edges, 2));
    let i = d.value(Op::Pull(End::Receiver), &[x], of(edges, 4));
    let j = d.value(Op::Pull(End::Sender), &[x], of(edges, 4));
    let m = d.linear("m.mlp.1", Over::Point, &[i, j, e], of(edges, 6));
    let top = d.value(Op::Push(Aggregate::Max), &[m], of(on, 6));
    let y = d.linear("y.mlp.1", Over::Point, &[x, top], of(on, 6));
    d.result("y", y);
    let tensor = |name: &str| golden[name].clone();
    let weights = weights(vec![
        ("m.mlp.1.weight", tensor("w1")),
        ("m.mlp.1.bias", tensor("b1")),
        ("y.mlp.1.weight", tensor("w2")),
        ("y.mlp.1.bias", tensor("b2")),
    ]);
    let inputs = [
        ("x", &golden["x"]),
        ("e", &golden["e"]),
        ("Graph.senders", &golden["senders"]),
        ("Graph.receivers", &golden["receivers"]),
    ];
    let y = run(&d.derive(), &[("n", 9), ("m", 21), ("samples", 1)], &inputs, &weights);
    assert!(distance(&y["y"], &golden["y"]) < 1e-13);
}

fn points(d: &mut Draft) -> Id<DomainDecl> {
    // as many edges as points, so that the mean degree is 1
    let (n, m) = (d.size("n", 7), d.size("m", 7));
    d.domain("Atoms", spec("points", vec![n, m], &[], Some(GroupSpec::named("E(3)")), Some(3)))
}

fn irreps(d: &Draft, on: Id<DomainDecl>, base: Base, count: usize, top: u32) -> Type {
    let block = |l| Block {
        count,
        kind: BlockKind::Rep(Rep::irrep(&d.fixing(on), Irrep::natural(l)).expect("an irrep of O(3)").into()),
    };
    Type { base, fibre: Fibre { blocks: (0..=top).map(block).collect() } }
}

/// `[n, copies, all components]` as `[n, fibre]`: blocks in order.
fn by_blocks(x: &Array, top: usize) -> Array {
    let (n, c, k) = (x.dims[0], x.dims[1], x.dims[2]);
    let mut data = Vec::new();
    for i in 0..n {
        for l in 0..=top {
            for u in 0..c {
                data.extend((l * l..(l + 1) * (l + 1)).map(|m| x.data[(i * c + u) * k + m]));
            }
        }
    }
    Array { dims: vec![n, c * k], data }
}

fn transposed(a: &Array) -> Array {
    a.permuted(&[1, 0])
}

fn tensor_field(radial: Radial, depthwise: bool) -> Draft {
    let mut d = Draft::new();
    let atoms = points(&mut d);
    let on = Base::Points(atoms);
    let fibre = irreps(&d, atoms, on, 3, 2);
    let x = d.argument("x", fibre.clone());
    let position = Fibre { blocks: vec![Block { count: 1, kind: BlockKind::Position }] };
    let r = d.argument("r", Type { base: on, fibre: position });
    let linear = Linear { name: "f".into(), over: Over::Radius { cutoff: 5.0, radial }, bias: false, depthwise };
    let y = d.value(Op::Linear(linear), &[x, r], fibre);
    d.result("y", y);
    d
}

fn field_inputs(golden: &BTreeMap<String, Array>) -> (Array, Vec<(&'static str, usize)>) {
    (by_blocks(&golden["x"], 2), vec![("n", 7), ("m", 40), ("samples", 1)])
}

#[test]
fn depthwise_over_a_radius_is_the_tensor_product_of_e3nn() {
    let golden = read("tests/golden/tensor_field.safetensors");
    let derived = tensor_field(Radial::Mlp(vec![8, 8]), true).derive();
    let zeros = || Array::zeros(vec![3]);
    let weights = weights(vec![
        ("f.self.0e", zeros()),
        ("f.self.1o", zeros()),
        ("f.self.2e", zeros()),
        ("f.radial.1.weight", transposed(&golden["w1"])),
        ("f.radial.2.weight", transposed(&golden["w2"])),
        ("f.radial.3.weight", transposed(&golden["w3"])),
    ]);
    let (x, sizes) = field_inputs(&golden);
    let inputs = [
        ("x", &x),
        ("r", &golden["r"]),
        ("Atoms.senders", &golden["senders"]),
        ("Atoms.receivers", &golden["receivers"]),
    ];
    let y = run(&derived, &sizes, &inputs, &weights);
    assert!(distance(&y["y"], &by_blocks(&golden["y"], 2)) < 1e-12);
}

#[test]
fn a_pointwise_linear_is_the_linear_of_e3nn() {
    let golden = read("tests/golden/layers/e3nn_linear.safetensors");
    let mut d = Draft::new();
    let atoms = points(&mut d);
    let fibre = irreps(&d, atoms, Base::Points(atoms), 16, 2);
    let x = d.argument("x", fibre.clone());
    let y = d.linear("f", Over::Point, &[x], fibre);
    d.result("y", y);
    let block = |l: usize| {
        let data = golden["weight"].data[l * 256..(l + 1) * 256].iter().map(|w| w * 0.25).collect();
        Array { dims: vec![16, 16], data }.permuted(&[1, 0])
    };
    let weights = weights(vec![
        ("f.weight.0e", block(0)),
        ("f.weight.1o", block(1)),
        ("f.weight.2e", block(2)),
        ("f.bias", golden["bias"].clone()),
    ]);
    let y = run(&d.derive(), &[("n", 20), ("m", 0), ("samples", 1)], &[("x", &golden["x"])], &weights);
    assert!(distance(&y["y"], &golden["y"]) < 1e-13);
}
