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
use crate::package::{self, Library};
use crate::sema::hir;

/// A compiled model.
#[derive(Debug)]
pub struct Compiled {
    pub algebra: Algebra,
    pub program: kernel::ir::Program,
    pub interface: Interface,
    pub library: Library,
}

impl Compiled {
    /// Compiles a checked model with the session's backend.
    pub fn new(
        session: &Session,
        program: &hir::Program,
        model: &hir::Model,
        dtype: Dtype,
    ) -> Result<Compiled, Failure> {
        let algebra = session.algebra(program, model)?;
        let name = session.library_name(program, model);
        let interface = session.interface(&algebra, &name, dtype);
        let program = session.lower(&algebra, &name, dtype)?;
        let _progress = Progress::of(format!("compiling {name}"));
        let library = build(&program, &interface, session.code)?;
        Ok(Compiled { algebra, program, interface, library })
    }

    /// Loads the library into this process.
    pub fn load(&self) -> Result<Loaded, Failure> {
        load(&self.library)
    }

    /// Loads a library of the same model, made another way.
    pub fn load_by(&self, code: Code) -> Result<Loaded, Failure> {
        load(&build(&self.program, &self.interface, code)?)
    }

    /// Binds, prepares: a loaded model ready to be called on inputs of these shapes.
    pub fn instance<'l>(
        &self,
        loaded: &'l Loaded,
        inputs: &Tensors,
        weights: &Tensors,
    ) -> Result<Instance<'l>, Failure> {
        binding::weights(&self.interface, weights)?;
        let sizes = binding::inputs(&self.interface, inputs)?;
        let named = |name: &str| {
            let found = self.interface.sizes.iter().find(|(_, info)| info.name == name);
            found.map(|(var, _)| sizes.eval(Size::var(var)))
        };
        let mut instance = loaded.bind_sizes(&self.arguments(inputs), named)?;
        let weights: Vec<&Tensor> = self.interface.weights.iter().map(|w| &weights[&w.name]).collect();
        instance.prepare(&weights)?;
        Ok(instance)
    }

    /// The tensors of the model's inputs, in the order of the interface.
    pub fn arguments<'t>(&self, inputs: &'t Tensors) -> Vec<Option<&'t Tensor>> {
        self.interface.inputs.iter().map(|i| inputs.get(&i.name)).collect()
    }

    /// The outputs by name.
    pub fn named(&self, outputs: Vec<Tensor>) -> Tensors {
        self.interface.outputs.iter().map(|o| o.name.clone()).zip(outputs).collect()
    }

    /// Loads, binds, prepares and calls once.
    pub fn run(&self, inputs: &Tensors, weights: &Tensors) -> Result<Tensors, Failure> {
        let loaded = self.load()?;
        let mut instance = self.instance(&loaded, inputs, weights)?;
        Ok(self.named(instance.call(&self.arguments(inputs))?))
    }
}

fn build(program: &kernel::ir::Program, interface: &Interface, code: Code) -> Result<Library, Failure> {
    package::build(program, interface, code.backend, code.target)
        .map_err(|e| Failure::program(format!("{}: {e}", interface.name)))
}

fn load(library: &Library) -> Result<Loaded, Failure> {
    let path = temporary();
    std::fs::write(&path, &library.so_bytes).map_err(|e| Failure::io("write", &path, &e))?;
    let loaded = Loaded::open(&path, &library.name);
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
