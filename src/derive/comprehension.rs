//! Neighbour comprehension: points to edges or pairs, and back.
//!
//! In: signals on points, edges, pairs of points. Out: gathers and segment reductions as products with the tables `senders` and `receivers`;
//! on pairs, reductions over the second point of the same sample. Reductions of nothing are 0.
//! Softmax is `e / Σ e` with `e = exp(s - max s)`, so that large scores do not overflow; how it is fused is the kernels' matter.

use crate::base::arena::Id;
use crate::base::diagnostic::Diagnostic;
use crate::derive::derivation::{Derivation, not_derived};
use crate::derive::place::{Place, Table, reciprocal};
use crate::derive::signal::{Kind, Part, Signal};
use crate::domain::Batching;
use crate::sema::hir::{Aggregate, Base, DomainDecl, End, Origin, Place as Which, Value};
use crate::tensor::graph::{Affine, Axis, Function, Outside, Relation, Val};
use crate::tensor::op::{Func, Reduction};

/// Which pairs a reduction runs over.
#[derive(Debug)]
struct Rows {
    /// Tables that join the pairs to what is reduced and what is kept.
    relations: Vec<Val>,
    /// The axes of a pair.
    pairs: Vec<Axis>,
    /// The axes of the receiver, in place of those of the pair.
    receiver: Vec<Axis>,
}

