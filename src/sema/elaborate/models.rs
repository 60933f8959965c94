//! Models, and the layers that no model reaches, each elaborated from its arguments.

use std::collections::BTreeMap;

use crate::base::arena::Id;
use crate::base::diagnostic::Diagnostic;
use crate::syntax::ast::{self, Expr, SignalType};

use super::expression::last;
use super::signature::free_name;
use super::{Elaborator, Model};
use crate::sema::error;
use crate::sema::hir::{self, Base, DomainDecl, Op, Origin, Type};
use crate::sema::nearest::nearest;
use crate::sema::rational::Rational;
use crate::sema::term::{Scope, Term, ValueId};

/// What stands for a parameter without a default, in a layer that no model reaches: the first for which the layer checks.
const ASSUMED: [i128; 4] = [8, 4, 2, 1];

impl<'a> Elaborator<'a> {
    /// Every model; then, at assumed parameters, every layer of the program that no model reached.
    pub(in crate::sema) fn elaborate(&mut self) {
        self.declare_domains();
        self.check_overrides();
        let own = self.items.own.clone();
        for decl in own.iter().filter(|f| f.role == ast::Role::Model) {
            if let Some(model) = self.model_of(decl, None) {
                self.program.models.push(model);
            }
        }
        for decl in own.iter().filter(|f| f.role == ast::Role::Layer) {
            if !self.reached.contains(decl.name.node.as_str())
                && let Some(model) = self.layer_alone(decl)
            {
                self.program.layers.push(model);
            }
        }
    }

    fn check_overrides(&mut self) {
        for (name, _) in self.overrides {
            let models = self.items.own.iter().filter(|f| f.role == ast::Role::Model);
            let params = models.flat_map(|f| f.params.iter()).map(|p| p.name.node.as_str());
            let params: Vec<&str> = params.collect();
            if !params.contains(&name.as_str()) {
                let finding = Diagnostic::error("E0201", format!("`--set {name}=...` sets no parameter of a model"));
                let finding = match (self.items.own.first(), nearest(name, params.iter().copied())) {
                    (_, Some(near)) => finding.hint(format!("did you mean `{near}`?")),
                    (Some(f), None) => finding.at(
                        f.name.span,
                        format!(
                            "the parameters of the file: {}",
                            if params.is_empty() { "none".to_string() } else { params.join(", ") }
                        ),
                    ),
                    (None, None) => finding,
                };
                self.report.push(finding);
            }
        }
    }

    /// A layer on its own: the parameters that have no default are tried at small sizes.
    fn layer_alone(&mut self, decl: &'a ast::Function) -> Option<hir::Model> {
        let mut first = None;
        let earlier = std::mem::take(&mut self.report);
        for assumed in ASSUMED {
            let before = self.report.errors();
            let model = self.model_of(decl, Some(Rational::integer(assumed)));
            let trial = std::mem::take(&mut self.report);
            let clean = trial.errors() == before;
            if first.is_none() || clean {
                first = Some(trial);
            }
            if clean {
                self.report = earlier;
                self.report.absorb(first.unwrap_or_default());
                return model;
            }
            if decl.params.iter().all(|p| p.default.is_some()) {
                break;
            }
        }
        self.report = earlier;
        self.report.absorb(first.unwrap_or_default());
        None
    }

    fn model_of(&mut self, decl: &'a ast::Function, assumed: Option<Rational>) -> Option<hir::Model> {
        self.model = Model::default();
        let before = self.report.errors();
        let mut scope = self.parameters(decl, assumed)?;
        let mut underived = false;
        for arg in &decl.args {
            let term = self.argument(decl, arg, assumed, &mut scope, &mut underived);
            scope.bind(&arg.name.node, term, 0);
        }
        if underived {
            // Said once, at the domain; nothing that follows could be right.
            return None;
        }
        self.model.calls.push(&decl.name.node);
        let result = self.expr(&decl.body, &scope);
        self.model.calls.pop();
        let result = match &decl.result {
            Some(ty) => self.check_result(decl, ty, result, &scope),
            None => result,
        };
        let results = self.results(decl, result)?;
        if self.report.errors() > before {
            return None;
        }
        // A layer alone is part of no model yet: the model that uses it is told.
        if assumed.is_none() {
            self.zero_boundary(decl);
        }
        let finished = std::mem::take(&mut self.model);
        Some(hir::Model { name: decl.name.node.clone(), args: finished.args, values: finished.values, results })
    }

