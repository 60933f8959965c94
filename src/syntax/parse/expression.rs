//! Expressions: chains of operators, operands with their suffixes, and the words of the language.

use super::operator::{Infix, Operators};
use super::{Reader, Rule, next, parts};
use crate::base::diagnostic::Diagnostic;
use crate::base::span::Span;
use crate::syntax::ast::*;
use pest::iterators::Pair;

impl Reader<'_> {
    /// `expr`, `head` or `body`: they differ in where they end.
    pub(super) fn expr(&mut self, pair: Pair<'_, Rule>) -> Expr {
        let mut operators = Operators::default();
        for part in parts(pair) {
            match part.as_rule() {
                Rule::operand => self.operand(part, &mut operators),
                _ => operators.infix(Infix::named(part.as_str())),
            }
        }
        operators.finish()
    }

    pub(super) fn head(&mut self, pair: Pair<'_, Rule>) -> Expr {
        self.expr(pair)
    }

    /// The expressions between the brackets of a call, an index, a row.
    pub(super) fn exprs(&mut self, pair: Pair<'_, Rule>) -> Vec<Expr> {
        parts(pair).map(|p| self.expr(p)).collect()
    }

    fn operand(&mut self, pair: Pair<'_, Rule>, operators: &mut Operators) {
        let mut parts = parts(pair).peekable();
        while let Some(minus) = parts.next_if(|p| p.as_rule() == Rule::minus) {
            operators.sign(self.span(&minus));
        }
        operators.operand(self.suffixed(parts));
    }

    /// A primary and what follows it: `f[a](x).y @name`.
    fn suffixed<'a>(&mut self, mut parts: impl Iterator<Item = Pair<'a, Rule>>) -> Expr {
        let primary = self.primary(next(&mut parts));
        parts.fold(primary, |base, suffix| self.suffix(base, suffix))
    }

    fn suffix(&mut self, base: Expr, suffix: Pair<'_, Rule>) -> Expr {
        let span = base.span.to(self.span(&suffix));
        let base = Box::new(base);
        let kind = match suffix.as_rule() {
            Rule::call => ExprKind::Call { callee: base, args: self.exprs(suffix) },
            Rule::bracket => ExprKind::Bracket { base, args: self.exprs(suffix) },
            Rule::field => ExprKind::Dot { base, field: self.ident(&next(&mut parts(suffix))) },
            _ => ExprKind::Named { value: base, name: self.ident(&next(&mut parts(suffix))) },
        };
        Expr { kind, span }
    }

    fn primary(&mut self, pair: Pair<'_, Rule>) -> Expr {
        let span = self.span(&pair);
        let pair = next(&mut parts(pair));
        let text = || pair.as_str().to_string();
        let kind = match pair.as_rule() {
            Rule::number => ExprKind::Number(text()),
            Rule::name => ExprKind::Name(text()),
            Rule::k_lift => ExprKind::Lift,
            Rule::block => ExprKind::Block(self.block(pair)),
            Rule::tuple => return self.tuple(pair, span),
            Rule::length => ExprKind::Length(Box::new(self.expr(next(&mut parts(pair))))),
            Rule::if_else => self.if_else(pair),
            Rule::reduce | Rule::attend => self.comprehension(pair),
            Rule::scan => self.scan(pair),
            Rule::linear => self.linear(pair),
            Rule::tangent => ExprKind::Tangent(Box::new(self.suffixed(parts(pair)))),
            Rule::broken => ExprKind::Break(Box::new(self.suffixed(parts(pair)))),
            Rule::coarsen => self.coarsen(pair),
            Rule::pool => self.pool(pair),
            Rule::learn => self.learn(pair),
            _ => self.operator(pair),
        };
        Expr { kind, span }
    }

    /// The words followed by sizes, a fibre or a group.
    fn operator(&mut self, pair: Pair<'_, Rule>) -> ExprKind {
        let rule = pair.as_rule();
        let mut parts = parts(pair);
        let first = next(&mut parts);
        match rule {
            Rule::bilinear if first.as_rule() == Rule::k_depthwise => {
                ExprKind::Bilinear { depthwise: true, fibre: self.fibre(next(&mut parts)) }
            }
            Rule::bilinear => ExprKind::Bilinear { depthwise: false, fibre: self.fibre(first) },
            Rule::symmetric => {
                let degree = Box::new(self.size_atom(first));
                ExprKind::Symmetric { degree, fibre: self.fibre(next(&mut parts)) }
            }
            Rule::harmonics => {
                let from = Box::new(self.size(first));
                ExprKind::Harmonics { from, to: Box::new(self.size(next(&mut parts))) }
            }
            Rule::bessel => {
                let count = Box::new(self.size(first));
                ExprKind::Bessel { count, cutoff: Box::new(self.size(next(&mut parts))) }
            }
            Rule::refine => ExprKind::Refine { factor: Box::new(self.size(first)) },
            Rule::restrict => ExprKind::Restrict(self.group(first)),
            Rule::recur => ExprKind::Recur(self.fibre(first)),
            other => unreachable!("parse: {other:?} is no expression"),
        }
    }

    /// A tuple; one value in brackets is the value.
    fn tuple(&mut self, pair: Pair<'_, Rule>, span: Span) -> Expr {
        let mut fields: Vec<Field> = parts(pair).map(|p| self.field(p)).collect();
        match fields.pop() {
            Some(Field { name: None, value }) if fields.is_empty() => Expr { span, ..value },
            last => {
                fields.extend(last);
                Expr { kind: ExprKind::Tuple(fields), span }
            }
        }
    }

    fn field(&mut self, pair: Pair<'_, Rule>) -> Field {
        let mut parts = parts(pair);
        let first = next(&mut parts);
        match parts.next() {
            Some(value) => {
                let name = Some(self.ident(&next(&mut super::parts(first))));
                Field { name, value: self.expr(value) }
            }
            None => Field { name: None, value: self.expr(first) },
        }
    }

    fn if_else(&mut self, pair: Pair<'_, Rule>) -> ExprKind {
        let mut parts = parts(pair);
        let mut branch = || Box::new(self.expr(next(&mut parts)));
        ExprKind::If { cond: branch(), then: branch(), otherwise: branch() }
    }

    fn comprehension(&mut self, pair: Pair<'_, Rule>) -> ExprKind {
        let mut parts = parts(pair).peekable();
        let how = match parts.next_if(|p| p.as_rule() == Rule::reducer) {
            None => ComprehensionHow::Attend,
            Some(reducer) => match next(&mut reducer.into_inner()).as_rule() {
                Rule::k_sum => ComprehensionHow::Sum,
                Rule::k_mean => ComprehensionHow::Mean,
                Rule::k_max => ComprehensionHow::Max,
                _ => ComprehensionHow::Softmax,
            },
        };
        let (index, relation) = self.relation(next(&mut parts));
        let score = parts.next_if(|p| p.as_rule() == Rule::head).map(|p| self.expr(p));
        let body = self.expr(next(&mut parts));
        ExprKind::Comprehension(Box::new(Comprehension { how, index, relation, score, body }))
    }

    fn relation(&mut self, pair: Pair<'_, Rule>) -> (Ident, Relation) {
        let mut parts = parts(pair);
        let index = self.ident(&next(&mut parts));
        let relation = match (parts.next(), parts.next()) {
            (Some(sign), Some(other)) => {
                let other = self.ident(&other);
                match sign.as_str() {
                    "~" => Relation::Neighbours(other),
                    "!=" => Relation::Others(other),
                    _ => Relation::UpTo(other),
                }
            }
            _ => Relation::All,
        };
        (index, relation)
    }

    fn scan(&mut self, pair: Pair<'_, Rule>) -> ExprKind {
        let mut parts = parts(pair);
        let state = self.ident(&next(&mut parts));
        let mut part = || Box::new(self.expr(next(&mut parts)));
        ExprKind::Scan { state, init: part(), over: part(), body: part() }
    }

    fn coarsen(&mut self, pair: Pair<'_, Rule>) -> ExprKind {
        let mut parts = parts(pair).peekable();
        let how = match parts.next_if(|p| p.as_rule() != Rule::size).map(|p| p.as_rule()) {
            Some(Rule::k_max) => CoarsenHow::Max,
            Some(_) => CoarsenHow::Stride,
            None => CoarsenHow::Mean,
        };
        ExprKind::Coarsen { how, factor: Box::new(self.size(next(&mut parts))) }
    }

    fn pool(&mut self, pair: Pair<'_, Rule>) -> ExprKind {
        let mut parts = parts(pair);
        let how = match next(&mut next(&mut parts).into_inner()).as_rule() {
            Rule::k_sum => PoolHow::Sum,
            Rule::k_mean => PoolHow::Mean,
            _ => PoolHow::Max,
        };
        ExprKind::Pool { how, over: parts.next().map(|p| self.ident(&p)) }
    }

    fn learn(&mut self, pair: Pair<'_, Rule>) -> ExprKind {
        let mut parts = parts(pair);
        let name = self.ident(&next(&mut parts));
        let fibre = self.fibre(next(&mut parts));
        let init = parts.next().map(|p| {
            let mut operators = Operators::default();
            self.operand(p, &mut operators);
            Box::new(operators.finish())
        });
        ExprKind::Learn { name, fibre, init }
    }
}

