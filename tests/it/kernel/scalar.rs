//! The errors of the scalar functions in units in the last place: f64 against mpmath (`tests/golden/scalar_functions.json`), f32
//! against f64. And their limits.

use super::*;
use crate::conformance::codes;
use gdlc::kernel::build::Builder;
use gdlc::kernel::ir::{Access, Argument, ArgumentKind, Buffer, LoopKind, Stmt, Unary};
use gdlc::kernel::pass::legalize::legalize;
use gdlc::kernel::scalar_functions::ulp_bound;

const FUNCTIONS: [(&str, Unary); 7] = [
    ("exp", Unary::Exp),
    ("log", Unary::Log),
    ("tanh", Unary::Tanh),
    ("sigmoid", Unary::Sigmoid),
    ("erf", Unary::Erf),
    ("sin", Unary::Sin),
    ("cos", Unary::Cos),
];

/// `y[i] = f(x[i])`, written out.
fn program(f: Unary, dtype: Dtype, n: usize) -> Program {
    let mut program = Program::new("scalar", dtype, SizeTable::default());
    let mut declare = |name: &str, memory: Memory| {
        let shape = vec![Size::fixed(n)];
        let buffer = program.buffers.push(Buffer { name: name.into(), dtype, shape, memory });
        (buffer, Argument { name: name.into(), buffer, kind: ArgumentKind::Real })
    };
    let (x, x_argument) = declare("x", Memory::Input(0));
    let (y, y_argument) = declare("y", Memory::Output(0));
    program.inputs.push(x_argument);
    program.outputs.push(y_argument);
    let mut b = Builder::default();
    let var = b.var();
    let i = b.read(var);
    let x = b.load(x, vec![i]);
    let value = b.unary(f, x);
    let body = vec![Stmt::Store { to: Access { buffer: y, index: vec![i] }, value }];
    let (begin, end) = (b.int(0), b.int(n as i64));
    let body = vec![Stmt::For { var, begin, end, kind: LoopKind::Vector, body }];
    program.kernels.push(b.finish("scalar", Stage::Call, body));
    legalize(&mut program);
    verify(&program).expect("the written-out function is well formed");
    program
}

fn values(f: Unary, dtype: Dtype, xs: &[f64]) -> Vec<f64> {
    let program = program(f, dtype, xs.len());
    let mut machine = Machine::new(&program, &[], Order::Forward);
    machine.set_input(0, xs);
    machine.run(Stage::Call).unwrap_or_else(|fault| panic!("{}", fault.why));
    machine.output(0).expect("all is written")
}

/// The distance of floats around `y`.
fn ulp(dtype: Dtype, y: f64) -> f64 {
    let (bits, least) = if dtype == Dtype::F32 { (23, -126) } else { (52, -1022) };
    let exponent = (y.abs().log2().floor() as i32).max(least);
    f64::exp2(f64::from(exponent - bits))
}

#[test]
fn double_functions_are_as_exact_as_stated() {
    let text = std::fs::read_to_string("tests/golden/scalar_functions.json").expect("the golden values");
    let table: BTreeMap<String, Vec<[String; 3]>> = serde_json::from_str(&text).expect("a table of triples");
    let number = |text: &String| text.parse::<f64>().expect("a number");
    for (name, f) in FUNCTIONS {
        let rows: Vec<[f64; 3]> = table[name].iter().map(|row| row.each_ref().map(number)).collect();
        let found = values(f, Dtype::F64, &rows.iter().map(|r| r[0]).collect::<Vec<_>>());
        let error = |(y, r): (&f64, &[f64; 3])| (((y - r[1]) - r[2]).abs() / ulp(Dtype::F64, r[1]), r[0]);
        let worst = found.iter().zip(&rows).map(error).fold((0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a });
        println!("{name}: {:.3} ulp at {:e}", worst.0, worst.1);
        assert!(worst.0 <= ulp_bound(f), "{name} is off by {} units at {:e}", worst.0, worst.1);
    }
}

