//! What an expression became: a number known now, one for all lanes, or one a lane.
//! Indices stay affine in the lane (`base + k + lane·stride`) as long as they can: that is what makes vector loads.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types};

use super::emit::Emitter;

/// An index, the same in all lanes but for a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Affine {
    pub base: Option<Value>,
    pub k: i64,
    pub lane: i64,
}

impl Affine {
    pub(super) fn constant(k: i64) -> Self {
        Affine { base: None, k, lane: 0 }
    }

    pub(super) fn value(base: Value) -> Self {
        Affine { base: Some(base), k: 0, lane: 0 }
    }

    /// The number, where it is known now.
    pub(super) fn known(self) -> Option<i64> {
        (self.base.is_none() && self.lane == 0).then_some(self.k)
    }
}

/// The value of an expression.
#[derive(Clone, Debug)]
pub(super) enum Val {
    Int(Affine),
    /// An index a lane.
    Ints(Vec<Value>),
    /// One float for all lanes.
    Real(Value),
    /// Floats, as many vectors as the lanes take.
    Reals(Vec<Value>),
    /// One condition for all lanes (0 or 1, 8 bits).
    Bool(Value),
    /// A condition that is known now.
    Known(bool),
    /// A condition a lane: vectors of integers as wide as the floats, all ones or zeros.
    Mask(Vec<Value>),
}

