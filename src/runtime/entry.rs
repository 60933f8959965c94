//! The entry points, one set for all models: a library's own symbols add the model as the last argument and jump here.

use core::ptr::{null, null_mut};

use super::abi::*;
use super::call;
use super::check::{device, present, size_the_rest, solve};
use super::cpu;
use super::instance::{Location, Origin};
use super::layout::lay_out;
use super::message::{Checked, Failed, fail, text};

/// More run-time sizes than any program has; they live on the stack.
pub(crate) const MAX_SIZES: usize = 256;

/// Runs `work` with the caller's context, or with one of its own where none is given; an empty message means success.
unsafe fn guarded(context: *mut Context, model: *const Model, work: impl FnOnce(&mut Context, &Model) -> Checked) -> i32 {
    let mut own = Context { version: VERSION, threads: 0, parallel_for: None, host: null_mut(), message: [0; 512] };
    let context = unsafe { context.as_mut() }.unwrap_or(&mut own);
    let model = unsafe { &*model };
    if context.version != VERSION && context.version != VERSION_CUDA {
        let given = context.version;
        return fail(context, INVALID, format_args!("the context has version {given}, and needs {VERSION}")).0;
    }
    context.message[0] = 0;
    match supported(context, model).and_then(|()| work(context, model)) {
        Ok(()) => OK,
        Err(Failed(status)) => status,
    }
}

/// A call that computes on a GPU: the context with what is known of the GPU, and the model's part for it.
unsafe fn on_gpu<'a>(context: &mut Context, model: &'a Model) -> Option<(*mut CudaContext, &'a Cuda)> {
    let there = device(context).kind == CUDA;
    // SAFETY: such a context begins a `CudaContext`; `supported` has seen that the model has the part.
    there.then(|| unsafe { ((&raw mut *context).cast(), &*model.cuda) })
}

fn status(status: i32) -> Checked {
    if status == OK { Ok(()) } else { Err(Failed(status)) }
}

/// The library has code for the device of the context, and this processor has the instructions that it was built for.
fn supported(context: &mut Context, model: &Model) -> Checked {
    let kind = device(context).kind;
    let name = text(model.name);
    if kind != CPU && kind != CUDA {
        let reason = format_args!("the context names device {kind}; {CPU} (CPU) and {CUDA} (CUDA) are");
        return Err(fail(context, INVALID, reason));
    }
    if kind == CUDA && model.cuda.is_null() {
        let reason = format_args!("`{name}` was built for the CPU alone: build it with `gdlc build --target cuda`");
        return Err(fail(context, UNSUPPORTED, reason));
    }
    if cpu::has(model.features) {
        return Ok(());
    }
    let missing = cpu::missing();
    let needed = match model.features {
        wide if wide & FEATURE_AVX512 != 0 => "AVX-512 (x86-64-v4)",
        middle if middle & FEATURE_V3 != 0 => "AVX2 and FMA (x86-64-v3)",
        _ => "SSE4.2 (x86-64-v2)",
    };
    let hint = match model.features {
        wide if wide & FEATURE_AVX512 != 0 && cpu::has(FEATURE_V3) => ": build it with `--cpu x86-64-v3`",
        middle if middle & FEATURE_V3 != 0 && cpu::has(FEATURE_V2) => ": build it with `--cpu x86-64-v2`",
        _ => "",
    };
    let reason = format_args!("`{name}` was built for processors with {needed}; this one lacks {missing}{hint}");
    Err(fail(context, UNSUPPORTED, reason))
}

/// Finds the run-time sizes from the shapes of the inputs; those that follow from none are left -1, for the caller to set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_sizes(
    context: *mut Context,
    inputs: *const *const DlTensor,
    sizes: *mut i64,
    model: *const Model,
) -> i32 {
    let work = |context: &mut Context, model: &Model| {
        let mut found = [0i64; MAX_SIZES];
        let n = model.sizes.count as usize;
        if sizes.is_null() && n > 0 {
            return Err(fail(context, INVALID, format_args!("the array for the sizes is missing (null)")));
        }
        unsafe {
            solve(context, model, inputs, core::ptr::null(), &mut found[..n])?;
            core::ptr::copy_nonoverlapping(found.as_ptr(), sizes, n);
        }
        Ok(())
    };
    unsafe { guarded(context, model, work) }
}

