//! The one dangerous law: splitting a product. All ways to nest a product of `n` factors are very many; the few
//! cheapest are found by dynamic programming over sets of factors, and only they, and those whose inner value
//! exists already, become nodes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use egg::Id;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::rewrite::classes::{Classes, Numbering, Term};
use crate::rewrite::cost::{Target, least_seconds, seconds_of_work};
use crate::rewrite::rules::Law;
use crate::rewrite::rules::contraction::{MOST_FACTORS, three_matrices};
use crate::tensor::cost::{self, Operand, Seen, Sizes, Slots, each, mask, volume_of};
use crate::tensor::graph::{Axis, Needs, Val};
use crate::tensor::op::{Node, Op, Slot};

/// Which nestings of a set of factors are kept.
#[derive(Clone, Copy)]
struct Keep {
    most: usize,
    /// How much worse than the best they may be.
    slack: f64,
}

/// To make nodes of them.
const FEW: Keep = Keep { most: 3, slack: 2.0 };
/// To know the cost.
const BEST: Keep = Keep { most: 1, slack: 1.0 };

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

/// A set of factors cut into disjoint sets.
type Partition = SmallVec<[Set; MOST_FACTORS]>;

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
    Product::new(classes, term.operands.clone(), term.out.clone()).least_cost(classes)
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
    /// The expected size of every slot.
    sizes: Sizes,
}

