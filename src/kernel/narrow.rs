//! The number types of tensor cores: the factors of a product are rounded to one of them, the sums of the products stay f32.
//! In: a number. Out: the nearest one of the type. Who multiplies is `gpu`'s matter.

use std::fmt;

/// A binary number type with fewer digits than f32, whose numbers are all in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Narrow {
    /// The exponents of f32.
    Tf32,
    /// The exponents of f32, fewer digits.
    Bf16,
    /// IEEE 754 binary16.
    F16,
}

impl Narrow {
    pub const ALL: [Narrow; 3] = [Narrow::Tf32, Narrow::Bf16, Narrow::F16];

    /// As users write it.
    pub fn name(self) -> &'static str {
        match self {
            Narrow::Tf32 => "tf32",
            Narrow::Bf16 => "bf16",
            Narrow::F16 => "f16",
        }
    }

    /// Digits after the leading one: a number is rounded by at most `2^-(digits + 1)` of itself.
    pub fn digits(self) -> i32 {
        match self {
            Narrow::Tf32 | Narrow::F16 => 10,
            Narrow::Bf16 => 7,
        }
    }

    /// The exponents of normal numbers.
    pub fn exponents(self) -> (i32, i32) {
        match self {
            Narrow::Tf32 | Narrow::Bf16 => (-126, 127),
            Narrow::F16 => (-14, 15),
        }
    }

    /// The greatest finite number.
    pub fn greatest(self) -> f64 {
        (2.0 - 2f64.powi(-self.digits())) * 2f64.powi(self.exponents().1)
    }

    /// The number of the type that is nearest to a number of f32, ties to even; infinite from half a unit above the greatest on.
    pub fn nearest(self, x: f64) -> f64 {
        if x == 0.0 || !x.is_finite() {
            return x;
        }
        let exponent = ((x.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(self.exponents().0);
        let unit = 2f64.powi(exponent - self.digits());
        let y = (x / unit).round_ties_even() * unit;
        if y.abs() > self.greatest() { f64::INFINITY.copysign(x) } else { y }
    }
}

impl fmt::Display for Narrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
