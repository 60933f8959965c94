//! Long sums of which there are few: the longest loop of an element is cut over threads of a block, each of which adds up every so many
//! places. The same for maxima and minima. In another order than on the CPU: other bits, the same in every run.
//! Here: which loop, and over how many threads.

use std::collections::{BTreeMap, BTreeSet};

use super::nest::Axis;
use super::{Cx, Launch, MULTIPROCESSORS};
use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{Access, Binary, Buffer, Combine, Expr, Memory, Stmt, Var};
use crate::kernel::verify::operands;
use crate::kernel::walk::{each_stmt, uses};

/// Threads of a block.
const THREADS: usize = 256;
/// Places of a sum that are worth several threads, and those that each of these has at least.
const LEAST_PLACES: usize = 32;
const LEAST_PLACES_EACH: usize = 4;
/// Threads that are enough to fill a GPU.
const ENOUGH: usize = MULTIPROCESSORS * 1024;
/// Neighbouring elements in a block: memory is read in parts of eight numbers of four bytes, and a warp reads 32 at once.
const LEAST_TOGETHER: usize = 8;
const MOST_TOGETHER: usize = 32;
/// Numbers that a thread adds up.
const MOST_SUMS: usize = 16;

/// The loops of an element that are cut: a nest, all of whose effects are in the innermost.
pub(super) struct Cut {
    /// The statement of the body that they are.
    pub at: usize,
    /// Their variables with the expected numbers of their turns. Neighbouring places of the first are neighbours in memory, if any are.
    loops: Vec<(Var, usize)>,
    /// Whether neighbouring places are neighbours in memory, and neighbouring elements are not.
    contiguous: bool,
    /// What is added up in it, and how.
    pub sums: BTreeMap<Id<Buffer>, Combine>,
}

impl Cut {
    /// The expected places of a sum.
    fn places(&self) -> usize {
        self.loops.iter().map(|(_, turns)| *turns).fold(1, usize::saturating_mul)
    }

    /// How many parts each loop is cut into, so that they are `parts` together, or as many as there can be.
    pub(super) fn of_loops(&self, mut parts: usize) -> Vec<(Var, usize)> {
        let one = |(var, turns): &(Var, usize)| {
            let own = 1 << turns.ilog2().min(parts.ilog2());
            parts /= own;
            (*var, own)
        };
        self.loops.iter().map(one).collect()
    }

    /// How threads are divided for so many elements; none where one thread an element is as good.
    fn division(&self, elements: usize) -> Option<Division> {
        let most = 1 << (self.places() / LEAST_PLACES_EACH).min(THREADS).checked_ilog2()?;
        let parts: usize = self.of_loops(most).iter().map(|(_, own)| own).product();
        if self.places() < LEAST_PLACES || (!self.contiguous && elements >= ENOUGH) {
            return None;
        }
        if self.contiguous {
            let least = parts.min(MOST_TOGETHER);
            let parts = if elements * least < ENOUGH { parts } else { least };
            return Some(Division { parts, together: THREADS / parts, parts_first: true });
        }
        let mut together = MOST_TOGETHER.min(elements.next_power_of_two());
        while together > LEAST_TOGETHER && elements.div_ceil(together) < MULTIPROCESSORS {
            together /= 2;
        }
        Some(Division { parts: parts.min(THREADS / together), together, parts_first: false })
    }
}

/// How a block's threads are divided: `parts` for each of `together` elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Division {
    pub parts: usize,
    pub together: usize,
    /// Whether the parts of one element are neighbours, or the same part of neighbouring elements.
    pub parts_first: bool,
}

impl Division {
    pub(super) fn threads(self) -> usize {
        self.parts * self.together
    }
}

