//! What `run` keeps between calls: instances with copies of the tables and weights they were made of, so that it binds and prepares
//! again only where a byte differs. In: a model and a caller's tensors. Out: an instance that nobody else uses, ready for a call.
//!
//! An instance is in a slot or with one caller, never both: threads share none, and after a fork a child lacks those that were in use.
//! On a GPU an instance is of one stream, and keeps what was bound; weights, which only the GPU could compare, are prepared at each call.

use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicI64, AtomicPtr, AtomicUsize, Ordering};

use super::abi::*;
use super::call;
use super::check::{Argument, elements, slice};
use super::layout::{ALIGN, lay_out};
use super::message::{Checked, fail};
use super::system;

/// At most so many instances are kept, of all models of a library.
const SLOTS: usize = 16;
/// Above so many bytes of all instances none is kept.
const MOST: i64 = 1 << 29;

/// The memories of a model and what they were made of.
pub(crate) struct Instance {
    model: *const Model,
    location: Location,
    pub made: Made,
    /// On the CPU the first three, on a GPU the first and the last two.
    pub memory: [Memory; 5],
    /// The sizes, then each table, then each weight, as they were given.
    origin: *mut u8,
    bytes: i64,
    /// What gives the memory on the GPU back.
    pub lent: Option<Lent>,
    /// A graph of a GPU may use it at any time: it stays as it is, for ever.
    pub captured: bool,
}

impl Instance {
    /// Takes memory on a GPU, for what is bound; it counts as memory of the host does.
    pub(crate) fn holds(&mut self, bound: Memory, lent: Lent) {
        self.bytes += bound.bytes;
        BYTES.fetch_add(bound.bytes, Ordering::Relaxed);
        (self.memory[0], self.lent) = (bound, Some(lent));
    }
}

/// Memory on a GPU that an instance holds.
pub(crate) struct Lent {
    pub owner: *mut c_void,
    pub release: unsafe extern "C" fn(owner: *mut c_void),
}

/// Where an instance can be used: on the CPU, or in one CUDA context on one stream.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Location {
    Cpu,
    Gpu { context: u64, stream: usize },
}

/// How far an instance is, or fits what is given.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub(crate) enum Made {
    /// The sizes are the same.
    Sized,
    /// And the tables.
    Bound,
    /// And the weights.
    Prepared,
}

struct Slot {
    /// The model of the instance; a hint, for another thread may just have taken it.
    model: AtomicPtr<Model>,
    instance: AtomicPtr<Instance>,
}

static KEPT: [Slot; SLOTS] =
    [const { Slot { model: AtomicPtr::new(null_mut()), instance: AtomicPtr::new(null_mut()) } }; SLOTS];
/// The slot to be emptied next where all are full.
static OLDEST: AtomicUsize = AtomicUsize::new(0);
/// Bytes of all instances, on GPUs too.
static BYTES: AtomicI64 = AtomicI64::new(0);

/// What an instance is made of.
pub(crate) struct Origin<'a> {
    pub model: &'a Model,
    pub sizes: &'a [i64],
    pub inputs: *const *const DlTensor,
    /// Null on a GPU.
    pub weights: *const *const DlTensor,
    pub location: Location,
}

/// Bytes given, and where an instance keeps a copy of them.
struct Part {
    data: *const u8,
    bytes: usize,
    kept: *mut u8,
}

impl Part {
    fn same(&self) -> bool {
        // SAFETY: both are of that many bytes: the data was checked, the copy is of the same sizes.
        unsafe { slice(self.data, self.bytes as i64) == slice(self.kept, self.bytes as i64) }
    }

    fn keep(&self) {
        // SAFETY: as in `same`; the copy is the instance's own.
        unsafe { core::ptr::copy_nonoverlapping(self.data, self.kept, self.bytes) }
    }
}

