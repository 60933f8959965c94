//! The shared library as it is laid out in memory and in the file: segments, dynamic tables, section headers.
//! In: sections and the symbols that relocations want. Out: the bytes of an ELF shared object.

use std::collections::BTreeMap;

use object::elf::{self, RelocationType};

use super::link::{Piece, Place};
use super::machine::{Machine, STUB};

const EHDR: u64 = 64;
const PHDR: u64 = 56;
const N_PHDRS: u64 = 6;
const N_DYNAMIC: u64 = 12;
const SYM: u64 = 24;
const RELA: u64 = 24;

/// What the memory is for; the order is that of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Segment {
    /// Read only.
    Constant,
    /// Code.
    Text,
    /// Written by the loader, read only afterwards.
    Relocated,
    /// Variables.
    Data,
    /// Variables that begin as zero; no bytes in the file.
    Zero,
}

struct Part {
    segment: Segment,
    align: u64,
    bytes: Vec<u8>,
    size: u64,
    address: u64,
}

/// A span of memory that gets a section header.
#[derive(Clone, Copy, Default)]
struct Span {
    begin: u64,
    end: u64,
}

/// The dynamic tables' places.
#[derive(Default)]
struct Tables {
    dynsym: Span,
    dynstr: Span,
    hash: Span,
    rela: Span,
    constant: Span,
    text: Span,
    relocated: Span,
    got: Span,
    dynamic: Span,
    data: Span,
    zero: Span,
}

/// A library in the making.
pub(super) struct Image<'m> {
    machine: &'m dyn Machine,
    soname: String,
    exports: Vec<(String, Place)>,
    parts: BTreeMap<Piece, Part>,
    got: BTreeMap<Place, u64>,
    stubs: BTreeMap<String, u64>,
    outside: BTreeMap<String, u32>,
    n_absolute: u64,
    tables: Tables,
    strings: Vec<u8>,
    relocations: Vec<(u64, u64, i64)>,
    file: Vec<u8>,
}

fn up(n: u64, to: u64) -> u64 {
    n.div_ceil(to) * to
}

impl<'m> Image<'m> {
    pub(super) fn new(machine: &'m dyn Machine, soname: &str) -> Self {
        Image {
            machine,
            soname: soname.to_string(),
            exports: Vec::new(),
            parts: BTreeMap::new(),
            got: BTreeMap::new(),
            stubs: BTreeMap::new(),
            outside: BTreeMap::new(),
            n_absolute: 0,
            tables: Tables::default(),
            strings: vec![0],
            relocations: Vec::new(),
            file: Vec::new(),
        }
    }

    pub(super) fn export(&mut self, name: &str, place: Place) {
        self.exports.push((name.to_string(), place));
    }

    /// Takes in a section.
    pub(super) fn add(&mut self, piece: Piece, segment: Segment, align: u64, bytes: &[u8], size: u64) {
        self.parts.insert(piece, Part { segment, align, bytes: bytes.to_vec(), size, address: 0 });
    }

    /// Some code reads the symbol's address from the table of addresses.
    pub(super) fn want_entry(&mut self, place: &Place) {
        if let Place::Outside(name) = place {
            self.outside.insert(name.clone(), 0);
        }
        self.got.insert(place.clone(), 0);
    }

    /// Some data holds the symbol's address.
    pub(super) fn want_absolute(&mut self, place: &Place) {
        if let Place::Outside(name) = place {
            self.outside.insert(name.clone(), 0);
        }
        self.n_absolute += 1;
    }

    /// Some code calls a symbol of the C library directly.
    pub(super) fn want_stub(&mut self, name: &str) {
        self.want_entry(&Place::Outside(name.to_string()));
        self.stubs.insert(name.to_string(), 0);
    }

