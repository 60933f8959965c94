//! What this processor can do, asked once.

use core::sync::atomic::{AtomicU64, Ordering};

use super::abi::{FEATURE_AVX512, FEATURE_V2, FEATURE_V3};
use super::{fused, system};

/// Set when `FOUND` holds the answer.
const ASKED: u64 = 1 << 63;
static FOUND: AtomicU64 = AtomicU64::new(0);

/// Whether all of `features` are there.
pub(crate) fn has(features: u64) -> bool {
    let mut found = FOUND.load(Ordering::Relaxed);
    if found & ASKED == 0 {
        found = (ask() & allowed()) | ASKED;
        FOUND.store(found, Ordering::Relaxed);
    }
    found & features == features
}

/// The same, for kernels that are there more than once.
#[unsafe(no_mangle)]
pub extern "C" fn gdl_rt_has(features: u64) -> bool {
    has(features)
}

/// Fused multiply-add where the processor has none; these are the names that compilers call it by.
#[unsafe(no_mangle)]
pub extern "C" fn fmaf(a: f32, b: f32, c: f32) -> f32 {
    fused::single(a, b, c)
}

#[unsafe(no_mangle)]
pub extern "C" fn fma(a: f64, b: f64, c: f64) -> f64 {
    fused::double(a, b, c)
}

/// What `GDL_INSTRUCTIONS` allows: `avx2` leaves AVX-512 alone, `sse4` all that is newer than SSE4.2; anything else allows all.
fn allowed() -> u64 {
    match system::environment(c"GDL_INSTRUCTIONS") {
        Some("sse4") => FEATURE_V2,
        Some("avx2") => !FEATURE_AVX512,
        Some(_) | None => u64::MAX,
    }
}

/// The first instruction set that is not there, where [`has`] says that some are not.
pub(crate) fn missing() -> &'static str {
    absent().unwrap_or(if has(FEATURE_V3) { "AVX-512" } else { "AVX2, by GDL_INSTRUCTIONS" })
}

/// The instruction sets of x86-64-v2 beyond SSE2: name, word of [`words`], bit.
#[cfg(target_arch = "x86_64")]
const V2: [(&str, usize, u32); 5] =
    [("SSE4.2", 0, 20), ("SSE4.1", 0, 19), ("SSSE3", 0, 9), ("SSE3", 0, 0), ("POPCNT", 0, 23)];
/// What x86-64-v3 adds. AVX needs the operating system too (OSXSAVE).
#[cfg(target_arch = "x86_64")]
const V3: [(&str, usize, u32); 9] = [
    ("AVX2", 1, 5),
    ("FMA", 0, 12),
    ("AVX", 0, 28),
    ("BMI1", 1, 3),
    ("BMI2", 1, 8),
    ("F16C", 0, 29),
    ("LZCNT", 2, 5),
    ("MOVBE", 0, 22),
    ("OSXSAVE", 0, 27),
];

/// What the processor says: leaf 1 ecx, leaf 7 ebx, leaf 0x80000001 ecx; 0 where there is no such leaf.
#[cfg(target_arch = "x86_64")]
fn words() -> [u32; 3] {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    let (top, extended) = (__cpuid(0).eax, __cpuid(0x8000_0000).eax);
    let seven = if top >= 7 { __cpuid_count(7, 0).ebx } else { 0 };
    let ext = if extended >= 0x8000_0001 { __cpuid(0x8000_0001).ecx } else { 0 };
    [__cpuid(1).ecx, seven, ext]
}

#[cfg(target_arch = "x86_64")]
fn absent() -> Option<&'static str> {
    absent_of(&V2).or_else(|| absent_of(&V3)).or_else(|| {
        (saved_registers() & 0x6 != 0x6).then_some("AVX in the operating system")
    })
}

/// The first of these instruction sets that the processor does not have.
#[cfg(target_arch = "x86_64")]
fn absent_of(sets: &[(&'static str, usize, u32)]) -> Option<&'static str> {
    let words = words();
    sets.iter().find(|(_, word, bit)| words[*word] & 1 << bit == 0).map(|(name, ..)| *name)
}

#[cfg(target_arch = "x86_64")]
fn ask() -> u64 {
    // Leaf 7 ebx: AVX512 F 16, DQ 17, CD 28, BW 30, VL 31.
    const AVX512: u32 = 1 << 16 | 1 << 17 | 1 << 28 | 1 << 30 | 1 << 31;
    if absent().is_some() {
        return if absent_of(&V2).is_none() { FEATURE_V2 } else { 0 };
    }
    let avx512 = words()[1] & AVX512 == AVX512 && saved_registers() & 0xe6 == 0xe6;
    FEATURE_V2 | FEATURE_V3 | if avx512 { FEATURE_AVX512 } else { 0 }
}

/// The registers that the operating system saves (XCR0).
#[cfg(target_arch = "x86_64")]
fn saved_registers() -> u32 {
    let low: u32;
    // SAFETY: asked only where OSXSAVE is set.
    unsafe { core::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _, options(nomem, nostack)) };
    low
}

#[cfg(not(target_arch = "x86_64"))]
fn absent() -> Option<&'static str> {
    None
}

#[cfg(not(target_arch = "x86_64"))]
fn ask() -> u64 {
    0
}
