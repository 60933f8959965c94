//! e3nn's maps of irreps and their products.

use gdlc::symmetry::harmonics::{Normalisation, values_normalised};

use super::*;

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
