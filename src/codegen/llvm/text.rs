//! LLVM's language as text: types, values, and one function in the making.
//! Instructions are appended one by one and name their result; nothing here knows the kernel IR.

use std::fmt::{self, Write as _};

/// What one lane holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Bit,
    Byte,
    I32,
    I64,
    F32,
    F64,
    /// binary16 and bfloat16, of tensor cores only.
    Half,
    Bfloat,
    Pointer,
}

/// A scalar, or a vector of `lanes` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Type {
    pub scalar: Scalar,
    pub lanes: usize,
}

/// A value of a function, or a constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Value {
    pub ty: Type,
    name: Name,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Name {
    Register(u32),
    Argument(u32),
    /// In every lane.
    Int(i64),
    /// In every lane.
    Real(f64),
    /// `0, step, 2·step, ..`
    Ramp(i64),
    Null,
    /// Any bits; only for what is never looked at.
    Poison,
    Constant(usize),
    /// A constant in the memory of a GPU.
    DeviceConstant(usize),
    /// An array in the shared memory of a GPU's block.
    Shared(usize),
    Piece(usize),
}

impl Scalar {
    fn bytes(self) -> usize {
        match self {
            Scalar::Bit | Scalar::Byte => 1,
            Scalar::Half | Scalar::Bfloat => 2,
            Scalar::I32 | Scalar::F32 => 4,
            Scalar::I64 | Scalar::F64 | Scalar::Pointer => 8,
        }
    }

    /// As in the names of overloaded intrinsics.
    fn mangled(self) -> &'static str {
        match self {
            Scalar::Bit => "i1",
            Scalar::Byte => "i8",
            Scalar::I32 => "i32",
            Scalar::I64 => "i64",
            Scalar::F32 => "f32",
            Scalar::F64 => "f64",
            Scalar::Half => "f16",
            Scalar::Bfloat => "bf16",
            Scalar::Pointer => "p0",
        }
    }

    /// The integer of the same width.
    pub(super) fn as_int(self) -> Scalar {
        match self {
            Scalar::F32 => Scalar::I32,
            Scalar::F64 => Scalar::I64,
            Scalar::Bit
            | Scalar::Byte
            | Scalar::I32
            | Scalar::I64
            | Scalar::Half
            | Scalar::Bfloat
            | Scalar::Pointer => self,
        }
    }

    pub(super) fn is_float(self) -> bool {
        matches!(self, Scalar::F32 | Scalar::F64)
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scalar::F32 => "float",
            Scalar::F64 => "double",
            Scalar::Half => "half",
            Scalar::Bfloat => "bfloat",
            Scalar::Pointer => "ptr",
            Scalar::Bit | Scalar::Byte | Scalar::I32 | Scalar::I64 => self.mangled(),
        })
    }
}

impl Type {
    pub(super) const fn new(scalar: Scalar, lanes: usize) -> Type {
        Type { scalar, lanes }
    }

    pub(super) fn of(self, scalar: Scalar) -> Type {
        Type { scalar, ..self }
    }

    pub(super) fn times(self, lanes: usize) -> Type {
        Type { lanes, ..self }
    }

    /// As in the names of overloaded intrinsics.
    pub(super) fn mangled(self) -> String {
        let scalar = self.scalar.mangled();
        if self.lanes == 1 { scalar.to_string() } else { format!("v{}{scalar}", self.lanes) }
    }

    pub(super) fn bytes(self) -> usize {
        self.scalar.bytes() * self.lanes
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lanes == 1 { write!(f, "{}", self.scalar) } else { write!(f, "<{} x {}>", self.lanes, self.scalar) }
    }
}

pub(super) const BIT: Type = Type::new(Scalar::Bit, 1);
pub(super) const BYTE: Type = Type::new(Scalar::Byte, 1);
pub(super) const I32: Type = Type::new(Scalar::I32, 1);
pub(super) const I64: Type = Type::new(Scalar::I64, 1);
pub(super) const POINTER: Type = Type::new(Scalar::Pointer, 1);

impl Value {
    /// An integer, in every lane.
    pub(super) fn int(ty: Type, k: i64) -> Value {
        Value { ty, name: Name::Int(k) }
    }

    /// A float, in every lane.
    pub(super) fn real(ty: Type, x: f64) -> Value {
        Value { ty, name: Name::Real(x) }
    }

    /// `0, step, 2·step, ..`
    pub(super) fn ramp(ty: Type, step: i64) -> Value {
        Value { ty, name: Name::Ramp(step) }
    }

