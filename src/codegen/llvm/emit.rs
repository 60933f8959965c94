//! Statements → instructions of one function.
//! An [`Emitter`] holds what is in scope; `lanes` is 1 outside vector loops, and inside every statement runs for all lanes at once,
//! or, at the end of a loop, for the first few of them (`Tail`).

use std::collections::BTreeMap;
use std::rc::Rc;

use super::local::Local;
use super::nvptx::Sharing;
use super::processor::Processor;
use super::text::{Function, Scalar, Type, Value};
use super::unit::{Origin, Scopes, Unit, scalar};
use super::value::{Affine, Val};
use crate::base::arena::Id;
use crate::base::size::Size;
use crate::codegen::Unsupported;
use crate::codegen::scan::Facts;
use crate::kernel::ir::{Access, Buffer, Combine, Expr, Kernel, LoopKind, Stmt, Var};

/// Where parallel loops may still go to other threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Threads {
    /// Here: nothing around it is parallel.
    Free,
    /// Already inside a piece that one thread runs.
    Taken,
}

/// The last round of a vector loop, when it does not fill the lanes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    /// The lanes that run.
    pub mask: Value,
    /// How many they are, at least one.
    pub count: Value,
}

/// One function in the making.
pub(super) struct Emitter<'u, 'p> {
    pub unit: &'u mut Unit<'p>,
    pub f: Function,
    pub kernel: &'p Kernel,
    pub facts: Rc<Facts>,
    pub scopes: Rc<Scopes>,
    pub processor: Processor,
    pub sharing: Option<Rc<Sharing>>,
    /// The number of the thread of a GPU, where it has been asked for, and whether this is inside a loop over threads.
    pub thread: Option<Value>,
    pub inside_thread: bool,
    /// Shared memory of the block so far.
    pub shared_bytes: usize,
    pub frame: Value,
    /// The program's floats.
    pub real: Scalar,
    pub lanes: usize,
    pub tail: Option<Tail>,
    /// Something was emitted that some lanes cannot be left out of.
    pub needs_all_lanes: bool,
    pub threads: Threads,
    pub vars: BTreeMap<Var, Val>,
    pub locals: BTreeMap<Id<Buffer>, Local>,
    /// Values of this statement's expressions, by expression and guard.
    pub memo: BTreeMap<(Id<Expr>, u32), Val>,
    /// Where false, loads must not be made; its number tells guards apart.
    pub guard: Option<Val>,
    pub guard_number: u32,
    pub n_guards: u32,
    /// Memory that may always be read.
    pub safe: Option<Value>,
    /// Words of the frame and sizes, read once at the start.
    pub words: BTreeMap<i32, Value>,
    pub sizes: Vec<(Size, Affine)>,
}

impl<'u, 'p> Emitter<'u, 'p> {
    pub(super) fn new(unit: &'u mut Unit<'p>, origin: Origin<'p>, frame: Value) -> Self {
        let real = scalar(unit.program.dtype);
        Emitter {
            unit,
            f: Function::default(),
            kernel: origin.kernel,
            facts: origin.facts,
            scopes: origin.scopes,
            processor: origin.processor,
            sharing: origin.sharing,
            thread: None,
            inside_thread: false,
            shared_bytes: 0,
            frame,
            real,
            lanes: 1,
            tail: None,
            needs_all_lanes: false,
            threads: Threads::Free,
            vars: BTreeMap::new(),
            locals: BTreeMap::new(),
            memo: BTreeMap::new(),
            guard: None,
            guard_number: 0,
            n_guards: 0,
            safe: None,
            words: BTreeMap::new(),
            sizes: Vec::new(),
        }
    }

