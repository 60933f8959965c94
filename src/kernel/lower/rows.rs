//! The transpose of a table as sparse rows: which entries are mapped to each index. Sorted tables need only where each row begins,
//! others also an order of their entries (a counting sort, so sums run in one order always).

use std::sync::Arc;

use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::base::size::Size;
use crate::kernel::ir::{Access, Buffer, Combine, Expr, LoopKind, Memory, Stage, Stmt};
use crate::kernel::lower::Lowering;
use crate::kernel::lower::cx::Cx;
use crate::kernel::lower::element::Slots;
use crate::kernel::lower::plan::Edge;
use crate::tensor::graph::{Function, InputKind, PairedWay, Relation};

/// The rows of a relation's transpose.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    /// Row `i` is `begin[i]..begin[i + 1]`.
    pub(super) begin: Id<Buffer>,
    /// Entry `e` is the flat index `entry[e]`, or `e` itself.
    pub(super) entry: Option<Id<Buffer>>,
}

impl Cx<'_, '_> {
    /// `for e in row[to] { body }`, with the axes of `from` set.
    pub(super) fn each_of_row(&mut self, edge: &Edge, slots: &mut Slots, body: &mut dyn FnMut(&mut Self, &mut Slots)) {
        let (begin, end) = self.row_range(edge, slots);
        let var = self.b.var();
        let entry = self.b.read(var);
        self.open();
        self.entry_of_row(edge, entry, slots);
        body(self, slots);
        let body = self.close();
        self.emit(Stmt::For { var, begin, end, kind: LoopKind::Serial, body });
    }

    /// Where the entries of the row `to` begin and end.
    pub(super) fn row_range(&mut self, edge: &Edge, slots: &Slots) -> (Id<Expr>, Id<Expr>) {
        let rows = self.low.rows(edge.relation);
        let to = slots[edge.to as usize].expect("lower: the row is known");
        let one = self.b.int(1);
        let next = self.b.add(to, one);
        let begin = self.b.load(rows.begin, vec![to]);
        let end = self.b.load(rows.begin, vec![next]);
        (self.bind(begin), self.bind(end))
    }

    /// Sets the axes of `from` to those of an entry.
    pub(super) fn entry_of_row(&mut self, edge: &Edge, entry: Id<Expr>, slots: &mut Slots) {
        let rows = self.low.rows(edge.relation);
        let dims = self.graph().relations[edge.relation].from.clone();
        let flat = match rows.entry {
            Some(buffer) => {
                let flat = self.b.load(buffer, vec![entry]);
                self.bind(flat)
            }
            None => entry,
        };
        let index = self.b.unflatten(flat, &dims);
        for (slot, i) in edge.from.iter().zip(index) {
            slots[*slot as usize] = Some(self.bind(i));
        }
    }
}

