//! Adopted memory goes back to cudarc, behind all that hapax's streams do with it. A part of a slab cannot.

use hapax::cudarc::driver::CudaContext;
use hapax::{CudaDevice, DeviceRef, Heap, HeapOptions, Returned};

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Ok(card) = CudaDevice::open(0).inspect_err(|absent| println!("nothing to do: {absent}")) else {
        return Ok(());
    };
    let device = DeviceRef::new(card);
    let theirs = CudaContext::new(0)?.new_stream()?;
    let heap = Heap::new(&device, HeapOptions::new(1 << 20))?;
    let handle = heap.adopt_cuda_slice(theirs.alloc_zeros::<f32>(1000)?)?;

    let mut contents = vec![1.0; 1000];
    let read = handle.download_to(&mut contents); // no `?` while a handle is held: it would be dropped
    let slice = match handle.into_cuda_slice() {
        Ok(slice) => slice, // no copy, no wait
        Err(Returned { handle, error }) => handle.free().and(Err(*error))?,
    };
    read?;
    println!("hapax reads a sum of {}", contents.iter().sum::<f32>());

    theirs.memcpy_dtoh(&slice, &mut contents)?;
    theirs.synchronize()?; // cudarc does not wait for copies to a Vec
    println!("cudarc reads {} numbers again", contents.len());

    match heap.alloc_slice(4)?.upload_from(&[1.0f32; 4]) {
        Ok(ours) => match ours.into_cuda_slice() {
            Ok(_slice) => unreachable!("its neighbours would be freed with it"),
            Err(Returned { handle, error }) => handle.free().map(|_| println!("refused: {error}"))?,
        },
        Err(Returned { handle, error }) => handle.free().and(Err(*error))?,
    }
    drop((slice, theirs));
    heap.close()?;
    device.close()?;
    Ok(())
}
