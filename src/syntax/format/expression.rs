//! Expressions, with brackets only where the tree needs them.

use super::{Pipes, Printer};
use crate::syntax::ast::*;
use crate::syntax::parse::{SIGN, tightness};

/// Loose to tight: 0 is a pipe, then the operators as the parser has them; what takes a suffix is tighter still.
const HEAD: u8 = 1;
const SUFFIXED: u8 = 7;

/// How far an expression reaches to its right when nothing closes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Closed,
    /// A fibre or size at the end takes `*`, `/` and `^`.
    Factors,
    /// A comprehension takes every operator but `|>`.
    Operators,
    /// An `if` takes everything.
    All,
}

fn reach(expr: &Expr) -> Reach {
    match &expr.kind {
        ExprKind::If { otherwise, .. } => reach(otherwise).max(Reach::All),
        ExprKind::Comprehension(c) => reach(&c.body).max(Reach::Operators),
        ExprKind::Scan { body, .. } => reach(body).max(Reach::Operators),
        ExprKind::Binary { right, .. } => reach(right),
        ExprKind::Pipe { stage, .. } => reach(stage),
        ExprKind::Neg(inner) | ExprKind::Tangent(inner) | ExprKind::Break(inner) => reach(inner),
        ExprKind::Learn { init: Some(init), .. } => reach(init).max(Reach::Factors),
        _ if is_word(expr) => Reach::Factors,
        _ => Reach::Closed,
    }
}

/// Whether it ends in a word that takes an `over` to its right.
fn takes_over(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Linear(_) | ExprKind::Pool { .. } => true,
        ExprKind::If { otherwise: last, .. }
        | ExprKind::Scan { body: last, .. }
        | ExprKind::Binary { right: last, .. }
        | ExprKind::Pipe { stage: last, .. }
        | ExprKind::Neg(last)
        | ExprKind::Tangent(last)
        | ExprKind::Break(last)
        | ExprKind::Learn { init: Some(last), .. } => takes_over(last),
        ExprKind::Comprehension(c) => takes_over(&c.body),
        _ => false,
    }
}

/// Whether it begins with `-`, which at the start of a line goes on with the line before.
pub(super) fn starts_with_sign(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Neg(_) => true,
        ExprKind::Binary { op: BinaryOp::Pow, .. } => false,
        ExprKind::Binary { left, .. } => starts_with_sign(left),
        ExprKind::Pipe { value, .. } => starts_with_sign(value),
        _ => false,
    }
}

/// The words followed by a fibre, a size or a group.
fn is_word(expr: &Expr) -> bool {
    matches!(
        expr.kind,
        ExprKind::Linear(_)
            | ExprKind::Bilinear { .. }
            | ExprKind::Symmetric { .. }
            | ExprKind::Harmonics { .. }
            | ExprKind::Bessel { .. }
            | ExprKind::Coarsen { .. }
            | ExprKind::Refine { .. }
            | ExprKind::Lift
            | ExprKind::Restrict(_)
            | ExprKind::Pool { .. }
            | ExprKind::Recur(_)
            | ExprKind::Learn { .. }
    )
}

/// Whether a bracket that follows stands apart: directly after a fibre it would belong to that.
fn takes_space(base: &Expr) -> bool {
    match &base.kind {
        ExprKind::Named { .. } => true,
        ExprKind::Tangent(inner) => takes_space(inner),
        _ => is_word(base),
    }
}

/// Whether a block stands anywhere in it.
pub(super) fn holds_block(expr: &Expr) -> bool {
    let all = |exprs: &[Expr]| exprs.iter().any(holds_block);
    match &expr.kind {
        ExprKind::Block(_) => true,
        ExprKind::Tuple(fields) => fields.iter().any(|field| holds_block(&field.value)),
        ExprKind::If { cond, then, otherwise } => [cond, then, otherwise].into_iter().any(|e| holds_block(e)),
        ExprKind::Neg(inner)
        | ExprKind::Length(inner)
        | ExprKind::Tangent(inner)
        | ExprKind::Break(inner)
        | ExprKind::Named { value: inner, .. }
        | ExprKind::Dot { base: inner, .. }
        | ExprKind::Learn { init: Some(inner), .. } => holds_block(inner),
        ExprKind::Binary { left, right, .. } | ExprKind::Pipe { value: left, stage: right } => {
            holds_block(left) || holds_block(right)
        }
        ExprKind::Call { callee: base, args } | ExprKind::Bracket { base, args } => holds_block(base) || all(args),
        ExprKind::Comprehension(c) => c.score.as_ref().is_some_and(holds_block) || holds_block(&c.body),
        ExprKind::Scan { init, over, body, .. } => [init, over, body].into_iter().any(|e| holds_block(e)),
        _ => false,
    }
}

