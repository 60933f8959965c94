//! `linear`, `depthwise`, `bilinear` and `mlp`: the fibres and the neighbourhood they join, and whether a map exists at all.

use crate::base::diagnostic::Diagnostic;
use crate::base::span::Span;
use crate::domain::{Boundary, Neighbourhood, Orbits};
use crate::syntax::ast::{self, Expr, ExprKind, NeighbourhoodKind};

use super::Elaborator;
use super::apply::Argument;
use crate::sema::error;
use crate::sema::hir::{Base, BlockKind, Fibre, Linear, Op, Over, Pointwise, Radial};
use crate::sema::term::{DomainId, Scope, Term, ValueId};

impl<'a> Elaborator<'a> {
    /// `linear F over N (x, y)`
    pub(super) fn linear(
        &mut self,
        ast: &'a ast::Linear,
        scope: &Scope<'a>,
        name: &str,
        args: Vec<Argument<'a>>,
        span: Span,
    ) -> Term<'a> {
        let places: Vec<Span> = args.iter().map(|(_, s)| *s).collect();
        let Some(values) = self.values(args) else { return Term::Poison };
        let Some((mut operands, base)) = self.joined(&values, span) else { return Term::Poison };
        for (&x, place) in operands.iter().zip(&places) {
            if self.refuses_positions(x, if ast.depthwise { "`depthwise`" } else { "`linear`" }, *place) {
                return Term::Poison;
            }
        }
        let group = self.group_for(&operands, base);
        let Some(fibre) = self.fibre_of(&ast.fibre, &group, scope) else { return Term::Poison };
        if fibre.has_position() {
            return self.fail(
                Diagnostic::error("E0309", "no linear map makes positions")
                    .at(ast.fibre.span, "output: positions")
                    .why("a linear map sends 0 to 0, and no position is fixed by the translations")
                    .hint("make a vector and add it to a position: `x + linear vector (h)`"),
            );
        }
        let Some(over) = self.over(ast, base, scope) else { return Term::Poison };
        let radial = matches!(over, Over::Radius { .. });
        let fibre = if ast.depthwise { self.depthwise_fibre(&operands, fibre) } else { Some(fibre) };
        let Some(fibre) = fibre else { return self.fail(depthwise_copies(ast.fibre.span)) };
        if !self.maps_exist(&operands, &fibre, &over, base, span) {
            return Term::Poison;
        }
        match (&ast.at, radial) {
            (Some(at), true) => match self.positions(at, scope, base) {
                Some(r) => operands.push(r),
                None => return Term::Poison,
            },
            (None, true) => {
                return self.fail(
                    Diagnostic::error("E0314", "a cutoff radius needs the positions")
                        .at(span, "distances between which positions?")
                        .hint("name the signal of positions: `over 5.0 at r`"),
                );
            }
            (Some(at), false) => {
                return self.fail(error::wrong_kind(at.span, "the positions of a cutoff radius", "no `at`"));
            }
            (None, false) => {}
        }
        let mut types: Vec<String> = operands.iter().map(|v| self.show(*v)).collect();
        types.push(fibre.describe());
        self.instance(name, span, types.join(" to "));
        let op = Op::Linear(Linear {
            name: name.to_string(),
            over: over.clone(),
            bias: !ast.nobias,
            depthwise: ast.depthwise,
        });
        let result = self.push(op, operands, base, fibre, span);
        self.add_reach(result, &over, base);
        Term::Value(result)
    }

    /// The operands on one base, all of them spread over it.
    fn joined(&mut self, values: &[ValueId], span: Span) -> Option<(Vec<ValueId>, Base)> {
        if values.is_empty() {
            self.report.push(error::arity(span, "a linear map", "at least 1 argument", 0));
            return None;
        }
        let (values, base) = self.on_one_base(values, span)?;
        Some((
            values
                .into_iter()
                .map(|v| if base == Base::Constant { v } else { self.broadcast(v, base, span) })
                .collect(),
            base,
        ))
    }

    fn group_for(&self, operands: &[ValueId], base: Base) -> crate::symmetry::GroupRef {
        match base {
            Base::Points(_) | Base::Edges(_) => self.group_over(base),
            Base::Constant | Base::Sample => operands
                .iter()
                .map(|v| self.group_of(*v))
                .find(|g| !g.same_as(self.trivial.as_ref()))
                .unwrap_or_else(|| self.trivial.clone()),
        }
    }

    /// e3nn's `uvu`: as many copies out as in, so the fibre written is that of one copy.
    fn depthwise_fibre(&self, operands: &[ValueId], fibre: Fibre) -> Option<Fibre> {
        let [x, ..] = operands else { return None };
        let counts: Vec<usize> = self.fibre(*x).blocks.iter().map(|b| b.count).collect();
        let channels = *counts.first()?;
        let same_in = counts.iter().all(|c| *c == channels);
        match &fibre.blocks[..] {
            _ if !same_in => None,
            blocks if blocks.iter().all(|b| b.count == channels) => Some(fibre),
            [only] if only.count == 1 => {
                let mut block = only.clone();
                block.count = channels;
                Some(Fibre { blocks: vec![block] })
            }
            _ => None,
        }
    }

    /// The neighbourhood, known to the domain and mapped to itself by its group.
    fn over(&mut self, ast: &'a ast::Linear, base: Base, scope: &Scope<'a>) -> Option<Over> {
        let Some(n) = &ast.over else {
            if let Some(by) = &ast.by {
                self.report.push(error::wrong_kind(by.span, "the radial network of a cutoff radius", "no `by`"));
                return None;
            }
            return Some(Over::Point);
        };
        let Base::Points(domain) = base else {
            let shown = self.show_base(base);
            self.report.push(
                Diagnostic::error("E0314", "a neighbourhood joins points of a domain")
                    .at(n.span, format!("the input is {shown}"))
                    .hint("without `over` the map is pointwise"),
            );
            return None;
        };
        let over = self.neighbourhood(n, ast, domain, scope)?;
        let asked = match &over {
            Over::Point => Neighbourhood::Point,
            Over::Window(k) => Neighbourhood::Window(k.clone()),
            Over::Disk(r) => Neighbourhood::Disk(*r),
            Over::All => Neighbourhood::All,
            Over::Edges => Neighbourhood::Edges,
            Over::Radius { cutoff, .. } => Neighbourhood::Radius(*cutoff),
        };
        let decl = &self.program.domains[domain];
        match decl.domain.orbits(&asked) {
            Ok(orbits) => {
                if let (Over::Disk(r), Orbits::Lattice { .. }) = (&over, &orbits) {
                    let group = decl.domain.symmetry();
                    self.report.push(
                        Diagnostic::note("N0502", format!("a disc of radius {r} on a grid is approximate"))
                            .at(n.span, "cells whose centres lie within")
                            .why(format!("the layer is exactly equivariant under {group}, and under other rotations only approximately")),
                    );
                }
                Some(over)
            }
            Err(e) => {
                let (sizes, known) = (self.program.sizes.clone(), decl.domain.neighbourhoods());
                self.report.push(error::domain(n.span, &e, known, |s| sizes.show(s)));
                None
            }
        }
    }

    fn neighbourhood(
        &mut self,
        n: &'a ast::Neighbourhood,
        ast: &'a ast::Linear,
        domain: DomainId,
        scope: &Scope<'a>,
    ) -> Option<Over> {
        let has_space = self.program.domains[domain].domain.ambient().is_some();
        Some(match &n.kind {
            NeighbourhoodKind::Box(extents) => {
                let extents: Vec<Option<usize>> =
                    extents.iter().map(|k| self.integer(k, scope, 1, "the side of a window")).collect();
                Over::Window(extents.into_iter().collect::<Option<_>>()?)
            }
            NeighbourhoodKind::Disk(r) => Over::Disk(self.number(r, scope)?.to_f64()),
            NeighbourhoodKind::All => Over::All,
            NeighbourhoodKind::Edges => Over::Edges,
            NeighbourhoodKind::Number(r) if has_space => {
                let radial = match &ast.by {
                    None => Radial::Bessel,
                    Some(by) => Radial::Mlp(self.radial_widths(by, scope)?),
                };
                Over::Radius { cutoff: self.number(r, scope)?.to_f64(), radial }
            }
            NeighbourhoodKind::Number(k) => {
                let axes = self.program.domains[domain].domain.axes().len();
                let k = self.integer(k, scope, 1, "the side of a window")?;
                if axes != 1 && self.program.domains[domain].domain.boundary().is_some() {
                    let shown = vec![k.to_string(); axes].join("x");
                    self.report.push(
                        Diagnostic::error("E0314", format!("a window on a grid of {axes} axes has {axes} sides"))
                            .at(n.span, "one number")
                            .hint(format!("write `over {shown}`")),
                    );
                    return None;
                }
                Over::Window(vec![k])
            }
            NeighbourhoodKind::Past(_) | NeighbourhoodKind::Cap(_) | NeighbourhoodKind::Ring(_) => {
                let word = match &n.kind {
                    NeighbourhoodKind::Past(_) => "past",
                    NeighbourhoodKind::Cap(_) => "cap",
                    _ => "ring",
                };
                self.report.push(error::not_derived(n.span, &format!("over {word}")));
                return None;
            }
        })
    }

    fn radial_widths(&mut self, by: &'a Expr, scope: &Scope<'a>) -> Option<Vec<usize>> {
        match &by.kind {
            ExprKind::Bracket { base, args } if matches!(&base.kind, ExprKind::Name(n) if n == "mlp") => {
                self.widths(args, scope, by.span)
            }
            _ => {
                self.report.push(error::wrong_kind(
                    by.span,
                    "another expression",
                    "the hidden widths of the radial network, `by mlp[64, 64]`,",
                ));
                None
            }
        }
    }

    /// `at r`: the positions that give the distances.
    fn positions(&mut self, at: &'a Expr, scope: &Scope<'a>, base: Base) -> Option<ValueId> {
        let term = self.expr(at, scope);
        let r = self.as_value(term, at.span)?;
        let shown = self.show(r);
        let is_position = matches!(&self.fibre(r).blocks[..], [b] if b.kind == BlockKind::Position && b.count == 1);
        if self.base(r) != base || !is_position {
            self.report.push(error::wrong_kind(
                at.span,
                &format!("`{shown}`"),
                &format!("a signal `{} -> position`", self.show_base(base)),
            ));
            return None;
        }
        Some(r)
    }

    /// A window on a grid with zeros beyond its edge feels the edge so many cells away.
    fn add_reach(&mut self, result: ValueId, over: &Over, base: Base) {
        let Base::Points(domain) = base else { return };
        if self.program.domains[domain].domain.boundary() != Some(Boundary::Zero) {
            return;
        }
        let radius = match over {
            Over::Window(k) => k.iter().max().map_or(0, |k| k / 2),
            Over::Disk(r) => r.floor() as usize,
            Over::Point | Over::All | Over::Edges | Over::Radius { .. } => 0,
        };
        self.model.reach[result.index()] += radius * self.cells_per_cell(domain);
    }

    /// `bilinear F (a, b)`
    pub(super) fn bilinear(
        &mut self,
        fibre: &'a ast::FibreExpr,
        depthwise: bool,
        scope: &Scope<'a>,
        name: &str,
        args: Vec<Argument<'a>>,
        span: Span,
    ) -> Term<'a> {
        if args.len() != 2 {
            return self.fail(error::arity(span, "`bilinear`", "2 arguments", args.len()));
        }
        let Some(values) = self.values(args) else { return Term::Poison };
        let Some((operands, base)) = self.joined(&values, span) else { return Term::Poison };
        for &x in &operands {
            if self.refuses_positions(x, "`bilinear`", span) {
                return Term::Poison;
            }
        }
        let group = self.group_for(&operands, base);
        let place = fibre.span;
        let Some(fibre) = self.fibre_of(fibre, &group, scope) else { return Term::Poison };
        if depthwise && self.fibre(operands[0]).copies() != self.fibre(operands[1]).copies() {
            let of = |v: &ValueId| self.fibre(*v).describe();
            let (a, b) = (of(&operands[0]), of(&operands[1]));
            return self.fail(copies_of_factors(span, &a, &b));
        }
        let fibre = if depthwise { self.depthwise_fibre(&operands, fibre) } else { Some(fibre) };
        let Some(fibre) = fibre else { return self.fail(depthwise_copies(place)) };
        if !self.product_exists(operands[0], operands[1], &fibre, span) {
            return Term::Poison;
        }
        let mut types: Vec<String> = operands.iter().map(|v| self.show(*v)).collect();
        types.push(fibre.describe());
        self.instance(name, span, types.join(" to "));
        Term::Value(self.push(Op::Bilinear { name: name.to_string(), depthwise }, operands, base, fibre, span))
    }

    /// `mlp[a, b](x, y)`: linear to each width, silu between, the last one linear.
    pub(super) fn mlp(&mut self, widths: &[usize], name: &str, args: Vec<Argument<'a>>, span: Span) -> Term<'a> {
        let Some(values) = self.values(args) else { return Term::Poison };
        let Some((mut operands, base)) = self.joined(&values, span) else { return Term::Poison };
        for &x in &operands {
            if self.refuses_positions(x, "`mlp`", span) {
                return Term::Poison;
            }
        }
        let group = self.group_for(&operands, base);
        let mut types: Vec<String> = operands.iter().map(|v| self.show(*v)).collect();
        types.push(format!("{widths:?}"));
        self.instance(name, span, types.join(" to "));
        for (k, &width) in widths.iter().enumerate() {
            let fibre = Fibre::scalars(width, &group);
            if k == 0 && !self.maps_exist(&operands, &fibre, &Over::Point, base, span) {
                return Term::Poison;
            }
            let op = Op::Linear(Linear {
                name: format!("{name}.{}", k + 1),
                over: Over::Point,
                bias: true,
                depthwise: false,
            });
            let mut value = self.push(op, std::mem::take(&mut operands), base, fibre.clone(), span);
            if k + 1 < widths.len() {
                value = self.push(Op::Map(Pointwise::Silu), vec![value], base, fibre, span);
            }
            operands = vec![value];
        }
        Term::Value(operands[0])
    }
}

fn copies_of_factors(span: Span, a: &str, b: &str) -> Diagnostic {
    Diagnostic::error("E0310", "`depthwise bilinear` multiplies copy by copy, so both factors have as many copies")
        .at(span, format!("`{a}` and `{b}`"))
        .why("each copy of the result is made of one copy of each factor")
        .hint("`linear F` first gives a factor as many copies; `bilinear` multiplies all copies of one with all of the other")
}

fn depthwise_copies(place: Span) -> Diagnostic {
    Diagnostic::error("E0310", "`depthwise` keeps every channel to itself, so input and output have as many copies")
        .at(place, "not one fibre, nor as many copies as the input")
        .hint("write the fibre of one channel: `depthwise irreps(0..L)`")
}
