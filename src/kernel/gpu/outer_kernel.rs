//! The kernels of `outer`: a block owns a tile of the result. Its threads bring the rows and the columns of some places at a time into shared
//! memory, in turn into one of two parts, and the next part is on its way while this one is multiplied. Groups of threads take every so
//! many places, each thread 4 × 4 sums of its group; at the end the groups' sums are added in pairs, in the same order in every run.

use super::outer::{Outer, OuterTile, Side};
use super::{Cx, Launch, serial};
use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::base::size::Size;
use crate::kernel::ir::{Access, Binary, Buffer, Comparison, Expr, LoopKind, Stmt};

/// Threads of a block, and rows and columns of a thread.
const THREADS: usize = 256;
const RUN: usize = 4;
/// Numbers between the places of a part that keep those that are written together in different banks.
const PADDING: usize = 4;
/// Places that are written out one after the other.
const UNROLLED: usize = 8;

/// The arrays of a block, and its place.
struct Block<'o> {
    outer: &'o Outer<'o>,
    tile: OuterTile,
    /// The first row and column of the tile.
    first: [Id<Expr>; 2],
    /// How many places there are.
    places: Id<Expr>,
    /// `[thread, i, j]`
    sums: Id<Buffer>,
    /// `[thread, e]`: what a thread fetched of the next part of the rows and of the columns.
    next: [Id<Buffer>; 2],
    /// `[part, place, row or column]`, shared.
    parts: [Id<Buffer>; 2],
    /// `[group, i · 4 + j, thread of the group]`, shared: what half of the groups show to the others; none where there is one.
    shown: Option<Id<Buffer>>,
}

impl Block<'_> {
    /// Threads that bring one place, and threads that multiply one.
    fn per_place(&self) -> usize {
        THREADS / self.tile.depth
    }

    fn of_group(&self) -> usize {
        self.tile.rows * self.tile.columns / (RUN * RUN)
    }

    fn groups(&self) -> usize {
        THREADS / self.of_group()
    }

    /// Rows and columns of the tile, with the sides they are of.
    fn sides(&self) -> [(&Side, usize); 2] {
        [(&self.outer.rows, self.tile.rows), (&self.outer.columns, self.tile.columns)]
    }
}

