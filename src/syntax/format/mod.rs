//! The syntax tree → its text in one style. Comments are kept, at the nearest place where a line may end; lines
//! that the author broke stay broken where the style allows it, and too long ones are broken at each `|>`.
//! `parse(format(p)) = p` up to places, and formatting twice is formatting once.

mod expression;
mod line;
mod statement;
mod types;

use super::ast::*;
use line::Lines;

/// Code wider than this is broken at each `|>`.
const WIDTH: usize = 120;

/// The text of a program.
pub fn format(program: &Program) -> String {
    let mut printer = Printer::new(&program.trivia);
    for item in &program.items {
        printer.item(item);
    }
    printer.separate(u32::MAX, 0);
    printer.lines.finish()
}

/// Writes a program from left to right, and the comments on the way.
struct Printer<'a> {
    lines: Lines,
    trivia: &'a Trivia,
    /// The first comment that is not written yet.
    comment: usize,
    /// The line of the source that was written last, from 0.
    source_line: usize,
    /// The indices bound here, which are written without spaces: `e[i,j]`.
    indices: Vec<&'a str>,
    /// Whether the next chain of pipes is broken at each.
    pipes: Pipes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pipes {
    AsWritten,
    Broken,
}

/// What a too wide binding may be broken at, in the order in which it is tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    AsWritten,
    AfterEquals,
    AtPipes,
}

impl<'a> Printer<'a> {
    fn new(trivia: &'a Trivia) -> Self {
        Printer {
            lines: Lines::default(),
            trivia,
            comment: 0,
            source_line: 0,
            indices: vec![],
            pipes: Pipes::AsWritten,
        }
    }

    fn push(&mut self, text: &str) {
        self.lines.push(text);
    }

    /// The line of the source that a byte is on; all bytes of a program without source are on one.
    fn line(&self, at: u32) -> usize {
        self.trivia.lines.partition_point(|start| *start <= at)
    }

    /// Whether a comment that stands before `at` is not written yet.
    fn comment_before(&self, at: u32) -> bool {
        self.trivia.comments.get(self.comment).is_some_and(|c| c.span.start < at)
    }

    /// Whether a line ends between two places: the author ended it there, or a comment does.
    fn breaks(&self, before: u32, after: u32) -> bool {
        self.line(before) < self.line(after) || self.comment_before(after)
    }

    /// Ends the line, with the comments that stand before `at`.
    fn break_line(&mut self, at: u32, indent: usize) {
        while self.comment_before(at) {
            let comment = &self.trivia.comments[self.comment];
            self.comment += 1;
            if comment.place == CommentPlace::OwnLine || !self.lines.attach(comment) {
                self.lines.start(indent);
                self.lines.push_comment(&comment.text);
            }
        }
        self.lines.start(indent);
    }

    /// Ends a binding or an item, and writes what stands between it and the next, which starts at `next`.
    fn separate(&mut self, next: u32, indent: usize) {
        while self.comment_before(next) {
            let comment = &self.trivia.comments[self.comment];
            self.comment += 1;
            let line = self.line(comment.span.start);
            if comment.place == CommentPlace::OwnLine || !self.lines.attach(comment) {
                self.blank_before(line);
                self.lines.start(indent);
                self.lines.push_comment(&comment.text);
            }
            self.source_line = if self.source_line == usize::MAX { line } else { self.source_line.max(line) };
        }
        if next < u32::MAX {
            self.blank_before(self.line(next));
        }
        self.lines.start(indent);
    }

    /// Keeps one empty line where the author left some.
    fn blank_before(&mut self, line: usize) {
        if line > self.source_line.saturating_add(1) {
            self.lines.blank();
        }
    }

    /// Writes `part`, in the first way in which no line is too wide.
    fn fitted(&mut self, attempts: &[Attempt], part: impl Fn(&mut Self, Attempt)) {
        let (start, comment) = (self.lines.mark(), self.comment);
        for (n, attempt) in attempts.iter().enumerate() {
            part(self, *attempt);
            self.pipes = Pipes::AsWritten;
            if n + 1 == attempts.len() || self.lines.width_since(&start) <= WIDTH {
                return;
            }
            self.lines.back_to(&start);
            self.comment = comment;
        }
    }
}

