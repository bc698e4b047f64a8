// expect: E0382
// A vacancy is the right to fill one miss, once.
use hapax::{Error, Heap, HeapOptions, HostDevice, Lookup, VramCache};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1 << 16)?;
    let Lookup::Miss(vacancy) = cache.lookup(&1, &stream)? else { unreachable!("the cache is empty") };
    let filled = vacancy.fill_from(b"ret\0")?;
    drop(vacancy.fill_from(b"nop\0")?);
    drop(filled);
    Ok(())
}
