//! The kernel of a group of `places`: parallel blocks of places, in each one loop over places on the lanes, whose body computes all numbers
//! of all values of the group, one after the other, and stores those that others read.

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{Binary, Expr, LoopKind, Stage};
use crate::kernel::lower::cx::Cx;
use crate::kernel::lower::element::Slots;
use crate::kernel::lower::homes::Facts;
use crate::kernel::lower::places::PlaceGroup;
use crate::kernel::lower::plan::{Plan, Step};
use crate::kernel::lower::{Home, Lowering};
use crate::tensor::op::{Node, Op, ValueId};

/// Places of a block: several vectors of the widest processors.
const BLOCK: i64 = 64;

/// Products that differ by a constant only.
struct Like {
    /// Sorted: products of the same numbers are the same expression.
    factors: Vec<Id<Expr>>,
    guards: Vec<Id<Expr>>,
    coefficient: f64,
}

impl Lowering<'_> {
    /// Makes the kernel of places of which the value is the last, if it is in one.
    pub(super) fn places_of(&mut self, id: ValueId, facts: &Facts) -> bool {
        let Some(group) = facts.places.iter().find(|group| group.members.contains(&id)) else { return false };
        if group.members.last() == Some(&id) {
            self.places_kernel(group, facts);
        }
        true
    }

    fn places_kernel(&mut self, group: &PlaceGroup, facts: &Facts) {
        let stored: Vec<(ValueId, Home)> = group.stored.iter().map(|id| (*id, self.home(*id, facts))).collect();
        let names: Vec<&str> = stored.iter().map(|(_, home)| &self.program.buffers[home.buffer].name[..]).collect();
        let name = format!("places {}", names.join(" "));
        let mut cx = Cx::straight(self);
        let (n, block, one) = (cx.b.size(group.axis), cx.b.int(BLOCK), cx.b.int(1));
        let more = cx.b.int(BLOCK - 1);
        let blocks = cx.b.add(n, more);
        let blocks = cx.b.binary(Binary::Div, blocks, block);
        cx.each(blocks, LoopKind::Parallel, |cx, at| {
            let begin = cx.b.mul(at, block);
            let next = cx.b.add(at, one);
            let end = cx.b.mul(next, block);
            let end = cx.b.binary(Binary::Min, end, n);
            cx.range(begin, end, LoopKind::Vector, |cx, place| {
                for id in &group.members {
                    let home = stored.iter().find(|(stored, _)| stored == id).map(|(_, home)| home);
                    cx.numbers_at(*id, place, home);
                }
            });
        });
        cx.finish(name, Stage::Call);
        self.homes.extend(stored);
    }
}

impl Cx<'_, '_> {
    /// Computes all numbers of a value at a place, each once, and stores them in the order of memory.
    fn numbers_at(&mut self, id: ValueId, place: Id<Expr>, home: Option<&Home>) {
        let dims = self.graph().ty(id).dims.clone();
        let order: Vec<usize> = home.map_or_else(|| (0..dims.len()).collect(), |home| home.order.clone());
        let indices = self.indices(&order, &dims, place);
        for index in &indices {
            let value = self.compute(id, index);
            let value = self.bind(value);
            self.held.insert((id, index.clone()), value);
        }
        for index in home.into_iter().flat_map(|_| &indices) {
            let value = self.held[&(id, index.clone())];
            self.put(home.expect("there is one"), index, value);
        }
    }

    /// A number that is read: once, where it is there in any case, as its indices are variables or numbers and so have no conditions.
    pub(super) fn hold_read(&mut self, id: ValueId, index: &[Id<Expr>], value: Id<Expr>) -> Id<Expr> {
        let settled = |i: &Id<Expr>| matches!(self.b.get(*i), Expr::Var(_) | Expr::Int(_));
        if !index.iter().all(settled) {
            return value;
        }
        let value = self.bind(value);
        self.held.insert((id, index.to_vec()), value);
        value
    }

    /// An index as a variable, one for each index.
    fn hold_index(&mut self, index: Id<Expr>) -> Id<Expr> {
        if let Some(held) = self.held_indices.get(&index) {
            return *held;
        }
        let held = self.bind(index);
        self.held_indices.insert(index, held);
        held
    }

    /// All indices of an array at one place of its long axis, the axes nested in this order.
    fn indices(&mut self, order: &[usize], dims: &[Size], place: Id<Expr>) -> Vec<Vec<Id<Expr>>> {
        let mut res = vec![vec![place; dims.len()]];
        for axis in order {
            if let Some(n) = dims[*axis].as_fixed() {
                let places: Vec<Id<Expr>> = (0..n as i64).map(|i| self.b.int(i)).collect();
                let spread = |index: Vec<Id<Expr>>| {
                    places
                        .iter()
                        .map(move |i| {
                            let mut index = index.clone();
                            index[*axis] = *i;
                            index
                        })
                        .collect::<Vec<_>>()
                };
                res = res.into_iter().flat_map(spread).collect();
            }
        }
        res
    }

