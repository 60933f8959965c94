//! Whether a program is well formed: types, ranks, variables bound before use, and memory used by the stages
//! as `ir` says. Runs after every pass; a failure is a bug of the compiler.

use std::collections::BTreeSet;

use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::kernel::ir::{
    Access, Argument, ArgumentKind, Binary, Buffer, Contraction, Expr, Kernel, LoopKind, MOST_PLACES, Memory, Multiply,
    PANEL_BYTES, Program, SCORES, Softmax, Stage, Stmt, Unary, Var, WARP,
};
use crate::kernel::walk::each_stmt;

/// The type of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Float,
    Index,
    Condition,
}

/// Checks a program; the error names the kernel and the reason.
pub fn verify(program: &Program) -> Result<(), String> {
    arguments(program)?;
    for (_, buffer) in program.buffers.iter() {
        let len = buffer.shape.iter().try_fold(1usize, |n, s| s.as_fixed().map(|d| n * d));
        match &buffer.memory {
            Memory::Constant(data) if len != Some(data.len()) => {
                return Err(format!("constant {} does not have the numbers its shape says", buffer.name));
            }
            Memory::Local | Memory::Prepared if len.is_none() => {
                return Err(format!("{} has a run-time size", buffer.name));
            }
            _ if buffer.dtype.is_float() && buffer.dtype != program.dtype => {
                return Err(format!("{} is not of the program's float type", buffer.name));
            }
            _ => (),
        }
    }
    for kernel in &program.kernels {
        verify_kernel(program, kernel).map_err(|why| format!("kernel {}: {why}", kernel.name))?;
    }
    Ok(())
}

fn arguments(program: &Program) -> Result<(), String> {
    let check = |list: &[Argument], memory: fn(usize) -> Memory| {
        for (k, argument) in list.iter().enumerate() {
            let buffer = &program.buffers[argument.buffer];
            if buffer.memory != memory(k) {
                return Err(format!("argument {} has a buffer that is not its own", argument.name));
            }
            if (argument.kind == ArgumentKind::Real) != buffer.dtype.is_float() {
                return Err(format!("argument {} has a buffer of another type", argument.name));
            }
        }
        Ok(())
    };
    check(&program.inputs, Memory::Input)?;
    check(&program.weights, Memory::Weight)?;
    check(&program.outputs, Memory::Output)
}

fn verify_kernel(program: &Program, kernel: &Kernel) -> Result<(), String> {
    let kinds = vec![None; kernel.n_vars as usize];
    let mut scope = Scope { program, kernel, kinds, locals: BTreeSet::new(), seen: vec![None; kernel.exprs.len()] };
    for (id, expr) in kernel.exprs.iter() {
        if operands(expr).iter().any(|x| *x >= id) {
            return Err(format!("expression {id:?} stands before its operands"));
        }
    }
    two_levels(kernel)?;
    scope.body(&kernel.body)
}

/// Where there are blocks: one loop over them, all effects inside loops over threads, of one constant extent.
fn two_levels(kernel: &Kernel) -> Result<(), String> {
    let mut spread = false;
    let (mut products, mut by_whole_warps) = (0, 0);
    each_stmt(&kernel.body, &mut |stmt| {
        spread |= matches!(stmt, Stmt::For { kind: LoopKind::Blocks | LoopKind::Threads, .. });
        products += usize::from(matches!(stmt, Stmt::Multiply(_)));
        if let Stmt::For { var, kind: LoopKind::Threads, body, .. } = stmt {
            let whole = |s: &&Stmt| matches!(s, Stmt::Multiply(m) if kernel.exprs[m.thread] == Expr::Var(*var));
            by_whole_warps += body.iter().filter(whole).count();
        }
    });
    if products != by_whole_warps {
        return Err("a product of warps that is not directly in the loop over its threads".into());
    }
    match &kernel.body[..] {
        [Stmt::For { kind: LoopKind::Blocks, body, .. }] => of_block(kernel, body, &mut None),
        _ if spread => Err("a loop over blocks or threads that is not the kernel's outermost".into()),
        _ => Ok(()),
    }
}

