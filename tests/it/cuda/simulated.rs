//! The simulated GPU (`tests/simulated_gpu`) in the place of CUDA's driver, and libraries to call on it. Its memory can be touched by the driver
//! alone, it runs the PTX of their kernels, and it says what it was asked for.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::null_mut;
use std::sync::{LazyLock, Mutex, MutexGuard};

use gdlc::base::dtype::Dtype;
use gdlc::codegen::{BACKENDS, Target, device::Architecture};
use gdlc::driver::tensors::{Numbers, Tensor};
use gdlc::kernel::ir::{ArgumentKind, Program};
use gdlc::package::{Member, build_all, device::DeviceTarget};

use super::abi::{self, Model};
use crate::conformance::{build, computed, interface_of, numbers, saved};
use crate::gpu::programs_of;

/// The driver's file, which cargo built beside this test.
fn driver() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a file");
    test.with_file_name("libsimulated_gpu.so")
}

/// The driver, used by one test at a time.
pub(super) struct Gpu {
    library: &'static libloading::Library,
    _alone: MutexGuard<'static, ()>,
}

fn opened(path: &Path) -> libloading::Library {
    // SAFETY: libraries of these tests do nothing when they are loaded.
    unsafe { libloading::Library::new(path).expect("it loads") }
}

/// A library in C of these tests, which whoever opens `name` afterwards finds; compiled once.
pub(super) fn compiled(source: &str, name: &str) -> &'static libloading::Library {
    static LIBRARIES: Mutex<BTreeMap<String, &'static libloading::Library>> = Mutex::new(BTreeMap::new());
    let mut libraries = LIBRARIES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    *libraries.entry(name.to_string()).or_insert_with(|| {
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(source);
        let always = ["-std=gnu11", "-O1", "-Wall", "-Werror", "-shared", "-fPIC"];
        let mut compiler = Command::new("cc");
        let done = compiler.args(always).arg(format!("-Wl,-soname,{name}")).arg(source).arg("-o").arg(&to).status();
        assert!(done.is_ok_and(|status| status.success()), "cc compiles {name}");
        Box::leak(Box::new(opened(&to)))
    })
}

impl Gpu {
    /// The driver, as after a start: GPU 0 of compute capability 8.0, with a current context.
    pub(super) fn start() -> Gpu {
        static LIBRARY: LazyLock<libloading::Library> = LazyLock::new(|| opened(&driver()));
        Gpu::started(&LIBRARY)
    }

    /// One that does not have a function, in a process that has no other.
    pub(super) fn start_without(function: &str) -> Gpu {
        let mut bytes = std::fs::read(driver()).expect("it is there");
        let name = format!("\0{function}\0").into_bytes();
        let at = bytes.windows(name.len()).position(|part| part == name).expect("it has the function");
        bytes[at + function.len()] = b'_';
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-older.so", std::process::id()));
        std::fs::write(&path, bytes).expect("it is written");
        Gpu::started(Box::leak(Box::new(opened(&path))))
    }

    fn started(library: &'static libloading::Library) -> Gpu {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let gpu = Gpu { library, _alone: alone };
        // SAFETY: as `simulated-gpu` defines it; so of all functions below.
        unsafe { gpu.function::<unsafe extern "C" fn()>("simulated_start")() };
        gpu
    }

