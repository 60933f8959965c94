//! The checker's findings, in the words of the mathematics: what, where, why, and what to write instead.

use crate::base::diagnostic::Diagnostic;
use crate::base::span::Span;
use crate::domain::DomainError;

use super::nearest::nearest;

/// A name that nothing in sight has.
pub(super) fn unknown<'n>(
    what: &str,
    name: &str,
    span: Span,
    candidates: impl IntoIterator<Item = &'n str>,
) -> Diagnostic {
    let finding = Diagnostic::error("E0201", format!("there is no {what} `{name}`")).at(span, "not found here");
    match nearest(name, candidates) {
        Some(near) => finding.hint(format!("did you mean `{near}`?")),
        None => finding,
    }
}

/// A name or an expression of one kind where another kind is needed.
pub(super) fn wrong_kind(span: Span, found: &str, needed: &str) -> Diagnostic {
    Diagnostic::error("E0202", format!("{needed} is needed here, this is {found}")).at(span, format!("this is {found}"))
}

/// Too few or too many arguments.
pub(super) fn arity(span: Span, what: &str, takes: &str, given: usize) -> Diagnostic {
    let given = match given {
        0 => "none is given".to_string(),
        1 => "1 is given".to_string(),
        n => format!("{n} are given"),
    };
    Diagnostic::error("E0203", format!("{what} takes {takes}, {given}")).at(span, given)
}

/// A construct that is in the language and not yet in the compiler.
pub(super) fn not_derived(span: Span, construct: &str) -> Diagnostic {
    Diagnostic::error("E0900", format!("not derived yet: {construct}"))
        .at(span, "the language has it, this compiler does not yet")
        .hint("nothing is wrong with the program; the derivation of this construct is not built")
}

/// A size or a number out of bounds.
pub(super) fn bad_size(span: Span, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error("E0401", message).at(span, "this size")
}

/// A program that would not end, or would not fit.
pub(super) fn too_large(span: Span, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error("E0403", message)
        .at(span, "too much to build")
        .why("compile-time recursion, `repeat` and multiplicities are unrolled, so their number is bounded")
}

/// A domain has no answer.
pub(super) fn domain(
    span: Span,
    error: &DomainError,
    neighbourhoods: &str,
    show: impl Fn(crate::base::size::Size) -> String,
) -> Diagnostic {
    match error {
        DomainError::NotInvariant { displacement, image } => Diagnostic::error("E0308", "this window is not a union of orbits of the group")
            .at(span, "not mapped to itself")
            .why(format!("the group moves the displacement {} to {}, which is outside the window", tuple(displacement), tuple(image)))
            .why("a kernel is free on one displacement of each orbit and determined on the others, so a window holds an orbit whole or not at all")
            .hint("use an odd window with equal sides, such as `3x3` or `5x5`, or `disk(r)`"),
        DomainError::NoSuchNeighbourhood(why) => Diagnostic::error("E0314", "the domain has no such neighbourhood")
            .at(span, "not a neighbourhood of this domain")
            .why(why.clone())
            .hint(format!("it has {neighbourhoods}")),
        DomainError::NotDivisible { size, factor } => Diagnostic::error("E0406", "this coarsening breaks the symmetry")
            .at(span, format!("{} mod {factor} is not 0", show(*size)))
            .why("blocks that do not tile the grid are not mapped to blocks by its shifts, rotations and reflections")
            .why("blocks of s cells need n mod s = 0; every s-th cell needs (n - 1) mod s = 0, or n mod s = 0 on a torus")
            .hint("choose a size that divides, or pad the input"),
        DomainError::NoCoarsening(why) => Diagnostic::error("E0315", "this domain cannot be coarsened").at(span, "no blocks").why(why.clone()).hint("`pool` reduces over the whole domain"),
        DomainError::NotDerived(what) => not_derived(span, what),
        DomainError::BadConstruction(why) => Diagnostic::error("E0312", "this is not a domain").at(span, why.clone()),
        DomainError::WrongGroup { group, why } => Diagnostic::error("E0313", format!("`{group}` does not act on this domain")).at(span, "under this group").why(why.clone()),
    }
}

fn tuple(d: &[i64]) -> String {
    format!("({})", d.iter().map(i64::to_string).collect::<Vec<_>>().join(", "))
}
