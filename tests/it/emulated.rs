//! Libraries for AArch64, run on another machine: by qemu, through a program in C (`tests/call.c`). Where one of the tools is not there,
//! or gdlc was built without the runtime for AArch64, such libraries are left out, and the reason is printed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use gdlc::base::dtype::Dtype;
use gdlc::codegen::{BACKENDS, Target};
use gdlc::driver::code::Code;
use gdlc::driver::load::Loaded;
use gdlc::driver::tensors::{self, Numbers, Tensor};
use gdlc::kernel::ir::{Argument, Program};

use crate::conformance::{build, relu};

/// Where the cross compiler has the C library that emulated programs load.
pub(crate) const ROOT: &str = "/usr/aarch64-linux-gnu";
pub(crate) const COMPILER: &str = "aarch64-linux-gnu-gcc";
pub(crate) const EMULATOR: &str = "qemu-aarch64";

/// Each backend, for AArch64, where that can be run.
pub(crate) fn codes() -> Vec<Code> {
    match caller() {
        Ok(_) => BACKENDS.iter().map(|backend| Code { backend: *backend, target: Target::Aarch64 }).collect(),
        Err(_) => vec![],
    }
}

/// What a library for AArch64 computes.
pub(crate) fn computed(
    program: &Program,
    library: &Path,
    sizes: &[usize],
    inputs: &[Tensor],
    weights: &[Tensor],
) -> Vec<Tensor> {
    let given = inputs.iter().chain(weights);
    let mut rest = emulated(library, (&program.name, program.dtype), sizes, given).into_iter();
    let output = |a: &Argument| {
        let shape: Vec<usize> =
            program.buffers[a.buffer].shape.iter().map(|d| d.eval(|v| sizes[v.0 as usize])).collect();
        let n = shape.iter().product();
        Tensor::real(shape, rest.by_ref().take(n).collect())
    };
    program.outputs.iter().map(output).collect()
}

/// The numbers of all outputs of a model, given its inputs and then its weights.
fn emulated<'t>(
    library: &Path,
    (model, dtype): (&str, Dtype),
    sizes: &[usize],
    tensors: impl Iterator<Item = &'t Tensor>,
) -> Vec<f64> {
    let caller = caller().as_ref().expect("only asked where it can be run");
    let folder = library.parent().expect("a folder for the test");
    let (given, written) = (folder.join("given"), folder.join("written"));
    let bytes: Vec<u8> = tensors.flat_map(|t| written_out(t, dtype)).collect();
    std::fs::write(&given, bytes).expect("the tensors are written");
    let mut command = Command::new(EMULATOR);
    command.args(["-L", ROOT]).arg(caller).arg(library).arg(model).args([&given, &written]);
    succeeds(command.args(sizes.iter().map(usize::to_string)));
    read(&std::fs::read(&written).expect("the outputs are there"), dtype)
}

/// The example as a user builds it: two digits in eight orientations each, classified alike and as they are labelled, and as here.
#[test]
fn the_digits_example_classifies_in_all_orientations() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = |file: &str| tensors::read(&root.join("examples/data").join(file)).expect("the data of the example");
    let (digits, weights) = (data("digits.safetensors"), data("digits.weights.safetensors"));
    let labels = digits["labels"].indices().expect("labels are whole numbers");
    let each = labels.len() / 8;
    let rows: Vec<usize> = (0..8).flat_map(|turn| [turn * each, turn * each + each / 2]).collect();
    let all = digits["x"].reals();
    let images = rows.iter().flat_map(|row| all[64 * row..64 * (row + 1)].iter().copied()).collect();
    let images = Tensor::real(vec![rows.len(), 8, 8, 1], images);
    for code in codes() {
        let library = |target: &str| {
            let backend = code.backend.name();
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("digits-{backend}-{target}"));
            let mut gdlc = Command::new(env!("CARGO_BIN_EXE_gdlc"));
            gdlc.args(["build", "examples/digits.gdl", "--backend", backend, "--cpu", target]).arg("-o").arg(&folder);
            succeeds(gdlc.current_dir(root));
            folder.join("libdigits.so")
        };
        let here = Loaded::open(&library("any"), "digits").expect("it loads");
        let weights: Vec<&Tensor> = here.names()[1].iter().map(|name| &weights[name]).collect();
        let given = [&images].into_iter().chain(weights.iter().copied());
        let logits = emulated(&library("aarch64"), ("digits", Dtype::F32), &[], given);
        let mut instance = here.bind(&[Some(&images)]).expect("it binds");
        instance.prepare(&weights).expect("it prepares");
        let expected = instance.call(&[Some(&images)]).expect("it runs")[0].reals();
        let most = expected.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).fold(0.0f64, |d, (x, y)| d.max((x - y).abs()));
        assert_eq!(logits.len(), expected.len());
        assert!(distance(&logits, &expected) <= 1e-5 * most, "{logits:?}\n{expected:?}");
        for (k, (row, of_image)) in rows.iter().zip(logits.chunks(10)).enumerate() {
            let class = (0..10).max_by(|a, b| of_image[*a].total_cmp(&of_image[*b])).expect("ten classes");
            assert_eq!(class as i64, labels[*row], "image {row}: {of_image:?}");
            let upright = &logits[10 * (k % 2)..][..10];
            assert!(distance(of_image, upright) <= 1e-4 * most, "image {row}: {of_image:?}\n{upright:?}");
        }
    }
}

