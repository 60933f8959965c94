//! The module in the making: its functions, the constants of the program, which memory is apart from which.
//! In: kernels, one by one, once for each processor. Out: the text. It does not look into statements; `emit` does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::rc::Rc;

use super::emit::Emitter;
use super::nvptx::Sharing;
use super::processor::Processor;
use super::text::{BYTE, Function, POINTER, Scalar, Type, Value, exact};
use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::codegen::frame::Frame;
use crate::codegen::scan::Facts;
use crate::codegen::{Target, Unsupported};
use crate::kernel::ir::{Access, Buffer, Expr, Kernel, Memory, Program, Stmt};
use crate::kernel::walk::each_stmt;

/// How LLVM lays out data for 64-bit GPUs of NVIDIA.
const DEVICE_LAYOUT: &str = "e-p6:32:32-i64:64-i128:128-i256:256-v16:16-v32:32-n16:32:64";

/// A module in the making.
pub(super) struct Unit<'p> {
    pub program: &'p Program,
    pub frame: Frame,
    functions: String,
    constants: BTreeMap<Id<Buffer>, usize>,
    /// Arrays in the shared memory of a GPU's blocks: element and number.
    shared: Vec<(Type, usize)>,
    /// `!0` is empty, `!1` the range of sizes; the others tell memory apart.
    metadata: Vec<String>,
    n_pieces: usize,
}

/// Which memory is apart: for each buffer that a kernel uses, its own scope and the scopes of all others.
pub(super) type Scopes = BTreeMap<Id<Buffer>, Scope>;

/// Numbers of metadata.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    pub own: usize,
    pub others: usize,
}

/// What is known of the function that a piece is cut from.
#[derive(Clone)]
pub(super) struct Origin<'p> {
    pub kernel: &'p Kernel,
    pub facts: Rc<Facts>,
    pub scopes: Rc<Scopes>,
    pub processor: Processor,
    /// How the threads of a block use memory; none on a CPU.
    pub sharing: Option<Rc<Sharing>>,
}

impl<'p> Unit<'p> {
    pub(super) fn new(program: &'p Program) -> Self {
        Unit {
            program,
            frame: Frame::of(program),
            functions: String::new(),
            constants: BTreeMap::new(),
            shared: Vec::new(),
            metadata: vec!["!{}".into(), "!{i64 0, i64 281474976710656}".into()],
            n_pieces: 0,
        }
    }

    /// Emits one kernel for every processor of the target, and what chooses between them at run time; its symbol.
    pub(super) fn kernel(
        &mut self,
        number: usize,
        kernel: &'p Kernel,
        processors: &[Processor],
    ) -> Result<String, Unsupported> {
        let name = format!("gdl_kernel_{number}");
        let (facts, scopes) = (Rc::new(Facts::of(kernel)), Rc::new(self.scopes(kernel)));
        for processor in processors {
            let (facts, scopes) = (facts.clone(), scopes.clone());
            let origin = Origin { kernel, facts, scopes, processor: *processor, sharing: None };
            let mut emitter = Emitter::new(self, origin, Value::argument(POINTER, 0));
            emitter.body(&kernel.body)?;
            let (one, attributes) = (processors.len() == 1, processor.attributes());
            let head = if one {
                format!("define void @{name}(ptr %a0) {attributes}")
            } else {
                format!("define internal void @{name}_{}(ptr %a0) {attributes}", processor.name())
            };
            let text = emitter.f.finish(&head);
            self.functions.push_str(&text);
        }
        if let [least, better @ ..] = processors
            && !better.is_empty()
        {
            self.choice(&name, *least, better);
        }
        Ok(name)
    }

    /// The kernel as the runtime calls it: the version for the processor at hand.
    fn choice(&mut self, name: &str, least: Processor, better: &[Processor]) {
        let mut f = Function::default();
        for processor in better.iter().rev() {
            let (this, next) = (f.block(), f.block());
            let has = f.value(BYTE, format_args!("call i8 @gdl_rt_has(i64 {})", processor.feature()));
            let there = f.compare("icmp ne", has, Value::int(BYTE, 0));
            f.branch(there, this, next);
            f.begin(this);
            f.line(format_args!("tail call void @{name}_{}(ptr %a0)", processor.name()));
            f.line(format_args!("ret void"));
            f.begin(next);
        }
        f.line(format_args!("tail call void @{name}_{}(ptr %a0)", least.name()));
        let text = f.finish(&format!("define void @{name}(ptr %a0) {}", least.attributes()));
        self.functions.push_str(&text);
    }

    /// Emits a function that only this module calls; `types` are those of its arguments.
    pub(super) fn piece(
        &mut self,
        origin: Origin<'p>,
        types: &[&str],
        emit: impl FnOnce(&mut Emitter<'_, 'p>) -> Result<(), Unsupported>,
    ) -> Result<Value, Unsupported> {
        let number = self.n_pieces;
        self.n_pieces += 1;
        let attributes = origin.processor.attributes();
        let mut emitter = Emitter::new(self, origin, Value::poison(POINTER));
        emit(&mut emitter)?;
        let arguments: Vec<String> = types.iter().enumerate().map(|(k, ty)| format!("{ty} %a{k}")).collect();
        let head = format!("define internal void @piece_{number}({}) {attributes}", arguments.join(", "));
        let text = emitter.f.finish(&head);
        self.functions.push_str(&text);
        Ok(Value::piece(number))
    }

