//! `gdlc bench`: the time of a call on random inputs, its GFLOP/s and GB/s, beside the measured ceiling of this machine.

use crate::derive::instance::{self, Filling};
use crate::driver::arguments::Bench;
use crate::driver::ceiling::Ceiling;
use crate::driver::code::{self, Code};
use crate::driver::compiled::Compiled;
use crate::driver::failure::Failure;
use crate::driver::reference;
use crate::driver::session::Session;
use crate::math::Rng;
use crate::tensor;

/// Times every model of the file, or the one named.
pub fn bench(options: &Bench) -> Result<(), Failure> {
    let mut session = Session::open(&options.source)?.with_code(&options.code)?;
    if options.calls == 0 {
        return Err(Failure::call("--calls 0: at least one call is timed"));
    }
    let wanted = options.size.iter().map(|text| size(text)).collect::<Result<Vec<_>, _>>()?;
    let program = session.check()?;
    for model in session.models(&program)? {
        let compiled = Compiled::new(&session, &program, model, session.dtype())?;
        if let Some((name, _)) =
            wanted.iter().find(|(n, _)| compiled.interface.sizes.iter().all(|(_, info)| info.name != *n))
        {
            return Err(Failure::call(format!("{} has no run-time size `{name}`", model.name)));
        }
        let find = |name: &str, hint: usize| wanted.iter().find(|(n, _)| n == name).map_or(hint, |(_, v)| *v);
        let sizes: Vec<usize> = compiled.interface.sizes.iter().map(|(_, info)| find(&info.name, info.hint)).collect();
        too_large(&compiled, &sizes)?;
        let other =
            options.vs.map(|name| code::backend(name).map(|backend| Code { backend, ..session.code })).transpose()?;
        let rows = time(&compiled, &sizes, options.calls, other)?;
        print(&model.name, &compiled, &sizes, &rows, options.source.json);
    }
    Ok(())
}

/// Fails where an argument or a result would not fit into memory.
fn too_large(compiled: &Compiled, sizes: &[usize]) -> Result<(), Failure> {
    let all = compiled.interface.inputs.iter().chain(&compiled.interface.outputs);
    for tensor in all {
        let dims = tensor.dims.iter().map(|d| d.eval(|v| sizes[v.0 as usize]));
        let count = dims.fold(Some(1usize), |count, n| count.and_then(|c| c.checked_mul(n)));
        if count.is_none_or(|c| c > MOST_NUMBERS) {
            return Err(Failure::call(format!(
                "`{}` would have more than {MOST_NUMBERS} numbers at these sizes",
                tensor.name
            )));
        }
    }
    Ok(())
}

/// The largest tensor that is made up for timing: 2 GiB as f64.
const MOST_NUMBERS: usize = 1 << 28;

/// What was measured.
struct Row {
    threads: usize,
    median: f64,
    least: f64,
    gflops: f64,
    gbytes: f64,
    /// The median of the other backend, timed in turn.
    other: Option<f64>,
}

fn time(compiled: &Compiled, sizes: &[usize], calls: usize, other: Option<Code>) -> Result<Vec<Row>, Failure> {
    let graph = &compiled.algebra.derived.graph;
    let arguments = instance::arguments(graph, sizes.to_vec(), Filling::Initial, &mut Rng::new(1));
    let (inputs, weights) = (reference::inputs(graph, &arguments), reference::weights(&arguments));
    let mut loaded = vec![compiled.load()?];
    if let Some(code) = other {
        loaded.push(compiled.load_by(code)?);
    }
    let made = loaded.iter().map(|loaded| compiled.instance(loaded, &inputs, &weights));
    let mut instances = made.collect::<Result<Vec<_>, _>>()?;
    let work = tensor::cost::total(&at_sizes(compiled, sizes));
    let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut rows = Vec::new();
    for threads in [1, available] {
        if rows.iter().any(|r: &Row| r.threads == threads) {
            continue;
        }
        let mut seconds: Vec<Vec<f64>> = vec![vec![]; instances.len()];
        for _ in 0..calls {
            for (instance, seconds) in instances.iter_mut().zip(&mut seconds) {
                instance.threads = threads as u32;
                // The first call of a round warms the caches.
                let (_, both) = instance.call_timed(&compiled.arguments(&inputs), 2)?;
                seconds.push(both[1]);
            }
        }
        seconds.iter_mut().for_each(|s| s.sort_by(f64::total_cmp));
        let medians: Vec<f64> = seconds.iter().map(|s| s[s.len() / 2]).collect();
        let (median, seconds) = (medians[0], &seconds[0]);
        rows.push(Row {
            threads,
            median,
            least: seconds[0],
            gflops: work.flops / median / 1e9,
            gbytes: work.bytes / median / 1e9,
            other: medians.get(1).copied(),
        });
    }
    Ok(rows)
}

/// The program with the sizes of this run as the expected ones, so that its work is counted for them.
fn at_sizes(compiled: &Compiled, sizes: &[usize]) -> tensor::graph::Graph {
    let mut graph = compiled.algebra.graph.clone();
    graph.sizes = graph.sizes.with_hints(sizes);
    graph
}

fn print(name: &str, compiled: &Compiled, sizes: &[usize], rows: &[Row], json: bool) {
    let ceiling = Ceiling::measure();
    let peak = ceiling.gflops(compiled.interface.dtype);
    let shown: Vec<String> =
        compiled.interface.sizes.iter().zip(sizes).map(|((_, info), n)| format!("{}={n}", info.name)).collect();
    if json {
        let row = |r: &Row| serde_json::json!({ "threads": r.threads, "median_s": r.median, "min_s": r.least, "gflops": r.gflops, "gbytes_s": r.gbytes, "other_median_s": r.other });
        println!(
            "{}",
            serde_json::json!({ "model": name, "sizes": shown, "peak_gflops": peak, "rows": rows.iter().map(row).collect::<Vec<_>>() })
        );
        return;
    }
    println!(
        "{name} ({}); the ceiling of one core, measured: {peak:.0} GFLOP/s, {:.0} GB/s from memory",
        shown.join(", "),
        ceiling.gbytes
    );
    for r in rows {
        let ratio =
            |other: f64| format!("; the other backend {:.3} ms, {:.2} times as long", other * 1e3, other / r.median);
        println!(
            "  {} thread{}: median {:.3} ms, least {:.3} ms, {:.1} GFLOP/s ({:.0} % of the ceiling), {:.1} GB/s{}",
            r.threads,
            if r.threads == 1 { "" } else { "s" },
            r.median * 1e3,
            r.least * 1e3,
            r.gflops,
            100.0 * r.gflops / (peak * r.threads as f64),
            r.gbytes,
            r.other.map(ratio).unwrap_or_default(),
        );
    }
}

fn size(text: &str) -> Result<(String, usize), Failure> {
    let wrong = || Failure::call(format!("--size {text}: expected NAME=NUMBER, such as --size n=64"));
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    Ok((name.trim().to_string(), value.trim().parse().map_err(|_| wrong())?))
}
