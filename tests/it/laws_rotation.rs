//! SO(3) and O(3) against e3nn 0.6.0: Wigner 3j, harmonics, Wigner matrices,
//! and the laws that hold beyond the tables.

use gdlc::math::{Matrix, Rng};
use gdlc::symmetry::clebsch_gordan::{Convention, wigner_3j};
use gdlc::symmetry::harmonics::{Normalisation, gradients, polynomials, values, values_normalised};
use gdlc::symmetry::wigner::{euler_rotation, wigner, wigner_euler};
use gdlc::symmetry::{Irreps, Rep};
use serde_json::Value;

use crate::laws::named;

/// Agreement with the golden file.
const TOLERANCE: f64 = 1e-12;

fn golden(name: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/symmetry").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).expect("readable")).expect("valid JSON")
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().expect("an array").iter().map(|x| x.as_f64().expect("a number")).collect()
}

fn indices(v: &Value) -> Vec<usize> {
    v.as_array().expect("an array").iter().map(|x| x.as_u64().expect("an index") as usize).collect()
}

fn matrix(v: &Value) -> Matrix {
    let rows: Vec<Vec<f64>> = v.as_array().expect("rows").iter().map(numbers).collect();
    Matrix::from_vec(rows.len(), rows[0].len(), rows.concat())
}

fn point(v: &Value) -> [f64; 3] {
    numbers(v).try_into().expect("three coordinates")
}

#[test]
fn wigner_3j_equals_e3nn() {
    let golden = golden("e3nn_0.6.0.json");
    let list = golden["wigner_3j"].as_array().expect("a list");
    assert_eq!(list.len(), 65);
    for case in list {
        let l = indices(&case["l"]);
        let ours = wigner_3j(l[0], l[1], l[2], Convention::E3nn05).expect("a triangle");
        let theirs: Vec<(Vec<usize>, f64)> =
            case["ijk"].as_array().expect("a list").iter().map(indices).zip(numbers(&case["v"])).collect();
        assert_eq!(ours.entries.len(), theirs.len(), "{l:?}: the nonzero entries");
        for (at, v) in theirs {
            assert!((ours.get(at[0], at[1], at[2]) - v).abs() < TOLERANCE, "{l:?} at {at:?}");
        }
    }
}

#[test]
fn the_older_convention_flips_the_listed_triples_and_no_others() {
    let golden = golden("w3j_sign_flips.json");
    let flipped: Vec<Vec<usize>> = golden["flipped"].as_array().expect("a list").iter().map(indices).collect();
    assert_eq!(flipped.len(), 34);
    let mut triples = 0;
    for a in 0..=6 {
        for b in 0..=6 {
            for c in 0..=6 {
                let (Some(new), Some(old)) =
                    (wigner_3j(a, b, c, Convention::E3nn05), wigner_3j(a, b, c, Convention::E3nn04))
                else {
                    continue;
                };
                triples += 1;
                let sign = if flipped.contains(&vec![a, b, c]) { -1.0 } else { 1.0 };
                assert_eq!(old, new.scale(sign), "({a}, {b}, {c})");
            }
        }
    }
    assert_eq!(triples, 175);
}

