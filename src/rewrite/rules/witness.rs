//! Random left sides for laws: a small program with random sizes, tables and numbers.

use std::collections::BTreeMap;

use crate::base::size::Size;
use crate::tensor::eval::{Arguments, Array};
use crate::tensor::graph::{Axis, Constant, Function, Graph, Init, Input, InputKind, Relation, Val, Weight};

/// A program being made at random, and what to call it with.
pub struct Sample {
    pub graph: Graph,
    pub args: Arguments,
    sizes: BTreeMap<Axis, Size>,
    state: u64,
}

impl Sample {
    /// The sample of this seed.
    pub fn new(seed: u64) -> Sample {
        Sample {
            graph: Graph::default(),
            args: Arguments::default(),
            sizes: BTreeMap::new(),
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// A number below `n` (xorshift).
    pub fn below(&mut self, n: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 16) as usize % n
    }

    /// A number between -1 and 1.
    pub fn number(&mut self) -> f64 {
        self.below(1 << 20) as f64 / (1 << 19) as f64 - 1.0
    }

    fn numbers(&mut self, dims: Vec<usize>) -> Array {
        let n: usize = dims.iter().product();
        Array { data: (0..n).map(|_| self.number()).collect(), dims }
    }

    /// An axis of a small size, fixed.
    pub fn axis(&mut self) -> Axis {
        let n = 1 + self.below(3);
        self.axis_of(Size::fixed(n))
    }

    /// An axis of a run-time size, larger than the others are expected to be.
    pub fn big_axis(&mut self) -> Axis {
        let n = self.below(6);
        let var = self.graph.sizes.intern(&format!("n{}", self.args.sizes.len()), 50);
        self.args.sizes.push(n);
        self.axis_of(Size::var(var))
    }

    /// An axis of this size.
    pub fn axis_of(&mut self, size: Size) -> Axis {
        let axis = self.graph.axis();
        self.sizes.insert(axis, size);
        axis
    }

    /// Gives `b` the size of `a`.
    pub fn same_size(&mut self, a: Axis, b: Axis) {
        self.sizes.insert(b, self.sizes[&a]);
    }

    fn dims(&self, axes: &[Axis]) -> Vec<Size> {
        axes.iter().map(|a| self.sizes[a]).collect()
    }

    fn values(&self, axes: &[Axis]) -> Vec<usize> {
        self.dims(axes).iter().map(|d| self.args.size(*d)).collect()
    }

    /// A new input or weight with these axes.
    pub fn tensor(&mut self, axes: &[Axis]) -> Val {
        let (dims, values) = (self.dims(axes), self.values(axes));
        let data = self.numbers(values.clone());
        let name = format!("t{}", self.graph.inputs.len() + self.graph.weights.len());
        let fixed = dims.iter().all(|d| d.as_fixed().is_some());
        let val = if fixed && self.below(3) == 0 {
            self.args.weights.insert(name.clone(), data);
            self.graph.weight(Weight { name, dims: values, init: Init::Normal(1.0) })
        } else {
            self.args.inputs.insert(name.clone(), data);
            self.graph.input(Input { name, dims, kind: InputKind::Real })
        };
        Val { id: val.id, axes: axes.to_vec() }
    }

    /// A new constant with these axes, of fixed sizes.
    pub fn constant(&mut self, axes: &[Axis]) -> Val {
        let dims = self.values(axes);
        let data = self.numbers(dims.clone()).data;
        let val = self.graph.constant(Constant { name: "c".into(), dims, data: data.into() });
        Val { id: val.id, axes: axes.to_vec() }
    }

    /// A function given at run time.
    pub fn table(&mut self, from: Axis, to: Axis) -> Val {
        let (dims, to_size) = (self.dims(&[from]), self.sizes[&to]);
        let (n, range) = (self.values(&[from])[0], self.args.size(to_size));
        let data = (0..n).map(|_| self.below(range.max(1)) as f64).collect();
        let name = format!("f{}", self.graph.inputs.len());
        self.args.inputs.insert(name.clone(), Array { dims: vec![n], data });
        let kind = InputKind::Table { range: to_size, sorted: false };
        let id = self.graph.inputs.push(Input { name, dims: dims.clone(), kind });
        let val = self.graph.relation(Relation { from: dims, to: to_size, map: Function::Table(id) });
        Val { id: val.id, axes: vec![from, to] }
    }

    /// A function known at compile time, perhaps partial.
    pub fn fixed_table(&mut self, from: Axis, to: Axis) -> Val {
        let (n, range) = (self.values(&[from])[0], self.values(&[to])[0]);
        let map = (0..n).map(|_| (self.below(4) > 0).then(|| self.below(range) as u32)).collect();
        let relation = Relation { from: self.dims(&[from]), to: self.sizes[&to], map: Function::Constant(map) };
        let val = self.graph.relation(relation);
        Val { id: val.id, axes: vec![from, to] }
    }

    /// The value read in another order of its axes, as a node of its own.
    pub fn view(&mut self, x: &Val, axes: &[Axis]) -> Val {
        use crate::tensor::op::{Node, Op, Slot};
        let place = |a: &Axis| x.axes.iter().position(|b| a == b).expect("an axis of the value") as Slot;
        let reads = vec![(0..x.axes.len() as Slot).collect()];
        let node = Node { op: Op::View, args: vec![x.id], reads, out: axes.iter().map(place).collect() };
        Val { id: self.graph.add(node), axes: axes.to_vec() }
    }
}
