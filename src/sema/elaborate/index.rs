//! Indices and comprehension → point-free operations: `h[j]` under `j~i` is a pull to the edges, `sum j~i: e` a push to the points.

use std::cell::RefCell;
use std::rc::Rc;

use crate::base::diagnostic::Diagnostic;
use crate::base::span::Span;
use crate::domain::Neighbourhood;
use crate::syntax::ast::{self, Comprehension, ComprehensionHow, Expr, ExprKind, Relation};

use super::Elaborator;
use crate::sema::error;
use crate::sema::hir::{Aggregate, Base, End, Op, Origin, Place};
use crate::sema::term::{Deferred, DomainId, Frame, Scope, Term, ValueId};
use crate::sema::walk;

impl<'a> Elaborator<'a> {
    /// A name bound outside the frame in which it is mentioned.
    pub(super) fn seen_from_inside(&mut self, name: &str, term: Term<'a>, level: usize, span: Span) -> Term<'a> {
        let here = self.model.frames.len();
        let Term::Value(v) = term else { return term };
        let base = self.base(v);
        if level >= here || matches!(base, Base::Constant | Base::Sample) {
            return Term::Value(v);
        }
        let Some(frame) = self.model.frames.last().cloned() else { return Term::Value(v) };
        // A value of the pointwise definition around this comprehension is the receiver's.
        if level > 0 && base == Base::Points(frame.domain()) && !matches!(frame, Frame::Point { .. }) {
            return self.read(v, &frame, Reading::First, span);
        }
        let indices = if matches!(base, Base::Edges(_)) { "i,j" } else { frame.indices()[0] };
        self.fail(
            Diagnostic::error(
                "E0306",
                format!("`{name}` is a signal on {}, and here one point is meant", self.show_base(base)),
            )
            .at(span, "which point?")
            .hint(format!("write `{name}[{indices}]`")),
        )
    }

    /// `y[i] = e`, `m[i,j] = e`
    pub(super) fn pointwise_definition(
        &mut self,
        name: &'a ast::Ident,
        indices: &'a [ast::Ident],
        body: &'a Expr,
        span: Span,
        scope: &mut Scope<'a>,
    ) {
        let level = self.model.frames.len();
        let term = match indices {
            _ if level > 0 => self.fail(error::not_derived(span, "a pointwise definition within another")),
            [i] => match self.index_domain(body, &[&i.node], scope, span) {
                Some(domain) => {
                    let before = self.model.names.enter_binding(&name.node);
                    self.model.frames.push(Frame::Point { i: i.node.clone(), domain });
                    let term = self.expr(body, scope);
                    let term = self.in_frame(term, body.span);
                    self.model.frames.pop();
                    self.model.names.go(before);
                    term
                }
                None => Term::Poison,
            },
            [i, j] if i.node == j.node => self.fail(
                Diagnostic::error("E0306", "the two indices of a definition are two points")
                    .at(j.span, "the same index twice")
                    .hint("name the second point otherwise"),
            ),
            [i, j] => match self.index_domain(body, &[&i.node, &j.node], scope, span) {
                Some(domain) => {
                    let before = self.model.names.enter_binding(&name.node);
                    let place = self.model.names.go(before);
                    Term::Deferred(Rc::new(Deferred {
                        name: name.node.clone(),
                        indices: [i.clone(), j.clone()],
                        body,
                        scope: scope.clone(),
                        place,
                        domain,
                        value: RefCell::new(None),
                    }))
                }
                None => Term::Poison,
            },
            _ => self.fail(error::arity(name.span, "a pointwise definition", "one or two indices", indices.len())),
        };
        scope.bind(&name.node, term, level);
    }

    /// The value of a body, on the base of the frame.
    fn in_frame(&mut self, term: Term<'a>, span: Span) -> Term<'a> {
        let Some(v) = self.as_value(term, span) else { return Term::Poison };
        let base = self.model.frames.last().expect("sema: a frame is open").base();
        match self.base(v) {
            b if b == base => Term::Value(v),
            Base::Constant | Base::Sample => Term::Value(self.broadcast(v, base, span)),
            other => {
                let (have, want) = (self.show_base(other), self.show_base(base));
                self.fail(Diagnostic::error("E0306", format!("this is a signal on {have}, and one value on {want} is meant")).at(span, format!("on {have}")).hint(
                    "`softmax` keeps its index: define `a[i,j] = softmax j~i: ...`; `sum`, `mean`, `max` and `attend` reduce it",
                ))
            }
        }
    }

    /// Elaborates a definition with two indices on `base`, once.
    pub(super) fn force(&mut self, d: &Rc<Deferred<'a>>, base: Base, span: Span) -> Term<'a> {
        if let Some((known, term)) = &*d.value.borrow() {
            if *known == base {
                return term.clone();
            }
            let finding = Diagnostic::error(
                "E0306",
                format!("`{}` is read over edges in one place and over all pairs in another", d.name),
            )
            .at(span, "here over others than before")
            .hint("define it twice, once for each relation");
            return self.fail(finding);
        }
        let (i, j) = (d.indices[0].node.clone(), d.indices[1].node.clone());
        let frame = match base {
            Base::Edges(domain) => Frame::Edge { i, j, domain },
            Base::Points(pairs) => Frame::Pair { i, j, domain: d.domain, pairs },
            Base::Constant | Base::Sample => unreachable!("sema: pairs live on edges or on pairs"),
        };
        let frames = std::mem::replace(&mut self.model.frames, vec![frame]);
        let before = self.model.names.go(d.place.clone());
        let term = self.expr(d.body, &d.scope);
        let term = self.in_frame(term, d.body.span);
        self.model.names.go(before);
        self.model.frames = frames;
        *d.value.borrow_mut() = Some((base, term.clone()));
        term
    }

    /// `x[i]`, `e[i,j]`
    pub(super) fn indexed(&mut self, name: &str, term: Term<'a>, args: &'a [Expr], span: Span) -> Term<'a> {
        let mut indices = Vec::new();
        for arg in args {
            match &arg.kind {
                ExprKind::Name(n) => indices.push((n.as_str(), arg.span)),
                _ => return self.fail(error::wrong_kind(arg.span, "an expression", "an index by its name")),
            }
        }
        let Some(frame) = self.model.frames.last().cloned() else {
            return self.fail(
                Diagnostic::error("E0306", format!("no index is bound here, so `{name}[...]` has no meaning"))
                    .at(span, "outside a pointwise definition")
                    .hint(format!("use the whole signal, `{name}`, or define `y[i] = ...`")),
            );
        };
        for (index, place) in &indices {
            if !frame.indices().contains(index) {
                let known = frame.indices().join("` and `");
                return self.fail(
                    Diagnostic::error("E0201", format!("there is no index `{index}` here"))
                        .at(*place, "not bound")
                        .hint(format!("bound here: `{known}`")),
                );
            }
        }
        match term {
            Term::Deferred(d) => self.indexed_definition(&d, &indices, &frame, span),
            Term::Value(v) => self.indexed_value(name, v, &indices, &frame, span),
            Term::Poison => Term::Poison,
            other => {
                let found = self.kind_of(&other);
                self.fail(error::wrong_kind(span, &found, "a signal"))
            }
        }
    }

    fn indexed_definition(
        &mut self,
        d: &Rc<Deferred<'a>>,
        indices: &[(&str, Span)],
        frame: &Frame,
        span: Span,
    ) -> Term<'a> {
        let ordered = indices.iter().map(|(n, _)| *n).collect::<Vec<_>>() == frame.indices();
        match frame {
            Frame::Edge { .. } | Frame::Pair { .. } if ordered => self.force(d, frame.base(), span),
            Frame::Edge { .. } | Frame::Pair { .. } | Frame::Point { .. } if indices.len() == 2 => {
                self.fail(error::not_derived(
                    span,
                    &format!("`{}` read at [{}] instead of [{}]", d.name, shown(indices), frame.indices().join(",")),
                ))
            }
            Frame::Edge { .. } | Frame::Pair { .. } | Frame::Point { .. } => {
                self.fail(error::arity(span, &format!("`{}`", d.name), "two indices", indices.len()))
            }
        }
    }

    fn indexed_value(
        &mut self,
        name: &str,
        v: ValueId,
        indices: &[(&str, Span)],
        frame: &Frame,
        span: Span,
    ) -> Term<'a> {
        let base = self.base(v);
        let ordered = indices.iter().map(|(n, _)| *n).collect::<Vec<_>>() == frame.indices();
        match (base, indices) {
            (Base::Points(d), [(index, _)]) if d == frame.domain() => {
                let reading = if frame.indices()[0] == *index { Reading::First } else { Reading::Second };
                self.read(v, frame, reading, span)
            }
            (Base::Edges(_) | Base::Points(_), [_, _]) if base == frame.base() && ordered => Term::Value(v),
            (Base::Edges(d), [_, _]) if d == frame.domain() => self.fail(error::not_derived(
                span,
                &format!("`{name}[{}]` where the edges are [{}]", shown(indices), frame.indices().join(",")),
            )),
            (Base::Points(p), [_, _]) if matches!(self.program.domains[p].origin, Origin::Product(a, b) if a == frame.domain() && b == frame.domain()) => {
                self.fail(error::not_derived(
                    span,
                    &format!("`{name}[{}]` where the pairs are [{}]", shown(indices), frame.indices().join(",")),
                ))
            }
            _ => {
                let (have, over) = (self.show(v), self.program.domains[frame.domain()].name.clone());
                self.fail(
                    Diagnostic::error("E0306", format!("`{name}` cannot be read at [{}]", shown(indices)))
                        .at(span, format!("`{name}` is `{have}`"))
                        .why(format!("the indices {} are points of {over}", frame.indices().join(" and ")))
                        .hint(match base {
                            Base::Constant | Base::Sample => format!("it is the same at every point: write `{name}`"),
                            Base::Edges(_) => {
                                "a signal on edges takes the receiver and the sender, `e[i,j]`".to_string()
                            }
                            Base::Points(_) => "a signal on points takes one index".to_string(),
                        }),
                )
            }
        }
    }

