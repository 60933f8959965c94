//! The static table of a model and its entry points, as a relocatable object.
//! In: the program, its interface, the kernels' symbols. Out: an object that the linker joins with the kernels and the runtime.
//! The layout is `src/runtime/abi.rs`, field by field.

use object::elf;
use object::write::{Object, Relocation, StandardSection, Symbol, SymbolId, SymbolSection};
use object::{BinaryFormat, Endianness, RelocationFlags, SymbolFlags, SymbolKind, SymbolScope};

use super::device::Device;
use super::machine::{self, Machine};
use super::places::{Memories, Place, WhereFrom};
use crate::base::dtype::Dtype;
use crate::base::size::Size;
use crate::codegen::abi::{Element, Interface, Tensor};
use crate::codegen::runtime;
use crate::kernel::ir::{Program, Stage};

/// The entry points, with the number of arguments that come before the model.
const ENTRIES: [(&str, usize); 6] = [("sizes", 3), ("memory", 3), ("bind", 4), ("prepare", 3), ("call", 4), ("run", 4)];
/// The entries of hosts, which no table names.
const HOSTS: [(&str, usize); 6] =
    [("onnx", 2), ("torch", 3), ("torch_functions", 1), ("tvm", 4), ("xla", 1), ("xla_cuda", 1)];

/// What ONNX Runtime looks for: the entry `onnx` of the library's first model.
pub(super) const REGISTER: &str = "RegisterCustomOps";

/// A table in the making: bytes, and the places that hold addresses.
struct Table {
    bytes: Vec<u8>,
    fixes: Vec<(usize, Target)>,
    strings: Vec<u8>,
}

enum Target {
    /// An offset of the table itself.
    Here(usize),
    /// An offset of the strings.
    Text(usize),
    /// A function.
    Symbol(String),
}

/// Some elements of the table.
#[derive(Clone, Copy)]
struct List {
    at: usize,
    count: usize,
}

impl Table {
    fn u32(&mut self, x: u32) {
        self.bytes.extend_from_slice(&x.to_le_bytes());
    }

    fn i64(&mut self, x: i64) {
        self.bytes.extend_from_slice(&x.to_le_bytes());
    }

    fn address(&mut self, target: Target) {
        self.fixes.push((self.bytes.len(), target));
        self.i64(0);
    }

    fn text(&mut self, s: &str) {
        let at = self.strings.len();
        self.strings.extend(s.bytes().filter(|b| *b != 0));
        self.strings.push(0);
        self.address(Target::Text(at));
    }

    /// Bytes, aligned as code wants to be.
    fn blob(&mut self, bytes: &[u8]) {
        let at = self.strings.len().next_multiple_of(16);
        self.strings.resize(at, 0);
        self.strings.extend_from_slice(bytes);
        self.address(Target::Text(at));
    }

    fn launches(&mut self, device: &Device, stage: Stage) -> List {
        let chosen: Vec<_> = device.code.kernels.iter().filter(|k| k.stage == stage).collect();
        let mut parts = Vec::new();
        for kernel in &chosen {
            let sizes = self.begin(kernel.launch.elements.len());
            kernel.launch.elements.iter().for_each(|size| self.size(*size));
            let words = self.begin(kernel.words.len());
            kernel.words.iter().for_each(|word| self.i64(*word as i64));
            parts.push((sizes, words));
        }
        let list = self.begin(chosen.len());
        for (kernel, (sizes, words)) in chosen.iter().zip(parts) {
            self.text(&kernel.symbol);
            for x in [kernel.launch.threads, kernel.launch.tile, kernel.launch.times] {
                self.i64(x as i64);
            }
            self.list(sizes);
            self.list(words);
        }
        list
    }

    fn size(&mut self, size: Size) {
        let (scale, var, offset, divisor) = size.parts();
        for x in [i64::from(var.0), scale, offset, divisor] {
            self.i64(x);
        }
    }

    fn list(&mut self, list: List) {
        self.i64(list.count as i64);
        self.address(Target::Here(list.at));
    }

