//! Kernels that go through the same rows one after the other become one kernel, which takes a strip of rows through all of them: what they hand
//! on then stays in the caches and needs no array of the call (strip-mining and loop fusion).
//!
//! A strip is a run of kernels that read of one another's results their own row only. It is made where what is handed on would not stay in the
//! caches by itself. Kernels in between that have nothing to do with it step aside, in front of it or behind; else the order stays.

mod fuse;
mod row_wise;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::arena::Id;
use crate::base::size::Size;
use crate::kernel::ir::{Buffer, Kernel, Memory, Program, Stage};
use crate::kernel::pass::compact::drop_exprs;
use crate::kernel::pass::{LEAST_BYTES, PACKED_BYTES};
use crate::kernel::walk::{reads, writes};
use row_wise::{RowWise, row_wise};

/// Bytes that a strip hands on at most: beside a matrix that passes by, they fit a second-level cache, and the stack of a thread.
const STRIP_BYTES: usize = 128 << 10;
/// What is handed on, as a part of all that a row touches at its own place, at least.
const LEAST_SHARE: usize = 4;
/// Rows of a strip: at most, so that threads share the work evenly, and at least, so that the dense kernel has full tiles.
const MOST_ROWS: usize = 192;
const LEAST_DENSE_ROWS: usize = 12;
/// Rows that every shape of tiles divides.
const TILES: usize = 24;
/// Kernels that step aside for one strip.
const MOST_ASIDE: usize = 8;
/// Strips there should be, for threads.
const LEAST_STRIPS: usize = 16;

/// Takes kernels through strips of rows together, where that saves the memory between them.
pub fn strips(program: &mut Program) {
    program.kernels.iter_mut().for_each(drop_exprs);
    let calls: Vec<usize> = (0..program.kernels.len()).filter(|k| program.kernels[*k].stage == Stage::Call).collect();
    let plan = Plan::new(program);
    let old = program.kernels.clone();
    // what is made before the call stays in front of its readers
    program.kernels.retain(|kernel| kernel.stage != Stage::Call);
    let mut left: VecDeque<usize> = calls.into();
    while let Some(first) = left.front().copied() {
        let strip = plan.strip(program, &old, left.make_contiguous());
        let Some(strip) = strip else {
            left.pop_front();
            program.kernels.push(old[first].clone());
            continue;
        };
        left.drain(..strip.kernels.len() + strip.before.len() + strip.behind.len());
        program.kernels.extend(strip.before.iter().map(|k| old[*k].clone()));
        let made = plan.fuse(program, &old, &strip);
        program.kernels.push(made);
        strip.behind.iter().rev().for_each(|k| left.push_front(*k));
    }
}

/// Kernels of one strip in the order of execution, and the arrays that only they use.
struct Strip {
    kernels: Vec<usize>,
    /// Kernels in between that come before it, and that come after it.
    before: Vec<usize>,
    behind: Vec<usize>,
    inner: BTreeSet<Id<Buffer>>,
    /// Rows.
    length: usize,
}

/// What there is to know of the kernels, by their numbers.
struct Plan {
    row_wise: Vec<Option<RowWise>>,
    /// What each reads and writes.
    arrays: Vec<[BTreeSet<Id<Buffer>>; 2]>,
    /// The kernels that touch an array.
    users: BTreeMap<Id<Buffer>, BTreeSet<usize>>,
}

impl Plan {
    fn new(program: &Program) -> Plan {
        let row_wise = program.kernels.iter().map(|k| row_wise(program, k)).collect();
        let set = |buffers: Vec<Id<Buffer>>| buffers.into_iter().collect::<BTreeSet<_>>();
        let touched = |k| [set(reads(program, k)), set(writes(program, k))];
        let arrays: Vec<[BTreeSet<Id<Buffer>>; 2]> = program.kernels.iter().map(touched).collect();
        let mut users: BTreeMap<Id<Buffer>, BTreeSet<usize>> = BTreeMap::new();
        for (k, touched) in arrays.iter().enumerate() {
            for buffer in touched.iter().flatten() {
                users.entry(*buffer).or_default().insert(k);
            }
        }
        Plan { row_wise, arrays, users }
    }

    /// The strip that the first of the kernels begins, where there is one that saves something.
    fn strip(&self, program: &Program, old: &[Kernel], kernels: &[usize]) -> Option<Strip> {
        self.row_wise[kernels[0]].as_ref()?;
        let [members, before, behind] = self.gathered(program, old, kernels);
        let at = |places: &[usize]| places.iter().map(|p| kernels[*p]).collect::<Vec<usize>>();
        let inner = self.inner(program, &at(&members));
        let hands_on = |p: &usize| self.touched(kernels[*p]).any(|b| inner.contains(&b));
        // what stands outside of what is handed on gains nothing
        let last = members.iter().rposition(hands_on).filter(|_| hands_on(&0))?;
        let within = |places: Vec<usize>| at(&places[..places.partition_point(|p| *p < members[last])]);
        let (before, behind) = (within(before), within(behind));
        let strip = Strip { kernels: at(&members[..=last]), before, behind, inner, length: 0 };
        let length = self.length(program, &strip)?;
        Some(Strip { length, ..strip })
    }

