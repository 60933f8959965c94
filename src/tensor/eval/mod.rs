//! What a program means: every value in f64, by obvious loops.
//!
//! In: a graph and its arguments. Out: all values, or the outputs by name. Relations stay functions and are
//! substituted, never written out as 0/1 matrices, so that real models evaluate in about a second.
//! Knows nothing of kernels: it is the oracle that they are compared with.

mod contract;
mod relation;
pub(super) mod scalar;

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::base::size::{Size, SizeVar};
use crate::tensor::graph::{Graph, Input, InputKind};
use crate::tensor::op::{Node, Op, Reduction, Slot, ValueId};

use contract::Factor;
pub use relation::{Tabulated, counted};
pub use scalar::erf;

/// A row-major array.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub dims: Vec<usize>,
    pub data: Vec<f64>,
}

impl Array {
    /// An array of zeros.
    pub fn zeros(dims: Vec<usize>) -> Array {
        let n = dims.iter().product();
        Array { dims, data: vec![0.0; n] }
    }

    /// The row-major strides.
    pub fn strides(&self) -> Vec<usize> {
        strides(&self.dims)
    }

    /// The array with axis `k` of the result being axis `order[k]` of this one.
    pub fn permuted(&self, order: &[usize]) -> Array {
        let old = self.strides();
        let dims: Vec<usize> = order.iter().map(|&a| self.dims[a]).collect();
        let steps: Vec<usize> = order.iter().map(|&a| old[a]).collect();
        let data = Odometer::new(&dims).map(|ix| self.data[ix.iter().zip(&steps).map(|(i, s)| i * s).sum::<usize>()]);
        Array { data: data.collect(), dims }
    }
}

fn strides(dims: &[usize]) -> Vec<usize> {
    let mut res = vec![1; dims.len()];
    for k in (1..dims.len()).rev() {
        res[k - 1] = res[k] * dims[k];
    }
    res
}

/// All multi-indices below `dims`, the last one fastest.
struct Odometer {
    dims: Vec<usize>,
    next: Option<Vec<usize>>,
}

impl Odometer {
    fn new(dims: &[usize]) -> Odometer {
        let next = dims.iter().all(|d| *d > 0).then(|| vec![0; dims.len()]);
        Odometer { dims: dims.to_vec(), next }
    }
}

impl Iterator for Odometer {
    type Item = Vec<usize>;
    fn next(&mut self) -> Option<Vec<usize>> {
        let current = self.next.take()?;
        let mut ix = current.clone();
        for k in (0..ix.len()).rev() {
            ix[k] += 1;
            if ix[k] < self.dims[k] {
                self.next = Some(ix);
                break;
            }
            ix[k] = 0;
        }
        Some(current)
    }
}

/// What a program is called with. Index tables are arrays of whole numbers.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    /// The run-time sizes, by [`SizeVar`].
    pub sizes: Vec<usize>,
    pub inputs: BTreeMap<String, Array>,
    pub weights: BTreeMap<String, Array>,
}

impl Arguments {
    /// The value of a size. Panics where a run-time size is missing.
    pub fn size(&self, size: Size) -> usize {
        size.eval(|SizeVar(v)| self.sizes[v as usize])
    }
}

/// A value: numbers, or a function where the value is a relation.
#[derive(Clone, Debug)]
pub enum Value {
    Numbers(Rc<Array>),
    /// Known at compile time: its zeros are left out of products.
    Constant(Rc<Array>),
    Function(Rc<Tabulated>),
}

impl Value {
    /// The value as numbers; a relation becomes its 0/1 tensor.
    pub fn numbers(&self) -> Rc<Array> {
        match self {
            Value::Numbers(array) | Value::Constant(array) => array.clone(),
            Value::Function(function) => Rc::new(function.indicator()),
        }
    }
}

/// The outputs of a program by name, in the order of their memory. Fails where an argument is missing or ill-formed.
pub fn eval(graph: &Graph, args: &Arguments) -> Result<BTreeMap<String, Array>, String> {
    let values = eval_where(graph, args, &graph.needed(false))?;
    let output = |o: &crate::tensor::graph::Output| {
        let value = values[usize::from(o.id)].as_ref().expect("an output is needed");
        (o.name.clone(), value.numbers().permuted(&o.order))
    };
    Ok(graph.outputs.iter().map(output).collect())
}