    /// A function of the driver, of the type that it has.
    unsafe fn function<F>(&self, name: &str) -> libloading::Symbol<'static, F> {
        // SAFETY: the caller's.
        unsafe { self.library.get(name.as_bytes()).expect("the driver has it") }
    }

    pub(super) fn address(&self, name: &str) -> *const c_void {
        // SAFETY: only the address is taken.
        unsafe { *self.function::<*const c_void>(name) }
    }

    pub(super) fn set(&self, name: &str, value: i64) {
        let c_name = CString::new(name).expect("no zero");
        let set = unsafe { self.function::<unsafe extern "C" fn(*const c_char, i64) -> bool>("simulated_set") };
        assert!(unsafe { set(c_name.as_ptr(), value) }, "it has {name}");
    }

    /// What was asked for since the last time, a line each.
    pub(super) fn log(&self) -> Vec<String> {
        unsafe {
            let text = self.function::<unsafe extern "C" fn() -> *mut c_char>("simulated_log")();
            let lines = CStr::from_ptr(text).to_string_lossy().lines().map(str::to_string).collect();
            self.function::<unsafe extern "C" fn(*mut c_char)>("simulated_forget")(text);
            lines
        }
    }

    pub(super) fn allocate(&self, bytes: usize) -> *mut c_void {
        unsafe { self.function::<unsafe extern "C" fn(u64) -> u64>("simulated_allocate")(bytes as u64) as *mut c_void }
    }

    pub(super) fn free(&self, data: *mut c_void) {
        let status = unsafe { self.function::<unsafe extern "C" fn(u64) -> i32>("simulated_free")(data as u64) };
        assert_eq!(status, 0, "it was allocated, and is freed once");
    }

    /// The allocations that are not freed.
    pub(super) fn live(&self) -> i64 {
        unsafe { self.function::<unsafe extern "C" fn() -> i64>("simulated_live")() }
    }

    pub(super) fn write(&self, to: *mut c_void, bytes: &[u8]) {
        let write = unsafe { self.function::<unsafe extern "C" fn(u64, *const u8, usize)>("simulated_write") };
        unsafe { write(to as u64, bytes.as_ptr(), bytes.len()) }
    }

    pub(super) fn read(&self, from: *const c_void, bytes: usize) -> Vec<u8> {
        let mut found = vec![0; bytes];
        let read = unsafe { self.function::<unsafe extern "C" fn(*mut u8, u64, usize)>("simulated_read") };
        unsafe { read(found.as_mut_ptr(), from as u64, bytes) }
        found
    }
}

/// A library that stays loaded, and its table.
pub(super) fn open(path: &Path, name: &str) -> (&'static libloading::Library, &'static Model) {
    // SAFETY: the library is of this build, and runs nothing when it is loaded.
    unsafe {
        let library = Box::leak(Box::new(opened(path)));
        let query: libloading::Symbol<'_, unsafe extern "C" fn() -> *const Model> =
            library.get(format!("gdl_{name}_query").as_bytes()).expect("it has a query");
        (library, &*query())
    }
}

/// A program of the repository as a library for GPUs, with numbers to run it on.
pub(super) struct Case {
    pub program: Program,
    pub library: &'static libloading::Library,
    pub model: &'static Model,
    pub sizes: Vec<usize>,
    pub inputs: Vec<Tensor>,
    pub weights: Vec<Tensor>,
    pub path: PathBuf,
}

impl Case {
    pub(super) fn new(path: &str, sizes: &[usize], test: &str) -> Case {
        Case::of(programs_of(path).remove(0), sizes, test)
    }

