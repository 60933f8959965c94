//! The commands, a file each: what they print is for people, or with `--json` for programs.

pub mod bench;
pub mod build;
pub mod check;
pub mod derive;
pub mod emit;
pub mod explain;
pub mod fmt;
pub mod new;
pub mod run;
pub mod verify;
