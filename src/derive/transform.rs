//! How an element of the symmetry group acts on the inputs and outputs of a model.
//!
//! In: a model, its arguments, a seed. Out: one sampled symmetry: points permuted (or cells moved), fibres turned by their representations,
//! tables relabelled. `equivariant f` means `f(move x) = move f(x)`, which [`residual`] measures.
//! - grids: the point group about the centre; on a torus also shifts by whole coarsest blocks. Beyond a zero or reflecting boundary there is
//!   nothing to shift in from: [`on_torus`] closes the boundary, so that shifts test what the layers do in the interior;
//! - sets, graphs, points: a permutation of the points of each sample; edges are sorted again by receiver;
//! - points of R^d: a rotation (and reflection) of positions and fibres, and a translation under E(d) and SE(d);
//! - where space repeats, also the rows of the cells as vectors, and points are moved to other cells with the shifts of their edges.

use std::collections::BTreeMap;

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::derive::derivation::batching_of;
use crate::derive::place::{CELL, SHIFTS};
use crate::derive::signal::{self, Kind};
use crate::domain::{Batching, Boundary, Domain};
use crate::math::Rng;
use crate::sema::hir::{Base, DomainDecl, Model, Origin, Program, Type};
use crate::symmetry::{Element, GroupRef};
use crate::tensor::eval::{Arguments, Array, eval};
use crate::tensor::graph::{Function, Graph, Outside};

/// A sampled symmetry of a model.
#[derive(Clone, Debug)]
pub struct Transform<'a> {
    program: &'a Program,
    model: &'a Model,
    batching: Batching,
    sizes: Vec<usize>,
    motions: BTreeMap<Id<DomainDecl>, Motion>,
    /// For each domain with edges: the old edge at each new position.
    edges: BTreeMap<Id<DomainDecl>, Vec<usize>>,
}

/// Which shifts of grids are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// Those that the declared boundary allows.
    AsDeclared,
    /// All, for a graph that [`on_torus`] made.
    Torus,
}

/// What a symmetry does to one declared domain.
#[derive(Clone, Debug)]
struct Motion {
    group: GroupRef,
    element: Element,
    points: PointMotion,
    translation: Vec<f64>,
    wrap: Option<Wrap>,
}

/// Points moved to their images in other cells, which changes no crystal: the shifts of their edges follow.
#[derive(Clone, Debug)]
struct Wrap {
    /// For each point how often it moves by each row of the cell.
    turns: Vec<Vec<f64>>,
    /// The vector by which it moves, before the rotation.
    offsets: Vec<Vec<f64>>,
    /// The ends of the edges.
    senders: Vec<usize>,
    receivers: Vec<usize>,
}

#[derive(Clone, Debug)]
enum PointMotion {
    /// Cells moved by an integer matrix about the centre, then shifted on the torus (in cells of the declared grid).
    Grid { matrix: Vec<Vec<i64>>, shift: Vec<i64>, wraps: bool },
    /// Point `k` goes to `to[k]`.
    Permutation(Vec<usize>),
}

