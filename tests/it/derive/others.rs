//! `j` and `j != i` over the points of a sample, against plain loops.

use std::collections::BTreeMap;

use gdlc::tensor::eval::Array;

use super::draft::{distance, run};
use super::programs::{certified, checked, derived};

/// Samples of three points, one, and two.
const INDEX: [usize; 6] = [0, 0, 0, 1, 2, 2];
const X: [[f64; 2]; 6] = [[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5], [3.0, 1.0], [-1.0, 0.5], [0.125, 2.0]];

const PROGRAM: &str = "
domain Set = set(n)
model All(x: Set -> 2) = {
  s[i] = sum j: x[i] * x[j]
  t[i] = sum j != i: x[i] * x[j]
  a[i] = mean j: x[i] * x[j]
  b[i] = mean j != i: x[i] * x[j]
  c[i] = max j: x[i] * x[j]
  d[i] = max j != i: x[i] * x[j]
  e[i] = attend j by dot(x[i], x[j]): x[j]
  f[i] = attend j != i by dot(x[i], x[j]): x[j]
  p[i,j] = softmax j != i: dot(x[i], x[j])
  g[i] = sum j != i: p[i,j] * x[j]
  (s, t, a, b, c, d, e, f, g)
}
";

/// For each point and component a reduction over the points of its sample, the point itself left out or not.
fn plainly(index: &[usize], others: bool, reduce: impl Fn(usize, usize, &[usize]) -> f64) -> Array {
    let n = index.len();
    let mut data = vec![];
    for i in 0..n {
        let seen: Vec<usize> = (0..n).filter(|j| index[*j] == index[i] && !(others && i == *j)).collect();
        data.extend((0..2).map(|k| reduce(i, k, &seen)));
    }
    Array { dims: vec![n, 2], data }
}

fn score(i: usize, j: usize) -> f64 {
    X[i][0] * X[j][0] + X[i][1] * X[j][1]
}

#[test]
fn reductions_over_all_points_and_all_others_are_those_of_plain_loops() {
    compared(&INDEX, 3);
}

/// A set of one point has no others, and a set of no points has nothing: reductions of nothing are 0.
#[test]
fn sets_of_one_point_and_of_none() {
    compared(&[0], 1);
    compared(&[1], 3);
    compared(&[], 1);
    compared(&[], 0);
}

fn numbers(indices: &[usize]) -> Array {
    Array { dims: vec![indices.len()], data: indices.iter().map(|k| *k as f64).collect() }
}

fn compared(points: &[usize], samples: usize) {
    let program = checked(PROGRAM, &[]).unwrap_or_else(|e| panic!("{e:?}"));
    let x = Array { dims: vec![points.len(), 2], data: X[..points.len()].concat() };
    let index = numbers(points);
    let inputs = [("x", &x), ("Set.index", &index)];
    let y = run(&derived(&program)[0], &[("n", points.len()), ("samples", samples)], &inputs, &BTreeMap::new());
    let sum = |i: usize, k: usize, seen: &[usize]| seen.iter().map(|j| X[i][k] * X[*j][k]).sum::<f64>();
    let mean = |i: usize, k: usize, seen: &[usize]| sum(i, k, seen) / seen.len().max(1) as f64;
    let max =
        |i: usize, k: usize, seen: &[usize]| seen.iter().map(|j| X[i][k] * X[*j][k]).reduce(f64::max).unwrap_or(0.0);
    let attend = |i: usize, k: usize, seen: &[usize]| {
        let total: f64 = seen.iter().map(|j| score(i, *j).exp()).sum();
        seen.iter().map(|j| score(i, *j).exp() / total * X[*j][k]).sum::<f64>()
    };
    for (name, expected) in [
        ("s", plainly(points, false, sum)),
        ("t", plainly(points, true, sum)),
        ("a", plainly(points, false, mean)),
        ("b", plainly(points, true, mean)),
        ("c", plainly(points, false, max)),
        ("d", plainly(points, true, max)),
        ("e", plainly(points, false, attend)),
        ("f", plainly(points, true, attend)),
        ("g", plainly(points, true, attend)),
    ] {
        assert!(distance(&y[name], &expected) < 1e-12, "{name}: {:?} {expected:?}", y[name]);
    }
}

