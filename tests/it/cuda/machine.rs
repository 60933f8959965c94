//! The simulated GPU itself: what instructions compute, by PTX's manual, and that it stops where a program relies on what no GPU promises.

use simulated_gpu::machine::{Fault, Launch};
use simulated_gpu::memory::{Block, Memory};
use simulated_gpu::operation::operation;
use simulated_gpu::ptx::Module;

/// A kernel of two arrays of 64 words in global memory, one of 64 in shared memory, and a thread's place `%rd9` in each.
fn kernel(threads: usize, body: &str) -> String {
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n\n.visible .entry k(\n\t.param .u64 k_param_0,\n\t.param .u64 k_param_1\n)\n\
         .reqntid {threads}, 1, 1\n{{\n\t.shared .align 16 .b8 s[256];\n\tld.param.b64 %rd1, [k_param_0];\n\tld.param.b64 %rd2, [k_param_1];\n\
         \tmov.u32 %r1, %tid.x;\n\tmul.wide.u32 %rd9, %r1, 4;\n\tadd.s64 %rd3, %rd1, %rd9;\n\tadd.s64 %rd4, %rd2, %rd9;\n{body}\n\tret;\n}}\n"
    )
}

/// The second array after a launch, or what stopped it.
fn run_with(blocks: u32, threads: u32, body: &str) -> Result<Vec<u32>, Fault> {
    let module = Module::parse(&kernel(threads as usize, body)).expect("it is known");
    let mut memory = Memory::default();
    let mut array = || memory.allocate(Block { bytes: 256, device: 0, constant: false }).expect("there is room");
    let [a, b] = [array(), array()];
    for k in 0..64u32 {
        memory.slice(a + 4 * u64::from(k), 4).copy_from_slice(&(100 + k).to_le_bytes());
    }
    let parameters = [a.to_le_bytes(), b.to_le_bytes()].concat();
    let launch = Launch {
        kernel: &module.kernels[0],
        constants: &[],
        blocks,
        threads,
        parameters: &parameters,
        device: 0,
        number: 1,
    };
    launch.run(&mut memory)?;
    Ok(memory.slice(b, 256).as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w)).collect())
}

fn run(body: &str) -> Result<Vec<u32>, Fault> {
    run_with(1, 64, body)
}

/// Stops with these words.
#[track_caller]
fn stops(found: Result<Vec<u32>, Fault>, words: &str) {
    match found {
        Err(Fault::Trap(why) | Fault::Address(why) | Fault::Order(why)) => assert!(why.contains(words), "{why}"),
        Ok(_) => panic!("it ran"),
    }
}

#[test]
fn threads_exchange_numbers_across_a_barrier_alone() {
    let to_the_next = "\tld.global.b32 %r2, [%rd3];\n\tcvt.u32.u64 %r3, %rd9;\n\tst.shared.b32 [%rd9], %r2;\n\
                       \tadd.s64 %rd5, %rd9, 4;\n\tand.b64 %rd5, %rd5, 255;\n";
    let rest = "\tld.shared.b32 %r4, [%rd5];\n\tst.global.b32 [%rd4], %r4;";
    let found = run(&format!("{to_the_next}\tbar.sync 0;\n{rest}")).expect("it runs");
    assert_eq!(found, (0..64).map(|k| 100 + (k + 1) % 64).collect::<Vec<u32>>());
    stops(run(&format!("{to_the_next}{rest}")), "another thread");
    // read by one thread, then written by its neighbour
    stops(
        run("\txor.b64 %rd5, %rd9, 4;\n\tld.shared.b32 %r2, [%rd5];\n\tst.shared.b32 [%rd9], %r2;"),
        "another thread",
    );
    stops(run("\tst.global.b32 [%rd2], %r1;"), "is written, and another thread touched it");
    stops(
        run("\tadd.s64 %rd5, %rd2, 4;\n\tst.global.b32 [%rd4], %r1;\n\tld.global.b32 %r2, [%rd5];"),
        "another thread",
    );
}

#[test]
fn blocks_do_not_meet_in_memory() {
    // two blocks write, or one writes what the other reads, whatever barriers are between
    stops(run_with(2, 32, "\tst.global.b32 [%rd4], %r1;"), "another thread");
    let reads_the_other = "\tmov.u32 %r2, %ctaid.x;\n\tmul.wide.u32 %rd5, %r2, 128;\n\tadd.s64 %rd6, %rd4, %rd5;\n\tst.global.b32 [%rd6], %r1;\n\
                           \tbar.sync 0;\n\txor.b64 %rd5, %rd5, 128;\n\tadd.s64 %rd6, %rd4, %rd5;\n\tld.global.b32 %r3, [%rd6];";
    stops(run_with(2, 32, reads_the_other), "another thread");
    let found = run_with(
        2,
        32,
        "\tmov.u32 %r2, %ctaid.x;\n\tmul.wide.u32 %rd5, %r2, 128;\n\tadd.s64 %rd6, %rd4, %rd5;\n\tst.global.b32 [%rd6], %r2;",
    );
    assert_eq!(found.expect("each has a part")[31..33], [0, 1]);
}

