//! What LLVM is told of the processors: names, the width of vectors, how many there are.

use crate::codegen::{Level, Target};

/// A kind of processor that a function is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Processor {
    X86(Level),
    Neon,
    /// Any GPU of NVIDIA: one lane, as each thread is one.
    Nvptx,
}

/// The processors that a target's kernels are compiled for, the least first.
pub(super) fn processors(target: Target) -> Vec<Processor> {
    match target {
        Target::X86_64(levels) => levels.iter().map(Processor::X86).collect(),
        Target::Aarch64 => vec![Processor::Neon],
    }
}

pub(super) fn triple(target: Target) -> &'static str {
    match target {
        Target::X86_64(_) => "x86_64-unknown-linux-gnu",
        Target::Aarch64 => "aarch64-unknown-linux-gnu",
    }
}

impl Processor {
    /// Part of the names of functions.
    pub(super) fn name(self) -> &'static str {
        match self {
            Processor::X86(Level::V2) => "v2",
            Processor::X86(Level::V3) => "v3",
            Processor::X86(Level::V4) => "v4",
            Processor::Neon => "neon",
            Processor::Nvptx => "nvptx",
        }
    }

    /// Bytes of a vector.
    pub(super) fn vector_bytes(self) -> usize {
        match self {
            Processor::X86(Level::V2) => 16,
            Processor::X86(Level::V3) => 32,
            Processor::X86(Level::V4) => 64,
            Processor::Neon => 16,
            Processor::Nvptx => 4,
        }
    }

    /// How many vectors the registers hold.
    pub(super) fn registers(self) -> usize {
        match self {
            Processor::X86(Level::V2 | Level::V3) => 16,
            Processor::X86(Level::V4) | Processor::Neon => 32,
            Processor::Nvptx => 255,
        }
    }

    /// What the runtime is asked for.
    pub(super) fn feature(self) -> i64 {
        match self {
            Processor::X86(level) => level.features() as i64,
            Processor::Neon | Processor::Nvptx => 0,
        }
    }

    /// The attributes of functions. No calls to the C library are made up, and large frames touch every page.
    pub(super) fn attributes(self) -> String {
        let machine = match self {
            Processor::X86(level) => {
                let bits = 8 * self.vector_bytes();
                format!(
                    "\"target-cpu\"=\"{}\" \"prefer-vector-width\"=\"{bits}\" \"min-legal-vector-width\"=\"{bits}\"",
                    level.name()
                )
            }
            Processor::Neon => "\"target-cpu\"=\"generic\"".to_string(),
            Processor::Nvptx => String::new(),
        };
        format!("nounwind {machine} \"no-builtins\" \"probe-stack\"=\"inline-asm\"")
    }
}
