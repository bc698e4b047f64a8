// expect: E0277
// Each part of a bundle must be something that a cache can charge, lease and free.
use hapax::{Cache, DevBox, Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let _units: Cache<u8, (DevBox<[u8]>, DevBox<[u32]>)> = Cache::new(&heap, 1 << 16)?;
    Ok(())
}
