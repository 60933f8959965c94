//! The heads of a row of a graph taken together: its entries' scores for all heads lie side by side and are read once, so heads are on
//! lanes where scores become weights, and what is kept is on lanes where weights multiply it.

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{Access, Buffer, Combine, Expr, LoopKind, Stmt};
use crate::kernel::lower::attention::{BLOCK, Entries, Made, Target, Walk};
use crate::kernel::lower::cx::Cx;
use crate::kernel::lower::element::Slots;
use crate::kernel::lower::{Hardware, Lowering};

/// Heads that are worth lanes.
const LEAST_HEADS: usize = 4;
/// Heads whose sums are in registers at a time: a row that an entry leads to is gone through once for all of them.
const TOGETHER: usize = 4;

/// What is kept for all heads of a row, by head.
struct Heads {
    dims: Vec<Size>,
    scores: Id<Buffer>,
    sums: Id<Buffer>,
    tops: Id<Buffer>,
    totals: Id<Buffer>,
    keeps: Id<Buffer>,
}

impl Lowering<'_> {
    /// Whether the heads of a row are taken together: where entries come by a table and heads fill lanes.
    pub(super) fn takes_heads_together(&self, made: &Made<'_>) -> bool {
        let heads = made.attention.heads.iter().map(|slot| made.sizes[*slot as usize].as_fixed());
        let heads = heads.product::<Option<usize>>().unwrap_or(0);
        let by_table = matches!(made.entries(), Some((_, Entries { walk: Walk::Rows(_), .. })));
        self.hardware == Hardware::Cpu && by_table && heads >= LEAST_HEADS
    }
}

impl Cx<'_, '_> {
    /// All rows, each with all its heads.
    pub(super) fn by_rows_of_heads(&mut self, made: &Made<'_>, target: &Target<'_>) {
        let (before, entries) = made.entries().expect("lower: entries come by a table");
        let Walk::Rows(edge) = entries.walk else { panic!("lower: entries come by a table") };
        let mut slots: Slots = vec![None; made.sizes.len()];
        self.each_slot(&[made.attention.row], &made.sizes, [LoopKind::Parallel; 2], &mut slots, &mut |cx, slots| {
            let heads = cx.heads(made);
            cx.settle_all(before, slots);
            let (begin, end) = cx.row_range(edge, slots);
            cx.each_block(begin, end, |cx, first, count| {
                cx.scores_of_heads(made, entries, slots, (first, count), &heads);
                cx.weights_of_heads(made, slots, count, &heads);
                cx.sums_of_heads(made, entries, slots, (first, count), &heads);
            });
            cx.each_head(made, &heads, LoopKind::Serial, slots, &mut |cx, slots, h| {
                let (top, total) = (cx.b.load(heads.tops, vec![h]), cx.b.load(heads.totals, vec![h]));
                let inverse = cx.inverse(top, total);
                cx.statistics(made, target, slots, [top, inverse]);
                cx.finished(made, target, slots, inverse, &mut |cx, place| {
                    cx.b.load(heads.sums, [vec![h], place].concat())
                });
            });
        });
    }

    /// The arrays of a row, before its first entry.
    fn heads(&mut self, made: &Made<'_>) -> Heads {
        let fixed = |slots: &[u32]| -> Vec<Size> { slots.iter().map(|s| made.sizes[*s as usize]).collect() };
        let (dims, kept) = (fixed(&made.attention.heads), fixed(&made.attention.kept));
        let n: usize = dims.iter().filter_map(|dim| dim.as_fixed()).product();
        let kept: Vec<usize> = kept.iter().filter_map(|dim| dim.as_fixed()).collect();
        let heads = Heads {
            dims,
            scores: self.local("scores", &[BLOCK, n]),
            sums: self.local("sums", &[vec![n], kept].concat()),
            tops: self.local("tops", &[n]),
            totals: self.local("totals", &[n]),
            keeps: self.local("keeps", &[n]),
        };
        let (zero, least) = (self.b.float(0.0), self.b.float(f64::NEG_INFINITY));
        let mut slots: Slots = vec![None; made.sizes.len()];
        let extent = self.b.int(n as i64);
        self.each(extent, LoopKind::Vector, |cx, h| {
            cx.store(heads.tops, vec![h], least);
            cx.store(heads.totals, vec![h], zero);
        });
        self.each(extent, LoopKind::Serial, |cx, h| {
            cx.each_kept(made, &mut slots, &mut |cx, _, place| {
                cx.store(heads.sums, [vec![h], place].concat(), zero);
            });
        });
        heads
    }

    /// Loops over all heads as one axis.
    fn each_head(
        &mut self,
        made: &Made<'_>,
        heads: &Heads,
        kind: LoopKind,
        slots: &Slots,
        body: &mut dyn FnMut(&mut Self, &mut Slots, Id<Expr>),
    ) {
        let n: usize = heads.dims.iter().filter_map(|dim| dim.as_fixed()).product();
        let extent = self.b.int(n as i64);
        self.each(extent, kind, |cx, h| {
            let mut slots = slots.clone();
            cx.at_head(made, heads, h, &mut slots);
            body(cx, &mut slots, h);
        });
    }