#[test]
fn what_no_gpu_promises_stops_it() {
    stops(run("\tadd.s64 %rd5, %rd4, 256;\n\tst.global.b32 [%rd5], %r1;"), "were not given");
    stops(run("\tadd.s64 %rd5, %rd4, 2;\n\tst.global.b32 [%rd5], %r1;"), "which is no multiple");
    stops(run("\tst.global.v2.b32 [%rd4], {%r1, %r1};"), "which is no multiple");
    stops(run("\tadd.s64 %rd5, %rd9, 4;\n\tst.shared.b32 [%rd5], %r1;"), "4 bytes at 256 of 256");
    stops(run("\tst.global.b32 [%rd4], %r1;\n\tld.global.nc.b32 %r2, [%rd4];"), "read-only cache");
    stops(run("\tld.global.nc.b32 %r2, [%rd4];\n\tst.global.b32 [%rd4], %r1;"), "is written");
    stops(run("\tsetp.lt.u32 %p1, %r1, 32;\n\t@%p1 bra $END;\n\tbar.sync 0;\n$END:"), "not all threads of the block");
    stops(run("\tsetp.lt.u32 %p1, %r1, 7;\n\t@%p1 bra $END;\n\ttrap;\n$END:"), "a trap");
    let product = "\tmma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32\n\t\t{%r2, %r3, %r4, %r5},\n\t\t{%r2, %r3, %r4, %r5},\n\t\t{%r2, %r3},\n\t\t{%r2, %r3, %r4, %r5};\n";
    stops(run(&format!("\tsetp.lt.u32 %p1, %r1, 7;\n\t@%p1 bra $END;\n{product}$END:")), "not all threads of the warp");
    stops(run_with(1, 32, "").and_then(|_| run_with(1, 63, product)), "not all threads of the warp");
    for unknown in
        ["\tvadd.s32 %r2, %r1, %r1;", "\tatom.global.add.u32 %r2, [%rd4], %r1;", "\tadd.s64 %rd1, nothing, 1;"]
    {
        let why = Module::parse(&kernel(1, unknown)).expect_err("it is not known");
        assert!(why.contains("not known here") && why.starts_with("line 18"), "{why}");
    }
}

/// New memory, shared memory and registers are NaN, so that what reads them before they are written is seen.
#[test]
fn what_was_not_written_is_not_a_number() {
    let found = run("\tld.shared.b32 %r2, [%rd9];\n\tadd.rn.f32 %r3, %r2, 0f3F800000;\n\tst.global.b32 [%rd4], %r3;")
        .expect("it runs");
    assert!(found.iter().all(|x| f32::from_bits(*x).is_nan()));
    let found = run_with(1, 1, "\tadd.rn.f32 %r3, %r77, 0f3F800000;\n\tst.global.b32 [%rd4], %r3;").expect("it runs");
    assert!(found.iter().all(|x| f32::from_bits(*x).is_nan()));
}

