//! The one dangerous law: splitting a product. All ways to nest a product of `n` factors are very many; the few
//! cheapest are found by dynamic programming over sets of factors, and only they, and those whose inner value
//! exists already, become nodes.

use std::collections::BTreeMap;
use std::rc::Rc;

use egg::Id;

use crate::rewrite::classes::{Classes, Numbering, Term};
use crate::rewrite::cost::{Target, seconds_of};
use crate::rewrite::rules::Law;
use crate::rewrite::rules::contraction::{MOST_FACTORS, three_matrices};
use crate::tensor::cost::{Operand, Read, Slots, each, mask};
use crate::tensor::graph::{Axis, Needs, Val};
use crate::tensor::op::{Node, Op, Slot};

/// How many nestings of a set of factors are kept, and how much worse than the best they may be.
const KEPT: usize = 3;
const SLACK: f64 = 2.0;

/// `Σ_{B,C} a · b · c = Σ_B a · (Σ_C b · c)`, where `a` has no axis of `C`.
pub const NEST: Law = Law {
    name: "nest",
    equation: "Σ_{B,C} a · b · c = Σ_B a · (Σ_C b · c), C not in a",
    apply: nest,
    witness: three_matrices,
};

/// No more partitions of one set are costed than this.
const MOST_LOOKS: usize = 400;

/// A set of factors, as bits.
type Set = u32;

fn nest(classes: &mut Classes, _: Id, node: &Node) -> Vec<Term> {
    let n = node.args.len();
    if node.op != Op::Contract || !(2..=MOST_FACTORS).contains(&n) {
        return vec![];
    }
    let product = Product::new(classes, Classes::operands(node), Classes::out(node));
    let mut res = existing(classes, &product);
    if product.is_flat(classes) {
        let plans = product.plans(classes);
        res.extend(plans.terms(classes, &product));
    }
    res
}

/// The seconds of a product in its best nesting.
pub fn least_cost(classes: &mut Classes, term: &Term) -> f64 {
    let n = term.operands.len();
    if !(2..=MOST_FACTORS).contains(&n) {
        return classes.seconds(term);
    }
    let product = Product::new(classes, term.operands.clone(), term.out.clone());
    product.plans(classes).blocks[product.full() as usize].as_ref().expect("the whole is admissible").cost
}

/// A product to be split, with its axes as slots.
struct Product {
    factors: Vec<Val>,
    out: Vec<Axis>,
    /// The axis of every slot.
    axes: Vec<Axis>,
    /// Under which slots the factors are read; as sets; those of the result.
    reads: Vec<Vec<Slot>>,
    masks: Vec<Slots>,
    result: Slots,
    /// The factors that are functions between axes.
    functions: Set,
}

impl Product {
    fn new(classes: &Classes, factors: Vec<Val>, out: Vec<Axis>) -> Product {
        let numbering = Numbering::of(&factors);
        let reads: Vec<Vec<Slot>> = factors.iter().map(|v| numbering.slots(&v.axes)).collect();
        let masks = reads.iter().map(|r| mask(r)).collect();
        let is_function = |v: &Val| Set::from(classes.facts(v.id).ty.relation);
        let functions = factors.iter().enumerate().fold(0, |set, (k, v)| set | is_function(v) << k);
        Product { result: mask(&numbering.slots(&out)), axes: numbering.0, out, reads, masks, functions, factors }
    }

    fn full(&self) -> Set {
        (1 << self.factors.len()) - 1
    }

    fn members(&self, set: Set) -> Vec<Val> {
        bits(set).map(|k| self.factors[k].clone()).collect()
    }

    fn slots(&self, set: Set) -> Slots {
        bits(set).fold(0, |all, k| all | self.masks[k])
    }

    /// The axes of a set of factors that the rest or the result reads.
    fn kept(&self, set: Set) -> Slots {
        self.slots(set) & (self.result | self.slots(self.full() & !set))
    }

    /// Whether multiplying these first can pay: they share axes, they are not all functions, and they sum over an axis
    /// or make nothing larger than they are.
    fn admissible(&self, set: Set) -> bool {
        if set == self.full() || set.count_ones() == 1 {
            return true;
        }
        let kept = self.kept(set);
        let sums = self.slots(set) != kept;
        let grows = !bits(set).any(|k| kept & !self.masks[k] == 0);
        set & !self.functions != 0 && (sums || !grows) && self.connected(set)
    }

    /// Whether axes connect the factors; numbers without axes connect to anything.
    fn connected(&self, set: Set) -> bool {
        let mut reached = set & set.wrapping_neg();
        loop {
            let number = bits(reached).any(|k| self.masks[k] == 0);
            let slots = self.slots(reached);
            let touches = |k: &usize| number || self.masks[*k] == 0 || self.masks[*k] & slots != 0;
            let next = bits(set & !reached).filter(touches).fold(0, |next: Set, k| next | 1 << k);
            if next == 0 {
                return reached == set;
            }
            reached |= next;
        }
    }

