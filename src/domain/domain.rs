//! What a domain is asked. `derive` reads the answers and never a domain's name.

use std::fmt;
use std::sync::Arc;

use crate::base::size::Size;
use crate::symmetry::GroupRef;

use super::acting::GroupSpec;

/// A set of points with a group acting on it.
pub trait Domain: fmt::Debug + Send + Sync {
    /// As in the source: `grid(n, n) zero`.
    fn describe(&self) -> String;

    /// The axes of the points, in the order of memory: `[n, n]` of a grid, `[n]` of a set, `[n, n]` of pairs.
    fn axes(&self) -> Vec<Size>;

    /// How several samples share a tensor.
    fn batching(&self) -> Batching;

    /// The group that fixes a point: fibres are its representations.
    fn stabiliser(&self) -> GroupRef;

    /// The whole group as text: `shift . D4`, `S_n`, `E(3)`.
    fn symmetry(&self) -> String;

    /// The number of edges, where the domain has an adjacency.
    fn edges(&self) -> Option<Size> {
        None
    }

    /// d, where the points are points of R^d: signals of type `position` exist, and edges have lengths.
    fn ambient(&self) -> Option<usize> {
        None
    }

    /// Whether space repeats: points are known up to the vectors of a lattice, whose rows are the `cell` of a sample.
    fn periodic(&self) -> bool {
        false
    }

    /// What lies beyond the edge, of a grid.
    fn boundary(&self) -> Option<Boundary> {
        None
    }

    /// The words after `over` that this domain understands, for messages.
    fn neighbourhoods(&self) -> &'static str;

    /// The orbits of the group on the pairs of points inside `over`.
    fn orbits(&self, over: &Neighbourhood) -> Result<Orbits, DomainError>;

    /// The domain of blocks of `factor` points along each axis.
    fn coarsen(&self, factor: usize, how: Block) -> Result<Coarse, DomainError>;
}

/// How several samples share a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batching {
    /// A leading batch axis; every sample has the same sizes.
    Leading,
    /// A disjoint union, with the sample of each point in a table called `index`.
    Union,
}

/// A domain as the user wrote it: what a constructor is given.
#[derive(Clone, Debug)]
pub struct DomainSpec {
    /// `grid`
    pub constructor: String,
    pub sizes: Vec<Size>,
    /// `zero`, `torus`, `reflect`, `periodic`
    pub words: Vec<String>,
    /// d of `in Rd`
    pub ambient: Option<usize>,
    /// `under G`; none for the default group of the constructor.
    pub group: Option<GroupSpec>,
    /// The source text, such as `grid(n, n) zero`: sizes by their names.
    pub text: String,
}

/// The pairs of points a linear map may join.
#[derive(Clone, Debug, PartialEq)]
pub enum Neighbourhood {
    Point,
    Window(Vec<usize>),
    Disk(f64),
    All,
    Edges,
    Radius(f64),
}

/// The orbits of the group on pairs, by the geometry that a lowering needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Orbits {
    /// Pairs of a point with itself: one orbit, fixed by the whole stabiliser.
    Point,
    /// Pairs (x, x + d) on a lattice, for the displacements `d` of a window closed under the stabiliser.
    Lattice { displacements: Vec<Vec<i64>>, window: Vec<usize>, boundary: Boundary },
    /// Index tuples under permutations: the set partitions of `outputs + inputs` indices.
    Permutations { inputs: usize, outputs: usize },
    /// A point with itself, and a point with its neighbours.
    Star,
    /// A point with itself, and pairs at each distance below `cutoff` in R^`dim`; the stabiliser of a pair fixes the axis.
    Distances { dim: usize, cutoff: f64 },
}

/// What lies beyond the edge of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    Torus,
    Zero,
    Reflect,
}

/// How points are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Blocks of points.
    Cells,
    /// Every `factor`-th point.
    Stride,
}

/// A coarsened domain and what must divide for it to be exact.
#[derive(Clone, Debug)]
pub struct Coarse {
    pub domain: Arc<dyn Domain>,
    /// `(size, modulus)`: `size mod modulus = 0`, checked when the size is known.
    pub exact_if: Vec<(Size, usize)>,
}

/// Why a domain has no answer.
#[derive(Clone, Debug, PartialEq)]
pub enum DomainError {
    /// The window is not a union of orbits: this displacement leaves it.
    NotInvariant { displacement: Vec<i64>, image: Vec<i64> },
    /// The domain has no such neighbourhood.
    NoSuchNeighbourhood(String),
    /// The sizes known at compile time do not divide.
    NotDivisible { size: Size, factor: usize },
    /// The domain cannot be coarsened.
    NoCoarsening(String),
    /// The derivation for this domain is not built yet.
    NotDerived(String),
    /// The constructor was not given what it needs; the text says what it takes.
    BadConstruction(String),
    /// The group does not act on these points.
    WrongGroup { group: String, why: String },
}
