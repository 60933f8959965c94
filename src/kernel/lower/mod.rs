//! From the tensor IR to the kernel IR: a graph in, a program out.
//!
//! What is stored and when is decided in `merge` and `homes`; one stored value becomes one kernel, with everything it reads that is not
//! stored computed inside (`element`). Sums visit their axes as `plan` says, relations become index arithmetic
//! (`relation`) or sparse rows (`rows`). Dense sums become `Stmt::Contract` (`dense`); sums of products row by row
//! (tensor products on edges), sums weighted by a softmax and derivatives of weights and biases have schedules of their own (`edges` and
//! `row_kernel` with `products`, `entry`, `softmax` and `attention` with `attention_tiles` and `attention_heads`, `pairs` and `pair_tiles`, `outer` and `outer_kernel`, `totals`), and so
//! have values of few numbers at each place of a long axis (`places` and `places_kernel`).

mod attention;
mod attention_heads;
mod attention_tiles;
mod concat;
mod cx;
mod dense;
mod edges;
mod element;
mod entry;
mod homes;
mod merge;
mod normal;
mod outer;
mod outer_kernel;
mod outer_rows;
mod pair_tiles;
mod paired;
mod pairs;
mod partial_sums;
mod places;
mod places_kernel;
mod plan;
mod products;
mod relation;
mod row_kernel;
mod rows;
mod softmax;
mod stages;
mod totals;
mod within;

use std::collections::BTreeMap;

use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::base::size::Size;
use crate::kernel::interpret::{Machine, Order};
use crate::kernel::ir::{Argument, ArgumentKind, Buffer, LoopKind, Memory, Program, Stage};
use crate::kernel::lower::concat::Part;
use crate::kernel::lower::cx::Cx;
use crate::kernel::lower::dense::Placed;
use crate::kernel::lower::homes::{Facts, When};
use crate::kernel::lower::paired::Pairs;
use crate::kernel::lower::rows::Rows;
use crate::kernel::pass::compact::compact;
use crate::kernel::pass::entries::entries;
use crate::kernel::pass::strips::strips;
use crate::kernel::walk::writes;
use crate::tensor::graph::{Constant, Function, Graph, InputKind, Output, Relation};
use crate::tensor::op::{Op, ValueId};
use crate::tensor::pass;

/// Lowers a graph. `dtype` is the float type of its buffers, arguments included.
/// Arguments are buffers in the order of `graph.inputs`, `graph.weights`, `graph.outputs`.
pub fn lower(graph: &Graph, name: &str, dtype: Dtype) -> Program {
    lower_for(graph, name, dtype, Hardware::Cpu)
}

/// What the kernels are laid out for; they run on both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hardware {
    Cpu,
    /// Sums of two values of the call are one loop an element, which `kernel::gpu` cuts over threads, and attention takes its entries one by one.
    /// A CPU packs blocks for its caches, and takes a block of entries at a time.
    Gpu,
}

/// As [`lower`], for some hardware.
pub fn lower_for(graph: &Graph, name: &str, dtype: Dtype, hardware: Hardware) -> Program {
    let graph = &prepared(graph, hardware);
    let mut low = Lowering::new(graph, name, dtype, hardware);
    let facts = homes::facts(graph, hardware);
    low.parts = concat::parts(graph, &facts);
    for id in &facts.in_order_of_kernels(graph) {
        // what an attention stores beside its sum has no kernel of its own
        let beside = facts.attention_with_statistics(*id).is_some_and(|unit| unit.last() != Some(id));
        if !facts.inlined[id] && !beside && !low.rows_of(*id, &facts) && !low.places_of(*id, &facts) {
            low.value(*id, &facts);
        }
    }
    low.copies();
    fold(&mut low.program, &low.folded);
    compact(&mut low.program);
    if hardware == Hardware::Cpu {
        entries(&mut low.program);
        compact(&mut low.program);
        strips(&mut low.program);
    }
    compact(&mut low.program);
    low.program
}

/// The graph as kernels are made of it.
fn prepared(graph: &Graph, hardware: Hardware) -> Graph {
    // products of constants that were split off become constants: sums see where they are zero
    let graph = &pass::identities::identities(graph);
    let normal = partial_sums::of_partial_sums(&pass::fold::fold(&normal::normalise(graph)));
    let normal = within::within_sets(&normal);
    if hardware == Hardware::Gpu { stages::in_two_steps(&normal) } else { normal }
}

