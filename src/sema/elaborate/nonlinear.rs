//! Nonlinearities, checked against the fibre; harmonics and Bessel functions.

use crate::base::diagnostic::Diagnostic;
use crate::base::span::Span;
use crate::symmetry::Rep;

use super::fibres::natural;
use super::{Elaborator, MAX_COMPONENTS};
use crate::sema::error;
use crate::sema::hir::{Block, BlockKind, Fibre, Op, Pointwise};
use crate::sema::rational::Rational;
use crate::sema::term::{Term, ValueId};

impl<'a> Elaborator<'a> {
    /// `relu` and its relatives: only where the group permutes the components.
    pub(super) fn pointwise(&mut self, f: Pointwise, x: ValueId, span: Span) -> Term<'a> {
        if let Some(block) = self.fibre(x).first_not_permuted() {
            let finding = self.not_permuted(&format!("`{}`", word(f)), block, x, span);
            return self.fail(finding);
        }
        self.same_type(Op::Map(f), x, span)
    }

    fn not_permuted(&self, what: &str, block: &Block, x: ValueId, span: Span) -> Diagnostic {
        let shown = block.describe();
        let group = self.group_of(x).name();
        let finding =
            Diagnostic::error("E0301", format!("{what} acts on single components, which the group mixes here"))
                .at(span, format!("applied to `{shown}`"))
                .because(self.value(x).span, format!("`{}`", self.show(x)));
        match block.kind {
            BlockKind::Position => finding
                .why("a position is a point of affine space: its coordinates depend on the origin")
                .hint("take distances and differences of positions first"),
            BlockKind::Rep(_) | BlockKind::Class(_) => finding
                .why(format!("f(rho(g) x) = rho(g) f(x) for a nonlinear f needs rho(g) to permute the components, and {group} does more on `{shown}`"))
                .hint("use `gate` (scalars gate the other copies), `norm_act(silu)` (acts on lengths) or `sampled(relu, 7)` (approximate)"),
        }
    }

    /// `max` picks components as a nonlinearity does.
    pub(super) fn max_of(&mut self, x: ValueId, span: Span) -> Term<'a> {
        let Some(block) = self.fibre(x).first_not_permuted() else { return Term::Poison };
        let shown = block.describe();
        let group = self.group_of(x).name();
        let finding =
            Diagnostic::error("E0302", "the largest component is not equivariant where the group mixes components")
                .at(span, format!("the fibre is `{shown}`"))
                .why(format!(
                    "max commutes with permutations of the components only, and {group} does more on `{shown}`"
                ))
                .hint("use `sum` or `mean`, or take the largest length: `max` of `|x|`");
        self.fail(finding)
    }

    pub(super) fn not_scalar(&mut self, x: ValueId, what: &str, span: Span) -> Term<'a> {
        let shown = self.fibre(x).describe();
        self.fail(
            Diagnostic::error("E0301", format!("`{what}` needs scalars"))
                .at(span, format!("this is `{shown}`"))
                .why("its weights must not change when the group acts")
                .hint("use `dot(a, b)` or `|a|`, which are invariant"),
        )
    }

    pub(super) fn same_type(&mut self, op: Op, x: ValueId, span: Span) -> Term<'a> {
        let (base, fibre) = (self.base(x), self.fibre(x).clone());
        Term::Value(self.push(op, vec![x], base, fibre, span))
    }

    /// A function of a compile-time number: exact where the answer is rational.
    pub(super) fn pointwise_of_number(&mut self, f: Pointwise, n: Rational, span: Span) -> Term<'a> {
        if f == Pointwise::Sqrt
            && let Some(root) = n.sqrt()
        {
            return Term::Number(root);
        }
        let x = self.number_value(n.to_f64(), span);
        self.same_type(Op::Map(f), x, span)
    }

    pub(super) fn gate(&mut self, name: &str, x: ValueId, span: Span) -> Term<'a> {
        if self.refuses_positions(x, "`gate`", span) {
            return Term::Poison;
        }
        self.instance(name, span, self.fibre(x).describe());
        self.same_type(Op::Gate { name: name.to_string() }, x, span)
    }

    pub(super) fn norm(&mut self, name: &str, x: ValueId, span: Span) -> Term<'a> {
        if self.refuses_positions(x, "`norm`", span) {
            return Term::Poison;
        }
        self.instance(name, span, self.fibre(x).describe());
        self.same_type(Op::Norm { name: name.to_string() }, x, span)
    }

    pub(super) fn norm_activation(&mut self, name: &str, f: Pointwise, x: ValueId, span: Span) -> Term<'a> {
        if self.refuses_positions(x, "`norm_act`", span) {
            return Term::Poison;
        }
        self.instance(name, span, self.fibre(x).describe());
        self.same_type(Op::NormAct { name: name.to_string(), f }, x, span)
    }

    /// Positions are no vectors: whatever scales or weighs components depends on the origin.
    pub(super) fn refuses_positions(&mut self, x: ValueId, what: &str, span: Span) -> bool {
        let refused = self.fibre(x).has_position();
        if refused {
            let from = self.value(x).span;
            self.report.push(
                Diagnostic::error("E0309", format!("{what} cannot take positions"))
                    .at(span, "the result would depend on the origin")
                    .because(from, "a position")
                    .why("a position is a point of affine space: translations move it, and no linear map of it is equivariant")
                    .hint("take differences first: `x[i] - x[j]` is a vector, `|x[i] - x[j]|^2` a scalar"),
            );
        }
        refused
    }

    /// `harmonics 0..L (v)`
    pub(super) fn harmonics(&mut self, from: u32, to: u32, x: ValueId, span: Span) -> Term<'a> {
        if from > to {
            return self.fail(error::bad_size(
                span,
                format!("harmonics from {from} to {to}: the first degree is above the last"),
            ));
        }
        if self.refuses_positions(x, "`harmonics`", span) {
            return Term::Poison;
        }
        let (base, group) = (self.base(x), self.group_of(x));
        let vector = Fibre::of(1, super::fibres::vector(&group));
        let [block] = &self.fibre(x).blocks[..] else { return self.not_vectors(x, "`harmonics`", span) };
        let count = block.count;
        if !(Fibre { blocks: vec![Block { count: 1, ..block.clone() }] }).same(&vector) || group.finite().is_some() {
            return self.not_vectors(x, "`harmonics`", span);
        }
        match natural(&group, from, to) {
            Ok(rep) if count * rep.dim() <= MAX_COMPONENTS => {
                let fibre = Fibre::of(count, rep);
                Term::Value(self.push(Op::Harmonics { from, to }, vec![x], base, fibre, span))
            }
            Ok(_) => self.fail(error::too_large(span, "harmonics of too many vectors")),
            Err(why) => self.fail(Diagnostic::error("E0317", "the group has no such harmonics").at(span, why)),
        }
    }

    fn not_vectors(&mut self, x: ValueId, what: &str, span: Span) -> Term<'a> {
        let shown = self.show(x);
        self.fail(
            error::wrong_kind(span, &format!("`{shown}`"), &format!("a fibre of vectors, for {what},"))
                .because(self.value(x).span, "this"),
        )
    }

    /// `bessel 8 within 5.0 (d)`
    pub(super) fn bessel(&mut self, count: usize, cutoff: f64, x: ValueId, span: Span) -> Term<'a> {
        if cutoff <= 0.0 || !cutoff.is_finite() {
            return self.fail(error::bad_size(span, format!("a cutoff is positive, this is {cutoff}")));
        }
        let base = self.base(x);
        if !self.fibre(x).is_invariant() || self.fibre(x).copies() != 1 {
            let shown = self.fibre(x).describe();
            return self.fail(
                error::wrong_kind(span, &format!("`{shown}`"), "one distance").hint("`|x[i] - x[j]|` is a distance"),
            );
        }
        let fibre = Fibre::of(count, Rep::scalar(&self.group_of(x)));
        Term::Value(self.push(Op::Bessel { count, cutoff }, vec![x], base, fibre, span))
    }
}

fn word(f: Pointwise) -> &'static str {
    match f {
        Pointwise::Relu => "relu",
        Pointwise::LeakyRelu => "leaky_relu",
        Pointwise::Silu => "silu",
        Pointwise::Gelu => "gelu",
        Pointwise::Tanh => "tanh",
        Pointwise::Sigmoid => "sigmoid",
        Pointwise::Exp => "exp",
        Pointwise::Log => "log",
        Pointwise::Sqrt => "sqrt",
        Pointwise::Sin => "sin",
        Pointwise::Cos => "cos",
    }
}
