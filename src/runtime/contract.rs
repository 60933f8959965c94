//! The dense kernel: rows found by address, times packed panels, tile by tile, each finished by the caller's epilogue, or put
//! where it stays.
//! Blocks of rows are cut so that they stay in the second-level cache while all panels pass by them.
//! Every sum runs in the order of `tap`, then `k`, whatever the blocks and threads: the numbers never depend on them.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::mem::MaybeUninit;

use super::abi::{Context, F64, FEATURE_AVX512, MOST_PLACES};
use super::cpu;
use super::microkernel::{Outer, Real, Run, Shape, Tile};
use super::pool;

/// One contraction, as generated code describes it.
#[repr(C)]
pub struct Contract {
    pub m_extent: i64,
    pub n_extent: i64,
    pub taps: i64,
    pub k_extent: i64,
    /// Elements from one `k` to the next.
    pub a_stride: i64,
    pub dtype: i64,
    /// Whether rows may be missing (null in the table).
    pub guarded: i64,
    /// Whether blocks may go to other threads.
    pub parallel: i64,
    /// So many rows, from each multiple of it on, lie beside each other and are missing together; `k_extent` is then 1. Else 1.
    pub beside: i64,
    pub packed: *const u8,
    /// Writes the addresses of `count` rows from `m`, tap by tap within a row; null where the row is zero.
    pub rows: unsafe extern "C" fn(data: *const c_void, m: i64, count: i64, table: *mut *const u8),
    /// Finishes `count` rows from `m` of some panels, columns `n..n + width`; rows of `tile` are [`TILE_ROW_BYTES`] apart. Null where all
    /// is written to `out`.
    pub epilogue: Option<Epilogue>,
    pub data: *const c_void,
    /// Where sum `(0, 0)` goes, if those of a row go side by side, else null: where sums are long, that memory is asked for ahead.
    pub out: *mut u8,
    /// Elements of `out` from one row to the next.
    pub out_row: i64,
    /// Whether all sums are stored there as they are: the tiles of which no panel is cut off then are, without the epilogue.
    pub unchanged: i64,
}

type Epilogue = unsafe extern "C" fn(data: *const c_void, m: i64, count: i64, n: i64, width: i64, tile: *const u8);

/// Addresses a block holds at most.
const TABLE: usize = 4096;
/// Bytes of `a` a block should keep in the second-level cache, beside the panel that passes by: processors with AVX-512 have 1 MiB of
/// it or more, those without it as little as 256 KiB.
fn block_bytes() -> i64 {
    if cpu::has(FEATURE_AVX512) { 400 << 10 } else { 128 << 10 }
}

/// Rows of a block at least, where the table of addresses allows.
const LEAST_ROWS: i64 = 48;
/// Numbers a tile holds at most: 12 rows of 64 columns.
const TILE: usize = 12 * 64;
/// Bytes that come at once.
const LINE: usize = 64;
/// Products of a sum for which it is worth asking for memory ahead.
const LONG: i64 = 32;
/// The row of zeros, in bytes.
const ZERO_BYTES: usize = 64 << 10;

/// Never written; the cell makes it memory without bytes in the file.
#[repr(C, align(64))]
struct Zeros(UnsafeCell<[u8; ZERO_BYTES]>);
// SAFETY: never written.
unsafe impl Sync for Zeros {}
static ZEROS: Zeros = Zeros(UnsafeCell::new([0; ZERO_BYTES]));

/// How the work is cut.
struct Plan<'a> {
    c: &'a Contract,
    /// Rows a block.
    block: i64,
    /// Groups that the panels are dealt into, so that few rows still make enough pieces.
    groups: i64,
    /// `k` a step: all of them, unless the row of zeros is shorter.
    k_step: i64,
    panels: i64,
    /// How many panels go by together, and how often that is.
    together: i64,
    columns: i64,
}

/// Panels that go by together.
struct Column<T> {
    first: i64,
    shape: Shape,
    packed: *const T,
}

/// Where the sums of some rows and panels are put.
struct Place<T> {
    sums: *mut T,
    /// Numbers from one row to the next.
    row: i64,
    is_tile: bool,
}

