//! Rows of memory that entries to come will read, asked for ahead: the processor does not guess where an index table leads, nor that many
//! arrays are read side by side.
//!
//! A loop over entries reads whole rows of arrays, at its index or at what a table says for it. Where the entry a few turns ahead will read
//! is asked for at the start of each turn.

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
    pub(super) fn ask_ahead(&mut self, rows: &[Row], body: &'p [Stmt], i: Affine, end: Affine) {
        if rows.is_empty() {
            return;
        }
        let turn = self.facts.cost(self.kernel, body, self.unit.program).max(1);
        let ahead = (LATENCY / turn + 1).min(MOST_AHEAD);
        let (i, end) = (self.uniform(i), self.uniform(end));
        let (next, last) =
            (self.f.binary("add", i, Value::int(I64, ahead)), self.f.binary("sub", end, Value::int(I64, 1)));
        // an entry beyond the last has no number in the table
        let next = self.f.intrinsic("smin", &[next, last]);
        let mut found: BTreeMap<Id<Buffer>, Value> = BTreeMap::new();
        for row in rows {
            let at = match row.table {
                None => next,
                Some(table) => match found.get(&table) {
                    Some(known) => *known,
                    None => {
                        let at = self.entry_of(table, next);
                        found.insert(table, at);
                        at
                    }
                },
            };
            let bytes = self.f.binary("mul", at, Value::int(I64, (row.width * self.element(row)) as i64));
            let base = self.base(row.buffer);
            let begin = self.f.element(BYTE, base, bytes);
            for line in self.lines(row) {
                let at = self.f.element(BYTE, begin, Value::int(I64, line * LINE));
                self.f.line(format_args!("call void @llvm.prefetch.p0(ptr {at}, i32 0, i32 3, i32 1)"));
            }
        }
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
