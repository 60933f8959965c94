//! Sums along the rows of a sparse matrix of products, often with constants that are mostly zero: tensor products on edges.
//!
//! All such sums over the same rows are one kernel. A row's sums are kept in local arrays, channels innermost; for each entry
//! the factors without channels are multiplied into numbers first, then one loop over channels does all products, written
//! out, zeros left out; one store a row. Nothing of size entries x channels exists.

use std::collections::BTreeMap;

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{Buffer, Expr, LoopKind};
use crate::kernel::lower::cx::{Cx, Given};
use crate::kernel::lower::element::Slots;
use crate::kernel::lower::homes::When;
use crate::kernel::lower::plan::{self, Edge, Step};
use crate::kernel::lower::{Home, Lowering};
use crate::tensor::graph::{Function, Graph};
use crate::tensor::op::{Node, Op, Slot, ValueId};

/// Products that are written out for one sum.
const MOST_TERMS: usize = 300;
/// Numbers that one row of a value may have in local memory.
const MOST_ROW: usize = 8192;
/// Fewer channels than this are not worth lanes.
const LEAST_CHANNELS: usize = 4;

/// A sum over the entries of rows.
#[derive(Clone, Debug)]
pub(super) struct RowSum {
    pub(super) id: ValueId,
    /// The rows, and the steps that do not repeat.
    rows: Edge,
    steps: Vec<Step>,
    /// The small axes that are summed, written out.
    summed: Vec<Slot>,
    factors: Vec<usize>,
    /// The axis of the result on the lanes.
    pub(super) channel: Slot,
    /// Its small axes, written out.
    components: Vec<Slot>,
}

/// A value whose kernel has row sums, with the axes that they share.
#[derive(Clone, Debug)]
pub(super) struct RowRoot {
    pub(super) root: ValueId,
    pub(super) sums: Vec<RowSum>,
    /// For each sum, which axis of the root each of its axes is.
    pub(super) axes: Vec<Vec<usize>>,
    row: usize,
    pub(super) channel: usize,
    components: Vec<usize>,
}

/// Whether a value is a row sum, and how.
pub(super) fn classify(graph: &Graph, id: ValueId, when: &BTreeMap<ValueId, When>) -> Option<RowSum> {
    let node = graph.node(id);
    if node.op != Op::Contract || when[&id] != When::Call {
        return None;
    }
    let plan = plan::plan(graph, node);
    let sizes = plan::slot_sizes(graph, node);
    let extent = |s: Slot| sizes[s as usize].as_fixed();
    let (mut rows, mut steps, mut summed) = (None, vec![], vec![]);
    for step in plan.steps {
        match step {
            Step::Rows(edge) if rows.is_none() && node.out.contains(&edge.to) => rows = Some(edge),
            Step::Loop { slot } if extent(slot).is_some_and(|n| n <= 32) => summed.push(slot),
            Step::Only { slot } => summed.push(slot),
            Step::Define(edge) if total(graph, &edge) => steps.push(Step::Define(edge)),
            Step::Rows(_) | Step::Loop { .. } | Step::Define(_) => return None,
            Step::Check(_) | Step::Solve { .. } | Step::Digits(_) | Step::Fibre(_) => return None,
        }
    }
    let rows = rows?;
    let is_constant = |k: &usize| matches!(graph.node(node.args[*k]).op, Op::Constant(_));
    let of_constants = |s: &Slot| plan.factors.iter().any(|k| is_constant(k) && node.reads[*k].contains(s));
    let others = || node.out.iter().copied().filter(|s| *s != rows.to);
    let free = others().filter(|s| !of_constants(s) && !summed.contains(s));
    let channel = free.max_by_key(|s| extent(*s))?;
    let components: Vec<Slot> = others().filter(|s| *s != channel).collect();
    // an entry and a channel must determine what functions give: the written-out axes are numbers only inside
    let mut known: Vec<Slot> = rows.from.iter().copied().chain([rows.to, channel]).collect();
    for step in &steps {
        let Step::Define(edge) = step else { continue };
        if !edge.from.iter().all(|s| known.contains(s)) {
            return None;
        }
        known.push(edge.to);
    }
    let written: Option<usize> = components.iter().chain(&summed).try_fold(1, |n, s| extent(*s).map(|d| n * d));
    let sparse = plan.factors.iter().any(|k| is_constant(k) && !node.reads[*k].is_empty());
    // rewriting may have contracted the constants with one entry's numbers: then the product is dense, and still a row sum
    let product = plan.factors.len() >= 2;
    let fits = extent(channel)? >= LEAST_CHANNELS && written? <= 4096 && (sparse || product);
    let res = RowSum { id, rows, steps, summed, factors: plan.factors, channel, components };
    (fits && res.terms(graph).len() <= MOST_TERMS).then_some(res)
}

