//! A checked program as text, a line a value: for `emit`, for tests and for people.

use std::fmt::Write;

use super::hir::{Base, Model, Op, Program, Type};

/// All models of the program, then the layers that no model reaches.
pub fn print(program: &Program) -> String {
    let mut out = String::new();
    for (word, models) in [("model", &program.models), ("layer", &program.layers)] {
        models.iter().for_each(|m| model(&mut out, program, word, m));
    }
    for p in &program.sizes.preconditions {
        let _ = writeln!(out, "needs {} mod {} = 0", program.sizes.show(p.size), p.modulus);
    }
    out
}

fn model(out: &mut String, program: &Program, word: &str, m: &Model) {
    let _ = writeln!(out, "{word} {}", m.name);
    for (id, value) in m.values.iter() {
        let args = value.args.iter().map(|a| format!("%{}", a.index())).collect::<Vec<_>>().join(", ");
        let _ =
            writeln!(out, "  %{} = {}({args}): {}", id.index(), operation(&value.op, m), type_text(&value.ty, program));
    }
    for (name, v) in &m.results {
        let _ = writeln!(out, "  {name}: %{}", v.index());
    }
}

fn operation(op: &Op, m: &Model) -> String {
    match op {
        Op::Argument(k) => format!("argument {}", m.args[*k].name),
        Op::Linear(l) => {
            let word = if l.depthwise { "depthwise" } else { "linear" };
            format!("{word} {} over {:?}{}", l.name, l.over, if l.bias { "" } else { " nobias" })
        }
        other => format!("{other:?}"),
    }
}

/// `Pixels -> 8 regular`
pub fn type_text(ty: &Type, program: &Program) -> String {
    let fibre = ty.fibre.describe();
    match ty.base {
        Base::Constant => format!("constant {fibre}"),
        Base::Sample => fibre,
        Base::Points(d) => format!("{} -> {fibre}", program.domains[d].name),
        Base::Edges(d) => format!("{}.edges -> {fibre}", program.domains[d].name),
    }
}
