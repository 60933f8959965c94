//! Points of a space that repeats: a crystal described by one cell, and the same crystal described by eight.

use std::collections::BTreeMap;

use gdlc::derive::instance::{Filling, weights};
use gdlc::math::Rng;
use gdlc::tensor::eval::{Arguments, Array};

use super::draft::{distance, run};
use super::programs::{certified, checked, derived};

const CUTOFF: f64 = 3.0;

/// Both ways to look at a neighbour: a convolution over a radius, and differences of positions in a comprehension.
const PROGRAM: &str = "
domain Atoms = points(n ~ 8, m ~ 160) in R3 periodic under E(3)

model Crystal(z: Atoms -> 2, r: Atoms -> position) = {
  f = linear 3 irreps(0..2) (z)
  f = f + (f |> depthwise irreps(0..2) over 3.0 at r by mlp[4] |> linear 3 irreps(0..2) |> gate)
  energy = f |> linear 1 |> pool sum
  (energy, f)
}

model Moved(h: Atoms -> 2, x: Atoms -> position) = {
  m[i,j] = mlp[4, 3](h[i], h[j], |x[i] - x[j]|^2)
  u[i]   = x[i] + mean j~i: mlp[1](m[i,j]) * (x[j] - x[i])
  v[i]   = sum j~i: m[i,j]
  (u, v)
}
";

/// A crystal of one sample.
struct Crystal {
    cell: [[f64; 3]; 3],
    positions: Vec<[f64; 3]>,
    species: Vec<[f64; 2]>,
}

impl Crystal {
    fn example() -> Crystal {
        Crystal {
            cell: [[2.6, 0.0, 0.3], [-0.4, 2.9, 0.0], [0.5, 0.7, 3.1]],
            positions: vec![[0.1, 0.2, 0.0], [1.3, 1.1, 1.7], [0.4, 2.0, 2.4]],
            species: vec![[1.0, 0.3], [-0.5, 1.2], [0.7, -0.9]],
        }
    }

    /// The same atoms in a cell twice as long along each row: copy by copy.
    fn doubled(&self) -> Crystal {
        let mut all = Crystal { cell: self.cell.map(|row| row.map(|x| 2.0 * x)), positions: vec![], species: vec![] };
        for copy in 0..8 {
            let by = self.offset([copy & 1, copy >> 1 & 1, copy >> 2]);
            all.positions.extend(self.positions.iter().map(|p| [p[0] + by[0], p[1] + by[1], p[2] + by[2]]));
            all.species.extend(&self.species);
        }
        all
    }

    fn offset(&self, shift: [i64; 3]) -> [f64; 3] {
        [0, 1, 2].map(|k| (0..3).map(|a| shift[a] as f64 * self.cell[a][k]).sum())
    }

    /// Every pair and every image in a wide box, by receiver: `(receiver, sender, shift)`.
    fn edges(&self) -> Vec<(usize, usize, [i64; 3])> {
        let mut found = vec![];
        for (i, p) in self.positions.iter().enumerate() {
            for (j, q) in self.positions.iter().enumerate() {
                for code in 0..9 * 9 * 9 {
                    let shift = [code % 9 - 4, code / 9 % 9 - 4, code / 81 - 4];
                    let by = self.offset(shift);
                    let square: f64 = (0..3).map(|k| (q[k] + by[k] - p[k]).powi(2)).sum();
                    if square < CUTOFF * CUTOFF && square > 1e-12 {
                        found.push((i, j, shift));
                    }
                }
            }
        }
        found
    }

    fn inputs(&self, signals: [&str; 2]) -> Vec<(String, Array)> {
        let (n, edges) = (self.positions.len(), self.edges());
        let array = |dims: Vec<usize>, data: Vec<f64>| Array { dims, data };
        vec![
            (signals[0].into(), array(vec![n, 2], self.species.concat())),
            (signals[1].into(), array(vec![n, 3], self.positions.concat())),
            ("Atoms.receivers".into(), array(vec![edges.len()], edges.iter().map(|e| e.0 as f64).collect())),
            ("Atoms.senders".into(), array(vec![edges.len()], edges.iter().map(|e| e.1 as f64).collect())),
            (
                "Atoms.shifts".into(),
                array(vec![edges.len(), 3], edges.iter().flat_map(|e| e.2.map(|s| s as f64)).collect()),
            ),
            ("Atoms.cell".into(), array(vec![1, 3, 3], self.cell.concat())),
            ("Atoms.index".into(), array(vec![n], vec![0.0; n])),
        ]
    }

    fn run(&self, model: usize, signals: [&str; 2]) -> BTreeMap<String, Array> {
        let program = checked(PROGRAM, &[]).unwrap_or_else(|e| panic!("{e:?}"));
        let derived = &derived(&program)[model];
        let mut args = Arguments::default();
        weights(&derived.graph, Filling::Generic, &mut args, &mut Rng::new(3));
        let inputs = self.inputs(signals);
        let inputs: Vec<(&str, &Array)> = inputs.iter().map(|(name, x)| (name.as_str(), x)).collect();
        let sizes = [("n", self.positions.len()), ("m", self.edges().len()), ("samples", 1)];
        run(derived, &sizes, &inputs, &args.weights)
    }
}

/// The rows of `one`, eight times.
fn repeated(one: &Array) -> Array {
    let dims = [&[8 * one.dims[0]], &one.dims[1..]].concat();
    Array { dims, data: one.data.repeat(8) }
}

#[test]
fn eight_cells_have_eight_times_the_energy_of_one() {
    let one = Crystal::example();
    assert!(one.edges().iter().any(|(i, j, _)| i == j), "an atom sees its own images");
    let (small, large) = (one.run(0, ["z", "r"]), one.doubled().run(0, ["z", "r"]));
    assert!((large["energy"].data[0] - 8.0 * small["energy"].data[0]).abs() < 1e-9 * large["energy"].data[0].abs());
    assert!(distance(&large["f"], &repeated(&small["f"])) < 1e-10);
}

#[test]
fn positions_move_alike_in_every_cell() {
    let one = Crystal::example();
    let (small, large) = (one.run(1, ["h", "x"]), one.doubled().run(1, ["h", "x"]));
    assert!(distance(&large["v"], &repeated(&small["v"])) < 1e-10);
    let step = |after: &Array, before: &Crystal| Array {
        dims: after.dims.clone(),
        data: after.data.iter().zip(before.positions.concat()).map(|(u, x)| u - x).collect(),
    };
    let (few, many) = (step(&small["u"], &one), step(&large["u"], &one.doubled()));
    assert!(few.data.iter().any(|x| x.abs() > 1e-3));
    assert!(distance(&many, &repeated(&few)) < 1e-10);
}

/// Turned with its cell, its points moved to other cells with the shifts of their edges, renumbered: the same crystal.
#[test]
fn crystals_are_certified() {
    certified(PROGRAM, &[]);
}
