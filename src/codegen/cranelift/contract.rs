//! The dense kernel: the runtime drives it, and calls back for the rows' addresses and to finish tiles.

use cranelift_codegen::ir::{InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, Value, types};

use super::emit::{Emitter, Threads};
use super::memory::Address;
use super::value::{Affine, Val};
use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::codegen::Unsupported;
use crate::codegen::destination::{Destination, destination};
use crate::codegen::runtime::TILE_ROW_BYTES;
use crate::kernel::ir::{Access, Contraction, Expr, Softmax};

/// Taps whose addresses are written out one by one, their offsets known.
const UNROLLED_TAPS: usize = 64;
/// Addresses the runtime's table holds.
const MOST_TAPS: usize = 4096;

impl<'p> Emitter<'_, '_, 'p> {
    pub(super) fn contract(&mut self, c: &'p Contraction) -> Result<(), Unsupported> {
        if self.lanes > 1 {
            return Err(Unsupported::new(format!("a contraction inside lanes, in `{}`", self.kernel.name)));
        }
        if c.taps > MOST_TAPS {
            return Err(Unsupported::new(format!("a contraction of {} taps, above {MOST_TAPS}", c.taps)));
        }
        let used = self.facts.used_by_contraction(self.kernel, c);
        let destination = destination(self.unit.program, self.kernel, c);
        let takes_all = destination.as_ref().is_some_and(|to| to.takes_all(c));
        let (record, captures) = self.capture(&used.vars, &used.locals);
        let rows = self.outline(4, &captures, |e, params| e.rows(c, params))?;
        let epilogue = match takes_all {
            true => None,
            false => Some(self.outline(6, &captures, |e, params| e.epilogue(c, params))?),
        };
        let m_extent = self.whole(c.m_extent)?;
        let mut packed = self.base(c.packed);
        if let Some(part) = c.part {
            let part = self.whole(part)?;
            let bytes = (c.packed_len() * self.unit.program.dtype.bytes()) as i64;
            let offset = self.b.ins().imul_imm_s(part, bytes);
            packed = self.b.ins().iadd(packed, offset);
        }
        let f64s = self.unit.program.dtype == Dtype::F64;
        let known = [
            c.n_extent as i64,
            c.taps as i64,
            c.k_extent as i64,
            c.a_stride,
            i64::from(f64s),
            i64::from(c.guard.is_some()),
            i64::from(self.threads == Threads::Free),
            c.beside as i64,
        ];
        let mut words: Vec<Value> = vec![m_extent];
        for k in known {
            words.push(self.iconst(k));
        }
        let epilogue = match epilogue {
            Some(epilogue) => self.function_address(epilogue),
            None => self.iconst(0),
        };
        words.extend([packed, self.function_address(rows), epilogue, record]);
        words.extend(self.first_sum(c, destination)?);
        let contract = self.words(words);
        let context = self.context();
        let callee = self.unit.contract;
        self.call(callee, &[context, contract]);
        Ok(())
    }

    pub(super) fn softmax(&mut self, s: &'p Softmax) -> Result<(), Unsupported> {
        if self.lanes > 1 {
            return Err(Unsupported::new(format!("a softmax inside lanes, in `{}`", self.kernel.name)));
        }
        let (rows, count) = (self.whole(s.rows)?, self.whole(s.count)?);
        let columns = self.unit.program.buffers[s.scores].shape[1].as_fixed().expect("cranelift: a local");
        let double = i64::from(self.unit.program.dtype == Dtype::F64);
        let mut words = vec![rows, self.iconst(columns as i64), count, self.iconst(double)];
        words.extend(s.buffers().map(|buffer| self.base(buffer)));
        let step = self.words(words);
        let context = self.context();
        let callee = self.unit.softmax;
        self.call(callee, &[context, step]);
        Ok(())
    }

