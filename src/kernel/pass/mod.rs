//! Passes over the kernel IR: program in, program out, the same meaning; and what backends need to know of memory.

pub mod buffers;
pub mod compact;
pub mod entries;
pub mod legalize;
pub mod strips;

/// Bytes of the matrices that pass by each strip of rows, or block of entries, at most: they have to stay in a second-level cache from one to the next.
const PACKED_BYTES: usize = 256 << 10;
/// Bytes that one kernel hands on to another, below which they stay in that cache by themselves.
const LEAST_BYTES: usize = 512 << 10;
