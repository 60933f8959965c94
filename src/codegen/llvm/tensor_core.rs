//! Products of warps as instructions of tensor cores: `mma.m16n8k8` for TF32, `mma.m16n8k16` for bfloat16 and binary16 (PTX ISA 9.7.14).
//! The factors are in shared memory as f32, already rounded, so that their conversion is exact. Of the terms that one instruction adds, each
//! of the four lanes of a row takes neighbours of its own: any order will do that both matrices have, and with this one a warp reads all
//! banks of shared memory at once.

use super::emit::Emitter;
use super::text::{I32, I64, Scalar, Type, Value};
use super::value::Val;
use crate::base::arena::Id;
use crate::codegen::Unsupported;
use crate::kernel::ir::{Buffer, Multiply, WARP};
use crate::kernel::narrow::Narrow;

/// Lanes that share a row of `a` or a column of `b`.
const LANES_OF_A_ROW: usize = 4;
/// Rows and columns apart that the registers of a lane are.
const APART: usize = 8;

impl Emitter<'_, '_> {
    /// The nearest number of a type, as f32.
    pub(super) fn rounded(&mut self, x: Value, to: Narrow) -> Value {
        let narrow = match to {
            Narrow::Tf32 => return self.rounded_bits(x, 23 - to.digits()),
            Narrow::Bf16 => Scalar::Bfloat,
            Narrow::F16 => Scalar::Half,
        };
        let narrow = self.f.cast("fptrunc", x, narrow);
        self.f.cast("fpext", narrow, Scalar::F32)
    }

    /// The last bits of a float cut off after half a unit was added, or a little less where the bit before them is 0; NaN stays.
    fn rounded_bits(&mut self, x: Value, cut: i32) -> Value {
        let bits = self.f.cast("bitcast", x, Scalar::I32);
        let last = self.f.binary("lshr", bits, Value::int(I32, i64::from(cut)));
        let odd = self.f.binary("and", last, Value::int(I32, 1));
        let up = self.f.binary("add", bits, Value::int(I32, (1 << (cut - 1)) - 1));
        let up = self.f.binary("add", up, odd);
        let res = self.f.binary("and", up, Value::int(I32, -(1 << cut)));
        let res = self.f.cast("bitcast", res, Scalar::F32);
        let nan = self.f.compare("fcmp uno", x, x);
        self.f.select(nan, x, res)
    }

    /// A warp's part of a product, by all of its threads.
    pub(super) fn multiply(&mut self, m: &Multiply) -> Result<(), Unsupported> {
        if !self.on_device() {
            return Err(Unsupported::new("a product of warps as a statement: write it out before emitting"));
        }
        let [depth, rows] = self.extents(m.a);
        let [i, j] = self.extents(m.sums);
        let [_, columns] = self.extents(m.b);
        let (terms, each) = match m.factors {
            Narrow::Tf32 => (8, 1),
            Narrow::Bf16 | Narrow::F16 => (16, 2),
        };
        let [a, b] = self.fragments(m, (depth, rows, columns), (i, j))?;
        let sums = self.locals.get(&m.sums).expect("llvm: the local exists").address;
        // Of each lane: registers of a row or column for one instruction.
        let per_lane = terms / LANES_OF_A_ROW;
        for first in (0..depth / LANES_OF_A_ROW).step_by(per_lane) {
            let registers = |e: &mut Self, buffer: Id<Buffer>, base: Value, line: usize, at: usize| -> Vec<Value> {
                let one = |e: &mut Self, k: usize| e.load_after(buffer, base, (first + k) * line + at * APART);
                let all: Vec<Value> = (0..per_lane).map(|k| one(e, k)).collect();
                all.chunks(each).map(|numbers| e.register_of(m.factors, numbers)).collect()
            };
            let of_b: Vec<Vec<Value>> = (0..j / 2).map(|at| registers(self, m.b, b, columns, at)).collect();
            for pair in 0..i / 2 {
                let [near, far] = [0, 1].map(|half| registers(self, m.a, a, rows, 2 * pair + half));
                let of_a = [near[0], far[0], near[1], far[1]];
                for (at, of_b) in of_b.iter().enumerate() {
                    let places = [0, 1, j, j + 1].map(|k| 2 * pair * j + 2 * at + k);
                    self.add_product(m, sums, places, &of_a, of_b);
                }
            }
        }
        Ok(())
    }