/// Whether a function is defined everywhere.
pub(super) fn total(graph: &Graph, edge: &Edge) -> bool {
    match &graph.relations[edge.relation].map {
        Function::Table(_) => true,
        Function::Constant(table) => table.iter().all(Option::is_some),
        Function::Affine { outside, .. } => *outside == crate::tensor::graph::Outside::Never,
    }
}

/// One product: the values of the written-out axes, and the product of the constants there.
pub(super) struct Term {
    pub(super) at: BTreeMap<Slot, usize>,
    pub(super) coefficient: f64,
}

/// The products of a node over all places of some axes, where others are known, that the constants do not make zero.
pub(super) fn terms(
    graph: &Graph,
    node: &Node,
    factors: &[usize],
    slots: &[Slot],
    known: &BTreeMap<Slot, usize>,
) -> Vec<Term> {
    let sizes = plan::slot_sizes(graph, node);
    let dims: Vec<usize> = slots.iter().map(|s| sizes[*s as usize].as_fixed().unwrap_or(0)).collect();
    let mut res = Vec::new();
    for flat in 0..dims.iter().product() {
        let mut rest: usize = flat;
        let mut at = known.clone();
        for (slot, dim) in slots.iter().zip(&dims).rev() {
            at.insert(*slot, rest % dim);
            rest /= dim;
        }
        let coefficient = factors.iter().map(|k| constant_at(graph, node, *k, &at).unwrap_or(1.0)).product();
        if coefficient != 0.0 {
            res.push(Term { at, coefficient });
        }
    }
    res
}

impl RowSum {
    /// Whether two sums run over the same rows.
    pub(super) fn same_rows(&self, other: &RowSum) -> bool {
        self.rows.relation == other.rows.relation
    }

    /// The products that are not zero at compile time.
    fn terms(&self, graph: &Graph) -> Vec<Term> {
        let slots: Vec<Slot> = self.components.iter().chain(&self.summed).copied().collect();
        terms(graph, graph.node(self.id), &self.factors, &slots, &BTreeMap::new())
    }

    /// The axes of an operand that are read on the lanes.
    pub(super) fn lane_axes(&self, graph: &Graph, operand: ValueId) -> impl Iterator<Item = usize> {
        let node = graph.node(self.id);
        let reads = node.args.iter().zip(&node.reads).filter(move |(arg, _)| **arg == operand);
        let axes = reads.flat_map(|(_, reads)| (0..reads.len()).filter(|k| self.on_lanes(reads[*k])));
        axes.collect::<Vec<_>>().into_iter()
    }

    /// Whether a factor is read at several places of the written-out axes.
    fn is_written(&self, node: &Node, k: usize) -> bool {
        node.reads[k].iter().any(|s| self.components.contains(s) || self.summed.contains(s))
    }

    /// The values of which several numbers are read on lanes.
    fn varying(&self, graph: &Graph) -> Vec<ValueId> {
        let node = graph.node(self.id);
        let on_lanes = |k: &usize| node.reads[*k].iter().any(|s| self.on_lanes(*s));
        let varying = self.factors.iter().filter(|k| on_lanes(k) && self.is_written(node, **k));
        varying.map(|k| node.args[*k]).collect()
    }

    /// The axes that the channel determines.
    fn on_lanes(&self, slot: Slot) -> bool {
        let defined = |step: &Step| match step {
            Step::Define(edge) => edge.to == slot && edge.from.iter().any(|s| self.on_lanes(*s)),
            _ => false,
        };
        slot == self.channel || self.steps.iter().any(defined)
    }
}

/// The number that a constant factor is at these places.
pub(super) fn constant_at(graph: &Graph, node: &Node, k: usize, at: &BTreeMap<Slot, usize>) -> Option<f64> {
    let Op::Constant(id) = graph.node(node.args[k]).op else { return None };
    let constant = &graph.constants[id];
    let mut place = 0;
    for (slot, dim) in node.reads[k].iter().zip(&constant.dims) {
        place = place * dim + at.get(slot)?;
    }
    Some(constant.data[place])
}

impl RowRoot {
    /// The root of one sum.
    pub(super) fn new(graph: &Graph, root: ValueId, sum: RowSum, axes: Vec<usize>) -> RowRoot {
        let out = &graph.node(sum.id).out;
        let axis = |slot: Slot| axes[out.iter().position(|s| *s == slot).expect("an axis of the result")];
        let (row, channel) = (axis(sum.rows.to), axis(sum.channel));
        let components = sum.components.iter().map(|s| axis(*s)).collect();
        RowRoot { root, row, channel, components, sums: vec![sum], axes: vec![axes] }
    }

