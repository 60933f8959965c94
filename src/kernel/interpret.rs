//! The definition of the kernel IR: a program, run-time sizes and buffers in, buffers out.
//! Every access is bounds-checked, a read of an element that nobody wrote is a fault, and two iterations of a
//! parallel or vector loop may be run in either order. In f32 every operation is rounded to f32.
//! Knows nothing of backends; slow on purpose.

use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::kernel::build::index_binary;
use crate::kernel::interpret_scalar::{compare, float_binary, float_unary};
use crate::kernel::ir::{
    Access, Buffer, Combine, Contraction, Expr, Kernel, LoopKind, Memory, Multiply, Program, Softmax, Stage, Stmt, Var,
};

/// What went wrong in a kernel: always a bug of the compiler, or memory that the caller did not fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kernel: String,
    pub why: String,
}

/// In which order the iterations of parallel and vector loops run. A correct program cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Forward,
    Backward,
}

/// The elements of one buffer; `None` where nothing was written. Indices are stored as numbers.
type Cells = Vec<Option<f64>>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Float(f64),
    Int(i64),
    Bool(bool),
}

/// A program with its memory.
#[derive(Debug)]
pub struct Machine<'p> {
    program: &'p Program,
    sizes: Vec<usize>,
    order: Order,
    dims: Vec<Vec<usize>>,
    memory: Vec<Cells>,
    races: Races,
}

/// A reader that every thread is another than.
const ANY_THREAD: i64 = -1;

/// Who touched what since the threads of a block last met: two threads must not meet in an element that one of them writes.
#[derive(Debug, Default)]
struct Races {
    /// Counts the loops over threads; what was touched in another is settled.
    epoch: u64,
    /// The thread that runs, inside such a loop.
    thread: Option<i64>,
    touched: Vec<Vec<Touched>>,
}

/// The last thread that wrote an element, and two that read it where there are two, each with its epoch.
#[derive(Clone, Copy, Debug, Default)]
struct Touched {
    written: (u64, i64),
    read: [(u64, i64); 2],
}

impl Races {
    fn begin(&mut self) {
        self.epoch += 1;
    }

    /// Takes note of a read; whether another thread has written there.
    fn reads(&mut self, buffer: Id<Buffer>, place: usize) -> bool {
        let Some(thread) = self.thread else { return false };
        let (touched, now) = (&mut self.touched[buffer.index()][place], (self.epoch, thread));
        if touched.read[0] != now {
            touched.read = [now, touched.read[0]];
        }
        touched.written.0 == self.epoch && touched.written != now
    }

    /// Takes note of a read by some thread of a warp; whether any thread has written there.
    fn reads_with_others(&mut self, buffer: Id<Buffer>, place: usize) -> bool {
        let touched = &mut self.touched[buffer.index()][place];
        touched.read = [(self.epoch, ANY_THREAD); 2];
        touched.written.0 == self.epoch
    }

    /// Takes note of a write; whether another thread has been there.
    fn writes(&mut self, buffer: Id<Buffer>, place: usize) -> bool {
        let Some(thread) = self.thread else { return false };
        let (touched, now) = (&mut self.touched[buffer.index()][place], (self.epoch, thread));
        let other = |x: (u64, i64)| x.0 == self.epoch && x != now;
        let met = other(touched.written) || touched.read.iter().any(|x| other(*x));
        touched.written = now;
        met
    }
}

type Outcome<T> = Result<T, String>;

