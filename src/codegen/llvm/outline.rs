//! Pieces of a kernel as functions of their own, for the runtime to call: what they use is handed over in a record,
//! `[frame, values.., addresses of locals..]`.

use std::collections::BTreeSet;

use super::emit::{Emitter, Threads};
use super::local::Local;
use super::text::{BIT, BYTE, I64, POINTER, Scalar, Type, Value};
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
    Real(Var),
    Bool(Var),
    Local(Id<Buffer>),
}

impl<'p> Emitter<'_, 'p> {
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
        let piece = self.outline(&["ptr", "i64", "i64"], &captures, |e| {
            let bound = |k| Affine::value(Value::argument(I64, k));
            e.serial(var, bound(1), bound(2), body)
        })?;
        let cost = self.facts.cost(self.kernel, body, self.unit.program);
        let context = self.context();
        let (begin, end) = (self.uniform(begin), self.uniform(end));
        self.f.line(format_args!(
            "call void @gdl_rt_parallel(ptr {context}, i64 {begin}, i64 {end}, i64 {cost}, ptr {piece}, ptr {record})"
        ));
        Ok(())
    }

    /// Memory of this call with these words in it; its address.
    pub(super) fn record(&mut self, words: &[Value]) -> Value {
        let record = self.f.at_entry(POINTER, format_args!("alloca [{} x i64], align 8", words.len()));
        for (at, word) in words.iter().enumerate() {
            let to = self.f.element(I64, record, Value::int(I64, at as i64));
            self.f.line(format_args!("store {}, ptr {to}, align 8", word.typed()));
        }
        record
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
                    words.push(Captured::Real(*var));
                }
                Val::Bool(v) => {
                    values.push(self.f.cast("zext", v, Scalar::Byte));
                    words.push(Captured::Bool(*var));
                }
                Val::Ints(_) | Val::Reals(_) | Val::Mask(_) => panic!("llvm: pieces are cut outside lanes"),
            }
        }
        for id in locals {
            if let Some(local) = self.locals.get(id) {
                values.push(local.address);
                words.push(Captured::Local(*id));
            }
        }
        (self.record(&values), Captures { words })
    }

    /// Emits a piece as a function, whose first argument is the record.
    pub(super) fn outline(
        &mut self,
        types: &[&str],
        captures: &Captures,
        emit: impl FnOnce(&mut Emitter<'_, 'p>) -> Result<(), Unsupported>,
    ) -> Result<Value, Unsupported> {
        let origin = self.origin();
        self.unit.piece(origin, types, |e| {
            e.frame = e.captured(0, POINTER);
            e.threads = Threads::Taken;
            let mut at = 0;
            for word in &captures.words {
                if !matches!(word, Captured::Known(..)) {
                    at += 1;
                }
                match word {
                    Captured::Known(var, val) => drop(e.vars.insert(*var, val.clone())),
                    Captured::Index(var) => {
                        let v = e.captured(at, I64);
                        e.vars.insert(*var, Val::Int(Affine::value(v)));
                    }
                    Captured::Real(var) => {
                        let v = e.captured(at, Type::new(e.real, 1));
                        e.vars.insert(*var, Val::Real(v));
                    }
                    Captured::Bool(var) => {
                        let v = e.captured(at, BYTE);
                        let v = e.f.at_entry(BIT, format_args!("trunc i8 {v} to i1"));
                        e.vars.insert(*var, Val::Bool(v));
                    }
                    Captured::Local(id) => {
                        let address = e.captured(at, POINTER);
                        e.locals.insert(*id, Local { address, lanes: 1, by_thread: false });
                    }
                }
            }
            emit(e)
        })
    }

    /// A word of the record.
    fn captured(&mut self, at: usize, ty: Type) -> Value {
        let from = self.f.at_entry(POINTER, format_args!("getelementptr i64, ptr %a0, i64 {at}"));
        self.f.at_entry(ty, format_args!("load {ty}, ptr {from}, align 8, !invariant.load !0"))
    }
}
