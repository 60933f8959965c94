//! Representations: how a group acts on the values of a fibre.
//!
//! In: a group and a construction (irreps, regular, vector, sums, products,
//! restriction, ...). Out: matrices `rho`, their derivatives `drho`, and the
//! questions that the language asks: is it trivial, does the group permute the
//! components, what is its invariant part.

use std::fmt;
use std::sync::Arc;

use crate::math::Matrix;

use super::group::{Element, GroupRef, SymmetryError};
use super::inclusion::{Inclusion, finite_part};
use super::irrep::{Irrep, Irreps};
use super::symmetric_power;

/// A real representation of a group. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rep {
    group: GroupRef,
    kind: Arc<Kind>,
}

/// How a representation is made.
#[derive(Debug, PartialEq)]
pub(super) enum Kind {
    Irrep(Irrep),
    /// The defining action on R^d.
    Vector,
    Regular,
    /// Functions on the left cosets of a subgroup.
    Quotient {
        name: String,
        cosets: Vec<Vec<usize>>,
    },
    /// Copies are outermost: `[copy, component]` for each part in order.
    Sum(Vec<(usize, Rep)>),
    Tensor(Rep, Rep),
    Dual(Rep),
    /// Polynomials of this degree in the components.
    Symmetric(Rep, usize),
    Restricted {
        rep: Rep,
        along: Inclusion,
    },
    /// `cosets[c]` starts with the chosen representative.
    Induced {
        rep: Rep,
        along: Inclusion,
        cosets: Vec<Vec<usize>>,
    },
    Explicit {
        name: String,
        matrices: Vec<Matrix>,
    },
}

/// The same matrices by construction: equal groups and equal parts in the same
/// order, however the sums are nested. (Equivalence is a matter of `hom_dim`.)
impl PartialEq for Rep {
    fn eq(&self, other: &Rep) -> bool {
        if !self.group.same_as(other.group.as_ref()) {
            return false;
        }
        let sums = matches!(self.kind(), Kind::Sum(_)) || matches!(other.kind(), Kind::Sum(_));
        if !sums {
            let irreps = (self.as_irrep(), other.as_irrep());
            return self.kind == other.kind || (irreps.0.is_some() && irreps.0 == irreps.1);
        }
        merged(self) == merged(other)
    }
}

/// The blocks with equal neighbours merged.
fn merged(rep: &Rep) -> Vec<(usize, Rep)> {
    let mut out: Vec<(usize, Rep)> = Vec::new();
    for block in rep.blocks() {
        match out.last_mut() {
            Some((count, last)) if *last == block.rep => *count += block.multiplicity,
            _ => out.push((block.multiplicity, block.rep)),
        }
    }
    out
}

/// A summand of a representation: so many copies of an indecomposed part.
#[derive(Clone, Debug)]
pub struct Block {
    /// How many copies, contiguous in memory, copy outermost.
    pub multiplicity: usize,
    /// The part.
    pub rep: Rep,
    /// Where the first component of the first copy lies in the whole.
    pub offset: usize,
}

/// Entries this close to 0 and +-1 are exactly these.
const EXACT: f64 = 1e-9;

impl Rep {
    fn new(group: &GroupRef, kind: Kind) -> Rep {
        Rep { group: group.clone(), kind: Arc::new(kind) }
    }

    /// The trivial representation on one component.
    pub fn scalar(group: &GroupRef) -> Rep {
        Rep::new(group, Kind::Irrep(Irrep::TRIVIAL))
    }

    /// The irrep of this label.
    ///
    /// # Errors
    /// `NoSuchIrrep` when the group has none.
    pub fn irrep(group: &GroupRef, irrep: Irrep) -> Result<Rep, SymmetryError> {
        let canonical = group
            .canonical(irrep)
            .ok_or_else(|| SymmetryError::NoSuchIrrep(format!("{} has no irrep {irrep}", group.name())))?;
        Ok(Rep::new(group, Kind::Irrep(canonical)))
    }

    /// A sum of irreps, in the written order.
    ///
    /// # Errors
    /// `NoSuchIrrep` naming the first label that the group lacks.
    pub fn irreps(group: &GroupRef, irreps: &Irreps) -> Result<Rep, SymmetryError> {
        let parts =
            irreps.blocks.iter().map(|(m, ir)| Ok((*m, Rep::irrep(group, *ir)?))).collect::<Result<Vec<_>, _>>()?;
        Ok(Rep::sum(group, parts))
    }

