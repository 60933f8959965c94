//! Blocks and the bindings in them.

use super::expression::{holds_block, starts_with_sign};
use super::{Attempt, Pipes, Printer};
use crate::syntax::ast::*;

impl<'a> Printer<'a> {
    /// `{ bindings; result }`, whose closing bracket stands at `end`.
    pub(super) fn block(&mut self, stmts: &'a [Stmt], result: Option<&'a Expr>, end: u32) {
        let outer = self.lines.indent();
        let indent = outer + 2;
        self.push("{");
        self.source_line = usize::MAX;
        for stmt in stmts {
            self.stmt(stmt, indent);
        }
        if let Some(result) = result {
            self.separate(result.span.start, indent);
            let sign = starts_with_sign(result);
            self.push(if sign { "(" } else { "" });
            self.value(result);
            self.push(if sign { ")" } else { "" });
            self.source_line = self.line(result.span.end);
        }
        self.source_line = usize::MAX;
        self.separate_end(end, indent);
        self.lines.start(outer);
        self.push("}");
    }

    /// The comments before a closing bracket.
    fn separate_end(&mut self, end: u32, indent: usize) {
        if self.comment_before(end) {
            self.break_line(end, indent);
        }
    }

    fn stmt(&mut self, stmt: &'a Stmt, indent: usize) {
        let (Stmt::Let { span, .. } | Stmt::Pointwise { span, .. } | Stmt::Repeat { span, .. }) = stmt;
        self.separate(span.start, indent);
        let start = self.lines.mark();
        self.binding(stmt);
        self.lines.settle(&start);
        self.source_line = self.line(span.end);
    }

    fn binding(&mut self, stmt: &'a Stmt) {
        match stmt {
            Stmt::Let { names, value, .. } => {
                let list = names.iter().map(|name| name.node.as_str()).collect::<Vec<_>>().join(", ");
                self.push(&if names.len() == 1 { list } else { format!("({list})") });
                self.lines.equals();
                self.push(" = ");
                self.value(value);
            }
            Stmt::Pointwise { name, indices, value, .. } => {
                let list = indices.iter().map(|name| name.node.as_str()).collect::<Vec<_>>();
                self.push(&format!("{}[{}]", name.node, list.join(",")));
                self.lines.equals();
                self.push(" = ");
                let outer = self.indices.len();
                self.indices.extend(list);
                self.value(value);
                self.indices.truncate(outer);
            }
            Stmt::Repeat { count, body, span } => {
                self.push("repeat ");
                self.head(count);
                self.push(": ");
                match body.as_slice() {
                    [one] if !self.comment_before(stmt_start(one)) => self.binding(one),
                    several => self.block(several, None, span.end),
                }
            }
        }
    }

    /// The value of a binding, or the result of a block.
    fn value(&mut self, value: &'a Expr) {
        if matches!(value.kind, ExprKind::Pipe { .. }) && !holds_block(value) {
            self.fitted(&[Attempt::AsWritten, Attempt::AtPipes], |p, attempt| {
                if attempt == Attempt::AtPipes {
                    p.pipes = Pipes::Broken;
                }
                p.expr(value);
            });
        } else {
            self.expr(value);
        }
    }
}

fn stmt_start(stmt: &Stmt) -> u32 {
    let (Stmt::Let { span, .. } | Stmt::Pointwise { span, .. } | Stmt::Repeat { span, .. }) = stmt;
    span.start
}
