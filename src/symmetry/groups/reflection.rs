//! O(1): the reflection of a line. Also found as `D1` and `C2` on one axis.

use crate::math::Matrix;
use crate::symmetry::finite::FiniteGroup;
use crate::symmetry::finite_irreps::IrrepGenerators;
use crate::symmetry::group::Endomorphism;
use crate::symmetry::irrep::{Irrep, Parity};

use super::Family;

pub(super) const FAMILY: Family = Family {
    name: "O(1)",
    about: "the reflection of one axis",
    build: |name| {
        let on_a_line = name.axes == Some(1)
            && !name.bracketed
            && matches!((name.head.as_str(), name.number), ("D", Some(1)) | ("C", Some(2)));
        let by_name = name.head == "O" && name.number == Some(1) && name.bracketed;
        (on_a_line || by_name).then(|| name.needs_axes(1).map(|()| group().shared()))
    },
    examples: &[("O(1)", Some(1))],
};

/// `{1, -1}` on R.
pub fn group() -> FiniteGroup {
    let sign = |parity: Parity| IrrepGenerators {
        label: Irrep::new(0, parity),
        endomorphism: Endomorphism::Real,
        images: vec![Matrix::diagonal(&[parity.sign()])],
    };
    FiniteGroup::from_elements("O(1)", 1, vec![Matrix::identity(1), Matrix::diagonal(&[-1.0])], &[1])
        .unwrap_or_else(|e| panic!("symmetry: {e}"))
        .with_irreps(vec![sign(Parity::Even), sign(Parity::Odd)])
}
