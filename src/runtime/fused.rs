//! Fused multiply-add, `a·b + c` rounded once, for processors that do not have it: what generated code calls there in its place.

/// To `f32`: the product is exact in `f64`. The sum is rounded there to odd (an inexact one to the neighbour whose last bit is set), after
/// which rounding to 24 bits is as good as from the exact sum (Boldo and Melquiond 2008), since 53 ≥ 2·24 + 2.
pub(crate) fn single(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    let part = sum - product;
    let error = (product - (sum - part)) + (c - part);
    if !sum.is_finite() || error == 0.0 || sum.to_bits() & 1 == 1 {
        return sum as f32;
    }
    let away = (error > 0.0) == (sum > 0.0);
    f64::from_bits(if away { sum.to_bits() + 1 } else { sum.to_bits() - 1 }) as f32
}

/// `m · 2^exponent`, the highest bit of `m` at [`TOP`].
#[derive(Clone, Copy)]
struct Wide {
    m: u128,
    exponent: i32,
    negative: bool,
}

/// Leaves a bit for the carry and one for the sign; 20 bits below a product of 106 bits are zero.
const TOP: u32 = 125;
/// The exponent of the smallest number.
const LEAST: i32 = -1074;

/// To `f64`, in integers of 128 bits.
pub(crate) fn double(a: f64, b: f64, c: f64) -> f64 {
    if !(a.is_finite() && b.is_finite()) || a == 0.0 || b == 0.0 {
        return a * b + c;
    }
    if !c.is_finite() {
        return c;
    }
    if c == 0.0 {
        return a * b;
    }
    let ((ma, ea), (mb, eb), (mc, ec)) = (parts(a), parts(b), parts(c));
    let product = wide(u128::from(ma) * u128::from(mb), ea + eb, (a < 0.0) != (b < 0.0));
    let c = wide(u128::from(mc), ec, c < 0.0);
    let (large, small) = if product.exponent >= c.exponent { (product, c) } else { (c, product) };
    let aligned = shifted(small.m, (large.exponent - small.exponent) as u32);
    let signed = |m: u128, negative: bool| if negative { -(m as i128) } else { m as i128 };
    let sum = signed(large.m, large.negative) + signed(aligned, small.negative);
    rounded(sum, large.exponent)
}

/// `|x| = m · 2^exponent` of a finite number.
fn parts(x: f64) -> (u64, i32) {
    let (bits, exponent) = (x.to_bits() & ((1 << 52) - 1), (x.to_bits() >> 52 & 0x7ff) as i32);
    if exponent == 0 { (bits, LEAST) } else { (bits | 1 << 52, exponent - 1 + LEAST) }
}

fn wide(m: u128, exponent: i32, negative: bool) -> Wide {
    let up = m.leading_zeros() - (127 - TOP);
    Wide { m: m << up, exponent: exponent - up as i32, negative }
}

/// `m / 2^by`, whose last bit is set where bits are lost.
fn shifted(m: u128, by: u32) -> u128 {
    if by > TOP {
        return 1;
    }
    let lost = m & ((1 << by) - 1);
    m >> by | u128::from(lost != 0)
}

/// The number next to `sum · 2^exponent`, the even one of two.
fn rounded(sum: i128, exponent: i32) -> f64 {
    if sum == 0 {
        return 0.0;
    }
    let m = sum.unsigned_abs();
    let top = 127 - m.leading_zeros() as i32;
    let unit = (top + exponent - 52).max(LEAST);
    let down = unit - exponent;
    let whole = match down {
        ..=0 => m << -down,
        1..=127 => {
            let (whole, rest, half) = (m >> down, m & ((1 << down) - 1), 1u128 << (down - 1));
            whole + u128::from(rest > half || rest == half && whole & 1 == 1)
        }
        _ => 0,
    };
    let size = if unit > 971 { f64::INFINITY } else { whole as u64 as f64 * power_of_two(unit) };
    if sum < 0 { -size } else { size }
}

/// `2^exponent`, from the smallest number up to `2^971`.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(if exponent < -1022 { 1 << (exponent - LEAST) } else { ((exponent + 1023) as u64) << 52 })
}