impl Origin<'_> {
    /// Binds, prepares and calls, each of the first two where it is not done already.
    pub(crate) unsafe fn run(&self, context: &mut Context, outputs: *const *const DlTensor) -> Checked {
        unsafe {
            self.check(context)?;
            let mut instance = self.take(false);
            if instance.is_null() {
                let [bound, prepared, workspace] = lay_out(context, self.model, self.sizes, None)?;
                instance = self.make(context, [bound, prepared, workspace, 0, 0])?;
            }
            let memory = (*instance).memory.as_ptr();
            let done = self
                .renew(context, &mut *instance)
                .and_then(|()| call::call(context, self.model, self.inputs, outputs, memory));
            put(instance);
            done
        }
    }

    /// The tables and weights can be read.
    pub(crate) unsafe fn check(&self, context: &mut Context) -> Checked {
        let (inputs, weights) = unsafe { (self.model.inputs.get(), self.model.weights.get()) };
        for k in (0..inputs.len()).filter(|k| inputs[*k].element == TABLE) {
            unsafe { Argument::get(context, self.inputs, inputs, k, "input")?.check(context, self.model.real, self.sizes)? };
        }
        for k in 0..if self.weights.is_null() { 0 } else { weights.len() } {
            let argument = unsafe { Argument::get(context, self.weights, weights, k, "weight")? };
            unsafe { argument.check(context, self.model.real, self.sizes)? };
        }
        Ok(())
    }

    /// Each table and then each weight, with what of an instance `kept` they fill; the end of it. A table has room for indices of
    /// 64 bits, and its width is kept beside it.
    unsafe fn parts(&self, kept: *mut u8, mut visit: impl FnMut(Made, Part)) -> *mut u8 {
        let mut at = kept.wrapping_add(self.sizes.len() * 8);
        let (inputs, weights) = unsafe { (self.model.inputs.get(), self.model.weights.get()) };
        let lists = [(inputs, self.inputs, Made::Bound), (weights, self.weights, Made::Prepared)];
        for (infos, list, stage) in lists.into_iter().filter(|(_, list, _)| !list.is_null()) {
            for (k, info) in infos.iter().enumerate() {
                if stage == Made::Bound && info.element != TABLE {
                    continue;
                }
                let tensor = unsafe { &**list.add(k) };
                let n = elements(unsafe { slice(info.dims, info.rank) }, self.sizes).unwrap_or(0) as usize;
                let width = &raw const tensor.dtype.bits;
                visit(stage, Part { data: width, bytes: 1, kept: at });
                let data = tensor.data.cast::<u8>().wrapping_add(tensor.byte_offset as usize);
                let bytes = n * tensor.dtype.bits as usize / 8;
                visit(stage, Part { data, bytes, kept: at.wrapping_add(8) });
                at = at.wrapping_add(8 + n * 8);
            }
        }
        at
    }

    /// How far an instance is for what is given; none where it is of another model or of other sizes.
    unsafe fn fits(&self, instance: &Instance, any_stream: bool) -> Option<Made> {
        let sizes = unsafe { slice(instance.origin.cast::<i64>(), self.sizes.len() as i64) };
        let there = match (instance.location, self.location) {
            (Location::Gpu { context: a, .. }, Location::Gpu { context: b, .. }) if any_stream => a == b,
            (a, b) => a == b,
        };
        if !there || !core::ptr::eq(instance.model, self.model) || sizes != self.sizes {
            return None;
        }
        let mut fits = instance.made;
        let compare = |made, part: Part| {
            if fits >= made && !part.same() {
                fits = if made == Made::Bound { Made::Sized } else { Made::Bound };
            }
        };
        unsafe { self.parts(instance.origin, compare) };
        // what a graph may use is not made anew
        if instance.captured && fits < instance.made { None } else { Some(fits) }
    }

    /// The kept instance that is nearest to what is given, no longer kept; null where none has its sizes. With `any_stream` one of another
    /// stream of the same CUDA context will do.
    pub(crate) unsafe fn take(&self, any_stream: bool) -> *mut Instance {
        let (mut best, mut nearest) = (null_mut(), None);
        for slot in KEPT.iter().filter(|s| core::ptr::eq(s.model.load(Ordering::Relaxed), self.model)) {
            let found = slot.instance.swap(null_mut(), Ordering::Acquire);
            if found.is_null() {
                continue;
            }
            let fits = unsafe { self.fits(&*found, any_stream) };
            if fits > nearest {
                unsafe { put(best) };
                (best, nearest) = (found, fits);
            } else {
                unsafe { put(found) };
            }
            if nearest == Some(Made::Prepared) {
                break;
            }
        }
        if let Some(fits) = nearest {
            // SAFETY: it was found, and is no one else's.
            unsafe { (*best).made = fits };
        }
        best
    }

    /// A new instance of these sizes, with so many bytes of the host in each of its memories.
    pub(crate) unsafe fn make(&self, context: &mut Context, needed: [i64; 5]) -> Checked<*mut Instance> {
        let origin = size_of::<Instance>() as i64;
        let memories = unsafe { self.parts(null_mut(), |_, _| ()) } as i64 + origin;
        let bytes = memories + needed.iter().sum::<i64>() + ALIGN;
        let block = unsafe { system::malloc(bytes as usize) }.cast::<u8>();
        if block.is_null() {
            return Err(fail(context, NO_MEMORY, format_args!("no memory: {bytes} bytes are needed")));
        }
        BYTES.fetch_add(bytes, Ordering::Relaxed);
        let mut at = block.wrapping_add(memories as usize);
        let memory = needed.map(|bytes| {
            let memory = Memory { data: at, bytes };
            at = at.wrapping_add(bytes as usize);
            memory
        });
        let instance = block.cast::<Instance>();
        let origin = block.wrapping_add(origin as usize);
        unsafe {
            let (model, location, made) = (self.model, self.location, Made::Sized);
            instance.write(Instance { model, location, made, memory, origin, bytes, lent: None, captured: false });
            core::ptr::copy_nonoverlapping(self.sizes.as_ptr(), origin.cast::<i64>(), self.sizes.len());
        }
        Ok(instance)
    }

    /// Binds and prepares an instance of these sizes, as far as it is not.
    unsafe fn renew(&self, context: &mut Context, instance: &mut Instance) -> Checked {
        let memory = instance.memory.as_ptr();
        unsafe {
            if instance.made < Made::Bound {
                call::bind(context, self.model, self.inputs, self.sizes.as_ptr(), memory)?;
                self.keep(instance, Made::Bound);
            }
            if instance.made < Made::Prepared {
                call::prepare(context, self.model, self.weights, memory)?;
                self.keep(instance, Made::Prepared);
            }
        }
        Ok(())
    }

    /// The instance remembers what it was bound to, or prepared with.
    pub(crate) unsafe fn keep(&self, instance: &mut Instance, stage: Made) {
        unsafe { self.parts(instance.origin, |made, part| if made == stage { part.keep() }) };
        instance.made = stage;
    }
}

