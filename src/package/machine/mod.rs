//! What libraries for one kind of processor have of their own: relocations, the little code that packaging writes itself, the runtime.
//! The linker and the tables know no instructions; they ask a [`Machine`].

mod aarch64;
mod x86_64;

use object::Architecture;
use object::elf::{self, RelocationType};

use crate::codegen::{Target, Unsupported};

/// A kind of processor.
pub(super) trait Machine: Sync {
    /// As the objects' writer calls it.
    fn architecture(&self) -> Architecture;

    /// As a file's header calls it.
    fn elf(&self) -> elf::Machine;

    /// The largest page that a system may have: memory of different rights never shares one.
    fn page(&self) -> u64;

    /// What the loader is asked to do.
    fn loader(&self) -> Loader;

    /// How a relocation reaches its symbol; none where it is not known here.
    fn reach(&self, kind: RelocationType) -> Option<Reach>;

    /// Writes a relocation of code or of a distance into the bytes at the address `at`; `to` is what it is to reach, the addend included.
    fn put(&self, kind: RelocationType, bytes: &mut [u8], at: u64, to: u64);

    /// Jumps to the address that is kept at [`Symbol::Target`], at most [`STUB`] bytes.
    fn stub(&self) -> Code;

    /// Returns the address of [`Symbol::Model`].
    fn query(&self) -> Code;

    /// Adds the address of [`Symbol::Model`] as one more argument to so many, and goes on at [`Symbol::Target`].
    fn entry(&self, arguments: usize) -> Code;

    /// The runtime.
    ///
    /// # Errors
    /// This gdlc was built without it.
    fn runtime(&self) -> Result<&'static [u8], Unsupported>;
}

/// Bytes that a stub may have.
pub(super) const STUB: u64 = 16;

/// The processors of a target.
pub(super) fn machine(target: Target) -> &'static dyn Machine {
    match target {
        Target::X86_64(_) => &x86_64::X86_64,
        Target::Aarch64 => &aarch64::Aarch64,
    }
}

/// The relocations that a loader applies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loader {
    /// The address where the library lies, and an addend.
    pub relative: RelocationType,
    /// The address of a symbol, for the table of addresses.
    pub entry: RelocationType,
    /// The address of a symbol, and an addend.
    pub absolute: RelocationType,
}

/// How a relocation reaches its symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// By its whole address, which the loader fills in.
    Absolute,
    /// By its distance; a symbol of the C library by the distance of its stub.
    Distance,
    /// By the distance of the place that keeps its address.
    Table,
}

/// Instructions with what they name.
pub(super) struct Code {
    pub bytes: Vec<u8>,
    pub fixes: Vec<Fix>,
}

/// What some bytes of the code name.
#[derive(Clone, Copy)]
pub(super) struct Fix {
    pub offset: u64,
    pub kind: RelocationType,
    pub symbol: Symbol,
    pub addend: i64,
}

/// What code names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Symbol {
    /// The table of the model.
    Model,
    /// Where the code goes on.
    Target,
}

/// Bytes where a reader of ELF wants them, at a multiple of 8.
#[repr(C, align(8))]
struct Aligned<B: ?Sized>(B);

/// The runtime that the build script compiled for a processor: empty where `rustc` has no `core` for it.
fn runtime(Aligned(compiled): &'static Aligned<[u8]>, triple: &str) -> Result<&'static [u8], Unsupported> {
    if compiled.is_empty() {
        return Err(Unsupported::new(format!(
            "libraries for {triple}: this gdlc was built without the runtime for it; \
             `rustup target add {triple}`, then build gdlc again"
        )));
    }
    Ok(compiled)
}
