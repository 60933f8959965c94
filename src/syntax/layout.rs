//! Text → the same text, byte for byte in place, with its layout decided: comments and tabs are spaces, a line
//! end that ends a binding is `\n`, one that does not is `\r`. On the way it cuts the file into items, so that
//! a mistake in one does not hide those in the next, and refuses what no grammar should be asked to read:
//! unknown characters, brackets that do not match, nesting without bound. One scan, linear in the text.
//!
//! The rule: a newline ends a binding unless it stands within `( )` or `[ ]`, the next line starts with an infix
//! operator or `else`, or the line itself ends in the middle (with an infix operator, `=`, `:`, a comma or `else`).

use super::ast::{Comment, CommentPlace, Trivia};
use crate::base::diagnostic::Diagnostic;
use crate::base::span::{SourceId, Span};

/// How deep brackets, prefix words and chains of operators may nest, together. It bounds the depth of every
/// syntax tree, and with it the stack of everything that walks one.
pub const DEPTH: u32 = 256;

/// The largest source in bytes: a program is text that a person wrote.
pub const LONGEST: usize = 16 << 20;

/// The words that begin an item.
pub const ITEM_WORDS: [&str; 6] = ["use", "group", "domain", "signal", "layer", "model"];

/// A file ready for the grammar.
pub(super) struct Layout {
    pub text: String,
    pub chunks: Vec<Chunk>,
    pub trivia: Trivia,
    pub diagnostics: Vec<Diagnostic>,
}

/// The bytes of one item.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub start: usize,
    pub end: usize,
    /// A mistake is reported already, so the grammar need not read it.
    pub refused: bool,
}

/// Decides the layout of `text`.
pub(super) fn layout(text: &str, source: SourceId) -> Layout {
    if text.len() > LONGEST {
        let message = format!("this file has {} bytes; a source holds at most {LONGEST}", text.len());
        let found = Diagnostic::error("E0002", message).at(Span::new(source, 0, 0), "");
        return Layout { text: String::new(), chunks: vec![], trivia: Trivia::default(), diagnostics: vec![found] };
    }
    let mut scan = Scan::new(text, source);
    scan.run();
    scan.finish()
}

/// An open bracket (or the file itself), and the depth of the tree found in it so far.
struct Level {
    bracket: u8,
    at: usize,
    /// What closing it adds to the depth: an application or an index is counted as an operator already.
    nests: u32,
    /// The deepest piece so far; pieces are what commas and line ends part.
    deepest: u32,
    /// Pipes and words that reach across pipes in this piece; each nests all that follows.
    chain: u32,
    /// The deepest stage of this piece; stages are what pipes part.
    stage_max: u32,
    /// Operators and prefix words of this stage.
    stage: u32,
    /// The deepest bracket in this stage.
    inner: u32,
}

impl Level {
    fn new(bracket: u8, at: usize, nests: u32) -> Self {
        Level { bracket, at, nests, deepest: 0, chain: 0, stage_max: 0, stage: 0, inner: 0 }
    }

    fn depth(&self) -> u32 {
        self.deepest.max(self.chain + self.stage_max.max(self.stage + self.inner))
    }

    fn next_stage(&mut self) {
        self.chain += 1;
        self.stage_max = self.stage_max.max(self.stage + self.inner);
        (self.stage, self.inner) = (0, 0);
    }

