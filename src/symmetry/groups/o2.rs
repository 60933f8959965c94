//! O(2): rotations and reflections of the plane. The flip is diag(1, -1).
//! Irreps: `0e` trivial, `0o` the determinant, and for each frequency k >= 1
//! the rotation by k times the angle with the flip diag(1, -1); real type.

use std::sync::Arc;

use crate::math::{Matrix, Rng};
use crate::symmetry::group::{Element, Endomorphism, Group, GroupRef};
use crate::symmetry::irrep::{Irrep, MAX_FREQUENCY, Parity};
use crate::symmetry::tensor3::Tensor3;

use super::Family;
use super::so2::{SO2, planar_couplings, power, quarter_turn};

pub(super) const FAMILY: Family = Family {
    name: "O(2)",
    about: "rotations and reflections of the plane",
    build: |name| {
        let mine = name.head == "O" && name.number == Some(2) && name.bracketed;
        mine.then(|| name.needs_axes(2).map(|()| Arc::new(O2) as GroupRef))
    },
    examples: &[("O(2)", Some(2))],
};

/// The group O(2).
#[derive(Debug)]
pub struct O2;

fn flip() -> Matrix {
    Matrix::diagonal(&[1.0, -1.0])
}

/// `R` and whether the element is `R F` rather than `R`.
fn split(g: &Matrix) -> (Matrix, bool) {
    let det = g[(0, 0)] * g[(1, 1)] - g[(0, 1)] * g[(1, 0)];
    if det < 0.0 { (g.mul(&flip()), true) } else { (g.clone(), false) }
}

impl Group for O2 {
    fn name(&self) -> String {
        "O(2)".to_string()
    }

    fn space_dim(&self) -> usize {
        2
    }

    fn discrete_generators(&self) -> Vec<Element> {
        vec![Element::Matrix(flip())]
    }

    fn lie_algebra(&self) -> Vec<Matrix> {
        vec![quarter_turn()]
    }

    fn sample(&self, rng: &mut Rng) -> Element {
        let rotation = SO2.sample(rng);
        if rng.below(2) == 0 { rotation } else { Element::Matrix(rotation.matrix().mul(&flip())) }
    }

    fn irreps(&self, max_degree: u32) -> Vec<Irrep> {
        let signs = [Irrep::TRIVIAL, Irrep::new(0, Parity::Odd)];
        signs.into_iter().chain((1..=max_degree).map(|k| Irrep::new(k, Parity::Even))).collect()
    }

    fn canonical(&self, irrep: Irrep) -> Option<Irrep> {
        (irrep.degree <= MAX_FREQUENCY)
            .then(|| if irrep.degree == 0 { irrep } else { Irrep::new(irrep.degree, Parity::Even) })
    }

    fn irrep_dim(&self, irrep: Irrep) -> usize {
        if irrep.degree == 0 { 1 } else { 2 }
    }

    fn endomorphism(&self, _irrep: Irrep) -> Endomorphism {
        Endomorphism::Real
    }

    fn irrep_rho(&self, irrep: Irrep, g: &Element) -> Matrix {
        let (rotation, flipped) = split(g.matrix());
        match (irrep.degree, flipped) {
            (0, true) => Matrix::diagonal(&[irrep.parity.sign()]),
            (0, false) => Matrix::identity(1),
            (k, true) => power(&rotation, k).mul(&flip()),
            (k, false) => power(&rotation, k),
        }
    }

    fn irrep_drho(&self, irrep: Irrep, generator: usize) -> Matrix {
        SO2.irrep_drho(irrep, generator)
    }

    fn vector_irrep(&self) -> Option<Irrep> {
        Some(Irrep::new(1, Parity::Even))
    }

    fn tensor_product(&self, a: Irrep, b: Irrep) -> Vec<Irrep> {
        let irrep = |k: u32| Irrep::new(k, Parity::Even);
        match (a.degree, b.degree) {
            (0, 0) => vec![Irrep::new(0, a.parity.times(b.parity))],
            (0, k) | (k, 0) => vec![irrep(k)],
            (j, k) if j == k => vec![Irrep::TRIVIAL, Irrep::new(0, Parity::Odd), irrep(2 * k)],
            (j, k) => vec![irrep(j.abs_diff(k)), irrep(j + k)],
        }
    }

    fn clebsch_gordan(&self, a: Irrep, b: Irrep, c: Irrep) -> Vec<Tensor3> {
        // Of the couplings of the rotations, those that the flip leaves alone.
        let f = Element::Matrix(flip());
        let [fa, fb, fc] = [a, b, c].map(|ir| self.irrep_rho(ir, &f));
        let all = planar_couplings(a.degree, b.degree, c.degree);
        all.into_iter().filter(|t| t.invariance_residual(&fa, &fb, &fc) < 1e-12).collect()
    }
}
