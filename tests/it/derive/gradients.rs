//! `grad(e, x)` in programs: against formulas, by arguments and bound signals, nested; certificates of forces.

use gdlc::derive::gradient_certificate::{DIFFERENCE, NET, certify_gradients};
use gdlc::tensor::eval::Array;

use super::draft::{distance, run};
use super::programs::{certified, checked, derived};

/// `count` numbers between -1 and 1.
fn numbers(dims: &[usize]) -> Array {
    let count: usize = dims.iter().product();
    Array { dims: dims.to_vec(), data: (0..count).map(|k| ((k + 1) as f64 * 1.731).sin()).collect() }
}

fn indices(list: &[usize]) -> Array {
    Array { dims: vec![list.len()], data: list.iter().map(|k| *k as f64).collect() }
}

/// The result `y` of a program on five points of two samples with numbers `x`.
fn on_points(body: &str, fibre: &str, x: &Array) -> Array {
    let text = format!("domain S = set(n)\nmodel M(x: S -> {fibre}) = {{\n{body}\n}}");
    let program = checked(&text, &[]).unwrap_or_else(|e| panic!("{text}\n{e:?}"));
    let derived = &derived(&program)[0];
    let index = indices(&[0, 0, 0, 1, 1]);
    let has_index = derived.graph.inputs.iter().any(|(_, i)| i.name == "S.index");
    let inputs: Vec<(&str, &Array)> = [("x", x)].into_iter().chain(has_index.then_some(("S.index", &index))).collect();
    run(derived, &[("n", 5), ("samples", 2)], &inputs, &Default::default())["y"].clone()
}

fn elementwise(x: &Array, f: impl Fn(f64) -> f64) -> Array {
    Array { dims: x.dims.clone(), data: x.data.iter().map(|x| f(*x)).collect() }
}

#[test]
fn gradients_are_those_of_the_formulas() {
    let x = numbers(&[5, 1]);
    let check = |body: &str, f: &dyn Fn(f64) -> f64| {
        let found = on_points(body, "1", &x);
        let error = distance(&found, &elementwise(&x, f));
        assert!(error < 1e-13, "{body}: {error:e}");
    };
    check("  grad(pool sum (x^4), x)", &|x| 4.0 * x.powi(3));
    check("  e = x |> sin |> pool sum\n  (-grad(e, x))", &|x| -x.cos());
    // nested: of the squares of a gradient
    check("  g = grad(pool sum (x^4), x)\n  grad(pool sum (g^2), x)", &|x| 96.0 * x.powi(5));
    // third derivatives
    check("  g = grad(pool sum (x^5), x)\n  h = grad(pool sum (g), x)\n  grad(pool sum (h), x)", &|x| 60.0 * x.powi(2));
    // by a bound signal, which is free, whatever else has its numbers
    check("  a = 2*x\n  b = 2*x\n  grad(pool sum (a*b), a)", &|x| 2.0 * x);
    check("  a = 2*x\n  b = 2*x\n  grad(pool sum (a*b), x)", &|x| 8.0 * x);
    check("  a = |x|\n  grad(pool sum (a^2), a)", &|x| 2.0 * x.abs());
    // a number of a sample that was squared: each point belongs to its own sample
    let found = on_points("  s = pool sum (x)\n  grad(s^2, x)", "1", &x);
    let sum = |r: std::ops::Range<usize>| x.data[r].iter().sum::<f64>();
    let expected: Vec<f64> = (0..5).map(|k| 2.0 * if k < 3 { sum(0..3) } else { sum(3..5) }).collect();
    assert!(distance(&found, &Array { dims: vec![5, 1], data: expected }) < 1e-13);
}

