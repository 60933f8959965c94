//! The structures that cross the boundary of an exported library, as C lays them out.
//! In: nothing. Out: the types that the runtime, the loader and the writer of the tables agree on. The header says the same in C.

use core::ffi::{c_char, c_void};

/// The version of every structure here; [`Model::version`] and [`Context::version`] carry it.
pub const VERSION: u32 = 3;

/// The version of a context that begins a [`CudaContext`].
pub const VERSION_CUDA: u32 = 4;

/// All went well.
pub const OK: i32 = 0;
/// An argument is wrong; the context's message says which and why.
pub const INVALID: i32 = 1;
/// This processor lacks instructions the library was built for.
pub const UNSUPPORTED: i32 = 2;
/// The one-shot entry could not get memory.
pub const NO_MEMORY: i32 = 3;
/// CUDA is missing or failed.
pub const CUDA_FAILED: i32 = 4;

/// A piece of a loop: runs the iterations `begin..end`.
pub type Body = unsafe extern "C" fn(data: *const c_void, begin: i64, end: i64);
/// A host's way of running a loop in parallel: calls `body` on pieces that cover `begin..end`, each at least `grain` long where possible.
pub type ParallelFor =
    unsafe extern "C" fn(host: *mut c_void, begin: i64, end: i64, grain: i64, body: Body, data: *const c_void);

/// What a caller keeps for each of its threads: where messages go, and the threads to use.
#[repr(C)]
pub struct Context {
    pub version: u32,
    /// At most so many threads; 0 for all of the pool (`GDL_NUM_THREADS`, else the processors available).
    pub threads: u32,
    /// Where given, used in place of the library's own threads.
    pub parallel_for: Option<ParallelFor>,
    pub host: *mut c_void,
    /// The reason of the last failure, ends with a zero byte.
    pub message: [u8; 512],
}

/// What a caller keeps to compute on a GPU: a context whose version says that the rest is there.
#[repr(C)]
pub struct CudaContext {
    pub context: Context,
    /// The GPU of the current CUDA context, or of the stream's where the thread has none; the CPU for calls on the CPU.
    pub device: Device,
    /// The stream (`CUstream`, `cudaStream_t`) that everything is done on.
    pub stream: *mut c_void,
}

/// Memory of the caller.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Memory {
    pub data: *mut u8,
    pub bytes: i64,
}

/// DLPack's `DLDataType`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DataType {
    pub code: u8,
    pub bits: u8,
    pub lanes: u16,
}

/// DLPack's `DLDevice`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Device {
    pub kind: i32,
    pub id: i32,
}

/// DLPack's `DLTensor`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DlTensor {
    pub data: *mut c_void,
    pub device: Device,
    pub ndim: i32,
    pub dtype: DataType,
    pub shape: *const i64,
    pub strides: *const i64,
    pub byte_offset: u64,
}

/// DLPack's device types.
pub const CPU: i32 = 1;
pub const CUDA: i32 = 2;
/// In place of a GPU's number, where a host gives a stream alone: the GPU of that stream.
pub const OF_STREAM: i32 = -1;

/// Memory on the GPU that a host lends to a call of [`Model::run_fn`]'s form.
#[repr(C)]
pub struct Lender {
    pub host: *mut c_void,
    /// Bytes for this call alone, which work that comes later on the stream may use again; null where there are none.
    pub borrow: unsafe extern "C" fn(host: *mut c_void, bytes: i64) -> *mut u8,
    /// Bytes that last until `owner` is released, in the order of the stream; where a host has none, the driver's.
    pub keep: Option<unsafe extern "C" fn(host: *mut c_void, bytes: i64, owner: *mut *mut c_void) -> *mut u8>,
    pub release: Option<unsafe extern "C" fn(owner: *mut c_void)>,
}

/// Number types, as tables name them.
pub const F32: u32 = 0;
pub const F64: u32 = 1;
pub const I32: u32 = 2;
pub const I64: u32 = 3;

/// `(scale · sizes[var] + offset) / divisor`; a literal has `scale = 0`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Size {
    pub var: i64,
    pub scale: i64,
    pub offset: i64,
    pub divisor: i64,
}

