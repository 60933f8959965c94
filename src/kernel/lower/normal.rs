//! A graph made easier to lower, with the same meaning: no views, gathers and windows inside the products that read them,
//! and split off into values of their own what only weights and tables determine, and what is put at places of a longer axis.
//! Tensor IR in and out.

use crate::tensor::graph::{Axis, Function, Graph, Needs, Outside, Val, union};
use crate::tensor::op::{Node, Op, Slot, ValueId};
use crate::tensor::translate::Translation;

/// Names of axes that no slot has.
const FRESH: u32 = 1 << 20;

/// The same program in the form that lowering expects.
pub(super) fn normalise(graph: &Graph) -> Graph {
    let mut res = Translation::new(graph);
    for (id, written) in graph.nodes() {
        let node = &fetched_whole(graph, written);
        let names = |slots: &[u32]| slots.iter().map(|s| Axis(*s)).collect::<Vec<_>>();
        let read = |res: &Translation| -> Vec<Val> {
            node.args.iter().zip(&node.reads).map(|(arg, reads)| res.read(*arg, &names(reads))).collect()
        };
        if node.op == Op::Sum {
            let operands = read(&res);
            let terms = together(&mut res.graph, operands);
            let value = res.graph.sum(&terms.iter().collect::<Vec<_>>());
            res.set(id, node, value);
            continue;
        }
        if node.op != Op::Contract {
            res.add(id, node);
            continue;
        }
        let operands = read(&res);
        let mut names_left = FRESH;
        let out = names(&node.out);
        let scatters = operands.iter().any(|val| scatters(&res.graph, val, &out));
        let walks = scatters || super::homes::walks_rows(graph, node);
        let flat = flatten(&res.graph, operands, walks, &mut names_left);
        let flat = hoist(&mut res.graph, flat, &out);
        let flat = multiplied(&mut res.graph, flat, &out);
        let flat = summed_first(&mut res.graph, flat, &out);
        let flat = placed(&mut res.graph, flat, &out);
        let flat = shared(&mut res.graph, flat, &out);
        let value = res.graph.contract(&flat.iter().collect::<Vec<_>>(), &out);
        res.set(id, node, value);
    }
    res.outputs(&graph.outputs);
    crate::tensor::pass::dce::dce(&res.graph)
}

/// The node, reading in the place of values that are fetched row by row along tables what these are made of, where that is no more to fetch.
fn fetched_whole(graph: &Graph, node: &Node) -> Node {
    if node.op != Op::Contract || !super::homes::walks_rows(graph, node) {
        return node.clone();
    }
    let led_to = |(arg, reads): (&ValueId, &Vec<Slot>)| match graph.node(*arg).op {
        Op::Relation(id) => reads.last().filter(|_| graph.relations[id].map.is_table()).copied(),
        _ => None,
    };
    let fetched: Vec<Slot> = node.args.iter().zip(&node.reads).filter_map(led_to).collect();
    let mut res = Node { args: vec![], reads: vec![], ..node.clone() };
    let mut slots = super::plan::slot_sizes(graph, node).len() as Slot;
    for (arg, reads) in node.args.iter().zip(&node.reads) {
        let inner = graph.node(*arg);
        if graph.ty(*arg).relation || !reads.iter().any(|s| fetched.contains(s)) || !outgrows(graph, inner) {
            res.args.push(*arg);
            res.reads.push(reads.clone());
            continue;
        }
        let after = slots;
        let name = |slot: &Slot| inner.out.iter().position(|s| s == slot).map_or(after + slot, |at| reads[at]);
        res.args.extend(&inner.args);
        res.reads.extend(inner.reads.iter().map(|reads| reads.iter().map(name).collect::<Vec<Slot>>()));
        slots += super::plan::slot_sizes(graph, inner).len() as Slot;
    }
    res
}

