//! Local arrays: small ones whose indices are all numbers live in registers, the others on the stack.
//! In a vector loop each lane has its own; an element's lanes lie side by side.

use cranelift_codegen::ir::{InstBuilder, StackSlotData, StackSlotKind, Value, types};
use cranelift_frontend::Variable;

use super::emit::Emitter;
use super::value::Val;
use crate::base::arena::Id;
use crate::codegen::Unsupported;
use crate::kernel::ir::{Buffer, Stmt};

/// Registers a local may take; beyond, Cranelift would only spill them.
const MOST_REGISTERS: usize = 256;
/// Bytes of the stack a local may take: threads of hosts have small stacks.
const MOST_BYTES: usize = 256 << 10;

/// Bytes of a cache line.
const LINE: usize = 64;

/// A local array.
#[derive(Clone, Debug)]
pub(super) enum Local {
    /// The vectors of each element (or one scalar).
    Registers { elements: Vec<Vec<Variable>>, lanes: usize },
    /// On the stack.
    Memory { address: Value, lanes: usize },
}

impl<'p> Emitter<'_, '_, 'p> {
    /// Makes a local; `rest` is all that can use it.
    pub(super) fn alloc(&mut self, id: Id<Buffer>, rest: &'p [Stmt]) -> Result<(), Unsupported> {
        let Buffer { name, shape, dtype, .. } = &self.unit.program.buffers[id];
        let fixed: Option<Vec<usize>> = shape.iter().map(|s| s.as_fixed()).collect();
        let Some(dims) = fixed else {
            return Err(Unsupported::new(format!("the local array `{name}` of a size known only at run time")));
        };
        let count: usize = dims.iter().product();
        let lanes = self.lanes;
        let vectors = lanes.div_ceil(self.per_vector());
        let facts = self.facts.clone();
        let known = |var| matches!(self.vars.get(&var), Some(Val::Int(a)) if a.known().is_some());
        if dtype.is_float()
            && count * vectors <= MOST_REGISTERS
            && facts.only_known_indices(self.kernel, rest, id, known)
        {
            let (ty, each) = if lanes == 1 { (self.real_type(), 1) } else { (self.vector_type(), vectors) };
            let mut elements = Vec::with_capacity(count);
            for _ in 0..count {
                let registers: Vec<Variable> = (0..each).map(|_| self.b.declare_var(ty)).collect();
                for register in &registers {
                    let zero = self.real_const(0.0);
                    let zero = if lanes == 1 { zero } else { self.b.ins().splat(ty, zero) };
                    self.b.def_var(*register, zero);
                }
                elements.push(registers);
            }
            self.locals.insert(id, Local::Registers { elements, lanes });
            return Ok(());
        }
        let bytes = count.saturating_mul(dtype.bytes()).saturating_mul(lanes);
        if bytes > MOST_BYTES {
            return Err(Unsupported::new(format!("the local array `{name}` of {bytes} bytes, above {MOST_BYTES}")));
        }
        // what is packed is read by whole cache lines, and a frame is aligned to 16 bytes only
        let line = if bytes >= LINE { LINE } else { 16 };
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, (bytes.max(1) + line - 16) as u32, 4);
        let slot = self.b.create_sized_stack_slot(data);
        let mut address = self.b.ins().stack_addr(types::I64, slot, 0);
        if line > 16 {
            let beyond = self.b.ins().iadd_imm_s(address, line as i64 - 1);
            address = self.b.ins().band_imm_s(beyond, -(line as i64));
        }
        self.locals.insert(id, Local::Memory { address, lanes });
        Ok(())
    }

    pub(super) fn read_register(&mut self, id: Id<Buffer>, element: usize) -> Val {
        let Some(Local::Registers { elements, lanes }) = self.locals.get(&id) else {
            panic!("cranelift: the local is in registers")
        };
        let (registers, lanes) = (elements[element].clone(), *lanes);
        if lanes == 1 {
            return Val::Real(self.b.use_var(registers[0]));
        }
        Val::Reals(registers.into_iter().map(|r| self.b.use_var(r)).collect())
    }

    pub(super) fn write_register(&mut self, id: Id<Buffer>, element: usize, value: &Val) {
        let Some(Local::Registers { elements, lanes }) = self.locals.get(&id) else {
            panic!("cranelift: the local is in registers")
        };
        let (registers, lanes) = (elements[element].clone(), *lanes);
        let values = match value {
            Val::Real(v) if lanes == 1 => vec![*v],
            _ => self.vectors(value),
        };
        for (register, v) in registers.into_iter().zip(values) {
            self.b.def_var(register, v);
        }
    }
}
