//! The PTX of programs, of their derivatives, and of products on tensor cores computes what the graphs mean, on the simulated GPU.

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
    for (name, graph) in crate::rewrite_programs::programs() {
        for dtype in [Dtype::F32, Dtype::F64] {
            agrees(&name, &graph, &lowered_to(&graph, dtype));
        }
    }
}

/// Programs whose derivatives are run, and the type of their numbers. The kernels of `nequip`, `conv` and `p4m` are among those of `forces`, `lenet`
/// and `digits`; blocks of f64 want more shared memory than there is where many channels meet in `forces`.
const DERIVED: [(&str, Dtype); 14] = [
    ("benches/programs/attention", Dtype::F64),
    ("benches/programs/deepsets", Dtype::F64),
    ("benches/programs/gat", Dtype::F64),
    ("benches/programs/gat_heads", Dtype::F64),
    ("benches/programs/gcn", Dtype::F64),
    ("benches/programs/harmonics", Dtype::F64),
    ("benches/programs/irreps", Dtype::F64),
    ("benches/programs/mpnn", Dtype::F64),
    ("benches/programs/sgemm", Dtype::F64),
    ("benches/programs/tensor_product", Dtype::F64),
    ("benches/programs/forces", Dtype::F32),
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
            // these are rewritten already; those of molecules keep arrays with room for more pairs than there are
            let passes = Passes::graphs(&graph).filter(|_| !path.ends_with("forces"));
            for (mode, pass) in ["keep", "pullback"].into_iter().zip(passes.into_iter().flatten()) {
                let program = lower_for(&pass, "model", dtype, Hardware::Gpu);
                agrees(&format!("{path}.{mode}"), &pass, &program);
            }
        }
    }
}
