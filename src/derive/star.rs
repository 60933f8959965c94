//! `linear over edges`: a point and the sum of its neighbours.
//!
//! In: the two orbits of a star, the centre and its neighbours. Out: `y_i = W_0 x_i + W_1 Σ_{j~i} x_j / sqrt(m/n)`, with the mean degree
//! from the sizes given with the domain. The weight is `[out, in, 2]`.

use crate::base::diagnostic::Diagnostic;
use crate::derive::blueprint::Hom;
use crate::derive::derivation::{Derivation, not_derived};
use crate::derive::linear::{Layer, homs};
use crate::derive::place::Table;
use crate::sema::hir::Base;
use crate::tensor::graph::{Axis, Val};

impl Derivation<'_> {
    pub(super) fn over_star(&mut self, layer: &mut Layer) -> Result<Vec<Hom>, Diagnostic> {
        let Base::Points(id) = layer.base else {
            return Err(not_derived("a linear over edges into a base that is not points"));
        };
        let pairs = self.point_pairs(layer, 2)?;
        let place = self.place(layer.base);
        for (k, pair) in pairs.iter().enumerate() {
            let weight = self.declare(layer, &pairs, k);
            let basis = pair.coupling.weights / 2;
            let own = layer.sources[pair.source].tensors();
            let neighbours: Vec<Val> = own.iter().map(|x| self.neighbour_sum(id, x)).collect();
            for (orbit, seen) in [own, neighbours].iter().enumerate() {
                let (read, chosen) = self.orbit_of(&weight, pair, orbit, basis);
                let factors: Vec<Val> = chosen.into_iter().collect();
                self.products(layer, pair, &read, seen, &factors, &place.axes);
            }
        }
        Ok(homs(layer, &pairs))
    }

    /// `Σ_{j~i} x_j / sqrt(mean degree)`
    fn neighbour_sum(&mut self, id: crate::base::arena::Id<crate::sema::hir::DomainDecl>, x: &Val) -> Val {
        let points = self.places.points(&mut self.graph, id);
        let point = points.axes[0];
        let senders = self.places.table(&mut self.graph, id, Table::Senders);
        let receivers = self.places.table(&mut self.graph, id, Table::Receivers);
        let sender = self.graph.axis();
        let senders = senders.rename(&[(point, sender)]);
        let x = x.rename(&[(point, sender)]);
        let scale = self.edge_scale(id);
        let scale = self.graph.scalar(scale);
        let out: Vec<Axis> = [point].into_iter().chain(x.axes.iter().copied().filter(|a| *a != sender)).collect();
        self.graph.contract(&[&x, &senders, &receivers, &scale], &out)
    }

    /// One over the square root of the mean degree, from the expected sizes.
    pub(super) fn edge_scale(&mut self, id: crate::base::arena::Id<crate::sema::hir::DomainDecl>) -> f64 {
        let domain = self.places.domain(id);
        let points: usize = domain.axes().iter().map(|n| self.graph.sizes.hint(*n)).product();
        let edges = domain.edges().map_or(0, |m| self.graph.sizes.hint(m));
        if points == 0 || edges == 0 { 1.0 } else { (points as f64 / edges as f64).sqrt() }
    }
}
