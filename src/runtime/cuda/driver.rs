//! CUDA's driver, found when a call needs it: `libcuda.so.1` is opened then, and never before.
//! In: names. Out: functions, or a message that says what is missing. Everything the runtime asks of the driver goes through here.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::transmute_copy;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::abi::*;
use crate::message::{Checked, fail, text};
use crate::system;

const RTLD_NOW: c_int = 2;
/// The driver's `CUDA_ERROR_..` are other than this.
const SUCCESS: c_int = 0;
/// `CUDA_ERROR_OUT_OF_MEMORY`
const OUT_OF_MEMORY: c_int = 2;
/// `CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES`
const OUT_OF_RESOURCES: c_int = 701;

/// The streams of those who made none: null, `CU_STREAM_LEGACY`, `CU_STREAM_PER_THREAD`.
const LAST_DEFAULT_STREAM: usize = 2;

/// The functions, in the order of [`NAMES`].
#[derive(Clone, Copy)]
enum Function {
    Init,
    CtxGetCurrent,
    CtxGetDevice,
    DeviceGetAttribute,
    ModuleLoadDataEx,
    ModuleGetFunction,
    LaunchKernel,
    MemcpyHtoDAsync,
    MemcpyDtoDAsync,
    MemcpyDtoHAsync,
    MemAlloc,
    MemFree,
    StreamSynchronize,
    StreamIsCapturing,
    StreamGetCtx,
    CtxPushCurrent,
    CtxPopCurrent,
    DevicePrimaryCtxGetState,
    DevicePrimaryCtxRetain,
    DevicePrimaryCtxRelease,
    GetErrorName,
}

const NAMES: [&CStr; 21] = [
    c"cuInit",
    c"cuCtxGetCurrent",
    c"cuCtxGetDevice",
    c"cuDeviceGetAttribute",
    c"cuModuleLoadDataEx",
    c"cuModuleGetFunction",
    c"cuLaunchKernel",
    c"cuMemcpyHtoDAsync_v2",
    c"cuMemcpyDtoDAsync_v2",
    c"cuMemcpyDtoHAsync_v2",
    c"cuMemAlloc_v2",
    c"cuMemFree_v2",
    c"cuStreamSynchronize",
    c"cuStreamIsCapturing",
    c"cuStreamGetCtx",
    c"cuCtxPushCurrent_v2",
    c"cuCtxPopCurrent_v2",
    c"cuDevicePrimaryCtxGetState",
    c"cuDevicePrimaryCtxRetain",
    c"cuDevicePrimaryCtxRelease",
    c"cuGetErrorName",
];

/// Their addresses, 0 before the library is open. Threads that come at once find the same.
static ADDRESSES: [AtomicUsize; NAMES.len()] = [const { AtomicUsize::new(0) }; NAMES.len()];
/// `cuCtxGetId`, which drivers before CUDA 12 do not have; 0 where it is not there.
static CONTEXT_ID: AtomicUsize = AtomicUsize::new(0);
static READY: AtomicUsize = AtomicUsize::new(0);

/// The driver, open and initialised.
#[derive(Clone, Copy)]
pub(super) struct Driver(());

/// What a call has made current, until [`Driver::leave`].
pub(super) enum Entered {
    /// Nothing: the caller's context is used.
    Nothing,
    /// The context of a stream.
    OfStream,
    /// The context that CUDA's runtime has for a GPU.
    Primary(c_int),
}

/// A kernel of a loaded module.
pub(super) type Kernel = *mut c_void;

/// Opens the driver, once in the life of the process.
pub(super) fn open(context: &mut Context) -> Checked<Driver> {
    if READY.load(Ordering::Acquire) == 0 {
        // SAFETY: names end with a zero byte; the library stays open.
        unsafe {
            let library = system::dlopen(c"libcuda.so.1".as_ptr(), RTLD_NOW);
            if library.is_null() {
                let reason = format_args!("libcuda.so.1 is not here: calls on a GPU need NVIDIA's driver; the CPU works");
                return Err(fail(context, CUDA_FAILED, reason));
            }
            for (name, address) in NAMES.iter().zip(&ADDRESSES) {
                let found = system::dlsym(library, name.as_ptr()) as usize;
                if found == 0 {
                    let name = text(name.as_ptr());
                    let reason = format_args!("libcuda.so.1 has no `{name}`: NVIDIA's driver is older than CUDA 10, install a newer one");
                    return Err(fail(context, CUDA_FAILED, reason));
                }
                address.store(found, Ordering::Relaxed);
            }
            CONTEXT_ID.store(system::dlsym(library, c"cuCtxGetId".as_ptr()) as usize, Ordering::Relaxed);
            let init: unsafe extern "C" fn(u32) -> c_int = Driver(()).function(Function::Init);
            Driver(()).check(context, "cuInit", init(0))?;
        }
        READY.store(1, Ordering::Release);
    }
    Ok(Driver(()))
}

