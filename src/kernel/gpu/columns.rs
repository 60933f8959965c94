//! Sums that are added up block by block in the memory of the result, while all columns pass by each block (the derivatives of weights, see
//! `lower::outer`): caches want it so, registers want the other order. Out: every column by itself, its sums in locals.

use super::Cx;
use super::change::Change;
use super::nest::Axis;
use crate::base::arena::Id;
use crate::kernel::ir::{Access, Buffer, Expr, Memory, Stmt};

/// A sum that lives in memory between blocks, and in a local during one.
struct Kept {
    home: Access,
    local: Id<Buffer>,
    start: Id<Expr>,
}

impl Cx<'_> {
    /// The independent loops of such sums, those over columns too, and what one element does; none where the body is another one.
    pub(super) fn by_column(&mut self, body: Vec<Stmt>) -> Option<(Vec<Axis>, Vec<Stmt>)> {
        let (mut axes, inside) = self.nest(body);
        let [zeros, Stmt::For { var, begin, end, kind, body: block }] = &inside[..] else { return None };
        let (columns, starts) = self.nest(vec![zeros.clone()]);
        let (pass, lets) = block.split_last()?;
        let (again, inner) = self.nest(vec![pass.clone()]);
        let extents = |axes: &[Axis]| axes.iter().map(|(_, extent)| *extent).collect::<Vec<_>>();
        let only_lets = lets.iter().all(|s| matches!(s, Stmt::Let { .. }));
        if columns.is_empty() || extents(&columns) != extents(&again) || !only_lets {
            return None;
        }
        let vars = again.iter().zip(&columns).map(|((var, _), (column, _))| (*var, *column)).collect();
        let change = Change { access: &|to| to, local: &Some, vars: &vars };
        let inner = self.changed(inner, &change);
        let (kept, rest) = self.kept(&starts, inner)?;
        let mut element = vec![];
        for k in &kept {
            element.push(Stmt::Alloc { buffer: k.local });
            element.push(Stmt::Store { to: Access { buffer: k.local, index: vec![] }, value: k.start });
        }
        let body = lets.iter().cloned().chain(rest).collect();
        element.push(Stmt::For { var: *var, begin: *begin, end: *end, kind: *kind, body });
        for k in kept {
            element.push(Stmt::Store { to: k.home, value: self.b.load(k.local, vec![]) });
        }
        axes.extend(columns);
        Some((axes, element))
    }

    /// The sums of a pass that begins by loading all that `starts` has set and ends by storing it, and what it does between.
    fn kept(&self, starts: &[Stmt], pass: Vec<Stmt>) -> Option<(Vec<Kept>, Vec<Stmt>)> {
        let n = starts.len();
        if pass.len() < 3 * n {
            return None;
        }
        let (loads, rest) = pass.split_at(2 * n);
        let (rest, stores) = rest.split_at(rest.len() - n);
        let mut res = vec![];
        for ((start, load), back) in starts.iter().zip(loads.chunks(2)).zip(stores) {
            let (Stmt::Store { to: home, value: start }, [Stmt::Alloc { buffer }, Stmt::Store { to, value }]) =
                (start, load)
            else {
                return None;
            };
            let local = Access { buffer: *buffer, index: vec![] };
            let loads = *to == local && *self.b.get(*value) == Expr::Load(home.clone());
            let stores = matches!(back, Stmt::Store { to, value }
                if to == home && *self.b.get(*value) == Expr::Load(local.clone()));
            if !loads || !stores || self.program.buffers[home.buffer].memory == Memory::Local {
                return None;
            }
            res.push(Kept { home: home.clone(), local: *buffer, start: *start });
        }
        Some((res, rest.to_vec()))
    }
}
