//! Where a call of PyTorch computes. In: the tensors of a call. Out: the CPU, or a GPU with its current stream, and memory of PyTorch's
//! allocator, which lends it in the order of the stream.

use core::ffi::c_void;
use core::fmt::{self, Display, Formatter};
use core::ptr::null_mut;

use super::ON_CPU;
use super::torch::{Functions, Held, Tensor, released};
use crate::abi::*;
use crate::message::{Checked, fail, text};

/// LibTorch's functions for GPUs; none where it was built without.
#[repr(C)]
pub(super) struct CudaFunctions {
    new_guard: Option<unsafe extern "C" fn(i32, *mut *mut c_void) -> i32>,
    delete_guard: Option<unsafe extern "C" fn(*mut c_void) -> i32>,
    stream: Option<unsafe extern "C" fn(i32, *mut *mut c_void) -> i32>,
}

/// `c10::DeviceType` and `c10::ScalarType`, as far as memory needs them.
pub(super) const TORCH_CUDA: i32 = 1;
const TORCH_BYTE: i32 = 0;

/// Where a call computes, and the argument that says so: the first on a GPU that is no table; else the CPU.
pub(super) struct PlaceOfCall<'a> {
    pub device: Device,
    by: Option<&'a str>,
}

impl<'a> PlaceOfCall<'a> {
    pub(super) unsafe fn of(held: &Held<'_>, model: &'a Model) -> PlaceOfCall<'a> {
        let infos = unsafe { (model.inputs.get(), model.weights.get()) };
        for (k, info) in infos.0.iter().chain(infos.1).enumerate().filter(|(_, info)| info.element != TABLE) {
            let device = unsafe { device_of(held.torch, held.get(k)) };
            if device.kind == CUDA {
                return PlaceOfCall { device, by: Some(text(info.name)) };
            }
        }
        PlaceOfCall { device: ON_CPU, by: None }
    }

    /// Whether an argument is where the call computes; a table may be on the CPU.
    pub(super) fn check(&self, context: &mut Context, info: &TensorInfo, given: Device) -> Checked {
        let here = self.device;
        let is_here = given.kind == here.kind && given.id == here.id;
        if is_here || (info.element == TABLE && given.kind == CPU) {
            return Ok(());
        }
        let (name, given) = (text(info.name), Named(given));
        let reason = match self.by {
            Some(by) => {
                let here = Named(here);
                return Err(fail(
                    context,
                    INVALID,
                    format_args!("`{name}` is on {given}, and `{by}` on {here}: move it with `.to(\"{here}\")`"),
                ));
            }
            None => format_args!("`{name}` is on {given}, and this call computes on the CPU: move it with `.cpu()`"),
        };
        Err(fail(context, INVALID, reason))
    }
}

/// A device as PyTorch calls it.
struct Named(Device);

impl Display for Named {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0.kind {
            CPU => f.write_str("cpu"),
            CUDA => write!(f, "cuda:{}", self.0.id),
            _ => f.write_str("another device"),
        }
    }
}

/// Where a tensor is; of no kind, where neither on the CPU nor on a GPU of CUDA.
pub(super) unsafe fn device_of(torch: &Functions, tensor: Tensor) -> Device {
    let (mut code, mut index) = (0, 0);
    match unsafe { (torch.device)(tensor, &mut code) } {
        0 if code == 0 => ON_CPU,
        0 if code == TORCH_CUDA && unsafe { (torch.index)(tensor, &mut index) } == 0 => Device { kind: CUDA, id: index },
        _ => Device { kind: 0, id: 0 },
    }
}

/// A GPU while a call is on it: its context is the current one.
pub(super) struct OnGpu<'a> {
    torch: &'a Functions,
    guard: *mut c_void,
    index: i32,
    borrowed: Tensor,
}

impl<'a> OnGpu<'a> {
    /// Makes a GPU the current one, and its current stream that of the call.
    pub(super) unsafe fn enter(context: &mut CudaContext, torch: &'a Functions, index: i32) -> Checked<OnGpu<'a>> {
        let CudaFunctions { new_guard: Some(new_guard), delete_guard: Some(_), stream: Some(stream) } = torch.cuda
        else {
            let reason = format_args!("this PyTorch has no CUDA: install one that was built for it");
            return Err(fail(&mut context.context, UNSUPPORTED, reason));
        };
        let mut on = OnGpu { torch, guard: null_mut(), index, borrowed: null_mut() };
        context.device = Device { kind: CUDA, id: index };
        if unsafe { new_guard(index, &mut on.guard) | stream(index, &mut context.stream) } != 0 {
            let reason = format_args!("PyTorch does not make cuda:{index} the current device");
            return Err(fail(&mut context.context, CUDA_FAILED, reason));
        }
        Ok(on)
    }

    /// Memory of PyTorch's allocator, until this is dropped.
    pub(super) fn lender(&mut self) -> Lender {
        Lender { host: (&raw mut *self).cast(), borrow, keep: Some(keep), release: Some(released) }
    }

    unsafe fn bytes(&self, bytes: i64, tensor: &mut Tensor) -> *mut u8 {
        let (mut data, stride) = (null_mut(), 1);
        let made =
            unsafe { (self.torch.empty)(1, &bytes, &stride, TORCH_BYTE, TORCH_CUDA, self.index, &raw mut *tensor) };
        if made == 0 && unsafe { (self.torch.data)(*tensor, &mut data) } == 0 { data.cast() } else { null_mut() }
    }
}

unsafe extern "C" fn borrow(host: *mut c_void, bytes: i64) -> *mut u8 {
    let on = unsafe { &mut *host.cast::<OnGpu<'_>>() };
    let mut tensor = null_mut();
    let data = unsafe { on.bytes(bytes, &mut tensor) };
    on.borrowed = tensor;
    data
}

unsafe extern "C" fn keep(host: *mut c_void, bytes: i64, owner: *mut *mut c_void) -> *mut u8 {
    unsafe { (*host.cast::<OnGpu<'_>>()).bytes(bytes, &mut *owner) }
}

impl Drop for OnGpu<'_> {
    fn drop(&mut self) {
        unsafe {
            if !self.borrowed.is_null() {
                (self.torch.delete)(self.borrowed);
            }
            if let (Some(delete), false) = (self.torch.cuda.delete_guard, self.guard.is_null()) {
                delete(self.guard);
            }
        }
    }
}
