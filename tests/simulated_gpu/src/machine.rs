//! A launch: its blocks one after another, in a block each thread until it waits. Where all wait at a barrier they go on; threads of a warp
//! wait for each other at a product.

use crate::memory::{Memory, Who, Word};
use crate::ptx::{Instruction, Kernel, Space, Start};
use crate::tensor_core::WARP;

/// What a register or shared memory holds before something is put there: as a float, not a number.
const NONSENSE: u64 = u64::MAX;
/// Instructions of a thread after which it is said to be in an endless loop.
const ENDLESS: u64 = 1 << 31;

/// Why a launch was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The kernel stopped it itself.
    Trap(String),
    /// An access outside of what was given, or in the wrong device's memory.
    Address(String),
    /// Threads met in memory, or not at a barrier; an endless loop.
    Order(String),
}

/// A kernel with what is launched of it.
pub struct Launch<'a> {
    pub kernel: &'a Kernel,
    /// The addresses of the module's constants.
    pub constants: &'a [u64],
    pub blocks: u32,
    pub threads: u32,
    pub parameters: &'a [u8],
    pub device: i32,
    /// A number that no launch before it had.
    pub number: u32,
}

/// Where a thread stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Runs,
    AtBarrier,
    AtProduct,
    Done,
}

/// The threads of the block that runs.
struct Block<'a> {
    launch: &'a Launch<'a>,
    number: u32,
    interval: u32,
    registers: Vec<u64>,
    at: Vec<usize>,
    states: Vec<State>,
    shared: Vec<u8>,
    shared_words: Vec<Word>,
    local: Vec<u8>,
    /// The block of memory that was touched last: most accesses follow each other.
    near: (u64, u64),
}

impl Launch<'_> {
    /// Runs it.
    ///
    /// # Errors
    /// What a real GPU would not do, or not do twice the same.
    pub fn run(&self, memory: &mut Memory) -> Result<(), Fault> {
        if self.kernel.threads.is_some_and(|n| n != self.threads) {
            return Err(Fault::Order(format!(
                "{} takes {:?} threads, not {}",
                self.kernel.name, self.kernel.threads, self.threads
            )));
        }
        let mut start = vec![NONSENSE; self.kernel.registers];
        for (register, from) in &self.kernel.starts {
            start[*register as usize] = match from {
                Start::Number(n) => *n,
                Start::Constant(k) => self.constants[*k],
                Start::Threads => u64::from(self.threads),
                Start::Blocks => u64::from(self.blocks),
                Start::Thread | Start::Block => 0,
            };
        }
        let n = self.threads as usize;
        let mut block = Block {
            launch: self,
            number: 0,
            interval: 0,
            registers: vec![0; n * start.len()],
            at: vec![0; n],
            states: vec![State::Runs; n],
            shared: vec![],
            shared_words: vec![],
            local: vec![],
            near: (0, 0),
        };
        (0..self.blocks).try_for_each(|number| {
            block.begin(number, &start);
            block.run(memory)
        })
    }
}