impl Product {
    fn new(classes: &Classes, factors: Vec<Val>, out: Vec<Axis>) -> Product {
        let numbering = Numbering::of(&factors);
        let reads: Vec<Vec<Slot>> = factors.iter().map(|v| numbering.slots(&v.axes)).collect();
        let masks = reads.iter().map(|r| mask(r)).collect();
        let is_function = |v: &Val| Set::from(classes.facts(v.id).ty.relation);
        let functions = factors.iter().enumerate().fold(0, |set, (k, v)| set | is_function(v) << k);
        let seen: Vec<cost::Read> =
            factors.iter().zip(&reads).map(|(v, r)| (&classes.facts(v.id).operand, &r[..])).collect();
        let sizes = cost::sizes(&seen);
        Product {
            sizes,
            result: mask(&numbering.slots(&out)),
            axes: numbering.0,
            out,
            reads,
            masks,
            functions,
            factors,
        }
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

    /// The seconds of the best nesting; of products that look alike it is searched once.
    fn least_cost(&self, classes: &mut Classes) -> f64 {
        let key = self.key(classes);
        if let Some(cost) = classes.costs.get(&key) {
            return *cost;
        }
        let known = classes.plans.get(&key).map(|plans| plans.block(self.full()).cost);
        let cost = known.unwrap_or_else(|| {
            let plans = Plans::search(classes, self, BEST);
            classes.spend(plans.looks);
            plans.block(self.full()).cost
        });
        classes.costs.insert(key, cost);
        cost
    }

    /// The nestings worth having; of products that look alike they are searched once. The window pays for them once,
    /// whether they are remembered from another window or not, so that what is found does not depend on what was searched before.
    fn plans(&self, classes: &mut Classes) -> Arc<Plans> {
        let key = self.key(classes);
        if let Some(known) = classes.plans.get(&key) {
            return known.clone();
        }
        let plans = classes.memory.get(&key).unwrap_or_else(|| Arc::new(Plans::search(classes, self, FEW)));
        classes.memory.insert(&key, &plans);
        classes.spend(plans.looks);
        classes.plans.insert(key, plans.clone());
        plans
    }

    /// All that the cost model sees.
    fn key(&self, classes: &Classes) -> Vec<u64> {
        let mut res = vec![self.result as u64, (self.result >> 64) as u64];
        for (factor, reads) in self.factors.iter().zip(&self.reads) {
            let facts = classes.facts(factor.id);
            let Operand { dims, relation, solvable, density, free, early } = &facts.operand;
            let needs = facts.ty.needs;
            let flags = [*relation, *free, *early, needs.weights, needs.tables, needs.data];
            res.push(u64::MAX);
            res.push(flags.iter().fold(0, |bits, f| bits << 1 | u64::from(*f)));
            res.push(solvable.map_or(0, |k| k as u64 + 1));
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
    let marks: Vec<u64> = product.factors.iter().map(|v| classes.mark(v.id)).collect();
    let may_exist = |set: &Set| classes.may_have_product(bits(*set).map(|k| marks[k]));
    let sets = (1..full).filter(|s| s.count_ones() >= 2 && may_exist(s) && product.admissible(*s));
    let mut res = Vec::new();
    for set in sets {
        if let Some(inner) = classes.find(&product.term(set)) {
            let mut factors = product.members(full & !set);
            factors.push(inner);
            res.push(Term::contract(factors, product.out.clone()));
        }
    }
    res
}

/// What is remembered of products from window to window, by what the cost model sees of them. Windows are searched at the same time.
#[derive(Default)]
pub struct Memory(Mutex<FxHashMap<Vec<u64>, Arc<Plans>>>);

impl Memory {
    fn get(&self, key: &[u64]) -> Option<Arc<Plans>> {
        self.0.lock().expect("no search panics with the lock").get(key).cloned()
    }

    fn insert(&self, key: &[u64], plans: &Arc<Plans>) {
        self.0.lock().expect("no search panics with the lock").entry(key.to_vec()).or_insert_with(|| plans.clone());
    }
}

/// The cheapest nestings of every admissible set of factors: blocks that are multiplied in one kernel.
pub struct Plans {
    blocks: Vec<Option<Block>>,
    /// How many kernels were costed.
    looks: usize,
}

/// The product of a set of factors.
struct Block {
    /// As the cost model sees it; none for a number.
    seen: Option<Seen>,
    /// The slots of the result.
    out: Slots,
    needs: Needs,
    /// What it costs to have it; nothing for a factor that is taken as it is.
    cost: f64,
    /// The cheapest ways to have it, as partitions.
    plans: SmallVec<[Partition; 3]>,
}

impl Plans {
    fn search(classes: &Classes, product: &Product, keep: Keep) -> Plans {
        let full = product.full();
        let mut plans = Plans { blocks: (0..=full).map(|_| None).collect(), looks: 0 };
        let mut sets: Vec<Set> = (1..=full).filter(|s| product.admissible(*s)).collect();
        sets.sort_by_key(|s| (s.count_ones(), *s));
        for set in sets {
            let mut block = block(classes, product, set);
            if set.count_ones() > 1 {
                let found = Found { keep, best: f64::INFINITY, plans: SmallVec::new(), looks: 0 };
                let (blocks, target) = (&plans.blocks, &classes.target);
                let (needs, sizes) = (block.needs, &product.sizes[..]);
                let mut partitions = Partitions { blocks, target, sizes, out: block.out, needs, found };
                let written = volume_of(sizes, block.out);
                partitions.visit(set, &mut Partition::new(), Spent { moved: written, ..Spent::default() });
                let mut found = partitions.found;
                found.plans.retain(|f| f.0 <= keep.slack * found.best);
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
    let out = product.kept(set);
    let members = bits(set).map(|k| classes.facts(product.factors[k].id));
    let needs = members.fold(Needs::default(), |n, f| n.and(f.ty.needs));
    let mut res = Block { seen: stored(product, out, needs), out, needs, cost: 0.0, plans: SmallVec::new() };
    if set.count_ones() == 1 {
        let k = set.trailing_zeros() as usize;
        let operand = &classes.facts(product.factors[k].id).operand;
        let seen = Seen::new(operand, &product.reads[k]);
        if operand.relation || product.masks[k] == out {
            (res.seen, res.out) = (seen, product.masks[k]);
        } else {
            let work = cost::product(&product.sizes, seen.into_iter(), out);
            res.cost = seconds_of_work(&classes.target, &work, needs);
        }
    }
    res
}

/// A tensor that a kernel would store.
fn stored(product: &Product, slots: Slots, needs: Needs) -> Option<Seen> {
    (slots != 0).then(|| Seen::stored(slots, volume_of(&product.sizes, slots), !needs.data && !needs.tables))
}

struct Found {
    keep: Keep,
    best: f64,
    /// The cheapest, in order; one more while one is added.
    plans: SmallVec<[(f64, Partition); 4]>,
    looks: usize,
}

impl Found {
    fn add(&mut self, cost: f64, parts: &[Set]) {
        self.looks += 1;
        self.best = self.best.min(cost);
        let before = |p: &(f64, Partition)| p.0.total_cmp(&cost).then_with(|| p.1[..].cmp(parts)).is_lt();
        let at = self.plans.partition_point(before);
        if at < self.keep.most {
            self.plans.insert(at, (cost, parts.into()));
            self.plans.truncate(self.keep.most);
        }
    }

    /// What costs more is not kept.
    fn limit(&self) -> f64 {
        let worst = self.plans.get(self.keep.most - 1).map_or(f64::INFINITY, |p| p.0);
        worst.min(self.keep.slack * self.best)
    }
}

/// What is known of a partition before all of its blocks are.
#[derive(Clone, Copy, Default)]
struct Spent {
    /// To have the blocks.
    cost: f64,
    /// How many of them are tensors, and no functions.
    tensors: usize,
    /// Numbers that the kernel writes and reads.
    moved: f64,
}

impl Spent {
    fn with(self, block: &Block) -> Spent {
        let tensors = self.tensors + usize::from(block.seen.is_some_and(|s| s.is_tensor()));
        Spent { cost: self.cost + block.cost, tensors, moved: self.moved + block.seen.map_or(0.0, |s| s.moved) }
    }
}

/// A walk over the partitions of a set into admissible blocks.
struct Partitions<'a> {
    blocks: &'a [Option<Block>],
    target: &'a Target,
    sizes: &'a [f64],
    /// The slots of the product, and what it needs.
    out: Slots,
    needs: Needs,
    found: Found,
}

impl Partitions<'_> {
    /// Adds blocks of `left` to `parts`, as long as the cost can still be low enough to be kept.
    fn visit(&mut self, left: Set, parts: &mut Partition, spent: Spent) {
        let kernel = if spent.tensors >= 2 { least_seconds(self.target, spent.moved, self.needs) } else { 0.0 };
        if spent.cost + kernel > self.found.limit() || self.found.looks > MOST_LOOKS {
            return;
        }
        if left == 0 {
            self.found.add(spent.cost + self.kernel(parts), parts);
            return;
        }
        let low = left & left.wrapping_neg();
        let rest = left & !low;
        let mut more = 0;
        loop {
            let part = low | more;
            if let Some(block) = &self.blocks[part as usize] {
                parts.push(part);
                self.visit(left & !part, parts, spent.with(block));
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
        let seen = parts.iter().flat_map(|p| &self.blocks[*p as usize]).filter_map(|b| b.seen);
        seconds_of_work(self.target, &cost::product(self.sizes, seen, self.out), self.needs)
    }
}
