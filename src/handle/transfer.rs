//! How contents get into device memory and out of it: blocking, or in flight with their operands.
#![expect(unsafe_code, reason = "declares `written_on`, whose caller vouches for a kernel")]

use crate::device::stream::Stream;
use crate::error::{Error, Returned};
use crate::handle::DevBox;
use crate::handle::state::{Evicted, InFlight, Ready, State, Uninit};
use crate::heap::data::DeviceData;
use crate::heap::page_locked::PageLocked;
use crate::heap::sweep::Mark;
use std::fmt;

/// A handle that a copy is under way for, with the page-locked buffer that the copy owns.
type Flying<T> = DevBox<T, InFlight<PageLocked<T>>>;

impl<T: ?Sized + DeviceData> DevBox<T, Uninit> {
    /// Copies `from` into the memory and waits.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`], [`Error::DeviceLost`] or [`Error::Device`]; the handle comes back.
    pub fn upload_from(self, from: &T) -> Result<DevBox<T>, Returned<Self>> {
        let copied = self.check_elements(from.elements()).and_then(|()| self.block.write_blocking(from.as_bytes()));
        match copied {
            Ok(()) => Ok(self.into_state(Ready::STATE).1),
            Err(error) => Err(Returned::new(self, error)),
        }
    }

    /// Puts a copy of `from` on `stream`. The result owns both sides until the copy is over.
    ///
    /// ```
    /// use hapax::{Heap, HeapOptions, HostDevice};
    ///
    /// let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    /// let stream = heap.new_stream()?;
    /// let mut staging = heap.page_locked_slice::<u32>(2)?;
    /// staging.copy_from_slice(&[7, 8]);
    /// let flying = heap.alloc_slice::<u32>(2)?.upload(staging, &stream)?;
    /// // ... other work ...
    /// let (handle, staging) = flying.wait()?; // both are ours again
    /// # drop(staging);
    /// # handle.free()?;
    /// # Ok::<(), hapax::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::LengthMismatch`], [`Error::WrongDevice`], [`Error::DeviceLost`] or [`Error::Device`]; both come back.
    pub fn upload(self, from: PageLocked<T>, stream: &Stream) -> Result<Flying<T>, Returned<(Self, PageLocked<T>)>> {
        let from = Box::new(from);
        let heap = self.heap().clone();
        let ready = self.check_elements(from.elements()).and_then(|()| self.check_operand(&from, stream));
        let put = ready.and_then(|()| {
            heap.expect_operands();
            self.block.write_on(from.as_bytes(), stream).inspect_err(|_| heap.operands_returned())
        });
        match put {
            Ok(()) => {
                self.block.note(stream);
                let state = InFlight::new(&heap, from, Mark::behind(stream), true);
                Ok(self.into_state(state).1)
            }
            Err(error) => Err(Returned::new((self, *from), error)),
        }
    }

    /// Sets the memory to zero on `stream`. Work on other streams that uses the result is ordered behind it.
    ///
    /// # Errors
    /// [`Error::WrongDevice`], [`Error::DeviceLost`] or [`Error::Device`]; the handle comes back.
    pub fn zero(mut self, stream: &Stream) -> Result<DevBox<T>, Returned<Self>> {
        let bytes = self.bytes() as usize;
        let put = self.block.lend_mut(stream).and_then(|()| self.block.zero_on(bytes, stream));
        match put {
            Ok(()) => Ok(self.into_state(Ready::STATE).1),
            Err(error) => Err(Returned::new(self, error)),
        }
    }

    /// Says that work already put on `stream` writes every byte of the memory, as a kernel does.
    ///
    /// # Safety
    /// The work stands on `stream`, or is over; when it has run, all bytes are initialised.
    ///
    /// # Errors
    /// [`Error::WrongDevice`]; the handle comes back.
    pub unsafe fn written_on(self, stream: &Stream) -> Result<DevBox<T>, Returned<Self>> {
        if let Err(error) = stream.check(&self.heap().device) {
            return Err(Returned::new(self, error));
        }
        self.block.note(stream);
        self.block.wrote(stream, None);
        Ok(self.into_state(Ready::STATE).1)
    }

    /// The device address, for the kernel that fills the memory before [`written_on`](DevBox::written_on).
    pub fn device_address(&self) -> u64 {
        self.block.address()
    }
}

impl<T: ?Sized + DeviceData> Flying<T> {
    /// Blocks until the copy is over, and gives both sides back.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] or [`Error::Device`]; the handle comes back, still in flight.
    pub fn wait(mut self) -> Result<(DevBox<T>, PageLocked<T>), Returned<Self>> {
        match self.state.flight().wait() {
            Ok(()) => Ok(self.land()),
            Err(error) => Err(Returned::new(self, error)),
        }
    }

    /// As [`wait`](DevBox::wait) if the copy is over; otherwise the handle, still in flight. Never blocks.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] or [`Error::Device`]; the handle comes back, still in flight.
    pub fn try_wait(mut self) -> Result<Landed<T>, Returned<Self>> {
        match self.state.flight().passed() {
            Ok(true) => {
                let (handle, operands) = self.land();
                Ok(Landed::Yes(handle, operands))
            }
            Ok(false) => Ok(Landed::NotYet(self)),
            Err(error) => Err(Returned::new(self, error)),
        }
    }

