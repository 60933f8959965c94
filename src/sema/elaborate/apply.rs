//! Functions applied to arguments: layers are inlined, words become operations.

use std::rc::Rc;

use crate::base::diagnostic::Diagnostic;
use crate::base::span::Span;
use crate::syntax::ast::{self, Expr, ExprKind};

use super::expression::{function, pointwise};
use super::{Elaborator, MAX_CALL_DEPTH, MAX_CALLS};
use crate::sema::error;
use crate::sema::term::{Function, FunctionKind, Scope, Term, ValueId};

/// An argument with its place.
pub(super) type Argument<'a> = (Term<'a>, Span);

impl<'a> Elaborator<'a> {
    /// `f(x, y)`
    pub(super) fn call(&mut self, callee: &'a Expr, args: &'a [Expr], scope: &Scope<'a>, span: Span) -> Term<'a> {
        if let ExprKind::Name(word) = &callee.kind
            && scope.get(word).is_none()
            && !self.items.functions.contains_key(word.as_str())
        {
            match word.as_str() {
                "degree" => return self.degree_at(args, span),
                "grad" => return self.grad(args, scope, span),
                "norm_act" => return self.norm_act(args, span),
                "sampled" => return self.fail(error::not_derived(span, "sampled")),
                _ => {}
            }
        }
        let callee_term = self.expr(callee, scope);
        let values = args.iter().map(|a| (self.expr(a, scope), a.span)).collect();
        self.apply(callee_term, values, span)
    }

    fn norm_act(&mut self, args: &'a [Expr], span: Span) -> Term<'a> {
        let [Expr { kind: ExprKind::Name(word), span: place }] = args else {
            return self.fail(error::arity(span, "`norm_act`", "one nonlinearity, as in `norm_act(silu)`", args.len()));
        };
        match pointwise(word) {
            Some(f) => function(FunctionKind::NormAct { name: self.model.names.mention("norm_act"), f }, span),
            None => self.fail(error::unknown(
                "nonlinearity",
                word,
                *place,
                ["relu", "leaky_relu", "silu", "gelu", "tanh", "sigmoid"],
            )),
        }
    }

    /// `res[c]`, `mlp[64, 64]`, `x[i]`
    pub(super) fn bracket(&mut self, base: &'a Expr, args: &'a [Expr], scope: &Scope<'a>, span: Span) -> Term<'a> {
        if let ExprKind::Name(name) = &base.kind {
            if let Some(entry) = scope.get(name) {
                return match entry.term.clone() {
                    Term::Function(f) => self.with_params(&f, args, scope, span),
                    term => self.indexed(name, term, args, span),
                };
            }
            if let Some(decl) = self.items.functions.get(name.as_str()).copied() {
                return self.mention_layer(decl, args, scope, span);
            }
            if name == "mlp" {
                return match self.widths(args, scope, span) {
                    Some(widths) => function(FunctionKind::Mlp { widths, name: self.model.names.mention("mlp") }, span),
                    None => Term::Poison,
                };
            }
        }
        match self.expr(base, scope) {
            Term::Poison => Term::Poison,
            Term::Function(f) => self.with_params(&f, args, scope, span),
            other => {
                let found = self.kind_of(&other);
                self.fail(error::wrong_kind(base.span, &found, "a layer, or a signal by its name,"))
            }
        }
    }

    /// The widths of a network.
    pub(super) fn widths(&mut self, args: &'a [Expr], scope: &Scope<'a>, span: Span) -> Option<Vec<usize>> {
        if args.is_empty() {
            self.report.push(error::arity(span, "`mlp`", "its widths in brackets, as in `mlp[64, 64](x)`", 0));
        }
        let widths: Vec<_> = args.iter().map(|a| self.integer(a, scope, 1, "a width of `mlp`")).collect();
        widths.into_iter().collect::<Option<Vec<_>>>().filter(|w| !w.is_empty())
    }

    /// A layer that was passed as a parameter or bound to a name, with its own parameters.
    fn with_params(&mut self, f: &Rc<Function<'a>>, args: &'a [Expr], scope: &Scope<'a>, span: Span) -> Term<'a> {
        match &f.kind {
            FunctionKind::Layer { decl, params, .. } if params.is_empty() => {
                self.mention_layer(decl, args, scope, span)
            }
            _ => self.fail(error::wrong_kind(
                span,
                "a function without parameters in brackets",
                "a layer with parameters",
            )),
        }
    }

    /// A mention of a layer: an instance with its own weights.
    pub(super) fn mention_layer(
        &mut self,
        decl: &'a ast::Function,
        args: &'a [Expr],
        scope: &Scope<'a>,
        span: Span,
    ) -> Term<'a> {
        let name = self.model.names.mention(&decl.name.node);
        if args.len() > decl.params.len() {
            let takes =
                format!("{} parameter{} in brackets", decl.params.len(), if decl.params.len() == 1 { "" } else { "s" });
            return self.fail(
                error::arity(span, &format!("`{}`", decl.name.node), &takes, args.len())
                    .because(decl.name.span, "declared here"),
            );
        }
        let mut params = Vec::new();
        for (k, param) in decl.params.iter().enumerate() {
            let term = match (args.get(k), &param.default) {
                (Some(arg), _) => self.expr(arg, scope),
                (None, Some(default)) => self.expr(default, &Scope::default()),
                // Without brackets the layer may still be given its parameters where its name is used.
                (None, None) if args.is_empty() => {
                    return function(FunctionKind::Layer { decl, params: Vec::new(), name }, span);
                }
                (None, None) => return self.missing_parameter(decl, &param.name.node, span),
            };
            params.push((param.name.node.clone(), term));
        }
        function(FunctionKind::Layer { decl, params, name }, span)
    }

    fn missing_parameter(&mut self, decl: &'a ast::Function, param: &str, span: Span) -> Term<'a> {
        self.fail(
            Diagnostic::error("E0203", format!("`{}` needs its parameter `{param}`", decl.name.node))
                .at(span, format!("`{param}` is not given, and has no default"))
                .because(decl.name.span, "declared here")
                .hint(format!(
                    "write `{}[...]` with a value, or give `{param}` a default where it is declared",
                    decl.name.node
                )),
        )
    }

    /// A function applied to arguments.
    pub(super) fn apply(&mut self, callee: Term<'a>, args: Vec<Argument<'a>>, span: Span) -> Term<'a> {
        let f = match callee {
            Term::Function(f) => f,
            Term::Poison => return Term::Poison,
            other => {
                let found = self.kind_of(&other);
                return self.fail(error::wrong_kind(span, &found, "a layer or another function"));
            }
        };
        let args = spread(args);
        if args.iter().any(|(t, _)| matches!(t, Term::Poison)) {
            return Term::Poison;
        }
        match &f.kind {
            FunctionKind::Layer { decl, params, name } => self.inline(decl, params, name, args, span),
            FunctionKind::Linear { ast, scope, name } => self.linear(ast, scope, name, args, f.span),
            FunctionKind::Bilinear { fibre, depthwise, scope, name } => {
                self.bilinear(fibre, *depthwise, scope, name, args, f.span)
            }
            FunctionKind::Mlp { widths, name } => self.mlp(widths, name, args, f.span),
            FunctionKind::Dot => self.dot(args, span),
            FunctionKind::Degree => self
                .fail(error::wrong_kind(span, "a signal", "an index").hint("write `degree(i)` where `i` is an index")),
            FunctionKind::Harmonics { .. }
            | FunctionKind::Bessel { .. }
            | FunctionKind::Pointwise(_)
            | FunctionKind::Gate { .. }
            | FunctionKind::Norm { .. }
            | FunctionKind::NormAct { .. }
            | FunctionKind::Coarsen { .. }
            | FunctionKind::Refine { .. }
            | FunctionKind::Lift
            | FunctionKind::Pool { .. } => self.apply_to_one(&f, args, span),
        }
    }

    fn apply_to_one(&mut self, f: &Rc<Function<'a>>, mut args: Vec<Argument<'a>>, span: Span) -> Term<'a> {
        if args.len() != 1 {
            return self.fail(error::arity(span, "this function", "1 argument", args.len()));
        }
        let (term, place) = args.remove(0);
        if let (FunctionKind::Pointwise(p), Term::Number(n)) = (&f.kind, &term) {
            return self.pointwise_of_number(*p, *n, span);
        }
        let Some(x) = self.as_value(term, place) else { return Term::Poison };
        match &f.kind {
            FunctionKind::Harmonics { from, to } => self.harmonics(*from, *to, x, f.span),
            FunctionKind::Bessel { count, cutoff } => self.bessel(*count, *cutoff, x, f.span),
            FunctionKind::Pointwise(p) => self.pointwise(*p, x, f.span),
            FunctionKind::Gate { name } => self.gate(name, x, f.span),
            FunctionKind::Norm { name } => self.norm(name, x, f.span),
            FunctionKind::NormAct { name, f: p } => self.norm_activation(name, *p, x, f.span),
            FunctionKind::Coarsen { how, factor } => self.coarsen(*how, *factor, x, f.span),
            FunctionKind::Refine { factor } => self.refine(*factor, x, f.span),
            FunctionKind::Lift => self.lift(x, f.span),
            FunctionKind::Pool { how, over } => self.pool(*how, over.as_ref(), x, f.span),
            FunctionKind::Layer { .. }
            | FunctionKind::Linear { .. }
            | FunctionKind::Bilinear { .. }
            | FunctionKind::Mlp { .. }
            | FunctionKind::Dot
            | FunctionKind::Degree => {
                unreachable!("sema: these take more than one argument")
            }
        }
    }

    /// All arguments as values.
    pub(super) fn values(&mut self, args: Vec<Argument<'a>>) -> Option<Vec<ValueId>> {
        let values: Vec<Option<ValueId>> = args.into_iter().map(|(t, s)| self.as_value(t, s)).collect();
        values.into_iter().collect()
    }

    /// The body of a layer with its arguments in place.
    fn inline(
        &mut self,
        decl: &'a ast::Function,
        params: &[(String, Term<'a>)],
        name: &str,
        args: Vec<Argument<'a>>,
        span: Span,
    ) -> Term<'a> {
        if params.len() < decl.params.len() {
            let first = decl.params[params.len()].name.node.clone();
            return self.missing_parameter(decl, &first, span);
        }
        if args.len() != decl.args.len() {
            let takes = format!("{} argument{}", decl.args.len(), if decl.args.len() == 1 { "" } else { "s" });
            return self.fail(
                error::arity(span, &format!("`{}`", decl.name.node), &takes, args.len())
                    .because(decl.name.span, "declared here"),
            );
        }
        self.model.call_count += 1;
        if self.model.calls.len() >= MAX_CALL_DEPTH || self.model.call_count > MAX_CALLS {
            self.model.exhausted = true;
            let message = if self.model.calls.len() >= MAX_CALL_DEPTH {
                format!("`{}` calls itself more than {MAX_CALL_DEPTH} layers deep", decl.name.node)
            } else {
                format!("more than {MAX_CALLS} layers are called")
            };
            return self.fail(
                error::too_large(span, message)
                    .because(decl.name.span, "this layer")
                    .hint("a recursion needs a parameter that reaches the branch of an `if` without it"),
            );
        }
        self.reached.insert(&decl.name.node);
        let substitution = std::mem::take(&mut self.model.substitution);
        let frames = std::mem::take(&mut self.model.frames);
        self.model.calls.push(&decl.name.node);
        self.model.names.enter_call(name);
        let result = self.body(decl, params, args);
        self.model.names.leave_call();
        self.model.calls.pop();
        self.model.frames = frames;
        self.model.substitution = substitution;
        result
    }

    fn body(&mut self, decl: &'a ast::Function, params: &[(String, Term<'a>)], args: Vec<Argument<'a>>) -> Term<'a> {
        let mut scope = Scope::default();
        params.iter().for_each(|(n, t)| scope.bind(n, t.clone(), 0));
        for (arg, (term, place)) in decl.args.iter().zip(args) {
            let bound = match &arg.ty {
                None => term,
                Some(ty) => match self.as_value(term, place) {
                    Some(v) => self.accept(decl, arg, ty, (v, place), &mut scope),
                    None => Term::Poison,
                },
            };
            scope.bind(&arg.name.node, bound, 0);
        }
        let result = self.expr(&decl.body, &scope);
        match &decl.result {
            Some(ty) => self.check_result(decl, ty, result, &scope),
            None => result,
        }
    }
}

/// A tuple in an argument's place is its members.
fn spread(args: Vec<Argument<'_>>) -> Vec<Argument<'_>> {
    args.into_iter()
        .flat_map(|(term, span)| match term {
            Term::Tuple(parts) => parts.into_iter().map(|(_, t)| (t, span)).collect(),
            other => vec![(other, span)],
        })
        .collect()
}