impl Block<'_> {
    fn begin(&mut self, number: u32, start: &[u64]) {
        let kernel = self.launch.kernel;
        (self.number, self.interval) = (number, 0);
        self.at.fill(0);
        self.states.fill(State::Runs);
        self.shared = vec![NONSENSE as u8; kernel.shared_bytes];
        self.shared_words = vec![Word::default(); kernel.shared_bytes.div_ceil(4)];
        self.local = vec![NONSENSE as u8; kernel.local_bytes * self.at.len()];
        for (thread, registers) in self.registers.chunks_exact_mut(start.len().max(1)).enumerate() {
            registers.copy_from_slice(start);
            for (register, from) in &kernel.starts {
                match from {
                    Start::Thread => registers[*register as usize] = thread as u64,
                    Start::Block => registers[*register as usize] = u64::from(number),
                    _ => {}
                }
            }
        }
    }

    fn run(&mut self, memory: &mut Memory) -> Result<(), Fault> {
        while self.states.contains(&State::Runs) {
            for first in (0..self.states.len()).step_by(WARP) {
                self.warp(first..(first + WARP).min(self.states.len()), memory)?;
            }
            let waiting: Vec<usize> = (0..self.states.len()).filter(|t| self.states[*t] == State::AtBarrier).collect();
            let Some(first) = waiting.first() else { continue };
            if waiting.len() < self.states.len() || waiting.iter().any(|t| self.at[*t] != self.at[*first]) {
                return Err(self.order(*first, "a barrier that not all threads of the block reach"));
            }
            self.interval += 1;
            for thread in waiting {
                self.at[thread] += 1;
                self.states[thread] = State::Runs;
            }
        }
        Ok(())
    }

    /// Runs the threads of a warp until each is at a barrier or done.
    fn warp(&mut self, threads: std::ops::Range<usize>, memory: &mut Memory) -> Result<(), Fault> {
        loop {
            for thread in threads.clone().filter(|t| self.states[*t] == State::Runs).collect::<Vec<_>>() {
                self.thread(thread, memory)?;
            }
            let Some(first) = threads.clone().find(|t| self.states[*t] == State::AtProduct) else { return Ok(()) };
            let at = self.at[first];
            let together = |t: usize| self.states[t] == State::AtProduct && self.at[t] == at;
            if threads.len() != WARP || !threads.clone().all(together) {
                return Err(self.order(first, "a product that not all threads of the warp reach"));
            }
            let Instruction::Multiply(product) = &self.launch.kernel.body[at].instruction else {
                unreachable!("a product")
            };
            let n = self.launch.kernel.registers;
            let registers = &mut self.registers[threads.start * n..threads.end * n];
            product.run(&mut registers.chunks_exact_mut(n).collect::<Vec<_>>());
            for t in threads.clone() {
                self.at[t] += 1;
                self.states[t] = State::Runs;
            }
        }
    }

    /// Runs a thread until it waits.
    fn thread(&mut self, thread: usize, memory: &mut Memory) -> Result<(), Fault> {
        let kernel = self.launch.kernel;
        let first = thread * kernel.registers;
        for _ in 0..ENDLESS {
            let Some(guarded) = kernel.body.get(self.at[thread]) else {
                self.states[thread] = State::Done;
                return Ok(());
            };
            if let Some((predicate, wanted)) = guarded.guard
                && (self.registers[first + predicate as usize] & 1 == 1) != wanted
            {
                self.at[thread] += 1;
                continue;
            }
            match &guarded.instruction {
                Instruction::Compute { operation, to, from } => {
                    let registers = &mut self.registers[first..first + kernel.registers];
                    let [x, y, z] = from.map(|k| registers[k as usize]);
                    registers[*to as usize] = operation(x, y, z);
                }
                Instruction::Load { space, bytes, signed, to, at, offset } => {
                    let at = self.registers[first + *at as usize].wrapping_add_signed(*offset);
                    self.aligned(thread, at, usize::from(*bytes) * to.len())?;
                    for (k, register) in to.iter().enumerate() {
                        let bits = self.load(thread, *space, at + k as u64 * u64::from(*bytes), *bytes, memory)?;
                        self.registers[first + *register as usize] =
                            if *signed { extended(bits, *bytes) } else { bits };
                    }
                }
                Instruction::Store { space, bytes, from, at, offset } => {
                    let at = self.registers[first + *at as usize].wrapping_add_signed(*offset);
                    self.aligned(thread, at, usize::from(*bytes) * from.len())?;
                    for (k, register) in from.iter().enumerate() {
                        let bits = self.registers[first + *register as usize];
                        self.store(thread, *space, at + k as u64 * u64::from(*bytes), (*bytes, bits), memory)?;
                    }
                }
                Instruction::Branch(to) => {
                    self.at[thread] = *to;
                    continue;
                }
                Instruction::Barrier => {
                    self.states[thread] = State::AtBarrier;
                    return Ok(());
                }
                Instruction::Multiply(_) => {
                    self.states[thread] = State::AtProduct;
                    return Ok(());
                }
                Instruction::Return => {
                    self.states[thread] = State::Done;
                    return Ok(());
                }
                Instruction::Trap => return Err(Fault::Trap(self.place(thread, "a trap"))),
            }
            self.at[thread] += 1;
        }
        Err(self.order(thread, "an endless loop"))
    }

    fn aligned(&self, thread: usize, at: u64, bytes: usize) -> Result<(), Fault> {
        if at.is_multiple_of(bytes as u64) {
            Ok(())
        } else {
            Err(Fault::Address(self.place(thread, &format!("{bytes} bytes at {at:#x}, which is no multiple"))))
        }
    }

    fn who(&self, thread: usize) -> Who {
        let launch = self.launch;
        Who {
            launch: launch.number,
            thread: self.number * launch.threads + thread as u32,
            block: self.number,
            interval: self.interval,
        }
    }

    /// The block of global memory that an access falls into is there, on this device.
    fn global(&mut self, thread: usize, at: u64, bytes: u8, memory: &Memory) -> Result<(), Fault> {
        if at >= self.near.0 && at + u64::from(bytes) <= self.near.1 {
            return Ok(());
        }
        match memory.block_of(at, usize::from(bytes)) {
            Some((begin, end, device)) if device == self.launch.device => {
                self.near = (begin, end);
                Ok(())
            }
            Some((.., device)) => {
                Err(Fault::Address(self.place(thread, &format!("{at:#x} is memory of device {device}"))))
            }
            None => Err(Fault::Address(self.place(thread, &format!("{bytes} bytes at {at:#x} were not given")))),
        }
    }

    fn load(&mut self, thread: usize, space: Space, at: u64, bytes: u8, memory: &mut Memory) -> Result<u64, Fault> {
        let who = self.who(thread);
        let (meets, stale);
        let bits = match space {
            Space::Global | Space::ReadOnly => {
                self.global(thread, at, bytes, memory)?;
                let mut words = (at..at + u64::from(bytes)).step_by(4);
                meets = !words.clone().all(|word| memory.word(word).read(who));
                stale = space == Space::ReadOnly && !words.all(|word| memory.word(word).read_cached(who));
                little_endian(memory.slice(at, bytes.into()))
            }
            Space::Shared => {
                let part = self.within(thread, self.shared.len(), at, bytes)?;
                meets = !part.clone().step_by(4).all(|byte| self.shared_words[byte / 4].read(who));
                stale = false;
                little_endian(&self.shared[part])
            }
            Space::Local => {
                let each = self.launch.kernel.local_bytes;
                let part = self.within(thread, each, at, bytes)?;
                return Ok(little_endian(&self.local[thread * each..][part]));
            }
            Space::Parameter => {
                let part = self.within(thread, self.launch.parameters.len(), at, bytes)?;
                return Ok(little_endian(&self.launch.parameters[part]));
            }
        };
        if meets {
            return Err(
                self.order(thread, &format!("{at:#x} is read, and another thread wrote it without a barrier between"))
            );
        }
        if stale {
            return Err(
                self.order(thread, &format!("{at:#x} is read through the read-only cache, and this kernel wrote it"))
            );
        }
        Ok(bits)
    }

    fn store(
        &mut self,
        thread: usize,
        space: Space,
        at: u64,
        (bytes, bits): (u8, u64),
        memory: &mut Memory,
    ) -> Result<(), Fault> {
        let who = self.who(thread);
        let data = bits.to_le_bytes();
        let data = &data[..usize::from(bytes)];
        let alone = match space {
            Space::Global => {
                self.global(thread, at, bytes, memory)?;
                memory.slice(at, bytes.into()).copy_from_slice(data);
                (at..at + u64::from(bytes)).step_by(4).all(|word| memory.word(word).write(who))
            }
            Space::Shared => {
                let part = self.within(thread, self.shared.len(), at, bytes)?;
                self.shared[part.clone()].copy_from_slice(data);
                part.step_by(4).all(|byte| self.shared_words[byte / 4].write(who))
            }
            Space::Local => {
                let each = self.launch.kernel.local_bytes;
                let part = self.within(thread, each, at, bytes)?;
                self.local[thread * each..][part].copy_from_slice(data);
                true
            }
            Space::ReadOnly | Space::Parameter => return Err(self.order(thread, "a store where nothing can be stored")),
        };
        if alone {
            Ok(())
        } else {
            Err(self
                .order(thread, &format!("{at:#x} is written, and another thread touched it without a barrier between")))
        }
    }

    /// The bytes of an access to memory that begins at 0.
    fn within(&self, thread: usize, size: usize, at: u64, bytes: u8) -> Result<std::ops::Range<usize>, Fault> {
        match usize::try_from(at) {
            Ok(at) if at < size && at + usize::from(bytes) <= size => Ok(at..at + usize::from(bytes)),
            _ => Err(Fault::Address(self.place(thread, &format!("{bytes} bytes at {at} of {size}")))),
        }
    }

    fn order(&self, thread: usize, why: &str) -> Fault {
        Fault::Order(self.place(thread, why))
    }

    /// What happened, and where.
    fn place(&self, thread: usize, what: &str) -> String {
        let kernel = self.launch.kernel;
        let line = kernel.body.get(self.at[thread]).map_or(0, |guarded| guarded.line);
        format!("{}, line {line}, thread {thread} of block {}: {what}", kernel.name, self.number)
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    let mut all = [0; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(all)
}

/// A number of few bytes with its sign in all of its register: what reads less of it does not look at the rest.
fn extended(bits: u64, bytes: u8) -> u64 {
    let above = 64 - 8 * u32::from(bytes);
    (((bits << above) as i64) >> above) as u64
}