/// For each output of a graph, the order of its axes in memory that suits the kernels of the graph that make and read it: run-time axes outside. Axis `k` is
/// to be what is axis `order[k]` now.
pub fn output_orders(graph: &Graph) -> Vec<Vec<usize>> {
    let graph = &prepared(graph, Hardware::Cpu);
    let facts = homes::facts(graph, Hardware::Cpu);
    let order = |output: &Output| {
        let axes = facts.order(graph, output.id);
        let place = |axis: &usize| output.order.iter().position(|a| a == axis).expect("an output has each axis once");
        axes.iter().map(place).collect()
    };
    graph.outputs.iter().map(order).collect()
}

/// Where a stored value is: axis `k` in memory is axis `order[k]` of the value's type.
#[derive(Clone, Debug)]
struct Home {
    buffer: Id<Buffer>,
    order: Vec<usize>,
    /// The sizes of the last axes, if they are one axis of the buffer.
    flat: Vec<Size>,
    /// Where on the last axis of the buffer it begins: not at 0 where it is a part of another value.
    begin: usize,
}

struct Lowering<'g> {
    graph: &'g Graph,
    hardware: Hardware,
    program: Program,
    homes: BTreeMap<ValueId, Home>,
    constants: BTreeMap<Id<Constant>, Id<Buffer>>,
    tables: BTreeMap<Id<Relation>, Id<Buffer>>,
    rows: BTreeMap<Id<Relation>, Rows>,
    pairs: Vec<Pairs>,
    parts: BTreeMap<ValueId, Part>,
    /// Buffers that can be computed now.
    folded: Vec<Id<Buffer>>,
    /// The outputs that a kernel has written already.
    written: Vec<bool>,
}

