//! A library that gdlc exported, loaded and called safely: checked tensors in, tensors out.
//! In: a path and a model's name. Out: results, or the library's own message. It goes through the C interface like any other host.

use std::ffi::{CStr, c_char, c_void};
use std::path::Path;

use crate::codegen::runtime::{self as abi, Context, DataType, Device, DlTensor, Memory, Model, Size, TensorInfo};
use crate::driver::failure::Failure;
use crate::driver::tensors::{Numbers, Tensor};

/// Where memory begins within a caller's block, `ALIGN` of the runtime's layout.
const FRAME_ALIGN: usize = 64;

/// A loaded library; it stays loaded as long as the process lives.
#[derive(Debug)]
pub struct Loaded {
    _library: libloading::Library,
    model: *const Model,
}

/// A domain's instance with its weights: the memories between bind, prepare and call.
#[derive(Debug)]
pub struct Instance<'l> {
    loaded: &'l Loaded,
    sizes: Vec<i64>,
    memory: [Vec<u8>; 3],
    /// At most so many threads; 0 for all.
    pub threads: u32,
}

/// A tensor as the library sees it, and the numbers it points at.
struct Passed {
    shape: Vec<i64>,
    bytes: Vec<u8>,
    dtype: DataType,
}

impl Loaded {
    /// Loads a library and finds the model called `name` (as in `gdl_<name>_call`).
    pub fn open(path: &Path, name: &str) -> Result<Loaded, Failure> {
        let why = |e: libloading::Error| Failure::call(format!("cannot load {}: {e}", path.display()));
        // SAFETY: libraries made by gdlc run no code when they are loaded; `query` takes nothing and returns its static table.
        unsafe {
            let library = libloading::Library::new(path).map_err(why)?;
            let symbol = format!("gdl_{name}_query");
            let query: libloading::Symbol<'_, unsafe extern "C" fn() -> *const Model> =
                library.get(symbol.as_bytes()).map_err(why)?;
            let model = query();
            if model.is_null() || (*model).version != abi::VERSION {
                return Err(Failure::call(format!("{} was made by another version of gdlc", path.display())));
            }
            Ok(Loaded { _library: library, model })
        }
    }

    fn model(&self) -> &Model {
        // SAFETY: the table is static data of the library, which is never unloaded.
        unsafe { &*self.model }
    }

    /// The names of the model's inputs, weights and outputs, in order.
    pub fn names(&self) -> [Vec<String>; 3] {
        let m = self.model();
        // SAFETY: the table is well formed.
        [&m.inputs, &m.weights, &m.outputs].map(|list| unsafe { list.get() }.iter().map(|t| text(t.name)).collect())
    }

    /// Binds an instance: sizes from the inputs' shapes, index tables checked and kept. Inputs that bind does not need may be left out
    /// as long as the sizes follow from the others.
    pub fn bind(&self, inputs: &[Option<&Tensor>]) -> Result<Instance<'_>, Failure> {
        self.bind_sizes(inputs, |_| None)
    }

    /// As [`Loaded::bind`], with the values of sizes that no input has.
    pub fn bind_sizes(
        &self,
        inputs: &[Option<&Tensor>],
        given: impl Fn(&str) -> Option<usize>,
    ) -> Result<Instance<'_>, Failure> {
        let m = self.model();
        let inputs = self.pass(unsafe { m.inputs.get() }, inputs, "inputs")?;
        let mut context = context(0);
        let (tensors, pointers) = pointers(&inputs);
        let mut sizes = vec![0i64; m.sizes.count as usize];
        let mut memory = [Memory { data: std::ptr::null_mut(), bytes: 0 }; 3];
        // SAFETY: arrays of the lengths that the table names; the tensors live until the end of this function.
        unsafe {
            ok((m.sizes_fn)(&mut context, pointers.as_ptr(), sizes.as_mut_ptr()), &context)?;
            for (size, name) in sizes.iter_mut().zip(m.sizes.get()) {
                if *size < 0 {
                    *size = given(&text(*name)).map_or(*size, |n| n as i64);
                }
            }
            ok((m.memory_fn)(&mut context, sizes.as_ptr(), memory.as_mut_ptr()), &context)?;
            let mut instance =
                Instance { loaded: self, sizes, memory: memory.map(|m| vec![0u8; m.bytes as usize]), threads: 0 };
            let memory = instance.memories();
            ok((m.bind_fn)(&mut context, pointers.as_ptr(), instance.sizes.as_ptr(), memory.as_ptr()), &context)?;
            drop(tensors);
            Ok(instance)
        }
    }

    /// Tensors as the library wants them.
    fn pass(
        &self,
        infos: &[TensorInfo],
        tensors: &[Option<&Tensor>],
        what: &str,
    ) -> Result<Vec<Option<Passed>>, Failure> {
        if infos.len() != tensors.len() {
            return Err(Failure::call(format!("{} {what} are needed, {} were given", infos.len(), tensors.len())));
        }
        let real = self.model().real;
        Ok(infos
            .iter()
            .zip(tensors)
            .map(|(info, t)| t.map(|t| Passed::new(t, info.element == abi::REAL, real)))
            .collect())
    }
}

