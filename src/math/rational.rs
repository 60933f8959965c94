//! Recovering exact constants: `x = +-sqrt(p/q)` with small `p` and `q`, so a
//! derived constant prints as what it is.
//!
//! In: an `f64`. Out: a signed root of a rational, or nothing when no small
//! one is within rounding. For printing only; arithmetic stays in `f64`.

use std::fmt;

/// `sign * sqrt(numerator / denominator)`, in lowest terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootOfRational {
    /// -1, 0 or 1.
    pub sign: i8,
    /// The numerator under the root.
    pub numerator: u64,
    /// The denominator under the root, at least 1.
    pub denominator: u64,
}

/// The largest denominator that is tried.
const MAX_DENOMINATOR: u64 = 100_000;

/// Finds `x = sign * sqrt(p/q)` by the continued fraction of `x^2`, with `q`
/// at most 100 000 and a relative error at most 1e-12.
pub fn recover_root(x: f64) -> Option<RootOfRational> {
    if !x.is_finite() || x.abs() > 1e6 {
        return None;
    }
    if x.abs() < 1e-14 {
        return Some(RootOfRational { sign: 0, numerator: 0, denominator: 1 });
    }
    let square = x * x;
    let (mut h, mut k) = ((1u128, 0u128), (0u128, 1u128));
    let mut rest = square;
    for _ in 0..40 {
        let whole = rest.floor();
        let a = whole as u128;
        h = (a * h.0 + h.1, h.0);
        k = (a * k.0 + k.1, k.0);
        if k.0 > u128::from(MAX_DENOMINATOR) {
            return None;
        }
        if (h.0 as f64 / k.0 as f64 - square).abs() <= 1e-12 * square {
            return Some(RootOfRational {
                sign: if x < 0.0 { -1 } else { 1 },
                numerator: u64::try_from(h.0).ok()?,
                denominator: u64::try_from(k.0).ok()?,
            });
        }
        rest = 1.0 / (rest - whole);
        if !rest.is_finite() || rest > 1e15 {
            return None;
        }
    }
    None
}

fn exact_sqrt(n: u64) -> Option<u64> {
    let r = (n as f64).sqrt().round() as u64;
    (r.checked_mul(r) == Some(n)).then_some(r)
}

impl fmt::Display for RootOfRational {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sign < 0 {
            write!(f, "-")?;
        }
        let (p, q) = (self.numerator, self.denominator);
        match (exact_sqrt(p), exact_sqrt(q)) {
            (Some(a), Some(1)) => write!(f, "{a}"),
            (Some(a), Some(b)) => write!(f, "{a}/{b}"),
            (Some(a), None) => write!(f, "{a}/sqrt({q})"),
            (None, Some(1)) => write!(f, "sqrt({p})"),
            (None, Some(b)) => write!(f, "sqrt({p})/{b}"),
            (None, None) => write!(f, "sqrt({p}/{q})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_print_as_what_they_are() {
        let shown = |x: f64| recover_root(x).map(|r| r.to_string());
        assert_eq!(shown(1.0 / 6f64.sqrt()).as_deref(), Some("1/sqrt(6)"));
        assert_eq!(shown(-(2.0f64 / 7.0).sqrt()).as_deref(), Some("-sqrt(2/7)"));
        assert_eq!(shown(0.75).as_deref(), Some("3/4"));
        assert_eq!(shown(-2.0).as_deref(), Some("-2"));
        assert_eq!(shown(0.0).as_deref(), Some("0"));
        assert_eq!(shown(15f64.sqrt() / 2.0).as_deref(), Some("sqrt(15)/2"));
        assert_eq!(shown(std::f64::consts::E), None);
        assert_eq!(shown(f64::NAN), None);
    }
}
