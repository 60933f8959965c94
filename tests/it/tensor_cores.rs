//! Products on tensor cores: numbers are rounded to their types as IEEE 754 says; a tile of products by warps computes what the statement
//! says, by the interpreter and by the CPU's backend; wrong statements are refused.

use gdlc::base::arena::Id;
use gdlc::base::dtype::Dtype;
use gdlc::base::size::Size;
use gdlc::driver::code::Code;
use gdlc::driver::tensors::Tensor;
use gdlc::kernel::build::Builder;
use gdlc::kernel::gpu::spread;
use gdlc::kernel::interpret::{Machine, Order};
use gdlc::kernel::ir::{Access, Buffer, LoopKind, Memory, Multiply, Program, Stage, Stmt, Unary, WARP};
use gdlc::kernel::narrow::Narrow;
use gdlc::kernel::verify::verify;
use gdlc::math::Rng;

use crate::conformance::{Case, build, computed, convolution};
use crate::gpu::{MOST_OPERATIONS, operations};

/// Floats of every exponent, and those next to what is halfway between two of few digits.
fn hard_floats() -> Vec<f32> {
    let mut rng = Rng::new(5);
    let mut res = vec![0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45, f32::INFINITY, f32::NEG_INFINITY];
    for _ in 0..2000 {
        let bits = (rng.next_u64() >> 32) as u32;
        for cut in [13, 16] {
            let halfway = bits & !((1 << cut) - 1) | 1 << (cut - 1);
            res.extend([halfway - 1, halfway, halfway + 1].map(f32::from_bits));
        }
        // within the range of binary16
        let small = bits & 0x807f_ffff | (98 + bits >> 23 & 0x1f) + 98 << 23;
        res.push(f32::from_bits(small));
    }
    res.extend([65504.0, 65519.99, 65520.0, -65520.0, 2f32.powi(-25), 1.5 * 2f32.powi(-25), 3.0 * 2f32.powi(-25)]);
    res.retain(|x| !x.is_nan());
    res
}

/// All finite numbers of a type, ascending, decoded from their bits.
fn all_numbers(narrow: Narrow) -> Vec<f64> {
    let (digits, exponent_bits) = match narrow {
        Narrow::Tf32 => (10, 8),
        Narrow::Bf16 => (7, 8),
        Narrow::F16 => (10, 5),
    };
    let bias = (1 << (exponent_bits - 1)) - 1;
    let mut res = vec![];
    for exponent in 0..(1 << exponent_bits) - 1 {
        for digit in 0..1 << digits {
            let fraction = f64::from(digit) / f64::from(1 << digits);
            res.push(match exponent {
                0 => fraction * 2f64.powi(1 - bias),
                _ => (1.0 + fraction) * 2f64.powi(exponent - bias),
            });
        }
    }
    res
}

/// The nearest of all numbers; of two as near, the one whose last digit is 0: every other one.
fn nearest_of(all: &[f64], x: f64) -> f64 {
    let size = x.abs();
    let after = all.partition_point(|y| *y <= size);
    let below = all[after - 1];
    let step = if after < all.len() { all[after] - below } else { below - all[after - 2] };
    let (near, odd) = (size - below, after % 2 == 0);
    let up = near > step / 2.0 || (near == step / 2.0 && odd);
    let res = match up {
        false => below,
        true if after < all.len() => all[after],
        true => f64::INFINITY,
    };
    res.copysign(x)
}

#[test]
fn numbers_are_rounded_to_the_nearest() {
    for narrow in Narrow::ALL {
        let all = all_numbers(narrow);
        assert_eq!(all.last().copied(), Some(narrow.greatest()), "{narrow}");
        for x in hard_floats().into_iter().map(f64::from) {
            assert_eq!(narrow.nearest(x), nearest_of(&all, x), "{x:e} in {narrow}");
        }
        assert!(narrow.nearest(f64::NAN).is_nan());
    }
}

/// The rounding of a list of numbers, as a program.
fn rounding(narrow: Narrow, n: usize) -> Case {
    let mut case = Case::new("rounding", Dtype::F32, &[]);
    let shape = [Size::fixed(n)];
    let (x, y) = (case.input("x", &shape), case.output("y", &shape));
    let mut b = Builder::default();
    let i = b.var();
    let (ie, zero, end) = (b.read(i), b.int(0), b.int(n as i64));
    let value = b.load(x, vec![ie]);
    let value = b.unary(Unary::Rounded(narrow), value);
    let store = Stmt::Store { to: Access { buffer: y, index: vec![ie] }, value };
    case.kernel(
        Stage::Call,
        b,
        vec![Stmt::For { var: i, begin: zero, end, kind: LoopKind::Vector, body: vec![store] }],
    );
    case
}