    /// Lets `stream` use the contents behind the copy, without a wait on the host. The page-locked buffer
    /// stays parked until the copy is over.
    ///
    /// # Errors
    /// [`Error::WrongDevice`], [`Error::DeviceLost`] or [`Error::Device`]; the handle comes back, still in flight.
    pub fn ready_on(mut self, stream: &Stream) -> Result<DevBox<T>, Returned<Self>> {
        match self.order(stream) {
            Ok(()) => Ok(self.into_state(Ready::STATE).1), // the state's drop parks the operands
            Err(error) => Err(Returned::new(self, error)),
        }
    }

    fn order(&mut self, stream: &Stream) -> Result<(), Error> {
        stream.check(&self.heap().device)?;
        let flight = self.state.flight();
        let event = flight.mark.event()?.clone();
        if !flight.mark.stream.same(stream) {
            stream.wait_for(&event)?;
        }
        if flight.wrote {
            self.block.wrote(&flight.mark.stream, Some(event));
        }
        self.block.note(stream);
        Ok(())
    }

    fn land(mut self) -> (DevBox<T>, PageLocked<T>) {
        let stream = self.state.flight().mark.stream.clone();
        self.block.passed(&stream);
        let (state, handle) = self.into_state(Ready::STATE);
        (handle, state.land())
    }
}

/// What [`DevBox::try_wait`] found.
#[must_use = "the handle is in here"]
pub enum Landed<T: ?Sized + DeviceData> {
    /// The copy is over; both sides are back.
    Yes(DevBox<T>, PageLocked<T>),
    /// The copy is still under way.
    NotYet(Flying<T>),
}

impl<T: ?Sized + DeviceData> fmt::Debug for Landed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Landed::Yes(handle, operands) => f.debug_tuple("Yes").field(handle).field(operands).finish(),
            Landed::NotYet(flying) => f.debug_tuple("NotYet").field(flying).finish(),
        }
    }
}

impl<T: ?Sized + DeviceData> DevBox<T> {
    /// Copies the contents to `to` and waits.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`], [`Error::DeviceLost`] or [`Error::Device`].
    pub fn download_to(&self, to: &mut T) -> Result<(), Error> {
        self.read_to(to)
    }

    /// Puts a copy of the contents to `to` on `stream`. The result owns both sides until the copy is over.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`], [`Error::WrongDevice`], [`Error::DeviceLost`] or [`Error::Device`]; both come back.
    pub fn download(self, to: PageLocked<T>, stream: &Stream) -> Result<Flying<T>, Returned<(Self, PageLocked<T>)>> {
        let mut to = Box::new(to);
        let heap = self.heap().clone();
        let ready = self
            .check_elements(to.elements())
            .and_then(|()| self.check_operand(&to, stream))
            .and_then(|()| self.block.lend(stream));
        let put = ready.and_then(|()| {
            heap.expect_operands();
            self.block.read_on(to.as_bytes_mut(), stream).inspect_err(|_| heap.operands_returned())
        });
        match put {
            Ok(()) => {
                let state = InFlight::new(&heap, to, Mark::behind(stream), false);
                Ok(self.into_state(state).1)
            }
            Err(error) => Err(Returned::new((self, *to), error)),
        }
    }
}

impl<T: ?Sized + DeviceData> DevBox<T, Evicted> {
    /// Copies the contents to `to` and waits, for instance to spill them before `free`.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`], [`Error::DeviceLost`] or [`Error::Device`].
    pub fn download_to(&self, to: &mut T) -> Result<(), Error> {
        self.read_to(to)
    }

    /// Makes the handle usable again, on `stream` first. No wait on the host.
    ///
    /// # Errors
    /// [`Error::WrongDevice`], [`Error::DeviceLost`] or [`Error::Device`]; the handle comes back.
    pub fn revive(self, stream: &Stream) -> Result<DevBox<T>, Returned<Self>> {
        match self.block.lend(stream) {
            Ok(()) => Ok(self.into_state(Ready::STATE).1),
            Err(error) => Err(Returned::new(self, error)),
        }
    }
}

impl<T: ?Sized + DeviceData, S: State> DevBox<T, S> {
    fn read_to(&self, to: &mut T) -> Result<(), Error> {
        self.check_elements(to.elements())?;
        let heap = self.heap();
        self.block.order(&heap.transfers)?;
        heap.read_blocking(self.block.address(), to.as_bytes_mut(), &heap.transfers)
    }

    fn check_elements(&self, host_elements: usize) -> Result<(), Error> {
        if self.elements == host_elements {
            return Ok(());
        }
        Err(Error::LengthMismatch { device_elements: self.elements, host_elements })
    }

    fn check_operand(&self, operand: &PageLocked<T>, stream: &Stream) -> Result<(), Error> {
        stream.check(&self.heap().device)?;
        if operand.is_of(self.heap()) { Ok(()) } else { Err(Error::WrongDevice) }
    }
}
