//! Hand-built graphs: each operation, and the blocks that models are made of.

use super::*;

fn fixed(n: usize) -> Size {
    Size::fixed(n)
}

/// `y[b, u, v, o] = Σ_{i, j, c} x[b, u+i-p, v+j-p, c] K[o, c, i, j]`, bias, relu.
fn convolution(outside: Outside, n: Size, case: &mut Case) {
    let batch = case.size("batch", 2);
    let x = case.input("x", &[batch, n, n, fixed(3)]);
    let k = case.weight("k", &[5, 3, 3, 3]);
    let bias = case.weight("bias", &[5]);
    let [b, u, v, c] = x.axes[..] else { panic!() };
    let [o, kc, i, j] = k.axes[..] else { panic!() };
    let (p, q) = (case.g.axis(), case.g.axis());
    let rows = case.affine(&[n, fixed(3)], n, &[1, 1], -1, outside);
    let down = rows.rename(&[(rows.axes[0], p), (rows.axes[1], i), (rows.axes[2], u)]);
    let right = rows.rename(&[(rows.axes[0], q), (rows.axes[1], j), (rows.axes[2], v)]);
    let k = k.rename(&[(kc, c)]);
    let y = case.g.contract(&[&x, &k, &down, &right], &[b, p, q, o]);
    let bias = bias.rename(&[(bias.axes[0], o)]);
    let y = case.g.sum(&[&y, &bias]);
    let y = case.g.map(Func::Relu, &[&y]);
    case.g.output("y", &y, &[b, p, q, o]);
}

#[test]
fn convolutions_with_each_boundary() {
    for outside in [Outside::Zero, Outside::Wrap, Outside::Reflect] {
        for n in [1, 2, 6] {
            let mut case = Case::new();
            convolution(outside, fixed(n), &mut case);
            case.check();
            let mut case = Case::new();
            let size = case.size("n", n);
            convolution(outside, size, &mut case);
            case.check();
        }
    }
}

#[test]
fn filters_expanded_from_a_basis_are_prepared() {
    let mut case = Case::new();
    let n = case.size("n", 7);
    let x = case.input("x", &[n, fixed(2)]);
    let w = case.weight("w", &[4, 2, 3]);
    let basis = case.constant(&[3, 3], vec![1.0, 0.0, 1.0, 0.0, 1.0, 0.0, -1.0, 0.0, 1.0]);
    let [u, c] = x.axes[..] else { panic!() };
    let w = w.rename(&[(w.axes[1], c)]);
    let basis = basis.rename(&[(basis.axes[0], w.axes[2])]);
    let (o, i) = (w.axes[0], basis.axes[1]);
    let filter = case.g.contract(&[&w, &basis], &[o, c, i]);
    let window = case.affine(&[n, fixed(3)], n, &[1, 1], -1, Outside::Zero);
    let p = window.axes[0];
    let window = window.rename(&[(window.axes[1], i), (window.axes[2], u)]);
    let y = case.g.contract(&[&x, &filter, &window], &[p, o]);
    case.out(&y);
    let program = case.check();
    assert!(program.kernels.iter().any(|k| k.stage == Stage::Prepare), "{program}");
}

/// Gather along `src`, sum along `dst`: a message without weights.
fn push_pull(sorted: bool, edges: usize) -> Program {
    let mut case = Case::new();
    let (n, m) = (case.size("n", 6), case.size("m", edges));
    let x = case.input("x", &[n, fixed(4)]);
    let w = case.input("w", &[m, fixed(4)]);
    let src = case.table("src", &[m], n, false);
    let dst = case.table("dst", &[m], n, sorted);
    let [j, c] = x.axes[..] else { panic!() };
    let e = w.axes[0];
    let w = w.rename(&[(w.axes[1], c)]);
    let src = src.rename(&[(src.axes[0], e), (src.axes[1], j)]);
    let i = dst.axes[1];
    let dst = dst.rename(&[(dst.axes[0], e)]);
    let y = case.g.contract(&[&x, &w, &src, &dst], &[i, c]);
    case.out(&y);
    let message = case.g.contract(&[&x, &w, &src], &[e, c]);
    for how in [Reduction::Max, Reduction::Min, Reduction::LogSumExp] {
        let y = case.g.reduce(how, &message, &[&dst], &[i, c]);
        case.out(&y);
    }
    case.check()
}

