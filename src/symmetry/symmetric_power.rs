//! Symmetric powers: how a group acts on polynomials of degree k in the
//! components of a representation, so a k-fold symmetric product needs no more
//! weights than there are maps from Sym^k (a minimal basis; MACE's is not).
//!
//! In: the matrices of a representation. Out: those of its power, in the
//! orthonormal basis `x^a / sqrt(a!)` of monomials, in lexicographic order of
//! the sorted indices.

use std::collections::BTreeMap;

use crate::math::Matrix;

/// Powers of more components than this are refused.
pub const MAX_POWER_DIM: usize = 4096;

/// Exponents above this are refused.
pub const MAX_POWER: usize = 64;

/// The sorted index lists `i1 <= ... <= ik` below `n`: the monomials.
pub fn monomials(n: usize, k: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for _ in 0..k {
        all = all
            .into_iter()
            .flat_map(|m: Vec<usize>| {
                (m.last().copied().unwrap_or(0)..n).map(move |i| {
                    let mut longer = m.clone();
                    longer.push(i);
                    longer
                })
            })
            .collect();
    }
    all
}

/// The number of monomials, `C(n + k - 1, k)`; nothing above [`MAX_POWER_DIM`]
/// or for `k` above [`MAX_POWER`].
pub fn power_dim(n: usize, k: usize) -> Option<usize> {
    if k > MAX_POWER {
        return None;
    }
    let mut dim: usize = 1;
    for i in 0..k {
        dim = dim.checked_mul(n + i)? / (i + 1);
        if dim > MAX_POWER_DIM {
            return None;
        }
    }
    Some(dim)
}

/// `a!` of a monomial: the product of the factorials of its exponents.
fn factorial(monomial: &[usize]) -> f64 {
    let mut product = 1.0;
    let mut run = 0;
    for (at, i) in monomial.iter().enumerate() {
        run = if at > 0 && monomial[at - 1] == *i { run + 1 } else { 1 };
        product *= f64::from(run);
    }
    product
}

type Sum = BTreeMap<Vec<usize>, f64>;

/// `p` times the linear form `sum_i m[i, column] x_i`.
fn times_form(p: &Sum, m: &Matrix, column: usize) -> Sum {
    let mut out = Sum::new();
    for (monomial, c) in p {
        for i in 0..m.rows() {
            if m[(i, column)] != 0.0 {
                let mut longer = monomial.clone();
                longer.insert(monomial.partition_point(|x| *x <= i), i);
                *out.entry(longer).or_insert(0.0) += c * m[(i, column)];
            }
        }
    }
    out
}

/// The matrix whose column `b` is the image of the monomial `b`.
fn from_images(n: usize, k: usize, image: impl Fn(&[usize]) -> Sum) -> Matrix {
    let basis = monomials(n, k);
    let mut out = Matrix::zeros(basis.len(), basis.len());
    for (b, monomial) in basis.iter().enumerate() {
        for (a, c) in image(monomial) {
            let row = basis.binary_search(&a).unwrap_or_else(|_| panic!("symmetry: {a:?} is no monomial"));
            out[(row, b)] += c * (factorial(&a) / factorial(monomial)).sqrt();
        }
    }
    out
}

/// The matrix on Sym^k of a matrix on the components.
pub fn power(rho: &Matrix, k: usize) -> Matrix {
    let one = Sum::from([(Vec::new(), 1.0)]);
    from_images(rho.rows(), k, |monomial| monomial.iter().fold(one.clone(), |p, i| times_form(&p, rho, *i)))
}

/// The derivation on Sym^k of a matrix of the Lie algebra: one factor at a time.
pub fn power_derivative(x: &Matrix, k: usize) -> Matrix {
    from_images(x.rows(), k, |monomial| {
        let mut sum = Sum::new();
        for at in 0..monomial.len() {
            let mut rest = monomial.to_vec();
            let i = rest.remove(at);
            for (a, c) in times_form(&Sum::from([(rest, 1.0)]), x, i) {
                *sum.entry(a).or_insert(0.0) += c;
            }
        }
        sum
    })
}
