//! Sums of products row by row, often with constants that are mostly zero: tensor products on edges, and their derivatives.
//! The rows are those of a sparse matrix, whose entries are summed while channels are kept; or each place of a long axis is a
//! row of its own, and the channels are summed. Their kernels are in `row_kernel`.

use std::collections::BTreeMap;

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::Expr;
use crate::kernel::lower::cx::Cx;
use crate::kernel::lower::homes::When;
use crate::kernel::lower::plan::{self, Edge, Step};
use crate::tensor::graph::{Function, Graph};
use crate::tensor::op::{Node, Op, Slot, ValueId};

/// Products that are written out for one sum.
const MOST_TERMS: usize = 300;
/// Numbers that one row of a value may have in local memory.
const MOST_ROW: usize = 8192;
/// Fewer channels than this are not worth lanes.
const LEAST_CHANNELS: usize = 4;
/// Summed channels are added up in this many lanes first, or half as many, or a multiple where there are many of them.
pub(super) const LANES: usize = 8;
/// Channels that meet in one lane at most.
const MOST_IN_A_LANE: usize = 8;
/// Products of a number that two kernels compute each for itself.
const MOST_REPEATED: usize = 8;
/// Extent of a summed axis that is written out.
const MOST_WRITTEN: usize = 32;
/// Places of all written-out axes.
const MOST_PLACES: usize = 4096;

/// What a row is.
#[derive(Clone, Debug)]
pub(super) enum Row {
    /// The row `to` of a sparse matrix with these entries. Channels are kept.
    Entries(Edge),
    /// One place of an axis of this size. Channels are summed; they are kept where the place is an entry of another kernel's rows.
    Place(Slot, Size),
}

/// A sum over the entries of rows, or over the channels of places.
#[derive(Clone, Debug)]
pub(super) struct RowSum {
    pub(super) id: ValueId,
    /// The rows, and the steps that do not repeat.
    pub(super) rows: Row,
    pub(super) steps: Vec<Step>,
    /// The small axes that are summed, written out.
    summed: Vec<Slot>,
    pub(super) factors: Vec<usize>,
    /// The axis on the lanes, of the result or summed, and its size.
    pub(super) channel: Slot,
    pub(super) channels: usize,
    /// Whether the result has the channels.
    pub(super) keeps_channels: bool,
    /// Its small axes, written out.
    components: Vec<Slot>,
}

/// A value whose kernel has row sums, with the axes that they share.
#[derive(Clone, Debug)]
pub(super) struct RowRoot {
    pub(super) root: ValueId,
    pub(super) sums: Vec<RowSum>,
    /// For each sum, which axis of the root each of its axes is.
    pub(super) axes: Vec<Vec<usize>>,
    pub(super) row: usize,
    /// The axis on the lanes, unless it is summed.
    pub(super) channel: Option<usize>,
    pub(super) components: Vec<usize>,
}

/// Whether a value is a row sum, and how.
pub(super) fn classify(graph: &Graph, id: ValueId, when: &BTreeMap<ValueId, When>) -> Option<RowSum> {
    let node = graph.node(id);
    if node.op != Op::Contract || when[&id] != When::Call {
        return None;
    }
    let plan = plan::plan(graph, node);
    let sizes = plan::slot_sizes(graph, node);
    let extent = |s: &Slot| sizes[*s as usize].as_fixed();
    let (mut entries, mut steps, mut summed) = (None, vec![], vec![]);
    for step in plan.steps {
        match step {
            Step::Rows(edge) if entries.is_none() && node.out.contains(&edge.to) => entries = Some(edge),
            Step::Loop { slot } | Step::Only { slot } if extent(&slot).is_some() => summed.push(slot),
            Step::Define(edge) if total(graph, &edge) => steps.push(Step::Define(edge)),
            Step::Rows(_) | Step::Loop { .. } | Step::Only { .. } | Step::Define(_) => return None,
            Step::Check(_) | Step::Solve { .. } | Step::Digits(_) | Step::Fibre(_) => return None,
        }
    }
    let is_constant = |k: &usize| matches!(graph.node(node.args[*k]).op, Op::Constant(_));
    let of_constants = |s: &Slot| plan.factors.iter().any(|k| is_constant(k) && node.reads[*k].contains(s));
    let widest = |slots: &[Slot]| slots.iter().copied().filter(|s| !of_constants(s)).max_by_key(extent);
    let (rows, channel) = match entries {
        Some(edge) => {
            let kept: Vec<Slot> = node.out.iter().copied().filter(|s| *s != edge.to && !summed.contains(s)).collect();
            (Row::Entries(edge), widest(&kept)?)
        }
        None => {
            let mut long = node.out.iter().filter(|s| extent(s).is_none());
            let (place, None) = (*long.next()?, long.next()) else { return None };
            (Row::Place(place, sizes[place as usize]), widest(&summed)?)
        }
    };
    summed.retain(|s| *s != channel);
    let components = node.out.iter().copied().filter(|s| *s != rows.slot() && *s != channel).collect();
    let channels = extent(&channel)?;
    let keeps_channels = node.out.contains(&channel);
    let sum = RowSum { id, rows, steps, summed, factors: plan.factors, channel, channels, keeps_channels, components };
    sum.fits(graph, &sizes, when).then_some(sum)
}

