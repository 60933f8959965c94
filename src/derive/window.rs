//! `linear over 3x3`: kernels on a lattice, lowered by expansion.
//!
//! In: the displacements of a window closed under the point group. Out: `y[u] = Σ_z W[z] x[u + z - p]`, where `W` is the dense filter
//! expanded from the free weights `psi`: between regular fibres `W[o g, c h, z] = psi[o, c, (g⁻¹h, g⁻¹z)]`.
//! Expansion needs only weights, so it belongs to `prepare`; what is left at the call is one ordinary convolution.

use crate::base::diagnostic::Diagnostic;
use crate::derive::blueprint::Hom;
use crate::derive::derivation::{Derivation, not_derived};
use crate::derive::fourier::Maps;
use crate::derive::hom::{Coupling, Join, Roles, rep_of};
use crate::derive::linear::{Layer, Read, homs};
use crate::domain::Boundary;
use crate::math::Matrix;
use crate::sema::hir::Base;
use crate::symmetry::{KernelEntries, Rep, kernel_basis, patches};
use crate::tensor::graph::{Affine, Axis, Function, Outside, Relation, Val};

impl Derivation<'_> {
    pub(super) fn over_window(
        &mut self,
        layer: &mut Layer,
        displacements: &[Vec<i64>],
        window: &[usize],
        boundary: Boundary,
    ) -> Result<Vec<Hom>, Diagnostic> {
        let Base::Points(id) = layer.base else {
            return Err(not_derived("a window into a base that is not the points of a grid"));
        };
        let group = self.places.domain(id).stabiliser();
        let points = self.places.points(&mut self.graph, id);
        let cells: Vec<(Axis, usize)> = window.iter().map(|n| (self.graph.axis(), *n)).collect();
        let placed = Cells::new(displacements, window);
        let pairs = self.pairs(layer, |this, source, target| {
            let (input, out) = (rep_of(&source.kind, &group)?, rep_of(&target.kind, &group)?);
            let basis = kernel_basis(displacements, &input, &out)
                .map_err(|e| Diagnostic::error("E0306", "the window is not a union of orbits").why(e.to_string()))?;
            if basis.weights == 0 {
                return Ok(None);
            }
            let square: f64 = basis.for_each_entry(|_, _, _, _, x| x * x).iter().sum();
            let roles = Roles { out: target.component, input: source.component, cells: cells.clone() };
            let name = format!("kernels {} -> {} over {window:?}", source.kind.tag(), target.kind.tag());
            let dims = (basis.dim_out, basis.dim_in);
            let join = this.join(&name, basis.weights, dims, &placed.entries(&basis.entries, dims), &roles);
            Ok(Some(Coupling { weights: basis.weights, fan: square / basis.dim_out as f64, join }))
        })?;
        let (relations, reads) = self.neighbours(&points.axes, &points.sizes, &cells, &placed, boundary);
        let place = self.place(layer.base);
        for k in 0..pairs.len() {
            let mut pair = pairs[k].clone();
            let free = self.declare(layer, &pairs, k);
            let weight = self.expand(&free, &mut pair.coupling.join);
            let seen: Vec<Val> = layer.sources[pair.source].tensors().iter().map(|x| x.rename(&reads)).collect();
            let first = layer.targets[pair.target].terms.len();
            self.products(layer, &pair, &weight, &seen, &relations, &place.axes);
            let (source, target) = (&layer.sources[pair.source], &layer.targets[pair.target]);
            if self.fourier_may_pay(layer, &pair, &group, source.kind.dim() * displacements.len()) {
                let roles = Roles { out: target.component, input: source.component, cells: cells.clone() };
                let reps = [rep_of(&source.kind, &group)?, rep_of(&target.kind, &group)?];
                let maps = patch_maps(displacements, &placed, &reps, &roles);
                self.fourier(layer, &pairs[k], &maps, &free, (&seen, &relations), &place.axes, first);
            }
        }
        Ok(homs(layer, &pairs))
    }

    /// The dense filter of a weight: a product of its own, so that it is made once for given weights.
    fn expand(&mut self, weight: &Read, join: &mut Join) -> Read {
        match join {
            Join::Same | Join::Everywhere => weight.clone(),
            Join::Through { operand, weight: basis } => {
                let mut out: Vec<Axis> =
                    weight.val.axes.iter().chain(&operand.axes).copied().filter(|a| Some(*a) != *basis).collect();
                out.sort();
                out.dedup();
                let val = self.graph.contract(&[&weight.val, operand], &out);
                *join = Join::Everywhere;
                Read { val, input: weight.input }
            }
        }
    }

    /// For each axis of the grid the relation `(u, z) -> u + z - p`, and the names under which inputs are read.
    fn neighbours(
        &mut self,
        points: &[Axis],
        sizes: &[crate::base::size::Size],
        cells: &[(Axis, usize)],
        placed: &Cells,
        boundary: Boundary,
    ) -> (Vec<Val>, Vec<(Axis, Axis)>) {
        let outside = match boundary {
            Boundary::Zero => Outside::Zero,
            Boundary::Torus => Outside::Wrap,
            Boundary::Reflect => Outside::Reflect,
        };
        let (mut relations, mut reads) = (Vec::new(), Vec::new());
        for (k, (axis, size)) in points.iter().zip(sizes).enumerate() {
            let map = Function::Affine {
                scale: vec![1, 1],
                offset: Affine { constant: placed.first[k], size: None },
                divisor: 1,
                outside,
            };
            let from = vec![*size, crate::base::size::Size::fixed(cells[k].1)];
            let relation = self.graph.relation(Relation { from, to: *size, map });
            let read = self.graph.axis();
            let names = [*axis, cells[k].0, read];
            relations.push(relation.rename(&relation.axes.iter().copied().zip(names).collect::<Vec<_>>()));
            reads.push((*axis, read));
        }
        (relations, reads)
    }
}

