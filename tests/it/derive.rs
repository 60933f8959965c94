//! Derived layers against independent references: files written by other programs, plain loops, counts from the literature.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use gdlc::base::arena::{Arena, Id};
use gdlc::base::size::{Size, SizeTable};
use gdlc::base::span::Span;
use gdlc::derive::{Derived, derive};
use gdlc::domain::{Domain, DomainSpec, GroupSpec, construct};
use gdlc::sema::hir::{Argument, Base, Block, BlockKind, DomainDecl, Fibre, Linear, Model, Op, Origin, Over, Program, Type, Value};
use gdlc::symmetry::Rep;
use gdlc::tensor::eval::{Arguments, Array, eval};

/// A checked program written by hand: one model on a few domains.
struct Draft {
    program: Program,
    model: Model,
}

impl Draft {
    fn new() -> Draft {
        let program = Program { sizes: SizeTable::default(), domains: Arena::new(), models: vec![] };
        let model = Model { name: "Test".into(), args: vec![], values: Arena::new(), results: vec![] };
        Draft { program, model }
    }

    fn size(&mut self, name: &str, hint: usize) -> Size {
        Size::var(self.program.sizes.intern(name, hint))
    }

    fn domain(&mut self, name: &str, spec: DomainSpec) -> Id<DomainDecl> {
        let domain = construct(&spec).expect("the domain exists");
        self.declare(name, domain, Origin::Declared)
    }

    fn declare(&mut self, name: &str, domain: Arc<dyn Domain>, origin: Origin) -> Id<DomainDecl> {
        self.program.domains.push(DomainDecl { name: name.into(), domain, origin, span: Span::default() })
    }

    fn grid(&mut self, words: &[&str], group: &str, axes: usize) -> Id<DomainDecl> {
        let n = self.size("n", 8);
        let shift = GroupSpec::named("shift");
        let group = match group {
            "shift" => shift,
            point => GroupSpec::Semidirect(Box::new(shift), Box::new(GroupSpec::named(point))),
        };
        self.domain("Pixels", spec("grid", vec![n; axes], words, Some(group), None))
    }

    fn argument(&mut self, name: &str, ty: Type) -> Id<Value> {
        self.model.args.push(Argument { name: name.into(), ty: ty.clone(), span: Span::default() });
        let k = self.model.args.len() - 1;
        self.value(Op::Argument(k), &[], ty)
    }

    fn value(&mut self, op: Op, args: &[Id<Value>], ty: Type) -> Id<Value> {
        self.model.values.push(Value { op, args: args.to_vec(), ty, span: Span::default() })
    }

    fn linear(&mut self, name: &str, over: Over, x: &[Id<Value>], ty: Type) -> Id<Value> {
        let linear = Linear { name: name.into(), over, bias: true, depthwise: false };
        self.value(Op::Linear(linear), x, ty)
    }

    fn result(&mut self, name: &str, id: Id<Value>) {
        self.model.results.push((name.into(), id));
    }

    fn derive(&self) -> Derived {
        derive(&self.program, &self.model).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    fn fixing(&self, id: Id<DomainDecl>) -> gdlc::symmetry::GroupRef {
        self.program.domains[id].domain.stabiliser()
    }
}

fn spec(constructor: &str, sizes: Vec<Size>, words: &[&str], group: Option<GroupSpec>, ambient: Option<usize>) -> DomainSpec {
    let words = words.iter().map(ToString::to_string).collect();
    DomainSpec { constructor: constructor.into(), sizes, words, ambient, group, text: constructor.into() }
}

fn copies(base: Base, count: usize, rep: Rep) -> Type {
    Type { base, fibre: Fibre { blocks: vec![Block { count, kind: BlockKind::Rep(Arc::new(rep)) }] } }
}

fn class(base: Base, k: usize) -> Type {
    Type { base, fibre: Fibre { blocks: vec![Block { count: 1, kind: BlockKind::Class(k) }] } }
}

/// All tensors of a safetensors file, as f64.
fn read(path: &str) -> BTreeMap<String, Array> {
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

fn run(derived: &Derived, sizes: &[(&str, usize)], inputs: &[(&str, &Array)], weights: &BTreeMap<String, Array>) -> BTreeMap<String, Array> {
    let size = |name: &str| sizes.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("size {name} is not given")).1;
    let args = Arguments {
        sizes: derived.graph.sizes.iter().map(|(_, info)| size(&info.name)).collect(),
        inputs: inputs.iter().map(|(name, x)| (name.to_string(), (*x).clone())).collect(),
        weights: weights.clone(),
    };
    eval(&derived.graph, &args).unwrap_or_else(|e| panic!("{e}"))
}

/// The largest difference over the largest entry.
fn distance(a: &Array, b: &Array) -> f64 {
    assert_eq!(a.dims, b.dims);
    let top = b.data.iter().fold(1e-300f64, |m, x| m.max(x.abs()));
    a.data.iter().zip(&b.data).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max) / top
}

fn digits(group: &str) -> Draft {
    let mut d = Draft::new();
    let pixels = d.grid(&["zero"], group, 2);
    let domain = d.program.domains[pixels].domain.clone();
    let half = domain.coarsen(2, gdlc::domain::Block::Cells).expect("a grid coarsens").domain;
    let half = d.declare("Pixels/2", half, Origin::Coarsened { of: pixels, factor: 2 });
    let g = d.fixing(pixels);
    let regular = Rep::regular(&g).expect("a finite group");
    let scalar = Rep::scalar(&g);
    let on = Base::Points(pixels);
    let relu = || Op::Map(gdlc::sema::hir::Pointwise::Relu);
    let window = Over::Window(vec![5, 5]);
    let x = d.argument("x", copies(on, 1, scalar.clone()));
    let wide = copies(on, 8, regular.clone());
    let a = d.linear("linear1", window.clone(), &[x], wide.clone());
    let a = d.value(relu(), &[a], wide.clone());
    let b = d.linear("linear2", window, &[a], wide.clone());
    let b = d.value(relu(), &[b], wide);
    let mean = Op::Coarsen { how: gdlc::sema::hir::Coarsening::Mean, factor: 2 };
    let c = d.value(mean, &[b], copies(Base::Points(half), 8, regular));
    let max = Op::Pool { how: gdlc::sema::hir::Aggregate::Max, invariant: true };
    let p = d.value(max, &[c], copies(Base::Sample, 8, scalar));
    let y = d.linear("linear3", Over::Point, &[p], class(Base::Sample, 10));
    d.result("y", y);
    d
}

/// The trained networks give the logits that torch gave.
#[test]
fn digits_and_lenet_give_the_logits_of_torch() {
    let golden = read("tests/golden/digits_logits.safetensors");
    for (group, name) in [("D4", "digits"), ("shift", "lenet")] {
        let derived = digits(group).derive();
        println!("{}", derived.blueprint);
        let weights = read(&format!("examples/data/{name}.weights.safetensors"));
        let x = &golden["x"];
        let y = run(&derived, &[("n", 8), ("batch", 16)], &[("x", x)], &weights);
        let error = distance(&y["y"], &golden[&format!("{name}.logits")]);
        assert!(error < 1e-12, "{name}: {error:e}");
    }
}
