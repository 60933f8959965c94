//! What an expression may be while it is elaborated: a value of the model, a compile-time number, a function, a pointwise
//! definition waiting for its relation. Scopes, and the frames in which indices have a meaning.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::base::arena::Id;
use crate::base::span::Span;
use crate::syntax::ast;

use super::hir::{Aggregate, Base, Coarsening, DomainDecl, Fibre, Pointwise, Value};
use super::naming::Place;
use super::rational::Rational;

pub(super) type ValueId = Id<Value>;
pub(super) type DomainId = Id<DomainDecl>;

/// The meaning of an expression.
#[derive(Clone)]
pub(super) enum Term<'a> {
    Value(ValueId),
    Number(Rational),
    Bool(bool),
    /// A fibre that was inferred from an argument: `a` in `x: Graph -> a`.
    Fibre(Fibre),
    Tuple(Vec<(Option<String>, Term<'a>)>),
    Function(Rc<Function<'a>>),
    /// `m[i,j] = ...`
    Deferred(Rc<Deferred<'a>>),
    /// An argument without a type: an integer known when the model runs.
    RunTimeInteger,
    /// Something is wrong here and has been said: nothing more is said of what depends on it.
    Poison,
}

/// Something to be applied to arguments.
pub(super) struct Function<'a> {
    pub kind: FunctionKind<'a>,
    pub span: Span,
}

pub(super) enum FunctionKind<'a> {
    Layer { decl: &'a ast::Function, params: Vec<(String, Term<'a>)>, name: String },
    Linear { ast: &'a ast::Linear, scope: Scope<'a>, name: String },
    Bilinear { fibre: &'a ast::FibreExpr, depthwise: bool, scope: Scope<'a>, name: String },
    Mlp { widths: Vec<usize>, name: String },
    Harmonics { from: u32, to: u32 },
    Bessel { count: usize, cutoff: f64 },
    Pointwise(Pointwise),
    Gate { name: String },
    Norm { name: String },
    NormAct { name: String, f: Pointwise },
    Coarsen { how: Coarsening, factor: usize },
    Refine { factor: usize },
    Lift,
    Pool { how: Aggregate, over: Option<ast::Ident> },
    Dot,
    Degree,
}

/// A pointwise definition with two indices: its body is elaborated when it is known whether the pairs are edges or all pairs.
pub(super) struct Deferred<'a> {
    pub name: String,
    pub indices: [ast::Ident; 2],
    pub body: &'a ast::Expr,
    pub scope: Scope<'a>,
    pub place: Place,
    pub domain: DomainId,
    pub value: RefCell<Option<(Base, Term<'a>)>>,
}

/// A name in scope.
#[derive(Clone)]
pub(super) struct Entry<'a> {
    pub term: Term<'a>,
    /// How many frames were open where it was bound.
    pub level: usize,
}

/// The names that an expression sees. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Scope<'a> {
    entries: Rc<BTreeMap<String, Entry<'a>>>,
}

impl<'a> Scope<'a> {
    /// Binds a name; an older binding of it is shadowed.
    pub(super) fn bind(&mut self, name: &str, term: Term<'a>, level: usize) {
        Rc::make_mut(&mut self.entries).insert(name.to_string(), Entry { term, level });
    }

    /// The meaning of a name.
    pub(super) fn get(&self, name: &str) -> Option<&Entry<'a>> {
        self.entries.get(name)
    }

    /// The names, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }
}

/// Inside a pointwise definition or a comprehension every value lives on one base, and indices say where others are read.
#[derive(Clone)]
pub(super) enum Frame {
    /// `y[i] = ...`
    Point { i: String, domain: DomainId },
    /// `j~i`: the edges from `j` to `i`.
    Edge { i: String, j: String, domain: DomainId },
    /// `j`: all pairs `(i, j)`, points of the product domain `pairs`.
    Pair { i: String, j: String, domain: DomainId, pairs: DomainId },
}

impl Frame {
    /// Where the values of the frame live.
    pub(super) fn base(&self) -> Base {
        match self {
            Frame::Point { domain, .. } => Base::Points(*domain),
            Frame::Edge { domain, .. } => Base::Edges(*domain),
            Frame::Pair { pairs, .. } => Base::Points(*pairs),
        }
    }

    /// The domain that the indices run over.
    pub(super) fn domain(&self) -> DomainId {
        match self {
            Frame::Point { domain, .. } | Frame::Edge { domain, .. } | Frame::Pair { domain, .. } => *domain,
        }
    }

    /// The indices, the receiver or first point first.
    pub(super) fn indices(&self) -> Vec<&str> {
        match self {
            Frame::Point { i, .. } => vec![i],
            Frame::Edge { i, j, .. } | Frame::Pair { i, j, .. } => vec![i, j],
        }
    }
}
