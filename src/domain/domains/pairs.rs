//! Pairs of elements of two sets. Of a set with itself the permutations act on both at once: index tuples, set partitions.

use std::sync::Arc;

use crate::base::size::Size;
use crate::symmetry::GroupRef;

use crate::domain::{Batching, Block, Coarse, Domain, DomainError, Neighbourhood, Orbits};

#[derive(Debug)]
struct Pairs {
    first: Arc<dyn Domain>,
    second: Arc<dyn Domain>,
}

pub(super) fn make(first: &Arc<dyn Domain>, second: &Arc<dyn Domain>) -> Arc<dyn Domain> {
    Arc::new(Pairs { first: first.clone(), second: second.clone() })
}

impl Pairs {
    /// The points of both are permuted freely, so tuples of indices tell the orbits.
    fn of_permuted_points(&self) -> bool {
        let set = |d: &Arc<dyn Domain>| {
            matches!(d.orbits(&Neighbourhood::All), Ok(Orbits::Permutations { inputs: 1, outputs: 1 }))
        };
        set(&self.first) && set(&self.second)
    }

    fn same(&self) -> bool {
        self.first.axes() == self.second.axes() && self.first.describe() == self.second.describe()
    }
}

impl Domain for Pairs {
    fn describe(&self) -> String {
        format!("{} * {}", self.first.describe(), self.second.describe())
    }

    fn axes(&self) -> Vec<Size> {
        [self.first.axes(), self.second.axes()].concat()
    }

    fn batching(&self) -> Batching {
        Batching::Leading
    }

    fn stabiliser(&self) -> GroupRef {
        self.first.stabiliser()
    }

    fn symmetry(&self) -> String {
        if self.same() {
            self.first.symmetry()
        } else {
            format!("{} x {}", self.first.symmetry(), self.second.symmetry())
        }
    }

    fn ambient(&self) -> Option<usize> {
        self.first.ambient().filter(|_| self.same())
    }

    fn periodic(&self) -> bool {
        self.first.periodic()
    }

    fn neighbourhoods(&self) -> &'static str {
        "`all`"
    }

    fn orbits(&self, over: &Neighbourhood) -> Result<Orbits, DomainError> {
        match over {
            Neighbourhood::Point => Ok(Orbits::Point),
            Neighbourhood::All if self.of_permuted_points() && self.same() => {
                Ok(Orbits::Permutations { inputs: 2, outputs: 2 })
            }
            Neighbourhood::All => Err(DomainError::NotDerived(format!("`over all` on {}", self.describe()))),
            Neighbourhood::Window(_) | Neighbourhood::Disk(_) | Neighbourhood::Edges | Neighbourhood::Radius(_) => {
                Err(DomainError::NoSuchNeighbourhood(
                    "pairs have the pair itself and all pairs as neighbourhoods".to_string(),
                ))
            }
        }
    }

    fn coarsen(&self, _factor: usize, _how: Block) -> Result<Coarse, DomainError> {
        Err(DomainError::NoCoarsening("pairs of elements have no blocks that every permutation keeps".to_string()))
    }
}