impl<'p> Machine<'p> {
    /// Memory for all buffers at these run-time sizes; constants are filled, the rest is not.
    pub fn new(program: &'p Program, sizes: &[usize], order: Order) -> Machine<'p> {
        assert_eq!(sizes.len(), program.sizes.len(), "a value for each run-time size");
        let dims: Vec<Vec<usize>> = program
            .buffers
            .iter()
            .map(|(_, b)| b.shape.iter().map(|s| s.eval(|v| sizes[v.0 as usize])).collect())
            .collect();
        let mut res = Machine { program, sizes: sizes.to_vec(), order, memory: vec![], dims, races: Races::default() };
        for (id, buffer) in program.buffers.iter() {
            let len: usize = res.dims[id.index()].iter().product();
            res.races.touched.push(vec![Touched::default(); len]);
            res.memory.push(match &buffer.memory {
                Memory::Constant(data) => {
                    assert_eq!(data.len(), len, "constant {} has all its numbers", buffer.name);
                    data.iter().map(|x| Some(round(buffer.dtype, *x))).collect()
                }
                _ => vec![None; len],
            });
        }
        res
    }

    /// Fills input number `k`, row-major; indices as numbers.
    pub fn set_input(&mut self, k: usize, data: &[f64]) {
        self.set(self.program.inputs[k].buffer, data);
    }

    /// Fills weight number `k`, row-major.
    pub fn set_weight(&mut self, k: usize, data: &[f64]) {
        self.set(self.program.weights[k].buffer, data);
    }

    fn set(&mut self, id: Id<Buffer>, data: &[f64]) {
        let buffer = &self.program.buffers[id];
        assert_eq!(self.memory[id.index()].len(), data.len(), "elements of {}", buffer.name);
        self.memory[id.index()] = data.iter().map(|x| Some(round(buffer.dtype, *x))).collect();
    }

    /// Output number `k`, row-major; a fault where an element was not written.
    pub fn output(&self, k: usize) -> Result<Vec<f64>, Fault> {
        self.contents(self.program.outputs[k].buffer)
    }

    /// The elements of a buffer, row-major; a fault where one was not written.
    pub fn contents(&self, id: Id<Buffer>) -> Result<Vec<f64>, Fault> {
        let all: Option<Vec<f64>> = self.memory[id.index()].iter().copied().collect();
        let name = &self.program.buffers[id].name;
        all.ok_or_else(|| Fault { kernel: "the caller".into(), why: format!("an element of {name} was not written") })
    }

    /// Makes the contents of a buffer undefined, as when its memory is given to another.
    pub fn forget(&mut self, id: Id<Buffer>) {
        self.memory[id.index()].fill(None);
    }

    /// Runs the kernels of a stage in order.
    pub fn run(&mut self, stage: Stage) -> Result<(), Fault> {
        let program = self.program;
        program.kernels.iter().filter(|k| k.stage == stage).try_for_each(|kernel| self.run_kernel(kernel))
    }

    /// Runs one kernel.
    pub fn run_kernel(&mut self, kernel: &Kernel) -> Result<(), Fault> {
        let vars = vec![None; kernel.n_vars as usize];
        let values = vec![(0, Value::Int(0)); kernel.exprs.len()];
        let mut frame = Frame { machine: self, kernel, vars, values, now: 0 };
        frame.body(&kernel.body).map_err(|why| Fault { kernel: kernel.name.clone(), why })
    }
}

struct Frame<'m, 'p> {
    machine: &'m mut Machine<'p>,
    kernel: &'m Kernel,
    vars: Vec<Option<Value>>,
    /// When each expression was last evaluated, and to what.
    values: Vec<(u64, Value)>,
    /// Counts evaluations: values of another time are stale.
    now: u64,
}

impl Frame<'_, '_> {
    fn body(&mut self, body: &[Stmt]) -> Outcome<()> {
        body.iter().try_for_each(|stmt| self.stmt(stmt))
    }

    fn stmt(&mut self, stmt: &Stmt) -> Outcome<()> {
        match stmt {
            Stmt::For { var, begin, end, kind, body } => {
                let (begin, end) = (self.index(*begin)?, self.index(*end)?);
                let free = !matches!(kind, LoopKind::Serial | LoopKind::Unrolled);
                let backward = self.machine.order == Order::Backward && free;
                let turn = |i: i64| if backward { begin + end - 1 - i } else { i };
                let spread = matches!(kind, LoopKind::Threads);
                if spread {
                    self.machine.races.begin();
                }
                let done = (begin..end).try_for_each(|i| {
                    self.vars[var.0 as usize] = Some(Value::Int(turn(i)));
                    if spread {
                        self.machine.races.thread = Some(i);
                    }
                    self.body(body)
                });
                if spread {
                    self.machine.races.thread = None;
                }
                done
            }
            Stmt::Store { to, value } => {
                let value = self.fresh(*value)?;
                self.write(to, value)
            }
            Stmt::Accumulate { to, f, value } => {
                let value = self.fresh(*value)?;
                let old = self.read(to)?;
                let new = self.combine(*f, old, value)?;
                self.write(to, new)
            }
            Stmt::Let { var, value } => {
                let value = self.fresh(*value)?;
                self.vars[var.0 as usize] = Some(value);
                Ok(())
            }
            Stmt::Alloc { buffer } => {
                self.machine.memory[buffer.index()].fill(None);
                if self.machine.races.thread.is_some() {
                    // Each thread's own.
                    self.machine.races.touched[buffer.index()].fill(Touched::default());
                }
                Ok(())
            }
            Stmt::If { cond, then } => match self.fresh(*cond)? {
                Value::Bool(true) => self.body(then),
                Value::Bool(false) => Ok(()),
                other => Err(format!("{other:?} as a condition")),
            },
            Stmt::Contract(contraction) => self.contract(contraction),
            Stmt::Multiply(m) => self.multiply(m),
            Stmt::Softmax(s) => self.softmax(s),
        }
    }

