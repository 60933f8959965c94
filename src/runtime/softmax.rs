//! One step of the running softmax of some rows of scores: what generated code calls between the two dense products of a tile of
//! attention. Vectors are the processor's, chosen when called; `e^x` is that of `kernel::scalar_functions` for `x <= 0`.

#[cfg(target_arch = "aarch64")]
use core::arch::aarch64::*;
#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::*;
use core::f64::consts::{LN_2, LOG2_E};

use super::abi::{Context, F64};
#[cfg(target_arch = "x86_64")]
use super::abi::{FEATURE_AVX512, FEATURE_V3};
#[cfg(target_arch = "x86_64")]
use super::cpu;

/// A step, as generated code describes it: scores become weights relative to the greatest of their row so far.
#[repr(C)]
pub struct Softmax {
    pub rows: i64,
    /// Scores of a row, a multiple of four vectors, and how many of them are there; weights of the others are of scores minus infinity.
    pub columns: i64,
    pub count: i64,
    pub dtype: i64,
    /// `[rows, columns]`
    pub scores: *mut u8,
    /// `[rows]`: the greatest score so far, the sum of the weights, and what is left of what was summed before.
    pub tops: *mut u8,
    pub totals: *mut u8,
    pub keeps: *mut u8,
}

/// Vectors that are taken at once: the operations of one wait for each other.
const PARTS: usize = 4;

/// A number type: `e^x = 2^n (1 + r + r²/2 + ..)` with `x = n ln 2 + r`. `n · LN_2_HIGH` is exact.
trait Exponential: Copy {
    const LN_2_HIGH: f64;
    /// Below it `e^x` is less than the least normal number.
    const LEAST: f64;
    /// Added and taken away, it rounds to an integer, which is then in the last digits of the sum.
    const SHIFT: f64;
    /// Terms of the series after the first: what is left out is below a tenth of a unit.
    const TERMS: usize;
}

impl Exponential for f32 {
    const LN_2_HIGH: f64 = 355.0 / 512.0;
    const LEAST: f64 = -88.0;
    const SHIFT: f64 = 1.5 * (1 << 23) as f64;
    const TERMS: usize = 7;
}

impl Exponential for f64 {
    const LN_2_HIGH: f64 = 2_977_044_472.0 / 4_294_967_296.0;
    const LEAST: f64 = -709.0;
    const SHIFT: f64 = 1.5 * (1u64 << 52) as f64;
    const TERMS: usize = 13;
}

/// What `LN_2` leaves of ln 2.
const LN_2_REST: f64 = 2.319_046_813_846_299_6e-17;

/// `1 / k!`
const SERIES: [f64; 14] = {
    let (mut res, mut factorial, mut k) = ([1.0; 14], 1.0, 1);
    while k < 14 {
        factorial *= k as f64;
        res[k] = 1.0 / factorial;
        k += 1;
    }
    res
};

/// The numbers of some vectors combined, in halves: `$combine` takes two vectors, each `$swap` brings one half of what is left to the other.
macro_rules! combined {
    ($vectors:expr, $combine:path, $first:path, [$($swap:expr),+]) => {{
        let [a, b, c, d]: [_; PARTS] = $vectors;
        let mut all = $combine($combine(a, c), $combine(b, d));
        $(all = $combine(all, $swap(all));)+
        $first(all)
    }};
}

