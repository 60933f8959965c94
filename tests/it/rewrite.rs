//! What rewriting must find by itself, on tensor programs made by hand, and what it must keep: meaning, cost, time.

use gdlc::base::size::Size;
use gdlc::rewrite::explain::check_proof;
use gdlc::rewrite::{Explain, Options, Report, optimise};
use gdlc::tensor::eval::{Arguments, Array, eval};
use gdlc::tensor::graph::{
    Affine, Axis, Constant, Function, Graph, Init, Input, InputKind, Outside, Relation, Val, Weight,
};
use gdlc::tensor::op::{Func, Node, Op, Reduction};
use gdlc::tensor::print::print;

/// A program being written, with sizes for the cost and small ones for the comparison.
#[derive(Default)]
struct Program {
    g: Graph,
    small: Vec<usize>,
    args: Arguments,
    seed: f64,
}

impl Program {
    /// A run-time size with its expected value; the comparison uses a small one.
    fn size(&mut self, name: &str, hint: usize, small: usize) -> Size {
        let var = self.g.sizes.intern(name, hint);
        self.small.push(small);
        self.args.sizes.push(small);
        Size::var(var)
    }

    fn fill(&mut self, dims: &[usize]) -> Array {
        self.seed += 1.0;
        let n: usize = dims.iter().product();
        Array { dims: dims.to_vec(), data: (0..n).map(|k| ((k + 1) as f64 * (self.seed + 0.731)).sin()).collect() }
    }

    fn input(&mut self, name: &str, dims: &[Size]) -> Val {
        let values: Vec<usize> = dims.iter().map(|d| self.args.size(*d)).collect();
        let array = self.fill(&values);
        self.args.inputs.insert(name.into(), array);
        self.g.input(Input { name: name.into(), dims: dims.to_vec(), kind: InputKind::Real })
    }

    fn weight(&mut self, name: &str, dims: &[usize]) -> Val {
        let array = self.fill(dims);
        self.args.weights.insert(name.into(), array);
        self.g.weight(Weight { name: name.into(), dims: dims.to_vec(), init: Init::Normal(1.0) })
    }

    fn table(&mut self, name: &str, from: Size, to: Size) -> Val {
        let (n, range) = (self.args.size(from), self.args.size(to));
        let data = (0..n).map(|k| ((k * 7 + name.len() * 3) % range) as f64).collect();
        self.args.inputs.insert(name.into(), Array { dims: vec![n], data });
        let kind = InputKind::Table { range: to, sorted: false };
        let id = self.g.inputs.push(Input { name: name.into(), dims: vec![from], kind });
        self.g.relation(Relation { from: vec![from], to, map: Function::Table(id) })
    }

    /// Places `n` elements at `offset` of an axis of `total`.
    fn inclusion(&mut self, n: usize, offset: usize, total: usize) -> Val {
        let map = Function::Affine {
            scale: vec![1],
            offset: Affine { constant: offset as i64, size: None },
            divisor: 1,
            outside: Outside::Never,
        };
        self.g.relation(Relation { from: vec![Size::fixed(n)], to: Size::fixed(total), map })
    }

    fn output(&mut self, val: &Val) {
        self.g.output(format!("y{}", self.g.outputs.len()), val, &val.axes.clone());
    }

    /// Optimises, and checks that the outputs are the same numbers and that the cost has not grown.
    fn optimise(&self) -> (Graph, Report) {
        let (new, report) = optimise(&self.g, &Options::default());
        println!("{}\n→\n{}", print(&self.g), print(&new));
        println!("{:.3e} → {:.3e} s, {:?}, {:?}", report.before, report.after, report.laws, report.time);
        let (a, b) = (eval(&self.g, &self.args).unwrap(), eval(&new, &self.args).unwrap());
        for (name, a) in &a {
            assert_eq!(a.dims, b[name].dims);
            for (x, y) in a.data.iter().zip(&b[name].data) {
                assert!((x - y).abs() <= 1e-9 * (1.0 + x.abs()), "{name}: {x} became {y}");
            }
        }
        assert!(report.after <= report.before * (1.0 + 1e-9), "{} grew to {}", report.before, report.after);
        (new, report)
    }
}

