//! Changes of domain: coarsen, refine, lift, pool.

use crate::base::diagnostic::Diagnostic;
use crate::base::size::Precondition;
use crate::base::span::Span;
use crate::domain::Block as Blocks;
use crate::symmetry::Rep;
use crate::syntax::ast;

use super::Elaborator;
use crate::sema::error;
use crate::sema::hir::{Aggregate, Base, BlockKind, Coarsening, DomainDecl, Fibre, Op, Origin};
use crate::sema::term::{DomainId, Term, ValueId};

impl<'a> Elaborator<'a> {
    /// `coarsen 2`, `coarsen max 2`, `coarsen stride 2`
    pub(super) fn coarsen(&mut self, how: Coarsening, factor: usize, x: ValueId, span: Span) -> Term<'a> {
        let Base::Points(domain) = self.base(x) else {
            let shown = self.show(x);
            return self.fail(
                error::wrong_kind(span, &format!("`{shown}`"), "a signal on points")
                    .because(self.value(x).span, "this"),
            );
        };
        if self.refuses_positions(x, "`coarsen`", span) {
            return Term::Poison;
        }
        if how == Coarsening::Max && self.fibre(x).first_not_permuted().is_some() {
            return self.max_of(x, span);
        }
        let Some(coarse) = self.coarsened(domain, how, factor, span) else { return Term::Poison };
        let fibre = self.fibre(x).clone();
        Term::Value(self.push(Op::Coarsen { how, factor }, vec![x], Base::Points(coarse), fibre, span))
    }

    /// The coarsened domain, made once; what must divide is checked now or at bind.
    fn coarsened(&mut self, of: DomainId, how: Coarsening, factor: usize, span: Span) -> Option<DomainId> {
        let strided = how == Coarsening::Stride;
        let origin = Origin::Coarsened { of, factor };
        let known = self.program.domains.iter().find(|(id, d)| d.origin == origin && self.kinds[id].strided == strided);
        if let Some((id, _)) = known {
            return Some(id);
        }
        let decl = &self.program.domains[of];
        let blocks = if strided { Blocks::Stride } else { Blocks::Cells };
        match decl.domain.coarsen(factor, blocks) {
            Ok(coarse) => {
                let word = if strided { "coarsen stride" } else { "coarsen" };
                for (size, modulus) in &coarse.exact_if {
                    let reason = format!(
                        "`{word} {factor}` on {} needs {} divisible by {modulus}",
                        decl.name,
                        self.program.sizes.show(*size)
                    );
                    let precondition = Precondition { size: *size, modulus: *modulus, reason };
                    if !self.program.sizes.preconditions.contains(&precondition) {
                        self.program.sizes.preconditions.push(precondition);
                    }
                }
                let name = format!("{}/{factor}{}", decl.name, if strided { "s" } else { "" });
                let kind = self.kinds[&of].clone();
                let id = self.program.domains.push(DomainDecl { name, domain: coarse.domain, origin, span: decl.span });
                self.kinds.insert(id, super::domains::Kind { strided, ..kind });
                Some(id)
            }
            Err(e) => {
                let sizes = self.program.sizes.clone();
                self.report.push(error::domain(span, &e, "", |s| sizes.show(s)));
                None
            }
        }
    }

    /// How many cells of the declared domain, along an axis, are one cell of this one.
    pub(super) fn cells_per_cell(&self, domain: DomainId) -> usize {
        match self.program.domains[domain].origin {
            Origin::Coarsened { of, factor } => factor.saturating_mul(self.cells_per_cell(of)),
            Origin::Declared | Origin::Product(..) | Origin::Distinct(_) => 1,
        }
    }

    /// `refine 2`: back to the domain that was coarsened by 2.
    pub(super) fn refine(&mut self, factor: usize, x: ValueId, span: Span) -> Term<'a> {
        let Base::Points(domain) = self.base(x) else {
            let shown = self.show(x);
            return self.fail(error::wrong_kind(span, &format!("`{shown}`"), "a signal on points"));
        };
        if self.refuses_positions(x, "`refine`", span) {
            return Term::Poison;
        }
        match self.refined(domain, factor) {
            Some(of) => {
                let fibre = self.fibre(x).clone();
                Term::Value(self.push(Op::Refine { factor }, vec![x], Base::Points(of), fibre, span))
            }
            None => {
                let name = self.program.domains[domain].name.clone();
                self.fail(
                    Diagnostic::error(
                        "E0315",
                        format!("`refine {factor}` goes back to a domain that `coarsen {factor}` came from"),
                    )
                    .at(span, format!("this signal is on {name}"))
                    .hint(format!("apply it to a signal that was coarsened by {factor} in blocks")),
                )
            }
        }
    }

    /// The domain from which `coarsen`, once or several times, made blocks of `factor` cells.
    fn refined(&self, domain: DomainId, factor: usize) -> Option<DomainId> {
        let (mut here, mut rest) = (domain, factor);
        while rest > 1 {
            match self.program.domains[here].origin {
                Origin::Coarsened { of, factor: by } if rest % by == 0 && !self.kinds[&here].strided => {
                    (here, rest) = (of, rest / by.max(1))
                }
                Origin::Coarsened { .. } | Origin::Declared | Origin::Product(..) | Origin::Distinct(_) => return None,
            }
        }
        (here != domain).then_some(here)
    }

    /// `lift`: scalars to functions on the point group.
    pub(super) fn lift(&mut self, x: ValueId, span: Span) -> Term<'a> {
        let fibre = self.fibre(x).clone();
        if !fibre.is_invariant() || fibre.has_position() {
            let shown = fibre.describe();
            return self.fail(
                error::wrong_kind(span, &format!("`{shown}`"), "a fibre of scalars")
                    .because(self.value(x).span, "this"),
            );
        }
        let (base, group) = (self.base(x), self.group_of(x));
        match Rep::regular(&group) {
            Ok(regular) => {
                let regular = if regular.dim() == 1 { Rep::scalar(&group) } else { regular };
                let lifted = Fibre::of(fibre.copies(), regular);
                Term::Value(self.push(Op::Lift, vec![x], base, lifted, span))
            }
            Err(_) => self.fail(
                Diagnostic::error("E0317", format!("{} has no finite regular representation", group.name()))
                    .at(span, "functions on an infinite group")
                    .hint("use `linear c irreps(0..L)`"),
            ),
        }
    }

    /// Whether positions on this base are known up to a lattice.
    pub(super) fn repeats(&self, base: Base) -> bool {
        match base {
            Base::Points(d) | Base::Edges(d) => self.program.domains[d].domain.periodic(),
            Base::Constant | Base::Sample => false,
        }
    }

    /// `pool mean`, `pool mean over Pixels`
    pub(super) fn pool(&mut self, how: Aggregate, over: Option<&ast::Ident>, x: ValueId, span: Span) -> Term<'a> {
        let base = self.base(x);
        if !matches!(base, Base::Points(_) | Base::Edges(_)) {
            let shown = self.show(x);
            return self.fail(
                error::wrong_kind(span, &format!("`{shown}`"), "a signal on points or edges")
                    .because(self.value(x).span, "one value a sample already"),
            );
        }
        if let Some(name) = over {
            let Some(domain) = self.domain_named(name) else { return Term::Poison };
            let base_domain = match base {
                Base::Points(d) | Base::Edges(d) => Some(d),
                Base::Constant | Base::Sample => None,
            };
            if base_domain != Some(domain) && !base_domain.is_some_and(|d| self.is_coarsening(d, domain)) {
                let (have, want) = (self.show_base(base), name.node.clone());
                return self.fail(
                    Diagnostic::error("E0307", format!("the signal lives on {have}, not on {want}"))
                        .at(name.span, "pooled over this"),
                );
            }
        }
        let fibre = self.fibre(x).clone();
        let permuted = fibre.first_not_permuted().is_none();
        match how {
            Aggregate::Max if !permuted => return self.max_of(x, span),
            Aggregate::Sum if fibre.has_position() => {
                return self.fail(
                    Diagnostic::error("E0303", "a sum of positions has no meaning in affine space")
                        .at(span, "depends on the origin")
                        .why("a translation by t moves the sum of n positions by n t")
                        .hint("`pool mean` is the centre, a position"),
                );
            }
            Aggregate::Mean if fibre.has_position() && self.repeats(base) => {
                return self.fail(
                    Diagnostic::error("E0303", "a mean of positions has no meaning where space repeats")
                        .at(span, "depends on which images are written")
                        .why("the same crystal with one of n points in the next cell has its mean moved by 1/n of the cell")
                        .hint("pool differences of positions, or what is made of them"),
                );
            }
            Aggregate::Sum | Aggregate::Mean | Aggregate::Max => {}
        }
        let invariant = permuted && over.is_none();
        let only_class = matches!(&fibre.blocks[..], [b] if matches!(b.kind, BlockKind::Class(_)));
        let group = self.group_of(x);
        let result = if invariant && !only_class { fibre.orbits(&group) } else { fibre };
        Term::Value(self.push(Op::Pool { how, invariant }, vec![x], Base::Sample, result, span))
    }
}
