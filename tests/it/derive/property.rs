//! Whole models under sampled symmetries, and comprehension against plain loops.

use std::sync::Arc;

use gdlc::base::arena::Id;
use gdlc::derive::instance::{Filling, arguments};
use gdlc::derive::transform::{Edge, Transform, on_torus, residual};
use gdlc::domain::{GroupSpec, product};
use gdlc::math::Rng;
use gdlc::sema::hir::{
    Aggregate, Base, Block, BlockKind, DomainDecl, End, Fibre, Linear, Op, Origin, Over, Pointwise, Radial, Type, Value,
};
use gdlc::symmetry::Rep;
use gdlc::tensor::eval::{Array, eval};

use super::draft::{Draft, copies, distance, spec};
use super::golden::digits;

/// The largest residual over some symmetries, with generic weights.
fn violation(d: &Draft, sizes: &[(&str, usize)], seed: u64) -> f64 {
    let derived = d.derive();
    let mut rng = Rng::new(seed);
    let size = |name: &str| sizes.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("size {name}")).1;
    let sizes = derived.graph.sizes.iter().map(|(_, info)| size(&info.name)).collect();
    let args = arguments(&derived.graph, sizes, Filling::Generic, &mut rng);
    let y = eval(&derived.graph, &args).unwrap_or_else(|e| panic!("{e}"));
    for (name, y) in &y {
        assert!(
            y.data.iter().all(|x| x.is_finite()) && y.data.iter().any(|x| x.abs() > 1e-9),
            "{name} is zero or not finite"
        );
    }
    let closed = on_torus(&derived.graph);
    let mut worst = 0.0f64;
    for _ in 0..5 {
        for (graph, edge) in
            [Some((&derived.graph, Edge::AsDeclared)), closed.as_ref().map(|g| (g, Edge::Torus))].into_iter().flatten()
        {
            let transform = Transform::sample_at(&d.program, &d.model, &args, edge, &mut rng);
            worst = worst.max(residual(graph, &transform, &args).unwrap_or_else(|e| panic!("{e}")));
        }
    }
    worst
}

#[test]
fn the_digit_network_is_invariant_under_turns_and_mirrors() {
    assert!(violation(&digits("D4"), &[("n", 8), ("batch", 2)], 1) < 1e-12);
}

/// On the torus the pooled network of shifts is invariant under shifts by whole blocks.
#[test]
fn the_network_of_shifts_is_invariant_under_shifts_in_the_interior() {
    assert!(violation(&digits("shift"), &[("n", 8), ("batch", 2)], 6) < 1e-12);
}

#[test]
fn a_network_without_turns_is_not_invariant_under_them() {
    // the same weights read under p4m: the network of shifts is no network of p4m
    let (turned, plain) = (digits("D4"), digits("shift"));
    let derived = plain.derive();
    let mut rng = Rng::new(2);
    let args = arguments(&derived.graph, vec![8, 2], Filling::Generic, &mut rng);
    let worst = (0..4)
        .map(|_| residual(&derived.graph, &Transform::sample(&turned.program, &turned.model, &args, &mut rng), &args));
    assert!(worst.map(|r| r.unwrap_or(0.0)).fold(0.0, f64::max) > 1e-3);
}

/// Set partitions of `0..k` as restricted growth strings, by brute force.
fn growth_strings(k: usize) -> Vec<Vec<usize>> {
    let all =
        (0..k.pow(k as u32)).map(|code| (0..k).map(|p| code / k.pow((k - 1 - p) as u32) % k).collect::<Vec<usize>>());
    let grows = |s: &Vec<usize>| (0..k).all(|p| s[p] <= s[..p].iter().max().map_or(0, |m| m + 1));
    all.filter(grows).collect()
}

