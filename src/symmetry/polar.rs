//! The paths of tensor-field convolution for a displacement along the polar axis.
//!
//! There only the component of order 0 of the harmonics is not zero, and a path `C` in Hom(a (x) f, b) is the map `C[i, 0, k]`, which
//! commutes with the turns about the axis. By Schur's lemma on them it couples orders of one size, `i = ±m` with `k = ±m`, and is one number
//! a size m times signs: `1` on the diagonal where the degrees l + f + k are even, `1` and `-1` across it where they are odd (a half turn
//! about a perpendicular axis tells the two). So the paths of one parity are a change of coordinates to the sizes m, which any weights of
//! paths may go through beforehand, and a map with at most `2 min(l, k) + 1` signs, which all of them share.

use crate::symmetry::AngularPath;

/// The maps of the paths of one parity: `C_p[i, 0, k] = Σ_m change[p, m] signs[m, i, k]`.
#[derive(Clone, Debug)]
pub struct PolarPaths {
    /// Whether l + f + k is odd.
    pub odd: bool,
    /// All paths, of both parities; `change` is zero for the others.
    pub paths: usize,
    /// How many sizes m there are.
    pub sizes: usize,
    /// `[paths, sizes]`, times `sqrt(2f + 1)`, the harmonic of order 0 along the axis.
    pub change: Vec<f64>,
    /// The dimensions of the input and of the output.
    pub dims: [usize; 2],
    /// `(m, i, k, ±1)`
    pub signs: Vec<(usize, usize, usize, f64)>,
}

impl PolarPaths {
    /// The paths among these, from one irrep to another, whose l + f + k is odd or even. Nothing where there is none.
    pub fn of(paths: &[AngularPath], odd: bool) -> Option<PolarPaths> {
        let [input, _, output] = paths.first()?.coupling.dims;
        let (l, k) = (input / 2, output / 2);
        let own = |p: &&AngularPath| ((l + p.degree as usize + k) % 2 == 1) == odd;
        let mut res = PolarPaths {
            odd,
            paths: paths.len(),
            // order 0 has no pair to be crossed with
            sizes: l.min(k) + usize::from(!odd),
            change: vec![],
            dims: [input, output],
            signs: vec![],
        };
        res.change = vec![0.0; res.paths * res.sizes];
        let index = |degree: usize, order: isize| (degree as isize + order) as usize;
        for m in 0..res.sizes {
            let size = (m + usize::from(odd)) as isize;
            let side = if odd { -1 } else { 1 };
            let orders = [size, -size];
            let orders = if size == 0 { &orders[..1] } else { &orders[..] };
            let places = orders.iter().map(|order| (index(l, *order), index(k, side * order)));
            let places: Vec<(usize, usize)> = places.collect();
            let signs = [1.0, if odd { -1.0 } else { 1.0 }];
            res.signs.extend(places.iter().zip(signs).map(|((i, k), sign)| (m, *i, *k, sign)));
            for (p, path) in paths.iter().enumerate().filter(|(_, p)| own(p)) {
                res.change[p * res.sizes + m] = at_pole(path, places[0]) * f64::from(2 * path.degree + 1).sqrt();
            }
        }
        res.change.iter().any(|x| *x != 0.0).then_some(res)
    }
}

/// `C[i, 0, k]`
fn at_pole(path: &AngularPath, (i, k): (usize, usize)) -> f64 {
    let middle = path.coupling.dims[1] / 2;
    let entry = path.coupling.entries.iter().find(|(at, _)| *at == [i, middle, k]);
    entry.map_or(0.0, |(_, x)| *x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symmetry::{Irrep, Rep, angular_paths, groups};

    fn rep(group: &str, degree: u32) -> Rep {
        Rep::irrep(&groups::by_name(group, &[3], None).unwrap(), Irrep::natural(degree)).unwrap()
    }

    #[test]
    fn changes_and_signs_give_the_paths_at_the_pole() {
        for (group, l, k) in [("SO", 1, 1), ("SO", 2, 3), ("SO", 4, 4), ("O", 1, 3), ("O", 5, 2)] {
            let paths = angular_paths(&rep(group, l), &rep(group, k)).unwrap();
            let mut left: Vec<Vec<f64>> = paths.iter().map(|p| at_pole_all(p)).collect();
            for polar in [false, true].map(|odd| PolarPaths::of(&paths, odd)).into_iter().flatten() {
                for (p, left) in left.iter_mut().enumerate() {
                    for (m, i, j, sign) in &polar.signs {
                        left[i * polar.dims[1] + j] -= polar.change[p * polar.sizes + m] * sign;
                    }
                }
            }
            assert!(left.iter().flatten().all(|x| x.abs() < 1e-13), "{group} {l} {k}: {left:?}");
        }
    }

    fn at_pole_all(path: &AngularPath) -> Vec<f64> {
        let [input, middle, output] = path.coupling.dims;
        let mut res = vec![0.0; input * output];
        for ([i, _, k], x) in path.coupling.entries.iter().filter(|([_, j, _], _)| *j == middle / 2) {
            res[i * output + k] += x * f64::from(2 * path.degree + 1).sqrt();
        }
        res
    }
}
