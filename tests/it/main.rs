//! The one test binary: a module a layer, and those that cut across.

mod cli;
mod conformance;
mod derive;
mod differential;
mod expect;
mod extraction;
mod formatted;
mod fused;
mod gpu;
mod hostile;
mod kernel;
mod laws;
mod laws_kernels;
mod laws_rotation;
mod library;
mod neighbours;
mod readme;
mod rewrite;
mod rewrite_programs;
mod sema;
mod soundness;
mod syntax;
mod syntax_random;
mod tensor;
mod tensor_cores;
mod tidy;
