//! Groups, domains, signal types and fibres, and the sizes in them.

use super::operator::{Infix, Operators};
use super::{Reader, Rule, next, parts};
use crate::base::diagnostic::Diagnostic;
use crate::syntax::ast::*;
use pest::iterators::Pair;

/// Groups.
impl Reader<'_> {
    pub(super) fn group(&mut self, pair: Pair<'_, Rule>) -> GroupExpr {
        let combine: fn(_, _) -> _ =
            if pair.as_rule() == Rule::group { GroupKind::Product } else { GroupKind::Semidirect };
        match pair.as_rule() {
            Rule::group | Rule::semidirect => {
                let mut factors = parts(pair).map(|p| self.group(p)).collect::<Vec<_>>().into_iter();
                let first = factors.next().expect("parse: a product has a factor");
                factors.fold(first, |left, right| {
                    let span = left.span.to(right.span);
                    GroupExpr { kind: combine(Box::new(left), Box::new(right)), span }
                })
            }
            Rule::group_family => self.group_family(pair),
            // An atom or a group in brackets: the brackets belong to its place.
            _ => {
                let span = self.span(&pair);
                GroupExpr { span, ..self.group(next(&mut parts(pair))) }
            }
        }
    }

    fn group_family(&mut self, pair: Pair<'_, Rule>) -> GroupExpr {
        let span = self.span(&pair);
        let mut parts = parts(pair);
        let name = next(&mut parts).as_str().to_string();
        let kind = match parts.next() {
            Some(list) => GroupKind::Family(name, self.exprs(list)),
            None => GroupKind::Name(name),
        };
        GroupExpr { kind, span }
    }

    pub(super) fn generated(&mut self, pair: Pair<'_, Rule>) -> GroupExpr {
        let span = self.span(&pair);
        let generators: Vec<_> = parts(pair).collect();
        let kind = if generators.iter().all(|g| g.as_rule() == Rule::matrix) {
            let mut matrix = |g| parts(g).map(|row| self.exprs(row)).collect();
            GroupKind::Matrices(generators.into_iter().map(&mut matrix).collect())
        } else {
            let mut cycle = |c| parts(c).map(|point| self.natural(&point)).collect();
            let mut permutation = |g| parts(g).map(&mut cycle).collect();
            GroupKind::Permutations(generators.into_iter().map(&mut permutation).collect())
        };
        GroupExpr { kind, span }
    }

    /// A small number written out, as a cycle's points and an irrep's l are.
    fn natural(&mut self, pair: &Pair<'_, Rule>) -> u32 {
        self.small_number(pair.as_str(), pair)
    }

    fn small_number(&mut self, digits: &str, pair: &Pair<'_, Rule>) -> u32 {
        digits.parse().ok().filter(|&n| n <= 1_000_000).unwrap_or_else(|| {
            let span = self.span(pair);
            self.mistakes.push(Diagnostic::error("E0107", "this number is too large").at(span, "at most 1000000"));
            0
        })
    }
}

/// Domains.
impl Reader<'_> {
    pub(super) fn domain(&mut self, pair: Pair<'_, Rule>) -> DomainExpr {
        let span = self.span(&pair);
        let (under, factors): (Vec<_>, Vec<_>) = parts(pair).partition(|p| p.as_rule() == Rule::under);
        let mut factors = factors.into_iter().map(|p| self.domain_factor(p)).collect::<Vec<_>>().into_iter();
        let first = factors.next().expect("parse: a domain has a factor");
        let product = factors.fold(first, |left, right| {
            let span = left.span.to(right.span);
            DomainExpr { kind: DomainKind::Product(Box::new(left), Box::new(right)), under: None, span }
        });
        match under.into_iter().next() {
            None => DomainExpr { span, ..product },
            Some(group) => {
                let group = self.group(next(&mut parts(group)));
                if let Some(inner) = &product.under {
                    let twice = Diagnostic::error("E0106", "a domain has one group").at(group.span, "a second `under`");
                    self.mistakes.push(twice.because(inner.span, "the first"));
                }
                DomainExpr { kind: product.kind, under: Some(group), span }
            }
        }
    }

    fn domain_factor(&mut self, pair: Pair<'_, Rule>) -> DomainExpr {
        let span = self.span(&pair);
        let pair = next(&mut parts(pair));
        let kind = match pair.as_rule() {
            Rule::complete => DomainKind::Complete(Box::new(self.domain(next(&mut parts(pair))))),
            Rule::constructor => self.constructor(pair),
            Rule::domain_name => DomainKind::Name(self.ident(&pair)),
            // A domain in brackets.
            _ => return DomainExpr { span, ..self.domain(pair) },
        };
        DomainExpr { kind, under: None, span }
    }

    fn constructor(&mut self, pair: Pair<'_, Rule>) -> DomainKind {
        let mut parts = parts(pair);
        let name = self.ident(&next(&mut parts));
        let (mut sizes, mut words, mut ambient) = (Vec::new(), Vec::new(), None);
        for part in parts {
            match part.as_rule() {
                Rule::extent_size => sizes.push(self.size_expr(part)),
                Rule::ambient => {
                    let space = self.ident(&next(&mut super::parts(part)));
                    if ambient.is_some() {
                        let message = "a domain of points lies in one space";
                        self.mistakes.push(Diagnostic::error("E0106", message).at(space.span, "a second `in`"));
                    }
                    ambient = Some(space);
                }
                _ => words.push(self.ident(&part)),
            }
        }
        DomainKind::Constructor { name, sizes, words, ambient }
    }

    fn size_expr(&mut self, pair: Pair<'_, Rule>) -> SizeExpr {
        let mut parts = parts(pair);
        let value = self.expr(next(&mut parts));
        SizeExpr { value, hint: parts.next().map(|p| self.expr(p)) }
    }
}