    pub(super) fn null() -> Value {
        Value { ty: POINTER, name: Name::Null }
    }

    pub(super) fn poison(ty: Type) -> Value {
        Value { ty, name: Name::Poison }
    }

    pub(super) fn constant(number: usize) -> Value {
        Value { ty: POINTER, name: Name::Constant(number) }
    }

    pub(super) fn device_constant(number: usize) -> Value {
        Value { ty: POINTER, name: Name::DeviceConstant(number) }
    }

    pub(super) fn shared(number: usize) -> Value {
        Value { ty: POINTER, name: Name::Shared(number) }
    }

    pub(super) fn piece(number: usize) -> Value {
        Value { ty: POINTER, name: Name::Piece(number) }
    }

    pub(super) fn argument(ty: Type, number: u32) -> Value {
        Value { ty, name: Name::Argument(number) }
    }

    /// The number, where it is a float that is known now, the same in every lane.
    pub(super) fn known_real(self) -> Option<f64> {
        if let Name::Real(x) = self.name { Some(x) } else { None }
    }

    /// The value in every lane of a vector, where that needs no instruction.
    fn spread(self, lanes: usize) -> Option<Value> {
        let ty = Type::new(self.ty.scalar, lanes);
        matches!(self.name, Name::Int(_) | Name::Real(_) | Name::Poison).then_some(Value { ty, name: self.name })
    }

    /// With its type in front, as operands are written.
    pub(super) fn typed(self) -> Typed {
        Typed(self)
    }
}

pub(super) struct Typed(Value);

impl fmt::Display for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.ty, self.0)
    }
}

/// A float as LLVM reads it exactly: the bits of the double.
pub(super) fn exact(scalar: Scalar, x: f64) -> String {
    let x = if scalar == Scalar::F32 { f64::from(x as f32) } else { x };
    format!("0x{:016X}", x.to_bits())
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scalar = self.ty.scalar;
        let one = match self.name {
            Name::Register(n) => return write!(f, "%v{n}"),
            Name::Argument(n) => return write!(f, "%a{n}"),
            Name::Constant(n) => return write!(f, "@constant_{n}"),
            Name::DeviceConstant(n) => return write!(f, "addrspacecast (ptr addrspace(1) @constant_{n} to ptr)"),
            Name::Shared(n) => return write!(f, "addrspacecast (ptr addrspace(3) @shared_{n} to ptr)"),
            Name::Piece(n) => return write!(f, "@piece_{n}"),
            Name::Null => return f.write_str("null"),
            Name::Poison => return f.write_str("poison"),
            Name::Ramp(step) => {
                let all: Vec<String> =
                    (0..self.ty.lanes as i64).map(|lane| format!("{scalar} {}", lane * step)).collect();
                return write!(f, "<{}>", all.join(", "));
            }
            Name::Int(k) if scalar == Scalar::Bit => (k != 0).to_string(),
            Name::Int(k) => k.to_string(),
            Name::Real(x) => exact(scalar, x),
        };
        if self.ty.lanes == 1 { f.write_str(&one) } else { write!(f, "splat ({scalar} {one})") }
    }
}

/// A label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block(u32);

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b{}", self.0)
    }
}

/// One function: what runs once at its start, then its blocks.
#[derive(Debug, Default)]
pub(super) struct Function {
    entry: String,
    body: String,
    n_registers: u32,
    n_blocks: u32,
    current: u32,
}

/// How far a function has come; what was written since can be taken back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    body: usize,
    current: u32,
}

impl Function {
    /// The name of a result that an instruction will have later.
    pub(super) fn reserve(&mut self, ty: Type) -> Value {
        self.n_registers += 1;
        Value { ty, name: Name::Register(self.n_registers - 1) }
    }

    /// Appends an instruction that has a result.
    pub(super) fn value(&mut self, ty: Type, instruction: fmt::Arguments<'_>) -> Value {
        let res = self.reserve(ty);
        let _ = writeln!(self.body, "  {res} = {instruction}");
        res
    }

    /// Appends an instruction without one.
    pub(super) fn line(&mut self, instruction: fmt::Arguments<'_>) {
        let _ = writeln!(self.body, "  {instruction}");
    }

    /// An instruction of the function's start.
    pub(super) fn at_entry(&mut self, ty: Type, instruction: fmt::Arguments<'_>) -> Value {
        let res = self.reserve(ty);
        let _ = writeln!(self.entry, "  {res} = {instruction}");
        res
    }

