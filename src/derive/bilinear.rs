//! `bilinear F (a, b)`: from Hom(rho_a (x) rho_b, rho_F).
//!
//! In: two signals on one base. Out: a weight for every map between copies: `<name>.weight...` `[out, a, b]`, with a last axis over the basis
//! where Hom has more than one dimension. Depthwise keeps channels to themselves: copy u of the output is made of copy u of `a` (and of `b`,
//! or of the one copy that `b` has): `[copies]` or `[copies, basis]`. Names: `.weight` for a single triple of kinds, else
//! `.weight.<out>.<a>.<b>`. Maps between irreps are e3nn's Wigner 3j times `sqrt(dim out)`.

use crate::base::diagnostic::Diagnostic;
use crate::derive::derivation::{Derivation, not_derived};
use crate::derive::hom::{Tables, rep_of};
use crate::derive::linear::sum;
use crate::derive::place::Place;
use crate::derive::signal::{Kind, Part, Shape, Signal};
use crate::math::Matrix;
use crate::sema::hir::Value;
use crate::symmetry::{GroupRef, Rep, equivariant_basis};
use crate::tensor::graph::{Axis, Constant, Init, Val};

/// The maps from one block of each operand to one block of the result.
#[derive(Debug)]
struct Triple {
    out: usize,
    a: usize,
    b: usize,
    /// Matrices `out x (a · b)`.
    maps: Vec<Matrix>,
    /// The variance of a component of the result for unit weights and inputs.
    fan: f64,
}

impl Derivation<'_> {
    pub(super) fn bilinear(&mut self, value: &Value, name: &str, depthwise: bool) -> Result<Signal, Diagnostic> {
        let (a, b) = (self.operand(value, 0), self.operand(value, 1));
        let b = self.apart(&b);
        let shapes = self.shapes(&value.ty);
        let triples = triples(&a, &b, &shapes, depthwise)?;
        let mut fans = vec![0.0; shapes.len()];
        triples.iter().for_each(|t| fans[t.out] += t.fan);
        let mut results: Vec<Part> = Vec::new();
        for shape in &shapes {
            let (copy, component) = (self.graph.axis(), (shape.kind.dim() > 1).then(|| self.graph.axis()));
            let zero = self.graph.scalar(0.0);
            results.push(Part {
                kind: shape.kind.clone(),
                copies: shape.copies,
                block: shape.block,
                val: zero,
                copy,
                component,
            });
        }
        let mut used: Vec<String> = Vec::new();
        let mut terms: Vec<Vec<Val>> = vec![vec![]; shapes.len()];
        for triple in &triples {
            let (x, y, z) = (&a.parts[triple.a], &b.parts[triple.b], &results[triple.out]);
            let fan = fans[triple.out];
            let name = distinct(weight_name(name, triples.len() == 1, z, x, y), &mut used);
            let term = if depthwise {
                self.channels(&name, triple, fan, x, y, z)?
            } else {
                self.all_pairs(&name, triple, fan, x, y, z)
            };
            terms[triple.out].push(term);
        }
        let mut parts = Vec::new();
        for (part, terms) in results.iter().zip(&terms) {
            let val = sum(&mut self.graph, terms);
            let part = part.with(val);
            parts.push(if terms.is_empty() { self.complete(&part, &Place::default()) } else { part });
        }
        Ok(Signal { base: value.ty.base, parts })
    }

    /// The same signal under copy axes of its own: the two operands may be one value.
    fn apart(&mut self, x: &Signal) -> Signal {
        let fresh = |p: &Part| {
            let copy = self.graph.axis();
            Part { val: p.val.rename(&[(p.copy, copy)]), copy, ..p.clone() }
        };
        Signal { base: x.base, parts: x.parts.iter().map(fresh).collect() }
    }

    fn all_pairs(&mut self, name: &str, triple: &Triple, fan: f64, x: &Part, y: &Part, z: &Part) -> Val {
        let count = triple.maps.len();
        let dims: Vec<usize> = [z.copies, x.copies, y.copies].into_iter().chain((count > 1).then_some(count)).collect();
        let weight = self.weight(name.into(), &dims, Init::Normal(1.0 / fan.sqrt()));
        let weight = weight.rename(&[(weight.axes[0], z.copy), (weight.axes[1], x.copy), (weight.axes[2], y.copy)]);
        let basis = weight.axes.get(3).copied();
        self.product(triple, &weight, basis, x, y, z)
    }

    fn channels(
        &mut self,
        name: &str,
        triple: &Triple,
        fan: f64,
        x: &Part,
        y: &Part,
        z: &Part,
    ) -> Result<Val, Diagnostic> {
        if x.copies != z.copies || !(y.copies == 1 || y.copies == z.copies) {
            return Err(not_derived(format!(
                "depthwise bilinear of {} and {} copies into {}",
                x.copies, y.copies, z.copies
            )));
        }
        let count = triple.maps.len();
        let dims: Vec<usize> = [z.copies].into_iter().chain((count > 1).then_some(count)).collect();
        let weight = self.weight(name.into(), &dims, Init::Normal(1.0 / fan.sqrt()));
        let weight = weight.rename(&[(weight.axes[0], z.copy)]);
        let basis = weight.axes.get(1).copied();
        let x = x.with(x.val.rename(&[(x.copy, z.copy)]));
        let y = if y.copies == z.copies { y.with(y.val.rename(&[(y.copy, z.copy)])) } else { y.clone() };
        Ok(self.product(triple, &weight, basis, &x, &y, z))
    }

    /// `Σ weight · map · x · y` over everything but the axes of `z` and of the place.
    fn product(&mut self, triple: &Triple, weight: &Val, basis: Option<Axis>, x: &Part, y: &Part, z: &Part) -> Val {
        let second = y.component.map(|_| self.graph.axis());
        let y_val = y.val.rename(&y.component.into_iter().zip(second).collect::<Vec<_>>());
        let roles = [(z.component, z.kind.dim()), (x.component, x.kind.dim()), (second, y.kind.dim())];
        let axes: Vec<(Axis, usize)> = roles.iter().filter_map(|(a, n)| a.map(|a| (a, *n))).collect();
        let data: Vec<f64> = triple.maps.iter().flat_map(|m| m.as_slice().to_vec()).collect();
        let dims: Vec<usize> =
            basis.map(|_| triple.maps.len()).into_iter().chain(axes.iter().map(|(_, n)| *n)).collect();
        let name = format!("Hom({} x {}, {})", x.kind.tag(), y.kind.tag(), z.kind.tag());
        let map = self.graph.constant(Constant { name, dims, data: data.into() });
        let names = basis.into_iter().chain(axes.iter().map(|(a, _)| *a));
        let map = map.rename(&map.axes.iter().copied().zip(names).collect::<Vec<_>>());
        let operands = [weight, &map, &x.val, &y_val];
        let own = [x.copy, y.copy].into_iter().filter(|a| *a != z.copy).chain(x.component).chain(second).chain(basis);
        let bound: Vec<Axis> = own.collect();
        let out: Vec<Axis> =
            crate::tensor::graph::union(&operands).into_iter().filter(|a| !bound.contains(a)).collect();
        self.graph.contract(&operands, &out)
    }
}

