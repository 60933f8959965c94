//! What a kernel does at given sizes: floating-point operations and bytes, counted from its statements.
//! A statement's shared expressions count once a run; each array that outlives the kernel counts once where it is read and once where it is
//! written. What tables say is not known: sorted ones are taken to rise evenly (`rise`), and what depends on them, lengths of loops and branches,
//! is as in the middle turn of the loops around it. Other branches count as taken, one of every so many turns as often.

use std::collections::BTreeSet;

use crate::base::arena::Id;
use crate::base::size::{Size, SizeVar};
use crate::kernel::interpret_scalar::compare;
use crate::kernel::ir::{
    Access, Binary, Buffer, Comparison, Contraction, Expr, Kernel, Memory, Program, Stage, Stmt, Var,
};
use crate::kernel::rise::Rises;
use crate::kernel::verify::operands;
use crate::kernel::walk::{each_stmt, reads, uses, writes};

/// The work of one kernel, run once.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Additions, multiplications, comparisons and roots of floats; a fused multiply-add is two.
    pub flops: f64,
    /// Read and written.
    pub bytes: f64,
}

/// The work of a kernel where run-time size `k` is `sizes[k]`, those that are counted from tables after those that are given. Functions such
/// as `exp` count as one operation: pass a program after `pass::legalize` to count what they are made of.
pub fn work(program: &Program, kernel: &Kernel, sizes: &[usize]) -> Work {
    let n_vars = kernel.n_vars as usize;
    let mut counter = Counter {
        program,
        kernel,
        sizes,
        rises: Rises::new(program, sizes),
        trips: vec![1.0; n_vars],
        middles: vec![0.0; n_vars],
        floats: vec![false; n_vars],
        lets: vec![None; n_vars],
    };
    let flops = counter.body(&kernel.body);
    let touched = reads(program, kernel).into_iter().chain(writes(program, kernel));
    Work { flops, bytes: touched.map(|id| bytes(program, id, sizes)).sum() }
}

/// The bytes that a call has to move, however it is cut into kernels: what outlives it is read once, results are written once. What it keeps for
/// itself between kernels is not among them.
pub fn least_bytes(program: &Program, sizes: &[usize]) -> f64 {
    let calls = || program.kernels.iter().filter(|k| k.stage == Stage::Call);
    let lasts = |id: &Id<Buffer>| program.buffers[*id].memory != Memory::Workspace;
    let is_result = |id: &Id<Buffer>| matches!(program.buffers[*id].memory, Memory::Output(_));
    let read: BTreeSet<_> = calls().flat_map(|k| reads(program, k)).filter(|id| lasts(id) && !is_result(id)).collect();
    let written: BTreeSet<_> = calls().flat_map(|k| writes(program, k)).filter(lasts).collect();
    read.into_iter().chain(written).map(|id| bytes(program, id, sizes)).sum()
}

/// The bytes of an array.
fn bytes(program: &Program, id: Id<Buffer>, sizes: &[usize]) -> f64 {
    let buffer = &program.buffers[id];
    let size = |d: &Size| d.eval(|var| sizes[var.0 as usize]) as f64;
    buffer.shape.iter().map(size).product::<f64>() * buffer.dtype.bytes() as f64
}

/// A size where run-time size `k` is `sizes[k]`. What tables tell and nobody gave is a guess.
pub(super) fn size_at(program: &Program, size: Size, sizes: &[usize]) -> f64 {
    let given = |var: SizeVar| sizes.get(var.0 as usize).copied();
    size.eval(|var| given(var).unwrap_or_else(|| program.sizes.hint(Size::var(var)))) as f64
}

struct Counter<'k> {
    program: &'k Program,
    kernel: &'k Kernel,
    sizes: &'k [usize],
    rises: Rises,
    /// How often each loop index takes a value, on average, and the mean of these values.
    trips: Vec<f64>,
    middles: Vec<f64>,
    /// Whether a variable holds a float.
    floats: Vec<bool>,
    /// The value of a `Let`.
    lets: Vec<Option<Id<Expr>>>,
}

impl<'k> Counter<'k> {
    fn size(&self, size: Size) -> f64 {
        size_at(self.program, size, self.sizes)
    }

    fn body(&mut self, body: &'k [Stmt]) -> f64 {
        body.iter().map(|stmt| self.stmt(stmt)).sum()
    }

