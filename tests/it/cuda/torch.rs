//! PyTorch's entry on a GPU: functions in the place of LibTorch's give tensors, an allocator and a current stream.

use std::ffi::{CStr, c_char, c_void};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use super::abi;
use super::simulated::{Case, Given, Gpu};
use super::{GAT, GAT_SIZES, count};

/// What a handle points at.
#[derive(Clone)]
struct Tensor {
    data: *mut c_void,
    sizes: Vec<i64>,
    strides: Vec<i64>,
    dtype: i32,
    device: i32,
    index: i32,
    /// Memory of the allocator, which the last handle gives back.
    owned: bool,
}

/// The driver, for the allocator; the current stream; the guards and handles that are held; what was thrown.
static DRIVER: AtomicUsize = AtomicUsize::new(0);
static GUARDS: AtomicI64 = AtomicI64::new(0);
static HANDLES: AtomicI64 = AtomicI64::new(0);
static THROWN: Mutex<String> = Mutex::new(String::new());
const STREAM: usize = 7;

fn driver<'a>() -> &'a Gpu {
    // SAFETY: it is the driver of the test that runs, for one runs at a time.
    unsafe { &*(DRIVER.load(Ordering::Relaxed) as *const Gpu) }
}

fn handle(tensor: Tensor) -> *mut Tensor {
    HANDLES.fetch_add(1, Ordering::Relaxed);
    Box::into_raw(Box::new(tensor))
}

unsafe extern "C" fn data(t: *mut Tensor, to: *mut *mut c_void) -> i32 {
    unsafe { *to = (*t).data };
    0
}
unsafe extern "C" fn rank(t: *mut Tensor, to: *mut i64) -> i32 {
    unsafe { *to = (&(*t).sizes).len() as i64 };
    0
}
unsafe extern "C" fn sizes(t: *mut Tensor, to: *mut *const i64) -> i32 {
    unsafe { *to = (&(*t).sizes).as_ptr() };
    0
}
unsafe extern "C" fn strides(t: *mut Tensor, to: *mut *const i64) -> i32 {
    unsafe { *to = (&(*t).strides).as_ptr() };
    0
}
unsafe extern "C" fn dtype(t: *mut Tensor, to: *mut i32) -> i32 {
    unsafe { *to = (*t).dtype };
    0
}
unsafe extern "C" fn device(t: *mut Tensor, to: *mut i32) -> i32 {
    unsafe { *to = (*t).device };
    0
}
unsafe extern "C" fn index(t: *mut Tensor, to: *mut i32) -> i32 {
    unsafe { *to = (*t).index };
    0
}
unsafe extern "C" fn empty(
    rank: i64,
    sizes: *const i64,
    strides: *const i64,
    dtype: i32,
    device: i32,
    index: i32,
    to: *mut *mut Tensor,
) -> i32 {
    assert_eq!((device, index), (1, 0), "all is on the GPU");
    assert_eq!(GUARDS.load(Ordering::Relaxed), 1, "its device is the current one");
    let list = |from| unsafe { std::slice::from_raw_parts(from, rank as usize) }.to_vec();
    let (sizes, strides): (Vec<i64>, Vec<i64>) = (list(sizes), list(strides));
    let width = [1, 1, 2, 4, 8, 2, 4, 8][dtype as usize];
    let data = driver().allocate((sizes.iter().product::<i64>() * width) as usize);
    if data.is_null() {
        return 1;
    }
    unsafe { *to = handle(Tensor { data, sizes, strides, dtype, device, index, owned: true }) };
    0
}
unsafe extern "C" fn copy(to: *mut Tensor, from: *mut Tensor, _: i32) -> i32 {
    // a transposed matrix becomes row-major
    let (from, to) = unsafe { (&*from, &*to) };
    let (rows, columns) = (to.sizes[0] as usize, to.sizes[1] as usize);
    let all = driver().read(from.data, 4 * rows * columns);
    let at = |r: usize, c: usize| 4 * (r * from.strides[0] as usize + c * from.strides[1] as usize);
    let turned = (0..rows)
        .flat_map(|r| (0..columns).map(move |c| (r, c)))
        .flat_map(|(r, c)| all[at(r, c)..at(r, c) + 4].to_vec());
    driver().write(to.data, &turned.collect::<Vec<u8>>());
    0
}
unsafe extern "C" fn delete(t: *mut Tensor) -> i32 {
    HANDLES.fetch_sub(1, Ordering::Relaxed);
    let tensor = unsafe { Box::from_raw(t) };
    if tensor.owned {
        driver().free(tensor.data);
    }
    0
}
type List = Vec<u64>;
unsafe extern "C" fn list_size(list: *mut List, to: *mut usize) -> i32 {
    unsafe { *to = (&*list).len() };
    0
}
unsafe extern "C" fn list_get(list: *mut List, k: usize, to: *mut u64) -> i32 {
    let (list, item) = unsafe { ((&*list)[k], &mut *to) };
    // a list of tensors gives a new handle; numbers are small
    *item = if list > 1 << 20 { handle(unsafe { (*(list as *mut Tensor)).clone() }) as u64 } else { list };
    0
}
unsafe extern "C" fn list_delete(list: *mut List) -> i32 {
    drop(unsafe { Box::from_raw(list) });
    0
}
unsafe extern "C" fn list_new(n: usize, to: *mut *mut List) -> i32 {
    unsafe { *to = Box::into_raw(Box::new(List::with_capacity(n))) };
    0
}
unsafe extern "C" fn list_push(list: *mut List, item: u64) -> i32 {
    unsafe { (*list).push(item) };
    0
}
unsafe extern "C" fn check(holds: bool, _: *const c_char, _: *const c_char, _: u32, message: *const c_char) {
    assert!(!holds);
    *THROWN.lock().expect("no test fails with it") = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
}
unsafe extern "C" fn new_guard(index: i32, to: *mut *mut c_void) -> i32 {
    GUARDS.fetch_add(1, Ordering::Relaxed);
    unsafe { *to = 1 as *mut c_void };
    i32::from(index != 0)
}
unsafe extern "C" fn delete_guard(_: *mut c_void) -> i32 {
    GUARDS.fetch_sub(1, Ordering::Relaxed);
    0
}
unsafe extern "C" fn stream(_: i32, to: *mut *mut c_void) -> i32 {
    unsafe { *to = STREAM as *mut c_void };
    0
}

