//! Kernels on windows: the numbers of free weights known for group
//! convolutions, each as the length of the basis, as Burnside's count and as
//! the rank of the map from weights to the dense kernel.

use gdlc::math::Matrix;
use gdlc::symmetry::{
    Element, FiniteGroup, GroupRef, Inclusion, Irrep, KernelEntries, Rep, WindowBasis, WindowError, kernel_basis,
};

use crate::laws::named;

/// The box of odd side `k` in `axes` dimensions, row-major.
fn window(k: i64, axes: usize) -> Vec<Vec<i64>> {
    let mut all = vec![Vec::new()];
    for _ in 0..axes {
        all = all
            .into_iter()
            .flat_map(|d: Vec<i64>| (-(k / 2)..=k / 2).map(move |x| [d.clone(), vec![x]].concat()))
            .collect();
    }
    all
}

/// The rank of the map from weights to the dense kernel, by its Gram matrix.
fn rank(basis: &WindowBasis) -> usize {
    let size = basis.dim_out * basis.dim_in * basis.window;
    let mut columns: Vec<Vec<(usize, f64)>> = vec![Vec::new(); size];
    basis.for_each_entry(|w, p, i, j, v| columns[(i * basis.dim_in + j) * basis.window + p].push((w, v)));
    let disjoint = columns.iter().all(|c| c.len() <= 1);
    if disjoint {
        let mut norms = vec![0.0; basis.weights];
        columns.iter().flatten().for_each(|(w, v)| norms[*w] += v * v);
        return norms.iter().filter(|n| **n > 0.0).count();
    }
    let mut gram = Matrix::zeros(basis.weights, basis.weights);
    for column in &columns {
        for (a, x) in column {
            for (b, y) in column {
                gram[(*a, *b)] += x * y;
            }
        }
    }
    gram.rank()
}

/// `1/|G| sum_g chi_out(g) chi_in(g^-1) |window fixed by g|`.
fn burnside(window: &[Vec<i64>], rho_in: &Rep, rho_out: &Rep) -> usize {
    let group = rho_in.group().finite().expect("finite");
    let actions = group.integer_action().expect("a lattice group");
    let total: f64 = (0..group.order())
        .map(|g| {
            let image = |d: &[i64]| {
                actions[g].iter().map(|r| r.iter().zip(d).map(|(a, x)| a * x).sum::<i64>()).collect::<Vec<_>>()
            };
            let fixed = window.iter().filter(|d| image(d) == **d).count() as f64;
            fixed * rho_out.rho(&Element::Index(g)).trace() * rho_in.rho(&Element::Index(group.inverse_of(g))).trace()
        })
        .sum();
    (total / group.order() as f64).round() as usize
}

fn assert_count(group: &GroupRef, window: &[Vec<i64>], rho_in: &Rep, rho_out: &Rep, expected: usize) {
    let basis = kernel_basis(window, rho_in, rho_out).unwrap_or_else(|e| panic!("{e}"));
    let what = format!("{} on {} displacements: {} -> {}", group.name(), window.len(), rho_in.name(), rho_out.name());
    assert_eq!(basis.weights, expected, "{what}");
    assert_eq!(burnside(window, rho_in, rho_out), expected, "{what}: Burnside");
    assert_eq!(rank(&basis), expected, "{what}: rank of weights -> kernel");
    let orbit_sum: usize = basis.orbits.iter().map(|o| o.weights).sum();
    assert_eq!(orbit_sum, expected, "{what}: sum over orbits");
    assert_eq!(
        basis.orbits.iter().map(|o| o.members.len()).sum::<usize>(),
        window.len(),
        "{what}: orbits partition the window"
    );
    assert_equivariant(group, window, &basis, rho_in, rho_out);
}

/// `k(g d) = rho_out(g) k(d) rho_in(g)^-1` for every element, on generic weights.
fn assert_equivariant(group: &GroupRef, window: &[Vec<i64>], basis: &WindowBasis, rho_in: &Rep, rho_out: &Rep) {
    let finite = group.finite().expect("finite");
    let weights: Vec<f64> = (0..basis.weights).map(|w| (1.3 * w as f64 + 0.2).cos()).collect();
    let residual = kernel_residual(finite, window, &basis.dense(&weights), rho_in, rho_out);
    assert!(residual < 1e-10, "{} -> {}: residual {residual}", rho_in.name(), rho_out.name());
}

