//! Backends against the interpreter: the same program, the same numbers, through a library on disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use gdlc::base::arena::Id;
use gdlc::base::dtype::Dtype;
use gdlc::base::size::{Size, SizeTable, SizeVar};
use gdlc::codegen::abi::{Element, Interface, Tensor as Declared};
use gdlc::codegen::{BACKENDS, Level, Levels, Target};
#[cfg(feature = "llvm")]
use gdlc::codegen::{Backend, Object, Unsupported, llvm};
use gdlc::derive::instance::{self, Filling};
use gdlc::driver::code::Code;
use gdlc::driver::load::Loaded;
use gdlc::driver::tensors::{Numbers, Tensor};
use gdlc::kernel::build::Builder;
use gdlc::kernel::interpret::{Machine, Order};
use gdlc::kernel::ir::{
    Access, Argument, ArgumentKind, Binary, Buffer, Combine, Comparison, Contraction, Expr, LoopKind, Memory,
    PANEL_BYTES, Program, Stage, Stmt, Unary,
};
use gdlc::kernel::lower::lower;
use gdlc::math::Rng;
use gdlc::rewrite;
use gdlc::tensor::eval::eval;

use crate::emulated;
use crate::gpu::{MOST_OPERATIONS, operations, spread_out};
use crate::kernel::{compare, through_library};

/// A program with one buffer an argument, and the numbers to run it on.
pub(crate) struct Case {
    pub program: Program,
    pub interface: Interface,
    pub inputs: Vec<Tensor>,
    pub weights: Vec<Tensor>,
    pub sizes: Vec<usize>,
}

impl Case {
    pub(crate) fn new(name: &str, dtype: Dtype, sizes: &[(&str, usize)]) -> Case {
        let mut table = SizeTable::default();
        for (size, value) in sizes {
            table.intern(size, *value);
        }
        let program = Program::new(name, dtype, table.clone());
        let interface = Interface {
            name: name.into(),
            dtype,
            sizes: table,
            inputs: vec![],
            weights: vec![],
            outputs: vec![],
            facts: vec![("group".into(), "trivial".into())],
        };
        let sizes = sizes.iter().map(|(_, n)| *n).collect();
        Case { program, interface, inputs: vec![], weights: vec![], sizes }
    }

    pub(crate) fn size(&self, k: u32) -> Size {
        Size::var(SizeVar(k))
    }

    pub(crate) fn buffer(&mut self, name: &str, shape: &[Size], memory: Memory) -> Id<Buffer> {
        let dtype = self.program.dtype;
        self.program.buffers.push(Buffer { name: name.into(), dtype, shape: shape.to_vec(), memory })
    }

    fn dims(&self, shape: &[Size]) -> Vec<usize> {
        shape.iter().map(|s| s.eval(|v| self.sizes[v.0 as usize])).collect()
    }

    fn declared(&self, name: &str, shape: &[Size], element: Element) -> Declared {
        Declared { name: name.into(), dims: shape.to_vec(), element, about: String::new() }
    }

    /// A real input with well-spread numbers.
    pub(crate) fn input(&mut self, name: &str, shape: &[Size]) -> Id<Buffer> {
        let k = self.program.inputs.len();
        let buffer = self.buffer(name, shape, Memory::Input(k));
        self.program.inputs.push(Argument { name: name.into(), buffer, kind: ArgumentKind::Real });
        self.interface.inputs.push(self.declared(name, shape, Element::Real));
        self.inputs.push(numbers(self.dims(shape), k + 1));
        buffer
    }

    /// A table of indices.
    pub(crate) fn table(
        &mut self,
        name: &str,
        shape: &[Size],
        range: Size,
        sorted: bool,
        values: Vec<i64>,
    ) -> Id<Buffer> {
        let k = self.program.inputs.len();
        let memory = Memory::Input(k);
        let buffer =
            self.program.buffers.push(Buffer { name: name.into(), dtype: Dtype::I32, shape: shape.to_vec(), memory });
        self.program.inputs.push(Argument { name: name.into(), buffer, kind: ArgumentKind::Table { range, sorted } });
        self.interface.inputs.push(self.declared(name, shape, Element::Index { range, sorted, table: true }));
        self.inputs.push(Tensor { shape: self.dims(shape), numbers: Numbers::Index(values) });
        buffer
    }

