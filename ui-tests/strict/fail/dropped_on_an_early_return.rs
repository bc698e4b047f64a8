// expect: E0080
// The handle is dropped on the way out of the error.
use hapax::{Error, Heap, HeapOptions, HostDevice, VramCache};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1 << 16)?;
    let code = heap.alloc_slice::<u8>(4)?;
    if code.is_empty() {
        return Err(Error::HeapClosed);
    }
    code.free()?;
    cache.into_handles().free_all()?;
    Ok(())
}