    /// Where the next elements begin.
    fn begin(&mut self, count: usize) -> List {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        List { at: self.bytes.len(), count }
    }

    /// Shapes first: a table of tensors names theirs.
    fn dims(&mut self, shapes: &[&[Size]]) -> Vec<usize> {
        let mut all = Vec::new();
        for shape in shapes {
            all.push(self.begin(shape.len()).at);
            for size in *shape {
                self.size(*size);
            }
        }
        all
    }

    fn tensors(&mut self, tensors: &[Tensor]) -> List {
        let shapes: Vec<&[Size]> = tensors.iter().map(|t| t.dims.as_slice()).collect();
        let dims = self.dims(&shapes);
        let list = self.begin(tensors.len());
        for (tensor, dims) in tensors.iter().zip(dims) {
            self.text(&tensor.name);
            self.text(&tensor.about);
            self.i64(tensor.dims.len() as i64);
            self.address(Target::Here(dims));
            let (element, sorted, range) = match tensor.element {
                Element::Real => (runtime::REAL, false, Size::fixed(0)),
                Element::Index { range, sorted, table: true } => (runtime::TABLE, sorted, range),
                Element::Index { range, sorted, table: false } => (runtime::INDEX, sorted, range),
            };
            self.u32(element);
            self.u32(u32::from(sorted));
            self.size(range);
        }
        list
    }

    fn places(&mut self, places: &[Place]) -> List {
        let shapes: Vec<&[Size]> = places.iter().map(|p| p.dims.as_slice()).collect();
        let dims = self.dims(&shapes);
        let list = self.begin(places.len());
        for (place, dims) in places.iter().zip(dims) {
            let (memory, index, copy_of) = match place.from {
                WhereFrom::Input(k) => (runtime::INPUT, k, -1),
                WhereFrom::Weight(k) => (runtime::WEIGHT, k, -1),
                WhereFrom::Output(k) => (runtime::OUTPUT, k, -1),
                WhereFrom::Slot { memory, slot, copy_of } => {
                    (runtime::BOUND + memory as u32, slot, copy_of.map_or(-1, |k| k as i32))
                }
            };
            self.u32(memory);
            self.u32(index as u32);
            self.u32(dtype_code(place.dtype));
            self.u32(copy_of as u32);
            self.i64(place.dims.len() as i64);
            self.address(Target::Here(dims));
        }
        list
    }

    fn slots(&mut self, memories: &Memories) -> (List, List) {
        let members = self.begin(memories.slots.iter().map(|s| s.members.len()).sum());
        for slot in &memories.slots {
            for member in &slot.members {
                self.i64(*member as i64);
            }
        }
        let slots = self.begin(memories.slots.len());
        let mut first = 0;
        for slot in &memories.slots {
            self.u32(runtime::BOUND + slot.memory as u32);
            self.u32(0);
            self.i64(first);
            self.i64(slot.members.len() as i64);
            first += slot.members.len() as i64;
        }
        (slots, members)
    }

    fn kernels(&mut self, program: &Program, symbols: &[String], stage: Stage) -> List {
        let chosen: Vec<&String> =
            program.kernels.iter().zip(symbols).filter(|(k, _)| k.stage == stage).map(|(_, s)| s).collect();
        let list = self.begin(chosen.len());
        for symbol in chosen {
            self.address(Target::Symbol(symbol.clone()));
        }
        list
    }
}

fn dtype_code(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::F32 => runtime::F32,
        Dtype::F64 => runtime::F64,
        Dtype::I32 => runtime::I32,
        Dtype::I64 => runtime::I64,
    }
}

/// The model's part of its symbols: lower case, what C does not allow left out.
pub(super) fn symbol_name(model: &str) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    model.chars().map(clean).collect()
}

/// The symbol of a model's table.
fn model_symbol(model: &str) -> String {
    format!("gdl_{}_model", symbol_name(model))
}

/// What TVM-FFI looks for: the entry `tvm` of a model.
fn tvm_symbol(name: &str) -> String {
    format!("__tvm_ffi_{name}")
}