    /// The value of `v`, a signal on points, at an end of the frame.
    fn read(&mut self, v: ValueId, frame: &Frame, reading: Reading, span: Span) -> Term<'a> {
        let fibre = self.fibre(v).clone();
        if matches!(frame, Frame::Pair { .. }) && fibre.has_position() && self.repeats(self.base(v)) {
            return self.fail(
                Diagnostic::error(
                    "E0303",
                    "positions of points that are no neighbours do not meet where space repeats",
                )
                .at(span, "a position, over all pairs of points")
                .why("a point has an image in every cell, and only an edge says which of them is meant")
                .hint("take the neighbours, `j~i`: each edge has the shift of its sender's cell"),
            );
        }
        let op = match (frame, reading) {
            (Frame::Point { .. }, _) => return Term::Value(v),
            (Frame::Edge { .. }, Reading::First) => Op::Pull(End::Receiver),
            (Frame::Edge { .. }, Reading::Second) => Op::Pull(End::Sender),
            (Frame::Pair { .. }, Reading::First) => Op::Spread(Place::First),
            (Frame::Pair { .. }, Reading::Second) => Op::Spread(Place::Second),
        };
        Term::Value(self.push(op, vec![v], frame.base(), fibre, span))
    }

    /// `degree(i)`
    pub(super) fn degree_at(&mut self, args: &'a [Expr], span: Span) -> Term<'a> {
        let [Expr { kind: ExprKind::Name(index), span: place }] = args else {
            return self.fail(error::arity(span, "`degree`", "one index", args.len()));
        };
        let Some(frame) = self.model.frames.last().cloned() else {
            return self.fail(
                Diagnostic::error("E0306", "no index is bound here").at(*place, "outside a pointwise definition"),
            );
        };
        if !frame.indices().contains(&index.as_str()) {
            let known = frame.indices().join("` and `");
            return self.fail(
                Diagnostic::error("E0201", format!("there is no index `{index}` here"))
                    .at(*place, "not bound")
                    .hint(format!("bound here: `{known}`")),
            );
        }
        let domain = frame.domain();
        if self.program.domains[domain].domain.edges().is_none() {
            return self.fail(error::wrong_kind(
                span,
                &format!("`{}`, which has no edges", self.program.domains[domain].domain.describe()),
                "a graph or points",
            ));
        }
        let base = Base::Points(domain);
        let degree = self.push(Op::Degree, Vec::new(), base, self.scalars(1, base), span);
        let reading = if frame.indices()[0] == index { Reading::First } else { Reading::Second };
        self.read(degree, &frame, reading, span)
    }

    /// `sum j~i: e` and its relatives
    pub(super) fn comprehension(&mut self, c: &'a Comprehension, scope: &Scope<'a>, span: Span) -> Term<'a> {
        match self.model.frames.last().cloned() {
            Some(frame @ Frame::Point { .. }) => {
                let Some(inner) = self.frame_of(c, &frame, span) else { return Term::Poison };
                if c.how == ComprehensionHow::Softmax {
                    return self.fail(
                        Diagnostic::error("E0306", "`softmax` keeps its index, and here one value a point is meant")
                            .at(span, format!("a value for each `{}`", c.index.node))
                            .hint(format!(
                                "define `a[{},{}] = softmax ...`, or use `attend`",
                                frame.indices()[0],
                                c.index.node
                            )),
                    );
                }
                self.model.frames.push(inner);
                let score = c.score.as_ref().map(|s| {
                    let term = self.expr(s, scope);
                    (self.in_frame(term, s.span), s.span)
                });
                let body = self.expr(&c.body, scope);
                let body = self.in_frame(body, c.body.span);
                self.model.frames.pop();
                self.reduce(c, body, score, frame.base(), span)
            }
            Some(frame @ (Frame::Edge { .. } | Frame::Pair { .. })) => self.softmax_here(c, &frame, scope, span),
            None => self.fail(
                Diagnostic::error("E0306", "a comprehension reduces to a point, and here is none")
                    .at(span, "outside a pointwise definition")
                    .hint("define `y[i] = ...`; `pool sum` reduces over the whole domain"),
            ),
        }
    }

    /// `a[i,j] = softmax j~i: e`: the frame is that of the definition.
    fn softmax_here(&mut self, c: &'a Comprehension, frame: &Frame, scope: &Scope<'a>, span: Span) -> Term<'a> {
        let same = frame.indices()[1] == c.index.node;
        let agrees = match (&c.relation, frame) {
            (Relation::Neighbours(i), Frame::Edge { .. }) => frame.indices()[0] == i.node,
            (Relation::All, Frame::Pair { pairs, .. }) => {
                matches!(self.program.domains[*pairs].origin, Origin::Product(..))
            }
            (Relation::Others(i), Frame::Pair { pairs, .. }) => {
                frame.indices()[0] == i.node && matches!(self.program.domains[*pairs].origin, Origin::Distinct(_))
            }
            (Relation::Neighbours(_) | Relation::All | Relation::Others(_) | Relation::UpTo(_), _) => false,
        };
        if c.how != ComprehensionHow::Softmax || !same || !agrees {
            return self.fail(error::not_derived(span, "a comprehension within a comprehension"));
        }
        let term = self.expr(&c.body, scope);
        let Term::Value(v) = self.in_frame(term, c.body.span) else { return Term::Poison };
        if !self.fibre(v).is_invariant() {
            return self.not_scalar(v, "softmax", span);
        }
        let (base, fibre) = (self.base(v), self.fibre(v).clone());
        Term::Value(self.push(Op::Softmax, vec![v], base, fibre, span))
    }

    /// The frame in which the body of a comprehension stands.
    fn frame_of(&mut self, c: &'a Comprehension, frame: &Frame, span: Span) -> Option<Frame> {
        let (i, domain) = (frame.indices()[0].to_string(), frame.domain());
        let j = c.index.node.clone();
        let named = match &c.relation {
            Relation::Neighbours(r) | Relation::Others(r) | Relation::UpTo(r) => Some(r),
            Relation::All => None,
        };
        if let Some(r) = named
            && r.node != i
        {
            self.report.push(
                Diagnostic::error("E0201", format!("there is no index `{}` here", r.node))
                    .at(r.span, "not bound")
                    .hint(format!("bound here: `{i}`")),
            );
            return None;
        }
        if j == i {
            self.report.push(
                Diagnostic::error("E0306", format!("`{j}` is bound already"))
                    .at(c.index.span, "the same index twice")
                    .hint("name the neighbour otherwise"),
            );
            return None;
        }
        match &c.relation {
            Relation::Neighbours(_) if self.program.domains[domain].domain.edges().is_some() => {
                Some(Frame::Edge { i, j, domain })
            }
            Relation::Neighbours(_) => {
                let text = self.program.domains[domain].domain.describe();
                self.report.push(
                    Diagnostic::error("E0314", format!("`{text}` has no edges, so no neighbours `{j}~{i}`"))
                        .at(span, "over the neighbours")
                        .hint(format!("`{j}` alone runs over all points of the sample")),
                );
                None
            }
            Relation::All | Relation::Others(_) => {
                let points = &self.program.domains[domain].domain;
                if points.axes().len() != 1 || points.orbits(&Neighbourhood::Point).is_err() {
                    let text = points.describe();
                    self.report.push(error::not_derived(span, &format!("all pairs of {text}")));
                    return None;
                }
                let pairs = match &c.relation {
                    Relation::Others(_) => self.distinct_pairs_of(domain),
                    Relation::All | Relation::Neighbours(_) | Relation::UpTo(_) => self.pairs_of(domain),
                };
                Some(Frame::Pair { i, j, domain, pairs })
            }
            Relation::UpTo(_) => {
                self.report.push(error::not_derived(span, &format!("`{j} <= {i}`")));
                None
            }
        }
    }

    fn reduce(
        &mut self,
        c: &'a Comprehension,
        body: Term<'a>,
        score: Option<(Term<'a>, Span)>,
        base: Base,
        span: Span,
    ) -> Term<'a> {
        let Term::Value(v) = body else { return Term::Poison };
        let fibre = self.fibre(v).clone();
        if fibre.has_position() {
            return self.fail(
                Diagnostic::error("E0303", "a sum or a mean over neighbours does not reduce positions")
                    .at(c.body.span, "a position")
                    .why("a sum of positions moves with the origin, and the mean of no neighbour is 0, which no translation keeps")
                    .hint("reduce differences: `x[i] + mean j~i: (x[j] - x[i])`"),
            );
        }
        let how = match c.how {
            ComprehensionHow::Sum => Aggregate::Sum,
            ComprehensionHow::Mean => Aggregate::Mean,
            ComprehensionHow::Max if fibre.first_not_permuted().is_some() => return self.max_of(v, c.body.span),
            ComprehensionHow::Max => Aggregate::Max,
            ComprehensionHow::Attend => {
                let Some((Term::Value(s), place)) = score else { return Term::Poison };
                let scores = self.fibre(s);
                if !scores.is_invariant() {
                    return self.not_scalar(s, "attend", place);
                }
                if scores.copies() != 1 && scores.copies() != fibre.copies() {
                    let (n, m) = (scores.copies(), fibre.copies());
                    return self.fail(
                        Diagnostic::error("E0310", format!("{n} scores for {m} copies"))
                            .at(place, "the scores")
                            .because(c.body.span, "the values")
                            .hint("`attend` takes one score, or one a copy"),
                    );
                }
                return Term::Value(self.push(Op::Attend, vec![s, v], base, fibre, span));
            }
            ComprehensionHow::Softmax => return Term::Poison,
        };
        Term::Value(self.push(Op::Push(how), vec![v], base, fibre, span))
    }

    /// The domain over which the indices of a definition run: read off the signals that are indexed by them.
    fn index_domain(&mut self, body: &'a Expr, indices: &[&'a str], scope: &Scope<'a>, span: Span) -> Option<DomainId> {
        let mut found = None;
        // A neighbour runs over the same points.
        let mut known = indices.to_vec();
        walk::each(body, &mut |e| {
            if let ExprKind::Comprehension(c) = &e.kind {
                known.push(&c.index.node);
            }
        });
        walk::each(body, &mut |e| {
            let ExprKind::Bracket { base, args } = &e.kind else { return };
            let ExprKind::Name(name) = &base.kind else { return };
            let by = |a: &Expr| matches!(&a.kind, ExprKind::Name(n) if known.contains(&n.as_str()));
            if found.is_some() || !args.iter().any(by) {
                return;
            }
            found = match scope.get(name).map(|entry| &entry.term) {
                Some(Term::Value(v)) => match self.base(*v) {
                    Base::Points(d) => match (args.len(), &self.program.domains[d].origin) {
                        (2, Origin::Product(first, _)) => Some(*first),
                        _ => Some(d),
                    },
                    Base::Edges(d) => Some(d),
                    Base::Constant | Base::Sample => None,
                },
                Some(Term::Deferred(d)) => Some(d.domain),
                _ => None,
            };
        });
        if found.is_none() && !self.has_poison(body, scope) {
            self.report.push(
                Diagnostic::error(
                    "E0306",
                    format!("the points that `{}` runs over are not known", indices.join("`, `")),
                )
                .at(span, "no signal is read at it")
                .hint("read a signal at the index, as in `x[i]`"),
            );
        }
        found
    }

    /// Whether a name within `e` stands for something that is wrong already.
    fn has_poison(&self, e: &'a Expr, scope: &Scope<'a>) -> bool {
        let mut poison = false;
        walk::each(e, &mut |e| {
            if let ExprKind::Name(n) = &e.kind {
                poison |= matches!(scope.get(n).map(|entry| &entry.term), Some(Term::Poison));
            }
        });
        poison
    }
}

/// Which of the frame's indices.
#[derive(Clone, Copy)]
enum Reading {
    First,
    Second,
}

fn shown(indices: &[(&str, Span)]) -> String {
    indices.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(",")
}
