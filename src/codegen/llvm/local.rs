//! Local arrays: on the stack as they are written, in registers where LLVM finds that all their indices are numbers.
//! In a vector loop each lane has its own; an element's lanes lie side by side.

use super::emit::Emitter;
use super::text::{POINTER, Type, Value};
use super::unit::scalar;
use crate::base::arena::Id;
use crate::codegen::Unsupported;
use crate::kernel::ir::Buffer;

/// Bytes of the stack a local may take: threads of hosts have small stacks.
const MOST_BYTES: usize = 256 << 10;

/// A local array.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local {
    pub address: Value,
    /// Lanes an element has.
    pub lanes: usize,
    /// The array's first axis is the thread, each of which has a part.
    pub by_thread: bool,
}

impl Emitter<'_, '_> {
    /// Makes a local.
    pub(super) fn alloc(&mut self, id: Id<Buffer>) -> Result<(), Unsupported> {
        let Buffer { name, shape, dtype, .. } = &self.unit.program.buffers[id];
        let fixed: Option<Vec<usize>> = shape.iter().map(|s| s.as_fixed()).collect();
        let Some(dims) = fixed else {
            return Err(Unsupported::new(format!("the local array `{name}` of a size known only at run time")));
        };
        if let Some(local) = self.alloc_in_block(id, &dims)? {
            self.locals.insert(id, local);
            return Ok(());
        }
        let count: usize = dims.iter().product::<usize>().max(1);
        let element = Type::new(scalar(*dtype), self.lanes);
        let bytes = count.saturating_mul(element.bytes());
        if bytes > MOST_BYTES {
            return Err(Unsupported::new(format!("the local array `{name}` of {bytes} bytes, above {MOST_BYTES}")));
        }
        let address = self.array(id, count);
        self.locals.insert(id, Local { address, lanes: self.lanes, by_thread: false });
        Ok(())
    }

    /// An array of the function.
    pub(super) fn array(&mut self, id: Id<Buffer>, count: usize) -> Value {
        let element = Type::new(scalar(self.unit.program.buffers[id].dtype), self.lanes);
        self.f.at_entry(POINTER, format_args!("alloca [{count} x {element}], align 64"))
    }
}
