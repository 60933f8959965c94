//! The transcendental functions as kernel IR: range reduction, a series, exact scaling. The same formulas on every backend.
//!
//! Coefficients are computed here, from series, not pasted. Errors are stated in units in the last place of the exact result
//! ([`ulp_bound`]); `tests/it/kernel/scalar.rs` measures them. NaN goes through; infinities and zeros give limits.
//! Results below the least normal number may be off by that number.

use std::sync::OnceLock;

use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::kernel::build::Builder;
use crate::kernel::ir::{Binary, Comparison, Expr, Unary};
use crate::kernel::narrow::Narrow;

type Ex = Id<Expr>;

/// Whether a function is made of others here.
pub fn is_written_out(f: Unary) -> bool {
    match f {
        Unary::Exp | Unary::Log | Unary::Tanh | Unary::Sigmoid | Unary::Erf | Unary::Sin | Unary::Cos => true,
        Unary::Rounded(_) => true,
        Unary::Neg
        | Unary::Abs
        | Unary::Sqrt
        | Unary::Round
        | Unary::Floor
        | Unary::Exp2Int
        | Unary::Exponent
        | Unary::Mantissa => false,
    }
}

/// The largest error of a function, in units in the last place. `Sin` and `Cos` for arguments up to 10^4.
pub fn ulp_bound(f: Unary) -> f64 {
    match f {
        Unary::Exp => 1.0,
        Unary::Log => 1.0,
        Unary::Tanh => 2.5,
        Unary::Sigmoid => 2.5,
        Unary::Erf => 2.0,
        Unary::Sin | Unary::Cos => 2.0,
        Unary::Neg
        | Unary::Abs
        | Unary::Sqrt
        | Unary::Round
        | Unary::Floor
        | Unary::Exp2Int
        | Unary::Exponent
        | Unary::Mantissa
        | Unary::Rounded(_) => 0.5,
    }
}

/// `f(x)` by operations that every backend has; other functions as they are.
pub fn expand(b: &mut Builder, dtype: Dtype, f: Unary, x: Ex) -> Ex {
    let mut cx = Scalar { b, single: dtype == Dtype::F32 };
    match f {
        Unary::Exp => cx.exp(x),
        Unary::Log => cx.log(x),
        Unary::Tanh => cx.tanh(x),
        Unary::Sigmoid => cx.sigmoid(x),
        Unary::Erf => cx.erf(x),
        Unary::Sin => cx.sin_of_quarter(x, 0.0),
        Unary::Cos => cx.sin_of_quarter(x, 1.0),
        Unary::Rounded(to) => cx.rounded(x, to),
        Unary::Neg
        | Unary::Abs
        | Unary::Sqrt
        | Unary::Round
        | Unary::Floor
        | Unary::Exp2Int
        | Unary::Exponent
        | Unary::Mantissa => cx.b.unary(f, x),
    }
}

/// A number as the sum of floats of falling size, each the nearest to what the ones before leave: `high + low` is the number in f64 twice over.
fn split(high: f64, low: f64, single: bool) -> Vec<f64> {
    if !single {
        return vec![high, low];
    }
    let mut parts = Vec::new();
    let mut rest = high;
    for _ in 0..2 {
        let part = f64::from(rest as f32);
        parts.push(part);
        rest -= part;
    }
    parts.push(rest + low);
    parts
}

/// What `std::f64::consts` leaves of ln 2 and of π/2.
const LN_2_REST: f64 = 2.319_046_813_846_299_6e-17;
const FRAC_PI_2_REST: f64 = 6.123_233_995_736_766e-17;
/// And what that leaves of π/2.
const FRAC_PI_2_LAST: f64 = -1.497_384_904_859_183_3e-33;

struct Scalar<'b> {
    b: &'b mut Builder,
    single: bool,
}

