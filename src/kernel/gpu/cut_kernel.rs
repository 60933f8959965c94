//! The kernels of `cut`: every thread adds up its part of a long sum; then their sums are added in pairs, through shared memory and always
//! in the same order, and the first thread goes on.

use std::collections::BTreeMap;

use super::change::Change;
use super::cut::{Cut, Division, allocated};
use super::nest::Axis;
use super::{Cx, serial};
use crate::base::arena::Id;
use crate::kernel::ir::{Access, Binary, Buffer, Combine, Comparison, Expr, LoopKind, Stmt, Var};

/// The arrays of a block.
struct Block<'c> {
    axes: &'c [Axis],
    division: Division,
    /// The number of elements, and of the first of the block.
    total: Id<Expr>,
    first: Id<Expr>,
    /// What was a local of an element, with an axis of threads before its own.
    wide: BTreeMap<Id<Buffer>, Id<Buffer>>,
    /// `[part, element, number]` for each local that is added up.
    parts: BTreeMap<Id<Buffer>, Id<Buffer>>,
}

/// One thread: its number, its part and its element.
#[derive(Clone, Copy)]
struct Thread {
    number: Id<Expr>,
    part: Id<Expr>,
    element: Id<Expr>,
}

impl Cx<'_> {
    /// The launch: all threads add up their parts, the parts are added, the first thread of each element goes on.
    pub(super) fn divided(&mut self, axes: &[Axis], body: &[Stmt], cut: &Cut, division: Division) -> Vec<Stmt> {
        let threads = division.threads();
        let mut total = self.b.int(1);
        for (_, extent) in axes {
            total = self.b.mul(total, *extent);
        }
        let (block, n_blocks) = (self.b.var(), self.over(total, division.together));
        let at = self.b.read(block);
        let mut res = vec![];
        let first = self.by(Binary::Mul, at, division.together);
        let first = self.bind(&mut res, first);
        let mut array = |cx: &mut Self, local: Id<Buffer>, before: &[usize], flat: bool| {
            let Buffer { name, dtype, shape, .. } = cx.program.buffers[local].clone();
            let own = shape.iter().map(|d| d.as_fixed().unwrap_or(0));
            let own: Vec<usize> = if flat { vec![own.product()] } else { own.collect() };
            let made = cx.local(&name, dtype, &[before, &own].concat());
            res.push(Stmt::Alloc { buffer: made });
            made
        };
        let locals = body.iter().filter_map(allocated);
        let wide = locals.map(|local| (local, array(self, local, &[threads], false))).collect();
        let shape = [division.parts, division.together];
        let parts = cut.sums.keys().map(|local| (*local, array(self, *local, &shape, true))).collect();
        let b = Block { axes, division, total, first, wide, parts };
        let (before, after) = body.split_at(cut.at);
        let (long, after) = after.split_first().expect("gpu: the loop that is cut");
        res.push(self.part_of_block(&b, |cx, thread| cx.own_part(&b, cut, before, long, thread)));
        let mut half = division.parts / 2;
        while half > 0 {
            res.push(self.part_of_block(&b, |cx, thread| cx.add_other_half(&b, cut, half, thread)));
            half /= 2;
        }
        res.push(self.part_of_block(&b, |cx, thread| cx.go_on(&b, cut, before, after, thread)));
        self.blocks(block, n_blocks, res)
    }

    /// What the threads of a block do for the elements that there are.
    fn part_of_block(&mut self, b: &Block<'_>, body: impl FnOnce(&mut Self, Thread) -> Vec<Stmt>) -> Stmt {
        let Division { parts, together, parts_first } = b.division;
        self.each(b.division.threads(), LoopKind::Threads, |cx, number| {
            let inner = if parts_first { parts } else { together };
            let (far, near) = (cx.by(Binary::Div, number, inner), cx.by(Binary::Mod, number, inner));
            let (part, element) = if parts_first { (near, far) } else { (far, near) };
            let flat = cx.b.add(b.first, element);
            let cond = cx.b.compare(Comparison::Lt, flat, b.total);
            vec![Stmt::If { cond, then: body(cx, Thread { number, part, element }) }]
        })
    }

    /// The indices of a thread's element, then statements of it.
    fn of_element(&mut self, b: &Block<'_>, thread: Thread, body: Vec<Stmt>) -> Vec<Stmt> {
        let flat = self.b.add(b.first, thread.element);
        let mut res = vec![];
        let flat = self.bind(&mut res, flat);
        res.extend(self.split(b.axes, flat));
        let own = |mut to: Access| {
            if let Some(wide) = b.wide.get(&to.buffer) {
                to.buffer = *wide;
                to.index.insert(0, thread.number);
            }
            to
        };
        let local = |local| if b.wide.contains_key(&local) { None } else { Some(local) };
        res.extend(self.changed(serial(body), &Change { access: &own, local: &local }));
        res
    }

    /// A thread's part of the sums, shown to the others. All but the first begin with nothing.
    fn own_part(&mut self, b: &Block<'_>, cut: &Cut, before: &[Stmt], long: &Stmt, thread: Thread) -> Vec<Stmt> {
        let mut body = before.to_vec();
        let first = self.b.int(0);
        let cond = self.b.compare(Comparison::Lt, first, thread.part);
        let zero = self.b.float(0.0);
        for (local, _) in cut.sums.iter().filter(|(_, f)| **f == Combine::Add) {
            let clear = |to| Stmt::Store { to, value: zero };
            let then = self.all_numbers(*local).into_iter().map(clear).collect();
            body.push(Stmt::If { cond, then });
        }
        let (mut long, mut rest) = (long.clone(), thread.part);
        for (var, parts) in cut.of_loops(b.division.parts).into_iter().filter(|(_, parts)| *parts > 1) {
            let part = self.by(Binary::Mod, rest, parts);
            rest = self.by(Binary::Div, rest, parts);
            long = self.every_so_many(long, var, part, parts);
        }
        body.push(long);
        for local in cut.sums.keys() {
            for (k, from) in self.all_numbers(*local).into_iter().enumerate() {
                let to = self.place_of_part(b, *local, thread.part, thread.element, k);
                body.push(Stmt::Store { to, value: self.b.expr(Expr::Load(from)) });
            }
        }
        self.of_element(b, thread, body)
    }

    /// The places of a local.
    fn all_numbers(&mut self, local: Id<Buffer>) -> Vec<Access> {
        let dims = self.program.buffers[local].shape.clone();
        let place = |cx: &mut Self, k: usize| {
            let flat = cx.b.int(k as i64);
            Access { buffer: local, index: cx.b.unflatten(flat, &dims) }
        };
        (0..self.numbers(local)).map(|k| place(self, k)).collect()
    }

    fn place_of_part(
        &mut self,
        b: &Block<'_>,
        local: Id<Buffer>,
        part: Id<Expr>,
        element: Id<Expr>,
        k: usize,
    ) -> Access {
        Access { buffer: b.parts[&local], index: vec![part, element, self.b.int(k as i64)] }
    }

    /// A nest whose loop `var` runs over `part`, `part + parts`, and so on.
    fn every_so_many(&mut self, stmt: Stmt, var: Var, part: Id<Expr>, parts: usize) -> Stmt {
        match stmt {
            Stmt::For { var: here, begin, end, body, .. } if here == var => {
                let first = self.b.add(begin, part);
                let places = self.b.sub(end, first);
                let (n, turn, zero) = (self.over(places, parts), self.b.var(), self.b.int(0));
                let at = self.b.read(turn);
                let at = self.by(Binary::Mul, at, parts);
                let mut inside = vec![Stmt::Let { var, value: self.b.add(first, at) }];
                inside.extend(body);
                Stmt::For { var: turn, begin: zero, end: n, kind: LoopKind::Serial, body: inside }
            }
            Stmt::For { var: here, begin, end, kind, body } => {
                let body = body.into_iter().map(|s| self.every_so_many(s, var, part, parts)).collect();
                Stmt::For { var: here, begin, end, kind, body }
            }
            Stmt::If { cond, then } => {
                Stmt::If { cond, then: then.into_iter().map(|s| self.every_so_many(s, var, part, parts)).collect() }
            }
            Stmt::Store { .. }
            | Stmt::Accumulate { .. }
            | Stmt::Let { .. }
            | Stmt::Alloc { .. }
            | Stmt::Contract(_)
            | Stmt::Softmax(_)
            | Stmt::Multiply(_) => stmt,
        }
    }

    /// The first `half` parts take what the next `half` have.
    fn add_other_half(&mut self, b: &Block<'_>, cut: &Cut, half: usize, thread: Thread) -> Vec<Stmt> {
        let end = self.b.int(half as i64);
        let cond = self.b.compare(Comparison::Lt, thread.part, end);
        let other = self.b.add(thread.part, end);
        let mut then = vec![];
        for (local, f) in &cut.sums {
            for k in 0..self.numbers(*local) {
                let from = self.place_of_part(b, *local, other, thread.element, k);
                let to = self.place_of_part(b, *local, thread.part, thread.element, k);
                then.push(Stmt::Accumulate { to, f: *f, value: self.b.expr(Expr::Load(from)) });
            }
        }
        vec![Stmt::If { cond, then }]
    }

    /// The first thread of an element has all of the sums, and does the rest.
    fn go_on(&mut self, b: &Block<'_>, cut: &Cut, before: &[Stmt], after: &[Stmt], thread: Thread) -> Vec<Stmt> {
        let mut body: Vec<Stmt> = before.iter().filter(|s| matches!(s, Stmt::Let { .. })).cloned().collect();
        let first = self.b.int(0);
        for local in cut.sums.keys() {
            for (k, to) in self.all_numbers(*local).into_iter().enumerate() {
                let from = self.place_of_part(b, *local, first, thread.element, k);
                body.push(Stmt::Store { to, value: self.b.expr(Expr::Load(from)) });
            }
        }
        body.extend(after.iter().cloned());
        let cond = self.b.compare(Comparison::Eq, thread.part, first);
        vec![Stmt::If { cond, then: self.of_element(b, thread, body) }]
    }
}
