//! The parser: every program of the language definition reads, every mistake is said well, nothing hangs.

use gdlc::base::diagnostic::Diagnostic;
use gdlc::base::render::{render, to_json};
use gdlc::base::span::SourceMap;
use gdlc::syntax::ast::*;
use gdlc::syntax::{format, parse};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(text: &str) -> (Program, Vec<Diagnostic>) {
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
                let text = String::from_utf8_lossy(&fs::read(&path).expect("readable")).into_owned();
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

/// The source and what the parser says of it, for every program of a folder that must not parse.
#[test]
fn mistakes_are_said_well() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots/parse");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let found = programs(&root().join("tests/errors/parse"));
    assert!(found.len() >= 10);
    for (path, text) in found {
        let name = path.file_stem().expect("a program has a name").to_string_lossy().into_owned();
        let mut sources = SourceMap::default();
        let id = sources.add(format!("{name}.gdl"), text.as_str());
        let (_, diagnostics) = parse(&sources, id);
        assert!(!diagnostics.is_empty() || text.is_empty(), "{name} has a mistake");
        let shown = format!("{}\n-----\n{}", text.escape_unprintable(), render(&diagnostics, &sources));
        settings.bind(|| insta::assert_snapshot!(name, shown));
    }
}

trait EscapeUnprintable {
    fn escape_unprintable(&self) -> String;
}

impl EscapeUnprintable for String {
    /// The text with control characters written out, so that a snapshot is a text file.
    fn escape_unprintable(&self) -> String {
        let plain = |c: char| c == '\n' || !c.is_control();
        self.chars().map(|c| if plain(c) { c.to_string() } else { c.escape_default().to_string() }).collect()
    }
}

fn on_small_stack<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(f);
    thread.expect("a thread starts").join().expect("no panic")
}

/// Reads what a hostile author may send, on a small stack, and says how long the slowest took.
fn survives(name: &str, text: &str) {
    let text = text.to_string();
    let start = std::time::Instant::now();
    let (mistakes, message) = on_small_stack(move || {
        let mistakes = read(&text).1;
        (mistakes.len(), mistakes.iter().map(|m| m.message.len()).max().unwrap_or(0))
    });
    assert!(message < 500, "{name}: a message of {message} bytes");
    let time = start.elapsed();
    assert!(mistakes <= 50, "{name}: {mistakes} mistakes");
    // what is not linear in a million pieces takes hours; a busy machine some seconds
    assert!(time.as_secs() < 60, "{name} took {time:?}");
}

#[test]
fn hostile_texts_end_in_a_diagnostic() {
    let million = 1_000_000;
    let body = |e: &str| format!("layer f(x: A -> 1): A -> 1 = {e}\n");
    for piece in
        ["(", "[", "{", ")", "]", "}", "|", "-", "a(", "a[", "f(x)", "[1]", "(x)", ".a", "@a", "a+", "x |> ", "a^", "+"]
    {
        survives(&format!("a million `{piece}`"), &piece.repeat(million / piece.len()));
        survives(&format!("a body of `{piece}`"), &body(&piece.repeat(million / piece.len())));
    }
    for word in [
        "if a: ",
        "sum j: ",
        "attend j by ",
        "attend j by a: ",
        "scan h = 0 over x: ",
        "scan h = ",
        "tangent ",
        "break ",
        "linear ",
        "linear 1 + ",
        "if ",
        "if a: b else ",
        "{\nrepeat 2: ",
        "learn w: 1 = ",
        "{ a = ",
        "(a = ",
        "x\n",
        "# x\n",
        "\"",
        "\"\n",
        "é",
        "\0",
        "\n",
        "domain D = ",
        "complete(",
        "use a\n",
        "\n\n  a",
        ",",
        "=",
        "1",
        "x0e + ",
        "3x",
    ] {
        survives(&format!("a million `{word}`"), &word.repeat(million / word.len()));
        survives(&format!("a body of `{word}`"), &body(&word.repeat(million / word.len())));
    }
    survives("nested domains", &format!("domain D = {}A", "complete(".repeat(million)));
    survives("nested groups", &format!("group G = {}A", "(".repeat(million)));
    survives("a long chain of groups", &format!("group G = {}A", "A . ".repeat(million / 4)));
    survives("a long chain of domains", &format!("domain G = {}A", "A * ".repeat(million / 4)));
    survives("a long chain of fibres", &format!("signal G = {}1", "1 + ".repeat(million / 4)));
    survives("a long chain of sizes", &body(&format!("linear {}2", "2*".repeat(million / 2))));
    survives("a long number", &body(&"9".repeat(million)));
    survives("a long irrep", &body(&format!("linear {}x{}o", "9".repeat(million), "9".repeat(million))));
    survives("a long name", &body(&"a".repeat(million)));
}

