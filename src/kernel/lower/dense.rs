//! Dense sums as `Stmt::Contract`: which axes of a product of data with a matrix are rows, columns, taps and the inner sum.
//! Windows, gathers and boundaries are addresses of rows; the matrix is packed as soon as it is known: weights once, what a call
//! brings once a call. What follows the sum is its epilogue.

use std::collections::BTreeMap;

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::build::Builder;
use crate::kernel::ir::{Access, Binary, Buffer, Contraction, Expr, LoopKind, Memory, PANEL_BYTES, Stmt, Var};
use crate::kernel::lower::cx::{Cx, Given};
use crate::kernel::lower::element::{Slots, at};
use crate::kernel::lower::homes::When;
use crate::kernel::lower::plan::{self, Step};
use crate::kernel::lower::{Home, Lowering, normal};
use crate::tensor::graph::{Function, Graph};
use crate::tensor::op::{Op, Slot, ValueId};

/// Below this many products a row, loops are as good.
const LEAST_WORK: usize = 128;
/// Columns below which the lanes are wasted.
const LEAST_COLUMNS: usize = 4;
/// Blocks of a block-diagonal product that are written out one by one.
const MOST_BLOCKS: usize = 16;
/// Taps beyond which the table of rows is no longer small.
const MOST_TAPS: usize = 4096;

/// A contraction of one tensor of the call with a matrix.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    /// The operand whose rows are multiplied, and the matrix: known before the call, or smaller than many rows are.
    a: usize,
    b: usize,
    /// Plain numbers among the operands.
    numbers: Vec<usize>,
    /// Axes of the result that only `a` has, only `b` has, both have.
    rows: Vec<Slot>,
    pub(super) columns: Vec<Slot>,
    blocks: Vec<Slot>,
    /// Axes of `b` that are summed.
    summed: Vec<Slot>,
    /// How the remaining axes of `a` follow from these.
    steps: Vec<Step>,
}

/// Whether a value is a dense sum, and how.
pub(super) fn classify(graph: &Graph, id: ValueId, when: &BTreeMap<ValueId, When>) -> Option<Dense> {
    let node = graph.node(id);
    if node.op != Op::Contract || when[&id] != When::Call {
        return None;
    }
    let factors = plan::plan(graph, node).factors;
    let tensors = normal::tensors(graph, node, &factors);
    let numbers = factors.iter().copied().filter(|k| !tensors.contains(k)).collect();
    let early = |k: usize| matches!(when[&node.args[k]], When::Prepare | When::Compile);
    let sizes = plan::slot_sizes(graph, node);
    let fixed = |s: &Slot| sizes[*s as usize].as_fixed();
    let short = |k: usize| node.reads[k].iter().all(|s| fixed(s).is_some());
    let (a, b) = match tensors[..] {
        [a, b] | [b, a] if early(b) && !early(a) => (a, b),
        [a, b] | [b, a] if !early(a) && short(b) && !short(a) => (a, b),
        _ => return None,
    };
    let known: Vec<Slot> = node.out.iter().chain(&node.reads[b]).copied().collect();
    let steps = plan::plan_from(graph, node, known).steps;
    let of_relations = |s: &Slot| steps.iter().any(|step| step.reads(*s));
    let with_a = |s: &Slot| node.reads[a].contains(s) || of_relations(s);
    let (of_b, rows): (Vec<Slot>, Vec<Slot>) = node.out.iter().partition(|s| node.reads[b].contains(s));
    let (blocks, columns): (Vec<Slot>, Vec<Slot>) = of_b.into_iter().partition(with_a);
    let mut summed: Vec<Slot> = Vec::new();
    for slot in &node.reads[b] {
        if !node.out.contains(slot) && !summed.contains(slot) {
            summed.push(*slot);
        }
    }
    let volume = |slots: &[Slot]| slots.iter().map(fixed).try_fold(1, |n, d| d.map(|d| n * d));
    let (n, k) = (volume(&columns)?, volume(&summed)?);
    let worth = n >= LEAST_COLUMNS && n * k >= LEAST_WORK && volume(&blocks)? <= MOST_BLOCKS;
    let straight = !steps.iter().any(Step::repeats) && !rows.is_empty() && !summed.is_empty();
    (worth && straight).then_some(Dense { a, b, numbers, rows, columns, blocks, summed, steps })
}

