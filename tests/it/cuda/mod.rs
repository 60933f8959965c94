//! Libraries for GPUs, called where there is none: a simulated one (`tests/simulated_gpu`) keeps its memory apart from the host's, runs the
//! kernels' PTX, and writes down what it is asked for, in order. What a real driver or GPU does otherwise is not seen here.

#[allow(dead_code, unreachable_pub)]
#[path = "../../../src/runtime/abi.rs"]
mod abi;
mod machine;
mod programs;
mod simulated;
mod torch;
mod tvm;
mod xla;

use std::ffi::c_void;

use gdlc::codegen::device::Architecture;
use gdlc::driver::tensors::Tensor;
use gdlc::kernel::ir::Program;
use gdlc::kernel::narrow::Narrow;
use gdlc::package::device::DeviceTarget;

use simulated::{Case, Given, Gpu, Pointers, context, message};

/// The attention layer of the benchmarks, on a graph of two samples: tables, a kernel of prepare, weights.
const GAT: &str = "benches/programs/gat.gdl";
const GAT_SIZES: [usize; 3] = [12, 30, 2];
/// A model of images: no tables.
const LENET: &str = "examples/lenet.gdl";

/// A call of `run` on a stream: the status and the message.
fn run(case: &Case, given: &[Vec<Given>; 3], stream: usize) -> (i32, String) {
    run_with(case, given, context(stream))
}

fn run_with(case: &Case, [inputs, weights, outputs]: &[Vec<Given>; 3], mut context: abi::CudaContext) -> (i32, String) {
    let [inputs, weights, outputs] = [inputs, weights, outputs].map(|given| Pointers::of(given));
    // SAFETY: arrays as long as the table says, alive during the call.
    let status = unsafe { (case.model.run_fn)(&raw mut context.context, inputs.get(), weights.get(), outputs.get()) };
    (status, message(&context))
}

/// What the PTX of a program computes, with its products on tensor cores where they are asked for.
pub(crate) fn computed(
    program: &Program,
    sizes: &[usize],
    arguments: [Vec<Tensor>; 2],
    products: Option<Narrow>,
    test: &str,
) -> Vec<Tensor> {
    let device = DeviceTarget { architectures: vec![Architecture(80)], ptxas: None, products };
    let case = Case::given(program, sizes, arguments, &device, test);
    let gpu = Gpu::start();
    let given = case.arguments(&gpu, false);
    assert_eq!(run(&case, &given, 7), (abi::OK, String::new()), "{test}: {:?}", gpu.log());
    let outputs = given[2].iter();
    outputs.map(|g| Tensor::real(g.shape.iter().map(|n| *n as usize).collect(), g.reals(&gpu))).collect()
}

/// The lines that begin with a word.
fn count(log: &[String], word: &str) -> usize {
    log.iter().filter(|line| line.starts_with(word)).count()
}

/// The lines of what a graph can take: launches, and copies on the GPU.
fn captured(log: &[String]) -> usize {
    count(log, "launch") + count(log, "on the GPU")
}

#[test]
fn run_binds_once_and_waits_at_the_end() {
    let gpu = Gpu::start();
    for (path, sizes) in [(GAT, &GAT_SIZES[..]), (LENET, &[8, 2][..])] {
        let case = Case::new(path, sizes, "cuda-run");
        let given = case.arguments(&gpu, false);
        let live = gpu.live();
        assert_eq!(run(&case, &given, 7), (abi::OK, String::new()), "{path}");
        case.agrees(&gpu, &given[2]);
        let log = gpu.log();
        let [load, copied, allocated] = ["load", "to the GPU", "allocate"].map(|word| count(&log, word));
        assert_eq!((load, copied, allocated), (1, 1, 2), "{path}: {log:?}");
        assert!(log.iter().filter(|line| line.contains(" on ")).all(|line| line.ends_with("on 7")), "{log:?}");
        assert_eq!(log[log.len() - 2..], ["wait for 7", "free"], "{path}");
        assert_eq!(gpu.live(), live + 1, "what bind made is kept");
        let given = case.arguments(&gpu, false);
        assert_eq!(run(&case, &given, 7).0, abi::OK);
        case.agrees(&gpu, &given[2]);
        let log = gpu.log();
        assert_eq!(
            [count(&log, "load"), count(&log, "to the GPU"), count(&log, "allocate")],
            [0, 0, 1],
            "{path}: {log:?}"
        );
    }
}

