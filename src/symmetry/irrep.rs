//! Labels of irreducible representations and lists of them with
//! multiplicities, in e3nn's notation.
//!
//! In: text such as `32x0e + 16x1o`. Out: labels and their canonical order.
//! Does not know the matrices; a [`super::Group`] gives them.

use std::fmt;

use super::group::SymmetryError;

/// The second part of a label: the sign under the reflection of the group.
/// For O(3) that is the inversion; for O(2) and D_n the flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Parity {
    /// The reflection acts with sign +1 (`e`).
    Even,
    /// The reflection acts with sign -1 (`o`).
    Odd,
}

impl Parity {
    /// +1 or -1.
    pub fn sign(self) -> f64 {
        match self {
            Parity::Even => 1.0,
            Parity::Odd => -1.0,
        }
    }

    /// The parity of a product.
    pub fn times(self, other: Parity) -> Parity {
        if self == other { Parity::Even } else { Parity::Odd }
    }

    /// The parity `(-1)^degree` of the harmonics of a degree.
    pub fn natural(degree: u32) -> Parity {
        if degree.is_multiple_of(2) { Parity::Even } else { Parity::Odd }
    }
}

/// The label of an irreducible representation. `degree` is l for SO(3) and
/// O(3), the frequency for SO(2), O(2), C_n and D_n, and the position in the
/// list of irreps for other finite groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Irrep {
    /// l, frequency or index.
    pub degree: u32,
    /// Sign under the reflection; `Even` where the group has none.
    pub parity: Parity,
}

impl Irrep {
    /// The label of the trivial representation, in every group.
    pub const TRIVIAL: Irrep = Irrep { degree: 0, parity: Parity::Even };

    /// The label with this degree and parity.
    pub fn new(degree: u32, parity: Parity) -> Irrep {
        Irrep { degree, parity }
    }

    /// The irrep of the harmonic polynomials of this degree: parity `(-1)^degree`.
    pub fn natural(degree: u32) -> Irrep {
        Irrep { degree, parity: Parity::natural(degree) }
    }

    /// Parses `2e`, `1o` or `3y` (`y`: natural parity).
    pub fn parse(text: &str) -> Result<Irrep, SymmetryError> {
        let bad = || {
            SymmetryError::BadIrreps(format!(
                "`{text}` is not an irrep; write a degree and a parity, such as `0e` or `1o`"
            ))
        };
        let text = text.trim();
        let (digits, letter) =
            text.split_at(text.len().saturating_sub(text.chars().next_back().map_or(0, char::len_utf8)));
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let degree: u32 = digits.parse().map_err(|_| bad())?;
        if degree > MAX_DEGREE {
            return Err(SymmetryError::BadIrreps(format!("degree {degree} of `{text}` is above {MAX_DEGREE}")));
        }
        match letter {
            "e" => Ok(Irrep::new(degree, Parity::Even)),
            "o" => Ok(Irrep::new(degree, Parity::Odd)),
            "y" => Ok(Irrep::natural(degree)),
            _ => Err(bad()),
        }
    }
}

/// Degrees above this are refused: coefficients are exact up to here.
pub const MAX_DEGREE: u32 = 40;

/// Frequencies of planar rotations above this are refused.
pub const MAX_FREQUENCY: u32 = 1024;

/// Multiplicities above this are refused.
pub const MAX_MULTIPLICITY: usize = 1 << 20;

impl fmt::Display for Irrep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}",
            self.degree,
            match self.parity {
                Parity::Even => "e",
                Parity::Odd => "o",
            }
        )
    }
}

/// A direct sum of irreps with multiplicities, in the written order. In
/// memory: blocks in this order, each `[multiplicity, component]` row-major.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Irreps {
    /// `(multiplicity, irrep)` in order.
    pub blocks: Vec<(usize, Irrep)>,
}

impl Irreps {
    /// Parses e3nn's notation: `32x0e + 16x1o`; `1o` is `1x1o`; empty is empty.
    ///
    /// # Errors
    /// [`SymmetryError::BadIrreps`] naming the part that does not parse.
    pub fn parse(text: &str) -> Result<Irreps, SymmetryError> {
        if text.trim().is_empty() {
            return Ok(Irreps::default());
        }
        let mut blocks = Vec::new();
        for part in text.split('+') {
            let part = part.trim();
            let (count, label) = part.split_once('x').unwrap_or(("1", part));
            let multiplicity: usize = count.trim().parse().map_err(|_| {
                SymmetryError::BadIrreps(format!("`{}` in `{part}` is not a multiplicity", count.trim()))
            })?;
            if multiplicity > MAX_MULTIPLICITY {
                return Err(SymmetryError::BadIrreps(format!(
                    "multiplicity {multiplicity} in `{part}` is above {MAX_MULTIPLICITY}"
                )));
            }
            blocks.push((multiplicity, Irrep::parse(label)?));
        }
        Ok(Irreps { blocks })
    }

    /// `multiplicity` copies of the irreps of degrees `from..=to`, each with
    /// natural parity: the language's `irreps(from..to)`.
    pub fn natural(multiplicity: usize, from: u32, to: u32) -> Irreps {
        Irreps { blocks: (from..=to).map(|l| (multiplicity, Irrep::natural(l))).collect() }
    }

    /// The dimension as irreps of SO(3) or O(3): the sum of `multiplicity (2l+1)`.
    pub fn dim(&self) -> usize {
        self.blocks.iter().map(|(m, ir)| m * (2 * ir.degree as usize + 1)).sum()
    }

    /// Sorted by (degree, parity with odd first), equal labels merged, empty
    /// blocks dropped: the order in which e3nn sorts.
    pub fn simplified(&self) -> Irreps {
        let mut sorted: Vec<(usize, Irrep)> = self.blocks.iter().copied().filter(|(m, _)| *m > 0).collect();
        sorted.sort_by_key(|(_, ir)| (ir.degree, std::cmp::Reverse(ir.parity)));
        let mut blocks: Vec<(usize, Irrep)> = Vec::new();
        for (m, ir) in sorted {
            match blocks.last_mut() {
                Some((count, last)) if *last == ir => *count += m,
                _ => blocks.push((m, ir)),
            }
        }
        Irreps { blocks }
    }
}

impl fmt::Display for Irreps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (m, ir)) in self.blocks.iter().enumerate() {
            write!(f, "{}{m}x{ir}", if i == 0 { "" } else { "+" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e3nn_strings_parse_and_print() {
        let irreps = Irreps::parse(" 32x0e + 16x1o+ 2y ").expect("parses");
        assert_eq!(irreps.to_string(), "32x0e+16x1o+1x2e");
        assert_eq!(irreps.dim(), 32 + 48 + 5);
        assert_eq!(Irreps::parse("").expect("empty").blocks.len(), 0);
        assert_eq!(Irreps::parse("0x2e").expect("zero copies").dim(), 0);
        for bad in ["1", "x1o", "1o+", "3x", "2x1q", "-1x0e", "1xé", "99999999999999999999x0e", "1x99e", "o"] {
            assert!(Irreps::parse(bad).is_err(), "{bad} must not parse");
        }
    }

    #[test]
    fn simplified_sorts_as_e3nn_does() {
        let irreps = Irreps::parse("2x1o+3x0e+1x0o+1x1e+1x1o").expect("parses");
        assert_eq!(irreps.simplified().to_string(), "1x0o+3x0e+3x1o+1x1e");
    }
}
