//! Loads and stores: where an access is, and how that moves from lane to lane.
//! Same address: one load for all lanes; the next element: a vector; anything else: a gather or a scatter.

use super::emit::Emitter;
use super::text::{BYTE, I64, POINTER, Scalar, Type, Value};
use super::unit::scalar;
use super::value::{Affine, Val};
use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::codegen::Unsupported;
use crate::kernel::address::{Walk, walks};
use crate::kernel::ir::{Access, Binary, Buffer, Memory};

/// Bytes that the safe memory has: a guarded load of all lanes stays inside.
const SAFE_BYTES: usize = 1024;

/// An element of a buffer, or one for each lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    buffer: Option<Id<Buffer>>,
    dtype: Dtype,
    at: At,
    /// Memory that lanes which do not run have as well.
    own: bool,
    /// What is known of the address, in bytes.
    align: usize,
}

/// Where lanes read or write.
#[derive(Clone, Copy, Debug)]
enum At {
    /// All at one address.
    Same(Value),
    /// Side by side from an address.
    Next(Value),
    /// An address a lane.
    Each(Value),
}

impl Place {
    /// Whether all lanes are at one address.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.at, At::Same(_))
    }

    /// The address, where all lanes are at one.
    pub(super) fn address(&self) -> Option<Value> {
        if let At::Same(at) = self.at { Some(at) } else { None }
    }

    /// The addresses, where each lane has one that may be another's too.
    pub(super) fn each(&self) -> Option<Value> {
        if let At::Each(all) = self.at { Some(all) } else { None }
    }
}

impl Emitter<'_, '_> {
    /// A word of the frame: never changes while the function runs, and is read once at its start.
    fn word(&mut self, offset: i32, ty: Type) -> Value {
        if let Some(known) = self.words.get(&offset) {
            return *known;
        }
        if self.on_device() {
            let argument = Value::argument(ty, offset as u32 / 8);
            self.words.insert(offset, argument);
            return argument;
        }
        let at = self.f.at_entry(POINTER, format_args!("getelementptr i8, {}, i64 {offset}", self.frame.typed()));
        let range = if ty == I64 { ", !range !1" } else { "" };
        let load = format_args!("load {ty}, ptr {at}, align 8, !invariant.load !0{range}");
        let word = self.f.at_entry(ty, load);
        self.words.insert(offset, word);
        word
    }

    /// The context, first word of the frame.
    pub(super) fn context(&mut self) -> Value {
        self.word(0, POINTER)
    }

    /// A run-time size, as the frame has it.
    pub(super) fn size_word(&mut self, offset: i32) -> Value {
        self.word(offset, I64)
    }

    /// Where a buffer begins.
    pub(super) fn base(&mut self, buffer: Id<Buffer>) -> Value {
        match &self.unit.program.buffers[buffer].memory {
            Memory::Constant(_) => self.unit.constant(buffer, self.sharing.is_some()),
            Memory::Local => self.locals.get(&buffer).expect("llvm: the local exists").address,
            Memory::Input(_)
            | Memory::Weight(_)
            | Memory::Output(_)
            | Memory::Bound
            | Memory::Prepared
            | Memory::Workspace => {
                let offset = self.unit.frame.buffer_offset(buffer).expect("llvm: the buffer has a word");
                self.word(offset, POINTER)
            }
        }
    }

    /// Where an access is, for all lanes.
    pub(super) fn place(&mut self, access: &Access) -> Result<Place, Unsupported> {
        let offset = self.offset(access)?;
        let base = self.base(access.buffer);
        let dtype = self.unit.program.buffers[access.buffer].dtype;
        let inner = self.locals.get(&access.buffer).map_or(1, |local| local.lanes);
        let element = Type::new(scalar(dtype), 1);
        let at = match offset {
            // An array of each lane: an element's lanes lie side by side.
            Val::Int(a) if inner > 1 && a.lane == 0 => At::Next(self.moved(element.times(inner), base, a)),
            Val::Int(a) if inner == 1 && (a.lane == 0 || self.lanes == 1) => {
                At::Same(self.moved(element, base, a.first()))
            }
            Val::Int(a) if inner == 1 && a.lane == 1 => At::Next(self.moved(element, base, a.first())),
            Val::Int(a) if inner == 1 => {
                let first = self.moved(element, base, a.first());
                let steps = Value::ramp(I64.times(self.lanes), a.lane);
                At::Each(self.f.element(element, first, steps))
            }
            other => {
                let mut offsets = self.ints(&other);
                if inner > 1 {
                    offsets = self.f.binary("mul", offsets, Value::int(offsets.ty, inner as i64));
                    offsets = self.f.binary("add", offsets, Value::ramp(offsets.ty, 1));
                }
                At::Each(self.f.element(element, base, offsets))
            }
        };
        let align = self.shared_alignment(access).unwrap_or(dtype.bytes());
        Ok(Place { buffer: Some(access.buffer), dtype, at, own: inner > 1, align })
    }

