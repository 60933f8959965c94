//! Nests of independent loops: every element of the result a thread, and where a row is made of channels, every channel of it.

use std::collections::BTreeSet;

use super::{Cx, Launch, MULTIPROCESSORS, SOME_BLOCKS, serial};
use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{Binary, Buffer, Comparison, Expr, LoopKind, Stmt, Var};
use crate::kernel::walk::each_stmt;

/// Threads of a block where there is enough to do, and where there is not.
const THREADS: [usize; 2] = [256, 64];

/// An independent loop: its index and extent.
pub(super) type Axis = (Var, Id<Expr>);

impl Cx<'_> {
    /// The loops around a piece that may be spread, outermost first, and what is inside.
    pub(super) fn nest(&self, mut body: Vec<Stmt>) -> (Vec<Axis>, Vec<Stmt>) {
        let mut axes = vec![];
        while let [Stmt::For { var, begin, end, kind, body: inside }] = &body[..] {
            let independent = match kind {
                LoopKind::Parallel => true,
                LoopKind::Vector => self.writes_apart(*var, inside),
                LoopKind::Serial | LoopKind::Unrolled | LoopKind::Blocks | LoopKind::Threads => false,
            };
            let known = *self.b.get(*begin) == Expr::Int(0) && self.factors(*end).is_some();
            if !(independent && known) {
                break;
            }
            axes.push((*var, *end));
            body = inside.clone();
        }
        (axes, body)
    }

    /// Whether everything that a loop's body writes, but for its own locals, depends on the index.
    pub(super) fn writes_apart(&self, var: Var, body: &[Stmt]) -> bool {
        let mut vars = BTreeSet::from([var]);
        let mut own: BTreeSet<Id<Buffer>> = BTreeSet::new();
        let mut apart = true;
        each_stmt(body, &mut |stmt| match stmt {
            Stmt::Let { var, value } if self.reads_any(*value, &vars) => drop(vars.insert(*var)),
            Stmt::Alloc { buffer } => drop(own.insert(*buffer)),
            Stmt::Store { to, .. } | Stmt::Accumulate { to, .. } => {
                apart &= own.contains(&to.buffer) || to.index.iter().any(|i| self.reads_any(*i, &vars));
            }
            Stmt::For { .. }
            | Stmt::Let { .. }
            | Stmt::If { .. }
            | Stmt::Contract(_)
            | Stmt::Softmax(_)
            | Stmt::Multiply(_) => (),
        });
        apart
    }

    /// A thread for every element of a nest; a single one where nothing is independent.
    pub(super) fn over_elements(&mut self, mut axes: Vec<Axis>, body: Vec<Stmt>) -> (Vec<Stmt>, Launch) {
        let mut owns = if axes.is_empty() { "everything" } else { "an element" };
        let mut inside = body;
        if let Some((lane, channels, body)) = self.on_lanes(&inside) {
            if let Some(chunks) = self.in_chunks(&axes, (lane, channels), &body) {
                return chunks;
            }
            (owns, inside) = ("a channel of a row", body);
            axes.push((lane, self.b.int(channels as i64)));
        }
        if let Some(tiles) = self.outer(&axes, &inside) {
            return tiles;
        }
        if let Some(cut) = self.cut(&axes, &inside) {
            return cut;
        }
        let elements: Option<Vec<Vec<Size>>> = axes.iter().map(|(_, extent)| self.factors(*extent)).collect();
        let elements: Vec<Size> = elements.map(|all| all.concat()).unwrap_or_default();
        let expected = self.expected(&elements);
        let threads = match axes.len() {
            0 => 1,
            _ => THREADS[usize::from(expected < MULTIPROCESSORS * THREADS[0])],
        };
        let mut total = self.b.int(1);
        for (_, extent) in &axes {
            total = self.b.mul(total, *extent);
        }
        let (block, n_blocks) = (self.b.var(), self.over(total, threads));
        let at = self.b.read(block);
        let loop_over_threads = self.each(threads, LoopKind::Threads, |cx, thread| {
            let first = cx.by(Binary::Mul, at, threads);
            let flat = cx.b.add(first, thread);
            let mut outer = vec![];
            let flat = cx.bind(&mut outer, flat);
            let inside_it = cx.b.compare(Comparison::Lt, flat, total);
            let mut then = cx.split(&axes, flat);
            then.extend(serial(inside));
            outer.push(Stmt::If { cond: inside_it, then });
            outer
        });
        let body = self.blocks(block, n_blocks, vec![loop_over_threads]);
        let times = if elements.is_empty() && !axes.is_empty() { SOME_BLOCKS } else { 1 };
        (body, Launch { threads, elements, tile: threads, times, registers: None, owns })
    }

    /// The indices of a nest from the number of an element, the last axis fastest.
    pub(super) fn split(&mut self, axes: &[Axis], flat: Id<Expr>) -> Vec<Stmt> {
        let (mut res, mut rest) = (vec![], flat);
        for (k, (var, extent)) in axes.iter().enumerate().rev() {
            let value = if k == 0 { rest } else { self.b.binary(Binary::Mod, rest, *extent) };
            res.push(Stmt::Let { var: *var, value });
            if k > 0 {
                let above = self.b.binary(Binary::Div, rest, *extent);
                rest = self.bind(&mut res, above);
            }
        }
        res
    }
}