    fn softmax(&mut self, s: &Softmax) -> Outcome<()> {
        let (rows, count) = (self.index(s.rows)?, self.index(s.count)?);
        let columns = self.machine.dims[s.scores.index()][1] as i64;
        let weight = |x: f64, top: f64| if x == top { 1.0 } else { (x - top).exp() };
        for m in 0..rows {
            let (old, total) = (self.at(s.tops, m)?, self.at(s.totals, m)?);
            let mut scores = vec![f64::NEG_INFINITY; columns as usize];
            for t in 0..count.min(columns) {
                scores[t as usize] = self.at(s.scores, m * columns + t)?;
            }
            let top = scores.iter().fold(old, |x, y| if x.is_nan() || y.is_nan() { f64::NAN } else { x.max(*y) });
            let keep = self.round(weight(old, top));
            let mut sum = 0.0;
            for (t, score) in scores.into_iter().enumerate() {
                let weight = self.round(weight(score, top));
                sum = self.round(sum + weight);
                self.put(s.scores, m * columns + t as i64, weight)?;
            }
            self.put(s.keeps, m, keep)?;
            self.put(s.tops, m, top)?;
            let total = self.round(f64::mul_add(total, keep, sum));
            self.put(s.totals, m, total)?;
        }
        Ok(())
    }

    fn multiply(&mut self, m: &Multiply) -> Outcome<()> {
        let (t, place) = (self.index(m.thread)? as usize, self.index(m.place)?);
        let dims = |id: Id<Buffer>| self.machine.dims[id.index()].clone();
        let (sums, a) = (dims(m.sums), dims(m.a));
        if place < 0 || place as usize >= a[0] || t >= sums[0] {
            return Err(format!("a product of thread {t} at place {place}"));
        }
        for (i, j) in (0..sums[1]).flat_map(|i| (0..sums[2]).map(move |j| (i, j))) {
            let (row, column) = m.element((sums[1], sums[2]), t, (i, j));
            let at = (t * sums[1] + i) * sums[2] + j;
            let mut acc = self.at(m.sums, at as i64)?;
            for k in 0..a[1] {
                let place = place as usize * a[1] + k;
                let (x, y) = (self.factor(m, m.a, place, row)?, self.factor(m, m.b, place, column)?);
                acc = self.round(f64::mul_add(x, y, acc));
            }
            if self.machine.races.writes(m.sums, at) {
                return Err(format!("the sums of thread {t} are another's too"));
            }
            self.machine.memory[m.sums.index()][at] = Some(acc);
        }
        Ok(())
    }

    /// A number that a warp multiplies.
    fn factor(&mut self, m: &Multiply, buffer: Id<Buffer>, line: usize, at: usize) -> Outcome<f64> {
        let place = line * self.machine.dims[buffer.index()][2] + at;
        let x = self.at(buffer, place as i64)?;
        let name = &self.machine.program.buffers[buffer].name;
        if self.machine.races.reads_with_others(buffer, place) {
            return Err(format!("element {place} of {name} is written in the loop whose warps multiply it"));
        }
        if x.is_finite() && m.factors.nearest(x) != x {
            return Err(format!("{x:e}, a factor in {name}, is not a number of {}", m.factors));
        }
        Ok(x)
    }

