//! Three-index tensors, sparse: couplings of two representations to a third.
//!
//! In: a linear map `V1 (x) V2 -> V3`. Out: its nonzero entries `[i, j, k]`,
//! sorted, exact zeros dropped.

use crate::math::Matrix;

/// A sparse tensor of shape `dims`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor3 {
    /// The three extents.
    pub dims: [usize; 3],
    /// The nonzero entries in lexicographic order of their indices.
    pub entries: Vec<([usize; 3], f64)>,
}

/// Entries below this are rounding.
const ZERO: f64 = 1e-14;

impl Tensor3 {
    /// From a function of the indices.
    pub fn from_fn(dims: [usize; 3], mut f: impl FnMut(usize, usize, usize) -> f64) -> Tensor3 {
        let mut entries = Vec::new();
        for i in 0..dims[0] {
            for j in 0..dims[1] {
                for k in 0..dims[2] {
                    let v = f(i, j, k);
                    if v.abs() > ZERO {
                        entries.push(([i, j, k], v));
                    }
                }
            }
        }
        Tensor3 { dims, entries }
    }

    /// From the matrix `K[k, i * d2 + j]` of a map `V1 (x) V2 -> V3`.
    pub fn from_map(map: &Matrix, d1: usize, d2: usize, d3: usize) -> Tensor3 {
        Tensor3::from_fn([d1, d2, d3], |i, j, k| map[(k, i * d2 + j)])
    }

    /// The matrix `K[k, i * d2 + j]`.
    pub fn to_map(&self) -> Matrix {
        let mut out = Matrix::zeros(self.dims[2], self.dims[0] * self.dims[1]);
        for &([i, j, k], v) in &self.entries {
            out[(k, i * self.dims[1] + j)] = v;
        }
        out
    }

    /// One entry.
    pub fn get(&self, i: usize, j: usize, k: usize) -> f64 {
        self.entries.binary_search_by(|(at, _)| at.cmp(&[i, j, k])).map_or(0.0, |p| self.entries[p].1)
    }

    /// The square root of the sum of squares.
    pub fn norm(&self) -> f64 {
        self.entries.iter().map(|(_, v)| v * v).sum::<f64>().sqrt()
    }

    /// Every entry times `s`.
    pub fn scale(&self, s: f64) -> Tensor3 {
        Tensor3 { dims: self.dims, entries: self.entries.iter().map(|(at, v)| (*at, s * v)).collect() }
    }

    /// The largest change under `rho1 (x) rho2 (x) rho3`: zero when invariant
    /// (for orthogonal matrices).
    pub fn invariance_residual(&self, rho1: &Matrix, rho2: &Matrix, rho3: &Matrix) -> f64 {
        let map = self.to_map();
        rho3.mul(&map).distance(&map.mul(&rho1.kron(rho2)))
    }
}
