//! Which workspace buffers may share memory: those that are never alive at the same time. Sizes are known at run time only,
//! so the plan is in slots; a slot is as large as the largest of its buffers is then.

use crate::base::arena::Id;
use crate::kernel::ir::{Buffer, Memory, Program, Stage};
use crate::kernel::walk::{reads, writes};

/// The workspace of a program: each inner list is a slot, the buffers that share its memory, by birth.
/// Every workspace buffer that a kernel of `Call` touches is in exactly one slot.
pub fn workspace_slots(program: &Program) -> Vec<Vec<Id<Buffer>>> {
    let mut slots: Vec<Slot> = Vec::new();
    for life in lives(program) {
        let size = hint_bytes(program, life.buffer);
        let free = slots.iter_mut().filter(|slot| slot.end < life.begin);
        match free.min_by_key(|slot| (slot.bytes.max(size) - slot.bytes.min(size), slot.buffers[0])) {
            Some(slot) => {
                slot.buffers.push(life.buffer);
                slot.end = life.end;
                slot.bytes = slot.bytes.max(size);
            }
            None => slots.push(Slot { buffers: vec![life.buffer], end: life.end, bytes: size }),
        }
    }
    slots.into_iter().map(|slot| slot.buffers).collect()
}

struct Slot {
    buffers: Vec<Id<Buffer>>,
    /// The last kernel that touches the newest buffer.
    end: usize,
    bytes: usize,
}

/// From the first to the last kernel of the call that touches a buffer, both included:
/// what a kernel reads and what it writes are alive together.
struct Life {
    buffer: Id<Buffer>,
    begin: usize,
    end: usize,
}

/// The lives of all workspace buffers, by birth.
fn lives(program: &Program) -> Vec<Life> {
    let mut res: Vec<Life> = Vec::new();
    for (time, kernel) in program.kernels.iter().filter(|k| k.stage == Stage::Call).enumerate() {
        for buffer in writes(program, kernel).into_iter().chain(reads(program, kernel)) {
            if program.buffers[buffer].memory != Memory::Workspace {
                continue;
            }
            match res.iter_mut().find(|life| life.buffer == buffer) {
                Some(life) => life.end = time,
                None => res.push(Life { buffer, begin: time, end: time }),
            }
        }
    }
    res
}

/// The bytes a buffer is expected to take.
fn hint_bytes(program: &Program, id: Id<Buffer>) -> usize {
    let buffer = &program.buffers[id];
    buffer.shape.iter().map(|s| program.sizes.hint(*s)).product::<usize>() * buffer.dtype.bytes()
}
