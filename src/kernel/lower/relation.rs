//! Functions between axes as index arithmetic: applied, inverted, and the conditions under which they are defined.
//! Conditions that always hold are not emitted.

use crate::base::arena::Id;
use crate::base::size::{Size, SizeVar};
use crate::kernel::ir::{Binary, Comparison, Expr};
use crate::kernel::lower::cx::Cx;
use crate::tensor::graph::{Affine, Function, Outside, Relation};

/// An index and the condition under which it is one.
pub(super) type Guarded = (Id<Expr>, Option<Id<Expr>>);

/// `f(from)`.
pub(super) fn apply(cx: &mut Cx, id: Id<Relation>, from: &[Id<Expr>]) -> Guarded {
    let relation = cx.graph().relations[id].clone();
    match &relation.map {
        Function::Table(input) => {
            let buffer = cx.input(*input);
            (cx.b.load(buffer, from.to_vec()), None)
        }
        Function::Paired(paired) => {
            let buffer = cx.low.paired(paired);
            (cx.b.load(buffer, from.to_vec()), None)
        }
        Function::Constant(table) => {
            let dims = relation.from.iter().map(|d| d.as_fixed()).collect::<Option<Vec<usize>>>();
            if let Some(place) = dims.and_then(|dims| cx.known_place(from, &dims)) {
                let value = cx.b.int(table[place].map_or(-1, i64::from));
                let zero = cx.b.int(0);
                return (value, table[place].is_none().then(|| cx.b.compare(Comparison::Le, zero, value)));
            }
            let buffer = cx.constant_table(id);
            let value = cx.b.load(buffer, from.to_vec());
            let total = table.iter().all(Option::is_some);
            let zero = cx.b.int(0);
            (value, (!total).then(|| cx.b.compare(Comparison::Le, zero, value)))
        }
        Function::Affine { scale, offset, divisor, outside } => {
            let mut v = affine_offset(cx, offset);
            for (scale, index) in scale.iter().zip(from) {
                let scale = cx.b.int(*scale);
                let term = cx.b.mul(scale, *index);
                v = cx.b.add(term, v);
            }
            let divisor_expr = cx.b.int(*divisor);
            let to = cx.b.size(relation.to);
            let quotient = cx.b.binary(Binary::Div, v, divisor_expr);
            let bounds = bounds(&relation);
            match outside {
                Outside::Never => (quotient, None),
                Outside::Zero => {
                    let guard = inside(cx, quotient, to, &bounds);
                    (quotient, guard)
                }
                Outside::Wrap if bounds.low && bounds.high => (quotient, None),
                Outside::Wrap => (cx.b.binary(Binary::Mod, quotient, to), None),
                Outside::Reflect if bounds.low && bounds.high => (quotient, None),
                Outside::Reflect => (mirror(cx, quotient, to), None),
            }
        }
    }
}

/// `v` mirrored at the edge cells `0` and `n - 1`: period `2(n - 1)`.
fn mirror(cx: &mut Cx, v: Id<Expr>, n: Id<Expr>) -> Id<Expr> {
    let (one, two) = (cx.b.int(1), cx.b.int(2));
    let last = cx.b.sub(n, one);
    let period = cx.b.mul(two, last);
    let modulus = cx.b.binary(Binary::Max, period, one);
    let u = cx.b.binary(Binary::Mod, v, modulus);
    let back = cx.b.sub(period, u);
    cx.b.binary(Binary::Min, u, back)
}

fn affine_offset(cx: &mut Cx, offset: &Affine) -> Id<Expr> {
    let constant = cx.b.int(offset.constant);
    match offset.size {
        None => constant,
        Some(size) => {
            let size = cx.b.size(size);
            cx.b.add(size, constant)
        }
    }
}

/// Which sides of `0 <= v < n` always hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    low: bool,
    high: bool,
}

fn inside(cx: &mut Cx, v: Id<Expr>, n: Id<Expr>, always: &Bounds) -> Option<Id<Expr>> {
    let zero = cx.b.int(0);
    let low = (!always.low).then(|| cx.b.compare(Comparison::Le, zero, v));
    let high = (!always.high).then(|| cx.b.compare(Comparison::Lt, v, n));
    cx.b.and(low, high)
}

