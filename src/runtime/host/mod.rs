//! Entries in the form that a host calls by itself, one file a host. In: a host's own tensors. Out: what the host takes for a result.
//! A host gives tables, weights and inputs at every call, so each goes through `run`, which keeps instances.
//! The hosts' structures are written out here: no header, no library of a host is needed to build or to load.

pub(crate) mod onnx;
pub(crate) mod torch;
mod torch_device;
pub(crate) mod tvm;
pub(crate) mod xla;

use core::ffi::c_void;
use core::ptr::{null, null_mut};

use super::abi::*;
use super::check::slice;
use super::entry;
use super::message::{Checked, fail, text};
use super::system;

/// Where hosts' calls on the CPU compute.
pub(crate) const ON_CPU: Device = Device { kind: CPU, id: 0 };

/// A context of the runtime's own, for hosts that have none: for the CPU, until it is given another device.
pub(crate) fn context() -> CudaContext {
    let context = Context { version: VERSION_CUDA, threads: 0, parallel_for: None, host: null_mut(), message: [0; 512] };
    CudaContext { context, device: ON_CPU, stream: null_mut() }
}

/// The tensors of a call: inputs, weights, outputs, in one block.
pub(crate) struct Tensors<'a> {
    model: &'a Model,
    tensors: *mut DlTensor,
    pointers: *mut *const DlTensor,
    count: usize,
}

impl<'a> Tensors<'a> {
    /// Room for all tensors of a model.
    pub(crate) fn new(context: &mut Context, model: &'a Model) -> Checked<Tensors<'a>> {
        let count = (model.inputs.count + model.weights.count + model.outputs.count) as usize;
        let bytes = count * (size_of::<DlTensor>() + size_of::<*const DlTensor>());
        // SAFETY: room for each tensor and a pointer to it; `malloc` aligns for both.
        let block = unsafe { system::malloc(bytes.max(1)) };
        if block.is_null() {
            return Err(fail(context, NO_MEMORY, format_args!("no memory: {bytes} bytes are needed")));
        }
        let tensors = block.cast::<DlTensor>();
        let pointers = tensors.wrapping_add(count).cast::<*const DlTensor>();
        for k in 0..count {
            unsafe { *pointers.add(k) = tensors.add(k) };
        }
        Ok(Tensors { model, tensors, pointers, count })
    }

    /// Describes a row-major tensor. `k` counts inputs, then weights, then outputs.
    pub(crate) fn set(&mut self, k: usize, data: *mut c_void, shape: &[i64], dtype: DataType, device: Device) {
        let (ndim, shape) = (shape.len() as i32, shape.as_ptr());
        self.set_tensor(k, &DlTensor { data, device, ndim, dtype, shape, strides: null(), byte_offset: 0 });
    }

    /// As [`Tensors::set`], of a tensor that may have strides.
    pub(crate) fn set_tensor(&mut self, k: usize, tensor: &DlTensor) {
        assert!(k < self.count);
        // SAFETY: there is room for `count` of them.
        unsafe { self.tensors.add(k).write(*tensor) };
    }

    /// The inputs, as the checks take them; they have been set.
    pub(crate) fn inputs(&self) -> *const *const DlTensor {
        self.pointers
    }

    /// Computes the outputs; all tensors have been set. On a GPU in the lender's memory.
    pub(crate) unsafe fn run(&self, context: &mut Context, lender: *const Lender) -> Checked {
        let weights = self.pointers.wrapping_add(self.model.inputs.count as usize);
        let outputs = weights.wrapping_add(self.model.weights.count as usize);
        unsafe { entry::checked_run(context, self.model, self.pointers, weights, outputs, lender) }
    }
}

impl Drop for Tensors<'_> {
    fn drop(&mut self) {
        // SAFETY: the block came from `malloc`.
        unsafe { system::free(self.tensors.cast()) };
    }
}

/// The host gives as many arguments as the model has.
pub(crate) fn counted(context: &mut Context, model: &Model, what: &str, given: i64, wanted: i64) -> Checked {
    if given == wanted {
        return Ok(());
    }
    let name = text(model.name);
    Err(fail(context, INVALID, format_args!("`{name}` has {wanted} {what}, {given} were given")))
}

/// A host's array of lengths.
pub(crate) unsafe fn shape<'a>(dims: *const i64, rank: i64) -> &'a [i64] {
    unsafe { slice(dims, rank) }
}