/// Fills in the bytes that the three memories need.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_memory(
    context: *mut Context,
    sizes: *const i64,
    memory: *mut Memory,
    model: *const Model,
) -> i32 {
    let work = |context: &mut Context, model: &Model| {
        if memory.is_null() || (sizes.is_null() && model.sizes.count > 0) {
            return Err(fail(context, INVALID, format_args!("the array of sizes or memories is missing (null)")));
        }
        if let Some((context, cuda)) = unsafe { on_gpu(context, model) } {
            return status(unsafe { (cuda.memory_fn)(context, model, sizes, memory) });
        }
        let sizes = unsafe { super::check::slice(sizes, model.sizes.count) };
        super::check::preconditions(context, model, sizes)?;
        let bytes = unsafe { lay_out(context, model, sizes, None)? };
        for (m, n) in bytes.into_iter().enumerate() {
            unsafe { (*memory.add(m)).bytes = n };
        }
        Ok(())
    };
    unsafe { guarded(context, model, work) }
}

/// Makes an instance of the domain in `memory[0]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_bind(
    context: *mut Context,
    inputs: *const *const DlTensor,
    sizes: *const i64,
    memory: *const Memory,
    model: *const Model,
) -> i32 {
    let work = |context: &mut Context, model: &Model| unsafe {
        match on_gpu(context, model) {
            Some((context, cuda)) => status((cuda.bind_fn)(context, model, inputs, sizes, memory)),
            None => call::bind(context, model, inputs, sizes, memory),
        }
    };
    unsafe { guarded(context, model, work) }
}

/// Prepares the weights in `memory[1]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_prepare(
    context: *mut Context,
    weights: *const *const DlTensor,
    memory: *const Memory,
    model: *const Model,
) -> i32 {
    let work = |context: &mut Context, model: &Model| unsafe {
        match on_gpu(context, model) {
            Some((context, cuda)) => status((cuda.prepare_fn)(context, model, weights, memory)),
            None => call::prepare(context, model, weights, memory),
        }
    };
    unsafe { guarded(context, model, work) }
}

/// Computes the outputs; scratch is `memory[2]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_call(
    context: *mut Context,
    inputs: *const *const DlTensor,
    outputs: *const *const DlTensor,
    memory: *const Memory,
    model: *const Model,
) -> i32 {
    let work = |context: &mut Context, model: &Model| unsafe {
        match on_gpu(context, model) {
            Some((context, cuda)) => status((cuda.call_fn)(context, model, inputs, outputs, memory)),
            None => call::call(context, model, inputs, outputs, memory),
        }
    };
    unsafe { guarded(context, model, work) }
}

/// All in one, with memory of its own: sizes; bind and prepare where they are not done already for the same tables and weights; call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_run(
    context: *mut Context,
    inputs: *const *const DlTensor,
    weights: *const *const DlTensor,
    outputs: *const *const DlTensor,
    model: *const Model,
) -> i32 {
    let work = |context: &mut Context, model: &Model| unsafe {
        match on_gpu(context, model) {
            Some((context, cuda)) => status((cuda.run_fn)(context, model, inputs, weights, outputs, null())),
            None => run(context, model, inputs, weights, outputs),
        }
    };
    unsafe { guarded(context, model, work) }
}

/// As [`gdl_rt_run`], for the entries of hosts; on a GPU in memory that the host lends, and without waiting.
pub(crate) unsafe fn checked_run(
    context: &mut Context,
    model: &Model,
    inputs: *const *const DlTensor,
    weights: *const *const DlTensor,
    outputs: *const *const DlTensor,
    lender: *const Lender,
) -> Checked {
    supported(context, model)?;
    unsafe {
        match on_gpu(context, model) {
            Some((context, cuda)) => status((cuda.run_fn)(context, model, inputs, weights, outputs, lender)),
            None => run(context, model, inputs, weights, outputs),
        }
    }
}

unsafe fn run(
    context: &mut Context,
    model: &Model,
    inputs: *const *const DlTensor,
    weights: *const *const DlTensor,
    outputs: *const *const DlTensor,
) -> Checked {
    let mut sizes = [0i64; MAX_SIZES];
    let sizes = &mut sizes[..model.sizes.count as usize];
    unsafe {
        present(context, model, inputs)?;
        solve(context, model, inputs, outputs, sizes)?;
        size_the_rest(context, model, inputs, sizes)?;
        super::check::preconditions(context, model, sizes)?;
        Origin { model, sizes, inputs, weights, location: Location::Cpu }.run(context, outputs)
    }
}