fn at(val: &Val, axes: &[Axis]) -> Val {
    Val { id: val.id, axes: axes.to_vec() }
}

/// The products in a graph with the expected size of their results.
fn products(g: &Graph) -> Vec<(Vec<String>, f64)> {
    let size = |id| g.ty(id).dims.iter().map(|d| g.sizes.hint(*d) as f64).product::<f64>();
    let name = |id: egg::Id| match g.node(id).op {
        Op::Input(i) => g.inputs[i].name.clone(),
        Op::Weight(i) => g.weights[i].name.clone(),
        Op::Constant(i) => g.constants[i].name.clone(),
        Op::Relation(i) => match g.relations[i].map {
            Function::Table(t) => g.inputs[t].name.clone(),
            Function::Paired(_) => "pairs".into(),
            Function::Constant(_) | Function::Affine { .. } => "affine".into(),
        },
        Op::Contract | Op::Sum | Op::Map(_) | Op::Reduce(_) | Op::View => format!("%{id}"),
    };
    let product = |(id, node): (egg::Id, &Node)| {
        (node.op == Op::Contract).then(|| (node.args.iter().map(|a| name(*a)).collect(), size(id)))
    };
    g.nodes().filter_map(product).collect()
}

/// The size of the result of the product that reads `what`.
fn size_where(g: &Graph, what: &str) -> f64 {
    let found: Vec<f64> =
        products(g).into_iter().filter(|(names, _)| names.iter().any(|n| n == what)).map(|(_, n)| n).collect();
    assert_eq!(found.len(), 1, "products with {what}: {:?}", products(g));
    found[0]
}

#[test]
fn a_x_w_is_multiplied_on_the_smaller_side() {
    // mixing 256 → 16 happens before the gather, 16 → 256 after the push
    for (ci, co) in [(256, 16), (16, 256)] {
        for pull_first in [false, true] {
            let mut p = Program::default();
            let (n, e) = (p.size("n", 1000, 4), p.size("e", 8000, 6));
            let (x, w) = (p.input("x", &[n, Size::fixed(ci)]), p.weight("w", &[ci, co]));
            let (src, dst) = (p.table("src", e, n), p.table("dst", e, n));
            let [edge, i, j, c, o] = [0; 5].map(|_| p.g.axis());
            let (src, dst) = (at(&src, &[edge, j]), at(&dst, &[edge, i]));
            let (x, w) = (at(&x, &[j, c]), at(&w, &[c, o]));
            let y = if pull_first {
                let xs = p.g.contract(&[&src, &x], &[edge, c]);
                let a = p.g.contract(&[&xs, &dst], &[i, c]);
                p.g.contract(&[&a, &w], &[i, o])
            } else {
                let h = p.g.contract(&[&x, &w], &[j, o]);
                let hs = p.g.contract(&[&src, &h], &[edge, o]);
                p.g.contract(&[&hs, &dst], &[i, o])
            };
            p.output(&y);
            let (new, _) = p.optimise();
            let pushed = size_where(&new, "dst");
            assert_eq!(pushed, 1000.0 * ci.min(co) as f64, "{ci} → {co}");
            assert_eq!(size_where(&new, "w"), 1000.0 * co as f64);
        }
    }
}

