//! Bad input, typed as a user types it: an error with the right status in bounded time and memory, never a panic.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use gdlc::driver::tensors::{self, Numbers, Precision, Tensor, Tensors};

/// Long enough for a debug build on a busy machine, and far below what a runaway takes.
const LIMIT: Duration = Duration::from_secs(60);
/// In kilobytes.
const MEMORY: usize = 4_000_000;

/// A folder of the test's own, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("gdlc-hostile-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs the compiler under a limit of memory; panics where it takes too long or panics itself.
fn gdlc(arguments: &[&str], stdout: Stdio) -> Output {
    let began = Instant::now();
    let line = format!("ulimit -v {MEMORY}; exec \"$0\" \"$@\"");
    let output = Command::new("bash")
        .args(["-c", &line, env!("CARGO_BIN_EXE_gdlc")])
        .args(arguments)
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .expect("bash runs");
    assert!(began.elapsed() < LIMIT, "{arguments:?} took {:?}", began.elapsed());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    output
}

/// The status and what was said on the standard error.
fn outcome(arguments: &[&str]) -> (Option<i32>, String) {
    let output = gdlc(arguments, Stdio::piped());
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn refused(arguments: &[&str], status: i32, words: &str) {
    let (code, said) = outcome(arguments);
    assert_eq!(code, Some(status), "{arguments:?}: {said}");
    assert!(said.contains(words), "{arguments:?} does not say {words:?}: {said}");
}

#[test]
fn programs_that_are_none() {
    let folder = Folder::new("programs");
    let set = "domain S = set(n)\n";
    let deep = format!("{set}model M(x: S -> 2): S -> 2 = {}x{}\n", "(".repeat(20_000), ")".repeat(20_000));
    let model = |body: &str| format!("{set}model M(x: S -> 2): S -> 2 = {body}\n");
    let field = |fibre: &str| {
        format!("{ATOMS}model M(x: A -> {fibre}, r: A -> position): A -> {fibre} = x |> linear {fibre} over 5.0 at r\n")
    };
    let cases: Vec<(String, &str)> = vec![
        (String::new(), "E0003"),
        ("(".repeat(1_000_000), "E0102"),
        (deep, "E0102"),
        (format!("{set}layer f[k](x: S -> 2): S -> 2 = f[k + 1](x)\nmodel M(x: S -> 2): S -> 2 = f[0](x)\n"), "E0403"),
        (model("{\n  y = x\n  repeat 1000000000: y = linear 2 (y)\n  y\n}"), "E0403"),
        (model("x |> linear 2 |> nosuch"), "nosuch"),
        (model("x |> lineer 2"), "did you mean `linear`?"),
        (model("x |> lineer"), "did you mean `linear`?"),
        (format!("{set}layer f(x: S -> 2): S -> 2 = x\nmodel M(x: S -> 2): S -> 2 = f(x, x)\n"), "E0203"),
        ("domain S = set(0)\nmodel M(x: S -> 2): S -> 2 = x |> linear 2\n".into(), "E0401"),
        ("domain P = grid(0, n)\nmodel M(x: P -> 2): P -> 2 = x |> linear 2 over 3x3\n".into(), "E0401"),
        (model("x |> linear 0"), "E0401"),
        (format!("{set}model M(x: S -> 2): S -> 999999999 = x |> linear 999999999\n"), "E0401"),
        (format!("{set}model M(x: S -> 60000): S -> 60000 = x |> linear 60000\n"), "E0403"),
        (format!("{set}model M(x: S -> 1/0): S -> 2 = x |> linear 2\n"), "E0401"),
        (
            format!("{0}{0}", model("x |> linear 2").replacen(set, "", 1)).replacen(
                "model",
                "domain S = set(n)\nmodel",
                1,
            ),
            "E0206",
        ),
        ("domain P = grid(n, n)\nmodel M(x: P -> 1): P -> 1 = x |> linear 1 over 9999x9999\n".into(), "E0314"),
        ("domain P = points(n, m) in R3\nmodel M(x: P -> irreps(0..2000)): P -> 1 = x |> linear 1\n".into(), "E0401"),
        (field("irreps(0..32)"), "E0403"),
        (field("1x21e"), "harmonics of degree 41"),
        (
            format!(
                "{ATOMS}model M(x: A -> 8 irreps(0..32)): A -> 2 irreps(0..32) = bilinear 2 irreps(0..32) (x, x)\n"
            ),
            "E0403",
        ),
    ];
    for (text, code) in cases {
        let file = folder.file("program.gdl", &text);
        refused(&["check", &file], 1, code);
        let (status, said) = outcome(&["check", &file, "--json"]);
        assert_eq!(status, Some(1));
        let first = said.lines().next().expect("a finding");
        assert!(serde_json::from_str::<serde_json::Value>(first).is_ok(), "{first}");
    }
    refused(&["check", &folder.file("binary.gdl", [0x7f, b'E', b'L', b'F', 0xff, 0xfe])], 1, "not a text: byte 4");
    refused(&["check", &folder.0.to_string_lossy()], 2, "cannot read");
    refused(&["check", "/no/such.gdl"], 2, "/no/such.gdl");
}

const ATOMS: &str = "domain A = points(n, m) in R3\n";

/// Representations as large as are admitted: their tables are made in seconds, by a debug build too.
#[test]
fn large_representations_take_bounded_time() {
    let folder = Folder::new("irreps");
    let program = format!(
        "{ATOMS}model F(x: A -> irreps(0..12), r: A -> position): A -> irreps(0..12) = x |> linear irreps(0..12) over 5.0 at r
model B(x: A -> 8 irreps(0..12)): A -> 8 irreps(0..12) = bilinear 8 irreps(0..12) (x, x)\n"
    );
    let (status, said) = outcome(&["check", &folder.file("large.gdl", program)]);
    assert_eq!(status, Some(0), "{said}");
}

const SET: &str = "domain S = set(n)\nmodel M(x: S -> 2): S -> 2 = x |> linear 2\n";
const GRAPH: &str = "domain G = graph(n, m)\nmodel M(x: G -> 2): 2 = {\n  y[i] = sum j~i: x[j]\n  y |> pool sum\n}\n";

/// A header and numbers, as safetensors has them.
fn raw(header: &str, numbers: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.resize(bytes.len() + numbers, 0);
    bytes
}

#[test]
fn files_of_tensors_that_are_none() {
    let folder = Folder::new("tensors");
    let program = folder.file("set.gdl", SET);
    let one = |dtype: &str, shape: &str, bytes: usize| {
        raw(&format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{bytes}]}}}}"#), bytes)
    };
    let good = one("F32", "[3,2]", 24);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "not a safetensors file"),
        (good[..20].to_vec(), "not a safetensors file"),
        (good[..good.len() - 1].to_vec(), "not a safetensors file"),
        ((1u64 << 62).to_le_bytes().to_vec(), "not a safetensors file"),
        (raw("{]", 0), "not a safetensors file"),
        (one("F32", "[9223372036854775807,9223372036854775807]", 8), "not a safetensors file"),
        (one("F16", "[3,2]", 12), "F16"),
        (one("I64", "[3,2]", 48), "`x` holds whole numbers"),
        (one("F32", "[3]", 12), "`x` has shape [3]"),
        (one("F32", "[3,5]", 60), "`x` has shape [3, 5]"),
        (raw(r#"{"z":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 4), "missing inputs: x; the file has: z"),
    ];
    for (bytes, words) in cases {
        let input = folder.file("x.safetensors", bytes);
        refused(&["run", &program, "--input", &input, "--init", "1"], 2, words);
    }
    let input = folder.file("x.safetensors", one("F32", "[3,2]", 24));
    for weights in ["[2,3]", "[4]"] {
        let header = format!(
            r#"{{"linear1.weight":{{"dtype":"F32","shape":{weights},"data_offsets":[0,{0}]}},"linear1.bias":{{"dtype":"F32","shape":[2],"data_offsets":[{0},{1}]}}}}"#,
            if weights == "[4]" { 16 } else { 24 },
            if weights == "[4]" { 24 } else { 32 },
        );
        let file = folder.file("w.safetensors", raw(&header, if weights == "[4]" { 24 } else { 32 }));
        refused(&["run", &program, "--input", &input, "--weights", &file], 2, "weight `linear1.weight` has shape");
    }
    let file = folder.file("w.safetensors", raw("{}", 0));
    refused(&["run", &program, "--input", &input, "--weights", &file], 2, "missing weights: linear1.");
}

