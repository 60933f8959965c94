//! The manifest of a library: what the table says, as JSON, for programs that do not load it.

use serde_json::{Value, json};

use super::Member;
use super::header::real;
use crate::codegen::abi::{Element, Interface, Tensor};

/// The manifest of a model, the first member, and, within it, of its derivatives.
pub(super) fn manifest(members: &[Member<'_>]) -> String {
    let mut text = serde_json::to_string_pretty(&model(members, 0)).expect("manifest: names are text");
    text.push('\n');
    text
}

/// One model, whose symbols are `gdl_<name>_..`, and the models of its derivatives.
fn model(members: &[Member<'_>], k: usize) -> Value {
    let interface = members[k].interface;
    let derivative = |of: Option<usize>| of.map_or(Value::Null, |k| model(members, k));
    let name = super::tables::symbol_name(&interface.name);
    let tensors = |all: &[Tensor]| -> Vec<Value> { all.iter().map(|t| tensor(interface, t)).collect() };
    let needed: Vec<Value> = interface
        .sizes
        .preconditions
        .iter()
        .map(|p| json!({ "size": interface.sizes.show(p.size), "modulus": p.modulus, "reason": p.reason }))
        .collect();
    let facts: serde_json::Map<String, Value> =
        interface.facts.iter().map(|(k, v)| (k.clone(), Value::String(v.clone()))).collect();
    json!({
        "version": 3,
        "name": interface.name,
        "symbols": format!("gdl_{name}_"),
        "dtype": real(interface.dtype),
        "sizes": interface.sizes.iter().map(|(_, info)| info.name.clone()).collect::<Vec<_>>(),
        "preconditions": needed,
        "inputs": tensors(&interface.inputs),
        "weights": tensors(&interface.weights),
        "outputs": tensors(&interface.outputs),
        "facts": facts,
        "vjp": derivative(members[k].vjp),
        "jvp": derivative(members[k].jvp),
        "keep": derivative(members[k].passes.map(|[keep, _]| keep)),
        "pullback": derivative(members[k].passes.map(|[_, pullback]| pullback)),
    })
}

fn tensor(interface: &Interface, t: &Tensor) -> Value {
    let shape: Vec<Value> = t
        .dims
        .iter()
        .map(|d| d.as_fixed().map_or_else(|| Value::String(interface.sizes.show(*d)), |n| json!(n)))
        .collect();
    let mut value = json!({ "name": t.name, "shape": shape, "about": t.about });
    match t.element {
        Element::Real => value["dtype"] = json!(real(interface.dtype)),
        Element::Index { range, sorted, table } => {
            value["dtype"] = json!(["int32", "int64"]);
            value["range"] = json!(interface.sizes.show(range));
            value["sorted"] = json!(sorted);
            value["given_at"] = json!(if table { "bind" } else { "call" });
        }
    }
    value
}