impl<'a> Plan<'a> {
    fn new<T: Real>(c: &'a Contract, width: i64) -> Self {
        let bytes = size_of::<T>() as i64;
        let panels = (c.n_extent + T::UNIT - 1) / T::UNIT;
        if c.beside > 1 {
            let together = T::shape_beside(panels, c.taps).panels;
            let columns = (panels + together - 1) / together;
            return Plan { c, block: c.beside, groups: 1, k_step: 1, panels, together, columns };
        }
        let row_bytes = (c.taps * c.k_extent * bytes).max(1);
        let most = (TABLE as i64 / c.taps.max(1)).min((block_bytes() / row_bytes).max(LEAST_ROWS)).max(1);
        let share = (c.m_extent + 4 * width - 1) / (4 * width);
        let block = if width > 1 { most.min(round_up(share, 24).max(24)) } else { most };
        let together = T::shape(panels, c.taps * c.k_extent).panels;
        let columns = (panels + together - 1) / together;
        let blocks = (c.m_extent + block - 1) / block;
        let groups = if blocks >= 2 * width { 1 } else { ((2 * width + blocks - 1) / blocks).min(columns).max(1) };
        let reach = (ZERO_BYTES as i64 / bytes) / c.a_stride.unsigned_abs().max(1) as i64;
        let k_step = if c.guarded != 0 && c.k_extent > reach { reach.max(1) } else { c.k_extent };
        Plan { c, block, groups, k_step, panels, together, columns }
    }

    fn column<T: Real>(&self, column: i64) -> Column<T> {
        let first = column * self.together;
        let shape = T::shape(self.together.min(self.panels - first), self.c.taps * self.c.k_extent);
        Column { first, shape, packed: self.c.packed.cast::<T>().wrapping_add((first * self.panel_step::<T>()) as usize) }
    }

    /// Numbers from one panel to the next.
    fn panel_step<T: Real>(&self) -> i64 {
        self.c.taps * self.c.k_extent * T::UNIT
    }

    /// Where the sum of a row and a column goes in the end.
    fn end<T: Real>(&self, m: i64, n: i64) -> *mut T {
        self.c.out.cast::<T>().wrapping_offset((m * self.c.out_row + n) as isize)
    }

    /// Where sums are put: where they stay, unless there is more to do with them or a panel is cut off, which fill a tile first.
    fn place<T: Real>(&self, column: &Column<T>, m: i64, tile: *mut T) -> Place<T> {
        let (c, n) = (self.c, column.first * T::UNIT);
        if c.unchanged == 0 || n + column.shape.panels * T::UNIT > c.n_extent {
            return Place { sums: tile, row: T::TILE_ROW, is_tile: true };
        }
        Place { sums: self.end(m, n), row: c.out_row, is_tile: false }
    }

    /// Asks for the memory where long sums go in the end, so that it comes while they are computed.
    fn ask<T: Real>(&self, column: &Column<T>, m: i64, rows: i64) {
        let (c, n) = (self.c, column.first * T::UNIT);
        if c.out.is_null() || c.taps * c.k_extent < LONG {
            return;
        }
        let width = (column.shape.panels * T::UNIT).min(c.n_extent - n);
        for row in m..m + rows {
            for at in (0..width).step_by(LINE / size_of::<T>()) {
                ask_for(self.end::<T>(row, n + at).cast());
            }
        }
    }

    /// Hands the finished rows of a tile to the epilogue.
    unsafe fn finish<T: Real>(&self, column: &Column<T>, m: i64, rows: i64, place: &Place<T>) {
        let (c, n) = (self.c, column.first * T::UNIT);
        let width = (column.shape.panels * T::UNIT).min(c.n_extent - n);
        if let Some(epilogue) = c.epilogue.filter(|_| place.is_tile) {
            unsafe { epilogue(c.data, m, rows, n, width, place.sums.cast()) };
        }
    }
}

/// Asks for a line of memory.
#[inline(always)]
fn ask_for(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, for any address.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(at.cast())
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

fn round_up(n: i64, to: i64) -> i64 {
    (n + to - 1) / to * to
}

/// Runs a contraction.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_contract(context: *const Context, contract: *const Contract) {
    let c = unsafe { &*contract };
    if c.m_extent <= 0 || c.n_extent <= 0 {
        return;
    }
    if c.dtype == F64 as i64 {
        unsafe { run::<f64>(context, c) }
    } else {
        unsafe { run::<f32>(context, c) }
    }
}

