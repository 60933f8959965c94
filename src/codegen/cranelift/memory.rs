//! Loads and stores: the address of an access, and how it moves from lane to lane.
//! Same address: one load for all lanes; the next element: a vector; anything else: lane by lane.

use cranelift_codegen::ir::{InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, Type, Value, types};
use cranelift_module::Module;

use super::emit::Emitter;
use super::local::Local;
use super::value::{Affine, Val};
use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::codegen::Unsupported;
use crate::kernel::address::{Walk, walks};
use crate::kernel::ir::{Access, Binary, Buffer, Expr, Memory};

/// Bytes that the safe memory has: a guarded load of all lanes stays inside.
const SAFE_BYTES: u32 = 256;

/// Where lanes read or write.
pub(super) enum Address {
    /// `base + disp` in every lane.
    Same { base: Value, disp: i32 },
    /// `base + disp + lane · size`.
    Next { base: Value, disp: i32 },
    /// An address a lane.
    Each(Vec<Value>),
}

/// The elements that lanes take turns at: one for all, or one a lane.
pub(super) enum Turns {
    Register,
    Memory(Address),
}

impl Emitter<'_, '_, '_> {
    /// A word of the frame: never changes while the function runs.
    pub(super) fn frame_word(&mut self, offset: i32) -> Value {
        let flags = MemFlagsData::trusted().with_readonly().with_can_move();
        self.b.ins().load(types::I64, flags, self.frame, offset)
    }

    /// The context, first word of the frame.
    pub(super) fn context(&mut self) -> Value {
        self.frame_word(0)
    }

    fn flags() -> MemFlagsData {
        MemFlagsData::new().with_notrap()
    }

    fn dtype(&self, buffer: Id<Buffer>) -> Dtype {
        self.unit.program.buffers[buffer].dtype
    }

    fn element(dtype: Dtype) -> Type {
        match dtype {
            Dtype::F32 => types::F32,
            Dtype::F64 => types::F64,
            Dtype::I32 => types::I32,
            Dtype::I64 => types::I64,
        }
    }

    /// Where a buffer begins.
    pub(super) fn base(&mut self, buffer: Id<Buffer>) -> Value {
        match &self.unit.program.buffers[buffer].memory {
            Memory::Constant(_) => {
                let data = self.unit.constant(buffer);
                let global = self.unit.module.declare_data_in_func(data, self.b.func);
                self.b.ins().symbol_value(types::I64, global)
            }
            Memory::Local => match self.locals.get(&buffer) {
                Some(Local::Memory { address, .. }) => *address,
                _ => panic!("cranelift: a local in registers has no address"),
            },
            Memory::Input(_)
            | Memory::Weight(_)
            | Memory::Output(_)
            | Memory::Bound
            | Memory::Prepared
            | Memory::Workspace => {
                let offset = self.unit.frame.buffer_offset(buffer).expect("cranelift: the buffer has a word");
                self.frame_word(offset)
            }
        }
    }

    /// The address of an access, for all lanes.
    pub(super) fn address(&mut self, access: &Access) -> Result<Address, Unsupported> {
        let offset = self.offset(access)?;
        let base = self.base(access.buffer);
        let size = self.dtype(access.buffer).bytes() as i64;
        let inner = match self.locals.get(&access.buffer) {
            Some(Local::Memory { lanes, .. }) => *lanes as i64,
            _ => 1,
        };
        Ok(match offset {
            // An array of each lane: an element's lanes lie side by side.
            Val::Int(a) if inner > 1 && a.lane == 0 => {
                let at = self.scale_affine(a, inner);
                let (base, disp) = self.place(base, at, size);
                Address::Next { base, disp }
            }
            Val::Int(a) if inner == 1 && a.lane == 0 => {
                let (base, disp) = self.place(base, a, size);
                Address::Same { base, disp }
            }
            Val::Int(a) if inner == 1 && a.lane == 1 => {
                let (base, disp) = self.place(base, Affine { lane: 0, ..a }, size);
                Address::Next { base, disp }
            }
            other => {
                let offsets = self.each_lane(&other);
                let mut all = Vec::new();
                for (lane, offset) in offsets.into_iter().enumerate() {
                    let at = self.scale_affine(Affine::value(offset), size * inner);
                    let own = if inner > 1 { lane as i64 * size } else { 0 };
                    let whole = self.add_affine(at, Affine { base: Some(base), k: own, lane: 0 });
                    all.push(self.uniform(whole));
                }
                Address::Each(all)
            }
        })
    }

    /// `base + offset · size`, its constant part apart where it fits.
    fn place(&mut self, base: Value, offset: Affine, size: i64) -> (Value, i32) {
        let bytes = self.scale_affine(offset, size);
        match i32::try_from(bytes.k) {
            Ok(disp) => {
                let base = bytes.base.map_or(base, |v| self.b.ins().iadd(base, v));
                (base, disp)
            }
            Err(_) => {
                let v = self.uniform(bytes);
                (self.b.ins().iadd(base, v), 0)
            }
        }
    }

    /// The row-major position of an access.
    pub(super) fn offset(&mut self, access: &Access) -> Result<Val, Unsupported> {
        let mut at = Val::Int(Affine::constant(0));
        for Walk { dims, index } in walks(self.unit.program, self.kernel, access, 0) {
            for dim in dims {
                let dim = self.size(dim);
                at = self.binary(Binary::Mul, &at, &Val::Int(dim))?;
            }
            let index = self.expr(index)?;
            at = self.binary(Binary::Add, &at, &index)?;
        }
        Ok(at)
    }

    /// The value of an element.
    pub(super) fn load(&mut self, access: &Access) -> Result<Val, Unsupported> {
        if let Some(Local::Registers { .. }) = self.locals.get(&access.buffer) {
            let element = self.known_element(access)?;
            return Ok(self.read_register(access.buffer, element));
        }
        let address = self.address(access)?;
        let dtype = self.dtype(access.buffer);
        let address = match self.guard.clone() {
            None | Some(Val::Known(true)) => address,
            Some(guard) => self.made_safe(address, &guard, dtype),
        };
        Ok(self.load_at(&address, dtype))
    }

    /// Addresses that may be read even where the guard is false.
    fn made_safe(&mut self, address: Address, guard: &Val, dtype: Dtype) -> Address {
        let slot = *self.safe.get_or_insert_with(|| {
            let data = StackSlotData::new(StackSlotKind::ExplicitSlot, SAFE_BYTES, 4);
            self.b.create_sized_stack_slot(data)
        });
        let safe = self.b.ins().stack_addr(types::I64, slot, 0);
        if let Val::Known(_) = guard {
            return Address::Same { base: safe, disp: 0 };
        }
        if let Val::Bool(c) = guard {
            let moved = |e: &mut Self, base: Value, disp: i32| {
                let disp = e.iconst(disp.into());
                let at = e.b.ins().iadd(base, disp);
                e.b.ins().select(*c, at, safe)
            };
            return match address {
                Address::Same { base, disp } => Address::Same { base: moved(self, base, disp), disp: 0 },
                Address::Next { base, disp } => Address::Next { base: moved(self, base, disp), disp: 0 },
                Address::Each(all) => {
                    Address::Each(all.into_iter().map(|at| self.b.ins().select(*c, at, safe)).collect())
                }
            };
        }
        let (each, conds) = (self.addresses(&address, dtype), self.each_bool(guard));
        Address::Each(each.into_iter().zip(conds).map(|(at, c)| self.b.ins().select(c, at, safe)).collect())
    }

    /// The address of every lane.
    pub(super) fn addresses(&mut self, address: &Address, dtype: Dtype) -> Vec<Value> {
        let step = match address {
            Address::Each(all) => return all.clone(),
            Address::Same { .. } => 0,
            Address::Next { .. } => dtype.bytes() as i64,
        };
        let (Address::Same { base, disp } | Address::Next { base, disp }) = address else {
            panic!("cranelift: returned above")
        };
        (0..self.lanes as i64)
            .map(|lane| self.uniform(Affine { base: Some(*base), k: i64::from(*disp) + lane * step, lane: 0 }))
            .collect()
    }

    /// A vector from any address. What is cast is no operand that an instruction reads from memory itself.
    fn load_vector(&mut self, base: Value, disp: i32) -> Value {
        let cast = self.unit.aligned_operands;
        let ty = if cast { self.mask_type() } else { self.vector_type() };
        let v = self.b.ins().load(ty, Self::flags(), base, disp);
        let ty = self.vector_type();
        self.cast(ty, v)
    }

    fn load_at(&mut self, address: &Address, dtype: Dtype) -> Val {
        let float = dtype.is_float();
        match address {
            Address::Same { base, disp } => {
                let v = self.load_one(dtype, *base, *disp);
                if float { Val::Real(v) } else { Val::Int(Affine::value(v)) }
            }
            Address::Next { base, disp } if float && self.lanes > 1 => {
                let n = self.lanes / self.per_vector();
                Val::Reals((0..n as i32).map(|i| self.load_vector(*base, *disp + 16 * i)).collect())
            }
            _ => {
                let each = self.addresses(address, dtype);
                let lanes: Vec<Value> = each.into_iter().map(|at| self.load_one(dtype, at, 0)).collect();
                if float { self.from_lanes(&lanes) } else { self.ints_from(lanes) }
            }
        }
    }

    fn ints_from(&mut self, lanes: Vec<Value>) -> Val {
        if lanes.len() == 1 { Val::Int(Affine::value(lanes[0])) } else { Val::Ints(lanes) }
    }

    fn load_one(&mut self, dtype: Dtype, base: Value, disp: i32) -> Value {
        let v = self.b.ins().load(Self::element(dtype), Self::flags(), base, disp);
        if dtype == Dtype::I32 { self.b.ins().sextend(types::I64, v) } else { v }
    }

    fn store_one(&mut self, dtype: Dtype, v: Value, base: Value, disp: i32) {
        let v = if dtype == Dtype::I32 { self.b.ins().ireduce(types::I32, v) } else { v };
        self.b.ins().store(Self::flags(), v, base, disp);
    }

    /// A vector to an address.
    pub(super) fn store_vector(&mut self, v: Value, base: Value, disp: i32) {
        self.b.ins().store(Self::flags(), v, base, disp);
    }

    /// `to = value`; where all lanes write one element, the last one's value stays.
    pub(super) fn store(&mut self, to: &Access, value: &Val) -> Result<(), Unsupported> {
        if let Some(Local::Registers { lanes, .. }) = self.locals.get(&to.buffer) {
            let shared = *lanes < self.lanes;
            let element = self.known_element(to)?;
            let value = if shared { self.last_lane(value) } else { value.clone() };
            self.write_register(to.buffer, element, &value);
            return Ok(());
        }
        let address = self.address(to)?;
        let dtype = self.dtype(to.buffer);
        match &address {
            Address::Same { base, disp } => {
                let last = match self.last_lane(value) {
                    Val::Real(v) => v,
                    Val::Int(a) => self.uniform(a),
                    _ => panic!("cranelift: a number was expected"),
                };
                self.store_one(dtype, last, *base, *disp);
            }
            Address::Next { base, disp } if dtype.is_float() && self.lanes > 1 => {
                for (i, v) in self.vectors(value).into_iter().enumerate() {
                    self.b.ins().store(Self::flags(), v, *base, *disp + 16 * i as i32);
                }
            }
            Address::Next { .. } | Address::Each(_) => {
                let each = self.addresses(&address, dtype);
                let values = if dtype.is_float() { self.each_real(value) } else { self.each_lane(value) };
                for (at, v) in each.into_iter().zip(values) {
                    self.store_one(dtype, v, at, 0);
                }
            }
        }
        Ok(())
    }

    fn last_lane(&mut self, value: &Val) -> Val {
        match value {
            Val::Real(_) => value.clone(),
            Val::Int(a) => Val::Int(Affine { base: a.base, k: a.k + a.lane * (self.lanes as i64 - 1), lane: 0 }),
            Val::Reals(vs) => {
                let last = *vs.last().expect("cranelift: lanes");
                let lane = self.per_vector() as u8 - 1;
                Val::Real(self.b.ins().extractlane(last, lane))
            }
            Val::Ints(vs) => Val::Int(Affine::value(*vs.last().expect("cranelift: lanes"))),
            Val::Bool(_) | Val::Known(_) | Val::Mask(_) => panic!("cranelift: conditions are not stored"),
        }
    }

    /// How lanes that may meet in one element of an accumulation take turns; nothing where each lane has its own, side by side.
    pub(super) fn turns(&mut self, to: &Access) -> Result<Option<Turns>, Unsupported> {
        if let Some(Local::Registers { lanes, .. }) = self.locals.get(&to.buffer) {
            return Ok((*lanes < self.lanes).then_some(Turns::Register));
        }
        let address = self.address(to)?;
        Ok(match address {
            Address::Next { .. } => None,
            Address::Same { .. } | Address::Each(_) => Some(Turns::Memory(address)),
        })
    }

    pub(super) fn load_turn(&mut self, to: &Access, turns: &Turns, lane: usize) -> Val {
        match turns {
            Turns::Register => {
                let element = self.known_element(to).expect("cranelift: a register's index is known");
                self.read_register(to.buffer, element)
            }
            Turns::Memory(address) => {
                let at = Self::turn_address(address, lane);
                self.load_at(&at, self.dtype(to.buffer))
            }
        }
    }

    pub(super) fn store_turn(&mut self, to: &Access, turns: &Turns, lane: usize, value: &Val) {
        match turns {
            Turns::Register => {
                let element = self.known_element(to).expect("cranelift: a register's index is known");
                self.write_register(to.buffer, element, value);
            }
            Turns::Memory(address) => {
                let Address::Same { base, disp } = Self::turn_address(address, lane) else {
                    panic!("cranelift: one lane's address")
                };
                let v = match value {
                    Val::Real(v) => *v,
                    Val::Int(a) => self.uniform(*a),
                    _ => panic!("cranelift: a number was expected"),
                };
                self.store_one(self.dtype(to.buffer), v, base, disp);
            }
        }
    }

    fn turn_address(address: &Address, lane: usize) -> Address {
        match address {
            Address::Same { base, disp } => Address::Same { base: *base, disp: *disp },
            Address::Each(all) => Address::Same { base: all[lane], disp: 0 },
            Address::Next { .. } => panic!("cranelift: lanes side by side need no turns"),
        }
    }

    /// The element of an access whose indices are all known now.
    fn known_element(&mut self, access: &Access) -> Result<usize, Unsupported> {
        let _: &[Id<Expr>] = &access.index;
        match self.offset(access)? {
            Val::Int(a) if a.known().is_some() => Ok(a.k as usize),
            _ => panic!("cranelift: a local in registers is indexed by numbers"),
        }
    }
}

impl Emitter<'_, '_, '_> {
    /// Numbers of a tile's row, from column `j`.
    pub(super) fn tile_element(&mut self, line: Value, j: Affine) -> Val {
        let dtype = self.unit.program.dtype;
        let (base, disp) = self.place(line, Affine { lane: 0, ..j }, dtype.bytes() as i64);
        let address = if j.lane == 0 { Address::Same { base, disp } } else { Address::Next { base, disp } };
        self.load_at(&address, dtype)
    }
}
