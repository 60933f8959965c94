//! A program: tables of inputs, weights, constants and relations, nodes in operand-first order, outputs.
//! The builder speaks of axes; [`Val`] is a value read under axis names.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::arena::{Arena, Id};
use crate::base::size::{Size, SizeTable};
use crate::tensor::equality::Equality;
use crate::tensor::op::{Func, Node, Op, Reduction, Slot, ValueId};

/// The name of an axis, unique in a graph. The same axis in two operands is the same index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Axis(pub u32);

/// A value whose axes are called `axes`, in the order of its type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Val {
    pub id: ValueId,
    pub axes: Vec<Axis>,
}

impl Val {
    /// The same value read under other names; two old names may become one (a diagonal).
    pub fn rename(&self, names: &[(Axis, Axis)]) -> Val {
        let new = |a: &Axis| names.iter().find(|(old, _)| old == a).map_or(*a, |(_, new)| *new);
        Val { id: self.id, axes: self.axes.iter().map(new).collect() }
    }

    /// Whether the value has this axis.
    pub fn has(&self, axis: Axis) -> bool {
        self.axes.contains(&axis)
    }
}

/// A tensor given at the call, row-major in the order of `dims`.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// As in the files: `x`, `Graph.senders`.
    pub name: String,
    pub dims: Vec<Size>,
    pub kind: InputKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum InputKind {
    /// Real numbers, of the dtype of the program.
    Real,
    /// Indices below `range`; `sorted` where they must not decrease. `bind` time, not `call` time.
    Table { range: Size, sorted: bool },
    /// Class indices below `range` given at the call (a one-hot vector by its index).
    Index { range: Size },
}

/// A tensor of learnt numbers, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// As in the files: `z.linear.weight`.
    pub name: String,
    pub dims: Vec<usize>,
    pub init: Init,
}

/// How a weight starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    Zeros,
    Ones,
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
}

/// A tensor known at compile time, row-major. Sparse ones are recognised by their zeros.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// For printing: `CG(1,1,2)`, `p4m 5x5`.
    pub name: String,
    pub dims: Vec<usize>,
    pub data: Arc<[f64]>,
}

/// A partial function from axes of sizes `from` to an axis of size `to`.
#[derive(Clone, Debug, PartialEq)]
pub struct Relation {
    pub from: Vec<Size>,
    pub to: Size,
    pub map: Function,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Function {
    /// A run-time table: an input of shape `from` (kind `Table` or `Index`).
    Table(Id<Input>),
    /// A table that is made of given ones when an instance is.
    Paired(Paired),
    /// A compile-time table over `from`, row-major (all sizes fixed); `None` where it is not defined.
    Constant(Arc<[Option<u32>]>),
    /// `to = floor((Σ_k scale_k · from_k + offset) / divisor)`, with what happens outside `0..to`.
    /// Windows: scale (1, 1), offset -p. Blocks of s: (s, 1). Slices: (1), offset. Refinement: (1), divisor s. Flips: (-1).
    Affine { scale: Vec<i64>, offset: Affine, divisor: i64, outside: Outside },
}

/// The classes of places with the same two ends, in either order, numbered by their first place: of two tables `a` and `b` of one length,
/// `{a[e], b[e]} = {a[f], b[f]}`. How many there are is a size that is counted ([`SizeTable::counted`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paired {
    pub ends: [Id<Input>; 2],
    pub way: PairedWay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairedWay {
    /// From a place to its class.
    Class,
    /// From a class to its first place: increasing.
    First,
}

impl Function {
    /// Whether it is a table of an instance.
    pub fn is_table(&self) -> bool {
        match self {
            Function::Table(_) | Function::Paired(_) => true,
            Function::Constant(_) | Function::Affine { .. } => false,
        }
    }

    /// The tables that it is, or is made of.
    pub fn tables_mut(&mut self) -> &mut [Id<Input>] {
        match self {
            Function::Table(input) => std::slice::from_mut(input),
            Function::Paired(paired) => &mut paired.ends,
            Function::Constant(_) | Function::Affine { .. } => &mut [],
        }
    }
}

/// `constant + scale · size`: an offset that may need the run-time size (`n - 1` for a flip).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    pub constant: i64,
    pub size: Option<Size>,
}

/// What an affine function does outside `0..to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// Not defined there: reads as zero.
    Zero,
    /// Modulo `to` (torus).
    Wrap,
    /// Mirrored at the edge cells, without repeating them (`-1` reads `1`).
    Reflect,
    /// Never happens: the builder promises it.
    Never,
}

/// A named result, in memory row-major: memory axis `k` is axis `order[k]` of the value's type.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub name: String,
    pub id: ValueId,
    pub order: Vec<usize>,
}