/// Whether a value is a sum of products at a place of its one long axis with channels kept, and how: what may be computed at an entry.
pub(super) fn at_an_entry(graph: &Graph, id: ValueId, when: &BTreeMap<ValueId, When>) -> Option<RowSum> {
    let node = graph.node(id);
    if node.op != Op::Contract || when[&id] != When::Call || crate::kernel::lower::homes::is_read(graph, node) {
        return None;
    }
    let plan = plan::plan(graph, node);
    let sizes = plan::slot_sizes(graph, node);
    let extent = |s: &Slot| sizes[*s as usize].as_fixed();
    let (mut steps, mut summed) = (vec![], vec![]);
    for step in plan.steps {
        match step {
            Step::Loop { slot } | Step::Only { slot } if extent(&slot).is_some() => summed.push(slot),
            Step::Define(edge) if total(graph, &edge) => steps.push(Step::Define(edge)),
            Step::Loop { .. } | Step::Only { .. } | Step::Define(_) | Step::Rows(_) => return None,
            Step::Check(_) | Step::Solve { .. } | Step::Digits(_) | Step::Fibre(_) => return None,
        }
    }
    let mut long = node.out.iter().filter(|s| extent(s).is_none());
    let (place, None) = (*long.next()?, long.next()) else { return None };
    let of_constant = |s: &Slot| {
        let is_constant = |arg: &ValueId| matches!(graph.node(*arg).op, Op::Constant(_));
        node.args.iter().zip(&node.reads).any(|(arg, reads)| is_constant(arg) && reads.contains(s))
    };
    let kept = node.out.iter().copied().filter(|s| *s != place && !of_constant(s));
    let channel = kept.max_by_key(extent)?;
    let channels = extent(&channel)?;
    let components = node.out.iter().copied().filter(|s| *s != place && *s != channel).collect();
    let rows = Row::Place(place, sizes[place as usize]);
    let sum =
        RowSum { id, rows, steps, summed, factors: plan.factors, channel, channels, keeps_channels: true, components };
    (channels >= LEAST_CHANNELS && sum.is_written_out(graph, &sizes)).then_some(sum)
}

impl Row {
    /// The axis of the result along which the rows lie.
    pub(super) fn slot(&self) -> Slot {
        match self {
            Row::Entries(edge) => edge.to,
            Row::Place(slot, _) => *slot,
        }
    }

    /// Whether these are the same rows.
    fn same(&self, other: &Row) -> bool {
        match (self, other) {
            (Row::Entries(a), Row::Entries(b)) => a.relation == b.relation,
            (Row::Place(_, a), Row::Place(_, b)) => a == b,
            (Row::Entries(_), Row::Place(..)) | (Row::Place(..), Row::Entries(_)) => false,
        }
    }
}

/// Whether a function is defined everywhere.
pub(super) fn total(graph: &Graph, edge: &Edge) -> bool {
    match &graph.relations[edge.relation].map {
        Function::Table(_) | Function::Paired(_) => true,
        Function::Constant(table) => table.iter().all(Option::is_some),
        Function::Affine { outside, .. } => *outside == crate::tensor::graph::Outside::Never,
    }
}

/// One product: the values of the written-out axes, and the product of the constants there.
pub(super) struct Term {
    pub(super) at: BTreeMap<Slot, usize>,
    pub(super) coefficient: f64,
}

/// The products of a node over all places of some axes, where others are known, that the constants do not make zero.
pub(super) fn terms(
    graph: &Graph,
    node: &Node,
    factors: &[usize],
    slots: &[Slot],
    known: &BTreeMap<Slot, usize>,
) -> Vec<Term> {
    let sizes = plan::slot_sizes(graph, node);
    let dims: Vec<usize> = slots.iter().map(|s| sizes[*s as usize].as_fixed().unwrap_or(0)).collect();
    let mut res = Vec::new();
    let mut at = known.clone();
    for flat in 0..dims.iter().product() {
        let mut rest: usize = flat;
        for (slot, dim) in slots.iter().zip(&dims).rev() {
            at.insert(*slot, rest % dim);
            rest /= dim;
        }
        let coefficient = factors.iter().map(|k| constant_at(graph, node, *k, &at).unwrap_or(1.0)).product();
        if coefficient != 0.0 {
            res.push(Term { at: at.clone(), coefficient });
        }
    }
    res
}

