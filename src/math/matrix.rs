//! Dense real matrices, row-major. Sizes here are those of representations
//! (at most some hundreds), so clarity wins over blocking.
//!
//! In: rows of `f64`. Out: new matrices; nothing is changed in place except
//! through `IndexMut`. Mismatched shapes are a compiler's mistake and panic.

use std::fmt;
use std::ops::{Index, IndexMut};

/// A `rows x cols` matrix of `f64`, row-major.
#[derive(Clone, PartialEq)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    data: Vec<f64>,
}

impl Matrix {
    /// The matrix of zeros.
    pub fn zeros(rows: usize, cols: usize) -> Matrix {
        Matrix { rows, cols, data: vec![0.0; rows * cols] }
    }

    /// The identity of size `n`.
    pub fn identity(n: usize) -> Matrix {
        Matrix::from_fn(n, n, |i, j| if i == j { 1.0 } else { 0.0 })
    }

    /// The matrix with entry `f(row, col)`.
    pub fn from_fn(rows: usize, cols: usize, mut f: impl FnMut(usize, usize) -> f64) -> Matrix {
        let mut data = Vec::with_capacity(rows * cols);
        for i in 0..rows {
            for j in 0..cols {
                data.push(f(i, j));
            }
        }
        Matrix { rows, cols, data }
    }

    /// From row-major data of length `rows * cols`.
    pub fn from_vec(rows: usize, cols: usize, data: Vec<f64>) -> Matrix {
        assert_eq!(data.len(), rows * cols, "math: {rows}x{cols} matrix from {} entries", data.len());
        Matrix { rows, cols, data }
    }

    /// From rows of equal length.
    pub fn from_rows<const N: usize>(rows: &[[f64; N]]) -> Matrix {
        Matrix { rows: rows.len(), cols: N, data: rows.iter().flatten().copied().collect() }
    }

    /// The diagonal matrix with these entries.
    pub fn diagonal(entries: &[f64]) -> Matrix {
        Matrix::from_fn(entries.len(), entries.len(), |i, j| if i == j { entries[i] } else { 0.0 })
    }

    /// The permutation matrix P with `P e_j = e_image[j]`.
    pub fn permutation(image: &[usize]) -> Matrix {
        let mut p = Matrix::zeros(image.len(), image.len());
        for (j, &i) in image.iter().enumerate() {
            p[(i, j)] = 1.0;
        }
        p
    }

