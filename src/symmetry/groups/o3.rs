//! O(3) = SO(3) x {1, -1}: rotations, reflections and the inversion of space.
//! Irreps by degree and parity, the sign of the inversion; vectors are `1o`.

use std::sync::Arc;

use crate::math::{Matrix, Rng};
use crate::symmetry::group::{Element, Endomorphism, Group, GroupRef};
use crate::symmetry::irrep::{Irrep, MAX_DEGREE, Parity};
use crate::symmetry::tensor3::Tensor3;
use crate::symmetry::wigner::{rotation_generators, wigner};

use super::Family;
use super::so3::{SO3, coupling, random_rotation};

pub(super) const FAMILY: Family = Family {
    name: "O(3)",
    about: "rotations and reflections of space",
    build: |name| {
        let mine = name.head == "O" && name.number == Some(3) && name.bracketed;
        mine.then(|| name.needs_axes(3).map(|()| Arc::new(O3) as GroupRef))
    },
    examples: &[("O(3)", Some(3))],
};

/// The group O(3).
#[derive(Debug)]
pub struct O3;

impl Group for O3 {
    fn name(&self) -> String {
        "O(3)".to_string()
    }

    fn space_dim(&self) -> usize {
        3
    }

    fn discrete_generators(&self) -> Vec<Element> {
        vec![Element::Matrix(Matrix::identity(3).scale(-1.0))]
    }

    fn lie_algebra(&self) -> Vec<Matrix> {
        rotation_generators()
    }

    fn sample(&self, rng: &mut Rng) -> Element {
        let rotation = random_rotation(rng);
        Element::Matrix(if rng.below(2) == 0 { rotation } else { rotation.scale(-1.0) })
    }

    fn irreps(&self, max_degree: u32) -> Vec<Irrep> {
        (0..=max_degree).flat_map(|l| [Irrep::new(l, Parity::Even), Irrep::new(l, Parity::Odd)]).collect()
    }

    fn canonical(&self, irrep: Irrep) -> Option<Irrep> {
        (irrep.degree <= MAX_DEGREE).then_some(irrep)
    }

    fn irrep_dim(&self, irrep: Irrep) -> usize {
        2 * irrep.degree as usize + 1
    }

    fn endomorphism(&self, _irrep: Irrep) -> Endomorphism {
        Endomorphism::Real
    }

    fn irrep_rho(&self, irrep: Irrep, g: &Element) -> Matrix {
        // The recurrence gives the natural parity; the other differs by the determinant.
        let natural = wigner(irrep.degree as usize, g.matrix());
        if irrep.parity == Parity::natural(irrep.degree) || g.matrix().determinant() > 0.0 {
            natural
        } else {
            natural.scale(-1.0)
        }
    }

    fn irrep_drho(&self, irrep: Irrep, generator: usize) -> Matrix {
        SO3.irrep_drho(irrep, generator)
    }

    fn vector_irrep(&self) -> Option<Irrep> {
        Some(Irrep::new(1, Parity::Odd))
    }

    fn tensor_product(&self, a: Irrep, b: Irrep) -> Vec<Irrep> {
        let parity = a.parity.times(b.parity);
        (a.degree.abs_diff(b.degree)..=a.degree + b.degree).map(|l| Irrep::new(l, parity)).collect()
    }

    fn clebsch_gordan(&self, a: Irrep, b: Irrep, c: Irrep) -> Vec<Tensor3> {
        if a.parity.times(b.parity) == c.parity { coupling(a, b, c) } else { Vec::new() }
    }
}
