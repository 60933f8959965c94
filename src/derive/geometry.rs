//! Vectors between points, their lengths and directions; radial functions and spherical harmonics as tensor programs.
//!
//! In: positions, or vectors. Out: products and maps that are safe at distance 0 (the direction is then 0, and no NaN arises).
//! - the vector of an edge is `r_sender - r_receiver`; where space repeats `r_sender + shift · cell - r_receiver`, rows of the cell being the
//!   vectors of the lattice, as in ASE (`S`, `atoms.cell`) and e3nn;
//! - `bessel_k(d) = sqrt(2/c) sin(k π d / c) / d · (1 - 28 t⁶ + 48 t⁷ - 21 t⁸)`, `t = min(d/c, 1)`, for k = 1, 2, ...
//!   (Gasteiger et al. 2020, polynomial cutoff p = 6; 0 at d = 0 and beyond c);
//! - harmonics in e3nn's basis (polar axis y), component normalisation, by the recurrence from degree to degree;
//!   in R^2 `sqrt(2) (cos lθ, sin lθ)`.

use crate::base::arena::Id;
use crate::base::diagnostic::Diagnostic;
use crate::derive::derivation::{Derivation, not_derived};
use crate::derive::place::{Place, Table};
use crate::derive::signal::{Kind, Part, Signal};
use crate::sema::hir::{DomainDecl, End, Value};
use crate::symmetry::harmonics::recurrence;
use crate::tensor::graph::{Axis, Constant, Val};
use crate::tensor::op::Func;

/// Radial functions of a linear map over a radius.
pub(super) const BESSEL_COUNT: usize = 8;

/// A vector field under names for its component, with lengths.
#[derive(Clone, Debug)]
pub(super) struct Vectors {
    /// Length 1, or 0 where the vector is 0.
    pub(super) unit: Val,
    pub(super) component: Axis,
    pub(super) length: Val,
    /// The dimension of the space.
    pub(super) dim: usize,
}

