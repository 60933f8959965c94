//! Dense sums are contractions of the IR, whatever stands around them.

use super::*;
use gdlc::driver::load::Loaded;
use gdlc::kernel::ir::{Contraction, Stmt};
use gdlc::kernel::walk::each_stmt;

fn contractions(program: &Program) -> Vec<Contraction> {
    let mut res = Vec::new();
    for kernel in &program.kernels {
        each_stmt(&kernel.body, &mut |stmt| {
            if let Stmt::Contract(c) = stmt {
                res.push((**c).clone());
            }
        });
    }
    res
}

fn fixed(n: usize) -> Size {
    Size::fixed(n)
}

/// `Σ_{i, j, c, h} x[b, p+i-1, q+j-1, c, h] k[o, g, c, h, i, j]`; hands back the axes `[b, p, q, o, g]` and the value.
fn convolve(case: &mut Case, x: &Val, x_axes: [Axis; 5], n: Size, name: &str) -> (Val, [Axis; 5]) {
    let rows = case.affine(&[n, fixed(3)], n, &[1, 1], -1, Outside::Zero);
    let k = case.weight(name, &[3, 4, 3, 4, 3, 3]);
    let [b, u, v, c, h] = x_axes;
    let [o, g, kc, kh, i, j] = k.axes[..] else { panic!() };
    let (p, q) = (case.g.axis(), case.g.axis());
    let down = rows.rename(&[(rows.axes[0], p), (rows.axes[1], i), (rows.axes[2], u)]);
    let right = rows.rename(&[(rows.axes[0], q), (rows.axes[1], j), (rows.axes[2], v)]);
    let k = k.rename(&[(kc, c), (kh, h)]);
    let axes = [b, p, q, o, g];
    (case.g.contract(&[x, &k, &down, &right], &axes), axes)
}

/// A group convolution on `[b, u, v, c, h]` with weights `[o, g, c, h, i, j]` is a contraction with a tap for each place
/// of the window and one run through all channels, whoever made its input.
#[test]
fn a_group_convolution_is_one_contraction_a_layer() {
    let mut case = Case::new();
    let (batch, n) = (case.size("batch", 2), case.size("n", 5));
    let x = case.input("x", &[batch, n, n, fixed(3), fixed(4)]);
    let axes: [Axis; 5] = x.axes[..].try_into().expect("five axes");
    let (y, axes) = convolve(&mut case, &x, axes, n, "k0");
    let y = case.g.map(Func::Silu, &[&y]);
    let (y, axes) = convolve(&mut case, &y, axes, n, "k1");
    case.g.output("y", &y, &axes);
    let program = case.check();
    let all = contractions(&program);
    assert_eq!(all.len(), 2, "{program}");
    for c in &all {
        assert_eq!((c.taps, c.k_extent, c.n_extent, c.a_stride), (9, 12, 12, 1), "{program}");
    }
    assert_eq!(program.kernels.iter().filter(|k| k.stage == Stage::Call).count(), 2, "{program}");
}

/// A block of a fibre, by an inclusion of axes, is a stride; what follows is the epilogue, a second sum is stored.
#[test]
fn blocks_of_a_fibre_are_strides() {
    let mut case = Case::new();
    let n = case.size("n", 7);
    // 16 scalars and 16 vectors
    let x = case.input("x", &[n, fixed(64)]);
    let [s, f] = x.axes[..] else { panic!() };
    let mut parts = Vec::new();
    for (count, dim, begin) in [(16, 1, 0), (16, 3, 16)] {
        let block = case.affine(&[fixed(count), fixed(dim)], fixed(64), &[dim as i64, 1], begin, Outside::Never);
        let [c, m, to] = block.axes[..] else { panic!() };
        let block = block.rename(&[(to, f)]);
        let w = case.weight(&format!("w{dim}"), &[count, 20]);
        let w = w.rename(&[(w.axes[0], c)]);
        let y = case.g.contract(&[&x, &block, &w], &[s, w.axes[1], m]);
        parts.push((y, [s, m, w.axes[1]]));
    }
    for (y, axes) in &parts {
        let y = case.g.map(Func::Tanh, &[y]);
        case.g.output(format!("y{}", axes[1].0), &y, axes);
    }
    let program = case.check();
    let all = contractions(&program);
    assert_eq!(all.iter().map(|c| c.a_stride).collect::<Vec<_>>(), [1, 3], "{program}");
    assert!(all.iter().all(|c| c.taps == 1 && c.k_extent == 16 && c.n_extent == 20), "{program}");
}

