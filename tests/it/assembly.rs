//! What the machine code looks like: the sums of dense products and of rows stay in registers in their innermost loops, and fused
//! multiply-add has vectors as wide as the processor's. Instructions are read as LLVM and `objdump` write them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use gdlc::base::dtype::Dtype;
use gdlc::codegen::Target;
#[cfg(feature = "llvm")]
use gdlc::codegen::{Backend, Level, Levels, llvm};
use gdlc::driver::code::Code;

#[cfg(feature = "llvm")]
use crate::conformance::edges;
use crate::conformance::{build, convolution};

/// The innermost loops: from where a jump goes back to, up to the jump, where no other such span lies within.
fn innermost(listing: &str) -> Vec<Vec<String>> {
    let (mut code, mut labels): (Vec<String>, BTreeMap<String, usize>) = Default::default();
    for line in listing.lines() {
        // `  12ab:\tinstruction` or `.LBB0_1:    # comment` or `\tinstruction`
        let (label, text) = match line.trim().split_once(':') {
            Some((label, text)) if !label.contains(char::is_whitespace) => (Some(label), text.trim()),
            _ => (None, line.trim()),
        };
        if let Some(label) = label {
            labels.insert(label.to_string(), code.len());
        }
        if !text.is_empty() && !text.starts_with(['.', '#', ';', '/']) {
            code.push(text.to_string());
        }
    }
    let back = |(end, text): (usize, &String)| {
        let mut words = text.split([' ', '\t', ',']).filter(|word| !word.is_empty());
        let jump =
            words.next().is_some_and(|w| w.starts_with(['j', 'b']) || w.starts_with("cb") || w.starts_with("tb"));
        let begin = words.filter_map(|word| labels.get(word)).next_back().filter(|begin| jump && **begin <= end);
        begin.map(|begin| (*begin, end))
    };
    let spans: Vec<(usize, usize)> = code.iter().enumerate().filter_map(back).collect();
    let within = |a: &(usize, usize), b: &(usize, usize)| a != b && b.0 <= a.0 && a.1 <= b.1;
    let inner = spans.iter().filter(|span| !spans.iter().any(|other| within(other, span)));
    inner.map(|(begin, end)| code[*begin..=*end].to_vec()).collect()
}

/// Whether an instruction moves a vector to or from the stack.
fn spills(text: &str) -> bool {
    let vector = ["%xmm", "%ymm", "%zmm"].iter().any(|register| text.contains(register))
        || text.split(|c: char| !c.is_alphanumeric()).any(|word| {
            word.strip_prefix(['q', 'v']).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        });
    vector && ["(%rsp", "[sp"].iter().any(|place| text.contains(place))
}

/// The instructions of fused multiply-add whose result is a vector of some kind: `%ymm`, `.4s`.
fn fused<'l>(body: &'l [String], kind: &str) -> Vec<&'l str> {
    let one = |text: &&str| (text.starts_with("vfmadd") || text.starts_with("fmla")) && result(text).contains(kind);
    body.iter().map(String::as_str).filter(one).collect()
}

/// The operand that is written: the last one as AT&T write x86, the first one of ARM.
fn result(text: &str) -> &str {
    let operands = text.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim());
    let chosen = if text.starts_with("fmla") { operands.split(',').next() } else { operands.rsplit(',').next() };
    chosen.unwrap_or_default().trim()
}

/// The sums that each innermost loop over vectors of a kind keeps. Fails where one of these loops moves vectors to or from the stack.
fn sums_in_registers(listing: &str, kind: &str) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for body in innermost(listing) {
        let sums: BTreeSet<&str> = fused(&body, kind).into_iter().map(result).collect();
        if !sums.is_empty() {
            let spilled: Vec<&String> = body.iter().filter(|text| spills(text)).collect();
            assert!(spilled.is_empty(), "{spilled:?} in\n{}", body.join("\n"));
            found.insert(sums.len());
        }
    }
    found
}

#[test]
fn a_spill_in_a_loop_is_found() {
    let outside = "a:\n\tvmovups %ymm1, 32(%rsp)\n.LBB0_1:\n\tvfmadd231ps %ymm1, %ymm2, %ymm3\n\tjne\t.LBB0_1\n\tret\n";
    assert_eq!(sums_in_registers(outside, "%ymm"), BTreeSet::from([1]));
    let within = "  10:\tvfmadd231ps %ymm1,%ymm2,%ymm3\n  20:\tvmovups %ymm3,0x20(%rsp)\n  30:\tjne    10 <f+0x8>\n";
    assert!(std::panic::catch_unwind(|| sums_in_registers(within, "%ymm")).is_err());
    let arm = "  10:\tfmla\tv1.4s, v2.4s, v3.4s\n  14:\tldr\tq2, [sp, #16]\n  18:\tb.ne\t10 <f>\n";
    assert!(std::panic::catch_unwind(|| sums_in_registers(arm, ".4s")).is_err());
    let pointer = "  10:\tvfmadd231ps %ymm1,%ymm2,%ymm3\n  20:\tmov    0x20(%rsp),%rax\n  30:\tjne    10 <f+0x8>\n";
    assert_eq!(sums_in_registers(pointer, "%ymm"), BTreeSet::from([1]));
}

