//! The kernel IR on one page.
//!
//! A [`Program`] is a list of kernels over buffers. Expressions are pure, statements have effects. Every run-time size
//! is a [`SizeVar`](crate::base::size::SizeVar); every extent an affine [`Size`] of one or a loaded number.
//!
//! ```text
//! kernel relu (call) {
//!   for parallel i in 0..n {
//!     for vector c in 0..16 { y[i, c] = max(x[i, c], 0) }
//!   }
//! }
//! ```
//!
//! Loop kinds promise, they do not prescribe: each kind means what `Serial` means, so the interpreter runs them all alike.
//! `Parallel` promises that iterations touch different memory, `Vector` that they may run in lockstep lanes
//! (the whole body, inner loops included, as in SPMD programs), `Unrolled` has a constant extent and is expanded.
//! `Blocks` and `Threads` are the two levels of a GPU (`kernel::gpu` makes them): a kernel's only outermost statement is then one loop
//! over blocks, and its effects are inside loops over the threads of a block, all of one constant extent. Where a loop over threads ends,
//! what each of them wrote is seen by the others.

use std::sync::Arc;

use crate::base::arena::{Arena, Id};
use crate::base::dtype::Dtype;
use crate::base::size::{Size, SizeTable};
use crate::kernel::narrow::Narrow;

/// All kernels of a model and the memory between them.
#[derive(Clone, Debug)]
pub struct Program {
    /// The model's name, as in the symbols.
    pub name: String,
    /// The one float type of the program, `F32` or `F64`: every float buffer has it, every float operation rounds to it.
    pub dtype: Dtype,
    pub sizes: SizeTable,
    /// Every argument has a buffer, `Memory::Input(k)` that of `inputs[k]`, whether a kernel reads it or not.
    pub inputs: Vec<Argument>,
    /// `Memory::Weight(k)` is the buffer of `weights[k]`.
    pub weights: Vec<Argument>,
    /// `Memory::Output(k)` is the buffer of `outputs[k]`.
    pub outputs: Vec<Argument>,
    pub buffers: Arena<Buffer>,
    /// The sizes that kernels of bind count. No expression and no shape has them: expressions read the count, memory is laid out for the
    /// greatest they can be.
    pub counts: Vec<Count>,
    /// In the order of execution; a stage's kernels run in this order.
    pub kernels: Vec<Kernel>,
}

/// A size that is counted from tables.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Count {
    pub size: Size,
    /// The number, `[]`; I32.
    pub buffer: Id<Buffer>,
}

/// What the caller hands over under a name; its shape and element type are those of its buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct Argument {
    /// As in the files: `x`, `z.linear.weight`, `Graph.senders`.
    pub name: String,
    pub buffer: Id<Buffer>,
    pub kind: ArgumentKind,
}

/// What kernels may rely on in an argument; whoever calls them has checked it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ArgumentKind {
    /// Numbers of the program's float type.
    Real,
    /// Indices `0 <= i < range`, given at bind; where `sorted`, not decreasing in row-major order. The buffer is I32.
    Table { range: Size, sorted: bool },
    /// Indices `0 <= i < range`, given at the call. The buffer is I32.
    Index { range: Size },
}

/// When a kernel runs. A kernel of `Bind` reads tables, constants and `Bound` buffers, and writes `Bound` buffers; one of `Prepare` reads
/// weights, constants and `Prepared` buffers, writes `Prepared` buffers and uses no run-time size; one of `Call` reads
/// everything and writes `Workspace` and `Output` buffers (and may read what it wrote there).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Once an instance of the domain: reads tables, writes `Bound` buffers.
    Bind,
    /// Once an update of the weights: reads weights, writes `Prepared` buffers.
    Prepare,
    /// Once a call.
    Call,
}

/// A row-major array: `dtype` is the program's float type or `I32`.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<Size>,
    pub memory: Memory,
}

