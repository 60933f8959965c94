//! The C interface of an exported library: every mistake of a caller is an error that names the argument.

use std::ffi::{CStr, c_void};
use std::path::Path;

use gdlc::base::dtype::Dtype;
use gdlc::codegen::{BACKENDS, Target};
use gdlc::driver::load::Loaded;
use gdlc::driver::tensors::Tensor;
use object::{Object, ObjectSegment, ObjectSymbol};

use crate::conformance::{Case, convolution, edges, numbers, relu};

#[allow(dead_code, unreachable_pub)]
#[path = "../../src/runtime/abi.rs"]
mod abi;

use abi::{Context, DataType, Device, DlTensor, Memory, Model};

/// What the runtime needs of the C library; a library made by gdlc needs nothing else.
const IMPORTS: &[&str] = &[
    "abort",
    "bcmp",
    "dlopen",
    "dlsym",
    "free",
    "getenv",
    "getpid",
    "malloc",
    "memcpy",
    "memset",
    "pthread_create",
    "pthread_detach",
    "sched_getaffinity",
    "sched_yield",
    "strlen",
    "syscall",
];

const UNKNOWN_SIZE: &str = "the size n is -1: where it does not follow from the inputs, set it before bind";

/// A library, called as C calls it.
struct Raw {
    _library: libloading::Library,
    model: &'static Model,
    context: Context,
}

/// A tensor with what it points at.
struct Owned {
    numbers: Vec<u64>,
    shape: Vec<i64>,
    strides: Option<Vec<i64>>,
    dtype: DataType,
    tensor: DlTensor,
}

const FLOAT: DataType = DataType { code: 2, bits: 32, lanes: 1 };
const INT: DataType = DataType { code: 0, bits: 64, lanes: 1 };

impl Owned {
    fn new(dtype: DataType, shape: &[i64], bytes: &[u8]) -> Box<Owned> {
        let mut numbers = vec![0u64; bytes.len() / 8 + 2];
        for (k, byte) in bytes.iter().enumerate() {
            numbers[k / 8] |= u64::from(*byte) << (8 * (k % 8));
        }
        let tensor = DlTensor {
            data: std::ptr::null_mut(),
            device: Device { kind: 1, id: 0 },
            ndim: shape.len() as i32,
            dtype,
            shape: std::ptr::null(),
            strides: std::ptr::null(),
            byte_offset: 0,
        };
        let mut owned = Box::new(Owned { numbers, shape: shape.to_vec(), strides: None, dtype, tensor });
        owned.tensor.data = owned.numbers.as_mut_ptr().cast::<c_void>();
        owned.tensor.shape = owned.shape.as_ptr();
        owned
    }

    fn floats(shape: &[i64], seed: usize) -> Box<Owned> {
        let dims = shape.iter().map(|n| *n as usize).collect();
        let bytes: Vec<u8> = numbers(dims, seed).reals().iter().flat_map(|x| (*x as f32).to_le_bytes()).collect();
        Owned::new(FLOAT, shape, &bytes)
    }

    fn ints(values: &[i64]) -> Box<Owned> {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        Owned::new(INT, &[values.len() as i64], &bytes)
    }

    fn with_strides(mut self: Box<Self>, strides: &[i64]) -> Box<Self> {
        let strides = self.strides.insert(strides.to_vec());
        self.tensor.strides = strides.as_ptr();
        self
    }

    fn with_shape(mut self: Box<Self>, shape: &[i64]) -> Box<Self> {
        self.shape = shape.to_vec();
        self.tensor.shape = self.shape.as_ptr();
        self
    }

    fn with(mut self: Box<Self>, change: impl FnOnce(&mut DlTensor)) -> Box<Self> {
        change(&mut self.tensor);
        self.dtype = self.tensor.dtype;
        self
    }
}

fn pointers(tensors: &[Box<Owned>]) -> Vec<*const DlTensor> {
    tensors.iter().map(|t| &raw const t.tensor).collect()
}