fn own_tightness(expr: &Expr) -> u8 {
    match &expr.kind {
        ExprKind::Pipe { .. } => 0,
        ExprKind::Binary { op, .. } => tightness(*op),
        ExprKind::Neg(_) => SIGN,
        _ => SUFFIXED,
    }
}

fn is_atom(expr: &Expr) -> bool {
    matches!(expr.kind, ExprKind::Number(_) | ExprKind::Name(_))
}

/// An operator as it is written.
pub(super) fn sign(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Add => "+",
        BinaryOp::Sub => "-",
        BinaryOp::Mul => "*",
        BinaryOp::Div => "/",
        BinaryOp::Pow => "^",
        BinaryOp::Concat => "++",
        BinaryOp::Eq => "==",
        BinaryOp::Ne => "!=",
        BinaryOp::Lt => "<",
        BinaryOp::Le => "<=",
        BinaryOp::Gt => ">",
        BinaryOp::Ge => ">=",
    }
}

/// Whether a line may end before an operator here: not in the body of a comprehension, which would end with it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    Free,
    Held,
}

impl<'a> Printer<'a> {
    pub(super) fn expr(&mut self, expr: &'a Expr) {
        self.bare(expr, Ends::Free);
    }

    /// An expression without a bare `|>`.
    pub(super) fn head(&mut self, expr: &'a Expr) {
        self.tight(expr, HEAD, Ends::Free);
    }

    /// The body of a comprehension.
    fn body(&mut self, expr: &'a Expr) {
        self.tight(expr, HEAD, Ends::Held);
    }

    /// Values between commas.
    pub(super) fn separated(&mut self, exprs: &'a [Expr]) {
        for (n, expr) in exprs.iter().enumerate() {
            self.push(if n > 0 { ", " } else { "" });
            self.expr(expr);
        }
    }

    pub(super) fn exprs(&mut self, exprs: &'a [Expr]) {
        self.push("(");
        self.separated(exprs);
        self.push(")");
    }

    /// In brackets where it binds looser than `least`.
    fn tight(&mut self, expr: &'a Expr, least: u8, ends: Ends) {
        if own_tightness(expr) < least { self.bracketed(expr) } else { self.bare(expr, ends) }
    }

    fn bracketed(&mut self, expr: &'a Expr) {
        self.push("(");
        self.bare(expr, Ends::Free);
        self.push(")");
    }

    /// The left side of an operator: in brackets where it would take the operator for its own.
    fn left(&mut self, expr: &'a Expr, op: BinaryOp, ends: Ends) {
        let power = op == BinaryOp::Pow;
        let least = if power { SUFFIXED } else { tightness(op) };
        let factors = matches!(op, BinaryOp::Mul | BinaryOp::Div | BinaryOp::Pow);
        let limit = if factors { Reach::Closed } else { Reach::Factors };
        if reach(expr) > limit { self.bracketed(expr) } else { self.tight(expr, least, ends) }
    }

    fn bare(&mut self, expr: &'a Expr, ends: Ends) {
        match &expr.kind {
            ExprKind::Number(text) | ExprKind::Name(text) => self.push(text),
            ExprKind::Tuple(fields) => self.tuple(fields, expr),
            ExprKind::Block(block) => self.block(&block.stmts, Some(&block.result), expr.span.end),
            ExprKind::If { cond, then, otherwise } => self.if_else(cond, then, otherwise, ends),
            ExprKind::Neg(inner) => {
                self.push("-");
                self.tight(inner, SIGN, ends);
            }
            ExprKind::Length(inner) => {
                self.push("|");
                self.bare(inner, Ends::Free);
                self.push("|");
            }
            ExprKind::Binary { op, left, right } => self.binary(*op, left, right, ends),
            ExprKind::Pipe { .. } => self.pipes(expr, ends),
            ExprKind::Call { callee, args } => {
                self.base(callee, ends);
                let open = if takes_space(callee) { " (" } else { "(" };
                self.list([open, ")", ", "], callee.span.end, Some(expr.span.end), args, place, Self::expr);
            }
            ExprKind::Bracket { base, args } => self.bracket(base, args, expr, ends),
            ExprKind::Dot { base, field } => {
                if is_word(base) || matches!(base.kind, ExprKind::Tangent(_)) {
                    self.bracketed(base);
                } else {
                    self.base(base, ends);
                }
                self.push(&format!(".{}", field.node));
            }
            ExprKind::Named { value, name } => {
                if matches!(value.kind, ExprKind::Tangent(_)) {
                    self.bracketed(value)
                } else {
                    self.base(value, ends)
                }
                self.push(&format!(" @{}", name.node));
            }
            ExprKind::Comprehension(comprehension) => self.comprehension(comprehension),
            ExprKind::Scan { state, init, over, body } => {
                self.push(&format!("scan {} = ", state.node));
                if takes_over(init) {
                    self.bracketed(init)
                } else {
                    self.head(init)
                }
                self.push(" over ");
                self.head(over);
                self.push(": ");
                self.body(body);
            }
            ExprKind::Tangent(inner) => {
                self.push("tangent ");
                let mention = is_word(inner) || matches!(inner.kind, ExprKind::Name(_) | ExprKind::Length(_));
                let suffixed = matches!(inner.kind, ExprKind::Bracket { .. } | ExprKind::Named { .. });
                if mention && reach(inner) < Reach::Operators && !matches!(inner.kind, ExprKind::Learn { .. })
                    || suffixed && mentions(inner)
                {
                    self.bare(inner, ends);
                } else {
                    self.bracketed(inner);
                }
            }
            ExprKind::Break(inner) => {
                self.push("break ");
                self.base(inner, ends);
            }
            _ => self.word(expr),
        }
    }