/// Where an array lives and who owns it.
#[derive(Clone, Debug, PartialEq)]
pub enum Memory {
    /// The model's argument number `k`, in the order of the manifest; read only. Data or an index table.
    Input(usize),
    /// The model's weight number `k`; read only.
    Weight(usize),
    /// The model's result number `k`.
    Output(usize),
    /// Known at compile time, row-major, in the library's read-only data; converted to the buffer's `dtype`.
    Constant(Arc<[f64]>),
    /// Made by `bind`, kept by the caller.
    Bound,
    /// Made by `prepare`, kept by the caller.
    Prepared,
    /// Scratch of one call, planned so that lifetimes share memory.
    Workspace,
    /// Scratch of one loop iteration, of fixed size, announced by [`Stmt::Alloc`]; small ones become registers.
    Local,
}

/// One kernel: a body run once, with its expressions.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub name: String,
    pub stage: Stage,
    pub exprs: Arena<Expr>,
    pub n_vars: u32,
    pub body: Vec<Stmt>,
}

impl Contraction {
    /// Numbers of a packed matrix.
    pub fn packed_len(&self) -> usize {
        self.n_extent.div_ceil(self.panel) * self.taps * self.k_extent * self.panel
    }
}

impl Program {
    /// The size that an access reads, where it is that of a count.
    pub fn counted(&self, access: &Access) -> Option<Size> {
        self.counts.iter().find(|count| count.buffer == access.buffer).map(|count| count.size)
    }

    /// A program without arguments and kernels.
    pub fn new(name: impl Into<String>, dtype: Dtype, sizes: SizeTable) -> Program {
        assert!(dtype.is_float(), "the dtype of a program is a float type");
        Program {
            name: name.into(),
            dtype,
            sizes,
            inputs: vec![],
            weights: vec![],
            outputs: vec![],
            buffers: Arena::new(),
            counts: vec![],
            kernels: vec![],
        }
    }
}

/// A loop index or a bound value, unique in its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Var(pub u32);

/// An element of a buffer: an index for each axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    pub buffer: Id<Buffer>,
    pub index: Vec<Id<Expr>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Stmt {
    /// `for var in begin..end`, step 1.
    For { var: Var, begin: Id<Expr>, end: Id<Expr>, kind: LoopKind, body: Vec<Stmt> },
    /// `to = value`
    Store { to: Access, value: Id<Expr> },
    /// `to = f(to, value)`, floats or indices.
    Accumulate { to: Access, f: Combine, value: Id<Expr> },
    /// `var = value`: computed once, read by [`Expr::Var`].
    Let { var: Var, value: Id<Expr> },
    /// The local array exists, with undefined contents, from here to the end of the enclosing body.
    Alloc { buffer: Id<Buffer> },
    /// `if cond { then }`
    If { cond: Id<Expr>, then: Vec<Stmt> },
    /// The dense kernel.
    Contract(Box<Contraction>),
    /// What is between the two dense products of a tile of attention.
    Softmax(Softmax),
    /// A thread's share of a product of matrices by tensor cores.
    Multiply(Multiply),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoopKind {
    Serial,
    Parallel,
    Vector,
    Unrolled,
    /// `Parallel`, over the blocks of a grid.
    Blocks,
    /// `Parallel`, over the threads of a block.
    Threads,
}

/// How an accumulation combines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Combine {
    Add,
    Max,
    Min,
}

/// Bytes of a row of a panel of a packed matrix: a cache line, one vector of the widest instructions.
pub const PANEL_BYTES: usize = 64;

/// Taps that rows have at most which lie beside each other.
pub const MOST_PLACES: usize = 1024;