/// The driver, which [`open`] has found.
pub(super) fn opened() -> Driver {
    Driver(())
}

impl Driver {
    /// A function, as the type that it has.
    ///
    /// # Safety
    /// `F` is that type.
    unsafe fn function<F>(self, which: Function) -> F {
        let address = ADDRESSES[which as usize].load(Ordering::Relaxed);
        unsafe { transmute_copy(&address) }
    }

    fn check(self, context: &mut Context, what: &str, status: c_int) -> Checked {
        if status == SUCCESS {
            return Ok(());
        }
        let mut name: *const c_char = core::ptr::null();
        // SAFETY: the signature is the driver's.
        unsafe {
            let get: unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int = self.function(Function::GetErrorName);
            get(status, &mut name);
        }
        Err(fail(context, CUDA_FAILED, format_args!("{what} failed: {} ({status})", text(name))))
    }

    /// The current CUDA context; null where the thread has none.
    unsafe fn current_if_any(self, context: &mut Context) -> Checked<*mut c_void> {
        let mut current: *mut c_void = null_mut();
        unsafe {
            let get: unsafe extern "C" fn(*mut *mut c_void) -> c_int = self.function(Function::CtxGetCurrent);
            self.check(context, "cuCtxGetCurrent", get(&mut current))?;
        }
        Ok(current)
    }

    /// The current CUDA context: its address, and what tells it from one that had that address before.
    pub(super) unsafe fn current(self, context: &mut Context) -> Checked<(usize, u64)> {
        let current = unsafe { self.current_if_any(context)? };
        if current.is_null() {
            let reason = format_args!("no CUDA context is current in this thread: make one first (cuCtxSetCurrent, cudaSetDevice)");
            return Err(fail(context, CUDA_FAILED, reason));
        }
        let mut id = current as u64;
        let get = CONTEXT_ID.load(Ordering::Relaxed);
        if get != 0 {
            unsafe {
                let get: unsafe extern "C" fn(*mut c_void, *mut u64) -> c_int = transmute_copy(&get);
                self.check(context, "cuCtxGetId", get(current, &mut id))?;
            }
        }
        Ok((current as usize, id))
    }

    /// The number of the current GPU and its compute capability, 80 meaning 8.0.
    pub(super) unsafe fn device(self, context: &mut Context) -> Checked<(c_int, i64)> {
        const MAJOR: c_int = 75;
        const MINOR: c_int = 76;
        let (mut device, mut major, mut minor) = (0, 0, 0);
        unsafe {
            let get: unsafe extern "C" fn(*mut c_int) -> c_int = self.function(Function::CtxGetDevice);
            self.check(context, "cuCtxGetDevice", get(&mut device))?;
            let get: unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int =
                self.function(Function::DeviceGetAttribute);
            self.check(context, "cuDeviceGetAttribute", get(&mut major, MAJOR, device))?;
            self.check(context, "cuDeviceGetAttribute", get(&mut minor, MINOR, device))?;
        }
        Ok((device, 10 * i64::from(major) + i64::from(minor)))
    }

    /// Loads a module from PTX or machine code; on failure the first line of the assembler's reasons.
    pub(super) unsafe fn load(self, context: &mut Context, code: *const c_void) -> Checked<*mut c_void> {
        const ERROR_LOG: c_int = 5;
        const ERROR_LOG_BYTES: c_int = 6;
        let mut log = [0u8; 256];
        let mut options = [ERROR_LOG, ERROR_LOG_BYTES];
        let mut values = [log.as_mut_ptr().cast::<c_void>(), (log.len() - 1) as *mut c_void];
        let mut module = null_mut();
        let status = unsafe {
            let load: unsafe extern "C" fn(
                *mut *mut c_void,
                *const c_void,
                u32,
                *mut c_int,
                *mut *mut c_void,
            ) -> c_int = self.function(Function::ModuleLoadDataEx);
            load(&mut module, code, 2, options.as_mut_ptr(), values.as_mut_ptr())
        };
        if status != SUCCESS && log[0] != 0 {
            let why = text(log.as_ptr().cast());
            let why = why.split('\n').next().unwrap_or("");
            let advice = "install a newer driver of NVIDIA, or build with an older --arch, whose code older drivers know";
            let reason = format_args!("the driver does not take the code ({status}): {why}: {advice}");
            return Err(fail(context, CUDA_FAILED, reason));
        }
        self.check(context, "cuModuleLoadDataEx", status)?;
        Ok(module)
    }

