//! The kernel of sums row by row: all sums over the same rows together.
//!
//! A row's sums are kept in local arrays, channels innermost; for each entry the factors without channels are multiplied into
//! numbers first, then one loop over channels does all products, written out, zeros left out; one store a row. What only this kernel
//! reads of an entry is computed there too (`entry`), so nothing of size entries x channels exists.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::arena::Id;
use crate::kernel::ir::{Buffer, Expr, LoopKind};
use crate::kernel::lower::cx::{Cx, Given};
use crate::kernel::lower::edges::{LANES, Row, RowRoot, RowSum, constant_at};
use crate::kernel::lower::element::Slots;
use crate::kernel::lower::entry::RowGroup;
use crate::kernel::lower::homes::When;
use crate::kernel::lower::plan::{self, Edge, Step};
use crate::kernel::lower::products::{Addition, Product};
use crate::kernel::lower::{Home, Lowering};
use crate::tensor::op::{Node, Slot};

/// What one sum adds at one component: `common · Σ varying · number`, all on the lanes but the numbers.
struct Addend {
    component: usize,
    /// The places of the written-out axes that the factors on lanes read, with the number they are multiplied by.
    varying: Vec<(BTreeMap<Slot, usize>, Id<Expr>)>,
}

/// A sum at one entry: its root's number, what the entry determines, what it adds.
struct Prepared<'r> {
    root: usize,
    sum: &'r RowSum,
    slots: Slots,
    addends: Vec<Addend>,
}

/// Sums so far, by root and component.
type Totals = BTreeMap<(usize, usize), Id<Expr>>;

impl Lowering<'_> {
    /// The kernel of all roots over the same rows.
    pub(super) fn row_kernel(&mut self, group: &RowGroup, homes: &[Home], when: When) {
        let roots = &group.roots[..];
        let name = format!("rows {}", self.program.buffers[homes[0].buffer].name);
        let rows = roots[0].sums[0].rows.clone();
        let n_rows = match &rows {
            Row::Entries(edge) => self.graph.relations[edge.relation].to,
            Row::Place(_, size) => *size,
        };
        let mut cx = Cx::new(self);
        let n_rows = cx.b.size(n_rows);
        cx.each(n_rows, LoopKind::Parallel, |cx, row| {
            let sums: Vec<Id<Buffer>> = roots.iter().map(|root| cx.row_sums(root)).collect();
            let kept: Vec<Home> = group.kept.iter().map(|root| cx.kept_home(root)).collect();
            let keep = |cx: &mut Cx, entry: &[Id<Expr>]| {
                for (root, home) in group.kept.iter().zip(&kept) {
                    cx.keep(root, home, entry[0]);
                    cx.low.homes.insert(root.root, home.clone());
                }
            };
            match &rows {
                Row::Entries(edge) => cx.of_row(edge, row, |cx, entry| {
                    keep(cx, entry);
                    cx.entry(roots, &sums, row, entry);
                }),
                Row::Place(..) => {
                    keep(cx, &[row]);
                    cx.entry(roots, &sums, row, &[]);
                }
            }
            for ((root, home), buffer) in roots.iter().zip(homes).zip(&sums) {
                match root.channel {
                    Some(axis) => cx.finished_row(root, home, *buffer, row, axis),
                    None => cx.finished_place(root, home, *buffer, row),
                }
            }
        });
        cx.finish(name, when.stage());
        // another kernel that keeps them has memory of its own
        group.kept.iter().for_each(|root| drop(self.homes.remove(&root.root)));
    }
}

impl Cx<'_, '_> {
    /// Where a value of an entry is kept: an array `[component.., channel]`.
    fn kept_home(&mut self, root: &RowRoot) -> Home {
        let dims = self.graph().ty(root.root).dims.clone();
        let order: Vec<usize> = root.components.iter().copied().chain(root.channel).collect();
        let shape: Vec<usize> =
            order.iter().map(|k| dims[*k].as_fixed().expect("lower: kept axes are fixed")).collect();
        Home { buffer: self.local("kept", &shape), order, flat: vec![], begin: 0 }
    }

    /// Computes a value at an entry.
    fn keep(&mut self, root: &RowRoot, home: &Home, entry: Id<Expr>) {
        let dims = self.graph().ty(root.root).dims.clone();
        let mut bound = BTreeMap::new();
        let mut prepared: Vec<Prepared> = Vec::new();
        for (sum, axes) in root.sums.iter().zip(&root.axes) {
            let slots = self.entry_slots(sum, entry, &[], &mut bound);
            let addends = self.addends(root, sum, axes, &slots, &mut bound);
            prepared.push(Prepared { root: 0, sum, slots, addends });
        }
        let extent = self.b.int(root.width() as i64);
        self.each(extent, LoopKind::Vector, |cx, lane| {
            let mut totals = Totals::new();
            prepared.iter().for_each(|p| cx.add_on_lanes(p, lane, &mut bound, &mut totals));
            for v in 0..root.n_components(&dims) {
                let total = totals.get(&(0, v)).copied().unwrap_or_else(|| cx.b.float(0.0));
                let index = root.index(cx, &dims, v, entry, Some(lane));
                cx.put_finished(root, home, &index, total);
            }
        });
    }