#[test]
fn harmonics_equal_e3nn() {
    let golden = &golden("e3nn_0.6.0.json")["spherical_harmonics"];
    let points = golden["points"].as_array().expect("points");
    let mut compared = 0;
    for (p, r) in points.iter().enumerate() {
        let r = point(r);
        let plain = values(8, r, Normalisation::Component);
        let unit = values_normalised(8, r, Normalisation::Component);
        for (ours, name) in [(plain, "component_unnormalized"), (unit, "component_normalized")] {
            let theirs = numbers(&golden[name][p]);
            assert_eq!(ours.len(), theirs.len());
            for (i, (x, y)) in ours.iter().zip(&theirs).enumerate() {
                assert!(
                    (x - y).abs() < TOLERANCE * y.abs().max(1.0),
                    "{name} at point {p}, component {i}: {x} and {y}"
                );
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 8 * 81 * 2);
}

#[test]
fn gradients_equal_e3nn_and_the_difference_quotient() {
    let golden = &golden("e3nn_0.6.0.json")["spherical_harmonics"];
    let r = point(&golden["points"][0]);
    let length = r.iter().map(|x| x * x).sum::<f64>().sqrt();
    let unit = r.map(|x| x / length);
    let jacobian = matrix(&golden["jacobian_point0_l0to4_normalized"]);
    for (i, g) in gradients(4, unit, Normalisation::Component).iter().enumerate() {
        // The chain rule through r -> r/|r|: project off the direction, divide by |r|.
        let radial: f64 = g.iter().zip(&unit).map(|(a, b)| a * b).sum();
        for a in 0..3 {
            let ours = (g[a] - radial * unit[a]) / length;
            assert!(
                (ours - jacobian[(i, a)]).abs() < TOLERANCE * 10.0,
                "component {i}, axis {a}: {ours} and {}",
                jacobian[(i, a)]
            );
        }
    }
    let h = 1e-5;
    for (i, g) in gradients(8, r, Normalisation::Integral).iter().enumerate() {
        for a in 0..3 {
            let moved = |s: f64| {
                let mut q = r;
                q[a] += s * h;
                values(8, q, Normalisation::Integral)[i]
            };
            assert!(((moved(1.0) - moved(-1.0)) / (2.0 * h) - g[a]).abs() < 1e-7, "component {i}, axis {a}");
        }
    }
}

#[test]
fn polynomials_are_the_harmonics() {
    let r = [0.3, -0.7, 0.5];
    let all = values(8, r, Normalisation::Component);
    for l in 0..=8usize {
        for (m, p) in polynomials(l).iter().enumerate() {
            let value: f64 =
                p.iter().map(|(e, c)| c * (0..3).map(|a| r[a].powi(i32::from(e[a]))).product::<f64>()).sum();
            assert!((value - all[l * l + m]).abs() < 1e-12, "l = {l}, component {m}");
            // Homogeneous and harmonic: the Laplacian is the zero polynomial.
            assert!(p.keys().all(|e| e.iter().map(|x| usize::from(*x)).sum::<usize>() == l));
            let mut laplacian = std::collections::BTreeMap::<[u8; 3], f64>::new();
            for (e, c) in p {
                for a in 0..3 {
                    if e[a] >= 2 {
                        let mut lower = *e;
                        lower[a] -= 2;
                        *laplacian.entry(lower).or_default() += c * f64::from(e[a]) * f64::from(e[a] - 1);
                    }
                }
            }
            let largest = p.values().fold(0.0f64, |x, c| x.max(c.abs()));
            assert!(
                laplacian.values().all(|c| c.abs() < 1e-11 * largest.max(1.0)),
                "l = {l}, component {m}: {laplacian:?}"
            );
        }
    }
    let two = polynomials(2);
    assert_eq!(two[0].keys().collect::<Vec<_>>(), [&[1, 0, 1]]);
    assert!((two[0][&[1, 0, 1]] - 15f64.sqrt()).abs() < 1e-14);
    assert!((two[2][&[0, 2, 0]] - 5f64.sqrt()).abs() < 1e-14);
}

#[test]
fn wigner_matrices_equal_e3nn() {
    let golden = golden("e3nn_0.6.0.json");
    for case in golden["wigner_D"].as_array().expect("a list") {
        let [a, b, c] = point(&case["abg"]);
        for (l, d) in case["D"].as_array().expect("degrees").iter().enumerate() {
            assert!(wigner_euler(l, a, b, c).distance(&matrix(d)) < TOLERANCE, "l = {l} at {a}, {b}, {c}");
        }
    }
    let reflection = &golden["D_from_matrix_reflection"];
    let group = named("O(3)", 3);
    let rep = Rep::irreps(&group, &Irreps::parse(reflection["irreps"].as_str().expect("text")).expect("parses"))
        .expect("listed");
    let element = gdlc::symmetry::Element::Matrix(euler_rotation(0.3, -0.7, 1.1).scale(-1.0));
    assert!(rep.rho(&element).distance(&matrix(&reflection["D"])) < TOLERANCE);
}

#[test]
fn harmonics_turn_with_the_wigner_matrices() {
    let mut rng = Rng::new(2);
    let group = named("O(3)", 3);
    for l in [1usize, 4, 8, 12] {
        let g = group.sample(&mut rng);
        let r = [0.4, -0.8, 0.3];
        let moved: [f64; 3] = g.matrix().apply(&r).try_into().expect("three");
        let degree = |v: Vec<f64>| v[l * l..].to_vec();
        let left = degree(values(l, moved, Normalisation::Component));
        let right = wigner(l, g.matrix()).apply(&degree(values(l, r, Normalisation::Component)));
        for (x, y) in left.iter().zip(&right) {
            assert!((x - y).abs() < 1e-11, "Y(Rr) = D Y(r) at l = {l}");
        }
    }
}

#[test]
fn couplings_are_invariant_beyond_the_tables() {
    let mut rng = Rng::new(4);
    let group = named("SO(3)", 3);
    for (a, b, c) in [(6, 6, 6), (8, 5, 11), (10, 10, 4), (9, 9, 9)] {
        let t = wigner_3j(a, b, c, Convention::E3nn05).expect("a triangle");
        let r = group.sample(&mut rng);
        let d = |l| wigner(l, r.matrix());
        assert!(t.invariance_residual(&d(a), &d(b), &d(c)) < 1e-12, "({a}, {b}, {c})");
    }
}
