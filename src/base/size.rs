//! Sizes known when the program is compiled, and sizes known when it runs.
//!
//! Every size of the language is `(scale·n + offset) / divisor` of at most one run-time size `n`:
//! a literal, `n` itself, a coarsened `n/2`, a window's `(n + 2p - k)/s + 1`. The division is exact;
//! what makes it so is a [`Precondition`], checked at bind.

use std::fmt;

/// A run-time size, an index into the [`SizeTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SizeVar(pub u32);

/// `(scale·var + offset) / divisor`, in lowest terms; a literal has `scale = 0`, `divisor = 1`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Size {
    var: SizeVar,
    scale: i64,
    offset: i64,
    divisor: i64,
}

impl Size {
    /// A size known at compile time.
    pub fn fixed(n: usize) -> Self {
        Size { var: SizeVar(0), scale: 0, offset: n as i64, divisor: 1 }
    }

    /// The run-time size itself.
    pub fn var(var: SizeVar) -> Self {
        Size { var, scale: 1, offset: 0, divisor: 1 }
    }

    /// The number, where it is known at compile time.
    pub fn as_fixed(self) -> Option<usize> {
        (self.scale == 0).then_some(self.offset.max(0) as usize)
    }

    /// The run-time size it depends on.
    pub fn depends_on(self) -> Option<SizeVar> {
        (self.scale != 0).then_some(self.var)
    }

    /// `self + k`.
    pub fn plus(self, k: i64) -> Self {
        Size { offset: self.offset + k * self.divisor, ..self }.reduced()
    }

    /// `self · k`.
    pub fn times(self, k: usize) -> Self {
        Size { scale: self.scale * k as i64, offset: self.offset * k as i64, ..self }.reduced()
    }

    /// `self / k`, exact: the caller records `self mod k = 0` as a [`Precondition`] where it is not known.
    pub fn over(self, k: usize) -> Self {
        if self.scale == 0 {
            return Size { offset: self.offset / k as i64, ..self };
        }
        Size { divisor: self.divisor * k as i64, ..self }.reduced()
    }

    /// The size with `n` in the place of its run-time size.
    pub fn with(self, n: Size) -> Self {
        let (scale, offset) = (n.scale * self.scale, n.offset * self.scale + self.offset * n.divisor);
        Size { var: n.var, scale, offset, divisor: n.divisor * self.divisor }.reduced()
    }

    /// `self mod k`, where it is known at compile time.
    pub fn modulo(self, k: usize) -> Option<usize> {
        self.as_fixed().map(|n| n % k)
    }

    /// The value for given run-time sizes.
    pub fn eval(self, values: impl Fn(SizeVar) -> usize) -> usize {
        if self.scale == 0 {
            return self.offset.max(0) as usize;
        }
        let numerator = self.scale * values(self.var) as i64 + self.offset;
        (numerator.max(0) / self.divisor) as usize
    }

    /// `(scale, var, offset, divisor)` with the size equal to `(scale·var + offset) / divisor`.
    pub fn parts(self) -> (i64, SizeVar, i64, i64) {
        (self.scale, self.var, self.offset, self.divisor)
    }

    fn reduced(self) -> Self {
        let g = gcd(gcd(self.scale, self.offset), self.divisor).max(1);
        Size { var: self.var, scale: self.scale / g, offset: self.offset / g, divisor: self.divisor / g }
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show(|v| format!("${}", v.0)))
    }
}

impl Size {
    /// The size as text, with the run-time size called by `name`.
    pub fn show(self, name: impl Fn(SizeVar) -> String) -> String {
        if self.scale == 0 {
            return self.offset.to_string();
        }
        let var = name(self.var);
        let scaled = if self.scale == 1 { var } else { format!("{}*{var}", self.scale) };
        let sum = match self.offset {
            0 => scaled,
            k if k > 0 => format!("{scaled} + {k}"),
            k => format!("{scaled} - {}", -k),
        };
        match self.divisor {
            1 => sum,
            d if self.offset == 0 => format!("{sum}/{d}"),
            d => format!("({sum})/{d}"),
        }
    }
}

/// `size mod modulus = 0`, needed for a layer to be exact; checked at compile time or at bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precondition {
    pub size: Size,
    pub modulus: usize,
    /// The sentence shown when it fails, such as `coarsen 2 needs n divisible by 2`.
    pub reason: String,
}

/// The run-time sizes of a program: first those that are given, then those that tables tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SizeTable {
    vars: Vec<SizeInfo>,
    pub preconditions: Vec<Precondition>,
}

/// A run-time size.
#[derive(Clone, Debug, PartialEq)]
pub struct SizeInfo {
    pub name: String,
    /// The expected value (`n ~ 1000`), for the cost model only.
    pub hint: usize,
    /// The greatest it can be, where nobody gives it: it is counted from tables when an instance is made.
    pub most: Option<Size>,
}

impl SizeTable {
    /// The run-time size called `name`, made if new: one that is given, so none may be counted yet.
    pub fn intern(&mut self, name: &str, hint: usize) -> SizeVar {
        if let Some(i) = self.vars.iter().position(|v| v.name == name) {
            return SizeVar(i as u32);
        }
        assert!(self.vars.iter().all(|v| v.most.is_none()), "sizes that are given come before those that are counted");
        self.push(name, hint, None)
    }

    /// A new size that is counted from tables, at most `most`, under this name or a longer one that is free.
    pub fn counted(&mut self, name: &str, hint: usize, most: Size) -> SizeVar {
        let name = self.free(name);
        self.push(&name, hint, Some(most))
    }

    /// This name, or a longer one that no size has.
    pub fn free(&self, name: &str) -> String {
        let mut free = name.to_string();
        while self.vars.iter().any(|v| v.name == free) {
            free.push('_');
        }
        free
    }

    fn push(&mut self, name: &str, hint: usize, most: Option<Size>) -> SizeVar {
        self.vars.push(SizeInfo { name: name.to_string(), hint, most });
        SizeVar(self.vars.len() as u32 - 1)
    }

    /// The sizes that are given, in order.
    pub fn iter(&self) -> impl Iterator<Item = (SizeVar, &SizeInfo)> {
        self.all().filter(|(_, info)| info.most.is_none())
    }

    /// The sizes that are counted from tables, in order.
    pub fn iter_counted(&self) -> impl Iterator<Item = (SizeVar, Size)> {
        self.all().filter_map(|(var, info)| Some((var, info.most?)))
    }

    fn all(&self) -> impl Iterator<Item = (SizeVar, &SizeInfo)> {
        self.vars.iter().enumerate().map(|(i, v)| (SizeVar(i as u32), v))
    }

    /// The number of sizes that are given.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether no size is given: all are known at compile time.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The greatest that a size can be, in sizes that are given.
    pub fn most(&self, size: Size) -> Size {
        match size.depends_on().and_then(|v| self.vars[v.0 as usize].most) {
            Some(most) => size.with(most),
            None => size,
        }
    }

    /// The same sizes with other expected values for the first of them.
    pub fn expecting(&self, values: &[usize]) -> SizeTable {
        let mut res = self.clone();
        res.vars.iter_mut().zip(values).for_each(|(info, value)| info.hint = *value);
        res
    }

    /// The name of a run-time size.
    pub fn name(&self, var: SizeVar) -> &str {
        &self.vars[var.0 as usize].name
    }

    /// The expected value of a size.
    pub fn hint(&self, size: Size) -> usize {
        size.eval(|v| self.vars[v.0 as usize].hint)
    }

    /// A size as text.
    pub fn show(&self, size: Size) -> String {
        size.show(|v| self.name(v).to_string())
    }
}
