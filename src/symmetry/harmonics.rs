//! Real spherical harmonics as polynomials in x, y, z: e3nn's basis, m = -l..l,
//! polar axis y, component normalisation (`sum_m Y_m^2 = 2l+1` on the sphere).
//!
//! In: a degree, or a point. Out: values, gradients, polynomials, or the
//! recurrence from which straight-line code is emitted:
//! `Y^(l+1)_k = sum c Y^l_j x_a`, and `d/dx_a Y^(l+1)_k` has the same terms
//! times l+1, because a solid harmonic is homogeneous.

use std::collections::BTreeMap;

use super::clebsch_gordan::{Convention, wigner_3j};

/// The scale of the harmonics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Normalisation {
    /// The squares of one degree sum to 2l+1 on the sphere.
    #[default]
    Component,
    /// Orthonormal on the sphere: component / sqrt(4 pi).
    Integral,
    /// The squares of one degree sum to 1 on the sphere: component / sqrt(2l+1).
    Norm,
}

impl Normalisation {
    /// The factor from the component normalisation.
    pub fn factor(self, l: usize) -> f64 {
        match self {
            Normalisation::Component => 1.0,
            Normalisation::Integral => 1.0 / (4.0 * std::f64::consts::PI).sqrt(),
            Normalisation::Norm => 1.0 / ((2 * l + 1) as f64).sqrt(),
        }
    }
}

/// One term of the recurrence: `coefficient * Y^(l)_lower * x_axis`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// The component of the lower degree, 0..2l+1.
    pub lower: usize,
    /// 0, 1, 2 for x, y, z.
    pub axis: usize,
    /// The coefficient.
    pub coefficient: f64,
}

/// The terms of each component of degree `l + 1` from degree `l` (component
/// normalisation): `Y^(l+1)_k = sum of terms[k]`.
pub fn recurrence(l: usize) -> Vec<Vec<Term>> {
    let w =
        wigner_3j(l, 1, l + 1, Convention::E3nn05).unwrap_or_else(|| panic!("symmetry: degree {l} is above the limit"));
    // At the pole only m = 0 is not zero, sqrt(2l+1): this fixes the scale.
    let pole = w.get(l, 1, l + 1) * ((2 * l + 1) as f64).sqrt();
    let scale = ((2 * l + 3) as f64).sqrt() / pole;
    let mut terms = vec![Vec::new(); 2 * l + 3];
    for &([lower, axis, k], v) in &w.entries {
        terms[k].push(Term { lower, axis, coefficient: v * scale });
    }
    terms
}

/// The harmonics of degrees `0..=lmax` at a point, concatenated; the point is
/// used as it is, so degree l scales as |r|^l.
pub fn values(lmax: usize, r: [f64; 3], normalisation: Normalisation) -> Vec<f64> {
    let mut all: Vec<Vec<f64>> = vec![vec![1.0]];
    for l in 0..lmax {
        let next = recurrence(l)
            .iter()
            .map(|terms| terms.iter().map(|t| t.coefficient * all[l][t.lower] * r[t.axis]).sum())
            .collect();
        all.push(next);
    }
    all.iter().enumerate().flat_map(|(l, ys)| ys.iter().map(move |y| y * normalisation.factor(l))).collect()
}

/// The harmonics of the direction `r / |r|`; the zero vector gives zeros from
/// degree 1 on.
pub fn values_normalised(lmax: usize, r: [f64; 3], normalisation: Normalisation) -> Vec<f64> {
    let length = r.iter().fold(0.0f64, |m, x| m.hypot(*x));
    let unit = if length > 0.0 { r.map(|x| x / length) } else { [0.0; 3] };
    values(lmax, unit, normalisation)
}

/// The gradients of [`values`]: for each component the derivatives by x, y, z.
pub fn gradients(lmax: usize, r: [f64; 3], normalisation: Normalisation) -> Vec<[f64; 3]> {
    let mut lower = vec![1.0];
    let mut out = vec![[0.0; 3]];
    for l in 0..lmax {
        let rule = recurrence(l);
        for terms in &rule {
            let mut g = [0.0; 3];
            for t in terms {
                g[t.axis] += (l + 1) as f64 * t.coefficient * lower[t.lower] * normalisation.factor(l + 1);
            }
            out.push(g);
        }
        lower =
            rule.iter().map(|terms| terms.iter().map(|t| t.coefficient * lower[t.lower] * r[t.axis]).sum()).collect();
    }
    out
}

/// A polynomial in x, y, z: coefficients by exponents, zeros absent.
pub type Polynomial = BTreeMap<[u8; 3], f64>;

/// The polynomials of degree `l`, component normalisation, m = -l..l.
pub fn polynomials(l: usize) -> Vec<Polynomial> {
    assert!(l <= 60, "symmetry: polynomials of degree {l}");
    let mut current: Vec<Polynomial> = vec![Polynomial::from([([0, 0, 0], 1.0)])];
    for step in 0..l {
        current = recurrence(step).iter().map(|terms| combine(terms, &current)).collect();
    }
    current
}

fn combine(terms: &[Term], lower: &[Polynomial]) -> Polynomial {
    let mut sum = Polynomial::new();
    let mut largest = 0.0f64;
    for t in terms {
        for (exponents, c) in &lower[t.lower] {
            let mut e = *exponents;
            e[t.axis] += 1;
            largest = largest.max((c * t.coefficient).abs());
            *sum.entry(e).or_insert(0.0) += c * t.coefficient;
        }
    }
    sum.retain(|_, c| c.abs() > 1e-13 * largest);
    sum
}

/// The harmonics of the plane of a degree, component normalisation (squares
/// sum to the number of components on the circle): 1, or `sqrt(2) (Re, Im)` of
/// `(x + i y)^degree`. The third exponent is zero.
pub fn planar_polynomials(degree: u32) -> Vec<Polynomial> {
    assert!(degree <= 60, "symmetry: planar polynomials of degree {degree}");
    if degree == 0 {
        return vec![Polynomial::from([([0, 0, 0], 1.0)])];
    }
    let mut parts = vec![Polynomial::new(), Polynomial::new()];
    let mut binomial = std::f64::consts::SQRT_2;
    for k in 0..=degree {
        // i^k is 1, i, -1, -i in turn.
        let sign = if k % 4 < 2 { 1.0 } else { -1.0 };
        parts[(k % 2) as usize].insert([(degree - k) as u8, k as u8, 0], sign * binomial);
        binomial *= f64::from(degree - k) / f64::from(k + 1);
    }
    parts
}
