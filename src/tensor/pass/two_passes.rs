//! A program and its derivatives by reverse mode, cut in two: a forward pass that also hands on what the backward pass reads of it
//! (residuals, saved tensors), and a backward pass that takes it instead of computing it again. Which values these are is chosen elsewhere.

use crate::base::arena::Arena;
use crate::base::size::Size;
use crate::tensor::graph::{Axis, Graph, Input, InputKind, Val};
use crate::tensor::op::{Func, Node, Op, Slot, ValueId};
use crate::tensor::pass::dce::dce;
use crate::tensor::pass::derivatives;
use crate::tensor::translate::Translation;

/// A program and its derivatives by reverse mode as one program.
#[derive(Clone, Debug)]
pub struct Joint {
    /// Inputs: those of the program, then cotangents. Outputs: those of the program, then the derivatives.
    pub graph: Graph,
    /// How many inputs and outputs the program has.
    pub inputs: usize,
    pub outputs: usize,
}

/// A value that is kept, in memory row-major: memory axis `k` is axis `order[k]` of its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    pub id: ValueId,
    pub order: Vec<usize>,
}

impl Joint {
    /// Of a program. A value that is also computed apart, so that it can be compared bit for bit (`Func::Same`), is that value wherever it is
    /// read: kept once, it serves both passes.
    pub fn of(graph: &Graph) -> Joint {
        let joint = derivatives::joint(graph);
        let is_same = |node: &Node| node.op == Op::Map(Func::Same);
        let mut compared = vec![false; joint.len()];
        joint
            .nodes()
            .filter(|(_, node)| is_same(node))
            .for_each(|(_, node)| compared[usize::from(node.args[0])] = true);
        let mut res = Translation::new(&joint);
        for (id, node) in joint.nodes() {
            let slots = |slots: &[Slot]| slots.iter().map(|slot| Axis(*slot)).collect::<Vec<_>>();
            if is_same(node) {
                let value = res.read(node.args[0], &slots(&node.reads[0]));
                res.set(id, node, value);
                continue;
            }
            res.add(id, node);
            if compared[usize::from(id)] {
                let value = res.read(id, &slots(&node.out));
                let apart = res.graph.map(Func::Same, &[&value]);
                res.set(id, node, apart);
            }
        }
        res.outputs(&joint.outputs);
        res.equalities(&joint.equalities);
        Joint { graph: dce(&res.graph), inputs: graph.inputs.len(), outputs: graph.outputs.len() }
    }

    /// Which values depend on a cotangent.
    pub fn depends(&self) -> Vec<bool> {
        let mut res = vec![false; self.graph.len()];
        for (id, node) in self.graph.nodes() {
            let cotangent = matches!(node.op, Op::Input(input) if input.index() >= self.inputs);
            res[usize::from(id)] = cotangent || node.args.iter().any(|arg| res[usize::from(*arg)]);
        }
        res
    }

    /// The forward pass: the inputs and outputs of the program, then the values to keep, `kept.0`, `kept.1`, ..
    pub fn forward(&self, kept: &[Kept]) -> Graph {
        let mut res = self.graph.clone();
        res.outputs.truncate(self.outputs);
        for (k, Kept { id, order }) in kept.iter().enumerate() {
            let value = res.fresh(*id);
            let axes: Vec<Axis> = order.iter().map(|axis| value.axes[*axis]).collect();
            res.output(name(k), &value, &axes);
        }
        let mut res = dce(&res);
        let mut own = Arena::new();
        // cotangents come last, so that the ids of the others stay
        self.graph.inputs.iter().take(self.inputs).for_each(|(_, input)| {
            own.push(input.clone());
        });
        res.inputs = own;
        res
    }

    /// The backward pass: the inputs and outputs of the derivatives; after the inputs the values that were kept.
    pub fn backward(&self, kept: &[Kept]) -> Graph {
        let mut res = Translation::new(&self.graph);
        for (id, node) in self.graph.nodes() {
            let Some(k) = kept.iter().position(|kept| kept.id == id) else {
                res.add(id, node);
                continue;
            };
            let order = &kept[k].order;
            let dims = order.iter().map(|axis| self.graph.ty(id).dims[*axis]).collect();
            let input = res.graph.input(Input { name: name(k), dims, kind: InputKind::Real });
            let axes = order.iter().map(|axis| Axis(node.out[*axis])).collect();
            res.set(id, node, Val { id: input.id, axes });
        }
        res.outputs(&self.graph.outputs[self.outputs..]);
        dce(&res.graph)
    }
}

impl Kept {
    /// A value with its run-time axes outside.
    pub fn new(graph: &Graph, id: ValueId) -> Kept {
        let dims = &graph.ty(id).dims;
        let mut order: Vec<usize> = (0..dims.len()).collect();
        order.sort_by_key(|axis| dims[*axis].as_fixed().is_some());
        Kept { id, order }
    }

    /// Puts first an axis along which an input has its rows (samples, points, edges), so that rows of a longer input are more rows of this.
    pub fn lead(&mut self, graph: &Graph) {
        let dims = &graph.ty(self.id).dims;
        let rows: Vec<Size> = graph.inputs.iter().filter_map(|(_, input)| input.dims.first().copied()).collect();
        if let Some(first) = self.order.iter().position(|axis| rows.contains(&dims[*axis])) {
            self.order[..=first].rotate_right(1);
        }
    }
}

/// What no name in a source is: a word after a point begins with a letter there.
fn name(k: usize) -> String {
    format!("kept.{k}")
}

/// Whether an input of a backward pass is a value that was kept.
pub fn is_kept(input: &Input) -> bool {
    input.name.strip_prefix("kept.").is_some_and(|k| k.starts_with(|c: char| c.is_ascii_digit()))
}