#[test]
fn single_functions_are_as_exact_as_stated() {
    for (name, f) in FUNCTIONS {
        let exact = |x: f64| match f {
            Unary::Exp => x.exp(),
            Unary::Log => x.ln(),
            Unary::Tanh => x.tanh(),
            Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Unary::Erf => gdlc::tensor::eval::erf(x),
            Unary::Sin => x.sin(),
            _ => x.cos(),
        };
        let end: f64 = match f {
            Unary::Exp | Unary::Sigmoid => 86.0,
            Unary::Log => 1e6,
            Unary::Tanh | Unary::Erf => 12.0,
            _ => 1e4,
        };
        let least: f64 = if f == Unary::Log { 1e-30 } else { -end };
        let wide = (0..20_000).map(|k| least + (end - least) * f64::from(k) / 20_000.0);
        let narrow = (1..20_000).map(|k| if f == Unary::Log { 0.0 } else { -2.0 } + 4.0 * f64::from(k) / 20_000.0);
        let xs: Vec<f64> = wide.chain(narrow).map(|x| f64::from(x as f32)).collect();
        let found = values(f, Dtype::F32, &xs);
        let error = |(y, x): (&f64, &f64)| ((y - exact(*x)).abs() / ulp(Dtype::F32, exact(*x)), *x);
        let worst = found.iter().zip(&xs).map(error).fold((0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a });
        println!("{name}: {:.3} ulp at {:e}", worst.0, worst.1);
        assert!(worst.0 <= ulp_bound(f), "{name} is off by {} units at {:e}", worst.0, worst.1);
    }
}

#[test]
fn scalar_functions_have_their_limits() {
    let infinity = f64::INFINITY;
    let xs = [0.0, infinity, -infinity, f64::NAN, 1000.0, -1000.0];
    for dtype in [Dtype::F32, Dtype::F64] {
        let expected: [(Unary, [f64; 6]); 5] = [
            (Unary::Exp, [1.0, infinity, 0.0, f64::NAN, infinity, 0.0]),
            (Unary::Log, [-infinity, infinity, f64::NAN, f64::NAN, 1000f64.ln(), f64::NAN]),
            (Unary::Tanh, [0.0, 1.0, -1.0, f64::NAN, 1.0, -1.0]),
            (Unary::Sigmoid, [0.5, 1.0, 0.0, f64::NAN, 1.0, 0.0]),
            (Unary::Erf, [0.0, 1.0, -1.0, f64::NAN, 1.0, -1.0]),
        ];
        for (f, limits) in expected {
            for (y, limit) in values(f, dtype, &xs).iter().zip(limits) {
                let same = (y - limit).abs() < 1e-6 || *y == limit || (y.is_nan() && limit.is_nan());
                assert!(same, "{f:?} in {dtype}: {y} for {limit}");
            }
        }
        for f in [Unary::Sin, Unary::Cos] {
            let found = values(f, dtype, &xs[..4]);
            assert!(found[1..].iter().all(|y| y.is_nan()), "{f:?} in {dtype}: {found:?}");
        }
        let least = if dtype == Dtype::F32 { f64::from(f32::MIN_POSITIVE) } else { f64::MIN_POSITIVE };
        let subnormal = values(Unary::Log, dtype, &[least / 8.0])[0];
        assert!((subnormal - (least.ln() - 8f64.ln())).abs() < 1e-4, "log of a subnormal in {dtype}: {subnormal}");
    }
}

/// On every processor, by every backend: what they are written out to has one rounding an operation.
#[test]
fn scalar_functions_have_the_same_bits_everywhere() {
    let xs: Vec<f64> = (0..300).map(|k| f64::from((k as f32 - 150.0) * 0.37)).chain([0.0, 1e-30, 80.5, 1e4]).collect();
    for (name, f) in FUNCTIONS {
        for dtype in [Dtype::F32, Dtype::F64] {
            let wanted = values(f, dtype, &xs);
            let x = Array { dims: vec![xs.len()], data: xs.clone() };
            let args = Arguments { inputs: BTreeMap::from([("x".to_string(), x)]), ..Arguments::default() };
            for code in codes() {
                let found = &through_library(&program(f, dtype, xs.len()), code, &args)["y"];
                for (x, (a, b)) in xs.iter().zip(found.iter().zip(&wanted)) {
                    let same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
                    assert!(same, "{name} of {x} in {dtype} is {a:e}, not {b:e}, by {code:?}");
                }
            }
        }
    }
}
