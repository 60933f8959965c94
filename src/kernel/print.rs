//! A program as text, in the form of the example at the head of `ir`. For people, snapshots and panics.

use std::fmt::{self, Write};

use crate::base::arena::Id;
use crate::kernel::ir::{
    Access, Binary, Buffer, Combine, Comparison, Contraction, Expr, Kernel, LoopKind, Memory, Program, Stage, Stmt,
    Unary, Var,
};

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "program {} ({})", self.name, self.dtype)?;
        for (_, buffer) in self.buffers.iter() {
            writeln!(f, "  {}", declaration(self, buffer))?;
        }
        self.kernels.iter().try_for_each(|kernel| f.write_str(&print_kernel(self, kernel)))
    }
}

/// One kernel as text.
pub fn print_kernel(program: &Program, kernel: &Kernel) -> String {
    let stage = match kernel.stage {
        Stage::Bind => "bind",
        Stage::Prepare => "prepare",
        Stage::Call => "call",
    };
    let mut printer = Printer { program, kernel, text: String::new(), depth: 1 };
    printer.body(&kernel.body);
    format!("\nkernel {} ({stage}) {{\n{}}}\n", kernel.name, printer.text)
}

fn declaration(program: &Program, buffer: &Buffer) -> String {
    let memory = match &buffer.memory {
        Memory::Input(k) => format!("input {k}"),
        Memory::Weight(k) => format!("weight {k}"),
        Memory::Output(k) => format!("output {k}"),
        Memory::Constant(_) => "constant".into(),
        Memory::Bound => "bound".into(),
        Memory::Prepared => "prepared".into(),
        Memory::Workspace => "workspace".into(),
        Memory::Local => "local".into(),
    };
    let shape: Vec<String> = buffer.shape.iter().map(|s| program.sizes.show(*s)).collect();
    format!("{memory} {}: {}[{}]", buffer.name, buffer.dtype, shape.join(", "))
}

struct Printer<'a> {
    program: &'a Program,
    kernel: &'a Kernel,
    text: String,
    depth: usize,
}