    /// With machine code, which no assembler made: the driver tells it by how it begins.
    pub(super) fn assembled(path: &str, sizes: &[usize], test: &str) -> Case {
        let ptxas = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ptxas-{}", std::process::id()));
        std::fs::write(&ptxas, "#!/bin/sh\n{ printf '\\177ELF'; cat \"$3\"; } > \"$5\"\n")
            .expect("the script is written");
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&ptxas, executable).expect("it can be run");
        Case::with(programs_of(path).remove(0), sizes, test, Some(ptxas))
    }

    pub(super) fn of(program: Program, sizes: &[usize], test: &str) -> Case {
        Case::with(program, sizes, test, None)
    }

    /// A program with numbers and tables that are made up.
    fn with(program: Program, sizes: &[usize], test: &str, ptxas: Option<PathBuf>) -> Case {
        let argument = |k: usize, buffer, kind| {
            let shape: Vec<usize> =
                program.buffers[buffer].shape.iter().map(|s| s.eval(|v| sizes[v.0 as usize])).collect();
            let (range, sorted) = match kind {
                ArgumentKind::Real => return numbers(shape, k),
                ArgumentKind::Table { range, sorted } => (range, sorted),
                ArgumentKind::Index { range } => (range, false),
            };
            let (range, n) = (range.eval(|v| sizes[v.0 as usize]), shape.iter().product::<usize>());
            let mut values: Vec<i64> = (0..n).map(|e| ((7 * e + 3 * k) % range) as i64).collect();
            if sorted {
                values.sort_unstable();
            }
            Tensor { shape, numbers: Numbers::Index(values) }
        };
        let inputs: Vec<Tensor> =
            program.inputs.iter().enumerate().map(|(k, a)| argument(k, a.buffer, a.kind)).collect();
        let weights: Vec<Tensor> =
            program.weights.iter().enumerate().map(|(k, a)| argument(k + 20, a.buffer, a.kind)).collect();
        let device = DeviceTarget { architectures: vec![Architecture(80)], ptxas, products: None };
        Case::given(&program, sizes, [inputs, weights], &device, test)
    }

    /// A program as a library, with its inputs and weights.
    pub(super) fn given(
        program: &Program,
        sizes: &[usize],
        [inputs, weights]: [Vec<Tensor>; 2],
        device: &DeviceTarget,
        test: &str,
    ) -> Case {
        assert_eq!(sizes.len(), program.sizes.len(), "{test}: {:?}", program.sizes);
        let interface = interface_of(program);
        let member = Member::alone(program, &interface);
        let library = build_all(&[member], BACKENDS[0], Target::ANY_X86_64, Some(device)).expect("it builds");
        let path = saved(&library, test);
        let (library, model) = open(&path, &program.name);
        Case { library, model, sizes: sizes.to_vec(), inputs, weights, path, program: program.clone() }
    }

    /// A library for the CPU alone.
    pub(super) fn on_cpu_alone(&self) -> PathBuf {
        build(&self.program, &interface_of(&self.program), Default::default(), "expected")
    }

    /// What that computes.
    pub(super) fn expected(&self) -> Vec<Tensor> {
        computed(&self.program, &self.on_cpu_alone(), &self.sizes, &self.inputs, &self.weights)
    }

    /// The arguments where they are wanted, inputs, weights, outputs; index tables on the GPU or not.
    pub(super) fn arguments(&self, gpu: &Gpu, tables_on_gpu: bool) -> [Vec<Given>; 3] {
        self.placed(gpu, tables_on_gpu, true)
    }

    /// The arguments of a call on the CPU.
    pub(super) fn on_cpu(&self, gpu: &Gpu) -> [Vec<Given>; 3] {
        self.placed(gpu, false, false)
    }

    fn placed(&self, gpu: &Gpu, tables_on_gpu: bool, rest_on_gpu: bool) -> [Vec<Given>; 3] {
        let real = self.program.dtype;
        let inputs = self.program.inputs.iter().zip(&self.inputs).map(|(a, t)| {
            let is_table = matches!(a.kind, ArgumentKind::Table { .. });
            Given::new(gpu, t, real, if is_table { tables_on_gpu } else { rest_on_gpu })
        });
        let weights = self.weights.iter().map(|t| Given::new(gpu, t, real, rest_on_gpu)).collect();
        let outputs = self.program.outputs.iter().map(|a| {
            let shape = self.program.buffers[a.buffer].shape.iter().map(|s| s.eval(|v| self.sizes[v.0 as usize]));
            let shape: Vec<usize> = shape.collect();
            let n = shape.iter().product();
            Given::new(gpu, &Tensor::real(shape, vec![f64::NAN; n]), real, rest_on_gpu)
        });
        [inputs.collect(), weights, outputs.collect()]
    }

    /// The outputs are those of the CPU, up to the rounding of sums in another order.
    pub(super) fn agrees(&self, gpu: &Gpu, outputs: &[Given]) {
        for (found, expected) in outputs.iter().zip(self.expected()) {
            let (found, expected) = (found.reals(gpu), expected.reals().to_vec());
            let scale = expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
            let tolerance = if self.program.dtype == Dtype::F64 { 1e-12 } else { 1e-5 };
            assert!(scale > 0.0 && found.len() == expected.len());
            for (k, (a, b)) in found.iter().zip(&expected).enumerate() {
                assert!((a - b).abs() <= tolerance * scale, "element {k}: {a}, not {b}");
            }
        }
    }
}