impl Scalar<'_> {
    fn number(&mut self, x: f64) -> Ex {
        self.b.float(x)
    }

    /// `c_0 + c_1 x + c_2 x² + ...` by Horner's rule.
    fn polynomial(&mut self, x: Ex, coefficients: &[f64]) -> Ex {
        let (last, rest) = coefficients.split_last().expect("a polynomial has a coefficient");
        let mut res = self.number(*last);
        for c in rest.iter().rev() {
            let c = self.number(*c);
            res = self.b.fma(res, x, c);
        }
        res
    }

    /// `x - n · value`, with `value` in parts.
    fn less_multiple(&mut self, x: Ex, n: Ex, parts: &[f64]) -> Ex {
        parts.iter().fold(x, |rest, part| {
            let part = self.number(-part);
            self.b.fma(n, part, rest)
        })
    }

    fn terms(&self, single: usize, double: usize) -> usize {
        if self.single { single } else { double }
    }

    /// `x` scaled so that a unit of the type is 1, rounded, and scaled back; by two factors each way, as one may be out of range. All of
    /// it is exact but for the rounding that is meant.
    fn rounded(&mut self, x: Ex, to: Narrow) -> Ex {
        let (least, greatest) = to.exponents();
        let size = self.b.unary(Unary::Abs, x);
        let least = self.number(2f64.powi(least));
        let normal = self.b.binary(Binary::Max, size, least);
        let exponent = self.b.unary(Unary::Exponent, normal);
        let (digits, half) = (self.number(f64::from(to.digits())), self.number(0.5));
        let shift = self.b.sub(digits, exponent);
        let half = self.b.mul(shift, half);
        let near = self.b.unary(Unary::Floor, half);
        let parts = [near, self.b.sub(shift, near)];
        let scaled = parts.into_iter().fold(x, |x, part| {
            let factor = self.b.unary(Unary::Exp2Int, part);
            self.b.mul(x, factor)
        });
        let whole = self.b.unary(Unary::Round, scaled);
        let y = parts.into_iter().fold(whole, |x, part| {
            let back = self.b.unary(Unary::Neg, part);
            let factor = self.b.unary(Unary::Exp2Int, back);
            self.b.mul(x, factor)
        });
        if greatest == 127 {
            // what is beyond is beyond f32 too
            return y;
        }
        let (most, size, infinite) =
            (self.number(to.greatest()), self.b.unary(Unary::Abs, y), self.number(f64::INFINITY));
        let beyond = self.b.compare(Comparison::Lt, most, size);
        let infinite = self.b.mul(y, infinite);
        self.b.select(Some(beyond), infinite, y)
    }

    /// `(n, q)` with `e^x = 2^n (1 + q)`, `|q| < 0.42`.
    fn exp_parts(&mut self, x: Ex) -> (Ex, Ex) {
        let log2e = self.number(std::f64::consts::LOG2_E);
        let scaled = self.b.mul(x, log2e);
        let n = self.b.unary(Unary::Round, scaled);
        let r = self.less_multiple(x, n, &split(std::f64::consts::LN_2, LN_2_REST, self.single));
        // e^r - 1 = r + r² Σ r^k / (k + 2)!, |r| <= ln 2 / 2: the first term left out is below a tenth of a unit
        let mut factorial = 1.0;
        let coefficients: Vec<f64> = (0..self.terms(6, 12))
            .map(|k| {
                factorial *= (k + 2) as f64;
                1.0 / factorial
            })
            .collect();
        let series = self.polynomial(r, &coefficients);
        let square = self.b.mul(r, r);
        (n, self.b.fma(square, series, r))
    }

    fn exp(&mut self, x: Ex) -> Ex {
        // beyond these e^x rounds to 0 and overflows; between, 2^n is a product of two normal numbers
        let (low, high) = if self.single { (-104.0, 89.0) } else { (-746.0, 710.0) };
        let (low, high) = (self.number(low), self.number(high));
        let x = self.b.binary(Binary::Max, x, low);
        let x = self.b.binary(Binary::Min, x, high);
        let (n, q) = self.exp_parts(x);
        let (one, half) = (self.number(1.0), self.number(0.5));
        let mantissa = self.b.add(one, q);
        let half_n = self.b.mul(n, half);
        let first = self.b.unary(Unary::Floor, half_n);
        let second = self.b.sub(n, first);
        let first = self.b.unary(Unary::Exp2Int, first);
        let second = self.b.unary(Unary::Exp2Int, second);
        let scaled = self.b.mul(mantissa, first);
        self.b.mul(scaled, second)
    }

    /// `log x = e ln 2 + log(1 + t)` with `1/√2 <= 1 + t < √2`, and with `s = t/(2 + t)`:
    /// `log(1 + t) = t - t²/2 + s (t²/2 + R)`, `R = 2 s² (1/3 + s²/5 + ...)`.
    fn log(&mut self, x: Ex) -> Ex {
        let (tiny, lift) = if self.single { (f64::from(f32::MIN_POSITIVE), 32.0) } else { (f64::MIN_POSITIVE, 64.0) };
        let (zero, one, two, half) = (self.number(0.0), self.number(1.0), self.number(2.0), self.number(0.5));
        let (tiny, scale, lift) = (self.number(tiny), self.number(f64::exp2(lift)), self.number(lift));
        let subnormal = self.b.compare(Comparison::Lt, x, tiny);
        let lifted = self.b.mul(x, scale);
        let normal = self.b.select(Some(subnormal), lifted, x);
        let e = self.b.unary(Unary::Exponent, normal);
        let m = self.b.unary(Unary::Mantissa, normal);
        let sqrt2 = self.number(std::f64::consts::SQRT_2);
        let large = self.b.compare(Comparison::Lt, sqrt2, m);
        let halved = self.b.mul(m, half);
        let m = self.b.select(Some(large), halved, m);
        let next = self.b.add(e, one);
        let e = self.b.select(Some(large), next, e);
        let lowered = self.b.sub(e, lift);
        let e = self.b.select(Some(subnormal), lowered, e);
        let t = self.b.sub(m, one);
        let sum = self.b.add(two, t);
        let s = self.b.binary(Binary::Div, t, sum);
        let square = self.b.mul(s, s);
        let coefficients: Vec<f64> = (0..self.terms(5, 11)).map(|k| 2.0 / (2 * k + 3) as f64).collect();
        let series = self.polynomial(square, &coefficients);
        let r = self.b.mul(square, series);
        let half_t = self.b.mul(half, t);
        let half_square = self.b.mul(half_t, t);
        let parts = split(std::f64::consts::LN_2, LN_2_REST, self.single);
        let (high, low) = (self.number(parts[0]), self.number(parts[1..].iter().sum()));
        let low = self.b.mul(e, low);
        let inner = self.b.add(half_square, r);
        let inner = self.b.fma(s, inner, low);
        let inner = self.b.sub(half_square, inner);
        let inner = self.b.sub(t, inner);
        let value = self.b.fma(e, high, inner);
        self.log_limits(x, value, zero)
    }

    /// `-∞` at 0, NaN below, `∞` at `∞`, NaN at NaN.
    fn log_limits(&mut self, x: Ex, value: Ex, zero: Ex) -> Ex {
        let infinity = self.number(f64::INFINITY);
        let minus = self.number(f64::NEG_INFINITY);
        let nan = self.number(f64::NAN);
        let finite = self.b.compare(Comparison::Lt, x, infinity);
        let value = self.b.select(Some(finite), value, x);
        let is_zero = self.b.compare(Comparison::Eq, x, zero);
        let value = self.b.select(Some(is_zero), minus, value);
        let negative = self.b.compare(Comparison::Lt, x, zero);
        self.b.select(Some(negative), nan, value)
    }

    /// `tanh |x| = E / (E + 2)`, `E = e^{2|x|} - 1 = 2^n q + (2^n - 1)`: nothing cancels.
    fn tanh(&mut self, x: Ex) -> Ex {
        let (zero, one, two) = (self.number(0.0), self.number(1.0), self.number(2.0));
        let size = self.b.unary(Unary::Abs, x);
        let double = self.b.mul(two, size);
        let end = self.number(if self.single { 20.0 } else { 42.0 });
        let double = self.b.binary(Binary::Min, double, end);
        let (n, q) = self.exp_parts(double);
        let power = self.b.unary(Unary::Exp2Int, n);
        let rest = self.b.sub(power, one);
        let e = self.b.fma(power, q, rest);
        let sum = self.b.add(e, two);
        let value = self.b.binary(Binary::Div, e, sum);
        let negated = self.b.unary(Unary::Neg, value);
        let negative = self.b.compare(Comparison::Lt, x, zero);
        self.b.select(Some(negative), negated, value)
    }

    fn sigmoid(&mut self, x: Ex) -> Ex {
        let one = self.number(1.0);
        let negated = self.b.unary(Unary::Neg, x);
        let e = self.exp(negated);
        let sum = self.b.add(one, e);
        self.b.binary(Binary::Div, one, sum)
    }

    /// Below 1 the Maclaurin series `2/√π Σ (-1)^k x^{2k+1} / (k! (2k+1))`; above `1 - e^{-x²} g(x)`, with `g = e^{x²} erfc`
    /// by Chebyshev polynomials in `1/(x + 2)`.
    fn erf(&mut self, x: Ex) -> Ex {
        let (zero, one) = (self.number(0.0), self.number(1.0));
        let size = self.b.unary(Unary::Abs, x);
        let square = self.b.mul(x, x);
        let mut term = std::f64::consts::FRAC_2_SQRT_PI;
        let coefficients: Vec<f64> = (0..self.terms(11, 19))
            .map(|k| {
                term /= if k == 0 { 1.0 } else { -(k as f64) };
                term / (2 * k + 1) as f64
            })
            .collect();
        // the first coefficient is 1 + 0.128...: the part near 1 is added last, so that it is not rounded twice
        let tail = self.polynomial(square, &coefficients[1..]);
        let first = self.number(coefficients[0] - 1.0);
        let tail = self.b.fma(square, tail, first);
        let small = self.b.fma(x, tail, x);
        let end = self.number(6.5);
        let bounded = self.b.binary(Binary::Min, size, end);
        let g = self.erfcx(bounded);
        let bounded_square = self.b.mul(bounded, bounded);
        let negated = self.b.unary(Unary::Neg, bounded_square);
        let gauss = self.exp(negated);
        let erfc = self.b.mul(gauss, g);
        let large = self.b.sub(one, erfc);
        let negated = self.b.unary(Unary::Neg, large);
        let negative = self.b.compare(Comparison::Lt, x, zero);
        let large = self.b.select(Some(negative), negated, large);
        let is_small = self.b.compare(Comparison::Lt, size, one);
        self.b.select(Some(is_small), small, large)
    }

    /// `e^{x²} erfc(x)` for `1 <= x <= 6.5`, by Clenshaw's rule.
    fn erfcx(&mut self, x: Ex) -> Ex {
        let (one, two, minus_one) = (self.number(1.0), self.number(2.0), self.number(-1.0));
        let below = self.b.add(x, two);
        let s = self.b.binary(Binary::Div, one, below);
        let (first, scale) = (self.number(ERFCX_FIRST), self.number(2.0 / (ERFCX_LAST - ERFCX_FIRST)));
        let s = self.b.sub(s, first);
        let t = self.b.fma(s, scale, minus_one);
        let double = self.b.mul(two, t);
        let coefficients = erfcx_coefficients();
        let n = self.terms(11, 19);
        let (mut next, mut after) = (self.number(coefficients[n - 1]), self.number(0.0));
        for c in coefficients[1..n - 1].iter().rev() {
            let c = self.number(*c);
            let rest = self.b.sub(c, after);
            (next, after) = (self.b.fma(double, next, rest), next);
        }
        let first = self.number(coefficients[0]);
        let rest = self.b.sub(first, after);
        self.b.fma(t, next, rest)
    }

    /// `sin(x + quarters π/2)`: `x = n π/2 + r`, and the series of sine or cosine of `r` by the quadrant.
    fn sin_of_quarter(&mut self, x: Ex, quarters: f64) -> Ex {
        let per_quarter = self.number(std::f64::consts::FRAC_2_PI);
        let scaled = self.b.mul(x, per_quarter);
        let n = self.b.unary(Unary::Round, scaled);
        let mut parts = split(std::f64::consts::FRAC_PI_2, FRAC_PI_2_REST, self.single);
        if !self.single {
            parts.push(FRAC_PI_2_LAST);
        }
        let r = self.less_multiple(x, n, &parts);
        let square = self.b.mul(r, r);
        // sin r = r + r³ Σ (-1)^{k+1} r^{2k} / (2k+3)!, cos r = 1 - r²/2 + r⁴ Σ (-1)^k r^{2k} / (2k+4)!
        let sine = self.polynomial(square, &alternating(3, self.terms(4, 8), -1.0));
        let cube = self.b.mul(square, r);
        let sine = self.b.fma(cube, sine, r);
        let cosine = self.polynomial(square, &alternating(4, self.terms(4, 7), 1.0));
        let fourth = self.b.mul(square, square);
        let (half, one) = (self.number(-0.5), self.number(1.0));
        let cosine = self.b.mul(fourth, cosine);
        let cosine = self.b.fma(square, half, cosine);
        let cosine = self.b.add(one, cosine);
        self.by_quadrant(n, quarters, sine, cosine)
    }

    /// Sine, cosine, -sine, -cosine in the four quadrants.
    fn by_quadrant(&mut self, n: Ex, quarters: f64, sine: Ex, cosine: Ex) -> Ex {
        let quarters = self.number(quarters);
        let n = self.b.add(n, quarters);
        let (quarter, minus_four) = (self.number(0.25), self.number(-4.0));
        let turns = self.b.mul(n, quarter);
        let turns = self.b.unary(Unary::Floor, turns);
        let quadrant = self.b.fma(turns, minus_four, n);
        let (two, half) = (self.number(2.0), self.number(0.5));
        let halves = self.b.mul(quadrant, half);
        let whole = self.b.unary(Unary::Floor, halves);
        let even = self.b.compare(Comparison::Eq, whole, halves);
        let value = self.b.select(Some(even), sine, cosine);
        let negated = self.b.unary(Unary::Neg, value);
        let upper = self.b.compare(Comparison::Le, two, quadrant);
        self.b.select(Some(upper), negated, value)
    }
}

