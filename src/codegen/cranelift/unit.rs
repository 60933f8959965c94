//! The object in the making: its functions, the constants of the program, the runtime's functions.
//! In: kernels, one by one. Out: the bytes. It does not look into statements; `emit` does.

use std::collections::BTreeMap;
use std::sync::Arc;

use cranelift_codegen::Context;
use cranelift_codegen::ir::{self, AbiParam, Signature, types};
use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataDescription, DataId, FuncId, Linkage, Module};
use cranelift_object::{ObjectBuilder, ObjectModule};

use super::Text;
use super::emit::Emitter;
use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::codegen::frame::Frame;
use crate::codegen::{Level, Object, Target, Unsupported};
use crate::kernel::ir::{Buffer, Kernel, Memory, Program};

/// An object in the making.
pub(super) struct Unit<'p> {
    pub program: &'p Program,
    pub frame: Frame,
    pub module: ObjectModule,
    constants: BTreeMap<Id<Buffer>, DataId>,
    kernels: Vec<String>,
    /// `gdl_rt_parallel(context, begin, end, cost, body, data)`
    pub parallel: FuncId,
    /// `gdl_rt_contract(context, contract)`
    pub contract: FuncId,
    /// `gdl_rt_softmax(context, step)`
    pub softmax: FuncId,
    /// Operands in memory lie on whole vectors: without AVX. Cranelift takes what a comparison reads into it all the same.
    pub aligned_operands: bool,
    n_outlined: usize,
    /// Which text of the functions is kept.
    kept: Option<Text>,
    text: String,
}

impl<'p> Unit<'p> {
    pub(super) fn new(program: &'p Program, target: Target, kept: Option<Text>) -> Self {
        let isa = isa_of(target);
        let builder = ObjectBuilder::new(isa, program.name.as_str(), cranelift_module::default_libcall_names());
        let mut builder = builder.expect("cranelift: the target is known");
        builder.per_function_section(true).per_data_object_section(true);
        let mut module = ObjectModule::new(builder);
        let (long, parallel) = (integers(&module, 2), integers(&module, 6));
        let mut import = |name: &str, signature: &Signature| {
            module.declare_function(name, Linkage::Import, signature).expect("cranelift: declared once")
        };
        let parallel = import("gdl_rt_parallel", &parallel);
        let contract = import("gdl_rt_contract", &long);
        let softmax = import("gdl_rt_softmax", &long);
        Unit {
            program,
            frame: Frame::of(program),
            module,
            constants: BTreeMap::new(),
            kernels: Vec::new(),
            parallel,
            contract,
            softmax,
            aligned_operands: matches!(target, Target::X86_64(levels) if levels.least() == Level::V2),
            n_outlined: 0,
            kept,
            text: String::new(),
        }
    }

    /// Compiles one kernel.
    pub(super) fn kernel(&mut self, number: usize, kernel: &'p Kernel) -> Result<(), Unsupported> {
        let name = format!("gdl_kernel_{number}");
        let signature = integers(&self.module, 1);
        let id = self.module.declare_function(&name, Linkage::Export, &signature).expect("cranelift: declared once");
        self.define(&format!("{name}: {}", kernel.name), id, signature, |unit, builder, params| {
            let mut emitter = Emitter::new(unit, builder, kernel, params[0]);
            emitter.body(&kernel.body)?;
            emitter.end();
            Ok(())
        })?;
        self.kernels.push(name);
        Ok(())
    }

