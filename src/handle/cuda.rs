//! Memory that comes from cudarc and goes back there, and views as arguments of its launch builder.
#![expect(unsafe_code, reason = "cudarc's raw pointers, and its trait for launch arguments")]

use crate::device::ForeignAllocator;
use crate::device::stream::DeviceRef;
use crate::error::{Error, Returned};
use crate::handle::DevBox;
use crate::handle::state::Ready;
use crate::handle::view::{View, ViewMut};
use crate::heap::block::Block;
use crate::heap::data::DeviceData;
use crate::heap::outside::Adopted;
use crate::heap::{Heap, HeapInner};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtrMut, LaunchArgs, PushKernelArg};
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;

impl Heap {
    /// Takes over the memory of a `CudaSlice`, without a copy and without a wait on the host. It is outside of the heap's slabs, but
    /// counts against its limit ([`Ledger::adopted_bytes`](crate::Ledger::adopted_bytes)), and is given back by the
    /// allocator it came from, some time after its handle is gone and its streams have passed.
    ///
    /// Work that cudarc put on the slice is ordered before what hapax's streams do with it, if cudarc tracks events, which is its
    /// default; else order it on the slice's own stream first.
    ///
    /// ```no_run
    /// use hapax::cudarc::driver::CudaContext;
    /// use hapax::{CudaDevice, Heap, HeapOptions};
    ///
    /// let stream = CudaContext::new(0)?.default_stream();
    /// let heap = Heap::new(CudaDevice::open(0)?, HeapOptions::new(1 << 20))?;
    /// let handle = heap.adopt_cuda_slice(stream.clone_htod(&[1u32, 2, 3])?)?;
    /// let slice = handle.into_cuda_slice()?; // and back
    /// assert_eq!(stream.clone_dtoh(&slice)?, [1, 2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`adopt_cuda_stream`](crate::DeviceRef::adopt_cuda_stream) for the slice's stream; [`Error::OutOfMemory`] if the limit has
    /// no room; [`Error::StreamCapturing`], [`Error::HeapClosed`], [`Error::DeviceLost`]. The slice comes back.
    #[track_caller]
    pub fn adopt_cuda_slice<T>(&self, slice: CudaSlice<T>) -> Result<DevBox<[T]>, Returned<CudaSlice<T>>>
    where
        [T]: DeviceData,
    {
        let (heap, device) = (self.inner(), self.device());
        let (theirs, elements) = (slice.stream().clone(), slice.len());
        let ready = device.adopt_cuda_stream(&theirs).and_then(|stream| stream.check(device).map(|()| stream));
        let stream = match ready {
            Ok(stream) => stream,
            Err(error) => return Err(Returned::new(slice, error)),
        };
        let charge = self.charge_bytes(slice.num_bytes() as u64);
        if charge == 0 {
            return Ok(DevBox::new(Block::empty(heap), Ready::STATE, elements)); // cudarc frees what it has
        }
        let span = match heap.admit_adopted(charge, Location::caller()) {
            Ok(span) => span,
            Err(error) => return Err(Returned::new(slice, error)),
        };
        let stream_ordered = theirs.context().has_async_alloc();
        let allocator = if stream_ordered { ForeignAllocator::StreamOrdered } else { ForeignAllocator::Plain };
        // Not dropped: cudarc's drop frees without binding a context. `leak` makes the slice's stream wait for its readers and
        // writers elsewhere.
        let address = slice.leak();
        wait_if_failed(theirs.context(), device);
        let block = heap.adopt(span, Adopted { address, allocator, keep_alive: Box::new(theirs) });
        block.note(&stream);
        block.wrote(&stream, None);
        Ok(DevBox::new(block, Ready::STATE, elements))
    }
}

impl<T> DevBox<[T]>
where
    [T]: DeviceData,
{
    /// Gives adopted memory back to cudarc, on the stream that it came with: work of that stream starts after all that
    /// hapax's streams do with the memory. No wait on the host.
    ///
    /// # Errors
    /// [`Error::NotAdopted`] if the memory lies in a slab, whose parts nobody else may free; [`Error::StreamCapturing`],
    /// [`Error::DeviceLost`] or [`Error::Device`]. The handle comes back.
    pub fn into_cuda_slice(mut self) -> Result<CudaSlice<T>, Returned<Self>> {
        let rebuilt = self.rebuild();
        match rebuilt {
            Ok(slice) => {
                let DevBox { block, gate, .. } = self;
                gate.open();
                match HeapInner::disown(block) {
                    Ok(_memory) => Ok(slice),
                    Err(_) => unreachable!("a slice was made of it, so it is adopted"),
                }
            }
            Err(error) => Err(Returned::new(self, error)),
        }
    }

    fn rebuild(&mut self) -> Result<CudaSlice<T>, Error> {
        let heap = self.heap().clone();
        let kept =
            heap.with_adopted(self.block.span(), |memory| memory.keep_alive.downcast_ref::<Arc<CudaStream>>().cloned());
        let theirs = kept.flatten().ok_or(Error::NotAdopted)?;
        let stream = heap.device.adopt_cuda_stream(&theirs)?;
        self.block.lend_mut(&stream)?;
        wait_if_failed(theirs.context(), &heap.device); // an old error would make the next call fail
        // cudarc makes two events here, and panics if the driver refuses them.
        let made = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: the address came from a slice of so many elements and this stream's context, and is owned by the block,
            // which is taken apart without freeing it before anybody sees the slice.
            unsafe { theirs.upgrade_device_ptr::<T>(self.block.address(), self.elements) }
        }));
        let Ok(mut slice) = made else {
            let message = "cudarc could not make the slice's events".to_owned();
            return Err(Error::Device { call: "cuEventCreate", code: 0, message });
        };
        drop(slice.device_ptr_mut(&theirs)); // its drop marks the slice as written up to here on its stream
        wait_if_failed(theirs.context(), &heap.device);
        Ok(slice)
    }
}

/// cudarc keeps errors for a later call. If it could not order its streams, the host waits for all of them.
fn wait_if_failed(theirs: &CudaContext, device: &DeviceRef) {
    const TRIES: usize = 16;
    if theirs.check_err().is_err() && (0..TRIES).all(|_| theirs.synchronize().is_err()) {
        device.declare_lost();
    }
}

/// The builder's stream is private to cudarc, so it is not checked: to launch on the view's stream is a part of what the
/// caller of cudarc's `unsafe launch` promises. [`Launch`](crate::Launch) checks it.
// SAFETY: passes the view's device address, as cudarc does with its own views.
unsafe impl<'a, 'b: 'a, T: ?Sized + DeviceData> PushKernelArg<&'b View<'_, T>> for LaunchArgs<'a> {
    #[inline(always)]
    fn arg(&mut self, view: &'b View<'_, T>) -> &mut Self {
        PushKernelArg::<&'b u64>::arg(self, view.address())
    }
}

/// As for a shared view.
// SAFETY: as above.
unsafe impl<'a, 'b: 'a, T: ?Sized + DeviceData> PushKernelArg<&'b mut ViewMut<'_, T>> for LaunchArgs<'a> {
    #[inline(always)]
    fn arg(&mut self, view: &'b mut ViewMut<'_, T>) -> &mut Self {
        PushKernelArg::<&'b u64>::arg(self, view.address())
    }
}
