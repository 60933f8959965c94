//! Null spaces with a stated tolerance and a canonical basis.
//!
//! In: a matrix of constraints. Out: the reduced row echelon form of its null
//! space, unique for a given space, so derived constants do not depend on the
//! order of the constraints. Elimination pivots on the largest remaining
//! entry (complete pivoting), which reveals the rank in practice; the tests
//! compare with the singular values.

use super::Matrix;

/// A pivot counts as zero below this fraction of the largest entry. Constraint
/// matrices of representations have entries of order one and a wide gap.
pub const RANK_TOLERANCE: f64 = 1e-9;

/// A basis (the rows) of `{x : A x = 0}` in reduced row echelon form.
pub fn null_space(a: &Matrix) -> Matrix {
    let n = a.cols();
    let (reduced, pivots) = eliminate(a, Pivoting::Complete);
    let mut is_pivot = vec![false; n];
    for &p in &pivots {
        is_pivot[p] = true;
    }
    let free: Vec<usize> = (0..n).filter(|j| !is_pivot[*j]).collect();
    let mut basis = Matrix::zeros(free.len(), n);
    for (row, &f) in free.iter().enumerate() {
        basis[(row, f)] = 1.0;
        for (r, &p) in pivots.iter().enumerate() {
            basis[(row, p)] = -reduced[(r, f)];
        }
    }
    let canonical = reduced_row_echelon(&basis);
    assert_eq!(canonical.rows(), free.len(), "math: the null space lost rank when made canonical");
    canonical
}

/// The reduced row echelon form of the row space, without zero rows. Leading
/// entries are 1 and entries within rounding of zero are exactly zero.
pub fn reduced_row_echelon(a: &Matrix) -> Matrix {
    let (reduced, pivots) = eliminate(a, Pivoting::Leading);
    Matrix::from_fn(pivots.len(), a.cols(), |i, j| {
        let x = reduced[(i, j)];
        if x.abs() < RANK_TOLERANCE { 0.0 } else { x }
    })
}

/// The dimension of the span of the rows.
pub fn span_rank(a: &Matrix) -> usize {
    eliminate(a, Pivoting::Complete).1.len()
}

/// An orthonormal basis (rows) of the row space, by Gram-Schmidt applied twice
/// in the order of the rows; rows that depend on earlier ones are dropped.
pub fn orthonormalise(a: &Matrix) -> Matrix {
    let mut rows: Vec<Vec<f64>> = Vec::new();
    for i in 0..a.rows() {
        let mut v = a.row(i).to_vec();
        let before = norm(&v);
        for _ in 0..2 {
            for q in &rows {
                let c: f64 = q.iter().zip(&v).map(|(x, y)| x * y).sum();
                v.iter_mut().zip(q).for_each(|(x, y)| *x -= c * y);
            }
        }
        let after = norm(&v);
        if after > RANK_TOLERANCE * before && after > 0.0 {
            rows.push(v.iter().map(|x| x / after).collect());
        }
    }
    Matrix::from_vec(rows.len(), a.cols(), rows.concat())
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[derive(Clone, Copy)]
enum Pivoting {
    /// The largest entry of what remains: the rank is revealed.
    Complete,
    /// The leftmost column with a pivot: the canonical echelon form.
    Leading,
}

/// Gauss-Jordan elimination: the reduced matrix and the pivot column of each
/// of its first rows.
fn eliminate(a: &Matrix, pivoting: Pivoting) -> (Matrix, Vec<usize>) {
    let (m, n) = (a.rows(), a.cols());
    let mut rows: Vec<Vec<f64>> = (0..m).map(|i| a.row(i).to_vec()).collect();
    let threshold = RANK_TOLERANCE * a.max_abs();
    let mut pivots = Vec::new();
    let mut column = 0;
    while pivots.len() < m {
        let done = pivots.len();
        let found = match pivoting {
            Pivoting::Complete => largest(&rows, done, 0..n),
            Pivoting::Leading => loop {
                if column == n {
                    break None;
                }
                let candidate = largest(&rows, done, column..column + 1);
                column += 1;
                if candidate.is_some_and(|(_, _, x)| x > threshold) {
                    break candidate;
                }
            },
        };
        let Some((i, j, size)) = found else { break };
        if size <= threshold {
            break;
        }
        rows.swap(done, i);
        let scale = 1.0 / rows[done][j];
        rows[done].iter_mut().for_each(|x| *x *= scale);
        let pivot_row = rows[done].clone();
        for (r, row) in rows.iter_mut().enumerate() {
            let factor = row[j];
            if r != done && factor != 0.0 {
                row.iter_mut().zip(&pivot_row).for_each(|(x, p)| *x -= factor * p);
                row[j] = 0.0;
            }
        }
        pivots.push(j);
    }
    (Matrix::from_vec(m, n, rows.concat()), pivots)
}

/// The position and size of the largest entry in the rows from `first` on.
fn largest(rows: &[Vec<f64>], first: usize, columns: std::ops::Range<usize>) -> Option<(usize, usize, f64)> {
    let mut best: Option<(usize, usize, f64)> = None;
    for (i, row) in rows.iter().enumerate().skip(first) {
        for (j, x) in row[columns.clone()].iter().enumerate() {
            if best.is_none_or(|(_, _, b)| x.abs() > b) {
                best = Some((i, columns.start + j, x.abs()));
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::Rng;

    #[test]
    fn null_space_has_the_dimension_that_the_singular_values_say() {
        let mut rng = Rng::new(7);
        for (m, n, r) in [(4, 6, 3), (10, 5, 5), (8, 8, 1), (3, 3, 0), (20, 12, 9)] {
            let mut draw = |a, b| Matrix::from_fn(a, b, |_, _| rng.normal());
            let a = draw(m, r).mul(&draw(r, n));
            let basis = null_space(&a);
            assert_eq!(basis.rows(), n - a.rank());
            assert_eq!(basis.rank(), basis.rows());
            assert!(a.mul(&basis.transpose()).max_abs() < 1e-10);
        }
    }

    #[test]
    fn the_basis_does_not_depend_on_the_order_of_constraints() {
        let a = Matrix::from_rows(&[[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 2.0, 1.0]]);
        let b = Matrix::from_rows(&[[3.0, -3.0, 2.0, 1.0], [1.0, -1.0, 0.0, 0.0]]);
        assert!(null_space(&a).distance(&null_space(&b)) < 1e-12);
        assert_eq!(null_space(&a), Matrix::from_rows(&[[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -2.0]]));
    }

    #[test]
    fn orthonormalise_keeps_the_span() {
        let a = Matrix::from_rows(&[[1.0, 1.0, 0.0], [2.0, 2.0, 0.0], [1.0, 0.0, 1.0]]);
        let q = orthonormalise(&a);
        assert_eq!(q.rows(), 2);
        assert!(q.mul(&q.transpose()).distance(&Matrix::identity(2)) < 1e-15);
        assert_eq!(reduced_row_echelon(&q).rows(), 2);
    }
}
