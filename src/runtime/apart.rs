//! Kernels write outputs while they read inputs, in an order of their own: what a call writes shares no bytes with anything else.

use core::ops::Range;

use super::abi::*;
use super::check::{Argument, elements, slice};
use super::message::{Checked, fail, text};

/// Refuses outputs that overlap inputs, other outputs or the three memories. Indices are copied before any kernel runs.
/// All arguments were checked.
pub(crate) unsafe fn outputs_are_apart(
    context: &mut Context,
    model: &Model,
    sizes: &[i64],
    inputs: *const *const DlTensor,
    outputs: *const *const DlTensor,
    memories: &[Memory; 3],
) -> Checked {
    let (ins, outs) = unsafe { (model.inputs.get(), model.outputs.get()) };
    for k in 0..outs.len() {
        let written = unsafe { Argument::get(context, outputs, outs, k, "output")? };
        let bytes = unsafe { bytes(&written, sizes) };
        for (memory, name) in memories.iter().zip(["bound", "prepared", "workspace"]) {
            let start = memory.data as usize;
            if overlap(&bytes, &(start..start.wrapping_add(memory.bytes.max(0) as usize))) {
                return Err(fail(
                    context,
                    INVALID,
                    format_args!("output `{}` overlaps the {name} memory: it needs memory of its own", text(written.info.name)),
                ));
            }
        }
        for j in (0..ins.len()).filter(|j| ins[*j].element == REAL) {
            let read = unsafe { Argument::get(context, inputs, ins, j, "input")? };
            unsafe { refuse_overlap(context, &written, &bytes, &read, sizes)? };
        }
        for j in 0..k {
            let other = unsafe { Argument::get(context, outputs, outs, j, "output")? };
            unsafe { refuse_overlap(context, &written, &bytes, &other, sizes)? };
        }
    }
    Ok(())
}

unsafe fn refuse_overlap(
    context: &mut Context,
    written: &Argument,
    own: &Range<usize>,
    other: &Argument,
    sizes: &[i64],
) -> Checked {
    if !overlap(own, &unsafe { bytes(other, sizes) }) {
        return Ok(());
    }
    let (name, role, shared) = (text(written.info.name), other.role, text(other.info.name));
    let reason = format_args!("output `{name}` overlaps {role} `{shared}`: it needs memory of its own");
    Err(fail(context, INVALID, reason))
}

/// The addresses of a row-major tensor.
unsafe fn bytes(argument: &Argument, sizes: &[i64]) -> Range<usize> {
    let dims = unsafe { slice(argument.info.dims, argument.info.rank) };
    let size = i64::from(argument.tensor.dtype.bits) / 8;
    let n = elements(dims, sizes).unwrap_or(0) * size;
    let start = argument.data() as usize;
    start..start.wrapping_add(n as usize)
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    !a.is_empty() && !b.is_empty() && a.start < b.end && b.start < a.end
}
