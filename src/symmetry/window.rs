//! Mackey's theorem on a finite set of displacements: the equivariant kernels
//! `k(g d) = rho_out(g) k(d) rho_in(g)^-1`.
//!
//! In: a finite group acting on Z^d, a window of displacements, two
//! representations. Out: the orbits of the window with representatives,
//! stabilisers and transports, and a basis of the kernels. One block a
//! representative, Hom_Stab(rho_in, rho_out), carried to the whole orbit. Does
//! not know what the points are: pixels, cells, lags.

use std::collections::BTreeMap;
use std::fmt;

use crate::math::Matrix;

use super::group::{Element, GroupRef};
use super::inclusion::Inclusion;
use super::intertwiner::{self, SignedOrbits, signed_images};
use super::rep::Rep;

/// An orbit of the group on the displacements of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowOrbit {
    /// The position in the window of the chosen member: the first.
    pub representative: usize,
    /// Positions in the window, ascending.
    pub members: Vec<usize>,
    /// For each member an element that carries the representative to it.
    pub transport: Vec<usize>,
    /// The elements that fix the representative, ascending.
    pub stabiliser: Vec<usize>,
    /// The free weights that this orbit carries: dim Hom_Stab.
    pub weights: usize,
}

/// The nonzero entries of the basis kernels.
#[derive(Clone, Debug, PartialEq)]
pub enum KernelEntries {
    /// Each entry of the dense kernel is one weight with coefficient 1, or 0:
    /// the weight at `[out, in, displacement]` (row-major), if there is one.
    /// This is the form of permutation representations.
    Table(Vec<Option<u32>>),
    /// `(weight, displacement, out, in, coefficient)`, sorted.
    Sparse(Vec<(u32, u32, u32, u32, f64)>),
}

/// A basis of the equivariant kernels on a window.
#[derive(Clone, Debug)]
pub struct WindowBasis {
    /// Components of the output fibre.
    pub dim_out: usize,
    /// Components of the input fibre.
    pub dim_in: usize,
    /// Displacements in the window.
    pub window: usize,
    /// The orbits, by first member.
    pub orbits: Vec<WindowOrbit>,
    /// The number of free weights: the dimension of the space of kernels.
    pub weights: usize,
    /// The orbit that each weight belongs to.
    pub orbit_of_weight: Vec<usize>,
    /// The kernels themselves.
    pub entries: KernelEntries,
}

/// Why a window carries no equivariant kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowError {
    /// The group moves a displacement out of the window.
    NotAUnionOfOrbits {
        /// A displacement of the window.
        displacement: Vec<i64>,
        /// Its image, which is not in the window.
        image: Vec<i64>,
        /// The group's name.
        group: String,
    },
    /// The group does not map the integer lattice of this dimension to itself.
    NotALatticeGroup {
        /// The group's name.
        group: String,
        /// The number of axes of the window.
        axes: usize,
    },
}

impl fmt::Display for WindowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WindowError::NotAUnionOfOrbits { displacement, image, group } => {
                write!(
                    f,
                    "the window is not a union of orbits of {group}: it contains {displacement:?} but not its image {image:?}"
                )
            }
            WindowError::NotALatticeGroup { group, axes } => {
                write!(f, "{group} does not act on the lattice Z^{axes} by integer matrices")
            }
        }
    }
}

impl std::error::Error for WindowError {}

/// A basis of the kernels that are equivariant under a finite group.
///
/// `window` lists distinct displacements (receiver to sender, in the order of
/// the grid's axes). Weights are numbered by the first entry in which they
/// occur, in the order (out, in, displacement): for regular representations
/// weight `h * window + p` is the entry `[identity, h, p]`.
///
/// # Errors
/// When the group does not act on Z^d, or moves a displacement out of the window.
pub fn kernel_basis(window: &[Vec<i64>], rho_in: &Rep, rho_out: &Rep) -> Result<WindowBasis, WindowError> {
    let group = rho_in.group();
    assert!(group.same_as(rho_out.group().as_ref()), "symmetry: kernels between representations of different groups");
    let images = window_action(group, window)?;
    let mut orbits = find_orbits(group, &images);
    let monomial = rho_in.is_sign_permutation() && rho_out.is_sign_permutation();
    let (weights, entries) = if monomial {
        by_signed_orbits(&images, rho_in, rho_out)
    } else {
        by_stabilisers(group, &orbits, rho_in, rho_out)
    };
    let mut basis = WindowBasis {
        dim_out: rho_out.dim(),
        dim_in: rho_in.dim(),
        window: window.len(),
        orbits: Vec::new(),
        weights,
        orbit_of_weight: vec![0; weights],
        entries,
    };
    let mut orbit_of_member = vec![0; window.len()];
    for (o, orbit) in orbits.iter().enumerate() {
        orbit.members.iter().for_each(|p| orbit_of_member[*p] = o);
    }
    basis
        .for_each_entry(|w, p, _, _, _| (w, orbit_of_member[p]))
        .into_iter()
        .for_each(|(w, o)| basis.orbit_of_weight[w] = o);
    basis.orbit_of_weight.iter().for_each(|o| orbits[*o].weights += 1);
    basis.orbits = orbits;
    basis.assert_equivariant(&images, rho_in, rho_out);
    Ok(basis)
}