    /// The rotation of the plane by `angle` radians, anticlockwise.
    pub fn rotation(angle: f64) -> Matrix {
        let (s, c) = angle.sin_cos();
        Matrix::from_rows(&[[c, -s], [s, c]])
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The entries, row-major.
    pub fn as_slice(&self) -> &[f64] {
        &self.data
    }

    /// One row.
    pub fn row(&self, i: usize) -> &[f64] {
        &self.data[i * self.cols..(i + 1) * self.cols]
    }

    /// The matrix product `self other`.
    pub fn mul(&self, other: &Matrix) -> Matrix {
        assert_eq!(
            self.cols, other.rows,
            "math: product of {}x{} and {}x{}",
            self.rows, self.cols, other.rows, other.cols
        );
        let mut out = Matrix::zeros(self.rows, other.cols);
        for i in 0..self.rows {
            for k in 0..self.cols {
                let a = self[(i, k)];
                if a != 0.0 {
                    let target = &mut out.data[i * other.cols..(i + 1) * other.cols];
                    for (t, b) in target.iter_mut().zip(other.row(k)) {
                        *t += a * b;
                    }
                }
            }
        }
        out
    }

    /// The matrix applied to a vector.
    pub fn apply(&self, x: &[f64]) -> Vec<f64> {
        assert_eq!(self.cols, x.len(), "math: {}x{} matrix applied to {} entries", self.rows, self.cols, x.len());
        (0..self.rows).map(|i| self.row(i).iter().zip(x).map(|(a, b)| a * b).sum()).collect()
    }

    /// The transpose.
    pub fn transpose(&self) -> Matrix {
        Matrix::from_fn(self.cols, self.rows, |i, j| self[(j, i)])
    }

    /// `self + other`.
    pub fn add(&self, other: &Matrix) -> Matrix {
        self.zip(other, |a, b| a + b)
    }

    /// `self - other`.
    pub fn sub(&self, other: &Matrix) -> Matrix {
        self.zip(other, |a, b| a - b)
    }

    fn zip(&self, other: &Matrix, f: impl Fn(f64, f64) -> f64) -> Matrix {
        assert_eq!((self.rows, self.cols), (other.rows, other.cols), "math: entrywise operation on different shapes");
        let data = self.data.iter().zip(&other.data).map(|(a, b)| f(*a, *b)).collect();
        Matrix { rows: self.rows, cols: self.cols, data }
    }

    /// Every entry times `s`.
    pub fn scale(&self, s: f64) -> Matrix {
        Matrix { rows: self.rows, cols: self.cols, data: self.data.iter().map(|x| s * x).collect() }
    }

    /// The Kronecker product: `(A kron B)[(i,k), (j,l)] = A[i,j] B[k,l]`.
    pub fn kron(&self, other: &Matrix) -> Matrix {
        Matrix::from_fn(self.rows * other.rows, self.cols * other.cols, |i, j| {
            self[(i / other.rows, j / other.cols)] * other[(i % other.rows, j % other.cols)]
        })
    }

    /// The block-diagonal matrix of the blocks, in order.
    pub fn direct_sum(blocks: &[Matrix]) -> Matrix {
        let mut out = Matrix::zeros(blocks.iter().map(|b| b.rows).sum(), blocks.iter().map(|b| b.cols).sum());
        let (mut r, mut c) = (0, 0);
        for block in blocks {
            for i in 0..block.rows {
                for j in 0..block.cols {
                    out[(r + i, c + j)] = block[(i, j)];
                }
            }
            r += block.rows;
            c += block.cols;
        }
        out
    }

    /// The sum of the diagonal.
    pub fn trace(&self) -> f64 {
        (0..self.rows.min(self.cols)).map(|i| self[(i, i)]).sum()
    }

    /// The largest absolute entry (0 for an empty matrix).
    pub fn max_abs(&self) -> f64 {
        self.data.iter().fold(0.0, |m, x| m.max(x.abs()))
    }

    /// The largest absolute entry of `self - other`.
    pub fn distance(&self, other: &Matrix) -> f64 {
        self.sub(other).max_abs()
    }

    /// The determinant of a square matrix.
    pub fn determinant(&self) -> f64 {
        assert_eq!(self.rows, self.cols, "math: determinant of a {}x{} matrix", self.rows, self.cols);
        self.to_nalgebra().determinant()
    }

    /// The rank: singular values above [`super::RANK_TOLERANCE`] times the largest.
    pub fn rank(&self) -> usize {
        if self.data.is_empty() {
            return 0;
        }
        let singular = self.to_nalgebra().singular_values();
        let largest = singular.iter().fold(0.0f64, |m, s| m.max(*s));
        singular.iter().filter(|s| **s > super::RANK_TOLERANCE * largest && **s > f64::MIN_POSITIVE).count()
    }

    /// The inverse of a square matrix, if it is not singular.
    pub fn inverse(&self) -> Option<Matrix> {
        self.to_nalgebra().try_inverse().map(|m| Matrix::from_nalgebra(&m))
    }

    /// The eigenvalues, ascending, and the eigenvectors (columns) of a symmetric matrix.
    pub fn symmetric_eigen(&self) -> (Vec<f64>, Matrix) {
        let eigen = self.to_nalgebra().symmetric_eigen();
        let mut order: Vec<usize> = (0..self.rows).collect();
        order.sort_by(|a, b| eigen.eigenvalues[*a].total_cmp(&eigen.eigenvalues[*b]));
        let vectors = Matrix::from_fn(self.rows, self.rows, |i, j| eigen.eigenvectors[(i, order[j])]);
        (order.iter().map(|i| eigen.eigenvalues[*i]).collect(), vectors)
    }

    fn to_nalgebra(&self) -> nalgebra::DMatrix<f64> {
        nalgebra::DMatrix::from_row_slice(self.rows, self.cols, &self.data)
    }

    fn from_nalgebra(m: &nalgebra::DMatrix<f64>) -> Matrix {
        Matrix::from_fn(m.nrows(), m.ncols(), |i, j| m[(i, j)])
    }
}

impl Index<(usize, usize)> for Matrix {
    type Output = f64;
    fn index(&self, (i, j): (usize, usize)) -> &f64 {
        debug_assert!(i < self.rows && j < self.cols);
        &self.data[i * self.cols + j]
    }
}

impl IndexMut<(usize, usize)> for Matrix {
    fn index_mut(&mut self, (i, j): (usize, usize)) -> &mut f64 {
        debug_assert!(i < self.rows && j < self.cols);
        &mut self.data[i * self.cols + j]
    }
}

impl fmt::Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}x{} [", self.rows, self.cols)?;
        for i in 0..self.rows {
            writeln!(f, "  {:?}", self.row(i))?;
        }
        write!(f, "]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kron_is_multiplicative() {
        let mut rng = crate::math::Rng::new(1);
        let mut m = |r, c| Matrix::from_fn(r, c, |_, _| rng.normal());
        let (a, b, c, d) = (m(2, 3), m(3, 2), m(3, 4), m(2, 2));
        assert!(a.kron(&b).mul(&c.kron(&d)).distance(&a.mul(&c).kron(&b.mul(&d))) < 1e-12);
    }

    #[test]
    fn rank_and_determinant_of_known_matrices() {
        let m = Matrix::from_rows(&[[1.0, 2.0], [2.0, 4.0], [0.0, 1.0]]);
        assert_eq!(m.rank(), 2);
        assert_eq!(Matrix::from_rows(&[[1.0, 2.0], [2.0, 4.0]]).rank(), 1);
        assert_eq!(Matrix::zeros(3, 3).rank(), 0);
        assert_eq!(Matrix::permutation(&[1, 2, 0]).determinant(), 1.0);
        assert_eq!(Matrix::permutation(&[1, 0]).determinant(), -1.0);
    }
}