    /// `base` moved by elements, the known part last.
    fn moved(&mut self, element: Type, base: Value, by: Affine) -> Value {
        let at = by.base.map_or(base, |v| self.f.element(element, base, v));
        if by.k == 0 { at } else { self.f.element(element, at, Value::int(I64, by.k)) }
    }

    /// The row-major position of an access.
    pub(super) fn offset(&mut self, access: &Access) -> Result<Val, Unsupported> {
        let mut at = Val::Int(Affine::constant(0));
        let part = usize::from(self.locals.get(&access.buffer).is_some_and(|local| local.by_thread));
        for Walk { dims, index } in walks(self.unit.program, self.kernel, access, part) {
            for dim in dims {
                let dim = self.size(dim);
                at = self.binary(Binary::Mul, &at, &Val::Int(dim))?;
            }
            let index = self.expr(index)?;
            at = self.binary(Binary::Add, &at, &index)?;
        }
        Ok(at)
    }

    /// What LLVM may assume of an access to a buffer.
    fn knowledge(&self, place: &Place) -> String {
        let Some(buffer) = place.buffer else { return String::new() };
        match self.scopes.get(&buffer) {
            Some(scope) => {
                let constant = self.sharing.as_ref().is_some_and(|sharing| sharing.constant.contains(&buffer));
                let constant = if constant { ", !invariant.load !0" } else { "" };
                format!(", !alias.scope !{}, !noalias !{}{constant}", scope.own, scope.others)
            }
            None => ", !invariant.load !0".to_string(),
        }
    }

    /// The value of an element.
    pub(super) fn load(&mut self, access: &Access) -> Result<Val, Unsupported> {
        if let Some(numbers) = self.load_rows(access)? {
            return Ok(numbers);
        }
        let place = self.place(access)?;
        Ok(self.load_place(&place))
    }

    /// Numbers of a buffer from an offset on, as many as what is stored or loaded there has.
    pub(super) fn side_by_side(&mut self, buffer: Id<Buffer>, from: Affine) -> Place {
        let dtype = self.unit.program.buffers[buffer].dtype;
        let base = self.base(buffer);
        let at = At::Next(self.moved(Type::new(scalar(dtype), 1), base, from));
        Place { buffer: Some(buffer), dtype, at, own: false, align: dtype.bytes() }
    }

    /// Floats from a place on, one a lane.
    pub(super) fn load_numbers(&mut self, place: &Place) -> Value {
        let At::Next(at) = place.at else { panic!("llvm: numbers side by side were expected") };
        self.plain_load(Type::new(scalar(place.dtype), self.lanes), at, place)
    }

    /// Floats from a place on, as many as there are.
    pub(super) fn store_numbers(&mut self, place: &Place, value: &Val) {
        let (At::Next(at), Val::Real(v) | Val::Reals(v)) = (place.at, value) else {
            panic!("llvm: numbers side by side were expected")
        };
        let (align, knowledge) = (self.align(place), self.knowledge(place));
        self.f.line(format_args!("store {}, ptr {at}, align {align}{knowledge}", v.typed()));
    }

    /// The value at a place, where the guard holds.
    pub(super) fn load_place(&mut self, place: &Place) -> Val {
        let element = Type::new(scalar(place.dtype), 1);
        let guard = self.guard_of(place);
        let v = match (place.at, guard) {
            (At::Same(at), Some(guard)) if self.on_device() => {
                let cond = self.one_bit(&guard);
                self.load_if(element, cond, |e| e.plain_load(element, at, place))
            }
            (At::Same(at), guard) => {
                let at = match guard {
                    None => at,
                    Some(Val::Mask(mask)) => {
                        let any = self.any(mask);
                        self.safe_unless(any, at)
                    }
                    Some(guard) => {
                        let one = self.one_bit(&guard);
                        self.safe_unless(one, at)
                    }
                };
                self.plain_load(element, at, place)
            }
            (At::Next(at), None) => self.plain_load(element.times(self.lanes), at, place),
            (At::Next(at), Some(Val::Mask(mask))) => self.masked_load(place, at, mask),
            (At::Next(at), Some(guard)) => {
                let one = self.one_bit(&guard);
                let at = self.safe_unless(one, at);
                self.plain_load(element.times(self.lanes), at, place)
            }
            (At::Each(all), guard) => {
                let mask = guard.map_or(self.always(), |guard| self.mask(&guard));
                self.gather(place, all, mask)
            }
        };
        if place.dtype.is_float() {
            return self.real_val(v);
        }
        let wide = self.f.cast("sext", v, Scalar::I64);
        self.int_val(wide)
    }

