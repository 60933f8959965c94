//! The kernel IR: loops, buffers, accesses, pure expressions. What the backends and the interpreter consume.
//! No group theory, no tensors with named axes: those ended in `lower`.
//!
//! Reading order: `ir` (one page; `narrow`: the number types of tensor cores), `verify`, `print`, `interpret` (what a program means), `lower` (from the tensor IR),
//! `gpu` (spread over blocks and threads).

pub mod address;
pub mod build;
pub mod gpu;
pub mod interpret;
mod interpret_scalar;
pub mod ir;
pub mod lower;
pub mod narrow;
pub mod pass;
pub mod print;
mod rise;
pub mod scalar_functions;
pub mod verify;
pub mod walk;
pub mod work;
