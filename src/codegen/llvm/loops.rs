//! Loops that stay in the function: serial, unrolled, and vector loops with their rest.

use super::emit::{Emitter, Tail};
use super::text::{I64, Value};
use super::value::{Affine, Val};
use crate::codegen::Unsupported;
use crate::kernel::ir::{Stmt, Var};

/// Copies of a body that unrolling may make.
const MOST_COPIES: i64 = 4096;

/// What a loop does with its index.
type Body<'f, 'u, 'p> = &'f mut dyn FnMut(&mut Emitter<'u, 'p>, Affine) -> Result<(), Unsupported>;

impl<'u, 'p> Emitter<'u, 'p> {
    pub(super) fn serial(&mut self, var: Var, begin: Affine, end: Affine, body: &'p [Stmt]) -> Result<(), Unsupported> {
        let rows = self.rows_ahead(var, body);
        self.counted(begin, end, 1, &mut |e, i| {
            e.ask_ahead(&rows, body, i);
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
        body: Body<'_, 'u, 'p>,
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
        let (before, inside) = (self.f.here(), self.f.block());
        let (latch, after) = (self.f.block(), self.f.block());
        let any = self.f.compare("icmp slt", begin, last);
        self.f.branch(any, inside, after);
        self.f.begin(inside);
        let next = self.f.reserve(I64);
        let i = self.f.value(I64, format_args!("phi i64 [ {begin}, %{before} ], [ {next}, %{latch} ]"));
        self.memo.clear();
        body(self, Affine::value(i))?;
        self.memo.clear();
        self.f.jump(latch);
        self.f.begin(latch);
        self.f.line(format_args!("{next} = add nsw i64 {i}, {step}"));
        let more = self.f.compare("icmp slt", next, last);
        self.f.branch(more, inside, after);
        self.f.begin(after);
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
        let width = if self.is_one_round(begin, end, body) { 2 * self.per_vector() } else { self.width(body) };
        self.in_lanes(begin, end, width, &mut |e, i| {
            e.vars.insert(var, Val::Int(i));
            e.body(body)
        })
    }

    /// Whether a loop of two vectors should run both at once: where it reads so many numbers, the same on all lanes, that they would be
    /// spread over vectors before the loop and spill, for two uses each. Of still more, what is spread in the round itself spills.
    fn is_one_round(&self, begin: Affine, end: Affine, body: &[Stmt]) -> bool {
        let (Some(begin), Some(end)) = (begin.known(), end.known()) else { return false };
        let registers = self.processor.registers();
        let spills = || (registers / 2..=4 * registers).contains(&self.facts.numbers(self.kernel, body));
        end - begin == 2 * self.per_vector() as i64 && spills()
    }

    /// How many lanes a body should have: more share the work that is the same in all lanes, until their registers spill.
    pub(super) fn width(&self, body: &[Stmt]) -> usize {
        let each = self.facts.pressure(self.kernel, body, self.unit.program).max(1);
        let vectors = match self.processor.registers() / (2 * each) {
            0..=1 => 1,
            2..=3 => 2,
            _ => 4,
        };
        vectors * self.per_vector()
    }

    /// Runs a body for all of `begin..end`: `width` lanes at a time, then one vector at a time, then what is left in one round.
    pub(super) fn in_lanes(
        &mut self,
        begin: Affine,
        end: Affine,
        width: usize,
        body: Body<'_, 'u, 'p>,
    ) -> Result<(), Unsupported> {
        let one = self.per_vector();
        let extent = match (begin.known(), end.known()) {
            (Some(begin), Some(end)) => Some((end - begin).max(0) as usize),
            _ => None,
        };
        let mut begin = begin;
        let mut lanes = width;
        while lanes > one && extent.is_some_and(|n| n < lanes) {
            lanes /= 2;
        }
        loop {
            let rest = self.rest(begin, end, lanes as i64);
            self.lanes = lanes;
            let lane = i64::from(lanes > 1);
            let done = self.counted(begin, end, lanes as i64, &mut |e, i| body(e, Affine { lane, ..i }));
            self.lanes = 1;
            done?;
            self.memo.clear();
            begin = rest;
            if lanes <= one {
                break;
            }
            lanes = one;
        }
        if lanes == 1 { Ok(()) } else { self.last_lanes(begin, end, extent.map(|n| n % one), body) }
    }

    /// The last lanes of a loop, fewer than a vector: all in one round where they can be masked, else one by one.
    fn last_lanes(
        &mut self,
        begin: Affine,
        end: Affine,
        left: Option<usize>,
        body: Body<'_, 'u, 'p>,
    ) -> Result<(), Unsupported> {
        match left {
            Some(0) => return Ok(()),
            Some(1) => return self.counted(begin, end, 1, body),
            Some(n) if n.is_power_of_two() => {
                self.lanes = n;
                let done = body(self, Affine { lane: 1, ..begin });
                self.lanes = 1;
                self.memo.clear();
                return done;
            }
            Some(_) | None => {}
        }
        let mark = self.f.mark();
        let count = match left {
            Some(n) => Value::int(I64, n as i64),
            None => {
                let (begin, end) = (self.uniform(begin), self.uniform(end));
                self.f.binary("sub", end, begin)
            }
        };
        let (inside, after) = (self.f.block(), self.f.block());
        let any = self.f.compare("icmp sgt", count, Value::int(I64, 0));
        self.f.branch(any, inside, after);
        self.f.begin(inside);
        self.lanes = left.map_or(self.per_vector(), usize::next_power_of_two);
        let mask = self.compare_lanes("icmp slt", 1, count);
        self.tail = Some(Tail { mask, count });
        self.guard = Some(Val::Mask(mask));
        self.memo.clear();
        let done = body(self, Affine { lane: 1, ..begin });
        (self.lanes, self.tail, self.guard) = (1, None, None);
        self.memo.clear();
        done?;
        if std::mem::take(&mut self.needs_all_lanes) {
            self.f.take_back(mark);
            return self.counted(begin, end, 1, body);
        }
        self.f.jump(after);
        self.f.begin(after);
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
        let (b, e) = (self.uniform(begin), self.uniform(end));
        let n = self.f.binary("sub", e, b);
        let n = self.f.intrinsic("smax", &[n, Value::int(I64, 0)]);
        let whole = self.f.binary("and", n, Value::int(I64, -step));
        Affine::value(self.f.binary("add", b, whole))
    }
}