#[test]
fn messages_along_edges() {
    for edges in [0, 1, 17] {
        push_pull(true, edges);
    }
    let program = push_pull(false, 17);
    assert!(program.buffers.iter().any(|(_, b)| b.memory == Memory::Bound && b.name.contains("row_entry")));
}

#[test]
fn pooling_by_sample_index_leaves_empty_samples_zero() {
    let mut case = Case::new();
    let (n, b) = (case.size("n", 9), case.size("b", 14));
    let x = case.input("x", &[n, fixed(3)]);
    let sample = case.table("sample", &[n], b, true);
    let sample = sample.rename(&[(sample.axes[0], x.axes[0])]);
    let (s, c) = (sample.axes[1], x.axes[1]);
    let sum = case.g.contract(&[&x, &sample], &[s, c]);
    case.out(&sum);
    let max = case.g.reduce(Reduction::Max, &x, &[&sample], &[s, c]);
    case.out(&max);
    let count = case.g.contract(&[&sample], &[s]);
    let inverse = case.g.map(Func::SafeRecip, &[&count]);
    let mean = case.g.mul(&sum, &inverse);
    case.out(&mean);
    case.check();
}

#[test]
fn sparse_constants_couple_components() {
    let mut case = Case::new();
    let m = case.size("m", 11);
    let x = case.input("x", &[m, fixed(3), fixed(8)]);
    let y = case.input("y", &[m, fixed(3)]);
    let mut cross = vec![0.0; 27];
    for (i, j, k, sign) in
        [(0, 1, 2, 1.0), (1, 2, 0, 1.0), (2, 0, 1, 1.0), (1, 0, 2, -1.0), (2, 1, 0, -1.0), (0, 2, 1, -1.0)]
    {
        cross[i * 9 + j * 3 + k] = sign;
    }
    let cross = case.constant(&[3, 3, 3], cross);
    let w = case.weight("w", &[8]);
    let [e, i, c] = x.axes[..] else { panic!() };
    let y = y.rename(&[(y.axes[0], e)]);
    let w = w.rename(&[(w.axes[0], c)]);
    let cross = cross.rename(&[(cross.axes[0], i), (cross.axes[1], y.axes[1])]);
    let k = cross.axes[2];
    let z = case.g.contract(&[&x, &y, &cross, &w], &[e, k, c]);
    case.out(&z);
    case.check();
}

/// Blocks of an axis laid down channel by channel, `(0e, 1o, 2e)` of each beside each other: stored block by block where they
/// share out the axis, with zeros where it is longer, and added up where two of them meet. Channels are fewer than lanes, or some vectors and
/// a rest; a channel has more numbers than are stored together, or a place that no block has.
#[test]
fn interleaved_blocks_are_stored_without_asking() {
    let few = [1, 3, 5];
    for (widths, begins, apart, [between, longer]) in [
        (&few[..], &[0, 1, 4][..], true, [0, 0]),
        (&few, &[0, 1, 4], true, [0, 7]),
        (&few, &[4, 0, 5], false, [0, 0]),
        (&few, &[0, 2, 5], true, [1, 3]),
        (&[7, 9, 11, 13], &[0, 7, 16, 27], true, [0, 0]),
    ] {
        for channels in [4, 20] {
            let stride = widths.iter().sum::<usize>() + between;
            let axis = Size::fixed(channels * stride + longer);
            let mut case = Case::new();
            let n = case.size("n", 5);
            let to = case.g.axis();
            let mut terms = Vec::new();
            for (width, begin) in widths.iter().zip(begins) {
                let x = case.input(&format!("x{width}"), &[n, fixed(channels), fixed(*width)]);
                let outside = if apart { Outside::Never } else { Outside::Zero };
                let block = case.affine(&[fixed(channels), fixed(*width)], axis, &[stride as i64, 1], *begin, outside);
                let first = x.axes[0];
                let block =
                    block.rename(&[(block.axes[0], x.axes[1]), (block.axes[1], x.axes[2]), (block.axes[2], to)]);
                let term = case.g.contract(&[&x, &block], &[first, to]);
                terms.push(term);
            }
            let row = terms[0].axes[0];
            let terms: Vec<Val> = terms.iter().map(|t| t.rename(&[(t.axes[0], row)])).collect();
            let y = case.g.sum(&terms.iter().collect::<Vec<_>>());
            case.out(&y);
            let program = case.check();
            let concat = program.kernels.iter().any(|kernel| kernel.name.starts_with("concat"));
            assert_eq!(concat, apart, "{program}");
        }
    }
}

