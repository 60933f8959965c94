//! A model's code on a GPU: loaded once for each CUDA context that binds, found again by every call.
//! The list only grows: a context that is destroyed takes its modules along, and its number never comes back.

use core::ffi::c_void;
use core::mem::size_of;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::driver::{Driver, Kernel};
use crate::abi::*;
use crate::message::{Checked, fail, text};
use crate::system;

/// The kernels of one model in one context, in the order of its tables: prepare, call, and the two checks of indices.
pub(super) struct Module {
    next: *mut Module,
    model: *const Model,
    context: u64,
    kernels: *mut Kernel,
    n_prepare: usize,
    n_call: usize,
}

static MODULES: AtomicPtr<Module> = AtomicPtr::new(null_mut());

impl Module {
    pub(super) fn prepare(&self) -> &[Kernel] {
        // SAFETY: `load` made so many.
        unsafe { core::slice::from_raw_parts(self.kernels, self.n_prepare) }
    }

    pub(super) fn call(&self) -> &[Kernel] {
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts(self.kernels.add(self.n_prepare), self.n_call) }
    }

    /// What checks and copies indices of 32 or 64 bits.
    pub(super) fn check(&self, wide: bool) -> Kernel {
        // SAFETY: the last two.
        unsafe { *self.kernels.add(self.n_prepare + self.n_call + usize::from(wide)) }
    }
}

/// The model's code in the current context, if it was loaded there.
pub(super) fn find(model: &Model, context: u64) -> Option<&'static Module> {
    let mut at = MODULES.load(Ordering::Acquire);
    // SAFETY: what is in the list stays.
    while let Some(module) = unsafe { at.as_ref() } {
        if core::ptr::eq(module.model, model) && module.context == context {
            return Some(module);
        }
        at = module.next;
    }
    None
}

/// Loads the model's code into the current context, unless it is there.
pub(super) unsafe fn load(
    driver: Driver,
    context: &mut Context,
    model: &Model,
    cuda: &Cuda,
    current: u64,
    capability: i64,
) -> Checked<&'static Module> {
    if let Some(module) = find(model, current) {
        return Ok(module);
    }
    unsafe {
        let loaded = loaded(driver, context, model, cuda, capability)?;
        let (prepare, call) = (cuda.prepare.get(), cuda.call.get());
        let n = prepare.len() + call.len() + 2;
        let module = system::malloc(size_of::<Module>()).cast::<Module>();
        let kernels = system::malloc(n * size_of::<Kernel>()).cast::<Kernel>();
        if module.is_null() || kernels.is_null() {
            return Err(fail(context, NO_MEMORY, format_args!("no memory for the names of {n} kernels")));
        }
        let names = prepare.iter().chain(call).map(|launch| launch.name);
        for (k, name) in names.chain([c"gdl_check_i32".as_ptr(), c"gdl_check_i64".as_ptr()]).enumerate() {
            *kernels.add(k) = driver.find(context, loaded, name)?;
        }
        let (n_prepare, n_call) = (prepare.len(), call.len());
        let next = MODULES.load(Ordering::Acquire);
        module.write(Module { next, model, context: current, kernels, n_prepare, n_call });
        while let Err(now) =
            MODULES.compare_exchange((*module).next, module, Ordering::AcqRel, Ordering::Acquire)
        {
            (*module).next = now;
        }
        Ok(&*module)
    }
}

/// The oldest compute capability that code is made for.
const LEAST: i64 = 75;

/// Loads the machine code for a compute capability, else the PTX, which the driver assembles; this too where the driver is older than the
/// machine code.
unsafe fn loaded(
    driver: Driver,
    context: &mut Context,
    model: &Model,
    cuda: &Cuda,
    capability: i64,
) -> Checked<*mut c_void> {
    let (name, least) = (text(model.name), cuda.architecture);
    let fits = |cubin: &&Cubin| cubin.architecture / 10 == capability / 10 && cubin.architecture <= capability;
    let cubin = unsafe { cuda.cubins.get() }.iter().filter(fits).max_by_key(|cubin| cubin.architecture);
    if let Some(cubin) = cubin {
        let done = unsafe { driver.load(context, cubin.data) };
        if done.is_ok() || capability < least {
            return done;
        }
        context.message[0] = 0;
    }
    if capability < LEAST {
        let reason = format_args!("this GPU is sm_{capability}, and code is made for sm_{LEAST} and later: `{name}` runs on the CPU here");
        return Err(fail(context, UNSUPPORTED, reason));
    }
    if capability < least {
        let reason = format_args!("`{name}` was built for sm_{least} and later; this GPU is sm_{capability}: build with --arch sm_{capability}");
        return Err(fail(context, UNSUPPORTED, reason));
    }
    unsafe { driver.load(context, cuda.ptx.cast()) }
}