impl Passed {
    fn new(tensor: &Tensor, real: bool, dtype: u32) -> Passed {
        let shape = tensor.shape.iter().map(|n| *n as i64).collect();
        match (&tensor.numbers, real) {
            (Numbers::Index(x), false) => Passed {
                shape,
                bytes: x.iter().flat_map(|i| i.to_ne_bytes()).collect(),
                dtype: DataType { code: 0, bits: 64, lanes: 1 },
            },
            (Numbers::Real(x), _) => Passed { shape, bytes: narrow(x, dtype), dtype: float(dtype) },
            (Numbers::Index(_), true) => Passed { shape, bytes: narrow(&tensor.reals(), dtype), dtype: float(dtype) },
        }
    }

    fn view(&self) -> DlTensor {
        DlTensor {
            data: self.bytes.as_ptr().cast_mut().cast::<c_void>(),
            device: Device { kind: 1, id: 0 },
            ndim: self.shape.len() as i32,
            dtype: self.dtype,
            shape: self.shape.as_ptr(),
            strides: std::ptr::null(),
            byte_offset: 0,
        }
    }
}

fn float(dtype: u32) -> DataType {
    DataType { code: 2, bits: if dtype == abi::F64 { 64 } else { 32 }, lanes: 1 }
}

fn narrow(x: &[f64], dtype: u32) -> Vec<u8> {
    if dtype == abi::F64 {
        x.iter().flat_map(|x| x.to_ne_bytes()).collect()
    } else {
        x.iter().flat_map(|x| (*x as f32).to_ne_bytes()).collect()
    }
}

fn widen(bytes: &[u8], dtype: u32) -> Vec<f64> {
    if dtype == abi::F64 {
        bytes.as_chunks::<8>().0.iter().map(|b| f64::from_ne_bytes(*b)).collect()
    } else {
        bytes.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_ne_bytes(*b))).collect()
    }
}

/// The tensors of an array, and the array; the first must outlive the second.
fn pointers(passed: &[Option<Passed>]) -> (Vec<Box<DlTensor>>, Vec<*const DlTensor>) {
    let mut tensors = Vec::new();
    let mut all = Vec::new();
    for p in passed {
        match p {
            None => all.push(std::ptr::null()),
            Some(p) => {
                let tensor = Box::new(p.view());
                all.push(&raw const *tensor);
                tensors.push(tensor);
            }
        }
    }
    (tensors, all)
}

fn context(threads: u32) -> Context {
    Context { version: abi::VERSION, threads, parallel_for: None, host: std::ptr::null_mut(), message: [0; 512] }
}

fn ok(status: i32, context: &Context) -> Result<(), Failure> {
    if status == abi::OK {
        return Ok(());
    }
    let message = CStr::from_bytes_until_nul(&context.message).map_or("?".into(), |m| m.to_string_lossy());
    Err(Failure::call(message.into_owned()))
}

fn text(s: *const c_char) -> String {
    // SAFETY: the texts of a table end with a zero byte.
    unsafe { CStr::from_ptr(s) }.to_string_lossy().into_owned()
}

