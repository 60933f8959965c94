//! Text → ast, and ast → canonical text. Knows nothing of groups or types:
//! a program that parses may still mean nothing.

pub mod ast;

mod error;
mod expected;
mod format;
mod layout;
mod parse;

pub use error::{PREFIXES, nearest};
pub use format::format;
pub use layout::{DEPTH, ITEM_WORDS, LONGEST};
pub use parse::parse;
