//! Direct products of finite groups, acting on the direct sum of their spaces.
//! Element `(a, b)` is at `a |B| + b`.

use crate::math::Matrix;
use crate::symmetry::finite::{FiniteGroup, MAX_ORDER};
use crate::symmetry::group::{GroupRef, SymmetryError};

/// The product A x B.
///
/// # Errors
/// `NotFinite` for continuous factors, `TooLarge` above the bound.
pub fn group(a: &GroupRef, b: &GroupRef) -> Result<FiniteGroup, SymmetryError> {
    let name = format!("{} x {}", a.name(), b.name());
    let (Some(fa), Some(fb)) = (a.finite(), b.finite()) else {
        return Err(SymmetryError::NotFinite(format!("{name}: only products of finite point groups are tabulated")));
    };
    if fa.order() * fb.order() > MAX_ORDER {
        return Err(SymmetryError::TooLarge(format!(
            "{name} has {} elements; at most {MAX_ORDER} are tabulated",
            fa.order() * fb.order()
        )));
    }
    let mut elements = Vec::new();
    for i in 0..fa.order() {
        for j in 0..fb.order() {
            elements.push(Matrix::direct_sum(&[fa.matrix(i).clone(), fb.matrix(j).clone()]));
        }
    }
    let generators: Vec<usize> =
        fa.generators().iter().map(|g| g * fb.order()).chain(fb.generators().iter().copied()).collect();
    FiniteGroup::from_elements(&name, a.space_dim() + b.space_dim(), elements, &generators)
}
