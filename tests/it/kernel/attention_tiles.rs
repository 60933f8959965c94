//! Attention whose scores are products: blocks of rows and entries, cut where sets end; the evaluator's numbers for every shape, and
//! infinite and undefined numbers stay in their set.

use super::*;

/// An attention: of rows to entries of their set, or to all.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) heads: usize,
    pub(super) products: usize,
    pub(super) widths: &'static [usize],
    /// One key for all heads.
    pub(super) shared: bool,
    /// Points of a set follow each other.
    pub(super) sorted: bool,
    /// Derivatives hold the greatest score.
    pub(super) held: bool,
}

pub(super) const PLAIN: Shape =
    Shape { heads: 2, products: 8, widths: &[16], shared: false, sorted: true, held: false };

fn fixed(n: usize) -> Size {
    Size::fixed(n)
}

/// `softmax(query · key · 0.7) · value` in sets of these numbers of points.
pub(super) fn within(sets: &[usize], shape: &Shape) -> (Case, Arguments) {
    let mut case = Case::new();
    let n = case.size("n", sets.iter().sum());
    let b = case.size("b", sets.len());
    let Shape { heads, products, widths, shared, sorted, held } = *shape;
    let query = case.input("query", &[n, fixed(heads), fixed(products)]);
    let key_dims = [n, fixed(heads), fixed(products)];
    let key = if shared { case.input("key", &[key_dims[0], key_dims[2]]) } else { case.input("key", &key_dims) };
    let dims: Vec<Size> = [n, fixed(heads)].into_iter().chain(widths.iter().map(|w| fixed(*w))).collect();
    let value = case.input("value", &dims);
    let sample = case.table("sample", &[n], b, sorted);
    let [i, h, d] = query.axes[..] else { panic!() };
    let j = key.axes[0];
    let own_key: Vec<Axis> = if shared { vec![d] } else { vec![h, d] };
    let renames: Vec<(Axis, Axis)> = key.axes[1..].iter().copied().zip(own_key).collect();
    let key = key.rename(&renames);
    let value = value.rename(&[(value.axes[0], j), (value.axes[1], h)]);
    let (own, other) = (sample.rename(&[(sample.axes[0], i)]), sample.rename(&[(sample.axes[0], j)]));
    let number = case.g.scalar(0.7);
    let score = case.g.contract(&[&query, &key, &number], &[i, j, h]);
    let top = case.g.reduce(Reduction::Max, &score, &[&own, &other], &[i, h]);
    let top = if held { case.g.map(Func::Held, &[&top]) } else { top };
    let negated = case.g.scale(&top, -1.0);
    let shifted = case.g.sum(&[&score, &negated]);
    let zero = case.g.scalar(0.0);
    let clamped = if held { case.g.map(Func::Capped, &[&shifted]) } else { case.g.map(Func::Min, &[&shifted, &zero]) };
    let raised = case.g.map(Func::Exp, &[&clamped]);
    let total = case.g.contract(&[&raised, &own, &other], &[i, h]);
    let inverse = case.g.map(Func::SafeRecip, &[&total]);
    let out: Vec<Axis> = [i, h].into_iter().chain(value.axes[2..].iter().copied()).collect();
    let y = case.g.contract(&[&raised, &inverse, &value, &own, &other], &out);
    case.out(&y);
    let mut args = case.arguments();
    let mut samples: Vec<f64> = sets.iter().enumerate().flat_map(|(s, len)| vec![s as f64; *len]).collect();
    if !sorted {
        samples.reverse();
    }
    args.inputs.get_mut("sample").expect("the table").data = samples;
    (case, args)
}

/// Whether rows are taken by tiles.
fn tiled(program: &Program) -> bool {
    program.to_string().contains("contract")
}

