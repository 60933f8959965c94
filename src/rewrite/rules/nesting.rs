//! The one dangerous law: splitting a product. All ways to nest a product of `n` factors are very many; the few
//! cheapest are found by dynamic programming over sets of factors, and only they, and those whose inner value
//! exists already, become nodes.

use std::collections::BTreeMap;
use std::rc::Rc;

use egg::Id;

use crate::rewrite::classes::{Classes, Factor, Term, axes_of, seconds_of};
use crate::rewrite::rules::Law;
use crate::rewrite::rules::contraction::{MOST_FACTORS, three_matrices};
use crate::tensor::cost::Operand;
use crate::tensor::graph::{Axis, Needs, Val};
use crate::tensor::op::{Node, Op};

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
    let product = Product { factors: Classes::operands(node), out: Classes::out(node) };
    let full: Set = (1 << n) - 1;
    let admissible: Vec<bool> = (0..=full).map(|s| s == full || product.admissible(classes, s)).collect();
    let mut res = existing(classes, &product, &admissible, full);
    if product.is_flat(classes) {
        let plans = product.plans(classes);
        res.extend(plans.terms(classes, &product, full));
    }
    res
}

/// The seconds of a product in its best nesting.
pub fn least_cost(classes: &mut Classes, term: &Term) -> f64 {
    let n = term.operands.len();
    if !(2..=MOST_FACTORS).contains(&n) {
        return classes.seconds(term);
    }
    let product = Product { factors: term.operands.clone(), out: term.out.clone() };
    product.plans(classes).cost[&((1 << n) - 1)]
}

struct Product {
    factors: Vec<Val>,
    out: Vec<Axis>,
}

impl Product {
    fn members(&self, set: Set) -> Vec<Val> {
        let of = |(k, v): (usize, &Val)| (set >> k & 1 == 1).then(|| v.clone());
        self.factors.iter().enumerate().filter_map(of).collect()
    }

    /// The axes of a set of factors that the rest or the result reads.
    fn kept(&self, set: Set) -> Vec<Axis> {
        let rest = axes_of(&self.members(!set));
        axes_of(&self.members(set)).into_iter().filter(|a| self.out.contains(a) || rest.contains(a)).collect()
    }

    /// Whether multiplying these first can pay: they share axes, they are not all functions, and they sum over an axis
    /// or make nothing larger than they are.
    fn admissible(&self, classes: &Classes, set: Set) -> bool {
        let members = self.members(set);
        if members.is_empty() || members.iter().all(|v| classes.facts(v.id).ty.relation) {
            return set.count_ones() == 1;
        }
        let (all, kept) = (axes_of(&members), self.kept(set));
        if members.len() == 1 {
            return true;
        }
        let sums = kept.len() < all.len();
        let grows = !members.iter().any(|v| kept.iter().all(|a| v.has(*a)));
        (sums || !grows) && connected(&members)
    }

    /// The nestings worth having; of products that look alike they are searched once.
    fn plans(&self, classes: &mut Classes) -> Rc<Plans> {
        let key = self.key(classes);
        if let Some(known) = classes.plans.get(&key) {
            return known.clone();
        }
        let full: Set = (1 << self.factors.len()) - 1;
        let admissible: Vec<bool> = (0..=full).map(|s| s == full || self.admissible(classes, s)).collect();
        let plans = Rc::new(Plans::search(classes, self, &admissible, full));
        classes.spend(plans.looks);
        classes.plans.insert(key, plans.clone());
        plans
    }

    /// All that the cost model sees.
    fn key(&self, classes: &Classes) -> Vec<u64> {
        let all = axes_of(&self.factors);
        let place = |a: &Axis| all.iter().position(|b| a == b).expect("an axis of a factor") as u64;
        let mut res: Vec<u64> = self.out.iter().map(place).collect();
        res.sort_unstable();
        for factor in &self.factors {
            let facts = classes.facts(factor.id);
            let Operand { dims, relation, density, free, early } = &facts.operand;
            let needs = facts.ty.needs;
            let flags = [*relation, *free, *early, needs.weights, needs.tables, needs.data];
            res.push(u64::MAX);
            res.push(flags.iter().fold(0, |bits, f| bits << 1 | u64::from(*f)));
            res.push(density.to_bits());
            res.extend(dims.iter().map(|d| d.to_bits()));
            res.extend(factor.axes.iter().map(place));
        }
        res
    }

    /// The product of a set as one kernel.
    fn term(&self, set: Set) -> Term {
        Term::contract(self.members(set), self.kept(set))
    }

    /// Whether no factor is itself a product that would still fit.
    fn is_flat(&self, classes: &Classes) -> bool {
        let room = MOST_FACTORS + 1 - self.factors.len();
        let opens = |n: &Node| n.op == Op::Contract && n.args.len() <= room;
        !self.factors.iter().any(|v| classes.egraph[v.id].nodes.iter().any(opens))
    }
}

/// Whether axes connect the factors; numbers without axes connect to anything.
fn connected(members: &[Val]) -> bool {
    let mut reached = vec![false; members.len()];
    reached[0] = true;
    loop {
        let touches = |k: usize, reached: &[bool]| {
            members[k].axes.is_empty()
                || (0..members.len()).any(|l| {
                    reached[l] && (members[l].axes.is_empty() || members[l].axes.iter().any(|a| members[k].has(*a)))
                })
        };
        let next = (0..members.len()).find(|&k| !reached[k] && touches(k, &reached));
        match next {
            Some(k) => reached[k] = true,
            None => return reached.iter().all(|r| *r),
        }
    }
}