/// Nesting up to the limit is read, quickly: no rule reads the inside of a bracket twice.
#[test]
fn deep_nesting_is_linear() {
    for (open, inner, close) in [
        ("(", "x", ")"),
        ("f(", "x", ")"),
        ("x[", "1", "]"),
        ("|", "x", "|"),
        ("{\n", "x", "\n}"),
        ("(a, ", "x", ")"),
        ("(a = ", "x", ")"),
        ("linear 1 + (", "x", ")"),
        ("-(", "x", ")"),
        ("{ a = (", "x", ")\na }"),
        ("if a: (", "x", ") else y"),
        ("sum j: (", "x", ")"),
        ("linear scalar(", "1", ")"),
        ("linear irreps(0..", "1", ")"),
        ("linear 1 over box(", "1", ")"),
        ("scan h = (", "x", ") over x: h"),
        ("attend j by (", "x", "): v[j]"),
        ("x + (", "x", ")"),
        ("x |> (", "x", ")"),
        ("2^(", "x", ")"),
        ("linear 1 over 1 by m[", "1", "]"),
    ] {
        let depth = if matches!(open, "(" | "f(" | "x[" | "{\n") { 200 } else { 60 };
        for end in [close, "", "?)", "= }"] {
            let text = format!("layer f(x: A -> 1): A -> 1 = {}{inner}{}\n", open.repeat(depth), end.repeat(depth));
            // The best of a few, since the machine may be busy.
            let timed = || {
                let (text, start) = (text.clone(), std::time::Instant::now());
                let read = on_small_stack(move || read(&text));
                (start.elapsed(), read)
            };
            let (mut time, (program, mistakes)) = timed();
            for _ in 0..8 {
                time = time.min(if time.as_millis() < 50 { time } else { timed().0 });
            }
            assert!(time.as_millis() < 50, "{open} {end} took {time:?}");
            if end == close {
                assert!(mistakes.is_empty() && program.items.len() == 1, "{open}: {mistakes:?}");
            } else {
                assert!(!mistakes.is_empty(), "{open} {end} is a mistake");
            }
        }
    }
}

/// The tree without places and comments, as text to compare.
pub(crate) fn shape(program: &Program) -> String {
    let text = format!("{:?}", program.items);
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("span: Span {") {
        out.push_str(&rest[..at]);
        let close = rest[at..].find("} }").map_or(rest.len(), |n| at + n + 1);
        let end = rest[at..].find("end: ").map_or(close, |n| at + n);
        rest = &rest[end + rest[end..].find('}').map_or(0, |n| n + 1)..];
    }
    out + rest
}

pub(crate) fn assert_formats(name: &str, text: &str) -> String {
    let (program, mistakes) = read(text);
    assert!(mistakes.is_empty(), "{name}: {mistakes:?}\n{text}");
    let once = format(&program);
    let (again, mistakes) = read(&once);
    assert!(mistakes.is_empty(), "{name}: {mistakes:?}\n{once}");
    assert_eq!(shape(&program), shape(&again), "{name} changed its meaning:\n{once}");
    assert_eq!(format(&again), once, "{name} is not settled");
    let comments = |p: &Program| p.trivia.comments.iter().map(|c| c.text.clone()).collect::<Vec<_>>();
    assert_eq!(comments(&program), comments(&again), "{name} lost comments:\n{once}");
    once
}