/// The code of a library with dense products, as `objdump` writes it; none, and a word why, where that is not there.
fn disassembled(tool: &str, target: Target) -> Option<String> {
    let case = convolution(Dtype::F32, 4, 3, 5);
    let code = Code { target, ..Code::default() };
    if let Err(why) = gdlc::package::build(&case.program, &case.interface, code.backend, target) {
        eprintln!("its code is not read: {why}");
        return None;
    }
    let library = build(&case.program, &case.interface, code, "disassembled");
    read_by(tool, &library)
}

fn read_by(tool: &str, library: &Path) -> Option<String> {
    match Command::new(tool).args(["-d", "--no-show-raw-insn"]).arg(library).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(why) => {
            eprintln!("the code of libraries is not read: {tool}: {why}");
            None
        }
    }
}

/// Tiles of 6 rows by 2 vectors with AVX2; of 6 by 4, 8 by 3 and 12 by 2 with AVX-512. Cranelift's own vectors are narrower.
#[test]
fn micro_kernels_of_x86_keep_their_sums_in_registers() {
    let Some(listing) = disassembled("objdump", Target::ANY_X86_64) else { return };
    let most = |kind: &str| sums_in_registers(&listing, kind).last().copied();
    assert_eq!([most("%ymm"), most("%zmm")], [Some(12), Some(24)]);
}

/// Tiles of 6 rows by 4 vectors.
#[test]
fn micro_kernels_of_arm_keep_their_sums_in_registers() {
    let Some(listing) = disassembled("aarch64-linux-gnu-objdump", Target::Aarch64) else { return };
    let most = |kind: &str| sums_in_registers(&listing, kind).last().copied();
    assert_eq!([most(".4s"), most(".2d")], [Some(24), Some(24)]);
}

/// Rows of edges by LLVM: the sums of four vectors of channels at a time, each as wide as the processor's.
#[cfg(feature = "llvm")]
#[test]
fn llvm_keeps_the_sums_of_rows_in_registers() {
    let case = edges(64, vec![0, 2, 2, 5, 6], vec![1, 3, 0, 2, 3, 1]);
    let only = |level| Target::X86_64(Levels::only(level));
    for (target, kind) in [(only(Level::V3), "%ymm"), (only(Level::V4), "%zmm"), (Target::Aarch64, ".4s")] {
        let assembly = llvm::Llvm.assembly(&case.program, target).expect("it is written");
        assert_eq!(sums_in_registers(&assembly, kind), BTreeSet::from([4]), "{assembly}");
    }
}

/// Rows of edges ask for the rows of the entries to come: those of their own, and those where a table leads.
#[cfg(feature = "llvm")]
#[test]
fn llvm_asks_ahead_for_the_rows_of_edges() {
    let program = &crate::gpu::programs_of("benches/programs/tensor_product.gdl")[0];
    for target in [Target::X86_64(Levels::only(Level::V3)), Target::Aarch64] {
        let assembly = llvm::Llvm.assembly(program, target).expect("it is written");
        let asks = |line: &&str| line.trim().starts_with("prefetch") || line.trim().starts_with("prfm");
        let asked = assembly.lines().filter(asks).count();
        // of 14 arrays of weights 32 numbers of 4 bytes at the entry itself, of the features 9 times that where the senders lead
        assert!(asked >= (14 + 9) * 2, "{asked}");
    }
}

/// The irreps of each channel lie side by side in memory: rows of channels are written whole, by shuffles.
#[cfg(feature = "llvm")]
#[test]
fn llvm_needs_no_scatter_for_irreps() {
    let graph = crate::gpu::graphs_of("benches/programs/irreps.gdl").remove(0);
    let (graph, _) = gdlc::rewrite::optimise(&graph, &gdlc::rewrite::Options::default());
    let program = gdlc::kernel::lower::lower(&graph, "model", Dtype::F32);
    let assembly = llvm::Llvm.assembly(&program, Target::X86_64(Levels::only(Level::V4))).expect("it is written");
    assert!(assembly.contains("zmm") && !assembly.contains("vscatter"));
}

/// What LLVM makes of a contraction: its loops finish tiles, and move no vector to or from the stack.
#[cfg(feature = "llvm")]
#[test]
fn llvm_finishes_tiles_in_registers() {
    let case = convolution(Dtype::F32, 37, 5, 64);
    for level in [Level::V3, Level::V4] {
        let assembly = llvm::Llvm.assembly(&case.program, Target::X86_64(Levels::only(level))).expect("it is written");
        let loops = innermost(&assembly);
        assert!(loops.iter().flatten().any(|text| text.contains("vaddps")), "{assembly}");
        assert!(!loops.iter().flatten().any(|text| spills(text)), "{assembly}");
    }
}