/// `E = Σ_{j~i} (|r_i - r_j|² - 1)² / 4`: each edge pulls both of its ends.
#[test]
fn forces_of_springs() {
    let text = "domain A = points(n, m) in R3 under E(3)
model Springs(r: A -> position) = {
  e[i] = sum j ~ i: (|r[i] - r[j]|^2 - 1)^2 / 4
  energy = pool sum (e)
  (energy, force = -grad(energy, r))
}";
    let program = checked(text, &[]).unwrap_or_else(|e| panic!("{e:?}"));
    let (receivers, senders) = ([0, 0, 1, 3, 4], [1, 2, 0, 4, 3]);
    let r = numbers(&[5, 3]);
    let (send, receive, index) = (indices(&senders), indices(&receivers), indices(&[0, 0, 0, 1, 1]));
    let inputs = [("r", &r), ("A.senders", &send), ("A.receivers", &receive), ("A.index", &index)];
    let found = run(&derived(&program)[0], &[("n", 5), ("m", 5), ("samples", 2)], &inputs, &Default::default());
    let (mut energy, mut force) = (vec![0.0; 2], vec![0.0; 15]);
    for (i, j) in receivers.into_iter().zip(senders) {
        let d: Vec<f64> = (0..3).map(|a| r.data[3 * i + a] - r.data[3 * j + a]).collect();
        let stretch = d.iter().map(|x| x * x).sum::<f64>() - 1.0;
        energy[usize::from(i > 2)] += stretch * stretch / 4.0;
        for a in 0..3 {
            force[3 * i + a] -= stretch * d[a];
            force[3 * j + a] += stretch * d[a];
        }
    }
    assert!(distance(&found["energy"], &Array { dims: vec![2, 1], data: energy }) < 1e-13);
    assert!(distance(&found["force"], &Array { dims: vec![5, 3], data: force }) < 1e-13);
}

fn gradients_hold(text: &str, set: &[(&str, i64)], nets: usize) {
    let program = checked(text, set).unwrap_or_else(|e| panic!("{e:?}"));
    let mut found = 0;
    for model in &program.models {
        for g in certify_gradients(&program, model, 5).unwrap_or_else(|e| panic!("{e:?}")) {
            assert!(g.difference <= DIFFERENCE, "{g:?}");
            for net in [g.force, g.torque].into_iter().flatten() {
                assert!(net <= NET, "{g:?}");
                found += 1;
            }
        }
    }
    assert_eq!(found, nets, "net forces and torques that must vanish");
}

#[test]
fn forces_of_molecules_are_certified() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/nequip.gdl")).unwrap();
    gradients_hold(&text, &[("c", 2), ("L", 2)], 2);
}

/// A crystal has no net force; its cell turns with it, so that the torque of the forces alone need not vanish.
#[test]
fn forces_of_crystals_are_certified() {
    let text = "domain C = points(n, m) in R3 periodic under E(3)
model Crystal(r: C -> position) = {
  s[i] = sum j ~ i: |r[i] - r[j]|^2
  energy = s |> pool sum
  (energy, force = -grad(energy, r))
}";
    gradients_hold(text, &[], 1);
}

/// A particle is pulled to another signal of vectors: the net torque is not that of the positions alone.
#[test]
fn other_signals_take_their_share_of_the_torque() {
    let text = "domain A = points(n, m) in R3 under E(3)
model Pulled(r: A -> position, v: A -> vector) = {
  e[i] = sum j ~ i: dot(r[i] - r[j], v[i]) * |v[j]|
  energy = pool sum (e)
  (f = grad(energy, r), g = grad(energy, v))
}";
    gradients_hold(text, &[], 1);
    certified(text, &[]);
}

/// Every nonlinearity, pooling and window, by a certificate each: derivatives of layers people use.
#[test]
fn gradients_of_layers() {
    for body in [
        "x |> linear 4 over 3x3 |> relu |> linear 4 over 3x3 |> gelu |> pool mean |> linear 1",
        "x |> linear 4 regular over 3x3 |> silu |> coarsen 2 |> linear 3 regular over 3x3 |> tanh |> pool max |> linear 1",
        "x |> norm |> linear 3 |> sigmoid |> coarsen max 2 |> refine 2 |> linear 1 |> pool sum",
    ] {
        let text = format!("domain P = grid(n, n) under p4m\nmodel M(x: P -> 2) = {{\n  e = {body}\n  grad(e, x)\n}}");
        gradients_hold(&text, &[], 0);
    }
    let graph = "domain G = graph(n, m)
model Attends(x: G -> 3) = {
  y[i] = attend j~i by dot(x[i], x[j]): x[j]
  z[i] = mlp[4](y[i], max j~i: mlp[4](x[i], x[j]))
  e = z |> linear 1 |> pool sum
  grad(e, x)
}
model Pairs(x: G -> 3) = {
  y[i] = mean j: mlp[4, 2](x[i], x[j])
  e = y |> linear 1 |> pool mean
  grad(e, x)
}";
    gradients_hold(graph, &[], 0);
}

