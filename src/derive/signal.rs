//! Signals as tensors.
//!
//! In: a fibre from the checked program. Out: one tensor a part (a block, or a summand of a block), with the axes of the place it lives on, a *copy* axis and,
//! where a copy has more than one component, a *component* axis. A tensor may lack any of these axes along which it is constant,
//! except the copy axis of more than one copy.
//!
//! At the interface a signal is one tensor `[place..., fibre]`, row-major: the blocks in order, `[copy, component]` within a block.
//! One block of class indices is an integer tensor `[place...]`, read as a relation (a one-hot vector is the function to its index).
//! Knows nothing of how layers are derived.

use std::fmt;
use std::sync::Arc;

use crate::base::size::Size;
use crate::sema::hir::{Base, BlockKind, Fibre, Type};
use crate::symmetry::Rep;
use crate::tensor::graph::{Affine, Axis, Function, Graph, Outside, Relation, Val};

/// How one copy of a block transforms.
#[derive(Clone, Debug)]
pub enum Kind {
    /// One component that nothing moves: scalars, classes, `0e`.
    Scalar,
    /// A nontrivial representation.
    Rep(Arc<Rep>),
    /// A point of R^d.
    Position(usize),
}

impl Kind {
    /// The number of components of a copy.
    pub fn dim(&self) -> usize {
        match self {
            Kind::Scalar => 1,
            Kind::Rep(rep) => rep.dim(),
            Kind::Position(dim) => *dim,
        }
    }

    /// The word for it in the names of weights: `0e` for scalars, else the name of the representation, a vector by its irrep.
    pub fn tag(&self) -> String {
        match self {
            Kind::Scalar => "0e".into(),
            Kind::Rep(rep) => match rep.group().vector_irrep() {
                Some(irrep) if rep.name() == "vector" => irrep.to_string(),
                _ => rep.name().replace(' ', "_"),
            },
            Kind::Position(_) => "position".into(),
        }
    }

    /// Whether two blocks of these kinds are copies of one representation.
    pub fn same(&self, other: &Kind) -> bool {
        match (self, other) {
            (Kind::Rep(a), Kind::Rep(b)) => self.tag() == other.tag() && a.dim() == b.dim(),
            (Kind::Scalar, Kind::Scalar) => true,
            (Kind::Position(a), Kind::Position(b)) => a == b,
            (Kind::Scalar | Kind::Rep(_) | Kind::Position(_), _) => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Scalar => f.write_str("scalar"),
            Kind::Rep(rep) => f.write_str(&rep.name()),
            Kind::Position(_) => f.write_str("position"),
        }
    }
}

/// The kinds and numbers of copies of the blocks of a fibre, as the user wrote them. `point_dim` is the dimension of the space that positions live in.
pub fn blocks(fibre: &Fibre, point_dim: usize) -> Vec<(Kind, usize)> {
    let block = |b: &crate::sema::hir::Block| match &b.kind {
        BlockKind::Class(k) => (Kind::Scalar, b.count * k),
        BlockKind::Position => (Kind::Position(point_dim), b.count),
        BlockKind::Rep(rep) if rep.dim() == 1 && rep.is_trivial() => (Kind::Scalar, b.count),
        BlockKind::Rep(rep) => (Kind::Rep(rep.clone()), b.count),
    };
    fibre.blocks.iter().map(block).collect()
}

/// One part of a fibre: all copies of one summand of a block. `c irreps(0..2)` is one block of three parts.
#[derive(Clone, Debug)]
pub struct Shape {
    pub kind: Kind,
    pub copies: usize,
    /// The block that it is a part of.
    pub block: usize,
    /// Component `k` of copy `c` lies at `offset + c · stride + k` of the fibre.
    pub offset: usize,
    pub stride: usize,
}

/// The parts of a fibre. Sums of nontrivial representations are taken apart; each summand has as many copies as the block.
pub fn shapes(fibre: &Fibre, point_dim: usize) -> Vec<Shape> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (block, (kind, copies)) in blocks(fibre, point_dim).into_iter().enumerate() {
        let stride = kind.dim();
        for (summand, within) in summands(&kind) {
            parts.push(Shape { kind: summand, copies, block, offset: start + within, stride });
        }
        start += copies * stride;
    }
    parts
}

/// The summands of one copy with their first components.
fn summands(kind: &Kind) -> Vec<(Kind, usize)> {
    let Kind::Rep(rep) = kind else { return vec![(kind.clone(), 0)] };
    let all = rep.blocks();
    let whole = rep.is_trivial() || (all.len() == 1 && all[0].multiplicity == 1);
    if whole {
        return vec![(kind.clone(), 0)];
    }
    let mut parts = Vec::new();
    for summand in all {
        let dim = summand.rep.dim();
        let kind = if dim == 1 && summand.rep.is_trivial() { Kind::Scalar } else { Kind::Rep(Arc::new(summand.rep)) };
        parts.extend((0..summand.multiplicity).map(|k| (kind.clone(), summand.offset + k * dim)));
    }
    parts
}

/// The number of components of a fibre.
pub fn fibre_dim(shapes: &[Shape]) -> usize {
    shapes.iter().map(|s| s.kind.dim() * s.copies).sum()
}