impl Printer<'_> {
    fn line(&mut self, text: &str) {
        let _ = writeln!(self.text, "{:1$}{text}", "", 2 * self.depth);
    }

    fn body(&mut self, body: &[Stmt]) {
        body.iter().for_each(|stmt| self.stmt(stmt));
    }

    fn block(&mut self, head: &str, body: &[Stmt]) {
        self.line(&format!("{head} {{"));
        self.depth += 1;
        self.body(body);
        self.depth -= 1;
        self.line("}");
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::For { var, begin, end, kind, body } => {
                let kind = match kind {
                    LoopKind::Serial => "",
                    LoopKind::Parallel => "parallel ",
                    LoopKind::Vector => "vector ",
                    LoopKind::Unrolled => "unrolled ",
                    LoopKind::Blocks => "blocks ",
                    LoopKind::Threads => "threads ",
                };
                let head = format!("for {kind}{} in {}..{}", name(*var), self.expr(*begin), self.expr(*end));
                self.block(&head, body);
            }
            Stmt::Store { to, value } => self.line(&format!("{} = {}", self.access(to), self.expr(*value))),
            Stmt::Accumulate { to, f, value } => {
                let f = match f {
                    Combine::Add => "+=",
                    Combine::Max => "max=",
                    Combine::Min => "min=",
                };
                self.line(&format!("{} {f} {}", self.access(to), self.expr(*value)));
            }
            Stmt::Let { var, value } => self.line(&format!("let {} = {}", name(*var), self.expr(*value))),
            Stmt::Alloc { buffer } => {
                let text = declaration(self.program, &self.program.buffers[*buffer]);
                self.line(&format!("alloc {text}"));
            }
            Stmt::If { cond, then } => self.block(&format!("if {}", self.expr(*cond)), then),
            Stmt::Contract(c) => self.contract(c),
            Stmt::Softmax(s) => {
                let [scores, tops, totals, keeps] = s.buffers().map(|buffer| self.buffer(buffer));
                let (rows, count) = (self.expr(s.rows), self.expr(s.count));
                self.line(&format!("softmax {rows} rows of {scores}, {count} of each: {tops}, {totals}, {keeps}"));
            }
            Stmt::Multiply(m) => {
                let [sums, a, b] = [m.sums, m.a, m.b].map(|buffer| self.buffer(buffer));
                let (t, place) = (self.expr(m.thread), self.expr(m.place));
                self.line(&format!("{sums}[{t}] += {} product {a}[{place}] * {b}[{place}]", m.factors));
            }
        }
    }

    fn contract(&mut self, c: &Contraction) {
        let guard = c.guard.map_or(String::new(), |g| format!(" if {}", self.expr(g)));
        let part = c.part.map_or(String::new(), |part| format!("part {} of ", self.expr(part)));
        let beside = if c.beside > 1 { format!(", {} beside each other", c.beside) } else { String::new() };
        let head = format!(
            "contract {} in 0..{}{beside}, {} in 0..{}: {} = sum {} in 0..{}, {} in 0..{}: {}[step {}]{guard} * {part}{}[{} a panel]",
            name(c.m),
            self.expr(c.m_extent),
            name(c.n),
            c.n_extent,
            name(c.acc),
            name(c.tap),
            c.taps,
            name(c.k),
            c.k_extent,
            self.access(&c.a),
            c.a_stride,
            self.buffer(c.packed),
            c.panel,
        );
        let row: Vec<Stmt> = c.row.iter().map(|(var, value)| Stmt::Let { var: *var, value: *value }).collect();
        let body: Vec<Stmt> = row.into_iter().chain(c.epilogue.iter().cloned()).collect();
        self.block(&head, &body);
    }

    fn buffer(&self, id: Id<Buffer>) -> &str {
        &self.program.buffers[id].name
    }

    fn access(&self, access: &Access) -> String {
        let index: Vec<String> = access.index.iter().map(|i| self.expr(*i)).collect();
        format!("{}[{}]", self.buffer(access.buffer), index.join(", "))
    }

    fn expr(&self, id: Id<Expr>) -> String {
        match &self.kernel.exprs[id] {
            Expr::Float(x) => format!("{x:?}"),
            Expr::Int(i) => i.to_string(),
            Expr::Size(size) => format!("({})", self.program.sizes.show(*size)),
            Expr::Var(var) => name(*var),
            Expr::Load(access) => self.access(access),
            Expr::Unary { f, x } => format!("{}({})", unary(*f), self.expr(*x)),
            Expr::Binary { f, x, y } => {
                let (x, y) = (self.expr(*x), self.expr(*y));
                match f {
                    Binary::Add => format!("({x} + {y})"),
                    Binary::Sub => format!("({x} - {y})"),
                    Binary::Mul => format!("{x} * {y}"),
                    Binary::Div => format!("{x} / {y}"),
                    Binary::Mod => format!("{x} mod {y}"),
                    Binary::Max => format!("max({x}, {y})"),
                    Binary::Min => format!("min({x}, {y})"),
                }
            }
            Expr::Fma { a, b, c } => format!("fma({}, {}, {})", self.expr(*a), self.expr(*b), self.expr(*c)),
            Expr::Select { cond, x, y } => {
                format!("(if {} then {} else {})", self.expr(*cond), self.expr(*x), self.expr(*y))
            }
            Expr::Compare { f, x, y } => {
                let f = match f {
                    Comparison::Lt => "<",
                    Comparison::Le => "<=",
                    Comparison::Eq => "==",
                };
                format!("{} {f} {}", self.expr(*x), self.expr(*y))
            }
            Expr::And { x, y } => format!("{} and {}", self.expr(*x), self.expr(*y)),
            Expr::ToFloat { x } => format!("float({})", self.expr(*x)),
        }
    }
}

fn name(var: Var) -> String {
    format!("v{}", var.0)
}

fn unary(f: Unary) -> &'static str {
    match f {
        Unary::Neg => "-",
        Unary::Abs => "abs",
        Unary::Sqrt => "sqrt",
        Unary::Exp => "exp",
        Unary::Log => "log",
        Unary::Tanh => "tanh",
        Unary::Sigmoid => "sigmoid",
        Unary::Erf => "erf",
        Unary::Sin => "sin",
        Unary::Cos => "cos",
        Unary::Round => "round",
        Unary::Floor => "floor",
        Unary::Exp2Int => "exp2int",
        Unary::Exponent => "exponent",
        Unary::Mantissa => "mantissa",
        Unary::Rounded(to) => to.name(),
    }
}
