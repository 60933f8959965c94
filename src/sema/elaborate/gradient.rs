//! `grad(e, x)`: how the number `e` of a sample changes with each component of the signal `x`.
//!
//! In: one invariant number a sample, and a signal that it was computed from. Where the number is a layer of arguments that name the signal, as in
//! `grad(E(q, p), q)`, the other names there are held fixed: it is the gradient of E by its argument, as in mathematics. Out: a signal where `x` lives. The group acts on it by the dual
//! of its action on `x`, which is the same action where that is orthogonal, as all fibres here are; a position moves by vectors, so its
//! gradient is a vector.

use std::collections::BTreeSet;

use crate::base::diagnostic::Diagnostic;
use crate::base::span::Span;
use crate::syntax::ast::{Expr, ExprKind};

use super::Elaborator;
use super::arithmetic::is_number;
use super::fibres::vector;
use crate::sema::error;
use crate::sema::hir::{Base, Block, BlockKind, Fibre, Op};
use crate::sema::term::{FunctionKind, Scope, Term, ValueId};
use crate::sema::walk::children;

impl<'a> Elaborator<'a> {
    /// `grad(e, x)`
    pub(super) fn grad(&mut self, args: &'a [Expr], scope: &Scope<'a>, span: Span) -> Term<'a> {
        let [of, by] = args else {
            let takes = "2 arguments, as in `grad(energy, r)`";
            return self.fail(error::arity(span, "`grad`", takes, args.len()));
        };
        let (e, x) = (self.expr(of, scope), self.expr(by, scope));
        let (Some(e), Some(x)) = (self.as_value(e, of.span), self.as_value(x, by.span)) else { return Term::Poison };
        match self.gradient_fibre(x, by.span) {
            Some(fibre) if self.has_gradient(e, of.span) && self.comes_from(e, x, of.span, by.span) => {
                let base = self.base(x);
                let args = [e, x].into_iter().chain(self.held(of, x, scope)).collect();
                Term::Value(self.push(Op::Grad, args, base, fibre, span))
            }
            Some(_) | None => Term::Poison,
        }
    }

    /// The signals that are held fixed although they were computed from `x`: those that a layer's arguments name beside `x`.
    fn held(&self, of: &Expr, x: ValueId, scope: &Scope<'a>) -> Vec<ValueId> {
        let ExprKind::Call { callee, args } = &of.kind else { return vec![] };
        let is_layer = match &callee.kind {
            ExprKind::Name(name) => match scope.get(name).map(|entry| &entry.term) {
                Some(Term::Function(f)) => matches!(f.kind, FunctionKind::Layer { .. }),
                Some(_) => false,
                None => self.items.functions.contains_key(name.as_str()),
            },
            ExprKind::Bracket { base, .. } => {
                matches!(&base.kind, ExprKind::Name(name) if self.items.functions.contains_key(name.as_str()))
            }
            _ => false,
        };
        let mut named = BTreeSet::new();
        let mut todo: Vec<&Expr> = args.iter().collect();
        while let Some(e) = todo.pop() {
            if let ExprKind::Name(name) = &e.kind
                && let Some(Term::Value(value)) = scope.get(name).map(|entry| &entry.term)
            {
                named.insert(*value);
            }
            todo.extend(children(e));
        }
        if !is_layer || !named.remove(&x) {
            return vec![];
        }
        named.into_iter().filter(|v| self.depends(*v, x)).collect()
    }

    /// Whether `e` is one invariant number a sample; says so if it is not.
    fn has_gradient(&mut self, e: ValueId, place: Span) -> bool {
        let (base, fibre) = (self.base(e), self.fibre(e));
        let shown = self.show(e);
        if is_number(fibre) && matches!(base, Base::Sample | Base::Constant) {
            return true;
        }
        let finding = Diagnostic::error("E0318", "`grad` is of one invariant number a sample")
            .at(place, format!("this is `{shown}`"));
        let finding = if !fibre.is_invariant() {
            finding
                .why("the gradient of one component of a moved fibre singles out that component, so it would not be equivariant")
                .hint("make an invariant first: `|v|^2`, `dot(u, v)` or `linear 1`")
        } else if is_number(fibre) {
            finding
                .why("each point has a number of its own: how they all change with each component of a signal is no signal")
                .hint("sum them: `pool sum`")
        } else {
            finding
                .why("each of several numbers has a gradient of its own")
                .hint("make one of them: `linear 1`, then `pool sum`")
        };
        self.report.push(finding);
        false
    }

    /// The fibre of the gradient by `x`: the dual of that of `x`.
    fn gradient_fibre(&mut self, x: ValueId, place: Span) -> Option<Fibre> {
        let shown = self.show(x);
        if self.base(x) == Base::Constant {
            self.report.push(
                error::wrong_kind(place, &format!("`{shown}`, the same for all samples"), "a signal")
                    .hint("`grad` is by what each sample has its own of; weights are trained from outside"),
            );
            return None;
        }
        let group = self.group_of(x);
        let mut blocks = Vec::new();
        for block in &self.fibre(x).blocks {
            let kind = match &block.kind {
                BlockKind::Rep(rep) => BlockKind::Rep(rep.clone()),
                BlockKind::Position => BlockKind::Rep(std::sync::Arc::new(vector(&group))),
                BlockKind::Class(_) => {
                    let finding = Diagnostic::error("E0318", "`grad` is by numbers that can change by a little")
                        .at(place, format!("this is `{shown}`"))
                        .why("there is nothing between one class and the next")
                        .hint("take it by an embedding of the classes: bind `h = linear c (z)` and use `h`");
                    self.report.push(finding);
                    return None;
                }
            };
            blocks.push(Block { count: block.count, kind });
        }
        Some(Fibre { blocks })
    }

    /// Whether `e` was computed from `x`; says so if it was not.
    fn comes_from(&mut self, e: ValueId, x: ValueId, of: Span, by: Span) -> bool {
        if self.depends(e, x) {
            return true;
        }
        self.report.push(
            Diagnostic::error("E0319", "this gradient is zero: the number does not depend on the signal")
                .at(by, "nothing was computed from this")
                .because(of, "by way of this")
                .hint("a name means the value bound last: compute the number from the signal that stands here"),
        );
        false
    }

    /// Whether `e` was computed from `x`, or is it.
    fn depends(&self, e: ValueId, x: ValueId) -> bool {
        let mut seen = vec![false; self.model.values.len()];
        let mut todo = vec![e];
        while let Some(v) = todo.pop() {
            if v == x {
                return true;
            }
            if !std::mem::replace(&mut seen[v.index()], true) {
                todo.extend(&self.value(v).args);
            }
        }
        false
    }
}
