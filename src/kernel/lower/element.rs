//! One element of a value as an expression, with the statements it needs before it.
//! Pointwise values, gathers and windows become pure expressions; sums and reductions become loops over a local number.

use std::collections::BTreeMap;

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{Access, Binary, Combine, Comparison, Expr, LoopKind, Stmt, Unary};
use crate::kernel::lower::cx::Cx;
use crate::kernel::lower::edges;
use crate::kernel::lower::plan::{self, Edge, Plan, Step};
use crate::kernel::lower::relation::{self, Guarded};
use crate::tensor::op::{Func, Node, Op, Reduction, Slot, ValueId};

/// Places that a written-out sum may have, and products that are left of them.
const MOST_PLACES: usize = 4096;
const MOST_TERMS: usize = 64;

/// The index of each slot of a node that is known so far.
pub(super) type Slots = Vec<Option<Id<Expr>>>;

impl Cx<'_, '_> {
    /// The element of a value at `index` (an index for each axis of its type): read where it is stored, computed where not.
    pub(super) fn element(&mut self, id: ValueId, index: &[Id<Expr>]) -> Id<Expr> {
        if let Some(given) = self.given.iter().find(|given| given.value == id) {
            return given.expr;
        }
        if self.straight
            && let Some(held) = self.held.get(&(id, index.to_vec()))
        {
            return *held;
        }
        match self.stored(id, index) {
            Some(value) if self.straight => self.hold_read(id, index, value),
            Some(value) => value,
            None => self.compute(id, index),
        }
    }

    /// The element of a value, computed.
    pub(super) fn compute(&mut self, id: ValueId, index: &[Id<Expr>]) -> Id<Expr> {
        let graph = self.graph();
        let node = graph.node(id);
        let sizes = plan::slot_sizes(graph, node);
        let mut slots: Slots = vec![None; sizes.len()];
        for (slot, i) in node.out.iter().zip(index) {
            slots[*slot as usize] = Some(*i);
        }
        match &node.op {
            Op::Input(_) | Op::Weight(_) | Op::Constant(_) => {
                self.stored(id, index).expect("lower: a leaf is in memory")
            }
            Op::Relation(r) => {
                let (to, from) = index.split_last().expect("a relation has an axis");
                let (found, guard) = relation::apply(self, *r, from);
                let same = self.b.compare(Comparison::Eq, found, *to);
                let (one, zero) = (self.b.float(1.0), self.b.float(0.0));
                let value = self.b.select(Some(same), one, zero);
                self.b.select(guard, value, zero)
            }
            Op::Contract => self.contract(node, &sizes, slots),
            Op::Sum => {
                let terms: Vec<Id<Expr>> = (0..node.args.len()).map(|k| self.operand(node, k, &slots)).collect();
                let sum = terms.into_iter().reduce(|x, y| self.b.add(x, y));
                sum.unwrap_or_else(|| self.b.float(0.0))
            }
            Op::Map(f) => {
                let args: Vec<Id<Expr>> = (0..node.args.len()).map(|k| self.operand(node, k, &slots)).collect();
                self.scalar(*f, &args)
            }
            Op::Reduce(how) => self.reduce(node, *how, &sizes, slots),
            Op::View => self.operand(node, 0, &slots),
        }
    }

    /// The element of operand `k` of a node at the known slots.
    pub(super) fn operand(&mut self, node: &Node, k: usize, slots: &Slots) -> Id<Expr> {
        let index = at(&node.reads[k], slots);
        self.element(node.args[k], &index)
    }

    fn contract(&mut self, node: &Node, sizes: &[Size], mut slots: Slots) -> Id<Expr> {
        let plan = plan::plan(self.graph(), node);
        if self.straight {
            return self.straight_sum(node, &plan, sizes, &slots);
        }
        if !plan.steps.iter().any(Step::repeats)
            && let Some(value) = self.gathered(node, &plan, &mut slots.clone())
        {
            return value;
        }
        if let Some(value) = self.written_out(node, &plan, sizes, &slots) {
            return value;
        }
        let acc = self.local_number("acc", 0.0);
        self.nest(&plan.steps, sizes, &mut slots, &mut |cx, slots| {
            let factors: Vec<Id<Expr>> = plan.factors.iter().map(|k| cx.operand(node, *k, slots)).collect();
            cx.accumulate_product(acc, vec![], &factors);
        });
        self.b.load(acc, vec![])
    }

