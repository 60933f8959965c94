//! XLA's entry on a GPU: a call frame and an interface as XLA makes them (`xla/ffi/api/c_api.h`).

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};
use std::mem::size_of;
use std::ptr::{null, null_mut};

use super::simulated::{Case, Given, Gpu};
use super::{GAT, GAT_SIZES, LENET, count};

#[repr(C)]
struct Buffer {
    struct_size: usize,
    extension: *mut c_void,
    dtype: i32,
    data: *mut c_void,
    rank: i64,
    dims: *const i64,
}

#[repr(C)]
struct Buffers {
    struct_size: usize,
    extension: *mut c_void,
    size: i64,
    kinds: *const i32,
    buffers: *const *const Buffer,
}

#[repr(C)]
struct CallFrame {
    struct_size: usize,
    extension: *mut c_void,
    api: *const Api,
    context: *mut c_void,
    stage: i32,
    arguments: Buffers,
    results: Buffers,
}

/// The functions of the interface, in its order; those that nobody here calls are null.
#[repr(C)]
struct Api {
    struct_size: usize,
    extension: *mut c_void,
    version: [usize; 3],
    internal: *const c_void,
    functions: [*const c_void; 15],
}

/// The first words of every argument of the interface, and those after them.
#[repr(C)]
struct Words {
    struct_size: usize,
    extension: *mut c_void,
    words: [usize; 4],
}

/// What a call may use of XLA, behind its execution context.
struct Execution<'a> {
    gpu: &'a Gpu,
    stream: usize,
    has_memory: bool,
    log: RefCell<Vec<String>>,
}

