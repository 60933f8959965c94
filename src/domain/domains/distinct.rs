//! The ordered pairs `(i, j)` of two different points of a domain of one axis: `j != i`.
//! The pair `(i, k)` with `k` below `n - 1` has `j = i + 1 + k mod n`, which meets every other point once and never `i` itself,
//! so what is not defined at `j = i` is not computed there.

use std::sync::Arc;

use crate::base::size::Size;
use crate::symmetry::GroupRef;

use crate::domain::{Batching, Block, Coarse, Domain, DomainError, Neighbourhood, Orbits};

#[derive(Debug)]
struct Distinct {
    of: Arc<dyn Domain>,
}

pub(super) fn make(of: &Arc<dyn Domain>) -> Arc<dyn Domain> {
    Arc::new(Distinct { of: of.clone() })
}

impl Domain for Distinct {
    fn describe(&self) -> String {
        format!("pairs of different points of {}", self.of.describe())
    }

    fn axes(&self) -> Vec<Size> {
        self.of.axes().into_iter().flat_map(|n| [n, n.plus(-1)]).collect()
    }

    fn batching(&self) -> Batching {
        self.of.batching()
    }

    fn stabiliser(&self) -> GroupRef {
        self.of.stabiliser()
    }

    fn symmetry(&self) -> String {
        self.of.symmetry()
    }

    fn ambient(&self) -> Option<usize> {
        self.of.ambient()
    }

    fn periodic(&self) -> bool {
        self.of.periodic()
    }

    fn neighbourhoods(&self) -> &'static str {
        "the pair itself"
    }

    fn orbits(&self, over: &Neighbourhood) -> Result<Orbits, DomainError> {
        match over {
            Neighbourhood::Point => Ok(Orbits::Point),
            Neighbourhood::Window(_)
            | Neighbourhood::Disk(_)
            | Neighbourhood::All
            | Neighbourhood::Edges
            | Neighbourhood::Radius(_) => Err(DomainError::NoSuchNeighbourhood(
                "pairs of different points have only the pair itself as neighbourhood".to_string(),
            )),
        }
    }

    fn coarsen(&self, _factor: usize, _how: Block) -> Result<Coarse, DomainError> {
        Err(DomainError::NoCoarsening("pairs of points have no blocks that the group keeps".to_string()))
    }
}