impl<'a> Transform<'a> {
    /// A random symmetry for these arguments, exact on the domains as declared.
    pub fn sample(program: &'a Program, model: &'a Model, args: &Arguments, rng: &mut Rng) -> Transform<'a> {
        Transform::sample_at(program, model, args, Edge::AsDeclared, rng)
    }

    /// A random symmetry for these arguments, with the shifts that `edge` allows.
    pub fn sample_at(
        program: &'a Program,
        model: &'a Model,
        args: &Arguments,
        edge: Edge,
        rng: &mut Rng,
    ) -> Transform<'a> {
        let batching = batching_of(program, model);
        let mut transform = Transform {
            program,
            model,
            batching,
            sizes: args.sizes.clone(),
            motions: BTreeMap::new(),
            edges: BTreeMap::new(),
        };
        for (id, decl) in program.domains.iter() {
            if decl.origin == Origin::Declared && transform.is_used(id) {
                let motion = transform.motion(id, args, edge, rng);
                transform.motions.insert(id, motion);
            }
        }
        let declared: Vec<Id<DomainDecl>> = transform.motions.keys().copied().collect();
        for id in declared {
            if let Some(order) = transform.edge_order(id, args) {
                transform.edges.insert(id, order);
            }
        }
        transform
    }

    /// What it is, for the certificate.
    pub fn describe(&self) -> String {
        let one = |(id, motion): (&Id<DomainDecl>, &Motion)| {
            let name = &self.program.domains[*id].name;
            let points = match &motion.points {
                PointMotion::Grid { shift, .. } => {
                    format!("element {:?} of {}, shift {shift:?}", motion.element, motion.group.name())
                }
                PointMotion::Permutation(_) if motion.translation.is_empty() => "a permutation".into(),
                PointMotion::Permutation(_) => {
                    let cells = if motion.wrap.is_some() { ", points moved to other cells" } else { "" };
                    format!("a permutation and an element of {}{cells}", self.program.domains[*id].domain.symmetry())
                }
            };
            format!("{name}: {points}")
        };
        self.motions.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    /// The arguments moved.
    pub fn arguments(&self, args: &Arguments) -> Arguments {
        let mut moved = args.clone();
        for argument in &self.model.args {
            if let Some(x) = args.inputs.get(&argument.name) {
                moved.inputs.insert(argument.name.clone(), self.signal(&argument.ty, x));
            }
        }
        for (id, motion) in &self.motions {
            let name = &self.program.domains[*id].name;
            let (PointMotion::Permutation(to), Some(order)) = (&motion.points, self.edges.get(id)) else { continue };
            for word in ["senders", "receivers"] {
                let key = format!("{name}.{word}");
                if let Some(table) = args.inputs.get(&key) {
                    let data = order.iter().map(|e| to[table.data[*e] as usize] as f64).collect();
                    moved.inputs.insert(key, Array { dims: table.dims.clone(), data });
                }
            }
            if let Some(wrap) = &motion.wrap {
                self.lattice(name, motion, wrap, order, &mut moved);
            }
        }
        moved
    }

    /// The cells turned row by row, and the shifts of the edges between the images where the points are now.
    fn lattice(&self, name: &str, motion: &Motion, wrap: &Wrap, order: &[usize], moved: &mut Arguments) {
        let turn = motion.group.action(&motion.element);
        if let Some(cell) = moved.inputs.get_mut(&format!("{name}.{CELL}")) {
            cell.data = cell.data.chunks_exact(turn.rows()).flat_map(|row| turn.apply(row)).collect();
        }
        if let Some(shifts) = moved.inputs.get_mut(&format!("{name}.{SHIFTS}")) {
            let old = shifts.data.clone();
            for (new, e) in shifts.data.chunks_exact_mut(turn.rows()).zip(order) {
                let (to, from) = (&wrap.turns[wrap.receivers[*e]], &wrap.turns[wrap.senders[*e]]);
                let old = &old[e * turn.rows()..];
                new.iter_mut().enumerate().for_each(|(a, s)| *s = old[a] + to[a] - from[a]);
            }
        }
    }

    /// The result called `name`, moved.
    pub fn output(&self, name: &str, y: &Array) -> Array {
        match self.model.results.iter().find(|(n, _)| n == name) {
            Some((_, id)) => self.signal(&self.model.values[*id].ty, y),
            None => y.clone(),
        }
    }

    fn is_used(&self, id: Id<DomainDecl>) -> bool {
        let types = self.model.args.iter().map(|a| &a.ty).chain(self.model.values.iter().map(|(_, v)| &v.ty));
        types.into_iter().any(|ty| match ty.base {
            Base::Points(d) | Base::Edges(d) => self.root(d) == id,
            Base::Constant | Base::Sample => false,
        })
    }

    /// The declared domain that a domain was made from.
    fn root(&self, id: Id<DomainDecl>) -> Id<DomainDecl> {
        match self.program.domains[id].origin {
            Origin::Declared => id,
            Origin::Coarsened { of, .. } => self.root(of),
            Origin::Product(a, _) | Origin::Distinct(a) => self.root(a),
        }
    }

    fn domain(&self, id: Id<DomainDecl>) -> &'a dyn Domain {
        self.program.domains[id].domain.as_ref()
    }

    fn size(&self, size: Size) -> usize {
        size.eval(|v| self.sizes[v.0 as usize])
    }

    fn motion(&self, id: Id<DomainDecl>, args: &Arguments, edge: Edge, rng: &mut Rng) -> Motion {
        let domain = self.domain(id);
        let group = domain.stabiliser();
        let element = group.sample(rng);
        let sizes: Vec<usize> = domain.axes().iter().map(|n| self.size(*n)).collect();
        let points = match domain.boundary() {
            Some(boundary) => {
                let wraps = boundary == Boundary::Torus || edge == Edge::Torus;
                let block = self.coarsest(id);
                let shift = sizes
                    .iter()
                    .map(|n| if wraps { (block * rng.below((n / block).max(1))) as i64 } else { 0 })
                    .collect();
                PointMotion::Grid { matrix: integer_matrix(&group, &element), shift, wraps }
            }
            None => PointMotion::Permutation(self.permutation(id, sizes[0], args, rng)),
        };
        let symmetry = domain.symmetry();
        let moves = symmetry.starts_with("E(") || symmetry.starts_with("SE(");
        let translation =
            domain.ambient().map_or(vec![], |d| (0..d).map(|_| if moves { rng.normal() } else { 0.0 }).collect());
        let wrap = if domain.periodic() { self.wrap(id, args, sizes[0], rng) } else { None };
        Motion { group, element, points, translation, wrap }
    }

    /// Random moves of the points to neighbouring cells, where the arguments have cells.
    fn wrap(&self, id: Id<DomainDecl>, args: &Arguments, points: usize, rng: &mut Rng) -> Option<Wrap> {
        let input = |word: &str| args.inputs.get(&format!("{}.{word}", self.program.domains[id].name));
        let whole = |array: &Array| array.data.iter().map(|x| *x as usize).collect::<Vec<_>>();
        let (cell, index) = (input(CELL)?, whole(input("index")?));
        let dim = *cell.dims.last()?;
        let turns: Vec<Vec<f64>> = (0..points).map(|_| (0..dim).map(|_| rng.below(3) as f64 - 1.0).collect()).collect();
        let offset = |k: usize| {
            let rows = cell.data[index[k] * dim * dim..].chunks_exact(dim);
            let mut sum = vec![0.0; dim];
            for (row, times) in rows.zip(&turns[k]) {
                sum.iter_mut().zip(row).for_each(|(s, x)| *s += times * x);
            }
            sum
        };
        let offsets = (0..points).map(offset).collect();
        Some(Wrap { turns, offsets, senders: whole(input("senders")?), receivers: whole(input("receivers")?) })
    }

    /// How many cells of a declared grid make one of the coarsest made from it.
    fn coarsest(&self, id: Id<DomainDecl>) -> usize {
        let factor = |mut at: Id<DomainDecl>| {
            let mut product = 1;
            while let Origin::Coarsened { of, factor } = self.program.domains[at].origin {
                product *= factor;
                at = of;
            }
            if at == id { product } else { 1 }
        };
        self.program.domains.ids().map(factor).max().unwrap_or(1)
    }

    /// A permutation that keeps every point in its sample.
    fn permutation(&self, id: Id<DomainDecl>, points: usize, args: &Arguments, rng: &mut Rng) -> Vec<usize> {
        let index = args.inputs.get(&format!("{}.index", self.program.domains[id].name));
        let sample = |k: usize| index.map_or(0, |table| table.data[k] as usize);
        let mut to: Vec<usize> = (0..points).collect();
        for k in (1..points).rev() {
            let candidates: Vec<usize> = (0..=k).filter(|j| sample(*j) == sample(k)).collect();
            let j = candidates[rng.below(candidates.len())];
            to.swap(j, k);
        }
        to
    }

    /// The edges in their new order: by new receiver, then as before.
    fn edge_order(&self, id: Id<DomainDecl>, args: &Arguments) -> Option<Vec<usize>> {
        let receivers = args.inputs.get(&format!("{}.receivers", self.program.domains[id].name))?;
        let PointMotion::Permutation(to) = &self.motions[&id].points else { return None };
        let mut order: Vec<usize> = (0..receivers.data.len()).collect();
        order.sort_by_key(|e| to[receivers.data[*e] as usize]);
        Some(order)
    }

    /// A signal moved: places first, then fibres.
    fn signal(&self, ty: &Type, x: &Array) -> Array {
        let index = signal::is_index(ty).is_some() && x.data.len() == self.places(ty.base).iter().product::<usize>();
        let fibre = if index { 1 } else { x.dims.last().copied().unwrap_or(1) };
        let sources = self.sources(ty.base);
        let mut data = Vec::with_capacity(x.data.len());
        for source in &sources {
            data.extend_from_slice(&x.data[source * fibre..(source + 1) * fibre]);
        }
        let mut moved = Array { dims: x.dims.clone(), data };
        if !index {
            self.turn(ty, &sources, &mut moved);
        }
        moved
    }

    /// The sizes of the axes of a base.
    fn places(&self, base: Base) -> Vec<usize> {
        let own: Vec<usize> = match base {
            Base::Constant => return vec![],
            Base::Sample => vec![],
            Base::Points(id) => self.domain(id).axes().iter().map(|n| self.size(*n)).collect(),
            Base::Edges(id) => self.domain(id).edges().iter().map(|n| self.size(*n)).collect(),
        };
        let leading = match (base, self.batching) {
            (Base::Points(_) | Base::Edges(_), Batching::Union) => None,
            (Base::Constant | Base::Sample | Base::Points(_) | Base::Edges(_), _) => self.sample_count(),
        };
        leading.into_iter().chain(own).collect()
    }

    /// The number of samples: the size that derivation adds after the user's.
    fn sample_count(&self) -> Option<usize> {
        self.sizes.get(self.program.sizes.len()).copied()
    }

    /// For each new position (row-major over the axes of the base) the old one.
    fn sources(&self, base: Base) -> Vec<usize> {
        let dims = self.places(base);
        let total: usize = dims.iter().product();
        match base {
            Base::Constant | Base::Sample => (0..total).collect(),
            Base::Edges(id) => self.edges.get(&id).cloned().unwrap_or_else(|| (0..total).collect()),
            Base::Points(id) => {
                let axes = self.domain(id).axes().len();
                let (outer, inner) = dims.split_at(dims.len() - axes);
                let count: usize = inner.iter().product();
                let mut from = vec![0; count];
                for (old, index) in indices(inner).into_iter().enumerate() {
                    from[flat(&self.image(id, &index, inner), inner)] = old;
                }
                (0..outer.iter().product::<usize>()).flat_map(|b| from.iter().map(move |k| b * count + k)).collect()
            }
        }
    }

    /// Where a point goes.
    fn image(&self, id: Id<DomainDecl>, index: &[usize], sizes: &[usize]) -> Vec<usize> {
        match self.program.domains[id].origin {
            Origin::Declared | Origin::Coarsened { .. } => self.image_of_point(id, index, sizes),
            Origin::Product(a, b) => {
                let axes = self.domain(a).axes().len();
                let ends = [(a, &index[..axes], &sizes[..axes]), (b, &index[axes..], &sizes[axes..])];
                ends.iter().flat_map(|(d, index, sizes)| self.image(*d, index, sizes)).collect()
            }
            Origin::Distinct(of) => {
                let n = sizes[0];
                let end = |k: usize| self.image(of, &[k], &[n])[0];
                let (first, second) = (end(index[0]), end((index[0] + 1 + index[1]) % n));
                vec![first, (second + n - first - 1) % n]
            }
        }
    }

    fn image_of_point(&self, id: Id<DomainDecl>, index: &[usize], sizes: &[usize]) -> Vec<usize> {
        let root = self.root(id);
        match &self.motions[&root].points {
            PointMotion::Permutation(to) => index.iter().map(|k| to[*k]).collect(),
            PointMotion::Grid { matrix, shift, wraps } => {
                // twice the position relative to the centre is a whole number
                let centred: Vec<i64> = index.iter().zip(sizes).map(|(i, n)| 2 * *i as i64 - (*n as i64 - 1)).collect();
                let turned = matrix.iter().map(|row| row.iter().zip(&centred).map(|(a, x)| a * x).sum::<i64>());
                let fine: Vec<usize> = self.domain(root).axes().iter().map(|n| self.size(*n)).collect();
                let cell = |(k, x): (usize, i64)| {
                    let n = sizes[k] as i64;
                    let moved = (x + n - 1) / 2 + shift[k] * n / fine[k].max(1) as i64;
                    (if *wraps { moved.rem_euclid(n) } else { moved }) as usize
                };
                turned.enumerate().map(cell).collect()
            }
        }
    }

    /// The vector by which a point moves to another cell; an edge follows its receiver.
    fn cell_offset<'w>(&self, base: Base, wrap: &'w Wrap, source: usize) -> &'w [f64] {
        match base {
            Base::Edges(_) => &wrap.offsets[wrap.receivers[source]],
            Base::Constant | Base::Sample | Base::Points(_) => &wrap.offsets[source],
        }
    }

    /// Turns the fibres of a signal whose last axis holds them; row `k` came from place `sources[k]`.
    fn turn(&self, ty: &Type, sources: &[usize], x: &mut Array) {
        let motion = match ty.base {
            Base::Points(id) | Base::Edges(id) => self.motions.get(&self.root(id)),
            Base::Constant | Base::Sample => None,
        };
        let dim = motion.map_or(0, |m| m.translation.len());
        let total = x.dims.last().copied().unwrap_or(1);
        let mut offset = 0;
        for (kind, copies) in signal::blocks(&ty.fibre, dim) {
            let width = kind.dim();
            let turn = match (&kind, motion) {
                (Kind::Scalar, _) | (Kind::Position(_), None) => None,
                (Kind::Position(_), Some(m)) => Some((m.group.action(&m.element), m.translation.clone())),
                (Kind::Rep(rep), _) => self.acting(rep.group()).map(|m| (rep.rho(&m.element), vec![0.0; width])),
            };
            let wrap = motion.and_then(|m| m.wrap.as_ref()).filter(|_| matches!(kind, Kind::Position(_)));
            if let Some((matrix, translation)) = turn {
                for (row, source) in x.data.chunks_exact_mut(total).zip(sources) {
                    for copy in row[offset..offset + copies * width].chunks_exact_mut(width) {
                        if let Some(wrap) = wrap {
                            let by = self.cell_offset(ty.base, wrap, *source);
                            copy.iter_mut().zip(by).for_each(|(c, v)| *c += v);
                        }
                        let new = matrix.apply(copy);
                        copy.iter_mut().zip(new).zip(&translation).for_each(|((c, v), t)| *c = v + t);
                    }
                }
            }
            offset += copies * width;
        }
    }

    /// The motion whose group a representation is of.
    fn acting(&self, group: &GroupRef) -> Option<&Motion> {
        self.motions.values().find(|m| m.group.same_as(group.as_ref()))
    }
}

