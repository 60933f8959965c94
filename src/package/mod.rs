//! Packaging: programs' objects, the models' tables and the runtime become a shared library, with its header and its manifest.
//! In: verified kernel programs and the interfaces they were lowered from. Out: bytes and text; the driver writes the files.
//!
//! Reading order: `places` (where buffers live), `device` (code for GPUs), `tables` (what the runtime knows of a model), `machine` (what
//! differs from processor to processor), `link` and `image` (the library), `header`, `manifest`, `python`.

pub mod device;
mod header;
mod image;
mod link;
mod machine;
mod manifest;
mod places;
pub mod python;
mod tables;

use device::{Device, DeviceTarget};

use crate::codegen::abi::Interface;
use crate::codegen::{Backend, Target, Unsupported};
use crate::kernel::ir::Program;

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
    build_all(&[Member::alone(program, interface)], backend, target, None)
}

/// One model of a library.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    pub program: &'a Program,
    pub interface: &'a Interface,
    /// Which members are its derivatives, by reverse and by forward mode.
    pub vjp: Option<usize>,
    pub jvp: Option<usize>,
    /// Which members are its derivative by reverse mode in two passes: the forward one, which hands on what the backward one takes.
    pub passes: Option<[usize; 2]>,
}

impl<'a> Member<'a> {
    /// A model without derivatives.
    pub fn alone(program: &'a Program, interface: &'a Interface) -> Member<'a> {
        Member { program, interface, vjp: None, jvp: None, passes: None }
    }
}

/// A library of a model, the first member, and its derivatives. With a part for GPUs where a `device` is given.
///
/// # Errors
/// What the backend or the linker cannot do, by name.
pub fn build_all(
    members: &[Member<'_>],
    backend: &dyn Backend,
    target: Target,
    device: Option<&DeviceTarget>,
) -> Result<Library, Unsupported> {
    let machine = machine::machine(target);
    let runtime = machine.runtime()?;
    let mut groups: Vec<[Vec<u8>; 2]> = Vec::new();
    for (k, Member { program, interface, vjp, jvp, passes }) in members.iter().enumerate() {
        let object = backend.emit(program, target)?;
        let memories = places::Memories::of(program, interface)?;
        let device = device.map(|target| Device::of(program, target)).transpose()?;
        let named = |k: &Option<usize>| k.map(|k| members[k].interface.name.as_str());
        let description = tables::Description {
            program,
            interface,
            memories: &memories,
            kernels: &object.kernels,
            hash: hash(&object.bytes),
            features: target.features(),
            device: device.as_ref(),
            vjp: named(vjp),
            jvp: named(jvp),
            passes: [0, 1].map(|pass| named(&passes.map(|passes| passes[pass]))),
            first: k == 0,
        };
        groups.push([tables::object(machine, &description), object.bytes]);
    }
    let mut objects: Vec<Vec<&[u8]>> = groups.iter().map(|g| g.iter().map(Vec::as_slice).collect()).collect();
    objects.push(vec![runtime]);
    let interfaces: Vec<&Interface> = members.iter().map(|m| m.interface).collect();
    let name = tables::symbol_name(&interfaces[0].name);
    let mut exports: Vec<String> = interfaces.iter().flat_map(|i| tables::exports(&i.name)).collect();
    exports.push(tables::REGISTER.to_string());
    Ok(Library {
        so_bytes: link::link(machine, &format!("lib{name}.so"), &objects, &exports),
        header: header::header(&interfaces, &name),
        manifest: manifest::manifest(members),
        name,
    })
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}
