//! Checks of a caller's tensors against a model's table: dtype, rank, shape, strides, alignment, device, null;
//! run-time sizes solved from the shapes; indices in range and in order.

use core::fmt::{self, Display, Formatter};

use super::abi::*;
use super::message::{Checked, fail, text};

/// A run-time size that is not known yet.
pub(crate) const UNKNOWN: i64 = -1;
/// Numbers of elements stay below it, so that byte counts cannot overflow.
const LIMIT: i64 = 1 << 56;

/// DLPack's numbers for kinds of types.
const INT: u8 = 0;
const FLOAT: u8 = 2;
/// The kind of a type that DLPack has no number for.
pub(crate) const UNNAMED: u8 = 255;

/// A type as a message calls it.
struct Named(DataType);

impl Display for Named {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let DataType { code, bits, .. } = self.0;
        match code {
            INT => write!(f, "int{bits}"),
            1 => write!(f, "uint{bits}"),
            FLOAT | 7..=17 => write!(f, "float{bits}"),
            4 => write!(f, "bfloat{bits}"),
            5 => write!(f, "complex{bits}"),
            6 => f.write_str("bool"),
            UNNAMED => f.write_str("of another type"),
            other => write!(f, "of DLPack's type {other}"),
        }
    }
}

/// Where a call computes.
pub(crate) fn device(context: &Context) -> Device {
    if context.version != VERSION_CUDA {
        return Device { kind: CPU, id: 0 };
    }
    // SAFETY: a context of this version begins a `CudaContext`.
    unsafe { (*(&raw const *context).cast::<CudaContext>()).device }
}

/// The value of a size, or nothing where it is negative or absurd.
pub(crate) fn eval(size: &Size, sizes: &[i64]) -> Option<i64> {
    let n = if size.scale == 0 { 0 } else { *sizes.get(size.var as usize)? };
    let numerator = size.scale.checked_mul(n)?.checked_add(size.offset)?;
    Some(numerator.max(0) / size.divisor.max(1)).filter(|v| *v < LIMIT)
}

/// The number of elements of a shape.
pub(crate) fn elements(dims: &[Size], sizes: &[i64]) -> Option<i64> {
    let mut n: i64 = 1;
    for d in dims {
        n = n.checked_mul(eval(d, sizes)?).filter(|n| *n < LIMIT)?;
    }
    Some(n)
}

pub(crate) fn bytes_of(dtype: u32) -> i64 {
    if dtype == F64 || dtype == I64 { 8 } else { 4 }
}

/// One argument: the tensor given, what the table says, and how a message calls it.
pub(crate) struct Argument<'a> {
    pub tensor: &'a DlTensor,
    pub info: &'a TensorInfo,
    /// `input`, `weight` or `output`.
    pub role: &'static str,
}

