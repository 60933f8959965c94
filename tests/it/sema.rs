//! The checker: the founding programs, names of weights, overrides, bounds, and every diagnostic as it is shown.

use std::fs;
use std::path::{Path, PathBuf};

use gdlc::base::diagnostic::{Diagnostic, Severity};
use gdlc::base::render::render;
use gdlc::base::span::SourceMap;
use gdlc::sema::hir::{Op, Program};
use gdlc::sema::{LibraryOnly, Modules, Rational, check, print};
use gdlc::syntax::parse;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn run(
    name: &str,
    text: &str,
    modules: &dyn Modules,
    set: &[(&str, i128)],
) -> (Option<Program>, Vec<Diagnostic>, SourceMap) {
    let mut sources = SourceMap::default();
    let id = sources.add(name, text);
    let (program, mistakes) = parse(&sources, id);
    assert!(mistakes.is_empty(), "{name}: {}", render(&mistakes, &sources));
    let set: Vec<_> = set.iter().map(|(n, v)| (n.to_string(), Rational::integer(*v))).collect();
    let (checked, findings) = check(&program, &mut sources, modules, &set);
    (checked, findings, sources)
}

fn checked(text: &str) -> Program {
    let (program, findings, sources) = run("test.gdl", text, &LibraryOnly, &[]);
    program.unwrap_or_else(|| panic!("{}", render(&findings, &sources)))
}

fn codes(text: &str) -> Vec<&'static str> {
    run("test.gdl", text, &LibraryOnly, &[]).1.iter().map(|d| d.code).collect()
}

fn founding(name: &str) -> String {
    fs::read_to_string(root().join("tests/programs/founding").join(name)).expect("a founding program")
}

/// Prefixes of the weights of a model, in order.
fn weights(program: &Program) -> Vec<String> {
    let names = |op: &Op| match op {
        Op::Linear(l) => Some(l.name.clone()),
        Op::Learn { name, .. }
        | Op::Gate { name }
        | Op::Norm { name }
        | Op::NormAct { name, .. }
        | Op::Bilinear { name, .. } => Some(name.clone()),
        _ => None,
    };
    program
        .models
        .iter()
        .chain(&program.layers)
        .flat_map(|m| m.values.iter().filter_map(|(_, v)| names(&v.op)))
        .collect()
}

#[test]
fn founding_programs_check_or_name_what_is_not_derived() {
    let expected: [(&str, &[&str]); 12] = [
        ("digits.gdl", &[]),
        ("unet.gdl", &[]),
        ("sets.gdl", &[]),
        ("gnn.gdl", &[]),
        ("egnn.gdl", &[]),
        ("nequip.gdl", &[]),
        ("surface.gdl", &["mesh(v, m)"]),
        ("earth.gdl", &["sphere(64)"]),
        ("shapes.gdl", &["sphere(10)"]),
        ("sequence.gdl", &["seq(T)", "seq(S)"]),
        ("reason.gdl", &["scan"]),
        ("flow.gdl", &["ball", "tangent"]),
    ];
    for (name, constructs) in expected {
        let (program, findings, _) = run(name, &founding(name), &LibraryOnly, &[]);
        let errors: Vec<String> = findings
            .iter()
            .filter(|d| d.severity == Severity::Error)
            .map(|d| format!("{} {}", d.code, d.message))
            .collect();
        let wanted: Vec<String> = constructs.iter().map(|c| format!("E0900 not derived yet: {c}")).collect();
        assert_eq!(errors, wanted, "{name}");
        assert_eq!(program.is_some(), constructs.is_empty(), "{name}");
    }
}

#[test]
fn every_module_and_example_checks_alone() {
    let mut count = 0;
    for folder in ["lib", "examples"] {
        for (path, text) in programs(&root().join(folder)) {
            let (program, findings, sources) = run("test.gdl", &text, &LibraryOnly, &[]);
            assert!(program.is_some(), "{}\n{}", path.display(), render(&findings, &sources));
            count += 1;
        }
    }
    assert!(count >= 8, "only {count} programs were found");
}

/// The names and the order are those of `examples/train_digits.py` and `examples/graph_data.py`, which were written before the checker.
#[test]
fn weights_are_named_by_binding_turn_and_ordinal() {
    let example = |name: &str| fs::read_to_string(root().join("examples").join(name)).expect("an example");
    assert_eq!(weights(&checked(&example("digits.gdl"))), ["linear1", "linear2", "linear3"]);
    let karate = weights(&checked(&example("mpnn.gdl")));
    let mut sorted = karate.clone();
    sorted.sort();
    let turns = |k: usize| [format!("h.{k}.mpnn.y.mlp.1"), format!("h.{k}.mpnn.y.mlp2.1")];
    let mut wanted: Vec<String> = (1..=3).flat_map(turns).collect();
    wanted.extend(["h.linear".to_string(), "linear1".to_string()]);
    assert_eq!(sorted, wanted);
}

#[test]
fn a_bound_layer_is_one_instance() {
    let text = "domain A = set(n)\nlayer f(x: A -> a): A -> 4 = linear 4 (x)\n";
    let shared = checked(&format!("{text}model M(x: A -> 4) = {{\n  g = f\n  g(g(x))\n}}\n"));
    assert_eq!(weights(&shared), ["g.f.linear1", "g.f.linear1"]);
    let own = checked(&format!("{text}model M(x: A -> 4) = f(f(x))\n"));
    assert_eq!(weights(&own), ["f2.linear1", "f1.linear1"]);
}