    /// A sum over short axes with a constant that is mostly zero: its products one by one. What the axes determine is addressed.
    fn written_out(&mut self, node: &Node, plan: &Plan, sizes: &[Size], slots: &Slots) -> Option<Id<Expr>> {
        let graph = self.graph();
        let (mut bound, mut defined) = (Vec::new(), Vec::new());
        for step in &plan.steps {
            match step {
                Step::Loop { slot } | Step::Only { slot } => bound.push(*slot),
                Step::Define(edge) if edges::total(graph, edge) => defined.push(step),
                Step::Define(_) | Step::Check(_) | Step::Solve { .. } | Step::Digits(_) => return None,
                Step::Fibre(_) | Step::Rows(_) => return None,
            }
        }
        let mut known = BTreeMap::new();
        for (slot, index) in slots.iter().enumerate() {
            if let Some(Expr::Int(i)) = index.map(|i| self.b.get(i)) {
                known.insert(slot as Slot, usize::try_from(*i).ok()?);
            }
        }
        let resolved = |s: &Slot| bound.contains(s) || known.contains_key(s);
        let is_constant = |k: &usize| {
            let reads = &node.reads[*k];
            matches!(graph.node(node.args[*k]).op, Op::Constant(_)) && !reads.is_empty() && reads.iter().all(resolved)
        };
        let volume = bound.iter().try_fold(1, |n, s| sizes[*s as usize].as_fixed().map(|d| n * d))?;
        if volume > MOST_PLACES || !plan.factors.iter().any(is_constant) {
            return None;
        }
        let terms = edges::terms(graph, node, &plan.factors, &bound, &known);
        if terms.len() > MOST_TERMS {
            return None;
        }
        let mut sum = None;
        for term in terms {
            let mut slots = slots.clone();
            for (slot, i) in &term.at {
                slots[*slot as usize] = Some(self.b.int(*i as i64));
            }
            for step in &defined {
                self.settle(step, &mut slots);
            }
            let mut factors = vec![self.b.float(term.coefficient)];
            for k in &plan.factors {
                if edges::constant_at(graph, node, *k, &term.at).is_none() {
                    factors.push(self.operand(node, *k, &slots));
                }
            }
            sum = Some(self.add_product(sum, &factors));
        }
        Some(sum.unwrap_or_else(|| self.b.float(0.0)))
    }

    /// `to += Π factors`, the last product and the sum rounded once.
    pub(super) fn accumulate_product(
        &mut self,
        buffer: Id<crate::kernel::ir::Buffer>,
        index: Vec<Id<Expr>>,
        factors: &[Id<Expr>],
    ) {
        let old = self.b.load(buffer, index.clone());
        let value = match factors {
            [] => {
                let one = self.b.float(1.0);
                self.b.add(old, one)
            }
            [first, middle @ .., last] => {
                let head = middle.iter().fold(*first, |x, y| self.b.mul(x, *y));
                self.b.fma(head, *last, old)
            }
            [x] => self.b.add(old, *x),
        };
        self.store(buffer, index, value);
    }

    /// A contraction without loops: a product where all relations are defined, 0 elsewhere.
    /// `None` where a factor needs statements, which may only run where the relations are defined.
    pub(super) fn gathered(&mut self, node: &Node, plan: &Plan, slots: &mut Slots) -> Option<Id<Expr>> {
        let mut guards = Vec::new();
        for step in &plan.steps {
            let guard = self.settle(step, slots);
            guards.extend(guard);
        }
        self.open();
        let factors: Vec<Id<Expr>> = plan.factors.iter().map(|k| self.operand(node, *k, slots)).collect();
        let stmts = self.close();
        if !stmts.is_empty() && !guards.is_empty() {
            return None;
        }
        self.emit_all(stmts);
        let product = factors.into_iter().reduce(|x, y| self.b.mul(x, y));
        let product = product.unwrap_or_else(|| self.b.float(1.0));
        let zero = self.b.float(0.0);
        Some(guards.into_iter().rev().fold(product, |value, guard| self.b.select(Some(guard), value, zero)))
    }

    /// Takes a step that is no loop: sets its slot, hands back its condition.
    pub(super) fn settle(&mut self, step: &Step, slots: &mut Slots) -> Option<Id<Expr>> {
        match step {
            Step::Define(edge) => {
                let (to, guard) = self.apply(edge, slots);
                slots[edge.to as usize] = Some(to);
                guard
            }
            Step::Check(edge) => {
                let (found, guard) = self.apply(edge, slots);
                let to = slots[edge.to as usize].expect("lower: the axis is known");
                let same = self.b.compare(Comparison::Eq, found, to);
                self.b.and(guard, Some(same))
            }
            Step::Solve { edge, which } => {
                let zero = self.b.int(0);
                let from: Vec<Id<Expr>> = edge.from.iter().map(|s| slots[*s as usize].unwrap_or(zero)).collect();
                let to = slots[edge.to as usize].expect("lower: the axis is known");
                let (value, guard) = relation::solve(self, edge.relation, *which, &from, to);
                slots[edge.from[*which] as usize] = Some(value);
                guard
            }
            Step::Digits(edge) => {
                let to = slots[edge.to as usize].expect("lower: the axis is known");
                let (digits, guard) = relation::digits(self, edge.relation, to);
                for (slot, digit) in edge.from.iter().zip(digits) {
                    slots[*slot as usize] = Some(digit);
                }
                guard
            }
            Step::Only { slot } => {
                slots[*slot as usize] = Some(self.b.int(0));
                None
            }
            Step::Loop { .. } | Step::Fibre(_) | Step::Rows(_) => panic!("lower: a loop is not a settled step"),
        }
    }