impl<'a> Argument<'a> {
    /// The `k`-th argument of an array, which must be there.
    pub(crate) unsafe fn get(
        context: &mut Context,
        list: *const *const DlTensor,
        infos: &'a [TensorInfo],
        k: usize,
        role: &'static str,
    ) -> Checked<Argument<'a>> {
        let info = &infos[k];
        // SAFETY: a caller's array has an entry for each argument of the table.
        let tensor = if list.is_null() { core::ptr::null() } else { unsafe { *list.add(k) } };
        if tensor.is_null() {
            return Err(fail(context, INVALID, format_args!("{role} {k} `{}` is missing (null)", text(info.name))));
        }
        Ok(Argument { tensor: unsafe { &*tensor }, info, role })
    }

    fn name(&self) -> &'a str {
        text(self.info.name)
    }

    /// Its shape, once the rank is right.
    pub(crate) unsafe fn shape(&self, context: &mut Context) -> Checked<&'a [i64]> {
        let (role, name, rank) = (self.role, self.name(), self.info.rank);
        let t = self.tensor;
        if t.ndim as i64 != rank {
            return Err(fail(context, INVALID, format_args!("{role} `{name}` has {} axes, and needs {rank}", t.ndim)));
        }
        if rank == 0 {
            return Ok(&[]);
        }
        if t.shape.is_null() {
            return Err(fail(context, INVALID, format_args!("{role} `{name}` has no shape (null)")));
        }
        Ok(unsafe { core::slice::from_raw_parts(t.shape, rank as usize) })
    }

    /// All but the indices' values.
    pub(crate) unsafe fn check(&self, context: &mut Context, real: u32, sizes: &[i64]) -> Checked {
        let shape = unsafe { self.shape(context)? };
        let (role, name) = (self.role, self.name());
        let dims = unsafe { slice(self.info.dims, self.info.rank) };
        for (axis, (d, &given)) in dims.iter().zip(shape).enumerate() {
            let want = eval(d, sizes);
            if want != Some(given) {
                let want = want.unwrap_or(UNKNOWN);
                let reason = format_args!("{role} `{name}`: axis {axis} has {given} elements, and needs {want}");
                return Err(fail(context, INVALID, reason));
            }
        }
        self.check_dtype(context, real)?;
        let t = self.tensor;
        self.check_device(context)?;
        if shape.contains(&0) {
            return Ok(());
        }
        unsafe { self.check_strides(context, shape)? };
        if t.data.is_null() {
            return Err(fail(context, INVALID, format_args!("{role} `{name}` has no data (null)")));
        }
        if (self.data() as usize) % (t.dtype.bits as usize / 8) != 0 {
            return Err(fail(context, INVALID, format_args!("{role} `{name}`: its data is misaligned for its dtype")));
        }
        Ok(())
    }

    /// Index tables are read by the host; everything else is where the call computes.
    fn check_device(&self, context: &mut Context) -> Checked {
        let (role, name, given) = (self.role, self.name(), self.tensor.device);
        let want = if self.info.element == TABLE { Device { kind: CPU, id: given.id } } else { device(context) };
        if given.kind == want.kind && (given.kind == CPU || given.id == want.id) {
            return Ok(());
        }
        let reason = match (want.kind, self.info.element, device(context).kind) {
            (CUDA, ..) => {
                let id = want.id;
                let given = (given.kind, given.id);
                return Err(fail(
                    context,
                    INVALID,
                    format_args!("{role} `{name}` is on device {}:{}, and must be on CUDA (2:{id})", given.0, given.1),
                ));
            }
            (_, TABLE, CUDA) => "the CPU (1): tables are read by the host, also for calls on a GPU",
            _ if given.kind == CUDA => "the CPU (1); to compute on a GPU, call with a gdl_cuda_context",
            _ => "the CPU (1)",
        };
        let kind = given.kind;
        Err(fail(context, INVALID, format_args!("{role} `{name}` is on device {kind}, and must be on {reason}")))
    }

    fn check_dtype(&self, context: &mut Context, real: u32) -> Checked {
        let d = self.tensor.dtype;
        let (fits, want) = if self.info.element == REAL {
            let bits = bytes_of(real) as u8 * 8;
            (d.code == FLOAT && d.bits == bits, if bits == 32 { "float32" } else { "float64" })
        } else {
            (d.code == INT && (d.bits == 32 || d.bits == 64), "int32 or int64")
        };
        if fits && d.lanes == 1 {
            return Ok(());
        }
        let (role, name) = (self.role, self.name());
        Err(fail(context, INVALID, format_args!("{role} `{name}` is {}, and needs {want}", Named(d))))
    }

    unsafe fn check_strides(&self, context: &mut Context, shape: &[i64]) -> Checked {
        if self.tensor.strides.is_null() || shape.is_empty() {
            return Ok(());
        }
        let strides = unsafe { slice(self.tensor.strides, shape.len() as i64) };
        let mut want = 1i64;
        for (axis, (&n, &stride)) in shape.iter().zip(strides).enumerate().rev() {
            if n != 1 && stride != want {
                let reason = format_args!(
                    "{} `{}` is not contiguous: axis {axis} has stride {stride}, and needs {want} (row-major)",
                    self.role,
                    self.name()
                );
                return Err(fail(context, INVALID, reason));
            }
            want = want.saturating_mul(n);
        }
        Ok(())
    }

    /// The first element.
    pub(crate) fn data(&self) -> *mut u8 {
        self.tensor.data.cast::<u8>().wrapping_add(self.tensor.byte_offset as usize)
    }

    /// The greatest index, -1 where there is none; the tensor has been checked.
    unsafe fn greatest(&self, sizes: &[i64]) -> i64 {
        let n = elements(unsafe { slice(self.info.dims, self.info.rank) }, sizes).unwrap_or(0) as usize;
        (0..n).map(|e| unsafe { self.index(e) }).fold(-1, i64::max)
    }

    /// An index, of either width.
    unsafe fn index(&self, e: usize) -> i64 {
        let from = self.data();
        unsafe { if self.tensor.dtype.bits == 64 { *from.cast::<i64>().add(e) } else { *from.cast::<i32>().add(e) as i64 } }
    }

    /// Copies checked indices to where the kernels read them, as `dtype`.
    pub(crate) unsafe fn copy_indices(
        &self,
        context: &mut Context,
        sizes: &[i64],
        to: *mut u8,
        dtype: u32,
    ) -> Checked {
        let dims = unsafe { slice(self.info.dims, self.info.rank) };
        let n = elements(dims, sizes).unwrap_or(0);
        let range = eval(&self.info.range, sizes).unwrap_or(0);
        let mut last = i64::MIN;
        for e in 0..n as usize {
            let v = unsafe { self.index(e) };
            if v < 0 || v >= range {
                let reason = format_args!(
                    "{} `{}`: element {e} is {v}, outside 0..{range}",
                    self.role,
                    self.name()
                );
                return Err(fail(context, INVALID, reason));
            }
            if self.info.sorted != 0 && v < last {
                let reason = format_args!(
                    "{} `{}` must not decrease: element {e} is {v}, after {last}",
                    self.role,
                    self.name()
                );
                return Err(fail(context, INVALID, reason));
            }
            last = v;
            if !to.is_null() {
                unsafe {
                    if dtype == I64 { *to.cast::<i64>().add(e) = v } else { *to.cast::<i32>().add(e) = v as i32 }
                }
            }
        }
        Ok(())
    }
}

