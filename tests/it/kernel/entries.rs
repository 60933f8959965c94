//! Tables that a contraction makes of the entries of rows and one sum along the rows reads are made inside of the sum, a block at a time.

use super::*;
use crate::kernel::dense::does_not_depend_on_the_threads;
use gdlc::kernel::ir::Stmt;
use gdlc::kernel::walk::each_stmt;
use gdlc::tensor::graph::{Paired, PairedWay};

fn fixed(n: usize) -> Size {
    Size::fixed(n)
}

/// Entries of a block.
const BLOCK: usize = 72;
const CHANNELS: usize = 80;

/// How many contractions sums along rows make as they go.
fn contractions(program: &Program) -> usize {
    let mut res = 0;
    for kernel in program.kernels.iter().filter(|k| k.name.starts_with("rows")) {
        each_stmt(&kernel.body, &mut |stmt| res += usize::from(matches!(stmt, Stmt::Contract(_))));
    }
    res
}

/// Where features are: at the entries, or at their classes.
#[derive(Clone, Copy, PartialEq)]
enum Places {
    Entries,
    Pairs,
}

/// `Σ_e x[src e, c] · tanh?(Σ_k f[e, k] w[c, k])` at `dst e`, for each of some weights.
fn sums(edges: usize, features: usize, tables: usize, places: Places, after: Option<Func>) -> Case {
    let mut case = Case::new();
    let (n, m) = (case.size("n", 7), case.size("m", edges));
    let x = case.input("x", &[n, fixed(CHANNELS)]);
    let f = case.input("f", &[m, fixed(features)]);
    let src = case.table("src", &[m], n, false);
    let dst = case.table("dst", &[m], n, true);
    let ([j, c], [e, k]) = ([x.axes[0], x.axes[1]], [f.axes[0], f.axes[1]]);
    let src = src.rename(&[(src.axes[0], e), (src.axes[1], j)]);
    let (i, dst) = (dst.axes[1], dst.rename(&[(dst.axes[0], e)]));
    let ids: Vec<_> = case.g.inputs.ids().collect();
    let pairs = (places == Places::Pairs).then(|| {
        let p = Size::var(case.g.sizes.counted("pairs", 1000, m));
        let paired = |way| Function::Paired(Paired { ends: [ids[2], ids[3]], way });
        let class = case.relation(&[m], p, paired(PairedWay::Class));
        let first = case.relation(&[p], m, paired(PairedWay::First));
        let pair = class.axes[1];
        let class = class.rename(&[(class.axes[0], e)]);
        (pair, class, first.rename(&[(first.axes[0], pair), (first.axes[1], e)]))
    });
    let (place, f) = match &pairs {
        Some((pair, _, first)) => (*pair, case.g.contract(&[&f, first], &[*pair, k])),
        None => (e, f),
    };
    let f = case.g.map(Func::Tanh, &[&f]);
    for t in 0..tables {
        let w = case.weight(&format!("w{t}"), &[CHANNELS, features]);
        let w = w.rename(&[(w.axes[0], c), (w.axes[1], k)]);
        let table = case.g.contract(&[&f, &w], &[place, c]);
        let table = after.map_or(table.clone(), |f| case.g.map(f, &[&table]));
        let factors: Vec<&Val> = [&x, &table, &src, &dst].into_iter().chain(pairs.as_ref().map(|p| &p.1)).collect();
        let sum = case.g.contract(&factors, &[i, c]);
        case.g.output(&format!("y{t}"), &sum, &[i, c]);
    }
    case
}

/// No entry, one, a block, one more, several blocks and rows longer than a block; two tables of the same features are one contraction.
#[test]
fn tables_of_entries() {
    for m in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK, 1000] {
        let program = sums(m, 9, 2, Places::Entries, None).check();
        assert_eq!(contractions(&program), 1, "{program}");
        let kept =
            program.buffers.iter().filter(|(_, b)| b.memory == Memory::Workspace && b.shape[1] == fixed(CHANNELS));
        assert_eq!(kept.count(), 0, "{program}");
    }
}

/// What is done with a sum before it is stored is done in its block; such tables are contractions of their own.
#[test]
fn tables_with_an_epilogue() {
    let program = sums(2 * BLOCK + 5, 9, 2, Places::Entries, Some(Func::Tanh)).check();
    assert_eq!(contractions(&program), 2, "{program}");
}

/// Read through a further table, a number is made again at each entry where that is a few products, and only there.
#[test]
fn tables_of_classes_of_entries() {
    for m in [0, 1, BLOCK + 1, 500] {
        let program = sums(m, 8, 3, Places::Pairs, None).check();
        assert_eq!(contractions(&program), 1, "{program}");
    }
    let program = sums(2 * BLOCK, 40, 2, Places::Pairs, None).check();
    assert_eq!(contractions(&program), 0, "{program}");
}

/// Tables that stay in the caches are left alone.
#[test]
fn small_tables() {
    let case = sums(BLOCK, 9, 1, Places::Entries, None);
    assert_eq!(contractions(&lower(&case.g, "case", Dtype::F32)), 0);
}

#[test]
fn the_threads_do_not_matter() {
    does_not_depend_on_the_threads(&sums(3000, 9, 2, Places::Entries, None), "rows");
}

/// A GPU keeps the kernels apart.
#[test]
fn not_on_a_gpu() {
    let program = sums(3 * BLOCK, 9, 2, Places::Entries, None).check_for(Hardware::Gpu);
    assert_eq!(contractions(&program), 0, "{program}");
}
