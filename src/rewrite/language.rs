//! The nodes of the tensor IR as egg's language, and what is known of a class: its type, its density, whether it is a leaf.

use std::fmt;

use egg::{Analysis, DidMerge, EGraph, FromOp, Id, Language};

use crate::tensor::cost::{self, Operand};
use crate::tensor::graph::{Graph, Needs, Type};
use crate::tensor::infer::infer;
use crate::tensor::op::{Node, Op};

impl Language for Node {
    type Discriminant = Op;

    fn discriminant(&self) -> Op {
        self.op.clone()
    }

    fn matches(&self, other: &Self) -> bool {
        self.op == other.op && self.reads == other.reads && self.out == other.out && self.args.len() == other.args.len()
    }

    fn children(&self) -> &[Id] {
        &self.args
    }

    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.args
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{:?}->{:?}", self.op, self.reads, self.out)
    }
}

/// egg prints explanations as text and asks for a way back; terms are never parsed here.
impl FromOp for Node {
    type Error = String;
    fn from_op(op: &str, _: Vec<Id>) -> Result<Self, String> {
        Err(format!("tensor programs are not read from text: {op}"))
    }
}

/// What is known of a class.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    pub ty: Type,
    /// For the cost.
    pub operand: Operand,
    /// The leaf in the class, if there is one.
    pub leaf: Option<Op>,
}

/// The analysis: the tables that leaves refer to, and the law being applied, to be named when it is wrong.
#[derive(Clone, Debug)]
pub struct Tables {
    pub graph: Graph,
    pub law: &'static str,
}

fn meet(a: Needs, b: Needs) -> Needs {
    Needs { weights: a.weights && b.weights, tables: a.tables && b.tables, data: a.data && b.data }
}

impl Analysis<Node> for Tables {
    type Data = Facts;

    fn make(egraph: &mut EGraph<Node, Self>, node: &Node, _: Id) -> Facts {
        let graph = &egraph.analysis.graph;
        match infer(graph, node, |id| egraph[id].data.ty.clone()) {
            Ok(ty) => {
                let operand = cost::describe(graph, &ty, &node.op);
                let leaf = node.op.is_leaf().then(|| node.op.clone());
                Facts { ty, operand, leaf }
            }
            Err(why) => panic!("law `{}` makes the ill-typed node {node:?}: {why}", egraph.analysis.law),
        }
    }

    fn merge(&mut self, a: &mut Facts, b: Facts) -> DidMerge {
        assert_eq!(a.ty.dims, b.ty.dims, "law `{}` merges values of different types", self.law);
        let merged = Facts {
            ty: Type {
                dims: a.ty.dims.clone(),
                relation: a.ty.relation || b.ty.relation,
                needs: meet(a.ty.needs, b.ty.needs),
            },
            operand: Operand {
                dims: a.operand.dims.clone(),
                relation: a.operand.relation || b.operand.relation,
                solvable: a.operand.solvable.or(b.operand.solvable),
                density: a.operand.density.min(b.operand.density),
                free: a.operand.free || b.operand.free,
                early: a.operand.early || b.operand.early,
            },
            leaf: a.leaf.clone().or(b.leaf.clone()),
        };
        let changed = DidMerge(merged != *a, merged != b);
        *a = merged;
        changed
    }
}