    fn apply(&mut self, edge: &Edge, slots: &Slots) -> Guarded {
        let from = at(&edge.from, slots);
        relation::apply(self, edge.relation, &from)
    }

    /// Nested loops over some slots, of the first kind but for the last one, which is of the second.
    pub(super) fn each_slot(
        &mut self,
        over: &[Slot],
        sizes: &[Size],
        kinds: [LoopKind; 2],
        slots: &mut Slots,
        body: &mut dyn FnMut(&mut Self, &mut Slots),
    ) {
        let Some((slot, rest)) = over.split_first() else { return body(self, slots) };
        let extent = self.b.size(sizes[*slot as usize]);
        self.each(extent, kinds[usize::from(rest.is_empty())], |cx, i| {
            slots[*slot as usize] = Some(i);
            cx.each_slot(rest, sizes, kinds, slots, body);
        });
    }

    /// Emits the steps as nested loops, lets and conditions, and `leaf` inside of them.
    pub(super) fn nest(
        &mut self,
        steps: &[Step],
        sizes: &[Size],
        slots: &mut Slots,
        leaf: &mut dyn FnMut(&mut Self, &mut Slots),
    ) {
        let Some((step, rest)) = steps.split_first() else { return leaf(self, slots) };
        match step {
            Step::Loop { slot } => {
                let extent = self.b.size(sizes[*slot as usize]);
                self.each(extent, LoopKind::Serial, |cx, i| {
                    slots[*slot as usize] = Some(i);
                    cx.nest(rest, sizes, slots, leaf);
                });
            }
            Step::Fibre(edge) => {
                let crate::tensor::graph::Function::Affine { divisor, .. } = &self.graph().relations[edge.relation].map
                else {
                    panic!("lower: only affine functions have fibres");
                };
                let extent = self.b.int(*divisor);
                self.each(extent, LoopKind::Serial, |cx, k| {
                    let to = slots[edge.to as usize].expect("lower: the axis is known");
                    let (value, guard) = relation::fibre(cx, edge.relation, to, k);
                    let value = cx.bind(value);
                    slots[edge.from[0] as usize] = Some(value);
                    cx.when(guard, |cx| cx.nest(rest, sizes, slots, leaf));
                });
            }
            Step::Rows(edge) => self.each_of_row(edge, slots, &mut |cx, slots| cx.nest(rest, sizes, slots, leaf)),
            Step::Only { .. } | Step::Define(_) | Step::Check(_) | Step::Solve { .. } | Step::Digits(_) => {
                let guard = self.settle(step, slots);
                self.when(guard, |cx| {
                    if let Step::Define(Edge { to, .. }) = step {
                        let value = slots[*to as usize].expect("lower: just defined");
                        slots[*to as usize] = Some(cx.bind(value));
                    }
                    cx.nest(rest, sizes, slots, leaf);
                });
            }
        }
    }

    fn reduce(&mut self, node: &Node, how: Reduction, sizes: &[Size], mut slots: Slots) -> Id<Expr> {
        let plan = plan::plan(self.graph(), node);
        let (f, start) = match how {
            Reduction::Max | Reduction::LogSumExp => (Combine::Max, f64::NEG_INFINITY),
            Reduction::Min => (Combine::Min, f64::INFINITY),
        };
        let acc = self.local_number("extreme", start);
        let any = self.local_number("any", 0.0);
        self.nest(&plan.steps, sizes, &mut slots, &mut |cx, slots| {
            let value = cx.operand(node, 0, slots);
            let to = Access { buffer: acc, index: vec![] };
            cx.emit(Stmt::Accumulate { to, f, value });
            let one = cx.b.float(1.0);
            cx.store(any, vec![], one);
        });
        let extreme = self.b.load(acc, vec![]);
        let value = match how {
            Reduction::Max | Reduction::Min => extreme,
            Reduction::LogSumExp => self.log_sum(node, &plan, sizes, &mut slots, extreme),
        };
        let (any, zero) = (self.b.load(any, vec![]), self.b.float(0.0));
        let some = self.b.compare(Comparison::Lt, zero, any);
        self.b.select(Some(some), value, zero)
    }