impl<'g> Lowering<'g> {
    fn new(graph: &'g Graph, name: &str, dtype: Dtype, hardware: Hardware) -> Lowering<'g> {
        let program = Program::new(name, dtype, graph.sizes.clone());
        let mut low = Lowering {
            graph,
            hardware,
            program,
            homes: BTreeMap::new(),
            constants: BTreeMap::new(),
            tables: BTreeMap::new(),
            rows: BTreeMap::new(),
            pairs: vec![],
            parts: BTreeMap::new(),
            folded: vec![],
            written: vec![false; graph.outputs.len()],
        };
        low.arguments(dtype);
        low.count_pairs();
        low
    }

    fn arguments(&mut self, float: Dtype) {
        let graph = self.graph;
        for (k, (_, input)) in graph.inputs.iter().enumerate() {
            let (kind, dtype) = match input.kind {
                InputKind::Real => (ArgumentKind::Real, float),
                InputKind::Table { range, sorted } => (ArgumentKind::Table { range, sorted }, Dtype::I32),
                InputKind::Index { range } => (ArgumentKind::Index { range }, Dtype::I32),
            };
            let buffer = self.buffer(&input.name, dtype, input.dims.clone(), Memory::Input(k));
            self.program.inputs.push(Argument { name: input.name.clone(), buffer, kind });
        }
        for (k, (_, weight)) in graph.weights.iter().enumerate() {
            let dims = weight.dims.iter().map(|n| Size::fixed(*n)).collect();
            let buffer = self.buffer(&weight.name, float, dims, Memory::Weight(k));
            self.program.weights.push(Argument { name: weight.name.clone(), buffer, kind: ArgumentKind::Real });
        }
        for (k, output) in graph.outputs.iter().enumerate() {
            let dims = &graph.ty(output.id).dims;
            let dims = output.order.iter().map(|axis| dims[*axis]).collect();
            let buffer = self.buffer(&output.name, float, dims, Memory::Output(k));
            self.program.outputs.push(Argument { name: output.name.clone(), buffer, kind: ArgumentKind::Real });
        }
    }

    fn buffer(&mut self, name: &str, dtype: Dtype, shape: Vec<Size>, memory: Memory) -> Id<Buffer> {
        // memory is laid out before tables are counted
        let shape = shape.into_iter().map(|n| self.program.sizes.most(n)).collect();
        self.program.buffers.push(Buffer { name: name.to_string(), dtype, shape, memory })
    }

    fn constant(&mut self, id: Id<Constant>) -> Id<Buffer> {
        if let Some(buffer) = self.constants.get(&id) {
            return *buffer;
        }
        let constant = &self.graph.constants[id];
        let shape = constant.dims.iter().map(|n| Size::fixed(*n)).collect();
        let memory = Memory::Constant(constant.data.clone());
        let buffer = self.buffer(&constant.name, self.program.dtype, shape, memory);
        self.constants.insert(id, buffer);
        buffer
    }

    /// A compile-time table as integers, -1 where it is not defined.
    fn constant_table(&mut self, id: Id<Relation>) -> Id<Buffer> {
        if let Some(buffer) = self.tables.get(&id) {
            return *buffer;
        }
        let relation = &self.graph.relations[id];
        let Function::Constant(table) = &relation.map else { panic!("lower: not a constant table") };
        let data = table.iter().map(|i| i.map_or(-1.0, f64::from)).collect();
        let buffer = self.buffer("table", Dtype::I32, relation.from.clone(), Memory::Constant(data));
        self.tables.insert(id, buffer);
        buffer
    }

    /// Makes the kernel of row sums of which the value is the last, if it is in one.
    fn rows_of(&mut self, id: ValueId, facts: &Facts) -> bool {
        let Some(group) = facts.rows.iter().find(|group| group.makes(id)) else { return false };
        if group.roots.last().is_some_and(|last| last.root == id) {
            let homes: Vec<Home> = group.roots.iter().map(|root| self.home(root.root, facts)).collect();
            self.row_kernel(group, &homes, facts.when[&id]);
            for (root, home) in group.roots.iter().zip(homes) {
                self.homes.insert(root.root, home);
            }
        }
        true
    }

    fn home(&mut self, id: ValueId, facts: &Facts) -> Home {
        if let Some(known) = self.homes.get(&id) {
            return known.clone();
        }
        let when = facts.when[&id];
        if let Some(part) = self.parts.get(&id).cloned() {
            let whole = self.home(part.whole, facts);
            self.homes.insert(part.whole, whole.clone());
            return part.home(self.graph, id, &whole);
        }
        let output = self.graph.outputs.iter().position(|o| o.id == id);
        match (output, when) {
            (Some(k), When::Call) => {
                self.written[k] = true;
                self.output_home(k)
            }
            (Some(_) | None, _) => self.place(id, when, facts.order(self.graph, id)),
        }
    }

    /// Makes the kernel that stores a value.
    fn value(&mut self, id: ValueId, facts: &Facts) {
        let when = facts.when[&id];
        let home = self.home(id, facts);
        if when == When::Compile {
            self.folded.push(home.buffer);
        }
        let dense = facts.dense.get(&id).and_then(|(sum, dense, axes)| {
            let home = home.clone();
            let placed = Placed { id: *sum, dense, root: id, home, axis_of_root: axes.clone() };
            self.dense(&placed, &facts.when)
        });
        if let Some((attention, axes)) = facts.attentions.get(&id) {
            let beside = attention.keeps.then(|| attention.statistics(self.graph).map(|(id, _)| id));
            let homes = beside.map(|ids| ids.map(|id| self.home(id, facts)));
            self.attention(attention, axes, (id, &home), homes.as_ref(), when);
            self.homes.extend(beside.into_iter().flatten().zip(homes.into_iter().flatten()));
        } else if let Some(sum) = facts.pairs.get(&id) {
            self.pair_sum(sum, &home, when.stage());
        } else if let Some(outer) = facts.outer.get(&id) {
            self.outer(id, outer, &home, when.stage());
        } else if let Some(total) = facts.totals.get(&id) {
            self.total(id, total, &home, when.stage());
        } else if dense.is_none() && !self.concat(id, &home, when.stage()) {
            let written_out = facts.written_out(self.graph, id);
            self.store(id, &home, &written_out, when.stage());
        }
        self.homes.insert(id, home);
    }

    fn output_home(&self, k: usize) -> Home {
        Home {
            buffer: self.program.outputs[k].buffer,
            order: self.graph.outputs[k].order.clone(),
            flat: vec![],
            begin: 0,
        }
    }

    /// A buffer for a value; its fixed axes are one, so that lanes run through all of them.
    fn place(&mut self, id: ValueId, when: When, order: Vec<usize>) -> Home {
        let dims: Vec<Size> = order.iter().map(|axis| self.graph.ty(id).dims[*axis]).collect();
        let run_time = dims.iter().filter(|d| d.as_fixed().is_none()).count();
        let (mut shape, flat) = (dims[..run_time].to_vec(), dims[run_time..].to_vec());
        if !flat.is_empty() {
            shape.push(Size::fixed(flat.iter().filter_map(|d| d.as_fixed()).product()));
        }
        let memory = match when {
            When::Compile | When::Prepare => Memory::Prepared,
            When::Bind => Memory::Bound,
            When::Call => Memory::Workspace,
        };
        let buffer = self.buffer(&format!("t{id}"), self.program.dtype, shape, memory);
        Home { buffer, order, flat, begin: 0 }
    }

    /// The kernel `home = value`.
    fn store(&mut self, id: ValueId, home: &Home, written_out: &[usize], stage: Stage) {
        let dims = self.graph.ty(id).dims.clone();
        let name = format!("{} {}", self.op_name(id), self.program.buffers[home.buffer].name);
        let mut cx = Cx::new(self);
        let mut index = vec![cx.b.int(0); dims.len()];
        let loops: Vec<usize> = home.order.iter().copied().filter(|axis| !written_out.contains(axis)).collect();
        let contiguous = loops.last() == home.order.last();
        let last = if contiguous { LoopKind::Vector } else { LoopKind::Parallel };
        cx.element_loops(&loops, &dims, last, &mut index, &mut |cx, index| {
            cx.each_place(written_out, &dims, &mut index.to_vec(), &mut |cx, index| {
                let value = cx.element(id, index);
                cx.put(home, index, value);
            });
        });
        cx.finish(name, stage);
    }

    fn op_name(&self, id: ValueId) -> &'static str {
        match self.graph.node(id).op {
            Op::Input(_) | Op::Weight(_) | Op::Constant(_) | Op::Relation(_) => "copy",
            Op::Contract => "contract",
            Op::Sum => "sum",
            Op::Map(_) => "map",
            Op::Reduce(_) => "reduce",
            Op::View => "view",
        }
    }