    /// Gives everything its address.
    pub(super) fn lay_out(&mut self) {
        for (i, index) in self.outside.values_mut().enumerate() {
            *index = 1 + i as u32;
        }
        let n_symbols = 1 + self.outside.len() as u64 + self.exports.len() as u64;
        let names: u64 = self.outside.keys().map(|n| n.len() as u64 + 1).sum::<u64>()
            + self.exports.iter().map(|(n, _)| n.len() as u64 + 1).sum::<u64>()
            + self.soname.len() as u64
            + 2;
        let mut at = EHDR + N_PHDRS * PHDR;
        let mut take = |size: u64, align: u64| {
            let begin = up(at, align);
            at = begin + size;
            Span { begin, end: at }
        };
        self.tables.dynsym = take(n_symbols * SYM, 8);
        self.tables.dynstr = take(names, 1);
        self.tables.hash = take(4 * (2 + 2 * n_symbols), 8);
        self.tables.rela = take((self.n_absolute + self.got.len() as u64) * RELA, 8);
        let page = self.machine.page();
        self.tables.constant = self.place_parts(Segment::Constant, at);
        self.tables.text = self.place_parts(Segment::Text, up(self.tables.constant.end, page));
        let mut end = up(self.tables.text.end, STUB);
        for address in self.stubs.values_mut() {
            *address = end;
            end += STUB;
        }
        self.tables.text.end = end;
        self.tables.relocated = self.place_parts(Segment::Relocated, up(end, page));
        let mut at = up(self.tables.relocated.end, 8);
        self.tables.got.begin = at;
        for address in self.got.values_mut() {
            *address = at;
            at += 8;
        }
        self.tables.got.end = at;
        self.tables.dynamic = Span { begin: at, end: at + 16 * N_DYNAMIC };
        self.tables.data = self.place_parts(Segment::Data, up(self.tables.dynamic.end, page));
        self.tables.zero = self.place_parts(Segment::Zero, up(self.tables.data.end, 64));
        self.file = vec![0; self.tables.data.end as usize];
        for part in self.parts.values() {
            if part.segment != Segment::Zero {
                let begin = part.address as usize;
                self.file[begin..begin + part.bytes.len()].copy_from_slice(&part.bytes);
            }
        }
    }

    fn place_parts(&mut self, segment: Segment, begin: u64) -> Span {
        let mut at = begin;
        for part in self.parts.values_mut().filter(|p| p.segment == segment) {
            part.address = up(at, part.align);
            at = part.address + part.size;
        }
        Span { begin, end: at }
    }

    /// The address of a symbol inside.
    pub(super) fn address(&self, place: &Place) -> u64 {
        match place {
            Place::Inside(piece, offset) => self.parts[piece].address + offset,
            Place::Outside(name) => panic!("link: {name} has no address of its own"),
        }
    }

    /// Where to call a symbol: itself, or its stub.
    pub(super) fn call_address(&self, place: &Place) -> u64 {
        match place {
            Place::Inside(..) => self.address(place),
            Place::Outside(name) => self.stubs[name],
        }
    }

    /// Where the symbol's address is kept.
    pub(super) fn entry_address(&self, place: &Place) -> u64 {
        self.got[place]
    }

