//! Expressions → values. Pure: the same expression under the same guard is computed once a statement; LLVM finds what
//! statements share and what does not change in a loop.

use super::emit::Emitter;
use super::text::{I64, Scalar, Type, Value};
use super::value::{Affine, Val};
use crate::base::arena::Id;
use crate::base::size::Size;
use crate::codegen::Unsupported;
use crate::kernel::ir::{Binary, Combine, Comparison, Expr, Unary};

impl Emitter<'_, '_> {
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
            Expr::Float(x) => Val::Real(Value::real(Type::new(self.real, 1), *x)),
            Expr::Int(k) => Val::Int(Affine::constant(*k)),
            Expr::Size(size) => Val::Int(self.size(*size)),
            Expr::Var(var) => self.vars.get(var).cloned().expect("llvm: a variable is bound before it is read"),
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
                let all = self.alike(&[&a, &b, &c]);
                let sum = self.f.intrinsic("fma", &all);
                self.real_val(sum)
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

    /// Floats of one type: one for all lanes where all are, else one a lane.
    fn alike(&mut self, x: &[&Val]) -> Vec<Value> {
        let shared = |x: &Val| if let Val::Real(v) = x { Some(*v) } else { None };
        let shared: Option<Vec<Value>> = x.iter().map(|x| shared(x)).collect();
        shared.unwrap_or_else(|| x.iter().map(|x| self.all_reals(x)).collect())
    }

    /// `max(scale·n + offset, 0) / divisor`, computed once, at the start of the function.
    pub(super) fn size(&mut self, size: Size) -> Affine {
        if let Some(n) = size.as_fixed() {
            return Affine::constant(n as i64);
        }
        if let Some((_, known)) = self.sizes.iter().find(|(s, _)| *s == size) {
            return *known;
        }
        let (scale, var, offset, divisor) = size.parts();
        let n = self.size_word(self.unit.frame.size_offset(var));
        self.f.turn_to_start();
        let scaled = self.scale_affine(Affine::value(n), scale);
        let mut res = self.add_affine(scaled, Affine::constant(offset));
        if !(scale > 0 && offset >= 0 && divisor == 1) {
            let sum = self.uniform(res);
            let positive = self.f.intrinsic("smax", &[sum, Value::int(I64, 0)]);
            res = Affine::value(self.f.binary("udiv", positive, Value::int(I64, divisor)));
        }
        self.f.turn_to_end();
        self.sizes.push((size, res));
        res
    }

    fn unary(&mut self, f: Unary, x: &Val) -> Result<Val, Unsupported> {
        if let (Val::Int(_) | Val::Ints(_), Unary::Neg) = (x, f) {
            return self.binary(Binary::Sub, &Val::Int(Affine::constant(0)), x);
        }
        let (Val::Real(v) | Val::Reals(v)) = *x else { panic!("llvm: {f:?} of a float") };
        let res = match f {
            Unary::Neg => self.f.value(v.ty, format_args!("fneg {}", v.typed())),
            Unary::Abs => self.f.intrinsic("fabs", &[v]),
            Unary::Sqrt => self.f.intrinsic("sqrt", &[v]),
            Unary::Round => self.f.intrinsic("roundeven", &[v]),
            Unary::Floor => self.f.intrinsic("floor", &[v]),
            Unary::Exp2Int => self.exp2_int(v),
            Unary::Exponent => self.exponent(v),
            Unary::Mantissa => self.mantissa(v),
            Unary::Rounded(to) if self.on_device() => self.rounded(v, to),
            Unary::Exp
            | Unary::Log
            | Unary::Tanh
            | Unary::Sigmoid
            | Unary::Erf
            | Unary::Sin
            | Unary::Cos
            | Unary::Rounded(_) => {
                return Err(Unsupported::new(format!("{f:?} as an instruction: write it out before emitting")));
            }
        };
        Ok(self.real_val(res))
    }

    /// The bits of the mantissa and the bias of the program's floats.
    fn layout(&self) -> (i64, i64) {
        if self.real == Scalar::F32 { (23, 127) } else { (52, 1023) }
    }

