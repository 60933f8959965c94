//! Derived layers against independent references: files written by other programs, plain loops, counts from the literature.

mod counts;
mod crystal;
pub(crate) mod draft;
mod families;
mod golden;
pub(crate) mod gradients;
mod others;
mod pairs;
pub(crate) mod programs;
mod property;
