//! From files to arguments: the tensors of a file against the interface of a model.
//! Every mismatch is told with the name of the tensor, what was expected and what was found; nothing is guessed.

use std::collections::BTreeMap;

use crate::base::size::{Size, SizeTable, SizeVar};
use crate::codegen::abi::{Element, Interface, Tensor as Declared};
use crate::driver::failure::Failure;
use crate::driver::tensors::{Numbers, Tensor, Tensors};

/// A size that is read off an index table is at most so many times the table's length: beyond, an index is a mistake.
const MOST_EMPTY: usize = 1 << 16;

/// The values of the run-time sizes of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sizes {
    values: BTreeMap<SizeVar, usize>,
}

impl Sizes {
    /// No size known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of a size. Panics where it was not found: [`Sizes::solve`] refuses such inputs.
    pub fn eval(&self, size: Size) -> usize {
        size.eval(|var| self.values[&var])
    }

    /// Sets a run-time size.
    pub fn set(&mut self, var: SizeVar, value: usize) {
        self.values.insert(var, value);
    }

    /// The values in the order of the table.
    pub fn in_order(&self, table: &SizeTable) -> Vec<usize> {
        table.iter().map(|(var, _)| self.values[&var]).collect()
    }

    /// Finds every run-time size from the shapes of the inputs, and checks every axis and every precondition against them.
    /// A size that only bounds an index table (the number of samples) is the greatest index plus one.
    pub fn solve(interface: &Interface, tensors: &Tensors) -> Result<Sizes, Failure> {
        let mut sizes = Sizes::new();
        for declared in &interface.inputs {
            let found = &tensors[&declared.name];
            check_rank(interface, declared, found)?;
            for (size, n) in declared.dims.iter().zip(&found.shape) {
                sizes.learn(*size, *n);
            }
        }
        for declared in &interface.inputs {
            let Element::Index { range, .. } = declared.element else { continue };
            if let (Some(var), Some(indices)) = (range.depends_on(), tensors[&declared.name].indices()) {
                let bound = indices.iter().max().map_or(0, |top| usize::try_from(top.saturating_add(1)).unwrap_or(0));
                if bound > indices.len().max(1) * MOST_EMPTY {
                    return Err(Failure::call(format!(
                        "`{}` has the index {}, far above the number of its entries, {}: indices count from 0 without large gaps",
                        declared.name,
                        bound - 1,
                        indices.len()
                    )));
                }
                sizes.values.entry(var).or_insert(bound);
            }
        }
        // A size that no tensor has is a size that nothing depends on.
        for (var, _) in interface.sizes.iter() {
            sizes.values.entry(var).or_insert(1);
        }
        for declared in &interface.inputs {
            sizes.check_shape(interface, declared, &tensors[&declared.name])?;
        }
        for rule in &interface.sizes.preconditions {
            let n = sizes.eval(rule.size);
            if n % rule.modulus != 0 {
                let size = interface.sizes.show(rule.size);
                return Err(Failure::call(format!("{} ({size} = {n} here)", rule.reason)));
            }
        }
        Ok(sizes)
    }

    fn learn(&mut self, size: Size, n: usize) {
        let (scale, var, offset, divisor) = size.parts();
        if scale == 0 || self.values.contains_key(&var) {
            return;
        }
        let value = (n as i64 * divisor - offset) / scale;
        self.values.insert(var, usize::try_from(value).unwrap_or(0));
    }

    fn check_shape(&self, interface: &Interface, declared: &Declared, found: &Tensor) -> Result<(), Failure> {
        let expected: Vec<usize> = declared.dims.iter().map(|d| self.eval(*d)).collect();
        if expected == found.shape {
            return Ok(());
        }
        let symbolic = shape_text(interface, declared);
        Err(Failure::call(format!(
            "`{}` has shape {:?}; expected {symbolic}, here {expected:?}",
            declared.name, found.shape
        )))
    }
}

