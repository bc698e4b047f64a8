// expect: E0599
// What a cache handed back may still be in use on streams: only a ready handle leaves Rust.
use hapax::{Error, Heap, HeapOptions, HostDevice, Removed, VramCache};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1 << 16)?;
    cache.insert(1, heap.alloc_slice(4)?.upload_from(b"ret\0")?)?.free_all()?;
    let Removed::Taken(_, evicted) = cache.remove(&1) else { unreachable!("resident and not leased") };
    let exported = evicted.export();
    // SAFETY: nobody was given the address.
    unsafe { exported.reclaim() }.free()?;
    Ok(())
}
