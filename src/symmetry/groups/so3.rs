//! SO(3): rotations of space, on (x, y, z), polar axis y. Irreps by degree l,
//! dimension 2l+1, components m = -l..l; degree 1 is (x, y, z) itself.

use std::sync::Arc;

use crate::math::{Matrix, Rng};
use crate::symmetry::clebsch_gordan::{Convention, triangle, wigner_3j};
use crate::symmetry::group::{Element, Endomorphism, Group, GroupRef};
use crate::symmetry::irrep::{Irrep, MAX_DEGREE, Parity};
use crate::symmetry::tensor3::Tensor3;
use crate::symmetry::wigner::{rotation_generators, wigner, wigner_generator};

use super::Family;

pub(super) const FAMILY: Family = Family {
    name: "SO(3)",
    about: "rotations of space",
    build: |name| {
        let mine = name.head == "SO" && name.number == Some(3) && name.bracketed;
        mine.then(|| name.needs_axes(3).map(|()| Arc::new(SO3) as GroupRef))
    },
    examples: &[("SO(3)", Some(3))],
};

/// The group SO(3).
#[derive(Debug)]
pub struct SO3;

/// A uniform rotation, by a uniform unit quaternion.
pub(super) fn random_rotation(rng: &mut Rng) -> Matrix {
    let q: [f64; 4] = std::array::from_fn(|_| rng.normal());
    let n = q.iter().map(|x| x * x).sum::<f64>().sqrt();
    let [w, x, y, z] = q.map(|c| c / n);
    Matrix::from_rows(&[
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
        [2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)],
        [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)],
    ])
}

/// The coupling of three degrees as a list of at most one tensor.
pub(super) fn coupling(a: Irrep, b: Irrep, c: Irrep) -> Vec<Tensor3> {
    let (l1, l2, l3) = (a.degree as usize, b.degree as usize, c.degree as usize);
    if !triangle(l1, l2, l3) {
        return Vec::new();
    }
    let w = wigner_3j(l1, l2, l3, Convention::E3nn05);
    vec![w.unwrap_or_else(|| panic!("symmetry: Clebsch-Gordan of degrees {l1}, {l2}, {l3} is above the limit"))]
}

impl Group for SO3 {
    fn name(&self) -> String {
        "SO(3)".to_string()
    }

    fn space_dim(&self) -> usize {
        3
    }

    fn discrete_generators(&self) -> Vec<Element> {
        Vec::new()
    }

    fn lie_algebra(&self) -> Vec<Matrix> {
        rotation_generators()
    }

    fn sample(&self, rng: &mut Rng) -> Element {
        Element::Matrix(random_rotation(rng))
    }

    fn irreps(&self, max_degree: u32) -> Vec<Irrep> {
        (0..=max_degree).map(|l| Irrep::new(l, Parity::Even)).collect()
    }

    fn canonical(&self, irrep: Irrep) -> Option<Irrep> {
        (irrep.degree <= MAX_DEGREE).then(|| Irrep::new(irrep.degree, Parity::Even))
    }

    fn irrep_dim(&self, irrep: Irrep) -> usize {
        2 * irrep.degree as usize + 1
    }

    fn endomorphism(&self, _irrep: Irrep) -> Endomorphism {
        Endomorphism::Real
    }

    fn irrep_rho(&self, irrep: Irrep, g: &Element) -> Matrix {
        wigner(irrep.degree as usize, g.matrix())
    }

    fn irrep_drho(&self, irrep: Irrep, generator: usize) -> Matrix {
        wigner_generator(irrep.degree as usize, &rotation_generators()[generator])
    }

    fn vector_irrep(&self) -> Option<Irrep> {
        Some(Irrep::new(1, Parity::Even))
    }

    fn tensor_product(&self, a: Irrep, b: Irrep) -> Vec<Irrep> {
        (a.degree.abs_diff(b.degree)..=a.degree + b.degree).map(|l| Irrep::new(l, Parity::Even)).collect()
    }

    fn clebsch_gordan(&self, a: Irrep, b: Irrep, c: Irrep) -> Vec<Tensor3> {
        coupling(a, b, c)
    }
}
