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
use crate::kernel::lower::output_orders;
use crate::package::device::DeviceTarget;
use crate::package::{self, Library, Member};
use crate::rewrite;
use crate::rewrite::residuals::residuals;
use crate::sema::hir;
use crate::tensor::graph::Graph;
use crate::tensor::pass::derivatives::{jvp, vjp};
use crate::tensor::pass::two_passes::{Joint, Kept};

/// A compiled model.
#[derive(Debug)]
pub struct Compiled {
    pub algebra: Algebra,
    pub program: kernel::ir::Program,
    pub interface: Interface,
    /// The derivatives in the library, each after what it derives: of everything below the order asked for, one a mode.
    pub derivatives: Vec<Derivative>,
    /// The model's derivatives by reverse mode in two passes, where there are derivatives and something is worth keeping.
    pub passes: Option<Passes>,
    pub library: Library,
}

/// How a derivative is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// From cotangents of the outputs to cotangents of the variables.
    Reverse,
    /// From tangents of the variables to tangents of the outputs.
    Forward,
}

impl Mode {
    pub const BOTH: [Mode; 2] = [Mode::Reverse, Mode::Forward];

    /// The program of the derivatives of a program, and what its library's part is called.
    pub fn of(self, graph: &Graph, name: &str) -> (Graph, String) {
        match self {
            Mode::Reverse => (vjp(graph), format!("{name}_vjp")),
            Mode::Forward => (jvp(graph), format!("{name}_jvp")),
        }
    }
}

/// A forward pass that hands on what its backward pass reads, and that backward pass, which computes what the derivative by reverse mode does.
#[derive(Debug)]
pub struct Passes {
    pub keep: Pass,
    pub pullback: Pass,
}

/// One of two passes.
#[derive(Debug)]
pub struct Pass {
    /// What it means; it is rewritten already.
    pub graph: Graph,
    pub program: kernel::ir::Program,
    pub interface: Interface,
}

/// A program of derivatives.
#[derive(Debug)]
pub struct Derivative {
    pub mode: Mode,
    /// What it derives: one of the derivatives before it, or the model.
    pub of: Option<usize>,
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
        let mut last = vec![None];
        for _ in 0..order {
            for of in std::mem::take(&mut last) {
                for mode in Mode::BOTH {
                    let derived = of.map_or((&algebra.derived.graph, &interface), |k: usize| derivatives[k].derived());
                    let derivative = Derivative::new(session, mode, of, derived)?;
                    last.push(Some(derivatives.len()));
                    derivatives.push(derivative);
                }
            }
        }
        let passes = if order > 0 { Passes::of(session, &algebra.derived.graph, &interface)? } else { None };
        let _progress = Progress::of(format!("compiling {name}"));
        let members = members(&program, &interface, &derivatives, passes.as_ref());
        let library = build(&members, session.code, session.device.as_ref())?;
        Ok(Compiled { algebra, program, interface, derivatives, passes, library })
    }

    /// Loads the library into this process.
    pub fn load(&self) -> Result<Loaded, Failure> {
        self.load_model(&self.library.name)
    }

    /// Loads the library, for the model whose symbols are `gdl_<name>_..`.
    pub fn load_model(&self, name: &str) -> Result<Loaded, Failure> {
        load(&self.library, name)
    }

    /// Loads a library of the same models, made another way, for the one whose symbols are `gdl_<name>_..`.
    pub fn load_by(&self, code: Code, name: &str) -> Result<Loaded, Failure> {
        let members = members(&self.program, &self.interface, &self.derivatives, self.passes.as_ref());
        load(&build(&members, code, None)?, name)
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
        in_order(&self.interface, inputs)
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
        let outputs = instance.call(&in_order(interface, inputs))?;
        Ok(interface.outputs.iter().map(|o| o.name.clone()).zip(outputs).collect())
    }
}

impl Derivative {
    fn new(
        session: &Session,
        mode: Mode,
        of: Option<usize>,
        (graph, interface): (&Graph, &Interface),
    ) -> Result<Derivative, Failure> {
        let (graph, name) = mode.of(graph, &interface.name);
        let (optimised, _) = session.optimise(&graph)?;
        let program = session.lower(&optimised, &name, interface.dtype)?;
        let interface = session.interface(&graph, &name, interface.dtype);
        Ok(Derivative { mode, of, graph, program, interface })
    }

