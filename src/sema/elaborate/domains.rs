//! Domain declarations: sizes named, groups resolved, and the domains that are made from others.

use crate::base::diagnostic::Diagnostic;
use crate::base::size::Size;
use crate::base::span::Span;
use crate::domain::{self, DomainError, DomainSpec, GroupSpec};
use crate::symmetry::SymmetryError;
use crate::symmetry::groups::by_name;
use crate::syntax::ast::{self, BinaryOp, DomainKind, Expr, ExprKind, GroupKind};

use super::Elaborator;
use crate::sema::error;
use crate::sema::hir::{DomainDecl, Origin};
use crate::sema::rational::Rational;
use crate::sema::term::{DomainId, Scope};

/// What the elaborator remembers of a domain beside its declaration.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    /// `grid`
    pub constructor: String,
    /// Coarsened by keeping every s-th cell.
    pub strided: bool,
    /// The domain that `coarsen` was applied to and its derivation is missing: said once.
    pub underived: bool,
}

/// Names that stand for names, at most so deep.
const MAX_ALIASES: usize = 32;

impl<'a> Elaborator<'a> {
    /// Declares every domain of the program, and reports those that are wrong.
    pub(super) fn declare_domains(&mut self) {
        for name in self.items.domains.keys().copied().collect::<Vec<_>>() {
            self.declare(name, 0);
        }
        for (_, (ty, _)) in self.items.signals.clone() {
            if let Some(ast::SignalType::Over { domain, .. }) = self.unfold(ty) {
                self.base_of(domain);
            }
        }
    }

    fn declare(&mut self, name: &str, depth: usize) -> Option<DomainId> {
        if let Some(known) = self.domains.get(name) {
            return *known;
        }
        let (body, span) = *self.items.domains.get(name)?;
        if depth > MAX_ALIASES {
            self.report.push(
                Diagnostic::error("E0210", format!("the domain `{name}` is declared by itself"))
                    .at(span, "a circle of names"),
            );
            self.domains.insert(name.to_string(), None);
            return None;
        }
        let id = self.domain_of(name, body, span, depth + 1);
        self.domains.insert(name.to_string(), id);
        id
    }

    fn domain_of(&mut self, name: &str, body: &'a ast::DomainExpr, span: Span, depth: usize) -> Option<DomainId> {
        match &body.kind {
            DomainKind::Constructor { name: word, sizes, words, ambient } => {
                if !domain::domains::names().any(|n| n == word.node) {
                    self.report.push(error::unknown(
                        "domain constructor",
                        &word.node,
                        word.span,
                        domain::domains::names(),
                    ));
                    return None;
                }
                let mut spec = self.spec(word, sizes, words, ambient.as_ref(), body)?;
                self.implied_edges(name, &mut spec);
                let made = domain::construct(&spec);
                self.made(name, made, &spec.constructor, span, body)
            }
            DomainKind::Name(other) => {
                if !self.items.domains.contains_key(other.node.as_str()) {
                    let mut names: Vec<&str> = self.items.domains.keys().copied().collect();
                    domain::domains::names().for_each(|n| names.push(n));
                    self.report.push(error::unknown("domain", &other.node, other.span, names));
                    return None;
                }
                if let Some(group) = &body.under {
                    self.report.push(error::wrong_kind(group.span, "a second group", "no group"));
                }
                self.declare(&other.node, depth)
            }
            DomainKind::Product(a, b) => {
                let (a, b) = (self.domain_of(name, a, span, depth)?, self.domain_of(name, b, span, depth)?);
                Some(self.product_of(a, b))
            }
            DomainKind::Complete(of) => {
                self.domain_of(name, of, span, depth)?;
                self.report.push(error::not_derived(body.span, "complete"));
                None
            }
        }
    }

    fn spec(
        &mut self,
        word: &ast::Ident,
        sizes: &'a [ast::SizeExpr],
        words: &[ast::Ident],
        ambient: Option<&ast::Ident>,
        body: &'a ast::DomainExpr,
    ) -> Option<DomainSpec> {
        let found: Vec<Option<Size>> = sizes.iter().map(|s| self.size(s)).collect();
        let sizes: Vec<Size> = found.into_iter().collect::<Option<_>>()?;
        let ambient_dim = match ambient {
            None => None,
            Some(space) => match space.node.strip_prefix('R').and_then(|d| d.parse::<usize>().ok()) {
                Some(d) => Some(d),
                None => {
                    self.report.push(error::unknown("space", &space.node, space.span, ["R2", "R3"]));
                    return None;
                }
            },
        };
        let group = match &body.under {
            Some(g) => Some(self.group_spec(g, 0)?),
            None => None,
        };
        let shown = sizes.iter().map(|s| self.program.sizes.show(*s)).collect::<Vec<_>>().join(", ");
        let mut text = format!("{}({shown})", word.node);
        words.iter().for_each(|w| text.push_str(&format!(" {}", w.node)));
        if let Some(space) = ambient {
            text.push_str(&format!(" in {}", space.node));
        }
        Some(DomainSpec {
            constructor: word.node.clone(),
            sizes,
            words: words.iter().map(|w| w.node.clone()).collect(),
            ambient: ambient_dim,
            group,
            text,
        })
    }

