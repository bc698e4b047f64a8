// expect: E0599
// A lease keeps its entry from eviction: the cache still owns it.
use hapax::{Error, Heap, HeapOptions, HostDevice, VramCache};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1 << 16)?;
    cache.insert(1, heap.alloc_slice(4)?.upload_from(b"ret\0")?)?.free_all()?;
    let lease = cache.get(&1, &stream)?.expect("resident");
    drop(lease);
    Ok(())
}