impl Raw {
    fn open(path: &Path, name: &str) -> Raw {
        unsafe {
            let library = libloading::Library::new(path).expect("it loads");
            let query: libloading::Symbol<'_, unsafe extern "C" fn() -> *const Model> =
                library.get(format!("gdl_{name}_query").as_bytes()).expect("it has a query");
            let model = &*query();
            let context = Context {
                version: abi::VERSION,
                threads: 0,
                parallel_for: None,
                host: std::ptr::null_mut(),
                message: [0; 512],
            };
            Raw { _library: library, model, context }
        }
    }

    fn message(&self) -> String {
        CStr::from_bytes_until_nul(&self.context.message).expect("it ends").to_string_lossy().into_owned()
    }

    /// Runs the model once; the message of the failure, if it failed.
    fn run(&mut self, inputs: &[Box<Owned>], weights: &[Box<Owned>], outputs: &[Box<Owned>]) -> Result<(), String> {
        let (i, w, o) = (pointers(inputs), pointers(weights), pointers(outputs));
        let status = unsafe { (self.model.run_fn)(&mut self.context, i.as_ptr(), w.as_ptr(), o.as_ptr()) };
        if status == abi::OK { Ok(()) } else { Err(self.message()) }
    }
}

fn open(case: &Case, test: &str) -> Raw {
    Raw::open(&case.build(test), &case.program.name)
}

#[test]
fn a_wrong_tensor_is_named() {
    let mut raw = open(&relu(Dtype::F32, 3, 4), "wrong");
    let good = || Owned::floats(&[3, 4], 1);
    let of = |code, bits| DataType { code, bits, lanes: 1 };
    assert_eq!(raw.run(&[good()], &[], &[good()]), Ok(()));
    let cases: Vec<(Box<Owned>, &str)> = vec![
        (Owned::floats(&[12], 1), "input `x` has 1 axes, and needs 2"),
        (Owned::floats(&[3, 5], 1), "input `x`: axis 1 has 5 elements, and needs 4"),
        (Owned::floats(&[3, 4], 1).with(|t| t.dtype.bits = 64), "input `x` is float64, and needs float32"),
        (Owned::floats(&[3, 4], 1).with(|t| t.dtype.code = 0), "input `x` is int32, and needs float32"),
        (Owned::floats(&[3, 4], 1).with(|t| t.dtype = of(1, 8)), "input `x` is uint8, and needs float32"),
        (Owned::floats(&[3, 4], 1).with(|t| t.dtype = of(4, 16)), "input `x` is bfloat16, and needs float32"),
        (Owned::floats(&[3, 4], 1).with(|t| t.dtype = of(5, 128)), "input `x` is complex128, and needs float32"),
        (Owned::floats(&[3, 4], 1).with(|t| t.dtype = of(6, 8)), "input `x` is bool, and needs float32"),
        (
            Owned::floats(&[3, 4], 1).with(|t| t.dtype = of(99, 8)),
            "input `x` is of DLPack's type 99, and needs float32",
        ),
        (
            Owned::floats(&[3, 4], 1).with(|t| t.device.kind = 2),
            "input `x` is on device 2, and must be on the CPU (1); to compute on a GPU, call with a gdl_cuda_context",
        ),
        (Owned::floats(&[3, 4], 1).with(|t| t.data = std::ptr::null_mut()), "input `x` has no data (null)"),
        (Owned::floats(&[3, 4], 1).with(|t| t.shape = std::ptr::null()), "input `x` has no shape (null)"),
        (Owned::floats(&[3, 4], 1).with(|t| t.byte_offset = 2), "input `x`: its data is misaligned for its dtype"),
        (
            Owned::floats(&[3, 4], 1).with_strides(&[1, 3]),
            "input `x` is not contiguous: axis 1 has stride 3, and needs 1 (row-major)",
        ),
        (Owned::floats(&[3, 4], 1).with_shape(&[-1, 4]), "input `x`: axis 0 has -1 elements, and needs 3"),
    ];
    for (tensor, message) in cases {
        assert_eq!(raw.run(&[tensor], &[], &[good()]), Err(message.to_string()));
    }
    assert_eq!(
        raw.run(&[good()], &[], &[Owned::floats(&[2, 4], 1)]).unwrap_err(),
        "output `y`: axis 0 has 2 elements, and needs 3"
    );
    let contiguous = Owned::floats(&[3, 4], 1).with_strides(&[4, 1]);
    assert_eq!(raw.run(&[contiguous], &[], &[good()]), Ok(()));
    let (null, x, y) = ([std::ptr::null()], good(), good());
    let (x, y) = ([&raw const x.tensor], [&raw const y.tensor]);
    for (inputs, outputs, message) in [
        (null.as_ptr(), y.as_ptr(), "input 0 `x` is missing (null)"),
        (std::ptr::null(), y.as_ptr(), "input 0 `x` is missing (null)"),
        (x.as_ptr(), null.as_ptr(), "output 0 `y` is missing (null)"),
        (x.as_ptr(), std::ptr::null(), "output 0 `y` is missing (null)"),
    ] {
        let status = unsafe { (raw.model.run_fn)(&mut raw.context, inputs, std::ptr::null(), outputs) };
        assert_eq!((status, raw.message().as_str()), (abi::INVALID, message));
    }
    raw.context.version = 7;
    assert_eq!(raw.run(&[good()], &[], &[good()]).unwrap_err(), "the context has version 7, and needs 3");
}

