//! What the checker asks of fibres: are two the same, does the group permute one, is there a map between two.
//! Knows representations; does not know expressions.

use std::sync::Arc;

use crate::symmetry::{GroupRef, Rep, hom_dim};

use super::hir::{Block, BlockKind, Fibre};

impl Fibre {
    /// `n` scalars under `group`.
    pub fn scalars(n: usize, group: &GroupRef) -> Fibre {
        Fibre::of(n, Rep::scalar(group))
    }

    /// `count` copies of one representation.
    pub fn of(count: usize, rep: Rep) -> Fibre {
        Fibre { blocks: vec![Block { count, kind: BlockKind::Rep(Arc::new(rep)) }] }
    }

    /// The direct sum; neighbouring blocks of the same kind become one.
    pub fn plus(&self, other: &Fibre) -> Fibre {
        let mut blocks: Vec<Block> = Vec::new();
        for block in self.blocks.iter().chain(&other.blocks) {
            match blocks.last_mut() {
                Some(last) if last.kind.same(&block.kind) && !matches!(block.kind, BlockKind::Class(_)) => {
                    last.count += block.count
                }
                _ => blocks.push(block.clone()),
            }
        }
        Fibre { blocks }
    }

    /// Whether both are the same representation, block by block.
    pub fn same(&self, other: &Fibre) -> bool {
        self.blocks.len() == other.blocks.len()
            && self.blocks.iter().zip(&other.blocks).all(|(a, b)| a.count == b.count && a.kind.same(&b.kind))
    }

    /// Whether both are the same representations, in whatever number.
    pub fn same_kinds(&self, other: &Fibre) -> bool {
        self.blocks.len() == other.blocks.len()
            && self.blocks.iter().zip(&other.blocks).all(|(a, b)| a.kind.same(&b.kind))
    }

    /// The number of components.
    pub fn dim(&self, ambient: usize) -> usize {
        self.blocks.iter().map(|b| b.count * b.kind.dim(ambient)).sum()
    }

    /// The number of copies; each class is one.
    pub fn copies(&self) -> usize {
        self.blocks.iter().map(|b| if let BlockKind::Class(k) = b.kind { b.count * k } else { b.count }).sum()
    }

    /// Whether every group element acts as the identity.
    pub fn is_invariant(&self) -> bool {
        self.blocks.iter().all(|b| b.kind.is_invariant())
    }

    /// The first block whose components the group does more with than permute them.
    pub fn first_not_permuted(&self) -> Option<&Block> {
        self.blocks.iter().find(|b| !b.kind.is_permuted())
    }

    /// Whether a block is a point of affine space.
    pub fn has_position(&self) -> bool {
        self.blocks.iter().any(|b| b.kind == BlockKind::Position)
    }

    /// What remains of it over an orbit of the group that permutes it: a scalar an orbit of components.
    pub fn orbits(&self, group: &GroupRef) -> Fibre {
        let count = |b: &Block| match &b.kind {
            BlockKind::Rep(rep) => b.count * rep.invariants().rows(),
            BlockKind::Class(k) => b.count * k,
            BlockKind::Position => 0,
        };
        Fibre::scalars(self.blocks.iter().map(count).sum(), group)
    }

    /// dim Hom(self, other) for one copy of each block; 0 means that only the zero map is equivariant.
    pub fn hom_dim(&self, other: &Fibre) -> usize {
        let pairs = self.blocks.iter().flat_map(|a| other.blocks.iter().map(move |b| (a, b)));
        pairs.map(|(a, b)| a.kind.hom_dim(&b.kind)).sum()
    }

    /// The group whose representations the blocks are, where one is a representation.
    pub fn group(&self) -> Option<&GroupRef> {
        self.blocks.iter().find_map(|b| if let BlockKind::Rep(rep) = &b.kind { Some(rep.group()) } else { None })
    }

