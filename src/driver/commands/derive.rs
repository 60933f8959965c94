//! `gdlc derive`: the blueprint of every model.

use crate::driver::arguments::Source;
use crate::driver::failure::Failure;
use crate::driver::session::Session;

/// Prints a row a derived layer.
pub fn derive(options: &Source) -> Result<(), Failure> {
    let mut session = Session::open(options)?;
    let program = session.check()?;
    for model in session.models_and_layers(&program)? {
        let derived = session.derive(&program, model)?;
        if options.json {
            println!("{}", blueprint_json(&derived.blueprint));
        } else {
            println!("{}", derived.blueprint);
        }
    }
    Ok(())
}

fn blueprint_json(blueprint: &crate::derive::Blueprint) -> serde_json::Value {
    let row = |r: &crate::derive::Row| {
        let hom = |h: &crate::derive::blueprint::Hom| serde_json::json!({ "input": h.input, "output": h.output, "dim": h.dim });
        serde_json::json!({
            "name": r.name, "input": r.input, "output": r.output, "over": r.over, "orbits": r.orbits,
            "stabiliser": r.stabiliser, "hom": r.hom.iter().map(hom).collect::<Vec<_>>(), "weights": r.weights,
            "lowering": r.lowering, "flops": r.flops, "bytes": r.bytes,
        })
    };
    serde_json::json!({ "model": blueprint.model, "layers": blueprint.rows.iter().map(row).collect::<Vec<_>>() })
}
