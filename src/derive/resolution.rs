//! Change of domain: `coarsen`, `refine`, `lift`, `restrict`.
//!
//! In: a signal and the domain it goes to. Out: the same by relations between cells: a block of `s` cells along each axis is
//! `(u, z) -> s u + z`, every `s`-th cell `u -> s u`, repetition `u -> floor(u / s)`. What must divide was recorded by the checks before.

use crate::base::diagnostic::Diagnostic;
use crate::base::size::Size;
use crate::derive::derivation::{Derivation, not_derived};
use crate::derive::place::Place;
use crate::derive::signal::{Kind, Part, Shape, Signal};
use crate::sema::hir::{Base, Coarsening, Value};
use crate::tensor::graph::{Affine, Axis, Function, Outside, Relation, Val};
use crate::tensor::op::Reduction;

impl Derivation<'_> {
    pub(super) fn coarsen(&mut self, value: &Value, how: Coarsening, factor: usize) -> Result<Signal, Diagnostic> {
        let x = self.operand(value, 0);
        let (fine, coarse) = self.levels(x.base, value.ty.base)?;
        let cells: Vec<Axis> = fine.axes.iter().map(|_| self.graph.axis()).collect();
        let mut relations = Vec::new();
        for k in 0..fine.axes.len() {
            let block = Size::fixed(factor);
            let (from, scale, mut names) = match how {
                Coarsening::Stride => (vec![coarse.sizes[k]], vec![factor as i64], vec![coarse.axes[k]]),
                Coarsening::Mean | Coarsening::Max => {
                    (vec![coarse.sizes[k], block], vec![factor as i64, 1], vec![coarse.axes[k], cells[k]])
                }
            };
            names.push(fine.axes[k]);
            relations.push(self.cell_relation(from, scale, 1, fine.sizes[k], &names));
        }
        let refs: Vec<&Val> = relations.iter().collect();
        let place = self.place(x.base);
        let mut parts = Vec::new();
        for p in &x.parts {
            let p = self.complete(p, &place);
            let out: Vec<Axis> = p
                .val
                .axes
                .iter()
                .map(|a| fine.axes.iter().position(|f| f == a).map_or(*a, |k| coarse.axes[k]))
                .collect();
            let operands: Vec<&Val> = [&p.val].into_iter().chain(refs.iter().copied()).collect();
            let val = match how {
                Coarsening::Max => self.graph.reduce(Reduction::Max, &p.val, &refs, &out),
                Coarsening::Stride => self.graph.contract(&operands, &out),
                Coarsening::Mean => {
                    let share = self.graph.scalar(1.0 / (factor as f64).powi(fine.axes.len() as i32));
                    let operands: Vec<&Val> = operands.into_iter().chain([&share]).collect();
                    self.graph.contract(&operands, &out)
                }
            };
            parts.push(p.with(val));
        }
        self.retyped(parts, &value.ty)
    }

    pub(super) fn refine(&mut self, value: &Value, factor: usize) -> Result<Signal, Diagnostic> {
        let x = self.operand(value, 0);
        let (coarse, fine) = self.levels(x.base, value.ty.base)?;
        let mut relations = Vec::new();
        for k in 0..fine.axes.len() {
            let names = [fine.axes[k], coarse.axes[k]];
            relations.push(self.cell_relation(vec![fine.sizes[k]], vec![1], factor as i64, coarse.sizes[k], &names));
        }
        let mut parts = Vec::new();
        for p in &x.parts {
            let used: Vec<&Val> =
                relations.iter().zip(&coarse.axes).filter(|(_, a)| p.val.has(**a)).map(|(r, _)| r).collect();
            let out: Vec<Axis> = p
                .val
                .axes
                .iter()
                .map(|a| coarse.axes.iter().position(|c| c == a).map_or(*a, |k| fine.axes[k]))
                .collect();
            let operands: Vec<&Val> = [&p.val].into_iter().chain(used).collect();
            parts.push(p.with(self.graph.contract(&operands, &out)));
        }
        self.retyped(parts, &value.ty)
    }

    /// The axes of the points of two grids, without the batch.
    fn levels(&mut self, from: Base, to: Base) -> Result<(Place, Place), Diagnostic> {
        let (Base::Points(a), Base::Points(b)) = (from, to) else {
            return Err(not_derived("coarsening of a signal that does not live on points"));
        };
        let (from, to) = (self.places.points(&mut self.graph, a), self.places.points(&mut self.graph, b));
        if from.axes.len() != to.axes.len() {
            return Err(not_derived("coarsening to a grid of another dimension"));
        }
        Ok((from, to))
    }

    fn cell_relation(&mut self, from: Vec<Size>, scale: Vec<i64>, divisor: i64, to: Size, names: &[Axis]) -> Val {
        let map =
            Function::Affine { scale, offset: Affine { constant: 0, size: None }, divisor, outside: Outside::Never };
        let relation = self.graph.relation(Relation { from, to, map });
        relation.rename(&relation.axes.iter().copied().zip(names.iter().copied()).collect::<Vec<_>>())
    }

    /// Scalars as functions on the group, constant along it.
    pub(super) fn lift(&mut self, value: &Value) -> Result<Signal, Diagnostic> {
        let x = self.operand(value, 0);
        let shapes = self.shapes(&value.ty);
        if !x.is_scalar() {
            return Err(not_derived("lift of a fibre that is not scalar"));
        }
        let scalars: Vec<Shape> = shapes.iter().map(|s| Shape { kind: Kind::Scalar, stride: 1, ..s.clone() }).collect();
        let parts = self.regrouped(x.parts, &scalars, value)?;
        let lifted = shapes.iter().zip(&parts).map(|(shape, p)| {
            let component = (shape.kind.dim() > 1).then(|| self.graph.axis());
            let val = match component {
                None => p.val.clone(),
                Some(axis) => {
                    let one = self.graph.ones(axis, Size::fixed(shape.kind.dim()));
                    self.graph.mul(&p.val, &one)
                }
            };
            Part { kind: shape.kind.clone(), val, component, ..p.clone() }
        });
        let lifted = lifted.collect();
        self.retyped(lifted, &value.ty)
    }

    /// The same numbers under a subgroup.
    pub(super) fn restrict(&mut self, value: &Value) -> Result<Signal, Diagnostic> {
        let x = self.operand(value, 0);
        let same = |s: &Shape, p: &Part| s.kind.dim() == p.kind.dim() && s.copies == p.copies;
        let shapes = self.shapes(&value.ty);
        if shapes.len() == x.parts.len() && shapes.iter().zip(&x.parts).all(|(s, p)| same(s, p)) {
            return self.onto(value, x.parts);
        }
        Err(not_derived("restriction that cuts a block into others"))
    }

    /// The parts on the base of the result: its axes in place of theirs, in order.
    fn onto(&mut self, value: &Value, parts: Vec<Part>) -> Result<Signal, Diagnostic> {
        let Some(first) = value.args.first() else { return self.retyped(parts, &value.ty) };
        let from = self.signals[first.index()].base;
        let (old, new) = (self.place(from), self.place(value.ty.base));
        let names: Vec<(Axis, Axis)> = old.axes.iter().copied().zip(new.axes.iter().copied()).collect();
        let parts = parts.into_iter().map(|p| p.with(p.val.rename(&names))).collect();
        self.retyped(parts, &value.ty)
    }
}
