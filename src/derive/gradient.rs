//! `grad(e, x)`: the derivative of the tensors of `e` by those of `x`.
//!
//! In: the number of a sample, and a signal that it was derived from. Out: the signal of gradients, where `x` lives. A point belongs to one sample
//! and no number depends on another sample, so the gradient of a point's own number is that of the sum over all samples.
//! Equivariance needs no check of its own: if `e(g x) = e(x)` for orthogonal `g`, then `grad e (g x) = g grad e (x)`.

use std::collections::BTreeSet;

use crate::base::arena::Id;
use crate::base::diagnostic::Diagnostic;
use crate::derive::derivation::{Derivation, not_derived};
use crate::derive::signal::Signal;
use crate::sema::hir::{Model, Op, Value};
use crate::tensor::differential::reverse::vjp;
use crate::tensor::graph::Val;

/// The values by which some gradient is taken, or that are held fixed by one.
pub(super) fn variables(model: &Model) -> BTreeSet<Id<Value>> {
    model.values.iter().filter(|(_, v)| v.op == Op::Grad).flat_map(|(_, v)| v.args[1..].to_vec()).collect()
}

impl Derivation<'_> {
    /// The signal with all its axes, in tensors of its own: a gradient by it does not see what else has its numbers.
    pub(super) fn variable(&mut self, signal: &Signal) -> Signal {
        let place = self.place(signal.base);
        let parts = signal.parts.iter().map(|p| {
            let whole = self.complete(p, &place);
            whole.with(self.graph.variable(&whole.val))
        });
        Signal { base: signal.base, parts: parts.collect() }
    }

    pub(super) fn gradient(&mut self, value: &Value) -> Result<Signal, Diagnostic> {
        let (e, x) = (self.operand(value, 0), self.operand(value, 1));
        let [number] = &e.parts[..] else {
            return Err(not_derived("the gradient of several numbers"));
        };
        let one = self.graph.scalar(1.0);
        // what is held fixed is a variable of its own: nothing is looked for behind it
        let held: Vec<Signal> = (2..value.args.len()).map(|k| self.operand(value, k)).collect();
        let by: Vec<Val> = [&x].into_iter().chain(&held).flat_map(|s| &s.parts).map(|p| p.val.clone()).collect();
        let gradients = vjp(&mut self.graph, &[(number.val.clone(), one)], &by);
        let place = self.place(x.base);
        let mut parts = Vec::new();
        for (p, gradient) in x.parts.iter().zip(gradients) {
            parts.push(match gradient {
                Some(gradient) => p.with(gradient),
                // a part that nothing was made of
                None => {
                    let zero = self.graph.scalar(0.0);
                    self.complete(&p.with(zero), &place)
                }
            });
        }
        self.retyped(parts, &value.ty)
    }
}
