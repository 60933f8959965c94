//! What several values need is computed again where that is next to nothing, once where one kernel needs it, and taken from another
//! value that has summed a part of it: programs mean what they meant, and have the kernels that say so.

use super::*;

fn fixed(n: usize) -> Size {
    Size::fixed(n)
}

fn kernels<'p>(program: &'p Program, word: &str) -> Vec<&'p str> {
    let of_call = program.kernels.iter().filter(|k| k.stage == Stage::Call);
    of_call.map(|k| k.name.as_str()).filter(|name| name.starts_with(word)).collect()
}

/// How many kernels of the call read an argument.
fn readers(program: &Program, name: &str) -> usize {
    let text = program.to_string();
    let kernels = text.split("\nkernel ").skip(1).filter(|k| k.lines().next().is_some_and(|l| l.contains("(call)")));
    kernels.filter(|k| k.contains(&format!("{name}["))).count()
}

/// `x > s` of rows of a table, read by a sum over the rows and by a product: no array has it.
#[test]
fn a_comparison_is_made_where_it_is_read() {
    for edges in [0, 1, 40] {
        let mut case = Case::new();
        let (n, m) = (case.size("n", 7), case.size("m", edges));
        let (x, s) = (case.input("x", &[m, fixed(12)]), case.input("s", &[n, fixed(12)]));
        let table = case.table("table", &[m], n, true);
        let table = table.rename(&[(table.axes[0], x.axes[0]), (table.axes[1], s.axes[0])]);
        let s = s.rename(&[(s.axes[1], x.axes[1])]);
        let spread = case.g.contract(&[&s, &table], &[x.axes[0], x.axes[1]]);
        let greater = case.g.map(Func::Greater, &[&x, &spread]);
        let count = case.g.contract(&[&greater, &table], &[s.axes[0], x.axes[1]]);
        let kept = case.g.contract(&[&greater, &x], &x.axes);
        case.out(&count);
        case.out(&kept);
        let program = case.check();
        assert!(kernels(&program, "map").is_empty(), "{program}");
    }
}

/// `u + x u` with `u = σ(x)` is one kernel; with `u` transposed it is not the same number twice.
#[test]
fn what_one_kernel_needs_twice_is_computed_there() {
    let mut case = Case::new();
    let n = case.size("n", 9);
    let x = case.input("x", &[n, fixed(5)]);
    let u = case.g.map(Func::Sigmoid, &[&x]);
    let product = case.g.contract(&[&x, &u], &x.axes);
    let y = case.g.sum(&[&u, &product]);
    case.out(&y);
    let program = case.check();
    assert_eq!(program.kernels.len(), 1, "{program}");

    let mut case = Case::new();
    let x = case.input("x", &[fixed(6), fixed(6)]);
    let u = case.g.map(Func::Sigmoid, &[&x]);
    let turned = u.rename(&[(u.axes[0], u.axes[1]), (u.axes[1], u.axes[0])]);
    let y = case.g.sum(&[&u, &turned]);
    case.out(&y);
    let program = case.check();
    assert_eq!(program.kernels.len(), 2, "{program}");
}

/// `Σ_{e, c} a b` where `Σ_e r[e→n] a b` is there.
#[test]
fn a_sum_is_taken_of_a_sum_of_rows() {
    for edges in [0, 1, 60] {
        let mut case = Case::new();
        let (n, m) = (fixed(5), case.size("m", edges));
        let (a, b) = (case.input("a", &[m, fixed(8)]), case.input("b", &[m, fixed(8)]));
        let b = b.rename(&[(b.axes[0], a.axes[0]), (b.axes[1], a.axes[1])]);
        let table = case.table("table", &[m], n, false);
        let table = table.rename(&[(table.axes[0], a.axes[0])]);
        let total = case.g.contract(&[&a, &b], &[a.axes[1]]);
        let rows = case.g.contract(&[&a, &b, &table], &[table.axes[1], a.axes[1]]);
        case.out(&rows);
        case.out(&total);
        let program = case.check();
        assert_eq!(readers(&program, "a"), 1, "{program}");
    }
}

/// A function that is not defined everywhere loses entries: the sum of its rows is not the sum.
#[test]
fn a_sum_is_not_taken_of_rows_that_lose_entries() {
    let mut case = Case::new();
    let n = case.size("n", 50);
    let (a, b) = (case.input("a", &[n, fixed(8)]), case.input("b", &[n, fixed(8)]));
    let b = b.rename(&[(b.axes[0], a.axes[0]), (b.axes[1], a.axes[1])]);
    let window = case.affine(&[n], Size::fixed(10), &[1], -3, Outside::Zero);
    let window = window.rename(&[(window.axes[0], a.axes[0])]);
    let total = case.g.contract(&[&a, &b], &[a.axes[1]]);
    let some = case.g.contract(&[&a, &b, &window], &[window.axes[1], a.axes[1]]);
    case.out(&some);
    case.out(&total);
    let program = case.check();
    assert_eq!(readers(&program, "a"), 2, "{program}");
}

/// `Σ_{i, r} x[n, i] · table[o, i→r] · w[q, r]` where `w` is given at the call: the dense kernel packs it through the table.
#[test]
fn a_matrix_of_the_call_is_laid_out_by_a_table() {
    let mut case = Case::new();
    let n = case.size("n", 11);
    let (x, w) = (case.input("x", &[n, fixed(9)]), case.input("w", &[fixed(8), fixed(5)]));
    let places: Vec<Option<u32>> = (0..36).map(|k| (k != 4).then_some((k * 7 % 5) as u32)).collect();
    let table = case.relation(&[fixed(4), fixed(9)], fixed(5), Function::Constant(places.into()));
    let table = table.rename(&[(table.axes[1], x.axes[1]), (table.axes[2], w.axes[1])]);
    let y = case.g.contract(&[&x, &table, &w], &[x.axes[0], table.axes[0], w.axes[0]]);
    case.out(&y);
    let program = case.check();
    assert_eq!(kernels(&program, "pack").len(), 1, "{program}");
}
