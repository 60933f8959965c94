//! What a node costs: floating-point operations and bytes moved, with the expected sizes.
//!
//! A node is one kernel. A product of several tensors is one nest of loops in its best order: a function between axes
//! determines its last axis, so nothing runs over that; a sparse constant is run over its nonzeros.

use smallvec::SmallVec;

use crate::base::size::SizeTable;
use crate::tensor::graph::{Graph, Type};
use crate::tensor::op::{Func, Node, Op, Slot, ValueId};

/// What is known of an operand.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// The expected sizes of its axes.
    pub dims: Vec<f64>,
    pub relation: bool,
    /// The argument of a function that its value and the other arguments leave no choice for: the place of a window, given what it sees and the tap.
    pub solvable: Option<usize>,
    /// The share of its numbers that are not known to be zero.
    pub density: f64,
    /// Computed when it is loaded (a constant or an affine relation), so that no bytes are moved.
    pub free: bool,
    /// Known before data and tables are, so that it can be packed for the dense product.
    pub early: bool,
}

/// What a node costs.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Work {
    /// Multiplications and additions.
    pub flops: f64,
    /// Read and written, at 4 bytes a number.
    pub bytes: f64,
    pub shape: Shape,
}

/// Which kernel does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Shape {
    /// Nothing is done: a leaf or a view.
    #[default]
    Nothing,
    /// Another way of addressing: a slice, a gather, a window, a repetition.
    Addressing,
    /// Pointwise.
    Pointwise,
    /// A nest of loops.
    Loops,
    /// The dense matrix product, perhaps through address functions.
    Dense,
}

/// What is known of a value of a graph.
pub fn operand(graph: &Graph, id: ValueId) -> Operand {
    describe(graph, graph.ty(id), &graph.node(id).op)
}

/// What is known of a value of this type made by `op`.
pub fn describe(graph: &Graph, ty: &Type, op: &Op) -> Operand {
    use crate::tensor::graph::Function;
    let dims: Vec<f64> = ty.dims.iter().map(|d| graph.sizes.hint(*d) as f64).collect();
    let (density, free) = match op {
        Op::Constant(id) => (density(&graph.constants[*id].data), graph.constants[*id].data.len() <= 4096),
        Op::Relation(id) => match graph.relations[*id].map {
            Function::Affine { .. } => (1.0, true),
            Function::Table(_) | Function::Paired(_) | Function::Constant(_) => (1.0, false),
        },
        Op::Input(_) | Op::Weight(_) | Op::Contract | Op::Sum | Op::Map(_) | Op::Reduce(_) | Op::View => (1.0, false),
    };
    let early = !ty.needs.data && !ty.needs.tables;
    Operand { solvable: solvable(graph, op, &dims), dims, relation: ty.relation, density, free, early }
}

/// The longest argument of step 1 of an affine function, where it has about as many values as the function.
fn solvable(graph: &Graph, op: &Op, dims: &[f64]) -> Option<usize> {
    use crate::tensor::graph::{Function, Outside};
    let Op::Relation(id) = op else { return None };
    let relation = &graph.relations[*id];
    let Function::Affine { scale, divisor: 1, outside, .. } = &relation.map else { return None };
    let (to, from) = dims.split_last()?;
    let once = |k: &usize| match outside {
        Outside::Zero | Outside::Never => 2.0 * from[*k] >= *to,
        Outside::Wrap => relation.from[*k] == relation.to,
        Outside::Reflect => false,
    };
    let arguments = (0..scale.len()).filter(|k| scale[*k].abs() == 1).filter(once);
    arguments.max_by(|a, b| from[*a].total_cmp(&from[*b]))
}

fn density(data: &[f64]) -> f64 {
    let count = data.iter().filter(|x| **x != 0.0).count();
    count as f64 / data.len().max(1) as f64
}

/// The work of a node with these operands.
pub fn work(node: &Node, operands: &[Operand]) -> Work {
    let reads: Vec<Read> = operands.iter().zip(node.reads.iter().map(Vec::as_slice)).collect();
    work_of(&node.op, &reads, &node.out)
}

/// An operand, and the slots under which it is read.
pub type Read<'a> = (&'a Operand, &'a [Slot]);

/// The work of `op` on operands read under slots, which need not be numbered without gaps.
pub fn work_of(op: &Op, reads: &[Read], out: &[Slot]) -> Work {
    if op.is_leaf() || *op == Op::View {
        return Work::default();
    }
    let sizes = sizes(reads);
    let seen = reads.iter().filter_map(|(operand, slots)| Seen::new(operand, slots));
    match op {
        Op::Contract => product(&sizes, seen, mask(out)),
        Op::Reduce(_) => reduction(&sizes, seen, mask(out)),
        Op::Sum => pointwise(&sizes, seen, out, reads.len() as f64),
        Op::Map(f) => pointwise(&sizes, seen, out, scalar_flops(*f)),
        Op::Input(_) | Op::Weight(_) | Op::Constant(_) | Op::Relation(_) | Op::View => Work::default(),
    }
}

