//! Layers of the literature written in the language, with the weights of the public implementations: the sums, the sums of
//! squares and the first numbers that those gave (`tests/golden/families.json`, each record with its configuration).
//! A record's tensors are `fill(shape, s)[k] = sin((k + 1)(s + 0.731))`, row-major; parameter number i is `fill(10 + i)`, scaled.

use std::collections::BTreeMap;

use gdlc::symmetry::harmonics::{Normalisation, values_normalised};
use gdlc::tensor::eval::Array;

use super::draft::{read_json, run};
use super::programs::{checked, derived};

/// Relative to the root of the sum of squares.
const TOLERANCE: f64 = 1e-10;

fn fill(dims: &[usize], s: u32) -> Array {
    let n: usize = dims.iter().product();
    let data = (0..n).map(|k| ((k + 1) as f64 * (f64::from(s) + 0.731)).sin()).collect();
    Array { dims: dims.to_vec(), data }
}

/// `fill` over the root of its last dimension: how most records start their parameters.
fn scaled(dims: &[usize], s: u32) -> Array {
    map(&fill(dims, s), |x| x / (*dims.last().expect("a parameter has an axis") as f64).sqrt())
}

fn map(a: &Array, f: impl Fn(f64) -> f64) -> Array {
    Array { dims: a.dims.clone(), data: a.data.iter().map(|x| f(*x)).collect() }
}

fn shaped(a: &Array, dims: &[usize]) -> Array {
    assert_eq!(a.data.len(), dims.iter().product::<usize>());
    Array { dims: dims.to_vec(), data: a.data.clone() }
}

/// Arrays of one shape stacked along a new last axis.
fn stacked(parts: &[Array]) -> Array {
    let dims = parts[0].dims.iter().copied().chain([parts.len()]).collect();
    let data = (0..parts[0].data.len()).flat_map(|k| parts.iter().map(move |p| p.data[k])).collect();
    Array { dims, data }
}

fn table(indices: impl IntoIterator<Item = usize>) -> Array {
    let data: Vec<f64> = indices.into_iter().map(|k| k as f64).collect();
    Array { dims: vec![data.len()], data }
}

/// The results of the one model of a program.
fn results(
    text: &str,
    sizes: &[(&str, usize)],
    inputs: &[(&str, &Array)],
    weights: &[(&str, Array)],
) -> BTreeMap<String, Array> {
    let program = checked(text, &[]).unwrap_or_else(|e| panic!("{e:?}"));
    let weights = weights.iter().map(|(name, a)| (name.to_string(), a.clone())).collect();
    run(&derived(&program)[0], sizes, inputs, &weights)
}

/// The array has the record's numbers, in the record's order.
fn is(record: &str, y: &Array) {
    let records = read_json("tests/golden/families.json");
    let record = &records[record];
    let number = |key: &str| record[key].as_f64().expect("a number");
    assert_eq!(y.data.len() as f64, number("n"));
    let scale = number("sumsq").sqrt();
    let mut wrong = vec![(y.data.iter().sum::<f64>(), number("sum"), scale.max(number("sum").abs()))];
    wrong.push((y.data.iter().map(|x| x * x).sum(), number("sumsq"), scale * scale));
    let first = record["first"].as_array().expect("the first numbers");
    wrong.extend(y.data.iter().zip(first).map(|(x, z)| (*x, z.as_f64().expect("a number"), 1.0)));
    wrong.retain(|(found, expected, scale)| (found - expected).abs() > TOLERANCE * scale);
    assert!(wrong.is_empty(), "found, expected: {wrong:?}\nbegins {:?}", &y.data[..6.min(y.data.len())]);
}

fn channels_last(x: &Array) -> Array {
    x.permuted(&[0, 2, 3, 1])
}

fn channels_first(y: &Array) -> Array {
    y.permuted(&[0, 3, 1, 2])
}

#[test]
fn convolutions_on_grids() {
    let x = channels_last(&fill(&[2, 3, 8, 8], 1));
    let weights = [("linear1.weight", shaped(&fill(&[4, 3, 3, 3], 2), &[4, 3, 9]))];
    let sizes = [("h", 8), ("w", 8), ("batch", 2)];
    for (boundary, record) in [("torus", "cnn.torus3x3"), ("zero", "cnn.zero3x3")] {
        let text = format!(
            "domain Pixels = grid(h, w) {boundary}\nmodel Conv(x: Pixels -> 3): Pixels -> 4 = linear 4 over 3x3 nobias (x)\n"
        );
        is(record, &channels_first(&results(&text, &sizes, &[("x", &x)], &weights)["y"]));
    }
    let text = "domain Pixels = grid(h, w) zero\n\
                model Conv(x: Pixels -> 3) = linear 4 over 3x3 nobias (x) |> coarsen stride 2\n";
    is("cnn.zero3x3_s2", &channels_first(&results(text, &sizes, &[("x", &x)], &weights)["y"]));
}

