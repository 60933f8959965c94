//! Intertwiners: the linear maps K with `rho_out(g) K = K rho_in(g)`.
//!
//! In: two representations of one group. Out: a basis of Hom_G, the same on
//! every run. Two tiers: closed forms (orbits for signed permutations, Schur's
//! lemma for irreps) and the null space of the stacked constraints, each
//! checking the other in the tests. Every result is checked on the generators.

use crate::math::{Matrix, null_space, orthonormalise, reduced_row_echelon};

use super::group::{Element, Endomorphism, Group};
use super::irrep::{Irrep, Parity};
use super::rep::{Kind, Rep};
use super::tensor3::Tensor3;

/// The residual that a basis may have on the generators.
const TOLERANCE: f64 = 1e-9;

/// A basis of `Hom_G(rho_in, rho_out)`: matrices `dim_out x dim_in`, ordered
/// by (output block, input block), sparse where a closed form is known.
/// For signed permutations each entry is 0 or +-1 and belongs to at most one
/// element of the basis.
pub fn equivariant_basis(rho_in: &Rep, rho_out: &Rep) -> Vec<Matrix> {
    assert!(
        rho_in.group().same_as(rho_out.group().as_ref()),
        "symmetry: maps between representations of different groups"
    );
    let mut basis = Vec::new();
    let inputs = rho_in.blocks();
    for out in rho_out.blocks() {
        for input in &inputs {
            let part = by_orbits(&input.rep, &out.rep)
                .or_else(|| by_schur(&input.rep, &out.rep))
                .or_else(|| by_coupling(&input.rep, &out.rep))
                .unwrap_or_else(|| by_null_space(&input.rep, &out.rep));
            let residual = part.iter().map(|k| residual(k, &input.rep, &out.rep)).fold(0.0, f64::max);
            assert!(
                residual < TOLERANCE,
                "symmetry: a map from {} to {} is not equivariant: residual {residual:e}",
                input.rep,
                out.rep
            );
            for o in 0..out.multiplicity {
                for i in 0..input.multiplicity {
                    for k in &part {
                        let at = (out.offset + o * out.rep.dim(), input.offset + i * input.rep.dim());
                        basis.push(embed(k, at, rho_out.dim(), rho_in.dim()));
                    }
                }
            }
        }
    }
    basis
}

fn embed(k: &Matrix, at: (usize, usize), rows: usize, cols: usize) -> Matrix {
    let mut out = Matrix::zeros(rows, cols);
    for i in 0..k.rows() {
        for j in 0..k.cols() {
            out[(at.0 + i, at.1 + j)] = k[(i, j)];
        }
    }
    out
}

/// The dimension of `Hom_G(rho_in, rho_out)`, without building the maps where
/// characters (finite groups) or labels (irreps) tell it.
pub fn hom_dim(rho_in: &Rep, rho_out: &Rep) -> usize {
    assert!(
        rho_in.group().same_as(rho_out.group().as_ref()),
        "symmetry: maps between representations of different groups"
    );
    let inputs = rho_in.blocks();
    let mut total = 0;
    for out in rho_out.blocks() {
        for input in &inputs {
            total += input.multiplicity * out.multiplicity * hom_dim_of_parts(&input.rep, &out.rep);
        }
    }
    total
}

fn hom_dim_of_parts(rho_in: &Rep, rho_out: &Rep) -> usize {
    if let Some(finite) = rho_in.group().finite() {
        let sum: f64 = (0..finite.order())
            .map(|g| rho_in.character(&Element::Index(finite.inverse_of(g))) * rho_out.character(&Element::Index(g)))
            .sum();
        return (sum / finite.order() as f64).round() as usize;
    }
    by_schur(rho_in, rho_out)
        .or_else(|| by_coupling(rho_in, rho_out))
        .unwrap_or_else(|| by_null_space(rho_in, rho_out))
        .len()
}

