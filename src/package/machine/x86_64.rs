//! x86-64.

use object::Architecture;
use object::elf::{self, RelocationType};

use super::{Aligned, Code, Fix, Loader, Machine, Reach, Symbol, runtime};
use crate::codegen::Unsupported;

/// x86-64 of any level.
pub(super) struct X86_64;

/// Distances are counted from the end of their four bytes, which ends the instruction.
const END: i64 = -4;

impl Machine for X86_64 {
    fn architecture(&self) -> Architecture {
        Architecture::X86_64
    }

    fn elf(&self) -> elf::Machine {
        elf::EM_X86_64
    }

    fn page(&self) -> u64 {
        4096
    }

    fn loader(&self) -> Loader {
        Loader { relative: elf::R_X86_64_RELATIVE, entry: elf::R_X86_64_GLOB_DAT, absolute: elf::R_X86_64_64 }
    }

    fn reach(&self, kind: RelocationType) -> Option<Reach> {
        match kind {
            elf::R_X86_64_64 => Some(Reach::Absolute),
            elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 => Some(Reach::Distance),
            elf::R_X86_64_GOTPCREL | elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX => Some(Reach::Table),
            _ => None,
        }
    }

    fn put(&self, _: RelocationType, bytes: &mut [u8], at: u64, to: u64) {
        let distance = i32::try_from(to.wrapping_sub(at) as i64).expect("link: a library is smaller than 2 GB");
        bytes[..4].copy_from_slice(&distance.to_le_bytes());
    }

    fn stub(&self) -> Code {
        // jmp [rip + target]
        code(&[0xff, 0x25, 0, 0, 0, 0], &[(2, elf::R_X86_64_PC32, Symbol::Target)])
    }

    fn query(&self) -> Code {
        // lea rax, [rip + model]; ret
        code(&[0x48, 0x8d, 0x05, 0, 0, 0, 0, 0xc3], &[(3, elf::R_X86_64_PC32, Symbol::Model)])
    }

    fn entry(&self, arguments: usize) -> Code {
        // lea rdi|rsi|rdx|rcx|r8|r9, [rip + model]
        const LEA: [[u8; 3]; 6] = [
            [0x48, 0x8d, 0x3d],
            [0x48, 0x8d, 0x35],
            [0x48, 0x8d, 0x15],
            [0x48, 0x8d, 0x0d],
            [0x4c, 0x8d, 0x05],
            [0x4c, 0x8d, 0x0d],
        ];
        let [a, b, c] = LEA[arguments];
        // jmp target
        let bytes = [a, b, c, 0, 0, 0, 0, 0xe9, 0, 0, 0, 0];
        code(&bytes, &[(3, elf::R_X86_64_PC32, Symbol::Model), (8, elf::R_X86_64_PLT32, Symbol::Target)])
    }

    fn runtime(&self) -> Result<&'static [u8], Unsupported> {
        static COMPILED: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/runtime-x86_64.o")));
        runtime(COMPILED, "x86_64-unknown-linux-gnu")
    }
}

fn code(bytes: &[u8], fixes: &[(u64, RelocationType, Symbol)]) -> Code {
    let fixes = fixes.iter().map(|&(offset, kind, symbol)| Fix { offset, kind, symbol, addend: END });
    Code { bytes: bytes.to_vec(), fixes: fixes.collect() }
}
