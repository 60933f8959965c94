//! The entry for PyTorch's dispatcher, by the stable C interface of LibTorch (`torch/csrc/stable`, `aoti_torch/c/shim.h`): the arguments are
//! the list of inputs and weights, the list of all run-time sizes, and how many of the outputs are wanted; the result is the list of these,
//! the first ones. (Without lists an operator has at most 64 arguments.) Tensors are all on the CPU or all on one GPU, but that index tables
//! may be on the CPU for a call on a GPU.
//!
//! A kernel of the dispatcher reports an error by an exception of C++, and there are no tables here to unwind by. So the entry leaves the
//! stack as it found it and then jumps to the function of LibTorch that throws.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::torch_device::{CudaFunctions, OnGpu, PlaceOfCall, TORCH_CUDA, device_of};
use super::{Tensors, context, counted, shape};
use crate::abi::*;
use crate::check::{UNNAMED, bytes_of, eval, row_major, slice};
use crate::entry::MAX_SIZES;
use crate::message::{Checked, Failed, fail, text};
use crate::system;

pub(super) type Tensor = *mut c_void;
type List = *mut c_void;
/// Axes that a tensor has at most.
const MOST_AXES: usize = 16;
type Get<T> = unsafe extern "C" fn(Tensor, *mut T) -> i32;

/// What is needed of LibTorch, in the order in which a package gives the addresses.
#[repr(C)]
pub(super) struct Functions {
    pub data: Get<*mut c_void>,
    rank: Get<i64>,
    sizes: Get<*const i64>,
    strides: Get<*const i64>,
    dtype: Get<i32>,
    pub device: Get<i32>,
    pub index: Get<i32>,
    pub empty: unsafe extern "C" fn(i64, *const i64, *const i64, i32, i32, i32, *mut Tensor) -> i32,
    copy: unsafe extern "C" fn(Tensor, Tensor, i32) -> i32,
    pub delete: unsafe extern "C" fn(Tensor) -> i32,
    list_size: unsafe extern "C" fn(List, *mut usize) -> i32,
    list_get: unsafe extern "C" fn(List, usize, *mut u64) -> i32,
    list_delete: unsafe extern "C" fn(List) -> i32,
    list_new: unsafe extern "C" fn(usize, *mut List) -> i32,
    list_push: unsafe extern "C" fn(List, u64) -> i32,
    check: *mut c_void,
    pub cuda: CudaFunctions,
}

static FUNCTIONS: AtomicPtr<Functions> = AtomicPtr::new(null_mut());
/// `aoti_torch_check`, for the jump.
static THROW: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

/// Takes the addresses; they stay the caller's, and stay valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_torch_functions(functions: *mut c_void, _: *const Model) {
    let functions = functions.cast::<Functions>();
    THROW.store(unsafe { (*functions).check }, Ordering::Release);
    FUNCTIONS.store(functions, Ordering::Release);
}

/// Gives a tensor back.
pub(super) unsafe extern "C" fn released(tensor: *mut c_void) {
    unsafe { ((*FUNCTIONS.load(Ordering::Acquire)).delete)(tensor) };
}

/// Messages of calls that failed, until LibTorch has copied them: more than there are threads that fail at once.
struct Messages(UnsafeCell<[[u8; 512]; 64]>);
// SAFETY: a caller writes the entry that `NEXT` gave it.
unsafe impl Sync for Messages {}
static MESSAGES: Messages = Messages(UnsafeCell::new([[0; 512]; 64]));
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// One call of the dispatcher: `stack` has the two lists and the number, and takes the list of outputs.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_torch(stack: *mut u64, n_arguments: u64, n_results: u64, model: *const Model) {
    core::arch::naked_asm!(
        "sub rsp, 8",
        "call {work}",
        "add rsp, 8",
        "test rax, rax",
        "jne 2f",
        "ret",
        // aoti_torch_check(false, function, file, line, message)
        "2:",
        "xor edi, edi",
        "mov rsi, rax",
        "mov rdx, rax",
        "xor ecx, ecx",
        "mov r8, rax",
        "jmp qword ptr [rip + {throw}]",
        work = sym work,
        throw = sym THROW,
    )
}

/// The same. `work` leaves its answer in the register of the first argument.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_torch(stack: *mut u64, n_arguments: u64, n_results: u64, model: *const Model) {
    core::arch::naked_asm!(
        "stp x29, x30, [sp, #-16]!",
        "bl {work}",
        "ldp x29, x30, [sp], #16",
        "cbnz x0, 2f",
        "ret",
        // aoti_torch_check(false, function, file, line, message)
        "2:",
        "mov x1, x0",
        "mov x2, x0",
        "mov w3, wzr",
        "mov x4, x0",
        "mov w0, wzr",
        "adrp x16, {throw}",
        "ldr x16, [x16, #:lo12:{throw}]",
        "br x16",
        work = sym work,
        throw = sym THROW,
    )
}