/// y[a, b] = Σ_partitions w · mean over the free input indices of x[c, d], equal where the partition says so.
#[test]
fn over_all_of_pairs_is_the_sum_over_set_partitions() {
    let mut d = Draft::new();
    let n = d.size("n", 4);
    let set = d.domain("Set", spec("set", vec![n], &[], None, None));
    let first = d.program.domains[set].domain.clone();
    let pairs = d.declare("Pairs", product(&first, &first), Origin::Product(set, set));
    let scalar = Rep::scalar(&d.fixing(set));
    let ty = copies(Base::Points(pairs), 1, scalar);
    let x = d.argument("x", ty.clone());
    let y = d.linear("f", Over::All, &[x], ty);
    d.result("y", y);
    let derived = d.derive();
    let mut rng = Rng::new(3);
    let args = arguments(&derived.graph, vec![4, 2], Filling::Generic, &mut rng);
    let (x, w, bias) = (&args.inputs["x"], &args.weights["f.weight"], &args.weights["f.bias"]);
    assert_eq!((w.dims.clone(), bias.dims.clone()), (vec![1, 1, 15], vec![1, 2]));
    let mut expected = Array::zeros(vec![2, 4, 4, 1]);
    for (k, string) in growth_strings(4).iter().enumerate() {
        let free = (2..4).filter(|p| (0..*p).all(|q| string[q] != string[*p])).count();
        for code in 0..2 * 256usize {
            let (sample, at) = (code / 256, [code / 64 % 4, code / 16 % 4, code / 4 % 4, code % 4]);
            if (0..4).all(|p| (0..4).all(|q| string[p] != string[q] || at[p] == at[q])) {
                let from = x.data[(sample * 4 + at[2]) * 4 + at[3]];
                expected.data[(sample * 4 + at[0]) * 4 + at[1]] += w.data[k] * from / 4f64.powi(free as i32);
            }
        }
    }
    for (at, y) in expected.data.iter_mut().enumerate() {
        *y += if at / 4 % 4 == at % 4 { bias.data[0] + bias.data[1] } else { bias.data[1] };
    }
    let y = eval(&derived.graph, &args).unwrap_or_else(|e| panic!("{e}"));
    // the diagonal has both biases: growth strings 00 and 01
    assert!(distance(&y["y"], &expected) < 1e-13);
    assert!(violation(&d, &[("n", 5), ("batch", 2)], 4) < 1e-12);
}

/// Attention over the neighbours of a point: softmax of the scores, even of large ones; nothing for a point without neighbours.
#[test]
fn attend_is_the_softmax_weighted_sum() {
    let mut d = Draft::new();
    let (n, m) = (d.size("n", 4), d.size("m", 4));
    let g = d.domain("Graph", spec("graph", vec![n, m], &[], None, None));
    let scalar = Rep::scalar(&d.fixing(g));
    let edges = |c| copies(Base::Edges(g), c, scalar.clone());
    let s = d.argument("s", edges(1));
    let v = d.argument("v", edges(2));
    let y = d.value(Op::Attend, &[s, v], copies(Base::Points(g), 2, scalar.clone()));
    let a = d.value(Op::Softmax, &[s], edges(1));
    let mean = d.value(Op::Push(Aggregate::Mean), &[v], copies(Base::Points(g), 2, scalar.clone()));
    d.result("y", y);
    d.result("a", a);
    d.result("mean", mean);
    let array = |dims: &[usize], data: &[f64]| Array { dims: dims.to_vec(), data: data.to_vec() };
    let inputs = [
        ("s", &array(&[4, 1], &[1000.0, 1000.0 + 2f64.ln(), -3.0, 0.5])),
        ("v", &array(&[4, 2], &[1.0, 0.0, 4.0, 3.0, 7.0, 8.0, -1.0, 2.0])),
        ("Graph.senders", &array(&[4], &[1.0, 2.0, 0.0, 0.0])),
        ("Graph.receivers", &array(&[4], &[0.0, 0.0, 2.0, 3.0])),
    ];
    let y = super::draft::run(&d.derive(), &[("n", 4), ("m", 4), ("samples", 1)], &inputs, &Default::default());
    assert!(distance(&y["y"], &array(&[4, 2], &[3.0, 2.0, 0.0, 0.0, 7.0, 8.0, -1.0, 2.0])) < 1e-12);
    assert!(distance(&y["a"], &array(&[4, 1], &[1.0 / 3.0, 2.0 / 3.0, 1.0, 1.0])) < 1e-12);
    assert!(distance(&y["mean"], &array(&[4, 2], &[2.5, 1.5, 0.0, 0.0, 7.0, 8.0, -1.0, 2.0])) < 1e-12);
}

/// Positions and features on points of space.
struct Cloud {
    d: Draft,
    on: Id<DomainDecl>,
}