#[test]
fn coarsening() {
    let x = channels_last(&fill(&[2, 3, 8, 8], 1));
    let sizes = [("h", 8), ("w", 8), ("batch", 2)];
    for (how, record) in [("coarsen max 2", "cnn.maxpool2"), ("coarsen 2", "cnn.avgpool2")] {
        let text = format!("domain Pixels = grid(h, w)\nmodel Half(x: Pixels -> 3) = x |> {how}\n");
        is(record, &channels_first(&results(&text, &sizes, &[("x", &x)], &[])["y"]));
    }
}

/// GrouPy turns by r quarters in its channel r as our regular representation does in its element r, and mirrors after.
#[test]
fn lifting_convolutions_of_groupy() {
    let x = channels_last(&fill(&[2, 3, 9, 9], 1));
    let weight = map(&fill(&[4, 3, 9], 10), |w| w / 3f64.sqrt());
    let bias = map(&fill(&[4], 11), |b| b / 2.0);
    let weights = [("linear1.weight", weight), ("linear1.bias", bias)];
    for (group, order, record) in [("p4", 4, "p4.lift"), ("p4m", 8, "p4m.lift")] {
        let text = format!(
            "domain Pixels = grid(n, n) under {group}\n\
             model Lift(x: Pixels -> 3): Pixels -> 4 regular = x |> linear 4 regular over 3x3\n"
        );
        let y = &results(&text, &[("n", 9), ("batch", 2)], &[("x", &x)], &weights)["y"];
        is(record, &shaped(y, &[2, 9, 9, 4, order]).permuted(&[0, 3, 4, 1, 2]));
    }
}

#[test]
fn deep_sets() {
    let (gamma, lambda) = (map(&fill(&[4, 3], 10), |w| w / 3f64.sqrt()), map(&fill(&[4, 3], 12), |w| -w / 3f64.sqrt()));
    let bias = map(&fill(&[4], 11), |b| b / 2.0);
    let x = shaped(&fill(&[2, 5, 3], 1), &[10, 3]);
    let index = table((0..10).map(|k| k / 5));
    let inputs = [("x", &x), ("Set.index", &index)];
    let text = "domain Set = set(n)\nmodel Layer(x: Set -> 3): Set -> 4 = x |> linear 4 over all\n";
    let weights = [("linear1.weight", stacked(&[gamma, lambda])), ("linear1.bias", bias)];
    is("deepsets.PermEqui2_mean", &results(text, &[("n", 10), ("samples", 2)], &inputs, &weights)["y"]);
}

#[test]
fn deep_sets_with_the_maximum() {
    let text = "domain Set = set(n)
model Layer(x: Set -> 3): Set -> 4 = {
  top[i] = max j: x[j]
  y[i]   = linear 4 (x[i]) - linear 4 nobias (top[i])
  y
}
";
    let x = shaped(&fill(&[2, 5, 3], 1), &[10, 3]);
    let index = table((0..10).map(|k| k / 5));
    let inputs = [("x", &x), ("Set.index", &index)];
    let weights = [
        ("y.linear.weight", map(&fill(&[4, 3], 10), |w| w / 3f64.sqrt())),
        ("y.linear.bias", map(&fill(&[4], 11), |b| b / 2.0)),
        ("y.linear2.weight", map(&fill(&[4, 3], 12), |w| w / 3f64.sqrt())),
    ];
    is("deepsets.PermEqui2_max", &results(text, &[("n", 10), ("samples", 2)], &inputs, &weights)["y"]);
}

/// `[head, place, d]` as `[place, head · d]`.
fn heads_last(x: &Array) -> Array {
    let (heads, n, d) = (x.dims[0], x.dims[1], x.dims[2]);
    shaped(&x.permuted(&[1, 0, 2]), &[n, heads * d])
}

#[test]
fn scaled_dot_product_attention() {
    let text = "domain Set = set(n)
model Attention(q: Set -> 2 scalar(4), k: Set -> 2 scalar(4), v: Set -> 2 scalar(4)) = {
  y[i] = attend j by dot(q[i], k[j]) / sqrt(4): v[j]
  y
}
";
    let [q, k, v] = [1, 2, 3].map(|s| heads_last(&fill(&[2, 6, 4], s)));
    let index = table([0; 6]);
    let inputs = [("q", &q), ("k", &k), ("v", &v), ("Set.index", &index)];
    let y = &results(text, &[("n", 6), ("samples", 1)], &inputs, &[])["y"];
    is("attn.sdpa", &shaped(y, &[6, 2, 4]).permuted(&[1, 0, 2]));
}

/// A matrix between two heads of four, `[out, in]`, as `[head out, head in, 4 · 4]`.
fn between_heads(w: &Array) -> Array {
    shaped(&shaped(w, &[2, 4, 2, 4]).permuted(&[0, 2, 1, 3]), &[2, 2, 16])
}

