//! Expressions → values. Pure: the same expression under the same guard is computed once a statement, and what does not
//! change in a loop is moved out of it by Cranelift.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};

use super::emit::Emitter;
use super::value::{Affine, Val};
use crate::base::arena::Id;
use crate::base::size::Size;
use crate::codegen::Unsupported;
use crate::kernel::ir::{Binary, Combine, Comparison, Expr, Unary};

impl Emitter<'_, '_, '_> {
    /// The value of an expression, for all lanes.
    pub(super) fn expr(&mut self, id: Id<Expr>) -> Result<Val, Unsupported> {
        let guard = if self.facts.loads(id) { self.guard_number } else { 0 };
        if let Some(known) = self.memo.get(&(id, guard)) {
            return Ok(known.clone());
        }
        let val = self.compute(id)?;
        self.memo.insert((id, guard), val.clone());
        Ok(val)
    }

    fn compute(&mut self, id: Id<Expr>) -> Result<Val, Unsupported> {
        let kernel = self.kernel;
        Ok(match &kernel.exprs[id] {
            Expr::Float(x) => Val::Real(self.real_const(*x)),
            Expr::Int(k) => Val::Int(Affine::constant(*k)),
            Expr::Size(size) => Val::Int(self.size(*size)),
            Expr::Var(var) => self.vars.get(var).cloned().expect("cranelift: a variable is bound before it is read"),
            Expr::Load(access) => self.load(access)?,
            Expr::Unary { f, x } => {
                let x = self.expr(*x)?;
                self.unary(*f, &x)?
            }
            Expr::Binary { f, x, y } => {
                let (x, y) = (self.expr(*x)?, self.expr(*y)?);
                self.binary(*f, &x, &y)?
            }
            Expr::Fma { a, b, c } => {
                let (a, b, c) = (self.expr(*a)?, self.expr(*b)?, self.expr(*c)?);
                self.fma(&a, &b, &c)
            }
            Expr::Select { cond, x, y } => self.select(*cond, *x, *y)?,
            Expr::Compare { f, x, y } => {
                let (x, y) = (self.expr(*x)?, self.expr(*y)?);
                self.compare(*f, &x, &y)
            }
            Expr::And { x, y } => {
                let (x, y) = (self.expr(*x)?, self.expr(*y)?);
                self.and(&x, &y)
            }
            Expr::ToFloat { x } => {
                let x = self.expr(*x)?;
                self.to_float(&x)
            }
        })
    }

    pub(super) fn real_const(&mut self, x: f64) -> Value {
        if self.real == types::F32 { self.b.ins().f32const(x as f32) } else { self.b.ins().f64const(x) }
    }

    /// `max(scale·n + offset, 0) / divisor`
    pub(super) fn size(&mut self, size: Size) -> Affine {
        if let Some(n) = size.as_fixed() {
            return Affine::constant(n as i64);
        }
        let (scale, var, offset, divisor) = size.parts();
        let n = self.frame_word(self.unit.frame.size_offset(var));
        let scaled = self.scale_affine(Affine::value(n), scale);
        let shifted = self.add_affine(scaled, Affine::constant(offset));
        if scale > 0 && offset >= 0 && divisor == 1 {
            return shifted;
        }
        let (sum, zero) = (self.uniform(shifted), self.iconst(0));
        let positive = self.b.ins().smax(sum, zero);
        let divisor = self.iconst(divisor);
        Affine::value(self.b.ins().udiv(positive, divisor))
    }

    fn unary(&mut self, f: Unary, x: &Val) -> Result<Val, Unsupported> {
        if let (Val::Int(_) | Val::Ints(_), Unary::Neg) = (x, f) {
            return self.binary(Binary::Sub, &Val::Int(Affine::constant(0)), x);
        }
        let one = |e: &mut Self, v: Value| -> Option<Value> {
            Some(match f {
                Unary::Neg => e.b.ins().fneg(v),
                Unary::Abs => e.b.ins().fabs(v),
                Unary::Sqrt => e.b.ins().sqrt(v),
                Unary::Round => e.b.ins().nearest(v),
                Unary::Floor => e.b.ins().floor(v),
                Unary::Exp2Int => e.exp2_int(v),
                Unary::Exponent => e.exponent(v),
                Unary::Mantissa => e.mantissa(v),
                Unary::Exp | Unary::Log | Unary::Tanh | Unary::Sigmoid | Unary::Erf | Unary::Sin | Unary::Cos => {
                    return None;
                }
                Unary::Rounded(_) => return None,
            })
        };
        let missing = || Unsupported::new(format!("{f:?} as an instruction: write it out before emitting"));
        Ok(match x {
            Val::Real(v) => Val::Real(one(self, *v).ok_or_else(missing)?),
            Val::Reals(vs) => {
                let all: Option<Vec<Value>> = vs.iter().map(|v| one(self, *v)).collect();
                Val::Reals(all.ok_or_else(missing)?)
            }
            Val::Int(_) | Val::Ints(_) | Val::Bool(_) | Val::Known(_) | Val::Mask(_) => {
                panic!("cranelift: {f:?} of a float")
            }
        })
    }

    /// The integer type as wide as a float type, and the bits of its mantissa and its bias.
    fn bits(&self, v: Value) -> (Type, i64, i64) {
        let ty = self.b.func.dfg.value_type(v);
        let (mantissa, bias) = if ty.lane_type() == types::F32 { (23, 127) } else { (52, 1023) };
        (ty.as_int(), mantissa, bias)
    }

    /// A constant in every lane of an integer type.
    fn every(&mut self, ty: Type, k: i64) -> Value {
        let scalar = ty.lane_type();
        let k = if scalar == types::I32 { i64::from(k as i32) as u32 as i64 } else { k };
        let v = self.b.ins().iconst(scalar, k);
        if ty.is_vector() { self.b.ins().splat(ty, v) } else { v }
    }

    /// A float constant of the type of `like`.
    fn real_like(&mut self, like: Value, x: f64) -> Value {
        let ty = self.b.func.dfg.value_type(like);
        let v = self.real_const(x);
        if ty.is_vector() { self.b.ins().splat(ty, v) } else { v }
    }

    /// `2^x` for integers: adding 1.5·2^m puts the integer into the low bits; the shift makes it the exponent.
    fn exp2_int(&mut self, x: Value) -> Value {
        let (ints, mantissa, bias) = self.bits(x);
        let ty = self.b.func.dfg.value_type(x);
        let magic = self.real_like(x, 1.5 * (1u64 << mantissa) as f64 + bias as f64);
        let low = self.b.ins().fadd(x, magic);
        let low = self.cast(ints, low);
        let by = self.b.ins().iconst(types::I32, mantissa);
        let bits = self.b.ins().ishl(low, by);
        self.cast(ty, bits)
    }

    /// The exponent's bits, made the low bits of 2^m, of which 2^m is taken away.
    fn exponent(&mut self, x: Value) -> Value {
        let (ints, mantissa, bias) = self.bits(x);
        let ty = self.b.func.dfg.value_type(x);
        let bits = self.cast(ints, x);
        let by = self.b.ins().iconst(types::I32, mantissa);
        let low = self.b.ins().ushr(bits, by);
        let one = self.every(ints, (bias + mantissa) << mantissa);
        let bits = self.b.ins().bor(low, one);
        let number = self.cast(ty, bits);
        let base = self.real_like(x, (1u64 << mantissa) as f64 + bias as f64);
        self.b.ins().fsub(number, base)
    }

    fn mantissa(&mut self, x: Value) -> Value {
        let (ints, mantissa, bias) = self.bits(x);
        let ty = self.b.func.dfg.value_type(x);
        let bits = self.cast(ints, x);
        let low = self.every(ints, (1i64 << mantissa) - 1);
        let low = self.b.ins().band(bits, low);
        let one = self.every(ints, bias << mantissa);
        let bits = self.b.ins().bor(low, one);
        self.cast(ty, bits)
    }

    /// `f(x, y)` of floats or of indices.
    pub(super) fn binary(&mut self, f: Binary, x: &Val, y: &Val) -> Result<Val, Unsupported> {
        if let (Val::Int(_) | Val::Ints(_), Val::Int(_) | Val::Ints(_)) = (x, y) {
            return Ok(self.index_binary(f, x, y));
        }
        if f == Binary::Mod {
            return Err(Unsupported::new("the remainder of floats"));
        }
        let one = |e: &mut Self, x: Value, y: Value| match f {
            Binary::Add => e.b.ins().fadd(x, y),
            Binary::Sub => e.b.ins().fsub(x, y),
            Binary::Mul => e.b.ins().fmul(x, y),
            Binary::Div => e.b.ins().fdiv(x, y),
            Binary::Max => e.b.ins().fmax(x, y),
            Binary::Min => e.b.ins().fmin(x, y),
            Binary::Mod => panic!("cranelift: returned above"),
        };
        if let (Val::Real(x), Val::Real(y)) = (x, y) {
            return Ok(Val::Real(one(self, *x, *y)));
        }
        let (x, y) = (self.vectors(x), self.vectors(y));
        Ok(Val::Reals(x.into_iter().zip(y).map(|(x, y)| one(self, x, y)).collect()))
    }

    /// What an accumulation does.
    pub(super) fn combine(&mut self, f: Combine, x: &Val, y: &Val) -> Result<Val, Unsupported> {
        match f {
            Combine::Add => self.binary(Binary::Add, x, y),
            Combine::Max => self.binary(Binary::Max, x, y),
            Combine::Min => self.binary(Binary::Min, x, y),
        }
    }

    fn index_binary(&mut self, f: Binary, x: &Val, y: &Val) -> Val {
        if let (Val::Int(x), Val::Int(y)) = (x, y) {
            if let Some(both) = self.affine_binary(f, *x, *y) {
                return Val::Int(both);
            }
        }
        let (x, y) = (self.each_lane(x), self.each_lane(y));
        Val::Ints(x.into_iter().zip(y).map(|(x, y)| self.index_scalar(f, x, y)).collect())
    }

    /// Where the result is affine in the lane.
    fn affine_binary(&mut self, f: Binary, x: Affine, y: Affine) -> Option<Affine> {
        if let (Some(a), Some(b)) = (x.known(), y.known()) {
            return crate::kernel::build::index_binary(f, a, b).map(Affine::constant);
        }
        match f {
            Binary::Add => return Some(self.add_affine(x, y)),
            Binary::Sub => {
                let base = match (x.base, y.base) {
                    (Some(x), Some(y)) => Some(self.b.ins().isub(x, y)),
                    (None, Some(y)) => Some(self.b.ins().ineg(y)),
                    (x, None) => x,
                };
                return Some(Affine { base, k: x.k - y.k, lane: x.lane - y.lane });
            }
            Binary::Mul => {
                if let Some(k) = y.known() {
                    return Some(self.scale_affine(x, k));
                }
                if let Some(k) = x.known() {
                    return Some(self.scale_affine(y, k));
                }
            }
            Binary::Div | Binary::Mod | Binary::Max | Binary::Min => {}
        }
        if x.lane != 0 || y.lane != 0 {
            return None;
        }
        let divisor = y.known();
        let (x, y) = (self.uniform(x), self.uniform(y));
        if let (Some(d), Binary::Div | Binary::Mod) = (divisor, f)
            && d > 0
            && (d as u64).is_power_of_two()
        {
            let k = if f == Binary::Div { d.trailing_zeros() as i64 } else { d - 1 };
            let k = self.iconst(k);
            return Some(Affine::value(if f == Binary::Div {
                self.b.ins().sshr(x, k)
            } else {
                self.b.ins().band(x, k)
            }));
        }
        Some(Affine::value(self.index_scalar(f, x, y)))
    }

    fn index_scalar(&mut self, f: Binary, x: Value, y: Value) -> Value {
        match f {
            Binary::Add => self.b.ins().iadd(x, y),
            Binary::Sub => self.b.ins().isub(x, y),
            Binary::Mul => self.b.ins().imul(x, y),
            Binary::Max => self.b.ins().smax(x, y),
            Binary::Min => self.b.ins().smin(x, y),
            // Towards minus infinity; divisors are positive.
            Binary::Div => {
                let q = self.b.ins().sdiv(x, y);
                let below = self.below_zero(x, q, y);
                self.b.ins().iadd(q, below)
            }
            Binary::Mod => {
                let q = self.b.ins().sdiv(x, y);
                let back = self.b.ins().imul(q, y);
                let r = self.b.ins().isub(x, back);
                let (zero, below) = (self.iconst(0), self.below_zero(x, q, y));
                let more = self.b.ins().band(below, y);
                let _ = zero;
                self.b.ins().iadd(r, more)
            }
        }
    }

    /// -1 where the remainder of a division towards zero is negative, else 0.
    fn below_zero(&mut self, x: Value, q: Value, y: Value) -> Value {
        let back = self.b.ins().imul(q, y);
        let r = self.b.ins().isub(x, back);
        let by = self.iconst(63);
        self.b.ins().sshr(r, by)
    }

    fn fma(&mut self, a: &Val, b: &Val, c: &Val) -> Val {
        if let (Val::Real(a), Val::Real(b), Val::Real(c)) = (a, b, c) {
            return Val::Real(self.b.ins().fma(*a, *b, *c));
        }
        let (a, b, c) = (self.vectors(a), self.vectors(b), self.vectors(c));
        let all = a.into_iter().zip(b).zip(c);
        Val::Reals(all.map(|((a, b), c)| self.b.ins().fma(a, b, c)).collect())
    }

    fn compare(&mut self, f: Comparison, x: &Val, y: &Val) -> Val {
        let int = match f {
            Comparison::Lt => IntCC::SignedLessThan,
            Comparison::Le => IntCC::SignedLessThanOrEqual,
            Comparison::Eq => IntCC::Equal,
        };
        let float = match f {
            Comparison::Lt => FloatCC::LessThan,
            Comparison::Le => FloatCC::LessThanOrEqual,
            Comparison::Eq => FloatCC::Equal,
        };
        match (x, y) {
            (Val::Int(x), Val::Int(y)) => self.compare_affine(f, int, *x, *y),
            (Val::Int(_) | Val::Ints(_), _) => {
                let (x, y) = (self.each_lane(x), self.each_lane(y));
                let lanes: Vec<Value> = x.into_iter().zip(y).map(|(x, y)| self.b.ins().icmp(int, x, y)).collect();
                self.mask_from_lanes(&lanes)
            }
            (Val::Real(x), Val::Real(y)) => Val::Bool(self.b.ins().fcmp(float, *x, *y)),
            _ => {
                let (x, y) = (self.vectors(x), self.vectors(y));
                Val::Mask(x.into_iter().zip(y).map(|(x, y)| self.b.ins().fcmp(float, x, y)).collect())
            }
        }
    }

    fn compare_affine(&mut self, f: Comparison, cc: IntCC, x: Affine, y: Affine) -> Val {
        if let (Some(a), Some(b)) = (x.known(), y.known()) {
            return Val::Known(match f {
                Comparison::Lt => a < b,
                Comparison::Le => a <= b,
                Comparison::Eq => a == b,
            });
        }
        let step = x.lane - y.lane;
        let (x, y) = (self.uniform(Affine { lane: 0, ..x }), self.uniform(Affine { lane: 0, ..y }));
        if step == 0 {
            return Val::Bool(self.b.ins().icmp(cc, x, y));
        }
        let with = self.b.ins().isub(y, x);
        self.compare_lanes(cc, step, with)
    }

    /// Both conditions.
    pub(super) fn and(&mut self, x: &Val, y: &Val) -> Val {
        match (x, y) {
            (Val::Known(true), other) | (other, Val::Known(true)) => other.clone(),
            (Val::Known(false), _) | (_, Val::Known(false)) => Val::Known(false),
            (Val::Bool(x), Val::Bool(y)) => Val::Bool(self.b.ins().band(*x, *y)),
            _ => {
                let (x, y) = (self.masks(x), self.masks(y));
                Val::Mask(x.into_iter().zip(y).map(|(x, y)| self.b.ins().band(x, y)).collect())
            }
        }
    }

    fn not(&mut self, x: &Val) -> Val {
        match x {
            Val::Known(known) => Val::Known(!known),
            Val::Bool(v) => {
                let one = self.b.ins().iconst(types::I8, 1);
                Val::Bool(self.b.ins().bxor(*v, one))
            }
            Val::Mask(vs) => Val::Mask(vs.iter().map(|v| self.b.ins().bnot(*v)).collect()),
            Val::Int(_) | Val::Ints(_) | Val::Real(_) | Val::Reals(_) => panic!("cranelift: a condition was expected"),
        }
    }

    fn select(&mut self, cond: Id<Expr>, x: Id<Expr>, y: Id<Expr>) -> Result<Val, Unsupported> {
        let cond = self.expr(cond)?;
        if let Val::Known(known) = cond {
            return self.expr(if known { x } else { y });
        }
        let x = self.guarded(&cond, x)?;
        let other = if self.facts.loads(y) { self.not(&cond) } else { Val::Known(true) };
        let y = self.guarded(&other, y)?;
        Ok(self.choose(&cond, &x, &y))
    }

    /// An expression whose loads are made only where `cond` holds.
    fn guarded(&mut self, cond: &Val, id: Id<Expr>) -> Result<Val, Unsupported> {
        if !self.facts.loads(id) {
            return self.expr(id);
        }
        let guard = match self.guard.clone() {
            None => cond.clone(),
            Some(outer) => self.and(&outer, cond),
        };
        self.n_guards += 1;
        let held = (self.guard.replace(guard), std::mem::replace(&mut self.guard_number, self.n_guards));
        let val = self.expr(id);
        (self.guard, self.guard_number) = held;
        val
    }

    fn choose(&mut self, cond: &Val, x: &Val, y: &Val) -> Val {
        match (cond, x, y) {
            (Val::Bool(c), Val::Real(x), Val::Real(y)) => Val::Real(self.b.ins().select(*c, *x, *y)),
            (Val::Bool(c), Val::Int(x), Val::Int(y)) if x.lane == y.lane => {
                let lane = x.lane;
                let (x, y) = (self.uniform(Affine { lane: 0, ..*x }), self.uniform(Affine { lane: 0, ..*y }));
                let base = Some(self.b.ins().select(*c, x, y));
                Val::Int(Affine { base, k: 0, lane })
            }
            (_, Val::Int(_) | Val::Ints(_), _) => {
                let (c, x, y) = (self.each_bool(cond), self.each_lane(x), self.each_lane(y));
                let all = c.into_iter().zip(x).zip(y);
                Val::Ints(all.map(|((c, x), y)| self.b.ins().select(c, x, y)).collect())
            }
            (Val::Bool(c), Val::Real(_) | Val::Reals(_), _) => {
                let (x, y) = (self.vectors(x), self.vectors(y));
                Val::Reals(x.into_iter().zip(y).map(|(x, y)| self.b.ins().select(*c, x, y)).collect())
            }
            (_, Val::Real(_) | Val::Reals(_), _) => {
                let (c, x, y) = (self.masks(cond), self.vectors(x), self.vectors(y));
                let ty = self.vector_type();
                let all = c.into_iter().zip(x).zip(y);
                Val::Reals(
                    all.map(|((c, x), y)| {
                        let c = self.cast(ty, c);
                        self.b.ins().bitselect(c, x, y)
                    })
                    .collect(),
                )
            }
            (_, Val::Bool(_) | Val::Known(_) | Val::Mask(_), _) => panic!("cranelift: a choice of conditions"),
        }
    }

    fn to_float(&mut self, x: &Val) -> Val {
        let real = self.real;
        match x {
            Val::Int(a) if a.lane == 0 => {
                let v = self.uniform(*a);
                Val::Real(self.b.ins().fcvt_from_sint(real, v))
            }
            _ => {
                let lanes: Vec<Value> =
                    self.each_lane(x).into_iter().map(|v| self.b.ins().fcvt_from_sint(real, v)).collect();
                self.from_lanes(&lanes)
            }
        }
    }
}
