//! Pointwise functions, gates, functions of the length.
//!
//! In: signals whose fibres were checked to allow the function. Out: the same as tensors.

use crate::base::diagnostic::Diagnostic;
use crate::derive::arithmetic::scalar_part;
use crate::derive::derivation::{Derivation, not_derived};
use crate::derive::linear::sum;
use crate::derive::signal::{Kind, Part, Signal, slice};
use crate::sema::hir::{Pointwise, Value};
use crate::tensor::graph::{Axis, Init, Val};
use crate::tensor::op::{Func, Real};

/// The slope of `leaky_relu` below zero, as in the reference implementations of graph attention.
const LEAKY_SLOPE: f64 = 0.2;

/// The scalar function of a name.
pub(super) fn func(f: Pointwise) -> Func {
    match f {
        Pointwise::Relu => Func::Relu,
        Pointwise::LeakyRelu => Func::LeakyRelu(Real(LEAKY_SLOPE)),
        Pointwise::Silu => Func::Silu,
        Pointwise::Gelu => Func::Gelu,
        Pointwise::Tanh => Func::Tanh,
        Pointwise::Sigmoid => Func::Sigmoid,
        Pointwise::Exp => Func::Exp,
        Pointwise::Log => Func::Log,
        Pointwise::Sqrt => Func::Sqrt,
        Pointwise::Sin => Func::Sin,
        Pointwise::Cos => Func::Cos,
    }
}

impl Derivation<'_> {
    pub(super) fn pointwise(&mut self, value: &Value, f: Pointwise) -> Result<Signal, Diagnostic> {
        let x = self.operand(value, 0);
        let parts = x.parts.iter().map(|p| p.with(self.graph.map(func(f), &[&p.val]))).collect();
        self.retyped(parts, &value.ty)
    }

    /// `silu(s)` of scalars, `sigmoid(W s + b)_k v_k` of the other copies: weights `<name>.weight [gates, scalars]`, `<name>.bias [gates]`.
    pub(super) fn gate(&mut self, value: &Value, name: &str) -> Result<Signal, Diagnostic> {
        let x = self.operand(value, 0);
        let scalar = |p: &&Part| matches!(p.kind, Kind::Scalar);
        let scalars: usize = x.parts.iter().filter(scalar).map(|p| p.copies).sum();
        let gates = x.copies() - scalars;
        let gate = if gates == 0 { None } else { Some(self.gates(&x, name, scalars, gates)?) };
        let (mut offset, mut parts) = (0, Vec::new());
        for p in &x.parts {
            let val = match (&p.kind, &gate) {
                (Kind::Scalar, _) => self.graph.map(Func::Silu, &[&p.val]),
                (Kind::Rep(_) | Kind::Position(_), Some((all, axis))) => {
                    let own = slice(&mut self.graph, &[p.copies], &[1], offset, gates);
                    offset += p.copies;
                    let own = own.rename(&[(own.axes[0], p.copy), (own.axes[1], *axis)]);
                    let out: Vec<Axis> =
                        crate::tensor::graph::union(&[all, &p.val]).into_iter().filter(|a| a != axis).collect();
                    self.graph.contract(&[all, &own, &p.val], &out)
                }
                (Kind::Rep(_) | Kind::Position(_), None) => p.val.clone(),
            };
            parts.push(p.with(val));
        }
        self.retyped(parts, &value.ty)
    }

    /// The sigmoids of a linear map of the scalars, and their axis.
    fn gates(&mut self, x: &Signal, name: &str, scalars: usize, gates: usize) -> Result<(Val, Axis), Diagnostic> {
        if scalars == 0 {
            return Err(not_derived("a gate without scalars to make it from: give the fibre some 0e"));
        }
        let weight =
            self.weight(format!("{name}.weight"), &[gates, scalars], Init::Normal(1.0 / (scalars as f64).sqrt()));
        let (axis, input) = (weight.axes[0], weight.axes[1]);
        let (mut offset, mut terms) = (0, Vec::new());
        for p in x.parts.iter().filter(|p| matches!(p.kind, Kind::Scalar)) {
            let mut seen = p.val.clone();
            let mut operands = vec![weight.clone()];
            operands.extend(self.piece(p, offset, scalars, input, &mut seen));
            operands.push(seen);
            offset += p.copies;
            let refs: Vec<&Val> = operands.iter().collect();
            let bound = [input, p.copy];
            let out: Vec<Axis> =
                crate::tensor::graph::union(&refs).into_iter().filter(|a| !bound.contains(a)).collect();
            terms.push(self.graph.contract(&refs, &out));
        }
        let bias = self.weight(format!("{name}.bias"), &[gates], Init::Zeros);
        terms.push(bias.rename(&[(bias.axes[0], axis)]));
        let total = sum(&mut self.graph, &terms);
        Ok((self.graph.map(Func::Sigmoid, &[&total]), axis))
    }

    /// `f(|v| + b) v / |v|` a copy of each part, 0 where `v = 0`: weight `<name>.bias [copies]`.
    pub(super) fn norm_act(&mut self, value: &Value, name: &str, f: Pointwise) -> Result<Signal, Diagnostic> {
        let x = self.operand(value, 0);
        let total = x.copies();
        let bias = self.weight(format!("{name}.bias"), &[total], Init::Zeros);
        let biases = self.cut_by_parts(&bias, bias.axes[0], &x);
        let mut parts = Vec::new();
        for (p, b) in x.parts.iter().zip(biases) {
            let square = self.square(p);
            let length = self.graph.map(Func::Sqrt, &[&square]);
            let shifted = self.graph.sum(&[&length, &b]);
            let new = self.graph.map(func(f), &[&shifted]);
            let inverse = self.graph.map(Func::SafeRecip, &[&length]);
            let factor = scalar_part(p, self.graph.mul(&new, &inverse));
            parts.push(p.with(self.graph.mul(&p.val, &factor.val)));
        }
        self.retyped(parts, &value.ty)
    }
}
