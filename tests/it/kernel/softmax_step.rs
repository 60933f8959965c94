//! One step of the running softmax of a tile, as each backend has it, beside the interpreter.

use super::*;
use crate::conformance::{self, at};
use gdlc::kernel::build::Builder;
use gdlc::kernel::ir::{Binary, Comparison, LoopKind, Softmax, Stmt};

fn fixed(n: usize) -> Size {
    Size::fixed(n)
}

/// Scores `4 x`, minus infinity where the place is a multiple of 5, in `rows` rows of which `count` are there; the greatest before is
/// minus infinity in every third row, else a number. Results: the weights, the greatest, the sums and what is kept.
fn step(dtype: Dtype, (rows, columns, count): (usize, usize, usize)) -> conformance::Case {
    let mut case = conformance::Case::new("step", dtype, &[("rows", rows), ("count", count)]);
    let (n, present) = (case.size(0), case.size(1));
    let x = case.input("x", &[n, fixed(columns)]);
    let before = case.input("before", &[n]);
    let out = [case.output("weights", &[n, fixed(columns)]), case.output("tops", &[n]), case.output("totals", &[n])];
    let kept = case.output("keeps", &[n]);
    let shapes = [vec![fixed(40), fixed(columns)], vec![fixed(40)], vec![fixed(40)], vec![fixed(40)]];
    let locals = shapes.map(|shape| case.buffer("local", &shape, Memory::Local));
    let [scores, tops, totals, keeps] = locals;
    let mut b = Builder::default();
    let vars: [_; 4] = [(); 4].map(|()| b.var());
    let [m, t, r, c] = vars.map(|var| b.read(var));
    let (one, zero, end, width, some, three) =
        (b.int(1), b.int(0), b.size(n), b.int(columns as i64), b.int(5), b.int(3));
    let (least, sharp, held) = (b.float(f64::NEG_INFINITY), b.float(4.0), b.float(2.5));
    let (digit, of_three) = (b.binary(Binary::Mod, t, some), b.binary(Binary::Mod, m, three));
    let (nothing, first) = (b.compare(Comparison::Eq, digit, zero), b.compare(Comparison::Eq, of_three, one));
    let (number, old) = (b.load(x, vec![m, t]), b.load(before, vec![m]));
    let number = b.mul(number, sharp);
    let (score, top) = (b.select(Some(nothing), least, number), b.select(Some(first), least, old));
    let store = |to, index: &[_], value| Stmt::Store { to: at(to, index), value };
    let each = |var, end, body| Stmt::For { var, begin: zero, end, kind: LoopKind::Serial, body };
    let mut body: Vec<Stmt> = locals.iter().map(|buffer| Stmt::Alloc { buffer: *buffer }).collect();
    let inner = each(vars[1], width, vec![store(scores, &[m, t], score)]);
    body.push(each(vars[0], end, vec![inner, store(tops, &[m], top), store(totals, &[m], held)]));
    let count = b.size(present);
    body.push(Stmt::Softmax(Softmax { rows: end, count, scores, tops, totals, keeps }));
    let weight = b.load(scores, vec![r, c]);
    let mut results = vec![each(vars[3], width, vec![store(out[0], &[r, c], weight)])];
    for (to, from) in [(out[1], tops), (out[2], totals), (kept, keeps)] {
        let value = b.load(from, vec![r]);
        results.push(store(to, &[r], value));
    }
    body.push(each(vars[2], end, results));
    case.kernel(Stage::Call, b, body);
    case
}

#[test]
fn a_step_of_all_lengths() {
    for (dtype, tolerance) in [(Dtype::F32, 1e-6), (Dtype::F64, 1e-14)] {
        for shape in [(1, 64, 2), (3, 64, 63), (17, 64, 64), (33, 128, 70), (40, 64, 17)] {
            let name = format!("step-{dtype}-{}-{}", shape.0, shape.2);
            step(dtype, shape).conforms_on_cpus(&name, tolerance);
        }
    }
}
