//! What each expression means.

use std::rc::Rc;

use crate::base::diagnostic::Diagnostic;
use crate::base::span::Span;
use crate::syntax::ast::{self, BinaryOp, Expr, ExprKind};

use super::{Elaborator, MAX_DEPTH, MAX_TURNS};
use crate::sema::error;
use crate::sema::hir::{Aggregate, Base, Coarsening, LearnInit, Op, Pointwise};
use crate::sema::rational::Rational;
use crate::sema::term::{Function, FunctionKind, Scope, Term};

/// The words that are functions of their own, for lookup and suggestions.
pub(in crate::sema) const WORDS: &[&str] = &[
    "relu",
    "leaky_relu",
    "silu",
    "gelu",
    "tanh",
    "sigmoid",
    "exp",
    "log",
    "sqrt",
    "sin",
    "cos",
    "gate",
    "norm",
    "norm_act",
    "sampled",
    "mlp",
    "dot",
    "degree",
    "grad",
    "bessel",
    "harmonics",
];

/// The function of one number that a word stands for.
pub(super) fn pointwise(word: &str) -> Option<Pointwise> {
    Some(match word {
        "relu" => Pointwise::Relu,
        "leaky_relu" => Pointwise::LeakyRelu,
        "silu" => Pointwise::Silu,
        "gelu" => Pointwise::Gelu,
        "tanh" => Pointwise::Tanh,
        "sigmoid" => Pointwise::Sigmoid,
        "exp" => Pointwise::Exp,
        "log" => Pointwise::Log,
        "sqrt" => Pointwise::Sqrt,
        "sin" => Pointwise::Sin,
        "cos" => Pointwise::Cos,
        _ => return None,
    })
}