    /// Fills the outputs that are leaves, known before the call, or the same value as another output.
    fn copies(&mut self) {
        for k in 0..self.graph.outputs.len() {
            if !self.written[k] {
                let home = self.output_home(k);
                self.store(self.graph.outputs[k].id, &home, &[], Stage::Call);
            }
        }
    }
}

impl Cx<'_, '_> {
    /// The body for each place along short axes, written out.
    fn each_place(
        &mut self,
        axes: &[usize],
        dims: &[Size],
        index: &mut Vec<Id<crate::kernel::ir::Expr>>,
        body: &mut dyn FnMut(&mut Self, &[Id<crate::kernel::ir::Expr>]),
    ) {
        let Some((axis, rest)) = axes.split_first() else { return body(self, index) };
        for i in 0..dims[*axis].as_fixed().expect("lower: a short axis is fixed") {
            index[*axis] = self.b.int(i as i64);
            self.each_place(rest, dims, index, body);
        }
    }

    /// Loops over the axes `order` of an array of `dims`, in parallel, the last as `last` says.
    fn element_loops(
        &mut self,
        order: &[usize],
        dims: &[Size],
        last: LoopKind,
        index: &mut Vec<Id<crate::kernel::ir::Expr>>,
        body: &mut dyn FnMut(&mut Self, &[Id<crate::kernel::ir::Expr>]),
    ) {
        let Some((first, rest)) = order.split_first() else { return body(self, index) };
        let extent = self.b.size(dims[*first]);
        self.each(extent, LoopKind::Parallel, |cx, i| {
            index[*first] = i;
            cx.inner_loops(rest, dims, last, index, body);
        });
    }

    fn inner_loops(
        &mut self,
        order: &[usize],
        dims: &[Size],
        last: LoopKind,
        index: &mut Vec<Id<crate::kernel::ir::Expr>>,
        body: &mut dyn FnMut(&mut Self, &[Id<crate::kernel::ir::Expr>]),
    ) {
        let Some((axis, rest)) = order.split_first() else { return body(self, index) };
        let kind = if rest.is_empty() { last } else { LoopKind::Parallel };
        let extent = self.b.size(dims[*axis]);
        self.each(extent, kind, |cx, i| {
            index[*axis] = i;
            cx.inner_loops(rest, dims, last, index, body);
        });
    }
}

/// Runs the kernels whose results are constants, and keeps the results.
fn fold(program: &mut Program, folded: &[Id<Buffer>]) {
    if folded.is_empty() {
        return;
    }
    let kernels = std::mem::take(&mut program.kernels);
    let (now, later): (Vec<_>, Vec<_>) =
        kernels.into_iter().partition(|k| writes(program, k).iter().all(|b| folded.contains(b)));
    let exact = Program { dtype: Dtype::F64, buffers: widened(program), ..program.clone() };
    let sizes = vec![0; program.sizes.len()];
    let mut machine = Machine::new(&exact, &sizes, Order::Forward);
    for kernel in &now {
        machine.run_kernel(kernel).unwrap_or_else(|fault| panic!("lower: folding {}: {}", fault.kernel, fault.why));
    }
    let data: Vec<Vec<f64>> =
        folded.iter().map(|b| machine.contents(*b).expect("lower: a folded value is complete")).collect();
    for (buffer, data) in folded.iter().zip(data) {
        program.buffers[*buffer].memory = Memory::Constant(data.into());
    }
    program.kernels = later;
}

/// The buffers of a program with floats as F64.
fn widened(program: &Program) -> crate::base::arena::Arena<Buffer> {
    let mut res = program.buffers.clone();
    for id in program.buffers.ids() {
        if res[id].dtype.is_float() {
            res[id].dtype = Dtype::F64;
        }
    }
    res
}