/// The declared shape as text: `[batch, n, n, 1]`.
pub fn shape_text(interface: &Interface, declared: &Declared) -> String {
    let dims: Vec<String> = declared.dims.iter().map(|d| interface.sizes.show(*d)).collect();
    format!("[{}]", dims.join(", "))
}

fn check_rank(interface: &Interface, declared: &Declared, found: &Tensor) -> Result<(), Failure> {
    if declared.dims.len() == found.shape.len() {
        return Ok(());
    }
    let symbolic = shape_text(interface, declared);
    Err(Failure::call(format!("`{}` has shape {:?}; expected {symbolic}", declared.name, found.shape)))
}

/// Adds the indices of samples that a file leaves out: its points are of one sample, as many as another input has.
/// Says which were added.
pub fn one_sample(interface: &Interface, tensors: &mut Tensors) -> Vec<String> {
    let mut sizes = Sizes::new();
    for declared in &interface.inputs {
        if let Some(found) = tensors.get(&declared.name) {
            declared.dims.iter().zip(&found.shape).for_each(|(size, n)| sizes.learn(*size, *n));
        }
    }
    let mut added = Vec::new();
    for declared in &interface.inputs {
        let is_index = declared.name.ends_with(".index") && !tensors.contains_key(&declared.name);
        let known = |size: &Size| size.depends_on().is_none_or(|var| sizes.values.contains_key(&var));
        if let (true, [points]) = (is_index && declared.dims.iter().all(known), &declared.dims[..]) {
            let n = sizes.eval(*points);
            tensors.insert(declared.name.clone(), Tensor { shape: vec![n], numbers: Numbers::Index(vec![0; n]) });
            added.push(declared.name.clone());
        }
    }
    added
}

/// The tensors of a file that the model takes, in order of the interface. Missing ones are an error that lists them all.
pub fn inputs(interface: &Interface, tensors: &Tensors) -> Result<Sizes, Failure> {
    missing("input", &interface.inputs, tensors)?;
    for declared in &interface.inputs {
        let found = &tensors[&declared.name];
        match (declared.element, &found.numbers) {
            (Element::Real, Numbers::Real(_)) | (Element::Index { .. }, Numbers::Index(_)) => (),
            (Element::Real, Numbers::Index(_)) => {
                return Err(Failure::call(format!("`{}` holds whole numbers; expected F32 or F64", declared.name)));
            }
            (Element::Index { .. }, Numbers::Real(_)) => {
                return Err(Failure::call(format!(
                    "`{}` holds real numbers; expected I32 or I64 indices",
                    declared.name
                )));
            }
        }
    }
    Sizes::solve(interface, tensors)
}

/// Checks a file of weights: all there, none besides, each of the right shape, all real.
pub fn weights(interface: &Interface, tensors: &Tensors) -> Result<(), Failure> {
    missing("weight", &interface.weights, tensors)?;
    let extra: Vec<&str> =
        tensors.keys().filter(|name| !interface.weights.iter().any(|w| w.name == **name)).map(String::as_str).collect();
    if !extra.is_empty() {
        return Err(Failure::call(format!("the file has weights the model does not: {}", extra.join(", "))));
    }
    for declared in &interface.weights {
        let found = &tensors[&declared.name];
        let expected: Vec<usize> =
            declared.dims.iter().map(|d| d.as_fixed().expect("weights have fixed sizes")).collect();
        if expected != found.shape {
            return Err(Failure::call(format!(
                "weight `{}` has shape {:?}; expected {expected:?}",
                declared.name, found.shape
            )));
        }
        if found.indices().is_some() {
            return Err(Failure::call(format!("weight `{}` holds whole numbers; expected F32 or F64", declared.name)));
        }
    }
    Ok(())
}

fn missing(kind: &str, declared: &[Declared], tensors: &Tensors) -> Result<(), Failure> {
    let absent: Vec<&str> =
        declared.iter().map(|d| d.name.as_str()).filter(|name| !tensors.contains_key(*name)).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let present: Vec<&str> = tensors.keys().map(String::as_str).collect();
    Err(Failure::call(format!("missing {kind}s: {}; the file has: {}", absent.join(", "), present.join(", "))))
}