#[test]
fn the_first_layer_of_an_edge_mlp_is_split_into_products_per_node() {
    let mut p = Program::default();
    let (n, e) = (p.size("n", 1000, 4), p.size("e", 16000, 7));
    let c = 64;
    let (x, f) = (p.input("x", &[n, Size::fixed(c)]), p.input("f", &[e, Size::fixed(8)]));
    let (src, dst) = (p.table("src", e, n), p.table("dst", e, n));
    let w = p.weight("w", &[2 * c + 8, c]);
    let [edge, i, j, ch, h, k, o] = [0; 7].map(|_| p.g.axis());
    let parts = [p.inclusion(c, 0, 2 * c + 8), p.inclusion(c, c, 2 * c + 8), p.inclusion(8, 2 * c, 2 * c + 8)];
    let xs = p.g.contract(&[&at(&src, &[edge, j]), &at(&x, &[j, ch])], &[edge, ch]);
    let xd = p.g.contract(&[&at(&dst, &[edge, i]), &at(&x, &[i, ch])], &[edge, ch]);
    let placed: Vec<Val> = [(xs, ch), (xd, ch), (at(&f, &[edge, h]), h)]
        .iter()
        .zip(&parts)
        .map(|((v, a), part)| p.g.contract(&[v, &at(part, &[*a, k])], &[edge, k]))
        .collect();
    let cat = p.g.sum(&placed.iter().collect::<Vec<_>>());
    let y = p.g.contract(&[&cat, &at(&w, &[k, o])], &[edge, o]);
    let y = p.g.map(Func::Silu, &[&y]);
    p.output(&y);
    let (new, report) = p.optimise();
    // nothing of size edges x channels is multiplied by a c x c matrix
    for (id, node) in new.nodes().filter(|(_, n)| n.op == Op::Contract) {
        let dense = gdlc::tensor::cost::work(
            node,
            &node.args.iter().map(|a| gdlc::tensor::cost::operand(&new, *a)).collect::<Vec<_>>(),
        );
        assert!(dense.flops < 2.2 * 16000.0 * 8.0 * 64.0, "%{id}: {dense:?}");
    }
    assert!(report.after < 0.5 * report.before);
}

#[test]
fn a_mean_is_taken_before_the_matrix() {
    // deep sets: mean_i (x_i w + b) = (mean_i x_i) w + b
    let mut p = Program::default();
    let n = p.size("n", 1000, 5);
    let (x, w, b) = (p.input("x", &[n, Size::fixed(64)]), p.weight("w", &[64, 64]), p.weight("b", &[64]));
    let [i, c, o] = [0; 3].map(|_| p.g.axis());
    let y = p.g.contract(&[&at(&x, &[i, c]), &at(&w, &[c, o])], &[i, o]);
    let y = p.g.sum(&[&y, &at(&b, &[o])]);
    let s = p.g.contract(&[&y], &[o]);
    p.output(&s);
    let (new, _) = p.optimise();
    assert_eq!(size_where(&new, "w"), 64.0);
    assert!(products(&new).iter().all(|(_, size)| *size <= 64.0), "{:?}", products(&new));
}

#[test]
fn a_convolution_and_a_pointwise_map_after_it_become_one() {
    let mut p = Program::default();
    let b = p.size("b", 8, 2);
    let (n, ci, cm, co) = (6, 16, 64, 16);
    let x = p.input("x", &[b, Size::fixed(n), Size::fixed(ci)]);
    let (k, w) = (p.weight("k", &[3, ci, cm]), p.weight("w", &[cm, co]));
    let map = Function::Affine {
        scale: vec![1, 1],
        offset: Affine { constant: -1, size: None },
        divisor: 1,
        outside: Outside::Zero,
    };
    let win = p.g.relation(Relation { from: vec![Size::fixed(n), Size::fixed(3)], to: Size::fixed(n), map });
    let [bb, u, t, q, c, m, o] = [0; 7].map(|_| p.g.axis());
    let y = p.g.contract(&[&at(&x, &[bb, q, c]), &at(&win, &[u, t, q]), &at(&k, &[t, c, m])], &[bb, u, m]);
    let y = p.g.contract(&[&y, &at(&w, &[m, o])], &[bb, u, o]);
    p.output(&y);
    let (new, _) = p.optimise();
    // k · w is made once an update of the weights; one product reads the data
    let with_data = new.nodes().filter(|(id, n)| n.op == Op::Contract && new.ty(*id).needs.data).count();
    assert_eq!(with_data, 1);
    assert_eq!(size_where(&new, "w"), (3 * ci * co) as f64);
}