    /// As the user would write it: `4 vector + 8 scalar`, `16`, `class(10)`.
    pub fn describe(&self) -> String {
        self.blocks.iter().map(Block::describe).collect::<Vec<_>>().join(" + ")
    }
}

impl Block {
    /// As the user would write it.
    pub fn describe(&self) -> String {
        match (&self.kind, self.count) {
            (BlockKind::Class(k), 1) => format!("class({k})"),
            (BlockKind::Class(k), n) => format!("{n} class({k})"),
            (BlockKind::Position, 1) => "position".to_string(),
            (BlockKind::Position, n) => format!("{n} position"),
            (BlockKind::Rep(rep), n) if rep.is_trivial() && rep.dim() == 1 => n.to_string(),
            (BlockKind::Rep(rep), n) if rep.is_trivial() => format!("{n} scalar({})", rep.dim()),
            (BlockKind::Rep(rep), n) => {
                let name = rep.name();
                if let Some((from, to)) = harmonic_range(rep) {
                    return format!("{n} irreps({from}..{to})");
                }
                match name.as_bytes() {
                    // A single irrep is written as e3nn does, a sum of several in brackets.
                    [digit, b'e' | b'o'] if digit.is_ascii_digit() => format!("{n}x{name}"),
                    _ if name.contains('+') => format!("{n} ({name})"),
                    _ => format!("{n} {name}"),
                }
            }
        }
    }
}

/// The degrees `from..=to` of a sum of natural irreps, one copy each.
fn harmonic_range(rep: &Rep) -> Option<(u32, u32)> {
    let parts = rep.blocks();
    if parts.len() < 2 || parts.iter().any(|b| b.multiplicity != 1) {
        return None;
    }
    let length = u32::try_from(parts.len()).ok()?;
    (0..=2)
        .map(|from| (from, from + length - 1))
        .find(|(from, to)| Rep::natural_irreps(rep.group(), 1, *from, *to).is_ok_and(|natural| natural == *rep))
}

impl BlockKind {
    fn same(&self, other: &BlockKind) -> bool {
        match (self, other) {
            (BlockKind::Position, BlockKind::Position) => true,
            (BlockKind::Class(a), BlockKind::Class(b)) => a == b,
            (BlockKind::Rep(a), BlockKind::Rep(b)) => {
                a == b || (a.dim() == b.dim() && a.is_trivial() && b.is_trivial())
            }
            (BlockKind::Position | BlockKind::Class(_) | BlockKind::Rep(_), _) => false,
        }
    }

    /// The components of one copy, in R^`ambient`.
    pub fn dim(&self, ambient: usize) -> usize {
        match self {
            BlockKind::Rep(rep) => rep.dim(),
            BlockKind::Position => ambient,
            BlockKind::Class(k) => *k,
        }
    }

    /// Whether every group element acts as the identity.
    pub fn is_invariant(&self) -> bool {
        match self {
            BlockKind::Rep(rep) => rep.is_trivial(),
            BlockKind::Position => false,
            BlockKind::Class(_) => true,
        }
    }

    /// Whether every group element permutes the components.
    pub fn is_permuted(&self) -> bool {
        match self {
            BlockKind::Rep(rep) => rep.is_permutation(),
            BlockKind::Position => false,
            BlockKind::Class(_) => true,
        }
    }

    fn hom_dim(&self, other: &BlockKind) -> usize {
        match (self, other) {
            (BlockKind::Rep(a), BlockKind::Rep(b)) if a.group().same_as(b.group().as_ref()) => hom_dim(a, b),
            // Of different groups only the invariant parts can meet.
            (BlockKind::Rep(a), BlockKind::Rep(b)) => a.invariants().rows() * b.invariants().rows(),
            (BlockKind::Rep(a), BlockKind::Class(k)) | (BlockKind::Class(k), BlockKind::Rep(a)) => {
                k * a.invariants().rows()
            }
            (BlockKind::Class(a), BlockKind::Class(b)) => a * b,
            (BlockKind::Position, _) | (_, BlockKind::Position) => 0,
        }
    }
}
