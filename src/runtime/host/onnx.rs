//! The entry for ONNX Runtime (`onnxruntime_c_api.h`): a library of custom operators with one, the model. Its domain is `gdl.` and the
//! model's name; its inputs are the inputs, the weights, and each run-time size that follows from no input (int64, one element).

use core::ffi::{c_char, c_int, c_void};
use core::ptr::{null, null_mut};

use super::{ON_CPU, Tensors, context};
use crate::abi::*;
use crate::check::{UNKNOWN, UNNAMED, eval, learn, slice};
use crate::entry::MAX_SIZES;
use crate::message::{Checked, Failed, fail, text};
use crate::system;

/// The version asked for: all that is used here is in it, and later ones keep it.
const API: u32 = 17;
const INVALID_ARGUMENT: c_int = 2;
const MOST_AXES: usize = 16;

type Status = *mut c_void;
type Info = *mut c_void;

#[repr(C)]
pub struct ApiBase {
    api: unsafe extern "C" fn(u32) -> *const Slots,
    version: *const c_void,
}

/// `OrtApi`: functions at fixed places, to which later versions append.
#[repr(C)]
struct Slots([*const c_void; 271]);

/// A function of the table at a place, as its type.
macro_rules! function {
    ($api:expr, $slot:literal, fn($($argument:ty),*) $(-> $result:ty)?) => {
        // SAFETY: the table has a function of this type there.
        unsafe { core::mem::transmute::<*const c_void, unsafe extern "C" fn($($argument),*) $(-> $result)?>((*$api).0[$slot]) }
    };
}

/// `OrtCustomOp` of version 17, and what is ours behind it.
#[repr(C)]
struct Operator {
    version: u32,
    create: *const c_void,
    name: unsafe extern "C" fn(&Operator) -> *const c_char,
    provider: unsafe extern "C" fn(&Operator) -> *const c_char,
    input_type: unsafe extern "C" fn(&Operator, usize) -> c_int,
    input_count: unsafe extern "C" fn(&Operator) -> usize,
    output_type: unsafe extern "C" fn(&Operator, usize) -> c_int,
    output_count: unsafe extern "C" fn(&Operator) -> usize,
    compute: *const c_void,
    destroy: unsafe extern "C" fn(*mut c_void),
    input_characteristic: unsafe extern "C" fn(&Operator, usize) -> c_int,
    output_characteristic: unsafe extern "C" fn(&Operator, usize) -> c_int,
    input_memory: unsafe extern "C" fn(&Operator, usize) -> c_int,
    least_inputs: unsafe extern "C" fn(&Operator) -> c_int,
    inputs_alike: unsafe extern "C" fn(&Operator) -> c_int,
    least_outputs: unsafe extern "C" fn(&Operator) -> c_int,
    outputs_alike: unsafe extern "C" fn(&Operator) -> c_int,
    create_kernel: unsafe extern "C" fn(*mut Operator, *const Slots, *const c_void, *mut *mut c_void) -> Status,
    compute_kernel: unsafe extern "C" fn(*mut c_void, *mut c_void) -> Status,
    infer: unsafe extern "C" fn(&Operator, *mut c_void) -> Status,
    first_version: unsafe extern "C" fn(&Operator) -> c_int,
    last_version: unsafe extern "C" fn(&Operator) -> c_int,
    rest: [*const c_void; 4],
    api: *const Slots,
    model: *const Model,
}

impl Operator {
    fn model(&self) -> &Model {
        // SAFETY: the library's table, which is never unloaded.
        unsafe { &*self.model }
    }

    fn tensors(&self) -> usize {
        (self.model().inputs.count + self.model().weights.count) as usize
    }

    /// The input or the weight at a place.
    fn info(&self, k: usize) -> Option<&TensorInfo> {
        let (inputs, weights) = unsafe { (self.model().inputs.get(), self.model().weights.get()) };
        inputs.iter().chain(weights).nth(k)
    }