#[test]
fn every_program_keeps_its_meaning_and_its_comments_when_formatted() {
    for folder in ["tests/programs", "examples", "lib"] {
        for (path, text) in programs(&root().join(folder)) {
            let once = assert_formats(&path.display().to_string(), &text);
            if let Ok(folder) = std::env::var("GDL_SHOW_FORMAT") {
                fs::write(Path::new(&folder).join(path.file_name().expect("a name")), once).expect("writable");
            }
        }
    }
}

/// The blocks of a document that are marked as programs, with the line each starts at.
fn blocks(document: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (n, line) in document.lines().enumerate() {
        match (&mut open, line) {
            (None, "```gdl") => open = Some((n + 2, String::new())),
            (Some(_), "```") => found.extend(open.take()),
            (Some((_, text)), _) => *text += &format!("{line}\n"),
            (None, _) => {}
        }
    }
    found
}

#[test]
fn every_example_of_the_documents_parses() {
    let mut count = 0;
    for document in ["grammar/README.md", "README.md", "lib/README.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap_or_default();
        for (line, block) in blocks(&text) {
            assert_formats(&format!("{document}:{line}"), &block);
            count += 1;
        }
    }
    assert!(count >= 17, "only {count} examples were found");
}

/// The words listed in the reference are the ones that the grammar reserves.
#[test]
fn the_reference_lists_the_reserved_words() {
    let grammar = fs::read_to_string(root().join("grammar/gdl.pest")).expect("the grammar");
    let rule = grammar.split("reserved = @{").nth(1).and_then(|rest| rest.split('}').next()).expect("the rule");
    let mut words: Vec<&str> = rule.split('"').skip(1).step_by(2).collect();
    words.sort_unstable();
    let reference = fs::read_to_string(root().join("grammar/README.md")).expect("the reference");
    let list = reference.split("These words cannot be names:").nth(1).and_then(|rest| rest.split('`').nth(1));
    assert_eq!(words, list.expect("the list").split_whitespace().collect::<Vec<_>>());
    for word in words {
        let (_, mistakes) = read(&format!("layer f({word}: A -> 1): A -> 1 = 1\n"));
        assert!(mistakes.iter().any(|m| m.message.contains("is a word of the language")), "{word}: {mistakes:?}");
    }
}

/// What fuzzing has found stays found.
#[test]
fn the_fuzzing_corpus_ends_in_a_diagnostic_or_a_program() {
    let found = programs(&root().join("fuzz/corpus"));
    assert!(!found.is_empty());
    for (path, text) in found {
        let name = path.display().to_string();
        if on_small_stack({
            let text = text.clone();
            move || read(&text).1.is_empty()
        }) {
            assert_formats(&name, &text);
        }
    }
}

/// However long a line, a report stays short and names the true column.
#[test]
fn a_very_long_line_is_shown_in_part() {
    let before = format!("layer f(x: A -> 1): A -> 1 = g({}", "x, ".repeat(100_000));
    let mut sources = SourceMap::default();
    let id = sources.add("long.gdl", format!("{before}y z, {})", "x, ".repeat(100_000)));
    let (_, mistakes) = parse(&sources, id);
    let shown = render(&mistakes, &sources);
    assert!(shown.len() < 2000 && shown.contains("y z, x"), "{shown}");
    assert!(shown.contains(&format!("long.gdl:1:{}", before.len() + 3)), "{shown}");
}

#[test]
fn a_diagnostic_is_readable_by_programs() {
    let mut sources = SourceMap::default();
    let id = sources.add("a.gdl", "domain P = set(n)\nlayer f(x: P -> 1): P -> 1 = linear(8)(x)\n");
    let (_, mistakes) = parse(&sources, id);
    let json = to_json(&mistakes[0], &sources);
    assert_eq!((&json["severity"], &json["code"]), (&"error".into(), &"E0100".into()));
    let label = &json["labels"][0];
    assert_eq!((&label["file"], &label["line"], &label["column"]), (&"a.gdl".into(), &2.into(), &36.into()));
    assert_eq!((&label["start"], &label["end"], &label["end_column"]), (&53.into(), &54.into(), &37.into()));
    assert_eq!(json["hint"], "write `linear 8 (x)`");
}
