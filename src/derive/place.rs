//! The places that signals live on, as named axes, and the tables that join them.
//!
//! In: the domains of a program. Out: the axes of each base (one name an axis, the same in every value of the model),
//! and the relations between bases: sender and receiver of an edge, sample of a point.
//! Regular domains have a leading axis `batch`; sets, graphs and points are disjoint unions whose table `index` says the sample.

use std::collections::BTreeMap;

use crate::base::arena::Id;
use crate::base::diagnostic::Diagnostic;
use crate::base::size::Size;
use crate::domain::{Batching, Domain};
use crate::sema::hir::{Base, DomainDecl, Model, Origin, Program};
use crate::tensor::graph::{Axis, Function, Graph, Input, InputKind, Paired, PairedWay, Relation, Val};
use crate::tensor::op::Func;

/// The input with the cell shifts of the edges of a periodic domain, after the domain's name and a dot.
pub const SHIFTS: &str = "shifts";
/// The input with the cells of its samples.
pub const CELL: &str = "cell";

/// Expected numbers of samples, for the cost model only.
const BATCH_HINT: usize = 16;

/// The axes of a base with their sizes, in the order of memory.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub axes: Vec<Axis>,
    pub sizes: Vec<Size>,
}

/// A table that a domain brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    Senders,
    Receivers,
    /// The sample of a point.
    Index,
}

/// What a domain that repeats in space brings besides its tables.
#[derive(Clone, Debug)]
pub struct Lattice {
    /// For each edge `s`, whole numbers: the sender meant is its image at `r_sender + s · cell`. `[edge, row]`
    pub shifts: Val,
    /// The vectors by which space repeats, one a row. `[sample, row, component]`
    pub cell: Val,
    pub component: Axis,
}

/// The pairs of a domain: its edges up to reversal.
#[derive(Clone, Debug)]
pub struct Pairs {
    pub pair: Axis,
    /// The pair of each edge. `[edge, pair]`
    pub of_edge: Val,
    /// The first edge of each pair. `[pair, edge]`
    pub edge: Val,
}

/// The places of one model.
#[derive(Debug)]
pub struct Places<'a> {
    program: &'a Program,
    pub batching: Batching,
    known: BTreeMap<Base, Place>,
    tables: BTreeMap<(Id<DomainDecl>, Table), Val>,
    lattices: BTreeMap<Id<DomainDecl>, Lattice>,
    pairs: BTreeMap<Id<DomainDecl>, Pairs>,
    sample: Place,
}

impl<'a> Places<'a> {
    /// The places of `model`; fails when its domains are batched in different ways.
    pub fn new(program: &'a Program, model: &Model, graph: &mut Graph) -> Result<Places<'a>, Diagnostic> {
        let batching = batching(program, model)?;
        let (name, hint) = match batching {
            Batching::Leading => ("batch", BATCH_HINT),
            Batching::Union => ("samples", BATCH_HINT),
        };
        // the user may have taken the name
        let name = graph.sizes.free(name);
        let size = Size::var(graph.sizes.intern(&name, hint));
        let sample = Place { axes: vec![graph.axis()], sizes: vec![size] };
        let (known, tables, lattices, pairs) = Default::default();
        Ok(Places { program, batching, known, tables, lattices, pairs, sample })
    }

    /// The domain of a declaration.
    pub fn domain(&self, id: Id<DomainDecl>) -> &'a dyn Domain {
        self.program.domains[id].domain.as_ref()
    }

    /// The axes of a base.
    pub fn of(&mut self, graph: &mut Graph, base: Base) -> Place {
        if let Some(place) = self.known.get(&base) {
            return place.clone();
        }
        let sizes = match base {
            Base::Constant => vec![],
            Base::Sample => return self.sample.clone(),
            Base::Points(id) => self.domain(id).axes(),
            Base::Edges(id) => vec![self.domain(id).edges().expect("sema lets edges be of domains that have them")],
        };
        let mut place = match (base, self.batching) {
            (Base::Points(_) | Base::Edges(_), Batching::Leading) => self.sample.clone(),
            (Base::Constant | Base::Sample | Base::Points(_) | Base::Edges(_), _) => Place::default(),
        };
        place.axes.extend(sizes.iter().map(|_| graph.axis()));
        place.sizes.extend(sizes);
        self.known.insert(base, place.clone());
        place
    }

