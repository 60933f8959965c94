//! `gdlc emit STAGE`: what a stage made, as text.

use crate::codegen::cranelift::{self, Text};
use crate::codegen::device::{self, Architecture};
use crate::codegen::{Unsupported, llvm};
use crate::driver::arguments::{self, BackendName, Emit, Products, Stage};
use crate::driver::code::{self, Code};
use crate::driver::compiled::{Mode, Passes};
use crate::driver::failure::Failure;
use crate::driver::output::say;
use crate::driver::session::Session;
use crate::tensor;
use crate::tensor::graph::Graph;

/// Prints the stage for every model.
pub fn emit(options: &Emit) -> Result<(), Failure> {
    let mut session = Session::open(&options.source)?;
    session.code = made(options)?;
    if options.stage == Stage::Ast {
        show(options, None, &format!("{:#?}", session.parse()?));
        return Ok(());
    }
    let device = match options.stage {
        Stage::Ptx => Some(code::device(options.arch.as_slice(), options.on_gpu.products, session.dtype())?),
        _ if options.arch.is_some() => return Err(Failure::call("--arch names a GPU: only `emit ptx` is for one")),
        _ if options.on_gpu.products != Products::Plain => {
            return Err(Failure::call("--products is for GPUs: only `emit ptx` is for one"));
        }
        _ => None,
    };
    session.device = device;
    let program = session.check()?;
    if options.grad > 0 && options.stage == Stage::Blueprint {
        return Err(Failure::call("--grad: derivatives have no blueprint, as they are not derived from a symmetry"));
    }
    for model in session.models_and_layers(&program)? {
        let derived = session.derive(&program, model)?;
        if options.stage == Stage::Blueprint {
            show(options, Some(&model.name), &derived.blueprint.to_string());
            continue;
        }
        let name = session.library_name(&program, model);
        show(options, Some(&model.name), &text(&session, &derived.graph, &name, options.stage)?);
        let passes = if options.grad > 0 { Passes::graphs(&derived.graph) } else { None };
        let passes =
            passes.into_iter().flat_map(|graphs| graphs.into_iter().zip(Passes::names(&name))).collect::<Vec<_>>();
        let mut last = vec![(derived.graph, name)];
        for _ in 0..options.grad {
            let both = |(graph, name): &(Graph, String)| Mode::BOTH.map(|mode| mode.of(graph, name));
            last = last.iter().flat_map(both).collect();
            for (graph, name) in &last {
                show(options, Some(name), &text(&session, graph, name, options.stage)?);
            }
        }
        for (graph, name) in passes {
            // they are rewritten already
            show(options, Some(&name), &text_of_rewritten(&session, &graph, &name, options.stage)?);
        }
    }
    Ok(())
}

/// How the stage is made: the languages of the backends do not depend on `--backend`, nor LLVM's on LLVM.
fn made(options: &Emit) -> Result<Code, Failure> {
    match options.stage {
        Stage::Llvm => Ok(Code { target: code::target(&options.code.cpu, |_| None)?, ..Code::default() }),
        Stage::Clif => Code::new(&arguments::Code { backend: BackendName::Cranelift, ..options.code.clone() }),
        Stage::Ast | Stage::Blueprint | Stage::Tensor | Stage::Rewritten | Stage::Kernel | Stage::Asm | Stage::Ptx => {
            Code::new(&options.code)
        }
    }
}

/// A stage after derivation of the program `graph`, whose library is called `name`.
fn text(session: &Session, graph: &Graph, name: &str, stage: Stage) -> Result<String, Failure> {
    if stage == Stage::Tensor {
        return Ok(tensor::print::print(graph));
    }
    text_of_rewritten(session, &session.optimise(graph)?.0, name, stage)
}

/// A stage after rewriting.
fn text_of_rewritten(session: &Session, graph: &Graph, name: &str, stage: Stage) -> Result<String, Failure> {
    let kernels = || session.lower(graph, name, session.dtype());
    let Code { backend, target } = session.code;
    let unsupported = |e: Unsupported| Failure::program(format!("{name}: {e}"));
    match stage {
        Stage::Tensor | Stage::Rewritten => Ok(tensor::print::print(graph)),
        Stage::Kernel => Ok(kernels()?.to_string()),
        Stage::Clif => cranelift::text(&kernels()?, target, Text::Clif).map_err(unsupported),
        Stage::Asm => backend.assembly(&kernels()?, target).map_err(unsupported),
        Stage::Llvm => Ok(llvm::module(&kernels()?, target).map_err(unsupported)?.text),
        Stage::Ptx => {
            let target = session.device.as_ref();
            let architecture = target.and_then(|d| d.architectures.first()).copied().unwrap_or(Architecture::LEAST);
            let code = device::emit(&kernels()?, architecture, target.and_then(|d| d.products));
            Ok(code.map_err(unsupported)?.ptx)
        }
        Stage::Ast | Stage::Blueprint => Err(Failure::bug(format!("emit {stage:?} is made of no algebra"))),
    }
}

fn show(options: &Emit, model: Option<&str>, text: &str) {
    if options.source.json {
        let stage = format!("{:?}", options.stage).to_lowercase();
        say!("{}", serde_json::json!({ "model": model, "stage": stage, "text": text }));
    } else {
        say!("{text}");
    }
}
