//! Uses hapax's CUDA backend, and memory of a crate that links the driver.

use hapax::{CudaAbsent, CudaDevice, DevBox, Error, Heap, HeapOptions};

/// Whether there is a card, asked without a panic: cudarc's own probe is not there under `dynamic-linking`.
///
/// # Errors
/// What is missing.
pub fn probe() -> Result<usize, CudaAbsent> {
    CudaDevice::list().map(|cards| cards.len())
}

/// The other crate's memory as a handle.
///
/// # Errors
/// What CUDA or hapax refuses.
pub fn take_over() -> Result<DevBox<[f32]>, Box<dyn std::error::Error>> {
    let heap = Heap::new(CudaDevice::open(0)?, HeapOptions::new(1 << 20))?;
    Ok(heap.adopt_cuda_slice(linked::zeros(16)?).map_err(Error::from)?)
}