    /// The language's `irreps(from..to)`: the irreps on harmonics of these
    /// degrees, `multiplicity` copies each.
    ///
    /// # Errors
    /// `NoSuchIrrep` naming the first degree whose harmonics are no irrep of the group.
    pub fn natural_irreps(group: &GroupRef, multiplicity: usize, from: u32, to: u32) -> Result<Rep, SymmetryError> {
        let mut parts = Vec::new();
        for degree in from..=to {
            let irrep = group.natural_irrep(degree).ok_or_else(|| {
                SymmetryError::NoSuchIrrep(format!("{} has no irrep of degree {degree}", group.name()))
            })?;
            parts.push((multiplicity, Rep::irrep(group, irrep)?));
        }
        Ok(Rep::sum(group, parts))
    }

    /// The defining action on R^d.
    pub fn vector(group: &GroupRef) -> Rep {
        Rep::new(group, Kind::Vector)
    }

    /// Functions on the group: `rho(g) e_h = e_(g h)`.
    ///
    /// # Errors
    /// `NotFinite` for a group without a finite table.
    pub fn regular(group: &GroupRef) -> Result<Rep, SymmetryError> {
        finite_part(group)?;
        Ok(Rep::new(group, Kind::Regular))
    }

    /// Functions on the cosets G/K: `rho(g) e_(hK) = e_(g h K)`.
    ///
    /// # Errors
    /// `NotFinite` for a group without a finite table.
    pub fn quotient(along: &Inclusion) -> Result<Rep, SymmetryError> {
        let finite = finite_part(&along.of)?;
        let members =
            along.members().ok_or_else(|| SymmetryError::NotFinite(format!("{} is not finite", along.sub.name())))?;
        let cosets = finite.left_cosets(members);
        Ok(Rep::new(&along.of, Kind::Quotient { name: along.sub.name(), cosets }))
    }

    /// The direct sum of parts with multiplicities.
    pub fn sum(group: &GroupRef, parts: Vec<(usize, Rep)>) -> Rep {
        Rep::new(group, Kind::Sum(parts))
    }

    /// `copies` copies.
    pub fn times(&self, copies: usize) -> Rep {
        Rep::sum(&self.group, vec![(copies, self.clone())])
    }

    /// The direct sum `self + other`.
    pub fn plus(&self, other: &Rep) -> Rep {
        Rep::sum(&self.group, vec![(1, self.clone()), (1, other.clone())])
    }

    /// The tensor product; component `(i, j)` is at `i * other.dim() + j`.
    pub fn tensor(&self, other: &Rep) -> Rep {
        Rep::new(&self.group, Kind::Tensor(self.clone(), other.clone()))
    }

    /// The dual: `rho(g^-1)^T`. Equal to the representation when it is orthogonal.
    pub fn dual(&self) -> Rep {
        Rep::new(&self.group, Kind::Dual(self.clone()))
    }

    /// The symmetric power: polynomials of degree `k` in the components, basis
    /// as in [`symmetric_power`].
    ///
    /// # Errors
    /// `TooLarge` when it has more than 4096 components.
    pub fn symmetric_power(&self, k: usize) -> Result<Rep, SymmetryError> {
        match symmetric_power::power_dim(self.dim(), k) {
            Some(_) => Ok(Rep::new(&self.group, Kind::Symmetric(self.clone(), k))),
            None => Err(SymmetryError::TooLarge(format!(
                "the symmetric power {k} of {} is too large: at most {} components and power {}",
                self.name(),
                symmetric_power::MAX_POWER_DIM,
                symmetric_power::MAX_POWER
            ))),
        }
    }

    /// The restriction to a subgroup.
    pub fn restrict(&self, along: &Inclusion) -> Rep {
        assert!(
            self.group.same_as(along.of.as_ref()),
            "symmetry: restriction of a representation of {} from {}",
            self.group.name(),
            along.of.name()
        );
        match self.kind() {
            // Restriction commutes with sums, and the parts have closed forms.
            Kind::Sum(parts) => Rep::sum(&along.sub, parts.iter().map(|(m, r)| (*m, r.restrict(along))).collect()),
            Kind::Irrep(_)
            | Kind::Vector
            | Kind::Regular
            | Kind::Quotient { .. }
            | Kind::Tensor(..)
            | Kind::Dual(_)
            | Kind::Symmetric(..)
            | Kind::Restricted { .. }
            | Kind::Induced { .. }
            | Kind::Explicit { .. } => {
                Rep::new(&along.sub, Kind::Restricted { rep: self.clone(), along: along.clone() })
            }
        }
    }

