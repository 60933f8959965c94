//! A graph as text: one line a value, axes by name.
//!
//! ```text
//! %4[b, u, o] = Σ[i, c] x[b, p, c] · K[o, c, i] · win[u, i→p] : n × 8 × 16
//! ```

use std::fmt::Write;

use crate::tensor::graph::{Function, Graph, Paired, PairedWay};
use crate::tensor::op::{Func, Node, Op, Reduction, Slot, ValueId};

/// The whole graph: outputs and equalities last.
pub fn print(graph: &Graph) -> String {
    let mut names = Names { graph, axes: Vec::new() };
    let mut res = String::new();
    for (id, node) in graph.nodes() {
        let line = names.line(id, node);
        let shown = !node.op.is_leaf();
        if shown {
            let dims: Vec<String> = graph.ty(id).dims.iter().map(|d| graph.sizes.show(*d)).collect();
            let ty = if dims.is_empty() { "scalar".into() } else { dims.join(" × ") };
            writeln!(res, "{line} : {ty}").expect("writing to a string");
        }
    }
    for output in &graph.outputs {
        let axes = &names.axes[usize::from(output.id)];
        let order: Vec<&str> = output.order.iter().map(|&k| axes[k].as_str()).collect();
        let value = names.value(output.id);
        writeln!(res, "{} = {value}[{}]", output.name, order.join(", ")).expect("writing to a string");
    }
    for equality in &graph.equalities {
        let axes = &names.axes[usize::from(equality.written)];
        let order: Vec<&str> = equality.order.iter().map(|&k| axes[k].as_str()).collect();
        let (written, other) = (names.value(equality.written), names.value(equality.other));
        let (axes, order, theorem) = (axes.join(", "), order.join(", "), equality.theorem.name);
        writeln!(res, "{written}[{axes}] = {other}[{order}] by {theorem}").expect("writing to a string");
    }
    res
}

/// One value as an equation, such as `%4[i, o] = Σ[c] x[i, c] · w[c, o]`.
pub fn print_value(graph: &Graph, id: ValueId) -> String {
    let mut names = Names { graph, axes: Vec::new() };
    let mut res = String::new();
    for (k, node) in graph.nodes().take(usize::from(id) + 1) {
        let line = names.line(k, node);
        if k == id {
            res = line;
        }
    }
    res
}

/// A node without its context: `Σ[j] x[i, j] · w[j, k]`. Slots are letters; `name` says how an operand is called and
/// whether it is a relation.
pub fn print_node(node: &Node, name: impl Fn(ValueId) -> (String, bool)) -> String {
    let letter = |s: &Slot| unused(LETTERS.get(*s as usize).map(|l| l.to_string()), &[]);
    let operand = |(id, reads): (&ValueId, &Vec<Slot>)| {
        let (name, relation) = name(*id);
        bracketed(name, relation, &reads.iter().map(letter).collect::<Vec<_>>())
    };
    let operands: Vec<String> = node.args.iter().zip(&node.reads).map(operand).collect();
    let mut bound: Vec<Slot> = node.reads.iter().flatten().copied().filter(|s| !node.out.contains(s)).collect();
    bound.sort_unstable();
    bound.dedup();
    right_side(&node.op, &operands, &bound.iter().map(letter).collect::<Vec<_>>())
}

fn bracketed(name: String, relation: bool, axes: &[String]) -> String {
    match axes {
        [] => name,
        [from @ .., to] if relation => format!("{name}[{}→{to}]", from.join(", ")),
        _ => format!("{name}[{}]", axes.join(", ")),
    }
}

/// How the value of a leaf is called; none where it has operands.
pub fn leaf_name(graph: &Graph, op: &Op) -> Option<String> {
    Some(match op {
        Op::Input(i) => graph.inputs[*i].name.clone(),
        Op::Weight(i) => graph.weights[*i].name.clone(),
        Op::Constant(i) => graph.constants[*i].name.clone(),
        Op::Relation(i) => match graph.relations[*i].map {
            Function::Table(input) => graph.inputs[input].name.clone(),
            Function::Paired(paired) => paired_name(graph, &paired),
            Function::Constant(_) => format!("rel{}", i.index()),
            Function::Affine { .. } => format!("win{}", i.index()),
        },
        Op::Contract | Op::Sum | Op::Map(_) | Op::Reduce(_) | Op::View => return None,
    })
}

/// How a table of pairs is called: after the domain, `Atoms.pair` and `Atoms.edge_of_pair`.
pub fn paired_name(graph: &Graph, paired: &Paired) -> String {
    let ends = &graph.inputs[paired.ends[0]].name;
    let domain = ends.rsplit_once('.').map_or("", |(domain, _)| domain);
    match paired.way {
        PairedWay::Class => format!("{domain}.pair"),
        PairedWay::First => format!("{domain}.edge_of_pair"),
    }
}

