//! The code for GPUs in a library: PTX for the least architecture asked for, and machine code for each where `ptxas` is found.
//! In: a verified program. Out: bytes for the tables. `ptxas` is NVIDIA's assembler, of the CUDA toolkit or of PyPI's `nvidia-cuda-nvcc`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::codegen::Unsupported;
use crate::codegen::device::{Architecture, DeviceCode, emit};
use crate::codegen::frame::Frame;
use crate::codegen::runtime::{MAX_FRAME, MAX_WORDS};
use crate::kernel::ir::Program;
use crate::kernel::narrow::Narrow;

/// A program's code for GPUs.
#[derive(Clone, Debug)]
pub struct Device {
    pub code: DeviceCode,
    /// The least that the PTX runs on.
    pub architecture: Architecture,
    pub cubins: Vec<(Architecture, Vec<u8>)>,
}

/// What a library's part for GPUs is made for.
#[derive(Clone, Debug)]
pub struct DeviceTarget {
    /// At least one; PTX is for the least of them.
    pub architectures: Vec<Architecture>,
    /// Machine code for those named on the command line, where there is an assembler.
    pub ptxas: Option<PathBuf>,
    /// The type of the factors that tensor cores multiply; none: products as everywhere.
    pub products: Option<Narrow>,
}

/// `ptxas`, where it is found: `GDL_PTXAS`, then `CUDA_HOME`, then the PATH.
pub fn find_ptxas() -> Option<PathBuf> {
    let named = std::env::var_os("GDL_PTXAS").map(PathBuf::from);
    let toolkit = std::env::var_os("CUDA_HOME").map(|home| Path::new(&home).join("bin/ptxas"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("ptxas"));
    named.into_iter().chain(toolkit).chain(on_path).find(|file| file.is_file())
}

/// What `ptxas -v` says of a piece of PTX, and the machine code.
///
/// # Errors
/// What the assembler says.
pub fn assemble(ptxas: &Path, ptx: &str, architecture: Architecture) -> Result<(Vec<u8>, String), String> {
    // a folder that no other process and no other thread uses
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("gdlc-ptx-{}-{count}", std::process::id()));
    let io = |e: std::io::Error| format!("{}: {e}", folder.display());
    std::fs::create_dir_all(&folder).map_err(io)?;
    let (from, to) = (folder.join("kernels.ptx"), folder.join("kernels.cubin"));
    std::fs::write(&from, ptx).map_err(io)?;
    let done =
        Command::new(ptxas).arg("-v").arg(format!("-arch={architecture}")).arg(&from).arg("-o").arg(&to).output();
    let res = done.map_err(io).and_then(|done| {
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        if done.status.success() { Ok((std::fs::read(&to).map_err(io)?, said)) } else { Err(said) }
    });
    std::fs::remove_dir_all(&folder).map_err(io)?;
    res
}

impl Device {
    /// Compiles and assembles.
    ///
    /// # Errors
    /// What has no form on a GPU, by name.
    pub fn of(program: &Program, target: &DeviceTarget) -> Result<Device, Unsupported> {
        let architecture = target.architectures.iter().min().copied().unwrap_or(Architecture::LEAST);
        let code = emit(program, architecture, target.products)?;
        let n_words = 1 + program.sizes.len() + Frame::of(program).buffers().len();
        let most = code.kernels.iter().map(|k| k.words.len()).max().unwrap_or(0);
        if n_words > MAX_FRAME || most > MAX_WORDS {
            return Err(Unsupported::new(format!(
                "`{}` on a GPU: {n_words} arrays, {most} of them in one kernel; {MAX_FRAME} and {MAX_WORDS} are the most",
                program.name
            )));
        }
        let mut cubins = Vec::new();
        if let Some(ptxas) = &target.ptxas {
            for architecture in &target.architectures {
                let assembled = assemble(ptxas, &code.ptx, *architecture);
                let (bytes, _) = assembled.map_err(|why| Unsupported::new(format!("{architecture}: ptxas: {why}")))?;
                cubins.push((*architecture, bytes));
            }
        }
        Ok(Device { code, architecture, cubins })
    }
}
