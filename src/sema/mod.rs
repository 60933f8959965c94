//! ast → hir: names resolved, sizes and fibres computed, layers instantiated, types checked against the mathematics.
//! What comes out is equivariant by its types; how each map is computed is not decided here.
//!
//! Reading order: `hir` (what comes out).

pub mod hir;
pub mod rational;
