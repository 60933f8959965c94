//! Sums along edges: tensor products over sparse rows, attention, several paths in one kernel; and the sums of their derivatives.

use super::*;
use gdlc::kernel::ir::{Binary, Expr, LoopKind, Stmt};
use gdlc::kernel::walk::each_stmt;

fn fixed(n: usize) -> Size {
    Size::fixed(n)
}

/// The totally antisymmetric symbol, and the identity on three components.
fn cross_and_dot() -> (Vec<f64>, Vec<f64>) {
    let mut cross = vec![0.0; 27];
    for (i, j, k, sign) in
        [(0, 1, 2, 1.0), (1, 2, 0, 1.0), (2, 0, 1, 1.0), (1, 0, 2, -1.0), (2, 1, 0, -1.0), (0, 2, 1, -1.0)]
    {
        cross[i * 9 + j * 3 + k] = sign;
    }
    let mut dot = vec![0.0; 9];
    (0..3).for_each(|i| dot[i * 4] = 1.0);
    (cross, dot)
}

/// Scalars and vectors on points, messages `(x ⊗ Y(edge)) · w(edge)` for all paths of degree at most 1, summed at receivers:
/// two kinds of features in, two out.
fn tensor_product(edges: usize, channels: usize, sorted: bool) -> Program {
    let mut case = Case::new();
    let (n, m) = (case.size("n", 6), case.size("m", edges));
    let x = case.input("x", &[n, fixed(4 * channels)]);
    let y = case.input("y", &[m, fixed(3)]);
    let w = case.input("w", &[m, fixed(5 * channels)]);
    let src = case.table("src", &[m], n, false);
    let dst = case.table("dst", &[m], n, sorted);
    let [j, f] = x.axes[..] else { panic!() };
    let [e, l] = y.axes[..] else { panic!() };
    let src = src.rename(&[(src.axes[0], e), (src.axes[1], j)]);
    let i = dst.axes[1];
    let dst = dst.rename(&[(dst.axes[0], e)]);
    let w = w.rename(&[(w.axes[0], e)]);
    let scalars = case.affine(&[fixed(channels)], fixed(4 * channels), &[1], 0, Outside::Never);
    let c = scalars.axes[0];
    let scalars = scalars.rename(&[(scalars.axes[1], f)]);
    let scalars = case.g.contract(&[&x, &scalars], &[j, c]);
    let vectors =
        case.affine(&[fixed(channels), fixed(3)], fixed(4 * channels), &[3, 1], channels as i64, Outside::Never);
    let k = vectors.axes[1];
    let vectors = vectors.rename(&[(vectors.axes[0], c), (vectors.axes[2], f)]);
    let vectors = case.g.contract(&[&x, &vectors], &[j, c, k]);
    let (cross, dot) = cross_and_dot();
    let (cross, dot) = (case.constant(&[3, 3, 3], cross), case.constant(&[3, 3], dot));
    let p = case.g.axis();
    let cross = cross.rename(&[(cross.axes[0], k), (cross.axes[1], l), (cross.axes[2], p)]);
    let along = |a: Axis, b: Axis| dot.rename(&[(dot.axes[0], a), (dot.axes[1], b)]);
    let (k_l, l_p, k_p) = (along(k, l), along(l, p), along(k, p));
    let weights = |case: &mut Case, path: usize| {
        let block =
            case.affine(&[fixed(channels)], fixed(5 * channels), &[1], (path * channels) as i64, Outside::Never);
        let block = block.rename(&[(block.axes[0], c), (block.axes[1], w.axes[1])]);
        case.g.contract(&[&w, &block], &[e, c])
    };
    let [w0, w1, w2, w3, w4] = [0, 1, 2, 3, 4].map(|path| weights(&mut case, path));
    let s0 = case.g.contract(&[&scalars, &w0, &src, &dst], &[i, c]);
    let s1 = case.g.contract(&[&vectors, &y, &k_l, &w1, &src, &dst], &[i, c]);
    let v0 = case.g.contract(&[&scalars, &y, &l_p, &w2, &src, &dst], &[i, c, p]);
    let v1 = case.g.contract(&[&vectors, &k_p, &w3, &src, &dst], &[i, c, p]);
    let v2 = case.g.contract(&[&vectors, &y, &cross, &w4, &src, &dst], &[i, c, p]);
    let own = scalars.rename(&[(j, i)]);
    let scalars = case.g.sum(&[&own, &s0, &s1]);
    let vectors = case.g.sum(&[&v0, &v1, &v2]);
    let gated = case.g.map(Func::Silu, &[&scalars]);
    let vectors = case.g.mul(&vectors, &gated);
    case.g.output("scalars", &gated, &[i, c]);
    case.g.output("vectors", &vectors, &[i, c, p]);
    case.check()
}

