//! Sums: opening a sum inside a sum, and taking common factors out.

use std::collections::{BTreeMap, BTreeSet};

use egg::Id;

use crate::rewrite::classes::{Classes, Term, axes_of, without};
use crate::rewrite::rules::Law;
use crate::tensor::graph::{Axis, Val};
use crate::tensor::op::{Func, Node, Op};

/// Sums are flattened up to this many terms.
const MOST_TERMS: usize = 40;

/// Ways to write a term as a product that are looked at for common factors.
const MOST_PRODUCTS: usize = 6;

/// `(a + b) + c = a + b + c`
pub const FLATTEN_SUM: Law = Law {
    name: "flatten-sum",
    equation: "(a + b) + c = a + b + c",
    apply: flatten_sum,
    witness: |s| {
        let (i, j) = (s.axis(), s.axis());
        let (a, b, c) = (s.tensor(&[i, j]), s.tensor(&[j]), s.tensor(&[i]));
        let inner = s.graph.sum(&[&a, &b]);
        s.graph.sum(&[&inner, &c])
    },
};

fn flatten_sum(classes: &mut Classes, _: Id, node: &Node) -> Vec<Term> {
    let mut res = Vec::new();
    if node.op != Op::Sum {
        return res;
    }
    let operands = Classes::operands(node);
    for (k, operand) in operands.iter().enumerate() {
        for inner in classes.nodes_where(operand.id, |op| *op == Op::Sum) {
            if operands.len() - 1 + inner.args.len() <= MOST_TERMS {
                let mut flat = without(&operands, k);
                flat.extend(classes.open(&inner, &operand.axes));
                res.push(Term::sum(flat, Classes::out(node)));
            }
        }
    }
    res
}

/// `Σ_B a · b + Σ_B a · c = Σ_B a · (b + c)`: of flat sums of flat products, all common factors at once,
/// and only where the new sum is no larger than what it replaces.
pub const FACTOR: Law = Law {
    name: "factor",
    equation: "Σ_B a · b + Σ_B a · c = Σ_B a · (b + c)",
    apply: factor,
    witness: |s| {
        let (i, j, k) = (s.axis(), s.axis(), s.axis());
        let (a, b, c) = (s.tensor(&[j, k]), s.tensor(&[i, j]), s.tensor(&[i, j]));
        let (ba, ca) = (s.graph.contract(&[&b, &a], &[i, k]), s.graph.contract(&[&c, &a], &[i, k]));
        let d = s.tensor(&[i, k]);
        let d = s.graph.map(Func::Tanh, &[&d]);
        s.graph.sum(&[&ba, &ca, &d])
    },
};

/// A term of a sum as a product: its position, its factors.
type Product = (usize, Vec<Val>);

/// A factor up to the names of its bound axes: the class, and each axis by its name where it is free, else by the
/// first place where it stands.
type Pattern = (Id, Vec<Result<Axis, usize>>);

fn factor(classes: &mut Classes, _: Id, node: &Node) -> Vec<Term> {
    if node.op != Op::Sum || node.args.len() > MOST_TERMS || !is_flat(classes, node) {
        return vec![];
    }
    let (terms, out) = (Classes::operands(node), Classes::out(node));
    let mut done: BTreeSet<(Vec<usize>, Vec<Id>)> = BTreeSet::new();
    let mut res = Vec::new();
    for (pattern, products) in shared_factors(classes, &terms) {
        if products.len() < 2 {
            continue;
        }
        let (common, rests) = take_out(classes, &pattern, &products);
        let mut ids: Vec<Id> = common.iter().map(|v| v.id).collect();
        ids.sort_unstable();
        if done.insert((rests.iter().map(|r| r.0).collect(), ids)) {
            res.extend(factored(classes, &terms, &out, common, &rests));
        }
    }
    res
}

/// Whether nothing in the node is of its own kind: then all laws that flatten have done their work.
fn is_flat(classes: &Classes, node: &Node) -> bool {
    !node.args.iter().any(|a| classes.egraph[*a].nodes.iter().any(|n| n.op == node.op))
}

