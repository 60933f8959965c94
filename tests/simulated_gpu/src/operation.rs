//! What instructions compute that only touch registers: each is a function of up to three registers, looked up by its name (PTX ISA, chapter
//! 9.7). A register holds its bits in the low end of 64; the rest is not looked at.

use half::{bf16, f16};

/// An instruction on registers; operands that it does not have are 0.
pub type Operation = fn(u64, u64, u64) -> u64;

/// The type of a register, as its bits.
trait Bits: Copy {
    fn of(bits: u64) -> Self;
    fn bits(self) -> u64;
}

macro_rules! integers {
    ($($t:ty, $unsigned:ty, $wide:ty);*) => {$(
        impl Bits for $t {
            fn of(bits: u64) -> $t { bits as $t }
            fn bits(self) -> u64 { u64::from(self as $unsigned) }
        }
        impl Integer for $t {
            const WIDTH: u32 = <$t>::BITS;
            fn add(self, y: $t) -> $t { self.wrapping_add(y) }
            fn sub(self, y: $t) -> $t { self.wrapping_sub(y) }
            fn mul(self, y: $t) -> $t { self.wrapping_mul(y) }
            fn high(self, y: $t) -> $t { ((self as $wide * y as $wide) >> <$t>::BITS) as $t }
            // a division by zero gives what no test expects, as on a GPU
            fn div(self, y: $t) -> $t { if y == 0 { !0 } else { self.wrapping_div(y) } }
            fn rem(self, y: $t) -> $t { if y == 0 { self } else { self.wrapping_rem(y) } }
            fn shl(self, by: u64) -> $t { if by >= <$t>::BITS as u64 { 0 } else { self << by } }
            // beyond the width only the sign is left
            fn shr(self, by: u64) -> $t { if by >= <$t>::BITS as u64 { self >> (<$t>::BITS - 1) >> 1 } else { self >> by } }
            fn and(self, y: $t) -> $t { self & y }
            fn or(self, y: $t) -> $t { self | y }
            fn xor(self, y: $t) -> $t { self ^ y }
            fn not(self) -> $t { !self }
        }
    )*};
}

trait Integer: Bits + Ord {
    const WIDTH: u32;
    fn add(self, y: Self) -> Self;
    fn sub(self, y: Self) -> Self;
    fn mul(self, y: Self) -> Self;
    fn high(self, y: Self) -> Self;
    fn div(self, y: Self) -> Self;
    fn rem(self, y: Self) -> Self;
    fn shl(self, by: u64) -> Self;
    fn shr(self, by: u64) -> Self;
    fn and(self, y: Self) -> Self;
    fn or(self, y: Self) -> Self;
    fn xor(self, y: Self) -> Self;
    fn not(self) -> Self;
}

integers!(u8, u8, u16; u16, u16, u32; u32, u32, u64; u64, u64, u128; i8, u8, i16; i16, u16, i32; i32, u32, i64; i64, u64, i128);

impl Bits for f32 {
    fn of(bits: u64) -> f32 {
        f32::from_bits(bits as u32)
    }
    fn bits(self) -> u64 {
        u64::from(self.to_bits())
    }
}

impl Bits for f64 {
    fn of(bits: u64) -> f64 {
        f64::from_bits(bits)
    }
    fn bits(self) -> u64 {
        self.to_bits()
    }
}

/// A function of one, two or three values of a type.
macro_rules! of {
    ($t:ty, |$x:ident| $value:expr) => {{
        let f: Operation = |x, _, _| {
            let $x = <$t>::of(x);
            Bits::bits($value)
        };
        f
    }};
    ($t:ty, |$x:ident, $y:ident| $value:expr) => {{
        let f: Operation = |x, y, _| {
            let ($x, $y) = (<$t>::of(x), <$t>::of(y));
            Bits::bits($value)
        };
        f
    }};
    ($t:ty, |$x:ident, $y:ident, $z:ident| $value:expr) => {{
        let f: Operation = |x, y, z| {
            let ($x, $y, $z) = (<$t>::of(x), <$t>::of(y), <$t>::of(z));
            Bits::bits($value)
        };
        f
    }};
}