impl Lowering<'_> {
    /// The rows of a table, made once a program.
    pub(super) fn rows(&mut self, id: Id<Relation>) -> Rows {
        if let Some(rows) = self.rows.get(&id) {
            return rows.clone();
        }
        let relation = self.graph.relations[id].clone();
        let rows = match &relation.map {
            Function::Constant(table) => self.constant_rows(&relation, table),
            Function::Table(input) => {
                let argument = &self.graph.inputs[*input];
                let (sorted, stage) = match argument.kind {
                    InputKind::Table { sorted, .. } => (sorted, Stage::Bind),
                    InputKind::Index { .. } => (false, Stage::Call),
                    InputKind::Real => panic!("lower: a table of real numbers"),
                };
                let table = self.program.inputs[input.index()].buffer;
                self.counted_rows(&relation, &argument.name, table, sorted, stage)
            }
            Function::Paired(paired) => {
                let (table, sorted) = (self.paired(paired), paired.way == PairedWay::First);
                let name = self.program.buffers[table].name.clone();
                self.counted_rows(&relation, &name, table, sorted, Stage::Bind)
            }
            Function::Affine { .. } => panic!("lower: an affine function has no rows"),
        };
        self.rows.insert(id, rows.clone());
        rows
    }

    fn constant_rows(&mut self, relation: &Relation, table: &[Option<u32>]) -> Rows {
        let n = relation.to.as_fixed().expect("a constant table has fixed sizes");
        let mut begin = vec![0.0];
        let mut entry = Vec::new();
        for i in 0..n {
            entry.extend((0..table.len()).filter(|e| table[*e] == Some(i as u32)).map(|e| e as f64));
            begin.push(entry.len() as f64);
        }
        let fixed = |n: usize| vec![Size::fixed(n)];
        let begin = self.buffer("row_begin", Dtype::I32, fixed(n + 1), Memory::Constant(begin.into()));
        let len = entry.len();
        let entry: Arc<[f64]> = entry.into();
        let entry = self.buffer("row_entry", Dtype::I32, fixed(len), Memory::Constant(entry));
        Rows { begin, entry: Some(entry) }
    }

    /// Counting sort: counts two places on, sums, places each entry while its row's end moves to the right place.
    fn counted_rows(&mut self, relation: &Relation, name: &str, table: Id<Buffer>, sorted: bool, stage: Stage) -> Rows {
        let memory = if stage == Stage::Bind { Memory::Bound } else { Memory::Workspace };
        let shape = vec![relation.to.plus(2)];
        let begin = self.buffer(&format!("{name}.row_begin"), Dtype::I32, shape, memory.clone());
        let flat = [Size::fixed(1)];
        let entries = relation.from.iter().fold(flat[0], |n, s| product(n, *s));
        let entry = (!sorted).then(|| self.buffer(&format!("{name}.row_entry"), Dtype::I32, vec![entries], memory));
        let mut cx = Cx::new(self);
        let extent = cx.b.size(relation.to.plus(2));
        cx.each(extent, LoopKind::Serial, |cx, i| {
            let zero = cx.b.int(0);
            cx.store(begin, vec![i], zero);
        });
        // who looks ahead may read the places of entries that there are not
        if let Some(entry) = entry.filter(|_| relation.from.iter().any(|n| cx.low.program.sizes.most(*n) != *n)) {
            let places = cx.b.size(cx.low.program.sizes.most(entries));
            cx.each(places, LoopKind::Serial, |cx, e| {
                let zero = cx.b.int(0);
                cx.store(entry, vec![e], zero);
            });
        }
        cx.each_entry(relation, table, &mut |cx, _, i| {
            let (two, one) = (cx.b.int(2), cx.b.int(1));
            let place = cx.b.add(i, two);
            cx.emit(Stmt::Accumulate { to: Access { buffer: begin, index: vec![place] }, f: Combine::Add, value: one });
        });
        let extent = cx.b.size(relation.to.plus(1));
        cx.each(extent, LoopKind::Serial, |cx, i| {
            let one = cx.b.int(1);
            let next = cx.b.add(i, one);
            let value = cx.b.load(begin, vec![i]);
            cx.emit(Stmt::Accumulate { to: Access { buffer: begin, index: vec![next] }, f: Combine::Add, value });
        });
        cx.each_entry(relation, table, &mut |cx, e, i| {
            let one = cx.b.int(1);
            let next = cx.b.add(i, one);
            let end = Access { buffer: begin, index: vec![next] };
            if let Some(entry) = entry {
                let place = cx.b.expr(Expr::Load(end.clone()));
                cx.store(entry, vec![place], e);
            }
            cx.emit(Stmt::Accumulate { to: end, f: Combine::Add, value: one });
        });
        cx.finish(format!("rows {name}"), stage);
        Rows { begin, entry }
    }
}

impl Cx<'_, '_> {
    /// `body(e, table[e])` for all entries, row-major.
    fn each_entry(
        &mut self,
        relation: &Relation,
        table: Id<Buffer>,
        body: &mut dyn FnMut(&mut Self, Id<Expr>, Id<Expr>),
    ) {
        self.each_index(&relation.from, &mut vec![], &mut |cx, index| {
            let flat = cx.b.flatten(index, &relation.from);
            let value = cx.b.load(table, index.to_vec());
            let value = cx.bind(value);
            body(cx, flat, value);
        });
    }

    fn each_index(&mut self, dims: &[Size], index: &mut Vec<Id<Expr>>, body: &mut dyn FnMut(&mut Self, &[Id<Expr>])) {
        let Some((dim, rest)) = dims.split_first() else { return body(self, index) };
        let extent = self.b.size(*dim);
        self.each(extent, LoopKind::Serial, |cx, i| {
            index.push(i);
            cx.each_index(rest, index, body);
            index.pop();
        });
    }
}

/// The product of sizes of which at most one is known at run time only.
fn product(a: Size, b: Size) -> Size {
    match (a.as_fixed(), b.as_fixed()) {
        (Some(a), _) => b.times(a),
        (None, Some(b)) => a.times(b),
        (None, None) => panic!("lower: a table over two run-time axes"),
    }
}