/// Keeps an instance, in place of another where there is no room; frees it where there are too many bytes.
pub(crate) unsafe fn put(instance: *mut Instance) {
    if instance.is_null() {
        return;
    }
    let model = unsafe { (*instance).model.cast_mut() };
    if BYTES.load(Ordering::Relaxed) > MOST {
        return unsafe { free(instance) };
    }
    for slot in &KEPT {
        let free = slot.instance.compare_exchange(null_mut(), instance, Ordering::Release, Ordering::Relaxed);
        if free.is_ok() {
            return slot.model.store(model, Ordering::Relaxed);
        }
    }
    let slot = &KEPT[OLDEST.fetch_add(1, Ordering::Relaxed) % SLOTS];
    let old = slot.instance.swap(instance, Ordering::AcqRel);
    slot.model.store(model, Ordering::Relaxed);
    unsafe { free(old) };
}

/// Frees an instance that is not kept, unless a graph may use it.
pub(crate) unsafe fn free(instance: *mut Instance) {
    let Some(held) = (unsafe { instance.as_ref() }) else { return };
    if !held.captured {
        unsafe {
            if let Some(lent) = &held.lent {
                (lent.release)(lent.owner);
            }
            BYTES.fetch_sub((*instance).bytes, Ordering::Relaxed);
            system::free(instance.cast());
        }
    }
}
