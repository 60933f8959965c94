//! Which backend makes the machine code, and for which processors: from the options to what `codegen` understands.

use std::fmt;

use clap::ValueEnum as _;

use crate::base::dtype::Dtype;
use crate::codegen::device::Architecture;
use crate::codegen::{BACKENDS, Backend, Level, Levels, Target};
use crate::driver::arguments::{self, BackendName, Products};
use crate::driver::failure::Failure;
use crate::kernel::narrow::Narrow;
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
        let (backend, target) = (backend(options.backend)?, target(&options.cpu)?);
        match target {
            // Its vectors have 128 bits: there is nothing more to make for the processor at hand.
            Target::X86_64(levels) if options.backend == BackendName::Cranelift && levels.least() == Level::V4 => {
                if options.cpu != "native" {
                    let why = "Cranelift's vectors have 128 bits; --backend llvm makes code for AVX-512";
                    return Err(Failure::call(format!("--cpu {}: {why}", options.cpu)));
                }
                Ok(Code { backend, target: Target::X86_64(Levels::only(Level::V3)) })
            }
            Target::X86_64(_) | Target::Aarch64 => Ok(Code { backend, target }),
        }
    }
}

/// The type of the factors that tensor cores multiply in a program of some floats.
pub fn products(products: Products, dtype: Dtype) -> Result<Option<Narrow>, Failure> {
    let narrow = match products {
        Products::Plain => return Ok(None),
        Products::Tf32 => Narrow::Tf32,
        Products::Bf16 => Narrow::Bf16,
        Products::F16 => Narrow::F16,
    };
    if dtype != Dtype::F32 {
        let why = "tensor cores sum these products in f32; leave --dtype out, or --products";
        return Err(Failure::call(format!("--products {narrow} --dtype {dtype}: {why}")));
    }
    Ok(Some(narrow))
}

/// The GPUs of `--arch`, the assembler for them, and how they multiply. Fails on a name that is no architecture, on one without such products,
/// and in a build without LLVM.
pub fn device(architectures: &[String], how: Products, dtype: Dtype) -> Result<DeviceTarget, Failure> {
    let products = products(how, dtype)?;
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
    let least = if products.is_some() { Architecture::TENSOR_CORES } else { Architecture::LEAST };
    if let (Some(narrow), Some(old)) = (products, named.iter().find(|a| **a < least)) {
        let why = format!("the tensor cores of {old} have no such products; {least} and later have them");
        return Err(Failure::call(format!("--products {narrow} --arch {old}: {why}")));
    }
    let architectures = if named.is_empty() { vec![least] } else { named };
    Ok(DeviceTarget { architectures, ptxas, products })
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

/// The processors of `--cpu`: `any`, or names with commas between.
fn target(cpu: &str) -> Result<Target, Failure> {
    if cpu == "any" {
        return Ok(Target::host());
    }
    let mut named = cpu.split(',').map(level);
    let first = Levels::only(named.next().expect("split gives a part")?);
    named.try_fold(first, |levels, level| Ok(levels.with(level?))).map(Target::X86_64)
}

fn level(cpu: &str) -> Result<Level, Failure> {
    match cpu {
        "native" => native(),
        "x86-64" => Err(Failure::call("--cpu x86-64: x86-64-v2 (SSE4.2) is the least that code is made for")),
        _ => Level::ALL.into_iter().find(|level| level.name() == cpu).ok_or_else(|| {
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
