//! `pool`: reductions over the points of a sample, and over the group where the result is to be invariant.
//!
//! In: a signal on points or edges. Out: one value a sample. Over a disjoint union each sample is reduced by itself, by the table `index`.

use crate::base::arena::Id;
use crate::base::diagnostic::Diagnostic;
use crate::derive::derivation::{Derivation, not_derived};
use crate::derive::place::{Place, Table, reciprocal};
use crate::derive::signal::{Kind, Part, Signal};
use crate::domain::Batching;
use crate::sema::hir::{Aggregate, Base, DomainDecl, Value};
use crate::tensor::graph::{Axis, Val};
use crate::tensor::op::Reduction;

impl Derivation<'_> {
    pub(super) fn pool(&mut self, value: &Value, how: Aggregate, invariant: bool) -> Result<Signal, Diagnostic> {
        let x = self.operand(value, 0);
        let (relations, bound, count) = match x.base {
            Base::Points(id) if self.places.batching == Batching::Union && self.places.domain(id).axes().len() > 1 => {
                return Err(not_derived("pool over pairs of points of a disjoint union"));
            }
            Base::Points(id) => self.samples(id),
            Base::Edges(id) => self.samples_of_edges(id),
            Base::Constant | Base::Sample => return Err(not_derived("pool of a signal that does not live on points")),
        };
        let place = self.place(x.base);
        let sample = self.place(Base::Sample);
        let mut parts = Vec::new();
        for p in &x.parts {
            if invariant
                && let Kind::Rep(rep) = &p.kind
                && rep.invariants().rows() != 1
            {
                return Err(not_derived(format!(
                    "an invariant pool of {}, on whose components the group has several orbits",
                    p.kind
                )));
            }
            let p = self.complete(p, &place);
            let group = if invariant { p.component } else { None };
            let gone = |a: &Axis| bound.contains(a) || Some(*a) == group;
            let kept = p.val.axes.iter().copied().filter(|a| !gone(a));
            let out: Vec<Axis> = sample.axes.iter().copied().chain(kept.filter(|a| !sample.axes.contains(a))).collect();
            let operands: Vec<&Val> = [&p.val].into_iter().chain(&relations).collect();
            let val = match how {
                Aggregate::Max => {
                    self.graph.reduce(Reduction::Max, &p.val, &relations.iter().collect::<Vec<_>>(), &out)
                }
                Aggregate::Sum => self.graph.contract(&operands, &out),
                Aggregate::Mean => {
                    let sum = self.graph.contract(&operands, &out);
                    let inverse = reciprocal(&mut self.graph, &count);
                    let mean = self.graph.mul(&sum, &inverse);
                    let of_group = group.map_or(1, |_| p.kind.dim());
                    if of_group > 1 { self.graph.scale(&mean, 1.0 / of_group as f64) } else { mean }
                }
            };
            let (kind, component) = if invariant { (Kind::Scalar, None) } else { (p.kind.clone(), p.component) };
            parts.push(Part { kind, val, component, ..p });
        }
        if invariant {
            return self.scalars(value, parts);
        }
        self.retyped(parts, &value.ty)
    }

    /// The relations from points to samples, the axes that are reduced, and the number of points a sample.
    fn samples(&mut self, id: Id<DomainDecl>) -> (Vec<Val>, Vec<Axis>, Val) {
        let points: Place = self.places.points(&mut self.graph, id);
        let relations = match self.places.batching {
            Batching::Leading => vec![],
            Batching::Union => vec![self.places.table(&mut self.graph, id, Table::Index)],
        };
        let count = self.places.count(&mut self.graph, id, points.axes.len());
        (relations, points.axes, count)
    }
    /// The same for edges: the sample of an edge is that of its receiver.
    fn samples_of_edges(&mut self, id: Id<DomainDecl>) -> (Vec<Val>, Vec<Axis>, Val) {
        let receivers = self.places.table(&mut self.graph, id, Table::Receivers);
        let index = self.places.table(&mut self.graph, id, Table::Index);
        let relations = vec![receivers, index];
        let sample = self.place(Base::Sample);
        let count = self.graph.contract(&relations.iter().collect::<Vec<_>>(), &sample.axes);
        let bound = relations.iter().map(|r| r.axes[0]).collect();
        (relations, bound, count)
    }
}
