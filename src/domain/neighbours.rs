//! The edges between points closer than a cutoff, where space may repeat along the rows of a cell.
//! In: positions, the sample of each point, a cell a sample. Out: senders, receivers and cell shifts, by receiver.
//! Images of points are sorted into cubes as wide as the cutoff, so the time is linear in the points at a bounded density.

use std::collections::BTreeMap;

use crate::math::Matrix;

/// More images of one sample's points than this are refused: the cell is too small beside the cutoff.
const MAX_IMAGES: usize = 1 << 22;

/// Points of R^`dim`, and what is needed to know which of them are near.
#[derive(Clone, Debug)]
pub struct Cloud<'a> {
    pub dim: usize,
    /// `[points, dim]`
    pub positions: &'a [f64],
    /// The sample of each point.
    pub index: &'a [usize],
    /// `[samples, dim, dim]`, rows are the vectors by which space repeats; none where it does not.
    pub cells: Option<&'a [f64]>,
}

/// Edges by receiver, then sender, then shift.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edges {
    pub senders: Vec<usize>,
    pub receivers: Vec<usize>,
    /// `[edges, dim]`: the edge leads from the image of its sender at `r_sender + shift · cell`; nothing where space does not repeat.
    pub shifts: Vec<i64>,
}

/// An image of a point: where it is, and how many rows of the cell it lies from the point.
#[derive(Debug)]
struct Image {
    point: usize,
    shift: Vec<i64>,
    at: Vec<f64>,
}

/// All pairs of points of one sample, images included, whose distance is below `cutoff`; no point is its own neighbour, its images may be.
///
/// # Errors
/// A cell without volume, positions or cells that are not finite, or a cell so small that the cutoff meets too many images.
pub fn within(cloud: &Cloud, cutoff: f64) -> Result<Edges, String> {
    if !cloud.positions.iter().chain(cloud.cells.unwrap_or_default()).all(|x| x.is_finite()) {
        return Err("positions and cells must be finite numbers".to_string());
    }
    let mut samples: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (point, sample) in cloud.index.iter().enumerate() {
        samples.entry(*sample).or_default().push(point);
    }
    let mut found = Vec::new();
    for (sample, points) in &samples {
        found.extend(cloud.edges_of(*sample, points, cutoff)?);
    }
    found.sort();
    let mut edges = Edges::default();
    for (receiver, sender, shift) in found {
        edges.receivers.push(receiver);
        edges.senders.push(sender);
        edges.shifts.extend(shift);
    }
    Ok(edges)
}

type Edge = (usize, usize, Vec<i64>);

impl Cloud<'_> {
    fn at(&self, point: usize) -> &[f64] {
        &self.positions[point * self.dim..(point + 1) * self.dim]
    }

    fn edges_of(&self, sample: usize, points: &[usize], cutoff: f64) -> Result<Vec<Edge>, String> {
        let images = match self.cells {
            None => points.iter().map(|p| Image { point: *p, shift: vec![], at: self.at(*p).to_vec() }).collect(),
            Some(cells) => {
                let size = self.dim * self.dim;
                self.images(sample, points, &cells[sample * size..(sample + 1) * size], cutoff)?
            }
        };
        let cube = |at: &[f64]| -> Vec<i64> { at.iter().map(|x| (x / cutoff).floor() as i64).collect() };
        let mut cubes: BTreeMap<Vec<i64>, Vec<&Image>> = BTreeMap::new();
        for image in &images {
            cubes.entry(cube(&image.at)).or_default().push(image);
        }
        let mut edges = Vec::new();
        // The receivers are the points themselves: where space repeats, in the images without a shift.
        for receiver in images.iter().filter(|image| image.shift.iter().all(|s| *s == 0)) {
            for near in around(&cube(&receiver.at)) {
                for sender in cubes.get(&near).into_iter().flatten() {
                    let itself = sender.point == receiver.point && sender.shift == receiver.shift;
                    if !itself && distance(&sender.at, &receiver.at) < cutoff {
                        edges.push((receiver.point, sender.point, sender.shift.clone()));
                    }
                }
            }
        }
        Ok(edges)
    }

    /// The images that may be within the cutoff of a point. A sphere of radius c reaches `c / h` cells far along a row, with `h` the
    /// height of the cell over the other rows; `1 / h` is the length of a column of the inverse.
    fn images(&self, sample: usize, points: &[usize], cell: &[f64], cutoff: f64) -> Result<Vec<Image>, String> {
        let d = self.dim;
        let rows = Matrix::from_fn(d, d, |i, j| cell[i * d + j]);
        let inverse = rows.inverse().ok_or_else(|| format!("the cell of sample {sample} has no volume"))?;
        let columns = inverse.transpose();
        let fractions = |p: &usize| -> Vec<f64> {
            (0..d).map(|a| columns.row(a).iter().zip(self.at(*p)).map(|(m, x)| m * x).sum()).collect()
        };
        let fractions: Vec<Vec<f64>> = points.iter().map(fractions).collect();
        // Shifts that bring a point within reach of the box that holds all points.
        let range = |k: usize, a: usize| {
            let reach = cutoff * columns.row(a).iter().map(|x| x * x).sum::<f64>().sqrt() + 1e-9;
            let all = fractions.iter().map(|f| f[a]);
            let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
            ((low - reach - fractions[k][a]).ceil() as i64, (high + reach - fractions[k][a]).floor() as i64)
        };
        let mut images = Vec::new();
        for (k, point) in points.iter().enumerate() {
            let mut shifts: Vec<Vec<i64>> = vec![vec![]];
            for a in 0..d {
                let (first, last) = range(k, a);
                let count = (last.saturating_sub(first).max(0) as usize).saturating_add(1).saturating_mul(shifts.len());
                if count.saturating_add(images.len()) > MAX_IMAGES {
                    return Err(format!(
                        "the cell of sample {sample} is so small, or its points are so far apart, that the cutoff {cutoff} meets more than {MAX_IMAGES} images"
                    ));
                }
                shifts = shifts
                    .into_iter()
                    .flat_map(|head| (first..=last).map(move |s| head.iter().copied().chain([s]).collect()))
                    .collect();
            }
            for shift in shifts {
                let moved = |k: usize| (0..d).map(|a| shift[a] as f64 * rows[(a, k)]).sum::<f64>();
                let at = self.at(*point).iter().enumerate().map(|(k, x)| x + moved(k)).collect();
                images.push(Image { point: *point, shift, at });
            }
        }
        Ok(images)
    }
}

