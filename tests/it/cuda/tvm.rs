//! TVM-FFI's entry on a GPU: `tests/fake_tvm.c` in the place of its library.

use std::ffi::{CStr, c_char, c_void};

use super::abi;
use super::simulated::{Case, Given, Gpu, compiled};
use super::{GAT, GAT_SIZES, count};

#[repr(C)]
struct Any {
    kind: i32,
    padding: u32,
    value: u64,
}

const DL_TENSOR: i32 = 7;

/// A call of the packed function: nothing, or the error that was raised.
fn call(case: &Case, tvm: &libloading::Library, given: &[Vec<Given>; 3]) -> Result<(), String> {
    let mut tensors: Vec<abi::DlTensor> = given.iter().flatten().map(Given::tensor).collect();
    // as PyTorch gives them: strides are written out
    let strides: Vec<Vec<i64>> = given.iter().flatten().map(|g| row_major(&g.shape)).collect();
    tensors.iter_mut().zip(&strides).for_each(|(t, strides)| t.strides = strides.as_ptr());
    let any = |t: &abi::DlTensor| Any { kind: DL_TENSOR, padding: 0, value: (&raw const *t) as u64 };
    let arguments: Vec<Any> = tensors.iter().map(any).collect();
    let mut result = Any { kind: -1, padding: 1, value: 1 };
    // SAFETY: the arguments live during the call, as many as the model has.
    unsafe {
        type Entry = unsafe extern "C" fn(*mut c_void, *const Any, i32, *mut Any) -> i32;
        let symbol = format!("__tvm_ffi_{}", case.program.name);
        let entry = case.library.get::<Entry>(symbol.as_bytes()).expect("the entry");
        if entry(std::ptr::null_mut(), arguments.as_ptr(), arguments.len() as i32, &mut result) == 0 {
            assert_eq!((result.kind, result.padding, result.value), (0, 0, 0), "nothing is returned");
            return Ok(());
        }
        let error = tvm.get::<unsafe extern "C" fn() -> *const c_char>(b"tvm_error").expect("the test's");
        Err(CStr::from_ptr(error()).to_string_lossy().into_owned())
    }
}

fn row_major(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

#[test]
fn calls_of_tvm_are_on_its_stream_in_its_memory() {
    let gpu = Gpu::start();
    let tvm = compiled("fake_tvm.c", "libtvm_ffi.so");
    let live = || unsafe { tvm.get::<unsafe extern "C" fn() -> i64>(b"tvm_live").expect("the test's")() };
    let start = |allocate: *const c_void| unsafe {
        type Start = unsafe extern "C" fn(*const c_void, *const c_void);
        tvm.get::<Start>(b"tvm_start").expect("the test's")(allocate, gpu.address("simulated_free"));
    };
    start(gpu.address("simulated_allocate"));
    let case = Case::new(GAT, &GAT_SIZES, "cuda-tvm");
    for round in 0..3 {
        let given = case.arguments(&gpu, round == 2);
        call(&case, tvm, &given).expect("it runs");
        case.agrees(&gpu, &given[2]);
        let log = gpu.log();
        let asked = ["allocate", "to the GPU", "wait"].map(|word| count(&log, word));
        assert_eq!(asked, [0, usize::from(round == 0), usize::from(round == 2)], "{log:?}");
        assert!(log.iter().filter(|line| line.contains(" on ")).all(|line| line.ends_with("on 7")), "{log:?}");
        assert_eq!(live(), 1, "what bind made is kept");
    }
    let mut wrong = case.arguments(&gpu, false);
    wrong[1][0].device = abi::Device { kind: abi::CPU, id: 0 };
    let why = call(&case, tvm, &wrong).expect_err("it is refused");
    assert!(why.starts_with("ValueError: weight `") && why.contains("must be on CUDA (2:0)"), "{why}");
    start(std::ptr::null());
    let given = case.arguments(&gpu, false);
    call(&case, tvm, &given).expect("it runs");
    case.agrees(&gpu, &given[2]);
    let log = gpu.log();
    assert_eq!(
        (count(&log, "allocate"), count(&log, "wait")),
        (1, 1),
        "without an allocator it is the driver's: {log:?}"
    );
}