/// Whether a value is a tensor of the call times constants, and has more numbers than the tensor or is a multiple of it.
fn outgrows(graph: &Graph, node: &Node) -> bool {
    let is_constant = |id: &ValueId| matches!(graph.node(*id).op, Op::Constant(_));
    let mut tensors = (0..node.args.len()).filter(|k| !is_constant(&node.args[*k]));
    let (Op::Contract, Some(at), None) = (&node.op, tensors.next(), tensors.next()) else { return false };
    let sizes = super::plan::slot_sizes(graph, node);
    let volume = |slots: &[Slot]| slots.iter().filter_map(|s| sizes[*s as usize].as_fixed()).product::<usize>();
    let long = |slots: &[Slot]| slots.iter().filter(|s| sizes[**s as usize].as_fixed().is_none()).count();
    let (out, read) = (&node.out, &node.reads[at]);
    let multiple = node.args.iter().filter(|id| is_constant(id)).all(|id| graph.ty(*id).dims.is_empty());
    let (ty, same) = (graph.ty(node.args[at]), long(out) == long(read));
    ty.needs.data && !ty.relation && same && (volume(out) > volume(read) || multiple && volume(out) == volume(read))
}

/// Whether a value is a table from summed axes to one of the result: the sum walks rows.
fn scatters(graph: &Graph, val: &Val, out: &[Axis]) -> bool {
    let Op::Relation(id) = graph.node(val.id).op else { return false };
    let table = graph.relations[id].map.is_table();
    table && val.axes.split_last().is_some_and(|(to, from)| out.contains(to) && !from.iter().any(|a| out.contains(a)))
}

/// Whether a value is a block of a fixed axis, whose numbers lie apart: read once an entry of a row, it is better copied.
pub(super) fn is_block(graph: &Graph, node: &Node) -> bool {
    node.args.iter().any(|arg| match graph.node(*arg).op {
        Op::Relation(id) => {
            let relation = &graph.relations[id];
            let apart = match &relation.map {
                Function::Affine { scale, .. } => scale[..] != [1],
                Function::Table(_) | Function::Paired(_) | Function::Constant(_) => false,
            };
            apart && relation.to.as_fixed().is_some()
        }
        _ => false,
    })
}

/// The operands, with those that are gathers or windows replaced by what they read and how; blocks stay where `walks` rows read them. Weights laid out for a product with
/// data stay as they are: packing them reads them through, and their axes are the product's.
fn flatten(graph: &Graph, operands: Vec<Val>, walks: bool, fresh: &mut u32) -> Vec<Val> {
    let late = operands.iter().any(|v| graph.ty(v.id).needs.data);
    let mut res = Vec::new();
    for val in operands {
        let node = graph.node(val.id);
        let laid_out = late && of_weights(graph, &val);
        if !super::homes::is_read(graph, node) || (walks && is_block(graph, node)) || laid_out {
            res.push(val);
            continue;
        }
        let mut names: Vec<Option<Axis>> = vec![None; super::plan::slot_sizes(graph, node).len()];
        for (slot, axis) in node.out.iter().zip(&val.axes) {
            names[*slot as usize] = Some(*axis);
        }
        let names: Vec<Axis> = names
            .into_iter()
            .map(|name| {
                *fresh += u32::from(name.is_none());
                name.unwrap_or(Axis(*fresh))
            })
            .collect();
        let inner = node.args.iter().zip(&node.reads);
        let inner =
            inner.map(|(arg, reads)| Val { id: *arg, axes: reads.iter().map(|s| names[*s as usize]).collect() });
        res.extend(flatten(graph, inner.collect(), walks, fresh));
    }
    res
}

/// Whether a value is known once the weights are: constants are too.
fn is_prepared(needs: Needs) -> bool {
    !needs.data && !needs.tables
}

/// Whether a value is computed from weights alone.
fn of_weights(graph: &Graph, v: &Val) -> bool {
    let needs = graph.ty(v.id).needs;
    needs.weights && is_prepared(needs)
}