/// The representation on signals over a window, `[displacement, component]`: g moves the displacements and acts on each fibre.
///
/// # Errors
/// As [`kernel_basis`].
pub fn patches(window: &[Vec<i64>], rho: &Rep) -> Result<Rep, WindowError> {
    let group = rho.group();
    let images = window_action(group, window)?;
    let (points, dim) = (window.len(), rho.dim());
    let moved = |g: Element| {
        let (fibre, to) = (rho.rho(&g), &images[g.index()]);
        let at = |(i, j): (usize, usize)| (to[j / dim] == i / dim).then(|| fibre[(i % dim, j % dim)]);
        Matrix::from_fn(points * dim, points * dim, |i, j| at((i, j)).unwrap_or(0.0))
    };
    let images: Vec<Matrix> = group.discrete_generators().into_iter().map(moved).collect();
    let made = super::finite::representation(group, "patches", &images, points * dim);
    Ok(made.unwrap_or_else(|e| panic!("symmetry: an action is not a representation: {e}")))
}

/// `images[g][p]`: where element g moves displacement p.
fn window_action(group: &GroupRef, window: &[Vec<i64>]) -> Result<Vec<Vec<usize>>, WindowError> {
    let axes = window.first().map_or(group.space_dim(), Vec::len);
    let not_lattice = || WindowError::NotALatticeGroup { group: group.name(), axes };
    let matrices = group.finite().and_then(super::finite::FiniteGroup::integer_action).ok_or_else(not_lattice)?;
    if axes != group.space_dim() || window.iter().any(|d| d.len() != axes) {
        return Err(not_lattice());
    }
    let position: BTreeMap<&[i64], usize> = window.iter().enumerate().map(|(p, d)| (d.as_slice(), p)).collect();
    assert_eq!(position.len(), window.len(), "symmetry: a window repeats a displacement");
    matrices
        .iter()
        .map(|m| {
            window
                .iter()
                .map(|d| {
                    let image: Vec<i64> = m.iter().map(|row| row.iter().zip(d).map(|(a, x)| a * x).sum()).collect();
                    position.get(image.as_slice()).copied().ok_or_else(|| WindowError::NotAUnionOfOrbits {
                        displacement: d.clone(),
                        image: image.clone(),
                        group: group.name(),
                    })
                })
                .collect()
        })
        .collect()
}

fn find_orbits(group: &GroupRef, images: &[Vec<usize>]) -> Vec<WindowOrbit> {
    let points = images.first().map_or(0, Vec::len);
    let mut seen = vec![false; points];
    let mut orbits = Vec::new();
    for representative in 0..points {
        if seen[representative] {
            continue;
        }
        let mut carried: BTreeMap<usize, usize> = BTreeMap::new();
        for (g, row) in images.iter().enumerate() {
            carried.entry(row[representative]).or_insert(g);
        }
        let stabiliser: Vec<usize> =
            (0..images.len()).filter(|g| images[*g][representative] == representative).collect();
        assert_eq!(
            carried.len() * stabiliser.len(),
            images.len(),
            "symmetry: orbit times stabiliser is not the order of {}",
            group.name()
        );
        carried.keys().for_each(|p| seen[*p] = true);
        orbits.push(WindowOrbit {
            representative,
            members: carried.keys().copied().collect(),
            transport: carried.values().copied().collect(),
            stabiliser,
            weights: 0,
        });
    }
    orbits
}

/// Signed permutations: a weight is an orbit on the triples (out, in, p).
fn by_signed_orbits(images: &[Vec<usize>], rho_in: &Rep, rho_out: &Rep) -> (usize, KernelEntries) {
    let (rows, cols, points) = (rho_out.dim(), rho_in.dim(), images[0].len());
    let mut orbits = SignedOrbits::new(rows * cols * points);
    for g in rho_in.group().discrete_generators() {
        let (a, b) = (signed_images(&rho_in.rho(&g)), signed_images(&rho_out.rho(&g)));
        let moved = &images[g.index()];
        for (i, (bi, bs)) in b.iter().enumerate() {
            for (j, (aj, sign)) in a.iter().enumerate() {
                for (p, to) in moved.iter().enumerate() {
                    orbits.join((i * cols + j) * points + p, (bi * cols + aj) * points + to, bs * sign);
                }
            }
        }
    }
    let (count, of) = orbits.numbered();
    if of.iter().all(|x| x.is_none_or(|(_, sign)| sign == 1)) {
        return (count, KernelEntries::Table(of.into_iter().map(|x| x.map(|(w, _)| w as u32)).collect()));
    }
    let mut sparse = Vec::new();
    for (entry, found) in of.into_iter().enumerate() {
        if let Some((w, sign)) = found {
            let (pair, p) = (entry / points, entry % points);
            sparse.push((w as u32, p as u32, (pair / cols) as u32, (pair % cols) as u32, f64::from(sign)));
        }
    }
    (count, KernelEntries::Sparse(sorted(sparse)))
}