/// One part of a signal.
#[derive(Clone, Debug)]
pub struct Part {
    pub kind: Kind,
    pub copies: usize,
    /// The block of the fibre that it is a part of.
    pub block: usize,
    pub val: Val,
    pub copy: Axis,
    /// Absent where a copy has one component.
    pub component: Option<Axis>,
}

impl Part {
    /// Another tensor of the same axes in place of this one.
    pub fn with(&self, val: Val) -> Part {
        Part { val, ..self.clone() }
    }

    /// The same part under the copy and component axes of `other`.
    pub fn named_as(&self, other: &Part) -> Part {
        let mut names = vec![(self.copy, other.copy)];
        if let (Some(mine), Some(theirs)) = (self.component, other.component) {
            names.push((mine, theirs));
        }
        Part { val: self.val.rename(&names), copy: other.copy, component: other.component, ..self.clone() }
    }
}

/// A value of a model.
#[derive(Clone, Debug)]
pub struct Signal {
    pub base: Base,
    pub parts: Vec<Part>,
}

impl Signal {
    /// The number of copies of all parts.
    pub fn copies(&self) -> usize {
        self.parts.iter().map(|p| p.copies).sum()
    }

    /// For each block the number of its copies.
    pub fn block_copies(&self) -> Vec<usize> {
        let mut counts = Vec::new();
        for p in &self.parts {
            if p.block == counts.len() {
                counts.push(p.copies);
            }
        }
        counts
    }

    /// Whether every block is scalar.
    pub fn is_scalar(&self) -> bool {
        self.parts.iter().all(|p| matches!(p.kind, Kind::Scalar))
    }

    /// The same parts with another tensor each.
    pub fn map(&self, mut f: impl FnMut(&Part) -> Val) -> Signal {
        Signal { base: self.base, parts: self.parts.iter().map(|p| p.with(f(p))).collect() }
    }
}

/// The relation `to = Σ scale·from + offset`, which never leaves `0..to`.
pub fn slice(graph: &mut Graph, from: &[usize], scale: &[usize], offset: usize, to: usize) -> Val {
    let relation = Relation {
        from: from.iter().map(|n| Size::fixed(*n)).collect(),
        to: Size::fixed(to),
        map: Function::Affine {
            scale: scale.iter().map(|s| *s as i64).collect(),
            offset: Affine { constant: offset as i64, size: None },
            divisor: 1,
            outside: Outside::Never,
        },
    };
    graph.relation(relation)
}

/// The parts of a tensor whose axis `fibre` holds the blocks in order.
pub fn split(graph: &mut Graph, whole: &Val, fibre: Axis, shapes: &[Shape]) -> Vec<Part> {
    let total = fibre_dim(shapes);
    let rest: Vec<Axis> = whole.axes.iter().copied().filter(|a| *a != fibre).collect();
    let mut parts = Vec::new();
    for shape in shapes {
        let (copy, component) = (graph.axis(), (shape.kind.dim() > 1).then(|| graph.axis()));
        let val = if component.is_none() && shapes.len() == 1 {
            whole.rename(&[(fibre, copy)])
        } else {
            let relation = place_of(graph, shape, total, (copy, component), fibre);
            let out: Vec<Axis> = rest.iter().copied().chain([copy]).chain(component).collect();
            graph.contract(&[whole, &relation], &out)
        };
        parts.push(Part { kind: shape.kind.clone(), copies: shape.copies, block: shape.block, val, copy, component });
    }
    parts
}

/// The tensor with one axis `fibre` that holds the parts where `shapes` says; every part must have all of `rest`.
pub fn join(graph: &mut Graph, parts: &[Part], shapes: &[Shape], rest: &[Axis], fibre: Axis) -> Val {
    if let [only] = parts
        && only.component.is_none()
    {
        return only.val.rename(&[(only.copy, fibre)]);
    }
    let total = fibre_dim(shapes);
    let out: Vec<Axis> = rest.iter().copied().chain([fibre]).collect();
    let mut placed = Vec::new();
    for (p, shape) in parts.iter().zip(shapes) {
        let relation = place_of(graph, shape, total, (p.copy, p.component), fibre);
        placed.push(graph.contract(&[&p.val, &relation], &out));
    }
    match &placed[..] {
        [only] => only.clone(),
        _ => graph.sum(&placed.iter().collect::<Vec<_>>()),
    }
}

/// Where `[copy, component]` of a part lies in the fibre, as a relation under these axis names.
fn place_of(graph: &mut Graph, shape: &Shape, total: usize, own: (Axis, Option<Axis>), fibre: Axis) -> Val {
    let val = match own.1 {
        None => slice(graph, &[shape.copies], &[shape.stride], shape.offset, total),
        Some(_) => slice(graph, &[shape.copies, shape.kind.dim()], &[shape.stride, 1], shape.offset, total),
    };
    let names = [own.0].into_iter().chain(own.1).chain([fibre]);
    let names: Vec<(Axis, Axis)> = val.axes.iter().copied().zip(names).collect();
    val.rename(&names)
}

/// Whether a type is one block of class indices.
pub fn is_index(ty: &Type) -> Option<usize> {
    match &ty.fibre.blocks[..] {
        [only] => match only.kind {
            BlockKind::Class(k) if only.count == 1 => Some(k),
            BlockKind::Class(_) | BlockKind::Rep(_) | BlockKind::Position => None,
        },
        _ => None,
    }
}