impl Dense {
    /// The axes of the operand of the call that are summed directly: best contiguous.
    pub(super) fn inner_axes(&self, graph: &Graph, id: ValueId) -> (ValueId, Vec<usize>) {
        let node = graph.node(id);
        let reads = &node.reads[self.a];
        let inner = (0..reads.len()).filter(|k| self.summed.contains(&reads[*k]));
        (node.args[self.a], inner.collect())
    }
}

/// How the summed axes are visited.
struct Visit {
    /// Outer to inner, one constant step of the address from one to the next.
    inner: Vec<Slot>,
    stride: i64,
    taps: Vec<Slot>,
}

/// A dense sum inside the kernel of `root`, and where its axes are among those of `root`.
pub(super) struct Placed<'d> {
    pub(super) id: ValueId,
    pub(super) dense: &'d Dense,
    pub(super) root: ValueId,
    pub(super) home: Home,
    /// `axis_of_root[k]` is the axis of `root` that axis `k` of the sum is.
    pub(super) axis_of_root: Vec<usize>,
}

impl Lowering<'_> {
    /// Makes the kernels of a dense sum: packing, and the contraction. `None` where rows have no address.
    pub(super) fn dense(&mut self, placed: &Placed, when: &BTreeMap<ValueId, When>) -> Option<()> {
        let graph = self.graph;
        let node = graph.node(placed.id);
        let sizes = plan::slot_sizes(graph, node);
        let visit = self.visit(placed, &sizes)?;
        let fixed = |slots: &[Slot]| -> Vec<usize> {
            slots.iter().map(|s| sizes[*s as usize].as_fixed().expect("lower: an axis of weights")).collect()
        };
        let block_dims = fixed(&placed.dense.blocks);
        let name = format!("contract {}", self.program.buffers[placed.home.buffer].name);
        let mut packed = Vec::new();
        let columns = placed.columns(graph);
        let panel = PANEL_BYTES / self.program.dtype.bytes();
        for block in 0..block_dims.iter().product() {
            let buffer = self.pack(placed, &visit, &columns, block, panel, when[&node.args[placed.dense.b]]);
            packed.push(buffer);
        }
        let mut cx = Cx::new(self);
        for (block, packed) in packed.into_iter().enumerate() {
            let contraction = cx.contraction(placed, &visit, &columns, block, packed, panel)?;
            cx.emit(Stmt::Contract(Box::new(contraction)));
        }
        cx.finish(name, when[&placed.root].stage());
        Some(())
    }

    /// Which summed axes are steps of one stride in memory, which are taps.
    fn visit(&mut self, placed: &Placed, sizes: &[Size]) -> Option<Visit> {
        let dense = placed.dense;
        let node = self.graph.node(placed.id);
        let mut cx = Cx::new(self);
        let mut slots: Slots = vec![None; sizes.len()];
        for slot in node.out.iter().chain(&dense.summed) {
            let var = cx.b.var();
            slots[*slot as usize] = Some(cx.b.read(var));
        }
        let guards = cx.settled(&dense.steps, &mut slots)?;
        let index = at(&node.reads[dense.a], &slots);
        let access = cx.address(node.args[dense.a], &index)?;
        let shape = cx.low.program.buffers[access.buffer].shape.clone();
        let mut steps: Vec<(i64, Slot, usize)> = Vec::new();
        for slot in &dense.summed {
            let variable = slots[*slot as usize].expect("lower: it was just made");
            let Expr::Var(var) = *cx.b.get(variable) else { panic!("lower: it was just made") };
            let extent = sizes[*slot as usize].as_fixed()?;
            let free = guards.iter().all(|g| !mentions(&cx.b, *g, var));
            if extent == 1 || !free {
                continue;
            }
            if let Some(step) = address_step(&cx.b, &access.index, &shape, var)
                && step > 0
            {
                steps.push((step, *slot, extent));
            }
        }
        steps.sort();
        let chains = (0..steps.len()).map(|first| chain(&steps, first));
        let length = |chain: &Vec<(i64, Slot, usize)>| chain.iter().map(|(_, _, n)| n).product::<usize>();
        let best = chains.max_by_key(length).unwrap_or_default();
        let inner: Vec<Slot> = best.iter().rev().map(|(_, slot, _)| *slot).collect();
        let taps: Vec<Slot> = dense.summed.iter().copied().filter(|s| !inner.contains(s)).collect();
        let n_taps: usize = taps.iter().filter_map(|s| sizes[*s as usize].as_fixed()).product();
        (n_taps <= MOST_TAPS).then_some(Visit { inner, stride: best.first().map_or(1, |(step, _, _)| *step), taps })
    }

    /// The kernel that packs the weights of a block into panels of columns.
    fn pack(
        &mut self,
        placed: &Placed,
        visit: &Visit,
        columns: &[Slot],
        block: usize,
        panel: usize,
        when: When,
    ) -> Id<Buffer> {
        let node = self.graph.node(placed.id);
        let sizes = plan::slot_sizes(self.graph, node);
        let dims = |slots: &[Slot]| -> Vec<Size> { slots.iter().map(|s| sizes[*s as usize]).collect() };
        let volume = |slots: &[Slot]| dims(slots).iter().filter_map(|d| d.as_fixed()).product::<usize>();
        let (n, taps, inner) = (volume(columns), volume(&visit.taps), volume(&visit.inner));
        let shape = [n.div_ceil(panel), taps, inner, panel].map(Size::fixed).to_vec();
        let name = format!("{}.packed{block}", self.program.buffers[placed.home.buffer].name);
        let memory = match when {
            When::Compile | When::Prepare => Memory::Prepared,
            When::Bind => Memory::Bound,
            When::Call => Memory::Workspace,
        };
        let packed = self.buffer(&name, self.program.dtype, shape.clone(), memory);
        if when == When::Compile {
            self.folded.push(packed);
        }
        let mut cx = Cx::new(self);
        cx.nested(&shape, &mut vec![], &mut |cx, index| {
            let [p, tap, k, j] = index[..] else { panic!("lower: a packed matrix has four axes") };
            if n % panel != 0 {
                let zero = cx.b.float(0.0);
                cx.store(packed, index.to_vec(), zero);
            }
            let width = cx.b.int(panel as i64);
            let first = cx.b.mul(p, width);
            let column = cx.b.add(first, j);
            let end = cx.b.int(n as i64);
            let inside = cx.b.compare(crate::kernel::ir::Comparison::Lt, column, end);
            cx.when((n % panel != 0).then_some(inside), |cx| {
                let mut slots: Slots = vec![None; sizes.len()];
                let flat = cx.b.int(block as i64);
                let parts = [(columns, column), (&visit.taps, tap), (&visit.inner, k), (&placed.dense.blocks, flat)];
                for (group, flat) in parts {
                    cx.spread(&mut slots, group, &dims(group), flat);
                }
                let value = cx.operand(node, placed.dense.b, &slots);
                cx.store(packed, index.to_vec(), value);
            });
        });
        cx.finish(format!("pack {name}"), when.stage());
        packed
    }
}