unsafe extern "C" fn error_create(words: *mut Words) -> *mut c_void {
    let message = unsafe { CStr::from_ptr((*words).words[0] as *const c_char) };
    Box::into_raw(Box::new((message.to_string_lossy().into_owned(), unsafe { (*words).words[1] } as i32))).cast()
}
unsafe extern "C" fn error_destroy(words: *mut Words) {
    drop(unsafe { Box::from_raw((*words).words[0] as *mut (String, i32)) });
}
fn error(message: &str) -> *mut c_void {
    Box::into_raw(Box::new((message.to_string(), 13))).cast()
}
unsafe extern "C" fn stream_get(words: *mut Words) -> *mut c_void {
    let words = unsafe { &mut *words };
    assert_eq!(words.struct_size, 4 * size_of::<usize>());
    let execution = unsafe { &*(words.words[0] as *const Execution<'_>) };
    words.words[1] = execution.stream;
    if execution.stream == 0 { error("no stream on this platform") } else { null_mut() }
}
unsafe extern "C" fn allocate(words: *mut Words) -> *mut c_void {
    let words = unsafe { &mut *words };
    assert_eq!(words.struct_size, 6 * size_of::<usize>());
    let [context, size, alignment, _] = words.words;
    let execution = unsafe { &*(context as *const Execution<'_>) };
    assert!(alignment <= 16, "XLA gives no more");
    if !execution.has_memory {
        return error("out of memory");
    }
    execution.log.borrow_mut().push(format!("allocate {size}"));
    words.words[3] = execution.gpu.allocate(size) as usize;
    null_mut()
}
unsafe extern "C" fn free(words: *mut Words) -> *mut c_void {
    let words = unsafe { &*words };
    assert_eq!(words.struct_size, 5 * size_of::<usize>());
    let [context, size, data, _] = words.words;
    let execution = unsafe { &*(context as *const Execution<'_>) };
    execution.log.borrow_mut().push(format!("free {size}"));
    execution.gpu.free(data as *mut c_void);
    null_mut()
}

/// A call through an entry of the library: the message and the code of XLA's error, where it is one.
fn call(case: &Case, given: &[Vec<Given>; 3], entry: &str, execution: &Execution<'_>) -> Result<(), (String, i32)> {
    let mut functions = [null(); 15];
    for (k, f) in [(0, error_create as *const c_void), (2, error_destroy as _), (4, stream_get as _)] {
        functions[k] = f;
    }
    (functions[9], functions[10]) = (allocate as *const c_void, free as *const c_void);
    let internal = null();
    let api =
        Api { struct_size: size_of::<Api>(), extension: null_mut(), version: [24, 0, 1 << 32], internal, functions };
    let buffer = |g: &Given| Buffer {
        struct_size: size_of::<Buffer>(),
        extension: null_mut(),
        dtype: if g.dtype.code == 2 { 11 } else { 4 },
        data: g.data,
        rank: g.shape.len() as i64,
        dims: g.shape.as_ptr(),
    };
    let arguments: Vec<Buffer> = given[0].iter().chain(&given[1]).map(buffer).collect();
    let results: Vec<Buffer> = given[2].iter().map(buffer).collect();
    let pointers = |of: &[Buffer]| of.iter().map(|b| b as *const Buffer).collect::<Vec<_>>();
    let (arguments, results) = (pointers(&arguments), pointers(&results));
    let kinds = [vec![1; arguments.len()], vec![1; results.len()]];
    let list = |buffers: &[*const Buffer], kinds: &[i32]| Buffers {
        struct_size: size_of::<Buffers>(),
        extension: null_mut(),
        size: buffers.len() as i64,
        kinds: kinds.as_ptr(),
        buffers: buffers.as_ptr(),
    };
    let mut frame = CallFrame {
        struct_size: size_of::<CallFrame>(),
        extension: null_mut(),
        api: &api,
        context: (&raw const *execution).cast_mut().cast(),
        stage: 3,
        arguments: list(&arguments, &kinds[0]),
        results: list(&results, &kinds[1]),
    };
    // SAFETY: the frame is as XLA makes it, and lives during the call.
    let failed = unsafe {
        type Entry = unsafe extern "C" fn(*mut CallFrame) -> *mut c_void;
        let symbol = format!("gdl_{}_{entry}", case.program.name);
        case.library.get::<Entry>(symbol.as_bytes()).expect("the entry")(&mut frame)
    };
    if failed.is_null() { Ok(()) } else { Err(*unsafe { Box::from_raw(failed.cast::<(String, i32)>()) }) }
}

#[test]
fn calls_of_xla_are_on_its_stream_in_its_memory() {
    let gpu = Gpu::start();
    // none is current in a thread of XLA
    gpu.set("context", 0);
    for (path, sizes) in [(GAT, &GAT_SIZES[..]), (LENET, &[8, 2][..])] {
        let case = Case::new(path, sizes, "cuda-xla");
        let has_tables = case.inputs.len() > 1;
        for round in 0..2 {
            let execution = Execution { gpu: &gpu, stream: 5, has_memory: true, log: RefCell::default() };
            let given = case.arguments(&gpu, true);
            call(&case, &given, "xla_cuda", &execution).expect("it runs");
            case.agrees(&gpu, &given[2]);
            let asked = execution.log.take();
            assert!(asked.len() == 2 && asked[0][9..] == asked[1][5..], "memory of XLA, given back: {asked:?}");
            let log = gpu.log();
            let bound = [count(&log, "load"), count(&log, "allocate"), count(&log, "to the GPU")];
            assert_eq!(bound, [usize::from(round == 0); 3], "{path}: {log:?}");
            assert_eq!(count(&log, "wait"), usize::from(has_tables), "only for tables: {log:?}");
            assert!(log.iter().filter(|line| line.contains(" on ")).all(|line| line.ends_with("on 5")), "{log:?}");
            assert_eq!([log[0].as_str(), log[log.len() - 1].as_str()], ["enter", "leave"], "the context of the stream");
        }
    }
}

#[test]
fn what_xla_or_a_gpu_cannot_do_is_an_error_of_xla() {
    let gpu = Gpu::start();
    let case = Case::new(GAT, &GAT_SIZES, "cuda-xla-wrong");
    let given = case.arguments(&gpu, true);
    let refused = |stream: usize, has_memory: bool, code: i32, words: &str| {
        let execution = Execution { gpu: &gpu, stream, has_memory, log: RefCell::default() };
        let (message, found) = call(&case, &given, "xla_cuda", &execution).expect_err("it is refused");
        assert!(found == code && message.contains(words), "{found}: {message}");
    };
    refused(0, true, 13, "XLA gives no stream of a GPU");
    refused(5, false, 8, "no memory on the GPU");
    gpu.set("major", 5);
    let other = Case::new(GAT, &GAT_SIZES, "cuda-xla-old");
    let execution = Execution { gpu: &gpu, stream: 5, has_memory: true, log: RefCell::default() };
    let (message, code) = call(&other, &given, "xla_cuda", &execution).expect_err("it is refused");
    assert!(code == 12 && message.contains("sm_75 and later"), "{message}");
}

/// The entry for GPUs is in every library, and says how to build one that has the code.
#[test]
fn a_library_for_the_cpu_says_so_to_xla() {
    let gpu = Gpu::start();
    let mut case = Case::new(GAT, &GAT_SIZES, "cuda-xla-cpu");
    (case.library, case.model) = super::simulated::open(&case.on_cpu_alone(), &case.program.name);
    assert!(case.model.cuda.is_null());
    let execution = Execution { gpu: &gpu, stream: 5, has_memory: true, log: RefCell::default() };
    let (message, code) = call(&case, &case.arguments(&gpu, true), "xla_cuda", &execution).expect_err("it is refused");
    assert!(code == 12 && message.contains("gdlc build --target cuda"), "{message}");
}
