//! Tensor-field convolution edge by edge in a frame of the edge: the canonicalised program (eSCN: Passaro and Zitnick 2023).
//!
//! In: the paths of a layer and their radial functions (`radial`). Out: for each kind of the output a second program for the sum over
//! neighbours, and the statement that it equals the first.
//!
//! Let `C` in Hom(a (x) f, b) for irreps of degrees l, f, k, and `g` orthogonal with `g r̂ = ŷ`, the polar axis. Then `Y_f(r̂) = D_f(g)⁻¹ Y_f(ŷ)`,
//! and of `Y_f(ŷ)` only the component of order 0 is not zero: it is `sqrt(2f+1)`. As C is equivariant,
//!
//! `Σ_ij C[i,j,m] x_i Y_f(r̂)_j = Σ_m' D_b(g)⁻¹[m,m'] Σ_i' C[i',0,m'] sqrt(2f+1) z_i'`, `z = D_a(g) x`.
//!
//! The middle is a map that commutes with the stabiliser of the axis, so that all paths of one parity share their `2 min(l,k) + 1` entries
//! (`symmetry::polar`): the radial functions of the paths become one function for each size of the order, and the weights are changed to these
//! before any call. An edge rotates each kind of the input once, applies the maps, adds them up, and rotates each kind of the output once:
//! O(L³) products a channel, where the direct program has O(L⁵).
//!
//! The frame has no singular direction. With `s = 1` where the polar component of r̂ is not negative and -1 elsewhere, and `v = r̂ + s ŷ`,
//! `g = s (2 v vᵀ / (v·v) - 1)` is s times the half turn about v, which exchanges r̂ and s ŷ: so `g r̂ = ŷ`, and g is its own inverse and symmetric.
//! `v·v >= 1` always; where the edge has no length, r̂ = 0 and v = ŷ. (The radial functions are taken to be 0 there, so the frame does not matter.
//! A length whose square is not a normal number of the program's type has no accurate direction, here as in the direct program: the two then differ.)
//! `D^l(g)` follows from `D^(l-1)(g)` and g by Clebsch-Gordan (`wigner::sparse_step`): these are the matrices of natural parity. For an irrep of
//! the other parity, or of SO(3), whose elements are `s g`, each side has s as a further factor, and a path s in all where l + f + k is odd.
//!
//! Not stated where
//! - radial functions are linear and mix channels: there the weights act after the sum over neighbours, which must not wait in frames that
//!   differ from edge to edge; rotating every path back by itself costs as much as it saves;
//! - the space is the plane: a rotation is as large as what it would save (irreps have at most 2 components);
//! - the counts show that it cannot pay ([`Counts::may_pay`]), as for degrees up to 2 of natural parity.

use crate::derive::derivation::Derivation;
use crate::derive::geometry::Vectors;
use crate::derive::linear::{Layer, Source, Target};
use crate::derive::radial::{Field, Paths, Radials};
use crate::derive::signal::Kind;
use crate::symmetry::wigner::sparse_step;
use crate::symmetry::{PolarPaths, Tensor3};
use crate::tensor::equality::Theorem;
use crate::tensor::graph::{Axis, Constant, Val};
use crate::tensor::op::Func;

/// Why both programs are equal.
pub(super) const CANONICALISE: Theorem = Theorem {
    name: "canonicalise",
    equation: "Σ_ij C[i,j,m] x_i Y_f(r)_j = Σ_m' D(g)⁻¹[m,m'] Σ_i C[i,0,m'] Y_f(ŷ)_0 (D(g) x)_i, g r = ŷ",
};

/// How much longer a multiplication takes in the canonicalised program, whose numbers pass through local memory, than in the direct one.
/// Where less is saved, searching both programs would cost compile time for nothing. (Measured with 32 channels and 20000 edges:
/// at degrees up to 3 a third of the multiplications in half of the time.)
const SLOWER: usize = 2;

/// The frames of all edges.
struct Frames {
    /// `D^l(g)` under two axes, for l = 1, 2, ...
    matrices: Vec<(Val, [Axis; 2])>,
    /// s
    sign: Val,
}