    /// What follows goes to the function's start, until `turn_to_end`.
    pub(super) fn turn_to_start(&mut self) {
        std::mem::swap(&mut self.entry, &mut self.body);
    }

    pub(super) fn turn_to_end(&mut self) {
        std::mem::swap(&mut self.entry, &mut self.body);
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { body: self.body.len(), current: self.current }
    }

    /// Forgets what was appended after the mark; what was written at the start stays.
    pub(super) fn take_back(&mut self, mark: Mark) {
        self.body.truncate(mark.body);
        self.current = mark.current;
    }

    pub(super) fn block(&mut self) -> Block {
        self.n_blocks += 1;
        Block(self.n_blocks)
    }

    /// Where the next instruction goes.
    pub(super) fn here(&self) -> Block {
        Block(self.current)
    }

    /// Begins a block.
    pub(super) fn begin(&mut self, block: Block) {
        let _ = writeln!(self.body, "{block}:");
        self.current = block.0;
    }

    pub(super) fn jump(&mut self, to: Block) {
        self.line(format_args!("br label %{to}"));
    }

    pub(super) fn branch(&mut self, cond: Value, then: Block, otherwise: Block) {
        self.line(format_args!("br {}, label %{then}, label %{otherwise}", cond.typed()));
    }

    /// The text of the whole function; `head` is everything before the brace.
    pub(super) fn finish(self, head: &str) -> String {
        format!("{head} {{\n{}  br label %b0\nb0:\n{}  ret void\n}}\n\n", self.entry, self.body)
    }

    /// `op x, y` of equal types.
    pub(super) fn binary(&mut self, op: &str, x: Value, y: Value) -> Value {
        debug_assert_eq!(x.ty, y.ty, "{op}");
        self.value(x.ty, format_args!("{op} {}, {y}", x.typed()))
    }

    /// `icmp` or `fcmp`, with its condition.
    pub(super) fn compare(&mut self, op: &str, x: Value, y: Value) -> Value {
        debug_assert_eq!(x.ty, y.ty, "{op}");
        self.value(x.ty.of(Scalar::Bit), format_args!("{op} {}, {y}", x.typed()))
    }

    /// `op x to ty`, nothing where the type stays.
    pub(super) fn cast(&mut self, op: &str, x: Value, scalar: Scalar) -> Value {
        if x.ty.scalar == scalar {
            return x;
        }
        let ty = x.ty.of(scalar);
        self.value(ty, format_args!("{op} {} to {ty}", x.typed()))
    }

    pub(super) fn select(&mut self, cond: Value, x: Value, y: Value) -> Value {
        debug_assert_eq!(x.ty, y.ty, "select");
        self.value(x.ty, format_args!("select {}, {}, {}", cond.typed(), x.typed(), y.typed()))
    }

    /// An intrinsic overloaded by its result's type.
    pub(super) fn intrinsic(&mut self, name: &str, x: &[Value]) -> Value {
        let ty = x[0].ty;
        let operands: Vec<String> = x.iter().map(|v| v.typed().to_string()).collect();
        self.value(ty, format_args!("call {ty} @llvm.{name}.{}({})", ty.mangled(), operands.join(", ")))
    }

    /// A scalar in every lane.
    pub(super) fn splat(&mut self, x: Value, lanes: usize) -> Value {
        if lanes == x.ty.lanes {
            return x;
        }
        if let Some(spread) = x.spread(lanes) {
            return spread;
        }
        let ty = Type::new(x.ty.scalar, lanes);
        let one = self.value(ty, format_args!("insertelement {ty} poison, {}, i64 0", x.typed()));
        self.value(ty, format_args!("shufflevector {}, {ty} poison, <{lanes} x i32> zeroinitializer", one.typed()))
    }

    pub(super) fn extract(&mut self, x: Value, lane: Value) -> Value {
        let ty = Type::new(x.ty.scalar, 1);
        self.value(ty, format_args!("extractelement {}, {}", x.typed(), lane.typed()))
    }

    /// `base` moved by `index` elements of a type; a vector of pointers where the index is a vector.
    pub(super) fn element(&mut self, element: Type, base: Value, index: Value) -> Value {
        let ty = Type::new(Scalar::Pointer, index.ty.lanes.max(base.ty.lanes));
        self.value(ty, format_args!("getelementptr {element}, {}, {}", base.typed(), index.typed()))
    }
}
