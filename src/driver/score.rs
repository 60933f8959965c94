//! How well a classifier does: accuracy against labels, by group where the file has groups.

use crate::driver::failure::Failure;
use crate::driver::tensors::{Numbers, Tensor, Tensors};

/// Accuracy on one group of samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// `all`, or `orientation 3`.
    pub name: String,
    pub right: usize,
    pub of: usize,
    /// The greatest difference of this group's outputs from the first group's, sample by sample, where the groups are equally long.
    pub difference: Option<f64>,
}

impl Row {
    /// The share of samples that were classified as labelled.
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.of.max(1) as f64
    }
}

/// Scores logits `[samples, classes]` against `labels [samples]`: all samples first, then each value of every other
/// whole-number tensor of the same length (`orientation`). Labels below 0 are not counted. Nothing where there are no labels, or the
/// outputs are no logits.
///
/// # Errors
/// Labels that are not one whole number a sample.
pub fn score(logits: &Tensor, tensors: &Tensors) -> Result<Vec<Row>, Failure> {
    let Some(labels) = tensors.get("labels") else { return Ok(Vec::new()) };
    let [samples, classes] = logits.shape[..] else { return Ok(Vec::new()) };
    let Numbers::Real(values) = &logits.numbers else { return Ok(Vec::new()) };
    let Some(labels) = labels.indices() else {
        return Err(Failure::call("`labels` are real numbers: they must be whole, one a sample"));
    };
    if labels.len() != samples {
        let found = labels.len();
        return Err(Failure::call(format!("`labels` has {found} entries for {samples} samples: one each is needed")));
    }
    if classes == 0 {
        return Ok(Vec::new());
    }
    let rows: Vec<&[f64]> = values.chunks(classes).collect();
    let mut res = vec![row("all".to_string(), &(0..samples).collect::<Vec<_>>(), &rows, labels)];
    for (name, tensor) in tensors {
        let Some(keys) = tensor.indices() else { continue };
        if name == "labels" || name.contains('.') || keys.len() != samples {
            continue;
        }
        res.extend(groups(name, keys, &rows, labels));
    }
    Ok(res)
}

fn groups(name: &str, keys: &[i64], rows: &[&[f64]], labels: &[i64]) -> Vec<Row> {
    let mut distinct: Vec<i64> = Vec::new();
    for key in keys {
        if !distinct.contains(key) {
            distinct.push(*key);
        }
    }
    if distinct.len() < 2 || distinct.len() > 64 {
        return Vec::new();
    }
    let members = |key: i64| -> Vec<usize> { (0..keys.len()).filter(|i| keys[*i] == key).collect() };
    let first = members(distinct[0]);
    let one = |key: &i64| {
        let of = members(*key);
        let mut res = row(format!("{name} {key}"), &of, rows, labels);
        res.difference = (of.len() == first.len()).then(|| difference(&first, &of, rows));
        res
    };
    distinct.iter().map(one).collect()
}

fn row(name: String, members: &[usize], rows: &[&[f64]], labels: &[i64]) -> Row {
    let counted: Vec<usize> = members.iter().copied().filter(|i| labels[*i] >= 0).collect();
    let right = counted.iter().filter(|i| argmax(rows[**i]) as i64 == labels[**i]).count();
    Row { name, right, of: counted.len(), difference: None }
}

fn difference(first: &[usize], other: &[usize], rows: &[&[f64]]) -> f64 {
    let pairs = first.iter().zip(other).flat_map(|(a, b)| rows[*a].iter().zip(rows[*b]));
    pairs.map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
}

fn argmax(row: &[f64]) -> usize {
    (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_scored_apart() {
        let logits = Tensor::real(vec![4, 2], vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 2.0, 1.5]);
        let index = |x: &[i64]| Tensor { shape: vec![x.len()], numbers: Numbers::Index(x.to_vec()) };
        let tensors =
            Tensors::from([("labels".to_string(), index(&[0, 1, 0, 1])), ("turn".to_string(), index(&[0, 0, 1, 1]))]);
        let rows = score(&logits, &tensors).unwrap();
        assert_eq!(
            rows.iter().map(|r| (r.name.as_str(), r.right, r.of)).collect::<Vec<_>>(),
            [("all", 3, 4), ("turn 0", 2, 2), ("turn 1", 1, 2)]
        );
        assert_eq!(rows[2].difference, Some(2.0));
    }

    #[test]
    fn labels_of_another_length_are_refused() {
        let labels = Tensor { shape: vec![3], numbers: Numbers::Index(vec![0, 1, 0]) };
        let said = score(&Tensor::real(vec![4, 2], vec![0.0; 8]), &Tensors::from([("labels".to_string(), labels)]));
        assert!(said.unwrap_err().message.contains("3 entries for 4 samples"));
        let labels = Tensors::from([("labels".to_string(), Tensor::real(vec![4], vec![0.0; 4]))]);
        let said = score(&Tensor::real(vec![4, 2], vec![0.0; 8]), &labels);
        assert!(said.unwrap_err().message.contains("must be whole"));
    }
}
