//! The command line: arguments in, exit status out; everything else is in the library.

use std::process::ExitCode;

use clap::Parser;
use gdlc::driver::arguments::Arguments;

fn main() -> ExitCode {
    quiet_when_the_reader_leaves();
    match Arguments::try_parse() {
        Ok(arguments) => ExitCode::from(gdlc::driver::run(arguments).code()),
        Err(error) if error.use_stderr() && std::env::args().any(|a| a == "--json") => {
            ExitCode::from(gdlc::driver::misuse(&error.to_string()).code())
        }
        Err(error) => error.exit(),
    }
}

/// `gdlc ... | head` ends the process like any other program of the shell, instead of with a panic about the pipe.
#[cfg(unix)]
fn quiet_when_the_reader_leaves() {
    unsafe extern "C" {
        fn signal(number: i32, action: usize) -> usize;
    }
    const SIGPIPE: i32 = 13;
    const DEFAULT: usize = 0;
    // SAFETY: a call of the C library before any other thread exists.
    unsafe { signal(SIGPIPE, DEFAULT) };
}

#[cfg(not(unix))]
fn quiet_when_the_reader_leaves() {}
