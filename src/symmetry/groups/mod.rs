//! The registry of groups: one a file, found by name.
//!
//! In: a name as the language writes it and the number of axes of the domain.
//! Out: a group. Adding a group is a file and an entry in [`REGISTRY`]; the
//! law tests sweep the examples listed there.

use super::group::{GroupRef, SymmetryError};

pub mod cyclic;
pub mod dihedral;
pub mod o2;
pub mod o3;
pub mod octahedral;
pub mod product;
pub mod reflection;
pub mod so2;
pub mod so3;
pub mod symmetric;
pub mod trivial;

/// An entry of the registry: how a family of groups is called and built.
pub struct Family {
    /// The names as they are documented: `C<n>`, `O(3)`.
    pub name: &'static str,
    /// One line for the user.
    pub about: &'static str,
    /// Builds the member, if the name is one of this family.
    pub build: fn(&Name) -> Option<Result<GroupRef, SymmetryError>>,
    /// Members on which the laws are tested.
    pub examples: &'static [(&'static str, Option<usize>)],
}

/// A name taken apart: letters, a number, and the axes of the domain.
#[derive(Clone, Debug)]
pub struct Name {
    /// `C` of `C4`, `SO` of `SO(3)`, `O_h`.
    pub head: String,
    /// `4` of `C4`, `3` of `SO(3)`.
    pub number: Option<usize>,
    /// Whether the number stood in brackets.
    pub bracketed: bool,
    /// The axes of the space on which the group must act, if that is known.
    pub axes: Option<usize>,
}

impl Name {
    /// Refuses a space of another dimension.
    pub fn needs_axes(&self, d: usize) -> Result<(), SymmetryError> {
        match self.axes {
            Some(axes) if axes != d => {
                Err(SymmetryError::WrongSpace(format!("{self} acts on {d} axes, the domain has {axes}")))
            }
            _ => Ok(()),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.number, self.bracketed) {
            (None, _) => f.write_str(&self.head),
            (Some(n), true) => write!(f, "{}({n})", self.head),
            (Some(n), false) => write!(f, "{}{n}", self.head),
        }
    }
}

/// All families, in the order in which they are documented.
pub const REGISTRY: &[Family] = &[
    trivial::FAMILY,
    reflection::FAMILY,
    cyclic::FAMILY,
    dihedral::FAMILY,
    octahedral::FAMILY,
    symmetric::FAMILY,
    so2::FAMILY,
    o2::FAMILY,
    so3::FAMILY,
    o3::FAMILY,
];

/// The point group of a name: `D4`, `O_h`, `SO(3)`; `("SO", [3])` is `SO(3)`.
///
/// # Errors
/// `UnknownGroup` with the names that exist; `WrongSpace` when it does not act
/// on so many axes; `TooLarge` above the bound on the order.
pub fn by_name(name: &str, args: &[usize], axes: Option<usize>) -> Result<GroupRef, SymmetryError> {
    let parsed = parse(name, args, axes).ok_or_else(|| unknown(name))?;
    REGISTRY.iter().find_map(|family| (family.build)(&parsed)).unwrap_or_else(|| Err(unknown(name)))
}

fn parse(name: &str, args: &[usize], axes: Option<usize>) -> Option<Name> {
    let name = name.trim();
    let (name, inner) = match name.split_once('(') {
        Some((head, rest)) => (head.trim(), Some(rest.strip_suffix(')')?.trim().parse().ok()?)),
        None => (name, None),
    };
    let number = match (inner, args) {
        (Some(n), []) => Some(n),
        (None, [n]) => Some(*n),
        (None, []) => None,
        (Some(_) | None, _) => return None,
    };
    if let Some(n) = number {
        return Some(Name { head: name.to_string(), number: Some(n), bracketed: true, axes });
    }
    let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (head, digits) = name.split_at(name.len() - digits);
    let number = if digits.is_empty() { None } else { Some(digits.parse().ok()?) };
    Some(Name { head: head.to_string(), number, bracketed: false, axes })
}

pub(super) fn unknown(name: &str) -> SymmetryError {
    let known: Vec<&str> = REGISTRY.iter().map(|f| f.name).collect();
    SymmetryError::UnknownGroup(format!("there is no group `{name}`; point groups are {}", known.join(", ")))
}
