//! Why a command stops: the program is wrong, the call is wrong, or the compiler is wrong.

use std::path::Path;

/// How a command ended, as its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 0
    Success,
    /// 1: the program (or its certificate) is wrong.
    Program,
    /// 2: the call is wrong: files, options, tensors.
    Call,
    /// 3: the compiler is wrong.
    Compiler,
}

impl Status {
    /// The exit status.
    pub fn code(self) -> u8 {
        match self {
            Status::Success => 0,
            Status::Program => 1,
            Status::Call => 2,
            Status::Compiler => 3,
        }
    }
}

/// Why a command stopped, with what to tell the user. An empty message: it was told already.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub status: Status,
    pub message: String,
}

impl Failure {
    /// The program is wrong, and its diagnostics are printed already.
    pub fn reported() -> Self {
        Failure { status: Status::Program, message: String::new() }
    }

    /// The program is wrong.
    pub fn program(message: impl Into<String>) -> Self {
        Failure { status: Status::Program, message: message.into() }
    }

    /// The call is wrong.
    pub fn call(message: impl Into<String>) -> Self {
        Failure { status: Status::Call, message: message.into() }
    }

    /// The compiler is wrong.
    pub fn bug(message: impl Into<String>) -> Self {
        Failure { status: Status::Compiler, message: message.into() }
    }

    /// Tells it as one line of JSON, on the standard error.
    pub fn print_json(&self) {
        let status = self.status.code();
        eprintln!("{}", serde_json::json!({ "severity": "error", "message": self.message, "status": status }));
    }

    /// A file could not be read or written.
    pub fn io(verb: &str, path: &Path, error: &std::io::Error) -> Self {
        Failure::call(format!("cannot {verb} {}: {error}", path.display()))
    }
}
