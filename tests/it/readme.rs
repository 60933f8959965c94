//! What the documents say is true: their programs check, and the status table is what the compiler does.

use std::fs;
use std::path::Path;

use gdlc::base::diagnostic::Severity;
use gdlc::base::dtype::Dtype;
use gdlc::base::span::SourceMap;
use gdlc::codegen::{BACKENDS, Target, llvm};
use gdlc::kernel::lower::lower;
use gdlc::sema::LibraryOnly;
use gdlc::{derive, driver, package, rewrite, sema, syntax};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The errors of a program on the way to a derived model, by their codes; nothing where there are none.
fn errors(text: &str) -> Vec<String> {
    let mut sources = SourceMap::default();
    let id = sources.add("readme.gdl", text);
    let (program, mut found) = syntax::parse(&sources, id);
    let (checked, more) = sema::check(&program, &mut sources, &LibraryOnly, &[]);
    found.extend(more);
    if let Some(checked) = &checked {
        for model in &checked.models {
            found.extend(derive::derive(checked, model).err().unwrap_or_default());
        }
    }
    found.iter().filter(|d| d.severity == Severity::Error).map(|d| format!("{} {}", d.code, d.message)).collect()
}

/// Whether the models of a program become a library, by every backend.
fn compiles(text: &str) -> Result<(), String> {
    let wrong = errors(text);
    if !wrong.is_empty() {
        return Err(wrong.join("; "));
    }
    let mut sources = SourceMap::default();
    let id = sources.add("readme.gdl", text);
    let (program, _) = syntax::parse(&sources, id);
    let (checked, _) = sema::check(&program, &mut sources, &LibraryOnly, &[]);
    let checked = checked.ok_or("no program")?;
    for model in &checked.models {
        let derived = derive::derive(&checked, model).map_err(|e| e[0].message.clone())?;
        let (graph, _) = rewrite::optimise(&derived.graph, &rewrite::Options::default());
        let interface = driver::interface::interface(&derived.graph, "status", Dtype::F32, vec![]);
        let program = lower(&graph, "status", Dtype::F32);
        for backend in BACKENDS.iter().copied() {
            package::build(&program, &interface, backend, Target::ANY_X86_64).map_err(|e| e.to_string())?;
        }
        // What the LLVM backend writes, whether LLVM is here or not.
        llvm::module(&program, Target::ANY_X86_64).map_err(|e| e.to_string())?;
        llvm::device_module(&program, None).map_err(|e| e.to_string())?;
    }
    Ok(())
}

#[test]
fn programs_of_the_readme_check() {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let blocks: Vec<&str> = text.split("```gdl\n").skip(1).filter_map(|b| b.split("```").next()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        assert_eq!(errors(block), Vec::<String>::new(), "{block}");
    }
}

/// What the reference shows of changes of domain derives, but for what it says is not derived.
#[test]
fn changes_of_domain_in_the_reference_check() {
    let text = fs::read_to_string(root().join("grammar/README.md")).unwrap();
    let section = text.split("\n## ").find(|s| s.starts_with("13 Change of domain")).unwrap();
    let blocks: Vec<&str> = section.split("```gdl\n").skip(1).filter_map(|b| b.split("```").next()).collect();
    assert_eq!(blocks.len(), 2);
    let derive_layers = |text: &str| errors(&text.replace("layer ", "model "));
    assert_eq!(derive_layers(blocks[0]), Vec::<String>::new());
    assert!(derive_layers(blocks[1]).iter().any(|e| e.contains("E0900") && e.contains("restrict")));
}

#[test]
fn modules_of_the_library_check_alone() {
    let mut seen = 0;
    for entry in fs::read_dir(root().join("lib")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "gdl") || path.file_stem().is_some_and(|s| s == "prelude") {
            continue;
        }
        seen += 1;
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(errors(&text), Vec::<String>::new(), "{}", path.display());
        assert!(text.lines().count() <= 150, "{} is long", path.display());
    }
    assert!(seen >= 4, "the library has modules");
}

#[test]
fn examples_check() {
    for name in ["digits", "lenet", "mpnn", "nequip"] {
        let text = fs::read_to_string(root().join(format!("examples/{name}.gdl"))).unwrap();
        assert_eq!(errors(&text), Vec::<String>::new(), "{name}");
    }
}

