//! Kernels spread over a GPU: the same program, its kernels of prepare and call as loops over blocks and threads.
//! In: a verified program. Out: one whose kernels each are one launch, with its shape. It means what it meant: the interpreter and the
//! CPU's backends run it too, and that is how it is tested. Kernels of bind stay with the host, which checks the tables anyway.
//!
//! One thread owns an element of the result, or the same few elements of a tile: no atomics, the same sums in the same order. Only long sums
//! of which there are few are cut over threads, and then added in another order, the same in every run.
//! Reading order: `nest` (elements and rows), `change` (statements with other locals), `lanes` (channels of a row, a thread each), `chunks` (rows whose
//! channels share a sum), `cut` and
//! `cut_kernel` (long sums), `outer` and `outer_kernel` (long sums of products of rows with columns), `tile`, `contraction`; `plain`.

mod change;
mod chunks;
mod contraction;
mod cut;
mod cut_kernel;
mod lanes;
mod nest;
mod outer;
mod outer_kernel;
mod plain;
mod tile;

use std::collections::BTreeSet;

use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::base::size::Size;
use crate::kernel::build::Builder;
use crate::kernel::ir::{Binary, Buffer, Expr, Kernel, LoopKind, Program, Stage, Stmt, Var};
use crate::kernel::narrow::Narrow;
use crate::kernel::pass::compact::drop_exprs;
use crate::kernel::verify::operands;
use crate::kernel::walk::{map_expr, map_stmt};

/// Multiprocessors of a GPU worth filling: an A100 has 108, an H100 132.
const MULTIPROCESSORS: usize = 128;
/// Blocks of a loop whose extent the host does not know.
const SOME_BLOCKS: usize = 1024;

/// A program spread over blocks and threads.
#[derive(Clone, Debug)]
pub struct Spread {
    pub program: Program,
    /// The shape of each kernel's launch.
    pub launches: Vec<Launch>,
}

/// How a kernel is launched: `ceil(Π elements / tile) · times` blocks. The kernel is right for any number of blocks (a block goes on
/// to the next one that nobody has), so this is a matter of speed alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// Threads of a block.
    pub threads: usize,
    pub elements: Vec<Size>,
    pub tile: usize,
    pub times: usize,
    /// Registers a thread may have, where it is decided here how many blocks stand beside each other.
    pub registers: Option<usize>,
    /// What a thread owns, in words.
    pub owns: &'static str,
}

impl Launch {
    /// The number of blocks at given sizes.
    pub fn blocks(&self, size: impl Fn(Size) -> usize) -> usize {
        self.elements.iter().map(|s| size(*s)).product::<usize>().div_ceil(self.tile) * self.times
    }
}

/// Spreads the kernels of prepare and call; those of bind are left out. With `products`, tensor cores multiply in dense kernels: the factors
/// are rounded to that type, the sums are f32.
///
/// # Errors
/// A kernel that has no such form, by name; products of tensor cores in a program that is not of f32.
pub fn spread(program: &Program, products: Option<Narrow>) -> Result<Spread, String> {
    if let Some(narrow) = products
        && program.dtype != Dtype::F32
    {
        return Err(format!("products in {narrow} in a program of {}: tensor cores sum in f32", program.dtype));
    }
    let mut res = Spread { program: Program { kernels: vec![], ..program.clone() }, launches: vec![] };
    for kernel in program.kernels.iter().filter(|k| k.stage != Stage::Bind) {
        let separate = !kernel.body.iter().any(|s| matches!(s, Stmt::Let { .. } | Stmt::Alloc { .. }));
        let pieces: Vec<&[Stmt]> = if separate { kernel.body.chunks(1).collect() } else { vec![&kernel.body] };
        for piece in pieces {
            let mut cx = Cx::new(&mut res.program, kernel, products);
            let piece = cx.imported(piece);
            let (body, launch) = cx.launch(piece).map_err(|why| format!("kernel {}: {why}", kernel.name))?;
            let kernel = cx.kernel(kernel, body);
            res.program.kernels.push(kernel);
            res.launches.push(launch);
        }
    }
    Ok(res)
}

/// One launch in the making.
struct Cx<'p> {
    program: &'p mut Program,
    b: Builder,
    /// The expressions of the kernel, as they are here.
    moved: Vec<Id<Expr>>,
    /// The type of the factors that tensor cores multiply.
    products: Option<Narrow>,
}