/// What all threads of a block do together.
fn of_block(kernel: &Kernel, body: &[Stmt], threads: &mut Option<i64>) -> Result<(), String> {
    for stmt in body {
        match stmt {
            Stmt::For { begin, end, kind: LoopKind::Threads, body, .. } => {
                let (Expr::Int(0), Expr::Int(n)) = (&kernel.exprs[*begin], &kernel.exprs[*end]) else {
                    return Err("threads that are not counted by a number".into());
                };
                if *threads.get_or_insert(*n) != *n {
                    return Err(format!("{n} threads in a block of {threads:?}"));
                }
                let mut spread = false;
                each_stmt(body, &mut |stmt| {
                    spread |= matches!(stmt, Stmt::For { kind: LoopKind::Blocks | LoopKind::Threads, .. });
                });
                if spread {
                    return Err("threads inside threads".into());
                }
            }
            Stmt::For { kind: LoopKind::Serial, body, .. } => of_block(kernel, body, threads)?,
            Stmt::Let { .. } | Stmt::Alloc { .. } => (),
            Stmt::For { .. }
            | Stmt::Store { .. }
            | Stmt::Accumulate { .. }
            | Stmt::If { .. }
            | Stmt::Contract(_)
            | Stmt::Softmax(_)
            | Stmt::Multiply(_) => return Err("an effect outside the threads of a block".into()),
        }
    }
    Ok(())
}

/// The operands of an expression.
pub fn operands(expr: &Expr) -> Vec<Id<Expr>> {
    match expr {
        Expr::Float(_) | Expr::Int(_) | Expr::Size(_) | Expr::Var(_) => vec![],
        Expr::Load(access) => access.index.clone(),
        Expr::Unary { x, .. } | Expr::ToFloat { x } => vec![*x],
        Expr::Binary { x, y, .. } | Expr::Compare { x, y, .. } | Expr::And { x, y } => vec![*x, *y],
        Expr::Fma { a, b, c } => vec![*a, *b, *c],
        Expr::Select { cond, x, y } => vec![*cond, *x, *y],
    }
}

struct Scope<'p> {
    program: &'p Program,
    kernel: &'p Kernel,
    /// The kind of each variable that is bound here.
    kinds: Vec<Option<Kind>>,
    locals: BTreeSet<Id<Buffer>>,
    /// The kinds of expressions already checked in the present scope.
    seen: Vec<Option<Kind>>,
}