    /// What a suffix follows.
    fn base(&mut self, base: &'a Expr, ends: Ends) {
        let takes_suffix = matches!(base.kind, ExprKind::Break(_) | ExprKind::Learn { init: Some(_), .. });
        if takes_suffix || reach(base) > Reach::Factors {
            self.bracketed(base);
        } else {
            self.tight(base, SUFFIXED, ends);
        }
    }

    fn bracket(&mut self, base: &'a Expr, args: &'a [Expr], expr: &Expr, ends: Ends) {
        if matches!(base.kind, ExprKind::Tangent(_)) {
            self.bracketed(base)
        } else {
            self.base(base, ends)
        }
        let index = |e: &Expr| matches!(&e.kind, ExprKind::Name(name) if self.indices.contains(&name.as_str()));
        let comma = if args.iter().all(index) { "," } else { ", " };
        let open = if takes_space(base) { " [" } else { "[" };
        self.list([open, "]", comma], base.span.end, Some(expr.span.end), args, place, Self::expr);
    }

    fn tuple(&mut self, fields: &'a [Field], expr: &Expr) {
        let place = |field: &Field| {
            let start = field.name.as_ref().map_or(field.value.span.start, |name| name.span.start);
            (start, field.value.span.end)
        };
        self.list(["(", ")", ", "], expr.span.start, Some(expr.span.end), fields, place, |p, field| {
            if let Some(name) = &field.name {
                p.push(&format!("{} = ", name.node));
            }
            p.expr(&field.value);
        });
    }

    fn binary(&mut self, op: BinaryOp, left: &'a Expr, right: &'a Expr, ends: Ends) {
        let indent = self.lines.indent();
        self.left(left, op, ends);
        let close =
            op == BinaryOp::Pow || matches!(op, BinaryOp::Mul | BinaryOp::Div) && is_atom(left) && is_atom(right);
        let sign = sign(op);
        if close {
            self.push(sign);
        } else if ends == Ends::Free && self.breaks(left.span.end, right.span.start) {
            self.break_line(right.span.start, indent + 2);
            self.push(&format!("{sign} "));
        } else {
            self.push(&format!(" {sign} "));
        }
        let least = if op == BinaryOp::Pow { tightness(op) } else { tightness(op) + 1 };
        if matches!(right.kind, ExprKind::Neg(_)) { self.bare(right, ends) } else { self.tight(right, least, ends) }
    }

    /// `x |> f |> g`
    fn pipes(&mut self, expr: &'a Expr, ends: Ends) {
        let every = std::mem::replace(&mut self.pipes, Pipes::AsWritten);
        let indent = self.lines.indent();
        let (mut value, mut stages) = (expr, Vec::new());
        while let ExprKind::Pipe { value: inner, stage } = &value.kind {
            stages.push((&**inner, &**stage));
            value = inner;
        }
        if reach(value) == Reach::All {
            self.bracketed(value)
        } else {
            self.tight(value, HEAD, ends)
        }
        for (n, (before, stage)) in stages.iter().rev().enumerate() {
            let source = self.breaks(before.span.end, stage.span.start);
            if ends == Ends::Free && (source || every == Pipes::Broken) {
                self.break_line(stage.span.start, indent + 2);
                self.push("|> ");
            } else {
                self.push(" |> ");
            }
            let last = n + 1 == stages.len();
            if reach(stage) == Reach::All && !last { self.bracketed(stage) } else { self.tight(stage, HEAD, ends) }
        }
    }

