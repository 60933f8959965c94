//! Checked programs written by hand, and what they are run with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use gdlc::base::arena::{Arena, Id};
use gdlc::base::size::Size;
use gdlc::base::span::Span;
use gdlc::derive::{Derived, derive};
use gdlc::domain::{Domain, DomainSpec, GroupSpec, construct};
use gdlc::sema::hir::{
    Argument, Base, Block, BlockKind, DomainDecl, Fibre, Linear, Model, Op, Origin, Over, Program, Type, Value,
};
use gdlc::symmetry::Rep;
use gdlc::tensor::eval::{Arguments, Array, eval};

/// A checked program written by hand: one model on a few domains.
pub(crate) struct Draft {
    pub(crate) program: Program,
    pub(crate) model: Model,
}

impl Draft {
    pub(crate) fn new() -> Draft {
        let program = Program::default();
        let model = Model { name: "Test".into(), args: vec![], values: Arena::new(), results: vec![] };
        Draft { program, model }
    }

    pub(crate) fn size(&mut self, name: &str, hint: usize) -> Size {
        Size::var(self.program.sizes.intern(name, hint))
    }

    pub(crate) fn domain(&mut self, name: &str, spec: DomainSpec) -> Id<DomainDecl> {
        let domain = construct(&spec).expect("the domain exists");
        self.declare(name, domain, Origin::Declared)
    }

    pub(crate) fn declare(&mut self, name: &str, domain: Arc<dyn Domain>, origin: Origin) -> Id<DomainDecl> {
        self.program.domains.push(DomainDecl { name: name.into(), domain, origin, span: Span::default() })
    }

    pub(crate) fn grid(&mut self, words: &[&str], group: &str, axes: usize) -> Id<DomainDecl> {
        let n = self.size("n", 8);
        let shift = GroupSpec::named("shift");
        let group = match group {
            "shift" => shift,
            point => GroupSpec::Semidirect(Box::new(shift), Box::new(GroupSpec::named(point))),
        };
        self.domain("Pixels", spec("grid", vec![n; axes], words, Some(group), None))
    }

    pub(crate) fn argument(&mut self, name: &str, ty: Type) -> Id<Value> {
        self.model.args.push(Argument { name: name.into(), ty: ty.clone(), span: Span::default() });
        let k = self.model.args.len() - 1;
        self.value(Op::Argument(k), &[], ty)
    }

    pub(crate) fn value(&mut self, op: Op, args: &[Id<Value>], ty: Type) -> Id<Value> {
        self.model.values.push(Value { op, args: args.to_vec(), ty, span: Span::default() })
    }

    pub(crate) fn linear(&mut self, name: &str, over: Over, x: &[Id<Value>], ty: Type) -> Id<Value> {
        let linear = Linear { name: name.into(), over, bias: true, depthwise: false };
        self.value(Op::Linear(linear), x, ty)
    }

    pub(crate) fn result(&mut self, name: &str, id: Id<Value>) {
        self.model.results.push((name.into(), id));
    }

    pub(crate) fn derive(&self) -> Derived {
        derive(&self.program, &self.model).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    pub(crate) fn fixing(&self, id: Id<DomainDecl>) -> gdlc::symmetry::GroupRef {
        self.program.domains[id].domain.stabiliser()
    }
}

pub(crate) fn spec(
    constructor: &str,
    sizes: Vec<Size>,
    words: &[&str],
    group: Option<GroupSpec>,
    ambient: Option<usize>,
) -> DomainSpec {
    let words = words.iter().map(ToString::to_string).collect();
    DomainSpec { constructor: constructor.into(), sizes, words, ambient, group, text: constructor.into() }
}

pub(crate) fn copies(base: Base, count: usize, rep: Rep) -> Type {
    Type { base, fibre: Fibre { blocks: vec![Block { count, kind: BlockKind::Rep(Arc::new(rep)) }] } }
}

pub(crate) fn class(base: Base, k: usize) -> Type {
    Type { base, fibre: Fibre { blocks: vec![Block { count: 1, kind: BlockKind::Class(k) }] } }
}

/// All tensors of a safetensors file, as f64.
pub(crate) fn read(path: &str) -> BTreeMap<String, Array> {
    let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("the file is there");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let mut res = BTreeMap::new();
    for (name, view) in file.tensors() {
        let data = match view.dtype() {
            safetensors::Dtype::F64 => numbers(view.data(), |b| f64::from_le_bytes(b)),
            safetensors::Dtype::F32 => numbers(view.data(), |b| f64::from(f32::from_le_bytes(b))),
            safetensors::Dtype::I64 => numbers(view.data(), |b| i64::from_le_bytes(b) as f64),
            safetensors::Dtype::I32 => numbers(view.data(), |b| f64::from(i32::from_le_bytes(b))),
            other => panic!("{name} is of dtype {other:?}"),
        };
        res.insert(name, Array { dims: view.shape().to_vec(), data });
    }
    res
}

fn numbers<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    bytes.chunks_exact(N).map(|c| number(c.try_into().expect("whole numbers"))).collect()
}

pub(crate) fn run(
    derived: &Derived,
    sizes: &[(&str, usize)],
    inputs: &[(&str, &Array)],
    weights: &BTreeMap<String, Array>,
) -> BTreeMap<String, Array> {
    let size =
        |name: &str| sizes.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("size {name} is not given")).1;
    let args = Arguments {
        sizes: derived.graph.sizes.iter().map(|(_, info)| size(&info.name)).collect(),
        inputs: inputs.iter().map(|(name, x)| (name.to_string(), (*x).clone())).collect(),
        weights: weights.clone(),
    };
    let expected = eval(&derived.graph, &args).unwrap_or_else(|e| panic!("{e}"));
    crate::kernel::agrees(&derived.graph, &args, &expected);
    expected
}

/// The largest difference over the largest entry.
pub(crate) fn distance(a: &Array, b: &Array) -> f64 {
    assert_eq!(a.dims, b.dims);
    let top = b.data.iter().fold(1e-300f64, |m, x| m.max(x.abs()));
    a.data.iter().zip(&b.data).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max) / top
}

/// The file as JSON.
pub(crate) fn read_json(path: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("the file is there");
    serde_json::from_str(&text).expect("a JSON file")
}