/// The operation of a name, `fma.rn.f32`; none where it is not known here.
pub fn operation(name: &str) -> Option<Operation> {
    let (head, last) = name.rsplit_once('.')?;
    match last {
        "pred" => predicate(head),
        "f32" | "f64" if head.starts_with("cvt.") => conversion(head, last),
        "f32" => float32(head),
        "f64" => float64(head),
        _ if head.starts_with("cvt.") => conversion(head, last),
        "b8" | "u8" => integer::<u8>(head),
        "b16" | "u16" => wide::<u16>(head).or(integer::<u16>(head)),
        "b32" | "u32" => wide::<u32>(head).or(integer::<u32>(head)),
        "b64" | "u64" => integer::<u64>(head),
        "s16" => wide::<i16>(head).or(integer::<i16>(head)),
        "s32" => wide::<i32>(head).or(integer::<i32>(head)),
        "s64" => integer::<i64>(head),
        _ => None,
    }
}

/// Operations on predicates, which are one bit.
fn predicate(head: &str) -> Option<Operation> {
    Some(match head {
        "mov" => |x, _, _| x & 1,
        "not" => |x, _, _| !x & 1,
        "and" => |x, y, _| x & y & 1,
        "or" => |x, y, _| (x | y) & 1,
        "xor" => |x, y, _| (x ^ y) & 1,
        _ => return None,
    })
}

/// Products of twice the width.
fn wide<T: Integer>(head: &str) -> Option<Operation> {
    match head {
        "mul.wide" => Some(|x, y, _| {
            let (x, y) = (T::of(x), T::of(y));
            x.high(y).bits() << T::WIDTH | x.mul(y).bits()
        }),
        _ => None,
    }
}

fn integer<T: Integer>(head: &str) -> Option<Operation> {
    Some(match head {
        "mov" => of!(T, |x| x),
        "add" => of!(T, |x, y| x.add(y)),
        "sub" => of!(T, |x, y| x.sub(y)),
        "mul.lo" => of!(T, |x, y| x.mul(y)),
        "mul.hi" => of!(T, |x, y| x.high(y)),
        "mad.lo" => of!(T, |x, y, z| x.mul(y).add(z)),
        "div" => of!(T, |x, y| x.div(y)),
        "rem" => of!(T, |x, y| x.rem(y)),
        "min" => of!(T, |x, y| x.min(y)),
        "max" => of!(T, |x, y| x.max(y)),
        "and" => of!(T, |x, y| x.and(y)),
        "or" => of!(T, |x, y| x.or(y)),
        "xor" => of!(T, |x, y| x.xor(y)),
        "not" => of!(T, |x| x.not()),
        "neg" => of!(T, |x| T::of(0).sub(x)),
        "shl" => |x, y, _| T::of(x).shl(y & 0xffff_ffff).bits(),
        "shr" => |x, y, _| T::of(x).shr(y & 0xffff_ffff).bits(),
        "bfe" => |x, at, n| extracted::<T>(T::of(x), at & 0xff, n & 0xff),
        "selp" => |x, y, p| T::of(if p & 1 == 1 { x } else { y }).bits(),
        "setp.eq" => |x, y, _| u64::from(T::of(x) == T::of(y)),
        "setp.ne" => |x, y, _| u64::from(T::of(x) != T::of(y)),
        "setp.lt" | "setp.lo" => |x, y, _| u64::from(T::of(x) < T::of(y)),
        "setp.le" | "setp.ls" => |x, y, _| u64::from(T::of(x) <= T::of(y)),
        "setp.gt" | "setp.hi" => |x, y, _| u64::from(T::of(x) > T::of(y)),
        "setp.ge" | "setp.hs" => |x, y, _| u64::from(T::of(x) >= T::of(y)),
        _ => return None,
    })
}

/// `n` bits from a place on; what is signed keeps its sign.
fn extracted<T: Integer>(x: T, at: u64, n: u64) -> u64 {
    if n == 0 {
        return 0;
    }
    let width = u64::from(T::WIDTH);
    let above = width.saturating_sub(at + n);
    x.shl(above).shr((above + at).min(width)).bits()
}