    /// Adds a sum, if it has the same row, channel and components.
    pub(super) fn join(&mut self, graph: &Graph, sum: RowSum, axes: Vec<usize>) -> bool {
        let other = RowRoot::new(graph, self.root, sum, axes);
        let fits = other.row == self.row && other.channel == self.channel && other.sums[0].same_rows(&self.sums[0]);
        if fits {
            self.sums.extend(other.sums);
            self.axes.extend(other.axes);
        }
        fits
    }

    fn n_components(&self, dims: &[Size]) -> usize {
        self.components.iter().filter_map(|axis| dims[*axis].as_fixed()).product()
    }

    /// The numbers of a row.
    pub(super) fn row_len(&self, graph: &Graph) -> usize {
        let dims = &graph.ty(self.root).dims;
        self.n_components(dims) * dims[self.channel].as_fixed().unwrap_or(MOST_ROW)
    }

    /// Whether a row fits local memory together with `others` numbers.
    pub(super) fn fits(&self, graph: &Graph, others: usize) -> bool {
        self.row_len(graph) + others <= MOST_ROW
    }

    /// The index of a root's component number `v`, at a row and a channel.
    fn index(&self, cx: &mut Cx, dims: &[Size], v: usize, row: Id<Expr>, channel: Id<Expr>) -> Vec<Id<Expr>> {
        let flat = cx.b.int(v as i64);
        let parts: Vec<Size> = self.components.iter().map(|axis| dims[*axis]).collect();
        let parts = cx.b.unflatten(flat, &parts);
        let mut index = vec![row; dims.len()];
        index[self.channel] = channel;
        for (axis, i) in self.components.iter().zip(parts) {
            index[*axis] = i;
        }
        index
    }
}

/// What one sum adds at one component: `common · Σ varying · number`, all on the lanes but the numbers.
struct Addend {
    component: usize,
    /// The places of the written-out axes that the factors on lanes read, with the number they are multiplied by.
    varying: Vec<(BTreeMap<Slot, usize>, Id<Expr>)>,
}

impl Lowering<'_> {
    /// The kernel of all roots over the same rows.
    pub(super) fn row_kernel(&mut self, roots: &[RowRoot], homes: &[Home], when: When) {
        let graph = self.graph;
        let name = format!("rows {}", self.program.buffers[homes[0].buffer].name);
        let mut cx = Cx::new(self);
        let rows = roots[0].sums[0].rows.clone();
        let n_rows = cx.b.size(graph.relations[rows.relation].to);
        cx.each(n_rows, LoopKind::Parallel, |cx, row| {
            let sums: Vec<Id<Buffer>> = roots.iter().map(|root| cx.row_sums(root)).collect();
            let mut slots: Slots = vec![None; 1 + rows.from.iter().copied().max().unwrap_or(0).max(rows.to) as usize];
            slots[rows.to as usize] = Some(row);
            cx.each_of_row(&rows, &mut slots, &mut |cx, slots| {
                let entry: Vec<Id<Expr>> =
                    rows.from.iter().map(|s| slots[*s as usize].expect("lower: an entry is known")).collect();
                cx.entry(roots, &sums, row, &entry);
            });
            for ((root, home), buffer) in roots.iter().zip(homes).zip(&sums) {
                cx.finished_row(root, home, *buffer, row);
            }
        });
        cx.finish(name, when.stage());
    }
}

impl Cx<'_, '_> {
    /// The local array of a root's sums, `[component, channel]`, zero.
    fn row_sums(&mut self, root: &RowRoot) -> Id<Buffer> {
        let dims = self.graph().ty(root.root).dims.clone();
        let (n, channels) = (root.n_components(&dims), dims[root.channel].as_fixed().expect("lower: fixed channels"));
        let buffer = self.local("sums", &[n, channels]);
        let extent = self.b.int(channels as i64);
        self.each(extent, LoopKind::Vector, |cx, c| {
            let zero = cx.b.float(0.0);
            for v in 0..n {
                let v = cx.b.int(v as i64);
                cx.store(buffer, vec![v, c], zero);
            }
        });
        buffer
    }

