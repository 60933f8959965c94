//! The pairs of an instance: places of two tables with the same two ends in either order are of one class. Made at bind in time linear in
//! places and ends.
//!
//! Places are sorted by their greater end and then, which keeps that order among equals, by their lesser one (two counting sorts): a class
//! is a run, and begins with its first place. Classes are then numbered in the order of these.

use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::base::size::Size;
use crate::kernel::ir::{Access, Binary, Buffer, Combine, Comparison, Count, Expr, LoopKind, Memory, Stage, Stmt};
use crate::kernel::lower::Lowering;
use crate::kernel::lower::cx::Cx;
use crate::tensor::graph::{Function, InputKind, Paired, PairedWay};
use crate::tensor::print::paired_name;

/// The tables of the pairs of two ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pairs {
    paired: Paired,
    class: Id<Buffer>,
    first: Id<Buffer>,
}

impl Lowering<'_> {
    /// Makes the tables of all pairs, and counts these. (What nothing reads is dropped when the program is complete.)
    pub(super) fn count_pairs(&mut self) {
        for (_, relation) in self.graph.relations.iter() {
            if let Function::Paired(paired @ Paired { way: PairedWay::Class, .. }) = relation.map {
                self.pair(paired, relation.to);
            }
        }
    }

    /// The table of a class's first place, or of a place's class.
    pub(super) fn paired(&mut self, paired: &Paired) -> Id<Buffer> {
        let pairs = self.pairs.iter().find(|p| p.paired.ends == paired.ends).expect("lower: pairs have classes");
        match paired.way {
            PairedWay::Class => pairs.class,
            PairedWay::First => pairs.first,
        }
    }

    fn pair(&mut self, paired: Paired, classes: Size) {
        let inputs = &self.graph.inputs;
        let places = inputs[paired.ends[0]].dims[0];
        let InputKind::Table { range, .. } = inputs[paired.ends[0]].kind else { panic!("lower: ends are tables") };
        let name = paired_name(self.graph, &paired);
        let mut buffer = |what: &str, shape: &[Size]| {
            self.buffer(&format!("{name}{what}"), Dtype::I32, shape.to_vec(), Memory::Bound)
        };
        let class = buffer("", &[places]);
        let first = buffer(".first", &[places]);
        let head = buffer(".head", &[places]);
        let begin = buffer(".begin", &[range.plus(2)]);
        let (count, run) = (buffer(".count", &[]), buffer(".run", &[]));
        let ends = paired.ends.map(|end| self.program.inputs[end.index()].buffer);
        let mut cx = Cx::new(self);
        let [places, range] = [places, range].map(|n| cx.b.size(n));
        // `class` and `first` hold the two orders until they are what they are called
        let end = |cx: &mut Cx, which: Binary, place: Id<Expr>| {
            let [a, b] = ends.map(|table| cx.b.load(table, vec![place]));
            let end = cx.b.binary(which, a, b);
            cx.bind(end)
        };
        cx.sort_by(begin, range, places, class, &mut |cx, k| (k, end(cx, Binary::Max, k)));
        cx.sort_by(begin, range, places, first, &mut |cx, k| {
            let place = cx.b.load(class, vec![k]);
            let place = cx.bind(place);
            (place, end(cx, Binary::Min, place))
        });
        cx.each(places, LoopKind::Serial, |cx, k| {
            let (one, zero) = (cx.b.int(1), cx.b.int(0));
            let place = cx.b.load(first, vec![k]);
            let place = cx.bind(place);
            let starts = cx.b.compare(Comparison::Eq, k, zero);
            cx.when(Some(starts), |cx| cx.store(run, vec![], place));
            let before = cx.b.sub(k, one);
            let before = cx.b.binary(Binary::Max, before, zero);
            let before = cx.b.load(first, vec![before]);
            let before = cx.bind(before);
            // sorted: the lesser end grows, or stays while the greater one grows
            for which in [Binary::Min, Binary::Max] {
                let (old, new) = (end(cx, which, before), end(cx, which, place));
                let grows = cx.b.compare(Comparison::Lt, old, new);
                cx.when(Some(grows), |cx| cx.store(run, vec![], place));
            }
            let value = cx.b.load(run, vec![]);
            cx.store(head, vec![place], value);
        });
        cx.number(places, [head, class, first, count]);
        cx.finish(format!("pairs {name}"), Stage::Bind);
        self.pairs.push(Pairs { paired, class, first });
        self.program.counts.push(Count { size: classes, buffer: count });
    }
}

impl Cx<'_, '_> {
    /// `order` of the things that `keyed` gives, by their keys; equals in the order in which they come.
    fn sort_by(
        &mut self,
        begin: Id<Buffer>,
        range: Id<Expr>,
        count: Id<Expr>,
        order: Id<Buffer>,
        keyed: &mut dyn FnMut(&mut Self, Id<Expr>) -> (Id<Expr>, Id<Expr>),
    ) {
        let (zero, one, two) = (self.b.int(0), self.b.int(1), self.b.int(2));
        let (keys, all) = (self.b.add(range, one), self.b.add(range, two));
        self.each(all, LoopKind::Serial, |cx, i| cx.store(begin, vec![i], zero));
        self.each(count, LoopKind::Serial, |cx, k| {
            let (_, key) = keyed(cx, k);
            let after = cx.b.add(key, two);
            cx.add_to(begin, after, one);
        });
        self.each(keys, LoopKind::Serial, |cx, i| {
            let (next, value) = (cx.b.add(i, one), cx.b.load(begin, vec![i]));
            cx.add_to(begin, next, value);
        });
        self.each(count, LoopKind::Serial, |cx, k| {
            let (thing, key) = keyed(cx, k);
            let next = cx.b.add(key, one);
            let at = cx.b.load(begin, vec![next]);
            cx.store(order, vec![at], thing);
            cx.add_to(begin, next, one);
        });
    }

    /// The classes by the first place of the class of each place, in order.
    fn number(&mut self, places: Id<Expr>, [head, class, first, count]: [Id<Buffer>; 4]) {
        let (zero, one) = (self.b.int(0), self.b.int(1));
        self.store(count, vec![], zero);
        self.each(places, LoopKind::Serial, |cx, place| {
            let own = cx.b.load(head, vec![place]);
            let own = cx.bind(own);
            let known = cx.b.load(count, vec![]);
            let begins = cx.b.compare(Comparison::Eq, own, place);
            cx.when(Some(begins), |cx| {
                cx.store(class, vec![place], known);
                cx.store(first, vec![known], place);
                cx.emit(Stmt::Accumulate { to: Access { buffer: count, index: vec![] }, f: Combine::Add, value: one });
            });
            let follows = cx.b.compare(Comparison::Lt, own, place);
            cx.when(Some(follows), |cx| {
                let value = cx.b.load(class, vec![own]);
                cx.store(class, vec![place], value);
            });
        });
    }

    fn add_to(&mut self, buffer: Id<Buffer>, index: Id<Expr>, value: Id<Expr>) {
        self.emit(Stmt::Accumulate { to: Access { buffer, index: vec![index] }, f: Combine::Add, value });
    }
}
