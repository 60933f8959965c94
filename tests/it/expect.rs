//! What programs say of themselves: `# expect: kernels 1` (kernels a call) and `# expect: parameters 12` (learnt numbers).
//! The numbers are worked out by hand in the comments of `tests/programs/expect`.

use std::fs;
use std::path::Path;

use gdlc::base::dtype::Dtype;
use gdlc::base::span::SourceMap;
use gdlc::kernel::ir::Stage;
use gdlc::kernel::lower::lower;
use gdlc::sema::LibraryOnly;
use gdlc::{derive, rewrite, sema, syntax};

#[test]
fn programs_are_what_they_expect() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/expect");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let (kernels, parameters) = counts(&text);
        for expectation in text.lines().filter_map(|line| line.strip_prefix("# expect: ")) {
            seen += 1;
            let (what, count) = expectation.split_once(' ').expect("a word and a number");
            let found = match what {
                "kernels" => kernels,
                "parameters" => parameters,
                other => panic!("{}: nothing is called {other}", path.display()),
            };
            assert_eq!(found, count.parse::<usize>().unwrap(), "{}: {what}", path.display());
        }
    }
    assert!(seen >= 6, "{seen} expectations");
}

/// The kernels of a call of the program's one model, and its learnt numbers.
fn counts(text: &str) -> (usize, usize) {
    let mut sources = SourceMap::default();
    let id = sources.add("expect.gdl", text);
    let (program, _) = syntax::parse(&sources, id);
    let (checked, _) = sema::check(&program, &mut sources, &LibraryOnly, &[]);
    let checked = checked.expect("it checks");
    let derived = derive::derive(&checked, &checked.models[0]).expect("it derives");
    let (graph, _) = rewrite::optimise(&derived.graph, &rewrite::Options::default());
    let kernels = lower(&graph, "expect", Dtype::F32).kernels.iter().filter(|k| k.stage == Stage::Call).count();
    let parameters = derived.graph.weights.iter().map(|(_, w)| w.dims.iter().product::<usize>()).sum();
    (kernels, parameters)
}