/// The attention block of the set transformer; its scale is that of all heads together.
#[test]
fn set_attention_blocks() {
    let text = "domain Set = set(n)
model SAB(x: Set -> 6) = {
  q    = linear 2 scalar(4) (x)
  k    = linear 2 scalar(4) (x)
  v    = linear 2 scalar(4) (x)
  y[i] = q[i] + attend j by dot(q[i], k[j]) / sqrt(8): v[j]
  o    = linear 2 scalar(4) (y)
  z    = y + relu(o)
  z
}
";
    let mut weights = Vec::new();
    for (name, s) in [("q", 10), ("k", 12), ("v", 14)] {
        let rows = shaped(&scaled(&[8, 6], s), &[2, 4, 6]).permuted(&[0, 2, 1]);
        weights.push((format!("{name}.linear.weight"), rows));
        weights.push((format!("{name}.linear.bias"), shaped(&scaled(&[8], s + 1), &[2, 4])));
    }
    weights.push(("o.linear.weight".into(), between_heads(&scaled(&[8, 8], 16))));
    weights.push(("o.linear.bias".into(), shaped(&scaled(&[8], 17), &[2, 4])));
    let weights: Vec<(&str, Array)> = weights.iter().map(|(name, a)| (name.as_str(), a.clone())).collect();
    let x = shaped(&fill(&[2, 7, 6], 1), &[14, 6]);
    let index = table((0..14).map(|k| k / 7));
    let inputs = [("x", &x), ("Set.index", &index)];
    is("set.SAB", &results(text, &[("n", 14), ("samples", 2)], &inputs, &weights)["z"]);
}

/// The set transformer's block with four learnt points between: they attend to the set, and the set to them. What the reference computes of
/// the points alone, their queries, is given; its maps that all points share have the same weights here at each.
#[test]
fn induced_set_attention_blocks() {
    let layers = "domain Set = set(n)
layer induced(k: Set -> 2 scalar(4), v: Set -> 2 scalar(4)): Set -> 2 scalar(4) = {
  q    = learn q: 2 scalar(4) = zeros
  y[i] = q + attend j by dot(q, k[j]) / sqrt(8): v[j]
  o    = linear 2 scalar(4) (y)
  y + relu(o)
}
layer likeness(q: Set -> 2 scalar(4), h: Set -> 2 scalar(4)): Set -> 2 = {
  k = linear 2 scalar(4) (h)
  exp(dot(q, k) / sqrt(8))
}
";
    let each = |f: &dyn Fn(usize) -> String, between: &str| (1..=4).map(f).collect::<Vec<_>>().join(between);
    let text = format!(
        "{layers}model ISAB(x: Set -> 6) = {{
  q = linear 2 scalar(4) (x)
  k = linear 2 scalar(4) (x)
  v = linear 2 scalar(4) (x)
{}
  y = q + ({}) / ({})
  o = linear 2 scalar(4) (y)
  z = y + relu(o)
  z
}}
",
        each(
            &|p| format!("  h{p} = induced(k, v)\n  e{p} = likeness(q, h{p})\n  v{p} = linear 2 scalar(4) (h{p})"),
            "\n"
        ),
        each(&|p| format!("e{p} * v{p}"), " + "),
        each(&|p| format!("e{p}"), " + "),
    );
    let of_input = |s| shaped(&scaled(&[8, 6], s), &[2, 4, 6]).permuted(&[0, 2, 1]);
    let bias = |s| shaped(&scaled(&[8], s), &[2, 4]);
    let mut weights: Vec<(String, Array)> = Vec::new();
    let mut add = |name: String, weight: Array, seed: u32| {
        weights.push((format!("{name}.linear.weight"), weight));
        weights.push((format!("{name}.linear.bias"), bias(seed + 1)));
    };
    for (name, s) in [("k", 13), ("v", 15), ("q", 19)] {
        add(name.into(), of_input(s), s);
    }
    add("o".into(), between_heads(&scaled(&[8, 8], 25)), 25);
    for p in 1..=4 {
        add(format!("h{p}.induced.o"), between_heads(&scaled(&[8, 8], 17)), 17);
        add(format!("e{p}.likeness.k"), between_heads(&scaled(&[8, 8], 21)), 21);
        add(format!("v{p}"), between_heads(&scaled(&[8, 8], 23)), 23);
    }
    let (points, map, shift) = (scaled(&[4, 8], 10), scaled(&[8, 8], 11), scaled(&[8], 12));
    for p in 0..4 {
        let query =
            |o: usize| shift.data[o] + (0..8).map(|i| map.data[8 * o + i] * points.data[8 * p + i]).sum::<f64>();
        weights.push((format!("h{}.induced.q.q", p + 1), Array { dims: vec![8], data: (0..8).map(query).collect() }));
    }
    let weights: Vec<(&str, Array)> = weights.iter().map(|(name, a)| (name.as_str(), a.clone())).collect();
    let x = shaped(&fill(&[2, 7, 6], 1), &[14, 6]);
    let index = table((0..14).map(|k| k / 7));
    let inputs = [("x", &x), ("Set.index", &index)];
    is("set.ISAB", &results(&text, &[("n", 14), ("samples", 2)], &inputs, &weights)["z"]);
}

