//! Exact rational numbers of compile-time arithmetic. Overflow is an answer (`None`), never a wrong number.

use std::fmt;

/// `numerator / denominator` in lowest terms, the denominator positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rational {
    numerator: i128,
    denominator: i128,
}

impl Rational {
    /// The integer `n`.
    pub fn integer(n: i128) -> Self {
        Rational { numerator: n, denominator: 1 }
    }

    /// `n / d`; none when `d` is 0 or a number leaves the range.
    pub fn new(n: i128, d: i128) -> Option<Self> {
        if d == 0 || n == i128::MIN || d == i128::MIN {
            return None;
        }
        let g = gcd(n.unsigned_abs(), d.unsigned_abs()) as i128 * d.signum();
        Some(Rational { numerator: n / g, denominator: d / g })
    }

    /// Reads `12`, `0.5`, `1e-3`.
    pub fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((m, e)) => (m, e.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.strip_prefix('-').unwrap_or(&digits).bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        let power = 10i128.checked_pow(exponent.unsigned_abs())?;
        let n: i128 = digits.parse().ok()?;
        if exponent >= 0 { Rational::new(n.checked_mul(power)?, 1) } else { Rational::new(n, power) }
    }

    /// The sum.
    pub fn plus(self, other: Self) -> Option<Self> {
        let n = self
            .numerator
            .checked_mul(other.denominator)?
            .checked_add(other.numerator.checked_mul(self.denominator)?)?;
        Rational::new(n, self.denominator.checked_mul(other.denominator)?)
    }

    /// The difference.
    pub fn minus(self, other: Self) -> Option<Self> {
        self.plus(other.negated())
    }

    /// The product.
    pub fn times(self, other: Self) -> Option<Self> {
        Rational::new(self.numerator.checked_mul(other.numerator)?, self.denominator.checked_mul(other.denominator)?)
    }

    /// The quotient; none when `other` is 0.
    pub fn over(self, other: Self) -> Option<Self> {
        Rational::new(self.numerator.checked_mul(other.denominator)?, self.denominator.checked_mul(other.numerator)?)
    }

    /// The power with an integer exponent.
    pub fn pow(self, exponent: Self) -> Option<Self> {
        let k = i32::try_from(exponent.as_integer()?).ok()?;
        let n = self.numerator.checked_pow(k.unsigned_abs())?;
        let d = self.denominator.checked_pow(k.unsigned_abs())?;
        if k >= 0 { Rational::new(n, d) } else { Rational::new(d, n) }
    }

    /// The square root, where it is rational.
    pub fn sqrt(self) -> Option<Self> {
        Rational::new(exact_sqrt(self.numerator)?, exact_sqrt(self.denominator)?)
    }

    /// The negative.
    pub fn negated(self) -> Self {
        Rational { numerator: -self.numerator, denominator: self.denominator }
    }

    /// The number as an integer, where it is one.
    pub fn as_integer(self) -> Option<i128> {
        (self.denominator == 1).then_some(self.numerator)
    }

    /// The nearest `f64`.
    pub fn to_f64(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }

    /// The order of two numbers; none when a product leaves the range.
    pub fn compare(self, other: Self) -> Option<std::cmp::Ordering> {
        Some(self.minus(other)?.numerator.cmp(&0))
    }
}

fn exact_sqrt(n: i128) -> Option<i128> {
    let r = (n as f64).sqrt().round() as i128;
    (n >= 0 && r.checked_mul(r)? == n).then_some(r)
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl fmt::Display for Rational {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.denominator {
            1 => write!(f, "{}", self.numerator),
            d => write!(f, "{}/{d}", self.numerator),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_exact_and_bounded() {
        let r = |s: &str| Rational::parse(s).unwrap();
        assert_eq!(r("0.1").plus(r("0.2")), Some(r("0.3")));
        assert_eq!(r("1e-3").to_string(), "1/1000");
        assert_eq!(r("9").over(r("0")), None);
        assert_eq!(r("2").pow(r("10")), Some(r("1024")));
        assert_eq!(r("2").pow(r("1000")), None);
        assert_eq!(r("2.25").sqrt(), Some(r("1.5")));
        assert_eq!(r("2").sqrt(), None);
        assert_eq!(Rational::parse("1e999999999"), None);
        assert_eq!(Rational::parse("1x"), None);
        assert_eq!(r("1").over(r("3")).unwrap().compare(r("0.333")), Some(std::cmp::Ordering::Greater));
    }
}
