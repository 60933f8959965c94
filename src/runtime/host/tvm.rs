//! The entry for TVM-FFI (`tvm/ffi/c_api.h`), a packed function of tensors: the inputs, then the weights, then the outputs, which are written to.
//! Everything is on the CPU or on one GPU, but that index tables may be on the CPU; on a GPU the call is in the order of TVM-FFI's stream, in
//! memory of its allocator, or, where it has none, of the driver, and then it waits.
//!
//! Functions of TVM-FFI are looked up where they are needed: whoever calls this has it loaded.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::transmute_copy;
use core::ptr::{null, null_mut};

use super::{Tensors, context, counted};
use crate::abi::*;
use crate::message::{Checked, Failed, fail, text};
use crate::system;

/// `TVMFFIAny`, as a view.
#[repr(C)]
pub struct Any {
    kind: i32,
    padding: u32,
    value: u64,
}

/// `kTVMFFINone`, `kTVMFFIDLTensorPtr`, `kTVMFFITensor`.
const NONE: i32 = 0;
const DL_TENSOR: i32 = 7;
const TENSOR: i32 = 70;
/// Bytes of an object before what is its own: a tensor's is its `DLTensor`.
const OBJECT_HEADER: usize = 24;

/// A function of TVM-FFI, as the type that it has; none where it is not loaded.
///
/// # Safety
/// `F` is that type.
unsafe fn function<F>(name: &CStr) -> Option<F> {
    const NOW_IF_LOADED: c_int = 2 | 4;
    let found = unsafe {
        let library = system::dlopen(c"libtvm_ffi.so".as_ptr(), NOW_IF_LOADED);
        if library.is_null() { null_mut() } else { system::dlsym(library, name.as_ptr()) }
    };
    (!found.is_null()).then(|| unsafe { transmute_copy(&found) })
}

/// One call: 0, or -1 with the error that is raised.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_tvm(
    _: *mut c_void,
    arguments: *const Any,
    count: i32,
    result: *mut Any,
    model: *const Model,
) -> c_int {
    let mut context = context();
    let Err(Failed(status)) = (unsafe { call(&mut context, arguments, count, &*model) }) else {
        unsafe { result.write(Any { kind: NONE, padding: 0, value: 0 }) };
        return 0;
    };
    let kind = if status == INVALID { c"ValueError" } else { c"RuntimeError" };
    unsafe {
        type Raise = unsafe extern "C" fn(*const c_char, *const c_char);
        if let Some(raise) = function::<Raise>(c"TVMFFIErrorSetRaisedFromCStr") {
            raise(kind.as_ptr(), context.context.message.as_ptr().cast());
        }
    }
    -1
}

unsafe fn call(context: &mut CudaContext, arguments: *const Any, count: i32, model: &Model) -> Checked {
    let infos = unsafe { [model.inputs.get(), model.weights.get(), model.outputs.get()] };
    let n_arguments = infos.iter().map(|list| list.len() as i64).sum();
    counted(&mut context.context, model, "inputs, weights and outputs", i64::from(count), n_arguments)?;
    let mut tensors = Tensors::new(&mut context.context, model)?;
    let mut on_gpu = None;
    for (k, info) in infos.into_iter().flatten().enumerate() {
        let any = unsafe { &*arguments.add(k) };
        let tensor = match any.kind {
            DL_TENSOR => any.value as *const DlTensor,
            TENSOR => (any.value as usize + OBJECT_HEADER) as *const DlTensor,
            other => {
                let name = text(info.name);
                let reason = format_args!("`{name}` is of TVM-FFI's type {other}, and needs to be a tensor");
                return Err(fail(&mut context.context, INVALID, reason));
            }
        };
        let tensor = unsafe { &*tensor };
        tensors.set_tensor(k, tensor);
        if tensor.device.kind == CUDA && info.element != TABLE {
            on_gpu = on_gpu.or(Some(tensor.device));
        }
    }
    let Some(device) = on_gpu else { return unsafe { tensors.run(&mut context.context, null()) } };
    context.device = device;
    let mut allocator = Allocator { device, borrowed: null_mut() };
    unsafe {
        type GetStream = unsafe extern "C" fn(i32, i32) -> *mut c_void;
        if let Some(stream) = function::<GetStream>(c"TVMFFIEnvGetStream") {
            context.stream = stream(CUDA, device.id);
        }
        type GetAllocator = unsafe extern "C" fn() -> *mut c_void;
        let get = function::<GetAllocator>(c"TVMFFIEnvGetDLPackManagedTensorAllocator");
        let has_one = get.is_some_and(|get| !get().is_null());
        let host = (&raw mut allocator).cast();
        let lender = Lender { host, borrow, keep: Some(keep), release: Some(release) };
        tensors.run(&mut context.context, if has_one { &lender } else { null() })
    }
}

/// Memory of TVM-FFI's allocator on a GPU.
struct Allocator {
    device: Device,
    /// A tensor, for the length of the call.
    borrowed: *mut c_void,
}

impl Allocator {
    /// A tensor of bytes, and its data; null where there is none.
    unsafe fn bytes(&self, bytes: i64, owner: &mut *mut c_void) -> *mut u8 {
        type Allocate = unsafe extern "C" fn(*mut DlTensor, *mut *mut c_void) -> c_int;
        let dtype = DataType { code: 1, bits: 8, lanes: 1 };
        let (data, device, strides) = (null_mut(), self.device, null());
        let mut like = DlTensor { data, device, ndim: 1, dtype, shape: &raw const bytes, strides, byte_offset: 0 };
        unsafe {
            match function::<Allocate>(c"TVMFFIEnvTensorAlloc") {
                Some(allocate) if allocate(&mut like, owner) == 0 => {
                    (*((*owner as usize + OBJECT_HEADER) as *const DlTensor)).data.cast()
                }
                _ => null_mut(),
            }
        }
    }
}

unsafe extern "C" fn borrow(host: *mut c_void, bytes: i64) -> *mut u8 {
    let allocator = unsafe { &mut *host.cast::<Allocator>() };
    let mut owner = null_mut();
    let data = unsafe { allocator.bytes(bytes, &mut owner) };
    allocator.borrowed = owner;
    data
}

unsafe extern "C" fn keep(host: *mut c_void, bytes: i64, owner: *mut *mut c_void) -> *mut u8 {
    unsafe { (*host.cast::<Allocator>()).bytes(bytes, &mut *owner) }
}

unsafe extern "C" fn release(owner: *mut c_void) {
    type Release = unsafe extern "C" fn(*mut c_void) -> c_int;
    unsafe {
        if let Some(release) = function::<Release>(c"TVMFFIObjectDecRef") {
            release(owner);
        }
    }
}

impl Drop for Allocator {
    fn drop(&mut self) {
        if !self.borrowed.is_null() {
            unsafe { release(self.borrowed) };
        }
    }
}