    fn stmt(&mut self, stmt: &'k Stmt) -> f64 {
        match stmt {
            Stmt::For { var, begin, end, body, .. } => {
                let n = self.extent(*var, *begin, *end, body);
                self.trips[var.0 as usize] = n;
                self.middles[var.0 as usize] = self.mean(*begin).unwrap_or(0.0) + (n - 1.0).max(0.0) / 2.0;
                n * self.body(body)
            }
            Stmt::Store { to, value } => self.once(to.index.iter().copied().chain([*value])),
            Stmt::Accumulate { to, value, .. } => {
                let combined = f64::from(u8::from(self.program.buffers[to.buffer].dtype.is_float()));
                combined + self.once(to.index.iter().copied().chain([*value]))
            }
            Stmt::Let { var, value } => {
                self.floats[var.0 as usize] = self.is_float(*value);
                self.lets[var.0 as usize] = Some(*value);
                self.once([*value])
            }
            Stmt::Alloc { .. } => 0.0,
            Stmt::If { cond, then } => self.once([*cond]) + self.share(*cond) * self.body(then),
            Stmt::Contract(c) => self.contract(c),
            Stmt::Softmax(s) => {
                let columns = self.program.buffers[s.scores].shape[1].as_fixed().unwrap_or(0);
                // the greatest, a difference, an exponential, a sum
                4.0 * self.mean(s.rows).unwrap_or(1.0) * columns as f64
            }
            Stmt::Multiply(m) => {
                let length = |id: Id<Buffer>, axis: usize| self.program.buffers[id].shape[axis].as_fixed().unwrap_or(0);
                2.0 * (length(m.a, 1) * length(m.sums, 1) * length(m.sums, 2)) as f64
            }
        }
    }

    fn contract(&mut self, c: &'k Contraction) -> f64 {
        for (var, value) in &c.row {
            self.floats[var.0 as usize] = self.is_float(*value);
            self.lets[var.0 as usize] = Some(*value);
        }
        self.floats[c.acc.0 as usize] = true;
        let rows = self.mean(c.m_extent).unwrap_or(1.0);
        for (var, n) in [(c.m, rows), (c.n, c.n_extent as f64)] {
            self.trips[var.0 as usize] = n;
            self.middles[var.0 as usize] = (n - 1.0).max(0.0) / 2.0;
        }
        let products = self.taps(c) * c.k_extent;
        rows * c.n_extent as f64 * (2.0 * products as f64 + self.body(&c.epilogue))
    }

    /// The taps of a contraction that some rows have: those at which its guard is not false whatever the row.
    fn taps(&self, c: &Contraction) -> usize {
        let Some(guard) = c.guard else { return c.taps };
        (0..c.taps).filter(|tap| self.truth_at(guard, c.tap, *tap) != Some(false)).count()
    }

    /// What a condition is where it depends on one index alone, which has this value.
    fn truth_at(&self, cond: Id<Expr>, index: Var, value: usize) -> Option<bool> {
        let known = |id| self.number(id, &|var| (var == index).then_some(value as f64));
        match self.kernel.exprs[cond] {
            Expr::Compare { f, x, y } => Some(compare(f, known(x)?, known(y)?)),
            Expr::And { x, y } => match (self.truth_at(x, index, value), self.truth_at(y, index, value)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (x, y) => Some(x? && y?),
            },
            _ => None,
        }
    }