    /// What it means, and its interface.
    pub fn derived(&self) -> (&Graph, &Interface) {
        (&self.graph, &self.interface)
    }
}

impl Passes {
    /// The graphs of the two passes of a program, if anything is worth keeping.
    pub fn graphs(graph: &Graph) -> Option<[Graph; 2]> {
        let options = rewrite::Options::default();
        let joint = Joint::of(graph);
        let joint = Joint { graph: rewrite::optimise(&joint.graph, &options).0, ..joint };
        let kept = residuals(&joint, &options.target);
        if kept.is_empty() {
            return None;
        }
        let mut kept: Vec<Kept> = kept.into_iter().map(|id| Kept::new(&joint.graph, id)).collect();
        // as the forward pass would have them in memory for itself
        let orders = output_orders(&joint.forward(&kept)).split_off(joint.outputs);
        for (kept, order) in kept.iter_mut().zip(orders) {
            kept.order = order.iter().map(|k| kept.order[*k]).collect();
            kept.lead(&joint.graph);
        }
        Some([joint.forward(&kept), joint.backward(&kept)])
    }

    /// What the two passes of a program called `name` are called.
    pub fn names(name: &str) -> [String; 2] {
        [format!("{name}_keep"), format!("{name}_pullback")]
    }

    fn of(session: &Session, graph: &Graph, interface: &Interface) -> Result<Option<Passes>, Failure> {
        let _progress = Progress::of(format!("rewriting the two passes of {}", interface.name));
        let Some([forward, backward]) = Passes::graphs(graph) else { return Ok(None) };
        let [keep, pullback] = Passes::names(&interface.name);
        let pass = |graph: Graph, name: &str| {
            let program = session.lower(&graph, name, interface.dtype)?;
            let interface = session.interface(&graph, name, interface.dtype);
            Ok::<_, Failure>(Pass { graph, program, interface })
        };
        Ok(Some(Passes { keep: pass(forward, &keep)?, pullback: pass(backward, &pullback)? }))
    }
}

/// Binds, prepares: a loaded model ready to be called on inputs of these shapes.
pub fn bound<'l>(
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
    let mut instance = loaded.bind_sizes(&in_order(interface, inputs), named)?;
    let weights: Vec<&Tensor> = interface.weights.iter().map(|w| &weights[&w.name]).collect();
    instance.prepare(&weights)?;
    Ok(instance)
}

/// The tensors of the inputs, in the order of the interface.
pub fn in_order<'t>(interface: &Interface, inputs: &'t Tensors) -> Vec<Option<&'t Tensor>> {
    interface.inputs.iter().map(|i| inputs.get(&i.name)).collect()
}

/// The models of a library: the model, its derivatives, its passes.
fn members<'c>(
    program: &'c kernel::ir::Program,
    interface: &'c Interface,
    derivatives: &'c [Derivative],
    passes: Option<&'c Passes>,
) -> Vec<Member<'c>> {
    let of =
        |of: Option<usize>, mode: Mode| derivatives.iter().position(|d| d.of == of && d.mode == mode).map(|k| k + 1);
    let member = |k: Option<usize>, program, interface| Member {
        vjp: of(k, Mode::Reverse),
        jvp: of(k, Mode::Forward),
        ..Member::alone(program, interface)
    };
    let mut members = vec![member(None, program, interface)];
    members.extend(derivatives.iter().enumerate().map(|(k, d)| member(Some(k), &d.program, &d.interface)));
    if let Some(Passes { keep, pullback }) = passes {
        members[0].passes = Some([members.len(), members.len() + 1]);
        members.extend([keep, pullback].map(|pass| Member::alone(&pass.program, &pass.interface)));
    }
    members
}

fn build(members: &[Member<'_>], code: Code, device: Option<&DeviceTarget>) -> Result<Library, Failure> {
    package::build_all(members, code.backend, code.target, device)
        .map_err(|e| Failure::program(format!("{}: {e}", members[0].interface.name)))
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
