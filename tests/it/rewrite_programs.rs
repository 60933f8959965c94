//! Rewriting on programs that people write: every founding program and example that derives keeps its meaning,
//! gets no slower, and is searched quickly.

use std::path::Path;
use std::time::Duration;

use egg::Id;

use gdlc::base::span::SourceMap;
use gdlc::derive::instance::{Filling, arguments, small_sizes};
use gdlc::math::Rng;
use gdlc::rewrite::rules::{LAWS, Law};
use gdlc::rewrite::{Options, optimise};
use gdlc::tensor::cost::{Work, operand, volume, work};
use gdlc::tensor::eval::eval;
use gdlc::tensor::graph::{Graph, Needs};
use gdlc::tensor::op::{Node, Op};
use gdlc::tensor::print::print;

/// The models of a program that derive, by name.
fn derived(path: &Path) -> Vec<(String, Graph)> {
    derived_from(&path.to_string_lossy(), &std::fs::read_to_string(path).unwrap())
}

pub(crate) fn derived_from(name: &str, text: &str) -> Vec<(String, Graph)> {
    let mut sources = SourceMap::default();
    let id = sources.add(name, text);
    let (ast, mistakes) = gdlc::syntax::parse(&sources, id);
    assert!(mistakes.is_empty(), "{name}: {mistakes:?}");
    let (program, _) = gdlc::sema::check(&ast, &mut sources, &gdlc::sema::LibraryOnly, &[]);
    let Some(program) = program else { return vec![] };
    let model = |m| gdlc::derive::derive(&program, m).ok().map(|d| d.graph);
    program.models.iter().filter_map(|m| model(m).map(|g| (m.name.clone(), g))).collect()
}

/// Every founding program, example and program that expects something that derives.
pub(crate) fn programs() -> Vec<(String, Graph)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["examples", "tests/programs/founding", "tests/programs/expect"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "gdl") {
                files.push(path);
            }
        }
    }
    files.sort();
    // an example that is a founding program too is looked at once
    let stems: Vec<_> = files.iter().map(|p| p.file_stem().map(|s| s.to_owned())).collect();
    let mut at = 0..;
    files.retain(|_| at.next().is_some_and(|k| !stems[..k].contains(&stems[k])));
    let name = |p: &Path, model: String| format!("{} {model}", p.file_stem().unwrap().to_string_lossy());
    files.iter().flat_map(|p| derived(p).into_iter().map(move |(m, g)| (name(p, m), g))).collect()
}

#[test]
fn founding_programs_keep_their_meaning() {
    let programs = programs();
    assert!(programs.len() >= 4, "only {} models derive", programs.len());
    let mut total = Duration::ZERO;
    for (name, graph) in &programs {
        let (new, report) = optimise(graph, &Options::default());
        total += report.time;
        println!(
            "{name}: {:.3e} → {:.3e} s, {:?} operations, {:.0?}, {:?}",
            report.before, report.after, report.operations, report.time, report.laws
        );
        assert!(report.after <= report.before * (1.0 + 1e-9), "{name}: {} grew to {}", report.before, report.after);
        let args = arguments(graph, small_sizes(graph, 2), Filling::Generic, &mut Rng::new(7));
        let start = std::time::Instant::now();
        let before = eval(graph, &args).unwrap();
        let middle = std::time::Instant::now();
        let after = eval(&new, &args).unwrap();
        println!("  evaluated in {:.0?}, then in {:.0?}", middle - start, middle.elapsed());
        for (output, a) in &before {
            let scale = a.data.iter().fold(1.0, |m, x| f64::max(m, x.abs()));
            for (x, y) in a.data.iter().zip(&after[output].data) {
                assert!((x - y).abs() <= 1e-9 * scale, "{name}: {output} was {x} and is {y}");
            }
        }
    }
    println!("{} models in {total:.0?}", programs.len());
}