/// The founding integrator: its part of the file, without the hyperbolic layer that does not derive yet.
pub(crate) fn orbit() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/founding/flow.gdl");
    let text = std::fs::read_to_string(path).expect("the program is there");
    text[text.find("domain Bodies").expect("its domain")..].into()
}

/// Ten steps of leapfrog by hand, with the derivative of the energy written out:
/// `∂E/∂q_i = 2 Σ_{j≠i} u'(d) (q_i - q_j) / d`, `u(d) = w · silu(a d + b) + c`, `d = |q_i - q_j|`.
#[test]
fn the_founding_integrator_is_leapfrog() {
    let program = checked(&orbit(), &[]).unwrap_or_else(|e| panic!("{e:?}"));
    let derived = &derived(&program)[0];
    let of = |k: usize, dims: &[usize]| {
        let some = numbers(&[dims.iter().product::<usize>() + 100 * k]);
        Array { dims: dims.to_vec(), data: some.data[100 * k..].to_vec() }
    };
    let weights: std::collections::BTreeMap<String, Array> =
        derived.graph.weights.iter().enumerate().map(|(k, (_, w))| (w.name.clone(), of(k, &w.dims))).collect();
    assert_eq!(weights.len(), 4, "the energy has its weights once: {:?}", weights.keys());
    let named = |end: &str| {
        let (_, found) = weights.iter().find(|(name, _)| name.ends_with(end)).unwrap_or_else(|| panic!("no {end}"));
        found.data.clone()
    };
    let (a, b, w) = (named("1.weight"), named("1.bias"), named("2.weight"));
    let samples = [0, 0, 0, 1, 1];
    let (q, p) = (numbers(&[5, 3]), of(3, &[5, 3]));
    let index = indices(&samples);
    let inputs = [("q", &q), ("p", &p), ("Bodies.index", &index)];
    let found = run(derived, &[("k", 5), ("Bodies.edges", 0), ("samples", 2)], &inputs, &weights);

    let slope = |d: f64| {
        let one = |k: usize| {
            let x = a[k] * d + b[k];
            let s = 1.0 / (1.0 + (-x).exp());
            w[k] * a[k] * s * (1.0 + x * (1.0 - s))
        };
        (0..64).map(one).sum::<f64>()
    };
    let kick = |q: &[f64], p: &mut [f64]| {
        for (i, j) in
            (0..5).flat_map(|i| (0..5).map(move |j| (i, j))).filter(|(i, j)| i != j && samples[*i] == samples[*j])
        {
            let r: Vec<f64> = (0..3).map(|c| q[3 * i + c] - q[3 * j + c]).collect();
            let d = r.iter().map(|x| x * x).sum::<f64>().sqrt();
            (0..3).for_each(|c| p[3 * i + c] -= 0.05 * 2.0 * slope(d) * r[c] / d);
        }
    };
    let (mut at, mut momentum) = (q.data.clone(), p.data.clone());
    for _ in 0..10 {
        kick(&at, &mut momentum);
        at.iter_mut().zip(&momentum).for_each(|(x, v)| *x += 0.1 * v);
        kick(&at, &mut momentum);
    }
    let moved = distance(&found["q"], &q);
    assert!(moved > 0.1, "the bodies have hardly moved: {moved:e}");
    for (name, expected) in [("q", at), ("p", momentum)] {
        let error = distance(&found[name], &Array { dims: vec![5, 3], data: expected });
        assert!(error < 1e-10, "{name}: {error:e}");
    }
}
