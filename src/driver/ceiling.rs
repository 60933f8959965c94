//! What one core of this machine can do: multiply-adds in registers, bytes from memory. Measured, not looked up.

use std::hint::black_box;
use std::time::Instant;

use crate::base::dtype::Dtype;

/// The measured limits of one core.
#[derive(Clone, Copy, Debug)]
pub struct Ceiling {
    /// f32 multiply-adds in the widest vectors, in GFLOP/s (two operations each).
    pub gflops_f32: f64,
    /// Bytes read by a sum over an array much larger than the caches, in GB/s.
    pub gbytes: f64,
}

impl Ceiling {
    /// Measures for about a tenth of a second.
    pub fn measure() -> Ceiling {
        Ceiling { gflops_f32: multiply_adds(), gbytes: memory() }
    }

    /// The limit for this number type.
    pub fn gflops(&self, dtype: Dtype) -> f64 {
        match dtype {
            Dtype::F32 | Dtype::I32 => self.gflops_f32,
            Dtype::F64 | Dtype::I64 => self.gflops_f32 / 2.0,
        }
    }
}

const TURNS: usize = 1_000_000;
/// Enough independent chains to hide the latency of a multiply-add.
const CHAINS: usize = 12;

fn multiply_adds() -> f64 {
    let (kernel, lanes): (unsafe fn() -> f32, usize) = widest();
    let run = || {
        let start = Instant::now();
        // SAFETY: `widest` found the instructions on this machine.
        black_box(unsafe { kernel() });
        start.elapsed().as_secs_f64()
    };
    let best = (0..5).map(|_| run()).fold(f64::INFINITY, f64::min);
    (2 * lanes * CHAINS * TURNS) as f64 / best / 1e9
}

#[cfg(target_arch = "x86_64")]
fn widest() -> (unsafe fn() -> f32, usize) {
    if is_x86_feature_detected!("avx512f") {
        (x86::avx512, 16)
    } else if is_x86_feature_detected!("fma") {
        (x86::avx2, 8)
    } else {
        (chains::<4>, 4)
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn widest() -> (unsafe fn() -> f32, usize) {
    (chains::<4>, 4)
}

/// Plain arithmetic on `LANES` numbers a chain; the compiler makes vectors of them.
fn chains<const LANES: usize>() -> f32 {
    let (scale, shift) = (black_box(0.999_999), black_box(1e-6));
    let mut acc = [[black_box(1.0f32); LANES]; CHAINS];
    for _ in 0..TURNS {
        for x in acc.iter_mut().flatten() {
            *x = *x * scale + shift;
        }
    }
    acc.iter().flatten().sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CHAINS, TURNS};
    use std::arch::x86_64::{
        _mm256_add_ps, _mm256_fmadd_ps, _mm256_set1_ps, _mm256_storeu_ps, _mm512_fmadd_ps, _mm512_reduce_add_ps,
        _mm512_set1_ps,
    };
    use std::hint::black_box;

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512() -> f32 {
        let (scale, shift) = (_mm512_set1_ps(black_box(0.999_999)), _mm512_set1_ps(black_box(1e-6)));
        let mut acc: [_; CHAINS] = std::array::from_fn(|k| _mm512_set1_ps(black_box(k as f32)));
        for _ in 0..TURNS {
            for x in &mut acc {
                *x = _mm512_fmadd_ps(*x, scale, shift);
            }
        }
        acc.iter().map(|x| _mm512_reduce_add_ps(*x)).sum()
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2() -> f32 {
        let (scale, shift) = (_mm256_set1_ps(black_box(0.999_999)), _mm256_set1_ps(black_box(1e-6)));
        let mut acc: [_; CHAINS] = std::array::from_fn(|k| _mm256_set1_ps(black_box(k as f32)));
        for _ in 0..TURNS {
            for x in &mut acc {
                *x = _mm256_fmadd_ps(*x, scale, shift);
            }
        }
        // every chain is part of the result: one that nobody reads would not be computed
        let sum = acc.into_iter().fold(_mm256_set1_ps(0.0), |sum, x| _mm256_add_ps(sum, x));
        let mut total = [0.0f32; 8];
        // SAFETY: eight floats are written to an array of eight.
        unsafe { _mm256_storeu_ps(total.as_mut_ptr(), sum) };
        total.iter().sum()
    }
}

/// The rate of summing 128 MiB.
fn memory() -> f64 {
    let data = vec![1u64; 16 << 20];
    let run = || {
        let start = Instant::now();
        black_box(data.iter().fold(0u64, |a, b| a.wrapping_add(*b)));
        start.elapsed().as_secs_f64()
    };
    let best = (0..3).map(|_| run()).fold(f64::INFINITY, f64::min);
    (data.len() * 8) as f64 / best / 1e9
}
