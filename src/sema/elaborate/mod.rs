//! Expressions → values of a model: layers inlined, `repeat` unrolled, comprehensions made point-free.
//!
//! Reading order: this file (the state and how values are made), `expression` (what each expression means), `apply` (functions),
//! `linear`, `existence`, `nonlinear`, `arithmetic`, `gradient`, `index` (frames and comprehension), `resize` (coarsen, pool), `fibres`, `domains`, `signature`, `models`.

mod apply;
mod arithmetic;
mod domains;
mod existence;
mod expression;
mod fibres;
mod gradient;
mod index;
mod linear;
mod models;
mod nonlinear;
mod resize;
mod signature;

pub(super) use expression::WORDS;
pub(super) use signature::plain_name;

use std::collections::BTreeMap;

use crate::base::arena::Arena;
use crate::base::diagnostic::Diagnostic;
use crate::base::span::Span;
use crate::domain::acting::trivial;
use crate::symmetry::GroupRef;

use super::declare::Items;
use super::error;
use super::hir::{self, Base, Fibre, Op, Type, Value};
use super::naming::Names;
use super::report::Report;
use super::term::{DomainId, Frame, Term, ValueId};

/// A model of more values than this is refused.
const MAX_VALUES: usize = 100_000;
/// So is one that calls layers more often, or deeper.
const MAX_CALLS: usize = 5_000;
const MAX_CALL_DEPTH: usize = 128;
/// Nested expressions, through all calls.
const MAX_DEPTH: usize = 1500;
/// `repeat` of more turns is refused.
const MAX_TURNS: i128 = 10_000;
/// No fibre has more components.
const MAX_COMPONENTS: usize = 1 << 20;

/// The state of the elaboration of one program.
pub(super) struct Elaborator<'a> {
    items: &'a Items<'a>,
    overrides: &'a [(String, super::rational::Rational)],
    program: hir::Program,
    report: Report,
    /// Domains by their names; none where the declaration is wrong.
    domains: BTreeMap<String, Option<DomainId>>,
    /// The constructor of each domain (`grid`), and for coarsenings whether they are strided.
    kinds: BTreeMap<DomainId, domains::Kind>,
    trivial: GroupRef,
    /// Functions that some model reached.
    reached: std::collections::BTreeSet<&'a str>,
    /// What is being elaborated now.
    model: Model<'a>,
}

/// The state of the elaboration of one model.
#[derive(Default)]
struct Model<'a> {
    values: Arena<Value>,
    args: Vec<hir::Argument>,
    /// How many cells from a zero boundary each value feels it.
    reach: Vec<usize>,
    names: Names,
    frames: Vec<Frame>,
    /// The domain that a name means within a layer called on a coarsening.
    substitution: BTreeMap<String, DomainId>,
    /// The instance behind each weight's name: where it is mentioned, and the types it joins.
    instances: BTreeMap<String, (Span, String)>,
    /// Layers being inlined, for the message of endless recursion.
    calls: Vec<&'a str>,
    call_count: usize,
    depth: usize,
    /// A bound was hit: everything that follows is poison.
    exhausted: bool,
}

impl<'a> Elaborator<'a> {
    /// An elaborator of the items, with the values of compile-time parameters set from outside.
    pub(super) fn new(
        items: &'a Items<'a>,
        overrides: &'a [(String, super::rational::Rational)],
        report: Report,
    ) -> Self {
        let trivial = trivial(1).unwrap_or_else(|e| panic!("sema: the trivial group: {e:?}"));
        Elaborator {
            items,
            overrides,
            program: hir::Program::default(),
            report,
            domains: BTreeMap::new(),
            kinds: BTreeMap::new(),
            trivial,
            reached: Default::default(),
            model: Model::default(),
        }
    }

    /// The program, if it has no errors, and the findings.
    pub(super) fn finish(self) -> (Option<hir::Program>, Vec<Diagnostic>) {
        let program = (self.report.errors() == 0).then_some(self.program);
        (program, self.report.finish())
    }

