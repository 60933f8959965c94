//! The entry for PyTorch's dispatcher, by the stable C interface of LibTorch (`torch/csrc/stable`, `aoti_torch/c/shim.h`): the arguments are
//! the inputs, the weights, all run-time sizes; the results are the outputs.
//!
//! A kernel of the dispatcher reports an error by an exception of C++, and there are no tables here to unwind by. So the entry leaves the
//! stack as it found it and then jumps to the function of LibTorch that throws.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::{Tensors, context, counted, shape};
use crate::abi::*;
use crate::check::{bytes_of, eval, slice};
use crate::message::{Checked, Failed, fail, text};
use crate::system;

type Tensor = *mut c_void;
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

/// One call of the dispatcher: `stack` has the arguments and takes the results.
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

/// The call; null, or why not.
unsafe extern "C" fn work(stack: *mut u64, n_arguments: u64, n_results: u64, model: *const Model) -> *const u8 {
    let (torch, model) = unsafe { (&*FUNCTIONS.load(Ordering::Acquire), &*model) };
    let mut context = context();
    let n_tensors = (model.inputs.count + model.weights.count) as usize;
    let done = unsafe { call(&mut context, torch, model, stack, [n_arguments, n_results].map(|n| n as i64)) };
    // The arguments are this kernel's to release. The results have been written in their place only when all went well.
    let Err(Failed(_)) = done else { return core::ptr::null() };
    for k in 0..n_tensors.min(n_arguments as usize) {
        unsafe { (torch.delete)(*stack.add(k) as Tensor) };
    }
    let slot = NEXT.fetch_add(1, Ordering::Relaxed) % 64;
    // SAFETY: one of 64 entries.
    let to = unsafe { MESSAGES.0.get().cast::<[u8; 512]>().add(slot) };
    unsafe { *to = context.message };
    to.cast()
}

/// Tensors that a call made and must release: the outputs unless they are handed over, and copies.
struct Made<'a> {
    torch: &'a Functions,
    outputs: *mut Tensor,
    n_outputs: usize,
    copies: *mut *mut c_void,
    n_copies: usize,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        unsafe {
            for k in 0..self.n_outputs {
                (self.torch.delete)(*self.outputs.add(k));
            }
            for k in 0..self.n_copies {
                system::free(*self.copies.add(k));
            }
            system::free(self.outputs.cast());
        }
    }
}

unsafe fn call(context: &mut Context, torch: &Functions, model: &Model, stack: *mut u64, given: [i64; 2]) -> Checked {
    let n_tensors = model.inputs.count + model.weights.count;
    let n_outputs = model.outputs.count as usize;
    counted(context, model, "inputs, weights and sizes", given[0], n_tensors + model.sizes.count)?;
    counted(context, model, "outputs", given[1], model.outputs.count)?;
    let mut tensors = Tensors::new(context, model)?;
    let room = unsafe { system::malloc((n_outputs + n_tensors as usize + 1) * size_of::<Tensor>()) }.cast::<Tensor>();
    if room.is_null() {
        return Err(fail(context, NO_MEMORY, format_args!("no memory for the call of `{}`", text(model.name))));
    }
    let copies = room.wrapping_add(n_outputs);
    let mut made = Made { torch, outputs: room, n_outputs: 0, copies, n_copies: 0 };
    let infos = unsafe { (model.inputs.get(), model.weights.get()) };
    for (k, info) in infos.0.iter().chain(infos.1).enumerate() {
        unsafe { argument(context, &mut tensors, &mut made, k, *stack.add(k) as Tensor, info)? };
    }
    let sizes = unsafe { slice(stack.add(n_tensors as usize).cast::<i64>(), model.sizes.count) };
    for (k, info) in unsafe { model.outputs.get() }.iter().enumerate() {
        unsafe { output(context, &mut tensors, &mut made, n_tensors as usize + k, model.real, info, sizes)? };
    }
    unsafe { tensors.run(context)? };
    for k in 0..n_tensors as usize {
        unsafe { (torch.delete)(*stack.add(k) as Tensor) };
    }
    for k in 0..n_outputs {
        unsafe { *stack.add(k) = *room.add(k) as u64 };
    }
    made.n_outputs = 0;
    Ok(())
}

/// LibTorch's numbers for the types that a model may take (`c10::ScalarType`); any other is refused by name.
fn dtype(code: i32) -> DataType {
    let (code, bits) = match code {
        3 => (0, 32),
        4 => (0, 64),
        5 => (2, 16),
        6 => (2, 32),
        7 => (2, 64),
        15 => (4, 16),
        _ => (255, 0),
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
        *made.outputs.add(made.n_outputs) = tensor;
        made.n_outputs += 1;
        (made.torch.data)(tensor, &mut data);
        (made.torch.sizes)(tensor, &mut shape_of);
        let bits = bytes_of(real) as u8 * 8;
        tensors.set(k, data, shape(shape_of, rank), DataType { code: 2, bits, lanes: 1 });
    }
    Ok(())
}
