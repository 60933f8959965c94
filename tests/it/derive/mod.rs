//! Derived layers against independent references: files written by other programs, plain loops, counts from the literature.

mod counts;
pub(crate) mod draft;
mod families;
mod golden;
mod gradients;
pub(crate) mod programs;
mod property;
