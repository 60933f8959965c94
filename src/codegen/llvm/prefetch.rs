//! Rows of memory that entries to come will read, asked for ahead: the processor does not guess where an index table leads, nor that many
//! arrays are read side by side.
//!
//! A loop over entries reads whole rows of arrays, at its index or where tables lead from it. Where the entry a few turns ahead will read
//! is asked for at the start of each turn. Rows of a sparse matrix follow each other in its tables, so that may be an entry of the next row.

use std::collections::{BTreeMap, BTreeSet};

use super::emit::Emitter;
use super::text::{BYTE, I64, Scalar, Type, Value};
use super::value::Affine;
use crate::base::arena::Id;
use crate::codegen::scan::Row;
use crate::kernel::ir::{Buffer, Stmt, Var};

/// Bytes that come at once.
const LINE: i64 = 64;
/// How long memory takes to answer, in nanoseconds.
const LATENCY: i64 = 200;
/// How much longer turns are said to take than they do: costs are those of four lanes at a time, and rather too great, as they decide
/// whether threads are worth waking.
const OVERSTATED: i64 = 4;
/// Turns ahead at most.
const MOST_AHEAD: i64 = 8;
/// Lines of a turn that are worth it, and that are not too many for the processor to wait for.
const LEAST_LINES: usize = 4;
const MOST_LINES: usize = 160;

impl<'p> Emitter<'_, 'p> {
    /// What the turns of a loop read, where it is worth being asked for.
    pub(super) fn rows_ahead(&self, var: Var, body: &'p [Stmt]) -> Vec<Row> {
        if self.on_device() || self.lanes > 1 {
            return vec![];
        }
        let rows = self.facts.rows(self.kernel, var, body, self.unit.program);
        let n_lines: usize = rows.iter().map(|row| self.lines(row).len()).sum();
        if (LEAST_LINES..=MOST_LINES).contains(&n_lines) { rows } else { vec![] }
    }

    /// Asks for what the turn `i` of a loop up to `end` will make its successors read.
    pub(super) fn ask_ahead(&mut self, rows: &[Row], body: &'p [Stmt], i: Affine) {
        if rows.is_empty() {
            return;
        }
        let stated = self.facts.cost(self.kernel, body, self.unit.program).max(1);
        let latency = LATENCY * OVERSTATED * (self.per_vector() as i64 / 4).max(1);
        let ahead = (latency / stated + 1).min(MOST_AHEAD);
        let i = self.uniform(i);
        let next = self.f.binary("add", i, Value::int(I64, ahead));
        let mut found: BTreeMap<&[Id<Buffer>], Value> = BTreeMap::new();
        for row in rows {
            let mut at = next;
            for k in 0..row.tables.len() {
                let path = &row.tables[..=k];
                at = match found.get(path) {
                    Some(known) => *known,
                    None if k == 0 => self.entry_ahead(path[k], next),
                    None => self.entry_of(path[k], at),
                };
                found.insert(path, at);
            }
            let bytes = self.f.binary("mul", at, Value::int(I64, (row.width * self.element(row)) as i64));
            let base = self.base(row.buffer);
            let begin = self.f.element(BYTE, base, bytes);
            for line in self.lines(row) {
                let at = self.f.element(BYTE, begin, Value::int(I64, line * LINE));
                self.f.line(format_args!("call void @llvm.prefetch.p0(ptr {at}, i32 0, i32 3, i32 1)"));
            }
        }
    }

    /// What a table says for an entry to come: an entry beyond the last has no number there.
    fn entry_ahead(&mut self, table: Id<Buffer>, entry: Value) -> Value {
        let length = self.unit.program.buffers[table].shape[0];
        let last = self.size(length.plus(-1));
        let last = self.uniform(last);
        let entry = self.f.intrinsic("smin", &[entry, last]);
        self.entry_of(table, entry)
    }

    /// What a table says for an entry.
    fn entry_of(&mut self, table: Id<Buffer>, entry: Value) -> Value {
        let base = self.base(table);
        let ty = Type::new(Scalar::I32, 1);
        let at = self.f.element(ty, base, entry);
        let v = self.f.value(ty, format_args!("load {ty}, {}, align 4", at.typed()));
        self.f.cast("sext", v, Scalar::I64)
    }

    fn element(&self, row: &Row) -> usize {
        self.unit.program.buffers[row.buffer].dtype.bytes()
    }

    /// The lines of a row that are read.
    fn lines(&self, row: &Row) -> BTreeSet<i64> {
        let bytes = self.element(row) as i64;
        let lines = row.columns.iter().flat_map(|(begin, end)| begin * bytes / LINE..=(end * bytes - 1) / LINE);
        lines.collect()
    }
}
