//! Text → object, by LLVM: it reads the module, optimises it, and writes machine code.
//! Of its passes those that make vectors are off: vectors are written by `emit`.

use inkwell::OptimizationLevel;
use inkwell::context::Context;
use inkwell::memory_buffer::MemoryBuffer;
use inkwell::passes::PassBuilderOptions;
use inkwell::targets::{
    CodeModel, FileType, InitializationConfig, RelocMode, Target as Machines, TargetMachine, TargetTriple,
};

use super::processor::triple;
use super::{Module, device_module, module};
use crate::codegen::device::{Architecture, DeviceCode};
use crate::codegen::{Backend, Object, Target, Unsupported};
use crate::kernel::ir::Program;
use crate::kernel::narrow::Narrow;

/// The backend for speed.
#[derive(Clone, Copy, Debug)]
pub struct Llvm;

impl Backend for Llvm {
    fn name(&self) -> &'static str {
        "llvm"
    }

    fn lacks(&self, _: Target) -> Option<&'static str> {
        None
    }

    fn emit(&self, program: &Program, target: Target) -> Result<Object, Unsupported> {
        Ok(object(&module(program, target)?, target))
    }

    fn assembly(&self, program: &Program, target: Target) -> Result<String, Unsupported> {
        let module = module(program, target)?;
        Ok(String::from_utf8_lossy(&assemble(&module, target, FileType::Assembly)).into_owned())
    }
}

/// The object of a module.
pub fn object(module: &Module, target: Target) -> Object {
    Object { bytes: assemble(module, target, FileType::Object), kernels: module.kernels.clone() }
}

/// The kernels of prepare and call as PTX for an architecture and all later ones.
///
/// # Errors
/// What has no form on a GPU, by name.
pub fn device_code(
    program: &Program,
    architecture: Architecture,
    products: Option<Narrow>,
) -> Result<DeviceCode, Unsupported> {
    let module = device_module(program, products)?;
    Machines::initialize_nvptx(&InitializationConfig::default());
    let version = format!("+ptx{}", architecture.ptx_version());
    let machine = machine_for("nvptx64-nvidia-cuda", &architecture.to_string(), &version);
    let ptx = run(&module.text, &machine, FileType::Assembly);
    Ok(DeviceCode { ptx: String::from_utf8_lossy(&ptx).into_owned(), kernels: module.kernels })
}

fn assemble(module: &Module, target: Target, kind: FileType) -> Vec<u8> {
    run(&module.text, &machine(target), kind)
}

/// Panics where LLVM does not accept the module: the text is ours.
fn run(text: &str, machine: &TargetMachine, kind: FileType) -> Vec<u8> {
    let context = Context::create();
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    let buffer = MemoryBuffer::create_from_memory_range_copy(&bytes, "gdlc");
    let parsed = match context.create_module_from_ir(buffer) {
        Ok(parsed) => parsed,
        Err(why) => panic!("llvm: {}\n{text}", why.to_string()),
    };
    if cfg!(debug_assertions)
        && let Err(why) = parsed.verify()
    {
        panic!("llvm: {}\n{text}", why.to_string());
    }
    let options = PassBuilderOptions::create();
    options.set_loop_vectorization(false);
    options.set_loop_slp_vectorization(false);
    options.set_loop_interleaving(false);
    parsed.run_passes("default<O3>", machine, options).expect("llvm: the passes exist");
    let bytes = machine.write_to_memory_buffer(&parsed, kind).expect("llvm: the module can be written");
    bytes.as_slice().to_vec()
}

fn machine(target: Target) -> TargetMachine {
    let config = InitializationConfig::default();
    match target {
        Target::X86_64(_) => Machines::initialize_x86(&config),
        Target::Aarch64 => Machines::initialize_aarch64(&config),
    }
    // The processor is an attribute of each function.
    machine_for(triple(target), "", "")
}

fn machine_for(triple: &str, cpu: &str, features: &str) -> TargetMachine {
    let triple = TargetTriple::create(triple);
    let machines = Machines::from_triple(&triple).expect("llvm: the triple is known");
    let level = OptimizationLevel::Aggressive;
    let machine = machines.create_target_machine(&triple, cpu, features, level, RelocMode::PIC, CodeModel::Small);
    machine.expect("llvm: this build has the target")
}