    fn next_piece(&mut self) {
        self.deepest = self.depth();
        (self.chain, self.stage_max, self.stage, self.inner) = (0, 0, 0, 0);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Number,
    Quoted,
    /// `( [ {`
    Open(u8),
    /// `) ] }`
    Close(u8),
    Comma,
    /// Any other sign, such as `|>`.
    Sign(&'a str),
}

const SIGNS: [&str; 26] = [
    "|>", "->", "++", "==", "!=", "<=", ">=", "..", "|", "-", "+", "*", "/", "^", "=", "<", ">", "~", ".", ":", "@",
    "!", ";", "%", "&", "$",
];

/// Words after which an expression nests one deeper, whatever follows.
const PREFIX_WORDS: [&str; 9] = ["sum", "mean", "max", "softmax", "attend", "scan", "tangent", "break", "learn"];

struct Scan<'a> {
    text: &'a str,
    source: SourceId,
    out: Vec<u8>,
    chunks: Vec<Chunk>,
    trivia: Trivia,
    diagnostics: Vec<Diagnostic>,
    levels: Vec<Level>,
    /// A mistake in this item is reported already.
    refused: bool,
    /// Whether a token is seen.
    begun: bool,
    /// Whether the last token asks for more, so that a line end after it ends nothing.
    previous_continues: bool,
    /// Whether a bracket that opens now belongs to what stands before it.
    after_operand: bool,
    /// The first line end since the last token.
    line_end: Option<usize>,
    line_start: usize,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str, source: SourceId) -> Self {
        Scan {
            text,
            source,
            out: text.as_bytes().to_vec(),
            chunks: Vec::new(),
            trivia: Trivia { comments: Vec::new(), lines: vec![0] },
            diagnostics: Vec::new(),
            levels: vec![Level::new(b' ', 0, 0)],
            refused: false,
            begun: false,
            previous_continues: false,
            after_operand: false,
            line_end: None,
            line_start: 0,
        }
    }

    fn span(&self, start: usize, end: usize) -> Span {
        Span::new(self.source, start, end)
    }

    fn run(&mut self) {
        let bytes = self.text.as_bytes();
        let mut at = if self.text.starts_with('\u{feff}') { self.erase(0, 3) } else { 0 };
        while at < bytes.len() {
            at = match bytes[at] {
                b'\n' => self.newline(at),
                b' ' | b'\t' | b'\r' => self.erase(at, at + 1),
                b'#' => self.comment(at),
                _ => match self.lex(at) {
                    Some((token, end)) => {
                        self.token(token, at, end);
                        end
                    }
                    None => self.unknown(at),
                },
            };
        }
    }

    fn erase(&mut self, start: usize, end: usize) -> usize {
        self.out[start..end].fill(b' ');
        end
    }

    fn newline(&mut self, at: usize) -> usize {
        self.out[at] = b' ';
        self.line_end.get_or_insert(at);
        self.line_start = at + 1;
        self.trivia.lines.push(at as u32 + 1);
        at + 1
    }

    fn comment(&mut self, start: usize) -> usize {
        let line = &self.text[start..];
        let end = start + line.find('\n').unwrap_or(line.len());
        let text = self.text[start..end].trim_end().to_string();
        let before = self.text[self.line_start..start].trim_start_matches('\u{feff}');
        let alone = before.bytes().all(|b| b.is_ascii_whitespace());
        let place = if alone { CommentPlace::OwnLine } else { CommentPlace::EndOfLine };
        let column = before.chars().count();
        self.trivia.comments.push(Comment { span: self.span(start, start + text.len()), text, place, column });
        self.erase(start, end)
    }

