#![doc = include_str!("ARCHITECTURE.md")]

pub mod base;

pub mod syntax;

pub mod math;
pub mod symmetry;
pub mod domain;

pub mod sema;
pub mod derive;

pub mod tensor;
pub mod rewrite;

pub mod kernel;
pub mod codegen;
pub mod package;

pub mod driver;
