//! Memory that cudarc allocated becomes a handle: counted, cached, leased and freed like hapax's own.

use hapax::cudarc::driver::CudaContext;
use hapax::{CudaDevice, DeviceRef, Heap, HeapOptions, Returned, VramCache};

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = match CudaDevice::open(0) {
        Ok(card) => DeviceRef::new(card),
        Err(absent) => {
            println!("nothing to do: {absent}");
            return Ok(());
        }
    };
    let numbers: Vec<u32> = (0..1000).collect();
    let slice = CudaContext::new(0)?.new_stream()?.clone_htod(&numbers)?; // may still be on its way

    let heap = Heap::new(&device, HeapOptions::new(1 << 20))?;
    let cache: VramCache<&str, [u32]> = VramCache::new(&heap, 1 << 16)?;
    let handle = heap.adopt_cuda_slice(slice)?; // no copy, no wait
    println!("{} bytes adopted, {} in slabs", heap.ledger().adopted_bytes, heap.ledger().slab_bytes);

    match cache.insert("numbers", handle) {
        Ok(evicted) => evicted.free_all()?,
        Err(Returned { handle: (_, handle), error }) => handle.free().and(Err(*error))?, // refused: still ours
    };
    let stream = heap.new_stream()?;
    let lease = cache.get("numbers", &stream)?.expect("inserted above");
    assert_eq!(lease.to_vec()?, numbers); // ordered behind cudarc's copy
    drop(lease);

    cache.into_handles().free_all()?; // freed by the allocator that it came from
    heap.close()?;
    drop(stream);
    device.close()?;
    println!("every byte is back");
    Ok(())
}