/// Signal types and fibres.
impl Reader<'_> {
    pub(super) fn signal_type(&mut self, pair: Pair<'_, Rule>) -> SignalType {
        let span = self.span(&pair);
        let mut parts = parts(pair);
        let first = next(&mut parts);
        match parts.next() {
            Some(fibre) => SignalType::Over { domain: self.domain_ref(first), fibre: self.fibre(fibre), span },
            None => SignalType::Value { fibre: self.fibre(first), span },
        }
    }

    fn domain_ref(&mut self, pair: Pair<'_, Rule>) -> DomainRef {
        let mut leaves = parts(pair).map(|leaf| {
            let mut parts = parts(leaf);
            let name = self.ident(&next(&mut parts));
            if parts.next().is_some() { DomainRef::Edges(name) } else { DomainRef::Name(name) }
        });
        let first = leaves.next().expect("parse: a product has a factor");
        leaves.fold(first, |left, right| DomainRef::Product(Box::new(left), Box::new(right)))
    }

    pub(super) fn fibre(&mut self, pair: Pair<'_, Rule>) -> FibreExpr {
        let span = self.span(&pair);
        FibreExpr { terms: parts(pair).map(|p| self.fibre_term(p)).collect(), span }
    }

    fn fibre_term(&mut self, pair: Pair<'_, Rule>) -> FibreTerm {
        let span = self.span(&pair);
        let mut parts = parts(pair);
        let first = next(&mut parts);
        match first.as_rule() {
            Rule::irrep => self.irrep(&first, span),
            Rule::fibre_word => FibreTerm { count: None, kind: self.fibre_word(first), span },
            _ => {
                let count = Some(self.size(first));
                FibreTerm { count, kind: parts.next().map_or(FibreKind::Plain, |p| self.fibre_word(p)), span }
            }
        }
    }

    /// `16x1o`, `1o`
    fn irrep(&mut self, pair: &Pair<'_, Rule>, span: crate::base::span::Span) -> FibreTerm {
        let text = pair.as_str();
        let (count, rest) = text.split_once('x').map_or((None, text), |(count, rest)| (Some(count), rest));
        let (l, parity) = rest.split_at(rest.len() - 1);
        let l = self.small_number(l, pair);
        let count = count.map(|digits| {
            let span = crate::base::span::Span { end: span.start + digits.len() as u32, ..span };
            Expr { kind: ExprKind::Number(digits.to_string()), span }
        });
        FibreTerm { count, kind: FibreKind::Irrep { l, parity: parity.chars().next().unwrap_or('y') }, span }
    }

    fn fibre_word(&mut self, pair: Pair<'_, Rule>) -> FibreKind {
        let word = pair.into_inner().next().expect("parse: a fibre word is one of a list");
        match word.as_rule() {
            Rule::k_regular => FibreKind::Regular,
            Rule::k_vector => FibreKind::Vector,
            Rule::k_position => FibreKind::Position,
            Rule::k_phase => FibreKind::Phase,
            Rule::scalar => FibreKind::Scalar(parts(word).next().map(|one| self.one(one))),
            Rule::rotary => FibreKind::Rotary(self.one(next(&mut parts(word)))),
            Rule::ball => FibreKind::Ball(self.one(next(&mut parts(word)))),
            Rule::class => FibreKind::Class(self.one(next(&mut parts(word)))),
            Rule::quotient => FibreKind::Quotient(self.group(next(&mut parts(next(&mut parts(word)))))),
            _ => {
                let mut ends = parts(next(&mut parts(word))).map(|p| self.expr(p));
                let from = ends.next().expect("parse: a range has a start");
                let to = ends.next().unwrap_or_else(|| from.clone());
                FibreKind::Irreps { from, to }
            }
        }
    }

    /// The one argument of a constructor.
    pub(super) fn one(&mut self, pair: Pair<'_, Rule>) -> Expr {
        self.expr(next(&mut parts(pair)))
    }

    /// `2*c`, `d/h`, `2^k`: a size, flat.
    pub(super) fn size(&mut self, pair: Pair<'_, Rule>) -> Expr {
        let mut operators = Operators::default();
        for part in parts(pair) {
            match part.as_rule() {
                Rule::size_op => operators.infix(Infix::named(part.as_str())),
                _ => {
                    let mut atoms = parts(part);
                    let base = self.size_atom(next(&mut atoms));
                    operators.operand(base);
                    if let Some(exponent) = atoms.next() {
                        operators.infix(Infix::Binary(BinaryOp::Pow));
                        operators.operand(self.size_atom(exponent));
                    }
                }
            }
        }
        operators.finish()
    }

    pub(super) fn size_atom(&mut self, pair: Pair<'_, Rule>) -> Expr {
        let span = self.span(&pair);
        let text = pair.as_str().to_string();
        let number = text.starts_with(|c: char| c.is_ascii_digit());
        Expr { kind: if number { ExprKind::Number(text) } else { ExprKind::Name(text) }, span }
    }
}