/// A tensor as a caller gives it.
pub(super) struct Given {
    pub shape: Vec<i64>,
    pub dtype: abi::DataType,
    pub device: abi::Device,
    pub data: *mut c_void,
    /// The numbers of one on the host.
    _host: Vec<u64>,
}

impl Given {
    fn new(gpu: &Gpu, tensor: &Tensor, real: Dtype, on_gpu: bool) -> Given {
        let (bytes, code, bits): (Vec<u8>, u8, u8) = match &tensor.numbers {
            Numbers::Real(v) if real == Dtype::F64 => (v.iter().flat_map(|x| x.to_le_bytes()).collect(), 2, 64),
            Numbers::Real(v) => (v.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(), 2, 32),
            Numbers::Index(v) => (v.iter().flat_map(|x| (*x as i32).to_le_bytes()).collect(), 0, 32),
        };
        let mut host = vec![0u64; bytes.len() / 8 + 1];
        let (kind, data) = if on_gpu {
            let data = gpu.allocate(bytes.len().max(1));
            gpu.write(data, &bytes);
            (abi::CUDA, data)
        } else {
            for (k, byte) in bytes.iter().enumerate() {
                host[k / 8] |= u64::from(*byte) << (8 * (k % 8));
            }
            (abi::CPU, host.as_mut_ptr().cast())
        };
        let shape = tensor.shape.iter().map(|n| *n as i64).collect();
        let dtype = abi::DataType { code, bits, lanes: 1 };
        Given { shape, dtype, device: abi::Device { kind, id: 0 }, data, _host: host }
    }

    /// Real numbers that are on the GPU already.
    pub(super) fn on_gpu(data: *mut c_void, shape: Vec<i64>) -> Given {
        let (dtype, device) = (abi::DataType { code: 2, bits: 32, lanes: 1 }, abi::Device { kind: abi::CUDA, id: 0 });
        Given { shape, dtype, device, data, _host: vec![] }
    }

    pub(super) fn tensor(&self) -> abi::DlTensor {
        abi::DlTensor {
            data: self.data,
            device: self.device,
            ndim: self.shape.len() as i32,
            dtype: self.dtype,
            shape: self.shape.as_ptr(),
            strides: std::ptr::null(),
            byte_offset: 0,
        }
    }

    pub(super) fn reals(&self, gpu: &Gpu) -> Vec<f64> {
        let n = self.shape.iter().product::<i64>() as usize;
        let bytes = gpu.read(self.data, n * usize::from(self.dtype.bits) / 8);
        match self.dtype.bits {
            64 => bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            _ => bytes.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        }
    }
}

/// Tensors as the C interface takes them.
pub(super) struct Pointers {
    tensors: Vec<abi::DlTensor>,
    list: Vec<*const abi::DlTensor>,
}

impl Pointers {
    pub(super) fn of(given: &[Given]) -> Pointers {
        let mut made = Pointers { tensors: given.iter().map(Given::tensor).collect(), list: vec![] };
        made.list = made.tensors.iter().map(|t| t as *const abi::DlTensor).collect();
        made
    }

    pub(super) fn get(&self) -> *const *const abi::DlTensor {
        assert_eq!(self.tensors.len(), self.list.len());
        self.list.as_ptr()
    }
}

/// A context for GPU 0 and a stream.
pub(super) fn context(stream: usize) -> abi::CudaContext {
    let host = null_mut();
    let context = abi::Context { version: abi::VERSION_CUDA, threads: 1, parallel_for: None, host, message: [0; 512] };
    abi::CudaContext { context, device: abi::Device { kind: abi::CUDA, id: 0 }, stream: stream as *mut c_void }
}

/// The message of a failed call.
pub(super) fn message(context: &abi::CudaContext) -> String {
    CStr::from_bytes_until_nul(&context.context.message).expect("it ends").to_string_lossy().into_owned()
}