impl Scope<'_> {
    /// Checks a body; what it binds and allocates ends with it.
    fn body(&mut self, body: &[Stmt]) -> Result<(), String> {
        let (kinds, locals) = (self.kinds.clone(), self.locals.clone());
        for stmt in body {
            self.stmt(stmt)?;
        }
        (self.kinds, self.locals) = (kinds, locals);
        self.seen.fill(None);
        Ok(())
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<(), String> {
        match stmt {
            Stmt::For { var, begin, end, kind, body } => {
                self.expect(*begin, Kind::Index)?;
                self.expect(*end, Kind::Index)?;
                let fixed = |id: Id<Expr>| matches!(self.kernel.exprs[id], Expr::Int(_));
                if *kind == LoopKind::Unrolled && !(fixed(*begin) && fixed(*end)) {
                    return Err("an unrolled loop without a constant extent".into());
                }
                self.bind(*var, Kind::Index)?;
                self.body(body)?;
                self.kinds[var.0 as usize] = None;
                Ok(())
            }
            Stmt::Store { to, value } | Stmt::Accumulate { to, value, .. } => {
                self.write(to)?;
                let accumulates = matches!(stmt, Stmt::Accumulate { .. });
                if accumulates {
                    self.read(to)?;
                }
                let kind = self.kind_of(to.buffer);
                self.expect(*value, kind)
            }
            Stmt::Let { var, value } => {
                let kind = self.expr(*value)?;
                self.bind(*var, kind)
            }
            Stmt::Alloc { buffer } => {
                if self.program.buffers[*buffer].memory != Memory::Local {
                    return Err(format!("{} is allocated and not local", self.program.buffers[*buffer].name));
                }
                self.locals.insert(*buffer);
                Ok(())
            }
            Stmt::If { cond, then } => {
                self.expect(*cond, Kind::Condition)?;
                self.body(then)
            }
            Stmt::Contract(c) => self.contract(c),
            Stmt::Multiply(m) => self.multiply(m),
            Stmt::Softmax(s) => self.softmax(s),
        }
    }

    fn softmax(&mut self, s: &Softmax) -> Result<(), String> {
        self.expect(s.rows, Kind::Index)?;
        self.expect(s.count, Kind::Index)?;
        let dims = s.buffers().map(|id| {
            let buffer = &self.program.buffers[id];
            let fits = buffer.dtype == self.program.dtype && self.locals.contains(&id);
            buffer.shape.iter().map(|d| d.as_fixed().filter(|_| fits)).collect::<Option<Vec<usize>>>()
        });
        let [Some(scores), Some(tops), Some(totals), Some(keeps)] = dims else {
            return Err("a softmax of what are not locals".into());
        };
        match scores[..] {
            [rows, columns] if columns % SCORES == 0 && [tops, totals, keeps].iter().all(|d| d[..] == [rows]) => Ok(()),
            _ => Err("a softmax of what are not rows of scores".into()),
        }
    }

    fn multiply(&mut self, m: &Multiply) -> Result<(), String> {
        self.expect(m.thread, Kind::Index)?;
        self.expect(m.place, Kind::Index)?;
        let dims = |id: Id<Buffer>| {
            let buffer = &self.program.buffers[id];
            let fits = buffer.dtype == Dtype::F32 && self.locals.contains(&id);
            let dims: Option<Vec<usize>> = buffer.shape.iter().map(|d| d.as_fixed()).collect();
            dims.filter(|_| fits).and_then(|dims| <[usize; 3]>::try_from(dims).ok())
        };
        let (Some([threads, i, j]), Some([places, depth, rows]), Some([same_places, same_depth, columns])) =
            (dims(m.sums), dims(m.a), dims(m.b))
        else {
            return Err("a product of warps of what are not f32 locals of three axes".into());
        };
        let warps = threads / WARP;
        let shared_out = threads % WARP == 0 && i % 2 == 0 && j % 2 == 0 && m.across > 0 && warps % m.across == 0;
        if !shared_out || depth % 16 != 0 || (places, depth) != (same_places, same_depth) {
            return Err("a product of warps that is not made of whole parts".into());
        }
        if warps / m.across * i * 8 > rows || m.across * j * 4 > columns {
            return Err("a product of warps that is larger than its matrices".into());
        }
        Ok(())
    }

    fn contract(&mut self, c: &Contraction) -> Result<(), String> {
        self.expect(c.m_extent, Kind::Index)?;
        let (kinds, locals) = (self.kinds.clone(), self.locals.clone());
        self.bind(c.m, Kind::Index)?;
        for (var, value) in &c.row {
            let kind = self.expr(*value)?;
            self.bind(*var, kind)?;
        }
        if let Some(part) = c.part {
            self.expect(part, Kind::Index)?;
        }
        let outside = self.kinds.clone();
        self.bind(c.tap, Kind::Index)?;
        self.bind(c.k, Kind::Index)?;
        if let Some(guard) = c.guard {
            self.expect(guard, Kind::Condition)?;
        }
        self.read(&c.a)?;
        let packed = &self.program.buffers[c.packed];
        let matrix = &packed.shape[usize::from(c.part.is_some()).min(packed.shape.len())..];
        let fixed: Option<Vec<usize>> = matrix.iter().map(|s| s.as_fixed()).collect();
        if c.panel * self.program.dtype.bytes() != PANEL_BYTES {
            return Err(format!("a panel of {} columns", c.panel));
        }
        if fixed != Some(vec![c.n_extent.div_ceil(c.panel), c.taps, c.k_extent, c.panel]) {
            return Err(format!("{} does not have the shape of a packed matrix", packed.name));
        }
        if c.beside == 0 || c.beside > 1 && (c.k_extent != 1 || c.taps > MOST_PLACES) {
            return Err(format!(
                "rows that lie beside each other have one number a tap, and {MOST_PLACES} taps at most"
            ));
        }
        self.readable(c.packed)?;
        self.kinds = outside;
        self.seen.fill(None);
        self.bind(c.n, Kind::Index)?;
        self.bind(c.acc, Kind::Float)?;
        self.body(&c.epilogue)?;
        (self.kinds, self.locals) = (kinds, locals);
        self.seen.fill(None);
        Ok(())
    }

    fn bind(&mut self, var: Var, kind: Kind) -> Result<(), String> {
        match self.kinds.get(var.0 as usize) {
            None => Err(format!("variable {} is not counted", var.0)),
            Some(Some(_)) => Err(format!("variable {} is bound twice", var.0)),
            Some(None) => {
                self.kinds[var.0 as usize] = Some(kind);
                Ok(())
            }
        }
    }

    fn kind_of(&self, buffer: Id<Buffer>) -> Kind {
        if self.program.buffers[buffer].dtype.is_float() { Kind::Float } else { Kind::Index }
    }

    fn access(&mut self, access: &Access) -> Result<(), String> {
        let buffer = &self.program.buffers[access.buffer];
        if buffer.shape.len() != access.index.len() {
            return Err(format!("{} has {} axes and {} indices", buffer.name, buffer.shape.len(), access.index.len()));
        }
        if buffer.memory == Memory::Local && !self.locals.contains(&access.buffer) {
            return Err(format!("local {} is used where it does not exist", buffer.name));
        }
        access.index.iter().try_for_each(|i| self.expect(*i, Kind::Index))
    }

    fn read(&mut self, access: &Access) -> Result<(), String> {
        self.access(access)?;
        self.readable(access.buffer)
    }

    fn readable(&self, id: Id<Buffer>) -> Result<(), String> {
        let buffer = &self.program.buffers[id];
        let allowed = match (&buffer.memory, self.kernel.stage) {
            (_, Stage::Call) | (Memory::Constant(_) | Memory::Local, _) => true,
            (Memory::Input(k), Stage::Bind) => {
                matches!(self.program.inputs[*k].kind, ArgumentKind::Table { .. })
            }
            (Memory::Bound, Stage::Bind) => true,
            (Memory::Weight(_) | Memory::Prepared, Stage::Prepare) => true,
            (_, Stage::Bind | Stage::Prepare) => false,
        };
        if allowed { Ok(()) } else { Err(format!("{} is read in {:?}", buffer.name, self.kernel.stage)) }
    }

    fn write(&mut self, access: &Access) -> Result<(), String> {
        self.access(access)?;
        let buffer = &self.program.buffers[access.buffer];
        let allowed = match buffer.memory {
            Memory::Input(_) | Memory::Weight(_) | Memory::Constant(_) => false,
            Memory::Output(_) | Memory::Workspace => self.kernel.stage == Stage::Call,
            Memory::Bound => self.kernel.stage == Stage::Bind,
            Memory::Prepared => self.kernel.stage == Stage::Prepare,
            Memory::Local => true,
        };
        if allowed { Ok(()) } else { Err(format!("{} is written in {:?}", buffer.name, self.kernel.stage)) }
    }

    fn expect(&mut self, id: Id<Expr>, kind: Kind) -> Result<(), String> {
        let found = self.expr(id)?;
        if found == kind { Ok(()) } else { Err(format!("expression {id:?} is {found:?}, not {kind:?}")) }
    }

    fn expr(&mut self, id: Id<Expr>) -> Result<Kind, String> {
        if let Some(kind) = self.seen[id.index()] {
            return Ok(kind);
        }
        let kind = self.infer(id)?;
        self.seen[id.index()] = Some(kind);
        Ok(kind)
    }

    fn infer(&mut self, id: Id<Expr>) -> Result<Kind, String> {
        let kernel = self.kernel;
        let same = |scope: &mut Self, x: Id<Expr>, y: Id<Expr>| {
            let kind = scope.expr(x)?;
            scope.expect(y, kind)?;
            Ok::<Kind, String>(kind)
        };
        match &kernel.exprs[id] {
            Expr::Float(_) => Ok(Kind::Float),
            Expr::Int(_) => Ok(Kind::Index),
            Expr::Size(size) => match (size.depends_on(), kernel.stage) {
                (Some(_), Stage::Prepare) => Err("a run-time size in a kernel of prepare".into()),
                (_, Stage::Bind | Stage::Prepare | Stage::Call) => Ok(Kind::Index),
            },
            Expr::Var(var) => {
                let kind = self.kinds.get(var.0 as usize).copied().flatten();
                kind.ok_or_else(|| format!("variable {} is not bound here", var.0))
            }
            Expr::Load(access) => {
                self.read(access)?;
                Ok(self.kind_of(access.buffer))
            }
            Expr::Unary { f, x } => match (f, self.expr(*x)?) {
                (Unary::Rounded(to), Kind::Float) if self.program.dtype != Dtype::F32 => {
                    Err(format!("a number rounded to {to} in a program of {}", self.program.dtype))
                }
                (_, Kind::Float) => Ok(Kind::Float),
                (Unary::Neg, Kind::Index) => Err("an index is negated by subtraction".into()),
                (f, kind) => Err(format!("{f:?} of {kind:?}")),
            },
            Expr::Binary { f, x, y } => match (f, same(self, *x, *y)?) {
                (Binary::Mod, Kind::Float) | (_, Kind::Condition) => Err(format!("{f:?} of what it is not for")),
                (_, kind) => Ok(kind),
            },
            Expr::Fma { a, b, c } => {
                [a, b, c].into_iter().try_for_each(|x| self.expect(*x, Kind::Float))?;
                Ok(Kind::Float)
            }
            Expr::Select { cond, x, y } => {
                self.expect(*cond, Kind::Condition)?;
                same(self, *x, *y)
            }
            Expr::Compare { x, y, .. } => match same(self, *x, *y)? {
                Kind::Condition => Err("conditions are compared".into()),
                Kind::Float | Kind::Index => Ok(Kind::Condition),
            },
            Expr::And { x, y } => {
                self.expect(*x, Kind::Condition)?;
                self.expect(*y, Kind::Condition)?;
                Ok(Kind::Condition)
            }
            Expr::ToFloat { x } => {
                self.expect(*x, Kind::Index)?;
                Ok(Kind::Float)
            }
        }
    }
}