/// The largest violation of `rho_out K = K rho_in` on the generators.
pub fn residual(k: &Matrix, rho_in: &Rep, rho_out: &Rep) -> f64 {
    constraints(rho_in, rho_out).iter().map(|(a, b)| b.mul(k).distance(&k.mul(a))).fold(0.0, f64::max)
}

/// The pairs (input, output) of matrices that a map must intertwine.
fn constraints(rho_in: &Rep, rho_out: &Rep) -> Vec<(Matrix, Matrix)> {
    let discrete = rho_in.generator_matrices().into_iter().zip(rho_out.generator_matrices());
    discrete.chain(rho_in.algebra_matrices().into_iter().zip(rho_out.algebra_matrices())).collect()
}

/// Tier (b): the null space of the stacked constraints; any representations.
pub fn by_null_space(rho_in: &Rep, rho_out: &Rep) -> Vec<Matrix> {
    solve(rho_in.dim(), rho_out.dim(), &constraints(rho_in, rho_out))
}

/// All K of shape `rows x cols` with `B K = K A` for each pair `(A, B)`: the
/// canonical basis of the null space of `B (x) 1 - 1 (x) A^T`.
pub fn solve(cols: usize, rows: usize, pairs: &[(Matrix, Matrix)]) -> Vec<Matrix> {
    let mut basis = Matrix::identity(rows * cols);
    for (a, b) in pairs {
        // Restrict to what the earlier constraints left: the systems shrink.
        let image = Matrix::from_vec(
            basis.rows(),
            rows * cols,
            (0..basis.rows())
                .flat_map(|w| {
                    let k = Matrix::from_vec(rows, cols, basis.row(w).to_vec());
                    b.mul(&k).sub(&k.mul(a)).as_slice().to_vec()
                })
                .collect(),
        );
        if image.max_abs() > TOLERANCE {
            basis = null_space(&image.transpose()).mul(&basis);
            // Well-conditioned rows keep rounding from growing.
            basis = orthonormalise(&basis);
        }
    }
    let canonical = reduced_row_echelon(&basis);
    (0..canonical.rows()).map(|w| Matrix::from_vec(rows, cols, canonical.row(w).to_vec())).collect()
}

/// The same span with Frobenius-orthonormal maps.
pub fn orthonormal(maps: &[Matrix]) -> Vec<Matrix> {
    let Some(first) = maps.first() else { return Vec::new() };
    let (r, c) = (first.rows(), first.cols());
    let stacked = Matrix::from_vec(maps.len(), r * c, maps.iter().flat_map(|m| m.as_slice().to_vec()).collect());
    let q = orthonormalise(&stacked);
    (0..q.rows()).map(|w| Matrix::from_vec(r, c, q.row(w).to_vec())).collect()
}

/// Tier (a) for signed permutations: a basis element is an orbit of the group
/// on pairs (output component, input component); an orbit on which the signs
/// disagree carries no map. Nothing when a representation is of another kind.
pub fn by_orbits(rho_in: &Rep, rho_out: &Rep) -> Option<Vec<Matrix>> {
    if !rho_in.is_sign_permutation() || !rho_out.is_sign_permutation() {
        return None;
    }
    let (rows, cols) = (rho_out.dim(), rho_in.dim());
    let mut orbits = SignedOrbits::new(rows * cols);
    for (a, b) in rho_in.generator_matrices().iter().zip(rho_out.generator_matrices().iter()) {
        let (a, b) = (signed_images(a), signed_images(b));
        for (i, (bi, bs)) in b.iter().enumerate() {
            for (j, (aj, sign)) in a.iter().enumerate() {
                orbits.join(i * cols + j, bi * cols + aj, bs * sign);
            }
        }
    }
    let (count, of) = orbits.numbered();
    let mut maps = vec![Matrix::zeros(rows, cols); count];
    for (entry, found) in of.into_iter().enumerate() {
        if let Some((w, sign)) = found {
            maps[w][(entry / cols, entry % cols)] = f64::from(sign);
        }
    }
    Some(maps)
}

