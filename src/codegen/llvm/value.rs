//! What an expression became: a number known now, one for all lanes, or one a lane.
//! Indices stay affine in the lane (`base + k + lane·stride`) as long as they can: that is what makes vector loads.

use super::emit::Emitter;
use super::text::{BIT, I32, I64, Scalar, Type, Value};

/// An index, the same in all lanes but for a step.
#[derive(Clone, Copy, Debug, PartialEq)]
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

    /// The index of the first lane.
    pub(super) fn first(self) -> Self {
        Affine { lane: 0, ..self }
    }
}

/// The value of an expression.
#[derive(Clone, Debug)]
pub(super) enum Val {
    Int(Affine),
    /// An index a lane.
    Ints(Value),
    /// One float for all lanes.
    Real(Value),
    /// A float a lane.
    Reals(Value),
    /// One condition for all lanes.
    Bool(Value),
    /// A condition that is known now.
    Known(bool),
    /// A condition a lane.
    Mask(Value),
}

impl Emitter<'_, '_> {
    /// An index that is the same in all lanes, as one value.
    pub(super) fn uniform(&mut self, a: Affine) -> Value {
        debug_assert_eq!(a.lane, 0);
        match (a.base, a.k) {
            (None, k) => Value::int(I64, k),
            (Some(v), 0) => v,
            (Some(v), k) => self.f.binary("add", v, Value::int(I64, k)),
        }
    }

    /// The index of every lane.
    pub(super) fn ints(&mut self, x: &Val) -> Value {
        match x {
            Val::Int(a) => {
                let first = self.uniform(a.first());
                if self.lanes == 1 {
                    return first;
                }
                let all = self.f.splat(first, self.lanes);
                if a.lane == 0 {
                    return all;
                }
                let steps = Value::ramp(Type::new(Scalar::I64, self.lanes), a.lane);
                self.f.binary("add", all, steps)
            }
            Val::Ints(v) => *v,
            Val::Real(_) | Val::Reals(_) | Val::Bool(_) | Val::Known(_) | Val::Mask(_) => {
                panic!("llvm: an index was expected")
            }
        }
    }

    pub(super) fn add_affine(&mut self, x: Affine, y: Affine) -> Affine {
        let base = match (x.base, y.base) {
            (Some(x), Some(y)) => Some(self.f.binary("add", x, y)),
            (x, y) => x.or(y),
        };
        Affine { base, k: x.k + y.k, lane: x.lane + y.lane }
    }

    pub(super) fn scale_affine(&mut self, x: Affine, by: i64) -> Affine {
        if by == 0 {
            return Affine::constant(0);
        }
        let base = x.base.map(|v| if by == 1 { v } else { self.f.binary("mul", v, Value::int(I64, by)) });
        Affine { base, k: x.k.wrapping_mul(by), lane: x.lane * by }
    }

    /// The float of every lane.
    pub(super) fn all_reals(&mut self, x: &Val) -> Value {
        match x {
            Val::Real(v) => self.f.splat(*v, self.lanes),
            Val::Reals(v) => *v,
            Val::Int(_) | Val::Ints(_) | Val::Bool(_) | Val::Known(_) | Val::Mask(_) => {
                panic!("llvm: a float was expected")
            }
        }
    }

    /// The condition of every lane.
    pub(super) fn mask(&mut self, x: &Val) -> Value {
        match x {
            Val::Known(known) => Value::int(Type::new(Scalar::Bit, self.lanes), i64::from(*known)),
            Val::Bool(v) => self.f.splat(*v, self.lanes),
            Val::Mask(v) => *v,
            Val::Int(_) | Val::Ints(_) | Val::Real(_) | Val::Reals(_) => panic!("llvm: a condition was expected"),
        }
    }

    /// Floats of the present lanes, in one value.
    pub(super) fn real_val(&self, v: Value) -> Val {
        if v.ty.lanes == 1 { Val::Real(v) } else { Val::Reals(v) }
    }

    pub(super) fn int_val(&self, v: Value) -> Val {
        if v.ty.lanes == 1 { Val::Int(Affine::value(v)) } else { Val::Ints(v) }
    }

    pub(super) fn bool_val(&self, v: Value) -> Val {
        if v.ty.lanes == 1 { Val::Bool(v) } else { Val::Mask(v) }
    }

    /// Compares `lane·step` with an index that all lanes share, in 32 bits; the index is brought into their range first.
    pub(super) fn compare_lanes(&mut self, op: &str, step: i64, with: Value) -> Value {
        const FAR: i64 = 1 << 30;
        let high = self.f.intrinsic("smax", &[with, Value::int(I64, -FAR)]);
        let with = self.f.intrinsic("smin", &[high, Value::int(I64, FAR)]);
        let with = self.f.cast("trunc", with, Scalar::I32);
        let with = self.f.splat(with, self.lanes);
        self.f.compare(op, Value::ramp(I32.times(self.lanes), step), with)
    }

    /// The number in one lane.
    pub(super) fn lane_of(&mut self, x: &Val, lane: usize) -> Val {
        let at = Value::int(I64, lane as i64);
        match x {
            Val::Real(_) | Val::Bool(_) | Val::Known(_) => x.clone(),
            Val::Int(a) => Val::Int(Affine { base: a.base, k: a.k + a.lane * lane as i64, lane: 0 }),
            Val::Ints(v) => Val::Int(Affine::value(self.f.extract(*v, at))),
            Val::Reals(v) => Val::Real(self.f.extract(*v, at)),
            Val::Mask(v) => Val::Bool(self.f.extract(*v, at)),
        }
    }

    /// The number in the last lane that runs.
    pub(super) fn last_lane(&mut self, x: &Val) -> Val {
        let Some(tail) = self.tail else { return self.lane_of(x, self.lanes - 1) };
        let at = self.f.binary("sub", tail.count, Value::int(I64, 1));
        match x {
            Val::Int(a) => {
                let moved = self.scale_affine(Affine::value(at), a.lane);
                Val::Int(self.add_affine(a.first(), moved))
            }
            Val::Ints(v) => Val::Int(Affine::value(self.f.extract(*v, at))),
            Val::Reals(v) => Val::Real(self.f.extract(*v, at)),
            Val::Mask(v) => Val::Bool(self.f.extract(*v, at)),
            Val::Real(_) | Val::Bool(_) | Val::Known(_) => x.clone(),
        }
    }

    pub(super) fn always(&self) -> Value {
        Value::int(BIT.times(self.lanes), 1)
    }
}
