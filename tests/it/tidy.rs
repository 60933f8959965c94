//! Rules about the source text itself: layers, lengths, module comments, words that must not stay.

use std::fs;
use std::path::{Path, PathBuf};

/// Each layer, with the layers it may name. The order is the reading order.
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("syntax", &["base"]),
    ("math", &["base"]),
    ("symmetry", &["base", "math"]),
    ("domain", &["base", "math", "symmetry"]),
    ("sema", &["base", "syntax", "symmetry", "domain"]),
    ("derive", &["base", "math", "symmetry", "domain", "sema", "tensor"]),
    ("tensor", &["base"]),
    ("rewrite", &["base", "tensor"]),
    ("kernel", &["base", "tensor"]),
    ("codegen", &["base", "kernel"]),
    ("package", &["base", "kernel", "codegen"]),
    (
        "driver",
        &[
            "base", "syntax", "math", "symmetry", "domain", "sema", "derive", "tensor", "rewrite", "kernel", "codegen",
            "package",
        ],
    ),
];

/// Words of group theory that no layer below `derive` may use.
const GROUP_WORDS: &[&str] = &["symmetry", "irrep", "Irrep", "equivarian", "stabiliser", "SO(3)", "O(3)", "p4m"];
const BELOW_DERIVE: &[&str] = &["tensor", "rewrite", "kernel", "codegen", "package"];

#[test]
fn layers_only_look_down() {
    let mut wrong = Vec::new();
    for (layer, allowed) in LAYERS {
        for (path, text) in sources(&root().join("src").join(layer)) {
            for used in crate_paths(&text) {
                let known = LAYERS.iter().any(|(name, _)| *name == used);
                if known && used != *layer && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("{}: `{layer}` must not use `crate::{used}`", path.display()));
                }
            }
            if text.contains("super::super") {
                wrong.push(format!("{}: `super::super` goes round the layers", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_planted_upward_path_is_found() {
    assert_eq!(crate_paths("use crate::{tensor::op, symmetry};\ncrate::kernel::ir"), ["tensor", "symmetry", "kernel"]);
}

#[test]
fn kernel_names_tensors_only_in_lower() {
    for (path, text) in sources(&root().join("src/kernel")) {
        let inside_lower = path.components().any(|c| c.as_os_str().to_string_lossy().starts_with("lower"));
        let names_tensors = crate_paths(&text).iter().any(|used| used == "tensor");
        assert!(inside_lower || !names_tensors, "{}: only `kernel::lower` names tensors", path.display());
    }
}

#[test]
fn no_group_theory_below_derive() {
    let mut wrong = Vec::new();
    for layer in BELOW_DERIVE {
        for (path, text) in sources(&root().join("src").join(layer)) {
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                if let Some(word) = GROUP_WORDS.iter().find(|word| line.contains(**word)) {
                    wrong.push(format!("{}: `{word}` in `{}`", path.display(), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut wrong = Vec::new();
    for folder in ["src", "tests", "build.rs"] {
        for (path, text) in sources(&root().join(folder)) {
            if !text.starts_with("//!") && !text.starts_with("#![doc = include_str!") {
                wrong.push(format!("{}: begin with a `//!` comment", path.display()));
            }
            let n_lines = text.lines().count();
            if n_lines > 800 {
                wrong.push(format!("{}: {n_lines} lines; split it at a concept", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn functions_fit_a_screen() {
    let mut wrong = Vec::new();
    for (path, text) in sources(&root().join("src")) {
        for (name, length) in functions(&text) {
            if length > 100 {
                wrong.push(format!("{}: `{name}` has {length} lines", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_unfinished_is_left() {
    // Written apart, so that this file does not find itself.
    let words =
        [["to", "do!("], ["unimple", "mented!("], ["FIX", "ME"], ["TO", "DO"], ["#[ig", "nore"]].map(|w| w.concat());
    for folder in ["src", "tests"] {
        for (path, text) in sources(&root().join(folder)) {
            for word in &words {
                assert!(!text.contains(word.as_str()), "{}: `{word}`", path.display());
            }
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files at or below a path, with their text, sorted.
fn sources(path: &Path) -> Vec<(PathBuf, String)> {
    if path.is_file() {
        let is_rust = path.extension().is_some_and(|ext| ext == "rs");
        return if is_rust { vec![(path.to_owned(), fs::read_to_string(path).unwrap())] } else { vec![] };
    }
    let Ok(entries) = fs::read_dir(path) else { return vec![] };
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.iter().flat_map(|p| sources(p)).collect()
}

/// The first segments after `crate::`, also inside `use crate::{a, b::c}`.
fn crate_paths(text: &str) -> Vec<String> {
    let mut res = Vec::new();
    for (at, hit) in text.match_indices("crate::") {
        if text[..at].ends_with('$') {
            continue;
        }
        let rest = &text[at + hit.len()..];
        match rest.strip_prefix('{') {
            None => res.push(segment(rest)),
            Some(list) => res.extend(top_level(list)),
        }
    }
    res
}

fn top_level(list: &str) -> Vec<String> {
    let mut res = Vec::new();
    let (mut depth, mut start) = (0, true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            c if start && c.is_alphabetic() => {
                res.push(segment(&list[at..]));
                start = false;
            }
            _ => (),
        }
    }
    res
}

fn segment(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Names and lengths of functions, by the indentation of their closing brace.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut res = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let words: Vec<&str> = trimmed.split_whitespace().take(5).collect();
        let Some(at) = words.iter().position(|w| *w == "fn") else { continue };
        if trimmed.starts_with("//") || at + 1 >= words.len() || line.trim_end().ends_with(';') {
            continue;
        }
        let close = format!("{}}}", &line[..line.len() - trimmed.len()]);
        let end = lines[i..].iter().position(|l| **l == close).unwrap_or(0);
        res.push((segment(words[at + 1]), end + 1));
    }
    res
}