/// Items.
impl<'a> Printer<'a> {
    fn item(&mut self, item: &'a Item) {
        let (Item::Use { span, .. }
        | Item::Group { span, .. }
        | Item::Domain { span, .. }
        | Item::Signal { span, .. }
        | Item::Function(Function { span, .. })) = item;
        if self.lines.is_empty() {
            // Nothing stands above the first line.
            self.source_line = usize::MAX;
        }
        self.separate(span.start, 0);
        if self.trivia.lines.is_empty() && matches!(item, Item::Function(_)) {
            self.lines.blank();
        }
        match item {
            Item::Use { path, .. } if is_module(&path.node) => self.push(&format!("use {}", path.node)),
            Item::Use { path, .. } => self.push(&format!("use \"{}\"", path.node)),
            Item::Group { name, body, .. } => self.definition("group", name, |p| p.group(body, 0)),
            Item::Domain { name, body, .. } => self.definition("domain", name, |p| p.domain(body)),
            Item::Signal { name, ty, .. } => self.definition("signal", name, |p| p.signal_type(ty)),
            Item::Function(function) => self.function(function),
        }
        self.source_line = self.line(span.end);
    }

    fn definition(&mut self, word: &str, name: &Ident, body: impl FnOnce(&mut Self)) {
        self.push(&format!("{word} {}", name.node));
        self.lines.equals();
        self.push(" = ");
        body(self);
    }

    fn function(&mut self, function: &'a Function) {
        let Function { role, name, params, args, result, body, .. } = function;
        self.push(match role {
            Role::Model => "model ",
            Role::Layer => "layer ",
        });
        self.push(&name.node);
        let mut end = name.span.end;
        if !params.is_empty() {
            let place = |p: &Param| (p.name.span.start, p.default.as_ref().map_or(p.name.span.end, |e| e.span.end));
            end = self.list(["[", "]", ", "], end, None, params, place, Self::param);
        }
        let place = |a: &Argument| (a.name.span.start, a.ty.as_ref().map_or(a.name.span.end, |t| t.span().end));
        end = self.list(["(", ")", ", "], end, None, args, place, Self::argument);
        if let Some(result) = result {
            self.push(": ");
            self.signal_type(result);
            end = result.span().end;
        }
        let body_line = |p: &mut Self, attempt| {
            p.push(" =");
            let own_line = p.breaks(end, body.span.start) && !matches!(body.kind, ExprKind::Block(_));
            if own_line || attempt != Attempt::AsWritten || p.comment_before(body.span.start) {
                p.break_line(body.span.start, 2);
            } else {
                p.push(" ");
            }
            if attempt == Attempt::AtPipes {
                p.pipes = Pipes::Broken;
            }
            p.expr(body);
        };
        if expression::holds_block(body) {
            body_line(self, Attempt::AsWritten);
        } else if matches!(body.kind, ExprKind::Pipe { .. }) {
            self.fitted(&[Attempt::AsWritten, Attempt::AfterEquals, Attempt::AtPipes], body_line);
        } else {
            self.fitted(&[Attempt::AsWritten, Attempt::AfterEquals], body_line);
        }
    }

    fn param(&mut self, param: &'a Param) {
        self.push(&param.name.node);
        if let Some(default) = &param.default {
            self.push(" = ");
            self.expr(default);
        }
    }

    fn argument(&mut self, argument: &'a Argument) {
        self.push(&argument.name.node);
        if let Some(ty) = &argument.ty {
            self.push(": ");
            self.signal_type(ty);
        }
    }

    /// A bracketed list, given the places of its opening bracket and its members; a line may end after the bracket
    /// and after each comma. Gives the place where the last member ends.
    fn list<T>(
        &mut self,
        [open, close, comma]: [&str; 3],
        start: u32,
        end: Option<u32>,
        members: &'a [T],
        place: impl Fn(&T) -> (u32, u32),
        mut write: impl FnMut(&mut Self, &'a T),
    ) -> u32 {
        let indent = self.lines.indent();
        self.push(open);
        let mut last = start;
        for (n, member) in members.iter().enumerate() {
            let (from, to) = place(member);
            if n > 0 {
                self.push(comma.trim_end());
            }
            if self.breaks(last, from) {
                self.break_line(from, indent + 2);
            } else if n > 0 {
                self.push(&comma[1..]);
            }
            write(self, member);
            last = to;
        }
        if end.is_some_and(|end| !members.is_empty() && self.breaks(last, end.saturating_sub(1))) {
            self.break_line(end.unwrap_or(last), indent);
        }
        self.push(close);
        last
    }
}

/// Whether a path may be written without quotes.
fn is_module(path: &str) -> bool {
    path.split('/').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}
