//! Micro-kernels: a few rows times a few packed panels, all sums in registers.
//! One shape a vector width: columns in `NV` vectors, `MR` rows, so that accumulators, one row of the panels and one broadcast fit the
//! registers. Every panel is read from its start to its end: passes over a part of wider rows cost twice the time where the first-level
//! cache does not hold them.

#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::*;

#[cfg(target_arch = "x86_64")]
use super::abi::{FEATURE_AVX512, FEATURE_V3};
use super::abi::{PANEL_BYTES, TILE_ROW_BYTES};
#[cfg(target_arch = "x86_64")]
use super::cpu;

/// One tile: `sums[r][n] (+)= Σ_tap Σ_k rows[r][tap][k · stride] · packed[n / unit][tap][k][n mod unit]`, panels of `unit` columns.
pub(crate) struct Tile<T> {
    pub rows: *const *const T,
    /// Entries of `rows` from one row to the next.
    pub row_step: i64,
    pub taps: i64,
    pub k_extent: i64,
    pub stride: i64,
    pub packed: *const T,
    /// Numbers of `packed` to pass over between taps.
    pub tap_skip: i64,
    /// Numbers of `packed` from one panel to the next.
    pub panel_step: i64,
    pub sums: *mut T,
    /// Numbers of `sums` from one row to the next.
    pub sums_row: i64,
    /// Go on from what `sums` holds, instead of from zero.
    pub resume: bool,
    /// The row of zeros, or null where there is none: a tap at which all rows are it is passed over.
    pub zeros: *const T,
}

/// Places whose rows, and whose columns, follow each other in memory.
pub(crate) struct Run<T> {
    pub places: i64,
    /// Where the rows are at the first place, and the columns of the first panel.
    pub rows: *const T,
    pub columns: *const T,
}

/// One tile of rows that lie beside each other: `sums[r][n] = Σ_place rows[place][r] · columns[place][n mod unit + n / unit · panel_step]`.
pub(crate) struct Outer<T> {
    pub n_runs: i64,
    pub runs: *const Run<T>,
    /// Numbers from the rows of one place of a run to those of the next.
    pub stride: i64,
    /// The tile's first row among those that lie beside each other, and its first panel.
    pub row: i64,
    pub panel: i64,
    /// Numbers from one panel to the next.
    pub panel_step: i64,
    pub sums: *mut T,
    /// Numbers of `sums` from one row to the next.
    pub sums_row: i64,
}

/// Bytes of the short panels of a tile together: half of a first-level cache.
const SHORT_BYTES: i64 = 16 << 10;

/// The rows and panels of a tile.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub rows: i64,
    pub panels: i64,
}

/// A number type with micro-kernels.
pub(crate) trait Real: Copy {
    /// Columns of a panel.
    const UNIT: i64;
    /// Numbers from one row of a tile to the next.
    const TILE_ROW: i64 = TILE_ROW_BYTES / PANEL_BYTES * Self::UNIT;
    /// The best tile where this many panels are left, at most so many, whose columns are `depth` long.
    fn shape(panels: i64, depth: i64) -> Shape;
    /// Computes a tile of `rows` rows, a number that [`Real::take`] gave for the shape of `panels` panels.
    unsafe fn multiply(t: &Tile<Self>, rows: i64, panels: i64);

    /// The best tile of rows that lie beside each other, at so many places.
    fn shape_beside(panels: i64, places: i64) -> Shape;
    /// Computes such a tile, of a number of rows that [`Real::take_beside`] gave.
    unsafe fn multiply_beside(t: &Outer<Self>, rows: i64, panels: i64);

    /// How many of such rows to do at once: the most, or the greatest power of two that is left.
    fn take_beside(most: i64, left: i64) -> i64 {
        if left >= most { most } else { 1 << left.ilog2() }
    }

    /// How many of the rows left to do at once: the most, or a smaller kernel for the tail.
    fn take(most: i64, left: i64) -> i64 {
        if left >= most {
            most
        } else {
            left.min(3)
        }
    }
}

/// Panels that a tile takes one after the other where one alone fills the registers: several short ones, which then share the
/// epilogue's call, and one long one, which stays in the caches while all rows pass by it.
fn together(panels: i64, depth: i64) -> i64 {
    let bytes = depth.max(1) * PANEL_BYTES;
    (SHORT_BYTES / bytes).clamp(1, TILE_ROW_BYTES / PANEL_BYTES).min(panels)
}

