// expect: E0080
// An evicted handle is a handle.
use hapax::{Error, Heap, HeapOptions, HostDevice, VramCache};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1 << 16)?;
    let code = heap.alloc_slice::<u8>(4)?;
    code.free()?;
    for (_, evicted) in cache.clear() {
        evicted.free()?;
    }
    cache.into_handles().free_all()?;
    Ok(())
}
