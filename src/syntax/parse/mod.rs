//! The pairs that `grammar/gdl.pest` finds → the syntax tree. The layout comes in decided, an item at a time;
//! an item with a mistake goes out as a diagnostic, and the items after it are read all the same.

mod declaration;
mod expression;
mod operator;
mod statement;
mod types;

use super::ast::*;
use super::{error, layout};
use crate::base::diagnostic::Diagnostic;
use crate::base::span::{SourceId, SourceMap, Span, Spanned};
use pest::Parser;
use pest::iterators::Pair;

/// What pest makes of the grammar: a recogniser, and a `Rule` a rule.
mod recogniser {
    #[derive(pest_derive::Parser)]
    #[grammar = "../grammar/gdl.pest"]
    pub(super) struct Gdl;
}
pub(super) use operator::{SIGN, tightness};
pub(super) use recogniser::Rule;

/// At most this many mistakes are shown for a file.
pub(super) const MISTAKES: usize = 50;

/// Reads the file `id` of `sources`. The program holds every item that could be read; the diagnostics are in
/// the order of the text, and it is whole where there are none.
pub fn parse(sources: &SourceMap, id: SourceId) -> (Program, Vec<Diagnostic>) {
    let layout = layout::layout(sources.text(id), id);
    let mut diagnostics = layout.diagnostics;
    let mut items = Vec::new();
    if layout.chunks.is_empty() && diagnostics.is_empty() {
        diagnostics.push(error::nothing_declared(Span::new(id, 0, 0)));
    }
    for chunk in layout.chunks.iter().filter(|chunk| !chunk.refused) {
        let text = &layout.text[chunk.start..chunk.end];
        let mut reader = Reader { text, source: id, offset: chunk.start, mistakes: Vec::new() };
        match recogniser::Gdl::parse(Rule::item, text) {
            Ok(mut pairs) => {
                let item = reader.item(pairs.next().expect("pest: a match has its pair"));
                if reader.mistakes.is_empty() {
                    items.push(item);
                }
            }
            Err(failure) => reader.mistakes.extend(mistakes_of(&failure, text, id, chunk.start)),
        }
        diagnostics.append(&mut reader.mistakes);
        if diagnostics.len() > MISTAKES {
            break;
        }
    }
    diagnostics.sort_by_key(|d| d.labels.first().map(|label| label.span));
    diagnostics.truncate(MISTAKES);
    (Program { items, trivia: layout.trivia }, diagnostics)
}

/// The mistake that stopped the grammar, and those in the lines after it of the same block.
fn mistakes_of(failure: &pest::error::Error<Rule>, text: &str, source: SourceId, offset: usize) -> Vec<Diagnostic> {
    let first = error::unexpected(failure, 0, text, source, offset);
    let at = first.labels.iter().find(|label| label.primary).map_or(0, |label| label.span.start as usize - offset);
    let later = layout::lines_after(text, at).filter_map(|line| {
        let failure = recogniser::Gdl::parse(Rule::lone, &text[line.clone()]).err()?;
        Some(error::unexpected(&failure, line.start, text, source, offset))
    });
    std::iter::once(first).chain(later).take(MISTAKES).collect()
}

/// Whether a word belongs to the language and cannot be a name.
pub(super) fn is_reserved(word: &str) -> bool {
    recogniser::Gdl::parse(Rule::reserved, word).is_ok_and(|found| found.as_str() == word)
}

/// Reads one item.
struct Reader<'a> {
    /// The item, its layout decided.
    text: &'a str,
    source: SourceId,
    /// Where the item starts in its file.
    offset: usize,
    mistakes: Vec<Diagnostic>,
}

impl Reader<'_> {
    /// The place of a pair, without the space that may follow it.
    fn span(&self, pair: &Pair<'_, Rule>) -> Span {
        let start = self.offset + pair.as_span().start();
        Span::new(self.source, start, start + pair.as_str().trim_end().len())
    }

    fn ident(&self, pair: &Pair<'_, Rule>) -> Ident {
        Spanned { node: pair.as_str().to_string(), span: self.span(pair) }
    }
}

/// The parts of a pair that carry content; words and signs that only mark a place are left out.
fn parts<'a>(pair: Pair<'a, Rule>) -> impl Iterator<Item = Pair<'a, Rule>> {
    pair.into_inner().filter(|part| !is_mark(part.as_rule()))
}

/// The next part; the grammar promises it.
fn next<'a>(parts: &mut impl Iterator<Item = Pair<'a, Rule>>) -> Pair<'a, Rule> {
    parts.next().expect("parse: the grammar promises this part")
}

fn is_mark(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::k_use
            | Rule::k_group
            | Rule::k_domain
            | Rule::k_signal
            | Rule::k_generated
            | Rule::k_complete
            | Rule::k_under
            | Rule::k_in
            | Rule::k_if
            | Rule::k_else
            | Rule::k_attend
            | Rule::k_scan
            | Rule::k_linear
            | Rule::k_bilinear
            | Rule::k_symmetric
            | Rule::k_harmonics
            | Rule::k_bessel
            | Rule::k_within
            | Rule::k_coarsen
            | Rule::k_refine
            | Rule::k_restrict
            | Rule::k_pool
            | Rule::k_recur
            | Rule::k_learn
            | Rule::k_tangent
            | Rule::k_break
            | Rule::k_repeat
            | Rule::k_over
            | Rule::k_at
            | Rule::k_by
            | Rule::k_convention
            | Rule::k_scalar
            | Rule::k_quotient
            | Rule::k_irreps
            | Rule::k_rotary
            | Rule::k_ball
            | Rule::k_class
            | Rule::k_box
            | Rule::k_disk
            | Rule::k_past
            | Rule::k_cap
            | Rule::k_ring
            | Rule::equals
            | Rule::colon
            | Rule::EOI
    )
}
