//! The kinds of graph networks, invariant graph networks, and the processors of algorithmic reasoning.

use super::*;

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
