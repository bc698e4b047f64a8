// expect: E0277
// A host address means nothing to a device, and what comes back may be no reference.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let _memory = heap.alloc_slice::<u8>(4);
    Ok(())
}