    /// What one entry adds to all sums: numbers first, then a loop over channels for each number of channels.
    fn entry(&mut self, roots: &[RowRoot], buffers: &[Id<Buffer>], row: Id<Expr>, entry: &[Id<Expr>]) {
        let graph = self.graph();
        let channels =
            |root: &RowRoot| graph.ty(root.root).dims[root.channel].as_fixed().expect("lower: fixed channels");
        let mut bound = BTreeMap::new();
        let mut prepared: Vec<(usize, &RowSum, Slots, Vec<Addend>)> = Vec::new();
        for (r, root) in roots.iter().enumerate() {
            for (sum, axes) in root.sums.iter().zip(&root.axes) {
                let slots = self.entry_slots(sum, row, entry, &mut bound);
                let addends = self.addends(root, sum, axes, &slots, &mut bound);
                prepared.push((r, sum, slots, addends));
            }
        }
        prepared.sort_by_key(|(_, sum, ..)| sum.varying(graph));
        let mut widths: Vec<usize> = roots.iter().map(channels).collect();
        widths.sort_unstable();
        widths.dedup();
        for width in widths {
            let extent = self.b.int(width as i64);
            self.each(extent, LoopKind::Vector, |cx, c| {
                let mut bound = bound.clone();
                let of_width: Vec<_> = prepared.iter().filter(|(r, ..)| channels(&roots[*r]) == width).collect();
                // sums that read the same values on lanes together: then few of them are held at a time
                for group in of_width.chunk_by(|a, b| a.1.varying(graph) == b.1.varying(graph)) {
                    let mut totals: BTreeMap<(usize, usize), Id<Expr>> = BTreeMap::new();
                    for (r, sum, slots, addends) in group {
                        cx.add_on_lanes((*r, buffers[*r]), sum, slots, addends, c, &mut bound, &mut totals);
                    }
                    for ((r, v), total) in totals {
                        let v = cx.b.int(v as i64);
                        cx.store(buffers[r], vec![v, c], total);
                    }
                }
            });
        }
    }

    /// The axes of a sum that an entry determines without its channel.
    fn entry_slots(
        &mut self,
        sum: &RowSum,
        row: Id<Expr>,
        entry: &[Id<Expr>],
        bound: &mut BTreeMap<Id<Expr>, Id<Expr>>,
    ) -> Slots {
        let sizes = plan::slot_sizes(self.graph(), self.graph().node(sum.id));
        let mut slots: Slots = vec![None; sizes.len()];
        slots[sum.rows.to as usize] = Some(row);
        for (slot, i) in sum.rows.from.iter().zip(entry) {
            slots[*slot as usize] = Some(*i);
        }
        for step in &sum.steps {
            let Step::Define(edge) = step else { continue };
            if edge.from.iter().all(|s| slots[*s as usize].is_some()) {
                self.settle(step, &mut slots);
                let value = slots[edge.to as usize].expect("lower: just defined");
                slots[edge.to as usize] = Some(self.bind_once(value, bound));
            }
        }
        slots
    }

    /// `let v = value`, once for each value.
    fn bind_once(&mut self, value: Id<Expr>, bound: &mut BTreeMap<Id<Expr>, Id<Expr>>) -> Id<Expr> {
        if let Some(known) = bound.get(&value) {
            return *known;
        }
        let res = self.bind(value);
        bound.insert(value, res);
        res
    }

    /// The products of a sum, gathered by component and by what the factors on lanes read; the rest is multiplied here.
    fn addends(
        &mut self,
        root: &RowRoot,
        sum: &RowSum,
        axes: &[usize],
        slots: &Slots,
        bound: &mut BTreeMap<Id<Expr>, Id<Expr>>,
    ) -> Vec<Addend> {
        let graph = self.graph();
        let node = graph.node(sum.id);
        let dims = graph.ty(root.root).dims.clone();
        let on_lanes = |k: usize| node.reads[k].iter().any(|s| sum.on_lanes(*s));
        let mut numbers: BTreeMap<(usize, BTreeMap<Slot, usize>), Id<Expr>> = BTreeMap::new();
        for term in sum.terms(graph) {
            let mut slots = slots.clone();
            for (slot, i) in &term.at {
                slots[*slot as usize] = Some(self.b.int(*i as i64));
            }
            let mut factors = vec![self.b.float(term.coefficient)];
            for k in sum.factors.iter().filter(|k| !on_lanes(**k)) {
                if constant_at(graph, node, *k, &term.at).is_none() {
                    let factor = self.operand(node, *k, &slots);
                    factors.push(self.bind_once(factor, bound));
                }
            }
            let component = root.components.iter().fold(0, |flat, axis| {
                let at = axes.iter().position(|a| a == axis).expect("the sum has the axis");
                flat * dims[*axis].as_fixed().expect("lower: fixed components") + term.at[&node.out[at]]
            });
            let read = |slot: &Slot| sum.factors.iter().any(|k| on_lanes(*k) && node.reads[*k].contains(slot));
            let at = term.at.iter().filter(|(slot, _)| read(slot)).map(|(s, i)| (*s, *i)).collect();
            let key = (component, at);
            let number = self.add_product(numbers.get(&key).copied(), &factors);
            numbers.insert(key, number);
        }
        let mut res: Vec<Addend> = Vec::new();
        for ((component, at), number) in numbers {
            let number = self.bind_once(number, bound);
            match res.last_mut() {
                Some(last) if last.component == component => last.varying.push((at, number)),
                _ => res.push(Addend { component, varying: vec![(at, number)] }),
            }
        }
        res
    }

