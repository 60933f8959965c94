//! What kernels do, counted: sums along the rows of tables, in blocks of rows and of entries, and attention by tiles.

use super::*;
use crate::gpu::graphs_of;
use gdlc::kernel::work::work;

/// The operations of the kernels of a call of a benchmark, at sizes in the order of its program.
fn counted(name: &str, sizes: &[usize]) -> f64 {
    let graph = graphs_of(&format!("benches/programs/{name}.gdl")).remove(0);
    let (graph, _) = gdlc::rewrite::optimise(&graph, &gdlc::rewrite::Options::default());
    let program = lower(&graph, "model", Dtype::F32);
    let calls = program.kernels.iter().filter(|kernel| kernel.stage == Stage::Call);
    calls.map(|kernel| work(&program, kernel, sizes).flops).sum()
}

/// Entries are those of all rows together, whether rows are taken one by one or some at a time.
#[test]
fn sums_along_rows_count_each_entry_once() {
    for name in ["tensor_product", "gat_heads", "mpnn"] {
        let [few, many, longer] = [[1000, 20_000], [2000, 40_000], [1000, 40_000]].map(|sizes| counted(name, &sizes));
        assert!((many / few - 2.0).abs() < 0.02, "{name}: {few} {many}");
        assert!(longer > few && longer < many * 1.02, "{name}: {few} {longer} {many}");
    }
    // three operations an entry, channel and path at the least, of 14 paths; at most a hundred
    let each = counted("tensor_product", &[1000, 20_000]) / (20_000 * 32 * 14) as f64;
    assert!((3.0..100.0).contains(&each), "{each}");
}

/// Four linear maps and two products of each two tokens of a set; a softmax adds at most a dozen operations a pair and head, the rest is a twentieth.
#[test]
fn attention_counts_the_pairs_of_a_set() {
    let (n, channels, heads) = (2048.0, 256.0, 8.0);
    for sets in [1, 4, 16] {
        let pairs = n * n / sets as f64;
        let products = 2.0 * (4.0 * n * channels * channels + 2.0 * pairs * channels);
        let rest = counted("attention", &[2048, sets]) - products;
        assert!(rest > 0.0 && rest < 12.0 * pairs * heads + 0.05 * products, "{sets} sets: {rest} of {products}");
    }
}

/// `y_nc = Σ_tk x_nk [t = 1] w_tkc`: of the two taps one is there for all rows.
#[test]
fn taps_that_no_row_has_are_not_counted() {
    let mut case = Case::new();
    let n = case.size("n", 100);
    let x = case.input("x", &[n, Size::fixed(128)]);
    let w = case.weight("w", &[2, 128, 64]);
    let one = case.affine(&[], Size::fixed(2), &[], 1, Outside::Never);
    let one = one.rename(&[(one.axes[0], w.axes[0])]);
    let w = w.rename(&[(w.axes[1], x.axes[1])]);
    let y = case.g.contract(&[&x, &one, &w], &[x.axes[0], w.axes[2]]);
    case.out(&y);
    let program = case.check();
    let calls = program.kernels.iter().filter(|kernel| kernel.stage == Stage::Call);
    let flops: f64 = calls.map(|kernel| work(&program, kernel, &[100]).flops).sum();
    assert_eq!(flops, 2.0 * 100.0 * 128.0 * 64.0, "{program}");
}