impl Cx<'_> {
    /// Elements of a nest whose long sum is cut over threads; none where that is not worth it, or the loop does more than to add up.
    pub(super) fn cut(&mut self, axes: &[Axis], body: &[Stmt]) -> Option<(Vec<Stmt>, Launch)> {
        let elements: Vec<Vec<Size>> = axes.iter().map(|(_, extent)| self.factors(*extent)).collect::<Option<_>>()?;
        let elements: Vec<Size> = elements.concat();
        let cut = self.loop_to_cut(axes, body)?;
        let division = cut.division(self.expected(&elements))?;
        let body = self.divided(axes, body, &cut, division);
        let (threads, tile) = (division.threads(), division.together);
        Some((body, Launch { threads, elements, tile, times: 1, registers: None, owns: "a part of a sum" }))
    }

    /// The nest with the most turns of those that may be cut.
    fn loop_to_cut(&self, axes: &[Axis], body: &[Stmt]) -> Option<Cut> {
        let own: Vec<Id<Buffer>> = body.iter().filter_map(allocated).collect();
        let numbers: usize = own.iter().map(|local| self.numbers(*local)).sum();
        if numbers > 2 * MOST_SUMS {
            return None;
        }
        let last = axes.last().map(|(var, _)| *var);
        let mut best: Option<Cut> = None;
        for (at, stmt) in body.iter().enumerate() {
            let nest = self.nested_loops(stmt, body);
            let Some((_, _, inside)) = nest.last() else { continue };
            let Some(sums) = self.sums(inside, &body[..at], &own) else { continue };
            if sums.keys().map(|local| self.numbers(*local)).sum::<usize>() > MOST_SUMS {
                continue;
            }
            let mut loops: Vec<(bool, usize, Var)> =
                nest.iter().map(|(var, turns, _)| (self.runs_along(inside, *var), *turns, *var)).collect();
            loops.sort_by_key(|(along, turns, _)| std::cmp::Reverse((*along, *turns)));
            let contiguous = loops[0].0 && last.is_none_or(|x| !self.runs_along(inside, x));
            let loops = loops.into_iter().map(|(_, turns, var)| (var, turns)).collect();
            let cut = Cut { at, loops, contiguous, sums };
            if best.as_ref().is_none_or(|b| b.places() < cut.places()) {
                best = Some(cut);
            }
        }
        best
    }

    /// The numbers of a local.
    pub(super) fn numbers(&self, local: Id<Buffer>) -> usize {
        self.program.buffers[local].shape.iter().map(|d| d.as_fixed().unwrap_or(usize::MAX)).product()
    }

    /// The loops of a nest whose effects are all in the innermost: variable, expected turns, body.
    fn nested_loops<'s>(&self, stmt: &'s Stmt, body: &[Stmt]) -> Vec<(Var, usize, &'s [Stmt])> {
        let mut lets = BTreeMap::new();
        each_stmt(body, &mut |s| {
            if let Stmt::Let { var, value } = s {
                lets.insert(*var, *value);
            }
        });
        let (mut res, mut here) = (vec![], stmt);
        loop {
            let body = match here {
                Stmt::For { var, begin, end, body, .. } => {
                    res.push((*var, self.turns([*begin, *end], *var, body, &lets), &body[..]));
                    body
                }
                Stmt::If { then, .. } if !res.is_empty() => then,
                Stmt::If { .. }
                | Stmt::Store { .. }
                | Stmt::Accumulate { .. }
                | Stmt::Let { .. }
                | Stmt::Alloc { .. }
                | Stmt::Contract(_)
                | Stmt::Softmax(_)
                | Stmt::Multiply(_) => break,
            };
            let mut inside = body.iter().filter(|s| !matches!(s, Stmt::Let { .. }));
            let (Some(next), None) = (inside.next(), inside.next()) else { break };
            here = next;
        }
        res
    }

    /// The expected turns of a loop: of known bounds, or the mean part of a row in the axis that the loop runs
    /// along; 1 where nothing is known.
    pub(super) fn turns(
        &self,
        bounds: [Id<Expr>; 2],
        var: Var,
        body: &[Stmt],
        lets: &BTreeMap<Var, Id<Expr>>,
    ) -> usize {
        if let [Some(begin), Some(end)] = bounds.map(|x| self.hint(x, lets)) {
            return usize::try_from(end - begin).unwrap_or(0).max(1);
        }
        let Some(rows) = self.rows_of(bounds[0], lets) else { return 1 };
        let mut longest = 0;
        self.each_load(named(body), &mut |access| {
            for (index, size) in access.index.iter().zip(&self.program.buffers[access.buffer].shape) {
                if *self.b.get(*index) == Expr::Var(var) {
                    longest = longest.max(self.program.sizes.hint(*size));
                }
            }
        });
        (longest / rows.max(1)).max(1)
    }

    /// The expected value of an index that needs no memory.
    fn hint(&self, id: Id<Expr>, lets: &BTreeMap<Var, Id<Expr>>) -> Option<i64> {
        match self.b.get(id) {
            Expr::Int(k) => Some(*k),
            Expr::Size(size) => i64::try_from(self.program.sizes.hint(*size)).ok(),
            Expr::Load(access) => i64::try_from(self.program.sizes.hint(self.program.counted(access)?)).ok(),
            Expr::Var(var) => self.hint(*lets.get(var)?, lets),
            Expr::Binary { f, x, y } => {
                crate::kernel::build::index_binary(*f, self.hint(*x, lets)?, self.hint(*y, lets)?)
            }
            Expr::Float(_)
            | Expr::Unary { .. }
            | Expr::Fma { .. }
            | Expr::Select { .. }
            | Expr::Compare { .. }
            | Expr::And { .. }
            | Expr::ToFloat { .. } => None,
        }
    }

    /// The expected rows of the table that a bound is read from.
    fn rows_of(&self, bound: Id<Expr>, lets: &BTreeMap<Var, Id<Expr>>) -> Option<usize> {
        match self.b.get(bound) {
            Expr::Var(var) => self.rows_of(*lets.get(var)?, lets),
            Expr::Load(access) => {
                let [size] = self.program.buffers[access.buffer].shape[..] else { return None };
                Some(self.program.sizes.hint(size))
            }
            _ => None,
        }
    }

    /// Every load that expressions make.
    pub(super) fn each_load(&self, mut open: Vec<Id<Expr>>, f: &mut impl FnMut(&Access)) {
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                if let Expr::Load(access) = self.b.get(id) {
                    f(access);
                }
                open.extend(operands(self.b.get(id)));
            }
        }
    }

    /// Whether neighbours of a variable are neighbours in some memory that a body reads.
    fn runs_along(&self, body: &[Stmt], var: Var) -> bool {
        let only = BTreeSet::from([var]);
        let mut found = false;
        self.each_load(named(body), &mut |access| {
            let outlives = self.program.buffers[access.buffer].memory != Memory::Local;
            found |= outlives && access.index.last().is_some_and(|last| self.steps_by_one(*last, &only));
        });
        found
    }

    /// Whether an index grows by one with a variable.
    fn steps_by_one(&self, id: Id<Expr>, var: &BTreeSet<Var>) -> bool {
        match self.b.get(id) {
            Expr::Var(other) => var.contains(other),
            Expr::Binary { f: Binary::Add, x, y } => {
                let reads = [*x, *y].map(|i| self.reads_any(i, var));
                (reads[0] != reads[1]) && self.steps_by_one(if reads[0] { *x } else { *y }, var)
            }
            _ => false,
        }
    }

    /// What a body adds up in locals of the element, and how; none where it has any other effect or reads what it adds up.
    fn sums(&self, body: &[Stmt], before: &[Stmt], own: &[Id<Buffer>]) -> Option<BTreeMap<Id<Buffer>, Combine>> {
        let (mut res, mut fits) = (BTreeMap::new(), true);
        let (mut inner, mut read) = (BTreeSet::new(), vec![]);
        each_stmt(body, &mut |stmt| match stmt {
            Stmt::Alloc { buffer } => drop(inner.insert(*buffer)),
            Stmt::Store { to, value } | Stmt::Accumulate { to, value, .. } => {
                read.extend(&to.index);
                let f = match stmt {
                    Stmt::Accumulate { f, .. } => Some(*f),
                    _ if inner.contains(&to.buffer) => None,
                    _ => self.summands(to, *value).map(|_| Combine::Add).or(self.mark(to, *value, before)),
                };
                read.extend(self.summands(to, *value).filter(|_| f.is_some()).unwrap_or(vec![*value]));
                match f {
                    _ if inner.contains(&to.buffer) => (),
                    Some(f) if own.contains(&to.buffer) => fits &= *res.entry(to.buffer).or_insert(f) == f,
                    Some(_) | None => fits = false,
                }
            }
            Stmt::Let { value, .. } => read.push(*value),
            Stmt::For { begin, end, .. } => read.extend([*begin, *end]),
            Stmt::If { cond, .. } => read.push(*cond),
            Stmt::Contract(_) | Stmt::Softmax(_) | Stmt::Multiply(_) => fits = false,
        });
        self.each_load(read, &mut |access| fits &= !res.contains_key(&access.buffer));
        (fits && !res.is_empty()).then_some(res)
    }

    /// What a stored value adds to what was there: `here + x`, `a · b + here`.
    fn summands(&self, to: &Access, value: Id<Expr>) -> Option<Vec<Id<Expr>>> {
        let here = |x: &Id<Expr>| *self.b.get(*x) == Expr::Load(to.clone());
        match self.b.get(value) {
            Expr::Fma { a, b, c } if here(c) => Some(vec![*a, *b]),
            Expr::Binary { f: Binary::Add, x, y } if here(x) => Some(vec![*y]),
            Expr::Binary { f: Binary::Add, x, y } if here(y) => Some(vec![*x]),
            _ => None,
        }
    }

    /// A local that is 0 and becomes 1 where there is anything: the greatest of all is whether there was.
    fn mark(&self, to: &Access, value: Id<Expr>, before: &[Stmt]) -> Option<Combine> {
        let is = |id: Id<Expr>, x: f64| *self.b.get(id) == Expr::Float(x);
        let starts = |s: &Stmt| matches!(s, Stmt::Store { to: first, value } if first == to && is(*value, 0.0));
        (is(value, 1.0) && before.iter().filter(|s| stores_to(s, to.buffer)).all(starts)).then_some(Combine::Max)
    }
}

/// The expressions that a body names.
pub(super) fn named(body: &[Stmt]) -> Vec<Id<Expr>> {
    let mut res = vec![];
    uses(body, &mut |id| res.push(id));
    res
}

/// The local that a statement makes.
pub(super) fn allocated(stmt: &Stmt) -> Option<Id<Buffer>> {
    if let Stmt::Alloc { buffer } = stmt { Some(*buffer) } else { None }
}

/// Whether a statement writes to a local.
fn stores_to(stmt: &Stmt, local: Id<Buffer>) -> bool {
    matches!(stmt, Stmt::Store { to, .. } | Stmt::Accumulate { to, .. } if to.buffer == local)
}