fn triples(a: &Signal, b: &Signal, shapes: &[Shape], depthwise: bool) -> Result<Vec<Triple>, Diagnostic> {
    let mut tables = Tables::default();
    for (Shape { kind: out, .. }, x, y) in
        shapes.iter().flat_map(|s| a.parts.iter().flat_map(move |x| b.parts.iter().map(move |y| (s, x, y))))
    {
        if couples(&x.kind, &y.kind, out)? {
            tables.count([x.kind.dim(), y.kind.dim(), out.dim()]);
        }
    }
    tables.admit()?;
    let mut found = Vec::new();
    for (o, Shape { kind: out, .. }) in shapes.iter().enumerate() {
        for (i, x) in a.parts.iter().enumerate() {
            for (j, y) in b.parts.iter().enumerate() {
                let maps = maps(&x.kind, &y.kind, out)?;
                if !maps.is_empty() {
                    let square: f64 = maps.iter().flat_map(|m| m.as_slice()).map(|x| x * x).sum();
                    let channels = if depthwise { 1 } else { x.copies * y.copies };
                    let fan = square / out.dim() as f64 * channels as f64;
                    found.push(Triple { out: o, a: i, b: j, maps, fan });
                }
            }
        }
    }
    Ok(found)
}

/// The three representations under one group; none where all are scalars.
fn reps(a: &Kind, b: &Kind, out: &Kind) -> Result<Option<[Rep; 3]>, Diagnostic> {
    let group = [a, b, out].into_iter().find_map(|k| match k {
        Kind::Rep(rep) => Some(rep.group().clone()),
        Kind::Scalar | Kind::Position(_) => None,
    });
    let Some(group): Option<GroupRef> = group else { return Ok(None) };
    Ok(Some([rep_of(a, &group)?, rep_of(b, &group)?, rep_of(out, &group)?]))
}

/// Whether there may be maps from a (x) b to out: by the selection rule for irreps, without computing any.
fn couples(a: &Kind, b: &Kind, out: &Kind) -> Result<bool, Diagnostic> {
    let Some([x, y, z]) = reps(a, b, out)? else { return Ok(true) };
    Ok(match (x.as_irrep(), y.as_irrep(), z.as_irrep()) {
        (Some(i), Some(j), Some(k)) => x.group().tensor_product(i, j).contains(&k),
        _ => true,
    })
}

/// A basis of Hom(a (x) b, out), of Frobenius norm `sqrt(dim out)` each between irreps.
fn maps(a: &Kind, b: &Kind, out: &Kind) -> Result<Vec<Matrix>, Diagnostic> {
    let Some([x, y, z]) = reps(a, b, out)? else { return Ok(vec![Matrix::identity(1)]) };
    let scale = (out.dim() as f64).sqrt();
    if let (Some(i), Some(j), Some(k)) = (x.as_irrep(), y.as_irrep(), z.as_irrep()) {
        return Ok(x.group().clebsch_gordan(i, j, k).iter().map(|c| c.to_map().scale(scale)).collect());
    }
    Ok(general(&x, &y, &z))
}

fn general(x: &Rep, y: &Rep, z: &Rep) -> Vec<Matrix> {
    equivariant_basis(&x.tensor(y), z)
}

fn weight_name(prefix: &str, only: bool, z: &Part, x: &Part, y: &Part) -> String {
    if only {
        format!("{prefix}.weight")
    } else {
        format!("{prefix}.weight.{}.{}.{}", z.kind.tag(), x.kind.tag(), y.kind.tag())
    }
}

/// The name, with `.2`, `.3`, ... where blocks of one kind meet more than once.
fn distinct(name: String, used: &mut Vec<String>) -> String {
    let free = (1..)
        .map(|k| if k == 1 { name.clone() } else { format!("{name}.{k}") })
        .find(|n| !used.contains(n))
        .unwrap_or(name);
    used.push(free.clone());
    free
}