    /// Declares and defines a function that only this object calls, of `n` integers.
    pub(super) fn outlined(
        &mut self,
        n: usize,
        emit: impl FnOnce(&mut Self, FunctionBuilder<'_>, &[ir::Value]) -> Result<(), Unsupported>,
    ) -> Result<FuncId, Unsupported> {
        let signature = integers(&self.module, n);
        let name = format!("piece_{}", self.n_outlined);
        self.n_outlined += 1;
        let id = self.module.declare_function(&name, Linkage::Local, &signature).expect("cranelift: declared once");
        self.define(&name, id, signature, emit)?;
        Ok(id)
    }

    fn define(
        &mut self,
        title: &str,
        id: FuncId,
        signature: Signature,
        emit: impl FnOnce(&mut Self, FunctionBuilder<'_>, &[ir::Value]) -> Result<(), Unsupported>,
    ) -> Result<(), Unsupported> {
        let mut context = Context::new();
        context.func.signature = signature;
        let mut builders = FunctionBuilderContext::new();
        let mut builder = FunctionBuilder::new(&mut context.func, &mut builders);
        let entry = builder.create_block();
        builder.append_block_params_for_function_params(entry);
        builder.switch_to_block(entry);
        builder.seal_block(entry);
        let params = builder.block_params(entry).to_vec();
        emit(self, builder, &params)?;
        let clif = (self.kept == Some(Text::Clif)).then(|| context.func.display().to_string());
        context.set_disasm(self.kept == Some(Text::Assembly));
        if let Err(error) = self.module.define_function(id, &mut context) {
            panic!("cranelift: {error:?}\n{}", context.func.display());
        }
        let assembly = || context.compiled_code().and_then(|code| code.vcode.clone());
        if let Some(text) = clif.or_else(assembly) {
            self.text += &format!("; {title}\n{}\n\n", text.trim_end());
        }
        Ok(())
    }

    /// The data of a constant buffer.
    pub(super) fn constant(&mut self, buffer: Id<Buffer>) -> DataId {
        if let Some(id) = self.constants.get(&buffer) {
            return *id;
        }
        let Buffer { dtype, memory, .. } = &self.program.buffers[buffer];
        let Memory::Constant(numbers) = memory else { panic!("cranelift: the buffer is not a constant") };
        let mut data = DataDescription::new();
        data.define(bytes_of(*dtype, numbers));
        data.set_align(64);
        let id = self.module.declare_anonymous_data(false, false).expect("cranelift: data can be declared");
        self.module.define_data(id, &data).expect("cranelift: data is defined once");
        self.constants.insert(buffer, id);
        id
    }

    /// The object, and the text that was kept.
    pub(super) fn finish(self) -> (Object, String) {
        let bytes = self.module.finish().emit().expect("cranelift: the object can be written");
        (Object { bytes, kernels: self.kernels }, self.text)
    }
}

fn bytes_of(dtype: Dtype, numbers: &Arc<[f64]>) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(numbers.len() * dtype.bytes() + 1);
    for x in numbers.iter() {
        match dtype {
            Dtype::F32 => bytes.extend_from_slice(&(*x as f32).to_le_bytes()),
            Dtype::F64 => bytes.extend_from_slice(&x.to_le_bytes()),
            Dtype::I32 => bytes.extend_from_slice(&(*x as i32).to_le_bytes()),
            Dtype::I64 => bytes.extend_from_slice(&(*x as i64).to_le_bytes()),
        }
    }
    if bytes.is_empty() {
        bytes.push(0);
    }
    bytes.into_boxed_slice()
}

/// The signature of a C function of `n` 64-bit integers.
pub(super) fn integers(module: &ObjectModule, n: usize) -> Signature {
    let mut signature = module.make_signature();
    signature.params = vec![AbiParam::new(types::I64); n];
    signature
}

fn isa_of(target: Target) -> OwnedTargetIsa {
    let mut flags = settings::builder();
    let set = |flags: &mut settings::Builder, name: &str, value: &str| {
        flags.set(name, value).expect("cranelift: a setting that exists");
    };
    set(&mut flags, "opt_level", "speed");
    set(&mut flags, "is_pic", "true");
    set(&mut flags, "unwind_info", "false");
    set(&mut flags, "enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" });
    set(&mut flags, "enable_probestack", "true");
    set(&mut flags, "probestack_strategy", "inline");
    let (triple, presets): (_, &[&str]) = match target {
        Target::X86_64(levels) => match levels.least() {
            Level::V2 => ("x86_64-unknown-linux-gnu", &["x86-64-v2"]),
            // The preset has AVX2 but leaves AVX out; without it, fused multiply-add would become a call.
            Level::V3 | Level::V4 => ("x86_64-unknown-linux-gnu", &["x86-64-v3", "has_avx"]),
        },
        Target::Aarch64 => ("aarch64-unknown-linux-gnu", &[]),
    };
    let mut builder = isa::lookup_by_name(triple).expect("cranelift: this build has the target");
    for preset in presets {
        builder.enable(preset).expect("cranelift: a setting that exists");
    }
    builder.finish(settings::Flags::new(flags)).expect("cranelift: the settings fit together")
}