    /// The induced representation of the larger finite group:
    /// components `[coset, component]`.
    ///
    /// # Errors
    /// `NotFinite` for groups without finite tables.
    pub fn induce(&self, along: &Inclusion) -> Result<Rep, SymmetryError> {
        let finite = finite_part(&along.of)?;
        let members =
            along.members().ok_or_else(|| SymmetryError::NotFinite(format!("{} is not finite", along.sub.name())))?;
        let cosets = finite.left_cosets(members);
        Ok(Rep::new(&along.of, Kind::Induced { rep: self.clone(), along: along.clone(), cosets }))
    }

    pub(super) fn explicit(group: &GroupRef, name: &str, matrices: Vec<Matrix>) -> Rep {
        Rep::new(group, Kind::Explicit { name: name.to_string(), matrices })
    }

    /// The label, if this is an irrep (also the defining action, where it is one).
    pub fn as_irrep(&self) -> Option<Irrep> {
        match self.kind() {
            Kind::Irrep(ir) => Some(*ir),
            Kind::Vector => self.group.vector_irrep(),
            Kind::Sum(parts) => match &parts[..] {
                [(1, only)] => only.as_irrep(),
                _ => None,
            },
            Kind::Regular
            | Kind::Quotient { .. }
            | Kind::Tensor(..)
            | Kind::Dual(_)
            | Kind::Symmetric(..)
            | Kind::Restricted { .. }
            | Kind::Induced { .. }
            | Kind::Explicit { .. } => None,
        }
    }

