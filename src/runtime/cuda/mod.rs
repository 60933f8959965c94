//! Calls on a GPU: the same checks, the same memory layout, kernels launched on the caller's stream in the caller's context.
//! The memories are five: bound, prepared and workspace on the GPU, then what bind and prepare keep of the first two for the host.
//! Bind runs on the host and is copied over; prepare and call launch kernels, allocate nothing and wait for nothing.

mod driver;
mod modules;
mod run;

use core::ffi::c_void;
use core::ptr::{null, null_mut};

use super::abi::*;
use super::call::{self, Arguments, Memories, bound_sizes, check_arguments, check_prepared, fill};
use super::check::{Argument, bytes_of, elements, eval, preconditions, slice};
use super::layout::{ALIGN, MAGIC, frame_words, header_words, lay_out, start};
use super::message::{Checked, Failed, fail, text};
use driver::{Driver, Kernel};
use modules::Module;

/// Blocks of a grid at most; kernels are right for any number.
const MOST_BLOCKS: i64 = (1 << 31) - 1;
/// Threads of a block that checks indices.
const CHECKERS: i64 = 256;

/// A call under way.
struct Work<'a> {
    context: &'a mut Context,
    /// The number of the GPU, or [`OF_STREAM`].
    device: i32,
    stream: *mut c_void,
    model: &'a Model,
    cuda: &'a Cuda,
    driver: Driver,
}

