//! `linear`: the one routine. Orbits from the domain, Hom from the group, a weight for every basis element.
//!
//! In: a linear of the checked program. Out: its value, its weights with initialisers, a row of the blueprint.
//! What is particular to the geometry of the orbits is in `window`, `permutation`, `star`, `radial`; what is common is here:
//! joining blocks by kind, naming and declaring weights, the product with the weights, the bias.

use crate::base::diagnostic::Diagnostic;
use crate::derive::blueprint::{Hom, Row};
use crate::derive::derivation::{Derivation, not_derived};
use crate::derive::hom::{Coupling, Join, Roles};
use crate::derive::signal::{Kind, Part, Shape, Signal, slice};
use crate::domain::{DomainError, Neighbourhood, Orbits};
use crate::sema::hir::{Base, Linear, Over, Value};
use crate::tensor::graph::{Axis, Graph, Init, Val};

/// All input blocks of one kind.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) kind: Kind,
    pub(super) copies: usize,
    /// The blocks, each with its first copy among the copies of this kind.
    pub(super) pieces: Vec<(Part, usize)>,
    /// The components under one name for all pieces.
    pub(super) component: Option<Axis>,
    /// Whether only one copy is not zero (class indices).
    pub(super) one_hot: bool,
}

impl Source {
    /// The tensors of the pieces.
    pub(super) fn tensors(&self) -> Vec<Val> {
        self.pieces.iter().map(|(part, _)| part.val.clone()).collect()
    }
}

/// All output blocks of one kind.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) kind: Kind,
    pub(super) copies: usize,
    pub(super) copy: Axis,
    pub(super) component: Option<Axis>,
    /// What the output is the sum of.
    pub(super) terms: Vec<Val>,
}

/// The maps from one source to one target.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) target: usize,
    pub(super) source: usize,
    pub(super) coupling: Coupling,
}

/// A weight under the names of its axes.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) val: Val,
    /// The axis of input copies.
    pub(super) input: Axis,
}

/// A layer in the making.
#[derive(Debug)]
pub(super) struct Layer<'a> {
    pub(super) linear: &'a Linear,
    pub(super) sources: Vec<Source>,
    pub(super) targets: Vec<Target>,
    /// Where the output lives.
    pub(super) base: Base,
}