/// Multiplications of a channel at an edge.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    direct: usize,
    canonical: usize,
}

impl Counts {
    fn of(layer: &Layer, pairs: &[Paths]) -> Counts {
        let mut res = Counts::default();
        let sources = layer.sources.iter().enumerate().filter(|(k, _)| pairs.iter().any(|p| p.source == *k));
        let targets = layer.targets.iter().enumerate().filter(|(k, _)| pairs.iter().any(|p| p.target == *k));
        for dim in sources.map(|(_, s)| s.kind.dim()).chain(targets.map(|(_, t)| t.kind.dim())).filter(|d| *d > 1) {
            res.canonical += dim * dim;
        }
        for pair in pairs {
            let dims = layer.sources[pair.source].kind.dim() * layer.targets[pair.target].kind.dim();
            res.direct += pair.paths.len() * dims;
            let polar = [false, true].map(|odd| PolarPaths::of(&pair.paths, odd));
            res.canonical += polar.iter().flatten().map(|p| p.signs.len()).sum::<usize>();
        }
        res
    }

    /// Whether the canonicalised program may be the faster one.
    fn may_pay(self) -> bool {
        SLOWER * self.canonical < self.direct
    }
}

/// The degree of an irrep of SO(3) or O(3).
fn degree(kind: &Kind) -> usize {
    kind.dim() / 2
}