    pub(crate) fn weight(&mut self, name: &str, shape: &[Size]) -> Id<Buffer> {
        let k = self.program.weights.len();
        let buffer = self.buffer(name, shape, Memory::Weight(k));
        self.program.weights.push(Argument { name: name.into(), buffer, kind: ArgumentKind::Real });
        self.interface.weights.push(self.declared(name, shape, Element::Real));
        self.weights.push(numbers(self.dims(shape), k + 11));
        buffer
    }

    pub(crate) fn output(&mut self, name: &str, shape: &[Size]) -> Id<Buffer> {
        let k = self.program.outputs.len();
        let buffer = self.buffer(name, shape, Memory::Output(k));
        self.program.outputs.push(Argument { name: name.into(), buffer, kind: ArgumentKind::Real });
        self.interface.outputs.push(self.declared(name, shape, Element::Real));
        buffer
    }

    pub(crate) fn kernel(&mut self, stage: Stage, b: Builder, body: Vec<Stmt>) {
        let name = format!("k{}", self.program.kernels.len());
        self.program.kernels.push(b.finish(name, stage, body));
    }

    /// The library on disk, by the default backend.
    pub(crate) fn build(&self, test: &str) -> PathBuf {
        build(&self.program, &self.interface, Code::default(), test)
    }

    /// What the interpreter computes.
    fn interpreted(&self) -> Vec<Vec<f64>> {
        self.interpreted_as(&self.program)
    }

    /// What the interpreter computes by a program of the same arguments.
    pub(crate) fn interpreted_as(&self, program: &Program) -> Vec<Vec<f64>> {
        let mut machine = Machine::new(program, &self.sizes, Order::Forward);
        for (k, tensor) in self.inputs.iter().enumerate() {
            machine.set_input(k, &tensor.reals());
        }
        for (k, tensor) in self.weights.iter().enumerate() {
            machine.set_weight(k, &tensor.reals());
        }
        for stage in [Stage::Bind, Stage::Prepare, Stage::Call] {
            machine.run(stage).expect("the interpreter runs it");
        }
        (0..self.program.outputs.len()).map(|k| machine.output(k).expect("every element is written")).collect()
    }

    /// What the library of the default backend computes.
    pub(crate) fn computed(&self, test: &str) -> Vec<Tensor> {
        self.computed_by(Code::default(), test)
    }

    fn computed_by(&self, code: Code, test: &str) -> Vec<Tensor> {
        let path = build(&self.program, &self.interface, code, test);
        computed_by(code, &self.program, &path, &self.sizes, &self.inputs, &self.weights)
    }

    /// Every library computes what the interpreter computes, and so do the kernels spread over blocks and threads.
    pub(crate) fn conforms(&self, test: &str, tolerance: f64) {
        let wanted = self.interpreted();
        let spread = spread_out(&self.program);
        if operations(&spread, &self.sizes) < MOST_OPERATIONS {
            assert_eq!(self.interpreted_as(&spread), wanted, "{test}, spread over threads");
        }
        let path = build(&spread, &self.interface, Code::default(), test);
        let got = computed(&spread, &path, &self.sizes, &self.inputs, &self.weights);
        self.agrees(&got, &wanted, &format!("{test}, spread over threads, compiled"), tolerance);
        #[cfg(feature = "llvm")]
        {
            let arguments = [self.inputs.clone(), self.weights.clone()];
            let got = crate::cuda::computed(&self.program, &self.sizes, arguments, None, test);
            self.agrees(&got, &wanted, &format!("{test}, on a GPU"), tolerance);
        }
        self.conforms_on_cpus(test, tolerance);
    }

    /// Every library for a CPU computes what the interpreter computes.
    pub(crate) fn conforms_on_cpus(&self, test: &str, tolerance: f64) {
        let wanted = self.interpreted();
        for code in codes() {
            self.agrees(&self.computed_by(code, test), &wanted, &format!("{test}, {code:?}"), tolerance);
        }
    }

