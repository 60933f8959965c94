//! CUDA's driver in C, as far as libraries of gdlc and PyTorch ask it: names, arguments and statuses are those of CUDA's driver API.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use crate::ptx::Kernel;
use crate::stream::{StreamId, Work, gpu, status};

thread_local! {
    /// The contexts of a thread, by their devices; the last is current.
    static CONTEXTS: RefCell<Vec<Option<i32>>> = const { RefCell::new(vec![]) };
}

/// Options of `cuModuleLoadDataEx`: where the text of what went wrong goes, and the bytes that there are for it.
const ERROR_LOG: c_int = 5;
const ERROR_LOG_BYTES: c_int = 6;
/// What every device is called, and the version of CUDA.
pub(crate) const NAME: &CStr = c"simulated GPU";
pub(crate) const VERSION: c_int = 13000;

/// The device of those who did not say which.
pub fn default_device() -> i32 {
    gpu().settings.device as i32
}

/// The device of a thread's context.
pub fn current() -> Option<i32> {
    let set = CONTEXTS.with_borrow(|contexts| contexts.last().copied());
    let gpu = gpu();
    set.unwrap_or((gpu.settings.context > 0).then_some(gpu.settings.device as i32))
}

/// Makes the runtime's context of a device the current one.
pub fn make_current(device: i32) {
    gpu().primary.insert(device);
    set_current(Some(device));
}

/// Makes another context the current one, or none.
fn set_current(device: Option<i32>) {
    CONTEXTS.with_borrow_mut(|contexts| {
        contexts.pop();
        contexts.push(device);
    });
}

/// A context is the number of its device, from 1 on.
fn context_of(device: Option<i32>) -> *mut c_void {
    std::ptr::without_provenance_mut(device.map_or(0, |d| d as usize + 1))
}

fn device_of(context: *mut c_void) -> Option<i32> {
    (context as usize).checked_sub(1).map(|d| d as i32)
}

/// A stream as a caller names it: 1 is 0 by another name.
pub fn stream_of(stream: *mut c_void) -> StreamId {
    let handle = stream as u64;
    let of = gpu().streams.keys().find(|id| id.1 == handle && handle > 1).map(|id| id.0);
    (of.or(current()).unwrap_or_else(default_device), if handle == 1 { 0 } else { handle })
}