#[test]
fn clebsch_gordan_meets_the_harmonics_once_an_edge() {
    let mut p = Program::default();
    let (n, e) = (p.size("n", 1000, 3), p.size("e", 16000, 4));
    let (c, a, b, d) = (64, 3, 7, 5);
    let x = p.input("x", &[n, Size::fixed(c), Size::fixed(a)]);
    let (y, w) = (p.input("Y", &[e, Size::fixed(b)]), p.input("r", &[e, Size::fixed(c)]));
    let (src, dst) = (p.table("src", e, n), p.table("dst", e, n));
    let data = (0..a * b * d).map(|k| if k % 4 == 0 { k as f64 / 50.0 } else { 0.0 }).collect::<Vec<_>>();
    let cg = p.g.constant(Constant { name: "CG".into(), dims: vec![a, b, d], data: data.into() });
    let [edge, i, j, ch, ma, mb, md] = [0; 7].map(|_| p.g.axis());
    let xs = p.g.contract(&[&at(&src, &[edge, j]), &at(&x, &[j, ch, ma])], &[edge, ch, ma]);
    let t = p.g.contract(&[&xs, &at(&y, &[edge, mb])], &[edge, ch, ma, mb]);
    let t = p.g.contract(&[&t, &at(&cg, &[ma, mb, md])], &[edge, ch, md]);
    let t = p.g.contract(&[&t, &at(&w, &[edge, ch])], &[edge, ch, md]);
    let z = p.g.contract(&[&t, &at(&dst, &[edge, i])], &[i, ch, md]);
    p.output(&z);
    let (new, _) = p.optimise();
    // no tensor with edges and channels is stored: CG · Y is a factor without channels, or inside one kernel
    let largest = (16000 * a * d).max(1000 * c * d) as f64;
    assert!(products(&new).iter().all(|(_, n)| *n <= largest), "{:?}", products(&new));
    let flops: f64 = new
        .nodes()
        .map(|(_, n)| {
            gdlc::tensor::cost::work(
                n,
                &n.args.iter().map(|a| gdlc::tensor::cost::operand(&new, *a)).collect::<Vec<_>>(),
            )
            .flops
        })
        .sum();
    // 16000 edges, 64 channels, 27 of 105 entries or 15 pairs, two operations, and the radial weight
    assert!(flops < 16000.0 * 64.0 * 27.0 * 5.0, "{flops:e}");
}

#[test]
fn equivariant_maps_of_pairs_mix_channels_before_they_are_repeated() {
    // five of the fifteen maps of 2 → 2 on sets: identity, transpose, rows, all, diagonal
    let mut p = Program::default();
    let (n, c) = (p.size("n", 64, 3), 32);
    let x = p.input("x", &[n, n, Size::fixed(c)]);
    let w = p.weight("w", &[5 * c, c]);
    let [i, j, ch, k, o] = [0; 5].map(|_| p.g.axis());
    let x = at(&x, &[i, j, ch]);
    let rows = p.g.contract(&[&x], &[i, ch]);
    let all = p.g.contract(&[&x], &[ch]);
    let diagonal = p.g.contract(&[&at(&x, &[i, i, ch])], &[i, ch]);
    let maps = [x.clone(), at(&x, &[j, i, ch]), rows, all, diagonal];
    let placed: Vec<Val> = maps
        .iter()
        .enumerate()
        .map(|(t, v)| {
            let part = at(&p.inclusion(c, t * c, 5 * c), &[ch, k]);
            let out: Vec<Axis> = v.axes.iter().copied().filter(|a| *a != ch).chain([k]).collect();
            p.g.contract(&[v, &part], &out)
        })
        .collect();
    let stack = p.g.sum(&placed.iter().collect::<Vec<_>>());
    let y = p.g.contract(&[&stack, &at(&w, &[k, o])], &[i, j, o]);
    p.output(&y);
    let (new, _) = p.optimise();
    let large = |(_, node): &(egg::Id, &Node)| {
        let operands: Vec<_> = node.args.iter().map(|a| gdlc::tensor::cost::operand(&new, *a)).collect();
        gdlc::tensor::cost::work(node, &operands).flops >= (64 * 64 * c * c) as f64
    };
    assert_eq!(new.nodes().filter(large).count(), 2, "{}", print(&new));
}