#[test]
fn parameters_are_set_from_outside() {
    let text = founding("digits.gdl");
    let (program, ..) = run("digits.gdl", &text, &LibraryOnly, &[("c", 3)]);
    assert!(print::print(&program.expect("right")).contains("Pixels -> 3 regular"));
    let (program, findings, _) = run("digits.gdl", &text, &LibraryOnly, &[("d", 3)]);
    assert!(program.is_none());
    assert!(findings.iter().any(|d| d.code == "E0201" && d.message.contains('d')), "{findings:?}");
}

#[test]
fn run_time_sizes_leave_preconditions() {
    let program = checked("domain P = grid(n, n) under p4m\nmodel M(x: P -> 1) = x |> coarsen stride 2 |> coarsen 3\n");
    let shown: Vec<String> = program
        .sizes
        .preconditions
        .iter()
        .map(|p| format!("{} mod {}", program.sizes.show(p.size), p.modulus))
        .collect();
    assert_eq!(shown, ["n - 1 mod 2", "(n + 1)/2 mod 3"]);
}

/// A module's layer takes a domain of the same kind under another name and group; a file is found by whoever runs the checker.
#[test]
fn modules_are_used_by_name_and_by_path() {
    let text = "use grid\ndomain Scan = grid(n, n) torus under p4m\nmodel M(x: Scan -> 4 regular) = x |> relu |> linear 4 |> res[4]\n";
    assert!(print::print(&checked(text)).contains("Scan -> 4"));
    struct OneFile;
    impl Modules for OneFile {
        fn load(&self, path: &str) -> Option<String> {
            (path == "mine.gdl").then(|| "layer twice(x: a): a = x + x\n".to_string())
        }
    }
    let text = "use \"mine.gdl\"\ndomain A = set(n)\nmodel M(x: A -> 4) = twice(x)\n";
    let (program, findings, sources) = run("test.gdl", text, &OneFile, &[]);
    assert!(program.is_some(), "{}", render(&findings, &sources));
}

#[test]
fn a_definition_with_two_indices_follows_its_use() {
    let edges = checked(
        "domain G = graph(n, m)\nmodel M(x: G -> 4) = {\n  m[i,j] = x[i] - x[j]\n  y[i] = sum j~i: m[i,j]\n  y\n}\n",
    );
    assert!(print::print(&edges).contains("Pull(Sender)"));
    let pairs =
        checked("domain A = set(n)\nmodel M(x: A -> 4) = {\n  m[i,j] = x[i] - x[j]\n  y[i] = sum j: m[i,j]\n  y\n}\n");
    assert!(print::print(&pairs).contains("Spread(Second)"));
    let softmax = checked("domain A = set(n)\nmodel M(x: A -> 4) = {\n  p[i,j] = softmax j: dot(x[i], x[j])\n  p\n}\n");
    assert!(print::print(&softmax).contains("A * A -> 1"));
}

/// Whatever parses ends in a program or in an error, never in both or in neither.
#[test]
fn every_text_ends_in_a_program_or_an_error() {
    for folder in
        ["tests/programs/founding", "tests/errors/parse", "tests/errors/resolve", "tests/errors/type", "fuzz/corpus"]
    {
        for (path, text) in programs(&root().join(folder)) {
            let mut sources = SourceMap::default();
            let id = sources.add("test.gdl", text);
            let (program, _) = parse(&sources, id);
            let (checked, findings) = check(&program, &mut sources, &LibraryOnly, &[]);
            let wrong = findings.iter().any(|d| d.severity == Severity::Error);
            assert_eq!(checked.is_none(), wrong, "{}", path.display());
        }
    }
}

#[test]
fn work_is_bounded() {
    let set = "domain A = set(n)\n";
    assert_eq!(
        codes(&format!("{set}layer f[c](x: A -> a): A -> a = f[c + 1](x)\nmodel M(x: A -> 2) = f[0](x)\n")),
        ["E0403"]
    );
    assert_eq!(
        codes(&format!("{set}model M(x: A -> 2) = {{\n  repeat 10000: repeat 10000: x = x |> relu\n  x\n}}\n")),
        ["E0403"]
    );
    assert_eq!(
        codes(&format!("{set}model M(x: A -> 2) = x |> linear 99999999999999999999999999999999999999 (x)\n")).len(),
        1
    );
}

/// The source and what the checker says of it, for every program of `tests/errors/{resolve,type}`.
#[test]
fn mistakes_are_said_in_the_words_of_the_mathematics() {
    for stage in ["resolve", "type"] {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(format!("../snapshots/{stage}"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        let found = programs(&root().join("tests/errors").join(stage));
        assert!(found.len() >= 10);
        for (path, text) in found {
            let name = path.file_stem().expect("a program has a name").to_string_lossy().into_owned();
            let (_, findings, sources) = run(&format!("{name}.gdl"), &text, &LibraryOnly, &[]);
            assert!(!findings.is_empty(), "{name} has something to say");
            settings.bind(|| insta::assert_snapshot!(name, render(&findings, &sources)));
        }
    }
}

fn programs(folder: &Path) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(folder).expect("a folder of programs").map(|e| e.expect("an entry").path());
    let mut paths: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "gdl")).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|p| (p.clone(), String::from_utf8_lossy(&fs::read(&p).expect("a file")).into_owned()))
        .collect()
}