/// A cube and the cubes that touch it.
fn around(cube: &[i64]) -> Vec<Vec<i64>> {
    cube.iter().fold(vec![vec![]], |all, x| {
        all.iter().flat_map(|head| (-1..=1).map(move |s| [&head[..], &[x.saturating_add(s)]].concat())).collect()
    })
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::Rng;

    /// Every pair and every shift in a wide box, one after the other.
    fn plainly(cloud: &Cloud, cutoff: f64, reach: i64) -> Edges {
        let points = cloud.index.len();
        let mut edges = Edges::default();
        for i in 0..points {
            for j in (0..points).filter(|j| cloud.index[*j] == cloud.index[i]) {
                let span = if cloud.cells.is_some() { -reach..=reach } else { 0..=0 };
                for (s, t) in span.clone().flat_map(|s| span.clone().map(move |t| (s, t))) {
                    let at = |k: usize| {
                        let cell = cloud.cells.map_or([0.0; 4], |c| {
                            let own = &c[4 * cloud.index[i]..];
                            [own[0], own[1], own[2], own[3]]
                        });
                        cloud.positions[2 * j + k] + s as f64 * cell[k] + t as f64 * cell[2 + k]
                            - cloud.positions[2 * i + k]
                    };
                    if (i, 0, 0) != (j, s, t) && at(0).hypot(at(1)) < cutoff {
                        edges.receivers.push(i);
                        edges.senders.push(j);
                        if cloud.cells.is_some() {
                            edges.shifts.extend([s, t]);
                        }
                    }
                }
            }
        }
        edges
    }

    #[test]
    fn as_every_pair_tried() {
        let mut rng = Rng::new(5);
        for _ in 0..20 {
            let index: Vec<usize> = (0..24).map(|k| k / 12).collect();
            let positions: Vec<f64> = (0..48).map(|_| 2.0 * rng.normal()).collect();
            let cells = [2.0, 0.3, -0.7, 1.5, 1.1, 0.0, 0.9, -2.4];
            for cells in [None, Some(&cells[..])] {
                let cloud = Cloud { dim: 2, positions: &positions, index: &index, cells };
                let cutoff = 1.0 + rng.uniform();
                let expected = plainly(&cloud, cutoff, 16);
                assert_eq!(within(&cloud, cutoff).unwrap(), expected);
                assert!(!expected.senders.is_empty());
            }
        }
    }

    #[test]
    fn what_is_no_crystal_is_refused() {
        let cloud = |cells| Cloud { dim: 2, positions: &[0.0, 0.0], index: &[0], cells: Some(cells) };
        assert!(within(&cloud(&[1.0, 2.0, 2.0, 4.0]), 1.0).unwrap_err().contains("no volume"));
        assert!(within(&cloud(&[1e-9, 0.0, 0.0, 1e-9]), 1.0).unwrap_err().contains("so small"));
        assert!(within(&cloud(&[f64::NAN, 0.0, 0.0, 1.0]), 1.0).unwrap_err().contains("finite"));
    }
}
