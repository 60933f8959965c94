//! Points of R^d under a Euclidean group and the permutations. Edges are given at bind, or built from a cutoff.
//! Pairs have the distance as orbit invariant, so a weight is a function of the distance.
//! `periodic`: space repeats along the rows of a cell, which the group turns as vectors, and an edge says to which image of its sender it leads.

use std::sync::Arc;

use crate::base::size::Size;
use crate::symmetry::GroupRef;

use super::only_words;
use crate::domain::acting::GroupSpec;
use crate::domain::{Batching, Block, Coarse, Domain, DomainError, DomainSpec, Neighbourhood, Orbits};

#[derive(Debug)]
struct Points {
    points: Size,
    edges: Size,
    dim: usize,
    periodic: bool,
    point_group: GroupRef,
    symmetry: String,
    text: String,
}

pub(super) fn make(spec: &DomainSpec) -> Result<Arc<dyn Domain>, DomainError> {
    only_words(spec, &["periodic"])?;
    let [points, edges] = spec.sizes[..] else {
        return Err(DomainError::BadConstruction(
            "points have a number of points, and may state a number of edges: `points(n, m) in R3`".to_string(),
        ));
    };
    let dim = spec
        .ambient
        .ok_or_else(|| DomainError::BadConstruction("points need a space: write `points(n) in R3`".to_string()))?;
    if !(1..=16).contains(&dim) {
        return Err(DomainError::BadConstruction(format!("points in R{dim}: the space has 1 to 16 dimensions")));
    }
    let group = spec.group.clone().unwrap_or_else(|| GroupSpec::Name(format!("E({dim})")));
    let point_group = group.euclidean_point_group(dim)?;
    let (periodic, symmetry) = (!spec.words.is_empty(), group.to_string());
    Ok(Arc::new(Points { points, edges, dim, periodic, point_group, symmetry, text: spec.text.clone() }))
}

impl Domain for Points {
    fn describe(&self) -> String {
        self.text.clone()
    }

    fn axes(&self) -> Vec<Size> {
        vec![self.points]
    }

    fn batching(&self) -> Batching {
        Batching::Union
    }

    fn stabiliser(&self) -> GroupRef {
        self.point_group.clone()
    }

    fn symmetry(&self) -> String {
        self.symmetry.clone()
    }

    fn edges(&self) -> Option<Size> {
        Some(self.edges)
    }

    fn ambient(&self) -> Option<usize> {
        Some(self.dim)
    }

    fn periodic(&self) -> bool {
        self.periodic
    }

    fn neighbourhoods(&self) -> &'static str {
        "a cutoff radius with the positions, such as `5.0 at r`, or `edges`"
    }

    fn orbits(&self, over: &Neighbourhood) -> Result<Orbits, DomainError> {
        match over {
            Neighbourhood::Point => Ok(Orbits::Point),
            Neighbourhood::Radius(cutoff) if *cutoff > 0.0 && cutoff.is_finite() => {
                Ok(Orbits::Distances { dim: self.dim, cutoff: *cutoff })
            }
            Neighbourhood::Radius(cutoff) => {
                Err(DomainError::NoSuchNeighbourhood(format!("a cutoff radius is positive, this is {cutoff}")))
            }
            Neighbourhood::Edges => Ok(Orbits::Star),
            Neighbourhood::All => Err(DomainError::NotDerived(format!("`over all` on {}", self.text))),
            Neighbourhood::Window(_) | Neighbourhood::Disk(_) => Err(DomainError::NoSuchNeighbourhood(
                "points have no windows: give a cutoff radius and the positions, `over 5.0 at r`".to_string(),
            )),
        }
    }

    fn coarsen(&self, _factor: usize, _how: Block) -> Result<Coarse, DomainError> {
        Err(DomainError::NoCoarsening("points have no blocks that the group keeps".to_string()))
    }
}
