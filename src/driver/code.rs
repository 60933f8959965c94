//! Which backend makes the machine code, and for which processors: from the options to what `codegen` understands.

use std::fmt;

use clap::ValueEnum as _;

use crate::codegen::device::Architecture;
use crate::codegen::{BACKENDS, Backend, Level, Target};
use crate::driver::arguments::{self, BackendName};
use crate::driver::failure::Failure;
use crate::package::device::{DeviceTarget, find_ptxas};

/// How machine code is made.
#[derive(Clone, Copy)]
pub struct Code {
    pub backend: &'static dyn Backend,
    pub target: Target,
}

impl Default for Code {
    /// The default backend, for every processor of this kind.
    fn default() -> Self {
        Code { backend: BACKENDS[0], target: Target::host() }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {:?}", self.backend.name(), self.target)
    }
}

impl Code {
    /// What the options say. Fails where this build has no such backend, or no code is made for such a processor.
    pub fn new(options: &arguments::Code) -> Result<Code, Failure> {
        Ok(Code { backend: backend(options.backend)?, target: target(&options.cpu)? })
    }
}

/// The GPUs of `--arch`, and the assembler for them. Fails on a name that is no architecture, and in a build without LLVM.
pub fn device(architectures: &[String]) -> Result<DeviceTarget, Failure> {
    let known = || Architecture::all().map(|a| a.to_string()).collect::<Vec<_>>().join(", ");
    let parse = |name: &String| {
        let unknown =
            || Failure::call(format!("--arch {name}: not an architecture that code is made for; {} are", known()));
        Architecture::parse(name).ok_or_else(unknown)
    };
    let named = architectures.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    backend(BackendName::Llvm).map_err(|_| {
        Failure::call(
            "code for GPUs is made by LLVM, and this gdlc was built without it; install LLVM 22 and build with `cargo build --release --features llvm`",
        )
    })?;
    let ptxas = if named.is_empty() { None } else { find_ptxas() };
    let architectures = if named.is_empty() { vec![Architecture::LEAST] } else { named };
    Ok(DeviceTarget { architectures, ptxas })
}

/// A backend of this build.
pub fn backend(name: BackendName) -> Result<&'static dyn Backend, Failure> {
    let value = name.to_possible_value().expect("every name is shown");
    let name = value.get_name();
    BACKENDS.iter().find(|b| b.name() == name).copied().ok_or_else(|| {
        Failure::call(format!(
            "--backend {name}: this gdlc was built without it; install LLVM 22 and build with `cargo build --release --features {name}`"
        ))
    })
}

fn target(cpu: &str) -> Result<Target, Failure> {
    let only = |level| Target::X86_64 { least: level, best: level };
    match cpu {
        "any" => Ok(Target::host()),
        "native" => native().map(only),
        "x86-64" => Err(Failure::call("--cpu x86-64: x86-64-v2 (SSE4.2) is the least that code is made for")),
        _ => Level::ALL.into_iter().find(|level| level.name() == cpu).map(only).ok_or_else(|| {
            Failure::call(format!(
                "--cpu {cpu}: not a processor that code is made for; any, native, x86-64-v2, x86-64-v3 and x86-64-v4 are"
            ))
        }),
    }
}

/// The highest level of the processor that gdlc runs on.
fn native() -> Result<Level, Failure> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::is_x86_feature_detected as has;
        let v3 = has!("avx2") && has!("fma") && has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("f16c");
        let v4 = has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl");
        if has!("sse4.2") && has!("popcnt") {
            return Ok(if v3 && v4 {
                Level::V4
            } else if v3 {
                Level::V3
            } else {
                Level::V2
            });
        }
    }
    Err(Failure::call("--cpu native: this processor is not x86-64 with SSE4.2, the least that libraries are made for"))
}
