//! `norm`: stateless normalisation.
//!
//! In: a signal. Out: each part (a block, or each irrep of a block) divided by its root mean square over copies and components, times one
//! learnt scale a copy: `y[c, k] = s[c] x[c, k] / sqrt(mean_{c, k} x² + 1e-6)`. The weight is `<name>.scale [copies]` over all parts in order,
//! ones at first.
//! The mean square of a copy is invariant because the representations are orthogonal.

use crate::base::diagnostic::Diagnostic;
use crate::derive::derivation::Derivation;
use crate::derive::place::Place;
use crate::derive::signal::Signal;
use crate::sema::hir::Value;
use crate::tensor::graph::{Axis, Init};
use crate::tensor::op::Func;

/// Keeps the division finite where a block is zero.
const EPSILON: f64 = 1e-6;

impl Derivation<'_> {
    pub(super) fn norm(&mut self, value: &Value, name: &str) -> Result<Signal, Diagnostic> {
        let x = self.operand(value, 0);
        let total = x.copies();
        let scale = self.weight(format!("{name}.scale"), &[total], Init::Ones);
        let scales = self.cut_by_parts(&scale, scale.axes[0], &x);
        let mut parts = Vec::new();
        for (p, s) in x.parts.iter().zip(scales) {
            let p = self.complete(p, &Place::default());
            let out: Vec<Axis> =
                p.val.axes.iter().copied().filter(|a| *a != p.copy && Some(*a) != p.component).collect();
            let squares = self.graph.contract(&[&p.val, &p.val], &out);
            let mean = self.graph.scale(&squares, 1.0 / (p.copies * p.kind.dim()) as f64);
            let epsilon = self.graph.scalar(EPSILON);
            let shifted = self.graph.sum(&[&mean, &epsilon]);
            let root = self.graph.map(Func::Sqrt, &[&shifted]);
            let inverse = self.graph.map(Func::Recip, &[&root]);
            let all = crate::tensor::graph::union(&[&p.val, &s, &inverse]);
            parts.push(p.with(self.graph.contract(&[&p.val, &s, &inverse], &all)));
        }
        self.retyped(parts, &value.ty)
    }
}