/// Real numbers of the model's dtype.
pub const REAL: u32 = 0;
/// Indices read at bind.
pub const TABLE: u32 = 1;
/// Indices read at call.
pub const INDEX: u32 = 2;

/// What is known about one argument.
#[repr(C)]
pub struct TensorInfo {
    pub name: *const c_char,
    pub about: *const c_char,
    pub rank: i64,
    pub dims: *const Size,
    /// [`REAL`], [`TABLE`] or [`INDEX`].
    pub element: u32,
    /// Indices that must not decrease.
    pub sorted: u32,
    /// Indices are below it.
    pub range: Size,
}

/// A pair of texts.
#[repr(C)]
pub struct Fact {
    pub key: *const c_char,
    pub value: *const c_char,
}

/// `size mod modulus = 0`, or the sentence.
#[repr(C)]
pub struct Precondition {
    pub size: Size,
    pub modulus: i64,
    pub reason: *const c_char,
}

/// Where a buffer lives: an argument, or a slot of one of the three memories.
pub const INPUT: u32 = 0;
pub const WEIGHT: u32 = 1;
pub const OUTPUT: u32 = 2;
pub const BOUND: u32 = 3;
pub const PREPARED: u32 = 4;
pub const WORKSPACE: u32 = 5;

/// One word of a frame: the address of a buffer.
#[repr(C)]
pub struct Place {
    pub memory: u32,
    /// The argument's number, or the slot's.
    pub index: u32,
    pub dtype: u32,
    /// The argument whose checked copy it holds, else -1.
    pub copy_of: i32,
    pub rank: i64,
    pub dims: *const Size,
}

/// Buffers that share memory: `members[first..first + count]` are places.
#[repr(C)]
pub struct Slot {
    pub memory: u32,
    pub reserved: u32,
    pub first: i64,
    pub count: i64,
}

/// A compiled kernel: its frame is `[context, sizes.., places..]`.
pub type Kernel = unsafe extern "C" fn(frame: *const i64);

/// An array of a table.
#[repr(C)]
pub struct List<T> {
    pub count: i64,
    pub items: *const T,
}

impl<T> List<T> {
    /// The elements.
    ///
    /// # Safety
    /// `items` points at `count` elements; the writer of the tables sees to it.
    pub unsafe fn get(&self) -> &[T] {
        if self.count <= 0 {
            return &[];
        }
        unsafe { core::slice::from_raw_parts(self.items, self.count as usize) }
    }
}

pub type SizesFn = unsafe extern "C" fn(*mut Context, *const *const DlTensor, *mut i64) -> i32;
pub type MemoryFn = unsafe extern "C" fn(*mut Context, *const i64, *mut Memory) -> i32;
pub type BindFn = unsafe extern "C" fn(*mut Context, *const *const DlTensor, *const i64, *const Memory) -> i32;
pub type PrepareFn = unsafe extern "C" fn(*mut Context, *const *const DlTensor, *const Memory) -> i32;
pub type CallFn =
    unsafe extern "C" fn(*mut Context, *const *const DlTensor, *const *const DlTensor, *const Memory) -> i32;
pub type RunFn =
    unsafe extern "C" fn(*mut Context, *const *const DlTensor, *const *const DlTensor, *const *const DlTensor) -> i32;

