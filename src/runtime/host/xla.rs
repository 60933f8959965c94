//! The entry for XLA's foreign function interface (`xla/ffi/api/c_api.h`), which JAX calls: buffers are the inputs, then the weights;
//! results are the outputs. On a GPU they are all on it, the call is in the order of its stream, and memory is XLA's for the length of the call.

use core::ffi::{c_char, c_void};
use core::ptr::{null, null_mut};

use super::{Tensors, context, counted, shape};
use crate::abi::*;
use crate::check::UNNAMED;
use crate::message::{Failed, fail};

/// The oldest version that every jaxlib since 2025 takes; newer ones keep to it.
const API_MINOR: i32 = 1;
const METADATA: i32 = 1;
const BUFFER: i32 = 1;
/// XLA gives memory that is aligned to more bytes to nobody.
const MOST_ALIGNED: usize = 16;

#[repr(C)]
struct Extension {
    struct_size: usize,
    kind: i32,
    next: *mut Extension,
}

#[repr(C)]
struct MetadataExtension {
    base: Extension,
    metadata: *mut Metadata,
}

#[repr(C)]
struct Version {
    struct_size: usize,
    extension: *mut Extension,
    major: i32,
    minor: i32,
}

#[repr(C)]
struct Metadata {
    struct_size: usize,
    version: Version,
    traits: u32,
}

#[repr(C)]
struct Buffer {
    struct_size: usize,
    extension: *mut Extension,
    dtype: i32,
    data: *mut c_void,
    rank: i64,
    dims: *const i64,
}

#[repr(C)]
struct Buffers {
    struct_size: usize,
    extension: *mut Extension,
    size: i64,
    kinds: *const i32,
    buffers: *const *const Buffer,
}

/// The beginning of `XLA_FFI_CallFrame`.
#[repr(C)]
pub struct CallFrame {
    struct_size: usize,
    extension: *mut Extension,
    api: *const Api,
    context: *mut c_void,
    stage: i32,
    arguments: Buffers,
    results: Buffers,
}

#[repr(C)]
struct ErrorCreate {
    struct_size: usize,
    extension: *mut Extension,
    message: *const c_char,
    code: i32,
}

#[repr(C)]
struct StreamGet {
    struct_size: usize,
    extension: *mut Extension,
    context: *mut c_void,
    stream: *mut c_void,
}

#[repr(C)]
struct Allocate {
    struct_size: usize,
    extension: *mut Extension,
    context: *mut c_void,
    size: usize,
    alignment: usize,
    data: *mut c_void,
}

#[repr(C)]
struct Deallocate {
    struct_size: usize,
    extension: *mut Extension,
    context: *mut c_void,
    size: usize,
    data: *mut c_void,
}

type Error = *mut c_void;

/// The beginning of `XLA_FFI_Api`.
#[repr(C)]
struct Api {
    struct_size: usize,
    extension: *mut Extension,
    version: Version,
    internal: *const c_void,
    error_create: unsafe extern "C" fn(*mut ErrorCreate) -> Error,
    error_message: *const c_void,
    error_destroy: unsafe extern "C" fn(*mut ErrorDestroy),
    handler_register: *const c_void,
    stream_get: unsafe extern "C" fn(*mut StreamGet) -> Error,
    type_register: *const c_void,
    context_get: *const c_void,
    state_set: *const c_void,
    state_get: *const c_void,
    allocate: unsafe extern "C" fn(*mut Allocate) -> Error,
    free: unsafe extern "C" fn(*mut Deallocate) -> Error,
}

#[repr(C)]
struct ErrorDestroy {
    struct_size: usize,
    extension: *mut Extension,
    error: Error,
}

/// XLA's numbers for types.
fn dtype(code: i32) -> DataType {
    let (code, bits) = match code {
        1 => (6, 8),
        2 => (0, 8),
        3 => (0, 16),
        4 => (0, 32),
        5 => (0, 64),
        6 => (1, 8),
        7 => (1, 16),
        8 => (1, 32),
        9 => (1, 64),
        10 => (2, 16),
        11 => (2, 32),
        12 => (2, 64),
        15 => (5, 64),
        16 => (4, 16),
        18 => (5, 128),
        _ => (UNNAMED, 0),
    };
    DataType { code, bits, lanes: 1 }
}

/// One call on the CPU; an error of XLA, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_xla(frame: *mut CallFrame, model: *const Model) -> *mut c_void {
    unsafe { entry(&*frame, &*model, CPU) }
}

/// One call on a GPU of CUDA.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_xla_cuda(frame: *mut CallFrame, model: *const Model) -> *mut c_void {
    unsafe { entry(&*frame, &*model, CUDA) }
}

