//! Numbers without groups: small dense matrices, null spaces, exact roots of
//! rationals, deterministic random numbers, slopes by differences.
//!
//! In: `f64` data. Out: `f64` data, the same on every run. Knows nothing of
//! groups, domains or the language.

mod matrix;
mod nullspace;
mod rational;
mod rng;
mod slope;

pub use matrix::Matrix;
pub use nullspace::{RANK_TOLERANCE, null_space, orthonormalise, reduced_row_echelon, span_rank};
pub use rational::{RootOfRational, recover_root};
pub use rng::Rng;
pub use slope::slope_near;