fn graph(senders: &[i64], receivers: &[i64], index: &[i64], x: f64) -> Tensors {
    let indices = |x: &[i64]| Tensor { shape: vec![x.len()], numbers: Numbers::Index(x.to_vec()) };
    Tensors::from([
        ("x".to_string(), Tensor::real(vec![index.len(), 2], vec![x; 2 * index.len()])),
        ("G.senders".to_string(), indices(senders)),
        ("G.receivers".to_string(), indices(receivers)),
        ("G.index".to_string(), indices(index)),
    ])
}

#[test]
fn graphs_that_are_none_and_graphs_that_are_small() {
    let folder = Folder::new("graphs");
    let program = folder.file("graph.gdl", GRAPH);
    let run = |tensors: &Tensors| {
        let (input, result) = (folder.0.join("x.safetensors"), folder.0.join("y.safetensors"));
        tensors::write(&input, tensors, Precision::Single).unwrap();
        let (input, result) = (input.to_string_lossy().into_owned(), result.to_string_lossy().into_owned());
        let (status, said) = outcome(&["run", &program, "--input", &input, "--init", "1", "-o", &result]);
        match status {
            Some(0) => Ok(tensors::read(&PathBuf::from(result)).unwrap()["y"].clone()),
            Some(2) => Err(said),
            status => panic!("{status:?}: {said}"),
        }
    };
    let three = [0, 0, 0];
    assert_eq!(run(&graph(&[0, 1], &[1, 2], &three, 1.0)).unwrap().reals(), [2.0, 2.0]);
    assert_eq!(run(&graph(&[], &[], &three, 1.0)).unwrap().reals(), [0.0, 0.0], "an empty sum is zero");
    assert_eq!(run(&graph(&[], &[], &[0], 1.0)).unwrap().shape, [1, 2], "a single point");
    assert_eq!(run(&graph(&[], &[], &[], 1.0)).unwrap().shape, [0, 2], "no point and no sample");
    assert!(run(&graph(&[0, 1], &[1, 2], &three, f64::NAN)).unwrap().reals().iter().all(|y| y.is_nan()));
    for (tensors, words) in [
        (graph(&[0, 9], &[1, 2], &three, 1.0), "`G.senders`: element 1 is 9, outside 0..3"),
        (graph(&[0, -1], &[1, 2], &three, 1.0), "`G.senders`: element 1 is -1, outside 0..3"),
        (graph(&[0, 1], &[2, 1], &three, 1.0), "`G.receivers` must not decrease"),
        (graph(&[0, 1, 2], &[1, 2], &three, 1.0), "`G.receivers` has shape [2]"),
        (graph(&[0, 1], &[1, 2], &[0, 5, 2], 1.0), "`G.index` must not decrease"),
        (graph(&[0, 1], &[1, 2], &[0, 0, 1 << 40], 1.0), "`G.index` has the index 1099511627776"),
    ] {
        let said = run(&tensors).expect_err(words);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn outputs_that_cannot_be_written() {
    let folder = Folder::new("outputs");
    let program = folder.file("graph.gdl", GRAPH);
    let input = folder.0.join("x.safetensors");
    tensors::write(&input, &graph(&[0], &[1], &[0, 0], 1.0), Precision::Single).unwrap();
    let input = input.to_string_lossy().into_owned();
    let run = ["run", &program, "--input", &input, "--init", "1"];
    refused(&[&run[..], &["-o", "/no/such/folder/y"]].concat(), 2, "cannot write /no/such/folder/y");
    refused(&[&run[..], &["-o", "/dev/full"]].concat(), 2, "cannot write /dev/full");
    refused(&["build", &program, "-o", &input], 2, "cannot make");
    refused(&["new", &folder.0.to_string_lossy()], 2, "exists");
    for command in [&run[..], &["check", &program], &["derive", &program], &["emit", "kernel", &program]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has a full disk");
        let output = gdlc(command, Stdio::from(full));
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write the output"), "{command:?}");
    }
}

#[test]
fn calls_that_are_none() {
    let folder = Folder::new("calls");
    let program = folder.file("set.gdl", SET);
    refused(&["check", &program, "--set", "c"], 2, "--set c");
    refused(&["check", &program, "--set", "c=4"], 1, "--set c");
    refused(&["check", &program, "--model", "Nobody"], 2, "no model `Nobody`");
    refused(&["bench", &program, "--size", "n=x"], 2, "--size n=x");
    refused(&["bench", &program, "--size", "q=4"], 2, "no run-time size `q`");
    refused(&["bench", &program, "--size", "n=1000000000000"], 2, "more than");
    refused(&["bench", &program, "--calls", "0"], 2, "--calls 0");
    refused(&["verify", &program, "--grad", "50"], 2, "up to 4");
    refused(&["emit", "llvm", &program, "--arch", "sm_80"], 2, "only `emit ptx`");
    refused(&["emit", "llvm", &program, "--products", "tf32"], 2, "only `emit ptx`");
    refused(&["build", &program, "--products", "bf16"], 2, "--target cuda");
    refused(&["derive", &program, "--products", "fp8"], 2, "possible values: plain, tf32, bf16, f16");
    refused(&["derive", &program, "--products", "f16", "--dtype", "f64"], 2, "--products f16 --dtype f64");
    #[cfg(feature = "llvm")]
    {
        let old = ["build", &program, "--target", "cuda", "--arch", "sm_90,sm_75", "--products", "tf32"];
        refused(&old, 2, "the tensor cores of sm_75");
        refused(&["emit", "ptx", &program, "--arch", "sm_75", "--products", "tf32"], 2, "sm_80 and later");
    }
    refused(&["nosuch"], 2, "nosuch");
}