/// The exported symbols, in order.
pub(super) fn exports(model: &str) -> Vec<String> {
    let name = symbol_name(model);
    let entries = ENTRIES.iter().chain(&HOSTS).map(|(entry, _)| format!("gdl_{name}_{entry}"));
    [format!("gdl_{name}_query"), tvm_symbol(&name)].into_iter().chain(entries).collect()
}

/// What an object needs to know of a program's outside.
pub(super) struct Description<'a> {
    pub program: &'a Program,
    pub interface: &'a Interface,
    pub memories: &'a Memories,
    /// The kernels' symbols, in the program's order.
    pub kernels: &'a [String],
    /// Tells this model's memories from others'.
    pub hash: u64,
    /// What the code needs of a processor, as the runtime counts it.
    pub features: u64,
    /// The code for GPUs.
    pub device: Option<&'a Device>,
    /// The names of the models of its derivatives, in the same library.
    pub vjp: Option<&'a str>,
    pub jvp: Option<&'a str>,
    pub passes: [Option<&'a str>; 2],
    /// Whether it is the library's first model.
    pub first: bool,
}

/// The object with the table and the entry points.
pub(super) fn object(machine: &dyn Machine, d: &Description<'_>) -> Vec<u8> {
    let mut table = Table { bytes: Vec::new(), fixes: Vec::new(), strings: Vec::new() };
    let model = model(&mut table, d);
    let mut object = Object::new(BinaryFormat::Elf, machine.architecture(), Endianness::Little);
    let strings = object.section_id(StandardSection::ReadOnlyData);
    let data = object.section_id(StandardSection::ReadOnlyDataWithRel);
    object.append_section_data(strings, &table.strings, 16);
    object.append_section_data(data, &table.bytes, 8);
    let (strings, data) = (object.section_symbol(strings), object.section_symbol(data));
    let name = symbol_name(&d.interface.name);
    entry_points(machine, &mut object, (data, model), &name);
    also_called(&mut object, &format!("gdl_{name}_tvm"), &tvm_symbol(&name));
    if d.first {
        also_called(&mut object, &format!("gdl_{name}_onnx"), REGISTER);
    }
    let section = object.section_id(StandardSection::ReadOnlyDataWithRel);
    let own = named(&mut object, &model_symbol(&d.interface.name));
    let own = object.symbol_mut(own);
    (own.section, own.value, own.scope) = (SymbolSection::Section(section), model as u64, SymbolScope::Linkage);
    for (offset, target) in table.fixes {
        let (symbol, addend) = match target {
            Target::Here(at) => (data, at as i64),
            Target::Text(at) => (strings, at as i64),
            Target::Symbol(name) => (named(&mut object, &name), 0),
        };
        relocate(&mut object, section, offset, symbol, addend, machine.loader().absolute);
    }
    object.write().expect("tables: the object can be written")
}

/// Gives an entry a second name.
fn also_called(object: &mut Object<'_>, entry: &str, name: &str) {
    let entry = named(object, entry);
    let (section, value) = (object.symbol(entry).section, object.symbol(entry).value);
    let second = named(object, name);
    let second = object.symbol_mut(second);
    (second.section, second.value, second.scope) = (section, value, SymbolScope::Linkage);
}

fn relocate(
    object: &mut Object<'_>,
    section: object::write::SectionId,
    offset: usize,
    symbol: SymbolId,
    addend: i64,
    r_type: elf::RelocationType,
) {
    let flags = RelocationFlags::Elf { r_type };
    object
        .add_relocation(section, Relocation { offset: offset as u64, symbol, addend, flags })
        .expect("tables: a relocation of ELF");
}

/// A function defined elsewhere, or here already.
fn named(object: &mut Object<'_>, name: &str) -> SymbolId {
    if let Some(id) = object.symbol_id(name.as_bytes()) {
        return id;
    }
    object.add_symbol(Symbol {
        name: name.as_bytes().to_vec(),
        value: 0,
        size: 0,
        kind: SymbolKind::Text,
        scope: SymbolScope::Unknown,
        weak: false,
        section: SymbolSection::Undefined,
        flags: SymbolFlags::None,
    })
}

