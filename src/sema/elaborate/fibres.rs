//! Fibres as the user wrote them → sums of representations of the group that fixes a point.

use std::sync::Arc;

use crate::base::diagnostic::Diagnostic;
use crate::domain::DomainError;
use crate::symmetry::{GroupRef, Inclusion, Irrep, Rep};
use crate::syntax::ast::{self, Expr, FibreExpr, FibreKind, FibreTerm};

use super::{Elaborator, MAX_COMPONENTS};
use crate::sema::error;
use crate::sema::hir::{Block, BlockKind, Fibre};
use crate::sema::term::{Scope, Term};

/// Harmonics and irreps above this degree are refused.
const MAX_DEGREE: usize = 32;

impl<'a> Elaborator<'a> {
    /// The fibre that `f` means over points fixed by `group`.
    pub(super) fn fibre_of(&mut self, f: &'a FibreExpr, group: &GroupRef, scope: &Scope<'a>) -> Option<Fibre> {
        let mut sum = Fibre { blocks: Vec::new() };
        for term in &f.terms {
            sum = sum.plus(&self.term_of(term, group, scope)?);
        }
        let components = sum.dim(group.space_dim());
        if components > MAX_COMPONENTS {
            self.report.push(error::too_large(
                f.span,
                format!("a fibre of {components} components, more than {MAX_COMPONENTS}"),
            ));
            return None;
        }
        Some(sum)
    }

    fn term_of(&mut self, term: &'a FibreTerm, group: &GroupRef, scope: &Scope<'a>) -> Option<Fibre> {
        let count = match &term.count {
            None => 1,
            Some(e) => match self.expr(e, scope) {
                Term::Fibre(f) if matches!(term.kind, FibreKind::Plain) => return Some(f),
                Term::Poison => return None,
                Term::Number(_) => self.integer(e, scope, 1, "the size of a fibre")?,
                other => {
                    let found = self.kind_of(&other);
                    self.report.push(error::wrong_kind(e.span, &found, "a number of copies"));
                    return None;
                }
            },
        };
        let rep = match &term.kind {
            FibreKind::Plain | FibreKind::Scalar(None) => Ok(Rep::scalar(group)),
            FibreKind::Scalar(Some(k)) => {
                let k = self.integer(k, scope, 1, "the size of `scalar`")?;
                if term.count.is_none() {
                    return Some(Fibre::of(k, Rep::scalar(group)));
                }
                Ok(Rep::scalar(group).times(k))
            }
            FibreKind::Regular => Rep::regular(group).map_err(|_| {
                Diagnostic::error("E0317", format!("{} has no finite regular representation", group.name()))
                    .at(term.span, "functions on an infinite group")
                    .hint("use `irreps(0..L)`: its part up to frequency L")
            }),
            FibreKind::Quotient(g) => self.quotient(g, group)?,
            FibreKind::Irreps { from, to } => {
                let (from, to) = (self.degree(from, scope)?, self.degree(to, scope)?);
                if from > to {
                    self.report.push(error::bad_size(
                        term.span,
                        format!("irreps from {from} to {to}: the first degree is above the last"),
                    ));
                    return None;
                }
                natural(group, from, to).map_err(|e| no_irrep(term, &e))
            }
            FibreKind::Irrep { l, parity } => Irrep::parse(&format!("{l}{parity}"))
                .and_then(|ir| Rep::irrep(group, ir))
                .map_err(|e| no_irrep(term, &e.to_string())),
            FibreKind::Vector if group.same_as(self.trivial.as_ref()) => Err(no_space(term)),
            FibreKind::Vector => Ok(vector(group)),
            FibreKind::Position => return self.position(term, count, group),
            FibreKind::Class(k) => {
                let k = self.integer(k, scope, 1, "the number of classes")?;
                return Some(Fibre { blocks: vec![Block { count, kind: BlockKind::Class(k) }] });
            }
            FibreKind::Rotary(_) => Err(error::not_derived(term.span, "rotary")),
            FibreKind::Ball(_) => Err(error::not_derived(term.span, "ball")),
            FibreKind::Phase => Err(error::not_derived(term.span, "phase")),
        };
        match rep {
            Ok(rep) => {
                Some(Fibre { blocks: vec![Block { count, kind: BlockKind::Rep(Arc::new(simple(rep, group))) }] })
            }
            Err(finding) => {
                self.report.push(finding);
                None
            }
        }
    }

    fn position(&mut self, term: &'a FibreTerm, count: usize, group: &GroupRef) -> Option<Fibre> {
        if group.space_dim() < 1 || group.finite().is_some() {
            self.report.push(
                Diagnostic::error("E0317", "positions live on points of space")
                    .at(term.span, "no space here")
                    .why("a position is moved by translations; only `points(n) in R3` and its like have them")
                    .hint("declare the domain as `points(n) in R3`"),
            );
            return None;
        }
        Some(Fibre { blocks: vec![Block { count, kind: BlockKind::Position }] })
    }

    /// A degree of harmonics.
    pub(super) fn degree(&mut self, e: &'a Expr, scope: &Scope<'a>) -> Option<u32> {
        let l = self.integer(e, scope, 0, "a degree")?;
        if l > MAX_DEGREE {
            self.report.push(error::bad_size(e.span, format!("degree {l} is above {MAX_DEGREE}")));
            return None;
        }
        Some(l as u32)
    }

    fn quotient(&mut self, g: &'a ast::GroupExpr, group: &GroupRef) -> Option<Result<Rep, Diagnostic>> {
        let spec = self.group_spec(g, 0)?;
        let rep = spec
            .on_space(group.space_dim())
            .map_err(|e| if let DomainError::WrongGroup { why, .. } = e { why } else { format!("{e:?}") })
            .and_then(|sub| Inclusion::same_space(&sub, group).map_err(|e| e.to_string()))
            .and_then(|along| Rep::quotient(&along).map_err(|e| e.to_string()));
        Some(rep.map_err(|why| {
            Diagnostic::error("E0317", format!("there is no quotient of {} by `{spec}`", group.name()))
                .at(g.span, "not a subgroup")
                .why(why)
        }))
    }
}

/// A trivial representation on one component is a scalar, however it was written.
fn simple(rep: Rep, group: &GroupRef) -> Rep {
    if rep.dim() == 1 && rep.is_trivial() { Rep::scalar(group) } else { rep }
}

/// The defining representation on R^d, as an irrep where it is one.
pub(super) fn vector(group: &GroupRef) -> Rep {
    group.vector_irrep().and_then(|ir| Rep::irrep(group, ir).ok()).unwrap_or_else(|| Rep::vector(group))
}

/// One copy of each irrep on harmonics of degree `from..=to`.
pub(super) fn natural(group: &GroupRef, from: u32, to: u32) -> Result<Rep, String> {
    Rep::natural_irreps(group, 1, from, to).map_err(|e| e.to_string())
}

fn no_space(term: &FibreTerm) -> Diagnostic {
    Diagnostic::error("E0317", "vectors live on points of space that something turns")
        .at(term.span, "nothing turns here")
        .why("a vector is turned with the space around its point; sets and graphs have none")
        .hint("for that many numbers write `16`; or declare the domain as `points(n) in R3`")
}

fn no_irrep(term: &FibreTerm, why: &str) -> Diagnostic {
    Diagnostic::error("E0317", "the group of the domain has no such representation")
        .at(term.span, "not a representation of the group that fixes a point")
        .why(why.to_string())
}
