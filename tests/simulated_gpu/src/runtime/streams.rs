//! Streams, events and graphs.

use std::ffi::{c_int, c_uint, c_void};

use super::{handle, here, said};
use crate::driver::{put, stream_of};
use crate::stream::{StreamId, Work, gpu, status};

/// `cudaStreamNonBlocking`.
const NON_BLOCKING: c_uint = 1;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaStreamCreateWithPriority(to: *mut *mut c_void, flags: c_uint, _priority: c_int) -> c_int {
    let device = here();
    let mut gpu = gpu();
    let number = gpu.handle();
    gpu.streams.entry((device, number)).or_default().blocking = flags & NON_BLOCKING == 0;
    unsafe { put(to, handle(number)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaStreamCreateWithFlags(to: *mut *mut c_void, flags: c_uint) -> c_int {
    unsafe { cudaStreamCreateWithPriority(to, flags, 0) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaStreamCreate(to: *mut *mut c_void) -> c_int {
    unsafe { cudaStreamCreateWithPriority(to, 0, 0) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaStreamDestroy(stream: *mut c_void) -> c_int {
    let id = stream_of(stream);
    said(gpu().finish(id))
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaStreamSynchronize(stream: *mut c_void) -> c_int {
    here();
    let id = stream_of(stream);
    let mut gpu = gpu();
    said(if gpu.is_recording(id) { status::CAPTURE_UNSUPPORTED } else { gpu.finish(id) })
}

/// Somebody who asks whether it is done helps it on.
#[unsafe(no_mangle)]
pub extern "C" fn cudaStreamQuery(stream: *mut c_void) -> c_int {
    cudaStreamSynchronize(stream)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaEventCreateWithFlags(to: *mut *mut c_void, _flags: c_uint) -> c_int {
    let mut gpu = gpu();
    let number = gpu.handle();
    gpu.events.insert(number, None);
    unsafe { put(to, handle(number)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaEventCreate(to: *mut *mut c_void) -> c_int {
    unsafe { cudaEventCreateWithFlags(to, 0) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaEventDestroy(event: *mut c_void) -> c_int {
    gpu().events.remove(&(event as u64));
    status::OK
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaEventRecord(event: *mut c_void, stream: *mut c_void) -> c_int {
    here();
    let id = stream_of(stream);
    let mut gpu = gpu();
    let given = gpu.given(id);
    gpu.events.insert(event as u64, Some((id, given)));
    status::OK
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaEventRecordWithFlags(event: *mut c_void, stream: *mut c_void, _flags: c_uint) -> c_int {
    cudaEventRecord(event, stream)
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaEventSynchronize(event: *mut c_void) -> c_int {
    let mut gpu = gpu();
    if let Some((id, given)) = gpu.events.get(&(event as u64)).copied().flatten() {
        gpu.finish_until(id, given);
    }
    said(gpu.fault)
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaEventQuery(event: *mut c_void) -> c_int {
    cudaEventSynchronize(event)
}

/// A simulation takes no time that means something.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaEventElapsedTime(to: *mut f32, _begin: *mut c_void, _end: *mut c_void) -> c_int {
    unsafe { put(to, 0.0) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaStreamWaitEvent(stream: *mut c_void, event: *mut c_void, _flags: c_uint) -> c_int {
    here();
    let id = stream_of(stream);
    let mut gpu = gpu();
    match gpu.events.get(&(event as u64)).copied().flatten() {
        Some((other, given)) if other != id => said(gpu.give(id, Work::Wait(other, given))),
        _ => status::OK,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaStreamIsCapturing(stream: *mut c_void, to: *mut c_int) -> c_int {
    let id = stream_of(stream);
    unsafe { put(to, c_int::from(gpu().is_recording(id))) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaStreamGetCaptureInfo(
    stream: *mut c_void,
    to: *mut c_int,
    number: *mut u64,
    graph: *mut *mut c_void,
    _dependencies: *mut c_void,
    _edges: *mut c_void,
    n: *mut usize,
) -> c_int {
    let id = stream_of(stream);
    let is = gpu().is_recording(id);
    // SAFETY: the caller's; what is null is not asked for.
    unsafe {
        put(to, c_int::from(is));
        if !number.is_null() && is {
            put(number, id.1);
        }
        if !graph.is_null() && is {
            put(graph, handle(id.1));
        }
        if !n.is_null() && is {
            put(n, 0);
        }
    }
    status::OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaThreadExchangeStreamCaptureMode(mode: *mut c_int) -> c_int {
    unsafe { put(mode, 0) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaStreamBeginCapture(stream: *mut c_void, _mode: c_int) -> c_int {
    let id = stream_of(stream);
    let mut gpu = gpu();
    if id.1 == 0 || gpu.is_recording(id) {
        return said(status::CAPTURE_UNSUPPORTED);
    }
    gpu.streams.entry(id).or_default().recording = Some(vec![]);
    status::OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaStreamEndCapture(stream: *mut c_void, graph: *mut *mut c_void) -> c_int {
    let id: StreamId = stream_of(stream);
    let mut gpu = gpu();
    let Some(work) = gpu.streams.entry(id).or_default().recording.take() else { return said(status::INVALID_VALUE) };
    let number = gpu.handle();
    gpu.graphs.insert(number, work);
    unsafe { put(graph, handle(number)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaGraphInstantiate(to: *mut *mut c_void, graph: *mut c_void, _flags: u64) -> c_int {
    let mut gpu = gpu();
    let work = gpu.graphs.get(&(graph as u64)).cloned().unwrap_or_default();
    let number = gpu.handle();
    gpu.graphs.insert(number, work);
    unsafe { put(to, handle(number)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaGraphInstantiateWithFlags(to: *mut *mut c_void, graph: *mut c_void, flags: u64) -> c_int {
    unsafe { cudaGraphInstantiate(to, graph, flags) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cudaGraphGetNodes(graph: *mut c_void, _nodes: *mut c_void, n: *mut usize) -> c_int {
    let nodes = gpu().graphs.get(&(graph as u64)).map_or(0, Vec::len);
    unsafe { put(n, nodes) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaGraphLaunch(graph: *mut c_void, stream: *mut c_void) -> c_int {
    here();
    let id = stream_of(stream);
    let mut gpu = gpu();
    let work = gpu.graphs.get(&(graph as u64)).cloned().unwrap_or_default();
    said(work.into_iter().map(|w| gpu.give(id, w)).max().unwrap_or(status::OK))
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaGraphDestroy(graph: *mut c_void) -> c_int {
    gpu().graphs.remove(&(graph as u64));
    status::OK
}

#[unsafe(no_mangle)]
pub extern "C" fn cudaGraphExecDestroy(graph: *mut c_void) -> c_int {
    cudaGraphDestroy(graph)
}