    fn scores_of_heads(
        &mut self,
        made: &Made<'_>,
        entries: Entries<'_>,
        slots: &Slots,
        (first, count): (Id<Expr>, Id<Expr>),
        heads: &Heads,
    ) {
        self.each(count, LoopKind::Serial, |cx, t| {
            let mut slots = slots.clone();
            cx.entry_of_block(entries, first, t, &mut slots);
            cx.each_head(made, heads, LoopKind::Vector, &slots, &mut |cx, slots, h| {
                let score = cx.score_of_entry(made, slots);
                cx.store(heads.scores, vec![t, h], score);
            });
        });
    }

    /// Turns the scores of a block into weights relative to the greatest so far, and adds them to their sums.
    fn weights_of_heads(&mut self, made: &Made<'_>, slots: &Slots, count: Id<Expr>, heads: &Heads) {
        self.each_head(made, heads, LoopKind::Vector, slots, &mut |cx, _, h| {
            let (top, total) = (cx.local("top", &[]), cx.local("total", &[]));
            let to = |buffer: Id<Buffer>| Access { buffer, index: vec![] };
            let old = cx.b.load(heads.tops, vec![h]);
            let old = cx.bind(old);
            cx.store(top, vec![], old);
            cx.each(count, LoopKind::Serial, |cx, t| {
                let value = cx.b.load(heads.scores, vec![t, h]);
                cx.emit(Stmt::Accumulate { to: to(top), f: Combine::Max, value });
            });
            let new = cx.b.load(top, vec![]);
            let new = cx.bind(new);
            cx.store(heads.tops, vec![h], new);
            let keep = cx.relative(old, new);
            let keep = cx.bind(keep);
            cx.store(heads.keeps, vec![h], keep);
            let before = cx.b.load(heads.totals, vec![h]);
            let before = cx.b.mul(before, keep);
            cx.store(total, vec![], before);
            cx.each(count, LoopKind::Serial, |cx, t| {
                let score = cx.b.load(heads.scores, vec![t, h]);
                let weight = cx.relative(score, new);
                let weight = cx.bind(weight);
                cx.store(heads.scores, vec![t, h], weight);
                cx.emit(Stmt::Accumulate { to: to(total), f: Combine::Add, value: weight });
            });
            let sum = cx.b.load(total, vec![]);
            cx.store(heads.totals, vec![h], sum);
        });
    }

    /// Adds what the entries of a block are worth to the sums of what is kept.
    fn sums_of_heads(
        &mut self,
        made: &Made<'_>,
        entries: Entries<'_>,
        slots: &Slots,
        (first, count): (Id<Expr>, Id<Expr>),
        heads: &Heads,
    ) {
        let n: usize = heads.dims.iter().filter_map(|dim| dim.as_fixed()).product();
        let together = (1..=TOGETHER).rev().find(|k| n.is_multiple_of(*k)).expect("one divides all numbers");
        let groups = self.b.int((n / together) as i64);
        self.each(groups, LoopKind::Serial, |cx, group| {
            let all = cx.b.int(together as i64);
            let before = cx.b.mul(group, all);
            let members: Vec<[Id<Expr>; 2]> = (0..together)
                .map(|k| {
                    let k = cx.b.int(k as i64);
                    [k, cx.b.add(before, k)]
                })
                .collect();
            cx.each_kept(made, &mut slots.clone(), &mut |cx, slots, place| {
                let parts = cx.local("parts", &[together]);
                for [k, h] in &members {
                    let keep = cx.b.load(heads.keeps, vec![*h]);
                    let old = cx.b.load(heads.sums, [vec![*h], place.clone()].concat());
                    let old = cx.b.mul(old, keep);
                    cx.store(parts, vec![*k], old);
                }
                cx.each(count, LoopKind::Serial, |cx, t| {
                    let products: Vec<_> = members
                        .iter()
                        .map(|[k, h]| {
                            let mut slots = slots.clone();
                            cx.at_head(made, heads, *h, &mut slots);
                            cx.entry_of_block(entries, first, t, &mut slots);
                            (*k, [cx.value_of_entry(made, &slots), cx.b.load(heads.scores, vec![t, *h])])
                        })
                        .collect();
                    for (k, factors) in products {
                        cx.accumulate_product(parts, vec![k], &factors);
                    }
                });
                for [k, h] in &members {
                    let sum = cx.b.load(parts, vec![*k]);
                    cx.store(heads.sums, [vec![*h], place.clone()].concat(), sum);
                }
            });
        });
    }

    /// Sets the places along the axes of the heads.
    fn at_head(&mut self, made: &Made<'_>, heads: &Heads, h: Id<Expr>, slots: &mut Slots) {
        let index = self.b.unflatten(h, &heads.dims);
        for (slot, i) in made.attention.heads.iter().zip(index) {
            slots[*slot as usize] = Some(i);
        }
    }
}
