//! Code for GPUs: what a library needs to launch a program's kernels, and the architectures there are.
//! In: a verified program. Out: PTX, and for each kernel of prepare and call the shape of its launch. Assembling it is the packaging's matter.

use std::fmt;

use crate::codegen::Unsupported;
use crate::kernel::gpu::Launch;
use crate::kernel::ir::{Program, Stage};
use crate::kernel::narrow::Narrow;

/// A compute capability, `sm_80` being 80.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Architecture(pub u32);

/// The architectures that code is made for, with the least version of PTX that knows each.
const KNOWN: &[(u32, u32)] = &[
    (75, 63),
    (80, 70),
    (86, 71),
    (87, 74),
    (89, 78),
    (90, 78),
    (100, 86),
    (103, 88),
    (110, 90),
    (120, 87),
    (121, 88),
];

impl Architecture {
    /// The least that code is made for.
    pub const LEAST: Architecture = Architecture(KNOWN[0].0);

    /// The least whose tensor cores multiply tf32, bf16 and f16 with sums in f32, in tiles of 16 rows.
    pub const TENSOR_CORES: Architecture = Architecture(80);

    /// Every architecture that code is made for.
    pub fn all() -> impl Iterator<Item = Architecture> {
        KNOWN.iter().map(|(number, _)| Architecture(*number))
    }

    /// The architecture of a name such as `sm_80`.
    pub fn parse(name: &str) -> Option<Architecture> {
        let number: u32 = name.strip_prefix("sm_")?.parse().ok()?;
        Architecture::all().find(|a| a.0 == number)
    }

    /// The least version of PTX that knows it, `7.0` being 70.
    pub fn ptx_version(self) -> u32 {
        KNOWN.iter().find(|(number, _)| *number == self.0).map_or(KNOWN[0].1, |(_, version)| *version)
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}", self.0)
    }
}

/// A program for GPUs.
#[derive(Clone, Debug)]
pub struct DeviceCode {
    pub ptx: String,
    /// In the order of their launches.
    pub kernels: Vec<DeviceKernel>,
}

/// One kernel of it.
#[derive(Clone, Debug)]
pub struct DeviceKernel {
    pub stage: Stage,
    /// Its name in the PTX.
    pub symbol: String,
    /// The words of the frame it takes as arguments, in order.
    pub words: Vec<usize>,
    pub launch: Launch,
}

/// Compiles the kernels of prepare and call for an architecture and all later ones; with `products`, tensor cores multiply factors rounded to
/// that type.
///
/// # Errors
/// What cannot be done, by name: a kernel that a GPU has no room for, products that an architecture does not have, or a build without LLVM.
pub fn emit(
    program: &Program,
    architecture: Architecture,
    products: Option<Narrow>,
) -> Result<DeviceCode, Unsupported> {
    if let Some(narrow) = products
        && architecture < Architecture::TENSOR_CORES
    {
        let least = Architecture::TENSOR_CORES;
        return Err(Unsupported::new(format!("products in {narrow} on {architecture}: {least} and later have them")));
    }
    #[cfg(feature = "llvm")]
    {
        super::llvm::device_code(program, architecture, products)
    }
    #[cfg(not(feature = "llvm"))]
    {
        let _ = (program, architecture);
        Err(Unsupported::new(
            "CUDA without LLVM: install LLVM 22 and build with `cargo build --release --features llvm`",
        ))
    }
}
