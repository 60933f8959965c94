//! What this processor can do, asked once.

use core::sync::atomic::{AtomicU64, Ordering};

use super::abi::{FEATURE_AVX512, FEATURE_V3};

/// Set when `FOUND` holds the answer.
const ASKED: u64 = 1 << 63;
static FOUND: AtomicU64 = AtomicU64::new(0);

/// Whether all of `features` are there.
pub(crate) fn has(features: u64) -> bool {
    let mut found = FOUND.load(Ordering::Relaxed);
    if found & ASKED == 0 {
        found = ask() | ASKED;
        FOUND.store(found, Ordering::Relaxed);
    }
    found & features == features
}

/// The same, for kernels that are there more than once.
#[unsafe(no_mangle)]
pub extern "C" fn gdl_rt_has(features: u64) -> bool {
    has(features)
}

#[cfg(target_arch = "x86_64")]
fn ask() -> u64 {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    let (top, extended) = (__cpuid(0).eax, __cpuid(0x8000_0000).eax);
    if top < 7 || extended < 0x8000_0001 {
        return 0;
    }
    let (one, seven, ext) = (__cpuid(1), __cpuid_count(7, 0), __cpuid(0x8000_0001));
    // Leaf 1 ecx: SSE3 0, SSSE3 9, FMA 12, SSE4.1 19, SSE4.2 20, MOVBE 22, POPCNT 23, OSXSAVE 27, AVX 28, F16C 29.
    const ONE: u32 = 1 | 1 << 9 | 1 << 12 | 1 << 19 | 1 << 20 | 1 << 22 | 1 << 23 | 1 << 27 | 1 << 28 | 1 << 29;
    // Leaf 7 ebx: BMI1 3, AVX2 5, BMI2 8; AVX512 F 16, DQ 17, CD 28, BW 30, VL 31.
    const SEVEN: u32 = 1 << 3 | 1 << 5 | 1 << 8;
    const AVX512: u32 = 1 << 16 | 1 << 17 | 1 << 28 | 1 << 30 | 1 << 31;
    const LZCNT: u32 = 1 << 5;
    if one.ecx & ONE != ONE || seven.ebx & SEVEN != SEVEN || ext.ecx & LZCNT == 0 {
        return 0;
    }
    let saved = saved_registers();
    if saved & 0x6 != 0x6 {
        return 0;
    }
    let avx512 = seven.ebx & AVX512 == AVX512 && saved & 0xe6 == 0xe6;
    FEATURE_V3 | if avx512 { FEATURE_AVX512 } else { 0 }
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
fn ask() -> u64 {
    0
}
