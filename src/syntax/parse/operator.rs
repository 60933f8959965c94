//! Chains of operands and operators → a tree, by precedence. From loose to tight:
//! `|>`, comparisons, `++`, `+ -`, `* /`, the sign `-`, `^`. All but `^` group to the left.

use crate::base::span::Span;
use crate::syntax::ast::*;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Infix {
    Pipe,
    Binary(BinaryOp),
}

impl Infix {
    /// The operator that a sign of the grammar stands for.
    pub(super) fn named(sign: &str) -> Self {
        let op = match sign {
            "|>" => return Infix::Pipe,
            "++" => BinaryOp::Concat,
            "+" => BinaryOp::Add,
            "-" => BinaryOp::Sub,
            "*" => BinaryOp::Mul,
            "/" => BinaryOp::Div,
            "^" => BinaryOp::Pow,
            "==" => BinaryOp::Eq,
            "!=" => BinaryOp::Ne,
            "<=" => BinaryOp::Le,
            ">=" => BinaryOp::Ge,
            "<" => BinaryOp::Lt,
            _ => BinaryOp::Gt,
        };
        Infix::Binary(op)
    }

    fn tightness(self) -> u8 {
        match self {
            Infix::Pipe => 0,
            Infix::Binary(op) => tightness(op),
        }
    }
}

/// How tightly the sign `-` binds: looser than `^`, so `-x^2` is `-(x^2)`.
pub(in crate::syntax) const SIGN: u8 = 5;

/// How tightly an operator binds; `|>` is 0.
pub(in crate::syntax) fn tightness(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => 1,
        BinaryOp::Concat => 2,
        BinaryOp::Add | BinaryOp::Sub => 3,
        BinaryOp::Mul | BinaryOp::Div => 4,
        BinaryOp::Pow => 6,
    }
}

enum Waiting {
    Sign(Span),
    Infix(Infix),
}

impl Waiting {
    fn tightness(&self) -> u8 {
        match self {
            Waiting::Sign(_) => SIGN,
            Waiting::Infix(infix) => infix.tightness(),
        }
    }
}

/// Operands read, and operators that wait for their right side.
#[derive(Default)]
pub(super) struct Operators {
    operands: Vec<Expr>,
    waiting: Vec<Waiting>,
}

impl Operators {
    pub(super) fn operand(&mut self, operand: Expr) {
        self.operands.push(operand);
    }

    pub(super) fn sign(&mut self, span: Span) {
        self.waiting.push(Waiting::Sign(span));
    }

    pub(super) fn infix(&mut self, infix: Infix) {
        let right = infix == Infix::Binary(BinaryOp::Pow);
        let floor = infix.tightness() + u8::from(right);
        while self.waiting.last().is_some_and(|w| w.tightness() >= floor) {
            self.reduce();
        }
        self.waiting.push(Waiting::Infix(infix));
    }

    pub(super) fn finish(mut self) -> Expr {
        while !self.waiting.is_empty() {
            self.reduce();
        }
        self.pop()
    }

    fn pop(&mut self) -> Expr {
        self.operands.pop().expect("parse: an operator stands between operands")
    }

    fn reduce(&mut self) {
        let operator = self.waiting.pop().expect("parse: an operator waits");
        let right = self.pop();
        let result = match operator {
            Waiting::Sign(span) => Expr { span: span.to(right.span), kind: ExprKind::Neg(Box::new(right)) },
            Waiting::Infix(infix) => {
                let left = self.pop();
                let span = left.span.to(right.span);
                let (left, right) = (Box::new(left), Box::new(right));
                let kind = match infix {
                    Infix::Pipe => ExprKind::Pipe { value: left, stage: right },
                    Infix::Binary(op) => ExprKind::Binary { op, left, right },
                };
                Expr { kind, span }
            }
        };
        self.operands.push(result);
    }
}
