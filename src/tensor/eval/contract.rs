//! Sums of products. A plan merges operands while that saves iterations, then nests loops:
//! a loop an axis, except that a function determines its last axis and a sparse constant runs over its nonzeros.

use std::rc::Rc;

use crate::tensor::eval::{Array, Odometer, Tabulated, Value, steps};
use crate::tensor::op::Slot;

/// An operand of a product with the slots it is read with.
#[derive(Clone)]
pub(super) struct Factor {
    slots: Vec<Slot>,
    value: Value,
    /// The indices and values that are not zero, where few are: only of constants, since 0 · NaN is NaN.
    nonzeros: Option<Rc<Vec<(Vec<usize>, f64)>>>,
}

impl Factor {
    pub(super) fn new(slots: Vec<Slot>, value: Value) -> Factor {
        let nonzeros = match &value {
            Value::Constant(array) => nonzeros(array),
            Value::Numbers(_) | Value::Function(_) => None,
        };
        Factor { slots, value, nonzeros }
    }

    pub(super) fn dims(&self) -> Vec<usize> {
        match &self.value {
            Value::Numbers(array) | Value::Constant(array) => array.dims.clone(),
            Value::Function(f) => f.from.iter().copied().chain([f.to]).collect(),
        }
    }

    fn function(&self) -> Option<&Rc<Tabulated>> {
        match &self.value {
            Value::Function(function) => Some(function),
            Value::Numbers(_) | Value::Constant(_) => None,
        }
    }

    fn array(&self) -> Option<&Rc<Array>> {
        match &self.value {
            Value::Numbers(array) | Value::Constant(array) => Some(array),
            Value::Function(_) => None,
        }
    }

    fn has(&self, slot: Slot) -> bool {
        self.slots.contains(&slot)
    }
}

fn nonzeros(array: &Array) -> Option<Rc<Vec<(Vec<usize>, f64)>>> {
    let count = array.data.iter().filter(|x| **x != 0.0).count();
    if 2 * count > array.data.len() {
        return None;
    }
    let all = Odometer::new(&array.dims).zip(&array.data);
    Some(Rc::new(all.filter(|(_, x)| **x != 0.0).map(|(ix, x)| (ix, *x)).collect()))
}

/// `y[out] = Σ Π factors`, where `sizes` says the size of every slot.
pub(super) fn contract(mut factors: Vec<Factor>, out: &[Slot], sizes: &[usize]) -> Array {
    while let Some(merged) = best_merge(&factors, out, sizes) {
        let (chosen, mut rest): (Vec<_>, Vec<_>) =
            factors.into_iter().enumerate().partition(|(i, _)| merged.members.contains(i));
        let chosen: Vec<Factor> = chosen.into_iter().map(|(_, f)| f).collect();
        let array = accumulate(&chosen, &merged.keep, sizes);
        rest.push((usize::MAX, Factor::new(merged.keep, Value::Numbers(Rc::new(array)))));
        factors = rest.into_iter().map(|(_, f)| f).collect();
    }
    accumulate(&factors, out, sizes)
}

fn accumulate(factors: &[Factor], out: &[Slot], sizes: &[usize]) -> Array {
    let mut res = Array::zeros(out.iter().map(|s| sizes[*s as usize]).collect());
    let data = &mut res.data;
    for_each(factors, out, sizes, &mut |at, x| data[at] += x);
    res
}

/// Operands that are multiplied first, and the axes that their product keeps.
struct Merge {
    members: Vec<usize>,
    keep: Vec<Slot>,
}

