//! Wigner matrices of SO(3) and O(3) in the real basis, polar axis y.
//!
//! In: a rotation matrix, Euler angles or an element of the Lie algebra. Out:
//! the matrix on degree l. By recurrence: D^(l+1) is the part of D^l (x) D^1
//! that Clebsch-Gordan picks, so it is polynomial in the rotation matrix, with
//! no singular angles and no limit on l but that of the coefficients. An
//! improper matrix gives the natural parity (-1)^l.

use crate::math::Matrix;

use super::clebsch_gordan::{Convention, wigner_3j};
use super::tensor3::Tensor3;

/// The coupling of degree l and 1 to l+1, scaled to have orthonormal rows.
fn step(l: usize) -> Tensor3 {
    let w =
        wigner_3j(l, 1, l + 1, Convention::E3nn05).unwrap_or_else(|| panic!("symmetry: degree {l} is above the limit"));
    w.scale(((2 * l + 3) as f64).sqrt())
}

/// How D^(l+1) of an orthogonal matrix follows from D^l with few products:
/// `D^(l+1)[k, k'] = sum left[i,j,k] right[i',j',k'] D^l[i,i'] R[j,j']`.
///
/// `left` is Clebsch-Gordan with orthonormal rows; by equivariance its partner
/// may be any `right` with `sum_ij left[i,j,k] right[i,j,k'] = (k = k')`. Along
/// the polar axis (j = 1) a component is coupled to one only, so one entry does
/// for all but the two components of the highest order.
pub fn sparse_step(l: usize) -> (Tensor3, Tensor3) {
    let left = step(l);
    let along_axis = |k: usize| left.entries.iter().find(|([_, j, k2], _)| *j == 1 && *k2 == k).copied();
    let mut entries = Vec::new();
    for k in 0..left.dims[2] {
        match along_axis(k) {
            Some((at, x)) => entries.push((at, 1.0 / x)),
            None => entries.extend(left.entries.iter().filter(|([_, _, k2], _)| *k2 == k)),
        }
    }
    entries.sort_by_key(|(at, _)| *at);
    let right = Tensor3 { dims: left.dims, entries };
    (left, right)
}

/// `out[k, k'] = sum C[i,j,k] C[i',j',k'] a[i,i'] b[j,j']`, one coefficient after the other.
fn couple(c: &Tensor3, a: &Matrix, b: &Matrix, out: &mut Matrix) {
    let [d1, d2, d3] = c.dims;
    // half[i, j', k'] = sum_i' C[i',j',k'] a[i,i']
    let mut half = vec![0.0; d1 * d2 * d3];
    for &([i2, j2, k2], v2) in &c.entries {
        for i in 0..d1 {
            half[(i * d2 + j2) * d3 + k2] += v2 * a[(i, i2)];
        }
    }
    for &([i, j, k], v) in &c.entries {
        for j2 in (0..d2).filter(|j2| b[(j, *j2)] != 0.0) {
            let (scale, row) = (v * b[(j, j2)], &half[(i * d2 + j2) * d3..][..d3]);
            row.iter().enumerate().for_each(|(k2, x)| out[(k, k2)] += scale * x);
        }
    }
}

/// D^0, ..., D^lmax of an orthogonal matrix on (x, y, z); for an improper one
/// with the natural parity.
pub fn wigner_up_to(lmax: usize, rotation: &Matrix) -> Vec<Matrix> {
    assert_eq!((rotation.rows(), rotation.cols()), (3, 3), "symmetry: a rotation of R^3 is 3x3");
    let mut all = vec![Matrix::identity(1)];
    for l in 0..lmax {
        if l == 0 {
            all.push(rotation.clone());
            continue;
        }
        let mut next = Matrix::zeros(2 * l + 3, 2 * l + 3);
        couple(&step(l), &all[l], rotation, &mut next);
        all.push(next);
    }
    all
}

/// D^l of an orthogonal matrix.
pub fn wigner(l: usize, rotation: &Matrix) -> Matrix {
    wigner_up_to(l, rotation).swap_remove(l)
}

/// dD^l of an antisymmetric matrix: the derivative of D^l at the identity.
pub fn wigner_generator(l: usize, x: &Matrix) -> Matrix {
    let mut current = Matrix::zeros(1, 1);
    for k in 0..l {
        if k == 0 {
            current = x.clone();
            continue;
        }
        let c = step(k);
        let mut next = Matrix::zeros(2 * k + 3, 2 * k + 3);
        couple(&c, &current, &Matrix::identity(3), &mut next);
        couple(&c, &Matrix::identity(2 * k + 1), x, &mut next);
        current = next;
    }
    current
}

/// The rotation `Ry(alpha) Rx(beta) Ry(gamma)` of (x, y, z).
pub fn euler_rotation(alpha: f64, beta: f64, gamma: f64) -> Matrix {
    let about_y = |t: f64| {
        let (s, c) = t.sin_cos();
        Matrix::from_rows(&[[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    };
    let (s, c) = beta.sin_cos();
    let about_x = Matrix::from_rows(&[[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]]);
    about_y(alpha).mul(&about_x).mul(&about_y(gamma))
}

/// D^l at Euler angles Y-X-Y.
pub fn wigner_euler(l: usize, alpha: f64, beta: f64, gamma: f64) -> Matrix {
    wigner(l, &euler_rotation(alpha, beta, gamma))
}

/// Generators of the rotations about x, y and z, on (x, y, z).
pub fn rotation_generators() -> Vec<Matrix> {
    vec![
        Matrix::from_rows(&[[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]),
        Matrix::from_rows(&[[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]),
        Matrix::from_rows(&[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
    ]
}
