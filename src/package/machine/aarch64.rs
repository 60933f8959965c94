//! AArch64, little-endian. Addresses are reached in two instructions, the page of 4096 bytes first, then the place in it.

use object::Architecture;
use object::elf::{self, RelocationType};

use super::{Aligned, Code, Fix, Loader, Machine, Reach, Symbol, runtime};
use crate::codegen::Unsupported;

/// AArch64 with NEON.
pub(super) struct Aarch64;

impl Machine for Aarch64 {
    fn architecture(&self) -> Architecture {
        Architecture::Aarch64
    }

    fn elf(&self) -> elf::Machine {
        elf::EM_AARCH64
    }

    fn page(&self) -> u64 {
        65536
    }

    fn loader(&self) -> Loader {
        Loader { relative: elf::R_AARCH64_RELATIVE, entry: elf::R_AARCH64_GLOB_DAT, absolute: elf::R_AARCH64_ABS64 }
    }

    fn reach(&self, kind: RelocationType) -> Option<Reach> {
        match kind {
            elf::R_AARCH64_ABS64 => Some(Reach::Absolute),
            elf::R_AARCH64_PREL32
            | elf::R_AARCH64_CALL26
            | elf::R_AARCH64_JUMP26
            | elf::R_AARCH64_ADR_PREL_PG_HI21
            | elf::R_AARCH64_ADD_ABS_LO12_NC
            | elf::R_AARCH64_LDST8_ABS_LO12_NC
            | elf::R_AARCH64_LDST16_ABS_LO12_NC
            | elf::R_AARCH64_LDST32_ABS_LO12_NC
            | elf::R_AARCH64_LDST64_ABS_LO12_NC
            | elf::R_AARCH64_LDST128_ABS_LO12_NC => Some(Reach::Distance),
            elf::R_AARCH64_ADR_GOT_PAGE | elf::R_AARCH64_LD64_GOT_LO12_NC => Some(Reach::Table),
            _ => None,
        }
    }

    fn put(&self, kind: RelocationType, bytes: &mut [u8], at: u64, to: u64) {
        let distance = to.wrapping_sub(at) as i64;
        // Bits of an instruction that holds a place in a page, counted in units of 2^shift bytes.
        let in_page = |shift: u32| {
            let place = to as u32 & 0xfff;
            assert!(place.trailing_zeros() >= shift, "link: what is loaded is aligned");
            place >> shift << 10
        };
        let field = match kind {
            elf::R_AARCH64_PREL32 => narrow(distance, 32) as u32,
            // b, bl: words.
            elf::R_AARCH64_CALL26 | elf::R_AARCH64_JUMP26 => narrow(distance >> 2, 26) as u32 & 0x03ff_ffff,
            // adrp: the two lowest bits of the number of pages stand apart.
            elf::R_AARCH64_ADR_PREL_PG_HI21 | elf::R_AARCH64_ADR_GOT_PAGE => {
                let pages = narrow((to >> 12) as i64 - (at >> 12) as i64, 21) as u32;
                (pages & 3) << 29 | (pages >> 2 & 0x7ffff) << 5
            }
            elf::R_AARCH64_ADD_ABS_LO12_NC | elf::R_AARCH64_LDST8_ABS_LO12_NC => in_page(0),
            elf::R_AARCH64_LDST16_ABS_LO12_NC => in_page(1),
            elf::R_AARCH64_LDST32_ABS_LO12_NC => in_page(2),
            elf::R_AARCH64_LDST64_ABS_LO12_NC | elf::R_AARCH64_LD64_GOT_LO12_NC => in_page(3),
            elf::R_AARCH64_LDST128_ABS_LO12_NC => in_page(4),
            kind => panic!("link: relocation {kind:?} is no distance"),
        };
        let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        bytes[..4].copy_from_slice(&(word | field).to_le_bytes());
    }

    fn stub(&self) -> Code {
        // adrp x16, target; ldr x16, [x16, target]; br x16
        code(
            &[0x9000_0010, 0xf940_0210, 0xd61f_0200],
            &[
                (0, elf::R_AARCH64_ADR_PREL_PG_HI21, Symbol::Target),
                (4, elf::R_AARCH64_LDST64_ABS_LO12_NC, Symbol::Target),
            ],
        )
    }

    fn query(&self) -> Code {
        // ret
        with_model(0, 0xd65f_03c0, None)
    }

    fn entry(&self, arguments: usize) -> Code {
        // b target
        with_model(arguments as u32, 0x1400_0000, Some((8, elf::R_AARCH64_JUMP26, Symbol::Target)))
    }

    fn runtime(&self) -> Result<&'static [u8], Unsupported> {
        static COMPILED: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/runtime-aarch64.o")));
        runtime(COMPILED, "aarch64-unknown-linux-gnu")
    }
}

/// `adrp xN, model; add xN, xN, model`, and one more instruction.
fn with_model(register: u32, last: u32, fix: Option<(u64, RelocationType, Symbol)>) -> Code {
    let words = [0x9000_0000 | register, 0x9100_0000 | register << 5 | register, last];
    let model =
        [(0, elf::R_AARCH64_ADR_PREL_PG_HI21, Symbol::Model), (4, elf::R_AARCH64_ADD_ABS_LO12_NC, Symbol::Model)];
    code(&words, &model.into_iter().chain(fix).collect::<Vec<_>>())
}

fn code(words: &[u32], fixes: &[(u64, RelocationType, Symbol)]) -> Code {
    let fixes = fixes.iter().map(|&(offset, kind, symbol)| Fix { offset, kind, symbol, addend: 0 });
    Code { bytes: words.iter().flat_map(|word| word.to_le_bytes()).collect(), fixes: fixes.collect() }
}

/// The number, which so many bits hold.
fn narrow(distance: i64, bits: u32) -> i64 {
    assert!(
        distance >> (bits - 1) == 0 || distance >> (bits - 1) == -1,
        "link: a library is smaller than 128 MB of code"
    );
    distance
}
