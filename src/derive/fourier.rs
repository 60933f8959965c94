//! Maps that commute with a finite group in the coordinates of its irreps: the Fourier program, beside the expanded one.
//!
//! In: a pair of kinds, the basis of its maps, and the weights. Out: a second program for the pair's term, and the statement that it equals
//! the first. With `x̂ = Q x` and the blocks `Ŵ` that the weights become (`symmetry::fourier`),
//!
//! `y = Qᵀ (⊕ψ Ŵ_ψ (x) 1) x̂`:
//!
//! `Σ_ψ d n m` products a pair of channels in place of `dim out · dim in`, for d, n and m the dimension of an irrep and its copies in the
//! output and the input: for the regular representation of D4 at a point 12 in place of 64. Both changes of coordinates are once a channel,
//! so that this pays with many channels. Over a window x are the patches: the window times the fibre is one representation.
//!
//! Not stated where the counts show that it cannot pay (`fourier_may_pay`), or the group is not finite.

use crate::base::diagnostic::Diagnostic;
use crate::derive::derivation::Derivation;
use crate::derive::hom::{Join, Roles, common_group, rep_of};
use crate::derive::linear::{Layer, Pair, Read, sum};
use crate::math::Matrix;
use crate::symmetry::{GroupRef, Isotypic, Rep, equivariant_basis, in_fourier};
use crate::tensor::equality::Theorem;
use crate::tensor::graph::{Axis, Val};

/// Why both programs are equal.
pub(super) const FOURIER: Theorem =
    Theorem { name: "fourier", equation: "W x = Qᵀ (⊕ψ Ŵ_ψ (x) 1) Q x, where W g = g W" };

/// How much longer a multiplication of a sparse change of coordinates takes, whose result is written and read again, than one of a dense
/// product. Measured with D4: over 3x3 the expanded program is the faster one up to 32 channels, the Fourier program from 64 on.
const SLOWER: usize = 24;

/// A pair of kinds, seen as maps between representations.
pub(super) struct Maps<'m> {
    /// Of a component of the input, or of a patch `[cell, component]`.
    pub(super) input: Rep,
    pub(super) output: Rep,
    /// For each weight its map, `[out, in]`.
    pub(super) basis: Vec<Matrix>,
    /// The cell of each place of a patch; nothing at a point.
    pub(super) cells: Vec<usize>,
    pub(super) roles: &'m Roles,
}

/// A representation of more dimensions is not decomposed: its matrices are dense, one for each element and each weight.
const MOST_DIMENSIONS: usize = 128;

impl Maps<'_> {
    /// Rows for the places of a patch and components as rows for all cells of the box around it.
    fn placed(&self, rows: &[f64]) -> Vec<f64> {
        if self.cells.is_empty() {
            return rows.to_vec();
        }
        let each = rows.len() / self.cells.len();
        let mut res = vec![0.0; self.roles.cells.iter().map(|(_, n)| n).product::<usize>() * each];
        for (cell, row) in self.cells.iter().zip(rows.chunks(each)) {
            res[cell * each..][..each].copy_from_slice(row);
        }
        res
    }
}

