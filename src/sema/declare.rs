//! The items of a program: what each top-level name stands for. `use` brings a module's items under their own names.

use std::collections::BTreeMap;

use crate::base::diagnostic::Diagnostic;
use crate::base::span::{SourceId, SourceMap, Span};
use crate::syntax::{self, ast};

use super::library::{self, Modules};

/// Modules that use modules deeper than this are refused; so are more than this many files.
const MAX_MODULES: usize = 64;

/// The program's own items and those of the modules it uses.
pub(super) struct Files {
    /// The prelude first, then modules in the order of `use`, the program last.
    pub programs: Vec<ast::Program>,
    pub findings: Vec<Diagnostic>,
}

/// Reads the prelude and every module that is used, each once.
pub(super) fn gather(program: &ast::Program, sources: &mut SourceMap, modules: &dyn Modules) -> Files {
    let mut files = Files { programs: Vec::new(), findings: Vec::new() };
    let mut read = vec![];
    files.module("prelude", library::PRELUDE, sources);
    files.used(program, sources, modules, &mut read);
    files.programs.push(program.clone());
    files
}

impl Files {
    fn module(&mut self, name: &str, text: &str, sources: &mut SourceMap) -> ast::Program {
        let id = sources.add(name, text);
        let (program, findings) = syntax::parse(sources, id);
        self.findings.extend(findings);
        self.programs.push(program.clone());
        program
    }

    fn used(&mut self, program: &ast::Program, sources: &mut SourceMap, modules: &dyn Modules, read: &mut Vec<String>) {
        for item in &program.items {
            let ast::Item::Use { path, .. } = item else { continue };
            if read.contains(&path.node) {
                continue;
            }
            read.push(path.node.clone());
            let text = library::module(&path.node).map(str::to_string).or_else(|| modules.load(&path.node));
            match text {
                Some(text) if read.len() <= MAX_MODULES => {
                    let module = self.module(&path.node, &text, sources);
                    self.used(&module, sources, modules, read);
                }
                Some(_) => self.findings.push(
                    Diagnostic::error("E0208", format!("more than {MAX_MODULES} modules are used"))
                        .at(path.span, "one too many"),
                ),
                None => {
                    let known: Vec<&str> = library::LIBRARY.iter().map(|(n, _)| *n).collect();
                    let known = if known.is_empty() {
                        "the library has no modules besides the prelude".to_string()
                    } else {
                        format!("the library has {}", known.join(", "))
                    };
                    self.findings.push(
                        Diagnostic::error("E0208", format!("there is no module `{}`", path.node))
                            .at(path.span, "not in the library, and no such file")
                            .hint(format!("{known}; a file is named by its path in quotes")),
                    );
                }
            }
        }
    }
}

/// What the names stand for.
#[derive(Default)]
pub(super) struct Items<'a> {
    pub groups: BTreeMap<&'a str, &'a ast::GroupExpr>,
    pub domains: BTreeMap<&'a str, (&'a ast::DomainExpr, Span)>,
    pub signals: BTreeMap<&'a str, (&'a ast::SignalType, Span)>,
    pub functions: BTreeMap<&'a str, &'a ast::Function>,
    /// The functions of the program itself, in order.
    pub own: Vec<&'a ast::Function>,
    /// The file of the program itself.
    pub own_source: Option<SourceId>,
}

impl<'a> Items<'a> {
    /// Collects the items; the program is the last of `programs`.
    pub(super) fn collect(programs: &'a [ast::Program], findings: &mut Vec<Diagnostic>) -> Items<'a> {
        let mut items =
            Items { own_source: programs.last().and_then(|p| p.items.first()).map(source), ..Items::default() };
        for (k, program) in programs.iter().enumerate() {
            let mut here: BTreeMap<&str, Span> = BTreeMap::new();
            for item in &program.items {
                let Some(name) = items.insert(item, k + 1 == programs.len()) else { continue };
                if let Some(before) = here.insert(&name.node, name.span) {
                    findings.push(
                        Diagnostic::error("E0206", format!("`{}` is declared twice", name.node))
                            .at(name.span, "again here")
                            .because(before, "first here")
                            .hint("give one of them another name: groups, domains, signals, layers and models share their names"),
                    );
                }
            }
        }
        items
    }

    fn insert(&mut self, item: &'a ast::Item, own: bool) -> Option<&'a ast::Ident> {
        match item {
            ast::Item::Use { .. } => None,
            ast::Item::Group { name, body, .. } => {
                self.groups.insert(&name.node, body);
                Some(name)
            }
            ast::Item::Domain { name, body, .. } => {
                self.domains.insert(&name.node, (body, name.span));
                Some(name)
            }
            ast::Item::Signal { name, ty, .. } => {
                self.signals.insert(&name.node, (ty, name.span));
                Some(name)
            }
            ast::Item::Function(f) => {
                self.functions.insert(&f.name.node, f);
                if own {
                    self.own.push(f);
                }
                Some(&f.name)
            }
        }
    }

    /// Every name, for suggestions.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let domains = self.domains.keys().copied();
        domains.chain(self.signals.keys().copied()).chain(self.functions.keys().copied())
    }
}

fn source(item: &ast::Item) -> SourceId {
    match item {
        ast::Item::Use { span, .. }
        | ast::Item::Group { span, .. }
        | ast::Item::Domain { span, .. }
        | ast::Item::Signal { span, .. } => span.source,
        ast::Item::Function(f) => f.span.source,
    }
}
