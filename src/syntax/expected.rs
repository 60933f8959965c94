//! The rules of the grammar in a reader's words, for `expected ..., found ...`.

use super::parse::Rule;

/// `an expression, a comma or a closing bracket`: what the grammar could read, where `close` ends the bracket open.
pub(super) fn words(rules: &[Rule], close: Option<&str>) -> String {
    let mut said: Vec<String> = Vec::new();
    for rule in rules {
        let phrase = phrase(*rule);
        if !phrase.is_empty() && !said.contains(&phrase) {
            said.push(phrase);
        }
    }
    let operator = rules.iter().any(|rule| matches!(rule, Rule::op | Rule::pipe | Rule::size_op));
    if operator || said.is_empty() {
        said.retain(|phrase| phrase != "`=`");
        said.push("an operator".to_string());
        said.extend(close.map(|_| "a comma".to_string()));
        said.extend(close.map(|close| format!("`{close}`")));
    }
    if let Some(end) = said.iter().position(|s| s == END) {
        let end = said.remove(end);
        said.push(end);
    }
    said.truncate(6);
    match said.pop() {
        Some(last) if said.is_empty() => last,
        Some(last) => format!("{} or {last}", said.join(", ")),
        None => "something else".to_string(),
    }
}

const END: &str = "the end of the item";

/// A rule in words; nothing where other rules say it better.
fn phrase(rule: Rule) -> String {
    let words = match rule {
        Rule::EOI => END,
        Rule::expr | Rule::head | Rule::body | Rule::operand | Rule::primary | Rule::tuple_part | Rule::lone => {
            "an expression"
        }
        Rule::name | Rule::arg | Rule::param | Rule::size_name | Rule::target | Rule::ambient => "a name",
        Rule::fibre | Rule::type_fibre | Rule::fibre_term => "a fibre, such as `16`, `8 regular` or `irreps(0..2)`",
        Rule::signal_type | Rule::domain_ref | Rule::domain_leaf => "a type, such as `Pixels -> 16`",
        Rule::group | Rule::semidirect | Rule::group_atom | Rule::group_family => "a group, such as `p4m` or `SO(3)`",
        Rule::domain | Rule::domain_factor => "a domain, such as `grid(n, n)`",
        Rule::neighbourhood => "a neighbourhood, such as `3x3`, `edges` or `all`",
        Rule::size | Rule::size_power | Rule::size_atom | Rule::extent_size => "a size, such as `2` or `2*c`",
        Rule::equals => "`=`",
        Rule::colon => "`:`",
        Rule::result => "`:` and the type of the result",
        Rule::args => "arguments in `( )`",
        Rule::under => "`under` and a group",
        Rule::relation => "an index, such as `j~i`",
        Rule::related => "`~`, `!=`, `<=`",
        Rule::pooling => "`sum`, `mean` or `max`",
        Rule::block => "a block `{ }`",
        Rule::repeat | Rule::binding => "a binding",
        Rule::number | Rule::integer => "a number",
        Rule::quoted | Rule::module => "a module, such as `graph` or `\"path/to/file\"`",
        Rule::matrix => "a matrix, such as `[[0, -1], [1, 0]]`",
        Rule::row => "a row, such as `[0, 1]`",
        Rule::permutation | Rule::cycle => "a permutation, such as `(1 2 3)`",
        other => {
            let name = format!("{other:?}");
            return name.strip_prefix("k_").map(|word| format!("`{word}`")).unwrap_or_default();
        }
    };
    words.to_string()
}
