//! The registry of domains: a constructor's name, and what makes the domain.
//! To add a domain: a file here with a `Domain`, and a line in [`CONSTRUCTORS`].

mod future;
mod graph;
mod grid;
mod pairs;
mod points;
mod set;

use std::sync::Arc;

use super::domain::{Domain, DomainError, DomainSpec};

type Make = fn(&DomainSpec) -> Result<Arc<dyn Domain>, DomainError>;

/// Every constructor of the language.
const CONSTRUCTORS: &[(&str, Make)] = &[
    ("grid", grid::make),
    ("set", set::make),
    ("graph", graph::make),
    ("points", points::make),
    ("seq", future::make),
    ("mesh", future::make),
    ("sphere", future::make),
    ("ico", future::make),
    ("order", future::make),
    ("complete", future::make),
];

/// The names of the constructors.
pub fn names() -> impl Iterator<Item = &'static str> {
    CONSTRUCTORS.iter().map(|(name, _)| *name)
}

/// The domain of a specification.
///
/// # Errors
/// `BadConstruction` for wrong sizes or words, `WrongGroup` for a group that does not act on these points.
pub fn construct(spec: &DomainSpec) -> Result<Arc<dyn Domain>, DomainError> {
    match CONSTRUCTORS.iter().find(|(name, _)| *name == spec.constructor) {
        Some((_, make)) => make(spec),
        None => Err(DomainError::BadConstruction(format!("there is no domain `{}`", spec.constructor))),
    }
}

/// The pairs of points of two domains.
///
/// # Errors
/// `NotDerived` for anything but two sets.
pub fn product(first: &Arc<dyn Domain>, second: &Arc<dyn Domain>) -> Arc<dyn Domain> {
    pairs::make(first, second)
}

/// Refuses words that the constructor does not know.
fn only_words(spec: &DomainSpec, known: &[&str]) -> Result<(), DomainError> {
    match spec.words.iter().find(|w| !known.contains(&w.as_str())) {
        None => Ok(()),
        Some(word) if known.is_empty() => Err(DomainError::BadConstruction(format!("`{}` takes no word `{word}`", spec.constructor))),
        Some(word) => Err(DomainError::BadConstruction(format!("`{}` does not know `{word}`; it takes {}", spec.constructor, known.join(", ")))),
    }
}
