//! Declared types: what a layer takes and what it ends in.
//! A layer written for a domain also takes its coarsenings; a layer of the library takes every domain of the same kind.

use crate::base::diagnostic::Diagnostic;
use crate::base::span::Span;
use crate::syntax::ast::{self, ExprKind, FibreKind, SignalType};

use super::Elaborator;
use super::expression::last;
use crate::sema::error;
use crate::sema::hir::{Base, Fibre, Origin, Type};
use crate::sema::term::{DomainId, Scope, Term, ValueId};

/// Signal names that stand for signal names, at most so deep.
const MAX_ALIASES: usize = 32;

impl<'a> Elaborator<'a> {
    /// The type behind a name: `Image` is `Pixels -> 1`.
    pub(super) fn unfold(&mut self, ty: &'a SignalType) -> Option<&'a SignalType> {
        let mut ty = ty;
        for _ in 0..MAX_ALIASES {
            match single_name(ty).and_then(|n| self.items.signals.get(n)) {
                Some((of, _)) => ty = of,
                None => return Some(ty),
            }
        }
        self.report.push(
            Diagnostic::error("E0210", "this signal is declared by itself").at(type_span(ty), "a circle of names"),
        );
        None
    }

    /// A declared type in full.
    pub(super) fn signal_type(&mut self, ty: &'a SignalType, scope: &Scope<'a>) -> Option<Type> {
        match self.unfold(ty)? {
            SignalType::Over { domain, fibre, .. } => {
                let base = self.base_of(domain)?;
                let group = self.group_over(base);
                Some(Type { base, fibre: self.fibre_of(fibre, &group, scope)? })
            }
            SignalType::Value { fibre, .. } => {
                let group = self.trivial.clone();
                Some(Type { base: Base::Sample, fibre: self.fibre_of(fibre, &group, scope)? })
            }
        }
    }

    /// Checks an argument against its declared type; a free fibre name is bound to the fibre it meets.
    pub(super) fn accept(
        &mut self,
        decl: &'a ast::Function,
        arg: &'a ast::Argument,
        ty: &'a SignalType,
        (v, place): (ValueId, Span),
        scope: &mut Scope<'a>,
    ) -> Term<'a> {
        let Some(ty) = self.unfold(ty) else { return Term::Poison };
        let actual = self.value(v).ty.clone();
        let fibre = match ty {
            SignalType::Over { domain, fibre, .. } => {
                let Some(base) = self.base_of(domain) else { return Term::Poison };
                if !self.takes(base, actual.base, domain) {
                    let (want, have) = (self.show_base(base), self.show(v));
                    return self.fail(
                        Diagnostic::error(
                            "E0305",
                            format!("`{}` takes a signal on {want} as `{}`", decl.name.node, arg.name.node),
                        )
                        .at(place, format!("this is `{have}`"))
                        .because(arg.name.span, format!("declared on {want}")),
                    );
                }
                fibre
            }
            SignalType::Value { fibre, .. } => fibre,
        };
        if let Some(name) = free_name(fibre, scope) {
            scope.bind(name, Term::Fibre(actual.fibre), 0);
            return Term::Value(v);
        }
        let group = self.group_of(v);
        let Some(want) = self.fibre_of(fibre, &group, scope) else { return Term::Poison };
        if want.same(&actual.fibre) {
            return Term::Value(v);
        }
        let (want, have) = (want.describe(), actual.fibre.describe());
        self.fail(
            Diagnostic::error("E0305", format!("`{}` takes the fibre `{want}` as `{}`", decl.name.node, arg.name.node))
                .at(place, format!("this has the fibre `{have}`"))
                .because(arg.name.span, format!("`{want}` here"))
                .hint(format!("`linear {want}` brings it there")),
        )
    }

    /// Whether a layer declared on `declared` takes a signal on `actual`; if so the name means that domain in this call.
    fn takes(&mut self, declared: Base, actual: Base, domain: &'a ast::DomainRef) -> bool {
        let (want, have) = match (declared, actual) {
            (_, Base::Constant) => return true,
            (Base::Points(d), Base::Points(a)) | (Base::Edges(d), Base::Edges(a)) => (d, a),
            (Base::Points(_) | Base::Edges(_) | Base::Sample | Base::Constant, _) => return false,
        };
        let (ast::DomainRef::Name(name) | ast::DomainRef::Edges(name)) = domain else { return want == have };
        // The first argument decides what the name means; `want` is that already when another argument was met before.
        let free = !self.model.substitution.contains_key(&name.node);
        let takes = want == have || (free && (self.is_coarsening(have, want) || self.is_library_kind(want, have)));
        if takes {
            self.model.substitution.insert(name.node.clone(), have);
        }
        takes
    }

