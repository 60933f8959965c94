//! Symmetry groups of domains: products of translations, permutations, time
//! warps and a point group, as in `p4m = shift . D4` and `E(3)`.
//!
//! In: names and factors. Out: the factors, told apart. The point group is a
//! [`super::Group`] with matrices; what the other factors do to points is the
//! domain's matter.

use super::group::{GroupRef, SymmetryError};
use super::groups;

/// A semidirect product. The point group fixes a point; the others move points.
#[derive(Clone, Debug)]
pub struct Symmetry {
    /// All translations of the domain.
    pub shift: bool,
    /// All permutations of the points.
    pub perm: bool,
    /// All monotone changes of time.
    pub warp: bool,
    /// The part that acts on the values; the trivial group if none is named.
    pub point: GroupRef,
}

impl Symmetry {
    /// A symmetry group by name, for a domain with so many axes (`None`: no
    /// axes are given, and the dimension follows from the name).
    ///
    /// Names: `shift`, `perm`, `warp`, `trivial`; `E(d)`, `SE(d)`; the planar
    /// `p1 p2 p4 p4m`; any point group of the registry.
    ///
    /// # Errors
    /// `UnknownGroup` or `WrongSpace`, with what exists.
    pub fn named(name: &str, args: &[usize], axes: Option<usize>) -> Result<Symmetry, SymmetryError> {
        let compact: String = name.chars().filter(|c| !c.is_whitespace()).collect();
        let moving = |shift, perm, warp| -> Result<Symmetry, SymmetryError> {
            Ok(Symmetry { shift, perm, warp, point: groups::trivial::group(axes.unwrap_or(0)).shared() })
        };
        let point = |shift, name: &str, args: &[usize]| -> Result<Symmetry, SymmetryError> {
            Ok(Symmetry { shift, perm: false, warp: false, point: groups::by_name(name, args, axes)? })
        };
        match compact.as_str() {
            "shift" | "p1" => moving(true, false, false),
            "perm" => moving(false, true, false),
            "warp" => moving(false, false, true),
            "p2" => point(true, "C2", &[]),
            "p4" => point(true, "C4", &[]),
            "p4m" => point(true, "D4", &[]),
            "E" => point(true, "O", args),
            "SE" => point(true, "SO", args),
            _ => match compact.split_once('(') {
                Some((head @ ("E" | "SE"), rest)) => {
                    let d = rest.trim_end_matches(')').parse().map_err(|_| groups::unknown(name))?;
                    Symmetry::named(head, &[d], axes)
                }
                _ => point(false, name, args),
            },
        }
    }

    /// The product `self . other`: the union of what moves points, and the
    /// point group of whichever has one (their direct product if both do).
    ///
    /// # Errors
    /// When both have continuous point groups.
    pub fn product(&self, other: &Symmetry) -> Result<Symmetry, SymmetryError> {
        let trivial = |g: &GroupRef| g.finite().is_some_and(|f| f.order() == 1);
        let point = if trivial(&self.point) {
            other.point.clone()
        } else if trivial(&other.point) {
            self.point.clone()
        } else {
            groups::product::group(&self.point, &other.point)?.shared()
        };
        Ok(Symmetry {
            shift: self.shift || other.shift,
            perm: self.perm || other.perm,
            warp: self.warp || other.warp,
            point,
        })
    }

    /// Parses a product of names: `shift . D4`.
    ///
    /// # Errors
    /// As [`Symmetry::named`].
    pub fn parse(text: &str, axes: Option<usize>) -> Result<Symmetry, SymmetryError> {
        let mut factors = text.split('.').map(|name| Symmetry::named(name.trim(), &[], axes));
        let first = factors.next().unwrap_or_else(|| Symmetry::named("trivial", &[], axes))?;
        factors.try_fold(first, |acc, f| acc.product(&f?))
    }

    /// The name as a product of the factors.
    pub fn name(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        for (present, name) in [(self.shift, "shift"), (self.perm, "perm"), (self.warp, "warp")] {
            if present {
                parts.push(name.to_string());
            }
        }
        if parts.is_empty() || self.point.finite().is_none_or(|f| f.order() > 1) {
            parts.push(self.point.name());
        }
        parts.join(" . ")
    }
}
