//! Where signals live: points, the group that moves them, neighbourhoods, coarsenings.
//! Usable without a compiler; knows groups, not tensors and not syntax.
//!
//! Reading order: `domain` (what every domain answers), `acting` (groups as the user wrote them), `domains` (the registry, one domain a file),
//! `neighbours` (edges from positions).

pub mod acting;
#[allow(clippy::module_inception)]
mod domain;
pub mod domains;
pub mod neighbours;

pub use acting::GroupSpec;
pub use domain::{Batching, Block, Boundary, Coarse, Domain, DomainError, DomainSpec, Neighbourhood, Orbits};
pub use domains::{construct, distinct, product};
