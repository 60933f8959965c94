//! `linear F over r at x` and `depthwise F over r at x`: tensor-field convolution.
//!
//! In: the orbits of E(d) on pairs of points: a point itself, and the pairs at each distance d below the cutoff c. Out:
//!
//! `y_i = self · x_i + (m/n)^(-1/2) Σ_{j~i} Σ_paths sqrt(dim out) R_path(|r|) C_path(x_j, Y_f(r/|r|))`, `r = r_j - r_i` (sender minus receiver),
//!
//! one path for each (output irrep, input irrep, degree f) with `C_path` in Hom(input (x) f, output), Frobenius norm 1 (e3nn's Wigner 3j).
//! Paths are ordered by output, then input (both in the order of the fibres), then f. Radial functions `R`:
//! - linear in the 8 Bessel functions: `<prefix>.weight...` `[out, in, paths, 8]`, depthwise `[copies, paths, 8]`, one tensor a pair of kinds;
//! - `by mlp[a, b]`: `<prefix>.radial.1.weight [a, 8]`, `.2.weight [b, a]`, `.3.weight [rows, b]`, silu between, no biases (so that the cutoff
//!   stays smooth); the rows are the paths in order, each `[out, in]`, depthwise `[copies]`.
//!
//! Everything of the distance alone is computed once for both directions of an edge (`place::Pairs`).
//!
//! Where channels are kept, or the radial functions are a network's, a second program for the sum is stated (`canonical`).
//!
//! The orbit of the point itself has `<prefix>.self...` `[out, in]`, depthwise `[copies]`.

use crate::base::arena::Id;
use crate::base::diagnostic::Diagnostic;
use crate::derive::blueprint::Hom;
use crate::derive::derivation::{Derivation, not_derived};
use crate::derive::geometry::{BESSEL_COUNT, Vectors};
use crate::derive::hom::{Join, Tables, rep_of, row_major};
use crate::derive::linear::{Layer, homs, pair_name};
use crate::derive::place::Table;
use crate::derive::signal::{Kind, Part, Signal, slice};
use crate::sema::hir::{Base, DomainDecl, Over, Radial};
use crate::symmetry::irrep::MAX_DEGREE;
use crate::symmetry::{AngularPath, NoPaths, angular_degrees, angular_paths};
use crate::tensor::graph::{Axis, Constant, Init, Val};
use crate::tensor::op::Func;

/// The second moment of silu of a standard normal variable.
const SILU_MOMENT: f64 = 0.355_776;

/// The paths between one source and one target.
#[derive(Debug)]
pub(super) struct Paths {
    pub(super) target: usize,
    pub(super) source: usize,
    pub(super) paths: Vec<AngularPath>,
}

/// The radial functions of all paths of a source and a target: weights times features of the distance, summed over the latter.
#[derive(Debug)]
pub(super) struct Radials {
    /// Their product, summed over the axes that are not named here.
    pub(super) weights: Vec<Val>,
    /// At each place of the field. `[place, feature]`
    pub(super) features: Val,
    pub(super) feature: Axis,
    /// The axis over the paths.
    pub(super) path: Axis,
    /// The axis over the copies of the input: that of the output where channels are kept.
    pub(super) input: Axis,
}

/// What all paths of a layer share.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) id: Id<DomainDecl>,
    pub(super) edge: Axis,
    pub(super) point: Axis,
    pub(super) senders: Val,
    pub(super) receivers: Val,
    harmonics: Vec<(Val, Option<Axis>)>,
    /// Where distances and what is a function of them are: the pairs of points, or the edges.
    pub(super) place: Axis,
    /// The pair of each edge.
    pub(super) pair: Option<Val>,
    bessel: Val,
    bessel_axis: Axis,
    cutoff: f64,
}