#[test]
fn indices_are_checked() {
    let mut raw = open(&edges(4, vec![0, 2, 3], vec![0, 1, 1]), "indices");
    let mut run = |offsets: &[i64], senders: &[i64]| {
        let inputs = [Owned::ints(offsets), Owned::ints(senders), Owned::floats(&[2, 4], 1), Owned::floats(&[3], 2)];
        raw.run(&inputs, &[], &[Owned::floats(&[2, 4], 1)])
    };
    assert_eq!(run(&[0, 2, 3], &[0, 1, 1]), Ok(()));
    assert_eq!(run(&[0, 2, 3], &[0, 2, 1]).unwrap_err(), "input `senders`: element 1 is 2, outside 0..2");
    assert_eq!(run(&[0, 2, 3], &[0, 1, -1]).unwrap_err(), "input `senders`: element 2 is -1, outside 0..2");
    assert_eq!(run(&[0, 3, 2], &[0, 1, 1]).unwrap_err(), "input `offsets` must not decrease: element 2 is 2, after 3");
    assert_eq!(run(&[0, 3, 9], &[0, 1, 1]).unwrap_err(), "input `offsets`: element 2 is 9, outside 0..4");
}

#[test]
fn an_output_that_overlaps_an_input_is_refused() {
    let mut raw = open(&relu(Dtype::F32, 3, 4), "overlap");
    let x = Owned::floats(&[3, 4], 1);
    let place = |from: &Owned, bytes: usize| from.tensor.data.cast::<u8>().wrapping_add(bytes).cast();
    for (bytes, apart) in [(0, false), (4, false), (44, false), (48, true)] {
        let room = Owned::floats(&[7, 4], 2);
        let x = Owned::floats(&[3, 4], 1).with(|t| t.data = place(&room, 0));
        let y = Owned::floats(&[3, 4], 3).with(|t| t.data = place(&room, bytes));
        let expected =
            if apart { Ok(()) } else { Err("output `y` overlaps input `x`: it needs memory of its own".to_string()) };
        assert_eq!(raw.run(&[x], &[], &[y]), expected, "{bytes} bytes apart");
    }
    assert_eq!(raw.run(&[x], &[], &[Owned::floats(&[3, 4], 2)]), Ok(()));
}

