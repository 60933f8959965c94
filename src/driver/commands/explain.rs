//! `gdlc explain`: why the rewritten program equals the derived one, a line a law, with the cost after each.

use crate::driver::arguments::Explain;
use crate::driver::failure::Failure;
use crate::driver::output::say;
use crate::driver::progress::Progress;
use crate::driver::session::Session;
use crate::rewrite::explain::check_proof;
use crate::rewrite::{self, Report};

/// Prints the derivation of every model; with `--check` applies every law again and fails where one does not follow.
pub fn explain(options: &Explain) -> Result<(), Failure> {
    let mut session = Session::open(&options.source)?;
    let program = session.check()?;
    for model in session.models_and_layers(&program)? {
        let derived = session.derive(&program, model)?;
        let how = rewrite::Options { explain: rewrite::Explain::Derivation, ..rewrite::Options::default() };
        let _progress = Progress::of(format!("explaining {}", model.name));
        let (_, report) = rewrite::optimise(&derived.graph, &how);
        if options.check {
            for proof in &report.proofs {
                check_proof(proof).map_err(|why| Failure::bug(format!("a derivation does not check: {why}")))?;
            }
        }
        if options.source.json {
            say!("{}", json(&model.name, &report, options.check));
        } else {
            print(&model.name, &report, options.check);
        }
    }
    Ok(())
}

fn json(name: &str, report: &Report, checked: bool) -> serde_json::Value {
    serde_json::json!({
        "model": name, "before_s": report.before, "after_s": report.after, "checked": checked,
        "derivations": report.proofs.iter().map(|p| p.print()).collect::<Vec<_>>(),
    })
}

fn print(name: &str, report: &Report, checked: bool) {
    let micros = |seconds: f64| seconds * 1e6;
    say!(
        "{name}: expected {:.1} us a call as derived, {:.1} us as rewritten",
        micros(report.before),
        micros(report.after)
    );
    for proof in &report.proofs {
        say!("{}", proof.print());
    }
    if checked {
        say!("  {} derivations checked", report.proofs.len());
    }
}
