//! A checked program: data types only.
//!
//! A model is a list of values in operand-first order. Layers are inlined, `repeat` unrolled, compile-time `if` decided,
//! `mlp` expanded into its linears. Comprehensions have become point-free: `h[j]` under `j~i` is a [`Op::Pull`] from points to edges,
//! `sum j~i: e` a [`Op::Push`] from edges to points. So every value is a signal: a [`Base`] it lives on and a [`Fibre`] it lives in.

use std::fmt;
use std::sync::Arc;

use crate::base::arena::{Arena, Id};
use crate::base::size::SizeTable;
use crate::base::span::Span;
use crate::domain::Domain;
use crate::symmetry::Rep;

/// All models of a file.
#[derive(Clone, Debug, Default)]
pub struct Program {
    pub sizes: SizeTable,
    pub domains: Arena<DomainDecl>,
    pub models: Vec<Model>,
    /// Layers that no model reaches, elaborated at assumed parameters (8 where there is no default) so that they are checked.
    pub layers: Vec<Model>,
}

/// A domain under the name the user gave it, or one made from it (a coarsening, a product).
#[derive(Clone, Debug)]
pub struct DomainDecl {
    /// `Pixels`, `Pixels/2`, `Set * Set`
    pub name: String,
    pub domain: Arc<dyn Domain>,
    /// What it was made from.
    pub origin: Origin,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    Declared,
    /// Blocks of `factor` points along each axis.
    Coarsened {
        of: Id<DomainDecl>,
        factor: usize,
    },
    Product(Id<DomainDecl>, Id<DomainDecl>),
    /// Ordered pairs of two different points: `(i, k)` is the pair of `i` and `i + 1 + k` modulo the number of points.
    Distinct(Id<DomainDecl>),
}

/// An exported model.
#[derive(Clone, Debug)]
pub struct Model {
    pub name: String,
    pub args: Vec<Argument>,
    pub values: Arena<Value>,
    /// Named results in order; a model with one result calls it `y`.
    pub results: Vec<(String, Id<Value>)>,
}

/// A run-time argument.
#[derive(Clone, Debug)]
pub struct Argument {
    pub name: String,
    pub ty: Type,
    pub span: Span,
}

/// One step of a model.
#[derive(Clone, Debug)]
pub struct Value {
    pub op: Op,
    pub args: Vec<Id<Value>>,
    pub ty: Type,
    pub span: Span,
}

/// `Base -> fibre`
#[derive(Clone, Debug, PartialEq)]
pub struct Type {
    pub base: Base,
    pub fibre: Fibre,
}

/// Where a signal lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Base {
    /// The same for every sample: numbers and learnt vectors.
    Constant,
    /// One value a sample (what `pool` leaves).
    Sample,
    /// One value a point.
    Points(Id<DomainDecl>),
    /// One value an edge of the domain's adjacency.
    Edges(Id<DomainDecl>),
}

/// A direct sum of blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Fibre {
    pub blocks: Vec<Block>,
}

/// `count` copies of one representation, in memory `[copy, component]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    pub count: usize,
    pub kind: BlockKind,
}

