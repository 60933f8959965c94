//! Kernel IR → machine code, behind one trait; and what the code's callers must know (`abi`).
//! No tensors, no group theory: a verified kernel program becomes an object or an error that names what is unsupported.

pub mod abi;