    fn contract(&mut self, c: &Contraction) -> Outcome<()> {
        let m_extent = self.index(c.m_extent)?;
        if m_extent % c.beside as i64 != 0 {
            return Err(format!("{m_extent} rows of a contraction are no runs of {}", c.beside));
        }
        let packed = match c.part {
            Some(part) => self.index(part)? as usize * c.packed_len(),
            None => 0,
        };
        let backward = self.machine.order == Order::Backward;
        let mut run = None;
        for m in 0..m_extent {
            let m = if backward { m_extent - 1 - m } else { m };
            self.vars[c.m.0 as usize] = Some(Value::Int(m));
            for (var, value) in &c.row {
                self.vars[var.0 as usize] = Some(self.fresh(*value)?);
            }
            let rows = self.rows(c)?;
            let first = rows.iter().map(|row| row.map(|place| place - m % c.beside as i64)).collect();
            let of_run = (m / c.beside as i64, first);
            if run.as_ref().is_some_and(|last: &(i64, Vec<Option<i64>>)| last.0 == of_run.0 && last.1 != of_run.1) {
                return Err(format!("row {m} of a contraction does not lie beside the others of its run"));
            }
            run = Some(of_run);
            for n in 0..c.n_extent {
                self.vars[c.n.0 as usize] = Some(Value::Int(n as i64));
                let mut acc = 0.0;
                for (tap, base) in rows.iter().enumerate() {
                    let Some(base) = base else { continue };
                    for k in 0..c.k_extent {
                        let a = self.at(c.a.buffer, base + k as i64 * c.a_stride)?;
                        let place = ((n / c.panel * c.taps + tap) * c.k_extent + k) * c.panel + n % c.panel;
                        let b = self.at(c.packed, (packed + place) as i64)?;
                        acc = self.round(f64::mul_add(a, b, acc));
                    }
                }
                self.vars[c.acc.0 as usize] = Some(Value::Float(acc));
                self.body(&c.epilogue)?;
            }
        }
        Ok(())
    }

    /// Where the row of each tap begins in `a`; `None` for a row of zeros.
    fn rows(&mut self, c: &Contraction) -> Outcome<Vec<Option<i64>>> {
        let mut res = Vec::new();
        for tap in 0..c.taps {
            self.vars[c.tap.0 as usize] = Some(Value::Int(tap as i64));
            self.vars[c.k.0 as usize] = Some(Value::Int(0));
            let inside = match c.guard {
                Some(guard) => self.fresh(guard)? == Value::Bool(true),
                None => true,
            };
            self.now += 1;
            res.push(if inside { Some(self.place(&c.a)? as i64) } else { None });
        }
        Ok(res)
    }

    /// Puts a number where a softmax has read or may write.
    fn put(&mut self, buffer: Id<Buffer>, place: i64, x: f64) -> Outcome<()> {
        let cell = usize::try_from(place).ok().and_then(|p| self.machine.memory[buffer.index()].get_mut(p));
        *cell.ok_or_else(|| format!("element {place} of a softmax is outside"))? = Some(x);
        Ok(())
    }

    fn at(&mut self, buffer: Id<Buffer>, place: i64) -> Outcome<f64> {
        let program = self.machine.program;
        let name = || &program.buffers[buffer].name;
        let cell = usize::try_from(place).ok().and_then(|p| self.machine.memory[buffer.index()].get(p));
        let cell = cell.ok_or_else(|| format!("element {place} is outside of {}", name()))?;
        let cell = cell.ok_or_else(|| format!("element {place} of {} is read before it is written", name()))?;
        if self.machine.races.reads(buffer, place as usize) {
            return Err(format!("element {place} of {} is read by one thread and written by another", name()));
        }
        Ok(cell)
    }

    fn place(&mut self, access: &Access) -> Outcome<usize> {
        let mut res = 0;
        for (axis, index) in access.index.iter().enumerate() {
            let Value::Int(i) = self.value(*index)? else { return Err("an index that is not an integer".into()) };
            let dim = self.machine.dims[access.buffer.index()][axis];
            if i < 0 || i as usize >= dim {
                let name = &self.machine.program.buffers[access.buffer].name;
                return Err(format!("index {i} on axis {axis} of {name}, whose size is {dim}"));
            }
            res = res * dim + i as usize;
        }
        Ok(res)
    }

    fn read(&mut self, access: &Access) -> Outcome<Value> {
        let place = self.place(access)?;
        let x = self.at(access.buffer, place as i64)?;
        let dtype = self.machine.program.buffers[access.buffer].dtype;
        Ok(if dtype.is_float() { Value::Float(x) } else { Value::Int(x as i64) })
    }

    fn write(&mut self, to: &Access, value: Value) -> Outcome<()> {
        let place = self.place(to)?;
        let buffer = &self.machine.program.buffers[to.buffer];
        let x = match (value, buffer.dtype.is_float()) {
            (Value::Float(x), true) => x,
            (Value::Int(i), false) if i32::try_from(i).is_ok() => i as f64,
            (value, _) => return Err(format!("{value:?} stored in {}", buffer.name)),
        };
        if self.machine.races.writes(to.buffer, place) {
            return Err(format!("element {place} of {} is written by one thread and used by another", buffer.name));
        }
        self.machine.memory[to.buffer.index()][place] = Some(x);
        Ok(())
    }

