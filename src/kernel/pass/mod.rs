//! Passes over the kernel IR: program in, program out, the same meaning; and what backends need to know of memory.

pub mod buffers;
pub mod compact;
pub mod entries;
pub mod legalize;
pub mod strips;
