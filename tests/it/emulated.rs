//! Libraries for AArch64, run on another machine: by qemu, through a program in C (`tests/call.c`). Where one of the tools is not there,
//! or gdlc was built without the runtime for AArch64, such libraries are left out, and the reason is printed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use gdlc::base::dtype::Dtype;
use gdlc::codegen::{BACKENDS, Target};
use gdlc::driver::code::Code;
use gdlc::driver::tensors::{Numbers, Tensor};
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
    let caller = caller().as_ref().expect("only asked where it can be run");
    let folder = library.parent().expect("a folder for the test");
    let (given, written) = (folder.join("given"), folder.join("written"));
    let bytes: Vec<u8> = inputs.iter().chain(weights).flat_map(|t| written_out(t, program.dtype)).collect();
    std::fs::write(&given, bytes).expect("the tensors are written");
    let mut command = Command::new(EMULATOR);
    command.args(["-L", ROOT]).arg(caller).arg(library).arg(&program.name).args([&given, &written]);
    succeeds(command.args(sizes.iter().map(usize::to_string)));
    let bytes = std::fs::read(&written).expect("the outputs are there");
    let mut rest = read(&bytes, program.dtype).into_iter();
    let output = |a: &Argument| {
        let shape: Vec<usize> =
            program.buffers[a.buffer].shape.iter().map(|d| d.eval(|v| sizes[v.0 as usize])).collect();
        let n = shape.iter().product();
        Tensor::real(shape, rest.by_ref().take(n).collect())
    };
    program.outputs.iter().map(output).collect()
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