/// Runs `work` with the driver open and the current context's GPU being the one that the caller named, or in a context that
/// the driver enters for it.
unsafe fn on_gpu(
    context: *mut CudaContext,
    model: *const Model,
    work: impl FnOnce(&mut Work<'_>, u64, i64) -> Checked,
) -> i32 {
    let (outer, model) = unsafe { (&mut *context, &*model) };
    let (device, stream) = (outer.device, outer.stream);
    let context = &mut outer.context;
    let begin = || -> Checked {
        let driver = driver::open(context)?;
        let entered = unsafe { driver.enter(context, device.id, stream)? };
        let done = unsafe { in_current(context, model, driver, (device.id, stream), work) };
        unsafe { driver.leave(entered) };
        done
    };
    match begin() {
        Ok(()) => OK,
        Err(Failed(status)) => status,
    }
}

/// Runs `work` in the current context.
unsafe fn in_current(
    context: &mut Context,
    model: &Model,
    driver: Driver,
    (device, stream): (i32, *mut c_void),
    work: impl FnOnce(&mut Work<'_>, u64, i64) -> Checked,
) -> Checked {
    let (_, id) = unsafe { driver.current(context)? };
    let (current, capability) = unsafe { driver.device(context)? };
    if device != OF_STREAM && current != device {
        let reason = format_args!(
            "the CUDA context that is current is of device {current}, not {device}: make that device current (cudaSetDevice), or name {current} in the context"
        );
        return Err(fail(context, INVALID, reason));
    }
    // SAFETY: the entry points come here only where the model has it.
    let cuda = unsafe { &*model.cuda };
    work(&mut Work { context, device, stream, model, cuda, driver }, id, capability)
}

/// The caller's five memories.
fn memories<'a>(context: &mut Context, memory: *const Memory) -> Checked<&'a [Memory; 5]> {
    if memory.is_null() {
        return Err(fail(context, INVALID, format_args!("the array of memories is missing (null)")));
    }
    // SAFETY: with a CUDA context the array has five entries.
    Ok(unsafe { &*memory.cast::<[Memory; 5]>() })
}

/// The bytes of the five memories: the host's part of the first is all of it, of the second the beginning.
unsafe fn needed(context: &mut Context, model: &Model, sizes: &[i64]) -> Checked<[i64; 5]> {
    let [bound, prepared, workspace] = unsafe { lay_out(context, model, sizes, None)? };
    Ok([bound, prepared, workspace, bound, (header_words(model, 1) + 1) * 8 + ALIGN])
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_cuda_memory(
    context: *mut CudaContext,
    model: *const Model,
    sizes: *const i64,
    memory: *mut Memory,
) -> i32 {
    let (context, model) = unsafe { (&mut (*context).context, &*model) };
    let mut work = || {
        let sizes = unsafe { slice(sizes, model.sizes.count) };
        preconditions(context, model, sizes)?;
        for (m, n) in unsafe { needed(context, model, sizes)? }.into_iter().enumerate() {
            unsafe { (*memory.add(m)).bytes = n };
        }
        Ok(())
    };
    match work() {
        Ok(()) => OK,
        Err(Failed(status)) => status,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_cuda_bind(
    context: *mut CudaContext,
    model: *const Model,
    inputs: *const *const DlTensor,
    sizes: *const i64,
    memory: *const Memory,
) -> i32 {
    unsafe {
        on_gpu(context, model, |work, id, capability| work.bind(id, capability, inputs, sizes, memory))
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_cuda_prepare(
    context: *mut CudaContext,
    model: *const Model,
    weights: *const *const DlTensor,
    memory: *const Memory,
) -> i32 {
    unsafe { on_gpu(context, model, |work, id, _| work.prepare(id, weights, memory)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_cuda_call(
    context: *mut CudaContext,
    model: *const Model,
    inputs: *const *const DlTensor,
    outputs: *const *const DlTensor,
    memory: *const Memory,
) -> i32 {
    unsafe { on_gpu(context, model, |work, id, _| work.call(id, inputs, outputs, memory)) }
}

/// All in one, in memory that is lent for it; without a lender in memory of its own, and then it waits for the results.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_cuda_run(
    context: *mut CudaContext,
    model: *const Model,
    inputs: *const *const DlTensor,
    weights: *const *const DlTensor,
    outputs: *const *const DlTensor,
    lender: *const Lender,
) -> i32 {
    let given = run::Given { inputs, weights, outputs };
    unsafe { on_gpu(context, model, |work, id, capability| work.run((id, capability), given, lender)) }
}

impl Work<'_> {
    /// The model's kernels in the current context.
    fn module(&mut self, id: u64) -> Checked<&'static Module> {
        modules::find(self.model, id).ok_or_else(|| {
            let name = text(self.model.name);
            fail(self.context, INVALID, format_args!("`{name}` was not bound in the current CUDA context: bind first"))
        })
    }

    unsafe fn bind(
        &mut self,
        id: u64,
        capability: i64,
        inputs: *const *const DlTensor,
        sizes: *const i64,
        memory: *const Memory,
    ) -> Checked {
        let memory = memories(self.context, memory)?;
        unsafe {
            modules::load(self.driver, self.context, self.model, self.cuda, id, capability)?;
            let host = [memory[3], memory[4], Memory { data: null_mut(), bytes: 0 }];
            call::bind(self.context, self.model, inputs, sizes, host.as_ptr())?;
            let sizes = slice(sizes, self.model.sizes.count);
            let bytes = needed(self.context, self.model, sizes)?;
            let from = start(self.context, &memory[3], "bound", bytes[3])?;
            let to = start(self.context, &memory[0], "bound (on the GPU)", bytes[0])?;
            self.driver.copy_from_host(self.context, to, from, bytes[0] - ALIGN, self.stream)
        }
    }

    unsafe fn prepare(&mut self, id: u64, weights: *const *const DlTensor, memory: *const Memory) -> Checked {
        let memory = memories(self.context, memory)?;
        let module = self.module(id)?;
        unsafe {
            let (header, sizes) = bound_sizes(self.context, self.model, &memory[3])?;
            let bytes = needed(self.context, self.model, sizes)?;
            let bound = start(self.context, &memory[0], "bound (on the GPU)", bytes[0])?;
            let prepared = start(self.context, &memory[1], "prepared (on the GPU)", bytes[1])?;
            let host = start(self.context, &memory[4], "prepared", bytes[4])?.cast::<i64>();
            let infos = self.model.weights.get();
            for k in 0..infos.len() {
                Argument::get(self.context, weights, infos, k, "weight")?.check(self.context, self.model.real, sizes)?;
            }
            *host = 0;
            *host.add(1) = self.model.hash as i64;
            for (k, n) in sizes.iter().enumerate() {
                *host.add(2 + k) = *n;
            }
            *host.add(header_words(self.model, 1) as usize) = prepared as i64;
            let mut frame = [0i64; MAX_FRAME];
            let arguments = Arguments { inputs: null(), weights, outputs: null() };
            let memories = Memories { header, bound, prepared, workspace: null_mut() };
            fill(self.context, self.model, sizes, frame.as_mut_ptr(), &arguments, &memories);
            for (p, place) in self.model.places.get().iter().enumerate() {
                if place.memory == PREPARED && place.copy_of >= 0 {
                    let argument = Argument::get(self.context, weights, infos, place.copy_of as usize, "weight")?;
                    let n = elements(slice(place.dims, place.rank), sizes).unwrap_or(0) * bytes_of(place.dtype);
                    if n > 0 {
                        let to = frame[1 + sizes.len() + p] as *mut u8;
                        self.driver.copy(self.context, to, argument.data(), n, self.stream)?;
                    }
                }
            }
            self.launch_all(self.cuda.prepare.get(), module.prepare(), sizes, &mut frame)?;
            *host = MAGIC[1];
        }
        Ok(())
    }

    unsafe fn call(
        &mut self,
        id: u64,
        inputs: *const *const DlTensor,
        outputs: *const *const DlTensor,
        memory: *const Memory,
    ) -> Checked {
        let memory = memories(self.context, memory)?;
        let module = self.module(id)?;
        unsafe {
            let (header, sizes) = bound_sizes(self.context, self.model, &memory[3])?;
            let host = check_prepared(self.context, self.model, sizes, &memory[4])?.cast::<i64>();
            let bytes = needed(self.context, self.model, sizes)?;
            let bound = start(self.context, &memory[0], "bound (on the GPU)", bytes[0])?;
            let prepared = start(self.context, &memory[1], "prepared (on the GPU)", bytes[1])?;
            let workspace = start(self.context, &memory[2], "workspace (on the GPU)", bytes[2])?;
            if *host.add(header_words(self.model, 1) as usize) != prepared as i64 {
                let reason = format_args!("the prepared memory on the GPU is not the one that prepare filled");
                return Err(fail(self.context, INVALID, reason));
            }
            let device = [memory[0], memory[1], memory[2]];
            check_arguments(self.context, self.model, sizes, inputs, outputs, &device)?;
            let mut frame = [0i64; MAX_FRAME];
            let arguments = Arguments { inputs, weights: null(), outputs };
            let memories = Memories { header, bound, prepared, workspace };
            fill(self.context, self.model, sizes, frame.as_mut_ptr(), &arguments, &memories);
            self.check_indices(module, sizes, inputs, &frame)?;
            self.launch_all(self.cuda.call.get(), module.call(), sizes, &mut frame)
        }
    }

    /// Checks the indices that the call brings and makes their copies, in the stream's order: one outside its range stops the GPU.
    unsafe fn check_indices(
        &mut self,
        module: &Module,
        sizes: &[i64],
        inputs: *const *const DlTensor,
        frame: &[i64],
    ) -> Checked {
        let infos = unsafe { self.model.inputs.get() };
        for (p, place) in unsafe { self.model.places.get() }.iter().enumerate() {
            let of = place.copy_of;
            if place.memory != WORKSPACE || of < 0 || infos[of as usize].element != INDEX {
                continue;
            }
            unsafe {
                let argument = Argument::get(self.context, inputs, infos, of as usize, "input")?;
                argument.check(self.context, self.model.real, sizes)?;
                let n = elements(slice(place.dims, place.rank), sizes).unwrap_or(0);
                let range = eval(&argument.info.range, sizes).unwrap_or(0);
                let mut words = [argument.data() as i64, n, range, frame[1 + sizes.len() + p]];
                let mut pointers = words.each_mut().map(|word| (word as *mut i64).cast::<c_void>());
                if n > 0 {
                    let kernel = module.check(argument.tensor.dtype.bits == 64);
                    let grid = (((n + CHECKERS - 1) / CHECKERS).min(MOST_BLOCKS) as u32, CHECKERS as u32);
                    let name = text(argument.info.name);
                    self.driver.launch(self.context, name, kernel, grid, self.stream, pointers.as_mut_ptr())?;
                }
            }
        }
        Ok(())
    }

    /// Launches kernels one after the other; one without blocks has nothing to do.
    unsafe fn launch_all(
        &mut self,
        launches: &[Launch],
        kernels: &[Kernel],
        sizes: &[i64],
        frame: &mut [i64; MAX_FRAME],
    ) -> Checked {
        debug_assert!(frame_words(self.model) as usize <= MAX_FRAME);
        let mut pointers = [null_mut::<c_void>(); MAX_WORDS];
        for (launch, kernel) in launches.iter().zip(kernels) {
            unsafe {
                for (pointer, word) in pointers.iter_mut().zip(launch.words.get()) {
                    *pointer = (&raw mut frame[*word as usize]).cast();
                }
                let n = elements(launch.sizes.get(), sizes).unwrap_or(MOST_BLOCKS);
                let tiles = n / launch.tile + i64::from(n % launch.tile != 0);
                let blocks = tiles.saturating_mul(launch.times).min(MOST_BLOCKS);
                if blocks > 0 {
                    let grid = (blocks as u32, launch.threads as u32);
                    let (name, arguments) = (text(launch.name), pointers.as_mut_ptr());
                    self.driver.launch(self.context, name, *kernel, grid, self.stream, arguments)?;
                }
            }
        }
        Ok(())
    }
}
