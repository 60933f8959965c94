//! Nodes joined by edges, under the permutations of the nodes. The edges are given at bind.

use std::sync::Arc;

use crate::base::size::Size;
use crate::symmetry::GroupRef;

use super::only_words;
use super::set::permutations_only;
use crate::domain::acting::trivial;
use crate::domain::{Batching, Block, Coarse, Domain, DomainError, DomainSpec, Neighbourhood, Orbits};

#[derive(Debug)]
struct Graph {
    nodes: Size,
    edges: Size,
    fixing: GroupRef,
    text: String,
}

pub(super) fn make(spec: &DomainSpec) -> Result<Arc<dyn Domain>, DomainError> {
    only_words(spec, &[])?;
    let [nodes, edges] = spec.sizes[..] else {
        return Err(DomainError::BadConstruction(format!(
            "a graph has a number of nodes and a number of edges, `graph(n, m)`; {} given",
            spec.sizes.len()
        )));
    };
    permutations_only(spec)?;
    Ok(Arc::new(Graph { nodes, edges, fixing: trivial(1)?, text: spec.text.clone() }))
}

impl Domain for Graph {
    fn describe(&self) -> String {
        self.text.clone()
    }

    fn axes(&self) -> Vec<Size> {
        vec![self.nodes]
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

    fn edges(&self) -> Option<Size> {
        Some(self.edges)
    }

    fn neighbourhoods(&self) -> &'static str {
        "`edges`, `all`"
    }

    fn orbits(&self, over: &Neighbourhood) -> Result<Orbits, DomainError> {
        match over {
            Neighbourhood::Point => Ok(Orbits::Point),
            Neighbourhood::Edges => Ok(Orbits::Star),
            Neighbourhood::All => Ok(Orbits::Permutations { inputs: 1, outputs: 1 }),
            Neighbourhood::Window(_) | Neighbourhood::Disk(_) => Err(DomainError::NoSuchNeighbourhood(
                "a graph has no windows: its neighbours are its edges".to_string(),
            )),
            Neighbourhood::Radius(r) => Err(DomainError::NoSuchNeighbourhood(format!(
                "nodes of a graph have no distances, so no cutoff radius ({r})"
            ))),
        }
    }

    fn coarsen(&self, _factor: usize, _how: Block) -> Result<Coarse, DomainError> {
        Err(DomainError::NoCoarsening("a graph has no blocks that every permutation of its nodes keeps".to_string()))
    }
}