    /// Points that do not state the number of their edges have one of their own.
    fn implied_edges(&mut self, name: &str, spec: &mut DomainSpec) {
        if spec.constructor == "points"
            && let [points] = spec.sizes[..]
        {
            let hint = 16 * self.program.sizes.hint(points);
            let edges = self.program.sizes.intern(&format!("{name}.edges"), hint);
            spec.sizes.push(Size::var(edges));
        }
    }

    fn made(
        &mut self,
        name: &str,
        made: Result<std::sync::Arc<dyn domain::Domain>, DomainError>,
        constructor: &str,
        span: Span,
        body: &'a ast::DomainExpr,
    ) -> Option<DomainId> {
        match made {
            Ok(domain) => {
                let underived = matches!(domain.orbits(&domain::Neighbourhood::Point), Err(DomainError::NotDerived(_)));
                let id = self.program.domains.push(DomainDecl {
                    name: name.to_string(),
                    domain,
                    origin: Origin::Declared,
                    span,
                });
                self.kinds.insert(id, Kind { constructor: constructor.to_string(), strided: false, underived });
                Some(id)
            }
            Err(e) => {
                let place = match (&e, &body.under) {
                    (DomainError::WrongGroup { .. }, Some(group)) => group.span,
                    _ => body.span,
                };
                let sizes = self.program.sizes.clone();
                self.report.push(error::domain(place, &e, "", |s| sizes.show(s)));
                None
            }
        }
    }

    /// `n`, `64`, `n ~ 1000`, `2*n + 1`
    fn size(&mut self, size: &'a ast::SizeExpr) -> Option<Size> {
        let hint = match &size.hint {
            Some(h) => Some(self.integer(h, &Scope::default(), 1, "the expected size")?),
            None => None,
        };
        self.size_expr(&size.value, hint)
    }

    fn size_expr(&mut self, e: &'a Expr, hint: Option<usize>) -> Option<Size> {
        match &e.kind {
            ExprKind::Name(name) => Some(Size::var(self.program.sizes.intern(name, hint.unwrap_or(64)))),
            ExprKind::Number(text) => {
                let n = Rational::parse(text).and_then(Rational::as_integer).and_then(|n| usize::try_from(n).ok());
                match n {
                    Some(n) if (1..=1 << 31).contains(&n) => Some(Size::fixed(n)),
                    _ => {
                        self.report.push(error::bad_size(
                            e.span,
                            format!("a size must be a whole number from 1 to 2^31, this is {text}"),
                        ));
                        None
                    }
                }
            }
            ExprKind::Binary { op, left, right } => {
                match (op, self.size_expr(left, hint)?, self.size_expr(right, hint)?) {
                    (BinaryOp::Add, n, k) if k.as_fixed().is_some() => Some(n.plus(k.as_fixed()? as i64)),
                    (BinaryOp::Mul, k, n) | (BinaryOp::Mul, n, k) if k.as_fixed().is_some_and(|k| k < 1 << 20) => {
                        Some(n.times(k.as_fixed()?))
                    }
                    _ => {
                        self.report.push(error::bad_size(
                            e.span,
                            "a size is a number, a name, or a name times a number plus a number",
                        ));
                        None
                    }
                }
            }
            _ => {
                self.report.push(error::bad_size(
                    e.span,
                    "a size is a number, or a name for a size known when the model runs",
                ));
                None
            }
        }
    }

