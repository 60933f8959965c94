//! Files, commands, the list of stages. The only layer that prints.
//!
//! Reading order: `arguments` (what a user types), `session` (the stages), `compiled` (all the way through), `commands`.

pub mod arguments;
pub mod code;
pub mod commands;
pub mod compiled;
pub mod session;

pub mod binding;
pub mod ceiling;
pub mod certificate;
pub mod derivative_certificate;
pub mod failure;
pub mod interface;
pub mod load;
pub mod neighbours;
pub mod reference;
pub mod score;
pub mod tensors;

use arguments::{Arguments, Command};
use failure::Status;

/// Carries out a command; what it says goes to the standard output, errors to the standard error.
pub fn run(arguments: Arguments) -> Status {
    let result = match arguments.command {
        Command::Check(options) => commands::check::check(&options),
        Command::Derive(options) => commands::derive::derive(&options),
        Command::Build(options) => commands::build::build(&options),
        Command::Run(options) => commands::run::run(&options),
        Command::Verify(options) => commands::verify::verify(&options),
        Command::Bench(options) => commands::bench::bench(&options),
        Command::Emit(options) => commands::emit::emit(&options),
        Command::Explain(options) => commands::explain::explain(&options),
        Command::Fmt(options) => commands::fmt::fmt(&options),
        Command::New(options) => commands::new::new(&options),
    };
    match result {
        Ok(()) => Status::Success,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("error: {}", failure.message);
            }
            if failure.status == Status::Compiler {
                eprintln!("This is a mistake of the compiler. Please report it with the program and this message.");
            }
            failure.status
        }
    }
}