    /// The last two sizes of a matrix.
    fn extents(&self, buffer: Id<Buffer>) -> [usize; 2] {
        let shape = &self.unit.program.buffers[buffer].shape;
        [1, 2].map(|axis| shape[axis].as_fixed().expect("llvm: a local"))
    }

    /// Where a lane's first factor of each matrix is.
    fn fragments(
        &mut self,
        m: &Multiply,
        (depth, rows, columns): (usize, usize, usize),
        (i, j): (usize, usize),
    ) -> Result<[Value; 2], Unsupported> {
        let Val::Int(t) = self.expr(m.thread)? else { panic!("llvm: the number of a thread") };
        let Val::Int(place) = self.expr(m.place)? else { panic!("llvm: an index") };
        let (t, place) = (self.uniform(t), self.uniform(place));
        let by = |e: &mut Self, op: &str, x: Value, k: usize| e.f.binary(op, x, Value::int(I64, k as i64));
        let (warp, lane) = (by(self, "udiv", t, WARP), by(self, "urem", t, WARP));
        let (far, near) = (by(self, "udiv", lane, LANES_OF_A_ROW), by(self, "urem", lane, LANES_OF_A_ROW));
        let (down, aside) = (by(self, "udiv", warp, m.across), by(self, "urem", warp, m.across));
        let begin = by(self, "mul", place, depth);
        let terms = by(self, "mul", near, depth / LANES_OF_A_ROW);
        let line = self.f.binary("add", begin, terms);
        let first = |e: &mut Self, buffer: Id<Buffer>, length: usize, part: Value, of_part: usize| {
            let (line, part) = (by(e, "mul", line, length), by(e, "mul", part, of_part * APART));
            let at = e.f.binary("add", line, part);
            let at = e.f.binary("add", at, far);
            let base = e.base(buffer);
            e.f.element(Type::new(Scalar::F32, 1), base, at)
        };
        Ok([first(self, m.a, rows, down, i), first(self, m.b, columns, aside, j / 2)])
    }

    /// One register of factors: a number of TF32, or two of 16 bits.
    fn register_of(&mut self, factors: Narrow, numbers: &[Value]) -> Value {
        let narrow = match (factors, numbers) {
            (Narrow::Tf32, [one]) => return self.f.cast("bitcast", *one, Scalar::I32),
            (Narrow::Tf32, _) => panic!("llvm: a register has one number of tf32"),
            (Narrow::Bf16, _) => Scalar::Bfloat,
            (Narrow::F16, _) => Scalar::Half,
        };
        let pair = Type::new(Scalar::F32, 2);
        let mut both = Value::poison(pair);
        for (k, x) in numbers.iter().enumerate() {
            both = self.f.value(pair, format_args!("insertelement {}, {}, i64 {k}", both.typed(), x.typed()));
        }
        let both = self.f.cast("fptrunc", both, narrow);
        match factors {
            Narrow::F16 => both,
            Narrow::Tf32 | Narrow::Bf16 => self.f.value(I32, format_args!("bitcast {} to i32", both.typed())),
        }
    }

    /// `sums[places] += a · b`
    fn add_product(&mut self, m: &Multiply, sums: Value, places: [usize; 4], a: &[Value; 4], b: &[Value]) {
        let name = match m.factors {
            Narrow::Tf32 => "m16n8k8.row.col.tf32",
            Narrow::Bf16 => "m16n8k16.row.col.bf16",
            Narrow::F16 => "m16n8k16.row.col.f32.f32",
        };
        let held = places.map(|k| self.load_after(m.sums, sums, k));
        let operands: Vec<String> = a.iter().chain(b).chain(&held).map(|v| v.typed().to_string()).collect();
        let four = "{ float, float, float, float }";
        // a structure: only its parts are values here
        let all = self.f.value(
            Type::new(Scalar::F32, 1),
            format_args!("call {four} @llvm.nvvm.mma.{name}({})", operands.join(", ")),
        );
        for (k, place) in places.into_iter().enumerate() {
            let one = self.f.value(Type::new(Scalar::F32, 1), format_args!("extractvalue {four} {all}, {k}"));
            self.store_after(m.sums, sums, place, one);
        }
    }
}