fn kernel_residual(finite: &FiniteGroup, window: &[Vec<i64>], dense: &[f64], rho_in: &Rep, rho_out: &Rep) -> f64 {
    let (rows, cols) = (rho_out.dim(), rho_in.dim());
    let at = |p: usize| Matrix::from_fn(rows, cols, |i, j| dense[(i * cols + j) * window.len() + p]);
    let actions = finite.integer_action().expect("a lattice group");
    let elements: Vec<usize> = if finite.order() > 8 {
        vec![1, finite.order() / 2, finite.order() - 1]
    } else {
        (0..finite.order()).collect()
    };
    let mut worst = 0.0f64;
    for g in elements {
        let (a, b) = (rho_in.rho(&Element::Index(finite.inverse_of(g))), rho_out.rho(&Element::Index(g)));
        for (p, d) in window.iter().enumerate() {
            let moved: Vec<i64> = actions[g].iter().map(|r| r.iter().zip(d).map(|(m, x)| m * x).sum()).collect();
            let to = window.iter().position(|e| *e == moved).expect("a union of orbits");
            worst = worst.max(at(to).distance(&b.mul(&at(p)).mul(&a)));
        }
    }
    worst
}

fn triple(group: &GroupRef) -> (Rep, Rep, Rep) {
    (Rep::scalar(group), Rep::regular(group).expect("finite"), Rep::vector(group))
}

#[test]
fn planar_groups_have_the_known_counts() {
    for (k, n) in [(3, 9), (5, 25), (7, 49)] {
        let trivial = named("trivial", 2);
        let (s, _, _) = triple(&trivial);
        assert_count(&trivial, &window(k, 2), &s, &s, n);
    }
    // (group, k, scalar -> regular, regular -> regular, scalar -> scalar)
    for (name, k, lift, conv, scalar) in
        [("C4", 3, 9, 36, 3), ("C4", 5, 25, 100, 7), ("D4", 3, 9, 72, 3), ("D4", 5, 25, 200, 6)]
    {
        let group = named(name, 2);
        let (s, r, _) = triple(&group);
        let w = window(k, 2);
        assert_count(&group, &w, &s, &r, lift);
        assert_count(&group, &w, &r, &r, conv);
        assert_count(&group, &w, &s, &s, scalar);
    }
    for (name, vectors) in [("C4", 10), ("D4", 5)] {
        let group = named(name, 2);
        let (_, _, v) = triple(&group);
        assert_count(&group, &window(3, 2), &v, &v, vectors);
    }
}

#[test]
fn lines_and_cubes_have_the_known_counts() {
    let line = named("O(1)", 1);
    let (s, _, _) = triple(&line);
    assert_count(&line, &window(7, 1), &s, &s, 4);
    // (group, k, scalar -> scalar, scalar -> regular, regular -> regular, vector -> vector)
    for (name, k, scalar, lift, conv, vectors) in
        [("O", 3, 4, 27, 648, 12), ("O", 5, 10, 125, 3000, 50), ("O_h", 3, 4, 27, 1296, 8)]
    {
        let group = named(name, 3);
        let (s, r, v) = triple(&group);
        let w = window(k, 3);
        assert_count(&group, &w, &s, &s, scalar);
        assert_count(&group, &w, &s, &r, lift);
        assert_count(&group, &w, &r, &r, conv);
        assert_count(&group, &w, &v, &v, vectors);
    }
}

#[test]
fn hexagons_have_the_known_counts() {
    let turn = Matrix::from_rows(&[[0.0, -1.0], [1.0, 1.0]]);
    let mirror = Matrix::from_rows(&[[0.0, 1.0], [1.0, 0.0]]);
    let ring = [[0, 0], [1, 0], [0, 1], [-1, 1], [-1, 0], [0, -1], [1, -1]].map(|d: [i64; 2]| d.to_vec());
    for (name, generators, conv) in [("C6", vec![turn.clone()], 42), ("D6", vec![turn, mirror], 84)] {
        let group = FiniteGroup::generated(name, &generators, 2).expect("a group").shared();
        let (s, r, _) = triple(&group);
        assert_count(&group, &ring, &s, &r, 7);
        assert_count(&group, &ring, &r, &r, conv);
    }
}