/// The merge of one or two operands that saves most iterations, if any saves some.
fn best_merge(factors: &[Factor], out: &[Slot], sizes: &[usize]) -> Option<Merge> {
    let n = factors.len();
    if n < 2 {
        return None;
    }
    let volume = |slots: &[Slot]| slots.iter().map(|s| sizes[*s as usize] as f64).product::<f64>();
    let mut least = iterations(factors, sizes);
    let mut best = None;
    let pairs = (0..n).flat_map(|i| (i..n).map(move |j| if i == j { vec![i] } else { vec![i, j] }));
    for members in pairs.filter(|m| m.len() < n) {
        let chosen: Vec<Factor> = members.iter().map(|&i| factors[i].clone()).collect();
        let mut rest: Vec<Factor> = (0..n).filter(|i| !members.contains(i)).map(|i| factors[i].clone()).collect();
        let mut keep: Vec<Slot> = Vec::new();
        for slot in chosen.iter().flat_map(|f| &f.slots) {
            if !keep.contains(slot) && (out.contains(slot) || rest.iter().any(|f| f.has(*slot))) {
                keep.push(*slot);
            }
        }
        let dims = keep.iter().map(|s| sizes[*s as usize]).collect();
        let stand_in = Value::Numbers(Rc::new(Array { dims, data: vec![] }));
        rest.push(Factor { slots: keep.clone(), value: stand_in, nonzeros: None });
        let cost = iterations(&chosen, sizes) + volume(&keep) + iterations(&rest, sizes);
        if cost < least {
            least = cost;
            best = Some(Merge { members, keep });
        }
    }
    best
}

/// One level of the nest.
enum Level {
    /// The slot runs over its size.
    Loop(Slot),
    /// The function determines the slot, or there is nothing here.
    Determine { factor: usize, slot: Slot },
    /// The function must agree.
    Check { factor: usize, slot: Slot },
    /// The unknown slots of a sparse constant run over its nonzeros.
    Nonzeros { factor: usize, known: Vec<Slot> },
}

/// The nest for a product: first what functions need, then sparse constants, then the rest, the largest innermost.
fn plan(factors: &[Factor], sizes: &[usize]) -> Vec<Level> {
    let mut levels = Vec::new();
    let mut known: Vec<Slot> = Vec::new();
    let mut functions: Vec<usize> = (0..factors.len()).filter(|i| factors[*i].function().is_some()).collect();
    let mut sparse: Vec<usize> = (0..factors.len()).filter(|i| factors[*i].nonzeros.is_some()).collect();
    loop {
        functions.retain(|&factor| {
            let (slot, from) = factors[factor].slots.split_last().expect("a relation has a last axis");
            if !from.iter().all(|s| known.contains(s)) {
                return true;
            }
            if known.contains(slot) {
                levels.push(Level::Check { factor, slot: *slot });
            } else {
                known.push(*slot);
                levels.push(Level::Determine { factor, slot: *slot });
            }
            false
        });
        let needed: Vec<Slot> = functions
            .iter()
            .flat_map(|&i| &factors[i].slots[..factors[i].slots.len() - 1])
            .copied()
            .filter(|s| !known.contains(s))
            .collect();
        let determined = |s: &Slot| functions.iter().any(|&i| factors[i].slots.last() == Some(s));
        if let Some(slot) = needed.iter().find(|s| !determined(s)).or(needed.first()) {
            known.push(*slot);
            levels.push(Level::Loop(*slot));
            continue;
        }
        if functions.is_empty() {
            let Some(factor) = (!sparse.is_empty()).then(|| sparse.remove(0)) else { break };
            let slots = &factors[factor].slots;
            if slots.iter().all(|s| known.contains(s)) {
                continue;
            }
            let old = slots.iter().copied().filter(|s| known.contains(s)).collect();
            known.extend(slots.iter().copied().collect::<std::collections::BTreeSet<_>>());
            levels.push(Level::Nonzeros { factor, known: old });
        }
    }
    let mut rest: Vec<Slot> = factors.iter().flat_map(|f| &f.slots).copied().filter(|s| !known.contains(s)).collect();
    rest.sort_by_key(|s| (sizes[*s as usize], *s));
    rest.dedup();
    levels.extend(rest.into_iter().map(Level::Loop));
    levels
}

