// expect: E0308
// A cache holds contents: a copy under way must be over, or ordered by `ready_on`.
use hapax::{Error, Heap, HeapOptions, HostDevice, VramCache};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1 << 16)?;
    let staging = heap.page_locked_slice::<u8>(4)?;
    let flying = heap.alloc_slice::<u8>(4)?.upload(staging, &stream)?;
    cache.insert(1, flying.ready_on(&stream)?)?.free_all()?;
    Ok(())
}
