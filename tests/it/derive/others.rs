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
fn plainly(others: bool, reduce: impl Fn(usize, usize, &[usize]) -> f64) -> Array {
    let mut data = vec![];
    for i in 0..6 {
        let seen: Vec<usize> = (0..6).filter(|j| INDEX[*j] == INDEX[i] && !(others && i == *j)).collect();
        data.extend((0..2).map(|k| reduce(i, k, &seen)));
    }
    Array { dims: vec![6, 2], data }
}

fn score(i: usize, j: usize) -> f64 {
    X[i][0] * X[j][0] + X[i][1] * X[j][1]
}

#[test]
fn reductions_over_all_points_and_all_others_are_those_of_plain_loops() {
    let program = checked(PROGRAM, &[]).unwrap_or_else(|e| panic!("{e:?}"));
    let x = Array { dims: vec![6, 2], data: X.concat() };
    let index = Array { dims: vec![6], data: INDEX.iter().map(|k| *k as f64).collect() };
    let inputs = [("x", &x), ("Set.index", &index)];
    let y = run(&derived(&program)[0], &[("n", 6), ("samples", 3)], &inputs, &BTreeMap::new());
    let sum = |i: usize, k: usize, seen: &[usize]| seen.iter().map(|j| X[i][k] * X[*j][k]).sum::<f64>();
    let mean = |i: usize, k: usize, seen: &[usize]| sum(i, k, seen) / seen.len().max(1) as f64;
    let max =
        |i: usize, k: usize, seen: &[usize]| seen.iter().map(|j| X[i][k] * X[*j][k]).reduce(f64::max).unwrap_or(0.0);
    let attend = |i: usize, k: usize, seen: &[usize]| {
        let total: f64 = seen.iter().map(|j| score(i, *j).exp()).sum();
        seen.iter().map(|j| score(i, *j).exp() / total * X[*j][k]).sum::<f64>()
    };
    for (name, expected) in [
        ("s", plainly(false, sum)),
        ("t", plainly(true, sum)),
        ("a", plainly(false, mean)),
        ("b", plainly(true, mean)),
        ("c", plainly(false, max)),
        ("d", plainly(true, max)),
        ("e", plainly(false, attend)),
        ("f", plainly(true, attend)),
        ("g", plainly(true, attend)),
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
