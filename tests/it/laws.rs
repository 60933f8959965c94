//! The laws of groups, representations and intertwiners, swept over the
//! registry: a new group is tested by its entry there. Expected numbers come
//! from theorems, characters and golden files, not from what is tested.

use gdlc::math::{Matrix, Rng, span_rank};
use gdlc::symmetry::groups::{self, REGISTRY};
use gdlc::symmetry::harmonics::{Polynomial, planar_polynomials, polynomials};
use gdlc::symmetry::intertwiner::{by_coupling, by_null_space, by_orbits, by_schur, residual};
use gdlc::symmetry::{
    Element, Endomorphism, GroupRef, Inclusion, Irrep, Irreps, Parity, Rep, Symmetry, Tensor3, angular_paths,
    axis_stabiliser, decompose, equivariant_basis, group, hom_dim, partition,
};

pub(crate) fn named(name: &str, axes: usize) -> GroupRef {
    groups::by_name(name, &[], Some(axes)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The examples of the registry.
fn swept() -> Vec<GroupRef> {
    let all: Vec<GroupRef> = REGISTRY
        .iter()
        .flat_map(|f| f.examples)
        .map(|(name, axes)| groups::by_name(name, &[], *axes).unwrap_or_else(|e| panic!("{name}: {e}")))
        .collect();
    assert!(all.len() >= 20, "the registry shrank");
    all
}

/// Irreps up to degree 3 and what is built of them.
fn representations(group: &GroupRef) -> Vec<Rep> {
    let mut reps: Vec<Rep> = group.irreps(3).into_iter().map(|ir| Rep::irrep(group, ir).expect("listed")).collect();
    let (vector, scalar) = (Rep::vector(group), Rep::scalar(group));
    reps.push(vector.tensor(&vector));
    reps.push(Rep::sum(group, vec![(2, scalar), (1, vector.dual())]));
    reps.push(vector.symmetric_power(2).expect("small"));
    if let Some(finite) = group.finite() {
        reps.push(Rep::regular(group).expect("finite"));
        let last = finite.order() - 1;
        let members = finite.subgroup_generated(&[last]);
        let along = Inclusion::of_members(group, &members, "K").expect("a subgroup");
        reps.push(Rep::quotient(&along).expect("finite"));
        reps.push(vector.restrict(&along).induce(&along).expect("finite"));
    }
    reps.push(vector);
    reps
}

fn exponential(x: &Matrix) -> Matrix {
    let mut sum = Matrix::identity(x.rows());
    let mut term = sum.clone();
    for n in 1..30 {
        term = term.mul(x).scale(1.0 / f64::from(n));
        sum = sum.add(&term);
    }
    sum
}

fn close(a: &Matrix, b: &Matrix, what: &str) {
    assert!(a.distance(b) < 1e-10, "{what}: {a:?} is not {b:?}");
}

#[test]
fn representations_are_homomorphisms() {
    let mut rng = Rng::new(11);
    for group in swept() {
        for rep in representations(&group) {
            for _ in 0..4 {
                let (a, b) = (group.sample(&mut rng), group.sample(&mut rng));
                assert!((rep.character(&a) - rep.rho(&a).trace()).abs() < 1e-10, "{rep}: the character is the trace");
                close(
                    &rep.rho(&group.multiply(&a, &b)),
                    &rep.rho(&a).mul(&rep.rho(&b)),
                    &format!("{rep}: rho(ab) = rho(a) rho(b)"),
                );
            }
            close(&rep.rho(&group.identity()), &Matrix::identity(rep.dim()), &format!("{rep}: rho(1) = 1"));
        }
    }
}

#[test]
fn the_derivative_is_that_of_the_representation() {
    for group in swept() {
        for (i, x) in group.lie_algebra().iter().enumerate() {
            let near = Element::Matrix(exponential(&x.scale(0.3)));
            for rep in representations(&group) {
                close(
                    &rep.rho(&near),
                    &exponential(&rep.drho(i).scale(0.3)),
                    &format!("{rep}: rho(exp X) = exp drho(X)"),
                );
            }
        }
    }
}

#[test]
fn the_derivative_keeps_the_brackets() {
    let bracket = |a: &Matrix, b: &Matrix| a.mul(b).sub(&b.mul(a));
    for name in ["SO(3)", "O(3)"] {
        let group = named(name, 3);
        let x = group.lie_algebra();
        // [X, Y] = Z and cyclically, in the defining representation and in all others.
        for rep in representations(&group) {
            for (i, j, k) in [(0, 1, 2), (1, 2, 0), (2, 0, 1)] {
                close(&bracket(&x[i], &x[j]), &x[k], "the defining brackets");
                close(&bracket(&rep.drho(i), &rep.drho(j)), &rep.drho(k), &format!("{rep}: brackets"));
            }
        }
    }
}

#[test]
fn irreps_are_orthogonal_irreducible_and_complete() {
    for group in swept() {
        let irreps = group.irreps(3);
        assert_eq!(irreps[0], Irrep::TRIVIAL, "{}", group.name());
        for (i, a) in irreps.iter().enumerate() {
            let va = Rep::irrep(&group, *a).expect("listed");
            assert_eq!(va.dim(), group.irrep_dim(*a));
            for g in group.discrete_generators() {
                close(
                    &va.rho(&g).mul(&va.rho(&g).transpose()),
                    &Matrix::identity(va.dim()),
                    &format!("{va} is orthogonal"),
                );
            }
            for (j, b) in irreps.iter().enumerate() {
                let vb = Rep::irrep(&group, *b).expect("listed");
                // By the null space, which knows no labels.
                let expected = if i == j { group.endomorphism(*a).dim() } else { 0 };
                assert_eq!(by_null_space(&va, &vb).len(), expected, "Schur for {va} and {vb}");
            }
        }
        if let Some(finite) = group.finite() {
            let squares: usize =
                irreps.iter().map(|ir| group.irrep_dim(*ir).pow(2) / group.endomorphism(*ir).dim()).sum();
            assert_eq!(squares, finite.order(), "{}: the squares of the dimensions sum to the order", group.name());
        }
    }
}

#[test]
fn clebsch_gordan_is_equivariant_and_agrees_with_the_null_space() {
    let mut rng = Rng::new(5);
    for group in swept() {
        let irreps = group.irreps(2);
        for &a in &irreps {
            for &b in &irreps {
                for &c in &irreps {
                    let closed = group.clebsch_gordan(a, b, c);
                    let times = group.tensor_product(a, b).iter().filter(|x| **x == c).count();
                    let what = format!("{}: {a} (x) {b} -> {c}", group.name());
                    assert_eq!(closed.len(), times * group.endomorphism(c).dim(), "{what}: selection rule");
                    let g = group.sample(&mut rng);
                    for t in &closed {
                        assert!(coupling_residual(&group, t, [a, b, c], &g) < 1e-10, "{what} is not equivariant");
                        assert!((t.norm() - 1.0).abs() < 1e-12, "{what}: norm");
                    }
                    let solved = group::numerical_clebsch_gordan(&group, a, b, c).expect("irreps");
                    assert_same_span(
                        &closed.iter().map(Tensor3::to_map).collect::<Vec<_>>(),
                        &solved.iter().map(Tensor3::to_map).collect::<Vec<_>>(),
                        &what,
                    );
                }
            }
        }
    }
}

fn coupling_residual(group: &GroupRef, t: &Tensor3, [a, b, c]: [Irrep; 3], g: &Element) -> f64 {
    t.invariance_residual(&group.irrep_rho(a, g), &group.irrep_rho(b, g), &group.irrep_rho(c, g))
}

#[test]
fn a_flipped_sign_in_clebsch_gordan_is_caught() {
    let group = named("O(3)", 3);
    let mut rng = Rng::new(8);
    let [a, b, c] = ["1o", "2e", "3o"].map(|s| Irrep::parse(s).expect("parses"));
    let good = group.clebsch_gordan(a, b, c).remove(0);
    let g = group.sample(&mut rng);
    assert!(coupling_residual(&group, &good, [a, b, c], &g) < 1e-12);
    for entry in 0..good.entries.len() {
        let mut bad = good.clone();
        bad.entries[entry].1 *= -1.0;
        assert!(coupling_residual(&group, &bad, [a, b, c], &g) > 1e-3, "entry {entry} with the wrong sign passes");
    }
}

/// Whether two lists of maps span the same space, and each is independent.
fn assert_same_span(a: &[Matrix], b: &[Matrix], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}: the tiers disagree on the dimension");
    let rank = |maps: Vec<&Matrix>| match maps.first() {
        None => 0,
        Some(first) => {
            let (n, size) = (maps.len(), first.rows() * first.cols());
            span_rank(&Matrix::from_vec(n, size, maps.iter().flat_map(|m| m.as_slice().to_vec()).collect()))
        }
    };
    assert_eq!(rank(a.iter().collect()), a.len(), "{what}: dependent maps in the closed form");
    assert_eq!(rank(a.iter().chain(b).collect()), a.len(), "{what}: the tiers span different spaces");
}

#[test]
fn closed_forms_agree_with_the_null_space() {
    let (mut orbits, mut schur) = (0, 0);
    for group in swept() {
        // The null space of large regular representations is slow; they are
        // covered by characters below.
        let reps: Vec<Rep> = representations(&group).into_iter().filter(|r| r.dim() <= 12).collect();
        for a in &reps {
            for b in &reps {
                let what = format!("{a} -> {b}");
                let solved = by_null_space(a, b);
                assert!(solved.iter().all(|k| residual(k, a, b) < 1e-9), "{what}");
                if let Some(maps) = by_orbits(a, b) {
                    assert_same_span(&maps, &solved, &what);
                    orbits += 1;
                }
                if let Some(maps) = by_schur(a, b) {
                    assert_same_span(&maps, &solved, &what);
                    schur += 1;
                }
                assert_eq!(hom_dim(a, b), solved.len(), "{what}: hom_dim");
            }
        }
    }
    assert!(orbits > 100 && schur > 100, "the closed forms were tried {orbits} and {schur} times");
}

#[test]
fn bases_intertwine_elements_that_are_not_generators() {
    let mut rng = Rng::new(21);
    for group in swept() {
        let reps = representations(&group);
        for (a, b) in reps.iter().zip(reps.iter().rev()) {
            let g = group.sample(&mut rng);
            for k in equivariant_basis(a, b) {
                close(&b.rho(&g).mul(&k), &k.mul(&a.rho(&g)), &format!("{a} -> {b}"));
            }
        }
    }
}

/// The multiplicity of each irrep of a finite group, by characters.
fn multiplicities(group: &GroupRef, rep: &Rep) -> Vec<usize> {
    let order = group.finite().expect("finite").order();
    let chi = |r: &Rep| (0..order).map(|g| r.rho(&Element::Index(g)).trace()).collect::<Vec<_>>();
    let ours = chi(rep);
    group
        .irreps(0)
        .into_iter()
        .map(|ir| {
            let theirs = chi(&Rep::irrep(group, ir).expect("listed"));
            let inner = ours.iter().zip(&theirs).map(|(x, y)| x * y).sum::<f64>() / order as f64;
            (inner / group.endomorphism(ir).dim() as f64).round() as usize
        })
        .collect()
}

#[test]
fn dimensions_follow_from_multiplicities() {
    for group in swept().into_iter().filter(|g| g.finite().is_some()) {
        let irreps = group.irreps(0);
        for rep in representations(&group) {
            let m = multiplicities(&group, &rep);
            let dim: usize = m.iter().zip(&irreps).map(|(m, ir)| m * group.irrep_dim(*ir)).sum();
            assert_eq!(dim, rep.dim(), "{rep} is the sum of its irreps");
            let squares: usize = m.iter().zip(&irreps).map(|(m, ir)| m * m * group.endomorphism(*ir).dim()).sum();
            assert_eq!(equivariant_basis(&rep, &rep).len(), squares, "{rep}: sum of squares of multiplicities");
            assert_eq!(rep.invariants().rows(), m[0], "{rep}: invariants");
        }
    }
}

#[test]
fn orthogonal_representations_decompose() {
    let mut rng = Rng::new(77);
    for group in swept() {
        for rep in representations(&group).into_iter().filter(|r| !r.to_string().contains("dual")) {
            // Products of degree 3 reach degree 6; here vectors are squared at most.
            let Some(parts) = decompose(&rep, 3) else { panic!("{rep} does not decompose") };
            close(
                &parts.basis.mul(&parts.basis.transpose()),
                &Matrix::identity(rep.dim()),
                &format!("{rep}: orthogonal basis"),
            );
            let g = group.sample(&mut rng);
            close(
                &rep.rho(&g).mul(&parts.basis),
                &parts.basis.mul(&parts.irreps.rho(&g)),
                &format!("{rep}: rho Q = Q (+) psi"),
            );
            if group.finite().is_some() {
                let counted: Vec<usize> =
                    group.irreps(0).iter().map(|ir| parts.labels.iter().filter(|l| *l == ir).count()).collect();
                assert_eq!(counted, multiplicities(&group, &rep), "{rep}: multiplicities");
            }
        }
    }
    let sheared =
        gdlc::symmetry::FiniteGroup::generated("sheared C6", &[Matrix::from_rows(&[[0.0, -1.0], [1.0, 1.0]])], 2)
            .expect("a group")
            .shared();
    assert!(decompose(&Rep::vector(&sheared), 3).is_none(), "its vectors are not orthogonal");
}

#[test]
fn the_regular_representation_contains_every_irrep() {
    for name in ["D4", "D6", "C5"] {
        let group = named(name, 2);
        let m = multiplicities(&group, &Rep::regular(&group).expect("finite"));
        for (m, ir) in m.iter().zip(group.irreps(0)) {
            assert_eq!(m * group.endomorphism(ir).dim(), group.irrep_dim(ir), "{name} {ir}");
        }
    }
}

#[test]
fn solved_irreps_have_the_known_dimensions() {
    let dims = |name: &str| {
        let group = named(name, 3);
        group.irreps(0).into_iter().map(|ir| group.irrep_dim(ir)).collect::<Vec<_>>()
    };
    assert_eq!(dims("T"), [1, 2, 3]); // E is of complex type: dimension 2 over R
    assert_eq!(dims("O"), [1, 1, 2, 3, 3]);
    assert_eq!(dims("O_h"), [1, 1, 1, 1, 2, 2, 3, 3, 3, 3]);
    let t = named("T", 3);
    assert_eq!(t.endomorphism(t.irreps(0)[1]), Endomorphism::Complex);
    let s4 = named("S4", 4);
    assert_eq!(s4.irreps(0).into_iter().map(|ir| s4.irrep_dim(ir)).collect::<Vec<_>>(), [1, 1, 2, 3, 3]);
}

#[test]
fn induction_and_restriction_are_adjoint() {
    let group = named("D4", 2);
    let c4 = Inclusion::same_space(&named("C4", 2), &group).expect("a subgroup");
    for small in c4.sub.irreps(0) {
        let v = Rep::irrep(&c4.sub, small).expect("listed");
        for large in group.irreps(0) {
            let w = Rep::irrep(&group, large).expect("listed");
            let induced = v.induce(&c4).expect("finite");
            assert_eq!(hom_dim(&induced, &w), hom_dim(&v, &w.restrict(&c4)), "Frobenius for {v} and {w}");
        }
    }
    let from_trivial = Rep::scalar(&c4.sub).induce(&c4).expect("finite");
    let quotient = Rep::quotient(&c4).expect("finite");
    for g in 0..8 {
        let g = Element::Index(g);
        close(&from_trivial.rho(&g), &quotient.rho(&g), "Ind 1 = R[G/K]");
    }
}

#[test]
fn restricted_to_the_axis_the_counts_are_those_of_escn() {
    let (so3, o3) = (named("SO(3)", 3), named("O(3)", 3));
    let so2 = Inclusion::about_y(&named("SO(2)", 2), &so3);
    let o2 = Inclusion::about_y(&named("O(2)", 2), &o3);
    let natural = |group: &GroupRef, l: u32| Rep::irrep(group, Irrep::natural(l)).expect("listed");
    for a in 0..=4u32 {
        for b in 0..=4u32 {
            let min = a.min(b) as usize;
            let maps = equivariant_basis(&natural(&so3, a).restrict(&so2), &natural(&so3, b).restrict(&so2));
            assert_eq!(maps.len(), 2 * min + 1, "SO(2): {a} -> {b}");
            let filled: usize = maps[0]
                .as_slice()
                .iter()
                .enumerate()
                .filter(|(e, _)| maps.iter().any(|k| k.as_slice()[*e] != 0.0))
                .count();
            assert_eq!(filled, 4 * min + 1, "the block of {a} -> {b} is sparse");
            assert_eq!(
                hom_dim(&natural(&o3, a).restrict(&o2), &natural(&o3, b).restrict(&o2)),
                min + 1,
                "O(2): {a} -> {b}"
            );
            // Unnatural parities, where m = 0 is odd under the reflection.
            let odd = Rep::irrep(&o3, Irrep::new(a, Parity::natural(a + 1))).expect("listed").restrict(&o2);
            assert_eq!(hom_dim(&odd, &natural(&o3, b).restrict(&o2)), min, "O(2): {a} unnatural -> {b}");
            let other = natural(&o3, b).restrict(&o2);
            assert_same_span(
                &by_schur(&odd, &other).expect("closed"),
                &by_null_space(&odd, &other),
                "unnatural parity",
            );
        }
    }
    for (lmax, so, o) in [(1, 6, 5), (2, 19, 14), (3, 44, 30), (4, 85, 55), (6, 231, 140)] {
        let all = |group: &GroupRef, along| Rep::natural_irreps(group, 1, 0, lmax).expect("listed").restrict(along);
        assert_eq!(hom_dim(&all(&so3, &so2), &all(&so3, &so2)), so, "SO(3) up to {lmax}");
        assert_eq!(hom_dim(&all(&o3, &o2), &all(&o3, &o2)), o, "O(3) up to {lmax}");
    }
}

/// The values of polynomials at a point of the plane or of space.
fn evaluate(all: &[Polynomial], r: &[f64]) -> Vec<f64> {
    let monomial = |e: &[u8; 3]| r.iter().zip(e).map(|(x, n)| x.powi(i32::from(*n))).product::<f64>();
    all.iter().map(|p| p.iter().map(|(e, c)| c * monomial(e)).sum()).collect()
}

#[test]
fn angular_paths_are_equivariant_and_as_many_as_the_axis_says() {
    let mut rng = Rng::new(31);
    let mut counted = 0;
    for (name, d) in [("SO(2)", 2), ("O(2)", 2), ("SO(3)", 3), ("O(3)", 3)] {
        let group = named(name, d);
        let along = axis_stabiliser(&group).expect("transitive on directions");
        let harmonics = |f: u32| if d == 2 { planar_polynomials(f) } else { polynomials(f as usize) };
        let r: Vec<f64> = (0..d).map(|_| rng.normal()).collect();
        let g = group.sample(&mut rng);
        let moved = group.action(&g).apply(&r);
        for a in group.irreps(3) {
            for b in group.irreps(3) {
                let (va, vb) = (Rep::irrep(&group, a).expect("listed"), Rep::irrep(&group, b).expect("listed"));
                let paths = angular_paths(&va, &vb).expect("irreps");
                assert_eq!(paths.len(), hom_dim(&va.restrict(&along), &vb.restrict(&along)), "{va} -> {vb}");
                counted += paths.len();
                for path in &paths {
                    let kernel = |at: &[f64]| {
                        let y = evaluate(&harmonics(path.degree), at);
                        let mut k = Matrix::zeros(vb.dim(), va.dim());
                        path.coupling.entries.iter().for_each(|([i, f, o], c)| k[(*o, *i)] += c * y[*f]);
                        k
                    };
                    close(
                        &kernel(&moved).mul(&va.rho(&g)),
                        &vb.rho(&g).mul(&kernel(&r)),
                        &format!("{va} -> {vb} by degree {}", path.degree),
                    );
                }
            }
        }
    }
    // By hand: SO(2) 7^2; O(2) 4^2 + 4^2 of either sign; SO(3) the sum of 2 min + 1;
    // O(3) 4^2 + 4^2 at m = 0 and 6^2 + 4^2 + 2^2 above.
    assert_eq!(counted, 49 + 32 + 44 + 88);
    assert!(axis_stabiliser(&named("O_h", 3)).is_none());
}

#[test]
fn maps_from_products_of_irreps_are_clebsch_gordan() {
    for group in swept() {
        let irreps: Vec<Rep> = group.irreps(2).into_iter().map(|ir| Rep::irrep(&group, ir).expect("listed")).collect();
        for a in &irreps {
            for b in &irreps {
                let product = a.tensor(b);
                for c in &irreps {
                    let closed = by_coupling(&product, c).expect("irreps");
                    assert_same_span(&closed, &by_null_space(&product, c), &format!("{product} -> {c}"));
                }
            }
        }
    }
}

/// The multiplicity of an irrep of O(3) in Sym^3 of `0e + 1o + ... + L`, by
/// weights: triples of components with sum of orders m, less those with m + 1.
fn in_third_power(lmax: i64, l: i64, parity: Parity) -> usize {
    let components: Vec<(i64, i64)> = (0..=lmax).flat_map(|l| (-l..=l).map(move |m| (l, m))).collect();
    let weights = |m: i64| {
        let mut count = 0usize;
        for a in 0..components.len() {
            for b in a..components.len() {
                for c in b..components.len() {
                    let ls = components[a].0 + components[b].0 + components[c].0;
                    let ms = components[a].1 + components[b].1 + components[c].1;
                    count += usize::from(ms == m && Parity::natural(ls as u32) == parity);
                }
            }
        }
        count
    };
    weights(l) - weights(l + 1)
}

#[test]
fn symmetric_products_need_as_few_weights_as_the_characters_say() {
    let counts = [(1, 2, 2), (2, 5, 5), (3, 8, 12)];
    for (lmax, scalars, vectors) in counts {
        assert_eq!(in_third_power(lmax, 0, Parity::Even), scalars, "0e, L = {lmax}");
        assert_eq!(in_third_power(lmax, 1, Parity::Odd), vectors, "1o, L = {lmax}");
    }
    let group = named("O(3)", 3);
    for (lmax, scalars, vectors) in &counts[..2] {
        let power = Rep::natural_irreps(&group, 1, 0, *lmax as u32).expect("listed").symmetric_power(3).expect("small");
        assert_eq!(hom_dim(&Rep::scalar(&group), &power), *scalars, "invariants, L = {lmax}");
        assert_eq!(hom_dim(&power, &Rep::vector(&group)), *vectors, "vectors, L = {lmax}");
    }
    let all = Rep::natural_irreps(&group, 128, 0, 3).expect("listed");
    assert!(all.symmetric_power(3).is_err(), "bounded");
}

#[test]
fn equality_of_representations_sees_through_sums() {
    let (d4, o3) = (named("D4", 2), named("O(3)", 3));
    let s = Rep::scalar(&d4);
    assert_eq!(s.times(3), Rep::sum(&d4, vec![(1, s.clone()), (2, s.clone())]));
    assert_ne!(s.times(3), s.times(2));
    assert_eq!(Rep::vector(&o3), Rep::irrep(&o3, Irrep::parse("1o").expect("parses")).expect("listed"));
    assert_ne!(Rep::vector(&o3), Rep::irrep(&o3, Irrep::parse("1e").expect("parses")).expect("listed"));
    assert_ne!(Rep::scalar(&o3), s);
    let quotient = |name| Rep::quotient(&Inclusion::named(name, &d4).expect("a subgroup")).expect("finite");
    assert_eq!(quotient("C2"), quotient("C2"));
    assert_ne!(quotient("C2"), quotient("D1"));
    assert_eq!([quotient("C2").dim(), quotient("C4").dim(), quotient("D1").dim()], [4, 2, 4]);
    assert!(Inclusion::named("C3", &d4).is_err());
}

fn golden(name: &str) -> serde_json::Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/symmetry").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("valid JSON")
}

