//! Streams of cudarc. Knows no memory.
#![expect(unsafe_code, reason = "vouches for streams that cudarc keeps alive")]

use crate::device::stream::{DeviceRef, Stream};
use crate::device::{RawContext, RawStream};
use crate::error::Error;
use cudarc::driver::{CudaContext, CudaStream};
use std::sync::Arc;

/// `CU_STREAM_LEGACY`, another name of the null stream.
const LEGACY: u64 = 1;
/// `CU_STREAM_PER_THREAD`.
const PER_THREAD: u64 = 2;

impl DeviceRef {
    /// A cudarc stream, for use like one of the device's own. It is kept alive and never destroyed by hapax;
    /// adopted twice, it is the same stream.
    ///
    /// The null stream ([`CudaContext::default_stream`](cudarc::driver::CudaContext::default_stream)) can be adopted: to CUDA it is a
    /// stream that also waits for all blocking streams, and they for it; hapax's own streams are non-blocking, so
    /// they run beside it.
    ///
    /// ```no_run
    /// use hapax::cudarc::driver::CudaContext;
    /// use hapax::{CudaDevice, DeviceRef, Heap, HeapOptions};
    ///
    /// let theirs = CudaContext::new(0)?.new_stream()?;
    /// let device = DeviceRef::new(CudaDevice::open(0)?);
    /// let stream = device.adopt_cuda_stream(&theirs)?;
    /// let heap = Heap::new(&device, HeapOptions::new(1 << 20))?;
    /// let handle = heap.alloc_slice::<f32>(16)?.zero(&stream)?; // in order with cudarc's work on `theirs`
    /// # drop(handle);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::WrongDevice`] if this is no CUDA device, [`Error::WrongContext`] if the stream is not of its primary
    /// context, [`Error::BadOption`] for the per-thread default stream, which is another stream on each thread;
    /// [`Error::DeviceLost`].
    pub fn adopt_cuda_stream(&self, stream: &Arc<CudaStream>) -> Result<Stream, Error> {
        self.check_context(stream.context())?;
        let raw = match stream.cu_stream().expose_provenance() as u64 {
            PER_THREAD => {
                let text =
                    "the per-thread default stream is another stream on each thread; adopt one made with new_stream()";
                return Err(Error::BadOption(text.to_owned()));
            }
            LEGACY => 0,
            raw => raw,
        };
        // SAFETY: the stream is of the device's context and the same for every thread, and the share keeps it alive.
        unsafe { self.adopt_stream(RawStream(raw), stream.clone()) }
    }

    /// Whether cudarc's objects of this context can be used with the device.
    pub(crate) fn check_context(&self, theirs: &CudaContext) -> Result<(), Error> {
        match self.context() {
            None => Err(Error::WrongDevice),
            Some(RawContext(ours)) if ours == theirs.cu_ctx().expose_provenance() as u64 => Ok(()),
            Some(_) => Err(Error::WrongContext),
        }
    }
}
