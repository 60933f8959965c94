//! Sums weighted by a softmax: one pass a row, no weight stored, and the evaluator's numbers where scores are large or infinite.

use super::*;
use gdlc::kernel::gpu::spread;
use gdlc::kernel::lower::Hardware;

fn fixed(n: usize) -> Size {
    Size::fixed(n)
}

/// How the scores follow from numbers about 1.
#[derive(Clone, Copy, Debug)]
enum Scores {
    Plain,
    /// Hundreds: their exponentials overflow.
    Large,
    /// The logarithm of nothing for about half of them: no weight, and NaN for a row of them alone.
    Vanishing,
    /// Infinite for about half of them: NaN wherever there is one.
    Infinite,
}

fn scored(case: &mut Case, raw: &Val, scores: Scores) -> Val {
    match scores {
        Scores::Plain => case.g.map(Func::Tanh, &[raw]),
        Scores::Large => case.g.scale(raw, 300.0),
        Scores::Vanishing => {
            let positive = case.g.map(Func::Relu, &[raw]);
            case.g.map(Func::Log, &[&positive])
        }
        Scores::Infinite => {
            let positive = case.g.map(Func::Relu, &[raw]);
            case.g.map(Func::Recip, &[&positive])
        }
    }
}

/// The weights `exp(s - max s) / Σ exp(s - max s)`, not yet divided, and the inverse of their sum.
fn softmax(case: &mut Case, score: &Val, rows: &[&Val], row: Axis) -> (Val, Val) {
    let top = case.g.reduce(Reduction::Max, score, rows, &[row]);
    let operands: Vec<&Val> = [&top].into_iter().chain(rows.iter().copied()).collect();
    let back = if rows.is_empty() { top } else { case.g.contract(&operands, &score.axes) };
    let negated = case.g.scale(&back, -1.0);
    let shifted = case.g.sum(&[score, &negated]);
    let raised = case.g.map(Func::Exp, &[&shifted]);
    let operands: Vec<&Val> = [&raised].into_iter().chain(rows.iter().copied()).collect();
    let total = case.g.contract(&operands, &[row]);
    let inverse = case.g.map(Func::SafeRecip, &[&total]);
    (raised, inverse)
}

/// Attention over edges: two kinds of values, one of them multiplied by a gate afterwards.
fn over_edges(edges: usize, sorted: bool, scores: Scores) -> Program {
    let mut case = Case::new();
    let (n, m) = (case.size("n", 6), case.size("m", edges));
    let query = case.input("query", &[n]);
    let key = case.input("key", &[n]);
    let value = case.input("value", &[n, fixed(3), fixed(5)]);
    let gate = case.input("gate", &[n]);
    let src = case.table("src", &[m], n, false);
    let dst = case.table("dst", &[m], n, sorted);
    let (i, j, e) = (query.axes[0], src.axes[1], src.axes[0]);
    let dst = dst.rename(&[(dst.axes[0], e), (dst.axes[1], i)]);
    let key = key.rename(&[(key.axes[0], j)]);
    let value = value.rename(&[(value.axes[0], j)]);
    let gate = gate.rename(&[(gate.axes[0], i)]);
    let [_, k, c] = value.axes[..] else { panic!() };
    let (at_row, at_entry) = (case.g.contract(&[&query, &dst], &[e]), case.g.contract(&[&key, &src], &[e]));
    let raw = case.g.sum(&[&at_row, &at_entry]);
    let score = scored(&mut case, &raw, scores);
    let (raised, inverse) = softmax(&mut case, &score, &[&dst], i);
    let y = case.g.contract(&[&raised, &inverse, &value, &src, &dst], &[i, k, c]);
    let gated = case.g.mul(&y, &gate);
    case.g.output("gated", &gated, &[i, k, c]);
    let own = case.g.contract(&[&raised, &inverse, &key, &src, &dst], &[i]);
    case.g.output("own", &own, &[i]);
    case.check()
}

/// Kernels of the call, and arrays between them.
fn kernels_and_arrays(program: &Program) -> (usize, usize) {
    let kernels = program.kernels.iter().filter(|k| k.stage == Stage::Call);
    let arrays = program.buffers.iter().filter(|(_, b)| b.memory == Memory::Workspace);
    (kernels.count(), arrays.count())
}

#[test]
fn attention_over_edges_is_one_pass_and_stores_no_weights() {
    for (edges, sorted) in [(0, true), (1, true), (17, true), (23, false)] {
        for scores in [Scores::Plain, Scores::Large, Scores::Vanishing, Scores::Infinite] {
            let program = over_edges(edges, sorted, scores);
            assert_eq!(kernels_and_arrays(&program), (2, 0), "{scores:?}\n{program}");
        }
    }
}

