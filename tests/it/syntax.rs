//! The parser: every program of the language definition reads, every mistake is said well, nothing hangs.

use gdlc::base::diagnostic::Diagnostic;
use gdlc::base::span::SourceMap;
use gdlc::syntax::ast::*;
use gdlc::syntax::parse;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(text: &str) -> (Program, Vec<Diagnostic>) {
    let mut sources = SourceMap::default();
    let id = sources.add("test.gdl", text);
    parse(&sources, id)
}

/// Every `.gdl` file below a folder, in the order of the names.
fn programs(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "gdl") {
                let text = fs::read_to_string(&path).expect("a program is text");
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_program_of_the_project_parses() {
    let mut count = 0;
    for folder in ["tests/programs", "examples", "lib"] {
        for (path, text) in programs(&root().join(folder)) {
            let (program, diagnostics) = read(&text);
            assert!(diagnostics.is_empty(), "{}: {diagnostics:#?}", path.display());
            assert!(!program.items.is_empty(), "{} has no items", path.display());
            count += 1;
        }
    }
    assert!(count >= 12, "only {count} programs were found");
}
