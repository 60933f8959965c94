//! What is wrong, where, why, and what to write instead: one struct for every stage.
//! Each stage builds its own diagnostics; rendering stands beside, in `render`.

use super::span::Span;

/// How bad it is. Only errors stop a compilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Note,
    Warning,
    Error,
}

/// A range of the source with a few words under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub span: Span,
    pub text: String,
    /// The place itself, as opposed to a place that explains it.
    pub primary: bool,
}

/// One finding, as it is shown to the user and to programs (`--json`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// `E0304`: E for errors, W for warnings, N for notes; the hundreds name the stage
    /// (00 text, 01 parse, 02 names, 03 types and symmetry, 04 sizes, 09 not derived yet).
    pub code: &'static str,
    pub message: String,
    pub labels: Vec<Label>,
    /// The reason, in the mathematics' words, a line each.
    pub notes: Vec<String>,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error with its code and message.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message)
    }

    /// A warning: the program compiles, and does less than it may seem.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message)
    }

    /// A note: a fact worth knowing, such as the group that stays exact.
    pub fn note(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Note, code, message)
    }

    fn new(severity: Severity, code: &'static str, message: impl Into<String>) -> Self {
        Diagnostic { severity, code, message: message.into(), labels: Vec::new(), notes: Vec::new(), hint: None }
    }

    /// Marks the place itself.
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into(), primary: true });
        self
    }

    /// Marks a place that explains it.
    pub fn because(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into(), primary: false });
        self
    }

    /// Adds the reason.
    pub fn why(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// Says what to write instead.
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }
}
