//! Relocatable objects in, a shared library out (ELF): no linker on the user's machine.
//! Keeps what the exported symbols reach, lays it out in three segments, resolves relocations.
//! It knows nothing of models; the same input gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use object::elf;
use object::read::elf::{ElfFile64, FileHeader as _};
use object::{
    Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationFlags, RelocationTarget, SectionFlags,
    SectionIndex, SymbolIndex, SymbolSection,
};

use super::image::{Image, Segment};
use super::machine::{Machine, Reach};

/// A section of an object: `(object, section)`.
pub(super) type Piece = (usize, usize);

/// Where a symbol is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// An offset in a section that is kept.
    Inside(Piece, u64),
    /// A symbol of the C library.
    Outside(String),
}

/// The symbols of the C library that a library may ask for: those the runtime calls.
pub(super) const IMPORTS: &[&str] = &[
    "abort",
    "bcmp",
    "dlopen",
    "dlsym",
    "free",
    "getenv",
    "getpid",
    "malloc",
    "memcpy",
    "memset",
    "pthread_create",
    "pthread_detach",
    "sched_getaffinity",
    "sched_yield",
    "strlen",
    "syscall",
];

struct Objects<'a> {
    files: Vec<ElfFile64<'a, Endianness>>,
    /// Global symbols that some object of a group defines.
    globals: BTreeMap<(usize, String), Place>,
    /// The group of each file.
    groups: Vec<usize>,
}

/// A relocation, its target found.
struct Fix {
    offset: u64,
    kind: elf::RelocationType,
    target: Place,
    addend: i64,
}

/// Links groups of objects into a shared library that exports `exports`, in that order. A name means the symbol of its own group, if that
/// has one, else that of the first group that has: the kernels of two models may have the same names.
/// Panics on an object that does not hold together: the objects are ours.
pub(super) fn link(machine: &dyn Machine, soname: &str, groups: &[Vec<&[u8]>], exports: &[String]) -> Vec<u8> {
    let objects = Objects::read(machine, groups);
    let kept = objects.reachable(exports);
    let mut image = Image::new(machine, soname);
    for export in exports {
        let place =
            objects.find(0, export).unwrap_or_else(|| panic!("link: the exported symbol {export} is not defined"));
        image.export(export, place);
    }
    for &piece in &kept {
        let section = objects.section(piece);
        let bytes = section.data().expect("link: a section has its bytes");
        image.add(piece, segment_of(&section), section.align().max(1), bytes, section.size());
        for fix in objects.fixes(piece) {
            match reach(machine, &fix) {
                Reach::Table => image.want_entry(&fix.target),
                Reach::Absolute => image.want_absolute(&fix.target),
                Reach::Distance => {
                    if let Place::Outside(name) = &fix.target {
                        image.want_stub(name);
                    }
                }
            }
        }
    }
    image.lay_out();
    for &piece in &kept {
        for fix in objects.fixes(piece) {
            let at = image.address(&Place::Inside(piece, fix.offset));
            match reach(machine, &fix) {
                Reach::Absolute => image.put_absolute(at, &fix.target, fix.addend),
                Reach::Distance => image.put(fix.kind, at, image.call_address(&fix.target), fix.addend),
                Reach::Table => image.put(fix.kind, at, image.entry_address(&fix.target), fix.addend),
            }
        }
    }
    image.finish()
}

fn reach(machine: &dyn Machine, fix: &Fix) -> Reach {
    machine.reach(fix.kind).unwrap_or_else(|| panic!("link: relocation {:?} is not known", fix.kind))
}

fn segment_of(section: &object::read::elf::ElfSection64<'_, '_, Endianness>) -> Segment {
    let SectionFlags::Elf { sh_flags, .. } = section.flags() else { panic!("link: an ELF section has ELF flags") };
    let writable = sh_flags.contains(elf::SHF_WRITE);
    let name = section.name().unwrap_or_default();
    if sh_flags.contains(elf::SHF_EXECINSTR) {
        Segment::Text
    } else if !writable {
        // Read-only data with absolute addresses must be writable while it is relocated.
        Segment::Constant
    } else if section.kind() == object::SectionKind::UninitializedData {
        Segment::Zero
    } else if name.starts_with(".data.rel.ro") {
        Segment::Relocated
    } else {
        Segment::Data
    }
}

