//! A dense kernel inside a loop, and a step of a running softmax, as the loops that they mean: the thread that runs the loop runs them all.

use super::Cx;
use crate::base::arena::Id;
use crate::kernel::ir::{Access, Binary, Combine, Comparison, Contraction, Expr, LoopKind, Softmax, Stmt, Unary, Var};

impl Cx<'_> {
    /// The statements with every contraction in them written out.
    pub(super) fn without_contractions(&mut self, body: Vec<Stmt>) -> Vec<Stmt> {
        let mut res = vec![];
        for stmt in body {
            match stmt {
                Stmt::Contract(c) => res.push(self.plain(*c)),
                Stmt::For { var, begin, end, kind, body } => {
                    let body = self.without_contractions(body);
                    res.push(Stmt::For { var, begin, end, kind, body });
                }
                Stmt::If { cond, then } => res.push(Stmt::If { cond, then: self.without_contractions(then) }),
                Stmt::Store { .. }
                | Stmt::Accumulate { .. }
                | Stmt::Let { .. }
                | Stmt::Alloc { .. }
                | Stmt::Multiply(_) => res.push(stmt),
                Stmt::Softmax(s) => res.push(self.plain_softmax(&s)),
            }
        }
        res
    }

    /// Each row in two passes over its scores: the greatest, and the weights with their sum.
    fn plain_softmax(&mut self, s: &Softmax) -> Stmt {
        let vars: [Var; 5] = [(); 5].map(|()| self.b.var());
        let [m, t, old, new, u] = vars.map(|var| self.b.read(var));
        let columns = self.program.buffers[s.scores].shape[1];
        let (zero, end, least) = (self.b.int(0), self.b.size(columns), self.b.float(f64::NEG_INFINITY));
        let of_row = |buffer| Access { buffer, index: vec![m] };
        let at = |t| Access { buffer: s.scores, index: vec![m, t] };
        let [score, other] = [t, u].map(|t| self.b.load(s.scores, vec![m, t]));
        let inside = self.b.compare(Comparison::Lt, t, s.count);
        let present = self.b.select(Some(inside), score, least);
        let (keep, weight) = (self.weight(old, new), self.weight(other, new));
        let [top, kept, total] = [s.tops, s.keeps, s.totals].map(|buffer| self.b.load(buffer, vec![m]));
        let scaled = self.b.mul(total, kept);
        let pass = |var, body| Stmt::For { var, begin: zero, end, kind: LoopKind::Serial, body };
        let greatest = Stmt::Accumulate { to: of_row(s.tops), f: Combine::Max, value: score };
        let sum = Stmt::Accumulate { to: of_row(s.totals), f: Combine::Add, value: other };
        let body = vec![
            Stmt::Let { var: vars[2], value: top },
            pass(vars[1], vec![Stmt::Store { to: at(t), value: present }, greatest]),
            Stmt::Let { var: vars[3], value: top },
            Stmt::Store { to: of_row(s.keeps), value: keep },
            Stmt::Store { to: of_row(s.totals), value: scaled },
            pass(vars[4], vec![Stmt::Store { to: at(u), value: weight }, sum]),
        ];
        Stmt::For { var: vars[0], begin: zero, end: s.rows, kind: LoopKind::Serial, body }
    }

    /// The weight of a score beside the greatest.
    fn weight(&mut self, score: Id<Expr>, top: Id<Expr>) -> Id<Expr> {
        let (one, same) = (self.b.float(1.0), self.b.compare(Comparison::Eq, score, top));
        let difference = self.b.sub(score, top);
        let raised = self.b.unary(Unary::Exp, difference);
        self.b.select(Some(same), one, raised)
    }

    /// Loops over the rows, the columns and the terms, in the order in which the dense kernel sums.
    fn plain(&mut self, c: Contraction) -> Stmt {
        let (zero, nothing) = (self.b.int(0), self.b.float(0.0));
        let sum = self.local("sum", self.program.dtype, &[]);
        let here = || Access { buffer: sum, index: vec![] };
        let term = self.b.var();
        let (n, tap, k) = (self.b.read(c.n), self.b.read(c.tap), self.b.read(term));
        let a = self.moved_along_k(&c, k);
        let (panel, column) = (self.by(Binary::Div, n, c.panel), self.by(Binary::Mod, n, c.panel));
        let index = c.part.into_iter().chain([panel, tap, k, column]).collect();
        let b = self.b.load(c.packed, index);
        let value = self.b.mul(a, b);
        let add = Stmt::Accumulate { to: here(), f: Combine::Add, value };
        let end = self.b.int(c.k_extent as i64);
        let terms = Stmt::For { var: term, begin: zero, end, kind: LoopKind::Serial, body: vec![add] };
        let terms = match c.guard {
            Some(cond) => Stmt::If { cond, then: vec![terms] },
            None => terms,
        };
        let end = self.b.int(c.taps as i64);
        // the address of a row is the one at `k = 0`
        let body = vec![Stmt::Let { var: c.k, value: zero }, terms];
        let taps = Stmt::For { var: c.tap, begin: zero, end, kind: LoopKind::Serial, body };
        let mut of_column = vec![Stmt::Alloc { buffer: sum }, Stmt::Store { to: here(), value: nothing }, taps];
        of_column.push(Stmt::Let { var: c.acc, value: self.b.load(sum, vec![]) });
        of_column.extend(c.epilogue);
        let end = self.b.int(c.n_extent as i64);
        let columns = Stmt::For { var: c.n, begin: zero, end, kind: LoopKind::Serial, body: of_column };
        let row = c.row.into_iter().map(|(var, value)| Stmt::Let { var, value });
        let body = row.chain([columns]).collect();
        Stmt::For { var: c.m, begin: zero, end: c.m_extent, kind: LoopKind::Serial, body }
    }
}