#[test]
fn all_paths_to_one_kind_of_feature_walk_the_rows_once() {
    for (edges, channels, sorted) in [(0, 4, true), (17, 8, true), (23, 5, false)] {
        let program = tensor_product(edges, channels, sorted);
        let walks = |kernel: &&gdlc::kernel::ir::Kernel| {
            let mut serial = 0;
            each_stmt(&kernel.body, &mut |stmt| {
                if let Stmt::For { kind: LoopKind::Serial, .. } = stmt {
                    serial += 1;
                }
            });
            kernel.stage == Stage::Call && kernel.name.starts_with("rows") && serial == 1
        };
        // the finished scalars gate the vectors: one kernel each
        assert_eq!(program.kernels.iter().filter(walks).count(), 2, "{program}");
    }
}

/// What a sum fetches row by row is made of the fewest numbers: a matrix product with a constant that makes more of a point's numbers, and a
/// multiple of them, are not stored; a product that makes fewer is.
#[test]
fn rows_are_fetched_as_they_are_shortest() {
    let turned = [0.0, -1.0, 0.0, 1.0, 0.0, 0.5, 0.0, -0.5, 0.0, 2.0, 0.0, 1.0, 0.0, 3.0, 0.0, 1.0, 0.0, 0.0];
    for (columns, data, stored) in
        [(6, turned.to_vec(), 0), (3, turned[..9].to_vec(), 1), (1, turned[2..5].to_vec(), 1)]
    {
        let mut case = Case::new();
        let (n, m) = (case.size("n", 5), case.size("m", 12));
        let x = case.input("x", &[n, fixed(3), fixed(8)]);
        let y = case.input("y", &[m, fixed(columns)]);
        let src = case.table("src", &[m], n, false);
        let dst = case.table("dst", &[m], n, true);
        let [j, k, c] = x.axes[..] else { panic!() };
        let [e, l] = y.axes[..] else { panic!() };
        let src = src.rename(&[(src.axes[0], e), (src.axes[1], j)]);
        let (i, dst) = (dst.axes[1], dst.rename(&[(dst.axes[0], e)]));
        let more = case.constant(&[3, columns], data);
        let more = more.rename(&[(more.axes[0], k), (more.axes[1], l)]);
        let at_points = case.g.contract(&[&x, &more], &[j, l, c]);
        let half = case.g.scalar(0.5);
        let scaled = case.g.contract(&[&x, &half], &[j, k, c]);
        let first = case.g.contract(&[&at_points, &y, &src, &dst], &[i, c]);
        let second = case.g.contract(&[&scaled, &src, &dst], &[i, k, c]);
        case.out(&first);
        case.out(&second);
        let program = case.check();
        let arrays = program.buffers.iter().filter(|(_, b)| b.memory == Memory::Workspace && b.shape[0] == n);
        assert_eq!(arrays.count(), stored, "{program}");
    }
}