/// Splits off the product of the factors that are known before the call, where that sums an axis away:
/// once for those that need weights alone, once for those that need tables alone.
fn hoist(graph: &mut Graph, operands: Vec<Val>, out: &[Axis]) -> Vec<Val> {
    let tables = |n: Needs| !n.data && !n.weights;
    let operands = hoist_those(graph, operands, out, &is_prepared);
    let operands = hoist_those(graph, operands, out, &tables);
    lay_out(graph, operands, out)
}

/// As weights that are laid out for a product by a table are a value of their own, so is a tensor of the call of fixed size, the tangent of
/// such weights: the dense kernel packs it through the table.
fn lay_out(graph: &mut Graph, operands: Vec<Val>, out: &[Axis]) -> Vec<Val> {
    let fixed = |graph: &Graph, v: &Val| graph.ty(v.id).dims.iter().all(|d| d.as_fixed().is_some());
    let constant = |graph: &Graph, v: &Val| match graph.node(v.id).op {
        Op::Relation(id) => matches!(graph.relations[id].map, Function::Constant(_)),
        _ => false,
    };
    let laid_out = |k: usize| fixed(graph, &operands[k]) && graph.ty(operands[k].id).needs.data;
    let eligible: Vec<bool> = (0..operands.len())
        .map(|k| laid_out(k) || constant(graph, &operands[k]) && fixed(graph, &operands[k]))
        .collect();
    let Some(group) = eliminating_group(graph, &operands, &eligible, out) else { return operands };
    let tensors = group.iter().filter(|k| laid_out(**k)).count();
    if tensors != 1 || operands.iter().all(|v| fixed(graph, v)) {
        return operands;
    }
    let (inside, outside): (Vec<_>, Vec<_>) = operands.into_iter().enumerate().partition(|(k, _)| group.contains(k));
    let inside: Vec<&Val> = inside.iter().map(|(_, v)| v).collect();
    let kept = |a: &Axis| out.contains(a) || outside.iter().any(|(_, v)| v.has(*a));
    let axes: Vec<Axis> = union(&inside).into_iter().filter(kept).collect();
    let laid_out = graph.contract(&inside, &axes);
    outside.into_iter().map(|(_, v)| v).chain([laid_out]).collect()
}

fn hoist_those(graph: &mut Graph, operands: Vec<Val>, out: &[Axis], early: &dyn Fn(Needs) -> bool) -> Vec<Val> {
    let factor = |graph: &Graph, v: &Val| !graph.ty(v.id).relation && !v.axes.is_empty();
    let all_early = operands.iter().all(|v| early(graph.ty(v.id).needs));
    if all_early || operands.iter().filter(|v| factor(graph, v)).count() < 2 {
        return operands;
    }
    // Grow a group around each early factor by what shares with it an axis that nothing else reads.
    let fixed = |graph: &Graph, v: &Val| graph.ty(v.id).dims.iter().all(|d| d.as_fixed().is_some());
    let eligible: Vec<bool> =
        operands.iter().map(|v| early(graph.ty(v.id).needs) && fixed(graph, v) && !v.axes.is_empty()).collect();
    let Some(group) = eliminating_group(graph, &operands, &eligible, out) else { return operands };
    let (inside, mut outside): (Vec<_>, Vec<_>) =
        operands.into_iter().enumerate().partition(|(k, _)| group.contains(k));
    let inside: Vec<Val> = inside.into_iter().map(|(_, v)| v).collect();
    let kept = |a: &Axis| out.contains(a) || outside.iter().any(|(_, v)| v.has(*a));
    let refs: Vec<&Val> = inside.iter().collect();
    let axes: Vec<Axis> = union(&refs).into_iter().filter(kept).collect();
    let product = graph.contract(&refs, &axes);
    let outside: Vec<Val> = outside.drain(..).map(|(_, v)| v).chain([product]).collect();
    hoist_those(graph, outside, out, early)
}