    pub(super) fn is_coarsening(&self, fine: DomainId, of: DomainId) -> bool {
        let root = |mut d: DomainId| {
            while let Origin::Coarsened { of, .. } = self.program.domains[d].origin {
                d = of;
            }
            d
        };
        root(fine) == root(of)
    }

    /// A module's layer is written for a kind of domain, under the group that its user's domain has.
    fn is_library_kind(&self, declared: DomainId, actual: DomainId) -> bool {
        let from_module = self.items.own_source.is_some_and(|own| self.program.domains[declared].span.source != own);
        let (d, a) = (&self.program.domains[declared].domain, &self.program.domains[actual].domain);
        from_module
            && self.kinds[&declared].constructor == self.kinds[&actual].constructor
            && d.axes().len() == a.axes().len()
            && d.ambient() == a.ambient()
    }

    /// Checks what a body ends in against the declared type.
    pub(super) fn check_result(
        &mut self,
        decl: &'a ast::Function,
        ty: &'a SignalType,
        result: Term<'a>,
        scope: &Scope<'a>,
    ) -> Term<'a> {
        let place = last(&decl.body).span;
        let Some(v) = self.as_value(result, place) else { return Term::Poison };
        let Some(want) = self.signal_type(ty, scope) else { return Term::Poison };
        let have = self.value(v).ty.clone();
        // A layer of fibres alone is applied point by point, wherever its arguments live.
        let pointwise = decl.role == ast::Role::Layer && want.base == Base::Sample;
        let same_base = want.base == have.base || have.base == Base::Constant || pointwise;
        if same_base && want.fibre.same(&have.fibre) {
            return Term::Value(v);
        }
        let (want_text, have_text) = (self.show_type(&want), self.show_type(&have));
        let finding = Diagnostic::error("E0305", format!("`{}` is declared to end in `{want_text}`", decl.name.node))
            .at(place, format!("this is `{have_text}`"))
            .because(type_span(ty), "declared here");
        self.fail(match (same_base, want.base, have.base) {
            (true, _, _) => finding.hint(result_hint(&want.fibre, &have.fibre)),
            (false, Base::Sample, Base::Points(_) | Base::Edges(_)) => {
                finding.hint("`pool mean` leaves one value a sample")
            }
            _ => finding,
        })
    }
}

fn result_hint(want: &Fibre, have: &Fibre) -> String {
    if have.hom_dim(want) > 0 {
        format!("end with `linear {}`, or change the declaration", want.describe())
    } else {
        "change the declaration, or the body".to_string()
    }
}

/// The name that a type consists of.
fn single_name(ty: &SignalType) -> Option<&str> {
    match ty {
        SignalType::Value { fibre, .. } => plain_name(fibre),
        SignalType::Over { .. } => None,
    }
}

/// `a` in a fibre that is a name and nothing else.
pub(in crate::sema) fn plain_name(fibre: &ast::FibreExpr) -> Option<&str> {
    let [ast::FibreTerm { count: Some(count), kind: FibreKind::Plain, .. }] = &fibre.terms[..] else { return None };
    match &count.kind {
        ExprKind::Name(name) => Some(name),
        _ => None,
    }
}

/// A lower-case name that nothing in scope has: a fibre to be inferred.
pub(super) fn free_name<'e>(fibre: &'e ast::FibreExpr, scope: &Scope<'_>) -> Option<&'e str> {
    plain_name(fibre).filter(|n| scope.get(n).is_none() && n.starts_with(|c: char| c.is_lowercase()))
}

/// Where a signal type stands.
pub(super) fn type_span(ty: &SignalType) -> Span {
    match ty {
        SignalType::Over { span, .. } | SignalType::Value { span, .. } => *span,
    }
}

impl<'a> Elaborator<'a> {
    /// The base that a mention of a domain means here.
    pub(super) fn base_of(&mut self, domain: &'a ast::DomainRef) -> Option<Base> {
        match domain {
            ast::DomainRef::Name(name) => self.domain_named(name).map(Base::Points),
            ast::DomainRef::Edges(name) => {
                let d = self.domain_named(name)?;
                if self.program.domains[d].domain.edges().is_none() {
                    let text = self.program.domains[d].domain.describe();
                    self.report.push(error::wrong_kind(
                        name.span,
                        &format!("`{text}`, which has no edges"),
                        "a graph or points",
                    ));
                    return None;
                }
                Some(Base::Edges(d))
            }
            ast::DomainRef::Product(a, b) => {
                let (a, b) = (self.base_of(a)?, self.base_of(b)?);
                let (Base::Points(a), Base::Points(b)) = (a, b) else { return None };
                Some(Base::Points(self.product_of(a, b)))
            }
        }
    }
}
