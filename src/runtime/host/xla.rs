//! The entry for XLA's foreign function interface (`xla/ffi/api/c_api.h`), which JAX calls: buffers are the inputs, then the weights;
//! results are the outputs.

use core::ffi::{c_char, c_void};
use core::ptr::{null, null_mut};

use super::{Tensors, context, counted, shape};
use crate::abi::*;
use crate::check::UNNAMED;
use crate::message::Failed;

/// The oldest version that every jaxlib since 2025 takes; newer ones keep to it.
const API_MINOR: i32 = 1;
const METADATA: i32 = 1;
const BUFFER: i32 = 1;

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

/// The beginning of `XLA_FFI_Api`.
#[repr(C)]
struct Api {
    struct_size: usize,
    extension: *mut Extension,
    version: Version,
    internal: *const c_void,
    error_create: unsafe extern "C" fn(*mut ErrorCreate) -> *mut c_void,
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

/// One call; an error of XLA, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_xla(frame: *mut CallFrame, model: *const Model) -> *mut c_void {
    let frame = unsafe { &*frame };
    let extension = unsafe { frame.extension.as_ref() };
    if extension.is_some_and(|e| e.kind == METADATA) {
        // The question before the first call: which version this speaks.
        let metadata = unsafe { &mut *(*frame.extension.cast::<MetadataExtension>()).metadata };
        (metadata.version.major, metadata.version.minor, metadata.traits) = (0, API_MINOR, 0);
        return null_mut();
    }
    let mut context = context();
    let Err(Failed(status)) = (unsafe { call(&mut context, frame, &*model) }) else { return null_mut() };
    // INVALID_ARGUMENT, UNIMPLEMENTED, RESOURCE_EXHAUSTED, INTERNAL of the interface
    let code = match status {
        INVALID => 3,
        UNSUPPORTED => 12,
        NO_MEMORY => 8,
        _ => 13,
    };
    let message = context.message.as_ptr().cast::<c_char>();
    let mut error = ErrorCreate { struct_size: size_of::<ErrorCreate>(), extension: null_mut(), message, code };
    unsafe { ((*frame.api).error_create)(&raw mut error) }
}

unsafe fn call(context: &mut Context, frame: &CallFrame, model: &Model) -> Result<(), Failed> {
    let n_arguments = model.inputs.count + model.weights.count;
    counted(context, model, "inputs and weights", frame.arguments.size, n_arguments)?;
    counted(context, model, "outputs", frame.results.size, model.outputs.count)?;
    let mut tensors = Tensors::new(context, model)?;
    let mut k = 0;
    for list in [&frame.arguments, &frame.results] {
        for j in 0..list.size as usize {
            let buffer = unsafe { if *list.kinds.add(j) == BUFFER { *list.buffers.add(j) } else { null() } };
            let Some(buffer) = (unsafe { buffer.as_ref() }) else {
                counted(context, model, "buffers", j as i64, list.size)?;
                continue;
            };
            tensors.set(k, buffer.data, unsafe { shape(buffer.dims, buffer.rank) }, dtype(buffer.dtype));
            k += 1;
        }
    }
    unsafe { tensors.run(context) }
}
