//! Domains whose names resolve and whose derivation is not built yet: sequences, meshes, spheres and the rest.

use std::sync::Arc;

use crate::base::size::Size;
use crate::symmetry::GroupRef;

use crate::domain::acting::trivial;
use crate::domain::{Batching, Block, Coarse, Domain, DomainError, DomainSpec, Neighbourhood, Orbits};

#[derive(Debug)]
struct Future {
    axes: Vec<Size>,
    fixing: GroupRef,
    symmetry: String,
    text: String,
}

pub(super) fn make(spec: &DomainSpec) -> Result<Arc<dyn Domain>, DomainError> {
    let wanted = if spec.constructor == "mesh" { 2 } else { 1 };
    if spec.sizes.len() != wanted && spec.constructor != "complete" {
        return Err(DomainError::BadConstruction(format!(
            "`{}` takes {wanted} size{}, here are {}",
            spec.constructor,
            if wanted == 1 { "" } else { "s" },
            spec.sizes.len()
        )));
    }
    let default = match spec.constructor.as_str() {
        "mesh" => "gauge SO(2)",
        "sphere" => "SO(3)",
        "ico" => "gauge C6",
        "complete" => "perm",
        _ => "shift",
    };
    let symmetry = spec.group.as_ref().map_or(default.to_string(), ToString::to_string);
    Ok(Arc::new(Future {
        axes: spec.sizes.iter().take(1).copied().collect(),
        fixing: trivial(1)?,
        symmetry,
        text: spec.text.clone(),
    }))
}

impl Future {
    fn not_derived<T>(&self) -> Result<T, DomainError> {
        Err(DomainError::NotDerived(self.text.clone()))
    }
}

impl Domain for Future {
    fn describe(&self) -> String {
        self.text.clone()
    }

    fn axes(&self) -> Vec<Size> {
        self.axes.clone()
    }

    fn batching(&self) -> Batching {
        Batching::Leading
    }

    fn stabiliser(&self) -> GroupRef {
        self.fixing.clone()
    }

    fn symmetry(&self) -> String {
        self.symmetry.clone()
    }

    fn neighbourhoods(&self) -> &'static str {
        "none yet"
    }

    /// Not even the points themselves: which fibres there are is part of the derivation.
    fn orbits(&self, _over: &Neighbourhood) -> Result<Orbits, DomainError> {
        self.not_derived()
    }

    fn coarsen(&self, _factor: usize, _how: Block) -> Result<Coarse, DomainError> {
        self.not_derived()
    }
}
