//! Values that a theorem says are equal: another program for the same numbers, for rewriting to choose from.
//!
//! Who builds a graph may know more of a value than tensor algebra does: that a kernel is equivariant, say. It then states both
//! programs and the theorem. Nothing reads the other program until rewriting has chosen it, so a graph means the same without its
//! equalities: a pass may drop them, and drops those of values that no output needs.

use crate::tensor::eval::{Arguments, eval_all};
use crate::tensor::graph::{Axis, Graph, Val};
use crate::tensor::op::ValueId;

/// A theorem, for the person who reads a derivation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theorem {
    /// A word or two, as of a law: `canonicalise`.
    pub name: &'static str,
    /// What it says, as an equation.
    pub equation: &'static str,
}

/// Two values of a graph, equal by a theorem.
#[derive(Clone, Debug, PartialEq)]
pub struct Equality {
    /// The value that the program reads.
    pub written: ValueId,
    /// What it may read instead.
    pub other: ValueId,
    /// Axis `k` of `other` is axis `order[k]` of `written`.
    pub order: Vec<usize>,
    pub theorem: Theorem,
    /// What the value is, for reports: the name of a layer.
    pub of: String,
}

impl Equality {
    /// The other value, read under the names of the axes of the written one.
    pub fn other_under(&self, names: &[Axis]) -> Val {
        Val { id: self.other, axes: self.order.iter().map(|k| names[*k]).collect() }
    }
}

impl Graph {
    /// States that two values are equal, `written` being the one that the program reads. Both have the same axes.
    pub fn equal(&mut self, written: &Val, other: &Val, theorem: Theorem, of: &str) {
        let place =
            |a: &Axis| written.axes.iter().position(|b| a == b).expect("both sides of an equality have the same axes");
        let order = other.axes.iter().map(place).collect();
        self.equalities.push(Equality { written: written.id, other: other.id, order, theorem, of: of.into() });
    }

    /// The same program, that states nothing.
    pub fn without_equalities(&self) -> Graph {
        let mut res = self.clone();
        res.equalities.clear();
        res
    }

    /// The values that outputs need, and with `equalities` those that may stand for one of them.
    pub fn needed(&self, equalities: bool) -> Vec<bool> {
        self.needed_by(self.outputs.iter().map(|o| o.id), equalities)
    }

    /// The same for these values.
    pub fn needed_by(&self, values: impl Iterator<Item = ValueId>, equalities: bool) -> Vec<bool> {
        let mut needed = vec![false; self.len()];
        values.for_each(|id| needed[usize::from(id)] = true);
        loop {
            for (id, node) in self.nodes().rev() {
                if needed[usize::from(id)] {
                    node.args.iter().for_each(|arg| needed[usize::from(*arg)] = true);
                }
            }
            let is_new = |e: &&Equality| needed[usize::from(e.written)] && !needed[usize::from(e.other)];
            let new: Vec<ValueId> = self.equalities.iter().filter(is_new).map(|e| e.other).collect();
            if !equalities || new.is_empty() {
                return needed;
            }
            new.iter().for_each(|id| needed[usize::from(*id)] = true);
        }
    }
}

/// Whether both sides of an equality have the type that it says. Fails with the reason.
pub fn verify_equality(graph: &Graph, equality: &Equality) -> Result<(), String> {
    let Equality { written, other, order, .. } = equality;
    if [written, other].iter().any(|id| usize::from(**id) >= graph.len()) {
        return Err("a side does not exist".into());
    }
    let (a, b) = (graph.ty(*written), graph.ty(*other));
    let mut places = order.clone();
    places.sort_unstable();
    if places != (0..a.dims.len()).collect::<Vec<_>>() || a.dims.len() != b.dims.len() {
        return Err(format!("%{other} does not have the axes of %{written}"));
    }
    if a.relation || b.relation || order.iter().zip(&b.dims).any(|(k, dim)| a.dims[*k] != *dim) {
        return Err(format!("%{written} is {a:?} and %{other} is {b:?}"));
    }
    Ok(())
}

/// For each equality the largest difference of its sides on these arguments, relative to the largest number of the written one.
/// Fails where the program cannot be evaluated.
pub fn deviations(graph: &Graph, arguments: &Arguments) -> Result<Vec<f64>, String> {
    let all = eval_all(graph, arguments)?;
    let numbers = |id: ValueId| all[usize::from(id)].numbers();
    let one = |e: &Equality| {
        let written = numbers(e.written).permuted(&e.order);
        let largest = written.data.iter().fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
        let other = numbers(e.other);
        let pairs = written.data.iter().zip(&other.data);
        let difference = |(x, y): (&f64, &f64)| if x == y { 0.0 } else { (x - y).abs() / largest };
        // a number that is not a number is a difference
        pairs.map(difference).fold(0.0, |m, d| if f64::is_nan(m) || d <= m { m } else { d })
    };
    Ok(graph.equalities.iter().map(one).collect())
}