impl Derivation<'_> {
    pub(super) fn over_distances(
        &mut self,
        layer: &mut Layer,
        dim: usize,
        cutoff: f64,
        at: &Signal,
    ) -> Result<Vec<Hom>, Diagnostic> {
        let Base::Points(id) = layer.base else {
            return Err(not_derived("a linear over a radius into a base that is not points"));
        };
        if !matches!(dim, 2 | 3) {
            return Err(not_derived(format!("linear over a radius in R^{dim}")));
        }
        let pairs = self.paths(layer, id)?;
        let top = pairs.iter().flat_map(|p| &p.paths).map(|p| p.degree as usize).max().unwrap_or(0);
        let vectors = self.edge_vectors(id, at)?;
        let field = self.field(id, &vectors, top, cutoff);
        let own = self.own_orbit(layer, &pairs)?;
        let Over::Radius { radial, .. } = &layer.linear.over else {
            return Err(not_derived("a linear over distances without a radius"));
        };
        let first: Vec<usize> = layer.targets.iter().map(|t| t.terms.len()).collect();
        let radials = match (radial, layer.linear.depthwise) {
            (Radial::Bessel, false) => {
                self.mixed(layer, &pairs, &field);
                None
            }
            (Radial::Bessel, true) => Some(self.depthwise_linear(layer, &pairs, &field)),
            (Radial::Mlp(widths), _) => Some(self.networked(layer, &pairs, &field, widths)),
        };
        if let Some(radials) = radials {
            self.canonicalise(layer, &pairs, &field, &vectors, &radials, &first);
        }
        let hom = |p: &Paths| Hom {
            input: layer.sources[p.source].kind.to_string(),
            output: layer.targets[p.target].kind.to_string(),
            dim: p.paths.len(),
            functions: BESSEL_COUNT,
        };
        Ok(own.into_iter().chain(pairs.iter().map(hom)).collect())
    }

    fn paths(&mut self, layer: &Layer, id: Id<DomainDecl>) -> Result<Vec<Paths>, Diagnostic> {
        let group = self.places.domain(id).stabiliser();
        let mut tables = Tables::default();
        for (target, source) in layer.targets.iter().flat_map(|t| layer.sources.iter().map(move |s| (t, s))) {
            let (input, out) = (rep_of(&source.kind, &group)?, rep_of(&target.kind, &group)?);
            let degrees = angular_degrees(&input, &out).map_err(|why| no_paths(why, &source.kind, &target.kind))?;
            degrees.iter().for_each(|(_, f)| tables.count([input.dim(), group.irrep_dim(*f), out.dim()]));
        }
        tables.admit()?;
        let mut pairs = Vec::new();
        for (t, target) in layer.targets.iter().enumerate() {
            for (s, source) in layer.sources.iter().enumerate() {
                let (input, out) = (rep_of(&source.kind, &group)?, rep_of(&target.kind, &group)?);
                let paths = angular_paths(&input, &out).map_err(|why| no_paths(why, &source.kind, &target.kind))?;
                if layer.linear.depthwise && !paths.is_empty() && source.copies != target.copies {
                    return Err(not_derived(format!("depthwise from {} to {} copies", source.copies, target.copies)));
                }
                if !paths.is_empty() {
                    pairs.push(Paths { target: t, source: s, paths });
                }
            }
        }
        Ok(pairs)
    }

    fn field(&mut self, id: Id<DomainDecl>, vectors: &Vectors, top: usize, cutoff: f64) -> Field {
        let senders = self.places.table(&mut self.graph, id, Table::Senders);
        let receivers = self.places.table(&mut self.graph, id, Table::Receivers);
        let (edge, point) = (senders.axes[0], receivers.axes[1]);
        let sender = self.graph.axis();
        let senders = senders.rename(&[(point, sender)]);
        let harmonics = self.harmonics_of(vectors, top);
        let (place, pair, length) = self.distances(id, edge, vectors);
        let (bessel, bessel_axis) = self.radial_functions(&length, BESSEL_COUNT, cutoff);
        Field { id, edge, point, senders, receivers, harmonics, place, pair, bessel, bessel_axis, cutoff }
    }

    /// Where distances are, the pair of each edge if that is on pairs, and the distances. A distance is invariant under reversal of the
    /// edge, `|r_j - r_i| = |r_i - r_j|`, so it and every function of it factor through the orbits of edges under Z/2: they are computed once
    /// an orbit, at its first edge, and edges read them there.
    fn distances(&mut self, id: Id<DomainDecl>, edge: Axis, vectors: &Vectors) -> (Axis, Option<Val>, Val) {
        if !vectors.length.has(edge) {
            return (edge, None, vectors.length.clone());
        }
        let Some(pairs) = self.places.pairs(&mut self.graph, id) else { return (edge, None, vectors.length.clone()) };
        let on_pairs = |a: &Axis| if *a == edge { pairs.pair } else { *a };
        let out: Vec<Axis> = vectors.length.axes.iter().map(on_pairs).collect();
        let length = self.graph.contract(&[&vectors.length, &pairs.edge], &out);
        (pairs.pair, Some(pairs.of_edge), length)
    }

    /// The point itself: `self · x`.
    fn own_orbit(&mut self, layer: &mut Layer, paths: &[Paths]) -> Result<Vec<Hom>, Diagnostic> {
        let pairs = self.point_pairs(layer, 1)?;
        let place = self.place(layer.base);
        for pair in &pairs {
            let (target, source) = (&layer.targets[pair.target], &layer.sources[pair.source]);
            let fan: f64 =
                fan(layer, paths, pair.target) + if layer.linear.depthwise { 1.0 } else { source.copies as f64 };
            let name = pair_name(layer, pairs.len() == 1, target, source, "self");
            let init = Init::Normal(1.0 / fan.sqrt());
            let basis = pair.coupling.weights;
            if layer.linear.depthwise {
                if target.copies != source.copies || basis > 1 {
                    return Err(not_derived("depthwise maps of a point to itself with several maps a copy"));
                }
                let weight = self.weight(name, &[target.copies], init);
                let weight = weight.rename(&[(weight.axes[0], target.copy)]);
                let read = crate::derive::linear::Read { val: weight, input: target.copy };
                let seen = layer.sources[pair.source].tensors();
                self.products(layer, pair, &read, &seen, &[], &place.axes);
                continue;
            }
            let dims: Vec<usize> =
                [target.copies, source.copies].into_iter().chain((basis > 1).then_some(basis)).collect();
            let weight = self.weight(name, &dims, init);
            let input = self.graph.axis();
            let mut names = vec![(weight.axes[0], target.copy), (weight.axes[1], input)];
            if let Join::Through { weight: Some(axis), .. } = pair.coupling.join {
                names.push((weight.axes[2], axis));
            }
            let read = crate::derive::linear::Read { val: weight.rename(&names), input };
            let seen = layer.sources[pair.source].tensors();
            self.products(layer, pair, &read, &seen, &[], &place.axes);
        }
        Ok(homs(layer, &pairs))
    }

    /// `C_path` times its normalisation and that of the sum over neighbours, as `[input?, harmonic?, output?]` under these names.
    fn coupling(&mut self, field: &Field, layer: &Layer, pair: &Paths, path: &AngularPath) -> Val {
        let tensor = &path.coupling;
        let scale = (tensor.dims[2] as f64).sqrt() * self.edge_scale(field.id);
        let (source, target) = (&layer.sources[pair.source], &layer.targets[pair.target]);
        let roles = [source.component, field.harmonics[path.degree as usize].1, target.component];
        let mut data = vec![0.0; tensor.dims.iter().product()];
        for ([i, j, k], x) in &tensor.entries {
            data[(i * tensor.dims[1] + j) * tensor.dims[2] + k] = x * scale;
        }
        let present: Vec<usize> = (0..3).filter(|k| roles[*k].is_some()).collect();
        let dims = present.iter().map(|k| tensor.dims[*k]).collect();
        let name = format!("C({}, {}, {})", source.kind.tag(), path.degree, target.kind.tag());
        let val = self.graph.constant(Constant { name, dims, data: data.into() });
        let names = present.iter().filter_map(|k| roles[*k]);
        val.rename(&val.axes.iter().copied().zip(names).collect::<Vec<_>>())
    }

    /// What a path multiplies a neighbour's copies with, besides the radial function.
    fn path_factors(&mut self, field: &Field, layer: &Layer, pair: &Paths, path: &AngularPath) -> Vec<Val> {
        let coupling = self.coupling(field, layer, pair, path);
        let mut factors = vec![coupling, field.senders.clone(), field.receivers.clone()];
        factors.extend(field.pair.clone());
        if path.degree > 0 {
            factors.push(field.harmonics[path.degree as usize].0.clone());
        }
        factors
    }

    /// Linear radial functions, all channels mixed: neighbours are summed for each radial function first, then the weights act on points.
    fn mixed(&mut self, layer: &mut Layer, pairs: &[Paths], field: &Field) {
        for pair in pairs {
            let (target, source) = (layer.targets[pair.target].clone(), layer.sources[pair.source].clone());
            let name = pair_name(layer, pairs.len() == 1, &target, &source, "weight");
            let dims = [target.copies, source.copies, pair.paths.len(), BESSEL_COUNT];
            let weight = self.weight(name, &dims, Init::Normal(self.bessel_std(layer, pairs, pair, field)));
            let input = self.graph.axis();
            let names = [target.copy, input, weight.axes[2], field.bessel_axis];
            let weight = weight.rename(&weight.axes.iter().copied().zip(names).collect::<Vec<_>>());
            for (k, path) in pair.paths.iter().enumerate() {
                let factors = self.path_factors(field, layer, pair, path);
                for (part, offset) in &source.pieces {
                    let mut x = self.at_sender(field, part);
                    let relation = self.piece(part, *offset, source.copies, input, &mut x);
                    let copy = if relation.is_some() { part.copy } else { input };
                    let operands: Vec<&Val> = [&x, &field.bessel].into_iter().chain(&factors).collect();
                    let out: Vec<Axis> =
                        [field.point, copy, field.bessel_axis].into_iter().chain(target.component).collect();
                    let summed = self.graph.contract(&operands, &out);
                    let chosen = slice(&mut self.graph, &[], &[], k, pair.paths.len());
                    let chosen = chosen.rename(&[(chosen.axes[0], weight.axes[2])]);
                    let operands: Vec<&Val> = [&weight, &chosen, &summed].into_iter().chain(&relation).collect();
                    let out: Vec<Axis> = [field.point, target.copy].into_iter().chain(target.component).collect();
                    let term = self.graph.contract(&operands, &out);
                    layer.targets[pair.target].terms.push(term);
                }
            }
        }
    }

    fn depthwise_linear(&mut self, layer: &mut Layer, pairs: &[Paths], field: &Field) -> Vec<Radials> {
        let mut radials = Vec::new();
        for pair in pairs {
            let (target, source) = (&layer.targets[pair.target], &layer.sources[pair.source]);
            let name = pair_name(layer, pairs.len() == 1, target, source, "weight");
            let dims = [target.copies, pair.paths.len(), BESSEL_COUNT];
            let std = self.bessel_std(layer, pairs, pair, field);
            let copy = target.copy;
            let weight = self.weight(name, &dims, Init::Normal(std));
            let names = [copy, weight.axes[1], field.bessel_axis];
            let weight = weight.rename(&weight.axes.iter().copied().zip(names).collect::<Vec<_>>());
            for (k, path) in pair.paths.iter().enumerate() {
                let chosen = slice(&mut self.graph, &[], &[], k, pair.paths.len());
                let chosen = chosen.rename(&[(chosen.axes[0], weight.axes[1])]);
                let radial = self.graph.contract(&[&weight, &chosen, &field.bessel], &[field.place, copy]);
                self.channelwise(layer, pair, path, field, &[radial]);
            }
            let path = weight.axes[1];
            let (features, feature) = (field.bessel.clone(), field.bessel_axis);
            radials.push(Radials { weights: vec![weight], features, feature, path, input: copy });
        }
        radials
    }

    /// Adds `Σ_{j~i} radial · C(x_j, Y)` with every channel kept to itself.
    fn channelwise(&mut self, layer: &mut Layer, pair: &Paths, path: &AngularPath, field: &Field, radial: &[Val]) {
        let factors = self.path_factors(field, layer, pair, path);
        let (target, source) = (layer.targets[pair.target].clone(), layer.sources[pair.source].clone());
        for (part, offset) in &source.pieces {
            let mut x = self.at_sender(field, part);
            let relation = self.piece(part, *offset, source.copies, target.copy, &mut x);
            let operands: Vec<&Val> = [&x].into_iter().chain(radial).chain(&factors).chain(&relation).collect();
            let out: Vec<Axis> = [field.point, target.copy].into_iter().chain(target.component).collect();
            let term = self.graph.contract(&operands, &out);
            layer.targets[pair.target].terms.push(term);
        }
    }

    /// Radial functions by a network of the Bessel functions.
    fn networked(&mut self, layer: &mut Layer, pairs: &[Paths], field: &Field, widths: &[usize]) -> Vec<Radials> {
        let depthwise = layer.linear.depthwise;
        let size = |layer: &Layer, p: &Paths| {
            let (o, i) = (layer.targets[p.target].copies, layer.sources[p.source].copies);
            if depthwise { o } else { o * i }
        };
        let rows: usize = pairs.iter().map(|p| p.paths.len() * size(layer, p)).sum();
        let (mut hidden, mut axis) = (field.bessel.clone(), field.bessel_axis);
        let (mut features, mut top) = ((hidden.clone(), axis), hidden.clone());
        let mut moment = bessel_moment(field.cutoff);
        let top_fan = (0..layer.targets.len()).map(|t| fan(layer, pairs, t)).fold(1.0, f64::max);
        let prefix = layer.linear.name.clone();
        for (k, width) in widths.iter().copied().chain([rows]).enumerate() {
            let last = k == widths.len();
            let inputs = if k == 0 { BESSEL_COUNT } else { widths[k - 1] };
            let share = if last { top_fan } else { 1.0 };
            let init = Init::Normal(1.0 / (inputs as f64 * moment * share).sqrt());
            let weight = self.weight(format!("{prefix}.radial.{}.weight", k + 1), &[width, inputs], init);
            let weight = weight.rename(&[(weight.axes[1], axis)]);
            (features, top) = ((hidden.clone(), axis), weight.clone());
            axis = weight.axes[0];
            hidden = self.graph.contract(&[&weight, &hidden], &[field.place, axis]);
            if !last {
                hidden = self.graph.map(Func::Silu, &[&hidden]);
            }
            moment = SILU_MOMENT;
        }
        let mut offset = 0;
        let mut radials = Vec::new();
        for pair in pairs {
            radials.push(self.rows_of_paths(layer, pair, &features, (&top, axis), (offset, rows)));
            for path in &pair.paths {
                if depthwise {
                    let (copies, copy) = (layer.targets[pair.target].copies, layer.targets[pair.target].copy);
                    let own = slice(&mut self.graph, &[copies], &[1], offset, rows);
                    let own = own.rename(&[(own.axes[0], copy), (own.axes[1], axis)]);
                    self.channelwise(layer, pair, path, field, &[hidden.clone(), own]);
                } else {
                    self.mixed_by_network(layer, pair, path, field, &hidden, axis, (offset, rows));
                }
                offset += size(layer, pair);
            }
        }
        radials
    }

    /// The rows of a network's last layer, `weight` under the axis `row`, that are the radial functions of a pair: the paths in order,
    /// each `[out, in]` or `[copies]`.
    fn rows_of_paths(
        &mut self,
        layer: &Layer,
        pair: &Paths,
        (features, feature): &(Val, Axis),
        (weight, row): (&Val, Axis),
        rows: (usize, usize),
    ) -> Radials {
        let (target, copies) = (&layer.targets[pair.target], layer.sources[pair.source].copies);
        let path = self.graph.axis();
        let (dims, input) = if layer.linear.depthwise {
            (vec![pair.paths.len(), target.copies], target.copy)
        } else {
            (vec![pair.paths.len(), target.copies, copies], self.graph.axis())
        };
        let own = slice(&mut self.graph, &dims, &row_major(&dims), rows.0, rows.1);
        let mut names = vec![path, target.copy];
        names.extend((!layer.linear.depthwise).then_some(input));
        let own = own.rename(&own.axes.iter().copied().zip(names.into_iter().chain([row])).collect::<Vec<_>>());
        Radials { weights: vec![weight.clone(), own], features: features.clone(), feature: *feature, path, input }
    }

    /// One path whose radial functions `[out, in]` are rows of a network's output.
    #[expect(clippy::too_many_arguments, reason = "a path, its layer and where its rows lie")]
    fn mixed_by_network(
        &mut self,
        layer: &mut Layer,
        pair: &Paths,
        path: &AngularPath,
        field: &Field,
        hidden: &Val,
        axis: Axis,
        rows: (usize, usize),
    ) {
        let factors = self.path_factors(field, layer, pair, path);
        let (target, source) = (layer.targets[pair.target].clone(), layer.sources[pair.source].clone());
        let input = self.graph.axis();
        let own = slice(&mut self.graph, &[target.copies, source.copies], &[source.copies, 1], rows.0, rows.1);
        let own = own.rename(&[(own.axes[0], target.copy), (own.axes[1], input), (own.axes[2], axis)]);
        for (part, offset) in &source.pieces {
            let mut x = self.at_sender(field, part);
            let relation = self.piece(part, *offset, source.copies, input, &mut x);
            let operands: Vec<&Val> = [&x, hidden, &own].into_iter().chain(&factors).chain(&relation).collect();
            let out: Vec<Axis> = [field.point, target.copy].into_iter().chain(target.component).collect();
            let term = self.graph.contract(&operands, &out);
            layer.targets[pair.target].terms.push(term);
        }
    }

    /// A point's value under the name of the sender.
    pub(super) fn at_sender(&mut self, field: &Field, part: &Part) -> Val {
        part.val.rename(&[(field.point, field.senders.axes[1])])
    }

    fn bessel_std(&self, layer: &Layer, pairs: &[Paths], pair: &Paths, field: &Field) -> f64 {
        1.0 / (BESSEL_COUNT as f64 * bessel_moment(field.cutoff) * fan(layer, pairs, pair.target)).sqrt()
    }
}

/// Why a layer has no kernels.
fn no_paths(why: NoPaths, input: &Kind, out: &Kind) -> Diagnostic {
    match why {
        NoPaths::NotIrreps => {
            not_derived(format!("linear over a radius from {input} to {out}: both must be irreps"))
        }
        NoPaths::Degree(degree) => {
            Diagnostic::error("E0403", format!("linear over a radius from {input} to {out} needs harmonics of degree {degree}, the highest is {MAX_DEGREE}"))
                .why("an edge couples degrees l and k by harmonics of the degrees |l - k| to l + k")
        }
    }
}

/// The mean square of a radial function over a ball of radius c: they are orthonormal for `d² dd`.
fn bessel_moment(cutoff: f64) -> f64 {
    3.0 / cutoff.powi(3)
}

/// How many unit variances meet in a component of a target.
fn fan(layer: &Layer, pairs: &[Paths], target: usize) -> f64 {
    let channels = |p: &Paths| if layer.linear.depthwise { 1 } else { layer.sources[p.source].copies };
    pairs.iter().filter(|p| p.target == target).map(|p| (p.paths.len() * channels(p)) as f64).sum()
}