    /// The operations of an evaluation, shared parts once.
    fn once(&self, roots: impl IntoIterator<Item = Id<Expr>>) -> f64 {
        let mut seen = BTreeSet::new();
        let mut open: Vec<Id<Expr>> = roots.into_iter().collect();
        let mut total = 0.0;
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                total += self.operation(id);
                open.extend(operands(&self.kernel.exprs[id]));
            }
        }
        total
    }

    /// The operations of one expression without its operands.
    fn operation(&self, id: Id<Expr>) -> f64 {
        match &self.kernel.exprs[id] {
            Expr::Unary { .. } => 1.0,
            Expr::Binary { x, .. } | Expr::Compare { x, .. } if self.is_float(*x) => 1.0,
            Expr::Fma { .. } => 2.0,
            Expr::Binary { .. }
            | Expr::Compare { .. }
            | Expr::Float(_)
            | Expr::Int(_)
            | Expr::Size(_)
            | Expr::Var(_)
            | Expr::Load(_)
            | Expr::Select { .. }
            | Expr::And { .. }
            | Expr::ToFloat { .. } => 0.0,
        }
    }

    fn is_float(&self, mut id: Id<Expr>) -> bool {
        loop {
            id = match &self.kernel.exprs[id] {
                Expr::Float(_) | Expr::Unary { .. } | Expr::Fma { .. } | Expr::ToFloat { .. } => return true,
                Expr::Int(_) | Expr::Size(_) | Expr::Compare { .. } | Expr::And { .. } => return false,
                Expr::Var(var) => return self.floats[var.0 as usize],
                Expr::Load(access) => return self.program.buffers[access.buffer].dtype.is_float(),
                Expr::Binary { x, .. } | Expr::Select { x, .. } => *x,
            }
        }
    }

    /// How often a branch is taken: where every so many turns take it, one turn of so many; where it depends on what tables say, as in the
    /// middle turn; else always.
    fn share(&self, cond: Id<Expr>) -> f64 {
        let Expr::Compare { f, x, y } = self.kernel.exprs[cond] else { return 1.0 };
        if let (Comparison::Eq, Expr::Binary { f: Binary::Mod, y: turns, .. }) = (f, &self.kernel.exprs[x]) {
            return self.value(*turns).map_or(1.0, |turns| 1.0 / turns.max(1.0));
        }
        let of_tables = [x, y].into_iter().any(|side| self.loads(side));
        match (self.mean(x), self.mean(y)) {
            (Some(x), Some(y)) if of_tables && f != Comparison::Eq => f64::from(u8::from(compare(f, x, y))),
            _ => 1.0,
        }
    }

    /// Whether an expression reads memory, through `Let`.
    fn loads(&self, id: Id<Expr>) -> bool {
        let (mut seen, mut open) = (BTreeSet::new(), vec![id]);
        while let Some(id) = open.pop() {
            match &self.kernel.exprs[id] {
                Expr::Load(_) => return true,
                _ if !seen.insert(id) => (),
                Expr::Var(var) => open.extend(self.lets[var.0 as usize]),
                expr => open.extend(operands(expr)),
            }
        }
        false
    }

    /// How often a loop runs. Where its bounds are loaded from a table that does not rise, the ranges of all rows together are
    /// an axis of what the loop indexes, so that the mean is that axis over the rows.
    fn extent(&self, var: Var, begin: Id<Expr>, end: Id<Expr>, body: &[Stmt]) -> f64 {
        if let (Some(begin), Some(end)) = (self.value(begin), self.value(end)) {
            return (end - begin).max(0.0);
        }
        if let (Some(begin), Some(end)) = (self.mean(begin), self.mean(end)) {
            return (end - begin).max(0.0);
        }
        let rows: f64 = self.loops(begin).iter().map(|var| self.trips[var.0 as usize]).product();
        let axis = self.indexed(var, body);
        if rows > 0.0 { axis / rows } else { 0.0 }
    }

    /// A number that needs no memory and no loop.
    fn value(&self, id: Id<Expr>) -> Option<f64> {
        self.number(id, &|_| None)
    }

    /// A number where each loop is halfway and each sorted table rises evenly.
    fn mean(&self, id: Id<Expr>) -> Option<f64> {
        self.number(id, &|var| Some(self.middles[var.0 as usize]))
    }

    fn number(&self, id: Id<Expr>, index: &dyn Fn(Var) -> Option<f64>) -> Option<f64> {
        match &self.kernel.exprs[id] {
            Expr::Int(k) => Some(*k as f64),
            Expr::Size(size) => Some(self.size(*size)),
            Expr::Load(access) => match (self.program.counted(access), &access.index[..]) {
                (Some(size), _) => Some(self.size(size)),
                (None, [at]) => self.rises.at(access.buffer, self.number(*at, index)?),
                (None, _) => None,
            },
            Expr::Var(var) => match self.lets[var.0 as usize] {
                Some(value) => self.number(value, index),
                None => index(*var),
            },
            Expr::Binary { f, x, y } => {
                let (x, y) = (self.number(*x, index)?, self.number(*y, index)?);
                match f {
                    Binary::Add => Some(x + y),
                    Binary::Sub => Some(x - y),
                    Binary::Mul => Some(x * y),
                    Binary::Max => Some(x.max(y)),
                    Binary::Min => Some(x.min(y)),
                    Binary::Div => Some((x / y).floor()),
                    Binary::Mod => Some(x.floor().rem_euclid(y)),
                }
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

    /// The loop indices that a bound depends on, through `Let` and through what it loads.
    fn loops(&self, id: Id<Expr>) -> Vec<Var> {
        let mut found = vec![];
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            if let Expr::Var(var) = &self.kernel.exprs[id] {
                match self.lets[var.0 as usize] {
                    Some(value) => open.push(value),
                    None if !found.contains(var) => found.push(*var),
                    None => (),
                }
            }
            open.extend(operands(&self.kernel.exprs[id]));
        }
        found
    }

    /// The longest axis that a variable is the index of, in a body.
    fn indexed(&self, var: Var, body: &[Stmt]) -> f64 {
        let mut longest = 0.0f64;
        let mut access = |access: &Access| {
            for (index, size) in access.index.iter().zip(&self.program.buffers[access.buffer].shape) {
                if self.kernel.exprs[*index] == Expr::Var(var) {
                    longest = longest.max(self.size(*size));
                }
            }
        };
        let mut roots = vec![];
        uses(body, &mut |id| roots.push(id));
        each_stmt(body, &mut |stmt| {
            if let Stmt::Store { to, .. } | Stmt::Accumulate { to, .. } = stmt {
                access(to);
            }
        });
        let mut seen = BTreeSet::new();
        while let Some(id) = roots.pop() {
            if seen.insert(id) {
                if let Expr::Load(from) = &self.kernel.exprs[id] {
                    access(from);
                }
                roots.extend(operands(&self.kernel.exprs[id]));
            }
        }
        longest
    }
}