    fn agrees(&self, got: &[Tensor], wanted: &[Vec<f64>], test: &str, tolerance: f64) {
        for (got, wanted) in got.iter().zip(wanted) {
            let got = got.reals();
            assert_eq!(got.len(), wanted.len());
            let scale = wanted.iter().fold(0.0f64, |m, x| m.max(x.abs())).max(1e-30);
            assert!(wanted.is_empty() || scale > 1e-6, "the result is not zero");
            for (i, (a, b)) in got.iter().zip(wanted).enumerate() {
                assert!((a - b).abs() <= tolerance * scale, "{test}: element {i} is {a}, not {b}");
            }
        }
    }
}

/// Each backend, for every processor.
pub(crate) fn backends() -> Vec<Code> {
    BACKENDS.iter().map(|backend| Code { backend: *backend, target: Target::ANY_X86_64 }).collect()
}

/// Each backend, for every processor, where the widest vectors of this machine are used, and for the least; wide vectors
/// in halves, which every machine can run; and for AArch64, where it can be emulated.
pub(crate) fn codes() -> Vec<Code> {
    let only = |level| Target::X86_64(Levels::only(level));
    let targets = |code: Code| [code.target, only(Level::V2), only(Level::V3)].map(|target| Code { target, ..code });
    let mut all: Vec<Code> = backends().into_iter().flat_map(targets).collect();
    #[cfg(feature = "llvm")]
    all.push(Code { backend: &Halves, target: only(Level::V3) });
    all.dedup_by_key(|code| (code.backend.name(), code.target));
    all.extend(emulated::codes());
    all
}

/// The LLVM backend's code for AVX-512, told to LLVM as code for AVX2: the same lanes and masks, every vector in two halves.
#[cfg(feature = "llvm")]
struct Halves;

#[cfg(feature = "llvm")]
impl Backend for Halves {
    fn name(&self) -> &'static str {
        "llvm with wide vectors in halves"
    }

    fn lacks(&self, _: Target) -> Option<&'static str> {
        None
    }

    fn emit(&self, program: &Program, target: Target) -> Result<Object, Unsupported> {
        let mut module = llvm::module(program, Target::X86_64(Levels::only(Level::V4)))?;
        assert!(module.text.contains("x86-64-v4"));
        module.text = module.text.replace("x86-64-v4", "x86-64-v3");
        Ok(llvm::object(&module, target))
    }

    fn assembly(&self, _: &Program, _: Target) -> Result<String, Unsupported> {
        Err(Unsupported::new("assembly: it is only run"))
    }
}

/// Vectors fill the registers of each level, and nothing is called but the runtime.
#[cfg(feature = "llvm")]
#[test]
fn llvm_assembly_is_wide() {
    let case = relu(Dtype::F32, 9, 21);
    for (level, register, mask) in [(Level::V3, "%ymm", "vmaskmovps"), (Level::V4, "%zmm", "{%k")] {
        let target = Target::X86_64(Levels::only(level));
        let assembly = llvm::Llvm.assembly(&case.program, target).expect("it is written");
        let stores = |line: &str| line.contains("vmovups") && line.contains(register) && line.ends_with(')');
        assert!(assembly.lines().any(stores) && assembly.contains(mask), "{assembly}");
        let calls: Vec<&str> =
            assembly.lines().filter(|l| l.trim_start().starts_with("call") && !l.contains("gdl_rt_")).collect();
        assert!(calls.is_empty(), "{calls:?}");
    }
}

/// A library in a folder of its own.
pub(crate) fn build(program: &Program, interface: &Interface, code: Code, test: &str) -> PathBuf {
    saved(&gdlc::package::build(program, interface, code.backend, code.target).expect("it builds"), test)
}

/// A library's files in a folder of their own.
pub(crate) fn saved(library: &gdlc::package::Library, test: &str) -> PathBuf {
    // A file that is loaded must not be written again.
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{test}-{count}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let path = folder.join(format!("lib{}.so", library.name));
    std::fs::write(&path, &library.so_bytes).expect("the library is written");
    std::fs::write(folder.join(format!("{}.h", library.name)), &library.header).expect("the header is written");
    path
}