impl RowSum {
    /// Whether the sum is worth a kernel of this kind, and can be one.
    fn fits(&self, graph: &Graph, sizes: &[Size], when: &BTreeMap<ValueId, When>) -> bool {
        let node = graph.node(self.id);
        let is_constant = |k: &usize| matches!(graph.node(node.args[*k]).op, Op::Constant(_));
        let enough = match &self.rows {
            // rewriting may have contracted the constants with one entry's numbers: then the product is dense, and still a row sum
            Row::Entries(_) => {
                let sparse = self.factors.iter().any(|k| is_constant(k) && !node.reads[*k].is_empty());
                self.channels >= LEAST_CHANNELS && (sparse || self.factors.len() >= 2)
            }
            Row::Place(..) => {
                let late = |k: usize| when[&node.args[k]] == When::Call;
                let on_lanes = |k: &&usize| late(**k) && node.reads[**k].iter().any(|s| self.on_lanes(*s));
                self.lanes().is_some() && self.factors.iter().filter(on_lanes).count() >= 2
            }
        };
        enough && self.is_written_out(graph, sizes)
    }

    /// Whether the sum is short enough to be written out.
    fn is_written_out(&self, graph: &Graph, sizes: &[Size]) -> bool {
        let extent = |s: &Slot| sizes[*s as usize].as_fixed();
        let volume = self.components.iter().chain(&self.summed).map(extent).try_fold(1, |n, d| d.map(|d| n * d));
        let short = volume.is_some_and(|n| n <= MOST_PLACES)
            && self.summed.iter().filter_map(extent).all(|n| n <= MOST_WRITTEN);
        short && self.is_determined() && self.terms(graph).len() <= MOST_TERMS
    }

    /// Whether an entry and a channel determine what functions give: the written-out axes are numbers only inside.
    fn is_determined(&self) -> bool {
        let mut known = vec![self.rows.slot(), self.channel];
        if let Row::Entries(edge) = &self.rows {
            known.extend(&edge.from);
        }
        self.steps.iter().all(|step| {
            let Step::Define(edge) = step else { return true };
            let determined = edge.from.iter().all(|s| known.contains(s));
            known.push(edge.to);
            determined
        })
    }

    /// The numbers that are kept of a component: one a channel, or one a lane in which summed channels meet.
    pub(super) fn width(&self) -> usize {
        match self.rows {
            Row::Entries(_) => self.channels,
            Row::Place(..) if self.keeps_channels => self.channels,
            Row::Place(..) => self.lanes().expect("lower: summed channels fill lanes"),
        }
    }

    /// In how many lanes summed channels are added up first.
    fn lanes(&self) -> Option<usize> {
        let lanes = [LANES, LANES / 2].into_iter().find(|n| self.channels % n == 0)?;
        let wide = (0..).map(|k| lanes << k).find(|n| self.channels / n <= MOST_IN_A_LANE)?;
        (self.channels % wide == 0).then_some(wide)
    }

    /// The products that are not zero at compile time.
    pub(super) fn terms(&self, graph: &Graph) -> Vec<Term> {
        let slots: Vec<Slot> = self.components.iter().chain(&self.summed).copied().collect();
        terms(graph, graph.node(self.id), &self.factors, &slots, &BTreeMap::new())
    }

    /// The axes of an operand that are read on the lanes.
    pub(super) fn lane_axes(&self, graph: &Graph, operand: ValueId) -> impl Iterator<Item = usize> {
        let node = graph.node(self.id);
        let reads = node.args.iter().zip(&node.reads).filter(move |(arg, _)| **arg == operand);
        let axes = reads.flat_map(|(_, reads)| (0..reads.len()).filter(|k| self.on_lanes(reads[*k])));
        axes.collect::<Vec<_>>().into_iter()
    }

    /// Whether a factor is read at several places of the written-out axes.
    pub(super) fn is_written(&self, node: &Node, k: usize) -> bool {
        node.reads[k].iter().any(|s| self.components.contains(s) || self.summed.contains(s))
    }

    /// Whether no row of channels is read that is one entry's own.
    fn shares_channels(&self, graph: &Graph) -> bool {
        let node = graph.node(self.id);
        let own = |k: &usize| node.reads[*k].contains(&self.rows.slot()) && node.reads[*k].contains(&self.channel);
        !self.factors.iter().any(own)
    }

