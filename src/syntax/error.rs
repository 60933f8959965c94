//! What is wrong with a text, in the words of the language: which token was found, what could stand there,
//! and what the author may have meant.

use super::expected;
use super::layout::{DEPTH, ITEM_WORDS};
use super::parse::Rule;
use crate::base::diagnostic::Diagnostic;
use crate::base::span::{SourceId, Span};
use pest::error::{Error, ErrorVariant, InputLocation};

/// A character that no word of the language holds.
pub(super) fn unknown_character(c: char, span: Span) -> Diagnostic {
    let hint = match c {
        '→' | '⟶' | '↦' => "write `->`",
        '×' | '·' | '⋅' | '∗' => "write `*`",
        '−' | '–' | '—' => "write `-`",
        '≤' => "write `<=`",
        '≥' => "write `>=`",
        '≠' => "write `!=`",
        '∼' | '≈' => "write `~`",
        '∑' | 'Σ' => "write `sum`",
        '⊕' => "write `++`",
        '“' | '”' | '\'' | '‘' | '’' | '`' => "a path stands in `\"`",
        '"' => "a second `\"` is missing on this line",
        '\\' => "a line goes on where the next starts with an operator",
        _ if c.is_alphabetic() => "a name is written in a to z, A to Z, digits and `_`",
        _ => "",
    };
    let found = Diagnostic::error("E0001", format!("`{c}` is no character of the language")).at(span, "");
    if hint.is_empty() { found } else { found.hint(hint) }
}

/// A control character: what follows is not read.
pub(super) fn not_text(c: char, span: Span) -> Diagnostic {
    Diagnostic::error("E0001", "this is no text file").at(span, format!("the control character U+{:04X}", c as u32))
}

/// A file without items.
pub(super) fn nothing_declared(span: Span) -> Diagnostic {
    Diagnostic::error("E0003", "this file declares nothing")
        .at(span, "")
        .hint("begin with a domain, such as `domain Pixels = grid(n, n) under p4m`")
}

/// Nesting without bound.
pub(super) fn too_deep(span: Span) -> Diagnostic {
    Diagnostic::error("E0102", format!("this is nested more than {DEPTH} deep"))
        .at(span, "brackets, prefix words and operators in a row count")
        .hint("bind parts to names in a block `{ }`")
}

/// A closing bracket without an open one.
pub(super) fn stray_bracket(bracket: u8, span: Span) -> Diagnostic {
    Diagnostic::error("E0101", format!("this `{}` closes nothing", bracket as char)).at(span, "no bracket is open here")
}

/// An open bracket that is never closed, noticed at `here`.
pub(super) fn unclosed(bracket: u8, span: Span, here: Option<Span>) -> Diagnostic {
    let close = match bracket {
        b'(' => ')',
        b'[' => ']',
        _ => '}',
    };
    let found = Diagnostic::error("E0101", format!("this `{}` is never closed", bracket as char))
        .at(span, format!("a `{close}` is missing"));
    match here {
        Some(here) => found.because(here, "before this"),
        None => found,
    }
}

/// The grammar could not read on in the item `text`, which starts at `offset` of its file; it had begun at `from`.
pub(super) fn unexpected(
    failure: &Error<Rule>,
    from: usize,
    text: &str,
    source: SourceId,
    offset: usize,
) -> Diagnostic {
    let at = from
        + match failure.location {
            InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
        };
    let expected = match &failure.variant {
        ErrorVariant::ParsingError { positives, .. } => positives.as_slice(),
        ErrorVariant::CustomError { .. } => &[],
    };
    let place = Place::new(text, at, source, offset, expected);
    MISTAKES.iter().find_map(|mistake| mistake(&place)).unwrap_or_else(|| place.plain())
}

/// Where the grammar stopped, and what stands around.
struct Place<'a> {
    text: &'a str,
    at: usize,
    /// The token found; empty at the end.
    found: &'a str,
    /// The token before it.
    previous: &'a str,
    /// The word that begins the item.
    item: &'a str,
    /// The innermost bracket open here; a space where none is.
    bracket: char,
    expected: &'a [Rule],
    span: Span,
}