/// Defines `$name` with the given vector instructions; `$max` gives its second operand where one is NaN, or NaN; `$scale` is `2^n` of the
/// sum of `n` and the shift, `$unlike` keeps the numbers of its last operand where the first two differ, else gives zero; `$first` and `$swap`
/// are those of `combined`.
macro_rules! softmax {
    ($name:ident, [$($feature:literal)?], $t:ty, $lanes:literal, $splat:path, $load:path, $store:path, $add:path, $sub:path, $mul:path,
     $max:path, $fma:expr, $scale:expr, $unlike:expr, $first:path, [$($swap:expr),+]) => {
        $(#[target_feature(enable = $feature)])?
        unsafe fn $name(s: &Softmax) {
            const WIDTH: usize = PARTS * $lanes;
            const TERMS: usize = <$t as Exponential>::TERMS;
            let number = |x: f64| $splat(x as $t);
            let (scores, columns, rows) = (s.scores.cast::<$t>(), s.columns as usize, s.rows.max(0) as usize);
            let [tops, totals, keeps] = [s.tops, s.totals, s.keeps].map(|p| p.cast::<$t>());
            let high = <$t as Exponential>::LN_2_HIGH;
            let (log2e, high, low) = (number(LOG2_E), number(-high), number(-((LN_2 - high) + LN_2_REST)));
            let (shift, least) = (number(<$t as Exponential>::SHIFT), number(<$t as Exponential>::LEAST));
            // weights of vectors of scores; NaN goes through
            let weights = |scores: *const $t, top: [_; PARTS]| unsafe {
                let mut x = [number(0.0); PARTS];
                for v in 0..PARTS {
                    let score = $load(scores.add(v * $lanes));
                    x[v] = $max(least, $unlike(score, top[v], $sub(score, top[v])));
                }
                let shifted = x.map(|x| $fma(x, log2e, shift));
                let mut r = x;
                for v in 0..PARTS {
                    let n = $sub(shifted[v], shift);
                    r[v] = $fma(n, low, $fma(n, high, x[v]));
                }
                let mut sum = [number(SERIES[TERMS]); PARTS];
                for k in (0..TERMS).rev() {
                    for v in 0..PARTS {
                        sum[v] = $fma(sum[v], r[v], number(SERIES[k]));
                    }
                }
                for v in 0..PARTS {
                    sum[v] = $mul(sum[v], $scale(shifted[v]));
                }
                sum
            };
            unsafe {
                for m in 0..rows {
                    let row = scores.add(m * columns);
                    for t in s.count.max(0) as usize..columns {
                        *row.add(t) = <$t>::NEG_INFINITY;
                    }
                    let old = *tops.add(m);
                    let mut most = [$splat(old); PARTS];
                    for first in (0..columns).step_by(WIDTH) {
                        for v in 0..PARTS {
                            most[v] = $max(most[v], $load(row.add(first + v * $lanes)));
                        }
                    }
                    *keeps.add(m) = old;
                    *tops.add(m) = combined!(most, $max, $first, [$($swap),+]);
                }
                for first in (0..rows).step_by(WIDTH) {
                    let n = WIDTH.min(rows - first);
                    let (mut old, mut top) = ([0.0; WIDTH], [0.0; WIDTH]);
                    for m in 0..n {
                        (old[m], top[m]) = (*keeps.add(first + m), *tops.add(first + m));
                    }
                    let mut to = [number(0.0); PARTS];
                    for v in 0..PARTS {
                        to[v] = $load(top.as_ptr().add(v * $lanes));
                    }
                    for (v, weight) in weights(old.as_ptr(), to).into_iter().enumerate() {
                        $store(top.as_mut_ptr().add(v * $lanes), weight);
                    }
                    for m in 0..n {
                        *keeps.add(first + m) = top[m];
                    }
                }
                for m in 0..rows {
                    let row = scores.add(m * columns);
                    let top = $splat(*tops.add(m));
                    let mut sums = [number(0.0); PARTS];
                    for first in (0..columns).step_by(WIDTH) {
                        for (v, weight) in weights(row.add(first), [top; PARTS]).into_iter().enumerate() {
                            $store(row.add(first + v * $lanes), weight);
                            sums[v] = $add(sums[v], weight);
                        }
                    }
                    let sum = combined!(sums, $add, $first, [$($swap),+]);
                    *totals.add(m) = *totals.add(m) * *keeps.add(m) + sum;
                    // NaN may be lost among the greatest, and makes the sum NaN, or what is kept
                    if (*totals.add(m)).is_nan() {
                        (*tops.add(m), *keeps.add(m)) = (<$t>::NAN, <$t>::NAN);
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;

    const ONE_SINGLE: i32 = 127 << 23;
    const ONE_DOUBLE: i64 = 1023 << 52;

    softmax!(
        f32x16, ["avx512f"], f32, 16, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps,
        _mm512_max_ps,
        |a, b, c| _mm512_fmadd_ps(a, b, c),
        |n| _mm512_castsi512_ps(_mm512_add_epi32(_mm512_slli_epi32::<23>(_mm512_castps_si512(n)), _mm512_set1_epi32(ONE_SINGLE))),
        |a, b, x| _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(a, b), x),
        _mm512_cvtss_f32, [|v| _mm512_shuffle_f32x4::<0x4e>(v, v), |v| _mm512_shuffle_f32x4::<0xb1>(v, v), |v| _mm512_permute_ps::<0x4e>(v), |v| _mm512_permute_ps::<0xb1>(v)]
    );
    softmax!(
        f64x8, ["avx512f"], f64, 8, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_add_pd, _mm512_sub_pd, _mm512_mul_pd,
        _mm512_max_pd,
        |a, b, c| _mm512_fmadd_pd(a, b, c),
        |n| _mm512_castsi512_pd(_mm512_add_epi64(_mm512_slli_epi64::<52>(_mm512_castpd_si512(n)), _mm512_set1_epi64(ONE_DOUBLE))),
        |a, b, x| _mm512_maskz_mov_pd(_mm512_cmp_pd_mask::<_CMP_NEQ_UQ>(a, b), x),
        _mm512_cvtsd_f64, [|v| _mm512_shuffle_f64x2::<0x4e>(v, v), |v| _mm512_shuffle_f64x2::<0xb1>(v, v), |v| _mm512_permute_pd::<0x55>(v)]
    );
    softmax!(
        f32x8, ["avx2,fma"], f32, 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps,
        _mm256_max_ps,
        |a, b, c| _mm256_fmadd_ps(a, b, c),
        |n| _mm256_castsi256_ps(_mm256_add_epi32(_mm256_slli_epi32::<23>(_mm256_castps_si256(n)), _mm256_set1_epi32(ONE_SINGLE))),
        |a, b, x| _mm256_and_ps(_mm256_cmp_ps::<_CMP_NEQ_UQ>(a, b), x),
        _mm256_cvtss_f32, [|v| _mm256_permute2f128_ps::<1>(v, v), |v| _mm256_permute_ps::<0x4e>(v), |v| _mm256_permute_ps::<0xb1>(v)]
    );
    softmax!(
        f64x4, ["avx2,fma"], f64, 4, _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_add_pd, _mm256_sub_pd, _mm256_mul_pd,
        _mm256_max_pd,
        |a, b, c| _mm256_fmadd_pd(a, b, c),
        |n| _mm256_castsi256_pd(_mm256_add_epi64(_mm256_slli_epi64::<52>(_mm256_castpd_si256(n)), _mm256_set1_epi64x(ONE_DOUBLE))),
        |a, b, x| _mm256_and_pd(_mm256_cmp_pd::<_CMP_NEQ_UQ>(a, b), x),
        _mm256_cvtsd_f64, [|v| _mm256_permute2f128_pd::<1>(v, v), |v| _mm256_permute_pd::<5>(v)]
    );
    softmax!(
        f32x4, ["sse2"], f32, 4, _mm_set1_ps, _mm_loadu_ps, _mm_storeu_ps, _mm_add_ps, _mm_sub_ps, _mm_mul_ps,
        _mm_max_ps,
        |a, b, c| _mm_add_ps(_mm_mul_ps(a, b), c),
        |n| _mm_castsi128_ps(_mm_add_epi32(_mm_slli_epi32::<23>(_mm_castps_si128(n)), _mm_set1_epi32(ONE_SINGLE))),
        |a, b, x| _mm_and_ps(_mm_cmpneq_ps(a, b), x),
        _mm_cvtss_f32, [|v| _mm_shuffle_ps::<0x4e>(v, v), |v| _mm_shuffle_ps::<0xb1>(v, v)]
    );
    softmax!(
        f64x2, ["sse2"], f64, 2, _mm_set1_pd, _mm_loadu_pd, _mm_storeu_pd, _mm_add_pd, _mm_sub_pd, _mm_mul_pd,
        _mm_max_pd,
        |a, b, c| _mm_add_pd(_mm_mul_pd(a, b), c),
        |n| _mm_castsi128_pd(_mm_add_epi64(_mm_slli_epi64::<52>(_mm_castpd_si128(n)), _mm_set1_epi64x(ONE_DOUBLE))),
        |a, b, x| _mm_and_pd(_mm_cmpneq_pd(a, b), x),
        _mm_cvtsd_f64, [|v| _mm_shuffle_pd::<1>(v, v)]
    );

    pub(super) unsafe fn run(s: &Softmax) {
        let double = s.dtype == F64 as i64;
        unsafe {
            match (cpu::has(FEATURE_AVX512), cpu::has(FEATURE_V3)) {
                (true, _) => if double { f64x8(s) } else { f32x16(s) },
                (false, true) => if double { f64x4(s) } else { f32x8(s) },
                (false, false) => if double { f64x2(s) } else { f32x4(s) },
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::*;

    softmax!(
        f32x4, ["neon"], f32, 4, vdupq_n_f32, vld1q_f32, vst1q_f32, vaddq_f32, vsubq_f32, vmulq_f32, vmaxq_f32,
        |a, b, c| vfmaq_f32(c, a, b),
        |n| vreinterpretq_f32_s32(vaddq_s32(vshlq_n_s32::<23>(vreinterpretq_s32_f32(n)), vdupq_n_s32(127 << 23))),
        |a, b, x| vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), vceqq_f32(a, b))),
        vgetq_lane_f32::<0>, [|v| vextq_f32::<2>(v, v), |v| vrev64q_f32(v)]
    );
    softmax!(
        f64x2, ["neon"], f64, 2, vdupq_n_f64, vld1q_f64, vst1q_f64, vaddq_f64, vsubq_f64, vmulq_f64, vmaxq_f64,
        |a, b, c| vfmaq_f64(c, a, b),
        |n| vreinterpretq_f64_s64(vaddq_s64(vshlq_n_s64::<52>(vreinterpretq_s64_f64(n)), vdupq_n_s64(1023 << 52))),
        |a, b, x| vreinterpretq_f64_u64(vbicq_u64(vreinterpretq_u64_f64(x), vceqq_f64(a, b))),
        vgetq_lane_f64::<0>, [|v| vextq_f64::<1>(v, v)]
    );

    pub(super) unsafe fn run(s: &Softmax) {
        unsafe { if s.dtype == F64 as i64 { f64x2(s) } else { f32x4(s) } }
    }
}

/// Takes one step.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_softmax(_: *const Context, step: *const Softmax) {
    let step = unsafe { &*step };
    #[cfg(target_arch = "x86_64")]
    unsafe {
        x86::run(step)
    }
    #[cfg(target_arch = "aarch64")]
    unsafe {
        arm::run(step)
    }
}
