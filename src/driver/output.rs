//! The standard output. Where it cannot be written (a full disk), the command ends with an error, not with a panic.

use std::fmt::Arguments;
use std::io::Write;

use crate::driver::failure::Status;

/// Writes a line.
pub fn line(text: Arguments<'_>) {
    if let Err(error) = writeln!(std::io::stdout(), "{text}") {
        eprintln!("error: cannot write the output: {error}");
        std::process::exit(i32::from(Status::Call.code()));
    }
}

/// As `println!`, by [`line`].
macro_rules! say {
    ($($text:tt)*) => { $crate::driver::output::line(format_args!($($text)*)) };
}
pub(crate) use say;