/// Writes the model, its lists first; its offset.
fn model(t: &mut Table, d: &Description<'_>) -> usize {
    let i = d.interface;
    let names = t.begin(i.sizes.len());
    for (_, info) in i.sizes.iter() {
        t.text(&info.name);
    }
    let (inputs, weights, outputs) = (t.tensors(&i.inputs), t.tensors(&i.weights), t.tensors(&i.outputs));
    let facts = t.begin(i.facts.len());
    for (key, value) in &i.facts {
        t.text(key);
        t.text(value);
    }
    let preconditions = t.begin(i.sizes.preconditions.len());
    for p in &i.sizes.preconditions {
        t.size(p.size);
        t.i64(p.modulus as i64);
        t.text(&p.reason);
    }
    let places = t.places(&d.memories.places);
    let (slots, members) = t.slots(d.memories);
    let [bind, prepare, call] =
        [Stage::Bind, Stage::Prepare, Stage::Call].map(|stage| t.kernels(d.program, d.kernels, stage));
    let device = d.device.map(|device| device_part(t, device));
    let at = t.begin(1).at;
    t.u32(runtime::VERSION);
    t.u32(dtype_code(i.dtype));
    t.text(&i.name);
    for list in [names, inputs, weights, outputs, facts] {
        t.list(list);
    }
    let name = symbol_name(&i.name);
    for (entry, _) in ENTRIES {
        t.address(Target::Symbol(format!("gdl_{name}_{entry}")));
    }
    for model in [d.vjp, d.jvp].into_iter().chain(d.passes) {
        match model {
            Some(name) => t.address(Target::Symbol(model_symbol(name))),
            None => t.i64(0),
        }
    }
    for list in [preconditions, places, slots, members, bind, prepare, call] {
        t.list(list);
    }
    t.i64(d.hash as i64);
    t.i64(d.features as i64);
    match device {
        Some(at) => t.address(Target::Here(at)),
        None => t.i64(0),
    }
    at
}

/// Writes what the runtime needs to launch the model's kernels on a GPU; its offset.
fn device_part(t: &mut Table, device: &Device) -> usize {
    let [prepare, call] = [Stage::Prepare, Stage::Call].map(|stage| t.launches(device, stage));
    let cubins = t.begin(device.cubins.len());
    for (architecture, code) in &device.cubins {
        t.i64(i64::from(architecture.0));
        t.blob(code);
    }
    let at = t.begin(1).at;
    t.text(&device.code.ptx);
    t.i64(i64::from(device.architecture.0));
    for list in [cubins, prepare, call] {
        t.list(list);
    }
    for entry in ["memory", "bind", "prepare", "call", "run"] {
        t.address(Target::Symbol(format!("gdl_rt_cuda_{entry}")));
    }
    at
}

/// `query` returns the model; every other entry adds it as the last argument and goes to the runtime.
fn entry_points(machine: &dyn Machine, object: &mut Object<'_>, (data, model): (SymbolId, usize), name: &str) {
    let text = object.section_id(StandardSection::Text);
    let mut define = |entry: &str, code: machine::Code| {
        let symbol = named(object, &format!("gdl_{name}_{entry}"));
        let at = object.append_section_data(text, &code.bytes, 16);
        object.symbol_mut(symbol).section = SymbolSection::Section(text);
        object.symbol_mut(symbol).value = at;
        object.symbol_mut(symbol).scope = SymbolScope::Linkage;
        for fix in code.fixes {
            let (to, addend) = match fix.symbol {
                machine::Symbol::Model => (data, model as i64 + fix.addend),
                machine::Symbol::Target => (named(object, &format!("gdl_rt_{entry}")), fix.addend),
            };
            relocate(object, text, (at + fix.offset) as usize, to, addend, fix.kind);
        }
    };
    define("query", machine.query());
    for (entry, before) in ENTRIES.into_iter().chain(HOSTS) {
        define(entry, machine.entry(before));
    }
}
