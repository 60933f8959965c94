//! What every layer stands on: ids, spans, diagnostics, symbolic sizes, printing.
//! Knows nothing of the language, of groups or of tensors.

pub mod arena;
pub mod diagnostic;
pub mod dtype;
pub mod render;
pub mod size;
pub mod span;
