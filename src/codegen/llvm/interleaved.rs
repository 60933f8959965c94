//! Rows of arrays that lanes read and write, each lane another row: `x[lane, 0], x[lane, 1], ..`.
//! Memory is read and written row by row, vectors are numbers of one column; shuffles lead from one to the other.

use super::emit::Emitter;
use super::memory::Place;
use super::text::{Type, Value};
use super::value::{Affine, Val};
use crate::codegen::Unsupported;
use crate::codegen::scan::adjacent_stores;
use crate::kernel::ir::{Access, Expr, Memory, Stmt};

/// Numbers of a row that are read whole to have one of them in each lane.
const MOST_READ: i64 = 4;
/// Numbers of a longer row that are read together.
const PIECES: [i64; 2] = [8, 4];

impl<'p> Emitter<'_, 'p> {
    /// Writes what the first statements store to adjacent numbers of a row a lane; how many statements these are.
    pub(super) fn store_rows(&mut self, body: &'p [Stmt]) -> Result<usize, Unsupported> {
        if self.lanes == 1 || self.tail.is_some() || self.on_device() {
            return Ok(0);
        }
        let stores = adjacent_stores(self.kernel, body);
        let [first, _, ..] = stores[..] else { return Ok(0) };
        let Some(at) = self.row_of_each(first.0)? else { return Ok(0) };
        let mut columns = Vec::new();
        for (_, value) in &stores {
            let value = self.expr(*value)?;
            columns.push(self.all_reals(&value));
        }
        let whole = self.per_vector().min(self.lanes);
        for group in (0..self.lanes).step_by(whole) {
            let columns: Vec<Value> = columns.iter().map(|c| self.some_lanes(*c, group, whole)).collect();
            let at = Affine { k: at.k + at.lane * group as i64, ..at };
            self.store_tiles(first.0, at, &columns);
        }
        Ok(stores.len())
    }

    /// Stores columns, as many at once as a power of two is that a vector has.
    fn store_tiles(&mut self, to: &Access, at: Affine, columns: &[Value]) {
        let lanes = columns[0].ty.lanes;
        let mut done = 0;
        while done < columns.len() {
            let width = 1 << (columns.len() - done).min(lanes).ilog2();
            for (i, rows) in self.transposed(&columns[done..done + width]).into_iter().enumerate() {
                for row in 0..lanes / width {
                    let numbers = self.some_lanes(rows, row * width, width);
                    let lane = (i * lanes / width + row) as i64;
                    let from = Affine { k: at.k + done as i64 + at.lane * lane, lane: 0, ..at };
                    let place = self.side_by_side(to.buffer, from);
                    let value = if width == 1 { Val::Real(numbers) } else { Val::Reals(numbers) };
                    self.store_numbers(&place, &value);
                }
            }
            done += width;
        }
    }

    /// The number that each lane reads of a row of few numbers.
    pub(super) fn load_rows(&mut self, access: &Access) -> Result<Option<Val>, Unsupported> {
        if self.lanes == 1 || self.tail.is_some() || self.guard.is_some() || self.on_device() {
            return Ok(None);
        }
        let Some(Expr::Int(column)) = access.index.last().map(|i| &self.kernel.exprs[*i]) else { return Ok(None) };
        let width = self.unit.program.buffers[access.buffer].shape.last().and_then(|n| n.as_fixed());
        let Some(at) = self.row_of_each(access)? else { return Ok(None) };
        if width != usize::try_from(at.lane).ok() || !(0..at.lane).contains(column) {
            return Ok(None);
        }
        if at.lane > MOST_READ {
            return Ok(self.column_of_rows(access, Affine { k: at.k - column, ..at }, *column).map(Val::Reals));
        }
        let (lanes, step, column) = (self.lanes, at.lane as usize, *column as usize);
        let mut res: Option<Value> = None;
        for part in 0..step {
            let from = Affine { k: at.k - column as i64 + (part * lanes) as i64, lane: 0, ..at };
            let place: Place = self.side_by_side(access.buffer, from);
            let numbers = self.load_numbers(&place);
            // lanes whose numbers are in this part or before it
            let number = |lane: usize| lane * step + column;
            let pick = |lane: usize| match (number(lane) / lanes).cmp(&part) {
                std::cmp::Ordering::Less => lane,
                std::cmp::Ordering::Equal => lanes + number(lane) % lanes,
                std::cmp::Ordering::Greater => 0,
            };
            let before = res.unwrap_or(Value::poison(numbers.ty));
            res = Some(self.shuffled(before, numbers, (0..lanes).map(pick)));
        }
        Ok(res.map(Val::Reals))
    }

    /// A column of rows of more numbers: rows are read in pieces, the columns of a piece together, and the last piece ends where rows do.
    fn column_of_rows(&mut self, access: &Access, rows: Affine, column: i64) -> Option<Value> {
        let piece = PIECES.into_iter().find(|n| *n <= rows.lane && *n as usize <= self.lanes)?;
        let first = (column / piece * piece).min(rows.lane - piece);
        let whole = self.lanes / piece as usize;
        let mut numbers = Vec::new();
        for group in 0..piece {
            let of_row = |row: usize| Affine {
                k: rows.k + first + rows.lane * (group * whole as i64 + row as i64),
                lane: 0,
                ..rows
            };
            let read: Vec<Value> =
                (0..whole).map(|row| self.some_numbers(access, of_row(row), piece as usize)).collect();
            numbers.push(self.joined(read));
        }
        Some(self.unzipped(numbers, (column - first) as usize))
    }

    /// So many numbers side by side.
    fn some_numbers(&mut self, access: &Access, from: Affine, count: usize) -> Value {
        let lanes = std::mem::replace(&mut self.lanes, count);
        let place = self.side_by_side(access.buffer, from);
        let numbers = self.load_numbers(&place);
        self.lanes = lanes;
        numbers
    }

    /// Vectors one after the other, as one; a power of two of them.
    fn joined(&mut self, parts: Vec<Value>) -> Value {
        if let [whole] = parts[..] {
            return whole;
        }
        let halves = parts.chunks(2).map(|pair| self.shuffled(pair[0], pair[1], 0..2 * pair[0].ty.lanes)).collect();
        self.joined(halves)
    }

    /// Every so many-th number of vectors that follow each other, from one on: as many as there are vectors.
    fn unzipped(&mut self, numbers: Vec<Value>, column: usize) -> Value {
        if let [whole] = numbers[..] {
            return whole;
        }
        let lanes = numbers[0].ty.lanes;
        let half =
            numbers.chunks(2).map(|pair| self.shuffled(pair[0], pair[1], (0..lanes).map(|i| 2 * i + column % 2)));
        let half = half.collect();
        self.unzipped(half, column / 2)
    }

    /// Where an access is, if each lane is at a row of its own of memory outside of the kernel, side by side in no dimension.
    fn row_of_each(&mut self, access: &Access) -> Result<Option<Affine>, Unsupported> {
        let buffer = &self.unit.program.buffers[access.buffer];
        let outside = !matches!(buffer.memory, Memory::Local) && buffer.dtype.is_float();
        match if outside { Some(self.offset(access)?) } else { None } {
            Some(Val::Int(at)) if at.lane > 1 => Ok(Some(at)),
            _ => Ok(None),
        }
    }

    /// The rows of a matrix of which these are the columns, one after the other; a power of two of columns, at most the lanes.
    fn transposed(&mut self, columns: &[Value]) -> Vec<Value> {
        if columns.len() == 1 {
            return columns.to_vec();
        }
        let half = |odd: usize| columns.iter().copied().skip(odd).step_by(2).collect::<Vec<Value>>();
        let (even, odd) = (self.transposed(&half(0)), self.transposed(&half(1)));
        let lanes = columns[0].ty.lanes;
        let mut res = Vec::new();
        for (x, y) in even.into_iter().zip(odd) {
            for from in [0, lanes / 2] {
                res.push(self.shuffled(x, y, (0..lanes).map(|i| from + i / 2 + i % 2 * lanes)));
            }
        }
        res
    }

    /// Lanes `from..from + count` of a vector.
    fn some_lanes(&mut self, x: Value, from: usize, count: usize) -> Value {
        if count == x.ty.lanes {
            return x;
        }
        if count == 1 {
            return self.f.extract(x, Value::int(super::text::I64, from as i64));
        }
        self.shuffled(x, Value::poison(x.ty), from..from + count)
    }

    fn shuffled(&mut self, x: Value, y: Value, lanes: impl Iterator<Item = usize>) -> Value {
        let picks: Vec<String> = lanes.map(|lane| format!("i32 {lane}")).collect();
        let (ty, n) = (Type { lanes: picks.len(), ..x.ty }, picks.len());
        let mask = picks.join(", ");
        self.f.value(ty, format_args!("shufflevector {}, {}, <{n} x i32> <{mask}>", x.typed(), y.typed()))
    }
}