/// `linear` and its clauses.
impl Reader<'_> {
    fn linear(&mut self, pair: Pair<'_, Rule>) -> ExprKind {
        let mut parts = parts(pair).peekable();
        let depthwise = parts.next_if(|p| p.as_rule() == Rule::k_depthwise).is_some();
        let fibre = self.fibre(next(&mut parts));
        let mut linear = Linear { depthwise, fibre, over: None, at: None, by: None, nobias: false, convention: None };
        for clause in parts {
            self.clause(&mut linear, clause);
        }
        if let (None, Some(place)) = (&linear.over, linear.at.as_ref().or(linear.by.as_ref())) {
            let found = Diagnostic::error("E0100", "expected `over` before `at` and `by`");
            let found = found.at(place.span, "no neighbourhood to read positions or distances in");
            self.mistakes.push(found.hint("write the cutoff first, such as `over 5.0 at r`"));
        }
        ExprKind::Linear(Box::new(linear))
    }

    fn clause(&mut self, linear: &mut Linear, pair: Pair<'_, Rule>) {
        let span = self.span(&pair);
        let clause = next(&mut pair.into_inner());
        let word = clause.as_str().split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        let twice = match clause.as_rule() {
            Rule::over => {
                let neighbourhood = self.neighbourhood(next(&mut parts(clause.clone())));
                linear.over.replace(neighbourhood).is_some()
            }
            Rule::at => {
                let place = self.place(clause.clone());
                linear.at.replace(place).is_some()
            }
            Rule::by => {
                let radial = self.place(clause.clone());
                linear.by.replace(radial).is_some()
            }
            Rule::convention => {
                let name = self.ident(&next(&mut parts(clause.clone())));
                linear.convention.replace(name).is_some()
            }
            _ => std::mem::replace(&mut linear.nobias, true),
        };
        if twice {
            let found = Diagnostic::error("E0106", format!("`{word}` is said twice"));
            self.mistakes.push(found.at(span, "a linear map has one"));
        }
    }

    /// A name with its fields or brackets.
    fn place(&mut self, pair: Pair<'_, Rule>) -> Expr {
        let mut parts = parts(pair);
        let name = next(&mut parts);
        let base = Expr { kind: ExprKind::Name(name.as_str().to_string()), span: self.span(&name) };
        parts.fold(base, |base, suffix| self.suffix(base, suffix))
    }

    fn neighbourhood(&mut self, pair: Pair<'_, Rule>) -> Neighbourhood {
        let span = self.span(&pair);
        let part = next(&mut pair.into_inner());
        let kind = match part.as_rule() {
            Rule::extent => NeighbourhoodKind::Box(self.extent(&part)),
            Rule::boxed => NeighbourhoodKind::Box(self.exprs(next(&mut parts(part)))),
            Rule::disk => NeighbourhoodKind::Disk(self.one(next(&mut parts(part)))),
            Rule::cap => NeighbourhoodKind::Cap(self.one(next(&mut parts(part)))),
            Rule::past => NeighbourhoodKind::Past(parts(part).next().map(|one| self.one(one))),
            Rule::ring => NeighbourhoodKind::Ring(self.size_atom(next(&mut parts(part)))),
            Rule::k_all => NeighbourhoodKind::All,
            Rule::k_edges => NeighbourhoodKind::Edges,
            _ => NeighbourhoodKind::Number(self.size(part)),
        };
        Neighbourhood { kind, span }
    }

    /// `3x3`
    fn extent(&self, pair: &Pair<'_, Rule>) -> Vec<Expr> {
        let mut start = self.span(pair).start as usize;
        let mut axis = |digits: &str| {
            let span = Span::new(self.source, start, start + digits.len());
            start += digits.len() + 1;
            Expr { kind: ExprKind::Number(digits.to_string()), span }
        };
        pair.as_str().split('x').map(&mut axis).collect()
    }
}
