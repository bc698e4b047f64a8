//! Every byte that moves between host and device moves here, and slabs go back here. Knows no states.
#![expect(unsafe_code, reason = "calls the device's copies with addresses that blocks own")]

use crate::device::stream::Stream;
use crate::error::Error;
use crate::heap::HeapInner;
use crate::heap::block::Block;
use crate::observe;

impl Block {
    /// Copies `from` to the start of the block and waits.
    pub(crate) fn write_blocking(&self, from: &[u8]) -> Result<(), Error> {
        self.copy_in_blocking(self.address(), from)
    }

    fn copy_in_blocking(&self, to: u64, from: &[u8]) -> Result<(), Error> {
        if from.is_empty() {
            return Ok(());
        }
        let heap = self.heap();
        debug_assert!(from.len() as u64 <= self.charge_bytes());
        // SAFETY: the block owns at least as many bytes at its address, and is borrowed.
        if unsafe { heap.stage_in(to, from) }? {
            return Ok(());
        }
        // SAFETY: `from` is a readable slice; the block owns at least as many bytes at its address; the stream is the heap's own.
        heap.device
            .call(|device| unsafe { device.copy_in_blocking(to, from.as_ptr(), from.len(), heap.transfers.raw()) })
    }

    /// Puts a copy of page-locked `from` on `stream`. The caller keeps both sides alive until a mark behind it passes.
    pub(crate) fn write_on(&self, from: &[u8], stream: &Stream) -> Result<(), Error> {
        if from.is_empty() {
            return Ok(());
        }
        debug_assert!(from.len() as u64 <= self.charge_bytes());
        // SAFETY: the in-flight handle owns the block and the page-locked bytes until the work is over,
        // also when it is dropped (it parks both) or forgotten (both leak).
        self.heap()
            .device
            .call(|device| unsafe { device.copy_in(self.address(), from.as_ptr(), from.len(), stream.raw()) })
    }

    /// Puts a copy to page-locked `to` on `stream`. The caller keeps both sides alive until a mark behind it passes.
    pub(crate) fn read_on(&self, to: &mut [u8], stream: &Stream) -> Result<(), Error> {
        if to.is_empty() {
            return Ok(());
        }
        debug_assert!(to.len() as u64 <= self.charge_bytes());
        // SAFETY: as for `write_on`; nothing reads the buffer while the in-flight handle owns it.
        self.heap()
            .device
            .call(|device| unsafe { device.copy_out(to.as_mut_ptr(), self.address(), to.len(), stream.raw()) })
    }

    /// Puts zeroes on `stream`. The block's notes keep it allocated until the stream has passed.
    pub(crate) fn zero_on(&self, bytes: usize, stream: &Stream) -> Result<(), Error> {
        if bytes == 0 {
            return Ok(());
        }
        debug_assert!(bytes as u64 <= self.charge_bytes());
        // SAFETY: the block owns the bytes; its stream notes keep the span from reuse until the work is over.
        self.heap().device.call(|device| unsafe { device.zero(self.address(), bytes, stream.raw()) })
    }
}

impl HeapInner {
    /// Settles until nothing is parked, also what another thread's sweep has in hand.
    fn settle_all(&self) -> Result<(), Error> {
        loop {
            self.settle()?;
            if self.space.lock().ledger().freeing_bytes == 0 {
                return Ok(());
            }
        }
    }

    /// Copies device bytes of a live block to `to`, behind `stream`'s work, and waits.
    ///
    /// `from` must be an address inside a block that the caller keeps alive for the call, with at least
    /// `to.len()` bytes behind it.
    pub(crate) fn read_blocking(&self, from: u64, to: &mut [u8], stream: &Stream) -> Result<(), Error> {
        if to.is_empty() {
            return Ok(());
        }
        // SAFETY: the callers (a handle or a lease, for its own view) hold the block alive and in bounds.
        if unsafe { self.stage_out(to, from, stream) }? {
            return Ok(());
        }
        // SAFETY: `to` is a writable slice; the callers (a handle or a lease, for its own view) hold the block alive and in bounds.
        self.device.call(|device| unsafe { device.copy_out_blocking(to.as_mut_ptr(), from, to.len(), stream.raw()) })
    }

    /// Gives idle events, idle page-locked buffers and empty slabs back; returns the bytes of the slabs.
    pub(crate) fn trim(&self) -> Result<u64, Error> {
        self.device.destroy_idle_events()?;
        self.free_staging();
        self.buffers.free_idle()?;
        let _told_after = observe::after();
        let _one_at_a_time = self.slabs_change.lock();
        let mut bytes = 0;
        loop {
            let Some(slab) = self.space.lock().take_empty_slab() else { return Ok(bytes) };
            // SAFETY: the slab came from this device's `alloc`, was taken out of the books just now, and
            // every span in it is free, so every noted stream has passed.
            match self.device.call(|device| unsafe { device.free(slab.address, slab.bytes) }) {
                Ok(()) => {
                    self.space.lock().cancel_slab(slab.bytes);
                    bytes += slab.bytes;
                }
                Err(error) => {
                    self.space.lock().add_slab(slab);
                    return Err(error);
                }
            }
        }
    }

    pub(crate) fn close(&self) -> Result<(), Error> {
        self.space.lock().close()?;
        let done = self.settle_all().and_then(|()| self.trim()).map(drop);
        if done.is_err() {
            self.space.lock().reopen();
        }
        done
    }
}