    /// The address of some words on the stack.
    fn words(&mut self, words: Vec<Value>) -> Value {
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, 8 * words.len() as u32, 3);
        let slot = self.b.create_sized_stack_slot(data);
        let address = self.b.ins().stack_addr(types::I64, slot, 0);
        for (at, v) in words.into_iter().enumerate() {
            self.b.ins().store(MemFlagsData::trusted(), v, address, 8 * at as i32);
        }
        address
    }

    /// Where the first sum goes, the numbers between rows, and whether sums are stored as they are; null where that is not known.
    fn first_sum(&mut self, c: &Contraction, destination: Option<Destination>) -> Result<[Value; 3], Unsupported> {
        let Some(destination) = destination else {
            return Ok([0; 3].map(|zero| self.iconst(zero)));
        };
        self.memo.clear();
        self.vars.extend([c.m, c.n].map(|var| (var, Val::Int(Affine::constant(0)))));
        for (var, value) in destination.values {
            let value = self.expr(value)?;
            self.vars.insert(var, value);
        }
        let first = self.single_address(&destination.to)?;
        self.memo.clear();
        Ok([first, self.iconst(destination.row), self.iconst(i64::from(destination.unchanged))])
    }

    /// An index that is the same for all lanes.
    fn whole(&mut self, index: Id<Expr>) -> Result<Value, Unsupported> {
        match self.expr(index)? {
            Val::Int(a) if a.lane == 0 => Ok(self.uniform(a)),
            _ => panic!("cranelift: an index of a contraction differs between lanes"),
        }
    }

    /// Values of the row.
    fn row(&mut self, c: &'p Contraction, m: Affine) -> Result<(), Unsupported> {
        self.memo.clear();
        self.vars.insert(c.m, Val::Int(m));
        for (var, value) in &c.row {
            let value = self.expr(*value)?;
            self.vars.insert(*var, value);
        }
        Ok(())
    }

    /// `rows(record, m, count, table)`
    fn rows(&mut self, c: &'p Contraction, params: &[Value]) -> Result<(), Unsupported> {
        let (m, count, table) = (params[1], params[2], params[3]);
        self.vars.insert(c.k, Val::Int(Affine::constant(0)));
        self.counted(Affine::constant(0), Affine::value(count), 1, &mut |e, r| {
            let at = e.add_affine(Affine::value(m), r);
            let at = e.uniform(at);
            e.row(c, Affine::value(at))?;
            let offset = e.scale_affine(r, 8 * c.taps as i64);
            let line = e.add_affine(Affine::value(table), offset);
            let line = e.uniform(line);
            if c.taps <= UNROLLED_TAPS {
                for tap in 0..c.taps as i64 {
                    e.tap(c, Affine::constant(tap), line)?;
                }
                return Ok(());
            }
            let taps = Affine::constant(c.taps as i64);
            e.counted(Affine::constant(0), taps, 1, &mut |e, tap| e.tap(c, tap, line))
        })
    }

    /// Writes the address of one row at one tap.
    fn tap(&mut self, c: &'p Contraction, tap: Affine, line: Value) -> Result<(), Unsupported> {
        self.memo.clear();
        self.vars.insert(c.tap, Val::Int(tap));
        let inside = match c.guard {
            None => Val::Known(true),
            Some(guard) => self.expr(guard)?,
        };
        let zero = self.iconst(0);
        let address = match inside {
            Val::Known(false) => zero,
            Val::Known(true) => self.single_address(&c.a)?,
            Val::Bool(inside) => {
                // Loads that the address itself needs are not made outside.
                let held = self.guard.replace(Val::Bool(inside));
                self.n_guards += 1;
                let number = std::mem::replace(&mut self.guard_number, self.n_guards);
                let address = self.single_address(&c.a)?;
                (self.guard, self.guard_number) = (held, number);
                self.b.ins().select(inside, address, zero)
            }
            _ => panic!("cranelift: a guard is a condition"),
        };
        let offset = self.scale_affine(tap, 8);
        let to = self.add_affine(Affine::value(line), Affine { k: 0, ..offset });
        let to = self.uniform(to);
        self.b.ins().store(MemFlagsData::trusted(), address, to, offset.k as i32);
        Ok(())
    }

    /// The address of one number.
    fn single_address(&mut self, access: &Access) -> Result<Value, Unsupported> {
        match self.address(access)? {
            Address::Same { base, disp } => Ok(self.uniform(Affine { base: Some(base), k: i64::from(disp), lane: 0 })),
            Address::Next { .. } | Address::Each(_) => panic!("cranelift: outside of lanes an address is one"),
        }
    }

    /// `epilogue(record, m, count, n, width, tile)`
    fn epilogue(&mut self, c: &'p Contraction, params: &[Value]) -> Result<(), Unsupported> {
        let (m, count, n, width, tile) = (params[1], params[2], params[3], params[4], params[5]);
        let lanes = if self.facts.runs_in_lanes(self.kernel, c.n, &c.epilogue) { self.width(&c.epilogue) } else { 1 };
        self.counted(Affine::constant(0), Affine::value(count), 1, &mut |e, r| {
            let at = e.add_affine(Affine::value(m), r);
            let at = e.uniform(at);
            e.row(c, Affine::value(at))?;
            let offset = e.scale_affine(r, TILE_ROW_BYTES);
            let line = e.add_affine(Affine::value(tile), offset);
            let line = e.uniform(line);
            let mut element = |e: &mut Self, j: Affine| {
                e.memo.clear();
                let column = e.add_affine(Affine::value(n), j);
                e.vars.insert(c.n, Val::Int(column));
                let acc = e.tile_element(line, j);
                e.vars.insert(c.acc, acc);
                e.body(&c.epilogue)
            };
            if c.n_extent % c.panel != 0 {
                return e.in_lanes(Affine::constant(0), Affine::value(width), lanes, &mut element);
            }
            // panels that are full are loops of a known length
            let panel = c.panel as i64;
            e.counted(Affine::constant(0), Affine::value(width), panel, &mut |e, first| {
                e.in_lanes(Affine::constant(0), Affine::constant(panel), lanes, &mut |e, j| {
                    let j = e.add_affine(first, j);
                    element(e, j)
                })
            })
        })
    }
}