    /// The local array of a root's sums, `[component, channel]`: zero, where entries will be added to them.
    fn row_sums(&mut self, root: &RowRoot) -> Id<Buffer> {
        let n = root.n_components(&self.graph().ty(root.root).dims);
        let buffer = self.local("sums", &[n, root.width()]);
        if root.channel.is_some() {
            let extent = self.b.int(root.width() as i64);
            self.each(extent, LoopKind::Vector, |cx, c| {
                let zero = cx.b.float(0.0);
                for v in 0..n {
                    let v = cx.b.int(v as i64);
                    cx.store(buffer, vec![v, c], zero);
                }
            });
        }
        buffer
    }

    fn of_row(&mut self, edge: &Edge, row: Id<Expr>, body: impl Fn(&mut Self, &[Id<Expr>])) {
        let mut slots: Slots = vec![None; 1 + edge.from.iter().copied().max().unwrap_or(0).max(edge.to) as usize];
        slots[edge.to as usize] = Some(row);
        self.each_of_row(edge, &mut slots, &mut |cx, slots| {
            let entry: Vec<Id<Expr>> =
                edge.from.iter().map(|s| slots[*s as usize].expect("lower: an entry is known")).collect();
            body(cx, &entry);
        });
    }

    /// What one entry adds to all sums: numbers first, then a loop over channels for each number of channels.
    fn entry(&mut self, roots: &[RowRoot], buffers: &[Id<Buffer>], row: Id<Expr>, entry: &[Id<Expr>]) {
        let graph = self.graph();
        let mut bound = BTreeMap::new();
        let mut prepared: Vec<Prepared> = Vec::new();
        for (r, root) in roots.iter().enumerate() {
            for (sum, axes) in root.sums.iter().zip(&root.axes) {
                let slots = self.entry_slots(sum, row, entry, &mut bound);
                let addends = self.addends(root, sum, axes, &slots, &mut bound);
                prepared.push(Prepared { root: r, sum, slots, addends });
            }
        }
        prepared.sort_by_key(|p| p.sum.varying(graph));
        let mut channels: Vec<usize> = roots.iter().map(|root| root.sums[0].channels).collect();
        channels.sort_unstable();
        channels.dedup();
        for n in channels {
            let of_width: Vec<&Prepared> = prepared.iter().filter(|p| p.sum.channels == n).collect();
            let width = of_width[0].sum.width();
            let extent = self.b.int(width as i64);
            self.each(extent, LoopKind::Vector, |cx, lane| {
                let mut bound = bound.clone();
                let mut stored: BTreeSet<(usize, usize)> = BTreeSet::new();
                // sums that read the same values on lanes together: then few of them are held at a time
                for group in of_width.chunk_by(|a, b| a.sum.varying(graph) == b.sum.varying(graph)) {
                    let totals = cx.group_on_lanes(group, buffers, &stored, lane, &mut bound);
                    for ((r, v), total) in totals {
                        stored.insert((r, v));
                        let v = cx.b.int(v as i64);
                        cx.store(buffers[r], vec![v, lane], total);
                    }
                }
                for (r, root) in roots.iter().enumerate().filter(|(_, root)| root.sums[0].channels == n) {
                    cx.store_missing(root, r, buffers[r], &stored, lane);
                }
            });
        }
    }

    /// Zeros where nothing was added to places, which start without any.
    fn store_missing(
        &mut self,
        root: &RowRoot,
        r: usize,
        buffer: Id<Buffer>,
        stored: &BTreeSet<(usize, usize)>,
        lane: Id<Expr>,
    ) {
        let n = root.n_components(&self.graph().ty(root.root).dims);
        for v in (0..n).filter(|v| root.channel.is_none() && !stored.contains(&(r, *v))) {
            let (v, zero) = (self.b.int(v as i64), self.b.float(0.0));
            self.store(buffer, vec![v, lane], zero);
        }
    }

