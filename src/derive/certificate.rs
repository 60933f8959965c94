//! The certificate of a derived layer: equivariant, not zero, and with as many weights as there are maps.
//!
//! In: a checked program. Out: for each linear of each model, derived anew with one copy a kind on a small instance: the residual under
//! random group elements (shifts of grids with a boundary are tested on the torus, which is what the layer does in the interior), the size of its values, and dim Hom, the number of weights and the rank of the map from weights to dense kernels,
//! which must be equal. Rank is measured on random inputs, with more values than weights: those for each weight alone are the rows of a matrix.

use crate::base::arena::Arena;
use crate::base::diagnostic::Diagnostic;
use crate::derive::derivation::derive;
use crate::derive::instance::{Filling, arguments, small_sizes};
use crate::derive::signal::{self, Kind};
use crate::derive::transform::{Edge, Transform, on_torus, residual};
use crate::math::{Matrix, Rng};
use crate::sema::hir::{
    Argument, Base, Block, BlockKind, Fibre, Linear, Model, Op, Origin, Over, Program, Radial, Type, Value,
};
use crate::symmetry::Rep;
use crate::tensor::eval::{Arguments, Array, eval};
use crate::tensor::graph::Graph;

/// What was found about one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerCertificate {
    /// `Digits: linear2`
    pub name: String,
    /// The largest relative violation of equivariance found.
    pub residual: f64,
    /// The largest value on random input.
    pub size: f64,
    /// dim Hom summed over pairs of kinds, times the radial functions where there are some.
    pub dim: usize,
    /// Weights of the layer with one copy a kind, biases not counted.
    pub weights: usize,
    /// The rank of the map from weights to dense kernels.
    pub rank: usize,
}

/// Equivariance in f64 up to this.
pub const TOLERANCE: f64 = 1e-10;

/// Random inputs on which a rank is measured, at most.
const MOST_INPUTS: usize = 1000;

/// How many group elements are tried.
const ELEMENTS: usize = 4;

impl LayerCertificate {
    /// Why the layer must not pass, if it must not.
    pub fn fault(&self) -> Option<String> {
        if self.residual.is_nan() || self.residual > TOLERANCE {
            return Some(format!("{} is not equivariant: residual {:.1e}", self.name, self.residual));
        }
        if self.size == 0.0 && self.dim > 0 {
            return Some(format!("{} is zero", self.name));
        }
        if self.dim != self.weights || self.weights != self.rank {
            return Some(format!(
                "{}: dim Hom is {}, the layer has {} weights, and they span {} maps",
                self.name, self.dim, self.weights, self.rank
            ));
        }
        None
    }
}

/// One layer as a model of its own, with one copy a kind.
#[derive(Clone, Debug)]
pub struct Specimen {
    pub name: String,
    pub model: Model,
    /// Sizes at least this large have room for the neighbourhood.
    pub least: usize,
}

/// The linears of all models, each as a model of its own.
pub fn specimens(program: &Program) -> Vec<Specimen> {
    let mut all = Vec::new();
    for model in &program.models {
        for (_, value) in model.values.iter() {
            if let Op::Linear(linear) = &value.op {
                all.push(specimen(program, model, value, linear));
            }
        }
    }
    all
}

/// Certificates of all linears. Fails with what could not be derived.
pub fn certify(program: &Program, seed: u64) -> Result<Vec<LayerCertificate>, Vec<Diagnostic>> {
    let mut certificates = Vec::new();
    for specimen in specimens(program) {
        let derived = derive(program, &specimen.model)?;
        let dim = derived.blueprint.rows.iter().map(|r| r.dim()).sum();
        certificates.push(examine(program, &specimen, &derived.graph, dim, seed));
    }
    Ok(certificates)
}

/// Examines a graph that claims to compute a specimen's layer.
pub fn examine(program: &Program, specimen: &Specimen, graph: &Graph, dim: usize, seed: u64) -> LayerCertificate {
    let mut rng = Rng::new(seed);
    let sizes = small_sizes(graph, specimen.least);
    let args = arguments(graph, sizes, Filling::Generic, &mut rng);
    let mut worst = 0.0f64;
    let closed = on_torus(graph);
    for _ in 0..ELEMENTS {
        for (graph, edge) in
            [Some((graph, Edge::AsDeclared)), closed.as_ref().map(|g| (g, Edge::Torus))].into_iter().flatten()
        {
            let transform = Transform::sample_at(program, &specimen.model, &args, edge, &mut rng);
            let found = residual(graph, &transform, &args).unwrap_or(f64::NAN);
            worst = if found.is_nan() { found } else { worst.max(found) };
        }
    }
    let (weights, rank) = rank(graph, &args, &mut rng);
    LayerCertificate { name: specimen.name.clone(), residual: worst, size: size(graph, &args), dim, weights, rank }
}