/// A call through the dispatcher's entry: the outputs, or what was thrown.
fn call(case: &Case, given: &[Tensor], has_cuda: bool) -> Result<Vec<Tensor>, String> {
    let cuda = |f: *const c_void| if has_cuda { f } else { std::ptr::null() };
    let functions = Box::leak(Box::new([
        data as *const c_void,
        rank as _,
        sizes as _,
        strides as _,
        dtype as _,
        device as _,
        index as _,
        empty as _,
        copy as _,
        delete as _,
        list_size as _,
        list_get as _,
        list_delete as _,
        list_new as _,
        list_push as _,
        check as _,
        cuda(new_guard as _),
        cuda(delete_guard as _),
        cuda(stream as _),
    ]));
    let name = &case.program.name;
    let tensors: Vec<*mut Tensor> = given.iter().map(|t| handle(Tensor { owned: false, ..t.clone() })).collect();
    let list = |items: List| Box::into_raw(Box::new(items)) as u64;
    let sizes = list(case.sizes.iter().map(|n| *n as u64).collect());
    let wanted = case.program.outputs.len() as u64;
    let mut stack = [list(tensors.iter().map(|t| *t as u64).collect()), sizes, wanted];
    THROWN.lock().expect("no test fails with it").clear();
    // SAFETY: the entries are those of the runtime; the lists are theirs to delete.
    unsafe {
        type Give = unsafe extern "C" fn(*mut c_void);
        let give = case.library.get::<Give>(format!("gdl_{name}_torch_functions").as_bytes()).expect("the entry");
        give(functions.as_mut_ptr().cast());
        type Entry = unsafe extern "C" fn(*mut u64, u64, u64);
        let entry = case.library.get::<Entry>(format!("gdl_{name}_torch").as_bytes()).expect("the entry");
        entry(stack.as_mut_ptr(), 3, 1);
    }
    for tensor in tensors {
        // SAFETY: made above.
        unsafe { delete(tensor) };
    }
    assert_eq!(GUARDS.load(Ordering::Relaxed), 0, "the device of before is current again");
    let thrown = THROWN.lock().expect("no test fails with it").clone();
    if !thrown.is_empty() {
        return Err(thrown);
    }
    let made = unsafe { Box::from_raw(stack[0] as *mut List) };
    Ok(made.iter().map(|t| unsafe { (*(*t as *mut Tensor)).clone() }).collect())
}

fn tensor(given: &Given) -> Tensor {
    let mut strides = vec![1; given.shape.len()];
    for axis in (1..strides.len()).rev() {
        strides[axis - 1] = strides[axis] * given.shape[axis];
    }
    let dtype = if given.dtype.code == 2 { 6 } else { 3 };
    let device = i32::from(given.device.kind == abi::CUDA);
    let index = if device == 1 { given.device.id } else { -1 };
    Tensor { data: given.data, sizes: given.shape.clone(), strides, dtype, device, index, owned: false }
}

/// All inputs and weights as tensors.
fn tensors(given: &[Vec<Given>; 3]) -> Vec<Tensor> {
    given[0].iter().chain(&given[1]).map(tensor).collect()
}

