//! The kernel IR: what is lowered means what the tensor program meant. `interpret(lower(g)) = eval(g)` in f64 to 1e-12,
//! with parallel loops run both ways, for every operation and for the shapes that models are made of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gdlc::base::dtype::Dtype;
use gdlc::base::size::{Size, SizeTable};
use gdlc::driver::code::Code;
use gdlc::driver::tensors::{Numbers, Tensor};
use gdlc::kernel::interpret::{Machine, Order};
use gdlc::kernel::ir::{Argument, ArgumentKind, Memory, Program, Stage};
use gdlc::kernel::lower::{Hardware, lower, lower_for};
use gdlc::kernel::pass::buffers::workspace_slots;
use gdlc::kernel::verify::verify;
use gdlc::kernel::walk::writes;
use gdlc::tensor::eval::{Arguments, Array, eval};
use gdlc::tensor::graph::{
    Affine, Axis, Constant, Function, Graph, Init, Input, InputKind, Outside, Relation, Val, Weight,
};
use gdlc::tensor::op::{Func, Real, Reduction};

use crate::conformance::{backends, build, computed_by, interface_of};
use crate::gpu::{self, operations, spread_out};

mod address;
mod attention_tiles;
mod cases;
mod cut;
mod dense;
mod edges;
mod entries;
mod outer_rows;
mod outer_tiles;
mod paired;
mod pairs;
mod places;
mod random;
mod scalar;
mod shared;
mod softmax;
mod softmax_step;
mod strips;
mod totals;
mod work;

/// A graph with values for its run-time sizes.
pub(crate) struct Case {
    pub(crate) g: Graph,
    pub(crate) sizes: Vec<usize>,
}

impl Case {
    pub(crate) fn new() -> Case {
        Case { g: Graph::default(), sizes: vec![] }
    }

    /// A run-time size with its value.
    pub(crate) fn size(&mut self, name: &str, value: usize) -> Size {
        let var = self.g.sizes.intern(name, 1000);
        self.sizes.push(value);
        Size::var(var)
    }

    pub(crate) fn input(&mut self, name: &str, dims: &[Size]) -> Val {
        self.g.input(Input { name: name.into(), dims: dims.to_vec(), kind: InputKind::Real })
    }

    pub(crate) fn table(&mut self, name: &str, from: &[Size], to: Size, sorted: bool) -> Val {
        let kind = InputKind::Table { range: to, sorted };
        self.g.input(Input { name: name.into(), dims: from.to_vec(), kind });
        let input = self.g.inputs.ids().last().expect("just declared");
        self.relation(from, to, Function::Table(input))
    }

    pub(crate) fn weight(&mut self, name: &str, dims: &[usize]) -> Val {
        self.g.weight(Weight { name: name.into(), dims: dims.to_vec(), init: Init::Normal(1.0) })
    }

    pub(crate) fn constant(&mut self, dims: &[usize], data: Vec<f64>) -> Val {
        self.g.constant(Constant { name: "k".into(), dims: dims.to_vec(), data: data.into() })
    }

    pub(crate) fn relation(&mut self, from: &[Size], to: Size, map: Function) -> Val {
        self.g.relation(Relation { from: from.to_vec(), to, map })
    }

    pub(crate) fn affine(&mut self, from: &[Size], to: Size, scale: &[i64], constant: i64, outside: Outside) -> Val {
        let offset = Affine { constant, size: None };
        let map = Function::Affine { scale: scale.to_vec(), offset, divisor: 1, outside };
        self.relation(from, to, map)
    }

    pub(crate) fn out(&mut self, value: &Val) {
        let name = format!("y{}", self.g.outputs.len());
        self.g.output(name, value, &value.axes);
    }

    fn dims(&self, dims: &[Size]) -> Vec<usize> {
        dims.iter().map(|d| d.eval(|v| self.sizes[v.0 as usize])).collect()
    }

    /// Arguments without pattern: sines for numbers, a linear congruence for indices.
    pub(crate) fn arguments(&self) -> Arguments {
        let mut args = Arguments { sizes: self.sizes.clone(), ..Arguments::default() };
        for (k, (_, input)) in self.g.inputs.iter().enumerate() {
            let dims = self.dims(&input.dims);
            let n: usize = dims.iter().product();
            let data: Vec<f64> = match input.kind {
                InputKind::Real => fill(n, k as f64),
                InputKind::Table { range, sorted } => indices(n, self.dims(&[range])[0], k, sorted),
                InputKind::Index { range } => indices(n, self.dims(&[range])[0], k, false),
            };
            args.inputs.insert(input.name.clone(), Array { dims, data });
        }
        for (k, (_, weight)) in self.g.weights.iter().enumerate() {
            let n = weight.dims.iter().product();
            let array = Array { dims: weight.dims.clone(), data: fill(n, 100.0 + k as f64) };
            args.weights.insert(weight.name.clone(), array);
        }
        args
    }

    /// Compares the lowered program with the evaluator, in f64 both ways round and in f32; hands back the f64 program.
    pub(crate) fn check(&self) -> Program {
        self.check_for(Hardware::Cpu)
    }

    /// As [`Case::check`], lowered for some hardware.
    pub(crate) fn check_for(&self, hardware: Hardware) -> Program {
        self.check_with(&self.arguments(), hardware)
    }

