//! The operating system's part: address space nobody may touch, memory mapped twice, bytes of the program under
//! test. Knows no driver call.
#![expect(unsafe_code, reason = "maps memory and reads the memory of the program under test")]

pub mod guard;

use std::ops::Range;
use std::ptr;
use std::sync::{Mutex, PoisonError};

pub const PAGE: usize = 4096;

/// Address space that faults on every access, for good: nothing ever unmaps it.
pub fn reserve(bytes: usize) -> Option<u64> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh private mapping at an address of the kernel's choice touches no existing memory.
    let at = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
    (at != libc::MAP_FAILED).then_some(at as u64)
}

/// Page-locked memory: the pages the program sees, and the same pages once more for the device, so that one side
/// can be shut out while the other works.
pub struct TwoFaced {
    program: *mut u8,
    device: *mut u8,
    bytes: usize,
}

// SAFETY: the addresses are owned by this value alone; the pages behind them belong to no thread.
unsafe impl Send for TwoFaced {}

impl TwoFaced {
    pub fn new(bytes: usize) -> Option<TwoFaced> {
        let mapped = bytes.checked_next_multiple_of(PAGE)?;
        // SAFETY: the name is a C string that lives for ever.
        let file = unsafe { libc::memfd_create(c"cuda-standin".as_ptr(), libc::MFD_CLOEXEC) };
        if file < 0 {
            return None;
        }
        // SAFETY: `file` was just opened.
        let sized = unsafe { libc::ftruncate(file, libc::off_t::try_from(mapped).ok()?) } == 0;
        let map = |at: *mut libc::c_void, flags| {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: a fresh shared mapping, at an address of the kernel's choice or over reserved address space
            // that nothing else was put into.
            unsafe { libc::mmap(at, mapped, access, libc::MAP_SHARED | flags, file, 0) }
        };
        let place = if sized { fresh_addresses(mapped) } else { None };
        let (program, device) = match place {
            Some(at) => (map(at as *mut _, libc::MAP_FIXED), map(ptr::null_mut(), 0)),
            None => (libc::MAP_FAILED, libc::MAP_FAILED),
        };
        // SAFETY: `file` is open, ours, and named by nobody else; the mappings outlive it.
        unsafe { libc::close(file) };
        if program == libc::MAP_FAILED || device == libc::MAP_FAILED {
            return None; // the one mapping that may exist is leaked: the address space is exhausted anyway
        }
        Some(TwoFaced { program: program.cast(), device: device.cast(), bytes })
    }

    /// Where the program under test sees the memory.
    pub fn address(&self) -> u64 {
        self.program as u64
    }

    pub fn read(&self, offset: u64, into: &mut [u8]) {
        let at = self.at(offset, into.len());
        // SAFETY: `at` checked the range; this mapping is never protected. The program may write to the same pages
        // at the same time, as it may while a real device reads: the bytes are then any, and nothing depends on them.
        unsafe { ptr::copy_nonoverlapping(at, into.as_mut_ptr(), into.len()) };
    }

    pub fn write(&self, offset: u64, bytes: &[u8]) {
        let at = self.at(offset, bytes.len());
        // SAFETY: as in `read`.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
    }

    fn at(&self, offset: u64, bytes: usize) -> *mut u8 {
        let offset = usize::try_from(offset).expect("an offset into mapped memory");
        assert!(offset.checked_add(bytes).is_some_and(|end| end <= self.bytes), "outside page-locked memory");
        // SAFETY: `offset` lies inside the mapping, as just asserted.
        unsafe { self.device.add(offset) }
    }
}

impl Drop for TwoFaced {
    fn drop(&mut self) {
        let mapped = self.bytes.next_multiple_of(PAGE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: the range is ours; from now on an access by the program faults, and the address is not used again.
        unsafe { libc::mmap(self.program.cast(), mapped, libc::PROT_NONE, flags, -1, 0) };
        // SAFETY: the range is ours, and no pointer into it is left.
        unsafe { libc::munmap(self.device.cast(), mapped) };
    }
}

/// Address space for page-locked memory, each address handed out once. It comes from few large reservations: the
/// kernel bounds how many mappings a process has, and closed neighbours count as one.
fn fresh_addresses(bytes: usize) -> Option<u64> {
    const RESERVED_BYTES: usize = 1 << 36;
    static LEFT: Mutex<Range<u64>> = Mutex::new(0..0);
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    // A page between two blocks stays closed, so that an overrun faults.
    let taken = bytes.checked_add(PAGE)?;
    if left.end - left.start < taken as u64 {
        let reserved = RESERVED_BYTES.max(taken);
        let (start, bytes) =
            reserve(reserved).map(|start| (start, reserved)).or(reserve(taken).map(|at| (at, taken)))?;
        *left = start..start + bytes as u64;
    }
    left.start += taken as u64;
    Some(left.start - taken as u64)
}

/// Reads memory of the program under test, which may be gone: `false` then.
pub fn peek(address: u64, into: &mut [u8]) -> bool {
    transfer(address, into.len(), |offset, length| {
        let local = libc::iovec { iov_base: into[offset..].as_mut_ptr().cast(), iov_len: length };
        let remote = libc::iovec { iov_base: (address as usize + offset) as *mut _, iov_len: length };
        // SAFETY: `local` lies inside `into`; the kernel checks `remote`.
        unsafe { libc::process_vm_readv(this_process(), &local, 1, &remote, 1, 0) }
    })
}

/// Writes memory of the program under test, which may be gone: `false` then.
pub fn poke(address: u64, bytes: &[u8]) -> bool {
    transfer(address, bytes.len(), |offset, length| {
        let local = libc::iovec { iov_base: bytes[offset..].as_ptr().cast_mut().cast(), iov_len: length };
        let remote = libc::iovec { iov_base: (address as usize + offset) as *mut _, iov_len: length };
        // SAFETY: `local` lies inside `bytes` and is only read. The kernel checks `remote`, which the caller of a
        // driver call named as the target of a copy.
        unsafe { libc::process_vm_writev(this_process(), &local, 1, &remote, 1, 0) }
    })
}

fn this_process() -> libc::pid_t {
    std::process::id() as libc::pid_t
}

fn transfer(address: u64, bytes: usize, mut part: impl FnMut(usize, usize) -> isize) -> bool {
    const CHUNK: usize = 1 << 20;
    if address.checked_add(bytes as u64).is_none() {
        return false;
    }
    let mut offset = 0;
    while offset < bytes {
        let length = CHUNK.min(bytes - offset);
        if part(offset, length) != length as isize {
            return false;
        }
        offset += length;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_addresses_cannot_be_read_or_written() {
        let at = reserve(PAGE).unwrap();
        assert!(!peek(at, &mut [0; 1]));
        assert!(!poke(at, &[0; 1]));
    }

    #[test]
    fn both_faces_show_the_same_bytes() {
        let memory = TwoFaced::new(10).unwrap();
        memory.write(3, b"abc");
        let mut seen = [0; 10];
        assert!(peek(memory.address(), &mut seen));
        assert_eq!(&seen, b"\0\0\0abc\0\0\0\0");
        assert!(poke(memory.address(), b"xy"));
        memory.read(0, &mut seen);
        assert_eq!(&seen[..6], b"xy\0abc");
    }

    #[test]
    fn memory_that_is_gone_is_not_readable() {
        let memory = TwoFaced::new(PAGE).unwrap();
        let at = memory.address();
        drop(memory);
        assert!(!peek(at, &mut [0; 8]));
    }
}
