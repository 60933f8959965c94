//! Diagnostics as a person reads them, and as a program does (`--json`). Sources come in beside them; whatever
//! they hold, what goes out is bounded: of a very long line only the part around the labels is shown, and
//! control characters are shown as `?`.

use super::diagnostic::{Diagnostic, Label, Severity};
use super::span::{SourceId, SourceMap, Span};
use codespan_reporting::diagnostic as shown;
use codespan_reporting::files::{Error, Files};
use codespan_reporting::term;
use serde_json::{Value, json};
use std::ops::Range;

/// Of a line longer than this, only a window is shown.
const WIDEST: usize = 240;

/// Diagnostics as text without colour, an empty line after each.
pub fn render(diagnostics: &[Diagnostic], sources: &SourceMap) -> String {
    let mut files = ShownFiles::new(sources);
    diagnostics.iter().map(|d| render_one(d, &mut files)).collect()
}

fn render_one(diagnostic: &Diagnostic, files: &mut ShownFiles) -> String {
    let severity = match diagnostic.severity {
        Severity::Note => shown::Severity::Note,
        Severity::Warning => shown::Severity::Warning,
        Severity::Error => shown::Severity::Error,
    };
    files.place_windows(&diagnostic.labels);
    let labels = diagnostic.labels.iter().filter_map(|label| files.label(label)).collect();
    let hint = diagnostic.hint.as_ref().map(|hint| format!("{HINT}{hint}"));
    let notes = diagnostic.notes.iter().cloned().chain(hint).collect();
    let report = shown::Diagnostic::new(severity)
        .with_code(diagnostic.code)
        .with_message(&diagnostic.message)
        .with_labels(labels)
        .with_notes(notes);
    let text = term::emit_into_string(&term::Config::default(), files, &report);
    let text = text.expect("render: every label lies in its file");
    text.replace(&format!("= {HINT}"), "hint: ").lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Marks a note that is the hint, until its bullet is taken away.
const HINT: &str = "\u{1}hint: ";

/// A diagnostic as JSON: lines and columns count from 1, in characters; `start` and `end` are bytes.
pub fn to_json(diagnostic: &Diagnostic, sources: &SourceMap) -> Value {
    let severity = match diagnostic.severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let label = |label: &Label| {
        let (line, column) = position(sources, label.span.source, label.span.start);
        let (end_line, end_column) = position(sources, label.span.source, label.span.end);
        json!({
            "file": sources.name(label.span.source), "start": label.span.start, "end": label.span.end,
            "line": line, "column": column, "end_line": end_line, "end_column": end_column,
            "text": label.text, "primary": label.primary,
        })
    };
    json!({
        "severity": severity, "code": diagnostic.code, "message": diagnostic.message,
        "labels": diagnostic.labels.iter().map(label).collect::<Vec<_>>(),
        "notes": diagnostic.notes, "hint": diagnostic.hint,
    })
}

/// Line and column of a byte, each from 1.
fn position(sources: &SourceMap, source: SourceId, byte: u32) -> (usize, usize) {
    let text = sources.text(source);
    let before = &text[..floor(text, byte as usize)];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

struct ShownFile {
    name: String,
    text: String,
    lines: Vec<usize>,
    /// The part of each long line that is shown, for the diagnostic at hand.
    windows: Vec<(usize, Range<usize>)>,
}

impl ShownFile {
    fn new(name: &str, text: &str) -> Self {
        // Controls become `?`, as many as they have bytes, so that places stay.
        let plain = |c: char| !c.is_control() || c == '\n' || c == '\t' || c == '\r';
        let text: String = if text.chars().all(plain) {
            text.to_string()
        } else {
            text.chars().flat_map(|c| if plain(c) { [Some(c), None] } else { controls(c) }).flatten().collect()
        };
        let starts = text.match_indices('\n').map(|(at, _)| at + 1);
        ShownFile { name: name.to_string(), lines: std::iter::once(0).chain(starts).collect(), text, windows: vec![] }
    }

    fn line_at(&self, byte: usize) -> usize {
        self.lines.partition_point(|start| *start <= byte) - 1
    }

    fn line(&self, index: usize) -> Range<usize> {
        self.lines[index]..self.lines.get(index + 1).copied().unwrap_or(self.text.len())
    }

    /// The part of a line that is shown.
    fn window(&self, index: usize) -> Range<usize> {
        let line = self.line(index);
        match self.windows.iter().find(|(at, _)| *at == index) {
            Some((_, window)) => window.clone(),
            None if line.len() > WIDEST => line.start..floor(&self.text, line.start + WIDEST),
            None => line,
        }
    }

    fn place_window(&mut self, at: usize) {
        let index = self.line_at(at);
        let line = self.line(index);
        if line.len() > WIDEST && self.windows.iter().all(|(placed, _)| *placed != index) {
            let start = floor(&self.text, at.saturating_sub(WIDEST / 3).max(line.start));
            let end = floor(&self.text, (start + WIDEST).min(line.end));
            self.windows.push((index, start..end));
        }
    }

    /// The place nearest to `at` that is shown.
    fn visible(&self, at: usize) -> usize {
        let at = floor(&self.text, at);
        let window = self.window(self.line_at(at));
        at.clamp(window.start, window.end)
    }
}

/// `?` for each byte of a control character; those beyond Latin-1 do not exist.
fn controls(c: char) -> [Option<char>; 2] {
    [Some('?'), (c.len_utf8() > 1).then_some('?')]
}

/// All sources, ready to be shown.
struct ShownFiles {
    files: Vec<ShownFile>,
}

impl ShownFiles {
    fn new(sources: &SourceMap) -> Self {
        ShownFiles { files: sources.iter().map(|(_, name, text)| ShownFile::new(name, text)).collect() }
    }

    fn place_windows(&mut self, labels: &[Label]) {
        for file in &mut self.files {
            file.windows.clear();
        }
        let (primary, others): (Vec<_>, Vec<_>) = labels.iter().partition(|label| label.primary);
        for label in primary.into_iter().chain(others) {
            let Span { source, start, .. } = label.span;
            if let Some(file) = self.files.get_mut(source.0 as usize) {
                let start = floor(&file.text, start as usize);
                file.place_window(start);
            }
        }
    }

    fn label(&self, label: &Label) -> Option<shown::Label<usize>> {
        let id = label.span.source.0 as usize;
        let file = self.files.get(id)?;
        let start = file.visible(label.span.start as usize);
        let end = file.visible(label.span.end as usize).max(start);
        let style = if label.primary { shown::LabelStyle::Primary } else { shown::LabelStyle::Secondary };
        Some(shown::Label::new(style, id, start..end).with_message(&label.text))
    }

    fn file(&self, id: usize) -> Result<&ShownFile, Error> {
        self.files.get(id).ok_or(Error::FileMissing)
    }
}

impl<'a> Files<'a> for ShownFiles {
    type FileId = usize;
    type Name = &'a str;
    type Source = &'a str;

    fn name(&'a self, id: usize) -> Result<&'a str, Error> {
        Ok(&self.file(id)?.name)
    }

    fn source(&'a self, id: usize) -> Result<&'a str, Error> {
        Ok(&self.file(id)?.text)
    }

    fn line_index(&'a self, id: usize, byte: usize) -> Result<usize, Error> {
        Ok(self.file(id)?.line_at(byte))
    }

    fn line_range(&'a self, id: usize, line: usize) -> Result<Range<usize>, Error> {
        Ok(self.file(id)?.window(line))
    }

    fn column_number(&'a self, id: usize, line: usize, byte: usize) -> Result<usize, Error> {
        let file = self.file(id)?;
        let start = file.line(line).start;
        Ok(file.text[start..floor(&file.text, byte.max(start))].chars().count() + 1)
    }
}