/// What an author may have meant; the first that fits is told.
const MISTAKES: [fn(&Place<'_>) -> Option<Diagnostic>; 15] = [
    unknown_item,
    foreign_word,
    misspelt_fibre,
    misspelt_word,
    missing_operand,
    missing_fibre_argument,
    open_length,
    reserved_name,
    comparison_in_if,
    several_bindings,
    body_without_equals,
    bare_tuple,
    typed_binding,
    group_without_under,
    foreign_sign,
];

impl<'a> Place<'a> {
    fn new(text: &'a str, at: usize, source: SourceId, offset: usize, expected: &'a [Rule]) -> Self {
        let at = text.len() - text[at..].trim_start_matches([' ', '\r']).len();
        let found = first_token(&text[at..]);
        let before = text[..at].trim_end_matches([' ', '\r', '\n']);
        let span = Span::new(source, offset + at, offset + at + found.trim_end().len());
        let bracket = innermost_bracket(before);
        Place { text, at, found, previous: last_token(before), item: first_token(text), bracket, expected, span }
    }

    fn expects(&self, rules: &[Rule]) -> bool {
        self.expected.iter().any(|rule| rules.contains(rule))
    }

    /// The line of the binding up to here.
    fn line(&self) -> &'a str {
        let before = &self.text[..self.at];
        before[before.rfind('\n').map_or(0, |n| n + 1)..].trim_start()
    }

    /// Whether the word before is the `sum` of `pool sum`.
    fn pools(&self) -> bool {
        let before = self.text[..self.at].trim_end_matches([' ', '\r', '\n']);
        last_token(before[..before.len() - self.previous.len()].trim_end()) == "pool"
    }

    fn found_words(&self) -> String {
        match self.found {
            "" => "the end of the item".to_string(),
            "\n" => "the end of the line".to_string(),
            found => format!("`{}`", short(found)),
        }
    }

    /// The place of a part of the item.
    fn span_of(&self, start: usize, length: usize) -> Span {
        let shift = self.span.start as usize - self.at;
        Span::new(self.span.source, shift + start, shift + start + length)
    }

    fn error(&self, message: impl Into<String>, label: impl Into<String>) -> Diagnostic {
        Diagnostic::error("E0100", message).at(self.span, label)
    }

    /// No mistake that we know: what could stand here, and what does.
    fn plain(&self) -> Diagnostic {
        let close = match self.bracket {
            '(' => Some(")"),
            '[' => Some("]"),
            _ => None,
        };
        let expected = expected::words(self.expected, close);
        let found = self.error(format!("expected {expected}, found {}", self.found_words()), "");
        let broken = self.text[..self.at].trim_end_matches([' ', '\n']).ends_with('\r');
        if self.found == "(" && broken {
            return found.hint("the `(` of an application stands on the same line; or a comma is missing");
        }
        found
    }
}

/// The first line of an item does not begin one.
fn unknown_item(place: &Place<'_>) -> Option<Diagnostic> {
    if place.at != 0 {
        return None;
    }
    let foreign = match place.found {
        "def" | "fn" | "func" | "fun" | "function" | "let" | "define" => Some("layer"),
        "import" | "from" | "include" | "open" | "using" => Some("use"),
        "class" | "struct" | "module" | "net" | "network" => Some("model"),
        "type" | "field" | "feature" => Some("signal"),
        "space" => Some("domain"),
        _ => None,
    };
    let message = format!("{} begins no item", place.found_words());
    let found = Diagnostic::error("E0103", message).at(place.span, "expected an item");
    let found = found.why("an item begins with `use`, `group`, `domain`, `signal`, `layer` or `model`");
    let after = place.text[place.found.len()..].trim_start();
    Some(match foreign.or_else(|| nearest(place.found, &ITEM_WORDS)) {
        Some(word) => found.hint(format!("did you mean `{word}`?")),
        None if after.starts_with('=') => found.hint("a binding stands in the block `{ }` of a layer or a model"),
        None => found,
    })
}

