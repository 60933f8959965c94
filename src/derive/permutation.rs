//! `linear over all` of sets and of pairs: set partitions, lowered by factoring through orbit sums.
//!
//! In: the numbers of input and output indices. Out: for each set partition of (outputs, inputs) one term: equal indices read a diagonal,
//! indices of the input alone are averaged, indices of the output alone are repeated, equal output indices are put on a diagonal.
//! The reduction comes first, then the small product with the weight, then the repetition. (Maron et al. 2019; Bell(k + l) maps.)

use crate::base::diagnostic::Diagnostic;
use crate::base::size::Size;
use crate::derive::blueprint::Hom;
use crate::derive::derivation::{Derivation, not_derived};
use crate::derive::linear::{Layer, Pair, homs};
use crate::derive::place::{Table, reciprocal};
use crate::domain::{Batching, Orbits};
use crate::sema::hir::Base;
use crate::symmetry::partition::{Partition, partitions};
use crate::tensor::graph::{Axis, Val};

/// How one partition reads the input and writes the output.
#[derive(Debug)]
struct Pattern {
    /// The axis under which each input index is read.
    reads: Vec<Axis>,
    /// The axes that are averaged.
    averaged: Vec<Axis>,
    /// Identities between equal output indices.
    diagonals: Vec<Val>,
}

impl Derivation<'_> {
    pub(super) fn over_permutations(
        &mut self,
        layer: &mut Layer,
        inputs: usize,
        outputs: usize,
    ) -> Result<Vec<Hom>, Diagnostic> {
        let Base::Points(id) = layer.base else {
            return Err(not_derived("a linear over all into a base that is not points"));
        };
        let points = self.places.points(&mut self.graph, id);
        if points.axes.len() != outputs || points.axes.len() != inputs {
            return Err(not_derived(format!("linear maps from tuples of {inputs} points to tuples of {outputs}")));
        }
        if self.places.batching == Batching::Union && outputs > 1 {
            return Err(not_derived("linear over all on pairs of points of a disjoint union"));
        }
        let Some(all) = partitions(inputs + outputs) else {
            return Err(not_derived(format!("linear over all with {} indices", inputs + outputs)));
        };
        let pairs = self.point_pairs(layer, all.len())?;
        let place = self.place(layer.base);
        for (k, pair) in pairs.iter().enumerate() {
            let weight = self.declare(layer, &pairs, k);
            for (orbit, partition) in all.iter().enumerate() {
                let pattern = self.pattern(partition, &points.axes, &points.sizes);
                let (read, chosen) = self.orbit_of(&weight, pair, orbit, pair.coupling.weights / all.len());
                let (seen, spread) = match self.places.batching {
                    Batching::Leading => (self.reduced(layer, pair, id, &points.axes, &pattern), None),
                    Batching::Union => self.reduced_in_samples(layer, pair, id, &pattern),
                };
                let factors: Vec<Val> = chosen.into_iter().chain(pattern.diagonals).chain(spread).collect();
                self.products(layer, pair, &read, &seen, &factors, &place.axes);
            }
        }
        Ok(homs(layer, &pairs))
    }

    fn pattern(&mut self, partition: &Partition, outputs: &[Axis], sizes: &[Size]) -> Pattern {
        let l = outputs.len();
        let mut pattern = Pattern { reads: vec![], averaged: vec![], diagonals: vec![] };
        let mut axis_of: Vec<Option<Axis>> = vec![None; partition.blocks()];
        for (position, block) in partition.block.iter().enumerate() {
            match (axis_of[*block], position < l) {
                (None, true) => axis_of[*block] = Some(outputs[position]),
                (Some(first), true) => {
                    let one = self.graph.identity(sizes[position]);
                    pattern.diagonals.push(one.rename(&[(one.axes[0], first), (one.axes[1], outputs[position])]));
                }
                (None, false) => {
                    let axis = self.graph.axis();
                    axis_of[*block] = Some(axis);
                    pattern.averaged.push(axis);
                    pattern.reads.push(axis);
                }
                (Some(axis), false) => pattern.reads.push(axis),
            }
        }
        pattern
    }

    /// The pieces of a source with the input's own indices averaged away.
    fn reduced(
        &mut self,
        layer: &Layer,
        pair: &Pair,
        id: crate::base::arena::Id<crate::sema::hir::DomainDecl>,
        points: &[Axis],
        pattern: &Pattern,
    ) -> Vec<Val> {
        let names: Vec<(Axis, Axis)> = points.iter().copied().zip(pattern.reads.iter().copied()).collect();
        let mut seen = Vec::new();
        for x in layer.sources[pair.source].tensors() {
            let x = x.rename(&names);
            let mut scales = Vec::new();
            for _ in &pattern.averaged {
                let count = self.places.count(&mut self.graph, id, 1);
                scales.push(reciprocal(&mut self.graph, &count));
            }
            let mut out: Vec<Axis> = Vec::new();
            for axis in &x.axes {
                if !pattern.averaged.contains(axis) && !out.contains(axis) {
                    out.push(*axis);
                }
            }
            let operands: Vec<&Val> = [&x].into_iter().chain(&scales).collect();
            let diagonal = out.len() < x.axes.len();
            seen.push(if diagonal || !scales.is_empty() { self.graph.contract(&operands, &out) } else { x });
        }
        seen
    }

    /// The same for one index of a disjoint union: the mean over each sample, and the relation that repeats it.
    fn reduced_in_samples(
        &mut self,
        layer: &Layer,
        pair: &Pair,
        id: crate::base::arena::Id<crate::sema::hir::DomainDecl>,
        pattern: &Pattern,
    ) -> (Vec<Val>, Option<Val>) {
        let tensors = layer.sources[pair.source].tensors();
        if pattern.averaged.is_empty() {
            return (tensors, None);
        }
        let index = self.places.table(&mut self.graph, id, Table::Index);
        let count = self.places.count(&mut self.graph, id, 1);
        let inverse = reciprocal(&mut self.graph, &count);
        let point = index.axes[0];
        let sample = index.axes[1];
        let mut seen = Vec::new();
        for x in tensors {
            let out: Vec<Axis> = [sample].into_iter().chain(x.axes.iter().copied().filter(|a| *a != point)).collect();
            seen.push(self.graph.contract(&[&x, &index, &inverse], &out));
        }
        (seen, Some(index))
    }

    /// Where a bias may live on the output: everywhere, and for tuples on each diagonal.
    pub(super) fn output_patterns(&mut self, base: Base, orbits: &Orbits) -> Vec<Vec<Val>> {
        let (Orbits::Permutations { outputs, .. }, Base::Points(id)) = (orbits, base) else {
            return vec![vec![]];
        };
        let points = self.places.points(&mut self.graph, id);
        let all = partitions(*outputs).unwrap_or_default();
        all.iter().map(|p| self.pattern(p, &points.axes, &points.sizes).diagonals).collect()
    }
}