const WEIGHTS: Needs = Needs { weights: true, tables: false, data: false };

/// A model in one line under a founding program.
fn founding(file: &str, model: &str) -> Graph {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/founding").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    written(&format!("{text}\n{model}\n"), model)
}

/// The model that the line `model` declares.
fn written(text: &str, model: &str) -> Graph {
    let name = model.trim_start_matches("model ").split(['[', '(']).next().unwrap();
    let found = derived_from("program.gdl", text).into_iter().find(|(n, _)| n == name);
    found.unwrap_or_else(|| panic!("{name} does not derive")).1
}

/// The program with and without a law.
fn rewritten(graph: &Graph, without: Option<&str>) -> (Graph, f64) {
    let laws: Vec<Law> = LAWS.iter().filter(|l| Some(l.name) != without).copied().collect();
    assert!(without.is_none() || laws.len() + 1 == LAWS.len());
    let (new, report) = optimise(graph, &Options { laws: laws.leak(), ..Options::default() });
    println!("without {without:?}: {:.3e} → {:.3e} s\n{}", report.before, report.after, print(&new));
    (new, report.after)
}

fn work_of(g: &Graph, node: &Node) -> Work {
    work(node, &node.args.iter().map(|a| operand(g, *a)).collect::<Vec<_>>())
}

/// The floating-point operations of the products of a call, largest first.
fn products(g: &Graph) -> Vec<f64> {
    let of_a_call = |(id, n): &(Id, &Node)| n.op == Op::Contract && g.ty(*id).needs.data;
    let mut res: Vec<f64> = g.nodes().filter(of_a_call).map(|(_, n)| work_of(g, n).flops).collect();
    res.sort_by(|a, b| b.total_cmp(a));
    res
}

/// How many products of a call take at least as many operations.
fn large(g: &Graph, flops: f64) -> usize {
    products(g).iter().filter(|f| **f >= flops).count()
}

/// The expected number of elements of the largest value that a call computes.
fn largest(g: &Graph) -> f64 {
    let of_a_call = |(id, n): &(Id, &Node)| !n.op.is_leaf() && g.ty(*id).needs.data;
    g.nodes().filter(of_a_call).map(|(id, _)| volume(&g.sizes, g.ty(id))).fold(0.0, f64::max)
}

#[test]
fn gcn_multiplies_on_the_narrow_side() {
    for model in
        ["model N(x: Graph -> 256): Graph -> 16 = gcn[16](x)", "model W(x: Graph -> 16): Graph -> 256 = gcn[256](x)"]
    {
        let (new, _) = rewritten(&founding("gnn.gdl", model), None);
        let along_edges = |(_, n): &(Id, &Node)| n.op == Op::Contract && n.args.iter().any(|a| new.ty(*a).relation);
        let flops: f64 = new.nodes().filter(along_edges).map(|(_, n)| work_of(&new, n).flops).sum();
        // an edge moves 16 channels, a multiplication and an addition each, and its factor; not 256
        assert!(flops < 160_000.0 * (2.0 * 16.0 + 16.0), "{model}: {flops:e}");
    }
}

#[test]
fn the_edge_network_of_mpnn_is_split_and_its_maximum_taken_over_senders_alone() {
    let graph = founding("gnn.gdl", "model M(x: Graph -> 64, e: Graph.edges -> 8): Graph -> 64 = mpnn[64](x, e)");
    let (new, cost) = rewritten(&graph, None);
    let (node, edge) = (2.0 * 10_000.0 * 64.0 * 64.0, 2.0 * 160_000.0 * 64.0 * 64.0);
    // as written both ends of each of the 160000 edges are multiplied by 64 x 64 numbers
    assert_eq!((large(&graph, edge), large(&new, edge)), (2, 0), "{:?}", products(&new));
    // instead the nodes are, in the message and in the update: twice each; edges only by the 8 x 64 of their own features
    assert_eq!(large(&new, node), 4 + 1, "{:?}", products(&new));
    assert_eq!(large(&new, 1.1 * edge / 8.0), 0, "{:?}", products(&new));
    // what the receiver adds to all its messages is added to their maximum: it is not brought to the edges
    let (other, more) = rewritten(&graph, Some("max-plus"));
    let at_edges = |g: &Graph| g.nodes().filter(|(id, _)| volume(&g.sizes, g.ty(*id)) == 160_000.0 * 64.0).count();
    assert_eq!((at_edges(&new), at_edges(&other)), (3, 4));
    assert!(more > 1.05 * cost, "{more:e} and {cost:e}");
}

