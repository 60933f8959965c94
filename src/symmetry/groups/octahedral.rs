//! The symmetries of the cube as signed permutations of three axes: T (12
//! rotations of the tetrahedron), O (24 rotations), O_h (48 with reflections).
//! Elements in the order in which the generators reach them.

use crate::math::Matrix;
use crate::symmetry::finite::FiniteGroup;

use super::Family;

pub(super) const FAMILY: Family = Family {
    name: "T, O, O_h",
    about: "rotations of the tetrahedron (12), rotations of the cube (24), all its symmetries (48)",
    build: |name| {
        if name.number.is_some() {
            return None;
        }
        let which: fn() -> FiniteGroup = match name.head.as_str() {
            "T" => tetrahedral,
            "O" => rotations,
            "O_h" | "Oh" => full,
            _ => return None,
        };
        Some(name.needs_axes(3).map(|()| which().shared()))
    },
    examples: &[("T", Some(3)), ("O", Some(3)), ("O_h", Some(3))],
};

/// The quarter turn of the last two axes.
fn quarter() -> Matrix {
    Matrix::from_rows(&[[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
}

/// The third of a turn about the diagonal: axis i to axis i + 1.
fn cycle() -> Matrix {
    Matrix::permutation(&[1, 2, 0])
}

fn make(name: &str, generators: &[Matrix]) -> FiniteGroup {
    FiniteGroup::generated(name, generators, 3).unwrap_or_else(|e| panic!("symmetry: {e}"))
}

/// T: the rotations of the tetrahedron, 12.
pub fn tetrahedral() -> FiniteGroup {
    make("T", &[Matrix::diagonal(&[1.0, -1.0, -1.0]), cycle()])
}

/// O: the rotations of the cube, 24.
pub fn rotations() -> FiniteGroup {
    make("O", &[quarter(), cycle()])
}

/// O_h: all symmetries of the cube, 48.
pub fn full() -> FiniteGroup {
    make("O_h", &[quarter(), cycle(), Matrix::identity(3).scale(-1.0)])
}
