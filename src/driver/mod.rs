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
pub mod output;
pub mod progress;
pub mod reference;
pub mod score;
pub mod tensors;

use arguments::{Arguments, Command};
use failure::{Failure, Status};

/// Carries out a command; what it says goes to the standard output, errors to the standard error.
/// A panic of the compiler is a [`Status::Compiler`] with what to report.
pub fn run(arguments: Arguments) -> Status {
    std::panic::catch_unwind(|| carry_out(arguments)).unwrap_or_else(|_| {
        eprintln!("{REPORT}");
        Status::Compiler
    })
}

/// A command line that is none, told as `--json` asks for.
pub fn misuse(message: &str) -> Status {
    let failure = Failure::call(message.trim_end().trim_start_matches("error: "));
    failure.print_json();
    failure.status
}

const REPORT: &str = "This is a mistake of the compiler. Please report it with the program and this message.";

fn carry_out(arguments: Arguments) -> Status {
    progress::begin();
    let json = arguments.command.json();
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
            if json && !failure.message.is_empty() {
                failure.print_json();
            } else if !failure.message.is_empty() {
                eprintln!("error: {}", failure.message);
            }
            if failure.status == Status::Compiler {
                eprintln!("{REPORT}");
            }
            failure.status
        }
    }
}
