// expect: E0308
// What an insert evicts is spent by the callback that gets it.
use hapax::{Error, Heap, HeapOptions, HostDevice, VramCache, linear};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let cache: VramCache<u8, u32> = VramCache::new(&heap, 256)?;
    cache.insert(1, heap.alloc::<u32>()?.upload_from(&1)?)?.free_all()?;
    linear::scope(heap.alloc::<u32>()?.upload_from(&2)?, |handle| {
        let inserted = handle
            .insert(&cache, 2, |_, evicted| drop(evicted))
            .map_err(|refused| refused.into_error());
        (inserted.expect("it fits"), ())
    });
    Ok(())
}
