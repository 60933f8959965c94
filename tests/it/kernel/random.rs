//! Random small graphs: every operation on random operands under random axes, compared with the evaluator.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Choices drawn from a list of numbers, so that a failing graph shrinks.
struct Choices<'a> {
    left: std::slice::Iter<'a, u32>,
}

impl Choices<'_> {
    fn below(&mut self, n: usize) -> usize {
        self.left.next().map_or(0, |x| *x as usize % n)
    }
}

/// A graph of leaves and then `n_nodes` random operations; the last values are outputs.
fn random_case(numbers: &[u32]) -> Case {
    let mut choose = Choices { left: numbers.iter() };
    let mut case = Case::new();
    let n = case.size("n", 3);
    let m = case.size("m", 5);
    let sizes = [n, m, Size::fixed(2), Size::fixed(3)];
    let mut values = vec![
        case.input("x", &[n, sizes[2]]),
        case.input("z", &[m, sizes[3]]),
        case.weight("w", &[2, 3]),
        case.constant(&[3, 2], vec![0.5, 0.0, -1.0, 0.0, 0.0, 2.0]),
        case.input("s", &[n, n]),
    ];
    let relations = [
        case.table("dst", &[m], n, true),
        case.table("src", &[m], n, false),
        case.affine(&[n, sizes[3]], n, &[1, 1], -1, Outside::Zero),
        case.affine(&[n, sizes[2]], n, &[-1, 1], 1, Outside::Wrap),
        case.affine(&[sizes[2]], sizes[3], &[1], 1, Outside::Never),
        case.affine(&[n, sizes[2]], m, &[2, 1], -1, Outside::Reflect),
    ];
    for _ in 0..4 {
        let x = values[choose.below(values.len())].clone();
        let mut operands = vec![x];
        let kind = choose.below(6);
        for _ in 0..choose.below(3) {
            let pool = if choose.below(2) == 0 { &values[..] } else { &relations[..] };
            let other = pool[choose.below(pool.len())].clone();
            let other = joined(&case.g, &operands, &other, &mut choose);
            operands.push(other);
        }
        let axes = gdlc::tensor::graph::union(&operands.iter().collect::<Vec<_>>());
        if axes.len() > 5 {
            continue;
        }
        let kept: Vec<Axis> = axes.iter().copied().filter(|_| choose.below(3) > 0).collect();
        let refs: Vec<&Val> = operands.iter().collect();
        let value = match kind {
            0 => case.g.sum(&refs),
            1 => case.g.map([Func::Tanh, Func::Relu, Func::Abs][choose.below(3)], &refs[..1]),
            2 => {
                let only: Vec<&Val> = operands[1..].iter().filter(|v| case.g.ty(v.id).relation).collect();
                let axes = gdlc::tensor::graph::union(&[&refs[..1], &only[..]].concat());
                let kept: Vec<Axis> = axes.into_iter().filter(|a| kept.contains(a)).collect();
                let how = [Reduction::Max, Reduction::Min, Reduction::LogSumExp][choose.below(3)];
                case.g.reduce(how, &operands[0], &only, &kept)
            }
            _ => case.g.contract(&refs, &kept),
        };
        if value.axes.len() <= 4 {
            values.push(value);
        }
    }
    for value in values.iter().rev().take(3) {
        case.out(value);
    }
    case
}

/// `value` under names that share axes of equal size with the operands, where the choices say so.
fn joined(g: &Graph, operands: &[Val], value: &Val, choose: &mut Choices) -> Val {
    let mut names = Vec::new();
    let known: Vec<(Axis, Size)> = operands.iter().flat_map(|v| v.axes.iter().map(|a| (*a, g.size(v, *a)))).collect();
    let mut res = value.clone();
    for axis in &value.axes {
        let fits: Vec<Axis> = known.iter().filter(|(_, s)| *s == g.size(value, *axis)).map(|(a, _)| *a).collect();
        if !fits.is_empty() && choose.below(3) > 0 {
            names.push((*axis, fits[choose.below(fits.len())]));
        }
    }
    for name in names {
        res = res.rename(&[name]);
    }
    res
}

#[test]
fn random_graphs_mean_the_same_lowered() {
    let cases = std::env::var("GDL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(400);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let numbers = proptest::collection::vec(any::<u32>(), 0..60);
    runner
        .run(&numbers, |numbers| {
            random_case(&numbers).check();
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}
