//! The LLVM backend: kernels become functions over a frame, with vectors as wide as the processor's and fused multiply-add;
//! contractions call the runtime. In: a verified program. Out: text in LLVM's language, which needs no LLVM, and with the feature
//! `llvm` an ELF object made from it.
//!
//! Vector loops are written as vectors here; of LLVM's passes those that make vectors by themselves are off.
//! For a target of two levels every kernel is there twice, and chooses when it is called.
//!
//! Reading order: `text` (the language), `processor`, `unit` (the module), `emit` (statements), `value` (what an expression became),
//! `expr`, `memory`, `local`, `loops`, `outline` (pieces of loops as functions), `prefetch`, `contract`, `nvptx` (what GPUs do otherwise),
//! `tensor_core`,
//! `assemble` (text to object or PTX).

#[cfg(feature = "llvm")]
mod assemble;
mod contract;
mod emit;
mod expr;
mod interleaved;
mod local;
mod loops;
mod memory;
mod nvptx;
mod outline;
mod prefetch;
mod processor;
mod tensor_core;
mod text;
mod unit;
mod value;

use crate::codegen::device::DeviceKernel;
use crate::codegen::{Target, Unsupported};
use crate::kernel::gpu;
use crate::kernel::ir::Program;
use crate::kernel::narrow::Narrow;
use crate::kernel::pass::legalize::legalize;
use crate::kernel::verify::verify;

/// A program in LLVM's language, before LLVM has seen it.
#[derive(Clone, Debug)]
pub struct Module {
    pub text: String,
    /// The symbol of each kernel, in the program's order.
    pub kernels: Vec<String>,
}

/// Writes a verified program in LLVM's language.
///
/// # Errors
/// What the backend cannot do, by name.
pub fn module(program: &Program, target: Target) -> Result<Module, Unsupported> {
    let mut written_out = program.clone();
    legalize(&mut written_out);
    let program = &written_out;
    let processors = processor::processors(target);
    let mut unit = unit::Unit::new(program);
    let mut kernels = Vec::new();
    for (number, kernel) in program.kernels.iter().enumerate() {
        kernels.push(unit.kernel(number, kernel, &processors)?);
    }
    Ok(Module { text: unit.finish(target), kernels })
}

/// A program for GPUs in LLVM's language.
#[derive(Clone, Debug)]
pub struct DeviceModule {
    pub text: String,
    pub kernels: Vec<DeviceKernel>,
}

/// Writes the kernels of prepare and call of a verified program for GPUs.
///
/// # Errors
/// What has no form there, by name.
pub fn device_module(program: &Program, products: Option<Narrow>) -> Result<DeviceModule, Unsupported> {
    let mut written_out = program.clone();
    legalize(&mut written_out);
    let spread = gpu::spread(&written_out, products).map_err(Unsupported::new)?;
    if let Err(why) = verify(&spread.program) {
        panic!("gpu: the program spread over threads is ill-formed: {why}");
    }
    let mut unit = unit::Unit::new(&spread.program);
    let mut kernels = Vec::new();
    for (number, (kernel, launch)) in spread.program.kernels.iter().zip(&spread.launches).enumerate() {
        let symbol = format!("gdl_kernel_{number}");
        let words = unit.device_kernel(&symbol, kernel, launch)?;
        kernels.push(DeviceKernel { stage: kernel.stage, symbol, words, launch: launch.clone() });
    }
    unit.device_checks();
    Ok(DeviceModule { text: unit.finish_device(), kernels })
}

#[cfg(feature = "llvm")]
pub use assemble::{Llvm, device_code, object};
