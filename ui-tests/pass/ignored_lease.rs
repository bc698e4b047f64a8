// expect: lint:unused_must_use
// A lease that is dropped at once protects nothing.
use hapax::{Error, Heap, HeapOptions, HostDevice, VramCache};

#[deny(unused_must_use)]
fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1 << 16)?;
    cache.insert(1, heap.alloc_slice(4)?.upload_from(b"ret\0")?)?.free_all()?;
    assert_eq!(cache.get(&1, &stream)?.expect("resident").len(), 4);
    Ok(())
}
