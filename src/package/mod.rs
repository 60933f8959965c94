//! Packaging: a program's object, the model's table and the runtime become a shared library, with its header and its manifest.
//! In: a verified kernel program and the interface it was lowered from. Out: bytes and text; the driver writes the files.
//!
//! Reading order: `places` (where buffers live), `tables` (what the runtime knows of a model), `link` and `image` (the library),
//! `header`, `manifest`.

mod header;
mod image;
mod link;
mod manifest;
mod places;
mod tables;

use crate::codegen::abi::Interface;
use crate::codegen::{Backend, Target, Unsupported};
use crate::kernel::ir::Program;

/// The runtime, compiled by the build script: one object that needs only the C library.
static RUNTIME: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/runtime.o"));

/// What `build` makes.
#[derive(Clone, Debug)]
pub struct Library {
    /// The model's name in file names and symbols: `digits` in `libdigits.so` and `gdl_digits_call`.
    pub name: String,
    /// The shared library.
    pub so_bytes: Vec<u8>,
    /// The C header.
    pub header: String,
    /// The manifest, JSON.
    pub manifest: String,
}

/// Compiles, links and describes a program.
///
/// # Errors
/// What the backend or the linker cannot do, by name.
pub fn build(
    program: &Program,
    interface: &Interface,
    backend: &dyn Backend,
    target: Target,
) -> Result<Library, Unsupported> {
    let Target::X86_64 { least, .. } = target else {
        return Err(Unsupported::new("shared libraries for AArch64 (objects only, for now)"));
    };
    let name = tables::symbol_name(&interface.name);
    let object = backend.emit(program, target)?;
    let memories = places::Memories::of(program, interface)?;
    let description = tables::Description {
        program,
        interface,
        memories: &memories,
        kernels: &object.kernels,
        hash: hash(&object.bytes),
        features: least.features(),
    };
    let table = tables::object(&description);
    let soname = format!("lib{name}.so");
    let so_bytes = link::link(&soname, &[&table, &object.bytes, RUNTIME], &tables::exports(&interface.name));
    Ok(Library {
        header: header::header(interface, &name),
        manifest: manifest::manifest(interface, &name),
        name,
        so_bytes,
    })
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}