/// Derivatives by inputs and weights: tiles of sums over many places among them, with one group of threads and with several.
#[test]
fn derivatives_are_those_of_the_cpu() {
    use gdlc::driver::compiled::Passes;
    use gdlc::tensor::graph::Graph;
    use gdlc::tensor::pass::derivatives::{jvp, vjp};
    let gpu = Gpu::start();
    let of = |name: &str| crate::gpu::graphs_of(&format!("benches/programs/{name}.gdl")).remove(0);
    let mut derivatives: Vec<(&str, &str, Graph)> = Vec::new();
    for name in ["irreps", "sgemm", "gat"] {
        derivatives.push((name, "vjp", vjp(&of(name))));
    }
    derivatives.push(("gat", "jvp", jvp(&of("gat"))));
    for name in ["gat", "gat_heads"] {
        let [keep, pullback] = Passes::graphs(&of(name)).expect("something is worth keeping");
        derivatives.extend([(name, "keep", keep), (name, "pullback", pullback)]);
    }
    for (name, mode, derivative) in derivatives {
        let program = crate::gpu::lowered_to(&derivative, gdlc::base::dtype::Dtype::F64);
        let hints = program.sizes.iter().map(|(_, info)| match info.name.as_str() {
            "n" => 20,
            "m" => 50,
            _ => 2,
        });
        let sizes: Vec<usize> = hints.collect();
        let case = Case::of(program, &sizes, &format!("cuda-{name}-{mode}"));
        let given = case.arguments(&gpu, false);
        assert_eq!(run(&case, &given, 7), (abi::OK, String::new()), "{name}.{mode}");
        case.agrees(&gpu, &given[2]);
    }
}

#[test]
fn instances_are_of_one_stream_and_of_the_tables() {
    let gpu = Gpu::start();
    let mut case = Case::new(GAT, &GAT_SIZES, "cuda-streams");
    let call = |case: &Case, stream: usize| {
        let given = case.arguments(&gpu, false);
        assert_eq!(run(case, &given, stream), (abi::OK, String::new()));
        case.agrees(&gpu, &given[2]);
        count(&gpu.log(), "to the GPU")
    };
    assert_eq!([call(&case, 7), call(&case, 8), call(&case, 7), call(&case, 8)], [1, 1, 0, 0]);
    let senders = case.program.inputs.iter().position(|a| a.name.ends_with("senders")).expect("it has senders");
    let gdlc::driver::tensors::Numbers::Index(values) = &mut case.inputs[senders].numbers else { panic!("indices") };
    values.reverse();
    assert_eq!([call(&case, 7), call(&case, 7)], [1, 0], "other tables are bound");
    let given = case.arguments(&gpu, true);
    assert_eq!(run(&case, &given, 7), (abi::OK, String::new()), "tables on the GPU");
    case.agrees(&gpu, &given[2]);
    let log = gpu.log();
    let tables = case.inputs.len() - 1;
    assert_eq!(count(&log, "to the host"), tables, "{log:?}");
    assert_eq!([count(&log, "to the GPU"), count(&log, "wait")], [0, 2], "they are the tables of before: {log:?}");
}

