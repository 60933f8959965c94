//! Pieces of a kernel as functions of their own, for the runtime to call: what they use is handed over in a record,
//! `[frame, values.., addresses of locals..]`.

use std::collections::BTreeSet;

use cranelift_codegen::ir::{InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, Type, Value, types};
use cranelift_module::{FuncId, Module};

use super::emit::{Emitter, Threads};
use super::local::Local;
use super::value::{Affine, Val};
use crate::base::arena::Id;
use crate::codegen::Unsupported;
use crate::kernel::ir::{Buffer, Stmt, Var};

/// What a piece takes along.
#[derive(Clone, Debug)]
pub(super) struct Captures {
    words: Vec<Captured>,
}

#[derive(Clone, Debug)]
enum Captured {
    /// Known now: no word needed.
    Known(Var, Val),
    Index(Var),
    Real(Var, Type),
    Bool(Var),
    Local(Id<Buffer>),
}

impl<'p> Emitter<'_, '_, 'p> {
    /// Hands a parallel loop to the runtime.
    pub(super) fn parallel(
        &mut self,
        var: Var,
        begin: Affine,
        end: Affine,
        body: &'p [Stmt],
    ) -> Result<(), Unsupported> {
        if self.threads == Threads::Taken || self.lanes > 1 {
            return self.serial(var, begin, end, body);
        }
        let used = self.facts.used(self.kernel, body);
        let (record, captures) = self.capture(&used.vars, &used.locals);
        let piece = self.outline(3, &captures, |e, params| {
            let (begin, end) = (Affine::value(params[1]), Affine::value(params[2]));
            e.serial(var, begin, end, body)
        })?;
        let cost = self.facts.cost(self.kernel, body, self.unit.program);
        let context = self.context();
        let (begin, end, cost) = (self.uniform(begin), self.uniform(end), self.iconst(cost));
        let piece = self.function_address(piece);
        let callee = self.unit.parallel;
        self.call(callee, &[context, begin, end, cost, piece, record]);
        Ok(())
    }

    /// Calls a function of the runtime.
    pub(super) fn call(&mut self, callee: FuncId, arguments: &[Value]) {
        let callee = self.unit.module.declare_func_in_func(callee, self.b.func);
        self.b.ins().call(callee, arguments);
    }

    pub(super) fn function_address(&mut self, id: FuncId) -> Value {
        let function = self.unit.module.declare_func_in_func(id, self.b.func);
        self.b.ins().func_addr(types::I64, function)
    }

    /// Writes the record of what a piece uses; its address.
    pub(super) fn capture(&mut self, vars: &BTreeSet<Var>, locals: &BTreeSet<Id<Buffer>>) -> (Value, Captures) {
        let mut words = Vec::new();
        let mut values = vec![self.frame];
        for var in vars {
            let Some(val) = self.vars.get(var).cloned() else { continue };
            match val {
                Val::Int(a) if a.known().is_some() => words.push(Captured::Known(*var, val)),
                Val::Known(_) => words.push(Captured::Known(*var, val)),
                Val::Int(a) => {
                    values.push(self.uniform(a));
                    words.push(Captured::Index(*var));
                }
                Val::Real(v) => {
                    values.push(v);
                    words.push(Captured::Real(*var, self.real));
                }
                Val::Bool(v) => {
                    values.push(v);
                    words.push(Captured::Bool(*var));
                }
                Val::Ints(_) | Val::Reals(_) | Val::Mask(_) => panic!("cranelift: pieces are cut outside lanes"),
            }
        }
        for local in locals {
            if let Some(Local::Memory { address, .. }) = self.locals.get(local) {
                values.push(*address);
                words.push(Captured::Local(*local));
            }
        }
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, 8 * values.len() as u32, 3);
        let slot = self.b.create_sized_stack_slot(data);
        let record = self.b.ins().stack_addr(types::I64, slot, 0);
        for (at, v) in values.into_iter().enumerate() {
            self.b.ins().store(MemFlagsData::trusted(), v, record, 8 * at as i32);
        }
        (record, Captures { words })
    }

    /// Emits a piece as a function of `n` integers, the first of which is the record.
    pub(super) fn outline(
        &mut self,
        n: usize,
        captures: &Captures,
        emit: impl FnOnce(&mut Emitter<'_, '_, 'p>, &[Value]) -> Result<(), Unsupported>,
    ) -> Result<FuncId, Unsupported> {
        let kernel = self.kernel;
        self.unit.outlined(n, |unit, b, params| {
            let mut e = Emitter::new(unit, b, kernel, params[0]);
            let flags = MemFlagsData::trusted().with_readonly().with_can_move();
            let record = params[0];
            e.frame = e.b.ins().load(types::I64, flags, record, 0);
            e.threads = Threads::Taken;
            let mut at = 0;
            for word in &captures.words {
                if let Captured::Known(var, val) = word {
                    e.vars.insert(*var, val.clone());
                    continue;
                }
                at += 8;
                let ty = match word {
                    Captured::Real(_, ty) => *ty,
                    Captured::Bool(_) => types::I8,
                    Captured::Index(_) | Captured::Local(_) | Captured::Known(..) => types::I64,
                };
                let v = e.b.ins().load(ty, flags, record, at);
                match word {
                    Captured::Index(var) => drop(e.vars.insert(*var, Val::Int(Affine::value(v)))),
                    Captured::Real(var, _) => drop(e.vars.insert(*var, Val::Real(v))),
                    Captured::Bool(var) => drop(e.vars.insert(*var, Val::Bool(v))),
                    Captured::Local(id) => drop(e.locals.insert(*id, Local::Memory { address: v, lanes: 1 })),
                    Captured::Known(..) => {}
                }
            }
            emit(&mut e, params)?;
            e.end();
            Ok(())
        })
    }
}