#[test]
fn invariants_of_tensor_powers_have_the_golden_dimensions() {
    let dims = golden("invariant_dims.json");
    let mut checked = 0;
    for (case, expected) in dims["dims"].as_object().expect("an object") {
        let (name, power) = case.split_once(" T(").expect("a case");
        let (p, q) = power.trim_end_matches(')').split_once(',').expect("two powers");
        let (p, q): (usize, usize) = (p.parse().expect("p"), q.parse().expect("q"));
        let group = match name {
            // C4 permutes four axes here: the cyclic group of a 4-cycle.
            "C4 (perm)" => gdlc::symmetry::FiniteGroup::generated(name, &[Matrix::permutation(&[1, 2, 3, 0])], 4)
                .expect("a group")
                .shared(),
            _ => groups::by_name(name, &[], None).expect("registered"),
        };
        let vector = Rep::vector(&group);
        // Bounded work: ranks up to 5 in three dimensions, characters otherwise.
        if group.finite().is_none() && group.space_dim().pow((p + q) as u32) > 250 {
            continue;
        }
        let mut power = Rep::scalar(&group);
        (0..p).for_each(|_| power = power.tensor(&vector));
        (0..q).for_each(|_| power = power.tensor(&vector.dual()));
        let found = hom_dim(&Rep::scalar(&group), &power);
        assert_eq!(found as u64, expected.as_u64().expect("a number"), "{case}");
        checked += 1;
    }
    assert!(checked > 100, "only {checked} cases were within bounds");
}

