//! The tensor IR: programs over tensors whose axes have names.
//!
//! A value has a set of named, sized axes and a dtype, nothing else; its order in memory is a decision
//! of the kernel stage. So there is no transpose, no reshape and no broadcast to optimise away.
//! No group theory, no syntax: what equivariance means was settled before.
//!
//! Reading order: `op` (the nodes), `graph` (a program and its builder), `infer` (the only shape rule),
//! `node` (the canonical form), `equality` (values that a theorem says are equal),
//! `verify`, `print`, `eval` (what a program means, in f64), `cost` (what a node costs), `pass`,
//! `differential` (derivatives as programs).

pub mod cost;
pub mod differential;
pub mod equality;
pub mod eval;
pub mod graph;
pub mod infer;
pub mod node;
pub mod op;
pub mod pass;
pub mod print;
pub mod translate;
pub mod verify;
