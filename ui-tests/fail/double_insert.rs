// expect: E0382
// The cache owns what was inserted: it cannot go in a second time.
use hapax::{Error, Heap, HeapOptions, HostDevice, VramCache};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1 << 16)?;
    let handle = heap.alloc_slice::<u8>(4)?.upload_from(b"ret\0")?;
    cache.insert(1, handle)?.free_all()?;
    cache.insert(2, handle)?.free_all()?;
    Ok(())
}
