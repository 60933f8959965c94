//! What XLA asks of CUDA's driver and of NVML beyond what libraries of gdlc and PyTorch ask.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use crate::driver::{NAME, cuModuleLoadDataEx, put, stream_of};
use crate::memory::{ALIGN, BYTES};
use crate::runtime;
use crate::stream::{Work, gpu, status};

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> c_int {
    status::OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDriverGetVersion(to: *mut c_int) -> c_int {
    unsafe { runtime::cudaDriverGetVersion(to) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(to: *mut c_int, number: c_int) -> c_int {
    unsafe { put(to, number) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(to: *mut c_char, bytes: c_int, _device: c_int) -> c_int {
    let name = NAME.to_bytes_with_nul();
    unsafe { std::ptr::copy_nonoverlapping(name.as_ptr(), to.cast(), name.len().min(bytes as usize)) };
    status::OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceTotalMem_v2(to: *mut usize, _device: c_int) -> c_int {
    unsafe { put(to, BYTES) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetPCIBusId(to: *mut c_char, bytes: c_int, device: c_int) -> c_int {
    let name = format!("0000:{:02x}:00.0\0", device + 1);
    unsafe { std::ptr::copy_nonoverlapping(name.as_ptr(), to.cast(), name.len().min(bytes as usize)) };
    status::OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetUuid_v2(to: *mut [u8; 16], device: c_int) -> c_int {
    unsafe { put(to, [device as u8 + 1; 16]) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceCanAccessPeer(to: *mut c_int, _device: c_int, _peer: c_int) -> c_int {
    unsafe { put(to, 0) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxSetFlags_v2(_device: c_int, _flags: c_uint) -> c_int {
    status::OK
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> c_int {
    runtime::cudaDeviceSynchronize()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) -> c_int {
    unsafe { runtime::cudaDeviceGetStreamPriorityRange(least, greatest) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, all: *mut usize) -> c_int {
    unsafe { runtime::cudaMemGetInfo(free, all) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemHostAlloc(to: *mut *mut c_void, bytes: usize, flags: c_uint) -> c_int {
    unsafe { runtime::cudaHostAlloc(to, bytes, flags) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemFreeHost(at: *mut c_void) -> c_int {
    unsafe { runtime::cudaFreeHost(at) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostRegister_v2(_at: *mut c_void, _bytes: usize, _flags: c_uint) -> c_int {
    status::OK
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostUnregister(_at: *mut c_void) -> c_int {
    status::OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamCreate(to: *mut *mut c_void, flags: c_uint) -> c_int {
    unsafe { runtime::cudaStreamCreateWithFlags(to, flags) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamCreateWithPriority(to: *mut *mut c_void, flags: c_uint, priority: c_int) -> c_int {
    unsafe { runtime::cudaStreamCreateWithPriority(to, flags, priority) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamDestroy_v2(stream: *mut c_void) -> c_int {
    runtime::cudaStreamDestroy(stream)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamQuery(stream: *mut c_void) -> c_int {
    runtime::cudaStreamQuery(stream)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitEvent(stream: *mut c_void, event: *mut c_void, flags: c_uint) -> c_int {
    runtime::cudaStreamWaitEvent(stream, event, flags)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventCreate(to: *mut *mut c_void, flags: c_uint) -> c_int {
    unsafe { runtime::cudaEventCreateWithFlags(to, flags) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventDestroy_v2(event: *mut c_void) -> c_int {
    runtime::cudaEventDestroy(event)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecord(event: *mut c_void, stream: *mut c_void) -> c_int {
    runtime::cudaEventRecord(event, stream)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventQuery(event: *mut c_void) -> c_int {
    runtime::cudaEventQuery(event)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventSynchronize(event: *mut c_void) -> c_int {
    runtime::cudaEventSynchronize(event)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventElapsedTime(to: *mut f32, begin: *mut c_void, end: *mut c_void) -> c_int {
    unsafe { runtime::cudaEventElapsedTime(to, begin, end) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD8Async(at: u64, value: u8, times: usize, stream: *mut c_void) -> c_int {
    let id = stream_of(stream);
    gpu().give(id, Work::Fill { at, pattern: vec![value], times })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD32Async(at: u64, value: c_uint, times: usize, stream: *mut c_void) -> c_int {
    let id = stream_of(stream);
    gpu().give(id, Work::Fill { at, pattern: value.to_le_bytes().to_vec(), times })
}

/// A function of the host in the order of a stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchHostFunc(
    stream: *mut c_void,
    function: extern "C" fn(*mut c_void),
    data: *mut c_void,
) -> c_int {
    let id = stream_of(stream);
    let failed = gpu().finish(id);
    function(data);
    failed
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(code: c_int, to: *mut *const c_char) -> c_int {
    unsafe { put(to, runtime::cudaGetErrorString(code)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuPointerGetAttribute(to: *mut c_void, which: c_int, at: u64) -> c_int {
    let found = gpu().memory.block_of(at, 1);
    match (which, found) {
        (1, Some((.., device))) => unsafe { put(to.cast(), device as u64 + 1) },
        (2, Some(_)) => unsafe { put(to.cast(), 2 as c_uint) },
        (9, Some((.., device))) => unsafe { put(to.cast(), device) },
        _ => status::INVALID_VALUE,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemGetAddressRange_v2(begin: *mut u64, bytes: *mut usize, at: u64) -> c_int {
    match gpu().memory.block_of(at, 1) {
        Some((first, end, _)) => unsafe { put(begin, first) | put(bytes, (end - first) as usize) },
        None => status::INVALID_VALUE,
    }
}

// Memory and addresses for it are got apart there; here addresses are memory already.

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemGetAllocationGranularity(
    to: *mut usize,
    _properties: *const c_void,
    _option: c_int,
) -> c_int {
    unsafe { put(to, ALIGN) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemCreate(to: *mut u64, _bytes: usize, _properties: *const c_void, _flags: u64) -> c_int {
    let number = gpu().handle();
    unsafe { put(to, number) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAddressReserve(
    to: *mut u64,
    bytes: usize,
    _align: usize,
    _at: u64,
    _flags: u64,
) -> c_int {
    unsafe { runtime::cudaMalloc(to, bytes) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAddressFree(at: u64, _bytes: usize) -> c_int {
    runtime::cudaFree(at)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemMap(_at: u64, _bytes: usize, _offset: usize, _handle: u64, _flags: u64) -> c_int {
    status::OK
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemSetAccess(_at: u64, _bytes: usize, _access: *const c_void, _n: usize) -> c_int {
    status::OK
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemUnmap(_at: u64, _bytes: usize) -> c_int {
    status::OK
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemRelease(_handle: u64) -> c_int {
    status::OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadData(module: *mut *mut c_void, code: *const c_void) -> c_int {
    unsafe { cuModuleLoadDataEx(module, code, 0, std::ptr::null_mut(), std::ptr::null_mut()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadFatBinary(module: *mut *mut c_void, code: *const c_void) -> c_int {
    unsafe { cuModuleLoadData(module, code) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleUnload(_module: *mut c_void) -> c_int {
    status::OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetGlobal_v2(
    at: *mut u64,
    bytes: *mut usize,
    module: *mut c_void,
    name: *const c_char,
) -> c_int {
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    let gpu = gpu();
    let Some(loaded) = (module as usize).checked_sub(1).and_then(|m| gpu.modules.get(m)) else {
        return status::NOT_FOUND;
    };
    let Some(k) = loaded.module.constants.iter().position(|(of, _)| *of == name) else { return status::NOT_FOUND };
    unsafe { put(at, loaded.constants[k]) | put(bytes, loaded.module.constants[k].1.len()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuFuncGetAttribute(to: *mut c_int, _which: c_int, _function: *mut c_void) -> c_int {
    unsafe { put(to, 0) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetAttribute(_function: *mut c_void, _which: c_int, _value: c_int) -> c_int {
    status::OK
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetCacheConfig(_function: *mut c_void, _config: c_int) -> c_int {
    status::OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    to: *mut c_int,
    _function: *mut c_void,
    _threads: c_int,
    _shared: usize,
) -> c_int {
    unsafe { put(to, 1) }
}

/// cuDNN as far as XLA looks for it before it compiles anything: nothing of it is called by a program that needs none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudnnCreate(to: *mut *mut c_void) -> c_int {
    unsafe { put(to, std::ptr::without_provenance_mut(1)) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cudnnDestroy(_handle: *mut c_void) -> c_int {
    status::OK
}

#[unsafe(no_mangle)]
pub extern "C" fn cudnnGetVersion() -> usize {
    91900
}

/// The three numbers of its version.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudnnGetProperty(which: c_int, to: *mut c_int) -> c_int {
    unsafe { put(to, [9, 19, 0][which as usize % 3]) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cudnnSetStream(_handle: *mut c_void, _stream: *mut c_void) -> c_int {
    status::OK
}
