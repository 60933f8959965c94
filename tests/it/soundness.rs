//! Laws are equations: both sides of every law are instantiated at random and evaluated, every law fires on its
//! witness, and a false law is caught. Whole e-graphs of random programs are evaluated node by node.

use std::collections::BTreeMap;

use egg::Id;

use gdlc::rewrite::classes::{Classes, Term};
use gdlc::rewrite::cost::Target;
use gdlc::rewrite::rules::witness::Sample;
use gdlc::rewrite::rules::{LAWS, Law, sums};
use gdlc::rewrite::saturate::{apply, saturate};
use gdlc::tensor::eval::{Array, Value, eval_node};
use gdlc::tensor::graph::{Graph, Val};
use gdlc::tensor::op::{Func, Node, Op, Reduction};

/// The e-graph of a program, node by node; value `k` of the program is class `ids[k]`.
fn classes_of(graph: &Graph, limit: usize) -> (Classes, Vec<Id>) {
    let mut classes = Classes::new(graph, limit, Target::default());
    let mut ids: Vec<Id> = Vec::new();
    for (_, node) in graph.nodes() {
        let args = node.args.iter().map(|a| ids[usize::from(*a)]).collect();
        ids.push(classes.add(Node { args, ..node.clone() }));
    }
    classes.rebuild();
    (classes, ids)
}

fn difference(a: &Array, b: &Array) -> f64 {
    assert_eq!(a.dims, b.dims);
    let one = |(x, y): (&f64, &f64)| if x.is_nan() && y.is_nan() { 0.0 } else { (x - y).abs() / (1.0 + y.abs()) };
    a.data.iter().zip(&b.data).map(one).fold(0.0, |m, d| if d.is_nan() { f64::INFINITY } else { f64::max(m, d) })
}

/// Evaluates every node of the e-graph and compares it with its class. How many were compared, and the first that differs.
fn check_all(classes: &Classes, sample: &Sample) -> Result<usize, String> {
    let mut values: BTreeMap<Id, Value> = BTreeMap::new();
    let mut todo: Vec<(Id, Node)> = Vec::new();
    for class in classes.egraph.classes() {
        todo.extend(class.nodes.iter().map(|n| (class.id, n.clone())));
    }
    todo.sort();
    let mut compared = 0;
    while !todo.is_empty() {
        let before = todo.len();
        let mut later = Vec::new();
        for (class, node) in todo {
            let find = |id: Id| classes.egraph.find(id);
            if !node.args.iter().all(|a| values.contains_key(&find(*a))) {
                later.push((class, node));
                continue;
            }
            let value = eval_node(classes.graph(), &sample.args, &node, |id| values[&find(id)].clone())?;
            match values.get(&class) {
                Some(known) => {
                    let difference = difference(&value.numbers(), &known.numbers());
                    if difference > 1e-10 {
                        return Err(format!("{node:?} differs from its class by {difference:.1e}"));
                    }
                    compared += 1;
                }
                None => {
                    values.insert(class, value);
                }
            }
        }
        if later.len() == before {
            return Err("some nodes can only be computed from themselves".into());
        }
        todo = later;
    }
    Ok(compared)
}

/// Applies one law everywhere in one sample; whether it fired, and whether both sides are equal.
fn try_law(law: &Law, seed: u64) -> Result<bool, String> {
    let mut sample = Sample::new(seed);
    (law.witness)(&mut sample);
    let (mut classes, ids) = classes_of(&sample.graph, 10_000);
    let mut fired = false;
    for id in ids {
        for node in classes.nodes(id).into_iter().filter(|n| !n.op.is_leaf()) {
            let class = classes.egraph.find(id);
            fired |= apply(&mut classes, law, class, &node);
        }
    }
    classes.rebuild();
    check_all(&classes, &sample).map(|_| fired).map_err(|why| format!("law `{}`, seed {seed}: {why}", law.name))
}

#[test]
fn every_law_fires_and_both_sides_are_equal() {
    for law in LAWS {
        let fired = (0..60).filter(|seed| try_law(law, *seed).unwrap()).count();
        assert!(fired > 0, "law `{}` never fires on its witness", law.name);
    }
}

#[test]
fn laws_have_names_of_their_own() {
    let names: std::collections::BTreeSet<_> = LAWS.iter().map(|l| l.name).collect();
    assert_eq!(names.len(), LAWS.len());
}