/// Where a signed permutation sends each basis vector, and with which sign.
pub(super) fn signed_images(m: &Matrix) -> Vec<(usize, i8)> {
    (0..m.cols())
        .map(|j| {
            let i = (0..m.rows()).max_by(|a, b| m[(*a, j)].abs().total_cmp(&m[(*b, j)].abs())).unwrap_or(0);
            (i, if m[(i, j)] < 0.0 { -1 } else { 1 })
        })
        .collect()
}

/// Orbits of a group that permutes points up to sign: a union-find in which
/// every point knows its sign relative to the root.
pub(super) struct SignedOrbits {
    parent: Vec<usize>,
    sign: Vec<i8>,
    /// Roots whose orbit contains a point equal to minus itself.
    dead: Vec<bool>,
}

impl SignedOrbits {
    pub(super) fn new(points: usize) -> SignedOrbits {
        SignedOrbits { parent: (0..points).collect(), sign: vec![1; points], dead: vec![false; points] }
    }

    fn root(&mut self, x: usize) -> (usize, i8) {
        let mut path = vec![x];
        while self.parent[path[path.len() - 1]] != path[path.len() - 1] {
            path.push(self.parent[path[path.len() - 1]]);
        }
        let root = path[path.len() - 1];
        let mut sign = 1;
        for &p in path.iter().rev().skip(1) {
            sign *= self.sign[p];
            self.parent[p] = root;
            self.sign[p] = sign;
        }
        (root, if x == root { 1 } else { self.sign[x] })
    }

    /// States that the value at `y` is `sign` times the value at `x`.
    pub(super) fn join(&mut self, x: usize, y: usize, sign: i8) {
        let ((rx, sx), (ry, sy)) = (self.root(x), self.root(y));
        if rx == ry {
            self.dead[rx] |= sx * sy != sign;
        } else {
            let (keep, drop) = (rx.min(ry), rx.max(ry));
            self.parent[drop] = keep;
            self.sign[drop] = sign * sx * sy;
            self.dead[keep] |= self.dead[drop];
        }
    }

    /// The live orbits numbered by their first points: how many there are, and
    /// the orbit and relative sign of each point.
    pub(super) fn numbered(&mut self) -> (usize, Vec<Option<(usize, i8)>>) {
        let points = self.parent.len();
        let mut number = vec![usize::MAX; points];
        let mut count = 0;
        let mut of = Vec::with_capacity(points);
        for x in 0..points {
            let (root, sign) = self.root(x);
            if self.dead[root] {
                of.push(None);
                continue;
            }
            if number[root] == usize::MAX {
                number[root] = count;
                count += 1;
            }
            of.push(Some((number[root], sign)));
        }
        (count, of)
    }
}

/// A part of a representation whose components, up to sign and order, are an
/// irrep: component `c` of the irrep is `sign` times component `index`.
struct IrrepPart {
    irrep: Irrep,
    components: Vec<(usize, f64)>,
}

/// The decomposition into irreps by picking components, where that is known.
fn pick_irreps(rep: &Rep) -> Option<Vec<IrrepPart>> {
    let group = rep.group();
    let whole =
        |irrep: Irrep| vec![IrrepPart { irrep, components: (0..group.irrep_dim(irrep)).map(|c| (c, 1.0)).collect() }];
    match rep.kind() {
        Kind::Irrep(ir) => Some(whole(*ir)),
        Kind::Vector => group.vector_irrep().map(whole),
        Kind::Restricted { rep: large, along } if along.is_about_y() => {
            let (degree, odd) = match (large.kind(), large.group().vector_irrep()) {
                (Kind::Irrep(ir), _) => {
                    (ir.degree, large.group().name() == "O(3)" && ir.parity != Parity::natural(ir.degree))
                }
                (Kind::Vector, Some(ir)) => (ir.degree, false),
                _ => return None,
            };
            about_axis(group.as_ref(), degree as usize, odd)
        }
        Kind::Regular
        | Kind::Quotient { .. }
        | Kind::Sum(_)
        | Kind::Tensor(..)
        | Kind::Dual(_)
        | Kind::Symmetric(..)
        | Kind::Restricted { .. }
        | Kind::Induced { .. }
        | Kind::Explicit { .. } => None,
    }
}

