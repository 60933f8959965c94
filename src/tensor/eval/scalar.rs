//! The scalar functions in f64. NaN goes through all of them.

use crate::tensor::op::{Func, Real};

/// `f(xs)`, as [`Func`] states it.
pub(in crate::tensor) fn apply(f: Func, xs: &[f64]) -> f64 {
    let x = xs[0];
    match f {
        Func::Relu => maximum(x, 0.0),
        Func::LeakyRelu(Real(slope)) => {
            if x > 0.0 {
                x
            } else {
                slope * x
            }
        }
        Func::Silu => x * sigmoid(x),
        Func::Gelu => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Func::Tanh => x.tanh(),
        Func::Sigmoid => sigmoid(x),
        Func::Exp => x.exp(),
        Func::Log => x.ln(),
        Func::Sin => x.sin(),
        Func::Cos => x.cos(),
        Func::Sqrt => maximum(x, 0.0).sqrt(),
        Func::Recip => 1.0 / x,
        Func::SafeRecip => {
            if x == 0.0 {
                0.0
            } else {
                1.0 / x
            }
        }
        Func::Abs => x.abs(),
        Func::Powi(k) => x.powi(k),
        Func::Erf => erf(x),
        Func::Same | Func::Held => x,
        Func::Capped => minimum(x, 0.0),
        Func::Max => maximum(x, xs[1]),
        Func::Min => minimum(x, xs[1]),
        Func::Greater => {
            if x.is_nan() || xs[1].is_nan() {
                f64::NAN
            } else {
                f64::from(u8::from(x > xs[1]))
            }
        }
    }
}

/// `max(a, b)`, NaN if either is.
pub(super) fn maximum(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// `min(a, b)`, NaN if either is.
pub(super) fn minimum(a: f64, b: f64) -> f64 {
    if a.is_nan() || a < b { a } else { b }
}

fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// The error function `2/√π ∫_0^x exp(-t²) dt`, within 2e-15.
///
/// Below 3 the series `2/√π exp(-x²) Σ_k 2^k x^(2k+1) / (2k+1)!!`, whose terms are all positive;
/// above, one minus the continued fraction of erfc (Abramowitz and Stegun 7.1.6 and 7.1.14).
pub fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a.is_nan() || a > 6.0 {
        return if a.is_nan() { x } else { 1f64.copysign(x) };
    }
    let value = if a < 3.0 {
        let (mut term, mut sum, mut k) = (a, a, 0.0);
        while term > sum * 1e-17 {
            k += 1.0;
            term *= 2.0 * a * a / (2.0 * k + 1.0);
            sum += term;
        }
        std::f64::consts::FRAC_2_SQRT_PI * (-a * a).exp() * sum
    } else {
        let fraction = (1..=60).rev().fold(a, |tail, k| a + f64::from(k) / 2.0 / tail);
        1.0 - (-a * a).exp() / (fraction * std::f64::consts::PI.sqrt())
    };
    value.copysign(x)
}
