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

/// Programs of points, whose kept arrays are counted.
const POINTS: [&str; 2] = ["forces.gdl", "nequip.gdl"];

#[test]
fn derivatives_mean_what_they_say() {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/programs")).expect("it is there");
    let mut names: Vec<String> =
        folder.map(|f| f.expect("a file").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for name in names.iter().filter(|name| name.ends_with(".gdl")) {
        for graph in graphs_of(&format!("benches/programs/{name}")) {
            // blocks of f64 want more shared memory than there is
            let dtype = if POINTS.contains(&name.as_str()) { Dtype::F32 } else { Dtype::F64 };
            for (mode, derivative) in [("vjp", vjp(&graph)), ("jvp", jvp(&graph))] {
                agrees(&format!("{name}.{mode}"), &derivative, &lowered_to(&derivative, dtype));
            }
            // these are rewritten already; those of molecules keep arrays with room for more pairs than there are
            let passes = Passes::graphs(&graph).filter(|_| !POINTS.contains(&name.as_str()));
            for (mode, pass) in ["keep", "pullback"].into_iter().zip(passes.into_iter().flatten()) {
                let program = lower_for(&pass, "model", Dtype::F64, Hardware::Gpu);
                agrees(&format!("{name}.{mode}"), &pass, &program);
            }
        }
    }
}
