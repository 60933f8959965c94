//! CUDA's runtime in C (`cuda..`), as much of it as PyTorch asks to move tensors and to call libraries; loaded before PyTorch, it takes the
//! place of `libcudart`. PyTorch's own kernels are machine code and do not run here: a launch of one is an error
//! (`cudaErrorNoKernelImageForDevice`), never a wrong number.

mod streams;

pub use streams::*;

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};

use crate::driver::{NAME, VERSION, attribute, current, make_current, put, stream_of};
use crate::memory::BYTES;
use crate::stream::{Work, gpu, status};

/// Statuses that the driver does not give.
const INVALID_DEVICE: c_int = 101;
const NO_KERNEL_IMAGE: c_int = 209;

thread_local! {
    /// The status that `cudaGetLastError` gives.
    static LAST: Cell<c_int> = const { Cell::new(status::OK) };
}

/// Remembers what failed.
fn said(status: c_int) -> c_int {
    if status != status::OK {
        LAST.set(status);
    }
    status
}

/// The device of a thread; the first call makes a context, as the runtime does.
fn here() -> c_int {
    current().unwrap_or_else(|| {
        make_current(0);
        0
    })
}

fn handle(number: u64) -> *mut c_void {
    std::ptr::without_provenance_mut(number as usize)
}

/// The head of `cudaDeviceProp` of CUDA 13, and the room of the rest; attributes by their numbers have what is in both.
#[repr(C)]
struct Properties {
    name: [u8; 256],
    uuid: [u8; 16],
    luid: [u8; 8],
    luid_mask: u32,
    global_bytes: usize,
    shared_per_block: usize,
    registers_per_block: c_int,
    warp: c_int,
    pitch: usize,
    threads_per_block: c_int,
    threads: [c_int; 3],
    grid: [c_int; 3],
    constant_bytes: usize,
    major: c_int,
    minor: c_int,
    alignment: usize,
    pitch_alignment: usize,
    multiprocessors: c_int,
    rest: [c_int; 155],
}

