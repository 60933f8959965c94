//! The GPU: its memory, modules, and what was given to its streams. Work is done when it is given, or, where a test wants that
//! (`Settings::lazy`), when somebody waits for it and not before: what relies on more order than streams promise finds nonsense then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use crate::machine::{Fault, Launch};
use crate::memory::{Block, Memory};
use crate::ptx::Module;

/// Statuses of CUDA that are given here.
pub mod status {
    pub const OK: i32 = 0;
    pub const INVALID_VALUE: i32 = 1;
    pub const OUT_OF_MEMORY: i32 = 2;
    pub const NO_IMAGE: i32 = 200;
    pub const INVALID_CONTEXT: i32 = 201;
    pub const NO_PTX: i32 = 218;
    pub const NOT_FOUND: i32 = 500;
    pub const ILLEGAL_ADDRESS: i32 = 700;
    pub const LAUNCH_FAILED: i32 = 719;
    pub const CAPTURE_UNSUPPORTED: i32 = 900;
}

/// A stream: its device and its handle. 0 is the stream of those who name none.
pub type StreamId = (i32, u64);

/// What a test sets.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub device: i64,
    pub devices: i64,
    pub major: i64,
    pub minor: i64,
    pub capturing: i64,
    /// Whether a thread that set none has a context.
    pub context: i64,
    /// Whether somebody uses the runtime's contexts, whoever that is.
    pub primary: i64,
    pub fail_load: i64,
    pub fail_cubin: i64,
    pub fail_launch: i64,
    pub lazy: i64,
    /// Blocks of a launch at most, where it is not 0: what is left is for the blocks that there are, which go round.
    pub blocks: i64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            device: 0,
            devices: 1,
            major: 8,
            minor: 0,
            capturing: 0,
            context: 1,
            primary: 0,
            fail_load: 0,
            fail_cubin: 0,
            fail_launch: 0,
            lazy: 0,
            blocks: 0,
        }
    }
}

/// A module on a device.
pub struct Loaded {
    pub module: Module,
    pub constants: Vec<u64>,
    pub device: i32,
}

/// What a stream is given.
#[derive(Clone)]
pub enum Work {
    Kernel {
        of: Arc<Loaded>,
        kernel: usize,
        blocks: u32,
        threads: u32,
        parameters: Vec<u8>,
    },
    Write {
        to: u64,
        bytes: Vec<u8>,
    },
    Copy {
        to: u64,
        from: u64,
        bytes: usize,
    },
    /// To an address of the host, which the caller keeps until it has waited.
    Read {
        to: usize,
        from: u64,
        bytes: usize,
    },
    /// A pattern, over and over.
    Fill {
        at: u64,
        pattern: Vec<u8>,
        times: usize,
    },
    /// Nothing before another stream has done so much.
    Wait(StreamId, u64),
}

#[derive(Default)]
pub struct Stream {
    queue: VecDeque<Work>,
    given: u64,
    done: u64,
    /// Whether it and the stream 0 wait for each other.
    pub blocking: bool,
    /// A graph that takes the work in its place.
    pub recording: Option<Vec<Work>>,
}

#[derive(Default)]
pub struct Gpu {
    pub settings: Settings,
    pub memory: Memory,
    pub modules: Vec<Arc<Loaded>>,
    /// Functions of modules: the module and the number of its kernel.
    pub functions: Vec<(usize, usize)>,
    pub streams: BTreeMap<StreamId, Stream>,
    /// Where each event was recorded.
    pub events: BTreeMap<u64, Option<(StreamId, u64)>>,
    pub graphs: BTreeMap<u64, Vec<Work>>,
    /// Devices whose context of the runtime somebody uses.
    pub primary: BTreeSet<i32>,
    pub log: String,
    /// What stopped the GPU, until it is started again.
    pub fault: i32,
    /// How often the runtime's contexts are retained, and not released.
    pub retained: usize,
    launches: u32,
    handles: u64,
}

