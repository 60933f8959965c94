//! Where every buffer of a frame lives: which are arguments, which are slots of the caller's memories, which are checked copies.
//! Index arguments are copied once they have been checked, so that nobody can change them afterwards; weights that a call reads are
//! copied at prepare, so that a call needs no weights.

use std::collections::BTreeSet;

use crate::base::arena::Id;
use crate::base::dtype::Dtype;
use crate::base::size::Size;
use crate::codegen::Unsupported;
use crate::codegen::abi::{Element, Interface};
use crate::codegen::frame::Frame;
use crate::kernel::ir::{Buffer, Memory, Program, Stage};
use crate::kernel::pass::buffers::workspace_slots;
use crate::kernel::walk::reads;

/// The caller's memories, in the order of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallerMemory {
    Bound = 0,
    Prepared = 1,
    Workspace = 2,
}

/// Where the address of a buffer comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum WhereFrom {
    Input(usize),
    Weight(usize),
    Output(usize),
    /// A slot of a memory; where it is the copy of an argument, its number.
    Slot {
        memory: CallerMemory,
        slot: usize,
        copy_of: Option<usize>,
    },
}

/// One word of a frame.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub from: WhereFrom,
    pub dtype: Dtype,
    pub dims: Vec<Size>,
}

/// Places that share memory.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub memory: CallerMemory,
    pub members: Vec<usize>,
}

/// All places and slots of a program.
#[derive(Clone, Debug, Default)]
pub(super) struct Memories {
    pub places: Vec<Place>,
    pub slots: Vec<Slot>,
}

impl Memories {
    /// Decides where everything lives: workspace buffers share slots as planned, every other has a slot of its own.
    pub(super) fn of(program: &Program, interface: &Interface) -> Result<Memories, Unsupported> {
        let read_at_call = read(program, Stage::Call);
        let planned = workspace_slots(program);
        let mut shared: Vec<Option<usize>> = vec![None; planned.len()];
        let mut memories = Memories::default();
        for &id in Frame::of(program).buffers() {
            let buffer = &program.buffers[id];
            let from = match buffer.memory {
                Memory::Input(k) => match interface.inputs[k].element {
                    Element::Real => WhereFrom::Input(k),
                    Element::Index { table: true, .. } => memories.slot(CallerMemory::Bound, Some(k)),
                    Element::Index { table: false, .. } => memories.slot(CallerMemory::Workspace, Some(k)),
                },
                Memory::Weight(k) if read_at_call.contains(&id) => memories.slot(CallerMemory::Prepared, Some(k)),
                Memory::Weight(k) => WhereFrom::Weight(k),
                Memory::Output(k) => WhereFrom::Output(k),
                Memory::Bound => memories.slot(CallerMemory::Bound, None),
                Memory::Prepared => memories.slot(CallerMemory::Prepared, None),
                Memory::Workspace => match planned.iter().position(|slot| slot.contains(&id)) {
                    Some(plan) => memories.join(&mut shared[plan]),
                    // No kernel touches it.
                    None => memories.slot(CallerMemory::Workspace, None),
                },
                Memory::Constant(_) | Memory::Local => panic!("package: the buffer has no word"),
            };
            memories.places.push(Place { from, dtype: buffer.dtype, dims: buffer.shape.clone() });
        }
        memories.check_stages(program, interface)?;
        Ok(memories)
    }

    /// A new slot with the place that is being made.
    fn slot(&mut self, memory: CallerMemory, copy_of: Option<usize>) -> WhereFrom {
        self.slots.push(Slot { memory, members: vec![self.places.len()] });
        WhereFrom::Slot { memory, slot: self.slots.len() - 1, copy_of }
    }

    /// The place that is being made joins a slot of the workspace, which is made where it does not exist.
    fn join(&mut self, slot: &mut Option<usize>) -> WhereFrom {
        let Some(slot) = *slot else {
            let from = self.slot(CallerMemory::Workspace, None);
            *slot = Some(self.slots.len() - 1);
            return from;
        };
        self.slots[slot].members.push(self.places.len());
        WhereFrom::Slot { memory: CallerMemory::Workspace, slot, copy_of: None }
    }

    /// No stage reads what is given only later.
    fn check_stages(&self, program: &Program, interface: &Interface) -> Result<(), Unsupported> {
        for stage in [Stage::Bind, Stage::Prepare] {
            for id in read(program, stage) {
                let buffer = &program.buffers[id];
                let early = match buffer.memory {
                    Memory::Input(k) => {
                        let table = matches!(interface.inputs[k].element, Element::Index { table: true, .. });
                        stage == Stage::Bind && table
                    }
                    Memory::Weight(_) => stage == Stage::Prepare,
                    Memory::Workspace | Memory::Output(_) => false,
                    Memory::Constant(_) | Memory::Bound | Memory::Prepared | Memory::Local => true,
                };
                if !early {
                    return Err(Unsupported::new(format!("{stage:?} reading `{}`", buffer.name)));
                }
            }
        }
        Ok(())
    }
}

/// The buffers that a stage's kernels read.
fn read(program: &Program, stage: Stage) -> BTreeSet<Id<Buffer>> {
    program.kernels.iter().filter(|k| k.stage == stage).flat_map(|kernel| reads(program, kernel)).collect()
}