/// What a library computes.
pub(crate) fn computed(
    program: &Program,
    path: &Path,
    sizes: &[usize],
    inputs: &[Tensor],
    weights: &[Tensor],
) -> Vec<Tensor> {
    let size = |name: &str| program.sizes.iter().find(|(_, info)| info.name == name).map(|(v, _)| sizes[v.0 as usize]);
    with_little_stack(|| {
        let loaded = Loaded::open(path, &program.name).expect("it loads");
        let inputs: Vec<Option<&Tensor>> = inputs.iter().map(Some).collect();
        let mut instance = loaded.bind_sizes(&inputs, size).expect("it binds");
        instance.prepare(&weights.iter().collect::<Vec<_>>()).expect("it prepares");
        instance.call(&inputs).expect("it runs")
    })
}

/// Works in a thread that has as much stack as the README says a call needs.
fn with_little_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(512 << 10).spawn_scoped(scope, work);
        let done = thread.expect("a thread starts").join();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What a library for some target computes, which this machine runs or emulates.
pub(crate) fn computed_by(
    code: Code,
    program: &Program,
    path: &Path,
    sizes: &[usize],
    inputs: &[Tensor],
    weights: &[Tensor],
) -> Vec<Tensor> {
    match code.target {
        Target::X86_64(_) => computed(program, path, sizes, inputs, weights),
        Target::Aarch64 => emulated::computed(program, path, sizes, inputs, weights),
    }
}

/// The interface that a program's arguments describe.
pub(crate) fn interface_of(program: &Program) -> Interface {
    let tensors = |arguments: &[Argument]| -> Vec<Declared> {
        let one = |a: &Argument| Declared {
            name: a.name.clone(),
            dims: program.buffers[a.buffer].shape.clone(),
            element: match a.kind {
                ArgumentKind::Real => Element::Real,
                ArgumentKind::Table { range, sorted } => Element::Index { range, sorted, table: true },
                ArgumentKind::Index { range } => Element::Index { range, sorted: false, table: false },
            },
            about: String::new(),
        };
        arguments.iter().map(one).collect()
    };
    Interface {
        name: program.name.clone(),
        dtype: program.dtype,
        sizes: program.sizes.clone(),
        inputs: tensors(&program.inputs),
        weights: tensors(&program.weights),
        outputs: tensors(&program.outputs),
        facts: vec![],
    }
}

/// `sin((k + 1)(s + 0.731))`
pub(crate) fn numbers(shape: Vec<usize>, s: usize) -> Tensor {
    let n: usize = shape.iter().product();
    Tensor::real(shape, (0..n).map(|k| ((k + 1) as f64 * (s as f64 + 0.731)).sin()).collect())
}

fn fixed(n: usize) -> Size {
    Size::fixed(n)
}

pub(crate) fn at(buffer: Id<Buffer>, index: &[Id<Expr>]) -> Access {
    Access { buffer, index: index.to_vec() }
}

/// `y[i, c] = max(x[i, c], 0)`
pub(crate) fn relu(dtype: Dtype, n: usize, channels: usize) -> Case {
    let mut case = Case::new("relu", dtype, &[("n", n)]);
    let shape = [case.size(0), fixed(channels)];
    let (x, y) = (case.input("x", &shape), case.output("y", &shape));
    let mut b = Builder::default();
    let (i, c) = (b.var(), b.var());
    let (ie, ce, zero, end) = (b.read(i), b.read(c), b.int(0), b.size(shape[0]));
    let last = b.int(channels as i64);
    let (load, none) = (b.load(x, vec![ie, ce]), b.float(0.0));
    let value = b.binary(Binary::Max, load, none);
    let store = Stmt::Store { to: at(y, &[ie, ce]), value };
    let inner = Stmt::For { var: c, begin: zero, end: last, kind: LoopKind::Vector, body: vec![store] };
    let outer = Stmt::For { var: i, begin: zero, end, kind: LoopKind::Parallel, body: vec![inner] };
    case.kernel(Stage::Call, b, vec![outer]);
    case
}