    pub(super) unsafe fn find(
        self,
        context: &mut Context,
        module: *mut c_void,
        name: *const c_char,
    ) -> Checked<Kernel> {
        let mut found = null_mut();
        unsafe {
            let get: unsafe extern "C" fn(*mut *mut c_void, *mut c_void, *const c_char) -> c_int =
                self.function(Function::ModuleGetFunction);
            self.check(context, text(name), get(&mut found, module, name))?;
        }
        Ok(found)
    }

    /// Launches on a stream; `arguments` point at the values.
    pub(super) unsafe fn launch(
        self,
        context: &mut Context,
        name: &str,
        kernel: Kernel,
        (blocks, threads): (u32, u32),
        stream: *mut c_void,
        arguments: *mut *mut c_void,
    ) -> Checked {
        unsafe {
            type Launch = unsafe extern "C" fn(
                *mut c_void,
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                *mut c_void,
                *mut *mut c_void,
                *mut *mut c_void,
            ) -> c_int;
            let launch: Launch = self.function(Function::LaunchKernel);
            let status = launch(kernel, blocks, 1, 1, threads, 1, 1, 0, stream, arguments, null_mut());
            if status == OUT_OF_RESOURCES {
                let reason = format_args!(
                    "the kernel {name} needs more registers or shared memory for {threads} threads than this GPU has: build with the GPU's own --arch"
                );
                return Err(fail(context, UNSUPPORTED, reason));
            }
            self.check(context, name, status)
        }
    }

    /// Copies from the host, in the stream's order; the host's memory may change afterwards.
    pub(super) unsafe fn copy_from_host(
        self,
        context: &mut Context,
        to: *mut u8,
        from: *const u8,
        bytes: i64,
        stream: *mut c_void,
    ) -> Checked {
        unsafe { self.copied(context, Function::MemcpyHtoDAsync, "cuMemcpyHtoDAsync", (to, from, bytes), stream) }
    }

    /// Copies on the GPU, in the stream's order.
    pub(super) unsafe fn copy(
        self,
        context: &mut Context,
        to: *mut u8,
        from: *const u8,
        bytes: i64,
        stream: *mut c_void,
    ) -> Checked {
        unsafe { self.copied(context, Function::MemcpyDtoDAsync, "cuMemcpyDtoDAsync", (to, from, bytes), stream) }
    }

    /// Copies by one of the functions that do, which differ in where the memories are: an address is a pointer's width on either side.
    unsafe fn copied(
        self,
        context: &mut Context,
        function: Function,
        name: &str,
        (to, from, bytes): (*mut u8, *const u8, i64),
        stream: *mut c_void,
    ) -> Checked {
        unsafe {
            let copy: unsafe extern "C" fn(u64, u64, usize, *mut c_void) -> c_int = self.function(function);
            self.check(context, name, copy(to as u64, from as u64, bytes as usize, stream))
        }
    }

    pub(super) unsafe fn allocate(self, context: &mut Context, bytes: i64) -> Checked<*mut u8> {
        let mut address = 0u64;
        unsafe {
            let allocate: unsafe extern "C" fn(*mut u64, usize) -> c_int = self.function(Function::MemAlloc);
            let status = allocate(&mut address, bytes as usize);
            if status == OUT_OF_MEMORY {
                let reason = format_args!("no memory on the GPU: {bytes} bytes are needed");
                return Err(fail(context, NO_MEMORY, reason));
            }
            self.check(context, "cuMemAlloc", status)?;
        }
        Ok(address as *mut u8)
    }

    /// Copies to the host, in the stream's order.
    pub(super) unsafe fn copy_to_host(
        self,
        context: &mut Context,
        to: *mut u8,
        from: *const u8,
        bytes: i64,
        stream: *mut c_void,
    ) -> Checked {
        unsafe { self.copied(context, Function::MemcpyDtoHAsync, "cuMemcpyDtoHAsync", (to, from, bytes), stream) }
    }

    /// Waits for all that was given to the stream.
    pub(super) unsafe fn wait(self, context: &mut Context, stream: *mut c_void) -> Checked {
        unsafe {
            let wait: unsafe extern "C" fn(*mut c_void) -> c_int = self.function(Function::StreamSynchronize);
            self.check(context, "cuStreamSynchronize", wait(stream))
        }
    }

