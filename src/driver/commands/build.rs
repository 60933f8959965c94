//! `gdlc build`: the shared library, the header, the manifest.

use std::path::Path;

use crate::driver::arguments::{Build, Products, Target};
use crate::driver::code;
use crate::driver::compiled::Compiled;
use crate::driver::failure::Failure;
use crate::driver::output::say;
use crate::driver::session::Session;
use crate::package::python;

/// Builds every model of the file, or the one named, into a folder. A file with one model is called after the file,
/// of several each after its model.
pub fn build(options: &Build) -> Result<(), Failure> {
    refuse_what_is_not_built(options)?;
    let mut session = Session::open(&options.source)?.with_code(&options.code)?;
    session.device = match options.target {
        Target::Cuda => Some(code::device(&options.arch, options.on_gpu.products, session.dtype())?),
        Target::Cpu if !options.arch.is_empty() => {
            return Err(Failure::call("--arch names GPUs; say --target cuda too"));
        }
        Target::Cpu if options.on_gpu.products != Products::Plain => {
            return Err(Failure::call("--products is for GPUs, whose tensor cores round; say --target cuda too"));
        }
        Target::Cpu => None,
    };
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
    let python = options.bind.iter().any(|b| b == "python");
    let stem = session.stem();
    if python && let Some(name) = names.iter().chain([&stem]).find(|name| !python::is_free(name)) {
        return Err(Failure::call(format!(
            "--bind python: a package cannot be called `{name}`, which is a word of Python or a library that the package uses; rename the file or the model"
        )));
    }
    std::fs::create_dir_all(folder).map_err(|e| Failure::io("make", folder, &e))?;
    let mut written = Vec::new();
    for model in models {
        let compiled = Compiled::with_derivatives(&session, &program, model, session.dtype(), options.grad)?;
        let library = &compiled.library;
        let name = &library.name;
        let files: [(String, &[u8]); 3] = [
            (format!("lib{name}.so"), &library.so_bytes),
            (format!("{name}.h"), library.header.as_bytes()),
            (format!("{name}.json"), library.manifest.as_bytes()),
        ];
        for (file, bytes) in files {
            written.push(write(&folder.join(file), bytes)?);
        }
        if python {
            for (file, bytes) in python::package(library, &model.name) {
                written.push(write(&folder.join(file), &bytes)?);
            }
        }
    }
    if python {
        for (file, bytes) in python::distribution(&session.stem(), &names) {
            written.push(write(&folder.join(file), &bytes)?);
        }
    }
    if options.source.json {
        let file = |(path, bytes): &(String, usize)| serde_json::json!({ "path": path, "bytes": bytes });
        say!("{}", serde_json::json!({ "files": written.iter().map(file).collect::<Vec<_>>() }));
    } else {
        written.iter().for_each(|(path, bytes)| say!("{path} ({bytes} bytes)"));
    }
    Ok(())
}

/// Writes a file, its folder made if missing; its name and its size. The old file is not written over but replaced: a process that has it
/// loaded keeps it.
fn write(path: &Path, bytes: &[u8]) -> Result<(String, usize), Failure> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| Failure::io("make", folder, &e))?;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, path));
    if let Err(error) = written {
        // what is left of it; where nothing is, that is no further mistake
        let _ = std::fs::remove_file(&new);
        return Err(Failure::io("write", path, &error));
    }
    Ok((path.display().to_string(), bytes.len()))
}

fn refuse_what_is_not_built(options: &Build) -> Result<(), Failure> {
    let missing = |what: &str| Err(Failure::call(format!("{what} is not in this version; leave it out")));
    if let Some(other) = options.bind.iter().find(|b| *b != "python") {
        return missing(&format!("--bind {other}"));
    }
    Ok(())
}