    /// A sum of products as one expression: its terms are written out, those that constants make zero are left out, those of the same
    /// factors are one.
    pub(super) fn straight_sum(&mut self, node: &Node, plan: &Plan, sizes: &[Size], slots: &Slots) -> Id<Expr> {
        let mut terms = Vec::new();
        self.each_term(&plan.steps, sizes, &mut slots.clone(), &mut vec![], &mut |cx, slots, guards| {
            let Some(term) = cx.term(node, plan, slots, guards) else { return };
            let like = |t: &&mut Like| t.factors == term.factors && t.guards == term.guards;
            match terms.iter_mut().find(like) {
                Some(known) => known.coefficient += term.coefficient,
                None => terms.push(term),
            }
        });
        let mut sum = None;
        for term in terms.iter().filter(|term| term.coefficient != 0.0) {
            let product = term.factors.iter().copied().reduce(|x, y| self.b.mul(x, y));
            let coefficient = self.b.float(term.coefficient);
            sum = Some(match (sum, product, &term.guards[..]) {
                (Some(sum), Some(product), []) => self.b.fma(coefficient, product, sum),
                (sum, product, guards) => {
                    let value = product.map_or(coefficient, |product| self.b.mul(coefficient, product));
                    let zero = self.b.float(0.0);
                    let value =
                        guards.iter().rev().fold(value, |value, guard| self.b.select(Some(*guard), value, zero));
                    sum.map_or(value, |sum| self.b.add(sum, value))
                }
            });
        }
        sum.unwrap_or_else(|| self.b.float(0.0))
    }

    /// The product of a node's factors where all axes are known; `None` where a constant makes it zero.
    fn term(&mut self, node: &Node, plan: &Plan, slots: &Slots, guards: &[Id<Expr>]) -> Option<Like> {
        let graph = self.graph();
        let mut term = Like { factors: vec![], guards: guards.to_vec(), coefficient: 1.0 };
        let is_constant = |k: &usize| matches!(graph.node(node.args[*k]).op, Op::Constant(_));
        let (constants, others): (Vec<usize>, Vec<usize>) = plan.factors.iter().copied().partition(is_constant);
        // constants first: where they are zero, nothing else is asked for
        for k in constants.into_iter().chain(others) {
            let factor = self.operand(node, k, slots);
            match *self.b.get(factor) {
                Expr::Float(0.0) => return None,
                Expr::Float(x) => term.coefficient *= x,
                _ => term.factors.push(factor),
            }
        }
        term.factors.sort();
        Some(term)
    }

    /// Visits all places that the steps lead to and that are not known to be outside.
    fn each_term(
        &mut self,
        steps: &[Step],
        sizes: &[Size],
        slots: &mut Slots,
        guards: &mut Vec<Id<Expr>>,
        leaf: &mut dyn FnMut(&mut Self, &Slots, &[Id<Expr>]),
    ) {
        let Some((step, rest)) = steps.split_first() else { return leaf(self, slots, guards) };
        match step {
            Step::Loop { slot } => {
                for i in 0..sizes[*slot as usize].as_fixed().expect("lower: a written-out axis is short") {
                    slots[*slot as usize] = Some(self.b.int(i as i64));
                    self.each_term(rest, sizes, slots, guards, leaf);
                }
            }
            Step::Only { .. } | Step::Define(_) | Step::Check(_) | Step::Solve { .. } | Step::Digits(_) => {
                let mut slots = slots.clone();
                let guard = self.settle(step, &mut slots);
                if let (Step::Define(edge), None) = (step, guard) {
                    let to = slots[edge.to as usize].expect("lower: just defined");
                    slots[edge.to as usize] = Some(self.hold_index(to));
                }
                match guard.map(|guard| (guard, self.b.truth(guard))) {
                    Some((_, Some(false))) => (),
                    None | Some((_, Some(true))) => self.each_term(rest, sizes, &mut slots, guards, leaf),
                    Some((guard, None)) => {
                        guards.push(guard);
                        self.each_term(rest, sizes, &mut slots, guards, leaf);
                        guards.pop();
                    }
                }
            }
            Step::Fibre(_) | Step::Rows(_) => panic!("lower: a value with long sums is no value of a place"),
        }
    }
}
