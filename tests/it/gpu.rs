//! Kernels spread over blocks and threads mean what they meant: by the interpreter, which watches for threads that meet in memory
//! without a barrier, and by the CPU's backend. Shapes of launches; registers and spills by NVIDIA's assembler, where there is one.

use gdlc::base::dtype::Dtype;
use gdlc::base::size::Size;
use gdlc::kernel::build::Builder;
use gdlc::kernel::gpu::{Spread, spread};
use gdlc::kernel::interpret::{Machine, Order};
use gdlc::kernel::ir::{Access, Buffer, LoopKind, Memory, Program, Stage, Stmt};
use gdlc::kernel::verify::verify;
use gdlc::kernel::work::work;

/// The program with its kernels of prepare and call spread, and those of bind as they are.
pub(crate) fn spread_out(program: &Program) -> Program {
    let Spread { program: spread, launches } = spread(program).expect("every kernel can be spread");
    verify(&spread).expect("it is well formed");
    assert_eq!(spread.kernels.len(), launches.len());
    let bind = program.kernels.iter().filter(|k| k.stage == Stage::Bind).cloned();
    Program { kernels: bind.chain(spread.kernels.iter().cloned()).collect(), ..spread }
}

/// Operations of a spread program that the interpreter is asked to do; the compiled one is compared at every size.
pub(crate) const MOST_OPERATIONS: f64 = 1e6;

/// The floating-point operations of a program, tiles that are computed in vain included.
pub(crate) fn operations(program: &Program, sizes: &[usize]) -> f64 {
    program.kernels.iter().map(|kernel| work(program, kernel, sizes).flops).sum()
}

/// One block of `threads` threads that runs each body in turn, with its thread and that thread's element of a shared array of 8 numbers.
fn block(threads: i64, loops: &[&dyn Fn(&mut Builder, gdlc::kernel::ir::Var, Access) -> Stmt]) -> Program {
    let mut program = Program::new("block", Dtype::F64, Default::default());
    let shape = vec![Size::fixed(8)];
    let shared =
        program.buffers.push(Buffer { name: "shared".into(), dtype: Dtype::F64, shape, memory: Memory::Local });
    let mut b = Builder::default();
    let (zero, one, end) = (b.int(0), b.int(1), b.int(threads));
    let mut body = vec![Stmt::Alloc { buffer: shared }];
    for make in loops {
        let thread = b.var();
        let place = Access { buffer: shared, index: vec![b.read(thread)] };
        let stmt = make(&mut b, thread, place);
        body.push(Stmt::For { var: thread, begin: zero, end, kind: LoopKind::Threads, body: vec![stmt] });
    }
    let var = b.var();
    let body = vec![Stmt::For { var, begin: zero, end: one, kind: LoopKind::Blocks, body }];
    program.kernels.push(b.finish("block", Stage::Call, body));
    program
}

fn outcome(program: &Program) -> Result<(), String> {
    verify(program)?;
    Machine::new(program, &[], Order::Forward).run(Stage::Call).map_err(|fault| fault.why)
}

#[test]
fn threads_that_meet_without_a_barrier_are_found() {
    let own = |b: &mut Builder, _: gdlc::kernel::ir::Var, place: Access| Stmt::Store { to: place, value: b.float(1.0) };
    let first = |b: &mut Builder, _: gdlc::kernel::ir::Var, place: Access| {
        let to = Access { index: vec![b.int(0)], ..place };
        Stmt::Store { to, value: b.float(1.0) }
    };
    let next = |b: &mut Builder, thread: gdlc::kernel::ir::Var, place: Access| {
        let (t, one, n) = (b.read(thread), b.int(1), b.int(4));
        let after = b.add(t, one);
        let after = b.binary(gdlc::kernel::ir::Binary::Mod, after, n);
        let value = b.load(place.buffer, vec![after]);
        Stmt::Store { to: place, value }
    };
    let read = |b: &mut Builder, _: gdlc::kernel::ir::Var, place: Access| {
        let zero = b.int(0);
        Stmt::Let { var: b.var(), value: b.load(place.buffer, vec![zero]) }
    };
    outcome(&block(4, &[&own, &read])).expect("all read what one wrote before the barrier");
    let race = outcome(&block(4, &[&first])).expect_err("all write one element");
    assert!(race.contains("written by one thread and used by another"), "{race}");
    let race = outcome(&block(4, &[&own, &next])).expect_err("each reads what its neighbour writes");
    assert!(race.contains("read by one thread and written by another") || race.contains("used by another"), "{race}");
    let outside = outcome(&block(9, &[&own])).expect_err("nine threads, eight elements");
    assert!(outside.contains("whose size is 8"), "{outside}");
}

#[test]
fn effects_outside_threads_are_refused() {
    let mut program = block(4, &[]);
    let Stmt::For { body, .. } = &mut program.kernels[0].body[0] else { panic!("a loop over blocks") };
    let Stmt::Alloc { buffer } = body[0] else { panic!("the shared array") };
    let mut b = Builder::default();
    let (zero, one, value) = (b.int(0), b.int(1), b.float(1.0));
    let store = Stmt::Store { to: Access { buffer, index: vec![zero] }, value };
    let var = b.var();
    let body = vec![Stmt::Alloc { buffer }, store];
    let body = vec![Stmt::For { var, begin: zero, end: one, kind: LoopKind::Blocks, body }];
    program.kernels[0] = b.finish("block", Stage::Call, body);
    let why = outcome(&program).expect_err("every thread would store");
    assert!(why.contains("outside the threads of a block"), "{why}");
}