#[test]
fn elementwise_in_all_lengths() {
    for dtype in [Dtype::F32, Dtype::F64] {
        for channels in [1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 64] {
            relu(dtype, 9, channels).conforms(&format!("relu-{dtype}-{channels}"), 0.0);
        }
    }
    relu(Dtype::F32, 20_000, 64).conforms("relu-large", 0.0);
}

/// `y[i, n] = bias[n] + Σ_t Σ_k x[i + t - 1, k] w[t, k, n]`, zero outside: packed by a `prepare` kernel.
pub(crate) fn convolution(dtype: Dtype, rows: usize, k: usize, n: usize) -> Case {
    let panel = PANEL_BYTES / dtype.bytes();
    let mut case = Case::new("convolution", dtype, &[("rows", rows)]);
    let (len, taps, panels) = (case.size(0), 3, n.div_ceil(panel));
    let x = case.input("x", &[len, fixed(k)]);
    let w = case.weight("w", &[fixed(taps), fixed(k), fixed(n)]);
    let bias = case.weight("bias", &[fixed(n)]);
    let y = case.output("y", &[len, fixed(n)]);
    let packed = case.buffer("packed", &[fixed(panels), fixed(taps), fixed(k), fixed(panel)], Memory::Prepared);

    let mut b = Builder::default();
    let vars = [b.var(), b.var(), b.var(), b.var()];
    let [p, t, q, j] = vars.map(|v| b.read(v));
    let (width, extent) = (b.int(panel as i64), b.int(n as i64));
    let first = b.mul(p, width);
    let column = b.add(first, j);
    let inside = b.compare(Comparison::Lt, column, extent);
    let (loaded, zero) = (b.load(w, vec![t, q, column]), b.float(0.0));
    let value = b.select(Some(inside), loaded, zero);
    let mut body = vec![Stmt::Store { to: at(packed, &[p, t, q, j]), value }];
    let kinds = [LoopKind::Parallel, LoopKind::Serial, LoopKind::Serial, LoopKind::Vector];
    for ((var, extent), kind) in vars.into_iter().zip([panels, taps, k, panel]).zip(kinds).rev() {
        let (begin, end) = (b.int(0), b.int(extent as i64));
        body = vec![Stmt::For { var, begin, end, kind, body }];
    }
    case.kernel(Stage::Prepare, b, body);

    let mut b = Builder::default();
    let [m, nv, tap, kv, acc, i] = [(); 6].map(|()| b.var());
    let [me, ne, te, ke, ae, ie] = [m, nv, tap, kv, acc, i].map(|v| b.read(v));
    let (m_extent, zero, one) = (b.size(len), b.int(0), b.int(1));
    let shifted = b.sub(te, one);
    let row = b.add(ie, shifted);
    let (low, high) = (b.compare(Comparison::Le, zero, row), b.compare(Comparison::Lt, row, m_extent));
    let guard = b.and(Some(low), Some(high));
    let bias_value = b.load(bias, vec![ne]);
    let value = b.add(ae, bias_value);
    let contraction = Contraction {
        m,
        m_extent,
        row: vec![(i, me)],
        n: nv,
        n_extent: n,
        tap,
        taps,
        k: kv,
        k_extent: k,
        a: at(x, &[row, ke]),
        a_stride: 1,
        guard,
        beside: 1,
        part: None,
        packed,
        panel,
        acc,
        epilogue: vec![Stmt::Store { to: at(y, &[ie, ne]), value }],
    };
    case.kernel(Stage::Call, b, vec![Stmt::Contract(Box::new(contraction))]);
    case
}

#[test]
fn contractions_of_all_tiles() {
    for (dtype, unit, tolerance) in [(Dtype::F32, 16, 1e-5), (Dtype::F64, 8, 1e-13)] {
        for panels in 1..=8 {
            for n in [1, 7, unit * panels, unit * panels + 3] {
                let case = convolution(dtype, 37, 5, n);
                case.conforms(&format!("convolution-{dtype}-{panels}-{n}"), tolerance);
            }
        }
    }
    convolution(Dtype::F32, 1, 3, 16).conforms("convolution-one-row", 1e-5);
    convolution(Dtype::F32, 500, 64, 128).conforms("convolution-large", 1e-5);
    // Longer than the runtime's row of zeros.
    convolution(Dtype::F32, 5, 20_000, 4).conforms("convolution-deep", 1e-4);
    convolution(Dtype::F32, 0, 3, 16).conforms("convolution-empty", 1e-5);
}