/// What sums along two tables read at their entries, made of a row that entries share, is made in both; where a third one reads it too it is
/// made once and stored, and so it is on a GPU, and where it is made of a row of the entry's own.
#[test]
fn values_of_entries_are_made_again_for_two_tables() {
    for (n_tables, places, own, hardware, stored) in [
        (1, false, false, Hardware::Cpu, 0),
        (1, false, true, Hardware::Cpu, 0),
        (2, false, false, Hardware::Cpu, 0),
        (2, false, true, Hardware::Cpu, 2),
        (3, false, false, Hardware::Cpu, 2),
        (2, false, false, Hardware::Gpu, 2),
        // a sum of the channels at each entry is another kernel
        (0, true, false, Hardware::Cpu, 0),
        (1, true, false, Hardware::Cpu, 0),
        (2, true, false, Hardware::Cpu, 2),
    ] {
        let mut case = Case::new();
        let (n, m) = (case.size("n", 5), case.size("m", 14));
        let x = case.input("x", &[n, fixed(3), fixed(8)]);
        let y = case.input("y", &[m, fixed(3)]);
        let tables = ["first", "second", "third"].map(|name| case.table(name, &[m], n, false));
        let [e, l] = y.axes[..] else { panic!() };
        let along = |table: &Val, case: &mut Case| {
            let i = case.g.axis();
            (i, table.rename(&[(table.axes[0], e), (table.axes[1], i)]))
        };
        let (cross, _) = cross_and_dot();
        let cross = case.constant(&[3, 3, 3], cross);
        let (j, ends) = along(&tables[0], &mut case);
        let x = x.rename(&[(x.axes[0], j)]);
        let (k, c, p) = (x.axes[1], x.axes[2], case.g.axis());
        let turn = cross.rename(&[(cross.axes[0], k), (cross.axes[1], l), (cross.axes[2], p)]);
        let turned = case.g.contract(&[&x, &y, &turn, &ends], &[e, p, c]);
        let (q, again) = (case.g.axis(), if own { &turned } else { &x });
        let from = if own { p } else { k };
        let other = case.constant(
            &[3, 3, 3],
            (0..27).map(|k| if (k / 9 + k / 3 + k) % 3 == 0 { f64::from(k) + 0.5 } else { 0.0 }).collect(),
        );
        let other = other.rename(&[(other.axes[0], from), (other.axes[1], l), (other.axes[2], q)]);
        let operands = [again, &y, &other, &ends];
        let twice = case.g.contract(&operands[..if own { 3 } else { 4 }], &[e, q, c]);
        for (table, name) in tables[..n_tables].iter().zip(["f", "g", "h"]) {
            let (i, rows) = along(table, &mut case);
            let weights = case.input(name, &[m, fixed(3)]);
            let first = weights.rename(&[(weights.axes[0], e), (weights.axes[1], p)]);
            let second = weights.rename(&[(weights.axes[0], e), (weights.axes[1], q)]);
            let one = case.g.contract(&[&turned, &first, &rows], &[i, c]);
            let two = case.g.contract(&[&twice, &second, &rows], &[i, c]);
            case.out(&one);
            case.out(&two);
        }
        if places {
            let weights = case.input("w", &[m, fixed(8)]);
            let weights = weights.rename(&[(weights.axes[0], e), (weights.axes[1], c)]);
            let one = case.g.contract(&[&turned, &weights], &[e, p]);
            let two = case.g.contract(&[&twice, &weights], &[e, q]);
            case.out(&one);
            case.out(&two);
        }
        let program = case.check_for(hardware);
        let by_entry = program.buffers.iter().filter(|(_, b)| b.memory == Memory::Workspace && b.shape[0] == m);
        let found = by_entry.filter(|(_, b)| b.shape.len() > 1).count();
        assert!(found == stored, "{n_tables} tables: {found}\n{program}");
    }
}

