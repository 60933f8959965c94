//! The command line: arguments in, exit status out; everything else is in the library.

use std::process::ExitCode;

use clap::Parser;
use gdlc::driver::arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    ExitCode::from(gdlc::driver::run(arguments).code())
}
