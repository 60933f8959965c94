//! Backends against the interpreter: the same program, the same numbers, through a library on disk.

use std::path::PathBuf;

use gdlc::base::arena::Id;
use gdlc::base::dtype::Dtype;
use gdlc::base::size::{Size, SizeTable, SizeVar};
use gdlc::codegen::abi::{Element, Interface, Tensor as Declared};
use gdlc::codegen::{BACKENDS, Target};
use gdlc::driver::load::Loaded;
use gdlc::driver::tensors::{Numbers, Tensor};
use gdlc::kernel::build::Builder;
use gdlc::kernel::interpret::{Machine, Order};
use gdlc::kernel::ir::{
    Access, Argument, ArgumentKind, Binary, Buffer, Combine, Comparison, Contraction, Expr, LoopKind, Memory, Program,
    Stage, Stmt, Unary,
};

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
    pub(crate) fn table(&mut self, name: &str, shape: &[Size], range: Size, sorted: bool, values: Vec<i64>) -> Id<Buffer> {
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

    /// The library on disk.
    pub(crate) fn build(&self, test: &str) -> PathBuf {
        let library = gdlc::package::build(&self.program, &self.interface, BACKENDS[0], Target::X86_64).expect("it builds");
        let folder = std::env::temp_dir().join(format!("gdlc-test-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        let path = folder.join(format!("lib{}.so", library.name));
        std::fs::write(&path, &library.so_bytes).expect("the library is written");
        std::fs::write(folder.join(format!("{}.h", library.name)), &library.header).expect("the header is written");
        path
    }

    /// What the interpreter computes.
    fn interpreted(&self) -> Vec<Vec<f64>> {
        let mut machine = Machine::new(&self.program, &self.sizes, Order::Forward);
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

    /// What the library computes.
    pub(crate) fn computed(&self, test: &str) -> Vec<Tensor> {
        let path = self.build(test);
        let loaded = Loaded::open(&path, &self.program.name).expect("it loads");
        let inputs: Vec<Option<&Tensor>> = self.inputs.iter().map(Some).collect();
        let mut instance = loaded.bind(&inputs).expect("it binds");
        instance.prepare(&self.weights.iter().collect::<Vec<_>>()).expect("it prepares");
        instance.call(&inputs).expect("it runs")
    }

    /// The library computes what the interpreter computes.
    pub(crate) fn conforms(&self, test: &str, tolerance: f64) {
        let wanted = self.interpreted();
        for (got, wanted) in self.computed(test).iter().zip(&wanted) {
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