/// The GPU of this process.
pub fn gpu() -> MutexGuard<'static, Gpu> {
    static GPU: LazyLock<Mutex<Gpu>> = LazyLock::new(Mutex::default);
    GPU.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    pub fn say(&mut self, what: &str) {
        self.log.push_str(what);
        self.log.push('\n');
    }

    /// A handle that was not given before; no address.
    pub fn handle(&mut self) -> u64 {
        self.handles += 1;
        0x1000 + self.handles
    }

    fn stream(&mut self, id: StreamId) -> &mut Stream {
        self.streams.entry(id).or_default()
    }

    /// Whether a graph takes what a stream is given.
    pub fn is_recording(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_some_and(|s| s.recording.is_some())
    }

    /// Gives work to a stream; the status of what failed meanwhile.
    pub fn give(&mut self, id: StreamId, work: Work) -> i32 {
        if let Some(graph) = &mut self.stream(id).recording {
            graph.push(work);
            return status::OK;
        }
        for other in self.ordered_with(id) {
            let given = self.stream(other).given;
            self.append(id, Work::Wait(other, given));
        }
        self.append(id, work);
        if self.settings.lazy == 0 {
            self.finish(id);
        }
        self.fault
    }

    /// The streams that a stream waits for without being told: 0 for all blocking ones, those for 0.
    fn ordered_with(&mut self, (device, handle): StreamId) -> Vec<StreamId> {
        if handle != 0 {
            return if self.stream((device, handle)).blocking { vec![(device, 0)] } else { vec![] };
        }
        self.streams.iter().filter(|(id, s)| id.0 == device && s.blocking).map(|(id, _)| *id).collect()
    }

    fn append(&mut self, id: StreamId, work: Work) {
        let stream = self.stream(id);
        stream.queue.push_back(work);
        stream.given += 1;
    }

    /// How much a stream was given.
    pub fn given(&mut self, id: StreamId) -> u64 {
        self.stream(id).given
    }

    /// Does all that a stream was given.
    pub fn finish(&mut self, id: StreamId) -> i32 {
        let given = self.given(id);
        self.finish_until(id, given);
        self.fault
    }

    /// Does all that all streams of all devices were given.
    pub fn finish_everything(&mut self) -> i32 {
        let devices: BTreeSet<i32> = self.streams.keys().map(|id| id.0).collect();
        devices.into_iter().for_each(|device| _ = self.finish_all(device));
        self.fault
    }

    /// Does all that all streams of a device were given.
    pub fn finish_all(&mut self, device: i32) -> i32 {
        let ids: Vec<StreamId> = self.streams.keys().filter(|id| id.0 == device).copied().collect();
        for id in ids {
            self.finish(id);
        }
        self.fault
    }

    pub fn finish_until(&mut self, id: StreamId, given: u64) {
        while self.stream(id).done < given {
            let stream = self.stream(id);
            let work = stream.queue.pop_front().expect("it was given");
            stream.done += 1;
            if self.fault == status::OK {
                self.fault = self.work(id, work);
            }
        }
    }

    fn work(&mut self, id: StreamId, work: Work) -> i32 {
        match work {
            Work::Wait(other, given) => self.finish_until(other, given),
            Work::Kernel { of, kernel, blocks, threads, parameters } => {
                self.launches += 1;
                let kernel = &of.module.kernels[kernel];
                let constants = &of.constants;
                let launch = Launch {
                    kernel,
                    constants,
                    blocks,
                    threads,
                    parameters: &parameters,
                    device: id.0,
                    number: self.launches,
                };
                if let Err(fault) = launch.run(&mut self.memory) {
                    return self.stopped(fault);
                }
            }
            Work::Write { to, bytes } => match self.memory.block_of(to, bytes.len()) {
                Some(_) => self.memory.slice(to, bytes.len()).copy_from_slice(&bytes),
                None => return status::ILLEGAL_ADDRESS,
            },
            Work::Copy { to, from, bytes } => {
                if self.memory.block_of(to, bytes).is_none() || self.memory.block_of(from, bytes).is_none() {
                    return status::ILLEGAL_ADDRESS;
                }
                let data = self.memory.slice(from, bytes).to_vec();
                self.memory.slice(to, bytes).copy_from_slice(&data);
            }
            Work::Read { to, from, bytes } => {
                if self.memory.block_of(from, bytes).is_none() {
                    return status::ILLEGAL_ADDRESS;
                }
                let data = self.memory.slice(from, bytes);
                // SAFETY: the caller's, who says that it is there until the stream was waited for.
                unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to as *mut u8, bytes) };
            }
            Work::Fill { at, pattern, times } => {
                let bytes = pattern.len() * times;
                if self.memory.block_of(at, bytes).is_none() {
                    return status::ILLEGAL_ADDRESS;
                }
                self.memory
                    .slice(at, bytes)
                    .chunks_exact_mut(pattern.len())
                    .for_each(|part| part.copy_from_slice(&pattern));
            }
        }
        self.fault
    }

    /// A fault is told where a person looks, as the program sees a status alone.
    fn stopped(&mut self, fault: Fault) -> i32 {
        let (status, why) = match fault {
            Fault::Trap(why) => (status::LAUNCH_FAILED, why),
            Fault::Address(why) => (status::ILLEGAL_ADDRESS, why),
            Fault::Order(why) => (status::LAUNCH_FAILED, why),
        };
        eprintln!("the GPU stops: {why}");
        self.say(&format!("stop {why}"));
        status
    }

    /// Memory of a program on a device.
    pub fn allocate(&mut self, bytes: usize, device: i32) -> Option<u64> {
        self.memory.allocate(Block { bytes, device, constant: false })
    }

    /// A module of a text, with its constants in memory.
    ///
    /// # Errors
    /// What of the text is not known here, or no room.
    pub fn load(&mut self, text: &str, device: i32) -> Result<usize, String> {
        let module = Module::parse(text)?;
        let mut constants = vec![];
        for (_, bytes) in &module.constants {
            let block = Block { bytes: bytes.len(), device, constant: true };
            let at = self.memory.allocate(block).ok_or("no room for a constant")?;
            self.memory.slice(at, bytes.len()).copy_from_slice(bytes);
            constants.push(at);
        }
        self.modules.push(Arc::new(Loaded { module, constants, device }));
        Ok(self.modules.len() - 1)
    }
}