impl Cloud {
    fn new() -> Cloud {
        let mut d = Draft::new();
        let (n, m) = (d.size("n", 10), d.size("m", 30));
        let on = d.domain("Atoms", spec("points", vec![n, m], &[], Some(GroupSpec::named("E(3)")), Some(3)));
        Cloud { d, on }
    }

    fn scalars(&self, base: Base, count: usize) -> Type {
        copies(base, count, Rep::scalar(&self.d.fixing(self.on)))
    }

    fn vectors(&self, base: Base, count: usize) -> Type {
        copies(base, count, Rep::vector(&self.d.fixing(self.on)))
    }

    /// `count irreps(0..top)`: one block of several irreps.
    fn irreps(&self, count: usize, top: u32) -> Type {
        copies(
            Base::Points(self.on),
            count,
            Rep::natural_irreps(&self.d.fixing(self.on), 1, 0, top).expect("irreps of O(3)"),
        )
    }

    fn position(&self) -> Type {
        Type {
            base: Base::Points(self.on),
            fibre: Fibre { blocks: vec![Block { count: 1, kind: BlockKind::Position }] },
        }
    }

    fn violation(&self) -> f64 {
        violation(&self.d, &[("n", 10), ("m", 24), ("samples", 2)], 5)
    }

    fn over_radius(&mut self, x: Id<Value>, r: Id<Value>, radial: Radial, depthwise: bool, ty: Type) -> Id<Value> {
        let linear = Linear { name: "f".into(), over: Over::Radius { cutoff: 5.0, radial }, bias: true, depthwise };
        self.d.value(Op::Linear(linear), &[x, r], ty)
    }
}

/// The interaction of nequip.gdl, and the energy.
#[test]
fn an_energy_from_irreps_is_invariant() {
    for depthwise in [true, false] {
        let mut c = Cloud::new();
        let on = Base::Points(c.on);
        let class = Type { base: on, fibre: Fibre { blocks: vec![Block { count: 1, kind: BlockKind::Class(9) }] } };
        let z = c.d.argument("z", class);
        let position = c.position();
        let r = c.d.argument("r", position);
        let ty = c.irreps(3, 2);
        let mut f = c.d.linear("f.linear", Over::Point, &[z], ty.clone());
        for k in 1..=2 {
            let g = c.over_radius(f, r, Radial::Mlp(vec![6]), depthwise, ty.clone());
            let g = c.d.linear(&format!("f.{k}.linear"), Over::Point, &[g], ty.clone());
            let g = c.d.value(Op::Gate { name: format!("f.{k}.gate") }, &[g], ty.clone());
            f = c.d.value(Op::Add, &[f, g], ty.clone());
        }
        let one = c.scalars(on, 1);
        let e = c.d.linear("energy", Over::Point, &[f], one);
        let sample = c.scalars(Base::Sample, 1);
        let e = c.d.value(Op::Pool { how: Aggregate::Sum, invariant: true }, &[e], sample);
        c.d.result("energy", e);
        c.d.result("f", f);
        let v = c.violation();
        assert!(v < 1e-10, "{v:e}");
    }
}

/// Every operation that irreps allow, in one model whose results are irreps.
#[test]
fn operations_on_irreps_are_equivariant() {
    let mut c = Cloud::new();
    let on = Base::Points(c.on);
    let ty = c.irreps(3, 2);
    let x = c.d.argument("x", ty.clone());
    let position = c.position();
    let r = c.d.argument("r", position);
    let normed = c.d.value(Op::Norm { name: "norm".into() }, &[x], ty.clone());
    let acted = c.d.value(Op::NormAct { name: "act".into(), f: Pointwise::Tanh }, &[normed], ty.clone());
    let product = c.d.value(Op::Bilinear { name: "b".into(), depthwise: false }, &[acted, x], ty.clone());
    let channels = c.d.value(Op::Bilinear { name: "c".into(), depthwise: true }, &[product, x], ty.clone());
    let moved = c.over_radius(channels, r, Radial::Bessel, false, ty.clone());
    let three = c.scalars(on, 3);
    let length = c.d.value(Op::Length, &[moved], three.clone());
    let square = c.d.value(Op::Power(2), &[length], three.clone());
    let dot = c.d.value(Op::Dot, &[moved, x], three.clone());
    let factor = c.d.value(Op::Add, &[square, dot], three);
    let scaled = c.d.value(Op::Mul, &[factor, moved], ty.clone());
    let mean = Type { base: Base::Sample, ..ty.clone() };
    let mean = c.d.value(Op::Pool { how: Aggregate::Mean, invariant: false }, &[scaled], mean);
    let back = c.d.value(Op::Broadcast, &[mean], ty.clone());
    let y = c.d.value(Op::Sub, &[scaled, back], ty);
    c.d.result("y", y);
    c.d.result("mean", mean);
    let v = c.violation();
    assert!(v < 1e-10, "{v:e}");
}