#[test]
fn set_partitions_are_the_orbits_of_tuples() {
    assert_eq!((0..=6).map(|k| partition::bell(k).expect("small")).collect::<Vec<_>>(), [1, 1, 2, 5, 15, 52, 203]);
    for k in 0..=6 {
        assert_eq!(partition::partitions(k).expect("small").len() as u128, partition::bell(k).expect("small"));
    }
    // 2 -> 2 on few points has fewer maps: 8 for two points, 14 for three.
    assert_eq!([2, 3, 4].map(|n| partition::orbits(4, n).expect("small").len()), [8, 14, 15]);
    // Against the group itself: S_3 on pairs, and its linear maps 1 -> 1 and 2 -> 1.
    let s3 = named("S3", 3);
    let v = Rep::vector(&s3);
    assert_eq!(hom_dim(&v, &v), 2);
    assert_eq!(hom_dim(&v.tensor(&v), &v), partition::orbits(3, 3).expect("small").len());
    assert_eq!(hom_dim(&v.tensor(&v), &v.tensor(&v)), partition::orbits(4, 3).expect("small").len());
    assert!(partition::partitions(12).is_none());
    assert_eq!(partition::Partition::of(&[7, 3, 7, 1]).block, [0, 1, 0, 2]);
}

#[test]
fn permutation_and_sign_permutation_are_told_apart() {
    let (d4, o3) = (named("D4", 2), named("O(3)", 3));
    let regular = Rep::regular(&d4).expect("finite");
    assert!(regular.times(8).is_permutation() && !regular.is_trivial());
    assert!(!Rep::vector(&d4).is_permutation() && Rep::vector(&d4).is_sign_permutation());
    assert!(!Rep::vector(&named("C3", 2)).is_sign_permutation());
    let scalars = Rep::irreps(&o3, &Irreps::parse("32x0e").expect("parses")).expect("listed");
    assert!(scalars.is_trivial() && scalars.is_permutation());
    let mixed = Rep::irreps(&o3, &Irreps::parse("2x0e+1x1o").expect("parses")).expect("listed");
    assert!(!mixed.is_permutation() && mixed.invariants().rows() == 2);
    let pseudo = Rep::irreps(&o3, &Irreps::parse("4x0o").expect("parses")).expect("listed");
    assert!(!pseudo.is_permutation() && pseudo.is_sign_permutation());
    assert_eq!(mixed.to_string(), "2 scalar + 1x1o of O(3)");
}

