// expect: E0597
// A lease borrows its cache; `into_owned` gives it a share instead.
use hapax::{Error, Heap, HeapOptions, HostDevice, VramCache};
use std::sync::Arc;

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let lease = {
        let cache: Arc<VramCache<u8, [u8]>> = Arc::new(VramCache::new(&heap, 1 << 16)?);
        cache.insert(1, heap.alloc_slice(4)?.upload_from(b"ret\0")?)?.free_all()?;
        cache.get(&1, &stream)?.expect("resident").into_owned(&cache)?
    };
    assert_eq!(lease.len(), 4);
    Ok(())
}
