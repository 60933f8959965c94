//! How a subgroup sits in a group.
//!
//! In: members of a finite group, or coordinate axes of R^n. Out: an
//! [`Inclusion`], along which representations are restricted and induced.

use std::sync::Arc;

use crate::math::Matrix;

use super::finite::FiniteGroup;
use super::group::{Element, GroupRef, SymmetryError};

/// An injective homomorphism from `sub` to `of`.
#[derive(Clone, Debug)]
pub struct Inclusion {
    /// The smaller group.
    pub sub: GroupRef,
    /// The larger group.
    pub of: GroupRef,
    embedding: Embedding,
}

/// The same subgroup, embedded in the same way.
impl PartialEq for Inclusion {
    fn eq(&self, other: &Inclusion) -> bool {
        self.of.same_as(other.of.as_ref()) && self.sub.same_as(other.sub.as_ref()) && self.embedding == other.embedding
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Embedding {
    /// The position in the larger group of each element of the smaller.
    Table(Vec<usize>),
    /// A acts on the span of orthonormal columns P and fixes the complement:
    /// `P A P^T + (1 - P P^T)`.
    Subspace(Matrix),
}

impl Inclusion {
    /// The subgroup of a finite group with these members (sorted, closed).
    ///
    /// # Errors
    /// `NotFinite`, or `BadGenerators` when the members are not closed.
    pub fn of_members(of: &GroupRef, members: &[usize], name: &str) -> Result<Inclusion, SymmetryError> {
        let finite = finite_part(of)?;
        let elements = members.iter().map(|m| finite.matrix(*m).clone()).collect();
        let generators: Vec<usize> = finite
            .generators_of(members)
            .iter()
            .map(|g| {
                members.binary_search(g).map_err(|_| {
                    SymmetryError::BadGenerators(format!(
                        "the members of {name} in {} are not closed under products",
                        of.name()
                    ))
                })
            })
            .collect::<Result<_, _>>()?;
        let sub = FiniteGroup::from_elements(name, of.space_dim(), elements, &generators)?;
        Ok(Inclusion { sub: Arc::new(sub), of: of.clone(), embedding: Embedding::Table(members.to_vec()) })
    }

    /// The finite group `sub` inside `of`, found by its matrices on the same space.
    ///
    /// # Errors
    /// `NotASubgroup` when an element of `sub` is not in `of`.
    pub fn same_space(sub: &GroupRef, of: &GroupRef) -> Result<Inclusion, SymmetryError> {
        let (small, large) = (finite_part(sub)?, finite_part(of)?);
        let no = || SymmetryError::NotASubgroup(format!("{} is not a subgroup of {}", sub.name(), of.name()));
        if sub.space_dim() != of.space_dim() {
            return Err(no());
        }
        let table = (0..small.order()).map(|i| large.find(small.matrix(i)).ok_or_else(no)).collect::<Result<_, _>>()?;
        Ok(Inclusion { sub: sub.clone(), of: of.clone(), embedding: Embedding::Table(table) })
    }

    /// The subgroup of this name, found by its matrices on the same space:
    /// `C2` in D4, `O` in O_h.
    ///
    /// # Errors
    /// As [`super::groups::by_name`], and `NotASubgroup`.
    pub fn named(name: &str, of: &GroupRef) -> Result<Inclusion, SymmetryError> {
        Inclusion::same_space(&super::groups::by_name(name, &[], Some(of.space_dim()))?, of)
    }

    /// A group of matrices on the span of the orthonormal columns of `plane`,
    /// fixing the orthogonal complement.
    pub fn on_subspace(sub: &GroupRef, of: &GroupRef, plane: Matrix) -> Inclusion {
        assert_eq!(
            (plane.rows(), plane.cols()),
            (of.space_dim(), sub.space_dim()),
            "symmetry: the plane has the wrong shape"
        );
        Inclusion { sub: sub.clone(), of: of.clone(), embedding: Embedding::Subspace(plane) }
    }

    /// SO(2) or O(2) as the stabiliser of the polar axis y in SO(3) or O(3).
    /// The plane is spanned by (z, x), so that the pair of components
    /// (m, -m) of a harmonic turns with frequency m.
    pub fn about_y(sub: &GroupRef, of: &GroupRef) -> Inclusion {
        Inclusion::on_subspace(sub, of, Matrix::from_rows(&[[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]]))
    }

    /// Whether this is the stabiliser of the y axis in R^3.
    pub(super) fn is_about_y(&self) -> bool {
        match &self.embedding {
            Embedding::Table(_) => false,
            Embedding::Subspace(p) => *p == Matrix::from_rows(&[[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]]),
        }
    }

    /// The image of an element.
    pub fn element(&self, h: &Element) -> Element {
        match &self.embedding {
            Embedding::Table(table) => Element::Index(table[h.index()]),
            Embedding::Subspace(p) => {
                let a = self.sub.action(h);
                let rest = Matrix::identity(p.rows()).sub(&p.mul(&p.transpose()));
                Element::Matrix(p.mul(&a).mul(&p.transpose()).add(&rest))
            }
        }
    }

    /// The image of the `generator`-th basis element of the Lie algebra, in
    /// the basis of the larger algebra.
    pub fn algebra(&self, generator: usize) -> Vec<f64> {
        match &self.embedding {
            Embedding::Table(_) => panic!("symmetry: a finite group has no Lie algebra"),
            Embedding::Subspace(p) => {
                let x = p.mul(&self.sub.lie_algebra()[generator]).mul(&p.transpose());
                self.of.lie_algebra().iter().map(|b| frobenius(&x, b) / frobenius(b, b)).collect()
            }
        }
    }

    /// The members of a finite subgroup, as positions in the larger group.
    pub fn members(&self) -> Option<&[usize]> {
        match &self.embedding {
            Embedding::Table(table) => Some(table),
            Embedding::Subspace(_) => None,
        }
    }
}

fn frobenius(a: &Matrix, b: &Matrix) -> f64 {
    a.as_slice().iter().zip(b.as_slice()).map(|(x, y)| x * y).sum()
}

/// The table of a finite group.
pub(super) fn finite_part(group: &GroupRef) -> Result<&FiniteGroup, SymmetryError> {
    group.finite().ok_or_else(|| SymmetryError::NotFinite(format!("{} is not a finite group", group.name())))
}
