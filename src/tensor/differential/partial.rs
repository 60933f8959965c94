//! A node as linear maps of its operands: the derivative at the values it is computed from.

use crate::base::size::Size;
use crate::tensor::differential::scalar::{affine, slope};
use crate::tensor::graph::{Axis, Graph, Val, union};
use crate::tensor::op::{Func, Op, Reduction, Slot, ValueId};

/// A node under fresh names for its slots.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) operands: Vec<Val>,
    /// The result, under the names of its slots.
    pub(super) value: Val,
    sizes: Vec<(Axis, Size)>,
}

/// Opens the node of a value that is no leaf.
pub(super) fn open(graph: &mut Graph, id: ValueId) -> Opened {
    let node = graph.node(id).clone();
    let count = node.reads.iter().flatten().map(|s| *s as usize + 1).max().unwrap_or(0);
    let names: Vec<Axis> = (0..count).map(|_| graph.axis()).collect();
    let named = |slots: &[Slot]| slots.iter().map(|s| names[*s as usize]).collect::<Vec<Axis>>();
    let operands: Vec<Val> =
        node.args.iter().zip(&node.reads).map(|(arg, reads)| Val { id: *arg, axes: named(reads) }).collect();
    let mut sizes: Vec<(Axis, Size)> = Vec::new();
    for (axis, size) in operands.iter().flat_map(|v| v.axes.iter().zip(&graph.ty(v.id).dims)) {
        if sizes.iter().all(|(known, _)| known != axis) {
            sizes.push((*axis, *size));
        }
    }
    Opened { operands, value: Val { id, axes: named(&node.out) }, sizes }
}

impl Opened {
    /// The factors of the linear map that carries a change of operand `k` to the result: `ẏ = Σ Π factors · ẋ_k`.
    /// None where it is zero.
    pub(super) fn partial(&self, graph: &mut Graph, k: usize) -> Option<Vec<Val>> {
        match graph.node(self.value.id).op.clone() {
            Op::Contract => {
                Some(self.operands.iter().enumerate().filter(|(i, _)| *i != k).map(|(_, v)| v.clone()).collect())
            }
            Op::Sum | Op::View => Some(vec![]),
            Op::Map(f) => slope(graph, f, &self.operands, &self.value, k).map(|s| vec![s]),
            Op::Reduce(how) => Some(self.reduction(graph, how)),
            Op::Input(_) | Op::Weight(_) | Op::Constant(_) | Op::Relation(_) => unreachable!("a leaf has no operands"),
        }
    }

    /// `Σ Π factors · moving` over the axes of the node that are not in `to`; it may lack axes of `to` along which it is constant.
    pub(super) fn product(&self, graph: &mut Graph, factors: &[Val], moving: &Val, to: &[Axis]) -> Val {
        let mut operands: Vec<Val> = factors.to_vec();
        operands.push(moving.clone());
        for (axis, size) in &self.sizes {
            if !to.contains(axis) && operands.iter().all(|v| !v.has(*axis)) {
                operands.push(graph.ones(*axis, *size));
            }
        }
        let operands: Vec<&Val> = operands.iter().collect();
        let out: Vec<Axis> = union(&operands).into_iter().filter(|a| to.contains(a)).collect();
        match operands[..] {
            [only] if only.axes == out && !graph.ty(only.id).relation => only.clone(),
            _ => graph.contract(&operands, &out),
        }
    }

    /// The weights with which the elements of a row share a change of its reduction. They are compared under the axes that
    /// no function determines, where the row's value is known: `w` of
    /// - `logsumexp`: `exp(x - y)`;
    /// - `max`: 1 where `x` is not less than `y`, over the number of such elements.
    fn reduction(&self, graph: &mut Graph, how: Reduction) -> Vec<Val> {
        let (x, relations) = self.operands.split_first().expect("a reduction has an operand");
        let row = Row { relations: relations.to_vec() };
        let x = row.spread(graph, x);
        let mut factors = relations.to_vec();
        match how {
            Reduction::LogSumExp => {
                let y = row.spread(graph, &self.value);
                let minus = graph.scale(&y, -1.0);
                let mut less = graph.sum(&[&x, &minus]);
                if !relations.is_empty() {
                    // what is of no row or of another may lie above: it must not overflow
                    let zero = graph.scalar(0.0);
                    less = graph.map(Func::Min, &[&less, &zero]);
                }
                factors.push(graph.map(Func::Exp, &[&less]));
            }
            Reduction::Max | Reduction::Min => {
                let x = graph.map(Func::Same, &[&x]);
                let y = graph.reduce(how, &x, &relations.iter().collect::<Vec<_>>(), &self.value.axes);
                let y = row.spread(graph, &y);
                let beaten = if how == Reduction::Max { [&y, &x] } else { [&x, &y] };
                let beaten = graph.map(Func::Greater, &beaten);
                let attained = affine(graph, &beaten, -1.0, 1.0);
                let operands: Vec<&Val> = [&attained].into_iter().chain(relations).collect();
                let count = graph.contract(&operands, &self.value.axes);
                factors.push(graph.map(Func::SafeRecip, &[&count]));
                factors.push(attained);
            }
        }
        factors
    }
}

/// The elements that are reduced together.
struct Row {
    relations: Vec<Val>,
}

impl Row {
    /// A value under the axes that no function determines.
    fn spread(&self, graph: &mut Graph, x: &Val) -> Val {
        let determined = |a: &Axis| self.relations.iter().any(|r| r.axes.last() == Some(a));
        if !x.axes.iter().any(determined) {
            return x.clone();
        }
        let operands: Vec<&Val> = [x].into_iter().chain(&self.relations).collect();
        let out: Vec<Axis> = union(&operands).into_iter().filter(|a| !determined(a)).collect();
        graph.contract(&operands, &out)
    }
}
