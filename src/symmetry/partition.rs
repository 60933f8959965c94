//! The symmetric group on tuples: orbits of S_n on `[n]^k` are the set
//! partitions of k positions into at most n blocks (which positions are equal).
//!
//! In: k, and n where it is small. Out: partitions, and from them a basis of
//! the equivariant maps `[n]^k -> [n]^l` (Maron et al. 2019): the partitions
//! of k + l positions, Bell(k + l) of them once n >= k + l.

/// A set partition of `0..k` as a restricted growth string: `block[i]` is the
/// block of position i, blocks numbered by first appearance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    /// The block of each position.
    pub block: Vec<usize>,
}

/// Partitions of more positions than this are refused: Bell(12) = 4 213 597.
pub const MAX_POSITIONS: usize = 11;

/// All set partitions of `k` positions, in lexicographic order of their growth
/// strings: all equal first, all different last. Nothing above [`MAX_POSITIONS`].
pub fn partitions(k: usize) -> Option<Vec<Partition>> {
    if k > MAX_POSITIONS {
        return None;
    }
    let mut all = vec![Partition { block: Vec::new() }];
    for _ in 0..k {
        all = all
            .into_iter()
            .flat_map(|p| {
                (0..=p.blocks()).map(move |b| {
                    let mut block = p.block.clone();
                    block.push(b);
                    Partition { block }
                })
            })
            .collect();
    }
    Some(all)
}

/// The orbits of S_n on `[n]^k`: partitions into at most `n` blocks.
pub fn orbits(k: usize, n: usize) -> Option<Vec<Partition>> {
    Some(partitions(k)?.into_iter().filter(|p| p.blocks() <= n).collect())
}

/// The number of set partitions of `k` positions; nothing if it overflows.
pub fn bell(k: usize) -> Option<u128> {
    // The Bell triangle: a row starts with the end of the row before.
    let mut row = vec![1u128];
    for _ in 0..k {
        let mut next = vec![*row.last()?];
        for x in &row {
            next.push(next.last()?.checked_add(*x)?);
        }
        row = next;
    }
    row.first().copied()
}

impl Partition {
    /// The number of blocks.
    pub fn blocks(&self) -> usize {
        self.block.iter().max().map_or(0, |b| b + 1)
    }

    /// The orbit of a tuple.
    pub fn of(tuple: &[usize]) -> Partition {
        let mut values: Vec<usize> = Vec::new();
        let block = tuple
            .iter()
            .map(|x| {
                values.iter().position(|v| v == x).unwrap_or_else(|| {
                    values.push(*x);
                    values.len() - 1
                })
            })
            .collect();
        Partition { block }
    }

    /// The positions of each block.
    pub fn members(&self) -> Vec<Vec<usize>> {
        let mut out = vec![Vec::new(); self.blocks()];
        for (i, b) in self.block.iter().enumerate() {
            out[*b].push(i);
        }
        out
    }
}
