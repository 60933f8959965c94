//! Reductions other than sums: what does not depend on the reduced axes moves outside.

use egg::Id;

use crate::rewrite::classes::{Classes, Term, axes_of};
use crate::rewrite::rules::Law;
use crate::rewrite::rules::contraction::ones;
use crate::tensor::graph::{Axis, Val};
use crate::tensor::op::{Func, Node, Op, Real, Reduction};

/// `max_j (a_i + b_ij) = [some j] · a_i + max_j b_ij`, and the same of min and logsumexp: the semiring is distributive.
/// The mask is 0 where there is nothing to reduce, since both sides are 0 there.
pub const MAX_PLUS: Law = Law {
    name: "max-plus",
    equation: "max_j (a_i + b_ij) = [some j] · a_i + max_j b_ij",
    apply: max_plus,
    witness: |s| {
        let (e, i, j, c) = (s.axis(), s.axis(), s.axis(), s.axis());
        s.same_size(i, j);
        let (dst, src) = (s.table(e, i), s.table(e, j));
        let (a, b) = (s.tensor(&[i, c]), s.tensor(&[j, c]));
        let (ai, bj) = (s.graph.contract(&[&dst, &a], &[e, c]), s.graph.contract(&[&src, &b], &[e, c]));
        let sum = s.graph.sum(&[&ai, &bj]);
        s.graph.reduce(Reduction::Max, &sum, &[&dst], &[i, c])
    },
};

fn max_plus(classes: &mut Classes, _: Id, node: &Node) -> Vec<Term> {
    let Op::Reduce(how) = node.op else { return vec![] };
    let (operands, out) = (Classes::operands(node), Classes::out(node));
    let relations = &operands[1..];
    let mut res = Vec::new();
    for inner in classes.nodes_where(operands[0].id, |op| *op == Op::Sum) {
        let terms = classes.open(&inner, &operands[0].axes);
        let all = axes_of(&terms);
        let (mut outside, mut inside) = (Vec::new(), Vec::new());
        for term in terms {
            match constant_along(classes, &term, relations, &out) {
                Some(val) => outside.push(val),
                None => inside.push(term),
            }
        }
        let left = axes_of(&inside);
        let bound = |a: &&Axis| !out.contains(*a);
        let keeps =
            all.iter().filter(bound).all(|a| left.contains(a)) && operands[0].axes.iter().all(|a| left.contains(a));
        if outside.is_empty() || inside.is_empty() || !keeps {
            continue;
        }
        let mut reduced = vec![classes.make(&Term::sum(inside, left))];
        reduced.extend(relations.iter().cloned());
        let reduced = classes.make(&Term { op: Op::Reduce(how), operands: reduced, out: out.clone() });
        let mask = mask(classes, &operands, &out);
        let mut sum = vec![reduced];
        for val in outside {
            let mut axes = axes_of(&[mask.clone(), val.clone()]);
            axes.retain(|a| out.contains(a));
            sum.push(classes.make(&Term::contract(vec![mask.clone(), val], axes)));
        }
        res.push(Term::sum(sum, out.clone()));
    }
    res
}

/// The value as a function of the result's axes alone: it has only such axes, or it is pulled along a relation of the
/// reduction from such axes.
fn constant_along(classes: &mut Classes, term: &Val, relations: &[Val], out: &[Axis]) -> Option<Val> {
    if term.axes.iter().all(|a| out.contains(a)) {
        return Some(term.clone());
    }
    for inner in classes.nodes_where(term.id, |op| *op == Op::Contract) {
        if inner.args.len() != 2 {
            continue;
        }
        let factors = classes.open(&inner, &term.axes);
        for (f, x) in [(0, 1), (1, 0)] {
            let (f, x) = (&factors[f], &factors[x]);
            let Some((to, from)) = f.axes.split_last() else { continue };
            for relation in relations {
                let (target, source) = relation.axes.split_last().expect("a function");
                if classes.egraph.find(f.id) == classes.egraph.find(relation.id) && from == source && !term.has(*to) {
                    let pulled = x.rename(&[(*to, *target)]);
                    if pulled.axes.iter().all(|a| out.contains(a)) && classes.facts(relation.id).ty.relation {
                        return Some(pulled);
                    }
                }
            }
        }
    }
    None
}

/// 1 where something is reduced, else 0: `max` of ones along the same relations.
fn mask(classes: &mut Classes, operands: &[Val], out: &[Axis]) -> Val {
    let one = classes.scalar(1.0);
    let mut reads = vec![one];
    reads.extend(operands[1..].iter().cloned());
    let bound: Vec<Axis> = axes_of(operands).into_iter().filter(|a| !out.contains(a)).collect();
    let has: Vec<Axis> = axes_of(&reads);
    for axis in bound.iter().filter(|a| !has.contains(a)) {
        let ones = ones(classes, operands, *axis);
        reads.push(ones);
    }
    let axes = axes_of(&reads).into_iter().filter(|a| out.contains(a)).collect();
    classes.make(&Term { op: Op::Reduce(Reduction::Max), operands: reads, out: axes })
}

/// `max_j h(x_j) = h(max_j x_j)` for `h` that does not decrease and has `h(0) = 0`; the same of min.
pub const MONOTONE: Law = Law {
    name: "monotone",
    equation: "max_j h(x_j) = h(max_j x_j), h not decreasing, h(0) = 0",
    apply: monotone,
    witness: |s| {
        let (e, i, c) = (s.axis(), s.axis(), s.axis());
        let (dst, x) = (s.table(e, i), s.tensor(&[e, c]));
        let y = s.graph.map(Func::Relu, &[&x]);
        s.graph.reduce(Reduction::Max, &y, &[&dst], &[i, c])
    },
};

fn monotone(classes: &mut Classes, _: Id, node: &Node) -> Vec<Term> {
    let Op::Reduce(how) = node.op else { return vec![] };
    let (operands, out) = (Classes::operands(node), Classes::out(node));
    let mut res = Vec::new();
    for inner in classes.nodes_where(operands[0].id, |op| matches!(op, Op::Map(_))) {
        let Op::Map(h) = inner.op else { continue };
        if how == Reduction::LogSumExp || !increases_from_zero(h) {
            continue;
        }
        let mut reads = classes.open(&inner, &operands[0].axes);
        reads.extend(operands[1..].iter().cloned());
        let reduced = classes.make(&Term { op: Op::Reduce(how), operands: reads, out: out.clone() });
        res.push(Term { op: Op::Map(h), operands: vec![reduced], out: out.clone() });
    }
    res
}

fn increases_from_zero(h: Func) -> bool {
    match h {
        Func::Relu | Func::Tanh | Func::Erf | Func::Sqrt => true,
        Func::LeakyRelu(Real(slope)) => slope >= 0.0 && slope.is_finite(),
        Func::Powi(k) => k > 0 && k % 2 == 1,
        Func::Silu | Func::Gelu | Func::Sigmoid | Func::Exp | Func::Log | Func::Sin | Func::Cos => false,
        // it keeps the order, but is not to be looked through
        Func::Same | Func::Held | Func::Capped => false,
        Func::Recip | Func::SafeRecip | Func::Abs | Func::Max | Func::Min | Func::Greater => false,
    }
}