impl Cx<'_> {
    pub(super) fn outer_tiles(
        &mut self,
        outer: &Outer<'_>,
        tile: OuterTile,
        elements: Vec<Size>,
    ) -> (Vec<Stmt>, Launch) {
        let (down, across) = (outer.rows.len().div_ceil(tile.rows), outer.columns.len().div_ceil(tile.columns));
        let mut total = self.b.int((down * across) as i64);
        for (_, extent) in &outer.apart {
            total = self.b.mul(total, *extent);
        }
        let block = self.b.var();
        let at = self.b.read(block);
        let mut body = vec![];
        let (rest, column) = (self.by(Binary::Div, at, across), self.by(Binary::Mod, at, across));
        let (flat, row) = (self.by(Binary::Div, rest, down), self.by(Binary::Mod, rest, down));
        let (row, column) = (self.by(Binary::Mul, row, tile.rows), self.by(Binary::Mul, column, tile.columns));
        let first = [self.bind(&mut body, row), self.bind(&mut body, column)];
        body.extend(self.split(&outer.apart, flat));
        let mut places = self.b.int(1);
        for (_, end) in &outer.places {
            places = self.b.mul(places, *end);
        }
        let dtype = self.program.dtype;
        let mut local = |name: &str, shape: &[usize]| {
            let buffer = self.local(name, dtype, shape);
            body.push(Stmt::Alloc { buffer });
            buffer
        };
        let per_place = THREADS / tile.depth;
        let sides = [("rows", tile.rows), ("columns", tile.columns)];
        let groups = THREADS * RUN * RUN / (tile.rows * tile.columns);
        let b = Block {
            outer,
            tile,
            first,
            places,
            sums: local("sums", &[THREADS, RUN, RUN]),
            next: sides.map(|(side, n)| local(&format!("next {side}"), &[THREADS, n / per_place])),
            parts: sides.map(|(side, n)| local(&format!("part of {side}"), &[2, tile.depth, n + PADDING])),
            shown: (groups > 1).then(|| local("shown", &[groups / 2, RUN * RUN, THREADS / groups])),
        };
        let zero = self.b.int(0);
        body.push(self.each(THREADS, LoopKind::Threads, |cx, t| {
            let nothing = cx.b.float(0.0);
            let mut res: Vec<Stmt> =
                cx.own_sums(&b, t).into_iter().map(|to| Stmt::Store { to, value: nothing }).collect();
            let cond = cx.b.compare(Comparison::Lt, zero, b.places);
            let then = cx.bring(&b, t, zero).into_iter().chain(cx.show_part(&b, t, zero)).collect();
            res.push(Stmt::If { cond, then });
            res
        }));
        body.push(self.all_parts(&b));
        body.extend(self.add_groups(&b));
        body.push(self.each(THREADS, LoopKind::Threads, |cx, t| cx.finish_sums(&b, t)));
        let registers = Some(if dtype == Dtype::F64 { 255 } else { 128 });
        let owns = "a tile of a sum of products";
        let launch = Launch { threads: THREADS, elements, tile: 1, times: down * across, registers, owns };
        (self.blocks(block, total, body), launch)
    }

    /// A thread's sums, row by row.
    fn own_sums(&mut self, b: &Block<'_>, t: Id<Expr>) -> Vec<Access> {
        let place = |cx: &mut Self, k: usize| vec![t, cx.b.int((k / RUN) as i64), cx.b.int((k % RUN) as i64)];
        (0..RUN * RUN).map(|k| Access { buffer: b.sums, index: place(self, k) }).collect()
    }

    /// All parts: the next is fetched, this one is added, then the next is shown.
    fn all_parts(&mut self, b: &Block<'_>) -> Stmt {
        let (var, begin, end) = (self.b.var(), self.b.int(0), self.over(b.places, b.tile.depth));
        let step = self.b.read(var);
        let threads = self.each(THREADS, LoopKind::Threads, |cx, t| {
            let after = cx.by(Binary::Add, step, 1);
            let cond = cx.b.compare(Comparison::Lt, after, end);
            let mut res = vec![Stmt::If { cond, then: cx.bring(b, t, after) }];
            res.push(cx.add_places(b, t, step));
            res.push(Stmt::If { cond, then: cx.show_part(b, t, after) });
            res
        });
        Stmt::For { var, begin, end, kind: LoopKind::Serial, body: vec![threads] }
    }

    /// A thread's share of a part, into its registers: some rows and columns of one place; zero where there is no such place.
    fn bring(&mut self, b: &Block<'_>, t: Id<Expr>, step: Id<Expr>) -> Vec<Stmt> {
        let per_place = b.per_place();
        let (far, near) = (self.by(Binary::Div, t, per_place), self.by(Binary::Mod, t, per_place));
        let begin = self.by(Binary::Mul, step, b.tile.depth);
        let place = self.b.add(begin, far);
        let there = self.b.compare(Comparison::Lt, place, b.places);
        let mut res = vec![];
        let place = self.bind(&mut res, place);
        res.extend(self.split(&b.outer.places, place));
        for (k, (side, length)) in b.sides().into_iter().enumerate() {
            res.push(self.each(length / per_place, LoopKind::Unrolled, |cx, e| {
                let before = cx.by(Binary::Mul, e, per_place);
                let own = cx.b.add(before, near);
                let at = cx.b.add(b.first[k], own);
                let mut body = cx.of_side(side, at);
                let values = [&side.factors[..], &b.outer.guards].concat();
                body.extend(cx.bindings_of(&values, &b.outer.lets));
                let mut cond = Some(there);
                for guard in &b.outer.guards {
                    cond = cx.b.and(cond, Some(*guard));
                }
                let beyond = cx.beyond(side, length, at);
                let cond = cx.b.and(cond, beyond);
                let zero = cx.b.float(0.0);
                let one = cx.b.float(1.0);
                let value = side.factors.iter().fold(one, |product, x| cx.b.mul(product, *x));
                let value = cx.b.select(cond, value, zero);
                body.push(Stmt::Store { to: Access { buffer: b.next[k], index: vec![t, e] }, value });
                body
            }));
        }
        res
    }

    /// The indices of a row or column.
    fn of_side(&mut self, side: &Side, at: Id<Expr>) -> Vec<Stmt> {
        let index = self.b.unflatten(at, &side.dims);
        side.axes.iter().zip(index).map(|((var, _), value)| Stmt::Let { var: *var, value }).collect()
    }

    /// Whether there is such a row or column, where a tile may reach beyond the last.
    fn beyond(&mut self, side: &Side, length: usize, at: Id<Expr>) -> Option<Id<Expr>> {
        let end = self.b.int(side.len() as i64);
        (side.len() % length != 0).then(|| self.b.compare(Comparison::Lt, at, end))
    }

    /// What a thread fetched of part `step` goes to shared memory.
    fn show_part(&mut self, b: &Block<'_>, t: Id<Expr>, step: Id<Expr>) -> Vec<Stmt> {
        let (per_place, part) = (b.per_place(), self.by(Binary::Mod, step, 2));
        let (far, near) = (self.by(Binary::Div, t, per_place), self.by(Binary::Mod, t, per_place));
        let mut res = vec![];
        for (k, (_, length)) in b.sides().into_iter().enumerate() {
            res.push(self.each(length / per_place, LoopKind::Unrolled, |cx, e| {
                let before = cx.by(Binary::Mul, e, per_place);
                let own = cx.b.add(before, near);
                let to = Access { buffer: b.parts[k], index: vec![part, far, own] };
                vec![Stmt::Store { to, value: cx.b.load(b.next[k], vec![t, e]) }]
            }));
        }
        res
    }

    /// A thread's group and number in it, along the rows and along the columns.
    fn place_in_group(&mut self, b: &Block<'_>, t: Id<Expr>) -> (Id<Expr>, Id<Expr>, [Id<Expr>; 2]) {
        let (group, number) = (self.by(Binary::Div, t, b.of_group()), self.by(Binary::Mod, t, b.of_group()));
        let across = b.tile.columns / RUN;
        (group, number, [self.by(Binary::Div, number, across), self.by(Binary::Mod, number, across)])
    }

    /// Adds the places of a group in part `step` to a thread's sums.
    fn add_places(&mut self, b: &Block<'_>, t: Id<Expr>, step: Id<Expr>) -> Stmt {
        let part = self.by(Binary::Mod, step, 2);
        let (group, _, own) = self.place_in_group(b, t);
        let n = b.tile.depth / b.groups();
        let kind = if n <= UNROLLED { LoopKind::Unrolled } else { LoopKind::Serial };
        self.each(n, kind, |cx, q| {
            let before = cx.by(Binary::Mul, q, b.groups());
            let place = cx.b.add(before, group);
            let mut res = vec![];
            let mut numbers = [0, 1].map(|k| {
                let first = cx.by(Binary::Mul, own[k], RUN);
                let one = |cx: &mut Self, i: usize| {
                    let at = cx.by(Binary::Add, first, i);
                    cx.b.load(b.parts[k], vec![part, place, at])
                };
                (0..RUN).map(|i| one(cx, i)).collect::<Vec<_>>()
            });
            for x in numbers.iter_mut().flatten() {
                *x = cx.bind(&mut res, *x);
            }
            for (k, to) in cx.own_sums(b, t).into_iter().enumerate() {
                let sum = cx.b.expr(Expr::Load(to.clone()));
                let value = Expr::Fma { a: numbers[0][k / RUN], b: numbers[1][k % RUN], c: sum };
                res.push(Stmt::Store { to, value: cx.b.expr(value) });
            }
            res
        })
    }

    /// The first groups take what the others have, half of them at a time.
    fn add_groups(&mut self, b: &Block<'_>) -> Vec<Stmt> {
        let Some(shown) = b.shown else { return vec![] };
        let mut res = vec![];
        let mut half = b.groups() / 2;
        while half > 0 {
            for shows in [true, false] {
                res.push(self.each(THREADS, LoopKind::Threads, |cx, t| {
                    let (group, number, _) = cx.place_in_group(b, t);
                    let (begin, end) = (cx.b.int(half as i64), cx.b.int(2 * half as i64));
                    let other = cx.b.sub(group, begin);
                    let (cond, group) = if shows {
                        let cond =
                            [cx.b.compare(Comparison::Le, begin, group), cx.b.compare(Comparison::Lt, group, end)];
                        (cx.b.and(Some(cond[0]), Some(cond[1])).expect("gpu: two conditions"), other)
                    } else {
                        (cx.b.compare(Comparison::Lt, group, begin), group)
                    };
                    let mut then = vec![];
                    for (k, own) in cx.own_sums(b, t).into_iter().enumerate() {
                        let there = Access { buffer: shown, index: vec![group, cx.b.int(k as i64), number] };
                        let [own_value, value] = [&own, &there].map(|x| cx.b.expr(Expr::Load(x.clone())));
                        then.push(if shows {
                            Stmt::Store { to: there, value: own_value }
                        } else {
                            Stmt::Store { to: own, value: cx.b.add(own_value, value) }
                        });
                    }
                    vec![Stmt::If { cond, then }]
                }));
            }
            half /= 2;
        }
        res
    }

    /// The first group has all of the sums, and goes on with each element that there is.
    fn finish_sums(&mut self, b: &Block<'_>, t: Id<Expr>) -> Vec<Stmt> {
        let (group, _, own) = self.place_in_group(b, t);
        let last = self.b.int(0);
        let mut then = vec![];
        let acc = Access { buffer: b.outer.acc, index: vec![] };
        for (k, sum) in self.own_sums(b, t).into_iter().enumerate() {
            let [row, column] = [0, 1].map(|side| {
                let within = if side == 0 { k / RUN } else { k % RUN };
                let first = self.by(Binary::Mul, own[side], RUN);
                let at = self.by(Binary::Add, first, within);
                self.b.add(b.first[side], at)
            });
            let [rows, columns] = b.sides();
            let conds = [self.beyond(rows.0, rows.1, row), self.beyond(columns.0, columns.1, column)];
            let mut of_element = self.of_side(rows.0, row);
            of_element.extend(self.of_side(columns.0, column));
            of_element.push(Stmt::Alloc { buffer: b.outer.acc });
            of_element.push(Stmt::Store { to: acc.clone(), value: self.b.expr(Expr::Load(sum)) });
            of_element.extend(serial(b.outer.after.to_vec()));
            let always = self.b.compare(Comparison::Le, last, row);
            let cond = self.b.and(conds[0], conds[1]).unwrap_or(always);
            then.push(Stmt::If { cond, then: of_element });
        }
        vec![Stmt::If { cond: self.b.compare(Comparison::Eq, group, last), then }]
    }
}
