//! The PTX of programs and of their derivatives computes what the graphs mean, on the simulated GPU.

use std::collections::BTreeMap;

use gdlc::base::dtype::Dtype;
use gdlc::derive::instance::{self, Filling};
use gdlc::driver::compiled::Passes;
use gdlc::kernel::ir::Program;
use gdlc::kernel::lower::{Hardware, lower_for};
use gdlc::math::Rng;
use gdlc::tensor::eval::eval;
use gdlc::tensor::graph::Graph;
use gdlc::tensor::pass::derivatives::{jvp, vjp};

use crate::gpu::{graphs_of, lowered_to};
use crate::kernel::{compare, tensors};

/// Compares the PTX of a graph's kernels with its meaning on small sizes.
fn agrees(name: &str, graph: &Graph, program: &Program) {
    let args = instance::arguments(graph, instance::small_sizes(graph, 3), Filling::Generic, &mut Rng::new(3));
    let meaning = eval(graph, &args).expect("it evaluates");
    let (inputs, weights) = tensors(program, &args);
    println!("{name} in {}", program.dtype);
    let found = super::computed(program, &args.sizes, [inputs, weights], None, "programs-on-a-gpu");
    let named = program.outputs.iter().zip(found).map(|(o, t)| (o.name.clone(), t.reals()));
    let tolerance = if program.dtype == Dtype::F64 { 1e-10 } else { 1e-4 };
    compare(&named.collect::<BTreeMap<_, _>>(), &meaning, tolerance, program);
}

#[test]
fn programs_mean_what_they_say() {
    // one type each, in turns: `conformance` runs the kernels of both
    let types = [Dtype::F32, Dtype::F64].into_iter().cycle();
    for ((name, graph), dtype) in crate::rewrite_programs::programs().into_iter().zip(types) {
        agrees(&name, &graph, &lowered_to(&graph, dtype));
    }
}

/// Programs whose derivatives are run, and the type of their numbers. The kernels of `conv` and `p4m` are among those of `lenet` and `digits`; the
/// derivatives of forces are run through PyTorch (`tests/python_cuda.py`).
const DERIVED: [(&str, Dtype); 13] = [
    ("benches/programs/attention", Dtype::F32),
    ("benches/programs/deepsets", Dtype::F64),
    ("benches/programs/gat", Dtype::F64),
    ("benches/programs/gat_heads", Dtype::F64),
    ("benches/programs/gcn", Dtype::F64),
    ("benches/programs/harmonics", Dtype::F64),
    ("benches/programs/irreps", Dtype::F64),
    ("benches/programs/mpnn", Dtype::F64),
    ("benches/programs/sgemm", Dtype::F64),
    ("benches/programs/tensor_product", Dtype::F32),
    ("examples/digits", Dtype::F64),
    ("examples/lenet", Dtype::F64),
    ("examples/mpnn", Dtype::F64),
];

#[test]
fn derivatives_mean_what_they_say() {
    for (path, dtype) in DERIVED {
        for graph in graphs_of(&format!("{path}.gdl")) {
            for (mode, derivative) in [("vjp", vjp(&graph)), ("jvp", jvp(&graph))] {
                agrees(&format!("{path}.{mode}"), &derivative, &lowered_to(&derivative, dtype));
            }
            // these are rewritten already
            for (mode, pass) in ["keep", "pullback"].into_iter().zip(Passes::graphs(&graph).into_iter().flatten()) {
                let program = lower_for(&pass, "model", dtype, Hardware::Gpu);
                agrees(&format!("{path}.{mode}"), &pass, &program);
            }
        }
    }
}
