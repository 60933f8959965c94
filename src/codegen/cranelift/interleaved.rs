//! Rows of arrays that lanes write, each lane another row: `x[lane, 0], x[lane, 1], ..`.
//! Memory is written row by row, vectors are numbers of one column; shuffles lead from one to the other.

use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::emit::Emitter;
use super::memory::Address;
use super::value::Val;
use crate::codegen::Unsupported;
use crate::codegen::scan::adjacent_stores;
use crate::kernel::ir::{Memory, Stmt};

impl<'p> Emitter<'_, '_, 'p> {
    /// Writes what the first statements store to adjacent numbers of a row a lane, a vector of columns at once; how many statements
    /// these are.
    pub(super) fn store_rows(&mut self, body: &'p [Stmt]) -> Result<usize, Unsupported> {
        let width = self.per_vector();
        if self.lanes == 1 || width == 1 {
            return Ok(0);
        }
        let stores = adjacent_stores(self.kernel, body);
        let Some((first, _)) = stores.first().filter(|_| stores.len() >= width) else { return Ok(0) };
        let buffer = &self.unit.program.buffers[first.buffer];
        if matches!(buffer.memory, Memory::Local) || !buffer.dtype.is_float() {
            return Ok(0);
        }
        match self.offset(first)? {
            Val::Int(at) if at.lane > 1 => {}
            _ => return Ok(0),
        }
        let Address::Each(rows) = self.address(first)? else { return Ok(0) };
        let whole = stores.len() / width * width;
        for begin in (0..whole).step_by(width) {
            let mut columns = Vec::new();
            for (_, value) in &stores[begin..begin + width] {
                let value = self.expr(*value)?;
                columns.push(self.vectors(&value));
            }
            for (group, rows) in rows.chunks(width).enumerate() {
                let columns: Vec<Value> = columns.iter().map(|c| c[group]).collect();
                let disp = (begin * self.vector_type().lane_type().bytes() as usize) as i32;
                for (row, numbers) in rows.iter().zip(self.transposed(&columns)) {
                    self.store_vector(numbers, *row, disp);
                }
            }
        }
        Ok(whole)
    }

    /// The rows of a square matrix of which these are the columns: 4 x 4 or 2 x 2 numbers.
    fn transposed(&mut self, columns: &[Value]) -> Vec<Value> {
        match *columns {
            [a, b] => vec![self.shuffled(a, b, [0, 2], 8), self.shuffled(a, b, [1, 3], 8)],
            [a, b, c, d] => {
                let (low, high) = ([0, 4, 1, 5], [2, 6, 3, 7]);
                let (ab, cd) = (self.shuffled(a, b, low, 4), self.shuffled(c, d, low, 4));
                let (ab_high, cd_high) = (self.shuffled(a, b, high, 4), self.shuffled(c, d, high, 4));
                let halves = |e: &mut Self, x, y| [e.shuffled(x, y, [0, 2], 8), e.shuffled(x, y, [1, 3], 8)];
                [halves(self, ab, cd), halves(self, ab_high, cd_high)].concat()
            }
            _ => panic!("cranelift: a vector has 2 or 4 numbers"),
        }
    }

    /// Numbers of `bytes` bytes of two vectors, of which the second one's come after the first one's.
    fn shuffled<const N: usize>(&mut self, x: Value, y: Value, picks: [u8; N], bytes: u8) -> Value {
        let ty = self.vector_type();
        let (x, y) = (self.cast(types::I8X16, x), self.cast(types::I8X16, y));
        let mask: Vec<u8> = picks.iter().flat_map(|pick| (0..bytes).map(move |byte| pick * bytes + byte)).collect();
        let mask = self.b.func.dfg.immediates.push(mask[..].into());
        let res = self.b.ins().shuffle(x, y, mask);
        self.cast(ty, res)
    }
}
