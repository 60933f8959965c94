//! What a group is to the rest: an action on R^d, generators, irreps.
//!
//! In: a label or an element. Out: matrices. An element of a finite group is
//! an index, of a matrix group its defining matrix. Continuous groups are
//! given by a basis of their Lie algebra plus discrete generators.

use std::fmt;
use std::sync::Arc;

use crate::math::{Matrix, Rng};

use super::finite::FiniteGroup;
use super::intertwiner;
use super::irrep::Irrep;
use super::rep::Rep;
use super::tensor3::Tensor3;

/// A shared group.
pub type GroupRef = Arc<dyn Group>;

/// An element of a group.
#[derive(Clone, Debug, PartialEq)]
pub enum Element {
    /// Of a finite group: its position in the group's list; 0 is the identity.
    Index(usize),
    /// Of a matrix group: the matrix of its action on R^d.
    Matrix(Matrix),
}

impl Element {
    /// The index of a finite group's element; panics on a matrix.
    pub fn index(&self) -> usize {
        match self {
            Element::Index(i) => *i,
            Element::Matrix(m) => panic!("symmetry: an element of a finite group is expected, got the matrix {m:?}"),
        }
    }

    /// The matrix of a matrix group's element; panics on an index.
    pub fn matrix(&self) -> &Matrix {
        match self {
            Element::Matrix(m) => m,
            Element::Index(i) => panic!("symmetry: a matrix is expected, got element {i} of a finite group"),
        }
    }
}

/// `End_G(V)` of a real irrep: by Schur's lemma a division algebra over R.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endomorphism {
    /// Dimension 1: only multiples of the identity.
    Real,
    /// Dimension 2.
    Complex,
    /// Dimension 4.
    Quaternionic,
}

impl Endomorphism {
    /// The dimension over R: the free weights of a map from the irrep to itself.
    pub fn dim(self) -> usize {
        match self {
            Endomorphism::Real => 1,
            Endomorphism::Complex => 2,
            Endomorphism::Quaternionic => 4,
        }
    }
}

/// What can go wrong when a group or a representation is asked for. The text
/// says what and why in the mathematics' words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SymmetryError {
    /// No group of this name; with the names that exist.
    UnknownGroup(String),
    /// The group exists but does not act on a space of this dimension.
    WrongSpace(String),
    /// The generated group is larger than the bound, or infinite.
    TooLarge(String),
    /// The generators do not form a group of matrices.
    BadGenerators(String),
    /// A label does not parse.
    BadIrreps(String),
    /// The group has no such irrep.
    NoSuchIrrep(String),
    /// The construction needs a finite group.
    NotFinite(String),
    /// The named group is not a subgroup.
    NotASubgroup(String),
}

impl fmt::Display for SymmetryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SymmetryError::UnknownGroup(s)
            | SymmetryError::WrongSpace(s)
            | SymmetryError::TooLarge(s)
            | SymmetryError::BadGenerators(s)
            | SymmetryError::BadIrreps(s)
            | SymmetryError::NoSuchIrrep(s)
            | SymmetryError::NotFinite(s)
            | SymmetryError::NotASubgroup(s) => f.write_str(s),
        }
    }
}

impl std::error::Error for SymmetryError {}

/// A group acting on R^d by matrices. The defaults are those of a group of
/// orthogonal matrices whose elements are these matrices.
pub trait Group: fmt::Debug + Send + Sync {
    /// Its textbook name: `D4`, `O(3)`.
    fn name(&self) -> String;

    /// d: the dimension of the space on which it acts.
    fn space_dim(&self) -> usize;

    /// The multiplication table, for a finite group.
    fn finite(&self) -> Option<&FiniteGroup> {
        None
    }

    /// The matrix of `g` on R^d.
    fn action(&self, g: &Element) -> Matrix {
        g.matrix().clone()
    }

    /// The identity.
    fn identity(&self) -> Element {
        Element::Matrix(Matrix::identity(self.space_dim()))
    }

    /// The product `a b`: first `b`, then `a`.
    fn multiply(&self, a: &Element, b: &Element) -> Element {
        Element::Matrix(a.matrix().mul(b.matrix()))
    }

    /// The inverse of `a`.
    fn inverse(&self, a: &Element) -> Element {
        Element::Matrix(a.matrix().transpose())
    }

    /// Generators of the finite group, or of the components of a Lie group.
    fn discrete_generators(&self) -> Vec<Element>;

    /// A basis of the Lie algebra, as matrices on R^d, orthogonal under the
    /// Frobenius product. Empty for a finite group.
    fn lie_algebra(&self) -> Vec<Matrix> {
        Vec::new()
    }

    /// A random element (uniform).
    fn sample(&self, rng: &mut Rng) -> Element;

    /// The irreps in canonical order, the trivial one first; of a Lie group
    /// those of degree at most `max_degree`.
    fn irreps(&self, max_degree: u32) -> Vec<Irrep>;

    /// The group's own name for a label (`1o` of SO(3) is `1e`), or nothing
    /// if the group has no such irrep.
    fn canonical(&self, irrep: Irrep) -> Option<Irrep>;

    /// The irrep on the harmonic polynomials of a degree, if that is one.
    fn natural_irrep(&self, degree: u32) -> Option<Irrep> {
        self.canonical(Irrep::natural(degree))
    }

    /// The dimension of a canonical irrep.
    fn irrep_dim(&self, irrep: Irrep) -> usize;

    /// `End_G` of a canonical irrep.
    fn endomorphism(&self, irrep: Irrep) -> Endomorphism;

    /// The matrix of `g` in a canonical irrep.
    fn irrep_rho(&self, irrep: Irrep, g: &Element) -> Matrix;

    /// The matrix of the `generator`-th basis element of the Lie algebra.
    fn irrep_drho(&self, irrep: Irrep, generator: usize) -> Matrix;

    /// Whether the defining action on R^d is this irrep, with these matrices.
    fn vector_irrep(&self) -> Option<Irrep> {
        None
    }

    /// Whether every irrep of dimension 2 and complex type has rotations as
    /// matrices, so that its endomorphisms are spanned by 1 and the quarter turn.
    fn has_rotation_blocks(&self) -> bool {
        false
    }

    /// The selection rule: the irreps of `a (x) b`, each as often as it occurs.
    fn tensor_product(&self, a: Irrep, b: Irrep) -> Vec<Irrep>;

    /// An orthonormal basis of the invariants of `a (x) b (x) c`: the couplings
    /// of `a` and `b` to `c`. By default from the null space; overridden where
    /// a closed form is known.
    fn clebsch_gordan(&self, a: Irrep, b: Irrep, c: Irrep) -> Vec<Tensor3>;
}

/// Couplings by the null space, for any group: orthonormal, deterministic.
pub fn numerical_clebsch_gordan(group: &GroupRef, a: Irrep, b: Irrep, c: Irrep) -> Result<Vec<Tensor3>, SymmetryError> {
    let (va, vb, vc) = (Rep::irrep(group, a)?, Rep::irrep(group, b)?, Rep::irrep(group, c)?);
    let product = va.tensor(&vb);
    let maps = intertwiner::by_null_space(&product, &vc);
    Ok(intertwiner::orthonormal(&maps).iter().map(|k| Tensor3::from_map(k, va.dim(), vb.dim(), vc.dim())).collect())
}

impl dyn Group {
    /// Whether the two groups are the same abstract group with the same action.
    pub fn same_as(&self, other: &dyn Group) -> bool {
        self.name() == other.name() && self.space_dim() == other.space_dim()
    }
}