#[test]
fn the_maximum_is_taken_only_over_what_depends_on_the_edge() {
    let mut p = Program::default();
    let (n, e, c) = (p.size("n", 1000, 4), p.size("e", 16000, 5), 64);
    let (a, b) = (p.input("a", &[n, Size::fixed(c)]), p.input("b", &[n, Size::fixed(c)]));
    let (src, dst) = (p.table("src", e, n), p.table("dst", e, n));
    let [edge, i, j, ch] = [0; 4].map(|_| p.g.axis());
    let dst = at(&dst, &[edge, i]);
    let ai = p.g.contract(&[&dst, &at(&a, &[i, ch])], &[edge, ch]);
    let bj = p.g.contract(&[&at(&src, &[edge, j]), &at(&b, &[j, ch])], &[edge, ch]);
    let sum = p.g.sum(&[&ai, &bj]);
    let y = p.g.reduce(Reduction::Max, &sum, &[&dst], &[i, ch]);
    p.output(&y);
    let (_, report) = p.optimise();
    assert!(report.laws.contains_key("max-plus"), "{:?}", report.laws);
    assert!(report.after < 0.8 * report.before, "{report:?}");
}

#[test]
fn what_needs_no_data_is_done_before_the_call() {
    let mut p = Program::default();
    let n = p.size("n", 1000, 4);
    let x = p.input("x", &[n, Size::fixed(32)]);
    let (u, v) = (p.weight("u", &[32, 32]), p.weight("v", &[32, 32]));
    let [i, a, b, c] = [0; 4].map(|_| p.g.axis());
    let y = p.g.contract(&[&at(&x, &[i, a]), &at(&u, &[a, b])], &[i, b]);
    let y = p.g.contract(&[&y, &at(&v, &[b, c])], &[i, c]);
    let y = p.g.scale(&y, 0.5);
    p.output(&y);
    let (new, _) = p.optimise();
    let with_data = new.nodes().filter(|(id, n)| !n.op.is_leaf() && new.ty(*id).needs.data).count();
    assert_eq!(with_data, 1, "{}", print(&new));
}

/// A message-passing network of `depth` layers.
fn network(depth: usize) -> Program {
    let mut p = Program::default();
    let (n, e, c) = (p.size("n", 1000, 4), p.size("e", 16000, 6), 64);
    let x = p.input("x", &[n, Size::fixed(c)]);
    let (src, dst) = (p.table("src", e, n), p.table("dst", e, n));
    let [edge, i, j, ch, k, o] = [0; 6].map(|_| p.g.axis());
    let mut x = at(&x, &[i, ch]);
    for layer in 0..depth {
        let (w, u, v) = (
            p.weight(&format!("w{layer}"), &[2 * c, c]),
            p.weight(&format!("u{layer}"), &[c, c]),
            p.weight(&format!("v{layer}"), &[c, c]),
        );
        let parts = [p.inclusion(c, 0, 2 * c), p.inclusion(c, c, 2 * c)];
        let xs = p.g.contract(&[&at(&src, &[edge, j]), &x.rename(&[(i, j)])], &[edge, ch]);
        let xd = p.g.contract(&[&at(&dst, &[edge, i]), &x], &[edge, ch]);
        let xs = p.g.contract(&[&xs, &at(&parts[0], &[ch, k])], &[edge, k]);
        let xd = p.g.contract(&[&xd, &at(&parts[1], &[ch, k])], &[edge, k]);
        let cat = p.g.sum(&[&xs, &xd]);
        let m = p.g.contract(&[&cat, &at(&w, &[k, o])], &[edge, o]);
        let m = p.g.map(Func::Silu, &[&m]).rename(&[(o, ch)]);
        let m = p.g.contract(&[&m, &at(&u, &[ch, o])], &[edge, o]);
        let m = p.g.contract(&[&m, &at(&dst, &[edge, i])], &[i, o]);
        let own = p.g.contract(&[&x, &at(&v, &[ch, o])], &[i, o]);
        let sum = p.g.sum(&[&m, &own]);
        let y = p.g.map(Func::Silu, &[&sum]).rename(&[(o, ch)]);
        x = p.g.sum(&[&y, &x]);
    }
    p.output(&x);
    p
}