#[test]
fn memories_are_checked() {
    let mut raw = open(&relu(Dtype::F32, 3, 4), "memories");
    let (inputs, outputs) = ([Owned::floats(&[3, 4], 1)], [Owned::floats(&[3, 4], 2)]);
    let (i, o) = (pointers(&inputs), pointers(&outputs));
    let mut sizes = [0i64];
    let mut memory = [Memory { data: std::ptr::null_mut(), bytes: 0 }; 3];
    let (m, c) = (raw.model, &raw mut raw.context);
    unsafe {
        assert_eq!((m.sizes_fn)(c, i.as_ptr(), sizes.as_mut_ptr()), abi::OK);
        assert_eq!(sizes, [3]);
        assert_eq!((m.memory_fn)(c, sizes.as_ptr(), memory.as_mut_ptr()), abi::OK);
        assert_eq!((m.bind_fn)(c, i.as_ptr(), sizes.as_ptr(), memory.as_ptr()), abi::INVALID);
        assert_eq!(raw.message(), "the bound memory is missing (null)");
        let mut bytes = memory.map(|m| vec![0xa5u8; m.bytes as usize]);
        for (memory, bytes) in memory.iter_mut().zip(&mut bytes) {
            memory.data = bytes.as_mut_ptr();
        }
        assert_eq!((m.call_fn)(c, i.as_ptr(), o.as_ptr(), memory.as_ptr()), abi::INVALID);
        assert_eq!(raw.message(), "the bound memory is not of `relu`: bind first");
        assert_eq!((m.bind_fn)(c, i.as_ptr(), sizes.as_ptr(), memory.as_ptr()), abi::OK);
        assert_eq!((m.call_fn)(c, i.as_ptr(), o.as_ptr(), memory.as_ptr()), abi::INVALID);
        assert_eq!(raw.message(), "the prepared memory is not of `relu`: prepare first");
        assert_eq!((m.prepare_fn)(c, std::ptr::null(), memory.as_ptr()), abi::OK);
        let inside = [Owned::floats(&[3, 4], 2).with(|t| t.data = memory[2].data.cast())];
        assert_eq!((m.call_fn)(c, i.as_ptr(), pointers(&inside).as_ptr(), memory.as_ptr()), abi::INVALID);
        assert_eq!(raw.message(), "output `y` overlaps the workspace memory: it needs memory of its own");
        memory[2].bytes = 64;
        assert_eq!((m.call_fn)(c, i.as_ptr(), o.as_ptr(), memory.as_ptr()), abi::INVALID);
        assert!(raw.message().starts_with("the workspace memory has 64 bytes, and needs"), "{}", raw.message());
        let huge = [i64::MAX];
        assert_eq!((m.memory_fn)(c, huge.as_ptr(), memory.as_mut_ptr()), abi::OK, "no slot depends on n");
        let negative = [-1i64];
        assert_eq!((m.memory_fn)(c, negative.as_ptr(), memory.as_mut_ptr()), abi::INVALID);
        assert_eq!(raw.message(), UNKNOWN_SIZE);
    }
}

#[test]
fn nothing_but_the_c_library_is_needed() {
    let case = convolution(Dtype::F32, 4, 3, 5);
    let bytes = std::fs::read(case.build("imports")).expect("the library is there");
    let file = object::File::parse(&*bytes).expect("the library is ELF");
    let undefined: Vec<&str> = file
        .dynamic_symbols()
        .filter(|s| s.is_undefined())
        .map(|s| s.name().expect("a name"))
        .filter(|n| !n.is_empty())
        .collect();
    assert_eq!(undefined, IMPORTS);
    let mut defined: Vec<&str> =
        file.dynamic_symbols().filter(|s| s.is_definition()).filter_map(|s| s.name().ok()).collect();
    defined.sort_unstable();
    let entries = [
        "bind",
        "call",
        "memory",
        "onnx",
        "prepare",
        "query",
        "run",
        "sizes",
        "torch",
        "torch_functions",
        "tvm",
        "xla",
        "xla_cuda",
    ];
    let mut expected = vec!["RegisterCustomOps".to_string()];
    expected.push("__tvm_ffi_convolution".to_string());
    expected.extend(entries.map(|e| format!("gdl_convolution_{e}")));
    assert_eq!(defined, expected);
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let case = convolution(Dtype::F32, 4, 3, 5);
    for backend in BACKENDS.iter().copied() {
        let build =
            || gdlc::package::build(&case.program, &case.interface, backend, Target::ANY_X86_64).expect("it builds");
        let (a, b) = (build(), build());
        assert!(a.so_bytes == b.so_bytes && a.header == b.header && a.manifest == b.manifest);
    }
}