/// `sign (-1)^k / (first + 2k)!`
fn alternating(first: usize, n: usize, sign: f64) -> Vec<f64> {
    let factorial = |m: usize| (1..=m).map(|i| i as f64).product::<f64>();
    (0..n).map(|k| if k % 2 == 0 { sign } else { -sign } / factorial(first + 2 * k)).collect()
}

/// `1/(x + 2)` at both ends of `1 <= x <= 6.5`.
const ERFCX_FIRST: f64 = 1.0 / 3.0;
const ERFCX_LAST: f64 = 1.0 / 8.5;

/// The Chebyshev coefficients of `e^{x²} erfc(x)` on `1 <= x <= 6.5`, where `1/(x + 2)` runs evenly as `t` does from -1 to 1:
/// interpolation at the 32 roots, which are made of square roots alone so that the numbers are the same on every machine.
fn erfcx_coefficients() -> &'static [f64] {
    static TABLE: OnceLock<Vec<f64>> = OnceLock::new();
    TABLE.get_or_init(|| {
        const N: usize = 32;
        let nodes: Vec<f64> = (0..N).map(|j| cosine(2 * j + 1)).collect();
        let values: Vec<f64> = nodes
            .iter()
            .map(|t| erfcx_fraction(1.0 / (ERFCX_FIRST + (t + 1.0) / 2.0 * (ERFCX_LAST - ERFCX_FIRST)) - 2.0))
            .collect();
        let coefficient = |k: usize| {
            let sum: f64 = values.iter().enumerate().map(|(j, v)| cosine(k * (2 * j + 1)) * v).sum();
            sum * if k == 0 { 1.0 } else { 2.0 } / N as f64
        };
        (0..N).map(coefficient).collect()
    })
}

