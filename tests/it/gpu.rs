//! Kernels spread over blocks and threads mean what they meant: by the interpreter, which watches for threads that meet in memory
//! without a barrier, and by the CPU's backend. Shapes of launches; registers and spills by NVIDIA's assembler, where there is one.

use gdlc::base::dtype::Dtype;
use gdlc::base::size::Size;
use gdlc::kernel::build::Builder;
use gdlc::kernel::gpu::{Spread, spread};
use gdlc::kernel::interpret::{Machine, Order};
use gdlc::kernel::ir::{Access, Buffer, LoopKind, Memory, Program, Stage, Stmt};
use gdlc::kernel::verify::verify;
use gdlc::kernel::work::work;

/// The program with its kernels of prepare and call spread, and those of bind as they are.
pub(crate) fn spread_out(program: &Program) -> Program {
    let Spread { program: spread, launches } = spread(program, None).expect("every kernel can be spread");
    verify(&spread).expect("it is well formed");
    assert_eq!(spread.kernels.len(), launches.len());
    let bind = program.kernels.iter().filter(|k| k.stage == Stage::Bind).cloned();
    Program { kernels: bind.chain(spread.kernels.iter().cloned()).collect(), ..spread }
}

#[allow(dead_code, unreachable_pub)]
#[path = "../../src/runtime/abi.rs"]
mod abi;

/// Operations of a spread program that the interpreter is asked to do; the compiled one is compared at every size.
pub(crate) const MOST_OPERATIONS: f64 = 1e6;

/// The floating-point operations of a program, tiles that are computed in vain included.
pub(crate) fn operations(program: &Program, sizes: &[usize]) -> f64 {
    program.kernels.iter().map(|kernel| work(program, kernel, sizes).flops).sum()
}

/// One block of `threads` threads that runs each body in turn, with its thread and that thread's element of a shared array of 8 numbers.
fn block(threads: i64, loops: &[&dyn Fn(&mut Builder, gdlc::kernel::ir::Var, Access) -> Stmt]) -> Program {
    let mut program = Program::new("block", Dtype::F64, Default::default());
    let shape = vec![Size::fixed(8)];
    let shared =
        program.buffers.push(Buffer { name: "shared".into(), dtype: Dtype::F64, shape, memory: Memory::Local });
    let mut b = Builder::default();
    let (zero, one, end) = (b.int(0), b.int(1), b.int(threads));
    let mut body = vec![Stmt::Alloc { buffer: shared }];
    for make in loops {
        let thread = b.var();
        let place = Access { buffer: shared, index: vec![b.read(thread)] };
        let stmt = make(&mut b, thread, place);
        body.push(Stmt::For { var: thread, begin: zero, end, kind: LoopKind::Threads, body: vec![stmt] });
    }
    let var = b.var();
    let body = vec![Stmt::For { var, begin: zero, end: one, kind: LoopKind::Blocks, body }];
    program.kernels.push(b.finish("block", Stage::Call, body));
    program
}

fn outcome(program: &Program) -> Result<(), String> {
    verify(program)?;
    Machine::new(program, &[], Order::Forward).run(Stage::Call).map_err(|fault| fault.why)
}

#[test]
fn threads_that_meet_without_a_barrier_are_found() {
    let own = |b: &mut Builder, _: gdlc::kernel::ir::Var, place: Access| Stmt::Store { to: place, value: b.float(1.0) };
    let first = |b: &mut Builder, _: gdlc::kernel::ir::Var, place: Access| {
        let to = Access { index: vec![b.int(0)], ..place };
        Stmt::Store { to, value: b.float(1.0) }
    };
    let next = |b: &mut Builder, thread: gdlc::kernel::ir::Var, place: Access| {
        let (t, one, n) = (b.read(thread), b.int(1), b.int(4));
        let after = b.add(t, one);
        let after = b.binary(gdlc::kernel::ir::Binary::Mod, after, n);
        let value = b.load(place.buffer, vec![after]);
        Stmt::Store { to: place, value }
    };
    let read = |b: &mut Builder, _: gdlc::kernel::ir::Var, place: Access| {
        let zero = b.int(0);
        Stmt::Let { var: b.var(), value: b.load(place.buffer, vec![zero]) }
    };
    outcome(&block(4, &[&own, &read])).expect("all read what one wrote before the barrier");
    let race = outcome(&block(4, &[&first])).expect_err("all write one element");
    assert!(race.contains("written by one thread and used by another"), "{race}");
    let race = outcome(&block(4, &[&own, &next])).expect_err("each reads what its neighbour writes");
    assert!(race.contains("read by one thread and written by another") || race.contains("used by another"), "{race}");
    let outside = outcome(&block(9, &[&own])).expect_err("nine threads, eight elements");
    assert!(outside.contains("whose size is 8"), "{outside}");
}