/// What a sample has once, an argument or a pooled value, beside the points of its pairs: of its own sample.
#[test]
fn what_a_sample_has_once_is_that_of_its_own() {
    let text = "
domain Set = set(n)
model Once(x: Set -> 2, t: 2) = {
  p = x |> pool sum
  a[i] = sum j: t * x[j]
  b[i] = sum j != i: p * x[j]
  m[i,j] = t * x[i] * x[j]
  c[i] = sum j: m[i,j]
  d[i] = attend j by dot(p, x[j]): x[j]
  (a, b, c, d)
}
";
    let program = checked(text, &[]).unwrap_or_else(|e| panic!("{e:?}"));
    let (samples, n) = (3, INDEX.len());
    let t = [[1.0, -0.5], [0.25, 2.0], [-3.0, 1.0]];
    let p = |i: usize, k: usize| (0..n).filter(|j| INDEX[*j] == INDEX[i]).map(|j| X[j][k]).sum::<f64>();
    let inputs = [
        ("x", &Array { dims: vec![n, 2], data: X.concat() }),
        ("t", &Array { dims: vec![samples, 2], data: t.concat() }),
        ("Set.index", &numbers(&INDEX)),
    ];
    let y = run(&derived(&program)[0], &[("n", n), ("samples", samples)], &inputs, &BTreeMap::new());
    let sum = |k: usize, seen: &[usize]| seen.iter().map(|j| X[*j][k]).sum::<f64>();
    for (name, expected) in [
        ("a", plainly(&INDEX, false, |i, k, seen| t[INDEX[i]][k] * sum(k, seen))),
        ("b", plainly(&INDEX, true, |i, k, seen| p(i, k) * sum(k, seen))),
        ("c", plainly(&INDEX, false, |i, k, seen| t[INDEX[i]][k] * X[i][k] * sum(k, seen))),
        (
            "d",
            plainly(&INDEX, false, |i, k, seen| {
                let weight = |j: usize| (p(i, 0) * X[j][0] + p(i, 1) * X[j][1]).exp();
                let total: f64 = seen.iter().map(|j| weight(*j)).sum();
                seen.iter().map(|j| weight(*j) / total * X[*j][k]).sum()
            }),
        ),
    ] {
        assert!(distance(&y[name], &expected) < 1e-12, "{name}: {:?} {expected:?}", y[name]);
    }
}

/// Nothing is computed at `j = i`: the inverse distance to itself would not be a number. Also on a line, where samples share a batch axis.
#[test]
fn what_is_not_defined_at_the_point_itself_does_no_harm() {
    certified(
        "
domain Charges = points(n, m) in R3 under E(3)
domain Ring = grid(k) torus
model Coulomb(q: Charges -> 1, r: Charges -> position) = {
  v[i] = sum j != i: q[j] / |r[i] - r[j]|
  f[i] = mean j != i: q[j] * (r[i] - r[j])
  (v, f)
}
model Line(x: Ring -> 2) = {
  y[i] = mean j != i: mlp[3, 2](x[i], x[j])
  z[i] = max j != i: dot(x[i], x[j])
  (y, z)
}
",
        &[],
    );
}

/// A node that nothing is sent to receives 0, whatever it would do with messages.
#[test]
fn graphs_without_edges_and_without_nodes() {
    let text = "
domain G = graph(n, m)
model M(x: G -> 2) = {
  a[i] = sum j ~ i: x[i] * x[j]
  b[i] = mean j ~ i: x[i] + x[j]
  c[i] = max j ~ i: x[j] + 1
  d[i] = attend j ~ i by dot(x[i], x[j]): x[j] + 1
  e[i] = x[i] / degree(i)
  s = pool sum (x)
  t = pool mean (x)
  (a, b, c, d, e, s, t)
}
";
    let program = checked(text, &[]).unwrap_or_else(|e| panic!("{e:?}"));
    let none = numbers(&[]);
    for n in [0, 3] {
        let x = Array { dims: vec![n, 2], data: X[..n].concat() };
        let index = numbers(&vec![0; n]);
        let inputs = [("x", &x), ("G.senders", &none), ("G.receivers", &none), ("G.index", &index)];
        let y = run(&derived(&program)[0], &[("n", n), ("m", 0), ("samples", 1)], &inputs, &BTreeMap::new());
        for name in ["a", "b", "c", "d", "e"] {
            assert_eq!(y[name], Array { dims: vec![n, 2], data: vec![0.0; 2 * n] }, "{name} of {n} nodes");
        }
        for (k, (sum, mean)) in y["s"].data.iter().zip(&y["t"].data).enumerate() {
            let expected: f64 = X[..n].iter().map(|x| x[k]).sum();
            assert!((sum - expected).abs() < 1e-14 && (mean - expected / n.max(1) as f64).abs() < 1e-14);
        }
        assert_eq!(y["s"].data.len(), 2);
    }
}