    fn lex(&self, at: usize) -> Option<(Token<'a>, usize)> {
        let rest = &self.text[at..];
        let first = rest.as_bytes()[0];
        let letters = || at + rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        match first {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                let end = letters();
                Some((Token::Word(&self.text[at..end]), end))
            }
            b'0'..=b'9' => Some((Token::Number, letters())),
            b'(' | b'[' | b'{' => Some((Token::Open(first), at + 1)),
            b')' | b']' | b'}' => Some((Token::Close(first), at + 1)),
            b',' => Some((Token::Comma, at + 1)),
            b'"' => {
                let length = rest[1..].find(['"', '\n']).filter(|&n| rest.as_bytes()[n + 1] == b'"')?;
                Some((Token::Quoted, at + length + 2))
            }
            _ => {
                let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign))?;
                Some((Token::Sign(sign), at + sign.len()))
            }
        }
    }

    /// A character that is in no word of the language; one report a run of them.
    fn unknown(&mut self, start: usize) -> usize {
        let first = self.text[start..].chars().next().expect("there is a character at `start`");
        if first.is_control() || first == char::REPLACEMENT_CHARACTER {
            self.diagnostics.push(super::error::not_text(first, self.span(start, start + first.len_utf8())));
            self.refused = true;
            self.levels.truncate(1);
            return self.erase(start, self.text.len());
        }
        let known = |c: char| c.is_ascii_graphic() && c != '"' && c != '\'' && c != '`' && c != '\\' && c != '?';
        let run = self.text[start + first.len_utf8()..].find(|c: char| known(c) || c.is_whitespace() && c.is_ascii());
        let end = run.map_or(self.text.len(), |n| start + first.len_utf8() + n);
        if self.diagnostics.len() < super::parse::MISTAKES {
            let span = self.span(start, start + first.len_utf8());
            self.diagnostics.push(super::error::unknown_character(first, span));
        }
        self.refused = true;
        self.previous_continues = true;
        self.erase(start, end)
    }

    fn token(&mut self, token: Token<'a>, start: usize, end: usize) {
        match self.line_end.take() {
            Some(at) if self.begun => self.decide(at, token, start),
            _ if !self.begun => self.begin(start),
            _ => {}
        }
        self.measure(token, start, end);
        self.after_operand = matches!(token, Token::Word(_) | Token::Number | Token::Close(_));
        self.previous_continues = match token {
            Token::Comma => true,
            Token::Sign(sign) => !matches!(sign, "|" | "@" | "!" | ";" | "%" | "&" | "$"),
            Token::Word(word) => word == "else",
            Token::Number | Token::Quoted | Token::Open(_) | Token::Close(_) => false,
        };
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.end = end;
        }
    }

    /// Whether the line end at `at` ends a binding, now that the next token is known.
    fn decide(&mut self, at: usize, next: Token<'a>, start: usize) {
        let top = self.levels.last().expect("the file itself is never closed").bracket;
        let item = matches!(next, Token::Word(word) if ITEM_WORDS.contains(&word));
        if item && self.line_start == start && self.levels.len() > 1 {
            self.unclosed(start);
        }
        let at_top = self.levels.len() == 1;
        if at_top && (item || self.line_start == start && !starts_infix(next) && !self.previous_continues) {
            self.end_chunk();
            return self.begin(start);
        }
        let ends = (at_top || top == b'{') && !starts_infix(next) && !self.previous_continues;
        self.out[at] = if ends { b'\n' } else { b'\r' };
        if ends {
            self.levels.last_mut().expect("the file itself is never closed").next_piece();
        }
    }

    fn begin(&mut self, start: usize) {
        self.begun = true;
        self.chunks.push(Chunk { start, end: start, refused: false });
        self.previous_continues = false;
    }

    fn end_chunk(&mut self) {
        self.levels.truncate(1);
        self.levels[0] = Level::new(b' ', 0, 0);
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.refused |= self.refused;
        }
        self.refused = false;
    }

    /// Counts how deep the syntax tree can become, and matches brackets.
    fn measure(&mut self, token: Token<'a>, start: usize, end: usize) {
        let level = self.levels.last_mut().expect("the file itself is never closed");
        match token {
            Token::Open(bracket) => {
                let suffix = u32::from(self.after_operand);
                level.stage += suffix;
                self.levels.push(Level::new(bracket, start, 1 - suffix));
            }
            Token::Close(bracket) => self.close(bracket, start),
            Token::Comma => level.next_piece(),
            Token::Sign("|>" | "|") | Token::Word("if" | "else" | "repeat") => level.next_stage(),
            Token::Sign("=" | ":") | Token::Number | Token::Quoted => {}
            Token::Sign(_) => level.stage += 1,
            Token::Word(word) => level.stage += u32::from(PREFIX_WORDS.contains(&word)),
        }
        let brackets = self.levels.len() as u32 - 1;
        let depth = brackets.max(self.levels.last().expect("the file itself is never closed").depth());
        if depth > DEPTH && !self.refused {
            self.refused = true;
            self.diagnostics.push(super::error::too_deep(self.span(start, end)));
        }
    }

    fn close(&mut self, bracket: u8, at: usize) {
        let open = match bracket {
            b')' => b'(',
            b']' => b'[',
            _ => b'{',
        };
        if self.levels.len() == 1 {
            if !self.refused {
                self.diagnostics.push(super::error::stray_bracket(bracket, self.span(at, at + 1)));
            }
            self.refused = true;
            return;
        }
        let level = self.levels.pop().expect("a bracket is open");
        if level.bracket != open {
            self.mismatched(&level, at);
            // Where the bracket meant is open further out, the ones within it are taken as closed.
            if let Some(n) = self.levels.iter().rposition(|l| l.bracket == open) {
                self.levels.truncate(n.max(1));
            }
        }
        let outer = self.levels.last_mut().expect("the file itself is never closed");
        outer.inner = outer.inner.max(level.nests + level.depth());
    }

    fn mismatched(&mut self, level: &Level, at: usize) {
        if !self.refused {
            let here = Some(self.span(at, at + 1));
            self.diagnostics.push(super::error::unclosed(level.bracket, self.span(level.at, level.at + 1), here));
        }
        self.refused = true;
    }

    fn unclosed(&mut self, at: usize) {
        let level = self.levels.pop().expect("a bracket is open");
        if !self.refused {
            let here = (at < self.text.len()).then(|| self.span(at, at + 1));
            self.diagnostics.push(super::error::unclosed(level.bracket, self.span(level.at, level.at + 1), here));
        }
        self.refused = true;
        self.levels.truncate(1);
    }

    fn finish(mut self) -> Layout {
        if self.levels.len() > 1 {
            self.unclosed(self.text.len());
        }
        self.end_chunk();
        let text = String::from_utf8(self.out).expect("whole characters are replaced by spaces");
        Layout { text, chunks: self.chunks, trivia: self.trivia, diagnostics: self.diagnostics }
    }
}

