//! Whether an equivariant map exists at all: Schur's lemma at a point, orbit by orbit over a window, harmonic by harmonic
//! over a distance. In: fibres and a neighbourhood. Out: yes, or the finding E0304. How the map is made is not asked here.

use crate::base::diagnostic::Diagnostic;
use crate::base::span::Span;
use crate::domain::{Neighbourhood, Orbits};
use crate::sema::hir::{Base, Block, BlockKind, Fibre, Over};
use crate::sema::term::ValueId;
use crate::symmetry::{Rep, hom_dim, kernel_basis};

use super::Elaborator;
use super::fibres::{natural, vector};

/// Harmonics of the direction are tried up to this degree: a coupling of two irreps needs at most the sum of their degrees.
const MAX_HARMONIC: usize = 8;

impl Elaborator<'_> {
    /// Whether each operand has a map over the neighbourhood into `output`; where only the zero map is equivariant, says so.
    pub(super) fn maps_exist(
        &mut self,
        operands: &[ValueId],
        output: &Fibre,
        over: &Over,
        base: Base,
        place: Span,
    ) -> bool {
        for &x in operands {
            let input = self.fibre(x);
            if self.map_exists(input, output, over, base) {
                continue;
            }
            let group = self.group_of(x).name();
            let why = match over {
                Over::Point | Over::All | Over::Edges => format!(
                    "Schur: Hom_{group}({}, {}) = 0, so only the zero map is equivariant",
                    names(input),
                    names(output)
                ),
                Over::Window(_) | Over::Disk(_) => {
                    format!(
                        "on every orbit of the window Hom({}, {}) = 0 under the part of {group} that fixes a displacement",
                        names(input),
                        names(output)
                    )
                }
                Over::Radius { .. } => format!(
                    "no harmonic of the direction couples {} to {}: they have parity (-1)^l",
                    names(input),
                    names(output)
                ),
            };
            let finding = Diagnostic::error("E0304", "no equivariant linear map between these representations")
                .at(place, format!("output: {}", in_words(output)))
                .because(self.value(x).span, format!("input: {}", in_words(input)))
                .why(why);
            let finding = finding.hint(way_out(input, output, over));
            self.report.push(finding);
            return false;
        }
        true
    }

    fn map_exists(&self, input: &Fibre, output: &Fibre, over: &Over, base: Base) -> bool {
        if matches!(over, Over::Point | Over::All | Over::Edges) || (has_invariant(input) && has_invariant(output)) {
            return input.hom_dim(output) > 0 || (has_invariant(input) && has_invariant(output));
        }
        let reps =
            |f: &Fibre| -> Vec<Rep> { f.blocks.iter().filter_map(|b| rep_of(b, &self.group_over(base))).collect() };
        let (inputs, outputs) = (reps(input), reps(output));
        let mut pairs = inputs.iter().flat_map(|a| outputs.iter().map(move |b| (a, b)));
        match over {
            Over::Radius { .. } => pairs.any(|(a, b)| coupled(a, b)),
            Over::Window(_) | Over::Disk(_) | Over::Point | Over::All | Over::Edges => {
                let Some(displacements) = self.displacements(over, base) else { return true };
                pairs.any(|(a, b)| kernel_basis(&displacements, a, b).is_ok_and(|basis| basis.weights > 0))
            }
        }
    }

    fn displacements(&self, over: &Over, base: Base) -> Option<Vec<Vec<i64>>> {
        let Base::Points(domain) = base else { return None };
        let asked = match over {
            Over::Window(k) => Neighbourhood::Window(k.clone()),
            Over::Disk(r) => Neighbourhood::Disk(*r),
            Over::Point | Over::All | Over::Edges | Over::Radius { .. } => return None,
        };
        match self.program.domains[domain].domain.orbits(&asked) {
            Ok(Orbits::Lattice { displacements, .. }) => Some(displacements),
            Ok(Orbits::Point | Orbits::Permutations { .. } | Orbits::Star | Orbits::Distances { .. }) | Err(_) => None,
        }
    }

    /// Whether there is an equivariant bilinear map of two fibres into a third.
    pub(super) fn product_exists(&mut self, a: ValueId, b: ValueId, output: &Fibre, place: Span) -> bool {
        let (fa, fb) = (self.fibre(a), self.fibre(b));
        if [fa, fb, output].into_iter().all(has_invariant) {
            return true;
        }
        let group = self.group_of(a);
        let reps = |f: &Fibre| -> Vec<Rep> { f.blocks.iter().filter_map(|block| rep_of(block, &group)).collect() };
        let (left, right, out) = (reps(fa), reps(fb), reps(output));
        let comparable = left.iter().chain(&right).chain(&out).all(|r| r.group().same_as(group.as_ref()));
        if !comparable || left.iter().any(|x| right.iter().any(|y| out.iter().any(|z| hom_dim(&x.tensor(y), z) > 0))) {
            return true;
        }
        let finding = Diagnostic::error("E0304", "no equivariant bilinear map into this representation")
            .at(place, format!("output: {}", in_words(output)))
            .because(self.value(a).span, format!("input: {}", in_words(fa)))
            .why(format!(
                "Hom_{}({} (x) {}, {}) = 0: the product does not contain it",
                group.name(),
                names(fa),
                names(fb),
                names(output)
            ))
            .hint("the product of degrees a and b has the degrees |a - b| to a + b, and the product of the parities");
        let finding = if self.value(a).span == self.value(b).span {
            finding
        } else {
            finding.because(self.value(b).span, format!("input: {}", in_words(fb)))
        };
        self.report.push(finding);
        false
    }
}

