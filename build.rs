//! Compiles the runtime (`src/runtime/`) into a relocatable object for each kind of processor, with the compiler that compiles the rest;
//! gdlc embeds them and links one into every library that it makes. For a processor other than this one's that needs Rust's `core` for it
//! (`rustup target add`); where that is not there, the object is empty and gdlc says so when it is asked for such a library.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The processors, and what the compiler is told for each. Atomic operations are instructions, not calls of a support library.
const PROCESSORS: [(&str, &[&str]); 2] = [("x86_64", &[]), ("aarch64", &["-C", "target-feature=-outline-atomics"])];

fn main() {
    println!("cargo::rerun-if-changed=src/runtime");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let rustc = env::var_os("RUSTC").expect("cargo sets RUSTC");
    let host = env::var("TARGET").expect("cargo sets TARGET");
    for (processor, options) in PROCESSORS {
        let triple = if host.starts_with(processor) { host.clone() } else { format!("{processor}-unknown-linux-gnu") };
        let object = if triple == host || has_core(&rustc, &triple) {
            compile(&rustc, &triple, options, &out.join(format!("libgdlrt-{processor}.a")))
        } else {
            Vec::new()
        };
        fs::write(out.join(format!("runtime-{processor}.o")), object).expect("OUT_DIR can be written");
    }
}

/// Whether the compiler has `core` for a target.
fn has_core(rustc: &OsStr, triple: &str) -> bool {
    let asked = Command::new(rustc).args(["--print", "target-libdir", "--target", triple]).output();
    let folder = PathBuf::from(String::from_utf8_lossy(&asked.expect("rustc runs").stdout).trim_end());
    // rustup's list of what is installed, beside the folder of each target.
    if let Some(installed) = folder.ancestors().nth(2).map(|all| all.join("components"))
        && installed.is_file()
    {
        println!("cargo::rerun-if-changed={}", installed.display());
    }
    let is_core = |file: &fs::DirEntry| file.file_name().to_string_lossy().starts_with("libcore-");
    fs::read_dir(folder).is_ok_and(|mut files| files.any(|file| file.is_ok_and(|file| is_core(&file))))
}

/// The runtime's object. Link-time optimisation with `core` leaves one that asks for nothing but the C library.
fn compile(rustc: &OsStr, triple: &str, options: &[&str], archive: &Path) -> Vec<u8> {
    let status = Command::new(rustc)
        .args(["--crate-name", "gdlrt", "--crate-type", "staticlib", "--edition", "2024", "--emit", "link"])
        .args(["-C", "opt-level=3", "-C", "panic=abort", "-C", "lto=fat", "-C", "codegen-units=1"])
        .args(["-C", "relocation-model=pic", "-C", "debuginfo=0", "-C", "force-unwind-tables=no"])
        .args(options)
        .args(["--target", triple, "src/runtime/lib.rs", "-o"])
        .arg(archive)
        .status()
        .expect("rustc runs");
    assert!(status.success(), "the runtime does not compile for {triple}");
    let bytes = fs::read(archive).expect("the archive is there");
    first_member(&bytes).expect("the archive begins with the crate's object").to_vec()
}

/// The first file of a Unix archive that is neither its index (`/`) nor its table of names (`//`).
fn first_member(archive: &[u8]) -> Option<&[u8]> {
    const HEADER: usize = 60;
    let mut at = b"!<arch>\n".len();
    loop {
        let header = archive.get(at..at + HEADER)?;
        let name = std::str::from_utf8(&header[..16]).ok()?.trim_end();
        let size: usize = std::str::from_utf8(&header[48..58]).ok()?.trim_end().parse().ok()?;
        let body = archive.get(at + HEADER..at + HEADER + size)?;
        if name != "/" && name != "//" {
            return Some(body);
        }
        at += HEADER + size + size % 2;
    }
}