/// Nestings whose inner value exists: they cost nothing to name, and show what is shared.
fn existing(classes: &mut Classes, product: &Product, admissible: &[bool], full: Set) -> Vec<Term> {
    let mut res = Vec::new();
    for set in (1..full).filter(|s| s.count_ones() >= 2 && admissible[*s as usize]) {
        if let Some(inner) = classes.find(&product.term(set)) {
            let mut factors = product.members(full & !set);
            factors.push(inner);
            res.push(Term::contract(factors, product.out.clone()));
        }
    }
    res
}

/// The cheapest nestings of every set of factors: blocks that are multiplied in one kernel.
pub struct Plans {
    /// What it costs to have the product of a set; nothing for a factor that is taken as it is.
    cost: BTreeMap<Set, f64>,
    kept: BTreeMap<Set, Vec<Vec<Set>>>,
    /// How many kernels were costed.
    looks: usize,
}

impl Plans {
    fn search(classes: &Classes, product: &Product, admissible: &[bool], full: Set) -> Plans {
        let mut plans = Plans { cost: BTreeMap::new(), kept: BTreeMap::new(), looks: 0 };
        let mut sets: Vec<Set> = (1..=full).filter(|s| admissible[*s as usize]).collect();
        sets.sort_by_key(|s| (s.count_ones(), *s));
        let mut blocks: BTreeMap<Set, Factor> = BTreeMap::new();
        for set in sets {
            let kept = product.kept(set);
            if set.count_ones() == 1 {
                let (factor, cost) = single(classes, product, set, kept);
                blocks.insert(set, factor);
                plans.cost.insert(set, cost);
                continue;
            }
            let kernel = |parts: &[&Factor]| seconds_of(&classes.target, &Op::Contract, parts, &kept);
            let mut found = Found { best: f64::INFINITY, plans: Vec::new(), looks: 0 };
            let mut partitions = Partitions { cost: &plans.cost, blocks: &blocks, kernel: &kernel, found: &mut found };
            partitions.visit(set, &mut vec![], 0.0);
            found.plans.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            found.plans.truncate(KEPT);
            found.plans.retain(|f| f.0 <= SLACK * found.best);
            plans.looks += found.looks;
            plans.cost.insert(set, found.best);
            plans.kept.insert(set, found.plans.into_iter().map(|f| f.1).collect());
            let whole = whole(classes, product, set, kept);
            blocks.insert(set, whole);
        }
        plans
    }

    /// Makes the values of the kept plans; those of `full` come back as terms.
    fn terms(&self, classes: &mut Classes, product: &Product, full: Set) -> Vec<Term> {
        let mut made = BTreeMap::new();
        let mut res = Vec::new();
        for plan in &self.kept[&full] {
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
        let raw = set.count_ones() == 1 && self.cost[&set] == 0.0;
        let val = if raw { product.members(set).remove(0) } else { classes.make(&product.term(set)) };
        made.insert(set, val.clone());
        for plan in self.kept.get(&set).into_iter().flatten() {
            let factors: Vec<Val> = plan.iter().map(|&p| self.value(classes, product, p, made)).collect();
            classes.equate(val.id, &val.axes, &Term::contract(factors, val.axes.clone()), NEST.name);
        }
        val
    }
}

struct Found {
    best: f64,
    plans: Vec<(f64, Vec<Set>)>,
    looks: usize,
}

/// A walk over the partitions of a set into admissible blocks.
struct Partitions<'a> {
    cost: &'a BTreeMap<Set, f64>,
    /// Products as the cost model sees them.
    blocks: &'a BTreeMap<Set, Factor>,
    kernel: &'a dyn Fn(&[&Factor]) -> f64,
    found: &'a mut Found,
}

impl Partitions<'_> {
    /// Adds blocks of `left` to `parts`, as long as the cost can still be within the slack.
    fn visit(&mut self, left: Set, parts: &mut Vec<Set>, spent: f64) {
        if spent > SLACK * self.found.best || self.found.looks > MOST_LOOKS {
            return;
        }
        if left == 0 {
            let factors: Vec<&Factor> = parts.iter().map(|p| &self.blocks[p]).collect();
            let cost = spent + (self.kernel)(&factors);
            self.found.looks += 1;
            self.found.best = self.found.best.min(cost);
            self.found.plans.push((cost, parts.clone()));
            return;
        }
        let low = left & left.wrapping_neg();
        let rest = left & !low;
        let mut more = 0;
        loop {
            let part = low | more;
            if let Some(cost) = self.cost.get(&part) {
                parts.push(part);
                self.visit(left & !part, parts, spent + cost);
                parts.pop();
            }
            if more == rest {
                return;
            }
            more = (more | !rest).wrapping_add(1) & rest; // the next subset of `rest`
        }
    }
}

/// One factor: as it is, or summed first over axes that only it has.
fn single(classes: &Classes, product: &Product, set: Set, kept: Vec<Axis>) -> (Factor, f64) {
    let factor = classes.factor(&product.members(set)[0]);
    if factor.operand.relation || factor.axes.iter().all(|a| kept.contains(a)) {
        return (factor, 0.0);
    }
    let cost = seconds_of(&classes.target, &Op::Contract, &[&factor], &kept);
    (whole(classes, product, set, kept), cost)
}

fn whole(classes: &Classes, product: &Product, set: Set, axes: Vec<Axis>) -> Factor {
    let members = product.members(set);
    let needs = members.iter().fold(Needs::default(), |n, v| n.and(classes.facts(v.id).ty.needs));
    let dims = axes.iter().map(|a| classes.volume(&members, &[*a])).collect();
    let early = !needs.data && !needs.tables;
    Factor { axes, operand: Operand { dims, relation: false, density: 1.0, free: false, early }, needs }
}