/// One tensor of the call instead of several, where weights are summed along with it and it has the axes of the others:
/// what scales the rows of a dense product is multiplied first.
fn multiplied(graph: &mut Graph, operands: Vec<Val>, out: &[Axis]) -> Vec<Val> {
    let early = |v: &Val| is_prepared(graph.ty(v.id).needs);
    let (early, late): (Vec<Val>, Vec<Val>) = operands.iter().cloned().partition(early);
    let Some(widest) = late.iter().max_by_key(|v| v.axes.len()).cloned() else { return operands };
    let within = |v: &Val| v.axes.iter().all(|a| widest.has(*a));
    let apart = late.iter().any(|v| graph.ty(v.id).relation) || !late.iter().all(within);
    let weights: Vec<&Val> = early.iter().filter(|v| !v.axes.is_empty()).collect();
    let [weight] = weights[..] else { return operands };
    let summed = widest.axes.iter().any(|a| weight.has(*a) && !out.contains(a));
    let diagonal = (1..widest.axes.len()).any(|k| widest.axes[..k].contains(&widest.axes[k]));
    if late.len() < 2 || apart || diagonal || graph.ty(weight.id).relation || !summed {
        return operands;
    }
    let product = graph.contract(&late.iter().collect::<Vec<_>>(), &widest.axes);
    early.into_iter().chain([product]).collect()
}

/// Where data are summed along axes that the weights do not have, before the weights mix their channels: that sum first. The cost
/// of a product is that of its best order, and this is it.
fn summed_first(graph: &mut Graph, operands: Vec<Val>, out: &[Axis]) -> Vec<Val> {
    let weighs = |v: &Val| of_weights(graph, v) && !v.axes.is_empty();
    let (weights, late): (Vec<Val>, Vec<Val>) = operands.iter().cloned().partition(weighs);
    let [weight] = &weights[..] else { return operands };
    let late: Vec<&Val> = late.iter().collect();
    let tensors: Vec<&Val> = late.iter().copied().filter(|v| !graph.ty(v.id).relation).collect();
    let kept: Vec<Axis> = union(&late).into_iter().filter(|a| out.contains(a) || weight.has(*a)).collect();
    let mixed = weight.axes.iter().any(|a| !out.contains(a) && tensors.iter().any(|v| v.has(*a)));
    let only_by_relations = weight.axes.iter().any(|a| kept.contains(a) && !tensors.iter().any(|v| v.has(*a)));
    let needs_data = tensors.iter().any(|v| graph.ty(v.id).needs.data);
    if !mixed || only_by_relations || !needs_data || determined(graph, &late, &kept) {
        return operands;
    }
    let product = graph.contract(&late, &kept);
    vec![weight.clone(), product]
}

/// Whether functions give all axes of some operands from those that are known, or they have one place only.
fn determined(graph: &Graph, operands: &[&Val], known: &[Axis]) -> bool {
    let mut known = known.to_vec();
    for operand in operands {
        let dims = operand.axes.iter().zip(&graph.ty(operand.id).dims);
        known.extend(dims.filter(|(_, dim)| dim.as_fixed() == Some(1)).map(|(axis, _)| *axis));
    }
    let relations: Vec<&Val> = operands.iter().copied().filter(|v| graph.ty(v.id).relation).collect();
    loop {
        let next = relations.iter().find_map(|r| {
            let (to, from) = r.axes.split_last()?;
            (!known.contains(to) && from.iter().all(|a| known.contains(a))).then_some(*to)
        });
        match next {
            Some(axis) => known.push(axis),
            None => return union(operands).iter().all(|a| known.contains(a)),
        }
    }
}

/// Where a product is put at some places of a longer axis of the result: the product, and where it is put. So it is not
/// computed, or asked for, at the other places.
fn placed(graph: &mut Graph, operands: Vec<Val>, out: &[Axis]) -> Vec<Val> {
    let Some(at) = (0..operands.len()).find(|k| puts(graph, &operands, *k, out)) else { return operands };
    let (to, from) = operands[at].axes.split_last().expect("a relation has an axis");
    let others: Vec<&Val> = others(&operands, at).collect();
    let kept = |a: &Axis| a != to && (out.contains(a) || from.contains(a));
    let axes: Vec<Axis> = union(&others).into_iter().filter(kept).collect();
    let product = graph.contract(&others, &axes);
    vec![operands[at].clone(), product]
}

