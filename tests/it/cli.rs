//! Commands, typed as a user types them.

use std::path::Path;
use std::process::{Command, Output};

use gdlc::driver::tensors::{self, Numbers, Precision, Tensor, Tensors};

fn gdlc(arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Command::new(env!("CARGO_BIN_EXE_gdlc")).args(arguments).current_dir(root).output().expect("gdlc runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const DIGITS: &[&str] = &["run", "examples/digits.gdl", "--input", "examples/data/digits.safetensors"];

#[test]
fn digits_are_classified_alike_in_all_orientations() {
    let output = gdlc(&[DIGITS, &["--weights", "examples/data/digits.weights.safetensors", "--json"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let groups = report["accuracy"].as_array().unwrap();
    assert_eq!(groups.len(), 9);
    for group in groups {
        assert_eq!(group["accuracy"], groups[0]["accuracy"], "{group}");
        assert!(group["accuracy"].as_f64().unwrap() >= 0.92);
        assert!(group["difference"].as_f64().unwrap_or(0.0) < 1e-3, "{group}");
    }
}

/// A process that has loaded a library keeps it when it is built again.
#[test]
fn libraries_are_replaced_and_not_written_over() {
    let folder = std::env::temp_dir().join(format!("gdlc-replaced-{}", std::process::id()));
    let out = folder.to_str().expect("a folder");
    let build = |c: &str| {
        let output = gdlc(&["build", "examples/digits.gdl", "-o", out, "--set", c]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        std::fs::read(folder.join("libdigits.so")).expect("a library")
    };
    let first = build("c=2");
    let mut held = std::fs::File::open(folder.join("libdigits.so")).expect("it is there");
    let second = build("c=3");
    let mut kept = Vec::new();
    std::io::Read::read_to_end(&mut held, &mut kept).expect("it reads");
    let files = std::fs::read_dir(&folder).expect("a folder").count();
    std::fs::remove_dir_all(&folder).expect("it goes");
    assert!(first != second && kept == first);
    assert_eq!(files, 3, "the library, its header and its manifest");
}

/// The dense kernel has a version for each width of vectors, chosen when the library runs: all classify alike, and a processor
/// without the instructions that the rest of the library needs is told which.
#[test]
fn fewer_instructions_give_the_same_classes_or_a_clear_error() {
    let run = |instructions: &str, cpu: &str| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let weights = ["--weights", "examples/data/digits.weights.safetensors", "--json", "--cpu", cpu];
        let mut command = Command::new(env!("CARGO_BIN_EXE_gdlc"));
        command.args(DIGITS).args(weights).current_dir(root).env("GDL_INSTRUCTIONS", instructions);
        command.output().expect("gdlc runs")
    };
    let accuracy = |output: &Output| {
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        report["accuracy"]
            .as_array()
            .unwrap()
            .iter()
            .map(|group| group["accuracy"].as_f64().unwrap())
            .collect::<Vec<_>>()
    };
    let all = accuracy(&run("", "any"));
    assert_eq!(all, accuracy(&run("avx2", "any")));
    assert_eq!(all, accuracy(&run("sse4", "x86-64-v2")));
    let refused = run("sse4", "any");
    assert!(!refused.status.success());
    let said = text(&refused.stderr);
    assert!(said.contains("lacks AVX2") && said.contains("--cpu x86-64-v2"), "{said}");
}

/// Without AVX an instruction reads from memory whole vectors that lie on whole vectors only, and rows of 31 numbers do not.
#[test]
fn rows_between_vectors_are_compared_without_avx() {
    let file = std::env::temp_dir().join(format!("gdlc-greatest-{}.gdl", std::process::id()));
    let program = "domain N = graph(n, m)\nmodel M(x: N -> 31): N -> 31 = {\n  y[i] = max j~i: x[j]\n  y\n}\n";
    std::fs::write(&file, program).expect("it is written");
    let output = gdlc(&["verify", file.to_str().expect("a file"), "--cpu", "x86-64-v2", "--grad", "1"]);
    std::fs::remove_file(&file).expect("it goes");
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn the_same_architecture_under_shift_collapses_when_turned() {
    let weights = ["--weights", "examples/data/lenet.weights.safetensors", "--json"];
    let arguments =
        [&["run", "examples/lenet.gdl", "--input", "examples/data/digits.safetensors"][..], &weights].concat();
    let report: serde_json::Value = serde_json::from_slice(&gdlc(&arguments).stdout).unwrap();
    let accuracy = |k: usize| report["accuracy"][k]["accuracy"].as_f64().unwrap();
    assert!(accuracy(1) > 0.98, "upright");
    assert!((2..9).all(|k| accuracy(k) < 0.6), "turned");
}

#[test]
fn the_blueprint_counts_25_and_200() {
    let output = gdlc(&["derive", "examples/digits.gdl", "--json"]);
    let blueprint: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let dims: Vec<i64> = (0..2).map(|k| blueprint["layers"][k]["hom"][0]["dim"].as_i64().unwrap()).collect();
    assert_eq!(dims, [25, 200]);
}

#[test]
fn mistakes_have_their_status() {
    let missing = gdlc(&["check", "no-such-file.gdl"]);
    assert_eq!(missing.status.code(), Some(2), "{}", text(&missing.stderr));
    assert!(text(&missing.stderr).contains("no-such-file.gdl"));
    let program = gdlc(&["check", "tests/errors/type/schur.gdl"]);
    assert_eq!(program.status.code(), Some(1));
    assert!(text(&program.stderr).contains("E0304"), "{}", text(&program.stderr));
    let option = gdlc(&["build", "examples/digits.gdl", "--arch", "sm_80"]);
    assert_eq!(option.status.code(), Some(2));
    assert!(text(&option.stderr).contains("--target cuda"));
    let setting = gdlc(&["check", "examples/digits.gdl", "--set", "c"]);
    assert_eq!(setting.status.code(), Some(2));
}

#[test]
fn a_wrong_command_line_is_told_as_asked() {
    let output = gdlc(&["check", "examples/digits.gdl", "--json", "--nope"]);
    assert_eq!(output.status.code(), Some(2));
    let told: serde_json::Value = serde_json::from_slice(&output.stderr).expect("one line of JSON");
    assert!(told["message"].as_str().unwrap().contains("--nope"), "{told}");
}

#[test]
fn processors_without_code_are_named() {
    for (cpu, reason) in [("x86-64", "SSE4.2"), ("pentium", "not a processor")] {
        let output = gdlc(&["build", "examples/digits.gdl", "--cpu", cpu]);
        assert_eq!(output.status.code(), Some(2));
        let message = text(&output.stderr);
        assert!(message.contains(cpu) && message.contains(reason) && message.contains("x86-64-v2"), "{message}");
    }
    let output = gdlc(&["run", "examples/digits.gdl", "--input", "none", "--init", "1", "--cpu", "x86-64-v4"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--backend llvm"), "{}", text(&output.stderr));
}

#[cfg(feature = "llvm")]
#[test]
fn gpus_without_code_are_named() {
    let refused = |options: &[&str], words: &[&str]| {
        let output = gdlc(&[&["build", "examples/digits.gdl"], options].concat());
        let message = text(&output.stderr);
        let named = words.iter().all(|word| message.contains(word));
        assert!(output.status.code() == Some(2) && named, "{options:?}: {message}");
    };
    refused(&["--target", "cuda", "--arch", "sm_81"], &["--arch sm_81", "sm_80, sm_86", "later GPUs"]);
    refused(&["--target", "cuda", "--arch", "sm_80,sm_70"], &["--arch sm_70", "sm_75"]);
    refused(&["--target", "cuda", "--arch", "90"], &["--arch 90", "sm_90"]);
    refused(&["--target", "cuda", "--arch", "sm_80,"], &["--arch: a name is missing", "sm_80"]);
    refused(&["--target", "cuda", "--arch", "sm_75", "--products", "bf16"], &["sm_75", "sm_80 and later"]);
    refused(&["--target", "cuda", "--products", "tf32", "--dtype", "f64"], &["f64", "f32"]);
    refused(&["--products", "f16"], &["--target cuda"]);
    refused(&["--arch", "sm_80"], &["--target cuda"]);
    refused(&["--target", "rocm"], &["cuda"]);
}

#[test]
fn a_library_is_for_one_kind_of_processor() {
    let refused = |arguments: &[&str], reason: &str| {
        let output = gdlc(arguments);
        let message = text(&output.stderr);
        assert!(output.status.code() == Some(2) && message.contains(reason), "{arguments:?}: {message}");
    };
    let digits = "examples/digits.gdl";
    refused(&["build", digits, "--cpu", "aarch64,x86-64-v3"], "one kind of processor");
    refused(&["build", digits, "--cpu", "x86-64-v5"], "aarch64 are");
    refused(&["build", digits, "--cpu", "x86-64-v2,x86-64-v3"], "--backend llvm");
    refused(&["emit", "clif", digits, "--cpu", "x86-64-v4"], "128 bits");
    let wide = gdlc(&["emit", "llvm", digits, "--cpu", "x86-64-v4"]);
    assert!(text(&wide.stdout).contains("\"target-cpu\"=\"x86-64-v4\""), "{}", text(&wide.stderr));
    let elsewhere = if cfg!(target_arch = "x86_64") { "aarch64" } else { "x86-64-v3" };
    refused(&["run", digits, "--input", "none", "--init", "1", "--cpu", elsewhere], "gdlc build");
    refused(&["verify", digits, "--cpu", elsewhere], "gdlc build");
    refused(&["bench", digits, "--cpu", elsewhere], "gdlc build");
    let emitted = gdlc(&["emit", "asm", digits, "--cpu", "aarch64"]);
    assert!(text(&emitted.stdout).contains("fmla"), "{}", text(&emitted.stderr));
}

#[test]
fn the_llvm_backend_is_there_or_says_how_to_get_it() {
    let weights = ["--weights", "examples/data/digits.weights.safetensors", "--backend", "llvm"];
    let output = gdlc(&[DIGITS, &weights].concat());
    if cfg!(feature = "llvm") {
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("accuracy orientation 7    0.9694"), "{}", text(&output.stdout));
    } else {
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("--features llvm"), "{}", text(&output.stderr));
    }
}

/// One library for several levels has each kernel once a level, and chooses from the best down.
#[test]
fn several_processors_in_one_library() {
    let all = "x86-64-v3,x86-64-v2,x86-64-v4";
    let output = gdlc(&["emit", "llvm", "examples/digits.gdl", "--cpu", all]);
    let module = text(&output.stdout);
    for level in ["v2", "v3", "v4"] {
        assert!(module.contains(&format!("define internal void @gdl_kernel_0_{level}(ptr %a0)")), "{level}");
    }
    let chosen = module.split("define void @gdl_kernel_0(ptr %a0)").nth(1).expect("the kernel that chooses");
    let place = |level: &str| chosen.find(&format!("@gdl_kernel_0_{level}(")).expect(level);
    assert!(place("v4") < place("v3") && place("v3") < place("v2"), "{}", &chosen[..600]);
}

#[test]
fn llvm_text_needs_no_llvm() {
    let output = gdlc(&["emit", "llvm", "examples/digits.gdl"]);
    let module = text(&output.stdout);
    assert!(output.status.success() && module.contains("define internal void @gdl_kernel_0_v4(ptr %a0)"), "{module}");
}

#[test]
fn wrong_weights_are_named() {
    let output = gdlc(&[DIGITS, &["--weights", "examples/data/lenet.weights.safetensors"]].concat());
    assert_eq!(output.status.code(), Some(2));
    let message = text(&output.stderr);
    assert!(message.contains("linear2.weight") && message.contains("[8, 8, 200]"), "{message}");
    let output = gdlc(&[DIGITS, &["--weights", "examples/data/digits.safetensors"]].concat());
    assert!(text(&output.stderr).contains("linear1.weight"), "{}", text(&output.stderr));
}

#[test]
fn a_new_project_runs_at_once() {
    let folder = std::env::temp_dir().join(format!("gdlc-new-{}", std::process::id()));
    let name = folder.to_string_lossy().into_owned();
    assert!(gdlc(&["new", &name]).status.success());
    let again = gdlc(&["new", &name]);
    let (model, images) = (format!("{name}/model.gdl"), format!("{name}/images.safetensors"));
    let derived = gdlc(&["derive", &model]);
    let ran = gdlc(&["run", &model, "--input", &images, "--init", "1", "--json"]);
    let formatted = gdlc(&["fmt", "--check", &model]);
    let readme = std::fs::read_to_string(folder.join("README.md"));
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(again.status.code(), Some(2), "it exists already");
    assert!(derived.status.success(), "{}", text(&derived.stderr));
    assert!(text(&derived.stdout).contains("kernels a call"), "{}", text(&derived.stdout));
    assert!(formatted.status.success(), "{}", text(&formatted.stderr));
    let report: serde_json::Value = serde_json::from_slice(&ran.stdout).expect("it runs");
    assert_eq!(report["outputs"][0]["shape"], serde_json::json!([4, 10]));
    assert!(readme.unwrap().contains("gdlc run model.gdl"));
}

#[test]
fn every_kernel_is_timed() {
    let output = gdlc(&["bench", "tests/programs/expect/mlp.gdl", "--size", "n=1000", "--calls", "3", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let kernels = report["kernels"].as_array().unwrap();
    assert_eq!(kernels.len(), 2);
    let sum = |key: &str| kernels.iter().map(|k| k[key].as_f64().unwrap()).sum::<f64>();
    // 4 x 5 products and 5 biases and maxima, then 5 x 3 and 3 biases, a point: a product starts from 0 or from its first term.
    let (least, most) =
        (1000.0 * (2 * 20 - 5 + 5 + 5 + 2 * 15 - 3) as f64, 1000.0 * (2 * 20 + 10 + 5 + 2 * 15 + 6) as f64);
    assert!((least..=most).contains(&sum("flops")), "{} operations, {least} to {most}", sum("flops"));
    // Read and written: x, the hidden layer twice, y, and the weights.
    let numbers = 1000 * (4 + 5 + 5 + 3) + (20 + 5 + 15 + 3);
    assert_eq!(sum("bytes"), 4.0 * f64::from(numbers));
    // At the least: x, y and the weights; the hidden layer need not go through memory.
    let floor = 1000 * (4 + 3) + (20 + 5 + 15 + 3);
    assert_eq!(report["least_bytes"], 4.0 * f64::from(floor));
    assert!(kernels.iter().all(|k| k["median_s"].as_f64().unwrap() > 0.0 && k["share"].as_f64().unwrap() > 0.0));
    let shown = text(&gdlc(&["bench", "tests/programs/expect/mlp.gdl", "--calls", "1"]).stdout);
    assert!(shown.contains("share of the ceiling") && shown.contains("a call, 1 thread"), "{shown}");
    assert!(shown.contains("times the floor"), "{shown}");
}

#[test]
fn derivatives_are_timed_as_models() {
    let program = "tests/programs/expect/mlp.gdl";
    let output = gdlc(&["bench", program, "--size", "n=1000", "--calls", "2", "--grad", "1", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = text(&output.stdout);
    let reports: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let flops = |report: &serde_json::Value| report["calls"][0]["flops"].as_f64().unwrap();
    assert_eq!(reports.len(), 3, "the model, its vjp and its jvp: {lines}");
    for derivative in &reports[1..] {
        // each needs the forward pass and as many products again, at least
        assert!(flops(derivative) > 1.8 * flops(&reports[0]), "{lines}");
    }
}

/// With the LLVM backend where it is built in, else the default one against itself.
#[test]
fn backends_are_timed_kernel_by_kernel() {
    let other = if cfg!(feature = "llvm") { "llvm" } else { "cranelift" };
    let arguments = ["bench", "tests/programs/expect/mlp.gdl", "--size", "n=1000", "--calls", "3"];
    let output = gdlc(&[&arguments[..], &["--vs", other, "--json"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for (rows, least) in [("kernels", 2), ("calls", 1)] {
        let rows = report[rows].as_array().unwrap();
        assert!(rows.len() >= least, "{report}");
        for row in rows {
            let (own, other) = (row["median_s"].as_f64().unwrap(), row["other_median_s"].as_f64().unwrap());
            // both do the same thousand rows: neither is a thousand times the other
            assert!(own > 0.0 && other > 0.0 && own < 1e3 * other && other < 1e3 * own, "{row}");
        }
    }
    // one point is of one set, whatever sizes are usual
    let one = gdlc(&["bench", "benches/programs/deepsets.gdl", "--size", "n=1", "--calls", "1", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!(report["sizes"], serde_json::json!(["n=1", "samples=1"]));
    let shown = text(&gdlc(&[&arguments[..], &["--vs", other]].concat()).stdout);
    assert!(shown.matches("the other backend").count() >= 3, "{shown}");
    assert_eq!(gdlc(&[&arguments[..], &["--vs", "nosuch"]].concat()).status.code(), Some(2));
}

#[test]
fn every_stage_can_be_read() {
    let program = "tests/programs/expect/mlp.gdl";
    for (stage, words) in [
        ("ast", "Program"),
        ("blueprint", "dim Hom"),
        ("tensor", "Σ[i]"),
        ("rewritten", "Σ[i]"),
        ("kernel", "kernel "),
        ("clif", "function "),
        ("asm", if cfg!(target_arch = "x86_64") { "vfmadd" } else { "ret" }),
    ] {
        let output = gdlc(&["emit", stage, program]);
        assert!(output.status.success(), "{stage}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains(words), "{stage}: {}", text(&output.stdout));
        let output = gdlc(&["emit", stage, program, "--json"]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["stage"], stage);
        assert!(report["text"].as_str().unwrap().contains(words));
    }
    let output = gdlc(&["emit", "ptx", program, "--arch", "sm_80"]);
    if cfg!(feature = "llvm") {
        assert!(text(&output.stdout).contains(".target sm_80"), "{}", text(&output.stderr));
        let unknown = gdlc(&["emit", "ptx", program, "--arch", "sm_1"]);
        assert_eq!(unknown.status.code(), Some(2));
        assert!(text(&unknown.stderr).contains("sm_75"), "{}", text(&unknown.stderr));
    } else {
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("--features llvm"), "{}", text(&output.stderr));
    }
}

#[test]
fn every_command_speaks_json() {
    let program = "tests/programs/expect/mlp.gdl";
    let folder = std::env::temp_dir().join(format!("gdlc-json-{}", std::process::id()));
    let (out, project) = (folder.join("out"), folder.join("project"));
    let (out, project) = (out.to_string_lossy().into_owned(), project.to_string_lossy().into_owned());
    for arguments in [
        &["check", program][..],
        &["derive", program],
        &["build", program, "-o", &out],
        &["explain", program, "--check"],
        &["fmt", "--check", program],
        &["new", &project],
    ] {
        let output = gdlc(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        for line in text(&output.stdout).lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{arguments:?}: {line}");
        }
        assert!(!output.stdout.is_empty(), "{arguments:?}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
    let output = gdlc(&["check", "no-such.gdl", "--json"]);
    let failure: serde_json::Value = serde_json::from_str(text(&output.stderr).trim()).unwrap();
    assert_eq!(failure["status"], 2);
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let folder = std::env::temp_dir().join(format!("gdlc-bytes-{}", std::process::id()));
    let build = |k: usize| {
        let out = folder.join(k.to_string());
        let output = gdlc(&["build", "examples/digits.gdl", "-o", &out.to_string_lossy()]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        ["libdigits.so", "digits.h", "digits.json"].map(|file| std::fs::read(out.join(file)).unwrap())
    };
    let (first, second) = (build(1), build(2));
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(first == second);
}

#[test]
fn what_derives_is_certified() {
    for file in [
        "examples/lenet.gdl",
        "examples/mpnn.gdl",
        "tests/programs/founding/sets.gdl",
        "tests/programs/founding/gnn.gdl",
        "tests/programs/founding/egnn.gdl",
    ] {
        let output = gdlc(&["verify", file, "--json"]);
        assert!(output.status.success(), "{file}: {}", text(&output.stderr));
        let mut n_checks = 0;
        for line in text(&output.stdout).lines() {
            let report: serde_json::Value = serde_json::from_str(line).unwrap();
            for check in report["checks"].as_array().unwrap() {
                assert_eq!(check["passed"], true, "{file}: {check}");
                n_checks += 1;
            }
        }
        assert!(n_checks >= 8, "{file}: {n_checks} checks");
    }
}

/// The founding integrator, two steps of it: checked, built and certified, in its part of the founding file.
#[test]
fn the_integrator_of_a_learnt_energy_is_certified() {
    let folder = std::env::temp_dir().join(format!("gdlc-orbit-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("orbit.gdl");
    std::fs::write(&file, crate::derive::gradients::orbit()).unwrap();
    let file = file.to_string_lossy();
    let built = gdlc(&["build", &file, "--set", "steps=2", "-o", &folder.to_string_lossy()]);
    let verified = gdlc(&["verify", &file, "--set", "steps=2", "--json"]);
    let library = std::fs::metadata(folder.join("liborbit.so"));
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(built.status.success() && library.is_ok(), "{}", text(&built.stderr));
    assert!(verified.status.success(), "{}{}", text(&verified.stdout), text(&verified.stderr));
    let report: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() >= 8 && checks.iter().all(|c| c["passed"] == true), "{report}");
}

/// Layers people use, small, with first and second derivatives in the library.
#[test]
fn derivatives_in_the_library_are_certified() {
    let folder = std::env::temp_dir().join(format!("gdlc-grad-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("d.gdl");
    let programs = [
        "domain G = graph(n ~ 20000, m ~ 200000)\nmodel M(x: G -> 3, e: G.edges -> 2): G -> 2 = {\n  y[i] = mlp[4](x[i], max j~i: mlp[4](x[i], x[j], e[i,j]))\n  y |> linear 2\n}\n",
        "domain P = grid(n, n) under p4m\nmodel M(x: P -> 1): class(3) = x |> linear 2 regular over 3x3 |> relu |> coarsen 2 |> pool max |> linear class(3)\n",
        "domain A = points(n, m) in R3 under E(3)\nmodel M(z: A -> class(3), r: A -> position) = {\n  f = linear 2 (z)\n  f = f |> linear 2 irreps(0..1) over 5.0 at r |> gate\n  e = f |> linear 1 |> pool sum\n  (e, f = -grad(e, r))\n}\n",
    ];
    // the molecule's forces are derivatives already: its first are second, and its second would be third
    for (program, order) in programs.into_iter().zip(["2", "2", "1"]) {
        std::fs::write(&file, program).unwrap();
        let output = gdlc(&["verify", &file.to_string_lossy(), "--grad", order, "--json"]);
        assert!(output.status.success(), "{program}{}{}", text(&output.stdout), text(&output.stderr));
        let report: serde_json::Value = serde_json::from_str(&text(&output.stdout)).unwrap();
        let checks = report["checks"].as_array().unwrap();
        let claims: Vec<&str> = checks.iter().filter_map(|c| c["claim"].as_str()).collect();
        let ofs = if order == "1" { vec!["derivative 1"] } else { vec!["derivative 2 of vjp", "derivative 2 of jvp"] };
        for of in ofs {
            for claim in [" = central differences", ": reverse = forward", ", forward: compiled = as derived"] {
                assert!(claims.contains(&format!("{of}{claim}").as_str()), "{program}{claims:?}");
            }
        }
        // of the large graph something is worth keeping
        for pass in ["forward", "reverse"] {
            let claim = format!("derivative 1, in two passes, {pass}: compiled = as derived");
            assert!(claims.contains(&claim.as_str()) || !program.contains('~'), "{program}{claims:?}");
        }
        assert_eq!(claims.contains(&"second derivatives are symmetric"), order == "2", "{program}{claims:?}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Points that only tables count, more weights a copy than a small instance has points, gradients that are zero but for rounding
/// (a softmax does not see what all of its scores share), and an argument that is called as the result is.
#[test]
fn certificates_tell_rounding_and_small_instances_from_faults() {
    let folder = std::env::temp_dir().join(format!("gdlc-faint-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("f.gdl");
    let programs = [
        "domain G = graph(n, m)\nmodel M(e: G.edges -> 2): G -> 2 = {\n  z[i] = sum j~i: e[i,j]\n  z\n}\n",
        "domain T = set(n)\nmodel M(x: T -> 1 scalar(9)): T -> 6 = linear 6 (x)\n",
        "domain G = graph(n, m)\nmodel M(h: G -> 2, x: G.edges -> 2): G -> 2 = {\n  z[i] = attend j~i by linear 1 (x[i,j]): linear 2 (x[i,j])\n  z + h\n}\n",
        "domain T = set(n)\nmodel M(x: T -> 2, y: T -> 3): T -> 2 = (x ++ y) |> linear 4 |> relu |> linear 2\n",
    ];
    for program in programs {
        std::fs::write(&file, program).unwrap();
        let output = gdlc(&["verify", &file.to_string_lossy(), "--grad", "1"]);
        assert!(output.status.success(), "{program}{}{}", text(&output.stdout), text(&output.stderr));
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Thousands of relus, of which some turn within any step that is not very short.
#[test]
fn derivatives_with_kinks_are_certified() {
    for program in ["examples/digits.gdl", "benches/programs/mpnn.gdl"] {
        let output = gdlc(&["verify", program, "--grad", "1"]);
        assert!(output.status.success(), "{program}{}{}", text(&output.stdout), text(&output.stderr));
    }
}

#[test]
fn rewriting_is_explained_and_checked() {
    let output = gdlc(&["explain", "examples/digits.gdl", "--check"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("derivations checked"), "{}", text(&output.stdout));
}

#[test]
fn what_is_not_derived_is_refused_by_name() {
    let founding = "tests/programs/founding";
    for (file, names) in [
        ("earth", "sphere"),
        ("surface", "mesh"),
        ("shapes", "sphere"),
        ("sequence", "seq"),
        ("reason", "scan"),
        ("flow", "tangent"),
    ] {
        let output = gdlc(&["check", &format!("{founding}/{file}.gdl")]);
        assert_eq!(output.status.code(), Some(1), "{file}");
        let message = text(&output.stderr);
        assert!(message.contains("E0900") && message.contains(names), "{file}: {message}");
    }
}

#[test]
fn models_never_overwrite_each_other() {
    let folder = std::env::temp_dir().join(format!("gdlc-twice-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("twice.gdl");
    let model = |name: &str| format!("model {name}(x: S -> 2): S -> 2 = x |> linear 2\n");
    std::fs::write(&file, format!("domain S = set(n)\n{}{}", model("Ab"), model("aB"))).unwrap();
    let output = gdlc(&["build", &file.to_string_lossy(), "-o", &folder.to_string_lossy()]);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("libab.so"), "{}", text(&output.stderr));
}

#[test]
fn attention_weights_sum_to_one_however_large_the_scores() {
    let folder = std::env::temp_dir().join(format!("gdlc-softmax-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let program = "domain G = graph(n, m)\nmodel S(x: G -> 3): G -> 3 = {\n  y[i] = attend j~i by dot(x[i], x[j]): x[j]\n  y\n}\n";
    std::fs::write(at("s.gdl"), program).unwrap();
    // Every node has the same signal, so that every weighted mean is that signal.
    let index = |x: Vec<i64>| Tensor { shape: vec![x.len()], numbers: Numbers::Index(x) };
    let inputs = Tensors::from([
        ("x".to_string(), Tensor::real(vec![9, 3], vec![1000.0; 27])),
        ("G.senders".to_string(), index((1..9).collect())),
        ("G.receivers".to_string(), index(vec![0; 8])),
        ("G.index".to_string(), index(vec![0; 9])),
    ]);
    tensors::write(std::path::Path::new(&at("x.safetensors")), &inputs, Precision::Single).unwrap();
    let output =
        gdlc(&["run", &at("s.gdl"), "--input", &at("x.safetensors"), "--init", "1", "-o", &at("y.safetensors")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let found = tensors::read(std::path::Path::new(&at("y.safetensors"))).unwrap()["y"].reals();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(found[..3].iter().all(|y| (y - 1000.0).abs() < 1e-3), "{found:?}");
    assert!(found[3..].iter().all(|y| *y == 0.0), "no senders: 0");
}

/// A file of one sample needs no index, and what a model does not read is said.
#[test]
fn points_without_an_index_are_one_sample() {
    let folder = std::env::temp_dir().join(format!("gdlc-one-sample-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let at = |name: &str| folder.join(name).to_str().unwrap().to_string();
    let model = "domain Nodes = set(n)\nmodel Mean(x: Nodes -> 2): 2 = x |> pool mean\n";
    std::fs::write(at("mean.gdl"), model).unwrap();
    let real = |shape: Vec<usize>, x: &[f64]| Tensor { shape, numbers: Numbers::Real(x.to_vec()) };
    let x = real(vec![3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 9.0]);
    let inputs = Tensors::from([("x".to_string(), x), ("extra".to_string(), real(vec![1], &[0.0]))]);
    tensors::write(std::path::Path::new(&at("x.safetensors")), &inputs, Precision::Single).unwrap();
    let output = gdlc(&["run", &at("mean.gdl"), "--input", &at("x.safetensors"), "--init", "1"]);
    let (said, noted) = (text(&output.stdout), text(&output.stderr));
    assert!(said.contains("3.000000 5.000000"), "{said}");
    assert!(noted.contains("no `Nodes.index`") && noted.contains("`extra`"), "{noted}");
    std::fs::remove_dir_all(folder).unwrap();
}
