//! `gdlc build`: the shared library, the header, the manifest.

use crate::driver::arguments::{Build, Target};
use crate::driver::compiled::Compiled;
use crate::driver::failure::Failure;
use crate::driver::output::say;
use crate::driver::session::Session;

/// Builds every model of the file, or the one named, into a folder. A file with one model is called after the file,
/// of several each after its model.
pub fn build(options: &Build) -> Result<(), Failure> {
    refuse_what_is_not_built(options)?;
    let mut session = Session::open(&options.source)?.with_code(&options.code)?;
    let program = session.check()?;
    let models = session.models(&program)?;
    if models.is_empty() {
        return Err(Failure::call(format!("{} has no model, only layers", options.source.file.display())));
    }
    let names: Vec<String> = models.iter().map(|m| session.library_name(&program, m)).collect();
    if let Some(k) = (1..names.len()).find(|k| names[..*k].contains(&names[*k])) {
        return Err(Failure::call(format!(
            "two models would be called lib{}.so; build one at a time with --model and -o",
            names[k]
        )));
    }
    let folder = &options.output;
    std::fs::create_dir_all(folder).map_err(|e| Failure::io("make", folder, &e))?;
    let mut written = Vec::new();
    for model in models {
        let compiled = Compiled::new(&session, &program, model, session.dtype())?;
        let library = &compiled.library;
        let name = &library.name;
        let files: [(String, &[u8]); 3] = [
            (format!("lib{name}.so"), &library.so_bytes),
            (format!("{name}.h"), library.header.as_bytes()),
            (format!("{name}.json"), library.manifest.as_bytes()),
        ];
        for (file, bytes) in files {
            let path = folder.join(file);
            std::fs::write(&path, bytes).map_err(|e| Failure::io("write", &path, &e))?;
            if options.source.json {
                written.push(serde_json::json!({ "path": path.display().to_string(), "bytes": bytes.len() }));
            } else {
                say!("{} ({} bytes)", path.display(), bytes.len());
            }
        }
    }
    if options.source.json {
        say!("{}", serde_json::json!({ "files": written }));
    }
    Ok(())
}

fn refuse_what_is_not_built(options: &Build) -> Result<(), Failure> {
    let missing = |what: &str| Err(Failure::call(format!("{what} is not in this version; leave it out")));
    match options.target {
        Target::Cuda => return missing("--target cuda"),
        Target::Cpu => (),
    }
    if options.grad > 0 {
        return missing("--grad");
    }
    if !options.bind.is_empty() {
        return missing("--bind");
    }
    Ok(())
}