/// What is known of an affine function before any index is: interval arithmetic on linear forms of the run-time sizes.
fn bounds(relation: &Relation) -> Bounds {
    let Function::Affine { scale, offset, divisor, .. } = &relation.map else {
        return Bounds { low: true, high: true };
    };
    let (mut least, mut most) = (Linear::default(), Linear::default());
    for form in [&mut least, &mut most] {
        form.add(Size::fixed(1), offset.constant);
        if let Some(size) = offset.size {
            form.add(size, 1);
        }
    }
    for (scale, size) in scale.iter().zip(&relation.from) {
        let form = if *scale < 0 { &mut least } else { &mut most };
        form.add(*size, *scale);
        form.add(Size::fixed(1), -scale);
    }
    // floor(v / d) < n exactly where v < d·n
    most.add(relation.to, -divisor);
    let mut negated = Linear::default();
    negated.add_all(&most, -1);
    negated.add(Size::fixed(1), -1);
    Bounds { low: least.is_never_negative(), high: negated.is_never_negative() }
}

/// `constant + Σ coefficient · size variable`, exact.
#[derive(Clone, Debug, Default)]
struct Linear {
    constant: Rational,
    terms: Vec<(SizeVar, Rational)>,
}

#[derive(Clone, Copy, Debug)]
struct Rational {
    numerator: i128,
    denominator: i128,
}

impl Default for Rational {
    fn default() -> Self {
        Rational { numerator: 0, denominator: 1 }
    }
}

impl Rational {
    fn plus(self, other: Rational) -> Rational {
        Rational {
            numerator: self.numerator * other.denominator + other.numerator * self.denominator,
            denominator: self.denominator * other.denominator,
        }
    }
}

impl Linear {
    fn add(&mut self, size: Size, times: i64) {
        let (scale, var, offset, divisor) = size.parts();
        let part = |n: i64| Rational { numerator: i128::from(n * times), denominator: i128::from(divisor) };
        self.constant = self.constant.plus(part(offset));
        if scale != 0 {
            self.add_term(var, part(scale));
        }
    }

    fn add_all(&mut self, other: &Linear, sign: i128) {
        let signed = |r: Rational| Rational { numerator: sign * r.numerator, ..r };
        self.constant = self.constant.plus(signed(other.constant));
        for (var, coefficient) in &other.terms {
            self.add_term(*var, signed(*coefficient));
        }
    }

    fn add_term(&mut self, var: SizeVar, coefficient: Rational) {
        match self.terms.iter_mut().find(|(v, _)| *v == var) {
            Some((_, known)) => *known = known.plus(coefficient),
            None => self.terms.push((var, coefficient)),
        }
    }

    /// Whether it is at least 0 for all sizes of at least 0.
    fn is_never_negative(&self) -> bool {
        self.constant.numerator >= 0 && self.terms.iter().all(|(_, c)| c.numerator >= 0)
    }
}

/// Whether `from[which]` follows from `to` and the other axes.
pub(super) fn solvable(relation: &Relation, which: usize) -> bool {
    match &relation.map {
        Function::Table(_) | Function::Paired(_) | Function::Constant(_) => false,
        Function::Affine { scale, divisor, outside, .. } => match outside {
            Outside::Zero | Outside::Never => *divisor == 1 && scale[which] != 0,
            Outside::Wrap => *divisor == 1 && scale[which].abs() == 1 && relation.from[which] == relation.to,
            Outside::Reflect => false,
        },
    }
}

/// `from[which]`, given `to` and the other axes (`from[which]` is ignored).
pub(super) fn solve(cx: &mut Cx, id: Id<Relation>, which: usize, from: &[Id<Expr>], to: Id<Expr>) -> Guarded {
    let relation = cx.graph().relations[id].clone();
    let Function::Affine { scale, offset, outside, .. } = &relation.map else {
        panic!("lower: a table is not solved");
    };
    let offset = affine_offset(cx, offset);
    let mut v = cx.b.sub(to, offset);
    for (k, index) in from.iter().enumerate().filter(|(k, _)| *k != which) {
        let scale = cx.b.int(scale[k]);
        let term = cx.b.mul(scale, *index);
        v = cx.b.sub(v, term);
    }
    let zero = cx.b.int(0);
    let v = if scale[which] < 0 { cx.b.sub(zero, v) } else { v };
    let step = cx.b.int(scale[which].abs());
    let size = cx.b.size(relation.from[which]);
    if *outside == Outside::Wrap {
        return (cx.b.binary(Binary::Mod, v, size), None);
    }
    let rest = cx.b.binary(Binary::Mod, v, step);
    let exact = (scale[which].abs() > 1).then(|| cx.b.compare(Comparison::Eq, rest, zero));
    let value = cx.b.binary(Binary::Div, v, step);
    let always = solved_bounds(&relation, which);
    let within = inside(cx, value, size, &always);
    (value, cx.b.and(exact, within))
}

