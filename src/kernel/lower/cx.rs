//! One kernel while it is lowered: its expressions, its open blocks, and the way to buffers and rows.

use std::collections::BTreeMap;

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::build::Builder;
use crate::kernel::ir::{Access, Buffer, Expr, Kernel, LoopKind, Memory, Stage, Stmt};
use crate::kernel::lower::{Home, Lowering};
use crate::tensor::graph::{Graph, Input, Relation};
use crate::tensor::op::{Op, ValueId};

/// A value and its element at the index under consideration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    pub(super) value: ValueId,
    pub(super) expr: Id<Expr>,
}

/// A kernel under construction.
pub(super) struct Cx<'l, 'g> {
    pub(super) low: &'l mut Lowering<'g>,
    pub(super) b: Builder,
    blocks: Vec<Vec<Stmt>>,
    /// Values whose element is known by other means: the finished sum in an epilogue, which reads it at one index only.
    pub(super) given: Vec<Given>,
    /// Numbers that are variables already, by the value and the index they are of.
    pub(super) held: BTreeMap<(ValueId, Vec<Id<Expr>>), Id<Expr>>,
    /// Indices that are variables already.
    pub(super) held_indices: BTreeMap<Id<Expr>, Id<Expr>>,
    /// Whether sums are written out, so that there are no loops inside.
    pub(super) straight: bool,
}

impl<'l, 'g> Cx<'l, 'g> {
    pub(super) fn new(low: &'l mut Lowering<'g>) -> Cx<'l, 'g> {
        let (given, held, held_indices) = (vec![], BTreeMap::new(), BTreeMap::new());
        let b = Builder::with_counts(low.program.counts.clone());
        Cx { low, b, blocks: vec![vec![]], given, held, held_indices, straight: false }
    }

    /// A kernel whose sums are written out.
    pub(super) fn straight(low: &'l mut Lowering<'g>) -> Cx<'l, 'g> {
        Cx { straight: true, ..Cx::new(low) }
    }

