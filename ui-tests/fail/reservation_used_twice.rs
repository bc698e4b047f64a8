// expect: E0382
// A reservation pays for one value.
use hapax::{Error, Heap, HeapOptions, HostDevice, Lookup, VramCache};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let stream = heap.new_stream()?;
    let cache: VramCache<u8, [u8]> = VramCache::new(&heap, 1 << 16)?;
    let handle = heap.alloc_slice::<u8>(4)?.upload_from(b"ret\0")?;
    let other = heap.alloc_slice::<u8>(4)?.upload_from(b"nop\0")?;
    let Lookup::Miss(vacancy) = cache.lookup(&1, &stream)? else { unreachable!("the cache is empty") };
    let (reservation, evicted) = vacancy.reserve(4)?;
    evicted.free_all()?;
    let lease = reservation.commit(handle)?;
    drop(reservation.commit(other)?);
    drop(lease);
    Ok(())
}