    fn fail(&mut self, finding: Diagnostic) -> Term<'a> {
        self.report.push(finding);
        Term::Poison
    }

    /// Adds a value.
    fn push(&mut self, op: Op, args: Vec<ValueId>, base: Base, fibre: Fibre, span: Span) -> ValueId {
        if self.model.values.len() >= MAX_VALUES && !self.model.exhausted {
            self.model.exhausted = true;
            self.report.push(error::too_large(span, format!("the model has more than {MAX_VALUES} values")));
        }
        let reach = args.iter().map(|a| self.model.reach[a.index()]).max().unwrap_or(0);
        self.model.reach.push(reach);
        self.model.values.push(Value { op, args, ty: Type { base, fibre }, span })
    }

    fn value(&self, id: ValueId) -> &Value {
        &self.model.values[id]
    }

    fn base(&self, id: ValueId) -> Base {
        self.value(id).ty.base
    }

    fn fibre(&self, id: ValueId) -> &Fibre {
        &self.value(id).ty.fibre
    }

    /// The group whose representations are the fibres over `base`.
    fn group_over(&self, base: Base) -> GroupRef {
        match base {
            Base::Points(d) | Base::Edges(d) => self.program.domains[d].domain.stabiliser(),
            Base::Constant | Base::Sample => self.trivial.clone(),
        }
    }

    /// The group of a value: of its domain, or of what it was pooled from.
    fn group_of(&self, id: ValueId) -> GroupRef {
        match self.base(id) {
            base @ (Base::Points(_) | Base::Edges(_)) => self.group_over(base),
            Base::Constant | Base::Sample => self.fibre(id).group().unwrap_or(&self.trivial).clone(),
        }
    }

    fn scalars(&self, n: usize, base: Base) -> Fibre {
        Fibre::scalars(n, &self.group_over(base))
    }

    /// A base in words: `Pixels`, `edges of Graph`, `one value a sample`.
    fn show_base(&self, base: Base) -> String {
        match base {
            Base::Constant => "a constant".to_string(),
            Base::Sample => "one value a sample".to_string(),
            Base::Points(d) => self.program.domains[d].name.clone(),
            Base::Edges(d) => format!("{}.edges", self.program.domains[d].name),
        }
    }

    /// A type as the user writes it: `Pixels -> 8 regular`.
    fn show_type(&self, ty: &Type) -> String {
        match ty.base {
            Base::Constant | Base::Sample => ty.fibre.describe(),
            Base::Points(_) | Base::Edges(_) => format!("{} -> {}", self.show_base(ty.base), ty.fibre.describe()),
        }
    }

    fn show(&self, id: ValueId) -> String {
        self.show_type(&self.value(id).ty)
    }

    /// What a term is, in words.
    fn kind_of(&self, term: &Term<'a>) -> String {
        match term {
            Term::Value(v) => format!("a signal `{}`", self.show(*v)),
            Term::Number(n) => format!("the number {n}"),
            Term::Bool(b) => format!("the comparison {b}"),
            Term::Fibre(_) => "a fibre".to_string(),
            Term::Tuple(parts) => format!("a tuple of {}", parts.len()),
            Term::Function(_) => "a function that is not applied".to_string(),
            Term::Deferred(d) => format!("the definition of `{}`", d.name),
            Term::RunTimeInteger => "an integer known when the model runs".to_string(),
            Term::Poison => "wrong".to_string(),
        }
    }

    /// The term as one value; numbers become constants.
    fn as_value(&mut self, term: Term<'a>, span: Span) -> Option<ValueId> {
        match term {
            Term::Value(v) => Some(v),
            Term::Number(n) => Some(self.number_value(n.to_f64(), span)),
            Term::Deferred(d) => {
                let base = if self.program.domains[d.domain].domain.edges().is_some() {
                    Base::Edges(d.domain)
                } else {
                    Base::Points(self.pairs_of(d.domain))
                };
                let term = self.force(&d, base, span);
                self.as_value(term, span)
            }
            Term::Tuple(mut parts) if parts.len() == 1 => {
                let (_, only) = parts.pop()?;
                self.as_value(only, span)
            }
            Term::Poison => None,
            Term::Bool(_) | Term::Fibre(_) | Term::Tuple(_) | Term::Function(_) | Term::RunTimeInteger => {
                let found = self.kind_of(&term);
                let mut finding = error::wrong_kind(span, &found, "a signal");
                if matches!(term, Term::Function(_)) {
                    finding = finding.hint("apply it: `x |> f` or `f(x)`");
                }
                self.report.push(finding);
                None
            }
        }
    }

    fn number_value(&mut self, x: f64, span: Span) -> ValueId {
        let fibre = self.scalars(1, Base::Constant);
        self.push(Op::Number(x), Vec::new(), Base::Constant, fibre, span)
    }

    /// The values on one base: what is the same for all points is spread over them. Numbers stay constants.
    fn on_one_base(&mut self, values: &[ValueId], span: Span) -> Option<(Vec<ValueId>, Base)> {
        let frame = self.model.frames.last().map(Frame::base);
        let bases = values.iter().map(|v| self.base(*v));
        let base = bases.filter(|b| *b != Base::Constant).max().map(|b| frame.unwrap_or(b).max(b));
        let Some(base) = base else { return Some((values.to_vec(), Base::Constant)) };
        let mut out = Vec::new();
        for &v in values {
            out.push(match self.base(v) {
                b if b == base => v,
                Base::Constant => v,
                Base::Sample => self.broadcast(v, base, span),
                Base::Points(_) | Base::Edges(_) => {
                    let (here, there) = (self.show_base(self.base(v)), self.show_base(base));
                    self.report.push(
                        Diagnostic::error("E0307", format!("signals on {here} and on {there} do not meet point by point"))
                            .at(span, format!("{here} and {there}"))
                            .hint("write a pointwise definition, `y[i] = ...`, and read each signal where it is meant: `x[i]`, `x[j]`, `e[i,j]`"),
                    );
                    return None;
                }
            });
        }
        Some((out, base))
    }

    /// The value on every point of `base`.
    fn broadcast(&mut self, v: ValueId, base: Base, span: Span) -> ValueId {
        if self.base(v) == base {
            return v;
        }
        let fibre = self.fibre(v).clone();
        self.push(Op::Broadcast, vec![v], base, fibre, span)
    }

    /// Records an instance's weights: the same name twice is one instance called twice, with the same types.
    fn instance(&mut self, name: &str, span: Span, types: String) {
        match self.model.instances.get(name) {
            None => {
                self.model.instances.insert(name.to_string(), (span, types));
            }
            Some((before, _)) if *before != span => {
                let before = *before;
                self.report.push(
                    Diagnostic::error("E0207", format!("two mentions have weights called `{name}`"))
                        .at(span, "this one")
                        .because(before, "and this one")
                        .hint("give one of them another name with `@name`; to share weights, bind the layer once and call the name"),
                );
            }
            Some((_, old)) if *old != types => {
                let why = format!("first {old}, now {types}");
                self.report.push(
                    Diagnostic::error("E0205", format!("the instance `{name}` is called on two types"))
                        .at(span, "one instance has one set of weights")
                        .why(why)
                        .hint("mention the layer again for weights of its own"),
                );
            }
            Some(_) => {}
        }
    }
}