    /// The nestings worth having; of products that look alike they are searched once.
    fn plans(&self, classes: &mut Classes) -> Rc<Plans> {
        let key = self.key(classes);
        if let Some(known) = classes.plans.get(&key) {
            return known.clone();
        }
        let plans = Rc::new(Plans::search(classes, self));
        classes.spend(plans.looks);
        classes.plans.insert(key, plans.clone());
        plans
    }

    /// All that the cost model sees.
    fn key(&self, classes: &Classes) -> Vec<u64> {
        let mut res = vec![self.result as u64, (self.result >> 64) as u64];
        for (factor, reads) in self.factors.iter().zip(&self.reads) {
            let facts = classes.facts(factor.id);
            let Operand { dims, relation, density, free, early } = &facts.operand;
            let needs = facts.ty.needs;
            let flags = [*relation, *free, *early, needs.weights, needs.tables, needs.data];
            res.push(u64::MAX);
            res.push(flags.iter().fold(0, |bits, f| bits << 1 | u64::from(*f)));
            res.push(density.to_bits());
            res.extend(dims.iter().map(|d| d.to_bits()));
            res.extend(reads.iter().map(|s| u64::from(*s)));
        }
        res
    }

    /// The product of a set as one kernel.
    fn term(&self, set: Set) -> Term {
        let kept = each(self.kept(set)).map(|k| self.axes[k]).collect();
        Term::contract(self.members(set), kept)
    }

    /// Whether no factor is itself a product that would still fit.
    fn is_flat(&self, classes: &Classes) -> bool {
        let room = MOST_FACTORS + 1 - self.factors.len();
        let opens = |n: &Node| n.op == Op::Contract && n.args.len() <= room;
        !self.factors.iter().any(|v| classes.egraph[v.id].nodes.iter().any(opens))
    }
}

/// The numbers of the factors of a set.
fn bits(set: Set) -> impl Iterator<Item = usize> {
    each(Slots::from(set))
}

/// Nestings whose inner value exists: they cost nothing to name, and show what is shared.
fn existing(classes: &mut Classes, product: &Product) -> Vec<Term> {
    let full = product.full();
    let mut res = Vec::new();
    for set in (1..full).filter(|s| s.count_ones() >= 2 && product.admissible(*s)) {
        if let Some(inner) = classes.find(&product.term(set)) {
            let mut factors = product.members(full & !set);
            factors.push(inner);
            res.push(Term::contract(factors, product.out.clone()));
        }
    }
    res
}

/// The cheapest nestings of every admissible set of factors: blocks that are multiplied in one kernel.
pub struct Plans {
    blocks: Vec<Option<Block>>,
    /// How many kernels were costed.
    looks: usize,
}

/// The product of a set of factors, as the cost model sees it.
struct Block {
    slots: Vec<Slot>,
    operand: Operand,
    needs: Needs,
    /// What it costs to have it; nothing for a factor that is taken as it is.
    cost: f64,
    /// The cheapest ways to have it, as partitions.
    plans: Vec<Vec<Set>>,
}

impl Plans {
    fn search(classes: &Classes, product: &Product) -> Plans {
        let full = product.full();
        let mut plans = Plans { blocks: (0..=full).map(|_| None).collect(), looks: 0 };
        let mut sets: Vec<Set> = (1..=full).filter(|s| product.admissible(*s)).collect();
        sets.sort_by_key(|s| (s.count_ones(), *s));
        for set in sets {
            let mut block = block(classes, product, set);
            if set.count_ones() > 1 {
                let found = Found { best: f64::INFINITY, plans: Vec::new(), looks: 0 };
                let (blocks, target) = (&plans.blocks, &classes.target);
                let mut partitions = Partitions { blocks, target, out: &block.slots, found };
                partitions.visit(set, &mut vec![], 0.0);
                let mut found = partitions.found;
                found.plans.retain(|f| f.0 <= SLACK * found.best);
                plans.looks += found.looks;
                block.cost = found.best;
                block.plans = found.plans.into_iter().map(|f| f.1).collect();
            }
            plans.blocks[set as usize] = Some(block);
        }
        plans
    }

    fn block(&self, set: Set) -> &Block {
        self.blocks[set as usize].as_ref().expect("an admissible set")
    }

