//! A driver of CUDA without a GPU (`tests/fake_cuda.c`), and libraries whose kernels it runs on the CPU: the kernel programs that become PTX,
//! compiled by Cranelift. Its memory can be touched by the driver alone, and it says what it was asked for.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard};

use gdlc::base::dtype::Dtype;
use gdlc::codegen::{BACKENDS, Target, device::Architecture};
use gdlc::driver::tensors::{Numbers, Tensor};
use gdlc::kernel::ir::{ArgumentKind, Program};
use gdlc::package::{Member, build_all, device::DeviceTarget};

use super::abi::{self, Model};
use crate::conformance::{build, computed, interface_of, numbers};
use crate::gpu::{programs_of, spread_out};

/// The driver, used by one test at a time.
pub(super) struct Fake {
    library: &'static libloading::Library,
    _alone: MutexGuard<'static, ()>,
}

/// A library in C of these tests, which whoever opens `name` afterwards finds; compiled once, with `options` of the first who asks.
pub(super) fn compiled(source: &str, name: &str, options: &[&str]) -> &'static libloading::Library {
    static LIBRARIES: Mutex<BTreeMap<String, &'static libloading::Library>> = Mutex::new(BTreeMap::new());
    let mut libraries = LIBRARIES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    *libraries.entry(name.to_string()).or_insert_with(|| {
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(source);
        let always = ["-std=gnu11", "-O1", "-Wall", "-Werror", "-shared", "-fPIC"];
        let mut compiler = Command::new("cc");
        let done = compiler
            .args(always)
            .args(options)
            .arg(format!("-Wl,-soname,{name}"))
            .arg(source)
            .arg("-o")
            .arg(&to)
            .status();
        assert!(done.is_ok_and(|status| status.success()), "cc compiles {name}");
        // SAFETY: it does nothing when it is loaded.
        Box::leak(Box::new(unsafe { libloading::Library::new(&to).expect("it loads") }))
    })
}

impl Fake {
    /// The driver, as after a start: GPU 0 of compute capability 8.0, with a current context.
    pub(super) fn start() -> Fake {
        Fake::start_with(&[])
    }

    /// One that was compiled with other options, where it is the first in this process.
    pub(super) fn start_with(options: &[&str]) -> Fake {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let fake = Fake { library: compiled("fake_cuda.c", "libcuda.so.1", options), _alone: alone };
        let start = [("device", 0), ("major", 8), ("minor", 0), ("capturing", 0), ("context", 1)];
        // SAFETY: as it is defined in C.
        unsafe { fake.function::<unsafe extern "C" fn()>("fake_start")() };
        for (name, value) in
            start.into_iter().chain([("fail load", 0), ("fail launch", 0), ("fail cubin", 0), ("room", 1 << 30)])
        {
            fake.set(name, value);
        }
        fake.log();
        fake
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
        let name = CString::new(name).expect("no zero");
        // SAFETY: as it is defined in C; so below.
        unsafe { self.function::<unsafe extern "C" fn(*const c_char, i64)>("fake_set")(name.as_ptr(), value) }
    }

    /// What was asked for since the last time, a line each.
    pub(super) fn log(&self) -> Vec<String> {
        unsafe {
            let text = CStr::from_ptr(self.function::<unsafe extern "C" fn() -> *const c_char>("fake_log")());
            let lines = text.to_string_lossy().lines().map(str::to_string).collect();
            self.function::<unsafe extern "C" fn()>("fake_clear")();
            lines
        }
    }

    pub(super) fn allocate(&self, bytes: usize) -> *mut c_void {
        unsafe { self.function::<unsafe extern "C" fn(u64) -> u64>("fake_allocate")(bytes as u64) as *mut c_void }
    }

    pub(super) fn free(&self, data: *mut c_void) {
        let status = unsafe { self.function::<unsafe extern "C" fn(u64) -> i32>("fake_free")(data as u64) };
        assert_eq!(status, 0, "it was allocated, and is freed once");
    }

    /// The allocations that are not freed.
    pub(super) fn live(&self) -> i64 {
        unsafe { self.function::<unsafe extern "C" fn() -> i64>("fake_live")() }
    }

    pub(super) fn write(&self, to: *mut c_void, bytes: &[u8]) {
        let write = unsafe { self.function::<unsafe extern "C" fn(u64, *const u8, usize)>("fake_write") };
        unsafe { write(to as u64, bytes.as_ptr(), bytes.len()) }
    }

    pub(super) fn read(&self, from: *const c_void, bytes: usize) -> Vec<u8> {
        let mut found = vec![0; bytes];
        let read = unsafe { self.function::<unsafe extern "C" fn(*mut u8, u64, usize)>("fake_read") };
        unsafe { read(found.as_mut_ptr(), from as u64, bytes) }
        found
    }

    /// Tells the driver what runs in place of each kernel of a model.
    fn kernels(&self, model: &Model, on_cpu: &Model) {
        type Register = unsafe extern "C" fn(*const c_char, Option<abi::Kernel>, *const i64, i64, i64);
        // SAFETY: both tables are static data of libraries that stay loaded; their kernels are the same, in the same order.
        unsafe {
            let register = self.function::<Register>("fake_kernel");
            let cuda = &*model.cuda;
            let first = 1 + model.sizes.count;
            for (launches, kernels) in [(&cuda.prepare, &on_cpu.prepare), (&cuda.call, &on_cpu.call)] {
                assert_eq!(launches.count, kernels.count, "a launch a kernel");
                for (launch, kernel) in launches.get().iter().zip(kernels.get()) {
                    register(launch.name, Some(*kernel), launch.words.items, launch.words.count, first);
                }
            }
            for check in [c"gdl_check_i32", c"gdl_check_i64"] {
                register(check.as_ptr(), None, std::ptr::null(), 0, 0);
            }
        }
    }
}

