//! A set of elements under all permutations. Pairs of elements have two orbits: the same element, two different ones.

use std::sync::Arc;

use crate::base::size::Size;
use crate::symmetry::GroupRef;

use super::only_words;
use crate::domain::acting::{GroupSpec, trivial};
use crate::domain::{Batching, Block, Coarse, Domain, DomainError, DomainSpec, Neighbourhood, Orbits};

#[derive(Debug)]
struct Set {
    size: Size,
    fixing: GroupRef,
    text: String,
}

pub(super) fn make(spec: &DomainSpec) -> Result<Arc<dyn Domain>, DomainError> {
    only_words(spec, &[])?;
    let [size] = spec.sizes[..] else {
        return Err(DomainError::BadConstruction(format!(
            "a set has one size, `set(n)`; here are {}",
            spec.sizes.len()
        )));
    };
    permutations_only(spec)?;
    Ok(Arc::new(Set { size, fixing: trivial(1)?, text: spec.text.clone() }))
}

/// Elements without further structure have only the permutations as group.
pub(super) fn permutations_only(spec: &DomainSpec) -> Result<(), DomainError> {
    match &spec.group {
        None => Ok(()),
        Some(group) if *group == GroupSpec::named("perm") => Ok(()),
        Some(group) => Err(DomainError::WrongGroup {
            group: group.to_string(),
            why: format!("the group of a {} is `perm`", spec.constructor),
        }),
    }
}

impl Domain for Set {
    fn describe(&self) -> String {
        self.text.clone()
    }

    fn axes(&self) -> Vec<Size> {
        vec![self.size]
    }

    fn batching(&self) -> Batching {
        Batching::Union
    }

    fn stabiliser(&self) -> GroupRef {
        self.fixing.clone()
    }

    fn symmetry(&self) -> String {
        "S_n".to_string()
    }

    fn neighbourhoods(&self) -> &'static str {
        "`all`"
    }

    fn orbits(&self, over: &Neighbourhood) -> Result<Orbits, DomainError> {
        match over {
            Neighbourhood::Point => Ok(Orbits::Point),
            Neighbourhood::All => Ok(Orbits::Permutations { inputs: 1, outputs: 1 }),
            Neighbourhood::Window(_) | Neighbourhood::Disk(_) | Neighbourhood::Edges | Neighbourhood::Radius(_) => Err(DomainError::NoSuchNeighbourhood(
                "every permutation maps a set to itself, so the only neighbourhoods are the element itself and all elements".to_string(),
            )),
        }
    }

    fn coarsen(&self, _factor: usize, _how: Block) -> Result<Coarse, DomainError> {
        Err(DomainError::NoCoarsening(
            "no partition of a set into blocks is mapped to itself by every permutation".to_string(),
        ))
    }
}
