//! Rows of `outer` that are read where they are: where those of a unit lie beside each other in memory, as the channels of a place do, a
//! window, a stride or a boundary is an address of a place for each tap, and nothing is copied.

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{Access, Buffer, Comparison, Expr, Var};
use crate::kernel::lower::Lowering;
use crate::kernel::lower::cx::Cx;
use crate::kernel::lower::dense::address_step;
use crate::kernel::lower::element::{Slots, at};
use crate::kernel::lower::outer::{Outer, volume};
use crate::kernel::lower::outer_kernel::{Cut, Piece};
use crate::tensor::op::{Node, Slot};

/// Rows beside each other below which an address costs as much as a copy.
const LEAST_BESIDE: usize = 8;
/// Places of a window from which on copies are many: one for each.
const LEAST_TAPS: usize = 2;

/// Where a row is at a place, and whether it is there.
pub(super) struct RowInPlace {
    /// What the row is along each of its axes.
    pub(super) digits: Vec<(Var, Id<Expr>)>,
    pub(super) address: Access,
    pub(super) inside: Id<Expr>,
}

impl Lowering<'_> {
    /// Whether the rows of a unit lie beside each other in memory, are read at several places of a window, and are neither computed nor
    /// read through tables where these may be undefined.
    pub(super) fn rows_in_place(&mut self, node: &Node, outer: &Outer, sizes: &[Size]) -> bool {
        let side = &outer.rows;
        let mut beside = side.beside.clone();
        side.sort_as_in_memory(node, &self.homes, &mut beside);
        let worth = volume(&side.apart, sizes) >= LEAST_TAPS && volume(&beside, sizes) >= LEAST_BESIDE;
        worth && self.lie_beside(node, outer, sizes, &beside).unwrap_or(false)
    }

    fn lie_beside(&mut self, node: &Node, outer: &Outer, sizes: &[Size], beside: &[Slot]) -> Option<bool> {
        let side = &outer.rows;
        let [k] = side.factors[..] else { return None };
        let mut cx = Cx::new(self);
        let mut slots: Slots = vec![None; sizes.len()];
        for slot in outer.summed.iter().chain(&outer.batch).chain(&side.apart).chain(beside) {
            let var = cx.b.var();
            slots[*slot as usize] = Some(cx.b.read(var));
        }
        cx.settled(&side.steps, &mut slots)?;
        let access = cx.address(node.args[k], &at(&node.reads[k], &slots))?;
        let shape = cx.low.program.buffers[access.buffer].shape.clone();
        let mut distance = 1;
        for slot in beside.iter().rev() {
            let Expr::Var(var) = *cx.b.get(slots[*slot as usize]?) else { return None };
            if address_step(&cx.b, &access.index, &shape, var)? != distance {
                return Some(false);
            }
            distance *= sizes[*slot as usize].as_fixed()? as i64;
        }
        Some(true)
    }
}

impl Cx<'_, '_> {
    /// Notes where place `k` of a block is along each summed axis.
    pub(super) fn note_place(&mut self, cut: &Cut, piece: &Piece, to: Id<Buffer>, k: Id<Expr>, slots: &Slots) {
        for (axis, slot) in cut.summed.iter().enumerate() {
            let axis = self.b.int(axis as i64);
            let index = slots[*slot as usize].expect("lower: the place is known");
            self.store(to, vec![piece.number, axis, k], index);
        }
    }

    /// Row `row` at place `tap` of a block of `count`.
    pub(super) fn row_in_place(
        &mut self,
        cut: &Cut,
        piece: &Piece,
        places: Id<Buffer>,
        (batch, count): (Id<Expr>, Id<Expr>),
        (row, tap): (Id<Expr>, Var),
    ) -> RowInPlace {
        let side = cut.rows.side;
        let tap = self.b.read(tap);
        let mut slots: Slots = vec![None; cut.sizes.len()];
        for (axis, slot) in cut.summed.iter().enumerate() {
            let axis = self.b.int(axis as i64);
            slots[*slot as usize] = Some(self.b.load(places, vec![piece.number, axis, tap]));
        }
        let mut digits = Vec::new();
        for (axes, place) in [(&cut.outer.batch, batch), (&cut.rows.axes, row)] {
            let dims: Vec<Size> = axes.iter().map(|slot| cut.sizes[*slot as usize]).collect();
            let index = self.b.unflatten(place, &dims);
            for (slot, digit) in axes.iter().zip(index) {
                let var = self.b.var();
                digits.push((var, digit));
                slots[*slot as usize] = Some(self.b.read(var));
            }
        }
        let guards = self.settled(&side.steps, &mut slots).expect("lower: it was found to be so");
        let inside = self.b.compare(Comparison::Lt, tap, count);
        let inside = guards.into_iter().fold(inside, |all, guard| self.b.expr(Expr::And { x: all, y: guard }));
        let [k] = side.factors[..] else { panic!("lower: it was found to be one") };
        let address = self.address(cut.node.args[k], &at(&cut.node.reads[k], &slots));
        RowInPlace { digits, address: address.expect("lower: it was found to have one"), inside }
    }
}