/// How often the innermost body runs.
fn iterations(factors: &[Factor], sizes: &[usize]) -> f64 {
    let size = |s: &Slot| sizes[*s as usize] as f64;
    let count = |level: &Level| match level {
        Level::Loop(slot) => size(slot),
        Level::Determine { .. } | Level::Check { .. } => 1.0,
        Level::Nonzeros { factor, known } => {
            let all = factors[*factor].nonzeros.as_ref().map_or(0, |n| n.len()) as f64;
            all / known.iter().map(size).product::<f64>()
        }
    };
    plan(factors, sizes).iter().map(count).product()
}

/// Calls `f(position in the result, product)` once for every combination of indices that the functions allow.
pub(super) fn for_each(factors: &[Factor], out: &[Slot], sizes: &[usize], f: &mut impl FnMut(usize, f64)) {
    let levels = plan(factors, sizes);
    let n_slots = sizes.len();
    let all: Vec<Slot> = (0..n_slots as Slot).collect();
    let out_dims = Array { dims: out.iter().map(|s| sizes[*s as usize]).collect(), data: vec![] };
    let arrays = factors.iter().map(|x| x.array().map(|a| (a.clone(), steps(&x.slots, &a.strides(), &all)))).collect();
    let mut nest = Nest {
        lists: levels.iter().map(|level| lists(level, factors, sizes)).collect(),
        due: due(&levels, factors),
        out: steps(out, &out_dims.strides(), &all),
        levels,
        factors,
        sizes,
        arrays,
        ix: vec![0; n_slots],
    };
    let start = nest.product(0, 1.0);
    nest.run(0, start, f);
}

/// A sparse constant's nonzeros, listed by the position among its known slots: new indices and value.
struct Lists {
    known: Vec<(Slot, usize)>,
    new: Vec<Slot>,
    rows: Vec<Vec<(Vec<usize>, f64)>>,
}

fn lists(level: &Level, factors: &[Factor], sizes: &[usize]) -> Option<Lists> {
    let Level::Nonzeros { factor, known } = level else { return None };
    let Factor { slots, nonzeros, .. } = &factors[*factor];
    let nonzeros = nonzeros.as_ref().expect("planned as sparse");
    let mut old: Vec<Slot> = known.clone();
    old.sort();
    old.dedup();
    let mut new: Vec<Slot> = slots.iter().copied().filter(|s| !old.contains(s)).collect();
    new.sort();
    new.dedup();
    let dims: Vec<usize> = old.iter().map(|s| sizes[*s as usize]).collect();
    let known: Vec<(Slot, usize)> = old.iter().copied().zip(super::strides(&dims)).collect();
    let mut rows = vec![Vec::new(); dims.iter().product()];
    for (ix, x) in nonzeros.iter() {
        let at = |slot: Slot| ix[slots.iter().position(|s| *s == slot).expect("a slot of the factor")];
        let diagonal = slots.iter().zip(ix).all(|(s, i)| at(*s) == *i);
        if diagonal {
            let row: usize = known.iter().map(|(s, step)| at(*s) * step).sum();
            rows[row].push((new.iter().map(|s| at(*s)).collect(), *x));
        }
    }
    Some(Lists { known, new, rows })
}

/// For each level, and before the first, the arrays all of whose slots are known from there on.
fn due(levels: &[Level], factors: &[Factor]) -> Vec<Vec<usize>> {
    let mut known: Vec<Slot> = Vec::new();
    let mut done: Vec<usize> = Vec::new();
    let mut res = Vec::new();
    for depth in 0..=levels.len() {
        match depth.checked_sub(1).map(|d| &levels[d]) {
            None | Some(Level::Check { .. }) => (),
            Some(Level::Loop(slot) | Level::Determine { slot, .. }) => known.push(*slot),
            Some(Level::Nonzeros { factor, .. }) => {
                known.extend(&factors[*factor].slots);
                done.push(*factor);
            }
        }
        let ready = |i: &usize| {
            factors[*i].array().is_some() && !done.contains(i) && factors[*i].slots.iter().all(|s| known.contains(s))
        };
        let now: Vec<usize> = (0..factors.len()).filter(ready).collect();
        done.extend(&now);
        res.push(now);
    }
    res
}

