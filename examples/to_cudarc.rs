//! Adopted memory goes back to cudarc, behind all that hapax's streams do with it. A part of a slab cannot.

use hapax::cudarc::driver::CudaContext;
use hapax::{CudaDevice, DeviceRef, Heap, HeapOptions};

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = match CudaDevice::open(0) {
        Ok(card) => DeviceRef::new(card),
        Err(absent) => {
            println!("nothing to do: {absent}");
            return Ok(());
        }
    };
    let theirs = CudaContext::new(0)?.new_stream()?;
    let heap = Heap::new(&device, HeapOptions::new(1 << 20))?;
    let handle = heap.adopt_cuda_slice(theirs.alloc_zeros::<f32>(1000)?)?;

    let mut sum = 0.0;
    let mut contents = vec![1.0; 1000];
    handle.download_to(&mut contents)?;
    contents.iter().for_each(|number| sum += number);
    println!("hapax reads a sum of {sum}");

    let slice = handle.into_cuda_slice()?; // no copy, no wait
    theirs.memcpy_dtoh(&slice, &mut contents)?;
    theirs.synchronize()?; // cudarc does not wait for copies to a Vec
    println!("cudarc reads {} numbers again", contents.len());

    let ours = heap.alloc_slice(4)?.upload_from(&[1.0f32; 4])?;
    let refused = ours.into_cuda_slice().unwrap_err(); // its neighbours would be freed with it
    println!("refused: {}", refused.error);
    refused.handle.free()?;
    drop((slice, theirs));
    heap.close()?;
    device.close()?;
    Ok(())
}
