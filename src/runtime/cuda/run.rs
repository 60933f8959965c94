//! A whole call on a GPU: what a host gives at every call, in memory that it lends, and nothing waits but for tables that lie on the GPU.
//! In: a model and a caller's tensors. Out: outputs, in the order of the stream.
//!
//! What bind made is kept (`instance`), with its part on the GPU; weights are prepared at each call, for to see whether they
//! have changed the host would have to wait. All that is lent for a call is used in the order of its stream, so it can be lent again at once.

use core::ffi::c_void;
use core::mem::size_of;
use core::ptr::{null, null_mut};

use super::driver;
use super::{Work, needed};
use crate::abi::*;
use crate::check::{preconditions, present, row_major, size_the_rest, slice, solve};
use crate::entry::MAX_SIZES;
use crate::instance::{self, Instance, Lent, Location, Made, Origin};
use crate::message::{Checked, fail, text};
use crate::system;

/// The caller's arrays.
#[derive(Clone, Copy)]
pub(super) struct Given {
    pub inputs: *const *const DlTensor,
    pub weights: *const *const DlTensor,
    pub outputs: *const *const DlTensor,
}

/// Memory that [`Work::keep`] had of the driver, and the CUDA context that it is of: whoever gives it back may have another, or none.
struct OfDriver {
    cuda_context: usize,
    data: *mut u8,
}

/// Gives back an [`OfDriver`].
unsafe extern "C" fn release(owner: *mut c_void) {
    unsafe {
        let OfDriver { cuda_context, data } = owner.cast::<OfDriver>().read();
        driver::opened().free_in(cuda_context, data);
        system::free(owner);
    }
}

impl Work<'_> {
    /// Binds where it is not done already for the same tables, prepares and calls. Without a lender: in memory of the driver, and waits.
    pub(super) unsafe fn run(&mut self, (id, capability): (u64, i64), given: Given, lender: *const Lender) -> Checked {
        let lender = unsafe { lender.as_ref() };
        unsafe {
            present(self.context, self.model, given.inputs)?;
            let capturing = self.driver.is_capturing(self.context, self.stream)?;
            if capturing && lender.is_none() {
                let reason = format_args!("run waits for its results and cannot be captured in a graph: use bind, prepare and call");
                return Err(fail(self.context, INVALID, reason));
            }
            let tables = HostTables::of(self, given.inputs, capturing)?;
            let inputs = tables.list;
            let mut sizes = [0i64; MAX_SIZES];
            let sizes = &mut sizes[..self.model.sizes.count as usize];
            solve(self.context, self.model, inputs, given.outputs, sizes)?;
            size_the_rest(self.context, self.model, inputs, sizes)?;
            preconditions(self.context, self.model, sizes)?;
            let location = Location::Gpu { context: id, stream: self.stream as usize };
            let origin = Origin { model: self.model, sizes, inputs, weights: null(), location };
            origin.check(self.context)?;
            let instance = self.bound(&origin, (id, capability), lender, capturing)?;
            let done = self.in_order(id, &*instance, sizes, Given { inputs, ..given }, lender);
            (*instance).captured |= capturing;
            instance::put(instance);
            done
        }
    }

    /// An instance that is bound to the tables: a kept one, or else a new one.
    unsafe fn bound(
        &mut self,
        origin: &Origin<'_>,
        (id, capability): (u64, i64),
        lender: Option<&Lender>,
        capturing: bool,
    ) -> Checked<*mut Instance> {
        unsafe {
            let mut found = origin.take(capturing);
            if let Some(instance) = found.as_ref()
                && instance.made == Made::Bound
            {
                return Ok(found);
            }
            if capturing {
                instance::put(found);
                let name = text(self.model.name);
                let reason = format_args!("`{name}` is not bound to these tables, which a graph cannot capture: call it once before, as it is called in the capture");
                return Err(fail(self.context, INVALID, reason));
            }
            let bytes = needed(self.context, self.model, origin.sizes)?;
            if found.is_null() {
                found = origin.make(self.context, [0, 0, 0, bytes[3], bytes[4]])?;
            }
            let done = self.bind_kept(&mut *found, origin, (id, capability), lender, bytes[0]);
            match done {
                Ok(()) => Ok(found),
                Err(failed) => {
                    instance::free(found);
                    Err(failed)
                }
            }
        }
    }

    /// Binds an instance to the tables, with `bytes` on the GPU that it keeps.
    unsafe fn bind_kept(
        &mut self,
        instance: &mut Instance,
        origin: &Origin<'_>,
        (id, capability): (u64, i64),
        lender: Option<&Lender>,
        bytes: i64,
    ) -> Checked {
        unsafe {
            if instance.lent.is_none() {
                let (data, lent) = self.keep(lender, bytes)?;
                instance.holds(Memory { data, bytes }, lent);
            }
            self.bind(id, capability, origin.inputs, origin.sizes.as_ptr(), instance.memory.as_ptr())?;
            origin.keep(instance, Made::Bound);
        }
        Ok(())
    }

    /// Memory on the GPU that lasts.
    unsafe fn keep(&mut self, lender: Option<&Lender>, bytes: i64) -> Checked<(*mut u8, Lent)> {
        if let Some(Lender { host, keep: Some(keep), release: Some(release), .. }) = lender {
            let mut owner = null_mut();
            let data = unsafe { keep(*host, bytes, &mut owner) };
            let lent = Lent { owner, release: *release };
            return if data.is_null() { Err(self.no_memory(bytes)) } else { Ok((data, lent)) };
        }
        unsafe {
            let (cuda_context, _) = self.driver.current(self.context)?;
            let data = self.driver.allocate(self.context, bytes)?;
            let owner = system::malloc(size_of::<OfDriver>());
            if owner.is_null() {
                self.driver.free(data);
                let name = text(self.model.name);
                return Err(fail(self.context, NO_MEMORY, format_args!("no memory for the call of `{name}`")));
            }
            owner.cast::<OfDriver>().write(OfDriver { cuda_context, data });
            Ok((data, Lent { owner, release }))
        }
    }

    fn no_memory(&mut self, bytes: i64) -> crate::message::Failed {
        fail(self.context, NO_MEMORY, format_args!("no memory on the GPU: {bytes} bytes are needed"))
    }

    /// Prepares and calls, in memory that is lent for that.
    unsafe fn in_order(
        &mut self,
        id: u64,
        instance: &Instance,
        sizes: &[i64],
        given: Given,
        lender: Option<&Lender>,
    ) -> Checked {
        unsafe {
            let bytes = needed(self.context, self.model, sizes)?;
            let both = bytes[1] + bytes[2];
            let data = match lender {
                Some(lender) => (lender.borrow)(lender.host, both),
                None => self.driver.allocate(self.context, both)?,
            };
            if data.is_null() {
                return Err(self.no_memory(both));
            }
            let mut memory = instance.memory;
            memory[1] = Memory { data, bytes: bytes[1] };
            memory[2] = Memory { data: data.wrapping_add(bytes[1] as usize), bytes: bytes[2] };
            let done = self
                .prepare(id, given.weights, memory.as_ptr())
                .and_then(|()| self.call(id, given.inputs, given.outputs, memory.as_ptr()));
            if lender.is_none() {
                let done = done.and_then(|()| self.driver.wait(self.context, self.stream));
                self.driver.free(data);
                return done;
            }
            done
        }
    }
}