    /// The values of which several numbers are read on lanes.
    pub(super) fn varying(&self, graph: &Graph) -> Vec<ValueId> {
        let node = graph.node(self.id);
        let on_lanes = |k: &usize| node.reads[*k].iter().any(|s| self.on_lanes(*s));
        let varying = self.factors.iter().filter(|k| on_lanes(k) && self.is_written(node, **k));
        varying.map(|k| node.args[*k]).collect()
    }

    /// The axes that the channel determines.
    pub(super) fn on_lanes(&self, slot: Slot) -> bool {
        let defined = |step: &Step| match step {
            Step::Define(edge) => edge.to == slot && edge.from.iter().any(|s| self.on_lanes(*s)),
            _ => false,
        };
        slot == self.channel || self.steps.iter().any(defined)
    }
}

/// The number that a constant factor is at these places.
pub(super) fn constant_at(graph: &Graph, node: &Node, k: usize, at: &BTreeMap<Slot, usize>) -> Option<f64> {
    let Op::Constant(id) = graph.node(node.args[k]).op else { return None };
    let constant = &graph.constants[id];
    let mut place = 0;
    for (slot, dim) in node.reads[k].iter().zip(&constant.dims) {
        place = place * dim + at.get(slot)?;
    }
    Some(constant.data[place])
}

impl RowRoot {
    /// The root of one sum.
    pub(super) fn new(graph: &Graph, root: ValueId, sum: RowSum, axes: Vec<usize>) -> RowRoot {
        let out = &graph.node(sum.id).out;
        let axis = |slot: Slot| axes[out.iter().position(|s| *s == slot).expect("an axis of the result")];
        let row = axis(sum.rows.slot());
        let channel = out.contains(&sum.channel).then(|| axis(sum.channel));
        let components = sum.components.iter().map(|s| axis(*s)).collect();
        RowRoot { root, row, channel, components, sums: vec![sum], axes: vec![axes] }
    }

    /// Adds a sum, if it has the same row, channel and components.
    pub(super) fn join(&mut self, graph: &Graph, sum: RowSum, axes: Vec<usize>) -> bool {
        let other = RowRoot::new(graph, self.root, sum, axes);
        let channels = self.sums[0].channels == other.sums[0].channels;
        let fits = other.row == self.row && other.channel == self.channel && channels && self.same_rows(&other);
        if fits {
            self.sums.extend(other.sums);
            self.axes.extend(other.axes);
        }
        fits
    }

    /// Whether its numbers are sooner computed again than fetched: few products each, of rows of channels that many entries share.
    pub(super) fn is_cheap_to_repeat(&self, graph: &Graph) -> bool {
        let n = self.n_components(&graph.ty(self.root).dims);
        let products: usize = self.sums.iter().map(|sum| sum.terms(graph).len()).sum();
        products <= n * MOST_REPEATED && self.sums.iter().all(|sum| sum.shares_channels(graph))
    }

    /// Whether two roots' sums run over the same rows.
    pub(super) fn same_rows(&self, other: &RowRoot) -> bool {
        self.sums[0].rows.same(&other.sums[0].rows)
    }

    pub(super) fn n_components(&self, dims: &[Size]) -> usize {
        self.components.iter().filter_map(|axis| dims[*axis].as_fixed()).product()
    }

    /// The numbers that are kept of a component.
    pub(super) fn width(&self) -> usize {
        self.sums[0].width()
    }

    /// The numbers of a row.
    pub(super) fn row_len(&self, graph: &Graph) -> usize {
        self.n_components(&graph.ty(self.root).dims) * self.width()
    }

    /// Whether a row fits local memory together with `others` numbers.
    pub(super) fn fits(&self, graph: &Graph, others: usize) -> bool {
        self.row_len(graph) + others <= MOST_ROW
    }

    /// The index of a root's component number `v`, at a row and a channel if it has one.
    pub(super) fn index(
        &self,
        cx: &mut Cx,
        dims: &[Size],
        v: usize,
        row: Id<Expr>,
        channel: Option<Id<Expr>>,
    ) -> Vec<Id<Expr>> {
        let flat = cx.b.int(v as i64);
        let parts: Vec<Size> = self.components.iter().map(|axis| dims[*axis]).collect();
        let parts = cx.b.unflatten(flat, &parts);
        let mut index = vec![row; dims.len()];
        if let (Some(axis), Some(channel)) = (self.channel, channel) {
            index[axis] = channel;
        }
        for (axis, i) in self.components.iter().zip(parts) {
            index[*axis] = i;
        }
        index
    }
}
