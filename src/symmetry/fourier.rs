//! Equivariant maps in the coordinates of Fourier on a finite group: block by block.
//!
//! In: a basis of maps between two representations. Out: for each irrep the changes of coordinates on both sides, and the blocks that the
//! weights of the basis become. By Schur's lemma (Serre, Linear Representations of Finite Groups, 2.6) an equivariant map sends the copies of
//! an irrep to copies of the same irrep, by one number each: with m copies on one side, n on the other and dimension d it is an n x m matrix
//! that acts on d columns. An irrep of complex or quaternionic type has more endomorphisms than numbers: its d columns are kept inside of
//! the matrix, which is true of any irrep and saves less.

use crate::math::Matrix;
use crate::symmetry::decompose::{Decomposition, decompose};
use crate::symmetry::{Endomorphism, Irrep, Rep};

/// The parts of some irreps of one dimension that appear equally often, `irreps` of them side by side.
#[derive(Clone, Debug)]
pub struct Isotypic {
    pub irreps: usize,
    /// The columns on which a block acts: the dimension.
    pub columns: usize,
    /// The rows of the input and of the output of a block.
    pub input: usize,
    pub output: usize,
    /// `[dim in, irreps, input, columns]`: coordinates of the input.
    pub into: Vec<f64>,
    /// `[dim out, irreps, output, columns]`: the output in its coordinates.
    pub back: Vec<f64>,
    /// `[weights, irreps, output, input]`
    pub blocks: Vec<f64>,
}

/// A basis of maps `[weight, out, in]` block by block; nothing where a representation is not orthogonal or its group not finite.
pub fn in_fourier(rho_in: &Rep, rho_out: &Rep, maps: &[Matrix]) -> Option<Vec<Isotypic>> {
    rho_in.group().finite()?;
    let (input, output) = (decompose(rho_in, 0)?, decompose(rho_out, 0)?);
    let mut res: Vec<Isotypic> = Vec::new();
    for irrep in rho_in.group().irreps(0) {
        let (a, b) = (columns_of(&input, irrep), columns_of(&output, irrep));
        if a.is_empty() || b.is_empty() {
            continue;
        }
        let real = matches!(rho_in.group().endomorphism(irrep), Endomorphism::Real);
        let columns = if real { rho_in.group().irrep_dim(irrep) } else { 1 };
        let part = Isotypic::new(&input.basis, &output.basis, &a, &b, columns, maps);
        let alike = |k: &&mut Isotypic| (k.columns, k.input, k.output) == (part.columns, part.input, part.output);
        match res.iter_mut().find(alike) {
            Some(known) => known.join(&part),
            None => res.push(part),
        }
    }
    Some(res)
}

/// The columns of the new basis that belong to an irrep, copy after copy.
fn columns_of(decomposition: &Decomposition, irrep: Irrep) -> Vec<usize> {
    let group = decomposition.irreps.group();
    let mut at = 0;
    let mut res = Vec::new();
    for label in &decomposition.labels {
        let columns = at..at + group.irrep_dim(*label);
        at = columns.end;
        res.extend((*label == irrep).then_some(columns).into_iter().flatten());
    }
    res
}

impl Isotypic {
    fn new(q_in: &Matrix, q_out: &Matrix, a: &[usize], b: &[usize], columns: usize, maps: &[Matrix]) -> Isotypic {
        let gathered = |q: &Matrix, of: &[usize]| {
            (0..q.rows()).flat_map(|i| of.iter().map(move |k| (i, *k))).map(|(i, k)| clean(q[(i, k)])).collect()
        };
        let (input, output) = (a.len() / columns, b.len() / columns);
        let mut blocks = Vec::with_capacity(maps.len() * input * output);
        for map in maps {
            let turned = q_out.transpose().mul(map).mul(q_in);
            for (i, j) in (0..output).flat_map(|i| (0..input).map(move |j| (i, j))) {
                let sum: f64 = (0..columns).map(|r| turned[(b[i * columns + r], a[j * columns + r])]).sum();
                blocks.push(clean(sum / columns as f64));
            }
        }
        Isotypic { irreps: 1, columns, input, output, into: gathered(q_in, a), back: gathered(q_out, b), blocks }
    }

    /// Puts another irrep beside these.
    fn join(&mut self, other: &Isotypic) {
        let beside = |mine: &[f64], theirs: &[f64], each: usize| {
            let rows = mine.chunks(self.irreps * each).zip(theirs.chunks(each));
            rows.flat_map(|(a, b)| a.iter().chain(b).copied().collect::<Vec<_>>()).collect()
        };
        let into = beside(&self.into, &other.into, self.input * self.columns);
        let back = beside(&self.back, &other.back, self.output * self.columns);
        let blocks = beside(&self.blocks, &other.blocks, self.input * self.output);
        *self = Isotypic { irreps: self.irreps + 1, into, back, blocks, ..self.clone() };
    }
}

/// Rounding goes, so that zeros are seen.
fn clean(x: f64) -> f64 {
    if x.abs() < 1e-12 { 0.0 } else { x }
}