/// Memory on the GPU of instances that are kept no longer is given back, also by a thread that has no context of CUDA.
#[test]
fn what_is_displaced_is_given_back_without_a_context() {
    let gpu = Gpu::start();
    let mut case = Case::new(LENET, &[8, 2], "cuda-displaced");
    let given = case.arguments(&gpu, false);
    let live = gpu.live();
    assert_eq!(run(&case, &given, 7), (abi::OK, String::new()));
    assert_eq!(gpu.live(), live + 1, "what bind made is kept");
    gpu.set("context", 0);
    // more instances on the CPU than are kept: each is of another number of images
    for images in 3..30 {
        case.sizes[1] = images;
        case.inputs = vec![crate::conformance::numbers(vec![images, 8, 8, 1], images)];
        let mut on_cpu = context(0);
        on_cpu.device.kind = abi::CPU;
        assert_eq!(run_with(&case, &case.on_cpu(&gpu), on_cpu), (abi::OK, String::new()));
    }
    let log = gpu.log();
    assert_eq!(gpu.live(), live, "{log:?}");
    assert_eq!(log[log.len() - 3..], ["enter", "free", "leave"], "nothing else is asked of the driver");
}

/// Weights are prepared at each call: new numbers in the same memory are seen.
#[test]
fn changed_weights_are_seen() {
    let gpu = Gpu::start();
    let mut case = Case::new(GAT, &GAT_SIZES, "cuda-weights");
    for round in 0..3 {
        for (k, weight) in case.weights.iter_mut().enumerate() {
            *weight = crate::conformance::numbers(weight.shape.clone(), 40 + 5 * k + round);
        }
        let given = case.arguments(&gpu, false);
        assert_eq!(run(&case, &given, 7).0, abi::OK);
        case.agrees(&gpu, &given[2]);
    }
}

/// What can be captured in a graph: the three steps with the caller's memory.
#[test]
fn prepare_and_call_allocate_nothing_and_wait_for_nothing() {
    let gpu = Gpu::start();
    let case = Case::new(GAT, &GAT_SIZES, "cuda-steps");
    let given = case.arguments(&gpu, false);
    let [inputs, weights, outputs] = [0, 1, 2].map(|k| Pointers::of(&given[k]));
    let mut context = context(9);
    let first = &raw mut context.context;
    let (model, mut memory) = (case.model, [abi::Memory { data: std::ptr::null_mut(), bytes: 0 }; 5]);
    let mut sizes: Vec<i64> = vec![0; case.sizes.len()];
    // SAFETY: arrays as long as the table says, memory as large as it asks for.
    unsafe {
        assert_eq!((model.sizes_fn)(first, inputs.get(), sizes.as_mut_ptr()), abi::OK);
        let wanted = case.sizes.iter().map(|n| *n as i64);
        sizes.iter_mut().zip(wanted).filter(|(n, _)| **n < 0).for_each(|(n, wanted)| *n = wanted);
        assert_eq!((model.memory_fn)(first, sizes.as_ptr(), memory.as_mut_ptr()), abi::OK);
        let mut host = [3, 4].map(|k: usize| vec![0u8; memory[k].bytes as usize]);
        for (k, memory) in memory.iter_mut().enumerate() {
            memory.data = if k < 3 { gpu.allocate(memory.bytes as usize).cast() } else { host[k - 3].as_mut_ptr() };
        }
        assert_eq!((model.bind_fn)(first, inputs.get(), sizes.as_ptr(), memory.as_ptr()), abi::OK);
        let launches = (*model.cuda).prepare.count + (*model.cuda).call.count;
        gpu.log();
        gpu.set("capturing", 1);
        assert_eq!((model.prepare_fn)(first, weights.get(), memory.as_ptr()), abi::OK);
        assert_eq!((model.call_fn)(first, inputs.get(), outputs.get(), memory.as_ptr()), abi::OK);
        let log = gpu.log();
        assert!(count(&log, "launch") <= launches as usize && count(&log, "launch") > 0, "{log:?}");
        assert_eq!(captured(&log), log.len(), "{log:?}");
        assert!(log.iter().all(|line| line.ends_with("on 9")), "{log:?}");
    }
    case.agrees(&gpu, &given[2]);
}