/// All values of a program, by [`ValueId`].
pub fn eval_all(graph: &Graph, args: &Arguments) -> Result<Vec<Value>, String> {
    let values = eval_where(graph, args, &vec![true; graph.len()])?;
    Ok(values.into_iter().map(|value| value.expect("all are wanted")).collect())
}

/// The wanted values of a program; whoever wants a value wants its operands. Leaves are looked at in any case.
fn eval_where(graph: &Graph, args: &Arguments, wanted: &[bool]) -> Result<Vec<Option<Value>>, String> {
    if args.sizes.len() < graph.sizes.len() {
        return Err(format!("{} run-time sizes are needed", graph.sizes.len()));
    }
    let args = &*relation::counted(graph, args)?;
    let mut values: Vec<Option<Value>> = Vec::new();
    for (id, node) in graph.nodes() {
        let operand = |id: ValueId| values[usize::from(id)].clone().expect("operands of wanted values are wanted");
        let value = (wanted[usize::from(id)] || node.op.is_leaf()).then(|| eval_node(graph, args, node, operand));
        values.push(value.transpose()?);
    }
    Ok(values)
}

/// The value of one node whose operands are known.
pub fn eval_node(
    graph: &Graph,
    args: &Arguments,
    node: &Node,
    operand: impl Fn(ValueId) -> Value,
) -> Result<Value, String> {
    let operands: Vec<Value> = node.args.iter().map(|id| operand(*id)).collect();
    let array = match node.op {
        Op::Input(id) => input(&graph.inputs[id], args)?,
        Op::Weight(id) => {
            let weight = &graph.weights[id];
            let array = args.weights.get(&weight.name).ok_or_else(|| format!("no weight `{}`", weight.name))?;
            checked(&weight.name, array, &weight.dims)?
        }
        Op::Constant(id) => {
            let constant = &graph.constants[id];
            let array = Array { dims: constant.dims.clone(), data: constant.data.to_vec() };
            return Ok(Value::Constant(Rc::new(array)));
        }
        Op::Relation(id) => {
            let function = relation::tabulate(graph, &graph.relations[id], args)?;
            return Ok(Value::Function(Rc::new(function)));
        }
        Op::Contract => {
            let (factors, sizes) = factors(node, &operands);
            contract::contract(factors, &node.out, &sizes)
        }
        Op::Reduce(how) => {
            // a zero of a constant is an element like others here, not a term to leave out
            let dense = |v: &Value| match v {
                Value::Constant(array) => Value::Numbers(array.clone()),
                Value::Numbers(_) | Value::Function(_) => v.clone(),
            };
            let operands: Vec<Value> = operands.iter().map(dense).collect();
            let (factors, sizes) = factors(node, &operands);
            reduce(how, factors, &node.out, &sizes)
        }
        Op::Sum => pointwise(node, &operands, |xs| xs.iter().sum()),
        Op::Map(f) => pointwise(node, &operands, |xs| scalar::apply(f, xs)),
        Op::View => pointwise(node, &operands, |xs| xs[0]),
    };
    Ok(Value::Numbers(Rc::new(array)))
}

fn checked(name: &str, array: &Array, dims: &[usize]) -> Result<Array, String> {
    if array.dims != dims || array.data.len() != dims.iter().product::<usize>() {
        return Err(format!("`{name}` has shape {:?}, not {dims:?}", array.dims));
    }
    Ok(array.clone())
}