impl<'a> Elaborator<'a> {
    /// The meaning of `e` in `scope`.
    pub(super) fn expr(&mut self, e: &'a Expr, scope: &Scope<'a>) -> Term<'a> {
        if self.model.exhausted {
            return Term::Poison;
        }
        if self.model.depth >= MAX_DEPTH {
            self.model.exhausted = true;
            return self.fail(error::too_large(e.span, "the program nests too deeply"));
        }
        self.model.depth += 1;
        let term = self.meaning(e, scope);
        self.model.depth -= 1;
        term
    }

    fn meaning(&mut self, e: &'a Expr, scope: &Scope<'a>) -> Term<'a> {
        match &e.kind {
            ExprKind::Number(text) => match Rational::parse(text) {
                Some(n) => Term::Number(n),
                None => {
                    self.fail(error::bad_size(e.span, format!("`{text}` is out of the range of compile-time numbers")))
                }
            },
            ExprKind::Name(name) => self.name(name, e.span, scope),
            ExprKind::Tuple(fields) => self.tuple(fields, scope),
            ExprKind::Block(block) => {
                let mut inner = scope.clone();
                block.stmts.iter().for_each(|s| self.statement(s, &mut inner));
                self.expr(&block.result, &inner)
            }
            ExprKind::If { cond, then, otherwise } => match self.expr(cond, scope) {
                Term::Bool(true) => self.expr(then, scope),
                Term::Bool(false) => self.expr(otherwise, scope),
                Term::Poison => Term::Poison,
                other => {
                    let found = self.kind_of(&other);
                    self.fail(
                        error::wrong_kind(cond.span, &found, "a comparison of compile-time numbers")
                            .hint("`if` chooses while compiling: compare parameters, as in `if d == 0: ...`"),
                    )
                }
            },
            ExprKind::Neg(inner) => self.neg(inner, scope),
            ExprKind::Length(inner) => self.length(inner, scope, e.span),
            ExprKind::Binary { op, left, right } => self.binary(*op, left, right, scope, e.span),
            ExprKind::Pipe { value, stage } => {
                let value_term = self.expr(value, scope);
                let stage_term = self.expr(stage, scope);
                self.apply(stage_term, vec![(value_term, value.span)], stage.span)
            }
            ExprKind::Call { callee, args } => self.call(callee, args, scope, e.span),
            ExprKind::Bracket { base, args } => self.bracket(base, args, scope, e.span),
            ExprKind::Dot { base, field } => self.field(base, field, scope),
            ExprKind::Linear(_)
            | ExprKind::Bilinear { .. }
            | ExprKind::Harmonics { .. }
            | ExprKind::Bessel { .. }
            | ExprKind::Coarsen { .. }
            | ExprKind::Refine { .. }
            | ExprKind::Lift
            | ExprKind::Pool { .. } => self.operator(e, scope),
            ExprKind::Comprehension(c) => self.comprehension(c, scope, e.span),
            ExprKind::Learn { name, fibre, init } => self.learn(name, fibre, init.as_deref(), scope, e.span),
            ExprKind::Named { value, name } => {
                self.model.names.replace_next(&name.node);
                let term = self.expr(value, scope);
                if self.model.names.replacement_left() && !matches!(term, Term::Poison) {
                    return self.fail(error::wrong_kind(
                        name.span,
                        "a name for something that has no weights",
                        "a mention of a layer, before `@name`,",
                    ));
                }
                term
            }
            ExprKind::Symmetric { .. } => self.fail(error::not_derived(e.span, "symmetric")),
            ExprKind::Restrict(_) => self.fail(error::not_derived(e.span, "restrict")),
            ExprKind::Scan { .. } => self.fail(error::not_derived(e.span, "scan")),
            ExprKind::Recur(_) => self.fail(error::not_derived(e.span, "recur")),
            ExprKind::Tangent(_) => self.fail(error::not_derived(e.span, "tangent")),
            ExprKind::Break(_) => self.fail(error::not_derived(e.span, "break")),
        }
    }

    fn name(&mut self, name: &str, span: Span, scope: &Scope<'a>) -> Term<'a> {
        if let Some(entry) = scope.get(name) {
            let (term, level) = (entry.term.clone(), entry.level);
            return self.seen_from_inside(name, term, level, span);
        }
        if let Some(decl) = self.items.functions.get(name).copied() {
            return self.mention_layer(decl, &[], scope, span);
        }
        self.word(name, span, scope)
    }

    fn word(&mut self, name: &str, span: Span, scope: &Scope<'a>) -> Term<'a> {
        if let Some(f) = pointwise(name) {
            return function(FunctionKind::Pointwise(f), span);
        }
        match name {
            "gate" => function(FunctionKind::Gate { name: self.model.names.mention("gate") }, span),
            "norm" => function(FunctionKind::Norm { name: self.model.names.mention("norm") }, span),
            "dot" => function(FunctionKind::Dot, span),
            "degree" => function(FunctionKind::Degree, span),
            "grad" => self.fail(error::arity(span, "`grad`", "2 arguments, as in `grad(energy, r)`", 0)),
            "sampled" => self.fail(error::not_derived(span, "sampled")),
            "mlp" => self.fail(error::arity(span, "`mlp`", "its widths in brackets, as in `mlp[64, 64](x)`", 0)),
            "norm_act" => self.fail(error::arity(span, "`norm_act`", "a nonlinearity, as in `norm_act(silu)`", 0)),
            _ => {
                let items = self.items;
                let candidates = scope.names().chain(items.names()).chain(WORDS.iter().copied());
                let finding = error::unknown("name", name, span, candidates);
                self.fail(finding)
            }
        }
    }

    fn tuple(&mut self, fields: &'a [ast::Field], scope: &Scope<'a>) -> Term<'a> {
        if let [ast::Field { name: None, value }] = fields {
            return self.expr(value, scope);
        }
        let mut parts = Vec::new();
        for field in fields {
            let name = field.name.as_ref().map(|n| n.node.clone());
            let before = name.as_ref().map(|n| self.model.names.enter_binding(n));
            let term = self.expr(&field.value, scope);
            if let Some(before) = before {
                self.model.names.go(before);
            }
            let shown = name.or_else(|| if let ExprKind::Name(n) = &field.value.kind { Some(n.clone()) } else { None });
            parts.push((shown, term));
        }
        Term::Tuple(parts)
    }

    fn field(&mut self, base: &'a Expr, field: &'a ast::Ident, scope: &Scope<'a>) -> Term<'a> {
        match self.expr(base, scope) {
            Term::Tuple(parts) => match parts.iter().find(|(n, _)| n.as_ref() == Some(&field.node)) {
                Some((_, term)) => term.clone(),
                None => {
                    let names: Vec<&str> = parts.iter().filter_map(|(n, _)| n.as_deref()).collect();
                    self.fail(error::unknown("member", &field.node, field.span, names))
                }
            },
            Term::Poison => Term::Poison,
            other => {
                let found = self.kind_of(&other);
                self.fail(error::wrong_kind(base.span, &found, "a tuple"))
            }
        }
    }

    pub(super) fn statement(&mut self, stmt: &'a ast::Stmt, scope: &mut Scope<'a>) {
        match stmt {
            ast::Stmt::Let { names, value, span } => {
                let joined = names.iter().map(|n| n.node.as_str()).collect::<Vec<_>>().join("_");
                let before = self.model.names.enter_binding(&joined);
                let term = self.expr(value, scope);
                self.model.names.go(before);
                self.bind(names, term, *span, scope);
            }
            ast::Stmt::Pointwise { name, indices, value, span } => {
                self.pointwise_definition(name, indices, value, *span, scope)
            }
            ast::Stmt::Repeat { count, body, .. } => {
                let Some(turns) = self.number(count, scope) else { return };
                let turns = match turns.as_integer() {
                    Some(k) if (0..=MAX_TURNS).contains(&k) => k as usize,
                    Some(k) if k > MAX_TURNS => {
                        self.report.push(error::too_large(
                            count.span,
                            format!("`repeat` unrolls its body {k} times, more than {MAX_TURNS}"),
                        ));
                        return;
                    }
                    _ => {
                        self.report.push(error::bad_size(
                            count.span,
                            format!("`repeat` needs a whole number of turns, this is {turns}"),
                        ));
                        return;
                    }
                };
                for turn in 1..=turns {
                    let before = self.model.names.enter_turn(turn);
                    body.iter().for_each(|s| self.statement(s, scope));
                    self.model.names.go(before);
                    if self.model.exhausted {
                        return;
                    }
                }
            }
        }
    }

    fn bind(&mut self, names: &'a [ast::Ident], term: Term<'a>, span: Span, scope: &mut Scope<'a>) {
        let level = self.model.frames.len();
        if let [name] = names {
            scope.bind(&name.node, term, level);
            return;
        }
        let parts = match term {
            Term::Tuple(parts) if parts.len() == names.len() => parts.into_iter().map(|(_, t)| t).collect(),
            Term::Poison => vec![Term::Poison; names.len()],
            other => {
                let found = self.kind_of(&other);
                self.report.push(error::wrong_kind(span, &found, &format!("a tuple of {}", names.len())));
                vec![Term::Poison; names.len()]
            }
        };
        names.iter().zip(parts).for_each(|(n, t)| scope.bind(&n.node, t, level));
    }

    /// The compile-time number that `e` is.
    pub(super) fn number(&mut self, e: &'a Expr, scope: &Scope<'a>) -> Option<Rational> {
        match self.expr(e, scope) {
            Term::Number(n) => Some(n),
            Term::Poison => None,
            other => {
                let found = self.kind_of(&other);
                self.report.push(
                    error::wrong_kind(e.span, &found, "a number known while compiling")
                        .hint("state it as a parameter in brackets, `[c = 8]`, or as a literal"),
                );
                None
            }
        }
    }

    /// The compile-time integer that `e` is, at least `least`.
    pub(super) fn integer(&mut self, e: &'a Expr, scope: &Scope<'a>, least: usize, what: &str) -> Option<usize> {
        let n = self.number(e, scope)?;
        match n.as_integer().and_then(|k| usize::try_from(k).ok()) {
            Some(k) if k >= least && k <= super::MAX_COMPONENTS => Some(k),
            Some(k) if k >= least => {
                self.report
                    .push(error::bad_size(e.span, format!("{what} is {k}, more than {}", super::MAX_COMPONENTS)));
                None
            }
            _ => {
                self.report.push(error::bad_size(
                    e.span,
                    format!("{what} must be a whole number of at least {least}, this is {n}"),
                ));
                None
            }
        }
    }

    /// Mentions of operators: what they own is named here, in the order of the text.
    fn operator(&mut self, e: &'a Expr, scope: &Scope<'a>) -> Term<'a> {
        let kind = match &e.kind {
            ExprKind::Linear(ast) => {
                let word = if ast.depthwise { "depthwise" } else { "linear" };
                FunctionKind::Linear { ast, scope: scope.clone(), name: self.model.names.mention(word) }
            }
            ExprKind::Bilinear { fibre, depthwise } => FunctionKind::Bilinear {
                fibre,
                depthwise: *depthwise,
                scope: scope.clone(),
                name: self.model.names.mention("bilinear"),
            },
            ExprKind::Harmonics { from, to } => {
                let (from_degree, to_degree) = (self.degree(from, scope), self.degree(to, scope));
                let (Some(from), Some(to)) = (from_degree, to_degree) else { return Term::Poison };
                FunctionKind::Harmonics { from, to }
            }
            ExprKind::Bessel { count, cutoff } => {
                let n = self.integer(count, scope, 1, "the number of Bessel functions");
                let c = self.number(cutoff, scope);
                let (Some(count), Some(cutoff)) = (n, c) else { return Term::Poison };
                FunctionKind::Bessel { count, cutoff: cutoff.to_f64() }
            }
            ExprKind::Coarsen { how, factor } => {
                let how = match how {
                    ast::CoarsenHow::Mean => Coarsening::Mean,
                    ast::CoarsenHow::Max => Coarsening::Max,
                    ast::CoarsenHow::Stride => Coarsening::Stride,
                };
                let Some(factor) = self.integer(factor, scope, 1, "the factor of `coarsen`") else {
                    return Term::Poison;
                };
                FunctionKind::Coarsen { how, factor }
            }
            ExprKind::Refine { factor } => {
                let Some(factor) = self.integer(factor, scope, 1, "the factor of `refine`") else {
                    return Term::Poison;
                };
                FunctionKind::Refine { factor }
            }
            ExprKind::Pool { how, over } => {
                let how = match how {
                    ast::PoolHow::Sum => Aggregate::Sum,
                    ast::PoolHow::Mean => Aggregate::Mean,
                    ast::PoolHow::Max => Aggregate::Max,
                };
                FunctionKind::Pool { how, over: over.clone() }
            }
            _ => FunctionKind::Lift,
        };
        function(kind, e.span)
    }

    fn learn(
        &mut self,
        name: &'a ast::Ident,
        fibre: &'a ast::FibreExpr,
        init: Option<&'a Expr>,
        scope: &Scope<'a>,
        span: Span,
    ) -> Term<'a> {
        let weight = self.model.names.own(&name.node);
        let group = self.model.frames.last().map_or(self.trivial.clone(), |f| self.group_over(f.base()));
        let Some(fibre_value) = self.fibre_of(fibre, &group, scope) else { return Term::Poison };
        if !fibre_value.is_invariant() {
            let shown = fibre_value.describe();
            return self.fail(
                Diagnostic::error("E0316", "a learnt vector must be invariant")
                    .at(fibre.span, format!("{shown} is moved by the group"))
                    .why(
                        "a vector that is the same for every sample is equivariant only if each group element fixes it",
                    )
                    .hint("learn scalars, and multiply an equivariant signal by them"),
            );
        }
        let init = match init.map(|e| (&e.kind, e.span)) {
            None => LearnInit::Normal,
            Some((ExprKind::Name(word), _)) if word == "normal" => LearnInit::Normal,
            Some((ExprKind::Name(word), _)) if word == "zeros" => LearnInit::Zeros,
            Some((ExprKind::Name(word), _)) if word == "ones" => LearnInit::Ones,
            Some((ExprKind::Number(text), _)) if text == "0" => LearnInit::Zeros,
            Some((ExprKind::Number(text), _)) if text == "1" => LearnInit::Ones,
            Some((_, place)) => {
                return self.fail(error::wrong_kind(place, "something else", "`normal`, `zeros` or `ones`"));
            }
        };
        self.instance(&weight, span, fibre_value.describe());
        Term::Value(self.push(Op::Learn { name: weight, init }, Vec::new(), Base::Constant, fibre_value, span))
    }

    fn binary(&mut self, op: BinaryOp, left: &'a Expr, right: &'a Expr, scope: &Scope<'a>, span: Span) -> Term<'a> {
        let (a, b) = (self.expr(left, scope), self.expr(right, scope));
        match (a, b) {
            (Term::Number(x), Term::Number(y)) => self.exact(op, x, y, span),
            (Term::Poison, _) | (_, Term::Poison) => Term::Poison,
            (a, b) => self.combine(op, (a, left.span), (b, right.span), span),
        }
    }
}

/// A function to be applied.
pub(super) fn function<'a>(kind: FunctionKind<'a>, span: Span) -> Term<'a> {
    Term::Function(Rc::new(Function { kind, span }))
}

/// The expression that a body ends in.
pub(super) fn last(e: &Expr) -> &Expr {
    match &e.kind {
        ExprKind::Block(block) => last(&block.result),
        _ => e,
    }
}
