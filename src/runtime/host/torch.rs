//! The entry for PyTorch's dispatcher, by the stable C interface of LibTorch (`torch/csrc/stable`, `aoti_torch/c/shim.h`): the arguments are
//! the list of inputs and weights, the list of all run-time sizes, and how many of the outputs are wanted; the result is the list of these,
//! the first ones. (Without lists an operator has at most 64 arguments.)
//!
//! A kernel of the dispatcher reports an error by an exception of C++, and there are no tables here to unwind by. So the entry leaves the
//! stack as it found it and then jumps to the function of LibTorch that throws.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::{Tensors, context, counted, shape};
use crate::abi::*;
use crate::check::{UNNAMED, bytes_of, eval, slice};
use crate::entry::MAX_SIZES;
use crate::message::{Checked, Failed, fail, text};
use crate::system;

type Tensor = *mut c_void;
type List = *mut c_void;
type Get<T> = unsafe extern "C" fn(Tensor, *mut T) -> i32;

/// What is needed of LibTorch, in the order in which a package gives the addresses.
#[repr(C)]
struct Functions {
    data: Get<*mut c_void>,
    rank: Get<i64>,
    sizes: Get<*const i64>,
    strides: Get<*const i64>,
    dtype: Get<i32>,
    device: Get<i32>,
    empty: unsafe extern "C" fn(i64, *const i64, *const i64, i32, i32, i32, *mut Tensor) -> i32,
    delete: unsafe extern "C" fn(Tensor) -> i32,
    list_size: unsafe extern "C" fn(List, *mut usize) -> i32,
    list_get: unsafe extern "C" fn(List, usize, *mut u64) -> i32,
    list_delete: unsafe extern "C" fn(List) -> i32,
    list_new: unsafe extern "C" fn(usize, *mut List) -> i32,
    list_push: unsafe extern "C" fn(List, u64) -> i32,
    check: *mut c_void,
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
            unsafe { *to = context.message };
            to.cast()
        }
    }
}

/// What a call made and must release: handles of tensors, and row-major copies.
struct Made<'a> {
    torch: &'a Functions,
    handles: *mut Tensor,
    n_handles: usize,
    copies: *mut *mut c_void,
    n_copies: usize,
}

impl<'a> Made<'a> {
    /// With room for all tensors of a model.
    fn new(context: &mut Context, torch: &'a Functions, model: &Model) -> Checked<Made<'a>> {
        let count = (model.inputs.count + model.weights.count + model.outputs.count) as usize;
        let handles = unsafe { system::malloc((2 * count + 1) * size_of::<Tensor>()) }.cast::<Tensor>();
        if handles.is_null() {
            return Err(fail(context, NO_MEMORY, format_args!("no memory for the call of `{}`", text(model.name))));
        }
        Ok(Made { torch, handles, n_handles: 0, copies: handles.wrapping_add(count), n_copies: 0 })
    }

    fn hold(&mut self, tensor: Tensor) {
        // SAFETY: there is room for each tensor of the model, and each is held once.
        unsafe { *self.handles.add(self.n_handles) = tensor };
        self.n_handles += 1;
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        unsafe {
            for k in 0..self.n_handles {
                (self.torch.delete)(*self.handles.add(k));
            }
            for k in 0..self.n_copies {
                system::free(*self.copies.add(k));
            }
            system::free(self.handles.cast());
        }
    }
}

unsafe fn call(
    context: &mut Context,
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
        counted(context, model, what, n as i64, wanted as i64)?;
    }
    let mut tensors = Tensors::new(context, model)?;
    let mut made = Made::new(context, torch, model)?;
    let infos = unsafe { (model.inputs.get(), model.weights.get()) };
    for (k, info) in infos.0.iter().chain(infos.1).enumerate() {
        let mut tensor = 0;
        unsafe { (torch.list_get)(given, k, &mut tensor) };
        made.hold(tensor as Tensor);
        unsafe { argument(context, &mut tensors, &mut made, k, tensor as Tensor, info)? };
    }
    let mut values = [0i64; MAX_SIZES];
    let values = &mut values[..model.sizes.count as usize];
    for (k, value) in values.iter_mut().enumerate() {
        unsafe { (torch.list_get)(sizes, k, (&raw mut *value).cast()) };
    }
    for (k, info) in unsafe { model.outputs.get() }.iter().enumerate() {
        unsafe { output(context, &mut tensors, &mut made, n_tensors + k, model.real, info, values)? };
    }
    unsafe { tensors.run(context)? };
    let mut outputs = null_mut();
    unsafe {
        let wanted = wanted.clamp(0, model.outputs.count) as usize;
        (torch.list_new)(wanted, &mut outputs);
        for k in n_tensors..made.n_handles {
            let handle = *made.handles.add(k);
            if k < n_tensors + wanted {
                // the list takes the handle
                (torch.list_push)(outputs, handle as u64);
            } else {
                (torch.delete)(handle);
            }
        }
    }
    made.n_handles = n_tensors;
    Ok(outputs)
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
    made: &mut Made<'_>,
    k: usize,
    tensor: Tensor,
    info: &TensorInfo,
) -> Checked {
    let (torch, name) = (made.torch, text(info.name));
    let (mut data, mut rank, mut code, mut device) = (null_mut(), 0, 0, 0);
    let (mut sizes, mut strides) = (core::ptr::null(), core::ptr::null());
    let failed = unsafe {
        (torch.device)(tensor, &mut device) | (torch.dtype)(tensor, &mut code) | (torch.rank)(tensor, &mut rank)
            | (torch.sizes)(tensor, &mut sizes) | (torch.strides)(tensor, &mut strides) | (torch.data)(tensor, &mut data)
    };
    if failed != 0 {
        return Err(fail(context, INVALID, format_args!("`{name}` is a tensor without memory of its own")));
    }
    if device != 0 {
        let reason = format_args!("`{name}` is not on the CPU, where this library computes: move it with `.cpu()`");
        return Err(fail(context, INVALID, reason));
    }
    let dtype = dtype(code);
    let (sizes, strides) = unsafe { (shape(sizes, rank), shape(strides, rank)) };
    if !row_major(sizes, strides) && dtype.bits >= 32 {
        let count = sizes.iter().product::<i64>() as usize;
        let width = dtype.bits as usize / 8;
        let copy = unsafe { system::malloc(count * width) };
        if copy.is_null() {
            return Err(fail(context, NO_MEMORY, format_args!("no memory for a row-major copy of `{name}`")));
        }
        unsafe { *made.copies.add(made.n_copies) = copy };
        made.n_copies += 1;
        unsafe { gather(data.cast(), sizes, strides, width, copy.cast()) };
        data = copy;
    }
    tensors.set(k, data, sizes, dtype);
    Ok(())
}