/// The names of the axes of the values printed so far.
struct Names<'a> {
    graph: &'a Graph,
    axes: Vec<Vec<String>>,
}

const LETTERS: [&str; 22] =
    ["i", "j", "k", "l", "m", "o", "p", "q", "r", "s", "t", "u", "v", "w", "a", "b", "c", "d", "e", "f", "g", "h"];

impl Names<'_> {
    /// How a value is called: leaves by their names, other values by number.
    fn value(&self, id: ValueId) -> String {
        leaf_name(self.graph, &self.graph.node(id).op).unwrap_or_else(|| format!("%{id}"))
    }

    /// The equation of the next value; remembers the names of its axes.
    fn line(&mut self, id: ValueId, node: &Node) -> String {
        let slots = if node.op.is_leaf() { self.leaf_slots(id) } else { self.slots(node) };
        let name = |s: &Slot| slots[*s as usize].clone();
        let out: Vec<String> = node.out.iter().map(name).collect();
        self.axes.push(out.clone());
        let operands: Vec<String> = node
            .args
            .iter()
            .zip(&node.reads)
            .map(|(arg, reads)| self.operand(*arg, &reads.iter().map(name).collect::<Vec<_>>()))
            .collect();
        let bound: Vec<String> = (0..slots.len() as Slot).filter(|s| !node.out.contains(s)).map(|s| name(&s)).collect();
        format!("{} = {}", self.operand(id, &out), right_side(&node.op, &operands, &bound))
    }

    fn operand(&self, id: ValueId, axes: &[String]) -> String {
        bracketed(self.value(id), self.graph.ty(id).relation, axes)
    }

    fn leaf_slots(&self, id: ValueId) -> Vec<String> {
        let sizes = &self.graph.sizes;
        let mut res: Vec<String> = Vec::new();
        for size in &self.graph.ty(id).dims {
            let wish = size.depends_on().map(|v| sizes.name(v).to_string());
            res.push(unused(wish, &res));
        }
        res
    }

    /// A name for each slot: that of the first axis read there, unless it is taken.
    fn slots(&self, node: &Node) -> Vec<String> {
        let mut res: Vec<String> = Vec::new();
        for (arg, reads) in node.args.iter().zip(&node.reads) {
            for (slot, axis) in reads.iter().zip(&self.axes[usize::from(*arg)]) {
                if *slot as usize == res.len() {
                    res.push(unused(Some(axis.clone()), &res));
                }
            }
        }
        res
    }
}

fn unused(wish: Option<String>, taken: &[String]) -> String {
    let free = |name: &String| !taken.contains(name);
    wish.into_iter()
        .chain(LETTERS.iter().map(|s| s.to_string()))
        .chain((0..).map(|k| format!("i{k}")))
        .find(free)
        .expect("there are endlessly many names")
}

fn right_side(op: &Op, operands: &[String], bound: &[String]) -> String {
    let over = |sign: &str| if bound.is_empty() { String::new() } else { format!("{sign}[{}] ", bound.join(", ")) };
    match op {
        Op::Input(_) => "input".into(),
        Op::Weight(_) => "weight".into(),
        Op::Constant(_) => "constant".into(),
        Op::Relation(_) => "relation".into(),
        Op::Contract => format!("{}{}", over("Σ"), operands.join(" · ")),
        Op::Sum => operands.join(" + "),
        Op::Map(f) => format!("{}({})", function(*f), operands.join(", ")),
        Op::Reduce(how) => {
            let sign = match how {
                Reduction::Max => "max",
                Reduction::Min => "min",
                Reduction::LogSumExp => "logsumexp",
            };
            let along = if operands.len() > 1 { format!(" along {}", operands[1..].join(", ")) } else { String::new() };
            format!("{}{}{along}", over(sign), operands[0])
        }
        Op::View => operands[0].clone(),
    }
}

fn function(f: Func) -> String {
    match f {
        Func::LeakyRelu(slope) => format!("leaky_relu {}", slope.0),
        Func::Powi(k) => format!("powi {k}"),
        Func::Relu
        | Func::Silu
        | Func::Gelu
        | Func::Tanh
        | Func::Sigmoid
        | Func::Exp
        | Func::Log
        | Func::Sin
        | Func::Cos
        | Func::Sqrt
        | Func::Recip
        | Func::SafeRecip
        | Func::Abs
        | Func::Max
        | Func::Min
        | Func::Greater
        | Func::Erf
        | Func::Same
        | Func::Held
        | Func::Capped => format!("{f:?}").to_lowercase(),
    }
}