/// Edges both ways between these, by receiver.
const BONDS: [(usize, usize); 7] = [(0, 1), (0, 2), (1, 2), (2, 3), (3, 4), (4, 5), (1, 4)];

/// The records' edges (sender, receiver), each bond both ways, with the place of each in the records; by receiver.
fn edges(loops: bool) -> Vec<(usize, usize, usize)> {
    let forth = BONDS.iter().map(|(a, b)| (*a, *b));
    let back = BONDS.iter().map(|(a, b)| (*b, *a));
    let itself = (0..6).filter(|_| loops).map(|i| (i, i));
    let mut res: Vec<_> = forth.chain(back).chain(itself).enumerate().map(|(k, (j, i))| (j, i, k)).collect();
    res.sort_by_key(|(j, i, _)| (*i, *j));
    res
}

/// A layer on the six nodes of the records.
fn on_graph(text: &str, loops: bool, weights: &[(&str, Array)]) -> Array {
    let edges = edges(loops);
    let x = fill(&[6, 3], 1);
    let senders = table(edges.iter().map(|e| e.0));
    let receivers = table(edges.iter().map(|e| e.1));
    let inputs = [("x", &x), ("Graph.senders", &senders), ("Graph.receivers", &receivers)];
    let text = format!("domain Graph = graph(n, m)\n{text}");
    results(&text, &[("n", 6), ("m", edges.len()), ("samples", 1)], &inputs, weights)["y"].clone()
}

#[test]
fn graph_convolution() {
    let text = "model GCN(x: Graph -> 3): Graph -> 4 = {
  z    = linear 4 nobias (x)
  y[i] = sum j~i: z[j] / sqrt(degree(i) * degree(j))
  b    = learn b: 4 = zeros
  y + b
}
";
    let weights = [("z.linear.weight", scaled(&[4, 3], 11)), ("b.b", scaled(&[4], 10))];
    is("gnn.GCN", &on_graph(text, true, &weights));
}

#[test]
fn graph_attention_with_two_heads() {
    let text = "model GAT(x: Graph -> 3): Graph -> 2 scalar(4) = {
  z    = linear 2 scalar(4) nobias (x)
  y[i] = attend j~i by leaky_relu(dot(learn t: 2 scalar(4), z[i]) + dot(learn s: 2 scalar(4), z[j])): z[j]
  y + learn b: 2 scalar(4)
}
";
    let attention = |s| shaped(&scaled(&[1, 2, 4], s), &[8]);
    let weights = [
        ("z.linear.weight", shaped(&scaled(&[8, 3], 13), &[2, 4, 3]).permuted(&[0, 2, 1])),
        ("y.t", attention(11)),
        ("y.s", attention(10)),
        ("b", scaled(&[8], 12)),
    ];
    is("gnn.GAT", &on_graph(text, true, &weights));
}

#[test]
fn graph_isomorphism() {
    let text = "model GIN(x: Graph -> 3): Graph -> 4 = {
  z[i] = x[i] * (1 + learn eps: 1) + sum j~i: x[j]
  z |> linear 5 |> relu |> linear 4
}
";
    let weights = [
        ("z.eps", fill(&[1], 10)),
        ("linear1.weight", scaled(&[5, 3], 11)),
        ("linear1.bias", scaled(&[5], 12)),
        ("linear2.weight", scaled(&[4, 5], 13)),
        ("linear2.bias", scaled(&[4], 14)),
    ];
    is("gnn.GIN", &on_graph(text, false, &weights));
}

#[test]
fn graph_sage_with_the_mean() {
    let text = "model SAGE(x: Graph -> 3): Graph -> 4 = {
  y[i] = linear 4 (mean j~i: x[j]) + linear 4 nobias (x[i])
  y
}
";
    let weights = [
        ("y.linear.weight", scaled(&[4, 3], 10)),
        ("y.linear.bias", scaled(&[4], 11)),
        ("y.linear2.weight", scaled(&[4, 3], 12)),
    ];
    is("gnn.SAGEmean", &on_graph(text, false, &weights));
}

/// The 15 maps of Maron et al. in the order of their code, as growth strings of (row out, column out, row in, column in).
const MARON: [&str; 15] = [
    "0000", "0011", "0001", "0010", "0012", "0120", "0102", "0121", "0112", "0101", "0110", "0100", "0111", "0122",
    "0123",
];