    /// By their places among the kernels: those that a strip from the first on may have, and those in between, before it and behind it.
    fn gathered(&self, program: &Program, old: &[Kernel], kernels: &[usize]) -> [Vec<usize>; 3] {
        let (mut members, mut before, mut behind) = (vec![0], vec![], vec![]);
        let mut strip = vec![kernels[0]];
        for (place, k) in kernels.iter().enumerate().skip(1) {
            let apart = |places: &[usize]| places.iter().all(|p| self.are_apart(kernels[*p], *k));
            let with = [&strip[..], &[*k]].concat();
            if apart(&behind) && self.joins(&strip, *k) && self.fits(program, old, &with) {
                members.push(place);
                strip = with;
            } else if before.len() + behind.len() == MOST_ASIDE {
                break;
            } else if apart(&members) && apart(&behind) {
                before.push(place);
            } else {
                behind.push(place);
            }
        }
        [members, before, behind]
    }

    /// Whether neither of two kernels writes what the other touches: their order does not matter.
    fn are_apart(&self, a: usize, b: usize) -> bool {
        let ([reads, writes], [other_reads, other_writes]) = (&self.arrays[a], &self.arrays[b]);
        writes.is_disjoint(other_reads) && writes.is_disjoint(other_writes) && reads.is_disjoint(other_writes)
    }

    fn rows(&self, k: usize) -> &RowWise {
        self.row_wise[k].as_ref().expect("strips: a kernel of rows")
    }

    fn touched(&self, k: usize) -> impl Iterator<Item = Id<Buffer>> {
        self.rows(k).touched.keys().copied()
    }

    /// Whether a kernel may be the next of a strip: of what one of them writes, all touch their own row only.
    fn joins(&self, strip: &[usize], k: usize) -> bool {
        let rows = self.rows(strip[0]).rows;
        let Some(own) = self.row_wise[k].as_ref().filter(|own| own.rows == rows) else { return false };
        strip.iter().all(|member| {
            let theirs = &self.rows(*member).touched;
            own.touched.iter().all(|(buffer, touch)| match theirs.get(buffer) {
                Some(their) => !(touch.written || their.written) || !(touch.elsewhere || their.elsewhere),
                None => true,
            })
        })
    }

    /// Whether a strip of a few rows of the kernels fits the caches.
    fn fits(&self, program: &Program, old: &[Kernel], kernels: &[usize]) -> bool {
        let rows = self.rows(kernels[0]).rows;
        let packed: usize = kernels.iter().map(|k| self.rows(*k).packed).sum();
        let written: BTreeSet<Id<Buffer>> = kernels.iter().flat_map(|k| writes(program, &old[*k])).collect();
        let bytes: usize = written.into_iter().filter_map(|b| row_bytes(program, b, rows)).sum();
        let least = LEAST_DENSE_ROWS.div_ceil(self.dense_rows(kernels));
        packed * program.dtype.bytes() <= PACKED_BYTES && bytes * least <= STRIP_BYTES
    }

    /// Rows of the contractions for each row of the strip, at least.
    fn dense_rows(&self, kernels: &[usize]) -> usize {
        kernels.iter().filter_map(|k| self.rows(*k).dense_rows).min().unwrap_or(LEAST_DENSE_ROWS)
    }

    /// The arrays of the call that no other kernel touches, each of whose rows is touched by its own row only.
    fn inner(&self, program: &Program, kernels: &[usize]) -> BTreeSet<Id<Buffer>> {
        let rows = self.rows(kernels[0]).rows;
        let mut res: BTreeSet<Id<Buffer>> = kernels.iter().flat_map(|k| self.touched(*k)).collect();
        res.retain(|buffer| {
            let by_rows =
                kernels.iter().filter_map(|k| self.rows(*k).touched.get(buffer)).all(|touch| !touch.elsewhere);
            let elsewhere = self.users[buffer].iter().any(|k| !kernels.contains(k));
            let of_call = program.buffers[*buffer].memory == Memory::Workspace;
            of_call && by_rows && !elsewhere && row_bytes(program, *buffer, rows).is_some()
        });
        res
    }

    /// How many rows a strip should have; `None` where it saves nothing.
    fn length(&self, program: &Program, strip: &Strip) -> Option<usize> {
        let rows = self.rows(strip.kernels[0]).rows;
        let hint = program.sizes.hint(rows);
        let bytes: usize = strip.inner.iter().filter_map(|b| row_bytes(program, *b, rows)).sum();
        let touched: BTreeSet<Id<Buffer>> = strip.kernels.iter().flat_map(|k| self.touched(*k)).collect();
        let all: usize = touched.into_iter().filter_map(|b| row_bytes(program, b, rows)).sum();
        if bytes.saturating_mul(hint) < LEAST_BYTES || bytes * LEAST_SHARE < all {
            return None;
        }
        let most = (STRIP_BYTES / bytes.max(1)).min(MOST_ROWS).min((hint / LEAST_STRIPS).max(TILES));
        let length = if most >= TILES { most / TILES * TILES } else { most };
        (length * self.dense_rows(&strip.kernels) >= LEAST_DENSE_ROWS).then_some(length)
    }

    fn fuse(&self, program: &mut Program, old: &[Kernel], strip: &Strip) -> Kernel {
        let members: Vec<(&Kernel, &RowWise)> = strip.kernels.iter().map(|k| (&old[*k], self.rows(*k))).collect();
        fuse::fuse(program, &members, &strip.inner, strip.length)
    }
}

/// The bytes of a row of an array whose first axis is that of the rows.
fn row_bytes(program: &Program, id: Id<Buffer>, rows: Size) -> Option<usize> {
    let buffer = &program.buffers[id];
    let (first, rest) = buffer.shape.split_first()?;
    let numbers = rest.iter().map(|d| d.as_fixed()).product::<Option<usize>>()?;
    (*first == program.sizes.most(rows)).then_some(numbers * buffer.dtype.bytes())
}
