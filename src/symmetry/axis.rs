//! Kernels that depend on a displacement in R^d: along each direction one
//! orbit for each length, fixed by the stabiliser of the axis.
//!
//! In: two irreps of SO(d) or O(d), d = 2, 3. Out: the stabiliser of an axis,
//! and the angular parts of the equivariant kernels
//! `K(r) = sum_f R_f(|r|) C_f Y_f(r / |r|)`. By Frobenius reciprocity there
//! are dim Hom_Stab(rho_in, rho_out) of them (Thomas et al. 2018; Weiler and
//! Cesa 2019).

use std::sync::Arc;

use crate::math::Matrix;

use super::group::GroupRef;
use super::groups::{o2::O2, reflection, so2::SO2, trivial};
use super::inclusion::Inclusion;
use super::irrep::Irrep;
use super::rep::Rep;
use super::tensor3::Tensor3;

/// One angular part of a kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct AngularPath {
    /// The degree f of the harmonics of the direction.
    pub degree: u32,
    /// `C[input, harmonic, output]`, Frobenius norm 1.
    pub coupling: Tensor3,
}

/// The subgroup that fixes the polar axis: y in R^3, the first axis in R^2.
/// Nothing for a group that does not act transitively on directions.
pub fn axis_stabiliser(group: &GroupRef) -> Option<Inclusion> {
    let mirror = || reflection::group().shared();
    let second = Matrix::from_rows(&[[0.0], [1.0]]);
    let reflections = group.discrete_generators().len();
    match (group.space_dim(), group.lie_algebra().len(), reflections) {
        (3, 3, 0) => Some(Inclusion::about_y(&(Arc::new(SO2) as GroupRef), group)),
        (3, 3, _) => Some(Inclusion::about_y(&(Arc::new(O2) as GroupRef), group)),
        (2, 1, 0) => Some(Inclusion::on_subspace(&trivial::group(1).shared(), group, second)),
        (2, 1, _) => Some(Inclusion::on_subspace(&mirror(), group, second)),
        _ => None,
    }
}

/// The angular parts of the kernels from one irrep to another, by degree.
/// Nothing when the representations are not irreps of SO(d) or O(d).
pub fn angular_paths(rho_in: &Rep, rho_out: &Rep) -> Option<Vec<AngularPath>> {
    let group = rho_in.group();
    axis_stabiliser(group)?;
    let (a, c) = (rho_in.as_irrep()?, rho_out.as_irrep()?);
    let mut paths = Vec::new();
    for degree in 0..=a.degree + c.degree {
        let Some(harmonic) =
            group.canonical(Irrep::natural(degree)).filter(|_| degree > 0).or((degree == 0).then_some(Irrep::TRIVIAL))
        else {
            continue;
        };
        paths.extend(group.clebsch_gordan(a, harmonic, c).into_iter().map(|coupling| AngularPath { degree, coupling }));
    }
    Some(paths)
}