#[test]
fn operations_compute_what_the_manual_says() {
    let f = |x: f32| u64::from(x.to_bits());
    let cases: &[(&str, [u64; 3], u64)] = &[
        ("add.s32", [0xffff_ffff, 2, 0], 1),
        ("sub.s64", [1, 2, 0], u64::MAX),
        ("mul.lo.s32", [0xffff_fffe, 3, 0], 0xffff_fffa),
        ("mul.hi.u32", [0xffff_ffff, 0xffff_ffff, 0], 0xffff_fffe),
        ("mul.hi.s32", [0xffff_ffff, 0xffff_ffff, 0], 0),
        ("mul.hi.u64", [u64::MAX, 2, 0], 1),
        ("mul.hi.u16", [0xffff, 0xffff, 0], 0xfffe),
        ("mul.wide.s32", [0xffff_ffff, 5, 0], (-5i64) as u64),
        ("mul.wide.u32", [0xffff_ffff, 0xffff_ffff, 0], 0xffff_fffe_0000_0001),
        ("mul.wide.s16", [0xffff, 7, 0], 0xffff_fff9),
        ("mad.lo.s64", [3, 5, 7], 22),
        ("div.s64", [(-7i64) as u64, 2, 0], (-3i64) as u64),
        ("rem.u32", [17, 5, 0], 2),
        ("min.s64", [(-1i64) as u64, 1, 0], u64::MAX),
        ("min.u64", [(-1i64) as u64, 1, 0], 1),
        // beyond the width nothing is left, or the sign
        ("shl.b32", [1, 32, 0], 0),
        ("shr.u32", [0x8000_0000, 40, 0], 0),
        ("shr.s32", [0x8000_0000, 40, 0], 0xffff_ffff),
        ("shr.s64", [1 << 63, 62, 0], (-2i64) as u64),
        ("bfe.u32", [0x1234_5678, 8, 8], 0x56),
        ("bfe.u64", [0xab << 50, 50, 4], 0xb),
        ("bfe.s32", [0xf0, 4, 4], 0xffff_ffff),
        ("cvt.s64.s32", [0xffff_ffff, 0, 0], u64::MAX),
        ("cvt.u64.u32", [0xffff_ffff, 0, 0], 0xffff_ffff),
        ("cvt.rzi.s64.f32", [f(f32::NAN), 0, 0], 1 << 63),
        ("cvt.rzi.s32.f32", [f(-2.7), 0, 0], (-2i32) as u32 as u64),
        ("cvt.u16.u64", [0x12_3456, 0, 0], 0x3456),
        ("cvt.s64.s8", [0x80, 0, 0], (-128i64) as u64),
        ("selp.f32", [1, 2, 0], 2),
        ("setp.lt.s32", [0xffff_ffff, 0, 0], 1),
        ("setp.lt.u32", [0xffff_ffff, 0, 0], 0),
        ("setp.leu.f32", [f(f32::NAN), f(1.0), 0], 1),
        ("setp.le.f32", [f(f32::NAN), f(1.0), 0], 0),
        ("setp.neu.f32", [f(f32::NAN), f(1.0), 0], 1),
        ("setp.nan.f32", [f(f32::NAN), f(1.0), 0], 1),
        ("not.pred", [1, 0, 0], 0),
        // one rounding: the exact product of 1 + 2^-12 by itself has a bit that a product alone loses
        ("fma.rn.f32", [f(1.0 + 2f32.powi(-12)), f(1.0 + 2f32.powi(-12)), f(-1.0 - 2f32.powi(-11))], f(2f32.powi(-24))),
        ("rcp.rn.f32", [f(4.0), 0, 0], f(0.25)),
        ("cvt.rni.f32.f32", [f(2.5), 0, 0], f(2.0)),
        ("cvt.rmi.f32.f32", [f(-2.5), 0, 0], f(-3.0)),
        // ties to even, and the first operand above
        ("cvt.rn.bf16x2.f32", [f(1.0), f(1.0 + 2f32.powi(-8)), 0], 0x3f80_3f80),
        ("cvt.rn.f16x2.f32", [f(-2.0), f(65504.0), 0], 0xc000_7bff),
        ("cvt.f32.f16", [0x3555, 0, 0], f(0.333_251_95)),
    ];
    for (name, [x, y, z], expected) in cases {
        let found = operation(name).unwrap_or_else(|| panic!("{name} is known"))(*x, *y, *z);
        assert_eq!(found, *expected, "{name} {x:#x} {y:#x} {z:#x}");
    }
    assert!(
        operation("add.sat.s32").is_none() && operation("fma.rz.f32").is_none(),
        "what is not known is not guessed"
    );
}

/// A product of a warp beside the same product element by element: numbers of whole powers, whose sums are exact.
#[test]
fn products_of_warps_are_products_of_matrices() {
    // every lane holds numbers that its registers' places of the manual determine; the expected product is written by rows and columns
    let (a, b) =
        (|row: usize, k: usize| (row as f32) - 2.0 * (k as f32), |k: usize, column: usize| (k * column) as f32 - 3.0);
    use simulated_gpu::tensor_core::{Factors, Product};
    let product = Product { factors: Factors::Tf32, to: [0, 1, 2, 3], a: [4, 5, 6, 7], b: [8, 9], c: [0, 1, 2, 3] };
    let mut lanes: Vec<Vec<u64>> = (0..32)
        .map(|lane| {
            let (group, member) = (lane / 4, lane % 4);
            let word = |x: f32| u64::from(x.to_bits());
            let c =
                [(group, 2 * member), (group, 2 * member + 1), (group + 8, 2 * member), (group + 8, 2 * member + 1)];
            let of_a = [(group, member), (group + 8, member), (group, member + 4), (group + 8, member + 4)];
            let mut all: Vec<u64> = c.map(|(row, column)| word((100 * row + column) as f32)).to_vec();
            all.extend(of_a.map(|(row, k)| word(a(row, k))));
            all.extend([member, member + 4].map(|k| word(b(k, group))));
            all
        })
        .collect();
    product.run(&mut lanes.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
    for (lane, registers) in lanes.iter().enumerate() {
        let (group, member) = (lane / 4, lane % 4);
        for (k, register) in registers[..4].iter().enumerate() {
            let (row, column) = (group + 8 * (k / 2), 2 * member + k % 2);
            let sum: f32 = (0..8).map(|k| a(row, k) * b(k, column)).sum::<f32>() + (100 * row + column) as f32;
            assert_eq!(f32::from_bits(*register as u32), sum, "row {row}, column {column}");
        }
    }
}
