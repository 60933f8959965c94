//! hir → tensor: every layer derived from the symmetry of its domain.
//!
//! In: a checked model ([`crate::sema::hir`]). Out: a tensor program ([`crate::tensor::graph`]) and a [`blueprint`], a row a layer.
//! The one place that sees both symmetry and tensors; what it must not know is text and machines.
//!
//! One routine derives every `linear`. It asks the domain for the orbits of the neighbourhood, the group for
//! `Hom_Stab(rho_in, rho_out)` of each, and gives every basis element a weight:
//! `dim Hom_G = sum over orbits of dim Hom_Stab(orbit)`.
//!
//! # Names and shapes of weights
//! Input blocks of the same kind are joined along their copies, and so are output blocks. Each pair of kinds (out, in) with maps
//! between them has one tensor: `<prefix>.weight` if it is the only such pair of the layer, `<prefix>.weight.<kind>` between equal kinds,
//! otherwise `<prefix>.weight.<out>.<in>`. A kind is called `0e` (scalars, classes), `1o`, `regular`, ... Shapes, row-major:
//! - pointwise: `[out, in]`, and `[out, in, basis]` where Hom has more than one dimension;
//! - windows: `[out, in, basis]`; for permutation representations the basis is numbered by the first entry
//!   `(out component, in component, cell)` of each orbit, so `h * cells + z` between regular fibres;
//! - over `all` of a set or of pairs: `[out, in, basis]`, the set partitions of (output indices, input indices) in the order of their
//!   restricted growth strings; indices that occur only in the input are averaged;
//! - over `edges`: `[out, in, 2]`, a point itself, then the sum of its neighbours over the square root of the mean degree;
//! - over a radius: see `radial`.
//!
//! The bias, `<prefix>.bias [out]` (or `.bias.<kind>`, with a last axis where the invariants of the kind have more than one dimension),
//! lives on the invariant part. Biases start at zero, weights normal with the variance that keeps the variance of the signal.
//!
//! Reading order: `signal`, `place` (how signals are laid out), `derivation` (the walk over a model), `linear` and its orbits
//! `window`, `permutation`, `star`, `radial`, and the equal programs `canonical` and `fourier`; then the other operations, a file each; `blueprint`, `certificate`, `gradient_certificate`, `transform`.

pub mod blueprint;
pub mod certificate;
pub mod gradient_certificate;
pub mod instance;
pub mod place;
pub mod signal;
pub mod transform;

mod arithmetic;
mod bilinear;
mod canonical;
mod comprehension;
mod derivation;
mod fourier;
mod geometry;
mod gradient;
mod hom;
mod linear;
mod nonlinearity;
mod norm;
mod permutation;
mod pooling;
mod radial;
mod resolution;
mod star;
mod window;

pub use blueprint::{Blueprint, Row};
pub use derivation::{Derived, derive};
