//! Deep sets, and attention within sets.

use super::*;

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
