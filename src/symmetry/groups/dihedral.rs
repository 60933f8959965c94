//! D_n: the rotations and reflections of the regular n-gon, 2n elements.
//! Element `g = n m + r` is `R^r F^m`, in the order of the grid's axes
//! (row, column): R the quarter turn anticlockwise for n = 4, F the flip of
//! the second axis. Irreps: `0e`, `0o` (sign of the reflections), frequencies
//! k, and for even n `(n/2)e`, `(n/2)o`.

use crate::math::Matrix;
use crate::symmetry::finite::FiniteGroup;
use crate::symmetry::finite_irreps::IrrepGenerators;
use crate::symmetry::group::{Endomorphism, SymmetryError};
use crate::symmetry::irrep::{Irrep, Parity};

use super::Family;
use super::cyclic::{check_order, turn};

pub(super) const FAMILY: Family = Family {
    name: "D<n>",
    about: "rotations and reflections of the regular n-gon (2n elements)",
    build: |name| {
        let n = name.number.filter(|_| name.head == "D")?;
        Some(name.needs_axes(2).and_then(|()| group(n)).map(FiniteGroup::shared))
    },
    examples: &[("D1", Some(2)), ("D2", Some(2)), ("D3", Some(2)), ("D4", Some(2)), ("D5", Some(2)), ("D6", Some(2))],
};

/// The group D_n.
///
/// # Errors
/// For n = 0 and above the bound on the order.
pub fn group(n: usize) -> Result<FiniteGroup, SymmetryError> {
    check_order("D", n, n.saturating_mul(2))?;
    let flip = Matrix::diagonal(&[1.0, -1.0]);
    let rotations = (0..n).map(|r| turn(r, n));
    let reflections = (0..n).map(|r| turn(r, n).mul(&flip));
    let elements: Vec<Matrix> = rotations.chain(reflections).collect();
    let generators: Vec<usize> = if n > 1 { vec![1, n] } else { vec![n] };
    let mut irreps = Vec::new();
    let mut add = |k: usize, parity: Parity, rotation: Matrix, reflection: Matrix| {
        let images = if n > 1 { vec![rotation, reflection] } else { vec![reflection] };
        irreps.push(IrrepGenerators { label: Irrep::new(k as u32, parity), endomorphism: Endomorphism::Real, images });
    };
    for k in 0..=n / 2 {
        let sign = if k == 0 {
            Some(1.0)
        } else if 2 * k == n {
            Some(-1.0)
        } else {
            None
        };
        match sign {
            Some(s) => {
                for parity in [Parity::Even, Parity::Odd] {
                    add(k, parity, Matrix::diagonal(&[s]), Matrix::diagonal(&[parity.sign()]));
                }
            }
            None => add(k, Parity::Even, turn(k, n), flip.clone()),
        }
    }
    Ok(FiniteGroup::from_elements(&format!("D{n}"), 2, elements, &generators)?.with_irreps(irreps))
}