impl Emitter<'_, '_, '_> {
    pub(super) fn iconst(&mut self, k: i64) -> Value {
        self.b.ins().iconst(types::I64, k)
    }

    /// An index that is the same in all lanes, as one value.
    pub(super) fn uniform(&mut self, a: Affine) -> Value {
        debug_assert_eq!(a.lane, 0);
        match (a.base, a.k) {
            (None, k) => self.iconst(k),
            (Some(v), 0) => v,
            (Some(v), k) => {
                let k = self.iconst(k);
                self.b.ins().iadd(v, k)
            }
        }
    }

    /// The index of every lane.
    pub(super) fn each_lane(&mut self, x: &Val) -> Vec<Value> {
        match x {
            Val::Int(a) => (0..self.lanes as i64)
                .map(|lane| self.uniform(Affine { base: a.base, k: a.k + lane * a.lane, lane: 0 }))
                .collect(),
            Val::Ints(v) => v.clone(),
            _ => panic!("cranelift: an index was expected"),
        }
    }

    pub(super) fn add_affine(&mut self, x: Affine, y: Affine) -> Affine {
        let base = match (x.base, y.base) {
            (Some(x), Some(y)) => Some(self.b.ins().iadd(x, y)),
            (x, y) => x.or(y),
        };
        Affine { base, k: x.k + y.k, lane: x.lane + y.lane }
    }

    pub(super) fn scale_affine(&mut self, x: Affine, by: i64) -> Affine {
        if by == 0 {
            return Affine::constant(0);
        }
        let base = x.base.map(|v| {
            if by == 1 {
                return v;
            }
            if by > 0 && (by as u64).is_power_of_two() {
                let shift = self.iconst(by.trailing_zeros() as i64);
                return self.b.ins().ishl(v, shift);
            }
            let by = self.iconst(by);
            self.b.ins().imul(v, by)
        });
        Affine { base, k: x.k.wrapping_mul(by), lane: x.lane * by }
    }

    /// The scalar type of the program's floats.
    pub(super) fn real_type(&self) -> Type {
        self.real
    }

    /// The vector type of the program's floats.
    pub(super) fn vector_type(&self) -> Type {
        if self.real == types::F32 { types::F32X4 } else { types::F64X2 }
    }

    /// The vector type of masks.
    pub(super) fn mask_type(&self) -> Type {
        if self.real == types::F32 { types::I32X4 } else { types::I64X2 }
    }

    /// Lanes of one vector.
    pub(super) fn per_vector(&self) -> usize {
        if self.real == types::F32 { 4 } else { 2 }
    }

    /// A float in vectors, whether it varies or not.
    pub(super) fn vectors(&mut self, x: &Val) -> Vec<Value> {
        match x {
            Val::Real(v) => {
                let ty = self.vector_type();
                let splat = self.b.ins().splat(ty, *v);
                vec![splat; self.lanes / self.per_vector()]
            }
            Val::Reals(v) => v.clone(),
            _ => panic!("cranelift: a float was expected"),
        }
    }

    /// The float of every lane.
    pub(super) fn each_real(&mut self, x: &Val) -> Vec<Value> {
        match x {
            Val::Real(v) => vec![*v; self.lanes],
            Val::Reals(vectors) => {
                let n = self.per_vector();
                let mut all = Vec::with_capacity(self.lanes);
                for v in vectors {
                    for lane in 0..n as u8 {
                        all.push(self.b.ins().extractlane(*v, lane));
                    }
                }
                all
            }
            _ => panic!("cranelift: a float was expected"),
        }
    }

    /// Vectors from the float of every lane.
    pub(super) fn from_lanes(&mut self, lanes: &[Value]) -> Val {
        if self.lanes == 1 {
            return Val::Real(lanes[0]);
        }
        let (n, ty) = (self.per_vector(), self.vector_type());
        let mut vectors = Vec::new();
        for group in lanes.chunks(n) {
            let mut v = self.b.ins().scalar_to_vector(ty, group[0]);
            for (lane, x) in group.iter().enumerate().skip(1) {
                v = self.b.ins().insertlane(v, *x, lane as u8);
            }
            vectors.push(v);
        }
        Val::Reals(vectors)
    }

    /// A condition in masks, whether it varies or not.
    pub(super) fn masks(&mut self, x: &Val) -> Vec<Value> {
        match x {
            Val::Known(known) => {
                let v = self.b.ins().iconst(types::I8, i64::from(*known));
                self.masks(&Val::Bool(v))
            }
            Val::Bool(v) => {
                let mask = self.mask_type();
                let wide = self.b.ins().uextend(mask.lane_type(), *v);
                let ones = self.b.ins().ineg(wide);
                let splat = self.b.ins().splat(mask, ones);
                vec![splat; self.lanes / self.per_vector()]
            }
            Val::Mask(v) => v.clone(),
            _ => panic!("cranelift: a condition was expected"),
        }
    }

    /// The condition of every lane, 8 bits.
    pub(super) fn each_bool(&mut self, x: &Val) -> Vec<Value> {
        match x {
            Val::Known(known) => {
                let v = self.b.ins().iconst(types::I8, i64::from(*known));
                vec![v; self.lanes]
            }
            Val::Bool(v) => vec![*v; self.lanes],
            Val::Mask(vectors) => {
                let n = self.per_vector();
                let mut all = Vec::with_capacity(self.lanes);
                for v in vectors {
                    for lane in 0..n as u8 {
                        let bits = self.b.ins().extractlane(*v, lane);
                        let bits = self.b.ins().ireduce(types::I8, bits);
                        let one = self.b.ins().iconst(types::I8, 1);
                        all.push(self.b.ins().band(bits, one));
                    }
                }
                all
            }
            _ => panic!("cranelift: a condition was expected"),
        }
    }

    /// Masks from the condition of every lane.
    pub(super) fn mask_from_lanes(&mut self, lanes: &[Value]) -> Val {
        if self.lanes == 1 {
            return Val::Bool(lanes[0]);
        }
        let (n, ty) = (self.per_vector(), self.mask_type());
        let mut vectors = Vec::new();
        for group in lanes.chunks(n) {
            let mut v = None;
            for (lane, x) in group.iter().enumerate() {
                let wide = self.b.ins().uextend(ty.lane_type(), *x);
                let ones = self.b.ins().ineg(wide);
                v = Some(match v {
                    None => self.b.ins().scalar_to_vector(ty, ones),
                    Some(v) => self.b.ins().insertlane(v, ones, lane as u8),
                });
            }
            vectors.extend(v);
        }
        Val::Mask(vectors)
    }

    /// Numbers of the lanes times `step`, in mask vectors: `0, step, 2·step, ..`.
    pub(super) fn lane_numbers(&mut self, step: i64) -> Vec<Value> {
        let (n, ty) = (self.per_vector(), self.mask_type());
        let mut all = Vec::new();
        for group in 0..self.lanes / n {
            let mut v = None;
            for lane in 0..n {
                let x = self.b.ins().iconst(ty.lane_type(), (group * n + lane) as i64 * step);
                v = Some(match v {
                    None => self.b.ins().splat(ty, x),
                    Some(v) => self.b.ins().insertlane(v, x, lane as u8),
                });
            }
            all.extend(v);
        }
        all
    }

    /// Compares `lane·step` with an index that all lanes share, in the mask's integers; the index is brought into their range first.
    pub(super) fn compare_lanes(&mut self, cc: IntCC, step: i64, with: Value) -> Val {
        const FAR: i64 = 1 << 30;
        let ty = self.mask_type();
        let (low, high) = (self.iconst(-FAR), self.iconst(FAR));
        let with = self.b.ins().smax(with, low);
        let with = self.b.ins().smin(with, high);
        let with = if ty.lane_type() == types::I32 { self.b.ins().ireduce(types::I32, with) } else { with };
        let with = self.b.ins().splat(ty, with);
        let numbers = self.lane_numbers(step);
        Val::Mask(numbers.into_iter().map(|n| self.b.ins().icmp(cc, n, with)).collect())
    }

    /// Bits of one type as another of the same width.
    pub(super) fn cast(&mut self, ty: Type, v: Value) -> Value {
        if self.b.func.dfg.value_type(v) == ty {
            return v;
        }
        let flags = MemFlagsData::new().with_endianness(cranelift_codegen::ir::Endianness::Little);
        self.b.ins().bitcast(ty, flags, v)
    }
}
