//! What is needed of the C library, and nothing else: the list of a library's undefined symbols is made here.

use core::ffi::{c_char, c_int, c_long, c_void};

unsafe extern "C" {
    pub(crate) fn abort() -> !;
    pub(crate) fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
    pub(crate) fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    pub(crate) fn malloc(bytes: usize) -> *mut c_void;
    pub(crate) fn free(data: *mut c_void);
    pub(crate) fn getenv(name: *const c_char) -> *const c_char;
    pub(crate) fn getpid() -> c_int;
    pub(crate) fn sched_getaffinity(pid: c_int, bytes: usize, mask: *mut u64) -> c_int;
    pub(crate) fn sched_yield() -> c_int;
    pub(crate) fn syscall(number: c_long, ...) -> c_long;
    pub(crate) fn pthread_create(
        thread: *mut usize,
        attributes: *const c_void,
        start: extern "C" fn(*mut c_void) -> *mut c_void,
        argument: *mut c_void,
    ) -> c_int;
    pub(crate) fn pthread_detach(thread: usize) -> c_int;
}

/// What a variable of the environment says, if it is text.
pub(crate) fn environment(name: &core::ffi::CStr) -> Option<&'static str> {
    // SAFETY: the name ends with a zero byte; the value is read at once.
    let value = unsafe { getenv(name.as_ptr()) };
    if value.is_null() { None } else { unsafe { core::ffi::CStr::from_ptr(value) }.to_str().ok().map(str::trim) }
}

#[cfg(target_arch = "x86_64")]
const SYS_FUTEX: c_long = 202;
#[cfg(target_arch = "aarch64")]
const SYS_FUTEX: c_long = 98;
const FUTEX_WAIT_PRIVATE: c_long = 128;
const FUTEX_WAKE_PRIVATE: c_long = 129;

/// Sleeps while `word` is `expected`, until woken.
pub(crate) fn futex_wait(word: &core::sync::atomic::AtomicU32, expected: u32) {
    let no_timeout: *const c_void = core::ptr::null();
    // SAFETY: the word outlives the call; the kernel only reads it.
    unsafe { syscall(SYS_FUTEX, word.as_ptr(), FUTEX_WAIT_PRIVATE, expected as c_long, no_timeout) };
}

/// Wakes all who sleep on `word`.
pub(crate) fn futex_wake(word: &core::sync::atomic::AtomicU32) {
    // SAFETY: the word is only an address here.
    unsafe { syscall(SYS_FUTEX, word.as_ptr(), FUTEX_WAKE_PRIVATE, c_int::MAX as c_long) };
}
