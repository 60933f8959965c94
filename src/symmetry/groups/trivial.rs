//! The trivial group, on any number of axes.

use std::sync::Arc;

use crate::math::Matrix;
use crate::symmetry::finite::FiniteGroup;
use crate::symmetry::finite_irreps::IrrepGenerators;
use crate::symmetry::group::{Endomorphism, GroupRef};
use crate::symmetry::irrep::Irrep;

use super::Family;

pub(super) const FAMILY: Family = Family {
    name: "trivial",
    about: "the identity alone",
    build: |name| {
        let mine = matches!(name.head.as_str(), "trivial" | "identity") && name.number.is_none();
        mine.then(|| Ok(Arc::new(group(name.axes.unwrap_or(0))) as GroupRef))
    },
    examples: &[("trivial", Some(2))],
};

/// The trivial group on `axes` axes.
pub fn group(axes: usize) -> FiniteGroup {
    let only = IrrepGenerators { label: Irrep::TRIVIAL, endomorphism: Endomorphism::Real, images: Vec::new() };
    FiniteGroup::from_elements("trivial", axes, vec![Matrix::identity(axes)], &[])
        .unwrap_or_else(|e| panic!("symmetry: {e}"))
        .with_irreps(vec![only])
}
