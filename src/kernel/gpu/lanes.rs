//! Rows made of channels: each thread runs the whole row for one channel of it. What does not depend on the channel is computed by all;
//! a local array along the channels becomes a number of each thread.

use std::collections::{BTreeMap, BTreeSet};

use super::Cx;
use super::change::Change;
use crate::base::arena::Id;
use crate::kernel::ir::{Access, Buffer, Comparison, Expr, LoopKind, Memory, Stmt, Var};

/// What is known of a row's body.
#[derive(Default)]
struct Row {
    /// The longest vector loop.
    channels: usize,
    /// Whether a thread a channel computes the same.
    fits: bool,
    /// Locals of the whole row, with how they are used.
    locals: BTreeMap<Id<Buffer>, Uses>,
    /// Memory that outlives the kernel, written here.
    written: BTreeSet<Id<Buffer>>,
    read: BTreeSet<Id<Buffer>>,
}

/// How a local array of a row is used.
#[derive(Clone, Debug, Default)]
struct Uses {
    /// The axes that are the channel wherever the array is used; none where it is used outside loops over channels.
    along: Option<BTreeSet<usize>>,
    outside: bool,
    written_inside: bool,
}

impl Cx<'_> {
    /// A row's body for one channel, the channel's variable and how many there are; none where channels are not independent.
    pub(super) fn on_lanes(&mut self, body: &[Stmt]) -> Option<(Var, usize, Vec<Stmt>)> {
        let mut row = Row { fits: true, ..Row::default() };
        self.look(body, None, &mut row);
        if !row.fits || row.channels < 2 || row.written.intersection(&row.read).next().is_some() {
            return None;
        }
        let mut narrowed = BTreeMap::new();
        for (local, uses) in &row.locals {
            match &uses.along {
                Some(axes) if !uses.outside && !axes.is_empty() => {
                    let axis = *axes.last().expect("there is one");
                    narrowed.insert(*local, (axis, self.without_axis(*local, axis)));
                }
                // Every thread has all of it.
                _ if !uses.written_inside => (),
                _ => return None,
            }
        }
        let lane = self.b.var();
        let body = self.one_lane(body.to_vec(), lane, row.channels);
        let access = |mut to: Access| {
            if let Some((axis, local)) = narrowed.get(&to.buffer) {
                to.index.remove(*axis);
                to.buffer = *local;
            }
            to
        };
        let local = |buffer| Some(narrowed.get(&buffer).map_or(buffer, |(_, local)| *local));
        let change = Change { access: &access, local: &local };
        Some((lane, row.channels, self.changed(body, &change)))
    }

    /// The same local with one axis less.
    fn without_axis(&mut self, local: Id<Buffer>, axis: usize) -> Id<Buffer> {
        let mut buffer = self.program.buffers[local].clone();
        buffer.shape.remove(axis);
        self.program.buffers.push(buffer)
    }

    /// Learns how a body uses memory; `channel` is the variable of the loop over channels around it.
    fn look(&self, body: &[Stmt], channel: Option<Var>, row: &mut Row) {
        let mut own: BTreeSet<Id<Buffer>> = BTreeSet::new();
        for stmt in body {
            match stmt {
                Stmt::For { var, begin, end, kind: LoopKind::Vector, body } if channel.is_none() => {
                    match (self.b.get(*begin), self.b.get(*end)) {
                        (Expr::Int(0), Expr::Int(n)) => row.channels = row.channels.max(*n as usize),
                        _ => row.fits = false,
                    }
                    row.fits &= self.writes_apart(*var, body);
                    self.look(body, Some(*var), row);
                }
                Stmt::For { begin, end, body, .. } => {
                    self.look_at([*begin, *end], channel, row);
                    self.look(body, channel, row);
                }
                Stmt::If { cond, then } => {
                    self.look_at([*cond], channel, row);
                    self.look(then, channel, row);
                }
                Stmt::Let { value, .. } => self.look_at([*value], channel, row),
                Stmt::Store { to, value } => {
                    self.look_at(to.index.iter().copied().chain([*value]), channel, row);
                    self.access(to, true, channel, row);
                }
                Stmt::Accumulate { to, value, .. } => {
                    self.look_at(to.index.iter().copied().chain([*value]), channel, row);
                    // What is added up in memory would be added once a channel.
                    row.fits &= channel.is_some() || self.program.buffers[to.buffer].memory == Memory::Local;
                    self.access(to, true, channel, row);
                    self.access(to, false, channel, row);
                }
                Stmt::Alloc { buffer } if channel.is_some() => drop(own.insert(*buffer)),
                Stmt::Alloc { buffer } => drop(row.locals.entry(*buffer).or_default()),
                Stmt::Contract(_) | Stmt::Softmax(_) | Stmt::Multiply(_) => row.fits = false,
            }
        }
        own.iter().for_each(|local| drop(row.locals.remove(local)));
    }

    fn look_at(&self, roots: impl IntoIterator<Item = Id<Expr>>, channel: Option<Var>, row: &mut Row) {
        let (mut seen, mut open) = (BTreeSet::new(), roots.into_iter().collect::<Vec<_>>());
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                if let Expr::Load(access) = self.b.get(id) {
                    self.access(access, false, channel, row);
                }
                open.extend(crate::kernel::verify::operands(self.b.get(id)));
            }
        }
    }

    fn access(&self, access: &Access, writes: bool, channel: Option<Var>, row: &mut Row) {
        if self.program.buffers[access.buffer].memory != Memory::Local {
            let list = if writes { &mut row.written } else { &mut row.read };
            list.insert(access.buffer);
            return;
        }
        let uses = row.locals.entry(access.buffer).or_default();
        let Some(channel) = channel else {
            uses.outside = true;
            return;
        };
        uses.written_inside |= writes;
        let only = BTreeSet::from([channel]);
        let reads = |i: &Id<Expr>| self.reads_any(*i, &only);
        let whole = access.index.iter().all(|i| *self.b.get(*i) == Expr::Var(channel) || !reads(i));
        let at = |(axis, i): (usize, &Id<Expr>)| (*self.b.get(*i) == Expr::Var(channel)).then_some(axis);
        let axes: BTreeSet<usize> = access.index.iter().enumerate().filter_map(at).collect();
        let axes = if whole && axes.len() == 1 { axes } else { BTreeSet::new() };
        uses.along = Some(match uses.along.take() {
            Some(known) => known.intersection(&axes).copied().collect(),
            None => axes,
        });
    }

    /// A body where every loop over channels is its one turn `lane`, and only the first channel writes what all have.
    fn one_lane(&mut self, body: Vec<Stmt>, lane: Var, channels: usize) -> Vec<Stmt> {
        let mut res = vec![];
        let at = self.b.read(lane);
        for stmt in body {
            match stmt {
                Stmt::For { var, end, kind: LoopKind::Vector, body, .. } => {
                    let whole = *self.b.get(end) == Expr::Int(channels as i64);
                    let mut turn = vec![Stmt::Let { var, value: at }];
                    turn.extend(body);
                    if whole {
                        res.extend(turn);
                    } else {
                        res.push(Stmt::If { cond: self.b.compare(Comparison::Lt, at, end), then: turn });
                    }
                }
                Stmt::For { var, begin, end, kind, body } => {
                    let body = self.one_lane(body, lane, channels);
                    res.push(Stmt::For { var, begin, end, kind, body });
                }
                Stmt::If { cond, then } => {
                    let then = self.one_lane(then, lane, channels);
                    res.push(Stmt::If { cond, then });
                }
                Stmt::Store { ref to, .. } if self.program.buffers[to.buffer].memory != Memory::Local => {
                    let first = self.b.int(0);
                    res.push(Stmt::If { cond: self.b.compare(Comparison::Eq, at, first), then: vec![stmt] });
                }
                Stmt::Store { .. }
                | Stmt::Accumulate { .. }
                | Stmt::Let { .. }
                | Stmt::Alloc { .. }
                | Stmt::Contract(_)
                | Stmt::Softmax(_)
                | Stmt::Multiply(_) => res.push(stmt),
            }
        }
        res
    }
}