fn input(input: &Input, args: &Arguments) -> Result<Array, String> {
    let array = args.inputs.get(&input.name).ok_or_else(|| format!("no input `{}`", input.name))?;
    let dims: Vec<usize> = input.dims.iter().map(|d| args.size(*d)).collect();
    let array = checked(&input.name, array, &dims)?;
    if let InputKind::Table { range, .. } | InputKind::Index { range } = input.kind {
        let range = args.size(range) as f64;
        if let Some(bad) = array.data.iter().find(|x| !(**x >= 0.0 && **x < range && x.fract() == 0.0)) {
            return Err(format!("`{}` holds {bad}, which is no index below {range}", input.name));
        }
    }
    if let InputKind::Table { sorted: true, .. } = input.kind
        && array.data.windows(2).any(|w| w[0] > w[1])
    {
        return Err(format!("`{}` is not sorted", input.name));
    }
    Ok(array)
}

/// The operands with their slots, and the size of every slot.
fn factors(node: &Node, operands: &[Value]) -> (Vec<Factor>, Vec<usize>) {
    let n_slots = node.reads.iter().flatten().map(|s| *s as usize + 1).max().unwrap_or(0);
    let mut sizes = vec![1; n_slots];
    let mut res = Vec::new();
    for (value, reads) in operands.iter().zip(&node.reads) {
        let factor = Factor::new(reads.clone(), value.clone());
        for (slot, size) in reads.iter().zip(factor.dims()) {
            sizes[*slot as usize] = size;
        }
        res.push(factor);
    }
    (res, sizes)
}

fn pointwise(node: &Node, operands: &[Value], f: impl Fn(&[f64]) -> f64) -> Array {
    let arrays: Vec<Rc<Array>> = operands.iter().map(Value::numbers).collect();
    let size = |slot: &Slot| {
        let of = |(array, reads): (&Rc<Array>, &Vec<Slot>)| reads.iter().position(|s| s == slot).map(|k| array.dims[k]);
        arrays.iter().zip(&node.reads).find_map(of).expect("verified: the slot is read")
    };
    let dims: Vec<usize> = node.out.iter().map(size).collect();
    let steps: Vec<Vec<usize>> =
        arrays.iter().zip(&node.reads).map(|(a, reads)| steps(reads, &a.strides(), &node.out)).collect();
    let mut xs = vec![0.0; arrays.len()];
    let mut value = |ix: Vec<usize>| {
        for (k, array) in arrays.iter().enumerate() {
            xs[k] = array.data[ix.iter().zip(&steps[k]).map(|(i, s)| i * s).sum::<usize>()];
        }
        f(&xs)
    };
    let data = Odometer::new(&dims).map(&mut value).collect();
    Array { dims, data }
}

/// How far a step along each of `slots` moves in an array read with `reads`; a repeated slot moves along its diagonal.
fn steps(reads: &[Slot], strides: &[usize], slots: &[Slot]) -> Vec<usize> {
    let step = |slot: &Slot| reads.iter().zip(strides).filter(|(r, _)| *r == slot).map(|(_, s)| *s).sum();
    slots.iter().map(step).collect()
}

fn reduce(how: Reduction, factors: Vec<Factor>, out: &[Slot], sizes: &[usize]) -> Array {
    let dims: Vec<usize> = out.iter().map(|s| sizes[*s as usize]).collect();
    let mut extreme: Vec<Option<f64>> = vec![None; dims.iter().product()];
    let pick = |a: f64, b: f64| match how {
        Reduction::Min => scalar::minimum(a, b),
        Reduction::Max | Reduction::LogSumExp => scalar::maximum(a, b),
    };
    contract::for_each(&factors, out, sizes, &mut |at, x| {
        extreme[at] = Some(extreme[at].map_or(x, |old| pick(old, x)));
    });
    let data = match how {
        Reduction::Max | Reduction::Min => extreme.iter().map(|x| x.unwrap_or(0.0)).collect(),
        Reduction::LogSumExp => {
            let mut sums = vec![0.0; extreme.len()];
            contract::for_each(&factors, out, sizes, &mut |at, x| {
                let top = extreme[at].expect("the first pass was here");
                sums[at] += if x == top { 1.0 } else { (x - top).exp() };
            });
            let finish = |(top, sum): (&Option<f64>, &f64)| top.map_or(0.0, |top| top + sum.ln());
            extreme.iter().zip(&sums).map(finish).collect()
        }
    };
    Array { dims, data }
}