    fn put_u32(&mut self, at: u64, value: u32) {
        self.file[at as usize..at as usize + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Writes the distance from an address to another, and an addend.
    pub(super) fn put(&mut self, kind: RelocationType, at: u64, to: u64, addend: i64) {
        self.machine.put(kind, &mut self.file[at as usize..], at, to.wrapping_add_signed(addend));
    }

    fn put_u64(&mut self, at: u64, value: u64) {
        self.file[at as usize..at as usize + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// An address for the loader to fill in.
    pub(super) fn put_absolute(&mut self, at: u64, place: &Place, addend: i64) {
        let loader = self.machine.loader();
        let relocation = match place {
            Place::Inside(..) => {
                (at, u64::from(loader.relative.0), self.address(place).wrapping_add_signed(addend) as i64)
            }
            Place::Outside(name) => (at, u64::from(self.outside[name]) << 32 | u64::from(loader.absolute.0), addend),
        };
        self.relocations.push(relocation);
    }

    /// Writes the tables, headers and section headers; the bytes of the library.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let loader = self.machine.loader();
        for (place, at) in self.got.clone() {
            match &place {
                Place::Inside(..) => self.put_absolute(at, &place, 0),
                Place::Outside(name) => {
                    let info = u64::from(self.outside[name]) << 32 | u64::from(loader.entry.0);
                    self.relocations.push((at, info, 0));
                }
            }
        }
        for (name, at) in self.stubs.clone() {
            let (stub, entry) = (self.machine.stub(), self.got[&Place::Outside(name)]);
            self.file[at as usize..at as usize + stub.bytes.len()].copy_from_slice(&stub.bytes);
            for fix in stub.fixes {
                self.put(fix.kind, at + fix.offset, entry, fix.addend);
            }
        }
        let relative = u64::from(loader.relative.0);
        self.relocations.sort_by_key(|(at, info, _)| (*info != relative, *at));
        for (i, (at, info, addend)) in self.relocations.clone().into_iter().enumerate() {
            let to = self.tables.rela.begin + i as u64 * RELA;
            self.put_u64(to, at);
            self.put_u64(to + 8, info);
            self.put_u64(to + 16, addend as u64);
        }
        self.write_symbols();
        self.write_dynamic();
        self.write_headers();
        self.write_sections();
        self.file
    }

    fn string(&mut self, s: &str) -> u32 {
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(s.as_bytes());
        self.strings.push(0);
        at
    }

    fn write_symbols(&mut self) {
        let mut names: Vec<(String, u64, u16)> = Vec::new();
        for name in self.outside.keys() {
            names.push((name.clone(), 0, 0));
        }
        for (name, place) in &self.exports {
            names.push((name.clone(), self.address(place), 1));
        }
        for (i, (name, address, section)) in names.iter().enumerate() {
            let to = self.tables.dynsym.begin + (1 + i as u64) * SYM;
            let string = self.string(name);
            self.put_u32(to, string);
            let kind = if *section == 0 { elf::STT_NOTYPE.0 } else { elf::STT_FUNC.0 };
            self.file[to as usize + 4] = elf::STB_GLOBAL.0 << 4 | kind;
            self.file[to as usize + 6..to as usize + 8].copy_from_slice(&(section * TEXT_SECTION).to_le_bytes());
            self.put_u64(to + 8, *address);
        }
        // One bucket a symbol, by the System V hash.
        let n = 1 + names.len() as u32;
        let hash = self.tables.hash.begin;
        self.put_u32(hash, n);
        self.put_u32(hash + 4, n);
        let mut buckets = vec![0u32; n as usize];
        for (i, (name, ..)) in names.iter().enumerate() {
            let bucket = (elf::hash(name.as_bytes()) % n) as usize;
            let chain = hash + 8 + 4 * (u64::from(n) + 1 + i as u64);
            self.put_u32(chain, buckets[bucket]);
            buckets[bucket] = 1 + i as u32;
        }
        for (i, first) in buckets.into_iter().enumerate() {
            self.put_u32(hash + 8 + 4 * i as u64, first);
        }
    }

    fn write_dynamic(&mut self) {
        let soname = self.soname.clone();
        let soname = u64::from(self.string(&soname));
        let begin = self.tables.dynstr.begin as usize;
        self.file[begin..begin + self.strings.len()].copy_from_slice(&self.strings);
        let t = &self.tables;
        let relative = u64::from(self.machine.loader().relative.0);
        let relative = self.relocations.iter().filter(|r| r.1 == relative).count() as u64;
        let entries: [(u64, u64); N_DYNAMIC as usize] = [
            (elf::DT_SONAME.0 as u64, soname),
            (elf::DT_HASH.0 as u64, t.hash.begin),
            (elf::DT_STRTAB.0 as u64, t.dynstr.begin),
            (elf::DT_STRSZ.0 as u64, t.dynstr.end - t.dynstr.begin),
            (elf::DT_SYMTAB.0 as u64, t.dynsym.begin),
            (elf::DT_SYMENT.0 as u64, SYM),
            (elf::DT_RELA.0 as u64, t.rela.begin),
            (elf::DT_RELASZ.0 as u64, t.rela.end - t.rela.begin),
            (elf::DT_RELAENT.0 as u64, RELA),
            (elf::DT_RELACOUNT.0 as u64, relative),
            // Never unloaded: the threads of the pool run its code.
            (elf::DT_FLAGS_1.0 as u64, u64::from(elf::DF_1_NOW.0 | elf::DF_1_NODELETE.0)),
            (elf::DT_NULL.0 as u64, 0),
        ];
        let at = t.dynamic.begin;
        for (i, (tag, value)) in entries.into_iter().enumerate() {
            self.put_u64(at + 16 * i as u64, tag);
            self.put_u64(at + 16 * i as u64 + 8, value);
        }
    }

    fn write_headers(&mut self) {
        let ident = [0x7f, b'E', b'L', b'F', elf::ELFCLASS64.0, elf::ELFDATA2LSB.0, elf::EV_CURRENT.0];
        self.file[..ident.len()].copy_from_slice(&ident);
        self.file[16..18].copy_from_slice(&elf::ET_DYN.0.to_le_bytes());
        self.file[18..20].copy_from_slice(&self.machine.elf().0.to_le_bytes());
        self.put_u32(20, 1);
        self.put_u64(32, EHDR);
        self.file[52..54].copy_from_slice(&(EHDR as u16).to_le_bytes());
        self.file[54..56].copy_from_slice(&(PHDR as u16).to_le_bytes());
        self.file[56..58].copy_from_slice(&(N_PHDRS as u16).to_le_bytes());
        let (t, page) = (&self.tables, self.machine.page());
        let (begin, relro) = (t.relocated.begin, up(t.dynamic.end, page));
        let headers: [(u32, u32, u64, u64, u64, u64); N_PHDRS as usize] = [
            (elf::PT_LOAD.0, elf::PF_R.0, 0, t.constant.end, t.constant.end, page),
            (elf::PT_LOAD.0, elf::PF_R.0 | elf::PF_X.0, t.text.begin, t.text.end, t.text.end, page),
            (elf::PT_LOAD.0, elf::PF_R.0 | elf::PF_W.0, begin, t.data.end, t.zero.end, page),
            (elf::PT_DYNAMIC.0, elf::PF_R.0 | elf::PF_W.0, t.dynamic.begin, t.dynamic.end, t.dynamic.end, 8),
            (elf::PT_GNU_RELRO.0, elf::PF_R.0, begin, relro.min(t.data.end), relro, 1),
            (elf::PT_GNU_STACK.0, elf::PF_R.0 | elf::PF_W.0, 0, 0, 0, 16),
        ];
        for (i, (kind, flags, begin, file_end, memory_end, align)) in headers.into_iter().enumerate() {
            let at = EHDR + i as u64 * PHDR;
            self.put_u32(at, kind);
            self.put_u32(at + 4, flags);
            for (field, value) in
                [begin, begin, begin, file_end - begin, memory_end - begin, align].into_iter().enumerate()
            {
                self.put_u64(at + 8 + 8 * field as u64, value);
            }
        }
    }

    /// Section headers, for `nm`, `objdump` and debuggers; the loader does not read them.
    fn write_sections(&mut self) {
        let (alloc, exec, write) = (elf::SHF_ALLOC.0, elf::SHF_EXECINSTR.0, elf::SHF_WRITE.0);
        let t = &self.tables;
        type Row = (&'static str, u32, u64, Span, u32, u64);
        let rows: [Row; N_SECTIONS] = [
            (".text", elf::SHT_PROGBITS.0, alloc | exec, t.text, 0, 0),
            (".dynsym", elf::SHT_DYNSYM.0, alloc, t.dynsym, 3, SYM),
            (".dynstr", elf::SHT_STRTAB.0, alloc, t.dynstr, 0, 0),
            (".hash", elf::SHT_HASH.0, alloc, t.hash, 2, 4),
            (".rela.dyn", elf::SHT_RELA.0, alloc, t.rela, 2, RELA),
            (".rodata", elf::SHT_PROGBITS.0, alloc, t.constant, 0, 0),
            (".data.rel.ro", elf::SHT_PROGBITS.0, alloc | write, t.relocated, 0, 0),
            (".got", elf::SHT_PROGBITS.0, alloc | write, t.got, 0, 8),
            (".dynamic", elf::SHT_DYNAMIC.0, alloc | write, t.dynamic, 3, 16),
            (".data", elf::SHT_PROGBITS.0, alloc | write, t.data, 0, 0),
            (".bss", elf::SHT_NOBITS.0, alloc | write, t.zero, 0, 0),
        ];
        let mut names = vec![0u8];
        let mut headers = vec![0u8; 64];
        for (name, kind, flags, span, link, entry) in rows {
            let info = if kind == elf::SHT_DYNSYM.0 { 1u32 } else { 0 };
            let align = if kind == elf::SHT_STRTAB.0 { 1 } else { 8u64 };
            let size = span.end - span.begin;
            let words = (names.len() as u32, kind, flags, span.begin, span.begin, size, link, info, align, entry);
            push_section(&mut headers, words);
            names.extend_from_slice(name.as_bytes());
            names.push(0);
        }
        let own = names.len() as u32;
        names.extend_from_slice(b".shstrtab\0");
        let at = self.file.len() as u64;
        push_section(&mut headers, (own, elf::SHT_STRTAB.0, 0, 0, at, names.len() as u64, 0, 0, 1, 0));
        self.file.extend_from_slice(&names);
        self.file.resize(up(self.file.len() as u64, 8) as usize, 0);
        let at = self.file.len() as u64;
        self.file.extend_from_slice(&headers);
        self.put_u64(40, at);
        let count = N_SECTIONS as u16 + 2;
        self.file[58..60].copy_from_slice(&64u16.to_le_bytes());
        self.file[60..62].copy_from_slice(&count.to_le_bytes());
        self.file[62..64].copy_from_slice(&(count - 1).to_le_bytes());
    }
}

const N_SECTIONS: usize = 11;
/// The number of `.text` in the section table.
const TEXT_SECTION: u16 = 1;

/// `(name, type, flags, address, offset, size, link, info, align, entry size)`
type SectionWords = (u32, u32, u64, u64, u64, u64, u32, u32, u64, u64);

fn push_section(to: &mut Vec<u8>, w: SectionWords) {
    to.extend_from_slice(&w.0.to_le_bytes());
    to.extend_from_slice(&w.1.to_le_bytes());
    for wide in [w.2, w.3, w.4, w.5] {
        to.extend_from_slice(&wide.to_le_bytes());
    }
    to.extend_from_slice(&w.6.to_le_bytes());
    to.extend_from_slice(&w.7.to_le_bytes());
    to.extend_from_slice(&w.8.to_le_bytes());
    to.extend_from_slice(&w.9.to_le_bytes());
}
