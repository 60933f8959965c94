//! Extraction against exact optima: an integer program over the nodes of small e-graphs, and a case where the cheapest
//! trees are not the cheapest program.

use std::collections::{BTreeMap, BTreeSet};

use egg::Id;
use good_lp::{Expression, Solution, SolverModel, Variable, constraint, microlp, variable, variables};

use gdlc::base::size::Size;
use gdlc::rewrite::classes::Classes;
use gdlc::rewrite::cost::Target;
use gdlc::rewrite::extract::{Problem, Selection, extract, trees};
use gdlc::rewrite::rules::LAWS;
use gdlc::rewrite::saturate::saturate;
use gdlc::tensor::graph::{Graph, Input, InputKind, Val};
use gdlc::tensor::op::{Func, Node};

/// The cost of the cheapest acyclic selection: one binary a node; a chosen node needs the classes it reads; cycles are
/// cut off as they appear.
fn optimum(problem: &Problem) -> f64 {
    let scale = 1.0 / problem.cost(&trees(problem)).unwrap();
    let mut cuts: Vec<Vec<(Id, usize)>> = Vec::new();
    loop {
        let mut vars = variables!();
        let mut x: BTreeMap<Id, Vec<Variable>> = BTreeMap::new();
        for (id, choices) in &problem.classes {
            x.insert(*id, choices.iter().map(|_| vars.add(variable().binary())).collect());
        }
        let cost = |(id, choices): (&Id, &Vec<gdlc::rewrite::extract::Choice>)| -> Expression {
            choices.iter().zip(&x[id]).map(|(c, v)| *v * (c.cost * scale)).sum()
        };
        let mut model = vars.minimise(problem.classes.iter().map(cost).sum::<Expression>()).using(microlp);
        for root in &problem.roots {
            model.add_constraint(constraint!(x[root].iter().sum::<Expression>() >= 1.0));
        }
        for (id, choices) in &problem.classes {
            let mut needs: BTreeMap<Id, Expression> = BTreeMap::new();
            for (choice, var) in choices.iter().zip(&x[id]) {
                for read in &choice.reads {
                    *needs.entry(*read).or_default() += *var;
                }
            }
            for (read, users) in needs {
                model.add_constraint(constraint!(users <= x[&read].iter().sum::<Expression>()));
            }
        }
        for cut in &cuts {
            let sum: Expression = cut.iter().map(|(id, k)| Expression::from(x[id][*k])).sum();
            model.add_constraint(constraint!(sum <= cut.len() as f64 - 1.0));
        }
        let solution = model.solve().expect("the program itself is a solution");
        let chosen = |vars: &Vec<Variable>| vars.iter().position(|v| solution.value(*v) > 0.5);
        let selection: Selection = x.iter().filter_map(|(id, vars)| chosen(vars).map(|k| (*id, k))).collect();
        match problem.cost(&selection) {
            Some(cost) => return cost,
            None => cuts.push(cycle(problem, &selection)),
        }
    }
}

/// A cycle of a selection.
fn cycle(problem: &Problem, selection: &Selection) -> Vec<(Id, usize)> {
    fn visit(
        problem: &Problem,
        selection: &Selection,
        id: Id,
        path: &mut Vec<Id>,
        done: &mut BTreeSet<Id>,
    ) -> Option<Vec<Id>> {
        if let Some(at) = path.iter().position(|p| *p == id) {
            return Some(path[at..].to_vec());
        }
        if !done.insert(id) {
            return None;
        }
        path.push(id);
        for read in &problem.classes[&id][selection[&id]].reads {
            if let Some(found) = visit(problem, selection, *read, path, done) {
                return Some(found);
            }
        }
        path.pop();
        None
    }
    let mut done = BTreeSet::new();
    let found = problem.roots.iter().find_map(|r| visit(problem, selection, *r, &mut vec![], &mut done));
    found.expect("no cost, so a cycle").into_iter().map(|id| (id, selection[&id])).collect()
}

fn saturated(graph: &Graph, limit: usize) -> Problem {
    let mut classes = Classes::new(graph, limit, Target::default());
    let mut ids: Vec<Id> = Vec::new();
    for (_, node) in graph.nodes() {
        let args = node.args.iter().map(|a| ids[usize::from(*a)]).collect();
        ids.push(classes.add(Node { args, ..node.clone() }));
    }
    saturate(&mut classes, LAWS, 6);
    let roots: Vec<Id> = graph.outputs.iter().map(|o| ids[usize::from(o.id)]).collect();
    Problem::new(&classes, &roots)
}

/// `tanh(a b v_k)` for several narrow `v_k`: each alone is cheapest as `a (b v_k)`, together `a b` is made once.
fn shared_product(n: usize, width: usize, count: usize) -> Graph {
    let mut g = Graph::default();
    let matrix = |g: &mut Graph, name: String, dims: [usize; 2]| {
        g.input(Input { name, dims: dims.map(Size::fixed).to_vec(), kind: InputKind::Real })
    };
    let (a, b) = (matrix(&mut g, "a".into(), [n, n]), matrix(&mut g, "b".into(), [n, n]));
    let b = b.rename(&[(b.axes[0], a.axes[1])]);
    for k in 0..count {
        let v = matrix(&mut g, format!("v{k}"), [n, width]);
        let v: Val = v.rename(&[(v.axes[0], b.axes[1])]);
        let y = g.contract(&[&a, &b, &v], &[a.axes[0], v.axes[1]]);
        let y = g.map(Func::Tanh, &[&y]);
        g.output(format!("y{k}"), &y, &y.axes);
    }
    g
}

#[test]
fn what_is_shared_is_paid_once() {
    let problem = saturated(&shared_product(256, 96, 4), 400);
    let (tree, found) = (problem.cost(&trees(&problem)).unwrap(), problem.cost(&extract(&problem)).unwrap());
    let best = optimum(&problem);
    println!("trees {tree:.4e}, found {found:.4e}, optimum {best:.4e}");
    assert!(best < 0.95 * tree, "the case shows nothing");
    assert!(found <= best * (1.0 + 1e-6));
}

#[test]
fn small_programs_are_extracted_at_their_optimum() {
    let mut solved = 0;
    for (n, width, count) in [(64, 8, 2), (64, 60, 2), (200, 100, 3), (30, 30, 2), (512, 400, 2)] {
        let problem = saturated(&shared_product(n, width, count), 300);
        let variables: usize = problem.classes.values().map(Vec::len).sum();
        if variables > 120 {
            continue;
        }
        let (found, best) = (problem.cost(&extract(&problem)).unwrap(), optimum(&problem));
        assert!(found <= best * (1.0 + 1e-6), "{n} {width} {count}: {found:.6e} against {best:.6e}");
        solved += 1;
    }
    assert!(solved >= 3, "{solved}");
}