/// A small sum with a sparse constant and a gather: its products are written out, zeros left out.
#[test]
fn sparse_constants_are_written_out_through_gathers() {
    let mut case = Case::new();
    let (n, m) = (case.size("n", 4), case.size("m", 9));
    let x = case.input("x", &[n, fixed(3), fixed(8)]);
    let y = case.input("y", &[m, fixed(3)]);
    let src = case.table("src", &[m], n, false);
    let diagonal = case.constant(&[3, 3], vec![1.0, 0.0, 0.0, 0.0, -2.0, 0.0, 0.0, 0.0, 0.5]);
    let [j, k, c] = x.axes[..] else { panic!() };
    let src = src.rename(&[(src.axes[0], y.axes[0]), (src.axes[1], j)]);
    let diagonal = diagonal.rename(&[(diagonal.axes[0], k), (diagonal.axes[1], y.axes[1])]);
    let z = case.g.contract(&[&x, &y, &diagonal, &src], &[y.axes[0], c]);
    case.out(&z);
    let program = case.check();
    let loops = program.kernels.iter().flat_map(|k| &k.body).map(loops_of).max();
    assert_eq!(loops, Some(2), "over entries and channels only\n{program}");
}

/// How deep loops are nested.
fn loops_of(stmt: &gdlc::kernel::ir::Stmt) -> usize {
    match stmt {
        gdlc::kernel::ir::Stmt::For { body, .. } => 1 + body.iter().map(loops_of).max().unwrap_or(0),
        _ => 0,
    }
}

#[test]
fn attention_over_the_edges_of_a_row() {
    let mut case = Case::new();
    let (n, m) = (case.size("n", 5), case.size("m", 12));
    let query = case.input("query", &[n, fixed(2), fixed(4)]);
    let key = case.input("key", &[n, fixed(2), fixed(4)]);
    let value = case.input("value", &[n, fixed(2), fixed(4)]);
    let src = case.table("src", &[m], n, false);
    let dst = case.table("dst", &[m], n, true);
    let [i, h, d] = query.axes[..] else { panic!() };
    let e = src.axes[0];
    let dst = dst.rename(&[(dst.axes[0], e), (dst.axes[1], i)]);
    let j = src.axes[1];
    let key = key.rename(&[(key.axes[0], j), (key.axes[1], h), (key.axes[2], d)]);
    let value = value.rename(&[(value.axes[0], j), (value.axes[1], h), (value.axes[2], d)]);
    let score = case.g.contract(&[&query, &key, &src, &dst], &[e, h]);
    let score = case.g.scale(&score, 0.5);
    let total = case.g.reduce(Reduction::LogSumExp, &score, &[&dst], &[i, h]);
    let total = case.g.contract(&[&total, &dst], &[e, h]);
    let total = case.g.scale(&total, -1.0);
    let log = case.g.sum(&[&score, &total]);
    let alpha = case.g.map(Func::Exp, &[&log]);
    let y = case.g.contract(&[&alpha, &value, &src, &dst], &[i, h, d]);
    case.out(&y);
    case.check();
}

#[test]
fn dense_attention() {
    let mut case = Case::new();
    let (b, n) = (case.size("b", 2), case.size("n", 5));
    let query = case.input("query", &[b, n, fixed(4)]);
    let key = case.input("key", &[b, n, fixed(4)]);
    let [b, i, d] = query.axes[..] else { panic!() };
    let j = key.axes[1];
    let key = key.rename(&[(key.axes[0], b), (key.axes[2], d)]);
    let score = case.g.contract(&[&query, &key], &[b, i, j]);
    let total = case.g.reduce(Reduction::LogSumExp, &score, &[], &[b, i]);
    let total = case.g.scale(&total, -1.0);
    let log = case.g.sum(&[&score, &total]);
    let alpha = case.g.map(Func::Exp, &[&log]);
    let y = case.g.contract(&[&alpha, &key], &[b, i, d]);
    case.out(&y);
    case.check();
}