/// The one dense kernel: for all `m`, `n`
///
/// ```text
/// acc = Σ_tap Σ_k a(m, tap, k) · packed[n / panel, tap, k, n mod panel];   epilogue(m, n, acc)
/// ```
///
/// `a` is a load whose address moves by `a_stride` elements as `k` does, the same for every `k`; where `guard(m, tap)` is false it is a
/// row of zeros. So a window, a gather, a stride or a boundary is an address for each `(m, tap)` and never a copy.
/// `packed` is a buffer of shape `[ceil(n/panel), taps, k, panel]` whose tail columns are zero, or one such part of a buffer of parts.
/// The epilogue is run once for each `(m, n)`, vectorised along `n`; it may read and write anything indexed by `m` and `n`.
#[derive(Clone, Debug, PartialEq)]
pub struct Contraction {
    /// `m` runs over `0..m_extent`, in parallel.
    pub m: Var,
    pub m_extent: Id<Expr>,
    /// Values of `m` alone, computed once a row, before everything else (`b = m / (h·w)`, ...).
    pub row: Vec<(Var, Id<Expr>)>,
    pub n: Var,
    pub n_extent: usize,
    pub tap: Var,
    pub taps: usize,
    pub k: Var,
    pub k_extent: usize,
    /// Reads `m`, `row`, `tap`; `k` has been set to 0 by whoever wants the row's address.
    pub a: Access,
    pub a_stride: i64,
    /// Reads `m`, `row`, `tap`. No guard: always inside.
    pub guard: Option<Id<Expr>>,
    /// A promise: so many rows, from each multiple of it on, lie beside each other in memory and have one guard, so that they share their
    /// addresses; `k_extent` is then 1, `m_extent` a multiple of it, and there are [`MOST_PLACES`] taps at most. Where nothing is promised, 1.
    pub beside: usize,
    pub packed: Id<Buffer>,
    /// Which part, where `packed` has a first axis of parts.
    pub part: Option<Id<Expr>>,
    /// Columns a panel: [`PANEL_BYTES`] of them. A processor takes as many panels at once as its registers hold.
    pub panel: usize,
    /// The finished sum, read by the epilogue.
    pub acc: Var,
    pub epilogue: Vec<Stmt>,
}

/// Scores that a row of [`Softmax`] has a multiple of.
pub const SCORES: usize = 64;

/// One step of the running softmax of rows of scores (Milakov and Gimelshein 2018): for all `m` below `rows`
///
/// ```text
/// top = max(tops[m], max_{t < count} scores[m, t]);   keeps[m] = weight(tops[m], top)
/// scores[m, t] = weight(t < count ? scores[m, t] : -inf, top)
/// totals[m] = totals[m] · keeps[m] + Σ_t scores[m, t];   tops[m] = top
/// ```
///
/// where `weight(s, top)` is 1 where both are equal, as they may be infinite, and else `exp(s - top)`, within 2 units in the last place, or
/// 0 below the least normal number. Where a score or the top before is NaN, `keeps`, `totals` and `tops` become NaN, and weights may be
/// any. How the sum is rounded is the processor's. `kernel::gpu` writes it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax {
    pub rows: Id<Expr>,
    pub count: Id<Expr>,
    /// `[m, t]`, local; `t` runs through a multiple of [`SCORES`].
    pub scores: Id<Buffer>,
    /// `[m]`, local: the greatest score so far, the sum of the weights relative to it, and what is left of what was summed before.
    pub tops: Id<Buffer>,
    pub totals: Id<Buffer>,
    pub keeps: Id<Buffer>,
}

impl Softmax {
    pub fn buffers(&self) -> [Id<Buffer>; 4] {
        [self.scores, self.tops, self.totals, self.keeps]
    }
}

/// Threads of a warp.
pub const WARP: usize = 32;

