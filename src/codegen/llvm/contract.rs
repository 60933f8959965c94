//! The dense kernel: the runtime drives it, and calls back for the rows' addresses and to finish tiles.

use super::emit::{Emitter, Threads};
use super::text::{BYTE, I64, POINTER, Value};
use super::value::{Affine, Val};
use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::codegen::Unsupported;
use crate::codegen::destination::{Destination, destination};
use crate::codegen::runtime::TILE_ROW_BYTES;
use crate::kernel::ir::{Contraction, Expr, Softmax};

/// Taps whose addresses are written out one by one, their offsets known.
const UNROLLED_TAPS: usize = 64;
/// Addresses the runtime's table holds.
const MOST_TAPS: usize = 4096;

/// An integer argument of a function.
fn argument(k: u32) -> Affine {
    Affine::value(Value::argument(I64, k))
}

impl<'p> Emitter<'_, 'p> {
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
        let rows = self.outline(&["ptr", "i64", "i64", "ptr"], &captures, |e| e.rows(c))?;
        let epilogue = match takes_all {
            true => Value::null(),
            false => self.outline(&["ptr", "i64", "i64", "i64", "i64", "ptr"], &captures, |e| e.epilogue(c))?,
        };
        let m_extent = self.whole(c.m_extent)?;
        let mut packed = self.base(c.packed);
        if let Some(part) = c.part {
            let part = self.whole(part)?;
            let bytes = (c.packed_len() * self.unit.program.dtype.bytes()) as i64;
            let offset = self.f.binary("mul", part, Value::int(I64, bytes));
            packed = self.f.element(BYTE, packed, offset);
        }
        let known = [
            c.n_extent as i64,
            c.taps as i64,
            c.k_extent as i64,
            c.a_stride,
            i64::from(self.unit.program.dtype == Dtype::F64),
            i64::from(c.guard.is_some()),
            i64::from(self.threads == Threads::Free),
            c.beside as i64,
        ];
        let mut words: Vec<Value> = vec![m_extent];
        words.extend(known.map(|k| Value::int(I64, k)));
        words.extend([packed, rows, epilogue, record]);
        words.extend(self.first_sum(c, destination)?);
        let contract = self.record(&words);
        let context = self.context();
        self.f.line(format_args!("call void @gdl_rt_contract(ptr {context}, ptr {contract})"));
        Ok(())
    }

    pub(super) fn softmax(&mut self, s: &'p Softmax) -> Result<(), Unsupported> {
        if self.lanes > 1 {
            return Err(Unsupported::new(format!("a softmax inside lanes, in `{}`", self.kernel.name)));
        }
        let (rows, count) = (self.whole(s.rows)?, self.whole(s.count)?);
        let columns = self.unit.program.buffers[s.scores].shape[1].as_fixed().expect("llvm: a local");
        let double = i64::from(self.unit.program.dtype == Dtype::F64);
        let mut words = vec![rows, Value::int(I64, columns as i64), count, Value::int(I64, double)];
        words.extend(s.buffers().map(|buffer| self.base(buffer)));
        let (context, step) = (self.context(), self.record(&words));
        self.f.line(format_args!("call void @gdl_rt_softmax(ptr {context}, ptr {step})"));
        Ok(())
    }

    /// Where the first sum goes, the numbers between rows, and whether sums are stored as they are; null where that is not known.
    fn first_sum(&mut self, c: &Contraction, destination: Option<Destination>) -> Result<[Value; 3], Unsupported> {
        let Some(destination) = destination else {
            return Ok([Value::null(), Value::int(I64, 0), Value::int(I64, 0)]);
        };
        self.memo.clear();
        self.vars.extend([c.m, c.n].map(|var| (var, Val::Int(Affine::constant(0)))));
        for (var, value) in destination.values {
            let value = self.expr(value)?;
            self.vars.insert(var, value);
        }
        let place = self.place(&destination.to)?;
        self.memo.clear();
        let first = place.address().expect("llvm: a place of one sum");
        Ok([first, Value::int(I64, destination.row), Value::int(I64, i64::from(destination.unchanged))])
    }

    /// An index that is the same for all lanes.
    fn whole(&mut self, index: Id<Expr>) -> Result<Value, Unsupported> {
        match self.expr(index)? {
            Val::Int(a) if a.lane == 0 => Ok(self.uniform(a)),
            _ => panic!("llvm: an index of a contraction differs between lanes"),
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
    fn rows(&mut self, c: &'p Contraction) -> Result<(), Unsupported> {
        let table = Value::argument(POINTER, 3);
        self.vars.insert(c.k, Val::Int(Affine::constant(0)));
        self.counted(Affine::constant(0), argument(2), 1, &mut |e, r| {
            let at = e.add_affine(argument(1), r);
            e.row(c, at)?;
            let offset = e.scale_affine(r, 8 * c.taps as i64);
            let line = e.bytes_after(table, offset);
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
        let address = match inside {
            Val::Known(false) => Value::null(),
            Val::Known(true) => self.row_address(c)?,
            Val::Bool(inside) => {
                // Loads that the address itself needs are not made outside.
                let held = self.guard.replace(Val::Bool(inside));
                self.n_guards += 1;
                let number = std::mem::replace(&mut self.guard_number, self.n_guards);
                let address = self.row_address(c)?;
                (self.guard, self.guard_number) = (held, number);
                self.f.select(inside, address, Value::null())
            }
            _ => panic!("llvm: a guard is a condition"),
        };
        let offset = self.scale_affine(tap, 8);
        let to = self.bytes_after(line, offset);
        self.f.line(format_args!("store ptr {address}, ptr {to}, align 8"));
        Ok(())
    }

    fn row_address(&mut self, c: &'p Contraction) -> Result<Value, Unsupported> {
        let place = self.place(&c.a)?;
        Ok(place.address().expect("llvm: rows are found one by one"))
    }

    /// `epilogue(record, m, count, n, width, tile)`
    fn epilogue(&mut self, c: &'p Contraction) -> Result<(), Unsupported> {
        let tile = Value::argument(POINTER, 5);
        let lanes = if self.facts.runs_in_lanes(self.kernel, c.n, &c.epilogue) { self.width(&c.epilogue) } else { 1 };
        self.counted(Affine::constant(0), argument(2), 1, &mut |e, r| {
            let at = e.add_affine(argument(1), r);
            e.row(c, at)?;
            let offset = e.scale_affine(r, TILE_ROW_BYTES);
            let line = e.bytes_after(tile, offset);
            let mut element = |e: &mut Self, j: Affine| {
                e.memo.clear();
                let column = e.add_affine(argument(3), j);
                e.vars.insert(c.n, Val::Int(column));
                let acc = e.tile_element(line, j);
                e.vars.insert(c.acc, acc);
                e.body(&c.epilogue)
            };
            if c.n_extent % c.panel != 0 {
                return e.in_lanes(Affine::constant(0), argument(4), lanes, &mut element);
            }
            // panels that are full are loops of a known length
            let panel = c.panel as i64;
            e.counted(Affine::constant(0), argument(4), panel, &mut |e, first| {
                e.in_lanes(Affine::constant(0), Affine::constant(panel), lanes, &mut |e, j| {
                    let j = e.add_affine(first, j);
                    element(e, j)
                })
            })
        })
    }
}
