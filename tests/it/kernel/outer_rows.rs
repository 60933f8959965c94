//! Derivatives of the weights of windows read the rows where they are.

use super::*;
use gdlc::kernel::ir::Stmt;
use gdlc::kernel::walk::each_stmt;

fn fixed(n: usize) -> Size {
    Size::fixed(n)
}

/// Rows that some contraction of the program reads beside each other.
fn beside(program: &Program) -> usize {
    let mut res = 1;
    for kernel in &program.kernels {
        each_stmt(&kernel.body, &mut |stmt| {
            if let Stmt::Contract(c) = stmt {
                res = res.max(c.beside);
            }
        });
    }
    res
}

/// `y[i, j, c, h, o] = Σ_{b, p, q} x[b, s p + i - 1, s q + j - 1, c, h] g[b, p, q, o]`
fn derivative_of_weights(outside: Outside, (n, stride): (usize, i64), [c, h, o]: [usize; 3]) -> Program {
    let mut case = Case::new();
    let (batch, many) = (case.size("batch", 3), case.size("n", n * stride as usize));
    let few = case.size("m", n);
    let x = case.input("x", &[batch, many, many, fixed(c), fixed(h)]);
    let g = case.input("g", &[batch, few, few, fixed(o)]);
    let window = case.affine(&[few, fixed(3)], many, &[stride, 1], -1, outside);
    let [b, u, v, c, h] = x.axes[..] else { panic!() };
    let [p, q, o] = g.axes[1..] else { panic!() };
    let g = g.rename(&[(g.axes[0], b)]);
    let (i, j) = (case.g.axis(), case.g.axis());
    let down = window.rename(&[(window.axes[0], p), (window.axes[1], i), (window.axes[2], u)]);
    let right = window.rename(&[(window.axes[0], q), (window.axes[1], j), (window.axes[2], v)]);
    let y = case.g.contract(&[&x, &g, &down, &right], &[i, j, c, h, o]);
    case.out(&y);
    case.check()
}

#[test]
fn windows_with_each_boundary_and_stride() {
    for outside in [Outside::Zero, Outside::Wrap, Outside::Reflect] {
        for (n, stride) in [(1, 1), (5, 1), (3, 2)] {
            let program = derivative_of_weights(outside, (n, stride), [3, 4, 5]);
            assert_eq!(beside(&program), 12, "{program}");
        }
    }
}

/// All numbers of rows that are left beside full tiles, and of columns.
#[test]
fn channels_of_all_numbers() {
    for (c, o) in [(8, 4), (9, 17), (11, 64), (23, 16), (37, 33)] {
        let program = derivative_of_weights(Outside::Zero, (4, 1), [c, 1, o]);
        assert_eq!(beside(&program), c, "{program}");
    }
}

/// More places than a block has.
#[test]
fn several_blocks_of_places() {
    let program = derivative_of_weights(Outside::Zero, (19, 1), [8, 1, 16]);
    assert_eq!(beside(&program), 8, "{program}");
}

/// Few channels are copied, and so are rows that are computed: of a product of two tensors.
#[test]
fn what_does_not_lie_beside_each_other_is_packed() {
    assert_eq!(beside(&derivative_of_weights(Outside::Zero, (5, 1), [3, 1, 8])), 1);
    let mut case = Case::new();
    let n = case.size("n", 40);
    let (x, z, g) =
        (case.input("x", &[n, fixed(8)]), case.input("z", &[n, fixed(2)]), case.input("g", &[n, fixed(16)]));
    let (z, g) = (z.rename(&[(z.axes[0], x.axes[0])]), g.rename(&[(g.axes[0], x.axes[0])]));
    let y = case.g.contract(&[&x, &z, &g], &[x.axes[1], z.axes[1], g.axes[1]]);
    case.out(&y);
    assert_eq!(beside(&case.check()), 1);
}

/// The parts of the places do not depend on the threads.
#[test]
fn threads_give_the_same_bits() {
    let mut case = Case::new();
    let n = case.size("n", 900);
    let (x, g) = (case.input("x", &[n, fixed(24)]), case.input("g", &[n, fixed(40)]));
    let window = case.affine(&[n, fixed(5)], n, &[1, 1], -2, Outside::Zero);
    let window = window.rename(&[(window.axes[0], g.axes[0]), (window.axes[2], x.axes[0])]);
    let y = case.g.contract(&[&x, &g, &window], &[window.axes[1], x.axes[1], g.axes[1]]);
    case.out(&y);
    dense::does_not_depend_on_the_threads(&case, "outer");
}
