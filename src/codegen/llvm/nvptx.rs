//! Kernels for GPUs: a function a launch, whose arguments are the words of the frame that it uses. Its loop over blocks begins at the
//! block's number and goes on by the number of blocks; a loop over threads is its body, with a barrier where threads meet in memory.
//! A local array is shared by the block, unless every thread uses only its own part of it (`array[thread, ..]`), or it is made inside a thread.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::emit::Emitter;
use super::local::Local;
use super::processor::Processor;
use super::text::{I32, I64, Scalar, Type, Value};
use super::unit::{Origin, Unit, scalar};
use super::value::{Affine, Val};
use crate::base::arena::Id;
use crate::codegen::Unsupported;
use crate::codegen::scan::Facts;
use crate::kernel::gpu::Launch;
use crate::kernel::ir::{Access, Binary, Buffer, Expr, Kernel, LoopKind, Memory, Stmt, Var};
use crate::kernel::verify::operands;
use crate::kernel::walk::{each_stmt, reads, uses, writes};

/// Bytes of shared memory that every GPU gives a block without being asked.
const SHARED_BYTES: usize = 48 << 10;

/// Where shared arrays begin: a multiple of the widest access.
const SHARED_ALIGN: i64 = 16;

/// Checks of the indices that a call brings: each is below `range` and is copied, or the GPU stops (`CUDA_ERROR_LAUNCH_FAILED`), as there is
/// nobody to tell in the middle of a stream.
const CHECKS: [(&str, &str); 2] = [("gdl_check_i32", "i32"), ("gdl_check_i64", "i64")];

/// How a kernel's threads use memory.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    /// Locals of a block of which each thread has a part of its own.
    owned: BTreeSet<Id<Buffer>>,
    /// Memory through which threads speak to each other.
    meeting: BTreeSet<Id<Buffer>>,
    /// Memory that the kernel only reads.
    pub constant: BTreeSet<Id<Buffer>>,
}

impl Sharing {
    fn of(unit: &Unit<'_>, kernel: &Kernel) -> Sharing {
        let mut uses: BTreeMap<Id<Buffer>, bool> = BTreeMap::new();
        let mut made_inside = BTreeSet::new();
        let mut n_loops = 0;
        each_stmt(&kernel.body, &mut |stmt| {
            if let Stmt::For { var, kind: LoopKind::Threads, body, .. } = stmt {
                n_loops += 1;
                each_access(kernel, body, &mut |buffer, index| {
                    let own = index.first().is_some_and(|i| kernel.exprs[*i] == Expr::Var(*var));
                    *uses.entry(buffer).or_insert(true) &= own;
                });
                each_stmt(body, &mut |stmt| {
                    if let Stmt::Alloc { buffer } = stmt {
                        made_inside.insert(*buffer);
                    }
                });
            }
        });
        let local = |id: &Id<Buffer>| unit.program.buffers[*id].memory == Memory::Local;
        let (read, written) = (reads(unit.program, kernel), writes(unit.program, kernel));
        let shared = uses.iter().filter(|(id, own)| local(id) && !**own && !made_inside.contains(*id));
        let mut meeting: BTreeSet<Id<Buffer>> = shared.map(|(id, _)| *id).collect();
        if n_loops > 1 {
            meeting.extend(read.iter().filter(|id| written.contains(id)));
        }
        Sharing {
            owned: uses.iter().filter(|(id, own)| local(id) && **own).map(|(id, _)| *id).collect(),
            meeting,
            constant: read.into_iter().filter(|id| !written.contains(id)).collect(),
        }
    }
}

/// Every access of a body.
fn each_access(kernel: &Kernel, body: &[Stmt], f: &mut impl FnMut(Id<Buffer>, &[Id<Expr>])) {
    each_stmt(body, &mut |stmt| match stmt {
        Stmt::Store { to, .. } | Stmt::Accumulate { to, .. } => f(to.buffer, &to.index),
        Stmt::Multiply(m) => {
            f(m.sums, &[m.thread]);
            f(m.a, &[m.place]);
            f(m.b, &[m.place]);
        }
        Stmt::For { .. } | Stmt::Let { .. } | Stmt::Alloc { .. } | Stmt::If { .. } | Stmt::Contract(_) => (),
        Stmt::Softmax(_) => panic!("llvm: a softmax is for a CPU"),
    });
    let mut open = vec![];
    uses(body, &mut |id| open.push(id));
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            if let Expr::Load(access) = &kernel.exprs[id] {
                f(access.buffer, &access.index);
            }
            open.extend(operands(&kernel.exprs[id]));
        }
    }
}