    /// `sum + Π factors`
    pub(super) fn add_product(&mut self, sum: Option<Id<Expr>>, factors: &[Id<Expr>]) -> Id<Expr> {
        let (last, head) = factors.split_last().expect("a product has a factor");
        let head = head.iter().copied().reduce(|x, y| self.b.mul(x, y));
        match (sum, head) {
            (None, None) => *last,
            (None, Some(head)) => self.b.mul(head, *last),
            (Some(sum), None) => self.b.add(*last, sum),
            (Some(sum), Some(head)) => self.b.fma(head, *last, sum),
        }
    }

    /// `totals[component] += Π lanes · Σ numbers`, for one sum at channel `c`.
    #[allow(clippy::too_many_arguments, reason = "one step of `entry`, split off for its length")]
    fn add_on_lanes(
        &mut self,
        (r, buffer): (usize, Id<Buffer>),
        sum: &RowSum,
        slots: &Slots,
        addends: &[Addend],
        c: Id<Expr>,
        bound: &mut BTreeMap<Id<Expr>, Id<Expr>>,
        totals: &mut BTreeMap<(usize, usize), Id<Expr>>,
    ) {
        let node = self.graph().node(sum.id);
        let mut slots = slots.clone();
        slots[sum.channel as usize] = Some(c);
        for step in &sum.steps {
            let Step::Define(edge) = step else { continue };
            if slots[edge.to as usize].is_none() {
                self.settle(step, &mut slots);
            }
        }
        let lanes = sum.factors.iter().copied().filter(|k| node.reads[*k].iter().any(|s| sum.on_lanes(*s)));
        let (varying, common): (Vec<usize>, Vec<usize>) = lanes.partition(|k| sum.is_written(node, *k));
        let mut product = None;
        for k in common {
            let factor = self.operand(node, k, &slots);
            let factor = self.bind_once(factor, bound);
            product = Some(product.map_or(factor, |p| self.b.mul(p, factor)));
        }
        for addend in addends {
            let mut inner = None;
            for (at, number) in &addend.varying {
                for (slot, i) in at {
                    slots[*slot as usize] = Some(self.b.int(*i as i64));
                }
                let mut term = *number;
                for (n, k) in varying.iter().enumerate() {
                    let factor = self.operand(node, *k, &slots);
                    let factor = self.bind_once(factor, bound);
                    let last = n + 1 == varying.len();
                    term = match inner {
                        Some(sum) if last => self.b.fma(term, factor, sum),
                        _ => self.b.mul(term, factor),
                    };
                }
                inner = Some(match inner {
                    Some(sum) if varying.is_empty() => self.b.add(sum, term),
                    _ => term,
                });
            }
            let inner = inner.expect("lower: an addend has a term");
            let v = self.b.int(addend.component as i64);
            let old = self.b.load(buffer, vec![v, c]);
            let old = *totals.entry((r, addend.component)).or_insert(old);
            let new = match product {
                Some(product) => self.b.fma(product, inner, old),
                None => self.b.add(inner, old),
            };
            totals.insert((r, addend.component), new);
        }
    }

    /// Stores the finished row of a root, computed from its sums.
    fn finished_row(&mut self, root: &RowRoot, home: &Home, buffer: Id<Buffer>, row: Id<Expr>) {
        let dims = self.graph().ty(root.root).dims.clone();
        let extent = self.b.size(dims[root.channel]);
        self.each(extent, LoopKind::Vector, |cx, c| {
            for v in 0..root.n_components(&dims) {
                let component = cx.b.int(v as i64);
                let total = cx.b.load(buffer, vec![component, c]);
                // the first sum stands for all: they were added to one array
                let zero = cx.b.float(0.0);
                let rest = root.sums[1..].iter().map(|sum| Given { value: sum.id, expr: zero });
                cx.given = rest.chain([Given { value: root.sums[0].id, expr: total }]).collect();
                let index = root.index(cx, &dims, v, row, c);
                let value = cx.element(root.root, &index);
                cx.given.clear();
                cx.put(home, &index, value);
            }
        });
    }
}
