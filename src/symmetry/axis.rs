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

/// Why kernels have no angular parts here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPaths {
    /// The representations are not irreps of SO(d) or O(d).
    NotIrreps,
    /// Harmonics of this degree are needed, and are above the limit.
    Degree(u32),
}

/// The degrees of the harmonics of the kernels from one irrep to another, by the selection rule alone: no coefficient
/// is computed. One of them may have several paths.
pub fn angular_degrees(rho_in: &Rep, rho_out: &Rep) -> Result<Vec<(u32, Irrep)>, NoPaths> {
    let group = rho_in.group();
    let irreps = axis_stabiliser(group).and_then(|_| Some((rho_in.as_irrep()?, rho_out.as_irrep()?)));
    let (a, c) = irreps.ok_or(NoPaths::NotIrreps)?;
    let mut res = Vec::new();
    for degree in a.degree.abs_diff(c.degree)..=a.degree + c.degree {
        let natural = if degree == 0 { Irrep::TRIVIAL } else { Irrep::natural(degree) };
        let harmonic = group.canonical(natural).ok_or(NoPaths::Degree(degree))?;
        if group.tensor_product(a, harmonic).contains(&c) {
            res.push((degree, harmonic));
        }
    }
    Ok(res)
}

/// The angular parts of the kernels from one irrep to another, by degree.
pub fn angular_paths(rho_in: &Rep, rho_out: &Rep) -> Result<Vec<AngularPath>, NoPaths> {
    let group = rho_in.group();
    let (Some(a), Some(c)) = (rho_in.as_irrep(), rho_out.as_irrep()) else { return Err(NoPaths::NotIrreps) };
    let path = |degree| move |coupling| AngularPath { degree, coupling };
    let paths = |(degree, f): (u32, Irrep)| group.clebsch_gordan(a, f, c).into_iter().map(path(degree));
    Ok(angular_degrees(rho_in, rho_out)?.into_iter().flat_map(paths).collect())
}
