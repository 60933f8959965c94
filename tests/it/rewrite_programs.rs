//! Rewriting on programs that people write: every founding program and example that derives keeps its meaning,
//! gets no slower, and is searched quickly.

use std::path::Path;
use std::time::Duration;

use gdlc::base::span::SourceMap;
use gdlc::derive::instance::{Filling, arguments, small_sizes};
use gdlc::math::Rng;
use gdlc::rewrite::{Options, optimise};
use gdlc::tensor::eval::eval;
use gdlc::tensor::graph::Graph;

/// The models of a program that derive, by name.
fn derived(path: &Path) -> Vec<(String, Graph)> {
    let mut sources = SourceMap::default();
    let id = sources.add(path.to_string_lossy(), std::fs::read_to_string(path).unwrap());
    let (ast, mistakes) = gdlc::syntax::parse(&sources, id);
    assert!(mistakes.is_empty(), "{}: {mistakes:?}", path.display());
    let (program, _) = gdlc::sema::check(&ast, &mut sources, &gdlc::sema::LibraryOnly, &[]);
    let Some(program) = program else { return vec![] };
    let model = |m| gdlc::derive::derive(&program, m).ok().map(|d| d.graph);
    program.models.iter().filter_map(|m| model(m).map(|g| (m.name.clone(), g))).collect()
}

/// Every founding program and example that derives.
pub(crate) fn programs() -> Vec<(String, Graph)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["examples", "tests/programs/founding"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "gdl") {
                files.push(path);
            }
        }
    }
    files.sort();
    // an example that is a founding program too is looked at once
    let stems: Vec<_> = files.iter().map(|p| p.file_stem().map(|s| s.to_owned())).collect();
    let mut at = 0..;
    files.retain(|_| at.next().is_some_and(|k| !stems[..k].contains(&stems[k])));
    let name = |p: &Path, model: String| format!("{} {model}", p.file_stem().unwrap().to_string_lossy());
    files.iter().flat_map(|p| derived(p).into_iter().map(move |(m, g)| (name(p, m), g))).collect()
}

#[test]
fn founding_programs_keep_their_meaning() {
    let programs = programs();
    assert!(programs.len() >= 4, "only {} models derive", programs.len());
    let mut total = Duration::ZERO;
    for (name, graph) in &programs {
        let (new, report) = optimise(graph, &Options::default());
        total += report.time;
        println!(
            "{name}: {:.3e} → {:.3e} s, {:?} operations, {:.0?}, {:?}",
            report.before, report.after, report.operations, report.time, report.laws
        );
        assert!(report.after <= report.before * (1.0 + 1e-9), "{name}: {} grew to {}", report.before, report.after);
        let args = arguments(graph, small_sizes(graph, 2), Filling::Generic, &mut Rng::new(7));
        let start = std::time::Instant::now();
        let before = eval(graph, &args).unwrap();
        let middle = std::time::Instant::now();
        let after = eval(&new, &args).unwrap();
        println!("  evaluated in {:.0?}, then in {:.0?}", middle - start, middle.elapsed());
        for (output, a) in &before {
            let scale = a.data.iter().fold(1.0, |m, x| f64::max(m, x.abs()));
            for (x, y) in a.data.iter().zip(&after[output].data) {
                assert!((x - y).abs() <= 1e-9 * scale, "{name}: {output} was {x} and is {y}");
            }
        }
    }
    println!("{} models in {total:.0?}", programs.len());
}
