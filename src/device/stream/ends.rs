//! Streams of other libraries that come in, and how streams and the device end. Driver calls are made outside of the table's
//! lock, and so is what another library kept for us let go of.
#![expect(unsafe_code, reason = "ends streams and devices that nobody uses any more")]

use crate::device::RawStream;
use crate::device::remains::{self, Remains};
use crate::device::stream::{DeviceRef, Event, Hub, Orphan, Stream, StreamEntry};
use crate::error::{Error, Returned};
use std::any::Any;
use std::sync::Arc;

impl DeviceRef {
    /// A stream that somebody else made and will destroy, for use like one of the device's own. Adopted twice, it
    /// is the same stream. `keep_alive` is dropped some time after the last handle, when its work is over, by a call
    /// that may call the driver; never by a handle's drop.
    ///
    /// # Safety
    /// `raw` is a stream of this device, in the context that [`Device::context`](crate::Device::context) names, and the same stream for
    /// every thread (so not CUDA's per-thread default stream). It lives until `keep_alive` is dropped.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub unsafe fn adopt_stream(&self, raw: RawStream, keep_alive: impl Any + Send + Sync) -> Result<Stream, Error> {
        if self.is_lost() {
            return Err(Error::DeviceLost);
        }
        let keep_alive: Box<dyn Any + Send + Sync> = Box::new(keep_alive);
        let mut streams = self.0.streams.lock();
        let known = streams.iter_mut().enumerate().find_map(|(index, entry)| {
            let entry = entry.as_mut().filter(|entry| entry.raw == raw)?;
            entry.users += 1;
            entry.marks = entry.marks.wrapping_add(1); // whoever found it over must look again
            Some((index, entry.orphan.take()))
        });
        let index = match known {
            Some((index, orphan)) => {
                drop(streams);
                if let Some(orphan) = orphan {
                    self.forget(orphan);
                }
                drop(keep_alive); // the first one does
                index
            }
            None => StreamEntry::add(&mut streams, raw, Some(keep_alive)),
        };
        Ok(self.stream(raw, index))
    }

    /// The orderly end: waits for the streams whose handles are gone, ends them and all events, and gives up what the
    /// driver keeps for the device (CUDA: a share of its primary context). Close its heaps and drop them, and their streams, before.
    ///
    /// ```
    /// use hapax::{DeviceRef, Heap, HeapOptions, HostDevice};
    ///
    /// let device = DeviceRef::new(HostDevice::new());
    /// let heap = Heap::new(&device, HeapOptions::new(1 << 20))?;
    /// let device = device.close().unwrap_err().handle; // the heap uses it
    /// heap.close()?;
    /// device.close()?;
    /// # Ok::<(), hapax::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::DeviceInUse`], [`Error::DeviceLost`], or what the driver reports. The device comes back and goes on.
    pub fn close(self) -> Result<(), Returned<DeviceRef>> {
        remains::clear();
        match self.end() {
            Ok(()) => Ok(()),
            Err(error) => Err(Returned::new(self, error)),
        }
    }

    fn end(&self) -> Result<(), Error> {
        let shares = Arc::strong_count(&self.0) - 1;
        if shares > 0 {
            return Err(Error::DeviceInUse { shares });
        }
        // This is the only share, so nobody makes streams or events meanwhile.
        self.retire_streams()?; // marks what is not over yet
        let left: Vec<RawStream> = self.0.streams.lock().iter().flatten().map(|entry| entry.raw).collect();
        left.into_iter().try_for_each(|raw| self.record(raw)?.wait())?;
        self.retire_streams()?;
        let shares = self.0.streams.lock().iter().flatten().count();
        if shares > 0 {
            return Err(Error::DeviceInUse { shares });
        }
        self.destroy_idle_events()?;
        // SAFETY: no share, stream or event is left, and heaps hold shares; on success `self` is dropped unused.
        self.call(|device| unsafe { device.close() })
    }

    /// Ends streams whose handles are gone and whose work is over.
    pub(crate) fn retire_streams(&self) -> Result<(), Error> {
        let orphans: Vec<(usize, RawStream, u32, Orphan)> = {
            let mut streams = self.0.streams.lock();
            let entries = streams.iter_mut().enumerate();
            entries
                .filter_map(|(index, entry)| {
                    let entry = entry.as_mut().filter(|entry| entry.marking == 0 && !entry.ending)?;
                    let orphan = entry.orphan.take()?;
                    entry.ending = true; // so that two sweeps never end the same stream
                    Some((index, entry.raw, entry.marks, orphan))
                })
                .collect()
        };
        let mut result = Ok(());
        for (index, raw, marks, mut orphan) in orphans {
            let over = match self.is_over(raw, marks, &mut orphan) {
                // Its owner captures it into a graph now; it is asked again later.
                Err(Error::StreamCapturing) => Ok(false),
                over => over,
            };
            let mut streams = self.0.streams.lock();
            let entry = streams[index].as_mut().expect("whoever took the orphan ends the stream");
            entry.ending = false;
            if entry.users > 0 {
                drop(streams);
                self.forget(orphan); // it was adopted anew meanwhile
                continue;
            }
            if over != Ok(true) || entry.marks != marks {
                entry.orphan = Some(orphan);
                result = result.and(over.map(drop));
                continue;
            }
            let ended = streams[index].take();
            drop(streams);
            match ended.and_then(|entry| entry.keep_alive) {
                Some(keep_alive) => drop(keep_alive), // not ours: its owner destroys it
                None => {
                    // SAFETY: no handle can add work; the event behind the last work and the last mark has passed; and
                    // nobody marks it any more, since it is not in the table.
                    result = result.and(self.call(|device| unsafe { device.destroy_stream(raw) }));
                }
            }
        }
        result
    }

    /// Whether the stream's work is over, and its marks too. Its handles must be gone.
    fn is_over(&self, raw: RawStream, marks: u32, orphan: &mut Orphan) -> Result<bool, Error> {
        let last = orphan.last.take().map(|raw| Event { device: self.clone(), raw });
        let event = match last.filter(|_| orphan.marks == marks) {
            Some(event) => event,
            None => self.record(raw)?,
        };
        let passed = event.passed();
        if passed != Ok(true) {
            *orphan = Orphan { last: Some(event.into_raw()), marks };
        }
        passed
    }

    /// The orphan's event goes back to the idle ones.
    fn forget(&self, orphan: Orphan) {
        drop(orphan.last.map(|raw| Event { device: self.clone(), raw }));
    }
}

/// What kept adopted streams alive, of a device whose last share went, maybe with a handle.
struct KeptAlive(#[expect(dead_code, reason = "kept, never read")] Vec<Box<dyn Any + Send + Sync>>);

impl Remains for KeptAlive {
    fn give_back(&self) -> bool {
        true // it only had to be let go of where the driver may be called
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let entries = std::mem::take(self.streams.get_mut());
        let kept: Vec<_> = entries.into_iter().flatten().filter_map(|entry| entry.keep_alive).collect();
        if !kept.is_empty() {
            remains::leave(Box::new(KeptAlive(kept)));
        }
    }
}
