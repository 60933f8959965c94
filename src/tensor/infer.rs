//! The only shape rule: the type of a node from the types of its operands.
//! The builder, the verifier and the e-class analysis all ask here.

use crate::base::size::Size;
use crate::tensor::graph::{Graph, InputKind, Needs, Type};
use crate::tensor::op::{Node, Op, Slot, ValueId};

/// The sizes of the axes of a leaf.
pub fn leaf_dims(graph: &Graph, op: &Op) -> Vec<Size> {
    match op {
        Op::Input(id) => graph.inputs[*id].dims.clone(),
        Op::Weight(id) => graph.weights[*id].dims.iter().map(|n| Size::fixed(*n)).collect(),
        Op::Constant(id) => graph.constants[*id].dims.iter().map(|n| Size::fixed(*n)).collect(),
        Op::Relation(id) => {
            let relation = &graph.relations[*id];
            relation.from.iter().copied().chain([relation.to]).collect()
        }
        Op::Contract | Op::Sum | Op::Map(_) | Op::Reduce(_) | Op::View => panic!("{op:?} is not a leaf"),
    }
}

fn leaf_type(graph: &Graph, op: &Op) -> Type {
    use crate::tensor::graph::Function;
    let kind = |id| match &graph.inputs[id].kind {
        InputKind::Real | InputKind::Index { .. } => Needs { data: true, ..Needs::default() },
        InputKind::Table { .. } => Needs { tables: true, ..Needs::default() },
    };
    let needs = match op {
        Op::Input(id) => kind(*id),
        Op::Weight(_) => Needs { weights: true, ..Needs::default() },
        Op::Relation(id) => match &graph.relations[*id].map {
            Function::Table(input) => kind(*input),
            Function::Paired(paired) => kind(paired.ends[0]).and(kind(paired.ends[1])),
            Function::Constant(_) | Function::Affine { .. } => Needs::default(),
        },
        Op::Constant(_) | Op::Contract | Op::Sum | Op::Map(_) | Op::Reduce(_) | Op::View => Needs::default(),
    };
    Type { dims: leaf_dims(graph, op), relation: matches!(op, Op::Relation(_)), needs }
}

/// The type of `node`, whose leaves live in the tables of `graph`. Fails with the reason when it has none.
pub fn infer(graph: &Graph, node: &Node, operand: impl Fn(ValueId) -> Type) -> Result<Type, String> {
    if node.op.is_leaf() {
        return Ok(leaf_type(graph, &node.op));
    }
    if node.args.len() != node.reads.len() {
        return Err("as many lists of reads as operands are needed".into());
    }
    let mut sizes: Vec<(Slot, Size)> = Vec::new();
    let mut needs = Needs::default();
    for (arg, reads) in node.args.iter().zip(&node.reads) {
        let ty = operand(*arg);
        needs = needs.and(ty.needs);
        if ty.dims.len() != reads.len() {
            return Err(format!("operand {arg} has {} axes and is read with {}", ty.dims.len(), reads.len()));
        }
        for (slot, size) in reads.iter().zip(&ty.dims) {
            match sizes.iter().find(|(s, _)| s == slot) {
                Some((_, known)) if known != size => {
                    return Err(format!("slot {slot} is both {known:?} and {size:?}"));
                }
                Some(_) => (),
                None => sizes.push((*slot, *size)),
            }
        }
    }
    let find = |slot: &Slot| sizes.iter().find(|(s, _)| s == slot).map(|(_, n)| *n);
    let dims = node.out.iter().map(find).collect::<Option<Vec<_>>>().ok_or("an axis of the result is in no operand")?;
    if (1..node.out.len()).any(|i| node.out[..i].contains(&node.out[i])) {
        return Err("an axis stands twice in the result".into());
    }
    let bound = sizes.len() > node.out.len();
    match node.op {
        Op::Sum | Op::Map(_) | Op::View if bound => Err("a pointwise node binds an axis".into()),
        Op::Map(f) if f.arity() != node.args.len() => Err(format!("{f:?} takes {} operands", f.arity())),
        Op::View if node.args.len() != 1 => Err("a view has one operand".into()),
        Op::Input(_) | Op::Weight(_) | Op::Constant(_) | Op::Relation(_) => unreachable!("leaves were handled"),
        Op::Contract | Op::Sum | Op::Map(_) | Op::Reduce(_) | Op::View => Ok(Type { dims, relation: false, needs }),
    }
}
