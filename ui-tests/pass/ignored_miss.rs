// expect: lint:unused_must_use
// A miss holds the key's vacancy: dropped unfilled, it sends the next caller to compile.
use hapax::{Error, Heap, HeapOptions, HostDevice, VramCache};

#[deny(unused_must_use)]
fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1 << 16)?;
    drop(cache.lookup(&1, &stream)?);
    Ok(())
}
