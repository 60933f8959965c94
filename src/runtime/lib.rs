//! The runtime that every exported library carries: argument checks, memory layout, threads, the dense kernel.
//! In: the static table of a model ([`abi::Model`]) and a caller's tensors. Out: a status and a message.
//! Freestanding: no `std`, no allocation on the path of a call, no global state but the pool of threads. It knows no model.
#![no_std]
#![allow(clippy::missing_safety_doc)]

pub mod abi;

mod apart;
mod call;
mod check;
mod contract;
mod cpu;
mod cuda;
mod entry;
mod fused;
mod host;
mod instance;
mod layout;
mod message;
mod microkernel;
mod pool;
mod softmax;
mod system;

/// Nothing here panics on purpose: indices are checked before they are used. A panic would be a mistake of this
/// runtime, and stopping is the only safe answer to one.
#[panic_handler]
fn stop(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: `abort` has no preconditions and does not return.
    unsafe { system::abort() }
}