/// Degree l about the polar axis: component m = 0 alone and the pairs (m, -m),
/// which turn with frequency m. With the unnatural parity (`odd`) a reflection
/// acts with the opposite sign, so the pair is read as (-m, minus m).
fn about_axis(axis_group: &dyn Group, l: usize, odd: bool) -> Option<Vec<IrrepPart>> {
    let zero = Irrep::new(0, if odd { Parity::Odd } else { Parity::Even });
    let mut parts = vec![IrrepPart { irrep: axis_group.canonical(zero)?, components: vec![(l, 1.0)] }];
    for m in 1..=l {
        let irrep = axis_group.canonical(Irrep::new(m as u32, Parity::Even))?;
        let components = if odd { vec![(l - m, 1.0), (l + m, -1.0)] } else { vec![(l + m, 1.0), (l - m, 1.0)] };
        parts.push(IrrepPart { irrep, components });
    }
    Some(parts)
}

/// Tier (a) by Schur's lemma: between equal irreps the endomorphism algebra,
/// otherwise zero. Nothing when a decomposition is not known in closed form.
pub fn by_schur(rho_in: &Rep, rho_out: &Rep) -> Option<Vec<Matrix>> {
    let (inputs, outputs) = (pick_irreps(rho_in)?, pick_irreps(rho_out)?);
    let group = rho_in.group();
    let mut maps = Vec::new();
    for out in &outputs {
        for input in inputs.iter().filter(|i| i.irrep == out.irrep) {
            for e in endomorphisms(group.as_ref(), out.irrep)? {
                let mut k = Matrix::zeros(rho_out.dim(), rho_in.dim());
                for (r, (i, si)) in out.components.iter().enumerate() {
                    for (c, (j, sj)) in input.components.iter().enumerate() {
                        k[(*i, *j)] = si * e[(r, c)] * sj;
                    }
                }
                maps.push(k);
            }
        }
    }
    Some(maps)
}

/// Tier (a) by Clebsch-Gordan: from a product of two irreps to an irrep.
pub fn by_coupling(rho_in: &Rep, rho_out: &Rep) -> Option<Vec<Matrix>> {
    match rho_in.kind() {
        Kind::Tensor(a, b) => {
            let (a, b, c) = (a.as_irrep()?, b.as_irrep()?, rho_out.as_irrep()?);
            Some(rho_in.group().clebsch_gordan(a, b, c).iter().map(Tensor3::to_map).collect())
        }
        Kind::Irrep(_)
        | Kind::Vector
        | Kind::Regular
        | Kind::Quotient { .. }
        | Kind::Sum(_)
        | Kind::Dual(_)
        | Kind::Symmetric(..)
        | Kind::Restricted { .. }
        | Kind::Induced { .. }
        | Kind::Explicit { .. } => None,
    }
}

fn endomorphisms(group: &dyn Group, irrep: Irrep) -> Option<Vec<Matrix>> {
    let dim = group.irrep_dim(irrep);
    match group.endomorphism(irrep) {
        Endomorphism::Real => Some(vec![Matrix::identity(dim)]),
        Endomorphism::Complex if group.has_rotation_blocks() && dim == 2 => {
            Some(vec![Matrix::identity(2), Matrix::from_rows(&[[0.0, -1.0], [1.0, 0.0]])])
        }
        Endomorphism::Complex | Endomorphism::Quaternionic => None,
    }
}
