//! `gdlc explain`: why the rewritten program equals the derived one, a line a law, with the cost after each.

use crate::driver::arguments::Explain;
use crate::driver::failure::Failure;
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
        let (_, report) = rewrite::optimise(&derived.graph, &how);
        print(&model.name, &report);
        if options.check {
            for proof in &report.proofs {
                check_proof(proof).map_err(|why| Failure::bug(format!("a derivation does not check: {why}")))?;
            }
            println!("  {} derivations checked", report.proofs.len());
        }
    }
    Ok(())
}

fn print(name: &str, report: &Report) {
    let micros = |seconds: f64| seconds * 1e6;
    println!(
        "{name}: expected {:.1} us a call as derived, {:.1} us as rewritten",
        micros(report.before),
        micros(report.after)
    );
    for proof in &report.proofs {
        println!("{}", proof.print());
    }
}