/// Where in `rest` the threads of a multiprocessor are, in the order of the header.
const THREADS_AT: usize = 54;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaGetDeviceProperties(to: *mut c_void, device: c_int) -> c_int {
    if i64::from(device) >= gpu().settings.devices {
        return said(INVALID_DEVICE);
    }
    let mut name = [0; 256];
    name[..NAME.count_bytes()].copy_from_slice(NAME.to_bytes());
    let mut rest = [0; 155];
    rest[THREADS_AT] = attribute(39);
    let properties = Properties {
        name,
        uuid: [device as u8 + 1; 16],
        luid: [0; 8],
        luid_mask: 0,
        global_bytes: BYTES,
        shared_per_block: attribute(8) as usize,
        registers_per_block: attribute(12),
        warp: attribute(10),
        pitch: 1 << 31,
        threads_per_block: attribute(1),
        threads: [2, 3, 4].map(attribute),
        grid: [5, 6, 7].map(attribute),
        constant_bytes: 64 << 10,
        major: attribute(75),
        minor: attribute(76),
        alignment: 512,
        pitch_alignment: 32,
        multiprocessors: attribute(16),
        rest,
    };
    unsafe { put(to.cast(), properties) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaGetDeviceCount(to: *mut c_int) -> c_int {
    unsafe { put(to, gpu().settings.devices as c_int) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaGetDevice(to: *mut c_int) -> c_int {
    unsafe { put(to, current().unwrap_or(0)) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaSetDevice(device: c_int) -> c_int {
    if device < 0 || i64::from(device) >= gpu().settings.devices {
        return said(INVALID_DEVICE);
    }
    make_current(device);
    status::OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaDeviceGetAttribute(to: *mut c_int, which: c_int, _device: c_int) -> c_int {
    unsafe { put(to, attribute(which)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaDriverGetVersion(to: *mut c_int) -> c_int {
    unsafe { put(to, VERSION) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaRuntimeGetVersion(to: *mut c_int) -> c_int {
    unsafe { put(to, VERSION) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaDeviceGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) -> c_int {
    unsafe { put(least, 0) | put(greatest, -5) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaDeviceCanAccessPeer(to: *mut c_int, _device: c_int, _peer: c_int) -> c_int {
    unsafe { put(to, 0) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaDeviceSynchronize() -> c_int {
    let device = here();
    said(gpu().finish_all(device))
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaGetLastError() -> c_int {
    LAST.replace(gpu().fault)
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaPeekAtLastError() -> c_int {
    LAST.get()
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaGetErrorName(code: c_int) -> *const c_char {
    cudaGetErrorString(code)
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaGetErrorString(code: c_int) -> *const c_char {
    match code {
        status::OK => c"no error",
        status::INVALID_VALUE => c"invalid argument",
        status::OUT_OF_MEMORY => c"out of memory",
        INVALID_DEVICE => c"invalid device ordinal",
        NO_KERNEL_IMAGE => c"no kernel image is available for execution on the device",
        status::ILLEGAL_ADDRESS => c"an illegal memory access was encountered",
        status::LAUNCH_FAILED => c"unspecified launch failure",
        status::CAPTURE_UNSUPPORTED => c"operation not permitted when stream is capturing",
        _ => c"unknown error",
    }
    .as_ptr()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaMalloc(to: *mut u64, bytes: usize) -> c_int {
    let device = here();
    if bytes == 0 {
        return unsafe { put(to, 0) };
    }
    match gpu().allocate(bytes, device) {
        Some(at) => unsafe { put(to, at) },
        None => said(status::OUT_OF_MEMORY),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaFree(at: u64) -> c_int {
    here();
    let mut gpu = gpu();
    let failed = gpu.finish_everything();
    if at == 0 || gpu.memory.free(at) { failed } else { said(status::INVALID_VALUE) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaMemGetInfo(free: *mut usize, all: *mut usize) -> c_int {
    let device = here();
    unsafe { put(free, BYTES - gpu().memory.given(device)) | put(all, BYTES) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaHostAlloc(to: *mut *mut c_void, bytes: usize, _flags: c_uint) -> c_int {
    // SAFETY: memory of the C library, freed below.
    unsafe { put(to, libc::aligned_alloc(4096, bytes.next_multiple_of(4096))) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaFreeHost(at: *mut c_void) -> c_int {
    // SAFETY: `cudaHostAlloc` gave it.
    unsafe { libc::free(at) };
    status::OK
}

/// `cudaPointerAttributes`.
#[repr(C)]
struct Attributes {
    kind: c_int,
    device: c_int,
    on_device: u64,
    on_host: u64,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaPointerGetAttributes(to: *mut c_void, at: u64) -> c_int {
    let found = gpu().memory.block_of(at, 1);
    let attributes = match found {
        Some((.., device)) => Attributes { kind: 2, device, on_device: at, on_host: 0 },
        None => Attributes { kind: 0, device: -2, on_device: 0, on_host: at },
    };
    unsafe { put(to.cast(), attributes) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaMemcpyAsync(
    to: *mut c_void,
    from: *const c_void,
    bytes: usize,
    _kind: c_int,
    stream: *mut c_void,
) -> c_int {
    here();
    let id = stream_of(stream);
    let mut gpu = gpu();
    let on_gpu = [to as u64, from as u64].map(|at| gpu.memory.block_of(at, bytes).is_some());
    let done = match on_gpu {
        [true, true] => gpu.give(id, Work::Copy { to: to as u64, from: from as u64, bytes }),
        // SAFETY: the caller's, here and below.
        [true, false] => {
            let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), bytes) }.to_vec();
            gpu.give(id, Work::Write { to: to as u64, bytes })
        }
        [false, true] if gpu.is_recording(id) => status::CAPTURE_UNSUPPORTED,
        [false, true] => {
            let failed = gpu.finish(id);
            let data = gpu.memory.slice(from as u64, bytes);
            unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to.cast::<u8>(), bytes) };
            failed
        }
        [false, false] if bytes == 0 => status::OK,
        [false, false] => status::INVALID_VALUE,
    };
    said(done)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaMemcpy(to: *mut c_void, from: *const c_void, bytes: usize, kind: c_int) -> c_int {
    let done = unsafe { cudaMemcpyAsync(to, from, bytes, kind, handle(0)) };
    done.max(gpu().finish((here(), 0)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaMemcpyPeerAsync(
    to: *mut c_void,
    _to_device: c_int,
    from: *const c_void,
    _from_device: c_int,
    bytes: usize,
    stream: *mut c_void,
) -> c_int {
    unsafe { cudaMemcpyAsync(to, from, bytes, 0, stream) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaMemsetAsync(at: u64, value: c_int, bytes: usize, stream: *mut c_void) -> c_int {
    here();
    let id = stream_of(stream);
    said(gpu().give(id, Work::Fill { at, pattern: vec![value as u8], times: bytes }))
}

/// A function of the driver by its name; of those that have two versions, the second.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaGetDriverEntryPointByVersion(
    name: *const c_char,
    to: *mut *mut c_void,
    _version: c_uint,
    _flags: u64,
    found: *mut c_int,
) -> c_int {
    let name = unsafe { CStr::from_ptr(name) };
    let second = CString::new(format!("{}_v2", name.to_string_lossy())).unwrap_or_default();
    // SAFETY: names with a zero at their end; the caller's pointers, of which a null is not asked for.
    unsafe {
        let own = libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW);
        let address =
            [second.as_c_str(), name].map(|name| libc::dlsym(own, name.as_ptr())).into_iter().find(|f| !f.is_null());
        put(to, address.unwrap_or(std::ptr::null_mut()));
        if !found.is_null() {
            put(found, c_int::from(address.is_none()));
        }
    }
    status::OK
}

/// How a kernel of PyTorch's own begins to be launched: what follows is not done where this fails.
#[unsafe(no_mangle)]
pub extern "C" fn __cudaPushCallConfiguration() -> c_uint {
    said(NO_KERNEL_IMAGE) as c_uint
}

/// Its other beginnings.
#[unsafe(no_mangle)]
pub extern "C" fn cudaLaunchKernel() -> c_int {
    said(NO_KERNEL_IMAGE)
}

#[unsafe(no_mangle)]
pub extern "C" fn __cudaLaunchKernel() -> c_int {
    said(NO_KERNEL_IMAGE)
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaLaunchKernelExC() -> c_int {
    said(NO_KERNEL_IMAGE)
}

/// Machine code that a program carries is not kept.
#[unsafe(no_mangle)]
pub extern "C" fn __cudaRegisterFatBinary() -> *mut c_void {
    handle(1)
}

#[unsafe(no_mangle)]
pub extern "C" fn __cudaRegisterFatBinaryEnd() {}

#[unsafe(no_mangle)]
pub extern "C" fn __cudaUnregisterFatBinary() {}

#[unsafe(no_mangle)]
pub extern "C" fn __cudaRegisterFunction() {}

#[unsafe(no_mangle)]
pub extern "C" fn __cudaRegisterVar() {}