    pub(super) fn graph(&self) -> &'g Graph {
        self.low.graph
    }

    /// The finished kernel, added to the program.
    pub(super) fn finish(mut self, name: impl Into<String>, stage: Stage) {
        let body = self.blocks.pop().expect("the outermost block");
        assert!(self.blocks.is_empty(), "lower: a block was left open");
        let kernel: Kernel = self.b.finish(name, stage, body);
        self.low.program.kernels.push(kernel);
    }

    pub(super) fn emit(&mut self, stmt: Stmt) {
        self.blocks.last_mut().expect("an open block").push(stmt);
    }

    pub(super) fn open(&mut self) {
        self.blocks.push(vec![]);
    }

    pub(super) fn close(&mut self) -> Vec<Stmt> {
        self.blocks.pop().expect("an open block")
    }

    pub(super) fn emit_all(&mut self, stmts: Vec<Stmt>) {
        stmts.into_iter().for_each(|stmt| self.emit(stmt));
    }

    /// `for i in 0..extent { body(i) }`
    pub(super) fn each(&mut self, extent: Id<Expr>, kind: LoopKind, body: impl FnOnce(&mut Self, Id<Expr>)) {
        let begin = self.b.int(0);
        self.range(begin, extent, kind, body);
    }

    /// `for i in begin..end { body(i) }`; a single iteration is no loop.
    pub(super) fn range(
        &mut self,
        begin: Id<Expr>,
        end: Id<Expr>,
        kind: LoopKind,
        body: impl FnOnce(&mut Self, Id<Expr>),
    ) {
        if let (Expr::Int(a), Expr::Int(b)) = (self.b.get(begin), self.b.get(end))
            && *b == *a + 1
        {
            return body(self, begin);
        }
        let var = self.b.var();
        let index = self.b.read(var);
        self.open();
        body(self, index);
        let body = self.close();
        self.emit(Stmt::For { var, begin, end, kind, body });
    }

    /// `if cond { body }`, or just the body.
    pub(super) fn when(&mut self, cond: Option<Id<Expr>>, body: impl FnOnce(&mut Self)) {
        let Some(cond) = cond else { return body(self) };
        self.open();
        body(self);
        let then = self.close();
        self.emit(Stmt::If { cond, then });
    }

    /// `let v = value`, unless the value is a variable or a number already.
    pub(super) fn bind(&mut self, value: Id<Expr>) -> Id<Expr> {
        match self.b.get(value) {
            Expr::Var(_) | Expr::Int(_) | Expr::Float(_) => value,
            _ => {
                let var = self.b.var();
                self.emit(Stmt::Let { var, value });
                self.b.read(var)
            }
        }
    }

    pub(super) fn store(&mut self, buffer: Id<Buffer>, index: Vec<Id<Expr>>, value: Id<Expr>) {
        self.emit(Stmt::Store { to: Access { buffer, index }, value });
    }

    /// A local array with these contents' shape, announced here.
    pub(super) fn local(&mut self, name: &str, shape: &[usize]) -> Id<Buffer> {
        let shape = shape.iter().map(|n| Size::fixed(*n)).collect();
        let dtype = self.low.program.dtype;
        let buffer = self.low.buffer(name, dtype, shape, Memory::Local);
        self.emit(Stmt::Alloc { buffer });
        buffer
    }

    /// A local number, set to `start`.
    pub(super) fn local_number(&mut self, name: &str, start: f64) -> Id<Buffer> {
        let buffer = self.local(name, &[]);
        let start = self.b.float(start);
        self.store(buffer, vec![], start);
        buffer
    }

    pub(super) fn input(&self, input: Id<Input>) -> Id<Buffer> {
        self.low.program.inputs[input.index()].buffer
    }

    pub(super) fn constant_table(&mut self, relation: Id<Relation>) -> Id<Buffer> {
        self.low.constant_table(relation)
    }

    /// Reads a value that is a leaf or stored.
    pub(super) fn stored(&mut self, id: ValueId, index: &[Id<Expr>]) -> Option<Id<Expr>> {
        let graph = self.graph();
        match &graph.node(id).op {
            Op::Input(input) => {
                let buffer = self.input(*input);
                let value = self.b.load(buffer, index.to_vec());
                let is_float = self.low.program.buffers[buffer].dtype.is_float();
                Some(if is_float { value } else { self.b.expr(Expr::ToFloat { x: value }) })
            }
            Op::Weight(weight) => {
                let buffer = self.low.program.weights[weight.index()].buffer;
                Some(self.b.load(buffer, index.to_vec()))
            }
            Op::Constant(constant) => {
                let data = &graph.constants[*constant];
                match self.known_place(index, &data.dims) {
                    Some(place) => Some(self.b.float(data.data[place])),
                    None => {
                        let buffer = self.low.constant(*constant);
                        Some(self.b.load(buffer, index.to_vec()))
                    }
                }
            }
            Op::Relation(_) | Op::Contract | Op::Sum | Op::Map(_) | Op::Reduce(_) | Op::View => {
                let home = self.low.homes.get(&id)?.clone();
                let place = self.place(&home, index);
                Some(self.b.load(home.buffer, place))
            }
        }
    }

    /// Where an element of a stored value is in its buffer.
    pub(super) fn place(&mut self, home: &Home, index: &[Id<Expr>]) -> Vec<Id<Expr>> {
        let mut place: Vec<Id<Expr>> = home.order.iter().map(|axis| index[*axis]).collect();
        if home.flat.len() > 1 {
            let tail = place.split_off(place.len() - home.flat.len());
            place.push(self.b.flatten(&tail, &home.flat));
        }
        if let (Some(last), true) = (place.last_mut(), home.begin > 0) {
            let begin = self.b.int(home.begin as i64);
            *last = self.b.add(*last, begin);
        }
        place
    }

    /// Stores an element of a stored value.
    pub(super) fn put(&mut self, home: &Home, index: &[Id<Expr>], value: Id<Expr>) {
        let place = self.place(home, index);
        self.store(home.buffer, place, value);
    }

    /// The row-major place of an index of which every number is known and inside.
    pub(super) fn known_place(&self, index: &[Id<Expr>], dims: &[usize]) -> Option<usize> {
        let mut res = 0;
        for (i, dim) in index.iter().zip(dims) {
            match self.b.get(*i) {
                Expr::Int(i) if (0..*dim as i64).contains(i) => res = res * dim + *i as usize,
                _ => return None,
            }
        }
        Some(res)
    }
}
