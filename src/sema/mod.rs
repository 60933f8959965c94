//! ast → hir: names resolved, sizes and fibres computed, layers instantiated, types checked against the mathematics.
//! What comes out is equivariant by its types; how each map is computed is not decided here.
//!
//! Reading order: `hir` (what comes out), `declare` and `library` (the items and where modules come from), `term` (what an
//! expression may be), `fibre` (what is asked of fibres), `elaborate` (expressions → values), `naming`, `names` (names before types),
//! `error` and `report` (findings), `print` (a checked program as text), `rational`, `walk`, `nearest`.

mod declare;
mod elaborate;
mod error;
mod fibre;
pub mod hir;
mod library;
mod names;
mod naming;
mod nearest;
pub mod print;
pub mod rational;
mod report;
mod term;
mod walk;

use crate::base::diagnostic::Diagnostic;
use crate::base::span::SourceMap;
use crate::syntax::ast;

pub use library::{LibraryOnly, Modules};
pub use rational::Rational;

use declare::Items;
use elaborate::Elaborator;
use report::Report;

/// The stack of the elaboration, which follows calls of layers as deep as they go.
const STACK: usize = 256 << 20;

/// Checks a program. `sources` gains the modules it uses; `overrides` are the values of `--set`.
/// The program is there when there are no errors; warnings and notes come with it.
pub fn check(
    program: &ast::Program,
    sources: &mut SourceMap,
    modules: &dyn Modules,
    overrides: &[(String, Rational)],
) -> (Option<hir::Program>, Vec<Diagnostic>) {
    let mut files = declare::gather(program, sources, modules);
    let mut findings = std::mem::take(&mut files.findings);
    let programs = files.programs;
    let items = Items::collect(&programs, &mut findings);
    let elaborate = || {
        let mut report = Report::default();
        findings.drain(..).for_each(|d| report.push(d));
        names::check(&items, &mut report);
        let mut elaborator = Elaborator::new(&items, overrides, report);
        elaborator.elaborate();
        elaborator.finish()
    };
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, elaborate);
        worker
            .expect("sema: a thread for the elaboration")
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The findings of a program, a line each, and the checked program as text.
    fn run(text: &str) -> (Option<String>, Vec<String>) {
        let mut sources = SourceMap::default();
        let id = sources.add("test.gdl", text);
        let (program, mistakes) = crate::syntax::parse(&sources, id);
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let (checked, findings) = check(&program, &mut sources, &LibraryOnly, &[]);
        let line = |d: &Diagnostic| format!("{} {}", d.code, d.message);
        (checked.map(|p| print::print(&p)), findings.iter().map(line).collect())
    }

    #[test]
    fn digits_is_a_chain_of_derived_layers() {
        let (checked, findings) = run(include_str!("../../tests/programs/founding/digits.gdl"));
        let shown = checked.expect("digits is right");
        assert!(shown.contains("%3 = linear linear2 over Window([5, 5])(%2): Pixels -> 8 regular"), "{shown}");
        assert!(shown.contains("%6 = Pool { how: Max, invariant: true }(%5): 8"), "{shown}");
        assert!(shown.contains("needs n mod 2 = 0"), "{shown}");
        assert_eq!(findings.len(), 1, "{findings:?}");
    }
}
