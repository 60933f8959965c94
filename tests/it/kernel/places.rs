//! Places on the lanes: values of few numbers a place are made by one kernel, and what only it reads is not stored.

use super::*;

/// No place, less than a block (64 places), one more or less than one, and many with a rest.
const SIZES: [usize; 8] = [0, 1, 5, 63, 64, 65, 128, 203];

fn fixed(n: usize) -> Size {
    Size::fixed(n)
}

/// The kernels that are made so.
fn of_places(program: &Program) -> Vec<&str> {
    program.kernels.iter().map(|k| &k.name[..]).filter(|name| name.starts_with("places")).collect()
}

/// The place, the component and how many components there are.
fn axes(case: &Case, x: &Val) -> (Axis, Axis, usize) {
    let dims = &case.g.ty(x.id).dims;
    let at = dims.iter().position(|d| d.as_fixed().is_some()).expect("a short axis");
    (x.axes[1 - at], x.axes[at], dims[at].as_fixed().expect("it is short"))
}

/// `x / |x|` along the components, 0 at 0.
fn direction(case: &mut Case, x: &Val) -> Val {
    let square = case.g.contract(&[x, x], &[axes(case, x).0]);
    let norm = case.g.map(Func::Sqrt, &[&square]);
    let inverse = case.g.map(Func::SafeRecip, &[&norm]);
    case.g.mul(x, &inverse)
}

/// The symmetric traceless products of two vectors: `[5, 3, 3]`, mostly zeros.
fn traceless(case: &mut Case) -> Val {
    let mut data = vec![0.0; 45];
    for (q, i, j, x) in [(0, 0, 1, 1.5), (1, 1, 2, 1.5), (3, 0, 2, 1.5)] {
        data[q * 9 + i * 3 + j] = x;
        data[q * 9 + j * 3 + i] = x;
    }
    for (q, i, x) in [(2, 0, -0.5), (2, 1, -0.5), (2, 2, 1.0), (4, 0, 0.75), (4, 1, -0.75)] {
        data[q * 9 + i * 4] = x;
    }
    case.constant(&[5, 3, 3], data)
}

/// `x ⊗ y` with the constant.
fn product(case: &mut Case, x: &Val, y: &Val) -> Val {
    let ((place, i, _), (_, own, _)) = (axes(case, x), axes(case, y));
    let c = traceless(case);
    let j = c.axes[2];
    let c = c.rename(&[(c.axes[1], i)]);
    case.g.contract(&[x, &y.rename(&[(own, j)]), &c], &[place, c.axes[0]])
}

/// A number that is left out, then one value after the other, along the last axis.
fn joined(case: &mut Case, parts: &[&Val]) -> Val {
    let to = fixed(1 + parts.iter().map(|part| axes(case, part).2).sum::<usize>());
    let axis = case.g.axis();
    let mut begin = 1;
    let mut terms = Vec::new();
    for part in parts {
        let (place, component, length) = axes(case, part);
        let put = case.affine(&[fixed(length)], to, &[1], begin, Outside::Never);
        let put = put.rename(&[(put.axes[0], component), (put.axes[1], axis)]);
        terms.push(case.g.contract(&[part, &put], &[place, axis]));
        begin += length as i64;
    }
    case.g.sum(&terms.iter().collect::<Vec<_>>())
}

/// `[1, u, q(u, u)]` of `u = x / |x|`: 9 numbers.
fn harmonics(n: usize) -> Case {
    let mut case = Case::new();
    let n = case.size("n", n);
    let x = case.input("x", &[n, fixed(3)]);
    let u = direction(&mut case, &x);
    let q = product(&mut case, &u, &u);
    let y = joined(&mut case, &[&u, &q]);
    let one = case.constant(&[9], (0..9).map(|k| f64::from(u8::from(k == 0))).collect());
    let one = one.rename(&[(one.axes[0], axes(&case, &y).1)]);
    let y = case.g.sum(&[&one, &y]);
    case.out(&y);
    case
}

#[test]
fn harmonics_of_points_are_one_kernel_that_stores_the_result_alone() {
    for n in SIZES {
        let program = harmonics(n).check();
        assert_eq!(of_places(&program), ["places y0"], "{program}");
        assert_eq!(program.kernels.len(), 1, "{program}");
        assert!(program.buffers.iter().all(|(_, b)| b.memory != Memory::Workspace), "{program}");
    }
}

