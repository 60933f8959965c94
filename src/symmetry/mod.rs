//! Groups, representations and the linear maps between them. Usable as a
//! library on its own: no domain, no language.
//!
//! In: names and generators of groups, labels of representations. Out:
//! matrices, dimensions, bases of intertwiners, Clebsch-Gordan coefficients,
//! spherical harmonics. Must not know of grids, graphs, tensors or syntax.
//!
//! The map:
//! - [`group`]: the trait [`Group`], its elements and its errors.
//! - [`finite`]: [`FiniteGroup`], given by matrices; multiplication tables.
//! - [`groups`]: the registry (`by_name`), one group a file; [`Symmetry`] for
//!   semidirect products such as `shift . D4`.
//! - [`irrep`]: labels [`Irrep`] and [`Irreps`] (e3nn's strings).
//! - [`rep`]: [`Rep`]: scalar, vector, regular, quotient, irreps, sums,
//!   products, duals, restriction, induction.
//! - [`inclusion`]: subgroups and how they sit in the group.
//! - [`symmetric_power`]: the action on polynomials in the components.
//! - [`intertwiner`]: `equivariant_basis` = Hom_G(V, W), in two tiers.
//! - [`mod@decompose`]: the change of basis to irreps (Fourier on a finite group);
//!   [`fourier`]: equivariant maps in that basis.
//! - [`window`]: Mackey's theorem on a finite set of displacements: kernels.
//! - [`axis`]: kernels of a displacement in R^d: stabilisers of an axis, paths;
//!   [`polar`]: the same along the axis itself.
//! - [`partition`]: S_n on `[n]^k`: set partitions and Bell numbers.
//! - [`tensor3`], [`clebsch_gordan`], [`wigner`], [`harmonics`]: SO(3), O(3).

pub mod axis;
pub mod clebsch_gordan;
pub mod decompose;
pub mod finite;
pub mod finite_irreps;
pub mod fourier;
pub mod group;
pub mod groups;
pub mod harmonics;
pub mod inclusion;
pub mod intertwiner;
pub mod irrep;
pub mod partition;
pub mod polar;
pub mod rep;
pub mod symmetric_power;
pub mod symmetry_product;
pub mod tensor3;
pub mod wigner;
pub mod window;

pub use axis::{AngularPath, NoPaths, angular_degrees, angular_paths, axis_stabiliser};
pub use clebsch_gordan::{Convention, wigner_3j};
pub use decompose::{Decomposition, decompose};
pub use finite::FiniteGroup;
pub use fourier::{Isotypic, in_fourier};
pub use group::{Element, Endomorphism, Group, GroupRef, SymmetryError};
pub use inclusion::Inclusion;
pub use intertwiner::{equivariant_basis, hom_dim};
pub use irrep::{Irrep, Irreps, Parity};
pub use polar::PolarPaths;
pub use rep::{Block, Rep};
pub use symmetry_product::Symmetry;
pub use tensor3::Tensor3;
pub use window::{KernelEntries, WindowBasis, WindowError, WindowOrbit, kernel_basis, patches};