/// The maps from patches.
fn patch_maps<'m>(
    displacements: &[Vec<i64>],
    placed: &Cells,
    [input, output]: &[Rep; 2],
    roles: &'m Roles,
) -> Maps<'m> {
    let basis = kernel_basis(displacements, input, output).expect("it gave the pairs");
    let mut maps = vec![Matrix::zeros(output.dim(), displacements.len() * input.dim()); basis.weights];
    for (w, p, i, j, x) in basis.for_each_entry(|w, p, i, j, x| (w, p, i, j, x)) {
        maps[w][(i, p * input.dim() + j)] = x;
    }
    let patches = patches(displacements, input).expect("the window is a union of orbits");
    Maps { input: patches, output: output.clone(), basis: maps, cells: placed.cell.clone(), roles }
}

/// The displacements as cells of the smallest box around them.
#[derive(Debug)]
struct Cells {
    /// The displacement of the first cell.
    first: Vec<i64>,
    /// The cell of each displacement, row-major.
    cell: Vec<usize>,
    count: usize,
}

impl Cells {
    fn new(displacements: &[Vec<i64>], window: &[usize]) -> Cells {
        let lowest = |k: usize| displacements.iter().map(|d| d[k]).min().unwrap_or(0);
        let first: Vec<i64> = (0..window.len()).map(lowest).collect();
        let cell = |d: &Vec<i64>| {
            let inside = d.iter().zip(&first).map(|(x, low)| (x - low) as usize);
            inside.zip(window).fold(0, |at, (x, n)| at * n + x)
        };
        Cells { cell: displacements.iter().map(cell).collect(), count: window.iter().product(), first }
    }

    /// The entries with cells of the box in place of positions in the list of displacements.
    fn entries(&self, entries: &KernelEntries, dims: (usize, usize)) -> KernelEntries {
        match entries {
            KernelEntries::Table(table) => {
                let mut res = vec![None; dims.0 * dims.1 * self.count];
                for (at, w) in table.iter().enumerate() {
                    let (pair, p) = (at / self.cell.len(), at % self.cell.len());
                    res[pair * self.count + self.cell[p]] = *w;
                }
                KernelEntries::Table(res)
            }
            KernelEntries::Sparse(list) => KernelEntries::Sparse(
                list.iter().map(|(w, p, i, j, x)| (*w, self.cell[*p as usize] as u32, *i, *j, *x)).collect(),
            ),
        }
    }
}