/// The sizes of the slots under which operands are read; 1 for slots that none has.
pub fn sizes(reads: &[Read]) -> Sizes {
    let mut res = Sizes::new();
    for (operand, slots) in reads {
        for (slot, size) in slots.iter().zip(&operand.dims) {
            let slot = *slot as usize;
            if slot >= res.len() {
                res.resize(slot + 1, 1.0);
            }
            res[slot] = *size;
        }
    }
    res
}

/// The work of one kernel that multiplies these and sums over the slots not in `out`.
pub fn product(sizes: &[f64], seen: impl Iterator<Item = Seen>, out: Slots) -> Work {
    let space = Space::new(sizes, seen, out);
    let shape = if space.is_dense(out) { Shape::Dense } else { Shape::Loops };
    space.nest(out, shape)
}

fn reduction(sizes: &[f64], seen: impl Iterator<Item = Seen>, out: Slots) -> Work {
    Space::new(sizes, seen, out).nest(out, Shape::Loops)
}

fn pointwise(sizes: &[f64], seen: impl Iterator<Item = Seen>, out: &[Slot], flops: f64) -> Work {
    let points = volume_of(sizes, mask(out));
    let moved: f64 = seen.map(|s| s.moved).sum();
    Work { flops: points * flops, bytes: 4.0 * (moved + points), shape: Shape::Pointwise }
}

fn scalar_flops(f: Func) -> f64 {
    match f {
        Func::Same | Func::Held | Func::Capped => 0.0,
        Func::Relu | Func::LeakyRelu(_) | Func::Abs | Func::Max | Func::Min | Func::Greater => 1.0,
        Func::Sqrt | Func::Recip | Func::SafeRecip | Func::Powi(_) => 4.0,
        Func::Exp | Func::Log | Func::Sin | Func::Cos => 12.0,
        Func::Silu | Func::Gelu | Func::Erf | Func::Tanh | Func::Sigmoid => 16.0,
    }
}

/// A set of slots, as bits: the cost of a kernel is asked for very often.
pub type Slots = u128;

/// A node has at most as many slots.
const MOST_SLOTS: usize = Slots::BITS as usize;

/// The set of these slots.
pub fn mask(slots: &[Slot]) -> Slots {
    slots.iter().fold(0, |mask, s| {
        assert!((*s as usize) < MOST_SLOTS, "a node of more than {MOST_SLOTS} axes");
        mask | 1 << s
    })
}

/// The slots of a set, in order.
pub fn each(slots: Slots) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(slots), |rest| Some(rest & rest.wrapping_sub(1)))
        .take_while(|rest| *rest != 0)
        .map(|rest| rest.trailing_zeros() as usize)
}

/// The expected size of every slot. Most nodes have few: they need no allocation.
pub type Sizes = SmallVec<[f64; 16]>;

/// The numbers of a tensor with these axes.
pub fn volume_of(sizes: &[f64], slots: Slots) -> f64 {
    each(slots).map(|s| sizes[s]).product()
}

/// What the cost of a kernel depends on, of an operand with axes that is read under slots.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The slots it is read under; of a function, those of its arguments.
    own: Slots,
    /// The slot that a function determines; none for a tensor.
    determines: Slots,
    /// The slot of the argument that is solvable; none where there is none.
    solvable: Slots,
    /// Numbers read.
    pub moved: f64,
    density: f64,
    early: bool,
}

impl Seen {
    /// None for a number: it is a factor of every element, and costs nothing.
    pub fn new(operand: &Operand, slots: &[Slot]) -> Option<Seen> {
        let (to, from) = slots.split_last()?;
        let own = mask(if operand.relation { from } else { slots });
        let mut counted = 0;
        let mut moved = if operand.free { 0.0 } else { 1.0 };
        for (slot, size) in slots.iter().zip(&operand.dims) {
            let slot = 1 << slot;
            moved *= if own & slot & !counted == 0 { 1.0 } else { *size };
            counted |= slot;
        }
        let determines = if operand.relation { 1 << to } else { 0 };
        let solvable = operand.solvable.map_or(0, |k| 1 << slots[k]);
        Some(Seen { own, determines, solvable, moved, density: operand.density, early: operand.early })
    }

    /// A tensor in memory with these axes.
    pub fn stored(own: Slots, moved: f64, early: bool) -> Seen {
        Seen { own, determines: 0, solvable: 0, moved, density: 1.0, early }
    }

