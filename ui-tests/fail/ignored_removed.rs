// expect: lint:unused_must_use
// What `remove` takes out is the caller's.
use hapax::{Error, Heap, HeapOptions, HostDevice, VramCache};

#[deny(unused_must_use)]
fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1 << 16)?;
    cache.remove(&1);
    Ok(())
}
