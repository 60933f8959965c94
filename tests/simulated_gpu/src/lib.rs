//! A GPU for tests where there is none. It stands in the place of `libcuda.so.1`, runs kernels from their PTX, thread by thread, and says
//! what a real one would not: accesses outside of what was allocated, threads that meet in memory without a barrier, barriers that not all
//! threads reach, reads through the read-only cache of what the kernel writes.
//!
//! From the text of a module to what a program sees:
//!
//! - [`operation`]: what the instructions compute that only touch registers;
//! - [`ptx`]: the text of a module, as kernels of instructions;
//! - [`memory`]: the memory of all devices, and who touched it;
//! - [`machine`]: a launch, block after block; [`tensor_core`] has the products of warps;
//! - [`stream`]: the order of what was given to streams, kernels, copies, events, graphs;
//! - [`driver`]: CUDA's driver in C (`cu..`); [`runtime`]: as much of its runtime (`cuda..`) as PyTorch asks; [`xla`]: what XLA asks beyond;
//! - [`control`]: what tests set and ask.
//!
//! What it does not show: time, caches, the widths of transactions, the order in which a real GPU runs warps.

// Functions in C take what CUDA's take, and trust it as those do.
#![allow(clippy::missing_safety_doc, clippy::too_many_arguments, non_snake_case)]

pub mod control;
pub mod driver;
pub mod machine;
pub mod memory;
pub mod operation;
pub mod ptx;
pub mod runtime;
pub mod stream;
pub mod tensor_core;
pub mod xla;
