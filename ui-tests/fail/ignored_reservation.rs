// expect: lint:unused_must_use
// A reservation holds bytes of the budget, and what it evicted is the caller's.
use hapax::{Error, Heap, HeapOptions, HostDevice, Lookup, VramCache};

#[deny(unused_must_use)]
fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1 << 16)?;
    let Lookup::Miss(vacancy) = cache.lookup(&1, &stream)? else { unreachable!("the cache is empty") };
    vacancy.reserve(4)?;
    Ok(())
}
