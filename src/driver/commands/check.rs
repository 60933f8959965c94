//! `gdlc check`: parse, resolve, type, derive; nothing is written.

use crate::driver::arguments::Source;
use crate::driver::failure::Failure;
use crate::driver::session::Session;

/// Checks the program and says how many models it has.
pub fn check(options: &Source) -> Result<(), Failure> {
    let mut session = Session::open(options)?;
    let program = session.check()?;
    let models = session.models(&program)?;
    for model in &models {
        session.derive(&program, model)?;
    }
    let names: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
    if options.json {
        println!("{}", serde_json::json!({ "models": names }));
    } else if names.is_empty() {
        println!("{}: layers only, all equivariant", options.file.display());
    } else {
        println!("{}: {} equivariant", options.file.display(), names.join(", "));
    }
    Ok(())
}
