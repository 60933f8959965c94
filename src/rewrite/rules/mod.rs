#![doc = include_str!("README.md")]

pub mod constants;
pub mod contraction;
pub mod nesting;
pub mod reductions;
pub mod relations;
pub mod sums;
pub mod witness;

use egg::Id;

use crate::rewrite::classes::{Classes, Term};
use crate::tensor::graph::Val;
use crate::tensor::op::Node;

use witness::Sample;

/// A law of tensor algebra, used from left to right.
#[derive(Clone, Copy, Debug)]
pub struct Law {
    pub name: &'static str,
    /// The equation, as it is shown to users.
    pub equation: &'static str,
    /// The right sides for a node of a class, under the names of the node's slots.
    pub apply: fn(&mut Classes, Id, &Node) -> Vec<Term>,
    /// A random left side on which the law must fire.
    pub witness: fn(&mut Sample) -> Val,
}

/// All laws.
pub const LAWS: &[Law] = &[
    contraction::THROUGH_VIEW,
    constants::FOLD,
    constants::SCALARS,
    constants::UNIT_FACTOR,
    constants::ZERO_TERM,
    sums::FLATTEN_SUM,
    contraction::FLATTEN,
    relations::ONE_VALUE,
    relations::COMPOSE,
    contraction::DISTRIBUTE,
    nesting::NEST,
    sums::FACTOR,
    relations::MAP_GATHER,
    reductions::MAX_PLUS,
    reductions::MONOTONE,
];