    /// Makes the values of the kept plans; those of the whole come back as terms.
    fn terms(&self, classes: &mut Classes, product: &Product) -> Vec<Term> {
        let mut made = BTreeMap::new();
        let mut res = Vec::new();
        for plan in &self.block(product.full()).plans {
            let factors: Vec<Val> = plan.iter().map(|&p| self.value(classes, product, p, &mut made)).collect();
            if factors != product.factors {
                res.push(Term::contract(factors, product.out.clone()));
            }
        }
        res
    }

    fn value(&self, classes: &mut Classes, product: &Product, set: Set, made: &mut BTreeMap<Set, Val>) -> Val {
        if let Some(val) = made.get(&set) {
            return val.clone();
        }
        let block = self.block(set);
        let raw = set.count_ones() == 1 && block.cost == 0.0;
        let val = if raw { product.members(set).remove(0) } else { classes.make(&product.term(set)) };
        made.insert(set, val.clone());
        for plan in &block.plans {
            let factors: Vec<Val> = plan.iter().map(|&p| self.value(classes, product, p, made)).collect();
            classes.equate(val.id, &val.axes, &Term::contract(factors, val.axes.clone()), NEST.name);
        }
        val
    }
}

/// One factor: as it is, or summed first over axes that only it has. Or the product of several, not yet costed.
fn block(classes: &Classes, product: &Product, set: Set) -> Block {
    let kept = product.kept(set);
    let slots: Vec<Slot> = each(kept).map(|s| s as Slot).collect();
    let members = bits(set).map(|k| classes.facts(product.factors[k].id));
    let needs = members.fold(Needs::default(), |n, f| n.and(f.ty.needs));
    let mut res = Block { operand: made(classes, product, &slots, needs), slots, needs, cost: 0.0, plans: vec![] };
    if set.count_ones() == 1 {
        let k = set.trailing_zeros() as usize;
        let operand = &classes.facts(product.factors[k].id).operand;
        let reads = &product.reads[k];
        if operand.relation || product.masks[k] == kept {
            (res.operand, res.slots) = (operand.clone(), reads.clone());
        } else {
            res.cost = seconds_of(&classes.target, &Op::Contract, &[(operand, reads)], &res.slots, needs);
        }
    }
    res
}

/// A tensor that a kernel would store.
fn made(classes: &Classes, product: &Product, slots: &[Slot], needs: Needs) -> Operand {
    let dims = slots.iter().map(|s| classes.volume(&product.factors, &[product.axes[*s as usize]])).collect();
    Operand { dims, relation: false, density: 1.0, free: false, early: !needs.data && !needs.tables }
}

struct Found {
    best: f64,
    /// The cheapest, in order.
    plans: Vec<(f64, Vec<Set>)>,
    looks: usize,
}

impl Found {
    fn add(&mut self, cost: f64, parts: &[Set]) {
        self.looks += 1;
        self.best = self.best.min(cost);
        let before = |p: &(f64, Vec<Set>)| p.0.total_cmp(&cost).then_with(|| p.1[..].cmp(parts)).is_lt();
        let at = self.plans.partition_point(before);
        if at < KEPT {
            self.plans.insert(at, (cost, parts.to_vec()));
            self.plans.truncate(KEPT);
        }
    }
}

/// A walk over the partitions of a set into admissible blocks.
struct Partitions<'a> {
    blocks: &'a [Option<Block>],
    target: &'a Target,
    /// The slots of the product.
    out: &'a [Slot],
    found: Found,
}

impl Partitions<'_> {
    /// Adds blocks of `left` to `parts`, as long as the cost can still be within the slack.
    fn visit(&mut self, left: Set, parts: &mut Vec<Set>, spent: f64) {
        if spent > SLACK * self.found.best || self.found.looks > MOST_LOOKS {
            return;
        }
        if left == 0 {
            let cost = spent + self.kernel(parts);
            self.found.add(cost, parts);
            return;
        }
        let low = left & left.wrapping_neg();
        let rest = left & !low;
        let mut more = 0;
        loop {
            let part = low | more;
            if let Some(block) = &self.blocks[part as usize] {
                parts.push(part);
                self.visit(left & !part, parts, spent + block.cost);
                parts.pop();
            }
            if more == rest {
                return;
            }
            more = (more | !rest).wrapping_add(1) & rest; // the next subset of `rest`
        }
    }

    /// The seconds of one kernel that multiplies these blocks.
    fn kernel(&self, parts: &[Set]) -> f64 {
        let blocks = || parts.iter().flat_map(|p| &self.blocks[*p as usize]);
        let reads: Vec<Read> = blocks().map(|b| (&b.operand, &b.slots[..])).collect();
        let needs = blocks().fold(Needs::default(), |n, b| n.and(b.needs));
        seconds_of(self.target, &Op::Contract, &reads, self.out, needs)
    }
}
