//! A model all the way through: its algebra, its interface, its library, loaded into this process.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::base::dtype::Dtype;
use crate::base::size::Size;
use crate::codegen::abi::Interface;
use crate::driver::binding;
use crate::driver::code::Code;
use crate::driver::failure::Failure;
use crate::driver::load::{Instance, Loaded};
use crate::driver::progress::Progress;
use crate::driver::session::{Algebra, Session};
use crate::driver::tensors::{Tensor, Tensors};
use crate::kernel;
use crate::package::device::DeviceTarget;
use crate::package::{self, Library};
use crate::sema::hir;
use crate::tensor::graph::Graph;
use crate::tensor::pass::vjp::vjp;

/// A compiled model.
#[derive(Debug)]
pub struct Compiled {
    pub algebra: Algebra,
    pub program: kernel::ir::Program,
    pub interface: Interface,
    /// The derivatives in the library: each of the model, or of the one before.
    pub derivatives: Vec<Derivative>,
    pub library: Library,
}

/// A program of derivatives.
#[derive(Debug)]
pub struct Derivative {
    /// What it means.
    pub graph: Graph,
    pub program: kernel::ir::Program,
    pub interface: Interface,
}

impl Compiled {
    /// Compiles a checked model with the session's backend.
    pub fn new(
        session: &Session,
        program: &hir::Program,
        model: &hir::Model,
        dtype: Dtype,
    ) -> Result<Compiled, Failure> {
        Compiled::with_derivatives(session, program, model, dtype, 0)
    }

    /// As [`Compiled::new`], with the derivatives up to `order` in the library.
    pub fn with_derivatives(
        session: &Session,
        program: &hir::Program,
        model: &hir::Model,
        dtype: Dtype,
        order: usize,
    ) -> Result<Compiled, Failure> {
        let algebra = session.algebra(program, model)?;
        let name = session.library_name(program, model);
        let interface = session.interface(&algebra.derived.graph, &name, dtype);
        let program = session.lower(&algebra.graph, &name, dtype)?;
        let mut derivatives: Vec<Derivative> = Vec::new();
        for k in 1..=order {
            let of = derivatives.last().map_or(&algebra.derived.graph, |d| &d.graph);
            let name = format!("{name}{}", "_vjp".repeat(k));
            derivatives.push(Derivative::new(session, vjp(of), &name, dtype)?);
        }
        let _progress = Progress::of(format!("compiling {name}"));
        let library = build(&program, &interface, &derivatives, session.code, session.device.as_ref())?;
        Ok(Compiled { algebra, program, interface, derivatives, library })
    }

    /// Loads the library into this process.
    pub fn load(&self) -> Result<Loaded, Failure> {
        self.load_model(&self.library.name)
    }

    /// Loads the library, for the model whose symbols are `gdl_<name>_..`.
    pub fn load_model(&self, name: &str) -> Result<Loaded, Failure> {
        load(&self.library, name)
    }

    /// Loads a library of the same model, made another way.
    pub fn load_by(&self, code: Code) -> Result<Loaded, Failure> {
        load(&build(&self.program, &self.interface, &self.derivatives, code, None)?, &self.library.name)
    }

    /// Binds, prepares: a loaded model ready to be called on inputs of these shapes.
    pub fn instance<'l>(
        &self,
        loaded: &'l Loaded,
        inputs: &Tensors,
        weights: &Tensors,
    ) -> Result<Instance<'l>, Failure> {
        bound(&self.interface, loaded, inputs, weights)
    }

    /// The tensors of the model's inputs, in the order of the interface.
    pub fn arguments<'t>(&self, inputs: &'t Tensors) -> Vec<Option<&'t Tensor>> {
        arguments(&self.interface, inputs)
    }

    /// The outputs by name.
    pub fn named(&self, outputs: Vec<Tensor>) -> Tensors {
        self.interface.outputs.iter().map(|o| o.name.clone()).zip(outputs).collect()
    }

    /// Loads, binds, prepares and calls once.
    pub fn run(&self, inputs: &Tensors, weights: &Tensors) -> Result<Tensors, Failure> {
        self.run_model(&self.interface, inputs, weights)
    }

    /// As [`Compiled::run`], the model of the library with this interface.
    pub fn run_model(&self, interface: &Interface, inputs: &Tensors, weights: &Tensors) -> Result<Tensors, Failure> {
        let loaded = self.load_model(&interface.name)?;
        let mut instance = bound(interface, &loaded, inputs, weights)?;
        let outputs = instance.call(&arguments(interface, inputs))?;
        Ok(interface.outputs.iter().map(|o| o.name.clone()).zip(outputs).collect())
    }
}

impl Derivative {
    fn new(session: &Session, graph: Graph, name: &str, dtype: Dtype) -> Result<Derivative, Failure> {
        let (optimised, _) = session.optimise(&graph)?;
        let program = session.lower(&optimised, name, dtype)?;
        let interface = session.interface(&graph, name, dtype);
        Ok(Derivative { graph, program, interface })
    }
}

fn bound<'l>(
    interface: &Interface,
    loaded: &'l Loaded,
    inputs: &Tensors,
    weights: &Tensors,
) -> Result<Instance<'l>, Failure> {
    binding::weights(interface, weights)?;
    let sizes = binding::inputs(interface, inputs)?;
    let named = |name: &str| {
        let found = interface.sizes.iter().find(|(_, info)| info.name == name);
        found.map(|(var, _)| sizes.eval(Size::var(var)))
    };
    let mut instance = loaded.bind_sizes(&arguments(interface, inputs), named)?;
    let weights: Vec<&Tensor> = interface.weights.iter().map(|w| &weights[&w.name]).collect();
    instance.prepare(&weights)?;
    Ok(instance)
}

fn arguments<'t>(interface: &Interface, inputs: &'t Tensors) -> Vec<Option<&'t Tensor>> {
    interface.inputs.iter().map(|i| inputs.get(&i.name)).collect()
}

fn build(
    program: &kernel::ir::Program,
    interface: &Interface,
    derivatives: &[Derivative],
    code: Code,
    device: Option<&DeviceTarget>,
) -> Result<Library, Failure> {
    let mut tower = vec![(program, interface)];
    tower.extend(derivatives.iter().map(|d| (&d.program, &d.interface)));
    package::build_tower(&tower, code.backend, code.target, device)
        .map_err(|e| Failure::program(format!("{}: {e}", interface.name)))
}

fn load(library: &Library, name: &str) -> Result<Loaded, Failure> {
    let path = temporary();
    std::fs::write(&path, &library.so_bytes).map_err(|e| Failure::io("write", &path, &e))?;
    let loaded = Loaded::open(&path, name);
    // The mapping stays; the name is not needed any more.
    std::fs::remove_file(&path).map_err(|e| Failure::io("remove", &path, &e))?;
    loaded
}

/// A file name no other process and no other call uses.
fn temporary() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("gdlc-{}-{count}.so", std::process::id()))
}