/// Machine code of sm_80 runs on sm_89 too; where the driver is too old for it, or the GPU is of another kind, PTX is taken.
#[test]
fn machine_code_is_taken_where_the_driver_knows_it() {
    let gpu = Gpu::start();
    let settings: [(&str, i64, &[&str]); 4] = [
        ("minor", 0, &["load cubin"]),
        ("minor", 9, &["load cubin"]),
        ("fail cubin", 1, &["load cubin", "load ptx"]),
        ("major", 9, &["load ptx"]),
    ];
    for (setting, value, expected) in settings {
        gpu.set(setting, value);
        let case = Case::assembled(GAT, &GAT_SIZES, "cuda-cubin");
        let given = case.arguments(&gpu, false);
        assert_eq!(run(&case, &given, 7), (abi::OK, String::new()), "{setting}");
        case.agrees(&gpu, &given[2]);
        let log = gpu.log();
        let loads: Vec<&String> = log.iter().filter(|line| line.starts_with("load")).collect();
        assert_eq!(loads, expected, "{setting}");
    }
}

/// What is wrong with the GPU, the driver or the arguments is an error that says what to do.
#[test]
fn what_a_gpu_cannot_do_is_said() {
    let gpu = Gpu::start();
    let case = Case::new(GAT, &GAT_SIZES, "cuda-wrong");
    let given = case.arguments(&gpu, false);
    let refused = |setting: &str, (bad, good): (i64, i64), status: i32, words: &[&str]| {
        let live = gpu.live();
        gpu.set(setting, bad);
        let (found, message) = run(&case, &given, 7);
        gpu.set(setting, good);
        assert_eq!(found, status, "{setting}: {message}");
        words.iter().for_each(|word| assert!(message.contains(word), "{setting}: {message}"));
        assert_eq!(gpu.live(), live, "{setting}: nothing stays allocated");
    };
    refused("device", (1, 0), abi::INVALID, &["is of device 1, not 0", "cudaSetDevice"]);
    refused("major", (7, 8), abi::UNSUPPORTED, &["this GPU is sm_70", "sm_75 and later"]);
    gpu.set("minor", 5);
    refused(
        "major",
        (7, 8),
        abi::UNSUPPORTED,
        &["built for sm_80 and later", "this GPU is sm_75: build with --arch sm_75"],
    );
    gpu.set("minor", 0);
    refused("fail load", (1, 0), abi::CUDA_FAILED, &["Unsupported .version 8.6", "driver", "--arch"]);
    refused("room", (100, 1 << 30), abi::NO_MEMORY, &["no memory on the GPU", "bytes are needed"]);
    assert_eq!(run(&case, &given, 7).0, abi::OK, "and then it runs");
    refused("fail launch", (701, 0), abi::UNSUPPORTED, &["more registers or shared memory", "--arch"]);
    refused("capturing", (1, 0), abi::INVALID, &["cannot be captured", "bind, prepare and call"]);
    let mut wrong = case.arguments(&gpu, false);
    wrong[0][0].device = abi::Device { kind: abi::CPU, id: 0 };
    assert!(run(&case, &wrong, 7).1.contains("must be on CUDA (2:0)"));
    wrong[0][0].device = abi::Device { kind: abi::CUDA, id: 1 };
    assert!(run(&case, &wrong, 7).1.contains("is on device 2:1, and must be on CUDA (2:0)"));
}