impl Derivation<'_> {
    /// Derives one `linear` or `depthwise`.
    pub(super) fn linear(&mut self, value: &Value, linear: &Linear) -> Result<Signal, Diagnostic> {
        let positions = matches!(linear.over, Over::Radius { .. });
        let count = value.args.len() - usize::from(positions);
        let inputs: Vec<Signal> = (0..count).map(|k| self.raw_operand(value, k)).collect();
        let first = inputs.first().map_or(value.ty.base, |s| s.base);
        let orbits = self.orbits(first, &linear.over)?;
        let mut layer =
            Layer { linear, sources: self.sources(&inputs), targets: self.targets(value), base: value.ty.base };
        let before = self.graph.len();
        let weights = self.graph.weights.len();
        if linear.depthwise && !matches!(orbits, Orbits::Distances { .. }) {
            return Err(not_derived(format!("depthwise over {}", over_name(&linear.over))));
        }
        let hom = match &orbits {
            Orbits::Point => self.over_point(&mut layer)?,
            Orbits::Lattice { displacements, window, boundary } => {
                self.over_window(&mut layer, displacements, window, *boundary)?
            }
            Orbits::Permutations { inputs, outputs } => self.over_permutations(&mut layer, *inputs, *outputs)?,
            Orbits::Star => self.over_star(&mut layer)?,
            Orbits::Distances { dim, cutoff } => {
                let at = self.operand(value, count);
                self.over_distances(&mut layer, *dim, *cutoff, &at)?
            }
        };
        if linear.bias {
            self.bias(&mut layer, &orbits)?;
        }
        let signal = self.finish(value, layer)?;
        let row = Row::new(self, value, (&inputs, &signal), linear, &orbits, hom, before, weights);
        self.rows.push(row);
        Ok(signal)
    }

    fn orbits(&mut self, base: Base, over: &Over) -> Result<Orbits, Diagnostic> {
        let neighbourhood = match over {
            Over::Point => return Ok(Orbits::Point),
            Over::Window(sizes) => Neighbourhood::Window(sizes.clone()),
            Over::Disk(radius) => Neighbourhood::Disk(*radius),
            Over::All => Neighbourhood::All,
            Over::Edges => Neighbourhood::Edges,
            Over::Radius { cutoff, .. } => Neighbourhood::Radius(*cutoff),
        };
        let Base::Points(id) = base else {
            return Err(not_derived(format!(
                "linear over {} of a signal that does not live on points",
                over_name(over)
            )));
        };
        self.places.domain(id).orbits(&neighbourhood).map_err(|e| refused(&e, over))
    }

    /// The input blocks joined by kind, in order of first appearance.
    fn sources(&mut self, inputs: &[Signal]) -> Vec<Source> {
        let mut sources: Vec<Source> = Vec::new();
        for part in inputs.iter().flat_map(|s| &s.parts) {
            let one_hot = self.graph.ty(part.val.id).relation;
            let found = sources.iter().position(|s| s.kind.same(&part.kind));
            let at = found.unwrap_or_else(|| {
                let component = (part.kind.dim() > 1).then(|| self.graph.axis());
                sources.push(Source { kind: part.kind.clone(), copies: 0, pieces: vec![], component, one_hot: true });
                sources.len() - 1
            });
            let source = &mut sources[at];
            let names: Vec<(Axis, Axis)> = part.component.into_iter().zip(source.component).collect();
            let renamed = Part { val: part.val.rename(&names), component: source.component, ..part.clone() };
            source.pieces.push((renamed, source.copies));
            source.copies += part.copies;
            source.one_hot &= one_hot;
        }
        sources
    }

    /// The kinds of the output, in order of first appearance.
    fn targets(&mut self, value: &Value) -> Vec<Target> {
        let mut targets: Vec<Target> = Vec::new();
        for Shape { kind, copies, .. } in self.shapes(&value.ty) {
            match targets.iter_mut().find(|t| t.kind.same(&kind)) {
                Some(target) => target.copies += copies,
                None => {
                    let component = (kind.dim() > 1).then(|| self.graph.axis());
                    targets.push(Target { kind, copies, copy: self.graph.axis(), component, terms: vec![] });
                }
            }
        }
        targets
    }

    /// All pairs of kinds with maps between them.
    pub(super) fn pairs(
        &mut self,
        layer: &Layer,
        mut coupling: impl FnMut(&mut Self, &Source, &Target) -> Result<Option<Coupling>, Diagnostic>,
    ) -> Result<Vec<Pair>, Diagnostic> {
        let mut pairs = Vec::new();
        for (t, target) in layer.targets.iter().enumerate() {
            for (s, source) in layer.sources.iter().enumerate() {
                if let Some(coupling) = coupling(self, source, target)? {
                    pairs.push(Pair { target: t, source: s, coupling });
                }
            }
        }
        Ok(pairs)
    }

    /// Declares the weight of pair `k`: `[out, in]`, or `[out, in, basis]`.
    pub(super) fn declare(&mut self, layer: &Layer, pairs: &[Pair], k: usize) -> Read {
        let pair = &pairs[k];
        let (target, source) = (&layer.targets[pair.target], &layer.sources[pair.source]);
        let name = pair_name(layer, pairs.len() == 1, target, source, "weight");
        let fan: f64 = pairs
            .iter()
            .filter(|p| p.target == pair.target)
            .map(|p| p.coupling.fan * effective_copies(&layer.sources[p.source]))
            .sum();
        let init = Init::Normal(1.0 / fan.max(f64::MIN_POSITIVE).sqrt());
        let basis = (pair.coupling.weights > 1).then_some(pair.coupling.weights);
        let dims: Vec<usize> = [target.copies, source.copies].into_iter().chain(basis).collect();
        let val = self.weight(name, &dims, init);
        let input = self.graph.axis();
        let mut names = vec![(val.axes[0], target.copy), (val.axes[1], input)];
        if let Join::Through { weight: Some(axis), .. } = pair.coupling.join
            && basis.is_some()
        {
            names.push((val.axes[2], axis));
        }
        Read { val: val.rename(&names), input }
    }

    /// `Σ weight · join · x` for each piece of the source. `seen` are the pieces as this orbit sees them, `factors` further operands,
    /// `place` the axes of the result besides copies and components.
    pub(super) fn products(
        &mut self,
        layer: &mut Layer,
        pair: &Pair,
        weight: &Read,
        seen: &[Val],
        factors: &[Val],
        place: &[Axis],
    ) {
        let source = &layer.sources[pair.source];
        let target = &layer.targets[pair.target];
        let mut terms = Vec::new();
        for ((part, offset), x) in source.pieces.iter().zip(seen) {
            let mut x = x.clone();
            let mut operands = vec![weight.val.clone()];
            operands.extend(self.piece(part, *offset, source.copies, weight.input, &mut x));
            match &pair.coupling.join {
                Join::Same => x = x.rename(&source.component.into_iter().zip(target.component).collect::<Vec<_>>()),
                Join::Everywhere => (),
                Join::Through { operand, .. } => operands.push(operand.clone()),
            }
            operands.push(x);
            operands.extend(factors.iter().cloned());
            let refs: Vec<&Val> = operands.iter().collect();
            let present = |a: &Axis| refs.iter().any(|v| v.has(*a));
            let own = [target.copy].into_iter().chain(target.component);
            let out: Vec<Axis> = place.iter().copied().chain(own).filter(present).collect();
            terms.push(self.graph.contract(&refs, &out));
        }
        layer.targets[pair.target].terms.extend(terms);
    }

    /// Reads a block under the input axis of the joined copies: by name where it is the only one, else through its slice.
    pub(super) fn piece(&mut self, part: &Part, offset: usize, copies: usize, input: Axis, x: &mut Val) -> Option<Val> {
        if part.copies == copies {
            *x = x.rename(&[(part.copy, input)]);
            return None;
        }
        let relation = slice(&mut self.graph, &[part.copies], &[1], offset, copies);
        let relation = relation.rename(&[(relation.axes[0], part.copy), (relation.axes[1], input)]);
        Some(relation)
    }

    fn over_point(&mut self, layer: &mut Layer) -> Result<Vec<Hom>, Diagnostic> {
        let pairs = self.point_pairs(layer, 1)?;
        let place = self.place(layer.base);
        for (k, pair) in pairs.iter().enumerate() {
            let weight = self.declare(layer, &pairs, k);
            let seen = layer.sources[pair.source].tensors();
            let first = layer.targets[pair.target].terms.len();
            self.products(layer, pair, &weight, &seen, &[], &place.axes);
            self.fourier_at_point(layer, pair, &weight, &seen, &place.axes, first)?;
        }
        Ok(homs(layer, &pairs))
    }

    /// The pairs with their pointwise maps, `orbits` times.
    pub(super) fn point_pairs(&mut self, layer: &Layer, orbits: usize) -> Result<Vec<Pair>, Diagnostic> {
        self.pairs(layer, |this, source, target| {
            let roles = Roles { out: target.component, input: source.component, cells: vec![] };
            let coupling = this.point_coupling(&source.kind, &target.kind, &roles)?;
            Ok(coupling.map(|c| Coupling { weights: c.weights * orbits, fan: c.fan * orbits as f64, ..c }))
        })
    }

    /// The basis elements of orbit `orbit` of a weight `[out, in, orbits · basis]`, made of `basis` elements an orbit.
    pub(super) fn orbit_of(&mut self, weight: &Read, pair: &Pair, orbit: usize, basis: usize) -> (Read, Option<Val>) {
        if pair.coupling.weights == 1 {
            return (weight.clone(), None);
        }
        let all = weight.val.axes[2];
        match &pair.coupling.join {
            Join::Through { weight: Some(axis), .. } => {
                let slice = slice(&mut self.graph, &[basis], &[1], orbit * basis, pair.coupling.weights);
                let whole = self.graph.axis();
                let slice = slice.rename(&[(slice.axes[0], *axis), (slice.axes[1], whole)]);
                (Read { val: weight.val.rename(&[(all, whole)]), input: weight.input }, Some(slice))
            }
            Join::Same | Join::Everywhere | Join::Through { weight: None, .. } => {
                let slice = slice(&mut self.graph, &[], &[], orbit, pair.coupling.weights);
                let slice = slice.rename(&[(slice.axes[0], all)]);
                (weight.clone(), Some(slice))
            }
        }
    }

    /// Adds the bias on the invariant part of each target.
    fn bias(&mut self, layer: &mut Layer, orbits: &Orbits) -> Result<(), Diagnostic> {
        let mut found = Vec::new();
        for (t, target) in layer.targets.iter().enumerate() {
            let roles = Roles { out: target.component, input: None, cells: vec![] };
            if let Some(coupling) = self.point_coupling(&Kind::Scalar, &target.kind, &roles)? {
                found.push((t, coupling));
            }
        }
        let only = found.len() == 1;
        for (t, coupling) in found {
            let target = layer.targets[t].clone();
            let patterns = self.output_patterns(layer.base, orbits);
            let name = if only {
                format!("{}.bias", layer.linear.name)
            } else {
                format!("{}.bias.{}", layer.linear.name, target.kind.tag())
            };
            let count = coupling.weights * patterns.len();
            let dims: Vec<usize> = [target.copies].into_iter().chain((count > 1).then_some(count)).collect();
            let val = self.weight(name, &dims, Init::Zeros);
            let val = val.rename(&[(val.axes[0], target.copy)]);
            for (k, pattern) in patterns.iter().enumerate() {
                let mut operands = vec![val.clone()];
                match &coupling.join {
                    Join::Through { operand, weight: Some(axis) } => {
                        let part = slice(&mut self.graph, &[coupling.weights], &[1], k * coupling.weights, count);
                        operands.push(part.rename(&[(part.axes[0], *axis), (part.axes[1], val.axes[1])]));
                        operands.push(operand.clone());
                    }
                    Join::Same | Join::Everywhere | Join::Through { weight: None, .. } => {
                        if count > 1 {
                            let part = slice(&mut self.graph, &[], &[], k, count);
                            operands.push(part.rename(&[(part.axes[0], val.axes[1])]));
                        }
                        if let Join::Through { operand, .. } = &coupling.join {
                            operands.push(operand.clone());
                        }
                    }
                }
                operands.extend(pattern.iter().cloned());
                let term = self.bias_term(&operands, &target, layer.base);
                layer.targets[t].terms.push(term);
            }
        }
        Ok(())
    }

    fn bias_term(&mut self, operands: &[Val], target: &Target, base: Base) -> Val {
        if let [only] = operands {
            return only.clone();
        }
        let place = self.place(base);
        let refs: Vec<&Val> = operands.iter().collect();
        let wanted = place.axes.iter().copied().chain([target.copy]).chain(target.component);
        let out: Vec<Axis> = wanted.filter(|a| refs.iter().any(|v| v.has(*a))).collect();
        self.graph.contract(&refs, &out)
    }

    /// Sums the terms of each target and cuts it into the blocks of the result.
    fn finish(&mut self, value: &Value, layer: Layer) -> Result<Signal, Diagnostic> {
        let whole: Vec<Part> = layer
            .targets
            .iter()
            .map(|t| {
                let val = sum(&mut self.graph, &t.terms);
                let part = Part {
                    kind: t.kind.clone(),
                    copies: t.copies,
                    block: 0,
                    val,
                    copy: t.copy,
                    component: t.component,
                };
                let own = crate::derive::place::Place::default();
                let bare = !part.val.has(part.copy);
                if bare { self.complete(&part, &own) } else { part }
            })
            .collect();
        let mut used = vec![0; whole.len()];
        let mut parts = Vec::new();
        for Shape { kind, copies, block, .. } in self.shapes(&value.ty) {
            let at = whole.iter().position(|p| p.kind.same(&kind)).expect("targets were made from these blocks");
            let (part, offset) = (&whole[at], used[at]);
            used[at] += copies;
            if part.copies == copies {
                parts.push(Part { block, ..part.clone() });
                continue;
            }
            let relation = slice(&mut self.graph, &[copies], &[1], offset, part.copies);
            let copy = self.graph.axis();
            let relation = relation.rename(&[(relation.axes[0], copy), (relation.axes[1], part.copy)]);
            let out: Vec<Axis> = part.val.axes.iter().map(|a| if *a == part.copy { copy } else { *a }).collect();
            let val = self.graph.contract(&[&part.val, &relation], &out);
            parts.push(Part { copies, block, val, copy, ..part.clone() });
        }
        Ok(Signal { base: value.ty.base, parts })
    }
}

