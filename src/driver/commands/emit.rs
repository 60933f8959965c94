//! `gdlc emit STAGE`: what a stage made, as text.

use crate::driver::arguments::{Emit, Stage};
use crate::driver::failure::Failure;
use crate::driver::session::Session;
use crate::tensor;

/// Prints the stage for every model.
pub fn emit(options: &Emit) -> Result<(), Failure> {
    let mut session = Session::open(&options.source)?;
    if options.stage == Stage::Ast {
        println!("{:#?}", session.parse()?);
        return Ok(());
    }
    let program = session.check()?;
    for model in session.models_and_layers(&program)? {
        let derived = session.derive(&program, model)?;
        match options.stage {
            Stage::Ast => (),
            Stage::Blueprint => println!("{}", derived.blueprint),
            Stage::Tensor => println!("{}", tensor::print::print(&derived.graph)),
            Stage::Rewritten => println!("{}", tensor::print::print(&session.rewrite(derived)?.graph)),
            Stage::Kernel => {
                let algebra = session.rewrite(derived)?;
                println!("{}", session.lower(&algebra, &session.library_name(&program, model), session.dtype())?);
            }
            Stage::Clif | Stage::Asm => return Err(not_built(options.stage, "a later version prints it")),
            Stage::Llvm => return Err(not_built(options.stage, "this build has no LLVM backend")),
            Stage::Ptx => return Err(not_built(options.stage, "this build has no CUDA target")),
        }
    }
    Ok(())
}

fn not_built(stage: Stage, why: &str) -> Failure {
    Failure::call(format!("emit {stage:?}: {why}").to_lowercase())
}