#[test]
fn deep_programs_take_time_linear_in_their_depth_and_lose_nothing() {
    let (_, shallow) = network(3).optimise();
    let deep = network(30);
    let (new, report) = optimise(&deep.g, &Options::default());
    let nodes = |r: &Report| r.windows.iter().map(|w| w.nodes).sum::<usize>();
    println!("3: {:?}, {} nodes; 30: {:?}, {} nodes", shallow.time, nodes(&shallow), report.time, nodes(&report));
    assert!(nodes(&report) < 15 * nodes(&shallow));
    // the layers are equal windows but for the first and the last, and are searched once a sweep
    let searched = |r: &Report| r.windows.len() - r.again;
    assert!(searched(&report) <= searched(&shallow) + 6, "{} and {}", searched(&shallow), searched(&report));
    // every layer is as good as those of the shallow program
    assert!(report.after < 10.5 * shallow.after, "{} and {}", shallow.after, report.after);
    let again = optimise(&deep.g, &Options::default()).0;
    assert_eq!(print(&new), print(&again));
}

/// Far from the origin `|x|² - 2 x·y + |y|²` has no digit left of the distance of two close points.
#[test]
fn distances_of_close_points_keep_their_digits() {
    let mut p = Program::default();
    let (n, m) = (p.size("n", 2000, 5), p.size("m", 2000, 4));
    let (x, y) = (p.input("x", &[n, Size::fixed(64)]), p.input("y", &[m, Size::fixed(64)]));
    for name in ["x", "y"] {
        p.args.inputs.get_mut(name).expect("an input").data.iter_mut().for_each(|v| *v += 1e8);
    }
    let minus = p.g.scale(&at(&y, &[y.axes[0], x.axes[1]]), -1.0);
    let apart = p.g.sum(&[&x, &minus]);
    let squares = p.g.contract(&[&apart, &apart], &[x.axes[0], y.axes[0]]);
    p.g.output("d", &squares, &[x.axes[0], y.axes[0]]);
    let (new, _) = optimise(&p.g, &Options::default());
    let (exact, found) = (&eval(&p.g, &p.args).unwrap()["d"], &eval(&new, &p.args).unwrap()["d"]);
    for (a, b) in exact.data.iter().zip(&found.data) {
        assert!((a - b).abs() <= 1e-9 * a.abs(), "{a} became {b}");
    }
}

#[test]
fn windows_that_differ_in_a_constant_or_a_table_are_not_taken_for_each_other() {
    let mut p = Program::default();
    let (n, c) = (p.size("n", 1000, 4), 8);
    let x = p.input("x", &[n, Size::fixed(c)]);
    let tables = [p.table("one", n, n), p.table("another", n, n)];
    let [i, j, ch, o] = [0; 4].map(|_| p.g.axis());
    let mut x = at(&x, &[i, ch]);
    for layer in 0..400 {
        let (u, v) = (p.weight(&format!("u{layer}"), &[c, c]), p.weight(&format!("v{layer}"), &[c, c]));
        let (factor, table) = ([0.5, 0.7][layer / 100 % 2], &tables[layer / 200]);
        let y = p.g.contract(&[&x, &at(&u, &[ch, o])], &[i, o]).rename(&[(o, ch)]);
        let y = p.g.contract(&[&at(table, &[j, i]), &y], &[j, ch]).rename(&[(j, i)]);
        let y = p.g.contract(&[&y, &at(&v, &[ch, o])], &[i, o]).rename(&[(o, ch)]);
        let y = p.g.scale(&y, factor);
        x = p.g.map(Func::Tanh, &[&y]);
    }
    p.output(&x);
    let (_, report) = p.optimise();
    let searched = report.windows.len() - report.again;
    // four kinds of layers in two sweeps
    assert!(report.again > 20 && searched >= 8, "{searched} of {} searched", report.windows.len());
}

#[test]
fn a_derivation_is_shown_and_checked() {
    let p = network(1);
    let options = Options { explain: Explain::Derivation, ..Options::default() };
    let (_, report) = optimise(&p.g, &options);
    assert!(!report.proofs.is_empty());
    for proof in &report.proofs {
        println!("{}", proof.print());
        check_proof(proof).unwrap();
        assert!(!proof.steps.is_empty() && proof.steps.len() <= 12, "{} steps", proof.steps.len());
        assert!(proof.steps.iter().any(|s| s.law == "distribute"), "the edge layer is split");
        let last = proof.steps.last().unwrap().seconds;
        assert!(last < proof.before && last <= proof.after * (1.0 + 1e-9));
        // another law does not give these steps
        assert!(check_proof(&proof.forged("flatten-sum")).unwrap_err().contains("does not follow"));
    }
}
