//! `gdlc run`: compile, load, run on real data; the outputs' shapes, and the accuracy where there are labels.

use std::time::Instant;

use crate::derive::instance::{self, Filling};
use crate::driver::arguments::{Float, Run};
use crate::driver::binding;
use crate::driver::compiled::Compiled;
use crate::driver::failure::Failure;
use crate::driver::neighbours::{self, Built};
use crate::driver::output::say;
use crate::driver::progress::Progress;
use crate::driver::reference;
use crate::driver::score::{self, Row};
use crate::driver::session::Session;
use crate::driver::tensors::{self, Precision, Tensor, Tensors};
use crate::math::Rng;
use crate::tensor::eval::Arguments;

/// Runs one model on a file of tensors.
pub fn run(options: &Run) -> Result<(), Failure> {
    let mut session = Session::open(&options.source)?.with_code_that_runs(&options.code)?;
    let start = Instant::now();
    let program = session.check()?;
    let model = session.model(&program)?;
    let compiled = Compiled::new(&session, &program, model, session.dtype())?;
    let loaded = compiled.load()?;
    let compile_time = start.elapsed();

    let mut inputs = tensors::read(&options.input)?;
    let built = neighbours::complete(&program, model, &mut inputs)?;
    for name in binding::one_sample(&compiled.interface, &mut inputs) {
        eprintln!("note: {} has no `{name}`: all its points are taken as one sample", options.input.display());
    }
    binding::inputs(&compiled.interface, &inputs)?;
    for name in unused(&compiled, &inputs) {
        eprintln!("note: `{name}` of {} is no input of {}", options.input.display(), model.name);
    }
    let weights = match (&options.weights, options.init) {
        (Some(path), _) => tensors::read(path)?,
        (None, Some(seed)) => fresh(&compiled, seed),
        (None, None) => return Err(Failure::call("give --weights FILE or --init SEED")),
    };
    let mut instance = compiled.instance(&loaded, &inputs, &weights)?;
    let start = Instant::now();
    let progress = Progress::of(format!("running {}", model.name));
    let outputs = compiled.named(instance.call(&compiled.arguments(&inputs))?);
    let call_time = start.elapsed();
    drop(progress);

    if let Some(path) = &options.output {
        let precision = if options.source.dtype == Float::F32 { Precision::Single } else { Precision::Double };
        tensors::write(path, &outputs, precision)?;
    }
    let scores = outputs.values().next().map(|logits| score::score(logits, &inputs)).transpose()?.unwrap_or_default();
    if options.source.json {
        say!("{}", json(&outputs, &scores));
        return Ok(());
    }
    say!("{}: compiled in {:.0} ms, ran in {:.2} ms", model.name, millis(compile_time), millis(call_time));
    for Built { domain, cutoff, edges } in &built {
        say!("  {domain}: {edges} edges built, all pairs within {cutoff}");
    }
    for (name, tensor) in &outputs {
        say!("  {name} {:?}  {}", tensor.shape, summary(tensor));
    }
    print_scores(&scores);
    Ok(())
}

/// Tensors of a file that nothing here reads: neither inputs, nor labels and the numbers of their groups.
fn unused<'t>(compiled: &Compiled, tensors: &'t Tensors) -> Vec<&'t str> {
    let scored = |tensor: &Tensor| tensors.contains_key("labels") && tensor.indices().is_some();
    let declared = |name: &str| compiled.interface.inputs.iter().any(|i| i.name == name);
    tensors.iter().filter(|(name, t)| !declared(name) && !scored(t)).map(|(name, _)| name.as_str()).collect()
}

/// Weights from the derived initialisers, the same for the same seed.
fn fresh(compiled: &Compiled, seed: u64) -> Tensors {
    let mut arguments = Arguments::default();
    instance::weights(&compiled.algebra.derived.graph, Filling::Initial, &mut arguments, &mut Rng::new(seed));
    reference::weights(&arguments)
}

fn millis(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A few numbers of a tensor: all of a short one, the range of a long one.
fn summary(tensor: &Tensor) -> String {
    let values = tensor.reals();
    if values.len() <= 8 {
        return values.iter().map(|x| format!("{x:.6}")).collect::<Vec<_>>().join(" ");
    }
    let bad = values.iter().filter(|x| !x.is_finite()).count();
    if bad == values.len() {
        return format!("all {bad} not finite");
    }
    let finite = values.iter().filter(|x| x.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(*x), h.max(*x)));
    let not_finite = if bad > 0 { format!(", {bad} not finite") } else { String::new() };
    format!("from {low:.6} to {high:.6}{not_finite}")
}

fn print_scores(scores: &[Row]) {
    for row in scores {
        let difference = row.difference.map(|d| format!("   outputs differ by at most {d:.1e}")).unwrap_or_default();
        say!("  accuracy {:<16} {:.4}  ({} of {}){difference}", row.name, row.accuracy(), row.right, row.of);
    }
}

fn json(outputs: &Tensors, scores: &[Row]) -> serde_json::Value {
    let shapes = outputs.iter().map(|(name, t)| serde_json::json!({ "name": name, "shape": t.shape }));
    let score = |r: &Row| serde_json::json!({ "group": r.name, "right": r.right, "of": r.of, "accuracy": r.accuracy(), "difference": r.difference });
    serde_json::json!({
        "outputs": shapes.collect::<Vec<_>>(),
        "accuracy": scores.iter().map(score).collect::<Vec<_>>(),
    })
}