#[test]
fn objects_for_aarch64_are_emitted() {
    let case = convolution(Dtype::F32, 4, 3, 5);
    for backend in BACKENDS {
        let object = backend.emit(&case.program, Target::Aarch64).expect("it emits");
        let file = object::File::parse(&*object.bytes).expect("the object is ELF");
        assert_eq!(file.architecture(), object::Architecture::Aarch64);
    }
}

/// With the runtime for AArch64 a library that a system with pages of 64 KiB can load; without it, how to get it.
#[test]
fn libraries_for_aarch64_are_made_or_the_way_to_them_is_told() {
    let case = convolution(Dtype::F32, 4, 3, 5);
    for backend in BACKENDS.iter().copied() {
        let library = match gdlc::package::build(&case.program, &case.interface, backend, Target::Aarch64) {
            Ok(library) => library,
            Err(why) => {
                assert!(why.to_string().contains("rustup target add aarch64-unknown-linux-gnu"), "{why}");
                continue;
            }
        };
        let file = object::read::elf::ElfFile64::<object::Endianness>::parse(&*library.so_bytes).expect("it is ELF");
        assert_eq!(file.architecture(), object::Architecture::Aarch64);
        let undefined = file.dynamic_symbols().filter(|s| s.is_undefined()).filter_map(|s| s.name().ok());
        assert_eq!(undefined.filter(|n| !n.is_empty()).collect::<Vec<_>>(), IMPORTS);
        let pages: Vec<(u64, u64)> =
            file.segments().map(|s| (s.address() >> 16, (s.address() + s.size() - 1) >> 16)).collect();
        assert!(pages.windows(2).all(|w| w[0].1 < w[1].0), "segments share a page: {pages:?}");
    }
}

#[test]
fn two_threads_call_at_once() {
    let case = convolution(Dtype::F32, 3000, 32, 64);
    let path = case.build("threads");
    let loaded = Loaded::open(&path, "convolution").expect("it loads");
    let inputs: Vec<Option<&Tensor>> = case.inputs.iter().map(Some).collect();
    let weights: Vec<&Tensor> = case.weights.iter().collect();
    let path = &path;
    let once = |threads: u32| {
        let loaded = Loaded::open(path, "convolution").expect("it loads");
        let mut instance = loaded.bind(&inputs).expect("it binds");
        instance.threads = threads;
        instance.prepare(&weights).expect("it prepares");
        (0..20).map(|_| instance.call(&inputs).expect("it runs").remove(0)).collect::<Vec<Tensor>>()
    };
    let alone = once(1);
    assert!(alone.iter().all(|t| *t == alone[0]));
    let all = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..4).map(|_| scope.spawn(|| once(0))).collect();
        handles.into_iter().map(|h| h.join().expect("no panic")).collect::<Vec<_>>()
    });
    assert!(all.iter().flatten().all(|t| *t == alone[0]), "the numbers do not depend on the threads");
    drop(loaded);
}

#[test]
fn nan_goes_through() {
    let mut case = relu(Dtype::F32, 2, 9);
    let mut x = case.inputs[0].reals();
    x[3] = f64::NAN;
    x[17] = f64::NAN;
    case.inputs[0] = Tensor::real(vec![2, 9], x);
    let y = case.computed("nan")[0].reals();
    let wrong: Vec<usize> = y.iter().enumerate().filter(|(_, v)| v.is_nan()).map(|(k, _)| k).collect();
    assert_eq!(wrong, [3, 17]);
}