/// Words that other languages have.
fn foreign_word(place: &Place<'_>) -> Option<Diagnostic> {
    let line = place.line();
    let word = first_token(line);
    let start = place.at - line.len();
    let (word, start, hint) = match word {
        "return" => (word, start, "the last line of a block is its result: leave `return` out"),
        "let" | "var" | "val" | "const" | "def" => (word, start, "a binding is `name = value`"),
        "for" | "while" => {
            (word, start, "`repeat k: ...` repeats bindings, `sum j: ...` sums over points, `scan` carries a state")
        }
        _ if matches!(place.found, "elif" | "elseif") => (place.found, place.at, "write `else if`"),
        _ => return None,
    };
    if start < place.at && line.trim_end() != word {
        return None;
    }
    let found = Diagnostic::error("E0100", format!("`{word}` is no word of the language"));
    Some(found.at(place.span_of(start, word.len()), "").hint(hint))
}

/// The words that stand before what they take, and make a layer of it.
pub const PREFIXES: [&str; 11] = [
    "linear",
    "depthwise",
    "bilinear",
    "symmetric",
    "recur",
    "harmonics",
    "bessel",
    "coarsen",
    "refine",
    "restrict",
    "pool",
];

/// The words that stand before an index, or a count, and what it runs over.
const AGGREGATIONS: [&str; 6] = ["sum", "mean", "softmax", "attend", "repeat", "learn"];

/// What numbers are copies of.
const FIBRES: [&str; 7] = ["scalar", "regular", "quotient", "irreps", "vector", "position", "class"];

/// Nearly a fibre after its number of copies: `8 regualr`.
fn misspelt_fibre(place: &Place<'_>) -> Option<Diagnostic> {
    let copies = place.previous.ends_with(|c: char| c.is_ascii_digit());
    let known =
        nearest(place.found, &FIBRES).filter(|known| copies && *known != place.found && place.found.len() > 3)?;
    let found = place.error(format!("there is no fibre `{}`", place.found), "not found here");
    Some(found.hint(format!("did you mean `{known}`?")))
}

/// Nearly a word that something may follow: `lineer 2`, `summ j`.
fn misspelt_word(place: &Place<'_>) -> Option<Diagnostic> {
    let word = place.previous;
    let follows = place.found.starts_with(|c: char| c.is_alphanumeric()) && place.expects(&[Rule::op, Rule::pipe]);
    let words: Vec<&str> = PREFIXES.into_iter().chain(AGGREGATIONS).collect();
    let known = nearest(word, &words).filter(|known| follows && *known != word)?;
    let end = place.text[..place.at].trim_end_matches([' ', '\r', '\n']).len();
    let found = Diagnostic::error("E0201", format!("there is no name `{word}`"));
    let found = found.at(place.span_of(end - word.len(), word.len()), "not found here");
    Some(found.hint(format!("did you mean `{known}`?")))
}

/// A word of the language without what must follow it.
fn missing_operand(place: &Place<'_>) -> Option<Diagnostic> {
    let fibre = "a fibre after `{}`, such as `16`, `8 regular` or `irreps(0..2)`";
    let (what, example) = match place.previous {
        "linear" | "depthwise" | "bilinear" | "recur" => (fibre, "{} 8 (x)"),
        "->" => ("a fibre after `->`, such as `16`, `8 regular` or `irreps(0..2)`", ""),
        "symmetric" => ("a degree and a fibre after `symmetric`", "symmetric 3 8 vector (a)"),
        "coarsen" | "refine" => ("a size after `{}`, such as `2`", "{} 2 (x)"),
        "ring" => ("a number of rings after `ring`", "ring 1"),
        "harmonics" => ("a range of degrees after `harmonics`", "harmonics 0..L (v)"),
        "bessel" => ("a number of functions after `bessel`", "bessel 8 within 5.0 (d)"),
        "over" => ("a neighbourhood after `over`, such as `3x3`, `edges`, `all` or a radius", ""),
        "pool" => ("`sum`, `mean` or `max` after `pool`", "x |> pool mean"),
        "under" | "restrict" => ("a group after `{}`, such as `p4m` or `SO(3)`", ""),
        "sum" | "mean" | "max" | "softmax" if !place.pools() => {
            ("an index after `{}`, such as `j~i`", "{} j~i: m[i,j]` over neighbours, or `x |> pool {}")
        }
        "attend" => ("an index after `attend`, such as `j~i`", "attend j~i by score[i,j]: v[j]"),
        "repeat" => ("a count after `repeat`", "repeat 3: x = f(x)"),
        "learn" => ("a name and a fibre after `learn`", "learn w: 16 = normal"),
        _ => return None,
    };
    let fill = |text: &str| text.replace("{}", place.previous);
    let found = place.error(format!("expected {}", fill(what)), format!("found {}", place.found_words()));
    Some(match (place.previous, place.found) {
        ("linear" | "depthwise" | "bilinear" | "recur", "(") => found
            .why("what stands in brackets after the fibre is what the map is applied to")
            .hint(format!("write `{}`", fill(example))),
        _ if !example.is_empty() => found.hint(format!("write `{}`", fill(example))),
        _ => found,
    })
}

