//! Names before types: every name of every body is looked up, also in branches and layers that are never elaborated.
//! Out: unknown names with the nearest match, and arguments that nothing reads.

use std::collections::BTreeSet;

use crate::base::diagnostic::Diagnostic;
use crate::syntax::PREFIXES;
use crate::syntax::ast::{self, Comprehension, Expr, ExprKind, SignalType, Stmt};

use super::declare::Items;
use super::elaborate::WORDS;
use super::error;
use super::report::Report;
use super::walk;

/// Words that stand in the place of a value: initialisers.
const VALUES: &[&str] = &["normal", "zeros", "ones"];

/// Looks up the names of every function of the program.
pub(super) fn check(items: &Items<'_>, report: &mut Report) {
    for function in &items.own {
        let mut names = Names { items, report, bound: Vec::new(), read: BTreeSet::new() };
        names.function(function);
    }
}

struct Names<'c, 'a> {
    items: &'c Items<'a>,
    report: &'c mut Report,
    /// The names in scope, innermost last.
    bound: Vec<String>,
    read: BTreeSet<String>,
}

impl Names<'_, '_> {
    fn function(&mut self, f: &ast::Function) {
        self.twice(f);
        for param in &f.params {
            if let Some(default) = &param.default {
                self.expr(default);
            }
            self.bound.push(param.name.node.clone());
        }
        for arg in &f.args {
            if let Some(SignalType::Over { fibre, .. } | SignalType::Value { fibre, .. }) = &arg.ty {
                self.argument_fibre(f, fibre);
            }
        }
        f.args.iter().for_each(|a| self.bound.push(a.name.node.clone()));
        self.expr(&f.body);
        if let Some(SignalType::Over { fibre, .. } | SignalType::Value { fibre, .. }) = &f.result {
            // A result may be the name of a signal type.
            walk::fibre(fibre).into_iter().for_each(|e| self.fibre_size(e));
        }
        self.unused(f);
    }

    /// Parameters and arguments have names of their own.
    fn twice(&mut self, f: &ast::Function) {
        let names: Vec<&ast::Ident> = f.params.iter().map(|p| &p.name).chain(f.args.iter().map(|a| &a.name)).collect();
        for (k, name) in names.iter().enumerate() {
            if let Some(first) = names[..k].iter().find(|first| first.node == name.node) {
                self.report.push(
                    Diagnostic::error("E0206", format!("`{}` is declared twice", name.node))
                        .at(name.span, "again here")
                        .because(first.span, "first here")
                        .hint("give one of them another name: what is read by it would not be known"),
                );
            }
        }
    }

    /// A fibre that is a free lower-case name is inferred, in a layer; sizes within one are read.
    fn argument_fibre(&mut self, f: &ast::Function, fibre: &ast::FibreExpr) {
        match super::elaborate::plain_name(fibre) {
            Some(name) if self.bound.iter().any(|b| b == name) => {
                self.read.insert(name.to_string());
            }
            Some(name) if self.items.signals.contains_key(name) => {}
            Some(name) if f.role == ast::Role::Layer && name.starts_with(|c: char| c.is_lowercase()) => {
                self.bound.push(name.to_string())
            }
            _ => walk::fibre(fibre).into_iter().for_each(|e| self.fibre_size(e)),
        }
    }

    fn fibre_size(&mut self, e: &Expr) {
        match &e.kind {
            ExprKind::Name(name) if self.items.signals.contains_key(name.as_str()) => {}
            _ => self.expr(e),
        }
    }

    fn unused(&mut self, f: &ast::Function) {
        let unused =
            |name: &ast::Ident, read: &BTreeSet<String>| !read.contains(&name.node) && !name.node.starts_with('_');
        for arg in f.args.iter().filter(|a| unused(&a.name, &self.read)) {
            self.report.push(
                Diagnostic::warning(
                    "W0204",
                    format!("the argument `{}` of `{}` is not used", arg.name.node, f.name.node),
                )
                .at(arg.name.span, "nothing reads it")
                .hint(format!("remove it, or call it `_{}` to keep it", arg.name.node)),
            );
        }
        for param in f.params.iter().filter(|p| unused(&p.name, &self.read)) {
            self.report.push(
                Diagnostic::warning(
                    "W0204",
                    format!("the parameter `{}` of `{}` is not used", param.name.node, f.name.node),
                )
                .at(param.name.span, "nothing reads it")
                .hint(format!("remove it, or call it `_{}` to keep it", param.name.node)),
            );
        }
    }

    fn name(&mut self, name: &str, span: crate::base::span::Span) {
        if self.bound.iter().any(|b| b == name) {
            self.read.insert(name.to_string());
            return;
        }
        if self.items.functions.contains_key(name) || WORDS.contains(&name) || VALUES.contains(&name) {
            return;
        }
        let bound = self.bound.iter().map(String::as_str);
        let words = WORDS.iter().chain(&PREFIXES).copied();
        let candidates: Vec<&str> = bound.chain(self.items.names()).chain(words).collect();
        self.report.push(error::unknown("name", name, span, candidates));
    }

    fn expr(&mut self, e: &Expr) {
        match &e.kind {
            ExprKind::Name(name) => self.name(name, e.span),
            ExprKind::Block(block) => {
                let open = self.bound.len();
                block.stmts.iter().for_each(|s| self.statement(s));
                self.expr(&block.result);
                self.bound.truncate(open);
            }
            ExprKind::Comprehension(c) => self.comprehension(c),
            ExprKind::Scan { state, init, over, body } => {
                self.expr(init);
                self.expr(over);
                self.bound.push(state.node.clone());
                self.expr(body);
                self.bound.pop();
            }
            ExprKind::Pool { over: Some(domain), .. } if !self.items.domains.contains_key(domain.node.as_str()) => {
                let known: Vec<&str> = self.items.domains.keys().copied().collect();
                self.report.push(error::unknown("domain", &domain.node, domain.span, known));
            }
            // Indices are judged with the frame they stand in.
            ExprKind::Bracket { base, args } if matches!(&base.kind, ExprKind::Name(n) if self.bound.contains(n)) => {
                self.expr(base);
                for arg in args {
                    if !matches!(arg.kind, ExprKind::Name(_)) || self.is_bound(arg) {
                        self.expr(arg);
                    }
                }
            }
            ExprKind::Call { callee, args }
                if matches!(&callee.kind, ExprKind::Name(n) if n == "degree") && args.len() == 1 => {}
            _ => walk::children(e).into_iter().for_each(|c| self.expr(c)),
        }
    }

    fn is_bound(&self, e: &Expr) -> bool {
        matches!(&e.kind, ExprKind::Name(n) if self.bound.contains(n))
    }

    fn comprehension(&mut self, c: &Comprehension) {
        self.bound.push(c.index.node.clone());
        c.score.iter().for_each(|s| self.expr(s));
        self.expr(&c.body);
        self.bound.pop();
    }

    fn statement(&mut self, s: &Stmt) {
        match s {
            Stmt::Let { names, value, .. } => {
                self.expr(value);
                names.iter().for_each(|n| self.bound.push(n.node.clone()));
            }
            Stmt::Pointwise { name, indices, value, .. } => {
                let open = self.bound.len();
                indices.iter().for_each(|i| self.bound.push(i.node.clone()));
                self.expr(value);
                self.bound.truncate(open);
                self.bound.push(name.node.clone());
            }
            Stmt::Repeat { count, body, .. } => {
                self.expr(count);
                body.iter().for_each(|s| self.statement(s));
            }
        }
    }
}