    /// The guard of a load; none where every lane may read.
    fn guard_of(&self, place: &Place) -> Option<Val> {
        match (&self.guard, self.tail) {
            (None | Some(Val::Known(true)), _) => None,
            // At least one lane of a tail runs.
            (Some(Val::Mask(mask)), Some(tail)) if *mask == tail.mask && (place.own || place.is_shared()) => None,
            (Some(guard), _) => Some(guard.clone()),
        }
    }

    fn one_bit(&mut self, guard: &Val) -> Value {
        match guard {
            Val::Known(known) => Value::int(Type::new(Scalar::Bit, 1), i64::from(*known)),
            Val::Bool(v) => *v,
            Val::Mask(_) | Val::Int(_) | Val::Ints(_) | Val::Real(_) | Val::Reals(_) => {
                panic!("llvm: one condition was expected")
            }
        }
    }

    fn any(&mut self, mask: Value) -> Value {
        if mask.ty.lanes == 1 {
            return mask;
        }
        let (ty, name) = (mask.ty, mask.ty.mangled());
        let bit = Type::new(Scalar::Bit, 1);
        self.f.value(bit, format_args!("call i1 @llvm.vector.reduce.or.{name}({ty} {mask})"))
    }

    /// An address that may be read even where the condition is false.
    fn safe_unless(&mut self, cond: Value, at: Value) -> Value {
        let safe = match self.safe {
            Some(safe) => safe,
            None => {
                let safe = self.f.at_entry(POINTER, format_args!("alloca [{SAFE_BYTES} x i8], align 64"));
                self.safe = Some(safe);
                safe
            }
        };
        self.f.select(cond, at, safe)
    }

    fn plain_load(&mut self, ty: Type, at: Value, place: &Place) -> Value {
        let (align, knowledge) = (self.align(place), self.knowledge(place));
        self.f.value(ty, format_args!("load {ty}, {}, align {align}{knowledge}", at.typed()))
    }

    fn align(&self, place: &Place) -> usize {
        match place.at {
            At::Next(_) if place.own => (place.dtype.bytes() * self.lanes).min(64),
            At::Same(_) => place.align,
            At::Next(_) | At::Each(_) => place.dtype.bytes(),
        }
    }

    fn masked_load(&mut self, place: &Place, at: Value, mask: Value) -> Value {
        let (align, knowledge) = (place.dtype.bytes(), self.knowledge(place));
        let ty = Type::new(scalar(place.dtype), self.lanes);
        let name = ty.mangled();
        self.f.value(
            ty,
            format_args!(
                "call {ty} @llvm.masked.load.{name}.p0(ptr align {align} {at}, {}, {ty} zeroinitializer){knowledge}",
                mask.typed()
            ),
        )
    }

    fn gather(&mut self, place: &Place, all: Value, mask: Value) -> Value {
        let (align, knowledge) = (place.dtype.bytes(), self.knowledge(place));
        let ty = Type::new(scalar(place.dtype), self.lanes);
        let (name, pointers) = (ty.mangled(), all.ty);
        self.f.value(
            ty,
            format_args!(
                "call {ty} @llvm.masked.gather.{name}.{}({pointers} align {align} {all}, {}, {ty} zeroinitializer){knowledge}",
                pointers.mangled(),
                mask.typed()
            ),
        )
    }

    /// `to = value`; where all lanes write one element, the last one's value stays.
    pub(super) fn store(&mut self, to: &Access, value: &Val) -> Result<(), Unsupported> {
        let place = self.place(to)?;
        self.store_place(&place, value);
        Ok(())
    }

