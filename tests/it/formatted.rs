//! Every program that the project shows is in the form that `gdlc fmt` writes.

use std::fs;
use std::path::{Path, PathBuf};

use gdlc::base::span::SourceMap;
use gdlc::syntax;

fn form(text: &str) -> String {
    let mut sources = SourceMap::default();
    let id = sources.add("form.gdl", text);
    let (program, mistakes) = syntax::parse(&sources, id);
    assert!(mistakes.is_empty(), "{text}");
    syntax::format(&program)
}

fn programs(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "gdl"));
    paths.collect()
}

#[test]
fn programs_are_formatted() {
    let mut seen = 0;
    for path in ["examples", "lib", "tests/programs/expect"].into_iter().flat_map(programs) {
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(form(&text), text, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 13, "{seen} programs");
}

/// The founding programs stand as they were written; one aligns the operands of two lines, which the form does not keep.
#[test]
fn founding_programs_are_formatted_up_to_that() {
    for path in programs("tests/programs/founding") {
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(form(&text), text.replace("dt   * grad", "dt * grad"), "{}", path.display());
    }
}

#[test]
fn a_comment_stays_where_its_author_put_it() {
    let text = "domain S = set(n)                # far\nsignal T = S -> 3                # aligned\n";
    assert_eq!(form(text), text);
    let near = "domain S = set(n) # near\nsignal Longer = S -> 3 # nearer\n";
    assert_eq!(form(near), "domain S      = set(n)  # near\nsignal Longer = S -> 3  # nearer\n");
}