impl Derivation<'_> {
    /// States the canonicalised program for the sums of the terms that each target has got since it had `first[target]`.
    pub(super) fn canonicalise(
        &mut self,
        layer: &mut Layer,
        pairs: &[Paths],
        field: &Field,
        vectors: &Vectors,
        radials: &[Radials],
        first: &[usize],
    ) {
        if vectors.dim != 3 || !Counts::of(layer, pairs).may_pay() {
            return;
        }
        let kinds = layer.sources.iter().map(|s| &s.kind).chain(layer.targets.iter().map(|t| &t.kind));
        let top = kinds.map(degree).max().unwrap_or(0);
        let frames = self.frames(field, vectors, top);
        let turned: Vec<Option<Turned>> = layer.sources.iter().map(|s| self.turned(field, &frames, s)).collect();
        for (t, first) in first.iter().enumerate() {
            let own: Vec<(&Paths, &Radials)> = pairs.iter().zip(radials).filter(|(p, _)| p.target == t).collect();
            if own.is_empty() {
                continue;
            }
            let target = layer.targets[t].clone();
            let components = self.graph.axis();
            let mut terms = Vec::new();
            for (pair, radial) in own {
                let source = &layer.sources[pair.source];
                let seen = match &turned[pair.source] {
                    Some(turned) => vec![turned.read(radial.input)],
                    None => self.unturned(field, source, radial.input),
                };
                for polar in [false, true].map(|odd| PolarPaths::of(&pair.paths, odd)).into_iter().flatten() {
                    terms.extend(self.in_frame(field, &frames, &polar, radial, &target, components, &seen));
                }
            }
            let sum = crate::derive::linear::sum(&mut self.graph, &terms);
            let other = self.turned_back(field, &frames, &target, components, &sum);
            let direct = layer.targets[t].terms.split_off(*first);
            let direct = crate::derive::linear::sum(&mut self.graph, &direct);
            self.graph.equal(&direct, &other, CANONICALISE, &layer.linear.name);
            layer.targets[t].terms.push(direct);
        }
    }

    /// `g` and the matrices of the degrees up to `top`.
    fn frames(&mut self, field: &Field, vectors: &Vectors, top: usize) -> Frames {
        let [row, column] = [self.graph.axis(), self.graph.axis()];
        let along = vectors.component;
        let unit = self.graph.contract(&[&vectors.unit], &[field.edge, along]);
        let pole = self.graph.constant(Constant { name: "y".into(), dims: vec![3], data: [0.0, 1.0, 0.0].into() });
        let pole = pole.rename(&[(pole.axes[0], along)]);
        let height = self.graph.contract(&[&unit, &pole], &[field.edge]);
        let zero = self.graph.scalar(0.0);
        let below = self.graph.map(Func::Greater, &[&zero, &height]);
        let (one, flip) = (self.graph.scalar(1.0), self.graph.scale(&below, -2.0));
        let sign = self.graph.sum(&[&one, &flip]);
        let signed = self.graph.mul(&sign, &pole);
        let axis = self.graph.sum(&[&unit, &signed]);
        let square = self.graph.contract(&[&axis, &axis], &[field.edge]);
        let inverse = self.graph.map(Func::Recip, &[&square]);
        let (a, b) = (axis.rename(&[(along, row)]), axis.rename(&[(along, column)]));
        let two = self.graph.scalar(2.0);
        let turn = self.graph.contract(&[&sign, &inverse, &a, &b, &two], &[field.edge, row, column]);
        let identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0].map(|x: f64| -x);
        let minus = self.graph.constant(Constant { name: "-1".into(), dims: vec![3, 3], data: identity.into() });
        let minus = minus.rename(&[(minus.axes[0], row), (minus.axes[1], column)]);
        let minus = self.graph.mul(&sign, &minus);
        let first = self.graph.sum(&[&turn, &minus]);
        let mut matrices = vec![(first, [row, column])];
        for l in 1..top {
            let next = self.next_matrix(field, l, &matrices[l - 1], &matrices[0]);
            matrices.push(next);
        }
        Frames { matrices, sign }
    }

    /// `D^(l+1)` from `D^l` and `D^1`.
    fn next_matrix(
        &mut self,
        field: &Field,
        l: usize,
        lower: &(Val, [Axis; 2]),
        first: &(Val, [Axis; 2]),
    ) -> (Val, [Axis; 2]) {
        let (left, right) = sparse_step(l);
        let [row, column] = [self.graph.axis(), self.graph.axis()];
        let [i, i2, j, j2] = [(); 4].map(|()| self.graph.axis());
        let mut rule = |tensor: &Tensor3, names: [Axis; 3]| {
            let mut data = vec![0.0; tensor.dims.iter().product()];
            for ([i, j, k], x) in &tensor.entries {
                data[(i * tensor.dims[1] + j) * tensor.dims[2] + k] = *x;
            }
            let name = format!("D{} from D{l}", l + 1);
            let val = self.graph.constant(Constant { name, dims: tensor.dims.to_vec(), data: data.into() });
            val.rename(&val.axes.iter().copied().zip(names).collect::<Vec<_>>())
        };
        let (left, right) = (rule(&left, [i, j, row]), rule(&right, [i2, j2, column]));
        let under =
            |(val, axes): &(Val, [Axis; 2]), names: [Axis; 2]| val.rename(&[(axes[0], names[0]), (axes[1], names[1])]);
        let (lower, first) = (under(lower, [i, i2]), under(first, [j, j2]));
        let half = self.graph.contract(&[&left, &lower], &[field.edge, i2, j, row]);
        let half = self.graph.contract(&[&half, &first], &[field.edge, i2, j2, row]);
        let val = self.graph.contract(&[&half, &right], &[field.edge, row, column]);
        (val, [row, column])
    }

    /// `D_a(g) x_j` of a source at every edge; nothing for scalars, which do not turn.
    fn turned(&mut self, field: &Field, frames: &Frames, source: &Source) -> Option<Turned> {
        let component = source.component?;
        let (matrix, [row, column]) = &frames.matrices[degree(&source.kind) - 1];
        let (turned, copy) = (self.graph.axis(), self.graph.axis());
        let matrix = matrix.rename(&[(*row, turned), (*column, component)]);
        let mut terms = Vec::new();
        for (part, offset) in &source.pieces {
            let mut x = self.at_sender(field, part);
            let relation = self.piece(part, *offset, source.copies, copy, &mut x);
            let operands: Vec<&Val> = [&matrix, &x, &field.senders].into_iter().chain(&relation).collect();
            terms.push(self.graph.contract(&operands, &[field.edge, turned, copy]));
        }
        let val = crate::derive::linear::sum(&mut self.graph, &terms);
        Some(Turned { val, component: turned, copy })
    }

    /// The pieces of scalars at the senders, each with what else reads it there.
    fn unturned(&mut self, field: &Field, source: &Source, input: Axis) -> Vec<Seen> {
        let mut res = Vec::new();
        for (part, offset) in &source.pieces {
            let mut x = self.at_sender(field, part);
            let relation = self.piece(part, *offset, source.copies, input, &mut x);
            res.push(Seen {
                factors: [x, field.senders.clone()].into_iter().chain(relation).collect(),
                component: None,
            });
        }
        res
    }

    /// What the paths of one parity add to the target in the frames, under the axis `components` of its components.
    #[expect(clippy::too_many_arguments, reason = "paths, and under which names they are read")]
    fn in_frame(
        &mut self,
        field: &Field,
        frames: &Frames,
        polar: &PolarPaths,
        radial: &Radials,
        target: &Target,
        components: Axis,
        seen: &[Seen],
    ) -> Vec<Val> {
        let order = self.graph.axis();
        let scale = (polar.dims[1] as f64).sqrt() * self.edge_scale(field.id);
        let change = Constant {
            name: "C at ŷ".into(),
            dims: vec![polar.paths, polar.sizes],
            data: polar.change.iter().map(|x| x * scale).collect(),
        };
        let change = self.graph.constant(change);
        let change = change.rename(&[(change.axes[0], radial.path), (change.axes[1], order)]);
        let kept = [target.copy].into_iter().chain((radial.input != target.copy).then_some(radial.input));
        let kept: Vec<Axis> = kept.chain([order]).collect();
        let out: Vec<Axis> = kept.iter().copied().chain([radial.feature]).collect();
        let weights = self.graph.contract(&radial.weights.iter().chain([&change]).collect::<Vec<_>>(), &out);
        let out: Vec<Axis> = [field.place].into_iter().chain(kept).collect();
        let functions = self.graph.contract(&[&weights, &radial.features], &out);
        let of_target = target.component.map(|_| components);
        let mut terms = Vec::new();
        for seen in seen {
            let signs = self.signs(polar, [Some(order), seen.component, of_target]);
            let read = seen.factors.iter().chain([&functions, &signs]).chain(&field.pair);
            let operands = read.chain(polar.odd.then_some(&frames.sign));
            let out: Vec<Axis> = [field.edge, target.copy].into_iter().chain(of_target).collect();
            terms.push(self.graph.contract(&operands.collect::<Vec<_>>(), &out));
        }
        terms
    }

    /// The signs of paths under these axes, those that there are.
    fn signs(&mut self, polar: &PolarPaths, names: [Option<Axis>; 3]) -> Val {
        let dims = [polar.sizes, polar.dims[0], polar.dims[1]];
        let mut data = vec![0.0; dims.iter().product()];
        for (m, i, k, sign) in &polar.signs {
            data[(m * dims[1] + i) * dims[2] + k] = *sign;
        }
        let axes: Vec<(Option<Axis>, usize)> = names.into_iter().zip(dims).collect();
        self.named("±1", &axes, &data)
    }

    /// The sum over neighbours of what the edges have in their frames.
    fn turned_back(&mut self, field: &Field, frames: &Frames, target: &Target, turned: Axis, sum: &Val) -> Val {
        let mut operands = vec![sum.clone(), field.receivers.clone()];
        if let Some(component) = target.component {
            // g is its own inverse
            let (matrix, [row, column]) = &frames.matrices[degree(&target.kind) - 1];
            operands.push(matrix.rename(&[(*row, component), (*column, turned)]));
        }
        let out: Vec<Axis> = [field.point, target.copy].into_iter().chain(target.component).collect();
        self.graph.contract(&operands.iter().collect::<Vec<_>>(), &out)
    }
}

/// A source in the frames of the edges.
struct Turned {
    val: Val,
    component: Axis,
    copy: Axis,
}

impl Turned {
    /// Read under a name for its copies.
    fn read(&self, copy: Axis) -> Seen {
        Seen { factors: vec![self.val.rename(&[(self.copy, copy)])], component: Some(self.component) }
    }
}

/// What a path reads of a source at an edge.
struct Seen {
    factors: Vec<Val>,
    component: Option<Axis>,
}