#[test]
fn invariant_graph_networks() {
    let a = fill(&[2, 2, 4, 4], 1).permuted(&[0, 2, 3, 1]);
    let theirs = fill(&[2, 3, 15], 2).permuted(&[1, 0, 2]);
    let mut ours: Vec<(usize, &str)> = MARON.iter().copied().enumerate().collect();
    ours.sort_by_key(|(_, string)| *string);
    let weight = |row: &[f64]| ours.iter().map(|(k, _)| row[*k]).collect::<Vec<_>>();
    let weight = Array { dims: vec![3, 2, 15], data: theirs.data.chunks(15).flat_map(weight).collect() };
    let text = "domain Set = set(n)\ndomain Pairs = Set * Set\n\
                model Layer(a: Pairs -> 2): Pairs -> 3 = a |> linear 3 over all nobias\n";
    let y = &results(text, &[("n", 4), ("batch", 2)], &[("a", &a)], &[("linear1.weight", weight)])["y"];
    is("ign.2to2", &channels_first(y));
}

#[test]
fn equivariant_graph_networks() {
    let text = "domain Cloud = points(n, m) in R3 under E(3)
model EGNN(h: Cloud -> 3, x: Cloud -> position) = {
  m[i,j] = silu(mlp[4, 4](h[i], h[j], |x[i] - x[j]|^2))
  g[i]   = h[i] + mlp[4, 3](h[i], sum j~i: m[i,j])
  g
}
";
    let pairs: Vec<(usize, usize)> = (0..25).map(|k| (k % 5, k / 5)).filter(|(j, i)| j != i).collect();
    let (senders, receivers) = (table(pairs.iter().map(|p| p.0)), table(pairs.iter().map(|p| p.1)));
    let (h, x) = (fill(&[5, 3], 1), fill(&[5, 3], 2));
    let inputs = [("h", &h), ("x", &x), ("Cloud.senders", &senders), ("Cloud.receivers", &receivers)];
    let mut weights = Vec::new();
    let shapes = [("m", 10, 4, 7), ("m", 12, 4, 4), ("g", 14, 4, 7), ("g", 16, 3, 4)];
    for (k, (name, s, out, input)) in shapes.into_iter().enumerate() {
        let layer = k % 2 + 1;
        weights.push((format!("{name}.mlp.{layer}.weight"), scaled(&[out, input], s)));
        weights.push((format!("{name}.mlp.{layer}.bias"), scaled(&[out], s + 1)));
    }
    let weights: Vec<(&str, Array)> = weights.iter().map(|(name, a)| (name.as_str(), a.clone())).collect();
    let sizes = [("n", 5), ("m", 20), ("samples", 1)];
    is("egnn.h", &results(text, &sizes, &inputs, &weights)["g"]);
}

/// e3nn joins the weights of its paths in a row, `[in, out]` each, and divides by the root of the copies that come in.
#[test]
fn linear_maps_of_irreps() {
    let text = "domain Atoms = points(n, m) in R3 under O(3)
model Linear(x: Atoms -> 4x0e + 3x1o): Atoms -> 5x0e + 2x1o = x |> linear 5x0e + 2x1o nobias
";
    let all = fill(&[26], 10);
    let block = |start: usize, n: usize, m: usize| {
        let data = all.data[start..start + n * m].iter().map(|w| w / (n as f64).sqrt()).collect();
        Array { dims: vec![n, m], data }.permuted(&[1, 0])
    };
    let weights = [("linear1.weight.0e", block(0, 4, 5)), ("linear1.weight.1o", block(20, 3, 2))];
    let x = fill(&[2, 13], 1);
    let y = &results(text, &[("n", 2), ("m", 0), ("samples", 1)], &[("x", &x)], &weights)["y"];
    is("e3nn.Linear", y);
}

/// Gaussian mixture convolution, Monti et al. 2017: three patches, each a Gaussian of the features of an edge.
#[test]
fn mixture_of_gaussians() {
    let text = "domain Graph = graph(n, m)
layer patch(x: Graph -> 3, e: Graph.edges -> 2): Graph -> 4 = {
  z    = linear 4 nobias (x)
  y[i] = mean j~i: exp(-|(e[i,j] - (learn mu: 2)) / (learn sigma: 2)|^2 / 2) * z[j]
  y
}
model MoNet(x: Graph -> 3, e: Graph.edges -> 2): Graph -> 4 = patch(x, e) + patch(x, e) + patch(x, e) + linear 4 (x)
";
    let edges = edges(false);
    let features = fill(&[14, 2], 2);
    // the record has each bond forth and then back
    let place = |k: usize| if k < BONDS.len() { 2 * k } else { 2 * (k - BONDS.len()) + 1 };
    let data = edges.iter().flat_map(|(_, _, k)| features.data[2 * place(*k)..2 * place(*k) + 2].to_vec()).collect();
    let (x, e) = (fill(&[6, 3], 1), Array { dims: vec![14, 2], data });
    let (senders, receivers) = (table(edges.iter().map(|e| e.0)), table(edges.iter().map(|e| e.1)));
    let inputs = [("x", &x), ("e", &e), ("Graph.senders", &senders), ("Graph.receivers", &receivers)];
    let (g, mu, sigma) = (scaled(&[3, 12], 10), scaled(&[3, 2], 11), scaled(&[3, 2], 12));
    let mut weights: Vec<(String, Array)> =
        vec![("linear1.bias".into(), scaled(&[4], 13)), ("linear1.weight".into(), scaled(&[4, 3], 14))];
    for k in 0..3 {
        let row = |w: &Array| Array { dims: vec![2], data: w.data[2 * k..2 * k + 2].to_vec() };
        let data = (0..4).flat_map(|o| (0..3).map(move |i| (i, o))).map(|(i, o)| g.data[12 * i + 4 * k + o]).collect();
        weights.push((format!("patch{}.z.linear.weight", k + 1), Array { dims: vec![4, 3], data }));
        weights.push((format!("patch{}.y.mu", k + 1), row(&mu)));
        weights.push((format!("patch{}.y.sigma", k + 1), row(&sigma)));
    }
    let weights: Vec<(&str, Array)> = weights.iter().map(|(name, w)| (name.as_str(), w.clone())).collect();
    is("gnn.MoNet_GMM", &results(text, &[("n", 6), ("m", 14), ("samples", 1)], &inputs, &weights)["y"]);
}

