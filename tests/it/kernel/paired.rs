//! Places of two tables that have the same ends in either order: numbered, read and summed as plain loops over all pairs of places say.

use super::*;
use gdlc::tensor::graph::{Paired, PairedWay};

const CHANNELS: usize = 5;

/// `first[e, c]`, `u` at the first place of the class of `e`; `all[e, c]`, `u` summed over the class; `count`, of classes; `again`, the
/// sum over classes of the squares of their sums.
fn graph() -> Graph {
    let mut case = Case::new();
    let (n, m) = (case.size("n", 0), case.size("m", 0));
    let u = case.input("u", &[m, Size::fixed(CHANNELS)]);
    let [e, c] = u.axes[..] else { panic!("two axes") };
    case.table("a", &[m], n, false);
    case.table("b", &[m], n, true);
    let ids: Vec<_> = case.g.inputs.ids().collect();
    let p = Size::var(case.g.sizes.counted("pairs", 500, m));
    let paired = |way| Function::Paired(Paired { ends: [ids[1], ids[2]], way });
    let class = case.relation(&[m], p, paired(PairedWay::Class));
    let first = case.relation(&[p], m, paired(PairedWay::First));
    let pair = class.axes[1];
    let class = class.rename(&[(class.axes[0], e)]);
    let first = first.rename(&[(first.axes[0], pair), (first.axes[1], e)]);
    let at_first = case.g.contract(&[&u, &first], &[pair, c]);
    let summed = case.g.contract(&[&u, &class], &[pair, c]);
    let square = case.g.contract(&[&summed, &summed], &[c]);
    let count = case.g.contract(&[&first], &[]);
    for (name, per_pair) in [("first", at_first), ("all", summed)] {
        let value = case.g.contract(&[&per_pair, &class], &[e, c]);
        case.g.output(name, &value, &[e, c]);
    }
    case.g.output("count", &count, &[]);
    case.g.output("again", &square, &[c]);
    case.g
}

/// The four outputs by loops over pairs of places.
fn by_loops(edges: &[[usize; 2]], u: &[f64]) -> BTreeMap<String, Array> {
    let same = |e: usize, f: usize| edges[e] == edges[f] || edges[e] == [edges[f][1], edges[f][0]];
    let class = |e: usize| (0..edges.len()).filter(move |f| same(e, *f)).collect::<Vec<_>>();
    let sum = |places: &[usize]| -> Vec<f64> {
        (0..CHANNELS).map(|c| places.iter().map(|f| u[f * CHANNELS + c]).sum()).collect()
    };
    let heads: Vec<usize> = (0..edges.len()).filter(|e| class(*e)[0] == *e).collect();
    let squares = (0..CHANNELS).map(|c| heads.iter().map(|e| sum(&class(*e))[c].powi(2)).sum());
    let each = |f: &dyn Fn(usize) -> Vec<f64>| Array {
        dims: vec![edges.len(), CHANNELS],
        data: (0..edges.len()).flat_map(f).collect(),
    };
    let scalar = |x: f64| Array { dims: vec![], data: vec![x] };
    [
        ("first", each(&|e| sum(&class(e)[..1]))),
        ("all", each(&|e| sum(&class(e)))),
        ("count", scalar(heads.len() as f64)),
        ("again", Array { dims: vec![CHANNELS], data: squares.collect() }),
    ]
    .map(|(name, array)| (name.to_string(), array))
    .into()
}

fn check(n: usize, mut edges: Vec<[usize; 2]>) {
    edges.sort_by_key(|edge| edge[1]);
    let u = fill(edges.len() * CHANNELS, 0.3);
    let expected = by_loops(&edges, &u);
    let m = edges.len();
    let mut args = Arguments { sizes: vec![n, m], ..Arguments::default() };
    let table = |k: usize| Array { dims: vec![m], data: edges.iter().map(|edge| edge[k] as f64).collect() };
    args.inputs.insert("u".into(), Array { dims: vec![m, CHANNELS], data: u });
    args.inputs.insert("a".into(), table(0));
    args.inputs.insert("b".into(), table(1));
    let graph = graph();
    gdlc::tensor::verify::verify(&graph).unwrap_or_else(|why| panic!("{why}"));
    let evaluated = eval(&graph, &args).expect("it evaluates");
    for hardware in [Hardware::Cpu, Hardware::Gpu] {
        let program = lower_for(&graph, "pairs", Dtype::F64, hardware);
        let numbers = evaluated.iter().map(|(name, array)| (name.clone(), array.data.clone())).collect();
        compare(&numbers, &expected, 1e-12, &program);
        compare(&run(&program, &args, Order::Backward), &expected, 1e-12, &program);
        let spread = spread_out(&program);
        compare(&run(&spread, &args, Order::Forward), &expected, 1e-12, &spread);
        for code in backends() {
            compare(&through_library(&program, code, &args), &expected, 1e-12, &program);
        }
    }
}

#[test]
fn edges_in_both_directions_are_one_pair() {
    check(5, (0..5).flat_map(|i| (0..5).map(move |j| [j, i])).filter(|[j, i]| i != j && (i + j) % 3 != 0).collect());
}

#[test]
fn an_edge_without_its_reverse_is_a_pair_of_its_own() {
    check(6, vec![[1, 0], [2, 0], [3, 1], [0, 4], [5, 4], [2, 5]]);
}

#[test]
fn doubled_edges_and_edges_of_a_point_to_itself_are_pairs_too() {
    check(4, vec![[0, 1], [1, 0], [0, 1], [2, 2], [2, 2], [3, 3], [1, 0], [3, 1], [0, 0]]);
}

#[test]
fn there_may_be_one_edge_or_none() {
    check(3, vec![[2, 1]]);
    check(3, vec![]);
    check(0, vec![]);
}

#[test]
fn many_edges_are_paired() {
    let edge = |k: usize| [(k * 7919 + k * k * 13) % 23, (k * 104_729 + k * k * 7) % 23];
    check(23, (0..300).map(edge).collect());
}