impl<'p> Unit<'p> {
    /// Emits one launch; the words of the frame that are its arguments.
    pub(super) fn device_kernel(
        &mut self,
        name: &str,
        kernel: &'p Kernel,
        launch: &Launch,
    ) -> Result<Vec<usize>, Unsupported> {
        let (facts, scopes) = (Rc::new(Facts::of(kernel)), Rc::new(self.scopes(kernel)));
        let sharing = Some(Rc::new(Sharing::of(self, kernel)));
        let origin = Origin { kernel, facts, scopes, processor: Processor::Nvptx, sharing };
        let mut emitter = Emitter::new(self, origin, Value::null());
        emitter.body(&kernel.body)?;
        let words: Vec<(i32, Value)> = emitter.words.iter().map(|(at, v)| (*at, *v)).collect();
        let argument = |(_, v): &(i32, Value)| {
            let range = if v.ty == I64 { "i64 range(i64 0, 281474976710656)".to_string() } else { v.ty.to_string() };
            format!("{range} {v}")
        };
        let arguments: Vec<String> = words.iter().map(argument).collect();
        let registers = launch.registers.map_or(String::new(), |n| format!(" \"nvvm.maxnreg\"=\"{n}\""));
        let attributes = format!("nounwind \"nvvm.reqntid\"=\"{},1,1\"{registers}", launch.threads);
        let head = format!("define ptx_kernel void @{name}({}) {attributes}", arguments.join(", "));
        let text = emitter.f.finish(&head);
        self.add(&text);
        Ok(words.into_iter().map(|(at, _)| at as usize / 8).collect())
    }

    /// Emits the checks of indices.
    pub(super) fn device_checks(&mut self) {
        for (name, from) in CHECKS {
            let wide = if from == "i64" { "  %x = or i64 %v, 0" } else { "  %x = sext i32 %v to i64" };
            let text = format!(
                "define ptx_kernel void @{name}(ptr %from, i64 %n, i64 %range, ptr %to) nounwind {{
  %t0 = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %b0 = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %d0 = call i32 @llvm.nvvm.read.ptx.sreg.ntid.x()
  %g0 = call i32 @llvm.nvvm.read.ptx.sreg.nctaid.x()
  %t = zext i32 %t0 to i64
  %b = zext i32 %b0 to i64
  %d = zext i32 %d0 to i64
  %g = zext i32 %g0 to i64
  %bd = mul i64 %b, %d
  %first = add i64 %bd, %t
  %step = mul i64 %g, %d
  br label %head
head:
  %i = phi i64 [ %first, %0 ], [ %next, %keep ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %look, label %done
look:
  %at = getelementptr {from}, ptr %from, i64 %i
  %v = load {from}, ptr %at
{wide}
  %fits = icmp ult i64 %x, %range
  br i1 %fits, label %keep, label %stop
stop:
  call void @llvm.trap()
  unreachable
keep:
  %y = trunc i64 %x to i32
  %place = getelementptr i32, ptr %to, i64 %i
  store i32 %y, ptr %place
  %next = add i64 %i, %step
  br label %head
done:
  ret void
}}

"
            );
            self.add(&text);
        }
    }
}

