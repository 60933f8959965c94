//! Threads for loops whose iterations are independent: a pool that spins, then sleeps.
//! One loop at a time has the pool; a second caller meanwhile runs its loop by itself, and so does a short loop.
//! Iterations never combine their results, so the numbers do not depend on the number of threads.

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::hint::spin_loop;
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use super::abi::{Body, Context};
use super::system;

/// Below so many nanoseconds a loop is not worth waking threads for.
const WORTHWHILE_NS: i64 = 50_000;
/// A piece of a loop should take about so long: short enough to balance, long enough to pay for its counter.
const PIECE_NS: i64 = 20_000;
/// Turns of the waiting loop before a thread sleeps: about 50 microseconds.
const SPINS: u32 = 2000;
/// Set in `DOOR` while a loop has work for those who come.
const OPEN: u32 = 1 << 31;
/// More threads than that are never started.
const MAX_THREADS: i64 = 256;

/// The loop at work.
struct Job {
    body: Body,
    data: *const c_void,
    end: i64,
    piece: i64,
}

extern "C" fn nothing(_: *const c_void, _: i64, _: i64) {}

struct Shared(UnsafeCell<Job>);
// SAFETY: written only by the holder of `BUSY` while `DOOR` is 0; read only by threads inside the door.
unsafe impl Sync for Shared {}

static JOB: Shared = Shared(UnsafeCell::new(Job { body: nothing, data: null(), end: 0, piece: 1 }));
/// The next iteration nobody has taken.
static NEXT: AtomicI64 = AtomicI64::new(0);
/// How many threads are at work, and whether more may come in.
static DOOR: AtomicU32 = AtomicU32::new(0);
/// Changes with every loop; sleepers wait for it.
static BELL: AtomicU32 = AtomicU32::new(0);
static SLEEPERS: AtomicU32 = AtomicU32::new(0);
/// Held by the thread whose loop has the pool.
static BUSY: AtomicU32 = AtomicU32::new(0);
/// The process whose threads they are: after a fork there are none.
static OWNER: AtomicU32 = AtomicU32::new(0);
static STARTED: AtomicU32 = AtomicU32::new(0);

/// The threads that may work, the caller included.
fn threads() -> i64 {
    static COUNT: AtomicI64 = AtomicI64::new(0);
    let known = COUNT.load(Ordering::Relaxed);
    if known > 0 {
        return known;
    }
    let n = from_environment().unwrap_or_else(processors).clamp(1, MAX_THREADS);
    COUNT.store(n, Ordering::Relaxed);
    n
}

fn from_environment() -> Option<i64> {
    system::environment(c"GDL_NUM_THREADS")?.parse().ok().filter(|n| *n > 0)
}

fn processors() -> i64 {
    let mut mask = [0u64; 16];
    // SAFETY: the mask is as long as it says.
    unsafe { system::sched_getaffinity(0, size_of_val(&mask), mask.as_mut_ptr()) };
    mask.iter().map(|w| w.count_ones() as i64).sum()
}

/// How many threads a loop of this cost should be cut for.
pub(crate) fn width(context: &Context, cost_ns: i64) -> i64 {
    if cost_ns < WORTHWHILE_NS {
        return 1;
    }
    let limit = if context.threads > 0 { context.threads as i64 } else { MAX_THREADS };
    threads().min(limit)
}

/// Runs `body` over `begin..end`; an iteration takes about `cost_ns`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gdl_rt_parallel(
    context: *const Context,
    begin: i64,
    end: i64,
    cost_ns: i64,
    body: Body,
    data: *const c_void,
) {
    if begin >= end {
        return;
    }
    let context = unsafe { &*context };
    let n = end - begin;
    let total = n.saturating_mul(cost_ns.max(1));
    let piece = (PIECE_NS / cost_ns.max(1)).clamp(1, n);
    if total >= WORTHWHILE_NS && n > 1 {
        if let Some(parallel_for) = context.parallel_for {
            unsafe { parallel_for(context.host, begin, end, piece, body, data) };
            return;
        }
        let width = width(context, total);
        if width > 1 && BUSY.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            unsafe { share(Job { body, data, end, piece: piece.min((n + width - 1) / width) }, begin, width) };
            BUSY.store(0, Ordering::Release);
            return;
        }
    }
    unsafe { body(data, begin, end) };
}

/// Gives the pool a loop, takes part in it, and waits for all to finish.
unsafe fn share(job: Job, begin: i64, width: i64) {
    start(width - 1);
    NEXT.store(begin, Ordering::Relaxed);
    unsafe { *JOB.0.get() = job };
    DOOR.store(OPEN, Ordering::SeqCst);
    BELL.fetch_add(1, Ordering::SeqCst);
    if SLEEPERS.load(Ordering::SeqCst) > 0 {
        system::futex_wake(&BELL);
    }
    unsafe { work() };
    DOOR.fetch_and(!OPEN, Ordering::AcqRel);
    let mut turns = 0;
    while DOOR.load(Ordering::Acquire) != 0 {
        turns += 1;
        if turns < SPINS { spin_loop() } else { unsafe { system::sched_yield() }; }
    }
}

/// Takes pieces until there are none.
unsafe fn work() {
    let job = unsafe { &*JOB.0.get() };
    loop {
        let begin = NEXT.fetch_add(job.piece, Ordering::Relaxed);
        if begin >= job.end {
            return;
        }
        unsafe { (job.body)(job.data, begin, (begin + job.piece).min(job.end)) };
    }
}

/// Sees to it that so many threads wait for work in this process.
fn start(wanted: i64) {
    // SAFETY: no preconditions.
    let process = unsafe { system::getpid() } as u32;
    if OWNER.load(Ordering::Relaxed) != process {
        OWNER.store(process, Ordering::Relaxed);
        STARTED.store(0, Ordering::Relaxed);
        SLEEPERS.store(0, Ordering::Relaxed);
        DOOR.store(0, Ordering::Relaxed);
    }
    while (STARTED.load(Ordering::Relaxed) as i64) < wanted {
        let mut thread = 0usize;
        // SAFETY: the thread lives as long as the process; the library is never unloaded (DF_1_NODELETE).
        let failed: c_int = unsafe { system::pthread_create(&mut thread, null(), wait, null_mut()) };
        if failed != 0 {
            return;
        }
        unsafe { system::pthread_detach(thread) };
        STARTED.fetch_add(1, Ordering::Relaxed);
    }
}

/// The life of a thread of the pool: wait for the bell, come in if the door is open, work, leave.
extern "C" fn wait(_: *mut c_void) -> *mut c_void {
    let mut heard = BELL.load(Ordering::SeqCst);
    loop {
        let mut door = DOOR.load(Ordering::SeqCst);
        while door & OPEN != 0 {
            match DOOR.compare_exchange(door, door + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    unsafe { work() };
                    DOOR.fetch_sub(1, Ordering::AcqRel);
                    break;
                }
                Err(now) => door = now,
            }
        }
        heard = next_bell(heard);
    }
}

/// Waits, first awake, then asleep, until the bell rings again.
fn next_bell(heard: u32) -> u32 {
    for _ in 0..SPINS {
        let bell = BELL.load(Ordering::SeqCst);
        if bell != heard {
            return bell;
        }
        spin_loop();
    }
    SLEEPERS.fetch_add(1, Ordering::SeqCst);
    while BELL.load(Ordering::SeqCst) == heard {
        system::futex_wait(&BELL, heard);
    }
    SLEEPERS.fetch_sub(1, Ordering::SeqCst);
    BELL.load(Ordering::SeqCst)
}