/// `y[m, n] = Σ_t x[t + m / beside - 1, m mod beside] w[t, n]`, zero outside: the rows of each place of a window lie beside each other.
pub(crate) fn outer(dtype: Dtype, places: usize, beside: usize, n: usize) -> Case {
    let panel = PANEL_BYTES / dtype.bytes();
    let (window, panels) = (3, n.div_ceil(panel));
    let mut case = Case::new("outer", dtype, &[("len", places)]);
    let len = case.size(0);
    let x = case.input("x", &[len, fixed(beside)]);
    let packed = case.weight("packed", &[fixed(panels), fixed(places), fixed(1), fixed(panel)]);
    let y = case.output("y", &[fixed(window * beside), fixed(n)]);
    let mut b = Builder::default();
    let [m, nv, tap, k, acc, i] = [(); 6].map(|()| b.var());
    let [me, ne, te, ae, ie] = [m, nv, tap, acc, i].map(|v| b.read(v));
    let (m_extent, run, zero, one) = (b.int((window * beside) as i64), b.int(beside as i64), b.int(0), b.int(1));
    let (end, of_window, lane) = (b.size(len), b.binary(Binary::Div, me, run), b.binary(Binary::Mod, me, run));
    let shifted = b.add(te, ie);
    let place = b.sub(shifted, one);
    let (low, high) = (b.compare(Comparison::Le, zero, place), b.compare(Comparison::Lt, place, end));
    let contraction = Contraction {
        m,
        m_extent,
        row: vec![(i, of_window)],
        n: nv,
        n_extent: n,
        tap,
        taps: places,
        k,
        k_extent: 1,
        a: at(x, &[place, lane]),
        a_stride: 1,
        guard: b.and(Some(low), Some(high)),
        beside,
        part: None,
        packed,
        panel,
        acc,
        epilogue: vec![Stmt::Store { to: at(y, &[me, ne]), value: ae }],
    };
    case.kernel(Stage::Call, b, vec![Stmt::Contract(Box::new(contraction))]);
    case
}

#[test]
fn rows_beside_each_other_of_all_tiles() {
    for (dtype, unit, tolerance) in [(Dtype::F32, 16, 1e-5), (Dtype::F64, 8, 1e-13)] {
        for beside in (2..=14).chain([24, 35]) {
            outer(dtype, 7, beside, unit + 3).conforms(&format!("outer-{dtype}-{beside}"), tolerance);
        }
        for n in [1, unit * 2, unit * 3 + 1, unit * 5] {
            outer(dtype, 33, 9, n).conforms(&format!("outer-{dtype}-columns-{n}"), tolerance);
        }
        outer(dtype, 1024, 6, unit).conforms(&format!("outer-{dtype}-long"), tolerance);
    }
}