impl Placed<'_> {
    /// The columns in the order of the result's memory.
    fn columns(&self, graph: &Graph) -> Vec<Slot> {
        self.in_memory_order(graph, &self.dense.columns)
    }

    fn in_memory_order(&self, graph: &Graph, slots: &[Slot]) -> Vec<Slot> {
        let out = &graph.node(self.id).out;
        let place = |slot: &Slot| {
            let axis = out.iter().position(|s| s == slot).expect("an axis of the result");
            self.home.order.iter().position(|a| *a == self.axis_of_root[axis])
        };
        let mut res = slots.to_vec();
        res.sort_by_key(place);
        res
    }
}

impl Cx<'_, '_> {
    /// Sets the slots of a group to the parts of one flat index.
    fn spread(&mut self, slots: &mut Slots, group: &[Slot], dims: &[Size], flat: Id<Expr>) {
        let index = self.b.unflatten(flat, dims);
        for (slot, i) in group.iter().zip(index) {
            slots[*slot as usize] = Some(i);
        }
    }

    /// Loops over all indices of an array, in parallel, the last on lanes.
    fn nested(&mut self, shape: &[Size], index: &mut Vec<Id<Expr>>, body: &mut dyn FnMut(&mut Self, &[Id<Expr>])) {
        let Some((dim, rest)) = shape.split_first() else { return body(self, index) };
        let kind = if rest.is_empty() { LoopKind::Vector } else { LoopKind::Parallel };
        let extent = self.b.size(*dim);
        self.each(extent, kind, |cx, i| {
            index.push(i);
            cx.nested(rest, index, body);
            index.pop();
        });
    }

