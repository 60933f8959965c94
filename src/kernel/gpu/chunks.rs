//! Rows made of channels with a long loop whose turns begin with a sum that all channels need: the scores of attention. A block has a row, a
//! thread a channel; of some turns at a time each thread takes that sum of one, and shows it to the others. Every sum is in the order of the
//! CPU.

use std::collections::{BTreeMap, BTreeSet};

use super::change::Change;
use super::cut::{allocated, named};
use super::nest::Axis;
use super::{Cx, Launch, serial};
use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{Access, Binary, Buffer, Comparison, Expr, LoopKind, Stmt, Var, WARP};
use crate::kernel::walk::each_stmt;

/// Threads of a block.
const LEAST_THREADS: usize = 64;
const MOST_THREADS: usize = 512;
/// Expected turns that are worth it: fewer leave most threads idle while the common part is taken.
const LEAST_TURNS: usize = 32;

/// A row with such a loop.
struct Turns<'s> {
    before: &'s [Stmt],
    /// What is bound before the loop: the same for all channels, and not.
    of_row_lets: Vec<Stmt>,
    of_channels: Vec<Stmt>,
    turn: Var,
    bounds: [Id<Expr>; 2],
    /// What all channels need, and what is left of a turn.
    common: &'s [Stmt],
    own: &'s [Stmt],
    after: &'s [Stmt],
    /// The values that are shown.
    shown: Vec<Var>,
}

/// The arrays of a block.
struct Block {
    threads: usize,
    lane: Var,
    channels: usize,
    /// What is bound for each.
    lets: Vec<Stmt>,
    /// What was a local of the row, with an axis of threads before its own.
    wide: BTreeMap<Id<Buffer>, Id<Buffer>>,
}

