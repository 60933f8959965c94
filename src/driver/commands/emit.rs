//! `gdlc emit STAGE`: what a stage made, as text.

use crate::codegen::{Unsupported, llvm};
use crate::driver::arguments::{Emit, Stage};
use crate::driver::code::Code;
use crate::driver::failure::Failure;
use crate::driver::session::Session;
use crate::tensor;

/// Prints the stage for every model.
pub fn emit(options: &Emit) -> Result<(), Failure> {
    let mut session = Session::open(&options.source)?.with_code(&options.code)?;
    if options.stage == Stage::Ast {
        println!("{:#?}", session.parse()?);
        return Ok(());
    }
    let program = session.check()?;
    for model in session.models_and_layers(&program)? {
        let derived = session.derive(&program, model)?;
        let name = session.library_name(&program, model);
        let kernels = |derived| session.lower(&session.rewrite(derived)?.graph, &name, session.dtype());
        match options.stage {
            Stage::Ast => (),
            Stage::Blueprint => println!("{}", derived.blueprint),
            Stage::Tensor => println!("{}", tensor::print::print(&derived.graph)),
            Stage::Rewritten => println!("{}", tensor::print::print(&session.rewrite(derived)?.graph)),
            Stage::Kernel => println!("{}", kernels(derived)?),
            Stage::Llvm => {
                let module = llvm::module(&kernels(derived)?, session.code.target).map_err(unsupported)?;
                println!("{}", module.text);
            }
            Stage::Asm => {
                let Code { backend, target } = session.code;
                println!("{}", backend.assembly(&kernels(derived)?, target).map_err(unsupported)?);
            }
            Stage::Clif => return Err(not_built(options.stage, "a later version prints it")),
            Stage::Ptx => return Err(not_built(options.stage, "this build has no CUDA target")),
        }
    }
    Ok(())
}

fn unsupported(e: Unsupported) -> Failure {
    Failure::program(e.to_string())
}

fn not_built(stage: Stage, why: &str) -> Failure {
    Failure::call(format!("emit {stage:?}: {why}").to_lowercase())
}