#[test]
fn effects_outside_threads_are_refused() {
    let mut program = block(4, &[]);
    let Stmt::For { body, .. } = &mut program.kernels[0].body[0] else { panic!("a loop over blocks") };
    let Stmt::Alloc { buffer } = body[0] else { panic!("the shared array") };
    let mut b = Builder::default();
    let (zero, one, value) = (b.int(0), b.int(1), b.float(1.0));
    let store = Stmt::Store { to: Access { buffer, index: vec![zero] }, value };
    let var = b.var();
    let body = vec![Stmt::Alloc { buffer }, store];
    let body = vec![Stmt::For { var, begin: zero, end: one, kind: LoopKind::Blocks, body }];
    program.kernels[0] = b.finish("block", Stage::Call, body);
    let why = outcome(&program).expect_err("every thread would store");
    assert!(why.contains("outside the threads of a block"), "{why}");
}

/// The graphs of a program of the repository, as they are derived.
pub(crate) fn graphs_of(path: &str) -> Vec<gdlc::tensor::graph::Graph> {
    use gdlc::base::span::SourceMap;
    use gdlc::{derive, sema, syntax};
    let text =
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("it is there");
    let mut sources = SourceMap::default();
    let id = sources.add(path, text);
    let (program, _) = syntax::parse(&sources, id);
    let (checked, _) = sema::check(&program, &mut sources, &sema::LibraryOnly, &[]);
    let checked = checked.expect("it checks");
    checked.models.iter().map(|model| derive::derive(&checked, model).expect("it derives").graph).collect()
}

/// The kernels of a program of the repository, as `gdlc` makes them.
#[cfg(feature = "llvm")]
pub(crate) fn programs_of(path: &str) -> Vec<Program> {
    graphs_of(path).iter().map(lowered).collect()
}

#[cfg(feature = "llvm")]
fn lowered(graph: &gdlc::tensor::graph::Graph) -> Program {
    lowered_to(graph, Dtype::F32)
}

#[cfg(feature = "llvm")]
pub(crate) fn lowered_to(graph: &gdlc::tensor::graph::Graph, dtype: Dtype) -> Program {
    use gdlc::kernel::lower::{Hardware, lower_for};
    use gdlc::rewrite;
    let (graph, _) = rewrite::optimise(graph, &rewrite::Options::default());
    lower_for(&graph, "model", dtype, Hardware::Gpu)
}

/// NVIDIA's assembler takes the code, and nothing is spilled.
#[cfg(feature = "llvm")]
pub(crate) fn check_assembly(
    ptxas: &std::path::Path,
    code: &gdlc::codegen::device::DeviceCode,
    architecture: gdlc::codegen::device::Architecture,
    path: &str,
) {
    let assembled = gdlc::package::device::assemble(ptxas, &code.ptx, architecture);
    let (bytes, said) = assembled.unwrap_or_else(|why| panic!("{path} for {architecture}: {why}"));
    assert!(bytes.starts_with(b"\x7fELF"), "{path}: machine code for {architecture}");
    let n = said.lines().filter(|line| line.contains("bytes spill stores")).count();
    assert_eq!(n, code.kernels.len() + 2, "{path} for {architecture}: every kernel is spoken of: {said}");
    let clean = said.matches(" 0 bytes spill stores, 0 bytes spill loads").count();
    assert_eq!(clean, n, "{path} for {architecture}: {said}");
    let registers = |line: &str| line.split("Used ").nth(1)?.split(' ').next()?.parse::<u32>().ok();
    let most = said.lines().filter_map(registers).max().expect("registers are counted");
    assert!(most <= 255, "{path} for {architecture}: {most} registers");
}