/// Whether the elements lie row by row.
pub(crate) fn row_major(sizes: &[i64], strides: &[i64]) -> bool {
    let mut want = 1;
    for (n, stride) in sizes.iter().zip(strides).rev() {
        if *n != 1 && *stride != want {
            return sizes.contains(&0);
        }
        want *= n;
    }
    true
}

/// A slice of a table or of a caller's array.
pub(crate) unsafe fn slice<'a, T>(items: *const T, count: i64) -> &'a [T] {
    if count <= 0 || items.is_null() { &[] } else { unsafe { core::slice::from_raw_parts(items, count as usize) } }
}

/// Learns run-time sizes from the shapes of tensors; null entries are passed over. First from axes that are a size itself,
/// then from those that a size can be worked out of.
pub(crate) unsafe fn learn(
    context: &mut Context,
    list: *const *const DlTensor,
    infos: &[TensorInfo],
    role: &'static str,
    sizes: &mut [i64],
) -> Checked {
    let plain = |d: &Size| d.scale == 1 && d.offset == 0 && d.divisor == 1;
    for pass in 0..2 {
        for k in 0..infos.len() {
            if list.is_null() || unsafe { (*list.add(k)).is_null() } {
                continue;
            }
            let argument = unsafe { Argument::get(context, list, infos, k, role)? };
            let shape = unsafe { argument.shape(context)? };
            let dims = unsafe { slice(argument.info.dims, argument.info.rank) };
            for (d, &given) in dims.iter().zip(shape) {
                let open = d.scale != 0 && sizes[d.var as usize] == UNKNOWN;
                if open && given >= 0 && (pass == 1 || plain(d)) {
                    let found = given.checked_mul(d.divisor).and_then(|n| n.checked_sub(d.offset));
                    let numerator = found.filter(|n| n % d.scale == 0);
                    if let Some(n) = numerator.map(|n| n / d.scale).filter(|n| (0..LIMIT).contains(n)) {
                        sizes[d.var as usize] = n;
                    }
                }
            }
        }
    }
    Ok(())
}

