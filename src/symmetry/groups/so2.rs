//! SO(2): rotations of the plane. Irreps by frequency k: the trivial one and
//! `[[cos kt, -sin kt], [sin kt, cos kt]]`, of complex type.

use std::f64::consts::{FRAC_1_SQRT_2, PI};
use std::sync::Arc;

use crate::math::{Matrix, Rng};
use crate::symmetry::group::{Element, Endomorphism, Group, GroupRef};
use crate::symmetry::irrep::{Irrep, MAX_FREQUENCY, Parity};
use crate::symmetry::tensor3::Tensor3;

use super::Family;

pub(super) const FAMILY: Family = Family {
    name: "SO(2)",
    about: "rotations of the plane",
    build: |name| {
        let mine = name.head == "SO" && name.number == Some(2) && name.bracketed;
        mine.then(|| name.needs_axes(2).map(|()| Arc::new(SO2) as GroupRef))
    },
    examples: &[("SO(2)", Some(2))],
};

/// The group SO(2).
#[derive(Debug)]
pub struct SO2;

/// The quarter turn: the generator of the Lie algebra.
pub(super) fn quarter_turn() -> Matrix {
    Matrix::from_rows(&[[0.0, -1.0], [1.0, 0.0]])
}

/// The matrix of a rotation's k-th power: cos and sin of k times its angle,
/// by complex powers, so no inverse trigonometry is needed.
pub(super) fn power(rotation: &Matrix, k: u32) -> Matrix {
    let (c, s) = (rotation[(0, 0)], rotation[(1, 0)]);
    let (mut re, mut im) = (1.0, 0.0);
    for _ in 0..k {
        (re, im) = (re * c - im * s, re * s + im * c);
    }
    Matrix::from_rows(&[[re, -im], [im, re]])
}

/// The couplings of frequencies a and b to |a - b| and a + b as maps of the
/// complex numbers: `z w` and `conj(z) w` or `z conj(w)`, each times 1 and i.
/// Entries `[i, j, k]`, Frobenius norm 1.
pub(super) fn planar_couplings(a: u32, b: u32, c: u32) -> Vec<Tensor3> {
    let (da, db, dc) = (1 + usize::from(a > 0), 1 + usize::from(b > 0), 1 + usize::from(c > 0));
    let mut found: Vec<Tensor3> = Vec::new();
    for (sa, sb) in [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)] {
        // z^sa w^sb has frequency sa a + sb b.
        let skip = (a == 0 && sa < 0.0) || (b == 0 && sb < 0.0);
        if skip || sa * f64::from(a) + sb * f64::from(b) != f64::from(c) {
            continue;
        }
        for unit in 0..2 {
            let t = Tensor3::from_fn([da, db, dc], |i, j, k| {
                let z = if i == 0 { (1.0, 0.0) } else { (0.0, sa) };
                let w = if j == 0 { (1.0, 0.0) } else { (0.0, sb) };
                let zw = (z.0 * w.0 - z.1 * w.1, z.0 * w.1 + z.1 * w.0);
                let turned = if unit == 0 { zw } else { (-zw.1, zw.0) };
                if k == 0 { turned.0 } else { turned.1 }
            });
            let norm = t.norm();
            let t = t.scale(if norm > 0.0 { 1.0 / norm } else { 0.0 });
            if norm > 0.0 && !found.iter().any(|f| overlap(f, &t).abs() > FRAC_1_SQRT_2) {
                found.push(t);
            }
        }
    }
    found
}

fn overlap(a: &Tensor3, b: &Tensor3) -> f64 {
    a.entries.iter().map(|([i, j, k], v)| v * b.get(*i, *j, *k)).sum()
}

impl Group for SO2 {
    fn name(&self) -> String {
        "SO(2)".to_string()
    }

    fn space_dim(&self) -> usize {
        2
    }

    fn discrete_generators(&self) -> Vec<Element> {
        Vec::new()
    }

    fn lie_algebra(&self) -> Vec<Matrix> {
        vec![quarter_turn()]
    }

    fn sample(&self, rng: &mut Rng) -> Element {
        Element::Matrix(Matrix::rotation(2.0 * PI * rng.uniform()))
    }

    fn irreps(&self, max_degree: u32) -> Vec<Irrep> {
        (0..=max_degree).map(|k| Irrep::new(k, Parity::Even)).collect()
    }

    fn canonical(&self, irrep: Irrep) -> Option<Irrep> {
        (irrep.degree <= MAX_FREQUENCY).then(|| Irrep::new(irrep.degree, Parity::Even))
    }

    fn irrep_dim(&self, irrep: Irrep) -> usize {
        if irrep.degree == 0 { 1 } else { 2 }
    }

    fn endomorphism(&self, irrep: Irrep) -> Endomorphism {
        if irrep.degree == 0 { Endomorphism::Real } else { Endomorphism::Complex }
    }

    fn irrep_rho(&self, irrep: Irrep, g: &Element) -> Matrix {
        if irrep.degree == 0 { Matrix::identity(1) } else { power(g.matrix(), irrep.degree) }
    }

    fn irrep_drho(&self, irrep: Irrep, _generator: usize) -> Matrix {
        if irrep.degree == 0 { Matrix::zeros(1, 1) } else { quarter_turn().scale(f64::from(irrep.degree)) }
    }

    fn vector_irrep(&self) -> Option<Irrep> {
        Some(Irrep::new(1, Parity::Even))
    }

    fn has_rotation_blocks(&self) -> bool {
        true
    }

    fn tensor_product(&self, a: Irrep, b: Irrep) -> Vec<Irrep> {
        let irrep = |k: u32| Irrep::new(k, Parity::Even);
        match (a.degree, b.degree) {
            (0, k) | (k, 0) => vec![irrep(k)],
            (j, k) if j == k => vec![irrep(0), irrep(0), irrep(2 * k)],
            (j, k) => vec![irrep(j.abs_diff(k)), irrep(j + k)],
        }
    }

    fn clebsch_gordan(&self, a: Irrep, b: Irrep, c: Irrep) -> Vec<Tensor3> {
        planar_couplings(a.degree, b.degree, c.degree)
    }
}