unsafe fn run<T: Real>(context: *const Context, c: &Contract) {
    // About 30 multiplications a nanosecond: a guess that decides only whether threads are worth waking.
    let flops = c.m_extent.saturating_mul(c.n_extent).saturating_mul((c.taps * c.k_extent).max(8));
    let ns = flops / 30;
    let width = if c.parallel != 0 { pool::width(unsafe { &*context }, ns) } else { 1 };
    let plan = Plan::new::<T>(c, width);
    let pieces = (c.m_extent + plan.block - 1) / plan.block * plan.groups;
    let data = (&raw const plan).cast::<c_void>();
    if c.parallel != 0 {
        unsafe { pool::gdl_rt_parallel(context, 0, pieces, ns / pieces, piece::<T>, data) }
    } else {
        unsafe { piece::<T>(data, 0, pieces) }
    }
}

/// The memory of one block: addresses and a tile.
struct Scratch<T> {
    table: [MaybeUninit<*const T>; TABLE],
    /// The addresses of a tile's rows, moved along `k`.
    shifted: [MaybeUninit<*const T>; TABLE],
    tile: [MaybeUninit<T>; TILE],
}

unsafe extern "C" fn piece<T: Real>(data: *const c_void, begin: i64, end: i64) {
    let plan = unsafe { &*data.cast::<Plan<'_>>() };
    let mut scratch: MaybeUninit<Scratch<T>> = MaybeUninit::uninit();
    // SAFETY: all of it may stay uninitialised.
    let scratch = unsafe { &mut *scratch.as_mut_ptr() };
    for p in begin..end {
        let (block, group) = (p / plan.groups, p % plan.groups);
        let m = block * plan.block;
        let count = plan.block.min(plan.c.m_extent - m);
        let (first, last) = (plan.columns * group / plan.groups, plan.columns * (group + 1) / plan.groups);
        unsafe {
            if plan.c.beside > 1 {
                rows_beside(plan, scratch, m, count);
            } else if plan.k_step == plan.c.k_extent {
                whole_block(plan, scratch, m, count, first, last);
            } else {
                stepped_block(plan, scratch, m, count, first, last);
            }
        }
    }
}

/// Fills the table and puts the row of zeros where rows are missing.
unsafe fn find_rows<T: Real>(c: &Contract, table: *mut *const T, m: i64, count: i64) {
    unsafe { (c.rows)(c.data, m, count, table.cast()) };
    if c.guarded != 0 {
        for e in 0..(count * c.taps) as usize {
            unsafe {
                if (*table.add(e)).is_null() {
                    *table.add(e) = zeros(c);
                }
            }
        }
    }
}

/// Where the row of zeros is read from: its end, when `k` goes down.
fn zeros<T>(c: &Contract) -> *const T {
    let start = ZEROS.0.get().cast::<u8>().cast_const();
    let skip = if c.a_stride < 0 { ZERO_BYTES - size_of::<T>() } else { 0 };
    start.wrapping_add(skip).cast()
}

/// A block whose rows' addresses all fit the table.
unsafe fn whole_block<T: Real>(plan: &Plan<'_>, s: &mut Scratch<T>, m: i64, count: i64, first: i64, last: i64) {
    let c = plan.c;
    let (table, tile) = (s.table.as_mut_ptr().cast::<*const T>(), s.tile.as_mut_ptr().cast::<T>());
    unsafe { find_rows(c, table, m, count) };
    for column in first..last {
        let column = plan.column::<T>(column);
        let mut row = 0;
        while row < count {
            let rows = T::take(column.shape.rows, count - row);
            let place = plan.place(&column, m + row, tile);
            plan.ask(&column, m + row, rows);
            let t = Tile {
                rows: table.wrapping_add((row * c.taps) as usize),
                row_step: c.taps,
                taps: c.taps,
                k_extent: c.k_extent,
                stride: c.a_stride,
                packed: column.packed,
                tap_skip: 0,
                panel_step: plan.panel_step::<T>(),
                sums: place.sums,
                sums_row: place.row,
                resume: false,
                zeros: if c.guarded != 0 { zeros(c) } else { core::ptr::null() },
            };
            unsafe {
                T::multiply(&t, rows, column.shape.panels);
                plan.finish(&column, m + row, rows, &place);
            }
            row += rows;
        }
    }
}

/// Rows that lie beside each other: one list for all of them of the places where they are not missing.
unsafe fn rows_beside<T: Real>(plan: &Plan<'_>, s: &mut Scratch<T>, m: i64, count: i64) {
    const { assert!(size_of::<Run<T>>() * MOST_PLACES <= size_of::<*const T>() * TABLE) };
    let c = plan.c;
    let (table, tile) = (s.table.as_mut_ptr().cast::<*const T>(), s.tile.as_mut_ptr().cast::<T>());
    let runs = s.shifted.as_mut_ptr().cast::<Run<T>>();
    unsafe { (c.rows)(c.data, m, 1, table.cast()) };
    let (n_runs, stride) = unsafe { runs_of_places(c, table, runs) };
    for column in 0..plan.columns {
        let first = column * plan.together;
        let shape = T::shape_beside(plan.together.min(plan.panels - first), c.taps);
        let column = Column { first, shape, packed: c.packed.cast() };
        let mut row = 0;
        while row < count {
            let rows = T::take_beside(shape.rows, count - row);
            let place = plan.place(&column, m + row, tile);
            let (panel_step, sums, sums_row) = (plan.panel_step::<T>(), place.sums, place.row);
            let t = Outer { n_runs, runs, stride, row, panel: first, panel_step, sums, sums_row };
            unsafe {
                T::multiply_beside(&t, rows, shape.panels);
                plan.finish(&column, m + row, rows, &place);
            }
            row += rows;
        }
    }
}

/// Gathers places into runs: how many there are, and the step of the address within all of them.
unsafe fn runs_of_places<T: Real>(c: &Contract, table: *const *const T, runs: *mut Run<T>) -> (i64, i64) {
    let (mut n, mut stride, mut before) = (0, None, core::ptr::null::<T>());
    for tap in 0..c.taps as usize {
        let rows = unsafe { *table.add(tap) };
        if !rows.is_null() {
            let step = (rows as isize).wrapping_sub(before as isize) / size_of::<T>() as isize;
            if !before.is_null() && *stride.get_or_insert(step) == step {
                unsafe { (*runs.add(n - 1)).places += 1 };
            } else {
                let columns = c.packed.cast::<T>().wrapping_add(tap * T::UNIT as usize);
                unsafe { runs.add(n).write(Run { places: 1, rows, columns }) };
                n += 1;
            }
        }
        before = rows;
    }
    (n as i64, stride.unwrap_or(0) as i64)
}

/// A block whose depth must be cut, because the row of zeros is shorter: the tile is resumed step by step.
unsafe fn stepped_block<T: Real>(plan: &Plan<'_>, s: &mut Scratch<T>, m: i64, count: i64, first: i64, last: i64) {
    let c = plan.c;
    let (table, tile) = (s.table.as_mut_ptr().cast::<*const T>(), s.tile.as_mut_ptr().cast::<T>());
    let shifted = s.shifted.as_mut_ptr().cast::<*const T>();
    unsafe { (c.rows)(c.data, m, count, table.cast()) };
    for column in first..last {
        let column = plan.column::<T>(column);
        let most = if column.shape.rows * c.taps <= TABLE as i64 { column.shape.rows } else { 1 };
        let mut row = 0;
        while row < count {
            let rows = T::take(most, count - row);
            let place = plan.place(&column, m + row, tile);
            let mut k = 0;
            while k < c.k_extent {
                let step = plan.k_step.min(c.k_extent - k);
                for e in 0..(rows * c.taps) as usize {
                    let a = unsafe { *table.add((row * c.taps) as usize + e) };
                    let moved = a.wrapping_offset((k * c.a_stride) as isize);
                    unsafe { *shifted.add(e) = if a.is_null() { zeros(c) } else { moved } };
                }
                let t = Tile {
                    rows: shifted,
                    row_step: c.taps,
                    taps: c.taps,
                    k_extent: step,
                    stride: c.a_stride,
                    packed: column.packed.wrapping_add((k * T::UNIT) as usize),
                    tap_skip: (c.k_extent - step) * T::UNIT,
                    panel_step: plan.panel_step::<T>(),
                    sums: place.sums,
                    sums_row: place.row,
                    resume: k > 0,
                    zeros: zeros(c),
                };
                unsafe { T::multiply(&t, rows, column.shape.panels) };
                k += step;
            }
            unsafe { plan.finish(&column, m + row, rows, &place) };
            row += rows;
        }
    }
}