#[test]
fn calls_of_torch_are_on_its_stream_and_in_its_memory() {
    let gpu = Gpu::start();
    DRIVER.store(&raw const gpu as usize, Ordering::Relaxed);
    HANDLES.store(0, Ordering::Relaxed);
    let case = Case::new(GAT, &GAT_SIZES, "cuda-torch");
    for round in 0..3 {
        let given = case.arguments(&gpu, round == 2);
        let live = gpu.live();
        let found = call(&case, &tensors(&given), true).expect("it runs");
        let log = gpu.log();
        assert_eq!([count(&log, "allocate"), count(&log, "to the GPU")], [0, usize::from(round == 0)], "{log:?}");
        let waits = if round == 2 { 1 } else { 0 };
        assert_eq!(count(&log, "wait"), waits, "only for tables that are on the GPU: {log:?}");
        assert!(log.iter().filter(|line| line.contains(" on ")).all(|line| line.ends_with("on 7")), "{log:?}");
        let kept = if round == 0 { 1 } else { 0 };
        assert_eq!(gpu.live() - live, found.len() as i64 + kept, "the outputs, and what bind made");
        assert_eq!(HANDLES.load(Ordering::Relaxed), 1 + found.len() as i64 * (round + 1));
        let outputs: Vec<Given> = found.iter().map(|t| Given::on_gpu(t.data, t.sizes.clone())).collect();
        case.agrees(&gpu, &outputs);
    }
    // not row-major: x transposed
    let given = case.arguments(&gpu, false);
    let mut turned = tensors(&given);
    let x = &mut turned[0];
    let [rows, columns] = x.sizes[..] else { panic!("a matrix") };
    let bytes = gpu.read(x.data, (4 * rows * columns) as usize);
    let at = |r: i64, c: i64| (4 * (r * columns + c)) as usize;
    let by_column = (0..columns)
        .flat_map(|c| (0..rows).map(move |r| (r, c)))
        .flat_map(|(r, c)| bytes[at(r, c)..at(r, c) + 4].to_vec());
    gpu.write(x.data, &by_column.collect::<Vec<u8>>());
    x.strides = vec![1, rows];
    let found = call(&case, &turned, true).expect("it runs");
    let outputs: Vec<Given> = found.iter().map(|t| Given::on_gpu(t.data, t.sizes.clone())).collect();
    case.agrees(&gpu, &outputs);
}

#[test]
fn tensors_on_the_wrong_device_are_named() {
    let gpu = Gpu::start();
    DRIVER.store(&raw const gpu as usize, Ordering::Relaxed);
    let case = Case::new(GAT, &GAT_SIZES, "cuda-torch-wrong");
    let given = case.arguments(&gpu, false);
    assert!(call(&case, &tensors(&given), true).is_ok());
    let n_inputs = given[0].len();
    let weight = &case.program.weights[0].name;
    let refused = |change: &dyn Fn(&mut Vec<Tensor>), has_cuda: bool, words: &[&str]| {
        let mut tensors = tensors(&given);
        change(&mut tensors);
        let live = gpu.live();
        let why = call(&case, &tensors, has_cuda).err().expect("it is refused");
        words.iter().for_each(|word| assert!(why.contains(word), "{why}"));
        assert_eq!(gpu.live(), live, "{why}");
    };
    let on = |device: i32, index: i32| move |t: &mut Tensor| (t.device, t.index) = (device, index);
    refused(
        &|t| on(0, -1)(&mut t[n_inputs]),
        true,
        &[weight, "is on cpu, and `x` on cuda:0: move it with `.to(\"cuda:0\")`"],
    );
    refused(&|t| on(0, -1)(&mut t[0]), true, &["`x` is on cpu", "on cuda:0"]);
    refused(&|t| on(1, 1)(&mut t[n_inputs]), true, &[weight, "is on cuda:1, and `x` on cuda:0"]);
    refused(&|t| on(13, 0)(&mut t[0]), true, &["`x` is on another device"]);
    refused(&|t| t.iter_mut().for_each(|t| t.index = 1), true, &["cuda:1"]);
    refused(&|_| (), false, &["this PyTorch has no CUDA"]);
    refused(&|t| t[0].dtype = 7, true, &["`x` is float64, and needs float32"]);
    let tables_alone = |t: &mut Vec<Tensor>| {
        for (k, t) in t.iter_mut().enumerate() {
            let table = k > 0 && k < n_inputs;
            on(i32::from(table), if table { 0 } else { -1 })(t);
        }
    };
    refused(&tables_alone, true, &["` is on cuda:0, and this call computes on the CPU: move it with `.cpu()`"]);
}