#[test]
fn sets_of_all_lengths_are_cut_into_tiles() {
    let sets: [&[usize]; 7] = [&[], &[0, 0], &[1], &[0, 1, 40, 0, 15], &[64, 32], &[63, 65, 0], &[30, 0, 120, 40]];
    for sets in sets {
        let (case, args) = within(sets, &PLAIN);
        let program = case.check_with(&args, Hardware::Cpu);
        assert!(tiled(&program), "{program}");
        assert!(!tiled(&case.check_with(&args, Hardware::Gpu)));
    }
}

#[test]
fn heads_keys_and_values_of_all_widths() {
    let shapes = [
        Shape { heads: 1, products: 8, widths: &[6], ..PLAIN },
        Shape { heads: 3, products: 5, widths: &[1], shared: true, ..PLAIN },
        Shape { heads: 2, products: 17, widths: &[20], shared: true, ..PLAIN },
        Shape { heads: 2, products: 4, widths: &[3, 7], ..PLAIN },
    ];
    for shape in shapes {
        let (case, args) = within(&[20, 70], &shape);
        let program = case.check_with(&args, Hardware::Cpu);
        assert!(tiled(&program), "{program}");
    }
}

/// Numbers that are infinite or undefined, in what is multiplied and in what is weighted: the other sets are as without them.
#[test]
fn what_is_not_finite_stays_in_its_set() {
    for (name, number) in [("key", f64::NAN), ("key", f64::INFINITY), ("value", f64::INFINITY), ("query", f64::NAN)] {
        let sets = [30, 50, 40, 1, 45];
        let (case, mut args) = within(&sets, &PLAIN);
        let array = args.inputs.get_mut(name).expect("an input");
        let row: usize = array.dims[1..].iter().product();
        array.data[35 * row..35 * row + 3].fill(number);
        case.check_with(&args, Hardware::Cpu);
        let y = &eval(&case.g, &args).expect("the graph evaluates")["y0"];
        assert_eq!(y.dims.last(), Some(&166));
        let finite = |rows: std::ops::Range<usize>| {
            (0..y.data.len()).all(|k| !rows.contains(&(k % 166)) || y.data[k].is_finite())
        };
        assert!(finite(0..30) && !finite(30..80) && finite(80..166), "{name}");
    }
}

/// Scores whose exponentials overflow, and that grow from block to block.
#[test]
fn scores_are_relative_to_the_greatest_so_far() {
    let (case, mut args) = within(&[150, 20], &PLAIN);
    for (k, x) in args.inputs.get_mut("key").expect("an input").data.iter_mut().enumerate() {
        *x *= (k / 16) as f64;
    }
    case.check_with(&args, Hardware::Cpu);
}

/// All rows share all entries, of which there are more or fewer.
#[test]
fn rows_attend_to_another_set() {
    for (rows, entries) in [(0, 20), (5, 0), (1, 40), (140, 20), (20, 140)] {
        let mut case = Case::new();
        let (n, m) = (case.size("n", rows), case.size("m", entries));
        let query = case.input("query", &[n, fixed(8)]);
        let key = case.input("key", &[m, fixed(8)]);
        let value = case.input("value", &[m, fixed(6)]);
        let ([i, d], j) = (query.axes[..].try_into().expect("two axes"), key.axes[0]);
        let key = key.rename(&[(key.axes[1], d)]);
        let value = value.rename(&[(value.axes[0], j)]);
        let score = case.g.contract(&[&query, &key], &[i, j]);
        let top = case.g.reduce(Reduction::Max, &score, &[], &[i]);
        let negated = case.g.scale(&top, -1.0);
        let shifted = case.g.sum(&[&score, &negated]);
        let raised = case.g.map(Func::Exp, &[&shifted]);
        let total = case.g.contract(&[&raised], &[i]);
        let inverse = case.g.map(Func::SafeRecip, &[&total]);
        let y = case.g.contract(&[&raised, &inverse, &value], &[i, value.axes[1]]);
        case.out(&y);
        let program = case.check();
        assert!(tiled(&program), "{program}");
    }
}
