// expect: E0308
// A cache holds contents: memory that nothing was written to has none.
use hapax::{Error, Heap, HeapOptions, HostDevice, VramCache};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1 << 16)?;
    let handle = heap.alloc_slice::<u8>(4)?;
    cache.insert(1, handle)?.free_all()?;
    Ok(())
}
