//! Layers of the literature written in the language, with the weights of the public implementations: the sums, the sums of
//! squares and the first numbers that those gave (`tests/golden/families.json`, each record with its configuration).
//! A record's tensors are `fill(shape, s)[k] = sin((k + 1)(s + 0.731))`, row-major; parameter number i is `fill(10 + i)`, scaled.

mod graphs;
mod grids;
mod irreps;
mod sets;

use std::collections::BTreeMap;

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
