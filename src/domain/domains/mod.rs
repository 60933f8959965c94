//! The registry of domains: a constructor's name, and what makes the domain.
//! To add a domain: a file here with a `Domain`, and a line in [`CONSTRUCTORS`].

mod distinct;
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

/// The pairs of points of two domains. Derivation knows pairs of one set; of others it says so when asked.
pub fn product(first: &Arc<dyn Domain>, second: &Arc<dyn Domain>) -> Arc<dyn Domain> {
    pairs::make(first, second)
}

/// The ordered pairs of two different points of a domain of one axis.
pub fn distinct(of: &Arc<dyn Domain>) -> Arc<dyn Domain> {
    distinct::make(of)
}

/// Refuses words that the constructor does not know.
fn only_words(spec: &DomainSpec, known: &[&str]) -> Result<(), DomainError> {
    match spec.words.iter().find(|w| !known.contains(&w.as_str())) {
        None => Ok(()),
        Some(word) if known.is_empty() => {
            Err(DomainError::BadConstruction(format!("`{}` takes no word `{word}`", spec.constructor)))
        }
        Some(word) => Err(DomainError::BadConstruction(format!(
            "`{}` does not know `{word}`; it takes {}",
            spec.constructor,
            known.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::size::Size;
    use crate::domain::{GroupSpec, Neighbourhood, Orbits};

    fn spec(constructor: &str, sizes: usize, ambient: Option<usize>, group: Option<&str>) -> DomainSpec {
        DomainSpec {
            constructor: constructor.to_string(),
            sizes: vec![Size::fixed(8); sizes],
            words: Vec::new(),
            ambient,
            group: group.map(GroupSpec::named),
            text: constructor.to_string(),
        }
    }

    #[test]
    fn a_euclidean_group_leaves_its_point_group_at_a_point() {
        let fixing = |group: Option<&str>| construct(&spec("points", 2, Some(3), group)).map(|d| d.stabiliser().name());
        assert_eq!(fixing(None).unwrap(), "O(3)");
        assert_eq!(fixing(Some("SE(3)")).unwrap(), "SO(3)");
        assert_eq!(fixing(Some("SO(3)")).unwrap(), "SO(3)");
        assert!(matches!(fixing(Some("E(2)")), Err(DomainError::WrongGroup { .. })));
        assert!(matches!(fixing(Some("shift")), Err(DomainError::WrongGroup { .. })));
    }

    #[test]
    fn permuted_points_have_index_tuples_as_orbits() {
        let set = construct(&spec("set", 1, None, None)).unwrap();
        assert_eq!(set.orbits(&Neighbourhood::All).unwrap(), Orbits::Permutations { inputs: 1, outputs: 1 });
        assert_eq!(
            product(&set, &set).orbits(&Neighbourhood::All).unwrap(),
            Orbits::Permutations { inputs: 2, outputs: 2 }
        );
        let points = construct(&spec("points", 2, Some(3), None)).unwrap();
        assert!(matches!(product(&points, &points).orbits(&Neighbourhood::All), Err(DomainError::NotDerived(_))));
    }

    #[test]
    fn every_constructor_refuses_wrong_sizes_or_says_what_is_not_derived() {
        for name in names() {
            assert!(
                matches!(construct(&spec(name, 5, None, None)), Err(DomainError::BadConstruction(_)))
                    || name == "complete",
                "{name}"
            );
        }
        let sphere = construct(&spec("sphere", 1, None, None)).unwrap();
        assert_eq!(sphere.orbits(&Neighbourhood::Point), Err(DomainError::NotDerived("sphere".to_string())));
    }
}