/// The call; null, or why not.
unsafe extern "C" fn work(stack: *mut u64, _: u64, _: u64, model: *const Model) -> *const u8 {
    let (torch, model) = unsafe { (&*FUNCTIONS.load(Ordering::Acquire), &*model) };
    let mut context = context();
    // The arguments are this kernel's to release.
    let [tensors, sizes] = [0, 1].map(|k| unsafe { *stack.add(k) as List });
    let wanted = unsafe { *stack.add(2) } as i64;
    let done = unsafe { call(&mut context, torch, model, tensors, sizes, wanted) };
    unsafe {
        (torch.list_delete)(tensors);
        (torch.list_delete)(sizes);
    }
    match done {
        Ok(outputs) => {
            unsafe { *stack = outputs as u64 };
            core::ptr::null()
        }
        Err(Failed(_)) => {
            let slot = NEXT.fetch_add(1, Ordering::Relaxed) % 64;
            // SAFETY: one of 64 entries.
            let to = unsafe { MESSAGES.0.get().cast::<[u8; 512]>().add(slot) };
            unsafe { *to = context.context.message };
            to.cast()
        }
    }
}

/// Handles of tensors, which a call must release.
pub(super) struct Held<'a> {
    pub torch: &'a Functions,
    handles: *mut Tensor,
    count: usize,
}