    /// The totals of some sums in a lane: of kept channels with what the entries before have added, of summed channels over all
    /// that meet in the lane; with what other groups have `stored`.
    fn group_on_lanes(
        &mut self,
        group: &[&Prepared],
        buffers: &[Id<Buffer>],
        stored: &BTreeSet<(usize, usize)>,
        lane: Id<Expr>,
        bound: &mut BTreeMap<Id<Expr>, Id<Expr>>,
    ) -> Totals {
        let mut totals = Totals::new();
        for p in group {
            let is_added = matches!(p.sum.rows, Row::Entries(_));
            for addend in &p.addends {
                let key = (p.root, addend.component);
                if !totals.contains_key(&key) && (is_added || stored.contains(&key)) {
                    let v = self.b.int(addend.component as i64);
                    let old = self.b.load(buffers[p.root], vec![v, lane]);
                    totals.insert(key, old);
                }
            }
            let width = p.sum.width();
            for first in (0..p.sum.channels).step_by(width) {
                let first = self.b.int(first as i64);
                let channel = self.b.add(first, lane);
                self.add_on_lanes(p, channel, bound, &mut totals);
            }
        }
        totals
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
        slots[sum.rows.slot() as usize] = Some(row);
        if let Row::Entries(edge) = &sum.rows {
            for (slot, i) in edge.from.iter().zip(entry) {
                slots[*slot as usize] = Some(*i);
            }
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
    pub(super) fn bind_once(&mut self, value: Id<Expr>, bound: &mut BTreeMap<Id<Expr>, Id<Expr>>) -> Id<Expr> {
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

    /// Adds one sum at channel `c` to the totals of its components.
    fn add_on_lanes(
        &mut self,
        p: &Prepared,
        c: Id<Expr>,
        bound: &mut BTreeMap<Id<Expr>, Id<Expr>>,
        totals: &mut Totals,
    ) {
        let (sum, node) = (p.sum, self.graph().node(p.sum.id));
        let mut slots = p.slots.clone();
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
        let sums = p.addends.iter().map(|addend| {
            let products = self.products(node, addend, &varying, &mut slots, bound);
            Addition { to: (p.root, addend.component), products }
        });
        let sums = sums.collect();
        self.add_sums(product, sums, bound, totals);
    }

    /// The products of an addend, their factors on lanes in variables.
    fn products(
        &mut self,
        node: &Node,
        addend: &Addend,
        varying: &[usize],
        slots: &mut Slots,
        bound: &mut BTreeMap<Id<Expr>, Id<Expr>>,
    ) -> Vec<Product> {
        let product = |(at, number): &(BTreeMap<Slot, usize>, Id<Expr>)| {
            for (slot, i) in at {
                slots[*slot as usize] = Some(self.b.int(*i as i64));
            }
            let lanes = varying.iter().map(|k| {
                let factor = self.operand(node, *k, slots);
                self.bind_once(factor, bound)
            });
            Product { number: *number, lanes: lanes.collect() }
        };
        addend.varying.iter().map(product).collect()
    }

    /// Stores the finished row of a root, computed from its sums.
    fn finished_row(&mut self, root: &RowRoot, home: &Home, buffer: Id<Buffer>, row: Id<Expr>, channel: usize) {
        let dims = self.graph().ty(root.root).dims.clone();
        let extent = self.b.size(dims[channel]);
        self.each(extent, LoopKind::Vector, |cx, c| {
            for v in 0..root.n_components(&dims) {
                let component = cx.b.int(v as i64);
                let total = cx.b.load(buffer, vec![component, c]);
                let index = root.index(cx, &dims, v, row, Some(c));
                cx.put_finished(root, home, &index, total);
            }
        });
    }

    /// Adds up the lanes of a root's sums, halving them while they are many, and stores what is computed from each.
    fn finished_place(&mut self, root: &RowRoot, home: &Home, buffer: Id<Buffer>, row: Id<Expr>) {
        let dims = self.graph().ty(root.root).dims.clone();
        let n = root.n_components(&dims);
        let mut width = root.width();
        while width > LANES / 2 {
            width /= 2;
            let extent = self.b.int(width as i64);
            let half = extent;
            self.each(extent, LoopKind::Vector, |cx, low| {
                let high = cx.b.add(low, half);
                for v in 0..n {
                    let v = cx.b.int(v as i64);
                    let (a, b) = (cx.b.load(buffer, vec![v, low]), cx.b.load(buffer, vec![v, high]));
                    let sum = cx.b.add(a, b);
                    cx.store(buffer, vec![v, low], sum);
                }
            });
        }
        for v in 0..n {
            let component = self.b.int(v as i64);
            let mut total = None;
            for lane in 0..width {
                let lane = self.b.int(lane as i64);
                let part = self.b.load(buffer, vec![component, lane]);
                total = Some(total.map_or(part, |sum| self.b.add(sum, part)));
            }
            let index = root.index(self, &dims, v, row, None);
            self.put_finished(root, home, &index, total.expect("lower: there are lanes"));
        }
    }

    /// Stores an element of a root, given what its sums are together.
    fn put_finished(&mut self, root: &RowRoot, home: &Home, index: &[Id<Expr>], total: Id<Expr>) {
        // the first sum stands for all: they were added to one array
        let zero = self.b.float(0.0);
        let rest = root.sums[1..].iter().map(|sum| Given { value: sum.id, expr: zero });
        self.given = rest.chain([Given { value: root.sums[0].id, expr: total }]).collect();
        let value = self.element(root.root, index);
        self.given.clear();
        self.put(home, index, value);
    }
}
