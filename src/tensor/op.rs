//! The nodes: one enum is the builder's IR, the verifier's, and the language of the e-graph.
//!
//! Names outside, slots inside (locally nameless). The builder, the laws and the printer speak of *axes*;
//! a node stores *slots*, numbered by first appearance. `reads[k]` says under which slots the node reads the
//! axes of its `k`-th operand, in the order of that operand's type; `out` lists the slots of the result,
//! in the order of this node's type. So equal programs are equal nodes, and `x[i, i]` is a repeated slot.

use std::hash::{Hash, Hasher};

use crate::base::arena::Id;
use crate::tensor::graph::{Constant, Input, Relation, Weight};

/// A value of a graph or a class of an e-graph.
pub type ValueId = egg::Id;

/// An axis inside one node.
pub type Slot = u32;

/// One operation with its operands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    pub op: Op,
    pub args: Vec<ValueId>,
    pub reads: Vec<Vec<Slot>>,
    pub out: Vec<Slot>,
}

/// What a node does. `o` are the slots of `out`, `b` the other (bound) slots, `x_k` the operands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    /// A tensor given at the call.
    Input(Id<Input>),
    /// A tensor of learnt numbers.
    Weight(Id<Weight>),
    /// A tensor known at compile time; a scalar has no axes.
    Constant(Id<Constant>),
    /// The 0/1 tensor of a function between axes, `r[from..., to] = (to = f(from...))`.
    /// Gather, segment sum, concatenation, slices and windows are contractions with one of these.
    Relation(Id<Relation>),
    /// `y[o] = Σ_b Π_k x_k[reads_k]`
    Contract,
    /// `y[o] = Σ_k x_k[reads_k]`; an operand that lacks an axis of `o` is repeated along it. No bound slots.
    Sum,
    /// `y[o] = f(x_0[reads_0], ...)`, with the same repetition. No bound slots.
    Map(Func),
    /// `y[o] = reduce over b of x_0[reads_0]`, where further operands are relations that say which `b` belong to `o`.
    /// Nothing to reduce over: 0.
    Reduce(Reduction),
    /// The operand with its axes in another order or repeated (a diagonal). Only the e-graph makes these.
    View,
}

impl Op {
    /// Whether the operands may be put in any order.
    pub fn commutes(&self) -> bool {
        matches!(self, Op::Contract | Op::Sum)
    }

    /// Whether it has no operands.
    pub fn is_leaf(&self) -> bool {
        matches!(self, Op::Input(_) | Op::Weight(_) | Op::Constant(_) | Op::Relation(_))
    }
}

/// Reductions other than the sum, which is a contraction. On no elements each is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reduction {
    Max,
    Min,
    /// `log Σ exp`
    LogSumExp,
}

/// A scalar function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Func {
    /// `max(x, 0)`
    Relu,
    /// `x` above 0, `slope · x` below
    LeakyRelu(Real),
    /// `x / (1 + exp(-x))`
    Silu,
    /// `x Φ(x)`, with the error function, not its tanh approximation
    Gelu,
    Tanh,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    Exp,
    Log,
    Sin,
    Cos,
    /// `sqrt(max(x, 0))`
    Sqrt,
    /// `1 / x`
    Recip,
    /// `1 / x`, and 0 at 0
    SafeRecip,
    Abs,
    /// `x^k`
    Powi(i32),
    /// `max(x, y)`
    Max,
    /// `min(x, y)`
    Min,
    /// 1 where `x > y`, else 0
    Greater,
    /// The error function `2/√π ∫_0^x exp(-t²) dt`
    Erf,
    /// `x`, computed once: no law looks through it. For numbers that are compared bit for bit, so that both sides are rounded alike.
    Same,
    /// `x`, a number that the result does not depend on, as the one that a softmax subtracts of all scores of a row: its derivative is 0.
    /// Rewriting begins by reading through it.
    Held,
    /// `min(x, 0)` of a number that is above 0 only where nobody reads the result, as a score of another row relative to the greatest of its
    /// own: its derivative is 1. Rewriting begins by making it a minimum.
    Capped,
}

impl Func {
    /// The number of operands.
    pub fn arity(self) -> usize {
        match self {
            Func::Max | Func::Min | Func::Greater => 2,
            Func::Relu
            | Func::LeakyRelu(_)
            | Func::Silu
            | Func::Gelu
            | Func::Tanh
            | Func::Sigmoid
            | Func::Exp
            | Func::Log
            | Func::Sin
            | Func::Cos
            | Func::Sqrt
            | Func::Recip
            | Func::SafeRecip
            | Func::Abs
            | Func::Powi(_)
            | Func::Erf
            | Func::Same
            | Func::Held
            | Func::Capped => 1,
        }
    }
}

/// A real number as the payload of a node: compared and hashed by its bits, ordered by `total_cmp`.
#[derive(Clone, Copy, Debug)]
pub struct Real(pub f64);

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}
impl Eq for Real {}
impl Hash for Real {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}
impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Real {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