/// `irreps` and its like without their argument directly after.
fn missing_fibre_argument(place: &Place<'_>) -> Option<Diagnostic> {
    let argument = match place.previous {
        "irreps" => "0..2",
        "class" => "10",
        "rotary" | "ball" => "8",
        "quotient" => "C2",
        "box" => "3, 3",
        "disk" | "cap" => "2",
        _ => return None,
    };
    let word = place.previous;
    let message = format!("expected the argument of `{word}` in brackets directly after it");
    Some(place.error(message, format!("found {}", place.found_words())).hint(format!("write `{word}({argument})`")))
}

/// A word of the language where a name or a value should be.
fn reserved_name(place: &Place<'_>) -> Option<Diagnostic> {
    let names =
        [Rule::name, Rule::param, Rule::arg, Rule::expr, Rule::operand, Rule::primary, Rule::binding, Rule::lone];
    if !place.expects(&names) || !super::parse::is_reserved(place.found) {
        return None;
    }
    let message = format!("`{}` is a word of the language", place.found);
    let found = place.error(message, format!("expected {}", expected::words(place.expected, None)));
    let names = place.expects(&[Rule::name, Rule::param, Rule::arg]);
    Some(if names { found.hint("choose another name") } else { found })
}

/// `|x`
fn open_length(place: &Place<'_>) -> Option<Diagnostic> {
    let line = place.line();
    let bars: Vec<usize> = line.match_indices('|').map(|(n, _)| n).filter(|&n| !line[n..].starts_with("|>")).collect();
    let open = bars.last().filter(|_| bars.len() % 2 == 1 && place.expects(&[Rule::op, Rule::pipe]))?;
    let span = place.span_of(place.at - line.len() + open, 1);
    let found = Diagnostic::error("E0101", "this `|` is never closed").at(span, "a length is `|v|`");
    Some(found.because(place.span, "before this"))
}

fn comparison_in_if(place: &Place<'_>) -> Option<Diagnostic> {
    let words = place.line().split_whitespace();
    let condition = words.rev().find(|word| matches!(*word, "if" | "else") || word.ends_with(':'));
    (place.found == "=" && condition == Some("if"))
        .then(|| place.error("`=` binds a name; a condition compares", "in the condition of `if`").hint("write `==`"))
}

/// A body laid out by its indentation.
fn several_bindings(place: &Place<'_>) -> Option<Diagnostic> {
    let more = match place.found {
        "\n" => true,
        "=" => !matches!(place.previous, "+" | "-" | "*" | "/"),
        _ => false,
    };
    let function = matches!(place.item, "layer" | "model");
    if !(function && more && place.bracket == ' ' && body_begun(&place.text[..place.at])) {
        return None;
    }
    let message = "a body of several lines stands in a block `{ }`";
    let label = if place.found == "\n" { "the body ends with this line" } else { "a second binding" };
    Some(place.error(message, label).hint("write `= {`, a binding a line, the result on the last line, and `}`"))
}

