//! Compiles the runtime (`src/runtime/`) into one relocatable object, with the compiler that compiles the rest;
//! gdlc embeds it and links it into every library that it makes.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/runtime");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let rustc = env::var_os("RUSTC").expect("cargo sets RUSTC");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let archive = out.join("libgdlrt.a");
    // Link-time optimisation with `core` leaves one object that asks for nothing but the C library.
    let status = Command::new(rustc)
        .args(["--crate-name", "gdlrt", "--crate-type", "staticlib", "--edition", "2024", "--emit", "link"])
        .args(["-C", "opt-level=3", "-C", "panic=abort", "-C", "lto=fat", "-C", "codegen-units=1"])
        .args(["-C", "relocation-model=pic", "-C", "debuginfo=0", "-C", "force-unwind-tables=no"])
        .args(["--target", &target, "src/runtime/lib.rs", "-o"])
        .arg(&archive)
        .status()
        .expect("rustc runs");
    assert!(status.success(), "the runtime does not compile");
    let bytes = fs::read(&archive).expect("the archive is there");
    let object = first_member(&bytes).expect("the archive begins with the crate's object");
    fs::write(out.join("runtime.o"), object).expect("OUT_DIR can be written");
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
