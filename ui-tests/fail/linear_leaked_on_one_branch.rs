// expect: E0308
// Every branch spends the handle, not only the usual one.
use hapax::{Error, Heap, HeapOptions, HostDevice, linear};

fn main() -> Result<(), Error> {
    let heap = Heap::new(HostDevice::new(), HeapOptions::new(1 << 20))?;
    let compiled = linear::scope(heap.alloc_slice::<u8>(4)?, |handle| {
        if handle.len() > 1000 {
            return ((), false);
        }
        (handle.free().0, true)
    });
    assert!(compiled);
    Ok(())
}
