//! `gdlc derive`: the blueprint of every model, and the kernels it becomes.

use crate::driver::arguments::Derive;
use crate::driver::code;
use crate::driver::failure::Failure;
use crate::driver::output::say;
use crate::driver::session::Session;
use crate::kernel::gpu::{self, Launch};
use crate::kernel::ir::{Kernel, Program, Stage};
use crate::kernel::lower::Hardware;
use crate::kernel::narrow::Narrow;
use crate::kernel::pass::legalize::legalize;
use crate::kernel::work::{Work, work};
use crate::rewrite::search::Choice;

/// Prints a row a derived layer, then what is left of them after rewriting.
pub fn derive(options: &Derive) -> Result<(), Failure> {
    let mut session = Session::open(&options.source)?;
    let products = code::products(options.on_gpu.products, session.dtype())?;
    let program = session.check()?;
    for model in session.models_and_layers(&program)? {
        let algebra = session.algebra(&program, model)?;
        let name = session.library_name(&program, model);
        let lowered = |hardware| session.lower_for(&algebra.graph, &name, session.dtype(), hardware);
        let kernels = lowered(Hardware::Cpu)?;
        let launches = launches(&lowered(Hardware::Gpu)?, products)
            .map_err(|why| Failure::program(format!("{}: {why}", model.name)))?;
        let made = Made::of(kernels);
        let blueprint = &algebra.derived.blueprint;
        if options.source.json {
            let mut report = blueprint.json();
            report["kernels"] = serde_json::json!({ "call": made.call, "bind": made.bind, "prepare": made.prepare });
            report["flops"] = serde_json::json!(made.work.flops);
            report["bytes"] = serde_json::json!(made.work.bytes);
            report["sizes"] = serde_json::json!(made.sizes);
            let launch = |l: &Launched| serde_json::json!({ "kernel": l.name, "blocks": l.blocks, "threads": l.threads, "owns": l.owns });
            report["on_gpu"] = launches.iter().map(launch).collect();
            let choice = |c: &Chosen| serde_json::json!({ "layer": c.of, "theorem": c.theorem, "taken": c.taken, "stated": c.stated });
            report["equal_programs"] = chosen(&algebra.report.choices).iter().map(choice).collect();
            say!("{report}");
        } else {
            say!("{blueprint}");
            for Chosen { of, theorem, taken, stated } in chosen(&algebra.report.choices) {
                say!("  an equal program by `{theorem}` for {of}: taken for {taken} of {stated} values");
            }
            say!("{made}");
            if !launches.is_empty() {
                say!("  on a GPU, blocks of threads, and what a thread owns:");
            }
            for l in &launches {
                say!("    {:<24} {:>8} x {:<4} {}", l.name, l.blocks, l.threads, l.owns);
            }
        }
    }
    Ok(())
}

/// What was made of the equalities that a theorem states of the values of a layer.
struct Chosen<'r> {
    of: &'r str,
    theorem: &'static str,
    taken: usize,
    stated: usize,
}

/// The choices, layer by layer.
fn chosen(choices: &[Choice]) -> Vec<Chosen<'_>> {
    let mut res: Vec<Chosen> = Vec::new();
    for choice in choices {
        let known = res.iter_mut().find(|c| c.of == choice.of && c.theorem == choice.theorem);
        match known {
            Some(known) => {
                known.taken += usize::from(choice.taken);
                known.stated += 1;
            }
            None => res.push(Chosen {
                of: &choice.of,
                theorem: choice.theorem,
                taken: usize::from(choice.taken),
                stated: 1,
            }),
        }
    }
    res
}

/// One launch of a call on a GPU, at the expected sizes.
struct Launched {
    name: String,
    blocks: usize,
    threads: usize,
    owns: &'static str,
}

/// The launches of a call.
fn launches(program: &Program, products: Option<Narrow>) -> Result<Vec<Launched>, String> {
    let spread = gpu::spread(program, products)?;
    let of_call = spread.program.kernels.iter().zip(&spread.launches).filter(|(k, _)| k.stage == Stage::Call);
    let one = |(kernel, launch): (&Kernel, &Launch)| Launched {
        name: kernel.name.clone(),
        blocks: launch.blocks(|size| program.sizes.hint(size)),
        threads: launch.threads,
        owns: launch.owns,
    };
    Ok(of_call.map(one).collect())
}

/// The kernels of a model, with their work at the expected sizes.
struct Made {
    call: usize,
    bind: usize,
    prepare: usize,
    work: Work,
    sizes: Vec<String>,
}

impl Made {
    fn of(mut program: Program) -> Made {
        legalize(&mut program);
        let count = |stage| program.kernels.iter().filter(|k| k.stage == stage).count();
        let hints: Vec<usize> = program.sizes.iter().map(|(_, info)| info.hint).collect();
        let mut total = Work::default();
        for kernel in program.kernels.iter().filter(|k| k.stage == Stage::Call) {
            let one = work(&program, kernel, &hints);
            total.flops += one.flops;
            total.bytes += one.bytes;
        }
        let sizes = program.sizes.iter().map(|(_, info)| format!("{}={}", info.name, info.hint)).collect();
        Made { call: count(Stage::Call), bind: count(Stage::Bind), prepare: count(Stage::Prepare), work: total, sizes }
    }
}

impl std::fmt::Display for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = if self.sizes.is_empty() { String::new() } else { format!(" at {}", self.sizes.join(", ")) };
        write!(
            f,
            "  after rewriting: {} kernels a call ({} at bind, {} at prepare), {:.3} MFLOP and {:.3} MB a call{at}",
            self.call,
            self.bind,
            self.prepare,
            self.work.flops / 1e6,
            self.work.bytes / 1e6
        )
    }
}