fn specimen(program: &Program, model: &Model, value: &Value, linear: &Linear) -> Specimen {
    let mut values: Arena<Value> = Arena::new();
    let (mut args, mut operands, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for (k, id) in value.args.iter().enumerate() {
        let original = &model.values[*id].ty;
        let positions = matches!(linear.over, Over::Radius { .. }) && k + 1 == value.args.len();
        let ty = if positions { original.clone() } else { single_copies(original, &mut seen) };
        if ty.fibre.blocks.is_empty() {
            continue;
        }
        let name = format!("x{k}");
        args.push(Argument { name, ty: ty.clone(), span: value.span });
        operands.push(values.push(Value { op: Op::Argument(args.len() - 1), args: vec![], ty, span: value.span }));
    }
    // a network of radial functions is not linear in its weights; its maps are those of the linear radial functions
    let over = match &linear.over {
        Over::Radius { cutoff, .. } => Over::Radius { cutoff: *cutoff, radial: Radial::Bessel },
        other @ (Over::Point | Over::Window(_) | Over::Disk(_) | Over::All | Over::Edges) => other.clone(),
    };
    let layer = Linear { name: "layer".into(), over, bias: linear.bias, depthwise: linear.depthwise };
    let ty = single_copies(&value.ty, &mut Vec::new());
    // a coarse grid has room when the grid that it was made from has more
    let least = coarseness(program, value.ty.base)
        * match &linear.over {
            Over::Window(window) => window.iter().max().map_or(4, |k| k + 2),
            Over::Disk(r) => 2 * r.ceil() as usize + 3,
            Over::Point | Over::All | Over::Edges => 5,
            Over::Radius { .. } => 20,
        };
    let result = values.push(Value { op: Op::Linear(layer), args: operands, ty, span: value.span });
    let name = format!("{}: {}", model.name, linear.name);
    Specimen { model: Model { name: name.clone(), args, values, results: vec![("y".into(), result)] }, name, least }
}

/// How many cells of the declared grid make one of this, along an axis.
fn coarseness(program: &Program, base: Base) -> usize {
    let (Base::Points(mut at) | Base::Edges(mut at)) = base else { return 1 };
    let mut product = 1;
    while let Origin::Coarsened { of, factor } = program.domains[at].origin {
        product *= factor;
        at = of;
    }
    product
}

/// One copy of each kind that was not seen before. A block of several kinds stays whole where all of them are new.
fn single_copies(ty: &Type, seen: &mut Vec<Kind>) -> Type {
    let mut blocks = Vec::new();
    for block in &ty.fibre.blocks {
        let one = Block { count: 1, kind: one_of(&block.kind) };
        let fibre = Fibre { blocks: vec![one.clone()] };
        let kinds: Vec<Kind> = signal::shapes(&fibre, 0).into_iter().map(|shape| shape.kind).collect();
        let is_new = |kind: &Kind, seen: &[Kind]| !seen.iter().any(|k| k.same(kind));
        let whole = kinds.iter().all(|kind| is_new(kind, seen));
        for kind in kinds {
            if is_new(&kind, seen) {
                blocks.extend((!whole).then(|| Block { count: 1, kind: alone(&kind, &block.kind) }));
                seen.push(kind);
            }
        }
        blocks.extend(whole.then_some(one));
    }
    Type { base: ty.base, fibre: Fibre { blocks } }
}

/// One of the several kinds of a block, which is a sum of representations, as a block of its own.
fn alone(kind: &Kind, of: &BlockKind) -> BlockKind {
    match (kind, of) {
        (Kind::Rep(rep), _) => BlockKind::Rep(rep.clone()),
        (Kind::Scalar, BlockKind::Rep(sum)) => BlockKind::Rep(Rep::scalar(sum.group()).into()),
        (Kind::Scalar | Kind::Position(_), _) => panic!("certificate: only sums of representations have several kinds"),
    }
}

fn one_of(kind: &BlockKind) -> BlockKind {
    match kind {
        BlockKind::Class(_) => BlockKind::Class(1),
        BlockKind::Rep(_) | BlockKind::Position => kind.clone(),
    }
}

fn size(graph: &Graph, args: &Arguments) -> f64 {
    let largest = |a: &Array| a.data.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    eval(graph, args).map_or(f64::NAN, |y| y.values().map(largest).fold(0.0, f64::max))
}

/// For each weight, all values of the layer where it alone is 1 and the others are 0.
fn values_by_weight(graph: &Graph, args: &Arguments, names: &[(String, usize)]) -> Vec<Vec<f64>> {
    let mut zero = args.clone();
    zero.weights.values_mut().for_each(|w| w.data.fill(0.0));
    let mut rows = Vec::new();
    for (name, count) in names {
        for k in 0..*count {
            let mut one = zero.clone();
            if let Some(weight) = one.weights.get_mut(name) {
                weight.data[k] = 1.0;
            }
            rows.push(eval(graph, &one).map_or(vec![], |y| y.values().flat_map(|a| a.data.clone()).collect()));
        }
    }
    rows
}

/// The number of weights, and the dimension of the span of their maps.
fn rank(graph: &Graph, args: &Arguments, rng: &mut Rng) -> (usize, usize) {
    let names: Vec<(String, usize)> = graph
        .weights
        .iter()
        .filter(|(_, w)| !w.name.contains(".bias"))
        .map(|(_, w)| (w.name.clone(), w.dims.iter().product()))
        .collect();
    let mut rows = values_by_weight(graph, args, &names);
    let values = rows.first().map_or(0, Vec::len);
    // a layer that acts point by point has few values on a small instance
    for _ in 1..(2 * rows.len()).div_ceil(values.max(1)).min(MOST_INPUTS) {
        let more = arguments(graph, args.sizes.clone(), Filling::Generic, rng);
        let more = values_by_weight(graph, &more, &names);
        rows.iter_mut().zip(more).for_each(|(row, more)| row.extend(more));
    }
    let cols = rows.first().map_or(0, Vec::len);
    let scaled = rows.iter().flat_map(|r| {
        let top = r.iter().fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
        r.iter().map(move |x| x / top)
    });
    let matrix = Matrix::from_vec(rows.len(), cols, scaled.collect());
    (rows.len(), if rows.is_empty() || cols == 0 { 0 } else { matrix.rank() })
}
