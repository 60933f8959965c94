//! The one test binary: a module a layer, and those that cut across.

mod assembly;
mod cli;
mod conformance;
#[cfg(feature = "llvm")]
mod cuda;
mod derive;
mod differential;
mod emulated;
mod equalities;
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
mod two_passes;