/// The general case: solve on each representative, carry along the orbit.
fn by_stabilisers(group: &GroupRef, orbits: &[WindowOrbit], rho_in: &Rep, rho_out: &Rep) -> (usize, KernelEntries) {
    let mut sparse = Vec::new();
    let mut weights = 0;
    for orbit in orbits {
        let along = Inclusion::of_members(group, &orbit.stabiliser, "the stabiliser")
            .unwrap_or_else(|e| panic!("symmetry: a stabiliser is not a subgroup: {e}"));
        let basis = intertwiner::equivariant_basis(&rho_in.restrict(&along), &rho_out.restrict(&along));
        for k in basis {
            for (p, g) in orbit.members.iter().zip(&orbit.transport) {
                let moved = carry(&k, group, *g, rho_in, rho_out);
                for i in 0..moved.rows() {
                    for j in 0..moved.cols() {
                        let v = moved[(i, j)];
                        if v.abs() > 1e-12 {
                            sparse.push((weights as u32, *p as u32, i as u32, j as u32, v));
                        }
                    }
                }
            }
            weights += 1;
        }
    }
    (weights, KernelEntries::Sparse(sorted(sparse)))
}

fn carry(k: &Matrix, group: &GroupRef, g: usize, rho_in: &Rep, rho_out: &Rep) -> Matrix {
    let g = Element::Index(g);
    rho_out.rho(&g).mul(k).mul(&rho_in.rho(&group.inverse(&g)))
}

type Entry = (u32, u32, u32, u32, f64);

fn sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by_key(|(w, p, i, j, _)| (*w, *p, *i, *j));
    entries
}

impl WindowBasis {
    /// Maps every nonzero entry `(weight, displacement, out, in, coefficient)`.
    pub fn for_each_entry<T>(&self, mut f: impl FnMut(usize, usize, usize, usize, f64) -> T) -> Vec<T> {
        match &self.entries {
            KernelEntries::Table(table) => table
                .iter()
                .enumerate()
                .filter_map(|(at, w)| {
                    let (pair, p) = (at / self.window, at % self.window);
                    w.map(|w| f(w as usize, p, pair / self.dim_in, pair % self.dim_in, 1.0))
                })
                .collect(),
            KernelEntries::Sparse(entries) => entries
                .iter()
                .map(|(w, p, i, j, v)| f(*w as usize, *p as usize, *i as usize, *j as usize, *v))
                .collect(),
        }
    }

    /// The dense kernel of some weights, `[out, in, displacement]` row-major.
    pub fn dense(&self, weights: &[f64]) -> Vec<f64> {
        assert_eq!(weights.len(), self.weights, "symmetry: the kernel has {} weights", self.weights);
        let mut kernel = vec![0.0; self.dim_out * self.dim_in * self.window];
        for (at, x) in self.for_each_entry(|w, p, i, j, v| ((i * self.dim_in + j) * self.window + p, v * weights[w])) {
            kernel[at] += x;
        }
        kernel
    }

    /// Panics unless every basis kernel is equivariant under the generators.
    fn assert_equivariant(&self, images: &[Vec<usize>], rho_in: &Rep, rho_out: &Rep) {
        let residual = self.residual(images, rho_in, rho_out);
        assert!(
            residual < 1e-9,
            "symmetry: kernels from {rho_in} to {rho_out} are not equivariant: residual {residual:e}"
        );
    }

    /// `max |rho_out(g) k(d) - k(g d) rho_in(g)|` over generators, displacements
    /// and a fixed generic combination of the basis.
    fn residual(&self, images: &[Vec<usize>], rho_in: &Rep, rho_out: &Rep) -> f64 {
        let generic: Vec<f64> = (0..self.weights).map(|w| (0.7 * w as f64 + 0.3).sin()).collect();
        let dense = self.dense(&generic);
        let at = |p: usize| {
            Matrix::from_fn(self.dim_out, self.dim_in, |i, j| dense[(i * self.dim_in + j) * self.window + p])
        };
        let mut worst = 0.0f64;
        for g in rho_in.group().discrete_generators() {
            let (a, b) = (rho_in.rho(&g), rho_out.rho(&g));
            for (p, to) in images[g.index()].iter().enumerate() {
                worst = worst.max(b.mul(&at(p)).distance(&at(*to).mul(&a)));
            }
        }
        worst
    }
}
