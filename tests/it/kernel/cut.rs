//! Long sums on a GPU are cut over the threads of a block, whichever way their numbers lie, and mean what they meant: `check` compares
//! the spread program with the evaluator, by the interpreter (threads that meet without a barrier are found) and compiled.

use super::*;
use gdlc::kernel::gpu::spread;
use gdlc::kernel::lower::Hardware;

fn fixed(n: usize) -> Size {
    Size::fixed(n)
}

/// What the threads of each launch of the call own.
fn owners(program: &Program) -> Vec<(String, &'static str)> {
    let spread = spread(program, None).expect("every kernel can be spread");
    let of_call = spread.program.kernels.iter().zip(&spread.launches).filter(|(k, _)| k.stage == Stage::Call);
    of_call.map(|(k, l)| (k.name.clone(), l.owns)).collect()
}

fn all_are_cut(program: &Program) {
    let owners = owners(program);
    assert!(!owners.is_empty() && owners.iter().all(|(_, owns)| *owns == "a part of a sum"), "{owners:?}");
}

/// Down the columns and along the rows of a matrix, the greatest of each too, at sizes that fill blocks, leave some threads nothing to do,
/// and leave everything empty.
#[test]
fn sums_down_columns_and_along_rows() {
    for (n, k) in [(67, 9), (3, 1), (0, 4)] {
        let mut case = Case::new();
        let (n, k) = (case.size("n", n), case.size("k", k));
        let x = case.input("x", &[n, fixed(12)]);
        let column = x.axes[1];
        let down = case.g.contract(&[&x], &[column]);
        case.out(&down);
        let most = case.g.reduce(Reduction::Max, &x, &[], &[column]);
        case.out(&most);
        let long = case.input("long", &[k, fixed(160)]);
        let along = case.g.contract(&[&long], &[long.axes[0]]);
        case.out(&along);
        let y = case.input("y", &[n, fixed(12)]);
        let all = case.g.contract(&[&y], &[]);
        case.out(&all);
        all_are_cut(&case.check_for(Hardware::Gpu));
    }
}

/// Rows of a table: the elements of a set for each sample, channels side by side.
#[test]
fn sums_over_the_elements_of_a_sample() {
    let mut case = Case::new();
    let (n, samples) = (case.size("n", 90), Size::fixed(3));
    let x = case.input("x", &[n, fixed(24)]);
    let sample = case.table("sample", &[n], samples, true);
    let sample = sample.rename(&[(sample.axes[0], x.axes[0])]);
    let sum = case.g.contract(&[&x, &sample], &[sample.axes[1], x.axes[1]]);
    case.out(&sum);
    all_are_cut(&case.check());
}

/// `Σ_i x[i, a] · y[i, b]`, packed in blocks for a CPU: for a GPU each element is a sum of its own.
#[test]
fn products_of_two_tensors_of_the_call() {
    for n in [0, 1, 45, 700] {
        let mut case = Case::new();
        let n = case.size("n", n);
        let (x, y) = (case.input("x", &[n, fixed(16)]), case.input("y", &[n, fixed(20)]));
        let y = y.rename(&[(y.axes[0], x.axes[0])]);
        let product = case.g.contract(&[&x, &y], &[x.axes[1], y.axes[1]]);
        case.out(&product);
        let program = case.check();
        assert!(program.kernels.iter().any(|k| k.name.starts_with("outer")), "{program}");
        all_are_cut(&case.check_for(Hardware::Gpu));
    }
}

/// A few sums of a great many numbers are taken in two steps, so that there are blocks enough; where there are few numbers, in one.
/// A CPU deals their places into parts.
#[test]
fn few_long_sums_are_taken_in_two_steps() {
    let sums = |sizes: [usize; 2]| {
        let mut case = Case::new();
        let (n, m) = (case.size("n", sizes[0]), case.size("m", sizes[1]));
        let x = case.input("x", &[n, m, fixed(6)]);
        let y = case.input("y", &[n, m]);
        let y = y.rename(&[(y.axes[0], x.axes[0]), (y.axes[1], x.axes[1])]);
        let sum = case.g.contract(&[&x, &y], &[x.axes[2]]);
        case.out(&sum);
        case
    };
    let calls = |program: &Program| program.kernels.iter().filter(|k| k.stage == Stage::Call).count();
    for sizes in [[9, 70], [1, 1], [0, 5], [40, 3]] {
        let case = sums(sizes);
        let program = case.check_for(Hardware::Gpu);
        all_are_cut(&program);
        assert_eq!(calls(&program), 2, "{program}");
        let dealt = case.check();
        assert!(dealt.kernels[0].name.starts_with("totals"), "{dealt}");
    }
    let mut case = Case::new();
    let x = case.input("x", &[fixed(50), fixed(20), fixed(6)]);
    let sum = case.g.contract(&[&x], &[x.axes[2]]);
    case.out(&sum);
    assert_eq!(calls(&case.check_for(Hardware::Gpu)), 1);
}