    /// `2^x` for integers: adding 1.5·2^m puts the integer into the low bits; the shift makes it the exponent.
    fn exp2_int(&mut self, x: Value) -> Value {
        let (mantissa, bias) = self.layout();
        let magic = Value::real(x.ty, 1.5 * (1u64 << mantissa) as f64 + bias as f64);
        let low = self.f.binary("fadd", x, magic);
        let low = self.f.cast("bitcast", low, self.real.as_int());
        let bits = self.f.binary("shl", low, Value::int(low.ty, mantissa));
        self.f.cast("bitcast", bits, self.real)
    }

    /// The exponent's bits, made the low bits of 2^m, of which 2^m is taken away.
    fn exponent(&mut self, x: Value) -> Value {
        let (mantissa, bias) = self.layout();
        let bits = self.f.cast("bitcast", x, self.real.as_int());
        let low = self.f.binary("lshr", bits, Value::int(bits.ty, mantissa));
        let bits = self.f.binary("or", low, Value::int(bits.ty, (bias + mantissa) << mantissa));
        let number = self.f.cast("bitcast", bits, self.real);
        self.f.binary("fsub", number, Value::real(x.ty, (1u64 << mantissa) as f64 + bias as f64))
    }

    fn mantissa(&mut self, x: Value) -> Value {
        let (mantissa, bias) = self.layout();
        let bits = self.f.cast("bitcast", x, self.real.as_int());
        let low = self.f.binary("and", bits, Value::int(bits.ty, (1i64 << mantissa) - 1));
        let bits = self.f.binary("or", low, Value::int(bits.ty, bias << mantissa));
        self.f.cast("bitcast", bits, self.real)
    }

    /// `f(x, y)` of floats or of indices.
    pub(super) fn binary(&mut self, f: Binary, x: &Val, y: &Val) -> Result<Val, Unsupported> {
        if let (Val::Int(_) | Val::Ints(_), Val::Int(_) | Val::Ints(_)) = (x, y) {
            return Ok(self.index_binary(f, x, y));
        }
        let both = self.alike(&[x, y]);
        let (x, y) = (both[0], both[1]);
        let res = match f {
            Binary::Add => self.f.binary("fadd", x, y),
            Binary::Sub => self.f.binary("fsub", x, y),
            Binary::Mul => self.f.binary("fmul", x, y),
            Binary::Div => self.f.binary("fdiv", x, y),
            Binary::Max => self.extreme("fcmp ogt", x, y),
            Binary::Min => self.extreme("fcmp olt", x, y),
            Binary::Mod => return Err(Unsupported::new("the remainder of floats")),
        };
        Ok(self.real_val(res))
    }

    /// The greater or the lesser, or NaN where one is NaN. An instruction of x86 gives its second operand where either is NaN:
    /// enough where the first cannot be.
    fn extreme(&mut self, op: &str, x: Value, y: Value) -> Value {
        let is_number = |v: Value| v.known_real().is_some_and(|x| !x.is_nan());
        let (x, y) = if is_number(y) { (y, x) } else { (x, y) };
        let first = self.f.compare(op, x, y);
        let best = self.f.select(first, x, y);
        if is_number(x) {
            return best;
        }
        let nan = self.f.compare("fcmp uno", x, x);
        self.f.select(nan, x, best)
    }

    /// What an accumulation does.
    pub(super) fn combine(&mut self, f: Combine, x: &Val, y: &Val) -> Result<Val, Unsupported> {
        match f {
            Combine::Add => self.binary(Binary::Add, x, y),
            Combine::Max => self.binary(Binary::Max, x, y),
            Combine::Min => self.binary(Binary::Min, x, y),
        }
    }