/// NVIDIA's assembler takes the kernels for every architecture, and they keep everything in registers.
#[cfg(feature = "llvm")]
#[test]
fn ptxas_takes_the_kernels_and_spills_nothing() {
    use gdlc::codegen::device::{Architecture, emit};
    use gdlc::package::device::find_ptxas;
    let Some(ptxas) = find_ptxas() else {
        return eprintln!("no ptxas here (GDL_PTXAS, CUDA_HOME, PATH): registers and spills are not read");
    };
    let paths = ["examples/digits.gdl", "examples/lenet.gdl", "examples/mpnn.gdl", "benches/programs/sgemm.gdl"];
    for path in paths.into_iter().chain(["benches/programs/gat.gdl", "benches/programs/deepsets.gdl"]) {
        for program in programs_of(path) {
            for architecture in [75, 80, 90, 100].map(Architecture) {
                let code = emit(&program, architecture, None).expect("it is emitted");
                check_assembly(&ptxas, &code, architecture, path);
            }
        }
    }
}

/// Derivatives of the weights of convolutions are tiles of sums of products, a hundred blocks or more, and keep everything in registers.
#[cfg(feature = "llvm")]
#[test]
fn derivatives_of_weights_are_tiles_and_spill_nothing() {
    use gdlc::codegen::device::{Architecture, emit};
    use gdlc::package::device::{assemble, find_ptxas};
    use gdlc::tensor::pass::derivatives::vjp;
    let paths = ["benches/programs/conv.gdl", "benches/programs/p4m.gdl", "benches/programs/sgemm.gdl"];
    let all = paths.into_iter().chain(["examples/digits.gdl"]);
    for (path, dtype) in all.flat_map(|path| [(path, Dtype::F32), (path, Dtype::F64)]) {
        let program = lowered_to(&vjp(&graphs_of(path)[0]), dtype);
        for architecture in [75, 80, 90, 100].map(Architecture) {
            let code = emit(&program, architecture, None).expect("it is emitted");
            let tiles = || code.kernels.iter().filter(|k| k.launch.owns == "a tile of a sum of products");
            let blocks: Vec<usize> = tiles().map(|k| k.launch.blocks(|size| program.sizes.hint(size))).collect();
            assert!(!blocks.is_empty() && blocks.iter().all(|n| *n > 100), "{path} in {dtype}: {blocks:?}");
            let Some(ptxas) = find_ptxas() else { continue };
            let (_, said) = assemble(&ptxas, &code.ptx, architecture).expect("it assembles");
            for kernel in tiles() {
                let of_kernel =
                    said.split(&format!("properties for {}\n", kernel.symbol)).nth(1).expect("it is spoken of");
                let of_kernel = of_kernel.lines().next().unwrap_or_default();
                assert!(of_kernel.contains(" 0 bytes spill stores, 0 bytes spill loads"), "{path}: {of_kernel}");
            }
        }
    }
}

/// PTX is the same bytes each time, says what it is for, and comes only from what the frame has.
#[cfg(feature = "llvm")]
#[test]
fn ptx_is_deterministic() {
    use gdlc::codegen::device::{Architecture, emit};
    let program = &programs_of("benches/programs/gat.gdl")[0];
    let [a, b] = [(); 2].map(|()| emit(program, Architecture(80), None).expect("it is emitted"));
    assert_eq!(a.ptx, b.ptx);
    assert!(a.ptx.contains(".version 7.0") && a.ptx.contains(".target sm_80"), "{}", a.ptx);
    assert!(a.kernels.iter().all(|k| a.ptx.contains(&format!(".entry {}(", k.symbol)) && k.stage != Stage::Bind));
}