/// A library that stays loaded, and its table.
pub(super) fn open(path: &Path, name: &str) -> (&'static libloading::Library, &'static Model) {
    // SAFETY: the library is of this build, and runs nothing when it is loaded.
    unsafe {
        let library = Box::leak(Box::new(libloading::Library::new(path).expect("it loads")));
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
    pub cpu: PathBuf,
}

impl Case {
    pub(super) fn new(fake: &Fake, path: &str, sizes: &[usize], test: &str) -> Case {
        Case::of(fake, programs_of(path).remove(0), sizes, test)
    }

    /// With machine code, which no assembler made: the driver tells it by how it begins.
    pub(super) fn assembled(fake: &Fake, path: &str, sizes: &[usize], test: &str) -> Case {
        let ptxas = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ptxas-{}", std::process::id()));
        std::fs::write(&ptxas, "#!/bin/sh\nprintf '\\177ELF' > \"$5\"\n").expect("the script is written");
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&ptxas, executable).expect("it can be run");
        Case::with(fake, programs_of(path).remove(0), sizes, test, Some(ptxas))
    }

    pub(super) fn of(fake: &Fake, program: Program, sizes: &[usize], test: &str) -> Case {
        Case::with(fake, program, sizes, test, None)
    }

    fn with(fake: &Fake, program: Program, sizes: &[usize], test: &str, ptxas: Option<PathBuf>) -> Case {
        let interface = interface_of(&program);
        assert_eq!(sizes.len(), program.sizes.len(), "{test}: {:?}", program.sizes);
        let device = DeviceTarget { architectures: vec![Architecture(80)], ptxas, products: None };
        let member = Member::alone(&program, &interface);
        let library = build_all(&[member], BACKENDS[0], Target::ANY_X86_64, Some(&device)).expect("it builds");
        let cpu = build(&program, &interface, Default::default(), test);
        let gpu = cpu.with_file_name("on_gpu.so");
        std::fs::write(&gpu, &library.so_bytes).expect("the library is written");
        let in_its_place = build(&spread_out(&program), &interface, Default::default(), test);
        let (library, model) = open(&gpu, &program.name);
        fake.kernels(model, open(&in_its_place, &program.name).1);
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
        let inputs = program.inputs.iter().enumerate().map(|(k, a)| argument(k, a.buffer, a.kind)).collect();
        let weights = program.weights.iter().enumerate().map(|(k, a)| argument(k + 20, a.buffer, a.kind)).collect();
        Case { library, model, sizes: sizes.to_vec(), inputs, weights, cpu, program }
    }

    /// What the library for the CPU computes.
    pub(super) fn expected(&self) -> Vec<Tensor> {
        computed(&self.program, &self.cpu, &self.sizes, &self.inputs, &self.weights)
    }

    /// The arguments where they are wanted, inputs, weights, outputs; index tables on the GPU or not.
    pub(super) fn arguments(&self, fake: &Fake, tables_on_gpu: bool) -> [Vec<Given>; 3] {
        self.placed(fake, tables_on_gpu, true)
    }

    /// The arguments of a call on the CPU.
    pub(super) fn on_cpu(&self, fake: &Fake) -> [Vec<Given>; 3] {
        self.placed(fake, false, false)
    }

    fn placed(&self, fake: &Fake, tables_on_gpu: bool, rest_on_gpu: bool) -> [Vec<Given>; 3] {
        let real = self.program.dtype;
        let inputs = self.program.inputs.iter().zip(&self.inputs).map(|(a, t)| {
            let is_table = matches!(a.kind, ArgumentKind::Table { .. });
            Given::new(fake, t, real, if is_table { tables_on_gpu } else { rest_on_gpu })
        });
        let weights = self.weights.iter().map(|t| Given::new(fake, t, real, rest_on_gpu)).collect();
        let outputs = self.program.outputs.iter().map(|a| {
            let shape = self.program.buffers[a.buffer].shape.iter().map(|s| s.eval(|v| self.sizes[v.0 as usize]));
            let shape: Vec<usize> = shape.collect();
            let n = shape.iter().product();
            Given::new(fake, &Tensor::real(shape, vec![f64::NAN; n]), real, rest_on_gpu)
        });
        [inputs.collect(), weights, outputs.collect()]
    }

    /// The outputs are those of the CPU, up to the rounding of sums in another order.
    pub(super) fn agrees(&self, fake: &Fake, outputs: &[Given]) {
        for (found, expected) in outputs.iter().zip(self.expected()) {
            let (found, expected) = (found.reals(fake), expected.reals().to_vec());
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
    fn new(fake: &Fake, tensor: &Tensor, real: Dtype, on_gpu: bool) -> Given {
        let (bytes, code, bits): (Vec<u8>, u8, u8) = match &tensor.numbers {
            Numbers::Real(v) if real == Dtype::F64 => (v.iter().flat_map(|x| x.to_le_bytes()).collect(), 2, 64),
            Numbers::Real(v) => (v.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(), 2, 32),
            Numbers::Index(v) => (v.iter().flat_map(|x| (*x as i32).to_le_bytes()).collect(), 0, 32),
        };
        let mut host = vec![0u64; bytes.len() / 8 + 1];
        let (kind, data) = if on_gpu {
            let data = fake.allocate(bytes.len().max(1));
            fake.write(data, &bytes);
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

    pub(super) fn reals(&self, fake: &Fake) -> Vec<f64> {
        let n = self.shape.iter().product::<i64>() as usize;
        let bytes = fake.read(self.data, n * usize::from(self.dtype.bits) / 8);
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
