//! Passes from graph to graph that need no search. Values keep their meaning, not their numbers.

pub mod dce;
pub mod fold;
pub mod vjp;
pub mod zeros;