    /// Takes steps that are no loops; `None` where a table would be read at an index that a condition protects.
    pub(super) fn settled(&mut self, steps: &[Step], slots: &mut Slots) -> Option<Vec<Id<Expr>>> {
        let mut guards = Vec::new();
        for step in steps {
            let table = match step {
                Step::Define(edge) | Step::Check(edge) => {
                    !matches!(self.graph().relations[edge.relation].map, Function::Affine { .. })
                }
                Step::Only { .. }
                | Step::Solve { .. }
                | Step::Digits(_)
                | Step::Loop { .. }
                | Step::Fibre(_)
                | Step::Rows(_) => false,
            };
            if table && !guards.is_empty() {
                return None;
            }
            guards.extend(self.settle(step, slots));
        }
        Some(guards)
    }

    /// Where an element of a stored value or a float argument is.
    pub(super) fn address(&mut self, id: ValueId, index: &[Id<Expr>]) -> Option<Access> {
        match self.stored(id, index) {
            Some(value) => match self.b.get(value) {
                Expr::Load(access) => Some(access.clone()),
                _ => None,
            },
            None => None,
        }
    }

    fn contraction(
        &mut self,
        placed: &Placed,
        visit: &Visit,
        columns: &[Slot],
        block: usize,
        packed: Id<Buffer>,
        panel: usize,
    ) -> Option<Contraction> {
        let graph = self.graph();
        let node = graph.node(placed.id);
        let dense = placed.dense;
        let sizes = plan::slot_sizes(graph, node);
        let dims = |slots: &[Slot]| -> Vec<Size> { slots.iter().map(|s| sizes[*s as usize]).collect() };
        let volume = |slots: &[Slot]| dims(slots).iter().filter_map(|d| d.as_fixed()).product::<usize>();
        let [m, n, tap, k, acc] = [(); 5].map(|()| self.b.var());
        let mut slots: Slots = vec![None; sizes.len()];
        let block = self.b.int(block as i64);
        self.spread(&mut slots, &dense.blocks, &dims(&dense.blocks), block);
        let rows = placed.in_memory_order(graph, &dense.rows);
        let mut m_extent = self.b.int(1);
        for dim in dims(&rows) {
            let dim = self.b.size(dim);
            m_extent = self.b.mul(m_extent, dim);
        }
        let row = self.row_variables(&mut slots, &rows, &dims(&rows), m);
        let tap_index = self.b.read(tap);
        let tap_index = if volume(&visit.taps) == 1 { self.b.int(0) } else { tap_index };
        self.spread(&mut slots, &visit.taps, &dims(&visit.taps), tap_index);
        let mut at_row = slots.clone();
        for slot in &visit.inner {
            at_row[*slot as usize] = Some(self.b.int(0));
        }
        let guards = self.settled(&dense.steps, &mut at_row)?;
        let guard = guards.into_iter().fold(None, |all, g| self.b.and(all, Some(g)));
        let index = at(&node.reads[dense.a], &at_row);
        let a = self.address(node.args[dense.a], &index)?;
        let column = self.b.read(n);
        self.spread(&mut slots, columns, &dims(columns), column);
        let epilogue = self.epilogue(placed, &slots, acc);
        Some(Contraction {
            m,
            m_extent,
            row,
            n,
            n_extent: volume(columns),
            tap,
            taps: volume(&visit.taps),
            k,
            k_extent: volume(&visit.inner),
            a,
            a_stride: visit.stride,
            guard,
            beside: 1,
            packed,
            panel,
            part: None,
            acc,
            epilogue,
        })
    }