/// As `tests/call.c` reads it.
fn written_out(tensor: &Tensor, dtype: Dtype) -> Vec<u8> {
    let (indices, data): (i64, Vec<u8>) = match &tensor.numbers {
        Numbers::Index(x) => (1, x.iter().flat_map(|i| i.to_le_bytes()).collect()),
        Numbers::Real(x) if dtype == Dtype::F64 => (0, x.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Numbers::Real(x) => (0, x.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect()),
    };
    let head = [tensor.shape.len() as i64, indices].into_iter().chain(tensor.shape.iter().map(|n| *n as i64));
    head.flat_map(i64::to_le_bytes).chain(data).collect()
}

fn read(bytes: &[u8], dtype: Dtype) -> Vec<f64> {
    match dtype {
        Dtype::F64 => bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        Dtype::I32 | Dtype::I64 => panic!("outputs are real"),
    }
}

/// The program that calls libraries, compiled once; or why there is none.
fn caller() -> &'static Result<PathBuf, String> {
    static CALLER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    CALLER.get_or_init(|| {
        let made = make_caller();
        if let Err(why) = &made {
            eprintln!("libraries for AArch64 are not run: {why}");
        }
        made
    })
}

/// What PyTorch's dispatcher calls is written in assembly, once for each processor.
#[test]
fn the_entry_of_torch_throws_with_the_stack_as_it_was() {
    let targets = if caller().is_ok() { vec![Target::host(), Target::Aarch64] } else { vec![Target::host()] };
    for target in targets {
        let case = relu(Dtype::F32, 1, 1);
        let library = build(&case.program, &case.interface, Code { target, ..Code::default() }, "torch-entry");
        let program = library.with_file_name("torch_entry");
        let compiler = if target == Target::host() { "cc" } else { COMPILER };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torch_entry.c");
        succeeds(
            Command::new(compiler).args(["-O1", "-Wall", "-Werror"]).arg(source).arg("-o").arg(&program).arg("-ldl"),
        );
        let mut command = if target == Target::host() { Command::new(&program) } else { Command::new(EMULATOR) };
        if target != Target::host() {
            command.args(["-L", ROOT]).arg(&program);
        }
        let output = succeeds(command.arg(&library).arg(&case.program.name));
        let message = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(message.contains("inputs and weights") && message.contains('7'), "{message}");
    }
}

fn make_caller() -> Result<PathBuf, String> {
    for tool in [COMPILER, EMULATOR] {
        Command::new(tool).arg("--version").output().map_err(|e| format!("{tool}: {e}"))?;
    }
    let library = Path::new(ROOT).join("include/stdio.h");
    std::fs::metadata(&library).map_err(|e| format!("{}: {e}", library.display()))?;
    let case = relu(Dtype::F32, 1, 1);
    let code = Code { target: Target::Aarch64, ..Code::default() };
    gdlc::package::build(&case.program, &case.interface, code.backend, code.target).map_err(|e| e.to_string())?;
    let folder = build(&case.program, &case.interface, code, "emulated").with_file_name("");
    let (header, program) = (folder.join("relu.h"), folder.join("call"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/call.c");
    let mut command = Command::new(COMPILER);
    succeeds(
        command
            .args(["-O1", "-Wall", "-Werror", "-include"])
            .arg(header)
            .arg(source)
            .arg("-o")
            .arg(&program)
            .arg("-ldl"),
    );
    Ok(program)
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}