impl<'a> Objects<'a> {
    fn read(machine: &dyn Machine, all: &[Vec<&'a [u8]>]) -> Self {
        let objects = || all.iter().enumerate().flat_map(|(g, objects)| objects.iter().map(move |bytes| (g, *bytes)));
        let files: Vec<ElfFile64<'a, Endianness>> =
            objects().map(|(_, bytes)| ElfFile64::parse(bytes).expect("link: our objects are ELF")).collect();
        let groups: Vec<usize> = objects().map(|(g, _)| g).collect();
        let mut globals = BTreeMap::new();
        for (o, file) in files.iter().enumerate() {
            let header = file.elf_header();
            assert_eq!(header.e_machine(file.endian()), machine.elf(), "link: all objects are for one machine");
            for symbol in file.symbols() {
                if let (true, SymbolSection::Section(section)) = (symbol.is_global(), symbol.section()) {
                    let name = symbol.name().expect("link: a symbol has a name").to_string();
                    globals.entry((groups[o], name)).or_insert(Place::Inside((o, section.0), symbol.address()));
                }
            }
        }
        Objects { files, globals, groups }
    }

    /// What a name means to the objects of a group.
    fn find(&self, group: usize, name: &str) -> Option<Place> {
        let last = self.groups.last().copied().unwrap_or(0);
        let of = |g: usize| self.globals.get(&(g, name.to_string())).cloned();
        std::iter::once(group).chain(0..=last).find_map(of)
    }

    fn section(&self, (object, index): Piece) -> object::read::elf::ElfSection64<'a, '_, Endianness> {
        self.files[object].section_by_index(SectionIndex(index)).expect("link: a section that a symbol names")
    }

    fn place(&self, object: usize, symbol: SymbolIndex) -> Place {
        let symbol = self.files[object].symbol_by_index(symbol).expect("link: a relocation's symbol");
        match symbol.section() {
            SymbolSection::Section(section) => Place::Inside((object, section.0), symbol.address()),
            _ => {
                let name = symbol.name().expect("link: a symbol has a name");
                self.find(self.groups[object], name).unwrap_or_else(|| {
                    assert!(IMPORTS.contains(&name), "link: `{name}` is neither ours nor in the C library");
                    Place::Outside(name.to_string())
                })
            }
        }
    }

    fn fixes(&self, piece: Piece) -> Vec<Fix> {
        let section = self.section(piece);
        let one = |(offset, r): (u64, object::Relocation)| {
            let RelocationFlags::Elf { r_type } = r.flags() else { panic!("link: an ELF relocation") };
            let RelocationTarget::Symbol(symbol) = r.target() else { panic!("link: a relocation names a symbol") };
            Fix { offset, kind: r_type, target: self.place(piece.0, symbol), addend: r.addend() }
        };
        section.relocations().map(one).collect()
    }

    /// The sections that the exports reach, in a fixed order.
    fn reachable(&self, exports: &[String]) -> Vec<Piece> {
        let mut kept = BTreeSet::new();
        let mut open: Vec<Piece> = Vec::new();
        for export in exports {
            match self.find(0, export) {
                Some(Place::Inside(piece, _)) => open.push(piece),
                _ => panic!("link: the exported symbol {export} is not defined"),
            }
        }
        while let Some(piece) = open.pop() {
            if kept.insert(piece) {
                open.extend(self.fixes(piece).into_iter().filter_map(|fix| match fix.target {
                    Place::Inside(piece, _) => Some(piece),
                    Place::Outside(_) => None,
                }));
            }
        }
        kept.into_iter().collect()
    }
}