#[test]
fn names_of_symmetries_are_found_and_refused() {
    let p4m = Symmetry::parse("shift . D4", Some(2)).expect("known");
    assert_eq!(p4m.name(), "shift . D4");
    assert_eq!(Symmetry::named("p4m", &[], Some(2)).expect("known").name(), "shift . D4");
    assert_eq!(p4m.point.finite().expect("finite").order(), 8);
    let e3 = Symmetry::named("E", &[3], Some(3)).expect("known");
    assert!(e3.shift && e3.point.name() == "O(3)");
    assert_eq!(Symmetry::named("E(3)", &[], None).expect("known").name(), "shift . O(3)");
    assert_eq!(Symmetry::named("SE(2)", &[], Some(2)).expect("known").name(), "shift . SO(2)");
    assert!(Symmetry::named("perm", &[], None).expect("known").perm);
    for (name, axes) in [
        ("D4", 3),
        ("O_h", 2),
        ("E(3)", 2),
        ("Q8", 2),
        ("", 2),
        ("C0", 2),
        ("D99999", 2),
        ("C99999999999999999999", 2),
        ("SO(", 2),
    ] {
        assert!(Symmetry::named(name, &[], Some(axes)).is_err(), "{name} on {axes} axes");
    }
    let wrong = groups::by_name("D4", &[], Some(3)).expect_err("D4 is planar");
    assert_eq!(wrong.to_string(), "D4 acts on 2 axes, the domain has 3");
}

