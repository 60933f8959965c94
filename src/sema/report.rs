//! The findings of one run: each once, in the order of the text, and a bound on how many.

use std::collections::BTreeSet;

use crate::base::diagnostic::{Diagnostic, Severity};
use crate::base::span::Span;

/// Findings beyond this many are not listed: a reader is not helped by more.
const MAX_FINDINGS: usize = 100;

/// A collector of diagnostics. A layer is elaborated at each mention, so the same finding comes many times.
#[derive(Default)]
pub(super) struct Report {
    found: Vec<Diagnostic>,
    seen: BTreeSet<(&'static str, Option<Span>, Severity)>,
    errors: usize,
}

impl Report {
    /// Keeps a finding, unless one of the same code stands at the same place.
    pub(super) fn push(&mut self, finding: Diagnostic) {
        if finding.severity == Severity::Error {
            self.errors += 1;
        }
        let place = finding.labels.iter().find(|l| l.primary).map(|l| l.span);
        if self.seen.insert((finding.code, place, finding.severity)) && self.found.len() < MAX_FINDINGS {
            self.found.push(finding);
        }
    }

    /// How many errors were pushed, repeated ones included.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    /// Takes back what `other` does not keep: `self` is a trial whose findings are judged by the caller.
    pub(super) fn absorb(&mut self, other: Report) {
        other.found.into_iter().for_each(|d| self.push(d));
    }

    /// All findings, by place.
    pub(super) fn finish(self) -> Vec<Diagnostic> {
        let mut found = self.found;
        found.sort_by_key(|d| d.labels.iter().find(|l| l.primary).map(|l| l.span));
        found
    }
}
