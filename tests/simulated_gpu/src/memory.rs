//! The memory of all devices. Its addresses are no memory of the process, so that whoever reads it without the driver ends by SIGSEGV. New
//! memory holds NaN, freed memory other nonsense. Of each word it is known which threads of the running launch touched it.

use std::collections::BTreeMap;

/// The bytes that all devices have together.
pub const BYTES: usize = 1 << 30;
/// Blocks begin at multiples of so many bytes, with as much unused between them.
pub const ALIGN: usize = 512;
/// What new and freed memory is filled with.
const NEW: u8 = 0xff;
const FREED: u8 = 0x5a;

/// Memory that was given.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    pub bytes: usize,
    pub device: i32,
    /// Of a module, not of the program.
    pub constant: bool,
}

/// A thread at work: its number in the launch, its block, and how many barriers it has passed.
#[derive(Clone, Copy, Debug)]
pub struct Who {
    pub launch: u32,
    pub thread: u32,
    pub block: u32,
    pub interval: u32,
}

/// Who touched a word last, as far as it matters to others; threads and blocks are counted from 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Word {
    launch: u32,
    writer: u32,
    writing_block: u32,
    written: u32,
    reader: u32,
    reading_block: u32,
    read: u32,
    /// Several threads read it since the last barrier; several blocks.
    readers: bool,
    blocks: bool,
    /// It was read through the read-only cache, which must not be written at all.
    cached: bool,
}

impl Word {
    fn begun(&mut self, who: Who) {
        if self.launch != who.launch {
            *self = Word { launch: who.launch, ..Word::default() };
        }
    }

    /// Whether another thread wrote it, and no barrier is between.
    fn meets_writer(&self, who: Who) -> bool {
        let other = self.writer != 0 && self.writer != who.thread + 1;
        other && (self.writing_block != who.block + 1 || self.written == who.interval)
    }

    /// A read; false where another thread wrote it.
    #[must_use]
    pub fn read(&mut self, who: Who) -> bool {
        self.begun(who);
        let (thread, block) = (who.thread + 1, who.block + 1);
        if self.reader != 0 && self.reading_block != block {
            self.blocks = true;
        }
        let same = self.reading_block == block && self.read == who.interval;
        self.readers = same && (self.readers || self.reader != thread);
        (self.reader, self.reading_block, self.read) = (thread, block, who.interval);
        !self.meets_writer(who)
    }

    /// A write; false where another thread wrote or read it, or it must not be written.
    #[must_use]
    pub fn write(&mut self, who: Who) -> bool {
        self.begun(who);
        let (thread, block) = (who.thread + 1, who.block + 1);
        let same = self.reading_block == block && self.read == who.interval;
        let other =
            self.reader != 0 && (self.reading_block != block || same && (self.readers || self.reader != thread));
        let alone = !self.meets_writer(who) && !other && !self.blocks && !self.cached;
        (self.writer, self.writing_block, self.written) = (thread, block, who.interval);
        alone
    }

    /// A read through the read-only cache; false where the running launch wrote it.
    #[must_use]
    pub fn read_cached(&mut self, who: Who) -> bool {
        self.begun(who);
        self.cached = true;
        self.writer == 0
    }
}

pub struct Memory {
    /// The address of the first byte.
    begin: u64,
    bytes: Vec<u8>,
    words: Vec<Word>,
    blocks: BTreeMap<u64, Block>,
    used: usize,
    /// What a single block may have.
    pub room: usize,
}

impl Default for Memory {
    fn default() -> Memory {
        // SAFETY: a new mapping, whose addresses are all that is used of it.
        let begin = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                BYTES,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        assert_ne!(begin, libc::MAP_FAILED, "there are addresses left");
        Memory { begin: begin as u64, bytes: vec![], words: vec![], blocks: BTreeMap::new(), used: 0, room: BYTES }
    }
}

impl Memory {
    /// New memory; none where there is no room.
    pub fn allocate(&mut self, block: Block) -> Option<u64> {
        let bytes = block.bytes;
        let size = bytes.next_multiple_of(ALIGN) + ALIGN;
        let at = match self.gap(size) {
            _ if bytes > self.room => return None,
            Some(at) => at,
            None if self.used + size <= BYTES => {
                self.used += size;
                self.begin + (self.used - size) as u64
            }
            None => return None,
        };
        self.bytes.resize(self.used, NEW);
        self.words.resize(self.used / 4, Word::default());
        self.blocks.insert(at, block);
        self.slice(at, bytes).fill(NEW);
        Some(at)
    }

    /// Where freed memory is large enough.
    fn gap(&self, size: usize) -> Option<u64> {
        let mut from = self.begin;
        for (at, block) in &self.blocks {
            if at - from >= size as u64 {
                return Some(from);
            }
            from = at + (block.bytes.next_multiple_of(ALIGN) + ALIGN) as u64;
        }
        let end = self.begin + self.used as u64;
        (end - from >= size as u64).then_some(from)
    }

    /// Gives memory back; false where it was not given.
    pub fn free(&mut self, at: u64) -> bool {
        let Some(block) = self.blocks.remove(&at) else { return false };
        self.slice(at, block.bytes).fill(FREED);
        true
    }

    /// The block that holds these bytes: where it begins and ends, and its device.
    pub fn block_of(&self, at: u64, bytes: usize) -> Option<(u64, u64, i32)> {
        let (begin, block) = self.blocks.range(..=at).next_back()?;
        let end = begin + block.bytes as u64;
        (at.checked_add(bytes as u64)? <= end).then_some((*begin, end, block.device))
    }

    /// The number of blocks that programs have.
    pub fn live(&self) -> usize {
        self.blocks.values().filter(|b| !b.constant).count()
    }

    /// The bytes that are given, on a device.
    pub fn given(&self, device: i32) -> usize {
        self.blocks.values().filter(|b| b.device == device).map(|b| b.bytes).sum()
    }

    /// Bytes at an address of this memory.
    pub fn slice(&mut self, at: u64, bytes: usize) -> &mut [u8] {
        let first = (at - self.begin) as usize;
        &mut self.bytes[first..first + bytes]
    }

    /// The word of an address of this memory.
    pub fn word(&mut self, at: u64) -> &mut Word {
        &mut self.words[((at - self.begin) / 4) as usize]
    }
}