/// What a value needs to be known: the hoisting lattice of compile, bind, prepare and call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Needs {
    pub weights: bool,
    pub tables: bool,
    pub data: bool,
}

impl Needs {
    /// What both need.
    pub fn and(self, other: Needs) -> Needs {
        Needs {
            weights: self.weights || other.weights,
            tables: self.tables || other.tables,
            data: self.data || other.data,
        }
    }
}

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    pub dims: Vec<Size>,
    /// Whether it is a relation: the last axis is a function of the others.
    pub relation: bool,
    pub needs: Needs,
}

/// A program.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub sizes: SizeTable,
    pub inputs: Arena<Input>,
    pub weights: Arena<Weight>,
    pub constants: Arena<Constant>,
    pub relations: Arena<Relation>,
    pub outputs: Vec<Output>,
    /// Other programs for some of the values.
    pub equalities: Vec<Equality>,
    nodes: Vec<Node>,
    types: Vec<Type>,
    known: BTreeMap<Node, ValueId>,
    n_axes: u32,
}

impl Graph {
    /// A graph with the same tables and axis names, without values, outputs and equalities.
    pub fn tables(&self) -> Graph {
        Graph {
            sizes: self.sizes.clone(),
            inputs: self.inputs.clone(),
            weights: self.weights.clone(),
            constants: self.constants.clone(),
            relations: self.relations.clone(),
            n_axes: self.n_axes,
            ..Graph::default()
        }
    }

    /// A fresh axis name.
    pub fn axis(&mut self) -> Axis {
        self.n_axes += 1;
        Axis(self.n_axes - 1)
    }

    /// Fresh names for all axes of a value of this type.
    pub fn fresh(&mut self, id: ValueId) -> Val {
        let axes = (0..self.ty(id).dims.len()).map(|_| self.axis()).collect();
        Val { id, axes }
    }

    /// The type of a value.
    pub fn ty(&self, id: ValueId) -> &Type {
        &self.types[usize::from(id)]
    }

    /// The size of an axis of a value. Panics when the value lacks it.
    pub fn size(&self, val: &Val, axis: Axis) -> Size {
        let at = val.axes.iter().position(|a| *a == axis).expect("the value has the axis");
        self.ty(val.id).dims[at]
    }

    /// The node of a value.
    pub fn node(&self, id: ValueId) -> &Node {
        &self.nodes[usize::from(id)]
    }

    /// All nodes, operands before users.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (ValueId, &Node)> {
        self.nodes.iter().enumerate().map(|(i, n)| (ValueId::from(i), n))
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The nodes from the `first`-th on, operands before users.
    pub fn nodes_from(&self, first: usize) -> impl Iterator<Item = (ValueId, &Node)> {
        self.nodes[first..].iter().zip(first..).map(|(n, i)| (ValueId::from(i), n))
    }

    /// Declares an input; its axes get fresh names.
    pub fn input(&mut self, input: Input) -> Val {
        let id = self.inputs.push(input);
        self.leaf(Op::Input(id))
    }

    /// Declares a weight; its axes get fresh names.
    pub fn weight(&mut self, weight: Weight) -> Val {
        let id = self.weights.push(weight);
        self.leaf(Op::Weight(id))
    }

    /// A tensor known at compile time; equal ones are stored once.
    pub fn constant(&mut self, constant: Constant) -> Val {
        let same = |c: &Constant| {
            c.dims == constant.dims && c.data.iter().map(|x| x.to_bits()).eq(constant.data.iter().map(|x| x.to_bits()))
        };
        let id = self.constants.iter().find(|(_, c)| same(c)).map(|(id, _)| id);
        let id = id.unwrap_or_else(|| self.constants.push(constant));
        self.leaf(Op::Constant(id))
    }

    /// A number.
    pub fn scalar(&mut self, x: f64) -> Val {
        self.constant(Constant { name: format!("{x}"), dims: vec![], data: Arc::new([x]) })
    }

    /// A relation; its axes `from..., to` get fresh names. Equal ones are stored once.
    pub fn relation(&mut self, relation: Relation) -> Val {
        let id = self.relations.iter().find(|(_, r)| **r == relation).map(|(id, _)| id);
        let id = id.unwrap_or_else(|| self.relations.push(relation));
        self.leaf(Op::Relation(id))
    }

    /// A leaf of the tables, its axes under fresh names.
    pub fn leaf(&mut self, op: Op) -> Val {
        let dims = crate::tensor::infer::leaf_dims(self, &op).len();
        let node = Node { op, args: vec![], reads: vec![], out: (0..dims as Slot).collect() };
        let id = self.add(node);
        self.fresh(id)
    }