impl Derivation<'_> {
    /// Whether the Fourier program of a pair may be the faster one, by the multiplications at a point: blocks have one a weight and column.
    /// `input` is the dimension of what the maps read, a patch or a component.
    pub(super) fn fourier_may_pay(&self, layer: &Layer, pair: &Pair, group: &GroupRef, input: usize) -> bool {
        let (target, source) = (&layer.targets[pair.target], &layer.sources[pair.source]);
        let Some(finite) = group.finite() else { return false };
        let output = target.kind.dim();
        let columns = group.irreps(0).into_iter().map(|i| group.irrep_dim(i)).max().unwrap_or(1);
        let channels = target.copies * source.copies;
        let turned = (source.copies * input + target.copies * output) * finite.order();
        let fourier = channels * pair.coupling.weights * columns + SLOWER * turned;
        !source.one_hot && input.max(output) <= MOST_DIMENSIONS && fourier < channels * input * output
    }

    /// States the Fourier program for the terms that a pointwise pair has added since its target had `first`.
    pub(super) fn fourier_at_point(
        &mut self,
        layer: &mut Layer,
        pair: &Pair,
        weight: &Read,
        seen: &[Val],
        place: &[Axis],
        first: usize,
    ) -> Result<(), Diagnostic> {
        let (source, target) = (&layer.sources[pair.source], &layer.targets[pair.target]);
        let Some(group) = common_group(&source.kind, &target.kind) else { return Ok(()) };
        if self.fourier_may_pay(layer, pair, &group, source.kind.dim()) {
            let (input, output) = (rep_of(&source.kind, &group)?, rep_of(&target.kind, &group)?);
            let roles = Roles { out: target.component, input: source.component, cells: vec![] };
            let basis = equivariant_basis(&input, &output);
            let maps = Maps { input, output, basis, cells: vec![], roles: &roles };
            self.fourier(layer, pair, &maps, weight, (seen, &[]), place, first);
        }
        Ok(())
    }

    /// States the Fourier program for the terms that the target of a pair has got since it had `first`. `weight` is not expanded; `seen` are
    /// the pieces of the source as the orbit sees them, `factors` further operands, `place` the axes of the result besides its own.
    #[expect(clippy::too_many_arguments, reason = "a pair, its maps, and what its products read")]
    pub(super) fn fourier(
        &mut self,
        layer: &mut Layer,
        pair: &Pair,
        maps: &Maps,
        weight: &Read,
        (seen, factors): (&[Val], &[Val]),
        place: &[Axis],
        first: usize,
    ) {
        let Join::Through { weight: Some(basis), .. } = pair.coupling.join else { return };
        let Some(parts) = in_fourier(&maps.input, &maps.output, &maps.basis) else { return };
        let mut terms = Vec::new();
        for part in &parts {
            for (k, x) in seen.iter().enumerate() {
                let term = self.block(layer, pair, (maps, part), (weight, basis), (k, x, factors), place);
                terms.push(term);
            }
        }
        let other = sum(&mut self.graph, &terms);
        let direct = layer.targets[pair.target].terms.split_off(first);
        let direct = sum(&mut self.graph, &direct);
        self.graph.equal(&direct, &other, FOURIER, &layer.linear.name);
        layer.targets[pair.target].terms.push(direct);
    }

    /// What some irreps add, of one piece of the source.
    fn block(
        &mut self,
        layer: &Layer,
        pair: &Pair,
        (maps, part): (&Maps, &Isotypic),
        (weight, basis): (&Read, Axis),
        (piece, x, factors): (usize, &Val, &[Val]),
        place: &[Axis],
    ) -> Val {
        let (target, source) = (&layer.targets[pair.target], &layer.sources[pair.source]);
        let [irrep, column, row_in, row_out] = [(); 4].map(|()| self.graph.axis());
        let cells = maps.roles.cells.iter().map(|(axis, n)| (Some(*axis), *n));
        let fibre = (maps.roles.input, maps.input.dim() / maps.cells.len().max(1));
        let own = [(Some(irrep), part.irreps), (Some(row_in), part.input), (Some(column), part.columns)];
        let into = self.named("Q", &cells.chain([fibre]).chain(own).collect::<Vec<_>>(), &maps.placed(&part.into));
        let own = [(Some(irrep), part.irreps), (Some(row_out), part.output), (Some(column), part.columns)];
        let fibre = (maps.roles.out, maps.output.dim());
        let back = self.named("Qᵀ", &[fibre].into_iter().chain(own).collect::<Vec<_>>(), &part.back);
        let dims = [(basis, pair.coupling.weights), (irrep, part.irreps), (row_out, part.output), (row_in, part.input)];
        let blocks = self.named("W to Ŵ", &dims.map(|(a, n)| (Some(a), n)), &part.blocks);
        let (of, offset) = &source.pieces[piece];
        let mut x = x.clone();
        let relation = self.piece(of, *offset, source.copies, weight.input, &mut x);
        let copy = if relation.is_some() { of.copy } else { weight.input };
        let operands: Vec<&Val> = [&x, &into].into_iter().chain(factors).collect();
        let at = |own: &[Axis]| place.iter().chain(own).copied().collect::<Vec<_>>();
        let turned = self.graph.contract(&operands, &at(&[copy, irrep, row_in, column]));
        let weights =
            self.graph.contract(&[&weight.val, &blocks], &[target.copy, weight.input, irrep, row_out, row_in]);
        let operands: Vec<&Val> = [&weights, &turned].into_iter().chain(&relation).collect();
        let product = self.graph.contract(&operands, &at(&[target.copy, irrep, row_out, column]));
        let out: Vec<Axis> = at(&[target.copy]).into_iter().chain(target.component).collect();
        self.graph.contract(&[&product, &back], &out)
    }
}
