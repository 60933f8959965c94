//! Loops that stay in the function: serial, unrolled, and vector loops with their rest.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{BlockArg, InstBuilder, Value, types};

use super::emit::Emitter;
use super::value::{Affine, Val};
use crate::codegen::Unsupported;
use crate::kernel::ir::{Stmt, Var};

/// Copies of a body that unrolling may make.
const MOST_COPIES: i64 = 4096;

impl<'p> Emitter<'_, '_, 'p> {
    pub(super) fn serial(&mut self, var: Var, begin: Affine, end: Affine, body: &'p [Stmt]) -> Result<(), Unsupported> {
        self.counted(begin, end, 1, &mut |e, i| {
            e.vars.insert(var, Val::Int(i));
            e.body(body)
        })
    }

    /// `for i in (begin..end).step_by(step) { body(i) }`, while a whole step fits.
    pub(super) fn counted(
        &mut self,
        begin: Affine,
        end: Affine,
        step: i64,
        body: &mut dyn FnMut(&mut Self, Affine) -> Result<(), Unsupported>,
    ) -> Result<(), Unsupported> {
        let last = self.add_affine(end, Affine::constant(1 - step));
        if let (Some(begin), Some(last)) = (begin.known(), last.known()) {
            if begin >= last {
                return Ok(());
            }
            if begin + step >= last {
                return body(self, Affine::constant(begin));
            }
        }
        let (begin, last) = (self.uniform(begin), self.uniform(last));
        let (inside, after) = (self.b.create_block(), self.b.create_block());
        let i = self.b.append_block_param(inside, types::I64);
        let any = self.b.ins().icmp(IntCC::SignedLessThan, begin, last);
        self.b.ins().brif(any, inside, &[BlockArg::Value(begin)], after, &[]);
        self.b.switch_to_block(inside);
        self.memo.clear();
        body(self, Affine::value(i))?;
        self.memo.clear();
        let step = self.iconst(step);
        let next = self.b.ins().iadd(i, step);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, next, last);
        self.b.ins().brif(more, inside, &[BlockArg::Value(next)], after, &[]);
        self.b.seal_block(inside);
        self.b.switch_to_block(after);
        self.b.seal_block(after);
        Ok(())
    }

    pub(super) fn unrolled(
        &mut self,
        var: Var,
        begin: Affine,
        end: Affine,
        body: &'p [Stmt],
    ) -> Result<(), Unsupported> {
        let (Some(begin), Some(end)) = (begin.known(), end.known()) else {
            return Err(Unsupported::new(format!("an unrolled loop in `{}` without known bounds", self.kernel.name)));
        };
        if end - begin > MOST_COPIES {
            return Err(Unsupported::new(format!("unrolling a loop of {} in `{}`", end - begin, self.kernel.name)));
        }
        for i in begin..end {
            self.vars.insert(var, Val::Int(Affine::constant(i)));
            self.body(body)?;
        }
        Ok(())
    }

    pub(super) fn vector(&mut self, var: Var, begin: Affine, end: Affine, body: &'p [Stmt]) -> Result<(), Unsupported> {
        if self.lanes > 1 || !self.facts.runs_in_lanes(self.kernel, var, body) {
            return self.serial(var, begin, end, body);
        }
        let width = self.width(body);
        self.in_lanes(begin, end, width, &mut |e, i| {
            e.vars.insert(var, Val::Int(i));
            e.body(body)
        })
    }

    /// How many lanes a body should have: more hide latency, until their registers spill.
    pub(super) fn width(&self, body: &[Stmt]) -> usize {
        let vectors = match self.facts.pressure(self.kernel, body, self.unit.program) {
            0..=3 => 4,
            4..=6 => 2,
            _ => 1,
        };
        vectors * self.per_vector()
    }

    /// Runs a body for all of `begin..end`: `width` lanes at a time, then one vector at a time, then one by one.
    pub(super) fn in_lanes(
        &mut self,
        begin: Affine,
        end: Affine,
        width: usize,
        body: &mut dyn FnMut(&mut Self, Affine) -> Result<(), Unsupported>,
    ) -> Result<(), Unsupported> {
        let mut begin = begin;
        let mut widths = vec![width];
        if width > self.per_vector() {
            widths.push(self.per_vector());
        }
        if width > 1 {
            widths.push(1);
        }
        for lanes in widths {
            let rest = self.rest(begin, end, lanes as i64);
            self.lanes = lanes;
            let lane = i64::from(lanes > 1);
            let done = self.counted(begin, end, lanes as i64, &mut |e, i| body(e, Affine { lane, ..i }));
            self.lanes = 1;
            done?;
            self.memo.clear();
            begin = rest;
        }
        Ok(())
    }

    /// Where steps of `step` from `begin` end, before `end`.
    fn rest(&mut self, begin: Affine, end: Affine, step: i64) -> Affine {
        if step == 1 {
            return end;
        }
        if let (Some(b), Some(e)) = (begin.known(), end.known()) {
            return Affine::constant(b + (e - b).max(0) / step * step);
        }
        let (b, e): (Value, Value) = (self.uniform(begin), self.uniform(end));
        let (n, zero) = (self.b.ins().isub(e, b), self.iconst(0));
        let n = self.b.ins().smax(n, zero);
        let mask = self.iconst(-step);
        let whole = self.b.ins().band(n, mask);
        Affine::value(self.b.ins().iadd(b, whole))
    }
}