    fn combine(&self, f: Combine, old: Value, new: Value) -> Outcome<Value> {
        use crate::kernel::ir::Binary;
        let f = match f {
            Combine::Add => Binary::Add,
            Combine::Max => Binary::Max,
            Combine::Min => Binary::Min,
        };
        match (old, new) {
            (Value::Float(a), Value::Float(b)) => Ok(Value::Float(self.round(float_binary(f, a, b)))),
            (Value::Int(a), Value::Int(b)) => index_binary(f, a, b).map(Value::Int).ok_or("index overflow".into()),
            (a, b) => Err(format!("{a:?} accumulated with {b:?}")),
        }
    }

    fn round(&self, x: f64) -> f64 {
        round(self.machine.program.dtype, x)
    }

    /// The value of an expression at the beginning of a statement.
    fn fresh(&mut self, id: Id<Expr>) -> Outcome<Value> {
        self.now += 1;
        self.value(id)
    }

    fn index(&mut self, id: Id<Expr>) -> Outcome<i64> {
        match self.fresh(id)? {
            Value::Int(i) => Ok(i),
            other => Err(format!("{other:?} as a bound of a loop")),
        }
    }

    fn value(&mut self, id: Id<Expr>) -> Outcome<Value> {
        let (time, value) = self.values[id.index()];
        if time == self.now {
            return Ok(value);
        }
        let value = self.eval(id)?;
        self.values[id.index()] = (self.now, value);
        Ok(value)
    }

    fn eval(&mut self, id: Id<Expr>) -> Outcome<Value> {
        let kernel = self.kernel;
        Ok(match &kernel.exprs[id] {
            Expr::Float(x) => Value::Float(self.round(*x)),
            Expr::Int(i) => Value::Int(*i),
            Expr::Size(size) => Value::Int(size.eval(|v| self.machine.sizes[v.0 as usize]) as i64),
            Expr::Var(Var(v)) => self.vars[*v as usize].ok_or(format!("variable {v} is read before it is bound"))?,
            Expr::Load(access) => self.read(access)?,
            Expr::Unary { f, x } => match self.value(*x)? {
                Value::Float(x) => Value::Float(self.round(float_unary(self.machine.program.dtype, *f, x))),
                other => return Err(format!("{f:?} of {other:?}")),
            },
            Expr::Binary { f, x, y } => match (self.value(*x)?, self.value(*y)?) {
                (Value::Float(x), Value::Float(y)) => Value::Float(self.round(float_binary(*f, x, y))),
                (Value::Int(x), Value::Int(y)) => {
                    Value::Int(index_binary(*f, x, y).ok_or_else(|| format!("{f:?} of the indices {x} and {y}"))?)
                }
                (x, y) => return Err(format!("{f:?} of {x:?} and {y:?}")),
            },
            Expr::Fma { a, b, c } => match (self.value(*a)?, self.value(*b)?, self.value(*c)?) {
                (Value::Float(a), Value::Float(b), Value::Float(c)) => Value::Float(self.fma(a, b, c)),
                _ => return Err("a product and sum of what are not floats".into()),
            },
            Expr::Select { cond, x, y } => match self.value(*cond)? {
                Value::Bool(true) => self.value(*x)?,
                Value::Bool(false) => self.value(*y)?,
                other => return Err(format!("{other:?} as a condition")),
            },
            Expr::Compare { f, x, y } => match (self.value(*x)?, self.value(*y)?) {
                (Value::Float(x), Value::Float(y)) => Value::Bool(compare(*f, x, y)),
                (Value::Int(x), Value::Int(y)) => Value::Bool(compare(*f, x, y)),
                (x, y) => return Err(format!("{x:?} compared with {y:?}")),
            },
            Expr::And { x, y } => match (self.value(*x)?, self.value(*y)?) {
                (Value::Bool(x), Value::Bool(y)) => Value::Bool(x && y),
                (x, y) => return Err(format!("{x:?} and {y:?}")),
            },
            Expr::ToFloat { x } => match self.value(*x)? {
                Value::Int(i) => Value::Float(self.round(i as f64)),
                other => return Err(format!("{other:?} as a float")),
            },
        })
    }

    fn fma(&self, a: f64, b: f64, c: f64) -> f64 {
        match self.machine.program.dtype {
            Dtype::F32 => f64::from(f32::mul_add(a as f32, b as f32, c as f32)),
            Dtype::F64 | Dtype::I32 | Dtype::I64 => f64::mul_add(a, b, c),
        }
    }
}

fn round(dtype: Dtype, x: f64) -> f64 {
    match dtype {
        Dtype::F32 => f64::from(x as f32),
        Dtype::F64 | Dtype::I32 | Dtype::I64 => x,
    }
}