    /// The run-time sizes that follow from no input.
    fn given(&self) -> impl Iterator<Item = usize> {
        let inputs = unsafe { self.model().inputs.get() };
        let dims = |info: &TensorInfo| unsafe { slice(info.dims, info.rank) }.iter();
        (0..self.model().sizes.count as usize)
            .filter(move |v| !inputs.iter().flat_map(dims).any(|d| d.scale != 0 && d.var as usize == *v))
    }
}

unsafe extern "C" fn name(op: &Operator) -> *const c_char {
    op.model().name
}

unsafe extern "C" fn provider(_: &Operator) -> *const c_char {
    null()
}

/// ONNX's numbers for types.
fn real(model: &Model) -> c_int {
    if model.real == F64 { 11 } else { 1 }
}

unsafe extern "C" fn input_type(op: &Operator, k: usize) -> c_int {
    const INT64: c_int = 7;
    if op.info(k).is_some_and(|info| info.element == REAL) { real(op.model()) } else { INT64 }
}

unsafe extern "C" fn input_count(op: &Operator) -> usize {
    op.tensors() + op.given().count()
}

unsafe extern "C" fn output_type(op: &Operator, _: usize) -> c_int {
    real(op.model())
}

unsafe extern "C" fn output_count(op: &Operator) -> usize {
    op.model().outputs.count as usize
}

unsafe extern "C" fn zero(_: &Operator, _: usize) -> c_int {
    0
}

unsafe extern "C" fn one(_: &Operator) -> c_int {
    1
}

unsafe extern "C" fn last_version(_: &Operator) -> c_int {
    c_int::MAX
}

unsafe extern "C" fn create_kernel(op: *mut Operator, _: *const Slots, _: *const c_void, kernel: *mut *mut c_void) -> Status {
    unsafe { *kernel = op.cast() };
    null_mut()
}

unsafe extern "C" fn destroy(_: *mut c_void) {}

/// Adds the operator to the options of a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_onnx(options: *mut c_void, base: *const ApiBase, model: *const Model) -> Status {
    let api = unsafe { ((*base).api)(API) };
    if api.is_null() {
        // Older than what is needed; there is no table to make an error with.
        return null_mut();
    }
    let op = unsafe { system::malloc(size_of::<Operator>()) }.cast::<Operator>();
    let mut domain_name = [0u8; 256];
    let own = text(unsafe { (*model).name }).as_bytes();
    if op.is_null() || own.len() + 5 > domain_name.len() {
        return error(api, "the operator has no room".as_ptr().cast());
    }
    domain_name[..4].copy_from_slice(b"gdl.");
    domain_name[4..4 + own.len()].copy_from_slice(own);
    // SAFETY: just made, and kept as long as the library.
    unsafe {
        op.write(Operator {
            version: API,
            create: null(),
            name,
            provider,
            input_type,
            input_count,
            output_type,
            output_count,
            compute: null(),
            destroy,
            input_characteristic: zero,
            output_characteristic: zero,
            input_memory: zero,
            least_inputs: one,
            inputs_alike: one,
            least_outputs: one,
            outputs_alike: one,
            create_kernel,
            compute_kernel: compute,
            infer,
            first_version: one,
            last_version,
            rest: [null(); 4],
            api,
            model,
        });
    }
    let mut domain = null_mut::<c_void>();
    let (create, add) = (function!(api, 26, fn(*const u8, *mut *mut c_void) -> Status), function!(api, 27, fn(*mut c_void, *const Operator) -> Status));
    let add_domain = function!(api, 28, fn(*mut c_void, *mut c_void) -> Status);
    unsafe {
        let failed = create(domain_name.as_ptr(), &mut domain);
        if !failed.is_null() {
            return failed;
        }
        let failed = add(domain, op);
        if failed.is_null() { add_domain(options, domain) } else { failed }
    }
}

fn error(api: *const Slots, message: *const c_char) -> Status {
    let create = function!(api, 0, fn(c_int, *const c_char) -> Status);
    unsafe { create(INVALID_ARGUMENT, message) }
}

/// Shapes of the arguments and outputs while a call lasts.
struct Shapes(*mut i64);