/// `y[i, c] = Σ_{e: receiver i} x[sender e, c] · v[e]`, rows found by a table of offsets.
pub(crate) fn edges(channels: usize, offsets: Vec<i64>, senders: Vec<i64>) -> Case {
    let (nodes, n_edges) = (offsets.len() - 1, senders.len());
    let mut case = Case::new("edges", Dtype::F32, &[("nodes", nodes), ("edges", n_edges)]);
    let (n, e) = (case.size(0), case.size(1));
    let begins = case.table("offsets", &[n.plus(1)], e.plus(1), true, offsets);
    let from = case.table("senders", &[e], n, false, senders);
    let x = case.input("x", &[n, fixed(channels)]);
    let v = case.input("v", &[e]);
    let y = case.output("y", &[n, fixed(channels)]);
    let sum = case.buffer("sum", &[], Memory::Local);
    let mut b = Builder::default();
    let [i, c, edge] = [(); 3].map(|()| b.var());
    let [ie, ce, ee] = [i, c, edge].map(|var| b.read(var));
    let (zero, one, none, end) = (b.int(0), b.int(1), b.float(0.0), b.size(n));
    let next = b.add(ie, one);
    let (begin, finish) = (b.load(begins, vec![ie]), b.load(begins, vec![next]));
    let node = b.load(from, vec![ee]);
    let (value, factor, held) = (b.load(x, vec![node, ce]), b.load(v, vec![ee]), b.load(sum, vec![]));
    let fused = b.fma(value, factor, held);
    let inner = Stmt::For {
        var: edge,
        begin,
        end: finish,
        kind: LoopKind::Serial,
        body: vec![Stmt::Store { to: at(sum, &[]), value: fused }],
    };
    let last = b.int(channels as i64);
    let lanes = Stmt::For {
        var: c,
        begin: zero,
        end: last,
        kind: LoopKind::Vector,
        body: vec![
            Stmt::Alloc { buffer: sum },
            Stmt::Store { to: at(sum, &[]), value: none },
            inner,
            Stmt::Store { to: at(y, &[ie, ce]), value: held },
        ],
    };
    let body = vec![Stmt::For { var: i, begin: zero, end, kind: LoopKind::Parallel, body: vec![lanes] }];
    case.kernel(Stage::Call, b, body);
    case
}

#[test]
fn rows_of_edges() {
    for channels in [1, 4, 6, 16, 21] {
        let case = edges(channels, vec![0, 2, 2, 5, 6], vec![1, 3, 0, 2, 3, 1]);
        case.conforms(&format!("edges-{channels}"), 1e-6);
    }
    edges(4, vec![0, 0, 0], vec![]).computed("edges-none");
    assert!(edges(4, vec![0], vec![]).computed("edges-empty")[0].reals().is_empty());
}

/// A kernel `y[i] = f(x[i], i)` over `n` numbers in lanes.
fn pointwise(name: &str, dtype: Dtype, n: usize, f: impl Fn(&mut Builder, Id<Buffer>, Id<Expr>) -> Id<Expr>) -> Case {
    let mut case = Case::new(name, dtype, &[("n", n)]);
    let len = case.size(0);
    let (x, y) = (case.input("x", &[len]), case.output("y", &[len]));
    let mut b = Builder::default();
    let i = b.var();
    let (ie, zero, end) = (b.read(i), b.int(0), b.size(len));
    let value = f(&mut b, x, ie);
    let store = Stmt::Store { to: at(y, &[ie]), value };
    case.kernel(
        Stage::Call,
        b,
        vec![Stmt::For { var: i, begin: zero, end, kind: LoopKind::Vector, body: vec![store] }],
    );
    case
}

#[test]
fn every_scalar_operation() {
    let unaries = [
        Unary::Neg,
        Unary::Abs,
        Unary::Round,
        Unary::Floor,
        Unary::Exp2Int,
        Unary::Exponent,
        Unary::Mantissa,
        Unary::Sqrt,
    ];
    for dtype in [Dtype::F32, Dtype::F64] {
        for f in unaries {
            let case = pointwise("unary", dtype, 27, |b, x, i| {
                let (x, forty) = (b.load(x, vec![i]), b.float(40.0));
                let x = b.mul(x, forty);
                let x = match f {
                    Unary::Exp2Int => b.unary(Unary::Round, x),
                    Unary::Exponent | Unary::Mantissa | Unary::Sqrt => b.unary(Unary::Abs, x),
                    _ => x,
                };
                b.unary(f, x)
            });
            case.conforms(&format!("{f:?}-{dtype}"), 0.0);
        }
        for f in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min] {
            let case = pointwise("binary", dtype, 27, |b, x, i| {
                let (x, number) = (b.load(x, vec![i]), b.expr(Expr::ToFloat { x: i }));
                let half = b.float(0.5);
                let number = b.add(number, half);
                b.binary(f, x, number)
            });
            case.conforms(&format!("{f:?}-{dtype}"), 0.0);
        }
    }
}

