//! What is wrong with a text, in the words of the language: which token was found, what could stand there,
//! and what the author may have meant.

use super::layout::{DEPTH, ITEM_WORDS};
use super::parse::Rule;
use crate::base::diagnostic::Diagnostic;
use crate::base::span::{SourceId, Span};
use pest::error::{Error, ErrorVariant, InputLocation};

/// A character that no word of the language holds.
pub(super) fn unknown_character(c: char, span: Span) -> Diagnostic {
    let instead = match c {
        '→' | '⟶' | '↦' => "`->`",
        '×' | '·' | '⋅' | '∗' => "`*`",
        '−' | '–' | '—' => "`-`",
        '≤' => "`<=`",
        '≥' => "`>=`",
        '≠' => "`!=`",
        '∼' | '≈' => "`~`",
        '∑' | 'Σ' => "`sum`",
        '⊕' => "`++`",
        '“' | '”' | '\'' | '‘' | '’' | '`' => "`\"`",
        '"' => "a second `\"` on the same line",
        '\\' => "nothing: a line goes on where the next starts with an operator",
        _ if c.is_alphabetic() => "names in the letters a to z, digits and `_`",
        _ => "",
    };
    let shown = if c.is_control() { format!("U+{:04X}", c as u32) } else { format!("`{c}`") };
    let found = Diagnostic::error("E0001", format!("{shown} is no character of the language")).at(span, "");
    match instead {
        "" if c.is_control() || c == char::REPLACEMENT_CHARACTER => found.hint("is this a text file?"),
        "" => found,
        instead => found.hint(format!("write {instead}")),
    }
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

/// The grammar could not read on.
pub(super) fn unexpected(failure: &Error<Rule>, text: &str, source: SourceId, offset: usize) -> Diagnostic {
    let at = match failure.location {
        InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
    };
    let at = at + text[at..].len() - text[at..].trim_start_matches([' ', '\r']).len();
    let rest = &text[at..];
    let length = token_length(rest);
    let span = Span::new(source, offset + at, offset + at + length);
    let expected = match &failure.variant {
        ErrorVariant::ParsingError { positives, .. } => positives.clone(),
        ErrorVariant::CustomError { .. } => Vec::new(),
    };
    let _ = (expected, ITEM_WORDS);
    let word = if length == 0 { "the end of the item" } else { &rest[..length] };
    Diagnostic::error("E0100", format!("unexpected {word}")).at(span, "")
}

fn token_length(rest: &str) -> usize {
    let letters = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    let first = rest.chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
    letters.max(first)
}