/// Sums over the same rows that need each other stay apart.
#[test]
fn a_second_layer_over_the_same_rows_is_another_kernel() {
    let mut case = Case::new();
    let (n, m) = (case.size("n", 5), case.size("m", 12));
    let x = case.input("x", &[n, fixed(4), fixed(3)]);
    let y = case.input("y", &[m, fixed(3)]);
    let src = case.table("src", &[m], n, false);
    let dst = case.table("dst", &[m], n, true);
    let (cross, _) = cross_and_dot();
    let cross = case.constant(&[3, 3, 3], cross);
    let e = y.axes[0];
    let mut axes: [Axis; 3] = x.axes[..].try_into().expect("three axes");
    let mut x = x;
    for layer in 0..3 {
        let [j, c, k] = axes;
        let (i, p) = (case.g.axis(), case.g.axis());
        let src = src.rename(&[(src.axes[0], e), (src.axes[1], j)]);
        let dst = dst.rename(&[(dst.axes[0], e), (dst.axes[1], i)]);
        let cross = cross.rename(&[(cross.axes[0], k), (cross.axes[1], y.axes[1]), (cross.axes[2], p)]);
        let z = case.g.contract(&[&x, &y, &cross, &src, &dst], &[i, c, p]);
        let turned = case.g.map(Func::Tanh, &[&z]);
        x = case.g.sum(&[&turned, &z]);
        axes = [i, c, p];
        case.g.output(format!("y{layer}"), &x, &axes);
    }
    case.check();
}

/// What the derivative by an edge's harmonics is: `z[e, k] = Σ_{c, i, j} x[src e, c, i] g[dst e, c, j] w[e, c] cross[i, k, j]`, and
/// beside it the products of each pair of components. Channels are added up in lanes, however they divide; both in one kernel.
#[test]
fn channels_of_an_edge_are_added_up_in_lanes() {
    for (edges, channels) in [(0, 8), (1, 8), (13, 12), (13, 32), (5, 40), (5, 96), (13, 7)] {
        let mut case = Case::new();
        let (n, m) = (case.size("n", 6), case.size("m", edges));
        let x = case.input("x", &[n, fixed(channels), fixed(3)]);
        let g = case.input("g", &[n, fixed(channels), fixed(3)]);
        let w = case.input("w", &[m, fixed(channels)]);
        let own = case.input("own", &[m, fixed(3)]);
        let src = case.table("src", &[m], n, false);
        let dst = case.table("dst", &[m], n, true);
        let cross = case.constant(&[3, 3, 3], cross_and_dot().0);
        let [u, c, i] = x.axes[..] else { panic!() };
        let [e, v, j, k] = [w.axes[0], g.axes[0], g.axes[2], cross.axes[1]];
        let g = g.rename(&[(g.axes[1], c)]);
        let w = w.rename(&[(w.axes[1], c)]);
        let own = own.rename(&[(own.axes[0], e), (own.axes[1], k)]);
        let src = src.rename(&[(src.axes[0], e), (src.axes[1], u)]);
        let dst = dst.rename(&[(dst.axes[0], e), (dst.axes[1], v)]);
        let cross = cross.rename(&[(cross.axes[0], i), (cross.axes[2], j)]);
        let z = case.g.contract(&[&x, &g, &w, &cross, &src, &dst], &[e, k]);
        let z = case.g.sum(&[&z, &own]);
        let pairs = case.g.contract(&[&x, &g, &w, &src, &dst], &[e, i, j]);
        case.out(&z);
        case.out(&pairs);
        let program = case.check();
        let kernels: Vec<&str> = program.kernels.iter().map(|k| k.name.as_str()).collect();
        let together = kernels.len() == 1 && kernels[0].starts_with("rows");
        assert_eq!(together, channels % 4 == 0, "{program}");
    }
}