/// e3nn's fully connected tensor product of features with the harmonics of five vectors, each with weights of its own. e3nn joins the weights
/// of its paths in a row, by (a, b, out), `[a, b, out]` each, and divides by the root of the products of copies that come in.
#[test]
fn tensor_products_of_irreps() {
    let text = "domain Atoms = points(n, m) in R3 under O(3)
model Product(a: Atoms -> 4x0e + 3x1o + 2x2e, b: Atoms -> 0e + 1o + 2e): Atoms -> 4x0e + 3x1o + 2x2e =
  bilinear 4x0e + 3x1o + 2x2e (a, b)
";
    const KINDS: [(&str, usize, i32); 3] = [("0e", 4, 0), ("1o", 3, 1), ("2e", 2, 2)];
    let couples = |a: i32, b: i32, out: i32| (a - b).abs() <= out && out <= a + b && (a + b + out) % 2 == 0;
    let copies = |out: i32| {
        let pairs = KINDS.iter().flat_map(|a| KINDS.iter().map(move |b| (a.1, a.2, b.2)));
        pairs.filter(|(_, a, b)| couples(*a, *b, out)).map(|(copies, _, _)| copies).sum::<usize>() as f64
    };
    let (a, r, all) = (fill(&[5, 23], 1), fill(&[5, 3], 2), fill(&[5, 94], 3));
    let mut found = Vec::new();
    for edge in 0..5 {
        let mut rest = &all.data[94 * edge..94 * (edge + 1)];
        let mut weights = Vec::new();
        for (first, n_first, a) in KINDS {
            for (second, _, b) in KINDS {
                for (out, n_out, o) in KINDS.into_iter().filter(|(_, _, o)| couples(a, b, *o)) {
                    let (block, after) = rest.split_at(n_first * n_out);
                    rest = after;
                    let data = block.iter().map(|w| w / copies(o).sqrt()).collect();
                    let block = Array { dims: vec![n_first, 1, n_out], data }.permuted(&[2, 0, 1]);
                    weights.push((format!("bilinear1.weight.{out}.{first}.{second}"), block));
                }
            }
        }
        assert!(rest.is_empty());
        let vector = [r.data[3 * edge], r.data[3 * edge + 1], r.data[3 * edge + 2]];
        let b = Array { dims: vec![1, 9], data: values_normalised(2, vector, Normalisation::Component) };
        let a = Array { dims: vec![1, 23], data: a.data[23 * edge..23 * (edge + 1)].to_vec() };
        let weights: Vec<(&str, Array)> = weights.iter().map(|(name, w)| (name.as_str(), w.clone())).collect();
        let sizes = [("n", 1), ("m", 0), ("samples", 1)];
        found.extend(results(text, &sizes, &[("a", &a), ("b", &b)], &weights)["y"].data.clone());
    }
    is("e3nn.TP", &Array { dims: vec![5, 23], data: found });
}