#[test]
fn no_edge_of_egnn_is_multiplied_by_a_matrix() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/founding/egnn.gdl");
    let text = std::fs::read_to_string(path).unwrap().replace("points(n)", "points(n ~ 1000, m ~ 16000)");
    let line = "model E(h: Cloud -> 64, x: Cloud -> position) = egnn[64](h, x)";
    let graph = written(&format!("{text}\n{line}\n"), line);
    let (new, _) = rewritten(&graph, None);
    // the first layer is split into products of the nodes; the second is linear, so it is applied after the sum over
    // the neighbours, and joined to the one-column matrix that is applied to it next
    let edge = 2.0 * 16_000.0 * 64.0 * 64.0;
    assert!(large(&graph, edge) >= 3, "{:?}", products(&graph));
    assert_eq!(large(&new, edge), 0, "{:?}", products(&new));
}

#[test]
fn of_the_fifteen_maps_of_pairs_two_are_multiplied_at_full_size() {
    let graph = founding("sets.gdl", "model Wide(a: Pairs -> 32): Pairs -> 32 = a |> linear 32 over all");
    let (new, _) = rewritten(&graph, None);
    let (_, input) = new.inputs.iter().find(|(_, i)| i.name == "a").expect("the argument");
    let full = 2.0 * 32.0 * input.dims.iter().map(|d| new.sizes.hint(*d) as f64).product::<f64>();
    // only the identity and the transpose differ at all n² pairs; the others are constant along rows, along columns,
    // or zero off the diagonal
    assert_eq!(large(&new, full), 2, "{:?}", products(&new));
    assert_eq!(large(&new, full / 10.0), 2, "{:?}", products(&new));
}

#[test]
fn deep_sets_multiply_the_mean_once_a_sample() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/founding/sets.gdl");
    let (_, graph) = derived(&path).into_iter().find(|(name, _)| name == "DeepSets").expect("it derives");
    let (new, _) = rewritten(&graph, None);
    let (_, input) = new.inputs.iter().find(|(_, i)| i.name == "x").expect("the argument");
    // the hidden layer has two maps of 256 x 256: of the element, and of the mean, which is the same for all elements
    let element = 2.0 * 256.0 * 256.0 * new.sizes.hint(input.dims[0]) as f64;
    assert_eq!((large(&graph, element), large(&new, element)), (2, 1), "{:?}", products(&new));
}

#[test]
fn a_convolution_takes_up_the_linear_map_behind_it() {
    let graph = founding("unet.gdl", "model Merged(x: Scan -> 16): Scan -> 16 = x |> linear 64 over 3x3 |> linear 16");
    let (new, _) = rewritten(&graph, None);
    let (_, input) = new.inputs.iter().find(|(_, i)| i.name == "x").expect("the argument");
    let values: f64 = input.dims.iter().map(|d| new.sizes.hint(*d) as f64).product();
    // 16 x 16 numbers a tap instead of 16 x 64
    let merged = 2.0 * values * 9.0 * 16.0;
    assert_eq!((large(&graph, 4.0 * merged), large(&new, 1.1 * merged), large(&new, merged)), (1, 0, 1));
    // and they are made once an update of the weights
    let early = |(id, n): &(Id, &Node)| n.op == Op::Contract && new.ty(*id).needs == WEIGHTS;
    let sizes: Vec<f64> = new.nodes().filter(early).map(|(id, _)| volume(&new.sizes, new.ty(id))).collect();
    assert!(sizes.contains(&(9.0 * 16.0 * 16.0)), "{sizes:?}");
}

