// expect: E0308
// `spend_each` gives every evicted handle to a scope of its own.
use hapax::{Error, Heap, HeapOptions, HostDevice, VramCache};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let cache: VramCache<u8, u32> = VramCache::new(&heap, 256)?;
    cache.insert(1, heap.alloc::<u32>()?.upload_from(&1)?)?.free_all()?;
    cache
        .clear()
        .spend_each(|_, handle| drop(handle));
    Ok(())
}