#[test]
fn backends_round_as_the_interpreter() {
    let floats = hard_floats();
    for narrow in Narrow::ALL {
        let mut case = rounding(narrow, floats.len());
        case.inputs[0] = Tensor::real(vec![floats.len()], floats.iter().map(|x| f64::from(*x)).collect());
        for code in crate::conformance::backends() {
            let path = build(&case.program, &case.interface, code, &format!("rounding-{narrow}"));
            let got = computed(&case.program, &path, &[], &case.inputs, &[]);
            for (x, y) in floats.iter().zip(got[0].reals()) {
                assert_eq!(y.to_bits(), narrow.nearest(f64::from(*x)).to_bits(), "{x:e} in {narrow} by {code:?}");
            }
        }
    }
}

fn kernels_of_all(case: &Case, narrow: Narrow) -> Program {
    let spread = spread(&case.program, Some(narrow)).expect("it can be spread").program;
    verify(&spread).expect("it is well formed");
    spread
}

/// A convolution of f64 whose data and weights went through a function.
fn exact(of: &Case, shape: (usize, usize, usize), factor: impl Fn(f64) -> f64, bias: impl Fn(f64) -> f64) -> Vec<f64> {
    let mut case = convolution(Dtype::F64, shape.0, shape.1, shape.2);
    let changed = |t: &Tensor, f: &dyn Fn(f64) -> f64| {
        Tensor::real(t.shape.clone(), t.reals().iter().map(|x| f(f64::from(*x as f32))).collect())
    };
    case.inputs = vec![changed(&of.inputs[0], &factor)];
    case.weights = vec![changed(&of.weights[0], &factor), changed(&of.weights[1], &bias)];
    case.interpreted_as(&case.program).remove(0)
}

#[test]
fn tiles_of_warps_compute_the_products_of_rounded_factors() {
    let small = [(1, 3, 16), (37, 5, 7), (70, 20, 40), (129, 33, 130), (300, 16, 17)];
    let all = small.into_iter().flat_map(|shape| Narrow::ALL.map(|narrow| (shape, narrow)));
    // enough rows and columns for the largest tiles
    let large = [((16_400, 2, 16), Narrow::F16), ((2049, 1, 1000), Narrow::Tf32)];
    for (shape, narrow) in all.chain(large) {
        let case = convolution(Dtype::F32, shape.0, shape.1, shape.2);
        let plain = exact(&case, shape, |x| x, |x| x);
        let sizes = exact(&case, shape, f64::abs, f64::abs);
        let test = format!("{shape:?} in {narrow}");
        let spread = kernels_of_all(&case, narrow);
        let products = exact(&case, shape, |x| narrow.nearest(x), |x| x);
        let path = build(&spread, &case.interface, Code::default(), "tensor-cores");
        let mut all = vec![computed(&spread, &path, &case.sizes, &case.inputs, &case.weights)[0].reals().to_vec()];
        if operations(&spread, &case.sizes) < 4.0 * MOST_OPERATIONS {
            all.push(case.interpreted_as(&spread).remove(0));
        }
        if let [compiled, interpreted] = &all[..] {
            assert_eq!(compiled, interpreted, "{test}");
        }
        #[cfg(feature = "llvm")]
        {
            let arguments = [case.inputs.clone(), case.weights.clone()];
            let got = crate::cuda::computed(&case.program, &case.sizes, arguments, Some(narrow), "tensor-cores");
            all.push(got[0].reals().to_vec());
        }
        // sums of f32; each factor is off by half a unit, and both may be
        let terms = (3 * shape.1 + 1) as f64;
        let half = 2f64.powi(-narrow.digits() - 1);
        let bounds = (terms * 2f64.powi(-24), half * (2.0 + half) + terms * 2f64.powi(-24));
        let mut rounded = 0.0f64;
        for got in &all {
            for (k, y) in got.iter().enumerate() {
                assert!((y - products[k]).abs() <= bounds.0 * sizes[k], "{test}: {k} is {y}, not {}", products[k]);
                assert!((y - plain[k]).abs() <= bounds.1 * sizes[k], "{test}: {k} is {y}, not {}", plain[k]);
                rounded = rounded.max((y - plain[k]).abs() / (half * sizes[k]));
            }
        }
        assert!(rounded > 0.05, "{test}: nothing was rounded ({rounded})");
    }
}