/// A thread's share of a product of two matrices in shared memory, which the threads of a warp compute together on tensor cores. It stands
/// directly in a loop over threads, so that whole warps come by. Of thread `t`, with `w = t / 32`, `l = t mod 32`, and for all `i`, `j`:
///
/// ```text
/// sums[t, i, j] += Σ_k a[place, k, row] · b[place, k, column]
/// row    = (w / across · sums.shape[1] + i) · 8 + l / 4
/// column = ((w mod across) · sums.shape[2] / 2 + j / 2) · 8 + l mod 4 · 2 + j mod 2
/// ```
///
/// which is how `mma.m16n8k8` and `mma.m16n8k16` of PTX share out their tiles. All factors are numbers of `factors`, so that products are
/// exact in f32, or nearly so; how a tensor core orders and rounds its sums is its own: `Σ` in f32 is what the interpreter and CPUs do.
/// Any thread of the warp may read any factor of the warp, so none may be written in the same loop over threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multiply {
    pub factors: Narrow,
    pub thread: Id<Expr>,
    /// `[places, k, row]` and `[places, k, column]`, where `k` is over a multiple of 16.
    pub a: Id<Buffer>,
    pub b: Id<Buffer>,
    pub place: Id<Expr>,
    /// `[thread, i, j]`, of even `i` and `j`.
    pub sums: Id<Buffer>,
    /// Warps side by side along the columns.
    pub across: usize,
}

impl Multiply {
    /// The row and the column of `sums[t, i, j]`, whose last axes have these sizes.
    pub fn element(&self, sizes: (usize, usize), t: usize, (i, j): (usize, usize)) -> (usize, usize) {
        let (warp, lane) = (t / WARP, t % WARP);
        let row = (warp / self.across * sizes.0 + i) * 8 + lane / 4;
        (row, (warp % self.across * sizes.1 / 2 + j / 2) * 8 + lane % 4 * 2 + j % 2)
    }
}

/// A pure expression. Indices are i64, conditions are `bool`, the rest is the program's float type.
///
/// An expression is evaluated by each statement that uses it, at the time of that statement: an `Id` shared by two
/// statements may read a buffer before and after a store. Shared within a statement, it is one value.
/// Operands are stored in the arena before their users.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A float.
    Float(f64),
    /// An index.
    Int(i64),
    /// A size: an index, `max(scale·n + offset, 0) / divisor`.
    Size(Size),
    /// A loop index or a `Let`.
    Var(Var),
    /// An element: a float, or an index when the buffer holds integers.
    Load(Access),
    Unary {
        f: Unary,
        x: Id<Expr>,
    },
    Binary {
        f: Binary,
        x: Id<Expr>,
        y: Id<Expr>,
    },
    /// `a · b + c`, rounded once.
    Fma {
        a: Id<Expr>,
        b: Id<Expr>,
        c: Id<Expr>,
    },
    /// `if cond { x } else { y }`; both are evaluated, but loads of the side not taken are not made.
    Select {
        cond: Id<Expr>,
        x: Id<Expr>,
        y: Id<Expr>,
    },
    Compare {
        f: Comparison,
        x: Id<Expr>,
        y: Id<Expr>,
    },
    /// Both conditions.
    And {
        x: Id<Expr>,
        y: Id<Expr>,
    },
    /// An index as a float.
    ToFloat {
        x: Id<Expr>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unary {
    Neg,
    Abs,
    Sqrt,
    Exp,
    Log,
    Tanh,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    Erf,
    Sin,
    Cos,
    /// The nearest integer as a float, ties to even.
    Round,
    /// The greatest integer not above, as a float.
    Floor,
    /// `2^x`, exact, for an integer-valued `x` between the least and the greatest exponent of normal numbers
    /// (`-126..=127` in f32, `-1022..=1023` in f64); any value elsewhere, NaN included.
    Exp2Int,
    /// `e` with `x = m · 2^e`, `1 <= m < 2`, as a float, from the bits of a positive normal `x`; any value elsewhere.
    Exponent,
    /// That `m`.
    Mantissa,
    /// The nearest number of a type, as [`Narrow::nearest`] says; in f32 only.
    Rounded(Narrow),
}

/// On floats, or on indices (`Add` to `Mod`); `Div` and `Mod` of indices round towards minus
/// infinity, and their divisor is at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    /// NaN goes through.
    Max,
    Min,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    Lt,
    Le,
    Eq,
}
