//! The scalar operations of the interpreter: what each `Unary`, `Binary` and `Comparison` means on numbers.
//! The transcendental ones here are independent of `scalar_functions`, which they judge.

use crate::base::dtype::Dtype;
use crate::kernel::ir::{Binary, Comparison, Unary};

/// `f(x)` in f64; the bit operations follow the exponents of `dtype`.
pub(crate) fn float_unary(dtype: Dtype, f: Unary, x: f64) -> f64 {
    match f {
        Unary::Neg => -x,
        Unary::Abs => x.abs(),
        Unary::Sqrt => x.sqrt(),
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Tanh => x.tanh(),
        Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Unary::Erf => erf(x),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Round => x.round_ties_even(),
        Unary::Floor => x.floor(),
        Unary::Exp2Int => x.exp2(),
        Unary::Exponent => exponent(dtype, x),
        Unary::Mantissa => mantissa(dtype, x),
        Unary::Rounded(to) => to.nearest(x),
    }
}

fn exponent(dtype: Dtype, x: f64) -> f64 {
    match dtype {
        Dtype::F32 => f64::from(((x as f32).to_bits() >> 23) as i32 - 127),
        Dtype::F64 | Dtype::I32 | Dtype::I64 => (x.to_bits() >> 52) as f64 - 1023.0,
    }
}

fn mantissa(dtype: Dtype, x: f64) -> f64 {
    match dtype {
        Dtype::F32 => f64::from(f32::from_bits((x as f32).to_bits() & 0x007f_ffff | 0x3f80_0000)),
        Dtype::F64 | Dtype::I32 | Dtype::I64 => {
            f64::from_bits(x.to_bits() & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000)
        }
    }
}

/// `f(x, y)` in f64; NaN goes through `Max` and `Min`.
pub(crate) fn float_binary(f: Binary, x: f64, y: f64) -> f64 {
    match f {
        Binary::Add => x + y,
        Binary::Sub => x - y,
        Binary::Mul => x * y,
        Binary::Div => x / y,
        Binary::Mod => f64::NAN,
        Binary::Max if x.is_nan() || y.is_nan() => f64::NAN,
        Binary::Min if x.is_nan() || y.is_nan() => f64::NAN,
        Binary::Max => x.max(y),
        Binary::Min => x.min(y),
    }
}

/// The comparison of numbers or indices; false where one is NaN.
pub(crate) fn compare<T: PartialOrd>(f: Comparison, x: T, y: T) -> bool {
    match f {
        Comparison::Lt => x < y,
        Comparison::Le => x <= y,
        Comparison::Eq => x == y,
    }
}

/// The error function: the Maclaurin series of `erf` below 2.5, the continued fraction of `erfc` above
/// (Abramowitz and Stegun 7.1.6 and 7.1.14). Good to a few units of the last place.
pub(crate) fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let z = x.abs();
    if z > 6.0 {
        return x.signum();
    }
    let gauss = (-z * z).exp();
    if z < 2.5 {
        // erf z = 2/√π e^{-z²} Σ 2^n z^{2n+1} / (1·3···(2n+1)): all terms positive
        let (mut term, mut sum, mut n) = (z, z, 0.0);
        while term > sum * 1e-18 {
            n += 1.0;
            term *= 2.0 * z * z / (2.0 * n + 1.0);
            sum += term;
        }
        return x.signum() * std::f64::consts::FRAC_2_SQRT_PI * gauss * sum;
    }
    let mut fraction = 0.0;
    for k in (1..=80).rev() {
        fraction = f64::from(k) / 2.0 / (z + fraction);
    }
    x.signum() * (1.0 - gauss / (z + fraction) / std::f64::consts::PI.sqrt())
}
