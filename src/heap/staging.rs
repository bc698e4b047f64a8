//! Blocking copies in pieces, through two page-locked chunks: while one is copied by the device, the host fills or empties the
//! other. Knows no handles.
//!
//! All of it runs on the heap's own stream, which holds no kernels. A copy holds the ring until its last piece is over, so chunks
//! are idle whenever the ring is free; that lock alone is held across waits, and no drop takes it.
#![expect(unsafe_code, reason = "copies between device memory and chunks that it owns")]

use crate::device::stream::Stream;
use crate::error::Error;
use crate::heap::HeapInner;
use crate::heap::page_locked::PageLocked;
use crate::heap::sweep::Mark;
use crate::observe::{self, After};
use crate::sync::MutexGuard;

const CHUNKS: usize = 2;

/// The chunks made so far: none before the first copy, the second with the first copy of more than one.
#[derive(Default)]
pub(crate) struct Ring {
    chunks: Vec<PageLocked<[u8]>>,
}

/// The pieces of one copy that are under way. Its chunks are not to be touched before they are over.
struct Copy<'h> {
    heap: &'h HeapInner,
    ring: MutexGuard<'h, Ring>,
    under_way: [Option<Mark>; CHUNKS],
    turn: usize,
    /// The last field: calls that failed are told when the ring is free.
    _told_after: After,
}

impl HeapInner {
    /// Copies `from` to the device and waits. `false`: there is nothing to stage in, and nothing was copied.
    ///
    /// # Safety
    /// `to` is allocated for `from.len()` bytes until this returns.
    pub(crate) unsafe fn stage_in(&self, to: u64, from: &[u8]) -> Result<bool, Error> {
        let Some(mut copy) = self.begin_staging()? else { return Ok(false) };
        let mut at = to;
        for piece in from.chunks(self.chunk_bytes()) {
            let put = copy.next_chunk().and_then(|()| copy.wait(copy.turn)).and_then(|()| {
                let chunk = &mut copy.chunk().as_bytes_mut()[..piece.len()];
                chunk.copy_from_slice(piece);
                let (chunk, stream) = (chunk.as_ptr(), self.transfers.raw());
                // SAFETY: the chunk is idle, and stays untouched until the mark that `put` leaves has passed; the caller
                // vouches for the device side until then, since an error waits for it too.
                self.device.call(|device| unsafe { device.copy_in(at, chunk, piece.len(), stream) })
            });
            match put {
                Ok(()) => copy.put(),
                Err(error) => return Err(copy.abandon(error)),
            }
            at += piece.len() as u64;
        }
        copy.finish().map(|()| true)
    }

    /// Copies device bytes to `to`, behind the work of `stream`, and waits. `false`: there is nothing to stage in, and
    /// nothing was copied.
    ///
    /// # Safety
    /// `from` is allocated for `to.len()` bytes until this returns.
    pub(crate) unsafe fn stage_out(&self, to: &mut [u8], from: u64, stream: &Stream) -> Result<bool, Error> {
        if self.chunk_bytes() > 0 && !stream.same(&self.transfers) {
            // Not on the heap's stream, where others' copies would wait for these kernels too.
            stream.synchronize()?;
        }
        let Some(mut copy) = self.begin_staging()? else { return Ok(false) };
        let mut at = from;
        let mut before: Option<(usize, &mut [u8])> = None;
        for piece in to.chunks_mut(self.chunk_bytes()) {
            let bytes = piece.len();
            let put = copy.next_chunk().and_then(|()| {
                if let Some((turn, to)) = before.take_if(|(turn, _)| *turn == copy.turn) {
                    copy.take_out(turn, to)?; // there is only one chunk
                }
                copy.wait(copy.turn)?;
                let (chunk, stream) = (copy.chunk().as_bytes_mut().as_mut_ptr(), self.transfers.raw());
                // SAFETY: as above; the chunk is at least as long as the piece.
                self.device.call(|device| unsafe { device.copy_out(chunk, at, bytes, stream) })?;
                copy.put();
                match before.replace((copy.turn, piece)) {
                    Some((turn, to)) => copy.take_out(turn, to),
                    None => Ok(()),
                }
            });
            if let Err(error) = put {
                return Err(copy.abandon(error));
            }
            at += bytes as u64;
        }
        match before.map_or(Ok(()), |(turn, to)| copy.take_out(turn, to)) {
            Ok(()) => Ok(true),
            Err(error) => Err(copy.abandon(error)),
        }
    }

