//! `gdlc verify`: the certificate of every model.

use crate::base::dtype::Dtype;
use crate::driver::arguments::Verify;
use crate::driver::certificate::{Certificate, Check};
use crate::driver::failure::Failure;
use crate::driver::output::say;
use crate::driver::progress::Progress;
use crate::driver::session::Session;
use crate::sema::hir;

/// Prints a line a check. Fails where one of them does.
pub fn verify(options: &Verify) -> Result<(), Failure> {
    let mut session = Session::open(&options.source)?.with_code_that_runs(&options.code)?;
    let program = session.check()?;
    let mut failed = Vec::new();
    for model in session.models_and_layers(&program)? {
        session.derive(&program, model)?;
        let progress = Progress::of(format!("checking {}", model.name));
        let alone = hir::Program { models: vec![model.clone()], ..program.clone() };
        let mut all = Certificate::layers(&alone)?.checks;
        all.extend(Certificate::gradients(&program, model)?.checks);
        for dtype in [Dtype::F64, Dtype::F32] {
            all.extend(Certificate::model(&session, &program, model, dtype)?.checks);
        }
        if options.grad > 0 {
            all.extend(Certificate::derivatives(&session, &program, model, options.grad)?.checks);
        }
        drop(progress);
        failed.extend(all.iter().filter(|c| !c.passed()).map(|c| format!("{}: {}", model.name, c.claim)));
        if options.source.json {
            say!("{}", serde_json::json!({ "model": model.name, "checks": all.iter().map(json).collect::<Vec<_>>() }));
        } else {
            say!("{}", model.name);
            all.iter().for_each(|c| say!("  {c}"));
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::program(format!("not certified: {}", failed.join("; ")))) }
}

fn json(check: &Check) -> serde_json::Value {
    serde_json::json!({ "claim": check.claim, "found": check.found, "bound": check.bound.to_string(), "passed": check.passed() })
}