/// One warp that multiplies a matrix of 16 × `rows` with one of 16 × 8, which it has filled with a number.
fn one_warp(x: f64, own_epoch: bool, inside_if: bool) -> Result<(), String> {
    let mut program = Program::new("warp", Dtype::F32, Default::default());
    let mut local = |name: &str, shape: &[usize]| {
        let shape = shape.iter().map(|n| Size::fixed(*n)).collect();
        program.buffers.push(Buffer { name: name.into(), dtype: Dtype::F32, shape, memory: Memory::Local })
    };
    let (sums, a, b) = (local("sums", &[WARP, 2, 2]), local("a", &[1, 16, 16]), local("b", &[1, 16, 8]));
    let mut builder = Builder::default();
    let (zero, one, end) = (builder.int(0), builder.int(1), builder.int(WARP as i64));
    let fill = |builder: &mut Builder, buffer: Id<Buffer>, rows: i64, columns: i64, value: f64| {
        let (r, c) = (builder.var(), builder.var());
        let (re, ce) = (builder.read(r), builder.read(c));
        let index = vec![zero, re, ce];
        let store = Stmt::Store { to: Access { buffer, index }, value: builder.float(value) };
        let (rows, columns) = (builder.int(rows), builder.int(columns));
        let inner = Stmt::For { var: c, begin: zero, end: columns, kind: LoopKind::Serial, body: vec![store] };
        Stmt::For { var: r, begin: zero, end: rows, kind: LoopKind::Serial, body: vec![inner] }
    };
    let first = builder.var();
    let cond = builder.read(first);
    let cond = builder.compare(gdlc::kernel::ir::Comparison::Eq, cond, zero);
    let filled = vec![fill(&mut builder, a, 16, 16, x), fill(&mut builder, b, 16, 8, 1.0)];
    let fills = vec![Stmt::If { cond, then: filled }];
    let multiplies = |builder: &mut Builder, var| {
        let thread = builder.read(var);
        let mut body = vec![];
        for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let index = vec![thread, builder.int(i), builder.int(j)];
            body.push(Stmt::Store { to: Access { buffer: sums, index }, value: builder.float(0.0) });
        }
        let multiply = Stmt::Multiply(Multiply { factors: Narrow::Bf16, thread, a, b, place: zero, sums, across: 1 });
        let all = builder.compare(gdlc::kernel::ir::Comparison::Le, zero, thread);
        body.push(if inside_if { Stmt::If { cond: all, then: vec![multiply] } } else { multiply });
        body
    };
    let threads = |var, body| Stmt::For { var, begin: zero, end, kind: LoopKind::Threads, body };
    let mut body: Vec<Stmt> = [sums, a, b].into_iter().map(|buffer| Stmt::Alloc { buffer }).collect();
    if own_epoch {
        let second = builder.var();
        let multiply = multiplies(&mut builder, second);
        body.extend([threads(first, fills), threads(second, multiply)]);
    } else {
        let multiply = multiplies(&mut builder, first);
        body.push(threads(first, fills.into_iter().chain(multiply).collect()));
    }
    let block = builder.var();
    let body = vec![Stmt::For { var: block, begin: zero, end: one, kind: LoopKind::Blocks, body }];
    program.kernels.push(builder.finish("warp", Stage::Call, body));
    verify(&program)?;
    Machine::new(&program, &[], Order::Forward).run(Stage::Call).map_err(|fault| fault.why)
}

#[test]
fn wrong_products_of_warps_are_found() {
    one_warp(1.5, true, false).expect("written, then multiplied after the barrier");
    let race = one_warp(1.5, false, false).expect_err("no barrier between");
    assert!(race.contains("written in the loop whose warps multiply it"), "{race}");
    let unrounded = one_warp(1.001, true, false).expect_err("ten digits, where bf16 has seven");
    assert!(unrounded.contains("not a number of bf16"), "{unrounded}");
    let diverging = one_warp(1.5, true, true).expect_err("a warp may diverge in a branch");
    assert!(diverging.contains("directly in the loop over its threads"), "{diverging}");
}

#[test]
fn f64_has_no_products_of_tensor_cores() {
    let case = convolution(Dtype::F64, 4, 4, 8);
    let why = spread(&case.program, Some(Narrow::Tf32)).expect_err("they sum in f32");
    assert!(why.contains("tf32") && why.contains("f64"), "{why}");
}

/// NVIDIA's assembler takes the products for every architecture that has them, and they stay in registers.
#[cfg(feature = "llvm")]
#[test]
fn ptxas_takes_the_products() {
    use crate::gpu::{check_assembly, programs_of};
    use gdlc::codegen::device::{Architecture, emit};
    use gdlc::package::device::find_ptxas;
    let old = emit(&programs_of("examples/lenet.gdl")[0], Architecture(75), Some(Narrow::Tf32));
    let why = old.expect_err("sm_75 has none").to_string();
    assert!(why.contains("sm_75") && why.contains("sm_80"), "{why}");
    let names =
        ["m16n8k8.row.col.f32.tf32.tf32.f32", "m16n8k16.row.col.f32.bf16.bf16.f32", "m16n8k16.row.col.f32.f16.f16.f32"];
    for path in ["examples/digits.gdl", "benches/programs/sgemm.gdl", "benches/programs/conv.gdl", "examples/mpnn.gdl"]
    {
        for program in programs_of(path) {
            for (narrow, name) in Narrow::ALL.into_iter().zip(names) {
                for architecture in [80, 90, 100].map(Architecture) {
                    let code = emit(&program, architecture, Some(narrow)).expect("it is emitted");
                    assert!(code.ptx.contains(&format!("mma.sync.aligned.{name}")), "{path} in {narrow}");
                    if let Some(ptxas) = find_ptxas() {
                        check_assembly(&ptxas, &code, architecture, path);
                    }
                }
            }
        }
    }
}
