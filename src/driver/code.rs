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
        let backend = backend(options.backend)?;
        Ok(Code { backend, target: target(&options.cpu, |target| backend.lacks(target))? })
    }

    /// The same, for a library that is then run. Fails too where that is for another kind of processor than this one.
    pub fn that_runs(options: &arguments::Code) -> Result<Code, Failure> {
        let code = Code::new(options)?;
        let here = Target::host();
        if std::mem::discriminant(&code.target) != std::mem::discriminant(&here) {
            return Err(Failure::call(format!(
                "--cpu {}: this machine is {}, and cannot run it; `gdlc build` makes the library, to be run elsewhere",
                options.cpu,
                here.architecture()
            )));
        }
        Ok(code)
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
        let what = if name.is_empty() {
            ": a name is missing"
        } else {
            &format!(" {name}: not an architecture that code is made for")
        };
        let unknown =
            || Failure::call(format!("--arch{what}; {} are there, and code for one runs on later GPUs", known()));
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

/// Why code is not made for some processors.
type Lacks<'a> = &'a dyn Fn(Target) -> Option<&'static str>;

/// The processors of `--cpu`: names with commas between. Fails where one is not known, and where `lacks` says why they have no code.
pub fn target(cpu: &str, lacks: impl Fn(Target) -> Option<&'static str>) -> Result<Target, Failure> {
    let mut named = cpu.split(',').map(|name| processor(name, &lacks));
    let first = named.next().expect("split gives a part")?;
    let all = named.try_fold(first, |all, one| {
        let mixed = "a library is for one kind of processor: build one for x86-64, one for aarch64";
        all.and(one?).ok_or_else(|| Failure::call(format!("--cpu {cpu}: {mixed}")))
    })?;
    lacks(all).map_or(Ok(all), |why| Err(Failure::call(format!("--cpu {cpu}: {why}"))))
}

/// The processors of one name.
fn processor(name: &str, lacks: Lacks<'_>) -> Result<Target, Failure> {
    let only = |level: &Level| Target::X86_64(Levels::only(*level));
    match name {
        "any" => Ok(Target::host()),
        "native" => native(lacks),
        "aarch64" => Ok(Target::Aarch64),
        "x86-64" => Err(Failure::call("--cpu x86-64: x86-64-v2 (SSE4.2) is the least that code is made for")),
        _ => Level::ALL.iter().find(|level| level.name() == name).map(only).ok_or_else(|| {
            Failure::call(format!(
                "--cpu {name}: not a processor that code is made for; any, native, x86-64-v2, x86-64-v3, x86-64-v4 and aarch64 are"
            ))
        }),
    }
}

/// The processor that gdlc runs on: the highest of its levels that there is code for.
fn native(lacks: Lacks<'_>) -> Result<Target, Failure> {
    if Target::host() == Target::Aarch64 {
        return Ok(Target::Aarch64);
    }
    let targets = Level::ALL.into_iter().rev().filter(|level| has(*level)).map(|l| Target::X86_64(Levels::only(l)));
    targets.into_iter().find(|target| lacks(*target).is_none()).ok_or_else(|| {
        Failure::call("--cpu native: this processor has no SSE4.2, the least that libraries for x86-64 are made for")
    })
}

/// Whether the processor that gdlc runs on is of a level.
fn has(level: Level) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use std::is_x86_feature_detected as has;
        let v2 = has!("sse4.2") && has!("popcnt");
        let v3 = has!("avx2") && has!("fma") && has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("f16c");
        let v4 = has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl");
        match level {
            Level::V2 => v2,
            Level::V3 => v2 && v3,
            Level::V4 => v2 && v3 && v4,
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = level;
        false
    }
}