    /// As [`Case::check_for`], with other arguments.
    pub(crate) fn check_with(&self, args: &Arguments, hardware: Hardware) -> Program {
        let expected = eval(&self.g, args).expect("the graph evaluates");
        let program = lower_for(&self.g, "case", Dtype::F64, hardware);
        for order in [Order::Forward, Order::Backward] {
            compare(&run(&program, args, order), &expected, 1e-12, &program);
        }
        let single = lower_for(&self.g, "case", Dtype::F32, hardware);
        compare(&run(&single, args, Order::Forward), &expected, 1e-4, &single);
        let spread = spread_out(&program);
        if operations(&spread, &self.sizes) < gpu::MOST_OPERATIONS {
            compare(&run(&spread, args, Order::Forward), &expected, 1e-12, &spread);
        }
        compare(&through_library(&spread, Code::default(), args), &expected, 1e-11, &spread);
        for code in backends() {
            compare(&through_library(&program, code, args), &expected, 1e-11, &program);
            compare(&through_library(&single, code, args), &expected, 1e-4, &single);
        }
        program
    }
}

/// The arguments as tensors: inputs and weights in the program's order.
pub(crate) fn tensors(program: &Program, args: &Arguments) -> (Vec<Tensor>, Vec<Tensor>) {
    let tensor = |of: &BTreeMap<String, Array>, a: &Argument| {
        let Array { dims, data } = &of[&a.name];
        match a.kind {
            ArgumentKind::Real => Tensor::real(dims.clone(), data.clone()),
            ArgumentKind::Table { .. } | ArgumentKind::Index { .. } => {
                Tensor { shape: dims.clone(), numbers: Numbers::Index(data.iter().map(|x| *x as i64).collect()) }
            }
        }
    };
    let inputs = program.inputs.iter().map(|a| tensor(&args.inputs, a)).collect();
    (inputs, program.weights.iter().map(|a| tensor(&args.weights, a)).collect())
}

/// Compiled, linked, loaded and called.
pub(crate) fn through_library(program: &Program, code: Code, args: &Arguments) -> BTreeMap<String, Vec<f64>> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let test = format!("lowered-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let (inputs, weights) = tensors(program, args);
    let path = build(program, &interface_of(program), code, &test);
    let outputs = computed_by(code, program, &path, &args.sizes, &inputs, &weights);
    program.outputs.iter().zip(outputs).map(|(o, t)| (o.name.clone(), t.reals())).collect()
}

/// Operations that the interpreter is asked to do in one comparison.
const MOST_OPERATIONS: f64 = 1e7;

/// Compares the lowered program with the evaluator's results on a model of another test, where it is small enough.
pub(crate) fn agrees(graph: &Graph, args: &Arguments, expected: &BTreeMap<String, Array>) {
    let mut actual = graph.clone();
    actual.sizes = graph.sizes.expecting(&args.sizes);
    if gdlc::tensor::cost::total(&actual).flops < MOST_OPERATIONS {
        let program = lower(graph, "model", Dtype::F64);
        compare(&run(&program, args, Order::Backward), expected, 1e-11, &program);
    }
}

fn fill(n: usize, seed: f64) -> Vec<f64> {
    (0..n).map(|k| ((k as f64 + 1.0) * (seed + 0.731)).sin()).collect()
}

fn indices(n: usize, range: usize, seed: usize, sorted: bool) -> Vec<f64> {
    let mut data: Vec<usize> = (0..n).map(|k| (k * 7919 + seed * 31 + k * k * 13) % range).collect();
    if sorted {
        data.sort_unstable();
    }
    data.into_iter().map(|i| i as f64).collect()
}

fn run(program: &Program, args: &Arguments, order: Order) -> BTreeMap<String, Vec<f64>> {
    verify(program).unwrap_or_else(|why| panic!("{why}\n{program}"));
    let mut machine = Machine::new(program, &args.sizes, order);
    for (k, input) in program.inputs.iter().enumerate() {
        machine.set_input(k, &args.inputs[&input.name].data);
    }
    for (k, weight) in program.weights.iter().enumerate() {
        machine.set_weight(k, &args.weights[&weight.name].data);
    }
    for stage in [Stage::Bind, Stage::Prepare] {
        machine.run(stage).unwrap_or_else(|fault| panic!("{}: {}\n{program}", fault.kernel, fault.why));
    }
    // Whoever writes a buffer overwrites those that share its memory.
    let slots = workspace_slots(program);
    for kernel in program.kernels.iter().filter(|k| k.stage == Stage::Call) {
        for written in writes(program, kernel) {
            let shared = slots.iter().filter(|slot| slot.contains(&written)).flatten();
            shared.filter(|b| **b != written).for_each(|b| machine.forget(*b));
        }
        machine.run_kernel(kernel).unwrap_or_else(|fault| panic!("{}: {}\n{program}", fault.kernel, fault.why));
    }
    let output = |k: usize| machine.output(k).unwrap_or_else(|fault| panic!("{}\n{program}", fault.why));
    program.outputs.iter().enumerate().map(|(k, o)| (o.name.clone(), output(k))).collect()
}

pub(crate) fn compare(
    found: &BTreeMap<String, Vec<f64>>,
    expected: &BTreeMap<String, Array>,
    tolerance: f64,
    program: &Program,
) {
    for (name, array) in expected {
        let scale = array.data.iter().fold(1.0f64, |m, x| m.max(x.abs()));
        assert_eq!(found[name].len(), array.data.len(), "{name}");
        for (k, (x, y)) in found[name].iter().zip(&array.data).enumerate() {
            let same = (x - y).abs() <= tolerance * scale || (x.is_nan() && y.is_nan()) || x == y;
            assert!(same, "{name}[{k}] is {x}, not {y}\n{program}");
        }
    }
}