/// What is known of the solution before any index is.
fn solved_bounds(relation: &Relation, which: usize) -> Bounds {
    let Function::Affine { scale, offset, .. } = &relation.map else {
        return Bounds { low: false, high: false };
    };
    // from = (to - offset - Σ others) / scale, as an affine function of the others and `to`
    if scale[which].abs() != 1 || offset.size.is_some() {
        return Bounds { low: false, high: false };
    }
    let others = (0..scale.len()).filter(|k| *k != which);
    let (scales, mut from): (Vec<i64>, Vec<Size>) =
        others.map(|k| (-scale[k] * scale[which], relation.from[k])).unzip();
    from.push(relation.to);
    let map = Function::Affine {
        scale: scales.into_iter().chain([scale[which]]).collect(),
        offset: Affine { constant: -offset.constant * scale[which], size: None },
        divisor: 1,
        outside: Outside::Zero,
    };
    bounds(&Relation { from, to: relation.from[which], map })
}

/// Whether the preimage of an index is an interval of `divisor` indices of the one axis.
pub(super) fn has_fibres(relation: &Relation) -> bool {
    match &relation.map {
        Function::Table(_) | Function::Paired(_) | Function::Constant(_) => false,
        Function::Affine { scale, divisor, outside, .. } => {
            scale[..] == [1] && *divisor > 1 && matches!(outside, Outside::Zero | Outside::Never)
        }
    }
}

/// Entry number `k` of the preimage of `to`: `to · divisor + k - offset`.
pub(super) fn fibre(cx: &mut Cx, id: Id<Relation>, to: Id<Expr>, k: Id<Expr>) -> Guarded {
    let relation = cx.graph().relations[id].clone();
    let Function::Affine { offset, divisor, .. } = &relation.map else {
        panic!("lower: a table has rows, not fibres");
    };
    let divisor = cx.b.int(*divisor);
    let offset = affine_offset(cx, offset);
    let begin = cx.b.mul(to, divisor);
    let place = cx.b.add(begin, k);
    let value = cx.b.sub(place, offset);
    let size = cx.b.size(relation.from[0]);
    let guard = inside(cx, value, size, &Bounds { low: false, high: false });
    (value, guard)
}

/// Whether the axes are the digits of the result in a mixed base: `to = ((from_0 · d_1 + from_1) · d_2 + ...) + offset`.
pub(super) fn is_digits(relation: &Relation) -> bool {
    let Function::Affine { scale, divisor, outside, .. } = &relation.map else { return false };
    let mut unit = 1;
    for (scale, size) in scale.iter().zip(&relation.from).rev() {
        if *scale != unit {
            return false;
        }
        // only the first axis may be of run-time size: nothing is left of it
        unit = size.as_fixed().map_or(0, |n| unit * n as i64);
    }
    *divisor == 1 && matches!(outside, Outside::Zero | Outside::Never)
}

/// The digits of `to`, and whether it is in range.
pub(super) fn digits(cx: &mut Cx, id: Id<Relation>, to: Id<Expr>) -> (Vec<Id<Expr>>, Option<Id<Expr>>) {
    let relation = cx.graph().relations[id].clone();
    let Function::Affine { offset, .. } = &relation.map else { panic!("lower: a table has no digits") };
    let offset = affine_offset(cx, offset);
    let v = cx.b.sub(to, offset);
    let digits = cx.b.unflatten(v, &relation.from);
    let first = cx.b.size(relation.from[0]);
    let guard = inside(cx, digits[0], first, &Bounds { low: false, high: false });
    (digits, guard)
}