/// Whether a line that starts with this token continues the line before it.
fn starts_infix(token: Token<'_>) -> bool {
    match token {
        Token::Sign(sign) => !matches!(sign, "|" | "@" | "!" | ";" | "%" | "&" | "$"),
        Token::Word(word) => word == "else",
        Token::Comma => true,
        Token::Number | Token::Quoted | Token::Open(_) | Token::Close(_) => false,
    }
}

/// The lines of a block that follow the one `at` stands in, up to the closing bracket; nothing outside of blocks.
/// The text has its layout decided.
pub(super) fn lines_after(text: &str, at: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut open = Vec::new();
    for b in text[..at].bytes() {
        match b {
            b'(' | b'[' | b'{' => open.push(b),
            b')' | b']' | b'}' => drop(open.pop()),
            _ => {}
        }
    }
    // Brackets that the line itself opened are closed before it ends.
    let mut depth = open.iter().rposition(|b| *b == b'{').map_or(0, |block| open.len() - block);
    let mut lines = Vec::new();
    let mut start = None;
    for (n, b) in text.bytes().enumerate().skip(at) {
        match b {
            _ if depth == 0 => break,
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || b == b'\n' && depth == 1 {
            lines.extend(start.map(|start| start..n).filter(|line| !text[line.clone()].trim().is_empty()));
            start = Some(n + 1);
        }
    }
    lines.into_iter().map(|line: std::ops::Range<usize>| {
        let kept = text[line.clone()].trim();
        let start = line.start + text[line.clone()].find(kept).unwrap_or(0);
        start..start + kept.len()
    })
}
