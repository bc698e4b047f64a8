// expect: E0080
// What an assignment overwrites is dropped.
use hapax::{Error, Heap, HeapOptions, HostDevice, VramCache};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1 << 16)?;
    let code = heap.alloc_slice::<u8>(4)?;
    let spare = match heap.alloc_slice::<u8>(8) {
        Ok(spare) => spare,
        Err(error) => return code.free().and(Err(error)),
    };
    let mut kept = code;
    let freed = { kept = spare; Ok::<(), Error>(()) };
    kept.free()?;
    freed?;
    cache.into_handles().free_all()?;
    Ok(())
}
