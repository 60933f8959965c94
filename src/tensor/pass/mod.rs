//! Passes from graph to graph that need no search. Values keep their meaning, not their numbers.

pub mod dce;
pub mod derivatives;
pub mod fold;
pub mod held;
pub mod identities;
pub mod two_passes;
pub mod zeros;