/// A row of the status table: the domain, the group, and a model that needs its derivation.
const PROBES: &[(&str, &str, &str)] = &[
    ("grid, 1 axis", "shift", "domain D = grid(n) torus\nmodel M(x: D -> 2): D -> 3 = x |> linear 3 over 5"),
    ("grid, 2 axes", "shift", "domain D = grid(n, n) torus\nmodel M(x: D -> 2): D -> 3 = x |> linear 3 over 3x3"),
    (
        "grid, 2 axes",
        "shift . C4",
        "domain D = grid(n, n) under p4\nmodel M(x: D -> 2): D -> 3 regular = x |> linear 3 regular over 3x3",
    ),
    (
        "grid, 2 axes",
        "shift . D4",
        "domain D = grid(n, n) under p4m\nmodel M(x: D -> 2): D -> 3 regular = x |> linear 3 regular over 3x3",
    ),
    ("grid, 3 axes", "shift", "domain D = grid(n, n, n)\nmodel M(x: D -> 2): D -> 3 = x |> linear 3 over 3x3x3"),
    (
        "grid, 3 axes",
        "shift . O",
        "domain D = grid(n, n, n) under shift . O\nmodel M(x: D -> 1): D -> 1 regular = x |> linear 1 regular over 3x3x3",
    ),
    ("set", "perm", "domain D = set(n)\nmodel M(x: D -> 2): D -> 3 = x |> linear 3 over all"),
    (
        "pairs of a set",
        "perm",
        "domain S = set(n)\ndomain D = S * S\nmodel M(x: D -> 2): D -> 3 = x |> linear 3 over all",
    ),
    ("graph", "perm", "domain D = graph(n, m)\nmodel M(x: D -> 2): D -> 3 = x |> linear 3 over edges"),
    (
        "points in R3",
        "E(3)",
        "domain D = points(n, m) in R3 under E(3)\nmodel M(x: D -> 2, r: D -> position): D -> 2 irreps(0..1) = x |> linear 2 irreps(0..1) over 5.0 at r",
    ),
    (
        "points in R3",
        "SE(3)",
        "domain D = points(n, m) in R3 under SE(3)\nmodel M(x: D -> 2, r: D -> position): D -> 2 irreps(0..1) = x |> linear 2 irreps(0..1) over 5.0 at r",
    ),
    (
        "points in R2",
        "E(2)",
        "domain D = points(n, m) in R2 under E(2)\nmodel M(x: D -> 2, r: D -> position): D -> 2 irreps(0..1) = x |> linear 2 irreps(0..1) over 5.0 at r",
    ),
    ("seq", "shift", "domain D = seq(T)\nmodel M(x: D -> 2): D -> 3 = x |> linear 3 over past(3)"),
    ("seq", "warp", "domain D = seq(T) under warp\nmodel M(x: D -> 2): D -> 3 = x |> recur 3"),
    ("mesh", "SO(2) gauge", "domain D = mesh(v, m)\nmodel M(x: D -> 2): D -> 3 = x |> linear 3 over ring 1"),
    ("sphere", "SO(3)", "domain D = sphere(8)\nmodel M(x: D -> 2): D -> 3 = x |> linear 3 over all"),
    ("icosahedral grid", "C6 gauge", "domain D = ico(2)\nmodel M(x: D -> 2): D -> 3 = x |> linear 3 over ring 1"),
];

fn status() -> String {
    let mut table = String::from("| domain | group | Cranelift | LLVM | CUDA |\n|---|---|---|---|---|\n");
    for (domain, group, program) in PROBES {
        let cell = match compiles(program) {
            Ok(()) => "yes",
            Err(why) if why.contains("E0900") => "not yet",
            Err(why) => panic!("{domain} under {group}: neither compiles nor says that it is not derived yet: {why}"),
        };
        table += &format!("| {domain} | {group} | {cell} | {cell} | {cell} |\n");
    }
    table
}

/// With `GDLC_WRITE_STATUS=1` the table is written instead of compared.
#[test]
fn the_status_table_is_true() {
    let path = root().join("README.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("<!-- status -->\n").expect("the table's beginning");
    let (found, after) = rest.split_once("<!-- /status -->").expect("the table's end");
    let expected = status();
    if std::env::var_os("GDLC_WRITE_STATUS").is_some() {
        fs::write(&path, format!("{before}<!-- status -->\n{expected}<!-- /status -->{after}")).unwrap();
    } else {
        assert_eq!(found, expected, "regenerate with GDLC_WRITE_STATUS=1 cargo test status_table");
    }
}
