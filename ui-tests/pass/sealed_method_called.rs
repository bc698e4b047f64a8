// expect: E0624
// How a resident is stored is the crate's own business: taken apart by anybody else, its memory would leak.
use hapax::{Error, Heap, HeapOptions, HostDevice, Resident};

fn take_apart<V: Resident>(value: V) {
    drop(value);
}

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    take_apart(heap.alloc::<u8>()?.upload_from(&1)?);
    Ok(())
}