/// NequIP's tensor product of 8x0e + 8x1o with the harmonics 0e + 1o of five vectors, a weight a channel and path. e3nn keeps the results of
/// paths into one irrep apart, sorted by irrep; ours adds them up: each path is taken alone, the others' weights are zero.
#[test]
fn tensor_products_of_channels() {
    let text = "domain Atoms = points(n, m) in R3 under O(3)
model Product(a: Atoms -> 8x0e + 8x1o, b: Atoms -> 8x0e + 8x1o) = {
  y = depthwise bilinear 8x0e + 8x1o + 8x1e (a, b)
  y
}
";
    // out, a, b, and where the result has the numbers of out
    const PATHS: [(&str, &str, &str, std::ops::Range<usize>); 5] = [
        ("0e", "0e", "0e", 0..8),
        ("0e", "1o", "1o", 0..8),
        ("1o", "0e", "1o", 8..32),
        ("1o", "1o", "0e", 8..32),
        ("1e", "1o", "1o", 32..56),
    ];
    let (x, r, w) = (fill(&[5, 32], 1), fill(&[5, 3], 2), fill(&[5, 40], 3));
    let mut found = Vec::new();
    for edge in 0..5 {
        let a = Array { dims: vec![1, 32], data: x.data[32 * edge..32 * (edge + 1)].to_vec() };
        let vector = [r.data[3 * edge], r.data[3 * edge + 1], r.data[3 * edge + 2]];
        let harmonics = values_normalised(1, vector, Normalisation::Component);
        let copied = [harmonics[..1].repeat(8), harmonics[1..].repeat(8)].concat();
        let b = Array { dims: vec![1, 32], data: copied };
        for (path, (out, first, second, range)) in PATHS.into_iter().enumerate() {
            let weight = |k: usize, (o, i, j): (&str, &str, &str)| {
                let alone = Array { dims: vec![8], data: w.data[40 * edge + 8 * path..][..8].to_vec() };
                let data = if k == path { alone } else { Array { dims: vec![8], data: vec![0.0; 8] } };
                (format!("y.bilinear.weight.{o}.{i}.{j}"), data)
            };
            let weights = PATHS.iter().enumerate().map(|(k, (o, i, j, _))| weight(k, (o, i, j)));
            let weights: Vec<(String, Array)> = weights.collect();
            let weights: Vec<(&str, Array)> = weights.iter().map(|(name, w)| (name.as_str(), w.clone())).collect();
            let inputs = [("a", &a), ("b", &b)];
            let y = &results(text, &[("n", 1), ("m", 0), ("samples", 1)], &inputs, &weights)["y"];
            assert_eq!(y.data.len(), 56, "{out} of {first} and {second}");
            found.extend_from_slice(&y.data[range]);
        }
    }
    is("e3nn.nequip_uvu", &Array { dims: vec![5, 88], data: found });
}

/// An encoder layer of the Transformer, normalised after each sum. The normalisation of torch also subtracts the mean over channels, which `norm` does not.
#[test]
fn transformer_encoder_layers() {
    let text = "domain Set = set(n)
layer layernorm(x: Set -> 8): Set -> 8 = {
  one = learn one: 8 = ones
  c   = x - dot(one, x) / 8 * one
  c / sqrt(dot(c, c) / 8 + 1/100000) * learn scale: 8 = ones + learn shift: 8 = zeros
}
model Encoder(x: Set -> 8): Set -> 8 = {
  q    = linear 2 scalar(4) (x)
  k    = linear 2 scalar(4) (x)
  v    = linear 2 scalar(4) (x)
  a[i] = attend j by dot(q[i], k[j]) / sqrt(4): v[j]
  h    = layernorm(x + linear 8 (a))
  layernorm(h + (h |> linear 16 |> relu |> linear 8))
}
";
    let (all, biases) = (scaled(&[24, 8], 10), scaled(&[24], 11));
    let mut weights = Vec::new();
    for (k, name) in ["q", "k", "v"].into_iter().enumerate() {
        let rows = Array { dims: vec![2, 4, 8], data: all.data[64 * k..64 * (k + 1)].to_vec() };
        weights.push((format!("{name}.linear.weight"), rows.permuted(&[0, 2, 1])));
        let bias = Array { dims: vec![2, 4], data: biases.data[8 * k..8 * (k + 1)].to_vec() };
        weights.push((format!("{name}.linear.bias"), bias));
    }
    let out = [("h.linear.weight", shaped(&scaled(&[8, 8], 12), &[8, 2, 4])), ("h.linear.bias", scaled(&[8], 13))];
    let feed = [
        ("linear1.weight", scaled(&[16, 8], 14)),
        ("linear1.bias", scaled(&[16], 15)),
        ("linear2.weight", scaled(&[8, 16], 16)),
        ("linear2.bias", scaled(&[8], 17)),
    ];
    weights.extend(out.into_iter().chain(feed).map(|(name, w)| (name.to_string(), w)));
    for (k, norm) in ["h.layernorm", "layernorm1"].into_iter().enumerate() {
        weights.push((format!("{norm}.one.one"), Array { dims: vec![8], data: vec![1.0; 8] }));
        weights.push((format!("{norm}.scale"), scaled(&[8], 18 + 2 * k as u32)));
        weights.push((format!("{norm}.shift"), scaled(&[8], 19 + 2 * k as u32)));
    }
    let weights: Vec<(&str, Array)> = weights.iter().map(|(name, a)| (name.as_str(), a.clone())).collect();
    let x = shaped(&fill(&[2, 5, 8], 1), &[10, 8]);
    let index = table((0..10).map(|k| k / 5));
    let inputs = [("x", &x), ("Set.index", &index)];
    is("attn.encoderlayer", &results(text, &[("n", 10), ("samples", 2)], &inputs, &weights)["y"]);
}