/// The same program on grids without a boundary: reads beyond the edge come in from the other side. Nothing where no read leaves a grid.
pub fn on_torus(graph: &Graph) -> Option<Graph> {
    let mut closed = graph.clone();
    let mut changed = false;
    for id in graph.relations.ids() {
        if let Function::Affine { outside: outside @ (Outside::Zero | Outside::Reflect), .. } =
            &mut closed.relations[id].map
        {
            *outside = Outside::Wrap;
            changed = true;
        }
    }
    changed.then_some(closed)
}

/// `max |f(move x) - move f(x)| / max |f(x)|` over all outputs.
pub fn residual(graph: &Graph, transform: &Transform, args: &Arguments) -> Result<f64, String> {
    let (y, moved) = (eval(graph, args)?, eval(graph, &transform.arguments(args))?);
    let mut worst = 0.0f64;
    for (name, y) in &y {
        let expected = transform.output(name, y);
        let top = y.data.iter().fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
        let error = expected.data.iter().zip(&moved[name].data).map(|(a, b)| (a - b).abs()).fold(0.0, nan_or_max);
        worst = nan_or_max(worst, error / top);
    }
    Ok(worst)
}

/// `max`, except that an error which is not a number stays one.
fn nan_or_max(x: f64, y: f64) -> f64 {
    if x.is_nan() || y.is_nan() { f64::NAN } else { x.max(y) }
}

fn integer_matrix(group: &GroupRef, element: &Element) -> Vec<Vec<i64>> {
    let m = group.action(element);
    (0..m.rows()).map(|i| m.row(i).iter().map(|x| x.round() as i64).collect()).collect()
}

fn indices(dims: &[usize]) -> Vec<Vec<usize>> {
    dims.iter().fold(vec![vec![]], |all, n| {
        all.iter().flat_map(|head| (0..*n).map(move |k| [&head[..], &[k]].concat())).collect()
    })
}

fn flat(index: &[usize], dims: &[usize]) -> usize {
    index.iter().zip(dims).fold(0, |at, (k, n)| at * n + k)
}