    /// `y[out] = Σ Π operands`, over all axes not in `out`.
    pub fn contract(&mut self, operands: &[&Val], out: &[Axis]) -> Val {
        self.build(Op::Contract, operands, out)
    }

    /// `y[out] = Σ operands`; the axes of the result are the union of the operands'.
    pub fn sum(&mut self, operands: &[&Val]) -> Val {
        let out = union(operands);
        self.build(Op::Sum, operands, &out)
    }

    /// `a · b` pointwise; the axes of the result are the union of the operands'.
    pub fn mul(&mut self, a: &Val, b: &Val) -> Val {
        let out = union(&[a, b]);
        self.contract(&[a, b], &out)
    }

    /// `x · k`.
    pub fn scale(&mut self, x: &Val, k: f64) -> Val {
        let k = self.scalar(k);
        self.mul(x, &k)
    }

    /// `f(operands)` pointwise; the axes of the result are the union of the operands'.
    pub fn map(&mut self, f: Func, operands: &[&Val]) -> Val {
        assert_eq!(f.arity(), operands.len(), "arity of {f:?}");
        let out = union(operands);
        self.build(Op::Map(f), operands, &out)
    }

    /// The reduction of `x` over its axes not in `out`, along `relations`.
    pub fn reduce(&mut self, how: Reduction, x: &Val, relations: &[&Val], out: &[Axis]) -> Val {
        let operands: Vec<&Val> = [x].into_iter().chain(relations.iter().copied()).collect();
        self.build(Op::Reduce(how), &operands, out)
    }

    /// The identity relation on an axis of this size, between two fresh axes.
    pub fn identity(&mut self, size: Size) -> Val {
        let map = Function::Affine {
            scale: vec![1],
            offset: Affine { constant: 0, size: None },
            divisor: 1,
            outside: Outside::Never,
        };
        self.relation(Relation { from: vec![size], to: size, map })
    }

    /// Ones along `axis`.
    pub fn ones(&mut self, axis: Axis, size: Size) -> Val {
        match size.as_fixed() {
            Some(n) => {
                let val = self.constant(Constant { name: "1".into(), dims: vec![n], data: vec![1.0; n].into() });
                val.rename(&[(val.axes[0], axis)])
            }
            None => {
                let one = self.identity(size);
                let one = one.rename(&[(one.axes[0], axis)]);
                self.contract(&[&one], &[axis])
            }
        }
    }

    /// A copy of a value that is a variable of its own: equal to it, but never found to be the same value.
    /// Derivatives by it do not see what else has its numbers. Passes read through it.
    pub fn variable(&mut self, of: &Val) -> Val {
        let slots: Vec<Slot> = (0..of.axes.len() as Slot).collect();
        let node = Node { op: Op::View, args: vec![of.id], reads: vec![slots.clone()], out: slots };
        let id = ValueId::from(self.nodes.len());
        self.types.push(Type { relation: false, ..self.ty(of.id).clone() });
        self.nodes.push(node);
        Val { id, axes: of.axes.clone() }
    }

    /// Makes a value an output called `name`, in memory row-major in the order `axes`.
    pub fn output(&mut self, name: impl Into<String>, value: &Val, axes: &[Axis]) {
        assert_eq!(value.axes.len(), axes.len(), "an output lists each axis once");
        let place = |a: &Axis| value.axes.iter().position(|b| a == b).expect("an axis of the value");
        let order = axes.iter().map(place).collect();
        self.outputs.push(Output { name: name.into(), id: value.id, order });
    }

    fn build(&mut self, op: Op, operands: &[&Val], out: &[Axis]) -> Val {
        let (node, axes) = crate::tensor::node::make(op, operands, out);
        let id = self.add(node);
        Val { id, axes }
    }

    /// Adds a node in canonical form, or finds it. Panics on an ill-typed node: a bug of the caller.
    pub fn add(&mut self, node: Node) -> ValueId {
        if let Some(id) = self.known.get(&node) {
            return *id;
        }
        let ty = match crate::tensor::infer::infer(self, &node, |id| self.ty(id).clone()) {
            Ok(ty) => ty,
            Err(why) => panic!("ill-typed tensor node {node:?}: {why}"),
        };
        let id = ValueId::from(self.nodes.len());
        self.known.insert(node.clone(), id);
        self.nodes.push(node);
        self.types.push(ty);
        id
    }
}

/// The axes of the operands, each once, in order of first appearance.
pub fn union(operands: &[&Val]) -> Vec<Axis> {
    let mut res = Vec::new();
    for axis in operands.iter().flat_map(|v| &v.axes) {
        if !res.contains(axis) {
            res.push(*axis);
        }
    }
    res
}
