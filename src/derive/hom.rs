//! Bases of equivariant maps as operands of tensor products.
//!
//! In: how a copy transforms on either side, and a basis of the maps between. Out: a [`Coupling`]: how many weights a pair of copies has,
//! and the constant or relation `[weight, out component, in component, cells...]` that turns weights into the dense map.
//! A basis whose elements are disjoint patterns of ones is a relation from entries to weights; others are constants.

use crate::base::diagnostic::Diagnostic;
use crate::base::size::Size;
use crate::derive::derivation::{Derivation, not_derived};
use crate::derive::signal::{Kind, slice};
use crate::math::Matrix;
use crate::symmetry::{GroupRef, KernelEntries, Rep, equivariant_basis};
use crate::tensor::graph::{Axis, Constant, Function, Relation, Val};

/// Entries of closed forms are exact to this.
const EXACT: f64 = 1e-12;

/// The tables of couplings of a layer have at most so many numbers.
const MOST_NUMBERS: usize = 1 << 24;

/// The size of the tables of couplings of a layer, before any is computed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tables {
    couplings: usize,
    numbers: usize,
}

impl Tables {
    /// Counts the coupling of representations of these dimensions.
    pub(super) fn count(&mut self, dims: [usize; 3]) {
        self.couplings += 1;
        self.numbers += dims.iter().product::<usize>();
    }

    /// Refuses tables that would fill the memory.
    pub(super) fn admit(self) -> Result<(), Diagnostic> {
        let Tables { couplings, numbers } = self;
        if numbers <= MOST_NUMBERS {
            return Ok(());
        }
        let message =
            format!("the couplings of this layer have {numbers} numbers, and more than {MOST_NUMBERS} are refused");
        Err(Diagnostic::error("E0403", message)
            .why(format!(
                "there are {couplings} couplings of the representations here, and one of dimensions a, b and c is a table of a · b · c numbers"
            ))
            .hint("take a lower highest degree: the numbers grow with its sixth power"))
    }
}

/// How weights become a map between one copy of the input and one of the output.
#[derive(Clone, Debug)]
pub(super) struct Coupling {
    /// Free weights a pair of copies: dim Hom.
    pub(super) weights: usize,
    /// The variance of an output component for unit weights and inputs.
    pub(super) fan: f64,
    pub(super) join: Join,
}

#[derive(Clone, Debug)]
pub(super) enum Join {
    /// One weight times the identity: the components of input and output are the same.
    Same,
    /// One weight in every entry: the sum over the input's components, the same on all of the output's.
    Everywhere,
    /// The product with this operand; `weight` is its axis over the weights, absent when there is one.
    Through { operand: Val, weight: Option<Axis> },
}

/// The axes under which a coupling is read.
#[derive(Clone, Debug)]
pub(super) struct Roles {
    pub(super) out: Option<Axis>,
    pub(super) input: Option<Axis>,
    /// The axes of a window with their sizes.
    pub(super) cells: Vec<(Axis, usize)>,
}

/// The representation of a kind under `group`.
pub(super) fn rep_of(kind: &Kind, group: &GroupRef) -> Result<Rep, Diagnostic> {
    match kind {
        Kind::Scalar => Ok(Rep::scalar(group)),
        Kind::Rep(rep) => Ok(rep.as_ref().clone()),
        Kind::Position(_) => Err(not_derived("a linear map of positions: take differences first, they are vectors")),
    }
}

/// The group of either kind, where one is not a scalar.
pub(super) fn common_group(a: &Kind, b: &Kind) -> Option<GroupRef> {
    [a, b].into_iter().find_map(|k| match k {
        Kind::Rep(rep) => Some(rep.group().clone()),
        Kind::Scalar | Kind::Position(_) => None,
    })
}

/// A basis of Hom(input, out), matrices `out x input`.
pub(super) fn maps(input: &Kind, out: &Kind) -> Result<Vec<Matrix>, Diagnostic> {
    match common_group(input, out) {
        None => {
            rejected_position(input)?;
            rejected_position(out)?;
            Ok(vec![Matrix::identity(1)])
        }
        Some(group) => Ok(equivariant_basis(&rep_of(input, &group)?, &rep_of(out, &group)?)),
    }
}

fn rejected_position(kind: &Kind) -> Result<(), Diagnostic> {
    match kind {
        Kind::Position(_) => Err(not_derived("a linear map of positions: take differences first, they are vectors")),
        Kind::Scalar | Kind::Rep(_) => Ok(()),
    }
}

/// The entries of a list of matrices, as those of kernels on a window of one cell.
fn entries_of(maps: &[Matrix]) -> KernelEntries {
    let (rows, cols) = (maps[0].rows(), maps[0].cols());
    let mut table = vec![None; rows * cols];
    let mut sparse = Vec::new();
    let mut disjoint = true;
    for (w, map) in maps.iter().enumerate() {
        for i in 0..rows {
            for j in 0..cols {
                let x = map[(i, j)];
                if x.abs() < EXACT {
                    continue;
                }
                disjoint &= (x - 1.0).abs() < EXACT && table[i * cols + j].is_none();
                table[i * cols + j] = Some(w as u32);
                sparse.push((w as u32, 0, i as u32, j as u32, x));
            }
        }
    }
    if disjoint { KernelEntries::Table(table) } else { KernelEntries::Sparse(sparse) }
}