impl Shapes {
    fn new(context: &mut Context, count: usize) -> Checked<Shapes> {
        let room = unsafe { system::malloc(count * MOST_AXES * 8 + 8) }.cast::<i64>();
        if room.is_null() {
            return Err(fail(context, NO_MEMORY, format_args!("no memory for the shapes of {count} tensors")));
        }
        Ok(Shapes(room))
    }

    fn of(&mut self, k: usize, rank: usize) -> &'static mut [i64] {
        // SAFETY: each argument has its own part, which lives while the call lasts.
        unsafe { core::slice::from_raw_parts_mut(self.0.add(k * MOST_AXES), rank) }
    }

    /// The shape that a host tells of an argument.
    fn read(&mut self, context: &mut Context, api: *const Slots, k: usize, info: Info) -> Checked<&'static mut [i64]> {
        let mut rank = 0;
        let count = function!(api, 61, fn(Info, *mut usize) -> Status);
        let dimensions = function!(api, 62, fn(Info, *mut i64, usize) -> Status);
        let failed = unsafe { count(info, &mut rank) };
        if !failed.is_null() || rank > MOST_AXES {
            return Err(fail(context, UNSUPPORTED, format_args!("input {k} has more than {MOST_AXES} axes")));
        }
        let shape = self.of(k, rank);
        unsafe { dimensions(info, shape.as_mut_ptr(), rank) };
        Ok(shape)
    }
}

impl Drop for Shapes {
    fn drop(&mut self) {
        // SAFETY: it came from `malloc`.
        unsafe { system::free(self.0.cast()) };
    }
}

fn dtype(code: c_int) -> DataType {
    let (code, bits) = match code {
        1 => (2, 32),
        6 => (0, 32),
        7 => (0, 64),
        11 => (2, 64),
        _ => (UNNAMED, 0),
    };
    DataType { code, bits, lanes: 1 }
}

unsafe extern "C" fn compute(kernel: *mut c_void, call: *mut c_void) -> Status {
    let op = unsafe { &*kernel.cast::<Operator>() };
    let mut context = context();
    match unsafe { run(&mut context.context, op, call) } {
        Ok(()) => null_mut(),
        Err(Failed(_)) => error(op.api, context.context.message.as_ptr().cast()),
    }
}

unsafe fn run(context: &mut Context, op: &Operator, call: *mut c_void) -> Checked {
    let (api, model) = (op.api, op.model());
    let n_outputs = model.outputs.count as usize;
    let mut shapes = Shapes::new(context, op.tensors() + op.given().count() + n_outputs)?;
    let mut tensors = Tensors::new(context, model)?;
    let input = function!(api, 90, fn(*mut c_void, usize, *mut *const c_void) -> Status);
    let shape_of = function!(api, 65, fn(*const c_void, *mut Info) -> Status);
    let type_of = function!(api, 60, fn(Info, *mut c_int) -> Status);
    let data_of = function!(api, 51, fn(*const c_void, *mut *mut c_void) -> Status);
    let release = function!(api, 99, fn(Info));
    let mut sizes = [UNKNOWN; MAX_SIZES];
    let sizes = &mut sizes[..model.sizes.count as usize];
    let mut given = op.given();
    for k in 0..op.tensors() + op.given().count() {
        let (mut value, mut info, mut code, mut data) = (null(), null_mut(), 0, null_mut());
        let shape = unsafe {
            let failed = !input(call, k, &mut value).is_null() || value.is_null() || !shape_of(value, &mut info).is_null();
            if failed {
                return Err(fail(context, INVALID, format_args!("input {k} of `{}` is missing", text(model.name))));
            }
            type_of(info, &mut code);
            data_of(value, &mut data);
            let shape = shapes.read(context, api, k, info);
            release(info);
            shape?
        };
        if k < op.tensors() {
            tensors.set(k, data, shape, dtype(code), ON_CPU);
        } else if let Some(size) = given.next() {
            if shape.iter().product::<i64>() != 1 {
                let name = text(unsafe { model.sizes.get() }[size]);
                return Err(fail(context, INVALID, format_args!("the size `{name}` is one number")));
            }
            sizes[size] = unsafe { *data.cast::<i64>() };
            if sizes[size] < 0 {
                let (name, n) = (text(unsafe { model.sizes.get() }[size]), sizes[size]);
                return Err(fail(context, INVALID, format_args!("the size `{name}` is {n}")));
            }
        }
    }
    unsafe { learn(context, tensors.inputs(), model.inputs.get(), "input", sizes)? };
    let output = function!(api, 91, fn(*mut c_void, usize, *const i64, usize, *mut *const c_void) -> Status);
    for (k, info) in unsafe { model.outputs.get() }.iter().enumerate() {
        let shape = shapes.of(op.tensors() + op.given().count() + k, (info.rank as usize).min(MOST_AXES));
        for (length, dim) in shape.iter_mut().zip(unsafe { slice(info.dims, info.rank) }) {
            *length = eval(dim, sizes).unwrap_or(0);
        }
        let (mut value, mut data) = (null(), null_mut());
        let failed = unsafe { output(call, k, shape.as_ptr(), shape.len(), &mut value) };
        if !failed.is_null() || value.is_null() {
            return Err(fail(context, NO_MEMORY, format_args!("no memory for the output `{}`", text(info.name))));
        }
        unsafe { data_of(value, &mut data) };
        tensors.set(op.tensors() + k, data, shape, dtype(real(model)), ON_CPU);
    }
    unsafe { tensors.run(context, null()) }
}

