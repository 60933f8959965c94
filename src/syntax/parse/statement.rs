//! Blocks and the bindings in them.

use super::{Reader, Rule, next, parts};
use crate::base::diagnostic::Diagnostic;
use crate::base::span::Span;
use crate::syntax::ast::*;
use pest::iterators::Pair;

/// A line of a block.
enum Line {
    Stmt(Stmt),
    Value(Expr),
}

impl Reader<'_> {
    /// `{ bindings; result }`
    pub(super) fn block(&mut self, pair: Pair<'_, Rule>) -> Block {
        let span = self.span(&pair);
        let mut lines = self.lines(pair);
        let result = match lines.pop() {
            Some(Line::Value(value)) => value,
            Some(Line::Stmt(stmt)) => {
                self.no_result(Some(&stmt), span);
                Expr { kind: ExprKind::Name(String::new()), span }
            }
            None => {
                self.no_result(None, span);
                Expr { kind: ExprKind::Name(String::new()), span }
            }
        };
        Block { stmts: self.statements(lines), result: Box::new(result) }
    }

    fn lines(&mut self, pair: Pair<'_, Rule>) -> Vec<Line> {
        let mut line = |p: Pair<'_, Rule>| match p.as_rule() {
            Rule::repeat | Rule::binding => Line::Stmt(self.statement(p)),
            _ => Line::Value(self.expr(p)),
        };
        parts(pair).map(&mut line).collect()
    }

    fn statements(&mut self, lines: Vec<Line>) -> Vec<Stmt> {
        let mut stmts = Vec::new();
        for line in lines {
            match line {
                Line::Stmt(stmt) => stmts.push(stmt),
                Line::Value(value) => self.mistakes.push(
                    Diagnostic::error("E0105", "this value is not used")
                        .at(value.span, "only the last line of a block is its result")
                        .hint("bind it to a name, or take the line away"),
                ),
            }
        }
        stmts
    }

    fn no_result(&mut self, last: Option<&Stmt>, span: Span) {
        let found = Diagnostic::error("E0104", "this block has no result");
        let name = match last {
            Some(Stmt::Let { names, .. }) => names.first().map(|name| name.node.clone()),
            Some(Stmt::Pointwise { name, .. }) => Some(name.node.clone()),
            Some(Stmt::Repeat { body, .. }) => match body.last() {
                Some(Stmt::Let { names, .. }) => names.first().map(|name| name.node.clone()),
                Some(Stmt::Pointwise { name, .. }) => Some(name.node.clone()),
                Some(Stmt::Repeat { .. }) | None => None,
            },
            None => None,
        };
        let close = Span { start: span.end.saturating_sub(1), ..span };
        let found = found.at(close, "its last line is to be an expression");
        let taken = last.and_then(|stmt| self.continued_by_sign(stmt));
        self.mistakes.push(match name {
            _ if taken.is_some() => found
                .because(taken.unwrap_or(span), "this goes on with the line before it")
                .hint("put a result that starts with a sign in brackets: `(-x)`"),
            Some(name) => found.hint(format!("end the block with the line `{}`", crate::syntax::error::short(&name))),
            None => found.hint("end the block with the value it stands for"),
        });
    }

    /// The last line of a binding that starts with `-` or `+`, which the author may have meant as the result.
    fn continued_by_sign(&self, stmt: &Stmt) -> Option<Span> {
        let (Stmt::Let { span, .. } | Stmt::Pointwise { span, .. } | Stmt::Repeat { span, .. }) = stmt;
        let text = &self.text[span.start as usize - self.offset..span.end as usize - self.offset];
        let line = text.rfind('\r')? + 1;
        let start = line + text[line..].len() - text[line..].trim_start().len();
        let sign = text[start..].starts_with(['-', '+']) && !text[start..].starts_with("++");
        sign.then(|| Span { start: span.start + start as u32, ..*span })
    }

    fn statement(&mut self, pair: Pair<'_, Rule>) -> Stmt {
        let span = self.span(&pair);
        let repeat = pair.as_rule() == Rule::repeat;
        let mut parts = parts(pair);
        let (first, second) = (next(&mut parts), next(&mut parts));
        if repeat {
            let count = self.head(first);
            return Stmt::Repeat { count, body: self.repeated(second), span };
        }
        let target = next(&mut super::parts(first));
        let value = self.expr(second);
        match target.as_rule() {
            Rule::several => {
                Stmt::Let { names: super::parts(target).map(|name| self.ident(&name)).collect(), value, span }
            }
            Rule::indexed => {
                let mut names = super::parts(target).map(|name| self.ident(&name)).collect::<Vec<_>>();
                Stmt::Pointwise { name: names.remove(0), indices: names, value, span }
            }
            _ => Stmt::Let { names: vec![self.ident(&target)], value, span },
        }
    }

    /// The body of `repeat`: one binding, or a block of bindings without a result.
    fn repeated(&mut self, pair: Pair<'_, Rule>) -> Vec<Stmt> {
        if pair.as_rule() != Rule::block {
            return vec![self.statement(pair)];
        }
        let span = self.span(&pair);
        let lines = self.lines(pair);
        if lines.is_empty() {
            let found = Diagnostic::error("E0104", "this `repeat` repeats nothing").at(span, "no bindings");
            self.mistakes.push(found.hint("write the bindings to repeat, such as `x = f(x)`"));
        }
        if let Some(Line::Value(value)) = lines.last() {
            let found = Diagnostic::error("E0105", "this value is not used");
            let found = found.at(value.span, "a repeated block binds names; it has no result");
            self.mistakes.push(found.hint("bind it to the name that the next turn reads, such as `x = f(x)`"));
            return Vec::new();
        }
        self.statements(lines)
    }
}
