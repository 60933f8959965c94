//! Sums along run-time axes that leave short axes of every factor, in parts: the derivatives of biases.

use super::*;
use crate::kernel::dense::does_not_depend_on_the_threads;

fn fixed(n: usize) -> Size {
    Size::fixed(n)
}

fn is_a_total(program: &Program) {
    assert!(program.kernels.iter().any(|k| k.name.starts_with("totals")), "{program}");
}

/// `Σ_{b, p, g} x[b, p, g, c] · y[b, p, g, c]`: no place, fewer places than parts, and more; lanes that are full and that are not.
#[test]
fn products_of_whole_factors() {
    for (batch, n, channels) in [(0, 5, 8), (1, 1, 4), (3, 7, 13), (5, 40, 8)] {
        let mut case = Case::new();
        let (batch, n) = (case.size("batch", batch), case.size("n", n));
        let dims = [batch, n, fixed(3), fixed(channels)];
        let (x, y) = (case.input("x", &dims), case.input("y", &dims));
        let names: Vec<(Axis, Axis)> = y.axes.iter().copied().zip(x.axes.iter().copied()).collect();
        let total = case.g.contract(&[&x, &y.rename(&names)], &[x.axes[3]]);
        let total = case.g.map(Func::Tanh, &[&total]);
        case.out(&total);
        is_a_total(&case.check());
    }
}

/// `Σ_e x[e, a, c] · s[src[e], c] · 3`: a factor that is gathered and lacks an axis; two axes are left, one of them short.
#[test]
fn factors_that_are_gathered() {
    for edges in [0, 1, 50] {
        let mut case = Case::new();
        let (n, m) = (case.size("n", 9), case.size("m", edges));
        let (x, s) = (case.input("x", &[m, fixed(2), fixed(9)]), case.input("s", &[n, fixed(9)]));
        let src = case.table("src", &[m], n, false);
        let src = src.rename(&[(src.axes[0], x.axes[0]), (src.axes[1], s.axes[0])]);
        let s = s.rename(&[(s.axes[1], x.axes[2])]);
        let three = case.g.scalar(3.0);
        let total = case.g.contract(&[&x, &s, &src, &three], &[x.axes[1], x.axes[2]]);
        case.out(&total);
        is_a_total(&case.check());
    }
}

/// The parts depend on sizes alone.
#[test]
fn the_threads_do_not_matter() {
    let mut case = Case::new();
    let n = case.size("n", 5000);
    let x = case.input("x", &[n, fixed(40)]);
    let total = case.g.contract(&[&x], &[x.axes[1]]);
    case.out(&total);
    does_not_depend_on_the_threads(&case, "totals");
}
