//! Kernel IR → machine code, behind one trait; and what the code's callers must know (`abi`, `frame`).
//! No tensors, no group theory: a verified kernel program becomes an object or an error that names what is unsupported.

pub mod abi;
pub mod cranelift;
mod destination;
pub mod device;
pub mod frame;
pub mod llvm;
mod scan;

/// What the runtime, the code that is made for it and the callers of libraries agree on: the runtime's own file, compiled into gdlc too.
#[allow(dead_code)]
#[path = "../runtime/abi.rs"]
pub mod runtime;

use std::fmt;

use crate::kernel::ir::{MOST_PLACES, PANEL_BYTES, Program};

const _: () =
    assert!(runtime::MOST_PLACES == MOST_PLACES, "the runtime has room for the places of rows beside each other");
const _: () = assert!(runtime::PANEL_BYTES == PANEL_BYTES as i64, "the kernels pack panels as the runtime reads them");

/// Every backend that this build has; the first is the default.
pub static BACKENDS: &[&dyn Backend] = &[
    &cranelift::Cranelift,
    #[cfg(feature = "llvm")]
    &llvm::Llvm,
];

/// A way to machine code.
pub trait Backend: Sync {
    /// As on the command line: `cranelift`.
    fn name(&self) -> &'static str;

    /// Why it makes no code for a target; none where it does.
    fn lacks(&self, target: Target) -> Option<&'static str>;

    /// Compiles every kernel of a verified program.
    ///
    /// # Errors
    /// What the backend cannot do, by name.
    fn emit(&self, program: &Program, target: Target) -> Result<Object, Unsupported>;

    /// The machine code of a verified program, as text.
    ///
    /// # Errors
    /// What the backend cannot do, by name.
    fn assembly(&self, program: &Program, target: Target) -> Result<String, Unsupported>;
}

/// What the code runs on; the library checks at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// x86-64, Linux: runs on processors of the least of these levels, and has code for each, of which the best that the processor has is
    /// chosen at run time.
    X86_64(Levels),
    /// AArch64 with NEON, Linux.
    Aarch64,
}

/// A level of the x86-64 psABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// SSE4.2. Fused multiply-add is a call of the runtime, to the same bits but many times slower; dense products round twice instead.
    V2,
    /// AVX2, FMA, BMI.
    V3,
    /// AVX-512 (F, BW, CD, DQ, VL).
    V4,
}

impl Level {
    /// Every level, the least first.
    pub const ALL: [Level; 3] = [Level::V2, Level::V3, Level::V4];

    /// As compilers call it.
    pub fn name(self) -> &'static str {
        match self {
            Level::V2 => "x86-64-v2",
            Level::V3 => "x86-64-v3",
            Level::V4 => "x86-64-v4",
        }
    }

    /// Bits of what the runtime finds in a processor.
    pub fn features(self) -> u64 {
        match self {
            Level::V2 => runtime::FEATURE_V2,
            Level::V3 => Level::V2.features() | runtime::FEATURE_V3,
            Level::V4 => Level::V3.features() | runtime::FEATURE_AVX512,
        }
    }
}

/// Some levels, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// By their order in [`Level::ALL`].
    has: [bool; Level::ALL.len()],
}

impl Levels {
    /// One level alone.
    pub const fn only(level: Level) -> Levels {
        Levels { has: [false; Level::ALL.len()] }.with(level)
    }

    /// These and one more.
    pub const fn with(mut self, level: Level) -> Levels {
        self.has[level as usize] = true;
        self
    }

    /// The least of them.
    pub fn least(self) -> Level {
        self.iter().next().expect("codegen: at least one level")
    }

    /// All of them, the least first.
    pub fn iter(self) -> impl Iterator<Item = Level> {
        Level::ALL.into_iter().filter(move |level| self.has[*level as usize])
    }
}

impl Target {
    /// Every x86-64 processor with AVX2 and FMA, each with the widest vectors it has.
    pub const ANY_X86_64: Target = Target::X86_64(Levels::only(Level::V3).with(Level::V4));

    /// As compilers call the kind of processor.
    pub fn architecture(self) -> &'static str {
        match self {
            Target::X86_64(_) => "x86-64",
            Target::Aarch64 => "aarch64",
        }
    }

    /// These processors and others; none where they are of another kind.
    pub fn and(self, other: Target) -> Option<Target> {
        match (self, other) {
            (Target::X86_64(some), Target::X86_64(others)) => {
                Some(Target::X86_64(others.iter().fold(some, Levels::with)))
            }
            (Target::Aarch64, Target::Aarch64) => Some(Target::Aarch64),
            (Target::X86_64(_), Target::Aarch64) | (Target::Aarch64, Target::X86_64(_)) => None,
        }
    }

    /// Bits of what the runtime must find in a processor.
    pub fn features(self) -> u64 {
        match self {
            Target::X86_64(levels) => levels.least().features(),
            Target::Aarch64 => 0,
        }
    }

    /// The kind of processor that gdlc itself runs on, not this one alone.
    pub fn host() -> Target {
        if cfg!(target_arch = "aarch64") { Target::Aarch64 } else { Target::ANY_X86_64 }
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