/// `cos(m π / 64)`: turns by the powers of two in `m`, each found by halving an angle.
fn cosine(m: usize) -> f64 {
    // cos and sin of π, π/2, π/4, ..., π/64
    let mut halves = vec![(-1.0f64, 0.0f64), (0.0, 1.0)];
    while halves.len() < 7 {
        let (c, s) = halves[halves.len() - 1];
        let half = ((1.0 + c) / 2.0).sqrt();
        halves.push((half, s / (2.0 * half)));
    }
    let turn = |(c, s): (f64, f64), (a, b): &(f64, f64)| (c * a - s * b, s * a + c * b);
    let bits = (0..7).filter(|bit| m >> bit & 1 == 1);
    bits.fold((1.0, 0.0), |angle, bit| turn(angle, &halves[6 - bit])).0
}

/// `e^{x²} erfc(x) = 1/√π · 1/(x + (1/2)/(x + (2/2)/(x + (3/2)/(x + ...))))` for `x >= 1` (Abramowitz and Stegun 7.1.14).
fn erfcx_fraction(x: f64) -> f64 {
    let tail = (1..=500).rev().fold(0.0, |tail, k| f64::from(k) / 2.0 / (x + tail));
    std::f64::consts::FRAC_2_SQRT_PI / 2.0 / (x + tail)
}