impl<'p> Cx<'p> {
    fn new(program: &'p mut Program, kernel: &Kernel, products: Option<Narrow>) -> Cx<'p> {
        let mut b = Builder::counting(kernel.n_vars);
        let mut moved: Vec<Id<Expr>> = vec![];
        for (_, expr) in kernel.exprs.iter() {
            let expr = map_expr(expr, &mut |x| moved[x.index()], &mut |buffer| buffer);
            moved.push(b.expr(expr));
        }
        Cx { program, b, moved, products }
    }

    fn imported(&self, piece: &[Stmt]) -> Vec<Stmt> {
        let stmt = |s: &Stmt| map_stmt(s.clone(), &mut |x| self.moved[x.index()], &mut |buffer| buffer);
        piece.iter().map(stmt).collect()
    }

    fn kernel(self, kernel: &Kernel, body: Vec<Stmt>) -> Kernel {
        let mut res = self.b.finish(kernel.name.clone(), kernel.stage, body);
        drop_exprs(&mut res);
        res
    }

    fn launch(&mut self, piece: Vec<Stmt>) -> Result<(Vec<Stmt>, Launch), String> {
        if let [Stmt::Contract(c)] = &piece[..]
            && c.part.is_none()
        {
            return Ok(self.contraction(c));
        }
        let piece = self.without_contractions(piece);
        let (axes, body) = self.nest(piece);
        Ok(self.over_elements(axes, body))
    }

    /// `for blocks b in 0..n_blocks { body }`
    fn blocks(&mut self, var: Var, n_blocks: Id<Expr>, body: Vec<Stmt>) -> Vec<Stmt> {
        let begin = self.b.int(0);
        vec![Stmt::For { var, begin, end: n_blocks, kind: LoopKind::Blocks, body }]
    }

    /// `for kind i in 0..n { body(i) }`
    fn each(&mut self, n: usize, kind: LoopKind, body: impl FnOnce(&mut Self, Id<Expr>) -> Vec<Stmt>) -> Stmt {
        let (var, begin, end) = (self.b.var(), self.b.int(0), self.b.int(n as i64));
        let index = self.b.read(var);
        let body = body(self, index);
        Stmt::For { var, begin, end, kind, body }
    }

    /// `let v = value`, and `v`.
    fn bind(&mut self, to: &mut Vec<Stmt>, value: Id<Expr>) -> Id<Expr> {
        let var = self.b.var();
        to.push(Stmt::Let { var, value });
        self.b.read(var)
    }

    /// `x op k`
    fn by(&mut self, f: Binary, x: Id<Expr>, k: usize) -> Id<Expr> {
        let k = self.b.int(k as i64);
        self.b.binary(f, x, k)
    }

    /// `ceil(x / k)`
    fn over(&mut self, x: Id<Expr>, k: usize) -> Id<Expr> {
        let up = self.by(Binary::Add, x, k - 1);
        self.by(Binary::Div, up, k)
    }

    /// The sizes whose product an extent is, where it is such a product.
    fn factors(&self, extent: Id<Expr>) -> Option<Vec<Size>> {
        match self.b.get(extent) {
            Expr::Int(n) => Some(vec![Size::fixed(usize::try_from(*n).ok()?)]),
            Expr::Size(size) => Some(vec![*size]),
            // at most so many
            Expr::Load(access) => Some(vec![self.program.sizes.most(self.program.counted(access)?)]),
            Expr::Binary { f: Binary::Mul, x, y } => {
                let (mut x, y) = (self.factors(*x)?, self.factors(*y)?);
                x.extend(y);
                Some(x)
            }
            _ => None,
        }
    }

    /// The number of elements that is expected.
    fn expected(&self, elements: &[Size]) -> usize {
        elements.iter().map(|s| self.program.sizes.hint(*s)).fold(1, usize::saturating_mul)
    }

    /// Whether an expression reads one of these variables.
    fn reads_any(&self, id: Id<Expr>, vars: &BTreeSet<Var>) -> bool {
        let (mut seen, mut open) = (BTreeSet::new(), vec![id]);
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                match self.b.get(id) {
                    Expr::Var(var) if vars.contains(var) => return true,
                    other => open.extend(operands(other)),
                }
            }
        }
        false
    }

    /// A new local array.
    fn local(&mut self, name: &str, dtype: Dtype, shape: &[usize]) -> Id<Buffer> {
        let shape = shape.iter().map(|n| Size::fixed(*n)).collect();
        let memory = crate::kernel::ir::Memory::Local;
        self.program.buffers.push(Buffer { name: name.into(), dtype, shape, memory })
    }
}

/// What one thread runs: nothing in it is spread any further.
fn serial(body: Vec<Stmt>) -> Vec<Stmt> {
    let one = |stmt| match stmt {
        Stmt::For { var, begin, end, kind, body } => {
            let kind = match kind {
                LoopKind::Unrolled => LoopKind::Unrolled,
                LoopKind::Serial | LoopKind::Parallel | LoopKind::Vector | LoopKind::Blocks | LoopKind::Threads => {
                    LoopKind::Serial
                }
            };
            Stmt::For { var, begin, end, kind, body: serial(body) }
        }
        Stmt::If { cond, then } => Stmt::If { cond, then: serial(then) },
        Stmt::Store { .. }
        | Stmt::Accumulate { .. }
        | Stmt::Let { .. }
        | Stmt::Alloc { .. }
        | Stmt::Contract(_)
        | Stmt::Softmax(_)
        | Stmt::Multiply(_) => stmt,
    };
    body.into_iter().map(one).collect()
}
