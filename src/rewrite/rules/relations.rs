//! Functions between axes: they have one value, they compose, and they commute with pointwise functions.

use egg::Id;

use crate::base::size::Size;
use crate::rewrite::classes::{Classes, Term, axes_of, without};
use crate::rewrite::rules::Law;
use crate::tensor::graph::{Affine, Axis, Function, Outside, Relation, Val};
use crate::tensor::op::{Func, Node, Op, Real};

/// Compile-time tables are composed up to this many entries.
const LARGEST_TABLE: usize = 1 << 14;

/// `[f(e) = n] · [f(e) = m] = [f(e) = n] · [n = m]`: so a value pulled and pushed along one function moves outside.
pub const ONE_VALUE: Law = Law {
    name: "one-value",
    equation: "[f(e) = n] · [f(e) = m] = [f(e) = n] · [n = m]",
    apply: one_value,
    witness: |s| {
        let (e, n, m) = (s.axis(), s.axis(), s.axis());
        s.same_size(n, m);
        let f = s.table(e, n);
        let g = f.rename(&[(n, m)]);
        let (a, b) = (s.tensor(&[n]), s.tensor(&[e]));
        s.graph.contract(&[&f, &g, &a, &b], &[m])
    },
};

fn one_value(classes: &mut Classes, _: Id, node: &Node) -> Vec<Term> {
    if node.op != Op::Contract {
        return vec![];
    }
    let (operands, out) = (Classes::operands(node), Classes::out(node));
    for i in 0..operands.len() {
        for j in 0..operands.len() {
            let (f, g) = (&operands[i], &operands[j]);
            if i == j || f.id != g.id || !classes.facts(f.id).ty.relation {
                continue;
            }
            let ((n, from), (m, other)) =
                (f.axes.split_last().expect("a function"), g.axes.split_last().expect("a function"));
            if from == other && !out.contains(m) && n != m {
                let rest = without(&operands, j).iter().map(|v| v.rename(&[(*m, *n)])).collect();
                return vec![Term::contract(rest, out)];
            }
        }
    }
    vec![]
}

/// `[f(e) = m] · [g(m) = n]`, summed over `m`, is `[g(f(e)) = n]`, where that is again affine or a small table.
pub const COMPOSE: Law = Law {
    name: "compose",
    equation: "Σ_m [f(e) = m] · [g(m) = n] = [g(f(e)) = n]",
    apply: compose,
    witness: |s| {
        let (e, m, n) = (s.axis(), s.axis(), s.axis());
        let (f, g) = (s.fixed_table(e, m), s.fixed_table(m, n));
        let a = s.tensor(&[n]);
        s.graph.contract(&[&f, &g, &a], &[e])
    },
};

fn compose(classes: &mut Classes, _: Id, node: &Node) -> Vec<Term> {
    if node.op != Op::Contract {
        return vec![];
    }
    let (operands, out) = (Classes::operands(node), Classes::out(node));
    let mut res = Vec::new();
    for (i, inner) in operands.iter().enumerate() {
        let Some(f) = relation_of(classes, inner) else { continue };
        let (m, from) = inner.axes.split_last().expect("a function");
        for (j, outer) in operands.iter().enumerate() {
            let Some(g) = relation_of(classes, outer) else { continue };
            let (n, through) = outer.axes.split_last().expect("a function");
            let readers = operands.iter().filter(|v| v.has(*m)).count();
            let places: Vec<usize> = (0..through.len()).filter(|k| through[*k] == *m).collect();
            if i == j || readers != 2 || out.contains(m) || n == m || places.len() != 1 {
                continue;
            }
            let Some(composed) = composition(&f, &g, places[0]) else { continue };
            let axes: Vec<Axis> = [from, &through[..places[0]], &through[places[0] + 1..], &[*n]].concat();
            let val = classes.relation(composed);
            let mut rest: Vec<Val> =
                (0..operands.len()).filter(|k| *k != i && *k != j).map(|k| operands[k].clone()).collect();
            rest.push(Val { id: val.id, axes });
            res.push(Term::contract(rest, out.clone()));
        }
    }
    res
}

fn relation_of(classes: &Classes, val: &Val) -> Option<Relation> {
    match classes.facts(val.id).leaf {
        Some(Op::Relation(id)) => Some(classes.graph().relations[id].clone()),
        _ => None,
    }
}

