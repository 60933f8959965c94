//! The modules a program may `use`: `lib/*.gdl`, carried in the compiler, and files that the driver finds.

/// Where the text of a module comes from. The driver reads files; sema never does.
pub trait Modules {
    /// The text of the file at `path`, relative to the program that says `use "path"`.
    fn load(&self, path: &str) -> Option<String>;
}

/// No files: only the modules of the library.
pub struct LibraryOnly;

impl Modules for LibraryOnly {
    fn load(&self, _path: &str) -> Option<String> {
        None
    }
}

/// What every program knows without saying so.
pub(super) const PRELUDE: &str = include_str!("../../lib/prelude.gdl");

/// The modules of `lib/`, by the name after `use`.
pub(super) const LIBRARY: &[(&str, &str)] = &[
    ("grid", include_str!("../../lib/grid.gdl")),
    ("set", include_str!("../../lib/set.gdl")),
    ("graph", include_str!("../../lib/graph.gdl")),
    ("points", include_str!("../../lib/points.gdl")),
];

/// The text of a module of the library.
pub(super) fn module(name: &str) -> Option<&'static str> {
    LIBRARY.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}