/// The sum of terms; zero when there are none.
pub(super) fn sum(graph: &mut Graph, terms: &[Val]) -> Val {
    match terms {
        [] => graph.scalar(0.0),
        [only] => only.clone(),
        _ => graph.sum(&terms.iter().collect::<Vec<_>>()),
    }
}

fn effective_copies(source: &Source) -> f64 {
    if source.one_hot { 1.0 } else { source.copies as f64 }
}

/// The name of the weight between two kinds.
pub(super) fn pair_name(layer: &Layer, only: bool, target: &Target, source: &Source, word: &str) -> String {
    let prefix = &layer.linear.name;
    if only {
        format!("{prefix}.{word}")
    } else if target.kind.same(&source.kind) {
        format!("{prefix}.{word}.{}", target.kind.tag())
    } else {
        format!("{prefix}.{word}.{}.{}", target.kind.tag(), source.kind.tag())
    }
}

/// dim Hom of each pair of kinds, for the blueprint.
pub(super) fn homs(layer: &Layer, pairs: &[Pair]) -> Vec<Hom> {
    let hom = |p: &Pair| Hom {
        input: layer.sources[p.source].kind.to_string(),
        output: layer.targets[p.target].kind.to_string(),
        dim: p.coupling.weights,
        functions: 1,
    };
    pairs.iter().map(hom).collect()
}