impl Derivation<'_> {
    /// Lengths and directions of the edges between positions.
    pub(super) fn edge_vectors(&mut self, id: Id<DomainDecl>, at: &Signal) -> Result<Vectors, Diagnostic> {
        let [part] = &at.parts[..] else {
            return Err(not_derived("a linear over a radius at a signal that is not one position"));
        };
        let (Kind::Position(dim), Some(component), 1) = (&part.kind, part.component, part.copies) else {
            return Err(not_derived("a linear over a radius at a signal that is not one position"));
        };
        let ends = [End::Sender, End::Receiver].map(|end| self.at_end(id, part, end));
        let minus = self.graph.scale(&ends[1], -1.0);
        let vector = self.graph.sum(&[&ends[0], &minus]);
        Ok(self.vectors(&vector, component, *dim))
    }

    /// A point's value at an end of each edge. Where space repeats, a position at the sender is that of the image which the edge leads to.
    pub(super) fn at_end(&mut self, id: Id<DomainDecl>, part: &Part, end: End) -> Val {
        let table = match end {
            End::Sender => Table::Senders,
            End::Receiver => Table::Receivers,
        };
        let relation = self.places.table(&mut self.graph, id, table);
        let (edge, point) = (relation.axes[0], relation.axes[1]);
        let val = if part.val.has(point) {
            let out: Vec<Axis> = part.val.axes.iter().map(|a| if *a == point { edge } else { *a }).collect();
            self.graph.contract(&[&part.val, &relation], &out)
        } else {
            part.val.clone()
        };
        match (end, &part.kind, part.component) {
            (End::Sender, Kind::Position(_), Some(component)) if self.places.domain(id).periodic() => {
                let offset = self.image_offset(id, component);
                self.graph.sum(&[&val, &offset])
            }
            (End::Sender | End::Receiver, _, _) => val,
        }
    }

    /// `shift · cell` of each edge, with the cell of the edge's sample.
    fn image_offset(&mut self, id: Id<DomainDecl>, component: Axis) -> Val {
        let lattice = self.places.lattice(&mut self.graph, id);
        let receivers = self.places.table(&mut self.graph, id, Table::Receivers);
        let index = self.places.table(&mut self.graph, id, Table::Index);
        let cell = lattice.cell.rename(&[(lattice.component, component)]);
        self.graph.contract(&[&lattice.shifts, &cell, &receivers, &index], &[receivers.axes[0], component])
    }

    pub(super) fn vectors(&mut self, vector: &Val, component: Axis, dim: usize) -> Vectors {
        let rest: Vec<Axis> = vector.axes.iter().copied().filter(|a| *a != component).collect();
        let square = self.graph.contract(&[vector, vector], &rest);
        let length = self.graph.map(Func::Sqrt, &[&square]);
        let inverse = self.graph.map(Func::SafeRecip, &[&length]);
        let unit = self.graph.mul(vector, &inverse);
        Vectors { unit, component, length, dim }
    }

    /// `count` radial functions of a length, under the returned axis.
    pub(super) fn radial_functions(&mut self, length: &Val, count: usize, cutoff: f64) -> (Val, Axis) {
        let frequencies: Vec<f64> = (1..=count).map(|k| k as f64 * std::f64::consts::PI / cutoff).collect();
        let frequencies =
            self.graph.constant(Constant { name: "k pi / c".into(), dims: vec![count], data: frequencies.into() });
        let axis = self.graph.axis();
        let frequencies = frequencies.rename(&[(frequencies.axes[0], axis)]);
        let phase = self.graph.mul(length, &frequencies);
        let wave = self.graph.map(Func::Sin, &[&phase]);
        let inverse = self.graph.map(Func::SafeRecip, &[length]);
        let envelope = self.envelope(length, cutoff);
        let scale = self.graph.scalar((2.0 / cutoff).sqrt());
        let out = wave.axes.clone();
        (self.graph.contract(&[&wave, &inverse, &envelope, &scale], &out), axis)
    }

    /// `1 - 28 t⁶ + 48 t⁷ - 21 t⁸`: 1 at 0, 0 from the cutoff on, twice differentiable.
    fn envelope(&mut self, length: &Val, cutoff: f64) -> Val {
        let ratio = self.graph.scale(length, 1.0 / cutoff);
        let one = self.graph.scalar(1.0);
        let t = self.graph.map(Func::Min, &[&ratio, &one]);
        let mut terms = vec![one];
        for (power, coefficient) in [(6, -28.0), (7, 48.0), (8, -21.0)] {
            let power = self.graph.map(Func::Powi(power), &[&t]);
            terms.push(self.graph.scale(&power, coefficient));
        }
        self.graph.sum(&terms.iter().collect::<Vec<_>>())
    }

    /// The harmonics of degrees `0..=top` of directions, each under its own axis; degree 0 is the number 1 without an axis.
    pub(super) fn harmonics_of(&mut self, vectors: &Vectors, top: usize) -> Vec<(Val, Option<Axis>)> {
        let one = self.graph.scalar(1.0);
        let mut all: Vec<(Val, Option<Axis>)> = vec![(one, None)];
        for l in 0..top {
            let rule = self.recurrence_constant(vectors.dim, l);
            let (lower, lower_axis) = all[l].clone();
            let next = self.graph.axis();
            let mut names = vec![(rule.axes[0], next), (rule.axes[1], vectors.component)];
            names.extend(rule.axes.get(2).copied().zip(lower_axis));
            let rule = rule.rename(&names);
            let rest = vectors.unit.axes.iter().copied().filter(|a| *a != vectors.component);
            let out: Vec<Axis> = rest.chain([next]).collect();
            all.push((self.graph.contract(&[&rule, &lower, &vectors.unit], &out), Some(next)));
        }
        all
    }

    /// `c[k, a, j]` with `Y^(l+1)_k = Σ c Y^l_j u_a`; from degree 0 without `j`.
    fn recurrence_constant(&mut self, dim: usize, l: usize) -> Val {
        let (high, low) = if dim == 2 { (2, if l == 0 { 1 } else { 2 }) } else { (2 * l + 3, 2 * l + 1) };
        let mut data = vec![0.0; high * dim * low];
        if dim == 2 && l > 0 {
            // (cos, sin) of the sum of two angles
            for (k, a, j, c) in [(0, 0, 0, 1.0), (0, 1, 1, -1.0), (1, 0, 1, 1.0), (1, 1, 0, 1.0)] {
                data[(k * dim + a) * low + j] = c;
            }
        } else if dim == 2 {
            data = vec![2f64.sqrt(), 0.0, 0.0, 2f64.sqrt()];
        } else {
            for (k, terms) in recurrence(l).iter().enumerate() {
                for term in terms {
                    data[(k * dim + term.axis) * low + term.lower] = term.coefficient;
                }
            }
        }
        let dims = if l == 0 { vec![high, dim] } else { vec![high, dim, low] };
        self.graph.constant(Constant { name: format!("Y{} from Y{l}", l + 1), dims, data: data.into() })
    }

    /// `harmonics from..=to (v)`: the harmonics of the directions of vectors, a copy each.
    pub(super) fn harmonics(&mut self, value: &Value, from: u32, to: u32) -> Result<Signal, Diagnostic> {
        let x = self.operand(value, 0);
        let [part] = &x.parts[..] else {
            return Err(not_derived("harmonics of several blocks"));
        };
        let (Some(component), dim @ (2 | 3)) = (part.component, part.kind.dim()) else {
            return Err(not_derived("harmonics of a fibre that is not a vector"));
        };
        let vectors = self.vectors(&part.val, component, dim);
        let all = self.harmonics_of(&vectors, to as usize);
        let mut parts = Vec::new();
        for (shape, (val, axis)) in self.shapes(&value.ty).into_iter().zip(&all[from as usize..]) {
            let part = Part {
                kind: shape.kind,
                copies: part.copies,
                block: shape.block,
                val: val.clone(),
                copy: part.copy,
                component: *axis,
            };
            parts.push(self.complete(&part, &Place::default()));
        }
        self.retyped(parts, &value.ty)
    }

    /// `bessel k within c (d)`: `count` radial functions of one distance.
    pub(super) fn bessel(&mut self, value: &Value, count: usize, cutoff: f64) -> Result<Signal, Diagnostic> {
        let x = self.operand(value, 0);
        let length = self.single(&x).ok_or_else(|| not_derived("bessel functions of more than one distance"))?;
        let (val, copy) = self.radial_functions(&length, count, cutoff);
        let part = Part { kind: Kind::Scalar, copies: count, block: 0, val, copy, component: None };
        self.retyped(vec![part], &value.ty)
    }
}