/// What the threads own that run the attention of a case on a GPU.
fn owners(case: &Case) -> Vec<&'static str> {
    let spread = spread(&case.check_for(Hardware::Gpu), None).expect("every kernel can be spread");
    let all = spread.program.kernels.iter().zip(&spread.launches);
    all.filter(|(k, _)| k.name.starts_with("attention")).map(|(_, l)| l.owns).collect()
}

/// The scores of a long row are computed once, not by each channel.
const IN_CHUNKS: [&str; 1] = ["a channel of a row, and of some turns the common part"];

#[test]
fn attention_over_all_of_a_set_is_one_pass_and_stores_no_weights() {
    let cases =
        [(1, Scores::Plain), (7, Scores::Large), (9, Scores::Vanishing), (9, Scores::Infinite), (64, Scores::Plain)];
    // more than a block has threads, whole chunks and one more
    for (points, scores) in cases.into_iter().chain([(129, Scores::Large), (0, Scores::Plain)]) {
        let mut case = Case::new();
        let n = case.size("n", points);
        let query = case.input("query", &[n, fixed(4)]);
        let key = case.input("key", &[n, fixed(4)]);
        let value = case.input("value", &[n, fixed(6)]);
        let [i, d] = query.axes[..] else { panic!() };
        let j = key.axes[0];
        let key = key.rename(&[(key.axes[1], d)]);
        let value = value.rename(&[(value.axes[0], j)]);
        let raw = case.g.contract(&[&query, &key], &[i, j]);
        let score = scored(&mut case, &raw, scores);
        let (raised, inverse) = softmax(&mut case, &score, &[], i);
        let y = case.g.contract(&[&raised, &inverse, &value], &[i, value.axes[1]]);
        case.out(&y);
        let program = case.check();
        assert_eq!(kernels_and_arrays(&program), (1, 0), "{scores:?}\n{program}");
        assert_eq!(owners(&case), IN_CHUNKS, "{program}");
    }
}

/// Points attend to those of their own sample only; scores of other samples' points may be greater and do not overflow.
#[test]
fn attention_within_samples_walks_the_samples() {
    for (points, scores) in [(0, Scores::Plain), (9, Scores::Large), (11, Scores::Vanishing)] {
        let mut case = Case::new();
        // samples that are long
        let (n, b) = (case.size("n", points), Size::var(case.g.sizes.intern("b", 4)));
        case.sizes.push(4);
        let x = case.input("x", &[n, fixed(16)]);
        let sample = case.table("sample", &[n], b, true);
        let w = case.weight("w", &[16, 16]);
        let [i, d] = x.axes[..] else { panic!() };
        let (j, k) = (case.g.axis(), case.g.axis());
        let (own, other) = (sample.rename(&[(sample.axes[0], i)]), sample.rename(&[(sample.axes[0], j)]));
        let key = x.rename(&[(i, j)]);
        let raw = case.g.contract(&[&x, &key], &[i, j]);
        let score = scored(&mut case, &raw, scores);
        let top = case.g.reduce(Reduction::Max, &score, &[&own, &other], &[i]);
        let negated = case.g.scale(&top, -1.0);
        let shifted = case.g.sum(&[&score, &negated]);
        let zero = case.g.scalar(0.0);
        let clamped = case.g.map(Func::Min, &[&shifted, &zero]);
        let raised = case.g.map(Func::Exp, &[&clamped]);
        let total = case.g.contract(&[&raised, &own, &other], &[i]);
        let inverse = case.g.map(Func::SafeRecip, &[&total]);
        let mean = case.g.contract(&[&raised, &key, &own, &other], &[i, d]);
        let w = w.rename(&[(w.axes[0], d), (w.axes[1], k)]);
        let y = case.g.contract(&[&inverse, &mean, &w], &[i, k]);
        case.g.output("y", &y, &[i, k]);
        let program = case.check();
        let attentions = program.kernels.iter().filter(|kernel| kernel.name.starts_with("attention"));
        assert_eq!((attentions.count(), kernels_and_arrays(&program)), (1, (2, 1)), "{scores:?}\n{program}");
        assert_eq!(owners(&case), IN_CHUNKS, "{program}");
    }
}

