// expect: E0080
// A handle that goes out of scope is dropped.
use hapax::{Error, Heap, HeapOptions, HostDevice, VramCache};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1 << 16)?;
    let code = heap.alloc_slice::<u8>(4)?;
    println!("{} bytes", code.bytes());
    cache.into_handles().free_all()?;
    Ok(())
}