    /// `shift + log Σ exp(x - shift)`, where the shift is the maximum, or 0 where that is infinite.
    fn log_sum(&mut self, node: &Node, plan: &Plan, sizes: &[Size], slots: &mut Slots, extreme: Id<Expr>) -> Id<Expr> {
        let (zero, infinity) = (self.b.float(0.0), self.b.float(f64::INFINITY));
        let size = self.b.unary(Unary::Abs, extreme);
        let infinite = self.b.compare(Comparison::Eq, size, infinity);
        let shift = self.b.select(Some(infinite), zero, extreme);
        let shift = self.bind(shift);
        let sum = self.local_number("sum", 0.0);
        for slot in 0..slots.len() {
            if !node.out.contains(&(slot as Slot)) {
                slots[slot] = None;
            }
        }
        self.nest(&plan.steps, sizes, slots, &mut |cx, slots| {
            let value = cx.operand(node, 0, slots);
            let less = cx.b.sub(value, shift);
            let value = cx.b.unary(Unary::Exp, less);
            cx.emit(Stmt::Accumulate { to: Access { buffer: sum, index: vec![] }, f: Combine::Add, value });
        });
        let sum = self.b.load(sum, vec![]);
        let log = self.b.unary(Unary::Log, sum);
        self.b.add(shift, log)
    }

    /// `f(args)` on numbers.
    pub(super) fn scalar(&mut self, f: Func, args: &[Id<Expr>]) -> Id<Expr> {
        let x = args[0];
        let b = &mut self.b;
        let (zero, one) = (b.float(0.0), b.float(1.0));
        match f {
            Func::Relu => b.binary(Binary::Max, x, zero),
            Func::LeakyRelu(slope) => {
                let slope = b.float(slope.0);
                let low = b.mul(slope, x);
                let positive = b.compare(Comparison::Lt, zero, x);
                b.select(Some(positive), x, low)
            }
            Func::Silu => {
                let s = b.unary(Unary::Sigmoid, x);
                b.mul(x, s)
            }
            Func::Gelu => {
                let (scale, half) = (b.float(std::f64::consts::FRAC_1_SQRT_2), b.float(0.5));
                let scaled = b.mul(scale, x);
                let erf = b.unary(Unary::Erf, scaled);
                let phi = b.fma(half, erf, half);
                b.mul(x, phi)
            }
            Func::Tanh => b.unary(Unary::Tanh, x),
            Func::Sigmoid => b.unary(Unary::Sigmoid, x),
            Func::Exp => b.unary(Unary::Exp, x),
            Func::Log => b.unary(Unary::Log, x),
            Func::Sin => b.unary(Unary::Sin, x),
            Func::Cos => b.unary(Unary::Cos, x),
            Func::Sqrt => {
                let positive = b.binary(Binary::Max, x, zero);
                b.unary(Unary::Sqrt, positive)
            }
            Func::Recip => b.binary(Binary::Div, one, x),
            Func::SafeRecip => {
                let is_zero = b.compare(Comparison::Eq, x, zero);
                let recip = b.binary(Binary::Div, one, x);
                b.select(Some(is_zero), zero, recip)
            }
            Func::Erf => b.unary(Unary::Erf, x),
            Func::Same | Func::Held => x,
            Func::Capped => b.binary(Binary::Min, x, zero),
            Func::Abs => b.unary(Unary::Abs, x),
            Func::Powi(k) => {
                let power = self.power(x, k.unsigned_abs());
                if k < 0 { self.b.binary(Binary::Div, one, power) } else { power }
            }
            Func::Max => b.binary(Binary::Max, x, args[1]),
            Func::Min => b.binary(Binary::Min, x, args[1]),
            Func::Greater => {
                let greater = b.compare(Comparison::Lt, args[1], x);
                b.select(Some(greater), one, zero)
            }
        }
    }

    /// `x^k` by squaring.
    fn power(&mut self, x: Id<Expr>, k: u32) -> Id<Expr> {
        if k == 0 {
            return self.b.float(1.0);
        }
        let half = self.power(x, k / 2);
        let square = self.b.mul(half, half);
        if k % 2 == 1 { self.b.mul(square, x) } else { square }
    }
}

/// The indices under which an operand is read.
pub(super) fn at(reads: &[Slot], slots: &Slots) -> Vec<Id<Expr>> {
    reads.iter().map(|s| slots[*s as usize].expect("lower: every axis is known inside the nest")).collect()
}
