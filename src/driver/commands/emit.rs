//! `gdlc emit STAGE`: what a stage made, as text.

use crate::codegen::cranelift::{self, Text};
use crate::codegen::{Unsupported, llvm};
use crate::derive::Derived;
use crate::driver::arguments::{Emit, Stage};
use crate::driver::code::Code;
use crate::driver::failure::Failure;
use crate::driver::output::say;
use crate::driver::session::Session;
use crate::sema::hir;
use crate::tensor;

/// Prints the stage for every model.
pub fn emit(options: &Emit) -> Result<(), Failure> {
    let mut session = Session::open(&options.source)?.with_code(&options.code)?;
    if options.stage == Stage::Ast {
        show(options, None, &format!("{:#?}", session.parse()?));
        return Ok(());
    }
    if options.stage == Stage::Ptx {
        return Err(Failure::call("emit ptx: this build has no CUDA target"));
    }
    let program = session.check()?;
    for model in session.models_and_layers(&program)? {
        let derived = session.derive(&program, model)?;
        show(options, Some(&model.name), &text(&session, &program, model, derived, options.stage)?);
    }
    Ok(())
}

fn text(
    session: &Session,
    program: &hir::Program,
    model: &hir::Model,
    derived: Derived,
    stage: Stage,
) -> Result<String, Failure> {
    let kernels = |derived| {
        let algebra = session.rewrite(derived)?;
        session.lower(&algebra, &session.library_name(program, model), session.dtype())
    };
    let Code { backend, target } = session.code;
    let unsupported = |e: Unsupported| Failure::program(format!("{}: {e}", model.name));
    match stage {
        Stage::Blueprint => Ok(derived.blueprint.to_string()),
        Stage::Tensor => Ok(tensor::print::print(&derived.graph)),
        Stage::Rewritten => Ok(tensor::print::print(&session.rewrite(derived)?.graph)),
        Stage::Kernel => Ok(kernels(derived)?.to_string()),
        Stage::Clif => cranelift::text(&kernels(derived)?, target, Text::Clif).map_err(unsupported),
        Stage::Asm => backend.assembly(&kernels(derived)?, target).map_err(unsupported),
        Stage::Llvm => Ok(llvm::module(&kernels(derived)?, target).map_err(unsupported)?.text),
        Stage::Ast | Stage::Ptx => Err(Failure::bug(format!("emit {stage:?} has no model"))),
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