    /// A function into the result, solved: the result then determines the argument.
    fn solved(self, out: Slots) -> Seen {
        if self.determines & out == 0 || self.solvable & !out == 0 || self.own & self.determines != 0 {
            return self;
        }
        Seen { own: self.own & !self.solvable | self.determines, determines: self.solvable, ..self }
    }

    /// Whether it is a tensor, and no function.
    pub fn is_tensor(&self) -> bool {
        self.determines == 0
    }
}

/// A tensor that is read, and no function.
struct Live {
    /// The loops on which its numbers depend, directly or through functions.
    loops: Slots,
    /// Whether it is known before data and tables are.
    early: bool,
}

/// The loops of a node.
struct Space<'a> {
    sizes: &'a [f64],
    /// All slots.
    all: Slots,
    /// Slots that a function determines.
    determined: Slots,
    live: SmallVec<[Live; 8]>,
    density: f64,
    /// Numbers read.
    moved: f64,
}

impl<'a> Space<'a> {
    fn new(sizes: &'a [f64], seen: impl Iterator<Item = Seen>, out: Slots) -> Space<'a> {
        let mut res = Space { sizes, all: 0, determined: 0, live: SmallVec::new(), density: 1.0, moved: 0.0 };
        let mut functions: SmallVec<[Seen; 8]> = SmallVec::new();
        for one in seen.map(|one| one.solved(out)) {
            res.all |= one.own | one.determines;
            res.moved += one.moved;
            if one.is_tensor() {
                res.live.push(Live { loops: one.own, early: one.early });
                res.density *= one.density;
            } else if (one.own | res.determined) & one.determines == 0 {
                res.determined |= one.determines;
                functions.push(one);
            }
        }
        for _ in 0..functions.len() {
            for f in &functions {
                for live in res.live.iter_mut().filter(|l| l.loops & f.determines != 0) {
                    live.loops = live.loops & !f.determines | f.own;
                }
            }
        }
        res
    }

    /// The work of the nest of loops with this result, or of addressing where nothing is computed.
    fn nest(&self, out: Slots, shape: Shape) -> Work {
        let addressing = self.live.len() <= 1 && self.bound(out) == 0;
        let shape = if addressing { Shape::Addressing } else { shape };
        Work { flops: self.flops(), bytes: 4.0 * (self.moved + self.volume(out)), shape }
    }

    fn volume(&self, slots: Slots) -> f64 {
        volume_of(self.sizes, slots)
    }

    fn free(&self) -> Slots {
        self.all & !self.determined
    }

    /// Loops whose axis is not in the result, directly or through a function.
    fn bound(&self, out: Slots) -> Slots {
        if self.pushes(out) { self.free() } else { self.free() & !out }
    }

    /// Whether a function leads into the result.
    fn pushes(&self, out: Slots) -> bool {
        self.determined & out != 0
    }

    /// Operations of the nest whose innermost axis is chosen best: operands without it are multiplied outside.
    fn flops(&self) -> f64 {
        let all = self.volume(self.free()) * self.density;
        let inner = |slot: usize| {
            let with = self.live.iter().filter(|l| l.loops >> slot & 1 == 1).count();
            let without = usize::from(with < self.live.len());
            let outside = all / self.sizes[slot].max(1.0);
            2.0 * (all * (with + without).saturating_sub(1).max(1) as f64 + outside)
        };
        each(self.free()).map(inner).fold(2.0 * all * self.live.len().max(2) as f64, f64::min)
    }

    /// Whether it is rows times columns: a tensor of the call and one known early (which is packed) share a bound axis,
    /// each has an axis of the result, there are enough columns and products, and no function leads into the result.
    fn is_dense(&self, out: Slots) -> bool {
        let [a, b] = &self.live[..] else { return false };
        let (a, b) = match (a.early, b.early) {
            (false, true) => (a.loops, b.loops),
            (true, false) => (b.loops, a.loops),
            (true, true) | (false, false) => return false,
        };
        let columns = self.volume(b & out & !a);
        let summed = self.volume(b & !out);
        let shared = a & b & !out != 0;
        let rows = a & out & !b != 0;
        shared && rows && columns >= 4.0 && columns * summed >= 128.0 && self.density > 0.5 && !self.pushes(out)
    }
}

/// The work of all values of a graph.
pub fn total(graph: &Graph) -> Work {
    let mut res = Work::default();
    for (_, node) in graph.nodes() {
        let operands: Vec<Operand> = node.args.iter().map(|id| operand(graph, *id)).collect();
        let one = work(node, &operands);
        res.flops += one.flops;
        res.bytes += one.bytes;
    }
    res
}

/// The expected number of elements of a value.
pub fn volume(sizes: &SizeTable, ty: &Type) -> f64 {
    ty.dims.iter().map(|d| sizes.hint(*d) as f64).product()
}