#[test]
fn generators_that_do_not_make_a_finite_group_are_refused() {
    let make = |m: Matrix| gdlc::symmetry::FiniteGroup::generated("G", &[m], 2);
    assert!(make(Matrix::rotation(1.0)).is_err(), "an irrational rotation");
    assert!(make(Matrix::from_rows(&[[1.0, 1.0], [0.0, 1.0]])).is_err(), "a shear");
    assert!(make(Matrix::zeros(2, 2)).is_err(), "a singular matrix");
    assert!(make(Matrix::diagonal(&[f64::NAN, 1.0])).is_err(), "not a number");
    assert_eq!(make(Matrix::from_rows(&[[0.0, -1.0], [1.0, 1.0]])).expect("C6 of the hexagonal lattice").order(), 6);
}

proptest::proptest! {
    /// Whatever is written where a group or irreps are expected, the answer is one or an error.
    #[test]
    fn no_text_is_too_strange(text in "\\PC{0,12}", near in "[0-9xeoyCDSOTE()h_.+ ]{0,10}", axes in 0usize..4) {
        for t in [text.as_str(), near.as_str()] {
            if let Ok(irreps) = Irreps::parse(t) {
                assert_eq!(Irreps::parse(&irreps.to_string()).expect("printed"), irreps);
            }
            if let Ok(symmetry) = Symmetry::parse(t, Some(axes)) {
                assert!(symmetry.point.space_dim() == axes || t.contains('.'), "{t} on {axes} axes");
            }
        }
    }
}