    fn if_else(&mut self, cond: &'a Expr, then: &'a Expr, otherwise: &'a Expr, ends: Ends) {
        let indent = self.lines.indent() + if self.lines.at_line_start() { 0 } else { 2 };
        self.push("if ");
        self.head(cond);
        self.push(": ");
        self.bare(then, ends);
        if self.breaks(then.span.end, otherwise.span.start) && ends == Ends::Free {
            self.break_line(otherwise.span.start, indent);
            self.push("else ");
        } else {
            self.push(" else ");
        }
        self.bare(otherwise, ends);
    }

    fn comprehension(&mut self, comprehension: &'a Comprehension) {
        let Comprehension { how, index, relation, score, body } = comprehension;
        self.push(match how {
            ComprehensionHow::Sum => "sum ",
            ComprehensionHow::Mean => "mean ",
            ComprehensionHow::Max => "max ",
            ComprehensionHow::Softmax => "softmax ",
            ComprehensionHow::Attend => "attend ",
        });
        self.push(&index.node);
        match relation {
            Relation::All => {}
            Relation::Neighbours(other) => self.push(&format!("~{}", other.node)),
            Relation::Others(other) => self.push(&format!(" != {}", other.node)),
            Relation::UpTo(other) => self.push(&format!(" <= {}", other.node)),
        }
        self.indices.push(&index.node);
        if let Some(score) = score {
            self.push(" by ");
            self.head(score);
        }
        self.push(": ");
        self.body(body);
        self.indices.pop();
    }

    /// The words followed by a fibre, a size or a group.
    fn word(&mut self, expr: &'a Expr) {
        match &expr.kind {
            ExprKind::Linear(linear) => self.linear(linear),
            ExprKind::Bilinear { fibre, depthwise } => {
                self.push(if *depthwise { "depthwise bilinear " } else { "bilinear " });
                self.fibre(fibre);
            }
            ExprKind::Symmetric { degree, fibre } => {
                self.push("symmetric ");
                self.size(degree);
                self.push(" ");
                self.fibre(fibre);
            }
            ExprKind::Harmonics { from, to } => {
                self.push("harmonics ");
                self.size(from);
                self.push("..");
                self.size(to);
            }
            ExprKind::Bessel { count, cutoff } => {
                self.push("bessel ");
                self.size(count);
                self.push(" within ");
                self.size(cutoff);
            }
            ExprKind::Coarsen { how, factor } => {
                self.push(match how {
                    CoarsenHow::Mean => "coarsen ",
                    CoarsenHow::Max => "coarsen max ",
                    CoarsenHow::Stride => "coarsen stride ",
                });
                self.size(factor);
            }
            ExprKind::Refine { factor } => {
                self.push("refine ");
                self.size(factor);
            }
            ExprKind::Lift => self.push("lift"),
            ExprKind::Restrict(group) => {
                self.push("restrict ");
                self.group(group, 2);
            }
            ExprKind::Pool { how, over } => {
                self.push(match how {
                    PoolHow::Sum => "pool sum",
                    PoolHow::Mean => "pool mean",
                    PoolHow::Max => "pool max",
                });
                over.iter().for_each(|domain| self.push(&format!(" over {}", domain.node)));
            }
            ExprKind::Recur(fibre) => {
                self.push("recur ");
                self.fibre(fibre);
            }
            ExprKind::Learn { name, fibre, init } => {
                self.push(&format!("learn {}: ", name.node));
                self.fibre(fibre);
                if let Some(init) = init {
                    self.push(" = ");
                    let negative = matches!(&init.kind, ExprKind::Neg(inner) if own_tightness(inner) >= SUFFIXED);
                    if negative { self.bare(init, Ends::Held) } else { self.tight(init, SUFFIXED, Ends::Held) }
                }
            }
            other => unreachable!("format: {other:?} is no word"),
        }
    }

    fn linear(&mut self, linear: &'a Linear) {
        self.push(if linear.depthwise { "depthwise " } else { "linear " });
        self.fibre(&linear.fibre);
        if let Some(over) = &linear.over {
            self.push(" over ");
            self.neighbourhood(over);
        }
        if let Some(at) = &linear.at {
            self.push(" at ");
            self.bare(at, Ends::Held);
        }
        if let Some(by) = &linear.by {
            self.push(" by ");
            self.bare(by, Ends::Held);
        }
        if linear.nobias {
            self.push(" nobias");
        }
        if let Some(convention) = &linear.convention {
            self.push(&format!(" convention {}", convention.node));
        }
    }
}

fn place(expr: &Expr) -> (u32, u32) {
    (expr.span.start, expr.span.end)
}

/// Whether it is a name or a word with brackets and labels only, as `tangent` takes it.
fn mentions(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Bracket { base, .. } | ExprKind::Named { value: base, .. } => mentions(base),
        ExprKind::Learn { .. } => false,
        ExprKind::Name(_) | ExprKind::Length(_) => true,
        _ => is_word(expr),
    }
}