/// Writes through a pointer that a caller gave.
///
/// # Safety
/// It can be written to.
pub(crate) unsafe fn put<T>(to: *mut T, value: T) -> c_int {
    // SAFETY: the caller's.
    unsafe { to.write(value) };
    status::OK
}

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(flags: c_uint) -> c_int {
    flags as c_int
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetCurrent(context: *mut *mut c_void) -> c_int {
    unsafe { put(context, context_of(current())) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetId(context: *mut c_void, id: *mut u64) -> c_int {
    unsafe { put(id, device_of(context).map_or(0, |device| 100 + device as u64)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetDevice(device: *mut c_int) -> c_int {
    match current() {
        Some(current) => unsafe { put(device, current) },
        None => status::INVALID_CONTEXT,
    }
}

/// An attribute of a device, by its number; 0 where it has none such.
pub(crate) fn attribute(which: c_int) -> c_int {
    let settings = gpu().settings;
    match which {
        // threads of a block, in all and by axis; blocks of a grid by axis
        1..=3 => 1024,
        4 => 64,
        5 => c_int::MAX,
        6 | 7 => 65535,
        // shared memory of a block, that it may ask for, and of a multiprocessor
        8 | 97 => 48 << 10,
        81 => 96 << 10,
        // a warp; registers of a block, of a multiprocessor
        10 => 32,
        12 | 82 => 65536,
        // clocks in kHz, the memory's width in bits, the last cache
        13 | 36 => 1_000_000,
        37 => 4096,
        38 => 4 << 20,
        // multiprocessors, and the threads of one
        16 => 4,
        39 => 2048,
        // one address space; memory that is mapped
        41 | 102 => 1,
        75 => settings.major as c_int,
        76 => settings.minor as c_int,
        _ => 0,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, which: c_int, _device: c_int) -> c_int {
    unsafe { put(value, attribute(which)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadDataEx(
    module: *mut *mut c_void,
    code: *const c_void,
    n: c_uint,
    options: *mut c_int,
    values: *mut *mut c_void,
) -> c_int {
    // SAFETY: code for a GPU is a text, or begins as machine code does: what follows there is a text as well (`tests/it/cuda`).
    let text = unsafe { CStr::from_ptr(code.cast()) }.to_bytes();
    let (is_machine_code, text) = text.strip_prefix(b"\x7fELF").map_or((false, text), |rest| (true, rest));
    let device = current().unwrap_or_else(default_device);
    let mut gpu = gpu();
    gpu.say(if is_machine_code { "load cubin" } else { "load ptx" });
    let settings = gpu.settings;
    if settings.capturing > 0 {
        return status::CAPTURE_UNSUPPORTED;
    }
    if settings.fail_cubin > 0 && is_machine_code {
        return status::NO_IMAGE;
    }
    let loaded = match settings.fail_load {
        0 => std::str::from_utf8(text).map_err(|_| "no text".to_string()).and_then(|text| gpu.load(text, device)),
        _ => Err("ptxas fatal: Unsupported .version 8.6; current version is '8.2'\nmore".to_string()),
    };
    match loaded {
        Ok(number) => unsafe { put(module, std::ptr::without_provenance_mut(number + 1)) },
        Err(why) if is_machine_code => {
            gpu.say(&why);
            status::NO_IMAGE
        }
        Err(why) => {
            gpu.say(&why);
            // SAFETY: as many options as the caller says; a text has the room that goes with it.
            unsafe {
                let value = |which| (0..n as usize).find(|k| *options.add(*k) == which).map(|k| *values.add(k));
                if let (Some(to), Some(room)) = (value(ERROR_LOG), value(ERROR_LOG_BYTES)) {
                    let bytes = why.len().min((room as usize).saturating_sub(1));
                    std::ptr::copy_nonoverlapping(why.as_ptr(), to.cast::<u8>(), bytes);
                    to.cast::<u8>().add(bytes).write(0);
                }
            }
            status::NO_PTX
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetFunction(
    function: *mut *mut c_void,
    module: *mut c_void,
    name: *const c_char,
) -> c_int {
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    let mut gpu = gpu();
    let Some(number) = (module as usize).checked_sub(1) else { return status::NOT_FOUND };
    let kernels = gpu.modules.get(number).map(|m| m.module.kernels.iter());
    let Some(kernel) = kernels.and_then(|mut all| all.position(|k| k.name.as_bytes() == name)) else {
        return status::NOT_FOUND;
    };
    gpu.functions.push((number, kernel));
    let handle = gpu.functions.len();
    unsafe { put(function, std::ptr::without_provenance_mut(handle)) }
}

/// The bytes of a launch's parameters.
///
/// # Safety
/// `arguments` has as many pointers as the kernel parameters, each to a value of that size.
unsafe fn parameters(kernel: &Kernel, arguments: *mut *mut c_void) -> Vec<u8> {
    let mut bytes = vec![0; kernel.parameter_bytes];
    for (k, (at, size)) in kernel.parameters.iter().enumerate() {
        // SAFETY: the caller's.
        unsafe { std::ptr::copy_nonoverlapping((*arguments.add(k)).cast::<u8>(), bytes[*at..].as_mut_ptr(), *size) };
    }
    bytes
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernel(
    function: *mut c_void,
    x: c_uint,
    y: c_uint,
    z: c_uint,
    threads: c_uint,
    threads_y: c_uint,
    threads_z: c_uint,
    shared: c_uint,
    stream: *mut c_void,
    arguments: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> c_int {
    let id = stream_of(stream);
    let mut gpu = gpu();
    let Some((module, kernel)) = (function as usize).checked_sub(1).and_then(|f| gpu.functions.get(f).copied()) else {
        return status::NOT_FOUND;
    };
    let of = gpu.modules[module].clone();
    gpu.say(&format!("launch {} on {}", of.module.kernels[kernel].name, id.1));
    let one = y == 1 && z == 1 && threads_y == 1 && threads_z == 1 && shared == 0 && extra.is_null();
    if x == 0 || threads == 0 || threads > 1024 || !one || of.device != id.0 {
        return status::INVALID_VALUE;
    }
    if gpu.settings.fail_launch > 0 {
        return gpu.settings.fail_launch as c_int;
    }
    // SAFETY: the caller's.
    let parameters = unsafe { parameters(&of.module.kernels[kernel], arguments) };
    let blocks = match gpu.settings.blocks {
        0 => x,
        most => x.min(most as c_uint),
    };
    gpu.give(id, Work::Kernel { of, kernel, blocks, threads, parameters })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyHtoDAsync_v2(
    to: u64,
    from: *const c_void,
    bytes: usize,
    stream: *mut c_void,
) -> c_int {
    let id = stream_of(stream);
    let mut gpu = gpu();
    gpu.say(&format!("to the GPU on {}", id.1));
    // SAFETY: the caller's. What is read of the host's memory is read now.
    let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), bytes) }.to_vec();
    gpu.give(id, Work::Write { to, bytes })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: *mut c_void) -> c_int {
    let id = stream_of(stream);
    let mut gpu = gpu();
    gpu.say(&format!("on the GPU on {}", id.1));
    gpu.give(id, Work::Copy { to, from, bytes })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: *mut c_void) -> c_int {
    let id = stream_of(stream);
    let mut gpu = gpu();
    gpu.say(&format!("to the host on {}", id.1));
    // nonsense until it is waited for
    // SAFETY: the caller's.
    unsafe { std::ptr::write_bytes(to.cast::<u8>(), 0xff, bytes) };
    gpu.give(id, Work::Read { to: to as usize, from, bytes })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAlloc_v2(at: *mut u64, bytes: usize) -> c_int {
    let device = current();
    let mut gpu = gpu();
    gpu.say("allocate");
    let Some(device) = device else { return status::INVALID_CONTEXT };
    match gpu.allocate(bytes, device) {
        Some(found) => unsafe { put(at, found) },
        None => status::OUT_OF_MEMORY,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(at: u64) -> c_int {
    let device = current();
    let mut gpu = gpu();
    gpu.say("free");
    if device.is_none() {
        return status::INVALID_CONTEXT;
    }
    gpu.finish_everything();
    if gpu.memory.free(at) { status::OK } else { status::ILLEGAL_ADDRESS }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(stream: *mut c_void) -> c_int {
    let id = stream_of(stream);
    let mut gpu = gpu();
    gpu.say(&format!("wait for {}", id.1));
    if gpu.settings.capturing > 0 || gpu.is_recording(id) { status::CAPTURE_UNSUPPORTED } else { gpu.finish(id) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamIsCapturing(stream: *mut c_void, is: *mut c_int) -> c_int {
    let id = stream_of(stream);
    let gpu = gpu();
    let capturing = id.1 != 0 && (gpu.settings.capturing > 0 || gpu.is_recording(id));
    unsafe { put(is, c_int::from(capturing)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamGetCtx(stream: *mut c_void, context: *mut *mut c_void) -> c_int {
    let id = stream_of(stream);
    let device = if id.1 == 0 { current() } else { Some(id.0) };
    unsafe { put(context, context_of(device)) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(context: *mut c_void) -> c_int {
    set_current(device_of(context));
    status::OK
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxPushCurrent_v2(context: *mut c_void) -> c_int {
    gpu().say("enter");
    CONTEXTS.with_borrow_mut(|contexts| contexts.push(device_of(context)));
    status::OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxPopCurrent_v2(context: *mut *mut c_void) -> c_int {
    gpu().say("leave");
    let popped = CONTEXTS.with_borrow_mut(Vec::pop).flatten();
    unsafe { put(context, context_of(popped)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorName(code: c_int, name: *mut *const c_char) -> c_int {
    let found = match code {
        status::OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
        status::NO_PTX => c"CUDA_ERROR_INVALID_PTX",
        status::NOT_FOUND => c"CUDA_ERROR_NOT_FOUND",
        status::ILLEGAL_ADDRESS => c"CUDA_ERROR_ILLEGAL_ADDRESS",
        status::LAUNCH_FAILED => c"CUDA_ERROR_LAUNCH_FAILED",
        status::CAPTURE_UNSUPPORTED => c"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
        _ => c"CUDA_ERROR_INVALID_VALUE",
    };
    unsafe { put(name, found.as_ptr()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxGetState(device: c_int, flags: *mut c_uint, active: *mut c_int) -> c_int {
    let gpu = gpu();
    let is = gpu.primary.contains(&device) || gpu.settings.primary > 0;
    unsafe { put(flags, 0) | put(active, c_int::from(is)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut *mut c_void, device: c_int) -> c_int {
    let mut gpu = gpu();
    gpu.say("retain");
    gpu.retained += 1;
    unsafe { put(context, context_of(Some(device))) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease(_device: c_int) -> c_int {
    let mut gpu = gpu();
    gpu.say("release");
    match gpu.retained.checked_sub(1) {
        Some(left) => {
            gpu.retained = left;
            status::OK
        }
        None => status::INVALID_CONTEXT,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetCount(to: *mut c_int) -> c_int {
    unsafe { put(to, gpu().settings.devices as c_int) }
}
