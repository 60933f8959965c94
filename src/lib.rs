#![doc = include_str!("ARCHITECTURE.md")]

pub mod base;

pub mod syntax;

pub mod domain;
pub mod math;
pub mod symmetry;

pub mod derive;
pub mod sema;

pub mod rewrite;
pub mod tensor;

pub mod codegen;
pub mod kernel;
pub mod package;

pub mod driver;
