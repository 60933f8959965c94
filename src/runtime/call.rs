//! Bind, prepare and call: check the arguments, fill a frame, run the stage's kernels.

use core::ptr::{null, null_mut};

use super::abi::*;
use super::apart::outputs_are_apart;
use super::check::{Argument, bytes_of, elements, preconditions, slice};
use super::layout::{MAGIC, header_words, lay_out, start};
use super::message::{Checked, fail, text};

/// The three memories of a model, aligned; null where a stage does not use one.
pub(crate) struct Memories {
    /// The start of the bound memory as the host reads it.
    pub header: *mut u8,
    pub bound: *mut u8,
    pub prepared: *mut u8,
    pub workspace: *mut u8,
}

/// The caller's arrays; null where a stage does not use one.
pub(crate) struct Arguments {
    pub inputs: *const *const DlTensor,
    pub weights: *const *const DlTensor,
    pub outputs: *const *const DlTensor,
}

fn memories<'a>(context: &mut Context, memory: *const Memory) -> Checked<&'a [Memory; 3]> {
    if memory.is_null() {
        return Err(fail(context, INVALID, format_args!("the array of memories is missing (null)")));
    }
    // SAFETY: a caller's array of memories has three entries.
    Ok(unsafe { &*memory.cast::<[Memory; 3]>() })
}

/// The sizes an instance was bound with.
pub(crate) unsafe fn bound_sizes<'a>(context: &mut Context, model: &Model, memory: &Memory) -> Checked<(*mut u8, &'a [i64])> {
    let bound = start(context, memory, "bound", header_words(model, 0) * 8)?;
    let header = bound.cast::<i64>();
    if unsafe { *header != MAGIC[0] || *header.add(1) != model.hash as i64 } {
        let reason = format_args!("the bound memory is not of `{}`: bind first", text(model.name));
        return Err(fail(context, INVALID, reason));
    }
    Ok((bound, unsafe { slice(header.add(2), model.sizes.count) }))
}

/// Fills the frame at the start of a stage's memory.
pub(crate) unsafe fn fill(context: &mut Context, model: &Model, sizes: &[i64], at: *mut i64, a: &Arguments, m: &Memories) {
    unsafe {
        *at = &raw mut *context as i64;
        for (k, n) in sizes.iter().enumerate() {
            *at.add(1 + k) = *n;
        }
        let words = at.add(1 + sizes.len());
        let offsets = m.header.cast::<i64>().add(2 + sizes.len());
        let pointer = |list: *const *const DlTensor, k: u32| {
            if list.is_null() || (*list.add(k as usize)).is_null() {
                return null_mut();
            }
            let t = &**list.add(k as usize);
            t.data.cast::<u8>().wrapping_add(t.byte_offset as usize)
        };
        for (p, place) in model.places.get().iter().enumerate() {
            let offset = *offsets.add(p) as usize;
            let address = match place.memory {
                INPUT => pointer(a.inputs, place.index),
                WEIGHT => pointer(a.weights, place.index),
                OUTPUT => pointer(a.outputs, place.index),
                BOUND => m.bound.wrapping_add(offset),
                PREPARED if !m.prepared.is_null() => m.prepared.wrapping_add(offset),
                WORKSPACE if !m.workspace.is_null() => m.workspace.wrapping_add(offset),
                _ => null_mut(),
            };
            *words.add(p) = address as i64;
        }
    }
}

/// Checks the index arguments of a kind and makes their copies.
unsafe fn copy_indices(
    context: &mut Context,
    model: &Model,
    sizes: &[i64],
    inputs: *const *const DlTensor,
    kind: u32,
    frame: *const i64,
) -> Checked {
    let infos = unsafe { model.inputs.get() };
    for k in 0..infos.len() {
        if infos[k].element != kind {
            continue;
        }
        let argument = unsafe { Argument::get(context, inputs, infos, k, "input")? };
        unsafe { argument.check(context, model.real, sizes)? };
        let (mut to, mut dtype) = (null_mut(), I64);
        for (p, place) in unsafe { model.places.get() }.iter().enumerate() {
            if place.copy_of == k as i32 && place.memory != PREPARED {
                to = unsafe { *frame.add(1 + sizes.len() + p) } as *mut u8;
                dtype = place.dtype;
            }
        }
        unsafe { argument.copy_indices(context, sizes, to, dtype)? };
    }
    Ok(())
}

/// Makes an instance of the domain.
pub(crate) unsafe fn bind(
    context: &mut Context,
    model: &Model,
    inputs: *const *const DlTensor,
    sizes: *const i64,
    memory: *const Memory,
) -> Checked {
    if sizes.is_null() && model.sizes.count > 0 {
        return Err(fail(context, INVALID, format_args!("the array of sizes is missing (null)")));
    }
    let sizes = unsafe { slice(sizes, model.sizes.count) };
    preconditions(context, model, sizes)?;
    let needed = unsafe { lay_out(context, model, sizes, None)? };
    let memory = memories(context, memory)?;
    let bound = start(context, &memory[0], "bound", needed[0])?;
    let header = bound.cast::<i64>();
    unsafe {
        *header = 0;
        *header.add(1) = model.hash as i64;
        for (k, n) in sizes.iter().enumerate() {
            *header.add(2 + k) = *n;
        }
        let places = model.places.count as usize;
        let offsets = core::slice::from_raw_parts_mut(header.add(2 + sizes.len()), places);
        offsets.fill(0);
        lay_out(context, model, sizes, Some(offsets))?;
        let frame = header.add(header_words(model, 0) as usize);
        let arguments = Arguments { inputs, weights: null(), outputs: null() };
        fill(context, model, sizes, frame, &arguments, &Memories {
            header: bound,
            bound,
            prepared: null_mut(),
            workspace: null_mut(),
        });
        copy_indices(context, model, sizes, inputs, TABLE, frame)?;
        for kernel in model.bind.get() {
            kernel(frame);
        }
        *header = MAGIC[0];
    }
    Ok(())
}