#[test]
fn batched_products_and_diagonals() {
    let mut case = Case::new();
    let n = case.size("n", 4);
    let a = case.input("a", &[n, fixed(3), fixed(5)]);
    let w = case.weight("w", &[5, 6]);
    let [b, i, k] = a.axes[..] else { panic!() };
    let w = w.rename(&[(w.axes[0], k)]);
    let y = case.g.contract(&[&a, &w], &[b, i, w.axes[1]]);
    case.out(&y);
    let square = case.input("square", &[n, n, fixed(2)]);
    let diagonal = square.rename(&[(square.axes[1], square.axes[0])]);
    let trace = case.g.contract(&[&diagonal], &[square.axes[2]]);
    case.out(&trace);
    let back = case.g.map(Func::Tanh, &[&diagonal]);
    let back = case.g.sum(&[&back, &trace]);
    case.out(&back);
    let copied = diagonal.clone();
    let transpose = square.rename(&[(square.axes[0], square.axes[1]), (square.axes[1], square.axes[0])]);
    let both = case.g.sum(&[&square, &transpose, &copied]);
    case.out(&both);
    case.check();
}

#[test]
fn every_scalar_function() {
    let functions = [
        Func::Relu,
        Func::LeakyRelu(Real(0.1)),
        Func::Silu,
        Func::Gelu,
        Func::Tanh,
        Func::Sigmoid,
        Func::Exp,
        Func::Log,
        Func::Sin,
        Func::Cos,
        Func::Sqrt,
        Func::Recip,
        Func::SafeRecip,
        Func::Abs,
        Func::Powi(3),
        Func::Powi(-2),
        Func::Powi(0),
    ];
    let mut case = Case::new();
    let x = case.input("x", &[fixed(9)]);
    let y = case.input("y", &[fixed(9)]);
    let y = y.rename(&[(y.axes[0], x.axes[0])]);
    for f in functions {
        let value = if f == Func::Log { case.g.map(Func::Exp, &[&x]) } else { x.clone() };
        let z = case.g.map(f, &[&value]);
        case.out(&z);
    }
    for f in [Func::Max, Func::Min, Func::Greater] {
        let z = case.g.map(f, &[&x, &y]);
        case.out(&z);
    }
    case.check();
}

#[test]
fn affine_functions_forwards_and_backwards() {
    // scale, offset, divisor, from, to
    let shapes: [(&[i64], i64, i64, &[usize], usize); 8] = [
        (&[1], 2, 1, &[4], 9),
        (&[1], -2, 1, &[7], 4),
        (&[-1], 6, 1, &[7], 7),
        (&[2, 1], 0, 1, &[3, 2], 6),
        (&[2, 1], -1, 1, &[4, 3], 7),
        (&[1], 0, 2, &[6], 3),
        (&[1], 1, 3, &[7], 3),
        (&[3], 1, 1, &[3], 8),
    ];
    for (scale, constant, divisor, from, to) in shapes {
        for outside in [Outside::Zero, Outside::Wrap, Outside::Reflect] {
            let mut case = Case::new();
            let from: Vec<Size> = from.iter().map(|n| fixed(*n)).collect();
            let offset = Affine { constant, size: None };
            let map = Function::Affine { scale: scale.to_vec(), offset, divisor, outside };
            let r = case.relation(&from, fixed(to), map);
            let x = case.input("x", &[fixed(to)]);
            let x = x.rename(&[(x.axes[0], *r.axes.last().expect("to"))]);
            let y = case.input("y", &from);
            let names: Vec<(Axis, Axis)> = y.axes.iter().copied().zip(r.axes.iter().copied()).collect();
            let y = y.rename(&names);
            let pulled = case.g.contract(&[&x, &r], &y.axes);
            case.out(&pulled);
            let pushed = case.g.contract(&[&y, &r], &x.axes);
            case.out(&pushed);
            let most = case.g.reduce(Reduction::Max, &y, &[&r], &x.axes);
            case.out(&most);
            let most = case.g.reduce(Reduction::Max, &x, &[&r], &y.axes[..1]);
            case.out(&most);
            case.check();
        }
    }
}

#[test]
fn a_flip_of_a_run_time_axis() {
    let mut case = Case::new();
    let n = case.size("n", 5);
    let x = case.input("x", &[n]);
    let offset = Affine { constant: -1, size: Some(n) };
    let map = Function::Affine { scale: vec![-1], offset, divisor: 1, outside: Outside::Never };
    let r = case.relation(&[n], n, map);
    let r = r.rename(&[(r.axes[1], x.axes[0])]);
    let y = case.g.contract(&[&x, &r], &[r.axes[0]]);
    case.out(&y);
    case.check();
}