/// All operands but one.
fn others(operands: &[Val], at: usize) -> impl Iterator<Item = &Val> {
    operands.iter().enumerate().filter(move |(k, _)| *k != at).map(|(_, v)| v)
}

/// The terms of a sum, those added up first that are put at the same places of a longer axis: a product and its bias.
fn together(graph: &mut Graph, terms: Vec<Val>) -> Vec<Val> {
    let mut res: Vec<Val> = Vec::new();
    let mut groups: Vec<(Val, Vec<Val>)> = Vec::new();
    let mut fresh = FRESH;
    for term in terms {
        let Some((relation, value)) = put(graph, &term, &mut fresh) else {
            res.push(term);
            continue;
        };
        let same = groups.iter_mut().find(|(r, _)| r.id == relation.id && r.axes.last() == relation.axes.last());
        match same {
            Some((first, values)) => {
                let names: Vec<(Axis, Axis)> = relation.axes.iter().copied().zip(first.axes.iter().copied()).collect();
                values.push(value.rename(&names));
            }
            None => groups.push((relation, vec![value])),
        }
    }
    for (relation, values) in groups {
        let values: Vec<&Val> = values.iter().collect();
        let sum = if values.len() == 1 { values[0].clone() } else { graph.sum(&values) };
        let out: Vec<Axis> = union(&[&relation, &sum]).into_iter().filter(|a| !is_from(&relation, a)).collect();
        res.push(graph.contract(&[&relation, &sum], &out));
    }
    res
}

fn is_from(relation: &Val, axis: &Axis) -> bool {
    relation.axes.split_last().is_some_and(|(_, from)| from.contains(axis))
}

/// A value that is another put at some places of an axis: the relation that says where, and the other.
fn put(graph: &Graph, val: &Val, fresh: &mut u32) -> Option<(Val, Val)> {
    let node = graph.node(val.id);
    let (Op::Contract, [_, _]) = (&node.op, &node.args[..]) else { return None };
    let at = (0..2).find(|k| matches!(graph.node(node.args[*k]).op, Op::Relation(_)))?;
    let (to, from) = node.reads[at].split_last()?;
    let value = &node.reads[1 - at];
    let distinct = (1..from.len()).all(|k| !from[..k].contains(&from[k]));
    let puts =
        node.out.contains(to) && !value.contains(to) && from.iter().all(|s| !node.out.contains(s) && value.contains(s));
    let Op::Relation(relation) = graph.node(node.args[at]).op else { return None };
    let affine = matches!(graph.relations[relation].map, Function::Affine { divisor: 1, .. });
    let read_once = (1..value.len()).all(|k| !value[..k].contains(&value[k]));
    if !puts || !distinct || !affine || !read_once || graph.ty(node.args[1 - at]).relation {
        return None;
    }
    let mut names: Vec<(u32, Axis)> = node.out.iter().copied().zip(val.axes.iter().copied()).collect();
    for slot in from {
        *fresh += 1;
        names.push((*slot, Axis(*fresh)));
    }
    let named = |slots: &[u32]| -> Option<Vec<Axis>> {
        slots.iter().map(|s| names.iter().find(|(slot, _)| slot == s).map(|(_, axis)| *axis)).collect()
    };
    let of = |k: usize| Some(Val { id: node.args[k], axes: named(&node.reads[k])? });
    Some((of(at)?, of(1 - at)?))
}

