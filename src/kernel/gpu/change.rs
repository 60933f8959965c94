//! Statements that do the same with other locals.

use std::collections::BTreeMap;

use super::Cx;
use crate::base::arena::Id;
use crate::kernel::ir::{Access, Buffer, Expr, Stmt};
use crate::kernel::walk::{map_expr, map_stmt};

/// What is changed.
pub(super) struct Change<'c> {
    /// Where an element is now.
    pub access: &'c dyn Fn(Access) -> Access,
    /// The local that is made in place of one; none where it is there already.
    pub local: &'c dyn Fn(Id<Buffer>) -> Option<Id<Buffer>>,
}

impl Cx<'_> {
    /// A body with everything changed that is to be.
    pub(super) fn changed(&mut self, body: Vec<Stmt>, change: &Change<'_>) -> Vec<Stmt> {
        let mut known = BTreeMap::new();
        body.into_iter().filter_map(|stmt| self.changed_stmt(stmt, change, &mut known)).collect()
    }

    fn changed_stmt(
        &mut self,
        stmt: Stmt,
        change: &Change<'_>,
        known: &mut BTreeMap<Id<Expr>, Id<Expr>>,
    ) -> Option<Stmt> {
        let mut body = |cx: &mut Self, body: Vec<Stmt>| -> Vec<Stmt> {
            body.into_iter().filter_map(|s| cx.changed_stmt(s, change, known)).collect()
        };
        let stmt = match stmt {
            Stmt::For { var, begin, end, kind, body: inside } => {
                let inside = body(self, inside);
                let (begin, end) = (self.changed_expr(begin, change, known), self.changed_expr(end, change, known));
                return Some(Stmt::For { var, begin, end, kind, body: inside });
            }
            Stmt::If { cond, then } => {
                let then = body(self, then);
                return Some(Stmt::If { cond: self.changed_expr(cond, change, known), then });
            }
            Stmt::Store { to, value } => Stmt::Store { to: (change.access)(to), value },
            Stmt::Accumulate { to, f, value } => Stmt::Accumulate { to: (change.access)(to), f, value },
            Stmt::Alloc { buffer } => Stmt::Alloc { buffer: (change.local)(buffer)? },
            Stmt::Let { .. } | Stmt::Contract(_) | Stmt::Softmax(_) | Stmt::Multiply(_) => stmt,
        };
        Some(map_stmt(stmt, &mut |x| self.changed_expr(x, change, known), &mut |buffer| buffer))
    }

    fn changed_expr(
        &mut self,
        id: Id<Expr>,
        change: &Change<'_>,
        known: &mut BTreeMap<Id<Expr>, Id<Expr>>,
    ) -> Id<Expr> {
        if let Some(done) = known.get(&id) {
            return *done;
        }
        let expr = match self.b.get(id).clone() {
            Expr::Load(access) => Expr::Load((change.access)(access)),
            other => other,
        };
        let moved = map_expr(&expr, &mut |x| self.changed_expr(x, change, known), &mut |buffer| buffer);
        let res = self.b.expr(moved);
        known.insert(id, res);
        res
    }
}
