//! Kernel IR → machine code, behind one trait; and what the code's callers must know (`abi`, `frame`).
//! No tensors, no group theory: a verified kernel program becomes an object or an error that names what is unsupported.

pub mod abi;
pub mod cranelift;
pub mod frame;

use std::fmt;

use crate::kernel::ir::Program;

/// Every backend that this build has; the first is the default.
pub static BACKENDS: &[&dyn Backend] = &[&cranelift::Cranelift];

/// A way to machine code.
pub trait Backend: Sync {
    /// As on the command line: `cranelift`.
    fn name(&self) -> &'static str;

    /// Compiles every kernel of a verified program.
    ///
    /// # Errors
    /// What the backend cannot do, by name.
    fn emit(&self, program: &Program, target: Target) -> Result<Object, Unsupported>;
}

/// What the code runs on. Vectors and fused multiply-add are part of each target; the library checks at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// x86-64-v3 (AVX2, FMA, BMI), Linux. The dense kernel alone chooses AVX-512 where it finds it.
    X86_64,
    /// AArch64 with NEON, Linux. Objects only: libraries are linked for x86-64.
    Aarch64,
}

impl Target {
    /// The processor that gdlc itself runs on.
    pub fn host() -> Target {
        if cfg!(target_arch = "aarch64") { Target::Aarch64 } else { Target::X86_64 }
    }
}

/// A relocatable object (ELF).
#[derive(Clone, Debug)]
pub struct Object {
    pub bytes: Vec<u8>,
    /// The symbol of each kernel, in the program's order; its type is `fn(frame)`.
    pub kernels: Vec<String>,
}

/// Something that a backend or the packaging cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// What, in words that a user can act on.
    pub what: String,
}

impl Unsupported {
    /// An error that names what is missing.
    pub fn new(what: impl Into<String>) -> Self {
        Unsupported { what: what.into() }
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not supported: {}", self.what)
    }
}

impl std::error::Error for Unsupported {}