    /// The axes of the points of a domain without the batch.
    pub fn points(&mut self, graph: &mut Graph, id: Id<DomainDecl>) -> Place {
        let place = self.of(graph, Base::Points(id));
        let skip = match self.batching {
            Batching::Leading => 1,
            Batching::Union => 0,
        };
        Place { axes: place.axes[skip..].to_vec(), sizes: place.sizes[skip..].to_vec() }
    }

    /// The relation of a table under the axes of its bases: edges to points, or points to samples.
    pub fn table(&mut self, graph: &mut Graph, id: Id<DomainDecl>, table: Table) -> Val {
        let points = self.of(graph, Base::Points(id));
        let (from, to) = match table {
            Table::Senders | Table::Receivers => (self.of(graph, Base::Edges(id)), points),
            Table::Index => (points, self.sample.clone()),
        };
        if let Some(val) = self.tables.get(&(id, table)) {
            return val.clone();
        }
        let (range, dims) = (to.sizes[to.sizes.len() - 1], from.sizes.clone());
        let input = self.input(graph, id, table, &dims, range);
        let raw = graph.relation(Relation { from: dims, to: range, map: Function::Table(input) });
        let names = from.axes.iter().copied().chain([to.axes[to.axes.len() - 1]]);
        let val = raw.rename(&raw.axes.iter().copied().zip(names).collect::<Vec<_>>());
        self.tables.insert((id, table), val.clone());
        val
    }

    /// The argument that holds a table, declared where it is not.
    fn input(&self, graph: &mut Graph, id: Id<DomainDecl>, table: Table, dims: &[Size], range: Size) -> Id<Input> {
        let (word, sorted) = match table {
            Table::Senders => ("senders", false),
            Table::Receivers => ("receivers", true),
            Table::Index => ("index", true),
        };
        let name = format!("{}.{word}", self.program.domains[id].name);
        let known = graph.inputs.iter().find(|(_, input)| input.name == name).map(|(id, _)| id);
        let kind = InputKind::Table { range, sorted };
        known.unwrap_or_else(|| graph.inputs.push(Input { name, dims: dims.to_vec(), kind }))
    }

    /// The pairs of the points of a domain: a number that is the same on `(i, j)` and `(j, i)` is a function of these. None where space
    /// repeats, as only a call knows which image an edge leads to.
    pub fn pairs(&mut self, graph: &mut Graph, id: Id<DomainDecl>) -> Option<Pairs> {
        if self.domain(id).periodic() {
            return None;
        }
        if let Some(known) = self.pairs.get(&id) {
            return Some(known.clone());
        }
        let (edges, points) = (self.of(graph, Base::Edges(id)), self.of(graph, Base::Points(id)));
        let (edge, range) = (edges.sizes[0], points.sizes[0]);
        let ends = [Table::Senders, Table::Receivers].map(|end| self.input(graph, id, end, &edges.sizes, range));
        // most edges come in both directions
        let hint = graph.sizes.hint(edge).div_ceil(2);
        let size = Size::var(graph.sizes.counted(&format!("{}.pairs", self.program.domains[id].name), hint, edge));
        let pair = graph.axis();
        let mut relation = |way, (from, to): (Size, Size), names: [Axis; 2]| {
            let map = Function::Paired(Paired { ends, way });
            let raw = graph.relation(Relation { from: vec![from], to, map });
            raw.rename(&raw.axes.iter().copied().zip(names).collect::<Vec<_>>())
        };
        let of_edge = relation(PairedWay::Class, (edge, size), [edges.axes[0], pair]);
        let first = relation(PairedWay::First, (size, edge), [pair, edges.axes[0]]);
        let pairs = Pairs { pair, of_edge, edge: first };
        self.pairs.insert(id, pairs.clone());
        Some(pairs)
    }

