//! Sums of products: opening a product inside a product, and a sum inside a product.

use egg::Id;

use crate::base::size::Size;
use crate::rewrite::classes::{Classes, Term, axes_of, without};
use crate::rewrite::rules::Law;
use crate::rewrite::rules::nesting::least_cost;
use crate::rewrite::rules::witness::Sample;
use crate::tensor::graph::{Affine, Axis, Function, Outside, Relation, Val};
use crate::tensor::op::{Func, Node, Op};

/// Products are flattened up to this many factors.
pub const MOST_FACTORS: usize = 8;
/// Sums with more terms are not distributed over.
const MOST_TERMS: usize = 20;

/// `f(view x) = f(x)`, read under the other names.
pub const THROUGH_VIEW: Law = Law {
    name: "through-view",
    equation: "f(view x) = f(x) under the viewed names",
    apply: through_view,
    witness: |s| {
        let (i, j) = (s.axis(), s.axis());
        let x = s.tensor(&[i, j]);
        let viewed = s.view(&x, &[j, i]);
        s.graph.map(Func::Tanh, &[&viewed])
    },
};

fn through_view(classes: &mut Classes, _: Id, node: &Node) -> Vec<Term> {
    let operands = Classes::operands(node);
    let mut res = Vec::new();
    if node.op == Op::View {
        return res;
    }
    for (k, operand) in operands.iter().enumerate() {
        for inner in &classes.nodes_where(operand.id, |op| *op == Op::View) {
            let mut changed = operands.clone();
            changed[k] = classes.open(inner, &operand.axes).remove(0);
            res.push(Term { op: node.op.clone(), operands: changed, out: Classes::out(node) });
        }
    }
    res
}

/// `Σ_B a · (Σ_C b · c) = Σ_{B,C} a · b · c`
pub const FLATTEN: Law = Law {
    name: "flatten",
    equation: "Σ_B a · (Σ_C b · c) = Σ_{B,C} a · b · c",
    apply: flatten,
    witness: |s| {
        let (i, j, k) = (s.axis(), s.axis(), s.axis());
        let (a, b, c) = (s.tensor(&[i, j]), s.tensor(&[j, k]), s.tensor(&[k]));
        let inner = s.graph.contract(&[&b, &c], &[j]);
        s.graph.contract(&[&a, &inner], &[i])
    },
};

fn flatten(classes: &mut Classes, _: Id, node: &Node) -> Vec<Term> {
    let mut res = Vec::new();
    if node.op != Op::Contract {
        return res;
    }
    let operands = Classes::operands(node);
    for (k, operand) in operands.iter().enumerate() {
        for inner in classes.nodes_where(operand.id, |op| *op == Op::Contract) {
            if operands.len() - 1 + inner.args.len() <= MOST_FACTORS {
                let mut flat = without(&operands, k);
                flat.extend(classes.open(&inner, &operand.axes));
                res.push(Term::contract(flat, Classes::out(node)));
            }
        }
    }
    res
}

/// `a · (b + c) = a · b + a · c`, where that costs no more; `Σ_i b` of a `b` without axis `i` is `Σ_i 1_i · b`.
/// A square stays a square: `(b - c)²` keeps the digits that `b² - 2bc + c²` loses where b is close to c.
pub const DISTRIBUTE: Law = Law {
    name: "distribute",
    equation: "Σ_B a · (b + c) = Σ_B a · b + Σ_B a · c",
    apply: distribute,
    witness: |s| {
        let (i, j, k) = (s.big_axis(), s.axis(), s.axis());
        let (a, b, c) = (s.tensor(&[j, k]), s.tensor(&[i, j]), s.tensor(&[j]));
        let sum = s.graph.sum(&[&b, &c]);
        s.graph.contract(&[&a, &sum], &[k])
    },
};

fn distribute(classes: &mut Classes, _: Id, node: &Node) -> Vec<Term> {
    let mut res = Vec::new();
    if node.op != Op::Contract {
        return res;
    }
    let (operands, out) = (Classes::operands(node), Classes::out(node));
    let whole = Term::contract(operands.clone(), out.clone());
    for (k, operand) in operands.iter().enumerate() {
        let class = classes.egraph.find(operand.id);
        if operands.iter().filter(|v| classes.egraph.find(v.id) == class).count() > 1 {
            continue;
        }
        for inner in classes.nodes_where(operand.id, |op| *op == Op::Sum) {
            if inner.args.len() > MOST_TERMS || operands.len() >= MOST_FACTORS {
                continue;
            }
            let terms = classes.open(&inner, &operand.axes);
            let products: Vec<Term> = terms
                .into_iter()
                .map(|term| {
                    let mut factors = without(&operands, k);
                    factors.push(term);
                    let missing = bound_axes_missing(&operands, &factors, &out);
                    factors.extend(missing.into_iter().map(|a| ones(classes, &operands, a)));
                    let out = axes_of(&factors).into_iter().filter(|a| out.contains(a)).collect();
                    Term::contract(factors, out)
                })
                .collect();
            let covered = out.iter().all(|a| products.iter().any(|t| t.out.contains(a)));
            let most = 1.25 * least_cost(classes, &whole) + 2e-6;
            if covered && cost_at_most(classes, &products, most) {
                let values = products.iter().map(|t| classes.make(t)).collect();
                res.push(Term::sum(values, out.clone()));
            }
        }
    }
    res
}

/// Whether these products together cost at most this. The first that are too many end the search.
fn cost_at_most(classes: &mut Classes, products: &[Term], most: f64) -> bool {
    let mut left = most;
    products.iter().all(|t| {
        left -= opened_cost(classes, t);
        left >= 0.0
    })
}

/// The cost of a product when its last factor, if it is a product, is opened.
fn opened_cost(classes: &mut Classes, term: &Term) -> f64 {
    let (last, rest) = term.operands.split_last().expect("a product has factors");
    let mut least = least_cost(classes, term);
    for inner in classes.nodes_where(last.id, |op| *op == Op::Contract) {
        if rest.len() + inner.args.len() <= MOST_FACTORS {
            let factors = [rest, &classes.open(&inner, &last.axes)].concat();
            least = least.min(least_cost(classes, &Term::contract(factors, term.out.clone())));
        }
    }
    least
}

fn bound_axes_missing(before: &[Val], after: &[Val], out: &[Axis]) -> Vec<Axis> {
    let left = axes_of(after);
    axes_of(before).into_iter().filter(|a| !out.contains(a) && !left.contains(a)).collect()
}

/// The function from an axis to the only point: a factor of one along the axis.
pub fn ones(classes: &mut Classes, operands: &[Val], axis: Axis) -> Val {
    let relation = to_a_point(classes.size(operands, axis));
    let val = classes.relation(relation);
    val.rename(&[(val.axes[0], axis)])
}

/// The function from an axis of this size to an axis of size one.
pub fn to_a_point(size: Size) -> Relation {
    let offset = Affine { constant: 0, size: None };
    let map = Function::Affine { scale: vec![0], offset, divisor: 1, outside: Outside::Never };
    Relation { from: vec![size], to: Size::fixed(1), map }
}

/// A sample for other laws: a product of three matrices.
pub fn three_matrices(s: &mut Sample) -> Val {
    let (i, j, k, l) = (s.axis(), s.axis(), s.axis(), s.axis());
    let (a, b, c) = (s.tensor(&[i, j]), s.tensor(&[j, k]), s.tensor(&[k, l]));
    s.graph.contract(&[&a, &b, &c], &[i, l])
}
