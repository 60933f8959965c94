//! `gdlc bench`: the time of a call and of each of its kernels on random inputs, beside the measured ceiling of this machine.

use crate::codegen::abi::Interface;
use crate::derive::instance::{self, Filling};
use crate::driver::arguments::{self, Bench};
use crate::driver::ceiling::Ceiling;
use crate::driver::code::Code;
use crate::driver::compiled::{Compiled, Derivative, Pass, bound, in_order};
use crate::driver::failure::Failure;
use crate::driver::output::say;
use crate::driver::progress::Progress;
use crate::driver::reference;
use crate::driver::session::Session;
use crate::kernel::ir::{Program, Stage};
use crate::kernel::pass::legalize::legalize;
use crate::kernel::work::{Work, least_bytes, work};
use crate::math::Rng;
use crate::tensor::eval;
use crate::tensor::graph::Graph;

/// Times every model of the file, or the one named.
pub fn bench(options: &Bench) -> Result<(), Failure> {
    let mut session = Session::open(&options.source)?.with_code_that_runs(&options.code)?;
    if options.calls == 0 {
        return Err(Failure::call("--calls 0: at least one call is timed"));
    }
    let other =
        options.vs.map(|backend| Code::that_runs(&arguments::Code { backend, ..options.code.clone() })).transpose()?;
    let wanted = options.size.iter().map(|text| size(text)).collect::<Result<Vec<_>, _>>()?;
    let program = session.check()?;
    if cfg!(debug_assertions) {
        eprintln!("note: gdlc itself is not optimised here, and measures too low a ceiling; build it with --release");
    }
    let ceiling = Ceiling::measure();
    for model in session.models(&program)? {
        let compiled = Compiled::with_derivatives(&session, &program, model, session.dtype(), options.grad)?;
        if let Some((name, _)) =
            wanted.iter().find(|(n, _)| compiled.interface.sizes.iter().all(|(_, info)| info.name != *n))
        {
            return Err(Failure::call(format!("{} has no run-time size `{name}`", model.name)));
        }
        let find = |name: &str, hint: usize| wanted.iter().find(|(n, _)| n == name).map_or(hint, |(_, v)| *v);
        for timed in Timed::all(&model.name, &compiled) {
            let sizes: Vec<usize> = timed.interface.sizes.iter().map(|(_, info)| find(&info.name, info.hint)).collect();
            too_large(&timed, &sizes)?;
            let progress = Progress::of(format!("timing {}", timed.interface.name));
            let times = Times::measure(&compiled, &timed, &sizes, options.calls, other)?;
            drop(progress);
            let limits = Limits { gflops: ceiling.gflops(timed.interface.dtype), gbytes: ceiling.gbytes };
            if options.source.json {
                say!("{}", json(&timed, &times, limits));
            } else {
                print(&timed, &times, limits);
            }
        }
    }
    Ok(())
}

/// A model of the library: the one of the file, or a derivative.
struct Timed<'c> {
    /// What is printed: `Digits`, `digits_vjp`.
    name: &'c str,
    graph: &'c Graph,
    program: &'c Program,
    interface: &'c Interface,
}

impl<'c> Timed<'c> {
    fn all(model: &'c str, compiled: &'c Compiled) -> Vec<Timed<'c>> {
        let Compiled { algebra, program, interface, .. } = compiled;
        let mut res = vec![Timed { name: model, graph: &algebra.derived.graph, program, interface }];
        for Derivative { graph, program, interface, .. } in &compiled.derivatives {
            res.push(Timed { name: &interface.name, graph, program, interface });
        }
        for Pass { graph, program, interface } in
            compiled.passes.iter().flat_map(|passes| [&passes.keep, &passes.pullback])
        {
            res.push(Timed { name: &interface.name, graph, program, interface });
        }
        res
    }
}

