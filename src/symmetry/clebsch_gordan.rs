//! Clebsch-Gordan coefficients of SO(3) in the real basis: Wigner 3j tensors
//! of Frobenius norm 1, invariant under D^l1 (x) D^l2 (x) D^l3.
//!
//! In: three degrees and a sign convention. Out: a sparse tensor. Racah's sum
//! is taken in exact integers and its prefactor as an exact product of primes,
//! so the accuracy does not depend on the degrees (l1 + l2 + l3 <= 120).

use super::tensor3::Tensor3;

/// The sign convention of the coefficients, an attribute with a version:
/// checkpoints trained in one do not fit the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Convention {
    /// e3nn from version 0.5 on; the default.
    #[default]
    E3nn05,
    /// e3nn up to 0.4.4: some triples have the opposite sign. Known for l <= 6.
    E3nn04,
}

/// The triples with l <= 6 whose sign differs between the two conventions
/// (measured on the packages; there is no closed rule).
const FLIPPED_IN_E3NN04: [[usize; 3]; 34] = [
    [1, 2, 2],
    [1, 3, 3],
    [1, 4, 4],
    [1, 5, 5],
    [1, 6, 6],
    [2, 1, 2],
    [2, 2, 1],
    [3, 1, 3],
    [3, 3, 1],
    [3, 4, 6],
    [3, 6, 4],
    [4, 1, 4],
    [4, 3, 6],
    [4, 4, 1],
    [4, 4, 5],
    [4, 5, 4],
    [4, 5, 6],
    [4, 6, 3],
    [4, 6, 5],
    [5, 1, 5],
    [5, 4, 4],
    [5, 4, 6],
    [5, 5, 1],
    [5, 5, 5],
    [5, 6, 4],
    [5, 6, 6],
    [6, 1, 6],
    [6, 3, 4],
    [6, 4, 3],
    [6, 4, 5],
    [6, 5, 4],
    [6, 5, 6],
    [6, 6, 1],
    [6, 6, 5],
];

/// The sum of degrees up to which Racah's sum fits 128-bit integers.
pub const MAX_DEGREE_SUM: usize = 120;

/// Whether `l3` occurs in `l1 (x) l2`.
pub fn triangle(l1: usize, l2: usize, l3: usize) -> bool {
    l1.abs_diff(l2) <= l3 && l3 <= l1 + l2
}

/// The Wigner 3j tensor of three degrees, norm 1, shape `(2l+1)` each,
/// components m = -l..l, polar axis y.
///
/// Nothing when the triangle inequality fails, the sum of the degrees is above
/// [`MAX_DEGREE_SUM`], or the convention `E3nn04` is asked for beyond l = 6.
pub fn wigner_3j(l1: usize, l2: usize, l3: usize, convention: Convention) -> Option<Tensor3> {
    if !triangle(l1, l2, l3) || l1 + l2 + l3 > MAX_DEGREE_SUM {
        return None;
    }
    let sign = match convention {
        Convention::E3nn05 => 1.0,
        Convention::E3nn04 if l1.max(l2).max(l3) > 6 => return None,
        Convention::E3nn04 if FLIPPED_IN_E3NN04.contains(&[l1, l2, l3]) => -1.0,
        Convention::E3nn04 => 1.0,
    };
    let (d1, d2, d3) = (2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1);
    let racah = Racah::new(l1, l2, l3);
    let components = |l: usize| (0..=2 * l).map(|row| real_components(l, row)).collect::<Vec<_>>();
    let (of_1, of_2, of_3) = (components(l1), components(l2), components(l3));
    let mut dense = vec![0.0; d1 * d2 * d3];
    for (i, m1) in (-(l1 as i64)..=l1 as i64).enumerate() {
        for (j, m2) in (-(l2 as i64)..=l2 as i64).enumerate() {
            let m3 = m1 + m2;
            if m3.unsigned_abs() as usize > l3 {
                continue;
            }
            let c = racah.coefficient(m1, m2);
            let n = (m3 + l3 as i64) as usize;
            for &(a, qa) in &of_1[i] {
                for &(b, qb) in &of_2[j] {
                    let q = complex_mul(qa, qb);
                    for &(k, qk) in &of_3[n] {
                        let phase = complex_mul(q, (qk.0, -qk.1));
                        // The imaginary parts cancel in the sum.
                        dense[(a * d2 + b) * d3 + k] += c * phase.0;
                    }
                }
            }
        }
    }
    let norm = sign / (d3 as f64).sqrt();
    Some(Tensor3::from_fn([d1, d2, d3], |a, b, k| norm * dense[(a * d2 + b) * d3 + k]))
}