#[test]
fn irreps_and_quotients_agree_with_burnside() {
    let group = named("D4", 2);
    let w = window(5, 2);
    let mut reps: Vec<Rep> = group.irreps(0).into_iter().map(|ir| Rep::irrep(&group, ir).expect("listed")).collect();
    for sub in ["C2", "C4", "D1", "D2"] {
        let along = Inclusion::same_space(&named(sub, 2), &group).expect("a subgroup");
        reps.push(Rep::quotient(&along).expect("finite"));
    }
    reps.push(Rep::regular(&group).expect("finite"));
    reps.push(Rep::vector(&group).tensor(&Rep::vector(&group)));
    for a in &reps {
        for b in &reps {
            assert_count(&group, &w, a, b, burnside(&w, a, b));
        }
    }
    // C6 has irreps that are no signed permutations: the general route.
    let hexagon = FiniteGroup::generated("hexagonal C6", &[Matrix::from_rows(&[[0.0, -1.0], [1.0, 1.0]])], 2)
        .expect("a group")
        .shared();
    let ring = [[0, 0], [1, 0], [0, 1], [-1, 1], [-1, 0], [0, -1], [1, -1]].map(|d: [i64; 2]| d.to_vec());
    let mut reps: Vec<Rep> =
        hexagon.irreps(0).into_iter().map(|ir| Rep::irrep(&hexagon, ir).expect("listed")).collect();
    reps.push(Rep::regular(&hexagon).expect("finite"));
    for a in &reps {
        for b in &reps {
            assert_count(&hexagon, &ring, a, b, burnside(&ring, a, b));
        }
    }
}

#[test]
fn regular_kernels_of_p4m_are_indexed_as_in_the_hand_written_layer() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/symmetry/p4m_tables.json");
    let golden: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).expect("readable")).expect("valid JSON");
    let number = |table: &str, at: usize| golden[table][at].as_u64().expect("a number") as usize;
    let group = named("D4", 2);
    let finite = group.finite().expect("finite");
    let regular = Rep::regular(&group).expect("finite");
    let basis = kernel_basis(&window(3, 2), &regular, &regular).expect("a union of orbits");
    let KernelEntries::Table(table) = &basis.entries else { panic!("a permutation representation gives a table") };
    for g in 0..8 {
        for h in 0..8 {
            let back = number("inv_mul", g * 8 + h);
            assert_eq!(finite.product(finite.inverse_of(g), h), back, "g^-1 h");
            for z in 0..9 {
                // W[g, h, z] = psi[g^-1 h, A_g^-1 z]
                let expected = back * 9 + number("perm", g * 9 + z);
                assert_eq!(table[(g * 8 + h) * 9 + z], Some(expected as u32), "W[{g}, {h}, {z}]");
            }
        }
    }
}

#[test]
fn windows_that_are_not_unions_of_orbits_are_refused() {
    let group = named("D4", 2);
    let s = Rep::scalar(&group);
    let even: Vec<Vec<i64>> = (0..4).flat_map(|i| (0..4).map(move |j| vec![i - 1, j - 1])).collect();
    let oblong: Vec<Vec<i64>> = (-1..=1).flat_map(|i| (-2..=2).map(move |j| vec![i, j])).collect();
    for w in [even, oblong] {
        let error = kernel_basis(&w, &s, &s).expect_err("not closed");
        let WindowError::NotAUnionOfOrbits { displacement, image, .. } = &error else { panic!("{error}") };
        assert!(w.contains(displacement) && !w.contains(image), "{error}");
    }
    let eight = named("C8", 2);
    let s = Rep::scalar(&eight);
    assert!(matches!(kernel_basis(&window(3, 2), &s, &s), Err(WindowError::NotALatticeGroup { .. })));
}

#[test]
fn a_rotated_filter_is_caught() {
    let group = named("D4", 2);
    let regular = Rep::regular(&group).expect("finite");
    let w = window(3, 2);
    let basis = kernel_basis(&w, &regular, &regular).expect("a union of orbits");
    let weights: Vec<f64> = (0..basis.weights).map(|i| (i as f64).sin()).collect();
    let mut dense = basis.dense(&weights);
    let finite = group.finite().expect("finite");
    assert!(kernel_residual(finite, &w, &dense, &regular, &regular) < 1e-12);
    // One of the 64 filters turned by a quarter: the law must break.
    let filter: Vec<f64> = dense[9..18].to_vec();
    for i in 0..3 {
        for j in 0..3 {
            dense[9 + i * 3 + j] = filter[j * 3 + (2 - i)];
        }
    }
    assert!(kernel_residual(finite, &w, &dense, &regular, &regular) > 1e-3);
}

#[test]
fn an_odd_irrep_may_have_no_weight_at_the_centre() {
    // Scalars to pseudoscalars under D4: nothing on an axis of reflection, so 3x3 carries none.
    let group = named("D4", 2);
    let odd = Rep::irrep(&group, Irrep::parse("0o").expect("parses")).expect("listed");
    let s = Rep::scalar(&group);
    assert_count(&group, &window(3, 2), &s, &odd, 0);
    assert_count(&group, &window(5, 2), &s, &odd, 1);
}