unsafe fn entry(frame: &CallFrame, model: &Model, kind: i32) -> Error {
    let extension = unsafe { frame.extension.as_ref() };
    if extension.is_some_and(|e| e.kind == METADATA) {
        // The question before the first call: which version this speaks.
        let metadata = unsafe { &mut *(*frame.extension.cast::<MetadataExtension>()).metadata };
        (metadata.version.major, metadata.version.minor, metadata.traits) = (0, API_MINOR, 0);
        return null_mut();
    }
    let mut context = context();
    let Err(Failed(status)) = (unsafe { call(&mut context, frame, model, kind) }) else { return null_mut() };
    // INVALID_ARGUMENT, UNIMPLEMENTED, RESOURCE_EXHAUSTED, INTERNAL of the interface
    let code = match status {
        INVALID => 3,
        UNSUPPORTED => 12,
        NO_MEMORY => 8,
        _ => 13,
    };
    let message = context.context.message.as_ptr().cast::<c_char>();
    let mut error = ErrorCreate { struct_size: size_of::<ErrorCreate>(), extension: null_mut(), message, code };
    unsafe { ((*frame.api).error_create)(&raw mut error) }
}

unsafe fn call(context: &mut CudaContext, frame: &CallFrame, model: &Model, kind: i32) -> Result<(), Failed> {
    let n_arguments = model.inputs.count + model.weights.count;
    counted(&mut context.context, model, "inputs and weights", frame.arguments.size, n_arguments)?;
    counted(&mut context.context, model, "outputs", frame.results.size, model.outputs.count)?;
    if kind == CUDA {
        context.device = Device { kind: CUDA, id: OF_STREAM };
        context.stream = unsafe { stream(&mut context.context, frame)? };
    }
    let mut tensors = Tensors::new(&mut context.context, model)?;
    let mut k = 0;
    for list in [&frame.arguments, &frame.results] {
        for j in 0..list.size as usize {
            let buffer = unsafe { if *list.kinds.add(j) == BUFFER { *list.buffers.add(j) } else { null() } };
            let Some(buffer) = (unsafe { buffer.as_ref() }) else {
                counted(&mut context.context, model, "buffers", j as i64, list.size)?;
                continue;
            };
            let dims = unsafe { shape(buffer.dims, buffer.rank) };
            tensors.set(k, buffer.data, dims, dtype(buffer.dtype), context.device);
            k += 1;
        }
    }
    let mut scratch = Scratch { frame, data: null_mut(), bytes: 0 };
    let lender = Lender { host: (&raw mut scratch).cast(), borrow, keep: None, release: None };
    unsafe { tensors.run(&mut context.context, if kind == CUDA { &lender } else { null() }) }
}

/// The stream of a call on a GPU.
unsafe fn stream(context: &mut Context, frame: &CallFrame) -> Result<*mut c_void, Failed> {
    let mut get =
        StreamGet { struct_size: size_of::<StreamGet>(), extension: null_mut(), context: frame.context, stream: null_mut() };
    let error = unsafe { ((*frame.api).stream_get)(&raw mut get) };
    if unsafe { succeeded(frame, error) } {
        return Ok(get.stream);
    }
    Err(fail(context, CUDA_FAILED, format_args!("XLA gives no stream of a GPU")))
}

/// Whether XLA did what it was asked to; else its error is given back, for ours says more.
unsafe fn succeeded(frame: &CallFrame, error: Error) -> bool {
    if error.is_null() {
        return true;
    }
    let mut destroy = ErrorDestroy { struct_size: size_of::<ErrorDestroy>(), extension: null_mut(), error };
    unsafe { ((*frame.api).error_destroy)(&raw mut destroy) };
    false
}

/// Memory of XLA for the length of a call.
struct Scratch<'a> {
    frame: &'a CallFrame,
    data: *mut c_void,
    bytes: usize,
}

unsafe extern "C" fn borrow(host: *mut c_void, bytes: i64) -> *mut u8 {
    let scratch = unsafe { &mut *host.cast::<Scratch<'_>>() };
    let (context, size) = (scratch.frame.context, bytes as usize);
    let mut allocate = Allocate {
        struct_size: size_of::<Allocate>(),
        extension: null_mut(),
        context,
        size,
        alignment: MOST_ALIGNED,
        data: null_mut(),
    };
    unsafe {
        let error = ((*scratch.frame.api).allocate)(&raw mut allocate);
        if !succeeded(scratch.frame, error) {
            return null_mut();
        }
    }
    (scratch.data, scratch.bytes) = (allocate.data, size);
    allocate.data.cast()
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if self.data.is_null() {
            return;
        }
        let (context, size, data) = (self.frame.context, self.bytes, self.data);
        let mut free = Deallocate { struct_size: size_of::<Deallocate>(), extension: null_mut(), context, size, data };
        unsafe {
            let error = ((*self.frame.api).free)(&raw mut free);
            succeeded(self.frame, error);
        }
    }
}
