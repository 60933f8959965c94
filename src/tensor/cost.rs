//! What a node costs: floating-point operations and bytes moved, with the expected sizes.
//!
//! A node is one kernel. A product of several tensors is one nest of loops in its best order: a function between axes
//! determines its last axis, so nothing runs over that; a sparse constant is run over its nonzeros.

use crate::base::size::SizeTable;
use crate::tensor::graph::{Graph, Type};
use crate::tensor::op::{Func, Node, Op, Slot, ValueId};

/// What is known of an operand.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// The expected sizes of its axes.
    pub dims: Vec<f64>,
    pub relation: bool,
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
            Function::Table(_) | Function::Constant(_) => (1.0, false),
        },
        Op::Input(_) | Op::Weight(_) | Op::Contract | Op::Sum | Op::Map(_) | Op::Reduce(_) | Op::View => (1.0, false),
    };
    Operand { dims, relation: ty.relation, density, free, early: !ty.needs.data && !ty.needs.tables }
}

fn density(data: &[f64]) -> f64 {
    let count = data.iter().filter(|x| **x != 0.0).count();
    count as f64 / data.len().max(1) as f64
}

/// The work of a node with these operands.
pub fn work(node: &Node, operands: &[Operand]) -> Work {
    if node.op.is_leaf() || node.op == Op::View {
        return Work::default();
    }
    let space = Space::new(node, operands);
    let bytes = 4.0 * (space.moved + space.volume(&node.out));
    let points = space.volume(&node.out);
    match node.op {
        Op::Sum => Work { flops: points * node.args.len() as f64, bytes, shape: Shape::Pointwise },
        Op::Map(f) => Work { flops: points * scalar_flops(f), bytes, shape: Shape::Pointwise },
        Op::Contract | Op::Reduce(_) => {
            let dense = node.op == Op::Contract && space.is_dense(&node.out);
            let addressing = space.live.len() <= 1 && space.bound(&node.out).is_empty();
            let shape = match (addressing, dense) {
                (true, _) => Shape::Addressing,
                (false, true) => Shape::Dense,
                (false, false) => Shape::Loops,
            };
            Work { flops: space.flops(), bytes, shape }
        }
        Op::Input(_) | Op::Weight(_) | Op::Constant(_) | Op::Relation(_) | Op::View => Work::default(),
    }
}

fn scalar_flops(f: Func) -> f64 {
    match f {
        Func::Same => 0.0,
        Func::Relu | Func::LeakyRelu(_) | Func::Abs | Func::Max | Func::Min | Func::Greater => 1.0,
        Func::Sqrt | Func::Recip | Func::SafeRecip | Func::Powi(_) => 4.0,
        Func::Exp | Func::Log | Func::Sin | Func::Cos => 12.0,
        Func::Silu | Func::Gelu | Func::Erf | Func::Tanh | Func::Sigmoid => 16.0,
    }
}

/// The loops of a node.
struct Space {
    /// The expected size of every slot.
    sizes: Vec<f64>,
    /// Slots that a function determines.
    determined: Vec<Slot>,
    /// The loops on which operands that are numbers with axes depend, directly or through functions.
    live: Vec<Vec<Slot>>,
    /// Which of these are known early.
    early: Vec<bool>,
    density: f64,
    /// Numbers read.
    moved: f64,
}

impl Space {
    fn new(node: &Node, operands: &[Operand]) -> Space {
        let n_slots = node.reads.iter().flatten().map(|s| *s as usize + 1).max().unwrap_or(0);
        let mut res = Space {
            sizes: vec![1.0; n_slots],
            determined: vec![],
            live: vec![],
            early: vec![],
            density: 1.0,
            moved: 0.0,
        };
        for (operand, reads) in operands.iter().zip(&node.reads) {
            for (slot, size) in reads.iter().zip(&operand.dims) {
                res.sizes[*slot as usize] = *size;
            }
        }
        let mut functions: Vec<(Slot, &[Slot])> = Vec::new();
        for (operand, reads) in operands.iter().zip(&node.reads) {
            match reads.split_last() {
                Some((to, from)) if operand.relation => {
                    if !from.contains(to) && !res.determined.contains(to) {
                        res.determined.push(*to);
                        functions.push((*to, from));
                    }
                    res.moved += if operand.free { 0.0 } else { res.volume(from) };
                }
                Some(_) => {
                    res.live.push(reads.clone());
                    res.early.push(operand.early);
                    res.density *= operand.density;
                    res.moved += if operand.free { 0.0 } else { res.volume(reads) };
                }
                None => (),
            }
        }
        for _ in 0..functions.len() {
            for (to, from) in &functions {
                for reads in res.live.iter_mut().filter(|r| r.contains(to)) {
                    reads.retain(|s| s != to);
                    reads.extend(*from);
                }
            }
        }
        res
    }

    /// The numbers of a tensor with these axes; a repeated one counts once.
    fn volume(&self, slots: &[Slot]) -> f64 {
        let mut distinct = slots.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        distinct.iter().map(|s| self.sizes[*s as usize]).product()
    }

    fn free(&self) -> Vec<Slot> {
        (0..self.sizes.len() as Slot).filter(|s| !self.determined.contains(s)).collect()
    }

    /// Loops whose axis is not in the result, directly or through a function.
    fn bound(&self, out: &[Slot]) -> Vec<Slot> {
        let pushed = self.determined.iter().any(|s| out.contains(s));
        self.free().into_iter().filter(|s| !out.contains(s) || pushed).collect()
    }

    /// Operations of the nest whose innermost axis is chosen best: operands without it are multiplied outside.
    fn flops(&self) -> f64 {
        let all = self.volume(&self.free()) * self.density;
        let inner = |slot: &Slot| {
            let with = self.live.iter().filter(|reads| reads.contains(slot)).count();
            let without = usize::from(with < self.live.len());
            let outside = all / self.sizes[*slot as usize].max(1.0);
            2.0 * (all * (with + without).saturating_sub(1).max(1) as f64 + outside)
        };
        self.free().iter().map(inner).fold(2.0 * all * self.live.len().max(2) as f64, f64::min)
    }

    /// Whether it is rows times columns: a tensor of the call and one known early (which is packed) share a bound axis,
    /// each has an axis of the result, there are enough columns and products, and no function leads into the result.
    fn is_dense(&self, out: &[Slot]) -> bool {
        let [a, b] = &self.live[..] else { return false };
        let (a, b) = match self.early[..] {
            [false, true] => (a, b),
            [true, false] => (b, a),
            _ => return false,
        };
        let volume = |keep: &dyn Fn(&Slot) -> bool| self.volume(&b.iter().copied().filter(keep).collect::<Vec<_>>());
        let columns = volume(&|s| out.contains(s) && !a.contains(s));
        let summed = volume(&|s| !out.contains(s));
        let shared = b.iter().any(|s| !out.contains(s) && a.contains(s));
        let rows = a.iter().any(|s| out.contains(s) && !b.contains(s));
        let pushes = self.determined.iter().any(|s| out.contains(s));
        shared && rows && columns >= 4.0 && columns * summed >= 128.0 && self.density > 0.5 && !pushes
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