/// Defines `$name<MR, NV>`, and `$beside<MR, NV>` of rows that lie beside each other, with the given vector instructions, `$per` vectors a
/// panel. A macro and not a trait: every instruction must be called from a function that has its target feature.
macro_rules! kernel {
    ($name:ident, $beside:ident, [$($feature:literal)?], $t:ty, $lanes:literal, $per:literal, $zero:path, $load:path, $store:path, $splat:path, $fma:expr) => {
        $(#[target_feature(enable = $feature)])?
        unsafe fn $name<const MR: usize, const NV: usize>(t: &Tile<$t>, panel: usize, column: usize) {
            unsafe {
                const UNIT: usize = $lanes * $per;
                let (out, row_step) = (t.sums.add(panel * UNIT + column), t.sums_row as isize);
                let mut acc = [[$zero(); NV]; MR];
                if t.resume {
                    for r in 0..MR {
                        for v in 0..NV {
                            acc[r][v] = $load(out.offset(r as isize * row_step).add(v * $lanes));
                        }
                    }
                }
                let mut b = t.packed.add(panel * t.panel_step as usize + column);
                for tap in 0..t.taps as usize {
                    let mut a = [core::ptr::null::<$t>(); MR];
                    for r in 0..MR {
                        a[r] = *t.rows.add(r * t.row_step as usize + tap);
                    }
                    if a.iter().all(|row| *row == t.zeros) {
                        b = b.add(t.k_extent as usize * UNIT + t.tap_skip as usize);
                        continue;
                    }
                    let mut offset = 0isize;
                    for _ in 0..t.k_extent {
                        let mut row = [$zero(); NV];
                        for v in 0..NV {
                            row[v] = $load(b.offset((v / $per) as isize * t.panel_step as isize).add(v % $per * $lanes));
                        }
                        for r in 0..MR {
                            let s = $splat(*a[r].offset(offset));
                            for v in 0..NV {
                                acc[r][v] = $fma(s, row[v], acc[r][v]);
                            }
                        }
                        offset += t.stride as isize;
                        b = b.add(UNIT);
                    }
                    b = b.add(t.tap_skip as usize);
                }
                for r in 0..MR {
                    for v in 0..NV {
                        $store(out.offset(r as isize * row_step).add(v * $lanes), acc[r][v]);
                    }
                }
            }
        }

        $(#[target_feature(enable = $feature)])?
        unsafe fn $beside<const MR: usize, const NV: usize>(t: &Outer<$t>, panel: usize, column: usize) {
            unsafe {
                const UNIT: usize = $lanes * $per;
                let mut acc = [[$zero(); NV]; MR];
                let first = (t.panel as usize + panel) * t.panel_step as usize + column;
                for run in 0..t.n_runs as usize {
                    let run = &*t.runs.add(run);
                    let (mut a, mut b) = (run.rows.add(t.row as usize), run.columns.add(first));
                    for _ in 0..run.places {
                        let mut row = [$zero(); NV];
                        for v in 0..NV {
                            row[v] = $load(b.add(v / $per * t.panel_step as usize).add(v % $per * $lanes));
                        }
                        for r in 0..MR {
                            let s = $splat(*a.add(r));
                            for v in 0..NV {
                                acc[r][v] = $fma(s, row[v], acc[r][v]);
                            }
                        }
                        (a, b) = (a.wrapping_offset(t.stride as isize), b.add(UNIT));
                    }
                }
                let (out, row_step) = (t.sums.add(panel * UNIT + column), t.sums_row as isize);
                for r in 0..MR {
                    for v in 0..NV {
                        $store(out.offset(r as isize * row_step).add(v * $lanes), acc[r][v]);
                    }
                }
            }
        }
    };
}

/// Calls a kernel for the number of rows at hand.
macro_rules! by_rows {
    ($name:ident, [$($n:literal)+], $nv:literal, $t:ident, $rows:ident, $panel:expr, $column:expr) => {
        match $rows {
            $($n => $name::<$n, $nv>($t, $panel, $column),)+
            _ => $name::<1, $nv>($t, $panel, $column),
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;

    kernel!(f32x16, f32x16_beside, ["avx512f"], f32, 16, 1, _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps);
    kernel!(f64x8, f64x8_beside, ["avx512f"], f64, 8, 1, _mm512_setzero_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_set1_pd, _mm512_fmadd_pd);
    kernel!(f32x8, f32x8_beside, ["avx2,fma"], f32, 8, 2, _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps);
    kernel!(f64x4, f64x4_beside, ["avx2,fma"], f64, 4, 2, _mm256_setzero_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_set1_pd, _mm256_fmadd_pd);
    kernel!(f32x4, f32x4_beside, [], f32, 4, 4, _mm_setzero_ps, _mm_loadu_ps, _mm_storeu_ps, _mm_set1_ps, |a, b, c| _mm_add_ps(_mm_mul_ps(a, b), c));
    kernel!(f64x2, f64x2_beside, [], f64, 2, 4, _mm_setzero_pd, _mm_loadu_pd, _mm_storeu_pd, _mm_set1_pd, |a, b, c| _mm_add_pd(_mm_mul_pd(a, b), c));

    macro_rules! real {
        ($t:ident, $unit:literal, [$wide:ident, $middle:ident, $narrow:ident], [$wide_b:ident, $middle_b:ident, $narrow_b:ident]) => {
            impl Real for $t {
                const UNIT: i64 = $unit;

                fn shape(panels: i64, depth: i64) -> Shape {
                    if cpu::has(FEATURE_AVX512) {
                        match panels {
                            4 => Shape { rows: 6, panels: 4 },
                            2 => Shape { rows: 12, panels: 2 },
                            1 => Shape { rows: 12, panels: 1 },
                            _ => Shape { rows: 8, panels: 3 },
                        }
                    } else if cpu::has(FEATURE_V3) {
                        Shape { rows: 6, panels: together(panels, depth) }
                    } else {
                        Shape { rows: 4, panels: together(panels, depth) }
                    }
                }

                unsafe fn multiply(t: &Tile<Self>, rows: i64, panels: i64) {
                    unsafe {
                        if cpu::has(FEATURE_AVX512) {
                            match panels {
                                4 => by_rows!($wide, [6 3 2], 4, t, rows, 0, 0),
                                3 => by_rows!($wide, [8 3 2], 3, t, rows, 0, 0),
                                2 => by_rows!($wide, [12 3 2], 2, t, rows, 0, 0),
                                _ => by_rows!($wide, [12 3 2], 1, t, rows, 0, 0),
                            }
                        } else if cpu::has(FEATURE_V3) {
                            for p in 0..panels as usize {
                                by_rows!($middle, [6 3 2], 2, t, rows, p, 0)
                            }
                        } else {
                            for p in 0..panels as usize {
                                by_rows!($narrow, [4 3 2], 2, t, rows, p, 0);
                                by_rows!($narrow, [4 3 2], 2, t, rows, p, $unit / 2)
                            }
                        }
                    }
                }

                fn shape_beside(panels: i64, places: i64) -> Shape {
                    if cpu::has(FEATURE_AVX512) {
                        Shape { rows: 12, panels: panels.min(2) }
                    } else if cpu::has(FEATURE_V3) {
                        Shape { rows: 6, panels: together(panels, places) }
                    } else {
                        Shape { rows: 4, panels: together(panels, places) }
                    }
                }

                unsafe fn multiply_beside(t: &Outer<Self>, rows: i64, panels: i64) {
                    unsafe {
                        if cpu::has(FEATURE_AVX512) {
                            match panels {
                                2 => by_rows!($wide_b, [12 8 4 2], 2, t, rows, 0, 0),
                                _ => by_rows!($wide_b, [12 8 4 2], 1, t, rows, 0, 0),
                            }
                        } else if cpu::has(FEATURE_V3) {
                            for p in 0..panels as usize {
                                by_rows!($middle_b, [6 4 2], 2, t, rows, p, 0)
                            }
                        } else {
                            for p in 0..panels as usize {
                                by_rows!($narrow_b, [4 2], 2, t, rows, p, 0);
                                by_rows!($narrow_b, [4 2], 2, t, rows, p, $unit / 2)
                            }
                        }
                    }
                }
            }
        };
    }

    real!(f32, 16, [f32x16, f32x8, f32x4], [f32x16_beside, f32x8_beside, f32x4_beside]);
    real!(f64, 8, [f64x8, f64x4, f64x2], [f64x8_beside, f64x4_beside, f64x2_beside]);
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::*;
    use core::arch::aarch64::*;

    kernel!(f32x4, f32x4_beside, ["neon"], f32, 4, 4, zero_f32, vld1q_f32, vst1q_f32, vdupq_n_f32, |a, b, c| vfmaq_f32(c, a, b));
    kernel!(f64x2, f64x2_beside, ["neon"], f64, 2, 4, zero_f64, vld1q_f64, vst1q_f64, vdupq_n_f64, |a, b, c| vfmaq_f64(c, a, b));

    #[target_feature(enable = "neon")]
    fn zero_f32() -> float32x4_t {
        vdupq_n_f32(0.0)
    }

    #[target_feature(enable = "neon")]
    fn zero_f64() -> float64x2_t {
        vdupq_n_f64(0.0)
    }

    macro_rules! real {
        ($t:ident, $unit:literal, $kernel:ident, $beside:ident) => {
            impl Real for $t {
                const UNIT: i64 = $unit;

                fn shape(panels: i64, depth: i64) -> Shape {
                    Shape { rows: 6, panels: together(panels, depth) }
                }

                unsafe fn multiply(t: &Tile<Self>, rows: i64, panels: i64) {
                    for p in 0..panels as usize {
                        unsafe { by_rows!($kernel, [6 3 2], 4, t, rows, p, 0) }
                    }
                }

                fn shape_beside(panels: i64, places: i64) -> Shape {
                    Shape { rows: 6, panels: together(panels, places) }
                }

                unsafe fn multiply_beside(t: &Outer<Self>, rows: i64, panels: i64) {
                    for p in 0..panels as usize {
                        unsafe { by_rows!($beside, [6 4 2], 4, t, rows, p, 0) }
                    }
                }
            }
        };
    }

    real!(f32, 16, f32x4, f32x4_beside);
    real!(f64, 8, f64x2, f64x2_beside);
}