/// Rows read through an index table; two products summed are two contractions, the second with the sum as its epilogue.
#[test]
fn gathered_rows_and_sums_of_products() {
    let mut case = Case::new();
    let (n, m) = (case.size("n", 6), case.size("m", 13));
    let x = case.input("x", &[n, fixed(16)]);
    let src = case.table("src", &[m], n, false);
    let dst = case.table("dst", &[m], n, true);
    let bias = case.weight("bias", &[17]);
    let (e, o) = (src.axes[0], bias.axes[0]);
    let mut terms = vec![bias.clone()];
    for (k, table) in [src, dst].into_iter().enumerate() {
        let w = case.weight(&format!("w{k}"), &[16, 17]);
        let w = w.rename(&[(w.axes[0], x.axes[1]), (w.axes[1], o)]);
        let table = table.rename(&[(table.axes[0], e), (table.axes[1], x.axes[0])]);
        let two = case.g.scalar(0.5);
        terms.push(case.g.contract(&[&x, &w, &table, &two], &[e, o]));
    }
    let y = case.g.sum(&terms.iter().collect::<Vec<_>>());
    let y = case.g.map(Func::Relu, &[&y]);
    case.out(&y);
    let program = case.check();
    let all = contractions(&program);
    assert_eq!(all.len(), 2, "{program}");
    assert!(all.iter().all(|c| c.n_extent == 17 && c.k_extent == 16), "{program}");
}

/// Weights block-diagonal along an axis that data have too are one contraction a block; strides and dilation are taps.
#[test]
fn block_diagonal_weights_and_strided_windows() {
    let mut case = Case::new();
    let n = case.size("n", 8);
    let half = n.over(2);
    let x = case.input("x", &[n, fixed(3), fixed(8)]);
    let w = case.weight("w", &[3, 8, 9, 2]);
    let [u, block, c] = x.axes[..] else { panic!() };
    let [wb, wc, o, i] = w.axes[..] else { panic!() };
    let w = w.rename(&[(wb, block), (wc, c)]);
    let window = case.affine(&[half, fixed(2)], n, &[2, 1], -1, Outside::Reflect);
    let p = window.axes[0];
    let window = window.rename(&[(window.axes[1], i), (window.axes[2], u)]);
    let y = case.g.contract(&[&x, &w, &window], &[p, block, o]);
    case.g.output("y", &y, &[p, block, o]);
    let program = case.check();
    let all = contractions(&program);
    assert_eq!(all.len(), 3, "{program}");
    assert!(all.iter().all(|c| (c.taps, c.k_extent, c.n_extent) == (2, 8, 9)), "{program}");
}

/// A product of data with several tensors of weights is one contraction: the weights are multiplied in `prepare`.
#[test]
fn weights_are_multiplied_before_the_call() {
    let mut case = Case::new();
    let n = case.size("n", 5);
    let x = case.input("x", &[n, fixed(12)]);
    let basis = case.weight("basis", &[4, 12, 12]);
    let w = case.weight("w", &[4]);
    let [s, c] = x.axes[..] else { panic!() };
    let basis = basis.rename(&[(basis.axes[0], w.axes[0]), (basis.axes[1], c)]);
    let y = case.g.contract(&[&x, &basis, &w], &[s, basis.axes[2]]);
    case.out(&y);
    let program = case.check();
    assert_eq!(contractions(&program).len(), 1, "{program}");
    assert_eq!(program.kernels.iter().filter(|k| k.stage == Stage::Call).count(), 1, "{program}");
}

/// The parts of a sum of products of two tensors of the call depend on sizes alone: one thread and several give the same bits.
#[test]
fn products_of_two_tensors_do_not_depend_on_the_threads() {
    let mut case = Case::new();
    let n = case.size("n", 9000);
    let (x, y) = (case.input("x", &[n, fixed(48)]), case.input("y", &[n, fixed(80)]));
    let y = y.rename(&[(y.axes[0], x.axes[0])]);
    let product = case.g.contract(&[&x, &y], &[x.axes[1], y.axes[1]]);
    case.out(&product);
    does_not_depend_on_the_threads(&case, "outer");
}

/// Whether the first result has the same bits by one thread and by several, of a program that has a kernel of this kind.
pub(super) fn does_not_depend_on_the_threads(case: &Case, kind: &str) {
    let program = lower(&case.g, "case", Dtype::F32);
    assert!(program.kernels.iter().any(|k| k.name.starts_with(kind)), "{program}");
    let (inputs, weights) = tensors(&program, &case.arguments());
    let path = build(&program, &interface_of(&program), Code::default(), &format!("{kind}-threads"));
    let (inputs, weights): (Vec<_>, Vec<_>) = (inputs.iter().map(Some).collect(), weights.iter().collect());
    let by = |threads: u32| {
        let loaded = Loaded::open(&path, "case").expect("it loads");
        let mut instance = loaded.bind(&inputs).expect("it binds");
        instance.threads = threads;
        instance.prepare(&weights).expect("it prepares");
        instance.call(&inputs).expect("it runs").remove(0)
    };
    let alone = by(1);
    assert!(alone.reals().iter().any(|x| *x != 0.0));
    assert!([2, 3, 4].into_iter().all(|threads| by(threads) == alone));
}
