//! `gdlc check`: parse, resolve, type, derive; nothing is written.

use crate::driver::arguments::Source;
use crate::driver::failure::Failure;
use crate::driver::output::say;
use crate::driver::session::Session;

/// Checks the program and names its models, and the layers that no model reaches.
pub fn check(options: &Source) -> Result<(), Failure> {
    let mut session = Session::open(options)?;
    let program = session.check()?;
    let checked = session.models_and_layers(&program)?;
    for model in &checked {
        session.derive(&program, model)?;
    }
    let names: Vec<&str> = checked.iter().map(|m| m.name.as_str()).collect();
    if options.json {
        let (models, layers) = names.split_at(program.models.len().min(names.len()));
        say!("{}", serde_json::json!({ "models": models, "layers": layers }));
    } else {
        say!("{}: equivariant: {}", options.file.display(), names.join(", "));
    }
    Ok(())
}
