//! The parts of an expression, in the order of the text.

use crate::syntax::ast::*;

/// The expressions directly within `e`, blocks included statement by statement.
pub(super) fn children(e: &Expr) -> Vec<&Expr> {
    match &e.kind {
        ExprKind::Number(_) | ExprKind::Name(_) | ExprKind::Lift | ExprKind::Restrict(_) | ExprKind::Pool { .. } => {
            Vec::new()
        }
        ExprKind::Tuple(fields) => fields.iter().map(|f| &f.value).collect(),
        ExprKind::Block(block) => {
            let mut out = Vec::new();
            block.stmts.iter().for_each(|s| statement(s, &mut out));
            out.push(&block.result);
            out
        }
        ExprKind::If { cond, then, otherwise } => vec![cond, then, otherwise],
        ExprKind::Neg(e) | ExprKind::Length(e) | ExprKind::Tangent(e) | ExprKind::Break(e) => vec![e],
        ExprKind::Binary { left, right, .. } => vec![left, right],
        ExprKind::Pipe { value, stage } => vec![value, stage],
        ExprKind::Call { callee, args } | ExprKind::Bracket { base: callee, args } => {
            std::iter::once(&**callee).chain(args).collect()
        }
        ExprKind::Dot { base, .. } => vec![base],
        ExprKind::Linear(linear) => {
            let over = linear.over.iter().flat_map(|n| neighbourhood(&n.kind));
            fibre(&linear.fibre).into_iter().chain(over).chain(&linear.at).chain(&linear.by).collect()
        }
        ExprKind::Bilinear { fibre: f, .. } | ExprKind::Recur(f) => fibre(f),
        ExprKind::Symmetric { degree, fibre: f } => std::iter::once(&**degree).chain(fibre(f)).collect(),
        ExprKind::Harmonics { from, to } => vec![from, to],
        ExprKind::Bessel { count, cutoff } => vec![count, cutoff],
        ExprKind::Comprehension(c) => c.score.iter().chain(std::iter::once(&c.body)).collect(),
        ExprKind::Coarsen { factor, .. } | ExprKind::Refine { factor } => vec![factor],
        ExprKind::Scan { init, over, body, .. } => vec![init, over, body],
        ExprKind::Learn { fibre: f, init, .. } => fibre(f).into_iter().chain(init.as_deref()).collect(),
        ExprKind::Named { value, .. } => vec![value],
    }
}

fn statement<'e>(s: &'e Stmt, out: &mut Vec<&'e Expr>) {
    match s {
        Stmt::Let { value, .. } | Stmt::Pointwise { value, .. } => out.push(value),
        Stmt::Repeat { count, body, .. } => {
            out.push(count);
            body.iter().for_each(|s| statement(s, out));
        }
    }
}

/// The expressions within a fibre: multiplicities and degrees.
pub(super) fn fibre(f: &FibreExpr) -> Vec<&Expr> {
    let mut out = Vec::new();
    for term in &f.terms {
        out.extend(&term.count);
        match &term.kind {
            FibreKind::Plain
            | FibreKind::Regular
            | FibreKind::Quotient(_)
            | FibreKind::Irrep { .. }
            | FibreKind::Vector
            | FibreKind::Position
            | FibreKind::Phase => {}
            FibreKind::Scalar(k) => out.extend(k),
            FibreKind::Irreps { from, to } => out.extend([from, to]),
            FibreKind::Rotary(k) | FibreKind::Ball(k) | FibreKind::Class(k) => out.push(k),
        }
    }
    out
}

fn neighbourhood(n: &NeighbourhoodKind) -> Vec<&Expr> {
    match n {
        NeighbourhoodKind::Box(extents) => extents.iter().collect(),
        NeighbourhoodKind::Disk(e)
        | NeighbourhoodKind::Cap(e)
        | NeighbourhoodKind::Ring(e)
        | NeighbourhoodKind::Number(e) => vec![e],
        NeighbourhoodKind::Past(e) => e.iter().collect(),
        NeighbourhoodKind::All | NeighbourhoodKind::Edges => Vec::new(),
    }
}

/// Calls `visit` on `e` and everything within it, outermost first. The parser bounds the depth.
pub(super) fn each<'e>(e: &'e Expr, visit: &mut impl FnMut(&'e Expr)) {
    visit(e);
    children(e).into_iter().for_each(|c| each(c, visit));
}
