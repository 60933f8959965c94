//! The one test binary: a module a layer, and those that cut across.

mod derive;
mod conformance;
mod library;
mod extraction;
mod laws;
mod laws_kernels;
mod laws_rotation;
mod rewrite;
mod rewrite_programs;
mod soundness;
mod tensor;
mod syntax;
mod syntax_random;
mod kernel;
mod sema;
mod cli;
mod readme;
mod tidy;