/// `g` with its argument number `at` being `f`: the axes are those of `f`, then the others of `g`.
pub fn composition(f: &Relation, g: &Relation, at: usize) -> Option<Relation> {
    let others = |k: &usize| *k != at;
    let from = f.from.iter().copied().chain((0..g.from.len()).filter(others).map(|k| g.from[k])).collect();
    let map = affine_composition(f, g, at).or_else(|| table_composition(f, g, at))?;
    Some(Relation { from, to: g.to, map })
}

/// `floor((s · (r · e + p) + ... + o) / d)`: affine again where `f` neither divides nor leaves its range,
/// or where both wrap around one torus.
fn affine_composition(f: &Relation, g: &Relation, at: usize) -> Option<Function> {
    let Function::Affine { scale: inner, offset: p, divisor: 1, outside: inside } = &f.map else { return None };
    let Function::Affine { scale: outer, offset: o, divisor, outside } = &g.map else { return None };
    let torus = *inside == Outside::Wrap && *outside == Outside::Wrap && f.to == g.to && *divisor == 1;
    if *inside != Outside::Never && !torus {
        return None;
    }
    let s = outer[at];
    let size = match (p.size, o.size) {
        (None, size) => size,
        (size, None) if s == 1 => size,
        _ => return None,
    };
    let rest = (0..outer.len()).filter(|k| *k != at).map(|k| outer[k]);
    let scale = inner.iter().map(|r| r * s).chain(rest).collect();
    let offset = Affine { constant: s * p.constant + o.constant, size };
    Some(Function::Affine { scale, offset, divisor: *divisor, outside: *outside })
}

fn table_composition(f: &Relation, g: &Relation, at: usize) -> Option<Function> {
    let (Function::Constant(inner), Function::Constant(outer)) = (&f.map, &g.map) else { return None };
    let dims: Vec<usize> = g.from.iter().map(|s: &Size| s.as_fixed()).collect::<Option<_>>()?;
    let count = inner.len() * outer.len() / dims[at].max(1);
    if count > LARGEST_TABLE {
        return None;
    }
    let others: usize = outer.len() / dims[at].max(1);
    let after: usize = dims[at + 1..].iter().product();
    let entry = |k: usize| {
        let (m, other) = (inner[k / others]?, k % others);
        outer[(other / after * dims[at] + m as usize) * after + other % after]
    };
    Some(Function::Constant((0..count).map(entry).collect()))
}

/// `h(Σ_n [f(e) = n] · x[n]) = Σ_n [f(e) = n] · h(x)[n]`: fewer values of `h` where there are fewer `n` than `e`,
/// or the other way round. Where `f` is partial, `h(0) = 0` is needed.
pub const MAP_GATHER: Law = Law {
    name: "map-gather",
    equation: "h(Σ_n [f(e) = n] · x) = Σ_n [f(e) = n] · h(x)",
    apply: map_gather,
    witness: |s| {
        let (e, n, c) = (s.big_axis(), s.axis(), s.axis());
        let (f, x) = (s.table(e, n), s.tensor(&[n, c]));
        let pulled = s.graph.contract(&[&f, &x], &[e, c]);
        s.graph.map(Func::Cos, &[&pulled])
    },
};

fn map_gather(classes: &mut Classes, _: Id, node: &Node) -> Vec<Term> {
    match node.op {
        Op::Map(h) if node.args.len() == 1 => map_of_gather(classes, node, h),
        Op::Contract => gather_of_map(classes, node),
        Op::Map(_)
        | Op::Sum
        | Op::Reduce(_)
        | Op::View
        | Op::Input(_)
        | Op::Weight(_)
        | Op::Constant(_)
        | Op::Relation(_) => vec![],
    }
}

fn map_of_gather(classes: &mut Classes, node: &Node, h: Func) -> Vec<Term> {
    let (operands, out) = (Classes::operands(node), Classes::out(node));
    let mut res = Vec::new();
    for inner in classes.nodes_where(operands[0].id, |op| *op == Op::Contract) {
        let factors = classes.open(&inner, &operands[0].axes);
        let Some((x, functions)) = gather(classes, &inner, &factors, h) else { continue };
        let fewer = classes.volume(&x, &axes_of(&x)) <= classes.volume(&operands, &operands[0].axes);
        if fewer && axes_of(&x).len() == x[0].axes.len() {
            let axes = axes_of(&x);
            let mapped = classes.make(&Term { op: Op::Map(h), operands: x, out: axes });
            let factors = functions.into_iter().chain([mapped]).collect();
            res.push(Term::contract(factors, out.clone()));
        }
    }
    res
}