/// The text of the kernel: numbers of a place are read once, terms with equal factors are one, zeros are not there.
#[test]
fn the_kernel_is_a_straight_line() {
    let mut case = Case::new();
    let n = case.size("n", 100);
    let x = case.input("x", &[n, fixed(3)]);
    let q = product(&mut case, &x, &x);
    case.out(&q);
    let text = case.check().to_string();
    let kernel = text.split_once("kernel").expect("there is one").1;
    let expected = " places y0 (call) {
  for parallel v0 in 0..((n) + 63) / 64 {
    for vector v1 in v0 * 64..min((v0 + 1) * 64, (n)) {
      let v2 = x[v1, 0]
      let v3 = x[v1, 1]
      let v4 = 3.0 * v2 * v3
      let v5 = x[v1, 2]
      let v6 = 3.0 * v3 * v5
      let v7 = (v5 * v5 + fma(-0.5, v3 * v3, -0.5 * v2 * v2))
      let v8 = 3.0 * v2 * v5
      let v9 = fma(-0.75, v3 * v3, 0.75 * v2 * v2)
      y0[v1, 0] = v4
      y0[v1, 1] = v6
      y0[v1, 2] = v7
      y0[v1, 3] = v8
      y0[v1, 4] = v9
    }
  }
}
";
    assert_eq!(kernel, expected, "{text}");
}

/// Distances, directions and a radial basis of edges between points: what others read is stored, as rows of every length.
#[test]
fn the_geometry_of_edges_is_one_kernel() {
    for m in SIZES {
        let mut case = Case::new();
        let (n, m) = (case.size("n", 7), case.size("m", m));
        let x = case.input("x", &[n, fixed(3)]);
        let (from, to) = (case.table("src", &[m], n, false), case.table("dst", &[m], n, true));
        let e = from.axes[0];
        let end = |case: &mut Case, table: &Val| {
            let table = table.rename(&[(table.axes[0], e), (table.axes[1], x.axes[0])]);
            case.g.contract(&[&x, &table], &[e, x.axes[1]])
        };
        let (a, b) = (end(&mut case, &from), end(&mut case, &to));
        let minus = case.g.scalar(-1.0);
        let b = case.g.mul(&b, &minus);
        let d = case.g.sum(&[&a, &b]);
        let square = case.g.contract(&[&d, &d], &[e]);
        let distance = case.g.map(Func::Sqrt, &[&square]);
        let frequencies = case.constant(&[17], (1..18).map(|k| 0.1 * f64::from(k)).collect());
        let waves = case.g.mul(&distance, &frequencies);
        let waves = case.g.map(Func::Sin, &[&waves]);
        let u = direction(&mut case, &d);
        let q = product(&mut case, &u, &u);
        let t = product(&mut case, &u, &d);
        case.g.output("distance", &distance, &distance.axes);
        case.g.output("q", &q, &q.axes);
        // components outside, edges inside
        case.g.output("t", &t, &[t.axes[1], t.axes[0]]);
        case.out(&waves);
        let program = case.check();
        let stored = program.buffers.iter().filter(|(_, b)| b.memory == Memory::Workspace).count();
        assert!(of_places(&program).len() == 1 && stored == 0, "{program}");
    }
}

/// A norm that is read at another place is stored by one kernel, and read by the next.
#[test]
fn what_a_table_points_to_is_made_before() {
    for m in SIZES {
        let mut case = Case::new();
        let n = case.size("n", m);
        let x = case.input("x", &[n, fixed(3)]);
        let next = case.table("next", &[n], n, false);
        let u = direction(&mut case, &x);
        let j = case.g.axis();
        let next = next.rename(&[(next.axes[0], x.axes[0]), (next.axes[1], j)]);
        let there = u.rename(&[(x.axes[0], j)]);
        let gathered = case.g.contract(&[&there, &next], &[x.axes[0], x.axes[1]]);
        let gathered = case.g.map(Func::Tanh, &[&gathered]);
        let q = product(&mut case, &u, &gathered);
        case.out(&q);
        let program = case.check();
        assert_eq!(of_places(&program).len(), 2, "{program}");
    }
}

/// Many numbers of one kind fill the lanes by themselves.
#[test]
fn channels_stay_on_the_lanes() {
    let mut case = Case::new();
    let n = case.size("n", 9);
    let (x, y) = (case.input("x", &[n, fixed(3), fixed(32)]), case.input("y", &[n, fixed(3)]));
    let y = y.rename(&[(y.axes[0], x.axes[0]), (y.axes[1], x.axes[1])]);
    let dot = case.g.contract(&[&x, &y], &[x.axes[0], x.axes[2]]);
    case.out(&dot);
    let program = case.check();
    assert_eq!(of_places(&program), Vec::<&str>::new(), "{program}");
}