macro_rules! floats {
    ($t:ty, $head:expr) => {
        Some(match $head {
            "mov" => of!($t, |x| x),
            "add.rn" | "add" => of!($t, |x, y| x + y),
            "sub.rn" | "sub" => of!($t, |x, y| x - y),
            "mul.rn" | "mul" => of!($t, |x, y| x * y),
            "div.rn" => of!($t, |x, y| x / y),
            "fma.rn" => of!($t, |x, y, z| x.mul_add(y, z)),
            "rcp.rn" => of!($t, |x| 1.0 / x),
            "sqrt.rn" => of!($t, |x| x.sqrt()),
            "neg" => of!($t, |x| -x),
            "abs" => of!($t, |x| x.abs()),
            "min" => of!($t, |x, y| x.min(y)),
            "max" => of!($t, |x, y| x.max(y)),
            "selp" => |x, y, p| <$t>::of(if p & 1 == 1 { x } else { y }).bits(),
            "setp.eq" => |x, y, _| u64::from(<$t>::of(x) == <$t>::of(y)),
            "setp.ne" => |x, y, _| u64::from(<$t>::of(x) < <$t>::of(y) || <$t>::of(x) > <$t>::of(y)),
            "setp.lt" => |x, y, _| u64::from(<$t>::of(x) < <$t>::of(y)),
            "setp.le" => |x, y, _| u64::from(<$t>::of(x) <= <$t>::of(y)),
            "setp.gt" => |x, y, _| u64::from(<$t>::of(x) > <$t>::of(y)),
            "setp.ge" => |x, y, _| u64::from(<$t>::of(x) >= <$t>::of(y)),
            // also where one is not a number
            "setp.neu" => |x, y, _| u64::from(<$t>::of(x) != <$t>::of(y)),
            "setp.equ" => |x, y, _| u64::from(!(<$t>::of(x) < <$t>::of(y) || <$t>::of(x) > <$t>::of(y))),
            "setp.ltu" => |x, y, _| u64::from(!(<$t>::of(x) >= <$t>::of(y))),
            "setp.leu" => |x, y, _| u64::from(!(<$t>::of(x) > <$t>::of(y))),
            "setp.gtu" => |x, y, _| u64::from(!(<$t>::of(x) <= <$t>::of(y))),
            "setp.geu" => |x, y, _| u64::from(!(<$t>::of(x) < <$t>::of(y))),
            "setp.nan" => |x, y, _| u64::from(<$t>::of(x).is_nan() || <$t>::of(y).is_nan()),
            "setp.num" => |x, y, _| u64::from(!<$t>::of(x).is_nan() && !<$t>::of(y).is_nan()),
            _ => return None,
        })
    };
}

fn float32(head: &str) -> Option<Operation> {
    floats!(f32, head)
}

fn float64(head: &str) -> Option<Operation> {
    floats!(f64, head)
}

