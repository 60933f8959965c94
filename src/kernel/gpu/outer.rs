//! Sums over many places of products of two values, of which one has the rows of the result and the other its columns: the derivatives of the
//! weights of linear maps and convolutions, Gram matrices. Here: which loops of a nest they are; `outer_kernel` has their tiles.

use std::collections::BTreeSet;

use super::nest::Axis;
use super::{Cx, Launch, MULTIPROCESSORS};
use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::base::size::Size;
use crate::kernel::ir::{Access, Binary, Buffer, Combine, Expr, LoopKind, Stmt, Var};

/// Rows and columns that are worth a tile, and places of a sum.
const LEAST_SIDE: usize = 8;
const LEAST_PLACES: usize = 256;
/// Blocks below which threads that each read both factors of their own elements are faster, as there are more of them.
const LEAST_BLOCKS: usize = MULTIPROCESSORS / 6;

/// `out[apart, row, column] = Σ_place rows(apart, row, place) · columns(apart, column, place)`
pub(super) struct Outer<'s> {
    /// The local that is added up.
    pub acc: Id<Buffer>,
    /// What follows the sum, for each element.
    pub after: &'s [Stmt],
    /// The loops over places, outermost first, and what they bind.
    pub places: Vec<Axis>,
    pub lets: Vec<Stmt>,
    /// Where one of them is false, a place adds nothing.
    pub guards: Vec<Id<Expr>>,
    pub apart: Vec<Axis>,
    pub rows: Side,
    pub columns: Side,
}

/// The rows or the columns.
#[derive(Default)]
pub(super) struct Side {
    pub axes: Vec<Axis>,
    /// Sizes of the axes.
    pub dims: Vec<Size>,
    pub factors: Vec<Id<Expr>>,
}

impl Side {
    pub(super) fn len(&self) -> usize {
        self.dims.iter().map(|d| d.as_fixed().unwrap_or(0)).product()
    }
}

/// A tile of the result, and the terms of its sums that are in shared memory at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct OuterTile {
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
}

/// Largest first: fewer reads of each number.
const TILES: [(usize, usize); 4] = [(64, 64), (32, 32), (32, 16), (16, 16)];

impl Outer<'_> {
    /// The largest tile that fills a GPU, of results that there are about `apart` times; none where even the smallest are too few.
    fn tile(&self, apart: usize, dtype: Dtype) -> Option<OuterTile> {
        let tiles = |(rows, columns): &(usize, usize)| {
            apart.saturating_mul(self.rows.len().div_ceil(*rows) * self.columns.len().div_ceil(*columns))
        };
        let full = TILES.iter().find(|t| tiles(t) >= MULTIPROCESSORS);
        let (rows, columns) = *full.or(TILES.last().filter(|t| tiles(t) >= LEAST_BLOCKS))?;
        // two parts of both sides, and half of the threads' sums, in the 48 KiB that every GPU has
        let depth = match dtype {
            Dtype::F64 => 16,
            _ if rows + columns <= 64 => 64,
            _ => 32,
        };
        Some(OuterTile { rows, columns, depth })
    }
}