/// The inputs, with copies on the host in place of the index tables that lie on the GPU.
struct HostTables {
    list: *const *const DlTensor,
    /// The pointers, the tensors, and their elements; null where all tables are on the host.
    block: *mut u8,
}

impl HostTables {
    /// Copies what has to be; then it waits for the stream.
    unsafe fn of(work: &mut Work<'_>, inputs: *const *const DlTensor, capturing: bool) -> Checked<HostTables> {
        let infos = unsafe { work.model.inputs.get() };
        let given = |k: usize| unsafe { &**inputs.add(k) };
        // what else is wrong with a table is found by the check that follows
        let moved = |k: &usize| {
            let (t, info) = (given(*k), &infos[*k]);
            let there = t.device.kind == CUDA && t.device.id == work.device;
            let indices = t.dtype.code == 0 && (t.dtype.bits == 32 || t.dtype.bits == 64);
            let rank = i64::from(t.ndim);
            let strides = unsafe { slice(t.strides, rank) };
            let in_order = strides.is_empty() || row_major(unsafe { slice(t.shape, rank) }, strides);
            info.element == TABLE && there && indices && rank == info.rank && in_order
        };
        if !(0..infos.len()).any(|k| moved(&k)) {
            return Ok(HostTables { list: inputs, block: null_mut() });
        }
        if capturing {
            let reason = format_args!("tables on the GPU are read by the host, which a graph cannot capture: keep them on the CPU");
            return Err(fail(work.context, INVALID, reason));
        }
        let elements = |t: &DlTensor| (0..t.ndim as usize).map(|d| unsafe { *t.shape.add(d) }).product::<i64>();
        let bytes = |t: &DlTensor| (elements(t) * i64::from(t.dtype.bits) / 8 + 7) & !7;
        let head = infos.len() * (size_of::<*const DlTensor>() + size_of::<DlTensor>());
        let total = head + (0..infos.len()).filter(&moved).map(|k| bytes(given(k)) as usize).sum::<usize>();
        let block = unsafe { system::malloc(total) }.cast::<u8>();
        if block.is_null() {
            return Err(fail(work.context, NO_MEMORY, format_args!("no memory: {total} bytes are needed")));
        }
        let list = block.cast::<*const DlTensor>();
        let tensors = list.wrapping_add(infos.len()).cast::<DlTensor>();
        let (made, mut at) = (HostTables { list: list.cast_const(), block }, block.wrapping_add(head));
        for k in 0..infos.len() {
            let t = given(k);
            unsafe {
                list.add(k).write(t);
                if moved(&k) {
                    let from = t.data.cast::<u8>().wrapping_add(t.byte_offset as usize);
                    let n = elements(t) * i64::from(t.dtype.bits) / 8;
                    if n > 0 {
                        work.driver.copy_to_host(work.context, at, from, n, work.stream)?;
                    }
                    let device = Device { kind: CPU, id: 0 };
                    tensors.add(k).write(DlTensor { data: at.cast(), device, byte_offset: 0, ..*t });
                    list.add(k).write(tensors.add(k));
                    at = at.wrapping_add(bytes(t) as usize);
                }
            }
        }
        unsafe { work.driver.wait(work.context, work.stream)? };
        Ok(made)
    }
}

impl Drop for HostTables {
    fn drop(&mut self) {
        // SAFETY: the block came from `malloc`, or is null.
        unsafe { system::free(self.block.cast()) };
    }
}
