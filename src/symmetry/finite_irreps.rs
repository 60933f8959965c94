//! The real irreps of a finite group: from closed forms, or solved.
//!
//! In: a group. Out: one table of matrices an irrep, the trivial one first.
//! Solving: the eigenspaces of a generic symmetric element of the commutant of
//! the regular representation are irreducible (over R), and every irrep occurs.

use crate::math::{Matrix, Rng, orthonormalise, reduced_row_echelon};

use super::finite::FiniteGroup;
use super::group::{Endomorphism, Group};
use super::irrep::{Irrep, Parity};

/// An irrep with the matrices of all elements.
#[derive(Clone, Debug)]
pub struct FiniteIrrep {
    /// Its label.
    pub label: Irrep,
    /// Its endomorphism algebra.
    pub endomorphism: Endomorphism,
    /// The matrix of each element, orthogonal.
    pub matrices: Vec<Matrix>,
}

/// An irrep by the images of the generators.
#[derive(Clone, Debug)]
pub struct IrrepGenerators {
    /// Its label.
    pub label: Irrep,
    /// Its endomorphism algebra.
    pub endomorphism: Endomorphism,
    /// The image of each generator.
    pub images: Vec<Matrix>,
}

impl IrrepGenerators {
    /// The matrices of all elements.
    pub fn tabulate(&self, group: &FiniteGroup) -> FiniteIrrep {
        let matrices = group.extend(&self.images).unwrap_or_else(|| {
            panic!("symmetry: the closed form of irrep {} of {} is not a homomorphism", self.label, group.name())
        });
        FiniteIrrep { label: self.label, endomorphism: self.endomorphism, matrices }
    }
}

/// All irreps, solved numerically; sorted by dimension, then by character.
pub fn solve_irreps(group: &FiniteGroup) -> Vec<FiniteIrrep> {
    let n = group.order();
    let mut rng = Rng::new(0x1221);
    let mut weight = vec![0.0; n];
    for g in 0..n {
        let x = rng.normal();
        weight[g] += x;
        weight[group.inverse_of(g)] += x;
    }
    // Right translations commute with the left regular representation.
    let commuting = Matrix::from_fn(n, n, |a, b| weight[group.product(group.inverse_of(a), b)]);
    let (values, vectors) = commuting.symmetric_eigen();
    let spread = values[n - 1] - values[0] + 1.0;
    let mut found: Vec<(Vec<f64>, Vec<Matrix>)> = Vec::new();
    let mut start = 0;
    while start < n {
        let end = (start + 1..n).find(|i| values[*i] - values[i - 1] > 1e-7 * spread).unwrap_or(n);
        let space = Matrix::from_fn(end - start, n, |i, j| vectors[(j, start + i)]);
        let basis = orthonormalise(&reduced_row_echelon(&space));
        let matrices: Vec<Matrix> = (0..n).map(|g| compress(group, g, &basis)).collect();
        let character: Vec<f64> = matrices.iter().map(Matrix::trace).collect();
        let known = found.iter().any(|(c, _)| c.iter().zip(&character).all(|(x, y)| (x - y).abs() < 1e-6));
        if !known {
            found.push((character, matrices));
        }
        start = end;
    }
    found.sort_by(|(a, _), (b, _)| {
        let rounded = |c: &[f64]| c.iter().map(|x| -(x * 1e6).round() as i64).collect::<Vec<_>>();
        a[0].total_cmp(&b[0]).then_with(|| rounded(a).cmp(&rounded(b)))
    });
    let tables: Vec<FiniteIrrep> = found.into_iter().enumerate().map(|(i, (c, m))| label(i, &c, m)).collect();
    let squares: usize = tables.iter().map(|t| t.matrices[0].rows().pow(2) / t.endomorphism.dim()).sum();
    assert_eq!(squares, n, "symmetry: the irreps of {} do not fill its regular representation", group.name());
    tables
}

/// The left translation by `g` in the coordinates of an invariant subspace.
fn compress(group: &FiniteGroup, g: usize, basis: &Matrix) -> Matrix {
    let moved = Matrix::from_fn(basis.rows(), basis.cols(), |i, x| basis[(i, group.product(group.inverse_of(g), x))]);
    let mut rho = basis.mul(&moved.transpose());
    for i in 0..rho.rows() {
        for j in 0..rho.cols() {
            let x = rho[(i, j)];
            if (x - x.round()).abs() < 1e-10 {
                rho[(i, j)] = x.round();
            }
        }
    }
    rho
}

fn label(index: usize, character: &[f64], matrices: Vec<Matrix>) -> FiniteIrrep {
    let norm = character.iter().map(|x| x * x).sum::<f64>() / character.len() as f64;
    let endomorphism = match norm.round() as usize {
        1 => Endomorphism::Real,
        2 => Endomorphism::Complex,
        4 => Endomorphism::Quaternionic,
        other => panic!("symmetry: a solved irrep has <chi, chi> = {other}"),
    };
    FiniteIrrep { label: Irrep::new(index as u32, Parity::Even), endomorphism, matrices }
}
