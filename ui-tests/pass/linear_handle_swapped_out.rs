// expect: E0596
// A scope lends its handle by shared reference alone: it cannot be swapped for another.
use hapax::{Error, Heap, HeapOptions, HostDevice, linear};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let other = &mut heap.alloc_slice::<u8>(4)?;
    linear::scope(heap.alloc_slice::<u8>(4)?, |handle| {
        let _both = (handle.len(), other.len());
        (handle.free().0, ())
    });
    Ok(())
}