/// `h(a + b) = h(a) + h(b)`: true of linear `h` only.
const FALSE_LAW: Law = Law {
    name: "planted",
    equation: "h(a + b) = h(a) + h(b)",
    apply: |classes, _, node| {
        let (Op::Map(h), [operand]) = (&node.op, &Classes::operands(node)[..]) else { return vec![] };
        let Some(sum) = classes.nodes(operand.id).into_iter().find(|n| n.op == Op::Sum) else { return vec![] };
        let terms = classes.open(&sum, &operand.axes);
        let map = |v: &Val| Term { op: Op::Map(*h), operands: vec![v.clone()], out: v.axes.clone() };
        let mapped = terms.iter().map(|t| classes.make(&map(t))).collect();
        vec![Term::sum(mapped, Classes::out(node))]
    },
    witness: |s| {
        let sum = (sums::FLATTEN_SUM.witness)(s);
        s.graph.map(Func::Tanh, &[&sum])
    },
};

#[test]
fn a_planted_false_law_is_caught() {
    let caught = (0..60).filter(|seed| try_law(&FALSE_LAW, *seed).is_err()).count();
    assert!(caught > 30, "caught {caught} of 60");
}

#[test]
#[should_panic(expected = "law `transposes` makes")]
fn a_law_that_changes_the_type_is_named() {
    let law = Law {
        name: "transposes",
        equation: "f(x) = x[0, ...]",
        apply: |_, _, node| match &Classes::operands(node)[..] {
            [x] if x.axes.len() == 1 => vec![Term::contract(vec![x.clone()], vec![])],
            _ => vec![],
        },
        witness: |s| {
            let i = s.axis();
            let x = s.tensor(&[i]);
            s.graph.map(Func::Tanh, &[&x])
        },
    };
    try_law(&law, 1).unwrap();
}

/// A random program of matrices, gathers, sums and maps over a few axes.
pub(crate) fn random_program(seed: u64) -> Sample {
    let mut s = Sample::new(seed ^ 0x5eed);
    let (n, e) = (s.big_axis(), s.big_axis());
    let (m, c, d) = (s.axis(), s.axis(), s.axis());
    s.same_size(n, m);
    s.same_size(c, d);
    if s.args.sizes[0] == 0 {
        s.args.sizes[0] = 2; // tables need somewhere to point
    }
    let (src, dst) = (s.table(e, n), s.table(e, n));
    let w = s.tensor(&[c, d]);
    let x = s.tensor(&[n, c]);
    let mut node_values = vec![x];
    let y = s.tensor(&[e, c]);
    let mut edge_values = vec![y];
    for _ in 0..6 {
        let a = node_values[s.below(node_values.len())].clone();
        let b = edge_values[s.below(edge_values.len())].clone();
        let g = &mut s.graph;
        let mix = |g: &mut Graph, v: &Val, axis| g.contract(&[v, &w], &[axis, d]).rename(&[(d, c)]);
        match seed.wrapping_mul(31).wrapping_add(edge_values.len() as u64 * 7 + node_values.len() as u64) % 7 {
            0 => node_values.push(mix(g, &a, n)),
            1 => edge_values.push(g.contract(&[&src, &a], &[e, c])),
            2 => node_values.push(g.contract(&[&dst, &b], &[n, c])),
            3 => edge_values.push(g.mul(&b, &edge_values[0].clone())),
            4 => node_values.push(g.sum(&[&a, &node_values[0].clone()])),
            5 => edge_values.push(g.map(Func::Relu, &[&b])),
            _ => {
                let pulled = g.contract(&[&dst, &a], &[e, c]);
                let sum = g.sum(&[&pulled, &b]);
                node_values.push(g.reduce(Reduction::Max, &sum, &[&dst], &[n, c]));
            }
        }
    }
    let (a, b) = (node_values.last().unwrap().clone(), edge_values.last().unwrap().clone());
    let pushed = s.graph.contract(&[&src, &b], &[n, c]);
    let last = s.graph.sum(&[&a, &pushed]);
    let last = s.graph.contract(&[&last, &w], &[n, d]);
    s.graph.output("y", &last, &[n, d]);
    s
}

#[test]
fn saturated_random_programs_evaluate_alike_everywhere() {
    let mut compared = 0;
    for seed in 0..100 {
        let sample = random_program(seed);
        let (mut classes, _) = classes_of(&sample.graph, 600);
        saturate(&mut classes, LAWS, 6);
        compared += check_all(&classes, &sample).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    println!("{compared} nodes compared with their classes");
    assert!(compared > 1500, "{compared}");
}
