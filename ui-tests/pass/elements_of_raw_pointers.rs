// expect: E0277
// A host address means nothing to a device, and a raw pointer is not Send.
use hapax::{Error, Heap, HeapOptions, HostDevice};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let _memory = heap.alloc_slice::<u8>(4);
    Ok(())
}