impl<'p> Emitter<'_, 'p> {
    /// Whether this is code for a GPU.
    pub(super) fn on_device(&self) -> bool {
        self.sharing.is_some()
    }

    /// A special register, read once at the start.
    fn register(&mut self, name: &str) -> Value {
        let narrow = self.f.at_entry(I32, format_args!("call i32 @llvm.nvvm.read.ptx.sreg.{name}.x()"));
        self.f.at_entry(I64, format_args!("zext i32 {narrow} to i64"))
    }

    /// `for block in 0..end`, as one block of many runs it.
    pub(super) fn blocks(&mut self, var: Var, begin: Affine, end: Affine, body: &'p [Stmt]) -> Result<(), Unsupported> {
        if !self.on_device() {
            return self.parallel(var, begin, end, body);
        }
        let (first, step, end) = (self.register("ctaid"), self.register("nctaid"), self.uniform(end));
        let (before, head) = (self.f.here(), self.f.block());
        let (inside, after) = (self.f.block(), self.f.block());
        self.f.jump(head);
        self.f.begin(head);
        let (next, latch) = (self.f.reserve(I64), self.f.block());
        let i = self.f.value(I64, format_args!("phi i64 [ {first}, %{before} ], [ {next}, %{latch} ]"));
        let more = self.f.compare("icmp slt", i, end);
        self.f.branch(more, inside, after);
        self.f.begin(inside);
        self.vars.insert(var, Val::Int(Affine::value(i)));
        self.body(body)?;
        self.f.jump(latch);
        self.f.begin(latch);
        self.f.line(format_args!("{next} = add nsw i64 {i}, {step}"));
        self.f.jump(head);
        self.f.begin(after);
        Ok(())
    }

    /// `for thread in 0..end`, as one thread of a block runs it; then the threads meet, if they have something to say to each other.
    pub(super) fn threads(
        &mut self,
        var: Var,
        begin: Affine,
        end: Affine,
        body: &'p [Stmt],
    ) -> Result<(), Unsupported> {
        let Some(sharing) = self.sharing.clone() else { return self.serial(var, begin, end, body) };
        let thread = match self.thread {
            Some(thread) => thread,
            None => self.register("tid"),
        };
        self.thread = Some(thread);
        self.vars.insert(var, Val::Int(Affine::value(thread)));
        self.inside_thread = true;
        self.body(body)?;
        self.inside_thread = false;
        let mut meets = false;
        each_access(self.kernel, body, &mut |buffer, _| meets |= sharing.meeting.contains(&buffer));
        if meets {
            self.f.line(format_args!("call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)"));
        }
        Ok(())
    }

    /// Makes a local of a block: a part in each thread's registers, or one array in shared memory.
    pub(super) fn alloc_in_block(&mut self, id: Id<Buffer>, dims: &[usize]) -> Result<Option<Local>, Unsupported> {
        let Some(sharing) = self.sharing.clone().filter(|_| !self.inside_thread) else { return Ok(None) };
        if sharing.owned.contains(&id) {
            let n: usize = dims[1..].iter().product::<usize>().max(1);
            return Ok(Some(Local { address: self.array(id, n), lanes: 1, by_thread: true }));
        }
        let n = dims.iter().product::<usize>().max(1);
        let element = Type::new(scalar(self.unit.program.buffers[id].dtype), 1);
        self.shared_bytes += n * element.bytes();
        if self.shared_bytes > SHARED_BYTES {
            return Err(Unsupported::new(format!(
                "`{}` on a GPU: its blocks need {} bytes of shared memory, above {SHARED_BYTES}",
                self.kernel.name, self.shared_bytes
            )));
        }
        Ok(Some(Local { address: self.unit.shared(element, n), lanes: 1, by_thread: false }))
    }

    /// The alignment of an element of shared memory, as far as its index says: neighbours that begin at one of 16 bytes are read as one.
    pub(super) fn shared_alignment(&self, access: &Access) -> Option<usize> {
        let sharing = self.sharing.as_ref()?;
        let buffer = &self.unit.program.buffers[access.buffer];
        if buffer.memory != Memory::Local || !sharing.meeting.contains(&access.buffer) {
            return None;
        }
        let mut stride = 1;
        let mut multiple = 0;
        for (index, size) in access.index.iter().zip(&buffer.shape).rev() {
            multiple = gcd(multiple, self.multiple_of(*index).saturating_mul(stride));
            stride *= size.as_fixed()? as i64;
        }
        Some((gcd(multiple, SHARED_ALIGN) as usize * buffer.dtype.bytes()).min(SHARED_ALIGN as usize))
    }

    /// A number that divides an index whatever the thread; 0 where the index is 0.
    fn multiple_of(&self, id: Id<Expr>) -> i64 {
        match &self.kernel.exprs[id] {
            Expr::Int(k) => k.abs(),
            Expr::Var(var) => match self.vars.get(var) {
                Some(Val::Int(index)) => index.known().map_or(1, i64::abs),
                _ => 1,
            },
            Expr::Binary { f: Binary::Add | Binary::Sub | Binary::Mod, x, y } => {
                gcd(self.multiple_of(*x), self.multiple_of(*y))
            }
            Expr::Binary { f: Binary::Mul, x, y } => self.multiple_of(*x).saturating_mul(self.multiple_of(*y)),
            _ => 1,
        }
    }

    /// The value at an address, read only where a condition holds; zero elsewhere.
    pub(super) fn load_if(&mut self, ty: Type, cond: Value, load: impl FnOnce(&mut Self) -> Value) -> Value {
        let (inside, after, before) = (self.f.block(), self.f.block(), self.f.here());
        self.f.branch(cond, inside, after);
        self.f.begin(inside);
        let v = load(self);
        let here = self.f.here();
        self.f.jump(after);
        self.f.begin(after);
        let zero =
            if matches!(ty.scalar, Scalar::F32 | Scalar::F64) { Value::real(ty, 0.0) } else { Value::int(ty, 0) };
        self.f.value(ty, format_args!("phi {ty} [ {v}, %{here} ], [ {zero}, %{before} ]"))
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