/// All that is known about a model. The fields up to `pullback` are public (`gdl_model` of the header).
#[repr(C)]
pub struct Model {
    pub version: u32,
    pub real: u32,
    pub name: *const c_char,
    pub sizes: List<*const c_char>,
    pub inputs: List<TensorInfo>,
    pub weights: List<TensorInfo>,
    pub outputs: List<TensorInfo>,
    pub facts: List<Fact>,
    pub sizes_fn: SizesFn,
    pub memory_fn: MemoryFn,
    pub bind_fn: BindFn,
    pub prepare_fn: PrepareFn,
    pub call_fn: CallFn,
    pub run_fn: RunFn,
    /// The model of the derivatives of this one by reverse mode, or null: inputs and weights as here, then a cotangent for each output;
    /// outputs the derivatives by each real input and each weight, in that order.
    pub vjp: *const Model,
    /// The model of the derivatives of this one by forward mode, or null: inputs and weights as here, then a tangent for each real input
    /// and each weight; outputs the tangents of the outputs.
    pub jvp: *const Model,
    /// The derivatives of this one by reverse mode in two passes, or null. `keep`: inputs and weights as here; outputs as here, then what it
    /// keeps. `pullback`: inputs as of `vjp`, then what was kept; weights and outputs as of `vjp`.
    pub keep: *const Model,
    pub pullback: *const Model,
    pub preconditions: List<Precondition>,
    pub places: List<Place>,
    pub slots: List<Slot>,
    pub members: List<i64>,
    pub bind: List<Kernel>,
    pub prepare: List<Kernel>,
    pub call: List<Kernel>,
    /// Tells the model's memories from others'.
    pub hash: u64,
    /// Instructions the code needs, [`FEATURE_V2`] and the like.
    pub features: u64,
    /// The kernels for GPUs, or null.
    pub cuda: *const Cuda,
}

/// A model's code for GPUs, and the part of the runtime that launches it: only libraries that have the code have that part.
#[repr(C)]
pub struct Cuda {
    /// PTX, ends with a zero byte.
    pub ptx: *const c_char,
    /// The compute capability that the PTX is for, 80 meaning 8.0, and all later ones.
    pub architecture: i64,
    pub cubins: List<Cubin>,
    pub prepare: List<Launch>,
    pub call: List<Launch>,
    pub memory_fn: CudaMemoryFn,
    pub bind_fn: CudaBindFn,
    pub prepare_fn: CudaPrepareFn,
    pub call_fn: CudaCallFn,
    pub run_fn: CudaRunFn,
}

/// Machine code for one compute capability, and for those of the same major version after it.
#[repr(C)]
pub struct Cubin {
    pub architecture: i64,
    pub data: *const c_void,
}

/// One launch: `ceil(Π sizes / tile) · times` blocks.
#[repr(C)]
pub struct Launch {
    pub name: *const c_char,
    pub threads: i64,
    pub tile: i64,
    pub times: i64,
    pub sizes: List<Size>,
    /// The words of the frame that are its arguments.
    pub words: List<i64>,
}

/// Words a frame has at most where it is made for a launch: it lives on the stack.
pub const MAX_FRAME: usize = 4096;
/// Arguments that a launch has at most.
pub const MAX_WORDS: usize = 512;

pub type CudaMemoryFn = unsafe extern "C" fn(*mut CudaContext, *const Model, *const i64, *mut Memory) -> i32;
pub type CudaBindFn =
    unsafe extern "C" fn(*mut CudaContext, *const Model, *const *const DlTensor, *const i64, *const Memory) -> i32;
pub type CudaPrepareFn =
    unsafe extern "C" fn(*mut CudaContext, *const Model, *const *const DlTensor, *const Memory) -> i32;
pub type CudaCallFn = unsafe extern "C" fn(
    *mut CudaContext,
    *const Model,
    *const *const DlTensor,
    *const *const DlTensor,
    *const Memory,
) -> i32;
/// Without a lender it works in memory of its own and waits for the results.
pub type CudaRunFn = unsafe extern "C" fn(
    *mut CudaContext,
    *const Model,
    *const *const DlTensor,
    *const *const DlTensor,
    *const *const DlTensor,
    *const Lender,
) -> i32;

/// Bytes of a row of a panel of packed weights.
pub const PANEL_BYTES: i64 = 64;
/// Bytes from one row of a finished tile to the next: a tile has at most four panels.
pub const TILE_ROW_BYTES: i64 = 4 * PANEL_BYTES;

/// Places that rows which lie beside each other have at most.
pub const MOST_PLACES: usize = 1024;

/// The x86-64-v2 set: SSE4.2 and what comes with it.
pub const FEATURE_V2: u64 = 4;
/// What x86-64-v3 adds: AVX2, FMA, BMI, and what comes with them.
pub const FEATURE_V3: u64 = 1;
/// What x86-64-v4 adds: AVX-512 F, BW, CD, DQ, VL.
pub const FEATURE_AVX512: u64 = 2;