/// Products of a sum are taken in the order of fewest: pairs of 3 and 5 components share the 3 products with the weight, and a number that all
/// share is multiplied once; of a form in both, `Σ_{i, j} n[e, i, j] x_i y_j`, what an `x_i` is multiplied by is added up first.
#[test]
fn products_are_taken_in_the_order_of_fewest() {
    let count = |out: fn(&mut Case, [&Val; 4], [Axis; 4]) -> Val| {
        let mut case = Case::new();
        let m = case.size("m", 7);
        let x = case.input("x", &[m, fixed(8), fixed(3)]);
        let y = case.input("y", &[m, fixed(8), fixed(5)]);
        let w = case.input("w", &[m, fixed(8)]);
        let n = case.input("n", &[m, fixed(3), fixed(5)]);
        let [e, c, i] = x.axes[..] else { panic!() };
        let j = y.axes[2];
        let y = y.rename(&[(y.axes[0], e), (y.axes[1], c)]);
        let w = w.rename(&[(w.axes[0], e), (w.axes[1], c)]);
        let n = n.rename(&[(n.axes[0], e), (n.axes[1], i), (n.axes[2], j)]);
        let z = out(&mut case, [&x, &y, &w, &n], [e, c, i, j]);
        case.out(&z);
        let program = case.check();
        let [kernel] = &program.kernels[..] else { panic!("{program}") };
        assert!(kernel.name.starts_with("rows"), "{program}");
        let products = kernel.exprs.iter().filter(|(_, expr)| match expr {
            Expr::Binary { f: Binary::Mul, x, .. } => !matches!(kernel.exprs[*x], Expr::Int(_)),
            expr => matches!(expr, Expr::Fma { .. }),
        });
        products.count()
    };
    let pairs = count(|case, [x, y, w, _], [e, _, i, j]| {
        let half = case.g.scalar(0.5);
        case.g.contract(&[x, y, w, &half], &[e, i, j])
    });
    assert_eq!(pairs, 1 + 3 + 15);
    let form = count(|case, [x, y, _, n], [e, _, _, _]| case.g.contract(&[x, y, n], &[e]));
    assert_eq!(form, 15 + 3);
}

/// The derivative of a matrix of weights: `y[k, c] = Σ_e a[e, k] g[e, c]`, also where the rows are gathered.
#[test]
fn sums_of_outer_products_are_added_up_row_by_row() {
    for (edges, k, c) in [(0, 4, 8), (1, 8, 16), (200, 16, 33), (77, 7, 4), (5, 1, 12)] {
        let mut case = Case::new();
        let (n, m) = (case.size("n", 9), case.size("m", edges));
        let a = case.input("a", &[n, fixed(k)]);
        let g = case.input("g", &[m, fixed(c)]);
        let src = case.table("src", &[m], n, false);
        let e = g.axes[0];
        let src = src.rename(&[(src.axes[0], e), (src.axes[1], a.axes[0])]);
        let y = case.g.contract(&[&a, &g, &src], &[a.axes[1], g.axes[1]]);
        let relu = case.g.map(Func::Relu, &[&y]);
        case.out(&y);
        case.out(&relu);
        let program = case.check();
        assert!(program.kernels.iter().any(|k| k.name.starts_with("outer")), "{program}");
    }
}

/// The derivative of the weights of a convolution, several places of whose filter share one: the long sum for each place first.
#[test]
fn shared_weights_are_summed_after_the_long_sum() {
    for n in [1, 2, 9] {
        let mut case = Case::new();
        let (batch, n) = (case.size("batch", 3), case.size("n", n));
        let x = case.input("x", &[batch, n, fixed(5)]);
        let g = case.input("g", &[batch, n, fixed(8)]);
        let window = case.affine(&[n, fixed(3)], n, &[1, 1], -1, Outside::Zero);
        // the outer taps share a weight, and one place of one channel has none
        let places: Vec<Option<u32>> = (0..15).map(|k| (k != 7).then_some([0, 1, 0][k % 3])).collect();
        let shared = case.relation(&[fixed(5), fixed(3)], fixed(2), Function::Constant(places.into()));
        let [b, q, c] = x.axes[..] else { panic!() };
        let [p, d] = [g.axes[1], g.axes[2]];
        let g = g.rename(&[(g.axes[0], b)]);
        let i = window.axes[1];
        let window = window.rename(&[(window.axes[0], p), (window.axes[2], q)]);
        let shared = shared.rename(&[(shared.axes[0], c), (shared.axes[1], i)]);
        let y = case.g.contract(&[&x, &g, &window, &shared], &[shared.axes[2], d]);
        case.out(&y);
        let program = case.check();
        assert!(program.kernels.iter().any(|k| k.name.starts_with("outer")), "{program}");
    }
}
