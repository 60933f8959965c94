//! C_n: the rotations of the plane by multiples of 2 pi / n. Element r is R^r,
//! R the quarter turn anticlockwise for n = 4. Irreps by frequency 0..=n/2.

use crate::math::Matrix;
use crate::symmetry::finite::{FiniteGroup, MAX_ORDER};
use crate::symmetry::finite_irreps::IrrepGenerators;
use crate::symmetry::group::{Endomorphism, SymmetryError};
use crate::symmetry::irrep::{Irrep, Parity};

use super::Family;

pub(super) const FAMILY: Family = Family {
    name: "C<n>",
    about: "rotations of the plane by multiples of 2 pi / n",
    build: |name| {
        let n = name.number.filter(|_| name.head == "C")?;
        Some(name.needs_axes(2).and_then(|()| group(n)).map(FiniteGroup::shared))
    },
    examples: &[("C1", Some(2)), ("C2", Some(2)), ("C3", Some(2)), ("C4", Some(2)), ("C5", Some(2)), ("C6", Some(2))],
};

/// The rotation by `k / n` of a turn; exactly integer where it is.
pub(super) fn turn(k: usize, n: usize) -> Matrix {
    let exact = |x: f64| if (x - x.round()).abs() < 1e-12 { x.round() } else { x };
    let m = Matrix::rotation(2.0 * std::f64::consts::PI * (k % n) as f64 / n as f64);
    Matrix::from_fn(2, 2, |i, j| exact(m[(i, j)]))
}

/// Refuses orders that are zero or above the bound.
pub(super) fn check_order(name: &str, n: usize, order: usize) -> Result<(), SymmetryError> {
    if n == 0 {
        Err(SymmetryError::BadGenerators(format!("{name}0 is not a group; n is at least 1")))
    } else if order > MAX_ORDER {
        Err(SymmetryError::TooLarge(format!("{name}{n} has {order} elements; at most {MAX_ORDER} are tabulated")))
    } else {
        Ok(())
    }
}

/// The group C_n.
///
/// # Errors
/// For n = 0 and above the bound on the order.
pub fn group(n: usize) -> Result<FiniteGroup, SymmetryError> {
    check_order("C", n, n)?;
    let elements = (0..n).map(|r| turn(r, n)).collect();
    let generators: &[usize] = if n > 1 { &[1] } else { &[] };
    let irreps = (0..=n / 2)
        .map(|k| {
            let (image, endomorphism) = if k == 0 {
                (Matrix::identity(1), Endomorphism::Real)
            } else if 2 * k == n {
                (Matrix::diagonal(&[-1.0]), Endomorphism::Real)
            } else {
                (turn(k, n), Endomorphism::Complex)
            };
            IrrepGenerators {
                label: Irrep::new(k as u32, Parity::Even),
                endomorphism,
                images: vec![image; generators.len()],
            }
        })
        .collect();
    Ok(FiniteGroup::from_elements(&format!("C{n}"), 2, elements, generators)?.with_irreps(irreps))
}
