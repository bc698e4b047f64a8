// expect: lint:unused_must_use
// What an insert evicts is the caller's: spill it, insert it again or free it.
use hapax::{Error, Heap, HeapOptions, HostDevice, VramCache};

#[deny(unused_must_use)]
fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1 << 16)?;
    let handle = heap.alloc_slice::<u8>(4)?.upload_from(b"ret\0")?;
    cache.insert(1, handle)?.free_all()?;
    Ok(())
}
