//! Building one kernel: expressions stored once, trivial ones simplified as they are made.
//! Knows nothing of tensors; `lower` and the passes build with it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::base::arena::{Arena, Id};
use crate::base::size::Size;
use crate::kernel::address::cut;
use crate::kernel::interpret_scalar::compare;
use crate::kernel::ir::{Access, Binary, Buffer, Comparison, Count, Expr, Kernel, Stage, Stmt, Unary, Var};

/// A kernel under construction.
#[derive(Debug, Default)]
pub struct Builder {
    exprs: Arena<Expr>,
    /// Candidates for sharing by hash; looked up, never iterated.
    known: HashMap<u64, Vec<Id<Expr>>>,
    n_vars: u32,
    /// The sizes that are counted, and where.
    counts: Vec<Count>,
}

impl Builder {
    /// A builder to which these sizes are numbers in memory.
    pub fn with_counts(counts: Vec<Count>) -> Builder {
        Builder { counts, ..Builder::default() }
    }

    /// A builder whose variables begin after the first `n_vars`.
    pub fn counting(n_vars: u32) -> Builder {
        Builder { n_vars, ..Builder::default() }
    }

    /// The finished kernel.
    pub fn finish(self, name: impl Into<String>, stage: Stage, body: Vec<Stmt>) -> Kernel {
        Kernel { name: name.into(), stage, exprs: self.exprs, n_vars: self.n_vars, body }
    }

    /// The expression of an id made here.
    pub fn get(&self, id: Id<Expr>) -> &Expr {
        &self.exprs[id]
    }

    /// A fresh variable.
    pub fn var(&mut self) -> Var {
        self.n_vars += 1;
        Var(self.n_vars - 1)
    }

    /// Sets so many variables apart; the first one's number.
    pub fn variables(&mut self, n: u32) -> u32 {
        self.n_vars += n;
        self.n_vars - n
    }

    /// Stores an expression, or finds it.
    pub fn expr(&mut self, expr: Expr) -> Id<Expr> {
        let bucket = self.known.entry(hash(&expr)).or_default();
        if let Some(id) = bucket.iter().find(|id| self.exprs[**id] == expr) {
            return *id;
        }
        let id = self.exprs.push(expr);
        bucket.push(id);
        id
    }

    pub fn float(&mut self, x: f64) -> Id<Expr> {
        self.expr(Expr::Float(x))
    }

    pub fn int(&mut self, x: i64) -> Id<Expr> {
        self.expr(Expr::Int(x))
    }

    /// A size: a number where it is known, one in memory where it is counted.
    pub fn size(&mut self, size: Size) -> Id<Expr> {
        if let Some(n) = size.as_fixed() {
            return self.int(n as i64);
        }
        let (scale, var, offset, divisor) = size.parts();
        match self.counts.iter().find(|c| c.size == Size::var(var)).map(|c| c.buffer) {
            None => self.expr(Expr::Size(size)),
            Some(buffer) => {
                let n = self.load(buffer, vec![]);
                let [scale, offset, divisor] = [scale, offset, divisor].map(|k| self.int(k));
                let scaled = self.mul(scale, n);
                let sum = self.add(scaled, offset);
                self.binary(Binary::Div, sum, divisor)
            }
        }
    }

    pub fn read(&mut self, var: Var) -> Id<Expr> {
        self.expr(Expr::Var(var))
    }

    pub fn load(&mut self, buffer: Id<Buffer>, index: Vec<Id<Expr>>) -> Id<Expr> {
        self.expr(Expr::Load(Access { buffer, index }))
    }

    pub fn unary(&mut self, f: Unary, x: Id<Expr>) -> Id<Expr> {
        self.expr(Expr::Unary { f, x })
    }

    /// `f(x, y)`; constant indices are computed, neutral elements dropped (`x · 1`, `x + 0`).
    pub fn binary(&mut self, f: Binary, x: Id<Expr>, y: Id<Expr>) -> Id<Expr> {
        let (a, b) = (&self.exprs[x], &self.exprs[y]);
        if let (Expr::Int(a), Expr::Int(b)) = (a, b)
            && let Some(value) = index_binary(f, *a, *b)
        {
            return self.int(value);
        }
        if f == Binary::Add
            && let Some(whole) = self.rejoined(x, y)
        {
            return whole;
        }
        let neutral = |e: &Expr, int: i64, float: f64| *e == Expr::Int(int) || *e == Expr::Float(float);
        match f {
            Binary::Add if neutral(a, 0, 0.0) => y,
            Binary::Add | Binary::Sub if neutral(b, 0, 0.0) => x,
            Binary::Mul if neutral(a, 1, 1.0) => y,
            Binary::Mul | Binary::Div if neutral(b, 1, 1.0) => x,
            Binary::Mul if *a == Expr::Int(0) || *b == Expr::Int(0) => self.int(0),
            Binary::Mod if *b == Expr::Int(1) => self.int(0),
            Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::Mod | Binary::Max | Binary::Min => {
                self.expr(Expr::Binary { f, x, y })
            }
        }
    }

    pub fn add(&mut self, x: Id<Expr>, y: Id<Expr>) -> Id<Expr> {
        self.binary(Binary::Add, x, y)
    }

    pub fn sub(&mut self, x: Id<Expr>, y: Id<Expr>) -> Id<Expr> {
        self.binary(Binary::Sub, x, y)
    }