/// The neighbourhood as in the source.
pub(super) fn over_name(over: &Over) -> String {
    match over {
        Over::Point => "point".into(),
        Over::Window(sizes) => sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
        Over::Disk(r) => format!("disk({r})"),
        Over::All => "all".into(),
        Over::Edges => "edges".into(),
        Over::Radius { cutoff, .. } => format!("{cutoff}"),
    }
}

fn refused(error: &DomainError, over: &Over) -> Diagnostic {
    match error {
        DomainError::NotDerived(what) | DomainError::NoCoarsening(what) => not_derived(what),
        DomainError::NoSuchNeighbourhood(what) => {
            Diagnostic::error("E0305", format!("there is no neighbourhood `{}` here: {what}", over_name(over)))
        }
        DomainError::NotInvariant { displacement, image } => {
            Diagnostic::error("E0306", format!("the window {} is not a union of orbits", over_name(over)))
                .why(format!("the group moves {displacement:?}, which is in the window, to {image:?}, which is not"))
        }
        DomainError::BadConstruction(why) => Diagnostic::error("E0305", why.clone()),
        DomainError::WrongGroup { group, why } => {
            Diagnostic::error("E0305", format!("{group} does not act here: {why}"))
        }
        DomainError::NotDivisible { size, factor } => {
            Diagnostic::error("E0401", format!("{size:?} is not divisible by {factor}"))
        }
    }
}