    /// The group.
    pub fn group(&self) -> &GroupRef {
        &self.group
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The number of components.
    pub fn dim(&self) -> usize {
        match self.kind() {
            Kind::Irrep(ir) => self.group.irrep_dim(*ir),
            Kind::Vector => self.group.space_dim(),
            Kind::Regular => self.order(),
            Kind::Quotient { cosets, .. } => cosets.len(),
            Kind::Sum(parts) => parts.iter().map(|(m, r)| m * r.dim()).sum(),
            Kind::Tensor(a, b) => a.dim() * b.dim(),
            Kind::Dual(a) => a.dim(),
            Kind::Symmetric(a, k) => symmetric_power::power_dim(a.dim(), *k).unwrap_or(0),
            Kind::Restricted { rep, .. } => rep.dim(),
            Kind::Induced { rep, cosets, .. } => cosets.len() * rep.dim(),
            Kind::Explicit { matrices, .. } => matrices[0].rows(),
        }
    }

    fn order(&self) -> usize {
        self.group.finite().map_or(0, super::finite::FiniteGroup::order)
    }

    /// The matrix of an element.
    pub fn rho(&self, g: &Element) -> Matrix {
        match self.kind() {
            Kind::Irrep(ir) => self.group.irrep_rho(*ir, g),
            Kind::Vector => self.group.action(g),
            Kind::Regular => {
                let n = self.order();
                Matrix::permutation(
                    &(0..n).map(|h| self.group.multiply(g, &Element::Index(h)).index()).collect::<Vec<_>>(),
                )
            }
            Kind::Quotient { cosets, .. } => {
                let image = |coset: &Vec<usize>| {
                    self.coset_of(cosets, self.group.multiply(g, &Element::Index(coset[0])).index())
                };
                Matrix::permutation(&cosets.iter().map(image).collect::<Vec<_>>())
            }
            Kind::Sum(parts) => {
                let blocks: Vec<Matrix> = parts.iter().flat_map(|(m, r)| vec![r.rho(g); *m]).collect();
                Matrix::direct_sum(&blocks)
            }
            Kind::Tensor(a, b) => a.rho(g).kron(&b.rho(g)),
            Kind::Dual(a) => a.rho(&self.group.inverse(g)).transpose(),
            Kind::Symmetric(a, k) => symmetric_power::power(&a.rho(g), *k),
            Kind::Restricted { rep, along } => rep.rho(&along.element(g)),
            Kind::Induced { rep, along, cosets } => self.induced_rho(rep, along, cosets, g),
            Kind::Explicit { matrices, .. } => matrices[g.index()].clone(),
        }
    }

    fn coset_of(&self, cosets: &[Vec<usize>], g: usize) -> usize {
        cosets
            .iter()
            .position(|c| c.binary_search(&g).is_ok())
            .unwrap_or_else(|| panic!("symmetry: element {g} is in no coset of {}", self.name()))
    }

    /// `g r_c = r_c' h`: the block (c', c) is the matrix of `h`.
    fn induced_rho(&self, rep: &Rep, along: &Inclusion, cosets: &[Vec<usize>], g: &Element) -> Matrix {
        let d = rep.dim();
        let members = along.members().unwrap_or_else(|| panic!("symmetry: induction from an infinite subgroup"));
        let mut out = Matrix::zeros(d * cosets.len(), d * cosets.len());
        for (c, coset) in cosets.iter().enumerate() {
            let moved = self.group.multiply(g, &Element::Index(coset[0]));
            let to = self.coset_of(cosets, moved.index());
            let back = self.group.multiply(&self.group.inverse(&Element::Index(cosets[to][0])), &moved).index();
            let h = members.iter().position(|m| *m == back).unwrap_or_else(|| panic!("symmetry: a coset is not one"));
            let block = rep.rho(&Element::Index(h));
            for i in 0..d {
                for j in 0..d {
                    out[(to * d + i, c * d + j)] = block[(i, j)];
                }
            }
        }
        out
    }

    /// The trace of `rho(g)`, without the matrix where that is easy.
    pub fn character(&self, g: &Element) -> f64 {
        match self.kind() {
            Kind::Regular => {
                if g.index() == 0 {
                    self.order() as f64
                } else {
                    0.0
                }
            }
            Kind::Sum(parts) => parts.iter().map(|(m, r)| *m as f64 * r.character(g)).sum(),
            Kind::Tensor(a, b) => a.character(g) * b.character(g),
            Kind::Dual(a) => a.character(&self.group.inverse(g)),
            Kind::Restricted { rep, along } => rep.character(&along.element(g)),
            Kind::Symmetric(..)
            | Kind::Irrep(_)
            | Kind::Vector
            | Kind::Quotient { .. }
            | Kind::Induced { .. }
            | Kind::Explicit { .. } => self.rho(g).trace(),
        }
    }

    /// The matrix of the `generator`-th basis element of the Lie algebra.
    pub fn drho(&self, generator: usize) -> Matrix {
        match self.kind() {
            Kind::Irrep(ir) => self.group.irrep_drho(*ir, generator),
            Kind::Vector => self.group.lie_algebra()[generator].clone(),
            Kind::Sum(parts) => {
                let blocks: Vec<Matrix> = parts.iter().flat_map(|(m, r)| vec![r.drho(generator); *m]).collect();
                Matrix::direct_sum(&blocks)
            }
            Kind::Tensor(a, b) => {
                let left = a.drho(generator).kron(&Matrix::identity(b.dim()));
                left.add(&Matrix::identity(a.dim()).kron(&b.drho(generator)))
            }
            Kind::Dual(a) => a.drho(generator).transpose().scale(-1.0),
            Kind::Symmetric(a, k) => symmetric_power::power_derivative(&a.drho(generator), *k),
            Kind::Restricted { rep, along } => {
                let mut out = Matrix::zeros(rep.dim(), rep.dim());
                for (i, c) in along.algebra(generator).into_iter().enumerate() {
                    if c != 0.0 {
                        out = out.add(&rep.drho(i).scale(c));
                    }
                }
                out
            }
            Kind::Regular | Kind::Quotient { .. } | Kind::Induced { .. } | Kind::Explicit { .. } => {
                panic!("symmetry: {} has no Lie algebra (generator {generator})", self.name())
            }
        }
    }

    /// The matrices of the group's discrete generators.
    pub fn generator_matrices(&self) -> Vec<Matrix> {
        self.group.discrete_generators().iter().map(|g| self.rho(g)).collect()
    }

    /// The matrices of the Lie algebra's basis.
    pub fn algebra_matrices(&self) -> Vec<Matrix> {
        (0..self.group.lie_algebra().len()).map(|i| self.drho(i)).collect()
    }

    /// The summands, sums within sums flattened, with their offsets.
    pub fn blocks(&self) -> Vec<Block> {
        let mut out = Vec::new();
        self.collect_blocks(1, &mut 0, &mut out);
        out
    }

    fn collect_blocks(&self, copies: usize, offset: &mut usize, out: &mut Vec<Block>) {
        match self.kind() {
            Kind::Sum(parts) => {
                let flat = parts.len() == 1;
                for _ in 0..if flat { 1 } else { copies } {
                    for (m, r) in parts {
                        r.collect_blocks(if flat { m * copies } else { *m }, offset, out);
                    }
                }
            }
            Kind::Irrep(_)
            | Kind::Vector
            | Kind::Regular
            | Kind::Quotient { .. }
            | Kind::Tensor(..)
            | Kind::Dual(_)
            | Kind::Symmetric(..)
            | Kind::Restricted { .. }
            | Kind::Induced { .. }
            | Kind::Explicit { .. } => {
                if copies > 0 {
                    out.push(Block { multiplicity: copies, rep: self.clone(), offset: *offset });
                    *offset += copies * self.dim();
                }
            }
        }
    }

    /// Whether every element acts as the identity.
    pub fn is_trivial(&self) -> bool {
        self.every_generator(|m| m.distance(&Matrix::identity(m.rows())) < EXACT)
    }

    /// Whether the group only permutes the components: a pointwise
    /// nonlinearity is equivariant exactly then.
    pub fn is_permutation(&self) -> bool {
        self.every_generator(|m| is_monomial(m, |x| (x - 1.0).abs() < EXACT))
    }

    /// Whether the group permutes the components up to sign: an odd pointwise
    /// nonlinearity is equivariant.
    pub fn is_sign_permutation(&self) -> bool {
        self.every_generator(|m| is_monomial(m, |x| (x.abs() - 1.0).abs() < EXACT))
    }

    /// Whether a property holds on all generators of every block, and the Lie
    /// algebra acts as zero (it must, if a connected group permutes).
    fn every_generator(&self, holds: impl Fn(&Matrix) -> bool) -> bool {
        self.blocks().iter().all(|b| {
            b.rep.algebra_matrices().iter().all(|x| x.max_abs() < EXACT)
                && b.rep.generator_matrices().iter().all(&holds)
        })
    }

    /// The number of independent invariant vectors, without building them.
    pub fn invariant_dim(&self) -> usize {
        super::intertwiner::hom_dim(&Rep::scalar(&self.group), self)
    }

    /// An orthonormal basis (rows) of the invariant vectors: where a bias may live.
    pub fn invariants(&self) -> Matrix {
        let maps = super::intertwiner::equivariant_basis(&Rep::scalar(&self.group), self);
        let mut rows = Matrix::zeros(maps.len(), self.dim());
        for (w, k) in maps.iter().enumerate() {
            for i in 0..self.dim() {
                rows[(w, i)] = k[(i, 0)];
            }
        }
        crate::math::orthonormalise(&rows)
    }

    /// The orthogonal projector onto the invariant vectors.
    pub fn invariant_projector(&self) -> Matrix {
        let q = self.invariants();
        q.transpose().mul(&q)
    }

    /// The name without the group: `8x1o`, `regular`, `2 (vector + scalar)`.
    pub fn name(&self) -> String {
        match self.kind() {
            Kind::Irrep(ir) if *ir == Irrep::TRIVIAL => "scalar".to_string(),
            Kind::Irrep(ir) => ir.to_string(),
            Kind::Vector => "vector".to_string(),
            Kind::Regular => "regular".to_string(),
            Kind::Quotient { name, .. } => format!("quotient({name})"),
            Kind::Sum(parts) => sum_name(parts),
            Kind::Tensor(a, b) => format!("({} (x) {})", a.name(), b.name()),
            Kind::Dual(a) => format!("dual({})", a.name()),
            Kind::Symmetric(a, k) => format!("Sym^{k}({})", a.name()),
            Kind::Restricted { rep, along } => format!("{} restricted to {}", rep.name(), along.sub.name()),
            Kind::Induced { rep, along, .. } => format!("{} induced from {}", rep.name(), along.sub.name()),
            Kind::Explicit { name, .. } => name.clone(),
        }
    }
}

fn sum_name(parts: &[(usize, Rep)]) -> String {
    let one = |(m, r): &(usize, Rep)| match r.kind() {
        Kind::Irrep(ir) if *ir != Irrep::TRIVIAL => format!("{m}x{ir}"),
        Kind::Sum(_) if *m != 1 => format!("{m} ({})", r.name()),
        Kind::Irrep(_)
        | Kind::Vector
        | Kind::Regular
        | Kind::Quotient { .. }
        | Kind::Sum(_)
        | Kind::Tensor(..)
        | Kind::Dual(_)
        | Kind::Symmetric(..)
        | Kind::Restricted { .. }
        | Kind::Induced { .. }
        | Kind::Explicit { .. } => {
            if *m == 1 {
                r.name()
            } else {
                format!("{m} {}", r.name())
            }
        }
    };
    if parts.is_empty() { "0".to_string() } else { parts.iter().map(one).collect::<Vec<_>>().join(" + ") }
}

/// Whether each row and column has one nonzero entry, and it is allowed.
fn is_monomial(m: &Matrix, allowed: impl Fn(f64) -> bool) -> bool {
    let mut used = vec![false; m.cols()];
    (0..m.rows()).all(|i| {
        let nonzero: Vec<usize> = (0..m.cols()).filter(|j| m[(i, *j)].abs() > EXACT).collect();
        match nonzero[..] {
            [j] if allowed(m[(i, j)]) && !used[j] => {
                used[j] = true;
                true
            }
            _ => false,
        }
    })
}

impl fmt::Display for Rep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.name(), self.group.name())
    }
}