    /// The lattice of a periodic domain: inputs `<domain>.shifts [edges, d]` and `<domain>.cell [samples, d, d]`.
    pub fn lattice(&mut self, graph: &mut Graph, id: Id<DomainDecl>) -> Lattice {
        if let Some(known) = self.lattices.get(&id) {
            return known.clone();
        }
        let decl = &self.program.domains[id];
        let dim = Size::fixed(decl.domain.ambient().expect("periodic points are points of a space"));
        let edges = self.of(graph, Base::Edges(id));
        let input =
            |word: &str, dims: Vec<Size>| Input { name: format!("{}.{word}", decl.name), dims, kind: InputKind::Real };
        let shifts = graph.input(input(SHIFTS, vec![edges.sizes[0], dim]));
        let cell = graph.input(input(CELL, vec![self.sample.sizes[0], dim, dim]));
        let (row, component) = (graph.axis(), graph.axis());
        let shifts = shifts.rename(&[(shifts.axes[0], edges.axes[0]), (shifts.axes[1], row)]);
        let names = [self.sample.axes[0], row, component];
        let cell = cell.rename(&cell.axes.iter().copied().zip(names).collect::<Vec<_>>());
        let lattice = Lattice { shifts, cell, component };
        self.lattices.insert(id, lattice.clone());
        lattice
    }

    /// The number of points of each sample: a number where it is known, else a tensor over samples (unions) or without axes.
    pub fn count(&mut self, graph: &mut Graph, id: Id<DomainDecl>, axes: usize) -> Val {
        match self.batching {
            Batching::Union => {
                let index = self.table(graph, id, Table::Index);
                graph.contract(&[&index], &self.sample.axes)
            }
            Batching::Leading => {
                let place = self.points(graph, id);
                let factors: Vec<Val> = place.sizes[..axes].iter().map(|n| number_of(graph, *n)).collect();
                match &factors[..] {
                    [only] => only.clone(),
                    _ => graph.contract(&factors.iter().collect::<Vec<_>>(), &[]),
                }
            }
        }
    }
}

/// A size as a number: a constant, or the trace of the identity.
fn number_of(graph: &mut Graph, size: Size) -> Val {
    match size.as_fixed() {
        Some(n) => graph.scalar(n as f64),
        None => {
            let one = graph.identity(size);
            graph.contract(&[&one], &[])
        }
    }
}

/// `1 / x`, 0 at 0.
pub fn reciprocal(graph: &mut Graph, x: &Val) -> Val {
    graph.map(Func::SafeRecip, &[x])
}

/// How the samples of a model share tensors: as its domains say. Pairs of points follow the domain that the points are of, where the model has signals on both.
pub(super) fn batching(program: &Program, model: &Model) -> Result<Batching, Diagnostic> {
    let types = model.args.iter().map(|a| &a.ty).chain(model.values.iter().map(|(_, v)| &v.ty));
    let mut domains: Vec<Id<DomainDecl>> = types
        .filter_map(|ty| match ty.base {
            Base::Points(id) | Base::Edges(id) => Some(id),
            Base::Constant | Base::Sample => None,
        })
        .collect();
    domains.sort();
    domains.dedup();
    let all = domains.clone();
    domains.retain(|id| match program.domains[*id].origin {
        Origin::Product(a, _) | Origin::Distinct(a) => !all.contains(&a),
        Origin::Declared | Origin::Coarsened { .. } => true,
    });
    let of = |id: Id<DomainDecl>| program.domains[id].domain.batching();
    let Some(&first) = domains.first() else { return Ok(Batching::Leading) };
    match domains.iter().find(|id| of(**id) != of(first)) {
        None => Ok(of(first)),
        Some(&other) => {
            let names = (&program.domains[first].name, &program.domains[other].name);
            Err(Diagnostic::error("E0900", "not derived yet: one model on domains that are batched in different ways")
                .at(program.domains[other].span, "batched another way")
                .why(format!(
                    "`{}` and `{}` differ: one has a leading batch axis, the other is a disjoint union",
                    names.0, names.1
                )))
        }
    }
}
