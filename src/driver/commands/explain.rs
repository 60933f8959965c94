//! `gdlc explain`: the rewriting of every model, a line a law, with the cost before and after.

use crate::driver::arguments::Explain;
use crate::driver::failure::Failure;
use crate::driver::session::Session;

/// Prints the derivation from the program as derived to the program as compiled.
pub fn explain(options: &Explain) -> Result<(), Failure> {
    let mut session = Session::open(&options.source)?;
    let program = session.check()?;
    for model in session.models(&program)? {
        let algebra = session.algebra(&program, model)?;
        let report = &algebra.report;
        let micros = |seconds: f64| seconds * 1e6;
        println!("{}: expected {:.1} us a call as derived, {:.1} us as rewritten", model.name, micros(report.before), micros(report.after));
        println!("  {} operations became {}", report.operations.0, report.operations.1);
        for (law, count) in &report.laws {
            println!("  {law:<24} {count}");
        }
    }
    Ok(())
}