impl Cx<'_> {
    /// A row for one channel as a block of threads; none where its turns have no sum that all channels need.
    pub(super) fn in_chunks(
        &mut self,
        axes: &[Axis],
        (lane, channels): (Var, usize),
        body: &[Stmt],
    ) -> Option<(Vec<Stmt>, Launch)> {
        let elements: Vec<Vec<Size>> = axes.iter().map(|(_, extent)| self.factors(*extent)).collect::<Option<_>>()?;
        let threads = channels.next_multiple_of(WARP).max(LEAST_THREADS);
        let turns = self.turns_in_common(lane, body).filter(|_| threads <= MOST_THREADS)?;
        let mut total = self.b.int(1);
        for (_, extent) in axes {
            total = self.b.mul(total, *extent);
        }
        let block = self.b.var();
        let at = self.b.read(block);
        let mut res = self.split(axes, at);
        res.extend(turns.of_row_lets.iter().cloned());
        let mut wide = BTreeMap::new();
        for local in body.iter().filter_map(allocated) {
            let Buffer { name, dtype, shape, .. } = self.program.buffers[local].clone();
            let own = shape.iter().map(|d| d.as_fixed()).collect::<Option<Vec<_>>>()?;
            let made = self.local(&name, dtype, &[&[threads], &own[..]].concat());
            res.push(Stmt::Alloc { buffer: made });
            wide.insert(local, made);
        }
        let b = Block { threads, lane, channels, wide, lets: turns.of_channels.clone() };
        let begins = turns.before.iter().filter(|s| !matches!(s, Stmt::Let { .. })).cloned().collect();
        res.push(self.by_channels(&b, |_| begins));
        res.extend(self.chunks(&b, &turns));
        res.push(self.by_channels(&b, |_| turns.after.to_vec()));
        let launch = Launch {
            threads,
            elements: elements.concat(),
            tile: 1,
            times: 1,
            registers: None,
            owns: "a channel of a row, and of some turns the common part",
        };
        Some((self.blocks(block, total, res), launch))
    }

    /// What every channel does.
    fn by_channels(&mut self, b: &Block, body: impl FnOnce(&mut Self) -> Vec<Stmt>) -> Stmt {
        self.each(b.threads, LoopKind::Threads, |cx, t| {
            let mut then = vec![Stmt::Let { var: b.lane, value: t }];
            then.extend(b.lets.iter().cloned());
            then.extend(body(cx));
            let own = |mut to: Access| {
                if let Some(wide) = b.wide.get(&to.buffer) {
                    to.buffer = *wide;
                    to.index.insert(0, t);
                }
                to
            };
            let local = |local| if b.wide.contains_key(&local) { None } else { Some(local) };
            let then = cx.changed(serial(then), &Change { access: &own, local: &local });
            let end = cx.b.int(b.channels as i64);
            vec![Stmt::If { cond: cx.b.compare(Comparison::Lt, t, end), then }]
        })
    }

    /// As many turns at a time as there are threads: the common part of each by one thread, then all of them by every channel.
    fn chunks(&mut self, b: &Block, turns: &Turns<'_>) -> Vec<Stmt> {
        let dtype = self.program.dtype;
        let shown: Vec<(Var, Id<Buffer>)> =
            turns.shown.iter().map(|var| (*var, self.local("shown", dtype, &[b.threads]))).collect();
        let mut res: Vec<Stmt> = shown.iter().map(|(_, buffer)| Stmt::Alloc { buffer: *buffer }).collect();
        let [begin, end] = turns.bounds;
        let length = self.b.sub(end, begin);
        let (var, zero, n) = (self.b.var(), self.b.int(0), self.over(length, b.threads));
        let chunk = self.b.read(var);
        let passed = self.by(Binary::Mul, chunk, b.threads);
        let mut body = vec![];
        let first = self.b.add(begin, passed);
        let first = self.bind(&mut body, first);
        body.push(self.each(b.threads, LoopKind::Threads, |cx, t| {
            let turn = cx.b.add(first, t);
            let cond = cx.b.compare(Comparison::Lt, turn, end);
            let mut then = vec![Stmt::Let { var: turns.turn, value: turn }];
            then.extend(serial(turns.common.to_vec()));
            for (var, buffer) in &shown {
                let to = Access { buffer: *buffer, index: vec![t] };
                then.push(Stmt::Store { to, value: cx.b.read(*var) });
            }
            vec![Stmt::If { cond, then }]
        }));
        body.push(self.by_channels(b, |cx| {
            let (left, most) = (cx.b.sub(end, first), cx.b.int(b.threads as i64));
            let (turn, stop) = (cx.b.var(), cx.b.binary(Binary::Min, left, most));
            let at = cx.b.read(turn);
            let mut inside = vec![Stmt::Let { var: turns.turn, value: cx.b.add(first, at) }];
            for stmt in turns.common {
                let Stmt::Let { var, .. } = stmt else { continue };
                match shown.iter().find(|(shown, _)| shown == var) {
                    Some((_, buffer)) => inside.push(Stmt::Let { var: *var, value: cx.b.load(*buffer, vec![at]) }),
                    None => inside.push(stmt.clone()),
                }
            }
            inside.extend(turns.own.iter().cloned());
            vec![Stmt::For { var: turn, begin: zero, end: stop, kind: LoopKind::Serial, body: inside }]
        }));
        res.push(Stmt::For { var, begin: zero, end: n, kind: LoopKind::Serial, body });
        res
    }

    /// The loop of a row's body whose turns begin with a loop that no channel differs in.
    fn turns_in_common<'s>(&self, lane: Var, body: &'s [Stmt]) -> Option<Turns<'s>> {
        let of_row: BTreeSet<Id<Buffer>> = body.iter().filter_map(allocated).collect();
        body.iter().enumerate().find_map(|(at, stmt)| {
            let Stmt::For { var, begin, end, kind: LoopKind::Serial | LoopKind::Parallel, body: turn } = stmt else {
                return None;
            };
            // the bounds and the values of the row are known before its threads begin
            let is_let = |s: &&Stmt| matches!(s, Stmt::Let { .. });
            let lets: Vec<Stmt> = body[..at].iter().filter(is_let).cloned().collect();
            let differing = self.with_lets(lane, &lets);
            let bounds = [*begin, *end];
            let known = !named(&lets).into_iter().chain(bounds).any(|x| self.touches(x, &of_row));
            if !known || bounds.iter().any(|x| self.reads_any(*x, &differing)) {
                return None;
            }
            let (of_channels, of_row_lets) =
                lets.into_iter().partition(|s| matches!(s, Stmt::Let { var, .. } if differing.contains(var)));
            let n = turn.iter().take_while(|s| self.is_common(s, &differing, &of_row)).count();
            let (common, own) = turn.split_at(n);
            let looped = common.iter().any(|s| matches!(s, Stmt::For { .. }));
            let inner: BTreeSet<Id<Buffer>> = common.iter().filter_map(allocated).collect();
            let stays = !named(own).into_iter().any(|x| self.touches(x, &inner)) && !writes_any(own, &inner);
            let shown = self.shown(common, &inner)?;
            let mut bound = BTreeMap::new();
            each_stmt(body, &mut |s| {
                if let Stmt::Let { var, value } = s {
                    bound.insert(*var, *value);
                }
            });
            let long = self.turns(bounds, *var, turn, &bound) >= LEAST_TURNS;
            let fits = long && looped && stays && !shown.is_empty();
            let (before, after) = (&body[..at], &body[at + 1..]);
            fits.then_some(Turns { before, turn: *var, bounds, common, own, after, shown, of_row_lets, of_channels })
        })
    }

    /// Whether a statement is the same for all channels, and writes nothing that outlives a turn.
    fn is_common(&self, stmt: &Stmt, differing: &BTreeSet<Var>, of_row: &BTreeSet<Id<Buffer>>) -> bool {
        let one = std::slice::from_ref(stmt);
        let mut apart = true;
        each_stmt(one, &mut |s| match s {
            Stmt::Store { to, .. } | Stmt::Accumulate { to, .. } => {
                let local = self.program.buffers[to.buffer].memory == crate::kernel::ir::Memory::Local;
                apart &= local && !of_row.contains(&to.buffer);
            }
            Stmt::Contract(_) | Stmt::Softmax(_) | Stmt::Multiply(_) => apart = false,
            Stmt::For { .. } | Stmt::Alloc { .. } | Stmt::If { .. } | Stmt::Let { .. } => (),
        });
        apart && named(one).into_iter().all(|x| !self.touches(x, of_row) && !self.reads_any(x, differing))
    }

    /// The values that follow from a turn's own locals; none where one of them is a condition.
    fn shown(&self, common: &[Stmt], inner: &BTreeSet<Id<Buffer>>) -> Option<Vec<Var>> {
        let (mut vars, mut res) = (BTreeSet::new(), vec![]);
        for stmt in common {
            let Stmt::Let { var, value } = stmt else { continue };
            if self.touches(*value, inner) || self.reads_any(*value, &vars) {
                if matches!(self.b.get(*value), Expr::Compare { .. } | Expr::And { .. }) {
                    return None;
                }
                vars.insert(*var);
                res.push(*var);
            }
        }
        Some(res)
    }

    /// Whether an expression reads one of these locals.
    fn touches(&self, x: Id<Expr>, locals: &BTreeSet<Id<Buffer>>) -> bool {
        let mut res = false;
        self.each_load(vec![x], &mut |access| res |= locals.contains(&access.buffer));
        res
    }
}

/// Whether statements write one of these locals.
fn writes_any(body: &[Stmt], locals: &BTreeSet<Id<Buffer>>) -> bool {
    let mut res = false;
    each_stmt(body, &mut |s| {
        if let Stmt::Store { to, .. } | Stmt::Accumulate { to, .. } = s {
            res |= locals.contains(&to.buffer);
        }
    });
    res
}