    fn parameters(&mut self, decl: &'a ast::Function, assumed: Option<Rational>) -> Option<Scope<'a>> {
        let mut scope = Scope::default();
        for param in &decl.params {
            let set = self.overrides.iter().rev().find(|(n, _)| *n == param.name.node && assumed.is_none());
            let term = match (set, &param.default, assumed) {
                (Some((_, value)), _, _) => Term::Number(*value),
                (None, Some(default), _) => self.expr(default, &scope.clone()),
                (None, None, Some(size)) => Term::Number(size),
                (None, None, None) => self.fail(
                    Diagnostic::error(
                        "E0203",
                        format!("the model `{}` needs a value of `{}`", decl.name.node, param.name.node),
                    )
                    .at(param.name.span, "no default")
                    .hint(format!(
                        "give it a default, `[{} = 32]`, or set it: `--set {}=32`",
                        param.name.node, param.name.node
                    )),
                ),
            };
            scope.bind(&param.name.node, term, 0);
        }
        Some(scope)
    }

    fn argument(
        &mut self,
        decl: &'a ast::Function,
        arg: &'a ast::Argument,
        assumed: Option<Rational>,
        scope: &mut Scope<'a>,
        underived: &mut bool,
    ) -> Term<'a> {
        let Some(ty) = &arg.ty else { return Term::RunTimeInteger };
        let Some(ty) = self.unfold(ty) else { return Term::Poison };
        let (SignalType::Over { fibre, .. } | SignalType::Value { fibre, .. }) = ty;
        let base = match ty {
            SignalType::Over { domain, .. } => self.base_of(domain),
            SignalType::Value { .. } => Some(Base::Sample),
        };
        let Some(base) = base else { return Term::Poison };
        if let Base::Points(d) | Base::Edges(d) = base
            && self.kinds[&d].underived
        {
            *underived = true;
            let decl = &self.program.domains[d];
            let (place, text) = (decl.span, decl.domain.describe());
            self.report.push(error::not_derived(place, &text).because(arg.name.span, "used here"));
            return Term::Poison;
        }
        let ty = match (assumed, free_name(fibre, scope)) {
            (Some(size), Some(name)) if decl.role == ast::Role::Layer => {
                let n = size.as_integer().and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
                let inferred = self.scalars(n, base);
                scope.bind(name, Term::Fibre(inferred.clone()), 0);
                Type { base, fibre: inferred }
            }
            _ => match self.signal_type(ty, scope) {
                Some(ty) => ty,
                None => return Term::Poison,
            },
        };
        let place = fibre.span;
        let k = self.model.args.len();
        self.model.args.push(hir::Argument { name: arg.name.node.clone(), ty: ty.clone(), span: arg.name.span });
        Term::Value(self.push(Op::Argument(k), Vec::new(), ty.base, ty.fibre, place))
    }

    /// The results by name: a member's own name, else the name it is bound to; a single one without a name is `y`.
    fn results(&mut self, decl: &'a ast::Function, result: Term<'a>) -> Option<Vec<(String, ValueId)>> {
        let end: &'a Expr = last(&decl.body);
        let single = |e: &Expr| if let ast::ExprKind::Name(n) = &e.kind { n.clone() } else { "y".to_string() };
        let mut results = Vec::new();
        match result {
            Term::Tuple(parts) if parts.len() > 1 => {
                for (k, (name, term)) in parts.into_iter().enumerate() {
                    let v = self.as_value(term, end.span)?;
                    results.push((name.unwrap_or_else(|| format!("y{}", k + 1)), v));
                }
            }
            other => {
                let v = self.as_value(other, end.span)?;
                results.push((single(end), v));
            }
        }
        let mut seen: BTreeMap<&str, ()> = BTreeMap::new();
        if let Some((twice, _)) = results.iter().find(|(n, _)| seen.insert(n, ()).is_some()) {
            let finding = Diagnostic::error("E0206", format!("two results are called `{twice}`"))
                .at(end.span, "in this tuple")
                .hint("name the members: `(energy = a, force = b)`");
            self.report.push(finding);
            return None;
        }
        Some(results)
    }

    /// The cells of `domain` along an axis that make one cell of its coarsest coarsening: shifts by less do not commute with it.
    fn coarsest(&self, domain: Id<DomainDecl>) -> usize {
        let factor_of = |mut id: Id<DomainDecl>| {
            let mut product = 1;
            while let Origin::Coarsened { of, factor } = self.program.domains[id].origin {
                product *= factor;
                id = of;
            }
            (id == domain).then_some(product)
        };
        self.program.domains.ids().filter_map(factor_of).max().unwrap_or(1)
    }

    /// Zeros beyond the edge break the shifts near it: said once a model.
    fn zero_boundary(&mut self, decl: &'a ast::Function) {
        let reach = self.model.reach.iter().copied().max().unwrap_or(0);
        if reach == 0 {
            return;
        }
        let domain = self.model.args.iter().find_map(|a| match a.ty.base {
            Base::Points(d) if self.program.domains[d].domain.boundary().is_some() => Some(d),
            Base::Points(_) | Base::Edges(_) | Base::Sample | Base::Constant => None,
        });
        let Some(domain) = domain else { return };
        let coarsest = self.coarsest(domain);
        let domain = &self.program.domains[domain];
        let point_group = domain.domain.stabiliser();
        let steps = if coarsest == 1 {
            String::new()
        } else {
            format!(" by multiples of {coarsest} cells, since it coarsens,")
        };
        let fixing = if point_group.finite().is_some_and(|f| f.order() > 1) {
            format!("{} about the centre is exact everywhere, ", point_group.name())
        } else {
            String::new()
        };
        let cells = if reach == 1 { "1 cell".to_string() } else { format!("{reach} cells") };
        self.report.push(
            Diagnostic::warning(
                "W0501",
                format!("`{}` is equivariant under shifts only in the interior", decl.name.node),
            )
            .at(decl.name.span, format!("its windows see zeros up to {cells} from the border"))
            .because(domain.span, format!("`{}`", domain.domain.describe()))
            .why(format!(
                "the group is {}: {fixing}shifts{steps} are exact {cells} away from the border",
                domain.domain.symmetry()
            ))
            .hint("`torus` is exact everywhere; or leave a margin of zeros around the input"),
        );
    }
}