/// The processors of algorithmic reasoning on a cycle of four nodes that are neighbours of themselves too. Haiku's parameter number k is `linear_<k>`:
/// a bias and a matrix `[in, out]`, each over the root of its first dimension.
fn processor(
    text: &str,
    receiver_is_row: bool,
    linears: &[(&str, usize, [usize; 2])],
    other: &[(&str, Array)],
) -> Array {
    let by_first = |a: Array| map(&a, |x| x / (a.dims[0] as f64).sqrt());
    let mut weights: Vec<(String, Array)> = other.iter().map(|(name, w)| (name.to_string(), w.clone())).collect();
    for (name, k, [n_in, n_out]) in linears {
        let seed = 10 + 2 * *k as u32;
        let (bias, matrix) = (by_first(fill(&[*n_out], seed)), by_first(fill(&[*n_in, *n_out], seed + 1)));
        // the attention's maps go to two heads of two
        let heads = text.contains("2 scalar(2)");
        let matrix =
            if heads { shaped(&matrix, &[*n_in, 2, 2]).permuted(&[1, 0, 2]) } else { matrix.permuted(&[1, 0]) };
        weights.push((format!("{name}.weight"), matrix));
        weights.push((format!("{name}.bias"), if heads { shaped(&bias, &[2, 2]) } else { bias }));
    }
    let weights: Vec<(&str, Array)> = weights.iter().map(|(name, a)| (name.as_str(), a.clone())).collect();
    let edges: Vec<(usize, usize)> =
        (0..16).map(|k| (k / 4, k % 4)).filter(|(i, j): &(usize, usize)| i.abs_diff(*j) != 2).collect();
    let on_edges = fill(&[4, 4, 3], 2);
    let row = |(i, j): &(usize, usize)| if receiver_is_row { 4 * i + j } else { 4 * j + i };
    let data = edges.iter().flat_map(|e| on_edges.data[3 * row(e)..3 * row(e) + 3].to_vec()).collect();
    let e = Array { dims: vec![edges.len(), 3], data };
    let (x, hidden, g) = (fill(&[4, 3], 1), fill(&[4, 5], 4), fill(&[1, 3], 3));
    let (receivers, senders) = (table(edges.iter().map(|e| e.0)), table(edges.iter().map(|e| e.1)));
    let index = table([0; 4]);
    let inputs = [
        ("x", &x),
        ("hidden", &hidden),
        ("e", &e),
        ("g", &g),
        ("Graph.receivers", &receivers),
        ("Graph.senders", &senders),
        ("Graph.index", &index),
    ];
    results(text, &[("n", 4), ("m", edges.len()), ("samples", 1)], &inputs, &weights)["y"].clone()
}

#[test]
fn message_passing_processors() {
    let text = "domain Graph = graph(n, m)
model MPNN(x: Graph -> 3, hidden: Graph -> 5, e: Graph.edges -> 3, g: 3): Graph -> 5 = {
  z    = x ++ hidden
  a    = linear 5 (z)
  b    = linear 5 (z)
  f    = linear 5 (g)
  s[i] = max j~i: a[i] + b[j] + linear 5 (e[i,j]) + f
  relu(linear 5 (z) + linear 5 (s))
}
";
    let linears = [
        ("a.linear", 0, [8, 5]),
        ("b.linear", 1, [8, 5]),
        ("s.linear", 2, [3, 5]),
        ("f.linear", 3, [3, 5]),
        ("linear1", 4, [8, 5]),
        ("linear2", 5, [5, 5]),
    ];
    is("clrs.mpnn", &processor(text, false, &linears, &[]));
}

/// The slope of this `leaky_relu` below zero is 1/100.
#[test]
fn attention_processors() {
    let text = "domain Graph = graph(n, m)
model GATv2(x: Graph -> 3, hidden: Graph -> 5, e: Graph.edges -> 3, g: 3): Graph -> 2 scalar(2) = {
  z      = x ++ hidden
  v      = linear 2 scalar(2) (z)
  a      = linear 2 scalar(2) (z)
  b      = linear 2 scalar(2) (z)
  f      = linear 2 scalar(2) (g)
  p[i,j] = a[j] + b[i] + linear 2 scalar(2) (e[i,j]) + f
  s[i]   = attend j~i by dot(learn t: 2 scalar(2), relu(p[i,j]) - relu(-p[i,j]) / 100): v[j]
  relu(s + linear 2 scalar(2) (z))
}
";
    let linears = [
        ("v.linear", 0, [8, 4]),
        ("linear1", 1, [8, 4]),
        ("a.linear", 2, [8, 4]),
        ("b.linear", 3, [8, 4]),
        ("p.linear", 4, [3, 4]),
        ("f.linear", 5, [3, 4]),
    ];
    let heads: Vec<f64> = [23, 25].iter().flat_map(|s| fill(&[2, 1], *s).data).map(|x| x / 2f64.sqrt()).collect();
    let heads = [("s.t", Array { dims: vec![4], data: heads })];
    is("clrs.gatv2", &processor(text, true, &linears, &heads));
}
