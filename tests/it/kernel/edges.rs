//! Sums along edges: tensor products over sparse rows, attention, several paths in one kernel.

use super::*;
use gdlc::kernel::ir::{LoopKind, Stmt};
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