    /// A group with the program's names replaced.
    pub(super) fn group_spec(&mut self, g: &'a ast::GroupExpr, depth: usize) -> Option<GroupSpec> {
        if depth > MAX_ALIASES {
            self.report
                .push(Diagnostic::error("E0210", "this group is declared by itself").at(g.span, "a circle of names"));
            return None;
        }
        match &g.kind {
            GroupKind::Name(name) => match self.items.groups.get(name.as_str()) {
                Some(of) => self.group_spec(of, depth + 1),
                None => self.known_group(name, g.span),
            },
            GroupKind::Family(name, numbers) => {
                let numbers: Vec<Option<usize>> =
                    numbers.iter().map(|n| self.integer(n, &Scope::default(), 1, "the number of a group")).collect();
                let numbers: Vec<String> =
                    numbers.into_iter().map(|n| n.map(|n| n.to_string())).collect::<Option<_>>()?;
                let member = format!("{name}({})", numbers.join(", "));
                match name.as_str() {
                    "E" | "SE" => Some(GroupSpec::Name(member)),
                    _ => self.known_group(&member, g.span),
                }
            }
            GroupKind::Semidirect(a, b) => Some(GroupSpec::Semidirect(
                Box::new(self.group_spec(a, depth + 1)?),
                Box::new(self.group_spec(b, depth + 1)?),
            )),
            GroupKind::Product(a, b) => Some(GroupSpec::Product(
                Box::new(self.group_spec(a, depth + 1)?),
                Box::new(self.group_spec(b, depth + 1)?),
            )),
            GroupKind::Matrices(matrices) => {
                let mut out = Vec::new();
                for matrix in matrices {
                    let mut rows = Vec::new();
                    for row in matrix {
                        let row: Vec<Option<f64>> =
                            row.iter().map(|x| self.number(x, &Scope::default()).map(Rational::to_f64)).collect();
                        rows.push(row.into_iter().collect::<Option<Vec<f64>>>()?);
                    }
                    out.push(rows);
                }
                Some(GroupSpec::Matrices(out))
            }
            GroupKind::Permutations(cycles) => Some(GroupSpec::Permutations(cycles.clone())),
        }
    }

    fn known_group(&mut self, name: &str, span: Span) -> Option<GroupSpec> {
        let moves_points = ["shift", "perm", "warp"];
        if moves_points.contains(&name) {
            return Some(GroupSpec::named(name));
        }
        match by_name(name, &[], None) {
            Ok(_) | Err(SymmetryError::WrongSpace(_)) => Some(GroupSpec::named(name)),
            Err(SymmetryError::UnknownGroup(why)) => {
                let names = self.items.groups.keys().copied().chain(moves_points);
                let finding = error::unknown("group", name, span, names).why(why);
                self.report.push(finding);
                None
            }
            Err(other) => {
                self.report.push(
                    Diagnostic::error("E0313", format!("`{name}` is not a group the compiler can build"))
                        .at(span, "this group")
                        .why(other.to_string()),
                );
                None
            }
        }
    }

    /// The domain that a name means here: within a layer called on a coarsening, that coarsening.
    pub(super) fn domain_named(&mut self, name: &ast::Ident) -> Option<DomainId> {
        if let Some(d) = self.model.substitution.get(&name.node) {
            return Some(*d);
        }
        match self.domains.get(&name.node) {
            Some(known) => *known,
            None => {
                let names: Vec<&str> = self.items.domains.keys().copied().collect();
                let finding = error::unknown("domain", &name.node, name.span, names);
                self.report.push(finding);
                None
            }
        }
    }

    /// `A * B`, made once.
    pub(super) fn product_of(&mut self, a: DomainId, b: DomainId) -> DomainId {
        let origin = Origin::Product(a, b);
        if let Some((id, _)) = self.program.domains.iter().find(|(_, d)| d.origin == origin) {
            return id;
        }
        let (first, second) = (&self.program.domains[a], &self.program.domains[b]);
        let decl = DomainDecl {
            name: format!("{} * {}", first.name, second.name),
            domain: domain::product(&first.domain, &second.domain),
            origin,
            span: first.span,
        };
        let id = self.program.domains.push(decl);
        let underived = self.kinds[&a].underived || self.kinds[&b].underived;
        self.kinds.insert(id, Kind { constructor: "*".to_string(), strided: false, underived });
        id
    }

    /// All pairs of points of a domain.
    pub(super) fn pairs_of(&mut self, d: DomainId) -> DomainId {
        self.product_of(d, d)
    }

    /// All pairs of two different points of a domain, made once.
    pub(super) fn distinct_pairs_of(&mut self, d: DomainId) -> DomainId {
        let origin = Origin::Distinct(d);
        if let Some((id, _)) = self.program.domains.iter().find(|(_, d)| d.origin == origin) {
            return id;
        }
        let of = &self.program.domains[d];
        let decl = DomainDecl {
            name: format!("pairs of different points of {}", of.name),
            domain: domain::distinct(&of.domain),
            origin,
            span: of.span,
        };
        let id = self.program.domains.push(decl);
        let underived = self.kinds[&d].underived;
        self.kinds.insert(id, Kind { constructor: "*".to_string(), strided: false, underived });
        id
    }
}