/// A nest of loops while it runs.
struct Nest<'a> {
    levels: Vec<Level>,
    lists: Vec<Option<Lists>>,
    /// `due[d]`: the arrays to be multiplied when `d` levels are bound.
    due: Vec<Vec<usize>>,
    factors: &'a [Factor],
    sizes: &'a [usize],
    /// The arrays and how far a step along each slot moves in them.
    arrays: Vec<Option<(Rc<Array>, Vec<usize>)>>,
    out: Vec<usize>,
    ix: Vec<usize>,
}

impl Nest<'_> {
    fn position(&self, steps: &[usize]) -> usize {
        self.ix.iter().zip(steps).map(|(i, s)| i * s).sum()
    }

    fn product(&self, depth: usize, start: f64) -> f64 {
        self.due[depth].iter().fold(start, |x, &i| {
            let (array, steps) = self.arrays[i].as_ref().expect("an array is due");
            x * array.data[self.position(steps)]
        })
    }

    fn run(&mut self, depth: usize, x: f64, f: &mut impl FnMut(usize, f64)) {
        if depth == self.levels.len() {
            return f(self.position(&self.out), x);
        }
        match self.levels[depth] {
            Level::Loop(slot) if depth + 1 == self.levels.len() => self.innermost(slot as usize, x, f),
            Level::Loop(slot) => {
                for i in 0..self.sizes[slot as usize] {
                    self.ix[slot as usize] = i;
                    let x = self.product(depth + 1, x);
                    self.run(depth + 1, x, f);
                }
            }
            Level::Determine { factor, slot } => {
                if let Some(k) = self.apply(factor) {
                    self.ix[slot as usize] = k;
                    let x = self.product(depth + 1, x);
                    self.run(depth + 1, x, f);
                }
            }
            Level::Check { factor, slot } => {
                if self.apply(factor) == Some(self.ix[slot as usize]) {
                    let x = self.product(depth + 1, x);
                    self.run(depth + 1, x, f);
                }
            }
            Level::Nonzeros { .. } => self.nonzeros(depth, x, f),
        }
    }

    fn nonzeros(&mut self, depth: usize, x: f64, f: &mut impl FnMut(usize, f64)) {
        let lists = self.lists[depth].take().expect("a sparse level has its lists");
        let row: usize = lists.known.iter().map(|(s, step)| self.ix[*s as usize] * step).sum();
        for (ix, value) in &lists.rows[row] {
            for (slot, i) in lists.new.iter().zip(ix) {
                self.ix[*slot as usize] = *i;
            }
            let x = self.product(depth + 1, x * value);
            self.run(depth + 1, x, f);
        }
        self.lists[depth] = Some(lists);
    }

    fn apply(&self, factor: usize) -> Option<usize> {
        let function = self.factors[factor].function().expect("planned as a function");
        let slots = &self.factors[factor].slots;
        let at = slots.iter().zip(&function.from).fold(0, |at, (s, n)| at * n + self.ix[*s as usize]);
        function.map[at]
    }

    /// The last loop, with its addresses moved by strides.
    fn innermost(&mut self, slot: usize, x: f64, f: &mut impl FnMut(usize, f64)) {
        self.ix[slot] = 0;
        let n = self.sizes[slot];
        if n == 0 {
            return;
        }
        let (start, step) = (self.position(&self.out), self.out[slot]);
        let reads: Vec<(&[f64], usize)> = self.due[self.levels.len()]
            .iter()
            .map(|&i| {
                let (array, steps) = self.arrays[i].as_ref().expect("an array is due");
                (&array.data[self.position(steps)..], steps[slot])
            })
            .collect();
        match reads[..] {
            [(a, da)] => (0..n).for_each(|i| f(start + i * step, x * a[i * da])),
            [(a, da), (b, db)] => (0..n).for_each(|i| f(start + i * step, x * a[i * da] * b[i * db])),
            _ => (0..n).for_each(|i| f(start + i * step, reads.iter().fold(x, |x, (a, da)| x * a[i * da]))),
        }
    }
}
