//! The frame: the words that every compiled kernel is called with, `[context, sizes.., addresses of buffers..]`.
//! In: a program. Out: which word is what. Constants and locals have no word: code knows where they are.

use crate::base::arena::Id;
use crate::base::size::SizeVar;
use crate::kernel::ir::{Buffer, Memory, Program};

/// Which word of a frame holds what.
#[derive(Clone, Debug)]
pub struct Frame {
    n_sizes: usize,
    /// The place of each buffer among those that have a word.
    places: Vec<Option<usize>>,
    framed: Vec<Id<Buffer>>,
}

impl Frame {
    /// The frame of a program's kernels.
    pub fn of(program: &Program) -> Frame {
        let mut frame = Frame { n_sizes: program.sizes.len(), places: Vec::new(), framed: Vec::new() };
        for (id, buffer) in program.buffers.iter() {
            let place = match buffer.memory {
                Memory::Input(_)
                | Memory::Weight(_)
                | Memory::Output(_)
                | Memory::Bound
                | Memory::Prepared
                | Memory::Workspace => {
                    frame.framed.push(id);
                    Some(frame.framed.len() - 1)
                }
                Memory::Constant(_) | Memory::Local => None,
            };
            frame.places.push(place);
        }
        frame
    }

    /// The buffers that have a word, in order.
    pub fn buffers(&self) -> &[Id<Buffer>] {
        &self.framed
    }

    /// The byte at which a run-time size stands.
    pub fn size_offset(&self, var: SizeVar) -> i32 {
        8 * (1 + var.0 as i32)
    }

    /// The byte at which a buffer's address stands, if it has one.
    pub fn buffer_offset(&self, buffer: Id<Buffer>) -> Option<i32> {
        self.places[buffer.index()].map(|place| 8 * (1 + self.n_sizes + place) as i32)
    }
}
