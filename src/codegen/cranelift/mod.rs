//! The Cranelift backend: kernels become functions over a frame, with 128-bit vectors; contractions call the runtime.
//! In: a verified program. Out: an ELF object whose undefined symbols are those of the runtime.
//!
//! Reading order: `unit` (the object), `emit` (statements), `value` (what an expression became), `expr`, `memory`,
//! `loops`, `outline` (pieces of loops as functions), `contract`.

mod contract;
mod emit;
mod expr;
mod interleaved;
mod local;
mod loops;
mod memory;
mod outline;
mod unit;
mod value;

use crate::codegen::{Backend, Level, Levels, Object, Target, Unsupported};
use crate::kernel::ir::Program;
use crate::kernel::pass::legalize::legalize;

/// The backend that needs nothing but Rust.
#[derive(Clone, Copy, Debug)]
pub struct Cranelift;

impl Backend for Cranelift {
    fn name(&self) -> &'static str {
        "cranelift"
    }

    fn lacks(&self, target: Target) -> Option<&'static str> {
        let Target::X86_64(levels) = target else { return None };
        match levels.least() {
            Level::V4 => Some("Cranelift's vectors have 128 bits; --backend llvm makes code for AVX-512"),
            Level::V2 if levels != Levels::only(Level::V2) => {
                Some("Cranelift's code is for the least level alone; --backend llvm has each kernel once a level")
            }
            // For AVX-512 it would make the same.
            Level::V2 | Level::V3 => None,
        }
    }

    fn emit(&self, program: &Program, target: Target) -> Result<Object, Unsupported> {
        compile(program, target, None).map(|made| made.0)
    }

    fn assembly(&self, program: &Program, target: Target) -> Result<String, Unsupported> {
        text(program, target, Text::Assembly)
    }
}

/// What can be read of the functions on their way to machine code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// Cranelift's own IR, as it is handed over.
    Clif,
    /// The instructions of the target.
    Assembly,
}

/// The functions of a program as text, each kernel after the pieces that it is made of.
///
/// # Errors
/// As [`Backend::emit`].
pub fn text(program: &Program, target: Target, text: Text) -> Result<String, Unsupported> {
    compile(program, target, Some(text)).map(|made| made.1)
}

/// The object of a program, and the text that is kept on the way.
fn compile(program: &Program, target: Target, kept: Option<Text>) -> Result<(Object, String), Unsupported> {
    if let Some(why) = Cranelift.lacks(target) {
        return Err(Unsupported::new(why));
    }
    let mut written_out = program.clone();
    legalize(&mut written_out);
    let mut unit = unit::Unit::new(&written_out, target, kept);
    for (number, kernel) in written_out.kernels.iter().enumerate() {
        unit.kernel(number, kernel)?;
    }
    Ok(unit.finish())
}