impl Cx<'_> {
    /// A nest as tiles of such a sum; none where it is something else, or too small.
    pub(super) fn outer(&mut self, axes: &[Axis], body: &[Stmt]) -> Option<(Vec<Stmt>, Launch)> {
        let outer = self.outer_sum(axes, body)?;
        let apart = outer.apart.iter().map(|(_, extent)| self.factors(*extent)).collect::<Option<Vec<_>>>()?;
        let elements: Vec<Size> = apart.concat();
        let places = outer.places.iter().map(|(_, end)| self.factors(*end)).collect::<Option<Vec<_>>>()?;
        if self.expected(&places.concat()) < LEAST_PLACES {
            return None;
        }
        let tile = outer.tile(self.expected(&elements), self.program.dtype)?;
        Some(self.outer_tiles(&outer, tile, elements))
    }

    fn outer_sum<'s>(&self, axes: &[Axis], body: &'s [Stmt]) -> Option<Outer<'s>> {
        let [Stmt::Alloc { buffer: acc }, Stmt::Store { to, value }, nest, after @ ..] = body else { return None };
        let starts = to.buffer == *acc && to.index.is_empty() && *self.b.get(*value) == Expr::Float(0.0);
        if !starts {
            return None;
        }
        let (mut places, mut lets, mut guards) = (vec![], vec![], vec![]);
        let factors = self.factors_of_nest(nest, *acc, &mut places, &mut lets, &mut guards)?;
        let reads = |(axis, _): &Axis, of: &[Id<Expr>]| {
            let vars = self.with_lets(*axis, &lets);
            of.iter().filter(|x| self.reads_any(**x, &vars)).copied().collect::<BTreeSet<_>>()
        };
        let varying: BTreeSet<Id<Expr>> = axes.iter().flat_map(|axis| reads(axis, &factors)).collect();
        let mut res = Outer {
            acc: *acc,
            after,
            apart: vec![],
            rows: Side::default(),
            columns: Side::default(),
            places,
            lets: vec![],
            guards,
        };
        let mut columns: BTreeSet<Id<Expr>> = BTreeSet::new();
        // from the last axis on, whose side is the columns
        for axis in axes.iter().rev() {
            let by = reads(axis, &factors);
            let known = if let Expr::Int(n) = self.b.get(axis.1) { usize::try_from(*n).ok() } else { None };
            let (Some(n), true) = (known, reads(axis, &res.guards).is_empty() && by != varying && !by.is_empty())
            else {
                res.apart.insert(0, *axis);
                continue;
            };
            let side = if columns.is_empty() || !columns.is_disjoint(&by) {
                columns.extend(by);
                &mut res.columns
            } else {
                &mut res.rows
            };
            side.axes.insert(0, *axis);
            side.dims.insert(0, Size::fixed(n));
        }
        let all = |side: &Side| side.axes.iter().flat_map(|axis| reads(axis, &factors)).collect::<BTreeSet<_>>();
        let (of_rows, of_columns) = (all(&res.rows), all(&res.columns));
        if !of_rows.is_disjoint(&of_columns) || res.rows.len() < LEAST_SIDE || res.columns.len() < LEAST_SIDE {
            return None;
        }
        res.columns.factors = factors.iter().filter(|x| of_columns.contains(x)).copied().collect();
        res.rows.factors = factors.iter().filter(|x| !of_columns.contains(x)).copied().collect();
        res.lets = lets;
        Some(res)
    }

    /// A variable, and what is bound to values that read it.
    pub(super) fn with_lets(&self, var: Var, lets: &[Stmt]) -> BTreeSet<Var> {
        let mut res = BTreeSet::from([var]);
        for stmt in lets {
            if let Stmt::Let { var, value } = stmt
                && self.reads_any(*value, &res)
            {
                res.insert(*var);
            }
        }
        res
    }

    /// Those of the bindings that some values need, in order: another may be of the other side, whose indices are not known.
    pub(super) fn bindings_of(&self, values: &[Id<Expr>], lets: &[Stmt]) -> Vec<Stmt> {
        let (mut open, mut res) = (values.to_vec(), vec![]);
        for stmt in lets.iter().rev() {
            if let Stmt::Let { var, value } = stmt
                && open.iter().any(|x| self.reads_any(*x, &BTreeSet::from([*var])))
            {
                open.push(*value);
                res.push(stmt.clone());
            }
        }
        res.reverse();
        res
    }

    /// The factors of the product that a nest adds to a local, with its loops, guards and bindings on the way; none where it does anything else.
    fn factors_of_nest(
        &self,
        nest: &Stmt,
        acc: Id<Buffer>,
        places: &mut Vec<Axis>,
        lets: &mut Vec<Stmt>,
        guards: &mut Vec<Id<Expr>>,
    ) -> Option<Vec<Id<Expr>>> {
        let here = Access { buffer: acc, index: vec![] };
        let inside = match nest {
            Stmt::For { var, begin, end, kind, body } => {
                let known = *self.b.get(*begin) == Expr::Int(0) && self.factors(*end).is_some();
                if !known || matches!(kind, LoopKind::Blocks | LoopKind::Threads) {
                    return None;
                }
                places.push((*var, *end));
                body
            }
            Stmt::If { cond, then } if !self.loads(*cond) => {
                guards.push(*cond);
                then
            }
            Stmt::Store { to, value } if *to == here => {
                let sum = |x: &Id<Expr>| *self.b.get(*x) == Expr::Load(here.clone());
                let mut res = vec![];
                match self.b.get(*value) {
                    Expr::Fma { a, b, c } if sum(c) => {
                        [*a, *b].into_iter().for_each(|x| self.flat_factors(x, &mut res))
                    }
                    Expr::Binary { f: Binary::Add, x, y } if sum(x) => self.flat_factors(*y, &mut res),
                    _ => return None,
                }
                return Some(res);
            }
            Stmt::Accumulate { to, f: Combine::Add, value } if *to == here => {
                let mut res = vec![];
                self.flat_factors(*value, &mut res);
                return Some(res);
            }
            Stmt::If { .. }
            | Stmt::Store { .. }
            | Stmt::Accumulate { .. }
            | Stmt::Let { .. }
            | Stmt::Alloc { .. }
            | Stmt::Contract(_)
            | Stmt::Softmax(_)
            | Stmt::Multiply(_) => return None,
        };
        let (next, bound) = inside.split_last()?;
        for stmt in bound {
            // what is read behind a guard must stay behind it
            let Stmt::Let { value, .. } = stmt else { return None };
            if self.loads(*value) {
                return None;
            }
            lets.push(stmt.clone());
        }
        self.factors_of_nest(next, acc, places, lets, guards)
    }

    fn loads(&self, id: Id<Expr>) -> bool {
        let mut res = false;
        self.each_load(vec![id], &mut |_| res = true);
        res
    }

    fn flat_factors(&self, x: Id<Expr>, to: &mut Vec<Id<Expr>>) {
        match self.b.get(x) {
            Expr::Binary { f: Binary::Mul, x, y } => [*x, *y].into_iter().for_each(|x| self.flat_factors(x, to)),
            _ => to.push(x),
        }
    }
}