type Complex = (f64, f64);

fn complex_mul(a: Complex, b: Complex) -> Complex {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

/// The row of complex component `row` (m = row - l) in the unitary change from
/// the real to the complex basis, with the global phase (-i)^l that makes the
/// coefficients real: pairs (real component, entry).
fn real_components(l: usize, row: usize) -> Vec<(usize, Complex)> {
    let half = std::f64::consts::FRAC_1_SQRT_2;
    let m = row as i64 - l as i64;
    let size = m.unsigned_abs() as usize;
    let entries: Vec<(usize, Complex)> = match m {
        0 => vec![(l, (1.0, 0.0))],
        _ if m < 0 => vec![(l + size, (half, 0.0)), (l - size, (0.0, -half))],
        _ => {
            let s = if m % 2 == 0 { half } else { -half };
            vec![(l + size, (s, 0.0)), (l - size, (0.0, s))]
        }
    };
    let phase = [(1.0, 0.0), (0.0, -1.0), (-1.0, 0.0), (0.0, 1.0)][l % 4];
    entries.into_iter().map(|(c, q)| (c, complex_mul(phase, q))).collect()
}

/// Racah's formula for the coefficients of SU(2):
/// `sqrt((2l3+1) prod (l_i +- m_i)! / ((J+1)! a! b! c!)) sum_k (-1)^k
/// C(a, k) C(b, l1-m1-k) C(c, l2+m2-k)` with `a = l1+l2-l3`, `b = l1-l2+l3`,
/// `c = -l1+l2+l3`, `J = l1+l2+l3`.
struct Racah {
    l: [i64; 3],
    binomials: Vec<Vec<i128>>,
    /// The primes that occur, with their roots.
    primes: Vec<(f64, f64)>,
    /// The exponents of the primes in `(2l3+1) / ((J+1)! a! b! c!)`.
    fixed: Vec<i32>,
    /// The exponents of the primes in `(l_i+m)! (l_i-m)!`, for each degree and m = -l_i..l_i.
    free: [Vec<Vec<i32>>; 3],
}

impl Racah {
    fn new(l1: usize, l2: usize, l3: usize) -> Racah {
        let top = l1 + l2 + l3 + 1;
        let mut binomials: Vec<Vec<i128>> = vec![vec![1]];
        for n in 1..=(2 * l1.max(l2).max(l3)) {
            let before = &binomials[n - 1];
            let row = (0..=n).map(|k| if k == 0 || k == n { 1 } else { before[k - 1] + before[k] }).collect();
            binomials.push(row);
        }
        let bound = top.max(2 * l3 + 1);
        let primes: Vec<usize> =
            (2..=bound).filter(|p| (2..*p).take_while(|q| q * q <= *p).all(|q| p % q != 0)).collect();
        let factorials: Vec<Vec<i32>> =
            (0..=top).map(|n| primes.iter().map(|p| power_in_factorial(*p, n as i64)).collect()).collect();
        let down = [top, l1 + l2 - l3, l1 + l3 - l2, l2 + l3 - l1];
        let fixed = (0..primes.len())
            .map(|p| i32::from(power_in(primes[p], 2 * l3 + 1)) - down.iter().map(|n| factorials[*n][p]).sum::<i32>())
            .collect();
        let of_m =
            |l: usize, up: usize| (0..primes.len()).map(|p| factorials[up][p] + factorials[2 * l - up][p]).collect();
        let free = [l1, l2, l3].map(|l| (0..=2 * l).map(|up| of_m(l, up)).collect());
        let primes = primes.into_iter().map(|p| (p as f64, (p as f64).sqrt())).collect();
        Racah { l: [l1 as i64, l2 as i64, l3 as i64], binomials, primes, fixed, free }
    }

    /// `<l1 m1 l2 m2 | l3 (m1 + m2)>`.
    fn coefficient(&self, m1: i64, m2: i64) -> f64 {
        let [l1, l2, l3] = self.l;
        let m3 = m1 + m2;
        let (a, b, c) = (l1 + l2 - l3, l1 - l2 + l3, -l1 + l2 + l3);
        let row = |n: i64| &self.binomials[n as usize];
        let (row_a, row_b, row_c) = (row(a), row(b), row(c));
        // the k for which no binomial is zero
        let (first, last) = ((l1 - m1 - b).max(l2 + m2 - c).max(0), (l1 - m1).min(l2 + m2).min(a));
        let sum: i128 = (first..=last)
            .map(|k| {
                let term = row_a[k as usize] * row_b[(l1 - m1 - k) as usize] * row_c[(l2 + m2 - k) as usize];
                if k % 2 == 0 { term } else { -term }
            })
            .sum();
        if sum == 0 {
            return 0.0;
        }
        // The square of the prefactor, prime by prime; its root is exact but
        // for one rounding a prime.
        let free = [m1 + l1, m2 + l2, m3 + l3];
        let [one, two, three] = [0, 1, 2].map(|i| &self.free[i][free[i] as usize]);
        let mut prefactor = 1.0f64;
        for (k, (p, root)) in self.primes.iter().enumerate() {
            let e = self.fixed[k] + one[k] + two[k] + three[k];
            if e != 0 {
                prefactor *= p.powi(e.div_euclid(2));
                if e.rem_euclid(2) == 1 {
                    prefactor *= root;
                }
            }
        }
        sum as f64 * prefactor
    }
}

/// The exponent of the prime `p` in `n`.
fn power_in(p: usize, mut n: usize) -> i16 {
    let mut e = 0;
    while n.is_multiple_of(p) {
        n /= p;
        e += 1;
    }
    e
}

/// The exponent of the prime `p` in `n!` (Legendre).
fn power_in_factorial(p: usize, n: i64) -> i32 {
    let (p, mut n) = (p as i64, n);
    let mut e = 0;
    while n > 0 {
        n /= p;
        e += n as i32;
    }
    e
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_cases_are_the_textbook_tensors() {
        let cross = wigner_3j(1, 1, 1, Convention::E3nn05).expect("a triangle");
        assert_eq!(cross.entries.len(), 6);
        assert!((cross.get(0, 1, 2) - 1.0 / 6f64.sqrt()).abs() < 1e-15);
        assert!((cross.get(1, 0, 2) + 1.0 / 6f64.sqrt()).abs() < 1e-15);
        let dot = wigner_3j(1, 1, 0, Convention::E3nn05).expect("a triangle");
        assert_eq!(dot.entries.len(), 3);
        assert!(wigner_3j(1, 1, 3, Convention::E3nn05).is_none());
    }

    #[test]
    fn the_norm_is_one_at_high_degree() {
        for (a, b, c) in [(8, 8, 8), (12, 10, 7), (20, 20, 30), (40, 40, 40)] {
            assert!(
                (wigner_3j(a, b, c, Convention::E3nn05).expect("a triangle").norm() - 1.0).abs() < 1e-12,
                "{a} {b} {c}"
            );
        }
        assert!(wigner_3j(41, 40, 40, Convention::E3nn05).is_none());
    }

    #[test]
    fn the_older_convention_is_refused_where_it_is_not_known() {
        assert!(wigner_3j(7, 7, 7, Convention::E3nn04).is_none());
        let (old, new) = (wigner_3j(1, 2, 2, Convention::E3nn04), wigner_3j(1, 2, 2, Convention::E3nn05));
        assert_eq!(old.expect("known"), new.expect("known").scale(-1.0));
    }
}