    pub(super) fn store_place(&mut self, place: &Place, value: &Val) {
        if let (At::Same(_), true) = (place.at, self.lanes > 1) {
            let last = self.last_lane(value);
            return self.store_one_place(place, &last);
        }
        let v = self.bits_of(place, value);
        let own = place.own && matches!(place.at, At::Next(_));
        let mask = self.tail.filter(|_| !own).map(|tail| tail.mask);
        let (align, knowledge) = (self.align(place), self.knowledge(place));
        let (ty, name) = (v.ty, v.ty.mangled());
        match (place.at, mask) {
            (At::Same(at) | At::Next(at), None) => {
                self.f.line(format_args!("store {}, ptr {at}, align {align}{knowledge}", v.typed()));
            }
            (At::Same(at) | At::Next(at), Some(mask)) => self.f.line(format_args!(
                "call void @llvm.masked.store.{name}.p0({}, ptr align {align} {at}, {}){knowledge}",
                v.typed(),
                mask.typed()
            )),
            (At::Each(all), mask) => {
                let mask = mask.unwrap_or(self.always());
                let pointers = all.ty;
                self.f.line(format_args!(
                    "call void @llvm.masked.scatter.{name}.{}({ty} {v}, {pointers} align {align} {all}, {}){knowledge}",
                    pointers.mangled(),
                    mask.typed()
                ));
            }
        }
    }

    /// A value as memory holds it.
    fn bits_of(&mut self, place: &Place, value: &Val) -> Value {
        if place.dtype.is_float() {
            return self.all_reals(value);
        }
        let v = self.ints(value);
        self.f.cast("trunc", v, scalar(place.dtype))
    }

    /// A lane's place among those of all lanes.
    pub(super) fn one_of(&mut self, place: &Place, places: Value, lane: usize) -> Place {
        let at = self.f.extract(places, Value::int(I64, lane as i64));
        Place { at: At::Same(at), align: place.dtype.bytes(), ..*place }
    }

    /// One number, at one address.
    pub(super) fn load_one_place(&mut self, place: &Place) -> Val {
        let At::Same(at) = place.at else { panic!("llvm: one address was expected") };
        let v = self.plain_load(Type::new(scalar(place.dtype), 1), at, place);
        if place.dtype.is_float() {
            return Val::Real(v);
        }
        Val::Int(Affine::value(self.f.cast("sext", v, Scalar::I64)))
    }

    pub(super) fn store_one_place(&mut self, place: &Place, value: &Val) {
        let At::Same(at) = place.at else { panic!("llvm: one address was expected") };
        let v = match value {
            Val::Real(v) => *v,
            Val::Int(a) => {
                let v = self.uniform(*a);
                self.f.cast("trunc", v, scalar(place.dtype))
            }
            Val::Ints(_) | Val::Reals(_) | Val::Bool(_) | Val::Known(_) | Val::Mask(_) => {
                panic!("llvm: one number was expected")
            }
        };
        let (align, knowledge) = (place.align, self.knowledge(place));
        self.f.line(format_args!("store {}, ptr {at}, align {align}{knowledge}", v.typed()));
    }

    /// Numbers of a tile's row, from column `j`.
    pub(super) fn tile_element(&mut self, line: Value, j: Affine) -> Val {
        let dtype = self.unit.program.dtype;
        let at = self.moved(Type::new(self.real, 1), line, j.first());
        let at = if j.lane == 0 { At::Same(at) } else { At::Next(at) };
        self.load_place(&Place { buffer: None, dtype, at, own: false, align: dtype.bytes() })
    }

    /// The element of a buffer that is `k` elements after an address.
    pub(super) fn load_after(&mut self, buffer: Id<Buffer>, base: Value, k: usize) -> Value {
        let place = self.after(buffer, base, k);
        self.plain_load(Type::new(scalar(place.dtype), 1), place.address().expect("llvm: one address"), &place)
    }

    pub(super) fn store_after(&mut self, buffer: Id<Buffer>, base: Value, k: usize, value: Value) {
        let place = self.after(buffer, base, k);
        self.store_one_place(&place, &Val::Real(value));
    }

    fn after(&mut self, buffer: Id<Buffer>, base: Value, k: usize) -> Place {
        let dtype = self.unit.program.buffers[buffer].dtype;
        let at = At::Same(self.moved(Type::new(scalar(dtype), 1), base, Affine::constant(k as i64)));
        Place { buffer: Some(buffer), dtype, at, own: false, align: dtype.bytes() }
    }

    /// `base + offset` bytes.
    pub(super) fn bytes_after(&mut self, base: Value, offset: Affine) -> Value {
        self.moved(BYTE, base, offset)
    }
}