/// A thread that has no context yet: PyTorch's backward pass is such a thread. A stream has one, and of a default stream it is that of CUDA's
/// runtime, if anybody uses it.
#[test]
fn a_thread_without_a_context_takes_that_of_the_stream() {
    let gpu = Gpu::start();
    let case = Case::new(GAT, &GAT_SIZES, "cuda-no-context");
    gpu.set("context", 0);
    let given = case.arguments(&gpu, false);
    let (status, message) = run(&case, &given, 0);
    assert_eq!(status, abi::CUDA_FAILED);
    assert!(message.contains("no CUDA context is current") && message.contains("cudaSetDevice"), "{message}");
    gpu.log();
    for (stream, entered, left) in
        [(7, &["enter"][..], &["leave"][..]), (0, &["retain", "enter"], &["leave", "release"])]
    {
        gpu.set("primary", 1);
        let given = case.arguments(&gpu, false);
        assert_eq!(run(&case, &given, stream), (abi::OK, String::new()));
        case.agrees(&gpu, &given[2]);
        let log = gpu.log();
        assert_eq!(log[..entered.len()], *entered, "{log:?}");
        assert_eq!(log[log.len() - left.len()..], *left, "{log:?}");
    }
    // what fails is left as well
    for (setting, value) in [("fail launch", 1), ("fail load", 1), ("room", 1)] {
        let other = Case::new(GAT, &GAT_SIZES, "cuda-no-context-failing");
        let given = other.arguments(&gpu, false);
        gpu.set(setting, value);
        assert_ne!(run(&other, &given, 0).0, abi::OK, "{setting}");
        gpu.set(setting, if setting == "room" { 1 << 30 } else { 0 });
        let log = gpu.log();
        assert_eq!(
            [count(&log, "retain"), count(&log, "enter")],
            [count(&log, "release"), count(&log, "leave")],
            "{log:?}"
        );
    }
}

/// A function that the driver does not have, and the driver that every other test uses does.
#[test]
fn a_driver_that_is_too_old_is_named() {
    if crate::gpu::done_alone("cuda::a_driver_that_is_too_old_is_named") {
        return;
    }
    let gpu = Gpu::start_without("cuStreamIsCapturing");
    let case = Case::new(GAT, &GAT_SIZES, "cuda-old");
    let (status, message) = run(&case, &case.arguments(&gpu, false), 7);
    assert_eq!(status, abi::CUDA_FAILED);
    assert!(message.contains("no `cuStreamIsCapturing`") && message.contains("install a newer one"), "{message}");
}

/// An index out of its range is found by the host, wherever the table is.
#[test]
fn wrong_tables_on_the_gpu_are_named() {
    let gpu = Gpu::start();
    let mut case = Case::new(GAT, &GAT_SIZES, "cuda-tables");
    let senders = case.program.inputs.iter().position(|a| a.name.ends_with("senders")).expect("it has senders");
    let gdlc::driver::tensors::Numbers::Index(values) = &mut case.inputs[senders].numbers else { panic!("indices") };
    values[3] = 12;
    for on_gpu in [false, true] {
        let given = case.arguments(&gpu, on_gpu);
        let live = gpu.live();
        let (status, message) = run(&case, &given, 7);
        assert_eq!(status, abi::INVALID);
        assert!(message.contains("senders`: element 3 is 12, outside 0..12"), "{message}");
        assert_eq!(gpu.live(), live);
    }
}

/// Gives memory on the GPU as a framework does, and counts what it gave.
struct Lending<'a> {
    gpu: &'a Gpu,
    borrowed: Vec<*mut c_void>,
}