#[test]
fn a_row_of_channels_has_a_thread_a_channel() {
    let case = crate::conformance::edges(24, vec![0, 2, 2, 5], vec![0, 1, 2, 0, 1]);
    let Spread { launches, .. } = spread(&case.program, None).expect("it can be spread");
    let shapes: Vec<_> = launches.iter().map(|l| (l.owns, l.blocks(|s| s.eval(|_| 1000)))).collect();
    assert_eq!(shapes, [("an element", (1000 * 24usize).div_ceil(launches[0].threads))]);
}

/// Asks a library to bind on a GPU: the status and the message.
fn bind_on_gpu(path: &std::path::Path, name: &str) -> (i32, String) {
    let host = std::ptr::null_mut();
    let context = abi::Context { version: abi::VERSION_CUDA, threads: 0, parallel_for: None, host, message: [0; 512] };
    let device = abi::Device { kind: abi::CUDA, id: 0 };
    let mut context = abi::CudaContext { context, device, stream: std::ptr::null_mut() };
    let mut memory = [abi::Memory { data: std::ptr::null_mut(), bytes: 0 }; 5];
    // SAFETY: the library is of this build; sizes and memories are as many as it says, and nothing else is read before the driver is open.
    let status = unsafe {
        let library = libloading::Library::new(path).expect("it loads");
        let query: libloading::Symbol<'_, unsafe extern "C" fn() -> *const abi::Model> =
            library.get(format!("gdl_{name}_query").as_bytes()).expect("it has a query");
        let model = &*query();
        let sizes = vec![4i64; model.sizes.count as usize];
        let first = &raw mut context.context;
        match (model.memory_fn)(first, sizes.as_ptr(), memory.as_mut_ptr()) {
            abi::OK => (model.bind_fn)(first, std::ptr::null(), sizes.as_ptr(), memory.as_ptr()),
            failed => failed,
        }
    };
    let message = std::ffi::CStr::from_bytes_until_nul(&context.context.message).expect("it ends");
    (status, message.to_string_lossy().into_owned())
}

#[test]
fn a_library_for_the_cpu_says_how_to_build_one_for_gpus() {
    let case = crate::conformance::edges(8, vec![0, 1], vec![0]);
    let (status, message) = bind_on_gpu(&case.build("no-gpu"), "edges");
    assert_eq!(status, abi::UNSUPPORTED);
    assert!(message.contains("gdlc build --target cuda"), "{message}");
}

/// Runs a test again in a process of its own, unless this is that process: other tests put a driver in theirs, which every library finds.
#[cfg(feature = "llvm")]
pub(crate) fn done_alone(name: &str) -> bool {
    const ALONE: &str = "GDL_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return false;
    }
    let own = std::env::current_exe().expect("this process has a file");
    let mut again = std::process::Command::new(own);
    let output = again.args(["--exact", name]).env(ALONE, "1").output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    true
}

/// Loading needs no driver; a call that asks for a GPU says that there is none.
#[cfg(feature = "llvm")]
#[test]
fn a_missing_driver_is_an_error_of_the_call() {
    use gdlc::codegen::{BACKENDS, Target, device::Architecture};
    use gdlc::package::{Member, build_all, device::DeviceTarget};
    if done_alone("gpu::a_missing_driver_is_an_error_of_the_call") {
        return;
    }
    let case = crate::conformance::edges(8, vec![0, 1], vec![0]);
    let device = DeviceTarget { architectures: vec![Architecture(80)], ptxas: None, products: None };
    let model = Member::alone(&case.program, &case.interface);
    let library = build_all(&[model], BACKENDS[0], Target::ANY_X86_64, Some(&device)).expect("it builds");
    let folder = std::env::temp_dir().join(format!("gdlc-driver-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let path = folder.join("libedges.so");
    std::fs::write(&path, &library.so_bytes).expect("the library is written");
    let (status, message) = bind_on_gpu(&path, "edges");
    // Where there is a driver, no context is current in a test.
    assert_eq!(status, abi::CUDA_FAILED, "{message}");
    assert!(message.contains("libcuda.so.1") || message.contains("cu"), "{message}");
}