impl Derivation<'_> {
    /// A point's value on its edges.
    pub(super) fn pull(&mut self, value: &Value, end: End) -> Result<Signal, Diagnostic> {
        let x = self.operand(value, 0);
        let (Base::Points(id), Base::Edges(_)) = (x.base, value.ty.base) else {
            return Err(not_derived("a neighbour's value where there are no edges"));
        };
        let parts = x.parts.iter().map(|p| p.with(self.at_end(id, p, end))).collect();
        self.retyped(parts, &value.ty)
    }

    /// A point's value on pairs, as the first or the second of the pair.
    pub(super) fn spread(&mut self, value: &Value, which: Which) -> Result<Signal, Diagnostic> {
        let x = self.operand(value, 0);
        let (Base::Points(from), Base::Points(to)) = (x.base, value.ty.base) else {
            return Err(not_derived("a pair of a signal that does not live on points"));
        };
        let (point, pair) = (self.places.points(&mut self.graph, from), self.places.points(&mut self.graph, to));
        let (&[own], &[first, second]) = (&point.axes[..], &pair.axes[..]) else {
            return Err(not_derived("pairs of points with several axes"));
        };
        let parts = match (which, &self.program.domains[to].origin) {
            (Which::First, _) => x.map(|p| p.val.rename(&[(own, first)])).parts,
            (Which::Second, Origin::Distinct(_)) => {
                let other = self.other_point(&pair, own);
                let gather = |p: &Part| {
                    let at = |a: &Axis| if *a == own { vec![first, second] } else { vec![*a] };
                    let out: Vec<Axis> = p.val.axes.iter().flat_map(at).collect();
                    if p.val.has(own) { self.graph.contract(&[&p.val, &other], &out) } else { p.val.clone() }
                };
                x.map(gather).parts
            }
            (Which::Second, Origin::Declared | Origin::Coarsened { .. } | Origin::Product(..)) => {
                x.map(|p| p.val.rename(&[(own, second)])).parts
            }
        };
        self.retyped(parts, &value.ty)
    }

    /// `(i, k) -> i + 1 + k mod n`: the other point of a pair of two different ones, under the name `point`.
    fn other_point(&mut self, pair: &Place, point: Axis) -> Val {
        let map = Function::Affine {
            scale: vec![1, 1],
            offset: Affine { constant: 1, size: None },
            divisor: 1,
            outside: Outside::Wrap,
        };
        let relation = self.graph.relation(Relation { from: pair.sizes.clone(), to: pair.sizes[0], map });
        let names = [pair.axes[0], pair.axes[1], point];
        relation.rename(&relation.axes.iter().copied().zip(names).collect::<Vec<_>>())
    }

    /// A sample's value on all its points.
    pub(super) fn broadcast(&mut self, value: &Value) -> Result<Signal, Diagnostic> {
        let x = self.operand(value, 0);
        let parts = match (x.base, value.ty.base, self.places.batching) {
            (Base::Sample, Base::Points(id), Batching::Union) => {
                let index = self.samples_of(id)?;
                let (point, sample) = (index.axes[0], index.axes[1]);
                let gather = |this: &mut Self, p: &Part| {
                    let out: Vec<Axis> = p.val.axes.iter().map(|a| if *a == sample { point } else { *a }).collect();
                    p.with(this.graph.contract(&[&p.val, &index], &out))
                };
                x.parts.iter().map(|p| if p.val.has(sample) { gather(self, p) } else { p.clone() }).collect()
            }
            (Base::Sample, Base::Edges(id), Batching::Union) => {
                let index = self.places.table(&mut self.graph, id, Table::Index);
                let receivers = self.places.table(&mut self.graph, id, Table::Receivers);
                let (edge, sample) = (receivers.axes[0], index.axes[1]);
                let gather = |this: &mut Self, p: &Part| {
                    let out: Vec<Axis> = p.val.axes.iter().map(|a| if *a == sample { edge } else { *a }).collect();
                    p.with(this.graph.contract(&[&p.val, &index, &receivers], &out))
                };
                x.parts.iter().map(|p| if p.val.has(sample) { gather(self, p) } else { p.clone() }).collect()
            }
            (Base::Constant | Base::Sample | Base::Points(_) | Base::Edges(_), _, _) => x.parts,
        };
        self.retyped(parts, &value.ty)
    }

    /// The sample of each point; of each pair of points, which are of one sample, that of its first.
    fn samples_of(&mut self, id: Id<DomainDecl>) -> Result<Val, Diagnostic> {
        let program = self.program;
        let points = match &program.domains[id].origin {
            Origin::Declared | Origin::Coarsened { .. } => {
                return Ok(self.places.table(&mut self.graph, id, Table::Index));
            }
            Origin::Product(a, b) if a == b => *a,
            Origin::Distinct(a) => *a,
            Origin::Product(..) => return Err(not_derived("a sample's value on pairs of different domains")),
        };
        let (pair, index) =
            (self.places.points(&mut self.graph, id), self.places.table(&mut self.graph, points, Table::Index));
        Ok(index.rename(&[(index.axes[0], pair.axes[0])]))
    }

    /// The pairs of a base: edges with their receivers, or all pairs of points of the same sample.
    fn rows(&mut self, base: Base) -> Result<Rows, Diagnostic> {
        match base {
            Base::Edges(id) => {
                let receivers = self.places.table(&mut self.graph, id, Table::Receivers);
                Ok(Rows {
                    pairs: vec![receivers.axes[0]],
                    receiver: vec![receivers.axes[1]],
                    relations: vec![receivers],
                })
            }
            Base::Points(id) => self.rows_of_pairs(id),
            Base::Constant | Base::Sample => Err(not_derived("a comprehension over neither edges nor pairs")),
        }
    }

    fn rows_of_pairs(&mut self, id: Id<DomainDecl>) -> Result<Rows, Diagnostic> {
        let program = self.program;
        let pair = self.places.points(&mut self.graph, id);
        let (points, distinct) = match &program.domains[id].origin {
            Origin::Product(a, b) if a == b => (*a, false),
            Origin::Distinct(a) => (*a, true),
            Origin::Product(..) | Origin::Declared | Origin::Coarsened { .. } => {
                return Err(not_derived("a comprehension over pairs of different domains"));
            }
        };
        let &[first, second] = &pair.axes[..] else {
            return Err(not_derived("a comprehension over pairs of points with several axes"));
        };
        let receiver = self.places.points(&mut self.graph, points).axes;
        let relations = match self.places.batching {
            Batching::Leading => vec![],
            Batching::Union => {
                let index = self.places.table(&mut self.graph, points, Table::Index);
                let (point, sample) = (index.axes[0], self.graph.axis());
                let index = index.rename(&[(index.axes[1], sample)]);
                let own = index.rename(&[(point, first)]);
                if distinct {
                    let other = self.graph.axis();
                    vec![own, index.rename(&[(point, other)]), self.other_point(&pair, other)]
                } else {
                    vec![own, index.rename(&[(point, second)])]
                }
            }
        };
        Ok(Rows { relations, pairs: vec![first, second], receiver })
    }

    /// A tensor on pairs reduced to receivers by a product.
    fn gathered(&mut self, rows: &Rows, operands: &[&Val]) -> Val {
        let all: Vec<&Val> = operands.iter().copied().chain(&rows.relations).collect();
        let kept = self.receiver_axis(rows);
        let rest = crate::tensor::graph::union(operands).into_iter().filter(|a| !rows.pairs.contains(a));
        let out: Vec<Axis> = [kept].into_iter().chain(rest).collect();
        let val = self.graph.contract(&all, &out);
        val.rename(&[(kept, rows.receiver[0])])
    }

    /// The axis that survives: of edges the receiver, of pairs the first point.
    fn receiver_axis(&self, rows: &Rows) -> Axis {
        match &rows.pairs[..] {
            [first, _] => *first,
            _ => rows.receiver[0],
        }
    }

    fn reduced_rows(&mut self, rows: &Rows, how: Reduction, x: &Val) -> Val {
        let kept = self.receiver_axis(rows);
        let out: Vec<Axis> =
            [kept].into_iter().chain(x.axes.iter().copied().filter(|a| !rows.pairs.contains(a))).collect();
        let relations: Vec<&Val> = rows.relations.iter().collect();
        let val = self.graph.reduce(how, x, &relations, &out);
        val.rename(&[(kept, rows.receiver[0])])
    }

    /// A receiver's value on its pairs.
    fn returned(&mut self, rows: &Rows, x: &Val) -> Val {
        match &rows.pairs[..] {
            [first, _] => x.rename(&[(rows.receiver[0], *first)]),
            _ => {
                let (edge, point) = (rows.pairs[0], rows.receiver[0]);
                let out: Vec<Axis> = x.axes.iter().map(|a| if *a == point { edge } else { *a }).collect();
                self.graph.contract(&[x, &rows.relations[0]], &out)
            }
        }
    }

    pub(super) fn push(&mut self, value: &Value, how: Aggregate) -> Result<Signal, Diagnostic> {
        let x = self.operand(value, 0);
        let rows = self.rows(x.base)?;
        let place = self.place(x.base);
        let mut parts = Vec::new();
        for p in &x.parts {
            let p = self.complete(p, &place);
            let val = match how {
                Aggregate::Sum => self.gathered(&rows, &[&p.val]),
                Aggregate::Max => self.reduced_rows(&rows, Reduction::Max, &p.val),
                Aggregate::Mean => {
                    let total = self.gathered(&rows, &[&p.val]);
                    let count = self.row_counts(&rows, &place)?;
                    let inverse = reciprocal(&mut self.graph, &count);
                    self.graph.mul(&total, &inverse)
                }
            };
            parts.push(p.with(val));
        }
        self.retyped(parts, &value.ty)
    }

    /// The number of pairs of each receiver.
    fn row_counts(&mut self, rows: &Rows, place: &Place) -> Result<Val, Diagnostic> {
        if rows.relations.is_empty() {
            let at = place
                .axes
                .iter()
                .position(|a| Some(a) == rows.pairs.last())
                .expect("a pair's axis is one of its place");
            let one = self.graph.ones(rows.pairs[rows.pairs.len() - 1], place.sizes[at]);
            return Ok(self.graph.contract(&[&one], &[]));
        }
        Ok(self.gathered(rows, &[]))
    }

    pub(super) fn degree(&mut self, value: &Value) -> Result<Signal, Diagnostic> {
        let Base::Points(id) = value.ty.base else {
            return Err(not_derived("the degree of something that is not a point"));
        };
        let rows = self.rows(Base::Edges(id))?;
        let val = self.gathered(&rows, &[]);
        let part = Part { kind: Kind::Scalar, copies: 1, block: 0, val, copy: self.graph.axis(), component: None };
        self.retyped(vec![part], &value.ty)
    }

    /// `e / Σ e` with `e = exp(s - max s)` over the pairs of each receiver: the weights sum to 1 to rounding however large the
    /// scores are, which `exp(s - logsumexp s)` does not give where the logarithm is small beside the greatest score. Whatever is subtracted
    /// of the scores of a row, the weights are the same: their derivatives hold it.
    fn normalised(&mut self, rows: &Rows, score: &Val) -> Val {
        let top = self.reduced_rows(rows, Reduction::Max, score);
        let top = self.graph.map(Func::Held, &[&top]);
        let top = self.returned(rows, &top);
        let minus = self.graph.scale(&top, -1.0);
        let mut shifted = self.graph.sum(&[score, &minus]);
        if rows.relations.len() > 1 {
            // Pairs across samples have no weight, and may lie above the greatest score of the row: they must not overflow.
            shifted = self.graph.map(Func::Capped, &[&shifted]);
        }
        let raised = self.graph.map(Func::Exp, &[&shifted]);
        let total = self.gathered(rows, &[&raised]);
        let inverse = self.graph.map(Func::SafeRecip, &[&total]);
        let inverse = self.returned(rows, &inverse);
        self.graph.mul(&raised, &inverse)
    }

    pub(super) fn softmax(&mut self, value: &Value) -> Result<Signal, Diagnostic> {
        let x = self.operand(value, 0);
        let rows = self.rows(x.base)?;
        let place = self.place(x.base);
        let mut parts = Vec::new();
        for p in &x.parts {
            let p = self.complete(p, &place);
            let mut val = self.normalised(&rows, &p.val);
            if rows.relations.len() > 1 {
                // pairs across samples have no weight
                let all: Vec<&Val> = [&val].into_iter().chain(&rows.relations).collect();
                val = self.graph.contract(&all, &val.axes);
            }
            parts.push(p.with(val));
        }
        self.retyped(parts, &value.ty)
    }

    pub(super) fn attend(&mut self, value: &Value) -> Result<Signal, Diagnostic> {
        let (score, x) = (self.operand(value, 0), self.operand(value, 1));
        let rows = self.rows(score.base)?;
        let place = self.place(score.base);
        let mut parts = Vec::new();
        let complete =
            Signal { base: score.base, parts: score.parts.iter().map(|p| self.complete(p, &place)).collect() };
        let scores = self
            .factors_for(&complete, &x)
            .ok_or_else(|| not_derived("attend by scores that are neither one nor one a copy of the value"))?;
        for (p, s) in x.parts.iter().zip(scores) {
            let weight = self.normalised(&rows, &s);
            parts.push(p.with(self.gathered(&rows, &[&weight, &p.val])));
        }
        self.retyped(parts, &value.ty)
    }
}
