//! Where buffers lie in the caller's three memories: a header, a frame, then the slots, each 64-byte aligned.
//! Sizes are known at run time only, so this is computed at bind and kept in the header of the bound memory.

use super::abi::*;
use super::check::{bytes_of, elements, slice};
use super::message::{Checked, fail, text};

/// Slots begin at multiples of it; also the room that aligning a caller's pointer may take.
pub(crate) const ALIGN: i64 = 64;
/// The first word of a header that has been written, by memory.
pub(crate) const MAGIC: [i64; 2] = [0x67_64_6c_62_6f_75_6e_64, 0x67_64_6c_70_72_65_70_64];
const LIMIT: i64 = 1 << 56;

/// The words before the frame: magic, hash, sizes, and for the bound memory the offset of every place.
pub(crate) fn header_words(model: &Model, memory: usize) -> i64 {
    match memory {
        0 => 2 + model.sizes.count + model.places.count,
        1 => 2 + model.sizes.count,
        _ => 0,
    }
}

/// `[context, sizes.., places..]`
pub(crate) fn frame_words(model: &Model) -> i64 {
    1 + model.sizes.count + model.places.count
}

fn align(n: i64) -> i64 {
    (n + ALIGN - 1) & !(ALIGN - 1)
}

/// Writes the offset of every place that lives in a memory (where `offsets` is given), and the bytes each memory needs.
pub(crate) unsafe fn lay_out(
    context: &mut Context,
    model: &Model,
    sizes: &[i64],
    mut offsets: Option<&mut [i64]>,
) -> Checked<[i64; 3]> {
    let mut end = [0i64; 3];
    for (m, end) in end.iter_mut().enumerate() {
        *end = align((header_words(model, m) + frame_words(model)) * 8);
    }
    let (places, members) = unsafe { (model.places.get(), model.members.get()) };
    for slot in unsafe { model.slots.get() } {
        let memory = (slot.memory - BOUND) as usize;
        let mut most = 0i64;
        for &p in &members[slot.first as usize..(slot.first + slot.count) as usize] {
            let place = &places[p as usize];
            let Some(n) = elements(unsafe { slice(place.dims, place.rank) }, sizes) else {
                return Err(fail(context, INVALID, format_args!("`{}`: these sizes are too large", text(model.name))));
            };
            most = most.max(n * bytes_of(place.dtype));
            if let Some(offsets) = offsets.as_deref_mut() {
                offsets[p as usize] = end[memory];
            }
        }
        end[memory] += align(most);
        if end[memory] > LIMIT {
            return Err(fail(context, INVALID, format_args!("`{}`: these sizes are too large", text(model.name))));
        }
    }
    Ok(end.map(|n| n + ALIGN))
}

/// The aligned start of a caller's memory, once it is large enough.
pub(crate) fn start(context: &mut Context, memory: &Memory, name: &str, bytes: i64) -> Checked<*mut u8> {
    if memory.data.is_null() {
        return Err(fail(context, INVALID, format_args!("the {name} memory is missing (null)")));
    }
    if memory.bytes < bytes {
        let given = memory.bytes;
        return Err(fail(context, INVALID, format_args!("the {name} memory has {given} bytes, and needs {bytes}")));
    }
    Ok(memory.data.wrapping_add((memory.data as usize).wrapping_neg() & (ALIGN as usize - 1)))
}
