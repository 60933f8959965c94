//! What a file of points may leave out: edges, which are built from the positions and the cutoff that the model names.

use crate::base::arena::Id;
use crate::derive::place::{CELL, SHIFTS};
use crate::domain::neighbours::{self, Cloud};
use crate::driver::failure::Failure;
use crate::driver::tensors::{Numbers, Tensor, Tensors};
use crate::sema::hir::{Base, DomainDecl, Model, Op, Over, Program};

/// The edges of a domain as a model wants them.
struct Wanted<'m> {
    domain: &'m DomainDecl,
    /// The greatest cutoff: a layer with a smaller one gives weight 0 to what lies beyond.
    cutoff: f64,
    /// The argument with the positions, unless the model computes them.
    positions: Option<&'m str>,
}

/// Edges that were built.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    pub domain: String,
    pub cutoff: f64,
    pub edges: usize,
}

/// Adds edges (and for periodic points their shifts) to the inputs where a model has a cutoff and the file has neither senders nor receivers;
/// points without an index are one sample. Shifts that are stored as whole numbers become reals, as the library takes them.
///
/// # Errors
/// Positions that are missing, of the wrong shape or computed by the model; a missing or flat cell.
pub fn complete(program: &Program, model: &Model, inputs: &mut Tensors) -> Result<Vec<Built>, Failure> {
    let mut built = Vec::new();
    for wanted in wanted(program, model) {
        let name = |word: &str| format!("{}.{word}", wanted.domain.name);
        if let Some(shifts) = inputs.get_mut(&name(SHIFTS)) {
            shifts.numbers = Numbers::Real(shifts.reals());
        }
        if !inputs.contains_key(&name("senders")) && !inputs.contains_key(&name("receivers")) {
            built.push(wanted.build(inputs)?);
        }
    }
    Ok(built)
}

/// The domains of points that a model looks at within a cutoff, and periodic ones.
fn wanted<'m>(program: &'m Program, model: &'m Model) -> Vec<Wanted<'m>> {
    let mut all: Vec<(Id<DomainDecl>, Wanted)> = Vec::new();
    for (_, value) in model.values.iter() {
        let (Op::Linear(linear), Base::Points(id)) = (&value.op, value.ty.base) else { continue };
        let Over::Radius { cutoff, .. } = linear.over else { continue };
        let positions = value.args.last().map(|at| &model.values[*at].op);
        let positions = match positions {
            Some(Op::Argument(k)) => Some(model.args[*k].name.as_str()),
            Some(_) | None => None,
        };
        match all.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) => {
                known.cutoff = known.cutoff.max(cutoff);
                known.positions = known.positions.filter(|_| known.positions == positions);
            }
            None => all.push((id, Wanted { domain: &program.domains[id], cutoff, positions })),
        }
    }
    all.into_iter().map(|(_, wanted)| wanted).collect()
}

impl Wanted<'_> {
    fn build(&self, inputs: &mut Tensors) -> Result<Built, Failure> {
        let name = |word: &str| format!("{}.{word}", self.domain.name);
        let fail = |why: String| {
            Failure::call(format!("no edges: give `{}` and `{}`; {why}", name("senders"), name("receivers")))
        };
        let argument = self.positions.ok_or_else(|| {
            fail(
                "they are not built here, because the cutoff is between positions that the model computes, or several"
                    .into(),
            )
        })?;
        let dim = self.domain.domain.ambient().unwrap_or(0);
        let positions = inputs.get(argument).ok_or_else(|| fail(format!("or the positions `{argument}`")))?;
        let &[points, width] = &positions.shape[..] else {
            return Err(fail(format!("`{argument}` has shape {:?}, expected [points, {dim}]", positions.shape)));
        };
        if width != dim {
            return Err(fail(format!("`{argument}` has shape {:?}, expected [points, {dim}]", positions.shape)));
        }
        let index = self.index(inputs, points).map_err(&fail)?;
        let samples = index.iter().max().map_or(0, |top| top + 1);
        let cells =
            if self.domain.domain.periodic() { Some(self.cells(inputs, samples, dim).map_err(&fail)?) } else { None };
        let positions = inputs[argument].reals();
        let cloud = Cloud { dim, positions: &positions, index: &index, cells: cells.as_deref() };
        let edges = neighbours::within(&cloud, self.cutoff).map_err(fail)?;
        let count = edges.senders.len();
        let table = |list: &[usize]| Tensor {
            shape: vec![list.len()],
            numbers: Numbers::Index(list.iter().map(|k| *k as i64).collect()),
        };
        inputs.insert(name("senders"), table(&edges.senders));
        inputs.insert(name("receivers"), table(&edges.receivers));
        inputs.entry(name("index")).or_insert_with(|| table(&index));
        if cells.is_some() {
            let shifts = edges.shifts.iter().map(|s| *s as f64).collect();
            inputs.insert(name(SHIFTS), Tensor::real(vec![count, dim], shifts));
        }
        Ok(Built { domain: self.domain.name.clone(), cutoff: self.cutoff, edges: count })
    }

    /// The sample of each point.
    fn index(&self, inputs: &Tensors, points: usize) -> Result<Vec<usize>, String> {
        let name = format!("{}.index", self.domain.name);
        let Some(table) = inputs.get(&name) else { return Ok(vec![0; points]) };
        let whole =
            table.indices().filter(|list| list.len() == points && list.iter().all(|k| (0..=points as i64).contains(k)));
        let list = whole.ok_or_else(|| format!("`{name}` is not {points} indices of samples"))?;
        Ok(list.iter().map(|k| *k as usize).collect())
    }

    fn cells(&self, inputs: &Tensors, samples: usize, dim: usize) -> Result<Vec<f64>, String> {
        let name = format!("{}.{CELL}", self.domain.name);
        let cell = inputs.get(&name).ok_or_else(|| {
            format!("`{name}` is missing: one cell a sample, its rows the vectors by which space repeats")
        })?;
        if cell.shape != [samples, dim, dim] {
            return Err(format!("`{name}` has shape {:?}, expected [{samples}, {dim}, {dim}]", cell.shape));
        }
        Ok(cell.reals())
    }
}