    /// Gives the chunks to the heap's idle buffers, unless a copy uses them now.
    pub(crate) fn free_staging(&self) {
        let chunks = self.staging.try_lock().map(|mut ring| std::mem::take(&mut ring.chunks));
        drop(chunks);
    }

    fn chunk_bytes(&self) -> usize {
        if self.device.is_synchronous() {
            return 0;
        }
        let limit = self.options.limit_bytes.try_into().unwrap_or(usize::MAX);
        self.options.staging_bytes.div_ceil(CHUNKS).min(limit)
    }

    fn begin_staging(&self) -> Result<Option<Copy<'_>>, Error> {
        if self.chunk_bytes() == 0 {
            return Ok(None);
        }
        let _told_after = observe::after();
        let ring = self.staging.lock();
        let mut copy = Copy { heap: self, ring, under_way: [const { None }; CHUNKS], turn: CHUNKS - 1, _told_after };
        let first = if copy.ring.chunks.is_empty() { copy.make_chunk() } else { Ok(()) };
        match first {
            Ok(()) => Ok(Some(copy)),
            Err(Error::DeviceLost) => Err(Error::DeviceLost),
            Err(_) => Ok(None), // a heap that cannot stage is slow, not broken
        }
    }
}

impl Copy<'_> {
    fn make_chunk(&mut self) -> Result<(), Error> {
        let chunk = PageLocked::of_bytes(self.heap, self.heap.chunk_bytes())?;
        self.ring.chunks.push(chunk);
        Ok(())
    }

    /// Goes on to the other chunk, which may be busy. If it cannot be made, there is one.
    fn next_chunk(&mut self) -> Result<(), Error> {
        self.turn = (self.turn + 1) % CHUNKS;
        if self.turn == self.ring.chunks.len() {
            match self.make_chunk() {
                Err(Error::DeviceLost) => return Err(Error::DeviceLost),
                Err(_) => self.turn = 0,
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn chunk(&mut self) -> &mut PageLocked<[u8]> {
        &mut self.ring.chunks[self.turn]
    }

    /// A copy of this turn's chunk was put on the stream.
    fn put(&mut self) {
        self.under_way[self.turn] = Some(Mark::behind(&self.heap.transfers));
    }

    fn wait(&mut self, turn: usize) -> Result<(), Error> {
        if let Some(mark) = &mut self.under_way[turn] {
            mark.event()?.wait()?;
            self.under_way[turn] = None;
        }
        Ok(())
    }

    /// Waits for a piece from the device, and copies it to its place.
    fn take_out(&mut self, turn: usize, to: &mut [u8]) -> Result<(), Error> {
        self.wait(turn)?;
        to.copy_from_slice(&self.ring.chunks[turn].as_bytes()[..to.len()]);
        Ok(())
    }

    fn finish(mut self) -> Result<(), Error> {
        for turn in 0..CHUNKS {
            if let Err(error) = self.wait(turn) {
                return Err(self.abandon(error));
            }
        }
        Ok(())
    }

    /// Pieces may be under way, so the memory must not go back to its owner yet: the wait for them is tried again until it
    /// succeeds, or the device is gone and copies nothing any more.
    fn abandon(mut self, error: Error) -> Error {
        const TRIES: usize = 16;
        for _ in 0..TRIES {
            if (0..CHUNKS).all(|turn| self.wait(turn).is_ok()) {
                return error;
            }
            if self.heap.device.is_lost() {
                return Error::DeviceLost;
            }
        }
        self.heap.device.declare_lost(); // a driver that cannot wait is of no use
        Error::DeviceLost
    }
}