/// Fails where an argument or a result would not fit into memory.
fn too_large(timed: &Timed, sizes: &[usize]) -> Result<(), Failure> {
    let all = timed.interface.inputs.iter().chain(&timed.interface.outputs);
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

/// What one core can do, in this number type.
#[derive(Clone, Copy)]
struct Limits {
    gflops: f64,
    gbytes: f64,
}

/// What was measured: whole calls with one thread and with all, and each kernel of a call with one.
struct Times {
    /// Those of the instance, and those that were counted from its tables.
    sizes: Vec<usize>,
    calls: Vec<Row>,
    kernels: Vec<Row>,
}

struct Row {
    name: String,
    threads: usize,
    /// Seconds.
    median: f64,
    least: f64,
    /// The median of the other backend, timed in turn.
    other: Option<f64>,
    work: Work,
}

impl Row {
    /// From the seconds of each run, by one backend or two.
    fn new(name: String, threads: usize, work: Work, mut seconds: Vec<Vec<f64>>) -> Row {
        seconds.iter_mut().for_each(|s| s.sort_by(f64::total_cmp));
        let medians: Vec<f64> = seconds.iter().map(|s| s[s.len() / 2]).collect();
        Row { name, threads, median: medians[0], least: seconds[0][0], other: medians.get(1).copied(), work }
    }

    fn gflops(&self) -> f64 {
        self.work.flops / self.median / 1e9
    }

    fn gbytes(&self) -> f64 {
        self.work.bytes / self.median / 1e9
    }

    /// The share of the limit that binds, and which one it is: whatever needs more time at its ceiling.
    fn share(&self, limits: Limits) -> (f64, &'static str) {
        let compute = self.gflops() / (limits.gflops * self.threads as f64);
        let memory = self.gbytes() / limits.gbytes;
        if compute >= memory { (compute, "compute") } else { (memory, "memory") }
    }
}

impl Times {
    fn measure(
        compiled: &Compiled,
        timed: &Timed,
        sizes: &[usize],
        calls: usize,
        other: Option<Code>,
    ) -> Result<Times, Failure> {
        let (graph, name) = (timed.graph, &timed.interface.name);
        let arguments = instance::arguments(graph, sizes.to_vec(), Filling::Initial, &mut Rng::new(1));
        let (inputs, weights) = (reference::inputs(graph, &arguments), reference::weights(&arguments));
        let mut loaded = vec![compiled.load_model(name)?];
        if let Some(code) = other {
            loaded.push(compiled.load_by(code, name)?);
        }
        let made = loaded.iter().map(|loaded| bound(timed.interface, loaded, &inputs, &weights));
        let mut instances = made.collect::<Result<Vec<_>, _>>()?;
        let inputs = in_order(timed.interface, &inputs);
        // an instance has as many samples as its points name, and the pairs that its edges make
        let mut known: Vec<usize> = instances[0].sizes().iter().map(|n| *n as usize).collect();
        let counted = eval::counted(graph, &arguments).map_err(Failure::bug)?;
        known.extend(&counted.sizes[known.len()..]);
        let work = kernel_work(timed.program, &known);
        let add = |a: Work, b: &(String, Work)| Work { flops: a.flops + b.1.flops, bytes: a.bytes + b.1.bytes };
        let all = work.iter().fold(Work::default(), add);
        let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut res = Times { sizes: known, calls: vec![], kernels: vec![] };
        for threads in [1, available] {
            if res.calls.iter().any(|r| r.threads == threads) {
                continue;
            }
            let mut seconds = vec![vec![]; instances.len()];
            for _ in 0..calls {
                for (instance, seconds) in instances.iter_mut().zip(&mut seconds) {
                    instance.threads = threads as u32;
                    // The first call of a round warms the caches.
                    seconds.push(instance.call_timed(&inputs, 2)?.1[1]);
                }
            }
            let name = format!("a call, {threads} thread{}", if threads == 1 { "" } else { "s" });
            res.calls.push(Row::new(name, threads, all, seconds));
        }
        let mut seconds = vec![vec![vec![]; instances.len()]; work.len()];
        for _ in 0..calls {
            for (k, instance) in instances.iter_mut().enumerate() {
                instance.threads = 1;
                for (kernel, time) in seconds.iter_mut().zip(instance.kernel_times(&inputs)?) {
                    kernel[k].push(time);
                }
            }
        }
        res.kernels = work.into_iter().zip(seconds).map(|((name, work), s)| Row::new(name, 1, work, s)).collect();
        Ok(res)
    }
}

/// The kernels of a call by name, each with its work, scalar functions written out.
fn kernel_work(program: &Program, sizes: &[usize]) -> Vec<(String, Work)> {
    let mut program = program.clone();
    legalize(&mut program);
    let kernels = program.kernels.iter().filter(|k| k.stage == Stage::Call);
    kernels.map(|k| (k.name.clone(), work(&program, k, sizes))).collect()
}

fn named_sizes(timed: &Timed, sizes: &[usize]) -> Vec<String> {
    timed.interface.sizes.iter().zip(sizes).map(|((_, info), n)| format!("{}={n}", info.name)).collect()
}

fn json(timed: &Timed, times: &Times, limits: Limits) -> serde_json::Value {
    let row = |r: &Row| {
        let (share, bound) = r.share(limits);
        serde_json::json!({
            "name": r.name, "threads": r.threads, "median_s": r.median, "min_s": r.least, "other_median_s": r.other,
            "flops": r.work.flops, "bytes": r.work.bytes, "gflops": r.gflops(), "gbytes_s": r.gbytes(),
            "share": share, "bound": bound,
        })
    };
    serde_json::json!({
        "model": timed.name, "sizes": named_sizes(timed, &times.sizes),
        "peak_gflops": limits.gflops, "peak_gbytes_s": limits.gbytes,
        "calls": times.calls.iter().map(row).collect::<Vec<_>>(),
        "kernels": times.kernels.iter().map(row).collect::<Vec<_>>(),
        "least_bytes": least_bytes(timed.program, &times.sizes),
    })
}

fn print(timed: &Timed, times: &Times, limits: Limits) {
    let name = timed.name;
    say!(
        "{name} ({}); one core of this machine, measured: {:.0} GFLOP/s, {:.1} GB/s from memory",
        named_sizes(timed, &times.sizes).join(", "),
        limits.gflops,
        limits.gbytes
    );
    let rows = || times.kernels.iter().chain(&times.calls);
    let width = rows().map(|r| r.name.chars().count()).max().unwrap_or(0).max("kernel".len());
    say!(
        "  {:<width$}  {:>11}  {:>11}  {:>6}  {:>9}  {:>7}  share of the ceiling",
        "kernel",
        "median us",
        "least us",
        "time",
        "GFLOP/s",
        "GB/s"
    );
    let whole: f64 = times.kernels.iter().map(|r| r.median).sum();
    for r in &times.kernels {
        line(r, width, &format!("{:.0} %", 100.0 * r.median / whole), limits);
    }
    for r in &times.calls {
        line(r, width, "", limits);
    }
    let (moved, least) = (times.calls[0].work.bytes, least_bytes(timed.program, &times.sizes));
    say!(
        "  A call moves {:.3} MB; arguments, weights and results once are {:.3} MB: {:.2} times the floor.",
        moved / 1e6,
        least / 1e6,
        moved / least.max(1.0)
    );
    say!("  Each kernel alone, one thread. A share of memory above 100 %: the numbers came from the caches.");
}

fn line(r: &Row, width: usize, time: &str, limits: Limits) {
    let (share, bound) = r.share(limits);
    let ratio =
        |other: f64| format!("; the other backend {:.2} us, {:.2} times as long", other * 1e6, other / r.median);
    say!(
        "  {:<width$}  {:>11.2}  {:>11.2}  {time:>6}  {:>9.2}  {:>7.2}  {:>4.0} % of {bound}{}",
        r.name,
        r.median * 1e6,
        r.least * 1e6,
        r.gflops(),
        r.gbytes(),
        100.0 * share,
        r.other.map(ratio).unwrap_or_default()
    );
}

fn size(text: &str) -> Result<(String, usize), Failure> {
    let wrong = || Failure::call(format!("--size {text}: expected NAME=NUMBER, such as --size n=64"));
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    Ok((name.trim().to_string(), value.trim().parse().map_err(|_| wrong())?))
}