    /// What a piece of this function needs to know.
    pub(super) fn origin(&self) -> Origin<'p> {
        Origin {
            kernel: self.kernel,
            facts: self.facts.clone(),
            scopes: self.scopes.clone(),
            processor: self.processor,
            sharing: self.sharing.clone(),
        }
    }

    /// Lanes of one vector.
    pub(super) fn per_vector(&self) -> usize {
        (self.processor.vector_bytes() / Type::new(self.real, 1).bytes()).max(1)
    }

    /// The statements of a body, in order.
    pub(super) fn body(&mut self, body: &'p [Stmt]) -> Result<(), Unsupported> {
        let mut rest = body;
        while let [stmt, after @ ..] = rest {
            self.memo.clear();
            let stored = self.store_rows(rest)?;
            if stored > 0 {
                rest = &rest[stored..];
                continue;
            }
            self.stmt(stmt)?;
            rest = after;
        }
        self.memo.clear();
        Ok(())
    }

    fn stmt(&mut self, stmt: &'p Stmt) -> Result<(), Unsupported> {
        match stmt {
            Stmt::For { var, begin, end, kind, body } => self.for_loop(*var, *begin, *end, *kind, body),
            Stmt::Store { to, value } => {
                let value = self.expr(*value)?;
                self.store(to, &value)
            }
            Stmt::Accumulate { to, f, value } => {
                let value = self.expr(*value)?;
                self.accumulate(to, *f, &value)
            }
            Stmt::Let { var, value } => {
                let value = self.expr(*value)?;
                self.vars.insert(*var, value);
                Ok(())
            }
            Stmt::Alloc { buffer } => self.alloc(*buffer),
            Stmt::If { cond, then } => self.if_then(*cond, then),
            Stmt::Contract(contraction) => self.contract(contraction),
            Stmt::Softmax(step) => self.softmax(step),
            Stmt::Multiply(m) => self.multiply(m),
        }
    }

    fn for_loop(
        &mut self,
        var: Var,
        begin: Id<Expr>,
        end: Id<Expr>,
        kind: LoopKind,
        body: &'p [Stmt],
    ) -> Result<(), Unsupported> {
        let (begin, end) = (self.shared_index(begin)?, self.shared_index(end)?);
        match kind {
            LoopKind::Serial => self.serial(var, begin, end, body),
            LoopKind::Unrolled => self.unrolled(var, begin, end, body),
            LoopKind::Vector => self.vector(var, begin, end, body),
            LoopKind::Parallel => self.parallel(var, begin, end, body),
            LoopKind::Blocks => self.blocks(var, begin, end, body),
            LoopKind::Threads => self.threads(var, begin, end, body),
        }
    }

    /// An index that is the same in all lanes.
    fn shared_index(&mut self, id: Id<Expr>) -> Result<Affine, Unsupported> {
        match self.expr(id)? {
            Val::Int(a) if a.lane == 0 => Ok(a),
            _ => Err(Unsupported::new(format!("a loop in `{}` whose bounds differ between lanes", self.kernel.name))),
        }
    }

    fn if_then(&mut self, cond: Id<Expr>, then: &'p [Stmt]) -> Result<(), Unsupported> {
        let cond = match self.expr(cond)? {
            Val::Known(true) => return self.body(then),
            Val::Known(false) => return Ok(()),
            Val::Bool(v) => v,
            _ => {
                let name = &self.kernel.name;
                return Err(Unsupported::new(format!("a condition in `{name}` that differs between lanes")));
            }
        };
        let (inside, after) = (self.f.block(), self.f.block());
        self.f.branch(cond, inside, after);
        self.f.begin(inside);
        self.body(then)?;
        self.f.jump(after);
        self.f.begin(after);
        Ok(())
    }

    /// `to = f(to, value)`. Where all lanes meet in one element, they are combined first; where some may meet, they take turns.
    fn accumulate(&mut self, to: &Access, f: Combine, value: &Val) -> Result<(), Unsupported> {
        let place = self.place(to)?;
        if self.lanes > 1 && place.is_shared() {
            let value = self.combined(f, value);
            let held = self.load_one_place(&place);
            let sum = self.combine(f, &held, &value)?;
            self.store_one_place(&place, &sum);
            return Ok(());
        }
        if let Some(places) = place.each() {
            self.needs_all_lanes |= self.tail.is_some();
            let lanes = self.lanes;
            for lane in 0..lanes {
                let one = self.lane_of(value, lane);
                let place = self.one_of(&place, places, lane);
                let held = self.load_one_place(&place);
                let sum = self.combine(f, &held, &one)?;
                self.store_one_place(&place, &sum);
            }
            return Ok(());
        }
        let held = self.load_place(&place);
        let sum = self.combine(f, &held, value)?;
        self.store_place(&place, &sum);
        Ok(())
    }
}