/// Whether operand `at` puts summed axes, which the others have, at some places of an axis of the result, which they have not;
/// and the others are several numbers with axes.
fn puts(graph: &Graph, operands: &[Val], at: usize, out: &[Axis]) -> bool {
    let Op::Relation(id) = graph.node(operands[at].id).op else { return false };
    let relation = &graph.relations[id];
    let Function::Affine { divisor: 1, outside: Outside::Zero | Outside::Never, .. } = relation.map else {
        return false;
    };
    let (to, from) = operands[at].axes.split_last().expect("a relation has an axis");
    let volume = relation.from.iter().map(|d| d.as_fixed()).product::<Option<usize>>();
    let longer = relation.to.as_fixed().zip(volume).is_some_and(|(to, from)| to > from);
    let others = || others(operands, at);
    let tensors = others().filter(|v| !graph.ty(v.id).relation && !v.axes.is_empty()).count();
    let apart = out.contains(to) && !others().any(|v| v.has(*to));
    let summed = from.iter().all(|a| !out.contains(a) && others().any(|v| v.has(*a)));
    longer && tensors > 1 && apart && summed && others().any(|v| graph.ty(v.id).needs.data)
}

/// Where a product is summed along run-time axes and then over the places that share a weight: the sum for each place, and which
/// weight it belongs to. So the long sum is dense.
fn shared(graph: &mut Graph, operands: Vec<Val>, out: &[Axis]) -> Vec<Val> {
    let Some(at) = (0..operands.len()).find(|k| shares(graph, &operands, *k, out)) else { return operands };
    let from = &operands[at].axes[..operands[at].axes.len() - 1];
    let others: Vec<&Val> = others(&operands, at).collect();
    let (axes, summed): (Vec<Axis>, Vec<Axis>) =
        union(&others).into_iter().partition(|a| out.contains(a) || from.contains(a));
    let is_short = |axis: &Axis| {
        let sizes = |v: &Val| {
            v.axes.iter().zip(&graph.ty(v.id).dims).filter(|(a, _)| *a == axis).all(|(_, d)| d.as_fixed().is_some())
        };
        others.iter().all(|v| sizes(v))
    };
    if !axes.iter().all(is_short) || summed.iter().all(is_short) {
        return operands;
    }
    let product = graph.contract(&others, &axes);
    vec![operands[at].clone(), product]
}

/// Whether operand `at` is a constant table from summed axes, which products of the call have, to an axis of the result.
fn shares(graph: &Graph, operands: &[Val], at: usize, out: &[Axis]) -> bool {
    let Op::Relation(id) = graph.node(operands[at].id).op else { return false };
    let (to, from) = operands[at].axes.split_last().expect("a relation has an axis");
    let others = || others(operands, at);
    let constant = matches!(graph.relations[id].map, Function::Constant(_));
    let late = others().filter(|v| graph.ty(v.id).needs.data && !graph.ty(v.id).relation).count();
    let apart = out.contains(to) && !others().any(|v| v.has(*to));
    constant && late == 2 && apart && from.iter().all(|a| !out.contains(a) && others().any(|v| v.has(*a)))
}

/// Operands whose product sums an axis away: all that read that axis, if they are eligible and more than one.
/// A relation may only be applied (its result is summed away): spreading weights along one would fill them with zeros.
fn eliminating_group(graph: &Graph, operands: &[Val], eligible: &[bool], out: &[Axis]) -> Option<Vec<usize>> {
    let refs: Vec<&Val> = operands.iter().collect();
    union(&refs).into_iter().filter(|a| !out.contains(a)).find_map(|axis| {
        let readers: Vec<usize> = (0..operands.len()).filter(|k| operands[*k].has(axis)).collect();
        let applied = |val: &Val| {
            let from = &val.axes[..val.axes.len().saturating_sub(1)];
            !graph.ty(val.id).relation || (val.axes.last() == Some(&axis) && !from.contains(&axis))
        };
        let fits = |k: &usize| eligible[*k] && applied(&operands[*k]);
        (readers.len() > 1 && readers.iter().all(fits)).then_some(readers)
    })
}

/// The operands of a node that are not relations and not plain numbers.
pub(super) fn tensors(graph: &Graph, node: &Node, factors: &[usize]) -> Vec<usize> {
    let is_number = |id: ValueId| graph.ty(id).dims.is_empty();
    factors.iter().copied().filter(|k| !is_number(node.args[*k])).collect()
}