impl<'a> Held<'a> {
    /// With room for all tensors of a model and a copy of each.
    fn new(context: &mut Context, torch: &'a Functions, model: &Model) -> Checked<Held<'a>> {
        let count = (model.inputs.count + model.weights.count + model.outputs.count) as usize;
        let handles = unsafe { system::malloc((2 * count + 1) * size_of::<Tensor>()) }.cast::<Tensor>();
        if handles.is_null() {
            return Err(fail(context, NO_MEMORY, format_args!("no memory for the call of `{}`", text(model.name))));
        }
        Ok(Held { torch, handles, count: 0 })
    }

    fn hold(&mut self, tensor: Tensor) {
        // SAFETY: there is room for each tensor of the model and a copy, and each is held once.
        unsafe { *self.handles.add(self.count) = tensor };
        self.count += 1;
    }

    pub(super) fn get(&self, k: usize) -> Tensor {
        assert!(k < self.count);
        // SAFETY: so many are held.
        unsafe { *self.handles.add(k) }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        unsafe {
            for k in 0..self.count {
                (self.torch.delete)(*self.handles.add(k));
            }
            system::free(self.handles.cast());
        }
    }
}

unsafe fn call(
    context: &mut CudaContext,
    torch: &Functions,
    model: &Model,
    given: List,
    sizes: List,
    wanted: i64,
) -> Checked<List> {
    let n_tensors = (model.inputs.count + model.weights.count) as usize;
    for (list, what, wanted) in [(given, "inputs and weights", n_tensors), (sizes, "sizes", model.sizes.count as usize)] {
        let mut n = 0;
        unsafe { (torch.list_size)(list, &mut n) };
        counted(&mut context.context, model, what, n as i64, wanted as i64)?;
    }
    let mut tensors = Tensors::new(&mut context.context, model)?;
    let mut held = Held::new(&mut context.context, torch, model)?;
    for k in 0..n_tensors {
        let mut tensor = 0;
        unsafe { (torch.list_get)(given, k, &mut tensor) };
        held.hold(tensor as Tensor);
    }
    let place = unsafe { PlaceOfCall::of(&held, model) };
    let mut on_gpu = match place.device.kind {
        CUDA => Some(unsafe { OnGpu::enter(context, torch, place.device.id)? }),
        _ => None,
    };
    let infos = unsafe { (model.inputs.get(), model.weights.get()) };
    for (k, info) in infos.0.iter().chain(infos.1).enumerate() {
        unsafe { argument(&mut context.context, &mut tensors, &mut held, k, info, &place)? };
    }
    let mut values = [0i64; MAX_SIZES];
    let values = &mut values[..model.sizes.count as usize];
    for (k, value) in values.iter_mut().enumerate() {
        unsafe { (torch.list_get)(sizes, k, (&raw mut *value).cast()) };
    }
    let first = held.count;
    for (k, info) in unsafe { model.outputs.get() }.iter().enumerate() {
        let (k, real) = (n_tensors + k, model.real);
        unsafe { output(&mut context.context, &mut tensors, &mut held, k, (real, info), values, place.device)? };
    }
    let lender = on_gpu.as_mut().map(OnGpu::lender);
    unsafe { tensors.run(&mut context.context, lender.as_ref().map_or(core::ptr::null(), |lender| &raw const *lender))? };
    Ok(unsafe { listed(&mut held, first, wanted.clamp(0, model.outputs.count) as usize) })
}

/// The outputs, held from `first` on, as a list of those that are wanted.
unsafe fn listed(held: &mut Held<'_>, first: usize, wanted: usize) -> List {
    let (torch, end) = (held.torch, held.count);
    let mut outputs = null_mut();
    unsafe {
        (torch.list_new)(wanted, &mut outputs);
        for k in first..end {
            let handle = held.get(k);
            if k < first + wanted {
                // the list takes the handle
                (torch.list_push)(outputs, handle as u64);
            } else {
                (torch.delete)(handle);
            }
        }
    }
    held.count = first;
    outputs
}

/// LibTorch's numbers for types (`c10::ScalarType`).
fn dtype(code: i32) -> DataType {
    let (code, bits) = match code {
        0 => (1, 8),
        1 => (0, 8),
        2 => (0, 16),
        3 => (0, 32),
        4 => (0, 64),
        5 => (2, 16),
        6 => (2, 32),
        7 => (2, 64),
        8 => (5, 32),
        9 => (5, 64),
        10 => (5, 128),
        11 => (6, 8),
        15 => (4, 16),
        23..=26 => (7, 8),
        27 => (1, 16),
        28 => (1, 32),
        29 => (1, 64),
        _ => (UNNAMED, 0),
    };
    DataType { code, bits, lanes: 1 }
}

/// One argument, as it is where it is row-major, else as a copy.
unsafe fn argument(
    context: &mut Context,
    tensors: &mut Tensors<'_>,
    held: &mut Held<'_>,
    k: usize,
    info: &TensorInfo,
    place: &PlaceOfCall<'_>,
) -> Checked {
    let (torch, name, tensor) = (held.torch, text(info.name), held.get(k));
    let (mut data, mut rank, mut code) = (null_mut(), 0, 0);
    let (mut sizes, mut strides) = (core::ptr::null(), core::ptr::null());
    let failed = unsafe {
        (torch.dtype)(tensor, &mut code) | (torch.rank)(tensor, &mut rank)
            | (torch.sizes)(tensor, &mut sizes) | (torch.strides)(tensor, &mut strides) | (torch.data)(tensor, &mut data)
    };
    if failed != 0 {
        return Err(fail(context, INVALID, format_args!("`{name}` is a tensor without memory of its own")));
    }
    let device = unsafe { device_of(torch, tensor) };
    place.check(context, info, device)?;
    let dtype = dtype(code);
    let (sizes, strides) = unsafe { (shape(sizes, rank), shape(strides, rank)) };
    if !row_major(sizes, strides) && dtype.bits >= 32 {
        let copy = unsafe { empty(context, held, info, sizes, code, device)? };
        if unsafe { (torch.copy)(copy, tensor, 1) | (torch.data)(copy, &mut data) } != 0 {
            return Err(fail(context, NO_MEMORY, format_args!("`{name}` cannot be copied to be row-major")));
        }
    }
    tensors.set(k, data, sizes, dtype, device);
    Ok(())
}

/// A new row-major tensor, held; `code` is LibTorch's number for its type.
unsafe fn empty(
    context: &mut Context,
    held: &mut Held<'_>,
    info: &TensorInfo,
    lengths: &[i64],
    code: i32,
    device: Device,
) -> Checked<Tensor> {
    let rank = lengths.len();
    let mut strides = [1i64; MOST_AXES];
    if rank > MOST_AXES {
        return Err(fail(context, UNSUPPORTED, format_args!("`{}` has more than {MOST_AXES} axes", text(info.name))));
    }
    for axis in (1..rank).rev() {
        strides[axis - 1] = strides[axis] * lengths[axis].max(1);
    }
    let (kind, index) = if device.kind == CUDA { (TORCH_CUDA, device.id) } else { (0, 0) };
    let (mut tensor, lengths, strides) = (null_mut(), lengths.as_ptr(), strides.as_ptr());
    if unsafe { (held.torch.empty)(rank as i64, lengths, strides, code, kind, index, &mut tensor) } != 0 {
        return Err(fail(context, NO_MEMORY, format_args!("no memory for `{}`", text(info.name))));
    }
    held.hold(tensor);
    Ok(tensor)
}

/// A new tensor for an output.
unsafe fn output(
    context: &mut Context,
    tensors: &mut Tensors<'_>,
    held: &mut Held<'_>,
    k: usize,
    (real, info): (u32, &TensorInfo),
    sizes: &[i64],
    device: Device,
) -> Checked {
    let dims = unsafe { slice(info.dims, info.rank) };
    let mut lengths = [0i64; MOST_AXES];
    for (length, dim) in lengths.iter_mut().zip(dims) {
        *length = eval(dim, sizes).unwrap_or(0);
    }
    let lengths = lengths.get(..dims.len()).unwrap_or(&[0; MOST_AXES + 1]);
    let code = if real == F64 { 7 } else { 6 };
    let (mut data, mut shape_of) = (null_mut(), core::ptr::null());
    unsafe {
        let tensor = empty(context, held, info, lengths, code, device)?;
        (held.torch.data)(tensor, &mut data);
        (held.torch.sizes)(tensor, &mut shape_of);
        let dtype = DataType { code: 2, bits: bytes_of(real) as u8 * 8, lanes: 1 };
        tensors.set(k, data, shape(shape_of, dims.len() as i64), dtype, device);
    }
    Ok(())
}