    pub fn mul(&mut self, x: Id<Expr>, y: Id<Expr>) -> Id<Expr> {
        self.binary(Binary::Mul, x, y)
    }

    /// `a · b + c`; without the product where a factor is 1.
    pub fn fma(&mut self, a: Id<Expr>, b: Id<Expr>, c: Id<Expr>) -> Id<Expr> {
        let one = Expr::Float(1.0);
        if self.exprs[a] == one {
            return self.add(b, c);
        }
        if self.exprs[b] == one {
            return self.add(a, c);
        }
        self.expr(Expr::Fma { a, b, c })
    }

    /// `if cond { x } else { y }`, without the condition where it does not matter.
    pub fn select(&mut self, cond: Option<Id<Expr>>, x: Id<Expr>, y: Id<Expr>) -> Id<Expr> {
        match cond {
            Some(cond) if self.truth(cond) == Some(false) => y,
            Some(cond) if x != y && self.truth(cond).is_none() => self.expr(Expr::Select { cond, x, y }),
            Some(_) | None => x,
        }
    }

    pub fn compare(&mut self, f: Comparison, x: Id<Expr>, y: Id<Expr>) -> Id<Expr> {
        self.expr(Expr::Compare { f, x, y })
    }

    /// What a condition on known indices is.
    pub fn truth(&self, cond: Id<Expr>) -> Option<bool> {
        match self.exprs[cond] {
            Expr::Compare { f, x, y } => {
                let (Expr::Int(x), Expr::Int(y)) = (&self.exprs[x], &self.exprs[y]) else { return None };
                Some(compare(f, x, y))
            }
            Expr::And { x, y } => match (self.truth(x), self.truth(y)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (x, y) => x.and(y),
            },
            Expr::Float(_) | Expr::Int(_) | Expr::Size(_) | Expr::Var(_) | Expr::Load(_) | Expr::Unary { .. } => None,
            Expr::Binary { .. } | Expr::Fma { .. } | Expr::Select { .. } | Expr::ToFloat { .. } => None,
        }
    }

    /// Both conditions; `None` is true.
    pub fn and(&mut self, x: Option<Id<Expr>>, y: Option<Id<Expr>>) -> Option<Id<Expr>> {
        match (x, y) {
            (Some(x), Some(y)) if x != y => Some(self.expr(Expr::And { x, y })),
            (Some(x), _) => Some(x),
            (None, y) => y,
        }
    }

    /// `i` where `x + y` is `(i / d) · d + i mod d`.
    fn rejoined(&self, x: Id<Expr>, y: Id<Expr>) -> Option<Id<Expr>> {
        let Expr::Binary { f: Binary::Mul, x: quotient, y: d } = self.exprs[x] else { return None };
        cut(&self.exprs, quotient, y).filter(|(_, by)| *by == d).map(|(i, _)| i)
    }

    /// The row-major place of `index` in an array of `dims`.
    pub fn flatten(&mut self, index: &[Id<Expr>], dims: &[Size]) -> Id<Expr> {
        let mut res = self.int(0);
        for (i, dim) in index.iter().zip(dims) {
            let dim = self.size(*dim);
            let scaled = self.mul(res, dim);
            res = self.add(scaled, *i);
        }
        res
    }

    /// The index whose row-major place in an array of `dims` is `flat`.
    pub fn unflatten(&mut self, flat: Id<Expr>, dims: &[Size]) -> Vec<Id<Expr>> {
        let mut rest = flat;
        let mut res = Vec::new();
        for (k, dim) in dims.iter().enumerate().rev() {
            if k == 0 {
                res.push(rest);
                break;
            }
            let dim = self.size(*dim);
            res.push(self.binary(Binary::Mod, rest, dim));
            rest = self.binary(Binary::Div, rest, dim);
        }
        res.reverse();
        res
    }
}

/// Arithmetic of indices; `None` where it has no value.
pub fn index_binary(f: Binary, a: i64, b: i64) -> Option<i64> {
    match f {
        Binary::Add => a.checked_add(b),
        Binary::Sub => a.checked_sub(b),
        Binary::Mul => a.checked_mul(b),
        Binary::Div => (b > 0).then(|| a.div_euclid(b)),
        Binary::Mod => (b > 0).then(|| a.rem_euclid(b)),
        Binary::Max => Some(a.max(b)),
        Binary::Min => Some(a.min(b)),
    }
}

fn hash(expr: &Expr) -> u64 {
    let mut state = DefaultHasher::new();
    std::mem::discriminant(expr).hash(&mut state);
    match expr {
        Expr::Float(x) => x.to_bits().hash(&mut state),
        Expr::Int(x) => x.hash(&mut state),
        Expr::Size(x) => x.hash(&mut state),
        Expr::Var(x) => x.hash(&mut state),
        Expr::Load(a) => (a.buffer, &a.index).hash(&mut state),
        Expr::Unary { f, x } => (f, x).hash(&mut state),
        Expr::Binary { f, x, y } => (f, x, y).hash(&mut state),
        Expr::Fma { a, b, c } => (a, b, c).hash(&mut state),
        Expr::Select { cond, x, y } => (cond, x, y).hash(&mut state),
        Expr::Compare { f, x, y } => (f, x, y).hash(&mut state),
        Expr::And { x, y } => (x, y).hash(&mut state),
        Expr::ToFloat { x } => x.hash(&mut state),
    }
    state.finish()
}
