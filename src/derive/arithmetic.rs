//! Sums, products, lengths, concatenation.
//!
//! In: signals of one base, or constants to repeat. Out: the same as tensors. The types were checked before:
//! here only axes are matched, block by block, and scalars are spread over the copies they multiply.

use crate::base::diagnostic::Diagnostic;
use crate::derive::derivation::{Derivation, not_derived};
use crate::derive::signal::{Kind, Part, Signal, slice};
use crate::sema::hir::{LearnInit, Op, Value};
use crate::tensor::graph::{Axis, Init, Val};
use crate::tensor::op::Func;

impl Derivation<'_> {
    /// A number, or a number for each component of the type.
    pub(super) fn number(&mut self, value: &Value, x: f64) -> Result<Signal, Diagnostic> {
        let parts = self.bare_parts(value, |this| this.graph.scalar(x));
        Ok(Signal { base: value.ty.base, parts })
    }

    fn bare_parts(&mut self, value: &Value, mut val: impl FnMut(&mut Self) -> Val) -> Vec<Part> {
        let mut parts = Vec::new();
        for (kind, copies) in self.blocks(&value.ty) {
            let (copy, component) = (self.graph.axis(), (kind.dim() > 1).then(|| self.graph.axis()));
            let part = Part { kind, copies, val: val(self), copy, component };
            let own = crate::derive::place::Place::default();
            parts.push(if copies == 1 && component.is_none() { part } else { self.complete(&part, &own) });
        }
        parts
    }

    /// A learnt vector `[copies]`; of a fibre without invariants there is none.
    pub(super) fn learn(&mut self, value: &Value, name: &str, init: LearnInit) -> Result<Signal, Diagnostic> {
        let blocks = self.blocks(&value.ty);
        if let Some((kind, _)) = blocks.iter().find(|(kind, _)| !matches!(kind, Kind::Scalar)) {
            return Err(not_derived(format!("a learnt constant of fibre {kind}: only scalars stay the same under the group")));
        }
        let total: usize = blocks.iter().map(|(_, copies)| copies).sum();
        let init = match init {
            LearnInit::Zeros => Init::Zeros,
            LearnInit::Ones => Init::Ones,
            LearnInit::Normal => Init::Normal(1.0 / (total.max(1) as f64).sqrt()),
        };
        let whole = self.weight(name.to_string(), &[total], init);
        let fibre = whole.axes[0];
        Ok(Signal { base: value.ty.base, parts: crate::derive::signal::split(&mut self.graph, &whole, fibre, &blocks) })
    }

    /// `x + sign · y`
    pub(super) fn add(&mut self, value: &Value, sign: f64) -> Result<Signal, Diagnostic> {
        let (x, y) = (self.operand(value, 0), self.operand(value, 1));
        let (x, y) = self.matched(&x, &y)?;
        let mut parts = Vec::new();
        for (p, q) in x.iter().zip(&y) {
            let q = if sign == 1.0 { q.clone() } else { q.with(self.graph.scale(&q.val, sign)) };
            let (p, q) = self.both_complete(p, &q);
            parts.push(p.with(self.graph.sum(&[&p.val, &q.val])));
        }
        self.retyped(parts, &value.ty)
    }

    /// If neither tensor has an axis that the block needs, one of them gets it.
    fn both_complete(&mut self, p: &Part, q: &Part) -> (Part, Part) {
        let has = |a: Axis| p.val.has(a) || q.val.has(a);
        let needed = p.copies == 1 || has(p.copy);
        let whole = needed && p.component.is_none_or(has);
        if whole { (p.clone(), q.clone()) } else { (self.complete(p, &crate::derive::place::Place::default()), q.clone()) }
    }

    /// Two signals with the same blocks under the same axes; one scalar is repeated over the other signal's blocks.
    fn matched(&mut self, x: &Signal, y: &Signal) -> Result<(Vec<Part>, Vec<Part>), Diagnostic> {
        let alike = x.parts.len() == y.parts.len()
            && x.parts.iter().zip(&y.parts).all(|(p, q)| p.copies == q.copies && p.kind.dim() == q.kind.dim());
        if alike {
            let right = x.parts.iter().zip(&y.parts).map(|(p, q)| q.named_as(p)).collect();
            return Ok((x.parts.clone(), right));
        }
        if let Some(one) = self.single(y) {
            let right = x.parts.iter().map(|p| p.with(one.clone())).collect();
            return Ok((x.parts.clone(), right));
        }
        if let Some(one) = self.single(x) {
            let left = y.parts.iter().map(|p| p.with(one.clone())).collect();
            return Ok((left, y.parts.clone()));
        }
        Err(not_derived("a sum of signals whose blocks differ"))
    }

    /// The tensor of one scalar without its copy axis.
    pub(super) fn single(&mut self, x: &Signal) -> Option<Val> {
        let [part] = &x.parts[..] else { return None };
        if part.copies != 1 || part.component.is_some() {
            return None;
        }
        if !part.val.has(part.copy) {
            return Some(part.val.clone());
        }
        let out: Vec<Axis> = part.val.axes.iter().copied().filter(|a| *a != part.copy).collect();
        Some(self.graph.contract(&[&part.val], &out))
    }

    /// Scalars as factors of the blocks of `x`: one for all, one a copy, or block by block.
    pub(super) fn factors_for(&mut self, scalars: &Signal, x: &Signal) -> Option<Vec<Val>> {
        if !scalars.is_scalar() {
            return None;
        }
        if let Some(one) = self.single(scalars) {
            return Some(vec![one; x.parts.len()]);
        }
        let blockwise = scalars.parts.len() == x.parts.len() && scalars.parts.iter().zip(&x.parts).all(|(s, p)| s.copies == p.copies);
        if blockwise {
            let renamed = scalars.parts.iter().zip(&x.parts).map(|(s, p)| s.val.rename(&[(s.copy, p.copy)]));
            return Some(renamed.collect());
        }
        let [all] = &scalars.parts[..] else { return None };
        if all.copies != x.copies() {
            return None;
        }
        let (mut offset, mut factors) = (0, Vec::new());
        for p in &x.parts {
            let part = slice(&mut self.graph, &[p.copies], &[1], offset, all.copies);
            let part = part.rename(&[(part.axes[0], p.copy), (part.axes[1], all.copy)]);
            let out: Vec<Axis> = all.val.axes.iter().map(|a| if *a == all.copy { p.copy } else { *a }).collect();
            factors.push(self.graph.contract(&[&all.val, &part], &out));
            offset += p.copies;
        }
        Some(factors)
    }

    pub(super) fn multiply(&mut self, value: &Value) -> Result<Signal, Diagnostic> {
        let (x, y) = (self.operand(value, 0), self.operand(value, 1));
        // the factor with fewer components is the scalar one
        let (x, factors) = match self.factors_for(&y, &x) {
            Some(factors) if !(y.copies() > 1 && x.copies() == 1) => (x, factors),
            Some(_) | None => match self.factors_for(&x, &y) {
                Some(factors) => (y, factors),
                None => return Err(not_derived("a product of signals neither of which is made of scalars")),
            },
        };
        self.times(value, &x, &factors)
    }

    fn times(&mut self, value: &Value, x: &Signal, factors: &[Val]) -> Result<Signal, Diagnostic> {
        let parts = x.parts.iter().zip(factors).map(|(p, s)| p.with(self.graph.mul(&p.val, s))).collect();
        self.retyped(parts, &value.ty)
    }

    pub(super) fn divide(&mut self, value: &Value) -> Result<Signal, Diagnostic> {
        let (x, y) = (self.operand(value, 0), self.operand(value, 1));
        let inverse = y.map(|p| self.graph.map(Func::Recip, &[&p.val]));
        if let Some(factors) = self.factors_for(&inverse, &x) {
            return self.times(value, &x, &factors);
        }
        // one number over many
        let factors = self.factors_for(&x, &inverse).ok_or_else(|| not_derived("a quotient whose divisor is not made of scalars"))?;
        self.times(value, &inverse, &factors)
    }

    pub(super) fn negate(&mut self, value: &Value) -> Result<Signal, Diagnostic> {
        let x = self.operand(value, 0);
        let parts = x.parts.iter().map(|p| p.with(self.graph.scale(&p.val, -1.0))).collect();
        self.retyped(parts, &value.ty)
    }

    /// `x^k`; an even power of a length is a power of the square, which needs no root.
    pub(super) fn power(&mut self, value: &Value, k: i32) -> Result<Signal, Diagnostic> {
        let argument = &self.model.values[value.args[0]];
        if matches!(argument.op, Op::Length) && k > 0 && k % 2 == 0 {
            let x = self.operand(argument, 0);
            let squares: Vec<Val> = x.parts.iter().map(|p| self.square(p)).collect();
            let parts = x.parts.iter().zip(squares).map(|(p, s)| {
                let val = if k == 2 { s } else { self.graph.map(Func::Powi(k / 2), &[&s]) };
                scalar_part(p, val)
            });
            let parts = parts.collect();
            return self.scalars(value, parts);
        }
        let x = self.operand(value, 0);
        let parts = x.parts.iter().map(|p| p.with(self.graph.map(Func::Powi(k), &[&p.val]))).collect();
        self.retyped(parts, &value.ty)
    }

    /// `Σ_component x²` for each copy.
    pub(super) fn square(&mut self, p: &Part) -> Val {
        let own = crate::derive::place::Place::default();
        let p = if p.component.is_some_and(|a| !p.val.has(a)) { self.complete(p, &own) } else { p.clone() };
        let out: Vec<Axis> = p.val.axes.iter().copied().filter(|a| Some(*a) != p.component).collect();
        self.graph.contract(&[&p.val, &p.val], &out)
    }

    /// The length of each copy.
    pub(super) fn length(&mut self, value: &Value) -> Result<Signal, Diagnostic> {
        let x = self.operand(value, 0);
        let mut parts = Vec::new();
        for p in &x.parts {
            let val = match p.component {
                None => self.graph.map(Func::Abs, &[&p.val]),
                Some(_) => {
                    let square = self.square(p);
                    self.graph.map(Func::Sqrt, &[&square])
                }
            };
            parts.push(scalar_part(p, val));
        }
        self.scalars(value, parts)
    }

    /// Contraction within a copy; scalars are contracted over their channels.
    pub(super) fn dot(&mut self, value: &Value) -> Result<Signal, Diagnostic> {
        let (x, y) = (self.operand(value, 0), self.operand(value, 1));
        let alike = x.parts.len() == y.parts.len() && x.parts.iter().zip(&y.parts).all(|(p, q)| p.copies == q.copies && p.kind.dim() == q.kind.dim());
        if !alike {
            return Err(not_derived("a dot product of signals whose blocks differ"));
        }
        let mut parts: Vec<Part> = Vec::new();
        for (p, q) in x.parts.iter().zip(&y.parts) {
            let (p, q) = (p.clone(), q.named_as(p));
            let (p, q) = self.both_complete(&p, &q);
            let bound = p.component.unwrap_or(p.copy);
            let out: Vec<Axis> = crate::tensor::graph::union(&[&p.val, &q.val]).into_iter().filter(|a| *a != bound).collect();
            let val = self.graph.contract(&[&p.val, &q.val], &out);
            let copies = if p.component.is_some() { p.copies } else { 1 };
            parts.push(Part { copies, ..scalar_part(&p, val) });
        }
        if parts.len() > 1 && self.blocks(&value.ty).iter().map(|(_, c)| c).sum::<usize>() == 1 {
            let vals: Vec<&Val> = parts.iter().map(|p| &p.val).collect();
            let val = self.graph.sum(&vals);
            parts = vec![parts[0].with(val)];
        }
        self.scalars(value, parts)
    }

    /// Scalar parts as the blocks of the result, joined where it has fewer blocks.
    fn scalars(&mut self, value: &Value, parts: Vec<Part>) -> Result<Signal, Diagnostic> {
        let blocks = self.blocks(&value.ty);
        if blocks.len() == parts.len() {
            return self.retyped(parts, &value.ty);
        }
        self.regrouped(parts, &blocks, value)
    }

    /// Scalar blocks cut anew.
    fn regrouped(&mut self, parts: Vec<Part>, blocks: &[(Kind, usize)], value: &Value) -> Result<Signal, Diagnostic> {
        let total: usize = parts.iter().map(|p| p.copies).sum();
        let scalar = blocks.iter().all(|(k, _)| matches!(k, Kind::Scalar)) && parts.iter().all(|p| p.component.is_none());
        if !scalar || blocks.iter().map(|(_, c)| c).sum::<usize>() != total {
            return self.retyped(parts, &value.ty);
        }
        let mut place = self.place(value.ty.base);
        let present: Vec<bool> = place.axes.iter().map(|a| parts.iter().any(|p| p.val.has(*a))).collect();
        let mut keep = present.iter();
        place.axes.retain(|_| *keep.next().unwrap_or(&false));
        let mut keep = present.iter();
        place.sizes.retain(|_| *keep.next().unwrap_or(&false));
        let parts: Vec<Part> = parts.iter().map(|p| self.complete(p, &place)).collect();
        let fibre = self.graph.axis();
        let whole = crate::derive::signal::join(&mut self.graph, &parts, &place.axes, fibre);
        Ok(Signal { base: value.ty.base, parts: crate::derive::signal::split(&mut self.graph, &whole, fibre, blocks) })
    }

    /// The blocks of all operands in order.
    pub(super) fn concat(&mut self, value: &Value) -> Result<Signal, Diagnostic> {
        let all: Vec<Part> = (0..value.args.len()).flat_map(|k| self.operand(value, k).parts).collect();
        self.scalars(value, all)
    }
}

/// The block of scalars, one a copy of `part`.
pub(super) fn scalar_part(part: &Part, val: Val) -> Part {
    Part { kind: Kind::Scalar, val, component: None, ..part.clone() }
}