    /// Gives memory back, once the GPU has done with it. That it cannot be given back is found by whoever allocates next.
    pub(super) unsafe fn free(self, data: *mut u8) {
        unsafe {
            let free: unsafe extern "C" fn(u64) -> c_int = self.function(Function::MemFree);
            free(data as u64);
        }
    }

    /// As [`Driver::free`], of memory of a CUDA context that need not be the current one, nor any be.
    pub(super) unsafe fn free_in(self, cuda_context: usize, data: *mut u8) {
        unsafe {
            let push: unsafe extern "C" fn(*mut c_void) -> c_int = self.function(Function::CtxPushCurrent);
            // a context that is gone has taken its memory along
            if push(cuda_context as *mut c_void) == SUCCESS {
                self.free(data);
                self.pop();
            }
        }
    }

    /// Whether what is given to the stream becomes part of a graph.
    pub(super) unsafe fn is_capturing(self, context: &mut Context, stream: *mut c_void) -> Checked<bool> {
        let mut status = 0;
        unsafe {
            let get: unsafe extern "C" fn(*mut c_void, *mut c_int) -> c_int =
                self.function(Function::StreamIsCapturing);
            self.check(context, "cuStreamIsCapturing", get(stream, &mut status))?;
        }
        Ok(status != 0)
    }

    /// Makes a context current: that of the stream where the caller names no GPU, or the thread has none; of a default stream it is that of
    /// CUDA's runtime. A framework's thread may well have asked the runtime for nothing yet: PyTorch's threads of backward passes take
    /// memory from a cache.
    pub(super) unsafe fn enter(self, context: &mut Context, device: i32, stream: *mut c_void) -> Checked<Entered> {
        if device == OF_STREAM {
            return unsafe { self.enter_stream(context, stream) };
        }
        let (mut primary, mut flags, mut active): (*mut c_void, u32, c_int) = (null_mut(), 0, 0);
        unsafe {
            if !self.current_if_any(context)?.is_null() {
                return Ok(Entered::Nothing);
            }
            if stream as usize > LAST_DEFAULT_STREAM {
                return self.enter_stream(context, stream);
            }
            let get: unsafe extern "C" fn(c_int, *mut u32, *mut c_int) -> c_int =
                self.function(Function::DevicePrimaryCtxGetState);
            // no such GPU, or nobody uses it: `current` says that there is no context
            if get(device, &mut flags, &mut active) != SUCCESS || active == 0 {
                return Ok(Entered::Nothing);
            }
            let retain: unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int =
                self.function(Function::DevicePrimaryCtxRetain);
            self.check(context, "cuDevicePrimaryCtxRetain", retain(&mut primary, device))?;
            let entered = self.push(context, primary);
            if entered.is_err() {
                self.release(device);
            }
            entered.map(|()| Entered::Primary(device))
        }
    }

    unsafe fn enter_stream(self, context: &mut Context, stream: *mut c_void) -> Checked<Entered> {
        let mut of_stream: *mut c_void = null_mut();
        unsafe {
            let get: unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> c_int =
                self.function(Function::StreamGetCtx);
            self.check(context, "cuStreamGetCtx", get(stream, &mut of_stream))?;
            self.push(context, of_stream).map(|()| Entered::OfStream)
        }
    }

    unsafe fn push(self, context: &mut Context, cuda_context: *mut c_void) -> Checked {
        unsafe {
            let push: unsafe extern "C" fn(*mut c_void) -> c_int = self.function(Function::CtxPushCurrent);
            self.check(context, "cuCtxPushCurrent", push(cuda_context))
        }
    }

    /// Makes current what was current before.
    pub(super) unsafe fn leave(self, entered: Entered) {
        unsafe {
            match entered {
                Entered::Nothing => {}
                Entered::OfStream => self.pop(),
                Entered::Primary(device) => {
                    self.pop();
                    self.release(device);
                }
            }
        }
    }

    unsafe fn pop(self) {
        let mut left: *mut c_void = null_mut();
        unsafe {
            let pop: unsafe extern "C" fn(*mut *mut c_void) -> c_int = self.function(Function::CtxPopCurrent);
            pop(&mut left);
        }
    }

    unsafe fn release(self, device: c_int) {
        unsafe {
            let release: unsafe extern "C" fn(c_int) -> c_int = self.function(Function::DevicePrimaryCtxRelease);
            release(device);
        }
    }
}
