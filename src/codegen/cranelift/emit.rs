//! Statements → instructions of one function.
//! An [`Emitter`] holds what is in scope; `lanes` is 1 outside vector loops, and inside every statement runs for all lanes at once.

use std::collections::BTreeMap;
use std::rc::Rc;

use cranelift_codegen::ir::{InstBuilder, StackSlot, Type, Value, types};
use cranelift_frontend::FunctionBuilder;

use super::local::Local;
use super::unit::Unit;
use super::value::{Affine, Val};
use crate::base::arena::Id;
use crate::base::dtype::Dtype;
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

/// One function in the making.
pub(super) struct Emitter<'u, 'b, 'p> {
    pub unit: &'u mut Unit<'p>,
    pub b: FunctionBuilder<'b>,
    pub kernel: &'p Kernel,
    pub facts: Rc<Facts>,
    pub frame: Value,
    pub real: Type,
    pub lanes: usize,
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
    pub safe: Option<StackSlot>,
}

impl<'u, 'b, 'p> Emitter<'u, 'b, 'p> {
    pub(super) fn new(unit: &'u mut Unit<'p>, b: FunctionBuilder<'b>, kernel: &'p Kernel, frame: Value) -> Self {
        let real = if unit.program.dtype == Dtype::F64 { types::F64 } else { types::F32 };
        Emitter {
            unit,
            b,
            kernel,
            facts: Rc::new(Facts::of(kernel)),
            frame,
            real,
            lanes: 1,
            threads: Threads::Free,
            vars: BTreeMap::new(),
            locals: BTreeMap::new(),
            memo: BTreeMap::new(),
            guard: None,
            guard_number: 0,
            n_guards: 0,
            safe: None,
        }
    }

    /// Returns from the function; it is complete.
    pub(super) fn end(mut self) {
        self.b.ins().return_(&[]);
        let config = {
            use cranelift_module::Module;
            self.unit.module.isa().frontend_config()
        };
        self.b.finalize(config);
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
            match stmt {
                Stmt::Alloc { buffer } => self.alloc(*buffer, after)?,
                Stmt::For { .. }
                | Stmt::Store { .. }
                | Stmt::Accumulate { .. }
                | Stmt::Let { .. }
                | Stmt::If { .. } => {
                    self.stmt(stmt)?;
                }
                Stmt::Contract(_) | Stmt::Softmax(_) | Stmt::Multiply(_) => self.stmt(stmt)?,
            }
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
            Stmt::Alloc { .. } => panic!("cranelift: `body` makes locals"),
            Stmt::If { cond, then } => self.if_then(*cond, then),
            Stmt::Contract(contraction) => self.contract(contraction),
            Stmt::Softmax(step) => self.softmax(step),
            Stmt::Multiply(_) => {
                Err(Unsupported::new("a product of warps as a statement: write it out before emitting"))
            }
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
            LoopKind::Serial | LoopKind::Threads => self.serial(var, begin, end, body),
            LoopKind::Unrolled => self.unrolled(var, begin, end, body),
            LoopKind::Vector => self.vector(var, begin, end, body),
            LoopKind::Parallel | LoopKind::Blocks => self.parallel(var, begin, end, body),
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
        let (inside, after) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(cond, inside, &[], after, &[]);
        self.b.switch_to_block(inside);
        self.b.seal_block(inside);
        self.body(then)?;
        self.b.ins().jump(after, &[]);
        self.b.switch_to_block(after);
        self.b.seal_block(after);
        self.memo.clear();
        Ok(())
    }

    /// `to = f(to, value)`
    fn accumulate(&mut self, to: &Access, f: Combine, value: &Val) -> Result<(), Unsupported> {
        let old = if self.lanes > 1 { self.accumulate_shared(to, f, value)? } else { None };
        if old == Some(()) {
            return Ok(());
        }
        let held = self.load(to)?;
        let sum = self.combine(f, &held, value)?;
        self.store(to, &sum)
    }

    /// Where lanes may meet in one element, they take turns; whether that was so.
    fn accumulate_shared(&mut self, to: &Access, f: Combine, value: &Val) -> Result<Option<()>, Unsupported> {
        let Some(turns) = self.turns(to)? else { return Ok(None) };
        let values: Vec<Val> = match value {
            Val::Real(_) | Val::Reals(_) => self.each_real(value).into_iter().map(Val::Real).collect(),
            Val::Int(_) | Val::Ints(_) => {
                self.each_lane(value).into_iter().map(|v| Val::Int(Affine::value(v))).collect()
            }
            Val::Bool(_) | Val::Known(_) | Val::Mask(_) => panic!("cranelift: conditions are not stored"),
        };
        let lanes = std::mem::replace(&mut self.lanes, 1);
        for (lane, value) in values.iter().enumerate() {
            let held = self.load_turn(to, &turns, lane);
            let sum = self.combine(f, &held, value)?;
            self.store_turn(to, &turns, lane, &sum);
        }
        self.lanes = lanes;
        Ok(Some(()))
    }
}