impl Derivation<'_> {
    /// The pointwise maps between two kinds; none when Hom is zero.
    pub(super) fn point_coupling(
        &mut self,
        input: &Kind,
        out: &Kind,
        roles: &Roles,
    ) -> Result<Option<Coupling>, Diagnostic> {
        let maps = maps(input, out)?;
        if maps.is_empty() {
            return Ok(None);
        }
        let square: f64 = maps.iter().flat_map(|m| m.as_slice()).map(|x| x * x).sum();
        let fan = square / out.dim() as f64;
        let is_identity =
            maps.len() == 1 && input.dim() == out.dim() && maps[0].distance(&Matrix::identity(out.dim())) < EXACT;
        let join = if is_identity {
            Join::Same
        } else {
            let name = format!("Hom({}, {})", input.tag(), out.tag());
            self.join(&name, maps.len(), (out.dim(), input.dim()), &entries_of(&maps), roles)
        };
        Ok(Some(Coupling { weights: maps.len(), fan, join }))
    }

    /// A constant under these axes; a representation of dimension 1 has none.
    pub(super) fn named(&mut self, name: &str, axes: &[(Option<Axis>, usize)], data: &[f64]) -> Val {
        let present: Vec<(Axis, usize)> = axes.iter().filter_map(|(a, n)| a.map(|a| (a, *n))).collect();
        let dims = present.iter().map(|(_, n)| *n).collect();
        let val = self.graph.constant(Constant { name: name.into(), dims, data: data.to_vec().into() });
        val.rename(&val.axes.iter().copied().zip(present.iter().map(|(a, _)| *a)).collect::<Vec<_>>())
    }

    /// The operand of a basis with these entries `[out, input, cell]`.
    pub(super) fn join(
        &mut self,
        name: &str,
        weights: usize,
        dims: (usize, usize),
        entries: &KernelEntries,
        roles: &Roles,
    ) -> Join {
        let cells: usize = roles.cells.iter().map(|(_, n)| n).product();
        let own = [(roles.out, dims.0), (roles.input, dims.1)];
        let axes: Vec<(Axis, usize)> =
            own.into_iter().filter_map(|(a, n)| a.map(|a| (a, n))).chain(roles.cells.iter().copied()).collect();
        let sizes: Vec<usize> = axes.iter().map(|(_, n)| *n).collect();
        match entries {
            KernelEntries::Table(table)
                if weights == 1 && roles.cells.is_empty() && table.iter().all(Option::is_some) =>
            {
                Join::Everywhere
            }
            KernelEntries::Table(table) if weights > 1 || table.iter().any(Option::is_none) => {
                let weight = self.graph.axis();
                let operand = if table.iter().enumerate().all(|(i, w)| *w == Some(i as u32)) {
                    slice(&mut self.graph, &sizes, &row_major(&sizes), 0, weights)
                } else {
                    let map = Function::Constant(table.clone().into());
                    let from = sizes.iter().map(|n| Size::fixed(*n)).collect();
                    self.graph.relation(Relation { from, to: Size::fixed(weights), map })
                };
                let names = axes.iter().map(|(a, _)| *a).chain([weight]);
                let operand = operand.rename(&operand.axes.iter().copied().zip(names).collect::<Vec<_>>());
                Join::Through { operand, weight: Some(weight) }
            }
            KernelEntries::Table(_) | KernelEntries::Sparse(_) => {
                let mut data = vec![0.0; weights * sizes.iter().product::<usize>()];
                for (w, p, i, j, x) in sparse(entries, dims, cells) {
                    data[((w * dims.0 + i) * dims.1 + j) * cells + p] = x;
                }
                let weight = (weights > 1).then(|| self.graph.axis());
                let shape: Vec<usize> = weight.map(|_| weights).into_iter().chain(sizes).collect();
                let operand = self.graph.constant(Constant { name: name.into(), dims: shape, data: data.into() });
                let names = weight.into_iter().chain(axes.iter().map(|(a, _)| *a));
                let operand = operand.rename(&operand.axes.iter().copied().zip(names).collect::<Vec<_>>());
                Join::Through { operand, weight }
            }
        }
    }
}

/// The nonzero entries `(weight, cell, out, input, value)`.
fn sparse(entries: &KernelEntries, dims: (usize, usize), cells: usize) -> Vec<(usize, usize, usize, usize, f64)> {
    match entries {
        KernelEntries::Table(table) => {
            let entry = |(at, w): (usize, &Option<u32>)| {
                let (pair, p) = (at / cells, at % cells);
                w.map(|w| (w as usize, p, pair / dims.1, pair % dims.1, 1.0))
            };
            table.iter().enumerate().filter_map(entry).collect()
        }
        KernelEntries::Sparse(list) => {
            list.iter().map(|(w, p, i, j, x)| (*w as usize, *p as usize, *i as usize, *j as usize, *x)).collect()
        }
    }
}

/// The strides of a row-major array.
pub(super) fn row_major(sizes: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; sizes.len()];
    for k in (1..sizes.len()).rev() {
        strides[k - 1] = strides[k] * sizes[k];
    }
    strides
}