    /// The values of all lanes that run, combined: sums as a tree.
    pub(super) fn combined(&mut self, f: Combine, x: &Val) -> Val {
        let float = matches!(x, Val::Real(_) | Val::Reals(_));
        let mut v = if float { self.all_reals(x) } else { self.ints(x) };
        let neutral = match (f, float) {
            (Combine::Add, true) => Value::real(v.ty, -0.0),
            (Combine::Max, true) => Value::real(v.ty, f64::NEG_INFINITY),
            (Combine::Min, true) => Value::real(v.ty, f64::INFINITY),
            (Combine::Add, false) => Value::int(v.ty, 0),
            (Combine::Max, false) => Value::int(v.ty, i64::MIN),
            (Combine::Min, false) => Value::int(v.ty, i64::MAX),
        };
        if let Some(tail) = self.tail {
            v = self.f.select(tail.mask, v, neutral);
        }
        let (name, start) = match (f, float) {
            (Combine::Add, true) => ("fadd", format!("{} {}, ", self.real, Value::real(Type::new(self.real, 1), -0.0))),
            (Combine::Max, true) => ("fmaximum", String::new()),
            (Combine::Min, true) => ("fminimum", String::new()),
            (Combine::Add, false) => ("add", String::new()),
            (Combine::Max, false) => ("smax", String::new()),
            (Combine::Min, false) => ("smin", String::new()),
        };
        let flags = if name == "fadd" { "reassoc " } else { "" };
        let (one, mangled) = (Type::new(v.ty.scalar, 1), v.ty.mangled());
        let call = format_args!("call {flags}{one} @llvm.vector.reduce.{name}.{mangled}({start}{})", v.typed());
        let res = self.f.value(one, call);
        if float { Val::Real(res) } else { Val::Int(Affine::value(res)) }
    }

    fn index_binary(&mut self, f: Binary, x: &Val, y: &Val) -> Val {
        if let (Val::Int(x), Val::Int(y)) = (x, y)
            && let Some(both) = self.affine_binary(f, *x, *y)
        {
            return Val::Int(both);
        }
        let divides = matches!(f, Binary::Div | Binary::Mod);
        let known = matches!(y, Val::Int(a) if a.known().is_some());
        let (x, mut y) = (self.ints(x), self.ints(y));
        if divides && !known && (self.tail.is_some() || self.guard.is_some()) {
            // Lanes that do not run may have read nothing.
            y = self.f.intrinsic("smax", &[y, Value::int(y.ty, 1)]);
        }
        let res = self.index_values(f, x, y);
        self.int_val(res)
    }