/// Tensors changed at random, field by field: what is right by the rules below runs and is right, all else is refused with a
/// message. The memory behind every accepted shape is real, so that a run under valgrind finds what is read beyond it.
#[test]
fn mutated_tensors_are_refused_or_right() {
    let mut raw = open(&relu(Dtype::F32, 3, 4), "mutated");
    let mut rng = gdlc::math::Rng::new(11);
    let (mut accepted, mut refused) = (0, 0);
    let turns = if std::env::var_os("GDLC_SHORT").is_some() { 300 } else { 20_000 };
    for _ in 0..turns {
        let rows = rng.below(5) as i64;
        let (mut x, mut right) = (Owned::floats(&[rows, 4], 1), true);
        let (mut y, expected) = (Owned::floats(&[rows, 4], 2), x.floats_of(4 * rows as usize));
        for _ in 0..rng.below(3) {
            let (changed, fits) = mutated(if rng.below(2) == 0 { &mut x } else { &mut y }, rows, &mut rng);
            right &= fits || !changed;
        }
        match raw.run(&[x], &[], std::slice::from_ref(&y)) {
            Ok(()) => {
                assert!(right, "accepted");
                accepted += 1;
                let found = y.floats_of(4 * rows as usize);
                assert!(found.iter().zip(&expected).all(|(y, x)| *y == x.max(0.0)), "{found:?} of {expected:?}");
            }
            Err(message) => {
                assert!(!right, "refused: {message}");
                refused += 1;
                assert!(message.contains('`') || message.contains("size"), "{message}");
            }
        }
    }
    assert!(accepted > turns / 10 && refused > turns / 10, "{accepted} accepted, {refused} refused");
}

impl Owned {
    fn floats_of(&self, count: usize) -> Vec<f32> {
        let float = |k: usize| f32::from_bits((self.numbers[k / 2] >> (32 * (k % 2))) as u32);
        (0..count).map(float).collect()
    }
}

/// Changes one field; whether it changed anything, and whether the tensor is still right.
fn mutated(t: &mut Owned, rows: i64, rng: &mut gdlc::math::Rng) -> (bool, bool) {
    const ODD: [i64; 6] = [-1, i64::MIN, i64::MAX, 1 << 40, 7, 5];
    let odd = ODD[rng.below(ODD.len())];
    let empty = rows == 0;
    match rng.below(9) {
        0 => t.tensor.ndim = [-1, 0, 1, 3, i32::MAX, i32::MIN][rng.below(6)],
        1 => t.shape[1] = odd,
        2 => t.tensor.dtype.code = 1 + 3 * rng.below(2) as u8,
        3 => t.tensor.dtype.bits = [0, 8, 16, 64, 255][rng.below(5)],
        4 => t.tensor.dtype.lanes = [0, 2, u16::MAX][rng.below(3)],
        5 => t.tensor.device.kind = [0, 2, -1, i32::MAX][rng.below(4)],
        6 => {
            t.tensor.data = std::ptr::null_mut();
            return (true, empty);
        }
        7 => t.tensor.shape = std::ptr::null(),
        _ => {
            t.strides = Some(vec![odd, odd]);
            t.tensor.strides = t.strides.as_ref().map_or(std::ptr::null(), |s| s.as_ptr());
            return (true, empty);
        }
    }
    (true, false)
}

/// A process that has called, forks; the child calls too, with threads of its own.
#[cfg(unix)]
#[test]
fn a_fork_calls_too() {
    unsafe extern "C" {
        fn fork() -> i32;
        fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
        fn kill(pid: i32, signal: i32) -> i32;
        fn _exit(status: i32) -> !;
    }
    const NO_HANG: i32 = 1;
    let case = convolution(Dtype::F32, 3000, 32, 64);
    let loaded = Loaded::open(&case.build("fork"), "convolution").expect("it loads");
    let inputs: Vec<Option<&Tensor>> = case.inputs.iter().map(Some).collect();
    let weights: Vec<&Tensor> = case.weights.iter().collect();
    let mut instance = loaded.bind(&inputs).expect("it binds");
    instance.prepare(&weights).expect("it prepares");
    let before = instance.call(&inputs).expect("it runs").remove(0);
    // SAFETY: the child calls the library, compares and leaves, without running anything of the test harness.
    let child = unsafe { fork() };
    if child == 0 {
        let same = instance.call(&inputs).is_ok_and(|y| y[0] == before);
        unsafe { _exit(if same { 0 } else { 1 }) };
    }
    assert!(child > 0, "the process forks");
    let (mut status, began) = (-1, std::time::Instant::now());
    while unsafe { waitpid(child, &mut status, NO_HANG) } == 0 {
        if began.elapsed().as_secs() > 60 {
            unsafe { kill(child, 9) };
            panic!("the child hangs");
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(status, 0, "the child computes the same numbers");
    assert_eq!(instance.call(&inputs).expect("the parent still runs")[0], before);
}