#[test]
fn the_scale_of_a_normalisation_is_folded_into_the_next_product() {
    let line = "model Folded(x: Set -> 256): Set -> 16 = x |> norm |> linear 16";
    let graph = written(&format!("domain Set = set(n ~ 1000)\n{line}\n"), line);
    let (new, _) = rewritten(&graph, None);
    // (g · x / σ) w = (x (g · w)) / σ: nothing with the 256 channels is stored but the argument
    assert_eq!((largest(&graph), largest(&new)), (256_000.0, 16_000.0));
    let early = |(id, n): &(Id, &Node)| n.op == Op::Contract && new.ty(*id).needs == WEIGHTS;
    assert_eq!(new.nodes().filter(early).count(), 1);
}

#[test]
fn attention_with_one_query_needs_no_keys_and_no_values() {
    let line = "model Query(x: Set -> 64): 64 = {";
    let text = format!(
        "domain Set = set(n ~ 1000)\n{line}
  k    = linear 64 nobias (x)
  v    = linear 64 nobias (x)
  y[i] = attend j by dot(learn q: 64, k[j]): v[j]
  y |> pool mean
}}
"
    );
    let graph = written(&text, line);
    let (new, _) = rewritten(&graph, None);
    // q · (w x) = (q w) · x, and Σ a (w x) = w (Σ a x): no matrix of weights meets the elements
    let matrix = |g: &Graph, id: Id| g.ty(id).needs == WEIGHTS && g.ty(id).dims.len() == 2;
    let projections = |g: &Graph| {
        let meets = |(id, n): &(Id, &Node)| {
            n.op == Op::Contract && volume(&g.sizes, g.ty(*id)) >= 64_000.0 && n.args.iter().any(|a| matrix(g, *a))
        };
        g.nodes().filter(meets).count()
    };
    assert_eq!((projections(&graph), projections(&new)), (2, 0));
}

#[test]
fn nequip_stores_of_an_edge_with_a_channel_and_a_component_only_what_two_sums_share() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/nequip.gdl");
    let (_, graph) = derived(&path).remove(0);
    let (new, _) = rewritten(&graph, None);
    // the Clebsch-Gordan coefficients meet the harmonics once an edge, for all 32 channels, and the messages are summed
    // in the kernel that makes them; what may be stored of an edge, a channel and a component is a factor of two derivatives of a product,
    // by the sender's numbers and by the weight of the pair
    let (_, edges) = new.inputs.iter().find(|(_, i)| i.name.ends_with("senders")).expect("a table of edges");
    let edges = edges.dims[0];
    let messages = |(id, _): &(Id, &Node)| {
        let ty = new.ty(*id);
        let components = |n: f64| ty.dims.iter().any(|d| new.sizes.hint(*d) as f64 == n);
        ty.needs.data && ty.dims.contains(&edges) && components(32.0) && (components(3.0) || components(5.0))
    };
    let readers = |id: Id| new.nodes().filter(|(_, n)| n.args.contains(&id)).count();
    let stored: Vec<Id> = new.nodes().filter(messages).map(|(id, _)| id).collect();
    assert!(stored.len() <= 2 && stored.iter().all(|id| readers(*id) >= 2), "{stored:?}");
    let sent = |(id, n): &(Id, &Node)| {
        n.op == Op::Contract
            && !new.ty(*id).dims.contains(&edges)
            && n.args.iter().any(|a| new.ty(*a).dims.contains(&edges) && !new.ty(*a).relation)
    };
    assert!(new.nodes().filter(sent).count() >= 3, "the messages of three layers are summed");
}