    /// Where the result is affine in the lane.
    fn affine_binary(&mut self, f: Binary, x: Affine, y: Affine) -> Option<Affine> {
        if let (Some(a), Some(b)) = (x.known(), y.known()) {
            return crate::kernel::build::index_binary(f, a, b).map(Affine::constant);
        }
        match f {
            Binary::Add => return Some(self.add_affine(x, y)),
            Binary::Sub => {
                let minus = self.scale_affine(y, -1);
                return Some(self.add_affine(x, minus));
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
        let (x, mut y) = (self.uniform(x), self.uniform(y));
        if matches!(f, Binary::Div | Binary::Mod) && self.guard.is_some() {
            y = self.f.intrinsic("smax", &[y, Value::int(I64, 1)]);
        }
        Some(Affine::value(self.index_values(f, x, y)))
    }

    /// Division is towards minus infinity; divisors are positive.
    fn index_values(&mut self, f: Binary, x: Value, y: Value) -> Value {
        match f {
            Binary::Add => self.f.binary("add", x, y),
            Binary::Sub => self.f.binary("sub", x, y),
            Binary::Mul => self.f.binary("mul", x, y),
            Binary::Max => self.f.intrinsic("smax", &[x, y]),
            Binary::Min => self.f.intrinsic("smin", &[x, y]),
            Binary::Div => {
                let (q, r) = (self.f.binary("sdiv", x, y), self.f.binary("srem", x, y));
                let below = self.f.binary("ashr", r, Value::int(r.ty, 63));
                self.f.binary("add", q, below)
            }
            Binary::Mod => {
                let r = self.f.binary("srem", x, y);
                let below = self.f.binary("ashr", r, Value::int(r.ty, 63));
                let more = self.f.binary("and", below, y);
                self.f.binary("add", r, more)
            }
        }
    }

    fn compare(&mut self, f: Comparison, x: &Val, y: &Val) -> Val {
        let (int, float) = match f {
            Comparison::Lt => ("icmp slt", "fcmp olt"),
            Comparison::Le => ("icmp sle", "fcmp ole"),
            Comparison::Eq => ("icmp eq", "fcmp oeq"),
        };
        let res = match (x, y) {
            (Val::Int(x), Val::Int(y)) => return self.compare_affine(f, int, *x, *y),
            (Val::Int(_) | Val::Ints(_), _) => {
                let (x, y) = (self.ints(x), self.ints(y));
                self.f.compare(int, x, y)
            }
            _ => {
                let both = self.alike(&[x, y]);
                self.f.compare(float, both[0], both[1])
            }
        };
        self.bool_val(res)
    }

    fn compare_affine(&mut self, f: Comparison, op: &str, x: Affine, y: Affine) -> Val {
        if let (Some(a), Some(b)) = (x.known(), y.known()) {
            return Val::Known(match f {
                Comparison::Lt => a < b,
                Comparison::Le => a <= b,
                Comparison::Eq => a == b,
            });
        }
        let step = x.lane - y.lane;
        let (x, y) = (self.uniform(x.first()), self.uniform(y.first()));
        if step == 0 {
            return Val::Bool(self.f.compare(op, x, y));
        }
        let with = self.f.binary("sub", y, x);
        Val::Mask(self.compare_lanes(op, step, with))
    }

    /// Both conditions.
    pub(super) fn and(&mut self, x: &Val, y: &Val) -> Val {
        match (x, y) {
            (Val::Known(true), other) | (other, Val::Known(true)) => other.clone(),
            (Val::Known(false), _) | (_, Val::Known(false)) => Val::Known(false),
            (Val::Bool(x), Val::Bool(y)) => Val::Bool(self.f.binary("and", *x, *y)),
            _ => {
                let (x, y) = (self.mask(x), self.mask(y));
                Val::Mask(self.f.binary("and", x, y))
            }
        }
    }

    fn not(&mut self, x: &Val) -> Val {
        match x {
            Val::Known(known) => Val::Known(!known),
            Val::Bool(v) => Val::Bool(self.f.binary("xor", *v, Value::int(v.ty, 1))),
            Val::Mask(v) => Val::Mask(self.f.binary("xor", *v, Value::int(v.ty, 1))),
            Val::Int(_) | Val::Ints(_) | Val::Real(_) | Val::Reals(_) => panic!("llvm: a condition was expected"),
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
        let one = if let Val::Bool(c) = cond { Some(*c) } else { None };
        match (one, x, y) {
            (Some(c), Val::Int(x), Val::Int(y)) if x.lane == y.lane => {
                let lane = x.lane;
                let (x, y) = (self.uniform(x.first()), self.uniform(y.first()));
                Val::Int(Affine { base: Some(self.f.select(c, x, y)), k: 0, lane })
            }
            (_, Val::Int(_) | Val::Ints(_), _) => {
                let (x, y) = (self.ints(x), self.ints(y));
                let c = one.unwrap_or_else(|| self.mask(cond));
                Val::Ints(self.f.select(c, x, y))
            }
            (Some(c), ..) => {
                let both = self.alike(&[x, y]);
                let res = self.f.select(c, both[0], both[1]);
                self.real_val(res)
            }
            (None, ..) => {
                let (c, x, y) = (self.mask(cond), self.all_reals(x), self.all_reals(y));
                Val::Reals(self.f.select(c, x, y))
            }
        }
    }

    fn to_float(&mut self, x: &Val) -> Val {
        let v = match x {
            Val::Int(a) if a.lane == 0 => self.uniform(*a),
            _ => self.ints(x),
        };
        let res = self.f.cast("sitofp", v, self.real);
        self.real_val(res)
    }
}