fn has_invariant(f: &Fibre) -> bool {
    f.blocks.iter().any(|b| match &b.kind {
        BlockKind::Rep(rep) => rep.invariants().rows() > 0,
        BlockKind::Class(_) => true,
        BlockKind::Position => false,
    })
}

/// One copy of a block as a representation of `group`.
fn rep_of(block: &Block, group: &crate::symmetry::GroupRef) -> Option<Rep> {
    match &block.kind {
        BlockKind::Rep(rep) => Some((**rep).clone()),
        BlockKind::Class(_) => Some(Rep::scalar(group)),
        BlockKind::Position => None,
    }
}

/// Whether a harmonic of the direction couples `a` to `b`.
fn coupled(a: &Rep, b: &Rep) -> bool {
    let most = (a.dim() + b.dim()).min(MAX_HARMONIC) as u32;
    (0..=most).any(|l| natural(a.group(), l, l).is_ok_and(|harmonic| hom_dim(&a.tensor(&harmonic), b) > 0))
}

fn way_out(input: &Fibre, output: &Fibre, over: &Over) -> &'static str {
    match over {
        Over::Window(_) | Over::Disk(_) => "a larger window has displacements that fewer group elements fix",
        Over::Point | Over::All | Over::Edges | Over::Radius { .. } if output.is_invariant() => {
            "take |x| or dot(x, x), which are invariant"
        }
        Over::Point | Over::All | Over::Edges if input.is_invariant() => {
            "an invariant has no direction: start from differences of positions, or `harmonics` of them, times the scalars"
        }
        Over::Point | Over::All | Over::Edges | Over::Radius { .. } => {
            "couple the two with `bilinear`, or with `harmonics` of a vector"
        }
    }
}

/// A fibre for a label: `8 vectors`, `an invariant`.
fn in_words(f: &Fibre) -> String {
    let vectors = match &f.blocks[..] {
        [Block { count, kind: BlockKind::Rep(rep) }] if **rep == vector(rep.group()) => Some(*count),
        _ => None,
    };
    match (f.is_invariant(), f.copies(), vectors) {
        (true, 1, _) => "an invariant".to_string(),
        (true, n, _) => format!("{n} invariants"),
        (false, _, Some(1)) => "a vector".to_string(),
        (false, _, Some(n)) => format!("{n} vectors"),
        (false, _, None) => f.describe(),
    }
}

/// The representations without their multiplicities: `1o`, `0e`.
fn names(f: &Fibre) -> String {
    let name = |k: &BlockKind| match k {
        BlockKind::Rep(rep) if rep.is_trivial() && rep.group().finite().is_none() => "0e".to_string(),
        BlockKind::Rep(rep) => rep.name(),
        BlockKind::Position => "position".to_string(),
        BlockKind::Class(_) => "scalar".to_string(),
    };
    f.blocks.iter().map(|b| name(&b.kind)).collect::<Vec<_>>().join(" + ")
}
