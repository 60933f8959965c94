//! Values of one graph, or classes of an e-graph, made again in another graph.
//! Canonical form depends on the numbers of operands, so each node is read under names and built anew;
//! views are not made again: their readers read the viewed value.

use std::collections::BTreeMap;

use crate::tensor::equality::Equality;
use crate::tensor::graph::{Axis, Graph, Output, Val};
use crate::tensor::node;
use crate::tensor::op::{Node, Op, Slot, ValueId};

/// A graph under construction, and where the old values are in it.
#[derive(Clone, Debug)]
pub struct Translation {
    pub graph: Graph,
    /// The new value of an old one; its axis `k` is called after the axis of the old value that it is.
    /// Two may have one name: the old value is a diagonal of the new one.
    values: BTreeMap<ValueId, Val>,
}

impl Translation {
    /// Into a graph with the tables of `old`.
    pub fn new(old: &Graph) -> Translation {
        Translation { graph: old.tables(), values: BTreeMap::new() }
    }

    /// The new value of `old`, read under `axes`, a name for each axis of `old`. `old` was translated.
    pub fn read(&self, old: ValueId, axes: &[Axis]) -> Val {
        let new = &self.values[&old];
        Val { id: new.id, axes: new.axes.iter().map(|k| axes[k.0 as usize]).collect() }
    }

    /// Whether `old` was translated.
    pub fn has(&self, old: ValueId) -> bool {
        self.values.contains_key(&old)
    }

    /// The node with the new operands, and the names of its axes, where a name is the slot of the old node.
    pub fn renewed(&self, node: &Node) -> (Node, Vec<Axis>) {
        if node.op.is_leaf() {
            return (node.clone(), (0..node.out.len() as u32).map(Axis).collect());
        }
        let operands: Vec<Val> = node
            .args
            .iter()
            .zip(&node.reads)
            .map(|(arg, reads)| self.read(*arg, &reads.iter().map(|s| Axis(*s)).collect::<Vec<_>>()))
            .collect();
        let out: Vec<Axis> = node.out.iter().map(|s| Axis(*s)).collect();
        node::make(node.op.clone(), &operands.iter().collect::<Vec<_>>(), &out)
    }

    /// Makes `node`, the old value `id`, whose operands were translated.
    pub fn add(&mut self, id: ValueId, node: &Node) {
        let value = match node.op {
            Op::View => self.read(node.args[0], &node.reads[0].iter().map(|s| Axis(*s)).collect::<Vec<_>>()),
            Op::Input(_)
            | Op::Weight(_)
            | Op::Constant(_)
            | Op::Relation(_)
            | Op::Contract
            | Op::Sum
            | Op::Map(_)
            | Op::Reduce(_) => {
                let (new, axes) = self.renewed(node);
                Val { id: self.graph.add(new), axes }
            }
        };
        self.set(id, node, value);
    }

    /// Says that the old value `id`, made by `node`, is `value`, whose axes are called after the slots of `node`.
    pub fn set(&mut self, id: ValueId, node: &Node, value: Val) {
        let place = |a: &Axis| node.out.iter().position(|s| *s == a.0).expect("an axis of the result") as u32;
        let axes = value.axes.iter().map(|a| Axis(place(a))).collect();
        self.values.insert(id, Val { id: value.id, axes });
    }

    /// Makes the outputs of the old graph, whose values were translated.
    pub fn outputs(&mut self, old: &[Output]) {
        for output in old {
            let axes: Vec<Axis> = (0..output.order.len() as u32).map(Axis).collect();
            let value = self.read(output.id, &axes);
            let diagonal = value.axes.len() > axes.len();
            let value = if diagonal { self.graph.contract(&[&value], &axes) } else { value };
            let order: Vec<Axis> = output.order.iter().map(|&k| axes[k]).collect();
            self.graph.output(&output.name, &value, &order);
        }
    }
}

impl Translation {
    /// States the equalities of the old graph both of whose sides were translated.
    pub fn equalities(&mut self, old: &[Equality]) {
        for equality in old {
            if !self.has(equality.written) || !self.has(equality.other) {
                continue;
            }
            let names: Vec<Axis> = (0..equality.order.len() as u32).map(Axis).collect();
            let written = self.read(equality.written, &names);
            let other = equality.other_under(&names);
            let other = self.read(equality.other, &other.axes);
            let diagonal = [&written, &other].iter().any(|side| side.axes.len() > names.len());
            if written.id != other.id && !diagonal {
                self.graph.equal(&written, &other, equality.theorem, &equality.of);
            }
        }
    }
}

/// Makes a node of another graph or e-graph, whose operands `made` gives with axes called after their places; so is
/// the result. A view is the viewed value; two of its axes may have one name.
pub fn remade<'a>(graph: &mut Graph, node: &Node, made: impl Fn(ValueId) -> &'a Val) -> Val {
    let operand = |(arg, reads): (&ValueId, &Vec<Slot>)| {
        let new = made(*arg);
        Val { id: new.id, axes: new.axes.iter().map(|k| Axis(reads[k.0 as usize])).collect() }
    };
    let operands: Vec<Val> = node.args.iter().zip(&node.reads).map(operand).collect();
    let out: Vec<Axis> = node.out.iter().map(|s| Axis(*s)).collect();
    let (id, axes) = match node.op {
        Op::View => (operands[0].id, operands[0].axes.clone()),
        Op::Input(_) | Op::Weight(_) | Op::Constant(_) | Op::Relation(_) => (graph.add(node.clone()), out),
        Op::Contract | Op::Sum | Op::Map(_) | Op::Reduce(_) => {
            let (new, axes) = node::make(node.op.clone(), &operands.iter().collect::<Vec<_>>(), &out);
            (graph.add(new), axes)
        }
    };
    let place = |a: &Axis| Axis(node.out.iter().position(|s| *s == a.0).expect("an axis of the result") as u32);
    Val { id, axes: axes.iter().map(place).collect() }
}
