//! Sums of products on lanes that have factors in common, `total += common · Σ number · Π lanes`, several at a time: a tensor product's
//! components. They are the same in whatever order factors are multiplied; they are taken in the order of fewest operations.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::arena::Id;
use crate::kernel::ir::Expr;
use crate::kernel::lower::cx::Cx;

/// Products that are added to a total one by one. More are added up apart from it, so that the next entry's need not wait for them all.
const MOST_CHAINED: usize = 4;

/// `number · Π lanes`: a number is the same on all lanes.
pub(super) struct Product {
    pub(super) number: Id<Expr>,
    pub(super) lanes: Vec<Id<Expr>>,
}

/// What is added to one total.
pub(super) struct Addition<K> {
    pub(super) to: K,
    pub(super) products: Vec<Product>,
}

/// How such sums are taken.
#[derive(Clone, Copy)]
struct Order {
    /// The factor on lanes that the others are multiplied into.
    first: usize,
    /// Whether products with the same first factor are added up before they are multiplied by it.
    collected: bool,
    /// Whether the common factor is multiplied into the first factors, instead of into each sum.
    spread: bool,
}

impl Cx<'_, '_> {
    /// Adds sums to their totals. `bound` has what is in a variable already.
    pub(super) fn add_sums<K: Copy + Ord>(
        &mut self,
        common: Option<Id<Expr>>,
        mut sums: Vec<Addition<K>>,
        bound: &mut BTreeMap<Id<Expr>, Id<Expr>>,
        totals: &mut BTreeMap<K, Id<Expr>>,
    ) {
        let common = self.with_shared_number(common, &mut sums, bound);
        let one = self.b.float(1.0);
        let order = Order::cheapest(&sums, common.is_some(), one);
        let (outside, inside) = if order.spread { (None, common) } else { (common, None) };
        for Addition { to, products } in &sums {
            let old = totals.get(to).copied();
            let is_apart = outside.is_some() || products.len() > MOST_CHAINED;
            let sum = self.sum_of_products(products, order, inside, old.filter(|_| !is_apart), bound);
            let new = match (outside, old) {
                (Some(outside), Some(old)) => self.b.fma(outside, sum, old),
                (Some(outside), None) => self.b.mul(outside, sum),
                (None, Some(old)) if is_apart => self.b.add(sum, old),
                (None, _) => sum,
            };
            totals.insert(*to, new);
        }
    }

    /// The common factor, times the number of all products where it is the same in all: they lose it.
    fn with_shared_number<K>(
        &mut self,
        common: Option<Id<Expr>>,
        sums: &mut [Addition<K>],
        bound: &mut BTreeMap<Id<Expr>, Id<Expr>>,
    ) -> Option<Id<Expr>> {
        let products = || sums.iter().flat_map(|sum| &sum.products);
        let Some(number) = products().next().map(|p| p.number) else { return common };
        let least = if common.is_some() { 1 } else { 2 };
        let worth = products().all(|p| p.lanes.len() >= least);
        if !worth || number == self.b.float(1.0) || products().any(|p| p.number != number) {
            return common;
        }
        let one = self.b.float(1.0);
        sums.iter_mut().flat_map(|sum| &mut sum.products).for_each(|p| p.number = one);
        Some(common.map_or(number, |common| {
            let product = self.b.mul(common, number);
            self.bind_once(product, bound)
        }))
    }

    /// `start + inside · Σ products`
    fn sum_of_products(
        &mut self,
        products: &[Product],
        order: Order,
        inside: Option<Id<Expr>>,
        start: Option<Id<Expr>>,
        bound: &mut BTreeMap<Id<Expr>, Id<Expr>>,
    ) -> Id<Expr> {
        let mut total = start;
        for group in order.groups(products) {
            let first = group[0].lanes.get(order.first).map(|first| {
                inside.map_or(*first, |inside| {
                    let scaled = self.b.mul(inside, *first);
                    self.bind_once(scaled, bound)
                })
            });
            let without_first = |p: &Product| {
                let others = p.lanes.iter().enumerate().filter(|(k, _)| *k != order.first).map(|(_, factor)| *factor);
                others.collect::<Vec<_>>()
            };
            let factors: Vec<Id<Expr>> = if order.collected {
                let inner = group.iter().fold(None, |inner, p| {
                    let factors = [vec![p.number], without_first(p)].concat();
                    Some(self.add_product(inner, &factors))
                });
                inner.into_iter().chain(first).collect()
            } else {
                [group[0].number].into_iter().chain(first).chain(without_first(group[0])).collect()
            };
            total = Some(self.add_product(total, &factors));
        }
        total.expect("lower: a sum has a product")
    }
}

impl Order {
    /// The order of fewest operations; the plainest of those.
    fn cheapest<K>(sums: &[Addition<K>], has_common: bool, one: Id<Expr>) -> Order {
        let depth = sums.iter().flat_map(|sum| &sum.products).map(|p| p.lanes.len()).min().unwrap_or(0);
        let mut orders = vec![Order { first: 0, collected: false, spread: false }];
        for collected in [false, true].into_iter().filter(|collected| depth > 1 || !collected) {
            for spread in [false, true].into_iter().filter(|spread| depth > 0 && has_common || !spread) {
                orders.extend((0..depth).map(|first| Order { first, collected, spread }));
            }
        }
        let cost = |order: &Order| order.operations(sums, has_common, one);
        orders.into_iter().min_by_key(cost).expect("there is an order")
    }

    /// The vector operations that sums take, those aside that all orders take.
    fn operations<K>(self, sums: &[Addition<K>], has_common: bool, one: Id<Expr>) -> usize {
        let products = || sums.iter().flat_map(|sum| &sum.products);
        let firsts: BTreeSet<_> = products().filter_map(|p| p.lanes.get(self.first)).collect();
        let scaled = if self.spread { firsts.len() } else { 0 };
        let closing = if has_common && !self.spread {
            sums.len()
        } else {
            sums.iter().filter(|sum| sum.products.len() > MOST_CHAINED).count()
        };
        let multiplied = if self.collected {
            sums.iter().map(|sum| self.groups(&sum.products).len()).sum()
        } else {
            let numbered = products().filter(|p| p.number != one && p.lanes.len() > 1);
            numbered.map(|p| (p.number, p.lanes[self.first])).collect::<BTreeSet<_>>().len()
        };
        scaled + closing + multiplied
    }

    /// The products of one sum that are taken together.
    fn groups(self, products: &[Product]) -> Vec<Vec<&Product>> {
        let mut res: Vec<Vec<&Product>> = Vec::new();
        for product in products {
            let is_same = |group: &&mut Vec<&Product>| group[0].lanes[self.first] == product.lanes[self.first];
            match res.iter_mut().find(|group| self.collected && is_same(group)) {
                Some(group) => group.push(product),
                None => res.push(vec![product]),
            }
        }
        res
    }
}