fn gather_of_map(classes: &mut Classes, node: &Node) -> Vec<Term> {
    let (operands, out) = (Classes::operands(node), Classes::out(node));
    let Some((x, functions)) = gather_factors(classes, &operands, &out) else { return vec![] };
    let more = classes.volume(&x, &axes_of(&x)) > classes.volume(&operands, &out);
    let mut res = Vec::new();
    for inner in classes.nodes_where(x[0].id, |op| matches!(op, Op::Map(_))) {
        let Op::Map(h) = inner.op else { continue };
        if !more || inner.args.len() != 1 || !(at_zero(h) || total(classes, &functions)) {
            continue;
        }
        let argument = classes.open(&inner, &x[0].axes);
        let factors = functions.iter().cloned().chain(argument).collect();
        let pulled = classes.make(&Term::contract(factors, out.clone()));
        res.push(Term { op: inner.op.clone(), operands: vec![pulled], out: out.clone() });
    }
    res
}

/// The one tensor and the functions of a product that only pulls, if `h` may be exchanged with it.
fn gather(classes: &Classes, node: &Node, factors: &[Val], h: Func) -> Option<(Vec<Val>, Vec<Val>)> {
    if node.op != Op::Contract {
        return None;
    }
    let names: Vec<Axis> = node
        .out
        .iter()
        .map(|s| {
            let place = |reads: &Vec<u32>| reads.iter().position(|r| r == s);
            let at = node.reads.iter().position(|r| place(r).is_some()).expect("an axis of an operand");
            factors[at].axes[place(&node.reads[at]).expect("found above")]
        })
        .collect();
    let (x, functions) = gather_factors(classes, factors, &names)?;
    (at_zero(h) || total(classes, &functions)).then_some((x, functions))
}

/// The one tensor and the functions of a product that only pulls: every bound axis is the value of a function
/// of axes of the result, and no value is an axis of the result.
fn gather_factors(classes: &Classes, factors: &[Val], out: &[Axis]) -> Option<(Vec<Val>, Vec<Val>)> {
    let is_function = |v: &Val| classes.facts(v.id).ty.relation;
    let (functions, x): (Vec<Val>, Vec<Val>) = factors.iter().cloned().partition(is_function);
    let pulls = |f: &Val| {
        let (to, from) = f.axes.split_last().expect("a function");
        from.iter().all(|a| out.contains(a)) && !out.contains(to)
    };
    let determined = |a: &Axis| out.contains(a) || functions.iter().any(|f| f.axes.last() == Some(a));
    let once = functions.iter().all(|f| functions.iter().filter(|g| g.axes.last() == f.axes.last()).count() == 1);
    let ok = x.len() == 1
        && !functions.is_empty()
        && once
        && functions.iter().all(pulls)
        && x[0].axes.iter().all(determined);
    ok.then_some((x, functions))
}

/// Whether the functions are defined everywhere.
pub fn total(classes: &Classes, functions: &[Val]) -> bool {
    functions.iter().all(|f| match relation_of(classes, f).map(|r| r.map) {
        Some(Function::Table(_) | Function::Paired(_)) => true,
        Some(Function::Constant(table)) => table.iter().all(|k| k.is_some()),
        // an empty torus has no points to wrap to, but then nothing to read either
        Some(Function::Affine { outside, .. }) => outside != Outside::Zero,
        None => false,
    })
}

/// Whether `h(0) = 0`.
pub fn at_zero(h: Func) -> bool {
    match h {
        Func::Relu | Func::Silu | Func::Gelu | Func::Tanh | Func::Erf | Func::Sin | Func::Sqrt => true,
        Func::SafeRecip | Func::Abs | Func::Same | Func::Held | Func::Capped => true,
        Func::LeakyRelu(Real(slope)) => slope.is_finite(),
        Func::Powi(k) => k > 0,
        Func::Sigmoid | Func::Exp | Func::Log | Func::Cos | Func::Recip | Func::Max | Func::Min | Func::Greater => {
            false
        }
    }
}