/// Shapes of the outputs as far as they follow from what is known of the inputs' when a graph is loaded.
unsafe extern "C" fn infer(op: &Operator, inference: *mut c_void) -> Status {
    let mut context = context();
    match unsafe { inferred(&mut context.context, op, inference) } {
        Ok(()) => null_mut(),
        Err(Failed(_)) => error(op.api, context.context.message.as_ptr().cast()),
    }
}

unsafe fn inferred(context: &mut Context, op: &Operator, inference: *mut c_void) -> Checked {
    let (api, model) = (op.api, op.model());
    let mut shapes = Shapes::new(context, op.tensors() + 1)?;
    let mut tensors = Tensors::new(context, model)?;
    let type_shape = function!(api, 268, fn(*mut c_void, usize, *mut Info) -> Status);
    let n_inputs = model.inputs.count as usize;
    for k in 0..n_inputs {
        let mut info = null_mut();
        let failed = unsafe { !type_shape(inference, k, &mut info).is_null() || info.is_null() };
        if failed {
            return Ok(());
        }
        let shape = shapes.read(context, api, k, info)?;
        tensors.set(k, null_mut(), shape, dtype(unsafe { input_type(op, k) }), ON_CPU);
    }
    let mut sizes = [UNKNOWN; MAX_SIZES];
    let sizes = &mut sizes[..model.sizes.count as usize];
    unsafe { learn(context, tensors.inputs(), model.inputs.get(), "input", sizes)? };
    let create = function!(api, 57, fn(*mut Info) -> Status);
    let set_type = function!(api, 58, fn(Info, c_int) -> Status);
    let set_dimensions = function!(api, 59, fn(Info, *const i64, usize) -> Status);
    let set_shape = function!(api, 270, fn(*mut c_void, usize, Info) -> Status);
    let release = function!(api, 99, fn(Info));
    for (k, output) in unsafe { model.outputs.get() }.iter().enumerate() {
        let shape = shapes.of(op.tensors(), (output.rank as usize).min(MOST_AXES));
        for (length, dim) in shape.iter_mut().zip(unsafe { slice(output.dims, output.rank) }) {
            let known = dim.scale == 0 || sizes[dim.var as usize] != UNKNOWN;
            *length = eval(dim, sizes).filter(|_| known).unwrap_or(UNKNOWN);
        }
        let mut info = null_mut();
        unsafe {
            if create(&mut info).is_null() {
                set_type(info, real(model));
                set_dimensions(info, shape.as_ptr(), shape.len());
                set_shape(inference, k, info);
                release(info);
            }
        }
    }
    Ok(())
}
