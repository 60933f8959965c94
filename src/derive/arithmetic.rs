//! Sums, products, lengths, concatenation.
//!
//! In: signals of one base, or constants to repeat. Out: the same as tensors. The types were checked before:
//! here only axes are matched, block by block, and scalars are spread over the copies they multiply.

use crate::base::arena::Id;
use crate::base::diagnostic::Diagnostic;
use crate::derive::derivation::{Derivation, not_derived};
use crate::derive::place::Place;
use crate::derive::signal::{Kind, Part, Shape, Signal, fibre_dim, join, slice, split};
use crate::sema::hir::{LearnInit, Op, Pointwise, Value};
use crate::tensor::graph::{Axis, Init, Val, union};
use crate::tensor::op::Func;

impl Derivation<'_> {
    /// A number, or a number for each component of the type.
    pub(super) fn number(&mut self, value: &Value, x: f64) -> Result<Signal, Diagnostic> {
        let number = self.graph.scalar(x);
        let parts = self.shapes(&value.ty).iter().map(|shape| self.bare_part(shape, number.clone())).collect();
        Ok(Signal { base: value.ty.base, parts })
    }

    /// A learnt vector `[fibre]`, for fibres of which nothing moves.
    pub(super) fn learn(&mut self, value: &Value, name: &str, init: LearnInit) -> Result<Signal, Diagnostic> {
        let shapes = self.shapes(&value.ty);
        let fixed = |kind: &Kind| match kind {
            Kind::Scalar => true,
            Kind::Rep(rep) => rep.is_trivial(),
            Kind::Position(_) => false,
        };
        if let Some(shape) = shapes.iter().find(|s| !fixed(&s.kind)) {
            return Err(not_derived(format!(
                "a learnt constant of fibre {}: only scalars stay the same under the group",
                shape.kind
            )));
        }
        let total = fibre_dim(&shapes);
        let init = match init {
            LearnInit::Zeros => Init::Zeros,
            LearnInit::Ones => Init::Ones,
            LearnInit::Normal => Init::Normal(1.0 / (total.max(1) as f64).sqrt()),
        };
        let whole = self.weight(name.to_string(), &[total], init);
        let fibre = whole.axes[0];
        Ok(Signal { base: value.ty.base, parts: split(&mut self.graph, &whole, fibre, &shapes) })
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
        if whole { (p.clone(), q.clone()) } else { (self.complete(p, &Place::default()), q.clone()) }
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

    /// Scalars as factors of the parts of `x`: one for all, one a copy of each block in one block or block by block.
    pub(super) fn factors_for(&mut self, scalars: &Signal, x: &Signal) -> Option<Vec<Val>> {
        if !scalars.is_scalar() {
            return None;
        }
        if let Some(one) = self.single(scalars) {
            return Some(vec![one; x.parts.len()]);
        }
        let counts = x.block_copies();
        let blockwise =
            scalars.parts.len() == counts.len() && scalars.parts.iter().zip(&counts).all(|(s, n)| s.copies == *n);
        if blockwise {
            let factor = |p: &Part| scalars.parts[p.block].val.rename(&[(scalars.parts[p.block].copy, p.copy)]);
            return Some(x.parts.iter().map(factor).collect());
        }
        let [all] = &scalars.parts[..] else { return None };
        if all.copies != counts.iter().sum::<usize>() {
            return None;
        }
        let offset = |p: &Part| counts[..p.block].iter().sum();
        Some(x.parts.iter().map(|p| self.cut(&all.val, all.copy, all.copies, offset(p), p)).collect())
    }

    /// One number a copy of each part, cut from a vector over all parts in order.
    pub(super) fn cut_by_parts(&mut self, all: &Val, axis: Axis, x: &Signal) -> Vec<Val> {
        let mut offset = 0;
        let mut cuts = Vec::new();
        for p in &x.parts {
            cuts.push(self.cut(all, axis, x.copies(), offset, p));
            offset += p.copies;
        }
        cuts
    }

    /// The entries `offset..` of an axis of `total` numbers, under the copy axis of `p`.
    fn cut(&mut self, all: &Val, axis: Axis, total: usize, offset: usize, p: &Part) -> Val {
        if total == p.copies {
            return all.rename(&[(axis, p.copy)]);
        }
        let part = slice(&mut self.graph, &[p.copies], &[1], offset, total);
        let part = part.rename(&[(part.axes[0], p.copy), (part.axes[1], axis)]);
        let out: Vec<Axis> = all.axes.iter().map(|a| if *a == axis { p.copy } else { *a }).collect();
        self.graph.contract(&[all, &part], &out)
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
        let inverse = if self.counts_senders(value.args[1]) { Func::SafeRecip } else { Func::Recip };
        let inverse = y.map(|p| self.graph.map(inverse, &[&p.val]));
        if let Some(factors) = self.factors_for(&inverse, &x) {
            return self.times(value, &x, &factors);
        }
        // one number over many
        let factors = self
            .factors_for(&x, &inverse)
            .ok_or_else(|| not_derived("a quotient whose divisor is not made of scalars"))?;
        self.times(value, &inverse, &factors)
    }

    /// Whether a divisor is a degree, or a product, power or root of such: where there is no sender the quotient is 0, as an empty sum is.
    fn counts_senders(&self, id: Id<Value>) -> bool {
        let value = &self.model.values[id];
        let counts = |a: &Id<Value>| self.counts_senders(*a);
        let number = |a: &Id<Value>| matches!(self.model.values[*a].op, Op::Number(_));
        let read = matches!(
            value.op,
            Op::Pull(_) | Op::Spread(_) | Op::Broadcast | Op::Map(Pointwise::Sqrt) | Op::Power(_) | Op::Mul
        );
        matches!(value.op, Op::Degree)
            || read && value.args.iter().any(counts) && value.args.iter().all(|a| counts(a) || number(a))
    }

    pub(super) fn negate(&mut self, value: &Value) -> Result<Signal, Diagnostic> {
        let x = self.operand(value, 0);
        let parts = x.parts.iter().map(|p| p.with(self.graph.scale(&p.val, -1.0))).collect();
        self.retyped(parts, &value.ty)
    }

    /// `x^k`; an even power of a length is a power of the square, which needs no root.
    pub(super) fn power(&mut self, value: &Value, k: i32) -> Result<Signal, Diagnostic> {
        let argument = &self.model.values[value.args[0]];
        if !self.variables.contains(&value.args[0]) && matches!(argument.op, Op::Length) && k > 0 && k % 2 == 0 {
            let x = self.operand(argument, 0);
            let mut parts = self.within_copies(&x, &x);
            if k > 2 {
                parts = parts.iter().map(|p| p.with(self.graph.map(Func::Powi(k / 2), &[&p.val]))).collect();
            }
            return self.scalars(value, parts);
        }
        let x = self.operand(value, 0);
        let inverse = k < 0 && self.counts_senders(value.args[0]);
        let raised = |p: &Part| {
            let power = self.graph.map(Func::Powi(if inverse { -k } else { k }), &[&p.val]);
            if inverse { self.graph.map(Func::SafeRecip, &[&power]) } else { power }
        };
        let parts = x.map(raised).parts;
        self.retyped(parts, &value.ty)
    }

    /// `Σ_component x²` for each copy.
    pub(super) fn square(&mut self, p: &Part) -> Val {
        let own = Place::default();
        let p = if p.component.is_some_and(|a| !p.val.has(a)) { self.complete(p, &own) } else { p.clone() };
        let out: Vec<Axis> = p.val.axes.iter().copied().filter(|a| Some(*a) != p.component).collect();
        self.graph.contract(&[&p.val, &p.val], &out)
    }

    /// The length of each copy; scalars are one copy.
    pub(super) fn length(&mut self, value: &Value) -> Result<Signal, Diagnostic> {
        let x = self.operand(value, 0);
        let mut parts = Vec::new();
        for p in self.within_copies(&x, &x) {
            parts.push(p.with(self.graph.map(Func::Sqrt, &[&p.val])));
        }
        self.scalars(value, parts)
    }

    /// Contraction within a copy; scalars are contracted over their channels.
    pub(super) fn dot(&mut self, value: &Value) -> Result<Signal, Diagnostic> {
        let (x, y) = (self.operand(value, 0), self.operand(value, 1));
        let alike = x.parts.len() == y.parts.len()
            && x.parts.iter().zip(&y.parts).all(|(p, q)| p.copies == q.copies && p.kind.dim() == q.kind.dim());
        if !alike {
            return Err(not_derived("a dot product of signals whose blocks differ"));
        }
        let parts = self.within_copies(&x, &y);
        self.scalars(value, parts)
    }

    /// For each block `Σ_component x y` of each copy, or of a block of scalars one sum over the copies.
    fn within_copies(&mut self, x: &Signal, y: &Signal) -> Vec<Part> {
        let mut blocks: Vec<Part> = Vec::new();
        for (p, q) in x.parts.iter().zip(&y.parts) {
            let own = Place::default();
            let alone = x.parts.iter().filter(|o| o.block == p.block).count() == 1;
            let (p, q) = (self.complete(p, &own), q.named_as(p));
            let over_copies = alone && p.component.is_none() && matches!(p.kind, Kind::Scalar);
            let bound = if over_copies { Some(p.copy) } else { p.component };
            let out: Vec<Axis> = union(&[&p.val, &q.val]).into_iter().filter(|a| Some(*a) != bound).collect();
            let val = self.graph.contract(&[&p.val, &q.val], &out);
            match blocks.last_mut() {
                Some(last) if last.block == p.block => {
                    let val = val.rename(&[(p.copy, last.copy)]);
                    last.val = self.graph.sum(&[&last.val, &val]);
                }
                _ => {
                    let copies = if over_copies { 1 } else { p.copies };
                    blocks.push(Part { copies, ..scalar_part(&p, val) });
                }
            }
        }
        blocks
    }

    /// Scalar parts as the blocks of the result, joined or cut anew where it has others.
    pub(super) fn scalars(&mut self, value: &Value, parts: Vec<Part>) -> Result<Signal, Diagnostic> {
        let shapes = self.shapes(&value.ty);
        let scalar =
            shapes.iter().all(|s| matches!(s.kind, Kind::Scalar)) && parts.iter().all(|p| p.component.is_none());
        let same = shapes.len() == parts.len() && shapes.iter().zip(&parts).all(|(s, p)| s.copies == p.copies);
        if same || !scalar {
            return self.retyped(parts, &value.ty);
        }
        let parts = self.regrouped(parts, &shapes, value)?;
        self.retyped(parts, &value.ty)
    }

    /// Scalar parts cut anew.
    pub(super) fn regrouped(
        &mut self,
        parts: Vec<Part>,
        shapes: &[Shape],
        value: &Value,
    ) -> Result<Vec<Part>, Diagnostic> {
        if shapes.len() == parts.len() && shapes.iter().zip(&parts).all(|(s, p)| s.copies == p.copies) {
            return Ok(parts);
        }
        let total: usize = parts.iter().map(|p| p.copies).sum();
        if shapes.iter().map(|s| s.copies).sum::<usize>() != total {
            return Err(not_derived(format!(
                "{total} scalars read as {}",
                shapes.iter().map(|s| s.copies.to_string()).collect::<Vec<_>>().join(" + ")
            )));
        }
        let all = self.place(value.ty.base);
        let present = all.axes.iter().zip(&all.sizes).filter(|(a, _)| parts.iter().any(|p| p.val.has(**a)));
        let (axes, sizes): (Vec<Axis>, Vec<_>) = present.map(|(a, n)| (*a, *n)).unzip();
        let place = Place { axes, sizes };
        let parts: Vec<Part> = parts.iter().map(|p| self.complete(p, &place)).collect();
        let old = rows_of_scalars(parts.iter().map(|p| p.copies));
        let new = rows_of_scalars(shapes.iter().map(|s| s.copies));
        let fibre = self.graph.axis();
        let whole = join(&mut self.graph, &parts, &old, &place.axes, fibre);
        Ok(split(&mut self.graph, &whole, fibre, &new))
    }

    /// The blocks of all operands in order.
    pub(super) fn concat(&mut self, value: &Value) -> Result<Signal, Diagnostic> {
        let all: Vec<Part> = (0..value.args.len()).flat_map(|k| self.operand(value, k).parts).collect();
        let shapes = self.shapes(&value.ty);
        if shapes.len() == all.len() {
            return self.retyped(all, &value.ty);
        }
        // neighbouring blocks of one kind have become one
        let mut rest = all.into_iter().peekable();
        let mut parts = Vec::new();
        for shape in &shapes {
            let mut group: Vec<Part> = Vec::new();
            while group.iter().map(|p| p.copies).sum::<usize>() < shape.copies
                && rest.peek().is_some_and(|p| p.kind.same(&shape.kind))
            {
                group.extend(rest.next());
            }
            parts.push(self.stacked(group, shape, value)?);
        }
        self.retyped(parts, &value.ty)
    }

    /// Parts of one kind joined along their copies.
    fn stacked(&mut self, group: Vec<Part>, shape: &Shape, value: &Value) -> Result<Part, Diagnostic> {
        if let [only] = &group[..] {
            return Ok(only.clone());
        }
        if group.iter().map(|p| p.copies).sum::<usize>() != shape.copies {
            return Err(not_derived("a concatenation whose blocks of one kind interleave"));
        }
        let all = self.place(value.ty.base);
        let present = all.axes.iter().zip(&all.sizes).filter(|(a, _)| group.iter().any(|p| p.val.has(**a)));
        let (axes, sizes): (Vec<Axis>, Vec<_>) = present.map(|(a, n)| (*a, *n)).unzip();
        let place = Place { axes, sizes };
        let (copy, component) = (self.graph.axis(), group.first().and_then(|p| p.component));
        let (mut offset, mut placed) = (0, Vec::new());
        for p in &group {
            let p = self.complete(p, &place);
            let relation = slice(&mut self.graph, &[p.copies], &[1], offset, shape.copies);
            let relation = relation.rename(&[(relation.axes[0], p.copy), (relation.axes[1], copy)]);
            let val = p.val.rename(&p.component.into_iter().zip(component).collect::<Vec<_>>());
            let out: Vec<Axis> = place.axes.iter().copied().chain([copy]).chain(component).collect();
            placed.push(self.graph.contract(&[&val, &relation], &out));
            offset += p.copies;
        }
        let val = self.graph.sum(&placed.iter().collect::<Vec<_>>());
        Ok(Part { kind: shape.kind.clone(), copies: shape.copies, block: shape.block, val, copy, component })
    }
}

/// Blocks of scalars one after the other.
fn rows_of_scalars(copies: impl Iterator<Item = usize>) -> Vec<Shape> {
    let mut offset = 0;
    let mut shapes = Vec::new();
    for (block, copies) in copies.enumerate() {
        shapes.push(Shape { kind: Kind::Scalar, copies, block, offset, stride: 1 });
        offset += copies;
    }
    shapes
}

/// The block of scalars, one a copy of `part`.
pub(super) fn scalar_part(part: &Part, val: Val) -> Part {
    Part { kind: Kind::Scalar, val, component: None, ..part.clone() }
}