/// Whether a `=` stands outside of brackets.
fn body_begun(text: &str) -> bool {
    let mut depth = 0usize;
    text.bytes().any(|b| {
        match b {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        b == b'=' && depth == 0
    })
}

fn body_without_equals(place: &Place<'_>) -> Option<Diagnostic> {
    if !place.expects(&[Rule::equals, Rule::result]) || place.bracket != ' ' {
        return None;
    }
    let found = place.error("expected `=`", format!("found {}", place.found_words()));
    Some(match place.item {
        "layer" | "model" => {
            found.hint(format!("write `{} name(x: Domain -> fibre): Domain -> fibre = body`", place.item))
        }
        "domain" => found.hint("write `domain Pixels = grid(n, n) under p4m`"),
        "signal" => found.hint("write `signal Image = Pixels -> 1`"),
        "group" => found.hint("write `group p4m = shift . D4`"),
        _ => found,
    })
}

fn bare_tuple(place: &Place<'_>) -> Option<Diagnostic> {
    let function = matches!(place.item, "layer" | "model");
    (place.found == "," && function && matches!(place.bracket, '{' | ' ')).then(|| {
        place.error("several values stand in brackets `( )`", "a comma outside of brackets").hint("write `(a, b)`")
    })
}

fn typed_binding(place: &Place<'_>) -> Option<Diagnostic> {
    let line = place.line().trim_end();
    (place.found == ":" && place.bracket == '{' && is_word(line)).then(|| {
        place
            .error("a binding has no type of its own", "a type stands with arguments and results")
            .hint(format!("write `{} = ...`", short(line)))
    })
}

fn group_without_under(place: &Place<'_>) -> Option<Diagnostic> {
    (place.item == "domain" && place.found == "(" && is_word(place.previous) && place.bracket == ' ').then(|| {
        let group = short(place.previous);
        place.error("expected `under` before the group", "").hint(format!("write `under {group}(...)`"))
    })
}

/// Signs that other languages have.
fn foreign_sign(place: &Place<'_>) -> Option<Diagnostic> {
    let hint = match (place.previous, place.found) {
        ("*", "*") => "a power is `x^2`",
        ("+" | "-" | "*" | "/", "=") => "write `x = x + ...`: a binding gives the name a new value",
        ("/", "/") => "a comment starts with `#`",
        (_, ";") => "a newline ends a binding",
        (_, "!") => "`!=` compares",
        (_, "&" | "$" | "%" | "=>") => "",
        (previous, "x") if previous.bytes().all(|b| b.is_ascii_digit()) && !previous.is_empty() => {
            "write a window without spaces: `3x3`"
        }
        _ => return None,
    };
    let found = place.error(format!("{} cannot stand here", place.found_words()), "");
    Some(if hint.is_empty() { found } else { found.hint(hint) })
}

/// The beginning of a text, as a message quotes it.
pub(super) fn short(text: &str) -> String {
    let mut shown: String = text.chars().take(40).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn first_token(text: &str) -> &str {
    let letters = text.find(|c| !is_letter(c)).unwrap_or(text.len());
    let sign = ["|>", "->", "=>", "==", "!=", "<=", ">=", "++", ".."].into_iter().find(|sign| text.starts_with(sign));
    let other = text.chars().next().map_or(0, char::len_utf8);
    &text[..if letters > 0 { letters } else { sign.map_or(other, str::len) }]
}

fn last_token(text: &str) -> &str {
    let start = text.rfind(|c| !is_letter(c)).map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    if start < text.len() {
        return &text[start..];
    }
    let sign = ["|>", "->", "==", "!=", "<=", ">=", "++", ".."].into_iter().find(|sign| text.ends_with(sign));
    let other = text.chars().next_back().map_or(0, char::len_utf8);
    &text[text.len() - sign.map_or(other, str::len)..]
}

fn innermost_bracket(text: &str) -> char {
    let mut closed = 0usize;
    for c in text.chars().rev() {
        match c {
            ')' | ']' | '}' => closed += 1,
            '(' | '[' | '{' if closed == 0 => return c,
            '(' | '[' | '{' => closed -= 1,
            _ => {}
        }
    }
    ' '
}

/// The word of a list that is close enough to be meant.
pub fn nearest<'a>(word: &str, list: &[&'a str]) -> Option<&'a str> {
    let allowed = word.len().min(40) / 3;
    let distances = list.iter().map(|candidate| (edit_distance(word, candidate), *candidate));
    distances.filter(|(distance, _)| *distance <= allowed.max(1)).min().map(|(_, candidate)| candidate)
}

/// Letters to insert, delete, exchange with a neighbour or replace, to make one word of the other.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j - 1] + same).min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
