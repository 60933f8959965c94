//! Sums over many places of products of rows with columns are tiles on a GPU, and mean what they meant: `check_for` compares the spread program
//! with the evaluator, by the interpreter (races are found) where it is small enough, and compiled.

use super::*;
use gdlc::kernel::gpu::spread;
use gdlc::kernel::lower::Hardware;

fn fixed(n: usize) -> Size {
    Size::fixed(n)
}

fn all_are_tiles(program: &Program) {
    let spread = spread(program, None).expect("every kernel can be spread");
    let owns: Vec<&str> = spread.launches.iter().map(|l| l.owns).collect();
    assert!(!owns.is_empty() && owns.iter().all(|owns| *owns == "a tile of a sum of products"), "{owns:?}\n{program}");
}

/// `Σ_i x[i, a] · y[i, b] · s[i]`: sizes that are whole tiles and that are not, no place, one, and more than a part has.
#[test]
fn products_of_rows_with_columns() {
    for (n, rows, columns) in [(0, 70, 90), (1, 64, 96), (63, 130, 50), (150, 81, 70)] {
        let mut case = Case::new();
        let n = case.size("n", n);
        let (x, y) = (case.input("x", &[n, fixed(rows)]), case.input("y", &[n, fixed(columns)]));
        let scale = case.input("s", &[n]);
        let (y, scale) = (y.rename(&[(y.axes[0], x.axes[0])]), scale.rename(&[(scale.axes[0], x.axes[0])]));
        let product = case.g.contract(&[&x, &y, &scale], &[x.axes[1], y.axes[1]]);
        let product = case.g.map(Func::Tanh, &[&product]);
        case.out(&product);
        all_are_tiles(&case.check_for(Hardware::Gpu));
    }
}

/// `Σ_{b, p, q} x[b, p + i - 1, q + j - 1, (c, d)] · y[b, p, q, o]`, zero outside: the derivative of a convolution by its weights. The places of
/// the window are apart, since the border depends on them; two axes are the rows.
#[test]
fn the_derivative_of_a_window_by_its_weights() {
    for (batch, n) in [(1, 2), (3, 5), (2, 0)] {
        let mut case = Case::new();
        let (batch, n) = (case.size("batch", batch), case.size("n", n));
        let x = case.input("x", &[batch, n, n, fixed(6), fixed(5)]);
        let y = case.input("y", &[batch, n, n, fixed(40)]);
        let window = case.affine(&[n, fixed(3)], n, &[1, 1], -1, Outside::Zero);
        let [b, u, v, c, d] = x.axes[..] else { panic!() };
        let [of_y, p, q, o] = y.axes[..] else { panic!() };
        let (i, j) = (case.g.axis(), case.g.axis());
        let down = window.rename(&[(window.axes[0], p), (window.axes[1], i), (window.axes[2], u)]);
        let right = window.rename(&[(window.axes[0], q), (window.axes[1], j), (window.axes[2], v)]);
        let y = y.rename(&[(of_y, b)]);
        let axes = [o, c, d, i, j];
        let product = case.g.contract(&[&x, &y, &down, &right], &axes);
        case.g.output("y", &product, &axes);
        all_are_tiles(&case.check_for(Hardware::Gpu));
    }
}

/// An axis that both factors have is apart: a product for each group.
#[test]
fn groups_are_apart() {
    let mut case = Case::new();
    let n = case.size("n", 50);
    let (x, y) = (case.input("x", &[n, fixed(9), fixed(33)]), case.input("y", &[n, fixed(9), fixed(20)]));
    let y = y.rename(&[(y.axes[0], x.axes[0]), (y.axes[1], x.axes[1])]);
    let axes = [x.axes[1], x.axes[2], y.axes[2]];
    let product = case.g.contract(&[&x, &y], &axes);
    case.g.output("y", &product, &axes);
    all_are_tiles(&case.check_for(Hardware::Gpu));
}