#[test]
fn indices_in_lanes() {
    for f in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Mod, Binary::Max, Binary::Min] {
        for k in [2, 3, 8] {
            let case = pointwise("indices", Dtype::F64, 27, |b, _, i| {
                let (ten, k) = (b.int(10), b.int(k));
                let i = b.sub(i, ten);
                let v = b.binary(f, i, k);
                b.expr(Expr::ToFloat { x: v })
            });
            case.conforms(&format!("index-{f:?}-{k}"), 0.0);
        }
    }
}

#[test]
fn loads_outside_are_not_made() {
    // `y[i] = x[i - 3] where 0 <= i - 3 and x[i - 3] < 0.5, else -1`: far outside at the start.
    for dtype in [Dtype::F32, Dtype::F64] {
        let case = pointwise("window", dtype, 29, |b, x, i| {
            let (far, three, zero, half) = (b.int(1 << 40), b.int(3), b.int(0), b.float(0.5));
            let before = b.sub(i, three);
            let inside = b.compare(Comparison::Le, zero, before);
            let scaled = b.mul(before, far);
            let wild = b.select(Some(inside), before, scaled);
            let (value, other) = (b.load(x, vec![wild]), b.float(-1.0));
            let small = b.compare(Comparison::Lt, value, half);
            let inner = b.select(Some(small), value, other);
            b.select(Some(inside), inner, other)
        });
        case.conforms(&format!("window-{dtype}"), 0.0);
    }
}

#[test]
fn programs_and_examples() {
    for (name, graph) in crate::rewrite_programs::programs() {
        let (graph, _) = rewrite::optimise(&graph, &rewrite::Options::default());
        let args = instance::arguments(&graph, instance::small_sizes(&graph, 3), Filling::Generic, &mut Rng::new(3));
        let meaning = eval(&graph, &args).expect("it evaluates");
        crate::kernel::agrees(&graph, &args, &meaning);
        for (dtype, tolerance) in [(Dtype::F64, 1e-10), (Dtype::F32, 1e-4)] {
            let program = lower(&graph, "model", dtype);
            let mut found = BTreeMap::new();
            for code in codes() {
                println!("{name} in {dtype}, {code:?}");
                let outputs = through_library(&program, code, &args);
                compare(&outputs, &meaning, tolerance, &program);
                // Sums do not depend on the width of vectors: with fused multiply-add there is one result.
                if matches!(code.target, Target::ANY_X86_64 | Target::Aarch64) {
                    let same = found.entry(code.backend.name()).or_insert_with(|| outputs.clone());
                    assert_eq!(*same, outputs, "{name} in {dtype}: {code:?} has other bits");
                }
            }
        }
    }
}

#[test]
fn lanes_meet_in_one_element() {
    // `y[0] += x[i]; y[i / 4 mod 2 + 1] max= x[i]`
    let mut case = Case::new("meet", Dtype::F32, &[("n", 23)]);
    let len = case.size(0);
    let (x, y) = (case.input("x", &[len]), case.output("y", &[fixed(3)]));
    let mut b = Builder::default();
    let (i, j) = (b.var(), b.var());
    let (ie, je, zero, end) = (b.read(i), b.read(j), b.int(0), b.size(len));
    let (one, two, three, four, low) = (b.int(1), b.int(2), b.int(3), b.int(4), b.float(-2.0));
    let value = b.load(x, vec![ie]);
    let quarter = b.binary(Binary::Div, ie, four);
    let half = b.binary(Binary::Mod, quarter, two);
    let place = b.add(half, one);
    let body = vec![
        Stmt::Accumulate { to: at(y, &[zero]), f: Combine::Add, value },
        Stmt::Accumulate { to: at(y, &[place]), f: Combine::Max, value },
    ];
    let clear = vec![Stmt::Store { to: at(y, &[je]), value: low }];
    let stmts = vec![
        Stmt::For { var: j, begin: zero, end: three, kind: LoopKind::Unrolled, body: clear },
        Stmt::For { var: i, begin: zero, end, kind: LoopKind::Vector, body },
    ];
    case.kernel(Stage::Call, b, stmts);
    case.conforms("meet", 1e-6);
}
