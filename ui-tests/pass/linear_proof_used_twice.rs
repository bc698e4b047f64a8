// expect: E0382
// A proof cannot be kept for a second handle.
use hapax::{Error, Heap, HeapOptions, HostDevice, linear};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    linear::scope(heap.alloc_slice::<u8>(4)?, |handle| {
        let spent = handle.free().0;
        (spent, ())
    });
    Ok(())
}