/// u[i] = x[i] + mean j~i: s(|x[i] - x[j]|^2) * (x[i] - x[j]), with harmonics and Bessel functions of the difference beside.
#[test]
fn positions_move_with_the_euclidean_group() {
    let mut c = Cloud::new();
    let (on, edges) = (Base::Points(c.on), Base::Edges(c.on));
    let position = c.position();
    let x = c.d.argument("x", position.clone());
    let at_edge = Type { base: edges, ..position.clone() };
    let i = c.d.value(Op::Pull(End::Receiver), &[x], at_edge.clone());
    let j = c.d.value(Op::Pull(End::Sender), &[x], at_edge);
    let vector = c.vectors(edges, 1);
    let v = c.d.value(Op::Sub, &[i, j], vector.clone());
    let one = c.scalars(edges, 1);
    let length = c.d.value(Op::Length, &[v], one.clone());
    let square = c.d.value(Op::Power(2), &[length], one.clone());
    let weight = c.d.linear("m.mlp.1", Over::Point, &[square], one.clone());
    let weight = c.d.value(Op::Map(Pointwise::Silu), &[weight], one);
    let message = c.d.value(Op::Mul, &[weight, v], vector);
    let at_point = c.vectors(on, 1);
    let mean = c.d.value(Op::Push(Aggregate::Mean), &[message], at_point);
    let u = c.d.value(Op::Add, &[x, mean], position);
    c.d.result("u", u);
    let eight = c.scalars(edges, 8);
    let bessel = c.d.value(Op::Bessel { count: 8, cutoff: 4.0 }, &[length], eight);
    c.d.result("bessel", bessel);
    let rep = Rep::natural_irreps(&c.d.fixing(c.on), 1, 0, 3).expect("irreps of O(3)");
    let harmonics = c.d.value(Op::Harmonics { from: 0, to: 3 }, &[v], copies(edges, 1, rep));
    c.d.result("harmonics", harmonics);
    let v = c.violation();
    assert!(v < 1e-10, "{v:e}");
}

/// Coincident atoms have no direction: finite values, not NaN.
#[test]
fn coincident_points_give_no_nan() {
    let mut c = Cloud::new();
    let ty = c.irreps(2, 2);
    let x = c.d.argument("x", ty.clone());
    let position = c.position();
    let r = c.d.argument("r", position);
    let y = c.over_radius(x, r, Radial::Bessel, false, ty);
    c.d.result("y", y);
    let derived = c.d.derive();
    let mut args = arguments(&derived.graph, vec![4, 6, 1], Filling::Generic, &mut Rng::new(8));
    if let Some(r) = args.inputs.get_mut("r") {
        r.data.fill(0.5);
    }
    let y = eval(&derived.graph, &args).unwrap_or_else(|e| panic!("{e}"));
    assert!(y["y"].data.iter().all(|x| x.is_finite()));
}

/// `k scalar(d)` keeps its copies apart: a dot product a copy.
#[test]
fn copies_of_several_scalars_are_contracted_one_by_one() {
    let mut d = Draft::new();
    let n = d.size("n", 3);
    let set = d.domain("Set", spec("set", vec![n], &[], None, None));
    let scalar = Rep::scalar(&d.fixing(set));
    let on = Base::Points(set);
    let ty = Type {
        base: on,
        fibre: Fibre { blocks: vec![Block { count: 2, kind: BlockKind::Rep(Arc::new(scalar.times(3))) }] },
    };
    let x = d.argument("x", ty);
    let y = d.value(Op::Dot, &[x, x], copies(on, 2, scalar));
    d.result("y", y);
    let x = Array { dims: vec![1, 6], data: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
    let y = super::draft::run(&d.derive(), &[("n", 1), ("samples", 1)], &[("x", &x)], &Default::default());
    assert_eq!(y["y"].data, [14.0, 77.0]);
}