/// What one copy is. Everything derivation needs of it is in `rep`: the representation of the group that fixes a point.
#[derive(Clone, Debug, PartialEq)]
pub enum BlockKind {
    /// Scalars, regular, quotient, irreps, vectors: the word the user wrote stays inside [`Rep`].
    Rep(Arc<Rep>),
    /// Affine: differences are vectors.
    Position,
    /// One of `k` classes, one-hot: an index on input, logits on output. Behaves as `k` scalars.
    Class(usize),
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The model's argument `k`.
    Argument(usize),
    /// A number known at compile time.
    Number(f64),
    /// A learnt vector: weight `name`, the same for every sample.
    Learn {
        name: String,
        init: LearnInit,
    },
    /// The equivariant linear map of the operands joined by `++`, into the fibre of the result's type.
    /// With a radial neighbourhood the last operand is the positions.
    Linear(Linear),
    /// The equivariant bilinear map of two operands; `depthwise` keeps channels to themselves.
    Bilinear {
        name: String,
        depthwise: bool,
    },
    /// Spherical harmonics of vectors, degrees `from..=to`, component normalised.
    Harmonics {
        from: u32,
        to: u32,
    },
    /// `count` radial Bessel functions of a distance within `cutoff`, times the polynomial cutoff.
    Bessel {
        count: usize,
        cutoff: f64,
    },
    /// A pointwise function; the group permutes the components, or the fibre is invariant.
    Map(Pointwise),
    /// Gated nonlinearity: scalars through silu, the other copies times sigmoids of scalars that a linear called `name` makes.
    Gate {
        name: String,
    },
    /// `f(|v|) v / |v|` a copy, with a learnt bias inside.
    NormAct {
        name: String,
        f: Pointwise,
    },
    /// RMS over each copy and its channels, one learnt scale a copy.
    Norm {
        name: String,
    },
    /// `x + y`, of the same base or broadcast from `Constant`; of the same fibre, or one operand is one invariant number
    /// that is added to every component.
    Add,
    Sub,
    /// `s · x` with `s` one scalar or a scalar a copy, or scalars copy by copy.
    Mul,
    /// `x / s`.
    Div,
    Neg,
    /// `x^k` of scalars.
    Power(i32),
    /// Contraction within a copy; on scalars over all channels.
    Dot,
    /// The length of each copy; on scalars over all channels, as [`Op::Dot`].
    Length,
    /// `++`
    Concat,
    /// A point's value on its edges.
    Pull(End),
    /// A point's value on pairs of points: as the `First` or the `Second` of the pair.
    Spread(Place),
    /// One value a sample, or the same for all, on every point (or edge) of the base.
    Broadcast,
    /// Edges to their receivers, or pairs to their first point.
    Push(Aggregate),
    /// Softmax over the edges of a receiver, or over the second point of a pair.
    Softmax,
    /// `Σ_j softmax_j(score) · value`: operands score and value, on edges or pairs.
    Attend,
    /// The number of senders of a point.
    Degree,
    /// The gradient of a number a sample by a signal: operands the number, the signal, and signals that are held fixed.
    Grad,
    Coarsen {
        how: Coarsening,
        factor: usize,
    },
    /// Each cell repeated `factor` times along each axis.
    Refine {
        factor: usize,
    },
    /// Scalars to functions on the group that fixes a point, constant along it.
    Lift,
    /// The same numbers, under a subgroup.
    Restrict,
    /// Over the domain; `invariant` also over the group, where it permutes the fibre.
    Pool {
        how: Aggregate,
        invariant: bool,
    },
}

/// `linear F over N` and `depthwise F over N`.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// Prefix of the weights' names: `z.linear`, `m.mlp.1`.
    pub name: String,
    pub over: Over,
    pub bias: bool,
    /// Every channel to itself.
    pub depthwise: bool,
}

/// The pairs of points that a linear map joins.
#[derive(Clone, Debug, PartialEq)]
pub enum Over {
    /// The point itself.
    Point,
    /// A window of a grid: how many cells along each axis, odd or even.
    Window(Vec<usize>),
    /// A disc of a grid.
    Disk(f64),
    /// The whole Hom space.
    All,
    /// The edges.
    Edges,
    /// Points within a cutoff.
    Radius { cutoff: f64, radial: Radial },
}

/// How a weight depends on the distance.
#[derive(Clone, Debug, PartialEq)]
pub enum Radial {
    /// Linear in 8 Bessel functions times a polynomial cutoff (p = 6).
    Bessel,
    /// A network of the Bessel functions with these hidden widths and silu between.
    Mlp(Vec<usize>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pointwise {
    Relu,
    LeakyRelu,
    Silu,
    Gelu,
    Tanh,
    Sigmoid,
    Exp,
    Log,
    Sqrt,
    Sin,
    Cos,
}

/// Which end of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Sender,
    Receiver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    First,
    Second,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    Sum,
    Mean,
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coarsening {
    Mean,
    Max,
    Stride,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LearnInit {
    Zeros,
    Ones,
    Normal,
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Base::Constant => f.write_str("constant"),
            Base::Sample => f.write_str("sample"),
            Base::Points(id) => write!(f, "points {id:?}"),
            Base::Edges(id) => write!(f, "edges {id:?}"),
        }
    }
}