/// All inputs are there, as the entry that does everything needs them: a size of one that is missing would be called unknown.
pub(crate) unsafe fn present(context: &mut Context, model: &Model, inputs: *const *const DlTensor) -> Checked {
    let infos = unsafe { model.inputs.get() };
    for k in 0..infos.len() {
        unsafe { Argument::get(context, inputs, infos, k, "input")? };
    }
    Ok(())
}

/// Finds the run-time sizes from the shapes of the inputs, and of the outputs where they are given; those that follow from none
/// stay -1. Where all are known, every input given is checked.
pub(crate) unsafe fn solve(
    context: &mut Context,
    model: &Model,
    inputs: *const *const DlTensor,
    outputs: *const *const DlTensor,
    sizes: &mut [i64],
) -> Checked {
    sizes.fill(UNKNOWN);
    let infos = unsafe { model.inputs.get() };
    unsafe {
        learn(context, inputs, infos, "input", sizes)?;
        learn(context, outputs, model.outputs.get(), "output", sizes)?;
    }
    if sizes.contains(&UNKNOWN) {
        return Ok(());
    }
    for k in 0..infos.len() {
        if !inputs.is_null() && !unsafe { (*inputs.add(k)).is_null() } {
            let argument = unsafe { Argument::get(context, inputs, infos, k, "input")? };
            unsafe { argument.check(context, model.real, sizes)? };
        }
    }
    preconditions(context, model, sizes)
}

/// Whether some input or output has the size.
unsafe fn mentioned(model: &Model, var: usize) -> bool {
    let (inputs, outputs) = unsafe { (model.inputs.get(), model.outputs.get()) };
    let dims = |info: &TensorInfo| unsafe { slice(info.dims, info.rank) }.iter();
    inputs.iter().chain(outputs).flat_map(dims).any(|d| d.scale != 0 && d.var as usize == var)
}

/// Sizes that no tensor has: as many as the tables whose indices they bound name (the samples of a model that keeps its points), else
/// none (the edges of a model that reads none).
pub(crate) unsafe fn size_the_rest(
    context: &mut Context,
    model: &Model,
    inputs: *const *const DlTensor,
    sizes: &mut [i64],
) -> Checked {
    let infos = unsafe { model.inputs.get() };
    for v in 0..sizes.len() {
        if sizes[v] != UNKNOWN || unsafe { mentioned(model, v) } {
            continue;
        }
        let mut n = 0;
        for k in (0..infos.len()).filter(|k| infos[*k].element == TABLE) {
            let range = &infos[k].range;
            if range.var as usize == v && (range.scale, range.offset, range.divisor) == (1, 0, 1) {
                let argument = unsafe { Argument::get(context, inputs, infos, k, "input")? };
                unsafe { argument.check(context, model.real, sizes)? };
                n = n.max(unsafe { argument.greatest(sizes) }.saturating_add(1));
            }
        }
        sizes[v] = n;
    }
    Ok(())
}

/// The sizes are possible, and what the layers need of them holds.
pub(crate) fn preconditions(context: &mut Context, model: &Model, sizes: &[i64]) -> Checked {
    // SAFETY: the tables are well formed.
    let (names, conditions) = unsafe { (model.sizes.get(), model.preconditions.get()) };
    for (v, n) in sizes.iter().enumerate() {
        if *n < 0 {
            let name = text(names[v]);
            let reason = format_args!("the size {name} is {n}: where it does not follow from the inputs, set it before bind");
            return Err(fail(context, INVALID, reason));
        }
    }
    for p in conditions {
        if !eval(&p.size, sizes).is_some_and(|n| n % p.modulus.max(1) == 0) {
            let n = if p.size.scale == 0 { p.size.offset } else { sizes[p.size.var as usize] };
            let reason = format_args!("{} (here {n})", text(p.reason));
            return Err(fail(context, INVALID, reason));
        }
    }
    Ok(())
}
