//! What the targets share: records and files with valid checksums around hostile bytes, and a count of what is allocated.
#![allow(dead_code, reason = "each target is a program of its own, and uses a part")]

use hapax::{CrashDisk, Disk};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use twox_hash::XxHash3_128;

/// What a reader may take for each byte that it reads, when all its structures are counted: in a list of numbers a byte may
/// stand for eight, in a batch of hints four may stand for a record of a hundred, and vectors double.
const TAKEN_PER_BYTE: usize = 64;
/// And at once: serde sets at most 1 MiB aside for a sequence, whatever length that claims.
const TAKEN_AT_ONCE: usize = 2 << 20;

#[global_allocator]
static COUNTING: Counting = Counting;
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK_BYTES: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is the system's, with the arguments given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE_BYTES.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK_BYTES.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller keeps what `alloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps what `dealloc` asks for.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs a reader of so many bytes, and panics if it takes more memory than they are worth.
pub fn in_proportion<T>(input_bytes: usize, read: impl FnOnce() -> T) -> T {
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    PEAK_BYTES.store(before, Ordering::Relaxed);
    let read = read();
    let taken = PEAK_BYTES.load(Ordering::Relaxed) - before;
    assert!(taken <= TAKEN_AT_ONCE + TAKEN_PER_BYTE * input_bytes, "{taken} bytes taken for {input_bytes} read");
    read
}

/// A record that is intact, whatever is in it.
pub fn record(kind: u16, order: u64, fingerprint: [u8; 32], payload: &[u8]) -> Vec<u8> {
    const META: [u8; 3] = [0; 3]; // no label, no times
    let mut record = b"HPXR\x01\0".to_vec();
    record.extend(kind.to_le_bytes());
    record.extend((META.len() as u32).to_le_bytes());
    record.extend((payload.len() as u32).to_le_bytes());
    record.extend(order.to_le_bytes());
    record.extend(fingerprint);
    record.extend(META);
    record.extend(payload);
    let checksum = XxHash3_128::oneshot(&record);
    record.extend(checksum.to_le_bytes());
    record
}

/// Appends a number as bincode 2 writes it.
pub fn number(out: &mut Vec<u8>, number: u64) {
    match number {
        0..251 => out.push(number as u8),
        251..0x1_0000 => {
            out.push(251);
            out.extend((number as u16).to_le_bytes());
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(252);
            out.extend((number as u32).to_le_bytes());
        }
        _ => {
            out.push(253);
            out.extend(number.to_le_bytes());
        }
    }
}

/// Zeros up to where the next record of a file would begin.
pub fn aligned(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(16), 0);
    bytes
}

/// A file's header, and what follows it.
pub fn file(file_type: u16, number: u64, body: &[u8]) -> Vec<u8> {
    let mut file = b"HPXF\x01\0".to_vec();
    file.extend(file_type.to_le_bytes());
    file.extend(number.to_le_bytes());
    file.extend(body);
    file
}

/// Puts a file on a disk, which has none of that name.
pub fn write(disk: &CrashDisk, name: &str, bytes: &[u8]) {
    disk.create(name).expect("the name is free").write_at(0, bytes).expect("the disk is memory");
}

/// Takes bytes off the front; those that are missing are zeros.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub fn number(&mut self) -> u64 {
        let mut number = [0; 8];
        let bytes = self.bytes(8);
        number[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(number)
    }

    /// So many, or as many as there are.
    pub fn bytes(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A piece of up to 255 bytes, which says its length itself; `None` at the end.
    pub fn piece(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = usize::from(self.byte());
        Some(self.bytes(bytes))
    }
}