impl Instance<'_> {
    /// The run-time sizes, in the order of the manifest.
    pub fn sizes(&self) -> &[i64] {
        &self.sizes
    }

    /// The bytes of the bound, prepared and workspace memory.
    pub fn bytes(&self) -> [usize; 3] {
        [self.memory[0].len(), self.memory[1].len(), self.memory[2].len()]
    }

    fn memories(&mut self) -> [Memory; 3] {
        let [a, b, c] = &mut self.memory;
        [a, b, c].map(|m| Memory { data: m.as_mut_ptr(), bytes: m.len() as i64 })
    }

    /// Takes the weights, all of them, in order.
    pub fn prepare(&mut self, weights: &[&Tensor]) -> Result<(), Failure> {
        let m = self.loaded.model();
        let weights: Vec<Option<&Tensor>> = weights.iter().map(|t| Some(*t)).collect();
        let passed = self.loaded.pass(unsafe { m.weights.get() }, &weights, "weights")?;
        let (tensors, pointers) = pointers(&passed);
        let (mut context, memory) = (context(self.threads), self.memories());
        // SAFETY: as in `bind`.
        let status = unsafe { (m.prepare_fn)(&mut context, pointers.as_ptr(), memory.as_ptr()) };
        drop(tensors);
        ok(status, &context)
    }

    /// Computes the outputs. Tables may be left out.
    pub fn call(&mut self, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, Failure> {
        self.call_timed(inputs, 1).map(|(outputs, _)| outputs)
    }

    /// Computes the outputs `times` times; the seconds of each call.
    pub fn call_timed(&mut self, inputs: &[Option<&Tensor>], times: usize) -> Result<(Vec<Tensor>, Vec<f64>), Failure> {
        let m = self.loaded.model();
        let passed = self.loaded.pass(unsafe { m.inputs.get() }, inputs, "inputs")?;
        let outputs = self.empty_outputs();
        let (kept, inputs) = pointers(&passed);
        let (kept_too, results) = pointers(&outputs);
        let (mut context, memory) = (context(self.threads), self.memories());
        let mut seconds = Vec::with_capacity(times);
        for _ in 0..times {
            let start = std::time::Instant::now();
            // SAFETY: as in `bind`; the outputs' bytes are only read after the last call.
            let status = unsafe { (m.call_fn)(&mut context, inputs.as_ptr(), results.as_ptr(), memory.as_ptr()) };
            seconds.push(start.elapsed().as_secs_f64());
            ok(status, &context)?;
        }
        drop((kept, kept_too));
        let tensors = outputs.into_iter().flatten().map(|p| {
            let shape = p.shape.iter().map(|n| *n as usize).collect();
            Tensor::real(shape, widen(&p.bytes, m.real))
        });
        Ok((tensors.collect(), seconds))
    }

    /// Runs the kernels of a call one by one, after a call that warms the caches: the seconds of each, in the order of the program.
    pub fn kernel_times(&mut self, inputs: &[Option<&Tensor>]) -> Result<Vec<f64>, Failure> {
        let m = self.loaded.model();
        let passed = self.loaded.pass(unsafe { m.inputs.get() }, inputs, "inputs")?;
        let outputs = self.empty_outputs();
        let (kept, inputs) = pointers(&passed);
        let (kept_too, results) = pointers(&outputs);
        let (mut context, memory) = (context(self.threads), self.memories());
        // SAFETY: as in `bind`. The call checks everything and leaves its frame at the aligned start of the workspace
        // (`runtime::layout`); the kernels then find in it what the call found, all of it still alive.
        unsafe {
            ok((m.call_fn)(&mut context, inputs.as_ptr(), results.as_ptr(), memory.as_ptr()), &context)?;
            let start = memory[2].data;
            let frame = start.add(start.align_offset(FRAME_ALIGN)).cast::<i64>();
            let timed = m.call.get().iter().map(|kernel| {
                let start = std::time::Instant::now();
                kernel(frame);
                start.elapsed().as_secs_f64()
            });
            let seconds = timed.collect();
            drop((kept, kept_too));
            Ok(seconds)
        }
    }

    /// Room for the outputs of a call.
    fn empty_outputs(&self) -> Vec<Option<Passed>> {
        let m = self.loaded.model();
        let one = |info: &TensorInfo| {
            let shape = self.shape(info);
            let count = shape.iter().product::<i64>() as usize;
            let dtype = float(m.real);
            Some(Passed { shape, bytes: vec![0u8; count * usize::from(dtype.bits) / 8], dtype })
        };
        // SAFETY: the table is well formed.
        unsafe { m.outputs.get() }.iter().map(one).collect()
    }

    fn shape(&self, info: &TensorInfo) -> Vec<i64> {
        // SAFETY: the table is well formed.
        let dims: &[Size] =
            if info.rank == 0 { &[] } else { unsafe { std::slice::from_raw_parts(info.dims, info.rank as usize) } };
        let eval = |d: &Size| {
            let n = if d.scale == 0 { 0 } else { self.sizes[d.var as usize] };
            (d.scale * n + d.offset).max(0) / d.divisor
        };
        dims.iter().map(eval).collect()
    }
}