/// For every factor of a flat product among the terms, the products that have it: one a term.
fn shared_factors(classes: &mut Classes, terms: &[Val]) -> BTreeMap<Pattern, Vec<(Product, usize)>> {
    let mut res: BTreeMap<Pattern, Vec<(Product, usize)>> = BTreeMap::new();
    for (at, term) in terms.iter().enumerate() {
        for node in classes.nodes_where(term.id, |op| *op == Op::Contract).into_iter().take(MOST_PRODUCTS) {
            if !is_flat(classes, &node) {
                continue;
            }
            let factors = classes.open(&node, &term.axes);
            for (k, factor) in factors.iter().enumerate() {
                let place = |a: &Axis| factor.axes.iter().position(|b| a == b).expect("its own axis");
                let name = |a: &Axis| if term.has(*a) { Ok(*a) } else { Err(place(a)) };
                let pattern = (classes.egraph.find(factor.id), factor.axes.iter().map(name).collect());
                let list = res.entry(pattern).or_default();
                if list.last().is_none_or(|((last, _), _)| *last != at) {
                    list.push(((at, factors.clone()), k));
                }
            }
        }
    }
    res
}

/// The common factors of products that share a pattern, under common names, and what is left of each product.
fn take_out(classes: &mut Classes, pattern: &Pattern, products: &[(Product, usize)]) -> (Vec<Val>, Vec<Product>) {
    let fresh: Vec<Axis> = pattern.1.iter().map(|_| classes.fresh()).collect();
    let axes: Vec<Axis> = pattern.1.iter().map(|a| a.unwrap_or_else(|place| fresh[place])).collect();
    let mut rests: Vec<Product> = products
        .iter()
        .map(|((at, factors), k)| {
            let names: Vec<(Axis, Axis)> = factors[*k].axes.iter().copied().zip(axes.iter().copied()).collect();
            (*at, without(factors, *k).iter().map(|v| v.rename(&names)).collect())
        })
        .collect();
    let mut common = vec![Val { id: pattern.0, axes }];
    for factor in rests[0].1.clone() {
        if rests.iter().all(|(_, rest)| rest.contains(&factor)) {
            for (_, rest) in &mut rests {
                let k = rest.iter().position(|v| *v == factor).expect("every rest has it");
                rest.remove(k);
            }
            common.push(factor);
        }
    }
    (common, rests)
}

/// The sum with the common factors taken out, if nothing grows.
fn factored(classes: &mut Classes, terms: &[Val], out: &[Axis], common: Vec<Val>, rests: &[Product]) -> Option<Term> {
    let outside = axes_of(&common);
    let bound: Vec<Axis> = outside.iter().copied().filter(|a| Classes::is_fresh(*a)).collect();
    let mut inner: Vec<Term> = Vec::new();
    for (at, rest) in rests {
        let term = &terms[*at];
        let rest = if rest.is_empty() { vec![classes.scalar(1.0)] } else { rest.clone() };
        let has = axes_of(&rest);
        let complete = term.axes.iter().all(|a| has.contains(a) || outside.contains(a));
        let kept: Vec<Axis> = has.iter().copied().filter(|a| term.has(*a) || outside.contains(a)).collect();
        let size = classes.volume(&rest, &kept);
        let before = |v: &Val| classes.volume(std::slice::from_ref(v), &v.axes);
        let largest = rest.iter().map(before).fold(before(term), f64::max);
        // a term that lacks an axis of the others is repeated by the sum; it must not be summed over in between
        if !complete || !bound.iter().all(|a| has.contains(a)) || size > largest {
            return None;
        }
        inner.push(Term::contract(rest, kept));
    }
    let repeats = inner.iter().any(|t| !inner[0].out.iter().all(|a| t.out.contains(a)));
    let repeats = repeats || inner.iter().any(|t| !t.out.iter().all(|a| inner[0].out.contains(a)));
    if repeats {
        return None;
    }
    let values: Vec<Val> = inner.iter().map(|t| classes.make(t)).collect();
    let axes = axes_of(&values);
    let mut factors = common;
    factors.push(classes.make(&Term::sum(values, axes)));
    let chosen: Vec<Val> = rests.iter().map(|(at, _)| terms[*at].clone()).collect();
    let product = classes.make(&Term::contract(factors, axes_of(&chosen)));
    let taken = |k: &usize| rests.iter().any(|(at, _)| at == k);
    let mut left: Vec<Val> = (0..terms.len()).filter(|k| !taken(k)).map(|k| terms[k].clone()).collect();
    left.push(product);
    Some(Term::sum(left, out.to_vec()))
}
