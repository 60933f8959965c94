//! Items: `use`, `group`, `domain`, `signal`, `layer`, `model`.

use super::{Reader, Rule, next, parts};
use crate::base::span::Spanned;
use crate::syntax::ast::*;
use pest::iterators::Pair;

impl Reader<'_> {
    pub(super) fn item(&mut self, pair: Pair<'_, Rule>) -> Item {
        let span = self.span(&pair);
        let item = next(&mut parts(pair));
        let rule = item.as_rule();
        if rule == Rule::function {
            return Item::Function(self.function(item));
        }
        let mut parts = parts(item);
        let first = next(&mut parts);
        if rule == Rule::use_item {
            let path = Spanned { node: first.as_str().trim_matches('"').to_string(), span: self.span(&first) };
            return Item::Use { path, span };
        }
        let name = self.ident(&first);
        let body = next(&mut parts);
        match rule {
            Rule::group_item => {
                let body = if body.as_rule() == Rule::generated { self.generated(body) } else { self.group(body) };
                Item::Group { name, body, span }
            }
            Rule::domain_item => Item::Domain { name, body: self.domain(body), span },
            _ => Item::Signal { name, ty: self.signal_type(body), span },
        }
    }

    fn function(&mut self, pair: Pair<'_, Rule>) -> Function {
        let span = self.span(&pair);
        let mut parts = parts(pair).peekable();
        let role = if next(&mut parts).as_rule() == Rule::k_model { Role::Model } else { Role::Layer };
        let name = self.ident(&next(&mut parts));
        let params = parts.next_if(|p| p.as_rule() == Rule::params);
        let params = params.map(|p| super::parts(p).map(|p| self.param(p)).collect()).unwrap_or_default();
        let args = super::parts(next(&mut parts)).map(|p| self.argument(p)).collect();
        let result = parts.next_if(|p| p.as_rule() == Rule::result);
        let result = result.map(|p| self.signal_type(next(&mut super::parts(p))));
        let body = self.expr(next(&mut parts));
        Function { role, name, params, args, result, body, span }
    }

    fn param(&mut self, pair: Pair<'_, Rule>) -> Param {
        let mut parts = parts(pair);
        let name = self.ident(&next(&mut parts));
        Param { name, default: parts.next().map(|p| self.expr(p)) }
    }

    fn argument(&mut self, pair: Pair<'_, Rule>) -> Argument {
        let mut parts = parts(pair);
        let name = self.ident(&next(&mut parts));
        Argument { name, ty: parts.next().map(|p| self.signal_type(p)) }
    }
}
