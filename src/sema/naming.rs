//! Names of weights: the binding, the turn of `repeat`, then the kind with its ordinal within that binding.
//!
//! - `z = linear c (x)` has `z.linear`; a second `linear` in the same binding is `z.linear2`.
//! - In the third turn of a `repeat` the binding `f` is `f.3`: `f.3.linear`.
//! - Outside a binding, in the result of a body, ordinals start at 1: `linear1`, `linear2`.
//! - A layer is a kind by its name, and the names within it follow: `y.res.linear1`, `h.2.mpnn.y.mlp.1`.
//! - `@name` replaces binding, kind and ordinal; the layer around it and the turn stay: `name.2`.

use std::collections::BTreeMap;

/// Where in a body the elaboration stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Place {
    bindings: Vec<String>,
    /// Turns of `repeat` that no binding has taken up yet.
    turns: Vec<usize>,
}

/// The names given within one call of one function.
#[derive(Clone, Debug, Default)]
struct Body {
    prefix: String,
    place: Place,
    ordinals: BTreeMap<String, usize>,
    replacement: Option<String>,
}

/// The namer of a model.
#[derive(Clone, Debug)]
pub(super) struct Names {
    bodies: Vec<Body>,
}

impl Default for Names {
    fn default() -> Self {
        Names { bodies: vec![Body::default()] }
    }
}

impl Names {
    fn body(&mut self) -> &mut Body {
        self.bodies.last_mut().expect("naming: a body is open")
    }

    /// Enters the body of an instance called `name`; the same instance called again gives the same names.
    pub(super) fn enter_call(&mut self, name: &str) {
        self.bodies.push(Body { prefix: name.to_string(), ..Body::default() });
    }

    /// Leaves the body.
    pub(super) fn leave_call(&mut self) {
        self.bodies.pop();
    }

    /// Goes to a place of the same body, and says where it was.
    pub(super) fn go(&mut self, place: Place) -> Place {
        std::mem::replace(&mut self.body().place, place)
    }

    /// Enters the binding `name`, and says where it was.
    pub(super) fn enter_binding(&mut self, name: &str) -> Place {
        let body = self.body();
        let before = body.place.clone();
        body.place.bindings.push(name.to_string());
        let turns = std::mem::take(&mut body.place.turns);
        body.place.bindings.extend(turns.iter().map(usize::to_string));
        before
    }

    /// Enters turn `k` (from 1) of a `repeat`, and says where it was.
    pub(super) fn enter_turn(&mut self, k: usize) -> Place {
        let body = self.body();
        let before = body.place.clone();
        body.place.turns.push(k);
        before
    }

    /// The next mention is called `name` (`@name`).
    pub(super) fn replace_next(&mut self, name: &str) {
        self.body().replacement = Some(name.to_string());
    }

    /// Whether `@name` was given to nothing; it is dropped then.
    pub(super) fn replacement_left(&mut self) -> bool {
        self.body().replacement.take().is_some()
    }

    /// The name of a weight that the program names itself, as `learn` does.
    pub(super) fn own(&mut self, name: &str) -> String {
        let body = self.body();
        joined(&body.prefix, body.place.bindings.iter().cloned().chain([name.to_string()]))
    }

    /// The name of a mention of `kind`.
    pub(super) fn mention(&mut self, kind: &str) -> String {
        let body = self.body();
        if let Some(name) = body.replacement.take() {
            let turns = body.place.bindings.iter().filter(|b| b.bytes().all(|c| c.is_ascii_digit())).cloned();
            return joined(&body.prefix, std::iter::once(name).chain(turns));
        }
        let path = joined(&body.prefix, body.place.bindings.iter().cloned());
        let ordinal = body.ordinals.entry(joined(&path, [kind.to_string()])).or_insert(0);
        *ordinal += 1;
        let last = match (*ordinal, body.place.bindings.is_empty()) {
            (1, false) => kind.to_string(),
            (k, _) => format!("{kind}{k}"),
        };
        joined(&path, [last])
    }
}

fn joined(prefix: &str, rest: impl IntoIterator<Item = String>) -> String {
    let mut parts = if prefix.is_empty() { Vec::new() } else { vec![prefix.to_string()] };
    parts.extend(rest);
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_bindings_turns_and_ordinals() {
        let mut n = Names::default();
        assert_eq!([n.mention("linear"), n.mention("linear"), n.mention("mlp")], ["linear1", "linear2", "mlp1"]);
        let top = n.enter_binding("z");
        assert_eq!([n.mention("linear"), n.mention("linear")], ["z.linear", "z.linear2"]);
        n.go(top);
        let turn = n.enter_turn(2);
        n.enter_binding("f");
        let layer = n.mention("res");
        assert_eq!(layer, "f.2.res");
        n.enter_call(&layer);
        assert_eq!(n.mention("linear"), "f.2.res.linear1");
        n.leave_call();
        n.replace_next("embed");
        assert_eq!(n.mention("linear"), "embed.2");
        n.go(turn);
        n.enter_binding("z");
        assert_eq!(n.mention("linear"), "z.linear3");
    }
}