    /// The variables of a row: its place along each axis.
    fn row_variables(&mut self, slots: &mut Slots, rows: &[Slot], dims: &[Size], m: Var) -> Vec<(Var, Id<Expr>)> {
        let m = self.b.read(m);
        self.spread(slots, rows, dims, m);
        let mut res = Vec::new();
        for slot in rows {
            let value = slots[*slot as usize].expect("lower: just set");
            if !matches!(self.b.get(value), Expr::Var(_) | Expr::Int(_)) {
                let var = self.b.var();
                res.push((var, value));
                slots[*slot as usize] = Some(self.b.read(var));
            }
        }
        res
    }

    /// What is done with a finished sum: the value of the kernel's root, computed from it and stored.
    fn epilogue(&mut self, placed: &Placed, slots: &Slots, acc: Var) -> Vec<Stmt> {
        let node = self.graph().node(placed.id);
        let mut sum = self.b.read(acc);
        for k in &placed.dense.numbers {
            let number = self.operand(node, *k, slots);
            sum = self.b.mul(sum, number);
        }
        let mut index = vec![self.b.int(0); placed.axis_of_root.len()];
        for (slot, axis) in node.out.iter().zip(&placed.axis_of_root) {
            index[*axis] = slots[*slot as usize].expect("lower: every axis of the result is known");
        }
        self.open();
        self.given.push(Given { value: placed.id, expr: sum });
        let value = self.element(placed.root, &index);
        self.given.clear();
        self.put(&placed.home, &index, value);
        self.close()
    }
}

/// The longest chain of axes from the given one on, each a whole run of the one before.
fn chain(steps: &[(i64, Slot, usize)], first: usize) -> Vec<(i64, Slot, usize)> {
    let mut res = vec![steps[first]];
    for next in &steps[first + 1..] {
        let (step, _, extent) = res[res.len() - 1];
        if next.0 == step * extent as i64 {
            res.push(*next);
        }
    }
    res
}

/// By how many elements an address moves when a variable grows by one, where that is one number.
pub(super) fn address_step(b: &Builder, index: &[Id<Expr>], shape: &[Size], var: Var) -> Option<i64> {
    let mut stride = Some(1);
    let mut res = 0;
    for (i, dim) in index.iter().zip(shape).rev() {
        match coefficient(b, *i, var)? {
            0 => (),
            c => res += c * stride?,
        }
        stride = stride.and_then(|s: i64| dim.as_fixed().map(|d| s * d as i64));
    }
    Some(res)
}

/// The factor of a variable in an index that is affine in it.
fn coefficient(b: &Builder, expr: Id<Expr>, var: Var) -> Option<i64> {
    let known = |e: Id<Expr>| match b.get(e) {
        Expr::Int(k) => Some(*k),
        _ => None,
    };
    match b.get(expr) {
        Expr::Var(v) => Some(i64::from(*v == var)),
        Expr::Binary { f: Binary::Add, x, y } => Some(coefficient(b, *x, var)? + coefficient(b, *y, var)?),
        Expr::Binary { f: Binary::Sub, x, y } => Some(coefficient(b, *x, var)? - coefficient(b, *y, var)?),
        Expr::Binary { f: Binary::Mul, x, y } => match (coefficient(b, *x, var)?, coefficient(b, *y, var)?) {
            (0, 0) => Some(0),
            (c, 0) => known(*y).map(|k| c * k),
            (0, c) => known(*x).map(|k| c * k),
            _ => None,
        },
        _ => (!mentions(b, expr, var)).then_some(0),
    }
}

/// Whether an expression reads a variable.
fn mentions(b: &Builder, expr: Id<Expr>, var: Var) -> bool {
    match b.get(expr) {
        Expr::Var(v) => *v == var,
        other => crate::kernel::verify::operands(other).into_iter().any(|x| mentions(b, x, var)),
    }
}
