//! Lines on their way out: code, the comment after it, and the column of its `=`. Neighbouring bindings get
//! their `=` under each other, neighbouring comments their `#`, in the column that the author chose where the code leaves room.

use crate::syntax::ast::Comment;

/// Equals signs further apart than this are left alone.
const REACH: usize = 8;
/// A comment after code begins no further right than this, unless the code does.
const FURTHEST: usize = 120;

#[derive(Clone, Default)]
struct Line {
    indent: usize,
    code: String,
    comment: Option<String>,
    /// Where the author began the comment.
    column: usize,
    /// Where ` = ` starts in the code of a one-line binding.
    equals: Option<usize>,
}

/// Lines written, the last one still open.
#[derive(Default)]
pub(super) struct Lines {
    done: Vec<Line>,
    open: Line,
}

/// A place to go back to.
pub(super) struct Mark {
    done: usize,
    open: Line,
}

impl Lines {
    pub(super) fn push(&mut self, text: &str) {
        self.open.code.push_str(text);
    }

    /// Marks the place of the `=` that comes next.
    pub(super) fn equals(&mut self) {
        self.open.equals = Some(self.open.code.len());
    }

    /// Ends the open line, unless it is empty, and starts one.
    pub(super) fn start(&mut self, indent: usize) {
        if !self.open.code.is_empty() || self.open.comment.is_some() {
            self.done.push(std::mem::take(&mut self.open));
        }
        self.open.indent = indent;
    }

    /// Ends the open line, and leaves one empty line after what was written.
    pub(super) fn blank(&mut self) {
        let indent = self.open.indent;
        self.start(indent);
        if self.done.last().is_some_and(|line| !line.code.is_empty() || line.comment.is_some()) {
            self.done.push(Line::default());
        }
    }

    /// Puts a comment after the last code; false where there is none, or it has one.
    pub(super) fn attach(&mut self, comment: &Comment) -> bool {
        let open = !self.open.code.is_empty() || self.open.comment.is_some();
        let line = if open { Some(&mut self.open) } else { self.done.last_mut() };
        let free = line.filter(|line| !line.code.is_empty() && line.comment.is_none());
        free.map(|line| {
            line.comment = Some(comment.text.clone());
            line.column = comment.column;
        })
        .is_some()
    }

    /// A comment on a line of its own; it stays the last thing on it.
    pub(super) fn push_comment(&mut self, comment: &str) {
        self.open.comment = Some(comment.to_string());
    }

    pub(super) fn indent(&self) -> usize {
        self.open.indent
    }

    pub(super) fn at_line_start(&self) -> bool {
        self.open.code.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.done.is_empty() && self.open.code.is_empty() && self.open.comment.is_none()
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { done: self.done.len(), open: self.open.clone() }
    }

    pub(super) fn back_to(&mut self, mark: &Mark) {
        self.done.truncate(mark.done);
        self.open = mark.open.clone();
    }

    /// The width of the widest code written since.
    pub(super) fn width_since(&self, mark: &Mark) -> usize {
        let lines = self.done[mark.done..].iter().chain([&self.open]);
        lines.map(|line| line.indent + line.code.chars().count()).max().unwrap_or(0)
    }

    /// A binding of several lines takes no part in the alignment of `=`.
    pub(super) fn settle(&mut self, mark: &Mark) {
        if self.done.len() > mark.done {
            self.open.equals = None;
            self.done[mark.done..].iter_mut().for_each(|line| line.equals = None);
        }
    }

    pub(super) fn finish(mut self) -> String {
        self.start(0);
        align_equals(&mut self.done);
        let columns = comment_columns(&self.done);
        let mut text = String::new();
        for (line, column) in self.done.iter().zip(columns) {
            let start = text.len();
            if !line.code.is_empty() || line.comment.is_some() {
                text.push_str(&" ".repeat(line.indent));
            }
            text.push_str(&line.code);
            if let Some(comment) = &line.comment {
                let written = text[start..].chars().count();
                text.push_str(&" ".repeat(column.saturating_sub(written)));
                text.push_str(comment);
            }
            text.push('\n');
        }
        text
    }
}

fn align_equals(lines: &mut [Line]) {
    let same = |a: &Line, b: &Line| a.equals.is_some() && b.equals.is_some() && a.indent == b.indent;
    for run in lines.chunk_by_mut(same) {
        let columns = run.iter().filter_map(|line| line.equals);
        let (Some(widest), Some(narrowest)) = (columns.clone().max(), columns.min()) else { continue };
        if widest - narrowest <= REACH {
            for line in run {
                let at = line.equals.unwrap_or(widest);
                line.code.insert_str(at, &" ".repeat(widest - at));
            }
        }
    }
}

/// The column of each comment, the same for neighbours: where the author began the first of them, or two behind the widest
/// code if that is further right.
fn comment_columns(lines: &[Line]) -> Vec<usize> {
    let trailing = |line: &Line| line.comment.is_some() && !line.code.is_empty();
    let mut columns = Vec::new();
    for run in lines.chunk_by(|a, b| trailing(a) == trailing(b)) {
        let widest = run.iter().map(|line| line.indent + line.code.chars().count()).max().unwrap_or(0);
        let chosen = if run[0].column <= FURTHEST { run[0].column } else { 0 };
        let column = if trailing(&run[0]) { chosen.max(widest + 2) } else { 0 };
        columns.extend(run.iter().map(|line| if trailing(line) { column } else { line.indent }));
    }
    columns
}