/// Several heads of a score share its rows: each is a softmax of its own, over edges and over all of a set.
#[test]
fn heads_are_attended_apart() {
    for (points, scores) in [(0, Scores::Plain), (7, Scores::Large), (9, Scores::Infinite), (70, Scores::Vanishing)] {
        let mut case = Case::new();
        let n = case.size("n", points);
        let query = case.input("query", &[n, fixed(3), fixed(8)]);
        let key = case.input("key", &[fixed(3), n, fixed(8)]);
        let value = case.input("value", &[n, fixed(3), fixed(6)]);
        let [i, h, d] = query.axes[..] else { panic!() };
        let j = key.axes[1];
        let key = key.rename(&[(key.axes[0], h), (key.axes[2], d)]);
        let value = value.rename(&[(value.axes[0], j), (value.axes[1], h)]);
        let raw = case.g.contract(&[&query, &key], &[h, i, j]);
        let score = scored(&mut case, &raw, scores);
        let top = case.g.reduce(Reduction::Max, &score, &[], &[i, h]);
        let negated = case.g.scale(&top, -1.0);
        let shifted = case.g.sum(&[&score, &negated]);
        let raised = case.g.map(Func::Exp, &[&shifted]);
        let total = case.g.contract(&[&raised], &[i, h]);
        let inverse = case.g.map(Func::SafeRecip, &[&total]);
        let y = case.g.contract(&[&raised, &inverse, &value], &[i, value.axes[2], h]);
        case.g.output("y", &y, &[i, h, value.axes[2]]);
        for program in [case.check(), case.check_for(Hardware::Gpu)] {
            assert_eq!(kernels_and_arrays(&program), (1, 0), "{scores:?}\n{program}");
        }
    }
}

#[test]
fn heads_are_attended_apart_over_edges() {
    for (edges, sorted, heads, scores) in [
        (0, true, 5, Scores::Plain),
        (150, true, 3, Scores::Vanishing),
        (23, false, 3, Scores::Large),
        (400, true, 4, Scores::Large),
        (23, false, 8, Scores::Infinite),
    ] {
        let mut case = Case::new();
        let (n, m) = (case.size("n", 6), case.size("m", edges));
        let key = case.input("key", &[n, fixed(heads)]);
        let value = case.input("value", &[n, fixed(heads), fixed(5)]);
        let (src, dst) = (case.table("src", &[m], n, false), case.table("dst", &[m], n, sorted));
        let ([j, h], i, e) = (key.axes[..].try_into().expect("two axes"), dst.axes[1], src.axes[0]);
        let (src, dst) = (src.rename(&[(src.axes[1], j)]), dst.rename(&[(dst.axes[0], e)]));
        let value = value.rename(&[(value.axes[0], j), (value.axes[1], h)]);
        let raw = case.g.contract(&[&key, &src], &[h, e]);
        let score = scored(&mut case, &raw, scores);
        let top = case.g.reduce(Reduction::Max, &score, &[&dst], &[h, i]);
        let back = case.g.contract(&[&top, &dst], &score.axes);
        let negated = case.g.scale(&back, -1.0);
        let shifted = case.g.sum(&[&score, &negated]);
        let raised = case.g.map(Func::Exp, &[&shifted]);
        let total = case.g.contract(&[&raised, &dst], &[i, h]);
        let inverse = case.g.map(Func::SafeRecip, &[&total]);
        let y = case.g.contract(&[&raised, &inverse, &value, &src, &dst], &[i, h, value.axes[2]]);
        case.out(&y);
        // side by side
        let beside = [fixed(heads), fixed(5)];
        let joined = case.affine(&beside, fixed(heads * 5), &[5, 1], 0, Outside::Never);
        let joined = joined.rename(&[(joined.axes[0], h), (joined.axes[1], value.axes[2])]);
        let y = case.g.contract(&[&raised, &inverse, &value, &src, &dst, &joined], &[i, joined.axes[2]]);
        case.out(&y);
        for program in [case.check(), case.check_for(Hardware::Gpu)] {
            assert_eq!(kernels_and_arrays(&program), (2, 0), "{scores:?}\n{program}");
        }
    }
}

/// Weights that something else reads too are stored once, for all.
#[test]
fn weights_that_are_read_elsewhere_are_stored() {
    let mut case = Case::new();
    let n = case.size("n", 8);
    let score = case.input("score", &[n, n]);
    let value = case.input("value", &[n, fixed(4)]);
    let [i, j] = score.axes[..] else { panic!() };
    let value = value.rename(&[(value.axes[0], j)]);
    let score = scored(&mut case, &score, Scores::Plain);
    let (raised, inverse) = softmax(&mut case, &score, &[], i);
    let y = case.g.contract(&[&raised, &inverse, &value], &[i, value.axes[1]]);
    let weights = case.g.mul(&raised, &inverse);
    case.out(&y);
    case.out(&weights);
    case.check();
}
