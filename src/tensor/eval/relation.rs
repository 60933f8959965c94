//! Relations written out as functions, and where nothing can be written out, as 0/1 tensors.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::base::size::Size;
use crate::tensor::eval::{Arguments, Array, Odometer};
use crate::tensor::graph::{Affine, Function, Graph, Outside, Paired, PairedWay, Relation};

/// A partial function over indices below `from`, row-major, with values below `to`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tabulated {
    pub from: Vec<usize>,
    pub to: usize,
    pub map: Vec<Option<usize>>,
}

impl Tabulated {
    /// `r[from..., to] = (to = f(from...))`
    pub fn indicator(&self) -> Array {
        let dims = self.from.iter().copied().chain([self.to]).collect();
        let mut res = Array::zeros(dims);
        for (k, to) in self.map.iter().enumerate() {
            if let Some(to) = to {
                res.data[k * self.to + to] = 1.0;
            }
        }
        res
    }
}

/// The relation for given run-time sizes and tables.
pub(super) fn tabulate(graph: &Graph, relation: &Relation, args: &Arguments) -> Result<Tabulated, String> {
    let from: Vec<usize> = relation.from.iter().map(|s| args.size(*s)).collect();
    let to = args.size(relation.to);
    let count: usize = from.iter().product();
    let map: Vec<Option<usize>> = match &relation.map {
        Function::Table(id) => {
            let input = &graph.inputs[*id];
            let table = super::input(input, args)?;
            if table.dims != from {
                return Err(format!("the table `{}` has shape {:?}, its relation {from:?}", input.name, table.dims));
            }
            table.data.iter().map(|x| Some(*x as usize)).collect()
        }
        Function::Paired(paired) => {
            let (classes, first) = pairs(graph, paired, args)?;
            let table = match paired.way {
                PairedWay::Class => classes,
                PairedWay::First => first,
            };
            table.into_iter().map(Some).collect()
        }
        Function::Constant(table) => table.iter().map(|x| x.map(|k| k as usize)).collect(),
        Function::Affine { scale, offset, divisor, outside } => {
            let offset = offset_value(offset, |s| args.size(s));
            let value = |ix: Vec<usize>| {
                let sum: i64 = scale.iter().zip(&ix).map(|(s, i)| s * *i as i64).sum();
                inside((sum + offset).div_euclid(*divisor), to, *outside)
            };
            Odometer::new(&from).map(value).collect::<Result<_, _>>()?
        }
    };
    if map.len() != count {
        return Err(format!("a relation from {from:?} has {} entries", map.len()));
    }
    match map.iter().flatten().find(|k| **k >= to) {
        Some(k) => Err(format!("a relation has the value {k}, which is not below {to}")),
        None => Ok(Tabulated { from, to, map }),
    }
}

/// The arguments with the sizes that tables tell, after those that are given. Errors: a table that is not there.
pub fn counted<'a>(graph: &Graph, args: &'a Arguments) -> Result<Cow<'a, Arguments>, String> {
    let mut all = Cow::Borrowed(args);
    for (var, most) in graph.sizes.iter_counted() {
        let of = |r: &Relation| match r.map {
            Function::Paired(paired) if r.to == Size::var(var) => Some(paired),
            Function::Paired(_) | Function::Table(_) | Function::Constant(_) | Function::Affine { .. } => None,
        };
        let size = match graph.relations.iter().find_map(|(_, r)| of(r)) {
            Some(paired) => pairs(graph, &paired, args)?.1.len(),
            None => args.size(most),
        };
        all.to_mut().sizes.truncate(var.0 as usize);
        all.to_mut().sizes.push(size);
    }
    Ok(all)
}

/// The class of each place of two tables, and the first place of each class.
fn pairs(graph: &Graph, paired: &Paired, args: &Arguments) -> Result<(Vec<usize>, Vec<usize>), String> {
    let [a, b] = paired.ends.map(|end| super::input(&graph.inputs[end], args));
    let (a, b) = (a?.data, b?.data);
    let mut known: BTreeMap<[usize; 2], usize> = BTreeMap::new();
    let (mut classes, mut first) = (vec![], vec![]);
    for (e, ends) in a.iter().zip(&b).enumerate() {
        let mut ends = [*ends.0 as usize, *ends.1 as usize];
        ends.sort_unstable();
        let class = *known.entry(ends).or_insert(first.len());
        classes.push(class);
        first.extend((class == first.len()).then_some(e));
    }
    Ok((classes, first))
}

/// The offset of an affine relation for given run-time sizes.
fn offset_value(offset: &Affine, size: impl Fn(Size) -> usize) -> i64 {
    offset.constant + offset.size.map_or(0, |s| size(s) as i64)
}

/// `k` if it is below `n`, else what [`Outside`] says.
fn inside(k: i64, n: usize, outside: Outside) -> Result<Option<usize>, String> {
    let size = n as i64;
    if (0..size).contains(&k) {
        return Ok(Some(k as usize));
    }
    match outside {
        Outside::Zero => Ok(None),
        Outside::Never => Err(format!("an affine relation has the value {k}, which is not below {n}")),
        Outside::Wrap if n == 0 => Ok(None),
        Outside::Wrap => Ok(Some(k.rem_euclid(size) as usize)),
        Outside::Reflect if n <= 1 => Ok((n == 1).then_some(0)),
        Outside::Reflect => {
            let k = k.rem_euclid(2 * (size - 1));
            Ok(Some(if k < size { k } else { 2 * (size - 1) - k } as usize))
        }
    }
}
