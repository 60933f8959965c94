//! The decomposition of an orthogonal representation into irreps: the Fourier
//! transform of a finite group, when the representation is the regular one.
//!
//! In: a representation. Out: an orthogonal change of basis Q with
//! `rho(g) Q = Q (psi_1 (+) psi_2 (+) ...)(g)`. The copies of an irrep come
//! from a basis of Hom(psi, rho); an irrep of complex or quaternionic type
//! appears there with all its endomorphisms, of which one each is taken.

use crate::math::Matrix;

use super::intertwiner::equivariant_basis;
use super::irrep::Irrep;
use super::rep::Rep;

/// A representation written as a sum of irreps.
#[derive(Clone, Debug)]
pub struct Decomposition {
    /// The labels of the summands, in the order of the group's list.
    pub labels: Vec<Irrep>,
    /// Their sum.
    pub irreps: Rep,
    /// The orthogonal matrix whose columns are the new basis.
    pub basis: Matrix,
}

/// Vectors shorter than this depend on what was chosen before.
const DEPENDENT: f64 = 1e-6;

/// Decomposes an orthogonal representation, of a Lie group into irreps of
/// degree at most `max_degree`. Nothing if the representation is not
/// orthogonal, or contains a higher degree.
pub fn decompose(rep: &Rep, max_degree: u32) -> Option<Decomposition> {
    let orthogonal = |m: &Matrix| m.mul(&m.transpose()).distance(&Matrix::identity(rep.dim())) < 1e-9;
    let skew = |x: &Matrix| x.add(&x.transpose()).max_abs() < 1e-9;
    if !rep.generator_matrices().iter().all(orthogonal) || !rep.algebra_matrices().iter().all(skew) {
        return None;
    }
    let group = rep.group();
    let (mut labels, mut columns, mut parts) = (Vec::new(), Vec::<Vec<f64>>::new(), Vec::new());
    for label in group.irreps(max_degree) {
        let psi = Rep::irrep(group, label).unwrap_or_else(|e| panic!("symmetry: {e}"));
        let endomorphisms = equivariant_basis(&psi, &psi);
        let mut used: Vec<Matrix> = Vec::new();
        for map in equivariant_basis(&psi, rep) {
            let rest = used.iter().fold(map, |k, u| k.sub(&u.scale(inner(u, &k))));
            let length = inner(&rest, &rest).sqrt();
            if length < DEPENDENT {
                continue;
            }
            let unit = rest.scale(1.0 / length);
            // The columns of an embedding of an orthogonal irrep are orthogonal, of equal length.
            let scaled = unit.scale((psi.dim() as f64).sqrt());
            columns.extend((0..psi.dim()).map(|j| (0..rep.dim()).map(|i| scaled[(i, j)]).collect()));
            labels.push(label);
            parts.push((1, psi.clone()));
            for e in &endomorphisms {
                let turned = unit.mul(e);
                let turned = used.iter().fold(turned, |k, u| k.sub(&u.scale(inner(u, &k))));
                let length = inner(&turned, &turned).sqrt();
                if length > DEPENDENT {
                    used.push(turned.scale(1.0 / length));
                }
            }
        }
    }
    (columns.len() == rep.dim()).then(|| Decomposition {
        labels,
        irreps: Rep::sum(group, parts),
        basis: Matrix::from_fn(rep.dim(), rep.dim(), |i, j| columns[j][i]),
    })
}

fn inner(a: &Matrix, b: &Matrix) -> f64 {
    a.as_slice().iter().zip(b.as_slice()).map(|(x, y)| x * y).sum()
}