fn row_major(sizes: &[i64], strides: &[i64]) -> bool {
    let mut want = 1;
    for (n, stride) in sizes.iter().zip(strides).rev() {
        if *n != 1 && *stride != want {
            return sizes.contains(&0);
        }
        want *= n;
    }
    true
}

/// Copies a tensor, row-major, elements of `width` bytes.
unsafe fn gather(from: *const u8, sizes: &[i64], strides: &[i64], width: usize, to: *mut u8) {
    let count = sizes.iter().product::<i64>();
    for k in 0..count {
        let (mut rest, mut at) = (k, 0);
        for (n, stride) in sizes.iter().zip(strides).rev() {
            at += rest % n * stride;
            rest /= n;
        }
        let source = from.wrapping_offset(at as isize * width as isize);
        unsafe { core::ptr::copy_nonoverlapping(source, to.add(k as usize * width), width) };
    }
}

/// A new tensor for an output.
unsafe fn output(
    context: &mut Context,
    tensors: &mut Tensors<'_>,
    made: &mut Made<'_>,
    k: usize,
    real: u32,
    info: &TensorInfo,
    sizes: &[i64],
) -> Checked {
    const MOST: usize = 16;
    let dims = unsafe { slice(info.dims, info.rank) };
    let (mut lengths, mut strides) = ([0i64; MOST], [1i64; MOST]);
    if dims.len() > MOST {
        return Err(fail(context, UNSUPPORTED, format_args!("`{}` has more than {MOST} axes", text(info.name))));
    }
    for (length, dim) in lengths.iter_mut().zip(dims) {
        *length = eval(dim, sizes).unwrap_or(0);
    }
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * lengths[axis].max(1);
    }
    let (double, mut tensor, mut data, mut shape_of) = (real == F64, null_mut(), null_mut(), core::ptr::null());
    let code = if double { 7 } else { 6 };
    let rank = dims.len() as i64;
    unsafe {
        if (made.torch.empty)(rank, lengths.as_ptr(), strides.as_ptr(), code, 0, 0, &mut tensor) != 0 {
            return Err(fail(context, NO_MEMORY, format_args!("no memory for the output `{}`", text(info.name))));
        }
        made.hold(tensor);
        (made.torch.data)(tensor, &mut data);
        (made.torch.sizes)(tensor, &mut shape_of);
        let bits = bytes_of(real) as u8 * 8;
        tensors.set(k, data, shape(shape_of, rank), DataType { code: 2, bits, lanes: 1 });
    }
    Ok(())
}
