//! Kernels of the same rows that follow one another are one kernel, strip by strip, where what they hand on is large, and only there.

use super::*;
use crate::kernel::dense::does_not_depend_on_the_threads;
use gdlc::tensor::graph::{Paired, PairedWay};

fn fixed(n: usize) -> Size {
    Size::fixed(n)
}

/// Rows that a strip has at most; the program's hint is 1000 rows.
const STRIP: usize = 48;

fn strips(program: &Program) -> usize {
    program.kernels.iter().filter(|k| k.name.starts_with("strips")).count()
}

/// The number of the axis of the channels, and how many there are.
fn channels(case: &Case, x: &Val) -> (usize, usize) {
    let dims = &case.g.ty(x.id).dims;
    dims.iter().enumerate().find_map(|(k, d)| Some((k, d.as_fixed()?))).expect("channels")
}

/// `tanh(x · w)`, of rows and channels.
fn layer(case: &mut Case, x: &Val, name: &str, n: usize) -> Val {
    let (at, width) = channels(case, x);
    let w = case.weight(name, &[width, n]);
    let w = w.rename(&[(w.axes[0], x.axes[at])]);
    let y = case.g.contract(&[x, &w], &[x.axes[1 - at], w.axes[1]]);
    case.g.map(Func::Tanh, &[&y])
}

/// A chain of three layers on `n` rows.
fn chain(n: usize, width: usize) -> Case {
    let mut case = Case::new();
    let n = case.size("n", n);
    let x = case.input("x", &[n, fixed(24)]);
    let x = layer(&mut case, &x, "u", width);
    let x = layer(&mut case, &x, "v", width);
    let x = layer(&mut case, &x, "w", 20);
    case.out(&x);
    case
}

/// No row, less than a strip, a strip, more, several.
#[test]
fn chains_of_layers() {
    for n in [0, 1, STRIP - 1, STRIP, STRIP + 1, 3 * STRIP + 5] {
        let program = chain(n, 40).check();
        assert_eq!(strips(&program), 1, "{program}");
        assert!(program.buffers.iter().all(|(_, b)| b.memory != Memory::Workspace), "{program}");
    }
}

#[test]
fn the_threads_do_not_matter() {
    does_not_depend_on_the_threads(&chain(1000, 80), "strips");
}

/// What would stay in the caches anyhow, and matrices that would not, are left alone.
#[test]
fn little_is_handed_on_or_much_passes_by() {
    assert_eq!(strips(&chain(7, 8).check()), 0);
    assert_eq!(strips(&chain(7, 300).check()), 0);
}

/// Rows of several components each: an irrep a matrix, put together at the end.
#[test]
fn components_of_a_row() {
    for n in [1, STRIP, 2 * STRIP + 7] {
        let mut case = Case::new();
        let n = case.size("n", n);
        let x = case.input("x", &[n, fixed(40), fixed(4)]);
        let mut parts = Vec::new();
        for (k, (from, count)) in [(0usize, 1usize), (1, 3)].into_iter().enumerate() {
            let part = case.affine(&[fixed(count)], fixed(4), &[1], from as i64, Outside::Zero);
            let w = case.weight(&format!("w{k}"), &[40, 40]);
            let [r, c, i] = x.axes[..] else { panic!() };
            let part = part.rename(&[(part.axes[1], i)]);
            let w = w.rename(&[(w.axes[0], c)]);
            let y = case.g.contract(&[&x, &part, &w], &[r, w.axes[1], part.axes[0]]);
            let y = case.g.map(Func::Tanh, &[&y]);
            let back = case.affine(&[fixed(4)], fixed(count), &[1], -(from as i64), Outside::Zero);
            let back = back.rename(&[(back.axes[1], part.axes[0])]);
            parts.push((case.g.contract(&[&y, &back], &[r, w.axes[1], back.axes[0]]), back.axes[0], w.axes[1]));
        }
        let (first, i, o) = parts[0].clone();
        let (second, j, p) = parts[1].clone();
        let sum = case.g.sum(&[&first, &second.rename(&[(j, i), (p, o)])]);
        case.out(&sum);
        let program = case.check();
        assert_eq!(strips(&program), 1, "{program}");
    }
}

/// What is read at other rows ends a strip; what others read too stays an array.
#[test]
fn rows_of_others() {
    for n in [1, 2 * STRIP + 7] {
        let mut case = Case::new();
        let n = case.size("n", n);
        let x = case.input("x", &[n, fixed(24)]);
        let src = case.table("src", &[n], n, false);
        let first = layer(&mut case, &x, "u", 48);
        let second = layer(&mut case, &first, "v", 80);
        let third = layer(&mut case, &second, "w", 48);
        let src = src.rename(&[(src.axes[0], third.axes[0])]);
        let moved = third.rename(&[(third.axes[0], src.axes[1])]);
        let gathered = case.g.contract(&[&moved, &src], &[src.axes[0], third.axes[1]]);
        let tanh = case.g.map(Func::Tanh, &[&gathered]);
        let names = [(tanh.axes[0], first.axes[0]), (tanh.axes[1], first.axes[1])];
        let all = case.g.sum(&[&first, &tanh.rename(&names)]);
        case.out(&all);
        let program = case.check();
        assert_eq!(strips(&program), 1, "{program}");
        let arrays = program.buffers.iter().filter(|(_, b)| b.memory == Memory::Workspace).count();
        assert_eq!(arrays, 2, "the first and the third layer: {program}");
    }
}

/// Rows whose number is counted when an instance is made: the pairs of ends of edges.
#[test]
fn rows_that_are_counted() {
    for m in [0, 1, 60, 3 * STRIP + 5] {
        let mut case = Case::new();
        let (n, m) = (case.size("n", 9), case.size("m", m));
        let u = case.input("u", &[m, fixed(24)]);
        case.table("a", &[m], n, false);
        case.table("b", &[m], n, true);
        let ids: Vec<_> = case.g.inputs.ids().collect();
        let p = Size::var(case.g.sizes.counted("pairs", 1000, m));
        let paired = |way| Function::Paired(Paired { ends: [ids[1], ids[2]], way });
        let class = case.relation(&[m], p, paired(PairedWay::Class));
        let first = case.relation(&[p], m, paired(PairedWay::First));
        let first = first.rename(&[(first.axes[1], u.axes[0])]);
        let x = case.g.contract(&[&u, &first], &[first.axes[0], u.axes[1]]);
        let x = layer(&mut case, &x, "v", 80);
        let x = layer(&mut case, &x, "w", 40);
        let class = class.rename(&[(class.axes[1], first.axes[0])]);
        let channel = x.axes[channels(&case, &x).0];
        let y = case.g.contract(&[&x, &class], &[class.axes[0], channel]);
        case.out(&y);
        let program = case.check();
        assert_eq!(strips(&program), 1, "{program}");
    }
}
