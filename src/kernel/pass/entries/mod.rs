//! What a dense kernel makes of every entry of the rows of a sparse table, for one sum along these rows, is made a block of entries at a time,
//! just before the sum comes by: it stays in the second-level cache, and no array of entries x channels goes to memory and back.
//!
//! The radial functions of edges are so: a few features of an edge times a matrix that all edges share. Where the sum reads them
//! through a further table (two directions of an edge share one distance), they are computed again for each entry, if that is next to nothing.
//! Contractions of the same rows become one, whose matrix is theirs side by side.

mod find;
mod fuse;

use std::collections::BTreeSet;

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{Buffer, Memory, Program};
use crate::kernel::pass::compact::drop_exprs;
use crate::kernel::pass::{LEAST_BYTES, PACKED_BYTES};
use crate::kernel::walk::{reads, writes};
use find::{Entries, Table, entries_of, table_of};

/// Bytes of a block of entries: beside the matrices that pass by and what the sum gathers, they fit a second-level cache.
const BLOCK_BYTES: usize = 128 << 10;
/// Entries of a block, at most and at least, so that the dense kernel has full tiles; a multiple of the rows of every shape of tiles.
const MOST_ENTRIES: usize = 72;
const TILES: usize = 24;
/// Products for a number that cost no more than to read the number from memory.
const FEW_PRODUCTS: usize = 16;
/// Blocks of the rows that are dealt to threads together, and pieces that there should be.
const BLOCKS: usize = 4;
const LEAST_PIECES: usize = 64;

/// Makes the tables that one sum along rows reads entry by entry as it goes.
pub fn entries(program: &mut Program) {
    program.kernels.iter_mut().for_each(drop_exprs);
    for k in 0..program.kernels.len() {
        let Some(entries) = entries_of(&program.kernels[k]) else { continue };
        let tables = tables(program, k, &entries);
        if let Some(shape) = Shape::new(program, &entries, &tables) {
            let groups = joined(program, tables);
            program.kernels[k] = fuse::fuse(program, k, &entries, &groups, &shape);
        }
    }
}

/// How much is taken at a time.
struct Shape {
    /// Entries.
    block: usize,
    /// Rows that a thread takes.
    rows: usize,
}

impl Shape {
    fn new(program: &Program, entries: &Entries, tables: &[Table]) -> Option<Shape> {
        let each: usize = tables.iter().map(|t| t.contraction.n_extent).sum();
        let packed: usize = tables.iter().map(|t| t.contraction.packed_len()).sum();
        let bytes = program.dtype.bytes();
        let block = (BLOCK_BYTES / (each * bytes).max(1)).min(MOST_ENTRIES) / TILES * TILES;
        let (rows, places) = (program.sizes.hint(entries.rows), tables.first()?.entries(program));
        let stays = places.saturating_mul(each * bytes) < LEAST_BYTES;
        if stays || packed * bytes > PACKED_BYTES || block == 0 {
            return None;
        }
        let degree = places.div_ceil(rows.max(1)).max(1);
        let rows = (BLOCKS * block / degree).min(rows / LEAST_PIECES).max(1);
        Some(Shape { block, rows })
    }
}

/// The tables that only this kernel reads, entry by entry, and that are better made as it goes.
fn tables(program: &Program, k: usize, entries: &Entries) -> Vec<Table> {
    let kernel = &program.kernels[k];
    let read = reads(program, kernel);
    let of_call = read.into_iter().filter(|b| program.buffers[*b].memory == Memory::Workspace);
    let once = |table: &Table| table.is_direct() || table.contraction.taps * table.contraction.k_extent <= FEW_PRODUCTS;
    of_call.filter_map(|buffer| table_of(program, k, entries, buffer)).filter(once).collect()
}

/// Tables that one contraction makes, side by side.
struct Group {
    tables: Vec<Table>,
    packed: Id<Buffer>,
}

/// Tables whose contractions have the same rows, together: their packed matrices become one.
fn joined(program: &mut Program, tables: Vec<Table>) -> Vec<Group> {
    let mut groups: Vec<Vec<Table>> = Vec::new();
    for table in tables {
        match groups.iter_mut().find(|group| table.joins(program, &group[0])) {
            Some(group) => group.push(table),
            None => groups.push(vec![table]),
        }
    }
    groups.into_iter().map(|tables| Group { packed: side_by_side(program, &tables), tables }).collect()
}

/// One packed matrix of several, which are packed into their parts of it.
fn side_by_side(program: &mut Program, tables: &[Table]) -> Id<Buffer> {
    let packed: Vec<Id<Buffer>> = tables.iter().map(|t| t.contraction.packed).collect();
    let [first, _, ..] = packed[..] else { return packed[0] };
    let mut whole = program.buffers[first].clone();
    let panels = |program: &Program, id: Id<Buffer>| program.buffers[id].shape[0].as_fixed().expect("entries: panels");
    whole.shape[0] = Size::fixed(packed.iter().map(|id| panels(program, *id)).sum());
    let whole = program.buffers.push(whole);
    let mut begin = 0;
    for part in packed {
        let n = panels(program, part);
        for k in 0..program.kernels.len() {
            if writes(program, &program.kernels[k]).contains(&part) {
                fuse::redirect(&mut program.kernels[k], part, whole, begin);
            }
        }
        begin += n;
    }
    whole
}

/// The buffers that these kernels write.
fn written(program: &Program, kernels: std::ops::Range<usize>) -> BTreeSet<Id<Buffer>> {
    program.kernels[kernels].iter().flat_map(|kernel| writes(program, kernel)).collect()
}