unsafe extern "C" fn borrow(host: *mut c_void, bytes: i64) -> *mut u8 {
    // SAFETY: the lender's own.
    let lending = unsafe { &mut *host.cast::<Lending<'_>>() };
    let data = lending.gpu.allocate(bytes as usize);
    lending.borrowed.push(data);
    data.cast()
}

/// Under a graph's capture: what was bound before is used, whatever the stream, and stays.
#[test]
fn a_capture_uses_what_was_bound_before() {
    let gpu = Gpu::start();
    let mut case = Case::new(GAT, &GAT_SIZES, "cuda-capture");
    let call = |case: &Case, stream: usize| {
        let given = case.arguments(&gpu, false);
        let [inputs, weights, outputs] = [0, 1, 2].map(|k| Pointers::of(&given[k]));
        let mut context = context(stream);
        let mut lending = Lending { gpu: &gpu, borrowed: vec![] };
        let host = (&raw mut lending).cast();
        let lender = abi::Lender { host, borrow, keep: None, release: None };
        // SAFETY: arrays as long as the table says, alive during the call.
        let status = unsafe {
            let run = (*case.model.cuda).run_fn;
            run(&mut context, case.model, inputs.get(), weights.get(), outputs.get(), &lender)
        };
        lending.borrowed.iter().for_each(|data| gpu.free(*data));
        if status == abi::OK {
            case.agrees(&gpu, &given[2]);
        }
        (message(&context), gpu.log())
    };
    gpu.set("capturing", 1);
    let (why, _) = call(&case, 7);
    assert!(why.contains("call it once before"), "{why}");
    gpu.set("capturing", 0);
    let (why, log) = call(&case, 7);
    assert_eq!((why.as_str(), count(&log, "to the GPU"), count(&log, "wait")), ("", 1, 0), "{log:?}");
    gpu.set("capturing", 1);
    let (why, log) = call(&case, 8);
    assert_eq!((why.as_str(), captured(&log)), ("", log.len()), "{log:?}");
    gpu.set("capturing", 0);
    // Other tables, more often than instances are kept: the captured one is neither bound anew nor freed.
    let senders = case.program.inputs.iter().position(|a| a.name.ends_with("senders")).expect("it has senders");
    let before = case.inputs[senders].clone();
    for round in 0..20 {
        let gdlc::driver::tensors::Numbers::Index(values) = &mut case.inputs[senders].numbers else {
            panic!("indices")
        };
        values.rotate_left(1);
        assert_eq!(call(&case, 7 + round % 3).0, "");
    }
    case.inputs[senders] = before;
    gpu.set("capturing", 1);
    let (why, log) = call(&case, 9);
    assert_eq!((why.as_str(), captured(&log)), ("", log.len()), "{log:?}");
}

/// A library for GPUs beside a processor of another kind: its part for the CPU computes what that of x86-64 computes, and the part for
/// GPUs looks for a driver.
#[test]
fn a_library_for_aarch64_has_a_part_for_gpus() {
    use crate::emulated::{COMPILER, EMULATOR, ROOT, codes, computed};
    use gdlc::codegen::{BACKENDS, Target, device::Architecture};
    use gdlc::package::{Member, build_all, device::DeviceTarget};
    let _gpu = Gpu::start();
    let case = Case::new(GAT, &GAT_SIZES, "cuda-aarch64");
    let interface = crate::conformance::interface_of(&case.program);
    let member = Member::alone(&case.program, &interface);
    let device = DeviceTarget { architectures: vec![Architecture(80)], ptxas: None, products: None };
    if codes().is_empty() {
        return eprintln!("no emulator of AArch64 here: left out");
    }
    for backend in BACKENDS {
        let library = build_all(&[member], *backend, Target::Aarch64, Some(&device)).expect("it builds");
        let folder = case.path.with_file_name(format!("aarch64-{}", backend.name()));
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        let path = folder.join("library.so");
        std::fs::write(&path, &library.so_bytes).expect("the library is written");
        let header = folder.join("library.h");
        std::fs::write(&header, &library.header).expect("the header is written");
        let found = computed(&case.program, &path, &case.sizes, &case.inputs, &case.weights);
        assert_eq!(found, case.expected(), "{}", backend.name());
        let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/no_driver.c");
        let program = folder.join("no_driver");
        let mut compiler = std::process::Command::new(COMPILER);
        compiler.args(["-O1", "-Wall", "-Werror", "-include"]).arg(header).arg(source).arg("-o").arg(&program);
        assert!(compiler.arg("-ldl").status().expect("it starts").success());
        let mut emulator = std::process::Command::new(EMULATOR);
        let asked = emulator.args(["-L", ROOT]).arg(&program).arg(&path).arg(&case.program.name).output();
        let asked = asked.expect("it starts");
        let said = String::from_utf8_lossy(&asked.stdout);
        assert!(asked.status.success() && said.contains("libcuda.so.1 is not here"), "{said}");
    }
}
