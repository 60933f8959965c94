//! `gdlc fmt`: canonical text, in place.

use std::path::Path;

use crate::base::diagnostic::Severity;
use crate::base::render;
use crate::base::span::SourceMap;
use crate::driver::arguments::Fmt;
use crate::driver::failure::Failure;
use crate::driver::output::say;
use crate::syntax;

/// Formats each file, or with `--check` fails where one would change.
pub fn fmt(options: &Fmt) -> Result<(), Failure> {
    let mut changed = Vec::new();
    for path in &options.files {
        let text = std::fs::read_to_string(path).map_err(|e| Failure::io("read", path, &e))?;
        let formatted = formatted(path, &text)?;
        if formatted == text {
            continue;
        }
        changed.push(path.display().to_string());
        if !options.check {
            std::fs::write(path, formatted).map_err(|e| Failure::io("write", path, &e))?;
        }
    }
    if options.json {
        say!("{}", serde_json::json!({ "changed": changed }));
    }
    if options.check && !changed.is_empty() {
        return Err(Failure::program(format!("not formatted: {}", changed.join(", "))));
    }
    Ok(())
}

fn formatted(path: &Path, text: &str) -> Result<String, Failure> {
    let mut sources = SourceMap::default();
    let id = sources.add(path.display().to_string(), text);
    let (program, diagnostics) = syntax::parse(&sources, id);
    if !diagnostics.iter().any(|d| d.severity == Severity::Error) {
        return Ok(syntax::format(&program));
    }
    eprint!("{}", render::render(&diagnostics, &sources));
    Err(Failure::reported())
}
