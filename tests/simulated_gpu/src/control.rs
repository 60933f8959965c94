//! What tests set and ask. Everything is of one process, and tests that use it take turns.

use std::ffi::{CStr, CString, c_char, c_void};

use crate::driver::default_device;
use crate::stream::{Gpu, gpu, status};

/// Forgets all memory, modules and streams, and what was set.
#[unsafe(no_mangle)]
pub extern "C" fn simulated_start() {
    *gpu() = Gpu::default();
}

fn setting<'a>(gpu: &'a mut Gpu, name: &str) -> Option<&'a mut i64> {
    let all = &mut gpu.settings;
    Some(match name {
        "device" => &mut all.device,
        "devices" => &mut all.devices,
        "major" => &mut all.major,
        "minor" => &mut all.minor,
        "capturing" => &mut all.capturing,
        "context" => &mut all.context,
        "primary" => &mut all.primary,
        "fail load" => &mut all.fail_load,
        "fail cubin" => &mut all.fail_cubin,
        "fail launch" => &mut all.fail_launch,
        "lazy" => &mut all.lazy,
        "blocks" => &mut all.blocks,
        _ => return None,
    })
}

/// Sets what [`Settings`](crate::stream::Settings) names, or `room`, the bytes that a single allocation may have; false where there is no such thing.
///
/// # Safety
/// `name` ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simulated_set(name: *const c_char, value: i64) -> bool {
    // SAFETY: the caller's.
    let name = unsafe { CStr::from_ptr(name) }.to_str().unwrap_or_default();
    let mut gpu = gpu();
    match setting(&mut gpu, name) {
        Some(place) => *place = value,
        None if name == "room" => gpu.memory.room = value as usize,
        None => return false,
    }
    true
}

/// What was asked for since the last time, a line each; to be given to [`simulated_forget`].
#[unsafe(no_mangle)]
pub extern "C" fn simulated_log() -> *mut c_char {
    let text = std::mem::take(&mut gpu().log);
    CString::new(text).unwrap_or_default().into_raw()
}

/// Frees a log.
///
/// # Safety
/// It came from [`simulated_log`], and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simulated_forget(log: *mut c_char) {
    // SAFETY: the caller's.
    drop(unsafe { CString::from_raw(log) });
}

/// The allocations that are not freed.
#[unsafe(no_mangle)]
pub extern "C" fn simulated_live() -> i64 {
    gpu().memory.live() as i64
}

/// Memory without a word in the log; 0 where there is no room.
#[unsafe(no_mangle)]
pub extern "C" fn simulated_allocate(bytes: u64) -> u64 {
    let device = default_device();
    gpu().allocate(bytes as usize, device).unwrap_or(0)
}

/// Frees it; 0, or what is wrong.
#[unsafe(no_mangle)]
pub extern "C" fn simulated_free(at: u64) -> i32 {
    if gpu().memory.free(at) { status::OK } else { status::ILLEGAL_ADDRESS }
}

/// Copies to the GPU, at once.
///
/// # Safety
/// `from` has `bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simulated_write(to: u64, from: *const c_void, bytes: usize) {
    // SAFETY: the caller's.
    let data = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), bytes) };
    gpu().memory.slice(to, bytes).copy_from_slice(data);
}

/// Copies from the GPU, at once.
///
/// # Safety
/// `to` has room for `bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn simulated_read(to: *mut c_void, from: u64, bytes: usize) {
    // SAFETY: the caller's.
    unsafe { std::ptr::copy_nonoverlapping(gpu().memory.slice(from, bytes).as_ptr(), to.cast::<u8>(), bytes) };
}
