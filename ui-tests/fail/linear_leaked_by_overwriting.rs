// expect: E0594
// A scope lends its handle by shared reference alone: nothing can be put in its place.
use hapax::{Error, Heap, HeapOptions, HostDevice, linear};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let spare = heap.alloc_slice::<u8>(4)?;
    linear::scope(heap.alloc_slice::<u8>(4)?, |handle| {
        *handle = spare;
        handle.free()
    })?;
    Ok(())
}
