//! What programs say of themselves: `# expect: kernels 1` (kernels a call), `# expect: parameters 12` (learnt numbers) and
//! `# expect: chosen 1` (values that rewriting computes by another program than the one written, for a theorem says they are equal).
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
        let counts = counts(&text);
        for expectation in text.lines().filter_map(|line| line.strip_prefix("# expect: ")) {
            seen += 1;
            let (what, count) = expectation.split_once(' ').expect("a word and a number");
            let found = match what {
                "kernels" => counts.kernels,
                "parameters" => counts.parameters,
                "chosen" => counts.chosen,
                other => panic!("{}: nothing is called {other}", path.display()),
            };
            assert_eq!(found, count.parse::<usize>().unwrap(), "{}: {what}", path.display());
        }
    }
    assert!(seen >= 6, "{seen} expectations");
}

/// What can be counted of the program's one model.
struct Counts {
    kernels: usize,
    parameters: usize,
    chosen: usize,
}

fn counts(text: &str) -> Counts {
    let mut sources = SourceMap::default();
    let id = sources.add("expect.gdl", text);
    let (program, _) = syntax::parse(&sources, id);
    let (checked, _) = sema::check(&program, &mut sources, &LibraryOnly, &[]);
    let checked = checked.expect("it checks");
    let derived = derive::derive(&checked, &checked.models[0]).expect("it derives");
    let (graph, report) = rewrite::optimise(&derived.graph, &rewrite::Options::default());
    Counts {
        kernels: lower(&graph, "expect", Dtype::F32).kernels.iter().filter(|k| k.stage == Stage::Call).count(),
        parameters: derived.graph.weights.iter().map(|(_, w)| w.dims.iter().product::<usize>()).sum(),
        chosen: report.choices.iter().filter(|c| c.taken).count(),
    }
}