/// `cvt.to.from`, with how it is rounded before the types.
fn conversion(head: &str, from: &str) -> Option<Operation> {
    Some(match (head, from) {
        ("cvt.rni.f32", "f32") => of!(f32, |x| x.round_ties_even()),
        ("cvt.rmi.f32", "f32") => of!(f32, |x| x.floor()),
        ("cvt.rpi.f32", "f32") => of!(f32, |x| x.ceil()),
        ("cvt.rzi.f32", "f32") => of!(f32, |x| x.trunc()),
        ("cvt.rni.f64", "f64") => of!(f64, |x| x.round_ties_even()),
        ("cvt.rmi.f64", "f64") => of!(f64, |x| x.floor()),
        ("cvt.rpi.f64", "f64") => of!(f64, |x| x.ceil()),
        ("cvt.rzi.f64", "f64") => of!(f64, |x| x.trunc()),
        ("cvt.f64", "f32") => of!(f32, |x| f64::from(x)),
        ("cvt.rn.f32", "f64") => of!(f64, |x| x as f32),
        ("cvt.rn.f32", "s32") => of!(i32, |x| x as f32),
        ("cvt.rn.f32", "s64") => of!(i64, |x| x as f32),
        ("cvt.rn.f32", "u32") => of!(u32, |x| x as f32),
        ("cvt.rn.f32", "u64") => of!(u64, |x| x as f32),
        ("cvt.rn.f64", "s32") => of!(i32, |x| f64::from(x)),
        ("cvt.rn.f64", "s64") => of!(i64, |x| x as f64),
        ("cvt.rn.f64", "u32") => of!(u32, |x| f64::from(x)),
        ("cvt.rn.f64", "u64") => of!(u64, |x| x as f64),
        ("cvt.rzi.s32", "f32") => of!(f32, |x| x as i32),
        ("cvt.rzi.s64", "f32") => of!(f32, |x| if x.is_nan() { i64::MIN } else { x as i64 }),
        ("cvt.rzi.s32", "f64") => of!(f64, |x| if x.is_nan() { i32::MIN } else { x as i32 }),
        ("cvt.rzi.s64", "f64") => of!(f64, |x| if x.is_nan() { i64::MIN } else { x as i64 }),
        ("cvt.f32", "f16") => |x, _, _| f16::from_bits(x as u16).to_f32().bits(),
        ("cvt.f32", "bf16") => |x, _, _| bf16::from_bits(x as u16).to_f32().bits(),
        ("cvt.rn.f16", "f32") => |x, _, _| u64::from(f16::from_f32(f32::of(x)).to_bits()),
        ("cvt.rn.bf16", "f32") => |x, _, _| u64::from(bf16::from_f32(f32::of(x)).to_bits()),
        // the first operand is the upper half
        ("cvt.rn.f16x2", "f32") => |x, y, _| {
            let [x, y] = [x, y].map(|bits| u64::from(f16::from_f32(f32::of(bits)).to_bits()));
            x << 16 | y
        },
        ("cvt.rn.bf16x2", "f32") => |x, y, _| {
            let [x, y] = [x, y].map(|bits| u64::from(bf16::from_f32(f32::of(bits)).to_bits()));
            x << 16 | y
        },
        (_, "u8") => cut(head, |x, _, _| u64::from(x as u8))?,
        (_, "u16") => cut(head, |x, _, _| u64::from(x as u16))?,
        (_, "u32") => cut(head, |x, _, _| u64::from(x as u32))?,
        (_, "u64" | "s64") => match head {
            "cvt.u8" => |x, _, _| u64::from(x as u8),
            // a register of 16 bits holds it, with its sign
            "cvt.s8" => |x, _, _| (x as i8 as i16).bits(),
            "cvt.u16" | "cvt.s16" => |x, _, _| u64::from(x as u16),
            "cvt.u32" | "cvt.s32" => |x, _, _| u64::from(x as u32),
            _ => return None,
        },
        (_, "s8") => signed::<i8>(head)?,
        (_, "s16") => signed::<i16>(head)?,
        (_, "s32") => signed::<i32>(head)?,
        _ => return None,
    })
}

/// An unsigned number of another width: the same bits, as far as they are there.
fn cut(head: &str, same: Operation) -> Option<Operation> {
    match head {
        "cvt.u64" | "cvt.s64" | "cvt.u32" | "cvt.s32" => Some(same),
        "cvt.u16" | "cvt.s16" => Some(|x, _, _| u64::from(x as u16)),
        "cvt.u8" => Some(|x, _, _| u64::from(x as u8)),
        _ => None,
    }
}

/// A signed number of another width.
fn signed<T: Integer + Into<i64>>(head: &str) -> Option<Operation> {
    match head {
        "cvt.s64" | "cvt.u64" => Some(|x, _, _| T::of(x).into() as u64),
        "cvt.s32" | "cvt.u32" => Some(|x, _, _| u64::from(T::of(x).into() as u32)),
        "cvt.s16" | "cvt.u16" => Some(|x, _, _| u64::from(T::of(x).into() as u16)),
        _ => None,
    }
}
