//! The runtime's fused multiply-add, for processors without one, against the standard library's: equal bits.

#[path = "../../src/runtime/fused.rs"]
mod runtime;

use gdlc::math::Rng;
use runtime::{double, single};

const TRIALS: usize = 300_000;

/// Numbers where rounding is hard: any bits, and sums that cancel to some last bits.
fn bits(rng: &mut Rng) -> u64 {
    rng.next_u64()
}

#[test]
fn any_three_numbers_of_64_bits() {
    let mut rng = Rng::new(1);
    for _ in 0..TRIALS {
        let [a, b, c] = [0; 3].map(|_| f64::from_bits(bits(&mut rng)));
        same(a, b, c);
    }
}

#[test]
fn sums_that_cancel_or_meet_the_ends_of_the_range() {
    let mut rng = Rng::new(2);
    for _ in 0..TRIALS {
        let scale = |rng: &mut Rng, least: i64, n: u64| 2f64.powi((least + (bits(rng) % n) as i64) as i32);
        let unit = |rng: &mut Rng| 1.0 + (bits(rng) >> 12) as f64 / 2f64.powi(52);
        let (a, b) = (unit(&mut rng), unit(&mut rng) * scale(&mut rng, -60, 120));
        let near = f64::from_bits((a * b).to_bits().wrapping_add(bits(&mut rng) % 5).wrapping_sub(2));
        let far = a * b * scale(&mut rng, -60, 120);
        let least = scale(&mut rng, -1074, 60);
        for c in [-near, near, -far, far, 0.0, -0.0, least] {
            same(a, b, c);
            same(-a, b, c);
            same(a * 2f64.powi(-540), b * 2f64.powi(-520), c * least);
            same(a * 2f64.powi(510), b * 2f64.powi(512), c);
        }
    }
}

#[test]
fn numbers_of_32_bits() {
    let mut rng = Rng::new(3);
    for _ in 0..TRIALS {
        let [a, b, c] = [0; 3].map(|_| f32::from_bits(bits(&mut rng) as u32));
        same_single(a, b, c);
        let near = f32::from_bits((a * b).to_bits().wrapping_add((bits(&mut rng) % 5) as u32).wrapping_sub(2));
        same_single(a, b, -near);
        let half = f32::from_bits(a.to_bits() & 0x807f_ffff | 0x3f80_0000);
        same_single(half, b, -half * b * 2f32.powi((bits(&mut rng) % 60) as i32 - 30));
    }
}

#[test]
fn what_is_not_finite_goes_through() {
    let odd = [0.0, -0.0, 1.0, -1.0, f64::MAX, f64::MIN, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 5e-324, -5e-324];
    for a in odd {
        for b in odd {
            for c in odd {
                same(a, b, c);
                same_single(a as f32, b as f32, c as f32);
            }
        }
    }
}

fn same(a: f64, b: f64, c: f64) {
    let (got, wanted) = (double(a, b, c), a.mul_add(b, c));
    let equal = got.to_bits() == wanted.to_bits() || got.is_nan() && wanted.is_nan();
    assert!(equal, "{a:e} · {b:e} + {c:e} = {wanted:e}, not {got:e}");
}

fn same_single(a: f32, b: f32, c: f32) {
    let (got, wanted) = (single(a, b, c), a.mul_add(b, c));
    let equal = got.to_bits() == wanted.to_bits() || got.is_nan() && wanted.is_nan();
    assert!(equal, "{a:e} · {b:e} + {c:e} = {wanted:e}, not {got:e}");
}
