//! Random instances of a model's inputs and weights, for the certificate and for timing.

use crate::base::size::{Size, SizeTable};
use crate::codegen::abi::{Element, Interface, Tensor as Declared};
use crate::driver::binding::Sizes;
use crate::driver::failure::Failure;
use crate::driver::tensors::{Numbers, Tensor, Tensors};
use crate::math::Rng;

/// Run-time sizes near `wanted` that satisfy every precondition.
/// Fails where none is found within the next few hundred, with the precondition that refuses.
pub fn sizes(table: &SizeTable, wanted: impl Fn(&str, usize) -> usize) -> Result<Sizes, Failure> {
    let mut res = Sizes::new();
    for (var, info) in table.iter() {
        res.set(var, wanted(&info.name, info.hint));
    }
    for (var, info) in table.iter() {
        let start = wanted(&info.name, info.hint);
        let fits = |n: usize| {
            table
                .preconditions
                .iter()
                .filter(|p| p.size.depends_on() == Some(var))
                .all(|p| p.size.eval(|_| n) % p.modulus == 0)
        };
        let n = (start..start + 512).find(|n| fits(*n)).ok_or_else(|| {
            Failure::program(format!("no size near {} = {start} satisfies every precondition of the model", info.name))
        })?;
        res.set(var, n);
    }
    Ok(res)
}

/// Random inputs: normal reals, uniform indices, sorted tables that reach every row.
pub fn inputs(interface: &Interface, sizes: &Sizes, rng: &mut Rng) -> Tensors {
    interface.inputs.iter().map(|d| (d.name.clone(), random(d, sizes, rng))).collect()
}

fn random(declared: &Declared, sizes: &Sizes, rng: &mut Rng) -> Tensor {
    let shape: Vec<usize> = declared.dims.iter().map(|d| sizes.eval(*d)).collect();
    let count = shape.iter().product();
    let numbers = match declared.element {
        Element::Real => Numbers::Real((0..count).map(|_| rng.normal()).collect()),
        Element::Index { range, sorted: true, .. } => Numbers::Index(spread(count, eval(range, sizes))),
        Element::Index { range, sorted: false, .. } => {
            let range = eval(range, sizes);
            Numbers::Index((0..count).map(|_| (rng.uniform() * range as f64) as i64).collect())
        }
    };
    Tensor { shape, numbers }
}

fn eval(range: Size, sizes: &Sizes) -> usize {
    sizes.eval(range).max(1)
}

/// `count` non-decreasing indices below `range`, unevenly: some rows are long, some may be empty.
fn spread(count: usize, range: usize) -> Vec<i64> {
    let place = |k: usize| {
        let t = (k as f64 + 0.5) / count as f64;
        let bent = t * t * (3.0 - 2.0 * t);
        ((bent * range as f64) as i64).min(range as i64 - 1)
    };
    (0..count).map(place).collect()
}
