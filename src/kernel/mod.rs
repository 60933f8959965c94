//! The kernel IR: loops, buffers, accesses, pure expressions. What the backends and the interpreter consume.
//! No group theory, no tensors with named axes: those ended in `lower`.
//!
//! Reading order: `ir` (one page), `verify`, `print`, `interpret` (what a program means), `lower` (from the tensor IR).

pub mod ir;
pub mod build;
pub mod verify;
pub mod print;
pub mod interpret;
mod interpret_scalar;
pub mod scalar_functions;
pub mod walk;
pub mod lower;
pub mod pass;
