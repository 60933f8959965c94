//! The Cranelift backend: kernels become functions over a frame, with 128-bit vectors; contractions call the runtime.
//! In: a verified program. Out: an ELF object whose undefined symbols are those of the runtime.
//!
//! Reading order: `unit` (the object), `emit` (statements), `value` (what an expression became), `expr`, `memory`,
//! `loops`, `outline` (pieces of loops as functions), `contract`.

mod contract;
mod emit;
mod expr;
mod local;
mod loops;
mod memory;
mod outline;
mod unit;
mod value;

use crate::codegen::{Backend, Level, Object, Target, Unsupported};
use crate::kernel::ir::Program;
use crate::kernel::pass::legalize::legalize;

/// The backend that needs nothing but Rust.
#[derive(Clone, Copy, Debug)]
pub struct Cranelift;

impl Backend for Cranelift {
    fn name(&self) -> &'static str {
        "cranelift"
    }

    fn emit(&self, program: &Program, target: Target) -> Result<Object, Unsupported> {
        if let Target::X86_64 { least: Level::V4, .. } = target {
            let why = "code for x86-64-v4 alone by Cranelift, whose vectors have 128 bits; --backend llvm has it";
            return Err(Unsupported::new(why));
        }
        let mut written_out = program.clone();
        legalize(&mut written_out);
        let program = &written_out;
        let mut unit = unit::Unit::new(program, target);
        for (number, kernel) in program.kernels.iter().enumerate() {
            unit.kernel(number, kernel)?;
        }
        Ok(unit.finish())
    }

    fn assembly(&self, _: &Program, _: Target) -> Result<String, Unsupported> {
        Err(Unsupported::new("assembly as text by Cranelift; --backend llvm writes it"))
    }
}