    /// The address of a constant buffer.
    pub(super) fn constant(&mut self, buffer: Id<Buffer>, on_device: bool) -> Value {
        let next = self.constants.len();
        let number = *self.constants.entry(buffer).or_insert(next);
        if on_device { Value::device_constant(number) } else { Value::constant(number) }
    }

    /// A new array of shared memory.
    pub(super) fn shared(&mut self, element: Type, n: usize) -> Value {
        self.shared.push((element, n));
        Value::shared(self.shared.len() - 1)
    }

    /// Adds the text of a function.
    pub(super) fn add(&mut self, text: &str) {
        self.functions.push_str(text);
    }

    /// Buffers of one kernel never overlap: what it reads and what it writes is alive together.
    pub(super) fn scopes(&mut self, kernel: &Kernel) -> Scopes {
        let mut used: BTreeSet<Id<Buffer>> = BTreeSet::new();
        for (_, expr) in kernel.exprs.iter() {
            if let Expr::Load(access) = expr {
                used.insert(access.buffer);
            }
        }
        each_stmt(&kernel.body, &mut |stmt| match stmt {
            Stmt::Store { to: Access { buffer, .. }, .. }
            | Stmt::Accumulate { to: Access { buffer, .. }, .. }
            | Stmt::Alloc { buffer } => drop(used.insert(*buffer)),
            Stmt::For { .. } | Stmt::Let { .. } | Stmt::If { .. } | Stmt::Contract(_) => {}
            Stmt::Softmax(_) | Stmt::Multiply(_) => {}
        });
        used.retain(|id| !matches!(self.program.buffers[*id].memory, Memory::Constant(_)));
        let domain = self.distinct("");
        let scopes: BTreeMap<Id<Buffer>, usize> =
            used.iter().map(|id| (*id, self.distinct(&format!(", !{domain}")))).collect();
        let list = |unit: &mut Self, all: &mut dyn Iterator<Item = &usize>| {
            let all: Vec<String> = all.map(|n| format!("!{n}")).collect();
            unit.metadata.push(format!("!{{{}}}", all.join(", ")));
            unit.metadata.len() - 1
        };
        let mut res = Scopes::new();
        for (id, scope) in &scopes {
            let own = list(self, &mut [*scope].iter());
            let others = list(self, &mut scopes.values().filter(|n| *n != scope));
            res.insert(*id, Scope { own, others });
        }
        res
    }

    fn distinct(&mut self, rest: &str) -> usize {
        let number = self.metadata.len();
        self.metadata.push(format!("distinct !{{!{number}{rest}}}"));
        number
    }

    /// The text of the module, for a CPU.
    pub(super) fn finish(self, target: Target) -> String {
        let mut text = self.head(super::processor::triple(target), "");
        text.push_str("\ndeclare void @gdl_rt_parallel(ptr, i64, i64, i64, ptr, ptr)\n");
        text.push_str("declare void @gdl_rt_contract(ptr, ptr)\ndeclare void @gdl_rt_softmax(ptr, ptr)\ndeclare i8 @gdl_rt_has(i64)\n\n");
        self.with_functions(text)
    }

    /// The text of the module, for a GPU.
    pub(super) fn finish_device(self) -> String {
        let mut text = format!("target datalayout = \"{DEVICE_LAYOUT}\"\n");
        text.push_str(&self.head("nvptx64-nvidia-cuda", "addrspace(1) "));
        for (number, (element, n)) in self.shared.iter().enumerate() {
            let _ = writeln!(text, "@shared_{number} = internal addrspace(3) global [{n} x {element}] undef, align 16");
        }
        text.push('\n');
        self.with_functions(text)
    }

    /// The target and the constants, in a space of addresses.
    fn head(&self, triple: &str, space: &str) -> String {
        let mut text = format!("; {}\ntarget triple = \"{triple}\"\n\n", self.program.name);
        let mut numbered: Vec<(usize, Id<Buffer>)> = self.constants.iter().map(|(id, n)| (*n, *id)).collect();
        numbered.sort_unstable();
        for (number, id) in numbered {
            let Buffer { dtype, memory, name, .. } = &self.program.buffers[id];
            let Memory::Constant(numbers) = memory else { panic!("llvm: the buffer is not a constant") };
            let _ = writeln!(
                text,
                "; {name}\n@constant_{number} = internal unnamed_addr {space}constant {}, align 64",
                array(*dtype, numbers)
            );
        }
        text
    }

    fn with_functions(self, mut text: String) -> String {
        text.push_str(&self.functions);
        for (number, node) in self.metadata.iter().enumerate() {
            let _ = writeln!(text, "!{number} = {node}");
        }
        text
    }
}

/// The type of a buffer's elements.
pub(super) fn scalar(dtype: Dtype) -> Scalar {
    match dtype {
        Dtype::F32 => Scalar::F32,
        Dtype::F64 => Scalar::F64,
        Dtype::I32 => Scalar::I32,
        Dtype::I64 => Scalar::I64,
    }
}

fn array(dtype: Dtype, numbers: &[f64]) -> String {
    let scalar = scalar(dtype);
    let one = |x: &f64| {
        let number = if scalar.is_float() { exact(scalar, *x) } else { (*x as i64).to_string() };
        format!("{scalar} {number}")
    };
    let all: Vec<String> = numbers.iter().map(one).collect();
    format!("[{} x {scalar}] [{}]", numbers.len(), all.join(", "))
}
