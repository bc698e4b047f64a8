// expect: E0308
// A filler answers with the lease of what it filled, or with an error: it cannot just end.
use hapax::{Error, Heap, HeapOptions, HostDevice, OrRelease, VramCache};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1 << 16)?;
    let filled = cache.get_or_try_insert_with(&1, &stream, |vacancy| {
        vacancy.fill_from(b"ret\0").or_release()
    })?;
    assert_eq!(filled.lease.len(), 4);
    Ok(())
}
