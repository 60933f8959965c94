//! `+ - * / ^ ++ |v| dot`, checked against the fibre's geometry: positions are affine, products need an invariant factor.

use crate::base::diagnostic::Diagnostic;
use crate::base::span::Span;
use crate::syntax::ast::{BinaryOp, Expr};

use super::Elaborator;
use super::apply::Argument;
use super::fibres::vector;
use crate::sema::error;
use crate::sema::hir::{Base, Block, BlockKind, Fibre, Op, Pointwise};
use crate::sema::rational::Rational;
use crate::sema::term::{Scope, Term, ValueId};

impl<'a> Elaborator<'a> {
    /// Arithmetic of compile-time numbers.
    pub(super) fn exact(&mut self, op: BinaryOp, x: Rational, y: Rational, span: Span) -> Term<'a> {
        let number = match op {
            BinaryOp::Add => x.plus(y),
            BinaryOp::Sub => x.minus(y),
            BinaryOp::Mul => x.times(y),
            BinaryOp::Div => x.over(y),
            BinaryOp::Pow => x.pow(y),
            BinaryOp::Concat => return self.concat_terms((Term::Number(x), span), (Term::Number(y), span), span),
            BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => {
                let Some(order) = x.compare(y) else {
                    return self.fail(error::bad_size(span, "these numbers are too large to compare"));
                };
                return Term::Bool(match op {
                    BinaryOp::Eq => order.is_eq(),
                    BinaryOp::Ne => order.is_ne(),
                    BinaryOp::Lt => order.is_lt(),
                    BinaryOp::Le => order.is_le(),
                    BinaryOp::Gt => order.is_gt(),
                    _ => order.is_ge(),
                });
            }
        };
        match number {
            Some(n) => Term::Number(n),
            None if op == BinaryOp::Div => self.fail(error::bad_size(span, format!("{x} / {y} is not a number"))),
            None => self.fail(error::bad_size(span, "this number is out of the range of compile-time arithmetic")),
        }
    }

    /// Arithmetic with at least one signal.
    pub(super) fn combine(&mut self, op: BinaryOp, left: Argument<'a>, right: Argument<'a>, span: Span) -> Term<'a> {
        match op {
            BinaryOp::Concat => self.concat_terms(left, right, span),
            BinaryOp::Add | BinaryOp::Sub => {
                let Some((a, b, base)) = self.pair(left, right, span) else { return Term::Poison };
                self.sum(op, a, b, base, span)
            }
            BinaryOp::Mul => {
                let Some((a, b, base)) = self.pair(left, right, span) else { return Term::Poison };
                self.product(a, b, base, span)
            }
            BinaryOp::Div if matches!(right.0, Term::Number(n) if n == Rational::integer(0)) => self.fail(
                Diagnostic::error("E0401", "division by 0")
                    .at(right.1, "this is 0")
                    .why("0 has no inverse, so the quotient would be infinite or no number at all"),
            ),
            BinaryOp::Div => {
                let Some((a, b, base)) = self.pair(left, right, span) else { return Term::Poison };
                self.quotient_of(a, b, base, span)
            }
            BinaryOp::Pow => self.power(left, right, span),
            BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => {
                let found =
                    if matches!(left.0, Term::Number(_)) { self.kind_of(&right.0) } else { self.kind_of(&left.0) };
                self.fail(
                    error::wrong_kind(span, &found, "a comparison of compile-time numbers")
                        .hint("comparisons decide `if` while compiling"),
                )
            }
        }
    }

    fn pair(&mut self, left: Argument<'a>, right: Argument<'a>, span: Span) -> Option<(ValueId, ValueId, Base)> {
        let (a, b) = (self.as_value(left.0, left.1), self.as_value(right.0, right.1));
        let (values, base) = self.on_one_base(&[a?, b?], span)?;
        Some((values[0], values[1], base))
    }

    fn concat_terms(&mut self, left: Argument<'a>, right: Argument<'a>, span: Span) -> Term<'a> {
        let Some((a, b, base)) = self.pair(left, right, span) else { return Term::Poison };
        let (a, b) = if base == Base::Constant {
            (a, b)
        } else {
            (self.broadcast(a, base, span), self.broadcast(b, base, span))
        };
        let fibre = self.fibre(a).plus(self.fibre(b));
        Term::Value(self.push(Op::Concat, vec![a, b], base, fibre, span))
    }

    fn sum(&mut self, op: BinaryOp, a: ValueId, b: ValueId, base: Base, span: Span) -> Term<'a> {
        let (fa, fb) = (self.fibre(a).clone(), self.fibre(b).clone());
        let hir_op = if op == BinaryOp::Add { Op::Add } else { Op::Sub };
        let fibre = if fa.has_position() || fb.has_position() {
            match self.affine(op, &fa, &fb, base, a, b, span) {
                Some(fibre) => fibre,
                None => return Term::Poison,
            }
        } else if fa.same(&fb) || (is_number(&fb) && fa.is_invariant()) {
            fa
        } else if is_number(&fa) && fb.is_invariant() {
            fb
        } else {
            let (ta, tb) = (fa.describe(), fb.describe());
            let word = if op == BinaryOp::Add { "add" } else { "subtract" };
            let finding = Diagnostic::error("E0310", format!("cannot {word} the fibres `{ta}` and `{tb}`"))
                .at(span, format!("`{ta}` and `{tb}`"));
            return self.fail(
                self.operands(finding, a, b, span)
                    .why(if fa.same_kinds(&fb) {
                        "both have as many copies in a sum"
                    } else {
                        "the group acts on them in different ways, so the sum would not be equivariant"
                    })
                    .hint(if fb.hom_dim(&fa) > 0 {
                        format!("`linear {ta}` brings the second to the first")
                    } else {
                        "bring both to one fibre first".to_string()
                    }),
            );
        };
        Term::Value(self.push(hir_op, vec![a, b], base, fibre, span))
    }

    /// position + vector = position, position - position = vector; nothing else.
    #[allow(clippy::too_many_arguments)]
    fn affine(
        &mut self,
        op: BinaryOp,
        fa: &Fibre,
        fb: &Fibre,
        base: Base,
        a: ValueId,
        b: ValueId,
        span: Span,
    ) -> Option<Fibre> {
        let group = self.group_over(base);
        let positions = |f: &Fibre| match &f.blocks[..] {
            [Block { count, kind: BlockKind::Position }] => Some(*count),
            _ => None,
        };
        let vectors = |n: usize| Fibre::of(n, vector(&group));
        match (positions(fa), positions(fb), op) {
            (Some(n), Some(m), BinaryOp::Sub) if n == m => return Some(vectors(n)),
            (Some(n), None, _) if fb.same(&vectors(n)) => return Some(fa.clone()),
            (None, Some(n), BinaryOp::Add) if fa.same(&vectors(n)) => return Some(fb.clone()),
            _ => {}
        }
        let both = fa.has_position() && fb.has_position();
        let sign = if op == BinaryOp::Add { "+" } else { "-" };
        let finding = Diagnostic::error(
            "E0303",
            format!("`{} {sign} {}` has no meaning in affine space", fa.describe(), fb.describe()),
        )
        .at(span, "depends on the origin");
        let finding = self.operands(finding, a, b, span);
        self.report.push(if both {
            finding
                .why("a translation by t moves each position by t and this sum by 2t: it is neither a position nor a vector")
                .hint("subtract them for a vector; the midpoint is `x + (y - x)/2`")
        } else {
            finding.why("only vectors can be added to a position").hint("make vectors first: `linear vector`, or differences of positions")
        });
        None
    }

    /// Marks where two operands come from, unless that is the expression itself.
    fn operands(&self, finding: Diagnostic, a: ValueId, b: ValueId, span: Span) -> Diagnostic {
        let mut finding = finding;
        let mut marked = Vec::new();
        for v in [a, b] {
            let place = self.value(v).span;
            let within = place.source == span.source && span.start <= place.start && place.end <= span.end;
            if !within && !marked.contains(&place) {
                marked.push(place);
                finding = finding.because(place, format!("`{}`", self.fibre(v).describe()));
            }
        }
        finding
    }

    /// s · x with s invariant: one scalar, one a copy, or component by component.
    fn product(&mut self, a: ValueId, b: ValueId, base: Base, span: Span) -> Term<'a> {
        let (fa, fb) = (self.fibre(a).clone(), self.fibre(b).clone());
        for (f, v) in [(&fa, a), (&fb, b)] {
            if f.has_position() {
                self.refuses_positions(v, "`*`", span);
                return Term::Poison;
            }
        }
        let fits = |s: &Fibre, x: &Fibre| s.is_invariant() && (s.copies() == 1 || s.copies() == x.copies());
        if fits(&fa, &fb) {
            return Term::Value(self.push(Op::Mul, vec![a, b], base, fb, span));
        }
        if fits(&fb, &fa) {
            return Term::Value(self.push(Op::Mul, vec![b, a], base, fa, span));
        }
        self.no_product("*", a, b, span)
    }

    fn quotient_of(&mut self, a: ValueId, b: ValueId, base: Base, span: Span) -> Term<'a> {
        let (fa, fb) = (self.fibre(a).clone(), self.fibre(b).clone());
        if self.refuses_positions(a, "`/`", span) || self.refuses_positions(b, "`/`", span) {
            return Term::Poison;
        }
        if fb.is_invariant() && (fb.copies() == 1 || fb.copies() == fa.copies()) {
            return Term::Value(self.push(Op::Div, vec![a, b], base, fa, span));
        }
        if is_number(&fa) && fb.is_invariant() {
            return Term::Value(self.push(Op::Div, vec![a, b], base, fb, span));
        }
        self.no_product("/", a, b, span)
    }

    fn no_product(&mut self, sign: &str, a: ValueId, b: ValueId, span: Span) -> Term<'a> {
        let (ta, tb) = (self.fibre(a).describe(), self.fibre(b).describe());
        let invariant = self.fibre(a).is_invariant() || self.fibre(b).is_invariant();
        let finding =
            Diagnostic::error("E0311", format!("`{sign}` of `{ta}` and `{tb}` is not equivariant as it stands"))
                .at(span, format!("`{ta}` and `{tb}`"));
        self.fail(if invariant {
            finding
                .why("an invariant factor is one scalar, or one scalar a copy")
                .hint("give both as many copies, or use one scalar")
        } else {
            finding
                .why("a product of components is a tensor product of representations, which has to be decomposed")
                .hint("`dot(a, b)` is the invariant product; `bilinear F (a, b)` is every equivariant product into F")
        })
    }

    fn power(&mut self, left: Argument<'a>, right: Argument<'a>, span: Span) -> Term<'a> {
        let exponent = match right.0 {
            Term::Number(n) => n,
            other => {
                let found = self.kind_of(&other);
                return self.fail(error::wrong_kind(right.1, &found, "a compile-time exponent"));
            }
        };
        let Some(x) = self.as_value(left.0, left.1) else { return Term::Poison };
        if !self.fibre(x).is_invariant() {
            return self.not_scalar(x, "^", left.1);
        }
        match exponent.as_integer().and_then(|k| i32::try_from(k).ok()) {
            Some(k) if k.abs() <= 64 => self.same_type(Op::Power(k), x, span),
            _ if Some(exponent) == Rational::new(1, 2) => self.same_type(Op::Map(Pointwise::Sqrt), x, span),
            _ => self.fail(error::bad_size(
                right.1,
                format!("an exponent is a whole number of at most 64, or 1/2; this is {exponent}"),
            )),
        }
    }

    /// `-x`
    pub(super) fn neg(&mut self, inner: &'a Expr, scope: &Scope<'a>) -> Term<'a> {
        match self.expr(inner, scope) {
            Term::Number(n) => Term::Number(n.negated()),
            term => {
                let Some(x) = self.as_value(term, inner.span) else { return Term::Poison };
                if self.refuses_positions(x, "`-`", inner.span) {
                    return Term::Poison;
                }
                self.same_type(Op::Neg, x, inner.span)
            }
        }
    }

    /// `|v|`: the length of each copy; scalars are one copy.
    pub(super) fn length(&mut self, inner: &'a Expr, scope: &Scope<'a>, span: Span) -> Term<'a> {
        let term = self.expr(inner, scope);
        let Some(x) = self.as_value(term, inner.span) else { return Term::Poison };
        if self.refuses_positions(x, "`|x|`", inner.span) {
            return Term::Poison;
        }
        let copies = contracted(self.fibre(x));
        let (base, group) = (self.base(x), self.group_of(x));
        Term::Value(self.push(Op::Length, vec![x], base, Fibre::scalars(copies, &group), span))
    }

    /// `dot(a, b)`: contracts within a copy; scalars are one copy.
    pub(super) fn dot(&mut self, mut args: Vec<Argument<'a>>, span: Span) -> Term<'a> {
        if args.len() != 2 {
            return self.fail(error::arity(span, "`dot`", "2 arguments", args.len()));
        }
        let (right, left) = (args.pop().expect("two"), args.pop().expect("two"));
        let Some((a, b, base)) = self.pair(left, right, span) else { return Term::Poison };
        if self.refuses_positions(a, "`dot`", span) || self.refuses_positions(b, "`dot`", span) {
            return Term::Poison;
        }
        if !self.fibre(a).same(self.fibre(b)) {
            let (ta, tb) = (self.fibre(a).describe(), self.fibre(b).describe());
            return self.fail(
                Diagnostic::error(
                    "E0310",
                    format!("`dot` contracts two of the same fibre, these are `{ta}` and `{tb}`"),
                )
                .at(span, "not the same fibre")
                .hint(format!("`linear {ta}` brings the second to the first")),
            );
        }
        let copies = contracted(self.fibre(a));
        let group = self.group_of(if self.base(a) == Base::Constant { b } else { a });
        Term::Value(self.push(Op::Dot, vec![a, b], base, Fibre::scalars(copies, &group), span))
    }
}

/// How many numbers `dot` and `|v|` leave: one a copy, and one for a fibre of scalars.
fn contracted(f: &Fibre) -> usize {
    f.blocks
        .iter()
        .map(|b| match &b.kind {
            BlockKind::Rep(rep) if rep.is_trivial() && rep.dim() == 1 => 1,
            BlockKind::Class(_) => 1,
            BlockKind::Rep(_) | BlockKind::Position => b.count,
        })
        .sum()
}

/// One invariant number, which is added to every component.
pub(super) fn is_number(f: &Fibre) -> bool {
    f.is_invariant() && f.copies() == 1 && f.dim(0) == 1
}