/// Makes what depends on the weights alone.
pub(crate) unsafe fn prepare(
    context: &mut Context,
    model: &Model,
    weights: *const *const DlTensor,
    memory: *const Memory,
) -> Checked {
    let memory = memories(context, memory)?;
    let (bound, sizes) = unsafe { bound_sizes(context, model, &memory[0])? };
    let needed = unsafe { lay_out(context, model, sizes, None)? };
    start(context, &memory[0], "bound", needed[0])?;
    let prepared = start(context, &memory[1], "prepared", needed[1])?;
    let infos = unsafe { model.weights.get() };
    for k in 0..infos.len() {
        unsafe { Argument::get(context, weights, infos, k, "weight")?.check(context, model.real, sizes)? };
    }
    let header = prepared.cast::<i64>();
    unsafe {
        *header = 0;
        *header.add(1) = model.hash as i64;
        for (k, n) in sizes.iter().enumerate() {
            *header.add(2 + k) = *n;
        }
        let frame = header.add(header_words(model, 1) as usize);
        let arguments = Arguments { inputs: null(), weights, outputs: null() };
        fill(context, model, sizes, frame, &arguments, &Memories {
            header: bound,
            bound,
            prepared,
            workspace: null_mut(),
        });
        for (p, place) in model.places.get().iter().enumerate() {
            if place.memory == PREPARED && place.copy_of >= 0 {
                let argument = Argument::get(context, weights, infos, place.copy_of as usize, "weight")?;
                let n = elements(slice(place.dims, place.rank), sizes).unwrap_or(0) * bytes_of(place.dtype);
                if n > 0 {
                    let to = *frame.add(1 + sizes.len() + p) as *mut u8;
                    core::ptr::copy_nonoverlapping(argument.data(), to, n as usize);
                }
            }
        }
        for kernel in model.prepare.get() {
            kernel(frame);
        }
        *header = MAGIC[1];
    }
    Ok(())
}

/// Checks that the prepared memory belongs to this instance.
pub(crate) unsafe fn check_prepared(context: &mut Context, model: &Model, sizes: &[i64], memory: &Memory) -> Checked<*mut u8> {
    let prepared = start(context, memory, "prepared", header_words(model, 1) * 8)?;
    let header = prepared.cast::<i64>();
    if unsafe { *header != MAGIC[1] || *header.add(1) != model.hash as i64 } {
        let reason = format_args!("the prepared memory is not of `{}`: prepare first", text(model.name));
        return Err(fail(context, INVALID, reason));
    }
    let places = unsafe { model.places.get() };
    let depends = places.iter().any(|p| {
        let dims = unsafe { slice(p.dims, p.rank) };
        p.memory == PREPARED && dims.iter().any(|d| d.scale != 0)
    });
    if depends && unsafe { slice(header.add(2), model.sizes.count) } != sizes {
        let reason = format_args!("the prepared memory was made for other sizes: prepare again after bind");
        return Err(fail(context, INVALID, reason));
    }
    Ok(prepared)
}

/// The real inputs and the outputs of a call.
pub(crate) unsafe fn check_arguments(
    context: &mut Context,
    model: &Model,
    sizes: &[i64],
    inputs: *const *const DlTensor,
    outputs: *const *const DlTensor,
    memory: &[Memory; 3],
) -> Checked {
    let infos = unsafe { (model.inputs.get(), model.outputs.get()) };
    for k in 0..infos.0.len() {
        if infos.0[k].element == REAL {
            unsafe { Argument::get(context, inputs, infos.0, k, "input")?.check(context, model.real, sizes)? };
        }
    }
    for k in 0..infos.1.len() {
        unsafe { Argument::get(context, outputs, infos.1, k, "output")?.check(context, model.real, sizes)? };
    }
    unsafe { outputs_are_apart(context, model, sizes, inputs, outputs, memory) }
}

/// One call.
pub(crate) unsafe fn call(
    context: &mut Context,
    model: &Model,
    inputs: *const *const DlTensor,
    outputs: *const *const DlTensor,
    memory: *const Memory,
) -> Checked {
    let memory = memories(context, memory)?;
    let (bound, sizes) = unsafe { bound_sizes(context, model, &memory[0])? };
    let prepared = unsafe { check_prepared(context, model, sizes, &memory[1])? };
    let needed = unsafe { lay_out(context, model, sizes, None)? };
    start(context, &memory[0], "bound", needed[0])?;
    start(context, &memory[1], "prepared", needed[1])?;
    let workspace = start(context, &memory[2], "workspace", needed[2])?;
    unsafe { check_arguments(context, model, sizes, inputs, outputs, memory)? };
    let frame = workspace.cast::<i64>();
    unsafe {
        fill(context, model, sizes, frame, &Arguments { inputs, weights: null(), outputs }, &Memories {
            header: bound,
            bound,
            prepared,
            workspace,
        });
        copy_indices(context, model, sizes, inputs, INDEX, frame)?;
        for kernel in model.call.get() {
            kernel(frame);
        }
    }
    Ok(())
}