#[test]
fn tables_known_at_compile_time() {
    let mut case = Case::new();
    let n = case.size("n", 3);
    let x = case.input("x", &[n, fixed(4)]);
    let table: Arc<[Option<u32>]> = Arc::new([Some(3), None, Some(0), Some(3), Some(1), None]);
    let r = case.relation(&[fixed(2), fixed(3)], fixed(4), Function::Constant(table));
    let r = r.rename(&[(r.axes[2], x.axes[1])]);
    let y = case.g.contract(&[&x, &r], &[x.axes[0], r.axes[0], r.axes[1]]);
    case.out(&y);
    let back = case.g.contract(&[&y, &r], &[x.axes[0], x.axes[1]]);
    case.out(&back);
    case.check();
}

#[test]
fn neighbours_by_a_table_over_two_axes() {
    let mut case = Case::new();
    let n = case.size("n", 6);
    let x = case.input("x", &[n, fixed(2)]);
    let near = case.table("near", &[n, fixed(3)], n, false);
    let [i, k, j] = near.axes[..] else { panic!() };
    let x = x.rename(&[(x.axes[0], j)]);
    let c = x.axes[1];
    let pulled = case.g.contract(&[&x, &near], &[i, k, c]);
    case.out(&pulled);
    let z = case.input("z", &[n, fixed(3), fixed(2)]);
    let z = z.rename(&[(z.axes[0], i), (z.axes[1], k), (z.axes[2], c)]);
    let pushed = case.g.contract(&[&z, &near], &[j, c]);
    case.out(&pushed);
    let most = case.g.reduce(Reduction::Max, &x, &[&near], &[i, c]);
    case.out(&most);
    case.check();
}

#[test]
fn outputs_that_are_leaves_constants_weights_or_twice_the_same() {
    let mut case = Case::new();
    let n = case.size("n", 4);
    let x = case.input("x", &[n, fixed(2)]);
    case.g.output("turned", &x, &[x.axes[1], x.axes[0]]);
    case.out(&x);
    let w = case.weight("w", &[3]);
    let twice = case.g.scale(&w, 2.0);
    case.out(&twice);
    case.out(&twice);
    let k = case.constant(&[2, 2], vec![1.0, 2.0, 3.0, 4.0]);
    let k = case.g.map(Func::Sin, &[&k]);
    case.out(&k);
    let r = case.affine(&[n, fixed(3)], n, &[1, 1], -1, Outside::Zero);
    case.out(&r);
    let inside = case.g.contract(&[&r], &[r.axes[0]]);
    case.out(&inside);
    let sum = case.g.sum(&[&x, &k]);
    let sum = case.g.contract(&[&sum], &[x.axes[0], k.axes[1]]);
    case.out(&sum);
    case.check();
}

#[test]
fn classes_by_index_at_the_call() {
    let mut case = Case::new();
    let (n, classes) = (case.size("n", 6), fixed(4));
    let kind = InputKind::Index { range: classes };
    case.g.input(Input { name: "species".into(), dims: vec![n], kind });
    let input = case.g.inputs.ids().last().expect("just declared");
    let one_hot = case.relation(&[n], classes, Function::Table(input));
    let w = case.weight("w", &[4, 3]);
    let [i, s] = one_hot.axes[..] else { panic!() };
    let w = w.rename(&[(w.axes[0], s)]);
    let y = case.g.contract(&[&one_hot, &w], &[i, w.axes[1]]);
    case.out(&y);
    let count = case.g.contract(&[&one_hot], &[s]);
    case.out(&count);
    case.check();
}

/// A chain of layers keeps two of its values at a time, however long it is.
#[test]
fn workspace_is_shared_along_a_chain() {
    let mut case = Case::new();
    let n = case.size("n", 3);
    let mut x = case.input("x", &[n, fixed(6)]);
    for layer in 0..6 {
        let w = case.weight(&format!("w{layer}"), &[6, 6]);
        let [i, c] = x.axes[..] else { panic!() };
        let w = w.rename(&[(w.axes[0], c)]);
        let y = case.g.contract(&[&x, &w], &[i, w.axes[1]]);
        x = case.g.map(Func::Tanh, &[&y]);
    }
    case.out(&x);
    let program = case.check();
    let slots = gdlc::kernel::pass::buffers::workspace_slots(&program);
    assert_eq!(slots.iter().map(Vec::len).collect::<Vec<_>>(), [3, 2], "{program}");
}
